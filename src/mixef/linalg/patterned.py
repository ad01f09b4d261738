"""The blocks of ``Z'WZ`` on a pattern that stays, as one vector of values that change."""

from __future__ import annotations

import copy
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property, lru_cache
from typing import Generic, Self, TypeVar

import numpy as np
from scipy import sparse

from mixef.linalg.crossproducts import SMALL_Q, CrossProducts, Pairs, SymmetricBlocks, assemble
from mixef.linalg.layout import Layout


@dataclass(frozen=True)
class Cells:
    """The distinct entries of the blocks (i, j) of ``Z'WZ``, among the values of all blocks."""

    #: `i`, `j`: grouping factors; equal for diagonal blocks, of which the lower triangle is kept.
    i: int
    j: int
    #: `first`, `count`: where the values start, and the number of blocks.
    first: int
    count: int
    #: `a`, `b`: int (c,); row and column inside a block of each of its c values.
    a: np.ndarray
    b: np.ndarray

    @cached_property
    def stop(self) -> int:
        """Where the values end."""
        return self.first + self.count * len(self.a)

    @cached_property
    def multiplicities(self) -> np.ndarray:
        """How often each value of a block (c,) occurs in the whole symmetric matrix."""
        return np.where((self.i == self.j) & (self.a == self.b), 1.0, 2.0)

    def own(self, values: np.ndarray) -> np.ndarray:
        """View the values of these blocks (count, c)."""
        return values[self.first : self.stop].reshape(self.count, -1)

    def blocks(self, values: np.ndarray) -> np.ndarray:
        """Return the blocks (count, s_i, s_j): a view, save for mirrored diagonal blocks."""
        shape = self.count, int(self.a[-1]) + 1, int(self.b[-1]) + 1
        if self.i < self.j or len(self.a) == 1:
            return values[self.first : self.stop].reshape(shape)
        return self.mirror(values, np.empty(shape))

    def mirror(self, values: np.ndarray, out: np.ndarray) -> np.ndarray:
        """Write diagonal blocks to ``out`` (count, s, s), both triangles."""
        entry = np.empty(out.shape[1:], dtype=np.intp)
        entry[self.a, self.b] = entry[self.b, self.a] = np.arange(len(self.a))
        return np.take(self.own(values), entry, axis=1, out=out, mode="clip")


SomeCells = TypeVar("SomeCells", bound=Cells)


