"""Covariance structures of random-effects terms: from parameters to templates.

A term's template ``lam`` (s, s) is lower triangular, and the term's covariance is
``sigma^2 lam lam'``. Each structure is one small class; ``theta``'s order (each term's lower
triangle, column by column) is known here and nowhere else.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache

import numpy as np

from mixef.errors import FormulaError


@dataclass(frozen=True)
class Covariance(ABC):
    """The covariance structure of one term with ``size`` columns.

    Attributes
    ----------
    size : int
        Columns s of the term.
    """

    size: int

    #: The formula's tag, and whether its columns share one standard deviation.
    tag = "us"
    hom = False
    #: What may be done to the columns without leaving the structure: "triangular" (any upper
    #: triangular transformation), "diagonal" (a scale each) or "scalar" (one common scale).
    invariance = "scalar"

    @property
    @abstractmethod
    def n_par(self) -> int:
        """Number of parameters."""

    @abstractmethod
    def lam(self, par: np.ndarray) -> np.ndarray:
        """Return the template (s, s) at ``par`` (n_par,)."""

    @abstractmethod
    def d_lam(self, par: np.ndarray) -> np.ndarray:
        """Return the template's derivatives (n_par, s, s)."""

    @abstractmethod
    def par(self, lam: np.ndarray) -> np.ndarray:
        """Return the parameters of a template of this structure."""

    @abstractmethod
    def canonical(self, lam: np.ndarray, floor: float = 0.0) -> np.ndarray:
        """Return the template with the same ``lam lam'`` and a non-negative diagonal.

        Diagonal entries up to ``floor`` are set to zero.
        """

    @abstractmethod
    def labels(self, group: str, columns: Sequence[str]) -> list[str]:
        """Name the parameters as lme4 names theta: ``Subject.Days.(Intercept)``."""

    @property
    @abstractmethod
    def lower(self) -> np.ndarray:
        """Lower bounds of the parameters, ``-inf`` where there is none."""

    def natural_units(self, par: np.ndarray, floor: float) -> np.ndarray:
        """Return each parameter's natural unit (n_par,): the standard deviation of its row."""
        rows = np.sqrt((self.lam(par) ** 2).sum(axis=1))
        dlam = self.d_lam(par) != 0
        return np.where(dlam, np.maximum(rows, floor)[:, None], 0.0).max(axis=(1, 2))

    def start(self) -> np.ndarray:
        """Return the parameters at which a search starts: the identity template."""
        return self.par(np.eye(self.size))


class Unstructured(Covariance):
    """All variances and correlations free (``us``): par is the lower triangle, by columns."""

    invariance = "triangular"

    @property
    def n_par(self) -> int:
        """Number of parameters, s (s + 1) / 2."""
        return self.size * (self.size + 1) // 2

    def lam(self, par: np.ndarray) -> np.ndarray:
        """Return the template (s, s) at ``par``."""
        lam = np.zeros((self.size, self.size))
        lam[lower_triangle(self.size)] = par
        return lam

    def d_lam(self, par: np.ndarray) -> np.ndarray:
        """Return the derivatives: one unit entry each."""
        row, col = lower_triangle(self.size)
        out = np.zeros((self.n_par, self.size, self.size))
        out[np.arange(self.n_par), row, col] = 1.0
        return out

    def par(self, lam: np.ndarray) -> np.ndarray:
        """Return the lower triangle, column by column."""
        return lam[lower_triangle(self.size)]

    def canonical(self, lam: np.ndarray, floor: float = 0.0) -> np.ndarray:
        """Return the Cholesky factor of ``lam lam'``, with zero columns where it is singular."""
        return psd_cholesky(lam, floor)

    def labels(self, group: str, columns: Sequence[str]) -> list[str]:
        """Name each entry of the lower triangle."""
        return [
            f"{group}.{columns[i]}" if i == j else f"{group}.{columns[i]}.{columns[j]}"
            for i, j in zip(*lower_triangle(self.size), strict=True)
        ]

    @property
    def lower(self) -> np.ndarray:
        """Zero for the diagonal."""
        row, col = lower_triangle(self.size)
        return np.where(row == col, 0.0, -np.inf)


@dataclass(frozen=True, eq=False)
class Turned(Unstructured):
    """All variances and correlations free, as ``lam = left T right'`` with T lower triangular.

    From the singular value decomposition of a template: T is diagonal there, largest entries
    first. Columns that vanish come last, and none is nearly a combination of those before it.

    Attributes
    ----------
    left, right : ndarray (s, s)
        Orthogonal.
    """

    left: np.ndarray
    right: np.ndarray

    def lam(self, par: np.ndarray) -> np.ndarray:
        """Return the template (s, s) at the lower triangle ``par`` of T."""
        return self.left @ super().lam(par) @ self.right.T

    def d_lam(self, par: np.ndarray) -> np.ndarray:
        """Return the template's derivatives (n_par, s, s)."""
        return self.left @ super().d_lam(par) @ self.right.T

    def par(self, lam: np.ndarray) -> np.ndarray:
        """Return the lower triangle of T for the covariance of a template."""
        return super().par(psd_cholesky(self.left.T @ lam))

    def canonical(self, lam: np.ndarray, floor: float = 0.0) -> np.ndarray:
        """Return the template with the same covariance and a non-negative diagonal of T."""
        return self.left @ psd_cholesky(self.left.T @ lam, floor) @ self.right.T

    def natural_units(self, par: np.ndarray, floor: float) -> np.ndarray:
        """Return the relative standard deviation along the axis of each entry's row."""
        return Unstructured(self.size).natural_units(par, floor)


