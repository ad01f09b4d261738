"""Fits side by side: coefficients, variance components and statistics, one column a fit."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from fnmatch import fnmatchcase
from typing import Any

import pandas as pd

from mixef.errors import ArgumentError
from mixef.estimation.fit import Fit
from mixef.inference.hypotheses.ddf import column_name, method_name
from mixef.inference.tables.statistics import FitStatistics, fit_statistics
from mixef.inference.tables.tidy import EFFECTS, FAMILY, FIXED, RAN_PARS, tidy
from mixef.inference.varcorr import RESIDUAL
from mixef.late import picture
from mixef.terms.nodes import unquoted
from mixef.text.estimates import (
    EstimateText,
    estimate_text,
    stars_legend,
    stars_text,
    with_sign,
)
from mixef.text.great_tables import as_great_table
from mixef.text.printed import Printed
from mixef.text.tables import Table

#: What can stand below an estimate.
SHOWN = ("se", "ci", "statistic", "df", "p")
_KINDS = {"sd": "SD", "cor": "Cor", "var": "Var", "cov": "Cov"}


@dataclass(frozen=True, kw_only=True)
class Layout:
    """What a table of fits shows, and how."""

    show: Sequence[str] = ("se",)  # lines below a coefficient, see SHOWN
    show_random: Sequence[str] = ()  # lines below a variance component
    stars: Mapping[str, float] | None = None  # symbols by the p value that they stand for
    keep: Sequence[str] | None = None  # coefficients to show, by name or pattern
    drop: Sequence[str] = ()
    order: Sequence[str] = ()  # coefficients to show first
    rename: Mapping[str, str] | None = None
    ran_pars: bool = True
    scales: str = "sdcor"
    stats: Sequence[str] = ()
    exponentiate: Sequence[bool] = ()  # one a fit
    level: float = 0.95
    method: str = "wald"
    ddf: str | None = "auto"
    digits: int = 3
    title: str | None = None
    notes: str | None = None

    def label(self, name: str) -> str:
        """Return what a name is shown as."""
        return (self.rename or {}).get(name, name)


@dataclass(frozen=True, eq=False, repr=False)
class EstimatesTable(Printed):
    """Fits side by side, made by `etable`.

    Attributes
    ----------
    frame : DataFrame
        One row an estimate: model, effect, group, term, estimate, std_error, statistic, df,
        p_value, conf_low, conf_high, as in ``tidy``.
    statistics : DataFrame
        Statistics of the fits, a row each, with a column a model.
    table : Table
        What is printed.
    """

    frame: pd.DataFrame
    statistics: pd.DataFrame
    table: Table
    exponentiated: tuple[bool, ...] = ()  # one a model: whether coefficients are ratios

    def plot(self, terms: Any = None, ax: Any = None) -> Any:
        """Draw the coefficients of the models side by side, with their intervals.

        Parameters
        ----------
        terms : str or list of str, optional
            Coefficients by name, or by patterns such as ``"recipe*"``; all but the intercept by
            default.
        ax : matplotlib.axes.Axes, optional
            Where to draw; by default a new figure.

        Returns
        -------
        matplotlib.axes.Axes

        Raises
        ------
        ArgumentError
            For terms that there are not, or a table of ratios and coefficients both.

        Examples
        --------
        >>> from mixef import etable, lmer, load_dataset
        >>> data = load_dataset("sleepstudy")
        >>> intercepts = lmer("Reaction ~ Days + (1 | Subject)", data)
        >>> slopes = lmer("Reaction ~ Days + (Days | Subject)", data)
        >>> ax = etable(intercepts, slopes, stats=[]).plot()
        >>> [text.get_text() for text in ax.get_legend().get_texts()]
        ['intercepts', 'slopes']
        """
        return picture("intervals.of_table")(self, terms, ax)

    def tables(self) -> Sequence[Table]:
        """Return the table that is printed, alone."""
        return [self.table]

    def _shown(self) -> Sequence[Table]:
        """Return the whole table: its end has the statistics."""
        return self.tables()

    def to_frame(self) -> pd.DataFrame:
        """Return a copy of the estimates."""
        return self.frame.copy()

    def to_great_tables(self) -> Any:
        """Return the table as a ``GT`` of the package great_tables.

        Raises
        ------
        MissingLibraryError
            If great_tables is not installed.
        """
        return as_great_table(self.table)


@dataclass(frozen=True)
class Column:
    """One fit in a table."""

    name: str
    response: str
    frame: pd.DataFrame  # its estimates, from `tidy`
    texts: list[EstimateText]  # the same as text, row by row
    labels: list[str]  # the rows' labels
    statistics: FitStatistics
    rule: str | None  # how its tests are made, where not simply by the normal distribution
    is_own: bool  # whether its standard errors are those of the fit and its model
    is_exponential: bool  # whether coefficients are exponentiated
    remarks: tuple[str, ...]  # for the notes

    def cell(self, effect: str, label: str) -> tuple[EstimateText, float] | None:
        """Return the estimate of a row as text, and its p value; None where the fit has none."""
        rows = zip(self.frame["effect"], self.labels, strict=True)
        place = next((i for i, row in enumerate(rows) if row == (effect, label)), None)
        if place is None:
            return None
        p = self.frame["p_value"].iloc[place] if "p_value" in self.frame else float("nan")
        return self.texts[place], float(p)


def side_by_side(fits: Sequence[Fit], names: Sequence[str], layout: Layout) -> EstimatesTable:
    """Lay out fits side by side; see `etable`."""
    powers = layout.exponentiate or [False] * len(fits)
    columns = [column_of(*parts, layout) for parts in zip(fits, names, powers, strict=True)]
    parts = [c.frame.assign(model=c.name) for c in columns]
    frame = pd.concat(parts, ignore_index=True)
    frame = frame[["model", *(c for c in frame if c != "model")]]
    labels = _union([list(c.statistics.numbers) for c in columns])
    values = {c.name: [c.statistics.numbers.get(label) for label in labels] for c in columns}
    statistics = pd.DataFrame(values, index=labels, dtype=object)
    return EstimatesTable(frame, statistics, _table(columns, layout), tuple(powers))


def column_of(fit: Fit, name: str, exponentiate: bool, layout: Layout) -> Column:
    """Return one fit as a table shows it."""
    effects = [FIXED, RAN_PARS, FAMILY] if layout.ran_pars else [FIXED, FAMILY]
    frame = tidy(
        fit, effects, True, layout.level, layout.method, exponentiate, layout.scales, layout.ddf
    )
    frame = frame.rename_axis(columns=None)
    node = fit.formula.response
    rows = frame.to_dict("records")
    labels = [row_label(fit, row, layout) for row in rows]
    for effect in EFFECTS:
        own = [label for row, label in zip(rows, labels, strict=True) if row["effect"] == effect]
        twice = [label for label in own if own.count(label) > 1]
        if twice:
            how = "rename gives two rows" if layout.rename else "a variable or level gives two rows"
            raise ArgumentError(
                f"{how} of {name} the name {twice[0]!r}; expected names that differ"
            )
    statistics = fit_statistics(fit, layout.stats)
    return Column(
        name,
        layout.label("" if node is None else node.text),
        frame,
        [estimate_text(row, layout.digits) for row in rows],
        labels,
        statistics,
        method_name(fit, layout.ddf) if len(fit.kept) else None,
        column_name(fit, layout.ddf) is None,
        exponentiate,
        tuple(f"{name}: {text}" for text in (*_remarks(fit), *statistics.problems)),
    )


def row_label(fit: Fit, row: Mapping[str, Any], layout: Layout) -> str:
    """Return the label of an estimate: ``Days``, ``Subject: SD Days``, ``Residual: SD``."""
    if row["effect"] != RAN_PARS:
        return layout.label(row["term"])
    kind, _, of = row["term"].partition("__")
    group = layout.label(row["group"])
    if row["group"] == RESIDUAL and of == "Observation":
        return f"{group}: {_KINDS[kind]}"
    pairs = {f"{a}.{b}": (a, b) for t in fit.terms for a in t.columns for b in t.columns}
    names = pairs.get(of, (of,)) if kind in ("cor", "cov") else (of,)
    return f"{group}: {_KINDS[kind]} {', '.join(layout.label(name) for name in names)}"


def _remarks(fit: Fit) -> list[str]:
    """Say what a reader of the numbers has to know of a fit."""
    out = []
    if not fit.convergence.converged:
        out.append("the search did not end at an optimum")
    if fit.vanished:
        out.append("boundary (singular) fit")
    return out


def _union(lists: Sequence[Sequence[str]]) -> list[str]:
    """Return all names once; one that is new in a list goes before what follows it there."""
    out: list[str] = []
    for names in lists:
        place = len(out)
        for name in reversed(names):
            if name in out:
                place = out.index(name)
            else:
                out.insert(place, name)
    return out


def _table(columns: Sequence[Column], layout: Layout) -> Table:
    """Lay out the columns: coefficients, variance components, a family's parameters, statistics."""
    rows: list[tuple[str, list[str]]] = []
    sections: dict[int, str] = {}
    for effect, heading, show in (
        (FIXED, "Fixed effects", layout.show),
        (RAN_PARS, "Random effects", layout.show_random),
        (FAMILY, "Family parameters", layout.show_random),
    ):
        labels = _labels(columns, effect)
        if effect == FIXED:
            labels = chosen_coefficients(labels, layout)
        if labels:
            sections[len(rows)] = heading
        for label in labels:
            rows += _lines(columns, effect, label, show, layout)
    found = _union([list(c.statistics.texts) for c in columns])
    if found:
        sections[len(rows)] = "Fit"
    for label in found:
        rows.append((layout.label(label), [c.statistics.texts.get(label, "") for c in columns]))
    return Table(
        [c.name for c in columns],
        [cells for _, cells in rows],
        [label for label, _ in rows],
        title=layout.title,
        note="\n".join(_notes(columns, layout)) or None,
        legend=stars_legend(layout.stars) if layout.stars else None,
        above=[c.response for c in columns],
        sections=sections,
    )


