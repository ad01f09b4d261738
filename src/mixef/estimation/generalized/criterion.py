"""The generalized model as a criterion to minimize: scaled inside, on the user's scale outside."""

from __future__ import annotations

import copy
from typing import Self

import numpy as np

from mixef.errors import FitError
from mixef.estimation.estimates import Estimates
from mixef.estimation.generalized.crossed_hessian import crossed_hessian
from mixef.estimation.generalized.effects import Anchor, moved_by, pull
from mixef.estimation.generalized.estimates import estimates_at
from mixef.estimation.generalized.laplace import (
    LaplaceDerivatives,
    differentiate_laplace,
    laplace_value,
)
from mixef.estimation.generalized.laplace_error import LaplaceError, laplace_error
from mixef.estimation.generalized.levels import Levels, levels_at
from mixef.estimation.generalized.pirls import NEAR_START, START_GAIN, Mode, conditional_mode
from mixef.estimation.generalized.problem import GeneralizedProblem
from mixef.estimation.generalized.quadrature import Quadrature
from mixef.estimation.generalized.response import Extremes
from mixef.estimation.search.bends import CovarianceQuadratic
from mixef.estimation.search.certified import LEAST_UNIT
from mixef.estimation.search.hessian import difference_hessian
from mixef.families.auxiliary import Extra
from mixef.linalg.factor import Factor

# With more cells than this in one array (blocks of M for one grouping factor, or their squares, or
# rows for several, by parameters), the exact Hessian is not worth its memory: 160 MB each.
MOST_CELLS = 20_000_000
# With several grouping factors the Hessian takes the q columns of an inverse, and saves some two
# gradients a parameter: beyond so many columns a parameter those are cheaper.
MOST_COLUMNS = 50
# What rounding in the mode does to -2 log L, relative to its terms: ten times the machine's.
MODE_ROUNDING = 10.0 * float(np.finfo(float).eps)


