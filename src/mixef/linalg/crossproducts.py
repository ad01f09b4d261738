"""The cross-products ``[Z X y]' W [Z X y]``, held by blocks of grouping factors.

They are formed once; nothing in a linear model's search touches the rows of the data again.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property, partial
from itertools import combinations
from typing import NamedTuple

import numpy as np
from scipy import sparse

from mixef.linalg.layout import Layout
from mixef.linalg.level_sums import LevelSums
from mixef.linalg.pairs import PairOrder, PairSums
from mixef.linalg.rows import GroupDesign, RowPasses, Rows, RowSource

# Below this many cells of Z, dense BLAS beats the bookkeeping of sparse blocks.
SMALL_Z = 60_000
SMALL_Q = 130
# Blocks of more cells are multiplied one by one: a Kronecker matrix has that number's square.
WIDE = 150


@dataclass(frozen=True)
class Pairs:
    """The blocks of ``Z_i'WZ_j`` for the pairs of levels that occur together."""

    #: `rows`, `cols`: int (m,); levels of factor i and of factor j, sorted by row, then column.
    rows: np.ndarray
    cols: np.ndarray
    blocks: np.ndarray  # (m, s_i, s_j)


class SymmetricBlocks(NamedTuple):
    """The blocks of a symmetric matrix (q, q) on the pattern of ``Z'WZ``.

    Examples
    --------
    >>> blocks = SymmetricBlocks([np.ones((2, 1, 1))], {})
    >>> blocks.between([np.array([[3.0]])]).diagonal[0].ravel()
    array([9., 9.])
    """

    diagonal: list[np.ndarray]  # each (l_i, s_i, s_i): one a grouping factor
    #: dict of (i, j) to (m, s_i, s_j), i < j: for the pairs of levels of `CrossProducts.pairs`, in
    #: their order.
    pairs: dict[tuple[int, int], np.ndarray]

    def between(self, lams: Sequence[np.ndarray]) -> SymmetricBlocks:
        """Return the blocks of ``Lambda B Lambda'``, for B with these blocks.

        Parameters
        ----------
        lams : sequence of ndarray (s_i, s_i)
            One template a grouping factor.
        """
        return SymmetricBlocks(
            [two_sided(lam, B, lam) for lam, B in zip(lams, self.diagonal, strict=True)],
            {(i, j): two_sided(lams[i], B, lams[j]) for (i, j), B in self.pairs.items()},
        )


@dataclass(frozen=True)
class CrossProducts:
    """``[Z X y]'W[Z X y]`` by blocks."""

    layout: Layout
    diagonal: tuple[np.ndarray, ...]  # each (l_i, s_i, s_i): blocks of ``Z_i'WZ_i``
    pairs: dict[tuple[int, int], Pairs]  # dict of (i, j) to Pairs, i < j
    ZtX: np.ndarray  # (q, p)
    Zty: np.ndarray  # (q,)
    XtX: np.ndarray  # (p, p)
    Xty: np.ndarray  # (p,)
    yty: float
    n: int  # rows of the data
    #: ndarray or csr_array (q, q): ``Z'WZ``, where it is there already.
    assembled: np.ndarray | sparse.csr_array | None = None

    @cached_property
    def ZtZ(self) -> np.ndarray | sparse.csr_array:
        """``Z'WZ`` (q, q): dense for a small q, else sparse."""
        if self.assembled is not None:
            return self.assembled
        return assemble(self.layout, self.diagonal, self.pairs)

    @cached_property
    def ZtXy(self) -> np.ndarray:
        """``Z'W[X y]`` (q, p + 1)."""
        return np.concatenate([self.ZtX, self.Zty[:, None]], axis=1)

    @cached_property
    def gram(self) -> np.ndarray:
        """``[X y]'W[X y]`` (p + 1, p + 1)."""
        p = len(self.XtX)
        gram = np.empty((p + 1, p + 1))
        gram[:p, :p], gram[p, p] = self.XtX, self.yty
        gram[:p, p] = gram[p, :p] = self.Xty
        return gram

    def ZtZ_times(self, v: np.ndarray) -> np.ndarray:
        """Return ``Z'WZ v`` (q, k)."""
        if len(self.layout) > 1:
            return np.asarray(self.ZtZ @ v)
        return np.asarray(self.diagonal[0] @ self.layout.by_level(0, v)).reshape(v.shape)


