"""Residuals against fitted values and variables, and their spread."""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd

from mixef import checks
from mixef.estimation.fit import Fit
from mixef.inference.diagnostics.binned import binned_means, means_by_code
from mixef.inference.diagnostics.by_row import Rows
from mixef.inference.diagnostics.shown_residuals import SIMULATED, ShownResiduals, shown_residuals
from mixef.inference.sampled_rows import sampled
from mixef.plots.axes import axes_of, reference_line, with_unit
from mixef.plots.points import MOST_BOXES, boxes, cloud, means_by_rank, trend
from mixef.terms.exact import Exact
from mixef.terms.factor import Factor
from mixef.terms.nodes import variable_names
from mixef.terms.values import as_factor


def residuals(
    fit: Fit, by: Any = None, type: str | None = None, level: float = 0.95, seed: Any = None,
    ax: Any = None, shown: ShownResiduals | None = None,
) -> Any:  # fmt: skip
    """Draw residuals against fitted values or a variable; see ``fit.plot.residuals``."""
    level, whole, fit = checks.level(level), fit, sampled(fit, seed)
    column = _column(fit, by)
    shown, ax = shown or shown_residuals(fit, type, seed), axes_of(ax)
    _say_sample(ax, fit, whole)
    reference_line(ax, shown.centre)
    against(ax, shown.fitted if column is None else column, shown.values, level)
    ax.set_xlabel(x_label(fit, by, shown))
    ax.set_ylabel(residual_label(fit, shown.type))
    if shown.type == SIMULATED:
        ax.set_ylim(-0.03, 1.03)
    return ax


def scale_location(
    fit: Fit, by: Any = None, type: str | None = None, level: float = 0.95, seed: Any = None,
    ax: Any = None, shown: ShownResiduals | None = None,
) -> Any:  # fmt: skip
    """Draw the spread of residuals; see ``fit.plot.scale_location``."""
    level, whole, fit = checks.level(level), fit, sampled(fit, seed)
    column = _column(fit, by)
    shown, ax = shown or shown_residuals(fit, type, seed), axes_of(ax)
    _say_sample(ax, fit, whole)
    spread = np.sqrt(np.abs(shown.standard))
    against(ax, shown.fitted if column is None else column, spread, level)
    ax.set_xlabel(x_label(fit, by, shown))
    ax.set_ylabel("√ |standardized residual|")
    return ax


def _say_sample(ax: Any, fit: Fit, whole: Fit) -> None:
    """Say how many rows are shown, where they are a sample of those of the whole fit."""
    if fit.frame.n < whole.frame.n:
        text = f"a random sample of {fit.frame.n:,} of {whole.frame.n:,} rows"
        ax.set_title(text, fontsize="small")


def _column(fit: Fit, by: Any) -> Any:
    """Return a variable of the fit's rows, None for the fitted values."""
    return None if by is None else Rows(fit.frame.index, fit).column(by, "by")


def against(ax: Any, column: Any, y: np.ndarray, level: float) -> None:
    """Draw points with their means in bins of numbers or dates; of a factor, boxes by level."""
    if isinstance(column, np.ndarray) and column.dtype.kind == "b":
        column = as_factor(column)
    if isinstance(column, Factor):
        against_factor(ax, column, y, level)
        return
    x = np.asarray(column.as_float() if isinstance(column, Exact) else column, dtype=float)
    if isinstance(getattr(column, "stamps", None), pd.DatetimeIndex):
        ax.xaxis_date()  # matplotlib counts days from the same one
        ax.tick_params(axis="x", labelrotation=30)
    cloud(ax, x, y)
    known = np.isfinite(x) & np.isfinite(y)
    trend(ax, binned_means(x[known], y[known], level), f"means, {100 * level:g} % intervals")
    ax.legend(fontsize="small", framealpha=0.8)


def against_factor(ax: Any, factor: Factor, y: np.ndarray, level: float) -> None:
    """Draw boxes, or means of many levels."""
    factor, known = factor.used_levels(), np.isfinite(y)
    if factor.n_levels <= MOST_BOXES:
        boxes(ax, factor.codes[known], y[known], factor.levels)
        return
    codes = np.unique(factor.codes[known], return_inverse=True)[1]
    means_by_rank(ax, means_by_code(codes, y[known], level))
    text = f"means of {factor.n_levels} levels in order,\n{100 * level:g} % intervals"
    ax.text(0.02, 0.97, text, transform=ax.transAxes, va="top", fontsize="small")


def response_of(fit: Fit) -> str:
    """Return the name of the response; of ``cbind(successes, failures)``, that of the successes."""
    response = fit.formula.response
    assert response is not None
    return variable_names(response)[0] if fit.is_counted else response.text


def fitted_label(fit: Fit) -> str:
    """Return what means are of, with the unit: a probability where there is one."""
    name = response_of(fit)
    if fit.is_counted:
        return f"share of {name}"
    if fit.family.has_trials and fit.outcome.trials is None:
        return f"probability of {name}"
    return with_unit(name, fit.units)


def x_label(fit: Fit, by: Any, shown: ShownResiduals) -> str:
    """Return the label of what residuals are drawn against."""
    if by is not None:
        return with_unit(by, fit.units) if isinstance(by, str) else str(getattr(by, "name", "by"))
    at = "" if shown.conditional else ",\nrandom effects at zero"
    return f"Fitted {fitted_label(fit)}{at}"


def residual_label(fit: Fit, type: str) -> str:
    """Return the label of the axis of residuals."""
    response = response_of(fit)
    if type == "response":
        return f"Residual of {with_unit(response, fit.units)}"
    return f"{type.capitalize()} residual" + ("" if type == SIMULATED else f" of {response}")
