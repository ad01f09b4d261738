"""Log-likelihood and information criteria."""

from __future__ import annotations

import numpy as np

from mixef.estimation.fit import LMMFit


def log_likelihood(fit: LMMFit) -> float:
    """Return the log-likelihood, restricted for a REML fit: minus half the criterion."""
    return -0.5 * fit.estimates.objective


def deviance(fit: LMMFit) -> float:
    """Return ``-2 log L`` (not restricted) at the estimates of the covariance parameters."""
    if not fit.REML:
        return fit.estimates.objective
    n, weights = fit.frame.n, fit.frame.weights
    sum_log_w = 0.0 if weights is None else float(np.log(weights).sum())
    e = fit.estimates
    return e.ldL2 - sum_log_w + n * (1.0 + float(np.log(2.0 * np.pi * e.pwrss / n)))


def aic(fit: LMMFit) -> float:
    """Return Akaike's criterion, with the REML criterion for a REML fit."""
    return fit.estimates.objective + 2.0 * fit.npar


def bic(fit: LMMFit) -> float:
    """Return Schwarz's criterion, with the REML criterion for a REML fit."""
    return fit.estimates.objective + float(np.log(fit.frame.n)) * fit.npar


def df_residual(fit: LMMFit) -> int:
    """Return the residual degrees of freedom, n minus the number of parameters."""
    return fit.frame.n - fit.npar
