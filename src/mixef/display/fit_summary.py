"""From a fit to its summary."""

from __future__ import annotations

from typing import Any

import numpy as np

from mixef.display.summary import Summary
from mixef.estimation.fit import LMMFit
from mixef.inference.coef import coefficient_table, covariance_of_fixed
from mixef.inference.information import aic, bic, df_residual, log_likelihood
from mixef.inference.predict import conditional_mean
from mixef.inference.varcorr import variances


def summarize(fit: LMMFit) -> Summary:
    """Collect what the summary of a linear mixed model shows."""
    call = fit.call
    vcov = covariance_of_fixed(fit).to_numpy()
    se = np.sqrt(vcov.diagonal())
    scaled = (fit.frame.y - conditional_mean(fit)) / fit.estimates.sigma
    if fit.frame.weights is not None:
        scaled = scaled * np.sqrt(fit.frame.weights)
    method = "REML" if fit.REML else "maximum likelihood"
    return Summary(
        title=f"Linear mixed model fit by {method}",
        formula=fit.formula.text,
        data_name=call.data_name,
        weights=_text(call.weights),
        offset=_text(call.offset),
        subset=_text(call.subset),
        criterion=_criterion(fit),
        scaled_residuals=np.quantile(scaled, [0.0, 0.25, 0.5, 0.75, 1.0]),
        groups=variances(fit),
        sigma=fit.estimates.sigma,
        nobs=fit.frame.n,
        ngrps={g: fit.terms[members[0]].n_levels for g, members in fit.groups.items()},
        coef_table=coefficient_table(fit),
        corr=vcov / np.outer(se, se),
        messages=_messages(fit),
    )


def _criterion(fit: LMMFit) -> Any:
    if fit.REML:
        return ("REML criterion at convergence", fit.estimates.objective)
    return {
        "AIC": aic(fit),
        "BIC": bic(fit),
        "logLik": log_likelihood(fit),
        "-2*log(L)": fit.estimates.objective,
        "df.resid": df_residual(fit),
    }


def _text(argument: Any) -> str | None:
    if argument is None or isinstance(argument, str):
        return argument
    return type(argument).__name__


def _messages(fit: LMMFit) -> list[str]:
    messages = []
    if fit.dropped_names:
        messages.append(
            "fixed-effect model matrix is rank deficient; dropped: " + ", ".join(fit.dropped_names)
        )
    messages += list(fit.convergence.problems)
    if fit.vanished:
        messages.append("boundary (singular) fit: " + "; ".join(str(v) for v in fit.vanished))
    return messages
