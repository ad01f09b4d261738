"""Tests of simulated residuals as a whole: uniformity, dispersion, outliers, zeros.

The statistics are those of DHARMa (F. Hartig, DHARMa: residual diagnostics for hierarchical
regression models, R package, its manual). Its p values take rows as independent, which those with
random effects in common are not; here they are by rank among the draws wherever rows are dependent.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import pandas as pd
import scipy

from mixef import checks
from mixef.errors import ArgumentError, DataError
from mixef.estimation.fit import Fit
from mixef.inference.diagnostics.draws import (
    ALTERNATIVES,
    CELLS,
    SPELLINGS,
    Draws,
    by_column,
    rank_p_value,
)
from mixef.inference.overdispersion import overdispersion
from mixef.text.numbers import format_common, format_number, format_pvalue
from mixef.text.printed import PrintedFrame, is_number
from mixef.text.tables import Table

P_VALUES = ("p_value", "p_adjusted")
MARGINS = ("both", "upper", "lower")


@dataclass(frozen=True, eq=False, repr=False)
class ResidualTest(PrintedFrame):
    """A test of simulated residuals.

    Attributes
    ----------
    title : str
    statistic : float
    p_value : float
    reference : {"simulation", "theory"}
        What the p value is by: the rank of the statistic among those of the draws, or a
        distribution that is known for independent rows.
    frame : DataFrame
        Statistic and p value, of the parts too where there are several.
    note : str
        How to read it.
    """

    title: str
    statistic: float
    p_value: float
    reference: str
    frame: pd.DataFrame
    note: str = ""

    def to_table(self) -> Table:
        """Return the numbers as a table."""
        return table_of(self.frame, self.title, self.note or None)


def table_of(frame: pd.DataFrame, title: str | None = None, note: str | None = None) -> Table:
    """Lay out a frame of statistics and p values, each number with digits of its own."""
    columns = []
    for name in frame.columns:
        column = frame[name]
        if name in P_VALUES:
            columns.append(format_pvalue(column))
        elif column.dtype.kind in "iu":
            columns.append(format_common(column))
        elif is_number(column):
            columns.append(["" if np.isnan(x) else format_number(x, 4) for x in column])
        else:
            columns.append([str(x) for x in column])
    align = "".join("r" if is_number(frame[name]) else "l" for name in frame.columns)
    index = [str(label) for label in frame.index]
    return Table(list(frame.columns), list(zip(*columns, strict=True)), index, align, title, note)


def one_row(name: str, **values: float) -> pd.DataFrame:
    """Return a frame with one row, that of a test."""
    return pd.DataFrame({key: [value] for key, value in values.items()}, pd.Index([name]))


def how(draws: Draws, reference: str, theory: str) -> str:
    """Say what a p value is by."""
    if reference == "theory":
        return f"p value by {theory}, for independent rows"
    return f"p value by the rank among {draws.m} simulations"


def refuse_no_rows(draws: Draws, least: int = 1) -> None:
    """Refuse a test of fewer rows than it takes."""
    if len(draws.complete) < least:
        lost = len(draws.observed) - len(draws.complete)
        why = "" if not lost else (
            f"; {lost} lack some, whose random effects lead to means that the family and the link "
            "cannot have: take a link such as 'log', or hold the random effects, re_form=None"
        )  # fmt: skip
        raise DataError(
            f"{len(draws.complete)} of {len(draws.observed)} rows have all of their simulations, "
            f"and the test takes {least} or more{why}"
        )


def kolmogorov(u: np.ndarray) -> np.ndarray:
    """Return the largest distance (k,) of the distributions of columns (n, k) from uniform."""
    u = np.sort(u, axis=0)
    n = len(u)
    step = np.arange(1, n + 1)[:, None] / n
    return np.maximum((step - u).max(axis=0), (u - step + 1.0 / n).max(axis=0))


def uniformity(draws: Draws, reference: str) -> ResidualTest:
    """Test whether residuals are uniform, by Kolmogorov and Smirnov."""
    reference = draws.reference(reference)
    refuse_no_rows(draws)
    D = by_column(draws.residuals(reference), kolmogorov, 4)
    p = rank_p_value(D)
    if reference == "theory":
        p = float(scipy.stats.kstwo.sf(D[0], len(draws.complete)))
    return ResidualTest(
        "Uniformity of the residuals (Kolmogorov-Smirnov)", float(D[0]), p, reference,
        one_row("uniformity", statistic=D[0], p_value=p),
        how(draws, reference, "Kolmogorov's distribution"),
    )  # fmt: skip


def dispersion(draws: Draws, alternative: str) -> ResidualTest:
    """Test the variance of the responses around their means against that of the draws."""
    alternative = checks.option(alternative, "alternative", ALTERNATIVES, SPELLINGS)
    refuse_no_rows(draws, 2)
    rows, fitted = draws.complete, draws.fitted[draws.complete, None]
    own = np.var(draws.observed[rows] - fitted[:, 0], ddof=1)
    drawn = by_column(
        draws.simulated, lambda values: np.var(values[rows] - fitted, axis=0, ddof=1), 3
    )
    expected = float(drawn.mean())
    ratio = float(own / expected) if expected > 0.0 else np.nan
    p = rank_p_value(np.append(own, drawn), alternative)
    frame = one_row("dispersion", statistic=ratio, observed=own, expected=expected, p_value=p)
    return ResidualTest(
        f"Dispersion: variance beside that of simulations ({alternative})", ratio, p,
        "simulation", frame, how(draws, "simulation", ""),
    )  # fmt: skip


def outliers(draws: Draws, alternative: str, margin: str, reference: str) -> ResidualTest:
    """Test how many responses are outside of all of their draws.

    The number of such rows in a draw, among the responses and the other draws, has the same
    distribution under the model; a binomial one it has for independent rows without ties.
    """
    alternative = checks.option(alternative, "alternative", ALTERNATIVES, SPELLINGS)
    margin = checks.option(margin, "margin", MARGINS)
    refuse_no_rows(draws)
    counts, ties = np.zeros(draws.m + 1), False
    for _, values in draws.data_sets():
        for side, ends in (("lower", values.min(axis=1)), ("upper", values.max(axis=1))):
            at_end = values == ends[:, None]
            sole = at_end.sum(axis=1) == 1
            ties |= not sole.all()
            if margin in ("both", side):
                counts += np.bincount(np.argmax(at_end[sole], axis=1), minlength=draws.m + 1)
    reference = draws.reference(reference, by_theory=not ties)
    n, own = len(draws.complete), int(counts[0])
    share = (2.0 if margin == "both" else 1.0) / (draws.m + 1)
    if reference == "theory":
        expected = n * share
        p = float(scipy.stats.binomtest(own, n, share, alternative).pvalue)
    else:
        expected, p = float(counts[1:].mean()), rank_p_value(counts, alternative)
    frame = one_row("outliers", statistic=own, expected=expected, share=own / n, p_value=p)
    return ResidualTest(
        f"Outliers: rows outside of all simulations ({alternative}, {margin} margin"
        f"{'s' if margin == 'both' else ''})", float(own), p, reference, frame,
        how(draws, reference, "the binomial distribution"),
    )  # fmt: skip


def zero_inflation(draws: Draws, alternative: str) -> ResidualTest:
    """Test the number of zeros against that of the draws."""
    alternative = checks.option(alternative, "alternative", ALTERNATIVES, SPELLINGS)
    refuse_no_rows(draws)
    rows = draws.complete
    own = int((draws.observed[rows] == 0).sum())
    size = max(CELLS // draws.m, 1)
    zeros = np.zeros(draws.m)
    for start in range(0, len(rows), size):
        zeros += (draws.simulated[rows[start : start + size]] == 0).sum(axis=0)
    expected = float(zeros.mean())
    ratio = own / expected if expected > 0.0 else (np.inf if own else np.nan)
    p = rank_p_value(np.append(float(own), zeros), alternative)
    frame = one_row("zeros", statistic=ratio, observed=own, expected=expected, p_value=p)
    return ResidualTest(
        f"Zeros beside those of simulations ({alternative})", float(ratio), p, "simulation",
        frame, how(draws, "simulation", ""),
    )  # fmt: skip


def pearson(fit: Fit | None, alternative: str) -> ResidualTest:
    """Test Pearson's chi-square over its degrees of freedom."""
    alternative = checks.option(alternative, "alternative", ALTERNATIVES, SPELLINGS)
    if fit is None:
        raise ArgumentError("Pearson's residuals are of rows, and these are of groups of rows")
    found = overdispersion(fit)
    if found.df <= 0:
        raise DataError(f"the model has {found.df} residual degrees of freedom; expected some")
    above = found.p_value
    p = {"greater": above, "less": 1.0 - above, "two-sided": 2.0 * min(above, 1.0 - above)}
    p_value = float(p[alternative])
    frame = pd.DataFrame(
        {"statistic": [found.ratio], "chisq": found.chisq, "df": found.df, "p_value": p_value},
        index=pd.Index(["Pearson"]),
    )
    return ResidualTest(
        f"Dispersion: Pearson chi-square over its degrees of freedom ({alternative})",
        found.ratio, p_value, "theory", frame,
        "p value by chi-square, given the conditional modes",
    )  # fmt: skip
