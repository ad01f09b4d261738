"""The engines that hold tables: how each yields rows in batches of Arrow, and how each fails."""

from __future__ import annotations

import pickle
import re
import sys
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager, nullcontext
from typing import TYPE_CHECKING, Any

from mixef.errors import DataError, MissingLibraryError, MixefError
from mixef.late import LateModule

if TYPE_CHECKING:
    import duckdb
    import ibis
    import polars
    import pyarrow as pa
else:
    duckdb, ibis, polars, pa = map(LateModule, ("duckdb", "ibis", "polars", "pyarrow"))

#: Rows that are read at a time: their columns fit into a processor's cache, and what a batch costs
#: by itself is not seen.
BATCH = 131_072
#: What the engines are called, by narwhals' names.
ENGINES = {
    "duckdb": "DuckDB",
    "polars": "polars",
    "ibis": "ibis",
    "pyspark": "Spark",
    "pyspark[connect]": "Spark",
    "sqlframe": "SQLFrame",
    "dask": "dask",
}

#: Those whose rows come as fast as their sums, and as they are asked for; polars makes them ahead,
#: which takes memory.
PROMPT = ("duckdb",)
#: Those that work on several queries at a time, each asked from a thread of its own.
AT_ONCE = ("pyspark", "pyspark[connect]")


def check_duckdb() -> None:
    """Refuse DuckDB 1, where a result that is being read ends without a word at another query.

    Raises
    ------
    MissingLibraryError
        With the version that is installed.
    """
    if int(duckdb.__version__.split(".")[0]) < 2:
        raise MissingLibraryError(
            f"DuckDB {duckdb.__version__} is installed, and data that lie in it are read from "
            "DuckDB 2 on: pip install --upgrade duckdb"
        )


@contextmanager
def reading(engine: str, *passing: type[Exception]) -> Iterator[None]:
    """Make an engine's errors ours, which say what failed in one line.

    Parameters
    ----------
    passing : types of exceptions
        That the caller knows what to do about.
    """
    left: tuple[type[BaseException], ...] = (MixefError, MemoryError, *passing)
    try:
        with _quiet() if engine == "ibis" else nullcontext():
            yield
    except left:
        raise
    except BaseException as error:
        pass_interrupt(error)
        # A panic of polars is no Exception.
        if not isinstance(error, Exception) and type(error).__name__ != "PanicException":
            raise
        raise DataError(
            f"{engine} failed to read the table: {_cause(error)}{_remedy(str(error))}"
        ) from error


@contextmanager
def _quiet() -> Iterator[None]:
    """Leave out what ibis is warned of: it calls what DuckDB 2 is about to drop."""
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", category=DeprecationWarning, module=r"ibis\.")
        yield


def pass_interrupt(error: BaseException) -> None:
    """Raise what Ctrl-C does where it met a query of DuckDB, which makes it an error of its own."""
    if "Query interrupted" in str(error):
        raise KeyboardInterrupt from error


def _cause(error: BaseException) -> str:
    """Return what an engine says, in a line: of errors of Java's or Python's, the last cause."""
    text = str(error)
    causes = re.findall(r"^(?:Caused by: )?([\w.]+(?:Error|Exception): .*)$", text, re.MULTILINE)
    lines = [line.strip() for line in text.splitlines() if line.strip("- \n")]
    chosen = causes[-1:] if len(lines) > 9 or "Traceback (most recent" in text else lines[:2]
    return (" ".join(chosen or lines[:2]) or type(error).__name__)[:500]


def _remedy(text: str) -> str:
    if "busy" in text or "open result" in text:  # of a connection of DuckDB
        return (
            "; one connection serves one thread and one query at a time: give every thread a "
            "relation of a cursor of its own, as by con.cursor().table(...)"
        )
    if "already been closed" in text:
        return (
            "; a fit reads its rows when they are asked for: keep the connection open, or fit the "
            "model to a Parquet file"
        )
    if "schema mismatch in glob" in text:
        return (
            "; files with other columns are one table by duckdb.read_parquet(files, "
            "union_by_name=True), which is data too"
        )
    if re.search("no such file|no files found|path does not exist", text, re.IGNORECASE):
        return (
            "; the file is not there, or no longer: put it back, or open it where it is, and fit "
            "the model to that table, as by update(data=...)"
        )
    if "No module named 'pyarrow'" in text:  # of Spark's workers
        return (
            ": install pyarrow where Spark runs Python, or say which Python has it, by "
            "spark.pyspark.python or PYSPARK_PYTHON"
        )
    return ""


