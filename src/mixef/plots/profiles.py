"""Likelihood profiles: zeta, densities, and the profiles of pairs."""

from __future__ import annotations

from itertools import combinations, product
from typing import Any

import numpy as np
import scipy

from mixef import checks
from mixef.errors import ArgumentError
from mixef.estimation.fit import Fit
from mixef.inference.intervals.curves import Curve, Profile, parameter
from mixef.inference.intervals.pairs import Pair, pair_of, values_of
from mixef.inference.intervals.profile import profile_curves
from mixef.inference.tails import normal_quantile
from mixef.plots.axes import axes_of, grid_of, ink, panels, reference_line

LEVELS = (0.5, 0.8, 0.9, 0.95, 0.99)
KINDS = ("zeta", "density", "pairs")
# Points of a curve, and the most parameters whose pairs are drawn.
POINTS, PAIRS = 201, 10
# How far profiles go: to the interval, or to the region of two, of the largest of these levels.
NEAR, FAR = 0.01, 0.002
# How near to 1 the density of a correlation is drawn; the characters of a name in one line.
LAST = 0.999
LINE = 22


def of_fit(fit: Fit, kind: str, which: Any, levels: Any, ax: Any = None) -> Any:
    """Profile parameters of a fit and draw them; see ``fit.plot.profile_zeta``."""
    _levels(levels)
    if ax is not None:
        axes_of(ax)
    made = profile_curves(fit, which, FAR if kind == "pairs" else NEAR)
    return profile(made, kind, levels, ax)


def profile(profile: Profile, kind: str, levels: Any, ax: Any = None) -> Any:
    """Draw a profile; see the method ``plot`` of a profile."""
    kind = checks.option(kind, "kind", KINDS)
    if kind == "pairs":
        if ax is not None:
            raise ArgumentError("ax is for one picture, and pairs have several; leave it out")
        return _pairs(profile, _limits(profile, levels, regions=True))
    limits = _limits(profile, levels, regions=False)
    n = len(profile.curves)
    draw = _zeta if kind == "zeta" else _density
    if ax is not None:
        if n > 1:
            raise ArgumentError(
                f"ax is for the profile of one parameter, and there are {n}; leave it out, or "
                "profile one with which="
            )
        draw(axes_of(ax), profile, profile.curves[0], limits)
        return ax
    rows, columns = grid_of(n)
    size = max(5.6, 2.9 * columns), max(4.0, 2.5 * rows)
    figure, axes = panels(rows, columns, *size, sharey=kind == "zeta")
    for own, curve in zip(axes.flat, profile.curves, strict=False):
        draw(own, profile, curve, limits)
    for own in axes.flat[n:]:
        own.remove()
    for own in axes[:, 1:].flat if kind == "zeta" else ():
        own.set_ylabel("")
    return figure


def _limits(profile: Profile, levels: Any, regions: bool) -> dict[float, float]:
    """Return zeta, or tau of regions of two parameters, by levels that the profile comes to."""
    out = {}
    for level in _levels(levels):
        zeta = np.sqrt(scipy.special.chdtri(2, 1.0 - level)) if regions else normal_quantile(level)
        if zeta <= profile.cutoff * (1.0 + 1e-9):
            out[level] = float(zeta)
        elif levels is not None:
            needed = 2.0 * scipy.special.ndtr(-zeta)
            raise ArgumentError(
                f"levels has {level:g}, but the profile goes to {profile.cutoff:.4g} in zeta, and "
                f"{'a region' if regions else 'an interval'} of this level to {zeta:.4g}; profile "
                f"with alphamax={needed:.2g} or less"
            )
    return out


def _levels(given: Any) -> list[float]:
    """Return levels that can be drawn, ascending."""
    levels = LEVELS if given is None else checks.numbers(given, "levels").ravel().tolist()
    return sorted(checks.level(level, "a level") for level in levels)


def _label(name: str) -> str:
    """Return a name in two lines where it is long."""
    head, bar, tail = name.partition("|")
    return f"{head}\n{bar} {tail}" if bar and len(name) > LINE else name


def _drawn(profile: Profile, curve: Curve) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Return coordinates, values on the profile's scale, and zeta, close enough for a curve."""
    at = np.linspace(curve.at[0], curve.at[-1], POINTS)
    values = parameter(curve.kind, at, profile.scale)
    seen = np.isfinite(values)
    return at[seen], values[seen], curve.zeta_at(at[seen])


def _empty(ax: Any, profile: Profile, curve: Curve) -> bool:
    """Say where there is nothing to draw."""
    ax.set_xlabel(_label(profile.label(curve.name)))
    if len(curve.at) > 1:
        return False
    ax.text(0.5, 0.5, "not defined", ha="center", va="center", transform=ax.transAxes)
    return True


def _zeta(ax: Any, profile: Profile, curve: Curve, limits: dict[float, float]) -> None:
    """Draw zeta, the line that it follows where Wald's interval is right, and intervals."""
    ax.set_ylabel("zeta")
    if _empty(ax, profile, curve):
        return
    _, values, zeta = _drawn(profile, curve)
    ax.plot(values, zeta, color="C0")
    at = parameter(curve.kind, curve.at, profile.scale)
    seen = np.isfinite(at)
    ax.plot(at[seen], curve.zeta[seen], "o", color="C0", markersize=3)
    name = profile.label(curve.name)
    middle = np.atleast_1d(profile.value(name, [0.0]))
    slope = profile.density(name, middle) * np.sqrt(2.0 * np.pi)
    if np.isfinite(middle).all() and np.isfinite(slope).all():
        ax.axline((middle[0], 0.0), slope=slope[0], color=ink(), linestyle=":", linewidth=1)
    reference_line(ax)
    for z in limits.values():
        for end in (-z, z):
            place = values_of(profile, curve, np.array(end))
            if np.isfinite(place):
                ax.plot([place, place], [0.0, end], color=ink(), linewidth=0.8)
    top = 1.08 * profile.cutoff
    ax.set_ylim(-top, top)
    pad = 0.05 * np.ptp(values)
    ax.set_xlim(values.min() - pad, values.max() + pad)


