"""Families of counts: binomial and Poisson.

Densities, variances and deviances are those of McCullagh and Nelder (1989), Generalized Linear
Models, sections 2.2 and 2.3, written so that they stay exact in the tails and close to ``mu = y``.
"""

from __future__ import annotations

from math import isfinite
from typing import Any

import numpy as np
import scipy

from mixef.families.auxiliary import Extra
from mixef.families.family import Family, by_row, weigh
from mixef.families.links import Logit
from mixef.families.special import (
    half_deviance,
    log_of_sum,
    stirling_error,
    times,
)
from mixef.families.whole_numbers import check_counts, check_shares, poisson, whole_trials


class Binomial(Family):
    """Shares of successes; the weights are the numbers of trials.

    Parameters
    ----------
    link : str or Link
        "logit", "probit", "cloglog", "cauchit", "log" or any other.

    Examples
    --------
    >>> import numpy as np
    >>> from mixef.families.counts import Binomial
    >>> family = Binomial("probit")
    >>> family
    Binomial(link='probit')
    >>> y, trials, eta = np.array([0.25]), np.array([4.0]), np.array([0.0])
    >>> float(np.exp(family.log_density(y, eta, family.link.inverse(eta), trials)).round(6)[0])
    0.25
    """

    name = "binomial"
    spellings = ("bernoulli",)
    canonical_link = "logit"
    mean_range = edges = (0.0, 1.0)
    closed = has_trials = True
    support = "whole"
    more_dispersed = ""

    def __init__(self, link: Any = "logit") -> None:
        super().__init__(link)

    def variance(self, mu: np.ndarray, extra: Extra = None) -> np.ndarray:
        """Return ``mu (1 - mu)``."""
        return np.multiply(mu, np.subtract(1.0, mu))

    def d_variance(self, mu: np.ndarray, extra: Extra = None) -> np.ndarray:
        """Return ``1 - 2 mu``."""
        return 1.0 - np.multiply(mu, 2.0)

    def d2_variance(self, mu: np.ndarray, extra: Extra = None) -> np.ndarray:
        """Return -2."""
        return np.full(np.shape(mu), -2.0)

    def d3_variance(self, mu: np.ndarray, extra: Extra = None) -> np.ndarray:
        """Return 0."""
        return np.zeros(np.shape(mu))

    def variance_at(self, eta: np.ndarray, mu: np.ndarray, extra: Extra = None) -> np.ndarray:
        """Return the variance with all digits where the mean rounds to 1."""
        return mu * self.link.complement(eta)

    def unit_deviance(self, y: np.ndarray, mu: np.ndarray, extra: Extra = None) -> np.ndarray:
        """Return the deviance of one trial with a share y."""
        y = by_row(y, mu)
        return 2.0 * (half_deviance(y, mu, mu - y) + half_deviance(1.0 - y, 1.0 - mu, y - mu))

    def unit_kernel(
        self, y: np.ndarray, eta: np.ndarray, mu: np.ndarray, extra: Extra = None
    ) -> np.ndarray:
        """Return ``y log mu + (1 - y) log(1 - mu)`` from the linear predictor."""
        eta = np.asarray(eta, dtype=float)
        if isinstance(self.link, Logit):
            e = np.exp(-np.abs(eta))
            return _logit_kernel(y, eta, eta > 0.0, e, 1.0 + e)
        return times(y, self.link.log_inverse(eta)) + times(1.0 - y, self.link.log_complement(eta))

    def mean_and_kernel(
        self, y: np.ndarray, eta: np.ndarray, extra: Extra = None
    ) -> tuple[np.ndarray, np.ndarray] | None:
        """Return means and `unit_kernel` (n,), by one exponential for a logit."""
        if not isinstance(self.link, Logit):
            return super().mean_and_kernel(y, eta, extra)
        size, positive = np.abs(eta), eta > 0.0
        if not isfinite(np.maximum.reduce(size, axis=None, initial=0.0)):
            return None
        e = np.exp(-size)
        whole = 1.0 + e
        return np.where(positive, 1.0, e) / whole, _logit_kernel(y, eta, positive, e, whole)

    def unit_normalizer(self, y: np.ndarray, extra: Extra = None) -> np.ndarray:
        """Return zero, which it is for one trial."""
        return np.zeros(np.shape(y))

    def log_normalizer(
        self, y: np.ndarray, weights: np.ndarray | None = None, extra: Extra = None
    ) -> np.ndarray:
        """Return the log binomial coefficients, which one trial has none of.

        So a share of a single trial, which is no count, has the density up to a constant of
        Papke and Wooldridge (1996, Journal of Applied Econometrics 11), weighted with ones or not.
        """
        if weights is None:
            return np.zeros(np.shape(y))
        n, k = np.asarray(weights, dtype=float), np.multiply(weights, y)
        coefficients = (
            scipy.special.gammaln(n + 1)
            - scipy.special.gammaln(k + 1)
            - scipy.special.gammaln(n - k + 1)
        )
        return np.where(n > 1.0, coefficients, 0.0)

    def saturated(
        self, y: np.ndarray, weights: np.ndarray | None = None, extra: Extra = None
    ) -> np.ndarray:
        """Return the log density of each row at ``mu = y``, where the logit may be infinite."""
        kernel = scipy.special.xlogy(y, y) + scipy.special.xlogy(
            np.subtract(1.0, y), np.subtract(1.0, y)
        )
        return weigh(weights, kernel) + self.log_normalizer(y, weights)

    def check_response(
        self, y: np.ndarray, weights: np.ndarray | None = None, name: str = "y"
    ) -> None:
        """Raise unless shares are in [0, 1]; warn where successes are not whole numbers."""
        super().check_response(y, weights, name)
        check_shares(y, name, self.name, weights)

    def random(
        self,
        rng: np.random.Generator,
        mu: np.ndarray,
        weights: np.ndarray | None = None,
        extra: Extra = None,
    ) -> np.ndarray:
        """Draw shares of successes; 0 where there are no trials."""
        trials = 1 if weights is None else by_row(whole_trials(weights), mu).astype(np.int64)
        return rng.binomial(trials, mu) / np.maximum(trials, 1)

    def cdf(self, y: np.ndarray, mu: np.ndarray, w: np.ndarray, extra: Extra) -> np.ndarray:
        """Return the binomial distribution function of a share."""
        successes = np.rint(w * y)
        failures = np.maximum(w - successes, 1.0)
        return np.where(
            successes >= w, 1.0, scipy.special.betainc(failures, successes + 1.0, 1.0 - mu)
        )

    def _near(self, y: np.ndarray, weights: np.ndarray) -> np.ndarray:
        return (weights * y + 0.5) / (weights + 1.0)


