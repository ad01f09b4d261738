"""Geometric means of two covariances of a cluster, which CR2 takes residuals by.

With V and ``S = V - X X'``, the symmetric A with ``A S A = V`` is (R. Bhatia, 2007, Positive
Definite Matrices, chapter 4)

    A = L P s^-1 P'L',      V = L L',      P s R' = L'L (I - K K')^{1/2},      K = L^-1 X,

whose singular values s are zero where the cluster alone determines a coefficient, and are left out.
It is also ``A = V (S V)^{-1/2}``, where ``S V = V^2 - X X'V`` and

    (S V)^{-1/2} = 2 / pi * integral over t > 0 of (V^2 + t^2 - X X'V)^-1,

which needs nothing but solves with ``V - it``, linear in the rows where V is diagonal but for a few
columns. With ``t = e^s`` the integrand is analytic for ``|Im s| < pi / 2`` and falls off like
``e^-|s|`` beyond the eigenvalues of V, so that sums over equal steps h are exact to about
``exp(-pi^2 / h)`` (L. N. Trefethen and J. A. C. Weideman, 2014, SIAM Review 56, 385-458).
"""

from __future__ import annotations

import numpy as np

# One minus a squared leverage below this is none: the cluster determines a coefficient by itself.
WHOLE = 1e-10
# Step of the integral, whose error is 5e-16, and how far beyond the eigenvalues it goes, e^-36.
STEP, BEYOND = 0.28, 36.0


def geometric_mean(V: np.ndarray, X: np.ndarray) -> np.ndarray:
    """Return A (b, r, r) with ``A S A = V``, where ``S = V - X X'``."""
    L = np.linalg.cholesky(V)
    Lt = L.transpose(0, 2, 1)
    U, k, _ = np.linalg.svd(np.linalg.solve(L, X), full_matrices=False)
    rest = 1.0 - k**2
    rest[rest < WHOLE] = 0.0
    LtU = Lt @ (L @ U)
    F = Lt @ L - (LtU * (1.0 - np.sqrt(rest))[:, None, :]) @ U.transpose(0, 2, 1)
    P, s, _ = np.linalg.svd(F)
    lost = (rest == 0.0).sum(axis=1)
    with np.errstate(divide="ignore"):
        inverse = 1.0 / s
    inverse[np.arange(s.shape[1]) >= (s.shape[1] - lost)[:, None]] = 0.0
    LP = L @ P
    return (LP * inverse[:, None, :]) @ LP.transpose(0, 2, 1)


def integrated(D: np.ndarray, Z: np.ndarray, X: np.ndarray, G: np.ndarray) -> np.ndarray | None:
    """Return ``A G`` (b, n, p) for ``V = diag(D) + Z Z'``, by the integral.

    None where a cluster determines a coefficient by itself.

    Parameters
    ----------
    D : ndarray (b, n)
    Z : ndarray (b, n, k)
    X, G : ndarray (b, n, p)
    """
    p, k = X.shape[2], Z.shape[2]
    Xt, Zt, both = X.transpose(0, 2, 1), Z.transpose(0, 2, 1), np.concatenate([G, X], axis=2)

    def solved(t: float) -> np.ndarray:
        """Return the real part of ``(V - it)^-1 [G X]``, which is ``V (V^2 + t^2)^-1 [G X]``."""
        d = (1.0 / (D - 1j * t))[:, :, None]
        half = d * both
        inner = np.eye(k) + Zt @ (d * Z)
        real: np.ndarray = (half - d * (Z @ np.linalg.solve(inner, Zt @ half))).real
        return real

    rest = 1.0 - np.linalg.eigvalsh(Xt @ solved(0.0)[:, :, p:])[:, -1].max(initial=0.0)
    if rest < WHOLE:
        return None
    least = D.min() * np.sqrt(rest)
    most = (D.max(axis=1) + np.einsum("bnk,bnk->b", Z, Z)).max()
    total = np.zeros_like(G)
    for s in np.arange(np.log(least) - BEYOND, np.log(most) + BEYOND, STEP):
        VN = solved(float(np.exp(s)))
        VNG, VNX = VN[:, :, :p], VN[:, :, p:]
        total += np.exp(s) * (VNG + VNX @ np.linalg.solve(np.eye(p) - Xt @ VNX, Xt @ VNG))
    return 2.0 / np.pi * STEP * total
