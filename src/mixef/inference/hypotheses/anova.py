"""One test a term: F tests of a linear model, Wald chi-square tests of a generalized one."""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd

from mixef.estimation.fit import LMMFit
from mixef.inference.hypotheses.ddf import FTest, check_ddf, f_test, tested_fit
from mixef.inference.hypotheses.term_contrasts import term_hypotheses
from mixef.inference.observations import AnyFit


def terms_tested(fit: AnyFit, type: Any = "III", ddf: str | None = "auto") -> pd.DataFrame:
    """Test every term of the fixed effects.

    Parameters
    ----------
    type : {"I", "II", "III"} or 1, 2, 3
        See `term_hypotheses`.
    ddf : {"auto", "satterthwaite", "kenward-roger", None}
        Denominator degrees of freedom of a linear model. None gives none and no p values, and
        adjusts terms for each other (types I and II) by the estimated covariance of beta, as the
        generalized models do, instead of by ``X'X``.

    Returns
    -------
    DataFrame
        One row a term. A linear model has Sum Sq, Mean Sq (F times sigma squared of the fit that
        is tested), NumDF, DenDF, F value, Pr(>F), or npar, Sum Sq, Mean Sq, F value; a generalized
        one Chisq, Df, Pr(>Chisq). A term that is confounded with the others has zero Df and NaN.
    """
    rule = check_ddf(fit, ddf)
    hypotheses = term_hypotheses(fit, type, by_precision=rule is None)
    tests = [f_test(fit, L, ddf=rule) for L in hypotheses.values()]
    if isinstance(fit, LMMFit):
        return f_table(fit, list(hypotheses), tests, rule)
    columns = {
        "Chisq": [test.statistic * test.num_df for test in tests],
        "Df": [test.num_df for test in tests],
        "Pr(>Chisq)": [test.p_value for test in tests],
    }
    return pd.DataFrame(columns, index=list(hypotheses))


def f_table(fit: LMMFit, labels: list[str], tests: list[FTest], rule: str | None) -> pd.DataFrame:
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
