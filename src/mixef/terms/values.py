"""Values of expressions, and what a function may ask of its arguments."""

from __future__ import annotations

import datetime
from collections.abc import Sequence
from dataclasses import dataclass, replace
from math import isfinite
from typing import Any, TypeGuard

import numpy as np
import pandas as pd

from mixef.errors import DataWarning, FormulaError, warn
from mixef.terms.exact import EXACT, Exact
from mixef.terms.factor import Factor, factor_from_logical, factor_from_numbers
from mixef.terms.nodes import number_text

TIMES = datetime.date | datetime.timedelta | np.datetime64 | np.timedelta64 | pd.Period
#: Unions that are asked for often: to make one takes longer than to ask.
NUMBER = bool | int | float | np.number | np.bool_
#: Longest vector that is written out in a formula, as by ``1:100000``.
LONGEST = 100_000


@dataclass(frozen=True, eq=False)
class Matrix:
    """A matrix-valued variable: `array` (n, k) and the suffixes of its column names."""

    array: np.ndarray
    suffixes: tuple[str, ...]

    def __len__(self) -> int:
        return len(self.array)

    def take(self, rows: np.ndarray | slice) -> Matrix:
        """Return the matrix at some rows."""
        return replace(self, array=self.array[rows])


COLUMN = np.ndarray | Factor | Matrix | Exact


def taken(value: Any, rows: np.ndarray | slice) -> Any:
    """Return a variable at some rows."""
    return value[rows] if isinstance(value, np.ndarray) else value.take(rows)


def numbered(values: np.ndarray) -> Matrix:
    """Return a matrix (n, k) whose columns are numbered from 1."""
    return Matrix(values, tuple(map(str, range(1, values.shape[1] + 1))))


def shown(x: Any) -> str:
    """Describe a value for a message."""
    if isinstance(x, Factor):
        return f"a factor (levels {', '.join(x.levels[:5])})"
    if isinstance(x, Matrix):
        return f"a matrix with {x.array.shape[1]} columns"
    if isinstance(x, np.ndarray | Exact):
        return "a variable with a value in every row"
    if isinstance(x, list):
        start = ", ".join(map(shown, x[:3]))
        return f"c({start}{', ...' if len(x) > 3 else ''})"
    if isinstance(x, bool | np.bool_):
        return "TRUE" if x else "FALSE"
    if is_number(x):
        return text_of(x)
    return "NULL" if x is None else repr(x)


def as_number(x: Any, what: object) -> Any:
    """Return a value for arithmetic: floats, with logicals as 0/1.

    Raises
    ------
    FormulaError
        For a factor, a string or anything else that is no number, naming what asked; that is
        any object, which is written out only then.
    """
    if isinstance(x, Exact):
        return x.as_float()
    if isinstance(x, Factor):
        if x.kind == "logical":
            return x.as_float()
        raise FormulaError(f"{what} is not meaningful for {shown(x)}; expected a numeric variable")
    if isinstance(x, Matrix):
        return x.array
    if isinstance(x, np.ndarray) and x.dtype == np.float64:
        return x
    try:
        if isinstance(x, np.ndarray | list):
            return np.asarray(x, dtype=np.float64)
        if isinstance(x, NUMBER):
            return float(x)
    except (TypeError, ValueError, OverflowError):
        pass
    raise FormulaError(f"{what} needs a number, but got {shown(x)}")


def as_factor(x: Any) -> Factor:
    """Return any variable as a factor with R's levels."""
    if isinstance(x, Factor):
        return x
    if isinstance(x, Exact):
        return x.factor()
    if isinstance(x, np.ndarray) and x.ndim == 1:
        if x.dtype.kind == "b":
            return factor_from_logical(x)
        factor = factor_from_numbers(x)
        _warn_of_rounded_labels(factor.level_set.values)
        return factor
    raise FormulaError(f"cannot make a factor of {shown(x)}; expected one variable")


def _warn_of_rounded_labels(values: np.ndarray) -> None:
    """Warn of levels that were whole numbers, and of which floats have not kept every digit."""
    long = values[(np.abs(values) > EXACT) & np.isfinite(values)]
    if len(long):
        warn(
            f"levels of a factor are floating-point numbers beyond 2^53, such as {int(long[0])}: "
            "as ids they have lost their last digits, and may stand for several; read such a "
            "column as whole numbers (Int64 where some are missing) or as text",
            DataWarning,
        )


def text_of(x: Any) -> str:
    """Return a constant as R's as.character gives it."""
    if isinstance(x, bool | np.bool_):
        return "TRUE" if x else "FALSE"
    if isinstance(x, int):
        return str(x)
    return number_text(float(x)) if isinstance(x, float | np.number) else str(x)


