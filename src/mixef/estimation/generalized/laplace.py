"""The Laplace approximation: criterion, exact gradient and information.

    d = -2 log f(y | u~) + |u~|^2 + log|M|,      M = Lambda'Z'WZ Lambda + I

(equation 19 of S. C. Walker and others, Fitting generalized linear mixed-effects models using
lme4, which has it relative to the saturated model). With scores s, weights W in M, observed
information W_o, ``U = Z Lambda``, ``w = Z's`` and

    h = diag(U M^-1 U'),  c = h dW/d eta,  (U'W_o U + I) x = U'c,  v = c - W_o U x,  t = Z'v,

the mode moves with the parameters so that ``u = Lambda'w`` and ``x = Lambda't``, and everything
comes again from one small matrix a block:

    K = sum over levels of [ (Z'V^-1 Z)_ll - w_l w_l' + (t_l w_l' + w_l t_l') / 2 ]

The gradient is ``2 K lam`` for a template, ``X'(v - 2 s)`` for beta. K is smooth where lam is
singular (eq-beyond-laplace-gradient in docs/theory). Where beta is part of the mode (nAGQ = 0), x
is solved for jointly with ``X'v = 0``.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from mixef.estimation.generalized.curvature import laplace_hessian
from mixef.estimation.generalized.effects import fixed_solution
from mixef.estimation.generalized.levels import Levels, Movement, movement
from mixef.estimation.generalized.pirls import Mode, RowModel, WorkingModel
from mixef.estimation.generalized.response import RowSlopes, RowState
from mixef.estimation.linear.pls import all_directions
from mixef.families.auxiliary import Extra
from mixef.linalg.layout import Layout
from mixef.terms.parametrization import Parametrization

# Information of a row, times its linear predictor, up to which rounding of that is nothing to the
# gradient: what rounding makes of the score is 1e-16 of it.
SMALL = 1e6


@dataclass(frozen=True)
class LaplaceDerivatives:
    """Gradient and information of the Laplace criterion."""

    by_par: np.ndarray  # (k,)
    by_beta: np.ndarray  # (p,)
    by_extra: np.ndarray  # (E,): for the coordinates of the family's auxiliary parameters
    # (k + p + E, k + p + E): average information of the working linear model plus the exact
    # curvature of ``lam lam'``. With beta in the mode: (k + E, k + E).
    information: np.ndarray
    K: list[np.ndarray]  # list of ndarray (s_i, s_i)
    #: (n,): diagonal of ``U M^-1 U'``; of rows elsewhere (v,), the values that passes make it of
    h: np.ndarray
    adjoint: np.ndarray  # (n,): ``U x``, where a Hessian may need it
    between: float  # ``log|M|`` less its value by observed information
    moved: Movement | None = None  # How the mode moves, where there is one grouping factor


def laplace_value(model: RowModel, mode: Mode) -> float:
    """Return ``d`` at the mode, where the factor stands."""
    return mode.penalized + model.factor.ldL2


def differentiate_laplace(
    model: WorkingModel,
    mode: Mode,
    parametrization: Parametrization,
    par: np.ndarray,
    lams: Sequence[np.ndarray],
    extra: Extra,
    with_beta: bool,
    levels: Levels | None = None,
) -> LaplaceDerivatives:
    """Return the derivatives at the mode, where the factor stands; it may be given up.

    ``lams`` are the templates at ``par``. Given the levels of a single grouping factor, the
    information is the exact Hessian.
    """
    if levels is not None:
        return _differentiate_levels(model, mode, parametrization, par, levels, extra)
    response, groups = model.response, model.groups
    factor = model.factor.cholesky("exact derivatives")
    layout, X = groups.layout, model.X
    state, w = settled(model, mode, lams)
    observed = response.uses_observed
    W = response.weights_of(state)
    dlams, dsigmas = parametrization.derivatives(par)
    H = all_directions(layout, w, dsigmas)
    information = _average_information(model, lams, W, np.column_stack([groups.Z(H), X]))

    T = factor.trace_blocks()
    h = groups.row_forms(factor.inverse_pairs().between(lams))
    slopes = response.slopes(state, extra, observed)
    c = h * slopes.by_eta
    between = _to_observed(model, mode, lams)
    moved = adjoint_effects(model, lams, state.observed, c, with_beta)
    v = c - state.observed * moved
    t = groups.Zt(v)

    K = slopes_by_covariance(layout, T, w, t)
    by_beta = X.T @ (v - 2.0 * state.score)
    k, by_extra = len(par), _by_extra(slopes, h, moved)
    by_par, curvature = parametrization.chain(par, dlams, lams, K)
    information[:k, :k] += curvature
    if with_beta:
        information = profiled(information, k)
    if slopes.by_extra is not None:
        information = with_extra(information, response.curvature_of_extra(state, extra))
    return LaplaceDerivatives(by_par, by_beta, by_extra, information, K, h, moved, between)


def _differentiate_levels(
    model: WorkingModel,
    mode: Mode,
    parametrization: Parametrization,
    par: np.ndarray,
    levels: Levels,
    extra: Extra,
) -> LaplaceDerivatives:
    """Return gradient and Hessian for one grouping factor, level by level."""
    lams = (levels.lam,)
    state, w = settled(model, mode, lams)
    T = model.factor.trace_blocks()[0]
    between = _to_observed(model, mode, lams)
    slopes = model.response.slopes(state, extra, model.response.uses_observed)
    w = np.ascontiguousarray(model.groups.layout.by_level(0, w).T)
    dlams = parametrization.slopes(par)
    moved = movement(model, mode, levels, parametrization, dlams, slopes, w)
    h, adjoint = moved.h, moved.adjoint

    K = [_by_covariance(T, w, moved.t)]
    v = h * slopes.by_eta - state.observed * adjoint
    by_beta = model.X.T @ (v - 2.0 * state.score)
    information = laplace_hessian(model, mode, levels, moved, extra, slopes, w)
    k = len(par)
    information[:k, :k] += parametrization.bend(par, lams, K)
    by_par = parametrization.gradient(dlams, lams, K)
    by_extra = _by_extra(slopes, h, adjoint)
    return LaplaceDerivatives(by_par, by_beta, by_extra, information, K, h, adjoint, between, moved)


def settled(
    model: WorkingModel, mode: Mode, lams: Sequence[np.ndarray]
) -> tuple[RowState, np.ndarray]:
    """Return the rows with the scores s that the mode asks for, ``U's = u``, and ``w = Z's``.

    A mean of 1e12 has the rounding of its linear predictor 1e12 times by a log link, which no step
    of u makes smaller: what that leaves of the equation goes to the scores, to first order. The
    factor stands at the mode.
    """
    state, groups = mode.state, model.groups
    w = groups.Zt(state.score)
    if np.maximum.reduce(state.observed) * np.maximum.reduce(np.abs(state.eta)) < SMALL:
        return state, w
    left = groups.layout.multiply(lams, w, transpose=True) - mode.u
    step = model.random_part(lams, model.factor.solve(left))
    state = state._replace(score=state.score - state.observed * step)
    return state, groups.Zt(state.score)


def _to_observed(model: WorkingModel, mode: Mode, lams: Sequence[np.ndarray]) -> float:
    """Let the factor stand at the observed weights; return by how much ``log|M|`` falls."""
    observed = mode.state.observed
    if model.response.weights_of(mode.state) is observed:
        return 0.0
    ldL2 = model.factor.ldL2
    model.refactor(observed, lams)
    return ldL2 - model.factor.ldL2


def _by_covariance(T: np.ndarray, w: np.ndarray, t: np.ndarray) -> np.ndarray:
    """Return K (s, s), for ``sum_l (Z'V^-1 Z)_ll``, and w and t of every level (s, l)."""
    cross = t @ w.T
    K: np.ndarray = T - w @ w.T + 0.5 * (cross + cross.T)
    return K


def _by_extra(slopes: RowSlopes, h: np.ndarray, adjoint: np.ndarray) -> np.ndarray:
    """Return the derivatives (E,) for the auxiliary parameters' coordinates."""
    if slopes.by_extra is None:
        return np.empty(0)
    change = slopes.by_extra
    by_extra: np.ndarray = change.weights @ h + change.score @ adjoint - 2.0 * change.log_density
    return by_extra


def slopes_by_covariance(
    layout: Layout, T: Sequence[np.ndarray], w: np.ndarray, t: np.ndarray
) -> list[np.ndarray]:
    """Return K (s_i, s_i), one a block: the derivative for ``lam lam'``.

    Parameters
    ----------
    T : sequence of ndarray (s_i, s_i)
        ``sum_l (Z'V^-1 Z)_ll``.
    w, t : ndarray (q,)
        ``Z's`` and ``Z'v``.
    """
    return [
        _by_covariance(T_i, layout.by_level(i, w).T, layout.by_level(i, t).T)
        for i, T_i in enumerate(T)
    ]


def with_extra(information: np.ndarray, curvature: np.ndarray) -> np.ndarray:
    """Return the information with that of the auxiliary coordinates (E, E), kept positive."""
    value, vector = np.linalg.eigh(curvature)
    size = len(information)
    information = np.pad(information, (0, len(value)))
    information[size:, size:] = (vector * np.maximum(value, 1.0)) @ vector.T
    return information


def _average_information(
    model: WorkingModel, lams: Sequence[np.ndarray], W: np.ndarray, F: np.ndarray
) -> np.ndarray:
    """Return ``F'V^-1 F`` for ``V^-1 = W - W U M^-1 U'W``, twice that for the columns of X."""
    WF = W[:, None] * F
    right = model.random_part_transposed(lams, WF)
    gram: np.ndarray = F.T @ WF - model.factor.form(model.factor.solve_half(right), right)
    p = model.X.shape[1]
    fixed = slice(F.shape[1] - p, None)
    gram[fixed, fixed] *= 2.0
    return gram


def profiled(information: np.ndarray, k: int) -> np.ndarray:
    """Return the information (k, k) of the covariance parameters with beta profiled out."""
    cross, fixed = information[:k, k:], 0.5 * information[k:, k:]
    if not fixed.size:
        return information[:k, :k]
    left: np.ndarray = information[:k, :k] - cross @ np.linalg.solve(fixed, cross.T)
    return left


def adjoint_effects(
    model: WorkingModel,
    lams: Sequence[np.ndarray],
    observed: np.ndarray,
    c: np.ndarray,
    with_beta: bool,
) -> np.ndarray:
    """Return ``U x`` (n,), or ``U x + X x_beta`` where beta is part of the mode.

    The factor stands at ``U'W_o U + I``.
    """
    right = model.random_part_transposed(lams, c)
    if not with_beta or not model.X.shape[1]:
        return model.random_part(lams, model.factor.solve(right))
    X = model.X
    WX = observed[:, None] * X
    UtWX = model.random_part_transposed(lams, WX)
    solved = model.factor.solve(np.column_stack([UtWX, right]))
    A, x = solved[:, :-1], solved[:, -1]
    x_beta = fixed_solution(X.T @ WX - UtWX.T @ A, X.T @ c - UtWX.T @ x)
    adjoint: np.ndarray = model.random_part(lams, x - A @ x_beta) + X @ x_beta
    return adjoint
