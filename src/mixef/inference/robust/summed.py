"""Cluster-robust covariances of rows that an engine has, by sums over clusters of one pass.

With weighted rows (each times the root of its weight), let ``Q = X T``, ``j = V^-1 Q`` and y the
working residuals. What a correction asks of the rows of a cluster are sums of products of
``[Q j y]`` with themselves and, for every level of the random effects that has rows there, with
``Z Lambda``: the rows ``G_j`` are j, and

    CR3   A_j'G_j = j (I - Q'j)^-1,        CR2   A_j'G_j = j + P (A - I) P'j,

with an orthonormal basis P of the cluster's columns ``C = [Q Z]``. Where no level is in two
clusters, ``C'C`` comes from the cross-products of the model, and P from its eigenvectors.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from scipy import sparse

from mixef.errors import MemoryNeededError, RowsElsewhereError
from mixef.estimation.fit import Fit
from mixef.inference.robust.clusters import Clusters
from mixef.inference.robust.corrections import CELLS, FACTORS, inverse_rest, require_room
from mixef.inference.robust.roots import geometric_mean
from mixef.inference.robust.small_samples import Corrected, Shares
from mixef.inference.robust.working import working_response
from mixef.inference.row_factors import with_columns
from mixef.linalg.choose import make_cholesky
from mixef.linalg.crossproducts import CrossProducts, summed_by_pieces
from mixef.linalg.factor import fits
from mixef.linalg.layout import Layout
from mixef.linalg.level_sums import LevelSums
from mixef.linalg.pairs import PairSums
from mixef.linalg.rows import GroupDesign, RowPasses, Rows
from mixef.linalg.standardize import root_weighted
from mixef.memory import available

# Columns of a cluster whose squared length beside the others is below this are combinations.
THIN = 1e-11


class WorkingRows(RowPasses):
    """The rows of the working model of a fit, on the scaled columns of Z and on ``Q = X T``."""

    def __init__(self, fit: Fit, T: np.ndarray):
        self.fit, self.T, self.n = fit, T, fit.frame.n
        blocks = fit.problem.terms.blocks
        terms = [[fit.terms[t] for t in members] for members in blocks]
        self.layout = Layout(
            tuple(own[0].n_levels for own in terms),
            tuple(sum(len(term.columns) for term in own) for own in terms),
            tuple(" and ".join(f"({term.label})" for term in own) for own in terms),
        )
        self.lowest, self.highest = np.inf, 0.0  # of the weights

    def pieces(self) -> Iterator[Rows]:
        """Yield the rows."""
        return (self.of(piece) for piece in self.fit.pieces())

    def of(self, piece: Fit) -> Rows:
        """Return some of the rows."""
        information, rest = working_response(piece)
        W, terms = information * piece.covariance_scale, piece.problem.terms
        self.lowest, self.highest = min(self.lowest, W.min()), max(self.highest, W.max())
        z = [b.scaled(root_weighted(t.z, W)) for b, t in zip(terms.bases, piece.terms, strict=True)]
        groups = [
            GroupDesign(
                piece.terms[members[0]].grouping.codes,
                n_levels,
                np.column_stack([z[t] for t in members]),
            )
            for members, n_levels in zip(terms.blocks, self.layout.n_levels, strict=True)
        ]
        return Rows(groups, root_weighted(piece.X, W) @ self.T, root_weighted(rest, W))


@dataclass(frozen=True, eq=False)
class ClusterSums:
    """Sums of products of the columns ``[Q j y]`` over the rows of each cluster."""

    own: np.ndarray  # (J, 2 p + 1, 2 p + 1): with themselves
    met: np.ndarray  # (E, 2 p + 1): with ``Z Lambda``, a row for each entry of the shares
    shares: Shares
    T: np.ndarray  # (p, p)
    products: CrossProducts  # of the scaled columns of Z
    lams: tuple[np.ndarray, ...]
    is_even: bool  # whether all rows have one weight

    @property
    def p(self) -> int:
        """Number of coefficients."""
        return len(self.T)

    def blocks(self) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
        """Return ``j'j`` and ``j'Q`` (J, p, p), ``j'y`` (J, p), ``Lambda'Z'j`` (E, p)."""
        p, own = self.p, self.own
        j = slice(p, 2 * p)
        return own[:, j, j], own[:, j, :p], own[:, j, 2 * p], self.met[:, j]


