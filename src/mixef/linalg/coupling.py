"""How the first block of M meets the others: ``U_l = left_l (Z'Z)_l2 Lambda_2`` for level l."""

from __future__ import annotations

import copy
import itertools
import os
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor

import numpy as np
from scipy import sparse
from scipy.linalg.blas import dsymm, dsyrk

from mixef.linalg.crossproducts import Pairs
from mixef.linalg.kernels import compiled
from mixef.linalg.layout import Layout

# After a factorization the threads of OpenBLAS keep their cores busy for a while, waiting. With
# fewer cores than this, threads of our own would have to share with them, and lose by it.
ENOUGH_CORES = 4
CORES = os.cpu_count() or 1


class DenseCoupling:
    """U as a dense array, for an M_12 that is small or nearly full."""

    def __init__(self, layout: Layout, pairs: Sequence[Pairs]):
        self._layout = layout
        n, s = layout.n_levels[0], layout.widths[0]
        self._starts = [start - layout.offsets[1] for start in layout.offsets[1:]]
        self._pairs, self._cells = pairs, list[np.ndarray]()
        self._B = np.zeros((n, s, self._starts[-1]))
        for j, pair in enumerate(pairs):
            block = self._B[:, :, self._starts[j] : self._starts[j + 1]]
            block = block.reshape(n, s, layout.n_levels[j + 1], layout.widths[j + 1])
            block[pair.rows, :, pair.cols, :] = pair.blocks
        self._U = np.empty((0, 0))

    def twin(self, pairs: Sequence[Pairs]) -> DenseCoupling:
        """Return one of its own for other pairs on the same pattern."""
        new = copy.copy(self)
        new._pairs, new._B, new._U = pairs, self._B.copy(), np.empty((0, 0))
        new.reload()
        return new

    def reload(self) -> None:
        """Copy the blocks of the pairs again."""
        flat = self._B.reshape(-1)
        for cells, pair in zip(self._places(), self._pairs, strict=True):
            flat[cells] = pair.blocks

    def _places(self) -> list[np.ndarray]:
        """Return where the blocks (m, s, s_j) of each pair of factors lie in B, flat."""
        if not self._cells:
            s, width = self._B.shape[1:]
            for start, pair in zip(self._starts, self._pairs, strict=False):
                t = pair.blocks.shape[2]
                row = (pair.rows[:, None] * s + np.arange(s)) * width
                col = start + pair.cols[:, None] * t + np.arange(t)
                self._cells.append(row[:, :, None] + col[:, None, :])
        return self._cells

    def set(self, left: np.ndarray, lams: Sequence[np.ndarray]) -> None:
        """Set ``U_l = left_l (Z'Z)_l2 Lambda_2``."""
        U = left @ self._B
        for j, lam in enumerate(lams):
            block = U[:, :, self._starts[j] : self._starts[j + 1]]
            if lam.shape[0] == 1:
                block *= lam[0, 0]
            else:
                shape = block.shape
                block[...] = (block.reshape(*shape[:2], -1, lam.shape[0]) @ lam).reshape(shape)
        self._U = U.reshape(U.shape[0] * U.shape[1], U.shape[2])

    def subtract_gram(self, S: np.ndarray) -> None:
        """Subtract ``U'U`` from the lower triangle of S, in place."""
        if S.size:
            dsyrk(-1.0, self._U.T, beta=1.0, c=S, lower=1, overwrite_c=1)

    def times(self, v: np.ndarray) -> np.ndarray:
        """Return ``U v``."""
        product: np.ndarray = self._U @ v
        return product

    def transposed_times(self, v: np.ndarray) -> np.ndarray:
        """Return ``U' v``."""
        product: np.ndarray = self._U.T @ v
        return product

    def gram(self, a: int, c: int) -> np.ndarray:
        """Return ``sum_l U_la'U_lc`` (k, k) of rows a and c of every level."""
        U = self._U.reshape(self._layout.n_levels[0], self._layout.widths[0], -1)
        return U[:, a].T @ U[:, c]

    def forms(self, inverse: np.ndarray) -> np.ndarray:
        """Return ``U_l inverse U_l'`` (l, s, s)."""
        return self._product_and_forms(inverse)[1]

    def products_and_forms(self, inverse: np.ndarray) -> tuple[list[np.ndarray], np.ndarray]:
        """Return ``U_l inverse`` on the pairs (m, s, s_j), and ``U_l inverse U_l'`` (l, s, s)."""
        product, forms = self._product_and_forms(inverse)
        return [product.reshape(-1)[cells] for cells in self._places()], forms

    def _product_and_forms(self, inverse: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        n, s = self._layout.n_levels[0], self._layout.widths[0]
        if inverse.size == 0:
            return self._U, np.zeros((n, s, s))
        product = dsymm(1.0, inverse, self._U.T, lower=1).T
        return product, self._U.reshape(n, s, -1) @ product.reshape(n, s, -1).transpose(0, 2, 1)


class SparseCoupling:
    """U by its occupied columns, which all rows of a level share."""

    def __init__(self, layout: Layout, pairs: Sequence[Pairs]):
        n, s = layout.n_levels[0], layout.widths[0]
        self._shape = (n, s, layout.q - layout.offsets[1])
        self._pairs = pairs
        rows, cols = [], []
        for j, pair in enumerate(pairs, start=1):
            width = layout.widths[j]
            first = layout.offsets[j] - layout.offsets[1] + pair.cols * width
            rows.append(np.repeat(pair.rows, width))
            cols.append((first[:, None] + np.arange(width)).ravel())
        row, col = np.concatenate(rows), np.concatenate(cols)
        order = np.argsort(row, kind="stable")  # columns of later factors are larger: sorted
        self._cols = col[order].astype(np.int32)
        self._start = np.zeros(n + 1, dtype=np.int32)
        np.cumsum(np.bincount(row, minlength=n), out=self._start[1:])
        place = np.empty(len(order), dtype=np.intp)
        place[order] = np.arange(len(order))
        ends = np.cumsum([len(r) for r in rows])[:-1]
        self._place = np.split(place, ends)
        self._U = np.empty((s, len(order)))
        self._tiles = self._balanced_tiles()

    def twin(self, pairs: Sequence[Pairs]) -> SparseCoupling:
        """Return one of its own for other pairs on the same pattern."""
        new = copy.copy(self)
        new._pairs, new._U = pairs, np.empty_like(self._U)
        return new

    def set(self, left: np.ndarray, lams: Sequence[np.ndarray]) -> None:
        """Set ``U_l = left_l (Z'Z)_l2 Lambda_2``."""
        scalar = left.shape[1] == 1
        for pair, place, lam in zip(self._pairs, self._place, lams, strict=True):
            if scalar and lam.shape[0] == 1:
                self._U[0, place] = left[pair.rows, 0, 0] * pair.blocks[:, 0, 0] * lam[0, 0]
            else:
                values = left[pair.rows] @ (pair.blocks @ lam)
                self._U[:, place] = values.transpose(1, 0, 2).reshape(left.shape[1], -1)

    def reload(self) -> None:
        """Nothing: ``set`` reads the blocks of the pairs themselves."""

    def subtract_gram(self, S: np.ndarray) -> None:
        """Subtract ``U'U`` from the lower triangle of S, in place."""
        kernel = compiled()["subtract_gram"]
        _in_threads(
            lambda first, last: kernel(self._start, self._cols, self._U, S, first, last),
            self._tiles,
        )

    def times(self, v: np.ndarray) -> np.ndarray:
        """Return ``U v``."""
        n, s, _ = self._shape
        out = np.empty((n, s, *v.shape[1:]))
        for a in range(s):
            out[:, a] = self._row(a) @ v
        return out.reshape(n * s, *v.shape[1:])

    def transposed_times(self, v: np.ndarray) -> np.ndarray:
        """Return ``U' v``."""
        n, s, _ = self._shape
        by_level = v.reshape(n, s, *v.shape[1:])
        product: np.ndarray = sum(self._row(a).T @ by_level[:, a] for a in range(s))
        return product

    def gram(self, a: int, c: int) -> np.ndarray:
        """Return ``sum_l U_la'U_lc`` (k, k) of rows a and c of every level."""
        gram: np.ndarray = (self._row(a).T @ self._row(c)).toarray()
        return gram

    def forms(self, inverse: np.ndarray) -> np.ndarray:
        """Return ``U_l inverse U_l'`` (l, s, s)."""
        n, s, _ = self._shape
        out = np.empty((n, s, s))
        kernel = compiled()["quadratic_forms"]
        _in_threads(
            lambda first, last: kernel(self._start, self._cols, self._U, inverse, out, first, last),
            self._halves(),
        )
        return out

    def products_and_forms(self, inverse: np.ndarray) -> tuple[list[np.ndarray], np.ndarray]:
        """Return ``U_l inverse`` on the pairs (m, s, s_j), and ``U_l inverse U_l'`` (l, s, s)."""
        n, s, _ = self._shape
        P, forms = np.zeros(self._U.shape), np.empty((n, s, s))
        kernel = compiled()["products_and_forms"]
        fixed = self._start, self._cols, self._U, inverse, P, forms
        _in_threads(lambda first, last: kernel(*fixed, first, last), self._halves())
        by_pair = [
            P[:, place].reshape(s, -1, pair.blocks.shape[2]).transpose(1, 0, 2)
            for place, pair in zip(self._place, self._pairs, strict=True)
        ]
        return by_pair, forms

    def _halves(self) -> list[int]:
        """Split the levels in two parts with as many occupied columns."""
        half = int(np.searchsorted(self._start, self._start[-1] // 2))
        return [0, half, self._shape[0]]

    def _row(self, a: int) -> sparse.csr_array:
        n, _, k = self._shape
        return sparse.csr_array((self._U[a], self._cols, self._start), shape=(n, k))

    def _balanced_tiles(self) -> list[int]:
        """Split the columns of S in two parts that cost the same number of products."""
        work = np.repeat(self._start[1:], np.diff(self._start)) - np.arange(len(self._cols))
        by_column = np.cumsum(np.bincount(self._cols, work, minlength=self._shape[2]))
        half = int(np.searchsorted(by_column, by_column[-1] / 2))
        return [0, half, self._shape[2]]


def _in_threads(work: Callable[[int, int], object], bounds: Sequence[int]) -> None:
    """Call ``work(first, last)`` on consecutive ranges, one thread a range."""
    ranges = [(a, b) for a, b in itertools.pairwise(bounds) if a < b]
    if len(ranges) < 2 or CORES < ENOUGH_CORES:
        for first, last in ranges:
            work(first, last)
        return
    with ThreadPoolExecutor(len(ranges)) as pool:
        list(pool.map(lambda ends: work(*ends), ranges))