def crossproducts(rows: RowSource, assembles: bool = True) -> CrossProducts:
    """Form the cross-products of weighted rows.

    Parameters
    ----------
    assembles : bool
        Whether those of a small model may come in one piece, without pairs of levels.
    """
    layout = rows.layout
    if assembles and rows.n * layout.q <= SMALL_Z and layout.q <= SMALL_Q:
        return _of_few(rows.whole, layout)
    return summed_by_pieces(rows, None if rows.levels is None else partial(_pairs, rows))


def summed_by_pieces(
    rows: RowPasses, pairs_of: Callable[[int, int], Pairs] | None = None
) -> CrossProducts:
    """Form the cross-products of weighted rows in one pass.

    Parameters
    ----------
    pairs_of : callable, optional
        Returns those of two factors, which are summed in the pass without it.
    """
    layout, n = rows.layout, rows.n
    levels, widths = layout.n_levels, layout.widths
    places = list(combinations(range(len(layout)), 2))
    running = {} if pairs_of is not None else {
        (i, j): PairSums((levels[i], levels[j]), (widths[i], widths[j]), n) for i, j in places
    }  # fmt: skip
    by_level: list[LevelSums] = []
    gram: np.ndarray | float = 0.0
    for piece in rows.pieces():
        columns = piece.columns()
        gram = gram + columns.T @ columns
        if not by_level:
            sizes = zip(levels, widths, strict=True)
            by_level = [LevelSums(l, s, columns.shape[1]) for l, s in sizes]
        for own, g in zip(by_level, piece.groups, strict=True):
            own.add(g, columns)
        for (i, j), sums in running.items():
            a, b = piece.groups[i], piece.groups[j]
            sums.add(a.codes, b.codes, a.z, b.z)
    if pairs_of is None:
        pairs = {place: Pairs(*sums.total()) for place, sums in running.items()}
    else:
        pairs = {place: pairs_of(*place) for place in places}
    totals = [(own.total(), s) for own, s in zip(by_level, widths, strict=True)]
    diagonal = tuple(np.ascontiguousarray(t[:, :, :s]) for t, s in totals)
    ZtXy = np.concatenate([t[:, :, s:].reshape(len(t) * s, -1) for t, s in totals])
    return _with_columns(layout, diagonal, pairs, ZtXy, np.asarray(gram), n)


def _of_few(rows: Rows, layout: Layout) -> CrossProducts:
    """Return the cross-products of a small model in one piece."""
    groups, columns, n = rows.groups, rows.columns(), rows.n
    if len(groups) == 1:
        return _single(groups[0], layout, columns)
    Z = _dense_z(groups, layout, n)
    ZtZ = Z.T @ Z
    diagonal = tuple(_dense_diagonal(ZtZ, layout, i) for i in range(len(layout)))
    products = _with_columns(layout, diagonal, {}, Z.T @ columns, columns.T @ columns, n)
    return replace(products, assembled=ZtZ)


def _single(g: GroupDesign, layout: Layout, columns: np.ndarray) -> CrossProducts:
    """Return the products of one grouping factor, level by level."""
    n, s = g.z.shape
    products = g.z[:, :, None] * np.concatenate([g.z, columns], axis=1)[:, None]
    sums = g.place.sums(products, axis=0)
    ZtXy = sums[:, :, s:].reshape(layout.q, -1)
    diagonal = (np.ascontiguousarray(sums[:, :, :s]),)
    return _with_columns(layout, diagonal, {}, ZtXy, columns.T @ columns, n)


def _with_columns(
    layout: Layout,
    diagonal: tuple[np.ndarray, ...],
    pairs: dict[tuple[int, int], Pairs],
    ZtXy: np.ndarray,
    gram: np.ndarray,
    n: int,
) -> CrossProducts:
    """Split ``Z'[X y]`` and ``[X y]'[X y]`` into what belongs to X and to y."""
    return CrossProducts(
        layout,
        diagonal,
        pairs,
        np.ascontiguousarray(ZtXy[:, :-1]),
        np.ascontiguousarray(ZtXy[:, -1]),
        gram[:-1, :-1],
        gram[:-1, -1],
        float(gram[-1, -1]),
        n,
    )


