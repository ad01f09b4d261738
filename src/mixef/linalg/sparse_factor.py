"""What factors of M as a sparse matrix share: M on its pattern, and the inverse on that of L."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Sequence

import numpy as np
from scipy import sparse

from mixef.errors import MemoryNeededError
from mixef.linalg.boundary import BoundaryColumns
from mixef.linalg.crossproducts import (
    CrossProducts,
    Pairs,
    SymmetricBlocks,
    block_entries,
    diagonal_pairs,
)
from mixef.linalg.factor import SPARSE_ENTRY, CholeskyFactor, too_large
from mixef.linalg.flat_tree import FlatTree, flat_tree
from mixef.linalg.kernels import compiled

#: A pattern of L: where its columns start, and its rows; with its plan, and places found in it.
_Pattern = tuple[np.ndarray, np.ndarray, FlatTree | None, dict[tuple[int, int], np.ndarray]]


class SparseFactor(CholeskyFactor):
    """A factor of M as a sparse matrix: the pattern is analysed once, values change in place."""

    #: int (q,): the random effects in the order of their elimination; set by the analysis.
    order: np.ndarray

    def __init__(self, products: CrossProducts):
        super().__init__(products)
        layout, q = self.layout, self.layout.q
        entries = [
            block_entries(layout, i, j, pair.rows, pair.cols)
            for (i, j), pair in self._all_pairs().items()
        ]
        # Blocks above the diagonal are stored as their mirror images, in the lower triangle.
        # Numbering the entries from 1 finds where each goes among the sorted columns.
        row = np.concatenate([col for _, col in entries])
        col = np.concatenate([row for row, _ in entries])
        lower = np.flatnonzero(row >= col)
        number = sparse.coo_matrix((lower + 1.0, (row[lower], col[lower])), shape=(q, q)).tocsc()
        number.sort_indices()
        self._gather = number.data.astype(np.intp) - 1
        self._M = number
        self._start = self._rows = np.empty(0, dtype=int)
        self._tree: FlatTree | None = None
        self._places: dict[tuple[int, int], np.ndarray] = {}
        # What is known of patterns of L, for all twins: a numeric factor shows it first.
        self._known: list[_Pattern] = []
        self._boundary: dict[int, BoundaryColumns] = {}
        self._C: np.ndarray | None = None
        self._blocks = [(i, j, pair.blocks) for (i, j), pair in self._all_pairs().items()]

    def _all_pairs(self) -> dict[tuple[int, int], Pairs]:
        own = {(i, i): diagonal_pairs(self.products, i) for i in range(len(self.layout))}
        return own | self.products.pairs

    def _take_room(self) -> None:
        self._M = self._M.copy()
        self._C, self._boundary = None, {}
        self._blocks = [(i, j, pair.blocks) for (i, j), pair in self._all_pairs().items()]

    @abstractmethod
    def lower(self) -> sparse.csc_matrix:
        """Return L (q, q), the rows of each column ascending."""

    def column_counts(self) -> np.ndarray:
        """Return the number of non-zeros of each column of L, from the pattern alone."""
        return filled_counts(self._M, self.order)[2]

    def _too_large(self) -> MemoryNeededError:
        """Return the error where memory ran out."""
        return too_large(self.products, SPARSE_ENTRY * float(self.column_counts().sum()))

    def inverse_block(self, i: int) -> np.ndarray:
        """Return the diagonal blocks of ``M^-1`` that belong to block i."""
        C = self._inverse()
        level = np.arange(self.layout.n_levels[i])
        blocks: np.ndarray = C[self._places_in_L(i, i, level, level)] + 0.0  # no negative zeros
        return blocks

    def inverse_pairs(self) -> SymmetricBlocks:
        """Return the blocks of ``M^-1`` on the pattern of ``Z'WZ``; solves stay possible."""
        C = self._inverse()
        return SymmetricBlocks(
            [self.inverse_block(i) for i in range(len(self.layout))],
            {
                (i, j): C[self._places_in_L(i, j, pair.rows, pair.cols)]
                for (i, j), pair in self.products.pairs.items()
            },
        )

    def _boundary_trace(self, i: int) -> np.ndarray:
        if i not in self._boundary:
            place = inverse_order(self.order)
            self._boundary[i] = BoundaryColumns(self.products, i, place)
        C = self._inverse()
        return self._boundary[i].trace(self.lams, self.lower(), C, self._tree)

    def _write(self, lams: Sequence[np.ndarray]) -> None:
        """Write the values of ``Lambda'Z'WZ Lambda``; the identity is not added."""
        self._C = None
        parts = []
        for i, j, values in self._blocks:
            if values.shape[1:] == (1, 1):
                parts.append(values.ravel() * (lams[i][0, 0] * lams[j][0, 0]))
            else:
                parts.append((lams[i].T @ values @ lams[j]).ravel())
        np.take(np.concatenate(parts), self._gather, out=self._M.data)

    def _inverse(self) -> np.ndarray:
        """Return ``P M^-1 P'`` on the pattern of L, once an update."""
        if self._C is None:
            L = self.lower()
            start, rows = L.indptr, L.indices
            if not (np.array_equal(start, self._start) and np.array_equal(rows, self._rows)):
                self._start, self._rows, self._tree, self._places = self._look_up(start, rows)
            if self._tree is not None:
                self._C = self._tree.inverse(L.data)
            else:
                self._C = np.empty_like(L.data)
                compiled()["selected_inverse"](start, rows, L.data, self._C)
        return self._C

    def _look_up(self, start: np.ndarray, rows: np.ndarray) -> _Pattern:
        """Return a pattern of L with its plan, and a dict of places to be filled."""
        for known in self._known:
            if np.array_equal(start, known[0]) and np.array_equal(rows, known[1]):
                return known
        self._known.append((start, rows, self._plan(start, rows), {}))
        return self._known[-1]

    def _plan(self, start: np.ndarray, rows: np.ndarray) -> FlatTree | None:
        """Return the plan of a new pattern of L."""
        return flat_tree(start, rows)

    def _places_in_L(self, i: int, j: int, level_i: np.ndarray, level_j: np.ndarray) -> np.ndarray:
        """Return where L stores the blocks (m, s_i, s_j) of pairs of levels, found once."""
        if (i, j) not in self._places:
            layout, q = self.layout, self.layout.q
            place = inverse_order(self.order)
            one, two = (place[e] for e in block_entries(layout, i, j, level_i, level_j))
            # Columns ascend, and rows inside a column: one number an entry, in ascending order.
            column = np.repeat(np.arange(q, dtype=np.int64), np.diff(self._start))
            stored = column * q + self._rows
            where = np.searchsorted(stored, np.minimum(one, two) * q + np.maximum(one, two))
            self._places[i, j] = where.reshape(-1, layout.widths[i], layout.widths[j])
        return self._places[i, j]


