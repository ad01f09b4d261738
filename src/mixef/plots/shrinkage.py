"""Estimates within groups beside those of the mixed model, which draws them together."""

from __future__ import annotations

from typing import Any

import numpy as np

from mixef import checks
from mixef.errors import ArgumentError
from mixef.estimation.fit import Fit
from mixef.inference.coef import coefficient_units
from mixef.inference.refits.within_groups import WithinGroups, within_groups
from mixef.plots.axes import axes_of, ink, level_ticks, with_unit
from mixef.plots.caterpillar import MOST_LABELS, height_of, text
from mixef.plots.within import within_panels

# More levels than these have lines instead of arrows.
FEW = 200


def shrinkage(
    fit: Fit, group: str | None, x: str | None, y: str | None, panels: bool, ax: Any = None
) -> Any:
    """Draw arrows from estimates within groups to the mixed model's; see ``fit.plot.shrinkage``."""
    panels = checks.flag(panels, "panels")
    widths = {g: sum(len(fit.terms[t].columns) for t in members) for g, members in
              fit.groups.items()}  # fmt: skip
    widest = max(widths, key=lambda g: widths[g])
    group = widest if group is None else checks.option(group, "group", widths)
    names = list(dict.fromkeys(name for t in fit.groups[group] for name in fit.terms[t].columns))
    x = names[0] if x is None else checks.option(x, "x", names)
    others = [name for name in names if name != x]
    if y is not None and not others:
        raise checks.refusal("y", y, f"None, as {group} has one coefficient, {x}")
    if others:
        y = others[0] if y is None else checks.option(y, "y", others)
    found, units = within_groups(fit, group), coefficient_units(fit)
    if panels:
        if ax is not None:
            raise ArgumentError("ax is one pair of axes, and panels=True makes a figure of its own")
        return within_panels(fit, found, [x] if y is None else [y, x])
    if y is None:
        return of_one(found, x, units, ax)
    return of_two(found, x, y, units, axes_of(ax, height=4.6))


def of_two(found: WithinGroups, x: str, y: str, units: dict[str, str], ax: Any) -> Any:
    """Draw the coefficients of two columns against each other."""
    start, end = found.within[[x, y]].to_numpy(), found.mixed[[x, y]].to_numpy()
    arrows(ax, found, start[:, 0], start[:, 1], end[:, 0], end[:, 1])
    ax.plot(*found.population[[x, y]], "P", color="C1", markersize=11, markeredgecolor=ink(),
            label="population", zorder=4)  # fmt: skip
    ax.set_xlabel(with_unit(x, units))
    ax.set_ylabel(with_unit(y, units))
    ax.set_title(found.group, fontsize="medium")
    ax.legend(fontsize="small", framealpha=0.8)
    return ax


def of_one(found: WithinGroups, x: str, units: dict[str, str], ax: Any) -> Any:
    """Draw the coefficients of one column level by level."""
    n = len(found.mixed)
    few = n <= MOST_LABELS
    ax = axes_of(ax, height=max(height_of(n, few) + 1.2, 3.0))
    order = np.argsort(found.mixed[x].to_numpy(), kind="stable")
    at = np.empty(n)
    at[order] = np.arange(n)
    arrows(ax, found, found.within[x].to_numpy(), at, found.mixed[x].to_numpy(), at)
    ax.axvline(found.population[x], linestyle="--", color=ink(), linewidth=1.0, label="population")
    ax.set_xlabel(with_unit(x, units))
    ax.set_ylabel(found.group if few else f"{found.group}: {n} levels")
    level_ticks(ax, [text(label) for label in found.mixed.index[order]] if few else [], True)
    ax.legend(fontsize="small", framealpha=0.8)
    return ax


def arrows(
    ax: Any, found: WithinGroups, x0: np.ndarray, y0: np.ndarray, x1: np.ndarray, y1: np.ndarray
) -> None:
    """Draw an arrow from each estimate within a group to that of the mixed model."""
    known, few = found.known, len(x0) <= FEW
    lost = int((~known).sum())
    label = "within groups" + (f" ({lost} undetermined)" if lost else "")
    x0, y0, dx, dy = x0[known], y0[known], (x1 - x0)[known], (y1 - y0)[known]
    ax.quiver(
        x0, y0, dx, dy, angles="xy", scale_units="xy", scale=1.0, color=ink(),
        alpha=0.6 if few else 0.25, width=0.003 if few else 0.001, headwidth=4.0 if few else 0.0,
        headlength=6.0 if few else 0.0, headaxislength=5.0 if few else 0.0, zorder=1.5,
    )  # fmt: skip
    ax.plot(
        x0, y0, "o", color="C0", markersize=5 if few else 2, fillstyle="none", label=label,
        markeredgewidth=1.0 if few else 0.5,
    )  # fmt: skip
    ax.plot(x1, y1, "o", color="C0" if few else ink(), markersize=5 if few else 1.5,
            label="mixed model")  # fmt: skip
