"""Cross-products ``Z'WZ`` that follow new weights, as PIRLS needs them.

Every entry of ``Z'WZ`` is linear in the weights: ``vec(Z'WZ) = A'w``, where row r of A holds the
products ``z_ra z_rb`` of the few non-zeros of ``z_r``. A is sparse and formed once. The same A
gives the quadratic forms ``z_r'B z_r`` of a symmetric B, as ``A (multiplicities * vec(B))``.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
from scipy import sparse

from mixef.linalg.crossproducts import (
    CrossProducts,
    GroupDesign,
    Pairs,
    SymmetricBlocks,
    assemble,
    match_levels,
)
from mixef.linalg.layout import Layout

# Entries of A (12 bytes each) that are kept. A larger A is formed anew at each use, so many of
# its entries at a time.
HELD = 50_000_000
# Cells of a matrix up to which a dense product is faster than a sparse one.
SMALL = 30_000


@dataclass(frozen=True)
class _Cells:
    """The distinct entries of the blocks (i, j) of ``Z'WZ``, among the values of all blocks.

    Attributes
    ----------
    i, j : int
        Grouping factors; equal for diagonal blocks, of which the lower triangle is kept.
    first, count : int
        Where the values start, and the number of blocks.
    place : ndarray of int (n,)
        The block that a row of the data adds to.
    a, b : ndarray of int (c,)
        Row and column inside a block of each of its c values.
    """

    i: int
    j: int
    first: int
    count: int
    place: np.ndarray
    a: np.ndarray
    b: np.ndarray

    @property
    def stop(self) -> int:
        """Where the values end."""
        return self.first + self.count * len(self.a)

    @property
    def multiplicities(self) -> np.ndarray:
        """How often each value of a block (c,) occurs in the whole symmetric matrix."""
        return np.where((self.i == self.j) & (self.a == self.b), 1.0, 2.0)

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
        own = values[self.first : self.stop].reshape(self.count, -1)
        return np.take(own, entry, axis=1, out=out, mode="clip")


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
    products : CrossProducts
        What a factor is made from. `reweight` overwrites its blocks in place, and its ``ZtZ`` as
        well once that was asked for. The weights are one at first; what belongs to X and y is
        empty.

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
        self.layout = Layout(tuple(g.n_levels for g in groups), tuple(g.z.shape[1] for g in groups))
        self._z = [np.asarray(g.z, dtype=float) for g in groups]
        self._Z = _rows_of_Z(groups, self.layout)
        if self.n * self.layout.q <= SMALL:
            self._Z = self._Z.toarray()
        self._Zt = self._Z.T
        self._cells, levels = _number(groups)
        # A zero in front stands for all that is not on the pattern.
        self._values = np.zeros(self._cells[-1].stop)
        diagonal, pairs = self._blocks(self._values)
        self.products = CrossProducts(
            self.layout,
            tuple(diagonal),
            {key: Pairs(*levels[key], blocks) for key, blocks in pairs.items()},
            np.empty((self.layout.q, 0)),
            np.zeros(self.layout.q),
            np.empty((0, 0)),
            np.empty(0),
            0.0,
            self.n,
        )
        self._ZtZ_entries: np.ndarray | None = None
        self._per_row = sum(len(cells.a) for cells in self._cells)
        self._held = list(self._formed()) if self.n * self._per_row <= HELD else None
        self.reweight(np.ones(self.n))

    def reweight(self, w: np.ndarray) -> None:
        """Overwrite ``products`` with ``Z'WZ`` at weights w (n,), of any sign."""
        if self._held is not None:
            [(_, _, At)] = self._held
            self._values[1:] = At @ w
        else:
            self._values[1:] = 0.0
            for rows, _, At in self._formed():
                self._values[1:] += At @ w[rows]
        for cells, blocks in zip(self._cells, self.products.diagonal, strict=False):
            if blocks.shape[1] > 1:
                cells.mirror(self._values, blocks)
        if "ZtZ" in self.products.__dict__:  # the cached property was asked for
            self._refresh_ZtZ()

    def Zt(self, v: np.ndarray) -> np.ndarray:
        """Return ``Z'v``, (q,) or (q, k), for v (n,) or (n, k)."""
        return self._Zt @ v

    def Z(self, b: np.ndarray) -> np.ndarray:
        """Return ``Z b``, (n,) or (n, k), for b (q,) or (q, k)."""
        return self._Z @ b

    def row_forms(self, blocks: SymmetricBlocks) -> np.ndarray:
        """Return ``z_r'B z_r`` (n,) for every row r of Z.

        Parameters
        ----------
        blocks : SymmetricBlocks
            Those of a symmetric matrix B on the pattern of ``products``, such as
            `Factor.inverse_pairs` returns them; other entries of B meet only zeros.
        """
        values = np.empty(len(self._values) - 1)
        for cells in self._cells:
            B = blocks.diagonal[cells.i] if cells.i == cells.j else blocks.pairs[cells.i, cells.j]
            own = values[cells.first - 1 : cells.stop - 1].reshape(cells.count, -1)
            flat = B.reshape(cells.count, -1)
            if flat.shape[1] > own.shape[1]:
                flat = np.take(flat, cells.a * B.shape[2] + cells.b, axis=1)
            np.multiply(flat, cells.multiplicities, out=own)
        parts = [A @ values for _, A, _ in self._held or self._formed()]
        return parts[0] if len(parts) == 1 else np.concatenate(parts)

    def _blocks(self, values: np.ndarray) -> SymmetricBlocks:
        """Return the blocks of a matrix with these values."""
        k = len(self.layout)
        return SymmetricBlocks(
            [cells.blocks(values) for cells in self._cells[:k]],
            {(cells.i, cells.j): cells.blocks(values) for cells in self._cells[k:]},
        )

    def _refresh_ZtZ(self) -> None:
        """Overwrite the assembled ``Z'WZ``."""
        ZtZ = self.products.ZtZ
        stored = ZtZ.reshape(-1) if isinstance(ZtZ, np.ndarray) else ZtZ.data
        if self._ZtZ_entries is None:
            # Assembled from the numbers of the values, it tells which value goes where.
            numbers = self._blocks(np.arange(len(self._values), dtype=float))
            levels = self.products.pairs
            pairs = {
                key: Pairs(levels[key].rows, levels[key].cols, blocks)
                for key, blocks in numbers.pairs.items()
            }
            entries = assemble(self.layout, numbers.diagonal, pairs)
            flat = entries.reshape(-1) if isinstance(entries, np.ndarray) else entries.data
            self._ZtZ_entries = flat.astype(np.intp)
        np.take(self._values, self._ZtZ_entries, out=stored, mode="clip")

    def _formed(self) -> Iterator[tuple[slice, sparse.csr_array, sparse.csc_array]]:
        """Form A, some rows at a time: which rows, A, and its transpose."""
        step = max(HELD // self._per_row, 1)
        for start in range(0, self.n, step):
            rows = slice(start, min(start + step, self.n))
            shape = rows.stop - rows.start, self._per_row
            data = np.empty(shape)
            index = np.empty(shape, dtype=_index_type(len(self._values), data.size))
            column = 0
            for cells in self._cells:
                c = len(cells.a)
                own = slice(column, column + c)
                zi, zj = self._z[cells.i][rows], self._z[cells.j][rows]
                np.multiply(zi[:, cells.a], zj[:, cells.b], out=data[:, own])
                index[:, own] = (cells.first - 1 + cells.place[rows] * c)[:, None] + np.arange(c)
                column += c
            A = _equal_rows(data, index, len(self._values) - 1)
            if np.prod(A.shape) <= SMALL:
                A = A.toarray()
            yield rows, A, A.T


def _number(
    groups: Sequence[GroupDesign],
) -> tuple[list[_Cells], dict[tuple[int, int], tuple[np.ndarray, np.ndarray]]]:
    """Lay out the values of ``Z'WZ``, diagonal blocks first; and find the pairs of levels."""
    cells: list[_Cells] = []
    levels = {}
    first = 1
    for i, g in enumerate(groups):
        a, b = np.tril_indices(g.z.shape[1])
        cells.append(_Cells(i, i, first, g.n_levels, g.codes, a, b))
        first = cells[-1].stop
    for i, gi in enumerate(groups):
        for j, gj in enumerate(groups[i + 1 :], start=i + 1):
            rows, cols, place = match_levels(gi, gj)
            levels[i, j] = rows, cols
            a, b = (index.ravel() for index in np.indices((gi.z.shape[1], gj.z.shape[1])))
            cells.append(_Cells(i, j, first, len(rows), place, a, b))
            first = cells[-1].stop
    return cells, levels


def _rows_of_Z(groups: Sequence[GroupDesign], layout: Layout) -> sparse.csr_array:
    index = [
        layout.offsets[i] + (g.codes * g.z.shape[1])[:, None] + np.arange(g.z.shape[1])
        for i, g in enumerate(groups)
    ]
    data = np.hstack([g.z for g in groups]).astype(float)
    small = np.hstack(index).astype(_index_type(layout.q, data.size))
    return _equal_rows(data, small, layout.q)


def _equal_rows(data: np.ndarray, index: np.ndarray, width: int) -> sparse.csr_array:
    """Return the sparse matrix (n, width) whose rows have k entries each, from (n, k) arrays."""
    n, k = data.shape
    start = np.arange(0, n * k + 1, k, dtype=index.dtype)
    return sparse.csr_array((data.ravel(), index.ravel(), start), shape=(n, width))


def _index_type(*sizes: int) -> np.dtype:
    """Return the smallest type that indexes arrays of these sizes."""
    return np.dtype(np.int32 if max(sizes) < 2**31 else np.int64)
