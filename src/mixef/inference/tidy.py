"""Frames after broom: one row a parameter, a model, an observation."""

from __future__ import annotations

import numpy as np
import pandas as pd

from mixef.estimation.fit import LMMFit
from mixef.inference.coef import coefficient_table
from mixef.inference.information import aic, bic, df_residual, log_likelihood
from mixef.inference.predict import conditional_mean, on_rows
from mixef.inference.varcorr import component_frame, variances


def tidy(fit: LMMFit) -> pd.DataFrame:
    """Return one row a parameter: effect, group, term, estimate, std_error, statistic."""
    table = coefficient_table(fit)
    fixed = pd.DataFrame(
        {
            "effect": "fixed",
            "group": None,
            "term": table.index,
            "estimate": table["Estimate"].to_numpy(),
            "std_error": table["Std. Error"].to_numpy(),
            "statistic": table["t value"].to_numpy(),
        }
    )
    rows = component_frame(variances(fit), fit.estimates.sigma)
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
    return pd.concat([fixed.astype({"group": object}), random], ignore_index=True)


def glance(fit: LMMFit) -> pd.DataFrame:
    """Return one row: nobs, sigma, logLik, AIC, BIC, REMLcrit or deviance, df.residual."""
    row = {
        "nobs": fit.frame.n,
        "sigma": fit.estimates.sigma,
        "logLik": log_likelihood(fit),
        "AIC": aic(fit),
        "BIC": bic(fit),
        ("REMLcrit" if fit.REML else "deviance"): fit.estimates.objective,
        "df.residual": df_residual(fit),
    }
    return pd.DataFrame([row])


def augment(fit: LMMFit) -> pd.DataFrame:
    """Return the response and variables of the fit with fitted values and residuals."""
    frame = fit.frame
    mean = conditional_mean(fit)
    fixed = fit.X @ fit.estimates.beta
    if frame.offset is not None:
        fixed = fixed + frame.offset
    columns = {
        text: on_rows(fit, value, text)
        for text, value in frame.variables.items()
        if isinstance(value, np.ndarray) and value.dtype.kind in "iuf"
    }
    for members in fit.groups.values():
        grouping = fit.terms[members[0]].grouping
        labels = pd.Series(grouping.levels[grouping.codes], index=frame.index, dtype=object)
        columns[grouping.name] = labels.reindex(frame.padded_index)
    columns |= {
        ".fitted": on_rows(fit, mean, ".fitted"),
        ".resid": on_rows(fit, frame.y - mean, ".resid"),
        ".fixed": on_rows(fit, fixed, ".fixed"),
    }
    if frame.weights is not None:
        columns[".weights"] = on_rows(fit, frame.weights, ".weights")
    return pd.DataFrame(columns)