class CorrectedSums(Corrected):
    """Corrected rows by their sums.

    Parameters
    ----------
    scores, fixed, spread : ndarray (J, p), (J, p, p), (J, p, p)
        ``H'e``, ``H'X`` and ``H'D H``.
    random : ndarray (E, p)
        ``Lambda'Z'H``.
    """

    scores = np.zeros(0)

    def __init__(
        self, sums: ClusterSums, spread: np.ndarray, fixed: np.ndarray, scores: np.ndarray,
        random: np.ndarray,
    ):  # fmt: skip
        self.T, self.shares, self.scores = sums.T, sums.shares, scores
        self._spread, self._fixed, self._random = spread, fixed, random
        self.work = float(spread.size)

    def spread(self, C: np.ndarray) -> np.ndarray:
        """Return ``h_j'D_j h_j`` (J, q, q)."""
        spread: np.ndarray = C.T @ self._spread @ C
        return spread

    def random(self, C: np.ndarray) -> np.ndarray:
        """Return ``R_j`` (E, q)."""
        return self._random @ C

    def fixed(self, C: np.ndarray) -> np.ndarray:
        """Return ``h_j'X_j`` (J, q, p)."""
        fixed: np.ndarray = C.T @ self._fixed
        return fixed


def corrected_sums(fit: Fit, type: str, clusters: Clusters) -> CorrectedSums:
    """Return the sums that a cluster-robust covariance is made of.

    Raises
    ------
    RowsElsewhereError
        For CR2 where residuals have several variances, or levels several clusters.
    """
    sums = cluster_sums(fit, clusters)
    J, p = clusters.n, sums.p
    spread, fixed, scores, random = sums.blocks()
    if type == "CR2":
        return _unbiased(fit, sums, clusters)
    if type == "CR3":
        B = inverse_rest(fixed.transpose(0, 2, 1), clusters.levels, np.arange(J))
        Bt = B.transpose(0, 2, 1)
        random = np.einsum("ep,epq->eq", random, B[sums.shares.cluster])
        return CorrectedSums(
            sums, Bt @ spread @ B, Bt @ fixed, (Bt @ scores[:, :, None])[:, :, 0], random
        )
    factor = FACTORS[type](J, fit.frame.n, p)
    root = np.sqrt(factor)
    return CorrectedSums(sums, factor * spread, root * fixed, root * scores, root * random)


def cluster_sums(fit: Fit, clusters: Clusters) -> ClusterSums:
    """Read the rows for the sums over clusters: once for a linear model, else twice."""
    fit.needs_exact("robust covariances")
    T = np.linalg.cholesky(fit.model_vcov)
    rows = WorkingRows(with_columns(fit, clusters.name), T)
    lams = tuple(fit.problem.terms.parametrization.lams(fit.scaled_par))
    if fit.is_linear:
        products, back = fit.problem.products, fit.problem.x_basis.R @ T
    else:
        products, back = summed_by_pieces(rows), np.eye(len(T))
    layout, p, J = products.layout, len(T), clusters.n
    _require_sums(J, 2 * p + 1, clusters.name)
    factor = make_cholesky(products)
    factor.update(lams)
    u = factor.solve(layout.multiply(lams, products.ZtX @ back, transpose=True))
    b = layout.multiply(lams, u)
    own = LevelSums(J, 2 * p + 1, 0)
    met = [
        PairSums((n_levels, J), (s, 2 * p + 1), rows.n)
        for n_levels, s in zip(layout.n_levels, layout.widths, strict=True)
    ]
    for piece in rows.fit.pieces():
        part, codes = rows.of(piece), clusters.of(piece)
        Q = np.asarray(part.X)
        j = Q.copy()
        for i, g in enumerate(part.groups):
            j -= np.einsum("ns,nsp->np", g.z, layout.by_level(i, b)[g.codes])
        columns = np.column_stack([Q, j, part.y])
        own.add(GroupDesign(codes, J, columns), columns[:, :0])
        for g, pairs in zip(part.groups, met, strict=True):
            pairs.add(g.codes, codes, g.z, columns)
    found, totals = own.total(), [pairs.total() for pairs in met]
    with_lams = [lam.T @ blocks for lam, (_, _, blocks) in zip(lams, totals, strict=True)]
    shares = Shares.of(
        [(levels, cluster) for levels, cluster, _ in totals],
        list(zip(layout.n_levels, layout.widths, strict=True)),
        J,
    )
    # Q'V^-1 Q, as a sum and not a difference.
    gram = found[:, p : 2 * p, p : 2 * p].sum(axis=0) + u.T @ u
    C = np.linalg.inv(np.linalg.cholesky(gram)).T
    turn = np.zeros((2 * p + 1, 2 * p + 1))
    turn[:p, :p] = turn[p : 2 * p, p : 2 * p] = C
    turn[2 * p, 2 * p] = 1.0
    entries = np.concatenate([blocks.reshape(-1, 2 * p + 1) for blocks in with_lams])
    is_even = rows.lowest == rows.highest
    return ClusterSums(
        turn.T @ found @ turn, entries @ turn, shares, T @ C, products, lams, is_even
    )


