"""What a generalized model's likelihood integrates, level by level, beside the normal density."""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd

from mixef import checks
from mixef.errors import ArgumentError
from mixef.estimation.fit import Fit
from mixef.estimation.generalized.quadrature import GHrule
from mixef.inference.design import integrand as integrand_of
from mixef.plots.axes import axes_of, grid_of, ink, panels, reference_line, series

# Where the integrand is drawn, in conditional standard deviations from the mode; and the most
# levels that have a panel unless they are asked for.
REACH, POINTS, LEVELS = 4.0, 161, 24


def integrand(fit: Fit, levels: Any, ax: Any = None) -> Any:
    """Draw the integrands; see ``fit.plot.integrand``."""
    found = _chosen(fit, levels)

    def draw(ax: Any, part: pd.DataFrame, place: int) -> None:
        ax.plot(part["z"], part["density"], color=series(place)["color"], label="integrand")
        ax.plot(part["z"], part["normal"], "--", color=ink(), linewidth=1, label="normal density")

    return _panels(fit, found, draw, "density", ax)


def t_z(fit: Fit, levels: Any, nodes: int | None, ax: Any = None) -> Any:
    """Draw the ratio of the integrand to the normal density; see ``fit.plot.t_z``."""
    k = max(fit.nAGQ, 1) if nodes is None else nodes
    rule, found = GHrule(k), _chosen(fit, levels)
    z = rule.z[np.abs(rule.z) <= REACH]
    at_nodes = dict(list(integrand_of(fit, z).groupby("group", sort=False)))

    def draw(ax: Any, part: pd.DataFrame, place: int) -> None:
        color, own = series(place)["color"], at_nodes[part["group"].iloc[0]]
        ax.plot(part["z"], part["t"], color=color, label="t(z)")
        if place == 0:
            reference_line(ax, 1.0)
        name = f"node{'s' * (k > 1)} of quadrature"
        ax.plot(own["z"], own["t"], "o", color=ink(), markersize=3.5, label=name)

    return _panels(fit, found, draw, "t(z)", ax)


def _chosen(fit: Fit, levels: Any) -> list[pd.DataFrame]:
    """Return the integrands of the levels that are asked for, or of all, or of the least normal."""
    if fit.is_linear:
        raise ArgumentError(
            f"the likelihood of the linear model {fit.formula.text} is integrated exactly: every "
            "integrand is a normal density; draw those of a model fitted by glmer"
        )
    frame = integrand_of(fit, np.linspace(-REACH, REACH, POINTS))
    parts = {str(level): part for level, part in frame.groupby("group", sort=False)}
    if levels is not None:
        given = [levels] if isinstance(levels, str | int | np.integer) else levels
        expected = "a level or a list of levels"
        several = isinstance(given, list | tuple | np.ndarray | pd.Series | pd.Index)
        if not several or checks.ndim(given) != 1 or not len(given):
            raise checks.refusal("levels", levels, expected)
        of = f"levels of {fit.terms[0].group}"
        unknown = [str(name) for name in given if str(name) not in parts]
        if unknown:
            first = ", ".join(list(parts)[:10])
            raise ArgumentError(f"levels has {unknown[0]!r}; expected {of}, such as {first}")
        return [parts[str(name)] for name in given]
    if len(parts) <= LEVELS:
        return list(parts.values())
    gap = {name: np.abs(p["density"] - p["normal"]).max() for name, p in parts.items()}
    kept = set(sorted(gap, key=lambda name: -gap[name])[:LEVELS])
    return [part for name, part in parts.items() if name in kept]


def _panels(fit: Fit, found: list[pd.DataFrame], draw: Any, label: str, ax: Any) -> Any:
    """Draw a panel a level; or all of them on the axes that are given."""
    if ax is not None:
        ax = axes_of(ax)
        for place, part in enumerate(found):
            draw(ax, part, place)
        handles = dict(zip(*ax.get_legend_handles_labels()[::-1], strict=True))
        ax.legend(handles.values(), handles.keys(), frameon=False, fontsize="small")
        ax.set(xlabel="z", ylabel=label)
        return ax
    rows, columns = grid_of(len(found))
    size = max(5.6, 1.7 * columns), max(4.0, 1.5 * rows + 0.5)
    figure, axes = panels(rows, columns, *size, sharex=True, sharey=True)
    for own, part in zip(axes.flat, found, strict=False):
        draw(own, part, 0)
        own.set_title(str(part["group"].iloc[0]), fontsize="small")
    for own in axes.flat[len(found) :]:
        own.remove()
    figure.supxlabel("z: distance from the mode in conditional standard deviations", size="medium")
    figure.supylabel(label, size="medium")
    handles = axes[0, 0].get_legend_handles_labels()
    title = f"levels of {fit.terms[0].group}"
    figure.legend(
        *handles, loc="outside upper center", ncols=2, frameon=False, fontsize="small", title=title
    )
    return figure
