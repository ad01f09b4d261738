"""The general factor where scikit-sparse is not installed: a sparse Cholesky of our own.

It goes column by column: in batches where the elimination tree is flat, else compiled.
"""

from __future__ import annotations

import numpy as np
from scipy import sparse

from mixef.linalg.crossproducts import CrossProducts
from mixef.linalg.factor import not_positive_definite
from mixef.linalg.flat_tree import FlatTree, flat_tree
from mixef.linalg.kernels import compiled
from mixef.linalg.ordering import elimination_order, is_nested, least_fill
from mixef.linalg.sparse_factor import SparseFactor, filled_counts, permuted_entries


class SimplicialFactor(SparseFactor):
    """The factor for any sparse M, without another library."""

    def __init__(self, products: CrossProducts):
        super().__init__(products)
        self.order = elimination_order(products)
        self._cholesky = SparseCholesky(self._M, self.order, fills=not is_nested(products))

    def _refactor(self) -> None:
        self._write(self.lams)
        self._M.data[self._M.indptr[:-1]] += 1.0  # a column starts with its diagonal
        try:
            self.ldL2 = self._cholesky.factor(self._M.data)
        except MemoryError as error:
            raise self._too_large() from error

    def solve_L(self, rhs: np.ndarray) -> np.ndarray:
        """Solve ``L x = P rhs``."""
        return self._cholesky.solve_L(rhs)

    def solve_Lt(self, rhs: np.ndarray) -> np.ndarray:
        """Solve ``L' P x = rhs``."""
        return self._cholesky.solve_Lt(rhs)

    def column_counts(self) -> np.ndarray:
        """Return the number of non-zeros of each column of L, from the pattern alone."""
        return self._cholesky.counts

    def lower(self) -> sparse.csc_matrix:
        """Return L (q, q), the rows of each column ascending."""
        return self._cholesky.lower()

    def _plan(self, start: np.ndarray, rows: np.ndarray) -> FlatTree | None:
        return self._cholesky.tree


class SparseCholesky:
    """``A[order][:, order] = L L'``, on a pattern that is analysed once.

    Parameters
    ----------
    A : csc_matrix (n, n)
        The lower triangle, every diagonal entry stored; its values are read by `factor` alone.
    order : ndarray of int (n,)
        The columns in the order of their elimination.
    fills : bool
        Whether L may have entries that A does not have.

    Attributes
    ----------
    counts : ndarray of int (n,)
        The number of non-zeros of each column of L.
    tree : FlatTree or None
        How to work on many columns at a time; known once there was a factorization.
    """

    def __init__(self, A: sparse.csc_matrix, order: np.ndarray, fills: bool = True):
        self._order = order
        self._entries = permuted_entries(A, order)
        self._below: sparse.csr_array | None = None
        if fills:
            self._below, self._parent, self.counts = filled_counts(A, order)
        else:
            self.counts = np.bincount(self._entries[1], minlength=len(order))
        self._start = np.concatenate([[0], np.cumsum(self.counts)])
        self._L = np.empty(0)
        self.tree: FlatTree | None = None

    def factor(self, values: np.ndarray) -> float:
        """Factor at these values of A, and return ``log|A|``.

        Raises
        ------
        FitError
            If A is not positive definite.
        """
        if not len(self._L):
            self._L = self._find_pattern()
        L, diagonal = self._L, self._start[:-1]
        L[:] = 0.0
        L[self._place] = values
        if self.tree is not None:
            positive = self.tree.factor(L)
        else:
            positive = compiled()["cholesky_columns"](self._start, self._rows, L)
        if not positive:
            raise not_positive_definite()
        return 2.0 * float(np.log(L[diagonal]).sum())

    def solve_L(self, rhs: np.ndarray) -> np.ndarray:
        """Solve ``L x = rhs[order]``, (n,) or (n, k)."""
        x = np.ascontiguousarray(rhs[self._order], dtype=float)
        columns = x.reshape(len(x), -1)
        if self.tree is not None:
            self.tree.solve(self._L, columns)
        else:
            compiled()["solve_columns"](self._start, self._rows, self._L, columns)
        return x

    def solve_Lt(self, rhs: np.ndarray) -> np.ndarray:
        """Solve ``L' x[order] = rhs``, (n,) or (n, k)."""
        x = np.array(rhs, dtype=float, order="C")
        columns = x.reshape(len(x), -1)
        if self.tree is not None:
            self.tree.solve_transposed(self._L, columns)
        else:
            compiled()["solve_columns_transposed"](self._start, self._rows, self._L, columns)
        out = np.empty(x.shape)
        out[self._order] = x
        return out

    def lower(self) -> sparse.csc_matrix:
        """Return L (n, n), the rows of each column ascending."""
        n = len(self._order)
        return sparse.csc_matrix((self._L, self._rows, self._start), shape=(n, n))

    def _find_pattern(self) -> np.ndarray:
        """Find the rows of L and where the entries of A go among them; return room for L."""
        n, (row, col) = len(self._order), self._entries
        self._place = np.empty(len(row), dtype=np.int64)
        if self._below is None:
            number = sparse.csc_matrix((np.arange(len(row)), (row, col)), shape=(n, n))
            number.sort_indices()
            self._rows = number.indices
            self._place[number.data] = np.arange(len(row))
        else:
            below, self._rows = self._below, np.empty(self._start[-1], dtype=np.int32)
            compiled()["filled_rows"](
                below.indptr, below.indices, self._parent, self._start, self._rows
            )
            stored = np.repeat(np.arange(n, dtype=np.int64), self.counts) * n + self._rows
            self._place[:] = np.searchsorted(stored, col * n + row)
        self.tree = flat_tree(self._start, self._rows)
        return np.empty(len(self._rows))


def sparse_cholesky(A: sparse.spmatrix) -> tuple[sparse.csc_array, np.ndarray]:
    """Return L and the permutation p of ``(A + I)[p][:, p] = L L'``."""
    n = A.shape[0]
    lower = sparse.csc_matrix(sparse.tril(A + sparse.identity(n)))
    lower.sort_indices()
    strict = sparse.coo_matrix(sparse.tril(lower, -1))
    order = least_fill(strict.row, strict.col, np.ones(n))
    cholesky = SparseCholesky(lower, order)
    cholesky.factor(lower.data)
    return sparse.csc_array(cholesky.lower()), order
