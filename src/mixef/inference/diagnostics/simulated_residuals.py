"""Residuals by simulation: where each response stands among draws from the model."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import pandas as pd

from mixef import checks
from mixef.estimation.fit import Fit
from mixef.inference.diagnostics.by_row import Rows
from mixef.inference.diagnostics.draws import Draws
from mixef.inference.diagnostics.draws_of_fit import draws_of_fit
from mixef.inference.diagnostics.with_tests import WithTests
from mixef.inference.prediction.prediction_rows import included_columns
from mixef.late import picture
from mixef.text.numbers import format_common
from mixef.text.printed import PrintedTable
from mixef.text.tables import Table

QUANTILES = ("Min", "1Q", "Median", "3Q", "Max")


@dataclass(frozen=True, eq=False, repr=False)
class SimulatedResiduals(WithTests, PrintedTable):
    """Where responses stand among draws from the model, made by ``simulated_residuals``.

    Attributes
    ----------
    draws : Draws
        Responses, draws, and what is computed of them.
    rows : Rows
        What the residuals are of.
    held : str
        Which random effects stayed at their modes.

    Examples
    --------
    >>> from mixef import lmer, load_dataset
    >>> fit = lmer("Reaction ~ Days + (Days | Subject)", load_dataset("sleepstudy"))
    >>> residuals = fit.simulated_residuals(seed=1)
    >>> residuals.scaled.head(2).tolist(), residuals.simulated.shape
    ([0.496, 0.548], (180, 250))
    """

    draws: Draws
    rows: Rows
    held: str

    @property
    def scaled(self) -> pd.Series:
        """The residuals, from 0 to 1 and uniform under the model, one a row of the data."""
        return self._by_row(self.draws.scaled, "scaled")

    @property
    def simulated(self) -> np.ndarray:
        """The draws (rows, n): counts, of successes too, for families of counts."""
        return self.draws.simulated

    @property
    def observed(self) -> pd.Series:
        """The responses as `simulated` has them."""
        return self._by_row(self.draws.observed, "observed")

    @property
    def fitted(self) -> pd.Series:
        """The means that the draws are around, given the random effects that are held."""
        return self._by_row(self.draws.fitted, "fitted")

    @property
    def n(self) -> int:
        """Draws of each row."""
        return self.draws.m

    def _by_row(self, values: np.ndarray, name: str) -> pd.Series:
        if self.rows.fit is not None:
            return self.rows.fit.frame.series(values, name)
        return pd.Series(values.copy(), self.rows.index, name=name)

    def to_frame(self) -> pd.DataFrame:
        """Return one row a residual: observed, fitted, scaled, outlier.

        ``outlier`` is -1 where the response is below all draws, 1 where it is above.
        """
        below, above = self.outside()
        return pd.DataFrame(
            {
                "observed": self.observed,
                "fitted": self.fitted,
                "scaled": self.scaled,
                "outlier": self._by_row(above.astype(float) - below, "outlier"),
            }
        )

    def outside(self) -> tuple[np.ndarray, np.ndarray]:
        """Return which responses (n,) are below, and which above, all of their draws."""
        below, above = np.zeros((2, len(self.draws.observed)), dtype=bool)
        for rows in self.draws.pieces():
            drawn, y = self.draws.simulated[rows], self.draws.observed[rows, None]
            below[rows], above[rows] = (y < drawn).all(axis=1), (y > drawn).all(axis=1)
        return below, above

    def to_table(self) -> Table:
        """Return quantiles of the residuals, and how many responses are outside of all draws."""
        u = self.draws.scaled
        known = u[~np.isnan(u)]
        cells = ["", *[""] * 4] if not len(known) else format_common(
            np.quantile(known, [0.0, 0.25, 0.5, 0.75, 1.0]), 3
        )  # fmt: skip
        below, above = self.outside()
        return Table(
            QUANTILES,
            [cells],
            title=f"Simulated residuals: {len(u)} rows, {self.n} simulations, {self.held}",
            note=f"{below.sum()} responses are below all simulations, {above.sum()} above\n"
            "Under the model residuals are uniform from 0 to 1: see .tests()",
        )

    def plot(self, predictor: Any = None, level: float = 0.95) -> Any:
        """Draw quantiles of the residuals, and the residuals against what predicts them.

        On the left are quantiles beside those of a uniform variable, with envelopes by the draws:
        the band holds each point by itself, the broken lines all points at once. On the right are
        the residuals by the rank of the fitted means, with their quartiles in bins, which under the
        model are at 1/4, 1/2 and 3/4; crosses are responses outside of all draws. After DHARMa.

        Parameters
        ----------
        predictor : str or array (n,), optional
            A variable by name, or a value a row, for the panel on the right; a factor gives boxes.
        level : float
            Of the envelopes.

        Returns
        -------
        matplotlib.figure.Figure

        Examples
        --------
        >>> from mixef import glmer, load_dataset
        >>> fit = glmer("cbind(incidence, size - incidence) ~ period + (1 | herd)",
        ...             load_dataset("cbpp"), "binomial")
        >>> figure = fit.simulated_residuals(seed=1).plot()
        >>> [ax.get_xlabel() for ax in figure.axes]
        ['Uniform quantile', 'Rank of the fitted mean']
        """
        return picture("simulated.simulated")(self, predictor, level)

    def recalculate(self, group: Any, by: str = "sum") -> SimulatedResiduals:
        """Return residuals of groups of rows: of their sums, or means, among those of the draws.

        Parameters
        ----------
        group : str or array (n,)
            A factor by name, or a label a row.
        by : {"sum", "mean"}

        Examples
        --------
        >>> from mixef import lmer, load_dataset
        >>> fit = lmer("Reaction ~ Days + (Days | Subject)", load_dataset("sleepstudy"))
        >>> fit.simulated_residuals(seed=1).recalculate("Subject").scaled.shape
        (18,)
        """
        by = checks.option(by, "by", ("sum", "mean"))
        factor, draws = self.rows.factor(group, "group"), self.draws
        order = np.argsort(factor.codes, kind="stable")
        first = np.flatnonzero(np.diff(factor.codes[order], prepend=-1))
        size = np.diff(np.append(first, len(order)))

        def together(values: np.ndarray) -> np.ndarray:
            wide = values.dtype if values.dtype.kind == "f" else np.int64
            sums = np.add.reduceat(values[order], first, axis=0, dtype=wide)
            return sums if by == "sum" else (sums.T / size).T

        rng = np.random.default_rng([draws.seed, len(first)])
        grouped = replace(
            draws,
            observed=together(draws.observed),
            simulated=together(draws.simulated),
            fitted=together(draws.fitted),
            uniform=rng.random(len(first)),
        )
        index = factor.level_set.index.rename(group if isinstance(group, str) else "group")
        return replace(self, draws=grouped, rows=Rows(index, None))


def simulated_residuals(
    fit: Fit,
    n: int = 250,
    seed: int | np.random.Generator | None = None,
    re_form: str | bool | None = "~0",
) -> SimulatedResiduals:
    """Return residuals by n draws; see the method ``simulated_residuals`` of a model."""
    n, rng = checks.count(n, each=2 * fit.frame.n), checks.generator(seed)
    included = included_columns(fit, re_form)
    draws = draws_of_fit(fit, n, rng, included)
    held = f"random effects at their modes by {re_form}"
    if draws.independent:
        held = "random effects at their modes"
    elif not included:
        held = "random effects drawn anew"
    return SimulatedResiduals(draws, Rows(fit.frame.index, fit), held)
