"""The general factor where scikit-sparse is not installed: a sparse Cholesky of our own.

It goes column by column: in batches where the elimination tree is flat, else compiled.
"""

from __future__ import annotations

from functools import cached_property

import numpy as np
from scipy import sparse

from mixef.linalg.crossproducts import CrossProducts
from mixef.linalg.factor import not_positive_definite
from mixef.linalg.flat_tree import FlatTree, flat_tree
from mixef.linalg.kernels import compiled
from mixef.linalg.ordering import elimination_order, is_nested
from mixef.linalg.sparse_factor import SparseFactor, filled_counts, permuted_entries


class SimplicialFactor(SparseFactor):
    """The factor for any sparse M, without another library."""

    def __init__(self, products: CrossProducts):
        super().__init__(products)
        self.order = elimination_order(products)
        self._pattern = Pattern(self._M, self.order, fills=not is_nested(products))
        self._cholesky = SparseCholesky(self._pattern)

    def _take_room(self) -> None:
        super()._take_room()
        self._cholesky = SparseCholesky(self._pattern)

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
        return self._pattern.counts

    def lower(self) -> sparse.csc_matrix:
        """Return L (q, q), the rows of each column ascending."""
        return self._cholesky.lower()

    def _plan(self, start: np.ndarray, rows: np.ndarray) -> FlatTree | None:
        return self._pattern.tree


class Pattern:
    """The pattern of L in ``A[order][:, order] = L L'``: what the values do not change.

    Parameters
    ----------
    A : csc_matrix (n, n)
        The lower triangle, every diagonal entry stored; its values are not read.
    order : ndarray of int (n,)
        The columns in the order of their elimination.
    fills : bool
        Whether L may have entries that A does not have.

    Attributes
    ----------
    counts : ndarray of int (n,)
        The number of non-zeros of each column of L.
    start : ndarray of int (n + 1,)
        Where the columns start.
    """

    def __init__(self, A: sparse.csc_matrix, order: np.ndarray, fills: bool = True):
        self.order = order
        self._entries = permuted_entries(A, order)
        self._below: sparse.csr_array | None = None
        if fills:
            self._below, self._parent, self.counts = filled_counts(A, order)
        else:
            self.counts = np.bincount(self._entries[1], minlength=len(order))
        self.start = np.concatenate([[0], np.cumsum(self.counts)])

    @cached_property
    def entries(self) -> tuple[np.ndarray, np.ndarray]:
        """The rows of L (nnz,), and where the entries of A go among them."""
        n, (row, col) = len(self.order), self._entries
        place = np.empty(len(row), dtype=np.int64)
        if self._below is None:
            number = sparse.csc_matrix((np.arange(len(row)), (row, col)), shape=(n, n))
            number.sort_indices()
            place[number.data] = np.arange(len(row))
            return number.indices, place
        below, rows = self._below, np.empty(self.start[-1], dtype=np.int32)
        compiled()["filled_rows"](below.indptr, below.indices, self._parent, self.start, rows)
        stored = np.repeat(np.arange(n, dtype=np.int64), self.counts) * n + rows
        place[:] = np.searchsorted(stored, col * n + row)
        return rows, place

    @cached_property
    def tree(self) -> FlatTree | None:
        """How to work on many columns at a time."""
        return flat_tree(self.start, self.entries[0])


class SparseCholesky:
    """The numbers of L on a pattern.

    Parameters
    ----------
    pattern : Pattern
    """

    def __init__(self, pattern: Pattern):
        self.pattern = pattern
        self._L = np.empty(0)
        self._below: list[sparse.csc_array] = []

    def factor(self, values: np.ndarray) -> float:
        """Factor at these values of A, and return ``log|A|``.

        Raises
        ------
        FitError
            If A is not positive definite.
        """
        pattern = self.pattern
        (rows, place), tree = pattern.entries, pattern.tree
        if not len(self._L):
            self._L = np.empty(len(rows))
        L, self._below = self._L, []
        L[:] = 0.0
        L[place] = values
        if tree is not None:
            positive = tree.factor(L)
        else:
            positive = compiled()["cholesky_columns"](pattern.start, rows, L)
        if not positive:
            raise not_positive_definite()
        return 2.0 * float(np.log(L[pattern.start[:-1]]).sum())

    def solve_L(self, rhs: np.ndarray) -> np.ndarray:
        """Solve ``L x = rhs[order]``, (n,) or (n, k)."""
        x = np.ascontiguousarray(rhs[self.pattern.order], dtype=float)
        columns, tree = x.reshape(len(x), -1), self.pattern.tree
        if tree is not None:
            tree.solve(self._L, self._batches(tree), columns)
        else:
            start, rows = self.pattern.start, self.pattern.entries[0]
            compiled()["solve_columns"](start, rows, self._L, columns)
        return x

    def solve_Lt(self, rhs: np.ndarray) -> np.ndarray:
        """Solve ``L' x[order] = rhs``, (n,) or (n, k)."""
        x = np.array(rhs, dtype=float, order="C")
        columns, tree = x.reshape(len(x), -1), self.pattern.tree
        if tree is not None:
            tree.solve_transposed(self._L, self._batches(tree), columns)
        else:
            start, rows = self.pattern.start, self.pattern.entries[0]
            compiled()["solve_columns_transposed"](start, rows, self._L, columns)
        out = np.empty(x.shape)
        out[self.pattern.order] = x
        return out

    def lower(self) -> sparse.csc_matrix:
        """Return L (n, n), the rows of each column ascending."""
        n, pattern = len(self.pattern.order), self.pattern
        return sparse.csc_matrix((self._L, pattern.entries[0], pattern.start), shape=(n, n))

    def _batches(self, tree: FlatTree) -> list[sparse.csc_array]:
        if not self._below:
            self._below = tree.below(self._L)
        return self._below
