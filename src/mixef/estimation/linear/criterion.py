"""The linear model as a criterion to minimize: scaled inside, reported on the user's scale."""

from __future__ import annotations

import copy
from dataclasses import dataclass
from typing import Self

import numpy as np

from mixef.control import OBJECTIVE_SE
from mixef.errors import FitError
from mixef.estimation.estimates import Estimates
from mixef.estimation.linear.estimated import estimated_hessian, vanishes_within
from mixef.estimation.linear.marginal import columns_in_largest_part
from mixef.estimation.linear.pls import (
    Derivatives,
    PLSSolution,
    differentiate,
    effects_slopes,
    exact_information,
    solve_pls,
    solve_upper,
    spherical_effects,
)
from mixef.estimation.linear.problem import LinearProblem
from mixef.estimation.search.bends import CovarianceQuadratic
from mixef.estimation.search.hessian import difference_hessian
from mixef.linalg import small
from mixef.linalg.factor import INVERTIBLE, Factor
from mixef.terms.covariance import Covariance, theta_of

# With more columns of Z'V^-1 Z to solve for than this, differences are the faster Hessian: their
# number does not grow with these columns.
MOST_COLUMNS = 200
# A step takes sigma^2 to no less than this share of what it was, since one to first order can make
# it negative; a tenth instead changes hardly any count of the search laboratory.
LEAST_SIGMA2 = 0.25
EPSILON = float(np.finfo(float).eps)


@dataclass(frozen=True)
class Curvature:
    """Second-order behaviour at one set of parameters: of the criterion, and of Var(beta).

    The parameters are the scaled problem's and log sigma, which here is not profiled out.
    """

    hessian: np.ndarray  # (k + 1, k + 1): of -2 log L, or of the REML criterion
    #: (k + 1, p, p): derivatives of ``sigma^2 (X'V^-1 X)^-1``, the covariance of the user's beta.
    vcov_slopes: np.ndarray
    error: float  # standard error of the Hessian, beside its smallest eigenvalue; 0 where exact


