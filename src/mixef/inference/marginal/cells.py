"""The predictors of a fit whose rows are read in batches: cells of levels, and sizes of numbers."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np

from mixef.terms.exact import Exact, Integers, Times
from mixef.terms.factor import Factor, compress
from mixef.terms.relation.survey import Summary, summary_of
from mixef.terms.values import Matrix

#: A numeric variable with more values than these is a covariate.
FEW = 2


@dataclass(frozen=True)
class Covariate:
    """The values of a numeric predictor over the rows where it is not missing."""

    mean: Any  # a number, or a time
    low: Any
    high: Any
    sd: float  # with n - 1

    @classmethod
    def of(cls, column: Any) -> Covariate:
        """Return what is known of a column of numbers or of times (n,)."""
        if isinstance(column, Times):
            stamps = column.stamps[~column.absent]
            if stamps.unit != "ns":  # means of days are no whole days, nor seconds
                stamps = stamps.as_unit("us")
            return cls(stamps.mean(), stamps.min(), stamps.max(), np.nan)
        numbers = numbers_of(column)
        numbers = numbers[~np.isnan(numbers)]
        sd = float(numbers.std(ddof=1)) if len(numbers) > 1 else np.nan
        return cls(float(numbers.mean()), float(numbers.min()), float(numbers.max()), sd)


def numbers_of(column: Any) -> np.ndarray:
    """Return a column as numbers (n,), NaN where missing."""
    return column.as_float() if isinstance(column, Exact) else np.asarray(column, dtype=float)


@dataclass
class Cells:
    """Combinations of levels that occur, taken in batch by batch.

    Parameters
    ----------
    as_levels : collection of str
        Numbers that the formula makes factors of, by name.
    """

    as_levels: Collection[str]
    parts: list[tuple[dict[str, Any], np.ndarray]] = field(default_factory=list)
    summaries: dict[str, Summary] = field(default_factory=dict)  # of columns of numbers
    #: Rows, mean, and ends of columns of times.
    times: dict[str, list[tuple[int, Any, Any, Any]]] = field(default_factory=dict)
    few: dict[str, np.ndarray] = field(default_factory=dict)  # distinct numbers, until too many

    def add(self, columns: Mapping[str, Any]) -> None:
        """Take in the columns of some rows."""
        codes: dict[str, np.ndarray] = {}
        for name, column in columns.items():
            known = self._codes(name, column)
            if known is not None:
                codes[name] = known
        n = len(next(iter(columns.values()))) if columns else 0
        joint = np.zeros(n, dtype=np.int64)
        for own in codes.values():
            size = int(own.max(initial=-1)) + 2
            joint = joint * size + own + 1
            joint = compress(joint, int(joint.max(initial=0)) + 1)[0].astype(np.int64)
        first, counts = np.unique(joint, return_index=True, return_counts=True)[1:]
        taken = {
            name: c[first] if isinstance(c := columns[name], np.ndarray) else c.take(first)
            for name in codes
        }
        self.parts.append((taken, counts))

    def columns(self, names: Collection[str]) -> tuple[dict[str, Any], np.ndarray]:
        """Return a column (m,) or a `Covariate` by name, and how many rows each cell has (m,)."""
        out: dict[str, Any] = {}
        for name in names:
            if name in self.times:
                out[name] = _joined_times(self.times[name])
            elif name in self.summaries and name not in self.few:
                own = self.summaries[name]
                sd = float(own.sd[0]) if own.n > 1 else np.nan
                out[name] = Covariate(float(own.mean[0]), float(own.low[0]), float(own.high[0]), sd)
            else:
                out[name] = joined([part[name] for part, _ in self.parts])
        return out, np.concatenate([counts for _, counts in self.parts])

    def _codes(self, name: str, column: Any) -> np.ndarray | None:
        """Return the levels of some rows, -1 where missing; None for a covariate."""
        if isinstance(column, Matrix):
            return np.zeros(len(column), dtype=np.int64)  # it will be refused
        if isinstance(column, np.ndarray) and column.dtype.kind == "b":
            return column.astype(np.int64)
        if isinstance(column, Factor):
            return column.codes.astype(np.int64)
        if isinstance(column, Exact) and name in self.as_levels:
            return column.factor().codes.astype(np.int64)
        if isinstance(column, Times):
            own = Covariate.of(column)
            n = int((~column.absent).sum())
            self.times.setdefault(name, []).extend([(n, own.mean, own.low, own.high)] * (n > 0))
            return None
        numbers = numbers_of(column)
        present = ~np.isnan(numbers)
        codes = np.full(len(numbers), -1, dtype=np.int64)
        distinct, codes[present] = np.unique(numbers[present], return_inverse=True)
        if name in self.as_levels:
            return codes
        if present.any():
            summary, before = summary_of(numbers[present][:, None]), self.summaries.get(name)
            if before is None:
                self.few[name] = distinct[:0]
            self.summaries[name] = summary if before is None else before.with_more(summary)
        if name in self.few:
            self.few[name] = np.union1d(self.few[name], distinct)
            if len(self.few[name]) > FEW:
                del self.few[name]
        return codes if name in self.few or not present.any() else None


def joined(parts: list[Any]) -> Any:
    """Return the rows of several columns of one kind."""
    first = parts[0]
    if isinstance(first, Factor):
        return replace(first, codes=np.concatenate([part.codes for part in parts]), full=False)
    if isinstance(first, Integers):
        missing = None
        if any(part.missing is not None for part in parts):
            missing = np.concatenate(
                [np.zeros(len(p), bool) if p.missing is None else p.missing for p in parts]
            )
        return replace(first, array=np.concatenate([p.array for p in parts]), missing=missing)
    if isinstance(first, Times):
        held, stamps = (
            getattr(first, name).append([getattr(part, name) for part in parts[1:]])
            for name in ("held", "stamps")
        )
        return replace(first, held=held, stamps=stamps)
    return first if isinstance(first, Matrix) else np.concatenate(parts)


def _joined_times(parts: list[tuple[int, Any, Any, Any]]) -> Covariate:
    n, origin = sum(part[0] for part in parts), parts[0][1]
    mean = origin + sum(((part[1] - origin) * (part[0] / n) for part in parts), origin - origin)
    return Covariate(mean, min(part[2] for part in parts), max(part[3] for part in parts), np.nan)
