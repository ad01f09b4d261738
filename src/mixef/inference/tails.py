"""Tail probabilities and quantiles of tests and intervals, and the names of limits."""

from __future__ import annotations

from typing import Any

import numpy as np
import scipy

from mixef import checks

# From here on F is chi-square over its degrees of freedom to eight digits, and SciPy's tails of F
# lose more than that (before 1.13).
MANY = 1e8


def f_tail(F: Any, num_df: Any, den_df: Any) -> np.ndarray:
    """Return the probability of a larger F; of chi-square over ``num_df`` for infinite den_df."""
    F, num_df, den_df = np.broadcast_arrays(*(np.asarray(x, float) for x in (F, num_df, den_df)))
    chi = scipy.special.chdtrc(num_df, num_df * F)
    finite = den_df < MANY
    return np.where(finite, scipy.special.fdtrc(num_df, np.where(finite, den_df, 1.0), F), chi)


def t_tail(t: np.ndarray, df: np.ndarray) -> np.ndarray:
    """Return two-sided p values of t statistics; of z statistics for infinite df."""
    finite = np.isfinite(df)
    of_t = scipy.special.stdtr(np.where(finite, df, 1.0), -np.abs(t))
    return 2.0 * np.where(finite, of_t, scipy.special.ndtr(-np.abs(t)))


def t_quantile(probability: float, df: np.ndarray) -> np.ndarray:
    """Return quantiles of t; of the normal distribution for infinite df."""
    finite = np.isfinite(df)
    of_t = scipy.special.stdtrit(np.where(finite, df, 1.0), probability)
    return np.where(finite, of_t, scipy.special.ndtri(probability))


def normal_quantile(level: float) -> float:
    """Return z, with ``P(|Z| <= z) = level`` for a standard normal Z."""
    return float(scipy.special.ndtri(0.5 * (1.0 + checks.level(level))))


def limit_names(level: float) -> list[str]:
    """Name the columns of an interval: ``2.5 %`` and ``97.5 %``."""
    return [f"{100.0 * tail:.10g} %" for tail in (0.5 * (1.0 - level), 0.5 * (1.0 + level))]
