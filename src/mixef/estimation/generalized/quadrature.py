"""Adaptive Gauss-Hermite quadrature for one grouping factor: value and exact gradient.

Given the conditional mode u~ of a level and ``M = C C'`` there, nodes sit at
``u_j = u~ + C^-T z_j``, a product rule over the term's columns, and

    d = d_mode + log|M| - 2 sum over levels of log sum_j w_j exp a_j,
    a_j = [log f(y, u_j) - log f(y, u~)] + |z_j|^2 / 2,

which is the Laplace approximation for one node (equation 23 of S. C. Walker and others, Fitting
generalized linear mixed-effects models using lme4, for several columns; J. C. Pinheiro and
D. M. Bates, 1995, Journal of Computational and Graphical Statistics 4, 12-35). Nodes move with
the parameters, and the gradient follows them (eq-beyond-quadrature in docs/theory).
"""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache
from typing import Any

import numpy as np
import scipy

from mixef import checks
from mixef.errors import DataError
from mixef.estimation.generalized.levels import Levels, Movement
from mixef.estimation.generalized.pirls import Mode, WorkingModel
from mixef.families.auxiliary import Extra
from mixef.terms.random import RandomTerm
from mixef.text.numbers import format_common
from mixef.text.printed import PrintedTable
from mixef.text.tables import Table

MAX_NODES = 100
MAX_COLUMNS = 3
# Nodes of all levels together, for effects in several dimensions.
MOST_NODES = 1_000_000
# Cells of (rows, nodes) that are held at a time.
CHUNK = 1_000_000


@dataclass(frozen=True, eq=False, repr=False)
class GaussHermite(PrintedTable):
    """A Gauss-Hermite rule for the standard normal density."""

    z: np.ndarray  # (k,): nodes, ascending
    w: np.ndarray  # (k,): weights; they add up to one
    ldnorm: np.ndarray  # (k,): log of the standard normal density at the nodes

    def to_table(self) -> Table:
        """Return the rule as a table, one row a node."""
        cells = (format_common(column, 7) for column in (self.z, self.w, self.ldnorm))
        return Table(("z", "w", "ldnorm"), list(zip(*cells, strict=True)))


def GHrule(k: int) -> GaussHermite:
    """Return the Gauss-Hermite rule of order k, relative to the standard normal density.

    ``sum(w * t(z))`` is the expectation of t(z) for a standard normal z, exact for polynomials of
    degree up to 2k - 1.

    Parameters
    ----------
    k : int
        Number of nodes, 1 to 100.

    Raises
    ------
    ValueError
        If k is not a whole number from 1 to 100.

    References
    ----------
    S. C. Walker and others, Fitting generalized linear mixed-effects models using lme4, section 3.

    Examples
    --------
    >>> from mixef import GHrule
    >>> rule = GHrule(5)
    >>> rule.z.round(3).tolist()
    [-2.857, -1.356, 0.0, 1.356, 2.857]
    >>> float((rule.w * rule.z**4).sum().round(12))
    3.0
    """
    k = checks.whole(k, "k", most=MAX_NODES)
    z, w = scipy.special.roots_hermitenorm(k)
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
class NodeValues:
    """The integrand at some nodes."""

    #: (l, m): ``log [t(z) / t(0)]``, with t the integrand over the normal density.
    log_ratio: np.ndarray
    #: `eta`, `mu`: (n, m); linear predictors and means there.
    eta: np.ndarray
    mu: np.ndarray


def values_at(
    model: WorkingModel, mode: Mode, levels: Levels, extra: Extra, nodes: np.ndarray
) -> NodeValues:
    """Return the integrand at nodes (s, m), as functions of the scaled effects z.

    It is zero where the link leads out of the family's means, below zero by an identity link.
    """
    codes = model.designs[0].codes
    moved = levels.half @ nodes
    eta = np.repeat(mode.state.eta[:, None], nodes.shape[1], axis=1)
    for b in range(len(nodes)):
        eta += levels.columns[:, [b]] * moved[codes, b]
    with np.errstate(all="ignore"):
        mu = model.response.family.link.inverse(eta)
        rows = model.response.kernel(eta, mu, extra)
        rows = np.where(model.response.family.possible(mu), rows, -np.inf)
        at_mode = model.response.kernel(mode.state.eta, mode.state.mu, extra)
        u = levels.u[:, :, None]
        penalty = 0.5 * ((u + moved) ** 2 - u**2).sum(axis=1)
        values = levels.of_row.sums(rows - at_mode[:, None], axis=0) - penalty
        values += 0.5 * (nodes**2).sum(axis=0)
    return NodeValues(np.where(np.isnan(values), -np.inf, values), eta, mu)


def check_quadrature(nAGQ: Any, terms: Sequence[RandomTerm]) -> None:
    """Refuse a number of nodes that cannot be used with these terms, or would take for ever."""
    if checks.whole(nAGQ, "nAGQ", 0, MAX_NODES) <= 1:
        return
    groups = dict.fromkeys(term.group for term in terms)
    if len(groups) > 1:
        raise DataError(
            f"nAGQ = {nAGQ} needs a single grouping factor, but the formula has "
            f"{', '.join(groups)}; use nAGQ=1 (Laplace)"
        )
    columns = sum(len(term.columns) for term in terms)
    if columns > MAX_COLUMNS:
        raise DataError(
            f"nAGQ = {nAGQ} with {columns} random effects a level of {next(iter(groups))} would "
            f"take {nAGQ}^{columns} nodes; at most {MAX_COLUMNS} columns are supported: use "
            "nAGQ=1 (Laplace)"
        )
    most = most_nodes(terms)
    if nAGQ > most:
        levels = terms[0].n_levels
        remedy = f"nAGQ={most} at most, or nAGQ=1 (Laplace)" if most > 1 else "nAGQ=1 (Laplace)"
        raise DataError(
            f"nAGQ = {nAGQ} with {columns} random effects for each of {levels} levels of "
            f"{terms[0].group} takes {nAGQ}^{columns} nodes a level, "
            f"{float(levels * nAGQ**columns):.2g} in all; expected at most {MOST_NODES:,}: use "
            f"{remedy}"
        )