class GeneralizedCriterion:
    """-2 log L of a generalized linear mixed model, by Laplace or by quadrature.

    It has a factor of its own: it is made for one search or one inference, and not shared.

    Parameters are those of the scaled problem: templates of the scaled columns of Z,
    coefficients of the scaled columns of X, and coordinates of the family's auxiliary parameters.
    With nAGQ = 0 the coefficients are part of the mode and are no parameters.

    Parameters
    ----------
    problem : GeneralizedProblem
    u : ndarray (q,), optional
        Where the first search for the mode starts.
    """

    def __init__(self, problem: GeneralizedProblem, u: np.ndarray | None = None):
        self.problem, self.response, self.nAGQ = problem, problem.response, problem.nAGQ
        self.family, self.n, self.p = self.response.family, problem.n, problem.p
        self.with_beta = self.nAGQ == 0
        self.n_extra = len(self.family.auxiliary)
        self.terms, self.parametrization = problem.terms, problem.terms.parametrization
        self.model = problem.working_model()
        self._beta0 = problem.beta
        self._u = np.zeros(self.model.groups.layout.q) if u is None else u
        self._anchor: Anchor | None = None
        self._factor_at_anchor = False
        self._forget()

    def _forget(self) -> None:
        self._point = np.empty(0)
        self._factor_at_mode = False
        self._mode: Mode | None = None
        self._levels: Levels | None = None
        self.quadrature: Quadrature | None = None
        self._derivatives: LaplaceDerivatives | None = None
        self._sharper: np.ndarray | None = None

    @property
    def knows_hessian(self) -> bool:
        """Whether the information is the exact Hessian."""
        return self.nAGQ == 1 and self._by_levels

    @property
    def _by_levels(self) -> bool:
        """Whether derivatives are taken level by level, with Laplace's exact Hessian."""
        if len(self.problem.designs) > 1 or self.with_beta:
            return False
        q, s = self.model.groups.layout.q, self.model.groups.layout.widths[0]
        return self.nAGQ > 1 or s * max(q * self.n_par, s**3) <= MOST_CELLS

    # Parameters of the search: par, beta unless it is in the mode, auxiliary coordinates

    @property
    def n_par(self) -> int:
        """Number of parameters of the search."""
        return self.parametrization.n_par + (0 if self.with_beta else self.p) + self.n_extra

    def split(self, point: np.ndarray) -> tuple[np.ndarray, np.ndarray, Extra]:
        """Return par (k,), beta (p,) and the auxiliary parameters of a point of the search.

        With beta in the mode, beta is where the last mode was.
        """
        k = self.parametrization.n_par
        beta = self._beta0 if self.with_beta else point[k : k + self.p]
        extra = self.problem.extra
        if self.n_extra:
            extra = self.family.extra_at(point[len(point) - self.n_extra :])
        return point[:k], beta, extra

    def join(self, par: np.ndarray, beta: np.ndarray, extra: Extra) -> np.ndarray:
        """Return the point of the search of scaled parameters."""
        parts = [par] if self.with_beta else [par, beta]
        return np.concatenate([*parts, self.family.coordinates(extra)] if self.n_extra else parts)

    def start(self) -> np.ndarray:
        """Return moment estimates of the covariances, with coefficients near the mode there."""
        par, beta, extra = self.problem.par, self.problem.beta, self.problem.extra
        lams, near = self.parametrization.lams(par), 0.0 if self.with_beta else NEAR_START
        self._factor_at_anchor = self._factor_at_mode = False
        try:
            mode = conditional_mode(self.model, lams, beta, extra, self._u, True, near, START_GAIN)
        except FitError:
            return self.join(par, beta, extra)
        point = self.join(par, mode.beta, extra)
        self.value(point, mode=mode)
        return point

    def value(self, point: np.ndarray, gain: float = 0.0, mode: Mode | None = None) -> float:
        """Return -2 log L, infinite where there is none.

        Parameters
        ----------
        gain : float
            What the step there promises: a new value may be off by a small share of it.
        mode : Mode, optional
            The mode there, where the factor stands at it.
        """
        if self._mode is not None and point.tobytes() == self._point.tobytes():
            return self._objective
        self._forget()
        self._point = np.array(point, dtype=float)
        try:
            self._objective: float = self._value(mode, gain)
        except FitError as error:
            self._mode, self.failure = None, error
            return np.inf
        return self._objective

    def _value(self, mode: Mode | None, gain: float) -> float:
        par, beta, extra = self.split(self._point)
        if self.n_extra:
            self.family.check_extra(extra)
        lams = self._lams = self.parametrization.lams(par)
        if mode is None:
            start = self._foreseen_mode(lams, beta, extra)
            self._factor_at_anchor = self._factor_at_mode = False
            mode = conditional_mode(self.model, lams, beta, extra, start, self.with_beta, gain=gain)
        self._mode, self._u, self._factor_at_mode = mode, mode.u, True
        if self.with_beta:
            self._beta0 = mode.beta
        value, self._ldL2 = laplace_value(self.model, mode), self.model.factor.ldL2
        if self._by_levels:
            self._levels = levels_at(self.model, mode, lams[0])
        if self.nAGQ > 1 and self._levels is not None:
            self.quadrature = Quadrature(self.model, mode, self._levels, extra, self.nAGQ)
            value += self.quadrature.correction
        return float(value)

    @property
    def is_rough(self) -> bool:
        """Whether the last value is known up to a share of a gain only."""
        return self._mode is not None and self._mode.is_rough

    def refine(self) -> None:
        """Bring the last value to all digits."""
        if self.is_rough:
            point = self._point
            self._forget()
            self.value(point)

    def _foreseen_mode(
        self, lams: tuple[np.ndarray, ...], beta: np.ndarray, extra: float
    ) -> np.ndarray:
        """Return the u (q,) to start from: to first order from the point of the last derivatives.

        Where those did not say how the mode moves, one solve foretells it, if the factor still
        stands there.
        """
        anchor, model = self._anchor, self.model
        if anchor is None or self.with_beta:
            return self._u
        mode = anchor.mode
        known = anchor.moved is not None and anchor.parametrization is self.parametrization
        if not (known or self._factor_at_anchor):
            return mode.u
        change = [new - old for new, old in zip(lams, anchor.lams, strict=True)]
        pairs = zip(change, anchor.lams, strict=True)
        if any(np.vdot(c, c) > np.vdot(lam, lam) for c, lam in pairs):  # b hardly moves then
            return model.groups.layout.same_effects(anchor.lams, mode.u, lams)
        if known:
            return anchor.foreseen(self._point)
        by_extra = np.zeros(self.n_extra)
        if extra != anchor.extra:
            end, begin = (np.array(self.family.coordinates(e)) for e in (extra, anchor.extra))
            by_extra = end - begin
        right = self._pull(anchor, change, beta - mode.beta, by_extra)
        right += model.groups.layout.multiply(change, model.Zt(mode.state.score), transpose=True)
        return np.asarray(mode.u + model.factor.solve(right))

    def _pull(
        self, anchor: Anchor, by_lam: list[np.ndarray], by_beta: np.ndarray, by_extra: np.ndarray
    ) -> np.ndarray:
        """Return ``Lambda'Z'`` times what changes of parameters do to the scores while u stays."""
        return pull(self.model, anchor, by_lam, by_beta, by_extra)

    def derivatives(self) -> tuple[np.ndarray, np.ndarray]:
        """Return gradient and information at the last value."""
        d = self._differentiated()
        return self._gradient, d.information

    def _differentiated(self) -> LaplaceDerivatives:
        if self._mode is None:
            raise self.failure
        if self._derivatives is None:
            (par, _, extra), lams = self.split(self._point), self._lams
            if not self._factor_at_mode:
                self.model.refactor(self.response.weights_of(self._mode.state), lams)
            d = self._differentiate(self._mode, par, lams, extra)
            # The factor may be given up, but solves with it stay possible.
            self._factor_at_mode, self._factor_at_anchor = False, True
            moved, P = None if d.moved is None else d.moved.u, self.parametrization
            self._anchor = Anchor(self._mode, lams, extra, self._point, P, moved)
            parts = [d.by_par] if self.with_beta else [d.by_par, d.by_beta]
            self._gradient = np.concatenate([*parts, d.by_extra])
            if self.quadrature is not None and d.moved is not None:
                self._gradient = self.quadrature.gradient(d.moved, lams[0])
            self._derivatives = d
        return self._derivatives

    def _differentiate(
        self, mode: Mode, par: np.ndarray, lams: tuple[np.ndarray, ...], extra: Extra
    ) -> LaplaceDerivatives:
        """Return the derivatives of Laplace's approximation at a mode, where the factor stands."""
        P = self.parametrization
        return differentiate_laplace(
            self.model, mode, P, par, lams, extra, self.with_beta, self._levels
        )

    def sharper(self) -> np.ndarray | None:
        """Return the Hessian at the last value; None where it is the information, or too dear."""
        if self._sharper is None and self._can_sharpen:
            d = self._differentiated()
            assert self._mode is not None
            (par, _, extra), P = self.split(self._point), self.parametrization
            self._sharper = crossed_hessian(self.model, self._mode, P, par, extra, d.h, d.adjoint)
            bend = P.bend(par, self._lams, d.K)
            self._sharper[: len(par), : len(par)] += bend
        return self._sharper

    def in_covariances(self) -> CovarianceQuadratic | None:
        """Return what derivatives foretell, by covariances; None with quadrature."""
        if self.nAGQ > 1:
            return None
        d, P, point = self._differentiated(), self.parametrization, self._point
        return CovarianceQuadratic(P, point, d.K, self._gradient, d.information, self.scale(point))

    def scored(self) -> None:
        """Return nothing: no step of scoring is known to lead on from anywhere."""

    def within_error(self) -> bool:
        """Tell that the gradient is exact."""
        return False

    def runs_away(self) -> bool:
        """Tell whether large random effects predict every response, where derivatives were taken.

        Then the likelihood rises for ever, slowly, as their variances grow.
        """
        anchor = self._anchor
        if anchor is None or not anchor.is_large:
            return False
        return self.response.is_told(anchor.mode.state.mu)

    def is_beyond(self) -> bool:
        """Tell whether effects of the size they have there leave no mean in doubt."""
        anchor = self._anchor
        if anchor is None or not anchor.is_large:
            return False
        pairs = zip(self.problem.designs, anchor.lams, strict=True)
        size = max(float(np.linalg.norm(g.z @ lam)) for g, lam in pairs)
        return self.response.is_beyond(size / np.sqrt(self.n))

    @property
    def _factor_at_expected(self) -> bool:
        """Whether solves with the factor are by expected information at the last point."""
        if self._mode is None or self._mode.state.expected is not self._mode.state.observed:
            return False
        anchor = self._anchor
        anchored = self._factor_at_anchor and anchor is not None and anchor.mode is self._mode
        return self._factor_at_mode or anchored

    @property
    def _can_sharpen(self) -> bool:
        q, n_par = self.model.groups.layout.q, self.n_par
        cheap = q <= MOST_COLUMNS * n_par and max(self.n, q**2) * n_par <= MOST_CELLS
        return len(self.problem.designs) > 1 and not self.with_beta and cheap

    def extremes(self, point: np.ndarray) -> Extremes:
        """Return what the rows are like at a point, for messages."""
        return self.model.extremes(self._mode_at(point).state, self.split(point)[2])

    def _mode_at(self, point: np.ndarray) -> Mode:
        if not np.isfinite(self.value(point)) or self._mode is None:
            raise self.failure
        return self._mode

    def scale(self, point: np.ndarray) -> np.ndarray:
        """Return the size of a change of each parameter that counts as large."""
        own = self.parametrization.scale(point[: self.parametrization.n_par], floor=LEAST_UNIT)
        units = self.problem.units[self.p if self.with_beta else 0 :]
        return np.concatenate([own, units])

    def turned(self, point: np.ndarray) -> tuple[Self, np.ndarray] | None:
        """Return the criterion on the principal axes at ``point``, and ``point`` in them.

        ``point`` is where the last value was taken; None where turning does not help, and with
        quadrature, whose nodes depend on the axes. The factor goes over to the other one: go on
        here with a new value.
        """
        k = self.parametrization.n_par
        turned = self.parametrization.turned(point[:k]) if self.nAGQ <= 1 else None
        if turned is None:
            return None
        out = copy.copy(self)
        out.parametrization, out._point = turned[0], np.concatenate([turned[1], point[k:]])
        out._derivatives = out._sharper = None
        self._forget()
        return out, out._point

    def plain(self, other: Self, point: np.ndarray) -> np.ndarray:
        """Return the point of this criterion at that of a turned one."""
        k = self.parametrization.n_par
        par = self.parametrization.taken_from(other.parametrization, point[:k])
        return np.concatenate([par, point[k:]])

    def follow(self, other: Self, point: np.ndarray) -> None:
        """Start the next search for the mode where a turned criterion found it.

        Parameters
        ----------
        point : ndarray (K,)
            The turned criterion's point, as this one's parameters: ``Lambda u`` is the same there.
        """
        if other._mode is None:
            return
        layout, lams = self.model.groups.layout, self.parametrization.lams(self.split(point)[0])
        self._u = layout.same_effects(other._lams, other._mode.u, lams)
        self._anchor, self._factor_at_anchor = None, False

    def rounding(self) -> float:
        """Return the size of rounding errors in the last value: of sums, and of the mode."""
        return 0.0 if self._mode is None else MODE_ROUNDING * (self.n + abs(self._objective))

    def canonical(self, par: np.ndarray, floor: float = 0.0) -> np.ndarray:
        """Return the same covariances with non-negative diagonals, those up to floor at zero."""
        k = self.parametrization.n_par
        return np.concatenate([self.parametrization.canonical(par[:k], floor), par[k:]])

    def hessian(self, point: np.ndarray) -> np.ndarray | None:
        """Return the Hessian (K, K), where it is not known by differences of the exact gradient.

        None where a step leaves the domain.
        """
        self.value(point)
        information = self._differentiated().information
        if self.knows_hessian:
            return information
        if self._can_sharpen:
            return self.sharper()
        return difference_hessian(self, point, information)

    def laplace_error(self, point: np.ndarray) -> LaplaceError:
        """Return the next terms of Laplace's expansion at a point."""
        if not self._factor_at_anchor:
            self._forget()
        self.value(point)
        d = self._differentiated()
        assert self._mode is not None
        sums = self.model.error_sums(self._mode.state, self.split(point)[2], d.h)
        return laplace_error(self.model, self._lams, sums, d.between)

    # The user's scale

    def scaled_point(self, par: np.ndarray, beta: np.ndarray, extra: Extra) -> np.ndarray:
        """Turn the user's parameters into a point of the search."""
        scaled = self.terms.scaled_par(par)
        return self.join(scaled, self.problem.scaled_beta(beta), 1.0 if extra is None else extra)

    def user_gradient(self) -> np.ndarray:
        """Return the gradient for the user's parameters at the last value."""
        k, d = self.parametrization.n_par, self._differentiated()
        out, par = self._gradient.copy(), self._point[:k]
        if self.nAGQ <= 1:
            user = self.terms.user_coordinates(par)
            out[:k] = self.terms.user_gradient(user, d.K)
        else:
            out[:k] = np.linalg.lstsq(
                self.terms.par_jacobian(par, self.scale(self._point)[:k]).T, out[:k], rcond=None
            )[0]
        if not self.with_beta:
            out[k : k + self.p] = self.problem.basis.R.T @ out[k : k + self.p]
        return out

    def estimates(self, point: np.ndarray) -> Estimates:
        """Return the estimates at a point, on the user's scale."""
        mode = self._mode_at(point)
        par, _, extra = self.split(point)
        if not self._factor_at_expected:
            self.model.refactor(mode.state.expected, self._lams)
            self._factor_at_mode = self._factor_at_anchor = False
        return estimates_at(
            self.model, self.problem, mode, par, self._lams, extra, self._objective, self._ldL2
        )

    def factor_at(self, point: np.ndarray) -> Factor:
        """Return the factor at a point, where it stands until the next call of anything here."""
        self._forget()
        self._mode_at(point)
        self._factor_at_mode = False
        return self.model.factor

    def effects_slopes(self, point: np.ndarray) -> tuple[np.ndarray, list[np.ndarray]]:
        """Return the derivatives of beta and of the conditional modes for the K parameters.

        Returns
        -------
        ndarray (p, K)
            Of the user's beta: the coefficients themselves are parameters unless nAGQ is 0.
        list of ndarray (K, l_t, s_t)
            Of the user's conditional modes, one array a term.
        """
        mode, (par, _, extra) = self._mode_at(point), self.split(point)
        self._factor_at_mode = self._factor_at_anchor = False
        moved = moved_by(self.model, mode, self.parametrization, par, extra, self.with_beta)
        layout = self.model.groups.layout
        by_point = [self.terms.user_effects(layout, column) for column in moved.b.T]
        effects = [np.array(of_term) for of_term in zip(*by_point, strict=True)]
        return self.problem.basis.back(moved.beta), effects
