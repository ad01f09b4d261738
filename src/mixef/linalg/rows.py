"""Rows of ``[Z X y]``: in memory, or from a source that yields some at a time."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from functools import cached_property

import numpy as np
from scipy import sparse
from scipy.linalg.blas import dtrsm

from mixef.linalg.layout import ByLevel, Layout

# A large matrix is worked on in about so many pieces, of so many cells at least and at most: far
# below its own size, and large beside what one piece costs whatever its rows.
PIECES = 32
LEAST, MOST = 100_000, 2_000_000
# So few columns are no more than the data are in any case: they are one piece.
FEW = 8


class RowPieces:
    """The columns ``diag(root) X R^-1``, piece by piece; a small or narrow matrix is one, and held.

    Parameters
    ----------
    X : ndarray (n, p)
    root : ndarray (n,), optional
        Square root of the weights.
    R : ndarray (p, p), optional
        Upper triangular.

    Attributes
    ----------
    shape : tuple of int
        ``(n, p)``.

    Examples
    --------
    >>> pieces = RowPieces(np.array([[3.0], [4.0]]), R=np.array([[5.0]]))
    >>> [(rows, piece.round(12).tolist()) for rows, piece in pieces]
    [(slice(0, 2, None), [[0.6], [0.8]])]
    """

    def __init__(
        self,
        X: np.ndarray,
        root: np.ndarray | None = None,
        R: np.ndarray | None = None,
    ):
        self._X, self._root, self._R = X, root, R
        self.shape = n, p = X.shape
        self._held = self._piece(slice(0, n)) if p <= FEW or n <= self._step else None

    @property
    def _step(self) -> int:
        """Rows of a piece."""
        n, p = self.shape
        cells = min(max(n * p // PIECES, LEAST), MOST)
        rows: int = max(cells // max(p, 1), 2 * p, 1)
        return rows

    def __iter__(self) -> Iterator[tuple[slice, np.ndarray]]:
        """Yield which rows, and the columns on them."""
        n = self.shape[0]
        if self._held is not None:
            yield slice(0, n), self._held
            return
        step = self._step
        for start in range(0, n, step):
            rows = slice(start, min(start + step, n))
            yield rows, self._piece(rows)

    def whole(self) -> np.ndarray:
        """Return all rows in one array (n, p)."""
        if self._held is not None:
            return self._held
        out = np.empty(self.shape, order="F")
        for rows, piece in self:
            out[rows] = piece
        return out

    def _piece(self, rows: slice) -> np.ndarray:
        piece = self._X[rows]
        if self._root is not None:
            piece = piece * self._root[rows, None]
        return piece if self._R is None else dtrsm(1.0, self._R, piece, side=1)


def as_pieces(X: np.ndarray | RowPieces) -> RowPieces:
    """Return columns as pieces, whichever they are."""
    return X if isinstance(X, RowPieces) else RowPieces(X)


@dataclass(frozen=True)
class GroupDesign:
    """One grouping factor's part of Z."""

    codes: np.ndarray  # int (n,): level of each row
    n_levels: int
    z: np.ndarray  # (n, s): raw columns, multiplied by the square root of the weights
    name: str = ""  # its terms, for messages

    @cached_property
    def place(self) -> ByLevel:
        """Which level each row belongs to."""
        return ByLevel(self.codes, self.n_levels)

    def with_columns(self, z: np.ndarray) -> GroupDesign:
        """Return the same levels with other columns (n, s)."""
        new = object.__new__(type(self))
        new.__dict__.update(self.__dict__, z=z)
        return new


class RowPasses(ABC):
    """Rows of ``[Z X y]``, some at a time."""

    layout: Layout  # how the random effects are laid out
    n: int  # number of rows

    @abstractmethod
    def pieces(self) -> Iterator[Rows]:
        """Yield the rows, some at a time; their X is an array in one piece."""


