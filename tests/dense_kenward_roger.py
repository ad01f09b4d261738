"""Kenward and Roger's tests as their paper has them, with every matrix formed in full.

V is a sum of ``phi_r G_r``: the residual variance with ``G = W^-1``, and every variance and
covariance of every term. Symbols and equations are those of M. G. Kenward and J. H. Roger (1997),
Biometrics 53, 983-997.
"""

from dataclasses import dataclass

import numpy as np
from dense_gaussian import random_columns


def components(fit):
    """Matrices G_r (R, n, n) of a fit, the residual's first, and V."""
    state = fit._fit
    n, weights = state.frame.n, state.frame.weights
    out = [np.diag(np.ones(n) if weights is None else 1.0 / weights)]
    V = state.estimates.sigma**2 * out[0]
    for term, lam in zip(state.terms, state.estimates.lams, strict=True):
        Z = random_columns(term.grouping.codes, term.n_levels, term.z)
        identity, s = np.eye(term.n_levels), term.z.shape[1]
        for a in range(s):
            for b in range(a + 1):
                unit = np.zeros((s, s))
                unit[a, b] = unit[b, a] = 1.0
                if term.structure.tag == "us" or a == b:
                    out.append(Z @ np.kron(identity, unit) @ Z.T)
        V += state.estimates.sigma**2 * Z @ np.kron(identity, lam @ lam.T) @ Z.T
    return np.array(out), V


@dataclass
class Dense:
    Phi: np.ndarray
    Phi_A: np.ndarray
    P: list
    W: np.ndarray
    beta: np.ndarray

    def test(self, L, rhs=0.0):
        """F, its numerator and denominator degrees of freedom, by L (l, p) of full rank."""
        rows, Phi = len(L), self.Phi
        Theta = L.T @ np.linalg.inv(L @ Phi @ L.T) @ L
        R = range(len(self.P))
        TP = [Theta @ Phi @ P @ Phi for P in self.P]
        A1 = sum(self.W[r, s] * np.trace(TP[r]) * np.trace(TP[s]) for r in R for s in R)
        A2 = sum(self.W[r, s] * np.trace(TP[r] @ TP[s]) for r in R for s in R)
        B = (A1 + 6 * A2) / (2 * rows)
        g = ((rows + 1) * A1 - (rows + 4) * A2) / ((rows + 2) * A2)
        c = np.array([g, rows - g, rows + 2 - g]) / (3 * rows + 2 * (1 - g))
        E = 1 / (1 - A2 / rows)
        V = 2 / rows * (1 + c[0] * B) / ((1 - c[1] * B) ** 2 * (1 - c[2] * B))
        rho = V / (2 * E**2)
        m = 4 + (rows + 2) / (rows * rho - 1)
        scaling = m / (E * (m - 2))
        gap = L @ self.beta - rhs
        F = scaling / rows * gap @ np.linalg.inv(L @ self.Phi_A @ L.T) @ gap
        return F, rows, m


def dense(fit):
    """Kenward and Roger's quantities of a REML fit."""
    G, V = components(fit)
    X = fit._fit.X
    inverse = np.linalg.inv(V)
    VX = inverse @ X
    Phi = np.linalg.inv(X.T @ VX)
    VG = inverse @ G
    P = [-VX.T @ g @ VX for g in G]
    R = range(len(G))
    Q = [[VX.T @ G[r] @ VG[s] @ VX for s in R] for r in R]
    information = np.array(
        [
            [
                np.vdot(VG[r].T, VG[s])
                - 2 * np.trace(Phi @ Q[r][s])
                + np.trace(Phi @ P[r] @ Phi @ P[s])
                for s in R
            ]
            for r in R
        ]
    )
    W = np.linalg.inv(information / 2)
    inner = sum(W[r, s] * (Q[r][s] - P[r] @ Phi @ P[s]) for r in R for s in R)
    return Dense(Phi, Phi + 2 * Phi @ inner @ Phi, P, W, fit.beta)
