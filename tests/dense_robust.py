"""Cluster-robust covariances and their degrees of freedom by dense matrices, as in the papers.

J. E. Pustejovsky and E. Tipton (2018), Journal of Business and Economic Statistics 36, 672-683;
E. Tipton and J. E. Pustejovsky (2015), Journal of Educational and Behavioral Statistics 40,
604-634.
"""

import numpy as np
from scipy.linalg import cholesky, eigh

from mixef.inference.residuals import response_of


def working_pieces(model):
    """X, V and the residuals of the linear mixed model that a fit ends with."""
    X, eta, offset = model.getME("X").to_numpy(), model._fit.eta, model.getME("offset")
    Z, Lambda = model.getME("Z").toarray(), model.getME("Lambda").toarray()
    scale = model.sigma**2 if model._fit.is_linear else 1.0
    b = np.concatenate([e.ravel() for e in model._fit.estimates.effects])
    state = response_of(model._fit).at(eta, model._fit.extra)
    information = state.expected
    if model._fit.family.has_stand_in:
        information = np.where(state.observed > 0, state.observed, state.expected)
    V = scale * Z @ Lambda @ Lambda.T @ Z.T + np.diag(1.0 / information)
    assert np.allclose(X @ model.beta + offset + Z @ b, eta)
    return X, V, Z @ b + state.score / information


def power(A, exponent, tol=1e-9):
    values, vectors = eigh(A)
    powers = np.where(values > tol * values.max(), np.abs(values) ** exponent, 0.0)
    return vectors * powers @ vectors.T


class Dense:
    """The estimators of one fit and one clustering, written down without any shortcut."""

    def __init__(self, model, codes, type):
        self.X, self.V, self.e = working_pieces(model)
        (n, p), J = self.X.shape, codes.max() + 1
        W = np.linalg.inv(self.V)
        self.B = np.linalg.inv(self.X.T @ W @ self.X)
        H = self.X @ self.B @ self.X.T @ W
        rest = np.eye(n) - H
        self.rows = [np.flatnonzero(codes == j) for j in range(J)]
        target = rest @ self.V @ rest.T
        factor = {"CR1": J / (J - 1), "CR1p": J / (J - p)}
        factor["CR1S"] = J * (n - 1) / ((J - 1) * (n - p))
        A = []
        for rows in self.rows:
            own = np.ix_(rows, rows)
            if type == "CR2":
                D = cholesky(self.V[own])
                A.append(D.T @ power(D @ target[own] @ D.T, -0.5) @ D)
            elif type == "CR3":
                A.append(np.linalg.inv(rest[own]))
            else:
                A.append(np.sqrt(factor.get(type, 1.0)) * np.eye(len(rows)))
        # (J, p, n): row vectors that give B X'W_j A_j e_j of y
        self.given = np.array(
            [
                self.B @ (self.X.T @ W)[:, rows] @ Aj @ rest[rows]
                for rows, Aj in zip(self.rows, A, strict=True)
            ]
        )
        parts = [
            self.B @ (self.X.T @ W)[:, rows] @ Aj @ self.e[rows]
            for rows, Aj in zip(self.rows, A, strict=True)
        ]
        self.vcov = np.einsum("ja,jb->ab", parts, parts)

    def _P(self, L):
        """(q, q, J, J): covariances of what clusters give, under the model."""
        half = np.einsum("qp,jpn->qjn", L, self.given)
        return np.einsum("sin,nm,tjm->stij", half, self.V, half, optimize=True)

    def df(self, L):
        out = []
        for row in L:
            P = self._P(row[None])[0, 0]
            out.append(np.trace(P) ** 2 / (P**2).sum())
        return np.array(out)

    def htz(self, L):
        """F, numerator and denominator degrees of freedom."""
        q = len(L)
        Omega = np.einsum("stii->st", self._P(L))
        P = self._P(power(Omega, -0.5) @ L)
        total = (np.einsum("ssij->ij", P) ** 2).sum() + np.einsum("stij,tsij->", P, P)
        eta = q * (q + 1) / total
        return eta, eta - q + 1
