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
from scipy import special

from mixef.estimation.levels import Levels, movement
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
    values = levels.indicator @ rows - penalty + 0.5 * (nodes**2).sum(axis=0)
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
    codes, z, X = model.designs[0].codes, model.designs[0].z, model.X
    lam = parametrization.lams(par)[0]
    has_extra = response.family.extra is not None
    slopes = response.slopes(state, extra, response.uses_observed)
    moved = movement(model, mode, levels, parametrization, par, slopes)
    dlam, du = moved.dlam, moved.u
    inner = levels.half.transpose(0, 2, 1) @ moved.M @ levels.half
    lower = np.tril(inner, -1) + 0.5 * inner * np.eye(inner.shape[-1])
    dhalf = -levels.half @ lower.transpose(0, 1, 3, 2)
    gradient = np.einsum("alss->a", inner)  # tr(M^-1 dM)

    nodes, log_weights = product_rule(k, levels.u.shape[1])
    k_par, p = len(dlam), X.shape[1]
    for part in _chunks(nodes.shape[1], len(state.eta)):
        values, eta = log_ratio(model, mode, levels, extra, nodes[:, part])
        share = np.exp(values + log_weights[part] - log_sums[:, None])
        score = response.score(eta, extra)
        weighted = share[codes] * np.where(np.isfinite(score), score, 0.0)
        u = levels.u[:, :, None] + levels.half @ nodes[:, part]
        # sums over the level's rows of z s, weighted by the node's share (l, s, m)
        A = np.stack([levels.indicator @ (z[:, [a]] * weighted) for a in range(z.shape[1])], axis=1)
        by_lam = np.einsum("lsm,ltm->st", A, u)
        gradient[:k_par] -= 2.0 * np.tensordot(dlam, by_lam, axes=2)
        gradient[k_par : k_par + p] -= 2.0 * (X.T @ weighted.sum(axis=1))
        if has_extra:
            gradient[-1] -= 2.0 * _slope_by_extra(model, eta, extra, share[codes])
        pull = lam.T @ A - share[:, None, :] * u
        gradient -= 2.0 * np.einsum("ls,asl->a", pull.sum(axis=2), du)
        gradient -= 2.0 * np.tensordot(dhalf, pull @ nodes[:, part].T, axes=3)
    return gradient


def _slope_by_extra(model, eta, extra, share) -> float:
    response = model.response
    with np.errstate(all="ignore"):
        mu = response.family.link.inverse(eta)
        rows = response.family.log_density_by_extra(response.y, mu, response.weights, extra)
    return extra * float(np.sum(np.where(share > 0, share * rows, 0.0)))


def _chunks(m: int, n: int) -> list[slice]:
    """Split m nodes so that (n, part) stays in bounds."""
    step = max(CHUNK // max(n, 1), 1)
    return [slice(i, min(i + step, m)) for i in range(0, m, step)]
