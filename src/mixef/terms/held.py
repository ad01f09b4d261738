"""The part of the data that a fit needs again: what it shares, and what it pickles."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from copy import copy
from typing import Any

import pandas as pd

from mixef.terms.sources import nw

COPY_ON_WRITE = int(pd.__version__.split(".")[0]) >= 3  # always, since pandas 3


def guarded(data: Any, needed: Collection[str] | None) -> Any:
    """Return the data so that the caller's later changes do not reach the needed columns.

    Where pandas copies on write, a frame shares its columns until one is changed; else the needed
    columns are copied, and the others, which only an update could ask for, are the caller's.

    Parameters
    ----------
    needed : collection of str, or None
        None for all columns.
    """
    if isinstance(data, pd.DataFrame):
        if COPY_ON_WRITE or pd.get_option("mode.copy_on_write") is True:
            return data.copy(deep=False)
        if needed is None or not data.columns.is_unique:
            return data.copy(deep=True)
        own = data.copy(deep=False)
        for name in own.columns.intersection(list(needed)):
            own[name] = data[name].copy()
        return own
    if isinstance(data, Mapping):
        return {k: copy(v) if needed is None or k in needed else v for k, v in data.items()}
    return data


def columns_alone(data: Any, needed: Collection[str] | None) -> Any:
    """Return the data with the needed columns alone; with all for None."""
    if data is None or needed is None:
        return data
    if isinstance(data, pd.DataFrame):
        return data.loc[:, [name in needed for name in data.columns]]
    if isinstance(data, Mapping):
        return {name: values for name, values in data.items() if name in needed}
    frame = nw.from_native(data, eager_only=True)
    return frame.select([name for name in frame.columns if name in needed]).to_native()
