"""The summary of a fit, laid out as lme4 does: numbers in, text out."""

from __future__ import annotations

import textwrap
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np
import pandas as pd

from mixef.display.varcorr import GroupVarCorr, varcorr_table
from mixef.text.abbreviate import abbreviate
from mixef.text.layout import WIDTH, fill, formula_lines, named_vector
from mixef.text.numbers import (
    ESTIMATE_COLUMNS,
    LEGEND,
    format_coef_columns,
    format_common,
    format_fixed,
    format_number,
    round_all,
    significance_stars,
    zap_small,
)
from mixef.text.printed import Printed
from mixef.text.tables import Table

QUANTILES = ("Min", "1Q", "Median", "3Q", "Max")
DF_RESIDUAL = "df.resid"
# Above this many coefficients their correlations are left out, as in lme4.
CORRELATION_MAX = 12
# Columns that share their decimals in a summary, as in lmerTest.
SHARED = ESTIMATE_COLUMNS | {"df"}
# Digits that R shows of a number when nothing is asked for.
DIGITS = 7


@dataclass(frozen=True, eq=False, repr=False)
class Summary(Printed):
    """All that a summary shows, ready to be laid out.

    Parameters
    ----------
    title : str
        How the model was fitted: ``"Linear mixed model fit by REML"``.
    formula : str
        The formula.
    nobs : int
        Number of observations.
    ngrps : mapping of str to int
        Number of levels of each grouping factor, in the order to show them.
    groups : sequence of GroupVarCorr
        Covariance matrices of the random effects.
    sigma : float or None
        Residual standard deviation; None for a family without a scale.
    criterion : (str, float) or mapping of str to float
        A label and the criterion, or the row AIC, BIC, logLik, -2*log(L), df.resid.
    coef_table : DataFrame, shape (p, k)
        ``Estimate``, ``Std. Error``, perhaps ``df``, ``t value`` or ``z value``, perhaps
        ``Pr(>|t|)``; the names of the coefficients are its index.
    scaled_residuals : sequence of 5 floats, optional
        Quantiles of the scaled residuals.
    corr : ndarray, shape (p, p), optional
        Correlations of the fixed effects; shown for up to 12 coefficients.
    data_name, weights, offset, control, subset : str, optional
        What was given for these arguments, as text.
    family, link : str, optional
        For a generalized linear mixed model.
    messages : sequence of str
        What the search has to say.
    digits : int
        Significant digits of estimates.
    left_out : str
        How many rows of the data were left out, and why.

    Examples
    --------
    >>> coef = pd.DataFrame(
    ...     {"Estimate": [22.9722], "Std. Error": [0.8086], "t value": [28.41]},
    ...     index=["(Intercept)"],
    ... )
    >>> group = GroupVarCorr("sample", ["(Intercept)"], np.array([[3.7311]]))
    >>> print(
    ...     Summary(
    ...         title="Linear mixed model fit by REML",
    ...         formula="diameter ~ 1 + (1 | sample)",
    ...         nobs=144,
    ...         ngrps={"sample": 6},
    ...         groups=[group],
    ...         sigma=0.5499,
    ...         criterion=("REML criterion at convergence", 330.8606),
    ...         coef_table=coef,
    ...     )
    ... )
    Linear mixed model fit by REML
    Formula: diameter ~ 1 + (1 | sample)
    <BLANKLINE>
    REML criterion at convergence: 330.9
    <BLANKLINE>
    Random effects:
     Groups   Name        Variance Std.Dev.
     sample   (Intercept) 3.7311   1.9316
     Residual             0.3024   0.5499
    Number of obs: 144, groups:  sample, 6
    <BLANKLINE>
    Fixed effects:
                Estimate Std. Error t value
    (Intercept)  22.9722     0.8086   28.41
    """

    title: str
    formula: str
    nobs: int
    ngrps: Mapping[str, int]
    groups: Sequence[GroupVarCorr]
    sigma: float | None
    criterion: tuple[str, float] | Mapping[str, float]
    coef_table: pd.DataFrame
    scaled_residuals: Sequence[float] | None = None
    corr: np.ndarray | None = None
    data_name: str | None = None
    weights: str | None = None
    offset: str | None = None
    control: str | None = None
    subset: str | None = None
    family: str | None = None
    link: str | None = None
    messages: Sequence[str] = ()
    digits: int = 4
    left_out: str = ""

    def tables(self) -> list[Table]:
        """Return the tables of this summary, the same for every form of output.

        Returns
        -------
        list of Table
            The model, its criterion, scaled residuals, random effects, fixed effects and their
            correlations; those that there is nothing for are left out.
        """
        tables = [
            _description(self),
            _criterion(self.criterion, decimals=1),
            _residuals(self.scaled_residuals, self.digits),
            replace(_random_effects(self, ("Variance", "Std.Dev.")), index=None),
            _fixed_effects(self),
            _correlation(self),
        ]
        return [table for table in tables if table is not None and len(table.rows)]

    def to_text(self) -> str:
        """Write the summary as text, line for line as lme4 prints it."""
        blocks = [
            [*_heading(self, _control_entry(self))],
            _criterion_lines(self.criterion, decimals=1),
            _residual_lines(self),
            [_random_effects(self, ("Variance", "Std.Dev.")).to_text()],
            _fixed_lines(self),
            _correlation_lines(self),
        ]
        text = "\n\n".join("\n".join(block) for block in blocks if block)
        return "\n".join([text, *self.messages])

    def __str__(self) -> str:
        return self.to_text()


