"""Cross-products without some of the rows: by taking the products of these rows off."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import numpy as np

from mixef.linalg.crossproducts import CrossProducts, match_levels
from mixef.linalg.rows import GroupDesign


class Downdate:
    """Cross-products of all rows, from which those of any set of rows are taken off.

    The pattern of levels stays: a level without rows has zeros in its blocks, which are exact, and
    so is of no consequence. What is left of other blocks has the rounding of what they were.

    Parameters
    ----------
    groups : sequence of GroupDesign
        Grouping factors, in the order of the layout.
    columns : ndarray (n, p + 1)
        ``[X y]``; all multiplied by the square root of the weights.
    products : CrossProducts
        Those of all rows.

    Examples
    --------
    >>> from mixef.linalg.crossproducts import crossproducts
    >>> from mixef.linalg.rows import Rows
    >>> group = GroupDesign(np.array([0, 0, 1]), 2, np.ones((3, 1)))
    >>> X, y = np.ones((3, 1)), np.array([1.0, 2.0, 5.0])
    >>> whole = crossproducts(Rows([group], X, y))
    >>> left = Downdate([group], np.column_stack([X, y]), whole).without(np.array([2]))
    >>> left.diagonal[0].ravel(), left.Zty, left.n
    (array([2., 0.]), array([3., 0.]), 2)
    """

    def __init__(self, groups: Sequence[GroupDesign], columns: np.ndarray, products: CrossProducts):
        self._groups, self._columns, self._products = groups, columns, products
        self._counts = [np.bincount(g.codes, minlength=g.n_levels) for g in groups]
        self._pairs = {(i, j): match_levels(groups[i], groups[j])[2] for i, j in products.pairs}
        self._pair_counts = {key: np.bincount(pair) for key, pair in self._pairs.items()}

    def occupied(self, rows: np.ndarray) -> list[int]:
        """Return how many levels each grouping factor has without some rows."""
        return [
            int((counts > np.bincount(g.codes[rows], minlength=g.n_levels)).sum())
            for g, counts in zip(self._groups, self._counts, strict=True)
        ]

    def without(self, rows: np.ndarray) -> CrossProducts:
        """Return the cross-products without some rows (m,), each given once."""
        old, own = self._products, self._columns[rows]
        z = [g.z[rows] for g in self._groups]
        codes = [g.codes[rows] for g in self._groups]
        ZtXy, diagonal = [], []
        for i, counts in enumerate(self._counts):
            diagonal.append(_less(old.diagonal[i], codes[i], z[i], z[i], counts))
            whole = np.column_stack(
                [old.ZtX[old.layout.slice(i)], old.Zty[old.layout.slice(i)]]
            ).reshape(len(counts), old.layout.widths[i], -1)
            ZtXy.append(_less(whole, codes[i], z[i], own, counts).reshape(-1, own.shape[1]))
        pairs = {
            (i, j): replace(
                pair,
                blocks=_less(
                    pair.blocks, self._pairs[i, j][rows], z[i], z[j], self._pair_counts[i, j]
                ),
            )
            for (i, j), pair in old.pairs.items()
        }
        V, gram = np.concatenate(ZtXy), own.T @ own
        return replace(
            old,
            diagonal=tuple(diagonal),
            pairs=pairs,
            ZtX=np.ascontiguousarray(V[:, :-1]),
            Zty=np.ascontiguousarray(V[:, -1]),
            XtX=old.XtX - gram[:-1, :-1],
            Xty=old.Xty - gram[:-1, -1],
            yty=old.yty - float(gram[-1, -1]),
            n=old.n - len(rows),
            assembled=None if pairs or old.assembled is None else self._dense(codes, z, diagonal),
        )

    def _dense(
        self, codes: Sequence[np.ndarray], z: Sequence[np.ndarray], diagonal: Sequence[np.ndarray]
    ) -> np.ndarray:
        """Return ``Z'WZ`` (q, q) of a small model."""
        layout, m = self._products.layout, len(z[0])
        Z = np.zeros((m, layout.q))
        for i, (code, part) in enumerate(zip(codes, z, strict=True)):
            first = layout.offsets[i] + code[:, None] * layout.widths[i]
            Z[np.arange(m)[:, None], first + np.arange(layout.widths[i])] = part
        left: np.ndarray = self._products.ZtZ - Z.T @ Z
        empty = np.concatenate([np.einsum("laa->la", D).ravel() == 0.0 for D in diagonal])
        left[empty] = left[:, empty] = 0.0
        return left


def _less(
    blocks: np.ndarray, place: np.ndarray, left: np.ndarray, right: np.ndarray, counts: np.ndarray
) -> np.ndarray:
    """Take the products of rows ``left'right`` off the blocks (b, s, t) that they belong to."""
    touched, own, taken = np.unique(place, return_inverse=True, return_counts=True)
    out = blocks.copy()
    for a in range(blocks.shape[1]):
        for b in range(blocks.shape[2]):
            out[touched, a, b] -= np.bincount(own, left[:, a] * right[:, b])
    out[touched[counts[touched] == taken]] = 0.0
    return out
