"""Arguments that give one value a row: weights, offsets."""

from __future__ import annotations

from typing import Any

import numpy as np

from mixef.checks import ndim, number, shown
from mixef.errors import DataError
from mixef.terms.alignment import in_rows
from mixef.terms.columns import Columns, convert
from mixef.terms.expressions import Scope, Variable
from mixef.terms.factor import Factor
from mixef.terms.functions import Matrix
from mixef.terms.nodes import Name
from mixef.terms.parser import parse_expression


def per_row(value: Any, what: str, scope: Scope) -> np.ndarray:
    """Return an argument that is a column, an expression or one value a row as numbers (n,)."""
    if isinstance(value, str):
        node = Name(value) if value in scope.columns else parse_expression(value)
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
    return value.astype(np.float64)
