"""Factors: integer codes with R's levels, made from any column of values."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import pandas as pd

from mixef.terms.nodes import number_text


@dataclass(frozen=True, eq=False)
class Factor:
    """A factor.

    Attributes
    ----------
    codes : ndarray of int32, shape (n,)
        Position of each row's level; -1 is missing.
    levels : tuple of str
        Labels in R's order.
    ordered : bool
        Whether the order of the levels carries meaning.
    contrasts : object, optional
        Contrasts that came with the variable; None for the default.
    kind : {"factor", "character", "logical"}
        What the values were in R's terms.
    """

    codes: np.ndarray
    levels: tuple[str, ...]
    ordered: bool = False
    contrasts: Any = None
    kind: str = "factor"

    def __len__(self) -> int:
        return len(self.codes)

    def take(self, rows: np.ndarray) -> Factor:
        """Return the factor at some rows, with all its levels."""
        return replace(self, codes=self.codes[rows])

    def used_levels(self) -> Factor:
        """Drop levels that no row has; a logical keeps both, as in R."""
        if self.kind == "logical":
            return self
        used = np.bincount(self.codes + 1, minlength=len(self.levels) + 1)[1:] > 0
        if used.all():
            return self
        table = np.full(len(used) + 1, -1, dtype=np.int32)  # last cell: code -1 stays -1
        table[:-1][used] = np.arange(used.sum(), dtype=np.int32)
        levels = tuple(
            level for level, keep in zip(self.levels, used.tolist(), strict=True) if keep
        )
        contrasts = self.contrasts if isinstance(self.contrasts, str) else None
        return replace(self, codes=table[self.codes], levels=levels, contrasts=contrasts)

    def recode(self, levels: tuple[str, ...]) -> np.ndarray:
        """Return codes (n,) into other levels; -1 where a level is not among them."""
        if levels == self.levels:
            return self.codes
        place = {level: i for i, level in enumerate(levels)}
        table = np.array([place.get(level, -1) for level in self.levels] + [-1], dtype=np.int32)
        return table[self.codes]

    def values(self) -> np.ndarray:
        """Return the labels row by row (object array, None where missing)."""
        return np.array([*self.levels, None], dtype=object)[self.codes]

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
            return codes, used + low
    codes, used = pd.factorize(x, sort=True)
    return codes.astype(np.int32), np.asarray(used)


def number_labels(values: np.ndarray) -> tuple[str, ...]:
    """Labels of distinct numbers as R writes them."""
    # A column of whole numbers is often float only because one of them is missing, and what
    # R would hold there is an integer: 100000, not 1e+05.
    whole = values.dtype.kind in "iu" or bool((np.mod(values, 1) == 0).all())
    if whole and np.abs(values).max(initial=0) < 1e15:
        return tuple(map(str, values.astype(np.int64).tolist()))
    return tuple(map(number_text, values.tolist()))


def factor_from_numbers(x: np.ndarray) -> Factor:
    """Make a factor of numbers; values alike to 15 digits share a level."""
    codes, values = encode_numbers(x)
    return merged(Factor(codes, number_labels(values)))


def factor_from_logical(x: np.ndarray, missing: np.ndarray | None = None) -> Factor:
    """Make the two-level factor FALSE, TRUE of booleans."""
    codes = x.astype(np.int32)
    if missing is not None:
        codes[missing] = -1
    return Factor(codes, ("FALSE", "TRUE"), kind="logical")


def factor_from_strings(values: Any) -> Factor:
    """Make a factor of strings (any array that pandas can factorize); levels are sorted."""
    codes, uniques = pd.factorize(values)
    labels = np.asarray(uniques, dtype=object)
    order = np.argsort(labels)
    table = np.full(len(labels) + 1, -1, dtype=np.int32)
    table[order] = np.arange(len(order), dtype=np.int32)
    levels = tuple(map(str, labels[order].tolist()))
    return Factor(table[codes], levels, kind="character")


def factor_from_categories(codes: np.ndarray, categories: Any, ordered: bool) -> Factor:
    """Make a factor of codes and categories of any type; labels are R's."""
    if isinstance(categories, pd.Index) and categories.dtype.kind in "iuf":
        levels = number_labels(categories.to_numpy())
    elif isinstance(categories, pd.Index) and categories.dtype.kind == "b":
        levels = tuple("TRUE" if c else "FALSE" for c in categories)
    else:
        levels = tuple(map(str, categories))
    return merged(Factor(codes.astype(np.int32), levels, ordered))


def merged(factor: Factor) -> Factor:
    """Join levels with the same label into one."""
    if len(set(factor.levels)) == len(factor.levels):
        return factor
    levels = tuple(dict.fromkeys(factor.levels))
    return replace(factor, codes=factor.recode(levels), levels=levels)


def cross(factors: Sequence[Factor]) -> tuple[np.ndarray, np.ndarray]:
    """Cross factors, keeping observed combinations; the first factor varies slowest.

    Returns
    -------
    codes : ndarray of int32, shape (n,)
        -1 where any factor is missing.
    combinations : ndarray of int, shape (l, number of factors)
        The level of each factor that a combination is made of.
    """
    codes = factors[0].codes.astype(np.int64)
    combinations = np.arange(len(factors[0].levels))[:, None]
    missing = codes < 0
    for factor in factors[1:]:
        k = max(len(factor.levels), 1)
        missing |= factor.codes < 0
        joint = codes * k + factor.codes
        present = ~missing if missing.any() else slice(None)
        compact, used = compress(joint[present], max(len(combinations), 1) * k)
        codes = np.full(len(joint), -1, dtype=np.int64)
        codes[present] = compact
        combinations = np.column_stack([combinations[used // k], used % k])
    return codes.astype(np.int32), combinations


def crossed_labels(combinations: np.ndarray, levels: Sequence[tuple[str, ...]]) -> tuple[str, ...]:
    """Labels such as ``a1:b1`` of combinations (l, number of factors)."""
    parts = [np.array(own, dtype=object)[combinations[:, j]] for j, own in enumerate(levels)]
    return tuple(map(":".join, zip(*parts, strict=True)))
