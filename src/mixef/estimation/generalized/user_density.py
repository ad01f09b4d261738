"""The check that a user's density goes with its variance function."""

from __future__ import annotations

import numpy as np

from mixef.errors import DataError
from mixef.estimation.generalized.response import Response
from mixef.families.differences import derivative

# How far the slope of a log density may be from its score: a share of it or of its typical size.
TOLERANCE = 1e-4


def check_variance(response: Response) -> None:
    """Refuse a family whose density does not go with its variance function.

    The slope of the log density for the mean has to be ``(y - mu) / (phi V)``.

    Raises
    ------
    DataError
        Naming the family, a row, and both slopes there.
    """
    family, y, weights = response.family, response.y, response.weights
    with np.errstate(all="ignore"):
        mean = family.initial_mean(y, weights)
        extra = family.initial_extra(y, mean, weights) if family.auxiliary else 1.0
        dispersion = family.dispersion(extra)
        variance = dispersion * family.variance(mean, extra)
        size = np.abs(mean) + np.sqrt(variance)
        for end in family.mean_range:
            size = np.minimum(size, np.abs(mean - end))

        def log_density(mu: np.ndarray) -> np.ndarray:
            return family.log_kernel(y, family.link.link(mu), mu, None, extra)

        slope = derivative(log_density, mean, scale=size)
        score = (y - mean) / variance
        wrong = np.abs(slope - score) > TOLERANCE * (np.abs(score) + 1.0 / np.sqrt(variance))
    if (bad := wrong & np.isfinite(slope) & np.isfinite(score)).any():
        row = int(np.argmax(bad))
        raise DataError(
            f"the density of the family {family.name} does not go with its variance function: "
            f"at the mean {mean[row]:.4g} of row {row} (rows counted from 0) its log changes "
            f"by {slope[row]:.4g} for the mean, where (y - mu) / (phi V) gives "
            f"{score[row]:.4g}; give the variance function of an exponential "
            "dispersion family, or name auxiliary= parameters for a density of any other form"
        )
