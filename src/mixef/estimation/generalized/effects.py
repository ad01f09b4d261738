"""How the conditional modes of a generalized model move with its parameters.

The mode of u solves ``Lambda'Z's = u``, with the scores s of the rows. For a parameter a, with
observed weights W_o and ``U = Z Lambda``,

    (U'W_o U + I) u_a = Lambda_a' Z's + U'[s_a - W_o (Z Lambda_a u + X beta_a)],
    b_a = Lambda_a u + Lambda u_a,

where Lambda_a and beta_a are the parameter's own derivatives, and s_a is what the scores do while
eta stays. Where beta is part of the mode, ``X's = 0`` is solved with it.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np

from mixef.errors import FitError
from mixef.estimation.generalized.pirls import Mode, RowModel, WorkingModel, fixed_products
from mixef.families.auxiliary import Extra
from mixef.linalg.factor import Factor
from mixef.terms.parametrization import Parametrization
from mixef.terms.random import RandomTerm

# Relative standard deviations below this do not run away.
LARGE = 3.0


class Anchor(NamedTuple):
    """Where derivatives were taken last."""

    mode: Mode
    lams: tuple[np.ndarray, ...]
    extra: Extra
    point: np.ndarray  # (K,)
    parametrization: Parametrization
    moved: np.ndarray | None  # (K, s, l): derivatives of u, where they are known

    @property
    def is_large(self) -> bool:
        """Whether some relative standard deviation is so large that it may run away."""
        return any(np.vdot(lam, lam) >= LARGE**2 for lam in self.lams)

    def foreseen(self, point: np.ndarray) -> np.ndarray:
        """Return u (q,) at another point, to first order, where its derivatives are known."""
        assert self.moved is not None
        _, s, n_levels = self.moved.shape
        change = (point - self.point) @ self.moved.reshape(len(point), -1)
        foreseen: np.ndarray = self.mode.u + change.reshape(s, n_levels).T.ravel()
        return foreseen


def weighted(
    model: RowModel, weights: Any, b: np.ndarray, beta: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """Return ``Z'W(Z b + X beta)`` and ``X'W(Z b + X beta)``, where the products have W."""
    gram = model.gram(weights)
    return (
        model.groups.times(b) + gram.ZtWX @ beta,
        gram.ZtWX.T @ b + gram.XtWX @ beta,
    )


def fixed_solution(XVX: np.ndarray, rhs: np.ndarray) -> np.ndarray:
    """Solve with ``X'V^-1 X`` (p, p), unless it is singular."""
    try:
        return np.linalg.solve(XVX, rhs)
    except np.linalg.LinAlgError as error:
        raise FitError(
            "the fixed effects cannot be told from each other at the weights of this fit "
            "(X'V^-1 X is singular); drop a term"
        ) from error


@dataclass(frozen=True)
class Moved:
    """How modes, scores and linear predictors move with the K parameters of the search."""

    #: `direct_b`, `direct_beta`: (q, K), (p, K); what b and beta do while u stays.
    direct_b: np.ndarray
    direct_beta: np.ndarray
    pull: np.ndarray  # (q, K): ``Lambda_a'Z's``
    u: np.ndarray  # (q, K)
    #: `b`, `beta`: (q, K), (p, K); all that they do.
    b: np.ndarray
    beta: np.ndarray
    #: `score_z`, `score_x`: (q, K), (p, K); what all moves do to ``Z's`` and ``X's``.
    score_z: np.ndarray
    score_x: np.ndarray


