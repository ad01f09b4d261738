"""Columns of a relation in batches: text by codes of levels that are asked for once."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from contextlib import suppress
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import numpy as np

from mixef.errors import table_changed
from mixef.late import LateModule
from mixef.terms.columns import Columns
from mixef.terms.convert import Column, read
from mixef.terms.exact import Integers
from mixef.terms.factor import Factor
from mixef.terms.labels import LevelSet
from mixef.terms.relation.engines import as_batch, collected, reading
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
    #: Whether its engine takes some of them for one, by a collation without case or accents.
    is_folded: bool = False

    def read(self, column: Any) -> Column:
        """Return a batch's part of the column (n,): a factor, or NaN if nothing is anywhere."""
        if not len(self.level_set):
            return np.full(len(column), np.nan)
        if pa.types.is_dictionary(column.type):
            table = np.append(self._places(column.dictionary), np.int32(-1))
            indices = column.indices.cast(pa.int32()).fill_null(-1)
            codes = table[indices.to_numpy(zero_copy_only=False)]
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
            found[name] = _column(list(map(str, dtype.categories)), "factor")
        elif dtype in (nw.String, nw.Categorical):
            with reading(relation.engine):
                text = relation.lazy.select(nw.col(name).cast(nw.String).alias("label"))
                text = text.filter(~nw.col("label").is_null())
                # Groups are found by hashing; narwhals' `unique` numbers the rows of each.
                groups = text.group_by("label").agg(nw.len().alias("rows"))
                groups = groups.select("label", folded=_is_folded(nw.col("label")))
                table = collected(groups)
            labels, folded = table["label"].to_pylist(), any(table["folded"].to_pylist())
            if folded:  # the groups have one of the labels that the rows have
                parts = replace(relation, lazy=text).batches()
                labels = [*set().union(*(part.column(0).unique().to_pylist() for part in parts))]
            kind = "character" if dtype == nw.String else "factor"
            found[name] = _column(sorted(labels), kind, folded)
    return found


def _is_folded(label: Any) -> Any:
    """Return whether other labels are equal to one by the collation that it has in its engine.

    Of SQLite's texts, what is made of them has no collation any more.
    """
    upper, nothing = label.str.to_uppercase(), nw.lit("")

    def ended(end: str) -> Any:
        return nw.concat_str(label, nw.lit(end))

    by_case = (label == upper) & (nw.concat_str(label, nothing) != nw.concat_str(upper, nothing))
    return by_case | (label == ended(" ")) | (ended("a") == ended("A")) | (ended("a") == ended("á"))


def _column(labels: list[str], kind: str, is_folded: bool = False) -> TextColumn:
    values = pa.array(labels, pa.large_string())
    return TextColumn(LevelSet(tuple(labels)), values, kind, is_folded)


@dataclass(frozen=True, eq=False)
class TableColumns:
    """Reads batches of a table as columns of a formula."""

    relation: Relation  # with the columns that are read
    all_names: tuple[str, ...]  # of the whole table, for messages
    text: Mapping[str, TextColumn]
    told: set[str]  # what a warning told of: columns of whole numbers that lose digits, ...

    @property
    def is_folded(self) -> bool:
        """Whether the engine would join levels of text, so that the rows have to be read."""
        return any(column.is_folded for column in self.text.values())

    def of(self, batch: pa.RecordBatch) -> Columns:
        """Return a batch; every factor has the levels of the whole table."""
        columns: dict[str, Column] = {}
        frame = nw.from_native(pa.Table.from_batches([batch]), eager_only=True)
        for name in batch.schema.names:
            own, held = self.text.get(name), batch.column(name)
            if own is not None:
                columns[name] = value = own.read(held)
                if isinstance(value, Factor) and (value.codes < 0).sum() > held.null_count:
                    raise table_changed(
                        f"the column {name!r} has labels that it had not when they were counted"
                    )
            elif pa.types.is_decimal(held.type):
                columns[name] = read(_numbers(held), name)
            else:
                columns[name] = read(frame[name], name)
            if isinstance(whole := columns[name], Integers):
                columns[name] = replace(whole, told=self.told)
        return Columns.in_batches(columns, batch.num_rows, self.all_names, self.relation.engine)

    def collected(self, names: Collection[str]) -> Columns:
        """Return some columns of all rows, in memory."""
        table = self.relation.select(names).collect()
        for place, name in enumerate(table.column_names):
            if name in self.text:  # 32 bits may not count the letters of a whole column
                table = table.set_column(place, name, table.column(place).cast(pa.large_string()))
        return self.of(as_batch(table))


def _numbers(decimals: Any) -> Any:
    """Return decimal numbers as whole ones if all are, else as floats, NaN where missing."""
    for whole in (pa.int64(), pa.decimal128(38)):
        with suppress(pa.ArrowInvalid):  # a fraction, or too large
            return nw.from_native(pa.chunked_array([decimals.cast(whole)]), series_only=True)
    return decimals.cast(pa.float64()).to_numpy(zero_copy_only=False)
