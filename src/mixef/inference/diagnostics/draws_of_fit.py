"""Draws of a fit's responses, as residuals need them."""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from mixef.estimation.fit import Fit
from mixef.families.family import Family
from mixef.families.whole_numbers import SUCCESSES
from mixef.inference.diagnostics.draws import CELLS, Draws
from mixef.inference.simulation.new_parameters import fitted_values_of
from mixef.inference.simulation.sampler import Sampler, draw_responses
from mixef.inference.simulation.simulate import make_sampler
from mixef.inference.simulation.simulation_rows import fitted_rows

# Numbers up to here are kept as whole ones.
LARGEST = 2**62


def draws_of_fit(
    fit: Fit, n: int, rng: np.random.Generator, included: dict[int, np.ndarray]
) -> Draws:
    """Draw n responses of every row, with columns (s,) of some terms held at their modes."""
    family, weights = fit.family, drawn_weights(fit)
    rows = replace(fitted_rows(fit, single=weights is not fit.weights), weights=weights)
    sampler = make_sampler(fit, rows, fitted_values_of(fit), included)
    scale = _counted(family, weights, fit.frame.n)
    parts, size = [], max(CELLS // fit.frame.n, 1)
    for start in range(0, n, size):
        drawn = draw_responses(sampler, min(size, n - start), rng)
        parts.append(drawn if scale is None else _lean(drawn * scale[:, None]))
    mean = family.link.inverse(expectation(sampler))
    held = [use.all() for use in included.values()]
    return Draws(
        observed=fit.y if scale is None else _whole(fit.y * scale),
        simulated=parts[0] if len(parts) == 1 else np.concatenate(parts, axis=1),
        fitted=mean if scale is None else mean * scale,
        uniform=rng.random(fit.frame.n),
        independent=len(held) == len(fit.terms) and all(held),
        seed=int(rng.integers(2**62)),
    )


def expectation(sampler: Sampler) -> np.ndarray:
    """Return the linear predictor (n,) that draws are around."""
    eta = sampler.fixed
    for term in sampler.effects:
        eta = eta + np.einsum("ns,ns->n", term.z, term.mean[term.codes])
    return eta


def drawn_weights(fit: Fit) -> np.ndarray | None:
    """Return weights (n,) that responses like the fit's are drawn with; None for ones.

    Trials, and what divides the variance of a linear model, are as they are. Other weights count
    copies of a row, which have its response in common: it is drawn once. But counts that are no
    whole numbers are means of copies, and weights of a dispersion are relative: that of a row with
    the mean weight is estimated.
    """
    weights, family, outcome = fit.weights, fit.family, fit.outcome
    if weights is None or not family.counts_copies:
        return weights
    if family.has_trials:
        one = outcome.trials
        return one if _are_whole(fit.y if one is None else fit.y * one) else weights
    if family.divides_dispersion:
        return weights / weights.mean()
    return None if (family.auxiliary and not family.is_count) or _are_whole(fit.y) else weights


def _are_whole(values: np.ndarray) -> bool:
    """Tell whether all values are whole numbers, up to rounding."""
    return bool((np.abs(values - np.rint(values)) < SUCCESSES).all())


def _counted(family: Family, weights: np.ndarray | None, n: int) -> np.ndarray | None:
    """Return what makes whole numbers (n,) of responses of counts or shares; None for others."""
    if not (family.is_count or family.has_trials):
        return None
    return np.ones(n) if weights is None else weights


def _whole(values: np.ndarray) -> np.ndarray:
    """Take out rounding of counts."""
    whole = np.rint(values)
    return np.where(np.abs(values - whole) < SUCCESSES, whole, values)


def _lean(values: np.ndarray) -> np.ndarray:
    """Return counts in the narrowest type that holds them."""
    with np.errstate(invalid="ignore"):
        whole, most = np.rint(values), values.max()
    if not most < LARGEST:  # NaN, too
        return whole
    return whole.astype(np.min_scalar_type(int(most)))
