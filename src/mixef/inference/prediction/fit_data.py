"""The variables of a fit by name, as the data hold them, on its rows."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Any

import numpy as np

from mixef.estimation.fit import Fit
from mixef.terms.exact import Exact
from mixef.terms.factor import Factor, factor_from_numbers
from mixef.terms.nodes import Name, Node, variable_names
from mixef.terms.parser import parse_argument


def fit_data(fit: Fit) -> dict[str, np.ndarray | Factor | Exact]:
    """Return the variables of the formula, weights and offset by name, on the rows of the fit."""
    frame = fit.frame
    columns = fit.columns
    out: dict[str, Any] = {}
    for name in names_in(nodes_of(fit)):
        if columns is not None and name in columns:
            column: Any = columns[name]
            is_array = isinstance(column, np.ndarray)
            out[name] = column[frame.rows] if is_array else column.take(frame.rows)
        elif (text := Name(name).text) in frame.variables:  # an array of the caller's
            out[name] = frame.variables[text]
    # What the formula takes for a factor is one, numbers of ``factor(x)`` and ids too.
    factors = frame.groups | {
        names_in([node])[0]: frame.variables[node.text]
        for node in frame.fixed_terms.variables
        if len(names_in([node])) == 1
    }
    for name, factor in factors.items():
        if name in out and isinstance(factor, Factor) and _has_levels(out[name], factor):
            out[name] = factor
    return out


def nodes_of(fit: Fit) -> Iterator[Node]:
    """Yield what the formula, the weights and the offset of a fit are made of."""
    frame, call = fit.frame, fit.call
    yield from (*frame.fixed_terms.variables, *frame.fixed_terms.offsets)
    for bar in fit.formula.bars:
        yield from (*frame.bar_terms(bar).variables, bar.group)
    if fit.formula.response is not None:
        yield fit.formula.response
    offsets = call.offset if isinstance(call.offset, list | tuple) else [call.offset]
    for given in (call.weights, *offsets):
        if isinstance(given, str):
            yield parse_argument(given, fit.columns or ())


def _has_levels(values: Any, factor: Factor) -> bool:
    """Tell whether numbers are the labels of a factor, as those of ``factor(x)`` are."""
    if isinstance(values, Factor) or factor.kind != "factor":
        return isinstance(values, Factor)
    own = values.factor() if isinstance(values, Exact) else factor_from_numbers(values)
    return set(own.used_levels().levels) == set(factor.used_levels().levels)


def names_in(nodes: Iterable[Node]) -> list[str]:
    """Return the names in some expressions, each once."""
    return list(dict.fromkeys(name for node in nodes for name in variable_names(node)))
