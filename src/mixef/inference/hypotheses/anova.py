"""Tables of tests: of a fit's terms (F, or Wald chi-square), and of the model without each."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd
import scipy

from mixef import checks
from mixef.errors import ArgumentError, FormulaError
from mixef.estimation.fit import Fit
from mixef.inference.hypotheses.ddf import FTest, check_ddf, f_test, method_name, tested_fit
from mixef.inference.hypotheses.likelihood_ratio import EQUAL
from mixef.inference.hypotheses.term_contrasts import (
    check_type,
    droppable,
    term_after_others,
    term_hypotheses,
)
from mixef.inference.refits.refits import with_formula
from mixef.inference.replicates import in_parallel
from mixef.terms.algebra import TermSet, expand_terms
from mixef.terms.formula import parse_formula, update_formula
from mixef.terms.nodes import Name, unquoted
from mixef.text.coefficients import starred_table
from mixef.text.layout import formula_lines
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
    if fit.is_linear:
        title = "Analysis of Variance Table"
        if rule is not None:
            title = f"Type {name} {title} with {method_name(fit, rule)}"
        elif name != "I":
            title = f"Type {name} {title}"
        return AnovaTable(f_table(fit, list(hypotheses), tests, rule), (title,))
    columns = {
        "Chisq": [test.statistic * test.num_df for test in tests],
        "Df": [test.num_df for test in tests],
        "Pr(>Chisq)": [test.p_value for test in tests],
    }
    response = "" if fit.formula.response is None else fit.formula.response.text
    title = f"Analysis of Deviance Table (Type {name} Wald chisquare tests)"
    frame = pd.DataFrame(columns, index=list(hypotheses))
    return AnovaTable(frame, (title, "", f"Response: {response}"))


def f_table(fit: Fit, labels: list[str], tests: list[FTest], rule: str | None) -> pd.DataFrame:
    """Lay out F tests of a linear model in lmerTest's columns; lme4's for no rule."""
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
    return pd.DataFrame({**squares, **degrees}, index=labels)


NONE = "<none>"
TESTS = ("Chisq", "F", None)
PENALTY = "a number, the penalty a parameter (2 for AIC)"


def single_deletions(
    fit: Fit,
    scope: Any = None,
    test: str | None = "Chisq",
    ddf: str | None = "auto",
    k: float = 2.0,
    n_jobs: int = 1,
    progress: bool | None = None,
) -> AnovaTable:
    """Test the model without each single term; see the method ``drop1`` of a model."""
    test, k = checks.option(test, "test", TESTS), checks.number(k, "k", what=PENALTY)
    n_jobs, progress = checks.work(n_jobs, progress)
    if test == "F" and not fit.is_linear:
        raise ArgumentError("test is 'F', but a generalized model has no F tests; expected 'Chisq'")
    labels = _scope(fit, scope)
    if test == "F":
        rule = check_ddf(fit, ddf)
        tests = [f_test(fit, L, ddf=rule) for L in term_after_others(fit, labels).values()]
        return _titled(fit, f_table(fit, labels, tests, rule), method_name(fit, ddf))
    full = fit.by_ml()
    ends = in_parallel(_Without(full), labels, n_jobs=n_jobs, progress=progress, label="drop1")
    return _table(full, labels, ends, test, k)


@dataclass(frozen=True)
class _Without:
    """Fits a model without a term; a class, so that it pickles."""

    fit: Fit

    def __call__(self, label: str) -> tuple[int, float, bool]:
        """Return parameters, -2 log L, and whether the search converged."""
        change = update_formula(written_out(self.fit), f". ~ . - {label}")
        small = with_formula(self.fit, change, control=self.fit.control.quiet())
        return small.npar, small.estimates.objective, small.convergence.converged


def written_out(fit: Fit) -> str:
    """Return the formula with the columns that a dot stands for."""
    names = fit.frame.dot_columns
    if not names or fit.formula.response is None:
        return fit.formula.text
    columns = " + ".join(Name(name).text for name in names)
    return update_formula(f"{fit.formula.response.text} ~ {columns}", fit.formula.text)


def _table(full, labels, ends, test, k) -> AnovaTable:
    npar = np.array([full.npar, *(end[0] for end in ends)])
    deviance = np.array([full.estimates.objective, *(end[1] for end in ends)])
    dropped = npar[0] - npar
    columns = {
        "npar": np.where(np.arange(len(npar)) > 0, dropped, np.nan),
        "AIC": deviance + k * npar,
    }
    if test == "Chisq":
        LRT = deviance - deviance[0]
        LRT = np.where(np.abs(LRT) < EQUAL, 0.0, LRT)
        tested = (dropped > 0) & (LRT >= 0)
        p = scipy.special.chdtrc(np.where(tested, dropped, 1), np.where(tested, LRT, 0.0))
        LRT[0] = np.nan
        columns |= {"LRT": LRT, "Pr(Chi)": np.where(tested, p, np.nan)}
    stopped = [label for label, end in zip(labels, ends, strict=True) if not end[2]]
    notes = [f"The fit without {label} did not converge." for label in stopped]
    if not full.convergence.converged:
        notes.append("The fit of the whole model did not converge.")
    return _titled(full, pd.DataFrame(columns, index=[NONE, *labels]), None, notes)


def _titled(
    fit: Fit, frame: pd.DataFrame, method: str | None, notes: Sequence[str] = ()
) -> AnovaTable:
    title = "Single term deletions" + ("" if method is None else f" using {method}:")
    return AnovaTable(frame, (title, "", "Model:", *formula_lines(fit.formula.text)), tuple(notes))


def _scope(fit: Fit, scope: Any) -> list[str]:
    """Return the labels of the terms to drop, in the model's order unless they were listed."""
    terms, free = fit.frame.fixed_terms, droppable(fit)
    if scope is None:
        return free
    by_variables = {frozenset(n.text for n in t): label for t, label in _pairs(terms)}
    asked = checks.names(scope, "scope", "labels of terms, or a formula '~ a + b'")
    labels: dict[str, None] = {}
    for part in asked:
        for names, written in _terms_of(fit, part):
            label = by_variables.get(names)
            if label is None:
                known = ", ".join(terms.labels) or "none"
                raise FormulaError(
                    f"scope has {written}, which is not a fixed-effects term of "
                    f"{fit.formula.text}; its terms are: {known}"
                )
            if label not in free:
                above = [text for other, text in by_variables.items() if names < other]
                raise ArgumentError(
                    f"{label} cannot be dropped while {', '.join(above)} stay(s) in the model, by "
                    f"marginality; drop one of: {', '.join(free)}"
                )
            labels[label] = None
    return list(labels)


def _pairs(terms: TermSet) -> zip:
    return zip(terms.terms, terms.labels, strict=True)


def _terms_of(fit: Fit, text: str) -> list[tuple[frozenset[str], str]]:
    """Return the variables and the text of each term that a label or a formula names."""
    for names, label in _pairs(fit.frame.fixed_terms):
        if unquoted(text) == unquoted(label):
            return [(frozenset(n.text for n in names), label)]
    formula = parse_formula(text if "~" in text else f"~ {text}")
    if formula.bars:
        raise FormulaError(
            f"scope has the random-effects term ({formula.bars[0].text}); drop1 drops fixed "
            "effects: compare fits with and without it by anova()"
        )
    terms = expand_terms(formula.fixed, fit.frame.dot_columns)
    return [(frozenset(n.text for n in t), label) for t, label in _pairs(terms)]
