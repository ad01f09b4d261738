"""Searches for the minimum of a criterion with exact gradient.

The Newton search works in a trust region, with the exact Hessian or an average-information matrix;
SciPy's searches are offered beside it for comparison.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from enum import Enum
from typing import Protocol

import numpy as np
import scipy

from mixef.errors import FitError
from mixef.linalg import small


class Criterion(Protocol):
    """What a search needs to know about the function that it minimizes."""

    def value(self, par: np.ndarray) -> float:
        """Return the criterion, and remember where."""

    def derivatives(self) -> tuple[np.ndarray, np.ndarray]:
        """Return gradient (k,) and information (k, k) where the last value was taken."""

    def scale(self, par: np.ndarray) -> np.ndarray:
        """Return the size (k,) of a change of each parameter that counts as large."""

    def rounding(self) -> float:
        """Return the size of rounding errors in the last value."""


class Axes(Protocol):
    """Coordinates of a criterion that may change during a search."""

    def turn(self, par: np.ndarray) -> np.ndarray | None:
        """Change coordinates where that helps; return the point of the last value in them."""

    def back(self, par: np.ndarray) -> np.ndarray:
        """Return a point in the coordinates of the start."""

    def sharper(self) -> np.ndarray | None:
        """Return a better Hessian (k, k) than the information at the last value, if there is one.

        It costs about an evaluation, and is asked for near the end alone.
        """


class StopReason(Enum):
    """Why a search stopped; a member's value is the sentence that the user reads."""

    OPTIMUM = "the exact gradient vanishes"
    ROUNDING = "the exact gradient vanishes up to rounding"
    EVALUATIONS = "the largest number of evaluations was reached"
    KNOWN_END = "the search has come back to an end of another one"
    NO_DESCENT = "no smaller value can be found along the gradient"
    TOLERANCE = "the optimizer met its own tolerance"
    GAVE_UP = "the optimizer gave up before it met its tolerance"


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
    """Where a search ended."""

    par: np.ndarray  # (k,)
    objective: float
    gradient: np.ndarray  # (k,)
    information: np.ndarray  # (k, k)
    n_evaluations: int  # evaluations of the criterion
    log: tuple[Step, ...]
    reason: StopReason
    #: What one more step promises, as far as rounding and failed steps do not disprove it.
    expected_gain: float


# The search ends when the model promises to gain less than this (in units of the criterion,
# where a change of 1e-3 of an estimate's standard error costs 1e-6).
DECREMENT = 1e-12
# Below this promise a sharper Hessian is worth its price: further away, where it is indefinite and
# changes much, the information leads there in fewer steps.
NEAR = 1.0
# ... and another one, once the promise has fallen to this share, or a step has gained more or less
# than it promised by more than that one.
NEARER, OFF = 0.01, 0.25
# A step is taken when it gains more than this share of what it promised.
ACCEPTED = 1e-4
# Below this gain the criterion is as good as quadratic, and a first secant is to be trusted.
QUADRATIC_GAIN = 3e-3
# ... and below this one, corrections that have held so far.
LEARNING_GAIN = 1.0
# A direction is flat when its curvature for a change by natural units is below this ...
FLAT = 1e-5
# ... and its slope, which rounding keeps from zero, is below this.
STILL = 1e-6
# A promise below so many times the criterion's rounding cannot be seen in differences of its
# values: there the gradient judges a step.
VISIBLE = 10.0
# ... and after so many steps that did not halve the promise, rounding hides what is left.
PATIENCE = 6


