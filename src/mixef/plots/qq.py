"""Quantile-quantile pictures of residuals and of conditional modes."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from mixef import checks
from mixef.errors import ArgumentError
from mixef.estimation.fit import Fit
from mixef.inference.coef import coefficient_units, modes_by_group
from mixef.inference.diagnostics.quantiles import (
    Quantiles,
    held_quantiles,
    simulated_quantiles,
)
from mixef.plots.axes import axes_of, ink, one_legend, with_unit
from mixef.plots.chosen import axes_for, chosen

NORMAL, UNIFORM = "Normal quantile", "Uniform quantile"
TYPES = ("pearson", "simulated")


def qq(
    fit: Fit, of: str, group: str | None, term: str | None, type: str | None, n: int, level: float,
    seed: Any, ax: Any = None,
) -> Any:  # fmt: skip
    """Draw quantiles of residuals or modes; see ``fit.plot.qq``."""
    of = checks.option(of, "of", ("residuals", "modes"))
    if of == "modes":
        if type is not None:
            raise ArgumentError("type is of residuals, and of is 'modes': leave type out")
        return qq_modes(fit, group, term, n, level, seed, ax)
    if group is not None or term is not None:
        raise ArgumentError("group and term choose modes: give of='modes', or leave them out")
    return qq_residuals(fit, type, n, level, seed, ax)


def qq_residuals(
    fit: Fit, type: str | None, n: int, level: float, seed: Any, ax: Any = None
) -> Any:
    """Draw quantiles of residuals; see ``fit.plot.qq``."""
    n, level = checks.count(n, each=fit.frame.n), checks.level(level)
    usual = "pearson" if fit.is_linear else "simulated"
    type = checks.option(usual if type is None else type, "type", TYPES)
    if type == "pearson" and not fit.is_linear:
        raise ArgumentError(
            f"type is 'pearson', but Pearson residuals of the {fit.family.name} family are not "
            "normal if the model is right; expected 'simulated'"
        )
    ax = axes_of(ax)
    if type == "pearson":
        found, _ = held_quantiles(fit, n, level, seed, ["residuals"])
        assert found is not None
        of_pearson(ax, found)
    else:
        draw_quantiles(ax, simulated_quantiles(fit, n, level, seed), UNIFORM)
        ax.set_ylabel("Simulated residual")
    return ax


def qq_modes(
    fit: Fit, group: str | None, term: str | None, n: int, level: float, seed: Any, ax: Any = None
) -> Any:
    """Draw quantiles of conditional modes; see ``fit.plot.qq``."""
    n, level = checks.count(n, each=fit.frame.n), checks.level(level)
    columns = {factor: list(frame) for factor, frame in modes_by_group(fit).items()}
    wanted = chosen(columns, group, term)
    picture, axes = axes_for(wanted, ax)
    _, found = held_quantiles(fit, n, level, seed, ["modes"])
    for key, own in zip(wanted, axes, strict=True):
        of_mode(own, found[key], *key, coefficient_units(fit))
    if len(wanted) > 1:
        one_legend(picture)
    return picture


def of_pearson(ax: Any, found: Quantiles) -> None:
    """Draw quantiles of a linear model's residuals."""
    draw_quantiles(ax, found, NORMAL)
    ax.set_ylabel("Pearson residual over sigma")


def of_mode(ax: Any, found: Quantiles, group: str, name: str, units: Mapping[str, str]) -> None:
    """Draw quantiles of the modes of one coefficient."""
    draw_quantiles(ax, found, NORMAL)
    ax.set_ylabel(f"Mode of {with_unit(name, units)}\nby {group}")


def draw_quantiles(ax: Any, found: Quantiles, xlabel: str) -> None:
    """Draw sorted values with their envelopes."""
    x, e = found.theoretical, found.envelope
    percent = f"{100.0 * e.level:g} %"
    ax.fill_between(
        x, e.low, e.high, color=ink(), alpha=0.18, linewidth=0.0, label=f"{percent}, each point"
    )
    for limit, label in ((e.all_low, f"{percent}, all points"), (e.all_high, None)):
        ax.plot(x, limit, "--", color=ink(), linewidth=0.9, label=label)
    ax.plot(x, e.middle, "-", color=ink(), linewidth=0.9, alpha=0.7, label="median of draws")
    size = 4 if len(x) <= 200 else 3
    ax.plot(x, found.values, "o", color="C0", markersize=size, fillstyle="none", label="data")
    ax.set_xlabel(xlabel)
    ax.legend(fontsize="small", framealpha=0.8)
