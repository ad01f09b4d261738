"""Columns of dates, times, periods and durations."""

from __future__ import annotations

import datetime
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any

import numpy as np
import pandas as pd

from mixef.errors import DataError, FormulaError
from mixef.terms.exact import Exact
from mixef.terms.factor import Factor, encode_numbers
from mixef.terms.labels import LevelSet

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
