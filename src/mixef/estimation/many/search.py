"""Newton's search in a trust region for many criteria at once, with their exact Hessians.

Every criterion takes the straight steps of `optimize.newton` and `certified.search`, with a radius
of its own; those that have ended wait for the others.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from mixef.estimation.many.criterion import BatchCriterion
from mixef.estimation.search.certified import VANISHING, VANISHING_COST
from mixef.estimation.search.optimize import DECREMENT
from mixef.estimation.search.trust_region import ACCEPTED, next_radius, promises, steps_along


@dataclass
class BatchSearch:
    """Where the searches stand; arrays by response."""

    par: np.ndarray  # (m, k)
    objective: np.ndarray  # (m,): infinite where the criterion could not be computed at the start
    gain: np.ndarray  # (m,): what one more step promises, or did where the search ended
    n_evaluations: np.ndarray  # int (m,)


def search_all(criterion: BatchCriterion, par: np.ndarray, max_evaluations: int) -> BatchSearch:
    """Search from parameters (m, k); go on where templates end with vanishing diagonals.

    There the template is brought to the form with zero columns, as in `certified.search`: a saddle
    is left by the negative curvature that it has there.
    """
    state = BatchSearch(
        par.copy(), np.full(len(par), np.inf), np.full(len(par), np.inf),
        np.zeros(len(par), dtype=int),
    )  # fmt: skip
    _newton(criterion, state, np.arange(len(par)), max_evaluations)
    canonical = criterion.model.templates.parametrization.canonical
    snapped = canonical(state.par, VANISHING)
    moved = (snapped != canonical(state.par)).any(axis=1)
    which = np.flatnonzero(
        moved & np.isfinite(state.objective) & (state.n_evaluations < max_evaluations)
    )
    if which.size:
        cost = criterion.value(snapped[which], which).objective - state.objective[which]
        which = which[cost <= VANISHING_COST]
        state.par[which] = snapped[which]
        _newton(criterion, state, which, max_evaluations)
    return state


def _newton(
    criterion: BatchCriterion, state: BatchSearch, active: np.ndarray, max_evaluations: int
) -> None:
    """Bring the ``active`` searches of ``state`` to their ends."""
    if not active.size:
        return
    f, g, H = _evaluate(criterion, state.par[active], active)
    state.objective[active] = f
    state.n_evaluations[active] += 1
    radius = np.ones(len(active))
    keep = np.isfinite(f)
    active, f, g, H, radius = (a[keep] for a in (active, f, g, H, radius))
    while active.size:
        par = state.par[active]
        unit = criterion.scale(par)
        value, vector = np.linalg.eigh(H * unit[:, :, None] * unit[:, None, :])
        slope = np.matmul((g * unit)[:, None, :], vector)[:, 0]
        state.gain[active] = promises(slope, value)
        step, gain = steps_along(slope, value, radius)
        keep = state.gain[active] >= DECREMENT
        keep &= (state.n_evaluations[active] < max_evaluations) & (radius >= 1e-9)
        if not keep.all():
            active, par, f, g, H, radius = (a[keep] for a in (active, par, f, g, H, radius))
            unit, vector, step, gain = (a[keep] for a in (unit, vector, step, gain))
            if not active.size:
                break
        new = par + unit * np.matmul(vector, step[:, :, None])[:, :, 0]
        f_new, g_new, H_new = _evaluate(criterion, new, active)
        state.n_evaluations[active] += 1
        length = np.sqrt((step**2).sum(axis=1))
        # Below this the criterion's own rounding decides, not the step.
        noise = 1e-13 * np.abs(f)
        ratio = (f - f_new + noise) / (gain + noise)
        better = ratio > ACCEPTED
        radius = next_radius(radius, length, ratio)
        f, g, H = f.copy(), g.copy(), H.copy()
        f[better], g[better], H[better] = f_new[better], g_new[better], H_new[better]
        state.par[active[better]] = new[better]
        state.objective[active[better]] = f_new[better]


def _evaluate(
    criterion: BatchCriterion, par: np.ndarray, which: np.ndarray
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Return values, gradients and Hessians; infinite values where one is not finite."""
    at = criterion.value(par, which)
    g, H = criterion.derivatives(par, at)
    fine = np.isfinite(g).all(axis=1) & np.isfinite(H).all(axis=(1, 2))
    return np.where(fine, at.objective, np.inf), g, H
