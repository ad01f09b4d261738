"""Fits to the data without some rows: searched for again, from where the fit to all rows ended."""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import cached_property, partial

import numpy as np

from mixef.errors import FitError
from mixef.estimation.fit import Fit
from mixef.estimation.linear.criterion import LinearCriterion
from mixef.estimation.many.fits import interior
from mixef.estimation.many.response_sums import scaled_groups
from mixef.estimation.search.certified import search, search_others
from mixef.estimation.search.convergence import CONVERGED_GAIN
from mixef.estimation.search.singular import vanished_directions
from mixef.estimation.search.trust_region import Quadratic
from mixef.inference.components import component_values, components, scale_parameters
from mixef.inference.refits.other_rows import on_rows
from mixef.inference.replicates import attempted
from mixef.linalg.downdate import Downdate
from mixef.linalg.standardize import independent_columns, orthonormal_columns, root_weighted
from mixef.linalg.threads import one_blas_thread

# With less than this share of a direction of X left, what is left of it is looked at on the rows.
THIN = 1e-6
# A coefficient that a direction without rows moves by more than this (columns of unit length).
MOVED = 1e-7


@dataclass(frozen=True, eq=False)
class Deleted:
    """Estimates without some rows; NaN for coefficients that the other rows leave open."""

    beta: np.ndarray  # (p,)
    vcov: np.ndarray  # (p, p)
    parameters: np.ndarray  # (c,): standard deviations, correlations, sigma or the family's own
    converged: bool = True
    singular: bool = False
    message: str = ""  # what went wrong

    @staticmethod
    def failed(fit: Fit, message: str) -> Deleted:
        """Return what there is where a fit failed."""
        p = len(fit.kept)
        nothing = np.full(len(parameters(fit)), np.nan)
        return Deleted(np.full(p, np.nan), np.full((p, p), np.nan), nothing, False, False, message)


def parameters(fit: Fit) -> np.ndarray:
    """Return standard deviations, correlations, and sigma or the family's parameters (c,)."""
    values = component_values(components(fit.terms), fit.estimates.lams, fit.covariance_scale)
    return np.array([*values, *scale_parameters(fit).values()])


@dataclass(frozen=True, eq=False)
class FixedColumns:
    """The columns of X on a basis of unit columns, to see what deletions leave of them."""

    Q: np.ndarray  # (n, p): ``Q'Q = n I``
    X: np.ndarray  # (n, p)

    @staticmethod
    def of(fit: Fit) -> FixedColumns:
        """Return those of a fit."""
        return FixedColumns(orthonormal_columns(root_weighted(fit.X, fit.frame.weights))[0], fit.X)

    def is_thin(self, rows: np.ndarray) -> bool:
        """Tell whether little or nothing is left of some direction without some rows."""
        own = self.Q[rows]
        largest = np.linalg.eigvalsh(own.T @ own / len(self.Q)).max(initial=0.0)
        return bool(largest > 1.0 - THIN)

    def independent(self, rows: np.ndarray) -> np.ndarray:
        """Return which columns are not combinations of earlier ones in the other rows."""
        if not self.is_thin(rows):
            return np.arange(self.X.shape[1])
        return independent_columns(np.delete(self.X, rows, axis=0))

    def left_open(self, rows: np.ndarray) -> np.ndarray:
        """Return which coefficients (p,) the other rows do not determine."""
        p = self.X.shape[1]
        out = np.zeros(p, dtype=bool)
        kept = self.independent(rows)
        if len(kept) == p:
            return out
        rest = np.delete(self.X, rows, axis=0)
        norms = np.sqrt(np.einsum("np,np->p", rest, rest))
        unit = rest / np.where(norms > 0.0, norms, 1.0)
        lost = np.setdiff1d(np.arange(p), kept)
        out[lost] = True
        combined = np.linalg.lstsq(unit[:, kept], unit[:, lost], rcond=None)[0]
        out[kept] = (np.abs(combined) > MOVED).any(axis=1)
        return out


