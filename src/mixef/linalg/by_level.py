"""Sums of rows over the levels of a factor, and values of levels back on the rows.

Rows that come level by level are summed where they stand, which is what data mostly are; others
are gathered first. Both are several times faster than counting or a sparse product.
"""

from __future__ import annotations

import numpy as np


class ByLevel:
    """Which level each row belongs to.

    Parameters
    ----------
    codes : ndarray of int (n,)
    n_levels : int

    Examples
    --------
    >>> levels = ByLevel(np.array([1, 0, 1]), 2)
    >>> levels.sums(np.array([1.0, 2.0, 4.0]))
    array([2., 5.])
    >>> levels.rows(np.array([10.0, 20.0]))
    array([20., 10., 20.])
    """

    def __init__(self, codes: np.ndarray, n_levels: int):
        self.codes = np.asarray(codes, dtype=np.intp)
        self.n_levels = n_levels
        in_order = bool((self.codes[1:] >= self.codes[:-1]).all())
        self._order = None if in_order else np.argsort(self.codes, kind="stable")
        self._counts = np.bincount(self.codes, minlength=n_levels)
        occupied = np.flatnonzero(self._counts)
        self._occupied = None if len(occupied) == n_levels else occupied
        self._starts = (np.cumsum(self._counts) - self._counts)[occupied]

    def sums(self, v: np.ndarray, axis: int = -1) -> np.ndarray:
        """Sum the rows of every level: n_levels entries along an axis with n of them."""
        if self._order is not None:
            v = v.take(self._order, axis)
        if self._occupied is None:
            return np.add.reduceat(v, self._starts, axis)
        shape = list(v.shape)
        shape[axis] = self.n_levels
        out = np.zeros(shape)
        if len(self._occupied):
            occupied = np.add.reduceat(v, self._starts, axis)
            np.moveaxis(out, axis, 0)[self._occupied] = np.moveaxis(occupied, axis, 0)
        return out

    def rows(self, values: np.ndarray) -> np.ndarray:
        """Give every row its level's value: (..., n) for values (..., n_levels)."""
        if self._order is None:
            return values.repeat(self._counts, axis=-1)
        return values.take(self.codes, axis=-1)
