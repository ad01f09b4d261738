"""Responses of rows that an engine holds: drawn anew, the same ones, whenever the rows are read.

Each replicate has a seed of its own. Its random effects are drawn first, of all levels, and its
rows after them in the order in which they come, so that the numbers depend on the seed, on the
place of the replicate and on the order of the rows, and not on the sizes of batches. An engine that
yields the rows in another order than before would give them other responses: readings are compared.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np

from mixef.errors import DataError
from mixef.estimation.fit import Fit
from mixef.estimation.many.response_sums import ResponseReading, StreamedResponses
from mixef.inference.over_rows import row_mean
from mixef.inference.simulation.new_parameters import Values, fitted_values_of
from mixef.inference.simulation.sampler import (
    LevelEffects,
    Sampler,
    draw_effects,
    draws_means_of_copies,
    predictors_with,
    responses_at,
    warn_of_copies,
)
from mixef.inference.simulation.simulation_rows import GroupRows, fitted_rows, level_effects
from mixef.terms.factor import Factor
from mixef.terms.frame import ModelFrame

# Numbers drawn at a time.
CELLS = 2_000_000


@dataclass(frozen=True, eq=False)
class DrawnResponses(StreamedResponses):
    """Responses of a fit's rows, of which only some rows at a time ever are in memory."""

    fit: Fit  # what they are drawn from
    values: Values
    #: For each term whose random effects stay at their modes, its columns (s,) that do, as 1.
    included: Mapping[int, np.ndarray]
    seeds: tuple[np.random.SeedSequence, ...]  # one a response
    order: list[int] = field(default_factory=list)  # the mark of the first whole reading, if any

    @property
    def shape(self) -> tuple[int, int]:
        """Rows, and responses."""
        return self.fit.frame.n, len(self.seeds)

    def __getitem__(self, place: tuple[slice, int | slice]) -> DrawnResponses:
        """Return some of the responses, or one of them."""
        _, columns = place
        chosen = self.seeds[columns]
        return replace(self, seeds=chosen if isinstance(chosen, tuple) else (chosen,))

    def begin(self, part: int | None = None) -> DrawnRows:
        """Return what draws the rows in one reading of them, or of a part of them."""
        rngs = [np.random.default_rng(seed) for seed in self.seeds]
        effects = []
        for t, term in enumerate(self.fit.terms):
            group = GroupRows(
                np.empty((0, len(term.columns))), np.empty(0, int), np.arange(term.n_levels)
            )
            effects.append(self._law(t, group))
        drawn = [np.empty((*e.mean.shape, len(rngs))) for e in effects]
        for j, rng in enumerate(rngs):
            for b, law in zip(drawn, effects, strict=True):
                b[:, :, j] = draw_effects(law, 1, rng)[:, :, 0]
        if part is None:
            return DrawnRows(self, drawn, list(map(Staged, self.seeds, rngs)))
        parts = [_below(seed, part) for seed in self.seeds]
        return DrawnRows(self, drawn, list(map(Staged, parts, map(np.random.default_rng, parts))))

    def sampler(self, fit: Fit) -> Sampler:
        """Return the distribution of some rows, those of a fit of them."""
        rows = fitted_rows(fit)
        effects = tuple(self._law(t, group) for t, group in enumerate(rows.groups))
        return Sampler(
            rows.fixed(self.values.beta), effects, rows.weights, fit.family, self.values.extra
        )

    def _law(self, t: int, group: GroupRows) -> LevelEffects:
        """Return the distribution of the random effects of a term."""
        held = self.included[t] > 0 if t in self.included else None
        return level_effects(group, self.values.roots[t], self.fit.estimates.effects[t], held)


class Staged(np.random.Generator):
    """Draws the rows of a reading batch by batch, the same numbers whatever the batches.

    A distribution that mixes others asks for all rows' numbers of one, then for those of the next:
    each such call of a batch has a generator of its own.

    Parameters
    ----------
    seed : SeedSequence
        Of the generators of later calls.
    first : Generator
        Of first calls.
    """

    def __init__(self, seed: np.random.SeedSequence, first: np.random.Generator):
        super().__init__(first.bit_generator)
        self._seed, self._stages, self._place = seed, [first], 0

    def restart(self) -> None:
        """Begin with the calls of another batch."""
        self._place = 0

    def next_stage(self) -> np.random.Generator:
        """Return the generator of the next call."""
        if self._place == len(self._stages):
            self._stages.append(np.random.default_rng(_below(self._seed, self._place)))
        self._place += 1
        return self._stages[self._place - 1]


