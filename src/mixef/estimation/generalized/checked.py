"""The rows of a generalized model before its search: their columns are checked."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from mixef.control import GlmerControl, act
from mixef.errors import DataError, DataWarning
from mixef.estimation.columns import (
    column_names,
    independent,
    refuse_extremes,
    refuse_sizes,
    report_dropped,
    report_scale,
)
from mixef.estimation.spec import ModelSpec
from mixef.linalg.chunks import ChunkSource, Largest, Sums, Triangles
from mixef.linalg.sources import Chunk, Scan, scan


def checked_columns(spec: ModelSpec, rows: ChunkSource | None) -> np.ndarray:
    """Check the columns; return those of X that are estimated.

    Parameters
    ----------
    rows : ChunkSource or None
        None for rows in memory.
    """
    frame, design, terms, control = spec.frame, spec.design, spec.terms, spec.control
    name, outcome = spec.formula.response_name, spec.outcome
    if rows is None:
        refuse_extremes(outcome.y, name, frame.weights, design, terms)
        _check_not_constant(spec, outcome.y.min(), outcome.y.max())
        return independent(design, outcome.weights, control)
    found = rows.total(_seen)
    seen = Scan(
        found.n,
        0.0,  # the logs of weights, which nobody asks for
        [*found.tops.R],
        found.sums,
        found.squares / found.n,
        found.largest.value,
    )
    if not found.inside.value:
        _check_not_constant(spec, -found.low.value, found.high.value)
    columns = column_names(name, False, design, terms)
    if len(columns) < len(seen.squares):
        columns = column_names(name, True, design, terms)
    refuse_sizes(columns, seen.squares, seen.largest)
    kept = seen.independent
    report_dropped(design, kept, control)
    if control.check_scaleX != "ignore":
        report_scale(design, seen.spread, control)
    return kept


@dataclass(frozen=True)
class SeenSums(Sums):
    """What `scan` tells of chunks, and the ends of the response."""

    n: int
    tops: Triangles
    sums: np.ndarray  # (K,)
    squares: np.ndarray  # (K,): sums of them
    largest: Largest
    low: Largest  # minus the smallest response
    high: Largest
    inside: Largest  # sum of squares of responses inside of a row that stands for several


def _seen(chunk: Chunk) -> SeenSums:
    """Return the sums of a chunk."""
    with np.errstate(divide="ignore"):  # logs of weights
        seen = scan([chunk])
    return SeenSums(
        seen.n,
        Triangles(seen.tops),
        seen.sums,
        seen.squares * seen.n,
        Largest(seen.largest),
        Largest(-chunk.y.min()),
        Largest(chunk.y.max()),
        Largest(0.0 if chunk.within is None else chunk.within.max()),
    )


def _check_not_constant(spec: ModelSpec, lowest: float, highest: float) -> None:
    control = spec.control
    assert isinstance(control, GlmerControl)
    if lowest == highest:
        act(
            control.check_response_not_const,
            f"Response is constant: {spec.formula.response_name} is {lowest:g} in all "
            f"{spec.frame.n} rows, so there is nothing to explain; check the response, or set "
            "check_response_not_const in GlmerControl",
            DataError,
            DataWarning,
        )
