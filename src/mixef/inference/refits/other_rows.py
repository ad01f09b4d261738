"""The model of a fit on other rows: levels of a grouping factor drawn again, copied or left out."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import numpy as np

from mixef import checks
from mixef.errors import ArgumentError, FitError
from mixef.estimation.fit import Fit, fit_model
from mixef.estimation.spec import ModelSpec
from mixef.terms.factor import Factor, compress
from mixef.terms.fixed import Design
from mixef.terms.frame import ModelFrame
from mixef.terms.grouping import Grouping
from mixef.terms.labels import LevelSet
from mixef.terms.nodes import by_known_names
from mixef.terms.random import RandomTerm


def grouping_factors(terms: tuple[RandomTerm, ...]) -> dict[str, Grouping]:
    """Return the grouping factors of all terms by name."""
    return {term.group: term.grouping for term in terms}


def outermost(terms: tuple[RandomTerm, ...], question: str = "which one to resample") -> str:
    """Return the grouping factor that all others are nested in; refuse crossed factors."""
    factors = grouping_factors(terms)
    for name, outer in sorted(factors.items(), key=lambda item: item[1].n_levels):
        if all(is_nested(inner, outer) for inner in factors.values()):
            return name
    raise crossed_factors(list(factors), question)


def crossed_factors(factors: Sequence[str], question: str) -> ArgumentError:
    """Return the error for grouping factors none of which holds the others."""
    return ArgumentError(
        f"the grouping factors {', '.join(factors)} are crossed: none of them holds the others; "
        f"say with cluster= {question}, as in cluster={factors[0]!r}"
    )


def is_nested(inner: Grouping | Factor, outer: Grouping | Factor) -> bool:
    """Tell whether each level of one factor occurs in one level of the other."""
    pairs = inner.codes.astype(np.int64) * outer.n_levels + outer.codes
    used = compress(pairs, inner.n_levels * outer.n_levels)[1]
    return len(used) == inner.n_levels


def checked_group(terms: tuple[RandomTerm, ...], name: Any, argument: str) -> str:
    """Return the name of a grouping factor of the model."""
    known = grouping_factors(terms)
    name = checks.text(name, argument, f"a grouping factor: {', '.join(known)}")
    name = next(iter(by_known_names({name: 0}, known)))
    if name not in known:
        raise ArgumentError(
            f"{argument} names {name!r}, which is no grouping factor of the model; it has "
            f"{', '.join(known)}"
        )
    return name


def with_levels(
    spec: ModelSpec, group: str, picks: np.ndarray, size: int | None = None
) -> ModelSpec:
    """Return the model on chosen levels of a grouping factor, each choice as a level of its own.

    Factors nested in the chosen one get new levels in every copy; those that are crossed with it,
    or that hold it, keep theirs. ``picks`` (m,) are levels by position, which may come several
    times; each gives ``size`` rows, taken in order and over again, or all of its rows once.
    """
    factor = grouping_factors(spec.terms)[group]
    order = np.argsort(factor.codes, kind="stable")
    counts = np.bincount(factor.codes, minlength=factor.n_levels)
    first = np.cumsum(counts) - counts
    wanted = counts[picks] if size is None else np.full(len(picks), size)
    copy = np.repeat(np.arange(len(picks)), wanted)
    place = np.arange(len(copy)) - np.repeat(np.cumsum(wanted) - wanted, wanted)
    level = picks[copy]
    taken = order[first[level] + place % counts[level]]
    groupings = {}
    for name, other in grouping_factors(spec.terms).items():
        if name == group:
            groupings[name] = _renamed(other, copy, len(picks))
        elif is_nested(other, factor):
            cells = copy.astype(np.int64) * other.n_levels + other.codes[taken]
            codes, used = compress(cells, len(picks) * other.n_levels)
            groupings[name] = _renamed(other, codes, len(used))
        else:
            codes, used = compress(other.codes[taken], other.n_levels)
            groupings[name] = replace(other, codes=codes, level_set=other.level_set.take(used))
    terms = tuple(
        replace(term, design=_taken(term.design, taken), grouping=groupings[term.group])
        for term in spec.terms
    )
    return spec.changed(
        frame=_taken_frame(spec.frame, taken), design=_taken(spec.design, taken), terms=terms
    )


def _renamed(factor: Grouping, codes: np.ndarray, n_levels: int) -> Grouping:
    """Return a factor of other codes, whose levels are numbered from 1."""
    level_set = LevelSet(np.arange(1, n_levels + 1))
    return replace(factor, codes=codes.astype(np.int32), level_set=level_set)


def _taken(design: Design, rows: np.ndarray) -> Design:
    return design.with_matrix(np.asfortranarray(design.matrix[rows]))


def _taken_frame(frame: ModelFrame, rows: np.ndarray) -> ModelFrame:
    def taken(value: Any) -> Any:
        if value is None or isinstance(value, np.ndarray):
            return None if value is None else value[rows]
        return value.take(rows)

    return replace(
        frame,
        y=taken(frame.y),
        response=taken(frame.response),
        weights=taken(frame.weights),
        offset=taken(frame.offset),
        n=len(rows),
        chosen=frame.rows[rows],
        considered=None,
        na_action="omit",
        variables={text: taken(value) for text, value in frame.variables.items()},
        groups={text: taken(value) for text, value in frame.groups.items()},
    )


def fit_to_rows(fit: Fit, spec: ModelSpec, *, start: Any = None) -> Fit:
    """Fit the model of a fit on other rows, which have to leave open the same coefficients."""
    new = fit_model(spec, start=start)
    if not np.array_equal(new.kept, fit.kept):
        lost = [name for name in fit.fixed_names if name not in new.fixed_names]
        raise FitError(f"the rows cannot tell apart the fixed effects {', '.join(lost)}")
    return new


def on_rows(spec: ModelSpec, rows: np.ndarray) -> ModelSpec:
    """Return the model on some of its rows, by their positions; levels without rows are dropped."""
    groupings = {}
    for name, factor in grouping_factors(spec.terms).items():
        codes, used = compress(factor.codes[rows], factor.n_levels)
        groupings[name] = replace(factor, codes=codes, level_set=factor.level_set.take(used))
    terms = tuple(
        replace(term, design=_taken(term.design, rows), grouping=groupings[term.group])
        for term in spec.terms
    )
    return spec.changed(
        frame=_taken_frame(spec.frame, rows), design=_taken(spec.design, rows), terms=terms
    )
