"""``log|M|``, solves and traces for two large crossed factors, without a Cholesky factor."""

from __future__ import annotations

import numpy as np

from mixef.errors import FitError
from mixef.linalg.crossproducts import CrossProducts, Pairs
from mixef.linalg.factor import Factor, not_positive_definite
from mixef.linalg.iterative.graph import graph_of
from mixef.linalg.iterative.logdet import Effort, Estimate, adapted, estimate, more
from mixef.linalg.iterative.pcg import solve_scaled
from mixef.linalg.iterative.scaled import Scaled

# The standard error of log|M| that is aimed at.
TARGET = 0.01
# `refresh` adds no more random vectors than this.
MOST_FRESH = 3072


class IterativeFactor(Factor):
    """What ``M = Lambda'Z'WZ Lambda + I`` says of two crossed scalar factors, up to a stated error.

    Solves are exact, up to the tolerance of conjugate gradients. ``log|M|`` and the traces are
    estimates with standard errors, from random vectors that stay the same from one ``update`` to
    the next: the same templates and the same seed give the same numbers, and differences between
    templates are known much better than the values are. Value and traces are estimated apart, and
    agree with each other in expectation only.

    The first ``update`` chooses the effort (how many eigenvectors, random vectors and steps) for
    the target; later ones, and twins, keep to it, until `adapt`. It is refused where no effort
    in reason comes near: the graph of the pairs of levels is then like a chain.

    Vectors go in and come out in the order of the layout.

    Parameters
    ----------
    products : CrossProducts
        With two grouping factors of one column each. Held, not copied.
    seed : int
        Of the random vectors.
    target : float
        Standard error of ``log|M|`` that the first `update` takes effort for.

    Attributes
    ----------
    ldL2, ldL2_se : float
        ``log|M|`` and its standard error.
    lams : tuple of ndarray (1, 1)
        The templates it stands at.
    """

    def __init__(self, products: CrossProducts, seed: int = 0, target: float = TARGET):
        super().__init__(products)
        self.seed, self.target = seed, target
        if self.layout.widths != (1, 1):
            raise FitError(
                "the iterative factor is for two crossed grouping factors of one column each, and "
                f"the terms have {', '.join(map(str, self.layout.widths))} columns"
            )
        self._effort: Effort | None = None
        self._graph = graph_of(_pair(products), self.layout)
        self._take_room()

    def _take_room(self) -> None:
        """Read the diagonals of ``Z_i'WZ_i``."""
        both = [blocks.ravel() for blocks in self.products.diagonal]
        first, orders = self._graph.first, self._graph.orders
        self._d = both[first][orders[0]], both[1 - first][orders[1]]
        self._scaled: Scaled | None = None
        self._estimate: Estimate | None = None

    def reload(self) -> None:
        """Read the cross-products again, after their blocks were changed in place."""
        self._graph = graph_of(_pair(self.products), self.layout)
        self._take_room()

    def _refactor(self) -> None:
        """Go to ``self.lams``; ``log|M|`` is estimated there when it is asked for."""
        lam = [float(self.lams[i][0, 0]) for i in self._roles]
        scaled = Scaled(self._graph, *self._d, *lam)
        if not (np.isfinite(scaled.base) and bool((scaled.dS > 0.0).all())):
            raise not_positive_definite()
        self._scaled, self._estimate = scaled, None

    def _found(self) -> Estimate | None:
        """Return the estimate where the factor stands; None where ``log|M|`` is exact."""
        scaled = self._standing
        if self._estimate is None and not scaled.apart:
            if self._effort is None:
                self.adapt()
            else:
                self._estimate = estimate(scaled, self._effort)
        return self._estimate

    @property
    def ldL2(self) -> float:
        """``log|M|``, or an estimate of it."""
        found = self._found()
        return self._standing.base if found is None else found.value

    @property
    def ldL2_se(self) -> float:
        """Standard error of ``ldL2``."""
        found = self._found()
        return 0.0 if found is None else found.se

    def adapt(self, target: float | None = None) -> None:
        """Choose the effort afresh where the factor stands, and estimate ``log|M|`` with it.

        Parameters
        ----------
        target : float, optional
            Standard error of ``ldL2``; that of the factor if it is left out.

        Raises
        ------
        ExactFactorNeededError
            If no effort in reason comes near.
        """
        scaled = self._standing
        if scaled.apart:
            return
        found = adapted(scaled, self.target if target is None else target, self.seed)
        self._effort, self._estimate = found.effort, found

    def refresh(self, target: float | None = None) -> None:
        """Add random vectors where the factor stands, for the end of a search.

        As many as it takes for a standard error of ``log|M|`` of at most ``target``. The next
        `update` is back at the effort from before.

        Parameters
        ----------
        target : float, optional
            Standard error of ``ldL2``; that of the factor if it is left out.
        """
        found = self._found()
        if found is not None:
            target = self.target if target is None else target
            self._estimate = more(self._standing, found, target, MOST_FRESH)

    @property
    def _standing(self) -> Scaled:
        if self._scaled is None:
            raise RuntimeError("the factor stands nowhere yet: call update")
        return self._scaled

    @property
    def _roles(self) -> tuple[int, int]:
        """Which block of the layout is eliminated, and which stays."""
        return self._graph.first, 1 - self._graph.first

    def solve(self, rhs: np.ndarray, tol: float = 1e-10) -> np.ndarray:
        """Return ``M^-1 rhs`` for (q,) or (q, k), by conjugate gradients on a block.

        Parameters
        ----------
        tol : float
            Of the norm of residuals, relative to that of each right-hand side.
        """
        at, graph = self._standing, self._graph
        D1, both = at.D1[:, None], at.lam1 * at.lam2
        R1, R2 = self._split(rhs)
        R2 = R2 - both * graph.transposed_times(R1 / D1)
        sd = at.sd[:, None]
        U2 = sd * solve_scaled(at, sd * R2, tol)
        return self._joined((R1 - both * graph.times(U2)) / D1, U2, rhs.shape)

    def ZtZ_times(self, v: np.ndarray) -> np.ndarray:
        """Return ``Z'WZ v`` for (q,) or (q, k), without ``Z'WZ``."""
        graph, (d1, d2) = self._graph, self._d
        V1, V2 = self._split(v)
        one = d1[:, None] * V1 + graph.times(V2)
        return self._joined(one, d2[:, None] * V2 + graph.transposed_times(V1), v.shape)

    def trace_blocks(self) -> list[np.ndarray]:
        """Return estimates of ``T_i = sum_l (Z'V^-1 Z)_ll`` (1, 1).

        ``d log|M| / d lam_i = 2 T_i lam_i``, and T_i is smooth where lam_i is zero.
        """
        found = self._found()
        slopes = self._standing.base_slopes if found is None else found.slopes
        return [slopes[[role]].reshape(1, 1) for role in self._roles]

    def trace_covariance(self) -> np.ndarray | None:
        """Return the covariance (2, 2) of the errors of `trace_blocks`; None where exact."""
        found, roles = self._found(), list(self._roles)
        return None if found is None else found.slopes_covariance[np.ix_(roles, roles)]

    def trace_samples(self) -> np.ndarray:
        """Return what each random vector says (m, 2) of `trace_blocks`."""
        found = self._found()
        samples = np.empty((0, 2)) if found is None else found.slopes_by_probe
        return samples[:, list(self._roles)]

    def _split(self, v: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Return the rows of both factors, in the graph's order, as (l_1, k) and (l_2, k)."""
        columns = v[:, None] if v.ndim == 1 else v
        parts = [columns[self.layout.slice(i)] for i in self._roles]
        one, two = (part[order] for part, order in zip(parts, self._graph.orders, strict=True))
        return one, two

    def _joined(self, one: np.ndarray, two: np.ndarray, shape: tuple[int, ...]) -> np.ndarray:
        """Return rows in the order of the layout, the inverse of `_split`."""
        out = np.empty((self.layout.q, one.shape[1]))
        for i, part, order in zip(self._roles, (one, two), self._graph.orders, strict=True):
            out[self.layout.slice(i)][order] = part
        return out.reshape(shape)


def _pair(products: CrossProducts) -> Pairs:
    """Return the pairs of levels of two factors, also where ``Z'WZ`` came in one piece."""
    if (0, 1) in products.pairs:
        return products.pairs[0, 1]
    layout = products.layout
    between = np.asarray(products.ZtZ[layout.slice(0), layout.slice(1)])
    rows, cols = np.nonzero(between)
    return Pairs(rows, cols, between[rows, cols][:, None, None])
