"""Adjustments of p values and of confidence limits for a family of tests.

Sources: Y. Hochberg and A. C. Tamhane (1987), Multiple Comparison Procedures, for the one-step
rules; S. Holm (1979), Scandinavian Journal of Statistics 6, 65-70; Y. Hochberg (1988), Biometrika
75, 800-802; G. Hommel (1988), Biometrika 75, 383-386; Y. Benjamini and Y. Hochberg (1995), Journal
of the Royal Statistical Society B 57, 289-300; Y. Benjamini and D. Yekutieli (2001), Annals of
Statistics 29, 1165-1188.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
import scipy

from mixef import checks
from mixef.inference.marginal.families import (
    LargestOf,
    dunnett_tail,
    largest_of,
    tukey_tail,
    upper_quantile,
)
from mixef.inference.tails import f_tail, t_quantile, t_tail

NONE, TUKEY, SIDAK, BONFERRONI = "none", "tukey", "sidak", "bonferroni"
SCHEFFE, DUNNETT, MVT = "scheffe", "dunnettx", "mvt"
STEPWISE = ("holm", "hochberg", "hommel", "fdr", "BY")
ADJUSTMENTS = (TUKEY, SIDAK, BONFERRONI, SCHEFFE, DUNNETT, MVT, *STEPWISE, NONE)
_SPELLINGS = {"bh": "fdr", "dunnett": DUNNETT, "scheffé": SCHEFFE, "šidák": SIDAK, "by": "BY"}
# What the largest of two-sided statistics alone is known for.
_TWO_SIDED = (TUKEY, SCHEFFE, DUNNETT)


def check_adjust(value: Any) -> str:
    """Return the name of an adjustment."""
    return str(checks.option(value, "adjust", ADJUSTMENTS, _SPELLINGS))


@dataclass(frozen=True, eq=False)
class Family:
    """Statistics that are judged together."""

    t: np.ndarray  # (m,): t statistics, NaN where there is none
    df: np.ndarray  # (m,)
    L: np.ndarray  # (m, p): the estimates as functions of coefficients, NaN where there is none
    vcov: np.ndarray  # (p, p): of the coefficients
    means: int | None  # how many means all pairs of which these are; None for other sets
    side: int  # 0: of both signs; 1: of large statistics; -1: of small ones

    @cached_property
    def known(self) -> np.ndarray:
        """Which of the statistics (m,) there are."""
        return np.isfinite(self.t) & (self.df > 0)

    @property
    def size(self) -> int:
        """The number of statistics that there are."""
        return int(self.known.sum())

    def rule(self, adjust: str) -> tuple[str, str | None]:
        """Return the adjustment that these tests can have, and why it is another one."""
        if adjust in _TWO_SIDED and self.side:
            return SIDAK, f"{adjust} is not for one-sided inference"
        if adjust == TUKEY and self.means is None:
            return SIDAK, "tukey is for one set of pairwise comparisons"
        return adjust, None

    @cached_property
    def rank(self) -> int:
        """The number of independent estimates."""
        return int(np.linalg.matrix_rank(self._correlations, tol=1e-8, hermitian=True))

    @cached_property
    def _correlations(self) -> np.ndarray:
        L = self.L[self.known]
        V = L @ self.vcov @ L.T
        sd = np.sqrt(V.diagonal())
        return V / np.outer(sd, sd)

    @cached_property
    def _largest(self) -> LargestOf:
        return largest_of(self._correlations, two_sided=self.side == 0)

    def _is_single(self, adjust: str) -> bool:
        """Whether there is nothing to adjust for; Tukey's rule counts means, and not tests."""
        return adjust == NONE or (self.size < 2 and adjust != TUKEY)

    def raw(self) -> np.ndarray:
        """Return the p values (m,) of each test by itself."""
        two = t_tail(self.t, self.df)
        if self.side == 0:
            return two
        return np.where(self.side * self.t > 0, 0.5 * two, 1.0 - 0.5 * two)

    def p_values(self, adjust: str) -> np.ndarray:
        """Return the adjusted p values (m,)."""
        p, n, t = self.raw(), self.size, np.abs(self.t)
        if self._is_single(adjust):
            return p
        if adjust in STEPWISE:
            out = np.full(len(p), np.nan)
            out[self.known] = stepwise(p[self.known], adjust)
            return out
        if adjust == TUKEY:
            assert self.means is not None
            return tukey_tail(np.sqrt(2.0) * t, self.means, self.df)
        if adjust == SCHEFFE:
            return f_tail(t**2 / self.rank, self.rank, self.df)
        if adjust == DUNNETT:
            return dunnett_tail(t, n, self.df)
        if adjust == MVT:
            return self._largest.tail(self.side * self.t if self.side else t, self.df)
        if adjust == BONFERRONI:
            return np.minimum(n * p, 1.0)
        return -np.expm1(n * np.log1p(-p))

    def critical(self, adjust: str, level: float) -> np.ndarray:
        """Return how many standard errors (m,) an interval, or a limit, is away."""
        n, sides, tail = self.size, 1 if self.side else 2, 1.0 - level
        if self._is_single(adjust):
            return t_quantile(1.0 - tail / sides, self.df)
        if adjust == TUKEY:
            k = self.means
            assert k is not None
            return upper_quantile(lambda q, df: tukey_tail(np.sqrt(2.0) * q, k, df), tail, self.df)
        if adjust == SCHEFFE:
            finite = np.where(np.isfinite(self.df), self.df, 1.0)
            of_F = scipy.special.fdtri(self.rank, finite, level)
            of_chi = scipy.special.chdtri(self.rank, tail) / self.rank
            return np.sqrt(self.rank * np.where(np.isfinite(self.df), of_F, of_chi))
        if adjust == DUNNETT:
            return upper_quantile(lambda c, df: dunnett_tail(c, n, df), tail, self.df)
        if adjust == MVT:
            return self._largest.quantile(tail, self.df)
        each = 1.0 - level ** (1.0 / n) if adjust == SIDAK else tail / n
        return t_quantile(1.0 - each / sides, self.df)