def most_nodes(terms: Sequence[RandomTerm]) -> int:
    """Return the largest nAGQ for terms of one grouping factor; 1 where there is none."""
    columns = sum(len(term.columns) for term in terms)
    if len({term.group for term in terms}) > 1 or columns > MAX_COLUMNS:
        return 1
    if columns == 1:
        return MAX_NODES
    fit = (MOST_NODES / terms[0].n_levels) ** (1.0 / columns)
    return int(np.clip(fit * (1.0 + 1e-12), 1, MAX_NODES))


class Quadrature:
    """The integrals over one grouping factor's levels at one set of parameters.

    Parameters
    ----------
    model : WorkingModel
    mode : Mode
    levels : Levels
    extra : float or tuple of float
    k : int
        Nodes a dimension.

    Attributes
    ----------
    correction : float
        ``-2 sum_l log sum_j w_j exp a_j``: what the nodes add to the Laplace criterion.
    k : int
    """

    def __init__(self, model: WorkingModel, mode: Mode, levels: Levels, extra: Extra, k: int):
        self._model, self._mode, self._levels, self._extra = model, mode, levels, extra
        self.k = k
        self._nodes, self._log_weights = product_rule(k, levels.u.shape[1])
        self._parts = _chunks(self._nodes.shape[1], len(mode.state.eta))
        self._held: NodeValues | None = None
        total = np.full(len(levels.u), -np.inf)
        for part in self._parts:
            values = self._values(part).log_ratio + self._log_weights[part]
            total = np.logaddexp(total, scipy.special.logsumexp(values, axis=1))
        self._log_sums = total
        self.correction = -2.0 * float(total.sum())

    def with_twice_as_many(self, most: int) -> Quadrature | None:
        """Return the rule with twice as many nodes in all; None if this has ``most`` a dimension.

        Errors of rules fall so fast that the difference of the two is the error of this one.
        """
        more = min(round(self.k * 2.0 ** (1.0 / len(self._nodes))), most)
        if more <= self.k:
            return None
        return Quadrature(self._model, self._mode, self._levels, self._extra, more)

    def _values(self, part: slice) -> NodeValues:
        """Return the values at a part of the nodes; kept where one part is all."""
        if self._held is not None:
            return self._held
        nodes = self._nodes[:, part]
        values = values_at(self._model, self._mode, self._levels, self._extra, nodes)
        if len(self._parts) == 1:
            self._held = values
        return values

    def gradient(self, moved: Movement, lam: np.ndarray) -> np.ndarray:
        """Return the exact gradient (k + p + e,) of the criterion with quadrature.

        Parameters
        ----------
        moved : Movement
            How the mode moves with the parameters.
        lam : ndarray (s, s)
        """
        model, levels, extra = self._model, self._levels, self._extra
        response, X = model.response, model.X
        codes, z = model.designs[0].codes, model.designs[0].z
        k, p = len(moved.dlam), X.shape[1]
        dM = moved.M.transpose(0, 3, 1, 2)
        inner = levels.half.transpose(0, 2, 1) @ dM @ levels.half
        lower = np.tril(inner, -1) + 0.5 * inner * np.eye(inner.shape[-1])
        dhalf = -levels.half @ lower.transpose(0, 1, 3, 2)
        gradient: np.ndarray = np.einsum("alss->a", inner)  # tr(M^-1 dM)
        for part in self._parts:
            values, nodes = self._values(part), self._nodes[:, part]
            share = np.exp(values.log_ratio + self._log_weights[part] - self._log_sums[:, None])
            score = response.score(values.eta, extra, values.mu)
            by_row = share[codes]
            weighted = by_row * np.where(np.isfinite(score), score, 0.0)
            u = levels.u[:, :, None] + levels.half @ nodes
            # sums over the level's rows of z s, weighted by the node's share (l, s, m)
            A = np.stack(
                [levels.of_row.sums(z[:, [a]] * weighted, axis=0) for a in range(z.shape[1])],
                axis=1,
            )
            gradient[:k] -= 2.0 * np.tensordot(moved.dlam, np.einsum("lsm,ltm->st", A, u), axes=2)
            gradient[k : k + p] -= 2.0 * (X.T @ weighted.sum(axis=1))
            if response.has_auxiliary:
                gradient[k + p :] -= 2.0 * response.slope_by_extra(values.mu, extra, by_row)
            pull = lam.T @ A - share[:, None, :] * u
            gradient -= 2.0 * np.einsum("ls,asl->a", pull.sum(axis=2), moved.u)
            gradient -= 2.0 * np.tensordot(dhalf, pull @ nodes.T, axes=3)
        return gradient


def _chunks(m: int, n: int) -> list[slice]:
    """Split m nodes so that (n, part) stays in bounds."""
    step = max(CHUNK // max(n, 1), 1)
    return [slice(i, min(i + step, m)) for i in range(0, m, step)]
