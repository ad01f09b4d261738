"""A fit with the estimates of given covariance parameters, to compare without the search."""

from dataclasses import replace

import numpy as np


def at_theta(fit, par):
    """Return our fit as if its search had ended at ``par`` (k,), on the user's scale."""
    criterion = fit._fit.criterion()
    scaled = criterion.terms.scaled_par(np.array(par, dtype=float))
    return type(fit)(replace(fit._fit, point=scaled, estimates=criterion.estimates(scaled)))