def newton(
    criterion: Criterion,
    par: np.ndarray,
    max_evaluations: int = 1000,
    trace: Callable[[Step], None] | None = None,
    axes: Axes | None = None,
    until: Callable[[np.ndarray, float], bool] | None = None,
) -> SearchResult:
    """Minimize by Newton steps inside a trust region (Nocedal and Wright, algorithm 4.1).

    The subproblem is solved exactly, so negative curvature (a saddle) is left by itself. Every
    step that is taken lowers the criterion visibly, or is one of a few that `PATIENCE` allows, so
    that the search ends whatever rounding does.

    Parameters
    ----------
    par : ndarray (k,)
        Where to start.
    trace : callable, optional
        Called with every `Step`.
    axes : Axes, optional
        Changes the criterion's coordinates on the way. The result is in those of the end, its log
        in those of the start.
    until : callable, optional
        Given a point and its value, says whether the search may stop there.
    """
    recorder = _Recorder(trace, axes)
    f = criterion.value(par)
    first = derivatives_at(criterion)
    if first is None:
        raise FitError(
            "the criterion has no finite derivatives at the starting values: means or weights "
            "overflow there; rescale the response or the offset, or start elsewhere (start=)"
        )
    g, H = first
    recorder.add(par, f, g)
    radius, secants, patience = 1.0, _Secants(len(par)), _Patience()
    unit = criterion.scale(par)
    here = ahead = Quadratic(g, H, unit)
    while True:
        promise = here.promise()
        if promise < DECREMENT:
            reason = StopReason.OPTIMUM
            break
        if len(recorder.log) >= max_evaluations:
            reason = StopReason.EVALUATIONS
            break
        if until is not None and until(par, f):
            reason = StopReason.KNOWN_END
            break
        step, gain = ahead.step(radius)
        visible = VISIBLE * criterion.rounding()
        hidden = gain < visible
        if patience.ends(promise, hidden):
            reason = StopReason.ROUNDING
            promise = here.promise(saddle=False)
            break
        new, move, length = par + unit * step, unit * step, float(np.linalg.norm(step))
        f_new, found, turned = criterion.value(new), None, None
        fall = f - f_new
        if hidden and fall > -visible:
            found = derivatives_at(criterion)
            if found is not None:  # by the trapezoidal rule, exact for a quadratic function
                fall = -0.5 * float((g + found[0]) @ move)
        elif fall > ACCEPTED * gain:
            turned = None if axes is None else axes.turn(new)
            found = derivatives_at(criterion)
        if found is None or not fall > ACCEPTED * gain:
            recorder.add(new, f_new, None)
            radius = 0.25 * length
            ahead = secants.distrusted(ahead, here)
            if radius < 1e-9:
                reason = StopReason.NO_DESCENT
                break
            continue
        radius = _next_radius(radius, length, fall / gain)
        if turned is None:
            secants.learn(g, H, move, fall, gain, found[0])
        else:
            new, secants = turned, _Secants(len(par))
        par, f, (g, H) = new, f_new, found
        unit = criterion.scale(par)
        here = Quadratic(g, H, unit)
        ahead = secants.ahead(here, axes, g, H, unit)
        recorder.add(par, f, g)
    log = tuple(recorder.log)
    return SearchResult(par, f, g, H, len(log), log, reason, promise)


def _next_radius(radius: float, length: float, ratio: float) -> float:
    """Return the trust radius after a step of some length, by what it gained of its promise.

    Where Nocedal and Wright ask for three quarters, half of the promise is enough: likelihoods
    of variances fall off so that far from their optimum every promise is too large.
    """
    if ratio > 0.5 and length > 0.9 * radius:
        return 2.5 * radius
    return 0.5 * length if ratio < 0.25 else radius


class _Secants:
    """What the last steps taught about the part of the Hessian that the information leaves out.

    Symmetric rank one corrections, which turn linear convergence into superlinear (Conn, Gould
    and Toint, 1991, Mathematical Programming 50, 177-195).
    """

    def __init__(self, size: int):
        self._correction = np.zeros((size, size))
        self.trusted = False
        self._sharp, self._promise = False, NEAR

    def ahead(
        self,
        here: Quadratic,
        axes: Axes | None,
        g: np.ndarray,
        H: np.ndarray,
        unit: np.ndarray,
    ) -> Quadratic:
        """Return what the corrected information foretells, where the plain one does ``here``.

        Near the end the correction comes from a sharper Hessian, and again once that is nearer.
        """
        model = Quadratic(g, H + self._correction, unit) if self.trusted else here
        if axes is None or not DECREMENT < model.promise() < self._promise:
            return model
        sharp = axes.sharper()
        if sharp is None:
            return model
        self._correction, self.trusted, self._sharp = sharp - H, True, True
        self._promise = NEARER * model.promise()
        return Quadratic(g, sharp, unit)

    def distrusted(self, model: Quadratic, plain: Quadratic) -> Quadratic:
        """Leave a correction that was not made here out of the next step."""
        self.trusted = self._sharp
        return model if self._sharp else plain

    def learn(
        self,
        g: np.ndarray,
        H: np.ndarray,
        move: np.ndarray,
        fall: float,
        gain: float,
        g_new: np.ndarray,
    ) -> None:
        """Correct the information so that it maps the last move to the change of gradient.

        What was known before is kept where it foretold this fall no worse than the information
        alone did; far from the end only if that promised too little.
        """
        plain = -float(g @ move) - 0.5 * float(move @ H @ move)
        learnt = plain - 0.5 * float(move @ self._correction @ move)
        near = LEARNING_GAIN if self._correction.any() else QUADRATIC_GAIN
        better = abs(learnt - fall) <= abs(plain - fall)
        self.trusted = better and (fall > 1.25 * gain or gain < near)
        self._sharp = False
        if not self.trusted:
            self._correction = np.zeros_like(H)
        if not self.trusted or abs(fall - gain) > OFF * gain:
            self._promise = NEAR
        rest = g_new - g - (H + self._correction) @ move
        along = float(rest @ move)
        if abs(along) > 1e-6 * np.linalg.norm(rest) * np.linalg.norm(move):
            self._correction = self._correction + np.outer(rest, rest) / along


class _Patience:
    """Counts the steps whose promise rounding hides and that do not come nearer to the end."""

    def __init__(self) -> None:
        self._least, self._idle = np.inf, 0

    def ends(self, promise: float, hidden: bool) -> bool:
        """Say whether to give up, before a step."""
        if not hidden or promise < 0.5 * self._least:
            self._least, self._idle = promise if hidden else np.inf, 0
        else:
            self._idle += 1
        return self._idle > PATIENCE


