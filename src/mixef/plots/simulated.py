"""Simulated residuals: their quantiles, and what they change with."""

from __future__ import annotations

from typing import Any

import numpy as np
import scipy

from mixef import checks
from mixef.inference.diagnostics.binned import binned_quantiles
from mixef.inference.diagnostics.quantiles import uniform_residuals
from mixef.inference.diagnostics.simulated_residuals import SimulatedResiduals
from mixef.plots.axes import LINES, ink, one_legend, panels, reference_line, with_unit
from mixef.plots.points import cloud, halo
from mixef.plots.qq import UNIFORM, draw_quantiles
from mixef.plots.residuals import against_factor
from mixef.terms.exact import Exact
from mixef.terms.factor import Factor

QUARTILES = [0.25, 0.5, 0.75]


def simulated(residuals: SimulatedResiduals, predictor: Any, level: float) -> Any:
    """Draw simulated residuals; see the method ``plot`` of `SimulatedResiduals`."""
    level = checks.level(level)
    column = None if predictor is None else residuals.rows.column(predictor, "predictor")
    figure, (axes,) = panels(1, 2, 8.4, 4.4)
    draw_quantiles(axes[0], uniform_residuals(residuals, level), UNIFORM)
    axes[0].set_ylabel("Simulated residual")
    ax, u = axes[1], residuals.draws.scaled
    known = np.isfinite(u)
    for quartile in QUARTILES:
        reference_line(ax, quartile)
    if isinstance(column, Factor):
        against_factor(ax, column, u, level)
    else:
        values = residuals.draws.fitted if column is None else column
        x = np.asarray(values.as_float() if isinstance(values, Exact) else values, dtype=float)
        x = scipy.stats.rankdata(x[known]) / known.sum()
        _with_quartiles(ax, x, u[known], np.any(residuals.outside(), axis=0)[known])
    ax.set_xlabel(_label(residuals, predictor, isinstance(column, Factor)))
    ax.set_ylim(-0.03, 1.03)
    one_legend(figure)
    return figure


def _with_quartiles(ax: Any, x: np.ndarray, u: np.ndarray, outside: np.ndarray) -> None:
    """Draw residuals with their quartiles in bins, and those outside of all draws."""
    cloud(ax, x, u)
    found = binned_quantiles(x, u, QUARTILES)
    for quartile, line, marker in zip(QUARTILES, LINES, "vs^", strict=False):
        ax.plot(
            found.index, found[quartile], linestyle=line, marker=marker, color="C1", markersize=4,
            label=f"quantile {quartile:g}", path_effects=halo(), zorder=3,
        )  # fmt: skip
    if outside.any():
        ax.plot(
            x[outside], u[outside], "x", color=ink(), markersize=6, label="outside of all draws"
        )


def _label(residuals: SimulatedResiduals, predictor: Any, is_factor: bool) -> str:
    """Return the label of what residuals are drawn against."""
    if predictor is None:
        return "Rank of the fitted mean"
    if not isinstance(predictor, str):
        name = str(getattr(predictor, "name", None) or "predictor")
    else:
        fit = residuals.rows.fit
        name = with_unit(predictor, {} if fit is None or not is_factor else fit.units)
    return name if is_factor else f"Rank of {name}"
