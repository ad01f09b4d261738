"""Numerical derivatives, for links and families whose authors gave none."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator

import numpy as np

# Nodes on each side of the finer stencil; the coarser one has one fewer.
HALF = 6
# The coarsest step beside the scale, how much finer each next one is, and the finest. The first
# suits a function that changes over one scale, the others arguments close to a pole or to the end
# of the domain.
COARSEST, FINER, FINEST = 1 / 16, 1 / 8, 1 / 8192
# Stencils that agree to this share of the value are taken as right.
AGREED = 1e-11


def derivative(
    function: Callable[[np.ndarray], np.ndarray],
    x: np.ndarray | float,
    order: int = 1,
    scale: np.ndarray | float | None = None,
) -> np.ndarray:
    """Return a derivative of a smooth function by central differences.

    Stencils of 13, 11 and 9 points on the same nodes are compared for each element. Steps become
    finer until these agree to rounding, and the one with the least disagreement is taken. For a
    function that changes over one ``scale`` the relative error is about 1e-13 for the first
    derivative, 1e-12 for the second, 1e-10 for the third and 1e-8 for the fourth.

    Parameters
    ----------
    function : callable
        Maps an array like ``x`` to an array with which ``x`` broadcasts; may return NaN outside
        of its domain.
    x : ndarray or float
    order : int
        1 to 4.
    scale : ndarray or float, optional
        Over what distance the function changes; like ``x``. By default nothing is known of it:
        steps go from the largest of x (or 1) down to a small part of the smallest, so that x may
        be in any unit.

    Returns
    -------
    ndarray
        As the function's result.

    Examples
    --------
    >>> from mixef.families.differences import derivative
    >>> round(float(derivative(np.log, 0.25, order=2)), 8)
    -16.0
    >>> f"{derivative(np.reciprocal, 4e-9):.8g}"
    '-6.25e+16'
    """
    x = np.asarray(x, dtype=float)
    fine, coarse, coarser = (stencil(HALF - fewer, order) for fewer in range(3))
    best, doubt, least = np.full(1, np.nan), np.full(1, np.inf), np.full(1, np.inf)
    settled = converged = np.zeros(1, dtype=bool)
    with np.errstate(all="ignore"):
        for step in _steps(x, scale):
            nodes = [function(x + k * step) + np.zeros_like(x) for k in range(-HALF, HALF + 1)]
            values = np.stack(nodes)
            unit = step**order
            value = np.tensordot(fine, values, 1) / unit
            rounding = np.finfo(float).eps * np.tensordot(np.abs(fine), np.abs(values), 1) / unit
            other = np.tensordot(coarse, values[1:-1], 1) / unit
            # Two stencils may agree by chance; the third is 100 times worse where they converge.
            third = np.tensordot(coarser, values[2:-2], 1) / unit
            error = np.maximum(np.abs(value - other), 0.01 * np.abs(other - third))
            error = np.maximum(error, rounding)
            error = np.where(np.isnan(error), np.inf, error)
            agreed = error <= np.maximum(AGREED * np.abs(value), 8 * rounding)
            # Beside a pole a step that is far too long has a small error of a small value.
            closer = error * np.abs(best) < doubt * np.abs(value)
            better = ~settled & ((error < doubt) | (agreed & closer))
            best, doubt = np.where(better, value, best), np.where(better, error, doubt)
            # What agrees to rounding is settled once finer steps only round more.
            settled = settled | (error <= AGREED * np.abs(value)) | (converged & (rounding > least))
            converged, least = converged | agreed, np.minimum(least, rounding)
            if settled.all():
                break
    return best if best.shape == values.shape[1:] else best.reshape(values.shape[1:])


def _steps(x: np.ndarray, scale: np.ndarray | float | None) -> Iterator[np.ndarray]:
    """Yield steps, the coarsest first."""
    size = np.abs(x[np.isfinite(x)])
    largest = smallest = np.asarray(1.0 if scale is None else scale, dtype=float)
    if scale is None:
        largest, smallest = size.max(initial=1.0), size[size > 0].min(initial=1.0)
    step = np.asarray(COARSEST * largest)
    while (step >= FINEST * smallest).any():
        yield step
        step = FINER * step


def stencil(half: int, order: int) -> np.ndarray:
    """Return the weights (2 half + 1,) of a central difference at unit step.

    They are derivatives at zero of the Lagrange polynomials, whose coefficients are whole
    numbers that floats hold exactly.
    """
    nodes = np.arange(-half, half + 1)
    weights = np.empty(len(nodes))
    for j, node in enumerate(nodes):
        others = np.delete(nodes, j)
        weights[j] = np.poly(others)[-1 - order] / np.prod((node - others).astype(float))
    return math.factorial(order) * weights
