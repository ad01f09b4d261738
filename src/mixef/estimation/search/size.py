"""The size of the covariances that a search starts from."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from mixef.estimation.search.criteria import MixedCriterion
from mixef.estimation.search.optimize import Known, Step, known_at

# A gain that is much for one step: intervals of 95 % reach 4 to 6 above a minimum, for one or two
# parameters. With 2 the search laboratory counts the same; with 20 one end was missed by 80.
MUCH = 5.0
# Where the criterion falls by so much as the logarithm of all standard deviations grows by one, a
# start is tried with standard deviations so many times as large.
STEEP, LARGER = 15.0, 5.0


@dataclass(frozen=True)
class Size:
    """A start of the right size."""

    start: np.ndarray
    known: Known | None  # what the criterion is there, where it stands there
    #: `before`, `beyond`: the evaluations that led there, and one that went too far.
    before: tuple[Step, ...] = ()
    beyond: tuple[Step, ...] = ()


def in_size(criterion: MixedCriterion, start: np.ndarray, max_evaluations: int) -> Size:
    """Return a start of the right size.

    Far from the end Newton's steps, which can double or halve standard deviations at most, are
    slow, and can lose on the way directions that a better start would have kept.
    """
    before: tuple[Step, ...] = ()
    known = known_at(criterion, start)
    while known is not None and len(before) + 1 < max_evaluations:
        other = _nearer(criterion, start, known)
        if other is None:
            break
        new = criterion.value(other)
        if not new < known.value:
            return Size(start, None, before, (Step(other, new, np.nan),))
        before = (*before, Step(start, known.value, float(np.abs(known.gradient).max())))
        start, known = other, known_at(criterion, other)
    return Size(start, known, before)


def is_far(known: Known) -> bool:
    """Tell whether much is to be gained, and the minimum is not within reach of a step."""
    return known.foretells.promise > MUCH and not known.foretells.is_settled(1.0)


def _nearer(criterion: MixedCriterion, point: np.ndarray, known: Known) -> np.ndarray | None:
    """Return a better start where a point is far from the end, None elsewhere.

    By Fisher's scoring, or, where that is not known, by larger covariances.
    """
    if not is_far(known):
        return None
    scored = criterion.scored()
    if scored is not None:
        return scored
    P = criterion.parametrization
    k = P.n_par
    if known.gradient[:k] @ point[:k] > -STEEP:
        return None
    return np.concatenate([P.resized(point[:k], LARGER), point[k:]])
