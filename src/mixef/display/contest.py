"""Tests of linear hypotheses, as they are printed."""

from __future__ import annotations

from dataclasses import dataclass, replace

import pandas as pd

from mixef.display.summary import coef_to_table
from mixef.text.printed import PrintedTable
from mixef.text.tables import Table


@dataclass(frozen=True, eq=False, repr=False)
class Contest(PrintedTable):
    """Tests of linear hypotheses.

    Attributes
    ----------
    frame : DataFrame
        One row for a joint test (NumDF, DenDF, F value, Pr(>F); Chisq, Df, Pr(>Chisq) without
        denominator degrees of freedom), or a row for each hypothesis (Estimate, Std. Error, df,
        t value, lower, upper, Pr(>|t|)).
    hypotheses : tuple of str
        The hypotheses as equations.
    method : str
        What the tests are.
    """

    frame: pd.DataFrame
    hypotheses: tuple[str, ...]
    method: str

    def to_frame(self) -> pd.DataFrame:
        """Return the numbers."""
        return self.frame.copy()

    def __getitem__(self, column: str) -> pd.Series:
        return self.frame[column]

    def to_table(self) -> Table:
        """Return the table that is printed."""
        title = "\n".join([self.method, *(f"  {text}" for text in self.hypotheses), ""])
        return replace(coef_to_table(self.frame), title=title)
