"""What `lmer` and `glmer` do with their arguments: keep the data, know their names, print steps."""

from __future__ import annotations

from collections import ChainMap
from collections.abc import Callable, Mapping
from dataclasses import replace
from os import PathLike, fspath
from types import FrameType
from typing import Any

import numpy as np

from mixef import checks
from mixef.control import Control, GlmerControl, LmerControl
from mixef.errors import FormulaError
from mixef.estimation.fit import Fit, fit_model
from mixef.estimation.search.optimize import Step
from mixef.estimation.spec import Kind, ModelCall, ModelSpec
from mixef.terms.columns import Columns
from mixef.terms.fixed import design
from mixef.terms.formula import Formula, parse_formula, update_formula
from mixef.terms.frame import ModelFrame, model_frame
from mixef.terms.needed import needed_names
from mixef.terms.random import random_terms
from mixef.terms.relation.frame import relation_frame
from mixef.terms.relation.relation import Relation, relation_of
from mixef.terms.sources import attributes, guarded, is_lazy


def model_call(data: Any, names: Mapping[str, Any], **arguments: Any) -> ModelCall:
    """Keep the arguments of a call, so that later changes by the caller do not reach them."""
    return ModelCall(data, _name_of(data, names), **_kept(arguments))


def updated_call(
    fit: Fit, formula: str | None, changes: dict[str, Any], names: Mapping[str, Any]
) -> tuple[str, ModelCall, Control, dict[str, Any]]:
    """Return formula, call and control of a changed model, and the changes that are left."""
    call, control = fit.call, changes.pop("control", fit.control)
    text = fit.formula.text
    if formula is not None:
        text = update_formula(text, checks.text(formula, "formula", "text, such as '. ~ . - x'"))
    if "optimizer" in changes:
        control = replace(control, optimizer=changes.pop("optimizer"))
    if "data" in changes:
        data = changes.pop("data")
        call = replace(call, data=data, data_name=_name_of(data, names), is_pruned=False)
    own = {name: changes.pop(name) for name in list(changes) if name in _CALL}
    return text, replace(call, **_kept(own)), control, changes


def _kept(arguments: dict[str, Any]) -> dict[str, Any]:
    """Return copies of arguments that text, or one value a row, may be."""
    if "contrasts" in arguments:
        arguments["contrasts"] = checked_contrasts(arguments["contrasts"])
    return {name: checks.copied(value, name) for name, value in arguments.items()}


_CALL = frozenset(ModelCall.__dataclass_fields__) - {"data", "data_name", "is_pruned"}


def with_data_read(formula: Formula, call: ModelCall) -> ModelCall:
    """Return the call with data that the caller's later changes do not reach.

    A lazy frame or a stream is collected: once, the columns that it needs.
    """
    needed = needed_names(formula, call.weights, call.offset, call.subset)
    if is_lazy(call.data):
        return replace(call, data=Columns(call.data, needed).data, is_pruned=True)
    return replace(call, data=guarded(call.data, needed))


def fit_of_call(
    formula: str,
    call: ModelCall,
    kind: Kind,
    control: Any,
    start: Any,
    verbose: Any,
    env: Mapping[str, Any],
) -> Fit:
    """Fit the model that a call asks for."""
    spec = spec_of_call(formula, call, kind, control, env)
    return fit_model(spec, start=start, trace=trace_of(verbose))


def spec_of_call(
    formula: str, call: ModelCall, kind: Kind, control: Any, env: Mapping[str, Any]
) -> ModelSpec:
    """Return the model that a call asks for, on its data."""
    check_control(control, kind.control_type)
    parsed = parse_formula(formula)
    relation = relation_of(call.data) if kind.takes_batches else None
    if relation is None:
        call = with_data_read(parsed, call)
    elif relation.is_path:
        call = replace(call, data=relation.source)  # which leads there from any folder
    frame = frame_of(parsed, call, env, relation)
    outcome = kind.outcome(frame)
    return ModelSpec(
        formula=parsed,
        frame=frame,
        design=design(frame.fixed_terms, frame, call.contrasts),
        terms=random_terms(frame, call.contrasts),
        kind=kind,
        control=control,
        call=call,
        outcome=outcome,
    )


def frame_of(
    formula: Formula, call: ModelCall, env: Mapping[str, Any], relation: Relation | None = None
) -> ModelFrame:
    """Evaluate the variables of a formula on the data of a call, or on what an engine holds."""
    arguments = {
        "weights": call.weights,
        "offset": call.offset,
        "subset": call.subset,
        "na_action": call.na_action,
        "env": env,
    }
    if relation is not None:
        return relation_frame(formula, relation, **arguments)
    try:
        return model_frame(formula, call.data, **arguments)
    except FormulaError as error:
        if not call.is_pruned:
            raise
        raise FormulaError(
            f"{error}; the fit holds only the columns that it used, since it comes from a pickle "
            "or its data were collected for it: to use others, give the data again, as in "
            "update(..., data=data)"
        ) from None


_DEFAULTS: dict[type, Control] = {kind: kind() for kind in (LmerControl, GlmerControl)}


def with_optimizer(control: Control | None, kind: type[Control], optimizer: str | None) -> Any:
    """Return the control, a default one for None, with the optimizer if one is named."""
    control = _DEFAULTS[kind] if control is None else control
    if optimizer is not None and isinstance(control, kind):
        return replace(control, optimizer=optimizer)
    return control


def check_control(control: Any, kind: type[Control]) -> None:
    """Refuse a control that is not one of this kind of model."""
    if not isinstance(control, kind):
        name = kind.__name__
        expected = f"an instance of {name}, such as {name}(optimizer='L-BFGS-B')"
        raise checks.refusal("control", control, expected)


def names_for(
    env: Any, caller: FrameType, known: Mapping[str, Any] | None = None
) -> Mapping[str, Any]:
    """Return the names that text may use beside columns: those given, else the caller's.

    After the caller's come those that the formula of a fit had found before.
    """
    if env is None:
        return ChainMap(caller.f_locals, caller.f_globals, dict(known or {}))
    if not isinstance(env, Mapping) or not all(isinstance(name, str) for name in env):
        expected = "a dict from names to what formulas may use by them, or {} for nothing"
        raise checks.refusal("env", env, expected)
    return env


def trace_of(verbose: Any) -> Callable[[Step], None] | None:
    """Return what prints the steps of a search, for a flag or a level above zero."""
    if not isinstance(verbose, bool | np.bool_):
        verbose = checks.whole(verbose, "verbose", 0)
    return print_step if verbose else None


def checked_contrasts(contrasts: Any) -> Any:
    """Return the contrasts by factor, or None."""
    expected = "a dict from factor to contrasts, such as {'f': 'sum'}"
    return None if contrasts is None else checks.mapping(contrasts, "contrasts", expected)


def print_step(step: Step) -> None:
    """Print one evaluation of the criterion."""
    par = " ".join(f"{value:.6g}" for value in step.par)
    slope = "" if np.isnan(step.max_gradient) else f"  max|grad| {step.max_gradient:.2e}"
    after = f"  pass {step.n_passes}" if step.n_passes else ""
    print(f"criterion {step.objective:.8g}{slope}{after}  par {par}")


def _name_of(data: Any, names: Mapping[str, Any]) -> str | None:
    """Return the name of the data: its path, the data set's own, or that of a variable."""
    if isinstance(data, str | PathLike):
        return fspath(data)
    name = attributes(data).get("name")
    if isinstance(name, str):
        return name
    near = names.maps[0] if isinstance(names, ChainMap) else names
    return next((k for k, v in near.items() if v is data and data is not None), None)
