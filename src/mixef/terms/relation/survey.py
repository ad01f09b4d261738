"""What is known of all rows of a table, once they were read in batches."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

import numpy as np

from mixef.errors import DataError, DataWarning, warn
from mixef.terms.factor import Factor, factor_from_logical
from mixef.terms.frame import Evaluated
from mixef.terms.needed import group_factors
from mixef.terms.relation.levels import Crossing, LevelUnion, crossed
from mixef.terms.rows import (
    NOTHING_LEFT_OUT,
    LeftOut,
    absent_values,
    infinite_values,
    nothing_left,
)
from mixef.terms.values import Matrix


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
    factors: dict[tuple[str, str], Factor] = field(default_factory=dict)
    negative: int = 0  # weights below zero
    _levels: dict[tuple[str, str], LevelUnion] = field(default_factory=dict)
    _crossings: dict[tuple[str, ...], Crossing] = field(default_factory=dict)
    _made_missing: dict[str, list[int]] = field(default_factory=dict)

    def add(self, found: Evaluated, considered: np.ndarray | None) -> None:
        """Take in a batch, of which `subset` chose the rows ``considered``."""
        self.sample = found
        absent, rows, weightless = complete_rows(found, considered)
        self._count(found, considered, absent, rows, weightless)
        if not len(rows):
            return
        self.n += len(rows)
        for text, value in found.variables.items():
            if isinstance(value, np.ndarray) and value.dtype.kind == "b":
                value = factor_from_logical(value)
            if isinstance(value, Factor):
                self._number(("variable", text), value.take(rows))
                continue
            array = value.array if isinstance(value, Matrix) else value[:, None]
            self._summarize(text, array[rows])
        for number, offset in enumerate(found.offsets):
            self._summarize(f"offset {number + 1}", offset[rows][:, None])
        if found.weights is not None:
            self._summarize("weights", found.weights[rows][:, None])
        numbers = {
            text: self._number(("group", text), factor.take(rows))
            for text, factor in found.groups.items()
        }
        for bar in found.formula.bars:
            texts = tuple(node.text for node in group_factors(bar.group))
            if len(texts) > 1:
                own = self._crossings.setdefault(texts, Crossing(np.empty((0, len(texts)), int)))
                own.add([numbers[text] for text in texts])

    def finish(self, na_action: str) -> None:
        """Order the levels; refuse what no model can be fitted to, and warn of rows left out."""
        by_variable = self.left_out.by_variable
        if na_action == "fail" and by_variable:
            listed = ", ".join(f"{name} ({count} rows)" for name, count in by_variable.items())
            raise DataError(f"missing values, and na_action is 'fail': {listed}")
        if self.negative:
            low = self.summaries["weights"].low[0]
            raise DataError(
                f"weights must not be negative, but {self.negative} are (the smallest is {low:g})"
            )
        if self.n == 0 and self.left_out.weightless:
            raise DataError("all weights are zero; nothing is left to fit")
        if self.n == 0:
            wanted = self.left_out.n - self.left_out.by_subset
            empty = [name for name, count in by_variable.items() if count == wanted]
            raise DataError(nothing_left(self.left_out.n, wanted, empty))
        assert self.sample is not None
        for text, summary in self.summaries.items():
            if text == "weights" and summary.infinite:
                raise DataError("weights must be finite, but some are infinite")
            if summary.infinite:
                raise infinite_values(text, summary.infinite, self.n, self.sample.formula.response)
        if self.left_out.weightless:
            warn(
                f"{self.left_out.weightless} of {self.n + self.left_out.weightless} rows have "
                "weight zero and are dropped: they would tell the model nothing",
                DataWarning,
            )
        for text, (count, asked) in self._made_missing.items():
            if count:
                warn(
                    f"{text} is missing (NaNs produced) in {count} of {asked} rows where nothing "
                    "that it is made of is missing; these rows are left out",
                    DataWarning,
                )
        self._ranks = {}
        for key, levels in self._levels.items():
            self.factors[key], self._ranks[key] = levels.ordered()

    def crossings(self) -> dict[tuple[str, ...], Factor]:
        """Return the factors that cross grouping variables, without rows."""
        return {
            texts: crossed(
                np.column_stack(
                    [self._ranks["group", t][own.found[:, j]] for j, t in enumerate(texts)]
                ),
                [self.factors["group", t] for t in texts],
            )
            for texts, own in self._crossings.items()
        }

    def _number(self, key: tuple[str, str], factor: Factor) -> np.ndarray:
        return self._levels.setdefault(key, LevelUnion(key[1])).add(factor)

    def _summarize(self, text: str, values: np.ndarray) -> None:
        own, before = summary_of(values), self.summaries.get(text)
        self.summaries[text] = own if before is None else before.with_more(own)

    def _count(
        self,
        found: Evaluated,
        considered: np.ndarray | None,
        absent: Mapping[str, np.ndarray],
        rows: np.ndarray,
        weightless: int,
    ) -> None:
        n, wanted = found.scope.n, slice(None) if considered is None else considered
        counted = n if considered is None else len(considered)
        by_variable = {name: int(m[wanted].sum()) for name, m in absent.items()}
        missing = counted - len(rows) - weightless
        self.left_out += LeftOut(n, n - counted, missing, by_variable, weightless)
        for text, made in found.scope.made_missing.items():
            own = self._made_missing.setdefault(text, [0, 0])
            own[0] += int(made[wanted].sum())
        for own in self._made_missing.values():
            own[1] += counted
        if found.weights is not None:
            self.negative += int((found.weights[rows] < 0).sum())


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
