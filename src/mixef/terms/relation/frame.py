"""The model frame of data that stay where they lie: what a model knows of its rows, without them.

The rows are read once for what the model needs to know of all of them (how many are complete, the
levels of every factor, sizes of numbers), and then as often as somebody asks for batches of them.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, ClassVar

import numpy as np

from mixef import checks
from mixef.errors import DataError
from mixef.terms.columns import Columns
from mixef.terms.expressions import State
from mixef.terms.factor import Factor, factor_from_logical
from mixef.terms.formula import Formula, warn_of_absent
from mixef.terms.frame import NA_ACTIONS, ModelFrame
from mixef.terms.needed import needed_names, with_absent
from mixef.terms.nodes import Node
from mixef.terms.relation.counts import counted
from mixef.terms.relation.elsewhere import Elsewhere
from mixef.terms.relation.learning import learn
from mixef.terms.relation.levels import KnownLevels, places_in
from mixef.terms.relation.reader import Batch, Reader
from mixef.terms.relation.relation import Relation, relation_of
from mixef.terms.relation.sums import CompleteRows, changed
from mixef.terms.relation.survey import Summary, Survey, complete_rows
from mixef.terms.relation.text import TableColumns, text_columns
from mixef.terms.values import Matrix


@dataclass(frozen=True, eq=False)
class RelationFrame(ModelFrame):
    """A model frame whose rows an engine holds."""

    in_memory = False
    #: Whether values belong to the order of the rows, so that no engine can group or spread these.
    is_ordered: ClassVar[bool] = False

    reader: Reader = field(kw_only=True, repr=False)
    #: By their text, what is known of the numbers of a variable.
    summaries: dict[str, Summary] = field(kw_only=True)
    #: By ("variable" or "group", text), the levels of all rows.
    levels: dict[tuple[str, str], KnownLevels] = field(kw_only=True, repr=False)
    #: By their text, factors without rows that cross several grouping variables.
    crossings: dict[tuple[str, ...], Factor] = field(kw_only=True)
    #: What the engine takes sums of; None where it is not asked for them.
    complete: CompleteRows | None = field(kw_only=True, repr=False)

    def __getstate__(self) -> dict[str, Any]:
        """Leave out what an engine computes, which goes with its process: a path is read anew."""
        return vars(self) | {"complete": None}

    @property
    def relation(self) -> Relation:
        """The table, with the columns that the model uses."""
        return self.reader.columns.relation

    @property
    def is_reduced(self) -> bool:
        """Whether rows stay out for variables that the formula no longer has."""
        return self.formula.text != self.reader.formula.text

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
        """Yield the rows that the model uses, as frames in memory; factors have all levels.

        Raises
        ------
        DataError
            At the end, if these are not as many rows as before: the table has changed.
        """
        complete, total = 0, 0
        for batch in self.relation.batches():
            frame, used = self.used_of(batch)
            total += batch.num_rows
            complete += len(used)
            if frame is not None:
                yield frame
        self.check_counts(complete, total)

    def distinct_batches(self) -> Iterator[tuple[ModelFrame, np.ndarray]]:
        """Yield the distinct ones of the rows that the model uses, and how often each occurs.

        Raises
        ------
        DataError
            As `batches` does.
        """
        complete, total = 0, 0
        for batch, counts in self.relation.distinct_batches():
            frame, used = self.used_of(batch)
            total += int(counts.sum())
            complete += int(counts[used].sum())
            if frame is not None:
                yield frame, counts[used]
        self.check_counts(complete, total)

    def used_of(self, batch: Any) -> tuple[ModelFrame | None, np.ndarray]:
        """Return the rows of a batch that the model uses, None for none, and their positions."""
        read = self.reader.read(batch)
        rows = complete_rows(read.found, read.chosen)[1]
        return self._batch(read, rows) if len(rows) else None, rows

    def check_counts(self, complete: int, total: int) -> None:
        """Refuse other numbers of rows than at first, of those used and of all."""
        if complete != self.n or total != self.n_input:
            raise changed(self.n, complete)

    def data_columns(self, data: Any) -> Columns | None:
        """Return what stands for the columns of the data."""
        columns: Columns = self._elsewhere("the data")
        return columns

    def table(self, data: Any) -> Any:
        """Return the table with all of its columns."""
        relation = relation_of(data)
        return self.relation if relation is None else relation

    def reading(self, names: Collection[str], data: Any) -> RelationFrame:
        """Return the frame with more columns of its table in batches, of those that there are."""
        table = self.table(data)
        own = self.relation.names
        more = [name for name in table.names if name in names and name not in own]
        if not more:
            return self
        columns = self.reader.columns
        text = {**columns.text, **text_columns(table.select(more))}
        columns = replace(columns, relation=table.select({*own, *more}), text=text)
        return replace(self, reader=replace(self.reader, columns=columns))

    def of_batch(self, batch: Any) -> ModelFrame:
        """Return the rows of a batch of the table that the model uses."""
        read = self.reader.read(batch.select(self.relation.names))
        return self._batch(read, complete_rows(read.found, read.chosen)[1])

    def _batch(self, batch: Batch, rows: np.ndarray) -> ModelFrame:
        """Return some rows of a batch with the levels of the whole table."""
        found = batch.found
        variables = {
            text: self._recoded(("variable", text), value, rows)
            for text, value in found.variables.items()
        }
        groups = {
            text: self._recoded(("group", text), value, rows)
            for text, value in found.groups.items()
        }
        response = found.response
        if isinstance(response, Factor):
            assert self.formula.response is not None
            response = variables[self.formula.response.text]
        known = replace(found, variables=variables, groups=groups, response=response)
        whole = known.frame(rows, batch.chosen, self.na_action, True, self.left_out)
        groups = {text: factor.take(rows) for text, factor in groups.items()}
        own = {"groups": groups, "formula": self.formula}  # which may have fewer terms than read
        return BatchFrame(
            **(vars(whole) | own),
            crossings=self.crossings,
            columns=found.scope.columns,
            told=self.reader.columns.told,
        )

    def _recoded(self, key: tuple[str, str], value: Any, rows: np.ndarray) -> Any:
        """Return a batch's variable with the levels of the whole table, in their order."""
        if isinstance(value, np.ndarray) and value.dtype.kind == "b":
            value = factor_from_logical(value)
        if not isinstance(value, Factor):
            return value
        levels = self.levels[key]
        codes = levels.of(value.level_set)[value.codes]
        if (codes[rows] < 0).any():
            raise changed(self.n, None)
        return replace(levels.factor, codes=codes)

    def _elsewhere(self, what: str, *more: int) -> Any:
        return Elsewhere(what, (self.n, *more), self.relation.engine)

    def moments(self, text: str) -> np.ndarray:
        """Return what tells two variables apart without rows: n, mean, sd and ends; ones for none.

        A factor has none: its name stands for it.
        """
        own = self.summaries.get(text)
        if own is None:
            return np.ones(5)
        return np.concatenate([[own.n], own.mean, own.sd, own.low, own.high])

    def used(self, values: Any, what: str) -> Any:
        """Refuse values that come one a row: there is no order that they could have."""
        self._elsewhere("the order of its rows")._refuse()

    @property
    def padded_index(self) -> Any:
        """Labels of the rows: there are none."""
        return self._elsewhere("the rows")

    index = padded_rows = padded_index


