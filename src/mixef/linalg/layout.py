"""How the random effects are laid out, by levels and columns; and sums of rows over levels."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from itertools import accumulate

import numpy as np


@dataclass(frozen=True)
class Layout:
    """The q random effects as consecutive blocks, one a grouping factor.

    Inside a block the effects run level by level, and column by column inside a level, so
    ``Lambda = blockdiag(I (x) lam_i)`` acts on a block as one small matrix on every level.
    """

    #: `n_levels`, `widths`: levels ``l_i`` and columns ``s_i`` of each block.
    n_levels: tuple[int, ...]
    widths: tuple[int, ...]
    names: tuple[str, ...] = ()  # the terms of each block, for messages; empty where nobody asks

    @cached_property
    def offsets(self) -> tuple[int, ...]:
        """Where each block starts, and q behind the last."""
        sizes = [n * s for n, s in zip(self.n_levels, self.widths, strict=True)]
        return (0, *accumulate(sizes))

    @cached_property
    def slices(self) -> tuple[slice, ...]:
        """Rows of each block."""
        return tuple(map(slice, self.offsets, self.offsets[1:]))

    @cached_property
    def q(self) -> int:
        """Number of random effects."""
        return self.offsets[-1]

    def __len__(self) -> int:
        return len(self.n_levels)

    def slice(self, i: int) -> slice:
        """Rows of block i."""
        return self.slices[i]

    def by_level(self, i: int, v: np.ndarray) -> np.ndarray:
        """View the rows of block i of ``v`` (q,) or (q, k) as (l_i, s_i) or (l_i, s_i, k)."""
        return v[self.slices[i]].reshape(self.n_levels[i], self.widths[i], *v.shape[1:])

    def multiply(
        self, lams: Sequence[np.ndarray], v: np.ndarray, transpose: bool = False
    ) -> np.ndarray:
        """Multiply ``v`` (q,) or (q, k) by Lambda, or by its transpose; in C order.

        Parameters
        ----------
        lams : sequence of ndarray (s_i, s_i)
            One template a block.
        """
        parts = []
        for i, lam in enumerate(lams):
            rows = v[self.slices[i]]
            if self.widths[i] == 1:
                parts.append(np.multiply(rows, lam[0, 0], order="C"))
                continue
            small, block = lam.T if transpose else lam, self.by_level(i, v)
            product = block @ small.T if v.ndim == 1 else small @ block
            parts.append(product.reshape(rows.shape))
        return parts[0] if len(parts) == 1 else np.concatenate(parts)

    def same_effects(
        self, old: Sequence[np.ndarray], u: np.ndarray, new: Sequence[np.ndarray]
    ) -> np.ndarray:
        """Return the spherical effects (q,) that are by new templates what u is by old ones."""
        return self.multiply([np.linalg.pinv(lam) for lam in new], self.multiply(old, u))


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

    def pieces(self, most: int) -> Iterator[tuple[int, slice | np.ndarray]]:
        """Yield every level with rows of it, at most so many at a time."""
        stop = 0
        for level, count in enumerate(self._counts.tolist()):
            start, stop = stop, stop + count
            for first in range(start, stop, most):
                rows = slice(first, min(first + most, stop))
                yield level, rows if self._order is None else self._order[rows]

    def rows(self, values: np.ndarray) -> np.ndarray:
        """Give every row its level's value: (..., n) for values (..., n_levels)."""
        if self._order is None:
            return values.repeat(self._counts, axis=-1)
        return values.take(self.codes, axis=-1)
