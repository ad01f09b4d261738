"""Confidence limits from bootstrap replicates.

A. C. Davison and D. V. Hinkley (1997), Bootstrap Methods and their Application, Cambridge,
sections 5.2 and 5.3.
"""

from __future__ import annotations

import numpy as np
import pandas as pd
import scipy

from mixef import checks

LIMITS = ("perc", "basic", "norm")


def bootstrap_limits(
    t0: pd.Series, replicates: pd.DataFrame, level: float = 0.95, type: str = "perc"
) -> pd.DataFrame:
    """Return confidence limits (k, 2), one row a statistic.

    Parameters
    ----------
    t0 : Series (k,)
        Statistics of the fit.
    replicates : DataFrame (n, k)
        Missing values are left out, statistic by statistic.
    level : float
    type : {"perc", "basic", "norm"}
        Quantiles of the replicates (equation 5.18); those reflected at the estimate (5.6); or
        the normal approximation with the bias taken off (5.5).
    """
    level, type = checks.level(level), checks.option(type, "type", LIMITS)
    tails = 0.5 * np.array([1.0 - level, 1.0 + level])
    rows = [
        _limits(float(estimate), column, tails, type)
        for estimate, column in zip(t0, replicates.to_numpy(dtype=float).T, strict=True)
    ]
    return pd.DataFrame(rows, index=t0.index, columns=[f"{100.0 * tail:.10g} %" for tail in tails])


def _limits(estimate: float, column: np.ndarray, tails: np.ndarray, type: str) -> np.ndarray:
    values = np.sort(column[~np.isnan(column)])
    if len(values) < 2 or (np.isnan(estimate) and type != "perc"):
        return np.full(2, np.nan)
    if type == "norm":
        half = scipy.special.ndtri(tails[1]) * values.std(ddof=1)
        return 2.0 * estimate - values.mean() + np.array([-half, half])
    quantiles = np.array([quantile(values, tail) for tail in tails])
    return quantiles if type == "perc" else 2.0 * estimate - quantiles[::-1]


def quantile(values: np.ndarray, probability: float) -> float:
    """Return the quantile of sorted values (n,) at ``(n + 1) probability``.

    Between two of them it is interpolated on the scale of normal quantiles (equation 5.8); beyond
    the first or the last it is that value.
    """
    n = len(values)
    rank = (n + 1) * probability
    # A rank that misses a whole number by rounding is that number.
    k = round(rank) if abs(rank - round(rank)) < 1e-9 * n else int(rank)
    if k < 1:
        return float(values[0])
    if k >= n:
        return float(values[-1])
    if k == rank or abs(rank - k) < 1e-9 * n:
        return float(values[k - 1])
    low, at, high = scipy.special.ndtri([k / (n + 1), probability, (k + 1) / (n + 1)])
    return float(values[k - 1] + (at - low) / (high - low) * (values[k] - values[k - 1]))
