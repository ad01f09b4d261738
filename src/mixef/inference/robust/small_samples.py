"""Degrees of freedom of tests with a cluster-robust covariance.

A test of ``l'beta`` has the variance estimate ``sum_j (h_j'e_j)^2``, where h are the rows of the
corrected covariance times l. Under the model the ``h_j'e_j`` are normal with covariance

    P_ij = h_i'(V_ij - X_i X_j')h_j = 1(i = j) h_j'D_j h_j + R_i'R_j - u_i'u_j,
    R_j = Lambda'Z_j'h_j,       u_j = X_j'h_j,

and Satterthwaite's degrees of freedom are ``(sum_j P_jj)^2 / sum_ij P_ij^2`` (R. M. Bell and D. F.
McCaffrey, 2002, Survey Methodology 28, 169-181). For a joint test of q directions, P_ij are (q, q),
scaled so that ``sum_j P_jj = I``; Hotelling's T squared has

    eta = q (q + 1) / sum_ij [tr(P_ij)^2 + tr(P_ij P_ij)],    F = (eta - q + 1) / eta * Q / q,

with q and ``eta - q + 1`` degrees of freedom (E. Tipton and J. E. Pustejovsky, 2015, Small-sample
adjustments for tests of moderators and model fit using robust variance estimation in
meta-regression, Journal of Educational and Behavioral Statistics 40, 604-634: their HTZ).

Nothing here is a matrix over pairs of clusters, unless random effects hold them together: then the
sums of squares are over pairs of clusters that share a level, or of levels that share a cluster.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np
from scipy import sparse

from mixef.inference.robust.working import WorkingModel

# Products of a sparse matrix that are worked on at a time.
PIECE = 1e7
# Of a row on its own, every row of the data and coefficient costs about so many operations.
ROWS = 10
# Coefficients of quartic forms are not more than this.
MOST_CELLS = 3_000_000


class Corrected(ABC):
    """The rows H of a corrected covariance, ``A_j'G_j`` of every cluster, by sums over clusters.

    Directions C (p, q) stand for the rows ``h = H C``.

    Attributes
    ----------
    T : ndarray (p, p)
        From directions on coefficients of unit covariance to the user's coefficients.
    shares : Shares
    work : float
        Operations that one direction takes.
    """

    T: np.ndarray
    shares: Shares
    work: float

    @property
    @abstractmethod
    def scores(self) -> np.ndarray:
        """``H_j'e_j`` (J, p)."""

    @abstractmethod
    def spread(self, C: np.ndarray) -> np.ndarray:
        """Return ``h_j'D_j h_j`` (J, q, q)."""

    @abstractmethod
    def random(self, C: np.ndarray) -> np.ndarray:
        """Return ``R_j = Lambda'Z_j'h_j`` (E, q) of all shares."""

    @abstractmethod
    def fixed(self, C: np.ndarray) -> np.ndarray:
        """Return ``h_j'X_j`` (J, q, p)."""

    @cached_property
    def vcov(self) -> np.ndarray:
        """The covariance (p, p) of the user's coefficients."""
        half = self.T @ self.scores.T
        matrix: np.ndarray = half @ half.T
        matrix.flags.writeable = False
        return matrix


class CorrectedRows(Corrected):
    """Those of rows in memory.

    Parameters
    ----------
    model : WorkingModel
    H : ndarray (n, p)
    """

    def __init__(self, model: WorkingModel, H: np.ndarray):
        self.model, self.H, self.T = model, H, model.T
        self.work = float(ROWS * H.size)

    @property
    def scores(self) -> np.ndarray:
        """``H_j'e_j`` (J, p)."""
        return self.model.sums(self.H * self.model.rest[:, None])

    def spread(self, C: np.ndarray) -> np.ndarray:
        """Return ``h_j'D_j h_j`` (J, q, q)."""
        h, model = self.H @ C, self.model
        return np.stack([model.sums((model.variance * a)[:, None] * h) for a in h.T], axis=1)

    def random(self, C: np.ndarray) -> np.ndarray:
        """Return ``R_j`` (E, q)."""
        R: np.ndarray = self._by_share @ (self.H @ C)
        return R

    def fixed(self, C: np.ndarray) -> np.ndarray:
        """Return ``h_j'X_j`` (J, q, p)."""
        h, model = self.H @ C, self.model
        return np.stack([model.sums(model.X * a[:, None]) for a in h.T], axis=1)

    @cached_property
    def _met(self) -> list[tuple[np.ndarray, np.ndarray, np.ndarray]]:
        """The pairs of a cluster and a level that have rows, and the pair (n,) of each row."""
        out = []
        for g in self.model.groups:
            key = self.model.codes.astype(np.int64) * g.n_levels + g.codes
            pair, number = np.unique(key, return_inverse=True)
            out.append((*np.divmod(pair, g.n_levels), number))
        return out

    @cached_property
    def shares(self) -> Shares:  # type: ignore[override]
        """How levels and clusters meet."""
        groups, J = self.model.groups, self.model.n_clusters
        sizes = [(g.n_levels, g.z.shape[1]) for g in groups]
        return Shares.of([(level, cluster) for cluster, level, _ in self._met], sizes, J)

    @cached_property
    def _by_share(self) -> sparse.csr_array:
        """From rows h to the entries of R_j of all clusters (E, n)."""
        blocks = []
        for g, (_, level, number) in zip(self.model.groups, self._met, strict=True):
            n, s = g.z.shape
            entry = number[:, None] * s + np.arange(s)
            starts = np.arange(0, n * s + 1, s)
            shape = (n, len(level) * s)
            blocks.append(sparse.csr_array((g.z.ravel(), entry.ravel(), starts), shape).T.tocsr())
        return sparse.vstack(blocks, format="csr")


