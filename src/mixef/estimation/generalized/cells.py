"""Rows of a generalized model that an engine holds, as distinct ones where that saves work."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace

from mixef.estimation.chunked import BatchedRows
from mixef.estimation.generalized.collapse import collapse, collapses
from mixef.estimation.generalized.spread import SpreadRows
from mixef.estimation.spec import ModelSpec
from mixef.families.family import Family
from mixef.linalg.chunks import ChunkSource
from mixef.linalg.sources import Chunk, sliced
from mixef.linalg.spool import Spooled
from mixef.terms.relation.frame import RelationFrame

# Rows that are too few for the engine to be asked what there is to save.
FEW = 100_000
# Rows for each distinct one, at least, where grouping them takes less time than it saves.
SHARED = 4
# Distinct rows that an engine is asked to tell apart, and the numbers in them that are held here
# while those with one linear predictor are joined.
MOST_DISTINCT, MOST_NUMBERS = 20_000_000, 20_000_000
# Rows from which on Spark's executors sum over them, for which there may be no room here: to read
# fewer ones once costs less than passes by Spark.
MANY = 100_000_000
# Rows of a chunk of what was joined.
STEP = 65_536


def rows_of(spec: ModelSpec) -> ChunkSource:
    """Return the rows of a model that an engine holds, to be read once or summed by it."""
    rows, frame, family = BatchedRows(spec), spec.frame, spec.kind.family
    assert isinstance(frame, RelationFrame)
    if frame.is_ordered:
        return Spooled(rows)
    if frame.n >= FEW and collapses(family) and not frame.reader.columns.is_folded:
        n_distinct = frame.relation.n_distinct()
        if n_distinct <= min(frame.n / SHARED, MOST_DISTINCT):
            return Spooled(CellRows(rows, family, n_distinct))
    if frame.n >= MANY and frame.relation.engine == "Spark":
        return SpreadRows(rows)
    return Spooled(rows)


class CellRows(ChunkSource):
    """Distinct rows that the engine has found; those with one linear predictor are joined here.

    The response of each is a mean or a share then, and its weight the number of rows, or of trials.

    Parameters
    ----------
    rows : BatchedRows
    family : Family
        For which rows collapse.
    n_distinct : int
        How many groups there are, about.
    """

    def __init__(self, rows: BatchedRows, family: Family, n_distinct: int):
        self._rows, self._family, self._n_distinct = rows, family, n_distinct

    def chunks(self) -> Iterator[Chunk]:
        """Yield the rows."""
        spec = self._rows.spec
        width = 5 + len(spec.design.names) + sum(2 + len(term.columns) for term in spec.terms)
        if self._n_distinct * width > MOST_NUMBERS:
            yield from self._groups()
            return
        yield from sliced(collapse(self._groups(), self._family), STEP)

    def _groups(self) -> Iterator[Chunk]:
        """Yield the distinct rows, of which each stands for some."""
        whole = self._rows.spec.frame
        assert isinstance(whole, RelationFrame)
        for frame, counts in whole.distinct_batches():
            chunk = self._rows.chunk_of(frame)
            copies = counts if chunk.copies is None else counts * chunk.copies
            yield replace(
                chunk,
                weights=counts * (1.0 if chunk.weights is None else chunk.weights),
                copies=copies.astype(float) if self._family.has_trials else None,
                n_rows=int(counts.sum()),
            )
