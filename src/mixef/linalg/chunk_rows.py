"""The rows of a chunk on scaled columns: ``Z b + X beta``, and sums of products over its rows."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np
from scipy import sparse

from mixef.linalg import small
from mixef.linalg.chunk_pairs import PairPlaces
from mixef.linalg.layout import Layout
from mixef.linalg.patterned import Cells, PatternedProducts, entries
from mixef.linalg.sources import Chunk

# Values of ``Z'WZ`` for each row of a chunk from which on its rows tell where they add to them.
FEW = 2


class CellSums:
    """What rows add to the values of ``Z'WZ``; where these are many, with where it belongs.

    Parameters
    ----------
    size : int
        How many values there are.
    values : ndarray (..., v), optional
    places, added : ndarray of int (r,), ndarray (..., r), optional
        In the place of values.
    """

    def __init__(
        self,
        size: int,
        values: np.ndarray | None,
        places: np.ndarray | None = None,
        added: np.ndarray | None = None,
    ):
        self._size, self._values, self._places, self._added = size, values, places, added

    @property
    def values(self) -> np.ndarray:
        """The values (..., v)."""
        if self._values is None:
            assert self._added is not None
            self._values = np.zeros((*self._added.shape[:-1], self._size))
            self._add_to(self._values)
            self._places = self._added = None
        return self._values

    def _add_to(self, total: np.ndarray) -> None:
        if self._places is None or self._added is None:
            total += self.values
            return
        rows = self._added.reshape(-1, self._added.shape[-1])
        for own, added in zip(total.reshape(-1, self._size), rows, strict=True):
            np.add.at(own, self._places, added)

    def __iadd__(self, other: CellSums) -> CellSums:
        """Take in what other rows add."""
        other._add_to(self.values)
        return self


def pattern(
    layout: Layout, places: dict[tuple[int, int], PairPlaces], n: int
) -> PatternedProducts[Cells]:
    """Return ``Z'WZ`` on a pattern that comes without rows."""
    cells: list[Cells] = []
    first, widths = 1, layout.widths
    keys = [(i, i) for i in range(len(layout))] + list(places)
    for i, j in keys:
        count = layout.n_levels[i] if i == j else len(places[i, j])
        cells.append(Cells(i, j, first, count, *entries(i, j, widths[i], widths[j])))
        first = cells[-1].stop
    levels = {key: place.levels for key, place in places.items()}
    return PatternedProducts(layout, n, cells, levels)


@dataclass(frozen=True)
class RowScale:
    """How the rows of chunks come onto scaled columns; it pickles."""

    layout: Layout
    members: tuple[tuple[int, ...], ...]  # the terms of each grouping factor
    z_back: tuple[np.ndarray, ...]  # each (s_i, s_i): from raw columns to scaled ones
    R: np.ndarray  # (p, p): upper triangular, raw columns of X are scaled ones times it
    places: dict[tuple[int, int], PairPlaces]
    cells: tuple[Cells, ...]  # the values of ``Z'WZ``

    def rows(self, chunk: Chunk) -> ChunkRows:
        """Return the rows of a chunk."""
        return ChunkRows(self, chunk)


