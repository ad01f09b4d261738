"""A formula's variables, read from a table a batch of rows at a time."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import numpy as np

from mixef.late import LateModule
from mixef.terms.expressions import Scope, State
from mixef.terms.formula import Formula
from mixef.terms.frame import Evaluated, evaluate
from mixef.terms.nodes import Node
from mixef.terms.parser import parse_argument
from mixef.terms.relation.engines import as_batch
from mixef.terms.relation.text import TableColumns
from mixef.terms.rows import considered_rows

if TYPE_CHECKING:
    import pyarrow as pa
else:
    pa = LateModule("pyarrow")


@dataclass(frozen=True, eq=False)
class Batch:
    """Some rows of a table, and a formula's variables in them."""

    found: Evaluated
    chosen: np.ndarray | None  # positions of the rows that `subset` chose; None for all
    n: int  # rows of the table; what is evaluated beyond them are not its rows
    chooser: Scope  # of the condition


@dataclass(frozen=True, eq=False)
class Reader:
    """Reads a formula's variables from a table, a batch of rows at a time."""

    columns: TableColumns
    formula: Formula
    state: State  # what functions learnt from all rows
    env: Mapping[str, Any] | None
    weights: Any  # text, a number, or None
    offset: Any
    subset: Any
    #: Rows that are evaluated behind those of every batch, so that every level is seen in each.
    witnesses: Any = field(default=None, repr=False)

    def __getstate__(self) -> dict[str, Any]:
        """Leave the caller's names out of a pickle: what was found of them is in the state."""
        return vars(self) | {"env": None}

    def batches(self) -> Iterator[Batch]:
        """Yield the variables of each batch."""
        for batch in self.columns.relation.batches():
            yield self.read(batch)

    def read(self, batch: pa.RecordBatch) -> Batch:
        """Return the variables of a batch."""
        columns = self.columns.of(with_rows_behind(batch, self.witnesses))
        # What functions learn here is of these rows alone, and goes with them.
        state = State(dict(self.state.transforms), self.state.outside)
        found = evaluate(
            self.formula, columns, state, self.env, weights=self.weights, offset=self.offset
        )
        chooser = Scope(columns, state, self.env)
        chosen = considered_rows(self.subset, chooser)
        if self.witnesses is not None:
            chosen = np.arange(batch.num_rows) if chosen is None else chosen
            chosen = chosen[: np.searchsorted(chosen, batch.num_rows)]
        return Batch(found, chosen, batch.num_rows, chooser)

    @property
    def arguments(self) -> list[Node]:
        """What the arguments that are text mean."""
        given = {"weights": self.weights, "subset": self.subset, "offset": self.offset}
        return [
            parse_argument(text, self.columns.all_names, what)
            for what, items in given.items()
            for text in (items if isinstance(items, list) else [items])
            if isinstance(text, str)
        ]


def with_rows_behind(batch: pa.RecordBatch, rows: pa.RecordBatch | None) -> pa.RecordBatch:
    """Return a batch with more rows, whose other columns are missing."""
    if rows is None:
        return batch
    columns = [
        rows.column(field.name)
        if field.name in rows.schema.names
        else pa.nulls(rows.num_rows, field.type)
        for field in batch.schema
    ]
    types = [column.type for column in columns]
    table = pa.Table.from_batches([batch])
    for place, (own, name) in enumerate(zip(types, batch.schema.names, strict=True)):
        held = table.column(place)
        if pa.types.is_dictionary(own):  # each batch has a dictionary of its own
            columns[place] = columns[place].cast(own.value_type)
            table = table.set_column(place, name, held.cast(own.value_type))
    more = pa.Table.from_arrays(columns, schema=table.schema)
    return as_batch(pa.concat_tables([table, more]))
