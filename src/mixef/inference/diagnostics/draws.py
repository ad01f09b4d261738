"""Responses beside draws of them from the model: residuals by rank, and p values by rank.

A residual is where a response stands among its m draws (P. K. Dunn and G. K. Smyth, 1996,
Journal of Computational and Graphical Statistics 5, 236-244): with ``a`` draws below it and ``t``
that are equal, ``(a + U t) / m`` for U uniform on (0, 1).

The responses of all rows and their m draws are m + 1 data sets, which under the model come in any
order with the same probability. So the rank of any statistic of the responses, among those of the
data sets, gives an exact p value, whatever random effects the rows have in common (J. Besag and
P. Clifford, 1989, Biometrika 76, 633-642); for a statistic of residuals, those of a draw are its
ranks among the responses and the other draws.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import cached_property

import numpy as np

from mixef import checks

# Numbers that are worked on at a time.
CELLS = 2_000_000
# Statistics that differ by less than this share are equal: sums of the same numbers.
ROUNDING = 1e-12
ALTERNATIVES = ("two-sided", "greater", "less")
SPELLINGS = {"two.sided": "two-sided", "both": "two-sided"}
REFERENCES = ("auto", "simulation", "theory")


@dataclass(frozen=True, eq=False)
class Draws:
    """Responses, and what the model draws in their place."""

    observed: np.ndarray  # (n,): counts for a family of counts or of trials
    simulated: np.ndarray  # (n, m): draws; NaN where the model has none
    fitted: np.ndarray  # (n,): means given what was not drawn, as counts too
    uniform: np.ndarray  # (n,): numbers that place a response among equal draws
    independent: bool  # whether the rows are drawn independently of each other
    seed: int  # of the numbers that place draws among equal ones

    def __post_init__(self) -> None:
        self.simulated.flags.writeable = False  # users get it, and no copy

    def __repr__(self) -> str:
        return f"<Draws: {len(self.observed)} rows, {self.m} draws each>"

    @property
    def m(self) -> int:
        """Number of draws."""
        return self.simulated.shape[1]

    @cached_property
    def scaled(self) -> np.ndarray:
        """Residuals (n,) between 0 and 1; NaN where the model has no draws."""
        out = np.empty(len(self.observed))
        for rows in self.pieces():
            y, drawn = self.observed[rows, None], self.simulated[rows]
            below, equal = (drawn < y).sum(axis=1), (drawn == y).sum(axis=1)
            known = drawn.shape[1] - np.isnan(drawn).sum(axis=1)
            with np.errstate(invalid="ignore"):
                out[rows] = (below + self.uniform[rows] * equal) / known
        return out

    @cached_property
    def complete(self) -> np.ndarray:
        """Positions of rows with all of their draws, which tests are of."""
        rows = [np.flatnonzero(~np.isnan(self.simulated[p]).any(axis=1)) + p.start
                for p in self.pieces()]  # fmt: skip
        return np.concatenate(rows) if rows else np.zeros(0, dtype=np.intp)

    @cached_property
    def all_scaled(self) -> np.ndarray:
        """Residuals (n', m + 1) of complete rows: the responses', then those of each draw."""
        rng, m = np.random.default_rng(self.seed), self.m
        out = np.empty((len(self.complete), m + 1))
        for part, values in self.data_sets():
            order = np.argsort(values, axis=1, kind="stable")
            ordered = np.take_along_axis(values, order, axis=1)
            new = np.ones(values.shape, dtype=bool)
            new[:, 1:] = ordered[:, 1:] != ordered[:, :-1]
            place = np.broadcast_to(np.arange(m + 1.0), values.shape)
            if not new.all():
                uniform = rng.random(values.shape)
                uniform[:, 0] = self.uniform[self.complete[part]]
                last = np.ones(values.shape, dtype=bool)
                last[:, :-1] = new[:, 1:]
                below = np.maximum.accumulate(np.where(new, place, 0.0), axis=1)
                ends = np.where(last, place, m)[:, ::-1]
                equal = np.minimum.accumulate(ends, axis=1)[:, ::-1] - below
                place = below + np.take_along_axis(uniform, order, axis=1) * equal
            np.put_along_axis(out[part], order, place / m, axis=1)
        return out

    def data_sets(self) -> Iterator[tuple[slice, np.ndarray]]:
        """Yield pieces (rows, m + 1) of the responses and their draws, for complete rows."""
        size = max(CELLS // (self.m + 1), 1)
        for start in range(0, len(self.complete), size):
            part = slice(start, min(start + size, len(self.complete)))
            rows = self.complete[part]
            yield part, np.column_stack([self.observed[rows], self.simulated[rows]])

    def pieces(self) -> Iterator[slice]:
        """Yield the rows in pieces."""
        size = max(CELLS // (self.m + 1), 1)
        for start in range(0, len(self.observed), size):
            yield slice(start, min(start + size, len(self.observed)))

    def residuals(self, reference: str) -> np.ndarray:
        """Return residuals of complete rows, a column for each data set that a reference needs."""
        if reference == "simulation":
            return self.all_scaled
        return self.scaled[self.complete, None]

    def reference(self, choice: str, by_theory: bool = True) -> str:
        """Return what p values are by: "simulation" or "theory".

        Parameters
        ----------
        choice : {"auto", "simulation", "theory"}
        by_theory : bool
            Whether the distribution that theory has holds for independent rows.
        """
        choice = checks.option(choice, "reference", REFERENCES)
        if choice != "auto":
            return str(choice)
        fine = 4 * len(self.observed) <= self.m**2  # else the steps 1 / m of residuals count
        return "theory" if self.independent and by_theory and fine else "simulation"


def rank_p_value(statistics: np.ndarray, alternative: str = "greater") -> float:
    """Return the p value of the first of statistics (m + 1,) by its rank among all of them."""
    own, others = statistics[0], statistics[1:]
    near = ROUNDING * abs(own)
    above = (1.0 + np.count_nonzero(others >= own - near)) / len(statistics)
    below = (1.0 + np.count_nonzero(others <= own + near)) / len(statistics)
    ends = {"greater": above, "less": below, "two-sided": 2.0 * min(above, below)}
    return float(min(ends[alternative], 1.0))


def by_column(
    values: np.ndarray, statistic: Callable[[np.ndarray], np.ndarray], work: int = 1
) -> np.ndarray:
    """Return a statistic (..., k) of the columns of (n, k), some columns at a time.

    ``work`` is how many numbers the statistic holds for each of the values.
    """
    size = max(CELLS // max(len(values) * work, 1), 1)
    parts = [statistic(values[:, j : j + size]) for j in range(0, values.shape[1], size)]
    return np.concatenate(parts, axis=-1)
