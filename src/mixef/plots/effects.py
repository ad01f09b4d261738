"""Predicted means along a predictor, over the data."""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd

from mixef import checks
from mixef.estimation.fit import Fit
from mixef.inference.marginal import effects as of_model
from mixef.inference.marginal.effects import AVERAGED, TYPICAL, Effects
from mixef.inference.marginal.means import check_type
from mixef.plots.axes import (
    INSIDE,
    WIDTH,
    axes_of,
    date_ticks,
    ink,
    key,
    level_ticks,
    series,
    with_unit,
)
from mixef.terms.nodes import Call, variable_names

NAMES = {TYPICAL: "typical: random effects at zero", AVERAGED: "averaged over random effects"}
# The width that the marks of one level share, and the ticks of a rug.
DODGE, JITTER, RUG = 0.5, 0.12, 200


def effects(
    fit: Fit,
    x: str,
    by: Any,
    at: Any,
    type: str,
    average: bool | None,
    level: float,
    data: bool,
    ax: Any = None,
) -> Any:
    """Draw predicted means along x; see ``fit.plot.effects``."""
    on_response, data = check_type(type), checks.flag(data, "data")
    found = of_model.effects(fit, x, by, at, type, average, level)
    kinds, many = list(dict.fromkeys(found.frame["kind"])), len(found.series) > 1
    beside = many and len(found.series) + len(kinds) * (len(kinds) > 1) > INSIDE
    ax = axes_of(ax, width=1.35 * WIDTH if beside else WIDTH)
    if data:
        _draw_rows(ax, found)
    draw = _draw_curve if found.levels is None else _draw_levels
    for (kind, place), means in found.frame.groupby(["kind", "series"], sort=False):
        label = found.series[place] if many and kind == TYPICAL else None
        slots = (place * len(kinds) + kinds.index(kind), len(found.series) * len(kinds))
        draw(ax, means, str(kind), int(place), slots, many, NAMES[kind] if not many else label)
    if many and len(kinds) > 1:
        for kind in kinds:
            style = {"color": ink(), **_kind_style(str(kind))}
            ax.plot([], [], label=NAMES[kind], **style)
    if many or len(kinds) > 1:
        key(ax)
    if found.levels is not None:
        level_ticks(ax, found.levels)
        ax.set_xlim(-0.5, len(found.levels) - 0.5)
    if found.is_time:
        date_ticks(ax)
    ax.set_xlabel(with_unit(found.x.name, fit.units))
    ax.set_ylabel(mean_label(fit) if on_response else predictor_label(fit))
    return ax


def mean_label(fit: Fit) -> str:
    """Return the name of the mean, with the unit of the response."""
    node = fit.formula.response
    if node is None:
        return "Mean"
    if fit.family.has_trials:
        modelled = getattr(fit.outcome, "modelled", None)
        first = node.args[0].text if isinstance(node, Call) and fit.is_counted else node.text
        return f"Probability of {first}" + (f" = {modelled}" if modelled else "")
    names = list(variable_names(node))
    return with_unit(names[0] if len(names) == 1 else node.text, fit.units)


def predictor_label(fit: Fit) -> str:
    """Return the name of the linear predictor: the response of a linear model, or a link's."""
    if fit.is_linear:
        return with_unit(str(fit.formula.response), fit.units)
    return f"Linear predictor ({fit.family.link.name})"


def _kind_style(kind: str) -> dict[str, Any]:
    return {"linestyle": "-" if kind == TYPICAL else "--"}


def _draw_curve(
    ax: Any, means: pd.DataFrame, kind: str, place: int, slots: Any, many: bool, label: Any
) -> None:
    """Draw a curve with its band: filled for typical means, two lines for averaged ones."""
    style = series(place if many else slots[0])
    means = means.sort_values("x")
    x, every = means["x"].to_numpy(), max(len(means) // 8, 1)
    mark = {"marker": style["marker"], "markevery": (place % every, every)} if many else {}
    color = style["color"]
    ax.plot(x, means["estimate"], color=color, label=label, **mark, **_kind_style(kind))
    if kind == TYPICAL:
        limits = means["conf_low"], means["conf_high"]
        ax.fill_between(x, *limits, color=color, alpha=0.15 if many else 0.25, linewidth=0)
    elif not many:
        ax.plot(x, means[["conf_low", "conf_high"]], color=color, linestyle=":", linewidth=1)


def _draw_levels(
    ax: Any, means: pd.DataFrame, kind: str, place: int, slots: Any, many: bool, label: Any
) -> None:
    """Draw means at levels, with their limits, beside those of other series and kinds."""
    style = series(place if many else slots[0])
    shift = DODGE * ((slots[0] + 0.5) / slots[1] - 0.5)
    y = means["estimate"].to_numpy()
    gaps = np.array([y - means["conf_low"], means["conf_high"] - y])
    filled = style["color"] if kind == TYPICAL else "none"
    made = ax.errorbar(
        means["x"] + shift, y, yerr=gaps, fmt=style["marker"], color=style["color"],
        markerfacecolor=filled, capsize=3, label=label, zorder=3,
    )  # fmt: skip
    for bar in made[2]:
        bar.set_linestyle("-" if kind == TYPICAL else "--")


def _draw_rows(ax: Any, found: Effects) -> None:
    """Draw the data: rows, or means of many rows with a rug of x."""
    shown, many = found.observed(), len(found.series) > 1
    for place, part in shown.groupby("series"):
        style, x = series(int(place)), part["x"].to_numpy()
        if found.levels is not None:
            slot = (int(place) + 0.5) / len(found.series) - 0.5
            width = 0.0 if found.are_means else JITTER / len(found.series)
            x = x + DODGE * slot + width * _spread(len(x))
        ax.plot(
            x, part["y"], linestyle="none", marker=style["marker"] if many else "o",
            markersize=4, color=style["color"] if many else ink(), fillstyle="none", alpha=0.45,
            zorder=1,
        )  # fmt: skip
    if found.levels is None and found.are_means:
        x = np.sort(found.rows["x"].to_numpy())
        x = x[np.linspace(0, len(x) - 1, min(len(x), RUG)).astype(int)]
        ax.plot(
            x, np.full(len(x), 0.015), "|", color=ink(), alpha=0.5, markersize=6,
            transform=ax.get_xaxis_transform(), zorder=1,
        )  # fmt: skip


def _spread(n: int) -> np.ndarray:
    """Return numbers (n,) between -1 and 1 that keep points apart, the same at every call."""
    golden = 0.5 * (np.sqrt(5.0) - 1.0)
    places: np.ndarray = 2.0 * ((np.arange(n) * golden) % 1.0) - 1.0
    return places
