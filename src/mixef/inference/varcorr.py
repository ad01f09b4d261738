"""Estimated covariances of the random effects, and their principal components."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace

import numpy as np
import pandas as pd
from scipy.linalg import block_diag

from mixef import checks
from mixef.errors import ArgumentError
from mixef.estimation.fit import Fit
from mixef.terms.covariance import STRUCTURES, make_covariance
from mixef.text.numbers import format_common, format_fixed
from mixef.text.printed import Printed, PrintedTable
from mixef.text.tables import Table

COMPONENTS = ("Variance", "Std.Dev.")
RESIDUAL = "Residual"


@dataclass(frozen=True, eq=False)
class GroupVarCorr:
    """Covariance matrix of the random effects of one term."""

    name: str  # Name of the grouping factor
    columns: Sequence[str]  # Names of the coefficients that vary
    cov: np.ndarray  # (s, s): their covariance matrix, on the scale of the linear predictor
    structure: str = "us"  # Tag of the structure, which decides what there is to show
    hom: bool = False  # One standard deviation serves all coefficients, and is shown once

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
    def correlations(self) -> str:
        """How many correlations there are to show: "none", "one" or "all"."""
        return STRUCTURES[self.structure].correlations if len(self.columns) > 1 else "none"

    @property
    def rho(self) -> float:
        """The correlation that gives all others, where there is one; else NaN."""
        if self.correlations != "one":
            return np.nan
        structure = make_covariance(self.structure, self.hom, len(self.columns))
        row, col = structure.parts(self.columns)[-1].entry(self.cov)
        return float(self.correlation[row, col])

    @property
    def shown(self) -> int:
        """Number of rows that this term takes in a table."""
        return 1 if self.hom else len(self.columns)


def varcorr(fit: Fit) -> VarCorr:
    """Return the covariance of every term: ``sigma^2 lam lam'``, without sigma for a GLMM."""
    groups = [
        GroupVarCorr(
            term.group,
            term.columns,
            fit.covariance_scale * lam @ lam.T,
            term.structure.tag,
            term.structure.hom,
        )
        for term, lam in zip(fit.terms, fit.estimates.lams, strict=True)
    ]
    return VarCorr(groups, fit.sigma)


class VarCorr(PrintedTable, dict[str, pd.DataFrame]):
    """Covariance matrices of the random effects, one frame (s, s) a term.

    Prints as in R: standard deviations and correlations.

    Parameters
    ----------
    groups : sequence of GroupVarCorr
        The terms, in the order to show them. A name that comes again gets a number: ``Subject.1``.
    sigma : float or None
        Residual standard deviation; None for a family without a dispersion.

    Examples
    --------
    >>> cov = np.array([[612.10, 9.60], [9.60, 35.07]])
    >>> VarCorr([GroupVarCorr("Subject", ["(Intercept)", "Days"], cov)], 25.592)
     Groups   Name        Std.Dev. Corr
     Subject  (Intercept) 24.741
              Days         5.922   0.066
     Residual             25.592
    """

    def __init__(self, groups: Sequence[GroupVarCorr], sigma: float | None):
        names = unique_names(g.name for g in groups)
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
        cov = self[checks.key(group, "group", self)]
        return pd.Series(np.sqrt(cov.to_numpy().diagonal()), index=cov.index)

    def correlation(self, group: str) -> pd.DataFrame:
        """Return the correlations (s, s) of one term, NaN where a variance is zero."""
        cov = self[checks.key(group, "group", self)]
        values = self.groups[list(self).index(group)].correlation
        return pd.DataFrame(values, index=cov.index, columns=cov.columns)

    def to_frame(self, order: str = "cov.last") -> pd.DataFrame:
        """Return one row a variance or covariance: grp, var1, var2, vcov, sdcor.

        Parameters
        ----------
        order : {"cov.last", "lower.tri"}
            A term's variances first, then its covariances; or its lower triangle by columns.
        """
        order = checks.option(order, "order", ("cov.last", "lower.tri"))
        rows: list[tuple] = []
        for name, group in zip(self, self.groups, strict=True):
            cov, corr, columns = group.cov, group.correlation, group.columns
            size = len(columns)
            entries = [(i, j) for j in range(size) for i in range(j, size)]
            if group.correlations == "none":
                entries = [(i, i) for i in range(size)]
            if order == "cov.last":
                entries.sort(key=lambda ij: ij[0] != ij[1])
            for i, j in entries:
                if i == j:
                    rows.append((name, columns[i], None, cov[i, i], np.sqrt(cov[i, i])))
                else:
                    rows.append((name, columns[j], columns[i], cov[i, j], corr[i, j]))
        if self.sigma is not None:
            rows.append((RESIDUAL, None, None, self.sigma**2, self.sigma))
        return pd.DataFrame(rows, columns=["grp", "var1", "var2", "vcov", "sdcor"])

    def to_table(self, comp: Iterable[str] = ("Std.Dev.",), digits: int = 5) -> Table:
        """Return the printed table.

        All standard deviations share their decimals, and so do all variances. Correlations stand
        below the diagonal. Where one number gives all correlations (``cs``, ``ar1``) it is shown
        once, with the name of the structure.

        Parameters
        ----------
        comp : iterable of str
            ``"Variance"``, ``"Std.Dev."`` or both.
        digits : int
            Significant digits of variances and standard deviations; correlations have two
            decimals fewer than that, but no fewer than two.
        """
        digits, comp, groups = checks.digits(digits), _checked(comp), self.groups
        cells = [self._cells(name == "Std.Dev.", digits) for name in comp]
        names = [column for g in groups for column in g.columns[: g.shown]]
        labels = [
            label
            for name, g in zip(self, groups, strict=True)
            for label in (name, *[""] * (g.shown - 1))
        ]
        if self.sigma is not None:
            labels, names = [*labels, RESIDUAL], [*names, ""]
        corr = _corr_columns(groups, max(2, digits - 2), len(labels))
        heads = ["Corr", *[""] * (len(corr) - 1)] if corr else []
        return Table(
            columns=("Groups", "Name", *comp, *heads),
            rows=list(zip(labels, names, *cells, *corr, strict=True)),
            # Empty labels give the space that begins each line in R.
            index=("",) * len(labels),
            align="ll" + "n" * (len(comp) + len(corr)),
        )

    def _cells(self, root: bool, digits: int) -> list[str]:
        variances = [v for g in self.groups for v in g.variances[: g.shown]]
        variances += [] if self.sigma is None else [self.sigma**2]
        return format_common([math.sqrt(v) if root else v for v in variances], digits)


