"""What stays the same while the parameters of a generalized model change, of rows in chunks.

It has the verbs of `RowModel`. What goes around as scores, weights and states of rows are sums over
all of them, of one pass.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from typing import TypeVar

import numpy as np

from mixef.estimation.generalized.passes import (
    ChangePass,
    ErrorPass,
    ErrorSums,
    ExtentPass,
    ExtentSums,
    ExtraSums,
    Gram,
    GramPass,
    GramSums,
    Meaning,
    Pass,
    Point,
    SquaresPass,
    StatePass,
)
from mixef.estimation.generalized.response import Extremes, Response
from mixef.families.auxiliary import Extra
from mixef.linalg.chunk_rows import RowScale
from mixef.linalg.chunks import ChunkSource
from mixef.linalg.factor import Factor
from mixef.linalg.patterned import Cells, PatternedProducts

AnyPass = TypeVar("AnyPass", bound=Pass)


@dataclass(frozen=True)
class SummedRows:
    """A vector v of rows, by its products."""

    z: np.ndarray  # (q,): ``Z'v``
    x: np.ndarray  # (p,): ``X'v``


class SummedWeights:
    """Weights of rows, by their products."""

    def __init__(self, values: np.ndarray, state: SummedState):
        self.values = values  # (v,): of ``Z'WZ``
        self.state = state
        self.gram: Gram | None = None  # with X; None before anybody asked


class SummedState:
    """What the rows are at one point, summed over all of them.

    Attributes
    ----------
    point : Point
    log_density : float
    score : SummedRows
    expected, observed : SummedWeights
        One object where they are the same.
    """

    eta = mu = None  # of single rows nothing is held
    extent: ExtentSums | None = None
    extra: ExtraSums | None = None  # what the auxiliary coordinates do; None before anybody asked

    def __init__(
        self,
        point: Point,
        log_density: float,
        score: SummedRows,
        observed: np.ndarray,
        expected: np.ndarray | None,
    ):
        self.point, self.log_density, self.score = point, log_density, score
        self.observed = SummedWeights(observed, self)
        same = expected is None
        self.expected = self.observed if same else SummedWeights(np.asarray(expected), self)

    def take(self, grams: GramSums) -> None:
        """Take in the cross-products with X, and what the auxiliary coordinates do."""
        self.observed.gram = grams.observed
        if grams.expected is not None:
            self.expected.gram = grams.expected
        self.extra = grams.extra


class StreamedModel:
    """A generalized model with rows in chunks, with products and a factor of its own."""

    def __init__(
        self,
        source: ChunkSource,
        rows: RowScale,
        meaning: Meaning,
        response: Response,
        groups: PatternedProducts[Cells],
        factor: Factor,
        constant: tuple[Extra, float] | None,
    ):
        self.source, self.rows, self.meaning = source, rows, meaning
        self.response, self.groups, self.factor = response, groups, factor
        self._constant = constant
        self._squares: list[np.ndarray] | None = None
        self.with_gram = False  # whether steps ask for cross-products with X

    @property
    def p(self) -> int:
        """Number of columns of X."""
        return len(self.rows.R)

    def fixed_part(self, beta: np.ndarray) -> np.ndarray:
        """Return the coefficients."""
        return beta

    def at(
        self, fixed: np.ndarray, lams: Sequence[np.ndarray], u: np.ndarray, extra: Extra
    ) -> SummedState | None:
        """Return the rows at modes u, by one pass; None outside the domain."""
        point = Point(self.groups.layout.multiply(lams, u), fixed, extra)
        known = self._constant is not None and self._constant[0] == extra
        step = partial(StatePass, with_constant=not known, with_gram=self.with_gram)
        sums = self.source.total(step(self.rows, self.meaning, point))
        if sums.n_outside or sums.score_z is None or sums.score_x is None:
            return None
        if sums.constant is not None:
            self._constant = extra, sums.constant
        assert self._constant is not None
        assert sums.observed is not None
        value, observed = sums.log_density + self._constant[1], sums.observed.values
        score = SummedRows(sums.score_z, sums.score_x)
        finite = np.isfinite(value) and np.isfinite(score.z).all() and np.isfinite(score.x).all()
        if not (finite and np.isfinite(observed).all()):
            return None
        expected = None if sums.expected is None else sums.expected.values
        state = SummedState(point, value, score, observed, expected)
        if sums.observed_gram is not None:
            state.take(GramSums(sums.observed_gram, sums.expected_gram, None))
        return state

    def step(self, kind: type[AnyPass], state: SummedState) -> partial[AnyPass]:
        """Return a kind of pass at a state, which takes what else it asks for."""
        return partial(kind, self.rows, self.meaning, state.point)

    def Zt(self, v: SummedRows) -> np.ndarray:
        """Return ``Z'v`` (q,)."""
        return v.z

    def fixed_part_transposed(self, v: SummedRows) -> np.ndarray:
        """Return ``X'v`` (p,)."""
        return v.x

    def gram(self, weights: SummedWeights) -> Gram:
        """Return the cross-products with X; by a pass where no other has summed them."""
        if weights.gram is None:
            self._read_grams(weights.state)
        assert weights.gram is not None
        return weights.gram

    def extra_sums(self, state: SummedState, extra: Extra) -> ExtraSums | None:
        """Return what the auxiliary coordinates do; by a pass where no other has summed it."""
        if state.extra is None and self.response.family.auxiliary:
            self._read_grams(state)
        return state.extra

    def _read_grams(self, state: SummedState) -> None:
        state.take(self.source.total(GramPass(self.rows, self.meaning, state.point)))

    def weight_changes(
        self, state: SummedState, extra: Extra, b: np.ndarray, beta: np.ndarray
    ) -> np.ndarray:
        """Return the values (K, v) of ``Z'dW Z``, by one pass; see `RowModel`."""
        return self.source.total(self.step(ChangePass, state)(b=b, beta=beta)).weights.values

    def leverages(self, inverse: np.ndarray) -> np.ndarray:
        """Return the values, of which passes make the leverages of rows."""
        return inverse

    def error_sums(self, state: SummedState, extra: Extra, h: np.ndarray) -> ErrorSums:
        """Return what the next terms of Laplace's expansion ask of the rows, by one pass."""
        return self.source.total(self.step(ErrorPass, state)(inverse=h))

    def refactor(self, weights: SummedWeights, lams: Sequence[np.ndarray]) -> None:
        """Factor ``Lambda'Z'WZ Lambda + I``."""
        self.groups.load(weights.values)
        self.factor.reload()
        self.factor.update(lams)

    def extent_of(self, state: SummedState) -> ExtentSums:
        """Return extremes and counts of the rows, by one pass."""
        if state.extent is None:
            state.extent = self.source.total(ExtentPass(self.rows, self.meaning, state.point))
        return state.extent

    def squares(self, state: SummedState) -> list[np.ndarray]:
        """Return the mean of ``z_r z_r'`` (s_i, s_i) of each grouping factor, by one pass."""
        if self._squares is None:
            sums = self.source.total(SquaresPass(self.rows, self.meaning, state.point))
            ends = np.cumsum([s * s for s in self.rows.layout.widths])[:-1]
            parts = zip(np.split(sums.squares / sums.n, ends), self.rows.layout.widths, strict=True)
            self._squares = [part.reshape(s, s) for part, s in parts]
        return self._squares

    def extent(self, state: SummedState) -> tuple[float, float]:
        """Return the largest linear predictor, and a change of one over which the mean curves."""
        found = self.extent_of(state)
        return found.largest.value, found.bend / found.n

    def extremes(self, state: SummedState, extra: Extra) -> Extremes:
        """Return what the rows are like, for messages."""
        rows = self.extent_of(state)
        ends = -rows.lowest.value, rows.mean / rows.n, rows.highest.value
        return Extremes(*ends, rows.size / rows.n, rows.not_positive > 0)

    def pearson(self, state: SummedState) -> float:
        """Return the sum of ``s^2 / W_e``."""
        return self.extent_of(state).pearson
