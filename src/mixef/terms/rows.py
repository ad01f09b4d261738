"""Which rows of the data a model uses, and arguments that give one value a row."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import pandas as pd

from mixef.checks import ndim, number, refusal, shown
from mixef.errors import DataError, DataWarning, warn
from mixef.terms.columns import Columns, in_rows
from mixef.terms.convert import convert
from mixef.terms.expressions import Scope, Variable
from mixef.terms.factor import Factor
from mixef.terms.nodes import Node
from mixef.terms.parser import parse_argument
from mixef.terms.sources import is_of_narwhals, nw, series_of
from mixef.terms.values import Matrix, finite_sum, missing_rows


def per_row(value: Any, what: str, scope: Scope) -> np.ndarray:
    """Return an argument that is a column, an expression or one value a row as numbers (n,)."""
    if isinstance(value, str):
        node = parse_argument(value, scope.columns, what)
        return numbers(scope.variable(node), f"{what} = {value!r}")
    if isinstance(value, int | float | np.number) and not isinstance(value, bool):
        return np.full(scope.n, number(value, what))
    return numbers(aligned(value, what, scope.columns), what)


def aligned(value: Any, what: str, columns: Columns) -> Variable:
    """Return values for the rows of the data, a Series by its labels."""
    value = in_rows(value, what, columns.labels, columns.n)
    if ndim(value) != 1:
        raise DataError(
            f"{what} is {shown(value)}; expected one value a row of the data ({columns.n},), or "
            "the name of a column"
        )
    converted = convert(value, what)
    if len(converted) != columns.n:
        raise DataError(
            f"{what} has {len(converted)} values, but the data have {columns.n} rows; "
            "give one value a row of the data, or the name of a column"
        )
    return converted


def numbers(value: Variable, what: str) -> np.ndarray:
    """Return a numeric or logical variable as floats (n,)."""
    if isinstance(value, Factor) and value.kind == "logical":
        return value.as_float()
    if isinstance(value, Factor):
        raise DataError(f"{what} must be numeric, but it is a {value.kind}")
    if isinstance(value, Matrix):
        if value.array.shape[1] != 1:
            raise DataError(f"{what} must be one column, but it is a matrix")
        value = value.array[:, 0]
    return value.astype(np.float64, copy=False)


def considered_rows(subset: Any, scope: Scope) -> np.ndarray | None:
    """Return the positions that `subset` chooses, ascending; None for all."""
    if subset is None:
        return None
    value = series_of(subset)
    if isinstance(value, str):
        value = scope.variable(parse_argument(value, scope.columns, "subset"))
    elif is_of_narwhals(value):
        value = convert(value, "subset") if value.dtype == nw.Boolean else value.to_numpy()
    elif isinstance(value, pd.api.extensions.ExtensionArray):
        value = convert(value, "subset") if value.dtype.kind == "b" else value.to_numpy()
    if isinstance(value, pd.Series):
        value = aligned(value, "subset", scope.columns)
        if not (_is_condition(value) or getattr(value, "kind", None) == "logical"):
            raise refusal(
                "subset",
                subset,
                "booleans: a Series goes by its labels; for positions give an array, .to_numpy()",
            )
    labels = scope.columns.labels
    if isinstance(value, pd.Index) and value.dtype.kind != "b" and labels is not None:
        return _rows_of_labels(value, labels)
    if isinstance(value, Factor) and value.kind == "logical":
        return np.flatnonzero(value.codes == 1)
    expected = f"a condition, {scope.n} booleans, or row positions from 0"
    if isinstance(subset, str) and not _is_condition(value):
        raise DataError(f"subset is {subset!r}, which is no condition; expected one, as in 'x > 0'")
    several = isinstance(value, np.ndarray | pd.Series | pd.Index | list | tuple | range)
    if not several or ndim(value) != 1:
        raise refusal("subset", value, expected)
    array = np.asarray(value, dtype=object if len(value) == 0 else None)
    if array.dtype.kind == "b" and len(array) == scope.n:
        return np.flatnonzero(array)
    if array.dtype.kind not in "iu":
        raise refusal("subset", value, expected)
    if array.min() < 0 or array.max() >= scope.n:
        worst = array.min() if array.min() < 0 else array.max()
        raise DataError(
            f"subset has the position {worst}, outside of the {scope.n} rows of the data, which "
            "are counted from 0; to leave rows out, give a condition or booleans"
        )
    return np.unique(array).astype(np.intp)


def _rows_of_labels(chosen: pd.Index, labels: pd.Index) -> np.ndarray:
    """Return the rows that have some labels, ascending."""
    if not labels.is_unique:
        raise DataError(
            "subset is an Index, whose labels choose rows, but some labels of the rows occur more "
            "than once; give a condition, or positions as an array"
        )
    rows = labels.get_indexer(chosen)
    if (rows < 0).any():
        unknown = chosen[rows < 0][:1].tolist()[0]
        raise DataError(
            f"subset has the label {unknown!r}, which no row has; give positions as an array, "
            ".to_numpy(), if that is what it holds"
        )
    return np.unique(rows)


def _is_condition(value: Variable) -> bool:
    return isinstance(value, np.ndarray) and value.dtype.kind == "b" and value.ndim == 1


@dataclass(frozen=True)
class LeftOut:
    """Rows of the data that a model does not use, and why."""

    n: int  # rows of the data
    by_subset: int = 0  # rows that `subset` did not choose
    missing: int = 0  # rows of the others with a missing value
    #: Such rows by variable; a row may miss several.
    by_variable: Mapping[str, int] = field(default_factory=dict)
    weightless: int = 0  # rows of weight zero

    @property
    def total(self) -> int:
        """Rows that are left out."""
        return self.by_subset + self.missing + self.weightless

    def __add__(self, other: LeftOut) -> LeftOut:
        names = dict.fromkeys([*self.by_variable, *other.by_variable])
        counts = {
            name: self.by_variable.get(name, 0) + other.by_variable.get(name, 0) for name in names
        }
        return LeftOut(
            self.n + other.n,
            self.by_subset + other.by_subset,
            self.missing + other.missing,
            {name: count for name, count in counts.items() if count},
            self.weightless + other.weightless,
        )

    def __str__(self) -> str:
        if not self.total:
            return ""
        variables = ", ".join(f"{name} {count}" for name, count in self.by_variable.items())
        reasons = [
            (self.by_subset, "by subset"),
            (self.missing, f"with missing values ({variables})"),
            (self.weightless, "of weight zero"),
        ]
        said = ", ".join(f"{count} {why}" for count, why in reasons if count)
        return f"{self.total} of {self.n} rows left out: {said}"


NOTHING_LEFT_OUT = LeftOut(0)


def left_out(
    n: int,
    considered: np.ndarray | None,
    absent: Mapping[str, np.ndarray],
    complete: np.ndarray | None,
    rows: np.ndarray | None,
) -> LeftOut:
    """Count the rows that are left out.

    Parameters
    ----------
    absent : mapping of str to ndarray of bool (n,)
        Where each variable is missing, for those that are somewhere.
    considered, complete, rows : ndarray of int, or None
        Positions that `subset` chose, those without missing values, and those of them that have
        a weight; None for all.
    """
    sizes = [n, *[n if p is None else len(p) for p in (considered, complete, rows)]]
    wanted = slice(None) if considered is None else considered
    counts = {name: int(m[wanted].sum()) for name, m in absent.items()}
    by_variable = {name: count for name, count in counts.items() if count}
    return LeftOut(n, sizes[0] - sizes[1], sizes[1] - sizes[2], by_variable, sizes[2] - sizes[3])


def absent_values(judged: Mapping[str, Any]) -> dict[str, np.ndarray]:
    """Return where each variable is missing (n,), for those that are somewhere."""
    return {name: m for name, v in judged.items() if (m := missing_rows(v)) is not None}


def kept_rows(
    absent: Mapping[str, np.ndarray], considered: np.ndarray | None, n: int, na_action: str
) -> np.ndarray | None:
    """Return the positions of complete rows; None for all."""
    wanted = slice(None) if considered is None else considered
    if na_action == "fail":
        counts = {name: int(m[wanted].sum()) for name, m in absent.items() if m[wanted].any()}
        if counts:
            listed = ", ".join(f"{name} ({count} rows)" for name, count in counts.items())
            raise DataError(f"missing values, and na_action is 'fail': {listed}")
    n_wanted = n if considered is None else len(considered)
    if not absent:
        rows = considered
    else:
        missing = np.logical_or.reduce(list(absent.values()))
        complete = np.flatnonzero(~missing)
        rows = complete if considered is None else considered[~missing[considered]]
    if n_wanted == 0 or (rows is not None and len(rows) == 0):
        empty = [name for name, m in absent.items() if n_wanted and m[wanted].all()]
        raise DataError(nothing_left(n, n_wanted, empty))
    return rows


def nothing_left(n: int, n_wanted: int, empty: Iterable[str]) -> str:
    """Say why no row is left, given the variables that are missing in every row."""
    listed = ", ".join(empty)
    reason = f"{listed} is missing in every row" if listed else "every row misses some variable"
    if n == 0:
        reason = "the data have no rows"
    elif n_wanted == 0:
        reason = "subset chooses no row"
    return f"0 (non-NA) cases: {reason}"


def without_zero_weights(
    weights: np.ndarray | None, rows: np.ndarray | None, n: int
) -> np.ndarray | None:
    """Return the kept positions without rows of weight zero, of which it warns; None for all."""
    if weights is None:
        return rows
    used = weights if rows is None else weights[rows]
    least = used.min()
    if least < 0:
        raise DataError(
            f"weights must not be negative, but {int((used < 0).sum())} are "
            f"(the smallest is {least:g})"
        )
    if used.max() == np.inf:
        raise DataError("weights must be finite, but some are infinite")
    if least > 0:
        return rows
    zero = used == 0
    if zero.all():
        raise DataError("all weights are zero; nothing is left to fit")
    warn(
        f"{int(zero.sum())} of {len(used)} rows have weight zero and are dropped: they would tell "
        "the model nothing",
        DataWarning,
    )
    kept: np.ndarray = (np.arange(n) if rows is None else rows)[~zero]
    return kept


def refuse_infinite(variables: Mapping[str, Variable], response: Node | None) -> None:
    """Raise a DataError that names a variable with infinite values."""
    for name, value in variables.items():
        array = value.array if isinstance(value, Matrix) else value
        if isinstance(array, Factor) or array.dtype.kind != "f" or finite_sum(array):
            continue
        count = int(np.isinf(array).sum())
        if count:
            raise infinite_values(name, count, len(array), response)


def infinite_values(name: str, count: int, n: int, response: Node | None) -> DataError:
    """Return the error for a variable that is infinite in some of n rows."""
    role = "NA/NaN/Inf in 'y': the response" if _is(response, name) else "the variable"
    return DataError(
        f"{role} {name} is infinite in {count} of {n} rows; "
        "drop those rows or transform it otherwise"
    )


def _is(node: Node | None, text: str) -> bool:
    return node is not None and node.text == text
