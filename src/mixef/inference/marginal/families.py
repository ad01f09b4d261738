"""Distributions of the largest of several statistics, without random numbers in their results.

With s the root of an independent chi-square variable over its degrees of freedom,

    studentized range of k means:     P(Q > q) = E 1 - W(q s),    W(w) = k int phi(z) [Phi(z) - Phi(z - w)]^(k-1) dz
    k comparisons with a control:     P(M > c) = E 1 - D(c s),    D(w) = int phi(z) [Phi(r2 w + z) - Phi(-r2 w + z)]^k dz

the second for correlations of one half (C. W. Dunnett, 1955, Journal of the American Statistical
Association 50, 1096-1121), with r2 the root of 2. Both integrals are by the trapezoidal rule, which
converges geometrically for what vanishes so fast at both ends.

For any correlations C = A A' of rank r the statistics are ``t = rho A u / s``, with a uniform
direction u on the sphere and rho^2 chi-square with r degrees of freedom. So with ``h(u)`` the largest
of ``|a_j'u|``

    P(max |t_j| > c) = E P(F(r, df) > (c / h(u))^2 / r)

and all that is left is an average over directions: exact for r = 1, the trapezoidal rule for r = 2,
scrambled Sobol points with a fixed seed beyond (A. Genz and F. Bretz, 2009, Computation of
Multivariate Normal and t Probabilities, chapters 2 and 4).
"""  # noqa: E501

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import lru_cache

import numpy as np
import scipy

from mixef.inference.tails import MANY

# Nodes of the two rules, and where a normal density is gone.
Z_NODES, S_NODES, REACH = 141, 161, 8.5
# Knots of a tail of normal variables, and where it ends.
KNOTS, FURTHEST = 601, 30.0
# Values of df at which quantiles are computed, if there are more of them.
NODES = 20
# Logs of probabilities that are left out at the ends of the distribution of s.
TINY = 1e-14
# Degrees of freedom below which s spans more than doubles hold: tails are one, quantiles infinite.
LEAST_DF = 0.1
# Fewest and most points on the sphere, as powers of two, by how many products they take; and the
# bins that their values are summed up in.
FEWEST, MOST, PRODUCTS, BINS = 17, 20, 6_000_000_000, 2048
# Points that are held at a time.
CHUNK = 2**14
_Z = np.linspace(-REACH, REACH, Z_NODES)
_PHI = np.exp(-0.5 * _Z**2) / np.exp(-0.5 * _Z**2).sum()
_ndtr = scipy.special.ndtr


def tukey_tail(q: np.ndarray, k: int, df: np.ndarray) -> np.ndarray:
    """Return the probability (m,) of a studentized range of k means above q (m,)."""
    return _studentized(_beyond("range", k), q, df)


def dunnett_tail(c: np.ndarray, k: int, df: np.ndarray) -> np.ndarray:
    """Return the probability (m,) that the largest of k comparisons with a control is above c."""
    return _studentized(_beyond("control", k), c, df)


@lru_cache(maxsize=64)
def _beyond(of: str, k: int) -> Callable[[np.ndarray], np.ndarray]:
    """Return ``1 - W`` or ``1 - D`` as a spline, whose error is that of rounding."""
    w = np.linspace(0.0, FURTHEST, KNOTS)
    if of == "range":
        inside = _ndtr(_Z) - _ndtr(_Z - w[:, None])
        values = 1.0 - k * (inside ** (k - 1)) @ _PHI
    else:
        half = np.sqrt(2.0) * w[:, None]
        values = 1.0 - ((_ndtr(_Z + half) - _ndtr(_Z - half)) ** k) @ _PHI
    spline = scipy.interpolate.make_interp_spline(w, values, k=7)
    return lambda x: np.where(x < FURTHEST, np.clip(spline(np.minimum(x, FURTHEST)), 0.0, 1.0), 0.0)


def _studentized(
    beyond: Callable[[np.ndarray], np.ndarray], q: np.ndarray, df: np.ndarray
) -> np.ndarray:
    """Return ``E beyond(q s)`` (m,), with the degrees of freedom (m,) of s."""
    q, df = np.broadcast_arrays(np.asarray(q, dtype=float), np.asarray(df, dtype=float))
    out = np.full(q.shape, np.nan)
    known = np.isfinite(q) & (df > 0)
    normal, finite = known & np.isinf(df), known & np.isfinite(df) & (df >= LEAST_DF)
    out[known & (df < LEAST_DF)] = 1.0
    out[normal] = beyond(q[normal])
    if finite.any():
        s, weights = _scales(df[finite])
        out[finite] = np.einsum("ms,ms->m", beyond(q[finite, None] * s), weights)
    return out


