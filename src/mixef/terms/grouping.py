"""Grouping factors: codes and levels of a variable or an interaction of variables."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np

from mixef.errors import DataError
from mixef.terms.columns import Columns
from mixef.terms.expressions import Scope, State, Variable
from mixef.terms.factor import (
    Factor,
    cross,
    crossed_labels,
    encode_numbers,
    merged,
    number_labels,
)
from mixef.terms.frame import ModelFrame, group_factors
from mixef.terms.functions import Matrix, as_factor
from mixef.terms.nodes import Node


@dataclass(frozen=True, eq=False)
class Labels:
    """What labels are made of when someone reads them: they can be many.

    Attributes
    ----------
    parts : tuple
        For each crossed factor its levels, or the numbers that stand for them.
    combinations : ndarray of int, shape (l, number of factors), or None
        The level of each factor that a combination is made of; None for a single factor.
    """

    parts: tuple[tuple[str, ...] | np.ndarray, ...]
    combinations: np.ndarray | None = None

    def make(self) -> tuple[str, ...]:
        """Return the labels in order."""
        texts = [number_labels(p) if isinstance(p, np.ndarray) else p for p in self.parts]
        if self.combinations is None:
            return texts[0]
        return crossed_labels(self.combinations, texts)


@dataclass(frozen=True, eq=False)
class NewGroups:
    """Groups of new data.

    Attributes
    ----------
    codes : ndarray of int32, shape (m,)
        Position among the training levels; -1 for an unseen level or a missing one.
    new_codes : ndarray of int32, shape (m,)
        Position in `new_levels`; -1 for a known level or a missing one.
    new_levels : ndarray of object
        Labels of the unseen levels.
    """

    codes: np.ndarray
    new_codes: np.ndarray
    new_levels: np.ndarray


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
        codes, labels, _ = _coded([scope.variable(n) for n in self.nodes], self.nodes)
        factor = Factor(codes, labels.make())
        known = factor.recode(self.levels)
        training = set(self.levels)
        new_levels = tuple(level for level in factor.levels if level not in training)
        return NewGroups(known, factor.recode(new_levels), np.array(new_levels, dtype=object))


@dataclass(frozen=True, eq=False)
class Grouping:
    """A grouping factor over the rows of a frame.

    Attributes
    ----------
    codes : ndarray of int32, shape (n,)
    n_levels : int
    name : str
        As R deparses it: ``b:a`` for the inner part of ``a/b``.
    """

    codes: np.ndarray
    n_levels: int
    name: str
    nodes: tuple[Node, ...]
    state: State
    labels: Labels

    @cached_property
    def levels(self) -> np.ndarray:
        """Labels of the levels (object array of str), in R's order; made when first read."""
        return np.array(self.labels.make(), dtype=object)

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
    frame : ModelFrame

    Returns
    -------
    Grouping

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
    variables = [frame.variable(n) for n in nodes]
    codes, labels, n_levels = _coded(variables, nodes)
    return Grouping(codes, n_levels, node.text, nodes, frame.state, labels)


def _coded(variables: Sequence[Variable], nodes: Sequence[Node]) -> tuple[np.ndarray, Labels, int]:
    first = variables[0]
    if len(nodes) == 1 and isinstance(first, np.ndarray) and first.dtype.kind in "iu":
        codes, values = encode_numbers(first)
        return codes, Labels((values,)), len(values)
    factors = [_single(v, n) for v, n in zip(variables, nodes, strict=True)]
    if len(factors) == 1:
        return factors[0].codes, Labels((factors[0].levels,)), len(factors[0].levels)
    codes, combinations = cross(factors)
    labels = Labels(tuple(f.levels for f in factors), combinations)
    if not any(":" in level for factor in factors for level in factor.levels):
        return codes, labels, len(combinations)
    # Only here can two combinations have one label, and then they are one level, as in R.
    factor = merged(Factor(codes, labels.make()))
    return factor.codes, Labels((factor.levels,)), len(factor.levels)


def _single(variable: Variable, node: Node) -> Factor:
    """Return one variable as a factor of the levels that occur (both of a logical, too)."""
    if isinstance(variable, Matrix):
        raise DataError(f"the grouping factor {node.text} is a matrix; expected one variable")
    factor = as_factor(variable)
    return Factor(factor.codes, factor.levels).used_levels()
