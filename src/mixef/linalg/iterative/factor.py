"""``log|M|``, solves and traces for large crossed factors, without a Cholesky factor."""

from __future__ import annotations

from typing import Any

import numpy as np

from mixef.errors import FitError
from mixef.linalg.crossproducts import CrossProducts
from mixef.linalg.factor import Factor, WeightSlopes, not_positive_definite
from mixef.linalg.iterative.block_graph import block_graph_of
from mixef.linalg.iterative.blocks import Blocks
from mixef.linalg.iterative.graph import graph_of
from mixef.linalg.iterative.logdet import Effort, Estimate, adapted, estimate, more
from mixef.linalg.iterative.pcg import solve_scaled
from mixef.linalg.iterative.scaled import Scaled
from mixef.linalg.iterative.two_scalars import TwoScalars
from mixef.linalg.iterative.weight_slopes import WeightChanges, weight_slopes
from mixef.linalg.patterned import PatternedProducts

# The standard error of log|M| that is aimed at.
TARGET = 0.01
# `refresh` adds no more random vectors than this.
MOST_FRESH = 3072


class IterativeFactor(Factor):
    """What ``M = Lambda'Z'WZ Lambda + I`` says of large crossed factors, up to a stated error.

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
        With two grouping factors or more; two of one column each are fastest. Held, not copied.
    seed : int
        Of the random vectors.
    target : float
        Standard error of ``log|M|`` that the first `update` takes effort for.

    Attributes
    ----------
    ldL2, ldL2_se : float
        ``log|M|`` and its standard error.
    lams : tuple of ndarray (s_i, s_i)
        The templates it stands at.
    """

    def __init__(self, products: CrossProducts, seed: int = 0, target: float = TARGET):
        super().__init__(products)
        self.seed, self.target = seed, target
        if len(self.layout) < 2:
            raise FitError(
                "the iterative factor is for crossed terms, and there is one grouping factor: use "
                'factor="auto" (LmerControl, GlmerControl)'
            )
        scalars = self.layout.widths == (1, 1)
        self._of_graph = (graph_of, TwoScalars) if scalars else (block_graph_of, Blocks)
        self._effort: Effort | None = None
        self._graph: Any = self._of_graph[0](products)
        self._take_room()

    def _take_room(self) -> None:
        """Read the diagonal blocks of ``Z_i'WZ_i``, by role and in the graph's order."""
        self._diagonals = []
        for i, positions in zip(self._graph.roles, self._graph.positions, strict=True):
            s = self.layout.widths[i]
            self._diagonals.append(self.products.diagonal[i][positions[::s] // s])
        self._scaled: Scaled | None = None
        self._estimate: Estimate | None = None

    def reload(self) -> None:
        """Read the cross-products again, after their blocks were changed in place."""
        self._graph = self._graph.reloaded(self.products)
        self._take_room()

    def _refactor(self) -> None:
        """Go to ``self.lams``; ``log|M|`` is estimated there when it is asked for."""
        lams = [self.lams[i] for i in self._graph.roles]
        scaled: Scaled = self._of_graph[1](self._graph, self._diagonals, lams)
        if not np.isfinite(scaled.base):
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
        self._effort = found.effort if found.se > 0.0 else None  # E may be zero here alone
        self._estimate = found

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

    def solve(self, rhs: np.ndarray, tol: float = 1e-10) -> np.ndarray:
        """Return ``M^-1 rhs`` for (q,) or (q, k), by conjugate gradients on a block.

        Parameters
        ----------
        tol : float
            Of the norm of residuals, relative to that of each right-hand side.
        """
        at = self._standing
        R1, R2 = self._split(rhs)
        x = solve_scaled(at, at.eliminated(R1, R2), tol)
        U1, U2 = at.back(R1, x)
        return self._joined(U1, U2, rhs.shape)

    def ZtZ_times(self, v: np.ndarray) -> np.ndarray:
        """Return ``Z'WZ v`` for (q,) or (q, k), without ``Z'WZ``."""
        V1, V2 = self._split(v)
        one, two = self._graph.products(self._diagonals, V1, V2)
        return self._joined(one, two, v.shape)

    def trace_blocks(self) -> list[np.ndarray]:
        """Return estimates of ``T_i = sum_l (Z'V^-1 Z)_ll`` (s_i, s_i).

        ``d log|M| / d lam_i = 2 T_i lam_i``, and T_i is smooth where lam_i is zero.
        """
        found = self._found()
        slopes = self._standing.base_slopes if found is None else found.slopes
        widths = self.layout.widths
        return [slopes[cells].reshape(s, s) for cells, s in zip(self._cells(), widths, strict=True)]

    def trace_covariance(self) -> np.ndarray | None:
        """Return the covariance (K, K) of the errors of `trace_blocks`; None where exact."""
        found, cells = self._found(), np.concatenate(self._cells())
        return None if found is None else found.slopes_covariance[np.ix_(cells, cells)]

    def trace_samples(self) -> np.ndarray:
        """Return what each random vector says (m, K) of `trace_blocks`."""
        found, cells = self._found(), np.concatenate(self._cells())
        samples = np.empty((0, len(cells))) if found is None else found.slopes_by_probe
        return samples[:, cells]

    def weight_slopes(self, groups: PatternedProducts[Any], changes: np.ndarray) -> WeightSlopes:
        """Return estimates of the derivatives of ``log|M|`` for the weights of the rows."""
        at = WeightChanges(self._standing, self._graph, groups, changes, self._joined)
        return weight_slopes(at, self._found())

    def _cells(self) -> list[np.ndarray]:
        """Return where the entries of each T_i stand among those by role."""
        sizes = [self.layout.widths[i] ** 2 for i in self._graph.roles]
        parts = np.split(np.arange(sum(sizes)), np.cumsum(sizes)[:-1])
        return [parts[self._graph.roles.index(i)] for i in range(len(parts))]

    def _split(self, v: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Return the rows that are eliminated and the others, in the graph's order."""
        columns = v[:, None] if v.ndim == 1 else v
        roles = zip(self._graph.roles, self._graph.positions, strict=True)
        one, *others = (columns[self.layout.slice(i)][order] for i, order in roles)
        return one, np.concatenate(others)

    def _joined(self, one: np.ndarray, two: np.ndarray, shape: tuple[int, ...]) -> np.ndarray:
        """Return rows in the order of the layout, the inverse of `_split`."""
        out = np.empty((self.layout.q, one.shape[1]))
        both, start = np.concatenate([one, two]), 0
        for i, order in zip(self._graph.roles, self._graph.positions, strict=True):
            out[self.layout.slice(i)][order] = both[start : start + len(order)]
            start += len(order)
        return out.reshape(shape)
