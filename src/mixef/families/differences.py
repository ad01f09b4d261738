"""Numerical derivatives, for links and families whose authors gave none."""

from __future__ import annotations

import math
from collections.abc import Callable

import numpy as np

# Nodes on each side of the finer stencil; the coarser one has one fewer.
HALF = 6
# Steps relative to the scale. The first suits a function that changes over one scale; the rest
# are for arguments close to a pole or to the end of the domain.
STEPS = (1 / 16, 1 / 128, 1 / 1024, 1 / 8192)
# Two stencils that agree to this share of the value are taken as right.
AGREED = 1e-11


def derivative(
    function: Callable[[np.ndarray], np.ndarray],
    x: np.ndarray | float,
    order: int = 1,
    scale: np.ndarray | float = 1.0,
) -> np.ndarray:
    """Return a derivative of a smooth function by central differences.

    Stencils of 13 and of 11 points on the same nodes are compared for each element; where they
    disagree, smaller steps are tried, and the step with the least disagreement (or rounding,
    whichever is larger) is kept. For a function that changes over one ``scale`` the relative
    error is about 1e-13 for the first derivative, 1e-12 for the second and 1e-10 for the third.

    Parameters
    ----------
    function : callable
        Maps an array like ``x`` to an array with which ``x`` broadcasts; may return NaN outside
        of its domain.
    x : ndarray or float
    order : int
        1, 2 or 3.
    scale : ndarray or float
        Over what distance the function changes; like ``x``.

    Returns
    -------
    ndarray
        As the function's result.

    Examples
    --------
    >>> from mixef.families.differences import derivative
    >>> round(float(derivative(np.log, 0.25, order=2, scale=0.25)), 8)
    -16.0
    """
    x = np.asarray(x, dtype=float)
    fine, coarse = stencil(HALF, order), stencil(HALF - 1, order)
    best, doubt = np.full(1, np.nan), np.full(1, np.inf)
    with np.errstate(all="ignore"):
        for relative in STEPS:
            step = relative * np.asarray(scale, dtype=float)
            nodes = [function(x + k * step) + np.zeros_like(x) for k in range(-HALF, HALF + 1)]
            values = np.stack(nodes)
            unit = step**order
            value = np.tensordot(fine, values, 1) / unit
            rounding = np.finfo(float).eps * np.tensordot(np.abs(fine), np.abs(values), 1) / unit
            other = np.tensordot(coarse, values[1:-1], 1) / unit
            error = np.maximum(np.abs(value - other), rounding)
            error = np.where(np.isnan(error), np.inf, error)
            best = np.where(error < doubt, value, best)
            doubt = np.minimum(error, doubt)
            if (doubt <= np.maximum(AGREED * np.abs(best), 8 * rounding)).all():
                break
    return best if best.shape == values.shape[1:] else best.reshape(values.shape[1:])


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
