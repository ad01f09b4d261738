"""The remainder of two crossed factors, scaled to one on its diagonal: ``B = I + E``.

With the larger factor eliminated, ``M`` becomes

    D1 = I + a d1,  S = I + b (d2 - A'w A),  w = a / D1,   a = lam_1^2, b = lam_2^2

and ``log|M| = sum log D1 + sum log dS + log|B|`` for ``B = dS^-1/2 S dS^-1/2``, dS the diagonal of
S. All is smooth in a and b, at zero too.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from mixef.linalg.factor import not_positive_definite
from mixef.linalg.iterative.graph import THREADS, Graph, in_threads
from mixef.linalg.iterative.scaled import Scaled
from mixef.linalg.kernels import compiled


class TwoScalars(Scaled):
    """``B = I + E`` of two crossed scalar factors.

    Parameters
    ----------
    graph : Graph
    diagonals : sequence of ndarray (l_i, 1, 1)
        Those of ``Z_i'WZ_i`` by role, in the graph's order.
    lams : sequence of ndarray (1, 1)
        Templates by role.
    """

    orders = (1, 2)

    def __init__(self, graph: Graph, diagonals: Sequence[np.ndarray], lams: Sequence[np.ndarray]):
        d1, d2 = (D.ravel() for D in diagonals)
        self.graph, self.d2 = graph, d2
        self.lam1, self.lam2 = (float(lam[0, 0]) for lam in lams)
        self.a, self.b = self.lam1**2, self.lam2**2
        self.D1 = 1.0 + self.a * d1
        # w and its derivative by a, which both take the square of A's scale with them.
        self.w = np.column_stack([self.a / self.D1, 1.0 / self.D1**2]) * graph.scale**2
        own = graph.two.gather_squares(self.w)
        self.dS = 1.0 + self.b * (d2 - own[:, 0])
        if not bool((self.dS > 0.0).all()):
            raise not_positive_definite()
        self.sd = 1.0 / np.sqrt(self.dS)
        self._own = self.b * own[:, 0] / self.dS  # what makes the diagonal of E zero
        self.dlog = np.column_stack([-self.b * own[:, 1], d2 - own[:, 0]]) / self.dS[:, None]
        self.base = float(np.log(self.D1).sum() + np.log(self.dS).sum())
        self.size, self.names, self.n_pairs = len(d2), graph.names, graph.n_pairs
        self.near_null = np.sqrt(self.dS)
        self.apart = self.a == 0.0 or self.b == 0.0 or graph.n_pairs == 0
        # Derivatives by a and b are T_1 and T_2.
        self.base_slopes = self.dlog.sum(axis=0) + np.array([(d1 / self.D1).sum(), 0.0])

    def E_times(self, V: np.ndarray, single: bool = False) -> np.ndarray:
        """Return ``E V``."""
        scale = (-self.b * self.sd)[:, None]
        out: np.ndarray = self._gram_times(self.sd[:, None] * V, 0, single) * scale
        out += self._own[:, None] * V
        return out

    def turned(self, V: np.ndarray, EV: np.ndarray, single: bool) -> tuple[np.ndarray, np.ndarray]:
        """Return what `slopes` needs, for a and for b.

        These are ``dS^-1/2 (dS) dS^-1/2 V - h (V + EV) / 2``, with h the derivatives of log dS.
        """
        v, sd = self.sd[:, None] * V, self.sd[:, None]
        by_a = -self.b * sd * self._gram_times(v, 1, single)
        # dS/db v = d2 v - A'w A v, and E V has the second product in it.
        by_b = sd * self.d2[:, None] * v + (EV - self._own[:, None] * V) / self.b
        h_a, h_b = (0.5 * column[:, None] * (V + EV) for column in self.dlog.T)
        return by_a - h_a, by_b - h_b

    def slopes(
        self, V: np.ndarray, turned: tuple[np.ndarray, np.ndarray], X: np.ndarray, EX: np.ndarray
    ) -> np.ndarray:
        """Return ``x'(dE/da) v`` and ``x'(dE/db) v`` (k, 2)."""
        half = 0.5 * np.einsum("jk,ja,jk->ka", X + EX, self.dlog, V)
        firsts = [np.einsum("jk,jk->k", X, part) for part in turned]
        out: np.ndarray = np.column_stack(firsts) - half
        return out

    def _gram_times(self, V: np.ndarray, which: int, single: bool) -> np.ndarray:
        """Return ``A' w A V``, for the weights or for their derivative."""
        half = self.graph.one.gather(V.astype(np.float32 if single else np.float64, copy=False))
        half *= self.w[:, which, None]
        return self.graph.two.gather(half)

    @property
    def roots(self) -> list[np.ndarray]:  # type: ignore[override]
        """``lam_2 dS^-1/2`` (l_2, 1, 1)."""
        return [(self.lam2 * self.sd)[:, None, None]]

    @property
    def first(self) -> np.ndarray:  # type: ignore[override]
        """``a / D1`` (l_1, 1, 1)."""
        return (self.a / self.D1)[:, None, None]

    def lifted(self, V: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Return ``-W A H V`` and ``H V``."""
        X2 = (self.lam2 * self.sd)[:, None] * V
        return (-self.a / self.D1)[:, None] * self.graph.times(X2), X2

    def squares_of(self, k: int, W: np.ndarray) -> np.ndarray:
        """Return ``sum_u A_u'W_u A_u`` (l_2, 1, 1)."""
        squares = self.graph.two.gather_squares(W[:, :, 0]) * self.graph.scale**2
        return squares[:, :, None]

    def squares_of_first(self, k: int, Q: np.ndarray) -> np.ndarray:
        """Return ``sum_l A_l Q_l A_l'`` (l_1, 1, 1)."""
        squares = self.graph.one.gather_squares(Q[:, :, 0]) * self.graph.scale**2
        return squares[:, :, None]

    def second_moment(self) -> tuple[float, np.ndarray]:
        """Return ``tr E^2`` and its derivatives (2,) by a and b, exactly."""
        n = len(self.sd)
        sums = np.zeros((THREADS, 3))
        sides = (*self.graph.two.arrays, *self.graph.one.arrays)

        def part(first: int, last: int) -> None:
            levels = np.arange(first, n, THREADS)
            kernel = compiled()["gram_squares"]
            kernel(*sides, self.w, self.sd, self.dlog, sums[first], levels)

        in_threads(part, list(range(THREADS + 1)))
        square, by_a, by_b = sums.sum(axis=0)
        moment = 2.0 * self.b**2 * square
        slopes = 4.0 * np.array([self.b**2 * by_a, self.b * square + self.b**2 * by_b])
        return moment, slopes

    @property
    def moment_products(self) -> float:
        """How many products `second_moment` forms."""
        degrees = self.graph.one.degrees.astype(float)
        return float((degrees * (degrees - 1.0)).sum()) / 2.0

    def eliminated(self, R1: np.ndarray, R2: np.ndarray) -> np.ndarray:
        """Return the right-hand side of ``B x``."""
        moved = self.graph.transposed_times(R1 / self.D1[:, None])
        right: np.ndarray = self.sd[:, None] * (R2 - self.lam1 * self.lam2 * moved)
        return right

    def back(self, R1: np.ndarray, x: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Return u of both factors."""
        U2 = self.sd[:, None] * x
        U1 = (R1 - self.lam1 * self.lam2 * self.graph.times(U2)) / self.D1[:, None]
        return U1, U2
