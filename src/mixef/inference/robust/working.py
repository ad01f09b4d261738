"""The linear mixed model that a fit ends with, on coefficients of unit covariance.

A linear model is its own. A generalized one ends at ``z = X beta + Z b + e`` with the working
response ``z = eta + s / W``, of the scores s of the rows and the weights W by expected information,
and ``Var(e) = 1 / W`` (N. E. Breslow and D. G. Clayton, 1993, Journal of the American Statistical
Association 88, 9-25). Where a family's expected information is not known, W is the observed one,
and the family's stand-in in rows where that is negative. Either way

    V = D + Z Sigma Z',      T T' = (X'V^-1 X)^-1,      G = V^-1 X T,      rest = z - X beta,

so that ``G'(X T) = I`` and the estimates are ``T G'z``.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np
from scipy.linalg import solve_triangular

from mixef.errors import FitError
from mixef.estimation.fit import Fit
from mixef.inference.residuals import response_of
from mixef.linalg.choose import make_cholesky
from mixef.linalg.crossproducts import crossproducts
from mixef.linalg.rows import GroupDesign, Rows
from mixef.terms.random import block_structure


@dataclass(frozen=True)
class WorkingModel:
    """A linear mixed model on rows that are sorted by cluster.

    Its coefficients are those of the fit turned by T, so that their covariance is the unit matrix.
    """

    X: np.ndarray  # (n, p): X T
    G: np.ndarray  # (n, p): V^-1 X T
    rest: np.ndarray  # (n,): the response less its fixed part
    variance: np.ndarray  # (n,): D, of the residuals
    #: Grouping factors, each with codes (n,) and columns z (n, s) such that ``Z Sigma Z'`` has
    #: the cell ``z_r'z_c`` for rows r and c of one level, summed over factors.
    groups: Sequence[GroupDesign]
    T: np.ndarray  # (p, p)
    codes: np.ndarray  # int (n,): the cluster of each row, ascending
    levels: Sequence[str]  # labels of the clusters (J,)

    @property
    def n_clusters(self) -> int:
        """Number of clusters, J."""
        return len(self.levels)

    @cached_property
    def counts(self) -> np.ndarray:
        """Number of rows of each cluster (J,)."""
        return np.bincount(self.codes, minlength=self.n_clusters)

    @cached_property
    def starts(self) -> np.ndarray:
        """The first row of each cluster (J,)."""
        return np.cumsum(self.counts) - self.counts

    def sums(self, rows: np.ndarray) -> np.ndarray:
        """Return sums over the rows of each cluster: (J, ...) for (n, ...)."""
        return np.add.reduceat(rows, self.starts, axis=0)


def working_response(fit: Fit) -> tuple[np.ndarray, np.ndarray]:
    """Return the information W (n,) of rows, and their working responses less the fixed part (n,).

    Raises
    ------
    FitError
        Where rows have no information on their means, so that their working responses are not
        there.
    """
    eta = fit.eta
    state = response_of(fit).at(eta, fit.extra)
    assert state is not None
    information = state.expected
    if fit.family.has_stand_in:
        information = np.where(state.observed > 0.0, state.observed, state.expected)
    empty = int((~(information > 0.0)).sum())
    if empty:
        raise FitError(
            f"{empty} of {fit.frame.n} rows have working weights of zero, since their means are at "
            "the end of their range or their prior weights are zero: a robust covariance is not "
            "defined there; check the fit for separation, or leave these rows out"
        )
    return information, eta - fit.fixed_predictor + state.score / information


def working_model(fit: Fit, codes: np.ndarray, levels: Sequence[str]) -> WorkingModel:
    """Return the working model of a fit for clusters of its rows, coded by ``codes`` (n,)."""
    fit.needs_exact("robust covariances")
    information, rest = working_response(fit)
    order = np.argsort(codes, kind="stable")
    root = np.sqrt(information)[order]
    groups = _groups(fit, order)
    scaled = [GroupDesign(g.codes, g.n_levels, root[:, None] * g.z) for g in groups]
    Q, R = np.linalg.qr(root[:, None] * fit.X[order])
    VQ, gram = _inverse_products(scaled, Q)
    C = np.linalg.inv(np.linalg.cholesky(gram)).T
    return WorkingModel(
        X=Q @ C / root[:, None],
        G=root[:, None] * (VQ @ C),
        rest=rest[order],
        variance=1.0 / information[order],
        groups=groups,
        T=solve_triangular(R, C),
        codes=codes[order],
        levels=levels,
    )


def _groups(fit: Fit, order: np.ndarray) -> list[GroupDesign]:
    """Return the columns ``z lam`` of each grouping factor, at the scale of the covariance."""
    blocks, _ = block_structure(fit.terms)
    scale, out = np.sqrt(fit.covariance_scale), []
    for members in blocks:
        columns = [fit.terms[t].z[order] @ fit.estimates.lams[t] for t in members]
        grouping = fit.terms[members[0]].grouping
        z = scale * np.column_stack(columns)
        out.append(GroupDesign(grouping.codes[order], grouping.n_levels, z))
    return out


def _inverse_products(
    groups: Sequence[GroupDesign], Q: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """Return ``V^-1 Q`` (n, p) and ``Q'V^-1 Q`` for ``V = I + Z Z'``.

    ``V^-1 Q = Q - Z u`` with ``(Z'Z + I) u = Z'Q``, and the second is ``R'R + u'u`` with R the
    first: a sum, not a difference.
    """
    products = crossproducts(Rows(groups, Q, np.zeros(len(Q))))
    layout = products.layout
    factor = make_cholesky(products)
    factor.update([np.eye(s) for s in layout.widths])
    u = factor.solve(products.ZtX)
    rest = Q.copy()
    for i, g in enumerate(groups):
        rest -= np.einsum("ns,nsk->nk", g.z, layout.by_level(i, u)[g.codes])
    return rest, rest.T @ rest + u.T @ u
