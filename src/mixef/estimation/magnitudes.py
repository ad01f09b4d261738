"""Refusing numbers whose squares leave the range of floating point."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

import numpy as np

from mixef.errors import DataError

# A variance of a coefficient is a square of the response over a square of a predictor: with both
# inside these bounds it stays within 1e-300 and 1e300.
LARGEST = 1e75


def refuse_extremes(parts: Iterable[tuple[Sequence[str], np.ndarray]]) -> None:
    """Raise a DataError that names a column with numbers too large or too small to square.

    Parameters
    ----------
    parts : iterable of (names, array)
        Columns (n, k) and their k names; a column of zeros is let through.
    """
    for names, columns in parts:
        square = np.einsum("ij,ij->j", columns, columns) / max(len(columns), 1)
        outside = ~((square > LARGEST**-2) & (square < LARGEST**2))
        for j in np.flatnonzero(outside).tolist():
            size = float(np.abs(columns[:, j]).max(initial=0.0))
            if size == 0.0:
                continue
            raise DataError(
                f"the largest value of {names[j]} is {size:.3g} in size, and typical sizes must "
                f"lie between {1 / LARGEST:g} and {LARGEST:g} for variances to be computed; "
                "rescale it (divide it by a constant)"
            )
