"""Rows of ``[Z X y]``: in memory, or from a source that yields some at a time."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from functools import cached_property

import numpy as np
from scipy import sparse

from mixef.linalg.layout import Layout
from mixef.linalg.row_pieces import RowPieces, as_pieces


@dataclass(frozen=True)
class GroupDesign:
    """One grouping factor's part of Z."""

    codes: np.ndarray  # int (n,): level of each row
    n_levels: int
    z: np.ndarray  # (n, s): raw columns, multiplied by the square root of the weights
    name: str = ""  # its terms, for messages


class RowSource(ABC):
    """Rows of ``[Z X y]``, some at a time, as often as they are asked for.

    Attributes
    ----------
    layout : Layout
        How the random effects are laid out.
    """

    layout: Layout

    @abstractmethod
    def pieces(self) -> Iterator[Rows]:
        """Yield the rows, some at a time; their X is an array in one piece."""

    @abstractmethod
    def turned(self, axes: Sequence[np.ndarray]) -> RowSource:
        """Return the rows with the columns ``z_i V_i``, with one orthogonal V_i a block."""

    def rest_products(self, B: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Return ``Z'R`` (q, p + 1) and ``R'R``, with ``R = [X y] - Z B``."""
        k = B.shape[1]
        ZtR, RtR = np.zeros(B.shape), np.zeros((k, k))
        for piece in self.pieces():
            rest = piece.columns()
            for i, g in enumerate(piece.groups):
                rest -= np.einsum("ns,nsk->nk", g.z, self.layout.by_level(i, B)[g.codes])
            ZtR += piece.Zt_times(rest)
            RtR += rest.T @ rest
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
        return replace(self, groups=[replace(g, z=g.z @ V) for g, V in pairs])

    def Zt_times(self, v: np.ndarray) -> np.ndarray:
        """Return ``Z'v`` (q, k)."""
        return np.concatenate([_rows_by_level(g, v) for g in self.groups])


def layout_of(groups: Sequence[GroupDesign]) -> Layout:
    """Return how the random effects of grouping factors are laid out."""
    return Layout(
        tuple(g.n_levels for g in groups),
        tuple(g.z.shape[1] for g in groups),
        tuple(g.name for g in groups) if all(g.name for g in groups) else (),
    )


def _rows_by_level(g: GroupDesign, V: np.ndarray) -> np.ndarray:
    """``Z_i'V`` (l_i s_i, k) by a sparse product that needs no sorting of rows."""
    n, s = g.z.shape
    index = g.codes.astype(np.int32)[:, None] * s + np.arange(s, dtype=np.int32)
    start = np.arange(0, n * s + 1, s, dtype=np.int32)
    Z = sparse.csr_array((g.z.ravel(), index.ravel(), start), shape=(n, g.n_levels * s))
    product: np.ndarray = Z.T @ V
    return product
