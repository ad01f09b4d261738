"""Products with ``A = Z'V^-1 Z``, and sums of its squares over all pairs of levels.

A is full where factors cross, and never stands in memory. Where one factor is eliminated first, its
part of A is a diagonal and a product of the rank of the remainder, so that sums of squares are
products of Gram matrices of that size. Elsewhere A is zero between parts of the data that share no
level: one solve gives a column of every part.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from typing import Any

import numpy as np
from scipy import sparse

from mixef.errors import MemoryNeededError
from mixef.late import LateModule
from mixef.linalg import small
from mixef.linalg.crossproducts import CrossProducts, block_squares
from mixef.linalg.factor import CHUNK, INVERTIBLE, Factor, fits
from mixef.linalg.layout import Layout
from mixef.memory import available

csgraph = LateModule("scipy.sparse.csgraph")  # for factors that are nested, and some crossed

# Cells of a group of columns of Z'V^-1 Z.
LARGEST = 20_000_000
# A single factor with so many columns has squares for those entries alone that parameters change.
MANY = 12
# Bytes for each cell of squares of blocks, in all copies, as measured.
SQUARE_CELL = 40

Squares = dict[tuple[int, int], np.ndarray]


class MarginalView:
    """Products with ``Z'V^-1 Z`` and ``Z'V^-1 [X y]``, by the form that keeps digits.

    With invertible templates ``Z'V^-1 Z = Lambda^-T (I - M^-1) Lambda^-1``, which is exact where
    Lambda is large; else ``Z'Z - Z'Z Lambda M^-1 Lambda'Z'Z``, which is exact where it vanishes.
    """

    def __init__(self, factor: Factor):
        self._factor = factor
        invertible = min(factor.least) > INVERTIBLE
        self._inverses = [small.inverse(lam) for lam in factor.lams] if invertible else None

    def project(self, back: np.ndarray, products: CrossProducts) -> np.ndarray:
        """Return ``Z'V^-1 [X y]`` (q, p + 1), given ``M^-1 Lambda'Z'[X y]``."""
        layout = self._factor.layout
        if self._inverses is not None:
            return layout.multiply(self._inverses, back, transpose=True)
        W: np.ndarray = -self._factor.ZtZ_times(layout.multiply(self._factor.lams, back))
        W[:, :-1] += products.ZtX
        W[:, -1] += products.Zty
        return W

    def times(self, H: np.ndarray) -> np.ndarray:
        """Return ``Z'V^-1 Z H`` (q, k) for H (q, k)."""
        factor, layout = self._factor, self._factor.layout
        if self._inverses is not None:
            half = layout.multiply(self._inverses, H)
            return layout.multiply(self._inverses, half - factor.solve(half), transpose=True)
        times = factor.ZtZ_times
        ZtZH = times(H)
        half = factor.solve(layout.multiply(factor.lams, ZtZH, transpose=True))
        product: np.ndarray = ZtZH - times(layout.multiply(factor.lams, half))
        return product

    def gram(self, H: np.ndarray) -> np.ndarray:
        """Return ``H'Z'V^-1 Z H`` (k, k) for H (q, k)."""
        layout = self._factor.layout
        if self._inverses is not None:
            half = layout.multiply(self._inverses, H)
            whole = half.T @ half
        else:
            ZtZH = self._factor.ZtZ_times(H)
            half = layout.multiply(self._factor.lams, ZtZH, transpose=True)
            whole = H.T @ ZtZH
        gram: np.ndarray = whole - self._factor.form(self._factor.solve_half(half), half)
        return gram


def exact_expected_information(
    factor: Factor, view: MarginalView, B: np.ndarray, dsigmas: Sequence[np.ndarray]
) -> np.ndarray:
    """Return ``tr(P dV_a P dV_b)`` (k, k), with ``Z'PZ = A - BB'``.

    Parameters
    ----------
    view : MarginalView
        Of the factor, which may give up L.
    B : ndarray (q, p)
    dsigmas : sequence of ndarray (k, s_i, s_i)
        ``d(lam lam')``, one array a block.
    """
    layout = factor.layout
    if len(layout) > 1 or layout.widths[0] < MANY:
        return expected_information(marginal_squares(factor, view, B), dsigmas)
    s, n_levels = layout.widths[0], layout.n_levels[0]
    flat = dsigmas[0].reshape(-1, s * s)
    changed = np.flatnonzero(flat.any(axis=0))
    if 4 * len(changed) > s * s:  # as of one term with correlations: most of all s^4 sums
        return expected_information(marginal_squares(factor, view, B), dsigmas)
    row, col = np.divmod(changed, s)
    by_level = layout.by_level(0, B)
    A = layout.by_level(0, view.times(np.tile(np.eye(s), (n_levels, 1))))
    own = by_level @ by_level.transpose(0, 2, 1)
    less = A - own
    across = np.einsum("lup,luq->upq", by_level[:, row], by_level[:, col], optimize=True)
    across = across.reshape(len(changed), B.shape[1] ** 2)
    squares = across @ across.T
    for square, a, c in zip(squares, row, col, strict=True):
        square += np.einsum("lv,lv->v", A[:, a, row], less[:, c, col])
        square -= np.einsum("lv,lv->v", own[:, a, row], A[:, c, col])
    information: np.ndarray = flat[:, changed] @ squares @ flat[:, changed].T
    return information


