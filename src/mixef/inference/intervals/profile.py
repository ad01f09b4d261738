"""Likelihood profiles: how the deviance rises as one parameter moves away from its estimate.

For each parameter, ``zeta = sign(value - estimate) sqrt(d(value) - d_min)``, with d minus twice
the log-likelihood at the best values of all others (D. M. Bates and D. G. Watts, 1988, Nonlinear
Regression Analysis and Its Applications, section 6.1; Bates, Maechler, Bolker and Walker, 2015,
section 5.1). A linear model is profiled by maximum likelihood.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import partial
from typing import Any

import numpy as np

from mixef import checks
from mixef.errors import ConvergenceWarning, FitError, warn
from mixef.estimation.fit import Fit
from mixef.estimation.profile.constrained import HeldMinimum, Point, without_either
from mixef.estimation.profile.full_deviance import State
from mixef.inference.intervals.curves import (
    USUAL,
    Curve,
    End,
    Kind,
    Profile,
    origin_slope,
    parameter,
)
from mixef.inference.intervals.named import (
    Named,
    chosen,
    estimates,
    in_order_of_signs,
    named_parameters,
    values_at,
)
from mixef.inference.replicates import in_parallel
from mixef.inference.tails import normal_quantile
from mixef.linalg.threads import one_blas_thread

# Points on one side of the estimate, at most.
MOST_POINTS = 60
# A step of zeta may be so much larger than was asked for ...
OVERSHOOT = 2.0
# ... and a step of the parameter so much larger than the one before; after so many steps that
# should have been longer still, zeta levels off.
GROWTH, LEVELLING = 3.0, 8
# A deviance this far below that of the fit means that the fit is not at the minimum.
LOWER = 1e-5
# How closely points are put where an interval ends, in units of zeta: so near to a point
# interpolation is exact to the last digits.
CLOSE, CORRECTIONS = 1e-5, 5
# Neighbours that foretell a point, and how much farther from a line through two of them than the
# line itself goes the polynomial through all of them may be.
NEIGHBOURS, KINK = 6, 1.0
# A point is far from others when the nearest is farther than this share of the farthest of them.
FAR = 0.6


@dataclass(frozen=True)
class Better:
    """A point with a lower deviance than the fit's."""

    state: State
    gain: float  # By how much it is lower


def trace(
    piece: HeldMinimum,
    name: str,
    kind: Kind,
    describe: Callable[[Sequence[State]], np.ndarray],
    cutoff: float,
    step: float,
    targets: Sequence[float],
    ceiling: Point | None = None,
) -> Curve | Better:
    """Follow the profile from the estimate to both sides, until zeta is ``cutoff``.

    Points are ``step`` apart in zeta, with some exactly at ``targets``. ``describe`` gives the
    values of all parameters (m, K) of states. ``ceiling`` is a model that every value of the
    parameter is next to: the profile never rises above it.
    """
    origin, low_high = piece.origin, parameter(kind, np.array(piece.bounds))
    bounds = float(low_high[0]), float(low_high[1])
    if np.isnan(origin.at):
        none = np.empty(0)
        return Curve(name, kind, none, none, none, describe([])[:0], ("bound", "bound"), bounds)
    path = _Path(piece, ceiling)
    ends = path.follow(-1.0, cutoff, step), path.follow(1.0, cutoff, step)
    for target in targets:
        path.correct(target)
    points = path.points
    lowest = min(points, key=lambda p: p.deviance)
    if lowest.deviance < origin.deviance - LOWER:
        return Better(lowest.state, origin.deviance - lowest.deviance)
    at, zeta, slope = path.curve()
    return Curve(name, kind, at, zeta, slope, describe([p.state for p in points]), ends, bounds)


