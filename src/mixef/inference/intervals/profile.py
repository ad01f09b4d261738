"""Likelihood profiles: how the deviance rises as one parameter moves away from its estimate.

For each parameter, ``zeta = sign(value - estimate) sqrt(d(value) - d_min)``, with d minus twice
the log-likelihood at the best values of all others (D. M. Bates and D. G. Watts, 1988, Nonlinear
Regression Analysis and Its Applications, section 6.1; Bates, Maechler, Bolker and Walker, 2015,
section 5.1). A linear model is profiled by maximum likelihood.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import partial
from typing import Any

import numpy as np
import pandas as pd
import scipy

from mixef import checks
from mixef.errors import ArgumentError, ConvergenceWarning, FitError, warn
from mixef.estimation.fit import LMMFit, fit_lmm
from mixef.estimation.generalized_fit import fit_glmm
from mixef.estimation.joint import State
from mixef.estimation.slices import Slice, without_either
from mixef.inference.intervals.curves import Curve, Scale, coordinate, parameter, rescaled
from mixef.inference.intervals.named import (
    Named,
    chosen,
    estimates,
    in_order_of_signs,
    named_parameters,
    values_at,
)
from mixef.inference.intervals.trace import LOWER, Better, trace
from mixef.inference.observations import AnyFit
from mixef.inference.refits.refit import quiet, warm_start
from mixef.inference.replicates import in_parallel
from mixef.linalg.threads import one_blas_thread
from mixef.terms.nodes import unquoted

BY_ML = "by maximum likelihood, where the fit is by REML"
BY_LAPLACE = "by Laplace's approximation (nAGQ = 1), where the fit has nAGQ = 0"
# A profile has exact points where the usual interval ends.
USUAL = 0.95
# So often a better fit is searched from where a profile finds a lower deviance, with so many
# evaluations at least.
RESTARTS, EVALUATIONS = 3, 1000
# Steps of a profile are no smaller a share of the way than this.
LEAST_STEP = 1e-3


@dataclass(frozen=True, eq=False)
class Curves:
    """Profiles of some parameters of a fit.

    Attributes
    ----------
    curves : tuple of Curve
    names : tuple of str
        Of all parameters, as in `to_frame`.
    kinds : tuple of str
    estimates : ndarray (K,)
        Of all parameters; by maximum likelihood.
    cutoff : float
        The absolute zeta that the curves come to.
    note : str
        What differs from the fit.
    scale : {"natural", "log", "variance"}
        How standard deviations and sigma are given.
    """

    curves: tuple[Curve, ...]
    names: tuple[str, ...]
    kinds: tuple[Any, ...]
    estimates: np.ndarray
    cutoff: float
    note: str = ""
    scale: Scale = "natural"

    @property
    def level(self) -> float:
        """The level of intervals that the curves come to."""
        return float(2.0 * scipy.special.ndtr(self.cutoff) - 1.0)

    def label(self, name: str) -> str:
        """Return what a parameter is called on this scale."""
        kind = self.kinds[self.names.index(checks.key(name, "name", self.names))]
        if self.scale == "log" and kind in ("sd", "sigma", "shape"):
            return f"log({name})"
        if self.scale == "variance" and kind in ("sd", "sigma"):
            return f"({name})^2"
        return name

    def to_frame(self) -> pd.DataFrame:
        """Return one row a point: param, value, zeta, and all parameters at the optimum there."""
        parts = []
        for curve in self.curves:
            others = np.column_stack(
                [
                    rescaled(kind, column, self.scale)
                    for kind, column in zip(self.kinds, curve.others.T, strict=True)
                ]
            )
            part = pd.DataFrame(others, columns=[self.label(name) for name in self.names])
            part.insert(0, "param", self.label(curve.name))
            part.insert(1, "value", parameter(curve.kind, curve.at, self.scale))
            part.insert(2, "zeta", curve.zeta)
            parts.append(part)
        return pd.concat(parts, ignore_index=True)

    def zeta(self, name: str, values: Any) -> np.ndarray:
        """Return zeta at values of a parameter; NaN outside of what was profiled.

        Parameters
        ----------
        name : str
        values : float or array
            On the scale of this profile.
        """
        curve, values = self._curve(name), checks.numbers(values, "values")
        return curve.zeta_at(coordinate(curve.kind, values, self.scale))

    def value(self, name: str, zeta: Any) -> np.ndarray:
        """Return the values of a parameter at given zeta, the inverse of `zeta`."""
        curve = self._curve(name)
        return parameter(curve.kind, curve.at_zeta(checks.numbers(zeta, "zeta")), self.scale)

    def confint(self, level: float = USUAL) -> pd.DataFrame:
        """Return the intervals ``|zeta| <= z`` (k, 2), one row a parameter.

        Where a profile ends at a bound (a standard deviation of zero, a correlation of one), or
        levels off, before it comes to z, the bound is the end of the interval.

        Raises
        ------
        ValueError
            If the profile does not go as far as the level asks for.
        """
        level = checks.level(level)
        z = normal_quantile(level)
        if z > self.cutoff * (1.0 + 1e-9):
            raise ArgumentError(
                f"level is {level:g}, but the profile goes to the level {self.level:.4g} only; "
                f"profile with alphamax={1.0 - level:.3g}"
            )
        rows = [
            rescaled(c.kind, np.array([c.interval(z, True), c.interval(z, False)]), self.scale)
            for c in self.curves
        ]
        index = [self.label(curve.name) for curve in self.curves]
        return pd.DataFrame(np.array(rows), index=index, columns=limits(level))

    def log(self):
        """Return the same profile with standard deviations, sigma and a shape as logs."""
        return replace(self, scale="log")

    def variance(self):
        """Return the same profile with standard deviations and sigma squared."""
        return replace(self, scale="variance")

    def _curve(self, name: str) -> Curve:
        for curve in self.curves:
            wanted = unquoted(checks.text(name, "name"))
            if wanted in (unquoted(curve.name), unquoted(self.label(curve.name))):
                return curve
        known = ", ".join(self.label(curve.name) for curve in self.curves)
        raise ArgumentError(f"the profile has no parameter {name!r}; expected one of {known}")


def profile_curves(
    fit: AnyFit,
    which: Any = None,
    alphamax: float = 0.01,
    delta_cutoff: float = 0.125,
    n_jobs: int = 1,
    progress: bool | None = None,
    signames: bool = False,
) -> Curves:
    """Return the profiles of a fit's parameters.

    Parameters
    ----------
    which : str or sequence of str, optional
        Parameters by name or pattern; see `named.chosen`.
    alphamax : float
        Profiles go to where an interval of the level 1 - alphamax for one parameter ends.
    delta_cutoff : float
        Steps of zeta from point to point, as a share of the zeta that they go to.
    signames : bool
        Name covariance parameters ``.sig01``, ..., ``.sigma``.
    """
    alphamax, signames = checks.level(alphamax, "alphamax"), checks.flag(signames, "signames")
    delta_cutoff = checks.proportion(delta_cutoff, "delta_cutoff", LEAST_STEP)
    n_jobs, progress = checks.work(n_jobs, progress)
    cutoff = normal_quantile(1.0 - alphamax)
    usual = normal_quantile(USUAL)
    targets = (-usual, usual) if usual < cutoff else (-cutoff, cutoff)
    return _profiled(fit, which, cutoff, delta_cutoff * cutoff, targets, n_jobs, progress, signames)


def interval_curves(
    fit: AnyFit,
    which: Any,
    level: float,
    n_jobs: int = 1,
    progress: bool | None = None,
    signames: bool = False,
) -> Curves:
    """Return profiles that go as far as intervals of one level, with exact points there."""
    z = normal_quantile(level)
    return _profiled(fit, which, z, z / 3.0, (-z, z), n_jobs, progress, signames)


def _profiled(fit, which, cutoff, step, targets, n_jobs, progress, signames) -> Curves:
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
        fit.criterion().release()
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
    found = Curves(kept, tuple(p.name for p in known), kinds, estimates(fit), cutoff, note)
    return _with_signs(found, places, known, in_order_of_signs(fit)) if signames else found


def _with_signs(
    curves: Curves, places: Sequence[int], known: Sequence[Named], order: list[int]
) -> Curves:
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
    fit: AnyFit,
    item: tuple[Named, int],
    cutoff: float,
    step: float,
    targets: Sequence[float],
) -> Curve | Better:
    named, place = item

    def describe(states: Sequence[State]) -> np.ndarray:
        return values_at(fit, states)

    with one_blas_thread():
        piece = Slice(fit, named.focus)
        ceiling = without_either(fit, named.focus) if named.kind == "cor" else None
        found = trace(piece, named.name, named.kind, describe, cutoff, step, targets, ceiling)
    if isinstance(found, Curve):
        found.others[:, place] = parameter(found.kind, found.at)  # free of rounding
    return found


def profiled_fit(fit: AnyFit) -> tuple[AnyFit, str]:
    """Return the fit that is profiled, at the minimum of its likelihood, and how it differs.

    That is by maximum likelihood, and with coefficients that maximize it too.
    """
    start: Any
    if isinstance(fit, LMMFit):
        note, start = BY_ML if fit.REML else "", fit.estimates.par
    else:
        note, start = BY_LAPLACE if fit.nAGQ == 0 else "", warm_start(fit)
    at_minimum = fit.control.optimizer == "newton" and fit.convergence.converged
    return (fit if at_minimum and not note else _again(fit, start)), note


def _again(fit: AnyFit, start: Any) -> AnyFit:
    """Fit again by maximum likelihood, to the end, and without warnings."""
    control = replace(
        quiet(fit.control),
        optimizer="newton",
        max_evaluations=max(fit.control.max_evaluations, EVALUATIONS),
    )
    if isinstance(fit, LMMFit):
        return fit_lmm(fit.formula, fit.frame, fit.design, fit.terms, False, control,
                       call=fit.call, start=start)  # fmt: skip
    return fit_glmm(fit.formula, fit.frame, fit.design, fit.terms, fit.family, fit.outcome,
                    max(fit.nAGQ, 1), control, call=fit.call, start=start)  # fmt: skip


def _from_state(fit: AnyFit, state: State) -> AnyFit:
    """Fit again from a point that a profile found."""
    pairs = zip(fit.terms, state.lams, strict=True)
    par = np.concatenate([t.structure.par(t.structure.canonical(lam)) for t, lam in pairs])
    if isinstance(fit, LMMFit):
        return _again(fit, par)
    start: dict[str, Any] = {"par": par, "beta": state.beta}
    if fit.family.extra is not None:
        start[fit.family.extra] = state.scale
    return _again(fit, start)


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


def normal_quantile(level: float) -> float:
    """Return z, with ``P(|Z| <= z) = level`` for a standard normal Z."""
    return float(scipy.special.ndtri(0.5 * (1.0 + checks.level(level))))


def limits(level: float) -> list[str]:
    """Name the columns of an interval: ``2.5 %`` and ``97.5 %``."""
    return [f"{100.0 * tail:.10g} %" for tail in (0.5 * (1.0 - level), 0.5 * (1.0 + level))]
