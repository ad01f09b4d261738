"""Tables of tests, and that of a fit's terms: F tests, or Wald chi-square tests."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd

from mixef.estimation.fit import Fit
from mixef.inference.hypotheses.ddf import (
    FTest,
    check_ddf,
    f_test,
    has_z_tests,
    method_name,
    tested_fit,
)
from mixef.inference.hypotheses.term_contrasts import check_type, term_hypotheses
from mixef.text.coefficients import starred_table
from mixef.text.numbers import format_common, format_pvalue, round_all, zap_small
from mixef.text.printed import PrintedFrame
from mixef.text.tables import Table

# Significant digits that R prints of an analysis of variance, and decimals of its statistics.
DIGITS, DECIMALS = 5, 4
STATISTICS = frozenset({"F value", "Chisq"})


@dataclass(frozen=True, eq=False, repr=False)
class AnovaTable(PrintedFrame):
    """A table of tests, which prints as R's ``anova``.

    ``table["Pr(>F)"]``, ``table.loc`` and ``table.index`` are those of ``frame``.

    Attributes
    ----------
    frame : DataFrame
        The numbers; NaN where there is no test.
    heading : tuple of str
        Lines above.
    notes : tuple of str
        What a reader of the p values should know; those that are not in the heading are printed
        below.

    Examples
    --------
    >>> frame = pd.DataFrame({"Chisq": [24.94857], "Df": [3], "Pr(>Chisq)": [1.583e-5]}, ["period"])
    >>> print(AnovaTable(frame, ("Analysis of Deviance Table",)))
    Analysis of Deviance Table
            Chisq Df Pr(>Chisq)
    period 24.949  3  1.583e-05 ***
    ---
    Signif. codes:  0 '***' 0.001 '**' 0.01 '*' 0.05 '.' 0.1 ' ' 1
    """

    frame: pd.DataFrame
    heading: tuple[str, ...] = ()
    notes: tuple[str, ...] = ()

    def to_table(self) -> Table:
        """Return the table that is printed, with stars beside p values."""
        frame = self.frame
        cells = [_cells(str(name), frame.iloc[:, j]) for j, name in enumerate(frame.columns)]
        below = [note for note in self.notes if note not in self.heading]
        return starred_table(
            frame, cells, "\n".join(self.heading) or None, "\n".join(below) or None
        )


def _cells(head: str, column: pd.Series) -> list[str]:
    """Format one column as R's ``print.anova`` does; nothing where there is no number."""
    values = column.to_numpy(dtype=float)
    there = np.flatnonzero(~np.isnan(values))
    numbers = values[there].tolist()
    if head.startswith("Pr("):
        shown = format_pvalue(numbers, DECIMALS)
    elif head in STATISTICS:
        shown = format_common(round_all(numbers, DECIMALS), DIGITS)
    else:
        counts = head.endswith("Df")
        shown = format_common(numbers if counts else zap_small(numbers, DIGITS), DIGITS)
    cells = [""] * len(values)
    for i, text in zip(there.tolist(), shown, strict=True):
        cells[i] = text
    return cells


def anova_of_terms(fit: Fit, type: Any = "III", ddf: str | None = "auto") -> AnovaTable:
    """Test every term of the fixed effects; see the method ``anova`` of a model."""
    name, rule = check_type(type), check_ddf(fit, ddf)
    hypotheses = term_hypotheses(fit, name, by_precision=rule is None)
    tests = [f_test(fit, L, ddf=rule) for L in hypotheses.values()]
    method = method_name(fit, rule, joint=True)
    if not has_z_tests(fit, rule):
        title = "Analysis of Variance Table"
        if rule is not None:
            title = f"Type {name} {title} with {method}"
        elif name != "I":
            title = f"Type {name} {title}"
        notes = _untested(list(hypotheses), tests) if fit.beta_covariance is not None else ()
        return AnovaTable(f_table(fit, list(hypotheses), tests, rule), (title,), notes)
    columns = {
        "Chisq": [test.statistic * test.num_df for test in tests],
        "Df": [test.num_df for test in tests],
        "Pr(>Chisq)": [test.p_value for test in tests],
    }
    response = "" if fit.formula.response is None else fit.formula.response.text
    title = f"Analysis of Deviance Table (Type {name} Wald chisquare tests)"
    title += "" if method is None else f" with {method}"
    frame = pd.DataFrame(columns, index=list(hypotheses))
    return AnovaTable(frame, (title, "", f"Response: {response}"))


def _untested(labels: list[str], tests: list[FTest]) -> tuple[str, ...]:
    """Say which terms a chosen covariance has no test of."""
    names = [a for a, t in zip(labels, tests, strict=True) if t.num_df and np.isnan(t.p_value)]
    return (f"Too few clusters for a test of {', '.join(names)}",) if names else ()


def f_table(fit: Fit, labels: list[str], tests: list[FTest], rule: str | None) -> pd.DataFrame:
    """Lay out F tests of a linear model in lmerTest's columns; lme4's for no rule.

    Where a covariance was chosen, F is no ratio of mean squares, and these are left out.
    """
    num_df = np.array([test.num_df for test in tests], dtype=int)
    F = np.array([test.statistic for test in tests], dtype=float)
    mean_square = F * tested_fit(fit, rule).estimates.sigma ** 2
    squares = {"Sum Sq": num_df * mean_square, "Mean Sq": mean_square}
    if rule is None:
        return pd.DataFrame({"npar": num_df, **squares, "F value": F}, index=labels)
    degrees = {
        "NumDF": num_df,
        "DenDF": np.array([test.den_df for test in tests], dtype=float),
        "F value": F,
        "Pr(>F)": np.array([test.p_value for test in tests], dtype=float),
    }
    columns = degrees if fit.beta_covariance is not None else squares | degrees
    return pd.DataFrame(columns, index=labels)
