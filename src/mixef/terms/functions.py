"""Functions of R that a formula may call, each on evaluated arguments."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from itertools import pairwise
from typing import Any

import numpy as np

from mixef.errors import DataError, FormulaError
from mixef.terms.exact import Exact
from mixef.terms.factor import (
    Factor,
    factor_from_logical,
    factor_from_numbers,
    factor_from_strings,
)
from mixef.terms.nodes import number_text
from mixef.terms.splines import b_spline_basis, natural_basis, poly_basis


@dataclass(frozen=True, eq=False)
class Matrix:
    """A matrix-valued variable: `array` (n, k) and the suffixes of its column names."""

    array: np.ndarray
    suffixes: tuple[str, ...]

    def take(self, rows: np.ndarray) -> Matrix:
        """Return the matrix at some rows."""
        return replace(self, array=self.array[rows])


def as_number(x: Any, what: str) -> Any:
    """Return a value for arithmetic: floats, with logicals as 0/1.

    Raises
    ------
    FormulaError
        For a factor, a string or a matrix, naming the expression that asked.
    """
    if isinstance(x, Exact):
        return x.as_float()
    if isinstance(x, Factor):
        if x.kind == "logical":
            return x.as_float()
        raise FormulaError(
            f"{what} is not meaningful for a factor (levels {', '.join(x.levels[:5])}); "
            "expected a numeric variable"
        )
    if isinstance(x, Matrix):
        return x.array
    if isinstance(x, str) or x is None:
        raise FormulaError(f"{what} needs a number, but got {x!r}")
    return np.asarray(x, dtype=np.float64) if isinstance(x, np.ndarray | list) else float(x)


def as_factor(x: Any) -> Factor:
    """Return any variable as a factor with R's levels."""
    if isinstance(x, Factor):
        return x
    if isinstance(x, Exact):
        return x.factor()
    if isinstance(x, np.ndarray) and x.ndim == 1:
        if x.dtype.kind == "b":
            return factor_from_logical(x)
        return factor_from_numbers(x)
    raise FormulaError(f"cannot make a factor of {type(x).__name__}; expected one variable")


def text_of(x: Any) -> str:
    """Return a constant as R's as.character gives it."""
    if isinstance(x, bool | np.bool_):
        return "TRUE" if x else "FALSE"
    return number_text(float(x)) if isinstance(x, int | float) else str(x)


def _texts(x: Any) -> tuple[str, ...]:
    return tuple(map(text_of, x.tolist() if isinstance(x, np.ndarray) else np.ravel(x).tolist()))


def _factor(
    state: dict, x: Any, levels: Any = None, labels: Any = None, ordered: Any = None
) -> Any:
    factor = as_factor(x)
    if levels is None:
        factor = factor.used_levels()
        # The training levels are kept, so that new data with fewer of them are coded alike.
        wanted = state.setdefault("levels", factor.levels)
        if not set(factor.levels) <= set(wanted):
            wanted = factor.levels
    else:
        wanted = _texts(levels)
    names = wanted if labels is None else _texts(labels)
    if len(names) != len(wanted):
        raise FormulaError(f"factor(): {len(wanted)} levels but {len(names)} labels")
    is_ordered = factor.ordered if ordered is None else bool(ordered)
    made = factor.arranged(wanted)
    level_set = made.level_set if labels is None else names
    return replace(made, level_set=level_set, ordered=is_ordered)


def _ordered(state: dict, x: Any, levels: Any = None, labels: Any = None) -> Any:
    return _factor(state, x, levels, labels, True)


def _as_factor(state: dict, x: Any) -> Factor:
    factor = as_factor(x)
    return replace(factor, kind="factor")


def _as_numeric(state: dict, x: Any) -> Any:
    if not isinstance(x, Factor) or x.kind == "logical":
        return as_number(x, "as.numeric()")
    if x.kind == "factor":
        return x.as_float() + 1.0
    try:
        table = np.array([*map(float, x.levels), np.nan])
    except ValueError:
        shown = ", ".join(x.levels[:5])
        raise DataError(f"as.numeric(): these strings are not all numbers: {shown}") from None
    return table[x.codes]


def _as_integer(state: dict, x: Any) -> Any:
    return np.trunc(_as_numeric(state, x))


def _as_character(state: dict, x: Any) -> Factor:
    factor = as_factor(x)
    return replace(factor.arranged(tuple(sorted(factor.levels))), kind="character")


def _as_logical(state: dict, x: Any) -> Any:
    number = as_number(x, "as.logical()")
    return factor_from_logical(np.nan_to_num(number) != 0, np.isnan(number))


