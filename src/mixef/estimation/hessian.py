"""From the Hessian of -2 log L to the covariance of the estimates."""

from __future__ import annotations

import numpy as np

# An eigenvalue this small beside the largest, at a unit diagonal, is a direction that the data
# leave open; a parameter with this share in one has no standard error.
OPEN, SHARE = 1e-9, 1e-3


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
