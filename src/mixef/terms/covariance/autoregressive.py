"""Autoregression of order one: correlations fall with the distance of the columns."""

from __future__ import annotations

import numpy as np

from mixef.terms.covariance.correlated import OneCorrelation


class AutoRegressive(OneCorrelation):
    """Correlations ``rho^|i - j|`` by the columns' positions (``ar1``), with ``rho = sin phi``."""

    tag = "ar1"
    default_hom = True
    named = "lag1"
    reach = 1
    angles = (-0.5 * np.pi, 0.5 * np.pi)

    @property
    def _lag(self) -> np.ndarray:
        return np.subtract.outer(np.arange(self.size), np.arange(self.size))

    def C(self, phi: float) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Return the lower triangular root of the correlations, and its derivatives.

        Entries are ``rho^(i - j)``, beyond the first column times the cosine.
        """
        sin, cos = np.sin(phi), np.cos(phi)
        power, by_sin, twice = (np.tril(part) for part in _powers(self._lag, sin))
        slope, curvature = by_sin * cos, twice * cos**2 - by_sin * sin
        C, C1 = cos * power, cos * slope - sin * power
        C2 = cos * curvature - 2.0 * sin * slope - cos * power
        C[:, 0], C1[:, 0], C2[:, 0] = power[:, 0], slope[:, 0], curvature[:, 0]
        return C, C1, C2

    def R(self, rho: float) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        return _powers(np.abs(self._lag), rho)

    def rho(self, phi: float) -> tuple[float, float, float]:
        return float(np.sin(phi)), float(np.cos(phi)), float(-np.sin(phi))

    def phi(self, rho: float) -> float:
        return float(np.arcsin(min(max(rho, -1.0), 1.0)))

    def folded(self, phi: float) -> float:
        """Return the angle from minus to plus a right one."""
        turn = (phi + 0.5 * np.pi) % (2.0 * np.pi)
        return min(turn, 2.0 * np.pi - turn) - 0.5 * np.pi

    def of_lag(self, correlation: float, lag: int) -> float:
        return float(np.sign(correlation) * np.abs(correlation) ** (1.0 / lag))

    def others(self, x: np.ndarray) -> list[np.ndarray]:
        """Return the correlation of the other sign, where another optimum may be."""
        return super().others(x) or [np.append(x[:-1], -x[-1])]


def _powers(lag: np.ndarray, rho: float) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Return ``rho^lag`` for lags of 0 or more, and two derivatives for rho; zero for others."""
    k = np.maximum(lag, 0)
    power = rho**k
    first = k * rho ** np.maximum(k - 1, 0)
    return power, first, k * (k - 1) * rho ** np.maximum(k - 2, 0)
