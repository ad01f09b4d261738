"""Scaled columns that are formed some rows at a time, so that no second copy of them is held."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
from scipy.linalg import qr
from scipy.linalg.blas import dtrsm

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
    kept : ndarray of int (p,), optional
        Which columns of a larger X these are.

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
        kept: np.ndarray | None = None,
    ):
        if kept is not None and len(kept) == X.shape[1]:
            kept = None
        self._X, self._root, self._R, self._kept = X, root, R, kept
        self.shape = n, p = len(X), X.shape[1] if kept is None else len(kept)
        cells = min(max(n * p // PIECES, LEAST), MOST)
        self._step = max(cells // max(p, 1), 2 * p, 1)
        self._held = self._piece(slice(0, n)) if n <= self._step or p <= FEW else None

    def __iter__(self) -> Iterator[tuple[slice, np.ndarray]]:
        """Yield which rows, and the columns on them."""
        n = self.shape[0]
        if self._held is not None:
            yield slice(0, n), self._held
            return
        for start in range(0, n, self._step):
            rows = slice(start, min(start + self._step, n))
            yield rows, self._piece(rows)

    def over(self, R: np.ndarray) -> RowPieces:
        """Return these columns times ``R^-1``, for columns that are not scaled yet."""
        if self._held is not None:
            return RowPieces(self._held, R=R)
        return RowPieces(self._X, self._root, R, self._kept)

    def weighted(self, root: np.ndarray) -> RowPieces:
        """Return these columns times the square root of the weights, for columns as they are."""
        if self._held is not None:
            return RowPieces(self._held, root)
        return RowPieces(self._X, root, None, self._kept)

    def whole(self) -> np.ndarray:
        """Return all rows in one array (n, p)."""
        if self._held is not None:
            return self._held
        out = np.empty(self.shape, order="F")
        for rows, piece in self:
            out[rows] = piece
        return out

    def gram(self) -> np.ndarray:
        """Return the cross-products (p, p)."""
        gram: np.ndarray = sum(piece.T @ piece for _, piece in self)
        return gram

    def triangle(self, norms: np.ndarray) -> np.ndarray:
        """Return the triangular factor (min(n, p), p) of the columns over their norms (p,).

        Each piece is stacked under the factor of those before, which is as exact as one
        orthogonal factorization of all.
        """
        p = self.shape[1]
        R = np.zeros((0, p))
        for _, piece in self:
            stacked = np.vstack([R, piece / norms])
            R = qr(stacked, mode="r", overwrite_a=True, check_finite=False)[0]
            R = np.atleast_2d(R)[: min(len(R), p)]
        return R

    def times(self, coefficients: np.ndarray) -> np.ndarray:
        """Return the product (n,) with coefficients (p,)."""
        return np.concatenate([piece @ coefficients for _, piece in self])

    def transposed_times(self, v: np.ndarray) -> np.ndarray:
        """Return the product (p,) of the transpose with v (n,)."""
        product: np.ndarray = sum(piece.T @ v[rows] for rows, piece in self)
        return product

    def _piece(self, rows: slice) -> np.ndarray:
        piece = self._X[rows] if self._kept is None else self._X[rows, self._kept]
        if self._root is not None:
            piece = piece * self._root[rows, None]
        return piece if self._R is None else dtrsm(1.0, self._R, piece, side=1)


def as_pieces(X: np.ndarray | RowPieces) -> RowPieces:
    """Return columns as pieces, whichever they are."""
    return X if isinstance(X, RowPieces) else RowPieces(X)
