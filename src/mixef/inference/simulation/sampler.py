"""The distribution that responses are drawn from, and draws from it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from mixef.errors import DataWarning, warn
from mixef.families.auxiliary import Extra
from mixef.families.family import Family


@dataclass(frozen=True, eq=False)
class LevelEffects:
    """Random effects of one term, normal level by level: ``b_l = mean_l + root_l u_l``."""

    z: np.ndarray  # (m, s): raw columns
    codes: np.ndarray  # (m,) of int: the level of each row; -1 where it is missing
    mean: np.ndarray  # (l, s)
    # (l, s, s): roots of the covariances, on the scale of the linear predictor; zero for effects
    # that are known
    roots: np.ndarray


@dataclass(frozen=True, eq=False)
class Sampler:
    """What responses are drawn from: a linear predictor with random effects, and a family."""

    fixed: np.ndarray  # (m,): ``X beta + offset``
    effects: tuple[LevelEffects, ...]  # One a term
    weights: np.ndarray | None  # (m,): prior weights, with numbers of trials; None for ones
    family: Family
    extra: Extra  # Auxiliary parameters


def draw_responses(sampler: Sampler, n: int, rng: np.random.Generator) -> np.ndarray:
    """Draw n responses (m, n); NaN for rows without a mean, of which some get a warning.

    Random effects are drawn first, term by term, and then the rows.

    Warns
    -----
    DataWarning
        Where random effects lead to means that the family cannot have, and where weights make
        another dispersion or shape of a refit.
    """
    eta = draw_predictors(sampler, n, rng)
    _warn_of_copies(sampler.family, sampler.weights)
    return responses_at(sampler.family, eta, sampler.weights, sampler.extra, rng)


def responses_at(
    family: Family,
    eta: np.ndarray,
    weights: np.ndarray | None,
    extra: Extra,
    rng: np.random.Generator,
) -> np.ndarray:
    """Draw a response for each linear predictor (m, n); NaN, with a warning, where none can be."""
    mu, valid = _means(family, eta)
    if valid.all():
        return family.random(rng, mu, weights, extra)
    impossible = int((~valid & ~np.isnan(eta)).sum())
    if impossible:
        warn(
            f"{impossible} of {eta.size} simulated means are outside of what the {family.name} "
            f"family with the {family.link.name} link can have, and their responses are NaN: the "
            "random effects reach beyond the link's domain; use a link such as 'log', which has "
            "no bounds",
            DataWarning,
        )
    stand_in = family.initial_mean(np.ones(1), None)[0]
    drawn = family.random(rng, np.where(valid, mu, stand_in), weights, extra)
    return np.where(valid, drawn, np.nan)


def draw_predictors(sampler: Sampler, n: int, rng: np.random.Generator) -> np.ndarray:
    """Draw n linear predictors (m, n)."""
    drawn = [draw_effects(effects, n, rng) for effects in sampler.effects]
    return predictors_with(sampler, drawn, n)


def predictors_with(sampler: Sampler, drawn: Sequence[np.ndarray], n: int) -> np.ndarray:
    """Return the linear predictors (m, n) of drawn random effects (l, s, n), one array a term."""
    eta = np.empty((len(sampler.fixed), n))
    eta[:] = sampler.fixed[:, None]
    for effects, b in zip(sampler.effects, drawn, strict=True):
        for j in range(b.shape[1]):
            rows = b[:, j][effects.codes]
            column = effects.z[:, j, None]
            eta += rows if (column == 1.0).all() else column * rows
        eta[effects.codes < 0] = np.nan
    return eta


def draw_effects(effects: LevelEffects, n: int, rng: np.random.Generator) -> np.ndarray:
    """Draw the random effects of all levels n times (l, s, n).

    Numbers are drawn level by level, column by column inside a level; none if all are known.
    """
    if not effects.roots.any():
        return np.broadcast_to(effects.mean[:, :, None], (*effects.mean.shape, n))
    u = rng.standard_normal((*effects.mean.shape, n))
    b = effects.roots * u if u.shape[1] == 1 else effects.roots @ u
    return b + effects.mean[:, :, None] if effects.mean.any() else b


def _means(family: Family, eta: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return means like eta, and which of them the link and the family can have."""
    link = family.link
    with np.errstate(all="ignore"):
        mu = link.inverse(eta)
        valid = family.possible(mu) & np.isfinite(eta)
        if not link.valid(eta):  # a predictor outside may have the mean of one inside
            valid &= ~(link.link(mu) * eta < -0.5 * eta**2)
    return mu, valid


def _warn_of_copies(family: Family, weights: np.ndarray | None) -> None:
    """Warn where the dispersion or shape of drawn means is not that of their copies."""
    if weights is not None and len(weights) and draws_means_of_copies(family):
        warn_of_copies(family, float(weights.mean()))


def draws_means_of_copies(family: Family) -> bool:
    """Tell whether weights may make another dispersion or shape of a refit."""
    return bool(family.counts_copies and family.auxiliary and not family.has_trials)


def warn_of_copies(family: Family, size: float) -> None:
    """Warn of means of so many copies of a row, on average."""
    if abs(size - 1.0) > 0.01:
        what = " and ".join(parameter.name for parameter in family.auxiliary)
        warn(
            f"the weights stand for {size:.3g} copies of a row on average, and the mean of these "
            f"is drawn: a fit to it finds the means and not the {what}, which is that of single "
            "copies; draw those, one row each, or give weights that are 1 on average",
            DataWarning,
        )
