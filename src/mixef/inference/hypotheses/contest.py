"""Tests of linear hypotheses about the fixed effects."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

import pandas as pd

from mixef import checks
from mixef.estimation.fit import Fit
from mixef.inference.hypotheses.ddf import check_ddf, f_test, method_name, t_tests
from mixef.inference.hypotheses.hypothesis import Hypothesis, linear_hypothesis
from mixef.text.coefficients import coef_to_table
from mixef.text.printed import PrintedFrame
from mixef.text.tables import Table


@dataclass(frozen=True, eq=False, repr=False)
class Contest(PrintedFrame):
    """Tests of linear hypotheses.

    Attributes
    ----------
    frame : DataFrame
        One row for a joint test (NumDF, DenDF, F value, Pr(>F); Chisq, Df, Pr(>Chisq) without
        denominator degrees of freedom), or a row for each hypothesis (Estimate, Std. Error, df,
        t value, lower, upper, Pr(>|t|)).
    hypotheses : tuple of str
        The hypotheses as equations.
    method : str
        What the tests are.
    """

    frame: pd.DataFrame
    hypotheses: tuple[str, ...]
    method: str

    def to_table(self) -> Table:
        """Return the table that is printed."""
        title = "\n".join([self.method, *(f"  {text}" for text in self.hypotheses), ""])
        return replace(coef_to_table(self.frame), title=title)


def contest(
    fit: Fit, L: Any, rhs: Any = None, joint: bool = True, ddf: str | None = "auto",
    level: float = 0.95,
) -> Contest:  # fmt: skip
    """Test ``L beta = rhs``; see the method ``contest`` of a model."""
    joint, level = checks.flag(joint, "joint"), checks.level(level)
    hypothesis = linear_hypothesis(fit, L, rhs)
    if joint:
        frame = joint_test(fit, hypothesis, ddf)
    else:
        frame = separate_tests(fit, hypothesis, ddf, level)
    if check_ddf(fit, ddf) is None:
        name = "chi-square test" if joint else "z tests"
    else:
        name = "F test" if joint else "t tests"
    several = joint and len(hypothesis.L) > 1
    method = method_name(fit, ddf, several)
    name += "" if method is None else f" with {method}"
    return Contest(frame, tuple(hypothesis.texts), ("Joint " if several else "") + name)


def joint_test(fit: Fit, hypothesis: Hypothesis, ddf: str | None = "auto") -> pd.DataFrame:
    """Return one row: an F test, or a chi-square test without denominator degrees of freedom."""
    test = f_test(fit, hypothesis.L, hypothesis.rhs, ddf)
    if check_ddf(fit, ddf) is None:
        chisq = test.num_df * test.statistic
        columns = {"Chisq": chisq, "Df": test.num_df, "Pr(>Chisq)": test.p_value}
    else:
        columns = {
            "NumDF": test.num_df,
            "DenDF": test.den_df,
            "F value": test.statistic,
            "Pr(>F)": test.p_value,
        }
    return pd.DataFrame(columns, index=["1"])


def separate_tests(
    fit: Fit, hypothesis: Hypothesis, ddf: str | None = "auto", level: float = 0.95
) -> pd.DataFrame:
    """Return a t test, or a z test, with confidence limits for every row of the hypothesis."""
    tests = t_tests(fit, hypothesis.L, hypothesis.rhs, ddf)
    lower, upper = tests.limits(level)
    letter = "z" if check_ddf(fit, ddf) is None else "t"
    columns = {"Estimate": tests.estimate, "Std. Error": tests.std_error}
    if letter == "t":
        columns["df"] = tests.df
    columns |= {
        f"{letter} value": tests.statistic,
        "lower": lower,
        "upper": upper,
        f"Pr(>|{letter}|)": tests.p_value,
    }
    return pd.DataFrame(columns, index=list(hypothesis.labels))
