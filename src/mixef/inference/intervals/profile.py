"""Likelihood profiles: how the deviance rises as one parameter moves away from its estimate.

For each parameter, ``zeta = sign(value - estimate) sqrt(d(value) - d_min)``, with d minus twice
the log-likelihood at the best values of all others (D. M. Bates and D. G. Watts, 1988, Nonlinear
Regression Analysis and Its Applications, section 6.1; Bates, Maechler, Bolker and Walker, 2015,
section 5.1). A linear model is profiled by maximum likelihood.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from functools import partial
from typing import Any

import numpy as np

from mixef import checks
from mixef.errors import ConvergenceWarning, FitError, warn
from mixef.estimation.fit import Fit
from mixef.estimation.joint import State
from mixef.estimation.slices import Slice, without_either
from mixef.inference.intervals.curves import (
    USUAL,
    Curve,
    Profile,
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
from mixef.inference.intervals.trace import LOWER, Better, trace
from mixef.inference.replicates import in_parallel
from mixef.inference.tails import normal_quantile
from mixef.linalg.threads import one_blas_thread

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
        piece = Slice(fit, named.focus)
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
