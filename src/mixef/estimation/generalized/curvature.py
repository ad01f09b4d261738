"""The exact Hessian of the Laplace criterion for one grouping factor.

For parameters a and b, with the symbols of laplace.py and levels.py (subscripts are total
derivatives at the mode),

    Q = -2 log f + |u|^2:   Q_ab = -2 [eta_a' s_b + w'lam_a u_b]
    L = log|M|:             L_ab = tr(M^-1 M_ab) - tr(M^-1 M_a M^-1 M_b)

where M_ab holds second derivatives of weights, and the mode's second derivative enters through
the adjoint x of the gradient alone. Second derivatives of the roots lam enter as first ones do in
the gradient: what they add is `Parametrization.bend`. Both eta_a and s_a are linear in the columns
of X and Z, so that sums over every level are all that is needed.
"""

from __future__ import annotations

import numpy as np

from mixef.estimation.generalized.levels import CELLS, Levels, Movement, times
from mixef.estimation.generalized.pirls import Mode, WorkingModel
from mixef.estimation.generalized.response import RowSlopes
from mixef.families.auxiliary import Extra


def laplace_hessian(
    model: WorkingModel,
    mode: Mode,
    levels: Levels,
    moved: Movement,
    extra: Extra,
    slopes: RowSlopes,
    h: np.ndarray,
    adjoint: np.ndarray,
    w: np.ndarray,
    t: np.ndarray,
) -> np.ndarray:
    """Return the Hessian (K, K).

    Parameters
    ----------
    h : ndarray (n,)
        Diagonal of ``U M^-1 U'``.
    adjoint : ndarray (n,)
        ``U x``.
    w, t : ndarray (l, s)
        ``Z's`` and ``Z'v`` of every level, with ``v = c - W_o U x``.
    """
    z, X, dlam, lam = levels.rows, model.X, moved.dlam, levels.lam
    s, n_par, n_levels = moved.b.shape
    k, p = len(dlam), X.shape[1]
    beta = slice(k, k + p)
    second = model.response.second_slopes(mode.state, extra, slopes)
    curved = h * second.weights[0] + adjoint * second.score[0]
    curved_z = curved * z
    ZtCX, ZtCZ = levels.sums(curved_z, X.T), levels.sums(curved_z, z)
    dlam_t, flat = dlam.transpose(0, 2, 1), dlam.reshape(k, -1)

    # Half of what is to be made symmetric: Q_ab, the mode's second derivative by the adjoint ...
    half = np.zeros((n_par, n_par))
    half[:k] = _pairing(dlam, t - w, moved.u) + _pairing(dlam_t, t @ lam - levels.u, moved.w)
    half[beta] = _across(moved.ZtWX + ZtCX, moved.b)
    # ... and the parts of M_ab with one derivative of lam and one of W
    right = (lam @ levels.inverse).transpose(1, 0, 2).reshape(-1, s)
    products = moved.gram.transpose(0, 2, 1, 3).reshape(-1, s * n_levels) @ right
    half[:k] += 2.0 * flat @ products.reshape(s, n_par, s).transpose(0, 2, 1).reshape(-1, n_par)
    if slopes.by_extra is not None:
        score, last = slopes.by_extra.score, slice(k + p, None)
        cross = h * second.weights[1] + adjoint * second.score[1]
        half[last] += _across(levels.sums(z, cross - score), moved.b)
        half[last, beta] += (cross - 2.0 * score) @ X
        half[last, last] += 0.5 * (second.weights[2] @ h + second.score[2] @ adjoint)
        half[last, last] -= second.log_density
    H: np.ndarray = half + half.T
    H += _across(moved.b, times(ZtCZ, moved.b))
    H[beta, beta] += _weighted_gram(X, 2.0 * mode.state.observed + curved)
    # the part of M_ab with two derivatives of lam
    both = levels.gram.reshape(n_levels, -1).T @ levels.inverse.reshape(n_levels, -1)
    ordered = both.reshape(s, s, s, s).transpose(0, 3, 1, 2).reshape(s * s, s * s)
    H[:k, :k] += 2.0 * flat @ ordered @ flat.T
    # tr(M^-1 M_a M^-1 M_b) with M^-1 = CC' by level: C'M_a C
    C = np.ascontiguousarray(levels.half.transpose(2, 1, 0))
    left = times(C, moved.M.reshape(s, -1, n_levels)).reshape(s, s, n_par, n_levels)
    inner = times(C, left.transpose(1, 0, 2, 3).reshape(s, -1, n_levels))
    inner = inner.reshape(s * s, n_par, n_levels)
    H -= _across(inner, inner)
    return H


def _across(left: np.ndarray, right: np.ndarray) -> np.ndarray:
    """Return ``sum_sl left_sal right_sbl`` (A, B) for left (s, A, l) and right (s, B, l)."""
    out: np.ndarray = left[0] @ right[0].T
    for a, b in zip(left[1:], right[1:], strict=True):
        out += a @ b.T
    return out


def _pairing(dlam: np.ndarray, left: np.ndarray, right: np.ndarray) -> np.ndarray:
    """Return ``sum_l left_l' dlam_a right_bl`` (k, K) for left (l, s) and right (s, K, l)."""
    s, n_par, n_levels = right.shape
    across = (right.reshape(-1, n_levels) @ left).reshape(s, n_par, s).transpose(2, 0, 1)
    paired: np.ndarray = dlam.reshape(len(dlam), -1) @ across.reshape(-1, n_par)
    return paired


def _weighted_gram(X: np.ndarray, weights: np.ndarray) -> np.ndarray:
    """Return ``X'WX`` (p, p), a few columns of X at a time."""
    step = max(CELLS // len(X), 1)
    parts = [(X.T[i : i + step] * weights) @ X for i in range(0, X.shape[1], step)]
    return np.concatenate(parts) if parts else np.zeros((0, 0))
