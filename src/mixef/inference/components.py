"""Standard deviations and correlations of the random effects: the parameters that users read."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
import pandas as pd

from mixef.estimation.fit import Fit
from mixef.terms.covariance import Part
from mixef.terms.random import RandomTerm


@dataclass(frozen=True)
class Component:
    """One parameter of a random-effects covariance, on the scale that users read."""

    term: int  # Position of the term
    part: Part  # Which entry of the term's covariance it is
    name: str  # ``sd_Days|Subject``, ``cor_Days.(Intercept)|Subject``

    @property
    def kind(self) -> Literal["sd", "cor"]:
        """Standard deviation or correlation."""
        return self.part.kind


def components(terms: Sequence[RandomTerm]) -> list[Component]:
    """List standard deviations, then correlations, term by term, as lme4's ``confint`` does."""
    return [
        Component(t, part, f"{part.kind}_{part.name}|{term.group}")
        for t, term in enumerate(terms)
        for part in term.structure.parts(term.columns)
    ]


def component_values(
    parts: Sequence[Component], lams: Sequence[np.ndarray], scale: float
) -> np.ndarray:
    """Return standard deviations and correlations; NaN for a correlation beside a zero.

    They are those of ``scale lam lam'``, for the templates (s_t, s_t) of the user's columns.
    """
    covs = [scale * lam @ lam.T for lam in lams]
    out = np.empty(len(parts))
    for a, part in enumerate(parts):
        C = covs[part.term]
        i, j = part.part.entry(C)
        out[a] = C[i, j]
        if part.kind == "sd":
            out[a] = np.sqrt(out[a])
        else:
            sds = np.sqrt(C[i, i] * C[j, j])
            out[a] = out[a] / sds if sds > 0 else np.nan
    return out


def scale_names(fit: Fit) -> list[str]:
    """Return what the model has besides covariances and coefficients: sigma, or its family's."""
    if fit.family.has_dispersion:
        return ["sigma"]
    return [parameter.name for parameter in fit.family.auxiliary]


def scale_parameters(fit: Fit) -> dict[str, float]:
    """Return sigma or the family's parameters by name; a dispersion is shown by its root."""
    if fit.family.has_dispersion:
        return {"sigma": fit.estimates.sigma}
    return fit.family.named(fit.extra)


def parameter_values(fit: Fit) -> pd.Series:
    """Return standard deviations, correlations, sigma or the like, and fixed effects, by name."""
    parts = components(fit.terms)
    values = component_values(parts, fit.estimates.lams, fit.covariance_scale)
    scale = scale_parameters(fit)
    names = [*(part.name for part in parts), *scale, *fit.fixed_names]
    return pd.Series([*values, *scale.values(), *fit.estimates.beta], index=names, dtype=float)


def covariance_slopes(fit: Fit) -> list[np.ndarray]:
    """Return the derivatives of every term's covariance matrix (K, s_t, s_t).

    They are for the parameters of the search (`search_parameters`).
    """
    terms, scale = fit.problem.terms, fit.covariance_scale
    P = terms.parametrization
    dsigmas = P.derivatives(fit.scaled_par)[1]
    size = len(fit.labels)
    out = []
    for t, basis in enumerate(terms.bases):
        cols = P.columns[t]
        T = basis.back(np.eye(cols.stop - cols.start))
        D = T @ dsigmas[P.block_of[t]][:, cols, cols] @ T.T
        slopes = np.zeros((size, *D.shape[1:]))
        slopes[: len(D)] = scale * D
        if fit.is_linear:
            lam = fit.estimates.lams[t]
            slopes[-1] = 2.0 * scale * lam @ lam.T
        out.append(slopes)
    return out


def component_jacobian(fit: Fit, parts: Sequence[Component], squares: bool = False) -> np.ndarray:
    """Return the derivatives (m, K) of `component_values` for the parameters of the search.

    With ``squares`` they are those of variances and covariances. A standard deviation of zero has
    none, and its row is NaN, as are those of its correlations.
    """
    covs = [fit.covariance_scale * lam @ lam.T for lam in fit.estimates.lams]
    slopes = covariance_slopes(fit)
    J = np.empty((len(parts), len(fit.labels)))
    with np.errstate(divide="ignore", invalid="ignore"):
        for a, part in enumerate(parts):
            C, dC = covs[part.term], slopes[part.term]
            i, j = part.part.entry(C)
            if squares:
                J[a] = dC[:, i, j]
            elif part.kind == "sd":
                J[a] = dC[:, i, i] / (2.0 * np.sqrt(C[i, i]))
            else:
                root = np.sqrt(C[i, i] * C[j, j])
                relative = dC[:, i, i] / C[i, i] + dC[:, j, j] / C[j, j]
                J[a] = dC[:, i, j] / root - 0.5 * C[i, j] / root * relative
    J[~np.isfinite(J).all(axis=1)] = np.nan
    return J


def scale_jacobian(fit: Fit) -> np.ndarray:
    """Return the derivatives (E, K) of `scale_parameters` for the parameters of the search."""
    names, values = scale_names(fit), list(scale_parameters(fit).values())
    first = len(fit.labels) - len(names)
    J = np.zeros((len(names), len(fit.labels)))
    for a, parameter in enumerate(fit.family.auxiliary):
        if names[a] != "sigma":
            J[a, first + a] = parameter.slope(values[a])
        else:  # the search has the log of sigma in a linear model, of its square in another
            J[a, first + a] = values[a] if fit.is_linear else 0.5 * values[a]
    return J
