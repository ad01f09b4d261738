"""Residuals of new rows whose data have the response."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from mixef.errors import DataError
from mixef.estimation.fit import Fit
from mixef.inference.prediction.prediction_rows import has_names, prediction_rows
from mixef.inference.residuals import outcome_residuals
from mixef.terms.columns import Columns
from mixef.terms.expressions import Scope
from mixef.terms.factor import Factor
from mixef.terms.outcome import Outcome
from mixef.terms.values import Matrix


def new_residuals(
    fit: Fit,
    columns: Columns,
    eta: np.ndarray,
    mu: np.ndarray,
    type: str,
    env: Mapping[str, Any] | None,
) -> np.ndarray | None:
    """Return the residuals (m,) of rows with linear predictors eta and means mu (m,).

    NaN stands where response or prediction are missing; None without the columns of the response.

    Raises
    ------
    DataError
        For a response that is not like the fit's.
    """
    node = fit.formula.response
    if node is None or not has_names(columns, node.text):
        return None
    value = Scope(columns, fit.frame.state, env).variable(node)
    weights = prediction_rows(fit, columns.data, "~0", "error", env).weights(fit)
    y, trials = _numbers(fit, value, node.text)
    copies = None
    if trials is not None and weights is not None:
        copies = np.divide(weights, trials, out=np.zeros(len(y)), where=trials > 0)
    known = np.isfinite(y) & np.isfinite(mu)
    known &= np.isfinite(y if weights is None else weights)
    parts = [None if part is None else part[known] for part in (weights, copies)]
    outcome = Outcome(y[known], parts[0], None, parts[1])
    fit.family.check_response(outcome.y, outcome.trials, node.text)
    out = np.full(len(y), np.nan)
    out[known] = outcome_residuals(fit, outcome, eta[known], mu[known], type)
    return out


def _numbers(fit: Fit, value: Any, name: str) -> tuple[np.ndarray, np.ndarray | None]:
    """Return the response (m,) as numbers, and the trials (m,) of ``cbind``."""
    if fit.is_counted and isinstance(value, Matrix) and value.array.shape[1] == 2:
        trials = value.array.sum(axis=1)
        none = np.zeros(len(trials))
        return np.divide(value.array[:, 0], trials, out=none, where=trials != 0), trials
    if isinstance(value, Factor) and isinstance(fit.frame.response, Factor):
        known = fit.frame.response.levels
        strange = [level for level in value.used_levels().levels if level not in known]
        if strange:
            raise DataError(
                f"the response {name} of newdata has the level {strange[0]}; the fit's has "
                f"{', '.join(known)}: correct it, or drop the column"
            )
        places = np.array([*(known.index(v) if v in known else -1 for v in value.levels), -1])
        at = places[value.codes]
        return np.where(at < 0, np.nan, at.astype(float)), None
    if isinstance(value, np.ndarray) and not (fit.is_counted or _is_labelled(fit)):
        return value.astype(float), None
    raise DataError(
        f"the response {name} of newdata is not like the fit's: expected "
        f"{'labels' if _is_labelled(fit) else 'counts' if fit.is_counted else 'numbers'}; correct "
        "it, or drop the column"
    )


def _is_labelled(fit: Fit) -> bool:
    """Tell whether the response of the fit is a factor."""
    return isinstance(fit.frame.response, Factor)
