"""Shares of the variance that a model explains: by fixed effects, by all, by single terms."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd

from mixef import checks
from mixef.estimation.fit import Fit
from mixef.inference.hypotheses.likelihood_ratio import without_terms
from mixef.inference.measures.variances import (
    DELTA,
    LOGNORMAL,
    THEORETICAL,
    TRIGAMMA,
    Variances,
    copies_of,
    fixed_variance,
    variances,
)
from mixef.inference.over_rows import row_moments
from mixef.inference.varcorr import unique_names
from mixef.text.numbers import format_common, format_fixed
from mixef.text.printed import Printed
from mixef.text.tables import Table

HOW = {
    DELTA: "by the delta method",
    LOGNORMAL: "by the lognormal approximation",
    TRIGAMMA: "by the trigamma function",
    THEORETICAL: "that of the link's own distribution",
}


@dataclass(frozen=True, eq=False, repr=False)
class RSquared(Printed):
    """The shares of the variance that a model explains, made by the method ``r2`` of a model.

    Attributes
    ----------
    marginal : float
        By the fixed effects.
    conditional : float
        By fixed and random effects together.
    variances : DataFrame
        Columns variance and share, on the scale of the linear predictor: of the fixed effects, each
        random term, and the residual.
    method : str
        How the variance of the response given its mean was found.
    partial : DataFrame or None
        By terms of the fixed effects, columns part and share; see the method.
    for_each_row : tuple of str
        Random terms with a level for every row, which are residual variance, too.
    """

    marginal: float
    conditional: float
    variances: pd.DataFrame
    method: str
    partial: pd.DataFrame | None = None
    for_each_row: tuple[str, ...] = ()

    def to_frame(self) -> pd.DataFrame:
        """Return the two shares as a column, estimate."""
        values = {"marginal": self.marginal, "conditional": self.conditional}
        return pd.Series(values, name="estimate").to_frame()

    def tables(self) -> list[Table]:
        """Return the shares, the variances that they are of, and those of single terms."""
        cells = format_fixed([self.marginal, self.conditional], 4)
        title = "R2 of Nakagawa, Johnson and Schielzeth"
        shares = Table(("R2",), [(c,) for c in cells], ("marginal", "conditional"), title=title)
        parts = self.variances
        rows = zip(
            format_common(parts["variance"], 5), format_fixed(parts["share"], 4), strict=True
        )
        title = f"Variances of the linear predictor; residual variance {HOW[self.method]}"
        note = None
        if self.for_each_row:
            note = f"{', '.join(self.for_each_row)}: a level for every row, residual variance too"
        heads, index = ("variance", "share"), list(parts.index)
        out = [shares, Table(heads, list(rows), index, title=title, note=note)]
        if self.partial is not None:
            columns = [format_fixed(self.partial[name], 4) for name in self.partial]
            title = "Parts of the marginal R2: lost without a term; its share"
            rows = zip(*columns, strict=True)
            out.append(Table(list(self.partial), list(rows), list(self.partial.index), title=title))
        return out


def r_squared(fit: Fit, method: Any = "auto", partial: Any = False) -> RSquared:
    """Return marginal and conditional R2; see the method ``r2`` of a model."""
    partial = checks.flag(partial, "partial")
    found = variances(fit, method)
    frame = variance_frame(fit, found)
    return RSquared(
        marginal=found.fixed / found.total,
        conditional=(found.fixed + found.random) / found.total,
        variances=frame,
        method=found.method,
        partial=partial_r_squared(fit, found) if partial else None,
        for_each_row=tuple(frame.index[1:-1][found.for_each_row]),
    )


def variance_frame(fit: Fit, found: Variances) -> pd.DataFrame:
    """Lay out the variances of a fit, each random term by its name in ``VarCorr``."""
    names = unique_names(["fixed", *(term.group for term in fit.terms), "residual"])
    values = np.array([found.fixed, *found.terms, found.distribution])
    return pd.DataFrame({"variance": values, "share": values / found.total}, index=names)


def partial_r_squared(fit: Fit, found: Variances) -> pd.DataFrame:
    """Return what each term of the fixed effects adds to the marginal R2.

    ``part`` is the variance of ``X beta`` that is lost in the model without the term and the terms
    that contain it, over the total variance of the whole model (semi-partial R2; M. A. Stoffel,
    S. Nakagawa and H. Schielzeth 2021, PeerJ 9, e11414); ``share`` the covariance of the term's
    part of ``X beta`` with the whole, over the same, which sums to the marginal R2.
    """
    terms = fit.frame.fixed_terms
    sets = [{node.text for node in term} for term in terms.terms]
    assign, beta = fit.design.assign[fit.kept], fit.estimates.beta
    parts = (beta * (assign == t + 1) for t in range(len(terms.labels)))
    whole = np.column_stack([beta, *parts])
    along = row_moments(fit, lambda rows: rows.X @ whole, copies_of).products[0]
    rows = {}
    for t, label in enumerate(terms.labels):
        gone = [other for other, own in zip(terms.labels, sets, strict=True) if own >= sets[t]]
        left = fixed_variance(without_terms(fit, gone))
        share = found.fixed * along[t + 1] / along[0] if along[0] > 0.0 else 0.0
        rows[label] = ((found.fixed - left) / found.total, share / found.total)
    return pd.DataFrame.from_dict(rows, orient="index", columns=["part", "share"], dtype=float)
