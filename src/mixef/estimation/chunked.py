"""Rows of a model that an engine holds, as arrays, a batch at a time."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

from mixef.estimation.spec import ModelSpec
from mixef.linalg.sources import Chunk
from mixef.terms.random import block_structure


@dataclass(frozen=True, eq=False)
class ModelChunks:
    """The rows of a model, read anew whenever they are asked for.

    Parameters
    ----------
    spec : ModelSpec
        Its frame holds no rows.
    kept : ndarray of int (p,)
        Columns of the design.
    """

    spec: ModelSpec
    kept: np.ndarray

    def __call__(self) -> Iterator[Chunk]:
        """Yield the rows."""
        spec = self.spec
        blocks, _ = block_structure(spec.terms)
        for frame in spec.frame.batches():
            outcome = spec.kind.outcome(frame)
            X = spec.design.spec.build(frame.variables, frame.n)
            yield Chunk(
                X if len(self.kept) == X.shape[1] else X[:, self.kept],
                outcome.y if frame.offset is None else outcome.y - frame.offset,
                tuple(t.design.spec.build(frame.variables, frame.n) for t in spec.terms),
                tuple(
                    frame.group(spec.terms[members[0]].grouping.nodes).codes for members in blocks
                ),
                frame.weights,
            )
