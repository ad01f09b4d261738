"""Kenward and Roger's adjusted covariance of the fixed effects and degrees of freedom.

Their results hold for a covariance that is linear in its parameters, and do not depend on which
linear parameters these are. Taken here are V itself and the entries of every term's covariance,
``V = phi_0 V + sum_s phi_s G_s``, so that nothing but products with ``A = Z'V^-1 Z`` and
``Z'V^-1 X`` is needed, whatever the number of rows. On coefficients turned to unit covariance,
with ``B = Z'V^-1 X C`` for ``C C' = (X'V^-1 X)^-1``, and D_s the change of one level's
covariance,

    p_s = B'(I (x) D_s) B        q_rs = B'(I (x) D_r) A (I (x) D_s) B        p_0 = q_00 = I

stand for the paper's -P and Q, and the expected information of phi is half of

    tr(P G_r P G_s) = sum over pairs of levels of tr(D_r S D_s S'),    S a block of A - BB',

with ``tr(P V P G_s) = tr((A - BB')(I (x) D_s))`` and ``tr(P V P V) = n - p``.

Where the covariances of a structure are no linear space (an autoregression), the G_s are its slopes
at the estimates, and its second derivatives G_st count as far as they leave the space of the G_s,
as in the paper's successor: the estimates' bias by the rest, and what that rest does to the
covariance of beta, cancel. With the covariance W of the parameters, that is one change of
covariance ``N = sum_st W_st G_st``, less its projection by expected information.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial

import numpy as np

from mixef.estimation.fit import Fit
from mixef.estimation.linear.marginal import MarginalView, expected_information, marginal_squares
from mixef.estimation.search.hessian import inverse_hessian
from mixef.inference.replicates import with_progress
from mixef.linalg.factor import Factor
from mixef.linalg.threads import one_blas_thread
from mixef.terms.parametrization import Parametrization

# F's scaling is a ratio of two small numbers beside this distance of its degrees of freedom from
# 2, and one in the limit.
NEAR_TWO = 1e-2
# What differences of numbers near one may be off.
ROUNDING = 1e-10


@dataclass(frozen=True)
class KenwardRoger:
    """What Kenward and Roger's F and t tests need of a REML fit.

    References
    ----------
    M. G. Kenward and J. H. Roger (1997), Small sample inference for fixed effects from restricted
    maximum likelihood, Biometrics 53, 983-997. U. Halekoh and S. Hojsgaard (2014), A
    Kenward-Roger approximation and parametric bootstrap methods for tests in linear mixed
    models, Journal of Statistical Software 59(9). M. G. Kenward and J. H. Roger (2009), An improved
    approximation to the precision of fixed effects from restricted maximum likelihood,
    Computational Statistics and Data Analysis 53, 2583-2595.
    """

    beta: np.ndarray  # (p,)
    vcov: np.ndarray  # (p, p): the adjusted covariance of beta
    # (p, p): C, with ``sigma^2 C C'`` the covariance of beta without the adjustment
    root: np.ndarray
    # (R, p, p): relative slopes of that covariance for the linear covariance parameters, ``p_s``
    P: np.ndarray
    W: np.ndarray  # (R, R): covariance of these parameters by expected information

    def row_df(self, L: np.ndarray) -> np.ndarray:
        """Return the degrees of freedom (m,) of every row of L (m, p) by itself."""
        half = L @ self.root
        slope = np.einsum("mi,rij,mj->mr", half, self.P, half, optimize=True)
        spread = np.einsum("mr,rs,ms->m", slope, self.W, slope, optimize=True)
        with np.errstate(divide="ignore", invalid="ignore"):
            return 2.0 * np.einsum("mi,mi->m", half, half) ** 2 / spread

    def joint(self, D: np.ndarray) -> tuple[float, float]:
        """Return denominator df and scaling of F, for independent directions D (q, p)."""
        T = np.linalg.qr((D @ self.root).T)[0]
        on_T = T.T @ self.P @ T
        traces = np.einsum("rii->r", on_T)
        A1 = float(traces @ self.W @ traces)
        A2 = float(np.einsum("rs,rij,sji->", self.W, on_T, on_T, optimize=True))
        return moments(len(D), A1, A2)


def moments(q: int, A1: float, A2: float) -> tuple[float, float]:
    """Return degrees of freedom m and scaling lambda from the paper's A1 and A2.

    Where the approximations to the moments of F are out of their range (no positive degrees of
    freedom), it is ``2 q / A2``, which is exact for one row, and no scaling.
    """
    if q == 1:
        return 2.0 / A2, 1.0  # what the formulas below come to
    B = (A1 + 6.0 * A2) / (2.0 * q)
    g = ((q + 1.0) * A1 - (q + 4.0) * A2) / ((q + 2.0) * A2)
    c = np.float64(3.0 * q + 2.0 * (1.0 - g))
    with np.errstate(divide="ignore", invalid="ignore"):
        c1, c2, c3 = g / c, (q - g) / c, (q + 2.0 - g) / c
        # V* / (2 E*^2), with E* = 1 / (1 - A2 / q)
        top, bottom = 1.0 - A2 / q, 1.0 - c2 * B
        # Both vanish at two degrees of freedom, together: where A1 = q A2, as for balanced data.
        ratio = 1.0 if max(abs(top), abs(bottom)) < ROUNDING else top / bottom
        rho = ratio**2 * (1.0 + c1 * B) / (q * (1.0 - c3 * B))
        m = float(4.0 + (q + 2.0) / (q * rho - 1.0))
    if not (np.isfinite(m) and m > 0.0):
        return 2.0 * q / A2, 1.0
    scaling = 1.0 if abs(m - 2.0) < NEAR_TWO else m * (1.0 - A2 / q) / (m - 2.0)
    return m, scaling if scaling > 0.0 else 1.0


def kenward_roger(fit: Fit) -> KenwardRoger:
    """Return what Kenward and Roger's tests need of a REML fit."""
    with one_blas_thread():
        return _kenward_roger(fit)


