"""Rows that share covariates, groups and offset, as one row: exact for counts and proportions.

With one linear predictor for all of them, the log density of rows of an exponential family with
known dispersion depends on their weighted mean alone, up to a constant, which the chunk carries.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace

import numpy as np
import pandas as pd

from mixef.errors import ArgumentError
from mixef.estimation.generalized.density_response import make_response
from mixef.families.density import DensityFamily
from mixef.families.family import Family
from mixef.linalg.sources import Chunk


def collapses(family: Family) -> bool:
    """Tell whether rows of a family collapse to counts."""
    known = not family.auxiliary and not isinstance(family, DensityFamily)
    return known and (family.is_count or family.has_trials)


def collapse(chunks: Iterable[Chunk], family: Family) -> Chunk:
    """Return the distinct rows of chunks, with their weights added up and their responses averaged.

    Log density, scores, weights, number of rows and Pearson's chi-square stay those of the rows.

    Raises
    ------
    ArgumentError
        For a family with another parameter than the mean, or of no exponential form.
    ValueError
        If there are no chunks.
    """
    if not collapses(family):
        raise ArgumentError(
            f"rows of the {family.name} family do not collapse to counts; expected a family of "
            "counts or proportions without a parameter besides the mean, such as binomial or "
            "poisson: leave the rows as they are"
        )
    whole: Chunk | None = None
    waiting: list[Chunk] = []
    for chunk in chunks:
        waiting.append(_collapsed(chunk, family))
        # Merged once there is as much again, so that every row is sorted in a few times.
        if whole is None or sum(len(c.y) for c in waiting) > len(whole.y):
            whole = _collapsed(_joined([*([] if whole is None else [whole]), *waiting]), family)
            waiting = []
    if whole is None:
        raise ValueError("there are no rows in the chunks; expected some")
    return _collapsed(_joined([whole, *waiting]), family) if waiting else whole


def _collapsed(chunk: Chunk, family: Family) -> Chunk:
    """Return the distinct rows of one chunk."""
    m = len(chunk.y)
    columns = [chunk.X, *chunk.z, *(codes[:, None] for codes in chunk.codes)]
    if chunk.offset is not None:
        columns.append(chunk.offset[:, None])
    keys = pd.DataFrame(dict(enumerate(c for V in columns for c in V.T)))
    row = keys.groupby(list(keys.columns), sort=False).ngroup().to_numpy()
    first = np.unique(row, return_index=True)[1]
    weights = np.ones(m) if chunk.weights is None else chunk.weights
    W = np.bincount(row, weights)
    mean = np.divide(np.bincount(row, weights * chunk.y), W, out=chunk.y[first] * 1.0, where=W > 0)
    within = np.bincount(row, weights * (chunk.y - mean[row]) ** 2)
    if chunk.within is not None:
        within += np.bincount(row, chunk.within)
    out = Chunk(
        chunk.X[first],
        mean,
        tuple(z[first] for z in chunk.z),
        tuple(codes[first] for codes in chunk.codes),
        W,
        None if chunk.offset is None else chunk.offset[first],
        None,
        m if chunk.n_rows is None else chunk.n_rows,
        within,
    )
    lost = _log_density(chunk, family) - _log_density(out, family)
    return replace(out, surplus=chunk.surplus + lost)


def _log_density(chunk: Chunk, family: Family) -> float:
    """Return the log density at one linear predictor for all rows, whichever."""
    response = make_response(family, chunk.y, chunk.weights, None, chunk.copies)
    mean = family.initial_mean(np.array([0.5]))
    state = response.at(np.full(len(chunk.y), float(family.link.link(mean)[0])), 1.0)
    assert state is not None
    return state.log_density


def _joined(chunks: list[Chunk]) -> Chunk:
    """Return the rows of collapsed chunks in one."""

    def one(parts: list[np.ndarray | None]) -> np.ndarray | None:
        there = [part for part in parts if part is not None]
        return np.concatenate(there) if there else None

    return Chunk(
        np.concatenate([c.X for c in chunks]),
        np.concatenate([c.y for c in chunks]),
        tuple(np.concatenate(parts) for parts in zip(*(c.z for c in chunks), strict=True)),
        tuple(np.concatenate(parts) for parts in zip(*(c.codes for c in chunks), strict=True)),
        one([c.weights for c in chunks]),
        one([c.offset for c in chunks]),
        None,
        sum(c.n_rows or 0 for c in chunks),
        one([c.within for c in chunks]),
        sum(c.surplus for c in chunks),
    )
