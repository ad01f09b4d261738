"""Compact letter displays: means that share a letter are not shown to differ.

By insertion and absorption (H.-P. Piepho, 2004, Journal of Computational and Graphical Statistics
13, 456-466).
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import pandas as pd

from mixef import checks
from mixef.errors import ArgumentError
from mixef.inference.marginal.linear_functions import LinearFunctions
from mixef.inference.marginal.printed_means import tables
from mixef.text.printed import PrintedFrame
from mixef.text.tables import Table

SIGNS = "1234567890ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz"


@dataclass(frozen=True, eq=False, repr=False)
class LetterDisplay(PrintedFrame):
    """Means in ascending order, with a column ``.group`` of signs."""

    means: LinearFunctions  # in the order of the display
    signs: tuple[str, ...]  # of each mean
    lines: tuple[str, ...]  # on the comparisons

    @property
    def frame(self) -> pd.DataFrame:  # type: ignore[override]
        """The numbers of the means, with their signs."""
        return self.means.frame.assign(**{".group": list(self.signs)})

    def tables(self) -> list[Table]:
        """Return a table a group, with signs at the end of the rows."""
        out = []
        for rows, table in zip(self.means.groups, tables(self.means), strict=True):
            cells = [[*row, self.signs[i]] for row, i in zip(table.rows, rows, strict=True)]
            align = (table.align or "r" * len(table.columns)) + "l"
            out.append(replace(table, columns=[*table.columns, ".group"], rows=cells, align=align))
        out[-1] = replace(out[-1], note="\n".join([out[-1].note or "", *self.lines]))
        return out

    def to_table(self) -> Table:
        """Return the last table, the only one where there are no groups."""
        return self.tables()[-1]


def letter_display(
    means: LinearFunctions, pairs: LinearFunctions, alpha: Any, letters: Any, reverse: Any
) -> LetterDisplay:
    """Return the compact letter display of means, by their pairs; see their method ``cld``."""
    alpha = checks.level(alpha, "alpha")
    signs = checks.text(letters, "letters", "text, whose characters are the signs")
    if len(set(signs)) < len(signs) or not signs:
        raise checks.refusal("letters", letters, "different characters, such as 'abcdef'")
    backwards = checks.flag(reverse, "reverse")
    order, found = [], {}
    p_values, start = pairs.frame["p_value"].to_numpy(), 0
    estimates = means.frame["estimate"].to_numpy()
    for rows in means.groups:
        k = len(rows)
        differ = np.zeros((k, k), dtype=bool)
        upper = np.triu_indices(k, 1)
        differ[upper] = p_values[start : start + len(upper[0])] < alpha
        start += len(upper[0])
        differ |= differ.T
        known = np.isfinite(estimates[rows])
        ranked = np.argsort(estimates[rows], kind="stable")
        ranked = ranked[known[ranked]][:: -1 if backwards else 1]
        columns = _columns(differ[np.ix_(ranked, ranked)])
        if columns.shape[1] > len(signs):
            raise ArgumentError(
                f"the display needs {columns.shape[1]} signs, but letters has {len(signs)}; give "
                "it more characters"
            )
        for place, i in enumerate(ranked):
            own = "".join(s if has else " " for s, has in zip(signs, columns[place], strict=False))
            found[rows[i]] = f" {own}"
        order += [*rows[ranked], *rows[~known]]
    sorted_means = replace(
        means, labels=means.labels.iloc[order].reset_index(drop=True), L=means.L[order],
        offset=means.offset[order],
    )  # fmt: skip
    lines = [line for line in pairs_lines(pairs) if line]
    lines += [
        f"significance level used: alpha = {alpha:g}",
        "NOTE: If two or more means share the same grouping symbol,",
        "      then we cannot show them to be different.",
        "      But we also did not show them to be the same.",
    ]
    return LetterDisplay(sorted_means, tuple(found.get(i, "") for i in order), tuple(lines))


def pairs_lines(pairs: LinearFunctions) -> list[str]:
    """Return the lines on adjustments of the comparisons."""
    note = tables(pairs)[-1].note or ""
    return [s for s in note.split("\n") if s.startswith(("P value", "Note: ", "Tests are"))]


def _columns(differ: np.ndarray) -> np.ndarray:
    """Return which means (k, c) have each letter, for which of them differ (k, k).

    No two means of a letter differ, any two that do not differ share one, and no letter's means all
    have another one.
    """
    k = len(differ)
    columns = [np.ones(k, dtype=bool)] if k else []
    for i, j in zip(*np.nonzero(np.triu(differ)), strict=True):
        split = []
        for column in columns:
            if not (column[i] and column[j]):
                split.append(column)
                continue
            for gone in (i, j):
                part = column.copy()
                part[gone] = False
                split.append(part)
        columns = _absorbed(split)
    order = sorted(columns, key=lambda column: tuple(np.flatnonzero(column)))
    return np.array(order).T.reshape(k, -1)


def _absorbed(columns: list[np.ndarray]) -> list[np.ndarray]:
    """Return the columns whose means are not all in another one."""
    out: list[np.ndarray] = []
    for a, column in enumerate(columns):
        inside = [
            bool((column <= other).all()) and (b < a or bool((column != other).any()))
            for b, other in enumerate(columns)
            if b != a
        ]
        if not any(inside):
            out.append(column)
    return out
