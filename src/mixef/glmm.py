"""Generalized linear mixed models by `glmer` and `glmer_nb`."""

from __future__ import annotations

import sys
from dataclasses import replace
from typing import Any

from mixef.arguments import model_call, names_in, print_step, refuse_unknown, updated_call
from mixef.control import GlmerControl
from mixef.estimation.generalized_fit import fit_glmm
from mixef.families.convert import make_family
from mixef.families.family import Family
from mixef.families.standard import NegativeBinomial
from mixef.mixedmodel import MixedModel
from mixef.terms.fixed import design
from mixef.terms.formula import parse_formula
from mixef.terms.frame import model_frame
from mixef.terms.outcome import outcome
from mixef.terms.random import random_terms


def glmer(
    formula: str,
    data: Any = None,
    family: Any = None,
    nAGQ: int = 1,
    *,
    weights: Any = None,
    offset: Any = None,
    subset: Any = None,
    na_action: str = "omit",
    contrasts: dict[str, Any] | None = None,
    start: Any = None,
    control: GlmerControl | None = None,
    optimizer: str | None = None,
    verbose: int = 0,
) -> GeneralizedLinearMixedModel:
    """Fit a generalized linear mixed model."""
    caller = sys._getframe(1)
    call = model_call(
        data,
        caller,
        weights=weights,
        offset=offset,
        subset=subset,
        na_action=na_action,
        contrasts=contrasts,
    )
    control = GlmerControl() if control is None else control
    if optimizer is not None:
        control = replace(control, optimizer=optimizer)
    return _fit(formula, call, family, nAGQ, control, start, verbose, names_in(caller))


def _fit(formula, call, family, nAGQ, control, start, verbose, env):
    family = make_family(family)
    parsed = parse_formula(formula)
    frame = model_frame(
        parsed,
        call.data,
        weights=call.weights,
        offset=call.offset,
        subset=call.subset,
        na_action=call.na_action,
        env=env,
    )
    response = outcome(frame, family)
    X = design(frame.fixed_terms, frame, call.contrasts)
    terms = random_terms(frame, call.contrasts)
    fit = fit_glmm(
        parsed,
        frame,
        X,
        terms,
        family,
        response,
        nAGQ,
        control,
        call=call,
        start=start,
        trace=print_step if verbose else None,
    )
    return GeneralizedLinearMixedModel(fit)


class GeneralizedLinearMixedModel(MixedModel):
    """A fitted generalized linear mixed model, made by `glmer`."""
