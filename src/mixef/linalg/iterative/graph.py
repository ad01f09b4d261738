"""Which levels of two crossed factors occur together, and products with that matrix."""

from __future__ import annotations

import itertools
import os
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any

import numpy as np

from mixef.linalg.crossproducts import CrossProducts, Pairs
from mixef.linalg.kernels import compiled
from mixef.linalg.layout import Layout

# Columns of a block of vectors: eight numbers of eight bytes are a line of the cache.
WIDTH = 8
# So few columns are faster one by one than filled up to a block.
FEW = 3
# A pass over fewer numbers than this ends before a second thread has begun.
WORTH_THREADS = 400_000
THREADS = min(os.cpu_count() or 1, 8)


@dataclass(frozen=True)
class Side:
    """The pairs of levels, sorted by the levels of one factor."""

    start: np.ndarray  # int64 (l + 1,): where the pairs of each level begin
    other: np.ndarray  # int32 (m,): levels of the other factor, ascending inside a level
    values: np.ndarray  # float (m,), or empty where every pair counts one

    @property
    def arrays(self) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """The three arrays, as kernels take them."""
        return self.start, self.other, self.values

    @property
    def degrees(self) -> np.ndarray:
        """How many pairs each level has."""
        return np.diff(self.start)

    def gather(self, V: np.ndarray) -> np.ndarray:
        """Return the sums (l, k) of ``a V`` over the pairs of each level, V (l', k) in its type."""
        n, k = len(self.start) - 1, V.shape[1]
        if k not in (1, WIDTH):
            blocks = [V[:, [c]] for c in range(k)] if k <= FEW else by_width(V)
            parts = [self.gather(block) for block in blocks]
            return np.concatenate([*parts, np.empty((n, 0))], axis=1)[:, :k]
        out = np.empty((n, k), dtype=V.dtype)
        kernel = compiled()["gather_one" if k == 1 else "gather_eight"]
        V = np.ascontiguousarray(V)
        in_threads(lambda a, b: kernel(*self.arrays, V, out, a, b), self.bounds(k))
        return out

    def gather_squares(self, w: np.ndarray) -> np.ndarray:
        """Return the sums (l, k) of ``a^2 w`` over the pairs of each level, for w (l', k)."""
        out = np.empty((len(self.start) - 1, w.shape[1]))
        kernel = compiled()["weighted_squares"]
        in_threads(lambda a, b: kernel(*self.arrays, w, out, a, b), self.bounds(w.shape[1]))
        return out

    def bounds(self, k: int) -> list[int]:
        """Split the levels into ranges with about as many pairs, one a thread."""
        parts = THREADS if len(self.other) * k >= WORTH_THREADS else 1
        shares = np.linspace(0, len(self.other), parts + 1)[1:-1]
        return [0, *np.searchsorted(self.start, shares).tolist(), len(self.start) - 1]

    def turned(self, n_levels: int) -> Side:
        """Return the same pairs, sorted by the n levels of the other factor."""
        start = np.zeros(n_levels + 1, dtype=np.int64)
        turned = Side(start, np.empty_like(self.other), np.empty_like(self.values))
        compiled()["turn_pairs"](*self.arrays, *turned.arrays)
        return turned


class Places:
    """Where the values of each side of a `Graph` stand among those of its pairs, found once.

    Parameters
    ----------
    rows, cols : ndarray of int (m,)
        Levels of the pairs, sorted.
    n_levels : tuple of int
    swapped : bool
        Whether the columns are the graph's factor 1.
    """

    def __init__(
        self, rows: np.ndarray, cols: np.ndarray, n_levels: tuple[int, ...], swapped: bool
    ):
        self._of, self._swapped = (rows, cols, n_levels), swapped

    @cached_property
    def sides(self) -> tuple[np.ndarray, np.ndarray]:
        """Places (m,) of the values of the sides of factors 1 and 2."""
        rows, cols, n_levels = self._of
        by_row, by_col, _ = _sides(rows, cols, np.arange(float(len(rows))), n_levels)
        one, two = (side.values.astype(np.uint32) for side in (by_row, by_col))
        return (two, one) if self._swapped else (one, two)


@dataclass(frozen=True)
class Graph:
    """The matrix ``A = Z_1'WZ_2`` of two scalar factors, 1 the one with more levels.

    Levels of either factor stand in order of falling frequency: those that are met often lie
    together in the cache. A is ``scale`` times the values of the pairs.
    """

    one: Side  # by the levels of factor 1
    two: Side  # by the levels of factor 2
    scale: float
    roles: tuple[int, int]  # which block of the layout is factor 1, and which is factor 2
    positions: tuple[np.ndarray, np.ndarray]  # which level of the data each level of 1 and of 2 is
    names: str  # of the terms, for messages
    places: Places  # where the values of either side come from

    def reloaded(self, products: CrossProducts) -> Graph:
        """Return the graph of the same pairs with the values that they have now."""
        pair = products.pairs.get((0, 1))
        if pair is None or len(pair.rows) != self.n_pairs:
            return graph_of(products)
        values = pair.blocks.ravel()
        one, two = (
            replace(side, values=values[place])
            for side, place in zip((self.one, self.two), self.places.sides, strict=True)
        )
        return replace(self, one=one, two=two, scale=1.0)

    @property
    def shape(self) -> tuple[int, int]:
        """Levels of both factors."""
        return len(self.one.start) - 1, len(self.two.start) - 1

    @property
    def n_pairs(self) -> int:
        """How many pairs of levels occur."""
        return len(self.one.other)

    def times(self, V: np.ndarray) -> np.ndarray:
        """Return ``A V`` for V (l_2, k)."""
        return self._scaled(self.one.gather(V))

    def transposed_times(self, U: np.ndarray) -> np.ndarray:
        """Return ``A'U`` for U (l_1, k)."""
        return self._scaled(self.two.gather(U))

    def products(
        self, diagonals: Sequence[np.ndarray], V1: np.ndarray, V2: np.ndarray
    ) -> tuple[np.ndarray, np.ndarray]:
        """Return ``Z'WZ v`` for the two parts of v, in the graph's order."""
        d1, d2 = (D.reshape(-1, 1) for D in diagonals)
        return d1 * V1 + self.times(V2), d2 * V2 + self.transposed_times(V1)

    def _scaled(self, out: np.ndarray) -> np.ndarray:
        if self.scale != 1.0:
            out *= self.scale
        return out