def moved_by(
    model: RowModel,
    mode: Mode,
    parametrization: Parametrization,
    par: np.ndarray,
    extra: Extra,
    with_beta: bool,
) -> Moved:
    """Return how all moves with the parameters; the factor is left at the observed weights.

    These are par, beta unless it is part of the mode, and the auxiliary coordinates.
    """
    layout, factor, state = model.groups.layout, model.factor, mode.state
    observed, lams = state.observed, parametrization.lams(par)
    k, p, e = len(par), model.p, model.extra_sums(state, extra)
    n_extra = 0 if e is None else len(e.log_density)
    w = model.Zt(state.score)
    K = k + (0 if with_beta else p) + n_extra
    model.refactor(observed, lams)
    b, pull = np.zeros((2, layout.q, K))
    beta = np.zeros((p, K))
    for a, D in enumerate(parametrization.template_slopes(par)):
        b[:, a] = layout.multiply(D, mode.u)
        pull[:, a] = layout.multiply(D, w, transpose=True)
    if not with_beta:
        beta[:, k : k + p] = np.eye(p)
    by_z, by_x = weighted(model, observed, b, beta)
    score_z, score_x = -by_z, -by_x
    if e is not None:
        score_z[:, K - n_extra :] += e.score_z
        score_x[:, K - n_extra :] += e.score_x
    u = factor.solve(pull + layout.multiply(lams, score_z, transpose=True))
    by_mode = np.zeros((p, K))
    if with_beta and p:
        UtWX, XtWX = fixed_products(model, lams, observed)
        A = factor.solve(UtWX)
        by_mode = fixed_solution(XtWX - UtWX.T @ A, score_x - UtWX.T @ u)
        u = u - A @ by_mode
    own = layout.multiply(lams, u)
    more_z, more_x = weighted(model, observed, own, by_mode)
    return Moved(b, beta, pull, u, b + own, beta + by_mode, score_z - more_z, score_x - more_x)


def pull(
    model: WorkingModel,
    anchor: Anchor,
    by_lam: Sequence[np.ndarray],
    by_beta: np.ndarray,
    by_extra: np.ndarray,
) -> np.ndarray:
    """Return ``Lambda'Z'`` times the change (q,) of the scores, to first order, while u stays.

    Parameters
    ----------
    by_lam : sequence of ndarray (s_i, s_i)
        Changes of the templates, one a block.
    by_beta, by_extra : ndarray (p,), (E,)
        Changes of the coefficients and of the auxiliary coordinates.
    """
    mode = anchor.mode
    moved = model.random_part(by_lam, mode.u) + model.X @ by_beta
    change = -mode.state.observed * moved
    if by_extra.any():
        slopes = model.response.slopes(mode.state, anchor.extra, model.response.uses_observed)
        assert slopes.by_extra is not None
        change += by_extra @ slopes.by_extra.score
    return model.random_part_transposed(anchor.lams, change)


def coupling(
    backs: Sequence[np.ndarray],
    blocks: Sequence[Sequence[int]],
    terms: Sequence[RandomTerm],
    WX: np.ndarray,
) -> np.ndarray:
    """Return ``Lambda'Z'WX`` (q, p) for the user's columns of X times the weights (n, p).

    Parameters
    ----------
    backs : sequence of ndarray (s_i, s_i)
        From spherical effects to the user's b, a block.
    blocks : sequence of sequences of int
        The terms of each block.
    """
    p, parts = WX.shape[1], []
    for back, members in zip(backs, blocks, strict=True):
        ZtWX = [
            (terms[t].Zt() @ WX).reshape(terms[t].n_levels, len(terms[t].columns), p)
            for t in members
        ]
        parts.append((back.T @ np.concatenate(ZtWX, axis=1)).reshape(-1, p))
    return np.concatenate(parts)


def slopes_by_beta(
    factor: Factor,
    backs: Sequence[np.ndarray],
    blocks: Sequence[Sequence[int]],
    terms: Sequence[RandomTerm],
    coupled: np.ndarray,
) -> list[np.ndarray]:
    """Return the derivatives (p, l_t, s_t) of the modes for beta, one array a term.

    They are ``-Lambda M^-1 Lambda'Z'WX``, where the factor stands, on the user's scale; `coupled`
    is ``Lambda'Z'WX`` (q, p) there.
    """
    layout = factor.layout
    solved = factor.solve(coupled)
    out: list[np.ndarray] = [np.empty(0)] * len(terms)
    for i, (back, members) in enumerate(zip(backs, blocks, strict=True)):
        moved, first = back @ layout.by_level(i, solved), 0
        for t in members:
            size = len(terms[t].columns)
            out[t] = -moved[:, first : first + size].transpose(2, 0, 1)
            first += size
    return out
