"""Steps in a trust region, along the eigenvectors of Hessians: one search's or many at once."""

from __future__ import annotations

import numpy as np

from mixef.linalg import small

# A direction is flat when its curvature for a change by natural units is below this ...
FLAT = 1e-5
# ... and its slope, which rounding keeps from zero, is below this.
STILL = 1e-6
# A step is taken when it gains more than this share of what it promised.
ACCEPTED = 1e-4
# A step's length may miss the radius by this share.
LENGTH_ERROR = 1e-10

Numbers = float | np.ndarray


class Quadratic:
    """What derivatives foretell of a function near a point, by the eigenvalues of its Hessian.

    Parameters
    ----------
    g, H : ndarray (k,), (k, k)
    unit : ndarray (k,)
        Natural unit of each parameter, in which steps are.
    """

    def __init__(self, g: np.ndarray, H: np.ndarray, unit: np.ndarray):
        self.unit = unit
        self.values, self.vectors = small.eigh(H * (unit[:, None] * unit))
        self.slopes = (g * unit) @ self.vectors
        #: What a Newton step promises to gain, flat directions left aside.
        self.promise = self._promise(self.values)

    def is_settled(self, radius: float) -> bool:
        """Tell whether there is a minimum, and that within reach."""
        if np.minimum.reduce(self.values, initial=1.0) <= 0.0:
            return False
        step = self.slopes / self.values
        return bool(step @ step < radius**2)

    def promise_of_size(self) -> float:
        """Return that where only the size of curvature counts, and no saddle is believed in."""
        return self._promise(np.abs(self.values))

    def _promise(self, value: np.ndarray) -> float:
        slope = self.slopes
        if not np.minimum.reduce(value, initial=1.0) > FLAT:
            curved = is_curved(slope, value)
            value, slope = value[curved], slope[curved]
        return _step(slope, value, 1.0)[1]

    def step(self, radius: float) -> tuple[np.ndarray, float]:
        """Minimize ``g's + s'Hs/2`` over ``|s| <= radius``; return s and the gain."""
        step, gain = _step(self.slopes, self.values, radius)
        return self.vectors @ step, gain


def _step(slope: np.ndarray, value: np.ndarray, radius: float) -> tuple[np.ndarray, float]:
    """Return the one of `steps_along` for one slope (k,), or Newton's where that is short."""
    if np.minimum.reduce(value, initial=1.0) > 0.0:
        step = slope / value
        if step @ step <= radius**2:
            return -step, 0.5 * float(slope @ step)
    steps, gains = steps_along(slope[None], value[None], np.array([radius]))
    return steps[0], float(gains[0])


def is_curved(slope: np.ndarray, value: np.ndarray) -> np.ndarray:
    """Tell along which eigenvectors a function is not flat, for slopes in natural units."""
    curved: np.ndarray = (np.abs(value) > FLAT) | (np.abs(slope) > STILL)
    return curved


def promises(slope: np.ndarray, value: np.ndarray) -> np.ndarray:
    """Return what Newton steps promise (m,), as `Quadratic.promise` does.

    Parameters
    ----------
    slope, value : ndarray (m, k)
        Gradients along the eigenvectors of the Hessians, and their eigenvalues, for parameters in
        their natural units.
    """
    curved = is_curved(slope, value)
    ones = np.ones(len(slope))
    return steps_along(np.where(curved, slope, 0.0), np.where(curved, value, 1.0), ones)[1]


def steps_along(
    slope: np.ndarray, value: np.ndarray, radius: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """Minimize ``g's + s'Hs/2`` over ``|s| <= radius`` along the eigenvectors of every H.

    ``s = -g / (value + shift)``, with the smallest shift that keeps ``|s| <= radius`` (Nocedal and
    Wright, section 4.3). It is a root of ``1/radius - 1/|s|``, to which Newton's steps rise
    without passing it. In the hard case, where g has no part along a lowest, negative eigenvalue,
    the step goes that way to the boundary (More and Sorensen, 1983). Shifts are counted from where
    the lowest denominator vanishes, so that they keep their digits where g hardly has such a part.

    Parameters
    ----------
    slope, value : ndarray (m, k)
        Gradients along the eigenvectors, and eigenvalues.
    radius : ndarray (m,)

    Returns
    -------
    steps (m, k), gains (m,)
    """
    low = value.min(axis=1)
    scale = np.maximum(np.abs(value).max(axis=1), 1e-100)
    definite = low > 1e-14 * scale
    base = np.where(definite[:, None], value, value - low[:, None])
    shift = np.where(definite, 0.0, 1e-14 * scale + np.maximum(low, 0.0))
    step = -slope / (base + shift[:, None])
    squares = (step**2).sum(axis=1)
    long = squares > radius**2
    hard = ~long & (low < -1e-10 * scale)
    if long.any():
        step[long] = _shortened(slope[long], base[long], shift[long], radius[long])
    if hard.any():  # along the lowest eigenvector to the boundary
        row, column = np.flatnonzero(hard), value[hard].argmin(axis=1)
        others = squares[hard] - step[row, column] ** 2
        along = np.sqrt(np.maximum(radius[hard] ** 2 - others, 0.0))
        step[row, column] = np.where(slope[row, column] > 0, -along, along)
    gain = -(slope * step).sum(axis=1) - 0.5 * (value * step**2).sum(axis=1)
    return step, gain


def _shortened(
    g: np.ndarray, base: np.ndarray, shift: np.ndarray, radius: np.ndarray
) -> np.ndarray:
    """Return the steps of length ``radius``, given shifts at which they are longer."""
    # Where the longest component has that length by itself; the step is a little longer still.
    shift = np.maximum(shift, (np.abs(g) / radius[:, None] - base).max(axis=1))
    while True:
        step: np.ndarray = -g / (base + shift[:, None])
        squares = (step**2).sum(axis=1)
        over = np.sqrt(squares) / radius - 1.0
        if not (over > LENGTH_ERROR).any():
            return step
        further = shift + over * squares / (step**2 / (base + shift[:, None])).sum(axis=1)
        if (further == shift).all():  # as near as rounding lets them
            return step
        shift = further


def next_radius(radius: Numbers, length: Numbers, ratio: Numbers) -> np.ndarray:
    """Return the trust radius after a step of some length, by what it gained of its promise."""
    new = np.where((ratio > 0.75) & (length > 0.9 * radius), 2.0 * radius, radius)
    new = np.where(ratio < 0.25, 0.5 * length, new)
    return np.where(ratio > ACCEPTED, new, 0.25 * length)
