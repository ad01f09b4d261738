"""The factor for a small model: one dense LAPACK Cholesky."""

from __future__ import annotations

import numpy as np
from scipy.linalg.blas import dtrsm
from scipy.linalg.lapack import dpotrf, dpotri

from mixef.linalg.crossproducts import (
    CrossProducts,
    SymmetricBlocks,
    assemble,
    squares_by_blocks,
)
from mixef.linalg.factor import SINGULAR, CholeskyFactor, not_positive_definite
from mixef.linalg.remainder import lower_blocks, mirrored_cells
from mixef.linalg.threads import run_large


def potrf(a: np.ndarray) -> np.ndarray:
    """Cholesky factor of the lower triangle of ``a`` (Fortran order), in place."""
    if a.shape[0] == 0:
        return a
    n = a.shape[0]
    factor: np.ndarray
    factor, info = run_large(n, n**3 / 3, lambda: dpotrf(a, lower=1, clean=0, overwrite_a=1))
    if info != 0:
        raise not_positive_definite()
    return factor


def potri(factor: np.ndarray) -> np.ndarray:
    """Lower triangle of the inverse from a lower Cholesky factor, in place."""
    if factor.shape[0] == 0:
        return factor
    n = factor.shape[0]
    return run_large(n, 2 * n**3 / 3, lambda: dpotri(factor, lower=1, overwrite_c=1)[0])


def solve_lower(factor: np.ndarray, rhs: np.ndarray, transpose: bool = False) -> np.ndarray:
    """Solve with a lower triangular factor (Fortran order), or with its transpose."""
    if factor.shape[0] == 0 or rhs.size == 0:
        return rhs.copy()
    columns = rhs[:, None] if rhs.ndim == 1 else rhs
    x: np.ndarray = dtrsm(1.0, factor, columns, lower=1, trans_a=int(transpose))
    return x[:, 0] if rhs.ndim == 1 else x


def mirror(lower: np.ndarray) -> np.ndarray:
    """Fill the upper triangle of a symmetric matrix from its lower one, in place."""
    n, step = len(lower), 256
    for first in range(0, n, step):
        rows = slice(first, first + step)
        block = lower[rows, rows]
        block[...] = np.tril(block) + np.tril(block, -1).T
        lower[rows, first + step :] = lower[first + step :, rows].T
    return lower


class DenseFactor(CholeskyFactor):
    """The factor that treats M as a dense matrix, for q up to about a hundred."""

    def __init__(self, products: CrossProducts):
        super().__init__(products)
        self._cells: dict[tuple[int, int], np.ndarray] | None = None
        self._take_room()

    def _take_room(self) -> None:
        self._L = np.empty((0, 0))
        self.reload()

    def reload(self) -> None:
        """Read ``Z'WZ`` again."""
        ZtZ, products = self.products.assembled, self.products
        if ZtZ is None:
            ZtZ = assemble(products.layout, products.diagonal, products.pairs)
        self._ZtZ = ZtZ if isinstance(ZtZ, np.ndarray) else ZtZ.toarray()

    def _refactor(self) -> None:
        lams = self.lams
        half = self.layout.multiply(lams, self._ZtZ, transpose=True)
        M = self.layout.multiply(lams, half.T, transpose=True)
        M.ravel()[:: M.shape[0] + 1] += 1.0
        # The transpose of a symmetric C-ordered array is the same matrix in Fortran order.
        self._L = potrf(M.T)
        self._inverse: np.ndarray | None = None
        self.ldL2 = 2.0 * float(np.log(self._L.diagonal()).sum())

    def solve_L(self, rhs: np.ndarray) -> np.ndarray:
        """Solve ``L x = rhs``."""
        return solve_lower(self._L, rhs)

    def solve_Lt(self, rhs: np.ndarray) -> np.ndarray:
        """Solve ``L' x = rhs``."""
        return solve_lower(self._L, rhs, transpose=True)

    def inverse_block(self, i: int) -> np.ndarray:
        """Return the diagonal blocks of ``M^-1`` that belong to block i."""
        return lower_blocks(self._lower_inverse(), self.layout, i)

    def inverse_pairs(self) -> SymmetricBlocks:
        """Return the blocks of ``M^-1`` on the pattern of ``Z'WZ``; solves stay possible."""
        layout, lower = self.layout, self._lower_inverse()
        if self._cells is None:
            self._cells = {
                (i, j): mirrored_cells(layout, i, j, pair)
                for (i, j), pair in self.products.pairs.items()
            }
        flat = lower.reshape(-1, order="F")
        return SymmetricBlocks(
            [lower_blocks(lower, layout, i) for i in range(len(layout))],
            {
                key: flat[self._cells[key]].reshape(pair.blocks.shape)
                for key, pair in self.products.pairs.items()
            },
        )

    def projected_squares(self, B: np.ndarray) -> dict[tuple[int, int], np.ndarray]:
        """Return ``sum P (x) P`` over the blocks P of ``Z'V^-1 Z - BB'``."""
        layout = self.layout
        if min(self.least) > SINGULAR:
            inverses = [np.linalg.inv(lam) for lam in self.lams]
            lower = np.tril(self._lower_inverse(), -1)
            remaining = np.diag(1.0 - self._lower_inverse().diagonal()) - lower - lower.T
            half = layout.multiply(inverses, remaining, transpose=True)
            W = layout.multiply(inverses, half.T, transpose=True)
        else:
            half = self.solve_L(layout.multiply(self.lams, self._ZtZ, transpose=True))
            W = self._ZtZ - half.T @ half
        return squares_by_blocks(W - B @ B.T, layout)

    def _boundary_trace(self, i: int) -> np.ndarray:
        """Return ``T_i = sum_l [(Z'Z)_ll - |L^-1 Lambda'(Z'Z)_.l|^2]``."""
        columns = self._ZtZ[:, self.layout.slice(i)]
        solved = self.solve_L(self.layout.multiply(self.lams, columns, transpose=True))
        by_column = solved.reshape(-1, self.layout.widths[i])
        trace: np.ndarray = self.products.diagonal[i].sum(axis=0) - by_column.T @ by_column
        return trace

    def _lower_inverse(self) -> np.ndarray:
        if self._inverse is None:
            self._inverse = potri(self._L.copy(order="F"))
        return self._inverse
