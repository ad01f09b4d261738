"""What all pictures share: axes to draw on, marks that need no colour, labels with units."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from mixef.errors import ArgumentError, MissingLibraryError
from mixef.late import load

#: Series are told apart by their marks and lines as well as by colour.
MARKERS = ("o", "s", "^", "D", "v", "P", "X", "*")
LINES = ("-", "--", "-.", ":", (0, (5, 1, 1, 1, 1, 1)), (0, (8, 3)))

# Inches: one picture, and the least side of one of several.
WIDTH, HEIGHT, SIDE = 5.6, 4.0, 2.6
# Levels that have labels, the characters of one, and those that fit side by side.
MOST_TICKS, LONGEST, LINE = 64, 30, 60
# Series in a legend that has its place among the data.
INSIDE = 4


def pyplot() -> Any:
    """Return ``matplotlib.pyplot``.

    Raises
    ------
    MissingLibraryError
        If matplotlib is not installed.
    """
    try:
        return load("matplotlib.pyplot")
    except ImportError:
        raise MissingLibraryError(
            "pictures are drawn by matplotlib, which is not installed: pip install 'mixef[plot]'"
        ) from None


def axes_of(ax: Any = None, width: float = WIDTH, height: float = HEIGHT) -> Any:
    """Return the axes to draw on: the caller's, or those of a new figure (inches).

    Raises
    ------
    ArgumentError
        If `ax` is no matplotlib Axes.
    """
    plt = pyplot()
    if ax is None:
        return plt.subplots(figsize=(width, height), layout="constrained")[1]
    if not isinstance(ax, plt.Axes):
        kind = type(ax).__name__
        raise ArgumentError(f"ax must be one matplotlib Axes or None, but it is of type {kind}")
    return ax


def panels(
    rows: int, columns: int, width: float | None = None, height: float | None = None, **options: Any
) -> tuple[Any, np.ndarray]:
    """Return a new figure and its axes (rows, columns); `options` are those of ``subplots``."""
    size = (width or max(WIDTH, SIDE * columns), height or max(HEIGHT, SIDE * rows))
    figure, axes = pyplot().subplots(
        rows, columns, figsize=size, layout="constrained", squeeze=False, **options
    )
    return figure, axes


def grid_of(n: int) -> tuple[int, int]:
    """Return rows and columns of a grid for n panels, no taller than wide.

    Examples
    --------
    >>> [grid_of(n) for n in (1, 2, 5, 12)]
    [(1, 1), (1, 2), (2, 3), (3, 4)]
    """
    columns = int(np.ceil(np.sqrt(n)))
    return -(-n // columns), columns


def series(i: int) -> dict[str, Any]:
    """Return colour, marker and line of the i-th series."""
    return {
        "color": f"C{i % 10}",
        "marker": MARKERS[i % len(MARKERS)],
        "linestyle": LINES[i % len(LINES)],
    }


def ink() -> Any:
    """Return the colour of text and axes, which the user's style has chosen, dark or light."""
    return pyplot().rcParams["text.color"]


def rgb(color: Any) -> tuple[float, float, float]:
    """Return a colour as red, green and blue, each from 0 to 1."""
    from matplotlib.colors import to_rgb

    made: tuple[float, float, float] = to_rgb(color)
    return made


def one_legend(figure: Any, where: str = "lower") -> None:
    """Put what the legends of a figure's panels say into one below or above all of them."""
    marks: dict[str, Any] = {}
    for ax in figure.axes:
        handles, labels = ax.get_legend_handles_labels()
        marks = dict(zip(labels, handles, strict=True)) | marks
        if ax.get_legend() is not None:
            ax.get_legend().remove()
    figure.legend(
        marks.values(), marks, loc=f"outside {where} center", ncols=3 if where == "lower" else 4,
        fontsize="small", frameon=False,
    )  # fmt: skip


def reference_line(ax: Any, at: float = 0.0, vertical: bool = False) -> None:
    """Draw a thin line that data are read against."""
    draw = ax.axvline if vertical else ax.axhline
    draw(at, color=ink(), linewidth=0.8, alpha=0.6, zorder=0.5)


def with_unit(name: str, units: Mapping[str, str]) -> str:
    """Return a label with the unit of a variable, as in ``Reaction (ms)``.

    Examples
    --------
    >>> with_unit("Reaction", {"Reaction": "ms"}), with_unit("log(Reaction)", {"Reaction": "ms"})
    ('Reaction (ms)', 'log(Reaction)')
    """
    return f"{name} ({units[name]})" if name in units else name


def key(ax: Any) -> None:
    """Draw a legend: inside, or beside the axes where it is long."""
    options = {"fontsize": "small", "framealpha": 0.8, "edgecolor": "none"}
    if len(ax.get_legend_handles_labels()[1]) > INSIDE:
        options |= {"loc": "upper left", "bbox_to_anchor": (1.0, 1.0)}
    ax.legend(**options)


def date_ticks(ax: Any) -> None:
    """Label the first axis, in days since 1970, by dates."""
    import matplotlib.dates

    dates: Any = matplotlib.dates
    locator = dates.AutoDateLocator(maxticks=7)
    ax.xaxis.set_major_locator(locator)
    ax.xaxis.set_major_formatter(dates.ConciseDateFormatter(locator))


def level_ticks(ax: Any, labels: Sequence[str], vertical: bool = False) -> None:
    """Label the places 0, 1, ... with the names of levels; some of them where they are many."""
    every = max(-(-len(labels) // MOST_TICKS), 1)
    longest = 2 * LONGEST if vertical else LONGEST
    places = range(0, len(labels), every)
    shown = [shortened(label, longest) for label in labels[::every]]
    axis = ax.yaxis if vertical else ax.xaxis
    axis.set_ticks(places, shown)
    if not vertical and sum(len(text) + 2 for text in shown) > LINE:
        axis.set_tick_params(rotation=90)
    if len(shown) > LINE // 2:
        axis.set_tick_params(labelsize="x-small")


def shortened(label: object, longest: int = LONGEST) -> str:
    """Return a label of no more than so many characters, with both of its ends.

    Names that begin alike often end otherwise.

    Examples
    --------
    >>> shortened("a level that goes on and on", 18)
    'a level …on and on'
    """
    text, half = str(label), longest // 2
    return text if len(text) <= longest else f"{text[: half - 1]}…{text[-half:]}"
