"""Columns that arithmetic takes for numbers and factors take for more: whole numbers, times."""

from __future__ import annotations

import operator
from abc import ABC, abstractmethod
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import pandas as pd

from mixef.errors import DataWarning, warn
from mixef.terms.factor import Factor, encode_numbers
from mixef.terms.labels import LevelSet

# Up to here every whole number is a floating-point number.
EXACT = 2**53
_COMPARISONS = {
    "==": operator.eq, "!=": operator.ne, "<": operator.lt, "<=": operator.le,
    ">": operator.gt, ">=": operator.ge,
}  # fmt: skip


class Exact(ABC):
    """A column of which numbers and levels are different views."""

    name: str

    @abstractmethod
    def __len__(self) -> int: ...

    @abstractmethod
    def as_float(self) -> np.ndarray:
        """Return the numbers (n,) that arithmetic works on, NaN where missing."""

    def plain(self) -> Any:
        """Return what a function of the caller's gets."""
        return self.as_float()

    @abstractmethod
    def factor(self) -> Factor:
        """Return the distinct values as levels, in ascending order."""

    @abstractmethod
    def own(self) -> Any:
        """Return what the data hold row by row, as pandas keeps it."""

    @abstractmethod
    def take(self, rows: np.ndarray) -> Exact:
        """Return the column at some rows."""

    @property
    @abstractmethod
    def absent(self) -> np.ndarray | bool:
        """Where values are missing (n,); False for nowhere."""

    @abstractmethod
    def comparable(self, other: Any) -> tuple[Any, Any] | None:
        """Return this column, and another one or a constant, as they compare; None for numbers."""

    def compare(self, op: str, other: Any) -> np.ndarray | None:
        """Return 0, 1 or NaN (n,) for ``self op other``; None if numbers are to be compared."""
        pair = self.comparable(other)
        if pair is None:
            return None
        truth = np.asarray(_COMPARISONS[op](*pair), dtype=float)
        truth[self.absent | (other.absent if isinstance(other, Exact) else False)] = np.nan
        return truth

    def __array__(self, dtype: Any = None, copy: bool | None = None) -> np.ndarray:
        return self.as_float() if dtype is None else self.as_float().astype(dtype)


@dataclass(frozen=True, eq=False)
class Integers(Exact):
    """Whole numbers, exactly: labels need every digit, and products of narrow types overflow."""

    array: np.ndarray  # (n,) of int64, uint64 or Python's integers: zero where missing
    missing: np.ndarray | None  # bool (n,)
    name: str  # for messages

    def __len__(self) -> int:
        return len(self.array)

    def as_float(self) -> np.ndarray:
        """Return the numbers (n,), NaN where missing; it warns of digits that are lost, once."""
        known: np.ndarray | None = self.__dict__.get("_numbers")
        if known is not None:
            return known
        numbers = self.array.astype(np.float64)
        self._tell_of_lost_digits(numbers)
        if self.missing is not None:
            numbers[self.missing] = np.nan
        self.__dict__["_numbers"] = numbers
        return numbers

    def factor(self) -> Factor:
        """Return the distinct numbers as levels, in ascending order."""
        if self.missing is None:
            codes, values = encode_numbers(self.array)
        else:
            present = ~self.missing
            codes = np.full(len(self), -1, dtype=np.int32)
            codes[present], values = encode_numbers(self.array[present])
        return Factor(codes, LevelSet(values), full=True)

    def own(self) -> Any:
        """Return the numbers as the data hold them."""
        if self.missing is None:
            return self.array
        if self.array.dtype == object:
            whole = self.array.copy()
            whole[self.missing] = None
            return whole
        return pd.arrays.IntegerArray(self.array, self.missing)

    def take(self, rows: np.ndarray) -> Integers:
        """Return the column at some rows."""
        missing = None if self.missing is None else self.missing[rows]
        return replace(self, array=self.array[rows], missing=missing)

    @property
    def absent(self) -> np.ndarray | bool:
        """Where numbers are missing (n,); False for nowhere."""
        return False if self.missing is None else self.missing

    def comparable(self, other: Any) -> tuple[Any, Any] | None:
        """Return whole numbers beside whole numbers; None for other numbers."""
        if isinstance(other, Integers):
            return self.array, other.array
        whole = isinstance(other, int | float) and np.isfinite(other) and other == int(other)
        return (self.array, int(other)) if whole else None

    def _tell_of_lost_digits(self, numbers: np.ndarray) -> None:
        if len(self) == 0 or (int(self.array.min()) >= -EXACT and int(self.array.max()) <= EXACT):
            return
        pairs = zip(self.array.tolist(), numbers.tolist(), strict=True)
        lost = next((value for value, number in pairs if value != int(number)), None)
        if lost is not None:
            warn(
                f"the column {self.name!r} holds whole numbers beyond 2^53, such as {lost}, which "
                "lose their last digits as numbers of a model; subtract a constant from them "
                f"before, or use factor({self.name}) if they are labels",
                DataWarning,
            )