def _relevel(state: dict, x: Any, ref: Any) -> Factor:
    factor, first = as_factor(x), text_of(ref)
    if first not in factor.levels:
        shown = ", ".join(factor.levels)
        raise DataError(f"relevel(): {first!r} is not a level; the levels are {shown}")
    levels = (first, *(level for level in factor.levels if level != first))
    return replace(factor.arranged(levels), ordered=False)


def _interaction(state: dict, *factors: Any, sep: str = ".") -> Factor:
    """All combinations of levels, the first factor fastest."""
    made = [as_factor(f).used_levels() for f in factors]
    codes, levels = made[0].codes.astype(np.int64), made[0].levels
    for factor in made[1:]:
        missing = (codes < 0) | (factor.codes < 0)
        codes = np.where(missing, -1, factor.codes.astype(np.int64) * len(levels) + codes)
        levels = tuple(f"{a}{sep}{b}" for b in factor.levels for a in levels)
    return Factor(codes.astype(np.int32), levels)


def _dummy(state: dict, x: Any, levels_to_keep: Any = None) -> Any:
    factor = as_factor(x)
    state.setdefault("levels", factor.used_levels().levels)
    kept = state["levels"][1:] if levels_to_keep is None else _texts(levels_to_keep)
    unknown = [level for level in kept if level not in state["levels"]]
    if unknown:
        known = ", ".join(state["levels"])
        raise DataError(f"dummy(): {unknown[0]!r} is not a level; the levels are {known}")
    place = {level: i for i, level in enumerate(factor.levels)}
    columns = [(factor.codes == place.get(level, -2)).astype(float) for level in kept]
    for column in columns:
        column[factor.codes < 0] = np.nan
    return Matrix(np.column_stack(columns), kept) if len(columns) > 1 else columns[0]


def _cut(
    state: dict, x: Any, breaks: Any, labels: Any = None, include_lowest: bool = False,
    right: bool = True, dig_lab: float = 3, ordered_result: bool = False,
) -> Any:  # fmt: skip
    x = as_number(x, "cut()")
    edges = state.setdefault("breaks", _cut_breaks(x, np.ravel(as_number(breaks, "cut()"))))
    place = np.searchsorted(edges, x, side="left" if right else "right") - 1
    if include_lowest:
        end, cell = (edges[0], 0) if right else (edges[-1], len(edges) - 2)
        place = np.where(x == end, cell, place)
    outside = np.isnan(x) | (place < 0) | (place > len(edges) - 2)
    codes = np.where(outside, -1, place)
    if labels is False:
        return np.where(outside, np.nan, codes + 1.0)
    default = _interval_labels(edges, right, include_lowest, int(dig_lab))
    names = default if labels is None else _texts(labels)
    if len(names) != len(edges) - 1:
        raise FormulaError(f"cut(): {len(edges) - 1} intervals but {len(names)} labels")
    return Factor(codes.astype(np.int32), names, bool(ordered_result))


def _cut_breaks(x: np.ndarray, breaks: np.ndarray) -> np.ndarray:
    if len(breaks) > 1:
        return np.sort(breaks)
    low, high = np.nanmin(x), np.nanmax(x)
    edges = np.linspace(low, high, int(breaks[0]) + 1)
    margin = (high - low) / 1000  # R widens the ends by this, so that the extremes fall inside
    edges[[0, -1]] = low - margin, high + margin
    return edges


def _interval_labels(edges: np.ndarray, right: bool, lowest: bool, digits: int) -> tuple[str, ...]:
    texts = [f"{e:.{digits}g}" for e in edges]
    while len(set(texts)) < len(texts) and digits < 12:
        digits += 1
        texts = [f"{e:.{digits}g}" for e in edges]
    opening, closing = ("(", "]") if right else ("[", ")")
    out = [f"{opening}{a},{b}{closing}" for a, b in pairwise(texts)]
    if lowest and right:
        out[0] = "[" + out[0][1:]
    elif lowest:
        out[-1] = out[-1][:-1] + "]"
    return tuple(out)


def _ifelse(state: dict, test: Any, yes: Any, no: Any) -> Any:
    chosen = as_number(test, "ifelse()")
    if any(isinstance(v, Factor | str) for v in (yes, no)):
        a, b = (v.values() if isinstance(v, Factor) else v for v in (yes, no))
        picked = np.where(chosen != 0, a, b).astype(object)
        picked[np.isnan(chosen)] = None
        return factor_from_strings(picked)
    picked = np.where(chosen != 0, as_number(yes, "ifelse()"), as_number(no, "ifelse()"))
    return np.where(np.isnan(chosen), np.nan, picked)


