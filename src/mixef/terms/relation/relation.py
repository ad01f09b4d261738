"""A table that lies in files, a database or a cluster: its columns, and its rows in batches."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass, replace
from functools import cached_property
from glob import has_magic
from os import PathLike, fspath
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pandas as pd

from mixef.errors import DataError, MissingLibraryError
from mixef.late import LateModule
from mixef.terms.relation.elsewhere import Elsewhere

if TYPE_CHECKING:
    import duckdb
    import narwhals as nw
    import polars
    import pyarrow as pa
else:
    duckdb, nw, polars, pa = map(LateModule, ("duckdb", "narwhals", "polars", "pyarrow"))

#: Rows that are read at a time: their columns fit into a processor's cache, and what a batch costs
#: by itself is not seen.
BATCH = 131_072
#: What the engines are called.
ENGINES = {
    "duckdb": "DuckDB",
    "polars": "polars",
    "ibis": "ibis",
    "pyspark": "Spark",
    "pyspark_connect": "Spark",
    "sqlframe": "SQLFrame",
    "dask": "dask",
}


@dataclass(frozen=True, eq=False)
class Relation:
    """A table that an engine holds, of which only batches of rows ever come into memory."""

    lazy: nw.LazyFrame[Any]
    source: Any  # as the caller gave it: a path, or the engine's own object

    @cached_property
    def schema(self) -> Mapping[str, Any]:
        """The columns, and their types as narwhals calls them."""
        return dict(self.lazy.collect_schema())

    @property
    def names(self) -> tuple[str, ...]:
        """The names of the columns."""
        return tuple(self.schema)

    @property
    def engine(self) -> str:
        """What holds the table, as messages call it."""
        name = self.lazy.implementation.value
        return ENGINES.get(name, str(name))

    def __reduce__(self) -> tuple[Any, ...]:
        """Pickle the path of files; what else an engine holds does not outlive its process."""
        if isinstance(self.source, str | PathLike):
            return _reopened, (self.source, self.names)
        return _lost, (self.engine,)

    def select(self, names: Collection[str]) -> Relation:
        """Return the table with some of its columns alone, decimal numbers as floats."""
        column = nw.col
        chosen = [
            column(name).cast(nw.Float64) if self.schema[name] == nw.Decimal else column(name)
            for name in self.names
            if name in names
        ]
        return replace(self, lazy=self.lazy.select(chosen))

    def collect(self) -> pa.Table:
        """Return all rows, in memory."""
        table: pa.Table = self.lazy.collect("pyarrow").to_native()
        return table

    def batches(self, rows: int | None = None) -> Iterator[pa.RecordBatch]:
        """Yield all rows, some at a time, none of them empty."""
        for batch in _BATCHES[self.lazy.implementation.value](self.lazy.to_native(), rows or BATCH):
            if batch.num_rows:
                yield batch


def relation_of(data: Any) -> Relation | None:
    """Return data that stay where they lie; None for data in memory.

    Parameters
    ----------
    data : Any
        The path of a Parquet file, a pattern of such paths, a folder of them, or what narwhals
        takes for lazy: a DuckDB relation, a LazyFrame of polars, a table of ibis, a frame of Spark.

    Raises
    ------
    DataError
        For a path that leads to no Parquet file, or an engine whose rows cannot be read in
        batches.
    """
    if isinstance(data, Relation) or data is None:
        return data
    if isinstance(data, str | PathLike):
        return Relation(_scanned(fspath(data)), data)
    if isinstance(data, pd.DataFrame | pd.Series | Mapping | type):
        return None
    native = nw.from_native(data, pass_through=True)
    if not isinstance(native, nw.LazyFrame):
        return None
    if native.implementation.value not in _BATCHES:
        known = ", ".join(sorted({ENGINES[name] for name in _BATCHES}))
        raise DataError(
            f"data of {native.implementation.value} cannot be read in batches; expected one of "
            f"{known}, or a frame in memory: collect it before"
        )
    return Relation(native, data)


def _reopened(path: str | PathLike[str], names: Collection[str]) -> Relation:
    relation = relation_of(path)
    assert relation is not None
    return relation.select(names)


def _lost(engine: str) -> Any:
    return Elsewhere("the rows", (0,), engine)


def _scanned(path: str) -> nw.LazyFrame[Any]:
    """Return the table of Parquet files, by DuckDB or by polars."""
    if not (has_magic(path) or path.endswith((".parquet", ".pq", ".parq")) or _is_folder(path)):
        raise DataError(
            f"the data are {path!r}; a path leads to Parquet files (.parquet, or a pattern such as "
            "'data/*.parquet'): read another file before, as by pandas.read_csv()"
        )
    pattern = f"{path.rstrip('/')}/**/*.parquet" if _is_folder(path) else path
    for library, scan in ((duckdb, "read_parquet"), (polars, "scan_parquet")):
        try:
            read = getattr(library, scan)
        except ImportError:
            continue
        try:
            lazy: nw.LazyFrame[Any] = nw.from_native(read(pattern))
            return lazy
        except Exception as error:
            what = str(error).splitlines()[0]
            raise DataError(f"cannot read Parquet files from {path!r}: {what}") from None
    raise MissingLibraryError(
        f"reading Parquet files where they lie ({path!r}) takes DuckDB or polars: "
        "pip install duckdb"
    )


def _is_folder(path: str) -> bool:
    return Path(path).is_dir()


def _of_duckdb(relation: Any, rows: int) -> Iterator[pa.RecordBatch]:
    reader = getattr(relation, "to_arrow_reader", None) or relation.fetch_record_batch
    yield from reader(rows)


def _of_polars(frame: Any, rows: int) -> Iterator[pa.RecordBatch]:
    for part in frame.collect_batches(chunk_size=rows):
        yield from part.to_arrow().to_batches()


def _of_ibis(table: Any, rows: int) -> Iterator[pa.RecordBatch]:
    backend = table.get_backend()
    if backend.name == "duckdb":  # whose own batches depend on DuckDB's release
        yield from _of_duckdb(backend.con.sql(backend.compile(table)), rows)
        return
    yield from table.to_pyarrow_batches(chunk_size=rows)


def _of_spark(frame: Any, rows: int) -> Iterator[pa.RecordBatch]:
    """Read Arrow batches as the workers make them, each written into one cell of a table."""
    for row in frame.mapInArrow(_packed, "batch binary").toLocalIterator():
        yield from pa.ipc.open_stream(row["batch"])


def _packed(batches: Iterator[pa.RecordBatch]) -> Iterator[pa.RecordBatch]:
    """Write each batch into one cell."""
    for batch in batches:
        sink = pa.BufferOutputStream()
        with pa.ipc.new_stream(sink, batch.schema) as writer:
            writer.write_batch(batch)
        yield pa.record_batch([[sink.getvalue().to_pybytes()]], names=["batch"])


_BATCHES = {
    "duckdb": _of_duckdb,
    "polars": _of_polars,
    "ibis": _of_ibis,
    "pyspark": _of_spark,
    "pyspark_connect": _of_spark,
}
