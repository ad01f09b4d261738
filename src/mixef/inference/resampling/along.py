"""The model of a fit on more or fewer values of a predictor, as of later or earlier times."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np

from mixef import checks
from mixef.errors import ArgumentError, FormulaError
from mixef.estimation.fit import Fit
from mixef.estimation.spec import ModelSpec
from mixef.inference.prediction.fit_data import fit_data, names_in, nodes_of
from mixef.inference.refits.other_rows import on_rows
from mixef.terms.columns import Columns
from mixef.terms.exact import Exact
from mixef.terms.expressions import Scope
from mixef.terms.factor import Factor
from mixef.terms.nodes import variable_names


def checked_variable(fit: Fit, name: Any) -> str:
    """Return the name of a numeric predictor with several values."""
    data, known = fit_data(fit), names_in(fit.frame.fixed_terms.variables)
    numeric = [n for n in known if n in data and not isinstance(data[n], Factor)]
    name = checks.text(name, "along", f"a numeric predictor: {', '.join(numeric)}")
    if name not in numeric:
        raise ArgumentError(
            f"along names {name!r}, which is no numeric predictor of the fit; it has "
            f"{', '.join(numeric) or 'none'}"
        )
    if name in names_in(fit.frame.fixed_terms.offsets) or np.ptp(_numbers(data[name])) == 0:
        raise ArgumentError(f"along names {name!r}, which is an offset, or has one value only")
    return name


def with_values(fit: Fit, name: str, count: int) -> ModelSpec:
    """Return the model of a fit on so many values of a predictor.

    Of fewer they are the first. More go on in steps of the mean distance, and have copies of the
    rows with the last value.
    """
    data = fit_data(fit)
    x = _numbers(data[name])
    values = np.unique(x)
    step = (values[-1] - values[0]) / (len(values) - 1)
    more = max(count - len(values), 0)
    rows = np.flatnonzero(x <= values[min(count, len(values)) - 1])
    last = np.flatnonzero(x == values[-1])
    taken = np.concatenate([rows, *[last] * more])
    new = np.concatenate(
        [x[rows], np.repeat(values[-1] + step * np.arange(1, more + 1), len(last))]
    )
    columns = Columns({key: _taken(value, taken) for key, value in data.items()} | {name: new})
    spec, scope = on_rows(fit.spec, taken), Scope(columns, fit.frame.state, None)
    try:
        moved = {
            node.text: scope.variable(node)
            for node in nodes_of(fit)
            if name in variable_names(node) and node.text in spec.frame.variables
        }
        designs = [d.spec.apply(columns, None) for d in (spec.design, *_designs(spec))]
    except FormulaError as error:
        raise FormulaError(
            f"along={name!r} evaluates the formula on new values, which it cannot: {error}"
        ) from None
    X, *zs = (np.asfortranarray(matrix) for matrix in designs)
    terms = tuple(
        replace(term, design=term.design.with_matrix(z))
        for term, z in zip(spec.terms, zs, strict=True)
    )
    frame = replace(spec.frame, variables=spec.frame.variables | moved)
    return replace(spec, frame=frame, design=spec.design.with_matrix(X), terms=terms)


def _designs(spec: ModelSpec) -> list[Any]:
    return [term.design for term in spec.terms]


def _numbers(values: Any) -> np.ndarray:
    return values.as_float() if isinstance(values, Exact) else np.asarray(values, dtype=float)


def _taken(values: Any, rows: np.ndarray) -> Any:
    return values[rows] if isinstance(values, np.ndarray) else values.take(rows)