def _kenward_roger(fit: Fit) -> KenwardRoger:
    criterion, par = fit.criterion(), fit.scaled_par
    factor = criterion.factor.cholesky("Kenward and Roger's approximation")
    criterion.value(par)
    layout, parametrization = factor.layout, criterion.parametrization
    changes, second = covariance_changes(parametrization, par)
    root = np.linalg.cholesky(fit.estimates.unscaled_vcov)
    view = MarginalView(factor)
    # The criterion's columns are X R^-1.
    B = _marginal_ZtX(factor, view) @ (criterion.problem.x_basis.R @ root)
    by_change = _changed(factor, B, changes)
    p, n_changes = B.shape[1], len(changes[0])

    P = np.empty((1 + n_changes, p, p))
    P[0] = np.eye(p)
    P[1:] = np.einsum("ia,rib->rab", B, by_change, optimize=True)
    flat = by_change.transpose(1, 0, 2).reshape(layout.q, -1)
    Q = (flat.T @ view.times(flat)).reshape(n_changes, p, n_changes, p)

    squares = marginal_squares(factor, view, B, partial(with_progress, label="Kenward-Roger"))
    traces = [_less_fixed(layout.by_level(i, B), T) for i, T in enumerate(factor.trace_blocks())]

    def expected(changes: list[np.ndarray]) -> np.ndarray:
        """Return ``tr(P G_r P G_s)`` (1 + R, 1 + R), with V itself as the first G."""
        out = np.empty((1 + len(changes[0]),) * 2)
        out[0, 0] = fit.frame.n - p
        out[1:, 1:] = expected_information(squares, changes)
        pairs = zip(changes, traces, strict=True)
        out[0, 1:] = out[1:, 0] = sum(np.tensordot(D, T) for D, T in pairs)
        return out

    # Half of it is the information, as half of a Hessian of -2 log L is.
    W, _ = inverse_hessian(expected(changes))

    # The correction vanishes where V itself is one of the two: q_0s = p_0 p_s.
    inner = np.einsum("rs,rasb->ab", W[1:, 1:], Q, optimize=True)
    inner -= np.einsum("rs,rac,scb->ab", W[1:, 1:], P[1:], P[1:], optimize=True)
    if second is not None:
        inner -= 0.25 * _bend(factor, B, P, W, changes, second, expected, parametrization, par)
    adjusted = fit.vcov + 2.0 * fit.estimates.sigma**2 * (root @ inner @ root.T)
    adjusted = 0.5 * (adjusted + adjusted.T)
    return KenwardRoger(fit.estimates.beta, adjusted, root, P, W)


