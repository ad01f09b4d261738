"""Profile curves: signed roots of the deviance as smooth functions of one parameter."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any, Literal

import numpy as np
import pandas as pd
import scipy

from mixef import checks
from mixef.errors import ArgumentError
from mixef.inference.tails import limit_names, normal_quantile
from mixef.late import picture
from mixef.terms.nodes import unquoted
from mixef.text.numbers import format_common
from mixef.text.printed import PrintedTable
from mixef.text.tables import Table

Kind = Literal["sd", "cor", "sigma", "shape", "beta"]
Scale = Literal["natural", "log", "variance"]
End = Literal["reached", "bound", "open", "failed"]
# A profile has exact points where the usual interval ends.
USUAL = 0.95
# Steps after which an interval that is halved at each is down to rounding.
MOST_STEPS = 60


def coordinate(kind: Kind, values: np.ndarray, scale: Scale = "natural") -> np.ndarray:
    """Return where a profile has values of a parameter: NaN outside the parameter's range.

    A standard deviation and a coefficient are their own coordinates, a correlation has its arc
    sine, sigma and a shape have their log.
    """
    values = np.asarray(values, dtype=float)
    with np.errstate(invalid="ignore", divide="ignore", over="ignore"):
        if kind == "cor":
            return np.arcsin(values)
        if kind == "beta" or (scale == "log" and kind != "sd"):
            return values
        if scale == "log":
            return np.exp(values)
        if scale == "variance" and kind != "shape":
            values = np.sqrt(values)
        return np.where(values >= 0.0, values, np.nan) if kind == "sd" else np.log(values)


def parameter(kind: Kind, at: np.ndarray, scale: Scale = "natural") -> np.ndarray:
    """Return the values of a parameter at coordinates, the inverse of `coordinate`."""
    at = np.asarray(at, dtype=float)
    if kind in ("sd", "cor", "beta"):
        return rescaled(kind, np.sin(at) if kind == "cor" else at, scale)
    with np.errstate(over="ignore"):
        return at if scale == "log" else rescaled(kind, np.exp(at), scale)


def coordinate_slope(kind: Kind, values: np.ndarray, scale: Scale = "natural") -> np.ndarray:
    """Return the derivative of `coordinate` for the parameter, at values of it."""
    at = coordinate(kind, values, scale)
    with np.errstate(invalid="ignore", divide="ignore", over="ignore"):
        if kind == "cor":
            return 1.0 / np.cos(at)
        if kind == "beta":
            return np.ones_like(at)
        if scale == "log":
            return np.exp(values) if kind == "sd" else np.ones_like(at)
        by_value = np.ones_like(at) if kind == "sd" else 1.0 / np.exp(at)
        if scale == "variance" and kind != "shape":
            return by_value * 0.5 / np.sqrt(values)
        return by_value


def rescaled(kind: Kind, values: np.ndarray, scale: Scale) -> np.ndarray:
    """Return values of a parameter as logs or squares, where its kind has them."""
    if scale == "log" and kind in ("sd", "sigma", "shape"):
        with np.errstate(divide="ignore"):
            return np.log(values)
    if scale == "variance" and kind in ("sd", "sigma"):
        return values**2
    return values


@dataclass(frozen=True, eq=False)
class Curve:
    """The profile of one parameter."""

    name: str
    kind: Kind  # {"sd", "cor", "sigma", "shape", "beta"}
    # (m,): coordinates (`coordinate`), ascending. Empty for a correlation that is not defined.
    at: np.ndarray
    zeta: np.ndarray  # (m,): signed root of the deviance above its minimum
    slope: np.ndarray  # (m,): derivative of zeta for the coordinate
    others: np.ndarray  # (m, K): all parameters at the constrained minimum
    # Why the curve stops below and above: "reached" (zeta came to where it should), "bound" (of the
    # parameter), "open" (zeta levels off, and never comes there), or "failed"
    ends: tuple[End, End]
    range: tuple[float, float] = (-np.inf, np.inf)  # The bounds of the parameter itself

    def __repr__(self) -> str:
        return f"<Curve of {self.name}: {len(self.at)} points>"

    def zeta_at(self, at: np.ndarray) -> np.ndarray:
        """Return zeta at coordinates by cubic Hermite interpolation, NaN outside the curve."""
        at = np.asarray(at, dtype=float)
        if len(self.at) < 2:
            known = self.at[0] if len(self.at) else np.nan
            return np.where(at == known, 0.0, np.nan)
        inside = (at >= self.at[0]) & (at <= self.at[-1])
        at = np.where(inside, at, self.at[0])
        i = np.clip(np.searchsorted(self.at, at, side="right") - 1, 0, len(self.at) - 2)
        return np.where(inside, self._cubic(i, at), np.nan)

    def _cubic(self, i: np.ndarray, at: np.ndarray) -> np.ndarray:
        """Return the Hermite polynomial of piece i at coordinates."""
        h = self.at[i + 1] - self.at[i]
        w = (at - self.at[i]) / h
        rise = self.zeta[i + 1] - self.zeta[i]
        left, right = h * self.slope[i] - rise, rise - h * self.slope[i + 1]
        return self.zeta[i] + w * rise + w * (1.0 - w) * ((1.0 - w) * left + w * right)

    def slope_at(self, at: np.ndarray) -> np.ndarray:
        """Return the derivative of `zeta_at` for the coordinate, NaN outside the curve."""
        at = np.asarray(at, dtype=float)
        if len(self.at) < 2:
            return np.full(at.shape, np.nan)
        inside = (at >= self.at[0]) & (at <= self.at[-1])
        at = np.where(inside, at, self.at[0])
        i = np.clip(np.searchsorted(self.at, at, side="right") - 1, 0, len(self.at) - 2)
        h = self.at[i + 1] - self.at[i]
        w, rise = (at - self.at[i]) / h, self.zeta[i + 1] - self.zeta[i]
        left, right = h * self.slope[i] - rise, rise - h * self.slope[i + 1]
        bend = (1.0 - w) * left + w * right
        slope = rise + (1.0 - 2.0 * w) * bend + w * (1.0 - w) * (right - left)
        return np.where(inside, slope / h, np.nan)

    def at_zeta(self, zeta: np.ndarray) -> np.ndarray:
        """Return the coordinates where zeta takes values, NaN where the curve does not come there.

        Where zeta falls again, it is the crossing next to the estimate.
        """
        zeta = np.asarray(zeta, dtype=float)
        out = np.full(zeta.shape, np.nan)
        flat = zeta.ravel()
        for place, target in enumerate(flat):
            out.ravel()[place] = self._crossing(float(target))
        return out

    def _crossing(self, target: float) -> float:
        if not len(self.at) or not np.isfinite(target):
            return np.nan
        origin = int(np.argmin(np.abs(self.zeta)))
        if target == self.zeta[origin]:
            return float(self.at[origin])
        if target > 0:
            beyond = np.flatnonzero(self.zeta[origin:] >= target)
            i = origin + int(beyond[0]) - 1 if len(beyond) else None
        else:
            beyond = np.flatnonzero(self.zeta[: origin + 1] <= target)
            i = int(beyond[-1]) if len(beyond) else None
        if i is None or i < 0 or i > len(self.at) - 2:
            return np.nan
        return _cubic_root(
            self.at[i], self.at[i + 1], self.zeta[i] - target, self.zeta[i + 1] - target,
            self.slope[i], self.slope[i + 1],
        )  # fmt: skip

    def interval(self, z: float, lower: bool) -> float:
        """Return the end of the interval ``|zeta| <= z``, as a value of the parameter.

        Where the profile ends at the parameter's bound before, or levels off, it is the bound. NaN
        where the curve stops short.
        """
        bound, end = self.range[0 if lower else 1], self.ends[0 if lower else 1]
        if not len(self.at):
            return bound
        found = float(self.at_zeta(np.array(-z if lower else z)))
        if np.isfinite(found):
            return float(parameter(self.kind, np.array(found)))
        return bound if end in ("bound", "open") else np.nan


@dataclass(frozen=True, eq=False, repr=False)
class Profile(PrintedTable):
    """Profiles of some parameters of a fit.

    Attributes
    ----------
    curves : tuple of Curve
    names : tuple of str
        Of all parameters, as in `to_frame`.
    kinds : tuple of str
    estimates : ndarray (K,)
        Of all parameters; by maximum likelihood.
    cutoff : float
        The absolute zeta that the curves come to.
    note : str
        What differs from the fit.
    scale : {"natural", "log", "variance"}
        How standard deviations and sigma are given.
    """

    curves: tuple[Curve, ...]
    names: tuple[str, ...]
    kinds: tuple[Any, ...]
    estimates: np.ndarray
    cutoff: float
    note: str = ""
    scale: Scale = "natural"

    @property
    def level(self) -> float:
        """The level of intervals that the curves come to."""
        return float(2.0 * scipy.special.ndtr(self.cutoff) - 1.0)

    def label(self, name: str) -> str:
        """Return what a parameter is called on this scale."""
        kind = self.kinds[self.names.index(checks.key(name, "name", self.names))]
        if self.scale == "log" and kind in ("sd", "sigma", "shape"):
            return f"log({name})"
        if self.scale == "variance" and kind in ("sd", "sigma"):
            return f"({name})^2"
        return name

    def to_frame(self) -> pd.DataFrame:
        """Return one row a point: param, value, zeta, and all parameters at the optimum there."""
        parts = []
        for curve in self.curves:
            others = np.column_stack(
                [
                    rescaled(kind, column, self.scale)
                    for kind, column in zip(self.kinds, curve.others.T, strict=True)
                ]
            )
            part = pd.DataFrame(others, columns=[self.label(name) for name in self.names])
            part.insert(0, "param", self.label(curve.name))
            part.insert(1, "value", parameter(curve.kind, curve.at, self.scale))
            part.insert(2, "zeta", curve.zeta)
            parts.append(part)
        return pd.concat(parts, ignore_index=True)

    def zeta(self, name: str, values: Any) -> np.ndarray:
        """Return zeta at values of a parameter, on this scale; NaN outside of what was profiled."""
        curve, values = self._curve(name), checks.numbers(values, "values")
        return curve.zeta_at(coordinate(curve.kind, values, self.scale))

    def value(self, name: str, zeta: Any) -> np.ndarray:
        """Return the values of a parameter at given zeta, the inverse of `zeta`."""
        curve = self._curve(name)
        return parameter(curve.kind, curve.at_zeta(checks.numbers(zeta, "zeta")), self.scale)

    def density(self, name: str, values: Any) -> np.ndarray:
        """Return the density of a parameter, on this scale, that makes zeta standard normal.

        It is ``phi(zeta) dzeta / dvalue``, and NaN outside of what was profiled.
        """
        curve, values = self._curve(name), checks.numbers(values, "values")
        at = coordinate(curve.kind, values, self.scale)
        normal = np.exp(-0.5 * curve.zeta_at(at) ** 2) / np.sqrt(2.0 * np.pi)
        with np.errstate(invalid="ignore"):
            by_value = curve.slope_at(at) * coordinate_slope(curve.kind, values, self.scale)
            density: np.ndarray = normal * by_value
        return density

    def plot(self, kind: str = "zeta", levels: Any = None, ax: Any = None) -> Any:
        """Draw the profile: zeta, densities, or the profiles of all pairs.

        Parameters
        ----------
        kind : {"zeta", "density", "pairs"}
            "zeta": zeta against the parameter, a straight line where Wald's interval is right.
            "density": the density of each parameter that makes zeta standard normal. "pairs": for
            two parameters, how the best value of each follows the other (profile traces), and
            regions of both at once (contours), as parameters below the diagonal, and as zeta
            above it.
        levels : list of float, optional
            Of the intervals, or of the regions, that are drawn; 0.5, 0.8, 0.9, 0.95 and 0.99 as
            far as the profile goes. A region asks for more than an interval: one of 0.99 for a
            profile with ``alphamax=0.002``.
        ax : matplotlib.axes.Axes, optional
            Where to draw a profile of one parameter; by default a new figure.

        Returns
        -------
        matplotlib.figure.Figure
            With a panel a parameter, or a pair; the Axes for ``ax``.

        Raises
        ------
        ArgumentError
            For a kind that there is not, for ``ax`` beside several panels, for pairs of less than
            2 parameters or more than 10.

        References
        ----------
        D. M. Bates and D. G. Watts (1988), Nonlinear Regression Analysis and Its Applications,
        Wiley, section 6.1 and appendix A6.

        Examples
        --------
        >>> from mixef import lmer, load_dataset
        >>> fit = lmer("Yield ~ 1 + (1 | Batch)", load_dataset("Dyestuff"), REML=False)
        >>> figure = fit.profile().plot()
        >>> [ax.get_xlabel() for ax in figure.axes]
        ['sd_(Intercept)|Batch', 'sigma', '(Intercept)']
        """
        return picture("profiles.profile")(self, kind, levels, ax)

    def confint(self, level: float = USUAL) -> pd.DataFrame:
        """Return the intervals ``|zeta| <= z`` (k, 2), one row a parameter.

        Where a profile ends at a bound (a standard deviation of zero, a correlation of one), or
        levels off, before it comes to z, the bound is the end of the interval.

        Raises
        ------
        ValueError
            If the profile does not go as far as the level asks for.
        """
        level = checks.level(level)
        z = normal_quantile(level)
        if z > self.cutoff * (1.0 + 1e-9):
            raise ArgumentError(
                f"level is {level:g}, but the profile goes to the level {self.level:.4g} only; "
                f"profile with alphamax={1.0 - level:.3g}"
            )
        rows = [
            rescaled(c.kind, np.array([c.interval(z, True), c.interval(z, False)]), self.scale)
            for c in self.curves
        ]
        index = [self.label(curve.name) for curve in self.curves]
        return pd.DataFrame(np.array(rows), index=index, columns=limit_names(level))

    def log(self) -> Profile:
        """Return the same profile with standard deviations, sigma and a shape as logs."""
        return replace(self, scale="log")

    def variance(self) -> Profile:
        """Return the same profile with standard deviations and sigma squared."""
        return replace(self, scale="variance")

    def to_table(self, digits: int = 5) -> Table:
        """Return estimates and intervals as a table: 95 %, or as far as the profile goes."""
        digits = checks.digits(digits)
        z = normal_quantile(USUAL)
        level = USUAL if z <= self.cutoff else self.level
        intervals = self.confint(level)
        middle = [self.value(curve.name, 0.0) for curve in self.curves]
        cells = np.column_stack([np.array(middle, dtype=float), intervals.to_numpy()])
        rows = [
            [cell.strip() for cell in format_common([round(x, 12) for x in row], digits)]
            for row in cells.tolist()
        ]
        title = "Likelihood profile" + (f" {self.note}" if self.note else "")
        return Table(
            ("Estimate", *limit_names(level)), rows, index=list(intervals.index), title=title
        )

    def _curve(self, name: str) -> Curve:
        for curve in self.curves:
            wanted = unquoted(checks.text(name, "name"))
            if wanted in (unquoted(curve.name), unquoted(self.label(curve.name))):
                return curve
        known = ", ".join(self.label(curve.name) for curve in self.curves)
        raise ArgumentError(f"the profile has no parameter {name!r}; expected one of {known}")


def _cubic_root(
    low: float, high: float, f_low: float, f_high: float, d_low: float, d_high: float
) -> float:
    """Return a root of the Hermite cubic that rises through zero between two points.

    Newton's steps, and halvings where these would leave what is known to hold the root.
    """
    start, h = float(low), float(high) - float(low)
    rise = float(f_high) - float(f_low)
    left, right = h * float(d_low) - rise, rise - h * float(d_high)
    a, b, w = 0.0, 1.0, -float(f_low) / rise
    for _ in range(MOST_STEPS):
        bend = (1.0 - w) * left + w * right
        value = float(f_low) + w * rise + w * (1.0 - w) * bend
        a, b = (w, b) if value < 0.0 else (a, w)
        slope = rise + (1.0 - 2.0 * w) * bend + w * (1.0 - w) * (right - left)
        new = w - value / slope if slope > 0.0 else -1.0
        new = new if a < new < b else 0.5 * (a + b)
        if abs(new - w) < 1e-15:
            break
        w = new
    return start + w * h


def origin_slope(at: np.ndarray, zeta: np.ndarray, slope: np.ndarray, origin: int) -> float:
    """Return the slope of zeta at the estimate, where deviance and its slope are both zero.

    It is that of the polynomial through the estimate and zeta and its slope at two neighbours.
    """
    first = max(0, min(origin - 1, len(at) - 3))
    near = [i for i in range(first, min(first + 3, len(at))) if i != origin]
    if not near:
        return np.nan
    unit = max(abs(at[i] - at[origin]) for i in near)
    x = (at[near] - at[origin]) / unit
    degree = np.arange(1, 2 * len(near) + 1)
    rows = np.vstack([x[:, None] ** degree, degree * x[:, None] ** (degree - 1)])
    right = np.concatenate([zeta[near], slope[near] * unit])
    return float(np.linalg.solve(rows, right)[0] / unit)
