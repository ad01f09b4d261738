"""Fitted values, predictions, and their standard errors and intervals."""

from __future__ import annotations

from collections.abc import Mapping
from functools import partial
from typing import Any

import numpy as np
import pandas as pd

from mixef import checks
from mixef.errors import ArgumentError, FormulaError
from mixef.estimation.fit import Fit
from mixef.families.links import make_link
from mixef.inference.hypotheses.ddf import KENWARD_ROGER, approximation, check_ddf
from mixef.inference.lazy_rows import by_row, predicted
from mixef.inference.prediction.new_responses import averaged_mean, domain, predictive_quantiles
from mixef.inference.prediction.prediction_rows import (
    PredictionRows,
    prediction_rows,
    predictor,
)
from mixef.inference.prediction.prediction_variance import (
    Movement,
    known_variance,
    movement,
    new_columns,
    prediction_df,
    random_variance,
    random_variance_slopes,
)
from mixef.inference.tails import t_quantile
from mixef.linalg.threads import one_blas_thread
from mixef.terms.needed import needed_names
from mixef.terms.relation.relation import relation_of

NEW_LEVELS = ("error", "population", "missing")
SCALES = ("response", "link")
INTERVALS = (None, "confidence", "prediction")


def fitted_values(fit: Fit) -> pd.Series:
    """Return the conditional means."""
    return fit.frame.series(fit.mu, "fitted")


def linear_predictors(fit: Fit) -> pd.Series:
    """Return the linear predictors, conditional on the random effects."""
    return fit.frame.series(fit.eta, "linear_predictor")


def predictions_anywhere(fit: Fit, newdata: Any, **options: Any) -> Any:
    """Return predictions; those for rows in an engine, by a fit of such rows, as a lazy table."""
    if fit.frame.in_memory:
        return predictions(fit, newdata, **options)
    relation = relation_of(newdata)
    if newdata is not None and relation is None:
        return predictions(fit, newdata, **options)
    se_fit, interval = options["se_fit"], options["interval"]
    names = ["fit", "se_fit"] if se_fit or interval else ["predicted"]
    names += ["lower", "upper"] if interval else []
    if relation is not None:
        # What else the caller has, such as the session, does not go to the workers of a cluster.
        needed = needed_names(fit.formula, fit.call.weights, fit.call.offset)
        if needed is not None:
            env, used = options["env"] or {}, needed - set(relation.names)
            options["env"] = {name: env[name] for name in used if name in env}
        return predicted(fit, relation, partial(predictions, fit, **options), names)
    options["env"] = {}  # rows of the fit are evaluated
    return by_row(fit, partial(predictions, **options), names, joint=len(names) > 1)


def predictions(
    fit: Fit,
    newdata: Any = None,
    re_form: str | bool | None = None,
    new_levels: str = "error",
    env: Mapping[str, Any] | None = None,
    type: str = "response",
    se_fit: bool = False,
    interval: str | None = None,
    level: float = 0.95,
    population_averaged: bool = False,
    ddf: str | None = "auto",
    given_theta: bool = False,
) -> pd.Series | pd.DataFrame:
    """Return predictions; see the method ``predict`` of a model.

    ``given_theta`` leaves out the uncertainty of the covariance parameters, as lme4 does.
    """
    type, interval = checks.option(type, "type", SCALES), _interval(fit, interval, type)
    new_levels, level = checks.option(new_levels, "new_levels", NEW_LEVELS), checks.level(level)
    se_fit = checks.flag(se_fit, "se_fit")
    population_averaged = checks.flag(population_averaged, "population_averaged")
    rule = _rule(fit, ddf)
    if population_averaged:
        re_form = _no_effects(re_form)
    rows = prediction_rows(fit, newdata, re_form, new_levels, env)
    eta = predictor(fit, rows)
    if not (se_fit or interval):
        if population_averaged:
            spread = random_variance(fit, _all_columns(fit, rows), len(eta))
            values = averaged_mean(fit.family, eta, spread).mean
            return _series(fit, rows, _on_link(fit, values) if type == "link" else values)
        return _series(fit, rows, fit.family.link.inverse(eta) if type == "response" else eta)
    with one_blas_thread():
        moved = movement(fit, given_theta)
        known = known_variance(fit, rows, moved)
    new = random_variance(fit, new_columns(fit, rows, left_out=False), len(eta))
    if population_averaged:
        center, se = _averaged(fit, rows, eta, moved)
    else:
        center, se = eta, np.sqrt(known + new)
    columns = {"fit": center, "se_fit": se}
    if type == "response":
        slope = np.abs(fit.family.link.d_inverse(center))
        columns = {"fit": fit.family.link.inverse(center), "se_fit": slope * se}
    if interval == "confidence":
        wide = _quantile(fit, rows, rule, level) * se
        ends = center - wide, center + wide
        columns["lower"], columns["upper"] = _means(fit, *ends) if type == "response" else ends
    elif interval == "prediction":
        all_new = random_variance(fit, new_columns(fit, rows, left_out=True), len(eta))
        columns["lower"], columns["upper"] = _new_response(
            fit, rows, eta, known + all_new, rule, level
        )
    return _frame(fit, rows, columns)


