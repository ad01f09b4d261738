"""How the modes of one grouping factor move with the parameters.

With one grouping factor everything falls apart into levels. For every parameter a (covariance
parameters, coefficients, log of the extra parameter), with scores s, observed weights W_o,
``U = Z lam`` and the mode's equation ``lam'Z's = u``,

    (U'W_o U + I) u_a = lam_a' Z's + U'[s_a - W_o eta_a'],    eta_a = eta_a' + U u_a,

where eta_a' is what eta does while u stays, and s_a what the score does while eta stays.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

import numpy as np

from mixef.estimation.pirls import Mode, WorkingModel
from mixef.estimation.response import RowSlopes
from mixef.linalg import small
from mixef.linalg.by_level import ByLevel
from mixef.linalg.crossproducts import two_sided
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
    of_row : ByLevel
        The level of each row.
    """

    u: np.ndarray
    M: np.ndarray
    half: np.ndarray
    gram: np.ndarray
    columns: np.ndarray
    of_row: ByLevel

    @cached_property
    def inverse(self) -> np.ndarray:
        """``M^-1`` (l, s, s)."""
        return small.times(self.half, self.half.transpose(0, 2, 1))

    def sums(self, v: np.ndarray) -> np.ndarray:
        """Sum v (n,) over the rows of every level (l,), or each row of v (k, n) to (k, l)."""
        return self.of_row.sums(v)


def levels_at(model: WorkingModel, mode: Mode, lam: np.ndarray) -> Levels:
    """Collect the levels at a mode, where the products of ``model`` stand."""
    group = model.designs[0]
    gram = model.groups.products.diagonal[0].copy()
    M = two_sided(lam.T, gram, lam.T) + np.eye(len(lam))
    half = small.inverse_lower(small.cholesky(M)).transpose(0, 2, 1)
    u = model.groups.layout.by_level(0, mode.u)
    return Levels(u, M, half, gram, group.z @ lam, model.groups.levels)


@dataclass(frozen=True)
class Movement:
    """Derivatives for the K parameters: par, beta, and log of the extra one where there is one.

    Attributes
    ----------
    dlam : ndarray (k, s, s)
        Of the template, for par.
    direct : ndarray (K, n)
        Of eta, while u stays.
    score : ndarray (K, n)
        Of the scores.
    u : ndarray (K, s, l)
    eta : ndarray (K, n)
    weights : ndarray (K, n)
        Of the weights in M.
    gram : ndarray (K, l, s, s)
        Of ``Z'WZ`` of every level, by the weights alone.
    M : ndarray (K, l, s, s)
    """

    dlam: np.ndarray
    direct: np.ndarray
    score: np.ndarray
    u: np.ndarray
    eta: np.ndarray
    weights: np.ndarray
    gram: np.ndarray
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
    state, z, of_row = mode.state, model.designs[0].z, levels.of_row
    columns, lam, dlam = levels.columns, parametrization.lams(par)[0], _dlams(parametrization, par)
    k, s, p = len(dlam), len(lam), model.X.shape[1]
    n_par, n_levels = k + p + (slopes.by_extra is not None), len(levels.u)

    direct = np.zeros((n_par, len(z)))
    held = [of_row.rows(levels.u[:, b]) for b in range(s)]
    for a in range(k):
        for c, b in zip(*np.nonzero(dlam[a]), strict=True):
            direct[a] += dlam[a, c, b] * z[:, c] * held[b]
    direct[k : k + p] = model.X.T
    right = np.empty((n_par, s, n_levels))
    change = -state.observed * direct
    if slopes.by_extra is not None:
        change[-1] += slopes.by_extra.score
    for b in range(s):
        right[:, b] = levels.sums(columns[:, b] * change)
    w = levels.sums(z.T * state.score)
    right[:k] += np.einsum("ast,sl->atl", dlam, w)
    inverse = _observed_inverse(model, state, levels)
    if s == 1:
        u = right * inverse[:, 0, 0]
    else:
        u = np.ascontiguousarray((inverse @ right.transpose(2, 1, 0)).transpose(2, 1, 0))
    eta = direct.copy()
    for b in range(s):
        eta += columns[:, b] * of_row.rows(u[:, b])
    score = -state.observed * eta
    weights = slopes.by_eta * eta
    if slopes.by_extra is not None:
        score[-1] += slopes.by_extra.score
        weights[-1] += slopes.by_extra.weights

    gram = np.empty((n_par, n_levels, s, s))
    for b in range(s):
        for c in range(b + 1):
            gram[:, :, b, c] = gram[:, :, c, b] = levels.sums((z[:, b] * z[:, c]) * weights)
    M = two_sided(lam.T, gram, lam.T)
    half = np.einsum("ast,lsv->altv", dlam, levels.gram @ lam)
    M[:k] += half + half.transpose(0, 1, 3, 2)
    return Movement(dlam, direct, score, u, eta, weights, gram, M)


def _observed_inverse(model: WorkingModel, state, levels: Levels) -> np.ndarray:
    """Return the inverse of ``U'W_o U + I`` by level."""
    if model.response.uses_observed or state.observed is state.expected:
        return levels.inverse
    columns, s = levels.columns, levels.columns.shape[1]
    M = np.empty_like(levels.M)
    for a in range(s):
        for b in range(a + 1):
            M[:, a, b] = levels.sums(columns[:, a] * columns[:, b] * state.observed)
            M[:, b, a] = M[:, a, b]
    return np.linalg.inv(M + np.eye(s))


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