def of_limits(adjust: str) -> str:
    """Return the adjustment of confidence limits; rules that go by steps have Bonferroni's."""
    return BONFERRONI if adjust in STEPWISE else adjust


def stepwise(p: np.ndarray, adjust: str) -> np.ndarray:
    """Return p values (n,) adjusted by a rule that goes through them in order.

    Examples
    --------
    >>> stepwise(np.array([0.01, 0.02, 0.04]), "holm").round(3).tolist()
    [0.03, 0.04, 0.04]
    """
    n = len(p)
    order = np.argsort(p)
    rank = np.arange(1, n + 1)
    sorted_p, out = p[order], np.empty(n)
    if adjust == "holm":
        made = np.maximum.accumulate((n + 1 - rank) * sorted_p)
    elif adjust == "hochberg":
        made = np.minimum.accumulate(((n + 1 - rank) * sorted_p)[::-1])[::-1]
    elif adjust == "hommel":
        made = _hommel(sorted_p)
    else:
        inflation = (1.0 / rank).sum() if adjust == "BY" else 1.0
        made = np.minimum.accumulate((inflation * n / rank * sorted_p)[::-1])[::-1]
    out[order] = np.minimum(made, 1.0)
    return out


def _hommel(p: np.ndarray) -> np.ndarray:
    """Return Hommel's p values of sorted ones: the largest of Simes's over sets of each size.

    The set of size m that is hardest to reject with hypothesis i in it has i and the m - 1 largest
    others.
    """
    n = len(p)
    made = p.copy()
    for m in range(2, n + 1):
        ranks = np.arange(1, m + 1)
        simes = float((m * p[n - m :] / ranks).min())
        # For i outside of the m - 1 largest, i is the smallest of its set.
        others = float((m * p[n - m + 1 :] / ranks[1:]).min())
        outside = np.arange(n) <= n - m
        by_size = np.where(outside, np.minimum(m * p, others), simes)
        made = np.maximum(made, by_size)
    return made