def inverse_order(order: np.ndarray) -> np.ndarray:
    """Return the place of each element in an order."""
    place = np.empty(len(order), dtype=np.int64)
    place[order] = np.arange(len(order))
    return place


def permuted_entries(A: sparse.csc_matrix, order: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return row and column, row >= column, of the entries of a lower triangle in an order."""
    place = inverse_order(order)
    row, col = place[A.indices], place[np.repeat(np.arange(len(order)), np.diff(A.indptr))]
    return np.maximum(row, col), np.minimum(row, col)


def filled_counts(
    A: sparse.csc_matrix, order: np.ndarray
) -> tuple[sparse.csr_array, np.ndarray, np.ndarray]:
    """Count the non-zeros of each column of the factor of a symmetric matrix.

    Parameters
    ----------
    A : csc_matrix (n, n)
        The lower triangle.
    order : ndarray of int (n,)

    Returns
    -------
    below : csr_array (n, n)
        The pattern of the strictly lower triangle, in the order.
    parent : ndarray of int (n,)
        The elimination tree, -1 at a root.
    counts : ndarray of int (n,)
        Diagonals included.
    """
    n = len(order)
    row, col = permuted_entries(A, order)
    strict = row > col
    ones = np.ones(strict.sum(), dtype=np.int8)
    below = sparse.csr_array((ones, (row[strict], col[strict])), shape=(n, n))
    parent, counts = np.empty(n, dtype=np.int64), np.empty(n, dtype=np.int64)
    compiled()["column_counts"](below.indptr, below.indices, parent, counts)
    return below, parent, counts
