"""Grouping factors: codes and levels of a variable or an interaction of variables."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
import pandas as pd

from mixef.terms.columns import Columns
from mixef.terms.expressions import Scope, State
from mixef.terms.factor import Factor, cross
from mixef.terms.frame import ModelFrame
from mixef.terms.labels import LevelSet
from mixef.terms.needed import group_factors
from mixef.terms.nodes import Node, bare_name

# What messages call a group that is missing.
MISSING = "NA"


@dataclass(frozen=True, eq=False)
class NewGroups:
    """Groups of new data."""

    codes: np.ndarray  # int32 (m,): position among the training levels; -1 for an unseen level
    #: int32 (m,): position in `new_levels`; -1 for a known level. A missing group is a level of its
    #: own in every row: nothing says that two of them are one.
    new_codes: np.ndarray
    new_levels: tuple[str, ...]  # labels of the unseen levels, those of missing groups last


@dataclass(frozen=True, eq=False)
class GroupingSpec:
    """What codes new data by the levels of a grouping factor."""

    nodes: tuple[Node, ...]
    levels: tuple[str, ...]
    state: State

    def codes(self, data: Any, env: Mapping[str, Any] | None = None) -> NewGroups:
        """Return the groups of new data (a frame, mapping or Columns)."""
        columns = data if isinstance(data, Columns) else Columns(data)
        scope = Scope(columns, self.state, env)
        factor = _crossed([scope.group(node) for node in self.nodes]).used_levels()
        known = factor.recode(self.levels)
        training = set(self.levels)
        new_levels = tuple(level for level in factor.levels if level not in training)
        new = factor.recode(new_levels).copy()
        missing = np.flatnonzero(factor.codes < 0)
        new[missing] = len(new_levels) + np.arange(len(missing))
        return NewGroups(known, new, new_levels + (MISSING,) * len(missing))


@dataclass(frozen=True, eq=False)
class Grouping:
    """A grouping factor over the rows of a frame."""

    codes: np.ndarray  # int32 (n,)
    name: str  # as R deparses it: ``b:a`` for the inner part of ``a/b``
    nodes: tuple[Node, ...]
    state: State
    level_set: LevelSet  # the levels in R's order, as the data hold them

    @property
    def n_levels(self) -> int:
        """Number of levels, l."""
        return len(self.level_set)

    @cached_property
    def levels(self) -> np.ndarray:
        """Labels of the levels (object array of str), in R's order; made when first read."""
        return np.array(self.level_set.labels, dtype=object)

    @property
    def index(self) -> pd.Index:
        """The levels as the data hold them, named after the factor."""
        return self.level_set.index.rename(self.name)

    @cached_property
    def spec(self) -> GroupingSpec:
        """What codes new data by the levels of this factor."""
        return GroupingSpec(self.nodes, tuple(self.levels.tolist()), self.state)


def grouping(node: Node, frame: ModelFrame) -> Grouping:
    """Return the grouping factor of a bar term.

    Parameters
    ----------
    node : Node
        ``bar.group``: any variable, or an interaction, of which only the combinations that
        occur are levels; the first factor varies slowest.

    Raises
    ------
    DataError
        If the grouping variable is a matrix.

    Examples
    --------
    >>> from mixef.terms.formula import parse_formula
    >>> from mixef.terms.frame import model_frame
    >>> data = {"y": [1.0, 2, 3], "a": [2, 1, 10], "b": ["u", "v", "u"]}
    >>> frame = model_frame(parse_formula("y ~ 1 + (1 | a:b)"), data)
    >>> grouping(frame.formula.bars[0].group, frame).levels.tolist()
    ['1:v', '2:u', '10:u']
    """
    nodes = group_factors(node)
    factor = frame.group(nodes)
    return Grouping(factor.codes, bare_name(node), nodes, frame.state, factor.level_set)


def _crossed(factors: Sequence[Factor]) -> Factor:
    return factors[0] if len(factors) == 1 else cross(factors)
