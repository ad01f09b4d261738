"""The negative binomial family: counts with variance ``mu + mu^2 / shape``.

Densities are those of Lawless (1987), Canadian Journal of Statistics 15, written so that they stay
exact in the tails, close to ``mu = y`` and close to the Poisson limit.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import scipy

from mixef.checks import shown
from mixef.errors import ArgumentError
from mixef.families.auxiliary import Auxiliary, Extra
from mixef.families.family import Family, Information, by_row, weigh
from mixef.families.special import (
    digamma_error,
    log1pmx,
    log_rising,
    stirling_error,
    times,
)
from mixef.families.whole_numbers import check_counts, poisson

SHAPE = Auxiliary("shape")


@dataclass(frozen=True, init=False, repr=False)
class NegativeBinomial(Family):
    """Counts with variance ``mu + mu^2 / shape``.

    Parameters
    ----------
    shape : float, optional
        Known shape (R's theta; statsmodels' ``1 / alpha``). Without it the shape is estimated.
    link : str or Link
        "log", "identity", "sqrt" or any other.

    Raises
    ------
    ValueError
        If the shape is not a positive number.

    Examples
    --------
    >>> from mixef.families.negative_binomial import NegativeBinomial
    >>> NegativeBinomial().auxiliary[0].name
    'shape'
    >>> NegativeBinomial(2).name
    'Negative Binomial(2)'
    >>> float(NegativeBinomial(2).variance(4.0))
    12.0
    """

    shape: float | None

    spellings = (
        "negative.binomial", "negativebinomial", "negative binomial", "negative_binomial",
        "negbinomial", "negbin", "nbinom2",
    )  # fmt: skip
    mean_range = (0.0, np.inf)
    edges = (0.0,)
    closed = is_count = True
    support = "whole"
    information: Information = "observed"  # type: ignore[misc]

    def __init__(self, shape: float | None = None, link: Any = "log") -> None:
        super().__init__(link)
        if shape is not None and not (is_number(shape) and 0 < shape < np.inf):
            raise ArgumentError(
                f"the shape of a negative binomial family is {shown(shape)}; expected a positive "
                "number, or None to estimate it"
            )
        self._set(shape=None if shape is None else float(shape))

    @property
    def name(self) -> str:
        """R's name, with a known shape."""
        return "Negative Binomial" + ("" if self.shape is None else f"({round(self.shape, 4):.7g})")

    @property
    def auxiliary(self) -> tuple[Auxiliary, ...]:
        """The shape, unless it is known."""
        return (SHAPE,) if self.shape is None else ()

    def name_at(self, extra: Extra) -> str:
        """Return R's name with the estimate of the shape."""
        return NegativeBinomial(self._shape(extra)).name

    def remedy(self, flat: tuple[str, ...]) -> str:
        """Say what a shape that the data leave open means."""
        return (
            "the shape of the negative binomial goes to infinity, where it is the Poisson "
            "distribution: the counts are not more dispersed than that, so use family='poisson'"
        )

    def variance(self, mu: np.ndarray, extra: Extra = None) -> np.ndarray:
        """Return ``mu + mu^2 / shape``."""
        return mu + np.square(mu) / self._shape(extra)

    def d_variance(self, mu: np.ndarray, extra: Extra = None) -> np.ndarray:
        """Return ``1 + 2 mu / shape``."""
        return 1.0 + np.multiply(mu, 2.0 / self._shape(extra))

    def d2_variance(self, mu: np.ndarray, extra: Extra = None) -> np.ndarray:
        """Return ``2 / shape``."""
        return np.full(np.shape(mu), 2.0 / self._shape(extra))

    def d3_variance(self, mu: np.ndarray, extra: Extra = None) -> np.ndarray:
        """Return 0."""
        return np.zeros(np.shape(mu))

    def variance_by_extra(self, mu: np.ndarray, extra: Extra = None) -> np.ndarray:
        """Return ``-mu^2 / shape^2``, or zero for a known shape."""
        return self.d_variance_by_extra(mu, extra) * np.multiply(mu, 0.5)

    def d_variance_by_extra(self, mu: np.ndarray, extra: Extra = None) -> np.ndarray:
        """Return ``-2 mu / shape^2``, or zero for a known shape."""
        known = self.shape is not None
        return np.multiply(mu, 0.0 if known else -2.0 / self._shape(extra) ** 2)

    def unit_deviance(self, y: np.ndarray, mu: np.ndarray, extra: Extra = None) -> np.ndarray:
        """Return ``2 (y log(y / mu) - (y + shape) log((y + shape) / (mu + shape)))``.

        As a sum of terms of its own size: each logarithm less its first-order part.
        """
        y, shape = by_row(y, mu), self._shape(extra)
        excess, positive = mu - y, np.where(mu > 0.0, mu, 1.0)
        pull = shape * excess / (positive * (y + shape))
        gap = times(y, log1pmx(-pull)) + shape * log1pmx(excess / (y + shape)) + pull * excess
        return 2.0 * np.maximum(np.where(mu > 0.0, gap, np.where(y > 0.0, np.inf, 0.0)), 0.0)

    def unit_kernel(
        self, y: np.ndarray, eta: np.ndarray, mu: np.ndarray, extra: Extra = None
    ) -> np.ndarray:
        """Return ``y log mu - (y + shape) log(1 + mu / shape)``."""
        shape = self._shape(extra)
        return times(y, self.link.log_inverse(eta)) - (y + shape) * np.log1p(mu / shape)

    def unit_normalizer(self, y: np.ndarray, extra: Extra = None) -> np.ndarray:
        """Return ``log gamma(y + shape) - log gamma(shape) - y log shape - log y!``."""
        return log_rising(self._shape(extra), y) - scipy.special.gammaln(np.add(y, 1.0))

    def saturated(
        self, y: np.ndarray, weights: np.ndarray | None = None, extra: Extra = None
    ) -> np.ndarray:
        """Return the log density of each row at ``mu = y``, by Stirling's formula."""
        y, shape = np.asarray(y, dtype=float), self._shape(extra)
        positive = np.where(y > 0.0, y, 1.0)
        main = np.log(2.0 * np.pi * positive) + np.log1p(positive / shape)
        errors = stirling_error(positive + shape) - stirling_error(positive)
        rows = -0.5 * main + errors - stirling_error(shape)
        return weigh(weights, np.where(y > 0.0, rows, 0.0))

    def unit_by_extra(self, y: np.ndarray, mu: np.ndarray, extra: Extra = None) -> np.ndarray:
        """Return the derivative for the shape, exact for large ones and for large counts."""
        if self.shape is not None:
            return super().unit_by_extra(y, mu, extra)
        shape = self._shape(extra)
        psi = 0.5 * y / (shape * (shape + y)) + digamma_error(shape) - digamma_error(shape + y)
        return psi + log1pmx((y - mu) / (shape + mu))

    def initial_extra(
        self, y: np.ndarray, mu: np.ndarray, weights: np.ndarray | None = None
    ) -> float:
        """Return the shape at which the variance over a Poisson's is as observed."""
        over = np.average(np.square(y - mu) - mu, weights=weights)
        return float(1.0 / np.clip(over / np.average(np.square(mu), weights=weights), 1e-3, 1e3))

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
        shape = self._shape(extra)
        return poisson(rng, rng.gamma(w * shape, mu / shape)) / w

    def cdf(self, y: np.ndarray, mu: np.ndarray, w: np.ndarray, extra: Extra) -> np.ndarray:
        """Return the negative binomial distribution function, over w."""
        shape = self._shape(extra)
        return scipy.special.betainc(w * shape, np.rint(w * y) + 1.0, shape / (shape + mu))

    def _near(self, y: np.ndarray, weights: np.ndarray) -> np.ndarray:
        return np.where(y == 0.0, 1 / 6, y)

    def _shape(self, extra: Extra) -> float:
        shape = self.shape if self.shape is not None else extra
        if shape is None:
            raise ArgumentError(
                "the negative binomial family needs its shape: pass extra, a number"
            )
        return shape

    def __repr__(self) -> str:
        return f"NegativeBinomial(shape={self.shape}, link={self.link.name!r})"


def is_number(value: Any) -> bool:
    """Return whether a value is a real number and no truth value."""
    return isinstance(value, int | float | np.integer | np.floating) and not isinstance(value, bool)
