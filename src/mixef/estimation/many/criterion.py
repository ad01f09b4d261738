"""The profiled deviance or REML criterion of one model for many responses at once.

In the coordinates of `batch_model`, with ``V_c = N_c^-1``, ``v = V (E'y - E'X beta)``, ``X'V^-1 X``
by its Cholesky factor L and ``U = V E'X L^-T``, derivatives for the entries ``s_e`` are sums over
components of

    d_e    = tr(V B_e) - tr(U'B_e U) - v'B_e v / s2
    d_ef   = 2 (v'B_e P B_f v) / s2 - v'B_e v v'B_f v / (m s2^2) - tr(P B_e P B_f),  P = V - UU',

(V in place of P in the traces for ML), which is exact. All arrays run over responses.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from mixef.estimation.linear.pls import ROUNDING
from mixef.estimation.many.model import BatchModel, BatchResponses


@dataclass(frozen=True)
class BatchValue:
    """The criteria of m responses, each at parameters of its own."""

    objective: np.ndarray  # (m,): of the scaled responses; infinite where it cannot be computed
    beta: np.ndarray  # (m, p)
    pwrss: np.ndarray  # (m,)
    ldRX2: np.ndarray  # (m,)
    V: np.ndarray  # (C, m, t, t): inverses of ``N_c``
    #: (C, m, p + J, t): ``V E'X L^-T``, then v; only v's first row is of components that X reaches.
    U: np.ndarray
    s2: np.ndarray  # (m,)


class BatchCriterion:
    """The criteria of many scaled responses.

    Parameters
    ----------
    model : BatchModel
    responses : BatchResponses
    REML : bool
    """

    def __init__(self, model: BatchModel, responses: BatchResponses, REML: bool):
        self.model, self.responses, self.REML = model, responses, REML
        n, p = model.Q.shape
        self._m = n - p if REML else n
        self._n = n
        self._XtX = model.residual.T @ model.residual
        C, d, t, _ = model.maps.shape
        self._flat_maps = model.maps.reshape(C, d, t * t)
        self._wide_maps = np.ascontiguousarray(model.maps.transpose(0, 2, 1, 3)).reshape(C, t, -1)

    def scale(self, par: np.ndarray) -> np.ndarray:
        """Return the size (m, k) of a change of each parameter that counts as large."""
        return self.model.templates.parametrization.scale(par, floor=0.3)

    def value(self, par: np.ndarray, which: np.ndarray | None = None) -> BatchValue:
        """Return the criteria at parameters (m, k), of all responses or of those ``which``."""
        responses = self.responses if which is None else self.responses.take(which)
        model, count = self.model, len(par)
        C, _, t, _ = model.maps.shape
        p = self._XtX.shape[0]
        half = np.einsum("eab,mb->mea", model.templates.T, par)
        entries = 0.5 * np.einsum("mea,ma->me", half, par)
        N = np.matmul(entries, self._flat_maps).reshape(C, count, t, t)
        N.reshape(C, count, -1)[:, :, :: t + 1] += 1.0
        V, logs, fine = inverses(N, model.count)
        VX = (V.reshape(C, count * t, t) @ model.X).reshape(C, count, t, p)
        Vy = np.matmul(responses.y, V)
        columns = model.X.reshape(C * t, p)
        XVX = VX.transpose(1, 3, 0, 2).reshape(count * p, C * t) @ columns
        XVX = XVX.reshape(count, p, p) + self._XtX
        XVy = responses.Xty + Vy[:, :, 0].transpose(1, 0, 2).reshape(count, C * t) @ columns
        yVy = responses.yty + np.einsum("cmjt,cmjt->m", responses.y, Vy)
        L, definite = cholesky_factors(0.5 * (XVX + XVX.transpose(0, 2, 1)))
        back = np.linalg.inv(L)
        cbeta = np.matmul(back, XVy[..., None])[..., 0]
        beta = np.matmul(cbeta[:, None, :], back)[:, 0]
        pwrss = yVy - (cbeta**2).sum(axis=1)
        fine = fine & definite & (pwrss > ROUNDING * self._n)
        pwrss = np.where(fine, pwrss, 1.0)
        ldRX2 = 2.0 * np.log(L[:, np.arange(p), np.arange(p)]).sum(axis=1)
        m = self._m
        objective = logs + m * (1.0 + np.log(2.0 * np.pi * pwrss / m))
        if self.REML:
            objective = objective + ldRX2
        U = np.empty((C, count, p + Vy.shape[2], t))
        U[:, :, :p] = np.matmul(back, VX.transpose(0, 1, 3, 2))
        U[:, :, p:] = Vy
        U[:, :, p] -= np.matmul(VX, beta[..., None])[..., 0]
        return BatchValue(
            np.where(fine, objective, np.inf), beta, pwrss, ldRX2, V, U, pwrss / m
        )  # fmt: skip

    def derivatives(self, par: np.ndarray, at: BatchValue) -> tuple[np.ndarray, np.ndarray]:
        """Return gradients (m, k) and exact Hessians (m, k, k) where the values were taken."""
        slope, curvature = self._entry_derivatives(at)
        T = self.model.templates.T
        J = np.einsum("eab,mb->mea", T, par)
        gradient = np.matmul(slope[:, None, :], J)[:, 0]
        hessian = np.matmul(J.transpose(0, 2, 1), curvature @ J)
        return gradient, hessian + np.tensordot(slope, T, axes=1)

    def _entry_derivatives(self, at: BatchValue) -> tuple[np.ndarray, np.ndarray]:
        """Return first (m, d) and second (m, d, d) derivatives for the entries of lam lam'."""
        C, count, q, t = at.U.shape
        d, p = self._flat_maps.shape[1], self._XtX.shape[0]
        VB = (at.V.reshape(C, count * t, t) @ self._wide_maps).reshape(C, count, t, d, t)
        UB = (at.U.reshape(C, count * q, t) @ self._wide_maps).reshape(C, count, q, d, t)
        alike = self.model.count
        traces = np.einsum("c,cmiei->me", alike, VB)
        # B_e appears in v'B_e [U v], summed over components.
        rows = UB.transpose(1, 3, 2, 0, 4).reshape(count, d * q, C * t)
        ends = at.U.transpose(1, 0, 3, 2).reshape(count, C * t, q)
        G = np.matmul(rows, ends).reshape(count, d, q, q)
        k = np.einsum("meqq->me", G[:, :, p:, p:])
        s2 = at.s2[:, None, None]
        slope = traces - k / at.s2[:, None]
        UBV = np.matmul(UB.reshape(C, count, q * d, t), at.V).reshape(C, count, q, d, t)
        by_v = _contract(UB[:, :, p:], UBV[:, :, p:])
        observed = (by_v - np.matmul(G[:, :, p, :p], G[:, :, p, :p].transpose(0, 2, 1))) / s2
        left = (
            (VB * alike[:, None, None, None, None]).transpose(1, 3, 0, 2, 4).reshape(count, d, -1)
        )
        right = VB.transpose(1, 3, 0, 4, 2).reshape(count, d, -1)
        expected = np.matmul(left, right.transpose(0, 2, 1))
        if self.REML and p:
            slope = slope - np.einsum("meqq->me", G[:, :, :p, :p])
            by_X = _contract(UB[:, :, :p], UBV[:, :, :p])
            inner = G[:, :, :p, :p].reshape(count, d, -1)
            expected = expected - 2.0 * by_X + np.matmul(inner, inner.transpose(0, 2, 1))
        flat = k[:, :, None] * k[:, None, :] / (self._m * s2**2)
        return slope, 2.0 * observed - flat - expected


