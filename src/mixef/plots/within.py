"""Data of the levels of a grouping factor, a panel each, with their fits."""

from __future__ import annotations

from typing import Any

import numpy as np

from mixef.errors import ArgumentError
from mixef.estimation.fit import Fit
from mixef.inference.refits.within_groups import WithinGroups
from mixef.plots.axes import grid_of, ink, one_legend, panels, shortened, with_unit
from mixef.plots.caterpillar import text
from mixef.plots.residuals import fitted_label

# Levels that get a panel; of more, some in the order of their modes.
MOST = 24


def within_panels(fit: Fit, found: WithinGroups, names: list[str]) -> Any:
    """Draw responses against the column of a coefficient, level by level, with three fits."""
    terms = [fit.terms[t] for t in fit.groups[found.group]]
    Z, codes = np.column_stack([term.z for term in terms]), terms[0].grouping.codes
    columns = list(found.mixed)
    moving = [name for name in names if np.ptp(Z[:, columns.index(name)]) > 0.0]
    if not moving:
        raise ArgumentError(
            f"panels draw responses against what varies within {found.group}, and its only "
            f"column, {columns[0]}, is constant; leave panels out"
        )
    x = Z[:, columns.index(moving[0])]
    mixed = found.mixed.to_numpy()
    mean, eta = fit.family.link.inverse, np.asarray(fit.eta)
    own, common = found.within.to_numpy() - mixed, found.population.to_numpy() - mixed
    lines = {
        "population": (mean(eta + np.einsum("ns,ns->n", Z, common[codes])), ":"),
        "within groups": (mean(eta + np.einsum("ns,ns->n", Z, own[codes])), "--"),
        "mixed model": (np.asarray(fit.mu), "-"),
    }
    levels = np.argsort(mixed[:, 0], kind="stable")
    if len(levels) > MOST:
        levels = levels[np.linspace(0, len(levels) - 1, MOST).round().astype(int)]
    rows, wide = grid_of(len(levels))
    figure, axes = panels(rows, wide, 1.7 * wide + 0.8, 1.6 * rows + 0.9, sharex=True, sharey=True)
    for spare in axes.flat[len(levels) :]:
        spare.remove()
    for ax in axes.flat[max(len(levels) - wide, 0) : len(levels)]:  # the lowest of their columns
        ax.tick_params(labelbottom=True)
    for level, ax in zip(levels, axes.flat, strict=False):
        at = np.flatnonzero(codes == level)
        at = at[np.argsort(x[at], kind="stable")]
        ax.plot(x[at], fit.y[at], "o", color=ink(), markersize=2.5, alpha=0.7, label="data")
        for (name, (values, style)), color in zip(lines.items(), ("C2", "C1", "C0"), strict=True):
            ax.plot(x[at], values[at], style, color=color, linewidth=1.3, label=name)
        ax.set_title(shortened(text(found.mixed.index[level])), fontsize="small")
    one_legend(figure, "upper")
    figure.supxlabel(with_unit(moving[0], fit.units), fontsize="medium")
    figure.supylabel(fitted_label(fit), fontsize="medium")
    return figure
