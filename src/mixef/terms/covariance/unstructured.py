"""All variances and correlations free."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

import numpy as np
from scipy.linalg.lapack import dgesdd

from mixef.terms.covariance.base import Changes, Covariance, Held, Part
from mixef.terms.covariance.roots import (
    lower_triangle,
    psd_cholesky,
    psd_choleskys,
    unit_triangles,
)

# A template is askew where a diagonal entry is below this share of the singular value in its
# place, unless that is a relative standard deviation below VANISHED.
ASKEW, VANISHED = 0.9, 1e-3
# Where the smallest singular value is above this share of the largest, any axes will do.
ROUND = 0.3
# An eigenvalue this far below zero, relative to the largest, is rounding.
ROUNDING = 1e-10


class Unstructured(Covariance):
    """All variances and correlations free (``us``): x is the template's triangle, by columns."""

    tag = "us"
    invariance = "triangular"

    @property
    def n_par(self) -> int:
        return self.size * (self.size + 1) // 2

    def lam(self, x: np.ndarray) -> np.ndarray:
        """Return the template (s, s), or templates (m, s, s)."""
        if self.size == 1:
            return x[..., None].copy()
        row, col = lower_triangle(self.size)
        lam = np.zeros((*x.shape[:-1], self.size, self.size))
        lam[..., row, col] = x
        return lam

    def d_lam(self, x: np.ndarray) -> np.ndarray:
        return unit_triangles(self.size)

    def natural_units(self, x: np.ndarray, floor: float) -> np.ndarray:
        """Return the relative standard deviation of each entry's row."""
        if self.size == 1:
            units: np.ndarray = np.maximum(np.abs(x), floor)
            return units
        lam, row = Unstructured.lam(self, x), lower_triangle(self.size)[0]
        rows: np.ndarray = np.maximum(np.sqrt((lam * lam).sum(axis=-1)), floor)
        return rows[..., row]

    def coordinates(self, half: np.ndarray, floor: float = 0.0) -> np.ndarray:
        """Return the Cholesky factor, with zero columns where it is singular."""
        row, col = lower_triangle(self.size)
        lam = psd_cholesky(half, floor) if half.ndim == 2 else psd_choleskys(half, floor)
        return lam[..., row, col]

    def transformed(
        self, x: np.ndarray, transform: Callable[[np.ndarray], np.ndarray]
    ) -> np.ndarray:
        return self.coordinates(transform(self.lam(x)))

    def turned(self, x: np.ndarray) -> tuple[Covariance, np.ndarray] | None:
        if self.size < 2:
            return None
        T = Unstructured.lam(self, x)
        size = dgesdd(T, compute_uv=0)[1]  # LAPACK itself, without NumPy's routine around it
        askew = (np.abs(T.diagonal()) < ASKEW * size)[size > VANISHED]
        if size[-1] > ROUND * size[0] or not askew.any():
            return None
        left, size, right = np.linalg.svd(self.lam(x))
        return OnAxes(self.size, left=left, right=right.T), np.diag(size)[lower_triangle(self.size)]

    def labels(self, group: str, columns: Sequence[str]) -> list[str]:
        return [
            f"{group}.{columns[i]}" if i == j else f"{group}.{columns[i]}.{columns[j]}"
            for i, j in zip(*lower_triangle(self.size), strict=True)
        ]

    @property
    def lower(self) -> np.ndarray:
        row, col = lower_triangle(self.size)
        return np.where(row == col, 0.0, -np.inf)

    def parts(self, columns: Sequence[str]) -> list[Part]:
        """List standard deviations, then the correlations of all pairs."""
        pairs = [(i, j) for j in range(self.size) for i in range(j + 1, self.size)]
        correlations = [Part("cor", i, j, f"{columns[i]}.{columns[j]}") for i, j in pairs]
        return super().parts(columns) + correlations

    def root_of(self, sds: np.ndarray, correlations: np.ndarray) -> np.ndarray:
        R = np.eye(self.size)
        index = np.triu_indices(self.size, 1)
        R[index] = R.T[index] = correlations
        value, vector = np.linalg.eigh(R)
        if value[0] < -ROUNDING * value[-1]:
            raise ValueError(
                f"is not positive semi-definite (its correlations have the eigenvalue "
                f"{value[0]:.3g}); correlations have to go together"
            )
        return psd_cholesky(sds[:, None] * (vector * np.sqrt(np.maximum(value, 0.0))))

    def held(self, kind: str, row: int) -> Held:
        return Held.itself(0)

    def focused(self, directions: np.ndarray) -> OnAxes | None:
        if self.size < 2:
            return None
        return OnAxes(self.size, left=axes_of(directions))

    def changes(self, x: np.ndarray) -> Changes:
        """Return the symmetric matrices, a linear space."""
        unit = Unstructured.d_lam(self, x)
        return Changes(np.maximum(unit, unit.transpose(0, 2, 1)), None)


@dataclass(frozen=True, eq=False)
class OnAxes(Unstructured):
    """All variances and correlations free, as ``lam = left T right'`` with T lower triangular.

    On the principal axes of a root, from its singular value decomposition, T is diagonal, largest
    entries first: columns that vanish come last, and none is nearly a combination of those before
    it. On the axes of a focus, T's first entries are what is singled out.
    """

    left: np.ndarray = field(kw_only=True)  # (s, s): invertible
    # (s, s): orthogonal; None for the identity
    right: np.ndarray | None = field(default=None, kw_only=True)

    def _placed(self, T: np.ndarray) -> np.ndarray:
        placed: np.ndarray = self.left @ T if self.right is None else self.left @ T @ self.right.T
        return placed

    def lam(self, x: np.ndarray) -> np.ndarray:
        """Return the root (s, s) at the lower triangle x of T."""
        return self._placed(super().lam(x))

    def d_lam(self, x: np.ndarray) -> np.ndarray:
        return self._placed(super().d_lam(x))

    def coordinates(self, half: np.ndarray, floor: float = 0.0) -> np.ndarray:
        """Return the lower triangle of T for the covariance of any root."""
        return super().coordinates(np.linalg.solve(self.left, half), floor)


def axes_of(directions: np.ndarray) -> np.ndarray:
    """Return A (s, s), where the first columns of ``A^-T`` are the directions (m, s) at length 1.

    The others are orthonormal and orthogonal to them.
    """
    unit = directions / np.linalg.norm(directions, axis=1)[:, None]
    complement = np.linalg.qr(unit.T, mode="complete")[0][:, len(unit) :]
    return np.linalg.inv(np.column_stack([unit.T, complement])).T
