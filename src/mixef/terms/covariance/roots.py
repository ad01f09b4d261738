"""Lower triangular roots of covariances, and theta's order: each triangle, column by column."""

from __future__ import annotations

from functools import lru_cache

import numpy as np
from scipy.linalg.lapack import dgeqrf


@lru_cache(maxsize=64)
def lower_triangle(size: int) -> tuple[np.ndarray, np.ndarray]:
    """Return rows and columns of a lower triangle, column by column: theta's order."""
    col, row = np.triu_indices(size)
    return row, col


@lru_cache(maxsize=64)
def unit_triangles(size: int) -> np.ndarray:
    """Return the matrices (k, s, s), not to be changed, with one of those entries 1."""
    row, col = lower_triangle(size)
    out = np.zeros((len(row), size, size))
    out[np.arange(len(row)), row, col] = 1.0
    out.flags.writeable = False
    return out


@lru_cache(maxsize=64)
def _lower_half(size: int) -> np.ndarray:
    """Return ones on and below the diagonal (s, s), zeros above."""
    return np.tril(np.ones((size, size)))


@lru_cache(maxsize=64)
def _above(size: int) -> tuple[np.ndarray, ...]:
    """Return rows and columns of the entries above the diagonal."""
    return np.triu_indices(size, 1)


def theta_of(lam: np.ndarray) -> np.ndarray:
    """Return lme4's theta of one template: its lower triangle, column by column."""
    theta: np.ndarray = lam[lower_triangle(lam.shape[0])]
    return theta


def psd_cholesky(half: np.ndarray, floor: float = 0.0) -> np.ndarray:
    """Return the lower Cholesky factor of ``half half'``, which may be singular.

    A vanishing pivot gives a zero column, so that the free entries of that column reach every
    direction that the singular matrix lacks. Factors that are clearly nonsingular come from a
    QR decomposition, which does not square the condition number.

    Parameters
    ----------
    half : ndarray (s, s)
    floor : float
        A diagonal entry up to this counts as zero.
    """
    size = half.shape[0]
    if size == 1:
        return np.abs(half) if abs(half[0, 0]) > floor else np.zeros((1, 1))
    # LAPACK itself: NumPy's routine takes several times as long around it
    above = half[_above(size)].any()
    root = dgeqrf(half.T)[0].T * _lower_half(size) if above else half
    diagonal, norms = root.diagonal(), np.sqrt((half * half).sum(axis=1))
    if (np.abs(diagonal) > np.maximum(1e-6 * norms, floor)).all():
        lam: np.ndarray = root * np.sign(diagonal)
        return lam
    remainder = half @ half.T
    scale = remainder.diagonal().copy()
    lam = np.zeros((size, size))
    for j in range(size):
        if remainder[j, j] > max(1e-14 * scale[j], floor**2):
            lam[j:, j] = remainder[j:, j] / np.sqrt(remainder[j, j])
            remainder[j:, j:] -= np.outer(lam[j:, j], lam[j:, j])
    return lam


def psd_choleskys(half: np.ndarray, floor: float = 0.0) -> np.ndarray:
    """Return `psd_cholesky` of every one of (m, s, s)."""
    if half.shape[1] == 1:
        return np.where(np.abs(half) > floor, np.abs(half), 0.0)
    R = np.linalg.qr(half.transpose(0, 2, 1), mode="r")
    diagonal = np.diagonal(R, axis1=1, axis2=2)
    norms = np.sqrt((half**2).sum(axis=2))
    fine = (np.abs(diagonal) > np.maximum(1e-6 * norms, floor)) & (norms > 0)
    out: np.ndarray = (R * np.sign(diagonal)[:, :, None]).transpose(0, 2, 1)
    for i in np.flatnonzero(~fine.all(axis=1)):
        out[i] = psd_cholesky(half[i], floor)
    return out
