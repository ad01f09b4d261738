"""Searches for the minimum of a criterion with exact gradient.

The Newton search works in a trust region, with the exact Hessian or an average-information matrix;
SciPy's searches are offered beside it for comparison.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Protocol

import numpy as np
import scipy

from mixef.errors import FitError


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

    def __repr__(self) -> str:
        return f"<Step: objective {self.objective:.10g}, largest gradient {self.max_gradient:.3g}>"


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
DECREMENT = 1e-12
# Below this gain the criterion is as good as quadratic, and a first secant is to be trusted.
QUADRATIC_GAIN = 3e-3
# ... and below this one, corrections that have held so far.
LEARNING_GAIN = 1.0
# A direction is flat when its curvature for a change by natural units is below this ...
FLAT = 1e-5
# ... and its slope, which rounding keeps from zero, is below this.
STILL = 1e-6


def newton(
    criterion: Criterion,
    par: np.ndarray,
    max_evaluations: int = 1000,
    trace: Callable[[Step], None] | None = None,
) -> SearchResult:
    """Minimize by Newton steps inside a trust region.

    The subproblem is solved exactly, so negative curvature (a saddle) is left by itself.

    Parameters
    ----------
    par : ndarray (k,)
        Where to start.
    trace : callable, optional
        Called with every `Step`.
    """
    recorder = _Recorder(trace)
    f = criterion.value(par)
    first = derivatives_at(criterion)
    if first is None:
        raise FitError(
            "the criterion has no finite derivatives at the starting values: means or weights "
            "overflow there; rescale the response or the offset, or start elsewhere (start=)"
        )
    g, H = first
    recorder.add(par, f, g)
    radius, correction, corrected = 1.0, np.zeros_like(H), False
    while True:
        unit = criterion.scale(par)
        slope, units = g * unit, np.outer(unit, unit)
        if expected_gain(slope, H * units) < DECREMENT:
            message = "the exact gradient vanishes"
            break
        if len(recorder.log) >= max_evaluations:
            message = "the largest number of evaluations was reached"
            break
        model = H + correction if corrected else H
        step, gain = trust_region_step(slope, model * units, radius)
        move = unit * step
        new = par + move
        f_new = criterion.value(new)
        length = float(np.linalg.norm(step))
        # Below this the criterion's own rounding decides, not the step.
        noise = 1e-13 * abs(f)
        ratio = (f - f_new + noise) / (gain + noise)
        found = derivatives_at(criterion) if ratio > 1e-4 else None
        if found is None:
            recorder.add(new, f_new, None)
            radius, corrected = 0.25 * length, False
            if radius < 1e-9:
                message = "no smaller value can be found along the gradient"
                break
            continue
        radius = _next_radius(radius, length, ratio)
        # What the last steps taught is used where it foretold this step's fall no worse than the
        # information alone did; far from the end only if that promised too little.
        fall = f - f_new
        plain = -float(g @ move) - 0.5 * float(move @ H @ move)
        learnt = plain - 0.5 * float(move @ correction @ move)
        near = LEARNING_GAIN if correction.any() else QUADRATIC_GAIN
        corrected = abs(learnt - fall) <= abs(plain - fall) and (ratio > 1.25 or gain < near)
        if not corrected:
            correction = np.zeros_like(H)
        g_old, par, f, (g, H) = g, new, f_new, found
        recorder.add(par, f, g)
        correction = _secant(correction, H, move, g - g_old)
    return SearchResult(par, f, g, H, len(recorder.log), tuple(recorder.log), message)


def _next_radius(radius: float, length: float, ratio: float) -> float:
    """Return the trust radius after a step of some length, by what it gained of its promise."""
    if ratio > 0.75 and length > 0.9 * radius:
        return 2.5 * radius
    return 0.5 * length if ratio < 0.25 else radius


def derivatives_at(criterion: Criterion) -> tuple[np.ndarray, np.ndarray] | None:
    """Return gradient and information at the last value, None where they are not finite."""
    try:
        g, H = criterion.derivatives()
    except FitError:
        return None
    return (g, H) if np.isfinite(g).all() and np.isfinite(H).all() else None


def _secant(
    correction: np.ndarray, H: np.ndarray, step: np.ndarray, change: np.ndarray
) -> np.ndarray:
    """Correct H (k, k) so that it maps the last step to the change of gradient that it made.

    Symmetric rank one: what the information leaves out of the Hessian is learnt on the way, which
    turns linear convergence into superlinear (Conn, Gould and Toint, 1991, Mathematical
    Programming 50, 177-195).
    """
    rest = change - (H + correction) @ step
    along = float(rest @ step)
    if abs(along) <= 1e-6 * np.linalg.norm(rest) * np.linalg.norm(step):
        return correction
    return correction + np.outer(rest, rest) / along


def scipy_search(
    criterion: Criterion,
    par: np.ndarray,
    method: str,
    max_evaluations: int = 1000,
    trace: Callable[[Step], None] | None = None,
) -> SearchResult:
    """Minimize by one of SciPy's searches, for comparison.

    Parameters
    ----------
    method : str
        "L-BFGS-B", which uses the exact gradient, or a derivative-free method.
    """
    recorder = _Recorder(trace)
    with_gradient = method == "L-BFGS-B"

    def evaluate(x):
        f = criterion.value(x)
        g = criterion.derivatives()[0] if with_gradient and np.isfinite(f) else None
        recorder.add(x, f, g)
        return (f, np.zeros_like(x) if g is None else g) if with_gradient else f

    options = {
        "L-BFGS-B": {"maxfun": max_evaluations, "ftol": 1e-15, "gtol": 1e-6},
        "Nelder-Mead": {"maxfev": max_evaluations, "xatol": 1e-7, "fatol": 1e-9},
        "Powell": {"maxfev": max_evaluations, "xtol": 1e-7, "ftol": 1e-14},
        "COBYLA": {"maxiter": max_evaluations, "tol": 1e-8},
    }[method]
    found = scipy.optimize.minimize(
        evaluate, par, method=method, jac=with_gradient, options=options
    )
    f = criterion.value(found.x)
    g, H = criterion.derivatives()
    return SearchResult(
        found.x, f, g, H, len(recorder.log), tuple(recorder.log), str(found.message)
    )


class _Recorder:
    """Keeps the log of a search and passes each step on."""

    def __init__(self, trace: Callable[[Step], None] | None):
        self.log: list[Step] = []
        self._trace = trace

    def add(self, par: np.ndarray, objective: float, gradient: np.ndarray | None) -> None:
        largest = np.nan if gradient is None else float(np.abs(gradient).max(initial=0.0))
        self.log.append(Step(np.array(par), float(objective), largest))
        if self._trace:
            self._trace(self.log[-1])


def expected_gain(g: np.ndarray, H: np.ndarray) -> float:
    """Return what a Newton step promises to gain, flat directions left aside.

    Parameters
    ----------
    g, H : ndarray (k,), (k, k)
        For parameters in their natural units.
    """
    value, vector = np.linalg.eigh(H)
    slope = vector.T @ g
    curved = (np.abs(value) > FLAT) | (np.abs(slope) > STILL)
    if value[curved].min(initial=1.0) > 0.0:
        step = slope[curved] / value[curved]
        if step @ step <= 1.0:
            return 0.5 * float(slope[curved] @ step)
    return trust_region_step(slope[curved], np.diag(value[curved]), radius=1.0)[1]


def trust_region_step(g: np.ndarray, H: np.ndarray, radius: float) -> tuple[np.ndarray, float]:
    """Minimize ``g's + s'Hs/2`` over ``|s| <= radius``; return s and the gain.

    Exact, by the eigenvalues of H, the hard case included: where g has no part along the lowest,
    negative eigenvalue, the step goes that way to the boundary (More and Sorensen, 1983).
    """
    if not len(g):
        return np.zeros(0), 0.0
    value, vector = np.linalg.eigh(H)
    gv = vector.T @ g
    low = value[0]
    scale = max(abs(value[0]), abs(value[-1]), 1e-100)

    def step_at(shift):
        return -gv / (value + shift)

    if low > 1e-14 * scale:
        s = step_at(0.0)
        if s @ s <= radius**2:
            return vector @ s, float(-(gv @ s) - 0.5 * (value * s) @ s)
    shift_min = max(0.0, -low) + 1e-14 * scale
    s = step_at(shift_min)
    if s @ s < radius**2:
        if low < -1e-10 * scale:  # hard case: along the lowest eigenvector to the boundary
            rest = s[1:] @ s[1:]
            s[0] = np.copysign(np.sqrt(radius**2 - rest), -gv[0] if gv[0] else 1.0)
    else:
        lo, hi = shift_min, np.linalg.norm(g) / radius + abs(low)
        for _ in range(60):
            mid = 0.5 * (lo + hi)
            s = step_at(mid)
            lo, hi = (mid, hi) if s @ s > radius**2 else (lo, mid)
        s = step_at(hi)
    return vector @ s, float(-(gv @ s) - 0.5 * (value * s) @ s)
