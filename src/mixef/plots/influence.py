"""What sets of rows do to a fit."""

from __future__ import annotations

from typing import Any

import numpy as np

from mixef import checks
from mixef.inference.influence.influence import MEASURES, Influence
from mixef.plots.axes import axes_of, ink, level_ticks, reference_line, shortened
from mixef.plots.caterpillar import text
from mixef.plots.points import MOST_BOXES, hair

NAMES = {"cooks_distance": "Cook's distance", "mdffits": "MDFFITS", "covratio": "COVRATIO",
         "covtrace": "COVTRACE"}  # fmt: skip


def influence(found: Influence, by: str, n: int, ax: Any) -> Any:
    """Draw a measure of every set; see the method ``plot`` of `Influence`."""
    largest, n = found.most(max(checks.whole(n, "n", 0), 1), by).index, int(n)
    ax = axes_of(ax)
    values, base, limits, label = measured(found, by)
    at = np.arange(len(values))
    reference_line(ax, base)
    for limit in limits:
        ax.axhline(limit, linestyle="--", color=ink(), linewidth=0.9)
    ax.vlines(at, base, values, color="C0", linewidth=hair(len(at)))
    ax.plot(at, values, "o", color="C0", markersize=4 if len(at) <= 200 else 1.5)
    places = found.index.get_indexer(largest[:n])
    for place in places[np.isfinite(values[places])]:
        below = values[place] < base
        ax.annotate(
            shortened(text(found.index[place])), (place, values[place]), (0, -4 if below else 4),
            textcoords="offset points", ha="center", va="top" if below else "bottom",
            fontsize="small",
        )  # fmt: skip
    ax.margins(y=0.12)
    if len(at) <= MOST_BOXES:
        level_ticks(ax, [text(label) for label in found.index])
        ax.set_xlabel(found.groups)
    else:
        ax.set_xticks([])
        ax.set_xlabel(f"{found.groups}, {len(at)} in their order")
    ax.set_ylabel(label)
    return ax


def measured(found: Influence, by: str) -> tuple[np.ndarray, float, list[float], str]:
    """Return a measure (G,), its value without influence, limits, and its label."""
    frame, G = found.to_frame(), len(found)
    if by in MEASURES:
        limits = [4.0 / G] if by == "cooks_distance" else []
        return frame[by].to_numpy(), float(by == "covratio"), limits, NAMES[by]
    if f"dfbetas.{by}" in frame:
        limit = 2.0 / np.sqrt(G)
        return frame[f"dfbetas.{by}"].to_numpy(), 0.0, [-limit, limit], f"DFBETAS of {by}"
    return (
        found.varcorr()[by].to_numpy(),
        float(found.varcorr_of_all[by]),
        [],
        f"{by} without the set",
    )
