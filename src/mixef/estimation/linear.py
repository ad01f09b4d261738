"""The linear model as a criterion to minimize: scaled inside, reported on the user's scale."""

from __future__ import annotations

import copy
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Self

import numpy as np

from mixef.errors import FitError
from mixef.estimation.hessian import difference_hessian
from mixef.estimation.marginal import columns_in_largest_part
from mixef.estimation.pls import (
    Derivatives,
    PLSSolution,
    differentiate,
    effects_slopes,
    exact_information,
    solve_pls,
    solve_upper,
    spherical_effects,
)
from mixef.estimation.scaling import scale_terms, turn
from mixef.estimation.start import moment_estimates, moment_start, principal_axes
from mixef.linalg.choose import make_factor
from mixef.linalg.crossproducts import Rows, crossproducts, rotate
from mixef.linalg.factor import Factor
from mixef.linalg.row_pieces import RowPieces
from mixef.linalg.standardize import (
    orthonormal_pieces,
    root_weighted,
    scale_response,
    weighted_pieces,
)
from mixef.terms.covariance import theta_of
from mixef.terms.random import RandomTerm

# Where levels of one factor leave less than this share of the response's variance, sums of squares
# of cross-products lose digits, and the solution is refined on the rows of the data.
CANCELLATION = 1e-5
# With more columns of Z'V^-1 Z to solve for than this, differences are the faster Hessian.
MOST_COLUMNS = 200
EPSILON = float(np.finfo(float).eps)
# With more random effects than this a factor is not kept after the fit.
LARGE_Q = 2_000


@dataclass(frozen=True)
class Estimates:
    """What the criterion determines at one set of parameters, on the user's scale.

    The arrays are read-only.

    Attributes
    ----------
    par : ndarray (k,)
        Covariance parameters.
    theta : ndarray
        Each term's lower triangle, column by column.
    lams : tuple of ndarray (s_t, s_t)
        Templates, one a term.
    beta : ndarray (p,)
    sigma : float
    objective : float
    unscaled_vcov : ndarray (p, p)
        ``(RX'RX)^-1``, the covariance of beta over sigma^2.
    effects : tuple of ndarray (l_t, s_t)
        Conditional modes b, one array a term.
    pwrss, ldL2, ldRX2 : float
    """

    par: np.ndarray
    theta: np.ndarray
    lams: tuple[np.ndarray, ...]
    beta: np.ndarray
    sigma: float
    objective: float
    unscaled_vcov: np.ndarray
    effects: tuple[np.ndarray, ...]
    pwrss: float
    ldL2: float
    ldRX2: float

    def __post_init__(self) -> None:
        arrays = (self.par, self.theta, self.beta, self.unscaled_vcov, *self.lams, *self.effects)
        for array in arrays:
            array.flags.writeable = False

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.__dict__.update(state)
        self.__post_init__()


@dataclass(frozen=True)
class Curvature:
    """Second-order behaviour at one set of parameters: of the criterion, and of Var(beta).

    The parameters are the scaled problem's and log sigma, which here is not profiled out.

    Attributes
    ----------
    hessian : ndarray (k + 1, k + 1)
        Of -2 log L, or of the REML criterion.
    vcov_slopes : ndarray (k + 1, p, p)
        Derivatives of ``sigma^2 (X'V^-1 X)^-1``, the covariance of the user's beta.
    """

    hessian: np.ndarray
    vcov_slopes: np.ndarray