def unique_names(names: Iterable[str]) -> list[str]:
    """Return names with repeated ones told apart as R's ``make.unique`` does: g, g.1, g.2.

    Examples
    --------
    >>> unique_names(["g", "g", "g.1"])
    ['g', 'g.2', 'g.1']
    """
    names = list(names)
    taken, counts, out = set(names), Counter[str](), []
    for name in names:
        new = name
        while name in counts and new in taken:
            new = f"{name}.{counts[name]}"
            counts[name] += 1
        counts.setdefault(name, 1)
        taken.add(new)
        out.append(new)
    return out


def _checked(comp: Iterable[str]) -> list[str]:
    wanted = set(checks.names(comp, "comp", "'Variance', 'Std.Dev.' or both"))
    if not wanted or wanted - set(COMPONENTS):
        raise ArgumentError(f"comp is {sorted(wanted)}; give 'Variance', 'Std.Dev.' or both")
    return [name for name in COMPONENTS if name in wanted]


def _corr_columns(groups: Sequence[GroupVarCorr], decimals: int, rows: int) -> list[list[str]]:
    """Return the columns below the heading Corr, each padded to one width; none without need."""
    blocks = [_corr_block(g, decimals) for g in groups]
    width = max((len(row) for block in blocks for row in block), default=0)
    body = [row + [""] * (width - len(row)) for block in blocks for row in block]
    body += [[""] * width for _ in range(rows - len(body))]
    return [list(column) for column in zip(*body, strict=True)] if width else []


def _corr_block(group: GroupVarCorr, decimals: int) -> list[list[str]]:
    """Rows of correlation cells of one term, as short as they can be."""
    s = len(group.columns)
    if group.correlations == "none":
        return [[] for _ in range(group.shown)]
    corr = group.correlation
    if group.correlations == "one":
        rho = format_fixed([group.rho], decimals)[0]
        return [[f"{rho} ({group.structure})"], *[[] for _ in range(group.shown - 1)]]
    cells = format_fixed(corr.ravel(), decimals)
    return [cells[i * s : i * s + i] for i in range(s)]


@dataclass(frozen=True, eq=False, repr=False)
class PrincipalComponents(PrintedTable):
    """Principal components of one grouping factor's relative covariance.

    Attributes
    ----------
    sdev : ndarray (s,)
        Relative standard deviations of the components, decreasing; zero for a direction that
        the model has but the data do not show.
    rotation : DataFrame (s, s)
        Each component's coefficients.
    """

    sdev: np.ndarray
    rotation: pd.DataFrame

    @property
    def importance(self) -> pd.DataFrame:
        """Standard deviations and (cumulative) shares of the variance."""
        variance = self.sdev**2
        total = variance.sum()
        share = variance / total if total > 0 else variance
        rows = {
            "Standard deviation": self.sdev,
            "Proportion of Variance": share,
            "Cumulative Proportion": np.cumsum(share),
        }
        names = [f"PC{i + 1}" for i in range(len(share))]
        return pd.DataFrame.from_dict(rows, orient="index", columns=names)

    def to_table(self) -> Table:
        """Return the printed table: `importance`."""
        rows = [format_fixed(row, 4) for row in self.importance.to_numpy()]
        return Table(list(self.importance.columns), rows, list(self.importance.index))


class ComponentsByGroup(Printed, dict[str, PrincipalComponents]):
    """Principal components by grouping factor."""

    def tables(self) -> list[Table]:
        """Return one table a grouping factor, with its name above."""
        return [replace(part.to_table(), title=group) for group, part in self.items()]


def principal_components(fit: Fit) -> ComponentsByGroup:
    """Return the principal components of ``lam lam'``, one a grouping factor."""
    out = ComponentsByGroup()
    for group, members in fit.groups.items():
        lam = block_diag(*[fit.estimates.lams[t] for t in members])
        names = [name for t in members for name in fit.terms[t].columns]
        left, sdev, _ = np.linalg.svd(lam)
        components = [f"PC{i + 1}" for i in range(len(sdev))]
        out[group] = PrincipalComponents(sdev, pd.DataFrame(left, index=names, columns=components))
    return out
