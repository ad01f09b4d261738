"""Which linear functions a rank-deficient design says anything about.

A row l is estimable if it is a combination of rows of X, that is if ``l'N = 0`` for a basis N of
what X maps to zero (S. R. Searle, 1971, Linear Models, section 5.4).
"""

from __future__ import annotations

from weakref import WeakKeyDictionary

import numpy as np

from mixef.estimation.fit import Fit
from mixef.inference.over_rows import row_triangle

# What is left of ``l'N`` beside the sizes of its summands that is rounding.
ROUNDING = 1e-8
_BASES: WeakKeyDictionary[Fit, np.ndarray] = WeakKeyDictionary()


def null_basis(fit: Fit) -> np.ndarray:
    """Return N (P, d): how each column that was dropped is made of those that were kept."""
    if fit not in _BASES:
        kept, P = fit.kept, len(fit.design.names)
        dropped = np.setdiff1d(np.arange(P), kept)
        N = np.zeros((P, len(dropped)))
        if len(dropped):
            R = row_triangle(fit, lambda rows: rows.design.matrix)
            X, y = R[:, kept], R[:, dropped]
            size = np.sqrt(np.einsum("ij,ij->j", X, X))
            made = np.linalg.lstsq(X / size, y, rcond=None)[0]
            made[np.abs(made) <= ROUNDING * np.sqrt(np.einsum("ij,ij->j", y, y))] = 0.0
            N[kept], N[dropped, np.arange(len(dropped))] = made / size[:, None], -1.0
        _BASES[fit] = N
    return _BASES[fit]


def outside(fit: Fit, L: np.ndarray) -> np.ndarray:
    """Return ``L N`` (m, d) for rows L (m, P), with rounding taken for zero."""
    N = null_basis(fit)
    with np.errstate(invalid="ignore"):
        lost = L @ N
        return np.where(np.abs(lost) <= ROUNDING * (np.abs(L) @ np.abs(N)), 0.0, lost)


def estimable(fit: Fit, L: np.ndarray) -> np.ndarray:
    """Return which rows (m,) of L (m, P) are estimable."""
    known: np.ndarray = ~outside(fit, L).any(axis=1) & np.isfinite(L).all(axis=1)
    return known


def estimable_combinations(fit: Fit, L: np.ndarray) -> np.ndarray:
    """Return K (q, m), for which ``K L`` is all that is estimable of rows L (m, P).

    Rows that are estimable stay what they are.
    """
    finite = np.isfinite(L).all(axis=1)
    lost = outside(fit, np.where(finite[:, None], L, 0.0))
    unknown = np.flatnonzero(lost.any(axis=1))
    K = np.eye(len(L))[finite & ~lost.any(axis=1)]
    if not len(unknown):
        return K
    U, S, _ = np.linalg.svd(lost[unknown], full_matrices=True)
    rank = int((ROUNDING * S.max(initial=0.0) < S).sum())
    combined = np.zeros((len(unknown) - rank, len(L)))
    combined[:, unknown] = U[:, rank:].T
    return np.vstack([K, combined])