def covariance_changes(
    parametrization: Parametrization, par: np.ndarray
) -> tuple[list[np.ndarray], list[np.ndarray] | None]:
    """Return what each block's covariances next to those at ``par`` are, over all terms.

    First their slopes (R, s_i, s_i), which span the space where it is linear, then their second
    derivatives (R, R, s_i, s_i), or None where all spaces are linear.
    """
    parts = [structure.changes(x) for structure, x in parametrization.by_term(par)]
    size = sum(len(part.first) for part in parts)
    first = [np.zeros((size, s, s)) for s in parametrization.widths]
    second = [np.zeros((size, size, s, s)) for s in parametrization.widths]
    start = 0
    for t, part in enumerate(parts):
        i, cols = parametrization.block_of[t], parametrization.columns[t]
        own = slice(start, start + len(part.first))
        first[i][own, cols, cols] = part.first
        if part.second is not None:
            second[i][own, own, cols, cols] = part.second
        start = own.stop
    return first, second if any(part.second is not None for part in parts) else None


def _bend(
    factor: Factor,
    B: np.ndarray,
    P: np.ndarray,
    W: np.ndarray,
    changes: list[np.ndarray],
    second: list[np.ndarray],
    expected: Callable[[list[np.ndarray]], np.ndarray],
    parametrization: Parametrization,
    par: np.ndarray,
) -> np.ndarray:
    """Return what second derivatives of the covariances change (p, p), beyond first ones."""
    # V moves all covariances too: by how much of each change?
    flat = np.concatenate([D.reshape(len(D), -1) for D in changes], axis=1).T
    whole = np.concatenate([(lam @ lam.T).ravel() for lam in parametrization.lams(par)])
    along = np.linalg.lstsq(flat, whole, rcond=None)[0]
    J = np.column_stack([along, np.eye(len(along))])
    spread = J @ W @ J.T
    N = [np.tensordot(spread, D)[None] for D in second]
    more = [np.concatenate(pair) for pair in zip(changes, N, strict=True)]
    share = 0.5 * W @ expected(more)[:-1, -1]
    by_N = np.einsum("ia,ib->ab", B, _changed(factor, B, N)[0])
    return by_N - np.tensordot(share, P, axes=1)


def _marginal_ZtX(factor: Factor, view: MarginalView) -> np.ndarray:
    """Return ``Z'V^-1 X`` (q, p) for the criterion's X."""
    layout, products = factor.layout, factor.products
    ZtXy = np.column_stack([products.ZtX, products.Zty])
    solved = factor.solve(layout.multiply(factor.lams, ZtXy, transpose=True))
    return view.project(solved, products)[:, :-1]


def _changed(factor: Factor, B: np.ndarray, changes: list[np.ndarray]) -> np.ndarray:
    """Return ``(I (x) D_r) B`` (R, q, p) for every change."""
    layout, parts = factor.layout, []
    for i, D in enumerate(changes):
        rows = np.einsum("rab,lbp->rlap", D, layout.by_level(i, B), optimize=True)
        parts.append(rows.reshape(len(D), layout.n_levels[i] * layout.widths[i], B.shape[1]))
    return np.concatenate(parts, axis=1)


def _less_fixed(level: np.ndarray, T: np.ndarray) -> np.ndarray:
    """Return the sum (s, s) of the diagonal blocks of ``A - BB'``, for B by level (l, s, p)."""
    rows = level.transpose(1, 0, 2).reshape(len(T), -1)
    return T - rows @ rows.T
