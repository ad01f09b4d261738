"""Functions of R that make factors: of variables, of other factors and of intervals."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from itertools import pairwise
from typing import Any

import numpy as np

from mixef.errors import DataError, FormulaError
from mixef.terms.exact import Exact
from mixef.terms.factor import Factor, compress, factor_from_strings, merged
from mixef.terms.values import (
    LONGEST,
    Matrix,
    as_factor,
    as_number,
    constants,
    flag,
    is_constant,
    labels_in,
    numbers_in,
    paired,
    shown,
    text_of,
    vector,
    whole,
)


def _factor(
    state: dict[str, Any], x: Any, levels: Any = None, labels: Any = None, ordered: Any = None
) -> Any:
    factor = as_factor(x)
    if levels is None:
        factor = factor.used_levels()
        # The training levels are kept, so that new data with fewer of them are coded alike.
        wanted = state.setdefault("levels", factor.levels)
        if not set(factor.levels) <= set(wanted):
            wanted = factor.levels
    else:
        wanted = labels_in(levels, "factor(): levels")
        if len(set(wanted)) < len(wanted):
            twice = next(level for level in wanted if wanted.count(level) > 1)
            raise FormulaError(f"factor(): levels has {twice!r} twice; expected each level once")
    names = wanted if labels is None else labels_in(labels, "factor(): labels")
    if len(names) != len(wanted):
        raise FormulaError(f"factor(): {len(wanted)} levels but {len(names)} labels")
    is_ordered = factor.ordered if ordered is None else flag(ordered, "factor(): ordered")
    made = factor.arranged(wanted)
    return merged(
        replace(made, level_set=made.level_set if labels is None else names, ordered=is_ordered)
    )


def _ordered(state: dict[str, Any], x: Any, levels: Any = None, labels: Any = None) -> Any:
    return _factor(state, x, levels, labels, True)


def _as_factor(state: dict[str, Any], x: Any) -> Factor:
    return replace(as_factor(x), kind="factor")


def _as_character(state: dict[str, Any], x: Any) -> Factor:
    factor = as_factor(x)
    return replace(factor.arranged(tuple(sorted(factor.levels))), kind="character")


def _one_label(x: Any, what: str) -> str:
    if not is_constant(x):
        raise FormulaError(f"{what} is {shown(x)}; expected one level")
    return text_of(x)


def _relevel(state: dict[str, Any], x: Any, ref: Any) -> Factor:
    factor, first = as_factor(x), _one_label(ref, "relevel(): ref")
    if first not in factor.levels:
        raise DataError(f"relevel(): {first!r} is not a level; {_known(factor.levels)}")
    levels = (first, *(level for level in factor.levels if level != first))
    return replace(factor.arranged(levels), ordered=False)


def _known(levels: tuple[str, ...]) -> str:
    return f"the levels are {', '.join(levels[:30])}" + (", ..." if len(levels) > 30 else "")


def _interaction(state: dict[str, Any], *factors: Any, sep: Any = ".") -> Factor:
    """All combinations of levels, the first factor fastest.

    Where these are more than anyone writes out, only those that occur, which the model keeps
    anyway.
    """
    if not factors:
        raise FormulaError("interaction() has no variable; expected one or more, as in a, b")
    if not isinstance(sep, str):
        raise FormulaError(f"interaction(): sep is {shown(sep)}; expected a string")
    made = [as_factor(f).used_levels() for f in factors]
    codes, levels = made[0].codes.astype(np.int64), made[0].levels
    for factor in made[1:]:
        missing = (codes < 0) | (factor.codes < 0)
        joint = factor.codes.astype(np.int64) * len(levels) + codes
        cells = len(levels) * len(factor.levels)
        used = np.arange(cells) if cells <= LONGEST else None
        codes = np.where(missing, -1, joint)
        if used is None:
            compact, used = compress(joint[~missing], cells)
            codes[~missing] = compact
        split = (divmod(cell, len(levels)) for cell in used.tolist())
        levels = tuple(f"{levels[a]}{sep}{factor.levels[b]}" for b, a in split)
    if len(set(levels)) < len(levels):
        raise FormulaError(
            f"interaction(): combinations of different levels have one label with sep = {sep!r}; "
            "choose another sep"
        )
    return Factor(codes.astype(np.int32), levels)


def _dummy(state: dict[str, Any], x: Any, levels_to_keep: Any = None) -> Any:
    factor = as_factor(x)
    levels = state.setdefault("levels", factor.used_levels().levels)
    what = "dummy(): levelsToKeep"
    kept = levels[1:] if levels_to_keep is None else labels_in(levels_to_keep, what)
    unknown = [level for level in kept if level not in levels]
    if unknown:
        raise DataError(f"dummy(): {unknown[0]!r} is not a level; {_known(levels)}")
    if not kept:
        raise DataError(f"dummy() keeps no level; {_known(levels)}")
    place = {level: i for i, level in enumerate(factor.levels)}
    columns = [(factor.codes == place.get(level, -2)).astype(float) for level in kept]
    for column in columns:
        column[factor.codes < 0] = np.nan
    return Matrix(np.column_stack(columns), kept) if len(columns) > 1 else columns[0]


def _cut(
    state: dict[str, Any], x: Any, breaks: Any, labels: Any = None, include_lowest: Any = False,
    right: Any = True, dig_lab: Any = 3, ordered_result: Any = False,
) -> Any:  # fmt: skip
    x = vector(x, "cut(): x")
    include_lowest = flag(include_lowest, "cut(): include.lowest")
    right, is_ordered = flag(right, "cut(): right"), flag(ordered_result, "cut(): ordered_result")
    digits = whole(dig_lab, "cut(): dig.lab", 1, 15)
    if "breaks" not in state:
        state["breaks"] = _cut_breaks(x, numbers_in(breaks, "cut(): breaks"))
    edges = state["breaks"]
    place = np.searchsorted(edges, x, side="left" if right else "right") - 1
    if include_lowest:
        end, cell = (edges[0], 0) if right else (edges[-1], len(edges) - 2)
        place = np.where(x == end, cell, place)
    outside = np.isnan(x) | (place < 0) | (place > len(edges) - 2)
    codes = np.where(outside, -1, place)
    if labels is False:
        return np.where(outside, np.nan, codes + 1.0)
    default = _interval_labels(edges, right, include_lowest, digits)
    names = default if labels is None else labels_in(labels, "cut(): labels")
    if len(names) != len(edges) - 1:
        raise FormulaError(f"cut(): {len(edges) - 1} intervals but {len(names)} labels")
    return merged(Factor(codes.astype(np.int32), names, is_ordered))


def _cut_breaks(x: np.ndarray, breaks: np.ndarray) -> np.ndarray:
    if len(breaks) > 1:
        edges = np.sort(breaks)
        if (edges[1:] == edges[:-1]).any():
            raise FormulaError("cut(): breaks holds a value twice; expected each boundary once")
        return edges
    count = whole(breaks[0] if len(breaks) else [], "cut(): breaks", 2, 10_000)
    present = x[np.isfinite(x)]
    if not len(present):
        raise DataError("cut(): x has no value that is finite, so that it has no range to cut")
    low, high = present.min(), present.max()
    if low == high:  # R: around the one value
        margin = abs(low) / 1000 or 1e-3
        return np.linspace(low - margin, high + margin, count + 1)
    edges = np.linspace(low, high, count + 1)
    margin = (high - low) / 1000  # R widens the ends by this, so that the extremes fall inside
    edges[[0, -1]] = low - margin, high + margin
    return edges


def _interval_labels(edges: np.ndarray, right: bool, lowest: bool, digits: int) -> tuple[str, ...]:
    texts = [_edge(e, digits) for e in edges.tolist()]
    while len(set(texts)) < len(texts) and digits < 17:
        digits += 1
        texts = [_edge(e, digits) for e in edges.tolist()]
    opening, closing = ("(", "]") if right else ("[", ")")
    out = [f"{opening}{a},{b}{closing}" for a, b in pairwise(texts)]
    if lowest and right:
        out[0] = "[" + out[0][1:]
    elif lowest:
        out[-1] = out[-1][:-1] + "]"
    return tuple(out)


def _edge(value: float, digits: int) -> str:
    if np.isinf(value):
        return "Inf" if value > 0 else "-Inf"
    return f"{value:.{digits}g}"


def _ifelse(state: dict[str, Any], test: Any, yes: Any, no: Any) -> Any:
    chosen = as_number(test, "ifelse()")
    if any(isinstance(v, Factor | str) for v in (yes, no)):
        a, b = (_texts_of(v) for v in (yes, no))
        if len({len(v) for v in (chosen, a, b) if np.ndim(v)}) > 1 or np.ndim(chosen) != 1:
            raise FormulaError("ifelse(): expected a condition with one value a row")
        picked = np.where(chosen != 0, a, b).astype(object)
        picked[np.isnan(chosen)] = None
        return factor_from_strings(picked)
    chosen, a, b = paired((chosen, yes, no), "ifelse()", "ifelse()")
    return np.where(np.isnan(chosen), np.nan, np.where(chosen != 0, a, b))


def _texts_of(x: Any) -> Any:
    """Return labels row by row, or one for all rows; None where missing."""
    if isinstance(x, Exact) or (isinstance(x, np.ndarray) and x.ndim == 1):
        x = as_factor(x)
    if isinstance(x, Factor):
        return x.values()
    if isinstance(x, float) and np.isnan(x):
        return None
    if is_constant(x):
        return text_of(x)
    raise FormulaError(f"ifelse() cannot choose {shown(x)}; expected a variable or a constant")


def _as_numeric(state: dict[str, Any], x: Any) -> Any:
    if not isinstance(x, Factor) or x.kind == "logical":
        return as_number(x, "as.numeric()")
    if x.kind == "factor":
        return x.as_float() + 1.0
    try:
        table = np.array([*map(float, x.levels), np.nan])
    except ValueError:
        listed = ", ".join(x.levels[:5])
        raise DataError(f"as.numeric(): these strings are not all numbers: {listed}") from None
    return table[x.codes]


def _as_integer(state: dict[str, Any], x: Any) -> Any:
    return np.trunc(_as_numeric(state, x))


def _combine(state: dict[str, Any], *items: Any) -> list[Any]:
    out = [v for item in items for v in constants(item, "c(): an argument")]
    if len(out) > LONGEST:
        raise FormulaError(f"c() holds {len(out):,} values; expected at most {LONGEST:,}")
    return out


RECODINGS: dict[str, Callable[..., Any]] = {
    "factor": _factor,
    "as.factor": _as_factor,
    "ordered": _ordered,
    "as.ordered": _ordered,
    "as.numeric": _as_numeric,
    "as.double": _as_numeric,
    "as.integer": _as_integer,
    "as.character": _as_character,
    "relevel": _relevel,
    "interaction": _interaction,
    "dummy": _dummy,
    "cut": _cut,
    "ifelse": _ifelse,
    "c": _combine,
}
