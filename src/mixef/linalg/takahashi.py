"""The inverse on the pattern of a sparse Cholesky factor, many independent columns at a time.

Takahashi's recurrence goes from the root of the elimination tree to its leaves. Columns at one
depth do not depend on each other: where the tree is flat, as it is for nested factors, a few
array operations do the whole of it.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from scipy import sparse

# With more batches or larger gathers than these, a compiled loop is faster.
MOST_BATCHES = 40
MOST_CELLS = 2_000_000


@dataclass(frozen=True)
class _Batch:
    """Columns at one depth with d entries each below the diagonal.

    Attributes
    ----------
    pivot : ndarray of int (m,)
        Where the diagonals are stored.
    below : ndarray of int (m, d)
    inner : ndarray of int (m, d, d)
        Where the inverse has the rows below the diagonal against each other.
    """

    pivot: np.ndarray
    below: np.ndarray
    inner: np.ndarray


class FlatTree:
    """The order in which the columns of one pattern can be worked on together.

    Parameters
    ----------
    batches : list of _Batch
        From the roots to the leaves.

    References
    ----------
    A. M. Erisman and W. F. Tinney (1975), Communications of the ACM 18, 177-179.
    """

    def __init__(self, batches: list[_Batch]):
        self._batches = batches

    def inverse(self, L: np.ndarray) -> np.ndarray:
        """Return the inverse's entries, stored like the factor's entries L."""
        C = np.empty_like(L)
        for batch in self._batches:
            pivot, below = L[batch.pivot], L[batch.below]
            off = -np.einsum("mij,mj->mi", C[batch.inner], below) / pivot[:, None]
            C[batch.below] = off
            C[batch.pivot] = (1.0 / pivot - np.einsum("mi,mi->m", off, below)) / pivot
        return C


def flat_tree(L: sparse.csc_matrix) -> FlatTree | None:
    """Return the plan for a factor's pattern (rows ascending), None where the tree is too deep."""
    q = L.shape[0]
    start, counts = L.indptr[:-1].astype(np.int64), np.diff(L.indptr) - 1
    if float((counts.astype(float) ** 2).sum()) > MOST_CELLS:
        return None
    has_parent = counts > 0
    parent = np.full(q, -1)
    parent[has_parent] = L.indices[start[has_parent] + 1]
    depth = np.where(has_parent, -1, 0)
    for level in range(1, MOST_BATCHES + 1):
        waiting = np.flatnonzero(depth < 0)
        if not len(waiting):
            break
        depth[waiting[depth[parent[waiting]] == level - 1]] = level
    else:
        return None
    keys, member = np.unique(np.column_stack([depth, counts]), axis=0, return_inverse=True)
    if len(keys) > MOST_BATCHES:
        return None
    stored = np.repeat(np.arange(q), counts + 1) * q + L.indices
    batches = []
    for number, (_, d) in enumerate(keys):
        columns = np.flatnonzero(member.ravel() == number)
        below = start[columns][:, None] + 1 + np.arange(d)
        rows = L.indices[below].astype(np.int64)
        low = np.minimum(rows[:, :, None], rows[:, None, :])
        high = np.maximum(rows[:, :, None], rows[:, None, :])
        batches.append(_Batch(start[columns], below, np.searchsorted(stored, low * q + high)))
    return FlatTree(batches)
