"""Uncorrelated columns, and what structures with one correlation share with them."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import ClassVar

import numpy as np

from mixef.terms.covariance.base import Changes, Covariance, Held


class Diagonal(Covariance):
    """Uncorrelated columns (``diag``): x is their relative standard deviations, or the one."""

    tag = "diag"
    default_hom: ClassVar[bool | None] = False
    correlations = "none"

    @property
    def n_sds(self) -> int:
        """Number of standard deviations."""
        return 1 if self.hom else self.size

    @property
    def n_par(self) -> int:
        return self.n_sds

    @property
    def _columns(self) -> np.ndarray:
        """Which columns (m, s) each standard deviation is for."""
        return np.ones((1, self.size)) if self.hom else np.eye(self.size)

    def lam(self, x: np.ndarray) -> np.ndarray:
        sds: np.ndarray = x @ self._columns
        return sds[..., None] * np.eye(self.size)

    def d_lam(self, x: np.ndarray) -> np.ndarray:
        return self._columns[:, :, None] * np.eye(self.size)

    def coordinates(self, half: np.ndarray, floor: float = 0.0) -> np.ndarray:
        """Return the lengths of the rows."""
        sds = np.sqrt((half**2).sum(axis=-1))[..., : self.n_sds]
        return np.where(sds > floor, sds, 0.0)

    def transformed(
        self, x: np.ndarray, transform: Callable[[np.ndarray], np.ndarray]
    ) -> np.ndarray:
        """Return the standard deviations times the columns' scales."""
        return self.from_sds(self.sds(x) * transform(np.eye(self.size)).diagonal()[: self.n_sds], x)

    def sds(self, x: np.ndarray) -> np.ndarray:
        """Return the standard deviations (m,)."""
        sds: np.ndarray = np.abs(x[: self.n_sds])
        return sds

    def from_sds(self, sds: np.ndarray, x: np.ndarray) -> np.ndarray:
        """Return canonical coordinates with other standard deviations (m,), else those of x."""
        return np.array(sds, dtype=float)

    def inside(self, x: np.ndarray, share: float) -> np.ndarray:
        return self.from_sds(np.maximum(self.sds(x), share), x)

    def labels(self, group: str, columns: Sequence[str]) -> list[str]:
        """Name each standard deviation by its column, the common one by the factor."""
        return [group] if self.hom else [f"{group}.{column}" for column in columns]

    @property
    def lower(self) -> np.ndarray:
        return np.zeros(self.n_par)

    def root_of(self, sds: np.ndarray, correlations: np.ndarray) -> np.ndarray:
        return self.lam(sds)

    def held(self, kind: str, row: int) -> Held:
        return Held.itself(0 if self.hom else row)

    def changes(self, x: np.ndarray) -> Changes:
        """Return the diagonal matrices, a linear space."""
        return Changes(self.d_lam(x), None)
