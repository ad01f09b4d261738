"""Separate regressions by group, as they are printed."""

from __future__ import annotations

from dataclasses import replace

import pandas as pd

from mixef.display.numbers import format_coef_columns, format_common, format_number
from mixef.display.tables import Table
from mixef.inference.refits.lm_list import SeparateFits
from mixef.inference.refits.lm_list_results import coefficient_tables, coefficients

# Groups that are printed; frames hold all.
MAX_ROWS = 40


def fits_table(fits: SeparateFits) -> Table:
    """Lay out the coefficients, a row a group, with degrees of freedom and sigma below."""
    notes = [f"Degrees of freedom: {fits.frame.n} total; {fits.df_residual} residual"]
    if fits.has_dispersion:
        notes.append(f"Residual standard error: {format_number(fits.sigma, 4)}")
    if fits.frame.left_out.total:
        notes.append(str(fits.frame.left_out))
    frame = coefficients(fits)
    shown = frame.head(MAX_ROWS)
    cells = [format_common(shown[name], 4) for name in shown]
    table = _table(shown, cells)
    title = f"{_title(fits)}\nFormula: {fits.formula.text}\nCoefficients:"
    note = "\n".join([*_rest(frame), *notes])
    return replace(table, title=title, note=note)


class SeparateSummary:
    """Tests of the coefficients of separate regressions, group by group.

    Attributes
    ----------
    tables : dict of str to DataFrame (G, 4)
        Estimates, standard errors, statistics and p values by coefficient.
    """

    def __init__(self, fits: SeparateFits, pool: bool):
        self.tables = coefficient_tables(fits, pool)
        self._title = _title(fits)
        self._lines = [f"Formula: {fits.formula.text}"]
        if fits.call.data_name is not None:
            self._lines.append(f"   Data: {fits.call.data_name}")
        self._notes = []
        if fits.has_dispersion and pool:
            sigma = format_number(fits.sigma, 4)
            self._notes = [
                f"Residual standard error: {sigma} on {fits.df_residual} degrees of freedom"
            ]

        if fits.frame.left_out.total:
            self._notes.append(str(fits.frame.left_out))

    def _parts(self) -> list[Table]:
        parts = []
        for name, frame in self.tables.items():
            shown = frame.head(MAX_ROWS)
            heads = [str(head) for head in shown.columns]
            table = _table(shown, format_coef_columns(shown.to_numpy(dtype=float), heads))
            note = "\n".join(_rest(frame)) or None
            parts.append(replace(table, title=f"{name}:", note=note))
        return parts

    def __str__(self) -> str:
        heading = "\n".join([self._title, *self._lines])
        return "\n\n".join([heading, *(part.to_text() for part in self._parts()), *self._notes])

    def __repr__(self) -> str:
        return str(self)

    def _repr_html_(self) -> str:
        rows = [line.strip().split(": ", 1) for line in [*self._lines, *self._notes]]
        heading = Table(("Model", self._title), rows, align="ll")
        return "\n".join(table.to_html() for table in (heading, *self._parts()))


def _table(frame: pd.DataFrame, cells: list[list[str]]) -> Table:
    rows = list(zip(*cells, strict=True))
    return Table([str(name) for name in frame.columns], rows, [str(g) for g in frame.index])


def _rest(frame: pd.DataFrame) -> list[str]:
    """Say how many groups are not shown."""
    more = len(frame) - MAX_ROWS
    return [f"... {more} more groups"] if more > 0 else []


def _title(fits: SeparateFits) -> str:
    if fits.family is None:
        return "Separate linear regressions"
    family = fits.family
    return f"Separate generalized linear regressions: {family.name} ({family.link.name})"
