"""The penalized least squares problem: profiled criterion, exact gradient, information.

Symbols are those of Bates, Maechler, Bolker and Walker (2015), Journal of Statistical Software
67(1). With ``V = I + Z Lambda Lambda' Z'``, every derivative comes from one small matrix a block,

    K = sum over levels of [ (Z'PZ)_ll - w_l w_l' / s2 ],      w = Z'(y - X beta - Z Lambda u),

(``Z'V^-1 Z`` in place of ``Z'PZ`` for ML): the gradient for a template is ``2 K lam``, and K is
smooth where lam is singular. Derivations are in docs/theory, under the labels that functions name.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from scipy.linalg.blas import dtrsm

from mixef.errors import FitError
from mixef.estimation.linear.estimated import gradient_error
from mixef.estimation.linear.marginal import (
    MarginalView,
    exact_expected_information,
    expected_information,
)
from mixef.linalg import small
from mixef.linalg.crossproducts import CrossProducts
from mixef.linalg.factor import Factor
from mixef.linalg.layout import Layout
from mixef.linalg.rows import RowSource
from mixef.terms.parametrization import Parametrization

# A residual sum of squares below this share of the response's is rounding, (1e-13)^2.
ROUNDING = 1e-26
# Squares of blocks have s^4 cells: with more columns a search without them is as fast, or faster.
WIDEST = 30


@dataclass(frozen=True)
class PLSSolution:
    """The solution of the penalized least squares problem at one set of templates."""

    objective: float  # The profiled deviance, or the REML criterion, without ``sum log w``
    beta: np.ndarray  # (p,)
    # (q, p + 1): what the factor's `solve_half` makes of ``Lambda'Z'[X y]``; of a Cholesky factor
    # it is ``[RZX cu]``, with ``L [RZX cu] = P Lambda'Z'[X y]``
    solved: np.ndarray
    RX: np.ndarray  # (p, p): upper triangular
    pwrss: float  # Penalized weighted residual sum of squares
    ldL2: float
    ldRX2: float
    m: int  # Residual degrees of freedom of the criterion: n, or n - p for REML
    products: CrossProducts  # What was solved for
    # (q, p + 1): ``M^-1 Lambda'Z'[X y]``, where it was refined on the rows
    on_rows: np.ndarray | None = None

    @property
    def s2(self) -> float:
        """Estimate of the residual variance."""
        return self.pwrss / self.m


def solve_pls(
    factor: Factor,
    products: CrossProducts,
    lams: Sequence[np.ndarray],
    REML: bool,
    rows: RowSource | None = None,
) -> PLSSolution:
    """Refactor at the templates and solve for beta and the profiled criterion.

    The products may be of another X and y than those that the factor was made from. The blocks are
    those of eq-lmm-extended-factor, the criterion eq-lmm-profiled-deviance or eq-lmm-reml.

    Given the rows of the data, ``[X y]'V^-1 [X y]`` is formed on them: where the random effects
    explain nearly all of the response, differences of cross-products have lost their digits.
    """
    n, p = products.n, products.XtX.shape[0]
    factor.update(lams)
    right = products.layout.multiply(lams, products.ZtXy, transpose=True)
    solved = factor.solve_half(right)
    if rows is None:
        gram, on_rows = products.gram - factor.form(solved, right), None
    else:
        gram, on_rows = _on_rows(factor, rows, solved)
    XVX, XVy, yVy = gram[:p, :p], gram[:p, p], float(gram[p, p])
    try:
        RX = small.root(XVX)
    except np.linalg.LinAlgError as error:
        raise FitError(
            "the fixed effects cannot be told from the random effects at these covariance "
            "parameters (X'V^-1 X is singular); drop a term from one of the two parts"
        ) from error
    cbeta = solve_upper(RX, XVy, transpose=True)
    pwrss = yVy - float(cbeta @ cbeta)
    m = n - p if REML else n
    if not pwrss > ROUNDING * products.yty:
        raise FitError(
            "the random effects fit the response exactly (the residual variance is zero); "
            "use fewer random effects than there are observations"
        )
    ldRX2 = 2.0 * float(np.log(RX.diagonal()).sum())
    objective = factor.ldL2 + m * (1.0 + np.log(2.0 * np.pi * pwrss / m))
    if REML:
        objective += ldRX2
    beta = solve_upper(RX, cbeta)
    return PLSSolution(objective, beta, solved, RX, pwrss, factor.ldL2, ldRX2, m, products, on_rows)


def spherical_effects(factor: Factor, solution: PLSSolution) -> np.ndarray:
    """Return u (q,) where ``factor`` stands."""
    if solution.on_rows is not None:
        back = solution.on_rows
        modes: np.ndarray = back[:, -1] - back[:, :-1] @ solution.beta
        return modes
    return factor.solve_rest(solution.solved[:, -1] - solution.solved[:, :-1] @ solution.beta)


def _on_rows(factor: Factor, rows: RowSource, solved: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return ``V'V^-1 V`` for the columns ``V = [X y]``, and ``B = M^-1 Lambda'Z'V``.

    With ``R = V - Z Lambda B``, the first is ``R'R + B'B``: a sum, not a difference. B is refined
    until its equations hold on the rows.
    """
    layout, lams = factor.layout, factor.lams
    B = factor.solve_rest(solved)
    for _ in range(2):
        Zt_residual, _ = rows.residual_products(layout.multiply(lams, B))
        error = layout.multiply(lams, Zt_residual, transpose=True) - B
        B = B + factor.solve(error)
    return rows.residual_products(layout.multiply(lams, B))[1] + B.T @ B, B


