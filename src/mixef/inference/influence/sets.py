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
from mixef.inference.row_factors import labelled_factor, named_factor
from mixef.terms.factor import Factor

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
        return _of_factor(groups, named_factor(fit, groups, "groups"))
    if isinstance(groups, Mapping):
        return _of_lists(fit, pd.Index([*groups.keys()]), [*groups.values()])
    if isinstance(groups, list | tuple) and all(checks.ndim(part) == 1 for part in groups):
        return _of_lists(fit, pd.RangeIndex(len(groups)), list(groups))
    name = getattr(groups, "name", None)
    factor = labelled_factor(fit, groups, "groups", EXPECTED)
    return _of_factor("groups" if name is None else str(name), factor)


def _of_factor(name: str, factor: Factor) -> RowSets:
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
