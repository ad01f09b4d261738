"""Fitting one linear mixed model to many responses."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from mixef.errors import FitError
from mixef.estimation.columns import LARGEST
from mixef.estimation.fit import Fit
from mixef.estimation.linear.criterion import LinearCriterion
from mixef.estimation.linear.kind import EXACT
from mixef.estimation.linear.moments import FLOOR
from mixef.estimation.linear.problem import LinearProblem
from mixef.estimation.many.criterion import BatchCriterion
from mixef.estimation.many.model import BatchModel, batch_model
from mixef.estimation.many.response_sums import (
    NO_NUMBERS,
    NOTHING_LEFT,
    ResponseSums,
    scaled_groups,
    scaled_X,
)
from mixef.estimation.many.search import BatchSearch, search_all
from mixef.estimation.scaling import ScaledTerms
from mixef.estimation.search.certified import search, search_others
from mixef.estimation.search.convergence import CONVERGED_GAIN
from mixef.estimation.search.singular import SINGULAR_TOLERANCE, vanished_directions
from mixef.estimation.search.trust_region import Quadratic
from mixef.linalg.rows import Rows
from mixef.linalg.standardize import Basis, orthonormal_columns, root_weighted
from mixef.linalg.threads import one_blas_thread

# Numbers held at a time, which bounds the memory (100 MB) and keeps most of it in the cache.
HELD = 1_000_000
MOST_AT_ONCE = 256
NO_VARIANCE = (
    "the fixed and random effects together fit the response exactly: the residual standard "
    "deviation goes to zero, and the likelihood has no maximum"
)
NO_VALUE = "the criterion cannot be computed at the starting values"


@dataclass(frozen=True)
class BatchEstimates:
    """Estimates of one model from m responses, on the user's scale; NaN where a fit failed."""

    beta: np.ndarray  # (m, p)
    par: np.ndarray  # (m, k)
    lams: tuple[np.ndarray, ...]  # each (m, s_t, s_t): templates, one array a term
    sigma: np.ndarray  # (m,)
    objective: np.ndarray  # (m,)
    converged: np.ndarray  # bool (m,)
    singular: np.ndarray  # bool (m,)
    failures: dict[int, str]  # why a response was not fitted

    @staticmethod
    def missing(m: int, p: int, k: int, sizes: tuple[int, ...]) -> BatchEstimates:
        """Return estimates that are all NaN, to be filled in."""
        lams = tuple(np.full((m, s, s), np.nan) for s in sizes)
        nothing = np.zeros(m, dtype=bool)
        return BatchEstimates(
            np.full((m, p), np.nan), np.full((m, k), np.nan), lams, np.full(m, np.nan),
            np.full(m, np.nan), nothing, nothing.copy(), {},
        )  # fmt: skip

    def put(self, j: int, found: Any, converged: bool, singular: bool) -> None:
        """Write the estimates of one fit to place j."""
        self.beta[j], self.par[j] = found.beta, found.par
        self.sigma[j], self.objective[j] = found.sigma, found.objective
        self.converged[j], self.singular[j] = converged, singular
        for lams, lam in zip(self.lams, found.lams, strict=True):
            lams[j] = lam


@dataclass(frozen=True)
class ScaledResponses:
    """Responses as the search takes them: ``scaled = (root-weighted - Q beta0) / scale``."""

    Y: np.ndarray  # (n, m): unit mean squares
    beta0: np.ndarray  # (p, m)
    scale: np.ndarray  # (m,)
    failures: dict[int, str]  # those that cannot be scaled; zeros stand in their place


def scale_responses(Y: np.ndarray, Q: np.ndarray) -> ScaledResponses:
    """Take the least-squares fit of Q (n, p), ``Q'Q = n I``, out of every column of Y (n, m)."""
    n = len(Y)
    failures: dict[int, str] = {}
    size = np.abs(Y).max(axis=0, initial=0.0)
    usable = size < LARGEST
    usable &= (size > 1.0 / LARGEST) | (size == 0)
    failures |= dict.fromkeys(np.flatnonzero(~usable).tolist(), NO_NUMBERS)
    usable &= size > 0
    unit = np.where(usable, Y, 0.0) / np.where(usable, size, 1.0)
    beta0, residual = np.zeros((Q.shape[1], Y.shape[1])), unit
    for _ in range(2):
        step = Q.T @ residual / n
        beta0, residual = beta0 + step, residual - Q @ step
    before, rms = (np.sqrt(np.einsum("nm,nm->m", V, V) / n) for V in (unit, residual))
    exact = rms <= 1e-13 * before
    for j in np.flatnonzero(exact).tolist():
        failures.setdefault(j, NOTHING_LEFT)
    rms = np.where(exact, 1.0, rms)
    return ScaledResponses(np.where(exact, 0.0, residual / rms), beta0 * size, rms * size, failures)


