"""Which random effects a picture is of, and the panels for them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from mixef import checks
from mixef.errors import ArgumentError
from mixef.plots.axes import axes_of, grid_of, panels

Key = tuple[str, str]


def chosen(
    columns: Mapping[str, Sequence[str]], group: str | None = None, term: str | None = None
) -> list[Key]:
    """Return grouping factors with their coefficients: all, those of one factor, or of one name.

    Raises
    ------
    ArgumentError
        For a factor or coefficient that is not there, with what may have been meant.
    """
    if group is not None:
        group = checks.option(group, "group", columns)
        columns = {group: columns[group]}
    if term is not None:
        known = dict.fromkeys(name for names in columns.values() for name in names)
        term = checks.option(term, "term", known)
    keys = [(factor, name) for factor, names in columns.items() for name in names]
    return [key for key in keys if term is None or key[1] == term]


def axes_for(keys: Sequence[Key], ax: Any) -> tuple[Any, list[Any]]:
    """Return what a picture returns, and axes for each key: one pair of axes, or a figure's."""
    if len(keys) == 1:
        own = axes_of(ax)
        return own, [own]
    refuse_one(keys, ax)
    figure, axes = panels(*grid_of(len(keys)))
    for spare in axes.flat[len(keys) :]:
        spare.remove()
    return figure, list(axes.flat[: len(keys)])


def refuse_one(keys: Sequence[Key], ax: Any) -> None:
    """Refuse one pair of axes for several panels."""
    if ax is not None and len(keys) > 1:
        named = ", ".join(f"{name} by {group}" for group, name in keys[:6])
        raise ArgumentError(
            f"ax is one pair of axes, and the picture has {len(keys)} panels ({named}); choose one "
            "by group= and term=, or leave ax out for a figure"
        )
