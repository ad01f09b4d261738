"""What a factor of ``M = Lambda'Z'WZ Lambda + I`` can do, whatever the structure of M."""

from __future__ import annotations

import copy
from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass
from math import isfinite
from typing import Any, Self

import numpy as np

from mixef.errors import ExactFactorNeededError, FitError, MemoryNeededError
from mixef.linalg import small
from mixef.linalg.crossproducts import CrossProducts, SymmetricBlocks, two_sided
from mixef.linalg.patterned import PatternedProducts
from mixef.memory import available

# Bytes for each cell of a dense remainder: itself, and its twin without the templates where one of
# them is singular.
DENSE_CELL = 16
# Bytes for each non-zero of a sparse factor: itself, a copy in columns, the inverse on its pattern,
# and row numbers.
SPARSE_ENTRY = 32
# Any machine has so many bytes.
FEW_BYTES = 1e8


def require(products: CrossProducts, needed: float) -> None:
    """Refuse a factor that takes more bytes than there are.

    Raises
    ------
    MemoryNeededError
    """
    if not fits(needed):
        raise too_large(products, needed)


def fits(needed: float) -> bool:
    """Tell whether so many bytes are there; of few, nobody is asked."""
    return needed <= FEW_BYTES or needed <= available()


def too_large(products: CrossProducts, needed: float) -> MemoryNeededError:
    """Return the error for a factor of so many bytes."""
    layout = products.layout
    effects = np.diff(layout.offsets)
    named = [
        f"{layout.names[i] if layout.names else f'number {i + 1}'} ({size:,} effects)"
        for i, size in enumerate(effects)
    ]
    largest = np.sort(np.argsort(-effects, kind="stable")[:2])
    terms = " and ".join(named[i] for i in largest)
    return MemoryNeededError(
        f"the factor needs about {needed / 1e9:.3g} GB, and {available() / 1e9:.3g} GB are "
        f"available: terms {terms} are crossed. Drop one of them, group its levels more coarsely, "
        "or fit the model to a part of the data; or do without a factor: "
        'LmerControl(factor="iterative"), GlmerControl(factor="iterative")'
    )


# A template with a smaller singular value than this loses digits when it is inverted
# (the error of I - C is eps / sv^2); its traces are then formed without an inverse.
SINGULAR = 1e-4
# Templates whose smallest singular value is above this are inverted for products with V^-1.
INVERTIBLE = 1e-2
# Right-hand sides solved at a time, which bounds the memory of a long block of columns.
CHUNK = 512
# ... and by iterations; and the most that are asked for at once then.
FEW, MOST_SOLVES = 32, 1000


@dataclass(frozen=True)
class WeightSlopes:
    """Derivatives of ``log|M|`` for the weights of the rows, templates held."""

    total: np.ndarray  # (K,): along the directions that were asked for
    samples: np.ndarray  # (m, K): what each random vector says of them; none where they are exact
    #: (v,): values of ``Lambda M^-1 Lambda'`` on the pattern, each times how often it occurs, with
    #: larger errors
    inverse: np.ndarray


