"""Separate regressions by group, as they are printed."""

from __future__ import annotations

from dataclasses import replace

from mixef.inference.refits.lm_list import SeparateFits
from mixef.inference.refits.lm_list_results import coefficient_tables, coefficients
from mixef.text.numbers import format_coef_columns, format_number
from mixef.text.printed import Printed, frame_table
from mixef.text.tables import Table


def fits_table(fits: SeparateFits) -> Table:
    """Lay out the coefficients, a row a group, with degrees of freedom and sigma below."""
    notes = [f"Degrees of freedom: {fits.frame.n} total; {fits.df_residual} residual"]
    if fits.has_dispersion:
        notes.append(f"Residual standard error: {format_number(fits.sigma, 4)}")
    if fits.frame.left_out.total:
        notes.append(str(fits.frame.left_out))
    title = f"{_title(fits)}\nFormula: {fits.formula.text}\nCoefficients:"
    return replace(frame_table(coefficients(fits), title, digits=4), note="\n".join(notes))


class SeparateSummary(Printed):
    """Tests of the coefficients of separate regressions, group by group.

    Attributes
    ----------
    frames : dict of str to DataFrame (G, 4)
        Estimates, standard errors, statistics and p values by coefficient.
    """

    def __init__(self, fits: SeparateFits, pool: bool):
        self.frames = coefficient_tables(fits, pool)
        self._heading = [_title(fits), f"Formula: {fits.formula.text}"]
        if fits.call.data_name is not None:
            self._heading.append(f"   Data: {fits.call.data_name}")
        notes = []
        if fits.has_dispersion and pool:
            sigma = format_number(fits.sigma, 4)
            notes.append(
                f"Residual standard error: {sigma} on {fits.df_residual} degrees of freedom"
            )
        if fits.frame.left_out.total:
            notes.append(str(fits.frame.left_out))
        self._note = "\n".join(["", *notes]) if notes else None

    def tables(self) -> list[Table]:
        """Return one table a coefficient, the heading above the first and notes below the last."""
        parts = []
        for name, frame in self.frames.items():
            heads = [str(head) for head in frame.columns]
            cells = format_coef_columns(frame.to_numpy(dtype=float), heads)
            rows, groups = list(zip(*cells, strict=True)), [str(g) for g in frame.index]
            parts.append(Table(heads, rows, groups, title=f"{name}:"))
        heading = "\n".join([*self._heading, "", str(parts[0].title)])
        parts[0] = replace(parts[0], title=heading)
        parts[-1] = replace(parts[-1], note=self._note)
        return parts


def _title(fits: SeparateFits) -> str:
    if fits.family is None:
        return "Separate linear regressions"
    family = fits.family
    return f"Separate generalized linear regressions: {family.name} ({family.link.name})"
