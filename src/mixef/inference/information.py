"""Log-likelihood and information criteria."""

from __future__ import annotations

import numpy as np

from mixef.estimation.fit import Fit
from mixef.inference.over_rows import row_total
from mixef.inference.residuals import response_of, row_deviances


def log_likelihood(fit: Fit) -> float:
    """Return the log-likelihood, restricted for a REML fit: minus half the criterion."""
    return -0.5 * fit.estimates.objective


def relative_log_likelihood(fit: Fit) -> float:
    """Return the log-likelihood less the saturated model's, at the same dispersion or shape."""
    saturated = row_total(fit, lambda rows: response_of(rows).saturated(fit.extra))
    return log_likelihood(fit) - saturated


def deviance(fit: Fit) -> float:
    """Return the deviance.

    For a linear model it is ``-2 log L`` (not restricted) at the estimates of the covariance
    parameters; for a generalized one the rows' deviances given the modes, summed.
    """
    if not fit.is_linear:
        return row_total(fit, lambda rows: float(row_deviances(rows).sum()))
    if not fit.REML:
        return fit.estimates.objective
    n, m, e = fit.frame.n, fit.frame.n - len(fit.kept), fit.estimates
    by_ml, by_REML = (k * (1.0 + float(np.log(2.0 * np.pi * e.pwrss / k))) for k in (n, m))
    return e.objective - e.ldRX2 - by_REML + by_ml


def aic(fit: Fit) -> float:
    """Return Akaike's criterion, with the REML criterion for a REML fit."""
    return fit.estimates.objective + 2.0 * fit.npar


def aicc(fit: Fit) -> float:
    """Return Akaike's criterion with the correction for n rows and k parameters.

    It is infinite for ``n <= k + 1``.
    """
    n, k = fit.frame.n, fit.npar
    return aic(fit) + 2.0 * k * (k + 1.0) / (n - k - 1.0) if n > k + 1 else np.inf


def bic(fit: Fit) -> float:
    """Return Schwarz's criterion, with the REML criterion for a REML fit."""
    return fit.estimates.objective + float(np.log(fit.frame.n)) * fit.npar


def df_residual(fit: Fit) -> int:
    """Return the residual degrees of freedom, n minus the number of parameters."""
    return fit.frame.n - fit.npar
