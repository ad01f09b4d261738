"""Derivatives of scores and weights for the linear predictor, to any order that a link has.

With ``r = mu' / V`` the score of a unit row is ``(y - mu) r`` and its expected weight ``mu' r``.
Derivatives of r follow from those of ``r V = mu'`` by Leibniz' rule,

    sum_j C(k, j) r_j V_(k - j) = mu_(k + 1),

where subscripts are orders of derivatives for eta, and those of V(mu(eta)) are by the chain rule.
Nothing is differenced, so that all is exact in any unit of the response.
"""

from __future__ import annotations

from dataclasses import dataclass
from math import comb

import numpy as np

from mixef.families.family import Family

# Names of the derivatives of a mean for its linear predictor, and of a variance for the mean.
MEANS = ("d_inverse", "d2_inverse", "d3_inverse", "d4_inverse")
VARIANCES = ("d_variance", "d2_variance", "d3_variance")


@dataclass(frozen=True)
class RowDerivatives:
    """A mean and the ratio r with their derivatives for eta."""

    mu: list[np.ndarray]  # list of ndarray (n,): the mean and its derivatives, up to order k + 1
    r: list[np.ndarray]  # list of ndarray (n,): the ratio and its derivatives, up to order k

    def expected(self, order: int) -> np.ndarray:
        """Return a derivative of the expected weight ``mu' r``."""
        mu, r = self.mu, self.r
        parts = (comb(order, j) * mu[j + 1] * r[order - j] for j in range(order + 1))
        return sum(parts, start=np.zeros(1))

    def score(self, y: np.ndarray, order: int) -> np.ndarray:
        """Return a derivative of the score ``(y - mu) r``; minus the first is the weight."""
        mu, r = self.mu, self.r
        parts = (-comb(order, j) * mu[j] * r[order - j] for j in range(1, order + 1))
        score: np.ndarray = sum(parts, start=(y - mu[0]) * r[order])
        return score


def row_derivatives(
    family: Family,
    eta: np.ndarray,
    mu: np.ndarray,
    variance: np.ndarray,
    extra: float,
    order: int,
) -> RowDerivatives:
    """Return the mean's derivatives up to ``order + 1`` and the ratio's up to ``order`` (0 to 3).

    Parameters
    ----------
    variance : ndarray (n,)
        The variance function, not zero.
    """
    means = [mu] + [getattr(family.link, name)(eta) for name in MEANS[: order + 1]]
    V = [variance, *_by_eta(means, [getattr(family, f)(mu, extra) for f in VARIANCES[:order]])]
    r: list[np.ndarray] = []
    for k in range(order + 1):
        parts = (-comb(k, j) * r[j] * V[k - j] for j in range(k))
        r.append(sum(parts, start=means[k + 1]) / variance)
    return RowDerivatives(means, r)


def _by_eta(mu: list[np.ndarray], by_mean: list[np.ndarray]) -> list[np.ndarray]:
    """Return derivatives of the variance for eta from those for the mean: the chain rule."""
    out = []
    if by_mean:
        out.append(by_mean[0] * mu[1])
    if len(by_mean) > 1:
        out.append(by_mean[1] * mu[1] ** 2 + by_mean[0] * mu[2])
    if len(by_mean) > 2:
        mixed = 3.0 * by_mean[1] * mu[1] * mu[2]
        out.append(by_mean[2] * mu[1] ** 3 + mixed + by_mean[0] * mu[3])
    return out