@dataclass(frozen=True)
class Derivatives:
    """Gradient and curvature of the criterion at one set of parameters."""

    gradient: np.ndarray  # (k,)
    # (k, k): the exact Hessian where the factor has the blocks of ``Z'V^-1 Z``, else average
    # information plus the exact curvature of ``lam lam'`` in the parameters
    information: np.ndarray
    # tuple of ndarray (s_i, s_i): derivative of the criterion for ``lam_i lam_i'``, a block
    K: tuple[np.ndarray, ...]
    u: np.ndarray  # (q,): spherical random effects
    w: np.ndarray  # (q,): ``Z'(y - X beta - Z Lambda u)``
    pwrss_slope: np.ndarray  # (k,): derivative of pwrss, ``-w' d(Lambda Lambda') w``
    ZtVX: np.ndarray  # (q, p): ``Z'V^-1 X``
    # (k, k): what the criterion's Hessian is expected to be, without the curvature of
    # ``lam lam'``, sigma not profiled out; where it is known, the information is the exact Hessian
    expected: np.ndarray | None
    # (k, k): covariance of the gradient's error where traces are estimates, None where they are
    # exact; and what each random vector says of the gradient (m, k)
    error: np.ndarray | None = None
    samples: np.ndarray | None = None

    @property
    def is_exact(self) -> bool:
        """Whether the information is the exact Hessian."""
        return self.expected is not None


def differentiate(
    factor: Factor,
    solution: PLSSolution,
    parametrization: Parametrization,
    par: np.ndarray,
    REML: bool,
) -> Derivatives:
    """Return the derivatives where ``factor`` stands; it gives up its storage.

    The gradient is eq-beyond-gradient, the information eq-beyond-average.
    """
    layout, lams = factor.layout, factor.lams
    p = len(solution.beta)
    back = solution.on_rows
    if back is None:
        back = factor.solve_rest(solution.solved)
    view = MarginalView(factor)
    W = view.project(back, solution.products)
    u = back[:, p] - back[:, :p] @ solution.beta
    w = W[:, p] - W[:, :p] @ solution.beta
    Q = solve_upper(solution.RX, W[:, :p].T, transpose=True).T

    dlams, dsigmas = parametrization.derivatives(par)
    H = all_directions(layout, w, dsigmas)
    k = w @ H
    s2 = solution.s2
    R2 = Q.T @ H
    observed = (view.gram(H) - R2.T @ R2) / s2
    information = observed - np.outer(k, k) / (solution.m * s2 * s2)
    narrow = max(layout.widths) <= WIDEST
    squares = factor.projected_squares(Q if REML else Q[:, :0]) if narrow else None
    expected = None if squares is None else expected_information(squares, dsigmas)
    if expected is not None:
        information += observed - expected

    K = []
    for i, T in enumerate(factor.trace_blocks()):
        w_l = layout.by_level(i, w)
        T = T - w_l.T @ w_l / s2
        if REML and p:
            Q_l = layout.by_level(i, Q).transpose(1, 0, 2).reshape(T.shape[0], -1)
            T = T - Q_l @ Q_l.T
        K.append(T)
    gradient, curvature = parametrization.chain(par, dlams, lams, K)
    error = gradient_error(factor, parametrization, dlams)
    return Derivatives(
        gradient,
        information + curvature,
        tuple(K),
        u,
        w,
        -k,
        W[:, :p],
        expected,
        *(error or ()),
    )


