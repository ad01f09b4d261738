"""Means of a variable in bins of another one, or by level of a factor, with intervals."""

from __future__ import annotations

import numpy as np
import pandas as pd

from mixef.inference.tails import t_quantile

# Distinct values up to here are bins of their own; more make bins of like numbers of rows.
DISTINCT = 20
MOST_BINS = 40


def binned_means(x: np.ndarray, y: np.ndarray, level: float = 0.95) -> pd.DataFrame:
    """Return means of y (n,) in bins of x (n,), which hold like numbers of rows.

    There are ``2 n^(1/3)`` bins, as far as ties allow. The intervals are Student's for a mean of
    independent rows; NaN for a bin of one row.

    Returns
    -------
    DataFrame
        A row a bin: x and y (means), low, high, n.

    Examples
    --------
    >>> import numpy as np
    >>> binned_means(np.array([1.0, 1, 2, 2]), np.array([0.0, 2, 5, 5]))[["x", "y", "n"]]
         x    y  n
    0  1.0  1.0  2
    1  2.0  5.0  2
    """
    return means_by_code(bins_of(x), y, level, x)


def binned_quantiles(x: np.ndarray, y: np.ndarray, probabilities: list[float]) -> pd.DataFrame:
    """Return quantiles of y (n,) in ``n^(1/3)`` bins of x (n,), a column for each probability.

    The index has the means of x.
    """
    codes = bins_of(x, 1.0)
    groups = pd.Series(y).groupby(codes)
    found = pd.DataFrame({p: groups.quantile(p) for p in probabilities})
    return found.set_axis(np.bincount(codes, x) / np.bincount(codes)).rename_axis("x")


def bins_of(x: np.ndarray, rate: float = 2.0) -> np.ndarray:
    """Return the bin of each number, as codes (n,) from 0 up, among ``rate n^(1/3)``."""
    values, place = np.unique(x, return_inverse=True)
    if len(values) <= DISTINCT:
        return place
    n_bins = min(int(rate * np.cbrt(len(x))), MOST_BINS)
    # ties stay together: by the middle rank of each distinct value
    count = np.bincount(place)
    middle = (np.cumsum(count) - 0.5 * count) / len(x)
    of_value = np.minimum((middle * n_bins).astype(int), n_bins - 1)
    return np.unique(of_value[place], return_inverse=True)[1]


def means_by_code(
    codes: np.ndarray, y: np.ndarray, level: float = 0.95, x: np.ndarray | None = None
) -> pd.DataFrame:
    """Return means of y (n,) by codes (n,) from 0 up, with those of x; see `binned_means`."""
    n = np.bincount(codes)
    with np.errstate(divide="ignore", invalid="ignore"):
        mean = np.bincount(codes, y) / n
        squares = np.bincount(codes, (y - mean[codes]) ** 2)
        sd = np.sqrt(squares / (n - 1.0))
        half = t_quantile(0.5 + 0.5 * level, np.maximum(n - 1.0, 1.0)) * sd / np.sqrt(n)
        at = np.arange(len(n)) if x is None else np.bincount(codes, x) / n
    half = np.where(n > 1, half, np.nan)
    columns = {"x": at, "y": mean, "low": mean - half, "high": mean + half, "n": n}
    return pd.DataFrame(columns)
