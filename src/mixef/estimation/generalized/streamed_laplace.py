"""Laplace's approximation of rows in chunks: gradient, information and Hessian, by passes.

The symbols are those of laplace.py and crossed_hessian.py. A pass sums what is asked of the rows;
all else is algebra of what is as large as the random effects, such as

    Z'v = Z'c - Z'W_o (Z b_x + X x_beta),    b_x = Lambda x.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np

from mixef.errors import FitError
from mixef.estimation.generalized.crossed_hessian import (
    by_templates,
    mixed,
    template_pairs,
    total,
    traces,
)
from mixef.estimation.generalized.laplace import (
    LaplaceDerivatives,
    profiled,
    slopes_by_covariance,
    with_extra,
)
from mixef.estimation.generalized.laplace_error import LaplaceError
from mixef.estimation.generalized.passes import (
    CurvaturePass,
    ErrorPass,
    Point,
    SlopePass,
    SlopeSums,
)
from mixef.estimation.generalized.pirls import Mode
from mixef.estimation.generalized.streamed_model import StreamedModel, SummedState, SummedWeights
from mixef.estimation.linear.pls import all_directions
from mixef.linalg.crossproducts import SymmetricBlocks
from mixef.terms.parametrization import Parametrization


@dataclass(frozen=True, kw_only=True)
class StreamedDerivatives(LaplaceDerivatives):
    """Derivatives by passes, with what else of them is asked for later."""

    sums: SlopeSums
    inverse: np.ndarray  # (v,): ``Lambda M^-1 Lambda'``, each value times how often it occurs
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
    groups, factor, state = model.groups, model.factor, summed(mode.state)
    layout = groups.layout
    W = state.observed if model.response.uses_observed else state.expected
    w = state.score.z
    dlams, dsigmas = parametrization.derivatives(par)
    T = factor.trace_blocks()
    inverse = groups.multiplied(factor.inverse_pairs().between(lams))
    step = SlopePass(model.rows, model.meaning, state.point, inverse)
    sums = model.source.total(step)
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
    by_extra = np.empty(0)
    if sums.extra is not None:
        e = sums.extra
        by_extra = e.weights + e.score_z.T @ solution.b + e.score_x.T @ solution.beta
        by_extra -= 2.0 * e.log_density
    by_par, curvature = parametrization.chain(par, dlams, lams, K)
    k = len(par)
    information[:k, :k] += curvature
    if with_beta:
        information = profiled(information, k)
    if sums.extra is not None:
        information = with_extra(information, sums.extra.curvature)
    return StreamedDerivatives(
        by_par,
        Xtv - 2.0 * state.score.x,
        by_extra,
        information,
        K,
        np.empty(0),
        np.empty(0),
        between,
        sums=sums,
        inverse=inverse,
        solution=solution,
        t=t,
    )


def weighted(
    model: StreamedModel, weights: SummedWeights, b: np.ndarray, beta: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """Return ``Z'W(Z b + X beta)`` and ``X'W(Z b + X beta)``, where the products have W."""
    gram = model.gram(weights)
    return (
        model.groups.times(b) + gram.ZtWX @ beta,
        gram.ZtWX.T @ b + gram.XtWX @ beta,
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
    UtWX, XtWX = model.fixed_products(lams, observed)
    solved = factor.solve(np.column_stack([UtWX, right]))
    A, x = solved[:, :-1], solved[:, -1]
    x_beta = _fixed_solution(XtWX - UtWX.T @ A, sums.c_x - UtWX.T @ x)
    return Point(layout.multiply(lams, x - A @ x_beta), x_beta, None)


def _fixed_solution(XVX: np.ndarray, rhs: np.ndarray) -> np.ndarray:
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
    model: StreamedModel,
    mode: Mode,
    parametrization: Parametrization,
    par: np.ndarray,
    sums: SlopeSums,
    with_beta: bool,
) -> Moved:
    """Return how all moves with the parameters; the factor is left at the observed weights.

    These are par, beta unless it is part of the mode, and the auxiliary coordinates; see
    effects.py.
    """
    layout, factor, state = model.groups.layout, model.factor, summed(mode.state)
    observed, lams = state.observed, parametrization.lams(par)
    k, p, e = len(par), model.p, sums.extra
    n_extra = 0 if e is None else len(e.weights)
    K = k + (0 if with_beta else p) + n_extra
    model.refactor(observed, lams)
    b, pull = np.zeros((2, layout.q, K))
    beta = np.zeros((p, K))
    for a, D in enumerate(parametrization.template_slopes(par)):
        b[:, a] = layout.multiply(D, mode.u)
        pull[:, a] = layout.multiply(D, state.score.z, transpose=True)
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
        UtWX, XtWX = model.fixed_products(lams, observed)
        A = factor.solve(UtWX)
        by_mode = _fixed_solution(XtWX - UtWX.T @ A, score_x - UtWX.T @ u)
        u = u - A @ by_mode
    own = layout.multiply(lams, u)
    more_z, more_x = weighted(model, observed, own, by_mode)
    return Moved(b, beta, pull, u, b + own, beta + by_mode, score_z - more_z, score_x - more_x)


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
    layout, k, e = groups.layout, len(par), d.sums.extra
    W = state.observed if model.response.uses_observed else state.expected
    moved = moved_by(model, mode, parametrization, par, d.sums, False)
    if W is not state.observed:
        model.refactor(W, lams)
    dlams = parametrization.template_slopes(par)
    several = len(layout) > 1
    C = model.factor.solve(np.eye(layout.q)) if several else np.empty((0, 0))
    inverse = model.factor.inverse_pairs()
    step = CurvaturePass(
        model.rows, model.meaning, state.point, d.inverse, d.solution, moved.b, moved.beta
    )
    sums = model.source.total(step)

    def by_template(v: np.ndarray) -> np.ndarray:
        return np.column_stack([layout.multiply(D, v, transpose=True) for D in dlams])

    H: np.ndarray = -2.0 * (moved.direct_b.T @ moved.score_z + moved.direct_beta.T @ moved.score_x)
    H[:k] -= 2.0 * moved.pull[:, :k].T @ moved.u
    if e is not None:
        H[-len(e.weights) :] -= 2.0 * (e.score_z.T @ moved.b + e.score_x.T @ moved.beta)
    H = 0.5 * (H + H.T)
    forms = np.array([groups.multiplied(mixed(inverse, lams, D)) for D in dlams])
    half = np.zeros_like(H)
    half[:k] = 2.0 * forms[:, 1:] @ sums.weights[:, 1:].T
    half[:k] += by_template(d.t).T @ moved.u
    back = np.column_stack(
        [layout.multiply(D, layout.multiply(lams, d.t, transpose=True)) for D in dlams]
    )
    half[:k] += back.T @ moved.score_z
    H += half + half.T
    H[:k, :k] += template_pairs(groups.products, inverse, dlams)
    own, backs = by_templates(groups.products, lams, dlams), [lam.T for lam in lams]

    def changes() -> Iterator[SymmetricBlocks]:
        for a, values in enumerate(sums.weights):
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


def error_by_pass(
    model: StreamedModel, mode: Mode, lams: Sequence[np.ndarray], d: StreamedDerivatives
) -> LaplaceError:
    """Return the next terms of Laplace's expansion, by one pass; see `laplace_error`.

    The factor stands at ``M_o``.
    """
    state = summed(mode.state)
    sums = model.source.total(ErrorPass(model.rows, model.meaning, state.point, d.inverse))
    if model.response.uses_observed or state.expected is state.observed:
        bound = float(d.sums.c_z @ d.solution.b + d.sums.c_x @ d.solution.beta)
    else:
        right = model.groups.layout.multiply(lams, sums.c_z, transpose=True)
        bound = float(right @ model.factor.solve(right))
    terms = (0.5 * d.between, -sums.second / 8.0, bound * 5.0 / 24.0)
    return LaplaceError(sum(terms), sum(map(abs, terms)), sums.effective)
