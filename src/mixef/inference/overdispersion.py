"""Overdispersion: whether the response varies more than its family allows."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import scipy

from mixef.errors import DataError
from mixef.estimation.fit import Fit
from mixef.inference.information import df_residual
from mixef.inference.measures.variances import copies_of
from mixef.inference.over_rows import row_total
from mixef.inference.residuals import pearson_chisq
from mixef.text.numbers import format_number, format_pvalue
from mixef.text.printed import PrintedTable
from mixef.text.tables import Table

ALPHA = 0.05


@dataclass(frozen=True, repr=False)
class Overdispersion(PrintedTable):
    """Pearson's chi-square of the rows, beside its residual degrees of freedom.

    Attributes
    ----------
    chisq : float
        Sum of the squared Pearson residuals, conditional on the random effects.
    df : int
        Residual degrees of freedom: rows, each as often as it has copies, less parameters.
    ratio : float
        ``chisq / df``, about 1 for a family that fits.
    p_value : float
        Probability of a larger chi-square.
    """

    chisq: float
    df: float
    ratio: float
    p_value: float

    @property
    def found(self) -> bool:
        """Whether there is more variance than the family has, at the level of 5 percent."""
        return self.ratio > 1.0 and self.p_value < ALPHA

    def to_table(self) -> Table:
        """Return the numbers as a table of one row."""
        cells = (format_number(self.chisq, 4), f"{self.df:.10g}", format_number(self.ratio, 3),
                 format_pvalue([self.p_value])[0])  # fmt: skip
        return Table(("Pearson chi-square", "df.resid", "ratio", "p-value"), [cells])

    def __str__(self) -> str:
        p = f"p = {self.p_value:.3g}" if self.p_value >= 1e-15 else "p < 1e-15"
        ratio = f"{self.chisq:.4g} / {self.df:.10g} = {self.ratio:.3g}"
        return f"Pearson chi-square / df.resid: {ratio} ({p})"


def overdispersion(fit: Fit) -> Overdispersion:
    """Return Pearson's chi-square over its degrees of freedom, with a p value."""
    family = fit.family
    if family.auxiliary and not family.is_count and not family.has_trials:
        name, value = next(iter(family.named(fit.extra).items()))
        raise DataError(
            f"the {family.name} family has a {name}, which is estimated ({value:.4g}); "
            "overdispersion is a question for counts and proportions"
        )
    if not can_be_overdispersed(fit):
        raise DataError(
            "a binomial response of single trials (0 and 1) cannot be overdispersed; "
            "overdispersion needs several trials a row, or counts"
        )
    chisq = pearson_chisq(fit)
    df = df_residual(fit) if copies_of(fit) is None else row_total(fit, _copies) - fit.npar
    if df <= 0:
        return Overdispersion(chisq, df, np.nan, np.nan)
    return Overdispersion(chisq, df, chisq / df, float(scipy.special.chdtrc(df, chisq)))


def can_be_overdispersed(fit: Fit) -> bool:
    """Return whether rows can vary more than the family has it."""
    if not fit.family.has_trials:
        return True
    return row_total(fit, _with_trials) > 0


def _with_trials(rows: Fit) -> float:
    """Return how many of the rows have several trials."""
    trials = rows.outcome.trials
    return 0.0 if trials is None else float((trials > 1).sum())


def _copies(rows: Fit) -> float:
    copies = copies_of(rows)
    assert copies is not None
    return float(copies.sum())


def overdispersion_message(fit: Fit) -> str | None:
    """Return a line on overdispersion, with the remedy; None where there is nothing to say."""
    if fit.family.more_dispersed is None or not can_be_overdispersed(fit):
        return None
    result = overdispersion(fit)
    message = f"Overdispersion: {result}"
    if not result.found:
        return message
    return (
        f"{message}: more variance than the {fit.family.name} family has; add a random effect "
        f"for each observation, (1 | row) with one level of row a row{fit.family.more_dispersed}"
    )
