"""Fitted values, residuals and predictions."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import pandas as pd

from mixef.errors import DataError, FormulaError
from mixef.estimation.fit import LMMFit
from mixef.terms.columns import Columns
from mixef.terms.fixed import design
from mixef.terms.formula import parse_formula
from mixef.terms.offsets import new_offset

NEW_LEVELS = ("error", "population", "missing")
RESIDUALS = ("response", "pearson", "deviance", "working")


def conditional_mean(fit: LMMFit) -> np.ndarray:
    """Return ``X beta + Z b + offset`` (n,) for the rows of the fit."""
    mean = fit.X @ fit.estimates.beta
    if fit.frame.offset is not None:
        mean = mean + fit.frame.offset
    for term, b in zip(fit.terms, fit.estimates.effects, strict=True):
        mean = mean + np.einsum("ns,ns->n", term.z, b[term.grouping.codes])
    return mean


def on_rows(fit: LMMFit, values: np.ndarray, name: str) -> pd.Series:
    """Label values (n,) by rows of the data; ``na_action="exclude"`` pads with NaN."""
    frame = fit.frame
    return pd.Series(frame.pad(values), index=frame.padded_index, name=name)


def fitted_values(fit: LMMFit) -> pd.Series:
    """Return the conditional means."""
    return on_rows(fit, conditional_mean(fit), "fitted")


def residuals(fit: LMMFit, type: str = "response", scaled: bool = False) -> pd.Series:
    """Return the residuals, conditional on the random effects.

    Parameters
    ----------
    type : {"response", "pearson", "deviance", "working"}
        ``y - mu``, or ``sqrt(w) (y - mu)`` for "pearson" and "deviance".
    scaled : bool
        Divide by sigma.
    """
    if type not in RESIDUALS:
        raise ValueError(f"type is {type!r}; expected one of {RESIDUALS}")
    rest = fit.frame.y - conditional_mean(fit)
    if type in ("pearson", "deviance") and fit.frame.weights is not None:
        rest = rest * np.sqrt(fit.frame.weights)
    return on_rows(fit, rest / fit.estimates.sigma if scaled else rest, "residuals")


def predictions(
    fit: LMMFit,
    newdata: Any = None,
    re_form: str | bool | None = None,
    new_levels: str = "error",
    env: Mapping[str, Any] | None = None,
) -> pd.Series:
    """Return predicted means.

    Parameters
    ----------
    newdata : DataFrame, optional
        The fit's own rows by default. A missing predictor gives NaN.
    re_form : str or False, optional
        Random effects to include: all by default, none for "~0" or False, or some, as in
        "~ (1 | Subject)".
    new_levels : {"error", "population", "missing"}
        What a level that the fit has not seen gets: an error, zero random effects, or NaN.
    """
    if new_levels not in NEW_LEVELS:
        raise ValueError(f"new_levels is {new_levels!r}; expected one of {NEW_LEVELS}")
    wanted = included_columns(fit, re_form)
    if newdata is None:
        mean = fit.X @ fit.estimates.beta
        if fit.frame.offset is not None:
            mean = mean + fit.frame.offset
        for t, use in wanted.items():
            b = fit.estimates.effects[t] * use
            term = fit.terms[t]
            mean = mean + np.einsum("ns,ns->n", term.z, b[term.grouping.codes])
        return on_rows(fit, mean, "predicted")
    columns = Columns(newdata)
    mean = fit.design.spec.apply(columns, env)[:, fit.kept] @ fit.estimates.beta
    offset = new_offset(fit.frame, fit.call.offset, columns, env)
    if offset is not None:
        mean = mean + offset
    for t, use in wanted.items():
        mean = mean + _random_part(fit, t, use, columns, new_levels, env)
    index = newdata.index if isinstance(newdata, pd.DataFrame) else pd.RangeIndex(columns.n)
    return pd.Series(mean, index=index, name="predicted")


def included_columns(fit: LMMFit, re_form: str | bool | None) -> dict[int, np.ndarray]:
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
