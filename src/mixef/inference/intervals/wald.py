"""Wald intervals, each parameter on the scale where it is nearest to normal.

Coefficients are taken as they are, standard deviations, sigma and a shape by their logs,
correlations by Fisher's z (R. A. Fisher, 1921, Metron 1, 3-32). Variances of the estimates are by
the delta method from twice the inverse of the criterion's Hessian (J. C. Pinheiro and D. M. Bates,
2000, Mixed-Effects Models in S and S-PLUS, section 2.4.3).
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from mixef.estimation.fit import Fit
from mixef.inference.components import (
    Component,
    component_jacobian,
    components,
    scale_jacobian,
)
from mixef.inference.hypotheses.ddf import t_tests
from mixef.inference.intervals.named import estimates, named_parameters
from mixef.inference.tails import normal_quantile

# A standard deviation of this share of its column's natural unit, or less, is zero.
VANISHED = 1e-8
# A correlation this near to a bound is there.
UNIT = 1e-10


def wald_limits(fit: Fit, places: Sequence[int], level: float) -> np.ndarray:
    """Return the intervals (m, 2) of the parameters at the given places.

    Coefficients have normal quantiles; where a covariance was chosen for them, those that its
    tests have.

    The fit's own criterion is used: a REML fit's variances are by REML. A standard deviation of
    zero has the interval from 0 to z standard errors by the curvature there; a correlation beside
    it, or at a bound, has all that it can be. NaN stands where there is no Hessian.
    """
    kinds = [parameter.kind for parameter in named_parameters(fit)]
    value, z = estimates(fit), normal_quantile(level)
    halves = z * np.sqrt(_component_variances(fit))
    ddf = None if fit.beta_covariance is None else "auto"
    beta = np.column_stack(t_tests(fit, np.eye(len(fit.kept)), ddf=ddf).limits(level))
    out = np.empty((len(places), 2))
    for row, a in zip(out, places, strict=True):
        kind = kinds[a]
        if kind == "beta":
            row[:] = beta[a - len(halves)]
            continue
        half = halves[a]
        if kind == "cor":
            part = components(fit.terms)[a]
            row[:] = _fisher(value[a], half, fit.terms[part.term].structure.correlation_bounds)
        elif kind == "sd" and has_vanished(fit, a):
            row[:] = 0.0, _end_at_zero(fit, components(fit.terms)[a], z)
        else:
            # overflows to infinity where the data say next to nothing
            with np.errstate(over="ignore"):
                row[:] = value[a] * np.exp(np.array([-half, half]) / value[a])
    return out


def _fisher(r: float, half: float, bounds: tuple[float, float]) -> tuple[float, float]:
    """Return the interval of a correlation, by half its width on its own scale."""
    if is_at_bound(r, bounds):
        return bounds
    low, high = bounds
    width, middle = half / (1.0 - r**2), np.arctanh(r)
    return max(float(np.tanh(middle - width)), low), min(float(np.tanh(middle + width)), high)


def is_at_bound(r: float, bounds: tuple[float, float]) -> bool:
    """Tell whether a correlation is at its least or largest value."""
    return not bounds[0] + UNIT < r < bounds[1] - UNIT


def _component_variances(fit: Fit) -> np.ndarray:
    """Return the variances of standard deviations, correlations, and sigma or the like."""
    C, is_open = fit.search_covariance()
    J = np.vstack([component_jacobian(fit, components(fit.terms)), scale_jacobian(fit)])
    variance = np.einsum("ai,ij,aj->a", J, C, J)
    variance[(J[:, is_open] != 0.0).any(axis=1)] = np.inf
    return variance


def _row(fit: Fit, part: Component) -> np.ndarray:
    """Return the row (s,) from the scaled columns' effects to the user's."""
    basis = fit.problem.terms.bases[part.term]
    return basis.back(np.eye(len(basis.R)))[part.part.row]


def has_vanished(fit: Fit, place: int) -> bool:
    """Tell whether a standard deviation, by its place among `components`, is zero."""
    part = components(fit.terms)[place]
    sd = estimates(fit)[place] / np.sqrt(fit.covariance_scale)
    return not sd > VANISHED * float(np.linalg.norm(_row(fit, part)))


def _end_at_zero(fit: Fit, part: Component, z: float) -> float:
    """Return the upper end of the interval of a standard deviation at zero.

    A structure's own parameter of it goes z standard errors up. With correlations of its own, it is
    the length of ``lam' a``, which the parameters move away from zero; the largest variance in any
    direction counts.
    """
    C, is_open = fit.search_covariance()
    if not np.isfinite(C).all():
        return np.nan
    P, row, unit = fit.problem.terms.parametrization, _row(fit, part), np.sqrt(fit.covariance_scale)
    structure, where = P.structures[part.term], P.par_slices[part.term]
    if structure.focused(row[None]) is None:
        held = structure.held("sd", part.part.row)
        a = where.start + held.place
        end = held.back(z * np.sqrt(max(C[a, a], 0.0)))
        return np.inf if is_open[a] else float(unit * np.linalg.norm(row) * end)
    G = np.einsum("kab,a->bk", P.derivatives(fit.scaled_par)[0][part.term], row)
    if (G[:, is_open[where]] != 0.0).any():
        return np.inf
    largest = float(np.linalg.eigvalsh(G @ C[where, where] @ G.T)[-1])
    return float(z * unit * np.sqrt(max(largest, 0.0)))
