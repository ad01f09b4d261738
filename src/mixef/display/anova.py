"""Tables of tests: of a fit's terms, between fits, and of single deletions."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import pandas as pd

from mixef.estimation.fit import LMMFit
from mixef.inference.hypotheses.anova import terms_tested
from mixef.inference.hypotheses.ddf import check_ddf, method_name
from mixef.inference.hypotheses.drop1 import single_deletions
from mixef.inference.hypotheses.likelihood_ratio import REFITTED, AnyModel, compare
from mixef.inference.hypotheses.term_contrasts import check_type
from mixef.inference.observations import AnyFit
from mixef.text.layout import formula_lines
from mixef.text.numbers import (
    LEGEND,
    format_common,
    format_pvalue,
    round_all,
    significance_stars,
    zap_small,
)
from mixef.text.printed import PrintedTable
from mixef.text.tables import Table

# Significant digits that R prints of an analysis of variance, and decimals of its statistics.
DIGITS, DECIMALS = 5, 4
STATISTICS = frozenset({"F value", "Chisq"})


@dataclass(frozen=True, eq=False, repr=False)
class AnovaTable(PrintedTable):
    """A table of tests, which prints as R's ``anova``.

    ``table["Pr(>F)"]``, ``table.loc`` and ``table.index`` are those of ``frame``.

    Attributes
    ----------
    frame : DataFrame
        The numbers; NaN where there is no test.
    heading : tuple of str
        Lines above.
    notes : tuple of str
        What a reader of the p values should know; those that are not in the heading are printed
        below.

    Examples
    --------
    >>> frame = pd.DataFrame({"Chisq": [24.94857], "Df": [3], "Pr(>Chisq)": [1.583e-5]}, ["period"])
    >>> print(AnovaTable(frame, ("Analysis of Deviance Table",)))
    Analysis of Deviance Table
            Chisq Df Pr(>Chisq)
    period 24.949  3  1.583e-05 ***
    ---
    Signif. codes:  0 '***' 0.001 '**' 0.01 '*' 0.05 '.' 0.1 ' ' 1
    """

    frame: pd.DataFrame
    heading: tuple[str, ...] = ()
    notes: tuple[str, ...] = field(default=())

    def to_frame(self) -> pd.DataFrame:
        """Return a copy of the numbers."""
        return self.frame.copy()

    def __getitem__(self, column: Any) -> Any:
        return self.frame[column]

    def __iter__(self) -> Iterator[Any]:
        return iter(self.frame)

    def __len__(self) -> int:
        return len(self.frame)

    @property
    def loc(self) -> Any:
        """Rows and cells by label, as in a DataFrame."""
        return self.frame.loc

    @property
    def iloc(self) -> Any:
        """Rows and cells by position, as in a DataFrame."""
        return self.frame.iloc

    @property
    def index(self) -> pd.Index:
        """Names of the rows."""
        return self.frame.index

    @property
    def columns(self) -> pd.Index:
        """Names of the columns."""
        return self.frame.columns

    def to_table(self) -> Table:
        """Return the table that is printed, with stars beside p values."""
        frame = self.frame
        heads = [str(name) for name in frame.columns]
        cells = [_cells(head, frame.iloc[:, j]) for j, head in enumerate(heads)]
        align = "r" * len(heads)
        stars = bool(heads) and heads[-1].startswith("Pr(") and (frame.iloc[:, -1] < 0.1).any()
        if stars:
            cells.append(significance_stars(frame.iloc[:, -1]))
            heads, align = [*heads, ""], align + "l"
        rows = list(zip(*cells, strict=True))
        below = [note for note in self.notes if note not in self.heading]
        return Table(
            heads, rows, [str(name) for name in frame.index], align,
            title="\n".join(self.heading) if self.heading else None,
            note="\n".join(below) or None, legend=LEGEND if stars else None,
        )  # fmt: skip


def _cells(head: str, column: pd.Series) -> list[str]:
    """Format one column as R's ``print.anova`` does; nothing where there is no number."""
    values = column.to_numpy(dtype=float)
    there = np.flatnonzero(~np.isnan(values))
    numbers = values[there].tolist()
    if head.startswith("Pr("):
        shown = format_pvalue(numbers, DECIMALS)
    elif head in STATISTICS:
        shown = format_common(round_all(numbers, DECIMALS), DIGITS)
    else:
        counts = head.endswith("Df")
        shown = format_common(numbers if counts else zap_small(numbers, DIGITS), DIGITS)
    cells = [""] * len(values)
    for i, text in zip(there.tolist(), shown, strict=True):
        cells[i] = text
    return cells


def anova_of_terms(fit: AnyFit, type: Any = "III", ddf: str | None = "auto") -> AnovaTable:
    """Return the tests of a fit's terms, see `terms_tested`."""
    name, rule = check_type(type), check_ddf(fit, ddf)
    frame = terms_tested(fit, name, rule)
    if not isinstance(fit, LMMFit):
        response = "" if fit.formula.response is None else fit.formula.response.text
        title = f"Analysis of Deviance Table (Type {name} Wald chisquare tests)"
        return AnovaTable(frame, (title, "", f"Response: {response}"))
    title = "Analysis of Variance Table"
    if rule is not None:
        return AnovaTable(frame, (f"Type {name} {title} with {method_name(fit, rule)}",))
    return AnovaTable(frame, (title if name == "I" else f"Type {name} {title}",))


def anova_of_models(
    models: Sequence[AnyModel], names: Sequence[str], refit: bool = True
) -> AnovaTable:
    """Return the likelihood-ratio tests between models, see `compare`."""
    found = compare(models, names, refit)
    heading = [REFITTED] if found.refitted else []
    heading += [] if found.data_name is None else [f"Data: {found.data_name}"]
    heading += ["Models:"]
    for name, formula in found.formulas.items():
        heading += f"{name}: {formula}".splitlines()
    notes = ((REFITTED,) if found.refitted else ()) + found.notes
    return AnovaTable(found.table, tuple(heading), notes)


def deletions_table(fit: AnyFit, scope: Any, test: str | None, **options: Any) -> AnovaTable:
    """Return the tests of single deletions, see `single_deletions`."""
    found = single_deletions(fit, scope, test, **options)
    title = "Single term deletions"
    if test == "F":
        method = method_name(fit, options.get("ddf", "auto"))
        title += "" if method is None else f" using {method}:"
    heading = (title, "", "Model:", *formula_lines(fit.formula.text))
    return AnovaTable(found.table, heading, found.notes)
