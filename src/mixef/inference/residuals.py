"""Residuals of the rows, conditional on the random effects."""

from __future__ import annotations

import numpy as np
import pandas as pd

from mixef import checks
from mixef.estimation.fit import Fit
from mixef.estimation.generalized.density_response import make_response
from mixef.estimation.generalized.response import Response
from mixef.families.family import Family, weigh
from mixef.inference.over_rows import row_total
from mixef.terms.outcome import Outcome

RESIDUALS = ("response", "pearson", "deviance", "working")


def residuals(fit: Fit, type: str = "response", scaled: bool = False) -> pd.Series:
    """Return the residuals of the rows; see the method ``residuals`` of a model."""
    type, scaled = checks.option(type, "type", RESIDUALS), checks.flag(scaled, "scaled")
    residual = residual_values(fit, type)
    return fit.frame.series(residual / fit.estimates.sigma if scaled else residual, "residuals")


def residual_values(fit: Fit, type: str) -> np.ndarray:
    """Return the residuals (n,) of a type, not scaled."""
    return outcome_residuals(fit, fit.outcome, fit.eta, fit.mu, type)


def outcome_residuals(
    fit: Fit, outcome: Outcome, eta: np.ndarray, mu: np.ndarray, type: str
) -> np.ndarray:
    """Return the residuals (m,) of responses with linear predictors eta and means mu."""
    family, y, extra = fit.family, outcome.y, fit.estimates.extra
    if type == "deviance":
        deviances = family.row_deviances(y, mu, outcome.weights, extra, outcome.copies)
        return np.sign(y - mu) * np.sqrt(deviances)
    weights = family.effective_weights(outcome.weights, extra, outcome.copies)
    return family_residuals(family, y, eta, mu, weights, type, extra)


def family_residuals(
    family: Family, y: np.ndarray, eta: np.ndarray, mu: np.ndarray, weights: np.ndarray | None,
    type: str, extra: float | None = None,
) -> np.ndarray:  # fmt: skip
    """Return the residuals (n,) of rows with linear predictors eta and means mu."""
    residual = y - mu
    with np.errstate(all="ignore"):
        if type == "response":
            return residual
        if type == "deviance":
            deviances = np.maximum(family.unit_deviance(y, mu, extra), 0.0)
            return np.sign(residual) * np.sqrt(weigh(weights, deviances))
        if type == "working":
            return _over(residual, family.link.d_inverse(eta))
        root = np.sqrt(family.variance_at(eta, mu, extra))
        return _over(residual if weights is None else residual * np.sqrt(weights), root)


def _over(residual: np.ndarray, size: np.ndarray) -> np.ndarray:
    """Divide; no residual is none where the mean is at an end of its range, too."""
    return np.divide(residual, size, out=np.zeros(len(residual)), where=residual != 0)


def row_deviances(fit: Fit) -> np.ndarray:
    """Return the deviance (n,) of each row times its weight, not over the dispersion."""
    out, extra = fit.outcome, fit.estimates.extra
    return fit.family.row_deviances(out.y, fit.mu, out.weights, extra, out.copies)


def response_of(fit: Fit) -> Response:
    """Return the response with its family and weights."""
    outcome = fit.outcome
    return make_response(fit.family, outcome.y, outcome.weights, copies=outcome.copies)


def working_weights(fit: Fit) -> np.ndarray:
    """Return ``w mu'^2 / V`` (n,) at the modes, by expected information, without dispersion."""
    state = response_of(fit).at(fit.eta, 1.0 if fit.family.has_dispersion else fit.extra)
    assert state is not None
    return state.expected


def pearson_chisq(fit: Fit) -> float:
    """Return the sum of the squared Pearson residuals."""
    return row_total(fit, lambda rows: float((residual_values(rows, "pearson") ** 2).sum()))
