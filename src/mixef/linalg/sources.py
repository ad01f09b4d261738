"""Where cross-products come from, other than from rows in memory: chunks of rows.

Two passes over the chunks are enough. The first stacks triangular factors of ``[X y]`` and of each
term's columns, which is as exact as one orthogonal factorization of all rows: they give the scaled
columns, and the least-squares fit of X to y. The second sums the products of the scaled columns.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from functools import cached_property

import numpy as np
from scipy.linalg import block_diag
from scipy.linalg.blas import dtrsm

from mixef.linalg import small
from mixef.linalg.layout import Layout
from mixef.linalg.rows import GroupDesign, Rows, RowSource
from mixef.linalg.standardize import (
    SAFE_PIVOT,
    Basis,
    ResponseScale,
    column_basis,
    independent_of,
    nothing_left,
    orthogonal,
    root_weighted,
    stacked,
    triangle,
)

# What the fixed effects leave of a response of unit length, at least, for a Gram matrix to tell:
# its scale is a unit, of which a few digits are enough.
SAFE_RESPONSE = 1e-5
# Mean squares beyond this, or below its inverse, may be too extreme to be squared once more.
EXTREME = 1e130
# A standard deviation below this share of a column's size is what rounding leaves of none.
CONSTANT = 1e-7


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


def sliced(chunk: Chunk, step: int) -> Iterator[Chunk]:
    """Yield the rows of a chunk, so many at a time; what all of them have goes with the first."""

    def part(values: np.ndarray | None) -> np.ndarray | None:
        return None if values is None else values[rows]

    for start in range(0, len(chunk.y), step):
        rows = slice(start, start + step)
        yield replace(
            chunk,
            X=chunk.X[rows],
            y=chunk.y[rows],
            z=tuple(z[rows] for z in chunk.z),
            codes=tuple(codes[rows] for codes in chunk.codes),
            weights=part(chunk.weights),
            offset=part(chunk.offset),
            copies=part(chunk.copies),
            within=part(chunk.within),
            n_rows=None if chunk.n_rows is None else 0 if start else chunk.n_rows,
            surplus=0.0 if start else chunk.surplus,
        )


class RowsInMemory(ABC):
    """What yields chunks of rows in memory, of which any can be had at any time."""

    codes: Sequence[np.ndarray]  # each int (n,): levels, one array a grouping factor

    @abstractmethod
    def __call__(self) -> Iterator[Chunk]:
        """Yield the chunks from the first on."""

    @abstractmethod
    def z(self, t: int, rows: np.ndarray) -> np.ndarray:
        """Return the columns (k, s_t) of a term, root-weighted, for some rows by position."""


@dataclass(frozen=True)
class ScaledChunks(RowSource):
    """The rows of scaled ``[Z X y]``, read from chunks as often as they are asked for."""

    chunks: Callable[[], Iterable[Chunk]]  # returns the chunks from the first on
    n: int
    layout: Layout  # how the random effects are laid out
    members: Sequence[list[int]]  # the terms of each grouping factor
    #: each (s_i, s_i): from raw columns to scaled ones, a grouping factor.
    z_back: tuple[np.ndarray, ...]
    x_basis: Basis
    y_scale: ResponseScale
    sum_log_w: float

    @property
    def levels(self) -> Sequence[np.ndarray] | None:  # type: ignore[override]
        """The level of every row by each factor (n,), of rows in memory."""
        return self.chunks.codes if isinstance(self.chunks, RowsInMemory) else None

    @cached_property
    def whole(self) -> Rows:
        """All rows at once, in memory."""
        pieces = list(self.pieces())
        if len(pieces) == 1:
            return pieces[0]
        groups = [
            replace(
                parts[0],
                codes=np.concatenate([part.codes for part in parts]),
                z=np.concatenate([part.z for part in parts]),
            )
            for parts in zip(*(piece.groups for piece in pieces), strict=True)
        ]
        columns = np.concatenate([piece.columns() for piece in pieces])
        return Rows(groups, columns[:, :-1], columns[:, -1])

    def pieces(self) -> Iterator[Rows]:
        """Yield the scaled rows, a chunk at a time."""
        for chunk in self.chunks():
            scale, weights = self.y_scale, chunk.weights
            Q, y = root_weighted(chunk.X, weights), root_weighted(chunk.y, weights)
            if Q.shape[1]:
                Q = dtrsm(1.0, self.x_basis.R, Q, side=1)
                y = y - Q @ scale.beta0
            z = [root_weighted(columns, weights) for columns in chunk.z]
            groups = [
                GroupDesign(codes, n_levels, self._scaled(i, [z[t] for t in members]), name)
                for i, (codes, n_levels, members, name) in enumerate(
                    zip(
                        chunk.codes,
                        self.layout.n_levels,
                        self.members,
                        self.layout.names,
                        strict=True,
                    )
                )
            ]
            yield Rows(groups, Q, y / scale.scale)

    def z_at(self, i: int, rows: np.ndarray) -> np.ndarray:
        """Return the columns (k, s_i) of a factor for some rows in memory."""
        assert isinstance(self.chunks, RowsInMemory)
        return self._scaled(i, [self.chunks.z(t, rows) for t in self.members[i]])

    def _scaled(self, i: int, z: Sequence[np.ndarray]) -> np.ndarray:
        """Return the scaled columns of a factor from the weighted ones of its terms."""
        columns, back = z[0] if len(z) == 1 else np.column_stack(z), self.z_back[i]
        scaled: np.ndarray = columns * back[0, 0] if len(back) == 1 else columns @ back
        return scaled

    def turned(self, axes: Sequence[np.ndarray]) -> ScaledChunks:
        """Return the rows with the columns ``z_i V_i``."""
        pairs = zip(self.z_back, axes, strict=True)
        return replace(self, z_back=tuple(back @ V for back, V in pairs))


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
    #: (K,): their largest absolute values, where the squares are extreme; any bound elsewhere.
    largest: np.ndarray

    @property
    def spread(self) -> np.ndarray:
        """The standard deviations (p,) of the columns of X; 0 where rounding leaves nothing."""
        R, n = self.tops[0][:, :-1], self.n
        columns = slice(1, 1 + R.shape[1])
        squares, mean = self.squares[columns], self.sums[columns] / n
        variance, least = squares - mean**2, CONSTANT
        if len(squares) and squares[0] == mean[0] == 1.0 and abs(R[0, 0] ** 2 - n) < 0.5:
            # Below the row of an intercept is what columns have beside their means.
            variance, least = np.einsum("ij,ij->j", R[1:], R[1:]) / n, CONSTANT**2
        return np.sqrt(np.where(variance > least**2 * squares, variance, 0.0))

    @property
    def n_effective(self) -> float:
        """Effective number of weighted rows (Kish, 1965): ``(sum w)^2 / sum w^2``."""
        w = self.tops[0].shape[1]
        return float(self.sums[w]) ** 2 / (self.n * float(self.squares[w]))

    @property
    def independent(self) -> np.ndarray:
        """The columns of X that are no combinations of earlier ones."""
        R = self.tops[0]
        return independent_of(R[: R.shape[1] - 1, :-1])

    def of(self, kept: np.ndarray) -> Scan:
        """Return the scan with some columns of X alone, as far as scaling needs it."""
        columns = self.tops[0][:, [*kept, -1]]
        if columns.shape == self.tops[0].shape:
            return self
        return replace(self, tops=[orthogonal(columns), *self.tops[1:]])


def scan(chunks: Iterable[Chunk]) -> Scan:
    """Read rows once, for what their columns are like."""
    n, sum_log_w = 0, 0.0
    tops: list[np.ndarray] = []
    sums = squares = largest = np.zeros(0)
    for chunk in chunks:
        weights, p = chunk.weights, chunk.X.shape[1]
        safe = np.full(p + 1, SAFE_PIVOT)
        safe[p] = SAFE_RESPONSE
        columns = [np.column_stack([chunk.X, chunk.y]), *chunk.z]
        own = [
            triangle(root_weighted(V, weights), SAFE_PIVOT if i else safe)
            for i, V in enumerate(columns)
        ]
        parts = [chunk.y[:, None], chunk.X, *chunk.z]
        if weights is not None:
            sum_log_w += float(np.log(weights).sum())
            parts.insert(2, weights[:, None])
            square = np.concatenate([np.einsum("ij,ij->j", V, V) for V in parts])
        else:
            square = np.concatenate([own[0][1][p:], own[0][1][:p], *(S for _, S in own[1:])])
        total = np.concatenate([V.sum(axis=0) for V in parts])
        most = np.zeros(len(square))
        if not ((square < EXTREME) & (square > 1.0 / EXTREME)).all():
            most = np.concatenate([np.abs(V).max(axis=0, initial=0.0) for V in parts])
        if n:
            tops = [stacked(top, R) for top, (R, _) in zip(tops, own, strict=True)]
            sums, squares, largest = sums + total, squares + square, np.maximum(largest, most)
        else:
            tops = [R for R, _ in own]
            sums, squares, largest = total, square, most
        n += len(chunk.y)
    if not n:
        raise ValueError("there are no rows in the chunks; expected some")
    return Scan(n, sum_log_w, tops, sums, squares / n, largest)


def scale_chunks(
    chunks: Callable[[], Iterable[Chunk]],
    known: Scan,
    n_levels: Sequence[int],
    members: Sequence[list[int]],
    invariances: Sequence[str],
    names: Sequence[str],
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
    names : sequence of str
        The terms of each grouping factor, for messages.

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
    inverses = [small.inverse_upper(basis.R) for basis in bases]
    back = [
        inverses[ts[0]] if len(ts) == 1 else block_diag(*(inverses[t] for t in ts))
        for ts in members
    ]
    layout = Layout(tuple(n_levels), tuple(map(len, back)), tuple(names))
    rows = ScaledChunks(chunks, n, layout, members, tuple(back), x_basis, y_scale, known.sum_log_w)
    return rows, bases
