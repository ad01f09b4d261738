"""Marginal means in print: the tables and notes of R's emmeans."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd

from mixef.inference.marginal.adjustments import NONE, TUKEY, of_limits
from mixef.inference.marginal.questions import LIMITS, TESTS
from mixef.terms.values import text_of
from mixef.text.numbers import format_common
from mixef.text.tables import Table

if TYPE_CHECKING:
    from mixef.inference.marginal.linear_functions import LinearFunctions

# An estimate that is zero, in standard errors.
ROUNDING = 1e-10
# Significant digits of the number in a column that needs most decimals.
DIGITS = 3
NOT_ESTIMABLE, MISSING = "nonEst", "NA"


def level_text(value: Any) -> str:
    """Return a level as R writes it.

    Examples
    --------
    >>> level_text(True), level_text(2.50), level_text("a")
    ('TRUE', '2.5', 'a')
    """
    return text_of(value.item() if isinstance(value, np.generic) else value)


def level_cells(values: pd.Series) -> list[str]:
    """Return a column of levels; numbers have three digits, or as many as tell them apart.

    Examples
    --------
    >>> level_cells(pd.Series([0.0576123])), level_cells(pd.Series([1.2341, 1.2342]))
    (['0.0576'], ['1.2341', '1.2342'])
    """
    if pd.api.types.is_float_dtype(values):
        for digits in range(DIGITS, 16):
            cells = [cell.strip() for cell in number_cells(values, digits)]
            if len(set(cells)) == values.nunique(dropna=False):
                return cells
    return [level_text(x) for x in values]


def number_cells(values: Any, digits: int = DIGITS) -> list[str]:
    """Format the numbers of a column alike, as R does for ``digits``; "NA" for missing ones."""
    cells = format_common(np.asarray(values, dtype=float), digits)
    return [MISSING if cell.strip() == "NaN" else cell for cell in cells]


def p_value_cells(values: Any) -> list[str]:
    """Format p values with four decimals, those below 0.0001 as such."""
    return [
        MISSING if np.isnan(p) else "<.0001" if p < 1e-4 else f"{p:.4f}"
        for p in np.asarray(values, dtype=float)
    ]


def fixed_cells(values: Any, decimals: int = 3) -> list[str]:
    """Format statistics with three decimals."""
    return [
        MISSING if np.isnan(x) else f"{round(x, decimals) + 0.0:.{decimals}f}"
        for x in np.asarray(values, dtype=float)
    ]


def one_table(means: LinearFunctions) -> Table:
    """Return all estimates as one table, with the groups in columns of their own."""
    table = _table(means, np.arange(len(means.labels)), [*means.labels.columns])
    return replace(table, note="\n".join(["", *notes(means)]))


def tables(means: LinearFunctions) -> list[Table]:
    """Return a table a group, with the notes below the last."""
    out = []
    for rows in means.groups:
        table = _table(means, rows, means.names)
        if means.by:
            own = {name: level_cells(means.labels[name])[rows[0]] for name in means.by}
            title = ", ".join(f"{name} = {level}" for name, level in own.items())
            table = replace(table, title=f"{title}:")
        out.append(table)
    out[-1] = replace(out[-1], note="\n".join(["", *notes(means)]))
    return out


def _table(means: LinearFunctions, rows: np.ndarray, names: Sequence[str]) -> Table:
    """Return some rows; numbers of a column have the decimals of all rows."""
    columns = [(name, "l", level_cells(means.labels[name])) for name in names]
    columns += [(name, "r", cells) for name, cells in _numbers(means)]
    cells = [[column[i] for _, _, column in columns] for i in rows]
    heads, align = [name for name, _, _ in columns], "".join(side for _, side, _ in columns)
    # R's frames without row names start with a blank.
    return Table(heads, cells, None, align)


def _numbers(means: LinearFunctions) -> list[tuple[str, list[str]]]:
    """Return the columns of numbers with their headings in R."""
    frame, q = means.frame, means.question
    asymptotic = bool(np.isinf(frame["df"].dropna()).all()) and bool(frame["df"].notna().any())
    # What is rounding beside its standard error is zero, and costs no decimals.
    lost = frame["estimate"].abs() < ROUNDING * frame["std_error"]
    estimate = number_cells(frame["estimate"].mask(lost, 0.0))
    estimate = [NOT_ESTIMABLE if cell == MISSING else cell for cell in estimate]
    out = [
        (_word(means), estimate),
        ("SE", number_cells(frame["std_error"])),
        ("df", number_cells(frame["df"])),
    ]
    if q.shows != TESTS:
        ends = ("asymp.LCL", "asymp.UCL") if asymptotic else ("lower.CL", "upper.CL")
        pairs = zip(ends, ("conf_low", "conf_high"), strict=True)
        out += [(head, number_cells(frame[name])) for head, name in pairs]
    if q.shows != LIMITS:
        null, scale = np.full(len(frame), q.null), means.used_scale
        if scale is not None:
            null = scale.back(null)[0]
        if np.any(null != 0.0):
            out.append(("null", number_cells(null)))
        letter = "z" if asymptotic else "t"
        out.append((f"{letter}.ratio", fixed_cells(frame["statistic"])))
        out.append(("p.value", p_value_cells(frame["p_value"])))
    return out


def _word(means: LinearFunctions) -> str:
    """Return what the estimates are called."""
    if means.used_scale is not None:
        return means.used_scale.word
    return "estimate" if means.kind == "contrast" else means.kind


def notes(means: LinearFunctions) -> list[str]:
    """Return the lines below the estimates."""
    q, scale, used = means.question, means.scale, means.used_scale
    out = [*means.notes, *([means.ddf_note] if means.ddf_note else [])]
    if not means.is_estimable.all():
        out.append(
            f"{NOT_ESTIMABLE}: the data say nothing of it, since columns of the model matrix were "
            "dropped or cells are empty"
        )
    if scale is not None and used is None:
        out.append(f"Results are given on the {scale.name} (not the response) scale.")
    if q.shows != TESTS:
        out.append(f"Confidence level used: {q.level:g}")
        out += _adjustment(means, "Conf-level adjustment", of_limits(q.adjust), "estimates")
        if used is not None:
            out.append(f"Intervals are back-transformed from the {used.name} scale")
    if q.shows != LIMITS:
        out += _adjustment(means, "P value adjustment", q.adjust, "tests")
        out += q.notes
        if used is not None:
            out.append(f"Tests are performed on the {used.name} scale")
    if used is not None and used.variance:
        out.append(f"Bias adjustment applied based on sigma = {np.sqrt(used.variance):.4g}")
    return list(dict.fromkeys(out))


def _adjustment(means: LinearFunctions, what: str, adjust: str, of: str) -> list[str]:
    """Return the lines on the adjustment that the families have."""
    family = max(means._families, key=lambda f: f.size)
    used, why = family.rule(adjust)
    if used == NONE or (family.means or family.size) < 2 or family.means == 2:
        return []
    if used == TUKEY:
        family_text = f"for comparing a family of {family.means} estimates"
    elif used == "scheffe":
        family_text = f"with rank {family.rank}"
    else:
        family_text = f"for {family.size} {of}"
    changed = [f"Note: {adjust} was changed to {used}, since {why}"] if why else []
    return [f"{what}: {used} method {family_text}", *changed]


def plain_table(frame: pd.DataFrame, lines: Sequence[str]) -> Table:
    """Lay out tests of terms: counts and df, F ratios, p values."""
    makers = {"p.value": p_value_cells, "F.ratio": fixed_cells, "Chisq": fixed_cells}
    columns, align = [], ""
    for name in frame.columns:
        number = frame[name].dtype.kind in "if"
        made = makers.get(str(name), number_cells)(frame[name]) if number else None
        columns.append(made if made is not None else [level_text(x) for x in frame[name]])
        align += "r" if number else "l"
    rows = list(zip(*columns, strict=True))
    return Table([str(c) for c in frame.columns], rows, None, align, note="\n".join(["", *lines]))
