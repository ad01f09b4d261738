"""Fits of smaller models to the rows of a fit."""

from __future__ import annotations

from dataclasses import replace

from mixef.control import Control
from mixef.errors import FormulaError
from mixef.estimation.fit import Fit
from mixef.terms.fixed import design
from mixef.terms.formula import parse_formula, update_formula
from mixef.terms.random import random_terms


def with_formula(fit: Fit, change: str, control: Control | None = None) -> Fit:
    """Fit a smaller model, such as ``". ~ . - x"``, to the same rows.

    Variables are those that the fit evaluated, so rows that a dropped variable had missing stay
    out, and likelihoods compare.
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
    return fit.again(
        formula=formula,
        frame=frame,
        design=design(frame.fixed_terms, frame, contrasts),
        terms=random_terms(frame, contrasts),
        control=fit.control if control is None else control,
    )
