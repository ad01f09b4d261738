"""Profiles of two parameters: how each follows the other, and regions for both at once.

The trace of parameter j on i is the best value of j where i is held. On the scale of zeta the
region of a level is bounded by a contour ``d = d_min + tau^2``, that is

    zeta_i = tau cos(a - phi(a) / 2),     zeta_j = tau cos(a + phi(a) / 2),

an ellipse where phi is constant. A contour is level with an axis where it meets a trace, at
``zeta_i = -tau, tau`` and ``zeta_j = -tau, tau``, which says what phi is at four angles; a periodic
cubic spline goes through them (D. M. Bates and D. G. Watts, 1988, Nonlinear Regression Analysis
and Its Applications, appendix A6).
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

import numpy as np
import scipy

from mixef.inference.intervals.curves import Curve, Profile, coordinate, parameter

# Points of a contour, and of the table of a curve.
ANGLES, TABLE = 241, 1001


@dataclass(frozen=True, eq=False)
class Pair:
    """The profiles of two parameters, on the scale of zeta."""

    i: Curve
    j: Curve
    #: Each (m, 2): zeta of i and of j where i is held, and where j is held.
    trace_i: np.ndarray
    trace_j: np.ndarray

    def __repr__(self) -> str:
        return f"<Pair of {self.i.name} and {self.j.name}>"

    @cached_property
    def _lines(self) -> tuple[scipy.interpolate.PPoly | None, scipy.interpolate.PPoly | None]:
        """The traces as functions of the zeta that is held."""
        return _line(self.trace_i), _line(self.trace_j[:, ::-1])

    def contour(self, tau: float) -> np.ndarray:
        """Return points (k, 2) of the contour where the deviance is tau^2 above its minimum.

        In zeta of i and of j. NaN where a trace cannot be followed.
        """
        on_i, on_j = self._lines
        if on_i is None or on_j is None:
            return np.full((ANGLES, 2), np.nan)
        # phi where zeta_i is tau and -tau, and where zeta_j is
        right, left = _angle(on_i(tau) / tau), _angle(-on_i(-tau) / tau)
        top, bottom = _angle(on_j(tau) / tau), _angle(-on_j(-tau) / tau)
        at = np.array([-0.5 * top, 0.5 * right, np.pi - 0.5 * bottom, np.pi + 0.5 * left])
        phi = np.array([top, right, bottom, left])
        angles = np.linspace(-0.5 * top, 2.0 * np.pi - 0.5 * top, ANGLES)
        if np.diff(at).min() < 1e-6:  # one parameter is a function of the other
            width = np.full(ANGLES, phi.mean())
        else:
            at, phi = np.append(at, at[0] + 2.0 * np.pi), np.append(phi, phi[0])
            width = scipy.interpolate.CubicSpline(at, phi, bc_type="periodic")(angles)
        return tau * np.cos(np.column_stack([angles - 0.5 * width, angles + 0.5 * width]))


def _angle(cosine: float) -> float:
    return float(np.arccos(np.clip(cosine, -1.0, 1.0)))


def _line(trace: np.ndarray) -> scipy.interpolate.PPoly | None:
    """Return the second zeta as a smooth function of the first, straight beyond its ends.

    None where there are less than two points.
    """
    held, other = trace[np.isfinite(trace).all(axis=1)].T
    held, first = np.unique(held, return_index=True)
    other = other[first]
    if len(held) < 2:
        return None
    inner = scipy.interpolate.PchipInterpolator(held, other)
    slopes = inner(held[[0, -1]], 1)
    reach = 10.0 * (1.0 + np.abs(held).max())
    far = np.array([held[0] - reach, held[-1] + reach])
    ends = other[[0, -1]] + slopes * (far - held[[0, -1]])
    x = np.concatenate([far[:1], held, far[1:]])
    y = np.concatenate([ends[:1], other, ends[1:]])
    slope = np.concatenate([slopes[:1], inner(held, 1), slopes[1:]])
    return scipy.interpolate.CubicHermiteSpline(x, y, slope)


def pair_of(profile: Profile, i: int, j: int) -> Pair:
    """Return the profiles of the curves i and j of a profile."""
    held, other = profile.curves[i], profile.curves[j]
    return Pair(held, other, _trace(profile, held, other), _trace(profile, other, held)[:, ::-1])


def _trace(profile: Profile, held: Curve, other: Curve) -> np.ndarray:
    """Return zeta of the parameter that is held, and of the other one (m, 2)."""
    values = held.others[:, profile.names.index(other.name)]
    return np.column_stack([held.zeta, zeta_of(other, values)])


def zeta_of(curve: Curve, values: np.ndarray) -> np.ndarray:
    """Return zeta at values of the parameter itself; at an end of the curve, that of the end."""
    at = coordinate(curve.kind, values)
    if len(curve.at):
        span = 1e-6 * (curve.at[-1] - curve.at[0])
        near = (at > curve.at[0] - span) & (at < curve.at[-1] + span)
        at = np.where(near, np.clip(at, curve.at[0], curve.at[-1]), at)
    return curve.zeta_at(at)


def values_of(profile: Profile, curve: Curve, zeta: np.ndarray) -> np.ndarray:
    """Return values of a parameter, on the profile's scale, at zeta; NaN beyond the curve.

    They are interpolated in a table, which is as good as a picture needs.
    """
    if len(curve.at) < 2:
        return np.full(np.shape(zeta), np.nan)
    at = np.linspace(curve.at[0], curve.at[-1], TABLE)
    rising = curve.zeta_at(at)
    up = rising > 0
    rising = np.where(up, np.maximum.accumulate(rising), rising)
    rising = np.where(up, rising, np.minimum.accumulate(rising[::-1])[::-1])
    found = np.interp(zeta, rising, at, left=np.nan, right=np.nan)
    return parameter(curve.kind, found, profile.scale)