def _labels(columns: Sequence[Column], effect: str) -> list[str]:
    """Return the labels of the rows of one sort, the residual ones last."""
    lists = []
    for column in columns:
        pairs = zip(column.frame["effect"], column.frame["group"], column.labels, strict=True)
        lists.append([(group == RESIDUAL, label) for own, group, label in pairs if own == effect])
    first = _union([[label for last, label in names if not last] for names in lists])
    return first + _union([[label for last, label in names if last] for names in lists])


def _lines(
    columns: Sequence[Column], effect: str, label: str, show: Sequence[str], layout: Layout
) -> list[tuple[str, list[str]]]:
    """Return the lines of one row: the estimates, and what stands below them."""
    cells = [column.cell(effect, label) for column in columns]
    tops = [
        "" if c is None else c[0].estimate + stars_text(c[1], layout.stars or {}) for c in cells
    ]
    lines = [(label, tops)]
    for part in show:
        below = ["" if c is None else _below(c[0], part) for c in cells]
        if any(below):
            lines.append(("", below))
    return lines


def _below(text: EstimateText, part: str) -> str:
    """Return what stands below an estimate; nothing where it is not known."""
    known = {
        "se": text.std_error and f"({text.std_error})",
        "ci": text.interval,
        "statistic": text.statistic,
        "df": text.df and f"df = {text.df}",
        "p": text.p and with_sign(text.p),
    }
    return known[part]


