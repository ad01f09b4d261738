"""One row an observation, after broom: the data with what a fit says of them."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd

from mixef import checks
from mixef.errors import ExactFactorNeededError
from mixef.estimation.fit import Fit
from mixef.inference.influence.leverage import leverages
from mixef.inference.lazy_rows import table_with
from mixef.inference.prediction.predict import NEW_LEVELS, SCALES, predictions
from mixef.inference.residuals import RESIDUALS, residual_values
from mixef.inference.tables.new_residuals import new_residuals
from mixef.late import LateModule
from mixef.terms.columns import Columns
from mixef.terms.factor import Factor
from mixef.terms.frame import new_offset
from mixef.terms.needed import group_factors
from mixef.terms.nodes import Name, Node, variable_names
from mixef.terms.relation.parquet import target_of, write_parquet
from mixef.terms.values import Matrix

if TYPE_CHECKING:
    import pyarrow as pa
else:
    pa = LateModule("pyarrow")


def augment(
    fit: Fit,
    newdata: Any = None,
    type_predict: str = "link",
    type_residuals: str | None = None,
    se_fit: bool = False,
    new_levels: str = "error",
    env: Mapping[str, Any] | None = None,
    path: Any = None,
    overwrite: bool = False,
) -> Any:
    """Return the data with fitted values, residuals and the like; see the method of a model."""
    target = None if path is None else target_of(path, overwrite)
    if target is None:
        checks.refuse_unread(checks.flag(overwrite, "overwrite"), "overwrite", False, "path=")
    type_predict = checks.option(type_predict, "type_predict", SCALES)
    new_levels = checks.option(new_levels, "new_levels", NEW_LEVELS)
    usual = "response" if fit.is_linear else "deviance"
    type_residuals = checks.option(
        usual if type_residuals is None else type_residuals, "type_residuals", RESIDUALS
    )
    se_fit = checks.flag(se_fit, "se_fit")
    if newdata is None and not fit.frame.in_memory:
        values = partial(_numbers, type_predict=type_predict, type_residuals=type_residuals,
                         se_fit=se_fit)  # fmt: skip
        made = table_with(fit, values, _names(fit, se_fit), joint=True)
        return made.native() if target is None else _written(target, made.schema, made.batches())
    if newdata is None:
        frame = _own_rows(fit, type_predict, type_residuals, se_fit)
    else:
        frame = _new_rows(fit, newdata, type_predict, type_residuals, se_fit, new_levels, env)
    if target is None:
        return frame
    table = pa.Table.from_pandas(frame)
    return _written(target, table.schema, table.to_batches())


def _written(target: Path, schema: Any, batches: Any) -> str:
    """Write a file, and return its path."""
    write_parquet(target, schema, batches)
    return str(target)


def _names(fit: Fit, se_fit: bool) -> list[str]:
    """Name the columns of numbers."""
    is_whole = fit.frame.in_memory and fit.whole is None
    by_rows = [".hat", ".cooksd"] if fit.is_linear or is_whole else []
    errors = [".se_fit"] if se_fit else []
    rest = [".fixed", ".mu", ".weights", ".offset", ".wtres"]
    return [".fitted", *errors, ".resid", *by_rows, *rest]


def _own_rows(fit: Fit, type_predict: str, type_residuals: str, se_fit: bool) -> pd.DataFrame:
    """Return all variables of a fit, with what it says of its own rows."""
    columns = _response(fit) | {k: v for k, v in _variables(fit) if k not in _response(fit)}
    columns |= dict(_numbers(fit, type_predict, type_residuals, se_fit).items())
    return pd.DataFrame(columns, index=fit.frame.padded_index)


def _numbers(fit: Fit, type_predict: str, type_residuals: str, se_fit: bool) -> pd.DataFrame:
    """Return what a fit says of its own rows."""
    frame, on_link = fit.frame, type_predict == "link"
    ones, zeros, inverse = np.ones(frame.n), np.zeros(frame.n), fit.family.link.inverse
    values = {".fitted": fit.eta if on_link else fit.mu}
    if se_fit:
        errors = predictions(fit, type=type_predict, se_fit=True)["se_fit"]
        values[".se_fit"] = np.asarray(frame.used(errors, "the standard errors"))
    values[".resid"] = residual_values(fit, type_residuals)
    names = _names(fit, se_fit)
    if ".hat" in names:
        values |= _influence(fit)
    values[".fixed"] = fit.fixed_predictor if on_link else inverse(fit.fixed_predictor)
    values[".mu"] = fit.mu
    values[".weights"] = ones if fit.weights is None else fit.weights
    values[".offset"] = zeros if frame.offset is None else frame.offset
    values[".wtres"] = residual_values(fit, "pearson")
    columns = {name: frame.series(values[name], name) for name in names}
    return pd.DataFrame(columns, index=frame.padded_index)


def _influence(fit: Fit) -> dict[str, np.ndarray]:
    """Return hat values and Cook's distances, NaN where they would take an exact factor."""
    try:
        influence = leverages(fit)
    except ExactFactorNeededError:
        return dict.fromkeys((".hat", ".cooksd"), np.full(fit.frame.n, np.nan))
    return {".hat": influence.h, ".cooksd": influence.cooks_distance()}