class RowSource(RowPasses):
    """Rows as often as they are asked for, also all at once, and with other columns of Z."""

    #: The level of every row by each factor (n,), where `z_at` can be asked for; else None.
    levels: Sequence[np.ndarray] | None

    @property
    @abstractmethod
    def whole(self) -> Rows:
        """All rows at once, in memory."""

    def z_at(self, i: int, rows: np.ndarray) -> np.ndarray:
        """Return the columns (k, s_i) of a factor for some rows, by their positions (k,)."""
        raise NotImplementedError

    @abstractmethod
    def turned(self, axes: Sequence[np.ndarray]) -> RowSource:
        """Return the rows with the columns ``z_i V_i``, with one orthogonal V_i a block."""

    def residual_products(self, B: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Return ``Z'R`` (q, p + 1) and ``R'R``, with ``R = [X y] - Z B``."""
        k = B.shape[1]
        ZtR, RtR = np.zeros(B.shape), np.zeros((k, k))
        for piece in self.pieces():
            residual = piece.columns()
            for i, g in enumerate(piece.groups):
                residual -= np.einsum("ns,nsk->nk", g.z, self.layout.by_level(i, B)[g.codes])
            ZtR += piece.Zt_times(residual)
            RtR += residual.T @ residual
        return ZtR, RtR


@dataclass(frozen=True)
class Rows(RowSource):
    """The rows of ``[Z X y]`` in memory, multiplied by the square root of the weights."""

    groups: Sequence[GroupDesign]  # grouping factors, in the order of the layout
    X: np.ndarray | RowPieces  # (n, p), or RowPieces
    y: np.ndarray  # (n,)

    @cached_property
    def layout(self) -> Layout:  # type: ignore[override]
        """How the groups' random effects are laid out."""
        return layout_of(self.groups)

    @property
    def n(self) -> int:  # type: ignore[override]
        """Number of rows."""
        return len(self.y)

    @property
    def levels(self) -> list[np.ndarray]:  # type: ignore[override]
        """The level of every row by each factor (n,)."""
        return [g.codes for g in self.groups]

    @property
    def whole(self) -> Rows:
        """The rows themselves."""
        return self

    def z_at(self, i: int, rows: np.ndarray) -> np.ndarray:
        """Return the columns (k, s_i) of a factor for some rows."""
        z: np.ndarray = self.groups[i].z[rows]
        return z

    def pieces(self) -> Iterator[Rows]:
        """Yield the same, some rows at a time; their X is an array in one piece."""
        for rows, piece in as_pieces(self.X):
            groups = [GroupDesign(g.codes[rows], g.n_levels, g.z[rows]) for g in self.groups]
            yield Rows(groups, piece, self.y[rows])

    def columns(self) -> np.ndarray:
        """Return ``[X y]`` (n, p + 1)."""
        return np.column_stack([as_pieces(self.X).whole(), self.y])

    def turned(self, axes: Sequence[np.ndarray]) -> Rows:
        """Return the rows with the columns ``z_i V_i``."""
        pairs = zip(self.groups, axes, strict=True)
        return replace(self, groups=[g.with_columns(g.z @ V) for g, V in pairs])

    def Zt_times(self, v: np.ndarray) -> np.ndarray:
        """Return ``Z'v`` (q, k)."""
        return np.concatenate([rows_by_level(g, v) for g in self.groups])


def layout_of(groups: Sequence[GroupDesign]) -> Layout:
    """Return how the random effects of grouping factors are laid out."""
    names = tuple([g.name for g in groups])
    return Layout(
        tuple([g.n_levels for g in groups]),
        tuple([g.z.shape[1] for g in groups]),
        names if all(names) else (),
    )


def rows_by_level(g: GroupDesign, V: np.ndarray) -> np.ndarray:
    """``Z_i'V`` (l_i s_i, k) by a sparse product that needs no sorting of rows."""
    n, s = g.z.shape
    index = g.codes.astype(np.int32)[:, None] * s + np.arange(s, dtype=np.int32)
    start = np.arange(0, n * s + 1, s, dtype=np.int32)
    Z = sparse.csr_array((g.z.ravel(), index.ravel(), start), shape=(n, g.n_levels * s))
    product: np.ndarray = Z.T @ V
    return product
