"""The clusters of rows that a robust covariance takes as independent of each other."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd

from mixef import checks
from mixef.errors import ArgumentError, DataError
from mixef.estimation.fit import Fit
from mixef.inference.refits.other_rows import grouping_factors, outermost
from mixef.terms.columns import Columns
from mixef.terms.convert import read
from mixef.terms.expressions import Scope, State
from mixef.terms.factor import Factor, cross
from mixef.terms.frame import group_factors
from mixef.terms.nodes import Name, Node, unquoted
from mixef.terms.parser import parse_expression
from mixef.terms.values import as_factor

EXPECTED = "a column of the data, an interaction such as 'a:b', or one label a row"


@dataclass(frozen=True, eq=False)
class Clusters:
    """Which cluster each row of a fit belongs to."""

    name: str
    codes: np.ndarray  # int (n,)
    levels: tuple[str, ...]  # labels of the clusters (J,)

    @property
    def n(self) -> int:
        """Number of clusters, J."""
        return len(self.levels)

    def __str__(self) -> str:
        return f"{self.name} ({self.n} clusters)"


def clusters_of(fit: Fit, cluster: Any = None) -> Clusters:
    """Return the clusters that an argument names, or that the grouping factors make by default.

    Parameters
    ----------
    cluster : str, array, Series or sequence (n,), optional
        A grouping factor, a column of the data, an interaction of columns, or labels of the rows;
        by default the grouping factor that all others are nested in.

    Raises
    ------
    ArgumentError
        For crossed grouping factors without ``cluster``; for a single cluster.
    DataError
        For a column that is not there, or rows without a label.
    """
    if cluster is None:
        cluster = outermost(fit.terms, "which one, or what other column, makes the clusters")
    if isinstance(cluster, str):
        name, factor = cluster, _named(fit, cluster)
    else:
        name = str(getattr(cluster, "name", None) or "cluster")
        factor = _labelled(fit, cluster)
    missing = int((factor.codes < 0).sum())
    if missing:
        raise DataError(
            f"cluster {name} is missing in {missing} of the {fit.frame.n} rows of the fit; give "
            "every row a cluster, or fit the model to the other rows (subset=)"
        )
    factor = factor.used_levels()
    if factor.n_levels < 2:
        raise ArgumentError(
            f"cluster {name} puts all rows into one cluster; expected two clusters or more"
        )
    return Clusters(name, factor.codes.astype(np.intp), factor.levels)


def _named(fit: Fit, text: str) -> Factor:
    """Return a grouping factor of the model by its name, or variables of the data, crossed."""
    for name, grouping in grouping_factors(fit.terms).items():
        if unquoted(name) == unquoted(text):
            return Factor(grouping.codes, grouping.level_set)
    nodes = [Name(text)] if _is_column(fit, text) else group_factors(parse_expression(text))
    factors = [_variable(fit, node) for node in nodes]
    return factors[0] if len(factors) == 1 else cross(factors)


def _is_column(fit: Fit, text: str) -> bool:
    return fit.call.data is not None and text in Columns(fit.call.data)


def _variable(fit: Fit, node: Node) -> Factor:
    """Return one variable on the rows of the fit, as the model has it or as the data do."""
    held = fit.frame.groups.get(node.text)
    if held is not None:
        return held
    columns = None if fit.call.data is None else Columns(fit.call.data)
    names = [part.name for part in node.walk() if isinstance(part, Name)]
    if columns is None or not names or not all(name in columns for name in names):
        known = [*grouping_factors(fit.terms), *(() if columns is None else columns.names)]
        lost = "; a pickle keeps only columns that the fit used" if fit.call.is_pruned else ""
        raise DataError(
            f"cluster names {node.text!r}, which is no column of the data{lost}; expected "
            f"{EXPECTED}; there are {', '.join(dict.fromkeys(known))}"
        )
    scope = Scope(columns, State(outside=fit.frame.state.outside))
    return scope.group(node).take(fit.frame.rows)


def _labelled(fit: Fit, cluster: Any) -> Factor:
    """Return labels of the rows as a factor; a Series goes by its own labels."""
    frame = fit.frame
    if checks.ndim(cluster) != 1:
        raise checks.refusal("cluster", cluster, EXPECTED)
    by_label = isinstance(cluster, pd.Series)
    column = read(frame.used(cluster, "cluster") if by_label else cluster, "cluster")
    factor = as_factor(column)
    if len(factor) != frame.n:  # with the rows that were left out?
        places = {
            frame.n_input: frame.rows,
            len(frame.padded_rows): np.searchsorted(frame.padded_rows, frame.rows),
        }
        if len(factor) not in places:
            raise ArgumentError(
                f"cluster has {len(factor)} labels; expected {frame.n}, one for each row that the "
                "fit used"
            )
        factor = factor.take(places[len(factor)])
    return factor
