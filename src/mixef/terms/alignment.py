"""One rule for whatever comes a row: by labels where there are some, else by position."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import pandas as pd

from mixef.errors import DataError


def in_rows(value: Any, what: str, index: pd.Index | None, n: int) -> Any:
    """Return a Series or frame in the order of rows, by its labels; all else as it is.

    What has labels goes by them, and has to have one for each of the rows; what has none goes by
    position.

    Parameters
    ----------
    index : Index (n,) or None
        Labels of the rows; None for data without labels, whose rows are numbered from 0.

    Raises
    ------
    DataError
        If rows have no value, or labels occur more than once.
    """
    if not isinstance(value, pd.Series | pd.DataFrame):
        return value
    if index is None:
        if value.index.dtype.kind not in "iu" or len(value) != n:
            return value
        index = pd.RangeIndex(n)
    if value.index.equals(index):
        return value
    kind = "Series" if isinstance(value, pd.Series) else "frame"
    remedy = f"a {kind} goes by its labels; give {what} as an array, .to_numpy(), to go by position"
    if not (value.index.is_unique and index.is_unique):
        raise DataError(
            f"{what} cannot be put in the order of the rows, since labels of its index, or of the "
            f"rows, occur more than once: {remedy}"
        )
    places = value.index.get_indexer(index)
    if (places < 0).any():
        absent = index[places < 0]
        raise DataError(
            f"{what} has no value for {len(absent)} of {len(index)} rows, such as the one that is "
            f"labelled {absent[:1].tolist()[0]!r}: {remedy}"
        )
    return value.iloc[places]


def labels_in(columns: Mapping[str, Any]) -> pd.Index | None:
    """Return the labels of the first Series among some columns; None without any."""
    return next((v.index for v in columns.values() if isinstance(v, pd.Series)), None)
