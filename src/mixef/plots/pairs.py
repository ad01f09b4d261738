"""Conditional modes of several coefficients against each other."""

from __future__ import annotations

from typing import Any

import numpy as np

from mixef import checks
from mixef.errors import ArgumentError
from mixef.estimation.fit import Fit
from mixef.inference.coef import coefficient_units, modes_by_group
from mixef.inference.diagnostics.mode_density import mode_density, random_covariances
from mixef.plots.axes import ink, one_legend, panels, with_unit
from mixef.plots.density import draw_density

# Shares of the random effects that the two ellipses hold: this one and the caller's.
HALF = 0.5


def ranef_pairs(fit: Fit, group: str | None, level: float) -> Any:
    """Draw pairs of modes with ellipses of their covariance; see ``fit.plot.ranef_pairs``."""
    level, modes = checks.level(level), modes_by_group(fit)
    wide = [factor for factor, frame in modes.items() if frame.shape[1] > 1]
    group = _first(wide, modes) if group is None else checks.option(group, "group", modes)
    if group not in wide:
        raise ArgumentError(
            f"group is {group!r}, which has one coefficient, {modes[group].columns[0]}, and no "
            f"pairs; {_others(wide)}"
        )
    frame, covariance = modes[group], random_covariances(fit)[group].to_numpy()
    densities, units, s = mode_density(fit), coefficient_units(fit), frame.shape[1]
    figure, axes = panels(s, s, 2.3 * s + 0.8, 2.1 * s + 0.6)
    b, names = frame.to_numpy(), list(frame)
    for i in range(s):
        for j in range(s):
            ax = axes[i, j]
            if j > i:
                ax.remove()
                continue
            if i == j:
                draw_density(ax, b[:, i], densities.get((group, names[i])))
                ax.set_yticks([])
            else:
                ax.plot(b[:, j], b[:, i], "o", color="C0", fillstyle="none",
                        markersize=4 if len(b) <= 200 else 2)  # fmt: skip
                for share, line in ((level, "-"), (HALF, "--")):
                    edge = ellipse(covariance[np.ix_([j, i], [j, i])], share)
                    ax.plot(*edge, line, color=ink(), linewidth=1.0,
                            label=f"{100 * share:g} % of random effects")  # fmt: skip
                if j > 0:
                    ax.tick_params(labelleft=False)
                else:
                    ax.set_ylabel(with_unit(names[i], units))
            if i == s - 1:
                ax.set_xlabel(with_unit(names[j], units))
            else:
                ax.tick_params(labelbottom=False)
    for j in range(s):  # ellipses are wider than histograms
        for i in range(j, s):
            axes[i, j].set_xlim(axes[s - 1, j].get_xlim() if j < s - 1 else None)
    one_legend(figure)
    figure.suptitle(group, fontsize="medium")
    return figure


def ellipse(covariance: np.ndarray, share: float) -> np.ndarray:
    """Return the edge (2, 101) of the ellipse that holds a share of a bivariate normal variable."""
    values, vectors = np.linalg.eigh(covariance)
    root = vectors * np.sqrt(np.maximum(values, 0.0))
    angle = np.linspace(0.0, 2.0 * np.pi, 101)
    radius = np.sqrt(-2.0 * np.log1p(-share))  # of chi-square with two degrees of freedom
    edge: np.ndarray = radius * root @ np.stack([np.cos(angle), np.sin(angle)])
    return edge


def _first(wide: list[str], modes: Any) -> str:
    if not wide:
        shown = ", ".join(f"{factor} has {frame.columns[0]}" for factor, frame in modes.items())
        raise ArgumentError(
            f"ranef_pairs is of grouping factors with two coefficients or more, and this model has "
            f"none ({shown}); see caterpillar() or random_effects_density()"
        )
    return wide[0]


def _others(wide: list[str]) -> str:
    return f"expected {checks.either(wide)}" if wide else "no grouping factor of the model has more"
