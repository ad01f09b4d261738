"""Satterthwaite's degrees of freedom, from exact derivatives."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

# Degrees of freedom that differ by less, relatively, count as one number.
from mixef.estimation.fit import Fit

EQUAL = 1e-8
# Degrees of freedom of which t is the normal distribution.
LARGEST = 1e15


@dataclass(frozen=True)
class Satterthwaite:
    """What Satterthwaite's approximation needs of a fit.

    The variance of ``l'beta`` is a function of the covariance parameters phi. By the delta method
    its own variance is ``g'Ag``, with the slopes g and the asymptotic covariance A of phi, and the
    scaled chi-square of the same two moments has ``2 (l'Vl)^2 / g'Ag`` degrees of freedom.

    References
    ----------
    F. G. Giesbrecht and J. C. Burns (1985), Two-stage analysis based on a mixed model,
    Biometrics 41, 477-486. A. H. Fai and P. L. Cornelius (1996), Approximate F-tests of multiple
    degree of freedom hypotheses, Journal of Statistical Computation and Simulation 54, 363-378.
    """

    beta: np.ndarray  # (p,)
    vcov: np.ndarray  # (p, p): V, the covariance of beta
    # (K, p, p): derivatives of V for phi: the scaled covariance parameters and log sigma
    slopes: np.ndarray
    # (K, K): A, twice the inverse Hessian of -2 log L (of the REML criterion for a REML fit)
    covariance: np.ndarray

    def row_df(self, L: np.ndarray) -> np.ndarray:
        """Return the degrees of freedom (m,) of every row of L (m, p) by itself."""
        variance = np.einsum("mi,ij,mj->m", L, self.vcov, L, optimize=True)
        slope = np.einsum("mi,kij,mj->mk", L, self.slopes, L, optimize=True)
        spread = np.einsum("mk,kl,ml->m", slope, self.covariance, slope, optimize=True)
        with np.errstate(divide="ignore", invalid="ignore"):
            return 2.0 * variance**2 / spread

    def joint(self, D: np.ndarray) -> tuple[float, float]:
        """Return denominator df and scaling of F, for directions D (q, p) with ``D V D' = I``.

        F is a mean of q squared t statistics, so its expectation is ``E / q``, where E is the sum
        of ``nu / (nu - 2)``, and F with d degrees of freedom has expectation ``d / (d - 2)``.
        """
        nu = np.minimum(self.row_df(D), LARGEST)
        if np.ptp(nu) <= EQUAL * nu.max():
            return float(nu.mean()), 1.0
        if not (nu > 2.0).all():
            return 2.0, 1.0  # a t statistic with so few has no variance, nor F an expectation
        # E - q, as a sum without cancellation.
        excess = float((2.0 / (nu - 2.0)).sum())
        return 2.0 * (len(nu) + excess) / excess, 1.0


def satterthwaite(fit: Fit) -> Satterthwaite:
    """Return what Satterthwaite's approximation needs of a fit, by ML or REML."""
    covariance, _ = fit.search_covariance()
    return Satterthwaite(fit.estimates.beta, fit.vcov, fit.curvature.vcov_slopes, covariance)
