"""How the modes of one grouping factor move with the parameters.

With one grouping factor everything falls apart into levels. For every parameter a (covariance
parameters, coefficients, auxiliary coordinates), with scores s, observed weights W_o,
``U = Z lam`` and the mode's equation ``lam'Z's = u``,

    (U'W_o U + I) u_a = lam_a' Z's + U'[s_a - W_o eta_a'],    eta_a = eta_a' + U u_a,

where eta_a' is what eta does while u stays, and s_a what the score does while eta stays. So eta_a
is a column of X, or nothing, plus ``Z b_a`` with ``b_a = lam_a u + lam u_a``: what is asked of the
rows are sums over every level, of products of columns, and no derivative is held row by row.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np

from mixef.estimation.generalized.pirls import Mode, WorkingModel
from mixef.estimation.generalized.response import RowSlopes
from mixef.linalg import small
from mixef.linalg.crossproducts import two_sided
from mixef.linalg.layout import ByLevel
from mixef.terms.parametrization import Parametrization

# Cells of the products of columns and weights that are held at a time: they stay in the cache.
CELLS = 30_000


@dataclass(frozen=True)
class Levels:
    """The levels of the one grouping factor at the conditional mode."""

    u: np.ndarray  # (l, s)
    half: np.ndarray  # (l, s, s): ``C^-T``, with ``M = C C'``
    gram: np.ndarray  # (l, s, s): ``Z'WZ`` of every level
    z: np.ndarray  # (n, s)
    lam: np.ndarray  # (s, s)
    of_row: ByLevel  # The level of each row

    @cached_property
    def inverse(self) -> np.ndarray:
        """``M^-1`` (l, s, s)."""
        return small.times(self.half, self.half.transpose(0, 2, 1))

    @cached_property
    def columns(self) -> np.ndarray:
        """Rows of ``Z Lambda`` (n, s): the derivative of eta for the level's u."""
        columns: np.ndarray = self.z @ self.lam
        return columns

    @cached_property
    def rows(self) -> np.ndarray:
        """Columns of Z, each in one piece (s, n)."""
        return np.ascontiguousarray(self.z.T)

    def sums(self, v: np.ndarray, columns: np.ndarray) -> np.ndarray:
        """Sum ``v_i columns_j`` over the rows of every level (m, j, l), a few columns at a time.

        Parameters
        ----------
        v, columns : ndarray (m, n), (j, n)
        """
        out = np.empty((len(v), len(columns), len(self.u)))
        step = max(CELLS // max(v.size, 1), 1)
        for first in range(0, len(columns), step):
            part = slice(first, first + step)
            out[:, part] = self.of_row.sums(v[:, None] * columns[part])
        return out


def levels_at(model: WorkingModel, mode: Mode, lam: np.ndarray) -> Levels:
    """Collect the levels at a mode, where products and factor of ``model`` stand."""
    groups = model.groups
    gram = groups.products.diagonal[0].copy()  # overwritten in place
    half = model.factor.level_roots.transpose(0, 2, 1)
    u = groups.layout.by_level(0, mode.u)
    return Levels(u, half, gram, model.designs[0].z, lam, groups.levels)


@dataclass(frozen=True)
class Movement:
    """Derivatives for the K parameters: par, beta, and those of the auxiliary ones."""

    dlam: np.ndarray  # (k, s, s): of the template, for par
    u: np.ndarray  # (s, K, l): of u
    b: np.ndarray  # (s, K, l): of ``lam u``
    w: np.ndarray  # (s, K, l): of ``Z's``
    gram: np.ndarray  # (s, s, K, l): of ``Z'WZ`` of every level, by the weights alone
    M: np.ndarray  # (s, s, K, l)
    ZtWX: np.ndarray  # (s, p, l): ``Z'W_o X`` of every level


def movement(
    model: WorkingModel,
    mode: Mode,
    levels: Levels,
    parametrization: Parametrization,
    dlams: Sequence[np.ndarray],
    slopes: RowSlopes,
    w: np.ndarray,
) -> Movement:
    """Return how mode, weights and M move with every parameter.

    Parameters
    ----------
    dlams : sequence of ndarray (k_t, s_t, s_t)
        Derivatives of the terms' templates.
    w : ndarray (l, s)
        ``Z's`` of every level.
    """
    observed, X, z, lam = mode.state.observed, model.X.T, levels.rows, levels.lam
    (n_levels, s), k, p, extra = levels.u.shape, parametrization.n_par, len(X), slopes.by_extra
    n_extra = 0 if extra is None else len(extra.score)
    n_par, beta, last = k + p + n_extra, slice(k, k + p), slice(k + p, None)
    dlam = np.zeros((k, s, s))
    for of_term, where, cols in zip(
        dlams, parametrization.par_slices, parametrization.columns, strict=True
    ):
        dlam[where, cols, cols] = of_term
    entry = np.empty((s, s), dtype=np.intp)
    pairs = np.empty((s * (s + 1) // 2, len(observed)))
    for pair, (row, col) in enumerate((i, j) for i in range(s) for j in range(i + 1)):
        np.multiply(z[row], z[col], out=pairs[pair])
        entry[row, col] = entry[col, row] = pair
    weights = np.concatenate([observed * z, slopes.by_eta * pairs])
    by_x, by_z = levels.sums(weights, X), levels.sums(weights, z)
    ZtWX, ZtWZ = by_x[:s], by_z[:s]

    held, pull = np.zeros((2, s, n_par, n_levels))
    held[:, :k] = (dlam.reshape(-1, s) @ levels.u.T).reshape(k, s, n_levels).transpose(1, 0, 2)
    pull[:, :k] = -times(ZtWZ, held[:, :k])
    pull[:, beta] = -ZtWX
    if extra is not None:
        pull[:, last] = levels.sums(z, extra.score)
    right = (lam.T @ pull.reshape(s, -1)).reshape(pull.shape)
    dlam_t = dlam.transpose(0, 2, 1).reshape(-1, s)
    right[:, :k] += (dlam_t @ w.T).reshape(k, s, n_levels).transpose(1, 0, 2)
    inverse = levels.inverse
    if not model.response.uses_observed and mode.state.observed is not mode.state.expected:
        inverse = np.linalg.inv(two_sided(lam.T, ZtWZ.transpose(2, 0, 1), lam.T) + np.eye(s))
    u = times(inverse.transpose(1, 2, 0), right)
    own = (lam @ u.reshape(s, -1)).reshape(u.shape)
    b = held + own

    flat = times(by_z[s:], b)
    flat[:, beta] += by_x[s:]
    if extra is not None:
        flat[:, last] += levels.sums(pairs, extra.weights)
    gram = flat[entry]
    across = (lam.T @ gram.reshape(s, -1)).reshape(gram.shape)
    M = (lam.T @ across.reshape(s, s, -1)).reshape(gram.shape)
    half = dlam_t @ (levels.gram @ lam).transpose(1, 2, 0).reshape(s, -1)
    half = half.reshape(k, s, s, n_levels).transpose(1, 2, 0, 3)
    M[:, :, :k] += half + half.transpose(1, 0, 2, 3)
    return Movement(dlam, u, b, pull - times(ZtWZ, own), gram, M, ZtWX)


def times(blocks: np.ndarray, v: np.ndarray) -> np.ndarray:
    """Multiply every level's v (t, K, l) by its block (s, t, l)."""
    out: np.ndarray = blocks[:, 0, None] * v[0]
    for t in range(1, len(v)):
        out += blocks[:, t, None] * v[t]
    return out
