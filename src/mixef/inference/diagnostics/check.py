"""One report on the health of a fitted model."""

from __future__ import annotations

import re
import textwrap
from dataclasses import astuple, dataclass, fields

import numpy as np
import pandas as pd

from mixef import checks
from mixef.errors import DataError, ExactFactorNeededError, FitError
from mixef.estimation.fit import Fit
from mixef.inference.diagnostics import checks_of_fit, checks_of_rows
from mixef.inference.diagnostics.finding import NOTE, WARNING, Finding
from mixef.inference.diagnostics.simulated_residuals import simulated_residuals
from mixef.text.layout import WIDTH
from mixef.text.numbers import format_number
from mixef.text.printed import PrintedFrame
from mixef.text.tables import Table

UNBROKEN, HARD = re.compile(r'fit\.update\(".*?"\)|p [=<] \S+'), "\0"


@dataclass(frozen=True, eq=False, repr=False)
class Health(PrintedFrame):
    """What the checks of a model have found, made by the method ``check`` of a model.

    Attributes
    ----------
    frame : DataFrame
        One row a finding: check, status ("ok", "note" or "warning"), value, message, remedy.
    formula : str
    """

    frame: pd.DataFrame
    formula: str

    @property
    def ok(self) -> bool:
        """Whether there is no warning."""
        return not (self.frame["status"] == WARNING).any()

    @property
    def title(self) -> str:
        """What was found, in a line."""
        counts = self.frame["status"].value_counts()
        said = [f"{counts.get(s, 0)} {s}{'s' if counts.get(s, 0) != 1 else ''}" for s in
                (WARNING, NOTE)]  # fmt: skip
        return f"Health of {self.formula}: {', '.join(said)}, {counts.get('ok', 0)} ok"

    def to_table(self) -> Table:
        """Return one row a finding."""
        rows = [
            (r.check, r.status, "" if np.isnan(r.value) else format_number(r.value, 3), r.message,
             r.remedy)
            for r in self.frame.itertuples()
        ]  # fmt: skip
        return Table(list(self.frame.columns), rows, align="llrll", title=self.title)

    def to_text(self) -> str:
        """Write a line a finding, what to do about it below."""
        lines = textwrap.wrap(self.title, WIDTH - 1)
        for r in self.frame.itertuples():
            lines += _wrapped(f"{r.status:<8}{r.check}: {r.message}", "", " " * 8)
            if r.remedy:
                lines += _wrapped(f"-> {r.remedy}", " " * 8, " " * 11)
        return "\n".join(lines)

    def __str__(self) -> str:
        return self.to_text()


def _wrapped(text: str, first: str, later: str) -> list[str]:
    """Break a text into lines, but no call that a reader may copy, and no p value."""
    whole = UNBROKEN.sub(lambda part: part[0].replace(" ", HARD), text)
    lines = textwrap.wrap(
        whole, WIDTH - 1, initial_indent=first, subsequent_indent=later, break_long_words=False,
        break_on_hyphens=False,
    )  # fmt: skip
    return [line.replace(HARD, " ") for line in lines]


def health(fit: Fit, n: int = 250, seed: int | np.random.Generator | None = None) -> Health:
    """Make all checks that a model has; see the method ``check`` of a model."""
    found = [finding for find in checks_of_fit.FINDERS for finding in find(fit)]
    rng = checks.generator(seed)
    try:
        residuals = simulated_residuals(fit, n, rng)
        found += list(checks_of_rows.of_residuals(fit, residuals, rng))
    except (FitError, DataError) as error:
        said = "responses cannot be simulated, so that what takes simulations is left out"
        found.append(Finding("simulation", NOTE, np.nan, said, str(error)))
    for find in checks_of_rows.FINDERS:
        try:
            found += find(fit)
        except ExactFactorNeededError as error:
            said = "left out: it takes an exact factor of the random effects"
            found.append(Finding(find.__name__, NOTE, np.nan, said, str(error)))
    columns = [field.name for field in fields(Finding)]
    frame = pd.DataFrame([astuple(finding) for finding in found], columns=columns)
    return Health(frame, fit.formula.text)
