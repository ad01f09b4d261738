"""Covariance of the estimates: of the fixed effects, and of all parameters by the Hessian."""

from __future__ import annotations

from collections import Counter
from typing import Any

import numpy as np
import pandas as pd

from mixef import checks
from mixef.errors import ArgumentError
from mixef.estimation.fit import Fit
from mixef.estimation.search.certified import LEAST_UNIT
from mixef.estimation.search.hessian import inverse_hessian
from mixef.families.auxiliary import separate
from mixef.inference.hypotheses.ddf import refuse_chosen
from mixef.inference.robust.covariance import with_robust
from mixef.terms.nodes import unquoted

# The derivative of a parameter at the turning point of its sign, beside the largest one.
TURNING = 1e-9


def covariance(
    fit: Fit, full: bool = False, correlation: bool = False, use_hessian: bool = True,
    robust: str | None = None, cluster: Any = None,
) -> pd.DataFrame:  # fmt: skip
    """Return a covariance or correlation matrix; see the method ``vcov`` of a model."""
    if robust is not None:
        fit = with_robust(fit, robust, cluster)
    elif cluster is not None:
        raise ArgumentError("cluster is for a robust covariance; give robust='CR2' too")
    use_hessian = checks.flag(use_hessian, "use_hessian")
    correlation = checks.flag(correlation, "correlation")
    if checks.flag(full, "full"):
        refuse_chosen(fit, "the covariance of all parameters (full=True) is")
        found = covariance_of_parameters(fit, use_hessian)
    else:
        names = pd.Index(fit.fixed_names)
        found = pd.DataFrame(_fixed_values(fit, use_hessian), index=names, columns=names)
    if not correlation:
        return found
    sd = np.sqrt(np.diag(found))
    with np.errstate(divide="ignore", invalid="ignore"):
        return found / np.outer(sd, sd)


def distinct_names(fit: Fit) -> list[str]:
    """Return the names of the coefficients; those that several have, with their terms."""
    counts = Counter(map(unquoted, fit.fixed_names))
    terms = fit.design.column_terms
    return [
        name if counts[unquoted(name)] == 1 else f"{name} of {terms[j]}"
        for name, j in zip(fit.fixed_names, fit.kept, strict=True)
    ]


def _fixed_values(fit: Fit, use_hessian: bool) -> np.ndarray:
    """Return the covariance (p, p) of the fixed effects, by the Hessian or with others known."""
    known = fit.covariance_scale * fit.estimates.unscaled_vcov
    return fit.vcov.copy() if use_hessian or fit.beta_covariance is not None else known


def _unless_open(fit: Fit, hessian: np.ndarray, J: np.ndarray) -> np.ndarray:
    """Return ``2 J H^-1 J'``, NaN for parameters that the data leave open or put at zero."""
    inverse, is_open = inverse_hessian(hessian)
    values = J @ inverse @ J.T
    unknown = (J[:, is_open] != 0).any(axis=1)
    unknown[: len(fit.estimates.par)] |= _at_zero(fit, J)
    values[unknown], values[:, unknown] = np.nan, np.nan
    return values


def covariance_of_parameters(fit: Fit, use_hessian: bool = True) -> pd.DataFrame:
    """Return the covariance matrix (K, K) of all parameters, on the user's scale.

    Rows are fixed effects, covariance parameters, and the logs of the family's others. NaN
    stands where it is not known: for parameters that the data leave open, covariance
    parameters at zero or where there is no Hessian, and between covariance parameters and fixed
    effects that were in the mode (nAGQ = 0). Those of a linear model are independent.
    """
    k, p = len(fit.estimates.par), len(fit.kept)
    names = [*fit.fixed_names, *fit.par_labels]
    names += fit.extra_labels
    values = np.full((len(names), len(names)), np.nan)
    hessian = fit.hessian if use_hessian else None
    if hessian is not None:
        J = _jacobian(fit)
        inside = fit.kind.searches_beta
        covariance = _unless_open(fit, hessian, J)
        order = [*range(k, k + p), *range(k)] if inside else list(range(k))
        order += range(len(order), len(hessian))
        place = np.arange(len(names)) if inside else np.arange(p, len(names))
        values[np.ix_(place, place)] = covariance[np.ix_(order, order)]
    if fit.is_linear:  # where they are independent
        values[:p, p:], values[p:, :p] = 0.0, 0.0
    values[:p, :p] = _fixed_values(fit, use_hessian)
    return pd.DataFrame(values, index=names, columns=names)


def auxiliary_standard_errors(fit: Fit) -> np.ndarray:
    """Return the standard errors (E,) of the family's parameters; NaN where they have none."""
    parameters = fit.family.auxiliary
    if fit.hessian is None:
        return np.full(len(parameters), np.nan)
    inverse, is_open = inverse_hessian(fit.hessian)
    last = slice(len(inverse) - len(parameters), None)
    errors = np.where(is_open[last], np.nan, np.sqrt(inverse.diagonal()[last]))
    slopes = [a.slope(v) for a, v in zip(parameters, separate(fit.extra), strict=True)]
    return errors * np.array(slopes)


def _jacobian(fit: Fit) -> np.ndarray:
    """Return the derivative (K, K) of the user's parameters for the search's, in its order."""
    terms, par = fit.problem.terms, fit.scaled_par
    k, p = len(fit.estimates.par), len(fit.kept)
    J = np.eye(len(fit.labels))
    J[:k, :k] = terms.par_jacobian(par, terms.parametrization.scale(par, floor=LEAST_UNIT))
    if fit.kind.searches_beta:
        J[k : k + p, k : k + p] = fit.problem.user_beta(np.eye(p))
    return J


def _at_zero(fit: Fit, J: np.ndarray) -> np.ndarray:
    """Return which covariance parameters (k,) are at a bound, or turn their sign."""
    k = len(fit.estimates.par)
    par = fit.estimates.par
    lower, upper = (
        np.concatenate([getattr(term.structure, end) for term in fit.terms])
        for end in ("lower", "upper")
    )
    steepest = np.abs(J[:k, :k]).max(axis=1, initial=0.0)
    return (par <= lower) | (par >= upper) | (steepest <= TURNING * steepest.max(initial=0.0))
