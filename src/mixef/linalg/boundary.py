"""``T_i = sum_l (Z'V^-1 Z)_ll`` of a singular template, from a sparse Cholesky factor.

Where lam_i is singular, M does not say how its columns ``Z_i`` meet ``V^-1``. A row of L that lam_i
has not touched does: as ``L x = P Lambda'Z'Z_l`` for a level l,

    (Z'V^-1 Z)_ll = (Z'Z)_ll - x'x,

and x is as sparse as the path from the level to the root of the elimination tree. Where the tree is
flat, x is found for all levels at once. Where it is deep, only the part x_1 that belongs to the
columns eliminated before the level is; with R what is left of the right-hand side then, on the rows
J of the level's own column of L,

    (Z'V^-1 Z)_ll = (Z'Z)_ll - x_1'x_1 - R'C_JJ R,        C = P M^-1 P',

and C_JJ is on the pattern of L. Both cost what the inverse on that pattern costs.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import numpy as np
from scipy import sparse

from mixef.linalg.crossproducts import CrossProducts, block_entries, diagonal_pairs
from mixef.linalg.flat_tree import FlatTree
from mixef.linalg.kernels import compiled


class BoundaryColumns:
    """The columns ``P Lambda'(Z'Z)_.i`` of one block, on a pattern that stays.

    Parameters
    ----------
    products : CrossProducts
    i : int
    place : ndarray of int (q,)
        Where the permutation puts each row.
    """

    def __init__(self, products: CrossProducts, i: int, place: np.ndarray):
        layout = self._layout = products.layout
        self._products, self._i = products, i
        rows, cols = [], []
        for j, level_j, level_i, _ in self._blocks():
            row, col = block_entries(layout, j, i, level_j, level_i)
            rows.append(place[row])
            cols.append(col - layout.offsets[i])
        row, col = np.concatenate(rows), np.concatenate(cols)
        shape = layout.q, layout.n_levels[i] * layout.widths[i]
        numbers = sparse.coo_array((np.arange(1.0, len(row) + 1), (row, col)), shape=shape).tocsc()
        numbers.sort_indices()
        self._gather = numbers.data.astype(np.intp) - 1
        self._columns = numbers
        own = place[layout.slice(i)].reshape(layout.n_levels[i], layout.widths[i])
        self._first = own.min(axis=1)

    def trace(
        self,
        lams: Sequence[np.ndarray],
        L: sparse.csc_matrix,
        C: np.ndarray,
        tree: FlatTree | None,
    ) -> np.ndarray:
        """Return ``T_i`` (s_i, s_i) at the templates that L belongs to.

        Parameters
        ----------
        L : csc_matrix
            Rows ascending, so that a column starts with its diagonal.
        C : ndarray
            Entries of ``P M^-1 P'``, stored like those of L.
        tree : FlatTree or None
            The plan for L's pattern, None where the tree is deep.
        """
        values = [(lams[j].T @ B).ravel() for j, _, _, B in self._blocks()]
        np.take(np.concatenate(values), self._gather, out=self._columns.data)
        total: np.ndarray = self._products.diagonal[self._i].sum(axis=0)
        if tree is None:
            total -= self._by_level(L, C)
            return total
        for x in tree.solve_sparse(L.data, self._columns.tocsr()):
            by_column = x.tocsc()
            parts = [by_column[:, a :: len(total)] for a in range(len(total))]
            total -= [[one.multiply(other).sum() for other in parts] for one in parts]
        return total

    def _by_level(self, L: sparse.csc_matrix, C: np.ndarray) -> np.ndarray:
        s, by_row, rhs = self._layout.widths[self._i], L.tocsr(), self._columns
        out = np.zeros((s, s))
        compiled()["boundary_forms"](
            (L.indptr, L.indices, L.data),
            C,
            (by_row.indptr, by_row.indices),
            (rhs.indptr, rhs.indices, rhs.data),
            self._first,
            out,
        )
        return out

    def _blocks(self) -> Iterator[tuple[int, np.ndarray, np.ndarray, np.ndarray]]:
        """Yield j, levels of j and of i, and the blocks of ``Z_j'WZ_i`` for them."""
        i, products = self._i, self._products
        own = diagonal_pairs(products, i)
        yield i, own.rows, own.cols, own.blocks
        for (a, b), pair in products.pairs.items():
            if a == i:
                yield b, pair.cols, pair.rows, pair.blocks.transpose(0, 2, 1)
            elif b == i:
                yield a, pair.rows, pair.cols, pair.blocks