def short_text(summary: Summary) -> str:
    """Write the short form of a summary, as lme4 prints a fit.

    Parameters
    ----------
    summary : Summary
        The fit.

    Returns
    -------
    str
        Criterion, standard deviations and fixed effects, with neither tests nor correlations of
        the fixed effects.

    Examples
    --------
    >>> coef = pd.DataFrame({"Estimate": [22.9722]}, index=["(Intercept)"])
    >>> group = GroupVarCorr("sample", ["(Intercept)"], np.array([[3.7311]]))
    >>> fit = Summary("Linear mixed model fit by REML", "diameter ~ 1 + (1 | sample)", 144,
    ...               {"sample": 6}, [group], 0.5499, ("REML criterion", 330.8606), coef)
    >>> print(short_text(fit))
    Linear mixed model fit by REML
    Formula: diameter ~ 1 + (1 | sample)
    REML criterion: 330.8606
    Random effects:
     Groups   Name        Std.Dev.
     sample   (Intercept) 1.9316
     Residual             0.5499
    Number of obs: 144, groups:  sample, 6
    Fixed Effects:
    (Intercept)
          22.97
    """
    coef = summary.coef_table
    cells = format_common(coef["Estimate"].to_numpy(), summary.digits)
    fixed = ["Fixed Effects:", *named_vector(list(coef.index), cells, gap=2)]
    return "\n".join(
        [
            *_heading(summary, []),
            *_criterion_lines(summary.criterion, decimals=4),
            _random_effects(summary, ("Std.Dev.",)).to_text(),
            *(fixed if len(coef) else ["No fixed effect coefficients"]),
            *summary.messages,
        ]
    )


def coef_to_table(
    frame: pd.DataFrame,
    digits: int = 4,
    title: str | None = None,
    shared: Collection[str] = ESTIMATE_COLUMNS,
) -> Table:
    """Lay out a table of coefficients, as R's ``printCoefmat``, with stars beside p-values.

    Parameters
    ----------
    frame : DataFrame, shape (p, k)
        Columns are formatted by their names, see `format_coef_columns`.
    digits : int
        Significant digits of estimates.
    title : str, optional
        A line above.
    shared : collection of str
        Columns that share their decimals.

    Returns
    -------
    Table
        One row for each coefficient. Stars and their legend come where some p-value is below 0.1.

    Examples
    --------
    >>> frame = pd.DataFrame(
    ...     {"Estimate": [2.0], "Std. Error": [0.5], "z value": [4.0], "Pr(>|z|)": [6.33e-5]},
    ...     index=["x"],
    ... )
    >>> print(coef_to_table(frame))
      Estimate Std. Error z value Pr(>|z|)
    x      2.0        0.5       4 6.33e-05 ***
    ---
    Signif. codes:  0 '***' 0.001 '**' 0.01 '*' 0.05 '.' 0.1 ' ' 1
    """
    heads = [str(name) for name in frame.columns]
    columns = format_coef_columns(frame.to_numpy(dtype=float), heads, digits, shared)
    align, legend = "r" * len(heads), None
    if heads and heads[-1].startswith("Pr(") and (frame.iloc[:, -1] < 0.1).any():
        columns.append(significance_stars(frame.iloc[:, -1]))
        heads, align, legend = [*heads, ""], align + "l", LEGEND
    rows = list(zip(*columns, strict=True))
    return Table(
        heads, rows, [str(name) for name in frame.index], align, title, legend=legend
    )  # fmt: skip


