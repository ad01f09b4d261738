"""Adaptive Gauss-Hermite quadrature for one grouping factor: value and exact gradient.

Given the conditional mode u~ of a level and ``M = C C'`` there, nodes sit at
``u_j = u~ + C^-T z_j``, a product rule over the term's columns, and

    d = d_mode + log|M| - 2 sum over levels of log sum_j w_j exp a_j,
    a_j = [log f(y, u_j) - log f(y, u~)] + |z_j|^2 / 2,

which is the Laplace approximation for one node (J. C. Pinheiro and D. M. Bates, 1995, Journal of
Computational and Graphical Statistics 4, 12-35; the glmer paper, section 3). Nodes move with the
parameters, and the gradient follows them.
"""

from __future__ import annotations

import itertools
from dataclasses import dataclass
from functools import cache

import numpy as np
from scipy import sparse, special

from mixef.estimation.pirls import Mode, WorkingModel
from mixef.terms.parametrization import Parametrization

MAX_NODES = 100
MAX_COLUMNS = 3
# Cells of (rows, nodes) that are held at a time.
CHUNK = 1_000_000


@dataclass(frozen=True)
class GaussHermite:
    """A Gauss-Hermite rule for the standard normal density.

    Attributes
    ----------
    z : ndarray (k,)
        Nodes, ascending.
    w : ndarray (k,)
        Weights; they add up to one.
    ldnorm : ndarray (k,)
        Log of the standard normal density at the nodes.
    """

    z: np.ndarray
    w: np.ndarray
    ldnorm: np.ndarray


def GHrule(k: int) -> GaussHermite:
    """Return the Gauss-Hermite rule of order k, relative to the standard normal density.

    ``sum(w * t(z))`` is the expectation of t(z) for a standard normal z, exact for polynomials of
    degree up to 2k - 1.

    Parameters
    ----------
    k : int
        Number of nodes, 1 to 100.

    Returns
    -------
    GaussHermite

    Raises
    ------
    ValueError
        If k is not a whole number from 1 to 100.

    Examples
    --------
    >>> from mixef import GHrule
    >>> rule = GHrule(5)
    >>> rule.z.round(3).tolist()
    [-2.857, -1.356, 0.0, 1.356, 2.857]
    >>> float((rule.w * rule.z**4).sum().round(12))
    3.0
    """
    if not isinstance(k, int | np.integer) or isinstance(k, bool) or not 1 <= k <= MAX_NODES:
        raise ValueError(f"k is {k!r}; expected a whole number of nodes from 1 to {MAX_NODES}")
    z, w = special.roots_hermitenorm(k)
    z = 0.5 * (z - z[::-1])  # exactly symmetric
    w = 0.5 * (w + w[::-1])
    return GaussHermite(z, w / w.sum(), -0.5 * z**2 - 0.5 * np.log(2.0 * np.pi))


@cache
def product_rule(k: int, s: int) -> tuple[np.ndarray, np.ndarray]:
    """Return nodes (s, k^s) and log weights (k^s,) of the product rule in s dimensions."""
    rule = GHrule(k)
    nodes = np.array(list(itertools.product(rule.z, repeat=s))).T
    weights = np.array(list(itertools.product(np.log(rule.w), repeat=s))).sum(axis=1)
    return nodes, weights


@dataclass(frozen=True)
class Levels:
    """The levels of the one grouping factor at the conditional mode.

    Attributes
    ----------
    u : ndarray (l, s)
    M : ndarray (l, s, s)
    half : ndarray (l, s, s)
        ``C^-T``, with ``M = C C'``.
    columns : ndarray (n, s)
        Rows of ``Z Lambda``: the derivative of eta for the level's u.
    indicator : csr_array (l, n)
    """

    u: np.ndarray
    M: np.ndarray
    half: np.ndarray
    columns: np.ndarray
    indicator: sparse.csr_array

    def sums(self, v: np.ndarray) -> np.ndarray:
        """Sum (n,) or (n, k) over the rows of every level."""
        return self.indicator @ v


