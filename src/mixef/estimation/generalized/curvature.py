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

from math import prod

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
    w: np.ndarray,
) -> np.ndarray:
    """Return the Hessian (K, K).

    Parameters
    ----------
    w : ndarray (s, l)
        ``Z's`` of every level.
    """
    z, X, dlam, lam = levels.z, model.X, moved.dlam, levels.lam
    n_par, s, n_levels = moved.b.shape
    k, p = len(dlam), X.shape[1]
    beta, h, adjoint = slice(k, k + p), moved.h, moved.adjoint
    second = model.response.second_slopes(mode.state, extra, slopes)
    curved = h * second.weights[0] + adjoint * second.score[0]
    curved_z = curved * z
    ZtCX, ZtCZ = levels.sums(X.T, curved_z), levels.sums(curved_z, z)
    dlam_t, flat = dlam.transpose(0, 2, 1), dlam.reshape(k, -1)

    # Half of what is to be made symmetric: Q_ab, the mode's second derivative by the adjoint ...
    half = np.zeros((n_par, n_par))
    half[:k] = _pairing(dlam_t, moved.t - w, moved.u)
    half[:k] += _pairing(dlam, lam.T @ moved.t - levels.u.T, moved.w)
    half[beta] = _across(moved.ZtWX + ZtCX, moved.b)
    # ... and the parts of M_ab with one derivative of lam and one of W
    right = (lam @ levels.inverse.reshape(s, -1)).reshape(s, s, n_levels).transpose(0, 2, 1)
    products = moved.gram.reshape(n_par * s, -1) @ right.reshape(-1, s)
    half[:k] += 2.0 * flat @ products.reshape(n_par, -1).T
    if slopes.by_extra is not None:
        score, last = slopes.by_extra.score, slice(k + p, None)
        cross = h * second.weights[1] + adjoint * second.score[1]
        half[last] += _across(levels.sums(cross - score, z), moved.b)
        half[last, beta] += (cross - 2.0 * score) @ X
        half[last, last] += 0.5 * (second.weights[2] @ h + second.score[2] @ adjoint)
        half[last, last] -= second.log_density
    H: np.ndarray = half + half.T
    H += _across(moved.b, times(ZtCZ, moved.b))
    H[beta, beta] += _weighted_gram(X, 2.0 * mode.state.observed + curved)
    # the part of M_ab with two derivatives of lam
    both = levels.gram.reshape(s * s, -1) @ levels.inverse.reshape(s * s, -1).T
    ordered = both.reshape(s, s, s, s).transpose(0, 3, 1, 2).reshape(s * s, s * s)
    H[:k, :k] += 2.0 * flat @ ordered @ flat.T
    # tr(M^-1 M_a M^-1 M_b) with ``M = C C'`` by level: C^-1 M_a C^-T
    left = times(levels.roots, moved.M.reshape(-1, s, n_levels)).reshape(moved.M.shape)
    inner = times(levels.roots, left.transpose(0, 2, 1, 3).reshape(-1, s, n_levels))
    inner = inner.reshape(n_par, -1)
    H -= _across(inner, inner)
    return H


def _across(left: np.ndarray, right: np.ndarray) -> np.ndarray:
    """Return the sums (A, B) of products of left (A, ...) and right (B, ...)."""
    cells = prod(left.shape[1:])  # there may be no columns of X
    across: np.ndarray = left.reshape(-1, cells) @ right.reshape(-1, cells).T
    return across


def _pairing(dlam_t: np.ndarray, left: np.ndarray, right: np.ndarray) -> np.ndarray:
    """Return ``sum_l left_l' dlam_a right_bl`` (k, K) for left (s, l) and right (K, s, l)."""
    n_par, n_levels = len(right), right.shape[2]
    products = right.reshape(-1, n_levels) @ left.T
    paired: np.ndarray = dlam_t.reshape(len(dlam_t), -1) @ products.reshape(n_par, -1).T
    return paired


def _weighted_gram(X: np.ndarray, weights: np.ndarray) -> np.ndarray:
    """Return ``X'WX`` (p, p), a few columns of X at a time."""
    step = max(CELLS // len(X), 1)
    if step >= X.shape[1]:
        gram: np.ndarray = (X.T * weights) @ X
        return gram
    parts = [(X.T[i : i + step] * weights) @ X for i in range(0, X.shape[1], step)]
    return np.concatenate(parts)
