"""Tables of coefficients and of tests, with stars beside p values."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, replace

import pandas as pd

from mixef.text.numbers import (
    ESTIMATE_COLUMNS,
    LEGEND,
    format_coef_columns,
    significance_stars,
)
from mixef.text.printed import Printed
from mixef.text.tables import Table


def coef_to_table(
    frame: pd.DataFrame,
    digits: int = 4,
    title: str | None = None,
    shared: Collection[str] = ESTIMATE_COLUMNS,
) -> Table:
    """Lay out a table of coefficients (p, k), as R's ``printCoefmat``, with stars beside p-values.

    Columns are formatted by their names, see `format_coef_columns`.

    Examples
    --------
    >>> frame = pd.DataFrame(
    ...     {"Estimate": [2.0], "Std. Error": [0.5], "z value": [4.0], "Pr(>|z|)": [6.33e-5]},
    ...     index=["x"],
    ... )
    >>> print(coef_to_table(frame))
      Estimate Std. Error z value Pr(>|z|)
    x      2.0        0.5       4 6.33e-05 ***
    ---
    Signif. codes:  0 '***' 0.001 '**' 0.01 '*' 0.05 '.' 0.1 ' ' 1
    """
    heads = [str(name) for name in frame.columns]
    cells = format_coef_columns(frame.to_numpy(dtype=float), heads, digits, shared)
    return starred_table(frame, cells, title)


def starred_table(
    frame: pd.DataFrame,
    columns: Sequence[Sequence[str]],
    title: str | None = None,
    note: str | None = None,
) -> Table:
    """Lay out formatted columns of a frame, with stars and their legend if some p is below 0.1."""
    heads, align, legend = [str(name) for name in frame.columns], "r" * frame.shape[1], None
    columns = list(columns)
    if heads and heads[-1].startswith("Pr(") and (frame.iloc[:, -1] < 0.1).any():
        columns.append(significance_stars(frame.iloc[:, -1]))
        heads, align, legend = [*heads, ""], align + "l", LEGEND
    rows, index = list(zip(*columns, strict=True)), [str(name) for name in frame.index]
    return Table(heads, rows, index, align, title, note=note, legend=legend)


@dataclass(frozen=True, eq=False, repr=False)
class CoefficientTables(Printed):
    """Tables of tests, one a coefficient, below one heading."""

    # dict of str to DataFrame (G, 4): estimates, standard errors, statistics and p values by
    # coefficient
    frames: Mapping[str, pd.DataFrame]
    heading: str  # Lines above the first table
    note: str | None = None  # Lines below the last

    def tables(self) -> list[Table]:
        """Return one table a coefficient, the heading above the first and notes below the last."""
        parts = []
        for name, frame in self.frames.items():
            heads = [str(head) for head in frame.columns]
            cells = format_coef_columns(frame.to_numpy(dtype=float), heads)
            rows, groups = list(zip(*cells, strict=True)), [str(g) for g in frame.index]
            parts.append(Table(heads, rows, groups, title=f"{name}:"))
        parts[0] = replace(parts[0], title=f"{self.heading}\n\n{parts[0].title}")
        parts[-1] = replace(parts[-1], note=self.note)
        return parts
