"""Functions of R that a formula may call, each on evaluated arguments.

A function takes what it learnt from the training rows, which is empty at first, and its arguments:
numbers, strings, truth values, lists of these, and variables with a value in every row.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from mixef.errors import DataError, FormulaError
from mixef.terms.factor import Factor, factor_from_logical
from mixef.terms.recoding import RECODINGS
from mixef.terms.splines import b_spline_basis, natural_basis, poly_basis
from mixef.terms.values import (
    Matrix,
    as_number,
    flag,
    is_column,
    is_number,
    numbered,
    numbers_in,
    paired,
    shown,
    vector,
    whole,
)

#: Most columns of a basis, more than any that is of use.
WIDEST = 1000


def _as_logical(state: dict[str, Any], x: Any) -> Any:
    number = np.atleast_1d(as_number(x, "as.logical()"))
    if number.ndim > 1:
        raise FormulaError(f"as.logical(): x is {shown(x)}; expected one variable")
    return factor_from_logical(np.nan_to_num(number) != 0, np.isnan(number))


def _scale(state: dict[str, Any], x: Any, center: Any = True, scale: Any = True) -> Any:
    """Centre, and divide by the root mean square about the centre with n - 1, as in R."""
    values = as_number(x, "scale()")
    if not isinstance(values, np.ndarray) or isinstance(x, list):
        raise FormulaError(f"scale(): x is {shown(x)}; expected a numeric variable")
    if "center" not in state:
        state["center"] = _shift(values, center, "scale(): center")
    out = values - state["center"]
    if "scale" not in state:
        state["scale"] = _unit(out, scale)
    out = out / state["scale"]
    if out.ndim == 1:
        return out
    return Matrix(out, x.suffixes) if isinstance(x, Matrix) else numbered(out)


def _given(values: np.ndarray, given: Any, what: str) -> Any:
    """Return numbers given for the columns: one, or one for each."""
    numbers = numbers_in(given, what)
    if len(numbers) not in {1, *values.shape[1:]} or not np.isfinite(numbers).all():
        raise FormulaError(f"{what} is {shown(given)}; expected TRUE, FALSE or a number a column")
    return numbers if values.ndim == 2 else float(numbers[0])


def _shift(values: np.ndarray, center: Any, what: str) -> Any:
    if center is False:
        return 0.0
    if center is not True:
        return _given(values, center, what)
    if np.isnan(values).all(axis=0).any():
        raise DataError("scale(): x has no value that is not missing")
    return np.nanmean(values, axis=0)


def _unit(centred: np.ndarray, scale: Any) -> Any:
    if scale is False:
        return 1.0
    if scale is True:
        count = np.maximum((~np.isnan(centred)).sum(axis=0) - 1, 1)
        unit = np.sqrt(np.nansum(centred**2, axis=0) / count)
    else:
        unit = _given(centred, scale, "scale(): scale")
    if not np.all(unit):
        raise DataError("scale(): the divisor is zero, as it is for a variable that does not vary")
    return unit


def _center(state: dict[str, Any], x: Any) -> Any:
    return _scale(state, x, True, False)


def _present(x: Any, name: str) -> np.ndarray:
    """Return a variable that a basis is made of, once it is seen to have finite values."""
    values = vector(x, f"{name}(): x")
    if np.isinf(values).any():
        raise DataError(f"{name}(): x is infinite in {int(np.isinf(values).sum())} rows")
    return values


def _poly(state: dict[str, Any], x: Any, degree: Any = 1, raw: Any = False) -> Matrix:
    power = whole(degree, "poly(): degree", 1, WIDEST)
    return numbered(poly_basis(_present(x, "poly"), power, flag(raw, "poly(): raw"), state))


def _bs(
    state: dict[str, Any], x: Any, df: Any = None, knots: Any = None, degree: Any = 3,
    intercept: Any = False, Boundary_knots: Any = None,
) -> Matrix:  # fmt: skip
    values, power = _present(x, "bs"), whole(degree, "bs(): degree", 1, 50)
    chosen = _knots("bs", df, knots, Boundary_knots)
    return numbered(
        b_spline_basis(values, *chosen, power, flag(intercept, "bs(): intercept"), state)
    )


def _ns(
    state: dict[str, Any], x: Any, df: Any = None, knots: Any = None, intercept: Any = False,
    Boundary_knots: Any = None,
) -> Matrix:  # fmt: skip
    values, chosen = _present(x, "ns"), _knots("ns", df, knots, Boundary_knots)
    return numbered(natural_basis(values, *chosen, flag(intercept, "ns(): intercept"), state))


def _knots(name: str, df: Any, knots: Any, bounds: Any) -> tuple[Any, Any, Any]:
    """Return the checked arguments that say where the knots of a spline are."""
    df = None if df is None else whole(df, f"{name}(): df", 1, WIDEST)
    inner = None if knots is None else numbers_in(knots, f"{name}(): knots")
    if inner is not None and (len(inner) > WIDEST or not np.isfinite(inner).all()):
        raise FormulaError(f"{name}(): knots is {shown(knots)}; expected finite numbers")
    if bounds is not None:
        ends = numbers_in(bounds, f"{name}(): Boundary.knots")
        if len(ends) != 2 or ends[0] == ends[1] or not np.isfinite(ends).all():
            raise FormulaError(
                f"{name}(): Boundary.knots is {shown(bounds)}; expected two different numbers"
            )
        bounds = np.sort(ends)
    return df, inner, bounds


def _identity(state: dict[str, Any], x: Any) -> Any:
    return x


def _log(state: dict[str, Any], x: Any, base: Any = None) -> Any:
    if base is None:
        return np.log(as_number(x, "log()"))
    if is_number(base) and not (as_number(base, "log(): base") > 0 and base != 1):
        raise FormulaError(f"log(): base is {shown(base)}; expected a positive number, but not 1")
    number, base = paired((x, base), "log()", "log()")
    return np.log(number) / np.log(base)


def _round(state: dict[str, Any], x: Any, digits: Any = 0) -> Any:
    return np.round(as_number(x, "round()"), whole(digits, "round(): digits", -300, 300))


def _is_na(state: dict[str, Any], x: Any) -> Any:
    if isinstance(x, Factor):
        return x.codes < 0
    missing = np.isnan(as_number(x, "is.na()"))
    return missing if np.ndim(missing) else bool(missing)


def _cbind(state: dict[str, Any], *columns: Any, **named: Any) -> Matrix:
    columns = (*columns, *named.values())
    if not any(map(is_column, columns)):
        raise FormulaError("cbind() has no variable; expected one for each column")
    for column in columns:
        if isinstance(column, Matrix | list):
            raise FormulaError(f"cbind(): a column is {shown(column)}; expected one variable")
    values = np.column_stack(np.broadcast_arrays(*(as_number(c, "cbind()") for c in columns)))
    return Matrix(np.asarray(values), state["names"])


def _elementwise(ufunc: Callable[..., Any], name: str) -> Callable[..., Any]:
    def call(state: dict[str, Any], x: Any) -> Any:
        return ufunc(as_number(x, f"{name}()"))

    return call


def _parallel(ufunc: Any, name: str) -> Callable[..., Any]:
    def call(state: dict[str, Any], *items: Any) -> Any:
        if not items:
            raise FormulaError(f"{name}() has no argument; expected two or more variables")
        out, *rest = paired(items, f"{name}()", f"{name}()")
        for item in rest:
            out = ufunc(out, item)
        return out

    return call


def _summary(reduce: Callable[..., Any], name: str) -> Callable[..., Any]:
    """Make a summary of the training rows that stays what it was when new data are coded."""

    def call(state: dict[str, Any], x: Any, na_rm: Any = False) -> Any:
        values = np.atleast_1d(as_number(x, f"{name}()"))
        kept = values[~np.isnan(values)] if flag(na_rm, f"{name}(): na.rm") else values
        if len(kept) < (2 if name in ("sd", "var") else 1):
            raise DataError(f"{name}() has too few values that are not missing: {len(kept)}")
        return state.setdefault("value", float(reduce(kept)))

    return call


def _sd(x: np.ndarray) -> float:
    return float(np.std(x, ddof=1))


def _var(x: np.ndarray) -> float:
    return float(np.var(x, ddof=1))


_UFUNCS: dict[str, Callable[..., Any]] = {
    name: getattr(np, name)
    for name in ("log2", "log10", "log1p", "exp", "expm1", "sqrt", "abs", "floor", "trunc")
} | {name: getattr(np, name) for name in ("sin", "cos", "tan", "tanh", "sinh", "cosh")}
_UFUNCS |= {"ceiling": np.ceil, "atan": np.arctan, "asin": np.arcsin, "acos": np.arccos}
_SUMMARIES: dict[str, Callable[..., Any]] = {
    "mean": np.mean, "median": np.median, "min": np.min, "max": np.max, "sum": np.sum,
    "sd": _sd, "var": _var,
}  # fmt: skip

FUNCTIONS: dict[str, Callable[..., Any]] = {
    "I": _identity,
    "offset": _identity,
    "identity": _identity,
    **RECODINGS,
    "as.logical": _as_logical,
    "scale": _scale,
    "center": _center,
    "poly": _poly,
    "bs": _bs,
    "ns": _ns,
    "log": _log,
    "round": _round,
    "is.na": _is_na,
    "cbind": _cbind,
    "pmin": _parallel(np.minimum, "pmin"),
    "pmax": _parallel(np.maximum, "pmax"),
    **{name: _elementwise(ufunc, name) for name, ufunc in _UFUNCS.items()},
    **{name: _summary(reduce, name) for name, reduce in _SUMMARIES.items()},
}

#: Those that learn something of all rows before they know their value in one.
LEARNING = frozenset({"scale", "center", "poly", "bs", "ns", "cut", *_SUMMARIES})
#: Those whose value in one row may depend on the levels that other rows have, and those of them
#: that ask which levels their arguments have.
ASKING = frozenset({"relevel", "interaction", "dummy"})
LEVELLING = ASKING | {"factor", "as.factor", "ordered", "as.ordered", "as.character", "ifelse"}
