"""The distribution of random effects and of their conditional modes."""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd

from mixef.estimation.fit import Fit
from mixef.inference.coef import coefficient_units, modes_by_group
from mixef.inference.diagnostics.mode_density import mode_density
from mixef.plots.axes import ink, one_legend, with_unit
from mixef.plots.chosen import axes_for, chosen


def random_effects_density(fit: Fit, group: str | None, term: str | None, ax: Any) -> Any:
    """Draw densities and modes; see ``fit.plot.random_effects_density``."""
    modes = modes_by_group(fit)
    keys = chosen({factor: list(frame) for factor, frame in modes.items()}, group, term)
    picture, axes = axes_for(keys, ax)
    found, units = mode_density(fit), coefficient_units(fit)
    for (factor, name), own in zip(keys, axes, strict=True):
        draw_density(own, modes[factor][name].to_numpy(), found.get((factor, name)))
        own.set_xlabel(with_unit(name, units))
        own.set_ylabel(f"Density, {len(modes[factor])} {factor}")
        own.legend(fontsize="small", framealpha=0.8)
    if len(keys) > 1:
        one_legend(picture)
    return picture


def draw_density(ax: Any, modes: np.ndarray, found: pd.DataFrame | None) -> None:
    """Draw a histogram of modes (l,) with the curves that they are to be compared with."""
    bins = int(np.clip(2.0 * np.cbrt(len(modes)), 5, 40))
    ax.hist(
        modes, bins=bins, density=np.ptp(modes) > 0.0, histtype="stepfilled", color="C0",
        alpha=0.35, edgecolor=ink(), linewidth=0.6, label="modes",
    )  # fmt: skip
    if found is not None:
        ax.plot(found.index, found["random_effects"], "-", color=ink(), label="random effects")
        ax.plot(found.index, found["modes"], "--", color="C1", label="modes, by the model")
    ax.margins(y=0.15)
