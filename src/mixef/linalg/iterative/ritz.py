"""The smallest eigenvalues of E, by a block of vectors that polynomials of E filter."""

from __future__ import annotations

import numpy as np

from mixef.linalg.iterative.graph import by_width
from mixef.linalg.iterative.lanczos import run
from mixef.linalg.iterative.scaled import Scaled

# Degree of the polynomial that a round filters with.
DEGREE = 8


def smallest(
    scaled: Scaled, V: np.ndarray, rounds: int, upper: float
) -> tuple[np.ndarray, np.ndarray]:
    """Improve a block of vectors V (l_2, k) towards the eigenvectors of the smallest eigenvalues.

    Parameters
    ----------
    rounds : int
        How often they are filtered.
    upper : float
        Above all eigenvalues of E.

    Returns
    -------
    e : ndarray (k,)
        Ritz values, ascending; each is above the eigenvalue that it stands for.
    Q : ndarray (l_2, k)
        Ritz vectors, orthonormal.

    References
    ----------
    Y. Zhou, Y. Saad, M. L. Tiago and J. R. Chelikowsky (2006), Journal of Computational Physics
    219, 172-184.
    """
    e, Q = _rayleigh_ritz(scaled, V)
    for _ in range(rounds):
        e, Q = _rayleigh_ritz(scaled, _filtered(scaled, Q, e, upper))
    return e, Q


def _rayleigh_ritz(scaled: Scaled, V: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    Q = np.linalg.qr(V)[0]
    H = Q.T @ _E_times(scaled, Q)
    e, turn = np.linalg.eigh(0.5 * (H + H.T))
    return e, Q @ turn


def _filtered(scaled: Scaled, Q: np.ndarray, e: np.ndarray, upper: float) -> np.ndarray:
    """Return ``p(E) Q`` for the Chebyshev polynomial p that is small between e_k and ``upper``.

    It is scaled to one at e_1, the smallest eigenvalue, where it is largest.
    """
    lower, least = float(e[-1]), float(e[0])
    half, centre = 0.5 * max(upper - lower, 1e-8), 0.5 * (upper + lower)
    ratio = first = half / min(least - centre, -half)
    before, now = Q, (_E_times(scaled, Q, single=True) - centre * Q) * (ratio / half)
    for _ in range(DEGREE - 1):
        following = 1.0 / (2.0 / first - ratio)
        after = (_E_times(scaled, now, single=True) - centre * now) * (2.0 * following / half)
        after -= ratio * following * before
        before, now, ratio = now, after, following
    return now


def _E_times(scaled: Scaled, V: np.ndarray, single: bool = False) -> np.ndarray:
    parts = [scaled.E_times(block, single) for block in by_width(V)]
    return np.concatenate(parts, axis=1)[:, : V.shape[1]]


def upper_bound(scaled: Scaled, Z: np.ndarray, steps: int) -> float:
    """Return what is above all eigenvalues of E, from Lanczos runs from some random vectors.

    References
    ----------
    Y. Zhou and R.-C. Li (2011), Linear Algebra and its Applications 435, 480-493.
    """
    _, T, _, _ = run(scaled, Z, steps, single=True)
    return float(np.linalg.eigvalsh(T)[:, -1].max() + T[:, -1, -2].max())
