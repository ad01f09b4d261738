"""Counts and shares of successes with more variance than Poisson and binomial ones.

The negative binomial whose variance is linear in the mean (J. S. Cameron and P. K. Trivedi, 1986,
Journal of Applied Econometrics 1) and the beta-binomial (J. G. Skellam, 1948, Journal of the Royal
Statistical Society B 10). Both are written by what they differ from their limit, which stays exact
close to it.
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import scipy

from mixef.errors import DataError
from mixef.families.auxiliary import Auxiliary, Extra
from mixef.families.density import DensityFamily, of_product
from mixef.families.family import by_row
from mixef.families.special import digamma_rise, log_rising, rising_derivative, times
from mixef.families.whole_numbers import check_counts, check_shares, poisson, whole_trials

PHI = Auxiliary("phi")


def rising(x: np.ndarray, n: np.ndarray, order: int) -> list[np.ndarray]:
    """Return ``log gamma(x + n) - log gamma(x) - n log x`` and its derivatives for x."""
    first = [log_rising(x, n), *([digamma_rise(x, n, less=1.0)] if order > 0 else [])]
    return first + [rising_derivative(x, n, k) for k in range(2, order + 1)]


def _of_log(x: np.ndarray, k: int) -> np.ndarray:
    """Return the k-th derivative of the logarithm."""
    return (-1.0) ** (k - 1) * math.factorial(k - 1) / x**k


class NegativeBinomial1(DensityFamily):
    """Counts with mean mu and variance ``mu (1 + phi)``: negative binomial of shape ``mu / phi``.

    Parameters
    ----------
    link : str or Link
        "log", "sqrt", "identity" or any other.

    Examples
    --------
    >>> from mixef import NegativeBinomial1
    >>> float(NegativeBinomial1().variance(4.0, 0.5))
    6.0
    """

    name = "nbinom1"
    spellings = ("negativebinomial1",)
    auxiliary = (PHI,)
    mean_range = (0.0, np.inf)
    edges = (0.0,)
    is_count = True
    support = "whole"

    def __init__(self, link: Any = "log") -> None:
        super().__init__(link)

    def variance(self, mu: np.ndarray, extra: Extra = None) -> np.ndarray:
        """Return ``mu (1 + phi)``."""
        return np.multiply(mu, 1.0 + extra)

    def derivatives(
        self, y: np.ndarray, mu: np.ndarray, size: np.ndarray, extra: Extra, order: int, *by: int
    ) -> list[np.ndarray]:
        """Return derivatives of the log density for mu, after those for log phi."""
        phi, m = extra, len(by)
        r = mu / phi
        F = rising(r, y, order + m)
        # The rest, y log mu - (y + r) log(1 + phi), by powers of d/dlog phi: y c + mu h.
        log_phi, share = np.log1p(phi), 1.0 / (1.0 + phi)
        h = [-log_phi / phi]
        h.append(-share - h[0])
        h.append(phi * share**2 - h[1])
        c = (-log_phi, -phi * share, -phi * share**2)[m]
        out = []
        for k in range(order + 1):
            row = of_product(F, r, k, m, -1) / phi**k
            if k == 0:
                row = row + y * c + mu * h[m]
                if m == 0:
                    row = row + times(y, np.log(mu)) - scipy.special.gammaln(y + 1.0)
            elif m == 0:
                row = row + y * _of_log(mu, k)
            if k == 1:
                row = row + h[m]
            out.append(row)
        return out

    def remedy(self, flat: tuple[str, ...]) -> str:
        """Say what a phi that the data leave open means."""
        return (
            "phi goes to zero, where this negative binomial is the Poisson distribution: the "
            "counts are not more dispersed than that, so use family='poisson'"
        )

    def initial_extra(
        self, y: np.ndarray, mu: np.ndarray, weights: np.ndarray | None = None
    ) -> Extra:
        """Return the phi at which the variance over a Poisson's is as observed."""
        share = np.average(np.square(y - mu) / mu, weights=weights)
        return float(np.clip(share - 1.0, 1e-2, 1e4))

    def check_response(
        self, y: np.ndarray, weights: np.ndarray | None = None, name: str = "y"
    ) -> None:
        """Raise for negative counts; warn where they are not whole numbers."""
        super().check_response(y, weights, name)
        check_counts(y, name, "negative binomial", weights)

    def random(
        self,
        rng: np.random.Generator,
        mu: np.ndarray,
        weights: np.ndarray | None = None,
        extra: Extra = None,
    ) -> np.ndarray:
        """Draw counts, or means of w counts: Poisson with gamma means."""
        w = 1.0 if weights is None else by_row(weights, mu)
        return poisson(rng, extra * rng.gamma(w * mu / extra)) / w

    def cdf(self, y: np.ndarray, mu: np.ndarray, w: np.ndarray, extra: Extra) -> np.ndarray:
        """Return the negative binomial distribution function, over w."""
        return scipy.special.betainc(w * mu / extra, np.rint(w * y) + 1.0, 1.0 / (1.0 + extra))

    def _near(self, y: np.ndarray, weights: np.ndarray) -> np.ndarray:
        return np.where(y == 0.0, 1 / 6, y)