class ChunkRows:
    """The rows of a chunk on scaled columns.

    Attributes
    ----------
    X : ndarray (m, p)
    z : list of ndarray (s_i, m)
        One a grouping factor.
    codes : list of ndarray of int (m,)
    """

    def __init__(self, scale: RowScale, chunk: Chunk):
        self.scale, self.layout = scale, scale.layout
        self.m, self.offset = len(chunk.y), chunk.offset
        self.X = scaled_columns(chunk.X, scale.R)
        self.codes = [np.asarray(codes, dtype=np.intp) for codes in chunk.codes]
        self.z = [
            _scaled([chunk.z[t] for t in members], back)
            for members, back in zip(scale.members, scale.z_back, strict=True)
        ]

    def eta(self, b: np.ndarray, beta: np.ndarray) -> np.ndarray:
        """Return ``X beta + offset + Z b`` (m,)."""
        eta = self.Z(b)
        if len(beta):
            eta += self.X @ beta
        if self.offset is not None:
            eta += self.offset
        return eta

    def Z(self, b: np.ndarray) -> np.ndarray:
        """Return ``Z b``, (m,) or (m, k), for b (q,) or (q, k)."""
        out = np.zeros((self.m, *b.shape[1:]))
        for i, (codes, z) in enumerate(zip(self.codes, self.z, strict=True)):
            by_level = self.layout.by_level(i, b)
            for a, column in enumerate(z):
                part = by_level[:, a].take(codes, axis=0)
                part *= column if b.ndim == 1 else column[:, None]
                out += part
        return out

    def Zt(self, v: np.ndarray) -> np.ndarray:
        """Return ``Z'v``, (q,) or (q, k), for v (m,) or (m, k)."""
        if v.ndim > 1:
            return np.concatenate([self._Zt(i, v) for i in range(len(self.codes))])
        out = np.empty(self.layout.q)
        for i, (codes, z) in enumerate(zip(self.codes, self.z, strict=True)):
            own = self.layout.by_level(i, out)
            for a, column in enumerate(z):
                own[:, a] = np.bincount(codes, column * v, minlength=len(own))
        return out

    def _Zt(self, i: int, v: np.ndarray) -> np.ndarray:
        """Return the product (l_i s_i, k) of one grouping factor."""
        s, n_levels = len(self.z[i]), self.layout.n_levels[i]
        index = (self.codes[i][:, None] * s + np.arange(s)).ravel()
        start = np.arange(0, self.m * s + 1, s)
        Z = sparse.csr_array((self.z[i].T.ravel(), index, start), shape=(self.m, n_levels * s))
        product: np.ndarray = Z.T @ np.ascontiguousarray(v)
        return product

    def products(self, w: np.ndarray) -> CellSums:
        """Return the values (v,) of ``Z'WZ`` at weights w (m,); (K, v) for w (K, m)."""
        size = self.scale.cells[-1].stop
        if size > FEW * self.m:
            parts = [(cells.first + len(cells.a) * place + k, column)
                     for cells, place, k, column in self._columns(w)]  # fmt: skip
            index, values = zip(*parts, strict=True)
            return CellSums(size, None, np.concatenate(index), np.concatenate(values, axis=-1))
        out = np.zeros((*w.shape[:-1], size))
        for cells, place, k, column in self._columns(w):
            for own, values in zip(out.reshape(-1, size), column.reshape(-1, self.m), strict=True):
                cells.own(own)[:, k] = np.bincount(place, values, minlength=cells.count)
        return CellSums(size, out)

    def _columns(self, w: np.ndarray) -> Iterator[tuple[Cells, np.ndarray, int, np.ndarray]]:
        """Yield what every row (..., m) adds to value number k of the block (m,) of its own."""
        for cells in self.scale.cells:
            place = self._place(cells.i, cells.j)
            before, weighted = -1, w
            for k, (a, b) in enumerate(zip(cells.a.tolist(), cells.b.tolist(), strict=True)):
                if a != before:
                    before, weighted = a, w * self.z[cells.i][a]
                yield cells, place, k, weighted * self.z[cells.j][b]

    def forms(self, values: np.ndarray) -> np.ndarray:
        """Return ``z_r'B z_r`` (m,) for the values of `PatternedProducts.multiplied` of B."""
        total = np.zeros(self.m)
        for cells in self.scale.cells:
            place, own = self._place(cells.i, cells.j), cells.own(values)
            for k, (a, b) in enumerate(zip(cells.a.tolist(), cells.b.tolist(), strict=True)):
                part = own[:, k].take(place)
                part *= self.z[cells.i][a]
                part *= self.z[cells.j][b]
                total += part
        return total

    def _place(self, i: int, j: int) -> np.ndarray:
        """Return the block (m,) that every row adds to."""
        return self.codes[i] if i == j else self._pair_places[i, j]

    @cached_property
    def _pair_places(self) -> dict[tuple[int, int], np.ndarray]:
        codes = self.codes
        return {(i, j): f(codes[i], codes[j]) for (i, j), f in self.scale.places.items()}


def scaled_columns(X: np.ndarray, R: np.ndarray) -> np.ndarray:
    """Return the columns ``X R^-1`` (m, p)."""
    # one column after another in memory, as sums of single columns want them
    return np.asarray(small.inverse_upper(R).T @ X.T).T if X.size else np.zeros(X.shape)


def _scaled(raw: Sequence[np.ndarray], back: np.ndarray) -> np.ndarray:
    """Return the scaled columns (s, m) of one grouping factor."""
    if len(back) == 1:
        return np.asarray(raw[0].T * back[0, 0])
    if len(raw) == 1:
        return np.asarray(back.T @ raw[0].T)
    return np.asarray(back.T @ np.concatenate([z.T for z in raw]))


def weighted_gram(X: np.ndarray, weights: np.ndarray) -> np.ndarray:
    """Return ``X'WX`` (p, p)."""
    product: np.ndarray = (X * weights[:, None]).T @ X
    return product
