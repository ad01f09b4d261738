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
from functools import cached_property, lru_cache
from typing import NamedTuple

import numpy as np

from mixef.estimation.generalized.pirls import Mode, WorkingModel
from mixef.estimation.generalized.response import RowSlopes
from mixef.linalg.crossproducts import two_sided
from mixef.linalg.layout import ByLevel
from mixef.terms.parametrization import Parametrization

# Cells of the products of columns and weights that are held at a time: they stay in the cache.
CELLS = 30_000
# Blocks up to this order are multiplied by one product with a Kronecker product, or entry by entry;
# from 8 columns on, products of matrices took half of the time or less with 10 and 60 levels.
NARROW = 7


@dataclass(frozen=True)
class Levels:
    """The levels of the one grouping factor at the conditional mode."""

    u: np.ndarray  # (l, s)
    half: np.ndarray  # (l, s, s): ``C^-T``, with ``M = C C'``
    roots: np.ndarray  # (s, s, l): ``C^-1``
    inverse: np.ndarray  # (s, s, l): ``M^-1``
    gram: np.ndarray  # (s, s, l): ``Z'WZ`` of every level
    z: np.ndarray  # (s, n): columns of Z, each in one piece
    lam: np.ndarray  # (s, s)
    of_row: ByLevel  # The level of each row

    @cached_property
    def columns(self) -> np.ndarray:
        """Rows of ``Z Lambda`` (n, s): the derivative of eta for the level's u."""
        columns: np.ndarray = self.z.T @ self.lam
        return columns

    def sums(self, columns: np.ndarray, v: np.ndarray) -> np.ndarray:
        """Sum ``columns_j v_i`` over the rows of every level (j, m, l), a few columns at a time.

        Parameters
        ----------
        columns, v : ndarray (j, n), (m, n)
        """
        step = max(CELLS // max(v.size, 1), 1)
        if step >= len(columns):
            return self.of_row.sums(columns[:, None] * v)
        out = np.empty((len(columns), len(v), len(self.u)))
        for first in range(0, len(columns), step):
            part = slice(first, first + step)
            out[part] = self.of_row.sums(columns[part, None] * v)
        return out


def levels_at(model: WorkingModel, mode: Mode, lam: np.ndarray) -> Levels:
    """Collect the levels at a mode, where products and factor of ``model`` stand."""
    groups, factor = model.groups, model.factor.cholesky("levels")
    gram = groups.products.diagonal[0].transpose(1, 2, 0).copy()  # overwritten in place
    roots, inverse = factor.level_roots, factor.level_inverses
    return Levels(
        groups.layout.by_level(0, mode.u),
        roots.transpose(0, 2, 1),
        np.ascontiguousarray(roots.transpose(1, 2, 0)),
        np.ascontiguousarray(inverse.transpose(1, 2, 0)),
        gram,
        groups.z,
        lam,
        groups.levels,
    )


class Movement(NamedTuple):
    """Derivatives for the K parameters: par, beta, and those of the auxiliary ones."""

    dlam: np.ndarray  # (k, s, s): of the template, for par
    u: np.ndarray  # (K, s, l): of u
    b: np.ndarray  # (K, s, l): of ``lam u``
    w: np.ndarray  # (K, s, l): of ``Z's``
    gram: np.ndarray  # (K, s, s, l): of ``Z'WZ`` of every level, by the weights alone
    M: np.ndarray  # (K, s, s, l)
    ZtWX: np.ndarray  # (p, s, l): ``Z'W_o X`` of every level
    # What the gradient takes, as in laplace.py
    t: np.ndarray  # (s, l): ``Z'v``
    h: np.ndarray  # (n,): diagonal of ``U M^-1 U'``
    adjoint: np.ndarray  # (n,): ``U x``


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
    w : ndarray (s, l)
        ``Z's`` of every level.
    """
    observed, X, z, lam = mode.state.observed, model.X.T, levels.z, levels.lam
    (n_levels, s), k, p, extra = levels.u.shape, parametrization.n_par, len(X), slopes.by_extra
    beta, last = slice(k, k + p), slice(k + p, None)
    dlam = np.zeros((k, s, s))
    for of_term, where, cols in zip(
        dlams, parametrization.par_slices, parametrization.columns, strict=True
    ):
        dlam[where, cols, cols] = of_term
    row, col, entry, often = _lower_triangle(s)
    pairs = z[row] * z[col]
    weights = np.concatenate([observed * z, slopes.by_eta * pairs])
    by_x, by_z = levels.sums(X, weights), levels.sums(weights, z)
    ZtWX, ZtWZ, inverse = by_x[:, :s], by_z[:s], levels.inverse

    # Each entry of ``lam M^-1 lam'`` as often as z has it
    spread = _two_sided(lam, inverse)[row, col] * often
    by_row = levels.of_row.rows(spread)
    by_row *= pairs
    h = np.add.reduce(by_row)
    if not model.response.uses_observed and mode.state.observed is not mode.state.expected:
        M = two_sided(lam.T, ZtWZ.transpose(2, 0, 1), lam.T) + np.eye(s)
        inverse = np.linalg.inv(M).transpose(1, 2, 0)
    Ztc = np.add.reduce(spread[:, None] * by_z[s:])
    x = lam @ times(inverse, (lam.T @ Ztc)[None])[0]
    by_row = levels.of_row.rows(x)
    by_row *= z
    adjoint = np.add.reduce(by_row)

    n_extra = 0 if extra is None else len(extra.score)
    held, pull = np.zeros((2, k + p + n_extra, s, n_levels))
    np.matmul(dlam, levels.u.T, out=held[:k])
    np.negative(times(ZtWZ, held[:k]), out=pull[:k])
    np.negative(ZtWX, out=pull[beta])
    if extra is not None:
        pull[last] = levels.sums(extra.score, z)
    right = lam.T @ pull
    dlam_t = dlam.transpose(0, 2, 1)
    right[:k] += dlam_t @ w
    u = times(inverse, right)
    own = lam @ u
    b = held + own

    flat = times(by_z[s:], b)
    flat[beta] += by_x[:, s:]
    if extra is not None:
        flat[last] += levels.sums(extra.weights, pairs)
    gram = flat[:, entry]
    M = _two_sided(lam.T, gram)
    half = dlam_t @ (lam.T @ levels.gram).reshape(s, -1)
    half = half.reshape(k, s, s, n_levels)
    M[:k] += half
    M[:k] += half.transpose(0, 2, 1, 3)
    t = Ztc - times(ZtWZ, x[None])[0]
    return Movement(dlam, u, b, pull - times(ZtWZ, own), gram, M, ZtWX, t, h, adjoint)


def times(blocks: np.ndarray, v: np.ndarray) -> np.ndarray:
    """Multiply every level's v (K, t, l) by its block (r, t, l)."""
    if v.shape[1] > NARROW:
        product: np.ndarray = (blocks.transpose(2, 0, 1) @ v.transpose(2, 1, 0)).transpose(2, 1, 0)
        return product
    out: np.ndarray = blocks[:, 0] * v[:, 0, None]
    for t in range(1, v.shape[1]):
        out += blocks[:, t] * v[:, t, None]
    return out


def _two_sided(lam: np.ndarray, blocks: np.ndarray) -> np.ndarray:
    """Return ``lam B lam'`` of every block B of symmetric ones (..., s, s, l)."""
    s, shape = len(lam), blocks.shape
    if s > NARROW:
        left = lam @ blocks.reshape(*shape[:-3], s, -1)
        both: np.ndarray = lam @ left.reshape(shape)
        return both
    kronecker = (lam[:, None, :, None] * lam[:, None, :]).reshape(s * s, s * s)
    product: np.ndarray = kronecker @ blocks.reshape(*shape[:-3], s * s, -1)
    return product.reshape(shape)


@lru_cache(maxsize=64)
def _lower_triangle(s: int) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    """Return rows and columns of a lower triangle, and the number of each entry there (s, s).

    Last comes how often a symmetric matrix has each of them (t, 1).
    """
    row, col = np.tril_indices(s)
    entry = np.empty((s, s), dtype=np.intp)
    entry[row, col] = entry[col, row] = np.arange(len(row))
    return row, col, entry, np.where(row == col, 1.0, 2.0)[:, None]