def _heading(summary: Summary, control: Sequence[tuple[str, str]]) -> list[str]:
    """Lines from the title to the subset; a long formula begins on a line of its own."""
    family = f" Family: {summary.family}  ( {summary.link} )"
    formula = "\n".join(formula_lines(summary.formula))
    entries = [
        ("   Data", summary.data_name),
        ("Weights", summary.weights),
        (" Offset", summary.offset),
        *control,
        (" Subset", summary.subset),
    ]
    return [
        # R breaks a line that would fill the page.
        *textwrap.wrap(summary.title, WIDTH - 1, subsequent_indent="  ", break_on_hyphens=False),
        *([family] if summary.family else []),
        *fill(["Formula:", formula]),
        *(f"{label}: {value}" for label, value in entries if value is not None),
    ]


def _control_entry(summary: Summary) -> list[tuple[str, str]]:
    return [] if summary.control is None else [("Control", summary.control)]


def _description(summary: Summary) -> Table:
    """Return the heading as a table, for output other than text."""
    family = None if summary.family is None else f"{summary.family} ({summary.link})"
    entries = [
        ("Family", family),
        ("Formula", summary.formula),
        ("Data", summary.data_name),
        ("Weights", summary.weights),
        ("Offset", summary.offset),
        ("Control", summary.control),
        ("Subset", summary.subset),
        *(("Message", message) for message in summary.messages),
    ]
    rows = [(label, value) for label, value in entries if value is not None]
    return Table(("Model", summary.title), rows, align="ll")


def _criterion(criterion: tuple[str, float] | Mapping[str, float], decimals: int) -> Table:
    """Return the criterion, or the row of information criteria, as a table of one row."""
    values = dict(criterion if isinstance(criterion, Mapping) else [criterion])
    df = values.pop(DF_RESIDUAL, None)
    cells = format_common(round_all(values.values(), decimals), DIGITS)
    if df is None:
        return Table(list(values), [cells])
    return Table([*values, DF_RESIDUAL], [[*cells, format_number(df)]])


def _criterion_lines(
    criterion: tuple[str, float] | Mapping[str, float], decimals: int
) -> list[str]:
    table = _criterion(criterion, decimals)
    if isinstance(criterion, Mapping):
        return named_vector(table.columns, table.rows[0])
    return [f"{table.columns[0]}: {table.rows[0][0]}"]


def _residuals(quantiles: Iterable[float] | None, digits: int) -> Table | None:
    if quantiles is None:
        return None
    cells = format_common(zap_small(quantiles, digits + 1), digits)
    return Table(QUANTILES, [cells], title="Scaled residuals:")


def _residual_lines(summary: Summary) -> list[str]:
    table = _residuals(summary.scaled_residuals, summary.digits)
    if table is None:
        return []
    return [str(table.title), *named_vector(table.columns, table.rows[0])]


def _random_effects(summary: Summary, comp: Sequence[str]) -> Table:
    levels = "; ".join(f"{name}, {n}" for name, n in summary.ngrps.items())
    size = fill([f"Number of obs: {summary.nobs}, groups: ", levels])
    table = varcorr_table(summary.groups, summary.sigma, comp, summary.digits)
    out = textwrap.wrap(summary.left_out, WIDTH - 1, subsequent_indent="  ")
    return replace(table, title="Random effects:", note="\n".join([*size, *out]))


def _fixed_effects(summary: Summary) -> Table:
    return coef_to_table(summary.coef_table, summary.digits, "Fixed effects:", SHARED)


def _fixed_lines(summary: Summary) -> list[str]:
    if not len(summary.coef_table):
        return []
    return [_fixed_effects(summary).to_text()]


def _correlation(summary: Summary) -> Table | None:
    """Return the correlations of the fixed effects below the diagonal, with shortened names."""
    names = [str(name) for name in summary.coef_table.index]
    p = len(names)
    if summary.corr is None or not 2 <= p <= CORRELATION_MAX:
        return None
    cells = format_fixed(np.asarray(summary.corr).ravel(), 3)
    rows = [[cells[i * p + j] if j < i else "" for j in range(p - 1)] for i in range(1, p)]
    return Table(
        columns=abbreviate(names, 6)[:-1],
        rows=rows,
        index=abbreviate(names, 11)[1:],
        align="n" * (p - 1),
        title="Correlation of Fixed Effects:",
    )


def _correlation_lines(summary: Summary) -> list[str]:
    table = _correlation(summary)
    if table is not None:
        return [table.to_text()]
    p = len(summary.coef_table)
    if summary.corr is None or p <= CORRELATION_MAX:
        return []
    return [f"Correlation of Fixed Effects: not shown, as p = {p} > {CORRELATION_MAX}; see vcov()."]
