"""Columns that arithmetic takes for numbers and factors take for more: whole numbers, times."""

from __future__ import annotations

import datetime
import operator
from abc import abstractmethod
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any

import numpy as np
import pandas as pd

from mixef.errors import DataError, DataWarning, FormulaError, warn
from mixef.terms.factor import Factor, encode_numbers
from mixef.terms.labels import LevelSet

# Up to here every whole number is a floating-point number.
EXACT = 2**53
_COMPARISONS = {
    "==": operator.eq, "!=": operator.ne, "<": operator.lt, "<=": operator.le,
    ">": operator.gt, ">=": operator.ge,
}  # fmt: skip


def floats(x: np.ndarray, name: str) -> np.ndarray:
    """Return numbers of any type as floating-point numbers, which they have to fit into."""
    try:
        return x.astype(np.float64)
    except OverflowError:
        raise DataError(
            f"column {name!r} holds numbers beyond 1.8e308, too large to compute with; use "
            f"factor({name}) if they are labels, and convert them before if they are not"
        ) from None


class Exact:  # no ABC, since isinstance asks those at length
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
    #: Names that a warning told of, shared by the batches of a table; None for a whole column.
    told: set[str] | None = None

    def __len__(self) -> int:
        return len(self.array)

    def as_float(self) -> np.ndarray:
        """Return the numbers (n,), NaN where missing; it warns of digits that are lost, once."""
        known: np.ndarray | None = self.__dict__.get("_numbers")
        if known is not None:
            return known
        numbers = floats(self.array, self.name)
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
        whole = isinstance(other, int | np.integer) or (
            isinstance(other, float) and other.is_integer()
        )
        return (self.array, int(other)) if whole else None

    def _tell_of_lost_digits(self, numbers: np.ndarray) -> None:
        if len(self) == 0 or (int(self.array.min()) >= -EXACT and int(self.array.max()) <= EXACT):
            return
        if self.told is not None and self.name in self.told:
            return
        pairs = zip(self.array.tolist(), numbers.tolist(), strict=True)
        lost = next((value for value, number in pairs if value != int(number)), None)
        if lost is not None:
            if self.told is not None:
                self.told.add(self.name)
            warn(
                f"the column {self.name!r} holds whole numbers beyond 2^53, such as {lost}, which "
                "lose their last digits as numbers of a model; subtract a constant from them "
                f"before, or use factor({self.name}) if they are labels",
                DataWarning,
            )


UNITS_A_DAY = {"s": 86_400, "ms": 86_400_000, "us": 86_400_000_000, "ns": 86_400_000_000_000}


@dataclass(frozen=True, eq=False)
class Times(Exact):
    """Points in time, or durations.

    As numbers they are days: since 1970-01-01 (UTC where there is a time zone), or long.
    """

    held: pd.Index  # index (n,): what the data hold; its elements are the levels of a factor
    #: DatetimeIndex or TimedeltaIndex (n,): the same to compute with; a period is its start.
    stamps: pd.DatetimeIndex | pd.TimedeltaIndex
    name: str  # for messages

    def __len__(self) -> int:
        return len(self.held)

    @cached_property
    def _days(self) -> np.ndarray:
        days: np.ndarray = self.stamps.asi8 / UNITS_A_DAY[self.stamps.unit]
        days[self.absent] = np.nan
        return days

    @cached_property
    def absent(self) -> np.ndarray:
        """Where times are missing (n,)."""
        return np.asarray(self.stamps.isna())

    def as_float(self) -> np.ndarray:
        """Return days (n,), NaN where missing."""
        return self._days

    def plain(self) -> pd.Index:
        """Return the times as the data hold them, for a function of the caller's."""
        return self.held

    def own(self) -> Any:
        """Return the times as the data hold them."""
        return self.held

    def factor(self) -> Factor:
        """Return the distinct times as levels, in ascending order."""
        present = np.flatnonzero(~self.absent)
        codes = np.full(len(self), -1, dtype=np.int32)
        codes[present], keys = encode_numbers(self.stamps.asi8[present])
        first = np.empty(len(keys), dtype=np.intp)
        first[codes[present][::-1]] = present[::-1]
        return Factor(codes, LevelSet(self.held.take(first)), full=True)

    def take(self, rows: np.ndarray) -> Times:
        """Return the column at some rows."""
        return replace(self, held=self.held.take(rows), stamps=self.stamps.take(rows))

    def comparable(self, other: Any) -> tuple[Any, Any] | None:
        """Return times beside times or a constant that is one; None for numbers."""
        if isinstance(other, Times):
            self._refuse_other_kind(other.stamps)
            return self.stamps, other.stamps
        if isinstance(other, str | datetime.date | datetime.timedelta | np.datetime64 |
                      np.timedelta64 | pd.Period):  # fmt: skip
            return self.stamps, self._constant(other)
        return None

    def _constant(self, value: Any) -> Any:
        if isinstance(value, pd.Period):
            value = value.start_time
        duration = isinstance(self.stamps, pd.TimedeltaIndex)
        try:
            stamp = pd.Timedelta(value) if duration else pd.Timestamp(value)
        except (TypeError, ValueError):
            expected = "a duration such as '2 days'" if duration else "a date such as '2024-01-31'"
            raise FormulaError(
                f"{value!r} is compared with {self.name}, but cannot be read as a time; "
                f"expected {expected}"
            ) from None
        if duration:
            return stamp
        if stamp.tz is None and self.stamps.tz is not None:
            return stamp.tz_localize(self.stamps.tz)
        self._refuse_other_kind(stamp)
        return stamp

    def _refuse_other_kind(self, other: Any) -> None:
        """Refuse points beside durations, and times with a zone beside times without one."""
        mine, theirs = _kind(self.stamps), _kind(other)
        if mine != theirs:
            raise DataError(f"{self.name}, {mine}, cannot be compared with {theirs}")


def _kind(stamps: Any) -> str:
    if isinstance(stamps, pd.TimedeltaIndex):
        return "a duration"
    return "a time without a time zone" if stamps.tz is None else "a time with a time zone"


def times(values: Any, name: str) -> Times:
    """Return a column of times.

    Parameters
    ----------
    values : array (n,)
        Of dates, times, periods or durations, of NumPy, pandas or Python.
    """
    own = pd.Index(values)
    if isinstance(own, pd.DatetimeIndex | pd.TimedeltaIndex):
        return Times(own, own, name)
    if isinstance(own, pd.PeriodIndex):
        return Times(own, own.to_timestamp(), name)
    plain = own.astype(object)
    missing = plain.isna()
    present = plain[~missing]
    durations = len(present) > 0 and isinstance(present[0], datetime.timedelta)
    convert = pd.to_timedelta if durations else pd.to_datetime
    try:
        stamps = convert(plain.where(~missing, None))
    except (TypeError, ValueError) as error:
        raise DataError(
            f"column {name!r} holds times that cannot be read together ({error}); convert it to "
            "one kind of time before, with pandas.to_datetime, say"
        ) from None
    return Times(own, stamps, name)
