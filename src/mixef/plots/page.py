"""One page of diagnostics."""

from __future__ import annotations

from typing import Any

import numpy as np

from mixef import checks
from mixef.estimation.fit import Fit
from mixef.inference.coef import coefficient_units, modes_by_group
from mixef.inference.diagnostics.quantiles import held_quantiles
from mixef.inference.diagnostics.shown_residuals import SIMULATED, shown_residuals
from mixef.plots.axes import grid_of, one_legend, panels
from mixef.plots.qq import of_mode, of_pearson, qq_residuals
from mixef.plots.residuals import residuals, scale_location

# Levels whose modes are worth quantiles, and how many coefficients' modes there is room for.
LEVELS, MODES = 8, 3
PANEL = 3.3  # inches


def page(fit: Fit, n: int, level: float, seed: Any) -> Any:
    """Draw a page of diagnostics; see ``fit.plot``."""
    n, level = checks.count(n, each=fit.frame.n), checks.level(level)
    rng = checks.generator(seed)
    shown = shown_residuals(fit, None, rng)
    constant = np.ptp(shown.fitted) <= 1e-12 * np.abs(shown.fitted).max()
    by = fit.terms[-1].group if constant else None  # the coarsest factor
    keys = [
        (group, name)
        for group, modes in modes_by_group(fit).items()
        if len(modes) >= LEVELS
        for name in modes
    ][:MODES]
    drawn = shown.type == SIMULATED or fit.is_linear
    rows, columns = grid_of(2 + drawn + len(keys))
    figure, axes = panels(rows, columns, PANEL * columns, 0.85 * PANEL * rows + 0.6)
    places = iter(axes.flat)
    residuals(fit, by, level=level, ax=next(places), shown=shown)
    of = ["residuals"] * fit.is_linear + ["modes"] * bool(keys)
    own, modes = held_quantiles(fit, n, level, rng, of)
    if own is not None:
        of_pearson(next(places), own)
    elif drawn:
        qq_residuals(fit, None, n, level, rng, next(places))
    scale_location(fit, by, level=level, ax=next(places), shown=shown)
    for key in keys:
        of_mode(next(places), modes[key], *key, coefficient_units(fit))
    for spare in places:
        spare.remove()
    one_legend(figure)
    return figure