class Factor(ABC):
    """A factor of M whose values follow the templates: what every one can do.

    Vectors go in and come out in the order of the layout. After ``update``, ``solve_half`` and
    ``solve_rest`` come first; then `trace_blocks`, in which a factor may give up what they need.
    ``solve`` always works.

    Parameters
    ----------
    products : CrossProducts
        Held, not copied: where its blocks change in place, call `reload` before `update`.
    """

    is_exact = False
    has_squares = False

    def __init__(self, products: CrossProducts):
        self.products = products
        self.layout = products.layout
        self.lams: tuple[np.ndarray, ...] = ()
        self._least: list[float] | None = None

    def twin(self, products: CrossProducts | None = None) -> Self:
        """Return a factor of its own, which shares the analysis of the structure with this one.

        Parameters
        ----------
        products : CrossProducts, optional
            Others on the same pattern.
        """
        new = copy.copy(self)
        new.products = self.products if products is None else products
        new.lams, new._least = (), None
        new._take_room()
        return new

    @abstractmethod
    def _take_room(self) -> None:
        """Take room for numbers of its own, for the products that it has now."""

    def update(self, lams: Sequence[np.ndarray]) -> None:
        """Refactor at new templates ``lams``, one (s_i, s_i) a block.

        Raises
        ------
        FitError
            If M is not positive definite; another ``update`` may follow.
        """
        self.lams = tuple(lams)
        self._least = None
        self._refactor()

    @abstractmethod
    def _refactor(self) -> None:
        """Go to ``self.lams``, where ``ldL2`` is then known."""

    @property
    @abstractmethod
    def ldL2(self) -> float:
        """``log|M|``, or an unbiased estimate of it."""

    @property
    def ldL2_se(self) -> float:
        """Standard error of ``ldL2``; 0 where it is exact."""
        return 0.0

    @property
    def least(self) -> list[float]:
        """The smallest singular value of each template."""
        if self._least is None:
            self._least = [float(small.singular_values(lam)[-1]) for lam in self.lams]
        return self._least

    def reload(self) -> None:  # noqa: B027  (most factors read the products at every update)
        """Read the cross-products again, after their blocks were changed in place."""

    @abstractmethod
    def solve(self, rhs: np.ndarray) -> np.ndarray:
        """Return ``M^-1 rhs`` for (q,) or (q, k), also after `trace_blocks`."""

    def solve_half(self, rhs: np.ndarray) -> np.ndarray:
        """Return as much of ``M^-1 rhs`` as `form` and `solve_rest` need: here all of it."""
        return self.solve(rhs)

    def form(self, half: np.ndarray, rhs: np.ndarray) -> np.ndarray:
        """Return ``rhs'M^-1 rhs``, where `solve_half` made ``half`` of ``rhs``."""
        form: np.ndarray = rhs.T @ half
        return form

    def solve_rest(self, half: np.ndarray) -> np.ndarray:
        """Return ``M^-1 rhs`` from what `solve_half` made of ``rhs``, or a combination of such."""
        return half

    @abstractmethod
    def trace_blocks(self) -> list[np.ndarray]:
        """Return ``T_i = sum_l (Z'V^-1 Z)_ll`` (s_i, s_i), with ``V = I + Z Lambda Lambda' Z'``.

        ``d log|M| / d lam_i = 2 T_i lam_i``, and T_i is smooth where lam_i is singular.
        """

    def trace_covariance(self) -> np.ndarray | None:
        """Return the covariance (K, K) of errors of `trace_blocks`, flat and one after another.

        None where they are exact.
        """
        return None

    def trace_samples(self) -> np.ndarray:
        """Return what each random vector says (m, K) of `trace_blocks`, of which means are taken.

        Those of one vector at several templates belong together. None (0, K) where no mean is.
        """
        return np.empty((0, sum(s * s for s in self.layout.widths)))

    @abstractmethod
    def weight_slopes(self, groups: PatternedProducts[Any], changes: np.ndarray) -> WeightSlopes:
        """Return the derivatives of ``log|M|`` for the weights of the rows.

        Parameters
        ----------
        groups : PatternedProducts
            Those whose products the factor stands at.
        changes : ndarray (K, v)
            Values of ``Z'dW Z``, one row a direction.
        """

    def inverse_block(self, i: int) -> np.ndarray:
        """Return the diagonal blocks (l_i, s_i, s_i) of ``C = M^-1`` that belong to block i.

        Raises
        ------
        ExactFactorNeededError
            Where that takes too many solves.
        """
        return self.inverse_levels(i, np.arange(self.layout.n_levels[i]))

    def inverse_levels(self, i: int, levels: np.ndarray) -> np.ndarray:
        """Return the diagonal blocks (m, s_i, s_i) of ``C = M^-1`` for some levels of block i.

        Parameters
        ----------
        levels : ndarray of int (m,)

        Raises
        ------
        ExactFactorNeededError
            Where that takes too many solves.
        """
        layout, s, m = self.layout, self.layout.widths[i], len(levels)
        if m * s > MOST_SOLVES:
            name = layout.names[i] if layout.names else f"term number {i + 1}"
            which = f"all {m:,}" if m == layout.n_levels[i] else f"{m:,}"
            raise needs_cholesky(
                f"the covariances of the conditional modes of {which} levels of {name}",
                f"ask for fewer, {MOST_SOLVES // s:,} at most, by ranef(condVar=True, levels=...), "
                "or for their predictions by predict(newdata, se_fit=True)",
            )
        out = np.empty((m, s, s))
        for first in range(0, m, FEW):
            some = levels[first : first + FEW]
            unit, rows = np.zeros((layout.q, len(some) * s)), some[:, None] * s + np.arange(s)
            unit[layout.offsets[i] + rows.ravel(), np.arange(len(some) * s)] = 1.0
            own = layout.by_level(i, self.solve(unit))[some].reshape(len(some), s, -1, s)
            out[first : first + FEW] = own[np.arange(len(some)), :, np.arange(len(some))]
        return out

    def refresh(self, target: float | None = None) -> None:  # noqa: B027  (none is ever stale)
        """Estimate ``log|M|`` anew where the factor stands, for the end of a search.

        Parameters
        ----------
        target : float, optional
            Standard error of ``ldL2``, as far as that is possible.
        """

    def ZtZ_times(self, v: np.ndarray) -> np.ndarray:
        """Return ``Z'WZ v`` for (q,) or (q, k)."""
        return self.products.ZtZ_times(v)

    def projected_squares(self, B: np.ndarray) -> dict[tuple[int, int], np.ndarray] | None:
        """Return ``sum P (x) P`` (s_i^2, s_j^2), i <= j, over the blocks P of ``Z'V^-1 Z - BB'``.

        None where that costs more than an evaluation.

        Parameters
        ----------
        B : ndarray (q, k)
        """
        return None

    def marginal_squares(self) -> dict[tuple[int, int], np.ndarray] | None:
        """Return ``sum A_lk (x) A_lk`` (s_i^2, s_j^2) over all levels l, k of factors i <= j.

        These are the blocks of ``A = Z'V^-1 Z``. None where they are not cheap. May give up what
        `solve_rest` needs.
        """
        return None

    def cholesky(self, what: str) -> CholeskyFactor:
        """Return the factor as the Cholesky factor that it is.

        Parameters
        ----------
        what : str
            What is asked for that needs one, for the message.

        Raises
        ------
        ExactFactorNeededError
            If it is none.
        """
        raise needs_cholesky(what)


