"""Text columns of a relation: their levels, which are asked for once, and codes in each batch."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from mixef.late import LateModule
from mixef.terms.columns import Columns
from mixef.terms.convert import Column, read
from mixef.terms.factor import Factor
from mixef.terms.labels import LevelSet
from mixef.terms.relation.relation import Relation

if TYPE_CHECKING:
    import narwhals as nw
    import pyarrow as pa
    import pyarrow.compute as pc
else:
    nw, pa, pc = (LateModule(name) for name in ("narwhals", "pyarrow", "pyarrow.compute"))


@dataclass(frozen=True, eq=False)
class TextColumn:
    """The levels that a column of text, or of categories, has anywhere in its table."""

    level_set: LevelSet
    values: Any  # the same, as an array of Arrow
    kind: str  # {"character", "factor"}

    def factor(self, column: Any) -> Factor:
        """Return a batch's part of the column (n,)."""
        if pa.types.is_dictionary(column.type):
            table = np.append(self._places(column.dictionary), np.int32(-1))
            codes = table[column.indices.fill_null(-1).to_numpy(zero_copy_only=False)]
        else:
            codes = self._places(column)
        return Factor(codes, self.level_set, kind=self.kind)

    def _places(self, labels: Any) -> np.ndarray:
        labels = labels.cast(self.values.type) if labels.type != self.values.type else labels
        found = pc.index_in(labels, value_set=self.values, skip_nulls=True).fill_null(-1)
        places: np.ndarray = found.to_numpy(zero_copy_only=False).astype(np.int32, copy=False)
        return places


def text_columns(relation: Relation) -> dict[str, TextColumn]:
    """Return the columns of text and of categories, with all their levels.

    An enumeration keeps the order that it declares. What else there is has no order: its levels
    are sorted.
    """
    found = {}
    for name, dtype in relation.schema.items():
        if dtype == nw.Enum:
            found[name] = _column(list(dtype.categories), "factor")
        elif dtype in (nw.String, nw.Categorical):
            text = nw.col(name).cast(nw.String)
            distinct = relation.lazy.select(text).filter(~nw.col(name).is_null()).unique()
            labels = distinct.collect("pyarrow").to_native().column(0).to_pylist()
            found[name] = _column(sorted(labels), "character" if dtype == nw.String else "factor")
    return found


def _column(labels: list[str], kind: str) -> TextColumn:
    return TextColumn(LevelSet(tuple(labels)), pa.array(labels, pa.large_string()), kind)


def columns_of(batch: pa.RecordBatch, text: Mapping[str, TextColumn]) -> Columns:
    """Return a batch as columns of a formula; every factor has the levels of the whole table."""
    columns: dict[str, Column] = {}
    frame = nw.from_native(pa.Table.from_batches([batch]), eager_only=True)
    for name in batch.schema.names:
        own = text.get(name)
        columns[name] = read(frame[name], name) if own is None else own.factor(batch.column(name))
    return Columns(columns)


def collected(
    relation: Relation, names: Collection[str], text: Mapping[str, TextColumn]
) -> Columns:
    """Return some columns of all rows, in memory."""
    table = relation.select(names).collect().combine_chunks()
    return columns_of(table.to_batches()[0], text)