class PatternedProducts(Generic[SomeCells]):
    """The blocks of ``Z'WZ`` on a pattern that stays.

    Parameters
    ----------
    layout : Layout
    n : int
        Rows of the data.
    cells : sequence of Cells
        One a grouping factor, then one a pair of them.
    levels : dict of (i, j) to (ndarray of int, ndarray of int), i < j
        The pairs of levels that occur together, sorted by the first, then the second.

    Attributes
    ----------
    products : CrossProducts
        What a factor is made from. Its blocks are overwritten in place, and ``assembled`` where
        that is small; what belongs to X and y is empty.
    """

    def __init__(
        self,
        layout: Layout,
        n: int,
        cells: Sequence[SomeCells],
        levels: Mapping[tuple[int, int], tuple[np.ndarray, np.ndarray]],
    ):
        self.layout, self.n = layout, n
        self._cells, self._levels = cells, levels
        self._take_room()

    def twin(self) -> Self:
        """Return products of their own, without weights yet, on the same pattern."""
        new = copy.copy(self)
        new._take_room()
        return new

    def _take_room(self) -> None:
        # A zero in front stands for all that is not on the pattern.
        self._values = np.zeros(self._cells[-1].stop)
        blocks = self.blocks(self._values)
        q = self.layout.q
        self.products = CrossProducts(
            self.layout,
            tuple(blocks.diagonal),
            self._as_pairs(blocks),
            np.empty((q, 0)),
            np.zeros(q),
            np.empty((0, 0)),
            np.empty(0),
            0.0,
            self.n,
            np.zeros((q, q)) if q <= SMALL_Q and blocks.pairs else None,
        )

    @property
    def cells(self) -> tuple[SomeCells, ...]:
        """Where the values of every block are."""
        return tuple(self._cells)

    def load(self, values: np.ndarray) -> None:
        """Overwrite ``products`` with a matrix of these values (v,)."""
        self._values[:] = values
        self._spread()

    def times(self, v: np.ndarray) -> np.ndarray:
        """Return ``Z'WZ v``, (q,) or (q, k)."""
        layout, out = self.layout, np.empty(v.shape)
        for i, blocks in enumerate(self.products.diagonal):
            by_level = layout.by_level(i, v.reshape(len(v), -1))
            layout.by_level(i, out)[...] = (blocks @ by_level).reshape(
                -1, layout.widths[i], *v.shape[1:]
            )
        for (i, j), pair in self.products.pairs.items():
            start = np.searchsorted(pair.rows, np.arange(layout.n_levels[i] + 1))
            shape = tuple(layout.n_levels[k] * layout.widths[k] for k in (i, j))
            # Of numbers alone the transpose is a view.
            numbers = pair.blocks.shape[1:] == (1, 1)
            ZtZ = (
                sparse.csr_array((pair.blocks.ravel(), pair.cols, start), shape=shape)
                if numbers
                else sparse.bsr_array((pair.blocks, pair.cols, start), shape=shape)
            )
            out[layout.slice(i)] += ZtZ @ v[layout.slice(j)]
            out[layout.slice(j)] += ZtZ.T @ v[layout.slice(i)]
        return out

    def _spread(self) -> None:
        """Bring the values to the blocks of ``products`` that are no views of them."""
        for cells, blocks in zip(self._cells, self.products.diagonal, strict=False):
            if blocks.shape[1] > 1:
                cells.mirror(self._values, blocks)
        if self.products.assembled is not None:
            np.take(self._values, self._ZtZ_entries, out=self.products.assembled, mode="clip")

    def blocks(self, values: np.ndarray) -> SymmetricBlocks:
        """Return the blocks of a matrix with these values (v,)."""
        k = len(self.layout)
        return SymmetricBlocks(
            [cells.blocks(values) for cells in self._cells[:k]],
            {(cells.i, cells.j): cells.blocks(values) for cells in self._cells[k:]},
        )

    def multiplied(self, blocks: SymmetricBlocks) -> np.ndarray:
        """Return the values (v,) of a symmetric matrix, each times how often it occurs.

        The first, which stands for all that is not on the pattern, is zero.
        """
        values = np.empty(len(self._values))
        values[0] = 0.0
        for cells in self._cells:
            B = blocks.diagonal[cells.i] if cells.i == cells.j else blocks.pairs[cells.i, cells.j]
            np.multiply(B[:, cells.a, cells.b], cells.multiplicities, out=cells.own(values))
        return values

    def _as_pairs(self, blocks: SymmetricBlocks) -> dict[tuple[int, int], Pairs]:
        return {key: Pairs(*self._levels[key], own) for key, own in blocks.pairs.items()}

    @cached_property
    def _ZtZ_entries(self) -> np.ndarray:
        """Which value stands where in the assembled ``Z'WZ`` (q, q)."""
        numbers = self.blocks(np.arange(len(self._values), dtype=float))
        whole = assemble(self.layout, numbers.diagonal, self._as_pairs(numbers))
        return (whole if isinstance(whole, np.ndarray) else whole.toarray()).astype(np.intp)


@lru_cache(maxsize=64)
def entries(i: int, j: int, s_i: int, s_j: int) -> tuple[np.ndarray, np.ndarray]:
    """Return row and column of each distinct entry of a block of factors i and j."""
    if i == j:
        rows, cols = np.tril_indices(s_i)
        return rows, cols
    rows, cols = np.indices((s_i, s_j))
    return rows.ravel(), cols.ravel()
