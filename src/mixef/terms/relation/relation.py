"""A table that lies in files, a database or a cluster: its columns, and its rows in batches."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass, replace
from functools import cached_property
from os import PathLike, fspath
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd

from mixef.errors import DataError
from mixef.late import LateModule
from mixef.terms.relation import engines
from mixef.terms.relation.elsewhere import Elsewhere
from mixef.terms.relation.engines import (
    BATCHES,
    DISTINCT,
    ENGINES,
    arrow_has,
    as_batch,
    batches_of,
    check_duckdb,
    collected,
    reading,
)
from mixef.terms.relation.files import full_path, scanned

if TYPE_CHECKING:
    import narwhals as nw
    import pyarrow as pa
else:
    nw, pa = map(LateModule, ("narwhals", "pyarrow"))


@dataclass(frozen=True, eq=False)
class Relation:
    """A table that an engine holds, of which only batches of rows ever come into memory."""

    lazy: nw.LazyFrame[Any]
    source: Any  # a full path, or the engine's own object

    @cached_property
    def schema(self) -> Mapping[str, Any]:
        """The columns, and their types as narwhals calls them."""
        with reading(self.engine):
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

    @property
    def is_path(self) -> bool:
        """Whether other processes find the table again."""
        return isinstance(self.source, str)

    def __reduce__(self) -> tuple[Any, ...]:
        """Pickle the path of files; what else an engine holds does not outlive its process."""
        if self.is_path:
            return _reopened, (self.source, self.names)
        return _lost, (self.engine, self.names)

    def select(self, names: Collection[str]) -> Relation:
        """Return the table with some of its columns alone; without any, with its first one.

        Raises
        ------
        DataError
            For names that the engine cannot look up.
        """
        chosen = [name for name in self.names if name in names] or list(self.names[:1])
        odd = [name for name in chosen if self.engine == "Spark" and ("." in name or "`" in name)]
        if odd:
            raise DataError(
                f"the column {odd[0]!r} has a name that Spark takes for a path into a structure: "
                f"rename it before, as by .withColumnRenamed({odd[0]!r}, "
                f"{odd[0].replace('.', '_').replace('`', '_')!r})"
            )
        with reading(self.engine):
            return replace(self, lazy=self.lazy.select(chosen))

    def collect(self) -> pa.Table:
        """Return all rows, in memory."""
        return collected(self.lazy)

    def batches(self, rows: int | None = None) -> Iterator[pa.RecordBatch]:
        """Yield all rows, some at a time, none of the batches empty."""
        name = self.lazy.implementation.value
        return batches_of(name, self.lazy.to_native(), rows or engines.BATCH)

    def n_distinct(self) -> int:
        """Return how many distinct rows there are, within a few percent."""
        with reading(self.engine):
            return DISTINCT[self.lazy.implementation.value](self.lazy.to_native())

    def distinct_batches(self) -> Iterator[tuple[pa.RecordBatch, np.ndarray]]:
        """Yield the distinct rows, some at a time, and how often each occurs."""
        names = list(self.names)
        count = next(f"n{k}" for k in range(len(names) + 1) if f"n{k}" not in map(str.lower, names))
        with reading(self.engine):
            lazy = self.lazy.group_by(names).agg(nw.len().alias(count))
        for batch in replace(self, lazy=lazy).batches():
            yield batch.select(names), batch.column(count).to_numpy(zero_copy_only=False)

    def first(self) -> pa.RecordBatch | None:
        """Return some rows, whichever the engine has at hand; None for a table without any."""
        with reading(self.engine):
            some = replace(self, lazy=self.lazy.head(engines.BATCH)).collect()
        return as_batch(some) if some.num_rows else None


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
    MissingLibraryError
        For data in DuckDB 1.
    """
    if isinstance(data, Relation) or data is None:
        return data
    if isinstance(data, Elsewhere):  # what was a table before it was pickled
        data._refuse()
    if isinstance(data, str | PathLike):
        return Relation(scanned(fspath(data)), full_path(fspath(data)))
    if isinstance(data, pd.DataFrame | pd.Series | Mapping | type):
        return None
    native = nw.from_native(data, pass_through=True)
    if not isinstance(native, nw.LazyFrame):
        return None
    if native.implementation.value not in BATCHES:
        known = ", ".join(sorted({ENGINES[name] for name in BATCHES}))
        raise DataError(
            f"data of {native.implementation.value} cannot be read in batches; expected one of "
            f"{known}, or a frame in memory: collect it before"
        )
    name = native.implementation.value
    if name == "duckdb":
        check_duckdb()
    with reading(ENGINES[name]):
        return Relation(nw.from_native(arrow_has(name, native.to_native())), data)


def _reopened(path: str, names: tuple[str, ...]) -> Any:
    try:
        relation = relation_of(path)
        assert relation is not None
        return relation.select(names)
    except DataError:  # what a fit estimated is there without them
        return _lost(path, names)


def _lost(place: str, names: tuple[str, ...]) -> Any:
    lost: Any = Elsewhere("the rows", (0,), place, lost=True)
    lost.names = names
    return lost
