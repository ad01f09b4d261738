"""Contrast matrices: what R's contr.* functions give."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import pandas as pd

from mixef.errors import DataError
from mixef.terms.splines import orthonormal_polynomials

_KINDS = ("treatment", "sum", "helmert", "poly", "sdif", "SAS")
_POLY_NAMES = {1: ".L", 2: ".Q", 3: ".C"}
Coding = tuple[np.ndarray, tuple[str, ...]]


def contrast_matrix(spec: Any, levels: Sequence[str], name: str) -> Coding:
    """Return the matrix (levels, columns) of a contrast and its column suffixes.

    Parameters
    ----------
    spec : str, tuple, array or DataFrame
        ``"treatment"``, ``"sum"``, ``"helmert"``, ``"poly"``, ``"sdif"`` or ``"SAS"``, with or
        without R's prefix ``contr.``; ``("treatment", base)`` with a level; or a matrix.
    name : str
        The factor, for messages.

    Raises
    ------
    DataError
        For fewer than two levels, an unknown contrast, or a matrix of the wrong shape.

    Notes
    -----
    Polynomial contrasts are the orthonormal polynomials over equally spaced scores; the others
    follow Venables and Ripley (2002), section 6.2.

    Examples
    --------
    >>> matrix, names = contrast_matrix("sum", ("a", "b", "c"), "f")
    >>> matrix.tolist(), names
    ([[1.0, 0.0], [0.0, 1.0], [-1.0, -1.0]], ('1', '2'))
    """
    levels = tuple(levels)
    if len(levels) < 2:
        only = f"only the level {levels[0]!r}" if levels else "no level"
        raise DataError(
            f"contrasts can be applied only to factors with 2 or more levels, but {name} has "
            f"{only} in the rows that are used; take it out of the formula"
        )
    if isinstance(spec, str):
        return _named(spec, None, levels, name)
    if isinstance(spec, tuple) and len(spec) == 2 and isinstance(spec[0], str):
        return _named(spec[0], spec[1], levels, name)
    return _given(spec, levels, name)


def indicator_matrix(levels: Sequence[str]) -> Coding:
    """Return one column a level."""
    return np.eye(len(levels)), tuple(levels)


def _named(kind: str, base: Any, levels: tuple[str, ...], name: str) -> Coding:
    kind = kind.removeprefix("contr.").lower()
    if kind in ("treatment", "sas"):
        return _treatment(base if kind == "treatment" else levels[-1], levels, name)
    if base is not None:
        raise DataError(f"the contrast {kind!r} of {name} takes no base level; got {base!r}")
    if kind not in _MAKERS:
        raise DataError(
            f"unknown contrast {kind!r} for {name}; known are {', '.join(_KINDS)}, or give a matrix"
        )
    matrix = _MAKERS[kind](len(levels))
    columns = range(1, len(levels))
    if kind == "poly":
        return matrix, tuple(_POLY_NAMES.get(d, f"^{d}") for d in columns)
    if kind == "sdif":
        pairs = zip(levels[1:], levels[:-1], strict=True)
        return matrix, tuple(f"{upper}-{lower}" for upper, lower in pairs)
    return matrix, tuple(map(str, columns))


def _sum(size: int) -> np.ndarray:
    return np.vstack([np.eye(size - 1), -np.ones(size - 1)])


def _helmert(size: int) -> np.ndarray:
    """Return each level against the mean of those before it."""
    row, column = np.indices((size, size - 1))
    return np.where(row <= column, -1.0, np.where(row == column + 1, row, 0.0))


def _poly(size: int) -> np.ndarray:
    return orthonormal_polynomials(np.linspace(-1.0, 1.0, size), size - 1)[0][:, 1:]


def _sdif(size: int) -> np.ndarray:
    """Return the contrasts whose coefficients are differences of successive levels."""
    row, column = np.indices((size, size - 1))
    return (column + 1.0) / size - (row <= column)


_MAKERS = {"sum": _sum, "helmert": _helmert, "poly": _poly, "sdif": _sdif}


def _treatment(base: Any, levels: tuple[str, ...], name: str) -> Coding:
    chosen = levels[0] if base is None else str(base)
    if chosen not in levels:
        raise DataError(
            f"the base level {chosen!r} is not a level of {name}: {', '.join(levels[:20])}"
        )
    at = levels.index(chosen)
    others = np.arange(len(levels)) != at
    return np.eye(len(levels))[:, others], levels[:at] + levels[at + 1 :]


def _given(spec: Any, levels: tuple[str, ...], name: str) -> Coding:
    frame = spec if isinstance(spec, pd.DataFrame) else None
    if frame is not None and set(map(str, frame.index)) == set(levels):
        frame = frame.set_axis(frame.index.astype(str)).loc[list(levels)]
    try:
        matrix = np.asarray(spec if frame is None else frame, dtype=float)
    except Exception:  # text, ragged lists, or an object whose conversion fails
        raise DataError(
            f"the contrasts of {name} are a {type(spec).__name__}; expected a name such as "
            f"'sum' ({', '.join(_KINDS)}) or a matrix"
        ) from None
    matrix = matrix.reshape(-1, 1) if matrix.ndim < 2 else matrix
    if matrix.ndim != 2 or matrix.shape[0] != len(levels) or matrix.shape[1] >= len(levels):
        raise DataError(
            f"the contrast matrix of {name} is {' x '.join(map(str, matrix.shape))}; expected "
            f"{len(levels)} rows (one a level) and at most {len(levels) - 1} columns"
        )
    if not np.isfinite(matrix).all():
        raise DataError(f"the contrast matrix of {name} holds NaN or infinities; expected numbers")
    if frame is not None and not isinstance(frame.columns, pd.RangeIndex):
        return matrix, tuple(map(str, frame.columns))
    return matrix, tuple(map(str, range(1, matrix.shape[1] + 1)))
