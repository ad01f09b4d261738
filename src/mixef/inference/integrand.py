"""The integrands of the likelihood, level by level, beside the normal density.

Laplace's approximation takes the integrand ``f_l(y, u)`` of a level for a normal density with its
mode and curvature there: with ``u(z) = u~ + z / L_ll``,

    f_l(y, u(z)) / (f_l(y, u~) sqrt(2 pi))   is near   phi(z),

and quadrature needs their ratio t(z) to be near a polynomial of low order
(D. Bates, Computational methods for mixed models, lme4's vignette, sections on quadrature).
"""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd

from mixef import checks
from mixef.errors import DataError
from mixef.estimation.fit import Fit
from mixef.estimation.levels import levels_at
from mixef.estimation.pirls import conditional_mode
from mixef.estimation.quadrature import values_at
from mixef.linalg.threads import one_blas_thread


def integrand(fit: Fit, z: Any) -> pd.DataFrame:
    """Return what the likelihood integrates, level by level; see the method ``integrand``."""
    if len(fit.terms) != 1 or len(fit.terms[0].columns) != 1:
        terms = ", ".join(f"{term.label}" for term in fit.terms)
        raise DataError(
            f"the fit has the random effects {terms}; the likelihood is a product of integrals "
            "in one variable only for a single term with one column, such as (1 | group)"
        )
    points = np.atleast_1d(checks.numbers(z, "z", "finite numbers (m,)"))
    if points.ndim != 1:
        raise checks.refusal("z", z, "finite numbers (m,)")
    with one_blas_thread():
        values = _log_ratios(fit, points)
    levels = fit.terms[0].grouping.index
    normal = np.exp(-0.5 * points**2) / np.sqrt(2.0 * np.pi)
    t = np.exp(values)
    return pd.DataFrame(
        {
            "group": levels.repeat(len(points)),
            "z": np.tile(points, len(levels)),
            "density": (t * normal).ravel(),
            "normal": np.tile(normal, len(levels)),
            "t": t.ravel(),
        }
    )


def _log_ratios(fit: Fit, points: np.ndarray) -> np.ndarray:
    """Return ``log t(z)`` (l, m)."""
    criterion = fit.criterion()
    par, beta, extra = criterion.split(fit.point)
    lams = criterion.parametrization.lams(par)
    if criterion.with_beta:
        beta = criterion.problem.scaled_beta(fit.estimates.beta)
    model = criterion.model
    u = np.zeros(model.groups.layout.q)
    mode = conditional_mode(model, lams, beta, extra, u, with_beta=False)
    levels = levels_at(model, mode, lams[0])
    # The scaled effect may run against the user's: its column of Z may have been reversed.
    towards = float(np.sign(criterion.terms.back_to_user(par)[0][0, 0])) or 1.0
    values = values_at(model, mode, levels, extra, towards * points[None, :]).log_ratio
    return values