def _staged(name: str) -> Callable[..., Any]:
    def method(self: Staged, *args: Any, **options: Any) -> Any:
        return getattr(self.next_stage(), name)(*args, **options)

    return method


for _name in set(dir(np.random.Generator)) - {"bit_generator", "spawn"}:
    if not _name.startswith("_"):
        setattr(Staged, _name, _staged(_name))


def _below(seed: np.random.SeedSequence, place: int) -> np.random.SeedSequence:
    """Return a seed that belongs to another one."""
    return np.random.SeedSequence(seed.entropy, spawn_key=(*seed.spawn_key, place))


@dataclass(eq=False)
class DrawnRows(ResponseReading):
    """One reading of rows: what it has drawn, and the generators for the rows to come."""

    responses: DrawnResponses
    effects: list[np.ndarray]  # each (l, s, m): random effects, one array a term
    rngs: list[Staged]  # one a response
    n: int = 0  # rows so far
    mark: int = 0  # what they and their order make

    def of(self, piece: Fit) -> Iterator[tuple[slice, np.ndarray]]:
        """Yield some of the next rows, and their responses (k, m)."""
        whole = self.responses
        sampler = whole.sampler(whole.fit.on_batch(piece.frame))
        n, step = piece.frame.n, max(CELLS // len(self.rngs), 1)
        self.mark = (self.mark + _mark(piece.frame, self.n)) % 2**64
        self.n += n
        for start in range(0, n, step):
            rows = slice(start, min(start + step, n))
            some = _rows_of(sampler, rows)
            eta = predictors_with(some, self.effects, len(self.rngs))
            for j, rng in enumerate(self.rngs):
                column = eta[:, j : j + 1]
                rng.restart()
                column[:] = responses_at(some.family, column, some.weights, some.extra, rng)
            yield rows, eta

    def finish(self) -> None:
        """Refuse an order of the rows that is another one than before.

        Raises
        ------
        DataError
        """
        frame: Any = self.responses.fit.frame
        order = self.responses.order
        if self.n == frame.n and self.mark != (order or [self.mark])[0]:
            raise DataError(
                f"{frame.relation.engine} yields the rows of the table in another order than "
                "before, and drawn responses go by their order: sort the table by columns that "
                "tell its rows apart, or write it to a file"
            )
        order[:] = [self.mark]


def _mark(frame: ModelFrame, start: int) -> int:
    """Return a number that tells rows and their order, as a sum over them modulo 2^64."""
    place = np.arange(start + 1, start + 1 + frame.n, dtype=np.uint64)
    place *= np.uint64(0x9E3779B97F4A7C15)  # the odd fraction of 2^64 at the golden ratio
    place ^= place >> np.uint64(29)
    # As they were read: what expressions make of columns may be rounded by batches.
    read = {text: v for text, v in frame.variables.items() if text.isidentifier()} | frame.groups
    total = 0
    for k, (_, value) in enumerate(sorted(read.items(), key=lambda item: item[0])):
        numbers = value.codes if isinstance(value, Factor) else value
        if isinstance(numbers, np.ndarray) and numbers.ndim == 1:
            bits = numbers.astype(float).view(np.uint64)
            total += (2 * k + 1) * int((bits * place).sum())
    return total


def drawn_responses(
    fit: Fit,
    n: int,
    rng: np.random.Generator,
    values: Values | None = None,
    included: Mapping[int, np.ndarray] | None = None,
) -> DrawnResponses:
    """Return n responses of a fit's rows; by default with its estimates, and new random effects."""
    entropy = rng.integers(2**32, size=8, dtype=np.uint64).tolist()
    if fit.weights is not None and draws_means_of_copies(fit.family):
        weights = row_mean(fit, lambda piece: np.asarray(piece.weights)[:, None])
        warn_of_copies(fit.family, float(weights[0]))
    return DrawnResponses(
        fit,
        fitted_values_of(fit) if values is None else values,
        included or {},
        tuple(np.random.SeedSequence(entropy, spawn_key=(j,)) for j in range(n)),
    )


def _rows_of(sampler: Sampler, rows: slice) -> Sampler:
    """Return the distribution of some of its rows."""
    effects = tuple(replace(e, z=e.z[rows], codes=e.codes[rows]) for e in sampler.effects)
    weights: Any = sampler.weights
    weights = None if weights is None else weights[rows]
    return replace(sampler, fixed=sampler.fixed[rows], effects=effects, weights=weights)