def rotate(products: CrossProducts, axes: Sequence[np.ndarray]) -> CrossProducts:
    """Return the cross-products of columns ``z_i V_i``, with one orthogonal V_i a block.

    Parameters
    ----------
    axes : sequence of ndarray (s_i, s_i)
    """
    layout = products.layout
    if max(layout.widths) == 1:  # a column by itself has no other axes
        return products
    assembled = products.assembled
    if assembled is not None:
        half = layout.multiply(axes, assembled, transpose=True)
        assembled = layout.multiply(axes, half.T, transpose=True)
    return replace(
        products,
        diagonal=tuple(V.T @ A @ V for V, A in zip(axes, products.diagonal, strict=True)),
        pairs={
            (i, j): replace(pair, blocks=two_sided(axes[i].T, pair.blocks, axes[j].T))
            for (i, j), pair in products.pairs.items()
        },
        ZtX=layout.multiply(axes, products.ZtX, transpose=True),
        Zty=layout.multiply(axes, products.Zty, transpose=True),
        assembled=assembled,
    )


def sum_of_squares(pair: Pairs, left: np.ndarray, right: np.ndarray) -> np.ndarray:
    """Return ``sum_lk P_lk (x) P_lk`` (s_i^2, s_j^2) over all pairs of levels.

    Parameters
    ----------
    left, right : ndarray (l_i, s_i, p), (l_j, s_j, p)
        ``P_lk = A_lk - B_l B_k'``, with the blocks A_lk of ``pair``.
    """
    si, sj = pair.blocks.shape[1:]
    flat = pair.blocks.reshape(-1, si * sj)
    if not left.shape[2]:
        return _by_factor(flat.T @ flat, si, sj)
    product = left[pair.rows] @ right[pair.cols].transpose(0, 2, 1)
    # The sum of A (x) A - A (x) BB' - BB' (x) A, by one product and its transpose.
    half = flat.T @ (0.5 * flat - product.reshape(-1, si * sj))
    both = _gram(left)
    other = both if right is left else _gram(right)
    sums: np.ndarray = _by_factor(half + half.T, si, sj) + both @ other.T
    return sums


def _gram(rows: np.ndarray) -> np.ndarray:
    """Return ``sum_l B_l[a, p] B_l[b, q]`` as (s^2, k^2) for rows B (l, s, k)."""
    n, s, k = rows.shape
    flat = rows.reshape(n, s * k)
    gram: np.ndarray = (
        (flat.T @ flat).reshape(s, k, s, k).transpose(0, 2, 1, 3).reshape(s * s, k * k)
    )
    return gram


def squares_by_blocks(matrix: np.ndarray, layout: Layout) -> dict[tuple[int, int], np.ndarray]:
    """Return ``sum_lk P_lk (x) P_lk``, i <= j, over the blocks of a matrix (q, q)."""
    return {
        (i, j): block_squares(layout.by_level(i, matrix[:, layout.slice(j)]), layout.widths[j])
        for i in range(len(layout))
        for j in range(i, len(layout))
    }


