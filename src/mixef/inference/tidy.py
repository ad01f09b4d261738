"""Frames after broom: one row a parameter, a model, an observation."""

from __future__ import annotations

import numpy as np
import pandas as pd

from mixef.estimation.fit import Fit
from mixef.inference.coef import coefficient_table
from mixef.inference.hypotheses.ddf import tested_fit
from mixef.inference.information import aic, bic, deviance, df_residual, log_likelihood
from mixef.inference.parameters import extra_standard_error
from mixef.inference.varcorr import varcorr


def tidy(fit: Fit, ddf: str | None = "auto") -> pd.DataFrame:
    """Return one row a parameter: effect, group, term, estimate, std_error, statistic.

    A linear model has columns df and p_value too, unless ``ddf`` is None. A generalized one has
    p_value, and a last row for its dispersion or shape, whose standard error is that of the
    logarithm times the estimate. Where Kenward and Roger's tests are of a refit by REML, all rows
    are, and the columns' name says so.
    """
    table = coefficient_table(fit, ddf)
    shown = tested_fit(fit, ddf)
    fixed = pd.DataFrame(
        {
            "effect": "fixed",
            "group": None,
            "term": table.index,
            "estimate": table["Estimate"].to_numpy(),
            "std_error": table["Std. Error"].to_numpy(),
            "statistic": table.filter(like=" value").iloc[:, 0].to_numpy(),
        }
    )
    rows = varcorr(shown).to_frame()
    names = []
    for first, second in zip(rows["var1"], rows["var2"], strict=True):
        if not isinstance(first, str):
            names.append("sd__Observation")
        elif isinstance(second, str):
            names.append(f"cor__{first}.{second}")
        else:
            names.append(f"sd__{first}")
    random = pd.DataFrame(
        {
            "effect": "ran_pars",
            "group": rows["grp"],
            "term": names,
            "estimate": rows["sdcor"],
            "std_error": np.nan,
            "statistic": np.nan,
        }
    )
    if "df" in table:
        fixed["df"], random["df"] = table["df"].to_numpy(), np.nan
    if table.columns[-1].startswith("Pr("):
        fixed["p_value"], random["p_value"] = table.iloc[:, -1].to_numpy(), np.nan
    parts = [fixed.astype({"group": object}), random]
    if not fit.is_linear:
        parts += _extra_row(fit)
    return pd.concat(parts, ignore_index=True).rename_axis(columns=table.columns.name)


def _extra_row(fit: Fit) -> list[pd.DataFrame]:
    extra = fit.estimates.extra
    if extra is None:
        return []
    row = {
        "effect": "family",
        "group": None,
        "term": fit.family.extra,
        "estimate": extra,
        "std_error": extra * extra_standard_error(fit),
        "statistic": np.nan,
        "p_value": np.nan,
    }
    return [pd.DataFrame([row]).astype({"group": object})]


def glance(fit: Fit) -> pd.DataFrame:
    """Return one row: nobs, sigma, logLik, AIC, BIC, REMLcrit or deviance, df_residual, left_out.

    The deviance of a generalized model is conditional on the modes, not -2 log L.
    """
    last = {"deviance": deviance(fit)}
    if fit.REML:
        last = {"REMLcrit": fit.estimates.objective}
    row = {
        "nobs": fit.frame.n,
        "sigma": fit.estimates.sigma,
        "logLik": log_likelihood(fit),
        "AIC": aic(fit),
        "BIC": bic(fit),
        **last,
        "df_residual": df_residual(fit),
        "left_out": fit.frame.left_out.total,
    }
    return pd.DataFrame([row])