@dataclass(frozen=True, eq=False)
class BatchFrame(ModelFrame):
    """Some rows of a `RelationFrame`."""

    crossings: dict[tuple[str, ...], Factor] = field(kw_only=True)
    columns: Columns = field(kw_only=True)  # those of the batch, with rows that are not used
    told: set[str] = field(kw_only=True)  # type: ignore[misc]

    def data_columns(self, data: Any) -> Columns | None:
        """Return the columns of the batch."""
        return self.columns

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
        kinds = str if name == "subset" else str | int | float | np.number
        if value is not None and not all(isinstance(item, kinds) for item in items):
            raise DataError(
                f"{name} is {checks.shown(value)}; with data in {relation.engine}, whose rows have "
                f"no fixed order, {name} is the name of a column or an expression of columns"
            )
    needed = needed_names(formula, weights, offset, subset)
    chosen = relation.select(relation.names if needed is None else needed)
    columns = TableColumns(chosen, relation.names, text_columns(chosen), set())
    first = chosen.first()
    if first is None:
        raise DataError("0 (non-NA) cases: the data have no rows")
    reader = learn(Reader(columns, formula, State(), env, weights, offset, subset), first)
    found = counted(reader, first)
    survey, complete = (Survey(), None) if found is None else found
    if found is None:
        for batch in reader.batches():
            survey.add(batch)
    survey.finish(na_action)
    assert survey.sample is not None
    for terms in with_absent(formula, survey.sample.dot_columns):
        warn_of_absent(terms)
    # What the caller's names stand for is in the state now, and stays what it is.
    return _frame(replace(reader, env={}), survey, complete, na_action)


def _frame(
    reader: Reader, survey: Survey, complete: CompleteRows | None, na_action: str
) -> RelationFrame:
    """Return the frame of a table that was read."""
    found, n, engine = survey.sample, survey.n, reader.columns.relation.engine
    assert found is not None

    def away(what: str, *more: int) -> Any:
        return Elsewhere(what, (n, *more), engine)

    def standing(text: str, value: Any) -> Any:
        levels = survey.levels.get(("variable", text))
        if levels is not None:
            return replace(levels.factor, codes=away(text))
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
        state=_state(reader, survey),
        offset_nodes=found.offset_nodes,
        variables=variables,
        groups={
            text: replace(survey.levels["group", text].factor, codes=away(text))
            for text in found.groups
        },
        left_out=survey.left_out,
        reader=reader,
        summaries=survey.summaries,
        levels=survey.levels,
        crossings=survey.crossings,
        complete=complete,
    )


def _numbers(response: Any) -> Any:
    """Return what stands for the response as numbers; None for a factor of many levels."""
    if isinstance(response, Factor):
        return response.codes if response.n_levels == 2 else None
    return response.array if isinstance(response, Matrix) else response


def _state(reader: Reader, survey: Survey) -> State:
    """Return what new data are coded by: what functions learnt, and levels of all rows."""
    own = {
        text: {"levels": known.factor.levels}
        for (_, text), known in survey.levels.items()
        if text.startswith("factor(") and text not in reader.state.transforms
    }
    return State(own | reader.state.transforms, reader.state.outside)
