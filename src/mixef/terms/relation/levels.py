"""The levels of a factor whose rows come in batches."""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np
import pandas as pd

from mixef.errors import DataError
from mixef.terms.factor import Factor
from mixef.terms.labels import CrossedLevels, LevelSet


@dataclass(frozen=True, eq=False)
class KnownLevels:
    """The levels of a factor over all rows, and what finds those of a batch among them."""

    factor: Factor  # without rows
    seen: pd.Index  # (m,): levels as the rows have them; several may be one level
    places: np.ndarray  # int32 (m,): the place of each among the factor's levels

    def of(self, levels: LevelSet) -> np.ndarray:
        """Return the places (k + 1,) of other levels; -1 for a new one, and at the end."""
        found = self.seen.get_indexer(levels.index)
        table: np.ndarray = np.append(self.places, np.int32(-1))[np.append(found, -1)]
        return table


@dataclass
class LevelUnion:
    """The levels that some rows of a factor have, numbered as they are first seen."""

    name: str  # for messages
    first: Factor | None = None  # as the first batch has it
    is_fixed: bool = True  # whether all batches declare the same levels, in one order
    seen: pd.Index = field(default_factory=lambda: pd.Index([]))
    _last: tuple[LevelSet, np.ndarray] | None = None  # levels that were looked up, and numbers

    def add(self, factor: Factor) -> np.ndarray:
        """Return the numbers (n,) of the levels of some rows, -1 where missing."""
        levels = factor.level_set
        if self.first is None:
            self.first, self.seen = factor, levels.index[:0]
        elif self.is_fixed and levels is not self.first.level_set:
            self.is_fixed = levels.index.equals(self.first.level_set.index)
        if not self.is_fixed and factor.ordered:
            raise DataError(
                f"the levels of the ordered factor {self.name} differ between batches of rows: "
                "declare them, as by factor(x, levels = c(...), ordered = TRUE)"
            )
        if self._last is None or self._last[0] is not levels:
            self._last = levels, np.append(self._numbers(levels.index), -1)
        table = self._last[1]
        numbers: np.ndarray = table[factor.codes]
        if (numbers == -1).any():
            used = np.zeros(len(table), dtype=bool)
            used[factor.codes] = True
            new = np.flatnonzero(used[:-1] & (table[:-1] < 0))
            if len(new):
                table[new] = len(self.seen) + np.arange(len(new))
                self.seen = _appended(self.seen, levels.index[new])
                numbers = table[factor.codes]
        return numbers

    def _numbers(self, own: pd.Index) -> np.ndarray:
        own, self.seen = _alike(own, self.seen)
        numbers: np.ndarray = self.seen.get_indexer(own).astype(np.int32)
        return numbers

    def ordered(self) -> tuple[KnownLevels, np.ndarray]:
        """Return the levels in R's order, and the place (m,) of each number among them."""
        assert self.first is not None
        first = self.first
        if first.kind == "logical":
            place = first.level_set.index.get_indexer(self.seen).astype(np.int32)
            return KnownLevels(self._factor(first.level_set), self.seen, place), place
        if self.is_fixed:
            place = first.level_set.index.get_indexer(self.seen)
            levels = first.level_set.take(np.sort(place))
            order = np.argsort(place)
        else:
            order = self.seen.argsort()
            levels = LevelSet(self.seen[order])
        rank = np.empty(len(order), dtype=np.int32)
        rank[order] = np.arange(len(order), dtype=np.int32)
        if not self.is_fixed and self.seen.dtype.kind == "f":
            levels, rank = _alike_to_15_digits(levels, rank)
        return KnownLevels(self._factor(levels), self.seen, rank), rank

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


def _alike(a: pd.Index, b: pd.Index) -> tuple[pd.Index, pd.Index]:
    """Return indexes as objects where one type of numbers does not hold both: 64 and more bits."""
    if a.dtype == b.dtype or not (a.dtype.kind in "iuO" and b.dtype.kind in "iuO"):
        return a, b
    return a.astype(object), b.astype(object)


def _appended(seen: pd.Index, more: pd.Index) -> pd.Index:
    seen, more = _alike(seen, more)
    return seen.append(more)


def _alike_to_15_digits(levels: LevelSet, rank: np.ndarray) -> tuple[LevelSet, np.ndarray]:
    """Join numbers that have one label, which are next to each other."""
    labels = np.array(levels.labels, dtype=object)
    starts = np.append(True, labels[1:] != labels[:-1])
    if starts.all():
        return levels, rank
    joined = np.cumsum(starts) - 1
    return levels.take(np.flatnonzero(starts)), joined[rank].astype(np.int32)


class Crossing:
    """The combinations of levels of several factors that occur, each factor's by their numbers."""

    def __init__(self, factors: int) -> None:
        self._found: list[np.ndarray] = [np.empty((0, factors), dtype=np.int64)]
        self._known = 0  # rows of the first array, which is without doubles

    def add(self, numbers: list[np.ndarray]) -> None:
        """Take in some rows."""
        self._found.append(_distinct(np.column_stack(numbers)))
        if sum(map(len, self._found)) > 2 * self._known + 100_000:
            self._join()

    @property
    def found(self) -> np.ndarray:
        """The combinations (m, factors)."""
        self._join()
        return self._found[0]

    def _join(self) -> None:
        self._found = [_distinct(np.vstack(self._found))]
        self._known = len(self._found[0])


def _distinct(rows: np.ndarray) -> np.ndarray:
    """Return the distinct rows of whole numbers."""
    columns = rows.astype(np.int64).T
    key, sizes = columns[0], [int(column.max(initial=0)) + 1 for column in columns]
    if np.prod(np.array(sizes, dtype=float)) < 2.0**62:
        for column, size in zip(columns[1:], sizes[1:], strict=True):
            key = key * size + column
        again = pd.Series(key).duplicated()
    else:
        again = pd.DataFrame(rows).duplicated()
    distinct: np.ndarray = rows[~np.asarray(again)]
    return distinct


def crossed(combinations: np.ndarray, factors: list[Factor]) -> Factor:
    """Return the factor without rows of combinations (m, factors) of places in factors' levels."""
    order = np.lexsort(combinations.T[::-1])
    levels = CrossedLevels(combinations[order], None, tuple(f.level_set for f in factors))
    return Factor(np.empty(0, dtype=np.int32), levels)


def places_in(crossing: Factor, codes: list[np.ndarray]) -> np.ndarray:
    """Return the places (n,) of combinations of levels among those of a crossing; -1 for new ones.

    The combinations are sorted, so that those of the first factors are too: one factor after
    another is joined to the places among them, whose products stay small.
    """
    known = np.asarray(crossing.level_set.values).astype(np.int64)
    at, own = known[:, 0], codes[0].astype(np.int64)
    for j, part in enumerate(crossing.level_set.parts[1:], start=1):
        size = max(len(part), 1)
        keys, given = at * size + known[:, j], own * size + codes[j]
        distinct = keys[np.append(True, keys[1:] != keys[:-1])]  # sorted, as the combinations are
        at = np.searchsorted(distinct, keys)
        place = np.minimum(np.searchsorted(distinct, given), len(distinct) - 1)
        own = np.where((distinct[place] == given) & (own >= 0), place, -1)
    places: np.ndarray = own.astype(np.int32)
    return places
