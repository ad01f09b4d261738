"""Frames after broom: one row a parameter, a model, an observation."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
import pandas as pd

from mixef.estimation.fit import Fit
from mixef.inference.coef import coefficient_table
from mixef.inference.hypotheses.ddf import tested_fit
from mixef.inference.influence.leverage import leverages
from mixef.inference.information import aic, bic, deviance, df_residual, log_likelihood
from mixef.inference.parameters import auxiliary_standard_errors
from mixef.inference.residuals import residual_values
from mixef.inference.varcorr import varcorr
from mixef.terms.columns import Columns
from mixef.terms.factor import Factor
from mixef.terms.frame import group_factors
from mixef.terms.nodes import Name, Node, variable_names
from mixef.terms.values import Matrix


def tidy(fit: Fit, ddf: str | None = "auto") -> pd.DataFrame:
    """Return one row a parameter: effect, group, term, estimate, std_error, statistic.

    A linear model has columns df and p_value too, unless ``ddf`` is None. A generalized one has
    p_value, and last rows for what else its family estimates, with standard errors by the delta
    method. Where Kenward and Roger's tests are of a refit by REML, all rows are, and the columns'
    name says so.
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
        parts += _family_rows(fit)
    return pd.concat(parts, ignore_index=True).rename_axis(columns=table.columns.name)


def _family_rows(fit: Fit) -> list[pd.DataFrame]:
    values = fit.family.named(fit.extra)
    if not values:
        return []
    rows = {
        "effect": "family",
        "group": None,
        "term": list(values),
        "estimate": list(values.values()),
        "std_error": auxiliary_standard_errors(fit),
        "statistic": np.nan,
        "p_value": np.nan,
    }
    return [pd.DataFrame(rows).astype({"group": object})]


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


def augment(fit: Fit) -> pd.DataFrame:
    """Return all variables of a fit with its weights, offset, fitted values and residuals.

    For a generalized model, as in broom, ``.fitted`` and ``.fixed`` are linear predictors,
    ``.mu`` is the mean, and ``.resid`` the deviance residual.
    """
    frame, influence = fit.frame, leverages(fit)
    ones, zeros = np.ones(frame.n), np.zeros(frame.n)
    weights = fit.weights
    columns = _response(fit) | {k: v for k, v in _variables(fit) if k not in _response(fit)}
    columns |= {
        ".fitted": fit.frame.series(fit.eta, ".fitted"),
        ".resid": fit.frame.series(_residuals(fit), ".resid"),
        ".hat": fit.frame.series(influence.h, ".hat"),
        ".cooksd": fit.frame.series(influence.cooks_distance(), ".cooksd"),
        ".fixed": fit.frame.series(fit.fixed_predictor, ".fixed"),
    }
    if not fit.is_linear:
        columns[".mu"] = fit.frame.series(fit.mu, ".mu")
    columns[".weights"] = fit.frame.series(ones if weights is None else weights, ".weights")
    columns[".offset"] = fit.frame.series(
        zeros if frame.offset is None else frame.offset, ".offset"
    )
    return pd.DataFrame(columns, index=frame.padded_index)


def _residuals(fit: Fit) -> np.ndarray:
    return residual_values(fit, "response" if fit.is_linear else "deviance")


def _response(fit: Fit) -> dict[str, Any]:
    """Return the response by its name: labels of a factor, or the numbers that were modelled."""
    node, frame = fit.formula.response, fit.frame
    assert node is not None
    name = node.name if isinstance(node, Name) else node.text
    if isinstance(frame.response, Factor):
        return {name: _padded(fit, frame.response)}
    return {name: fit.frame.series(fit.y, name)}


def _variables(fit: Fit) -> Iterator[tuple[str, Any]]:
    """Yield the variables of the formula with what they are made of, and the grouping factors."""
    data = None if fit.call.data is None else Columns(fit.call.data)
    for node in _nodes(fit):
        if not isinstance(node, Name):
            value = fit.frame.variables.get(node.text)
            if isinstance(value, np.ndarray | Factor):
                yield node.text, _padded(fit, value)
        for name in variable_names(node):
            if data is not None and name in data:
                yield name, data.own(name, fit.frame.padded_rows)
            elif Name(name).text in fit.frame.variables:  # an array of the caller's
                yield name, _padded(fit, fit.frame.variables[Name(name).text])
    for members in fit.groups.values():
        grouping = fit.terms[members[0]].grouping
        if len(grouping.nodes) > 1 or not isinstance(grouping.nodes[0], Name) or data is None:
            yield grouping.name, _padded(fit, Factor(grouping.codes, grouping.level_set))


def _nodes(fit: Fit) -> Iterator[Node]:
    """Yield response, predictors, parts of grouping factors and offsets of the formula."""
    frame, formula = fit.frame, fit.formula
    if formula.response is not None and _is_of_the_data(fit, formula.response):
        yield formula.response
    yield from frame.fixed_terms.variables
    yield from frame.fixed_terms.offsets
    for bar in formula.bars:
        yield from frame.bar_terms(bar).variables
        yield from group_factors(bar.group)


def _is_of_the_data(fit: Fit, response: Node) -> bool:
    """Tell whether the response is what the data gave, and not that of a refit."""
    value = fit.frame.variables[response.text]
    read = value.array if isinstance(value, Matrix) else value
    y = fit.frame.y
    return isinstance(read, np.ndarray) and y is not None and np.array_equal(read, y)


def _padded(fit: Fit, value: Any) -> Any:
    """Return values of the kept rows on all rows that results have."""
    places = np.nan_to_num(fit.frame.pad(np.arange(fit.frame.n, dtype=float)), nan=-1.0)
    own = value.own() if isinstance(value, Factor) else value
    return pd.api.extensions.take(own, places.astype(np.intp), allow_fill=True)
