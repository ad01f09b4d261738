"""Well-scaled versions of X, y and Z, and the way back to the user's scale.

The search works on ``X T_x``, ``(y - X beta_0) / s_y`` and ``z_i T_i``, with upper triangular T,
so that neither a badly scaled nor a badly centred column costs digits, and so that a change
of the user's units changes nothing but the units of the results.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import reduce
from math import sqrt

import numpy as np
from scipy.linalg import qr
from scipy.linalg.blas import dtrsm

from mixef.errors import DataError
from mixef.linalg import small
from mixef.linalg.rows import RowPieces, as_pieces

# R's tolerance for a column that is a combination of earlier ones: what is left of the column
# beside what it was, here after its mean where the model has an intercept.
ALIASED = 1e-7
# What rounding leaves of a column that is an exact combination, beside the raw column.
ROUNDING = 1e-12
# A Gram matrix of unit columns whose Cholesky pivots stay above this is safe to work with.
SAFE_PIVOT = 1e-3


def triangle(V: np.ndarray, safe: float | np.ndarray = SAFE_PIVOT) -> tuple[np.ndarray, np.ndarray]:
    """Return what columns V (n, k) are but for a rotation, and their sums of squares.

    By their Gram matrix, where that keeps enough digits, else by an orthogonal factorization.

    Parameters
    ----------
    safe : float or ndarray (k,)
        What is left of a column of unit length beside those before, at least, for the first.

    Returns
    -------
    R : ndarray (min(n, k), k)
        ``R'R = V'V``: upper triangular, its diagonal not negative.
    squares : ndarray (k,)
    """
    n, k = V.shape
    gram = V.T @ V
    squares = gram.diagonal()
    norms = np.sqrt(squares)
    if k <= 1:
        return (norms * small.identity(k))[:n], squares
    unit = norms if all(squares.tolist()) else np.where(norms > 0.0, norms, 1.0)
    gram = gram / (unit[:, None] * unit)
    if unit is not norms:
        np.fill_diagonal(gram, 1.0)
    try:
        R = small.root(gram)
        if n >= k and (R.diagonal() > safe).all():
            return R * norms, squares
    except np.linalg.LinAlgError:
        pass
    # What cannot be squared is refused by name.
    return (orthogonal(V) if np.isfinite(norms).all() else np.diag(norms)[:n]), squares


def orthogonal(V: np.ndarray) -> np.ndarray:
    """Return R (min(n, k), k) of `triangle` by an orthogonal factorization."""
    R = np.atleast_2d(qr(V, mode="r", check_finite=False)[0])[: V.shape[1]]
    return R * np.where(R.diagonal() < 0.0, -1.0, 1.0)[:, None]


def stacked(top: np.ndarray, more: np.ndarray) -> np.ndarray:
    """Return the triangle (min(n, k), k) of rows (m, k) under a triangle (r, k)."""
    return orthogonal(np.vstack([top, more]))


def triangular_basis(V: np.ndarray | RowPieces) -> np.ndarray:
    """Return the upper triangular R (k, k) of ``V = Q R`` with ``Q'Q = I``.

    Columns must be independent. Each piece is stacked under the factor of those before, which is as
    exact as one orthogonal factorization of all.
    """
    return reduce(stacked, (triangle(piece)[0] for _, piece in as_pieces(V)))


def independent_columns(V: np.ndarray | RowPieces, tolerance: float = ALIASED) -> np.ndarray:
    """Return the indices of the columns that are not combinations of earlier ones, as R does.

    Parameters
    ----------
    V : ndarray (n, p), or RowPieces
    tolerance : float
        What has to be left of a column beside what it was, after its mean.
    """
    return independent_of(triangular_basis(V), tolerance)


def independent_of(R: np.ndarray, tolerance: float = ALIASED) -> np.ndarray:
    """Return what `independent_columns` does, for a triangle (r, p) of the columns.

    Its columns lie to each other as those of the matrix do.
    """
    p, norms = R.shape[1], np.sqrt(np.einsum("ij,ij->j", R, R))
    if len(R) == p and (R.diagonal() > SAFE_PIVOT * norms).all():
        return np.arange(p)
    return _independent_by_projection(R / np.where(norms > 0.0, norms, 1.0), norms, tolerance)


def _independent_by_projection(X: np.ndarray, norms: np.ndarray, tolerance: float) -> np.ndarray:
    """Take columns X of unit length, or of zero norm, in turn."""
    n, p = X.shape
    basis = np.empty((n, min(n, p)), order="F")
    kept: list[int] = []
    for j in range(p):
        k = len(kept)
        if norms[j] == 0 or k == n:
            continue
        residual = X[:, j]
        centred = 1.0
        for repeat in range(2):  # a second pass makes up for the first one's cancellation
            if k:
                residual = residual - basis[:, :1] @ (basis[:, :1].T @ residual)
                centred = float(np.linalg.norm(residual)) if repeat == 0 else centred
                residual = residual - basis[:, 1:k] @ (basis[:, 1:k].T @ residual)
        left = np.linalg.norm(residual)
        if left > max(tolerance * min(centred, 1.0), ROUNDING):
            basis[:, k] = residual / left
            kept.append(j)
    return np.array(kept, dtype=int)


@dataclass(frozen=True)
class Basis:
    """Scaled columns as ``raw @ inverse(R)``."""

    R: np.ndarray  # (k, k): ``raw = scaled @ R``

    def turned(self, V: np.ndarray) -> Basis:
        """Return the basis ``scaled @ V`` for an orthogonal V (k, k)."""
        return Basis(V.T @ self.R)

    def scaled(self, raw: np.ndarray) -> np.ndarray:
        """Return the scaled columns (n, k) of raw ones."""
        return small.solve(self.R.T, raw.T).T

    def back(self, coefficients: np.ndarray) -> np.ndarray:
        """Turn coefficients (k,) or (k, m) of the scaled columns into those of the raw ones."""
        if coefficients.size == 0:
            return coefficients
        return small.solve(self.R, coefficients)


def orthonormal_columns(X: np.ndarray) -> tuple[np.ndarray, Basis]:
    """Return independent columns X (n, p) as a basis with ``Q'Q = n I``, and the way back."""
    n, p = X.shape
    if p == 0:
        return X, Basis(np.zeros((0, 0)))
    R = triangular_basis(X) / sqrt(n)
    return RowPieces(X, R=R).whole(), Basis(R)


