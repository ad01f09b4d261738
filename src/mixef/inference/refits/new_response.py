"""Other responses for the model of a fit, of the same kind: one, or several at once."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pandas as pd

from mixef import checks
from mixef.checks import ndim
from mixef.errors import DataError
from mixef.estimation.fit import Fit
from mixef.terms.convert import convert, read
from mixef.terms.factor import Factor
from mixef.terms.frame import ModelFrame
from mixef.terms.rows import numbers
from mixef.terms.values import Matrix


def numbers_for(frame: ModelFrame, y: Any, what: str) -> np.ndarray:
    """Return new responses (n, ...) for the rows of a fit as numbers.

    What has labels goes by them; see `ModelFrame.used`.
    """
    if checks.ndim(y) < 1:
        raise DataError(f"{what} is {checks.shown(y)}; expected numbers, one value a row")
    y = frame.used(y, what)
    if isinstance(y, pd.DataFrame) and y.shape[1]:
        return np.column_stack([numbers(convert(column, what), what) for _, column in y.items()])
    array = numbers(convert(y, what), what) if np.ndim(y) == 1 else np.asarray(y)
    if array.dtype.kind not in "iufb":
        raise DataError(f"{what} is not numeric but of type {array.dtype}; expected numbers")
    return array.astype(np.float64)


def response_numbers(
    frame: ModelFrame, y: Any, shape: tuple[int, ...] = (), each: str = "one value"
) -> np.ndarray:
    """Return a new response as finite numbers, of this shape in each row of the fit."""
    what = "the new response"
    values = numbers_for(frame, y, what)
    if values.shape != (frame.n, *shape):
        raise DataError(
            f"{what} has shape {values.shape}; expected {(frame.n, *shape)}: {each} for each row "
            "that the fit used"
        )
    if not np.isfinite(values).all():
        raise DataError(f"NA/NaN/Inf in {what}: refit needs a value for every row")
    return values


def new_response(old: Fit, y: Any) -> dict[str, Any]:
    """Return the fields ``response`` and ``y`` of a frame with a new response."""
    response = old.frame.response
    if isinstance(response, Factor) and isinstance(old.outcome.modelled, str):
        y = _codes(response, old.frame.used(y, "the new response"))
    if isinstance(response, Matrix):
        values = response_numbers(old.frame, y, (2,), "successes and failures")
        return {"response": replace(response, array=values), "y": values}
    values = response_numbers(old.frame, y)
    return {"response": values, "y": values}


def _codes(response: Factor, y: Any) -> Any:
    """Return 0 and 1 for labels of a factor's two levels; anything else as it is."""
    labels = read(y, "the new response") if np.ndim(y) == 1 else y
    if not isinstance(labels, Factor) or labels.kind == "logical":
        return y
    labels = labels.used_levels()
    unknown = [level for level in labels.levels if level not in response.levels]
    if unknown:
        raise DataError(
            f"the new response has the level {unknown[0]!r}; expected "
            f"{' and '.join(response.levels)}, or 0 and 1"
        )
    return replace(labels, codes=labels.recode(response.levels)).as_float()


WHAT = "the new responses"


def is_several(fit: Fit, y: Any) -> bool:
    """Tell several responses from one: a column each, or two where the response is cbind()."""
    if fit.is_counted:
        return ndim(y) == 3 or (isinstance(y, pd.DataFrame) and y.columns.nlevels == 2)
    return ndim(y) == 2


def response_matrix(fit: Fit, y: Any) -> tuple[np.ndarray, pd.Index]:
    """Return responses (n, m), proportions for a binomial model, and their names (m,).

    They are a column each of a frame or array. Where the response is ``cbind(successes,
    failures)``, they are an array (n, m, 2), or a frame with two columns a response under one name,
    as ``simulate`` makes it.
    """
    if not np.size(y):
        raise DataError(f"the new responses have shape {np.shape(y)}; expected a column or more")
    y = fit.frame.used(y, WHAT)
    if fit.is_counted:
        return _shares(fit, y)
    names = y.columns if isinstance(y, pd.DataFrame) else pd.RangeIndex(np.shape(y)[1])
    if not fit.is_linear:
        columns = y if isinstance(y, pd.DataFrame) else pd.DataFrame(np.asarray(y))
        values = [new_response(fit, column.array)["y"] for _, column in columns.items()]
        return np.column_stack(values), names
    matrix = numbers_for(fit.frame, y, WHAT)
    if len(matrix) != fit.frame.n:
        raise DataError(
            f"the new responses have shape {matrix.shape}; expected ({fit.frame.n}, m): one row "
            "for each row that the fit used, and a column a response"
        )
    _refuse_missing(matrix, names)
    return matrix, names


def _shares(fit: Fit, y: Any) -> tuple[np.ndarray, pd.Index]:
    """Return the shares of successes; their trials have to be the fit's, which are its weights."""
    if isinstance(y, pd.DataFrame):
        names = y.columns.get_level_values(0).unique()
        pairs = [numbers_for(fit.frame, y[name], WHAT) for name in names]
        counts = np.stack(pairs, axis=1)
    else:
        counts = numbers_for(fit.frame, y, WHAT)
        names = pd.RangeIndex(counts.shape[1])
    n, trials = fit.frame.n, fit.outcome.trials
    assert trials is not None
    if counts.shape != (n, len(names), 2):
        raise DataError(
            f"the new responses have shape {counts.shape}; expected ({n}, m, 2): successes and "
            "failures of m responses for each row that the fit used"
        )
    _refuse_missing(counts.reshape(n, -1), names.repeat(2))
    total = counts.sum(axis=2)
    row, j = np.nonzero(np.abs(total - trials[:, None]) > 1e-9 * np.maximum(trials[:, None], 1.0))
    if len(row):
        raise DataError(
            f"response {names[j[0]]} has {total[row[0], j[0]]:g} trials in row {row[0]} (rows "
            f"counted from 0), where the fit has {trials[row[0]]:g}; refit responses with "
            "trials of their own one at a time"
        )
    share = counts[:, :, 0] / np.where(total > 0, total, 1.0)
    return share, names


def _refuse_missing(matrix: np.ndarray, names: pd.Index) -> None:
    column = np.flatnonzero(~np.isfinite(matrix).all(axis=0))
    if len(column):
        raise DataError(
            f"NA/NaN/Inf in the new response {names[column[0]]}: refit needs a value for every row"
        )
