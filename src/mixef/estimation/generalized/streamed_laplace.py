"""Laplace's approximation of rows in chunks: gradient, information and Hessian, by passes.

The symbols are those of laplace.py and crossed_hessian.py. A pass sums what is asked of the rows;
all else is algebra of what is as large as the random effects, such as

    Z'v = Z'c - Z'W_o (Z b_x + X x_beta),    b_x = Lambda x.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np

from mixef.estimation.generalized.crossed_hessian import (
    by_templates,
    mixed,
    template_pairs,
    total,
    traces,
)
from mixef.estimation.generalized.effects import fixed_solution, moved_by, weighted
from mixef.estimation.generalized.laplace import (
    LaplaceDerivatives,
    profiled,
    slopes_by_covariance,
    with_extra,
)
from mixef.estimation.generalized.passes import CurvaturePass, Point, SlopePass, SlopeSums
from mixef.estimation.generalized.pirls import Mode, fixed_products
from mixef.estimation.generalized.streamed_model import StreamedModel, SummedState, SummedWeights
from mixef.estimation.linear.pls import all_directions
from mixef.linalg.crossproducts import SymmetricBlocks
from mixef.terms.parametrization import Parametrization


@dataclass(frozen=True, kw_only=True)
class StreamedDerivatives(LaplaceDerivatives):
    """Derivatives by passes, with what else of them is asked for later."""

    sums: SlopeSums
    solution: Point  # ``Lambda x``, and x of the coefficients where they are part of the mode
    t: np.ndarray  # (q,): ``Z'v``


def summed(state: object) -> SummedState:
    """Return the state of a mode as the one of rows in chunks that it is."""
    assert isinstance(state, SummedState)
    return state


def differentiate_by_pass(
    model: StreamedModel,
    mode: Mode,
    parametrization: Parametrization,
    par: np.ndarray,
    lams: Sequence[np.ndarray],
    with_beta: bool,
) -> StreamedDerivatives:
    """Return the derivatives at the mode, where the factor stands; it may be given up."""
    groups, state = model.groups, summed(mode.state)
    layout, factor = groups.layout, model.factor.cholesky("exact derivatives")
    W = state.observed if model.response.uses_observed else state.expected
    w = state.score.z
    dlams, dsigmas = parametrization.derivatives(par)
    T = factor.trace_blocks()
    inverse = groups.multiplied(factor.inverse_pairs().between(lams))
    sums = model.source.total(model.step(SlopePass, state)(inverse=inverse))
    state.take(sums.gram)
    information = _average_information(model, lams, W, all_directions(layout, w, dsigmas))
    between = 0.0
    if W is not state.observed:
        between = factor.ldL2
        model.refactor(state.observed, lams)
        between -= factor.ldL2
    solution = _adjoint(model, lams, state.observed, sums, with_beta)
    by_z, by_x = weighted(model, state.observed, solution.b, solution.beta)
    t, Xtv = sums.c_z - by_z, sums.c_x - by_x

    K = slopes_by_covariance(layout, T, w, t)
    by_extra, e = np.empty(0), sums.gram.extra
    if e is not None:
        assert sums.weights is not None
        by_extra = sums.weights + e.score_z.T @ solution.b + e.score_x.T @ solution.beta
        by_extra -= 2.0 * e.log_density
    by_par, curvature = parametrization.chain(par, dlams, lams, K)
    k = len(par)
    information[:k, :k] += curvature
    if with_beta:
        information = profiled(information, k)
    if e is not None:
        information = with_extra(information, e.curvature)
    return StreamedDerivatives(
        by_par,
        Xtv - 2.0 * state.score.x,
        by_extra,
        information,
        K,
        inverse,
        np.empty(0),
        between,
        sums=sums,
        solution=solution,
        t=t,
    )


def _average_information(
    model: StreamedModel, lams: Sequence[np.ndarray], W: SummedWeights, H: np.ndarray
) -> np.ndarray:
    """Return ``F'V^-1 F`` for ``F = [Z H, X]``, twice that for the columns of X."""
    gram, k = model.gram(W), H.shape[1]
    ZtWF = np.column_stack([model.groups.times(H), gram.ZtWX])
    UtWF = model.groups.layout.multiply(lams, ZtWF, transpose=True)
    FtWF = np.empty((ZtWF.shape[1], ZtWF.shape[1]))
    FtWF[:k] = H.T @ ZtWF
    FtWF[k:, :k], FtWF[k:, k:] = FtWF[:k, k:].T, gram.XtWX
    information: np.ndarray = FtWF - UtWF.T @ model.factor.solve(UtWF)
    information[k:, k:] *= 2.0
    symmetric: np.ndarray = 0.5 * (information + information.T)
    return symmetric


