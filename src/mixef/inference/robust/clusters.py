"""The clusters of rows that a robust covariance takes as independent of each other."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from mixef import checks
from mixef.errors import ArgumentError, DataError
from mixef.estimation.fit import Fit
from mixef.inference.refits.other_rows import (
    crossed_factors,
    grouping_factors,
    is_nested,
    outermost,
)
from mixef.inference.row_factors import labelled_factor, named_factor, with_columns
from mixef.terms.nodes import unquoted
from mixef.terms.relation.levels import KnownLevels, LevelUnion

QUESTION = "which one, or what other column, makes the clusters"
EXPECTED = "a column of the data, an interaction such as 'a:b', or one label a row"


@dataclass(frozen=True, eq=False)
class Clusters:
    """Which cluster each row of a fit belongs to."""

    name: str
    levels: tuple[str, ...]  # labels of the clusters (J,)
    crossed: tuple[str, ...] = ()  # grouping factors with levels in several clusters
    codes: np.ndarray | None = None  # int32 (n,); None where an engine has the rows
    #: Of rows in an engine: what finds the clusters of some of them; None for the levels of a
    #: grouping factor as they are.
    known: KnownLevels | None = None

    @property
    def n(self) -> int:
        """Number of clusters, J."""
        return len(self.levels)

    def __str__(self) -> str:
        crossed = f", crossed by {' and '.join(self.crossed)}" if self.crossed else ""
        return f"{self.name} ({self.n} clusters{crossed})"

    def of(self, piece: Fit) -> np.ndarray:
        """Return the clusters (m,) of some rows that an engine has."""
        factor = named_factor(piece, self.name, "cluster")
        return factor.codes if self.known is None else self.known.of(factor.level_set)[factor.codes]


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
        For crossed grouping factors without ``cluster``; for a single cluster; for labels of rows
        that have no order.
    DataError
        For a column that is not there, or rows without a label.
    """
    if not fit.frame.in_memory:
        return _clusters_elsewhere(fit, cluster)
    if cluster is None:
        cluster = outermost(fit.terms, QUESTION)
    if isinstance(cluster, str):
        name, factor = cluster, named_factor(fit, cluster, "cluster")
    else:
        name = str(getattr(cluster, "name", None) or "cluster")
        factor = labelled_factor(fit, cluster, "cluster", EXPECTED)
    _check_missing(fit, name, int((factor.codes < 0).sum()))
    factor = factor.used_levels()
    _check_several(name, factor.n_levels)
    factors = grouping_factors(fit.terms).items()
    crossed = tuple(group for group, inner in factors if not is_nested(inner, factor))
    return Clusters(name, factor.levels, crossed, factor.codes)


def _check_missing(fit: Fit, name: str, missing: int) -> None:
    if missing:
        raise DataError(
            f"{_called(name)} is missing in {missing} of the {fit.frame.n} rows of the fit; give "
            "every row a cluster, or fit the model to the other rows (subset=)"
        )


def _check_several(name: str, n_levels: int) -> None:
    if n_levels < 2:
        raise ArgumentError(
            f"{_called(name)} puts all rows into one cluster; expected two clusters or more"
        )


def _called(name: str) -> str:
    return "cluster" if name == "cluster" else f"cluster {name}"


def _clusters_elsewhere(fit: Fit, cluster: Any) -> Clusters:
    """Return the clusters of rows that an engine has, by one reading of them if need be."""
    if not (cluster is None or isinstance(cluster, str)):
        engine = getattr(fit.frame, "relation").engine  # noqa: B009 (frames in memory have none)
        raise ArgumentError(
            f"cluster is {checks.shown(cluster)}; the rows are in {engine} and have no order that "
            "labels could follow: expected a column of the table, or an interaction such as 'a:b'"
        )
    factors = grouping_factors(fit.terms)
    # What holds all others has the fewest levels.
    name = min(factors, key=lambda g: factors[g].n_levels) if cluster is None else cluster
    own = next((g for g in factors if unquoted(g) == unquoted(name)), None)
    if own is not None and len(factors) == 1:
        _check_several(name, factors[own].n_levels)
        return Clusters(name, tuple(factors[own].levels))
    union, missing = LevelUnion(name), 0
    first = {g: np.full(inner.n_levels, -1) for g, inner in factors.items()}
    crossed = set()
    for piece in with_columns(fit, name).pieces():
        numbers = union.add(named_factor(piece, name, "cluster"))
        missing += int((numbers < 0).sum())
        for g, inner in grouping_factors(piece.terms).items():
            seen = first[g]
            is_new = seen[inner.codes] < 0
            seen[inner.codes[is_new]] = numbers[is_new]
            if (seen[inner.codes] != numbers).any():
                crossed.add(g)
    _check_missing(fit, name, missing)
    if cluster is None and crossed:
        raise crossed_factors(list(factors), QUESTION)
    known, _ = union.ordered()
    _check_several(name, known.factor.n_levels)
    listed = tuple(g for g in factors if g in crossed)
    return Clusters(name, known.factor.levels, listed, None, known)