def _scales(df: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return nodes and weights (m, s) of s, the root of a chi-square variable over its df (m,)."""
    low, high = (np.log(scipy.special.chdtri(df, end) / df) for end in (1.0 - TINY, TINY))
    # Of log s^2, whose density is smooth.
    x = low[:, None] + (high - low)[:, None] * np.linspace(0.0, 1.0, S_NODES)
    logs = 0.5 * df[:, None] * (x - np.exp(x) + 1.0)
    weights = np.exp(logs - logs.max(axis=1, keepdims=True))
    return np.exp(0.5 * x), weights / weights.sum(axis=1, keepdims=True)


@dataclass(frozen=True)
class LargestOf:
    """The distribution of the largest of correlated t statistics, by its values on directions."""

    h: np.ndarray  # (b,): lengths, the largest of ``a_j'u``, summed up in bins; ascending
    weights: np.ndarray  # (b,): of the bins
    rank: int

    def tail(self, c: np.ndarray, df: np.ndarray) -> np.ndarray:
        """Return the probability (m,) of a largest statistic above c (m,), of any sign."""
        c, df = np.broadcast_arrays(np.asarray(c, dtype=float), np.asarray(df, dtype=float))
        out = np.full(c.shape, np.nan)
        for i in np.flatnonzero(np.isfinite(c)):
            towards = self.h > 0 if c[i] >= 0 else self.h < 0
            h, weights = self.h[towards], self.weights[towards]
            square = (c[i] / h) ** 2
            tails = (
                scipy.special.fdtrc(self.rank, df[i], square / self.rank)
                if df[i] < MANY
                else scipy.special.chdtrc(self.rank, square)
            )
            beyond = float(tails @ weights)
            out[i] = beyond if c[i] >= 0 else 1.0 - beyond
        return out

    def quantile(self, tail: float, df: np.ndarray) -> np.ndarray:
        """Return the values (m,) that the largest statistic exceeds with a probability."""
        return upper_quantile(self.tail, tail, df)


def largest_of(correlations: np.ndarray, two_sided: bool) -> LargestOf:
    """Return the distribution of the largest of t statistics, or of their absolute values.

    Parameters
    ----------
    correlations : ndarray (m, m)
        Of any rank.
    """
    values, vectors = np.linalg.eigh(correlations)
    kept = values > 1e-10 * values.max(initial=0.0)
    # The largest first, where points of low discrepancy are most even.
    A = (vectors[:, kept] * np.sqrt(values[kept]))[:, ::-1]
    parts = []
    for u in _directions(A.shape[1], len(A)):
        t = u @ A.T
        parts.append((np.abs(t) if two_sided else t).max(axis=1))
    h = np.concatenate(parts)
    h.sort()
    if len(h) <= BINS:
        return LargestOf(h, np.full(len(h), 1.0 / len(h)), A.shape[1])
    # Means of neighbours: what a tail misses is of second order in the width of a bin.
    binned = h.reshape(BINS, -1)
    mixed = binned[(binned[:, 0] < 0) & (binned[:, -1] > 0)].ravel()
    whole = binned[(binned[:, 0] >= 0) | (binned[:, -1] <= 0)].mean(axis=1)
    weights = np.r_[np.full(len(whole), 1.0 / BINS), np.full(len(mixed), 1.0 / len(h))]
    return LargestOf(np.r_[whole, mixed], weights, A.shape[1])


def _directions(r: int, m: int) -> Iterator[np.ndarray]:
    """Yield points (n, r) on the unit sphere, some at a time, for m statistics."""
    if r == 1:
        yield np.array([[1.0], [-1.0]])
    elif r == 2:
        angle = 2.0 * np.pi * (np.arange(2**FEWEST) + 0.5) / 2**FEWEST
        yield np.column_stack([np.cos(angle), np.sin(angle)])
    else:
        most = min(MOST, FEWEST - 3 + r)  # few dimensions are filled soon
        power = int(np.clip(np.log2(PRODUCTS / (m * r)), FEWEST, most))
        points = scipy.stats.qmc.Sobol(r, seed=20_260_101)
        for _ in range(2**power // CHUNK):
            z = scipy.special.ndtri(np.clip(points.random(CHUNK), 1e-16, 1.0 - 1e-16))
            yield z / np.sqrt(np.einsum("nr,nr->n", z, z))[:, None]


def upper_quantile(
    tail: Callable[[np.ndarray, np.ndarray], np.ndarray], probability: float, df: np.ndarray
) -> np.ndarray:
    """Return where tails (m,), which fall from 1 to 0, are the probability; one a value of df.

    Of many values, by the polynomial in 1 / df through some of them, which is good to 1e-8.
    """
    df = np.asarray(df, dtype=float)
    out, known = np.where(df > 0, np.inf, np.nan), df >= LEAST_DF
    distinct, place = np.unique(1.0 / df[known], return_inverse=True)
    if len(distinct) <= NODES:
        found = [_root(tail, probability, 1.0 / x if x else np.inf) for x in distinct.tolist()]
        out[known] = np.array(found)[place]
        return out
    angles = np.pi * (np.arange(NODES) + 0.5) / NODES
    low, high = distinct[[0, -1]]
    nodes = 0.5 * (low + high) + 0.5 * (high - low) * np.cos(angles)
    found = [_root(tail, probability, 1.0 / x) for x in nodes.tolist()]
    through = scipy.interpolate.BarycentricInterpolator(nodes, found)
    out[known] = through(distinct)[place]
    return out


def _root(tail: Callable, probability: float, df: float) -> float:
    """Return where the tail is the probability, for one value of df."""

    def gap(c: float) -> float:
        """Return the tail beyond c less the probability."""
        return float(tail(np.array([c]), np.array([df]))[0]) - probability

    low, high = -1.0, 4.0
    while gap(high) > 0 and high < 1e12:
        low, high = high, 4.0 * high
    while gap(low) < 0 and low > -1e12:
        low = 4.0 * low
    return float(scipy.optimize.brentq(gap, low, high, xtol=1e-10, rtol=1e-12))
