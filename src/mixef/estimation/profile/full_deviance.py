"""The criterion over all parameters at once, on axes that single out one of them.

A term's covariance (over sigma squared) on scaled columns is ``S = lam lam'``. With a' the row
that takes the scaled columns' effects to one of the user's, that effect's variance is ``a'Sa``.
Written as ``lam = A T``, with T lower triangular and a the first column of ``A^-T``, it is
``T[0, 0]^2``: a standard deviation is an entry of T. With the rows of two effects first, their
covariance matrix is that of T's first two rows. Both hold where the covariance is singular, and
no sign or bound is lost.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Literal

import numpy as np

from mixef.errors import FitError
from mixef.estimation.generalized.criterion import GeneralizedCriterion
from mixef.estimation.linear.criterion import EPSILON
from mixef.estimation.linear.pls import PLSSolution, differentiate, solve_pls
from mixef.estimation.linear.problem import LinearProblem
from mixef.estimation.scaling import ScaledTerms
from mixef.families.auxiliary import Extra
from mixef.linalg.crossproducts import CrossProducts
from mixef.linalg.rows import Rows
from mixef.linalg.standardize import Basis
from mixef.terms.covariance import Held
from mixef.terms.covariance.unstructured import axes_of
from mixef.terms.parametrization import Parametrization

# Units, in the search, of relative standard deviations that vanish, and of log sigma.
LEAST_UNIT, LOG_UNIT = 0.3, 0.3


@dataclass(frozen=True)
class Focus:
    """The parameter that is singled out."""

    # {"sd", "cor", "scale", "beta"}: of a random effect or two, of the residuals (or a family's
    # auxiliary parameters), or a coefficient
    kind: Literal["sd", "cor", "scale", "beta"]
    index: int = 0  # Position of the term, of the coefficient, or of the auxiliary parameter
    row: int = 0  # Columns of the term
    col: int = 0


@dataclass(frozen=True)
class State:
    """The parameters of the user at one point."""

    # tuple of ndarray (s_t, s_t): any roots of the terms' covariances: relative ones for a linear
    # model
    lams: tuple[np.ndarray, ...]
    scale: Extra  # Sigma of a linear model, the auxiliary parameters of a family
    beta: np.ndarray  # (p,)


@dataclass(frozen=True)
class Axes:
    """The covariance parameters, with those of the focus on axes of its own."""

    parametrization: Parametrization
    # The same parameters on the scaled columns' axes, for their natural units
    plain: Parametrization
    # Where the focus is in par: T[0, 0], with T[1, 0] after it, or the structure's parameter
    place: int
    # The scaled columns' standard deviation for one of the user's (relative to sigma, if there is
    # one)
    factor: float
    held: Held | None = None  # How the structure's parameter is held; None with T

    def units(self, par: np.ndarray) -> np.ndarray:
        """Return the size of a change of each covariance parameter that counts as large."""
        return self.plain.scale(par, floor=LEAST_UNIT)

    def start(self, par: np.ndarray) -> np.ndarray:
        """Return the parameters of the scaled problem's ``par``."""
        return self.parametrization.taken_from(self.plain, par)


def focused(terms: ScaledTerms, focus: Focus) -> Axes:
    """Put the covariance parameters on the axes of the focus."""
    plain = terms.parametrization
    if focus.kind not in ("sd", "cor"):
        return Axes(plain, plain, 0, 1.0)
    t = focus.index
    structure, basis, first = plain.structures[t], terms.bases[t], plain.par_slices[t].start
    columns = [focus.row] if focus.kind == "sd" else [focus.col, focus.row]
    directions = basis.back(np.eye(structure.size))[columns]
    factor = 1.0 / float(np.linalg.norm(directions[0]))
    on_axes = structure.focused(directions)
    if on_axes is None:
        held = structure.held(focus.kind, focus.row)
        return Axes(plain, plain, first + held.place, factor, held)
    structures = (*plain.structures[:t], on_axes, *plain.structures[t + 1 :])
    return Axes(replace(plain, structures=structures), plain, first, factor)


@dataclass(frozen=True)
class _AtSigma(PLSSolution):
    """A solution where the residual variance is a parameter, and not the estimate."""

    variance: float = 1.0

    @property
    def s2(self) -> float:
        """The residual variance."""
        return self.variance


