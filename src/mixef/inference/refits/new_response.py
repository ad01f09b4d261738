"""Another response for the model of a fit, of the same kind."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pandas as pd

from mixef import checks
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
