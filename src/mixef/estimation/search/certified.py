"""The search with its certificate of singular ends, for any criterion of mixed models.

What the certificate is: eq-beyond-certificate in docs/theory.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from functools import partial

import numpy as np

from mixef.control import Control
from mixef.estimation.search.bends import CovarianceQuadratic
from mixef.estimation.search.convergence import CONVERGED_GAIN
from mixef.estimation.search.criteria import MixedCriterion
from mixef.estimation.search.optimize import (
    SearchResult,
    Step,
    StopReason,
    Until,
    derivatives_at,
    known_at,
    newton,
)
from mixef.estimation.search.scipy_search import scipy_search
from mixef.estimation.search.singular import SINGULAR_TOLERANCE
from mixef.estimation.search.size import Size, in_size, is_far
from mixef.estimation.search.trust_region import FLAT, Quadratic
from mixef.linalg import small

# A diagonal of a template (in units of the scaled columns) that may as well be zero ...
VANISHING = 1e-2
# ... where setting it to zero costs the criterion no more than this.
VANISHING_COST = 1e-8
# A start whose criterion is above that of the usual one by more than this is nowhere near: its
# likelihood is less than a hundredth.
FAR = 10.0
# How much lower a second search has to end for its end to be another one: half of `CONVERGED_GAIN`,
# which either may have left.
DIFFERENT = 1e-6
# It has come back to the first end where its value is above by less than this, and covariances
# and coefficients differ by less than this share of their natural units.
SAME_VALUE, NEAR = 0.03, 0.05
# After so many points where random effects are beyond what the responses tell, a search is stopped:
# raised until the slowest search of the laboratory that has an end there came to it.
MOST_BEYOND = 200
# Steps bend where a straight one would lose so many times its gain by the bend, as far as so many
# evaluations of what is foretold lead, up to so many times as long as the trust region's radius.
# The laboratory's linear searches count more (99 % 27 to 29 for 24 and 25) with 50 evaluations, and
# with steps up to 1.0 or 1.4 times the radius.
BENT, MOST_STEPS, LONGER = 2.0, 11, 2.0
# Beyond so many parameters all steps are straight: with 820, what covariances foretell took a fifth
# of the search, and saved no step.
MOST_BENT = 200
# Natural unit of relative standard deviations that vanish: the mean of eleven rows tells an effect
# of this size as well as not.
LEAST_UNIT = 0.3


class MovingAxes:
    """A criterion on axes that follow the covariances."""

    def __init__(self, criterion: MixedCriterion):
        self._origin = self.view = criterion
        self.knows_hessian = criterion.knows_hessian
        self._foretold: tuple[Quadratic, CovarianceQuadratic | None] | None = None

    def value(self, par: np.ndarray, gain: float = 0.0) -> float:
        """Return the criterion, which may be off by a small share of what the step promises."""
        return self.view.value(par, gain)

    @property
    def is_rough(self) -> bool:
        """Whether the last value is."""
        return self.view.is_rough

    def refine(self, par: np.ndarray) -> None:
        """Go to a point, where derivatives have all digits then."""
        self.view.value(par)
        self.view.refine()

    def derivatives(self) -> tuple[np.ndarray, np.ndarray]:
        """Return gradient and information at the last value."""
        return self.view.derivatives()

    def sharper(self) -> np.ndarray | None:
        """Return a better Hessian than the information at the last value, if there is one."""
        return self.view.sharper()

    def scale(self, par: np.ndarray) -> np.ndarray:
        """Return the size of a change of each parameter that counts as large."""
        return self.view.scale(par)

    def rounding(self) -> float:
        """Return the size of rounding errors in the last value."""
        return self.view.rounding()

    def turn(self, par: np.ndarray) -> np.ndarray | None:
        """Go to the principal axes where that helps; return the point there."""
        turned = self.view.turned(par)
        if turned is None:
            return None
        self.view, point = turned
        return point

    def bent(
        self, par: np.ndarray, here: Quadratic, radius: float
    ) -> tuple[np.ndarray, float] | None:
        """Return a step along a bend, in natural units, and its gain; None where it runs straight.

        Where derivatives, read by covariances, foretell that the straight step loses by the bend
        what it was to gain, and as much again, the step goes on from there towards what they
        foretell as the minimum. It may be longer than the radius, but does not promise more than
        the straight step did: so much is not to be had.
        """
        if len(par) > MOST_BENT:
            return None
        if self._foretold is None or self._foretold[0] is not here:
            self._foretold = here, self.view.in_covariances()
        step, gain = here.step(radius)
        length, model = float(np.linalg.norm(step)), self._foretold[1]
        short = not here.values.max(initial=0.0) * length**3 > gain  # for a bend to matter
        if model is None or short:
            return None
        straight = par + here.unit * step
        fall = -model.value(straight)
        known = known_at(model, straight) if gain - fall > BENT * gain else None
        if known is None:
            return None
        end = newton(model, straight, MOST_STEPS, known=known, knows_hessian=True)
        step, fall = (end.par - par) / here.unit, -end.objective
        fits = 0.0 < fall <= gain and float(np.linalg.norm(step)) <= LONGER * radius
        return (step, fall) if fits else None

    def back(self, par: np.ndarray) -> np.ndarray:
        """Return a point in the coordinates of the start."""
        return par if self.view is self._origin else self._origin.plain(self.view, par)


Trace = Callable[[Step], None]


def search(
    criterion: MixedCriterion,
    start: np.ndarray,
    control: Control,
    trace: Trace | None = None,
    until: Until | None = None,
) -> SearchResult:
    """Search with the optimizer of ``control``; Newton also certifies singular ends.

    Where a template's diagonal vanishes, the template is brought to the form with zero columns,
    whose free entries reach every direction that has no variance, and the search goes on: a
    saddle is left by the negative curvature that it has there.

    Parameters
    ----------
    until : callable, optional
        Given a point and its value, returns a reason to stop there, or None.
    """
    if control.optimizer != "newton":
        return scipy_search(criterion, start, control.optimizer, control.max_evaluations, trace)
    axes, beyond = MovingAxes(criterion), 0

    def settled(par: np.ndarray, value: float) -> StopReason | None:
        return StopReason.ERROR if axes.view.within_error() else None

    def stops(par: np.ndarray, value: float) -> StopReason | None:
        nonlocal beyond
        if axes.view.runs_away():
            return StopReason.RUNAWAY
        beyond += axes.view.is_beyond()
        if beyond > MOST_BEYOND:
            return StopReason.BEYOND
        if settled(par, value):
            return StopReason.ERROR
        return None if until is None else until(axes.back(par), value)

    size = in_size(criterion, start, control.max_evaluations)
    if trace is not None:
        for step in size.before:
            trace(step)
    left = control.max_evaluations - len(size.before) - len(size.beyond)
    told = _after_first(trace, size.beyond)
    result = newton(axes, size.start, left, told, axes, stops, size.known)
    result = _after(_inserted(result, size.beyond), size.before)
    if stops(result.par, result.objective) in (None, StopReason.ERROR):
        result = _certified(axes, result, control.max_evaluations, trace, settled)
    if axes.view is criterion:
        return result
    par = axes.back(result.par)
    criterion.follow(axes.view, par)
    objective = criterion.value(par)
    g, H = criterion.derivatives()
    here = Quadratic(g, H, criterion.scale(par))
    return replace(result, par=par, objective=objective, gradient=g, information=H, foretells=here)


def _after_first(trace: Trace | None, steps: tuple[Step, ...]) -> Trace | None:
    """Return a trace that tells of steps behind the first of a search."""
    if trace is None or not steps:
        return trace
    waiting = [*steps]

    def passed_on(step: Step) -> None:
        trace(step)
        while waiting:
            trace(waiting.pop(0))

    return passed_on


def _inserted(result: SearchResult, steps: tuple[Step, ...]) -> SearchResult:
    """Put steps into a search's log, behind its first."""
    if not steps:
        return result
    log = (*result.log[:1], *steps, *result.log[1:])
    return replace(result, log=log, n_evaluations=len(log))