def arrow_has(name: str, native: Any) -> Any:
    """Return a table with the types that Arrow has too: whole numbers of 128 bits as decimal."""
    if name != "polars" or not hasattr(polars, "Int128"):
        return native
    return native.cast({polars.Int128: polars.Decimal(38, 0)}, strict=True)


def batches_of(name: str, native: Any, rows: int) -> Iterator[pa.RecordBatch]:
    """Yield the rows of a table, about so many at a time, none of the batches empty.

    Parameters
    ----------
    name : str
        Of the engine, as narwhals has it.
    native : Any
        The engine's own object.
    """
    read = BATCHES[name](native, rows)
    try:
        yield from gathered(read, rows, ENGINES[name])
    finally:
        read.close()  # a connection takes no other query while a result is open


def collected(lazy: Any) -> pa.Table:
    """Return all rows of a lazy frame of narwhals, in memory."""
    name = lazy.implementation.value
    with reading(ENGINES[name]):
        if name == "duckdb":  # whose other ways end at Ctrl-C only when their query has ended
            with lazy.to_native().to_arrow_reader(BATCH) as reader:
                table: pa.Table = reader.read_all()
            return table
        table = lazy.collect("pyarrow").to_native()
    return table


def result_of(lazy: Any) -> Iterator[pa.RecordBatch]:
    """Yield the rows of a lazy frame of narwhals that are few beside those of its table."""
    name = lazy.implementation.value
    if name in ("duckdb", "ibis"):  # a copy of all of them is spared
        yield from batches_of(name, lazy.to_native(), BATCH)
        return
    # Spark's have 10,000 rows.
    yield from gathered(iter(collected(lazy).to_batches()), BATCH, ENGINES[name])


def gathered(read: Iterator[pa.RecordBatch], rows: int, engine: str) -> Iterator[pa.RecordBatch]:
    """Join small batches, and cut large ones."""
    held: list[pa.RecordBatch] = []
    count = 0
    while True:
        with reading(engine):
            batch = next(read, None)
        if batch is not None:
            held.append(batch)
            count += batch.num_rows
        if count and (batch is None or 2 * count > rows):
            whole = _joined(held) if len(held) > 1 else held[0]
            for start in range(0, count, 2 * rows):
                yield whole.slice(start, 2 * rows)
            held, count = [], 0
        if batch is None:
            return


def _joined(batches: list[pa.RecordBatch]) -> pa.RecordBatch:
    """Return batches as one, their categories in one dictionary."""
    table = pa.Table.from_batches(batches).unify_dictionaries()
    return as_batch(table)


def as_batch(table: pa.Table) -> pa.RecordBatch:
    """Return a table in one piece."""
    return pa.RecordBatch.from_arrays(
        [_one_array(column) for column in table.columns], schema=table.schema
    )


def _one_array(column: Any) -> Any:
    whole = column.combine_chunks()
    return pa.concat_arrays(whole.chunks) if isinstance(whole, pa.ChunkedArray) else whole


def _of_duckdb(relation: Any, rows: int) -> Iterator[pa.RecordBatch]:
    yield from relation.to_arrow_reader(rows)


def _of_polars(frame: Any, rows: int) -> Iterator[pa.RecordBatch]:
    if not hasattr(frame, "collect_batches"):  # polars 1 had no way to
        for part in frame.collect().iter_slices(rows):
            yield from part.to_arrow().to_batches()
        return
    found = 0
    for part in frame.collect_batches(chunk_size=rows):
        found += part.height
        yield from part.to_arrow().to_batches()
    # Where a thread of polars dies, its batches just end.
    if found != (expected := frame.select(polars.len()).collect().item()):
        raise OSError(f"the scan ended after {found:,} of {expected:,} rows")


