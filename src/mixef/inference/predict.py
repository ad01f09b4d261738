"""Fitted values and predictions."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import pandas as pd

from mixef.errors import DataError, FormulaError
from mixef.inference.observations import (
    AnyFit,
    conditional_mean,
    fixed_predictor,
    mean_at,
    on_rows,
)
from mixef.terms.columns import Columns
from mixef.terms.fixed import design
from mixef.terms.formula import parse_formula
from mixef.terms.offsets import new_offset

NEW_LEVELS = ("error", "population", "missing")
SCALES = ("response", "link")


def fitted_values(fit: AnyFit) -> pd.Series:
    """Return the conditional means."""
    return on_rows(fit, conditional_mean(fit), "fitted")


def predictions(
    fit: AnyFit,
    newdata: Any = None,
    re_form: str | bool | None = None,
    new_levels: str = "error",
    env: Mapping[str, Any] | None = None,
    type: str = "response",
) -> pd.Series:
    """Return predicted means or linear predictors.

    Parameters
    ----------
    newdata : DataFrame, optional
        The fit's own rows by default. A missing predictor gives NaN.
    re_form : str or False, optional
        Random effects to include: all by default, none for "~0" or False, or some, as in
        "~ (1 | Subject)".
    new_levels : {"error", "population", "missing"}
        What a level that the fit has not seen gets: an error, zero random effects, or NaN.
    type : {"response", "link"}
        The mean, or the linear predictor.
    """
    if type not in SCALES:
        raise ValueError(f"type is {type!r}; expected 'response' or 'link'")
    if new_levels not in NEW_LEVELS:
        raise ValueError(f"new_levels is {new_levels!r}; expected one of {NEW_LEVELS}")
    wanted = included_columns(fit, re_form)
    if newdata is None:
        eta = fixed_predictor(fit)
        for t, use in wanted.items():
            b = fit.estimates.effects[t] * use
            term = fit.terms[t]
            eta = eta + np.einsum("ns,ns->n", term.z, b[term.grouping.codes])
        return on_rows(fit, mean_at(fit, eta) if type == "response" else eta, "predicted")
    columns = Columns(newdata)
    eta = fit.design.spec.apply(columns, env)[:, fit.kept] @ fit.estimates.beta
    offset = new_offset(fit.frame, fit.call.offset, columns, env)
    if offset is not None:
        eta = eta + offset
    for t, use in wanted.items():
        eta = eta + _random_part(fit, t, use, columns, new_levels, env)
    index = newdata.index if isinstance(newdata, pd.DataFrame) else pd.RangeIndex(columns.n)
    values = mean_at(fit, eta) if type == "response" else eta
    return pd.Series(values, index=index, name="predicted")


def included_columns(fit: AnyFit, re_form: str | bool | None) -> dict[int, np.ndarray]:
    """Return which columns (s,) of which terms ``re_form`` includes, as 0 and 1."""
    if re_form is None or re_form is True:
        return {t: np.ones(len(term.columns)) for t, term in enumerate(fit.terms)}
    if re_form is False or not isinstance(re_form, str) or re_form.replace(" ", "") == "~0":
        if isinstance(re_form, (str, bool)) or re_form != re_form:  # NaN stands for R's NA
            return {}
        raise FormulaError(
            f"re_form is {re_form!r}; expected None, False or text such as '~ (1|g)'"
        )
    out: dict[int, np.ndarray] = {}
    for bar in parse_formula(re_form).bars:
        members = fit.groups.get(bar.name)
        if members is None:
            raise FormulaError(
                f"re_form has ({bar.text}), but the fit has no grouping factor {bar.name}; "
                f"it has {', '.join(fit.groups)}"
            )
        effects = fit.frame.bar_terms(bar)
        unknown = [v.text for v in effects.variables if v.text not in fit.frame.variables]
        if unknown:
            raise FormulaError(
                f"re_form has ({bar.text}), but the fit has no random effect of {unknown[0]} for "
                f"{bar.name}"
            )
        names = design(effects, fit.frame, fit.call.contrasts).names
        for name in names:
            holders = [t for t in members if name in fit.terms[t].columns]
            if not holders:
                raise FormulaError(
                    f"re_form has ({bar.text}), but the fit has no random effect {name} for "
                    f"{bar.name}"
                )
            for t in holders:
                use = out.setdefault(t, np.zeros(len(fit.terms[t].columns)))
                use[fit.terms[t].columns.index(name)] = 1.0
    if not out:
        raise FormulaError(f"re_form {re_form!r} has no random-effects term; use '~0' for none")
    return out


def _random_part(fit, t, use, columns, new_levels, env):
    """Return ``z b`` (m,) of term t for new data."""
    term = fit.terms[t]
    groups = term.grouping.spec.codes(columns, env)
    if len(groups.new_levels) and new_levels == "error":
        shown = ", ".join(map(str, groups.new_levels[:5]))
        raise DataError(
            f"new levels detected in newdata: {shown} of {term.group}; set "
            "new_levels='population' for zero random effects, or 'missing' for NaN"
        )
    z = term.design.spec.apply(columns, env)
    known = groups.codes >= 0
    b = np.zeros_like(z)
    b[known] = (fit.estimates.effects[t] * use)[groups.codes[known]]
    part = np.einsum("ns,ns->n", z, b)
    missing = ~known & (groups.new_codes < 0)
    if new_levels == "missing":
        missing |= ~known
    part[missing] = np.nan
    return part
