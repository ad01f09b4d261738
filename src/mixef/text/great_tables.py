"""A table as the package great_tables has it."""

from __future__ import annotations

from typing import Any

import pandas as pd

from mixef.errors import MissingLibraryError
from mixef.late import load
from mixef.text.tables import Table


def as_great_table(table: Table) -> Any:
    """Return a table as a ``GT``, with its headings, sections and notes.

    Raises
    ------
    MissingLibraryError
        If great_tables is not installed.
    """
    try:
        gt: Any = load("great_tables")
    except ImportError:
        raise MissingLibraryError(
            "to_great_tables makes a table of the package great_tables, which is not installed: "
            "pip install 'mixef[tables]'"
        ) from None
    keys = [f"c{j}" for j in range(len(table.columns))]
    frame = pd.DataFrame([list(row) for row in table.rows], columns=keys, dtype=object)
    frame.insert(0, "label", list(table.index or [""] * len(frame)))
    starts = table.sections or {}
    headings = pd.Series([starts.get(i) for i in range(len(frame))], dtype=object).ffill()
    if starts:
        frame.insert(0, "section", headings.fillna("").where(headings != "", " "))
    out = gt.GT(frame, rowname_col="label", groupname_col="section" if starts else None)
    out = out.cols_label(dict(zip(keys, table.columns, strict=True)))
    align = table.align or "r" * len(keys)
    for side, name in (("l", "left"), ("r", "right"), ("n", "right")):
        chosen = [key for key, letter in zip(keys, align, strict=True) if letter == side]
        out = out.cols_align(align=name, columns=chosen) if chosen else out
    first = 0
    for text, n in table.spans():
        if text:
            own = keys[first : first + n]
            out = out.tab_spanner(label=text, columns=own, id=f"s{first}")
        first += n
    if table.title:
        out = out.tab_header(title=table.title)
    for line in table.below():
        out = out.tab_source_note(line)
    return out
