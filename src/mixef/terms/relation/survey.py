"""What is known of all rows of a table, once they were read in batches."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from functools import reduce
from typing import TYPE_CHECKING

import numpy as np

from mixef.errors import DataError, DataWarning, warn
from mixef.terms.factor import Factor, factor_from_logical
from mixef.terms.frame import Evaluated
from mixef.terms.needed import group_factors
from mixef.terms.relation.levels import Crossing, KnownLevels, LevelUnion, crossed
from mixef.terms.rows import (
    NOTHING_LEFT_OUT,
    LeftOut,
    absent_values,
    infinite_values,
    nothing_left,
)
from mixef.terms.values import Matrix

if TYPE_CHECKING:
    from mixef.terms.relation.reader import Batch


@dataclass(frozen=True)
class Summary:
    """The numbers of a variable over all rows that a model uses."""

    n: int
    mean: np.ndarray  # (k,): one entry a column
    squares: np.ndarray  # (k,): sums of squared deviations from the mean
    low: np.ndarray  # (k,)
    high: np.ndarray  # (k,)
    infinite: int = 0  # rows with an infinite value

    @property
    def sd(self) -> np.ndarray:
        """Standard deviations (k,), with n - 1."""
        sd: np.ndarray = np.sqrt(self.squares / max(self.n - 1, 1))
        return sd

    def with_more(self, other: Summary) -> Summary:
        """Return the summary of the rows of both."""
        n = self.n + other.n
        step = other.mean - self.mean
        return Summary(
            n,
            self.mean + step * (other.n / n),
            self.squares + other.squares + step**2 * (self.n * other.n / n),
            np.minimum(self.low, other.low),
            np.maximum(self.high, other.high),
            self.infinite + other.infinite,
        )


def summary_of(values: np.ndarray) -> Summary:
    """Summarize values (n, k), n > 0."""
    with np.errstate(invalid="ignore", over="ignore"):
        mean = values.mean(axis=0)
        squares = ((values - mean) ** 2).sum(axis=0)
    infinite = 0 if np.isfinite(mean).all() else int(np.isinf(values).any(axis=1).sum())
    return Summary(len(values), mean, squares, values.min(axis=0), values.max(axis=0), infinite)


@dataclass
class Survey:
    """Counts, levels and sizes of all rows, taken in batch by batch."""

    sample: Evaluated | None = None  # the variables of one batch, for their kinds
    n: int = 0  # rows that the model uses
    left_out: LeftOut = NOTHING_LEFT_OUT
    summaries: dict[str, Summary] = field(default_factory=dict)
    #: By ("variable" or "group", text), without rows.
    levels: dict[tuple[str, str], KnownLevels] = field(default_factory=dict)
    crossings: dict[tuple[str, ...], Factor] = field(default_factory=dict)
    #: Of weights: how many are below zero, how many infinite, and the smallest.
    negative: int = 0
    infinite: int = 0
    lowest: float = np.inf
    _unions: dict[tuple[str, str], LevelUnion] = field(default_factory=dict)
    _crossed: dict[tuple[str, ...], Crossing] = field(default_factory=dict)
    _made_missing: dict[tuple[str, str], int] = field(default_factory=dict)

    def add(self, batch: Batch) -> None:
        """Take in a batch."""
        found = self.sample = batch.found
        absent, rows, weightless = complete_rows(found, batch.chosen)
        self._count(batch, absent, rows, weightless)
        if not len(rows):
            return
        self.n += len(rows)
        for text, value in found.variables.items():
            if isinstance(value, np.ndarray) and value.dtype.kind == "b":
                value = factor_from_logical(value)
            if isinstance(value, Factor):
                self.number(("variable", text), value.take(rows))
                continue
            array = value.array if isinstance(value, Matrix) else value[:, None]
            self._summarize(text, array[rows])
        if found.offsets:
            self._summarize("offset", reduce(np.add, found.offsets)[rows][:, None])
        if found.weights is not None:
            self._summarize("weights", found.weights[rows][:, None])
        numbers = {
            text: self.number(("group", text), factor.take(rows))
            for text, factor in found.groups.items()
        }
        for bar in found.formula.bars:
            texts = tuple(node.text for node in group_factors(bar.group))
            if len(texts) > 1:
                self.cross(texts, [numbers[text] for text in texts])

    def finish(self, na_action: str) -> None:
        """Order the levels; refuse what no model can be fitted to, and warn of rows left out.

        What is refused, in which order and in which words, is what `model_frame` does.
        """
        assert self.sample is not None
        counts = self.left_out.by_variable  # by the batch in which something was missing first
        by_variable = {name: counts[name] for name in self.sample.judged if name in counts}
        self.left_out = replace(self.left_out, by_variable=by_variable)
        asked = self.left_out.n - self.left_out.by_subset
        self._warn_of_missing(
            "subset", self.left_out.n, "a condition that is missing chooses no row"
        )
        if na_action == "fail" and by_variable:
            listed = ", ".join(f"{name} ({count} rows)" for name, count in by_variable.items())
            raise DataError(f"missing values, and na_action is 'fail': {listed}")
        if self.n + self.left_out.weightless == 0:
            empty = [name for name, count in by_variable.items() if asked and count == asked]
            raise DataError(nothing_left(self.left_out.n, asked, empty))
        if self.negative:
            raise DataError(
                f"weights must not be negative, but {self.negative} are "
                f"(the smallest is {self.lowest:g})"
            )
        if self.infinite:
            raise DataError("weights must be finite, but some are infinite")
        if self.n == 0:
            raise DataError("all weights are zero; nothing is left to fit")
        if self.left_out.weightless:
            warn(
                f"{self.left_out.weightless} of {self.n + self.left_out.weightless} rows have "
                "weight zero and are dropped: they would tell the model nothing",
                DataWarning,
            )
        self._warn_of_missing("variable", asked, "these rows are left out")
        for text, summary in self.summaries.items():
            if summary.infinite:
                raise infinite_values(text, summary.infinite, self.n, self.sample.formula.response)
        ranks = {}
        for key, union in self._unions.items():
            self.levels[key], ranks[key] = union.ordered()
        for texts, own in self._crossed.items():
            places = [ranks["group", t][own.found[:, j]] for j, t in enumerate(texts)]
            factors = [self.levels["group", t].factor for t in texts]
            self.crossings[texts] = crossed(_distinct_rows(places), factors)

    def _warn_of_missing(self, where: str, asked: int, end: str) -> None:
        for (place, text), count in self._made_missing.items():
            if count and place == where:
                warn(
                    f"{text} is missing (NaNs produced) in {count} of {asked} rows where nothing "
                    f"that it is made of is missing; {end}",
                    DataWarning,
                )

    def number(self, key: tuple[str, str], factor: Factor) -> np.ndarray:
        """Take in some rows of a factor, and return the numbers (n,) of their levels."""
        return self._unions.setdefault(key, LevelUnion(key[1])).add(factor)

    def cross(self, texts: tuple[str, ...], numbers: list[np.ndarray]) -> None:
        """Take in combinations of levels, by the numbers (n,) of each factor."""
        self._crossed.setdefault(texts, Crossing(len(texts))).add(numbers)

    def _summarize(self, text: str, values: np.ndarray) -> None:
        own, before = summary_of(values), self.summaries.get(text)
        self.summaries[text] = own if before is None else before.with_more(own)

    def _count(
        self, batch: Batch, absent: Mapping[str, np.ndarray], rows: np.ndarray, weightless: int
    ) -> None:
        wanted = slice(batch.n) if batch.chosen is None else batch.chosen
        counted = batch.n if batch.chosen is None else len(batch.chosen)
        by_variable = {name: int(m[wanted].sum()) for name, m in absent.items()}
        missing = counted - len(rows) - weightless
        self.left_out += LeftOut(batch.n, batch.n - counted, missing, by_variable, weightless)
        of_all = ("subset", batch.chooser, slice(batch.n)), ("variable", batch.found.scope, wanted)
        for where, scope, asked in of_all:
            for text, made in scope.made_missing.items():
                before = self._made_missing.get((where, text), 0)
                self._made_missing[where, text] = before + int(made[asked].sum())
        weights = batch.found.weights
        if weights is not None and len(rows):
            used = weights[rows]
            self.negative += int((used < 0).sum())
            self.infinite += int(np.isinf(used).sum())
            self.lowest = min(self.lowest, float(used.min()))


def _distinct_rows(places: list[np.ndarray]) -> np.ndarray:
    """Return the distinct combinations (m, factors); several numbers may be one level."""
    return np.unique(np.column_stack(places), axis=0)


def complete_rows(
    found: Evaluated, considered: np.ndarray | None
) -> tuple[dict[str, np.ndarray], np.ndarray, int]:
    """Return where variables are missing, the positions of complete rows, and zero weights.

    Rows of weight zero are not among them.
    """
    wanted = np.zeros(found.scope.n, dtype=bool)
    wanted[slice(None) if considered is None else considered] = True
    absent = absent_values(found.judged)
    for missing in absent.values():
        wanted &= ~missing
    if found.weights is None:
        return absent, np.flatnonzero(wanted), 0
    zero = wanted & (found.weights == 0)
    return absent, np.flatnonzero(wanted & ~zero), int(zero.sum())