def _scale(state: dict, x: Any, center: Any = True, scale: Any = True) -> Any:
    """Centre, and divide by the root mean square about the centre with n - 1, as in R."""
    is_matrix = isinstance(x, Matrix) or (isinstance(x, np.ndarray) and x.ndim == 2)
    values = np.asarray(as_number(x, "scale()"))
    if "center" not in state:
        state["center"] = np.nanmean(values, axis=0) if center is True else center or 0.0
    out = values - np.asarray(state["center"], dtype=float)
    if "scale" not in state:
        count = np.maximum((~np.isnan(out)).sum(axis=0) - 1, 1)
        rms = np.sqrt(np.nansum(out**2, axis=0) / count)
        state["scale"] = rms if scale is True else scale or 1.0
    out = out / np.asarray(state["scale"], dtype=float)
    suffixes = x.suffixes if isinstance(x, Matrix) else tuple(map(str, range(1, out.shape[-1] + 1)))
    return Matrix(out, suffixes) if is_matrix else out


def _center(state: dict, x: Any) -> Any:
    return _scale(state, x, True, False)


def _numbered(values: np.ndarray) -> Matrix:
    return Matrix(values, tuple(map(str, range(1, values.shape[1] + 1))))


def _poly(state: dict, x: Any, degree: Any = 1, raw: Any = False) -> Matrix:
    return _numbered(poly_basis(as_number(x, "poly()"), int(degree), bool(raw), state))


def _bs(
    state: dict, x: Any, df: Any = None, knots: Any = None, degree: Any = 3,
    intercept: Any = False, Boundary_knots: Any = None,
) -> Matrix:  # fmt: skip
    df = None if df is None else int(df)
    x = as_number(x, "bs()")
    out = b_spline_basis(x, df, knots, int(degree), bool(intercept), Boundary_knots, state)
    return _numbered(out)


def _ns(
    state: dict, x: Any, df: Any = None, knots: Any = None, intercept: Any = False,
    Boundary_knots: Any = None,
) -> Matrix:  # fmt: skip
    df = None if df is None else int(df)
    out = natural_basis(as_number(x, "ns()"), df, knots, bool(intercept), Boundary_knots, state)
    return _numbered(out)


def _identity(state: dict, x: Any) -> Any:
    return x


def _log(state: dict, x: Any, base: Any = None) -> Any:
    out = np.log(as_number(x, "log()"))
    return out if base is None else out / np.log(as_number(base, "log()"))


def _round(state: dict, x: Any, digits: Any = 0) -> Any:
    return np.round(as_number(x, "round()"), int(digits))


def _is_na(state: dict, x: Any) -> Any:
    return x.codes < 0 if isinstance(x, Factor) else np.isnan(as_number(x, "is.na()"))


def _combine(state: dict, *items: Any) -> list:
    return [v for item in items for v in (item if isinstance(item, list) else [item])]


def _cbind(state: dict, *columns: Any, **named: Any) -> Matrix:
    columns = (*columns, *named.values())
    values = np.column_stack(np.broadcast_arrays(*(as_number(c, "cbind()") for c in columns)))
    return Matrix(np.asarray(values), state["names"])


def _elementwise(ufunc: Callable[..., Any], name: str) -> Callable[..., Any]:
    def call(state: dict, x: Any) -> Any:
        return ufunc(as_number(x, f"{name}()"))

    return call


def _parallel(ufunc: Any, name: str) -> Callable[..., Any]:
    def call(state: dict, *items: Any) -> Any:
        out = as_number(items[0], f"{name}()")
        for item in items[1:]:
            out = ufunc(out, as_number(item, f"{name}()"))
        return out

    return call


def _summary(reduce: Callable[..., Any], name: str) -> Callable[..., Any]:
    """Make a summary of the training rows that stays what it was when new data are coded."""

    def call(state: dict, x: Any, na_rm: Any = False) -> Any:
        values = np.asarray(as_number(x, f"{name}()"))
        kept = values[~np.isnan(values)] if na_rm else values
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
    "factor": _factor,
    "as.factor": _as_factor,
    "ordered": _ordered,
    "as.ordered": _ordered,
    "as.numeric": _as_numeric,
    "as.double": _as_numeric,
    "as.integer": _as_integer,
    "as.character": _as_character,
    "as.logical": _as_logical,
    "relevel": _relevel,
    "interaction": _interaction,
    "dummy": _dummy,
    "cut": _cut,
    "ifelse": _ifelse,
    "scale": _scale,
    "center": _center,
    "poly": _poly,
    "bs": _bs,
    "ns": _ns,
    "log": _log,
    "round": _round,
    "is.na": _is_na,
    "c": _combine,
    "cbind": _cbind,
    "pmin": _parallel(np.minimum, "pmin"),
    "pmax": _parallel(np.maximum, "pmax"),
    **{name: _elementwise(ufunc, name) for name, ufunc in _UFUNCS.items()},
    **{name: _summary(reduce, name) for name, reduce in _SUMMARIES.items()},
}
