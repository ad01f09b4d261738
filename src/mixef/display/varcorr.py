"""Variances and correlations of random effects, laid out as lme4 prints them."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence

import numpy as np
import pandas as pd

from mixef import checks
from mixef.inference.varcorr import GroupVarCorr, component_frame, unique_names
from mixef.text.numbers import format_common, format_fixed
from mixef.text.printed import PrintedTable
from mixef.text.tables import Table

COMPONENTS = ("Variance", "Std.Dev.")
RESIDUAL = "Residual"
# Structures whose correlations all follow from one number.
ONE_CORRELATION = frozenset({"cs", "ar1"})


def varcorr_table(
    groups: Sequence[GroupVarCorr],
    sigma: float | None,
    comp: Iterable[str] = ("Std.Dev.",),
    digits: int = 5,
) -> Table:
    """Lay out variance components, as lme4 prints ``VarCorr(fit)``.

    All standard deviations share their decimals, and so do all variances. Correlations stand
    below the diagonal. Where one number gives all correlations (``cs``, ``ar1``) it is shown once,
    with the name of the structure.

    Parameters
    ----------
    groups : sequence of GroupVarCorr
        The terms, in the order to show them. A name that comes again gets a number: ``Subject.1``.
    sigma : float or None
        Residual standard deviation; None for a family without a scale.
    comp : iterable of str
        ``"Variance"``, ``"Std.Dev."`` or both.
    digits : int
        Significant digits of variances and standard deviations; correlations have two decimals
        fewer than that, but no fewer than two.

    Returns
    -------
    Table
        Columns ``Groups``, ``Name``, the components, and ``Corr`` where there are correlations.

    Raises
    ------
    ValueError
        `comp` is empty or has a name that is not a component.

    Examples
    --------
    >>> cov = np.array([[612.10, 9.60], [9.60, 35.07]])
    >>> print(varcorr_table([GroupVarCorr("Subject", ["(Intercept)", "Days"], cov)], 25.592))
     Groups   Name        Std.Dev. Corr
     Subject  (Intercept) 24.741
              Days         5.922   0.066
     Residual             25.592
    """
    comp = _checked(comp)
    cells = [_variance_cells(groups, sigma, name, digits) for name in comp]
    names = [column for g in groups for column in g.columns[: g.shown]]
    labels = [
        label
        for name, g in zip(unique_names(g.name for g in groups), groups, strict=True)
        for label in (name, *[""] * (g.shown - 1))
    ]
    if sigma is not None:
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


def _checked(comp: Iterable[str]) -> list[str]:
    wanted = set(checks.names(comp, "comp", "'Variance', 'Std.Dev.' or both"))
    if not wanted or wanted - set(COMPONENTS):
        raise ValueError(f"comp is {sorted(wanted)}; give 'Variance', 'Std.Dev.' or both")
    return [name for name in COMPONENTS if name in wanted]


def _variance_cells(
    groups: Sequence[GroupVarCorr], sigma: float | None, component: str, digits: int
) -> list[str]:
    variances = [v for g in groups for v in g.variances[: g.shown]]
    if sigma is not None:
        variances.append(sigma**2)
    root = component == "Std.Dev."
    return format_common([math.sqrt(v) if root else v for v in variances], digits)


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
    if s < 2 or group.structure == "diag":
        return [[] for _ in range(group.shown)]
    corr = group.correlation
    if group.structure in ONE_CORRELATION:
        rho = format_fixed([corr[1, 0]], decimals)[0]
        return [[f"{rho} ({group.structure})"], *[[] for _ in range(group.shown - 1)]]
    cells = format_fixed(corr.ravel(), decimals)
    return [cells[i * s : i * s + i] for i in range(s)]


class VarCorr(PrintedTable, dict[str, pd.DataFrame]):
    """Covariance matrices of the random effects, one frame (s, s) a term.

    Prints as in R: standard deviations and correlations.

    Attributes
    ----------
    sigma : float or None
        Residual standard deviation; None for a family without a dispersion.
    groups : list of GroupVarCorr
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
        return component_frame(self.groups, self.sigma, order)

    def to_table(self, comp: Sequence[str] = ("Std.Dev.",), digits: int = 5):
        """Return the printed table; ``comp`` names its columns, "Variance" and "Std.Dev."."""
        digits = checks.digits(digits)
        return varcorr_table(self.groups, self.sigma, comp=comp, digits=digits)