def graph_of(products: CrossProducts) -> Graph:
    """Return the graph of the pairs of levels of two factors with one column each.

    The one with more levels becomes factor 1.
    """
    layout = products.layout
    n_levels = layout.n_levels
    rows, cols, values = _each_pair_once(pairs_of(products, 0, 1))
    values, scale = _values(values)
    by_row, by_col, orders = _sides(rows, cols, values, n_levels)
    swapped = n_levels[1] > n_levels[0]
    places = Places(rows, cols, n_levels, swapped)
    if swapped:
        by_row, by_col, orders = by_col, by_row, orders[::-1]
    return Graph(
        by_row, by_col, scale, (1, 0) if swapped else (0, 1), orders, named(layout), places
    )


def _sides(
    rows: np.ndarray, cols: np.ndarray, values: np.ndarray, n_levels: tuple[int, ...]
) -> tuple[Side, Side, tuple[np.ndarray, np.ndarray]]:
    """Return sorted pairs by the rows and by the columns, and the levels by frequency."""
    of_rows, of_cols = map(by_frequency, (rows, cols), n_levels)
    start = np.searchsorted(rows, np.arange(n_levels[0] + 1))
    by_col = Side(start, of_cols[1][cols], values).turned(n_levels[1])
    by_row = Side(by_col.start, of_rows[1][by_col.other], by_col.values).turned(n_levels[0])
    return by_row, by_row.turned(n_levels[1]), (of_rows[0], of_cols[0])


def pairs_of(products: CrossProducts, i: int, j: int) -> Pairs:
    """Return the pairs of levels of two terms, also where ``Z'WZ`` came in one piece."""
    if (i, j) in products.pairs:
        return products.pairs[i, j]
    layout = products.layout
    between = np.asarray(products.ZtZ[layout.slice(i), layout.slice(j)])
    shape = (layout.n_levels[i], layout.widths[i], layout.n_levels[j], layout.widths[j])
    blocks = between.reshape(shape).transpose(0, 2, 1, 3)
    rows, cols = np.nonzero(np.abs(blocks).sum(axis=(2, 3)))
    return Pairs(rows, cols, blocks[rows, cols])


def by_frequency(codes: np.ndarray, n_levels: int) -> tuple[np.ndarray, np.ndarray]:
    """Return the levels in order of falling frequency, and the rank of each."""
    order = np.argsort(-np.bincount(codes, minlength=n_levels), kind="stable")
    rank = np.empty(n_levels, dtype=np.int32)
    rank[order] = np.arange(n_levels, dtype=np.int32)
    return order, rank


def _each_pair_once(pair: Pairs) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Return levels and values of the pairs, sorted, the values of equal pairs added up.

    E has a zero diagonal only where no pair comes twice.
    """
    rows, cols, values = pair.rows, pair.cols, pair.blocks.ravel()
    same = rows[1:] == rows[:-1]
    if bool(((rows[1:] > rows[:-1]) | (same & (cols[1:] > cols[:-1]))).all()):
        return rows, cols, values
    order = np.lexsort((cols, rows))
    rows, cols, values = rows[order], cols[order], values[order]
    new = np.r_[True, (rows[1:] != rows[:-1]) | (cols[1:] != cols[:-1])]
    return rows[new], cols[new], np.add.reduceat(values, np.flatnonzero(new))


def _values(values: np.ndarray) -> tuple[np.ndarray, float]:
    """Return values and a scale; none where all are equal, which halves what a pass reads."""
    if len(values) and bool((values == values[0]).all()):
        return np.empty(0), float(values[0])
    return values, 1.0


def named(layout: Layout) -> str:
    """Name the terms of a layout in a message."""
    return "the terms " + " and ".join(layout.names) if layout.names else "the crossed terms"


def by_width(V: np.ndarray) -> list[np.ndarray]:
    """Split columns into blocks of `WIDTH`, the last one filled up with zeros."""
    blocks = [V[:, first : first + WIDTH] for first in range(0, V.shape[1], WIDTH)]
    if blocks and blocks[-1].shape[1] < WIDTH:
        missing = WIDTH - blocks[-1].shape[1]
        blocks[-1] = np.pad(blocks[-1], ((0, 0), (0, missing)))
    return blocks


def in_threads(work: Callable[[int, int], Any], bounds: list[int]) -> None:
    """Call ``work(first, last)`` on consecutive ranges, one thread a range."""
    ranges = list(itertools.pairwise(bounds))
    if len(ranges) == 1:
        work(*ranges[0])
        return
    with ThreadPoolExecutor(len(ranges)) as pool:
        list(pool.map(lambda ends: work(*ends), ranges))
