"""Cross-products ``Z'WZ`` that follow new weights, as PIRLS needs them.

Every entry of ``Z'WZ`` is linear in the weights: ``vec(Z'WZ) = A'w``, where row r of A holds the
products ``z_ra z_rb`` of the few non-zeros of ``z_r``. The same A gives the quadratic forms
``z_r'B z_r`` of a symmetric B, as ``A (multiplicities * vec(B))``. Small models hold A as a dense
matrix. Larger ones never form it: they sum its non-zeros into their places, column by column.
"""

from __future__ import annotations

import copy
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property, lru_cache
from typing import Self

import numpy as np
from scipy import sparse

from mixef.linalg.crossproducts import (
    SMALL_Q,
    CrossProducts,
    Pairs,
    SymmetricBlocks,
    assemble,
    match_levels,
)
from mixef.linalg.layout import ByLevel, Layout
from mixef.linalg.rows import GroupDesign, layout_of

# Cells of a matrix up to which a dense product is faster than sums by level.
SMALL = 30_000


@dataclass(frozen=True)
class _Cells:
    """The distinct entries of the blocks (i, j) of ``Z'WZ``, among the values of all blocks."""

    #: `i`, `j`: grouping factors; equal for diagonal blocks, of which the lower triangle is kept.
    i: int
    j: int
    #: `first`, `count`: where the values start, and the number of blocks.
    first: int
    count: int
    place: ByLevel  # the block that a row of the data adds to
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


class ReweightedProducts:
    """The blocks of ``Z'WZ`` at weights that change, on a pattern that stays.

    Parameters
    ----------
    groups : sequence of GroupDesign
        Grouping factors, in the order of the layout; their columns are not weighted.

    Attributes
    ----------
    layout : Layout
    n : int
        Rows of the data.
    levels : ByLevel
        The level of the first grouping factor that each row belongs to.
    products : CrossProducts
        What a factor is made from. `reweight` overwrites its blocks in place, and ``assembled``
        where that is small. The weights are one at first; what belongs to X and y is empty.

    Examples
    --------
    >>> codes = np.array([0, 0, 1])
    >>> reweighted = ReweightedProducts([GroupDesign(codes, 2, np.ones((3, 1)))])
    >>> reweighted.reweight(np.array([1.0, 2.0, 5.0]))
    >>> reweighted.products.diagonal[0].ravel()
    array([3., 5.])
    >>> reweighted.Z(np.array([10.0, 20.0]))
    array([10., 10., 20.])
    """

    def __init__(self, groups: Sequence[GroupDesign]):
        self.n = len(groups[0].codes)
        self.layout = layout_of(groups)
        self._groups = groups
        self._z = [[np.ascontiguousarray(z, dtype=float) for z in g.z.T] for g in groups]
        self._rows = [self.layout.slice(i) for i in range(len(groups))]
        self._cells, levels = _number(groups)
        self._pairs = levels
        self.levels = self._cells[0].place
        self._small_Z = self.n * self.layout.q <= SMALL
        self._take_room()
        self._A = self._dense_A() if self.n * len(self._values) <= SMALL else None
        self.reweight(np.ones(self.n))

    def twin(self) -> Self:
        """Return products of their own, without weights yet, on the same pattern."""
        new = copy.copy(self)
        new._take_room()
        return new

    def _take_room(self) -> None:
        # A zero in front stands for all that is not on the pattern.
        self._values = np.zeros(self._cells[-1].stop)
        diagonal, pairs = self._blocks(self._values)
        q = self.layout.q
        self.products = CrossProducts(
            self.layout,
            tuple(diagonal),
            {key: Pairs(*self._pairs[key], blocks) for key, blocks in pairs.items()},
            np.empty((q, 0)),
            np.zeros(q),
            np.empty((0, 0)),
            np.empty(0),
            0.0,
            self.n,
            np.zeros((q, q)) if q <= SMALL_Q and pairs else None,
        )

    @cached_property
    def _Z(self) -> np.ndarray | sparse.csr_array:
        """Z (n, q): dense for a small model."""
        data, index = _entries_of_Z(self._groups, self.layout)
        if self._small_Z:
            Z = np.zeros((self.n, self.layout.q))
            Z[np.arange(self.n)[:, None], index] = data
            return Z
        k = data.shape[1]
        small = np.dtype(np.int32 if max(self.layout.q, data.size) < 2**31 else np.int64)
        start = np.arange(0, self.n * k + 1, k, dtype=small)
        return sparse.csr_array(
            (data.ravel(), index.astype(small).ravel(), start), shape=(self.n, self.layout.q)
        )

    def reweight(self, w: np.ndarray) -> None:
        """Overwrite ``products`` with ``Z'WZ`` at weights w (n,), of any sign."""
        if self._A is not None:
            np.dot(w, self._A, out=self._values[1:])
        else:
            for cells, own, a, b in self._columns(self._values):
                product = self._z[cells.i][a] * self._z[cells.j][b]
                product *= w
                own[:] = cells.place.sums(product)
        for cells, blocks in zip(self._cells, self.products.diagonal, strict=False):
            if blocks.shape[1] > 1:
                cells.mirror(self._values, blocks)
        if self.products.assembled is not None:
            np.take(self._values, self._ZtZ_entries, out=self.products.assembled, mode="clip")

    def Zt(self, v: np.ndarray) -> np.ndarray:
        """Return ``Z'v``, (q,) or (q, k), for v (n,) or (n, k)."""
        if v.ndim > 1 or self._small_Z:
            product: np.ndarray = self._Z.T @ v
            return product
        out = np.empty(self.layout.q)
        for rows, cells, columns in zip(self._rows, self._cells, self._z, strict=False):
            own, s = out[rows], len(columns)
            for a, z in enumerate(columns):
                own[a::s] = cells.place.sums(z * v)
        return out

    def Z(self, b: np.ndarray) -> np.ndarray:
        """Return ``Z b``, (n,) or (n, k), for b (q,) or (q, k)."""
        if b.ndim > 1 or self._small_Z:
            product: np.ndarray = self._Z @ b
            return product
        total: np.ndarray | None = None
        for rows, cells, columns in zip(self._rows, self._cells, self._z, strict=False):
            own, s = b[rows], len(columns)
            for a, z in enumerate(columns):
                part = cells.place.rows(own[a::s])
                part *= z
                total = part if total is None else np.add(total, part, out=total)
        assert total is not None
        return total

    def row_forms(self, blocks: SymmetricBlocks) -> np.ndarray:
        """Return ``z_r'B z_r`` (n,) for every row r of Z.

        Parameters
        ----------
        blocks : SymmetricBlocks
            Those of a symmetric matrix B on the pattern of ``products``, such as
            `Factor.inverse_pairs` returns them; other entries of B meet only zeros.
        """
        values = np.empty(len(self._values))
        for cells in self._cells:
            B = blocks.diagonal[cells.i] if cells.i == cells.j else blocks.pairs[cells.i, cells.j]
            np.multiply(B[:, cells.a, cells.b], cells.multiplicities, out=cells.own(values))
        if self._A is not None:
            return self._A @ values[1:]
        total = np.zeros(self.n)
        for cells, own, a, b in self._columns(values):
            product = cells.place.rows(own)
            product *= self._z[cells.i][a]
            product *= self._z[cells.j][b]
            total += product
        return total

    def _columns(self, values: np.ndarray) -> Iterator[tuple[_Cells, np.ndarray, int, int]]:
        """Yield the entry (a, b) of all blocks of a pair of factors (count,), a view of values."""
        for cells in self._cells:
            for own, a, b in zip(cells.own(values).T, cells.a, cells.b, strict=True):
                yield cells, own, a, b

    def _dense_A(self) -> np.ndarray:
        """Return A (n, number of values)."""
        A, row = np.zeros((self.n, len(self._values) - 1)), np.arange(self.n)
        for cells, number, a, b in self._columns(np.arange(-1, len(self._values) - 1)):
            A[row, cells.place.rows(number)] = self._z[cells.i][a] * self._z[cells.j][b]
        return A

    def _blocks(self, values: np.ndarray) -> SymmetricBlocks:
        """Return the blocks of a matrix with these values."""
        k = len(self.layout)
        return SymmetricBlocks(
            [cells.blocks(values) for cells in self._cells[:k]],
            {(cells.i, cells.j): cells.blocks(values) for cells in self._cells[k:]},
        )

    @cached_property
    def _ZtZ_entries(self) -> np.ndarray:
        """Which value stands where in the assembled ``Z'WZ`` (q, q)."""
        numbers = self._blocks(np.arange(len(self._values), dtype=float))
        pairs = {key: Pairs(*self._pairs[key], blocks) for key, blocks in numbers.pairs.items()}
        whole = assemble(self.layout, numbers.diagonal, pairs)
        return (whole if isinstance(whole, np.ndarray) else whole.toarray()).astype(np.intp)


