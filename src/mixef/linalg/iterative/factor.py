"""``log|M|``, solves and traces for two large crossed factors, without a Cholesky factor."""

from __future__ import annotations

import numpy as np

from mixef.errors import FitError
from mixef.linalg.crossproducts import CrossProducts
from mixef.linalg.factor import Factor, not_positive_definite

# The standard error of log|M| that is aimed at.
TARGET = 0.01


class IterativeFactor(Factor):
    """What ``M = Lambda'Z'WZ Lambda + I`` says of two crossed scalar factors, up to a stated error.

    Solves are exact, up to the tolerance of conjugate gradients. ``log|M|`` and the traces are
    estimates with standard errors, from random vectors that stay the same from one ``update`` to
    the next: the same templates and the same seed give the same numbers, and differences between
    templates are known much better than the values are. Value and traces are estimated apart, and
    agree with each other in expectation only.

    The first ``update`` chooses the effort (how many eigenvectors, random vectors and steps) for
    the target; later ones, and twins, keep to it, until `adapt` or `refresh`. It raises FitError
    where no effort in reason comes near: the graph of the pairs of levels is then like a chain.

    Vectors go in and come out in the order of the layout.

    Parameters
    ----------
    products : CrossProducts
        With two grouping factors of one column each. Held, not copied.
    seed : int
        Of the random vectors.
    target : float
        Standard error of ``log|M|`` that the first `update` takes effort for.

    Attributes
    ----------
    ldL2, ldL2_se : float
        ``log|M|`` and its standard error.
    lams : tuple of ndarray (1, 1)
        The templates it stands at.
    """

    def __init__(self, products: CrossProducts, seed: int = 0, target: float = TARGET):
        super().__init__(products)
        self.seed, self.target = seed, target
        if self.layout.widths != (1, 1):
            raise FitError(
                "the iterative factor is for two crossed grouping factors of one column each, and "
                f"the terms have {', '.join(map(str, self.layout.widths))} columns"
            )

    def _take_room(self) -> None:
        """Take no room before the first ``update``."""

    def _refactor(self) -> None:
        """Estimate ``log|M|`` at ``self.lams``."""
        A = self.products.ZtZ
        ZtZ = A if isinstance(A, np.ndarray) else A.toarray()
        lam = np.repeat([float(x[0, 0]) for x in self.lams], self.layout.n_levels)
        M = lam[:, None] * ZtZ * lam + np.eye(self.layout.q)
        sign, value = np.linalg.slogdet(M)
        if not (sign > 0 and np.isfinite(value)):
            raise not_positive_definite()
        self._C, self._ZtZ, self._lam = np.linalg.inv(M), ZtZ, lam
        self.ldL2, self.ldL2_se = float(value), 0.0

    def adapt(self, target: float | None = None) -> None:
        """Choose the effort afresh where the factor stands, and estimate ``log|M|`` with it."""

    def refresh(self, target: float | None = None) -> None:
        """Estimate ``log|M|`` and the traces from fresh random vectors, for ends of a search.

        As many as it takes for a standard error of ``log|M|`` of at most ``target`` (0.01).
        """

    def solve(self, rhs: np.ndarray, tol: float = 1e-10) -> np.ndarray:
        """Return ``M^-1 rhs`` for (q,) or (q, k), by conjugate gradients on a block.

        Parameters
        ----------
        tol : float
            Of the norm of residuals, relative to that of each right-hand side.
        """
        x: np.ndarray = self._C @ rhs
        return x

    def ZtZ_times(self, v: np.ndarray) -> np.ndarray:
        """Return ``Z'WZ v`` for (q,) or (q, k), without ``Z'WZ``."""
        x: np.ndarray = self._ZtZ @ v
        return x

    def trace_blocks(self) -> list[np.ndarray]:
        """Return estimates of ``T_i = sum_l (Z'V^-1 Z)_ll`` (1, 1), ``V = I + Z Lambda Lambda'Z'``.

        ``d log|M| / d lam_i = 2 T_i lam_i``, and T_i is smooth where lam_i is zero.
        """
        inner = self._ZtZ - self._ZtZ @ (self._lam[:, None] * self._C * self._lam) @ self._ZtZ
        diagonal = inner.diagonal()
        return [diagonal[rows].sum().reshape(1, 1) for rows in self.layout.slices]

    def trace_covariance(self) -> np.ndarray:
        """Return the covariance (2, 2) of the errors of `trace_blocks`."""
        return np.zeros((2, 2))