def marginal_squares(
    factor: Factor,
    view: MarginalView,
    B: np.ndarray,
    each: Callable[[list[Any]], Iterable[Any]] = iter,
) -> Squares:
    """Return ``sum S (x) S`` (s_i^2, s_j^2) over the blocks S of ``A - BB'``, for i <= j.

    Parameters
    ----------
    view : MarginalView
        Of the factor, which may give up L.
    B : ndarray (q, p)
    each : callable
        Goes over a list of pieces of work that may take long.
    """
    layout = factor.layout
    _require_memory(layout)
    projected = factor.projected_squares(B)
    if projected is not None:
        return projected
    squares = factor.marginal_squares()
    if squares is None:
        squares = _by_parts(factor, view, each)
    for j, s in enumerate(layout.widths):
        # A times B with one of the block's columns in the place of another, b for d
        masked = np.zeros((layout.q, s, s, B.shape[1]))
        own = layout.by_level(j, masked)
        for b in range(s):
            own[:, b, b] = layout.by_level(j, B)
        product = view.times(masked.reshape(layout.q, -1)).reshape(masked.shape)
        for i in range(j + 1):
            rows, left = layout.by_level(i, product), layout.by_level(i, B)
            cross = np.einsum("labdp,lcp->acbd", rows, left, optimize=True)
            both = cross + cross.transpose(1, 0, 3, 2)
            square = np.tensordot(_gram(layout, i, B), _gram(layout, j, B), axes=([1, 3], [1, 3]))
            squares[i, j] = squares[i, j] + (square - both).reshape(squares[i, j].shape)
    return squares


def _require_memory(layout: Layout) -> None:
    """Refuse squares that no memory holds.

    Raises
    ------
    MemoryNeededError
    """
    needed = SQUARE_CELL * sum(s**2 for s in layout.widths) ** 2.0
    if not fits(needed):
        widest = int(np.argmax(layout.widths))
        named = f"of {_shortened(layout.names[widest])} " if layout.names else ""
        raise MemoryNeededError(
            f"the exact second derivatives {named}({layout.widths[widest]:,} columns) need about "
            f"{needed / 1e9:.3g} GB, and {available() / 1e9:.3g} GB are available: use fewer "
            "columns, and one term for several that are alike; or do without, as by ddf=None"
        )


def _shortened(terms: str) -> str:
    """Return the terms of a block, or the first of many."""
    first, _, others = terms.partition(" and ")
    return f"{first} and others" if " and " in others else terms


def _gram(layout: Layout, i: int, B: np.ndarray) -> np.ndarray:
    """Return ``sum_l B_l[a, p] B_l[c, r]``, as (s, p, s, p)."""
    level = layout.by_level(i, B)
    return np.tensordot(level, level, axes=(0, 0))


def _by_parts(
    factor: Factor, view: MarginalView, each: Callable[[list[Any]], Iterable[Any]]
) -> Squares:
    """Return ``sum A_lk (x) A_lk`` by columns of A, one of every part of the data at once."""
    layout = factor.layout
    part = parts(factor.products)
    most = min(CHUNK, max(LARGEST // layout.q, 1))
    squares = {
        (i, j): np.zeros((r * r, s * s))
        for j, s in enumerate(layout.widths)
        for i, r in enumerate(layout.widths[: j + 1])
    }
    tasks = []
    for j, s in enumerate(layout.widths):
        rank = _rank_in_part(part[j])
        step = max(most // s, 1)
        tasks += [(j, rank, first, step) for first in range(0, int(rank.max()) + 1, step)]
    for j, rank, first, step in each(tasks):
        s = layout.widths[j]
        levels = np.flatnonzero((rank >= first) & (rank < first + step))
        unit = np.zeros((layout.q, int(rank[levels].max()) + 1 - first, s))
        for b in range(s):
            layout.by_level(j, unit)[levels, b, rank[levels] - first, b] = 1.0
        columns = view.times(unit.reshape(layout.q, -1))
        for i in range(j + 1):
            squares[i, j] += block_squares(layout.by_level(i, columns), s)
    return squares


def parts(products: CrossProducts) -> list[np.ndarray]:
    """Return the part of the data (l_i,) that each level is in, one array a block.

    Levels of different parts do not meet, directly or through others.
    """
    n_levels = products.layout.n_levels
    if len(n_levels) > 1 and not products.pairs:  # a small model has Z'Z in one piece
        return [np.zeros(n, dtype=int) for n in n_levels]
    start = np.concatenate([[0], np.cumsum(n_levels)])
    graph = sparse.csr_array((start[-1], start[-1]))
    for (i, j), pair in products.pairs.items():
        entries = np.ones(len(pair.rows)), (start[i] + pair.rows, start[j] + pair.cols)
        graph = graph + sparse.csr_array(entries, shape=graph.shape)
    return np.split(csgraph.connected_components(graph, directed=False)[1], start[1:-1])


def columns_in_largest_part(factor: Factor) -> int:
    """Return how many columns of A have to be solved for, one of every part at once."""
    layout = factor.layout
    of_effects = np.concatenate(
        [np.repeat(part, s) for part, s in zip(parts(factor.products), layout.widths, strict=True)]
    )
    return int(np.bincount(of_effects).max())


def _rank_in_part(part: np.ndarray) -> np.ndarray:
    """Return each level's number among those of its part."""
    order = np.argsort(part, kind="stable")
    sizes = np.bincount(part)
    rank = np.empty(len(part), dtype=int)
    rank[order] = np.arange(len(part)) - np.repeat(np.cumsum(sizes) - sizes, sizes)
    return rank


def expected_information(squares: Squares, dsigmas: Sequence[np.ndarray]) -> np.ndarray:
    """Return ``tr(P dV_a P dV_b)`` (k, k), from the squares of ``Z'PZ``."""
    flat = [D.reshape(len(D), -1) for D in dsigmas]
    total = np.zeros((len(dsigmas[0]),) * 2)
    for (i, j), square in squares.items():
        part = flat[i] @ square @ flat[j].T
        total += part if i == j else part + part.T
    return total
