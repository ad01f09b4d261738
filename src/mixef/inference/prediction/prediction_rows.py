"""The rows that predictions are asked for: the fit's own, or those of new data."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd

from mixef import checks
from mixef.errors import DataError, FormulaError
from mixef.estimation.fit import Fit
from mixef.terms.algebra import expand_terms
from mixef.terms.columns import Columns
from mixef.terms.expressions import Scope
from mixef.terms.fixed import design
from mixef.terms.formula import parse_formula
from mixef.terms.frame import new_offset
from mixef.terms.needed import needed_names
from mixef.terms.nodes import Node, variable_names
from mixef.terms.parser import parse_argument
from mixef.terms.rows import per_row
from mixef.terms.values import Matrix


@dataclass(frozen=True)
class TermRows:
    """One random-effects term on the rows."""

    z: np.ndarray  # (m, s): raw columns, zero where they are left out
    codes: np.ndarray  # (m,) of int: levels that the fit knows; -1 for others
    missing: np.ndarray  # (m,) of bool: rows whose prediction is missing for want of a level


@dataclass(frozen=True)
class PredictionRows:
    """The rows to predict."""

    X: np.ndarray  # (m, p): columns of the estimated coefficients
    offset: np.ndarray | None  # (m,)
    terms: dict[int, TermRows]  # The terms that take part, by their positions
    # each (s,): the columns of those terms that are included, as 0 and 1
    included: dict[int, np.ndarray]
    index: pd.Index
    columns: Columns | None  # New data; None for the fit's own rows
    env: Mapping[str, Any] | None  # The caller's names

    def raw_columns(self, fit: Fit, t: int) -> np.ndarray:
        """Return all raw columns (m, s) of term t, included or not."""
        term = fit.terms[t]
        return term.z if self.columns is None else term.design.spec.apply(self.columns, self.env)

    def weights(self, fit: Fit) -> np.ndarray | None:
        """Return the prior weights of a response in these rows (m,), None for ones.

        For a binomial response they are its trials. New data have them where the fit's weights
        are text, or its response is ``cbind(a, b)``, of columns that are there.
        """
        if self.columns is None:
            return fit.weights
        scope, out = Scope(self.columns, fit.frame.state, self.env), None
        text = fit.call.weights
        if isinstance(text, str) and has_names(self.columns, text):
            out = per_row(text, "weights", scope)
        trials = trials_in(fit.formula.response, self.columns, scope) if fit.is_counted else None
        if trials is not None:
            out = trials if out is None else out * trials
        if out is not None and (out < 0).any():
            row = int(np.argmax(out < 0))
            raise DataError(
                f"the weights of newdata have the value {out[row]:g} in row {row} (rows counted "
                "from 0); expected numbers, 0 or more: correct them, or drop the column"
            )
        return out


def prediction_rows(
    fit: Fit,
    newdata: Any,
    re_form: str | bool | None,
    new_levels: str,
    env: Mapping[str, Any] | None,
) -> PredictionRows:
    """Return the rows of new data, or the fit's own for None."""
    included = included_columns(fit, re_form)
    if newdata is None:
        frame, never = fit.frame, np.zeros(fit.frame.n, dtype=bool)
        own = {
            t: TermRows(fit.terms[t].z * use, fit.terms[t].grouping.codes, never)
            for t, use in included.items()
        }
        return PredictionRows(fit.X, frame.offset, own, included, frame.index, None, env)
    needed = needed_names(fit.formula, fit.call.weights, fit.call.offset)
    columns = newdata if isinstance(newdata, Columns) else Columns(newdata, needed)
    X = fit.design.spec.apply(columns, env)[:, fit.kept]
    offset = new_offset(fit.frame, fit.call.offset, columns, env)
    terms = {t: _new_rows(fit, t, use, columns, new_levels, env) for t, use in included.items()}
    index = newdata.index if isinstance(newdata, pd.DataFrame) else pd.RangeIndex(columns.n)
    return PredictionRows(X, offset, terms, included, index, columns, env)


def predictor(fit: Fit, rows: PredictionRows) -> np.ndarray:
    """Return the linear predictor (m,), NaN where it is missing."""
    eta = rows.X @ fit.estimates.beta
    if rows.offset is not None:
        eta = eta + rows.offset
    for t, term in rows.terms.items():
        known = term.codes >= 0
        b = np.zeros_like(term.z)
        b[known] = fit.estimates.effects[t][term.codes[known]]
        part = np.einsum("ns,ns->n", term.z, b)
        part[term.missing] = np.nan
        eta = eta + part
    return eta


def included_columns(fit: Fit, re_form: str | bool | None) -> dict[int, np.ndarray]:
    """Return which columns (s,) of which terms ``re_form`` includes, as 0 and 1."""
    if re_form is None or re_form is True:
        return {t: np.ones(len(term.columns)) for t, term in enumerate(fit.terms)}
    is_NA = isinstance(re_form, float) and np.isnan(re_form)
    if re_form is False or is_NA or (isinstance(re_form, str) and re_form.replace(" ", "") == "~0"):
        return {}
    expected = "None, False or text such as '~ (1|g)': use '~0' for none"
    try:
        formula = parse_formula(checks.text(re_form, "re_form", expected))
    except FormulaError as error:
        raise FormulaError(f"re_form is no formula; expected {expected}: {error}") from None
    if formula.response is not None:
        raise FormulaError(
            f"re_form {re_form!r} has the response {formula.response.text}; expected {expected}"
        )
    fixed = expand_terms(formula.fixed, ()).labels
    if fixed:
        raise FormulaError(
            f"re_form {re_form!r} has {fixed[0]}, which is no random-effects term; expected "
            f"{expected}"
        )
    out: dict[int, np.ndarray] = {}
    for bar in formula.bars:
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


def _new_rows(fit, t, use, columns, new_levels, env) -> TermRows:
    """Return term t on the rows of new data."""
    term = fit.terms[t]
    groups = term.grouping.spec.codes(columns, env)
    if groups.new_levels and new_levels == "error":
        shown = ", ".join(dict.fromkeys(groups.new_levels[:5]))
        raise DataError(
            f"new levels detected in newdata: {shown} of {term.group}; set "
            "new_levels='population' for zero random effects, or 'missing' for NaN"
        )
    missing = (groups.codes < 0) & (new_levels == "missing")
    # A column that is left out may be missing.
    z = np.where(use > 0, term.design.spec.apply(columns, env), 0.0)
    return TermRows(z, groups.codes, missing)


def trials_in(response: Node | None, columns: Columns, scope: Scope) -> np.ndarray | None:
    """Return the trials (m,) of a ``cbind`` response in new data, None without its columns."""
    if response is None or not has_names(columns, response.text):
        return None
    counts = scope.variable(response)
    return counts.array.sum(axis=1) if isinstance(counts, Matrix) else None


def has_names(columns: Columns, text: str) -> bool:
    """Tell whether the data have all that an expression names."""
    return set(variable_names(parse_argument(text, columns))) <= set(columns.names)