def _require_sums(J: int, width: int, name: str) -> None:
    """Refuse sums that take more memory than there is.

    Raises
    ------
    MemoryNeededError
    """
    needed = 8.0 * 4 * J * width**2
    if not fits(needed):
        raise MemoryNeededError(
            f"sums over the {J:,} clusters of {name} need about {needed / 1e9:.3g} GB, and "
            f"{available() / 1e9:.3g} GB are available; take larger clusters, or fewer predictors"
        )


def _unbiased(fit: Any, sums: ClusterSums, clusters: Clusters) -> CorrectedSums:
    """CR2 of nested clusters whose residuals have one variance."""
    reason = None
    if not sums.is_even:
        reason = "where residuals have several variances, as by weights or in a generalized model"
    elif clusters.crossed:
        reason = f"where {' and '.join(clusters.crossed)} cross the clusters"
    if reason is not None:
        raise RowsElsewhereError(
            f"CR2 by {clusters.name} needs the rows of a cluster together {reason}, but the "
            f"{fit.frame.n:,} rows are in {fit.frame.relation.engine}: use 'CR3', which is near to "
            "it, or 'CR1'; or collect the table, and fit the model to that"
        )
    p, shares, ZtZ = sums.p, sums.shares, _spherical(sums.products, sums.lams)
    spread, fixed, scores, random = (part.copy() for part in sums.blocks())
    order = np.argsort(shares.cluster, kind="stable")
    counts = np.bincount(shares.cluster, minlength=clusters.n)
    starts = np.cumsum(counts) - counts
    for k in np.unique(counts).tolist():
        members = np.flatnonzero(counts == k)
        step = max(CELLS // (p + k) ** 2, 1)
        for some in np.split(members, range(step, len(members), step)):
            require_room(len(some), p + k, p + k)
            entries = order[starts[some, None] + np.arange(k)]
            own, met, place = sums.own[some], sums.met[entries], shares.place[entries]
            K = np.empty((len(some), p + k, p + k))
            K[:, :p, :p] = own[:, :p, :p]
            K[:, p:, :p] = met[:, :, :p]
            K[:, :p, p:] = met[:, :, :p].transpose(0, 2, 1)
            K[:, p:, p:] = _cells(ZtZ, place)
            # Of C'[Q j y] and C'Z Lambda to those of an orthonormal basis.
            Pt = _orthonormal(K)
            QZ, ofj = Pt @ K, Pt @ np.concatenate([own[:, :p], met], axis=1)
            PQ, PZ, Pj, Py = QZ[:, :, :p], QZ[:, :, p:], ofj[:, :, p : 2 * p], ofj[:, :, 2 * p]
            V = PZ @ PZ.transpose(0, 2, 1) + np.eye(p + k)
            E = geometric_mean(V, PQ) @ Pj - Pj
            Et = E.transpose(0, 2, 1)
            both = Et @ Pj
            spread[some] += both + both.transpose(0, 2, 1) + Et @ E
            fixed[some] += Et @ PQ
            scores[some] += (Et @ Py[:, :, None])[:, :, 0]
            random[entries] += PZ.transpose(0, 2, 1) @ E
    return CorrectedSums(sums, spread, fixed, scores, random)


def _orthonormal(K: np.ndarray) -> np.ndarray:
    """Return P' (b, r, r) with ``P'K P = I``, and rows of zeros for combinations of columns."""
    sizes = np.sqrt(np.einsum("brr->br", K))
    inverse = np.divide(1.0, sizes, out=np.zeros_like(sizes), where=sizes > 0.0)
    values, vectors = np.linalg.eigh(K * inverse[:, :, None] * inverse[:, None, :])
    roots = np.where(values > THIN, 1.0 / np.sqrt(np.maximum(values, THIN)), 0.0)
    return (vectors * roots[:, None, :]).transpose(0, 2, 1) * inverse[:, None, :]


def _spherical(products: CrossProducts, lams: Sequence[np.ndarray]) -> sparse.csr_array:
    """Return ``Lambda'Z'Z Lambda`` (q, q)."""
    blocks = [
        sparse.kron(sparse.identity(n_levels), lam)
        for n_levels, lam in zip(products.layout.n_levels, lams, strict=True)
    ]
    Lambda = sparse.block_diag(blocks, format="csr")
    return sparse.csr_array(Lambda.T @ sparse.csr_array(products.ZtZ) @ Lambda)


def _cells(matrix: sparse.csr_array, place: np.ndarray) -> np.ndarray:
    """Return the cells (b, k, k) of all pairs of places (b, k)."""
    b, k = place.shape
    rows, columns = np.repeat(place, k, axis=1).ravel(), np.tile(place, k).ravel()
    cells: np.ndarray = np.asarray(sparse.csr_matrix(matrix)[rows, columns]).reshape(b, k, k)
    return cells
