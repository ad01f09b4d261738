"""Estimated variances and correlations of the random effects."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd

from mixef import checks
from mixef.inference.observations import AnyFit


@dataclass(frozen=True, eq=False)
class GroupVarCorr:
    """Covariance matrix of the random effects of one term.

    Parameters
    ----------
    name : str
        Name of the grouping factor.
    columns : sequence of str, length s
        Names of the coefficients that vary.
    cov : ndarray, shape (s, s)
        Their covariance matrix, on the scale of the linear predictor.
    structure : {"us", "diag", "cs", "ar1"}
        Form of the matrix, which decides what there is to show.
    hom : bool
        One standard deviation serves all coefficients, and is shown once.
    """

    name: str
    columns: Sequence[str]
    cov: np.ndarray
    structure: str = "us"
    hom: bool = False

    def __repr__(self) -> str:
        return f"<GroupVarCorr of {', '.join(self.columns)} by {self.name}>"

    @property
    def variances(self) -> np.ndarray:
        """Variances, shape (s,)."""
        return self.cov.diagonal()

    @property
    def correlation(self) -> np.ndarray:
        """Correlation matrix, shape (s, s), with nan beside a variance of zero."""
        sd = np.sqrt(self.variances)
        with np.errstate(divide="ignore", invalid="ignore"):
            corr = self.cov / np.outer(sd, sd)
        np.fill_diagonal(corr, 1.0)
        return corr

    @property
    def shown(self) -> int:
        """Number of rows that this term takes in a table."""
        return 1 if self.hom else len(self.columns)


def variances(fit: AnyFit) -> list[GroupVarCorr]:
    """Return the covariance of every term: ``sigma^2 lam lam'``, without sigma for a GLMM."""
    return [
        GroupVarCorr(
            term.group,
            term.columns,
            fit.covariance_scale * lam @ lam.T,
            term.structure.tag if len(lam) > 1 else "us",
            term.structure.hom and len(lam) > 1,
        )
        for term, lam in zip(fit.terms, fit.estimates.lams, strict=True)
    ]


def component_frame(
    groups: Sequence[GroupVarCorr], sigma: float | None, order: str = "cov.last"
) -> pd.DataFrame:
    """Return one row a variance or covariance: grp, var1, var2, vcov, sdcor.

    Parameters
    ----------
    sigma : float or None
        Residual standard deviation; None for a family without a dispersion.
    order : {"cov.last", "lower.tri"}
        A term's variances first, then its covariances; or its lower triangle by columns.
    """
    order = checks.option(order, "order", ("cov.last", "lower.tri"))
    rows: list[tuple] = []
    for name, group in zip(unique_names(g.name for g in groups), groups, strict=True):
        cov, corr, columns = group.cov, group.correlation, group.columns
        size = len(columns)
        entries = [(i, j) for j in range(size) for i in range(j, size)]
        if group.structure == "diag":
            entries = [(i, i) for i in range(size)]
        if order == "cov.last":
            entries.sort(key=lambda ij: ij[0] != ij[1])
        for i, j in entries:
            if i == j:
                rows.append((name, columns[i], None, cov[i, i], np.sqrt(cov[i, i])))
            else:
                rows.append((name, columns[j], columns[i], cov[i, j], corr[i, j]))
    if sigma is not None:
        rows.append(("Residual", None, None, sigma**2, sigma))
    return pd.DataFrame(rows, columns=["grp", "var1", "var2", "vcov", "sdcor"])


def unique_names(names: Iterable[str]) -> list[str]:
    """Return names with repeated ones told apart as R does: g, g.1, g.2."""
    seen: dict[str, int] = {}
    out = []
    for name in names:
        count = seen.get(name, 0)
        seen[name] = count + 1
        out.append(f"{name}.{count}" if count else name)
    return out
