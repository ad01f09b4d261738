"""A sparse Cholesky factor whose elimination tree is flat, many independent columns at a time.

Columns at one depth of the tree do not depend on each other: where there are few depths, as for
nested factors, a few array operations do the work of a loop over columns, and nothing has to be
compiled.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property

import numpy as np
from scipy import sparse

# With more batches or larger gathers than these, a compiled loop is faster.
MOST_BATCHES = 40
MOST_CELLS = 2_000_000


@dataclass(frozen=True)
class _Batch:
    """Columns (m of them) at one depth with d entries each below the diagonal."""

    columns: np.ndarray | slice  # int (m,), or slice
    pivot: np.ndarray  # int (m,): where the diagonals are stored
    below: np.ndarray  # int (m, d): where the entries below the diagonals are stored
    #: int (m, d, d): where the rows below the diagonal are stored against each other.
    inner: np.ndarray
    rows: np.ndarray  # int (u,): the rows below the diagonals, each once
    row: np.ndarray  # int (m, d): which of ``rows`` each entry is in

    @cached_property
    def targets(self) -> tuple[np.ndarray, slice]:
        """Where the products of each column's entries go, counted from the start of a slice."""
        i, k = np.tril_indices(self.below.shape[1])
        where = self.inner[:, i, k].ravel()
        first = where.min()
        return where - first, slice(first, where.max() + 1)

    def matrix(self, L: np.ndarray) -> sparse.csc_array:
        """Return what is below the diagonals (u, m)."""
        m, d = self.below.shape
        start = np.arange(0, m * d + 1, d) if d else np.zeros(m + 1, dtype=int)
        shape = len(self.rows), m
        return sparse.csc_array((L[self.below].ravel(), self.row.ravel(), start), shape=shape)


class FlatTree:
    """The order in which the columns of one pattern can be worked on together.

    The factor's entries L (nnz,) are those of compressed columns, rows ascending.

    Parameters
    ----------
    batches : list of _Batch
        From the roots to the leaves.
    """

    def __init__(self, batches: list[_Batch]):
        self._batches = batches

    def factor(self, L: np.ndarray) -> bool:
        """Factor in place; False where the matrix is not positive definite.

        Parameters
        ----------
        L : ndarray (nnz,)
            The lower triangle of the matrix, on the pattern of its factor; overwritten.
        """
        for batch in reversed(self._batches):
            pivot = L[batch.pivot]
            if not (pivot > 0.0).all():
                return False
            L[batch.pivot] = pivot = np.sqrt(pivot)
            below = L[batch.below]
            below /= pivot[:, None]
            L[batch.below] = below
            if len(batch.rows):
                where, places = batch.targets
                i, k = np.tril_indices(below.shape[1])
                product = (below[:, i] * below[:, k]).ravel()
                L[places] -= np.bincount(where, product, places.stop - places.start)
        return True

    def below(self, L: np.ndarray) -> list[sparse.csc_array]:
        """Return what is below the diagonals of each batch, for `solve` and its transpose."""
        return [batch.matrix(L) for batch in self._batches]

    def solve(self, L: np.ndarray, matrices: list[sparse.csc_array], x: np.ndarray) -> None:
        """Solve ``L x = b`` in place, for x (q, k) that holds b; matrices are ``below(L)``."""
        for batch, below in zip(reversed(self._batches), reversed(matrices), strict=True):
            x[batch.columns] /= L[batch.pivot][:, None]
            if below.shape[0]:
                x[batch.rows] -= below @ x[batch.columns]

    def solve_transposed(
        self, L: np.ndarray, matrices: list[sparse.csc_array], x: np.ndarray
    ) -> None:
        """Solve ``L' x = b`` in place, for x (q, k) that holds b; matrices are ``below(L)``."""
        for batch, below in zip(self._batches, matrices, strict=True):
            if below.shape[0]:
                x[batch.columns] -= below.T @ x[batch.rows]
            x[batch.columns] /= L[batch.pivot][:, None]

    def solve_sparse(self, L: np.ndarray, b: sparse.csr_array) -> Iterator[sparse.csr_array]:
        """Yield ``L^-1 b`` for a sparse b (q, k), the rows of one batch after another."""
        for batch in reversed(self._batches):
            m = len(batch.pivot)
            scale = sparse.dia_array((1.0 / L[batch.pivot][None], [0]), shape=(m, m))
            x = scale @ b[batch.columns]
            yield x
            below, count = batch.matrix(L), len(batch.rows)
            if count:
                place = np.ones(count), (batch.rows, np.arange(count))
                b = b - sparse.csr_array(place, shape=(b.shape[0], count)) @ (below @ x)

    def inverse(self, L: np.ndarray) -> np.ndarray:
        """Return the inverse of the matrix on the pattern of L (Takahashi's recurrence).

        References
        ----------
        A. M. Erisman and W. F. Tinney (1975), Communications of the ACM 18, 177-179.
        """
        C = np.empty_like(L)
        for batch in self._batches:
            pivot, below = L[batch.pivot], L[batch.below]
            off = -np.einsum("mij,mj->mi", C[batch.inner], below) / pivot[:, None]
            C[batch.below] = off
            C[batch.pivot] = (1.0 / pivot - np.einsum("mi,mi->m", off, below)) / pivot
        return C


def flat_tree(start: np.ndarray, rows: np.ndarray) -> FlatTree | None:
    """Return the plan for a factor's pattern, None where the tree is too deep.

    Parameters
    ----------
    start, rows : ndarray of int (q + 1,), (nnz,)
        Compressed columns of the lower triangle, rows ascending.
    """
    q = len(start) - 1
    first, counts = start[:-1].astype(np.int64), np.diff(start) - 1
    if float((counts.astype(float) ** 2).sum()) > MOST_CELLS:
        return None
    has_parent = counts > 0
    parent = np.full(q, -1)
    parent[has_parent] = rows[first[has_parent] + 1]
    depth = np.where(has_parent, -1, 0)
    for level in range(1, MOST_BATCHES + 1):
        waiting = np.flatnonzero(depth < 0)
        if not len(waiting):
            break
        depth[waiting[depth[parent[waiting]] == level - 1]] = level
    else:
        return None
    kind = depth * (counts.max() + 1) + counts
    kinds = np.flatnonzero(np.bincount(kind))
    if len(kinds) > MOST_BATCHES:
        return None
    stored = np.repeat(np.arange(q, dtype=np.int64), counts + 1) * q + rows
    batches = []
    for each in kinds:
        columns = np.flatnonzero(kind == each)
        below = first[columns][:, None] + 1 + np.arange(counts[columns[0]])
        row = rows[below].astype(np.int64)
        low = np.minimum(row[:, :, None], row[:, None, :])
        high = np.maximum(row[:, :, None], row[:, None, :])
        inner = np.searchsorted(stored, low * q + high)
        occurs = np.zeros(q, dtype=bool)
        occurs[row] = True
        together = columns[-1] - columns[0] + 1 == len(columns)
        batches.append(
            _Batch(
                slice(columns[0], columns[-1] + 1) if together else columns,
                first[columns],
                below,
                inner,
                np.flatnonzero(occurs),
                (np.cumsum(occurs) - 1)[row],
            )
        )
    return FlatTree(batches)
