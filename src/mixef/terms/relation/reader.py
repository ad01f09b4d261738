"""A formula's variables, read from a table a batch of rows at a time."""

from __future__ import annotations

import warnings
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from mixef.errors import DataError
from mixef.terms.expressions import Scope, State, Variable
from mixef.terms.factor import Factor
from mixef.terms.formula import Formula
from mixef.terms.frame import Evaluated, evaluate
from mixef.terms.nodes import Call, variable_names
from mixef.terms.parser import parse_expression
from mixef.terms.relation.relation import Relation
from mixef.terms.relation.survey import complete_rows
from mixef.terms.relation.text import TextColumn, collected, columns_of
from mixef.terms.rows import considered_rows
from mixef.terms.values import Matrix


@dataclass(frozen=True, eq=False)
class Reader:
    """Reads a formula's variables from a table, a batch of rows at a time."""

    relation: Relation  # with the columns that the formula reads
    formula: Formula
    text: dict[str, TextColumn]
    state: State  # what functions learnt from all rows
    env: Mapping[str, Any] | None
    weights: Any  # text, or None
    offset: Any
    subset: Any

    def __iter__(self) -> Iterator[tuple[Evaluated, np.ndarray]]:
        """Yield the variables of each batch, and the positions of its rows that count."""
        for found, considered in self.considered():
            yield found, complete_rows(found, considered)[1]

    def considered(self) -> Iterator[tuple[Evaluated, np.ndarray | None]]:
        """Yield the variables of each batch, and the positions of rows that `subset` chooses."""
        for batch in self.relation.batches():
            found = self.evaluated(batch)
            chooser = Scope(found.scope.columns, self.state, self.env)
            yield found, considered_rows(self.subset, chooser)

    def evaluated(self, batch: Any) -> Evaluated:
        """Return the variables of a batch."""
        columns = columns_of(batch, self.text)
        return evaluate(
            self.formula,
            columns,
            self.state,
            self.env,
            weights=self.weights,
            offset=self.offset,
        )

    @property
    def texts(self) -> list[str]:
        """The arguments that are expressions."""
        arguments = (self.weights, self.subset, self.offset)
        several = (a if isinstance(a, list) else [a] for a in arguments)
        return [text for items in several for text in items if text is not None]


def learn(reader: Reader) -> None:
    """Let functions such as ``scale()`` learn from all rows what they will need in every batch.

    Only the columns that they read come into memory, once.

    Raises
    ------
    DataError
        For a table without rows, or a function of the caller's whose values depend on other rows.
    """
    first = next(reader.relation.batches(), None)
    if first is None:
        raise DataError("0 (non-NA) cases: the data have no rows")
    trial = replace(reader, state=State())
    found = trial.evaluated(first)
    learnt = {text for text, state in trial.state.transforms.items() if set(state) - {"names"}}
    formula = found.formula
    nodes = [formula.fixed, *([formula.response] if formula.response else [])]
    nodes += [side for bar in formula.bars for side in (bar.lhs, bar.group)]
    nodes += [parse_expression(text) for text in reader.texts]
    calls = {node.text: node for top in nodes for node in top.walk() if isinstance(node, Call)}
    for text in learnt:
        names = variable_names(calls[text])
        columns = collected(reader.relation, names, reader.text)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # what is made missing is told once all rows are read
            Scope(columns, reader.state, reader.env).value(calls[text])
    if any(map(callable, trial.state.outside.values())) and first.num_rows > 1:
        _check_by_row(reader, first)


def _check_by_row(reader: Reader, batch: Any) -> None:
    """Refuse a function of the caller's that gives other values where there are other rows."""
    half = batch.num_rows // 2
    whole, part = (reader.evaluated(b) for b in (batch, batch.slice(0, half)))
    for text, value in whole.variables.items():
        own, other = _plain(value)[:half], _plain(part.variables[text])
        if not np.array_equal(own, other, equal_nan=own.dtype.kind == "f"):
            raise DataError(
                f"{text} calls a function whose values in some rows depend on others, which "
                f"cannot be had of data in {reader.relation.engine}: compute the column there, or "
                "collect the data"
            )


def _plain(value: Variable) -> np.ndarray:
    """Return a variable as numbers, or as labels."""
    if isinstance(value, Factor):
        return value.values()
    return value.array if isinstance(value, Matrix) else value
