"""Estimates with intervals, a line each: marginal means, contrasts, coefficients of fits."""

from __future__ import annotations

from collections.abc import Sequence
from fnmatch import fnmatchcase
from typing import Any

import numpy as np
import pandas as pd

from mixef import checks
from mixef.errors import ArgumentError
from mixef.estimation.fit import Fit
from mixef.inference.marginal.linear_functions import CONTRAST, MEAN
from mixef.inference.marginal.printed_means import level_text
from mixef.inference.tables.tidy import FIXED, tidy
from mixef.plots.axes import axes_of, key, level_ticks, panels, reference_line, series
from mixef.plots.effects import mean_label, predictor_label

# Inches of a line, and the most of a figure; the share of a line that several fits have.
LINE, TALLEST, DODGE = 0.3, 14.0, 0.6
# Lines of several groups that stand one below the other.
STACKED = 36
INTERCEPT = "(Intercept)"


def means(means: Any, ax: Any = None) -> Any:
    """Draw marginal means, contrasts or slopes; see the method ``plot`` of marginal means."""
    frame, groups = means.to_frame(), means.groups
    if ax is not None and len(groups) > 1:
        raise ArgumentError(
            f"ax is for one group of estimates, and there are {len(groups)}, by "
            f"{', '.join(means.by)}; leave it out"
        )
    rows = max(len(group) for group in groups)
    columns = 1
    if len(groups) == 1:
        axes = [axes_of(ax, height=_height(rows))]
    else:
        columns = 1 if len(frame) <= STACKED else int(np.ceil(np.sqrt(len(groups))))
        down = -(-len(groups) // columns)
        height = min(down * (LINE * rows + 0.9) + 0.5, TALLEST)
        size = max(5.6, 2.6 * columns + 1.0), height
        _, grid = panels(down, columns, *size, sharex=True)
        axes = list(grid.flat[: len(groups)])
        for own in grid.flat[len(groups) :]:
            own.remove()
        for own in axes[len(groups) - columns :]:
            own.tick_params(labelbottom=True)
    null = _null(means)
    for own, group in zip(axes, groups, strict=True):
        labels = means.labels[means.names].iloc[group]
        texts = [", ".join(map(level_text, row)) for row in labels.to_numpy(dtype=object)]
        part = frame.iloc[group]
        if null == 1.0:
            ratio_axis(own)
        if null is not None:
            reference_line(own, null, vertical=True)
        _lines(own, part, np.arange(len(part)), 0)
        level_ticks(own, texts, vertical=True)
        own.set_ylim(len(part) - 0.5, -0.5)
        own.set_ylabel(", ".join(means.names) if means.kind != CONTRAST else "")
        if means.by:
            own_by = means.labels[list(means.by)].iloc[group[0]]
            own.set_title(
                ", ".join(f"{k} = {level_text(v)}" for k, v in own_by.items()), size="small"
            )
    for own in axes[-columns:]:
        own.set_xlabel(_quantity(means))
    return axes[0] if len(groups) == 1 else axes[0].figure


def _null(means: Any) -> float | None:
    """Return what estimates are compared with: nothing for means, 1 for ratios."""
    if means.kind != CONTRAST and not means.kind.endswith(".trend"):
        return None
    return 1.0 if means.used_scale is not None and means.kind == CONTRAST else 0.0


def _quantity(means: Any) -> str:
    """Return what the estimates are of."""
    fit, scale = means.fit, means.used_scale
    if means.kind.endswith(".trend"):
        return f"Slope of {predictor_label(fit)} on {means.kind.removesuffix('.trend')}"
    if means.kind == CONTRAST:
        if scale is not None:
            return str(scale.word).replace(".", " ").capitalize()
        of_link = means.scale is not None or fit.is_linear
        return f"Difference: {predictor_label(fit) if of_link else mean_label(fit)}"
    on_mean = scale is not None or means.kind != MEAN or means.scale is None
    return mean_label(fit) if on_mean and not _is_plain(means) else predictor_label(fit)


def _is_plain(means: Any) -> bool:
    return means.fit.is_linear and means.used_scale is None and means.kind == MEAN


def coefficients(
    fits: Sequence[Fit], names: Any, terms: Any, exponentiate: bool, level: float, ax: Any = None
) -> Any:
    """Draw the coefficients of fits side by side; see ``fit.plot.coefficients``."""
    parts = [
        tidy(fit, FIXED, True, level, exponentiate=exponentiate).assign(model=name)
        for fit, name in zip(fits, _names(fits, names), strict=True)
    ]
    return side_by_side(pd.concat(parts, ignore_index=True), terms, exponentiate, ax)


def of_table(table: Any, terms: Any, ax: Any = None) -> Any:
    """Draw the coefficients of a table of fits; see the method ``plot`` of what `etable` makes."""
    ratios = set(table.exponentiated)
    if len(ratios) > 1:
        raise ArgumentError(
            "some models of the table have ratios and others coefficients, which have no common "
            "axis; make a table with exponentiate=True or False for all"
        )
    frame = table.frame[table.frame["effect"] == FIXED]
    return side_by_side(frame, terms, True in ratios, ax)


def side_by_side(frame: pd.DataFrame, terms: Any, exponentiate: bool, ax: Any = None) -> Any:
    """Draw estimates by term and model: of all terms but the intercept, unless they are named."""
    known = list(dict.fromkeys(frame["term"]))
    if terms is None:
        shown = [name for name in known if name != INTERCEPT] or known
    else:
        wanted = checks.names(terms, "terms", "coefficients by name, or patterns such as 'x*'")
        shown = [n for n in known if any(n == w or fnmatchcase(n, w) for w in wanted)]
    if not known:
        raise ArgumentError("the fits have no fixed effects, so there are no coefficients to draw")
    if not shown:
        raise ArgumentError(f"terms is {terms!r}; expected some of {', '.join(known)}")
    models = list(dict.fromkeys(frame["model"]))
    ax = axes_of(ax, height=_height(len(shown) * (1 + 0.5 * (len(models) - 1))))
    if exponentiate:
        ratio_axis(ax)
    reference_line(ax, float(exponentiate), vertical=True)
    for i, model in enumerate(models):
        part = frame[(frame["model"] == model) & frame["term"].isin(shown)]
        places = np.array([shown.index(term) for term in part["term"]], dtype=float)
        shift = DODGE * ((i + 0.5) / len(models) - 0.5)
        _lines(ax, part, places + shift, i, str(model))
    level_ticks(ax, shown, vertical=True)
    ax.set_ylim(len(shown) - 0.5, -0.5)
    ax.set_xlabel("Ratio" if exponentiate else "Coefficient")
    if len(models) > 1:
        key(ax)
    return ax


def _names(fits: Sequence[Fit], names: Any) -> list[str]:
    """Return distinct names of fits: the given ones, or their formulas."""
    if names is None:
        texts = [fit.formula.text for fit in fits]
        distinct = len(set(texts)) == len(texts)
        return texts if distinct else [f"model {i + 1}" for i in range(len(fits))]
    expected = f"{len(fits)} names that differ, one for each fit"
    given = checks.names(names, "names", expected)
    if len(given) != len(fits) or len(set(given)) < len(given):
        raise checks.refusal("names", names, expected)
    return given


def ratio_axis(ax: Any) -> None:
    """Put ratios on a scale of logarithms, with plain numbers beside it."""
    ax.set_xscale("log")
    ax.xaxis.get_major_locator().set_params(subs=(1.0, 2.0, 5.0))
    ax.xaxis.set_major_formatter("{x:g}")
    ax.xaxis.set_minor_formatter("")


def _height(lines: float) -> float:
    return float(np.clip(LINE * lines + 1.0, 2.0, TALLEST))


def _lines(ax: Any, part: pd.DataFrame, y: np.ndarray, place: int, label: Any = None) -> None:
    """Draw estimates as marks and their intervals as lines; one without an end has an arrow's."""
    style = series(place)
    x, low, high = (
        part[name].to_numpy(dtype=float) for name in ("estimate", "conf_low", "conf_high")
    )
    finite = np.concatenate([x, low, high])
    finite = finite[np.isfinite(finite)]
    span = np.ptp(finite) if len(finite) else 1.0
    ends = [np.where(np.isinf(end), x + np.sign(end) * span, end) for end in (low, high)]
    ax.hlines(y, *ends, color=style["color"], linewidth=1.5)
    ax.plot(x, y, style["marker"], color=style["color"], markersize=5, label=label)