class LinearCriterion:
    """The profiled deviance or REML criterion of one model on one data set.

    Parameters are those of the scaled problem: templates of the scaled columns of Z. The
    criterion's values are on the user's scale.

    Parameters
    ----------
    X : ndarray (n, p), or RowPieces
        Linearly independent columns.
    y : ndarray (n,)
        Response, offset taken off.
    terms : sequence of RandomTerm
    weights : ndarray (n,) or None
    REML : bool
    response : str
        The response's name, for messages.

    Attributes
    ----------
    products : CrossProducts
        Of the scaled problem.
    rows : Rows or None
        The scaled rows, where cross-products alone would lose digits.
    x_basis : Basis
        From the scaled columns back to X.
    y_scale : ResponseScale
        What was taken off the response, and its unit.
    """

    def __init__(
        self,
        X: np.ndarray | RowPieces,
        y: np.ndarray,
        terms: Sequence[RandomTerm],
        weights: np.ndarray | None,
        REML: bool,
        response: str,
    ):
        self.REML = REML
        self.n, self.p = X.shape
        scaled, groups = scale_terms(terms, weights)
        self.parametrization = scaled.parametrization
        Q, self.x_basis = orthonormal_pieces(weighted_pieces(X, weights))
        rest, self.y_scale = scale_response(root_weighted(y, weights), Q, response)
        products = crossproducts(Rows(groups, Q, rest))
        moments = moment_estimates(products)
        axes = principal_axes(moments, self.parametrization)
        self.products, self._moments = rotate(products, axes), moments.turned(axes)
        self.terms = scaled.turned(axes)
        self.rows: Rows | None = None
        if moments.within < CANCELLATION:  # the scaled response has unit mean square
            self.rows = Rows(turn(groups, axes), Q, rest)
        self._factor: Factor | None = None
        self._sum_log_w = 0.0 if weights is None else float(np.log(weights).sum())
        self._par: np.ndarray | None = None
        self._solution: PLSSolution | None = None

    @property
    def factor(self) -> Factor:
        """The factor of the penalized cross-products, built when it is asked for."""
        if self._factor is None:
            self._factor = make_factor(self.products)
        return self._factor

    def release(self) -> None:
        """Give up a factor that holds much memory; it is rebuilt on demand."""
        if self.products.layout.q > LARGE_Q:
            self._factor = self._par = None

    @property
    def _m(self) -> int:
        return self.n - self.p if self.REML else self.n

    @property
    def _ldRX2_shift(self) -> float:
        """What the scaling of X takes from ``log|RX|^2``."""
        return 2.0 * float(np.log(self.x_basis.R.diagonal()).sum())

    @property
    def shift(self) -> float:
        """What the scaling takes from the criterion."""
        shift = 2.0 * self._m * np.log(self.y_scale.scale) - self._sum_log_w
        return shift + (self._ldRX2_shift if self.REML else 0.0)

    @property
    def response_scale(self) -> float:
        """Root mean square of the response with its fixed effects taken out."""
        return self.y_scale.scale

    def start(self) -> np.ndarray:
        """Return moment estimates of the parameters."""
        return moment_start(self._moments, self.products, self.parametrization)

    def value(self, par: np.ndarray) -> float:
        """Return the criterion at ``par``; infinite where it cannot be computed."""
        self._par = np.array(par, dtype=float)
        self._derivatives: Derivatives | None = None
        try:
            lams = self.parametrization.lams(self._par)
            self._solution = solve_pls(self.factor, lams, self.REML, self.rows)
        except FitError as error:
            self._solution, self._failure = None, error
            return np.inf
        return float(self._solution.objective + self.shift)

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
                self.factor, self._solution, self.parametrization, self._par, self.REML
            )
        return self._derivatives

    def sharper(self) -> None:
        """Return no Hessian: the information is exact where that is cheap."""

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
        out._derivatives = self._par = None
        return out, turned[1]

    def plain(self, other: Self, par: np.ndarray) -> np.ndarray:
        """Return the parameters of this criterion at those of a turned one."""
        return self.parametrization.taken_from(other.parametrization, par)

    def rounding(self) -> float:
        """Return the size of rounding errors in the last value.

        Those of pwrss, a difference of cross-products, times what they do to m log(pwrss).
        """
        if self._solution is None:
            return 0.0
        lost = 1.0 if self.rows is not None else self.products.yty / self._solution.pwrss
        return EPSILON * (self._m * lost + abs(self._solution.objective + self.shift))

    def canonical(self, par: np.ndarray, floor: float = 0.0) -> np.ndarray:
        """Return the same covariances with non-negative diagonals, those up to floor at zero."""
        return self.parametrization.canonical(par, floor)

    def scaled_par(self, user_par: np.ndarray) -> np.ndarray:
        """Turn parameters of the user's scale into those of the scaled columns."""
        return self.terms.scaled_par(user_par)

    def user_gradient(self) -> np.ndarray:
        """Return the gradient for lme4's parameters of the user's columns at the last value."""
        assert self._par is not None
        return self.terms.user_gradient(self._par, self._differentiated().K)

    def estimates(self, par: np.ndarray) -> Estimates:
        """Return the estimates at ``par``, on the user's scale."""
        if self._par is None or not np.array_equal(par, self._par):
            self.value(par)
        if self._solution is None:
            raise self._failure
        if self._derivatives is None:
            u = spherical_effects(self.factor, self._solution)
        else:
            u = self._derivatives.u
        solution, layout = self._solution, self.products.layout
        b = layout.multiply(self.parametrization.lams(par), u)
        user = self.terms.user_coordinates(par)
        lams = tuple(s.template(x) for s, x in user)
        R = self.x_basis.back(np.linalg.inv(solution.RX)) if self.p else np.zeros((0, 0))
        ldRX2 = solution.ldRX2 + self._ldRX2_shift
        return Estimates(
            par=np.concatenate([s.par(x) for s, x in user]),
            theta=np.concatenate([theta_of(lam) for lam in lams]),
            lams=lams,
            beta=self.x_basis.back(self.y_scale.beta0 + self.y_scale.scale * solution.beta),
            sigma=float(np.sqrt(solution.s2)) * self.y_scale.scale,
            objective=float(solution.objective + self.shift),
            unscaled_vcov=R @ R.T,
            effects=tuple(e * self.y_scale.scale for e in self.terms.user_effects(layout, b)),
            pwrss=solution.pwrss * self.y_scale.scale**2,
            ldL2=solution.ldL2,
            ldRX2=ldRX2,
        )

    def hessian(self, par: np.ndarray) -> np.ndarray:
        """Return the Hessian (k, k) of the criterion, with sigma profiled out.

        Exact; by differences of the exact gradient where the sums over pairs of levels would take
        longer: where the factor is sparse and the data hold together in large parts.
        """
        self.value(par)
        d, solution = self._differentiated(), self._solution
        if d.is_exact:
            return d.information
        if self.factor.has_squares or columns_in_largest_part(self.factor) <= MOST_COLUMNS:
            assert solution is not None
            dsigmas = self.parametrization.derivatives(np.asarray(par, dtype=float))[1]
            return exact_information(self.factor, solution, d, dsigmas, self.REML)
        H = difference_hessian(self, np.asarray(par, dtype=float), d.information)
        return d.information if H is None else H

    def curvature(self, par: np.ndarray) -> Curvature:
        """Return the curvature over ``par`` and log sigma, where sigma is the profiled estimate.

        With ``D = log|M| + m log(2 pi sigma^2) + pwrss / sigma^2``, sigma's row is that of
        ``d pwrss``, and the other part is the profiled Hessian with ``row row' / 4m`` put back.
        """
        profiled = self.hessian(par)
        d, solution = self._differentiated(), self._solution
        assert solution is not None
        row = -2.0 * d.pwrss_slope / solution.s2
        k, m = len(profiled), solution.m
        H = np.empty((k + 1, k + 1))
        H[:k, :k] = profiled + np.outer(row, row) / (4.0 * m)
        H[k, :k] = H[:k, k] = row
        H[k, k] = 4.0 * m
        dsigmas = self.parametrization.derivatives(np.asarray(par, dtype=float))[1]
        B = self.x_basis.back(np.linalg.inv(solution.RX)) if self.p else np.zeros((0, 0))
        half = np.ascontiguousarray((B @ solve_upper(solution.RX, d.ZtVX.T, transpose=True)).T)
        slopes = np.zeros((k + 1, self.p, self.p))
        for i, D in enumerate(dsigmas):
            level = self.products.layout.by_level(i, half)
            gram = np.einsum("lap,lbq->abpq", level, level, optimize=True)
            slopes[:k] += np.tensordot(D, gram, axes=([1, 2], [0, 1]))
        slopes[k] = 2.0 * B @ B.T
        return Curvature(H, solution.s2 * self.y_scale.scale**2 * slopes)

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
        scale, layout = self.y_scale.scale, self.products.layout
        by_par = [self.terms.user_effects(layout, column) for column in scale * d_b.T]
        effects = [np.array(of_term) for of_term in zip(*by_par, strict=True)]
        return self.x_basis.back(scale * d_beta), effects

    def conditional_covariances(self, par: np.ndarray) -> list[np.ndarray]:
        """Return ``Lambda C Lambda'`` by level (l_i, s_i, s_i), one array a block.

        Times sigma^2 it is the covariance of the conditional modes given beta; all terms of a
        block (one grouping factor) are in it together.
        """
        lams = self.parametrization.lams(par)
        self.factor.update(lams)
        self._par = None
        return [
            back @ self.factor.inverse_block(i) @ back.T
            for i, back in enumerate(self.terms.back_to_user(par))
        ]
