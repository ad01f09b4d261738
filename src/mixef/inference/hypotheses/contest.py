"""Tests of linear hypotheses about the fixed effects, as frames."""

from __future__ import annotations

import pandas as pd

from mixef import checks
from mixef.inference.hypotheses.ddf import check_ddf, f_test, t_tests
from mixef.inference.hypotheses.hypothesis import Hypothesis
from mixef.inference.observations import AnyFit


def joint_test(fit: AnyFit, hypothesis: Hypothesis, ddf: str | None = "auto") -> pd.DataFrame:
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
    fit: AnyFit, hypothesis: Hypothesis, ddf: str | None = "auto", level: float = 0.95
) -> pd.DataFrame:
    """Return a t test, or a z test, with confidence limits for every row of the hypothesis."""
    level = checks.level(level)
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
