"""Draws of fixed and random effects from their joint distribution given the data.

Given the parameters psi, the spherical random effects are normal about their modes with covariance
``s^2 M^-1``; with ``M = L L'`` a draw is ``L'^-1 z`` for standard normal z: all levels and factors
jointly, at the price of a triangular solve. Estimates of psi are normal about it, and move the
fixed effects and the modes (`Movement`; R. E. Kass and D. Steffey, 1989, Journal of the American
Statistical Association 84, 717-726).
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import pandas as pd

from mixef import checks
from mixef.estimation.fit import Fit
from mixef.inference.hypotheses.ddf import approximation
from mixef.inference.prediction.prediction_variance import movement
from mixef.linalg.threads import one_blas_thread


@dataclass(frozen=True, eq=False)
class EffectDraws:
    """Draws of fixed and random effects, those of one draw jointly."""

    beta: np.ndarray  # (p, n)
    effects: tuple[np.ndarray, ...]  # each (l_t, s_t, n), one array a term


def joint_draws(
    fit: Fit, n: int, rng: np.random.Generator, given_theta: bool = False
) -> EffectDraws:
    """Draw fixed and random effects n times, with the uncertainty of all parameters.

    With ``given_theta`` the covariance parameters are taken as known.
    """
    with one_blas_thread():
        moved = movement(fit, given_theta)
        step = normal_draws(moved.covariance, n, rng)
        effects = conditional_draws(fit, n, rng)
        for drawn, slope in zip(effects, moved.effects, strict=True):
            drawn += np.tensordot(slope, step, axes=(0, 0))
        return EffectDraws(fit.estimates.beta[:, None] + moved.beta @ step, tuple(effects))


def conditional_draws(fit: Fit, n: int, rng: np.random.Generator) -> list[np.ndarray]:
    """Draw the random effects (l_t, s_t, n) of all terms, given the parameters."""
    fit.needs_exact("draws of random effects given the data")
    factor, terms = fit.criterion().factor_at(fit.point), fit.problem.terms
    layout = factor.layout
    u = factor.solve_Lt(rng.standard_normal((layout.q, n)))
    u *= np.sqrt(fit.covariance_scale)
    effects: list[np.ndarray] = [np.empty(0)] * len(fit.terms)
    backs = terms.back_to_user(fit.scaled_par)
    for i, (back, members) in enumerate(zip(backs, terms.blocks, strict=True)):
        b = back @ layout.by_level(i, u)
        for t in members:
            columns = terms.parametrization.columns[t]
            effects[t] = b[:, columns] + fit.estimates.effects[t][:, :, None]
    return effects


def normal_draws(covariance: np.ndarray, n: int, rng: np.random.Generator) -> np.ndarray:
    """Draw n normal vectors (K, n) of mean zero; the covariance may be singular."""
    values, vectors = np.linalg.eigh(covariance)
    # The symmetric root is unique, whatever the signs of the vectors.
    root = (vectors * np.sqrt(np.maximum(values, 0.0))) @ vectors.T
    out: np.ndarray = root @ rng.standard_normal((len(covariance), n))
    return out


def fixed_effects_simulated(
    fit: Fit, n: int, seed: int | np.random.Generator | None
) -> pd.DataFrame:
    """Return mean, median and standard deviation of simulated coefficients, one row each."""
    rng, p = checks.generator(seed), len(fit.kept)
    n = checks.count(n, each=2 * max(p, 1))
    draws = fit.estimates.beta[:, None] + normal_draws(approximation(fit, None).vcov, n, rng)
    return pd.DataFrame({"term": list(fit.fixed_names)} | _moments(draws))


def random_effects_simulated(
    fit: Fit, n: int, seed: int | np.random.Generator | None
) -> pd.DataFrame:
    """Return mean, median and standard deviation of simulated random effects, one row an effect."""
    rng = checks.generator(seed)
    n = checks.count(n, each=4 * sum(term.n_effects for term in fit.terms))
    effects = joint_draws(fit, n, rng).effects
    parts = []
    for group, members in fit.groups.items():
        levels = fit.terms[members[0]].grouping.index.to_numpy(dtype=object)
        for t in members:
            for j, name in enumerate(fit.terms[t].columns):
                labels = {"grpvar": group, "term": name, "grp": levels}
                parts.append(pd.DataFrame(labels | _moments(effects[t][:, j])))
    return pd.concat(parts, ignore_index=True)


def _moments(draws: np.ndarray) -> dict[str, np.ndarray]:
    """Return mean, median and standard deviation (k,) of draws (k, n)."""
    sd = draws.std(axis=1, ddof=1) if draws.shape[1] > 1 else np.full(len(draws), np.nan)
    return {"mean": draws.mean(axis=1), "median": np.median(draws, axis=1), "sd": sd}
