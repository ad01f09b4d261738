"""One row a model, after broom."""

from __future__ import annotations

import pandas as pd

from mixef.estimation.fit import Fit
from mixef.inference.information import aic, bic, deviance, df_residual, log_likelihood


def glance(fit: Fit) -> pd.DataFrame:
    """Return one row: nobs, sigma, logLik, AIC, BIC, REMLcrit or deviance, df_residual, left_out.

    Where the criterion is an estimate, objective_se is its standard error, after the criterion.
    The deviance of a generalized model is conditional on the modes, not -2 log L.
    """
    last = {"deviance": deviance(fit)}
    if fit.REML:
        last = {"REMLcrit": fit.estimates.objective}
    if fit.estimates.objective_se > 0.0:
        last |= {"objective_se": fit.estimates.objective_se}
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
