"""Pairs of levels of two factors that occur together, and sums of rows over them."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from scipy import sparse

# Products are formed for so many rows at a time.
ROWS = 50_000
# A table of all pairs of levels has at most so many numbers a row of the data.
TABLE = 1.0


@dataclass(frozen=True)
class PairOrder:
    """The rows of the data in the order of their pairs of levels."""

    #: `rows`, `cols`: int (m,); levels of either factor, sorted by row, then column.
    rows: np.ndarray
    cols: np.ndarray
    starts: np.ndarray  # int (m,): where the rows of each pair start in `order`
    order: np.ndarray  # int (n,): positions of rows, pair by pair

    @classmethod
    def of(cls, rows: np.ndarray, cols: np.ndarray, n_levels: tuple[int, int]) -> PairOrder:
        """Return the order for the codes (n,) of both factors.

        It sorts by counting, by the second factor and then by the first.
        """
        by_col = _sorted(rows.astype(np.int32, copy=False), cols, n_levels[1])
        # What travels with the second sort is a row's position and its level.
        level = np.repeat(np.arange(n_levels[1]), np.diff(by_col.indptr)) << 32
        by_row = _sorted(level | by_col.indices, by_col.data, n_levels[0])
        del by_col, level
        order, cols = by_row.data.astype(np.uint32), (by_row.data >> 32).astype(np.int32)
        ends = by_row.indptr
        del by_row
        is_first = np.empty(len(cols), dtype=bool)
        np.not_equal(cols[1:], cols[:-1], out=is_first[1:])
        is_first[ends[:-1][np.diff(ends) > 0]] = True
        starts = np.flatnonzero(is_first)
        counts = np.diff(np.searchsorted(starts, ends))
        return cls(np.repeat(np.arange(n_levels[0]), counts), cols[starts], starts, order)

    def sums(self, columns: Callable[[np.ndarray], tuple[np.ndarray, np.ndarray]]) -> np.ndarray:
        """Return the sums (m, s_i, s_j) of the products of columns over every pair.

        Parameters
        ----------
        columns : callable
            Takes positions of rows, and returns the columns (k, s_i), (k, s_j) of either factor.
        """
        n, out = len(self.order), np.empty(0)
        for start in range(0, n, ROWS):
            end = min(start + ROWS, n)
            first = np.searchsorted(self.starts, start, "right") - 1
            last = np.searchsorted(self.starts, end)
            zi, zj = columns(self.order[start:end])
            products = zi[:, :, None] * zj[:, None, :]
            sums = np.add.reduceat(products, np.maximum(self.starts[first:last] - start, 0))
            if not start:
                out = np.zeros((len(self.rows), *sums.shape[1:]))
            out[first:last] += sums
        return out


def is_sorted(rows: np.ndarray, cols: np.ndarray) -> bool:
    """Tell whether pairs of levels (m,) ascend by the first, then by the second."""
    step = np.diff(rows)
    return bool(((step > 0) | ((step == 0) & (np.diff(cols) > 0))).all())


class PairSums:
    """Sums over pairs of levels of rows that come some at a time.

    Parameters
    ----------
    n_levels, widths : tuple of int
        Levels and columns of both factors.
    n : int
        How many rows will come.
    """

    def __init__(self, n_levels: tuple[int, int], widths: tuple[int, int], n: int):
        self._n_levels, self._widths = n_levels, widths
        cells, width = n_levels[0] * n_levels[1], widths[0] * widths[1]
        self._seen = np.zeros(cells, dtype=bool) if cells * width <= TABLE * n else None
        self._table = np.zeros((width, cells if self._seen is not None else 0))
        self._keys: list[np.ndarray] = []  # of pairs, each array sorted and without doubles
        self._sums: list[np.ndarray] = []  # each (width, k), for the keys

    def add(self, rows: np.ndarray, cols: np.ndarray, zi: np.ndarray, zj: np.ndarray) -> None:
        """Add rows with levels (k,) and columns (k, s_i), (k, s_j)."""
        key = rows.astype(np.int64) * self._n_levels[1] + cols
        products = [a * b for a in zi.T for b in zj.T]
        if self._seen is not None:
            self._seen[key] = True
            for total, values in zip(self._table, products, strict=True):
                np.add.at(total, key, values)
            return
        self._keys.append(key)
        self._sums.append(np.array(products))
        if sum(map(len, self._keys[1:])) > max(len(self._keys[0]), 20 * ROWS):
            self._merge()

    def total(self) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Return the levels (m,), (m,) of the pairs that occurred, in order, and their sums."""
        if self._seen is not None:
            key = np.flatnonzero(self._seen)
            sums = self._table[:, key]
        else:
            self._merge()
            key, sums = self._keys[0], self._sums[0]
        rows, cols = np.divmod(key, self._n_levels[1])
        return rows, cols, np.ascontiguousarray(sums.T).reshape(-1, *self._widths)

    def _merge(self) -> None:
        key, values = np.concatenate(self._keys), np.concatenate(self._sums, axis=1)
        order = np.argsort(key, kind="stable")
        key = key[order]
        first = np.flatnonzero(np.diff(key, prepend=-1))
        sums = [np.add.reduceat(column[order], first) for column in values]
        self._keys, self._sums = [key[first]], [np.array(sums)]


def _sorted(payload: np.ndarray, codes: np.ndarray, n_levels: int) -> sparse.csr_array:
    """Sort a payload (n,) stably by codes: by rows of a matrix with an entry a column."""
    n = len(codes)
    kind = np.int32 if n < 2**31 else np.int64
    index = codes.astype(kind, copy=False), np.arange(n + 1, dtype=kind)
    return sparse.csc_array((payload, *index), shape=(n_levels, n)).tocsr()
