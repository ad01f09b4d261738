"""Passes over the rows of a generalized model by the executors of Spark, where these rows are."""

from __future__ import annotations

import copy
import pickle
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Self

from mixef.estimation.chunked import BatchedRows
from mixef.late import LateModule
from mixef.linalg.chunks import AnySums, ChunkSource
from mixef.linalg.sources import Chunk
from mixef.terms.relation.engines import BATCH, ENGINES, gathered, reading, spread_by_spark
from mixef.terms.relation.frame import RelationFrame

if TYPE_CHECKING:
    import pyspark.cloudpickle as cloudpickle
else:
    cloudpickle = LateModule("pyspark.cloudpickle")


@dataclass(frozen=True)
class PartOfPass:
    """What a pass sums of one partition of a table; it goes there as a pickle."""

    rows: BatchedRows
    step: Callable[[Chunk], Any]
    outside: dict[str, Any]  # functions of the caller's, which a state leaves out of its pickle

    def __call__(self, batches: Iterator[Any]) -> bytes:
        """Return the sums, how many rows were used, and how many there were, as a pickle."""
        frame = self.rows.spec.frame
        assert isinstance(frame, RelationFrame)
        frame.reader.state.outside.update(self.outside)
        counts = [0, 0]

        def chunks() -> Iterator[Chunk]:
            for batch in gathered(batches, BATCH, ENGINES["pyspark"]):
                own, used = frame.used_of(batch)
                counts[0] += len(used)
                counts[1] += batch.num_rows
                if own is not None:
                    yield self.rows.chunk_of(own)

        sums = ChunkSource.added(map(self.step, chunks()))
        return pickle.dumps((sums, *counts))


class SpreadRows(ChunkSource):
    """Rows that a frame of Spark holds: what a pass sums of them is summed on the executors.

    One row a partition comes back, with its sums.

    Parameters
    ----------
    rows : BatchedRows
    """

    def __init__(self, rows: BatchedRows):
        self._rows = rows

    def of(self, kept: Sequence[int]) -> Self:
        """Return the same rows with some columns of X alone."""
        own = copy.copy(self)
        own._rows = BatchedRows(self._rows.spec, kept)
        return own

    def chunks(self) -> Iterator[Chunk]:
        """Yield the rows, which are read for that."""
        return self._rows.chunks()

    def total(self, step: Callable[[Chunk], AnySums]) -> AnySums:
        """Return the sums that a step makes of every chunk, added up."""
        self.passes += 1
        frame = self._rows.spec.frame
        assert isinstance(frame, RelationFrame)
        part = PartOfPass(self._rows, step, frame.reader.state.outside)
        work: bytes = cloudpickle.dumps(part)  # type: ignore[no-untyped-call]
        with reading(frame.relation.engine):
            made = spread_by_spark(frame.relation.lazy.to_native(), work)
        parts = [pickle.loads(part) for part in made]
        frame.check_counts(*(sum(part[k] for part in parts) for k in (1, 2)))
        total: AnySums | None = self.added(part[0] for part in parts if part[0] is not None)
        if total is None:
            raise ValueError("there are no rows in the chunks; expected some")
        return total