@dataclass(frozen=True, eq=False)
class ClusterRobust:
    """The approximation for a cluster-robust covariance."""

    beta: np.ndarray  # (p,)
    vcov: np.ndarray  # (p, p)
    corrected: Corrected

    def row_df(self, L: np.ndarray) -> np.ndarray:
        """Return the degrees of freedom (m,) of every row of L (m, p) by itself."""
        if not len(L):
            return np.empty(0)
        rows, place = np.unique(L, axis=0, return_inverse=True)
        shares = self.corrected.shares
        m, cells = len(rows), L.shape[1] ** 4
        few = m * self.corrected.work < (shares.n_clusters + m) * cells or cells > MOST_CELLS
        if few or not shares.is_nested:
            df = np.array([self._eta(row[None]) for row in rows])
        else:
            df = self._by_moments(rows @ self.corrected.T)
        return df[place.ravel()]

    def _by_moments(self, C: np.ndarray) -> np.ndarray:
        """Return the degrees of freedom of many rows C (m, p), which no level holds together.

        The sums are quadratic and quartic forms of a row, whose coefficients are sums over
        clusters: ``d_j = c'N_j c`` and ``u_j = M_j c``.
        """
        all_, p = np.eye(C.shape[1]), C.shape[1]
        N = self.corrected.spread(all_)
        N += self.corrected.shares.by_cluster(self.corrected.random(all_))
        M = self.corrected.fixed(all_).transpose(0, 2, 1)
        K = M.transpose(0, 2, 1) @ M
        flat_N, flat_K, flat_M = (each.reshape(len(each), -1) for each in (N, K, M))
        W = (flat_M.T @ flat_M).reshape(p, p, p, p).transpose(0, 2, 1, 3).reshape(p * p, p * p)
        cross = flat_N.T @ flat_K
        quartic = flat_N.T @ flat_N - cross - cross.T + W.T @ W
        squares = (C[:, :, None] * C[:, None, :]).reshape(len(C), -1)
        expected = squares @ (flat_N - flat_K).sum(axis=0)
        with np.errstate(divide="ignore", invalid="ignore"):
            return expected**2 / np.einsum("ma,ma->m", squares @ quartic, squares)

    def joint(self, D: np.ndarray) -> tuple[float, float]:
        """Return denominator degrees of freedom and scaling of F, for directions (q, p).

        NaN where there are too few clusters for a test of so many directions.
        """
        q, eta = len(D), self._eta(D)
        df = eta - q + 1.0
        return (df, df / eta) if df > 0.0 else (np.nan, np.nan)

    def _eta(self, L: np.ndarray) -> float:
        """Return eta for directions (q, p); NaN where the variance has no expectation there."""
        C, shares = (L @ self.corrected.T).T, self.corrected.shares
        delta, R, U = (f(C) for f in (
            self.corrected.spread, self.corrected.random, self.corrected.fixed
        ))  # fmt: skip
        r = shares.by_cluster(R)
        expected = (delta + r).sum(axis=0) - np.tensordot(U, U, axes=([0, 2], [0, 2]))
        try:
            root = np.linalg.inv(np.linalg.cholesky(expected))
        except np.linalg.LinAlgError:
            return np.nan
        d, r = root @ (delta + r) @ root.T, root @ r @ root.T
        total = _squares(d, root @ U)
        if not shares.is_nested:
            total += shares.between(R @ root.T, r, root @ U)
        q = len(L)
        return float(q * (q + 1) / total)


