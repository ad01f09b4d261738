"""Factors over the rows of a fit that an argument means, by name or by labels."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pandas as pd

from mixef import checks
from mixef.errors import ArgumentError, DataError
from mixef.estimation.fit import Fit
from mixef.inference.refits.other_rows import grouping_factors
from mixef.terms.columns import Columns
from mixef.terms.convert import read
from mixef.terms.expressions import Scope, State
from mixef.terms.factor import Factor, cross
from mixef.terms.needed import group_factors, needed_by
from mixef.terms.nodes import Name, Node, unquoted
from mixef.terms.parser import parse_argument
from mixef.terms.values import as_factor


def named_factor(fit: Fit, text: str, argument: str) -> Factor:
    """Return a grouping factor of the model by its name, or variables of the data, crossed.

    Raises
    ------
    DataError
        For a name that is not there; it names the argument.
    """
    for name, grouping in grouping_factors(fit.terms).items():
        if unquoted(name) == unquoted(text):
            return Factor(grouping.codes, grouping.level_set)
    columns = fit.columns
    nodes = group_factors(parse_argument(text, columns or (), argument))
    factors = [_variable(fit, node, columns, argument) for node in nodes]
    return factors[0] if len(factors) == 1 else cross(factors)


def _variable(fit: Fit, node: Node, columns: Columns | None, argument: str) -> Factor:
    """Return one variable on the rows of the fit, as the model has it or as the data do."""
    if node.text in fit.frame.groups:
        return fit.frame.groups[node.text]
    names = [part.name for part in node.walk() if isinstance(part, Name)]
    if columns is not None and names and all(name in columns for name in names):
        scope = Scope(columns, State(outside=fit.frame.state.outside))
        return scope.group(node).take(fit.frame.rows)
    if node.text in fit.frame.variables:  # an array of the caller's
        return as_factor(fit.frame.variables[node.text])
    known = [*grouping_factors(fit.terms), *(() if columns is None else columns.names)]
    lost = "; a pickle keeps only columns that the fit used" if fit.call.is_pruned else ""
    raise DataError(
        f"{argument} names {node.text!r}, which is no grouping factor of the model and no column "
        f"of the data{lost}; there are {', '.join(dict.fromkeys(known))}"
    )


def with_columns(fit: Fit, text: str) -> Fit:
    """Return a fit whose pieces have the columns that a factor of rows in an engine is made of."""
    frame: Any = fit.frame  # which knows its table
    names = needed_by(text)
    reading = frame.reading(names, fit.call.data)
    return fit if reading is frame else replace(fit, spec=replace(fit.spec, frame=reading))


def labelled_factor(fit: Fit, labels: Any, argument: str, expected: str) -> Factor:
    """Return labels of the rows as a factor; a Series goes by its own labels.

    Raises
    ------
    ArgumentError
        For what is no sequence of labels, one for each row of the fit or of its data.
    """
    frame = fit.frame
    if checks.ndim(labels) != 1:
        raise checks.refusal(argument, labels, expected)
    by_label = isinstance(labels, pd.Series)
    factor = as_factor(read(frame.used(labels, argument) if by_label else labels, argument))
    if len(factor) == frame.n:
        return factor
    places = {  # with the rows that were left out?
        frame.n_input: frame.rows,
        len(frame.padded_rows): np.searchsorted(frame.padded_rows, frame.rows),
    }
    if len(factor) not in places:
        raise ArgumentError(
            f"{argument} has {len(factor)} labels; expected {frame.n}, one for each row that the "
            "fit used"
        )
    return factor.take(places[len(factor)])
