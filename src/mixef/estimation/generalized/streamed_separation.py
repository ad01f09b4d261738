"""Separation in a generalized model whose rows come in chunks: the same verdicts, by passes.

What separation.py asks of all rows at once is asked of some of them here: those that speak most
against separation. A direction that they allow is held against all rows, of which those that it
contradicts join them, until none does: cutting planes (J. E. Kelley, 1960, The cutting-plane method
for solving convex programs, Journal of the SIAM 8, 703-712).
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import cached_property

import numpy as np

from mixef.estimation.estimates import Estimates
from mixef.estimation.generalized.ends import NEAR, told_by_effects, with_message
from mixef.estimation.generalized.passes import Pass
from mixef.estimation.generalized.response import edges
from mixef.estimation.generalized.separation import (
    TOLERANCE,
    PureLevels,
    margin_direction,
    separating_direction,
    separation_message,
)
from mixef.estimation.generalized.streamed_model import StreamedModel, SummedState
from mixef.estimation.search.convergence import Convergence
from mixef.families.family import Family
from mixef.linalg.chunks import ChunkSource, Largest, Sums, Triangles
from mixef.linalg.sources import Chunk
from mixef.terms.random import RandomTerm

# Rows that are held, at most, of those that a pass finds.
MOST = 500
# What a row may contradict a direction by, on columns whose largest value is one: linear programs
# end with less.
SLACK = 1e-6
# Rounds of cutting planes; the rows of a model take a few.
MOST_ROUNDS = 50
# What a constant differs by from a combination of columns, a row, where it is one.
CONSTANT = 1e-8


class Worst:
    """The rows with the largest scores, of several sets.

    Parameters
    ----------
    rows : ndarray (m, p + 1)
        Columns of X, and the side of the response.
    scores : ndarray (m,)
    """

    def __init__(self, rows: np.ndarray, scores: np.ndarray):
        if len(scores) > MOST:
            kept = np.argpartition(-scores, MOST)[:MOST]
            rows, scores = rows[kept], scores[kept]
        self.rows, self.scores = rows, scores

    def __iadd__(self, other: Worst) -> Worst:
        """Return the worst of both."""
        return Worst(
            np.concatenate([self.rows, other.rows]), np.concatenate([self.scores, other.scores])
        )


@dataclass(frozen=True)
class SideSums(Sums):
    """What separation asks of the rows that have a weight."""

    free: float  # rows whose response is at no edge
    at_edge: float
    nearest: Largest  # minus the smallest gap of rows at an edge, random effects left out
    highest: Largest  # response
    size: Largest  # (p,): of the columns of X
    #: `low`, `high`: (l,); weights of the rows at both edges, by level, one factor after another
    low: np.ndarray
    high: np.ndarray
    intercepts: Triangles  # of the columns of each term, and a constant
    toward: np.ndarray  # (p,): of rows at an edge, the sum of ``side X``
    #: `inside`, `worst`: rows at no edge, and those that coefficients predict worst.
    inside: Worst
    worst: Worst
    gap: Largest  # between responses and means
    told: float  # rows whose mean is near the response
    #: (T,): minus the least that the effects of a term turn a row towards its response by.
    against: Largest
    effects: np.ndarray  # (T,): sums of the sizes of effects


@dataclass(frozen=True)
class SidePass(Pass):
    """The sides of the responses."""

    beta: np.ndarray  # (p,): of the raw columns of X
    effects: tuple[np.ndarray, ...]  # each (l_t, s_t): of the raw columns of a term
    lams: tuple[np.ndarray, ...]  # each (s_t, s_t)
    members: tuple[int, ...]  # the grouping factor of each term
    n_levels: tuple[int, ...]  # of each grouping factor

    def __call__(self, chunk: Chunk) -> SideSums:
        """Return the sums of a chunk."""
        _, response, state = self._inside(chunk)
        family = response.family
        side = edges(chunk.y, chunk.weights, family)
        used, edge = ~np.isnan(side), np.isin(side, (-1.0, 1.0))
        weights = np.ones(len(side)) if chunk.weights is None else chunk.weights
        eta = chunk.X @ self.beta
        if chunk.offset is not None:
            eta = eta + chunk.offset
        with np.errstate(all="ignore"):
            gap = np.abs(family.link.inverse(eta) - chunk.y)
        gap = np.where(np.isfinite(gap), gap, np.inf)
        counts = [
            [
                np.bincount(codes[side == s], weights[side == s], n_levels)
                for codes, n_levels in zip(chunk.codes, self.n_levels, strict=True)
            ]
            for s in (-1.0, 1.0)
        ]
        turned = [
            np.einsum("ns,ns->n", z, b[chunk.codes[i]])
            for z, b, i in zip(chunk.z, self.effects, self.members, strict=True)
        ]
        off, rows = np.abs(chunk.y - state.mu)[used], np.column_stack([chunk.X, side])
        return SideSums(
            float((side == 0.0).sum()),
            float(edge.sum()),
            Largest(-gap[edge].min(initial=np.inf)),
            Largest(chunk.y.max()),
            Largest(np.abs(chunk.X).max(axis=0, initial=0.0)),
            np.concatenate(counts[0]),
            np.concatenate(counts[1]),
            Triangles.of(*(np.column_stack([z, np.ones(len(z))])[used] for z in chunk.z)),
            side[edge] @ chunk.X[edge],
            Worst(rows[side == 0.0], np.zeros(int((side == 0.0).sum()))),
            Worst(rows[edge], gap[edge]),
            Largest(off.max(initial=0.0)),
            float((off <= NEAR).sum()),
            Largest(np.array([-(side * t)[used].min(initial=np.inf) for t in turned])),
            np.array(
                [
                    np.linalg.norm(z @ lam, axis=1).sum()
                    for z, lam in zip(chunk.z, self.lams, strict=True)
                ]
            ),
        )


@dataclass(frozen=True)
class AgainstSums(Sums):
    """The rows that contradict a direction most."""

    worst: Worst


@dataclass(frozen=True)
class AgainstPass:
    """Rows that contradict a direction of coefficients."""

    family: Family
    size: np.ndarray  # (p,): the largest values of the columns
    direction: np.ndarray  # (p,): of columns over those
    least: float  # how far it has to turn rows at an edge

    def __call__(self, chunk: Chunk) -> AgainstSums:
        """Return those of a chunk."""
        side = edges(chunk.y, chunk.weights, self.family)
        X = chunk.X / self.size
        turn = X @ self.direction
        against = np.where(side == 0.0, np.abs(turn) - SLACK, self.least - side * turn)
        found = against > 0.0  # no row without a weight
        return AgainstSums(Worst(np.column_stack([X, side])[found], against[found]))


class Sides:
    """The sides of the responses of a fit, by one pass once they are asked for.

    Parameters
    ----------
    model : StreamedModel
    state : SummedState
        At the mode.
    estimates : Estimates
    blocks : sequence of sequence of int
        The terms of each grouping factor.
    terms : sequence of RandomTerm
        Without rows.
    """

    def __init__(
        self,
        model: StreamedModel,
        state: SummedState,
        estimates: Estimates,
        blocks: Sequence[Sequence[int]],
        terms: Sequence[RandomTerm],
    ):
        self._model, self._family, self._terms = model, model.response.family, terms
        self._n_levels = tuple(terms[members[0]].n_levels for members in blocks)
        factor_of = {t: i for i, members in enumerate(blocks) for t in members}
        self._factors = tuple(factor_of[t] for t in range(len(terms)))
        self._step = SidePass(
            model.rows,
            model.meaning,
            state.point,
            beta=estimates.beta,
            effects=tuple(estimates.effects),
            lams=estimates.lams,
            members=self._factors,
            n_levels=self._n_levels,
        )

    @cached_property
    def _sums(self) -> SideSums:
        return self._model.source.total(self._step)

    def largest_term(self) -> RandomTerm:
        """Return the term whose effects move the linear predictor most."""
        return self._terms[int(np.argmax(self._sums.effects))]

    def with_separation(self, end: Convergence, names: Sequence[str]) -> Convergence:
        """Look for separation, as `ends.with_separation` does."""
        sums = self._sums
        if not sums.at_edge:
            return end
        message = None
        if -sums.nearest.value < NEAR * sums.highest.value or set(end.flat) & set(names):
            message = self._of_coefficients(names)
        if message is None:
            found = self._pure_levels()
            message = str(found) if found else self._told()
        return end if message is None else with_message(end, message, self._family)

    def _of_coefficients(self, names: Sequence[str]) -> str | None:
        """Say so where a combination of predictors separates the responses."""
        sums, source = self._sums, self._model.source
        size = np.where(sums.size.value > 0.0, sums.size.value, 1.0)
        rows = np.concatenate([sums.inside.rows, sums.worst.rows]) / np.append(size, 1.0)
        toward = sums.toward / size / sums.at_edge

        def separating(rows: np.ndarray) -> np.ndarray | None:
            return separating_direction(rows[:, :-1], rows[:, -1], toward)

        against = AgainstPass(self._family, size, np.zeros(len(size)), -SLACK)
        direction, rows = _upheld(source, against, rows, separating)
        if direction is None:
            return None
        whole, columns = None, np.flatnonzero(direction)
        if not sums.free:
            against = replace(against, least=TOLERANCE)
            whole, _ = _upheld(source, against, rows, lambda held: _margin(held, columns))
        return separation_message(direction, names, whole is not None)

    def _pure_levels(self) -> PureLevels | None:
        """Return the first term that `pure_levels` would."""
        sums = self._sums
        if sums.free:
            return None
        ends = np.cumsum(self._n_levels)[:-1]
        by_factor = [np.split(counts, ends) for counts in (sums.low, sums.high)]
        for term, i, R in zip(self._terms, self._factors, sums.intercepts.R, strict=True):
            low, high = (counts[i] for counts in by_factor)
            mixed, several = ((low > 0) & (high > 0)).any(), (low + high).max(initial=0.0) > 1.0
            n_low, n_high = int((low > 0).sum()), int((high > 0).sum())
            # What is left of the constant beside the columns is the last diagonal.
            left = abs(R[-1, -1]) if len(R) == R.shape[1] else 0.0
            is_constant = left <= CONSTANT * np.linalg.norm(R[:, -1])
            if not mixed and n_low and n_high and several and is_constant:
                return PureLevels(term, n_low, n_high)
        return None

    def _told(self) -> str | None:
        """Say so where the random effects tell every response, and most of them without error."""
        sums = self._sums
        if sums.free or sums.gap.value >= 0.5 or 2.0 * sums.told <= sums.at_edge:
            return None
        # The modes are directions that separate the responses within every level.
        largest = int(np.argmax(sums.effects))
        return None if sums.against.value[largest] >= 0.0 else told_by_effects(self._terms[largest])


def _upheld(
    source: ChunkSource,
    against: AgainstPass,
    rows: np.ndarray,
    solve: Callable[[np.ndarray], np.ndarray | None],
) -> tuple[np.ndarray | None, np.ndarray]:
    """Return a direction that no row contradicts, if there is one, and the rows that made it."""
    for _ in range(MOST_ROUNDS):
        direction = solve(rows)
        if direction is None:
            return None, rows
        more = source.total(replace(against, direction=direction)).worst.rows
        if not len(more):
            return direction, rows
        rows = np.unique(np.concatenate([rows, more]), axis=0)
    return None, rows


def _margin(rows: np.ndarray, columns: np.ndarray) -> np.ndarray | None:
    """Return a direction of some columns that tells the responses of rows at an edge."""
    found = margin_direction(rows[:, columns] * rows[:, -1:])
    if found is None:
        return None
    direction = np.zeros(rows.shape[1] - 1)
    direction[columns] = found
    return direction
