"""The sets of rows whose influence is asked for: rows, levels of a factor, or any others."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
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
from mixef.terms.frame import group_factors
from mixef.terms.nodes import Name, Node, unquoted
from mixef.terms.parser import parse_expression
from mixef.terms.values import as_factor

EXPECTED = (
    "a grouping factor or column of the data, an interaction such as 'a:b', one label a row, or a "
    "list or dict of sets of rows by their labels"
)


@dataclass(frozen=True, eq=False)
class RowSets:
    """Sets of the rows of a fit."""

    what: str  # what the sets are: ``Subject``; ``rows``
    index: pd.Index  # their labels (G,)
    rows: tuple[np.ndarray, ...]  # int: positions of the rows of each

    def __len__(self) -> int:
        return len(self.rows)


def row_sets(fit: Fit, groups: Any) -> RowSets:
    """Return the sets of rows that an argument means; see the method ``influence``."""
    if groups is None:
        rows = np.arange(fit.frame.n)
        return RowSets("rows", fit.frame.index, tuple(rows[:, None]))
    if isinstance(groups, str):
        return _of_factor(fit, groups, _named(fit, groups))
    if isinstance(groups, Mapping):
        return _of_lists(fit, pd.Index([*groups.keys()]), [*groups.values()])
    kinds = list | tuple | np.ndarray | pd.Series | pd.Categorical | pd.Index
    if not isinstance(groups, kinds) or not len(groups):
        raise checks.refusal("groups", groups, EXPECTED)
    if isinstance(groups, list | tuple) and all(checks.ndim(part) == 1 for part in groups):
        return _of_lists(fit, pd.RangeIndex(len(groups)), list(groups))
    if checks.ndim(groups) != 1:
        raise checks.refusal("groups", groups, EXPECTED)
    given = fit.frame.used(groups, "groups")
    if len(given) != fit.frame.n:
        raise ArgumentError(
            f"groups has {len(given)} labels; expected {fit.frame.n}, one for each row that the "
            "fit used"
        )
    name = getattr(groups, "name", None)
    return _of_factor(
        fit, "groups" if name is None else str(name), as_factor(read(given, "groups"))
    )


def _of_factor(fit: Fit, name: str, factor: Factor) -> RowSets:
    """Return one set a level; rows without a level are in none."""
    factor = factor.used_levels()
    order = np.argsort(factor.codes, kind="stable")
    ends = np.searchsorted(factor.codes[order], np.arange(factor.n_levels + 1))
    rows = [np.sort(part) for part in np.split(order, ends)[1:-1]]
    used = np.flatnonzero([len(part) > 0 for part in rows])  # a logical keeps both its levels
    if not len(used):
        raise DataError(f"{name} is missing in all rows of the fit; expected levels to leave out")
    index = factor.level_set.take(used).index.rename(name)
    return RowSets(name, index, tuple(rows[g] for g in used))


def _of_lists(fit: Fit, index: pd.Index, sets: Sequence[Any]) -> RowSets:
    """Return sets of rows that are given by the labels of the data, or by booleans."""
    out = []
    for name, given in zip(index, sets, strict=True):
        what = f"the set of rows {name!r}"
        if checks.ndim(given) != 1 or not len(given):
            raise checks.refusal(what, given, "labels of rows, one at least")
        values = np.asarray(given)
        if values.dtype == bool:
            own = np.flatnonzero(fit.frame.used(given, what))
            if len(values) not in (fit.frame.n, len(fit.frame.padded_rows)):
                raise ArgumentError(
                    f"{what} has {len(values)} truth values; expected {fit.frame.n}, one for each "
                    "row that the fit used"
                )
        else:
            own = _places(fit, pd.Index(values), what)
        out.append(np.unique(own))
    if not out:
        raise checks.refusal("groups", sets, EXPECTED)
    return RowSets("sets of rows", index, tuple(out))


def _places(fit: Fit, labels: pd.Index, what: str) -> np.ndarray:
    """Return the positions of rows by their labels."""
    index = fit.frame.index
    unknown = labels[~labels.isin(index)]
    if len(unknown):
        label = unknown[:1].tolist()[0]
        raise DataError(
            f"{what} has the label {label!r}, which no row of the fit has (rows go by the index of "
            "the data, from 0 where they have none; rows that were left out are not there)"
        )
    return np.flatnonzero(index.isin(labels))


def _named(fit: Fit, text: str) -> Factor:
    """Return a grouping factor of the model by its name, or variables of the data, crossed."""
    for name, grouping in grouping_factors(fit.terms).items():
        if unquoted(name) == unquoted(text):
            return Factor(grouping.codes, grouping.level_set)
    columns = None if fit.call.data is None else Columns(fit.call.data)
    is_column = columns is not None and text in columns
    nodes = [Name(text)] if is_column else group_factors(parse_expression(text))
    factors = [_variable(fit, node, columns) for node in nodes]
    return factors[0] if len(factors) == 1 else cross(factors)


def _variable(fit: Fit, node: Node, columns: Columns | None) -> Factor:
    """Return one variable on the rows of the fit, as the model has it or as the data do."""
    for held in (fit.frame.groups, fit.frame.variables):
        if node.text in held:
            return as_factor(held[node.text])
    names = [part.name for part in node.walk() if isinstance(part, Name)]
    if columns is None or not names or not all(name in columns for name in names):
        known = [*grouping_factors(fit.terms), *(() if columns is None else columns.names)]
        lost = "; a pickle keeps only columns that the fit used" if fit.call.is_pruned else ""
        raise DataError(
            f"groups names {node.text!r}, which is no grouping factor of the model and no column "
            f"of the data{lost}; there are {', '.join(dict.fromkeys(known))}"
        )
    scope = Scope(columns, State(outside=fit.frame.state.outside))
    return scope.group(node).take(fit.frame.rows)
