"""Another response for the model of a fit, of the same kind."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pandas as pd

from mixef.errors import DataError
from mixef.estimation.generalized_fit import GLMMFit
from mixef.terms.factor import Factor
from mixef.terms.functions import Matrix


def new_response(old: GLMMFit, y: Any) -> dict[str, Any]:
    """Return the fields ``response`` and ``y`` of a frame with a new response."""
    n, response = old.frame.n, old.frame.response
    if isinstance(response, Factor) and isinstance(old.outcome.modelled, str):
        y = _codes(response, y)
    try:
        values = np.array(y, dtype=float)
    except (TypeError, ValueError):
        raise DataError("the new response is not numeric; expected numbers") from None
    shape = (n, 2) if isinstance(response, Matrix) else (n,)
    if values.shape != shape:
        each = "successes and failures" if isinstance(response, Matrix) else "one value"
        raise DataError(
            f"the new response has shape {values.shape}; expected {shape}: {each} for each row "
            "that the fit used"
        )
    if not np.isfinite(values).all():
        raise DataError("NA/NaN/Inf in the new response: refit needs a value for every row")
    if isinstance(response, Matrix):
        return {"response": replace(response, array=values), "y": values}
    return {"response": values, "y": values}


def _codes(response: Factor, y: Any) -> Any:
    """Return 0 and 1 for labels of a factor's two levels; anything else as it is."""
    labels = pd.Series(np.asarray(y).ravel(), dtype=object)
    if not labels.map(lambda value: isinstance(value, str)).any():
        return y
    codes = labels.map({level: float(code) for code, level in enumerate(response.levels)})
    if codes.isna().any():
        raise DataError(
            f"the new response has the level {labels[codes.isna()].iloc[0]!r}; expected "
            f"{' and '.join(response.levels)}, or 0 and 1"
        )
    return codes.to_numpy()
