"""Cross-products ``Z'WZ`` that follow new weights, as PIRLS needs them.

Every entry of ``Z'WZ`` is linear in the weights: ``vec(Z'WZ) = A'w``, where row r of A holds the
products ``z_ra z_rb`` of the few non-zeros of ``z_r``. The same A gives the quadratic forms
``z_r'B z_r`` of a symmetric B, as ``A (multiplicities * vec(B))``. Small models hold A as a dense
matrix. Larger ones never form it: they sum its non-zeros into their places, entry by entry of
all blocks, or block by block where there are fewer blocks than entries in each.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np
from scipy import sparse

from mixef.linalg.crossproducts import SymmetricBlocks, match_levels
from mixef.linalg.layout import ByLevel, Layout
from mixef.linalg.patterned import Cells, PatternedProducts, entries
from mixef.linalg.rows import GroupDesign, layout_of

# Cells of a matrix up to which a dense product is faster than sums by level, and these are faster
# than a sparse one.
SMALL = 30_000
# Entries of a block up to which they are summed one by one, however few the blocks.
FEW = 100
# Cells of some rows of a block that are multiplied at a time, so that they stay in the cache.
IN_CACHE = 2**15


@dataclass(frozen=True)
class _Cells(Cells):
    """Cells with the rows that add to them."""

    place: ByLevel  # the block that a row of the data adds to

    @cached_property
    def flat(self) -> np.ndarray:
        """Where each value stands in a block (s_i, s_j) that is laid out flat (c,)."""
        flat: np.ndarray = self.a * (self.b[-1] + 1) + self.b
        return flat


class ReweightedProducts(PatternedProducts[_Cells]):
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
    z : ndarray (s, n)
        The columns of that factor.
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
        super().__init__(layout_of(groups), len(groups[0].codes), *_number(groups))
        self._groups = groups
        self._z = [np.ascontiguousarray(g.z.T, dtype=float) for g in groups]
        self.z = self._z[0]
        self._rows = [self.layout.slice(i) for i in range(len(groups))]
        self.levels = self._cells[0].place
        self._small_Z = self.n * self.layout.q <= SMALL
        self._A = self._dense_A() if self.n * len(self._values) <= SMALL else None
        self.reweight(np.ones(self.n))

    @cached_property
    def _by_block(self) -> list[_Cells]:
        """Cells with many entries in each of fewer blocks."""
        return [cells for cells in self._cells if len(cells.a) > max(cells.count, FEW)]

    @cached_property
    def _by_entry(self) -> list[_Cells]:
        """The other ones."""
        return [cells for cells in self._cells if len(cells.a) <= max(cells.count, FEW)]

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
        self._write(w, self._values)
        self._spread()

    def values(self, w: np.ndarray) -> np.ndarray:
        """Return the values (K, v) of ``Z'WZ`` at weights w (K, n)."""
        values = np.zeros((len(w), len(self._values)))
        for own, weights in zip(values, w, strict=True):
            self._write(weights, own)
        return values

    def _write(self, w: np.ndarray, values: np.ndarray) -> None:
        if self._A is not None:
            np.dot(w, self._A, out=values[1:])
            return
        for cells, own, a, b in self._columns(values, self._by_entry):
            product = self._z[cells.i][a] * self._z[cells.j][b]
            product *= w
            own[:] = cells.place.sums(product)
        for cells in self._by_block:
            cells.own(values)[:] = 0.0
        for cells, own, rows, left, right in self._blocks(values):
            own += ((left * w[rows]) @ right.T).take(cells.flat)

    def Zt(self, v: np.ndarray) -> np.ndarray:
        """Return ``Z'v``, (q,) or (q, k), for v (n,) or (n, k)."""
        if self._small_Z or (v.ndim > 1 and v.size > SMALL):
            product: np.ndarray = self._Z.T @ v
            return product
        out = np.empty((self.layout.q, *v.shape[1:]))
        for rows, cells, columns in zip(self._rows, self._cells, self._z, strict=False):
            own, s = out[rows], len(columns)
            for a, z in enumerate(columns):
                own[a::s] = cells.place.sums((z * v.T).T, axis=0)
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
        return self.forms(self.multiplied(blocks))

    def forms(self, values: np.ndarray) -> np.ndarray:
        """Return ``z_r'B z_r`` (n,) for the values of `multiplied` of B."""
        if self._A is not None:
            product: np.ndarray = self._A @ values[1:]
            return product
        total = np.zeros(self.n)
        for cells, own, a, b in self._columns(values, self._by_entry):
            product = cells.place.rows(own)
            product *= self._z[cells.i][a]
            product *= self._z[cells.j][b]
            total += product
        for cells, own, rows, left, right in self._blocks(values):
            block = np.zeros((len(left), len(right)))
            block.ravel()[cells.flat] = own
            total[rows] += np.einsum("ar,ar->r", left, block @ right)
        return total

    def _blocks(
        self, values: np.ndarray
    ) -> Iterator[tuple[_Cells, np.ndarray, slice | np.ndarray, np.ndarray, np.ndarray]]:
        """Yield the blocks (c,), views of values, that are few, with some rows and their columns.

        A block with many rows comes several times.
        """
        for cells in self._by_block:
            zi, zj, blocks = self._z[cells.i], self._z[cells.j], cells.own(values)
            for block, rows in cells.place.pieces(max(IN_CACHE // len(zj), 1)):
                yield cells, blocks[block], rows, zi[:, rows], zj[:, rows]

    def _columns(
        self, values: np.ndarray, of: Sequence[_Cells]
    ) -> Iterator[tuple[_Cells, np.ndarray, int, int]]:
        """Yield the entry (a, b) of all blocks of a pair of factors (count,), a view of values."""
        for cells in of:
            for own, a, b in zip(cells.own(values).T, cells.a, cells.b, strict=True):
                yield cells, own, a, b

    def _dense_A(self) -> np.ndarray:
        """Return A (n, number of values)."""
        A, row = np.zeros((self.n, len(self._values) - 1)), np.arange(self.n)
        numbers = np.arange(-1, len(self._values) - 1)
        for cells, number, a, b in self._columns(numbers, self._cells):
            A[row, cells.place.rows(number)] = self._z[cells.i][a] * self._z[cells.j][b]
        return A


def _number(
    groups: Sequence[GroupDesign],
) -> tuple[list[_Cells], dict[tuple[int, int], tuple[np.ndarray, np.ndarray]]]:
    """Lay out the values of ``Z'WZ``, diagonal blocks first; and find the pairs of levels."""
    cells: list[_Cells] = []
    levels = {}
    first = 1
    for i, g in enumerate(groups):
        s = g.z.shape[1]
        cells.append(_Cells(i, i, first, g.n_levels, *entries(i, i, s, s), g.place))
        first = cells[-1].stop
    for i, gi in enumerate(groups):
        for j, gj in enumerate(groups[i + 1 :], start=i + 1):
            rows, cols, of_row = match_levels(gi, gj)
            levels[i, j] = rows, cols
            a_b = entries(i, j, gi.z.shape[1], gj.z.shape[1])
            cells.append(_Cells(i, j, first, len(rows), *a_b, ByLevel(of_row, len(rows))))
            first = cells[-1].stop
    return cells, levels


def _entries_of_Z(groups: Sequence[GroupDesign], layout: Layout) -> tuple[np.ndarray, np.ndarray]:
    """Return the non-zeros (n, k) of every row of Z, and their columns."""
    index = [
        layout.offsets[i] + (g.codes * g.z.shape[1])[:, None] + np.arange(g.z.shape[1])
        for i, g in enumerate(groups)
    ]
    return np.hstack([g.z for g in groups]).astype(float), np.hstack(index)
