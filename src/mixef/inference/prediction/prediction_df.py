"""Satterthwaite's degrees of freedom of predictions of a linear model.

Given the covariance parameters phi, a predicted row has the variance

    v(phi) = s2 [x; Lambda'z]' A^-1 [x; Lambda'z] + z_new' Sigma z_new + s2 / w,

with the matrix A of Henderson's mixed model equations, the columns z_new of what is new to the
fit, and the residual variance of a new response. As for a contrast of fixed effects
(`satterthwaite`), its estimate is taken as a scaled chi-square variable, with ``2 v^2 / g'Cg``
degrees of freedom: g are the slopes of v for phi, and C is the covariance of phi.

Standard errors have one more share, that of phi itself. It is of second order and left out of v and
of g: with it in v alone, intervals of known levels cover less.
"""

from __future__ import annotations

import numpy as np

from mixef.estimation.fit import Fit
from mixef.estimation.linear import LinearCriterion
from mixef.inference.prediction.prediction_rows import PredictionRows
from mixef.inference.prediction.prediction_variance import (
    effects_variance,
    linear_rule,
    modes_by_beta,
    moved_predictor,
    new_columns,
    random_variance,
    random_variance_slopes,
    squares,
)

# Steps of central differences, in the natural units of the parameters: errors are 1e-8 of v.
STEP = 1e-4
# A variance that is known from less than one squared deviation is a sign of a standard deviation
# near zero, where slopes say little: a new level's df would go to zero, and its interval to
# infinity.
FEWEST = 1.0


def prediction_df(fit: Fit, rows: PredictionRows, residual: np.ndarray | None = None) -> np.ndarray:
    """Return the degrees of freedom (m,), of no meaning where a row is missing.

    With ``residual`` variances (m,) of new responses, what the rows leave out is new as well.
    """
    rule, m = linear_rule(fit), len(rows.X)
    new = new_columns(fit, rows, left_out=residual is not None)
    slope = random_variance_slopes(fit, new, m)
    criterion = fit.criterion()
    J, known = _given_parameters(fit, rows, rule.vcov, criterion, fit.scaled_par)
    for a, of_vcov in enumerate(rule.slopes[:-1]):
        slope[:, a] += squares(J, of_vcov)
    if rows.terms:
        slope[:, :-1] += _differences(fit, rows, rule.vcov, criterion)
    # All of v is in proportion to the residual variance.
    slope[:, -1] += 2.0 * known
    total = known + random_variance(fit, new, m)
    if residual is not None:
        slope[:, -1] += 2.0 * residual
        total = total + residual
    with np.errstate(divide="ignore", invalid="ignore"):
        df = 2.0 * total**2 / squares(slope, rule.covariance)
    fixed_only = not rows.terms and residual is None
    return df if fixed_only else np.maximum(df, FEWEST)


def _differences(
    fit: Fit, rows: PredictionRows, vcov: np.ndarray, criterion: LinearCriterion
) -> np.ndarray:
    """Return the derivatives (m, k) of the variance for par, with Var(beta) held."""
    par, out = fit.scaled_par, np.empty((len(rows.X), len(fit.scaled_par)))
    for a, step in enumerate(STEP * criterion.scale(par)):
        ends = []
        for sign in (1.0, -1.0):
            moved = par.copy()
            moved[a] += sign * step
            ends.append(_given_parameters(fit, rows, vcov, criterion, moved)[1])
        out[:, a] = (ends[0] - ends[1]) / (2.0 * step)
    return out


def _given_parameters(
    fit: Fit,
    rows: PredictionRows,
    vcov: np.ndarray,
    criterion: LinearCriterion,
    par: np.ndarray,
) -> tuple[np.ndarray, np.ndarray]:
    """Return the derivatives (m, p) of ``x'beta + z'b~`` for beta, and its variance (m,)."""
    if not rows.terms:
        return rows.X, squares(rows.X, vcov)
    factor = criterion.factor_at(par)
    J = moved_predictor(rows, rows.X.copy(), modes_by_beta(fit, factor, par))
    return J, squares(J, vcov) + effects_variance(fit, rows, factor, par)