class LinearCriterion:
    """The profiled deviance or REML criterion of a problem, with a factor of its own.

    Parameters are those of the scaled problem: templates of the scaled columns of Z. The
    criterion's values are on the user's scale. It is made for one search or one inference, and
    not shared.

    Parameters
    ----------
    problem : LinearProblem
    factor : Factor, optional
        One that stands ready; a new one by default.
    """

    knows_hessian = False
    is_rough = False

    def __init__(self, problem: LinearProblem, factor: Factor | None = None):
        self.problem = problem
        self.factor = problem.factor() if factor is None else factor
        self.terms, self.parametrization = problem.terms, problem.parametrization
        self._par: np.ndarray | None = None
        self._user: list[tuple[Covariance, np.ndarray]] | None = None
        self._solution: PLSSolution | None = None

    def value(self, par: np.ndarray, gain: float = 0.0) -> float:
        """Return the criterion at ``par``; infinite where it cannot be computed."""
        self._par, self._user = np.array(par, dtype=float), None
        self._derivatives: Derivatives | None = None
        try:
            lams = self.parametrization.lams(self._par)
            self._solution = solve_pls(
                self.factor, self.problem.products, lams, self.problem.REML, self.problem.rows
            )
        except FitError as error:
            self._solution, self._failure = None, error
            return np.inf
        return float(self._solution.objective + self.problem.shift)

    def refine(self) -> None:
        """Leave the last value as it is: it has all digits."""

    def derivatives(self) -> tuple[np.ndarray, np.ndarray]:
        """Return gradient (k,) and information (k, k) at the last value."""
        d = self._differentiated()
        return d.gradient, d.information

    def _differentiated(self) -> Derivatives:
        assert self._par is not None
        if self._solution is None:
            raise self._failure
        if self._derivatives is None:
            self._derivatives = differentiate(
                self.factor, self._solution, self.parametrization, self._par, self.problem.REML
            )
        return self._derivatives

    def in_covariances(self) -> CovarianceQuadratic:
        """Return what derivatives at the last value foretell, by covariances."""
        d, par = self._differentiated(), self._par
        assert par is not None
        g, H = d.gradient, d.information
        return CovarianceQuadratic(self.parametrization, par, d.K, g, H, self.scale(par))

    def scored(self) -> np.ndarray | None:
        """Return where a step of Fisher's scoring leads from the last value.

        It is linear in the covariances and in sigma^2, which here is not profiled out: of balanced
        data it finds the REML estimate from anywhere. None where the expected information is not
        known, or templates are singular.
        """
        d, solution = self._differentiated(), self._solution
        assert self._par is not None
        assert solution is not None
        if d.expected is None or min(self.factor.least) < INVERTIBLE:
            return None
        traces = d.gradient - d.pwrss_slope / solution.s2
        profiled = d.expected - np.outer(traces, traces) / solution.m
        step = -small.least_squares(profiled, d.gradient, EPSILON)
        sigma2 = 1.0 - float(traces @ step) / solution.m  # where it goes, relative to s2
        return self.parametrization.along_covariances(self._par, step / max(sigma2, LEAST_SIGMA2))

    def sharper(self) -> None:
        """Return no Hessian: the information is exact where that is cheap."""

    def runs_away(self) -> bool:
        """Tell that the criterion has a minimum, as those of linear models have."""
        return False

    def is_beyond(self) -> bool:
        """Tell that residuals tell effects of any size."""
        return False

    def within_error(self) -> bool:
        """Tell whether a step promises less than the gradient's error makes steps promise."""
        d = self._derivatives
        if d is None or d.error is None:
            return False
        assert self._par is not None
        return vanishes_within(d.gradient, d.information, d.error, self.scale(self._par))

    def scale(self, par: np.ndarray) -> np.ndarray:
        """Return the size of a change of each parameter that counts as large."""
        return self.parametrization.scale(par, floor=0.3)

    def turned(self, par: np.ndarray) -> tuple[Self, np.ndarray] | None:
        """Return the criterion on the principal axes at ``par``, and ``par`` in them.

        ``par`` is where the last value was taken; None where turning does not help. The factor
        goes over to the other one: go on here with a new value.
        """
        turned = self.parametrization.turned(par)
        if turned is None:
            return None
        out = copy.copy(self)
        out.parametrization, out._par = turned
        out._derivatives = out._user = self._par = None
        return out, turned[1]

    def plain(self, other: Self, par: np.ndarray) -> np.ndarray:
        """Return the parameters of this criterion at those of a turned one."""
        return self.parametrization.taken_from(other.parametrization, par)

    def follow(self, other: Self, par: np.ndarray) -> None:
        """Take nothing over from a turned criterion: nothing here is iterated."""

    def rounding(self) -> float:
        """Return the size of rounding errors in the last value.

        Those of pwrss, a difference of cross-products, times what they do to m log(pwrss), and the
        error of log|M| where that is an estimate.
        """
        if self._solution is None:
            return 0.0
        problem, solution = self.problem, self._solution
        lost = 1.0 if problem.rows is not None else problem.products.yty / solution.pwrss
        rounded = EPSILON * (problem.m * lost + abs(solution.objective + problem.shift))
        return rounded + self.factor.ldL2_se

    def canonical(self, par: np.ndarray, floor: float = 0.0) -> np.ndarray:
        """Return the same covariances with non-negative diagonals, those up to floor at zero."""
        return self.parametrization.canonical(par, floor)

    def user_gradient(self) -> np.ndarray:
        """Return the gradient for lme4's parameters of the user's columns at the last value."""
        assert self._par is not None
        return self.terms.user_gradient(self._user_coordinates(), self._differentiated().K)

    def _user_coordinates(self) -> list[tuple[Covariance, np.ndarray]]:
        """Return each term's structure and coordinates on the user's columns, at the last value."""
        assert self._par is not None
        if self._user is None:
            self._user = self.terms.user_coordinates(self._par)
        return self._user

    def estimates(self, par: np.ndarray, objective_se: float = OBJECTIVE_SE) -> Estimates:
        """Return the estimates at ``par``, on the user's scale.

        Where log|M| is an estimate, that is brought to a standard error of ``objective_se``.
        """
        if self._par is None or not np.array_equal(par, self._par):
            self.value(par)
        if self._solution is None:
            raise self._failure
        if self._derivatives is None:
            u = spherical_effects(self.factor, self._solution)
        else:
            u = self._derivatives.u
        self.factor.refresh(objective_se)
        problem, solution, layout = self.problem, self._solution, self.factor.layout
        ldL2 = self.factor.ldL2
        b = layout.multiply(self.parametrization.lams(par), u)
        user = self._user_coordinates()
        lams = tuple(s.template(x) for s, x in user)
        R = problem.user_columns(solution.RX)
        scale = problem.y_scale
        sigma = float(np.sqrt(solution.s2) * scale.scale)
        return Estimates(
            par=np.concatenate([s.par(x) for s, x in user]),
            theta=np.concatenate([theta_of(lam) for lam in lams]),
            lams=lams,
            beta=problem.x_basis.back(scale.beta0 + scale.scale * solution.beta),
            extra=sigma**2,
            sigma=sigma,
            objective=float(solution.objective + (ldL2 - solution.ldL2) + problem.shift),
            objective_se=self.factor.ldL2_se,
            unscaled_vcov=R @ R.T,
            effects=tuple(e * scale.scale for e in self.terms.user_effects(layout, b)),
            pwrss=solution.pwrss * scale.scale**2,
            ussq=float(u @ u) * scale.scale**2,
            ldL2=ldL2,
            ldRX2=solution.ldRX2 + problem.ldRX2_shift,
        )

    def hessian(self, par: np.ndarray) -> np.ndarray:
        """Return the Hessian (k, k) of the criterion, with sigma profiled out.

        Exact; by differences of the exact gradient where the sums over pairs of levels would take
        longer: where the factor is sparse and the data hold together in large parts.
        """
        return self._hessian(par)[0]

    def _hessian(self, par: np.ndarray) -> tuple[np.ndarray, float]:
        """Return the Hessian and its error; see `Curvature`."""
        self.value(par)
        assert self._par is not None
        d, solution = self._differentiated(), self._solution
        if d.is_exact:
            return d.information, 0.0
        if d.error is not None:
            elsewhere, unit = copy.copy(self), self.scale(self._par)
            elsewhere.factor = self.factor.twin()
            return estimated_hessian(elsewhere._gradient, self._par, unit, d.information)
        if self.factor.has_squares or columns_in_largest_part(self.factor) <= MOST_COLUMNS:
            assert solution is not None
            dsigmas = self.parametrization.derivatives(np.asarray(par, dtype=float))[1]
            return exact_information(self.factor, solution, d, dsigmas, self.problem.REML), 0.0
        H = difference_hessian(self, np.asarray(par, dtype=float), d.information)
        return d.information if H is None else H, 0.0

    def _gradient(self, par: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Return the gradient (k,) and what each random vector says of it (m, k)."""
        self.value(par)
        d = self._differentiated()
        assert d.samples is not None
        return d.gradient, d.samples

    def curvature(self, par: np.ndarray) -> Curvature:
        """Return the curvature over ``par`` and log sigma, where sigma is the profiled estimate.

        With ``D = log|M| + m log(2 pi sigma^2) + pwrss / sigma^2``, sigma's row is that of
        ``d pwrss``, and the other part is the profiled Hessian with ``row row' / 4m`` put back
        (eq-beyond-sigma-row in docs/theory).
        """
        profiled, error = self._hessian(par)
        d, solution = self._differentiated(), self._solution
        assert solution is not None
        row = -2.0 * d.pwrss_slope / solution.s2
        k, m = len(profiled), solution.m
        H = np.empty((k + 1, k + 1))
        H[:k, :k] = profiled + np.outer(row, row) / (4.0 * m)
        H[k, :k] = H[:k, k] = row
        H[k, k] = 4.0 * m
        dsigmas = self.parametrization.derivatives(np.asarray(par, dtype=float))[1]
        problem = self.problem
        p, scale = problem.p, problem.y_scale.scale
        B = problem.user_columns(solution.RX)
        half = np.ascontiguousarray((B @ solve_upper(solution.RX, d.ZtVX.T, transpose=True)).T)
        slopes = np.zeros((k + 1, p, p))
        for i, D in enumerate(dsigmas):
            level = self.factor.layout.by_level(i, half)
            gram = np.einsum("lap,lbq->abpq", level, level, optimize=True)
            slopes[:k] += np.tensordot(D, gram, axes=([1, 2], [0, 1]))
        slopes[k] = 2.0 * B @ B.T
        return Curvature(H, solution.s2 * scale**2 * slopes, error)

    def effects_slopes(self, par: np.ndarray) -> tuple[np.ndarray, list[np.ndarray]]:
        """Return the derivatives of beta and of the conditional modes for ``par``.

        Returns
        -------
        ndarray (p, k)
            Of the user's beta.
        list of ndarray (k, l_t, s_t)
            Of the user's conditional modes, one array a term.
        """
        self.value(par)
        d, solution = self._differentiated(), self._solution
        assert solution is not None
        dsigmas = self.parametrization.derivatives(np.asarray(par, dtype=float))[1]
        d_beta, d_b = effects_slopes(self.factor, solution, d, dsigmas)
        scale, layout = self.problem.y_scale.scale, self.factor.layout
        by_par = [self.terms.user_effects(layout, column) for column in scale * d_b.T]
        effects = [np.array(of_term) for of_term in zip(*by_par, strict=True)]
        return self.problem.x_basis.back(scale * d_beta), effects

    def factor_at(self, par: np.ndarray) -> Factor:
        """Return the factor at ``par``, where it stands until the next call of anything here."""
        self.factor.update(self.parametrization.lams(par))
        self._par = None
        return self.factor
