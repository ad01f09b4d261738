"""Where cross-products come from, other than from rows in memory: chunks of rows.

Two passes over the chunks are enough. The first stacks triangular factors of ``[X y]`` and of each
term's columns, which is as exact as one orthogonal factorization of all rows: they give the scaled
columns, and the least-squares fit of X to y. The second sums the products of the scaled columns.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from functools import cached_property

import numpy as np
from scipy.linalg import qr, solve_triangular

from mixef.linalg.crossproducts import CrossProducts, Pairs, crossproducts
from mixef.linalg.layout import Layout
from mixef.linalg.rows import GroupDesign, RowPieces, Rows, RowSource
from mixef.linalg.standardize import (
    ALIASED,
    Basis,
    ResponseScale,
    independent_columns,
    nothing_left,
    root_weighted,
)


@dataclass(frozen=True)
class Chunk:
    """Some rows of a model."""

    X: np.ndarray  # (m, p): columns that are independent over all rows
    y: np.ndarray  # (m,)
    z: tuple[np.ndarray, ...]  # each (m, s_t): raw columns, one array a term
    codes: tuple[np.ndarray, ...]  # each int (m,): levels, one array a grouping factor
    weights: np.ndarray | None = None  # (m,); those of a binomial response are trials, too
    #: What a generalized model has besides:
    offset: np.ndarray | None = None  # (m,)
    copies: np.ndarray | None = None  # (m,): the part of the weights that does not count trials
    n_rows: int | None = None  # rows of the data that these stand for; None for themselves
    within: np.ndarray | None = None  # (m,): weighted sums of squares of y inside each of them
    surplus: float = 0.0  # what the log density of the rows of the data has beside that of these


@dataclass(frozen=True)
class ScaledChunks(RowSource):
    """The rows of scaled ``[Z X y]``, read from chunks as often as they are asked for."""

    chunks: Callable[[], Iterable[Chunk]]  # returns the chunks from the first on
    n: int
    n_levels: tuple[int, ...]  # of the grouping factors
    members: Sequence[list[int]]  # the terms of each grouping factor
    #: each (s_i, s_i): from raw columns to scaled ones, a grouping factor.
    z_back: tuple[np.ndarray, ...]
    x_basis: Basis
    y_scale: ResponseScale
    sum_log_w: float

    @cached_property
    def layout(self) -> Layout:  # type: ignore[override]
        """How the random effects are laid out."""
        return Layout(self.n_levels, tuple(len(back) for back in self.z_back))

    def pieces(self) -> Iterator[Rows]:
        """Yield the scaled rows, a chunk at a time."""
        for chunk in self.chunks():
            X = root_weighted(chunk.X, chunk.weights)
            Q = solve_triangular(self.x_basis.R, X.T, trans=1).T if X.shape[1] else X
            residual = root_weighted(chunk.y, chunk.weights) - Q @ self.y_scale.beta0
            groups = [
                GroupDesign(codes, n_levels, root_weighted(z, chunk.weights) @ back)
                for codes, n_levels, z, back in zip(
                    chunk.codes, self.n_levels, self._by_group(chunk), self.z_back, strict=True
                )
            ]
            yield Rows(groups, RowPieces(Q), residual / self.y_scale.scale)

    def turned(self, axes: Sequence[np.ndarray]) -> ScaledChunks:
        """Return the rows with the columns ``z_i V_i``."""
        pairs = zip(self.z_back, axes, strict=True)
        return replace(self, z_back=tuple(back @ V for back, V in pairs))

    def products(self) -> CrossProducts:
        """Return the cross-products, summed chunk by chunk."""
        total: CrossProducts | None = None
        for piece in self.pieces():
            own = crossproducts(piece, assembles=False)
            total = own if total is None else _added(total, own)
        assert total is not None
        return total

    def _by_group(self, chunk: Chunk) -> list[np.ndarray]:
        return [np.column_stack([chunk.z[t] for t in members]) for members in self.members]


@dataclass(frozen=True)
class Scan:
    """What one pass over raw rows tells of their columns.

    Sums, squares and largest values are of the columns of ``[y X]``, of the weights where there
    are some, and of each term, in this order.
    """

    n: int
    sum_log_w: float
    tops: list[np.ndarray]  # triangular factors: of the weighted ``[X y]``, and of each term
    sums: np.ndarray  # (K,)
    squares: np.ndarray  # (K,): their mean squares
    largest: np.ndarray  # (K,): their largest absolute values

    @property
    def spread(self) -> np.ndarray:
        """The standard deviations (p,) of the columns of X."""
        columns = slice(1, self.tops[0].shape[1])
        mean = self.sums[columns] / self.n
        return np.sqrt(np.maximum(self.squares[columns] - mean**2, 0.0))

    @property
    def independent(self) -> np.ndarray:
        """The columns of X that are no combinations of earlier ones."""
        return independent_columns(self.tops[0][:, :-1])

    def of(self, kept: np.ndarray) -> Scan:
        """Return the scan with some columns of X alone, as far as scaling needs it."""
        columns = self.tops[0][:, [*kept, -1]]
        return replace(self, tops=[stacked(columns[:0], columns), *self.tops[1:]])


def scan(chunks: Iterable[Chunk]) -> Scan:
    """Read rows once, for what their columns are like."""
    n, sum_log_w = 0, 0.0
    tops: list[np.ndarray] = []
    sums = squares = largest = np.zeros(0)
    for chunk in chunks:
        parts = [chunk.y[:, None], chunk.X, *chunk.z]
        columns = [np.column_stack([chunk.X, chunk.y]), *chunk.z]
        if chunk.weights is not None:
            sum_log_w += float(np.log(chunk.weights).sum())
            parts.insert(2, chunk.weights[:, None])
        if not n:
            tops = [np.zeros((0, V.shape[1])) for V in columns]
            sums = squares = largest = np.zeros(sum(V.shape[1] for V in parts))
        n += len(chunk.y)
        sums = sums + np.concatenate([V.sum(axis=0) for V in parts])
        squares = squares + np.concatenate([np.einsum("ij,ij->j", V, V) for V in parts])
        most = np.concatenate([np.abs(V).max(axis=0, initial=0.0) for V in parts])
        largest = np.maximum(largest, most)
        if np.isfinite(squares).all():  # else they are refused
            tops = [
                stacked(top, root_weighted(V, chunk.weights))
                for top, V in zip(tops, columns, strict=True)
            ]
    if not n:
        raise ValueError("there are no rows in the chunks; expected some")
    return Scan(n, sum_log_w, tops, sums, squares / n, largest)


def scale_chunks(
    chunks: Callable[[], Iterable[Chunk]],
    known: Scan,
    n_levels: Sequence[int],
    members: Sequence[list[int]],
    invariances: Sequence[str],
    response: str = "y",
) -> tuple[ScaledChunks, tuple[Basis, ...]]:
    """Scale the columns of chunks as those of rows in memory are.

    Parameters
    ----------
    chunks : callable
        Returns the chunks from the first on; it is called once for every pass.
    known : Scan
        Of the same columns.
    n_levels : sequence of int
        Of the grouping factors.
    members : sequence of list of int
        The terms of each grouping factor.
    invariances : sequence of str
        What each term's structure allows its columns: "triangular", "diagonal" or "scalar".

    Returns
    -------
    ScaledChunks
    tuple of Basis
        From each term's scaled columns back to its raw ones.
    """
    n, tops = known.n, known.tops
    R, p = tops[0], tops[0].shape[1] - 1
    left = abs(float(R[p, p])) if len(R) > p else 0.0
    if left <= 1e-13 * float(np.linalg.norm(R[:, p])):
        raise nothing_left(response)
    x_basis = Basis(R[:p, :p] / np.sqrt(n))
    y_scale = ResponseScale(R[:p, p] / np.sqrt(n), left / np.sqrt(n))
    bases = tuple(
        column_basis(top, n, invariance)
        for top, invariance in zip(tops[1:], invariances, strict=True)
    )
    back = []
    for of_group in members:
        sizes = [len(bases[t].R) for t in of_group]
        whole, at = np.zeros((sum(sizes), sum(sizes))), 0
        for t, size in zip(of_group, sizes, strict=True):
            whole[at : at + size, at : at + size] = np.linalg.inv(bases[t].R)
            at += size
        back.append(whole)
    rows = ScaledChunks(
        chunks, n, tuple(n_levels), members, tuple(back), x_basis, y_scale, known.sum_log_w
    )
    return rows, bases


def stacked(top: np.ndarray, V: np.ndarray) -> np.ndarray:
    """Return the triangular factor (min(n, k), k), diagonal not negative, of V (m, k) under top."""
    k = V.shape[1]
    R = qr(np.vstack([top.reshape(-1, k), V]), mode="r", check_finite=False)[0]
    R = np.atleast_2d(R)[: min(len(R), k)]
    return R * np.where(R.diagonal() < 0, -1.0, 1.0)[:, None]


def column_basis(top: np.ndarray, n: int, invariance: str) -> Basis:
    """Return the basis of a term's columns from their triangular factor; see `scale_columns`."""
    rms = np.sqrt(np.einsum("ij,ij->j", top, top) / n)
    rms[rms == 0] = 1.0
    if invariance == "scalar" and len(rms):
        rms[:] = np.sqrt((rms**2).mean())
    k, unit = top.shape[1], top / rms / np.sqrt(n)
    dependent = len(top) < k or (np.abs(unit.diagonal()) <= ALIASED).any()
    if invariance != "triangular" or k < 2 or dependent:
        return Basis(np.diag(rms))
    return Basis(top / np.sqrt(n))


def _added(a: CrossProducts, b: CrossProducts) -> CrossProducts:
    """Return the cross-products of the rows of both."""
    return CrossProducts(
        a.layout,
        tuple(x + y for x, y in zip(a.diagonal, b.diagonal, strict=True)),
        {key: _merged(a.pairs[key], b.pairs[key], a.layout.n_levels[key[1]]) for key in a.pairs},
        a.ZtX + b.ZtX,
        a.Zty + b.Zty,
        a.XtX + b.XtX,
        a.Xty + b.Xty,
        a.yty + b.yty,
        a.n + b.n,
    )


def _merged(a: Pairs, b: Pairs, n_cols: int) -> Pairs:
    """Return the pairs of levels that occur in either, with the sums of their blocks."""
    key = np.concatenate([pair.rows.astype(np.int64) * n_cols + pair.cols for pair in (a, b)])
    unique, place = np.unique(key, return_inverse=True)
    blocks = np.zeros((len(unique), *a.blocks.shape[1:]))
    blocks[place[: len(a.rows)]] = a.blocks
    blocks[place[len(a.rows) :]] += b.blocks
    return Pairs(unique // n_cols, unique % n_cols, blocks)