def _quantile(
    fit: Fit,
    rows: PredictionRows,
    rule: str | None,
    level: float,
    residual: np.ndarray | None = None,
) -> np.ndarray:
    """Return the quantiles (m,) of t, or of the normal distribution, with ``level`` inside."""
    df = np.full(len(rows.X), np.inf)
    if rule is not None and not fit.is_linear:
        # a chosen covariance; with random effects in it, the variance has many sources
        df = df if rows.terms else approximation(fit, rule).row_df(rows.X)
    elif rule is not None:
        with one_blas_thread():
            df = prediction_df(fit, rows, residual)
    return t_quantile(0.5 + 0.5 * level, df)


def _rule(fit: Fit, ddf: str | None) -> str | None:
    """Return the rule for degrees of freedom."""
    rule = check_ddf(fit, ddf)
    if rule == KENWARD_ROGER:
        raise ArgumentError(
            f"ddf is {ddf!r}, which is for combinations of the fixed effects alone, with standard "
            "errors of its own; expected 'auto', 'satterthwaite' or None, or use contest for such "
            "combinations"
        )
    return rule


def _interval(fit: Fit, interval: Any, type: Any) -> str | None:
    interval = checks.option(interval, "interval", INTERVALS)
    if interval == "prediction" and type == "link" and not fit.is_linear:
        raise ArgumentError(
            "interval='prediction' is for a new response, which is not on the scale of the link; "
            "use type='response', or interval='confidence' for the linear predictor"
        )
    return interval


def _no_effects(re_form: str | bool | None) -> bool:
    """Return the ``re_form`` of a population average: none of the random effects is known."""
    if re_form is None or re_form is False or str(re_form).replace(" ", "") == "~0":
        return False
    raise FormulaError(
        f"re_form is {re_form!r} beside population_averaged=True, which averages over all random "
        "effects; leave re_form out"
    )


def _on_link(fit: Fit, mean: np.ndarray) -> np.ndarray:
    with np.errstate(all="ignore"):
        return np.asarray(fit.family.link.link(mean))


def _all_columns(fit: Fit, rows: PredictionRows) -> dict[int, np.ndarray]:
    return {t: rows.raw_columns(fit, t) for t in range(len(fit.terms))}


def _averaged(
    fit: Fit, rows: PredictionRows, eta: np.ndarray, moved: Movement
) -> tuple[np.ndarray, np.ndarray]:
    """Return the link of the averaged mean, and its standard error by the delta method."""
    z = _all_columns(fit, rows)
    average = averaged_mean(fit.family, eta, random_variance(fit, z, len(eta)))
    J = average.by_eta[:, None] * moved.slopes(rows)
    by_search = random_variance_slopes(fit, z, len(eta))
    J[:, moved.n_before :] += average.by_variance[:, None] * by_search
    center = _on_link(fit, average.mean)
    with np.errstate(divide="ignore", invalid="ignore"):
        return center, np.sqrt(moved.variance(J)) / np.abs(fit.family.link.d_inverse(center))


def _means(fit: Fit, low: np.ndarray, high: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return the ends of the interval of means, cut off where a linear predictor is impossible."""
    first, last = domain(fit.family, len(low))
    with np.errstate(all="ignore"):
        ends = [np.asarray(fit.family.link.inverse(np.clip(e, first, last))) for e in (low, high)]
        lower, upper = np.minimum(*ends), np.maximum(*ends)
        if fit.family.link != make_link("inverse"):
            return lower, upper
        # On both sides of the pole of 1/mu means run to both infinities.
        pole = (low < 0) & (high > 0) & np.isinf(first)
    return np.where(pole, -np.inf, lower), np.where(pole, np.inf, upper)


def _new_response(
    fit: Fit,
    rows: PredictionRows,
    eta: np.ndarray,
    variance: np.ndarray,
    rule: str | None,
    level: float,
) -> tuple[np.ndarray, np.ndarray]:
    """Return the ends of the interval for a new response."""
    weights = rows.weights(fit)
    if fit.is_linear:
        with np.errstate(divide="ignore", invalid="ignore"):
            own = fit.estimates.sigma**2 / (np.ones(len(eta)) if weights is None else weights)
        wide = _quantile(fit, rows, rule, level, own) * np.sqrt(variance + own)
        return eta - wide, eta + wide
    tail = 0.5 - 0.5 * level
    return predictive_quantiles(fit, eta, variance, weights, (tail, 1.0 - tail))


def _series(fit: Fit, rows: PredictionRows, values: np.ndarray) -> pd.Series:
    if rows.columns is None:
        return fit.frame.series(values, "predicted")
    return pd.Series(values, index=rows.index, name="predicted")


def _frame(fit: Fit, rows: PredictionRows, columns: dict[str, np.ndarray]) -> pd.DataFrame:
    return pd.DataFrame({name: _series(fit, rows, v) for name, v in columns.items()})