def is_column(x: Any) -> TypeGuard[np.ndarray | Factor | Matrix | Exact]:
    """Whether a value has one value a row."""
    return isinstance(x, COLUMN)


def is_number(x: Any) -> bool:
    """Whether a value is one number or truth value."""
    return isinstance(x, NUMBER)


def is_constant(x: Any) -> bool:
    """Whether a value is one number, truth value, string or time."""
    return is_number(x) or isinstance(x, str | TIMES)


def missing_rows(value: Any) -> np.ndarray | None:
    """Return where a variable is missing, as booleans (n,); None for nowhere."""
    if isinstance(value, Factor):
        missing = value.codes < 0
        return missing if missing.any() else None
    if isinstance(value, Exact):
        absent = value.absent
        return absent if isinstance(absent, np.ndarray) and absent.any() else None
    array = value.array if isinstance(value, Matrix) else value
    if array.dtype.kind != "f" or finite_sum(array):
        return None
    missing = np.isnan(array)
    missing = missing.any(axis=1) if missing.ndim == 2 else missing
    return missing if missing.any() else None


def finite_sum(array: np.ndarray) -> bool:
    """Tell in one pass that nothing is missing or infinite; squares that overflow tell nothing."""
    return isfinite(np.vdot(array, array))


# Arguments of functions: `what` is the function and its argument, as in "poly(): degree".


def whole(x: Any, what: str, low: int, high: int) -> int:
    """Return an argument that is one whole number from `low` to `high`."""
    number = isinstance(x, int | float | np.number) and not isinstance(x, bool)
    if number and low <= x <= high and x % 1 == 0:
        return int(x)
    raise FormulaError(f"{what} is {shown(x)}; expected a whole number from {low} to {high}")


def finite(x: Any, what: str) -> float:
    """Return an argument that is one finite number."""
    number = isinstance(x, int | float | np.number) and not isinstance(x, bool)
    if number and np.isfinite(x):
        return float(x)
    raise FormulaError(f"{what} is {shown(x)}; expected a number")


def flag(x: Any, what: str) -> bool:
    """Return an argument that is TRUE or FALSE."""
    if isinstance(x, bool | np.bool_):
        return bool(x)
    raise FormulaError(f"{what} is {shown(x)}; expected TRUE or FALSE")


def vector(x: Any, what: str) -> np.ndarray:
    """Return an argument that is a numeric variable, as floats (n,)."""
    number = as_number(x, what)
    if isinstance(number, np.ndarray) and number.ndim == 1 and not isinstance(x, list):
        return number
    raise FormulaError(f"{what} is {shown(x)}; expected one numeric variable")


def constants(x: Any, what: object) -> list[Any]:
    """Return an argument that is a constant, or several by ``c(...)``, as a list."""
    items = x if isinstance(x, list) else [x]
    if all(map(is_constant, items)):
        return items
    raise FormulaError(f"{what} is {shown(x)}; expected constants, as in c(1, 2)")


def numbers_in(x: Any, what: str) -> np.ndarray:
    """Return an argument that is one or several constant numbers, NaN not among them (k,)."""
    out = np.atleast_1d(as_number(constants(x, what), what))
    if np.isnan(out).any():
        raise FormulaError(f"{what} is {shown(x)}; expected numbers, none of them missing")
    return out


def labels_in(x: Any, what: str) -> tuple[str, ...]:
    """Return an argument that is one or several constants, as text."""
    return tuple(map(text_of, constants(x, what)))


def paired(values: Sequence[Any], what: object, text: object) -> list[Any]:
    """Return values for arithmetic row by row: a vector beside a matrix goes to all its columns.

    Raises
    ------
    FormulaError
        If they are no numbers, or their lengths differ.
    """
    out = [as_number(v[0] if isinstance(v, list) and len(v) == 1 else v, what) for v in values]
    arrays = [v for v in out if isinstance(v, np.ndarray)]
    if len({len(v) for v in arrays}) > 1:
        lengths = " and ".join(str(len(v)) for v in arrays)
        raise FormulaError(f"in {text}: the lengths {lengths} differ; expected one value a row")
    if len({v.ndim for v in arrays}) > 1:
        out = [v[:, None] if isinstance(v, np.ndarray) and v.ndim == 1 else v for v in out]
        arrays = [v for v in out if isinstance(v, np.ndarray)]
    if len({v.shape[1:] for v in arrays} - {(1,)}) > 1:
        raise FormulaError(f"in {text}: the matrices have different numbers of columns")
    return out
