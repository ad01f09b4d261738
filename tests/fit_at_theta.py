"""A fit with the estimates of given covariance parameters, to compare without the search."""

from dataclasses import replace

import numpy as np


def at_theta(fit, par):
    """Return our fit as if its search had ended at ``par`` (k,), on the user's scale."""
    criterion = fit._fit.criterion()
    scaled = criterion.terms.scaled_par(np.array(par, dtype=float))
    return type(fit)(replace(fit._fit, point=scaled, estimates=criterion.estimates(scaled)))


def at_parameters(fit, theta, beta, extra=None):
    """Return our generalized fit as if its search had ended there, on the user's scale."""
    criterion = fit._fit.criterion()
    par = criterion.parametrization.of_theta(np.array(theta, dtype=float))
    point = criterion.scaled_point(par, np.array(beta, dtype=float), extra)
    hessian, estimates = criterion.hessian(point), criterion.estimates(point)
    changed = replace(fit._fit, point=point, estimates=estimates, end_hessian=hessian)
    return type(fit)(changed)
