"""The model frame of data that stay where they lie: what a model knows of its rows, without them.

The rows are read once for what the model needs to know of all of them (how many are complete, the
levels of every factor, sizes of numbers), and then as often as somebody asks for batches of them.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np

from mixef import checks
from mixef.errors import DataError
from mixef.terms.expressions import State
from mixef.terms.factor import Factor
from mixef.terms.formula import Formula, warn_of_absent
from mixef.terms.frame import NA_ACTIONS, Evaluated, ModelFrame
from mixef.terms.needed import needed_names, with_absent
from mixef.terms.nodes import Node
from mixef.terms.relation.elsewhere import Elsewhere
from mixef.terms.relation.levels import places_in
from mixef.terms.relation.reader import Reader, learn
from mixef.terms.relation.relation import Relation
from mixef.terms.relation.survey import Summary, Survey
from mixef.terms.relation.text import text_columns
from mixef.terms.values import Matrix


@dataclass(frozen=True, eq=False)
class RelationFrame(ModelFrame):
    """A model frame whose rows an engine holds."""

    in_memory = False

    reader: Reader = field(kw_only=True, repr=False)
    #: By their text, what is known of the numbers of a variable.
    summaries: dict[str, Summary] = field(kw_only=True)
    #: By their text, factors without rows that cross several grouping variables.
    crossings: dict[tuple[str, ...], Factor] = field(kw_only=True)

    @property
    def relation(self) -> Relation:
        """The table, with the columns that the model uses."""
        return self.reader.relation

    def stand_in(self, p: int) -> Any:
        """Return what stands for a model matrix of p columns."""
        return self._elsewhere("the model matrix", p)

    def group(self, nodes: Sequence[Node]) -> Factor:
        """Return the factor that crosses some of the grouping variables."""
        if len(nodes) == 1:
            return super().group(nodes)
        factor = self.crossings[tuple(node.text for node in nodes)]
        return replace(factor, codes=self._elsewhere("the groups"))

    def batches(self) -> Iterator[ModelFrame]:
        """Yield the rows that the model uses, as frames in memory; factors have all levels."""
        for found, rows in self.reader:
            if len(rows):
                yield self._batch(found, rows)

    def _batch(self, found: Evaluated, rows: np.ndarray) -> ModelFrame:
        """Return some rows with the levels of the whole table."""
        variables = {
            text: _recoded(value, self.variables[text]) for text, value in found.variables.items()
        }
        groups = {text: _recoded(value, self.groups[text]) for text, value in found.groups.items()}
        response = found.response
        if isinstance(response, Factor) and isinstance(self.response, Factor):
            response = _recoded(response, self.response)
        known = replace(found, variables=variables, groups=groups, response=response)
        whole = known.frame(rows, None, "omit", True, self.left_out)
        groups = {text: factor.take(rows) for text, factor in groups.items()}
        return BatchFrame(**(vars(whole) | {"groups": groups}), crossings=self.crossings)

    def _elsewhere(self, what: str, *more: int) -> Any:
        return Elsewhere(what, (self.n, *more), self.relation.engine)

    @property
    def padded_index(self) -> Any:
        """Labels of the rows: there are none."""
        return self._elsewhere("the rows")

    index = padded_rows = omitted = padded_index


@dataclass(frozen=True, eq=False)
class BatchFrame(ModelFrame):
    """Some rows of a `RelationFrame`."""

    crossings: dict[tuple[str, ...], Factor] = field(kw_only=True)

    def group(self, nodes: Sequence[Node]) -> Factor:
        """Return the factor that crosses some of the grouping variables."""
        if len(nodes) == 1:
            return super().group(nodes)
        crossing = self.crossings[tuple(node.text for node in nodes)]
        codes = [self.groups[node.text].codes for node in nodes]
        return replace(crossing, codes=places_in(crossing, codes))


def relation_frame(
    formula: Formula,
    relation: Relation,
    *,
    weights: Any = None,
    offset: Any = None,
    subset: Any = None,
    na_action: str = "omit",
    env: Mapping[str, Any] | None = None,
) -> RelationFrame:
    """Read what a model needs to know of all rows of a table; see `model_frame`.

    Raises
    ------
    DataError
        As `model_frame` does, and for arguments that hold a value a row: what lies elsewhere has
        no order of rows that they could follow.
    """
    na_action = checks.option(na_action, "na_action", NA_ACTIONS)
    for name, value in (("weights", weights), ("offset", offset), ("subset", subset)):
        items = value if isinstance(value, list) else [value]
        if value is not None and not all(isinstance(item, str) for item in items):
            raise DataError(
                f"{name} is {checks.shown(value)}; with data in {relation.engine}, whose rows have "
                f"no fixed order, {name} is the name of a column or an expression of columns"
            )
    needed = needed_names(formula, weights, offset, subset)
    chosen = relation if needed is None else relation.select(needed)
    reader = Reader(chosen, formula, text_columns(chosen), State(), env, weights, offset, subset)
    learn(reader)
    survey = Survey()
    for found, considered in reader.considered():
        survey.add(found, considered)
    survey.finish(na_action)
    assert survey.sample is not None
    for terms in with_absent(formula, survey.sample.dot_columns):
        warn_of_absent(terms)
    return _frame(reader, survey, na_action)


def _frame(reader: Reader, survey: Survey, na_action: str) -> RelationFrame:
    """Return the frame of a table that was read."""
    found, n, engine = survey.sample, survey.n, reader.relation.engine
    assert found is not None

    def away(what: str, *more: int) -> Any:
        return Elsewhere(what, (n, *more), engine)

    def standing(text: str, value: Any) -> Any:
        factor = survey.factors.get(("variable", text))
        if factor is not None:
            return replace(factor, codes=away(text))
        if isinstance(value, Matrix):
            return Matrix(away(text, value.array.shape[1]), value.suffixes)
        return away(text)

    node = reader.formula.response
    variables = {text: standing(text, value) for text, value in found.variables.items()}
    return RelationFrame(
        formula=reader.formula,
        y=None if node is None else _numbers(variables[node.text]),
        response=None if node is None else variables[node.text],
        weights=None if found.weights is None else away("the weights"),
        offset=away("the offset") if found.offsets else None,
        n=n,
        chosen=away("the rows"),
        n_input=survey.left_out.n,
        considered=None,
        na_action=na_action,
        dot_columns=found.dot_columns,
        state=reader.state,
        offset_nodes=found.offset_nodes,
        variables=variables,
        groups={
            text: replace(survey.factors["group", text], codes=away(text)) for text in found.groups
        },
        left_out=survey.left_out,
        reader=reader,
        summaries=survey.summaries,
        crossings=survey.crossings(),
    )


def _numbers(response: Any) -> Any:
    """Return what stands for the response as numbers; None for a factor of many levels."""
    if isinstance(response, Factor):
        return response.codes if response.n_levels == 2 else None
    return response.array if isinstance(response, Matrix) else response


def _recoded(value: Any, known: Any) -> Any:
    """Return a batch's variable with the levels of the whole table, in their order."""
    if not isinstance(value, Factor) or value.level_set is known.level_set:
        return value
    table = np.append(known.level_set.index.get_indexer(value.level_set.index), -1)
    return replace(known, codes=table[value.codes].astype(np.int32))