class BetaBinomial(DensityFamily):
    """Shares of successes whose probabilities vary: Beta(mu phi, (1 - mu) phi) in every row.

    The weights are the numbers of trials; in ``cbind(successes, failures)`` with weights besides,
    these are numbers of copies. The variance is ``mu (1 - mu) / n * (phi + n) / (phi + 1)``.

    Parameters
    ----------
    link : str or Link
        "logit", "probit", "cloglog", "log" or any other.

    Examples
    --------
    >>> from mixef import BetaBinomial
    >>> BetaBinomial("cloglog")
    BetaBinomial(link='cloglog')
    """

    name = "betabinomial"
    spellings = ("beta_binomial",)
    auxiliary = (PHI,)
    mean_range = edges = (0.0, 1.0)
    has_trials = True
    support = "whole"

    def __init__(self, link: Any = "logit") -> None:
        super().__init__(link)

    def variance(self, mu: np.ndarray, extra: Extra = None) -> np.ndarray:
        """Return ``mu (1 - mu)``, the variance of one trial."""
        return np.multiply(mu, np.subtract(1.0, mu))

    def effective_weights(
        self, weights: np.ndarray | None, extra: Extra, copies: np.ndarray | None = None
    ) -> np.ndarray | None:
        """Return what number of independent trials has the same variance."""
        if weights is None:
            return None
        w = 1.0 if copies is None else np.where(copies > 0, copies, 1.0)
        return weights * (1.0 + extra) / (weights / w + extra)

    def derivatives(
        self, y: np.ndarray, mu: np.ndarray, size: np.ndarray, extra: Extra, order: int, *by: int
    ) -> list[np.ndarray]:
        """Return derivatives of the log density for mu, after those for log phi."""
        phi, m = extra, len(by)
        k_, n = np.multiply(size, y), size
        failures = n - k_
        a, b = mu * phi, (1.0 - mu) * phi
        A, B = rising(a, k_, order + m), rising(b, failures, order + m)
        out = []
        for k in range(order + 1):
            row = (of_product(A, a, k, m) + (-1.0) ** k * of_product(B, b, k, m)) * phi**k
            if k == 0:
                row = row - of_product(rising(np.asarray(phi), n, m), phi, 0, m)
            if k > 0 and m == 0:
                row = row + k_ * _of_log(mu, k) + (-1.0) ** k * failures * _of_log(1.0 - mu, k)
            if k == 0 and m == 0:
                gammaln = scipy.special.gammaln
                row = row + times(k_, np.log(mu)) + times(failures, np.log1p(-mu))
                row = row + gammaln(n + 1.0) - gammaln(k_ + 1.0) - gammaln(failures + 1.0)
            out.append(row)
        return out

    def remedy(self, flat: tuple[str, ...]) -> str:
        """Say what a phi that the data leave open means."""
        return (
            "phi of the beta-binomial goes to infinity, where it is the binomial distribution: "
            "the shares do not vary more than that, so use family='binomial'"
        )

    def initial_extra(
        self, y: np.ndarray, mu: np.ndarray, weights: np.ndarray | None = None
    ) -> Extra:
        """Return the phi at which Pearson's chi-square is as observed."""
        n = np.ones(len(y)) if weights is None else weights
        share = float(np.mean(n * np.square(y - mu) / (mu * (1.0 - mu))))
        rho = np.clip((share - 1.0) / max(float(n.mean()) - 1.0, 1e-8), 1e-3, 0.9)
        return float(1.0 / rho - 1.0)

    def check_response(
        self, y: np.ndarray, weights: np.ndarray | None = None, name: str = "y"
    ) -> None:
        """Raise unless shares are in [0, 1] and some rows have several trials."""
        super().check_response(y, weights, name)
        check_shares(y, name, self.name, weights)
        if weights is None or not np.any(weights > 1.0):
            raise DataError(
                f"the response {name} of a betabinomial model has single trials alone, which say "
                "nothing of how probabilities vary; use family='binomial', or give counts as "
                "cbind(successes, failures) or the numbers of trials as weights="
            )

    def random(
        self,
        rng: np.random.Generator,
        mu: np.ndarray,
        weights: np.ndarray | None = None,
        extra: Extra = None,
    ) -> np.ndarray:
        """Draw shares of successes; 0 where there are no trials."""
        trials = 1 if weights is None else by_row(whole_trials(weights), mu).astype(np.int64)
        tiny = np.finfo(float).tiny
        shares = rng.beta(np.maximum(mu * extra, tiny), np.maximum((1.0 - mu) * extra, tiny))
        return rng.binomial(trials, shares) / np.maximum(trials, 1)

    def cdf(self, y: np.ndarray, mu: np.ndarray, w: np.ndarray, extra: Extra) -> np.ndarray:
        """Return the distribution function of a share of w trials, by the sum of its terms."""
        successes, n = np.rint(w * y), np.rint(w)
        a, b = mu * extra, (1.0 - mu) * extra
        betaln = scipy.special.betaln
        with np.errstate(all="ignore"):
            term = np.exp(betaln(a, b + n) - betaln(a, b))
            total = np.zeros(np.broadcast_shapes(np.shape(term), np.shape(y)))
            for k in range(int(np.max(np.minimum(successes, n), initial=0.0)) + 1):
                total = total + np.where(k <= successes, term, 0.0)
                term = term * (n - k) * (a + k) / ((k + 1.0) * (b + n - k - 1.0))
        return np.where(successes >= n, 1.0, np.minimum(total, 1.0))

    def _near(self, y: np.ndarray, weights: np.ndarray) -> np.ndarray:
        return (weights * y + 0.5) / (weights + 1.0)
