"""The search with its certificate of singular ends, for any criterion of mixed models."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Protocol, Self

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

    def turned(self, par: np.ndarray) -> tuple[Self, np.ndarray]:
        """Return the criterion on the principal axes at ``par``, and ``par`` in them."""

    def is_askew(self, par: np.ndarray) -> bool:
        """Tell whether turning helps."""

    def plain(self, other: Self, par: np.ndarray) -> np.ndarray:
        """Return the parameters of this criterion at those of a turned one."""


class MovingAxes:
    """A criterion on axes that follow the covariances where they become singular."""

    def __init__(self, criterion: MixedCriterion):
        self._origin = self.view = criterion

    def value(self, par: np.ndarray) -> float:
        """Return the criterion."""
        return self.view.value(par)

    def derivatives(self) -> tuple[np.ndarray, np.ndarray]:
        """Return gradient and information at the last value."""
        return self.view.derivatives()

    def scale(self, par: np.ndarray) -> np.ndarray:
        """Return the size of a change of each parameter that counts as large."""
        return self.view.scale(par)

    def rounding(self) -> float:
        """Return the size of rounding errors in the last value."""
        return self.view.rounding()

    def turn(self, par: np.ndarray) -> np.ndarray | None:
        """Go to the principal axes where that helps; return the point there."""
        if not self.view.is_askew(par):
            return None
        self.view, point = self.view.turned(par)
        return point

    def back(self, par: np.ndarray) -> np.ndarray:
        """Return a point in the coordinates of the start."""
        return par if self.view is self._origin else self._origin.plain(self.view, par)


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
    axes = MovingAxes(criterion)
    result = newton(axes, start, control.max_evaluations, trace, axes)
    snapped = axes.view.canonical(result.par, VANISHING)
    plain = axes.view.canonical(result.par)
    left = control.max_evaluations - result.n_evaluations
    if not np.array_equal(snapped, plain) and left > 0 and axes.value(snapped) <= result.objective + VANISHING_COST:
        again = newton(axes, snapped, left, trace, axes)
        result = replace(
            again,
            n_evaluations=result.n_evaluations + again.n_evaluations,
            log=result.log + again.log,
        )
    if axes.view is criterion:
        return result
    par = axes.back(result.par)
    objective = criterion.value(par)
    g, H = criterion.derivatives()
    return replace(result, par=par, objective=objective, gradient=g, information=H)
