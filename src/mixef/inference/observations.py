"""What a fit says of its rows: response, prior weights, linear predictor and mean."""

from __future__ import annotations

import numpy as np
import pandas as pd

from mixef.estimation.fit import LMMFit
from mixef.estimation.generalized_fit import GLMMFit
from mixef.estimation.response import Response
from mixef.terms.frame import numeric_response
from mixef.terms.functions import Matrix

AnyFit = LMMFit | GLMMFit


def response_values(fit: AnyFit) -> np.ndarray:
    """Return the response (n,); proportions for a binomial one."""
    return fit.outcome.y if isinstance(fit, GLMMFit) else numeric_response(fit.frame)


def is_counted(fit: AnyFit) -> bool:
    """Tell whether the response is ``cbind(successes, failures)``."""
    return isinstance(fit, GLMMFit) and isinstance(fit.frame.response, Matrix)


def prior_weights(fit: AnyFit) -> np.ndarray | None:
    """Return the prior weights (n,), numbers of trials among them; None for ones."""
    return fit.outcome.weights if isinstance(fit, GLMMFit) else fit.frame.weights


def response_of(fit: GLMMFit) -> Response:
    """Return the response with its family and weights."""
    outcome = fit.outcome
    return Response(fit.family, outcome.y, outcome.weights, copies=outcome.copies)


def extra_value(fit: GLMMFit) -> float:
    """Return the dispersion or shape; 1 where the family has none, or knows it."""
    return 1.0 if fit.estimates.extra is None else fit.estimates.extra


def working_weights(fit: GLMMFit) -> np.ndarray:
    """Return ``w mu'^2 / V`` (n,) at the modes, by expected information, without dispersion."""
    state = response_of(fit).at(fit.estimates.eta, extra_value(fit))
    assert state is not None
    return state.expected * fit.estimates.sigma**2


def residual_sigma(fit: AnyFit) -> float | None:
    """Return sigma, or None for a family without a dispersion."""
    if isinstance(fit, GLMMFit) and fit.family.extra != "dispersion":
        return None
    return fit.estimates.sigma


def fixed_predictor(fit: AnyFit) -> np.ndarray:
    """Return ``X beta + offset`` (n,)."""
    fixed = fit.X @ fit.estimates.beta
    return fixed if fit.frame.offset is None else fixed + fit.frame.offset


def linear_predictor(fit: AnyFit) -> np.ndarray:
    """Return ``X beta + Z b + offset`` (n,)."""
    if isinstance(fit, GLMMFit):
        return fit.estimates.eta
    eta = fixed_predictor(fit)
    for term, b in zip(fit.terms, fit.estimates.effects, strict=True):
        eta = eta + np.einsum("ns,ns->n", term.z, b[term.grouping.codes])
    return eta


def conditional_mean(fit: AnyFit) -> np.ndarray:
    """Return the mean (n,) given the conditional modes."""
    return fit.estimates.mu if isinstance(fit, GLMMFit) else linear_predictor(fit)


def mean_at(fit: AnyFit, eta: np.ndarray) -> np.ndarray:
    """Return the means at linear predictors."""
    return fit.family.link.inverse(eta) if isinstance(fit, GLMMFit) else eta


def on_rows(fit: AnyFit, values: np.ndarray, name: str) -> pd.Series:
    """Label values (n,) by rows of the data; ``na_action="exclude"`` pads with NaN."""
    frame = fit.frame
    padded = frame.pad(values)
    # A copy, so that writing to the result does not reach the fit.
    return pd.Series(padded.copy(), index=frame.padded_index, name=name)
