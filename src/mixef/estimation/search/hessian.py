"""The Hessian of a criterion at its minimum, and the covariance of the estimates from it."""

from __future__ import annotations

import numpy as np

from mixef.estimation.search.criteria import Criterion
from mixef.estimation.search.optimize import derivatives_at

# An eigenvalue this small beside the largest, at a unit diagonal, is a direction that the data
# leave open; a parameter with this share in one has no standard error.
OPEN, SHARE = 1e-9, 1e-3
# Steps of differences, in standard errors.
STEP = 2e-3


def difference_hessian(
    criterion: Criterion, point: np.ndarray, information: np.ndarray
) -> np.ndarray | None:
    """Return the Hessian (K, K) by central differences of the exact gradient.

    Steps are a fraction of the standard error by the information. None where a step leaves the
    domain. The criterion is left at ``point``.
    """
    unit = criterion.scale(point)
    curvature = np.maximum(information.diagonal() * unit**2, 1e-8)
    steps = STEP * unit * np.minimum(1.0 / np.sqrt(curvature), 1.0)
    H = np.empty((len(point), len(point)))
    for a, step in enumerate(steps):
        ends = []
        for sign in (1.0, -1.0):
            moved = point.copy()
            moved[a] += sign * step
            found = derivatives_at(criterion) if np.isfinite(criterion.value(moved)) else None
            if found is None:
                return None
            ends.append(found[0])
        H[a] = (ends[0] - ends[1]) / (2.0 * step)
    criterion.value(point)
    return 0.5 * (H + H.T)


def inverse_hessian(hessian: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return ``2 H^-1`` (K, K), the covariance, and which parameters (K,) the data leave open.

    Directions that are open are left out of the inverse.
    """
    root = np.sqrt(np.maximum(hessian.diagonal(), 0.0))
    unit = np.where(root > 0, root, 1.0)
    value, vector = np.linalg.eigh(hessian / np.outer(unit, unit))
    flat = value <= OPEN * max(value.max(initial=0.0), 1.0)
    solved = vector[:, ~flat] / value[~flat]
    inverse = 2.0 * (solved @ vector[:, ~flat].T) / np.outer(unit, unit)
    return inverse, (np.abs(vector[:, flat]) > SHARE).any(axis=1)
