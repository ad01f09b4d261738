"""Residuals and conditional modes of data that the model draws, its parameters held.

They are those of the fit as a least-squares problem with the covariance parameters held: exactly so
in a linear model, at the working weights in a generalized one. For draws ``y = v u + e`` with u and
e standard normal they are ``P y`` and ``M^-1 Lambda'Z'(y - X beta-hat)``, whatever beta is.
"""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
from scipy import sparse

from mixef.estimation.linear.pls import solve_upper
from mixef.inference.influence.linearized import Linearized
from mixef.linalg.threads import one_blas_thread

# Numbers that are worked on at a time.
CELLS = 4_000_000


def held_draws(
    at: Linearized, m: int, rng: np.random.Generator
) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    """Yield residuals (n, k) and spherical effects (q, k) of m draws, k of them at a time.

    Both are in standard deviations, `Linearized.unit`; residuals times the roots of the weights.
    """
    factor, layout = at.factor, at.factor.layout
    Z = sparse.hstack([_columns(g.z, g.codes, g.n_levels) for g in at.groups], format="csr")
    n, q = Z.shape
    size = max(CELLS // (n + q), 1)
    for start in range(0, m, size):
        k = min(size, m - start)
        y = Z @ layout.multiply(at.lams, rng.standard_normal((q, k)))
        y += rng.standard_normal((n, k))
        if at.p:
            y -= at.Q @ solve_upper(at.RX, at.j.T @ y)
        with one_blas_thread():
            Uty = layout.multiply(at.lams, Z.T @ y, transpose=True)
            u = factor.solve_Lt(factor.solve_L(Uty))
        yield y - Z @ layout.multiply(at.lams, u), u


def _columns(z: np.ndarray, codes: np.ndarray, n_levels: int) -> sparse.csr_array:
    """Return a grouping factor's part of Z (n, l s), effects level by level."""
    n, s = z.shape
    index = codes[:, None] * s + np.arange(s)
    start = np.arange(0, n * s + 1, s)
    return sparse.csr_array((z.ravel(), index.ravel(), start), shape=(n, n_levels * s))
