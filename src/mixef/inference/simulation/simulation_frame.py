"""Simulated responses as a data frame, of the kind that the response was."""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd

from mixef.terms.exact import Integers
from mixef.terms.factor import Factor

COUNTS = ("successes", "failures")


def simulation_frame(
    values: np.ndarray, index: pd.Index, like: Any = None, trials: np.ndarray | None = None
) -> pd.DataFrame:
    """Return simulated responses (m, n) as columns ``sim_1``, ``sim_2``, ...; NaN for none.

    They come back as whole numbers, booleans or the levels of a factor where the response ``like``
    is that. With ``trials`` (m,), for successes and failures, each ``sim_i`` is two columns.
    """
    names = [f"sim_{i}" for i in range(1, values.shape[1] + 1)]
    if trials is not None:
        counts = _whole(values * trials[:, None])
        both = np.stack([counts, trials[:, None] - counts], axis=2)
        columns = pd.MultiIndex.from_product([names, COUNTS])
        return pd.DataFrame(_integers(both.reshape(len(values), -1)), index, columns)
    if isinstance(like, Factor) and like.kind != "logical":
        codes = np.where(np.isnan(values), -1.0, values).astype(np.int8)
        labels = {
            name: pd.Categorical.from_codes(codes[:, i], like.level_set.index, like.ordered)
            for i, name in enumerate(names)
        }
        return pd.DataFrame(labels, index)
    logical = isinstance(like, Factor) or (isinstance(like, np.ndarray) and like.dtype.kind == "b")
    if logical and not np.isnan(values).any():
        return pd.DataFrame(values == 1.0, index, names)
    if isinstance(like, Integers):
        values = _integers(values)
    return pd.DataFrame(values, index, names)


def _whole(values: np.ndarray) -> np.ndarray:
    """Take out rounding: successes are a share times trials."""
    whole = np.rint(values)
    return np.where(np.abs(values - whole) < 1e-6, whole, values)


def _integers(values: np.ndarray) -> np.ndarray:
    """Return whole numbers as integers; anything else as it is."""
    with np.errstate(invalid="ignore"):
        whole = (values == np.rint(values)) & (np.abs(values) < 2.0**62)
    return values.astype(np.int64) if whole.all() else values
