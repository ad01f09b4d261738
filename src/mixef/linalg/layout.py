"""How the random-effects vector is laid out: blocks of levels by columns."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property

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
        return (0, *np.cumsum(sizes, dtype=int).tolist())

    @property
    def q(self) -> int:
        """Number of random effects."""
        return self.offsets[-1]

    def __len__(self) -> int:
        return len(self.n_levels)

    def slice(self, i: int) -> slice:
        """Rows of block i."""
        return slice(self.offsets[i], self.offsets[i + 1])

    def by_level(self, i: int, v: np.ndarray) -> np.ndarray:
        """View the rows of block i of ``v`` (q,) or (q, k) as (l_i, s_i) or (l_i, s_i, k)."""
        return v[self.slice(i)].reshape(self.n_levels[i], self.widths[i], *v.shape[1:])

    def multiply(
        self, lams: Sequence[np.ndarray], v: np.ndarray, transpose: bool = False
    ) -> np.ndarray:
        """Multiply ``v`` (q,) or (q, k) by Lambda, or by its transpose.

        Parameters
        ----------
        lams : sequence of ndarray (s_i, s_i)
            One template a block.
        """
        out = np.empty(v.shape)
        for i, lam in enumerate(lams):
            rows = self.slice(i)
            if self.widths[i] == 1:
                np.multiply(v[rows], lam[0, 0], out=out[rows])
                continue
            small = lam.T if transpose else lam
            block = self.by_level(i, v)
            if v.ndim == 1:
                self.by_level(i, out)[...] = block @ small.T
            else:
                np.matmul(small, block, out=self.by_level(i, out))
        return out
