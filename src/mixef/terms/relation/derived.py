"""A table with more columns than an engine has of it, which are made whenever it is read."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, Any

from mixef.late import LateModule
from mixef.terms.relation.engines import collected, reading
from mixef.terms.relation.relation import Relation

if TYPE_CHECKING:
    import duckdb
    import ibis
    import polars
    import pyarrow as pa
    import pyspark
    from polars.io import plugins
    from pyspark.sql import types as spark_types
else:
    duckdb, ibis, polars, pa, plugins, pyspark, spark_types = map(
        LateModule,
        [
            "duckdb",
            "ibis",
            "polars",
            "pyarrow",
            "polars.io.plugins",
            "pyspark",
            "pyspark.sql.types",
        ],
    )


class OfBatch(ABC):
    """From some rows of a table to these, or those that count, with new columns of numbers."""

    @abstractmethod
    def __call__(self, batch: pa.RecordBatch) -> pa.RecordBatch:
        """Return the rows with the columns."""

    def begin(self, part: int | None = None) -> OfBatch:
        """Return what does so in one reading of the rows, from the first on.

        Parameters
        ----------
        part : int, optional
            Which part of the rows is read, where workers share them.
        """
        return self


@dataclass(frozen=True, eq=False)
class Derived:
    """A table and what is computed of it, batch by batch; nothing is, until it is read."""

    relation: Relation
    names: tuple[str, ...]  # of the new columns, which are numbers
    of_batch: OfBatch

    @cached_property
    def schema(self) -> pa.Schema:
        """All columns: those of the table, and the new ones."""
        empty = collected(self.relation.lazy.head(0))
        kept = [field for field in empty.schema if field.name not in self.names]
        return pa.schema([*kept, *(pa.field(name, pa.float64()) for name in self.names)])

    def batches(self) -> Iterator[pa.RecordBatch]:
        """Yield the rows, some at a time; every time from the first on."""
        of_batch = self.of_batch.begin()
        for batch in self.relation.batches():
            made = pa.Table.from_batches([of_batch(batch)])
            yield from made.select(self.schema.names).cast(self.schema).to_batches()

    def __arrow_c_stream__(self, requested_schema: Any = None) -> Any:
        reader = pa.RecordBatchReader.from_batches(self.schema, self.batches())
        return reader.__arrow_c_stream__(requested_schema)

    def native(self) -> Any:
        """Return the table as its engine's own lazy object.

        The columns are made for the first batch, so that wrong arguments are told of at once.
        """
        first = self.relation.first()
        if first is not None:
            self.of_batch.begin()(first)
        return _NATIVE[self.relation.lazy.implementation.value](self)


def _as_duckdb(made: Derived) -> Any:
    # A connection of its own: while it runs a query, that of the table is asked for the rows.
    return duckdb.connect().from_arrow(made)


def _as_polars(made: Derived) -> Any:
    def rows(columns: Any, predicate: Any, n_rows: Any, batch_size: Any) -> Iterator[Any]:
        left = n_rows
        for batch in made.batches():
            frame = polars.DataFrame(pa.Table.from_batches([batch]))
            frame = frame if left is None else frame.head(left)
            left = None if left is None else left - len(frame)
            frame = frame if predicate is None else frame.filter(predicate)
            yield frame if columns is None else frame.select(columns)
            if left == 0:
                return

    schema = polars.DataFrame(made.schema.empty_table()).schema
    return plugins.register_io_source(rows, schema=schema)


def _as_ibis(made: Derived) -> Any:
    # By the caller's own thread, since connections such as SQLite's serve no other.
    own = ibis.duckdb.connect(threads=1)
    own.con.register("rows", made)
    with reading("ibis"):
        return own.table("rows")


def _as_spark(made: Derived) -> Any:
    """Compute the columns where the rows are, by the workers."""
    native = made.relation.lazy.to_native()
    fields = native.schema.fields
    kept = [field for field in fields if field.name not in made.names]
    new = [spark_types.StructField(name, spark_types.DoubleType()) for name in made.names]
    names = [field.name for field in [*kept, *new]]
    # By numbers: a name with a dot is a path to Spark, also where no model uses the column.
    numbered = native.toDF(*(f"c{k}" for k in range(len(fields))))
    work = _OnWorkers(made.of_batch, [field.name for field in fields], names)
    return numbered.mapInArrow(work, spark_types.StructType([*kept, *new]))


@dataclass(frozen=True)
class _OnWorkers:
    """What the workers of a cluster do with batches; a class, so that it pickles."""

    of_batch: OfBatch
    read: list[str]  # what the columns are called that come
    names: list[str]  # of those that go

    def __call__(self, batches: Iterator[pa.RecordBatch]) -> Iterator[pa.RecordBatch]:
        task = pyspark.TaskContext.get()
        of_batch = self.of_batch.begin(None if task is None else task.partitionId())
        for batch in batches:
            named = pa.RecordBatch.from_arrays(batch.columns, names=self.read)
            yield of_batch(named).select(self.names)


_NATIVE: dict[str, Callable[[Derived], Any]] = {
    "duckdb": _as_duckdb,
    "polars": _as_polars,
    "ibis": _as_ibis,
    "pyspark": _as_spark,
    "pyspark[connect]": _as_spark,
}
