"""Coefficients of a grouping factor's levels: by their own rows alone, and by the mixed model."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import pandas as pd

from mixef.errors import DataError
from mixef.estimation.fit import Fit
from mixef.estimation.many.by_group import Groups, least_squares, reweighted_least_squares

# What is left of a column beside its size if it is a combination of others.
SAME = 1e-8


@dataclass(frozen=True, eq=False)
class WithinGroups:
    """Estimates within groups, and what the mixed model makes of them.

    Attributes
    ----------
    group : str
    within : DataFrame (l, s)
        By the rows of each level alone; NaN where these do not determine them.
    mixed : DataFrame (l, s)
        Population plus conditional mode.
    population : Series (s,)
        What the fixed effects say of these coefficients; 0 where they say nothing.
    """

    group: str
    within: pd.DataFrame
    mixed: pd.DataFrame
    population: pd.Series

    def __repr__(self) -> str:
        return f"<WithinGroups of {self.group}, {len(self.within)} levels>"

    @property
    def known(self) -> np.ndarray:
        """Which levels (l,) determine all of their coefficients."""
        known: np.ndarray = np.isfinite(self.within.to_numpy()).all(axis=1)
        return known


def within_groups(fit: Fit, group: str) -> WithinGroups:
    """Return the coefficients that vary over a factor's levels, with and without the others.

    Those of a level by itself are of its rows' regression on the columns of the factor's terms.
    What else is in the linear predictor, fixed effects of other columns and the modes of other
    factors, stays as the mixed model has it. Where all fixed effects vary this is `lm_list`.
    Separated responses of a level have no estimates.

    Raises
    ------
    DataError
        If the rows of no level determine the coefficients.
    """
    family = fit.family
    if family.auxiliary and not family.has_dispersion:
        raise DataError(
            f"the {family.auxiliary[0].name} of {family!r} cannot be estimated group by group, so "
            "that there are no estimates within groups; look at caterpillar() instead"
        )
    members = fit.groups[group]
    terms = [fit.terms[t] for t in members]
    Z = np.column_stack([term.z for term in terms])
    names = [name for term in terms for name in term.columns]
    b = np.column_stack([fit.estimates.effects[t] for t in members])
    codes = terms[0].grouping.codes
    population = varying_part(Z, fit.X, fit.estimates.beta)
    mixed = population + b
    offset = np.asarray(fit.eta) - np.einsum("ns,ns->n", Z, mixed[codes])
    # levels without rows are none of the regressions'
    used, place = np.unique(codes, return_inverse=True)
    groups = Groups.of(place)
    o = groups.order
    weights = None if fit.weights is None else fit.weights[o]
    if fit.is_linear:
        found = least_squares(groups, Z[o], fit.y[o], weights, offset[o])
    else:
        found = reweighted_least_squares(groups, family, Z[o], fit.y[o], weights, offset[o])
    bad = ~found.kept.all(axis=1) | found.failed | found.edge
    if bad.all():
        raise DataError(
            f"the rows of no level of {group} determine {', '.join(names)} by themselves, so that "
            "there is nothing to shrink; look at caterpillar() instead"
        )
    within = np.full(b.shape, np.nan)
    within[used[~bad]] = found.coefficients[~bad]
    index = terms[0].grouping.index
    return WithinGroups(
        group,
        pd.DataFrame(within, index=index, columns=names),
        pd.DataFrame(mixed, index=index, columns=names),
        pd.Series(population, index=names, name="population"),
    )


def varying_part(Z: np.ndarray, X: np.ndarray, beta: np.ndarray) -> np.ndarray:
    """Return the coefficients (s,) of Z (n, s) that fixed effects stand for.

    A fixed column counts if it is a combination of the columns of Z, as the intercept is one of
    ``0 + f``.
    """
    size = np.sqrt(np.square(Z).sum(axis=0))
    unit = Z / np.where(size > 0.0, size, 1.0)
    made = np.linalg.lstsq(unit, X, rcond=None)[0]
    left = np.sqrt(np.square(X - unit @ made).sum(axis=0))
    whole = np.sqrt(np.square(X).sum(axis=0))
    inside = left <= SAME * whole
    part: np.ndarray = made[:, inside] @ beta[inside] / np.where(size > 0.0, size, 1.0)
    return part
