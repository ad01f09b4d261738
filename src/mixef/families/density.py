"""Families of any density: a log density in the mean, with its derivatives.

Nothing is asked of the density but smoothness: it need not be an exponential family's, its score
for the mean need not be ``(y - mu) / V``, and the mean that fits a response best need not be the
response. Information is the observed one; a positive weight in its place, for scoring steps far
from the mode, is by the variance.
"""

from __future__ import annotations

from abc import abstractmethod

import numpy as np

from mixef.families.auxiliary import Extra
from mixef.families.family import Family, by_row, weigh

# Halvings that bring a bracket of the best mean to rounding.
HALVINGS = 60
# Logs and logits of means beyond this are at the end of the range.
FAR = 45.0


class DensityFamily(Family):
    """A distribution given by its log density ``l(y, mu)``, of ``size`` trials where it has some.

    A subclass gives `derivatives`, `variance`, its auxiliary parameters and `initial_extra`.
    """

    information = "observed"
    knows_expected = False
    starts_at_moments = True

    @abstractmethod
    def derivatives(
        self, y: np.ndarray, mu: np.ndarray, size: np.ndarray, extra: Extra, order: int, *by: int
    ) -> list[np.ndarray]:
        """Return ``d^k l_by / d mu^k`` for k from 0 to ``order``, arrays that broadcast.

        Parameters
        ----------
        size : ndarray
            Numbers of trials, like y; ones for a family without.
        by : int
            Up to two auxiliary parameters, by position, for whose coordinates l is differentiated
            first. All orders together are four at most.
        """

    @property
    def has_stand_in(self) -> bool:
        """Whether expected weights are by the variance, and not the expected information."""
        return type(self).working_weight is DensityFamily.working_weight

    def working_weight(self, mu: np.ndarray, size: np.ndarray, extra: Extra) -> np.ndarray:
        """Return a positive stand-in for the information on the mean of one row."""
        weights = self.effective_weights(size, extra)
        assert weights is not None
        return weights / self.variance(mu, extra)

    def log_kernel(
        self,
        y: np.ndarray,
        eta: np.ndarray,
        mu: np.ndarray,
        weights: np.ndarray | None = None,
        extra: Extra = None,
    ) -> np.ndarray:
        """Return the log density of each row, all of which depends on the mean."""
        copies, size = self.copies_and_size(y, weights)
        rows = self.derivatives(by_row(y, mu), mu, by_row(size, mu), extra, 0)[0]
        return weigh(copies, rows)

    def log_normalizer(
        self, y: np.ndarray, weights: np.ndarray | None = None, extra: Extra = None
    ) -> np.ndarray:
        """Return zero: `log_kernel` is the density."""
        return np.zeros(np.shape(y))

    def copies_and_size(
        self, y: np.ndarray, weights: np.ndarray | None, copies: np.ndarray | None = None
    ) -> tuple[np.ndarray | None, np.ndarray]:
        """Return what multiplies the log densities, and the numbers of trials of one copy.

        Parameters
        ----------
        weights : ndarray (n,) or None
            Numbers of trials times copies where there are trials, else copies.
        """
        ones = np.ones(np.shape(y))
        if not self.has_trials:
            return weights, ones
        if weights is None or copies is None:
            return None, ones if weights is None else weights
        return copies, np.divide(weights, copies, out=np.zeros(len(weights)), where=copies > 0)

    def best_mean(self, y: np.ndarray, size: np.ndarray, extra: Extra) -> np.ndarray:
        """Return the mean (n,) at which the density of each row is largest, by bisection."""
        lower, upper = self.mean_range

        def mean(t: np.ndarray) -> np.ndarray:
            if upper < np.inf:
                return lower + (upper - lower) / (1.0 + np.exp(-t))
            return y + t if lower == -np.inf else lower + np.exp(t)

        low, high = np.full(len(y), -FAR), np.full(len(y), FAR)
        with np.errstate(all="ignore"):
            for _ in range(HALVINGS):
                half = 0.5 * (low + high)
                rises = self.derivatives(y, mean(half), size, extra, 1)[1] > 0.0
                low, high = np.where(rises, half, low), np.where(rises, high, half)
        return mean(0.5 * (low + high))

    def row_deviances(
        self,
        y: np.ndarray,
        mu: np.ndarray,
        weights: np.ndarray | None,
        extra: Extra,
        copies: np.ndarray | None = None,
    ) -> np.ndarray:
        """Return twice what the log density of each row (n,) loses from its best mean."""
        copies, size = self.copies_and_size(y, weights, copies)
        with np.errstate(all="ignore"):
            ends = [
                self.derivatives(y, m, size, extra, 0)[0]
                for m in (self.best_mean(y, size, extra), mu)
            ]
        return weigh(copies, np.maximum(2.0 * (ends[0] - ends[1]), 0.0))

    def saturated(
        self, y: np.ndarray, weights: np.ndarray | None = None, extra: Extra = None
    ) -> np.ndarray:
        """Return the log density of each row at its best mean (n,)."""
        copies, size = self.copies_and_size(y, weights)
        with np.errstate(all="ignore"):
            rows = self.derivatives(y, self.best_mean(y, size, extra), size, extra, 0)[0]
        return weigh(copies, rows)

    def unit_deviance(self, y: np.ndarray, mu: np.ndarray, extra: Extra = None) -> np.ndarray:
        """Return the deviance of one row of one trial."""
        return self.row_deviances(y, mu, None, extra)

    def unit_normalizer(self, y: np.ndarray, extra: Extra = None) -> np.ndarray:
        """Return zero."""
        return np.zeros(np.shape(y))


def through_link(outer: list[np.ndarray], inner: list[np.ndarray]) -> list[np.ndarray]:
    """Return derivatives of a function of the mean for the linear predictor: the chain rule.

    Parameters
    ----------
    outer : list of ndarray
        The function and its derivatives for the mean, up to the fourth.
    inner : list of ndarray
        Derivatives of the mean, from the first on.
    """
    out, order = [outer[0]], len(outer) - 1
    if order > 0:
        f1, m1 = outer[1], inner[0]
        out.append(f1 * m1)
    if order > 1:
        f2, m2 = outer[2], inner[1]
        out.append(f2 * m1**2 + f1 * m2)
    if order > 2:
        f3, m3 = outer[3], inner[2]
        out.append(f3 * m1**3 + 3.0 * f2 * m1 * m2 + f1 * m3)
    if order > 3:
        f4, m4 = outer[4], inner[3]
        second = f2 * (3.0 * m2**2 + 4.0 * m1 * m3)
        out.append(f4 * m1**4 + 6.0 * f3 * m1**2 * m2 + second + f1 * m4)
    return out


def of_product(
    derivatives: list[np.ndarray], x: np.ndarray, k: int, by: int, power: int = 1
) -> np.ndarray:
    """Return ``d^k/dm^k (d/dt)^by F(x)`` over ``s^k``, for ``x = m s`` and ``s = exp(power t)``.

    By Euler's rule: ``d/dt`` of ``s^k F^(k)`` is ``power (k F^(k) + x F^(k + 1)) s^k``.

    Parameters
    ----------
    derivatives : list of ndarray
        F and its derivatives at x, up to the order ``k + by``.
    """
    F = derivatives
    if by == 0:
        return F[k]
    if by == 1:
        return power * (k * F[k] + x * F[k + 1])
    return power**2 * (k * k * F[k] + (2 * k + 1) * x * F[k + 1] + x * x * F[k + 2])
