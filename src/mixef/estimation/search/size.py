"""The size of the covariances that a search starts from."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from mixef.estimation.search.optimize import MixedCriterion, Step, derivatives_at

# Where the criterion falls by so much as the logarithm of all standard deviations grows by one, a
# start is tried with standard deviations so many times as large.
STEEP, LARGER = 15.0, 5.0


@dataclass(frozen=True)
class Size:
    """A start of the right size."""

    start: np.ndarray
    # Value and derivatives, where the criterion stands there
    known: tuple[float, tuple[np.ndarray, np.ndarray]] | None
    #: `before`, `beyond`: the evaluations that led there, and one that went too far.
    before: tuple[Step, ...] = ()
    beyond: tuple[Step, ...] = ()


def in_size(criterion: MixedCriterion, start: np.ndarray, max_evaluations: int) -> Size:
    """Return a start of the right size.

    Where the criterion falls steeply as all covariances grow, Newton's steps, which can double
    them at most, are slow, and can lose on the way directions that a larger start would have kept.
    """
    P = criterion.parametrization
    before: tuple[Step, ...] = ()
    k = P.n_par
    value, found = criterion.value(start), derivatives_at(criterion)
    while found is not None and len(before) + 1 < max_evaluations:
        if found[0][:k] @ start[:k] > -STEEP:
            break
        larger = np.concatenate([P.resized(start[:k], LARGER), start[k:]])
        new = criterion.value(larger)
        if not new < value:
            return Size(start, None, before, (Step(larger, new, np.nan),))
        before = (*before, Step(start, value, float(np.abs(found[0]).max())))
        start, value, found = larger, new, derivatives_at(criterion)
    return Size(start, None if found is None else (value, found), before)
