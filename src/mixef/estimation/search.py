"""The search with its certificate of singular ends, for any criterion of mixed models."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Protocol

import numpy as np

from mixef.control import Control
from mixef.estimation.optimize import Criterion, SearchResult, Step, newton, scipy_search

# A diagonal of a template (in units of the scaled columns) that may as well be zero ...
VANISHING = 1e-3
# ... where setting it to zero costs the criterion no more than this.
VANISHING_COST = 1e-8


class MixedCriterion(Criterion, Protocol):
    """A criterion whose parameters hold templates of random effects."""

    def canonical(self, par: np.ndarray, floor: float = 0.0) -> np.ndarray:
        """Return the point with non-negative diagonals, those up to ``floor`` at zero."""


def search(
    criterion: MixedCriterion,
    start: np.ndarray,
    control: Control,
    trace: Callable[[Step], None] | None = None,
) -> SearchResult:
    """Search with the optimizer of ``control``; Newton also certifies singular ends.

    Where a template's diagonal vanishes, the template is brought to the form with zero columns,
    whose free entries reach every direction that has no variance, and the search goes on: a
    saddle is left by the negative curvature that it has there.
    """
    if control.optimizer != "newton":
        return scipy_search(criterion, start, control.optimizer, control.max_evaluations, trace)
    result = newton(criterion, start, control.max_evaluations, trace)
    snapped = criterion.canonical(result.par, VANISHING)
    plain = criterion.canonical(result.par)
    left = control.max_evaluations - result.n_evaluations
    if np.array_equal(snapped, plain) or left < 1:
        return result
    if not criterion.value(snapped) <= result.objective + VANISHING_COST:
        criterion.value(result.par)
        return result
    again = newton(criterion, snapped, left, trace)
    return replace(
        again,
        n_evaluations=result.n_evaluations + again.n_evaluations,
        log=result.log + again.log,
    )
