"""The summary of a fit, laid out as lme4 does."""

from __future__ import annotations

import textwrap
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import pandas as pd

from mixef import checks
from mixef.errors import MemoryNeededError
from mixef.estimation.fit import Fit
from mixef.inference.coef import coefficient_table
from mixef.inference.hypotheses.ddf import AUTO, SATTERTHWAITE, check_ddf, method_name
from mixef.inference.information import aic, bic, df_residual, log_likelihood
from mixef.inference.overdispersion import overdispersion_message
from mixef.inference.residual_quantiles import scaled_quantiles
from mixef.inference.varcorr import VarCorr, varcorr
from mixef.text.coefficients import coef_to_table
from mixef.text.layout import WIDTH, abbreviate, fill, formula_lines, named_vector
from mixef.text.numbers import (
    ESTIMATE_COLUMNS,
    format_common,
    format_fixed,
    format_number,
    round_all,
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

    Examples
    --------
    >>> coef = pd.DataFrame(
    ...     {"Estimate": [22.9722], "Std. Error": [0.8086], "t value": [28.41]},
    ...     index=["(Intercept)"],
    ... )
    >>> from mixef.inference.varcorr import GroupVarCorr
    >>> group = GroupVarCorr("sample", ["(Intercept)"], np.array([[3.7311]]))
    >>> print(
    ...     Summary(
    ...         title="Linear mixed model fit by REML",
    ...         formula="diameter ~ 1 + (1 | sample)",
    ...         nobs=144,
    ...         ngrps={"sample": 6},
    ...         varcorr=VarCorr([group], 0.5499),
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

    title: str  # How the model was fitted: ``"Linear mixed model fit by REML"``
    formula: str  # The formula
    nobs: int  # Number of observations
    ngrps: Mapping[str, int]  # Number of levels of each grouping factor, in the order to show them
    varcorr: VarCorr  # Covariance matrices of the random effects, and sigma
    # A label and the criterion, or the row AIC, BIC, logLik, -2*log(L), df.resid
    criterion: tuple[str, float] | Mapping[str, float]
    # DataFrame, shape (p, k): ``Estimate``, ``Std. Error``, perhaps ``df``, ``t value`` or ``z
    # value``, perhaps ``Pr(>|t|)``; the names of the coefficients are its index.
    coef_table: pd.DataFrame
    scaled_residuals: Sequence[float] | None = None  # Quantiles of the scaled residuals
    about: str = ""  # What is said of these
    corr: np.ndarray | None = None  # (p, p): correlations of the fixed effects
    data_name: str | None = None  # What was given for these arguments, as text
    weights: str | None = None
    offset: str | None = None
    control: str | None = None
    subset: str | None = None
    family: str | None = None  # For a generalized linear mixed model
    link: str | None = None
    messages: Sequence[str] = ()  # What the search has to say
    digits: int = 4  # Significant digits of estimates
    correlation: bool | None = None  # Whether to show `corr`; by default for up to 12 coefficients
    left_out: str = ""  # How many rows of the data were left out, and why
    criterion_se: float = 0.0  # Standard error of the criterion; 0 where it is exact
    df_error: float = 0.0  # Error of second derivatives that df rest on, beside them; 0 where exact

    def tables(self) -> list[Table]:
        """Return the tables of this summary, the same for every form of output.

        They are the model, its criterion, scaled residuals, random effects, fixed effects and their
        correlations; those that there is nothing for are left out.
        """
        tables = [
            self._description(),
            self._criterion(decimals=1),
            self._residuals(),
            replace(self._random_effects("Variance", "Std.Dev."), index=None),
            self._fixed_effects(),
            self._correlation(),
        ]
        return [table for table in tables if table is not None and len(table.rows)]

    def to_text(self) -> str:
        """Write the summary as text, line for line as lme4 prints it."""
        residuals, correlation, p = self._residuals(), self._correlation(), len(self.coef_table)
        blocks = [
            self._heading([("Control", self.control)]),
            self._criterion_lines(decimals=1),
            []
            if residuals is None
            else [str(residuals.title), *named_vector(residuals.columns, residuals.rows[0])],
            [self._random_effects("Variance", "Std.Dev.").to_text()],
            [self._fixed_effects().to_text()] if p else [],
            [] if correlation is None else [correlation.to_text()],
        ]
        if self.corr is not None and self.correlation is None and p > CORRELATION_MAX:
            blocks[-1] = [
                f"Correlation of Fixed Effects: not shown, as p = {p} > {CORRELATION_MAX}; see "
                "vcov()."
            ]
        text = "\n\n".join("\n".join(block) for block in blocks if block)
        return "\n".join([text, *self.messages])

    def to_short_text(self) -> str:
        """Write the short form, as lme4 prints a fit.

        That is criterion, standard deviations and fixed effects, with neither tests nor
        correlations of the fixed effects.
        """
        coef = self.coef_table
        cells = format_common(coef["Estimate"].to_numpy(), self.digits)
        fixed = ["Fixed Effects:", *named_vector(list(coef.index), cells, gap=2)]
        return "\n".join(
            [
                *self._heading([]),
                *self._criterion_lines(decimals=4),
                self._random_effects("Std.Dev.").to_text(),
                *(fixed if len(coef) else ["No fixed effect coefficients"]),
                *self.messages,
            ]
        )

    def __str__(self) -> str:
        return self.to_text()

    def _heading(self, control: Sequence[tuple[str, str | None]]) -> list[str]:
        """Lines from the title to the subset; a long formula begins on a line of its own."""
        entries = [
            ("   Data", self.data_name),
            ("Weights", self.weights),
            (" Offset", self.offset),
            *control,
            (" Subset", self.subset),
        ]
        return [
            # R breaks a line that would fill the page.
            *textwrap.wrap(self.title, WIDTH - 1, subsequent_indent="  ", break_on_hyphens=False),
            *([f" Family: {self.family}  ( {self.link} )"] if self.family else []),
            *fill(["Formula:", "\n".join(formula_lines(self.formula))]),
            *(f"{label}: {value}" for label, value in entries if value is not None),
        ]

    def _description(self) -> Table:
        """Return the heading as a table, for output other than text."""
        entries = [
            ("Family", None if self.family is None else f"{self.family} ({self.link})"),
            ("Formula", self.formula),
            ("Data", self.data_name),
            ("Weights", self.weights),
            ("Offset", self.offset),
            ("Control", self.control),
            ("Subset", self.subset),
            *(("Message", message) for message in self.messages),
        ]
        rows = [(label, value) for label, value in entries if value is not None]
        return Table(("Model", self.title), rows, align="ll")

    def _criterion(self, decimals: int) -> Table:
        """Return the criterion, or the row of information criteria, as a table of one row."""
        several = isinstance(self.criterion, Mapping)
        values = dict(self.criterion if several else [self.criterion])  # type: ignore[arg-type,list-item]
        df = values.pop(DF_RESIDUAL, None)
        cells = format_common(round_all(values.values(), decimals), DIGITS)
        note = self._criterion_error()
        if df is None:
            return Table(list(values), [cells], note=note)
        return Table([*values, DF_RESIDUAL], [[*cells, format_number(df)]], note=note)

    def _criterion_error(self) -> str | None:
        if not self.criterion_se > 0.0:
            return None
        label = "-2*log(L)" if isinstance(self.criterion, Mapping) else "the criterion"
        return f"(log|M| is an estimate: standard error of {label} {self.criterion_se:.2g})"

    def _criterion_lines(self, decimals: int) -> list[str]:
        table = self._criterion(decimals)
        error = [] if table.note is None else [str(table.note)]
        if isinstance(self.criterion, Mapping):
            return [*named_vector(table.columns, table.rows[0]), *error]
        return [f"{table.columns[0]}: {table.rows[0][0]}", *error]

    def _residuals(self) -> Table | None:
        if self.scaled_residuals is None:
            return None
        values = zap_small(self.scaled_residuals, self.digits + 1)
        title = f"Scaled residuals{self.about}:"
        return Table(QUANTILES, [format_common(values, self.digits)], title=title)

    def _random_effects(self, *comp: str) -> Table:
        levels = "; ".join(f"{name}, {n}" for name, n in self.ngrps.items())
        size = fill([f"Number of obs: {self.nobs}, groups: ", levels])
        out = textwrap.wrap(self.left_out, WIDTH - 1, subsequent_indent="  ")
        return replace(
            self.varcorr.to_table(comp, self.digits),
            title="Random effects:",
            note="\n".join([*size, *out]),
        )

    def _fixed_effects(self) -> Table:
        table = coef_to_table(self.coef_table, self.digits, "Fixed effects:", SHARED)
        if not self.df_error > 0.0:
            return table
        note = f"(df rest on second derivatives that are known to {100 * self.df_error:.1g} %)"
        return replace(table, note=note)

    def _correlation(self) -> Table | None:
        """Return the correlations of fixed effects below the diagonal, with shortened names."""
        names = [str(name) for name in self.coef_table.index]
        p = len(names)
        shown = p <= CORRELATION_MAX if self.correlation is None else self.correlation
        if self.corr is None or p < 2 or not shown:
            return None
        cells = format_fixed(np.asarray(self.corr).ravel(), 3)
        rows = [[cells[i * p + j] if j < i else "" for j in range(p - 1)] for i in range(1, p)]
        return Table(
            columns=abbreviate(names, 6)[:-1],
            rows=rows,
            index=abbreviate(names, 11)[1:],
            align="n" * (p - 1),
            title="Correlation of Fixed Effects:",
        )


def summarize(
    fit: Fit,
    ddf: str | None = "auto",
    correlation: bool | None = None,
    digits: int = 4,
    residuals: bool = True,
) -> Summary:
    """Collect what the summary of a mixed model shows, with tests by the rule ``ddf``.

    Without ``residuals``, which the short form does not show, no row is read.
    """
    correlation = checks.flag_or_none(correlation, "correlation")
    digits, call = checks.digits(digits), fit.call
    se = np.sqrt(fit.vcov.diagonal())
    with np.errstate(divide="ignore", invalid="ignore"):
        corr = fit.vcov / np.outer(se, se)
    quantiles, exact = scaled_quantiles(fit) if residuals else (None, True)
    family, link = _family(fit)
    messages = _messages(fit, residuals or fit.frame.in_memory)
    try:
        table = coefficient_table(fit, ddf)
    except MemoryNeededError as error:  # of what only degrees of freedom need
        if ddf != AUTO:
            raise
        ddf, messages = None, [f"No degrees of freedom: {error}", *messages]
        table = coefficient_table(fit, ddf)
    return Summary(
        title=_title(fit) + _tests_in_title(fit, ddf),
        family=family,
        link=link,
        formula=fit.formula.text,
        data_name=call.data_name,
        weights=_text(call.weights),
        offset=_text(call.offset),
        subset=_text(call.subset),
        criterion=_criterion(fit),
        scaled_residuals=quantiles,
        about="" if exact else " (quartiles approximate)",
        varcorr=varcorr(fit),
        nobs=fit.frame.n,
        ngrps={g: fit.terms[members[0]].n_levels for g, members in fit.groups.items()},
        coef_table=table,
        corr=corr,
        messages=messages,
        digits=digits,
        correlation=correlation,
        left_out=str(fit.frame.left_out),
        criterion_se=fit.estimates.objective_se,
        df_error=_df_error(fit, ddf),
    )


def _title(fit: Fit) -> str:
    if fit.is_linear:
        return f"Linear mixed model fit by {'REML' if fit.REML else 'maximum likelihood'}"
    integral = "Laplace Approximation"
    if fit.nAGQ != 1:
        integral = f"Adaptive Gauss-Hermite Quadrature, nAGQ = {fit.nAGQ}"
    return f"Generalized linear mixed model fit by maximum likelihood ({integral})"


def _tests_in_title(fit: Fit, ddf: str | None) -> str:
    method = method_name(fit, ddf)
    letter = "z" if check_ddf(fit, ddf) is None else "t"
    return "" if method is None or not len(fit.kept) else f". {letter}-tests use {method}"


def _df_error(fit: Fit, ddf: str | None) -> float:
    """Return the error of the Hessian that degrees of freedom take; 0 where there is none."""
    if not fit.estimates.objective_se > 0.0 or check_ddf(fit, ddf) != SATTERTHWAITE:
        return 0.0
    error: float = fit.curvature.error
    return error


def _family(fit: Fit) -> tuple[str, str] | tuple[None, None]:
    """Name family and link as R does, with the estimate of a shape or the like."""
    if fit.is_linear:
        return None, None
    return fit.family.name_at(fit.extra), fit.family.link.name


def _criterion(fit: Fit) -> Any:
    if fit.is_linear and fit.REML:
        return ("REML criterion at convergence", fit.estimates.objective)
    return {
        "AIC": aic(fit),
        "BIC": bic(fit),
        "logLik": log_likelihood(fit),
        "-2*log(L)": fit.estimates.objective,
        "df.resid": df_residual(fit),
    }


def _text(argument: Any) -> str | None:
    if argument is None or isinstance(argument, str):
        return argument
    return type(argument).__name__


def _messages(fit: Fit, by_rows: bool) -> list[str]:
    messages = []
    if not fit.is_linear:
        messages += _generalized_messages(fit, by_rows)
    if fit.dropped_names:
        messages.append(
            "fixed-effect model matrix is rank deficient; dropped: " + ", ".join(fit.dropped_names)
        )
    messages += [*fit.convergence.problems, *fit.convergence.remarks]
    if fit.vanished:
        messages.append("boundary (singular) fit: " + "; ".join(str(v) for v in fit.vanished))
    return messages


def _generalized_messages(fit: Fit, by_rows: bool) -> list[str]:
    messages = []
    if fit.outcome.modelled is not None and fit.formula.response is not None:
        response = fit.formula.response.text
        messages.append(f"Modelled: probability of {response} = {fit.outcome.modelled}")
    line = overdispersion_message(fit) if by_rows else None
    if line is not None:
        messages.append(line)
    if fit.nAGQ > 0 and fit.hessian is None:
        messages.append(
            "Standard errors are by the working weights at the estimates: the Hessian of the "
            "likelihood there is not that of a maximum"
        )
    return messages
