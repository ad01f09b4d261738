"""Factors: integer codes with R's levels, made from any column of values."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import pandas as pd

from mixef.terms.labels import CrossedLevels, LevelSet


@dataclass(frozen=True, eq=False)
class Factor:
    """A factor."""

    codes: np.ndarray  # int32 (n,): position of each row's level; -1 is missing
    #: LevelSet: the levels in R's order, as the data hold them; made of a tuple of labels if given
    #: one.
    level_set: Any
    ordered: bool = False  # whether the order of the levels carries meaning
    contrasts: Any = None  # contrasts that came with the variable; None for the default
    kind: str = "factor"  # {"factor", "character", "logical"}: what the values were in R's terms
    full: bool = False  # whether every level is known to occur: the levels were made of the rows

    def __post_init__(self) -> None:
        if not isinstance(self.level_set, LevelSet):
            object.__setattr__(self, "level_set", LevelSet(self.level_set))

    def __len__(self) -> int:
        return len(self.codes)

    @property
    def levels(self) -> tuple[str, ...]:
        """Labels in R's order."""
        labels: tuple[str, ...] = self.level_set.labels
        return labels

    @property
    def n_levels(self) -> int:
        """Number of levels."""
        return len(self.level_set)

    def take(self, rows: np.ndarray | slice) -> Factor:
        """Return the factor at some rows, with all its levels."""
        return replace(self, codes=self.codes[rows], full=False)

    def used_levels(self) -> Factor:
        """Drop levels that no row has; a logical keeps both, as in R."""
        if self.kind == "logical" or self.full:
            return self
        n_levels = self.n_levels
        used = np.zeros(n_levels + 1, dtype=bool)  # the last cell is that of code -1
        used[self.codes.astype(np.intp)] = True
        kept = used[:-1].nonzero()[0]
        if len(kept) == n_levels:
            return self
        table = np.full(n_levels + 1, -1, dtype=np.int32)
        table[kept] = np.arange(len(kept), dtype=np.int32)
        contrasts = self.contrasts if isinstance(self.contrasts, str) else None
        return replace(
            self, codes=table[self.codes], level_set=self.level_set.take(kept), contrasts=contrasts
        )

    def recode(self, levels: tuple[str, ...]) -> np.ndarray:
        """Return codes (n,) into other levels; -1 where a level is not among them."""
        if levels == self.levels:
            return self.codes
        place = {level: i for i, level in enumerate(levels)}
        table = np.array([place.get(level, -1) for level in self.levels] + [-1], dtype=np.int32)
        codes: np.ndarray = table[self.codes]
        return codes

    def arranged(self, levels: tuple[str, ...]) -> Factor:
        """Return the factor with other levels, or with its own in another order."""
        return Factor(self.recode(levels), self.level_set.arranged(levels), self.ordered)

    def values(self) -> np.ndarray:
        """Return the labels row by row (object array, None where missing)."""
        labels: np.ndarray = np.array([*self.levels, None], dtype=object)[self.codes]
        return labels

    def own(self) -> Any:
        """Return what the data hold row by row, as pandas keeps it; a factor as a categorical."""
        index = self.level_set.index
        if self.kind == "factor" and not isinstance(self.level_set, CrossedLevels):
            return pd.Categorical.from_codes(self.codes, index, self.ordered)
        return index.array.take(self.codes, allow_fill=True)

    def as_float(self) -> np.ndarray:
        """Return the codes as numbers from 0, NaN where missing (0/1 for a logical)."""
        out = self.codes.astype(float)
        out[self.codes < 0] = np.nan
        return out


def compress(codes: np.ndarray, cells: int) -> tuple[np.ndarray, np.ndarray]:
    """Renumber non-negative codes without gaps.

    Parameters
    ----------
    codes : ndarray of int, shape (n,)
    cells : int
        One more than the largest possible code.

    Returns
    -------
    codes : ndarray of int32, shape (n,)
    used : ndarray of int
        The old codes that occur, ascending.
    """
    if cells <= 16 * len(codes) + 1024:  # a table costs less than sorting the rows
        seen = np.zeros(cells, dtype=bool)
        seen[codes] = True
        used = np.flatnonzero(seen)
        if len(used) == cells:
            return codes.astype(np.int32, copy=False), used
        table = np.empty(cells, dtype=np.int32)
        table[used] = np.arange(len(used), dtype=np.int32)
        return table[codes], used
    new, used = pd.factorize(codes, sort=True)
    return new.astype(np.int32), used


def encode_numbers(x: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return codes (n,), -1 for NaN, and the sorted distinct numbers."""
    if x.dtype.kind in "iu" and len(x):
        low, high = int(x.min()), int(x.max())
        if high - low < 16 * len(x) + 1024:
            codes, used = compress(x - low if low else x, high - low + 1)
            return codes, used.astype(x.dtype) + low if low else used.astype(x.dtype)
    codes, used = pd.factorize(x, sort=True)
    return codes.astype(np.int32), np.asarray(used)


def factor_from_numbers(x: np.ndarray) -> Factor:
    """Make a factor of floating-point numbers; values alike to 15 digits share a level."""
    codes, values = encode_numbers(x)
    return merged(Factor(codes, LevelSet(values), full=True))


def factor_from_logical(x: np.ndarray, missing: np.ndarray | None = None) -> Factor:
    """Make the two-level factor FALSE, TRUE of booleans."""
    codes = x.astype(np.int32)
    if missing is not None:
        codes[missing] = -1
    return Factor(codes, LevelSet(np.array([False, True])), kind="logical")


def factor_from_strings(values: Any) -> Factor:
    """Make a factor of strings (any array that pandas can factorize); levels are sorted."""
    codes, uniques = pd.factorize(values)
    order = np.argsort(np.asarray(uniques, dtype=object))
    table = np.full(len(order) + 1, -1, dtype=np.int32)
    table[order] = np.arange(len(order), dtype=np.int32)
    return Factor(table[codes], LevelSet(uniques.take(order)), kind="character", full=True)


def factor_from_categories(codes: np.ndarray, categories: pd.Index, ordered: bool) -> Factor:
    """Make a factor of codes and categories of any type; labels are R's."""
    factor = Factor(codes.astype(np.int32), LevelSet(categories), ordered)
    # Only numbers with a fraction and mixed objects can differ and have one label.
    perhaps = isinstance(categories.dtype, np.dtype) and categories.dtype.kind in "fO"
    return merged(factor) if perhaps else factor


def merged(factor: Factor) -> Factor:
    """Join levels with the same label into one."""
    if len(set(factor.levels)) == factor.n_levels:
        return factor
    levels = tuple(dict.fromkeys(factor.levels))
    return replace(factor, codes=factor.recode(levels), level_set=factor.level_set.arranged(levels))


def cross(factors: Sequence[Factor]) -> Factor:
    """Cross factors, keeping observed combinations; the first factor varies slowest."""
    codes = factors[0].codes.astype(np.int64)
    combinations = np.arange(factors[0].n_levels)[:, None]
    missing = codes < 0
    for factor in factors[1:]:
        k = max(factor.n_levels, 1)
        missing |= factor.codes < 0
        joint = codes * k + factor.codes
        present = ~missing if missing.any() else slice(None)
        compact, used = compress(joint[present], max(len(combinations), 1) * k)
        codes = np.full(len(joint), -1, dtype=np.int64)
        codes[present] = compact
        combinations = np.column_stack([combinations[used // k], used % k])
    parts = tuple(factor.level_set for factor in factors)
    return Factor(codes.astype(np.int32), CrossedLevels(combinations, None, parts))