@dataclass(frozen=True, eq=False)
class Refit:
    """Fits to the data without some rows; it pickles, and is called with the rows (m,)."""

    fit: Fit

    def __call__(self, rows: np.ndarray) -> Deleted:
        """Return the estimates without the rows."""
        found = attempted(partial(self._deleted, rows))
        return Deleted.failed(self.fit, found) if isinstance(found, str) else found

    def __getstate__(self) -> dict[str, Fit]:
        return {"fit": self.fit}

    @cached_property
    def _columns(self) -> FixedColumns:
        return FixedColumns.of(self.fit)

    @cached_property
    def _downdated(self) -> Downdated | None:
        fit = self.fit
        if not fit.is_linear or fit.control.optimizer != "newton" or fit.problem.rows is not None:
            return None  # whole fits; cross-products alone would lose digits
        return Downdated(fit)

    def _deleted(self, rows: np.ndarray) -> Deleted:
        fit, n = self.fit, self.fit.frame.n
        if len(rows) == n:
            raise FitError("no rows are left")
        if self._downdated is not None and not self._columns.is_thin(rows):
            found = self._downdated.without(rows)
            if found is not None:
                return found
        open_ = self._columns.left_open(rows)
        start = fit.warm_start()
        if open_.any():
            start.pop("beta", None)
        # Separation is looked for, and is told of here as all problems are, not warned of.
        spec = fit.spec.changed(control=fit.control.quiet("check_separation"))
        with one_blas_thread():
            new = spec.kind.fit(on_rows(spec, np.delete(np.arange(n), rows)), start, None)
        place = np.searchsorted(fit.kept, new.kept)
        p = len(fit.kept)
        beta, vcov = np.full(p, np.nan), np.full((p, p), np.nan)
        beta[place], vcov[np.ix_(place, place)] = new.estimates.beta, new.model_vcov
        beta[open_] = vcov[open_] = vcov[:, open_] = np.nan
        end = new.convergence
        return Deleted(
            beta, vcov, parameters(new), end.converged, bool(new.vanished),
            next(iter(end.problems), ""),
        )  # fmt: skip


class Downdated:
    """Searches of a linear model on cross-products that rows are taken off."""

    def __init__(self, fit: Fit):
        fit.needs_exact("searches without some rows")
        self.fit, self.problem = fit, fit.problem
        weights, y, scale = fit.frame.weights, fit.y, fit.problem.y_scale
        y = root_weighted(y if fit.frame.offset is None else y - fit.frame.offset, weights)
        X = root_weighted(fit.X, weights)
        Q = fit.problem.x_basis.scaled(X) if len(fit.kept) else X
        columns = np.column_stack([Q, (y - Q @ scale.beta0) / scale.scale])
        self.downdate = Downdate(scaled_groups(fit), columns, fit.problem.products)
        self.factor = fit.problem.factor()
        self.start = interior(fit, fit.scaled_par)

    def without(self, rows: np.ndarray) -> Deleted | None:
        """Return the estimates without the rows; None where cross-products lose too many digits.

        And where so few levels or rows are left that it takes all checks of a fit.
        """
        fit, old = self.fit, self.problem
        n, widths = fit.frame.n - len(rows), old.products.layout.widths
        levels = self.downdate.occupied(rows)
        if min(levels) < 2 or any(k * s >= n for k, s in zip(levels, widths, strict=True)):
            return None
        products = self.downdate.without(rows)
        if n <= old.p or products.yty < THIN * old.products.yty:
            return None
        weights = fit.frame.weights
        log_w = 0.0 if weights is None else float(np.log(weights[rows]).sum())
        problem = replace(old, products=products, sum_log_w=old.sum_log_w - log_w)
        criterion = LinearCriterion(problem, self.factor.twin(products))
        with one_blas_thread():
            result = search(criterion, self.start, fit.control)
            result = search_others(criterion, result, fit.control)
            e = criterion.estimates(result.par)
        unit = criterion.scale(result.par)
        gain = Quadratic(result.gradient, result.information, unit).promise
        if not gain < CONVERGED_GAIN:
            return None  # to be judged as any fit is
        values = component_values(components(fit.terms), e.lams, e.sigma**2)
        singular = bool(vanished_directions(problem.terms, result.par, fit.terms))
        return Deleted(
            e.beta, e.sigma**2 * e.unscaled_vcov, np.array([*values, e.sigma]), True, singular
        )