def _certified(
    axes: MovingAxes,
    result: SearchResult,
    max_evaluations: int,
    trace: Trace | None,
    until: Until,
) -> SearchResult:
    """Set vanishing diagonals to zero, and go on from there.

    Those that the data do not determine stay: nothing says that they vanish.
    """
    snapped = axes.view.canonical(result.par, VANISHING)
    if np.array_equal(snapped, result.par):
        return result
    left = max_evaluations - result.n_evaluations
    curvature = result.information.diagonal() * axes.view.scale(result.par) ** 2
    moved = (snapped != axes.view.canonical(result.par)) & (np.abs(curvature) > FLAT)
    if not moved.any() or left < 1:
        return result
    if not axes.value(snapped) <= result.objective + VANISHING_COST + axes.rounding():
        axes.value(result.par)
        return result
    return _after(newton(axes, snapped, left, trace, axes, until), result.log)


def search_from(
    criterion: MixedCriterion,
    start: np.ndarray,
    usual: np.ndarray,
    control: Control,
    trace: Trace | None = None,
    singular_too: bool = True,
) -> SearchResult:
    """Search from a start that somebody chose, with the ``usual`` one to fall back on.

    Newton's search takes the usual start where that is far better, and after the other where that
    ended above it or at no optimum; or at a singular one (`singular_too`), since there may be
    several of those.
    """
    if control.optimizer != "newton" or control.max_evaluations < 2:
        return search(criterion, start, control, trace)
    at_start, known, size = criterion.value(start), known_at(criterion, start), Size(usual, None)
    if known is None or is_far(known):
        size = in_size(criterion, usual, control.max_evaluations - 1)
    usual, looked = size.start, (*size.before, *size.beyond)
    at_usual = Step(usual, criterion.value(usual), np.nan)
    others = replace(control, max_evaluations=control.max_evaluations - 1 - len(looked))
    if not at_start <= at_usual.objective + FAR:
        first = Step(start, at_start, np.nan)
        told = _after_first(trace, size.before)
        if told is not None:
            told(first)
        others = replace(control, max_evaluations=control.max_evaluations - 1 - len(size.before))
        return _after(search(criterion, usual, others, trace), (first, *size.before))
    looked = (*looked, at_usual)
    result = search(criterion, start, others, _after_first(trace, looked))
    result = _inserted(result, looked)
    left = control.max_evaluations - result.n_evaluations
    settled = result.expected_gain < CONVERGED_GAIN and result.objective <= at_usual.objective
    elsewhere = abs(at_start - at_usual.objective) > SAME_VALUE
    doubtful = singular_too and elsewhere and _is_singular(criterion, result.par)
    if left < 1 or (settled and not doubtful):
        return result
    until = partial(is_back, criterion, result) if settled else None
    again = search(criterion, usual, replace(control, max_evaluations=left), trace, until)
    return better(criterion, result, again)


