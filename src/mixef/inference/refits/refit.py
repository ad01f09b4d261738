"""Fits of changed models from a frozen fit: nothing of the caller's is read again."""

from __future__ import annotations

from dataclasses import fields, replace
from typing import Any

import numpy as np

from mixef.errors import FormulaError
from mixef.estimation.fit import LMMFit, fit_lmm
from mixef.estimation.generalized_fit import GLMMFit, fit_glmm
from mixef.inference.observations import AnyFit
from mixef.terms.fixed import design
from mixef.terms.formula import parse_formula, update_formula
from mixef.terms.frame import ModelFrame
from mixef.terms.outcome import outcome
from mixef.terms.random import random_terms


def quiet(control: Any) -> Any:
    """Return the control with every check that only warns passed over."""
    checks = [field.name for field in fields(control) if field.name.startswith("check_")]
    loud = [name for name in checks if getattr(control, name) == "warn"]
    return replace(control, **dict.fromkeys(loud, "ignore"))


def warm_start(fit: AnyFit) -> dict[str, Any]:
    """Return the estimates, as a start for the same model on another response."""
    start: dict[str, Any] = {"par": fit.estimates.par}
    if isinstance(fit, GLMMFit):
        start["beta"] = fit.estimates.beta
        if fit.family.extra is not None:
            start[fit.family.extra] = fit.estimates.extra
    return start


def with_frame(fit: AnyFit, frame: ModelFrame, *, start: Any = None, control: Any = None) -> AnyFit:
    """Fit the same terms to a frame of the same rows with another response."""
    control = fit.control if control is None else control
    if isinstance(fit, LMMFit):
        return fit_lmm(fit.formula, frame, fit.design, fit.terms, fit.REML, control,
                       call=fit.call, start=start)  # fmt: skip
    response = replace(outcome(frame, fit.family), modelled=fit.outcome.modelled)
    return fit_glmm(fit.formula, frame, fit.design, fit.terms, fit.family, response, fit.nAGQ,
                    control, call=fit.call, start=start)  # fmt: skip


def with_REML(fit: LMMFit, REML: bool) -> LMMFit:
    """Return the fit by restricted or plain maximum likelihood; itself if it is that."""
    if fit.REML == REML:
        return fit
    return fit_lmm(fit.formula, fit.frame, fit.design, fit.terms, REML, fit.control, call=fit.call)


def by_ml(fit: AnyFit) -> Any:
    """Return the maximum-likelihood fit of a model, without the warnings that it gave before."""
    if not isinstance(fit, LMMFit) or not fit.REML:
        return fit
    return with_REML(replace(fit, control=quiet(fit.control)), False)


def with_formula(fit: AnyFit, change: str, control: Any = None) -> AnyFit:
    """Fit a smaller model, such as ``". ~ . - x"``, to the same rows.

    Variables are those that the fit evaluated, so rows that a dropped variable had missing stay
    out, and likelihoods compare.

    Raises
    ------
    FormulaError
        If the new formula needs a variable that the fit has not evaluated.
    """
    formula = parse_formula(update_formula(fit.formula.text, change))
    frame = replace(fit.frame, formula=formula)
    parts = [frame.fixed_terms, *(frame.bar_terms(bar) for bar in formula.bars)]
    unknown = [v.text for part in parts for v in part.variables if v.text not in frame.variables]
    if unknown:
        raise FormulaError(
            f"{formula.text} needs {unknown[0]}, which the fit has not evaluated; fit it as a "
            "model of its own"
        )
    contrasts = fit.call.contrasts
    X, terms = design(frame.fixed_terms, frame, contrasts), random_terms(frame, contrasts)
    control = fit.control if control is None else control
    if isinstance(fit, LMMFit):
        return fit_lmm(formula, frame, X, terms, fit.REML, control, call=fit.call)
    return fit_glmm(formula, frame, X, terms, fit.family, fit.outcome, fit.nAGQ, control,
                    call=fit.call)  # fmt: skip


def response_frame(fit: LMMFit, y: np.ndarray) -> ModelFrame:
    """Return the frame of a linear fit with another response (n,)."""
    return replace(fit.frame, y=y, response=y)