class LinearDeviance:
    """-2 log L of a linear model over ``(par, log sigma)``; beta is profiled out.

    With a coefficient in focus the last parameter is that coefficient, up to scale and origin:
    its column of X is then part of the response, and the cross-products of what is left follow
    from the whole. The matrix of second derivatives has zeros for it, which are never used.

    Parameters
    ----------
    problem : LinearProblem
        By maximum likelihood.
    focus : Focus
    """

    over_sigma = True

    def __init__(self, problem: LinearProblem, focus: Focus):
        self.axes = focused(problem.terms, focus)
        self._bases = problem.terms.bases
        self._k = problem.parametrization.n_par
        self._X, self._y = problem.x_basis, problem.y_scale
        self._n = problem.n
        self._shift = problem.shift + self._n * np.log(2.0 * np.pi)
        self._whole = problem.products
        self._rows = None if problem.rows is None else problem.rows.whole
        self._factor = problem.factor().cholesky("a profile of the deviance")
        self.log_unit = float(np.log(self._y.scale))
        self.size = self._k + 1
        self._turn: np.ndarray | None = None
        if focus.kind == "beta":
            self._single_out(focus.index)

    def _single_out(self, j: int) -> None:
        """Turn the scaled coefficients so that the first is the user's coefficient j."""
        row = self._X.back(np.eye(self._X.R.shape[0]))[j]
        length = float(np.linalg.norm(row))
        self._turn = axes_of(row[None])
        self.beta_factor = 1.0 / (length * self._y.scale)
        self.beta_origin = float(row @ self._y.beta0)
        self.size += 1
        H, whole = self._turn, self._whole
        self._ZtXa, self._XtXa = whole.ZtX @ H[:, 0], H.T @ whole.XtX @ H[:, 0]
        self._Xtya = float(H[:, 0] @ whole.Xty)
        self._reduced = replace(
            whole,
            ZtX=np.ascontiguousarray(whole.ZtX @ H[:, 1:]),
            XtX=H[:, 1:].T @ whole.XtX @ H[:, 1:],
        )
        self._Xty = H[:, 1:].T @ whole.Xty

    def _at_coefficient(self, tau: float) -> tuple[CrossProducts, Rows | None]:
        """Return the problem without the singled out column, which is in the response."""
        whole, H = self._whole, self._turn
        assert H is not None
        products = replace(
            self._reduced,
            Zty=whole.Zty - tau * self._ZtXa,
            Xty=self._Xty - tau * self._XtXa[1:],
            yty=whole.yty - 2.0 * tau * self._Xtya + tau**2 * float(self._XtXa[0]),
            assembled=whole.ZtZ,
        )
        if self._rows is None:
            return products, None
        X = self._rows.columns()[:, :-1] @ H
        return products, replace(self._rows, X=X[:, 1:], y=self._rows.y - tau * X[:, 0])

    def start(self, par: np.ndarray, scale: float, beta: np.ndarray) -> np.ndarray:
        """Return the point of the scaled problem's ``par`` with the user's sigma and beta."""
        x = np.append(self.axes.start(par), np.log(scale) - self.log_unit)
        if self._turn is None:
            return x
        coefficients = (self._X.R @ beta - self._y.beta0) / self._y.scale
        return np.append(x, float(self._turn[:, 0] @ coefficients))

    def value(self, x: np.ndarray) -> float:
        """Return -2 log L; infinite where it cannot be computed."""
        self._x = np.array(x)
        products, rows = self._whole, self._rows
        if self._turn is not None:
            products, rows = self._at_coefficient(float(x[-1]))
        try:
            with np.errstate(over="raise"):
                variance = float(np.exp(2.0 * x[self._k]))
                lams = self.axes.parametrization.lams(x[: self._k])
                plain = solve_pls(self._factor, products, lams, False, rows)
        except (FitError, FloatingPointError) as error:
            self._failure = FitError(str(error))
            self._solution: _AtSigma | None = None
            return np.inf
        self._solution = _AtSigma(**vars(plain), variance=variance)
        log_term = 2.0 * self._n * x[self._k]
        return float(plain.ldL2 + log_term + plain.pwrss / variance + self._shift)

    def derivatives(self) -> tuple[np.ndarray, np.ndarray]:
        """Return gradient and Hessian (or average information) at the last value.

        ``D = log|M| + n log(2 pi sigma^2) + pwrss / sigma^2``: the part for the covariance
        parameters is that of a profiled sigma with ``dpwrss dpwrss'`` put back.
        """
        solution, k, x = self._solution, self._k, self._x
        if solution is None:
            raise self._failure
        d = differentiate(self._factor, solution, self.axes.parametrization, x[:k], False)
        variance, pwrss = solution.variance, solution.pwrss
        g, H = np.zeros(self.size), np.zeros((self.size, self.size))
        g[:k] = d.gradient
        g[k] = 2.0 * (self._n - pwrss / variance)
        relative = d.pwrss_slope / variance
        put_back = np.outer(relative, relative) / solution.m
        H[:k, :k] = d.information + put_back
        H[k, :k] = H[:k, k] = -2.0 / variance * d.pwrss_slope
        H[k, k] = 4.0 * pwrss / variance
        if self._turn is not None:
            # the residual's product with the column that is part of the response
            b = self._factor.layout.multiply(self._factor.lams, d.u)
            in_fit = self._XtXa[1:] @ solution.beta + x[-1] * self._XtXa[0] + self._ZtXa @ b
            g[-1] = -2.0 / variance * (self._Xtya - in_fit)
        self.kept = (self._x, solution.beta)
        return g, H

    def rounding(self) -> float:
        """Return the size of rounding errors in the last value."""
        if self._solution is None:
            return 0.0
        relative = self._solution.products.yty / self._solution.variance
        return EPSILON * (self._n * (1.0 + abs(float(self._x[self._k]))) + relative)

    def units(self, x: np.ndarray) -> np.ndarray:
        """Return the size of a change of each parameter that counts as large."""
        others = [LOG_UNIT] if self._turn is None else [LOG_UNIT, 1.0]
        return np.append(self.axes.units(x[: self._k]), others)

    def state(self, x: np.ndarray) -> State:
        """Return the user's parameters at a point, where derivatives were taken last."""
        if not np.array_equal(self.kept[0], x):
            self.value(x)
            self.derivatives()
        beta = self.kept[1]
        if self._turn is not None:
            beta = self._turn @ np.concatenate([x[-1:], beta])
        return State(
            user_lams(self.axes, self._bases, x[: self._k]),
            float(np.exp(x[self._k] + self.log_unit)),
            self._X.back(self._y.beta0 + self._y.scale * beta),
        )