def chosen_coefficients(labels: Sequence[str], layout: Layout) -> list[str]:
    """Return the coefficients to show, in their order, by `keep`, `drop` and `order`.

    Names are those of the table, or of the model; a pattern has ``*`` or ``?``.
    """
    back = {layout.label(name): name for name in (layout.rename or {})}

    def matching(pattern: str, argument: str) -> list[str]:
        """Return the labels that a name or pattern means; an error if there are none."""
        found = [label for label in labels if _is_meant(label, back.get(label, label), pattern)]
        if not found:
            raise ArgumentError(
                f"{argument} has {pattern!r}, which is no coefficient of the models; expected "
                f"some of {', '.join(labels)}, or a pattern such as 'x*'"
            )
        return found

    kept = list(labels)
    if layout.keep is not None:
        wanted = {label for pattern in layout.keep for label in matching(pattern, "keep")}
        kept = [label for label in labels if label in wanted]
    gone = {label for pattern in layout.drop for label in matching(pattern, "drop")}
    first = [label for pattern in layout.order for label in matching(pattern, "order")]
    kept = [label for label in kept if label not in gone]
    return [label for label in dict.fromkeys([*first, *kept]) if label in kept]


def _is_meant(label: str, name: str, pattern: str) -> bool:
    """Tell whether a name or pattern means a coefficient, by its label or its own name."""
    if unquoted(pattern) in (unquoted(label), unquoted(name)):
        return True
    is_pattern = "*" in pattern or "?" in pattern
    return is_pattern and (fnmatchcase(label, pattern) or fnmatchcase(name, pattern))


def _notes(columns: Sequence[Column], layout: Layout) -> list[str]:
    """Return the lines below: what parentheses hold, how tests were made, what is odd."""
    shown = {*layout.show, *layout.show_random}
    held = ["standard errors in parentheses"] if "se" in shown else []
    if "ci" in shown:
        how = "" if layout.method == "wald" else f" by {layout.method}"
        held.append(f"{100 * layout.level:g}% intervals{how} in brackets")
    lines = [", ".join(held)] if held else []
    rules = {c.name: c.rule for c in columns if c.rule is not None}
    tested = bool(layout.stars) or bool(shown & {"df", "p", "ci"})
    if rules and (tested or not all(c.is_own for c in columns)):
        for rule in dict.fromkeys(rules.values()):
            own = [name for name, of_model in rules.items() if of_model == rule]
            lines.append(f"tests{_of(own, columns)} use {rule}")
    powers = [c.name for c in columns if c.is_exponential]
    if powers:
        lines.append(f"coefficients{_of(powers, columns)} are exponentiated")
    lines = [line[0].upper() + line[1:] for line in lines]
    lines += [remark for column in columns for remark in column.remarks]
    return lines if layout.notes is None else [*lines, layout.notes]


def _of(names: Sequence[str], columns: Sequence[Column]) -> str:
    """Say which models are meant, if not all."""
    return "" if len(names) == len(columns) else f" of {', '.join(names)}"
