"""The exact Hessian of the Laplace criterion for one grouping factor.

For parameters a and b, with the symbols of laplace.py and levels.py (subscripts are total
derivatives at the mode),

    Q = -2 log f + |u|^2:   Q_ab = -2 [eta_a' s_b + w'lam_a u_b]
    L = log|M|:             L_ab = tr(M^-1 M_ab) - tr(M^-1 M_a M^-1 M_b)

where M_ab holds second derivatives of weights, and the mode's second derivative enters through
the adjoint x of the gradient alone. Templates are linear in their parameters.
"""

from __future__ import annotations

import numpy as np

from mixef.estimation.levels import Levels, Movement
from mixef.estimation.pirls import Mode, WorkingModel
from mixef.estimation.response import RowSlopes


def laplace_hessian(
    model: WorkingModel,
    mode: Mode,
    levels: Levels,
    moved: Movement,
    extra: float,
    slopes: RowSlopes,
    h: np.ndarray,
    adjoint: np.ndarray,
    v: np.ndarray,
    lam: np.ndarray,
) -> np.ndarray:
    """Return the Hessian (K, K).

    Parameters
    ----------
    h : ndarray (n,)
        Diagonal of ``U M^-1 U'``.
    adjoint : ndarray (n,)
        ``U x``.
    v : ndarray (n,)
        ``c - W_o U x``.
    lam : ndarray (s, s)
    """
    z, dlam = model.designs[0].z, moved.dlam
    k, s = len(dlam), z.shape[1]
    second = model.response.second_slopes(mode.state, extra)
    w, t = levels.sums(z.T * mode.state.score), levels.sums(z.T * v)
    w_b = np.stack([levels.sums(z[:, a] * moved.score) for a in range(s)], axis=1)

    H = -2.0 * moved.direct @ moved.score.T
    H[:k] -= 2.0 * _pairing(dlam, w, moved.u)
    if slopes.by_extra is not None:
        H[-1] -= 2.0 * moved.eta @ slopes.by_extra.score
        H[-1, -1] -= 2.0 * second.log_density
    H = 0.5 * (H + H.T)

    # tr(M^-1 M_a M^-1 M_b) with M^-1 = CC' by level: vec(C'M_a C) = (C (x) C)' vec(M_a)
    half, inverse = levels.half, levels.inverse
    n_levels = len(half)
    both = (half[:, :, None, :, None] * half[:, None, :, None, :]).reshape(n_levels, s * s, s * s)
    inner = moved.M.transpose(1, 0, 2, 3).reshape(n_levels, -1, s * s) @ both
    flat = inner.transpose(1, 0, 2).reshape(len(H), -1)
    H -= flat @ flat.T

    # the parts of M_ab with a derivative of lam: one of each of two, or one with one of W
    both = levels.gram.reshape(n_levels, -1).T @ inverse.reshape(n_levels, -1)
    both = both.reshape(s, s, s, s).transpose(0, 3, 1, 2)
    flat = dlam.reshape(k, -1)
    H[:k, :k] += 2.0 * flat @ both.reshape(s * s, s * s) @ flat.T
    products = moved.gram.transpose(0, 2, 1, 3).reshape(-1, n_levels * s)
    products = (products @ (lam @ inverse).reshape(n_levels * s, s)).reshape(len(H), s * s)
    across = np.zeros_like(H)
    across[:k] = 2.0 * flat @ products.T
    # the mode's second derivative, by the adjoint
    across[:k] += _pairing(dlam, t, moved.u)
    across[:k] += _pairing(dlam.transpose(0, 2, 1), lam.T @ t, w_b)
    H += across + across.T

    eta = moved.eta
    curved = h * second.weights[0] + adjoint * second.score[0]
    H += (curved * eta) @ eta.T
    if slopes.by_extra is not None:
        cross = eta @ (h * second.weights[1] + adjoint * second.score[1])
        H[-1] += cross
        H[:, -1] += cross
        H[-1, -1] += float((h * second.weights[2] + adjoint * second.score[2]).sum())
    return H


def _pairing(dlam: np.ndarray, left: np.ndarray, right: np.ndarray) -> np.ndarray:
    """Return ``sum_l left_l' dlam_a right_bl`` (k, K) for left (s, l) and right (K, s, l)."""
    n_par, s, n_levels = right.shape
    across = (left @ right.reshape(-1, n_levels).T).reshape(s, n_par, s).transpose(0, 2, 1)
    return dlam.reshape(len(dlam), -1) @ across.reshape(-1, n_par)
