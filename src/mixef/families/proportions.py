"""The beta family: shares that are not counted, strictly inside (0, 1).

S. Ferrari and F. Cribari-Neto (2004), Beta regression for modelling rates and proportions,
Journal of Applied Statistics 31. Densities are written by Stirling's formula, so that they stay
exact for a large precision.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import scipy

from mixef.families.auxiliary import Auxiliary, Extra
from mixef.families.density import DensityFamily, of_product
from mixef.families.family import by_row, refuse
from mixef.families.special import digamma_error, half_deviance, stirling_error
from mixef.families.whole_numbers import mean_of_copies

PHI = Auxiliary("phi")


class Beta(DensityFamily):
    """Shares with mean mu and variance ``mu (1 - mu) / (1 + phi)``: Beta(mu phi, (1 - mu) phi).

    Parameters
    ----------
    link : str or Link
        "logit", "probit", "cloglog", "log" or any other.

    Examples
    --------
    >>> from mixef import Beta
    >>> Beta("probit")
    Beta(link='probit')
    >>> float(Beta().variance(0.5, 4.0))
    0.05
    """

    name = "beta"
    auxiliary = (PHI,)
    mean_range = (0.0, 1.0)
    support = "unit"

    def __init__(self, link: Any = "logit") -> None:
        super().__init__(link)

    def variance(self, mu: np.ndarray, extra: Extra = None) -> np.ndarray:
        """Return ``mu (1 - mu) / (1 + phi)``."""
        return np.multiply(mu, np.subtract(1.0, mu)) / (1.0 + extra)

    def derivatives(
        self, y: np.ndarray, mu: np.ndarray, size: np.ndarray, extra: Extra, order: int, *by: int
    ) -> list[np.ndarray]:
        """Return derivatives of the log density for mu, after those for log phi."""
        phi, m = extra, len(by)
        a, b = mu * phi, (1.0 - mu) * phi
        out = []
        if order + m > 1 or m == 0:
            logits = np.log(y) - np.log1p(-y)
        if order + m > 1:
            most = range(2, order + m + 1)
            A = [np.zeros(1), -scipy.special.psi(a)]
            A += [-scipy.special.polygamma(j - 1, a) for j in most]
            B = [np.zeros(1), -scipy.special.psi(b)]
            B += [-scipy.special.polygamma(j - 1, b) for j in most]
        far = half_deviance(mu, y, y - mu) + half_deviance(1.0 - mu, 1.0 - y, mu - y)
        for k in range(order + 1):
            if k + m == 0:
                value = 0.5 * np.log(phi / (2.0 * np.pi)) + stirling_error(phi)
                value = value - stirling_error(a) - stirling_error(b) - phi * far
                out.append(value + 0.5 * (np.log(mu) + np.log1p(-mu)) - np.log(y) - np.log1p(-y))
            elif k + m == 1 and m == 1:
                errors = a * digamma_error(a) + b * digamma_error(b) - phi * digamma_error(phi)
                out.append(0.5 + errors - phi * far)
            elif k + m == 1:
                errors = 0.5 / a - 0.5 / b + digamma_error(a) - digamma_error(b)
                out.append(phi * (logits - np.log(mu) + np.log1p(-mu) + errors))
            else:
                rows = of_product(A, a, k, m) + (-1.0) ** k * of_product(B, b, k, m)
                if k == 0:  # twice for log phi
                    G = [0.0, scipy.special.psi(phi), scipy.special.polygamma(1, phi)]
                    rows = rows + of_product(G, phi, 0, m) + a * np.log(y) + b * np.log1p(-y)
                elif k == 1:  # the linear part, which d/dt leaves as it is
                    rows = rows + logits
                out.append(rows * phi**k)
        return out

    def working_weight(self, mu: np.ndarray, size: np.ndarray, extra: Extra) -> np.ndarray:
        """Return the expected information on the mean."""
        trigamma = scipy.special.polygamma(1, mu * extra)
        return extra**2 * (trigamma + scipy.special.polygamma(1, (1.0 - mu) * extra))

    def initial_extra(
        self, y: np.ndarray, mu: np.ndarray, weights: np.ndarray | None = None
    ) -> Extra:
        """Return the precision at which the variance is as observed."""
        share = np.average(np.square(y - mu) / (mu * (1.0 - mu)), weights=weights)
        return float(np.clip(1.0 / share - 1.0, 0.1, 1e6))

    def check_response(
        self, y: np.ndarray, weights: np.ndarray | None = None, name: str = "y"
    ) -> None:
        """Raise unless all values are strictly between 0 and 1."""
        super().check_response(y, weights, name)
        refuse(
            np.less_equal(y, 0.0) | np.greater_equal(y, 1.0),
            y,
            f"the response {name} of a beta model",
            "values strictly between 0 and 1",
            "model zeros and ones on their own, or give counts to the family 'betabinomial'",
        )

    def random(
        self,
        rng: np.random.Generator,
        mu: np.ndarray,
        weights: np.ndarray | None = None,
        extra: Extra = None,
    ) -> np.ndarray:
        """Draw shares, or means of w shares, w a whole number."""
        tiny = np.finfo(float).tiny

        def draw(means: np.ndarray) -> np.ndarray:
            drawn = rng.beta(np.maximum(means * extra, tiny), np.maximum((1 - means) * extra, tiny))
            return np.clip(drawn, tiny, 1.0 - np.finfo(float).epsneg)

        return mean_of_copies(draw, mu, weights)

    def cdf(self, y: np.ndarray, mu: np.ndarray, w: np.ndarray, extra: Extra) -> np.ndarray:
        """Return the beta distribution function, of a single response."""
        self.refuse_copies(w)
        return scipy.special.betainc(mu * extra, (1.0 - mu) * extra, by_row(y, mu))
