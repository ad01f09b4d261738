"""Bootstrap replicates: their standard errors, confidence limits, and how they print.

A. C. Davison and D. V. Hinkley (1997), Bootstrap Methods and their Application, Cambridge,
sections 5.2 and 5.3.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd
import scipy

from mixef import checks
from mixef.inference.tails import limit_names
from mixef.late import picture
from mixef.text.numbers import format_common, round_all
from mixef.text.printed import PrintedTable
from mixef.text.tables import Table

LIMITS = ("perc", "basic", "norm")
# Messages of failures that are shown; the others are counted.
SHOWN = 3


@dataclass(frozen=True, eq=False, repr=False)
class Bootstrap(PrintedTable):
    """Statistics of a fit, and of its bootstrap replicates.

    Attributes
    ----------
    type : str
        How the replicates were drawn.
    t0 : Series (k,)
        Statistics of the fit.
    replicates : DataFrame (n, k)
        Rows of replicates that failed are NaN.
    failures : Series
        How many replicates failed, by message.
    n_singular : int
        Replicates with a singular fit.
    n_unconverged : int
        Replicates whose search did not end at an optimum.
    """

    type: str
    t0: pd.Series
    replicates: pd.DataFrame
    failures: pd.Series
    n_singular: int
    n_unconverged: int

    @property
    def n(self) -> int:
        """Replicates drawn."""
        return len(self.replicates)

    @property
    def n_failed(self) -> int:
        """Replicates that failed."""
        return int(self.failures.sum())

    @property
    def se(self) -> pd.Series:
        """Standard errors: standard deviations of the replicates (k,)."""
        return self.replicates.std().rename("std_error")

    @property
    def bias(self) -> pd.Series:
        """Means of the replicates less the statistics of the fit (k,)."""
        return (self.replicates.mean() - self.t0).rename("bias")

    def summary(self) -> pd.DataFrame:
        """Return one row a statistic: estimate, bias, std_error, and the replicates that count.

        A statistic that a replicate does not have, such as a correlation beside a variance of
        zero, counts as missing there.
        """
        columns = {
            "estimate": self.t0,
            "bias": self.bias,
            "std_error": self.se,
            "n": self.replicates.notna().sum(),
        }
        return pd.DataFrame(columns, index=self.t0.index)

    def to_frame(self) -> pd.DataFrame:
        """Return a copy of the replicates (n, k)."""
        return self.replicates.copy()

    def confint(self, level: float = 0.95, type: str = "perc") -> pd.DataFrame:
        """Return confidence limits, one row a statistic.

        Parameters
        ----------
        level : float
        type : {"perc", "basic", "norm"}
            Quantiles of the replicates; those reflected at the estimate; or the normal
            approximation with the bias taken off.
        """
        return bootstrap_limits(self.t0, self.replicates, level, type)

    def plot(
        self,
        which: str | Sequence[str] | None = None,
        level: float = 0.95,
        type: str = "perc",
        ax: Any = None,
    ) -> Any:
        """Draw a histogram of the replicates of each statistic, with estimate and limits.

        Parameters
        ----------
        which : str or list of str, optional
            1 to 16 statistics by name; all by default.
        level, type
            Of the limits (dashed), as in `confint`.
        ax : matplotlib.axes.Axes, optional
            Where to draw one statistic; by default a new figure.

        Returns
        -------
        matplotlib.figure.Figure
            With a panel a statistic; the Axes for ``ax``.

        Examples
        --------
        >>> from mixef import lmer, load_dataset
        >>> fit = lmer("Yield ~ 1 + (1 | Batch)", load_dataset("Dyestuff"))
        >>> figure = fit.bootstrap(20, seed=1).plot("sigma")
        >>> figure.axes[0].get_xlabel()
        'sigma'
        """
        return picture("resampling.bootstrap")(self, which, level, type, ax)

    def to_table(self, digits: int = 4) -> Table:
        """Return the summary as a table."""
        digits = checks.digits(digits)
        summary = self.summary()
        columns = ["estimate", "bias", "std_error"]
        rows = _cells(summary[columns].to_numpy(), digits)
        return Table(
            ("statistic", "bias", "std. error"),
            rows,
            index=[str(name) for name in summary.index],
            title=f"{self.type.capitalize()} bootstrap of {self.n} replicates",
            note=counts_note(self.n, self.n_singular, self.n_unconverged, self.failures) or None,
        )


def counts_note(n: int, n_singular: int, n_unconverged: int, failures: pd.Series) -> str:
    """Say how many replicates were singular, did not converge or failed, and why."""
    lines = []
    if n_singular:
        lines.append(f"{n_singular} of {n} replicates are singular fits")
    if n_unconverged:
        lines.append(f"{n_unconverged} of {n} replicates did not end at an optimum")
    if len(failures):
        lines.append(f"{int(failures.sum())} of {n} replicates failed and are left out:")
        lines += [f"  {count} by {message}" for message, count in failures.iloc[:SHOWN].items()]
        rest = failures.iloc[SHOWN:]
        if len(rest):
            lines.append(f"  {int(rest.sum())} by {len(rest)} other messages")
    return "\n".join(lines)


def _cells(values: np.ndarray, digits: int) -> Sequence[Sequence[str]]:
    """Return cells row by row; each row has the decimals that its standard error needs."""
    rows = []
    for row in values:
        spread = abs(row[-1])
        if np.isfinite(spread) and spread > 0:
            decimals = max(0, digits - 1 - int(np.floor(np.log10(spread))))
            row = np.array(round_all(row, decimals))
        rows.append([cell.strip() for cell in format_common(row, 7)])
    return rows


def bootstrap_limits(
    t0: pd.Series, replicates: pd.DataFrame, level: float = 0.95, type: str = "perc"
) -> pd.DataFrame:
    """Return confidence limits (k, 2), one row a statistic; missing replicates are left out.

    "perc" has quantiles of the replicates (equation 5.18), "basic" those reflected at the estimate
    (5.6), and "norm" the normal approximation with the bias taken off (5.5).
    """
    level, type = checks.level(level), checks.option(type, "type", LIMITS)
    tails = 0.5 * np.array([1.0 - level, 1.0 + level])
    rows = [
        _limits(float(estimate), column, tails, type)
        for estimate, column in zip(t0, replicates.to_numpy(dtype=float).T, strict=True)
    ]
    return pd.DataFrame(rows, index=t0.index, columns=limit_names(level))


def _limits(estimate: float, column: np.ndarray, tails: np.ndarray, type: str) -> np.ndarray:
    values = np.sort(column[~np.isnan(column)])
    if len(values) < 2 or (np.isnan(estimate) and type != "perc"):
        return np.full(2, np.nan)
    if type == "norm":
        half = scipy.special.ndtri(tails[1]) * values.std(ddof=1)
        return 2.0 * estimate - values.mean() + np.array([-half, half])
    quantiles = np.array([quantile(values, tail) for tail in tails])
    return quantiles if type == "perc" else 2.0 * estimate - quantiles[::-1]


def quantile(values: np.ndarray, probability: float) -> float:
    """Return the quantile of sorted values (n,) at ``(n + 1) probability``.

    Between two of them it is interpolated on the scale of normal quantiles (equation 5.8); beyond
    the first or the last it is that value.
    """
    n = len(values)
    rank = (n + 1) * probability
    # A rank that misses a whole number by rounding is that number.
    k = round(rank) if abs(rank - round(rank)) < 1e-9 * n else int(rank)
    if k < 1:
        return float(values[0])
    if k >= n:
        return float(values[-1])
    if k == rank or abs(rank - k) < 1e-9 * n:
        return float(values[k - 1])
    low, at, high = scipy.special.ndtri([k / (n + 1), probability, (k + 1) / (n + 1)])
    return float(values[k - 1] + (at - low) / (high - low) * (values[k] - values[k - 1]))
