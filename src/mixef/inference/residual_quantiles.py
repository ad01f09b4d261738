"""Quantiles of residuals, in one pass over rows that may not be in memory."""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np

from mixef.errors import RowsElsewhereError
from mixef.estimation.fit import Fit
from mixef.inference.residuals import residual_values

SHARES = (0.0, 0.25, 0.5, 0.75, 1.0)
#: So many residuals are held; of more, quantiles are those of a histogram.
HELD = 2**24
#: The leading bits of a number in single precision that tell its bin: a sign, a power of two, and
#: 2048 bins between two powers.
BITS = 20


@dataclass
class Histogram:
    """Counts of numbers in bins of a relative width of 1/2048."""

    counts: np.ndarray = field(default_factory=lambda: np.zeros(2**BITS, dtype=np.int64))
    low: float = np.inf
    high: float = -np.inf

    def add(self, values: np.ndarray) -> None:
        """Count numbers (n,)."""
        bits = values.astype(np.float32).view(np.uint32)
        # In the order of the numbers: negative ones descend by their bits.
        place = np.where(bits >> 31, ~bits, bits | np.uint32(1 << 31)) >> (32 - BITS)
        self.counts += np.bincount(place, minlength=2**BITS)
        self.low = min(self.low, float(values.min()))
        self.high = max(self.high, float(values.max()))

    def quantiles(self) -> list[float]:
        """Return the least, the quartiles and the largest; the inner ones lie within a bin."""
        ends = np.cumsum(self.counts)
        inner = []
        for share in SHARES[1:-1]:
            rank = share * (ends[-1] - 1)
            bin = int(np.searchsorted(ends, rank, side="right"))
            low, high = _edges(bin)
            inside = (rank - (ends[bin] - self.counts[bin]) + 0.5) / self.counts[bin]
            inner.append(float(np.clip(low + inside * (high - low), self.low, self.high)))
        return [self.low, *inner, self.high]


def _edges(bin: int) -> tuple[float, float]:
    """Return the ends of a bin."""
    keys = np.array([bin, bin + 1], dtype=np.uint64) << np.uint64(32 - BITS)
    keys = np.minimum(keys, 2**32 - 1).astype(np.uint32)
    bits = np.where(keys >> 31, keys & np.uint32((1 << 31) - 1), ~keys).astype(np.uint32)
    low, high = bits.view(np.float32).astype(float)
    return float(low), float(high)


def scaled_quantiles(fit: Fit) -> tuple[list[float] | None, bool]:
    """Return quantiles of Pearson residuals over sigma, and whether they are exact.

    The rows are read once. Of more than 2^24 of them in an engine, the quartiles are good to one
    part in 2048. None where an engine no longer has the rows.
    """
    try:
        return _quantiles(fit)
    except RowsElsewhereError:
        return None, True


def _quantiles(fit: Fit) -> tuple[list[float], bool]:
    sigma = fit.estimates.sigma
    scaled = (residual_values(rows, "pearson") / sigma for rows in fit.pieces())
    if fit.frame.in_memory or fit.frame.n <= HELD:
        return np.quantile(np.concatenate(list(scaled)), SHARES).tolist(), True
    histogram = Histogram()
    for values in scaled:
        histogram.add(values)
    return histogram.quantiles(), False
