"""Newton's search in a trust region for many criteria at once, with their exact Hessians.

Every criterion takes the steps that `optimize.newton` and `search.search` would take, with a radius
of its own; those that have ended wait for the others.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from mixef.estimation.many.criterion import BatchCriterion
from mixef.estimation.many.model import LinearTemplates
from mixef.estimation.search.certified import VANISHING, VANISHING_COST
from mixef.estimation.search.optimize import DECREMENT, FLAT, STILL

# Halvings of the interval in which a step's multiplier lies.
HALVINGS = 60


@dataclass
class BatchSearch:
    """Where the searches stand; arrays by response."""

    par: np.ndarray  # (m, k)
    objective: np.ndarray  # (m,): infinite where the criterion could not be computed at the start
    gain: np.ndarray  # (m,): what one more step promises, or did where the search ended
    n_evaluations: np.ndarray  # int (m,)


def search_all(criterion: BatchCriterion, par: np.ndarray, max_evaluations: int) -> BatchSearch:
    """Search from parameters (m, k); go on where templates end with vanishing diagonals.

    There the template is brought to the form with zero columns, as in `search.search`: a saddle
    is left by the negative curvature that it has there.
    """
    state = BatchSearch(
        par.copy(), np.full(len(par), np.inf), np.full(len(par), np.inf),
        np.zeros(len(par), dtype=int),
    )  # fmt: skip
    _newton(criterion, state, np.arange(len(par)), max_evaluations)
    templates = criterion.model.templates
    snapped = canonical(templates, state.par, VANISHING)
    moved = (snapped != canonical(templates, state.par)).any(axis=1)
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
        state.gain[active] = expected_gains(slope, value)
        step, gain = trust_region_steps(slope, value, radius)
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
        better = ratio > 1e-4
        wide = better & (ratio > 0.5) & (length > 0.9 * radius)
        radius = np.where(wide, 2.5 * radius, np.where(better, radius, 0.25 * length))
        radius = np.where(better & (ratio < 0.25), 0.5 * length, radius)
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


def expected_gains(slope: np.ndarray, value: np.ndarray) -> np.ndarray:
    """Return what Newton steps promise (m,), as `Quadratic.promise` does.

    Parameters
    ----------
    slope, value : ndarray (m, k)
        Gradients along the eigenvectors of the Hessians, and their eigenvalues, for parameters in
        their natural units.
    """
    curved = (np.abs(value) > FLAT) | (np.abs(slope) > STILL)
    ones = np.ones(len(slope))
    return trust_region_steps(np.where(curved, slope, 0.0), np.where(curved, value, 1.0), ones)[1]


def trust_region_steps(
    slope: np.ndarray, value: np.ndarray, radius: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """Minimize ``g's + s'Hs/2`` over ``|s| <= radius`` along the eigenvectors of every H.

    As `Quadratic.step` does, the hard case included.

    Returns
    -------
    steps (m, k), gains (m,)
    """
    low = value.min(axis=1)
    scale = np.maximum(np.abs(value).max(axis=1), 1e-100)
    definite = low > 1e-14 * scale
    least = np.where(definite, 0.0, np.maximum(0.0, -low) + 1e-14 * scale)
    step = -slope / (value + least[:, None])
    long = (step**2).sum(axis=1) > radius**2
    if long.any():
        g, v, r = slope[long], value[long], radius[long]
        down = least[long]
        up = np.maximum(down, np.sqrt((g**2).sum(axis=1)) / r + np.abs(low[long]))
        for _ in range(HALVINGS):
            middle = 0.5 * (down + up)
            outside = ((g / (v + middle[:, None])) ** 2).sum(axis=1) > r**2
            down, up = np.where(outside, middle, down), np.where(outside, up, middle)
        step[long] = -g / (v + up[:, None])
    hard = ~long & (low < -1e-10 * scale)
    if hard.any():  # along the lowest eigenvector to the boundary
        row, column = np.flatnonzero(hard), value[hard].argmin(axis=1)
        rest = (step[hard] ** 2).sum(axis=1) - step[row, column] ** 2
        along = np.sqrt(np.maximum(radius[hard] ** 2 - rest, 0.0))
        step[row, column] = np.where(slope[row, column] > 0, -along, along)
    gain = -(slope * step).sum(axis=1) - 0.5 * (value * step**2).sum(axis=1)
    return step, gain


def canonical(templates: LinearTemplates, par: np.ndarray, floor: float = 0.0) -> np.ndarray:
    """Return the parameters (m, k) of `Parametrization.canonical` for every row of par."""
    pairs = zip(templates.parametrization.structures, templates.term_lams(par), strict=True)
    return np.concatenate([s.coordinates(lam, floor) for s, lam in pairs], axis=1)
