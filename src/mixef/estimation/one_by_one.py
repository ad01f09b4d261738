"""Fitting one larger linear mixed model to many responses: one factor, one search a response."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from mixef.errors import FitError
from mixef.estimation.batch import (
    NO_VALUE,
    NO_VARIANCE,
    BatchEstimates,
    scale_responses,
    scaled_groups,
    weighted_responses,
)
from mixef.estimation.convergence import CONVERGED_GAIN
from mixef.estimation.fit import Fit
from mixef.estimation.linear import LinearCriterion
from mixef.estimation.linear_fit import EXACT
from mixef.estimation.optimize import expected_gain
from mixef.estimation.search import search, search_others
from mixef.estimation.singular import vanished_directions
from mixef.linalg.rows import Rows
from mixef.linalg.standardize import ResponseScale, orthonormal_columns, root_weighted
from mixef.linalg.threads import one_blas_thread


@dataclass(frozen=True)
class OneByOne:
    """What many responses to one model are fitted with, one after the other; it pickles."""

    fit: Fit
    start: np.ndarray  # (k,): scaled parameters at which every search starts

    def estimates(self, Y: np.ndarray) -> BatchEstimates:
        """Fit the responses Y (n, m)."""
        fit, problem = self.fit, self.fit.problem
        factor = problem.factor()
        Q, _ = orthonormal_columns(root_weighted(fit.X, fit.frame.weights))
        with one_blas_thread(), np.errstate(all="ignore"):
            scaled = scale_responses(weighted_responses(fit, Y), Q)
            ZtY = Rows(scaled_groups(fit), Q, scaled.Y[:, 0]).Zt_times(scaled.Y)
            sizes = tuple(len(lam) for lam in fit.estimates.lams)
            out = BatchEstimates.missing(Y.shape[1], Q.shape[1], len(self.start), sizes)
            out.failures.update(scaled.failures)
            for j in range(Y.shape[1]):
                if j in scaled.failures:
                    continue
                scale = ResponseScale(scaled.beta0[:, j], float(scaled.scale[j]))
                y = np.ascontiguousarray(scaled.Y[:, j])
                own = problem.with_response(np.ascontiguousarray(ZtY[:, j]), Q.T @ y, y, scale)
                self._search(LinearCriterion(own, factor), out, j)
        return out

    def _search(self, criterion: LinearCriterion, out: BatchEstimates, j: int) -> None:
        fit = self.fit
        try:
            result = search(criterion, self.start, fit.control)
            result = search_others(criterion, result, fit.control)
            found = criterion.estimates(result.par)
        except FitError:
            out.failures[j] = NO_VALUE
            return
        unit = criterion.scale(result.par)
        gain = expected_gain(result.gradient * unit, result.information * np.outer(unit, unit))
        converged = gain < CONVERGED_GAIN
        if not converged and found.sigma < EXACT * criterion.problem.y_scale.scale:
            out.failures[j] = NO_VARIANCE
            return
        singular = bool(vanished_directions(criterion.terms, result.par, fit.terms))
        out.put(j, found, converged, singular)