def _adjoint(
    model: StreamedModel,
    lams: Sequence[np.ndarray],
    observed: SummedWeights,
    sums: SlopeSums,
    with_beta: bool,
) -> Point:
    """Return ``Lambda x``, and x of the coefficients where they are part of the mode.

    The factor stands at ``U'W_o U + I``.
    """
    layout, factor = model.groups.layout, model.factor
    right = layout.multiply(lams, sums.c_z, transpose=True)
    if not with_beta or not model.p:
        return Point(layout.multiply(lams, factor.solve(right)), np.zeros(model.p), None)
    UtWX, XtWX = fixed_products(model, lams, observed)
    solved = factor.solve(np.column_stack([UtWX, right]))
    A, x = solved[:, :-1], solved[:, -1]
    x_beta = fixed_solution(XtWX - UtWX.T @ A, sums.c_x - UtWX.T @ x)
    return Point(layout.multiply(lams, x - A @ x_beta), x_beta, None)


def hessian_by_pass(
    model: StreamedModel,
    mode: Mode,
    parametrization: Parametrization,
    par: np.ndarray,
    lams: Sequence[np.ndarray],
    d: StreamedDerivatives,
) -> np.ndarray:
    """Return the exact Hessian (K, K), by one pass; the factor is left at the observed weights.

    With several grouping factors it takes one inverse (q, q).
    """
    groups, state = model.groups, summed(mode.state)
    layout, k, e = groups.layout, len(par), d.sums.gram.extra
    W = state.observed if model.response.uses_observed else state.expected
    moved = moved_by(model, mode, parametrization, par, state.point.extra, False)
    if W is not state.observed:
        model.refactor(W, lams)
    dlams = parametrization.template_slopes(par)
    several = len(layout) > 1
    C = model.factor.solve(np.eye(layout.q)) if several else np.empty((0, 0))
    inverse = model.factor.cholesky("the exact Hessian").inverse_pairs()
    step = model.step(CurvaturePass, state)
    sums = model.source.total(step(b=moved.b, beta=moved.beta, inverse=d.h, adjoint=d.solution))
    weights = sums.weights.values

    def by_template(v: np.ndarray) -> np.ndarray:
        return np.column_stack([layout.multiply(D, v, transpose=True) for D in dlams])

    H: np.ndarray = -2.0 * (moved.direct_b.T @ moved.score_z + moved.direct_beta.T @ moved.score_x)
    H[:k] -= 2.0 * moved.pull[:, :k].T @ moved.u
    if e is not None:
        H[-len(e.log_density) :] -= 2.0 * (e.score_z.T @ moved.b + e.score_x.T @ moved.beta)
    H = 0.5 * (H + H.T)
    forms = np.array([groups.multiplied(mixed(inverse, lams, D)) for D in dlams])
    half = np.zeros_like(H)
    half[:k] = 2.0 * forms[:, 1:] @ weights[:, 1:].T
    half[:k] += by_template(d.t).T @ moved.u
    back = np.column_stack(
        [layout.multiply(D, layout.multiply(lams, d.t, transpose=True)) for D in dlams]
    )
    half[:k] += back.T @ moved.score_z
    H += half + half.T
    H[:k, :k] += template_pairs(groups.products, inverse, dlams)
    own, backs = by_templates(groups.products, lams, dlams), [lam.T for lam in lams]

    def changes() -> Iterator[SymmetricBlocks]:
        for a, values in enumerate(weights):
            M = groups.blocks(values).between(backs)
            yield total(M, own[a]) if a < k else M

    n_par = len(H)
    if several:
        H -= traces(groups.products, changes(), n_par, C)
    else:
        H -= _traces_by_level(changes(), inverse.diagonal[0], n_par)
    H += sums.curved
    if sums.cross is not None and sums.extra is not None:
        last = slice(n_par - len(sums.extra), None)
        H[last] += sums.cross
        H[:, last] += sums.cross.T
        H[last, last] += sums.extra
    H[:k, :k] += parametrization.bend(par, lams, d.K)
    if W is not state.observed:
        model.refactor(state.observed, lams)
    return H


def _traces_by_level(changes: Iterator[SymmetricBlocks], C: np.ndarray, n_par: int) -> np.ndarray:
    """Return ``tr(C M_a C M_b)`` (K, K) of block-diagonal matrices."""
    found = np.empty((n_par, *C.shape))
    for a, M in enumerate(changes):
        np.matmul(M.diagonal[0], C, out=found[a])
    turned = found.transpose(0, 1, 3, 2)
    out: np.ndarray = found.reshape(n_par, -1) @ turned.reshape(n_par, -1).T
    return out
