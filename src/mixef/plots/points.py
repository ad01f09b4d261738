"""Clouds of points of any size, their means in bins, and boxes by level."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import pandas as pd

from mixef.plots.axes import ink, level_ticks, pyplot, rgb

# More points are counted in hexagons, more levels than these get no boxes, no labels.
MOST_POINTS, MOST_BOXES = 3000, 30


def cloud(ax: Any, x: np.ndarray, y: np.ndarray) -> None:
    """Draw points; of many, how many there are in each hexagon."""
    known = np.isfinite(x) & np.isfinite(y)
    if known.sum() <= MOST_POINTS:
        few = known.sum() <= 500
        size, alpha = (4, 0.5) if few else (3, 0.4)
        ax.plot(x, y, "o", markersize=size, alpha=alpha, fillstyle="none", color="C0")
        return
    hexagons = ax.hexbin(
        x[known], y[known], gridsize=(45, 25), mincnt=1, bins="log", cmap=shades(), linewidths=0.0
    )
    ax.figure.colorbar(hexagons, ax=ax, label="Rows", pad=0.02)


def shades() -> Any:
    """Return colours from near the background to that of text, in any style."""
    from matplotlib.colors import LinearSegmentedColormap

    paper, pen = np.array(rgb(pyplot().rcParams["axes.facecolor"])), np.array(rgb(ink()))
    ends = [paper + share * (pen - paper) for share in (0.15, 0.85)]
    return LinearSegmentedColormap.from_list("counts", ends)


def halo(width: float = 3.0) -> list[Any]:
    """Return effects that set a line off from what it lies on."""
    from matplotlib.patheffects import withStroke

    return [withStroke(linewidth=width, foreground=pyplot().rcParams["axes.facecolor"])]


def trend(ax: Any, means: pd.DataFrame, label: str | None = None) -> None:
    """Draw means in bins, with their intervals, as a line with bars."""
    bars = np.abs(means[["low", "high"]].sub(means["y"], axis=0)).to_numpy().T
    ax.errorbar(
        means["x"], means["y"], yerr=np.nan_to_num(bars), fmt="s-", color="C1", markersize=4,
        linewidth=1.4, elinewidth=1.2, label=label, path_effects=halo(), zorder=3,
    )  # fmt: skip


def means_by_rank(ax: Any, means: pd.DataFrame) -> None:
    """Draw the means of many levels with their intervals, in ascending order."""
    means = means.sort_values("y", kind="stable")
    at = np.arange(len(means))
    width = hair(len(means))
    ax.vlines(at, means["low"], means["high"], color="C0", linewidth=width)
    ax.plot(at, means["y"], "o", color=ink(), markersize=3 if len(means) <= 200 else 1.5)
    ax.set_xticks([])


def hair(n: int) -> float:
    """Return the width of n lines side by side that stay apart, as far as lines can be thin."""
    return max(min(150.0 / n, 1.2), 0.15)


def boxes(ax: Any, codes: np.ndarray, y: np.ndarray, levels: Sequence[str]) -> None:
    """Draw a box for each level."""
    order = np.argsort(codes, kind="stable")
    parts = np.split(y[order], np.cumsum(np.bincount(codes, minlength=len(levels)))[:-1])
    at = np.arange(len(levels))
    ax.boxplot(
        parts, positions=at, widths=0.6, flierprops={"markersize": 3},
        medianprops={"color": "C1", "linewidth": 1.8}, manage_ticks=False,
    )  # fmt: skip
    level_ticks(ax, levels)
    ax.set_xlim(-0.6, len(levels) - 0.4)
