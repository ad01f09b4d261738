"""The general factor: CHOLMOD on the sparse M. The only file that knows scikit-sparse."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from scipy import sparse

from mixef.errors import MissingLibraryError
from mixef.linalg.crossproducts import (
    CrossProducts,
    SymmetricBlocks,
    block_entries,
    diagonal_pairs,
)
from mixef.linalg.factor import Factor, not_positive_definite
from mixef.linalg.kernels import compiled
from mixef.linalg.takahashi import FlatTree, flat_tree

try:
    from sksparse.cholmod import CholmodError, analyze, cholesky
except ImportError as error:
    raise MissingLibraryError(
        "mixef needs SuiteSparse and scikit-sparse; install them with "
        "`sudo apt-get install libsuitesparse-dev` (Debian, Ubuntu), "
        "`sudo dnf install suitesparse-devel` (Fedora) or `brew install suite-sparse` (macOS), "
        "then `pip install 'scikit-sparse>=0.4.16,<0.5'`; with conda: "
        "`conda install -c conda-forge 'scikit-sparse<0.5'`."
    ) from error


class CholmodFactor(Factor):
    """The factor for any sparse M: the pattern is analysed once, values are updated in place."""

    def __init__(self, products: CrossProducts, mode: str = "auto"):
        super().__init__(products)
        layout, q = self.layout, self.layout.q
        blocks = {(i, i): diagonal_pairs(products, i) for i in range(len(layout))}
        blocks |= products.pairs
        self._blocks = [(i, j, pair.blocks) for (i, j), pair in blocks.items()]
        entries = [
            block_entries(layout, i, j, pair.rows, pair.cols) for (i, j), pair in blocks.items()
        ]
        # Blocks above the diagonal are stored as their mirror images: CHOLMOD reads the lower
        # triangle. Numbering the entries from 1 finds where each goes among the sorted columns.
        row = np.concatenate([col for _, col in entries])
        col = np.concatenate([row for row, _ in entries])
        lower = np.flatnonzero(row >= col)
        number = sparse.coo_matrix((lower + 1.0, (row[lower], col[lower])), shape=(q, q)).tocsc()
        number.sort_indices()
        self._gather = number.data.astype(np.intp) - 1
        self._M = number
        self._diagonal = np.flatnonzero(
            number.indices == np.repeat(np.arange(q), np.diff(number.indptr))
        )
        self._write([np.eye(s) for s in layout.widths])
        self._factor = analyze(self._M, mode=mode)
        self._perm = self._factor.P()
        self._pattern: tuple[np.ndarray, np.ndarray] | None = None
        self._tree: FlatTree | None = None
        self._places: dict[tuple[int, int], np.ndarray] = {}

    def _refactor(self) -> None:
        self._write(self.lams)
        try:
            self._factor.cholesky_inplace(self._M, beta=1.0)
        except CholmodError as error:
            raise not_positive_definite() from error
        with np.errstate(invalid="ignore", divide="ignore"):
            # Simplicial factors are LDL' and let negative pivots pass: a logarithm that is not
            # finite tells of them.
            self.ldL2 = float(self._factor.logdet())
        self._C: sparse.csc_matrix | None = None

    def solve_L(self, rhs: np.ndarray) -> np.ndarray:
        """Solve ``L x = P rhs``."""
        return self._factor.solve_L(
            np.asfortranarray(rhs[self._perm]), use_LDLt_decomposition=False
        )

    def solve_Lt(self, rhs: np.ndarray) -> np.ndarray:
        """Solve ``L' P x = rhs``."""
        out = np.empty(rhs.shape)
        out[self._perm] = self._factor.solve_Lt(
            np.asfortranarray(rhs), use_LDLt_decomposition=False
        )
        return out

    def inverse_block(self, i: int) -> np.ndarray:
        """Return the diagonal blocks of ``M^-1`` that belong to block i."""
        C = self._inverse()
        level = np.arange(self.layout.n_levels[i])
        return C.data[self._places_in_L(C, i, i, level, level)] + 0.0  # no negative zeros

    def inverse_pairs(self) -> SymmetricBlocks:
        """Return the blocks of ``M^-1`` on the pattern of ``Z'WZ``; solves stay possible."""
        C = self._inverse()
        return SymmetricBlocks(
            [self.inverse_block(i) for i in range(len(self.layout))],
            {
                (i, j): C.data[self._places_in_L(C, i, j, pair.rows, pair.cols)]
                for (i, j), pair in self.products.pairs.items()
            },
        )

    def _inverse(self) -> sparse.csc_matrix:
        """Return ``P M^-1 P'`` on the pattern of L, once an update."""
        if self._C is None:
            self._C = self._selected_inverse()
        return self._C

    def _places_in_L(self, C: sparse.csc_matrix, i: int, j: int, level_i, level_j) -> np.ndarray:
        """Return where C stores the blocks (m, s_i, s_j) of pairs of levels, found once."""
        if (i, j) not in self._places:
            layout, q = self.layout, self.layout.q
            place = np.empty(q, dtype=np.int64)
            place[self._perm] = np.arange(q)
            one, two = (place[e] for e in block_entries(layout, i, j, level_i, level_j))
            # Columns ascend, and rows inside a column: one number an entry, in ascending order.
            stored = np.repeat(np.arange(q), np.diff(C.indptr)) * q + C.indices
            where = np.searchsorted(stored, np.minimum(one, two) * q + np.maximum(one, two))
            self._places[i, j] = where.reshape(-1, layout.widths[i], layout.widths[j])
        return self._places[i, j]

    def column_counts(self) -> np.ndarray:
        """Return the number of non-zeros of each column of L, from the pattern alone."""
        q = self.layout.q
        place = np.empty(q, dtype=np.int64)
        place[self._perm] = np.arange(q)
        row = place[self._M.indices]
        col = place[np.repeat(np.arange(q), np.diff(self._M.indptr))]
        row, col = np.maximum(row, col), np.minimum(row, col)
        below = row > col
        pattern = sparse.csr_array(
            (np.ones(below.sum(), dtype=np.int8), (row[below], col[below])), shape=(q, q)
        )
        counts = np.zeros(q, dtype=np.int64)
        compiled()["column_counts"](pattern.indptr, pattern.indices, counts)
        return counts

    def _write(self, lams: Sequence[np.ndarray]) -> None:
        parts = []
        for i, j, values in self._blocks:
            if values.shape[1:] == (1, 1):
                parts.append(values.ravel() * (lams[i][0, 0] * lams[j][0, 0]))
            else:
                parts.append((lams[i].T @ values @ lams[j]).ravel())
        np.take(np.concatenate(parts), self._gather, out=self._M.data)

    def _selected_inverse(self) -> sparse.csc_matrix:
        L = self._factor.L()
        if not L.has_sorted_indices:
            L.sort_indices()
        pattern = L.indptr, L.indices
        if self._pattern is None or not all(map(np.array_equal, self._pattern, pattern)):
            self._pattern, self._places, self._tree = pattern, {}, flat_tree(L)
        if self._tree is not None:
            values = self._tree.inverse(L.data)
        else:
            values = np.empty_like(L.data)
            compiled()["selected_inverse"](L.indptr, L.indices, L.data, values)
        return sparse.csc_matrix((values, L.indices, L.indptr), shape=L.shape)


def sparse_cholesky(A: sparse.spmatrix) -> tuple[sparse.csc_array, np.ndarray]:
    """Return L and the permutation p of ``(A + I)[p][:, p] = L L'``."""
    factor = cholesky(sparse.csc_matrix(A), beta=1.0)
    return sparse.csc_array(factor.L()), factor.P().copy()
