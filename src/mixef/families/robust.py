"""Student's t: responses with heavy tails, of which a few may be far off.

K. L. Lange, R. J. A. Little and J. M. G. Taylor (1989), Robust statistical modeling using the t
distribution, Journal of the American Statistical Association 84.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import scipy

from mixef.families.auxiliary import Auxiliary, Extra
from mixef.families.density import DensityFamily
from mixef.families.family import by_row
from mixef.families.special import digamma_rise, log_rising
from mixef.families.whole_numbers import mean_of_copies

# The median of the absolute value of a standard normal, and degrees of freedom to start from.
MEDIAN, FIRST_DF = 0.6745, 5.0


class StudentT(DensityFamily):
    """Real responses ``mu + scale t``, with t Student's of ``df`` degrees of freedom.

    The variance is ``scale^2 df / (df - 2)``, and infinite for two degrees of freedom or less.

    Parameters
    ----------
    link : str or Link
        "identity", "log", "inverse" or any other.

    Examples
    --------
    >>> from mixef import StudentT
    >>> [parameter.name for parameter in StudentT().auxiliary]
    ['scale', 'df']
    >>> float(StudentT().variance(0.0, (2.0, 4.0)))
    8.0
    """

    name = "t"
    spellings = ("student", "studentt")
    auxiliary = (Auxiliary("scale"), Auxiliary("df"))
    mean_range = (-np.inf, np.inf)
    support = "real"

    def __init__(self, link: Any = "identity") -> None:
        super().__init__(link)

    def variance(self, mu: np.ndarray, extra: Extra = None) -> np.ndarray:
        """Return ``scale^2 df / (df - 2)``."""
        scale, df = extra
        size = scale**2 * df / (df - 2.0) if df > 2.0 else np.inf
        return np.full(np.shape(mu), size)

    def spread(self, mu: np.ndarray, weights: np.ndarray, extra: Extra) -> np.ndarray:
        """Return the scale, which is finite for all degrees of freedom."""
        return np.full(np.shape(mu), extra[0]) / np.sqrt(weights)

    def derivatives(
        self, y: np.ndarray, mu: np.ndarray, size: np.ndarray, extra: Extra, order: int, *by: int
    ) -> list[np.ndarray]:
        """Return derivatives of the log density for mu, after those for log scale and log df."""
        scale, df = extra
        x = (y - mu) / scale
        scales, dfs = by.count(0), by.count(1)
        rows = _by_residual(x, df, order + scales, dfs)
        out = []
        for k in range(order + 1):
            row = rows[k]  # d/dlog scale of scale^-k F^(k)(x) is -(k F^(k) + x F^(k + 1))
            if scales == 1:
                row = -(k * rows[k] + x * rows[k + 1])
            elif scales == 2:
                row = k * k * rows[k] + (2 * k + 1) * x * rows[k + 1] + x * x * rows[k + 2]
            out.append(row * (-1.0 / scale) ** k)
        if not by:
            out[0] = out[0] + log_rising(0.5 * df, np.array(0.5)) - 0.5 * np.log(2.0 * np.pi)
            out[0] = out[0] - np.log(scale)
        elif scales == 1 and not dfs:
            out[0] = out[0] - 1.0
        elif dfs == 1 and not scales:
            out[0] = out[0] + 0.5 * (df * digamma_rise(0.5 * df, 0.5) - 1.0)
        elif dfs == 2:
            half = np.array([0.5 * df + 0.5, 0.5 * df])
            change = -np.diff(scipy.special.polygamma(1, half))[0]
            out[0] = out[0] + 0.5 * df * (digamma_rise(0.5 * df, 0.5) + 0.5 * df * change)
        return out

    def working_weight(self, mu: np.ndarray, size: np.ndarray, extra: Extra) -> np.ndarray:
        """Return the expected information on the mean."""
        scale, df = extra
        return np.full(np.shape(mu), (df + 1.0) / (df + 3.0) / scale**2)

    def initial_extra(
        self, y: np.ndarray, mu: np.ndarray, weights: np.ndarray | None = None
    ) -> Extra:
        """Return a scale by the median of the residuals, and few degrees of freedom."""
        residual = np.abs(y - mu)
        scale = float(np.median(residual)) / MEDIAN or float(np.sqrt(np.mean(residual**2)))
        return scale, FIRST_DF

    def best_mean(self, y: np.ndarray, size: np.ndarray, extra: Extra) -> np.ndarray:
        """Return the response."""
        return y

    def remedy(self, flat: tuple[str, ...]) -> str | None:
        """Say what degrees of freedom that the data leave open mean."""
        if "log(df)" not in flat:
            return None
        return (
            "the degrees of freedom of the t distribution go to infinity, where it is the normal "
            "one: the tails are not heavier than that, so use lmer, or family='gaussian'"
        )

    def random(
        self,
        rng: np.random.Generator,
        mu: np.ndarray,
        weights: np.ndarray | None = None,
        extra: Extra = None,
    ) -> np.ndarray:
        """Draw t values, or means of w, w a whole number."""
        scale, df = extra

        def draw(means: np.ndarray) -> np.ndarray:
            return means + scale * rng.standard_t(df, means.shape)

        return mean_of_copies(draw, mu, weights)

    def cdf(self, y: np.ndarray, mu: np.ndarray, w: np.ndarray, extra: Extra) -> np.ndarray:
        """Return Student's distribution function, of a single response."""
        self.refuse_copies(w)
        return scipy.special.stdtr(extra[1], (by_row(y, mu) - mu) / extra[0])


def _by_residual(x: np.ndarray, df: float, order: int, dfs: int) -> list[np.ndarray]:
    """Return derivatives for x of ``-(df + 1) / 2 log A``, ``A = 1 + x^2 / df``.

    After ``dfs`` ones for log df. Those of ``1 / A`` and ``1 / A^2`` come one from another by
    Leibniz' rule, A being a square; so scaled, nothing overflows where df is large.
    """
    inverse = 1.0 / df
    A = 1.0 + x * x * inverse
    R = _leibniz(A, x, inverse, [np.ones(1)] + [np.zeros(1)] * order)
    # df times those of log A
    P = [df * np.log1p(x * x * inverse)]
    P += [2.0 * (x * R[k] + (k * R[k - 1] if k else 0.0)) for k in range(order)]
    if dfs == 0:
        return [-0.5 * (1.0 + inverse) * p for p in P]
    # df^2 times the derivatives for df of log A, and then of these
    G = [-x * x / A, *(df * r for r in R[1:])]
    first = [-0.5 * (p + (1.0 + inverse) * g) for p, g in zip(P, G, strict=True)]
    if dfs == 1:
        return first
    T = _leibniz(A, x, inverse, R)
    squares = [x * x * (1.0 + A) / A**2, *(-df * t for t in T[1:])]
    pairs = zip(first, G, squares, strict=True)
    return [f - g - 0.5 * (1.0 + inverse) * s for f, g, s in pairs]


def _leibniz(
    A: np.ndarray, x: np.ndarray, inverse: float, right: list[np.ndarray]
) -> list[np.ndarray]:
    """Return a function and its derivatives from those of its product with A."""
    out: list[np.ndarray] = []
    for k, value in enumerate(right):
        residual = value
        if k > 0:
            residual = residual - 2.0 * k * x * inverse * out[k - 1]
        if k > 1:
            residual = residual - k * (k - 1) * inverse * out[k - 2]
        out.append(residual / A)
    return out
