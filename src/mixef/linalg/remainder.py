"""What M has besides its first block, as a dense lower triangle."""

from __future__ import annotations

import copy
from collections.abc import Sequence

import numpy as np

from mixef.linalg.crossproducts import CrossProducts, Pairs, block_entries, diagonal_pairs
from mixef.linalg.layout import Layout


def lower_blocks(lower: np.ndarray, layout: Layout, i: int, shift: int = 0) -> np.ndarray:
    """Read symmetric diagonal blocks (l_i, s_i, s_i) out of a lower triangle.

    ``shift`` is where the triangle starts in the layout.
    """
    n, s = layout.n_levels[i], layout.widths[i]
    first = layout.offsets[i] - shift + np.arange(n) * s
    if s == 1:
        diagonal: np.ndarray = lower[first, first].reshape(n, 1, 1)
        return diagonal
    out = np.empty((n, s, s))
    for a in range(s):
        for b in range(a + 1):
            out[:, a, b] = out[:, b, a] = lower[first + a, first + b]
    return out


def mirrored_cells(layout: Layout, i: int, j: int, pair: Pairs, shift: int = 0) -> np.ndarray:
    """Return where a lower triangle, flat in Fortran order, holds the blocks of factors i < j.

    They lie above the diagonal: these are the places of their mirror images. ``shift`` is where
    the triangle starts in the layout.
    """
    row, col = block_entries(layout, i, j, pair.rows, pair.cols)
    cells: np.ndarray = (col - shift) + (row - shift) * (layout.q - shift)
    return cells


class Remainder:
    """Writes ``Lambda_2'(Z'Z)_22 Lambda_2``, with or without I, to a dense lower triangle."""

    def __init__(self, products: CrossProducts):
        layout = products.layout
        shift = layout.offsets[1]
        self._k = layout.q - shift
        self._blocks = [
            (i, j, pair.blocks, mirrored_cells(layout, i, j, pair, shift))
            for (i, j), pair in self._pairs(products).items()
        ]

    def twin(self, products: CrossProducts) -> Remainder:
        """Return the same for other products on one pattern."""
        new, pairs = copy.copy(self), self._pairs(products)
        new._blocks = [(i, j, pairs[i, j].blocks, where) for i, j, _, where in self._blocks]
        return new

    @staticmethod
    def _pairs(products: CrossProducts) -> dict[tuple[int, int], Pairs]:
        blocks = {(i, i): diagonal_pairs(products, i) for i in range(1, len(products.layout))}
        return blocks | {(i, j): pair for (i, j), pair in products.pairs.items() if i > 0}

    def write(self, lams: Sequence[np.ndarray], S: np.ndarray, penalty: float = 1.0) -> None:
        """Overwrite S (k, k), Fortran order, with ``penalty`` times I added."""
        flat = S.reshape(-1, order="F")
        flat[:] = 0.0
        for i, j, values, where in self._blocks:
            if values.shape[1:] == (1, 1):
                flat[where] = values.ravel() * (lams[i][0, 0] * lams[j][0, 0])
            else:
                flat[where] = (lams[i].T @ values @ lams[j]).ravel()
        flat[:: self._k + 1] += penalty

    def read_pairs(self, S: np.ndarray) -> dict[tuple[int, int], np.ndarray]:
        """Return the blocks of the pairs of factors, out of a lower triangle S (k, k)."""
        flat = S.reshape(-1, order="F")
        pairs = [block for block in self._blocks if block[0] < block[1]]
        return {(i, j): flat[where].reshape(B.shape) for i, j, B, where in pairs}