def levels_at(model: WorkingModel, mode: Mode, lam: np.ndarray) -> Levels:
    """Collect the levels at a mode, where the products of ``model`` stand."""
    group = model.designs[0]
    M = lam.T @ model.groups.products.diagonal[0] @ lam + np.eye(len(lam))
    half = np.linalg.inv(np.linalg.cholesky(M)).transpose(0, 2, 1)
    n = len(group.codes)
    indicator = sparse.csr_array(
        (np.ones(n), (group.codes, np.arange(n))), shape=(group.n_levels, n)
    )
    u = model.groups.layout.by_level(0, mode.u)
    return Levels(u, M, half, group.z @ lam, indicator)


def log_ratio(
    model: WorkingModel, mode: Mode, levels: Levels, extra: float, nodes: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """Return ``log [t(z) / t(0)]`` (l, m) at nodes (s, m), and the linear predictors (n, m).

    ``t(z)`` is the integrand over the normal density, as functions of the scaled effect z.
    """
    codes = model.designs[0].codes
    moved = levels.half @ nodes
    eta = mode.state.eta[:, None] + np.einsum("ns,nsm->nm", levels.columns, moved[codes])
    with np.errstate(all="ignore"):
        mu = model.response.family.link.inverse(eta)
        at_mode = model.response.kernel(mode.state.eta, mode.state.mu, extra)
        rows = model.response.kernel(eta, mu, extra) - at_mode[:, None]
    u = levels.u[:, :, None]
    penalty = 0.5 * ((u + moved) ** 2 - u**2).sum(axis=1)
    values = levels.sums(rows) - penalty + 0.5 * (nodes**2).sum(axis=0)
    return np.where(np.isnan(values), -np.inf, values), eta


def quadrature_correction(
    model: WorkingModel, mode: Mode, levels: Levels, extra: float, k: int
) -> tuple[float, np.ndarray]:
    """Return ``-2 sum_l log sum_j w_j exp a_j``, and the sums' logs (l,).

    This is what k nodes add to the Laplace criterion.
    """
    nodes, log_weights = product_rule(k, levels.u.shape[1])
    total = np.full(len(levels.u), -np.inf)
    for part in _chunks(nodes.shape[1], len(mode.state.eta)):
        values, _ = log_ratio(model, mode, levels, extra, nodes[:, part])
        total = np.logaddexp(total, special.logsumexp(values + log_weights[part], axis=1))
    return -2.0 * float(total.sum()), total


def differentiate_quadrature(
    model: WorkingModel,
    mode: Mode,
    levels: Levels,
    log_sums: np.ndarray,
    parametrization: Parametrization,
    par: np.ndarray,
    extra: float,
    k: int,
) -> np.ndarray:
    """Return the exact gradient (k + p + e,) of the criterion with quadrature."""
    response, state = model.response, mode.state
    group = model.designs[0]
    codes, z, X = group.codes, group.z, model.X
    lam = parametrization.lams(par)[0]
    dlam = _dlams(parametrization, par)
    has_extra = response.family.extra is not None
    slopes = response.slopes(state, extra, response.uses_observed)

    # How modes, linear predictors and M move with each parameter.
    du, deta = _moving_mode(model, mode, levels, lam, dlam, slopes, has_extra)
    W = state.observed if response.uses_observed else state.expected
    dM = _moving_M(levels, z, lam, dlam, W, slopes, deta, has_extra)
    C_inverse = levels.half.transpose(0, 2, 1)
    inner = C_inverse[:, None] @ dM @ levels.half[:, None]
    lower = np.tril(inner, -1) + 0.5 * inner * np.eye(inner.shape[-1])
    dhalf = -levels.half[:, None] @ lower.transpose(0, 1, 3, 2)
    gradient = np.einsum("lass->a", inner)  # tr(M^-1 dM)

    nodes, log_weights = product_rule(k, levels.u.shape[1])
    k_par, p = len(dlam), X.shape[1]
    for part in _chunks(nodes.shape[1], len(state.eta)):
        values, eta = log_ratio(model, mode, levels, extra, nodes[:, part])
        share = np.exp(values + log_weights[part] - log_sums[:, None])
        score = response.score(eta, extra)
        weighted = share[codes] * np.where(np.isfinite(score), score, 0.0)
        u = levels.u[:, :, None] + levels.half @ nodes[:, part]
        # sums over the level's rows of z s, weighted by the node's share (l, s, m)
        A = np.stack([levels.sums(z[:, [a]] * weighted) for a in range(z.shape[1])], axis=1)
        by_lam = np.einsum("lsm,ltm->st", A, u)
        gradient[:k_par] -= 2.0 * np.tensordot(dlam, by_lam, axes=2)
        gradient[k_par : k_par + p] -= 2.0 * (X.T @ weighted.sum(axis=1))
        if has_extra:
            gradient[-1] -= 2.0 * _slope_by_extra(model, eta, extra, share[codes])
        pull = lam.T @ A - share[:, None, :] * u
        gradient -= 2.0 * np.einsum("lsm,las->a", pull, du)
        gradient -= 2.0 * np.einsum("lsm,last,tm->a", pull, dhalf, nodes[:, part], optimize=True)
    return gradient


def _moving_mode(model, mode, levels, lam, dlam, slopes, has_extra):
    """Return the derivatives of u (l, K, s) and of eta (n, K) for par, beta and extra."""
    state, group, X = mode.state, model.designs[0], model.X
    codes, z = group.codes, group.z
    # what eta does where u stays, and what the mode's equation does where eta stays
    direct = np.einsum("ns,ast,nt->na", z, dlam, levels.u[codes], optimize=True)
    direct = np.column_stack([direct, X])
    w = np.stack([levels.sums(z[:, a] * state.score) for a in range(z.shape[1])], axis=1)
    pull = np.einsum("ast,ls->lat", dlam, w)
    pull = np.concatenate([pull, np.zeros((len(w), X.shape[1], len(lam)))], axis=1)
    change = -state.observed[:, None] * direct
    if has_extra:
        direct = np.column_stack([direct, np.zeros(len(codes))])
        pull = np.concatenate([pull, np.zeros((len(w), 1, len(lam)))], axis=1)
        change = np.column_stack([change, slopes.score_by_extra])
    columns = levels.columns
    right = pull + np.stack(
        [levels.sums(columns[:, [a]] * change) for a in range(len(lam))], axis=2
    )
    if state.observed is state.expected or model.response.uses_observed:
        M = levels.M
    else:
        products = [
            [levels.sums(columns[:, a] * columns[:, b] * state.observed) for b in range(len(lam))]
            for a in range(len(lam))
        ]
        M = np.array(products).transpose(2, 0, 1) + np.eye(len(lam))
    du = np.linalg.solve(M, right.transpose(0, 2, 1)).transpose(0, 2, 1)
    return du, direct + np.einsum("ns,nas->na", columns, du[codes])


def _moving_M(levels, z, lam, dlam, W, slopes, deta, has_extra):
    """Return the derivatives (l, K, s, s) of M."""
    s = len(lam)
    change = slopes.by_eta[:, None] * deta
    if has_extra:
        change[:, -1] += slopes.by_extra
    columns = levels.columns
    dM = np.empty((len(levels.u), deta.shape[1], s, s))
    for a in range(s):
        for b in range(a + 1):
            total = levels.sums((columns[:, a] * columns[:, b])[:, None] * change)
            dM[:, :, a, b] = dM[:, :, b, a] = total
    # dlam' Z'W Z lam and its transpose
    ZWU = np.stack(
        [
            np.stack([levels.sums(z[:, a] * W * columns[:, b]) for b in range(s)], axis=1)
            for a in range(s)
        ],
        axis=1,
    )
    half = np.einsum("ast,lsv->latv", dlam, ZWU)
    dM[:, : len(dlam)] += half + half.transpose(0, 1, 3, 2)
    return dM


def _slope_by_extra(model, eta, extra, share) -> float:
    response = model.response
    with np.errstate(all="ignore"):
        mu = response.family.link.inverse(eta)
        rows = response.family.log_density_by_extra(response.y, mu, response.weights, extra)
    return extra * float(np.sum(np.where(share > 0, share * rows, 0.0)))


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


def _chunks(m: int, n: int) -> list[slice]:
    """Split m nodes so that (n, part) stays in bounds."""
    step = max(CHUNK // max(n, 1), 1)
    return [slice(i, min(i + step, m)) for i in range(0, m, step)]