def exact_information(
    factor: Factor,
    solution: PLSSolution,
    d: Derivatives,
    dsigmas: Sequence[np.ndarray],
    REML: bool,
) -> np.ndarray:
    """Return the exact Hessian (k, k) where the derivatives d were taken.

    They have the average information: to it comes the average less the expected one, which makes
    it eq-beyond-hessian.
    """
    layout, view = factor.layout, MarginalView(factor)
    H = all_directions(layout, d.w, dsigmas)
    Q = solve_upper(solution.RX, d.ZtVX.T, transpose=True).T
    R2 = Q.T @ H
    observed = (H.T @ view.times(H) - R2.T @ R2) / solution.s2
    expected = exact_expected_information(factor, view, Q if REML else Q[:, :0], dsigmas)
    hessian: np.ndarray = d.information + observed - expected
    return hessian


def effects_slopes(
    factor: Factor, solution: PLSSolution, d: Derivatives, dsigmas: Sequence[np.ndarray]
) -> tuple[np.ndarray, np.ndarray]:
    """Return the derivatives (p, k) of beta and (q, k) of b for the parameters.

    With ``w = Z'Py`` and ``b = Lambda Lambda' w``: ``d beta = -(X'V^-1 X)^-1 X'V^-1 Z h`` and
    ``d w = -Z'PZ h``, with ``h = d(Lambda Lambda') w``.

    Parameters
    ----------
    dsigmas : sequence of ndarray (k, s_i, s_i)
        ``d(lam lam')``, one array a block.
    """
    layout = factor.layout
    H = all_directions(layout, d.w, dsigmas)
    half = solve_upper(solution.RX, d.ZtVX.T @ H, transpose=True)
    d_beta = -solve_upper(solution.RX, half)
    d_w = -MarginalView(factor).times(H) - d.ZtVX @ d_beta
    Sigmas = [lam @ lam.T for lam in factor.lams]
    return d_beta, H + layout.multiply(Sigmas, d_w)


def all_directions(layout: Layout, w: np.ndarray, dsigmas: Sequence[np.ndarray]) -> np.ndarray:
    """Return ``h_a = d(Lambda Lambda')/d par_a w`` (q, k), for w (q,).

    Parameters
    ----------
    dsigmas : sequence of ndarray (k, s_i, s_i)
        ``d(lam lam')``, one array a block.
    """
    H = np.empty((len(w), len(dsigmas[0])))
    for i, (dsigma, s) in enumerate(zip(dsigmas, layout.widths, strict=True)):
        by_effect = layout.by_level(i, w) @ dsigma.transpose(1, 2, 0).reshape(s, -1)
        layout.by_level(i, H)[...] = by_effect.reshape(-1, s, len(dsigma))
    return H


def solve_upper(R: np.ndarray, rhs: np.ndarray, transpose: bool = False) -> np.ndarray:
    """Solve with an upper triangular R (p, p), or with its transpose."""
    if rhs.size == 0:
        return rhs.copy()
    columns = rhs[:, None] if rhs.ndim == 1 else rhs
    x: np.ndarray = dtrsm(1.0, R, columns, trans_a=int(transpose))
    return x[:, 0] if rhs.ndim == 1 else x
