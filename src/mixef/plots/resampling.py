"""Pictures of what was simulated: bootstrap replicates, and power over sizes of the sample."""

from __future__ import annotations

from typing import Any

import numpy as np
import scipy

from mixef import checks
from mixef.errors import ArgumentError
from mixef.plots.axes import axes_of, grid_of, ink, key, panels, reference_line, series

# The most statistics that are drawn at once, and the most bars of one.
MOST, BARS = 16, 40
# What the sizes of a sample stand before, in the frame of a power.
AFTER = ("nobs", "power", "conf_low", "conf_high", "n", "failures")
USUAL_POWER = 0.8


def bootstrap(boot: Any, which: Any, level: float, type: str, ax: Any = None) -> Any:
    """Draw the replicates of each statistic; see the method ``plot`` of a bootstrap."""
    limits, known = boot.confint(level, type), list(boot.t0.index)
    names = known if which is None else checks.names(which, "which")
    places = [known.index(checks.key(name, "which", known)) for name in names]
    if not 0 < len(places) <= MOST:
        raise ArgumentError(
            f"there are {len(places)} statistics to draw; expected 1 to {MOST}: name some "
            "with which="
        )
    if ax is not None and len(places) > 1:
        raise ArgumentError(
            f"ax is for one statistic, and there are {len(places)}; leave it out, or name one with "
            "which="
        )
    if ax is not None:
        axes = np.array([axes_of(ax)])
        figure = ax
    else:
        rows, columns = grid_of(len(places))
        figure, axes = panels(rows, columns, max(5.6, 2.7 * columns), max(4.0, 2.3 * rows))
        for own in axes.flat[len(places) :]:
            own.remove()
    for own, place in zip(axes.flat, places, strict=False):
        values = boot.replicates.iloc[:, place].to_numpy(dtype=float)
        values = values[np.isfinite(values)]
        if len(values):
            own.hist(
                values, _bars(len(values)), color="C0", alpha=0.5, edgecolor=ink(), linewidth=0.5
            )
        own.axvline(boot.t0.iloc[place], color=ink(), linewidth=1.5, label="estimate")
        for end in limits.iloc[place]:
            if np.isfinite(end):
                own.axvline(end, color=ink(), linestyle="--", linewidth=1)
        own.set_xlabel(str(known[place]))
        own.set_ylabel("replicates")
    for own in axes[:, 1:].flat if ax is None else ():
        own.set_ylabel("")
    return figure


def null_distribution(test: Any, ax: Any = None) -> Any:
    """Draw the statistics under the null hypothesis; see the method ``plot`` of a `pb_test`."""
    ax, values = axes_of(ax), test.reference[np.isfinite(test.reference)]
    statistic, df = test.frame.loc["LRT", ["statistic", "df"]].astype(float)
    if len(values):
        ax.hist(values, _bars(len(values)), density=True, color="C0", alpha=0.5, edgecolor=ink(),
                linewidth=0.5, label="simulated under the null")  # fmt: skip
    # a density of one degree of freedom has no bound at zero
    x = np.linspace(0.0, max(statistic, *values, 2.0 * df), 202)[1:]
    log_density = (0.5 * df - 1.0) * np.log(0.5 * x) - 0.5 * x - scipy.special.gammaln(0.5 * df)
    ax.plot(x, 0.5 * np.exp(log_density), "--", color=ink(), label=f"chi-square, df = {df:g}")
    ax.axvline(statistic, color=ink(), linewidth=1.5, label="observed")
    top = max([patch.get_height() for patch in ax.patches], default=1.0)
    ax.set_ylim(0.0, 1.2 * top)
    ax.set(xlabel="Likelihood-ratio statistic", ylabel="density")
    key(ax)
    return ax


def _bars(n: int) -> int:
    return int(np.clip(2.0 * n ** (1 / 3), 5, BARS))


def power(power: Any, ax: Any = None) -> Any:
    """Draw power against the size of the sample; see the method ``plot`` of a power."""
    frame, ax = power.frame, axes_of(ax)
    sizes = [name for name in frame.columns if name not in AFTER]
    varied = [name for name in sizes if frame[name].nunique() > 1]
    x, others = varied[0] if varied else "nobs", varied[1:]
    groups = frame.groupby(others, sort=True) if others else [((), frame)]
    reference_line(ax, USUAL_POWER)
    for i, (sizes_of, part) in enumerate(groups):
        part = part.sort_values(x)
        y = part["power"].to_numpy()
        gaps = np.array([y - part["conf_low"], part["conf_high"] - y])
        label = ", ".join(f"{k} = {v}" for k, v in zip(others, sizes_of, strict=True)) or None
        ax.errorbar(part[x], y, yerr=gaps, capsize=3, label=label, **series(i))
    if others:
        key(ax)
    ax.xaxis.get_major_locator().set_params(integer=True)
    ax.set_ylim(-0.02, 1.02)
    ax.set_xlabel("Number of rows" if x == "nobs" else f"{x} (number)")
    ax.set_ylabel(f"Power for {power.test} (alpha = {power.alpha:g})")
    return ax