def reweighted_columns(Q: np.ndarray, root: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return ``Q R^-1`` (n, p), in the place of independent columns Q, and R (p, p).

    Times the square root of the weights (n,) they are orthonormal as in `orthonormal_columns`.
    """
    n, p = Q.shape
    if p == 0:
        return Q, np.zeros((0, 0))
    R = triangular_basis(RowPieces(Q, root)) / sqrt(n)
    return dtrsm(1.0, R, Q, side=1, overwrite_b=1), R


def scale_columns(V: np.ndarray, invariance: str) -> tuple[np.ndarray, Basis]:
    """Scale columns to unit mean square, as far as a structure's invariance allows.

    Parameters
    ----------
    V : ndarray (n, k)
        Columns with the square root of the weights multiplied in.
    invariance : {"triangular", "diagonal", "scalar"}
    """
    R, squares = triangle(V)
    basis = column_basis(R, len(V), invariance, squares)
    R, rms = basis.R, basis.R.diagonal()
    if np.count_nonzero(R) == len(rms):
        return V / rms, basis
    return RowPieces(V, R=R).whole(), basis


def column_basis(
    R: np.ndarray, n: int, invariance: str, squares: np.ndarray | None = None
) -> Basis:
    """Return the basis that `scale_columns` scales columns (n, k) to, from their `triangle`."""
    k = R.shape[1]
    squares = np.einsum("ij,ij->j", R, R) if squares is None else squares
    rms = np.sqrt(squares / max(n, 1))
    rms[rms == 0.0] = 1.0
    if invariance == "scalar" and k:
        rms[:] = np.sqrt((rms**2).mean())
    if invariance != "triangular" or k < 2 or len(independent_of(R)) < k:
        return Basis(np.diag(rms))
    return Basis(R / sqrt(n))


@dataclass(frozen=True)
class ResponseScale:
    """How the response was scaled: ``scaled = (raw - X beta0) / scale``."""

    beta0: np.ndarray  # (p,): least-squares coefficients of the scaled columns of X
    scale: float


def nothing_left(name: str) -> DataError:
    """Return the error for a response without variance."""
    return DataError(
        f"the response {name} leaves nothing to explain: it is constant, or the fixed effects "
        "fit it exactly, so no variance can be estimated; check the response and the formula"
    )


def root_weighted(columns: np.ndarray, weights: np.ndarray | None) -> np.ndarray:
    """Multiply rows of (n,) or (n, k) by the square root of the weights (n,)."""
    if weights is None:
        return columns
    root = np.sqrt(weights)
    scaled: np.ndarray = columns * (root if columns.ndim == 1 else root[:, None])
    return scaled


def weighted_pieces(X: np.ndarray, weights: np.ndarray | None) -> RowPieces:
    """Return what `root_weighted` does to columns (n, k), some rows at a time."""
    return RowPieces(X, None if weights is None else np.sqrt(weights))