class _Path:
    """Points of a profile, in the order of the parameter."""

    def __init__(self, piece: HeldMinimum, ceiling: Point | None = None):
        self._piece, self._origin, self._ceiling = piece, piece.origin, ceiling
        self.points: list[Point] = [piece.origin]
        self._guides = [piece.origin]

    def _zeta(self, point: Point) -> float:
        """Return the root of the deviance above the minimum, without its sign."""
        return float(np.sqrt(max(point.deviance - self._origin.deviance, 0.0)))

    def _add(self, point: Point, guide: bool = True) -> None:
        self.points.append(point)
        self.points.sort(key=lambda p: p.at)
        if guide:
            self._guides.append(point)

    def _foreseen(self, at: float) -> np.ndarray:
        """Return the free parameters by the polynomial through the nearest points.

        Far behind the last of them that is a line through two. Where such a line says something
        else altogether, the path has a kink, and the nearest point is the better start.
        """
        near = sorted(self._guides, key=lambda p: abs(p.at - at))[:NEIGHBOURS]
        nearest, line, curve = (_interpolated(near[:k], at) for k in (1, 2, NEIGHBOURS))
        if abs(at - near[0].at) > FAR * abs(at - near[-1].at):
            return line
        bend, move = np.abs(curve - line), np.abs(line - nearest)
        return nearest if bend.max(initial=0.0) > KINK * move.max(initial=0.0) else curve

    def follow(self, sign: float, cutoff: float, step: float) -> End:
        """Go to one side until zeta reaches the cutoff; return why it ended."""
        piece, at, zeta = self._piece, self._origin.at, 0.0
        bound = piece.bounds[0 if sign < 0 else 1]
        move, smallest, levelling = step * piece.step, 1e-6 * step * piece.step, 0
        while len(self.points) < 2 * MOST_POINTS:
            left = abs(bound - at)
            if left <= 0.0:
                return "bound"
            new = bound if move > 0.95 * left else at + sign * move
            try:
                point = self._solved(new)
            except FitError:
                if levelling > 1:
                    return "open"
                if move < smallest:
                    return "failed"
                move *= 0.5
                continue
            reached = self._zeta(point)
            if reached - zeta > OVERSHOOT * step and move > smallest:
                move = abs(new - at) * max(step / (reached - zeta), 0.1)
                continue
            move = abs(new - at)
            at, zeta = new, reached
            self._add(point)
            if point.deviance < self._origin.deviance - LOWER:
                return "failed"
            if zeta >= cutoff:
                return "reached"
            if self._ceiling is not None and point.deviance >= self._ceiling.deviance:
                if new != bound:
                    self._add(replace(point, at=bound), guide=False)
                return "bound"
            rate = abs(point.slope) / (2.0 * zeta) if zeta > 0 else 0.0
            wanted = step / rate if rate > 0 else np.inf
            levelling = levelling + 1 if wanted > GROWTH * move else 0
            if levelling > LEVELLING and not np.isfinite(bound):
                return "open"
            move = min(wanted, GROWTH * move)
        return "open" if levelling else "failed"

    def _solved(self, at: float) -> Point:
        """Return the constrained minimum, searched from the foreseen point or from the nearest."""
        try:
            point = self._piece.solve(at, self._foreseen(at))
        except FitError:
            nearest = min(self._guides, key=lambda p: abs(p.at - at))
            point = self._piece.solve(at, nearest.free)
        top = self._ceiling
        if top is None or point.deviance < top.deviance:
            return point
        return replace(point, deviance=top.deviance, slope=0.0, state=top.state)

    def correct(self, target: float) -> None:
        """Put a point where zeta is the target, if the profile comes there."""
        for _ in range(CORRECTIONS):
            at, zeta, slope = self.curve()
            none = np.empty((0, 0))
            curve = Curve("", "beta", at, zeta, slope, none, ("reached", "reached"))
            place = float(curve.at_zeta(np.array(target)))
            if np.isnan(place) or np.abs(zeta - target).min() < CLOSE or place in at:
                return
            try:
                point = self._solved(place)
            except FitError:
                return
            self._add(point, guide=False)

    def curve(self) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Return coordinates, zeta and its slopes."""
        at = np.array([p.at for p in self.points])
        sign = np.sign(at - self._origin.at)
        size = np.array([self._zeta(p) for p in self.points])
        by_at = np.array([p.slope for p in self.points])
        with np.errstate(divide="ignore", invalid="ignore"):
            slope = sign * by_at / (2.0 * size)
        origin = int(np.flatnonzero(sign == 0.0)[0])
        slope[~np.isfinite(slope)] = 0.0
        slope[origin] = origin_slope(at, sign * size, slope, origin)
        return at, sign * size, slope


def _interpolated(points: Sequence[Point], at: float) -> np.ndarray:
    """Return the free parameters at a value, by the polynomial through points."""
    x = np.array([p.at for p in points])
    gaps = x[:, None] - x + np.eye(len(x))
    reach = at - x + np.zeros_like(gaps)
    np.fill_diagonal(reach, 1.0)
    return (reach / gaps).prod(axis=1) @ np.array([p.free for p in points])


BY_ML = "by maximum likelihood, where the fit is by REML"
BY_LAPLACE = "by Laplace's approximation (nAGQ = 1), where the fit has nAGQ = 0"
# So often a better fit is searched from where a profile finds a lower deviance, with so many
# evaluations at least.
RESTARTS, EVALUATIONS = 3, 1000
# Steps of a profile are no smaller a share of the way than this.
LEAST_STEP = 1e-3


def profile_curves(
    fit: Fit,
    which: Any = None,
    alphamax: float = 0.01,
    delta_cutoff: float = 0.125,
    n_jobs: int = 1,
    progress: bool | None = None,
    signames: bool = False,
) -> Profile:
    """Return the profiles of a fit's parameters; see the method ``profile`` of a model."""
    alphamax, signames = checks.level(alphamax, "alphamax"), checks.flag(signames, "signames")
    delta_cutoff = checks.proportion(delta_cutoff, "delta_cutoff", LEAST_STEP)
    n_jobs, progress = checks.work(n_jobs, progress)
    cutoff = normal_quantile(1.0 - alphamax)
    usual = normal_quantile(USUAL)
    targets = (-usual, usual) if usual < cutoff else (-cutoff, cutoff)
    return _profiled(fit, which, cutoff, delta_cutoff * cutoff, targets, n_jobs, progress, signames)