class GeneralizedDeviance:
    """-2 log L of a generalized model over ``(par, beta, auxiliary coordinates)``.

    With a coefficient in focus the coefficients are turned so that it comes first.

    Parameters
    ----------
    criterion : GeneralizedCriterion
        With the coefficients as parameters (nAGQ above 0). It is moved about, on axes of its own.
    focus : Focus
    """

    over_sigma = False
    log_unit = 0.0
    beta_origin = 0.0

    def __init__(self, criterion: GeneralizedCriterion, focus: Focus):
        self.axes = focused(criterion.terms, focus)
        self._criterion = criterion
        self._criterion.parametrization = self.axes.parametrization
        self._k, self._p = self.axes.plain.n_par, criterion.p
        self._bases = criterion.terms.bases
        self.size = criterion.n_par
        self._turn: np.ndarray | None = None
        if focus.kind == "beta":
            row = criterion.problem.user_beta(np.eye(self._p))[focus.index]
            self.beta_factor = 1.0 / float(np.linalg.norm(row))
            self._turn = np.eye(self.size)
            self._turn[self.fixed, self.fixed] = axes_of(row[None])

    @property
    def fixed(self) -> slice:
        """Where the coefficients are."""
        return slice(self._k, self._k + self._p)

    @property
    def depends_on_axes(self) -> bool:
        """Whether the value depends on the axes: where nodes are in several dimensions."""
        return self._criterion.nAGQ > 1 and self.axes.parametrization is not self.axes.plain

    def start(self, par: np.ndarray, scale: Extra, beta: np.ndarray) -> np.ndarray:
        """Return the point of the scaled problem's ``par`` with the user's beta and extra."""
        criterion = self._criterion
        x = criterion.join(self.axes.start(par), criterion.problem.scaled_beta(beta), scale)
        return x if self._turn is None else self._turn.T @ x

    def value(self, x: np.ndarray) -> float:
        """Return -2 log L; infinite where it cannot be computed."""
        with np.errstate(over="ignore"):
            return self._criterion.value(x if self._turn is None else self._turn @ x)

    def derivatives(self) -> tuple[np.ndarray, np.ndarray]:
        """Return gradient and Hessian (or average information) at the last value."""
        try:
            g, H = self._criterion.derivatives()
        except (ArithmeticError, np.linalg.LinAlgError) as error:  # at the ends of what floats hold
            raise FitError(f"the criterion has no derivatives: {error}") from error
        if self._turn is None:
            return g, H
        return self._turn.T @ g, self._turn.T @ H @ self._turn

    def rounding(self) -> float:
        """Return the size of rounding errors in the last value."""
        return self._criterion.rounding()

    def units(self, x: np.ndarray) -> np.ndarray:
        """Return the size of a change of each parameter that counts as large."""
        return np.append(self.axes.units(x[: self._k]), self._criterion.problem.units)

    def state(self, x: np.ndarray) -> State:
        """Return the user's parameters at a point."""
        point = x if self._turn is None else self._turn @ x
        par, beta, extra = self._criterion.split(point)
        lams = user_lams(self.axes, self._bases, par)
        return State(lams, extra, self._criterion.problem.user_beta(beta))


def user_lams(axes: Axes, bases: Sequence[Basis], par: np.ndarray) -> tuple[np.ndarray, ...]:
    """Return roots of the covariances of the user's columns, one a term."""
    lams = axes.parametrization.term_lams(par)
    return tuple(basis.back(lam) for basis, lam in zip(bases, lams, strict=True))
