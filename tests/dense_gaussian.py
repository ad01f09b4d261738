"""The Gaussian likelihood of a linear mixed model as a textbook has it, with V formed in full.

With ``V = W^-1 + sum_t Z_t (I (x) lam_t lam_t') Z_t'``, generalized least squares gives beta, and
the criterion is profiled over sigma (J. C. Pinheiro and D. M. Bates, 2000, section 2.2).
"""

import numpy as np


def random_columns(codes, n_levels, z):
    """Columns of Z (n, l s) of one term: level by level, and column by column inside a level."""
    n, s = z.shape
    Z = np.zeros((n, n_levels, s))
    Z[np.arange(n), codes] = z
    return Z.reshape(n, n_levels * s)


def covariance(terms, lams, weights=None):
    """V over sigma^2 (n, n); terms are (codes, n_levels, z)."""
    n = len(terms[0][0])
    V = np.diag(np.ones(n) if weights is None else 1.0 / weights)
    for (codes, n_levels, z), lam in zip(terms, lams, strict=True):
        Z = random_columns(codes, n_levels, z)
        V += Z @ np.kron(np.eye(n_levels), lam @ lam.T) @ Z.T
    return V


def criterion(y, X, V, REML):
    """-2 log L, or the REML criterion, profiled over beta and sigma; and beta and sigma."""
    n, p = X.shape
    root = np.linalg.cholesky(V)
    Xs, ys = np.linalg.solve(root, X), np.linalg.solve(root, y)
    beta = np.linalg.lstsq(Xs, ys, rcond=None)[0]
    rest = ys - Xs @ beta
    m = n - p if REML else n
    value = 2 * np.log(root.diagonal()).sum() + m * (1 + np.log(2 * np.pi * (rest @ rest) / m))
    if REML and p:
        value += np.linalg.slogdet(Xs.T @ Xs)[1]
    return value, beta, np.sqrt(rest @ rest / m)


def of_fit(fit, lams, REML=None):
    """The criterion of a fitted model at other templates, one a term."""
    state = fit._fit
    terms = [(t.grouping.codes, t.n_levels, t.z) for t in state.terms]
    y = state.frame.y if state.frame.offset is None else state.frame.y - state.frame.offset
    V = covariance(terms, lams, state.frame.weights)
    return criterion(y, state.X, V, state.REML if REML is None else REML)
