"""``B = I + E`` of any number of crossed terms of several columns, scaled block by block."""

from __future__ import annotations

import itertools
from collections.abc import Sequence

import numpy as np

from mixef.linalg.factor import not_positive_definite
from mixef.linalg.iterative.block_graph import BlockGraph
from mixef.linalg.iterative.graph import in_threads
from mixef.linalg.iterative.scaled import Scaled
from mixef.linalg.kernels import compiled

Turned = tuple[np.ndarray, list[np.ndarray], bool]


class Blocks(Scaled):
    """``B = I + E`` of crossed terms, the one with the most levels eliminated.

    With ``P_u`` and ``K = lam_1 lam_1'`` of the first term, A its blocks with the others, and
    ``Z'WZ`` of the others without their own blocks as N,

        R_u = (I + P_u K)^-1,  W_u = K R_u,  G = (Z'WZ)_22 - A'W A,  S = I + Lambda'G Lambda

    Then ``T_1 = sum_u [R P - R A Lambda S^-1 Lambda'A'R']_uu`` and, for the others,
    ``T_i = sum_l [G - G Lambda S^-1 Lambda'G]_ll``: none needs the inverse of a template.

    Parameters
    ----------
    graph : BlockGraph
    diagonals : sequence of ndarray (l_i, s_i, s_i)
        The diagonal blocks of ``Z_i'WZ_i`` by role, in the graph's order.
    lams : sequence of ndarray (s_i, s_i)
        Templates by role.
    """

    orders = (1,)

    def __init__(
        self, graph: BlockGraph, diagonals: Sequence[np.ndarray], lams: Sequence[np.ndarray]
    ):
        self.graph, self._lams = graph, lams
        self._first, *self._rest = graph.roles
        P, lam = diagonals[0], lams[0]
        self._R1 = _inverse(np.eye(len(lam)) + P @ (lam @ lam.T))
        self.first = (lam @ lam.T) @ self._R1
        self._D1inv = _inverse(np.eye(len(lam)) + lam.T @ P @ lam)
        G = [
            D - self._squares(i, self._first, self.first)
            for D, i in zip(diagonals[1:], self._rest, strict=True)
        ]
        self._own = [D - g for D, g in zip(diagonals[1:], G, strict=True)]
        self._R, self.roots, self._Cinv, roots = [], [], [], []
        for g, t in zip(G, lams[1:], strict=True):
            root = _cholesky(np.eye(len(t)) + t.T @ g @ t)
            roots.append(root)
            self._Cinv.append(_inverse(root))
            self.roots.append(t @ self._Cinv[-1].transpose(0, 2, 1))  # lam C^-T
            self._R.append(_inverse(np.eye(len(t)) + g @ (t @ t.T)))
        sizes = [len(root) * root.shape[1] for root in roots]
        ends = np.cumsum([0, *sizes])
        self._slices = [slice(a, b) for a, b in itertools.pairwise(ends)]
        self.size, self.names, self.n_pairs = int(ends[-1]), graph.names, graph.n_pairs
        sign, log_R1 = np.linalg.slogdet(self._R1)
        if not bool((sign > 0.0).all()):
            raise not_positive_definite()
        self.base = -float(log_R1.sum())
        self.base += 2.0 * sum(float(np.log(np.einsum("laa->la", root)).sum()) for root in roots)
        self.base_slopes = self._exact_traces(P, G)
        self.near_null = np.concatenate([root.sum(axis=1).ravel() for root in roots])
        # With more than two terms, one that stands has its part in the traces of the others.
        standing = sum(bool(t.any()) for t in lams)
        self.apart = (standing < 2 and len(lams) == 2) or graph.n_pairs == 0

    def _exact_traces(self, P: np.ndarray, G: list[np.ndarray]) -> np.ndarray:
        """Return T_1, T_2, ... where S is block diagonal, flat."""
        R1 = self._R1
        first = (R1 @ P).sum(axis=0)
        for H, i in zip(self.roots, self._rest, strict=True):
            squares = self._squares(self._first, i, H @ H.transpose(0, 2, 1))
            first = first - (R1 @ squares @ R1.transpose(0, 2, 1)).sum(axis=0)
        others = [(R @ g).sum(axis=0) for R, g in zip(self._R, G, strict=True)]
        return np.concatenate([T.ravel() for T in (first, *others)])

    def _squares(self, i: int, j: int, W: np.ndarray) -> np.ndarray:
        """Return ``sum_u A_u W_u A_u'`` (l_i, s_i, s_i) over the levels u of term j."""
        side, s, t = self.graph.sides[i, j], self.graph.layout.widths[i], W.shape[1]
        out = np.empty((self.graph.layout.n_levels[i], s, s))
        W = np.ascontiguousarray(W)
        kernel = compiled()["block_squares"]
        bounds = [end // s for end in side.bounds(s * t)]
        bounds[-1] = len(out)
        in_threads(lambda a, b: kernel(*side.arrays, W, out, a, b), bounds)
        return out

    def E_times(self, V: np.ndarray, single: bool = False) -> np.ndarray:
        """Return ``E V``."""
        _, off = self._products(V, single)
        parts = [_times(H.transpose(0, 2, 1), f) for H, f in zip(self.roots, off, strict=True)]
        return np.concatenate(parts)

    def _products(self, V: np.ndarray, single: bool) -> tuple[np.ndarray, list[np.ndarray]]:
        """Return ``A v`` and ``(G - its own blocks) v`` by term, for ``v = Lambda C^-T V``."""
        v, kind = self._effects(V), np.float32 if single else np.float64
        sides, narrow = self.graph.sides, [part.astype(kind, copy=False) for part in v]
        Av = self._A_times(narrow)
        half = _times(self.first, Av).astype(kind, copy=False)
        off = []
        for own, x, i in zip(self._own, v, self._rest, strict=True):
            out = _times(own, x) - sides[i, self._first].gather(half)
            for j, other in zip(self._rest, narrow, strict=True):
                if j != i:
                    out += sides[i, j].gather(other)
            off.append(out)
        return Av, off

    def _effects(self, V: np.ndarray) -> list[np.ndarray]:
        """Return ``H V`` by term."""
        pairs = zip(self.roots, self._slices, strict=True)
        return [_times(H, V[rows]) for H, rows in pairs]

    def _A_times(self, v: list[np.ndarray]) -> np.ndarray:
        Av = np.zeros((len(self.first) * self.first.shape[1], v[0].shape[1]))
        for i, x in zip(self._rest, v, strict=True):
            Av += self.graph.sides[self._first, i].gather(x)
        return Av

    def lifted(self, V: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Return ``-W A H V`` and ``H V``."""
        v = self._effects(V)
        return -_times(self.first, self._A_times(v)), np.concatenate(v)

    def squares_of(self, k: int, W: np.ndarray) -> np.ndarray:
        """Return ``sum_u A_u'W_u A_u`` by level of a term that is not eliminated."""
        return self._squares(self._rest[k], self._first, W)

    def squares_of_first(self, k: int, Q: np.ndarray) -> np.ndarray:
        """Return ``sum_l A_l Q_l A_l'``."""
        return self._squares(self._first, self._rest[k], Q)

    def turned(self, V: np.ndarray, EV: np.ndarray, single: bool) -> Turned:
        """Return ``R A Lambda C^-T V``, and ``R_i`` times G's product without its own blocks."""
        Av, off = self._products(V, single)
        others = [_times(R, f) for R, f in zip(self._R, off, strict=True)]
        return _times(self._R1, Av), others, single

    def slopes(self, V: np.ndarray, turned: Turned, X: np.ndarray, EX: np.ndarray) -> np.ndarray:
        """Return what vectors see of T_1, T_2, ... less what is exact.

        ``B^-1 = I - E + E (I + E)^-1 E``, of which the first two have exact traces level by level,
        and ``V + X`` is ``(I + E)^-1 V``.
        """
        of_V, of_X = turned, self.turned(X, EX, turned[2])
        parts = [_level_products(of_X[0], of_V[0], self._R1.shape[1])]
        for z, x, R in zip(of_V[1], of_X[1], self._R, strict=True):
            parts.append(_level_products(z + x, z, R.shape[1]))
        out: np.ndarray = -np.concatenate(parts, axis=1)
        return out

    def eliminated(self, R1: np.ndarray, R2: np.ndarray) -> np.ndarray:
        """Return the right-hand side of ``B x``."""
        moved = _times(self._lams[0] @ self._D1inv, R1)
        out = []
        for H, Cinv, i, rows in zip(self.roots, self._Cinv, self._rest, self._slices, strict=True):
            less = self.graph.sides[i, self._first].gather(moved)
            out.append(_times(Cinv, R2[rows]) - _times(H.transpose(0, 2, 1), less))
        return np.concatenate(out)

    def back(self, R1: np.ndarray, x: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Return u of both parts."""
        Av, _ = self._products(x, single=False)
        U1 = _times(self._D1inv, R1 - _times(self._lams[0].T[None], Av))
        parts = zip(self._Cinv, self._slices, strict=True)
        return U1, np.concatenate([_times(C.transpose(0, 2, 1), x[rows]) for C, rows in parts])


def _times(blocks: np.ndarray, v: np.ndarray) -> np.ndarray:
    """Return the products (l s, k) of blocks (l, s, s), or of one for all (1, s, s), and v."""
    s = blocks.shape[1]
    if s == 1:
        scaled: np.ndarray = blocks[:, 0] * v
        return scaled
    product: np.ndarray = np.matmul(blocks, v.reshape(-1, s, v.shape[1]))
    return product.reshape(v.shape)


def _level_products(x: np.ndarray, z: np.ndarray, s: int) -> np.ndarray:
    """Return the symmetric part of ``sum_l x_l z_l'`` (k, s^2), column by column of x and z."""
    k = x.shape[1]
    total = np.einsum("lak,lbk->kab", x.reshape(-1, s, k), z.reshape(-1, s, k))
    both: np.ndarray = 0.5 * (total + total.transpose(0, 2, 1))
    return both.reshape(k, s * s)


def _inverse(M: np.ndarray) -> np.ndarray:
    """Return the inverses of small matrices (l, s, s)."""
    inverse: np.ndarray = 1.0 / M if M.shape[1] == 1 else np.linalg.inv(M)
    return inverse


def _cholesky(M: np.ndarray) -> np.ndarray:
    """Return the lower Cholesky factors of small matrices (l, s, s)."""
    try:
        root: np.ndarray = np.linalg.cholesky(M)
    except np.linalg.LinAlgError as error:
        raise not_positive_definite() from error
    return root
