"""Densities of random effects and of their conditional modes, by the model."""

from __future__ import annotations

import numpy as np
import pandas as pd

from mixef.estimation.fit import Fit
from mixef.inference.coef import conditional_covariances

# Points of a curve; levels whose variances stand for those of all.
POINTS, LEVELS = 201, 400
# Standard deviations that a curve reaches to both sides.
REACH = 3.5


def mode_density(fit: Fit) -> dict[tuple[str, str], pd.DataFrame]:
    """Return densities by grouping factor and coefficient.

    Random effects are normal with their estimated variance. The modes of a level have variance
    ``Sigma - Var(b | y)``; all of them are the mixture of the levels. A coefficient without
    variance has no density, and is not there.

    Returns
    -------
    dict of DataFrame
        Index: values of the effect. Columns: random_effects, modes.
    """
    out = {}
    covariances = conditional_covariances(fit)
    for group, covariance in random_covariances(fit).items():
        given = np.einsum("lss->sl", covariances[group])
        for s, name in enumerate(covariance):
            variance = float(covariance.to_numpy()[s, s])
            if not variance > 0.0:
                continue
            sd, own = np.sqrt(variance), np.sqrt(np.maximum(variance - given[s], 0.0))
            if len(own) > LEVELS:
                own = np.quantile(own, (np.arange(LEVELS) + 0.5) / LEVELS)
            own = np.maximum(own, 1e-3 * sd)  # levels that the data say nothing about are at zero
            x = np.linspace(-REACH, REACH, POINTS) * sd
            mixture = normal_density(x[:, None], own).mean(axis=1)
            columns = {"random_effects": normal_density(x, sd), "modes": mixture}
            out[group, name] = pd.DataFrame(columns, index=pd.Index(x, name=name))
    return out


def normal_density(x: np.ndarray, sd: np.ndarray | float) -> np.ndarray:
    """Return the density of a normal variable with mean zero."""
    z: np.ndarray = x / sd
    density: np.ndarray = np.exp(-0.5 * z**2) / (np.sqrt(2.0 * np.pi) * sd)
    return density


def random_covariances(fit: Fit) -> dict[str, pd.DataFrame]:
    """Return the covariance (s, s) of all random effects of each grouping factor.

    Effects of different terms are independent.
    """
    out = {}
    for group, members in fit.groups.items():
        names = [name for t in members for name in fit.terms[t].columns]
        matrix, first = np.zeros((len(names), len(names))), 0
        for t in members:
            lam = fit.estimates.lams[t]
            own = slice(first, first + len(lam))
            matrix[own, own] = fit.covariance_scale * lam @ lam.T
            first += len(lam)
        out[group] = pd.DataFrame(matrix, index=names, columns=names)
    return out
