"""Small matrices: many at once, or one without a detour.

For many, it is one operation on an entry of all of them: NumPy's own routines go from matrix to
matrix, which for two or three columns a level costs more than the arithmetic. Wider matrices are
left to them. For one, LAPACK itself takes a fifth of the time of NumPy's routines around it.
"""

from __future__ import annotations

from functools import lru_cache
from math import isfinite

import numpy as np
from scipy.linalg.lapack import dgesdd, dgesv, dpotrf, dsyevd, dtrtri

# Matrices up to this order are worked on entry by entry.
NARROW = 4
# Products of so few matrices are left to NumPy, and those of wider ones than two columns.
FEW = 200


def cholesky(M: np.ndarray) -> np.ndarray:
    """Return the lower Cholesky factors of matrices (l, s, s).

    Raises
    ------
    LinAlgError
        If a matrix is not positive definite.
    """
    s = M.shape[1]
    if s > NARROW:
        return np.linalg.cholesky(M)
    if s == 1:
        if not np.minimum.reduce(M, axis=None, initial=np.inf) > 0.0:
            raise np.linalg.LinAlgError("a matrix is not positive definite")
        roots: np.ndarray = np.sqrt(M)
        return roots
    C = np.zeros(M.shape)
    for j in range(s):
        for i in range(j, s):
            entry = M[:, i, j]
            for b in range(j):
                entry = entry - C[:, i, b] * C[:, j, b]
            if i > j:
                np.divide(entry, C[:, j, j], out=C[:, i, j])
            elif not np.minimum.reduce(entry, initial=np.inf) > 0.0:
                raise np.linalg.LinAlgError("a matrix is not positive definite")
            else:
                np.sqrt(entry, out=C[:, j, j])
    return C


def inverse_lower(C: np.ndarray) -> np.ndarray:
    """Return the inverses of lower triangular matrices (l, s, s)."""
    s = C.shape[1]
    if s > NARROW:
        return np.tril(np.linalg.inv(C))
    if s == 1:
        return 1.0 / C
    X = np.zeros(C.shape)
    for i in range(s):
        own = X[:, i, i]
        np.divide(1.0, C[:, i, i], out=own)
        for j in range(i):
            entry = C[:, i, j] * X[:, j, j]
            for b in range(j + 1, i):
                entry += C[:, i, b] * X[:, b, j]
            np.multiply(entry, -own, out=X[:, i, j])
    return X


def times(A: np.ndarray, B: np.ndarray) -> np.ndarray:
    """Return the products (l, r, k) of matrices (l, r, s) and (l, s, k)."""
    s = A.shape[2]
    if s == 1:
        scaled: np.ndarray = A * B
        return scaled
    if s != 2 or len(A) <= FEW:
        product: np.ndarray = A @ B
        return product
    out = np.empty((len(A), A.shape[1], B.shape[2]))
    for i, j in np.ndindex(out.shape[1:]):
        np.multiply(A[:, i, 0], B[:, 0, j], out=out[:, i, j])
        out[:, i, j] += A[:, i, 1] * B[:, 1, j]
    return out


def solve(A: np.ndarray, rhs: np.ndarray) -> np.ndarray:
    """Solve with one matrix (s, s), for (s,) or (s, k).

    Raises
    ------
    LinAlgError
        If the matrix is singular.
    """
    _, _, x, info = dgesv(A, rhs)
    if info:
        raise np.linalg.LinAlgError("the matrix is singular")
    solution: np.ndarray = x.reshape(rhs.shape)
    return solution


def root(H: np.ndarray) -> np.ndarray:
    """Return the upper triangular R (s, s) of one positive definite ``H = R'R``.

    Raises
    ------
    LinAlgError
        If it is not positive definite.
    """
    R, info = dpotrf(H)
    if info:
        raise np.linalg.LinAlgError("the matrix is not positive definite")
    upper: np.ndarray = R
    return upper


def least_squares(H: np.ndarray, rhs: np.ndarray, rcond: float) -> np.ndarray:
    """Return the shortest x (s,) with the smallest ``|H x - rhs|``, for one symmetric H (s, s).

    Eigenvalues below ``rcond`` times the largest count as zero.
    """
    values, vectors = eigh(H)
    size = np.abs(values)
    kept = size > rcond * size.max(initial=0.0)
    vectors = vectors[:, kept]
    x: np.ndarray = vectors @ ((rhs @ vectors) / values[kept])
    return x


def inverse_upper(R: np.ndarray) -> np.ndarray:
    """Return the inverse of one upper triangular matrix (s, s).

    Raises
    ------
    LinAlgError
        If it is singular.
    """
    if not len(R):  # which LAPACK does not take
        return R.copy()
    inverse, info = dtrtri(R)
    if info:
        raise np.linalg.LinAlgError("the matrix is singular")
    upper: np.ndarray = inverse
    return upper


def inverse(A: np.ndarray) -> np.ndarray:
    """Return the inverse of one matrix (s, s).

    Raises
    ------
    LinAlgError
        If it is singular.
    """
    return solve(A, identity(len(A)))


@lru_cache(maxsize=64)
def identity(s: int) -> np.ndarray:
    """Return the identity (s, s), not to be changed."""
    eye = np.eye(s)
    eye.flags.writeable = False
    return eye


def singular_values(A: np.ndarray) -> np.ndarray:
    """Return the singular values (s,) of one matrix, the largest first."""
    if len(A) == 1:
        return np.asarray(np.abs(A[0]))
    _, values, _, info = dgesdd(A, compute_uv=0)
    if info:
        raise np.linalg.LinAlgError("the singular values were not found")
    found: np.ndarray = values
    return found


def eigh(H: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return the eigenvalues (s,), in rising order, and the eigenvectors (s, s) of one matrix.

    Raises
    ------
    LinAlgError
        If they cannot be found, as with entries that are not finite.
    """
    values, vectors, info = dsyevd(H, lower=1)
    if info or not isfinite(np.add.reduce(values)):
        raise np.linalg.LinAlgError("the eigenvalues were not found")
    return values, vectors
