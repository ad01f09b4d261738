"""The minimum of a criterion where one parameter is held: what a likelihood profile is made of.

The parameter that is held is eliminated exactly. On its own axes (full_deviance.py) a standard
deviation c is one entry, ``T[0, 0] = c / sigma``, and a correlation sin(phi) makes the entries
``T[1, 0] = r sin(phi)`` and ``T[1, 1] = r cos(phi)`` of one free r, so that nothing is singular
at c = 0 or at a correlation of one. The search for the rest is Newton's, and the criterion's
slope along the profile is its partial derivative for the parameter held.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol

import numpy as np

from mixef.errors import FitError
from mixef.estimation.fit import Fit
from mixef.estimation.profile.full_deviance import Focus, GeneralizedDeviance, LinearDeviance, State
from mixef.estimation.search.hessian import inverse_hessian
from mixef.estimation.search.optimize import newton
from mixef.terms.covariance import Held

HALF_PI = 0.5 * np.pi
# A standard deviation below this share of its natural unit is zero, and its correlations are not
# defined.
VANISHED = 1e-8
# The longest first step of a log, where the data say next to nothing of it.
LONGEST_LOG = 1.0


@dataclass(frozen=True)
class Point:
    """The constrained minimum at one value of the parameter held."""

    at: float  # the parameter, in the coordinate of its profile
    free: np.ndarray  # (m,): all others, as the search has them
    deviance: float
    slope: float  # derivative of the deviance along the profile
    state: State


class Constraint(Protocol):
    """How the parameter held and the free ones make a point of the full deviance."""

    free: np.ndarray

    def expand(self, at: float, free: np.ndarray) -> np.ndarray:
        """Return the point (K,)."""

    def contract(self, x: np.ndarray) -> tuple[float, np.ndarray]:
        """Return the parameter held, and the free ones."""

    def pull(
        self, x: np.ndarray, g: np.ndarray, H: np.ndarray
    ) -> tuple[np.ndarray, np.ndarray, float]:
        """Return gradient and Hessian for the free parameters, and the slope for the one held."""

    def normal(self, x: np.ndarray) -> np.ndarray:
        """Return the derivative (K,) of the parameter held for the point."""


class Entry:
    """One entry is a curve at ``v = factor * at + shift``, or at ``factor * at / sigma``.

    Parameters
    ----------
    size : int
        Parameters of the full deviance.
    held : Held
        Where the entry is, and the curve.
    factor, shift : float
    log_sigma : int, optional
        Where log sigma is, if v is relative to it.
    """

    def __init__(
        self,
        size: int,
        held: Held,
        factor: float = 1.0,
        shift: float = 0.0,
        log_sigma: int | None = None,
    ):
        self._place, self._curve, self._back = held
        self._factor, self._shift = factor, shift
        self._log_sigma = log_sigma
        self._size = size
        self.free = np.delete(np.arange(size), held.place)

    def _by(self, x: np.ndarray) -> float:
        """Return the derivative of v for the parameter held."""
        if self._log_sigma is None:
            return self._factor
        return self._factor * float(np.exp(-x[self._log_sigma]))

    def expand(self, at: float, free: np.ndarray) -> np.ndarray:
        """Return the point (K,)."""
        x = np.empty(self._size)
        x[self.free] = free
        with np.errstate(over="ignore"):
            x[self._place] = self._curve(self._by(x) * at + self._shift)[0]
        return x

    def contract(self, x: np.ndarray) -> tuple[float, np.ndarray]:
        """Return the parameter held, and the free ones."""
        return float((self._back(x[self._place]) - self._shift) / self._by(x)), x[self.free]

    def reach(self, x: np.ndarray, change: np.ndarray) -> float:
        """Return how far the parameter held goes for a change (K,): at a bound its slope is 0."""
        ends = x[self._place], x[self._place] + change[self._place]
        return float(abs(self._back(ends[1]) - self._back(ends[0])) / self._by(x))

    def pull(
        self, x: np.ndarray, g: np.ndarray, H: np.ndarray
    ) -> tuple[np.ndarray, np.ndarray, float]:
        """Return gradient and Hessian for the free parameters, and the slope for the one held."""
        j, free, v = self._place, self.free, self._back(x[self._place])
        _, by_v, twice = self._curve(v)
        g_free, H_free = g[free], H[np.ix_(free, free)]
        slope = float(g[j]) * by_v * self._by(x)
        if self._log_sigma is not None:  # v falls as log sigma rises
            a = int(np.flatnonzero(free == self._log_sigma)[0])
            fall = -by_v * v
            cross = fall * H[j, free]
            g_free[a] += fall * g[j]
            H_free[a] += cross
            H_free[:, a] += cross
            H_free[a, a] += fall**2 * H[j, j] + (twice * v**2 - fall) * g[j]
        return g_free, H_free, slope

    def normal(self, x: np.ndarray) -> np.ndarray:
        """Return the derivative (K,) of the parameter held for the point."""
        n, v = np.zeros(self._size), self._back(x[self._place])
        n[self._place] = 1.0 / (self._by(x) * self._curve(v)[1])
        if self._log_sigma is not None:
            n[self._log_sigma] = (v - self._shift) / self._by(x)
        return n


class Angle:
    """Two entries are ``r sin(at)`` and ``r cos(at)``; r is free.

    Parameters
    ----------
    size : int
    sine, cosine : int
        Where the entries are; r stands where the cosine is.
    """

    def __init__(self, size: int, sine: int, cosine: int):
        self._sine, self._cosine, self._size = sine, cosine, size
        self.free = np.delete(np.arange(size), sine)
        self._r = int(np.flatnonzero(self.free == cosine)[0])

    def expand(self, at: float, free: np.ndarray) -> np.ndarray:
        """Return the point (K,)."""
        x = np.empty(self._size)
        x[self.free] = free
        r = free[self._r]
        x[self._sine], x[self._cosine] = r * np.sin(at), r * np.cos(at)
        return x

    def contract(self, x: np.ndarray) -> tuple[float, np.ndarray]:
        """Return the parameter held, and the free ones."""
        free = x[self.free]
        free[self._r] = np.hypot(x[self._sine], x[self._cosine])
        return float(np.arctan2(x[self._sine], x[self._cosine])), free

    def pull(
        self, x: np.ndarray, g: np.ndarray, H: np.ndarray
    ) -> tuple[np.ndarray, np.ndarray, float]:
        """Return gradient and Hessian for the free parameters, and the slope for the one held."""
        s, c = self._direction
        J = np.zeros((self._size, len(self.free)))
        J[self.free, np.arange(len(self.free))] = 1.0
        J[self._sine, self._r], J[self._cosine, self._r] = s, c
        slope = float(g[self._sine] * x[self._cosine] - g[self._cosine] * x[self._sine])
        return J.T @ g, J.T @ H @ J, slope

    def hold(self, at: float) -> None:
        """Remember the angle, which a point with r = 0 does not tell."""
        self._direction = np.sin(at), np.cos(at)

    def normal(self, x: np.ndarray) -> np.ndarray:
        """Return the derivative (K,) of the parameter held for the point."""
        n = np.zeros(self._size)
        square = x[self._sine] ** 2 + x[self._cosine] ** 2
        n[self._sine], n[self._cosine] = x[self._cosine] / square, -x[self._sine] / square
        return n


class HeldMinimum:
    """A fit's criterion where one parameter is held at values of choice.

    Parameters
    ----------
    fit : Fit
        By maximum likelihood, with the coefficients as parameters.
    focus : Focus
        The parameter held. Its coordinate is itself for a standard deviation or a coefficient,
        its arc sine for a correlation, its log for sigma, a dispersion or a shape.

    Attributes
    ----------
    bounds : tuple of float
        Of the coordinate.
    origin : Point
        The estimate; its coordinate is NaN for a correlation that is not defined.
    step : float
        What a change of one standard error is, roughly.
    """

    def __init__(self, fit: Fit, focus: Focus):
        self._deviance: LinearDeviance | GeneralizedDeviance
        if fit.is_linear:
            self._deviance, scale = LinearDeviance(fit.problem, focus), fit.estimates.sigma
        else:
            fit.needs_exact("a profile of the deviance")
            self._deviance, scale = GeneralizedDeviance(fit.criterion(), focus), fit.extra
        start = self._deviance.start(fit.scaled_par, scale, fit.estimates.beta)
        self._constraint, self.bounds = _constraint(self._deviance, focus, fit)
        self._held = 0.0
        self._pinned: int | None = None
        self._signed: tuple[int, int] | None = None
        if isinstance(self._constraint, Angle):
            place = self._deviance.axes.place
            self._signed = place, place + fit.terms[focus.index].structure.size
        self.origin, self.step = self._at_estimate(start, fit, focus)

    def _at_estimate(self, x: np.ndarray, fit: Fit, focus: Focus) -> tuple[Point, float]:
        full = self._deviance
        if isinstance(full, GeneralizedDeviance) and full.depends_on_axes:
            x = newton(_Whole(full), x).par
        deviance = full.value(x)
        H = full.derivatives()[1]
        state = full.state(x)
        if focus.kind == "cor" and self._without_correlation(x, fit, focus):
            return Point(np.nan, x, deviance, 0.0, state), np.nan
        at, free = self._constraint.contract(x)
        if focus.kind == "beta":
            step = float(np.sqrt(fit.vcov[focus.index, focus.index]))
        else:
            normal, C = self._constraint.normal(x), inverse_hessian(H)[0]
            step = float(np.sqrt(max(normal @ C @ normal, 0.0)))
            if full.axes.held is not None and isinstance(self._constraint, Entry):
                step = max(step, self._constraint.reach(x, np.sqrt(C.diagonal())))
        if not 0.0 < step < np.inf:
            step = max(abs(at), 1.0 / full.axes.factor)
        if focus.kind == "scale":
            step = min(step, LONGEST_LOG)
        low, high = self.bounds
        return Point(min(max(at, low), high), free, deviance, 0.0, state), step

    def _without_correlation(self, x: np.ndarray, fit: Fit, focus: Focus) -> bool:
        axes, first = self._deviance.axes, self._deviance.axes.place
        if axes.held is not None:
            return bool(axes.plain.void(x[: axes.plain.n_par])[first])
        entries = x[[first, first + 1, first + fit.terms[focus.index].structure.size]]
        unit = float(axes.units(x[: axes.plain.n_par])[first])
        return bool(min(abs(entries[0]), np.hypot(*entries[1:])) < VANISHED * unit)

    def solve(self, at: float, free: np.ndarray) -> Point:
        """Minimize over all other parameters, from ``free`` (m,).

        Raises
        ------
        FitError
            If the criterion cannot be computed near ``at``.
        """
        self._held, self._pinned = float(at), None
        if isinstance(self._constraint, Angle):
            self._constraint.hold(self._held)
        point = self._searched(free)
        if self._signed is None:
            return point
        first, second = self._signed
        x = self._constraint.expand(self._held, point.free)
        r = point.free[int(np.flatnonzero(self._constraint.free == second)[0])]
        if x[first] * r >= 0.0:
            return point
        # A standard deviation has gone through zero, which turns the correlation's sign: the
        # minimum is where one of the two is zero.
        points = []
        for pinned in self._signed:
            self._pinned = int(np.flatnonzero(self._constraint.free == pinned)[0])
            points.append(self._searched(free))
        return min(points, key=lambda p: p.deviance)

    def _searched(self, free: np.ndarray) -> Point:
        if self._pinned is not None:
            free = np.delete(free, self._pinned)
        result = newton(self, free)
        if not np.array_equal(self._slope_at, result.par):
            self.value(result.par)
            self.derivatives()
        whole = self._whole(result.par)
        state = self._deviance.state(self._constraint.expand(self._held, whole))
        return Point(self._held, whole, result.objective, self._slope, state)

    # What the search needs to know

    def _whole(self, t: np.ndarray) -> np.ndarray:
        return t if self._pinned is None else np.insert(t, self._pinned, 0.0)

    def value(self, par: np.ndarray) -> float:
        """Return the criterion at free parameters."""
        self._t = par
        self._x = self._constraint.expand(self._held, self._whole(par))
        return self._deviance.value(self._x)

    def derivatives(self) -> tuple[np.ndarray, np.ndarray]:
        """Return gradient and Hessian for the free parameters at the last value."""
        g, H = self._deviance.derivatives()
        g, H, self._slope = self._constraint.pull(self._x, g, H)
        self._slope_at = self._t
        if self._pinned is not None:
            g = np.delete(g, self._pinned)
            H = np.delete(np.delete(H, self._pinned, 0), self._pinned, 1)
        return g, H

    def rounding(self) -> float:
        """Return the size of rounding errors in the last value."""
        return self._deviance.rounding()

    def scale(self, par: np.ndarray) -> np.ndarray:
        """Return the size of a change of each free parameter that counts as large."""
        x = self._constraint.expand(self._held, self._whole(par))
        units = self._deviance.units(x)[self._constraint.free]
        return units if self._pinned is None else np.delete(units, self._pinned)


def without_either(fit: Fit, focus: Focus) -> Point | None:
    """Return the minimum where one of a correlation's two effects has no variance.

    Every correlation is as near to such a model as one likes, so that the profile of the
    correlation never rises above it. None where it cannot be computed.
    """
    points = []
    for column in fit.terms[focus.index].structure.beside(focus.row, focus.col):
        piece = HeldMinimum(fit, Focus("sd", focus.index, column, column))
        try:
            points.append(piece.solve(0.0, piece.origin.free))
        except FitError:
            continue
    return min(points, key=lambda p: p.deviance, default=None)


class _Whole:
    """The full deviance, nothing held."""

    def __init__(self, full: GeneralizedDeviance):
        self.value, self.derivatives, self.scale = full.value, full.derivatives, full.units
        self.rounding = full.rounding


def _constraint(
    full: LinearDeviance | GeneralizedDeviance, focus: Focus, fit: Fit
) -> tuple[Constraint, tuple[float, float]]:
    """Return how the parameter is held, and the bounds of its coordinate."""
    axes, size, anywhere = full.axes, full.size, (-np.inf, np.inf)
    k, place = axes.plain.n_par, axes.place
    held = Held.itself(place) if axes.held is None else axes.held._replace(place=place)
    if focus.kind == "sd":
        if not full.over_sigma:
            return Entry(size, held, axes.factor), (0.0, np.inf)
        factor = axes.factor * float(np.exp(-full.log_unit))
        return Entry(size, held, factor, log_sigma=k), (0.0, np.inf)
    if focus.kind == "cor":
        structure = fit.terms[focus.index].structure
        if axes.held is None:
            return Angle(size, place + 1, place + structure.size), (-HALF_PI, HALF_PI)
        low, high = np.arcsin(structure.correlation_bounds)
        return Entry(size, held), (float(low), float(high))
    if focus.kind == "beta":
        shift = -full.beta_origin * full.beta_factor
        held = Held.itself(size - 1 if full.over_sigma else k)
        return Entry(size, held, full.beta_factor, shift), anywhere
    if full.over_sigma:
        return Entry(size, Held.itself(k), shift=-full.log_unit), anywhere
    # a dispersion is profiled as its root
    held = Held.itself(size - len(fit.family.auxiliary) + focus.index)
    return Entry(size, held, 2.0 if fit.family.has_dispersion else 1.0), anywhere
