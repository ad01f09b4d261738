"""Residuals against fitted values."""

from __future__ import annotations

from typing import Any

import numpy as np

from mixef import checks
from mixef.estimation.fit import Fit
from mixef.inference.residuals import RESIDUALS, residual_values
from mixef.plots.axes import axes_of, reference_line, with_unit


def residuals(fit: Fit, type: str, ax: Any = None) -> Any:
    """Draw residuals of a type against fitted values; see ``fit.plot.residuals``."""
    type, ax = checks.option(type, "type", RESIDUALS), axes_of(ax)
    response = str(fit.formula.response)
    y, mu = residual_values(fit, type), np.asarray(fit.mu)
    reference_line(ax)
    ax.plot(mu, y, "o", markersize=4, alpha=0.7, fillstyle="none")
    ax.set_xlabel(f"Fitted {with_unit(response, fit.units)}")
    kind = "Residual" if type == "response" else f"{type.capitalize()} residual"
    name = with_unit(response, fit.units) if type == "response" else response
    ax.set_ylabel(f"{kind} of {name}")
    return ax