class CholeskyFactor(Factor):
    """An exact factor ``P M P' = L L'``; the permutation stays inside.

    After ``update``, ``solve_L`` and ``solve_Lt`` come first; then, in any order, ``trace_blocks``
    and ``inverse_pairs``, which share one inversion and may give up L. ``solve`` always works.
    """

    is_exact = True
    ldL2: float = np.nan

    def update(self, lams: Sequence[np.ndarray]) -> None:
        """Refactor at new templates ``lams``, one (s_i, s_i) a block.

        Raises
        ------
        FitError
            If M is not positive definite; another ``update`` may follow.
        """
        self._solved: dict[int, np.ndarray] | None = None
        super().update(lams)
        if not isfinite(self.ldL2):
            raise not_positive_definite()

    @property
    def level_roots(self) -> np.ndarray:
        """``C^-1`` (l, s, s), with ``M_11 = C C'`` level by level, of the first block."""
        lam = self.lams[0]
        M11 = two_sided(lam.T, self.products.diagonal[0], lam.T) + small.identity(len(lam))
        return small.inverse_lower(small.cholesky(M11))

    @property
    def level_inverses(self) -> np.ndarray:
        """``M_11^-1`` (l, s, s), level by level, of the first block alone."""
        roots = self.level_roots
        return small.times(roots.transpose(0, 2, 1), roots)

    @abstractmethod
    def solve_L(self, rhs: np.ndarray) -> np.ndarray:
        """Solve ``L x = P rhs``, (q,) or (q, k); x stays in the factor's own order."""

    @abstractmethod
    def solve_Lt(self, rhs: np.ndarray) -> np.ndarray:
        """Solve ``L' P x = rhs``, for an rhs in the factor's own order."""

    def solve(self, rhs: np.ndarray) -> np.ndarray:
        """Return ``M^-1 rhs`` for (q,) or (q, k), also after `inverse_pairs`."""
        return self.solve_Lt(self.solve_L(rhs))

    def solve_half(self, rhs: np.ndarray) -> np.ndarray:
        """Return ``L^-1 P rhs``."""
        return self.solve_L(rhs)

    def form(self, half: np.ndarray, rhs: np.ndarray) -> np.ndarray:
        """Return ``rhs'M^-1 rhs``, a sum of squares."""
        form: np.ndarray = half.T @ half
        return form

    def solve_rest(self, half: np.ndarray) -> np.ndarray:
        """Return ``P'L^-T half``."""
        return self.solve_Lt(half)

    def cholesky(self, what: str) -> CholeskyFactor:
        """Return the factor itself."""
        return self

    @abstractmethod
    def inverse_block(self, i: int) -> np.ndarray:
        """Return the diagonal blocks (l_i, s_i, s_i) of ``C = M^-1`` that belong to block i.

        The factor may give up L: call ``update`` before the next `solve_L`.
        """

    def inverse_levels(self, i: int, levels: np.ndarray) -> np.ndarray:
        """Return the diagonal blocks (m, s_i, s_i) of ``C = M^-1`` for some levels of block i.

        Few are solved for; for many the factor may give up L, as for `inverse_block`.
        """
        if len(levels) <= FEW:
            return super().inverse_levels(i, levels)
        blocks: np.ndarray = self.inverse_block(i)[levels]
        return blocks

    @abstractmethod
    def inverse_pairs(self) -> SymmetricBlocks:
        """Return the blocks of ``C = M^-1`` on the pattern of ``Z'WZ``.

        They are the diagonal block of every level, and C[l, k] for the pairs of levels in
        ``products.pairs``. May give up L, as `inverse_block` does; `trace_blocks` may follow.
        """

    def weight_slopes(self, groups: PatternedProducts[Any], changes: np.ndarray) -> WeightSlopes:
        """Return the derivatives of ``log|M|`` for the weights of the rows; may give up L."""
        inverse = groups.multiplied(self.inverse_pairs().between(self.lams))
        return WeightSlopes(changes @ inverse, np.empty((0, len(changes))), inverse)

    def trace_blocks(self) -> list[np.ndarray]:
        """Return ``T_i = sum_l (Z'V^-1 Z)_ll`` (s_i, s_i); may give up L."""
        by_solves = self._solved_traces()
        return [
            by_solves[i] if i in by_solves else self._trace_from_inverse(i)
            for i in range(len(self.lams))
        ]

    def _solved_traces(self) -> dict[int, np.ndarray]:
        """Return T_i of the singular templates, solved for once an update."""
        if self._solved is None:
            singular = [i for i in range(len(self.lams)) if self._singular(i)]
            self._solved = {i: self._boundary_trace(i) for i in singular}
        return self._solved

    def _singular(self, i: int) -> bool:
        return self.least[i] < SINGULAR

    def _trace_from_inverse(self, i: int) -> np.ndarray:
        """Return ``T_i = lam_i^-T (l_i I - sum_l C_ll) lam_i^-1``."""
        block = self.inverse_block(i)
        inverse = small.inverse(self.lams[i])
        middle = block.shape[0] * small.identity(block.shape[1]) - block.sum(axis=0)
        trace: np.ndarray = inverse.T @ middle @ inverse
        return trace

    @abstractmethod
    def _boundary_trace(self, i: int) -> np.ndarray:
        """Return T_i where lam_i is singular, without its inverse."""


def needs_cholesky(what: str, remedy: str = "") -> ExactFactorNeededError:
    """Return the error for what an iterative factor cannot give."""
    return ExactFactorNeededError(
        f"an exact factor of the random effects is needed for {what}, and this model has an "
        "iterative one, which solves with M and estimates log|M|. "
        + (f"{remedy[:1].upper()}{remedy[1:]}; or fit" if remedy else "Fit")
        + ' the model with factor="cholmod" or factor="schur" in its control (LmerControl, '
        "GlmerControl), where memory and time allow, or to a part of the data"
    )


def not_positive_definite() -> FitError:
    """Return the error for an M without a Cholesky factor."""
    return FitError(
        "the penalized cross-products Lambda'Z'WZ Lambda + I are not positive definite: either a "
        "column of the data holds values that overflow (rescale the response and the "
        "predictors), or working weights are negative or not finite (start closer to the "
        "optimum, or use the expected weights)"
    )