def interval_curves(
    fit: Fit,
    which: Any,
    level: float,
    n_jobs: int = 1,
    progress: bool | None = None,
    signames: bool = False,
) -> Profile:
    """Return profiles that go as far as intervals of one level, with exact points there."""
    z = normal_quantile(level)
    return _profiled(fit, which, z, z / 3.0, (-z, z), n_jobs, progress, signames)


def _profiled(fit, which, cutoff, step, targets, n_jobs, progress, signames) -> Profile:
    places, asked = chosen(fit, which, signames), fit
    fit, note = profiled_fit(fit)
    gained = 0.0 if note else asked.estimates.objective - fit.estimates.objective
    for _ in range(RESTARTS + 1):
        known = named_parameters(fit)
        task = partial(_followed, fit, cutoff=cutoff, step=step, targets=targets)
        curves = in_parallel(
            task, [(known[a], a) for a in places], n_jobs=n_jobs, progress=progress,
            label="profile",
        )  # fmt: skip
        better = [found for found in curves if isinstance(found, Better)]
        if not better:
            break
        best = max(better, key=lambda found: found.gain)
        refit = _from_state(fit, best.state)
        gained += fit.estimates.objective - refit.estimates.objective
        fit = refit
    if gained > LOWER:
        warn(
            f"the profile found a better fit: -2 log L is {fit.estimates.objective:.6f}, lower "
            f"by {gained:.3g} than where the search had ended; this is the profile of that fit, "
            "and the model should be fitted again from another start (start=)",
            ConvergenceWarning,
        )
    kept = tuple(curve for curve in curves if isinstance(curve, Curve))
    if len(kept) < len(curves):
        raise FitError(
            "the profile found lower and lower deviances, and no fit that they belong to; "
            "check the convergence of the fit, or simplify it"
        )
    _report(kept)
    kinds = tuple(p.kind for p in known)
    found = Profile(kept, tuple(p.name for p in known), kinds, estimates(fit), cutoff, note)
    return _with_signs(found, places, known, in_order_of_signs(fit)) if signames else found


def _with_signs(
    curves: Profile, places: Sequence[int], known: Sequence[Named], order: list[int]
) -> Profile:
    """Return the curves with the names ``.sig01``, ..., and all parameters in their order."""
    return replace(
        curves,
        curves=tuple(
            replace(curve, name=known[a].sign, others=curve.others[:, order])
            for a, curve in zip(places, curves.curves, strict=True)
        ),
        names=tuple(known[a].sign for a in order),
        kinds=tuple(known[a].kind for a in order),
        estimates=curves.estimates[order],
    )


def _followed(
    fit: Fit,
    item: tuple[Named, int],
    cutoff: float,
    step: float,
    targets: Sequence[float],
) -> Curve | Better:
    named, place = item

    def describe(states: Sequence[State]) -> np.ndarray:
        return values_at(fit, states)

    with one_blas_thread():
        piece = HeldMinimum(fit, named.focus)
        ceiling = without_either(fit, named.focus) if named.kind == "cor" else None
        found = trace(piece, named.name, named.kind, describe, cutoff, step, targets, ceiling)
    if isinstance(found, Curve):
        found.others[:, place] = parameter(found.kind, found.at)  # free of rounding
    return found


def profiled_fit(fit: Fit) -> tuple[Fit, str]:
    """Return the fit that is profiled, at the minimum of its likelihood, and how it differs.

    That is by maximum likelihood, and with coefficients that maximize it too.
    """
    note = BY_ML if fit.REML else BY_LAPLACE if fit.nAGQ == 0 else ""
    at_minimum = fit.control.optimizer == "newton" and fit.convergence.converged
    return (fit if at_minimum and not note else _again(fit, fit.warm_start())), note


def _again(fit: Fit, start: Any) -> Fit:
    """Fit again by maximum likelihood, to the end, and without warnings."""
    control = replace(
        fit.control.quiet(),
        optimizer="newton",
        max_evaluations=max(fit.control.max_evaluations, EVALUATIONS),
    )
    return fit.again(kind=fit.kind.by_likelihood(), control=control, start=start)


def _from_state(fit: Fit, state: State) -> Fit:
    """Fit again from a point that a profile found."""
    par = fit.problem.terms.parametrization.par_of(state.lams)
    return _again(fit, fit.warm_start(par=par, beta=state.beta, extra=state.scale))


def _report(curves: Sequence[Curve]) -> None:
    """Warn of profiles that could not be followed to their end."""
    for curve in curves:
        if "failed" not in curve.ends:
            continue
        reached = parameter(curve.kind, curve.at).tolist()
        sides = zip(curve.ends, ("below", "above"), (reached[0], reached[-1]), strict=True)
        for end, side, value in sides:
            if end == "failed":
                warn(
                    f"the profile of {curve.name} could not be followed {side} {value:.4g}, where "
                    "the likelihood cannot be computed; that end of its interval is NaN",
                    ConvergenceWarning,
                )