class Diagonal(Covariance):
    """Uncorrelated columns (``diag``): par holds the s relative standard deviations."""

    tag = "diag"
    invariance = "diagonal"

    @property
    def n_par(self) -> int:
        """Number of parameters, s."""
        return self.size

    def lam(self, par: np.ndarray) -> np.ndarray:
        """Return the diagonal template (s, s) at ``par``."""
        return np.diag(par)

    def d_lam(self, par: np.ndarray) -> np.ndarray:
        """Return the derivatives: one unit entry on the diagonal each."""
        out = np.zeros((self.size, self.size, self.size))
        index = np.arange(self.size)
        out[index, index, index] = 1.0
        return out

    def par(self, lam: np.ndarray) -> np.ndarray:
        """Return the diagonal."""
        return lam.diagonal().copy()

    def canonical(self, lam: np.ndarray, floor: float = 0.0) -> np.ndarray:
        """Return the template with its signs dropped."""
        return np.where(np.abs(lam) > floor, np.abs(lam), 0.0)

    def labels(self, group: str, columns: Sequence[str]) -> list[str]:
        """Name each standard deviation."""
        return [f"{group}.{column}" for column in columns]

    @property
    def lower(self) -> np.ndarray:
        """Zero for every parameter."""
        return np.zeros(self.size)


class HomogeneousDiagonal(Diagonal):
    """Uncorrelated columns with one standard deviation (``diag(hom=TRUE)``)."""

    hom = True
    invariance = "scalar"

    @property
    def n_par(self) -> int:
        """Number of parameters, one."""
        return 1

    def lam(self, par: np.ndarray) -> np.ndarray:
        """Return the template ``par I``."""
        return par[0] * np.eye(self.size)

    def d_lam(self, par: np.ndarray) -> np.ndarray:
        """Return the derivative, the identity."""
        return np.eye(self.size)[None]

    def par(self, lam: np.ndarray) -> np.ndarray:
        """Return the common standard deviation."""
        return lam.diagonal()[:1].copy()

    def labels(self, group: str, columns: Sequence[str]) -> list[str]:
        """Name the common standard deviation by its factor."""
        return [group]

    @property
    def lower(self) -> np.ndarray:
        """Zero."""
        return np.zeros(1)


def make_covariance(structure: str, hom: bool, size: int) -> Covariance:
    """Return the structure that a formula's tag asks for."""
    if structure == "us":
        return Unstructured(size)
    if structure == "diag":
        return HomogeneousDiagonal(size) if hom else Diagonal(size)
    raise FormulaError(
        f"the covariance structure {structure}() is recognised but cannot be fitted yet; "
        "use us() (all correlations free) or diag() (none)"
    )


@lru_cache(maxsize=64)
def lower_triangle(size: int) -> tuple[np.ndarray, np.ndarray]:
    """Return rows and columns of a lower triangle, column by column: theta's order."""
    col, row = np.triu_indices(size)
    return row, col


@lru_cache(maxsize=64)
def _above(size: int) -> tuple[np.ndarray, ...]:
    """Return rows and columns of the entries above the diagonal."""
    return np.triu_indices(size, 1)


def theta_of(lam: np.ndarray) -> np.ndarray:
    """Return lme4's theta of one template: its lower triangle, column by column."""
    return lam[lower_triangle(lam.shape[0])]


def psd_cholesky(half: np.ndarray, floor: float = 0.0) -> np.ndarray:
    """Return the lower Cholesky factor of ``half half'``, which may be singular.

    A vanishing pivot gives a zero column, so that the free entries of that column reach every
    direction that the singular matrix lacks. Factors that are clearly nonsingular come from a
    QR decomposition, which does not square the condition number.

    Parameters
    ----------
    half : ndarray (s, s)
    floor : float
        A diagonal entry up to this counts as zero.
    """
    size = half.shape[0]
    if size == 1:
        return np.abs(half) if abs(half[0, 0]) > floor else np.zeros((1, 1))
    is_lower = not half[_above(size)].any()
    R = half.T if is_lower else np.asarray(np.linalg.qr(half.T, mode="r"))
    diagonal = R.diagonal()
    norms = np.sqrt(np.einsum("ij,ij->i", half, half))
    if (np.abs(diagonal) > np.maximum(1e-6 * norms, floor)).all() and norms.all():
        return (R * np.sign(diagonal)[:, None]).T
    rest = half @ half.T
    scale = rest.diagonal().copy()
    lam = np.zeros((size, size))
    for j in range(size):
        if rest[j, j] > max(1e-14 * scale[j], floor**2):
            lam[j:, j] = rest[j:, j] / np.sqrt(rest[j, j])
            rest[j:, j:] -= np.outer(lam[j:, j], lam[j:, j])
    return lam
