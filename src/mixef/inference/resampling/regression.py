"""An ordinary regression on the rows of a mixed model: its null model without random effects."""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any

import numpy as np

from mixef.errors import ArgumentError, DataError, FitError
from mixef.estimation.fit import Fit
from mixef.estimation.generalized.density_response import make_response
from mixef.estimation.generalized.glm import fit_glm
from mixef.inference.simulation.sampler import Sampler, draw_responses
from mixef.linalg.standardize import independent_columns, orthonormal_columns, root_weighted
from mixef.terms.fixed import design
from mixef.terms.formula import Formula

# Change of the log density, beside its size, at which a generalized regression has converged.
TIGHT = 1e-13
# How far fitted values of another program may be from ours, beside the response's spread.
SAME = 1e-4


@dataclass(frozen=True, eq=False)
class Regression:
    """A regression by maximum likelihood, with the response and weights of a mixed model."""

    mixed: Fit  # The mixed model of the same rows
    X: np.ndarray  # (n, p): independent columns
    text: str  # What it is called

    @property
    def npar(self) -> int:
        """Number of parameters: coefficients, and sigma for a linear model."""
        return self.X.shape[1] + self.mixed.is_linear

    @cached_property
    def objective(self) -> float:
        """-2 log L of the mixed model's own response."""
        return float(self.objectives(self.mixed.y[:, None])[0])

    def objectives(self, Y: np.ndarray) -> np.ndarray:
        """Return -2 log L (m,) of responses (n, m); NaN where it has no maximum."""
        if not self.mixed.is_linear:
            return np.array([self._generalized(y)[1] for y in Y.T])
        rest = self._weighted(Y)
        rest = rest - self._Q @ (self._Q.T @ rest) / len(rest)
        rss = np.einsum("nm,nm->m", rest, rest)
        n, weights = len(rest), self.mixed.frame.weights
        shift = 0.0 if weights is None else float(np.log(weights).sum())
        with np.errstate(divide="ignore"):
            values = n * (1.0 + np.log(2.0 * np.pi * rss / n)) - shift
        return np.where(rss > 0, values, np.nan)

    def simulated(self, n: int, rng: np.random.Generator) -> np.ndarray:
        """Draw n responses (n_rows, n) from the regression."""
        weights = self.mixed.weights
        mean, variance = self._predicted
        return draw_responses(Sampler(mean, (), weights, self.mixed.family, variance), n, rng)

    @cached_property
    def means(self) -> np.ndarray:
        """Fitted means (n,) of the mixed model's own response."""
        return self.mixed.family.link.inverse(self._predicted[0])

    @cached_property
    def _predicted(self) -> tuple[np.ndarray, float | None]:
        """Linear predictor (n,), offset included, and the residual variance of a linear model."""
        if not self.mixed.is_linear:
            return self._generalized(self.mixed.y)[0], None
        y = self._weighted(self.mixed.y[:, None])[:, 0]
        weights = self.mixed.frame.weights
        fitted = self._Q @ (self._Q.T @ y) / len(y)
        variance = float(np.mean((y - fitted) ** 2))
        mean = fitted if weights is None else fitted / np.sqrt(weights)
        return mean + self._offset, variance

    @property
    def _offset(self) -> np.ndarray:
        frame = self.mixed.frame
        return np.zeros(frame.n) if frame.offset is None else frame.offset

    @cached_property
    def _Q(self) -> np.ndarray:
        """Weighted columns (n, p) with ``Q'Q = n I``; of a generalized model, without weights."""
        weights = self.mixed.frame.weights if self.mixed.is_linear else None
        return orthonormal_columns(root_weighted(self.X, weights))[0]

    def _weighted(self, Y: np.ndarray) -> np.ndarray:
        return root_weighted(Y - self._offset[:, None], self.mixed.frame.weights)

    def _generalized(self, y: np.ndarray) -> tuple[np.ndarray, float]:
        """Return the linear predictor (n,) and -2 log L of one response."""
        outcome = self.mixed.outcome
        response = make_response(self.mixed.family, y, outcome.weights, copies=outcome.copies)
        try:
            found = fit_glm(response, self._Q, self._offset, TIGHT)
        except FitError:
            return np.full(len(y), np.nan), np.nan
        return found.state.eta, -2.0 * found.state.log_density


def regression(mixed: Fit, X: np.ndarray, text: str) -> Regression:
    """Return the regression on columns (n, p), of which dependent ones are dropped."""
    if not mixed.is_linear and mixed.family.auxiliary:
        ((name, value), *_) = mixed.family.named(mixed.extra).items()
        raise DataError(
            f"a null model without random effects is there for binomial and Poisson models, but "
            f"the {mixed.family.name} family has a {name} of its own (it is {value:.4g}); "
            "compare mixed models"
        )
    kept = independent_columns(root_weighted(X, mixed.frame.weights))
    return Regression(mixed, X[:, kept], text)


def regression_of_formula(mixed: Fit, formula: Formula) -> Regression:
    """Return the regression of a formula without random effects, on a mixed model's variables."""
    frame = replace(mixed.frame, formula=formula)
    unknown = [v.text for v in frame.fixed_terms.variables if v.text not in frame.variables]
    if unknown:
        raise DataError(
            f"{formula.text} needs {unknown[0]}, which the larger model has not evaluated; its "
            f"variables are {', '.join(frame.variables)}"
        )
    X = design(frame.fixed_terms, frame, mixed.call.contrasts).matrix
    return regression(mixed, X, formula.text)


def regression_of_result(mixed: Fit, result: Any) -> Regression:
    """Return the regression that a fit of statsmodels (OLS, WLS, GLM) is.

    Its fitted values show other rows, weights, offsets or families, which are refused.
    """
    try:
        X = np.asarray(result.model.exog, dtype=float)
        fitted = np.asarray(result.fittedvalues, dtype=float)
    except (AttributeError, TypeError, ValueError):
        raise ArgumentError(
            f"the smaller model is {type(result).__name__!r}; expected a fitted mixed model, a "
            "formula, or a fitted OLS, WLS or GLM of statsmodels"
        ) from None
    n = mixed.frame.n
    if X.shape[0] != n or fitted.shape != (n,):
        raise DataError(
            f"the regression has {len(fitted)} rows, but the mixed model {n}; fit both to the "
            "same complete rows"
        )
    text = getattr(result.model, "formula", None) or f"{type(result.model).__name__} regression"
    found = regression(mixed, X, text)
    gap = float(np.abs(found.means - fitted).max())
    if not gap <= SAME * max(float(np.ptp(mixed.y)), 1e-300):
        raise DataError(
            f"the fitted values of the regression are up to {gap:.3g} away from those of the same "
            "columns with the mixed model's response, weights, offset and family; fit both to the "
            "same rows in the same order, with the same weights, offset and family"
        )
    return found
