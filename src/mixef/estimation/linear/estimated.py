"""Derivatives of a criterion whose ``log|M|`` is an estimate: how far they can be trusted."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np

from mixef.errors import FitError
from mixef.estimation.search.trust_region import Quadratic
from mixef.linalg.factor import Factor
from mixef.terms.parametrization import Parametrization

# Steps of differences, in standard errors: errors of the gradient do not depend on them, while
# those of second differences are 1e-4 of it.
STEP = 0.05
# The largest error of a Hessian, beside its smallest eigenvalue.
LARGEST_ERROR = 0.01


def gradient_error(
    factor: Factor, parametrization: Parametrization, dlams: Sequence[np.ndarray]
) -> tuple[np.ndarray, np.ndarray] | None:
    """Return the covariance (k, k) of the gradient's error, and samples (m, k) of which it is.

    None where traces are exact.
    """
    covariance = factor.trace_covariance()
    if covariance is None:
        return None
    J = slopes_of_traces(parametrization, dlams, factor.lams)
    return J.T @ covariance @ J, factor.trace_samples() @ J


def slopes_of_traces(
    parametrization: Parametrization,
    dlams: Sequence[np.ndarray],
    lams: Sequence[np.ndarray],
) -> np.ndarray:
    """Return the derivatives (K, k) of a gradient for the cells of `Factor.trace_blocks`, flat."""
    shapes = [lam.shape for lam in lams]
    ends = np.cumsum([a * b for a, b in shapes])
    rows = [
        parametrization.gradient(
            dlams,
            lams,
            [part.reshape(s) for part, s in zip(np.split(unit, ends[:-1]), shapes, strict=True)],
        )
        for unit in np.eye(int(ends[-1]))
    ]
    return np.array(rows)


def vanishes_within(
    gradient: np.ndarray, information: np.ndarray, error: np.ndarray, unit: np.ndarray
) -> bool:
    """Tell whether a step promises less than the gradient's error makes steps promise.

    Parameters
    ----------
    error : ndarray (k, k)
        Covariance of the gradient's error.
    unit : ndarray (k,)
        Size of a large change of each parameter.
    """
    at = Quadratic(gradient, information, unit)
    return bool(at.values.min() > 0.0 and at.promise < promised_by_error(at, error, unit))


def promised_by_error(at: Quadratic, error: np.ndarray, unit: np.ndarray) -> float:
    """Return what a Newton step promises for the gradient's error alone."""
    spread = at.vectors.T @ (error * np.outer(unit, unit)) @ at.vectors
    return 0.5 * float((spread.diagonal() / np.abs(at.values)).sum())


def estimated_hessian(
    gradient: Callable[[np.ndarray], tuple[np.ndarray, np.ndarray]],
    point: np.ndarray,
    unit: np.ndarray,
    information: np.ndarray,
) -> tuple[np.ndarray, float]:
    """Return the Hessian (k, k) by central differences of an estimated gradient, and its error.

    The error is beside the smallest eigenvalue, in units of the parameters.

    Random vectors are the same at all points, so that most of the gradient's error cancels; what
    each of them says of the Hessian tells what is left.

    Parameters
    ----------
    gradient : callable
        Returns gradient (k,) and samples (m, k) at a point.

    Raises
    ------
    FitError
        Where too much of it is error.
    """
    k = len(point)
    steps = STEP * unit / np.sqrt(np.maximum(information.diagonal() * unit**2, 1.0))
    H, spread = np.empty((k, k)), np.zeros((k, k))
    for a, step in enumerate(steps):
        ends = []
        for sign in (1.0, -1.0):
            moved = point.copy()
            moved[a] += sign * step
            ends.append(gradient(moved))
        H[a] = (ends[0][0] - ends[1][0]) / (2.0 * step)
        samples = (ends[0][1] - ends[1][1]) / (2.0 * step)
        if len(samples) > 1:
            spread[a] = samples.var(axis=0, ddof=1) / len(samples)
    scale = np.outer(unit, unit)
    error = float(np.sqrt((spread * scale**2).sum()))
    H = 0.5 * (H + H.T)
    smallest = float(np.abs(np.linalg.eigvalsh(H * scale)).min())
    if not error <= LARGEST_ERROR * smallest:
        raise FitError(
            "the second derivatives of the criterion, an estimate with an iterative factor, are "
            f"known to {error / smallest:.1%} only: degrees of freedom and standard errors of "
            "covariance parameters are refused; use ddf=None, or an exact factor "
            '(LmerControl(factor="cholmod"))'
        )
    return H, error / smallest if error else 0.0
