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
    columns = [y, *design.matrix.T, *([] if weights is None else [weights])]
    columns += [column for term in terms for column in term.z.T]
    squares = np.array([column.dot(column) for column in columns]) / max(len(y), 1)
    if inside(squares).all():
        return
    largest = np.array([np.abs(column).max(initial=0.0) for column in columns])
    refuse_sizes(column_names(name, weights is not None, design, terms), squares, largest)


def column_names(
    response: str, weighted: bool, design: Design, terms: Sequence[RandomTerm]
) -> list[str]:
    """Return the names of all columns of a model, in the order that `refuse_extremes` has."""
    own = [response, *design.names, *(["weights"] if weighted else [])]
    return [*own, *(name for term in terms for name in term.columns)]


def inside(squares: np.ndarray) -> np.ndarray:
    """Tell which mean squares (k,) are of numbers that can be squared once more."""
    within: np.ndarray = (squares > LARGEST**-2) & (squares < LARGEST**2)
    return within


def refuse_sizes(names: Sequence[str], squares: np.ndarray, largest: np.ndarray) -> None:
    """Raise a DataError for the first column, not all zeros, that is too large or too small.

    Parameters
    ----------
    squares, largest : ndarray (k,)
        Mean squares, and the largest absolute values.
    """
    for j in np.flatnonzero(~inside(squares) & (largest > 0)).tolist():
        raise DataError(
            f"the largest value of {names[j]} is {largest[j]:.3g} in size, and typical sizes must "
            f"lie between {1 / LARGEST:g} and {LARGEST:g} for variances to be computed; "
            "rescale it (divide it by a constant)"
        )


def independent(design: Design, weights: np.ndarray | None, control: Control) -> np.ndarray:
    """Return the columns of X that are independent, after the checks of X."""
    kept = independent_columns(weighted_pieces(design.matrix, weights))
    report_dropped(design, kept, control)
    if control.check_scaleX != "ignore":
        report_scale(design, spread_of(design), control)
    return kept


def report_dropped(design: Design, kept: np.ndarray, control: Control) -> None:
    """Say which columns are combinations of earlier ones, as `control` wants it."""
    there = set(kept.tolist())
    dropped = [name for j, name in enumerate(design.names) if j not in there]
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


def report_scale(design: Design, spread: np.ndarray, control: Control) -> None:
    """Say that columns with standard deviations (p,) are on very different scales."""
    found = odd_scale(design.names, spread)
    if found is not None:
        act(
            control.check_scaleX,
            "Some predictor variables are on very different scales "
            f"({found[0]} has standard deviation {found[1]:.2g}); the fit "
            "is the same on any scale, but consider rescaling for readable coefficients",
            DataError,
            DataWarning,
        )


def spread_of(design: Design) -> np.ndarray:
    """Return the standard deviations (p,) of the columns."""
    return np.array([column.std() for column in design.matrix.T])  # no copy of them all


def odd_scale(names: Sequence[str], spread: np.ndarray) -> tuple[str, float] | None:
    """Return the column whose scale stands out most, and its standard deviation, if any does."""
    if not len(spread):
        return None
    spread = np.where(spread > 0, spread, 1.0)
    logs = np.abs(np.log(spread))
    worst = int(np.argmax(logs))
    if max(logs[worst], np.ptp(np.log(spread))) <= np.log(1e3):
        return None
    return names[worst], float(spread[worst])
