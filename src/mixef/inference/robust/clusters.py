"""The clusters of rows that a robust covariance takes as independent of each other."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from mixef.errors import ArgumentError, DataError
from mixef.estimation.fit import Fit
from mixef.inference.refits.other_rows import grouping_factors, is_nested, outermost
from mixef.inference.row_factors import labelled_factor, named_factor

EXPECTED = "a column of the data, an interaction such as 'a:b', or one label a row"


@dataclass(frozen=True, eq=False)
class Clusters:
    """Which cluster each row of a fit belongs to."""

    name: str
    codes: np.ndarray  # int32 (n,)
    levels: tuple[str, ...]  # labels of the clusters (J,)
    crossed: tuple[str, ...] = ()  # grouping factors with levels in several clusters

    @property
    def n(self) -> int:
        """Number of clusters, J."""
        return len(self.levels)

    def __str__(self) -> str:
        crossed = f", crossed by {' and '.join(self.crossed)}" if self.crossed else ""
        return f"{self.name} ({self.n} clusters{crossed})"


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
        name, factor = cluster, named_factor(fit, cluster, "cluster")
    else:
        name = str(getattr(cluster, "name", None) or "cluster")
        factor = labelled_factor(fit, cluster, "cluster", EXPECTED)
    missing = int((factor.codes < 0).sum())
    what = "cluster" if name == "cluster" else f"cluster {name}"
    if missing:
        raise DataError(
            f"{what} is missing in {missing} of the {fit.frame.n} rows of the fit; give "
            "every row a cluster, or fit the model to the other rows (subset=)"
        )
    factor = factor.used_levels()
    if factor.n_levels < 2:
        raise ArgumentError(f"{what} puts all rows into one cluster; expected two clusters or more")
    factors = grouping_factors(fit.terms).items()
    crossed = tuple(group for group, inner in factors if not is_nested(inner, factor))
    return Clusters(name, factor.codes, factor.levels, crossed)
