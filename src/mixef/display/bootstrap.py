"""Bootstrap replicates as they print."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, fields

import numpy as np
import pandas as pd

from mixef import checks
from mixef.inference.resampling.bootstrap import BootstrapReplicates
from mixef.text.numbers import format_common, round_all
from mixef.text.printed import PrintedTable
from mixef.text.tables import Table

# Messages of failures that are shown; the others are counted.
SHOWN = 3


@dataclass(frozen=True, eq=False, repr=False)
class Bootstrap(PrintedTable, BootstrapReplicates):
    """Bootstrap replicates of a fit's statistics, as the method ``bootstrap`` returns them.

    Attributes
    ----------
    type : str
        How the replicates were drawn.
    t0 : Series (k,)
        Statistics of the fit.
    replicates : DataFrame (n, k)
        Rows of replicates that failed are NaN.
    failures : Series
        How many replicates failed, by message.
    n_singular, n_unconverged : int
        Replicates with a singular fit, and those whose search did not end at an optimum.
    """

    @classmethod
    def of(cls, draws: BootstrapReplicates) -> Bootstrap:
        """Return replicates that print."""
        return cls(**{field.name: getattr(draws, field.name) for field in fields(draws)})

    def to_table(self, digits: int = 4) -> Table:
        """Return the summary as a table."""
        digits = checks.digits(digits)
        summary = self.summary()
        columns = ["statistic", "bias", "std_error"]
        rows = _cells(summary[columns].to_numpy(), digits)
        return Table(
            ("statistic", "bias", "std. error"),
            rows,
            index=[str(name) for name in summary.index],
            title=f"{self.type.capitalize()} bootstrap of {self.n} replicates",
            note=counts_note(self.n, self.n_singular, self.n_unconverged, self.failures) or None,
        )


def counts_note(n: int, n_singular: int, n_unconverged: int, failures: pd.Series) -> str:
    """Say how many replicates were singular, did not converge or failed, and why."""
    lines = []
    if n_singular:
        lines.append(f"{n_singular} of {n} replicates are singular fits")
    if n_unconverged:
        lines.append(f"{n_unconverged} of {n} replicates did not end at an optimum")
    if len(failures):
        lines.append(f"{int(failures.sum())} of {n} replicates failed and are left out:")
        lines += [f"  {count} by {message}" for message, count in failures.iloc[:SHOWN].items()]
        rest = failures.iloc[SHOWN:]
        if len(rest):
            lines.append(f"  {int(rest.sum())} by {len(rest)} other messages")
    return "\n".join(lines)


def _cells(values: np.ndarray, digits: int) -> Sequence[Sequence[str]]:
    """Return cells row by row; each row has the decimals that its standard error needs."""
    rows = []
    for row in values:
        spread = abs(row[-1])
        if np.isfinite(spread) and spread > 0:
            decimals = max(0, digits - 1 - int(np.floor(np.log10(spread))))
            row = np.array(round_all(row, decimals))
        rows.append([cell.strip() for cell in format_common(row, 7)])
    return rows
