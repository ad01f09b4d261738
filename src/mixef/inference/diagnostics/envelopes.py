"""Envelopes of curves by draws: where a curve is if the model holds."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np


@dataclass(frozen=True, eq=False)
class Envelope:
    """Where a curve lies under a model, at k points.

    Attributes
    ----------
    level : float
    middle : ndarray (k,)
        The median of the draws at each point.
    low, high : ndarray (k,)
        Hold a share ``level`` of the draws at each point by itself.
    all_low, all_high : ndarray (k,)
        Hold a share ``level`` of the drawn curves as a whole.
    """

    level: float
    middle: np.ndarray
    low: np.ndarray
    high: np.ndarray
    all_low: np.ndarray
    all_high: np.ndarray

    def __repr__(self) -> str:
        return f"<Envelope of level {self.level:g} at {len(self.middle)} points>"


def envelope(drawn: np.ndarray, level: float) -> Envelope:
    """Return the envelope of drawn curves (k, m).

    The one for whole curves is the pointwise one, stretched about the mean at all points alike,
    each side by itself, until it holds them (the directional quantile envelope of M. Myllymaki,
    T. Mrkvicka, P. Grabarnik, H. Seijo and U. Hahn, 2017, Global envelope tests for spatial
    processes, Journal of the Royal Statistical Society B 79, 381-404).

    Examples
    --------
    >>> import numpy as np
    >>> drawn = np.random.default_rng(1).standard_normal((50, 2000))
    >>> found = envelope(drawn, 0.9)
    >>> inside = (drawn >= found.all_low[:, None]) & (drawn <= found.all_high[:, None])
    >>> round(float(inside.all(axis=0).mean()), 2)
    0.9
    """
    tail = 0.5 * (1.0 - level)
    low, middle, high = np.quantile(drawn, [tail, 0.5, 1.0 - tail], axis=1)
    centre = drawn.mean(axis=1)
    below, above = np.maximum(centre - low, 0.0), np.maximum(high - centre, 0.0)
    off = drawn - centre[:, None]
    side = np.where(off > 0.0, above[:, None], below[:, None])
    far = np.divide(np.abs(off), side, out=np.zeros_like(off), where=side > 0.0)
    stretch = max(float(np.quantile(far.max(axis=0), level)), 1.0)
    return Envelope(level, middle, low, high, centre - stretch * below, centre + stretch * above)
