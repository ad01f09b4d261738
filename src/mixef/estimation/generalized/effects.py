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

import numpy as np

from mixef.estimation.generalized.pirls import Mode, WorkingModel
from mixef.families.auxiliary import Extra
from mixef.linalg.factor import Factor
from mixef.terms.parametrization import Parametrization
from mixef.terms.random import RandomTerm

# Relative standard deviations below this do not run away.
LARGE = 3.0


@dataclass(frozen=True)
class Anchor:
    """Where derivatives were taken last."""

    mode: Mode
    lams: tuple[np.ndarray, ...]
    extra: Extra

    @property
    def is_large(self) -> bool:
        """Whether some relative standard deviation is so large that it may run away."""
        return bool(max(np.abs(lam).max() for lam in self.lams) >= LARGE)


def mode_slopes(
    model: WorkingModel,
    mode: Mode,
    parametrization: Parametrization,
    par: np.ndarray,
    extra: Extra,
    with_beta: bool,
) -> tuple[np.ndarray, np.ndarray]:
    """Return the derivatives of beta (p, K) and of b (q, K) for the parameters of the search.

    These are par, beta unless it is part of the mode, and the coordinates of the
    auxiliary parameters. The factor is left at the observed weights.
    """
    response, X, state = model.response, model.X, mode.state
    p, lams, observed = X.shape[1], parametrization.lams(par), mode.state.observed
    model.refactor(observed, lams)
    w = model.groups.Zt(state.score)
    held, pull, X_pull = [], [], []

    def move(b: np.ndarray, own: np.ndarray, rows: np.ndarray) -> None:
        held.append(b)
        pull.append(own + model.random_part_transposed(lams, rows))
        X_pull.append(X.T @ rows)

    none = np.zeros_like(mode.u)
    for dlams in parametrization.template_slopes(par):
        own = model.groups.layout.multiply(dlams, w, transpose=True)
        b = model.groups.layout.multiply(dlams, mode.u)
        move(b, own, -observed * model.groups.Z(b))
    if not with_beta:
        for column in X.T:
            move(none, none, -observed * column)
    slopes = response.slopes(state, extra, observed=True)
    if slopes.by_extra is not None:
        for score in slopes.by_extra.score:
            move(none, none, score)

    K, k = len(held), parametrization.n_par
    u = model.factor.solve(np.column_stack([*pull, np.empty((len(w), 0))]))
    beta = np.zeros((p, K))
    if with_beta and p:
        UtWX = model.random_part_transposed(lams, observed[:, None] * X)
        A = model.factor.solve(UtWX)
        rhs = np.column_stack(X_pull) - UtWX.T @ u
        beta = np.linalg.solve(X.T @ (observed[:, None] * X) - UtWX.T @ A, rhs)
        u = u - A @ beta
    elif not with_beta:
        beta[:, k : k + p] = np.eye(p)
    return beta, np.column_stack(held) + model.groups.layout.multiply(lams, u)


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
