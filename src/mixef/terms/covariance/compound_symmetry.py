"""Compound symmetry: all correlations alike."""

from __future__ import annotations

import numpy as np

from mixef.terms.covariance.base import Changes
from mixef.terms.covariance.correlated import OneCorrelation


class CompoundSymmetry(OneCorrelation):
    """All correlations alike (``cs``), from ``-1 / (s - 1)`` to 1.

    The correlations have the eigenvalues ``1 - rho`` and, for the mean of the columns,
    ``1 + (s - 1) rho``. With weights by which their mean is one, ``rho = 1 - s/(s-1) cos^2 phi``,
    their roots are a cosine and a sine.
    """

    tag = "cs"
    default_hom = False
    named = "all"
    reach = 10**9
    angles = (0.0, 0.5 * np.pi)

    @property
    def _ratio(self) -> float:
        return self.size / (self.size - 1.0)

    def C(self, phi: float) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Return the symmetric root of the correlations, and its derivatives."""
        mean = np.full((self.size, self.size), 1.0 / self.size)
        within = np.sqrt(self._ratio) * (np.eye(self.size) - mean)
        between = np.sqrt(self.size) * mean
        C = np.cos(phi) * within + np.sin(phi) * between
        return C, np.cos(phi) * between - np.sin(phi) * within, -C

    def R(self, rho: float) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        others = 1.0 - np.eye(self.size)
        return np.eye(self.size) + rho * others, others, np.zeros_like(others)

    def rho(self, phi: float) -> tuple[float, float, float]:
        ratio = self._ratio
        slopes = ratio * np.sin(2.0 * phi), 2.0 * ratio * np.cos(2.0 * phi)
        return 1.0 - ratio * np.cos(phi) ** 2, *slopes

    def phi(self, rho: float) -> float:
        return float(np.arccos(np.sqrt(min(max((1.0 - rho) / self._ratio, 0.0), 1.0))))

    def folded(self, phi: float) -> float:
        """Return the angle between 0 and a right one."""
        angle = phi % np.pi
        return min(angle, np.pi - angle)

    def changes(self, x: np.ndarray) -> Changes:
        """Return, with one variance, the two matrices that span the space, which is linear."""
        if not self.hom:
            return super().changes(x)
        return Changes(np.stack([np.eye(self.size), np.ones((self.size, self.size))]), None)