def _contract(left: np.ndarray, right: np.ndarray) -> np.ndarray:
    """Return ``sum_cq left_e' right_f`` (m, d, d) of arrays (C, m, q, d, t)."""
    C, count, q, d, t = left.shape
    left = left.transpose(1, 3, 0, 2, 4).reshape(count, d, C * q * t)
    right = right.transpose(1, 0, 2, 4, 3).reshape(count, C * q * t, d)
    products: np.ndarray = np.matmul(left, right)
    return products


def inverses(N: np.ndarray, count: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Return inverses of positive definite N (C, m, t, t), ``sum_c log|N_c|`` (m,), and where fine.

    Every log counts ``count`` (C,) times. What is not finite is not fine (m,).
    """
    t = N.shape[-1]
    if t == 1:
        V, logs, fine = 1.0 / N, np.log(N[..., 0, 0]), np.isfinite(N[..., 0, 0])
    elif t == 2:
        a, b, c = N[..., 0, 0], N[..., 0, 1], N[..., 1, 1]
        pivot = c - b * b / a
        fine = np.isfinite(pivot) & (pivot > 0)
        pivot = np.where(fine, pivot, 1.0)
        V = np.empty_like(N)
        V[..., 1, 1] = 1.0 / pivot
        V[..., 0, 1] = V[..., 1, 0] = -b / (a * pivot)
        V[..., 0, 0] = (1.0 - b * V[..., 0, 1]) / a
        logs = np.log(a) + np.log(pivot)
    else:
        L, fine = cholesky_factors(N)
        V = np.linalg.inv(np.where(fine[..., None, None], N, np.eye(t)))
        logs = 2.0 * np.log(L[..., np.arange(t), np.arange(t)]).sum(axis=-1)
    return V, count @ logs, fine.all(axis=0)


def cholesky_factors(A: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return lower Cholesky factors of (..., k, k), and where there is one; else the identity."""
    fine = np.isfinite(A).all(axis=(-2, -1))
    try:
        if fine.all():
            return np.linalg.cholesky(A), fine
    except np.linalg.LinAlgError:
        pass
    eye = np.eye(A.shape[-1])
    A = np.where(fine[..., None, None], A, eye)
    least = np.linalg.eigvalsh(A)
    fine &= least[..., 0] > 1e-14 * least[..., -1]
    return np.linalg.cholesky(np.where(fine[..., None, None], A, eye)), fine
