"""Families with a dispersion phi: Gaussian, gamma and inverse Gaussian.

Densities and deviances are those of McCullagh and Nelder (1989), Generalized Linear Models,
sections 2.2 and 2.3, with the exact normalizers, so that phi is fitted by maximum likelihood. A
weight multiplies the log density of its row (k equals k copies), as in the other families. R's
dispersion weights (phi / w in place of phi) give the same score for the mean, but another
likelihood and another phi.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import scipy

from mixef.families.auxiliary import DISPERSION, Auxiliary, Extra
from mixef.families.family import Family, by_row, refuse
from mixef.families.special import digamma_error, half_deviance, stirling_error


class _Dispersed(Family):
    """What the three have in common."""

    divides_dispersion = True

    @property
    def auxiliary(self) -> tuple[Auxiliary, ...]:
        """The dispersion."""
        return (DISPERSION,)

    def _near(self, y: np.ndarray, weights: np.ndarray) -> np.ndarray:
        return y

    def _shares(
        self, mu: np.ndarray, weights: np.ndarray | None, extra: float | None
    ) -> np.ndarray | float:
        """Return ``phi / w``, which is the dispersion of the mean of w copies."""
        phi = self.dispersion(extra)
        return phi if weights is None else phi / by_row(weights, mu)


class _Positive(_Dispersed):
    """The two for positive responses."""

    mean_range = (0.0, np.inf)
    support = "positive"

    def check_response(
        self, y: np.ndarray, weights: np.ndarray | None = None, name: str = "y"
    ) -> None:
        """Raise unless all values are positive."""
        super().check_response(y, weights, name)
        refuse(
            np.less_equal(y, 0.0),
            y,
            f"the response {name} of a {self.name} model",
            "positive values",
            "use the gaussian family, or model the zeros on their own",
        )


class Gaussian(_Dispersed):
    """Normal responses with variance phi.

    A weight of k equals k copies of a row. That is not R's meaning of weights for this family
    (variance phi / w): estimates of the mean agree, the likelihood and phi do not.

    Parameters
    ----------
    link : str or Link
        "identity", "log", "inverse" or any other.

    Examples
    --------
    >>> from mixef.families.continuous import Gaussian
    >>> Gaussian("log").is_canonical
    False
    """

    name = "gaussian"
    spellings = ("normal",)
    support = "real"
    canonical_link = "identity"
    mean_range = (-np.inf, np.inf)

    def __init__(self, link: Any = "identity") -> None:
        super().__init__(link)

    def variance(self, mu: np.ndarray, extra: Extra = None) -> np.ndarray:
        """Return 1."""
        return np.ones(np.shape(mu))

    def d_variance(self, mu: np.ndarray, extra: Extra = None) -> np.ndarray:
        """Return 0."""
        return np.zeros(np.shape(mu))

    d2_variance = d3_variance = d_variance

    def unit_deviance(self, y: np.ndarray, mu: np.ndarray, extra: Extra = None) -> np.ndarray:
        """Return ``(y - mu)^2``."""
        return np.square(by_row(y, mu) - mu)

    def unit_normalizer(self, y: np.ndarray, extra: Extra = None) -> np.ndarray:
        """Return ``-log(2 pi phi) / 2``."""
        return np.full(np.shape(y), -0.5 * np.log(2 * np.pi * self.dispersion(extra)))

    def unit_by_extra(self, y: np.ndarray, mu: np.ndarray, extra: Extra = None) -> np.ndarray:
        """Return the derivative for phi."""
        phi = self.dispersion(extra)
        return 0.5 * (self.unit_deviance(y, mu) / phi - 1.0) / phi

    def random(
        self,
        rng: np.random.Generator,
        mu: np.ndarray,
        weights: np.ndarray | None = None,
        extra: Extra = None,
    ) -> np.ndarray:
        """Draw normal values with variance ``phi / w``."""
        drawn = rng.standard_normal(np.shape(mu))
        drawn *= np.sqrt(self._shares(mu, weights, extra))
        return np.add(drawn, mu, out=drawn)

    def cdf(self, y: np.ndarray, mu: np.ndarray, w: np.ndarray, extra: Extra) -> np.ndarray:
        """Return the normal distribution function."""
        return scipy.special.ndtr((y - mu) * np.sqrt(w / extra))


class Normal(Gaussian):
    """The normal distribution of a linear model: a weight of w divides the variance by w."""

    counts_copies = False

    def __init__(self) -> None:
        super().__init__("identity")


class Gamma(_Positive):
    """Positive responses with variance ``phi mu^2``: gamma with shape ``1 / phi``.

    The default link is R's, "inverse"; "log" is usually what is wanted: it keeps means positive,
    and effects are then ratios.

    A weight of k equals k copies of a row. That is not R's meaning of weights for this family
    (dispersion phi / w): estimates of the mean agree, the likelihood and phi do not.

    Parameters
    ----------
    link : str or Link
        "inverse", "log", "identity" or any other.

    Examples
    --------
    >>> from mixef.families.continuous import Gamma
    >>> Gamma("log")
    Gamma(link='log')
    """

    name = "Gamma"
    canonical_link = "inverse"

    def __init__(self, link: Any = "inverse") -> None:
        super().__init__(link)

    def variance(self, mu: np.ndarray, extra: Extra = None) -> np.ndarray:
        """Return ``mu^2``."""
        return np.square(np.asarray(mu, dtype=float))

    def d_variance(self, mu: np.ndarray, extra: Extra = None) -> np.ndarray:
        """Return ``2 mu``."""
        return np.multiply(mu, 2.0)

    def d2_variance(self, mu: np.ndarray, extra: Extra = None) -> np.ndarray:
        """Return 2."""
        return np.full(np.shape(mu), 2.0)

    def d3_variance(self, mu: np.ndarray, extra: Extra = None) -> np.ndarray:
        """Return 0."""
        return np.zeros(np.shape(mu))

    def unit_deviance(self, y: np.ndarray, mu: np.ndarray, extra: Extra = None) -> np.ndarray:
        """Return ``2 (y / mu - 1 - log(y / mu))``."""
        y = by_row(y, mu)
        with np.errstate(divide="ignore", over="ignore", invalid="ignore"):
            return 2.0 * half_deviance(mu, y, y - mu) / mu

    def unit_normalizer(self, y: np.ndarray, extra: Extra = None) -> np.ndarray:
        """Return ``a log a - a - log gamma(a) - log y`` with ``a = 1 / phi``."""
        phi = self.dispersion(extra)
        return -0.5 * np.log(2 * np.pi * phi) - stirling_error(1.0 / phi) - np.log(y)

    def unit_by_extra(self, y: np.ndarray, mu: np.ndarray, extra: Extra = None) -> np.ndarray:
        """Return the derivative for phi."""
        phi = self.dispersion(extra)
        normalizer = 0.5 + digamma_error(1.0 / phi) / phi
        return (0.5 * self.unit_deviance(y, mu) / phi - normalizer) / phi

    def random(
        self,
        rng: np.random.Generator,
        mu: np.ndarray,
        weights: np.ndarray | None = None,
        extra: Extra = None,
    ) -> np.ndarray:
        """Draw gamma values with shape ``w / phi``."""
        share = self._shares(mu, weights, extra)
        # With a small shape most of the mass is where floats underflow.
        return np.maximum(rng.gamma(1.0 / share, share * mu), np.finfo(float).tiny)

    def cdf(self, y: np.ndarray, mu: np.ndarray, w: np.ndarray, extra: Extra) -> np.ndarray:
        """Return the gamma distribution function."""
        shape = w / extra
        return scipy.special.gammainc(shape, shape * (y / mu))


class InverseGaussian(_Positive):
    """Positive responses with variance ``phi mu^3``.

    The default link is R's, "1/mu^2"; "log" keeps means positive for all effects.

    A weight of k equals k copies of a row. That is not R's meaning of weights for this family
    (dispersion phi / w): estimates of the mean agree, the likelihood and phi do not.

    Parameters
    ----------
    link : str or Link
        "1/mu^2", "inverse", "log", "identity" or any other.

    Examples
    --------
    >>> from mixef.families.continuous import InverseGaussian
    >>> InverseGaussian().is_canonical
    True
    """

    name = "inverse.gaussian"
    spellings = ("inversegaussian", "inverse_gaussian")
    canonical_link = "1/mu^2"

    def __init__(self, link: Any = "1/mu^2") -> None:
        super().__init__(link)

    def variance(self, mu: np.ndarray, extra: Extra = None) -> np.ndarray:
        """Return ``mu^3``."""
        return np.asarray(mu, dtype=float) ** 3

    def d_variance(self, mu: np.ndarray, extra: Extra = None) -> np.ndarray:
        """Return ``3 mu^2``."""
        return 3.0 * np.square(mu)

    def d2_variance(self, mu: np.ndarray, extra: Extra = None) -> np.ndarray:
        """Return ``6 mu``."""
        return np.multiply(mu, 6.0)

    def d3_variance(self, mu: np.ndarray, extra: Extra = None) -> np.ndarray:
        """Return 6."""
        return np.full(np.shape(mu), 6.0)

    def unit_deviance(self, y: np.ndarray, mu: np.ndarray, extra: Extra = None) -> np.ndarray:
        """Return ``(y - mu)^2 / (y mu^2)``."""
        y = by_row(y, mu)
        with np.errstate(divide="ignore", over="ignore", invalid="ignore"):
            return np.square((y - mu) / mu) / y

    def unit_normalizer(self, y: np.ndarray, extra: Extra = None) -> np.ndarray:
        """Return ``-log(2 pi phi y^3) / 2``."""
        return -0.5 * np.log(2 * np.pi * self.dispersion(extra)) - 1.5 * np.log(y)

    def unit_by_extra(self, y: np.ndarray, mu: np.ndarray, extra: Extra = None) -> np.ndarray:
        """Return the derivative for phi."""
        phi = self.dispersion(extra)
        return 0.5 * (self.unit_deviance(y, mu) / phi - 1.0) / phi

    def random(
        self,
        rng: np.random.Generator,
        mu: np.ndarray,
        weights: np.ndarray | None = None,
        extra: Extra = None,
    ) -> np.ndarray:
        """Draw inverse Gaussian values with variance ``phi mu^3 / w``.

        From a squared normal and a choice of one of the two roots (Michael, Schucany and Haas
        1976, The American Statistician 30), the smaller of which is written without cancellation.
        """
        half = 0.5 * self._shares(mu, weights, extra) * mu
        a = half * np.square(rng.standard_normal(np.shape(mu)))
        ratio = 1.0 / (1.0 + a + np.sqrt(a * (a + 2.0)))
        small = rng.random(np.shape(mu)) * (1.0 + ratio) <= 1.0
        return np.maximum(mu * np.where(small, ratio, 1.0 / ratio), np.finfo(float).tiny)

    def cdf(self, y: np.ndarray, mu: np.ndarray, w: np.ndarray, extra: Extra) -> np.ndarray:
        """Return the inverse Gaussian distribution function."""
        rate = w / extra
        root, ratio = np.sqrt(rate / y), y / mu
        far = np.exp(2.0 * rate / mu + scipy.special.log_ndtr(-root * (ratio + 1.0)))
        return scipy.special.ndtr(root * (ratio - 1.0)) + far