@dataclass(frozen=True)
class BatchFitter:
    """All that many responses to one model are fitted with; it pickles."""

    model: BatchModel
    fit: Fit  # whose data and terms are used
    terms: ScaledTerms
    X_basis: Basis  # from Q back to the columns of X
    start: np.ndarray  # (k,): scaled parameters at which every search starts

    @property
    def at_once(self) -> int:
        """Responses that are best fitted at a time."""
        return int(np.clip(HELD // self.model.numbers, 1, MOST_AT_ONCE))

    def estimates(self, Y: np.ndarray) -> BatchEstimates:
        """Fit the responses Y (n, m)."""
        with one_blas_thread(), np.errstate(all="ignore"):
            return self._estimates(Y)

    def _estimates(self, Y: np.ndarray) -> BatchEstimates:
        fit = self.fit
        scaled = scale_responses(weighted_responses(fit, Y), self.model.Q)
        criterion = BatchCriterion(self.model, self.model.responses(scaled.Y), fit.REML)
        begin = np.tile(self.start, (Y.shape[1], 1))
        found = search_all(criterion, begin, fit.control.max_evaluations)
        return self._on_user_scale(criterion, scaled, found)

    def _on_user_scale(
        self, criterion: BatchCriterion, scaled: ScaledResponses, found: BatchSearch
    ) -> BatchEstimates:
        fit, templates = self.fit, self.model.templates
        P, weights = templates.parametrization, fit.frame.weights
        at = criterion.value(found.par)
        n, p = self.model.Q.shape
        m = n - p if fit.REML else n
        shift = 2.0 * m * np.log(scaled.scale)
        if weights is not None:
            shift = shift - np.log(weights).sum()
        if fit.REML:
            shift = shift + 2.0 * np.log(self.X_basis.R.diagonal()).sum()
        sigma = np.sqrt(at.s2) * scaled.scale
        beta = self.X_basis.back(scaled.beta0 + scaled.scale * at.beta.T).T
        lams, pars, singular = [], [], np.zeros(len(sigma), dtype=bool)
        for structure, basis, lam, dlam in zip(
            P.structures,
            self.terms.bases,
            P.term_lams(found.par),
            templates.dlams,
            strict=True,
        ):
            singular |= np.linalg.svd(lam, compute_uv=False)[:, -1] < SINGULAR_TOLERANCE
            pars.append(structure.coordinates(np.linalg.solve(basis.R, lam)))
            lams.append(np.tensordot(pars[-1], dlam, axes=1) + 0.0)
        converged = found.gain < CONVERGED_GAIN
        failures = dict(scaled.failures)
        for j in np.flatnonzero(~np.isfinite(at.objective)).tolist():
            failures.setdefault(j, NO_VALUE)
        for j in np.flatnonzero(~converged & (np.sqrt(at.s2) < EXACT)).tolist():
            failures.setdefault(j, NO_VARIANCE)
        failed = sorted(failures)
        par = np.concatenate(pars, axis=1)
        objective = at.objective + shift
        for array in (beta, par, *lams, sigma, objective):
            array[failed] = np.nan
        converged[failed] = singular[failed] = False
        return BatchEstimates(
            beta, par, tuple(lams), sigma, objective, converged, singular, failures
        )  # fmt: skip


def weighted_responses(fit: Fit, Y: np.ndarray) -> np.ndarray:
    """Return responses (n, m) without offset, times the square root of the weights."""
    if fit.frame.offset is not None:
        Y = Y - fit.frame.offset[:, None]
    return Y if fit.frame.weights is None else Y * np.sqrt(fit.frame.weights)[:, None]


def batch_fitter(fit: Fit, start: np.ndarray) -> BatchFitter | None:
    """Return what fits many responses at once; None where one by one is better.

    Parameters
    ----------
    start : ndarray (k,)
        Scaled parameters.
    """
    terms = fit.problem.terms
    Q, X_basis = orthonormal_columns(root_weighted(fit.X, fit.frame.weights))
    model = batch_model(terms, scaled_groups(fit), Q)
    return None if model is None else BatchFitter(model, fit, terms, X_basis, start)


def interior(fit: Fit, par: np.ndarray) -> np.ndarray:
    """Return scaled parameters (k,) with templates kept off the boundary, for a start.

    A diagonal that vanishes is raised to what one level could just make visible, as the moment
    start does: at zero the gradient vanishes too, and tells nothing of the way.
    """
    P = fit.problem.terms.parametrization
    shares = [FLOOR / np.sqrt(fit.frame.n / term.n_levels) for term in fit.terms]
    pairs = zip(P.by_term(par), shares, strict=True)
    return np.concatenate([s.inside(x, share) for (s, x), share in pairs])


@dataclass(frozen=True)
class OneByOne:
    """What many responses to one model are fitted with, one after the other; it pickles."""

    fit: Fit
    problem: LinearProblem  # of the fit: what engines hold may not be there in other processes
    start: np.ndarray  # (k,): scaled parameters at which every search starts

    def estimates(self, Y: np.ndarray) -> BatchEstimates:
        """Fit the responses Y (n, m)."""
        with one_blas_thread(), np.errstate(all="ignore"):
            return self.of_sums(self._sums(Y))

    def _sums(self, Y: np.ndarray) -> ResponseSums:
        Q = scaled_X(self.fit)
        scaled = scale_responses(weighted_responses(self.fit, Y), Q)
        Zty = Rows(scaled_groups(self.fit), Q, scaled.Y[:, 0]).Zt_times(scaled.Y)
        yty = np.array([y @ y for y in scaled.Y.T])
        return ResponseSums(
            Zty, Q.T @ scaled.Y, yty, scaled.beta0, scaled.scale, scaled.failures, scaled.Y
        )

    def of_sums(self, sums: ResponseSums) -> BatchEstimates:
        """Fit the responses that have these cross-products."""
        fit, problem = self.fit, self.problem
        factor = problem.factor()
        sizes = tuple(len(lam) for lam in fit.estimates.lams)
        out = BatchEstimates.missing(len(sums), problem.p, len(self.start), sizes)
        out.failures.update(sums.failures)
        with one_blas_thread(), np.errstate(all="ignore"):
            for j in range(len(sums)):
                if j not in sums.failures:
                    self._search(LinearCriterion(sums.problem(problem, j), factor), out, j)
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
        gain = Quadratic(result.gradient, result.information, unit).promise
        converged = gain < CONVERGED_GAIN
        if not converged and found.sigma < EXACT * criterion.problem.y_scale.scale:
            out.failures[j] = NO_VARIANCE
            return
        singular = bool(vanished_directions(criterion.terms, result.par, fit.terms))
        out.put(j, found, converged, singular)
