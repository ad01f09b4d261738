"""Searches for the minimum of a criterion with exact gradient.

The Newton search works in a trust region with an average-information matrix; SciPy's searches
are offered beside it for comparison.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Protocol

import numpy as np
from scipy.linalg import eigh


class Criterion(Protocol):
    """What a search needs to know about the function that it minimizes."""

    def value(self, par: np.ndarray) -> float:
        """Return the criterion, and remember where."""

    def derivatives(self) -> tuple[np.ndarray, np.ndarray]:
        """Return gradient (k,) and information (k, k) where the last value was taken."""

    def scale(self, par: np.ndarray) -> np.ndarray:
        """Return the size (k,) of a change of each parameter that counts as large."""


@dataclass(frozen=True)
class Step:
    """One evaluation in a search's log."""

    par: np.ndarray
    objective: float
    max_gradient: float


@dataclass(frozen=True)
class SearchResult:
    """Where a search ended.

    Attributes
    ----------
    par : ndarray (k,)
    objective : float
    gradient : ndarray (k,)
    information : ndarray (k, k)
    n_evaluations : int
        Evaluations of the criterion.
    log : tuple of Step
    message : str
        Why the search stopped.
    """

    par: np.ndarray
    objective: float
    gradient: np.ndarray
    information: np.ndarray
    n_evaluations: int
    log: tuple[Step, ...]
    message: str


# The search ends when the model promises to gain less than this (in units of the criterion,
# where a change of 1e-3 of an estimate's standard error costs 1e-6).
DECREMENT = 1e-10


def newton(
    criterion: Criterion, par: np.ndarray, max_evaluations: int = 200,
    trace: Callable[[Step], None] | None = None, radius: float = 1.0,
) -> SearchResult:
    """Minimize by Newton steps inside a trust region.

    The subproblem is solved exactly, so negative curvature (a saddle) is left by itself.
    """
    log: list[Step] = []

    def record(x, f, g):
        log.append(Step(x.copy(), f, float(np.abs(g).max(initial=0.0))))
        if trace:
            trace(log[-1])

    f = criterion.value(par)
    g, H = criterion.derivatives()
    record(par, f, g)
    n = 1
    message = "the largest number of evaluations was reached"
    while n < max_evaluations:
        scale = criterion.scale(par)
        step, gain = trust_region_step(g * scale, H * np.outer(scale, scale), radius)
        if gain < DECREMENT:
            message = "the exact gradient vanishes"
            break
        new = par + scale * step
        f_new = criterion.value(new)
        n += 1
        ratio = (f - f_new) / gain
        length = float(np.linalg.norm(step))
        if not f_new < f + 1e-12 * abs(f) or ratio < 1e-4:
            radius = 0.25 * length
            record(new, f_new, np.array([np.nan]))
            if radius < 1e-10:
                message = "no smaller value can be found"
                break
            continue
        if ratio > 0.75 and length > 0.9 * radius:
            radius = 2.5 * radius
        elif ratio < 0.25:
            radius = 0.5 * length
        par, f = new, f_new
        g, H = criterion.derivatives()
        record(par, f, g)
    return SearchResult(par, f, g, H, n, tuple(log), message)


def trust_region_step(
    g: np.ndarray, H: np.ndarray, radius: float
) -> tuple[np.ndarray, float]:
    """Minimize ``g's + s'Hs/2`` over ``|s| <= radius``; return s and the gain.

    Exact, by the eigenvalues of H, the hard case included: where g has no part along the lowest,
    negative eigenvalue, the step goes that way to the boundary (More and Sorensen, 1983).
    """
    value, vector = np.linalg.eigh(H)
    gv = vector.T @ g
    low = value[0]
    scale = max(abs(value[0]), abs(value[-1]), 1e-300)

    def step_at(shift):
        return -gv / (value + shift)

    if low > 1e-14 * scale:
        s = step_at(0.0)
        if np.linalg.norm(s) <= radius:
            return vector @ s, float(-(gv @ s) - 0.5 * (value * s) @ s)
    shift_min = max(0.0, -low) + 1e-14 * scale
    s = step_at(shift_min)
    if np.linalg.norm(s) < radius:
        if low < -1e-10 * scale:  # hard case: along the lowest eigenvector to the boundary
            s[0] += np.copysign(np.sqrt(radius**2 - s @ s), -gv[0] if gv[0] else 1.0)
    else:
        lo, hi = shift_min, np.linalg.norm(g) / radius + abs(low)
        for _ in range(60):
            mid = 0.5 * (lo + hi)
            lo, hi = (mid, hi) if np.linalg.norm(step_at(mid)) > radius else (lo, mid)
        s = step_at(hi)
    return vector @ s, float(-(gv @ s) - 0.5 * (value * s) @ s)
