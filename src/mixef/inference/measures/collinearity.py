"""Variance inflation: what terms of the fixed effects cost each other in precision."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import pandas as pd

from mixef.errors import DataError
from mixef.estimation.fit import Fit
from mixef.text.numbers import format_common
from mixef.text.printed import PrintedFrame
from mixef.text.tables import Table

GVIF, DF, SCALED = COLUMNS = ("GVIF", "Df", "GVIF^(1/(2*Df))")


@dataclass(frozen=True, eq=False, repr=False)
class VarianceInflation(PrintedFrame):
    """Generalized variance inflation factors of the terms, made by the method ``vif`` of a model.

    Attributes
    ----------
    frame : DataFrame
        One row a term: GVIF, Df (its coefficients), GVIF^(1/(2*Df)).
    note : str or None
        What a reader should know.
    """

    frame: pd.DataFrame
    note: str | None = None

    def to_table(self) -> Table:
        """Return the table that is printed."""
        columns = [format_common(self.frame[name], 5) for name in self.frame]
        rows = list(zip(*columns, strict=True))
        title = "Variance inflation factors"
        return Table(list(COLUMNS), rows, list(self.frame.index), title=title, note=self.note)


def variance_inflation(fit: Fit) -> VarianceInflation:
    """Return generalized variance inflation factors; see the method ``vif`` of a model.

    With R the correlations of the coefficients without the intercept, ``R_t`` those of a term and
    ``R_o`` those of the others, ``det(R_t) det(R_o) / det(R)`` (Fox and Monette 1992).
    """
    assign = fit.design.assign[fit.kept]
    has_intercept, slopes = bool((assign == 0).any()), assign != 0
    own = assign[slopes]
    terms = np.unique(own)
    labels = [fit.design.term_labels[t - 1] for t in terms]
    if len(terms) < 2:
        there = f"{labels[0]} alone" if labels else "none"
        raise DataError(
            f"{fit.formula.text} has fewer than two terms besides the intercept ({there}), so that "
            "there is nothing to be collinear with; expected two terms or more"
        )
    V = fit.model_vcov[np.ix_(slopes, slopes)]
    sd = np.sqrt(V.diagonal())
    R = V / np.outer(sd, sd)
    whole = _log_det(R)
    logs = [
        _log_det(R[np.ix_(own == t, own == t)]) + _log_det(R[np.ix_(own != t, own != t)]) - whole
        for t in terms
    ]
    df = np.array([np.count_nonzero(own == t) for t in terms])
    with np.errstate(over="ignore"):
        values = np.exp(logs), df, np.exp(np.array(logs) / (2.0 * df))
    frame = pd.DataFrame(dict(zip(COLUMNS, values, strict=True)), index=labels)
    missing = "The model has no intercept: means of predictors count as collinear."
    return VarianceInflation(frame, None if has_intercept else missing)


def _log_det(R: np.ndarray) -> float:
    """Return the logarithm of a determinant; NaN where R is not positive definite."""
    sign, value = np.linalg.slogdet(R)
    return float(value) if sign > 0 else np.nan