def block_squares(blocks: np.ndarray, s: int) -> np.ndarray:
    """Return ``sum P (x) P`` (r^2, s^2) over the blocks P (r, s) of rows (l, r, k s)."""
    n_levels, r, width = blocks.shape
    if r == s == 1:
        square: np.ndarray = np.vdot(blocks, blocks).reshape(1, 1)
        return square
    flat = blocks.reshape(n_levels, r, width // s, s).transpose(0, 2, 1, 3).reshape(-1, r * s)
    return _by_factor(flat.T @ flat, r, s)


def _by_factor(total: np.ndarray, si: int, sj: int) -> np.ndarray:
    """Turn a sum of ``vec(P) vec(P)'`` for P (s_i, s_j) into the sum of ``P (x) P``."""
    return total.reshape(si, sj, si, sj).transpose(0, 2, 1, 3).reshape(si * si, sj * sj)


def two_sided(left: np.ndarray, blocks: np.ndarray, right: np.ndarray) -> np.ndarray:
    """Return ``left B right'`` for every block B: one product with a Kronecker matrix if small.

    Parameters
    ----------
    left, right : ndarray (s, s), (t, t)
    blocks : ndarray (..., s, t)
    """
    s, t = blocks.shape[-2:]
    if s == t == 1:
        scaled: np.ndarray = blocks * (left[0, 0] * right[0, 0])
        return scaled
    if s * t > WIDE:
        wide: np.ndarray = left @ blocks @ right.T
        return wide
    kronecker = (left.T[:, None, :, None] * right.T[:, None, :]).reshape(s * t, s * t)
    products: np.ndarray = (blocks.reshape(-1, s * t) @ kronecker).reshape(blocks.shape)
    return products


def assemble(
    layout: Layout, diagonal: Sequence[np.ndarray], pairs: Mapping[tuple[int, int], Pairs]
) -> np.ndarray | sparse.csr_array:
    """Put diagonal blocks and pairs of levels together into one symmetric matrix (q, q)."""
    rows, cols, values = [], [], []
    for i, blocks in enumerate(diagonal):
        level = np.arange(layout.n_levels[i])
        r, c = block_entries(layout, i, i, level, level)
        rows.append(r)
        cols.append(c)
        values.append(blocks.ravel())
    for (i, j), pair in pairs.items():
        r, c = block_entries(layout, i, j, pair.rows, pair.cols)
        rows += [r, c]
        cols += [c, r]
        values += [pair.blocks.ravel()] * 2
    data = (np.concatenate(values), (np.concatenate(rows), np.concatenate(cols)))
    matrix = sparse.coo_array(data, shape=(layout.q, layout.q))
    return matrix.toarray() if layout.q <= SMALL_Q else matrix.tocsr()


def diagonal_pairs(products: CrossProducts, i: int) -> Pairs:
    """Return the blocks of ``Z_i'WZ_i`` as pairs of a level with itself."""
    level = np.arange(products.layout.n_levels[i])
    return Pairs(level, level, products.diagonal[i])


def block_entries(
    layout: Layout, i: int, j: int, level_i: np.ndarray, level_j: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """Return row and column in (q, q) of every entry of the blocks (level_i, level_j)."""
    si, sj = layout.widths[i], layout.widths[j]
    shape = (len(level_i), si, sj)
    row = layout.offsets[i] + level_i[:, None] * si + np.arange(si)
    col = layout.offsets[j] + level_j[:, None] * sj + np.arange(sj)
    return (
        np.broadcast_to(row[:, :, None], shape).ravel(),
        np.broadcast_to(col[:, None, :], shape).ravel(),
    )


def _dense_z(groups: Sequence[GroupDesign], layout: Layout, n: int) -> np.ndarray:
    Z = np.zeros((n, layout.q))
    row = np.arange(n)
    for i, g in enumerate(groups):
        s = g.z.shape[1]
        first = layout.offsets[i] + g.codes * s
        for a in range(s):
            Z[row, first + a] = g.z[:, a]
    return Z


def _dense_diagonal(ZtZ: np.ndarray, layout: Layout, i: int) -> np.ndarray:
    n, s = layout.n_levels[i], layout.widths[i]
    block = ZtZ[layout.slice(i), layout.slice(i)].reshape(n, s, n, s)
    level = np.arange(n)
    own: np.ndarray = block[level, :, level, :]
    return own


def _pairs(rows: RowSource, i: int, j: int) -> Pairs:
    """Sum over the rows of every observed pair of levels."""
    assert rows.levels is not None
    n_levels = rows.layout.n_levels
    pairs = PairOrder.of(rows.levels[i], rows.levels[j], (n_levels[i], n_levels[j]))
    blocks = pairs.sums(lambda some: (rows.z_at(i, some), rows.z_at(j, some)))
    return Pairs(pairs.rows, pairs.cols, blocks)


def match_levels(gi: GroupDesign, gj: GroupDesign) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Find the pairs of levels that occur together.

    Returns
    -------
    rows, cols : ndarray of int (m,)
        Levels of either factor, sorted by row, then column.
    pair : ndarray of int (n,)
        Which pair each row of the data belongs to.
    """
    pairs = PairOrder.of(gi.codes, gj.codes, (gi.n_levels, gj.n_levels))
    pair = np.empty(len(gi.codes), dtype=np.intp)
    pair[pairs.order] = np.repeat(
        np.arange(len(pairs.rows)), np.diff(pairs.starts, append=len(pair))
    )
    return pairs.rows, pairs.cols, pair
