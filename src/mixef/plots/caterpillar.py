"""Conditional modes level by level, with their intervals."""

from __future__ import annotations

from typing import Any

import numpy as np
import scipy

from mixef import checks
from mixef.inference.coef import RandomEffects
from mixef.inference.tails import normal_quantile
from mixef.plots.axes import axes_of, ink, level_ticks, pyplot, reference_line, with_unit
from mixef.plots.chosen import chosen, refuse_one
from mixef.plots.points import hair

# Levels that get a label each, and inches: of one of them, of all of them, of a panel's width.
MOST_LABELS = 64
LINE, LEAST, MOST, WIDE = 0.16, 1.2, 3.6, 2.8


def caterpillar(
    modes: RandomEffects, group: str | None = None, term: str | None = None,
    order: str | None = None, level: float = 0.95, qq: bool = False, ax: Any = None,
) -> Any:  # fmt: skip
    """Draw conditional modes; see ``fit.plot.caterpillar``."""
    level, qq = checks.level(level), checks.flag(qq, "qq")
    keys = chosen({factor: list(frame) for factor, frame in modes.items()}, group, term)
    factors = {factor: [name for g, name in keys if g == factor] for factor, _ in keys}
    places = {factor: order_of(modes, factor, order) for factor in factors}
    if len(keys) == 1:
        labelled = not qq and len(modes[keys[0][0]]) <= MOST_LABELS
        own = axes_of(ax, height=max(height_of(len(modes[keys[0][0]]), labelled) + 0.8, 2.4))
        draw(own, modes, *keys[0], places[keys[0][0]], level, qq)
        return own
    refuse_one(keys, ax)
    heights = [height_of(len(modes[g]), not qq and len(modes[g]) <= MOST_LABELS) for g in factors]
    columns = max(map(len, factors.values()))
    figure = pyplot().figure(
        figsize=(max(WIDE * columns, 4.6) + 1.0, sum(heights) + 0.8 * len(heights)),
        layout="constrained",
    )
    grid = figure.add_gridspec(len(factors), columns, height_ratios=[h + 0.3 for h in heights])
    for i, (factor, names) in enumerate(factors.items()):
        for j, name in enumerate(names):
            own = figure.add_subplot(grid[i, j])
            draw(own, modes, factor, name, places[factor], level, qq, first=j == 0 or qq)
    return figure


def draw(
    ax: Any, modes: RandomEffects, group: str, name: str, order: np.ndarray, level: float,
    qq: bool, first: bool = True,
) -> None:  # fmt: skip
    """Draw the modes of one coefficient, levels (l,) from the bottom up in an order."""
    frame = modes[group]
    if qq:
        order = np.argsort(frame[name].to_numpy(), kind="stable")
    b, n = frame[name].to_numpy()[order], len(frame)
    at = scipy.special.ndtri((np.arange(n) + 0.5) / n) if qq else np.arange(n)
    few = n <= MOST_LABELS
    what = "Mode"
    if modes.condVar is not None:
        s = list(frame).index(name)
        sd = np.sqrt(np.maximum(modes.condVar[group][order, s, s], 0.0))
        half = normal_quantile(level) * sd
        ax.hlines(at, b - half, b + half, color="C0", linewidth=hair(n))
        what = f"Mode, {100 * level:g} % interval"
    ax.plot(b, at, "o", color="C0" if few else ink(), markersize=4 if few else 1.5)
    reference_line(ax, vertical=True)
    ax.set_title(with_unit(name, modes.units), fontsize="medium")
    ax.set_xlabel(what)
    if qq:
        ax.set_ylabel(f"Normal quantile, {group}")
        return
    ax.set_ylim(-0.7, n - 0.3)
    if few:
        level_ticks(ax, [text(label) for label in frame.index[order]] if first else [""] * n, True)
        ax.set_ylabel(group if first else "")
    else:
        ax.set_yticks([])
        ax.set_ylabel(f"{group}: {n} levels" if first else "")


def order_of(modes: RandomEffects, group: str, order: str | None) -> np.ndarray:
    """Return the places of a factor's levels from the bottom up: by a coefficient, or their own."""
    frame = modes[group]
    known = [*dict.fromkeys(name for own in modes.values() for name in own), "levels"]
    name = checks.option(order, "order", [None, *known])
    if name == "levels":
        return np.arange(len(frame))[::-1]
    column = frame[name if name in frame else frame.columns[0]]
    return np.argsort(column.to_numpy(), kind="stable")


def height_of(n: int, labelled: bool) -> float:
    """Return the height of a panel in inches."""
    return max(LEAST, LINE * n) if labelled else MOST


def text(label: Any) -> str:
    """Write a level."""
    return ":".join(map(str, label)) if isinstance(label, tuple) else str(label)