def _of_ibis(table: Any, rows: int) -> Iterator[pa.RecordBatch]:
    backend = ibis.get_backend(table)
    if backend.name != "duckdb":
        yield from table.to_pyarrow_batches(chunk_size=rows)
        return
    # ibis 12 asks DuckDB's connections for a method that those of DuckDB 2 do not have. What the
    # caller holds in memory is made known to the connection when a query of it is run by ibis.
    table.limit(0).to_pyarrow()
    yield from _of_duckdb(backend.con.sql(backend.compile(table)), rows)


def _of_spark(frame: Any, rows: int) -> Iterator[pa.RecordBatch]:
    """Read Arrow batches as the workers make them, each written into one cell of a table."""

    # A function inside of a function goes to the workers as code: they need not have this package.
    def packed(batches: Iterator[pa.RecordBatch]) -> Iterator[pa.RecordBatch]:
        import pyarrow

        for batch in batches:
            sink = pyarrow.BufferOutputStream()
            with pyarrow.ipc.new_stream(sink, batch.schema) as writer:
                writer.write_batch(batch)
            cell = pyarrow.array([sink.getvalue().to_pybytes()], pyarrow.binary())
            yield pyarrow.record_batch([cell], names=["batch"])

    for row in frame.mapInArrow(packed, "batch binary").toLocalIterator():
        yield from pa.ipc.open_stream(row["batch"])


BATCHES: dict[str, Callable[[Any, int], Any]] = {
    "duckdb": _of_duckdb,
    "polars": _of_polars,
    "ibis": _of_ibis,
    "pyspark": _of_spark,
    "pyspark[connect]": _of_spark,
}


def _distinct_by_duckdb(relation: Any) -> int:
    names = ", ".join('"' + name.replace('"', '""') + '"' for name in relation.columns)
    return int(relation.aggregate(f"approx_count_distinct(hash({names}))").fetchall()[0][0])


def _distinct_by_polars(frame: Any) -> int:
    rows = polars.struct(polars.all()).hash().approx_n_unique()
    return int(frame.select(rows).collect(engine="streaming").item())


def _distinct_by_ibis(table: Any) -> int:
    return int(table.distinct().count().to_pyarrow().as_py())


def _distinct_by_spark(frame: Any) -> int:
    columns = ", ".join("`" + name + "`" for name in frame.columns)
    return int(frame.selectExpr(f"approx_count_distinct(xxhash64({columns}))").first()[0])


#: How many distinct rows a table has, within a few percent.
DISTINCT: dict[str, Callable[[Any], int]] = {
    "duckdb": _distinct_by_duckdb,
    "polars": _distinct_by_polars,
    "ibis": _distinct_by_ibis,
    "pyspark": _distinct_by_spark,
    "pyspark[connect]": _distinct_by_spark,
}


def own_version() -> str:
    """Return the version of mixef in this process; a pickle of it asks another one."""
    version: str = sys.modules[__name__.partition(".")[0]].__version__
    return version


def spread_by_spark(frame: Any, work: bytes) -> list[bytes]:
    """Return what a pickled function makes of the batches of each partition, where these are.

    Parameters
    ----------
    work : bytes
        A function of mixef's that takes an iterator of batches and returns bytes, as it pickles.
    """
    version, asking = own_version(), pickle.dumps(own_version)

    # A function inside of a function goes to the workers as code, and can say what they lack.
    def made(batches: Iterator[pa.RecordBatch]) -> Iterator[pa.RecordBatch]:
        import pyarrow

        try:
            there = pickle.loads(asking)()
        except ImportError as error:
            raise RuntimeError(
                "mixef cannot be imported where Spark runs Python, on its executors, which compute "
                f"what a model asks of their rows: install mixef {version} there, or make it "
                f"known by spark.submit.pyFiles or spark.archives ({error})"
            ) from None
        if there != version:
            raise RuntimeError(
                f"Spark's executors have mixef {there}, and this is mixef {version}: "
                "install the same version there"
            )
        found = pyarrow.array([pickle.loads(work)(batches)], pyarrow.binary())
        yield pyarrow.record_batch([found], names=["made"])

    return [bytes(row["made"]) for row in frame.mapInArrow(made, "made binary").collect()]
