"""Checks of the columns of a model: numbers that can be squared, independence, scale."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from mixef.control import Control, act
from mixef.errors import DataError, DataWarning
from mixef.linalg.standardize import independent_columns, weighted_pieces
from mixef.terms.fixed import Design
from mixef.terms.random import RandomTerm

# A variance of a coefficient is a square of the response over a square of a predictor: with both
# inside these bounds it stays within 1e-300 and 1e300.
LARGEST = 1e75


def refuse_extremes(
    y: np.ndarray,
    name: str,
    weights: np.ndarray | None,
    design: Design,
    terms: Sequence[RandomTerm],
) -> None:
    """Raise a DataError that names a column with numbers too large or too small to square.

    A column of zeros is let through.
    """
    parts = [((name,), y[:, None]), (design.names, design.matrix)]
    if weights is not None:
        parts.append((("weights",), weights[:, None]))
    parts += [(term.columns, term.z) for term in terms]
    squares = np.concatenate([np.einsum("ij,ij->j", z, z) for _, z in parts]) / max(len(y), 1)
    inside = (squares > LARGEST**-2) & (squares < LARGEST**2)
    if inside.all():
        return
    named = [(names[j], z[:, j]) for names, z in parts for j in range(z.shape[1])]
    for j in np.flatnonzero(~inside).tolist():
        of, column = named[j]
        size = float(np.abs(column).max(initial=0.0))
        if size == 0.0:
            continue
        raise DataError(
            f"the largest value of {of} is {size:.3g} in size, and typical sizes must "
            f"lie between {1 / LARGEST:g} and {LARGEST:g} for variances to be computed; "
            "rescale it (divide it by a constant)"
        )


def independent(design: Design, weights: np.ndarray | None, control: Control) -> np.ndarray:
    """Return the columns of X that are independent, after the checks of X."""
    kept = independent_columns(weighted_pieces(design.matrix, weights))
    dropped = [name for j, name in enumerate(design.names) if j not in set(kept.tolist())]
    if dropped:
        columns = (
            "1 column / coefficient"
            if len(dropped) == 1
            else (f"{len(dropped)} columns / coefficients")
        )
        act(
            control.check_rankX,
            f"fixed-effect model matrix is rank deficient so dropping {columns}: "
            f"{', '.join(dropped)}; the data cannot tell them from the columns before",
            DataError,
            DataWarning,
        )
    if control.check_scaleX != "ignore":
        _check_scale(design, control)
    return kept


def _check_scale(design: Design, control: Control) -> None:
    found = odd_scale(design)
    if found is not None:
        act(
            control.check_scaleX,
            "Some predictor variables are on very different scales "
            f"({found[0]} has standard deviation {found[1]:.2g}); the fit "
            "is the same on any scale, but consider rescaling for readable coefficients",
            DataError,
            DataWarning,
        )


def odd_scale(design: Design) -> tuple[str, float] | None:
    """Return the column whose scale stands out most, and its standard deviation, if any does."""
    spread = np.array([column.std() for column in design.matrix.T])  # no copy of them all
    if not len(spread):
        return None
    spread = np.where(spread > 0, spread, 1.0)
    logs = np.abs(np.log(spread))
    worst = int(np.argmax(logs))
    if max(logs[worst], np.ptp(np.log(spread))) <= np.log(1e3):
        return None
    return design.names[worst], float(spread[worst])
