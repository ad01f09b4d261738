"""Reading the shipped data sets into frames."""

from __future__ import annotations

import difflib
import json
from pathlib import Path

import numpy as np
import pandas as pd

from mixef.checks import shown
from mixef.datasets.catalogue import CATALOGUE
from mixef.errors import DataError

_FOLDER = Path(__file__).parent / "data"


def datasets() -> pd.DataFrame:
    """List the data sets that `load_dataset` knows.

    Returns
    -------
    pandas.DataFrame
        One row a data set, with columns ``name``, ``rows``, ``columns`` (their names, joined by
        commas), ``description`` and ``source`` (the publication of the measurements).

    Examples
    --------
    >>> from mixef.datasets import datasets
    >>> datasets().loc[:2, ["name", "rows", "columns"]]
             name  rows                  columns
    0  sleepstudy   180  Reaction, Days, Subject
    1    Dyestuff    30             Batch, Yield
    2   Dyestuff2    30             Batch, Yield
    """
    return pd.DataFrame(
        {
            "name": list(CATALOGUE),
            "rows": [entry.rows for entry in CATALOGUE.values()],
            "columns": [", ".join(entry.columns) for entry in CATALOGUE.values()],
            "description": [entry.description for entry in CATALOGUE.values()],
            "source": [entry.source for entry in CATALOGUE.values()],
        }
    )


def load_dataset(name: str) -> pd.DataFrame:
    """Load one of the shipped data sets.

    Parameters
    ----------
    name : str
        A name that `datasets` lists; capitals count.

    Returns
    -------
    pandas.DataFrame
        A fresh frame with the rows, the values and the types of the data set in R: factors are
        categoricals with R's levels in R's order (ordered where R's are), numbers are ``int64``
        or ``float64``. ``attrs["name"]`` holds the name.

    Raises
    ------
    mixef.errors.DataError
        If there is no data set of that name.

    Examples
    --------
    >>> from mixef.datasets import load_dataset
    >>> load_dataset("sleepstudy").head(3)
       Reaction  Days Subject
    0  249.5600   0.0     308
    1  258.7047   1.0     308
    2  250.8006   2.0     308
    """
    if not isinstance(name, str) or name not in CATALOGUE:
        raise DataError(_unknown(name))
    with np.load(_FOLDER / f"{name}.npz", allow_pickle=False) as packed:
        meta = json.loads(packed["meta"].tobytes())
        columns = {key: _column(packed[f"column_{key}"], meta[key]) for key in meta}
    frame = pd.DataFrame(columns)
    frame.attrs["name"] = name
    return frame


def _column(values: np.ndarray, meta: dict) -> np.ndarray | pd.Categorical:
    """Return a column as pandas takes it: a categorical for a factor, else the array."""
    if meta["kind"] != "factor":
        return values
    dtype = pd.CategoricalDtype(meta["levels"], ordered=meta["ordered"])
    return pd.Categorical.from_codes(values, dtype=dtype)


def _unknown(name: object) -> str:
    """Return the message for a name that is not in the catalogue."""
    by_lower = {known.lower(): known for known in CATALOGUE}
    close = difflib.get_close_matches(name.lower() if isinstance(name, str) else "", by_lower, n=1)
    hint = f"did you mean {by_lower[close[0]]!r}? The" if close else "the"
    return f"no data set is named {shown(name)}: {hint} data sets are {', '.join(CATALOGUE)}."