@lru_cache(maxsize=64)
def _tril_indices(size: int) -> tuple[np.ndarray, ...]:
    return np.tril_indices(size)


def _number(
    groups: Sequence[GroupDesign],
) -> tuple[list[_Cells], dict[tuple[int, int], tuple[np.ndarray, np.ndarray]]]:
    """Lay out the values of ``Z'WZ``, diagonal blocks first; and find the pairs of levels."""
    cells: list[_Cells] = []
    levels = {}
    first = 1
    for i, g in enumerate(groups):
        a, b = _tril_indices(g.z.shape[1])
        cells.append(_Cells(i, i, first, g.n_levels, ByLevel(g.codes, g.n_levels), a, b))
        first = cells[-1].stop
    for i, gi in enumerate(groups):
        for j, gj in enumerate(groups[i + 1 :], start=i + 1):
            rows, cols, place = match_levels(gi, gj)
            levels[i, j] = rows, cols
            a, b = (index.ravel() for index in np.indices((gi.z.shape[1], gj.z.shape[1])))
            cells.append(_Cells(i, j, first, len(rows), ByLevel(place, len(rows)), a, b))
            first = cells[-1].stop
    return cells, levels


def _entries_of_Z(groups: Sequence[GroupDesign], layout: Layout) -> tuple[np.ndarray, np.ndarray]:
    """Return the non-zeros (n, k) of every row of Z, and their columns."""
    index = [
        layout.offsets[i] + (g.codes * g.z.shape[1])[:, None] + np.arange(g.z.shape[1])
        for i, g in enumerate(groups)
    ]
    return np.hstack([g.z for g in groups]).astype(float), np.hstack(index)