def _is_singular(criterion: MixedCriterion, par: np.ndarray) -> bool:
    """Tell whether some combination of random effects has no variance."""
    P = criterion.parametrization
    lams = P.term_lams(par[: P.n_par])
    return any(small.singular_values(lam)[-1] < SINGULAR_TOLERANCE for lam in lams)


def better(criterion: MixedCriterion, first: SearchResult, second: SearchResult) -> SearchResult:
    """Return the lower end of two searches, with the evaluations of both."""
    log = first.log + second.log
    if second.objective < first.objective - DIFFERENT:
        return _after(second, first.log)
    criterion.value(first.par)
    return replace(first, log=log, n_evaluations=len(log))


def search_others(
    criterion: MixedCriterion, result: SearchResult, control: Control, trace: Trace | None = None
) -> SearchResult:
    """Search from the other places that the structures know of; return the lowest end."""
    k = criterion.parametrization.n_par
    for par in criterion.parametrization.others(result.par[:k]):
        left = control.max_evaluations - result.n_evaluations
        start = np.append(par, result.par[k:])
        if control.optimizer != "newton" or left < 1:
            break
        if np.isfinite(criterion.value(start)) and derivatives_at(criterion) is not None:
            other = search(
                criterion,
                start,
                replace(control, max_evaluations=left),
                trace,
                partial(is_back, criterion, result),
            )
            result = better(criterion, result, other)
    return result


def is_back(
    criterion: MixedCriterion, end: SearchResult, point: np.ndarray, value: float
) -> StopReason | None:
    """Stop a search that has come so near to the end of another that it would end there."""
    if not -DIFFERENT <= value - end.objective < SAME_VALUE:
        return None
    P = criterion.parametrization
    k = P.n_par
    for lam, at_end in zip(P.term_lams(point[:k]), P.term_lams(end.par[:k]), strict=True):
        unit = np.maximum(np.sqrt((at_end**2).sum(axis=1)), LEAST_UNIT)
        if (np.abs(lam @ lam.T - at_end @ at_end.T) > NEAR * np.outer(unit, unit)).any():
            return None
    apart = np.abs(point - end.par)[k:] > NEAR * criterion.scale(end.par)[k:]
    return None if apart.any() else StopReason.KNOWN_END


def _after(result: SearchResult, log: tuple[Step, ...]) -> SearchResult:
    """Put the log of what came before a search in front of its own."""
    if not log:
        return result
    whole = log + result.log
    return replace(result, log=whole, n_evaluations=len(whole))
