"""Rows of a model as arrays, some at a time: those in memory, and those that an engine holds."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from functools import cached_property

import numpy as np

from mixef.estimation.spec import ModelCall, ModelSpec
from mixef.linalg.chunks import ChunkSource
from mixef.linalg.sources import Chunk, RowsInMemory
from mixef.linalg.standardize import root_weighted
from mixef.terms.frame import ModelFrame
from mixef.terms.random import blocks_of

# Numbers in a chunk of rows in memory: few enough for a processor's cache.
CELLS = 400_000


def chunks_of(spec: ModelSpec, kept: np.ndarray | None = None) -> ModelRows | ModelChunks:
    """Return what yields the rows of a model, with some columns of X; None for all of them."""
    whole = kept is None or len(kept) == len(spec.design.names)
    return (ModelRows if spec.frame.in_memory else ModelChunks)(spec, None if whole else kept)


@dataclass(frozen=True, eq=False)
class ModelRows(RowsInMemory):
    """The rows of a model in memory, made some at a time; those of a small model are kept.

    Parameters
    ----------
    spec : ModelSpec
    kept : ndarray of int (p,), or None
        Columns of the design; None for all of them.
    """

    spec: ModelSpec
    kept: np.ndarray | None

    @cached_property
    def codes(self) -> tuple[np.ndarray, ...]:  # type: ignore[override]
        """The level of every row by each grouping factor (n,)."""
        terms = self.spec.terms
        return tuple(terms[members[0]].grouping.codes for members in blocks_of(terms))

    def __call__(self) -> Iterator[Chunk]:
        """Yield the rows."""
        spec, n = self.spec, self.spec.frame.n
        width = 1 + len(spec.design.names) + sum(len(term.columns) for term in spec.terms)
        step = max(CELLS // width, 2 * width)
        for start in range(0, n, step):
            yield self._chunk(slice(start, min(start + step, n)))

    def z(self, t: int, rows: np.ndarray) -> np.ndarray:
        """Return the columns (k, s_t) of a term, root-weighted, for some rows by position."""
        weights = self.spec.frame.weights
        columns = self.spec.terms[t].design.rows(rows)
        return root_weighted(columns, None if weights is None else weights[rows])

    def _chunk(self, rows: slice) -> Chunk:
        spec, frame = self.spec, self.spec.frame
        X, y = spec.design.rows(rows), spec.outcome.y[rows]
        return Chunk(
            X if self.kept is None else X[:, self.kept],
            y if frame.offset is None else y - frame.offset[rows],
            tuple(term.design.rows(rows) for term in spec.terms),
            tuple(codes[rows] for codes in self.codes),
            None if frame.weights is None else frame.weights[rows],
        )


class BatchedRows(ChunkSource):
    """The rows of a model that an engine holds, read anew whenever they are asked for.

    Parameters
    ----------
    spec : ModelSpec
        Its frame holds no rows.
    kept : sequence of int (p,), optional
        Columns of the design; all of them by default.
    """

    def __init__(self, spec: ModelSpec, kept: Sequence[int] | np.ndarray | None = None):
        # What the model was called with is not needed: it need not pickle, as rows do.
        self.spec, self.kept = replace(spec, call=ModelCall()), kept

    def chunks(self) -> Iterator[Chunk]:
        """Yield the rows."""
        return map(self.chunk_of, self.spec.frame.batches())

    def chunk_of(self, frame: ModelFrame) -> Chunk:
        """Return the arrays of a frame of some rows."""
        spec = self.spec
        outcome = spec.kind.outcome(frame)
        X = spec.design.spec.build(frame.variables, frame.n)
        return Chunk(
            X if self.kept is None else X[:, self.kept],
            outcome.y,
            tuple(t.design.spec.build(frame.variables, frame.n) for t in spec.terms),
            tuple(
                frame.group(spec.terms[members[0]].grouping.nodes).codes
                for members in blocks_of(spec.terms)
            ),
            outcome.weights,
            frame.offset,
            outcome.copies,
        )


@dataclass(frozen=True, eq=False)
class ModelChunks:
    """The rows of a linear model, whose offset is taken off the response.

    Parameters
    ----------
    spec : ModelSpec
        Its frame holds no rows.
    kept : ndarray of int (p,), or None
        Columns of the design; None for all of them.
    """

    spec: ModelSpec
    kept: np.ndarray | None

    def __call__(self) -> Iterator[Chunk]:
        """Yield the rows."""
        for chunk in BatchedRows(self.spec, self.kept):
            if chunk.offset is None:
                yield chunk
            else:
                yield replace(chunk, y=chunk.y - chunk.offset, offset=None)
