"""Values that go with the rows of a fit: a variable by name, or one value a row."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd

from mixef import checks
from mixef.errors import DataError
from mixef.estimation.fit import Fit
from mixef.terms.columns import Columns, in_rows
from mixef.terms.convert import Column, read
from mixef.terms.exact import Exact
from mixef.terms.factor import Factor
from mixef.terms.values import Matrix, as_factor, missing_rows


@dataclass(frozen=True, eq=False)
class Rows:
    """The rows that residuals are of: those of a fit, or groups of them."""

    index: pd.Index  # labels of the rows
    fit: Fit | None  # None for groups of rows, which have no variables

    def __repr__(self) -> str:
        return f"<Rows: {len(self.index)}>"

    def column(self, value: Any, what: str) -> Column:
        """Return a variable of the model or its data by name, or one value a row.

        Raises
        ------
        DataError
            For a name that is none, another number of values, or missing ones.
        """
        expected = f"one value for each of the {len(self.index)} residuals"
        if isinstance(value, str):
            if self.fit is None:
                raise DataError(
                    f"{what} is {value!r}, but these residuals are of groups of rows, which have "
                    f"no variables; give {expected}"
                )
            column = _named(self.fit, value)
        else:
            if checks.ndim(value) != 1:
                raise checks.refusal(what, value, f"the name of a variable, or {expected}")
            column = read(self._own(value, what, expected), what)
        if isinstance(column, Matrix):
            raise DataError(f"{what} is {value!r}, a matrix; expected one column")
        absent = missing_rows(column)
        if absent is not None and absent.any():
            raise DataError(
                f"{what} is missing in {int(absent.sum())} of {len(self.index)} rows; give a value "
                "for each, or fit without these rows"
            )
        return column

    def _own(self, value: Any, what: str, expected: str) -> Any:
        """Return the values of the rows, those of rows that were left out taken away."""
        n, frame = len(self.index), None if self.fit is None else self.fit.frame
        if isinstance(value, pd.Series) and frame is None:
            value = in_rows(value, what, self.index, n)
        elif frame is not None:
            value = frame.used(value, what)
            if len(value) != n and len(value) == frame.n_input:
                value = np.asarray(value)[frame.rows]
        if len(value) != n:
            raise DataError(f"{what} has {len(value)} values; expected {expected}")
        return value

    def factor(self, value: Any, what: str) -> Factor:
        """Return groups of the rows, by the levels that occur."""
        column = self.column(value, what)
        return as_factor(column).used_levels()

    def numbers(self, value: Any, what: str) -> np.ndarray:
        """Return numbers (n,)."""
        column = self.column(value, what)
        if isinstance(column, Factor) and column.kind != "logical":
            raise DataError(
                f"{what} is a {column.kind} with levels {', '.join(column.levels[:3])}, ...; "
                "expected numbers: for groups there is test_groups"
            )
        values = column.as_float() if isinstance(column, Factor | Exact) else column
        out: np.ndarray = np.asarray(values, dtype=float)
        if not np.isfinite(out).all():
            raise DataError(f"{what} is infinite in some rows; expected finite numbers")
        return out

    def order(self, value: Any, what: str) -> np.ndarray:
        """Return numbers (n,) in the order of times: of numbers, dates or levels of a factor."""
        column = self.column(value, what)
        if isinstance(column, Factor) and column.kind == "character":
            raise DataError(
                f"{what} is text, such as {column.levels[0]!r}, which has no order in time; "
                "expected numbers, dates or a factor with its levels in order"
            )
        if isinstance(column, np.ndarray) and column.dtype.kind != "b":
            return column.astype(float)
        codes: np.ndarray = as_factor(column).codes.astype(float)
        return codes


def _named(fit: Fit, name: str) -> Column | Matrix:
    """Return a variable of a fit's formula, a grouping factor, or a column of its data."""
    frame = fit.frame
    if name in frame.variables or name in frame.groups:
        return frame.variable(name)
    if name in fit.groups:
        grouping = fit.terms[fit.groups[name][0]].grouping
        return Factor(grouping.codes, grouping.level_set)
    if fit.call.data is None:
        known = [*frame.variables, *frame.groups]
        raise DataError(f"there is no variable {name!r} in the model; it has {', '.join(known)}")
    column = Columns(fit.call.data)[name]
    return column[frame.rows] if isinstance(column, np.ndarray) else column.take(frame.rows)
