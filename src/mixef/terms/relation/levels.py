"""The levels of a factor whose rows come in batches."""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np
import pandas as pd

from mixef.errors import DataError
from mixef.terms.factor import Factor
from mixef.terms.labels import CrossedLevels, LevelSet


@dataclass
class LevelUnion:
    """The levels that some rows of a factor have, numbered as they are first seen."""

    name: str  # for messages
    first: Factor | None = None  # as the first batch has it
    is_fixed: bool = True  # whether all batches declare the same levels, in one order
    seen: pd.Index = field(default_factory=lambda: pd.Index([]))

    def add(self, factor: Factor) -> np.ndarray:
        """Return the numbers (n,) of the levels of some rows, -1 where missing."""
        own = factor.level_set.index
        if self.first is None:
            self.first, self.seen = factor, own[:0]
        elif self.is_fixed and own is not self.first.level_set.index:
            self.is_fixed = own.equals(self.first.level_set.index)
        if not self.is_fixed and factor.ordered:
            raise DataError(
                f"the levels of the ordered factor {self.name} differ between batches of rows: "
                "declare them, as by factor(x, levels = c(...), ordered = TRUE)"
            )
        used = np.zeros(len(own) + 1, dtype=bool)
        used[factor.codes] = True
        places = np.flatnonzero(used[:-1])
        number = self.seen.get_indexer(own[places])
        new = np.flatnonzero(number < 0)
        if len(new):
            number[new] = len(self.seen) + np.arange(len(new))
            self.seen = self.seen.append(own[places[new]])
        table = np.full(len(own) + 1, -1, dtype=np.int32)
        table[places] = number
        numbers: np.ndarray = table[factor.codes]
        return numbers

    def ordered(self) -> tuple[Factor, np.ndarray]:
        """Return a factor with the levels in R's order, and the place of each number in it."""
        assert self.first is not None
        first = self.first
        if first.kind == "logical":
            order = first.level_set.index.get_indexer(self.seen)
            return self._factor(first.level_set), order.astype(np.int32)
        if self.is_fixed:
            place = first.level_set.index.get_indexer(self.seen)
            rank = np.argsort(np.argsort(place))
            return self._factor(first.level_set.take(np.sort(place))), rank.astype(np.int32)
        order = self.seen.argsort()
        rank = np.empty(len(order), dtype=np.int32)
        rank[order] = np.arange(len(order), dtype=np.int32)
        return self._factor(LevelSet(self.seen[order])), rank

    def _factor(self, levels: LevelSet) -> Factor:
        """Return the factor without rows."""
        assert self.first is not None
        contrasts = self.first.contrasts
        whole = len(levels) == self.first.n_levels
        return Factor(
            np.empty(0, dtype=np.int32),
            levels,
            self.first.ordered,
            contrasts if whole or isinstance(contrasts, str) else None,
            self.first.kind,
        )


@dataclass
class Crossing:
    """The combinations of levels of several factors that occur, each factor's by their numbers."""

    found: np.ndarray  # (m, factors)

    def add(self, numbers: list[np.ndarray]) -> None:
        """Take in some rows."""
        rows = pd.DataFrame(np.column_stack(numbers)).drop_duplicates().to_numpy()
        both = np.vstack([self.found, rows])
        self.found = pd.DataFrame(both).drop_duplicates().to_numpy()


def crossed(combinations: np.ndarray, factors: list[Factor]) -> Factor:
    """Return the factor without rows of combinations (m, factors) of places in factors' levels."""
    order = np.lexsort(combinations.T[::-1])
    levels = CrossedLevels(combinations[order], None, tuple(f.level_set for f in factors))
    return Factor(np.empty(0, dtype=np.int32), levels)


def places_in(crossing: Factor, codes: list[np.ndarray]) -> np.ndarray:
    """Return the places (n,) of combinations of levels among those of a crossing."""
    levels: CrossedLevels = crossing.level_set
    sizes, known = [len(part) for part in levels.parts], np.asarray(levels.values)
    known = np.ravel_multi_index(tuple(known.T), sizes)
    own = np.ravel_multi_index(tuple(codes), sizes)
    return np.searchsorted(known, own).astype(np.int32)