def derivatives_at(criterion: Criterion) -> tuple[np.ndarray, np.ndarray] | None:
    """Return gradient and information at the last value, None where they are not finite."""
    try:
        g, H = criterion.derivatives()
    except FitError:
        return None
    return (g, H) if np.isfinite(g).all() and np.isfinite(H).all() else None


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
    recorder = _Recorder(trace, None)
    with_gradient = method == "L-BFGS-B"

    def evaluate(x: np.ndarray) -> float | tuple[float, np.ndarray]:
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
    unit = criterion.scale(found.x)
    promise = Quadratic(g, H, unit).promise()
    log = tuple(recorder.log)
    return SearchResult(
        found.x, f, g, H, len(log), log, _reason_of(found, max_evaluations), promise
    )


def _reason_of(found: scipy.optimize.OptimizeResult, max_evaluations: int) -> StopReason:
    """Tell why SciPy stopped; its status codes differ by method and release."""
    if found.success:
        return StopReason.TOLERANCE
    return StopReason.EVALUATIONS if found.nfev >= max_evaluations else StopReason.GAVE_UP


class _Recorder:
    """Keeps the log of a search and passes each step on."""

    def __init__(self, trace: Callable[[Step], None] | None, axes: Axes | None):
        self.log: list[Step] = []
        self._trace, self._axes = trace, axes

    def add(self, par: np.ndarray, objective: float, gradient: np.ndarray | None) -> None:
        largest = np.nan if gradient is None else float(np.abs(gradient).max(initial=0.0))
        par = np.array(par) if self._axes is None else self._axes.back(par)
        self.log.append(Step(par, float(objective), largest))
        if self._trace:
            self._trace(self.log[-1])


class Quadratic:
    """What derivatives foretell of a function near a point, by the eigenvalues of its Hessian.

    Parameters
    ----------
    g, H : ndarray (k,), (k, k)
    unit : ndarray (k,), optional
        Natural unit of each parameter, in which steps are; one by default.
    """

    def __init__(self, g: np.ndarray, H: np.ndarray, unit: np.ndarray | None = None):
        if unit is not None:
            g, H = g * unit, H * (unit[:, None] * unit)
        self.values, self.vectors = small.eigh(H)
        self.slopes = self.vectors.T @ g

    def promise(self, saddle: bool = True) -> float:
        """Return what a Newton step promises to gain, flat directions left aside.

        Parameters
        ----------
        saddle : bool
            Believe in negative curvature; else only its size counts.
        """
        value, slope = self.values, self.slopes
        if not saddle:
            value = np.abs(value)
        curved = (np.abs(value) > FLAT) | (np.abs(slope) > STILL)
        if not curved.all():
            value, slope = value[curved], slope[curved]
        if value.min(initial=1.0) > 0.0:
            step = slope / value
            if step @ step <= 1.0:
                return 0.5 * float(slope @ step)
        return _step_along(slope, value, radius=1.0)[1]

    def step(self, radius: float) -> tuple[np.ndarray, float]:
        """Minimize ``g's + s'Hs/2`` over ``|s| <= radius``; return s and the gain.

        Exact (Nocedal and Wright, section 4.3).
        """
        step, gain = _step_along(self.slopes, self.values, radius)
        return self.vectors @ step, gain


def _step_along(g: np.ndarray, value: np.ndarray, radius: float) -> tuple[np.ndarray, float]:
    """Return the step along the eigenvectors of H, for their slopes and eigenvalues, and the gain.

    ``s = -g / (value + shift)``, with the smallest shift that keeps ``|s| <= radius``. In the hard
    case, where g has no part along a lowest, negative eigenvalue, the step goes that way to the
    boundary (More and Sorensen, 1983). The shift is counted from where the lowest denominator
    vanishes, so that it keeps its digits where g hardly has such a part.
    """
    if not len(g):
        return np.zeros(0), 0.0
    order = np.argmin(value)
    low = float(value[order])
    scale = max(float(np.abs(value).max()), 1e-100)
    definite = low > 1e-14 * scale
    base = value if definite else value - low
    # Denominators are base + t; without a shift for a definite H.
    t = 0.0 if definite else 1e-14 * scale + max(low, 0.0)
    s = -g / (base + t)
    if s @ s > radius**2:
        lo, hi = t, float(np.linalg.norm(g)) / radius
        for _ in range(60):
            mid = 0.5 * (lo + hi)
            s = -g / (base + mid)
            lo, hi = (mid, hi) if s @ s > radius**2 else (lo, mid)
        s = -g / (base + hi)
    elif low < -1e-10 * scale:
        rest = s @ s - s[order] ** 2
        s[order] = np.copysign(np.sqrt(radius**2 - rest), -g[order] if g[order] else 1.0)
    return s, float(-(g @ s) - 0.5 * (value * s) @ s)