def _squares(d: np.ndarray, U: np.ndarray) -> float:
    """Return ``sum_ij tr(P_ij)^2 + tr(P_ij P_ij)`` for ``P_ij = 1(i = j) d_j - U_i U_j'``."""
    v = U @ U.transpose(0, 2, 1)
    traces = np.einsum("jss->j", d) @ np.einsum("jss->j", d - 2.0 * v)
    total = float(traces + (d * (d - 2.0 * v)).sum())
    for s in range(U.shape[1]):
        C = np.einsum("ja,jtb->tab", U[:, s], U, optimize=True)
        total += float((C * (C + C.transpose(0, 2, 1))).sum())
    return total


@dataclass(frozen=True)
class Shares:
    """How levels of the random effects and clusters meet: once for every pair of them."""

    place: np.ndarray  # int (E,): the random effect of each entry
    cluster: np.ndarray  # int (E,)
    shape: tuple[int, int]  # random effects, clusters
    is_nested: bool  # whether no level is in two clusters

    @classmethod
    def of(
        cls,
        pairs: Sequence[tuple[np.ndarray, np.ndarray]],
        sizes: Sequence[tuple[int, int]],
        n_clusters: int,
    ) -> Shares:
        """Return the shares of grouping factors.

        Parameters
        ----------
        pairs : sequence of (ndarray, ndarray)
            The levels and the clusters that have rows in common, of each factor.
        sizes : sequence of (int, int)
            Levels and columns of each factor.
        """
        places, clusters, first, nested = [], [], 0, True
        for (level, cluster), (n_levels, s) in zip(pairs, sizes, strict=True):
            places.append((first + level[:, None] * s + np.arange(s)).ravel())
            clusters.append(np.repeat(cluster, s))
            nested = nested and len(np.unique(level)) == len(level)
            first += n_levels * s
        shape = (first, n_clusters)
        return cls(np.concatenate(places), np.concatenate(clusters), shape, nested)

    @property
    def n_clusters(self) -> int:
        """Number of clusters, J."""
        return self.shape[1]

    @cached_property
    def _of_clusters(self) -> sparse.csr_array:
        """Ones (J, E) where an entry is of a cluster."""
        E = len(self.cluster)
        cells = (np.ones(E), (self.cluster, np.arange(E)))
        return sparse.csr_array(cells, shape=(self.shape[1], E))

    def sums(self, entries: np.ndarray) -> np.ndarray:
        """Return sums over the entries of each cluster: (J, k) for (E, k)."""
        sums: np.ndarray = self._of_clusters @ entries
        return sums

    def by_cluster(self, R: np.ndarray) -> np.ndarray:
        """Return ``R_j'R_j`` (J, q, q)."""
        return np.stack([self.sums(column[:, None] * R) for column in R.T], axis=1)

    def between(self, R: np.ndarray, r: np.ndarray, U: np.ndarray) -> float:
        """Return what ``R_i'R_j`` adds to the sum of squares for clusters i other than j."""
        v = U @ U.transpose(0, 2, 1)
        by_direction = [
            sparse.csr_array((column, (self.place, self.cluster)), shape=self.shape)
            for column in R.T
        ]
        traces = np.einsum("jss->j", r) @ np.einsum("jss->j", r - 2.0 * v)
        total = -float(traces + (r * (r - 2.0 * v)).sum())
        for s, A in enumerate(by_direction):
            for t, B in enumerate(by_direction[: s + 1]):
                AU, BU = A @ U[:, t], B @ U[:, s]
                crossed = (AU * (AU + 2.0 * BU) + BU * BU).sum()
                share = self._products(A, B) - float(crossed)
                total += share if s == t else 2.0 * share
        return total

    def _products(self, A: sparse.csr_array, B: sparse.csr_array) -> float:
        """Return ``<A'A, B'B> + <A'B, B'A>``, by pairs of clusters or by pairs of effects."""
        by_clusters = float((np.bincount(self.place).astype(float) ** 2).sum())
        by_effects = float((np.bincount(self.cluster).astype(float) ** 2).sum())
        if by_clusters <= by_effects:
            work, At, Bt = by_clusters, A.T.tocsr(), B.T.tocsr()
            pairs = [((At, A), (Bt, B)), ((At, B), (Bt, A))]
        else:
            work, At, Bt = by_effects, A.T.tocsr(), B.T.tocsr()
            pairs = [((A, Bt), (A, Bt)), ((A, Bt), (B, At))]
        return sum(_inner(left, right, int(work // PIECE) + 1) for left, right in pairs)


def _inner(
    left: Sequence[sparse.csr_array], right: Sequence[sparse.csr_array], pieces: int
) -> float:
    """Return the sum of the cells of ``(A B) * (C D)``, some columns at a time."""
    (A, B), (C, D) = left, right
    total = 0.0
    for columns in np.array_split(np.arange(B.shape[1]), pieces):
        part = slice(columns[0], columns[-1] + 1) if len(columns) else slice(0)
        total += float((A @ B[:, part]).multiply(C @ D[:, part]).sum())
    return total
