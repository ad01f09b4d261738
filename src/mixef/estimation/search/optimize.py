"""Newton's search for the minimum of a criterion with exact gradient.

It works in a trust region, with the exact Hessian or an average-information matrix.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from enum import Enum
from typing import NamedTuple

import numpy as np

from mixef.errors import FitError
from mixef.estimation.search.criteria import Axes, Criterion
from mixef.estimation.search.trust_region import ACCEPTED, Quadratic, next_radius

Until = Callable[[np.ndarray, float], "StopReason | None"]


class StopReason(Enum):
    """Why a search stopped; a member's value is the sentence that the user reads."""

    OPTIMUM = "the exact gradient vanishes"
    ROUNDING = "the exact gradient vanishes up to rounding"
    ERROR = "the estimated gradient vanishes within its standard error"
    EVALUATIONS = "the largest number of evaluations was reached"
    KNOWN_END = "the search has come back to an end of another one"
    RUNAWAY = "the random effects predict every response, and grow for ever"
    BEYOND = "the random effects grow beyond what the responses can tell"
    NO_DESCENT = "no smaller value can be found along the gradient"
    TOLERANCE = "the optimizer met its own tolerance"
    GAVE_UP = "the optimizer gave up before it met its tolerance"


@dataclass(frozen=True)
class Step:
    """One evaluation in a search's log."""

    par: np.ndarray
    objective: float
    max_gradient: float
    n_passes: int = 0  # over the rows so far, where they are not in memory

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
    foretells: Quadratic  # what gradient and information do, in natural units


class Known(NamedTuple):
    """What a criterion is at the point where it stands."""

    value: float
    gradient: np.ndarray  # (k,)
    information: np.ndarray  # (k, k)
    foretells: Quadratic


# The search ends when the model promises to gain less than this (in units of the criterion,
# where a change of 1e-3 of an estimate's standard error costs 1e-6).
DECREMENT = 1e-12
# Below this promise a sharper Hessian is worth its price: further away, where it is indefinite and
# changes much, the information leads there in fewer steps.
NEAR = 1.0
# ... and another one, once the promise has fallen to this share, or a step has gained more or less
# than it promised by more than that one.
NEARER, OFF = 0.01, 0.25
# Below this gain the criterion is as good as quadratic, and a first secant is to be trusted.
QUADRATIC_GAIN = 3e-3
# ... and below this one, corrections that have held so far.
LEARNING_GAIN = 1.0
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
    until: Until | None = None,
    known: Known | None = None,
    knows_hessian: bool = False,
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
        Given a point and its value, returns a reason to stop there, or None.
    known : Known, optional
        What the criterion is at ``par``, where it stands.
    knows_hessian : bool
        Whether the information is the exact Hessian, where no axes tell.
    """
    recorder = Recorder(trace, axes)
    f, g, H, here = known or _known(criterion, par)
    is_rough = axes is not None and axes.is_rough
    recorder.add(par, f, g)
    learns = not (knows_hessian if axes is None else axes.knows_hessian)
    radius, secants, patience = 1.0, _Secants(len(par)), _Patience()
    unit, ahead = criterion.scale(par), here
    while True:
        promise, reason = here.promise, None
        if promise < DECREMENT:
            reason = StopReason.OPTIMUM
        elif len(recorder.log) >= max_evaluations:
            reason = StopReason.EVALUATIONS
        elif until is not None:
            reason = until(par, f)
        if reason is None:
            bent = None if axes is None else axes.bent(par, here, radius)
            step, gain = ahead.step(radius) if bent is None else bent
            visible = VISIBLE * criterion.rounding()
            hidden = gain < visible
            if patience.ends(promise, hidden):
                reason, promise = StopReason.ROUNDING, here.promise_of_size()
        if reason is not None:
            if not is_rough:
                break
            f, g, H, here = _refined(axes, par)
            ahead, is_rough = here, False
            continue
        new, move, length = par + unit * step, unit * step, _length(step)
        # Secants, which learn from differences of gradients, need exact ones.
        f_new = criterion.value(new) if axes is None or learns else axes.value(new, gain)
        found, turned = None, None
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
            if is_rough:  # so may the rise be
                f, g, H, here = _refined(axes, par)
                ahead, is_rough = here, False
            ahead = secants.distrusted(ahead, g, H, unit)
            if radius < 1e-9:
                # Negative curvature that no step bears out is the information's error.
                promise = here.promise_of_size()
                vanishes = promise < DECREMENT
                reason = StopReason.ROUNDING if vanishes else StopReason.NO_DESCENT
                break
            continue
        radius = float(next_radius(radius, length, fall / gain))
        if turned is not None:
            new, secants = turned, _Secants(len(par))
        elif learns:
            secants.learn(g, H, move, fall, gain, found[0])
        par, f, (g, H) = new, f_new, found
        unit = criterion.scale(par)
        here = Quadratic(g, H, unit)
        ahead = secants.ahead(here, axes, g, H, unit, radius) if learns else here
        is_rough = axes is not None and axes.is_rough
        recorder.add(par, f, g)
    log = tuple(recorder.log)
    return SearchResult(par, f, g, H, len(log), log, reason, promise, here)


class _Secants:
    """What the last steps taught about the part of the Hessian that the information leaves out.

    Symmetric rank one corrections, which turn linear convergence into superlinear (Conn, Gould
    and Toint, 1991, Mathematical Programming 50, 177-195).
    """

    def __init__(self, size: int):
        self._correction = np.zeros((size, size))
        self.trusted = False
        self._sharp, self._promise = False, NEAR
        self._last_sharp = np.zeros((size, size))

    def ahead(
        self,
        here: Quadratic,
        axes: Axes | None,
        g: np.ndarray,
        H: np.ndarray,
        unit: np.ndarray,
        radius: float,
    ) -> Quadratic:
        """Return what the corrected information foretells, where the plain one does ``here``.

        Near the end the correction comes from a sharper Hessian: again once that is nearer, and
        wherever there is no minimum within reach, which secants foresee without ground.
        """
        model = Quadratic(g, H + self._correction, unit) if self.trusted else here
        promise, most = (
            (model.promise, self._promise) if model.is_settled(radius) else (here.promise, NEAR)
        )
        if axes is None or not DECREMENT < promise < most:
            return model
        sharp = axes.sharper()
        if sharp is None:
            return model
        self._correction = self._last_sharp = sharp - H
        self.trusted = self._sharp = True
        self._promise = NEARER * model.promise
        return Quadratic(g, sharp, unit)

    def distrusted(
        self, model: Quadratic, g: np.ndarray, H: np.ndarray, unit: np.ndarray
    ) -> Quadratic:
        """Leave secants out of the next step; the last sharp Hessian's correction stays."""
        if self._sharp:
            return model
        self.trusted = bool(self._last_sharp.any())
        if self.trusted:
            self._correction = self._last_sharp
        return Quadratic(g, H + self._last_sharp, unit)

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
            self._correction = self._last_sharp = np.zeros_like(H)
        if not self.trusted or abs(fall - gain) > OFF * gain:
            self._promise = NEAR
        missed = g_new - g - (H + self._correction) @ move
        along = float(missed @ move)
        if abs(along) > 1e-6 * _length(missed) * _length(move):
            self._correction = self._correction + np.outer(missed, missed) / along


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


