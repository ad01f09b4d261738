"""The penalized least squares problem: profiled criterion, exact gradient, average information.

Symbols are those of Bates, Maechler, Bolker and Walker (2015), Journal of Statistical Software
67(1). With ``V = I + Z Lambda Lambda' Z'``, every derivative comes from one small matrix a block,

    K = sum over levels of [ (Z'PZ)_ll - w_l w_l' / s2 ],      w = Z'(y - X beta - Z Lambda u),

(``Z'V^-1 Z`` in place of ``Z'PZ`` for ML): the gradient for a template is ``2 K lam``, and K is
smooth where lam is singular.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from scipy.linalg.blas import dtrsm

from mixef.errors import FitError
from mixef.linalg.factor import Factor
from mixef.terms.parametrization import Parametrization


@dataclass(frozen=True)
class PLSSolution:
    """The solution of the penalized least squares problem at one set of templates.

    Attributes
    ----------
    objective : float
        The profiled deviance, or the REML criterion, without ``sum log w``.
    beta : ndarray (p,)
    cu : ndarray (q,)
        ``L cu = P Lambda'Z'y``, in the factor's order; likewise RZX (q, p).
    RZX, RX : ndarray (q, p), (p, p)
        RX upper triangular.
    pwrss : float
        Penalized weighted residual sum of squares.
    ldL2, ldRX2 : float
    m : int
        Residual degrees of freedom of the criterion: n, or n - p for REML.
    """

    objective: float
    beta: np.ndarray
    cu: np.ndarray
    RZX: np.ndarray
    RX: np.ndarray
    pwrss: float
    ldL2: float
    ldRX2: float
    m: int

    @property
    def s2(self) -> float:
        """Estimate of the residual variance."""
        return self.pwrss / self.m


def solve_pls(factor: Factor, lams: Sequence[np.ndarray], REML: bool) -> PLSSolution:
    """Refactor at the templates and solve for beta and the profiled criterion."""
    products = factor.products
    n, p = products.n, products.XtX.shape[0]
    factor.update(lams)
    ZtXy = np.empty((products.layout.q, p + 1))
    ZtXy[:, :p] = products.ZtX
    ZtXy[:, p] = products.Zty
    solved = factor.solve_L(products.layout.multiply(lams, ZtXy, transpose=True))
    RZX, cu = solved[:, :p], solved[:, p]
    gram = products.XtX - RZX.T @ RZX
    try:
        RX = np.linalg.cholesky(gram).T
    except np.linalg.LinAlgError as error:
        raise FitError(
            "the fixed effects cannot be told from the random effects at these covariance "
            "parameters (X'V^-1 X is singular); drop a term from one of the two parts"
        ) from error
    cbeta = solve_upper(RX, products.Xty - RZX.T @ cu, transpose=True)
    pwrss = products.yty - float(cu @ cu) - float(cbeta @ cbeta)
    m = n - p if REML else n
    if not pwrss > 0:
        raise FitError(
            "the random effects fit the response exactly (the residual variance is zero); "
            "use fewer random effects than there are observations"
        )
    ldRX2 = 2.0 * float(np.log(RX.diagonal()).sum())
    objective = factor.ldL2 + m * (1.0 + np.log(2.0 * np.pi * pwrss / m))
    if REML:
        objective += ldRX2
    beta = solve_upper(RX, cbeta)
    return PLSSolution(objective, beta, cu, RZX, RX, pwrss, factor.ldL2, ldRX2, m)


@dataclass(frozen=True)
class Derivatives:
    """Gradient and curvature of the criterion at one set of parameters.

    Attributes
    ----------
    gradient : ndarray (k,)
    information : ndarray (k, k)
        Average information plus the exact curvature of ``lam lam'`` in the parameters.
    K : tuple of ndarray (s_i, s_i)
        Derivative of the criterion for ``lam_i lam_i'``, a block.
    u, w : ndarray (q,)
        Spherical random effects, and ``Z'(y - X beta - Z Lambda u)``.
    """

    gradient: np.ndarray
    information: np.ndarray
    K: tuple[np.ndarray, ...]
    u: np.ndarray
    w: np.ndarray


def differentiate(
    factor: Factor,
    solution: PLSSolution,
    parametrization: Parametrization,
    par: np.ndarray,
    REML: bool,
) -> Derivatives:
    """Return the derivatives where ``factor`` stands; it gives up its storage."""
    products, layout, lams = factor.products, factor.layout, factor.lams
    p = products.XtX.shape[0]
    back = factor.solve_Lt(np.column_stack([solution.RZX, solution.cu]))
    u = back[:, p] - back[:, :p] @ solution.beta
    projected = products.ZtZ @ layout.multiply(lams, back)
    WX = products.ZtX - projected[:, :p]
    w = products.Zty - projected[:, p] - WX @ solution.beta
    Q = solve_upper(solution.RX, WX.T, transpose=True).T

    H, dlams = parametrization.directions(par, w, layout.offsets, layout.n_levels)
    ZtZH = products.ZtZ @ H
    R1 = factor.solve_L(layout.multiply(lams, ZtZH, transpose=True))
    R2 = Q.T @ H
    k = w @ H
    s2 = solution.s2
    information = (H.T @ ZtZH - R1.T @ R1 - R2.T @ R2) / s2
    information -= np.outer(k, k) / (solution.m * s2 * s2)

    K = []
    for i, T in enumerate(factor.trace_blocks()):
        w_l = layout.by_level(i, w)
        T = T - w_l.T @ w_l / s2
        if REML and p:
            Q_l = layout.by_level(i, Q).transpose(1, 0, 2).reshape(T.shape[0], -1)
            T = T - Q_l @ Q_l.T
        K.append(T)
    gradient, curvature = parametrization.chain(dlams, lams, K)
    return Derivatives(gradient, information + curvature, tuple(K), u, w)


def solve_upper(R: np.ndarray, rhs: np.ndarray, transpose: bool = False) -> np.ndarray:
    """Solve with an upper triangular R (p, p), or with its transpose."""
    if rhs.size == 0:
        return rhs.copy()
    if rhs.ndim == 1:
        return dtrsm(1.0, R, rhs[:, None], trans_a=int(transpose))[:, 0]
    return dtrsm(1.0, R, rhs, trans_a=int(transpose))
