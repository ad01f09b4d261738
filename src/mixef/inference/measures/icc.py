"""Intraclass correlations: the share of the variance that levels of the grouping factors make."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import pandas as pd

from mixef import checks
from mixef.estimation.fit import Fit
from mixef.inference.measures.r2 import HOW
from mixef.inference.measures.variances import variances
from mixef.text.numbers import format_fixed
from mixef.text.printed import Printed
from mixef.text.tables import Table


@dataclass(frozen=True, eq=False, repr=False)
class IntraclassCorrelation(Printed):
    """Intraclass correlations of a model, made by the method ``icc`` of a model.

    Attributes
    ----------
    adjusted : float
        Variance of the random effects over random and residual variance.
    unadjusted : float
        The same over all variance, that of the fixed effects included.
    by_group : DataFrame or None
        Columns adjusted and unadjusted, one row a grouping factor; one with a level for every row
        is among the residual variance elsewhere.
    method : str
        How the variance of the response given its mean was found.
    """

    adjusted: float
    unadjusted: float
    by_group: pd.DataFrame | None
    method: str

    def to_frame(self) -> pd.DataFrame:
        """Return columns adjusted and unadjusted: a row a grouping factor if asked for, and all."""
        both = {"adjusted": self.adjusted, "unadjusted": self.unadjusted}
        whole = pd.DataFrame(both, index=["all"])
        return whole if self.by_group is None else pd.concat([self.by_group, whole])

    def tables(self) -> list[Table]:
        """Return the correlations as one table."""
        frame = self.to_frame()
        columns = [format_fixed(frame[name], 4) for name in frame]
        title = "Intraclass correlation"
        note = f"residual variance {HOW[self.method]}"
        rows = list(zip(*columns, strict=True))
        return [Table(list(frame), rows, list(frame.index), title=title, note=note)]


def intraclass_correlation(
    fit: Fit, by_group: Any = False, method: Any = "auto"
) -> IntraclassCorrelation:
    """Return intraclass correlations; see the method ``icc`` of a model."""
    by_group = checks.flag(by_group, "by_group")
    found = variances(fit, method)
    inner, groups = found.random + found.residual, None
    if by_group:
        rows = {
            group: float(sum(found.terms[t] for t in members))
            for group, members in fit.groups.items()
        }
        own = pd.Series(rows, dtype=float)
        groups = pd.DataFrame({"adjusted": own / inner, "unadjusted": own / found.total})
    return IntraclassCorrelation(
        found.random / inner, found.random / found.total, groups, found.method
    )