def _length(v: np.ndarray) -> float:
    return math.sqrt(float(v @ v))


def known_at(criterion: Criterion, point: np.ndarray) -> Known | None:
    """Return what a criterion is at a point, None where it has no finite derivatives."""
    value, found = criterion.value(point), derivatives_at(criterion)
    if found is None:
        return None
    return Known(value, *found, Quadratic(*found, criterion.scale(point)))


def _known(criterion: Criterion, point: np.ndarray) -> Known:
    known = known_at(criterion, point)
    if known is None:
        raise FitError(
            "the criterion has no finite derivatives at the starting values: means or weights "
            "overflow there; rescale the response or the offset, or start elsewhere (start=)"
        )
    return known


def _refined(axes: Axes | None, point: np.ndarray) -> Known:
    """Return with all digits what the criterion is at a point."""
    assert axes is not None
    axes.refine(point)
    return _known(axes, point)


def derivatives_at(criterion: Criterion) -> tuple[np.ndarray, np.ndarray] | None:
    """Return gradient and information at the last value, None where they are not finite."""
    try:
        g, H = criterion.derivatives()
    except FitError:
        return None
    total = np.add.reduce(g) + np.add.reduce(H, axis=None)  # NaN or infinite if an entry is
    return (g, H) if math.isfinite(total) else None


class Recorder:
    """Keeps the log of a search and passes each step on."""

    def __init__(self, trace: Callable[[Step], None] | None, axes: Axes | None):
        self.log: list[Step] = []
        self._trace, self._axes = trace, axes

    def add(self, par: np.ndarray, objective: float, gradient: np.ndarray | None) -> None:
        """Keep an evaluation; ``gradient`` is None where it was not taken."""
        largest = np.nan
        if gradient is not None:
            largest = float(np.maximum.reduce(np.abs(gradient), initial=0.0))
        par = np.array(par) if self._axes is None else self._axes.back(par)
        self.log.append(Step(par, float(objective), largest))
        if self._trace:
            self._trace(self.log[-1])
