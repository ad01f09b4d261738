"""Sums of products of rows over the levels of a factor."""

from __future__ import annotations

import numpy as np

from mixef.linalg.rows import GroupDesign, rows_by_level

# With so many rows a level at a time, one sparse product is faster than a count of each column.
MANY_ROWS = 4


class LevelSums:
    """Sums ``Z_i'[Z_i C]`` over the levels of a factor, of rows that come some at a time.

    Parameters
    ----------
    n_levels, s, k : int
        Levels, and columns of Z_i and of C.
    """

    def __init__(self, n_levels: int, s: int, k: int):
        self._shape = n_levels, s, s + k
        #: (l, s, s + k), or (s, s + k, l) for sums that are taken column by column.
        self._table = np.zeros(0)
        self._by_column = False

    def add(self, g: GroupDesign, columns: np.ndarray) -> None:
        """Add rows: those of the factor, and C (n, k)."""
        n_levels, s, width = self._shape
        if not self._table.size:
            self._by_column = len(columns) < MANY_ROWS * n_levels
            self._table = np.zeros((s, width, n_levels) if self._by_column else self._shape)
        if self._by_column:
            self._count(g, [*g.z.T, *columns.T])
            return
        both = np.empty((len(columns), width))
        both[:, :s], both[:, s:] = g.z, columns
        self._table += rows_by_level(g, both).reshape(self._shape)

    def _count(self, g: GroupDesign, columns: list[np.ndarray]) -> None:
        n_levels, s, _ = self._shape
        codes = g.codes.astype(np.intp)
        own: np.ndarray | slice = slice(None)
        if n_levels > len(codes):  # some levels have no row here: sums over those that have
            seen = np.zeros(n_levels, dtype=bool)
            seen[codes] = True
            own = used = np.flatnonzero(seen)
            place = np.empty(n_levels, dtype=np.intp)
            place[used] = np.arange(len(used))
            codes, n_levels = place[codes], len(used)
        for a in range(s):
            for j in range(a, len(columns)):
                product = columns[a] * columns[j]
                self._table[a, j, own] += np.bincount(codes, product, n_levels)

    def total(self) -> np.ndarray:
        """Return the sums (l, s, s + k)."""
        if not self._by_column:
            return self._table
        for a in range(self._shape[1]):
            self._table[a, :a] = self._table[:a, a]
        return self._table.transpose(2, 0, 1)
