"""Conjugate gradients for ``B x = r``, on a block of right-hand sides."""

from __future__ import annotations

import numpy as np

from mixef.errors import FitError
from mixef.linalg.factor import not_positive_definite
from mixef.linalg.iterative.graph import WIDTH
from mixef.linalg.iterative.scaled import Scaled

# A graph that needs more steps than this is like a chain.
MOST_ITERATIONS = 2000


def solve_scaled(scaled: Scaled, R: np.ndarray, tol: float) -> np.ndarray:
    """Return ``B^-1 R`` for R (l_2, k); the scaling of B is Jacobi's preconditioner.

    Raises
    ------
    FitError
        If the residuals are not below ``tol`` of R after `MOST_ITERATIONS`, or B turns out not to
        be positive definite.
    """
    out = np.empty_like(R)
    for first in range(0, R.shape[1], WIDTH):
        block = slice(first, first + WIDTH)
        out[:, block] = _solve_block(scaled, R[:, block], tol)
    return out


def _solve_block(scaled: Scaled, R: np.ndarray, tol: float) -> np.ndarray:
    X = np.zeros_like(R)
    r, P = R.copy(), R.copy()
    rr = np.einsum("jk,jk->k", r, r)
    goal = tol * tol * rr
    for _ in range(MOST_ITERATIONS):
        going = rr > goal
        if not going.any():
            return X
        BP = P + scaled.E_times(P)
        curvature = np.where(going, np.einsum("jk,jk->k", P, BP), 1.0)
        if not bool((curvature > 0.0).all()):
            raise not_positive_definite()
        step = np.where(going, rr, 0.0) / curvature
        X += step * P
        r -= step * BP
        new = np.einsum("jk,jk->k", r, r)
        P *= np.where(going, new / np.where(going, rr, 1.0), 0.0)
        P += r
        rr = new
    raise FitError(
        f"conjugate gradients did not converge in {MOST_ITERATIONS} steps for "
        f"{scaled.names}: their pairs of levels form a graph like a chain, or weights differ "
        "by too many orders of magnitude. Use a direct factor: "
        'factor="cholmod" or factor="auto" (LmerControl, GlmerControl)'
    )
