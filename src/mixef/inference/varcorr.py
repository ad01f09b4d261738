"""Estimated variances and correlations of the random effects."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pandas as pd

from mixef.display.varcorr import GroupVarCorr, varcorr_table
from mixef.estimation.fit import LMMFit


class VarCorr(dict[str, pd.DataFrame]):
    """Covariance matrices of the random effects, one frame (s, s) a term.

    Prints as in R: standard deviations and correlations.

    Attributes
    ----------
    sigma : float
        Residual standard deviation.
    groups : list of GroupVarCorr
    """

    def __init__(self, groups: Sequence[GroupVarCorr], sigma: float):
        names = _unique([group.name for group in groups])
        super().__init__(
            {
                name: pd.DataFrame(g.cov, index=list(g.columns), columns=list(g.columns))
                for name, g in zip(names, groups, strict=True)
            }
        )
        self.groups = list(groups)
        self.sigma = sigma

    def stddev(self, group: str) -> pd.Series:
        """Return the standard deviations (s,) of one term."""
        cov = self[group]
        return pd.Series(np.sqrt(cov.to_numpy().diagonal()), index=cov.index)

    def correlation(self, group: str) -> pd.DataFrame:
        """Return the correlations (s, s) of one term, NaN where a variance is zero."""
        cov = self[group]
        return pd.DataFrame(_correlation(cov.to_numpy()), index=cov.index, columns=cov.columns)

    def to_frame(self, order: str = "cov.last") -> pd.DataFrame:
        """Return one row a variance or covariance: grp, var1, var2, vcov, sdcor.

        Parameters
        ----------
        order : {"cov.last", "lower.tri"}
            A term's variances first, then its covariances; or its lower triangle by columns.
        """
        if order not in ("cov.last", "lower.tri"):
            raise ValueError(f"order is {order!r}; expected 'cov.last' or 'lower.tri'")
        rows: list[tuple] = []
        for name, group in zip(self, self.groups, strict=True):
            cov, corr = self[name].to_numpy(), _correlation(self[name].to_numpy())
            columns, size = list(self[name].columns), len(self[name])
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
        rows.append(("Residual", None, None, self.sigma**2, self.sigma))
        return pd.DataFrame(rows, columns=["grp", "var1", "var2", "vcov", "sdcor"])

    def table(self, comp: Sequence[str] = ("Std.Dev.",), digits: int = 5):
        """Return the printed table; ``comp`` names its columns, "Variance" and "Std.Dev."."""
        return varcorr_table(self.groups, self.sigma, comp=tuple(comp), digits=digits)

    def __str__(self) -> str:
        return str(self.table())

    def __repr__(self) -> str:
        return str(self)

    def _repr_html_(self) -> str:
        return self.table().to_html()


def variances(fit: LMMFit) -> VarCorr:
    """Return ``sigma^2 lam lam'`` of every term."""
    sigma = fit.estimates.sigma
    groups = [
        GroupVarCorr(
            term.group,
            term.columns,
            sigma**2 * lam @ lam.T,
            term.structure.tag if len(lam) > 1 else "us",
            term.structure.hom and len(lam) > 1,
        )
        for term, lam in zip(fit.terms, fit.estimates.lams, strict=True)
    ]
    return VarCorr(groups, sigma)


def _correlation(cov: np.ndarray) -> np.ndarray:
    sd = np.sqrt(cov.diagonal())
    with np.errstate(invalid="ignore", divide="ignore"):
        corr = cov / np.outer(sd, sd)
    np.fill_diagonal(corr, 1.0)
    return corr


def _unique(names: Sequence[str]) -> list[str]:
    """Tell repeated names apart as R does: g, g.1, g.2."""
    seen: dict[str, int] = {}
    out = []
    for name in names:
        count = seen.get(name, 0)
        seen[name] = count + 1
        out.append(f"{name}.{count}" if count else name)
    return out