def _density(ax: Any, profile: Profile, curve: Curve, limits: dict[float, float]) -> None:
    """Draw the density that makes zeta normal, with the estimate and intervals."""
    ax.set_ylabel("density")
    if _empty(ax, profile, curve):
        return
    name = profile.label(curve.name)
    _, values, _ = _drawn(profile, curve)
    density = profile.density(name, values)
    # that of a correlation has no bound at -1 and 1
    seen = np.isfinite(density) & ((curve.kind != "cor") | (np.abs(values) < LAST))
    if not seen.any():
        return
    values, density = values[seen], density[seen]
    ax.plot(values, density, color="C0")
    ax.set_ylim(0.0, 1.05 * density.max())
    for z in (0.0, *limits.values()):
        places = np.atleast_1d(values_of(profile, curve, np.array([-z, z])))
        places = places[np.isfinite(places)]
        places = places[np.abs(places) < LAST] if curve.kind == "cor" else places
        heights = profile.density(name, places)
        dashed = {"color": ink(), "linestyle": "-" if z else "--", "linewidth": 0.8}
        ax.vlines(places, 0.0, heights, **dashed)


def _pairs(profile: Profile, limits: dict[float, float]) -> Any:
    """Draw traces and contours of all pairs: values below the diagonal, zeta above it."""
    curves = [curve for curve in profile.curves if len(curve.at) > 1]
    n = len(curves)
    if not 2 <= n <= PAIRS:
        raise ArgumentError(
            f"the profile has {n} parameter{'s' * (n != 1)}; expected 2 to {PAIRS} for their "
            "pairs: profile others with which="
        )
    side = max(5.6, 1.7 * n)
    figure, axes = panels(n, n, side, side)
    places = [profile.curves.index(curve) for curve in curves]
    spans = [_drawn(profile, curve)[1] for curve in curves]
    top = 1.05 * max(limits.values(), default=profile.cutoff)
    for a, b in product(range(n), repeat=2):
        if a == b:
            _name(axes[a, a], profile.label(curves[a].name))
        else:
            _ticks(axes[a, b], a, b, n)
    for a, b in combinations(range(n), 2):
        pair = pair_of(profile, places[a], places[b])
        lines = [pair.contour(tau) for tau in limits.values()]
        _pair(axes[b, a], profile, pair, lines, on_zeta=False)
        axes[b, a].set(xlim=_widened(spans[a]), ylim=_widened(spans[b]))
        _pair(axes[a, b], profile, pair, lines, on_zeta=True)
        axes[a, b].set(xlim=(-top, top), ylim=(-top, top))
    handles = axes[1, 0].get_legend_handles_labels()
    shown = ", ".join(f"{100 * level:g}" for level in limits)
    figure.legend(
        *handles, loc="outside upper center", ncols=3, frameon=False, fontsize="small",
        title=f"below: parameters, above: zeta; regions of {shown} %",
    )  # fmt: skip
    return figure


def _pair(ax: Any, profile: Profile, pair: Pair, contours: list[np.ndarray], on_zeta: bool) -> None:
    """Draw the traces and contours of two parameters: the first to the right, or on zeta upwards.

    So each column of panels has one parameter to the right, and each row one upwards.
    """

    def shown(points: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        columns = zip((pair.i, pair.j), points.T, strict=True)
        values = np.array([values_of(profile, curve, part) for curve, part in columns])
        out = points.T if on_zeta else values
        x, y = np.where(np.isfinite(values).all(axis=0), out, np.nan)
        return (y, x) if on_zeta else (x, y)

    for place, points in enumerate(contours):
        label = "region of both" if place == 0 else None
        ax.plot(*shown(points), color=ink(), linewidth=0.8, label=label)
    traces = (pair.trace_j, pair.trace_i) if on_zeta else (pair.trace_i, pair.trace_j)
    names = ("best y for each x", "best x for each y")
    for trace, line, name, color in zip(traces, ("-", "--"), names, ("C0", "C1"), strict=True):
        ax.plot(*shown(trace), line, color=color, linewidth=1.3, label=name)


def _widened(values: np.ndarray) -> tuple[float, float]:
    pad = 0.03 * float(np.ptp(values))
    return float(values.min()) - pad, float(values.max()) + pad


def _name(ax: Any, name: str) -> None:
    """Write the name of a parameter on the diagonal."""
    head, bar, tail = name.partition("|")
    lines = head.replace(".", ".\n") + (f"\n{bar} {tail}" if bar else "")
    ax.text(0.5, 0.5, lines, ha="center", va="center", transform=ax.transAxes, fontsize="small")
    ax.set_xticks([])
    ax.set_yticks([])


def _ticks(ax: Any, a: int, b: int, n: int) -> None:
    """Keep the labels of ticks at the edges of the figure."""
    ax.tick_params(labelsize="x-small")
    ax.locator_params(nbins=4)
    if b > a:
        ax.tick_params(
            bottom=False, left=False, top=True, right=True, labelbottom=False, labelleft=False,
            labeltop=a == 0, labelright=b == n - 1,
        )  # fmt: skip
    else:
        ax.tick_params(labelbottom=a == n - 1, labelleft=b == 0)
