"""Fitting one larger linear mixed model to many responses: one factor, one search a response."""

from __future__ import annotations

import copy
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any

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
from mixef.estimation.fit import EXACT, LMMFit
from mixef.estimation.linear import LinearCriterion
from mixef.estimation.optimize import expected_gain
from mixef.estimation.search import search, search_others
from mixef.estimation.singular import vanished_directions
from mixef.linalg.crossproducts import Rows
from mixef.linalg.standardize import ResponseScale, orthonormal_columns, root_weighted
from mixef.linalg.threads import one_blas_thread


class SharedCriterion(LinearCriterion):
    """A criterion whose response changes: all else, the factor included, stays."""

    def __init__(self, of: LinearCriterion):
        self.__dict__.update(copy.copy(of).__dict__)
        self._factor = self._par = None

    def take(self, y: np.ndarray, scale: ResponseScale, Zty: np.ndarray, X: np.ndarray) -> None:
        """Change to a scaled response y (n,), given ``Z'y`` (q,) and the scaled X (n, p)."""
        old = self.products
        self.products = replace(old, Zty=Zty, Xty=X.T @ y, yty=float(y @ y))
        if "ZtZ" in old.__dict__:
            self.products.__dict__["ZtZ"] = old.ZtZ
        self.factor.products = self.products
        if self.rows is not None:
            self.rows = replace(self.rows, y=y)
        self.y_scale, self._par, self._solution = scale, None, None


@dataclass(frozen=True)
class OneByOne:
    """What many responses to one model are fitted with, one after the other; it pickles.

    Attributes
    ----------
    fit : LMMFit
    start : ndarray (k,)
        Scaled parameters at which every search starts.
    """

    fit: LMMFit
    start: np.ndarray

    def __getstate__(self) -> dict[str, Any]:
        return {"fit": self.fit, "start": self.start}

    @cached_property
    def _criterion(self) -> SharedCriterion:
        return SharedCriterion(self.fit.criterion())

    def estimates(self, Y: np.ndarray) -> BatchEstimates:
        """Fit the responses Y (n, m)."""
        fit, criterion = self.fit, self._criterion
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
                criterion.take(y, scale, np.ascontiguousarray(ZtY[:, j]), Q)
                self._search(criterion, out, j)
        return out

    def _search(self, criterion: SharedCriterion, out: BatchEstimates, j: int) -> None:
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
        if not converged and found.sigma < EXACT * criterion.response_scale:
            out.failures[j] = NO_VARIANCE
            return
        singular = bool(vanished_directions(criterion.terms, result.par, fit.terms))
        out.put(j, found, converged, singular)
