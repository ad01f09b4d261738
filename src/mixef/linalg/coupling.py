"""How the first block of M meets the others: ``U_l = left_l (Z'Z)_l2 Lambda_2`` for level l."""

from __future__ import annotations

import copy
import itertools
import os
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor

import numpy as np
from scipy import sparse
from scipy.linalg.blas import dsymm, dsyrk

from mixef.linalg import small
from mixef.linalg.crossproducts import Pairs
from mixef.linalg.kernels import compiled
from mixef.linalg.layout import Layout

# After a factorization the threads of OpenBLAS keep their cores busy for a while, waiting. With
# fewer cores than this, threads of our own would have to share with them, and lose by it.
ENOUGH_CORES = 4
CORES = os.cpu_count() or 1
# Coupling of so few cells is dense, and multiplied in one piece.
FEW_CELLS = 200_000
# The share of occupied cells from which a dense copy is not much more than the blocks.
FULL = 0.5
# Pairs that are multiplied at a time.
SOME = 50_000


class DenseCoupling:
    """U as a dense array, for an M_12 that is small or nearly full."""

    def __init__(self, layout: Layout, pairs: Sequence[Pairs]):
        n, s = layout.n_levels[0], layout.widths[0]
        starts = [start - layout.offsets[1] for start in layout.offsets[1:]]
        self._shape = n, s, starts[-1]
        self._columns = [slice(*ends) for ends in itertools.pairwise(starts)]
        self._pairs, self._cells = pairs, list[np.ndarray]()
        self._U, self._is_shared = np.empty((0, 0, 0)), False
        self._parts: list[np.ndarray] = []  # of U
        # (Z'Z)_12, dense too: where that is not much more than its blocks.
        self._B: np.ndarray | None = None
        size = n * s * starts[-1]
        if size <= FEW_CELLS or sum(pair.blocks.size for pair in pairs) > FULL * size:
            self._B = np.zeros(self._shape)
            for block, pair in zip(self._blocks(self._B), pairs, strict=True):
                block[pair.rows, :, pair.cols, :] = pair.blocks

    def twin(self, pairs: Sequence[Pairs]) -> DenseCoupling:
        """Return one of its own for other pairs on the same pattern."""
        new = copy.copy(self)
        new._pairs, new._U = pairs, np.empty((0, 0, 0))
        new._is_shared = self._is_shared = True
        if any(pair.blocks is not own.blocks for pair, own in zip(pairs, self._pairs, strict=True)):
            new.reload()
        return new

    def reload(self) -> None:
        """Copy the blocks of the pairs again, where they were copied."""
        if self._B is None:
            return
        if self._is_shared:
            self._B, self._is_shared = self._B.copy(), False
        flat = self._B.reshape(-1)
        for cells, pair in zip(self._places(), self._pairs, strict=True):
            flat[cells] = pair.blocks

    def _places(self) -> list[np.ndarray]:
        """Return where the blocks (m, s, s_j) of each pair of factors lie in B, flat."""
        if not self._cells:
            _, s, width = self._shape
            for columns, pair in zip(self._columns, self._pairs, strict=True):
                t = pair.blocks.shape[2]
                row = (pair.rows[:, None] * s + np.arange(s)) * width
                col = columns.start + pair.cols[:, None] * t + np.arange(t)
                self._cells.append(row[:, :, None] + col[:, None, :])
        return self._cells

    def _blocks(self, array: np.ndarray) -> list[np.ndarray]:
        """View an array (l, s, k) by levels of the other factors, each (l, s, l_j, s_j)."""
        widths = [pair.blocks.shape[2] for pair in self._pairs]
        return [
            array[:, :, columns].reshape(*array.shape[:2], -1, t)
            for columns, t in zip(self._columns, widths, strict=True)
        ]

    def set(self, left: np.ndarray, lams: Sequence[np.ndarray]) -> None:
        """Set ``U_l = left_l (Z'Z)_l2 Lambda_2``."""
        if not self._U.size:
            self._U = np.zeros(self._shape)
            self._parts = self._blocks(self._U)
        if self._B is not None:
            np.matmul(left, self._B, out=self._U)
            for block, lam in zip(self._parts, lams, strict=True):
                if lam.shape[0] == 1:
                    block *= lam[0, 0]
                else:
                    block[...] = block @ lam
            return
        for block, pair, lam in zip(self._parts, self._pairs, lams, strict=True):
            for start in range(0, len(pair.rows), SOME):
                some = slice(start, start + SOME)
                rows, right = pair.rows[some], pair.blocks[some] @ lam
                block[rows, :, pair.cols[some], :] = small.times(left[rows], right)

    def subtract_gram(self, S: np.ndarray) -> None:
        """Subtract ``U'U`` from the lower triangle of S, in place."""
        if S.size:
            dsyrk(-1.0, self._rows.T, beta=1.0, c=S, lower=1, overwrite_c=1)

    @property
    def _rows(self) -> np.ndarray:
        """U (l s, k)."""
        return self._U.reshape(-1, self._shape[2])

    def times(self, v: np.ndarray) -> np.ndarray:
        """Return ``U v``."""
        product: np.ndarray = self._rows @ v
        return product

    def transposed_times(self, v: np.ndarray) -> np.ndarray:
        """Return ``U' v``."""
        product: np.ndarray = self._rows.T @ v
        return product

    def gram(self, a: int, c: int) -> np.ndarray:
        """Return ``sum_l U_la'U_lc`` (k, k) of rows a and c of every level."""
        return self._U[:, a].T @ self._U[:, c]

    def forms(self, inverse: np.ndarray) -> np.ndarray:
        """Return ``U_l inverse U_l'`` (l, s, s)."""
        n, s, _ = self._shape
        out = np.zeros((n, s, s))
        for some, product in self._products(inverse):
            np.matmul(self._U[some], product.transpose(0, 2, 1), out=out[some])
        return out

    def products_and_forms(self, inverse: np.ndarray) -> tuple[list[np.ndarray], np.ndarray]:
        """Return ``U_l inverse`` on the pairs (m, s, s_j), and ``U_l inverse U_l'`` (l, s, s)."""
        n, s, _ = self._shape
        products, forms = [np.empty(pair.blocks.shape) for pair in self._pairs], np.zeros((n, s, s))
        for some, product in self._products(inverse):
            np.matmul(self._U[some], product.transpose(0, 2, 1), out=forms[some])
            by_pair = zip(products, self._blocks(product), self._pairs, strict=True)
            for out, block, pair in by_pair:
                own = slice(*np.searchsorted(pair.rows, [some.start, some.stop]))
                out[own] = block[pair.rows[own] - some.start, :, pair.cols[own], :]
        return products, forms

    def _products(self, inverse: np.ndarray) -> Iterator[tuple[slice, np.ndarray]]:
        """Yield some levels, and ``U_l inverse`` (l, s, k) of those."""
        n, s, k = self._shape
        step = max(FEW_CELLS // max(s * k, 1), 1)
        for start in range(0, n if k else 0, step):
            some = slice(start, min(start + step, n))
            rows = self._U[some].reshape(-1, k)
            yield some, dsymm(1.0, inverse, rows.T, lower=1).T.reshape(-1, s, k)


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
