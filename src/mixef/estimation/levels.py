"""How the modes of one grouping factor move with the parameters.

With one grouping factor everything falls apart into levels. For every parameter a (covariance
parameters, coefficients, log of the extra parameter), with scores s, observed weights W_o,
``U = Z lam`` and the mode's equation ``lam'Z's = u``,

    (U'W_o U + I) u_a = lam_a' Z's + U'[s_a - W_o eta_a'],    eta_a = eta_a' + U u_a,

where eta_a' is what eta does while u stays, and s_a what the score does while eta stays.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from scipy import sparse

from mixef.estimation.pirls import Mode, WorkingModel
from mixef.estimation.response import RowSlopes
from mixef.terms.parametrization import Parametrization


@dataclass(frozen=True)
class Levels:
    """The levels of the one grouping factor at the conditional mode.

    Attributes
    ----------
    u : ndarray (l, s)
    M : ndarray (l, s, s)
    half : ndarray (l, s, s)
        ``C^-T``, with ``M = C C'``.
    gram : ndarray (l, s, s)
        ``Z'WZ`` of every level.
    columns : ndarray (n, s)
        Rows of ``Z Lambda``: the derivative of eta for the level's u.
    indicator : csr_array (l, n)
    """

    u: np.ndarray
    M: np.ndarray
    half: np.ndarray
    gram: np.ndarray
    columns: np.ndarray
    indicator: sparse.csr_array

    def sums(self, v: np.ndarray) -> np.ndarray:
        """Sum (n,) or (n, k) over the rows of every level."""
        return self.indicator @ v


def levels_at(model: WorkingModel, mode: Mode, lam: np.ndarray) -> Levels:
    """Collect the levels at a mode, where the products of ``model`` stand."""
    group = model.designs[0]
    gram = model.groups.products.diagonal[0].copy()
    M = lam.T @ gram @ lam + np.eye(len(lam))
    half = np.linalg.inv(np.linalg.cholesky(M)).transpose(0, 2, 1)
    n = len(group.codes)
    indicator = sparse.csr_array(
        (np.ones(n), (group.codes, np.arange(n))), shape=(group.n_levels, n)
    )
    u = model.groups.layout.by_level(0, mode.u)
    return Levels(u, M, half, gram, group.z @ lam, indicator)


@dataclass(frozen=True)
class Movement:
    """Derivatives for the K parameters: par, beta, and log of the extra one where there is one.

    Attributes
    ----------
    dlam : ndarray (k, s, s)
        Of the template, for par.
    direct : ndarray (n, K)
        Of eta, while u stays.
    score : ndarray (n, K)
        Of the scores.
    u : ndarray (l, K, s)
    eta : ndarray (n, K)
    weights : ndarray (n, K)
        Of the weights in M.
    M : ndarray (l, K, s, s)
    """

    dlam: np.ndarray
    direct: np.ndarray
    score: np.ndarray
    u: np.ndarray
    eta: np.ndarray
    weights: np.ndarray
    M: np.ndarray


def movement(
    model: WorkingModel,
    mode: Mode,
    levels: Levels,
    parametrization: Parametrization,
    par: np.ndarray,
    slopes: RowSlopes,
) -> Movement:
    """Return how mode, linear predictor, weights and M move with every parameter."""
    state, group, X = mode.state, model.designs[0], model.X
    codes, z, columns = group.codes, group.z, levels.columns
    lam, dlam = parametrization.lams(par)[0], _dlams(parametrization, par)
    has_extra = slopes.by_extra is not None
    W = state.observed if model.response.uses_observed else state.expected
    k, s, p = len(dlam), len(lam), X.shape[1]
    n_par = k + p + has_extra

    direct = np.zeros((len(codes), n_par))
    for b in range(s):  # eta_a' = sum_b (z dlam_a)_b u_b
        direct[:, :k] += (z @ dlam[:, :, b].T) * levels.u[codes, b][:, None]
    direct[:, k : k + p] = X
    fixed_score = np.zeros((len(codes), 1)) if not has_extra else slopes.score_by_extra[:, None]
    change = -state.observed[:, None] * direct
    if has_extra:
        change[:, -1:] += fixed_score
    right = np.stack([levels.sums(columns[:, [b]] * change) for b in range(s)], axis=2)
    w = levels.sums(z * state.score[:, None])
    right[:, :k] += np.einsum("ast,ls->lat", dlam, w)
    u = np.linalg.solve(_observed_M(model, state, levels), right.transpose(0, 2, 1))
    u = u.transpose(0, 2, 1)
    eta = direct.copy()
    for b in range(s):
        eta += columns[:, [b]] * u[codes, :, b]
    score = -state.observed[:, None] * eta
    weights = slopes.by_eta[:, None] * eta
    if has_extra:
        score[:, -1] += slopes.score_by_extra
        weights[:, -1] += slopes.by_extra

    M = np.empty((len(u), n_par, s, s))
    for a in range(s):
        for b in range(a + 1):
            total = levels.sums((columns[:, a] * columns[:, b])[:, None] * weights)
            M[:, :, a, b] = M[:, :, b, a] = total
    half = np.einsum("ast,lsv->latv", dlam, levels.gram @ lam)
    M[:, :k] += half + half.transpose(0, 1, 3, 2)
    return Movement(dlam, direct, score, u, eta, weights, M)


def _observed_M(model: WorkingModel, state, levels: Levels) -> np.ndarray:
    """Return ``U'W_o U + I`` by level."""
    if model.response.uses_observed or state.observed is state.expected:
        return levels.M
    columns, s = levels.columns, levels.columns.shape[1]
    M = np.empty_like(levels.M)
    for a in range(s):
        for b in range(a + 1):
            M[:, a, b] = levels.sums(columns[:, a] * columns[:, b] * state.observed)
            M[:, b, a] = M[:, a, b]
    return M + np.eye(s)


def _dlams(parametrization: Parametrization, par: np.ndarray) -> np.ndarray:
    """Return the derivatives (k, s, s) of the one block's template."""
    s = parametrization.widths[0]
    out = np.zeros((parametrization.n_par, s, s))
    for dlam, where, cols in zip(
        parametrization.derivatives(par)[0],
        parametrization.par_slices,
        parametrization.columns,
        strict=True,
    ):
        out[where, cols, cols] = dlam
    return out
