"""A fit as a least-squares problem in all its effects, with the covariance parameters held.

With the columns ``V = [Z Lambda, X]`` and a penalty on u, at working weights W (prior ones in a
linear model), the matrix of Henderson's mixed model equations is

    A = V'WV + blockdiag(I, 0).

Its inverse is taken by blocks, so that

    v'A^-1 v = z'Lambda M^-1 Lambda'z + |j|^2,   j = RX^-T (x - X'WZ Lambda M^-1 Lambda'z),

needs ``M^-1`` on the pattern of ``Z'WZ`` alone, for all rows at once.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from mixef.estimation.fit import Fit
from mixef.estimation.linear.pls import solve_upper
from mixef.inference.residuals import response_of
from mixef.linalg.choose import make_cholesky
from mixef.linalg.crossproducts import CrossProducts, crossproducts
from mixef.linalg.factor import CholeskyFactor
from mixef.linalg.forms import quadratic_forms
from mixef.linalg.rows import GroupDesign, Rows
from mixef.linalg.standardize import Basis, orthonormal_columns, root_weighted
from mixef.linalg.threads import one_blas_thread

# The least working weight: a mean that is at the end of its range to double precision has none.
LEAST_WEIGHT = 1e-300


@dataclass(frozen=True, eq=False)
class Linearized:
    """The least-squares problem of a fit at its modes; rows are multiplied by the weights' roots.

    Columns of Z and X are the scaled ones of the search, so that units cost no digits.
    """

    fit: Fit
    groups: list[GroupDesign]  # z, a block
    Q: np.ndarray  # (n, p): of X
    basis: Basis  # from Q back to the user's columns
    q: np.ndarray  # (n,): scores over the roots of the weights, in standard deviations
    lams: tuple[np.ndarray, ...]  # each (s_i, s_i): templates, one a block
    products: CrossProducts  # of Z and Q, with q in the place of the response
    factor: CholeskyFactor  # of M
    j: np.ndarray  # (n, p)
    RX: np.ndarray  # (p, p): upper triangular, ``RX'RX = Q'V^-1 Q``

    @property
    def p(self) -> int:
        """Number of coefficients."""
        return self.Q.shape[1]

    @property
    def unit(self) -> float:
        """The standard deviation that q is in: sigma, or 1 where the weights hold it."""
        return float(np.sqrt(self.fit.covariance_scale))

    def v(self) -> list[np.ndarray]:
        """Return the columns ``z Lambda`` (n, s_i) of the spherical effects, one array a block."""
        return [g.z @ lam for g, lam in zip(self.groups, self.lams, strict=True)]

    def leverages(self) -> np.ndarray:
        """Return ``W v'A^-1 v`` (n,)."""
        with one_blas_thread():
            random = quadratic_forms(self.factor, [g.codes for g in self.groups], self.v())
        return random + np.einsum("np,np->n", self.j, self.j)

    def coefficients(self, j: np.ndarray) -> np.ndarray:
        """Return the changes (m, p) of the user's coefficients for steps j (m, p)."""
        return self.unit * self.basis.back(solve_upper(self.RX, j.T)).T

    def standard_errors(self) -> np.ndarray:
        """Return the standard errors (p,) of the coefficients, covariance parameters held."""
        steps = self.coefficients(np.eye(self.p))
        return np.sqrt(np.einsum("mp,mp->p", steps, steps))


def linearized(fit: Fit) -> Linearized:
    """Return the problem at the modes, at working weights of expected information."""
    fit.needs_exact("what single rows do (hat values, influence, residuals of draws)")
    state = response_of(fit).at(fit.eta, fit.extra)
    assert state is not None
    scale, terms = fit.covariance_scale, fit.problem.terms
    W = np.maximum(state.expected * scale, LEAST_WEIGHT)
    q = state.score * np.sqrt(scale / W)
    z = [b.scaled(root_weighted(t.z, W)) for b, t in zip(terms.bases, fit.terms, strict=True)]
    groups = [
        GroupDesign(
            fit.terms[members[0]].grouping.codes,
            fit.terms[members[0]].n_levels,
            np.column_stack([z[t] for t in members]),
            " and ".join(f"({fit.terms[t].label})" for t in members),
        )
        for members in terms.blocks
    ]
    lams = tuple(terms.parametrization.lams(fit.scaled_par))
    with one_blas_thread():
        X = root_weighted(fit.X, W)
        if fit.whole is None:
            Q, basis = orthonormal_columns(X)
            products = crossproducts(Rows(groups, Q, q))
        else:  # of all rows
            basis, products = fit.problem.x_basis, fit.problem.products
            Q = basis.scaled(X)
        factor = make_cholesky(products)
        factor.update(lams)
        layout = factor.layout
        RZX = factor.solve_L(layout.multiply(lams, products.ZtX, transpose=True))
        B = layout.multiply(lams, factor.solve_Lt(RZX))
        rest = Q.copy()
        for i, g in enumerate(groups):
            rest -= np.einsum("ns,nsp->np", g.z, layout.by_level(i, B)[g.codes])
        RX = np.linalg.cholesky(products.XtX - RZX.T @ RZX).T
        j = solve_upper(RX, rest.T, transpose=True).T
    return Linearized(fit, groups, Q, basis, q, lams, products, factor, j, RX)