def _new_rows(
    fit: Fit, newdata: Any, type_predict: str, type_residuals: str, se_fit: bool, new_levels: str,
    env: Mapping[str, Any] | None,
) -> pd.DataFrame:  # fmt: skip
    """Return all columns of new data, with what the fit says of their rows."""
    data = Columns(newdata)
    # What is lazy, or a stream, has been read.
    rows = newdata if isinstance(newdata, pd.DataFrame) else data.data

    def predicted(re_form: Any = None, type: str = type_predict, se: bool = False) -> Any:
        """Return predictions for the rows, with standard errors if asked for."""
        return predictions(fit, rows, re_form, new_levels, env, type, se_fit=se)

    if se_fit:
        both = predicted(se=True)
        values = {".fitted": both["fit"], ".se_fit": both["se_fit"]}
    else:
        values = {".fitted": predicted()}
    eta, mu = predicted(type="link"), predicted(type="response")
    rest = new_residuals(fit, data, np.asarray(eta), np.asarray(mu), type_residuals, env)
    values |= {} if rest is None else {".resid": rest}
    values |= {".fixed": predicted("~0"), ".mu": mu}
    offset = new_offset(fit.frame, fit.call.offset, data, env)
    values[".offset"] = np.zeros(data.n) if offset is None else offset
    if isinstance(rows, pd.DataFrame):
        own = rows.copy()
    else:
        own = pd.DataFrame({name: data.own(name, np.arange(data.n)) for name in data.names})
    return own.assign(**{name: np.asarray(part) for name, part in values.items()})


def _response(fit: Fit) -> dict[str, Any]:
    """Return the response by its name: labels of a factor, or the numbers that were modelled."""
    node, frame = fit.formula.response, fit.frame
    assert node is not None
    name = node.name if isinstance(node, Name) else node.text
    if isinstance(frame.response, Factor):
        return {name: _padded(fit, frame.response)}
    return {name: fit.frame.series(fit.y, name)}


def _variables(fit: Fit) -> Iterator[tuple[str, Any]]:
    """Yield the variables of the formula with what they are made of, and the grouping factors."""
    data = fit.columns
    for node in _nodes(fit):
        if not isinstance(node, Name):
            value = fit.frame.variables.get(node.text)
            if isinstance(value, np.ndarray | Factor):
                yield node.text, _padded(fit, value)
        for name in variable_names(node):
            if data is not None and name in data:
                yield name, data.own(name, fit.frame.padded_rows)
            elif Name(name).text in fit.frame.variables:  # an array of the caller's
                yield name, _padded(fit, fit.frame.variables[Name(name).text])
    for members in fit.groups.values():
        grouping = fit.terms[members[0]].grouping
        if len(grouping.nodes) > 1 or not isinstance(grouping.nodes[0], Name) or data is None:
            yield grouping.name, _padded(fit, Factor(grouping.codes, grouping.level_set))


def _nodes(fit: Fit) -> Iterator[Node]:
    """Yield response, predictors, parts of grouping factors and offsets of the formula."""
    frame, formula = fit.frame, fit.formula
    if formula.response is not None and _is_of_the_data(fit, formula.response):
        yield formula.response
    yield from frame.fixed_terms.variables
    yield from frame.fixed_terms.offsets
    for bar in formula.bars:
        yield from frame.bar_terms(bar).variables
        yield from group_factors(bar.group)


def _is_of_the_data(fit: Fit, response: Node) -> bool:
    """Tell whether the response is what the data gave, and not that of a refit."""
    value = fit.frame.variables[response.text]
    read = value.array if isinstance(value, Matrix) else value
    y = fit.frame.y
    return isinstance(read, np.ndarray) and y is not None and np.array_equal(read, y)


def _padded(fit: Fit, value: Any) -> Any:
    """Return values of the kept rows on all rows that results have."""
    places = np.nan_to_num(fit.frame.pad(np.arange(fit.frame.n, dtype=float)), nan=-1.0)
    own = value.own() if isinstance(value, Factor) else value
    return pd.api.extensions.take(own, places.astype(np.intp), allow_fill=True)