def _logit_kernel(
    y: np.ndarray, eta: np.ndarray, positive: np.ndarray, e: np.ndarray, whole: np.ndarray
) -> np.ndarray:
    """Return ``y eta - log(1 + exp(eta))`` without cancellation.

    For ``eta > 0``, ``e = exp(-|eta|)`` and ``1 + e``.
    """
    return (y - positive) * eta - log_of_sum(e, whole)


class Poisson(Family):
    """Counts with variance mu.

    Parameters
    ----------
    link : str or Link
        "log", "identity", "sqrt" or any other.

    Examples
    --------
    >>> import numpy as np
    >>> from mixef.families.counts import Poisson
    >>> Poisson().unit_deviance(np.array([0.0, 2.0]), np.array([1.5, 2.0]))
    array([3., 0.])
    """

    name = "poisson"
    canonical_link = "log"
    mean_range = (0.0, np.inf)
    edges = (0.0,)
    closed = is_count = True
    support = "whole"
    more_dispersed = ", or fit glmer_nb"

    def __init__(self, link: Any = "log") -> None:
        super().__init__(link)

    def variance(self, mu: np.ndarray, extra: Extra = None) -> np.ndarray:
        """Return ``mu``."""
        return np.asarray(mu, dtype=float)

    def d_variance(self, mu: np.ndarray, extra: Extra = None) -> np.ndarray:
        """Return 1."""
        return np.ones(np.shape(mu))

    def d2_variance(self, mu: np.ndarray, extra: Extra = None) -> np.ndarray:
        """Return 0."""
        return np.zeros(np.shape(mu))

    d3_variance = d2_variance

    def unit_deviance(self, y: np.ndarray, mu: np.ndarray, extra: Extra = None) -> np.ndarray:
        """Return ``2 (y log(y / mu) - y + mu)``."""
        y = by_row(y, mu)
        return 2.0 * half_deviance(y, mu, mu - y)

    def unit_kernel(
        self, y: np.ndarray, eta: np.ndarray, mu: np.ndarray, extra: Extra = None
    ) -> np.ndarray:
        """Return ``y log mu - mu``."""
        return times(y, self.link.log_inverse(eta)) - mu

    def unit_normalizer(self, y: np.ndarray, extra: Extra = None) -> np.ndarray:
        """Return ``-log y!``."""
        return -scipy.special.gammaln(np.add(y, 1.0))

    def saturated(
        self, y: np.ndarray, weights: np.ndarray | None = None, extra: Extra = None
    ) -> np.ndarray:
        """Return the log density of each row at ``mu = y``, by Stirling's formula."""
        y = np.asarray(y, dtype=float)
        positive = np.where(y > 0.0, y, 1.0)
        rows = -0.5 * np.log(2.0 * np.pi * positive) - stirling_error(positive)
        return weigh(weights, np.where(y > 0.0, rows, 0.0))

    def check_response(
        self, y: np.ndarray, weights: np.ndarray | None = None, name: str = "y"
    ) -> None:
        """Raise for negative counts; warn where they are not whole numbers."""
        super().check_response(y, weights, name)
        check_counts(y, name, self.name, weights)

    def random(
        self,
        rng: np.random.Generator,
        mu: np.ndarray,
        weights: np.ndarray | None = None,
        extra: Extra = None,
    ) -> np.ndarray:
        """Draw counts, or means of w counts."""
        w = 1.0 if weights is None else by_row(weights, mu)
        return poisson(rng, w * mu) / w

    def cdf(self, y: np.ndarray, mu: np.ndarray, w: np.ndarray, extra: Extra) -> np.ndarray:
        """Return the Poisson distribution function, over w."""
        return scipy.special.gammaincc(np.rint(w * y) + 1.0, w * mu)

    def _near(self, y: np.ndarray, weights: np.ndarray) -> np.ndarray:
        return y + 0.1
