"""Variances and correlations of random effects, laid out as lme4 prints them."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import numpy as np

from mixef.display.numbers import format_common, format_fixed
from mixef.display.tables import Table

COMPONENTS = ("Variance", "Std.Dev.")
RESIDUAL = "Residual"
# Structures whose correlations all follow from one number.
ONE_CORRELATION = frozenset({"cs", "ar1"})


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

    @property
    def variances(self) -> np.ndarray:
        """Variances, shape (s,)."""
        return np.diag(self.cov)

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
        for name, g in zip(_unique(groups), groups, strict=True)
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
    wanted = {comp} if isinstance(comp, str) else set(comp)
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


def _unique(groups: Sequence[GroupVarCorr]) -> list[str]:
    """Names with a number on those that have come before."""
    count: dict[str, int] = {}
    names = []
    for g in groups:
        k = count.get(g.name, 0)
        names.append(f"{g.name}.{k}" if k else g.name)
        count[g.name] = k + 1
    return names


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
