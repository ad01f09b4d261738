"""A fit in sentences for a paper; its numbers are those of the tables, to the letter."""

from __future__ import annotations

import textwrap
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from mixef.estimation.fit import Fit
from mixef.inference.hypotheses.ddf import check_ddf, has_z_tests, method_name
from mixef.inference.tables.statistics import FitStatistics, fit_statistics
from mixef.inference.tables.tidy import FAMILY, FIXED, RAN_PARS, tidy
from mixef.inference.varcorr import RESIDUAL
from mixef.text.estimates import EstimateText, estimate_text, with_sign
from mixef.text.html import box, escaped
from mixef.text.latex import latex_text
from mixef.text.layout import WIDTH
from mixef.text.printed import Printed
from mixef.text.tables import Table, markdown_paragraph, minus_signs

_SAID = ("nobs", "groups", "loglik", "aic", "bic", "r2_marginal", "r2_conditional", "icc")


@dataclass(frozen=True, eq=False, repr=False)
class Report(Printed):
    """A fit in sentences, made by `report`.

    Attributes
    ----------
    paragraphs : dict of str to str
        Sentences by their subject: "model", "data", "fixed effects", "random effects", "fit",
        "methods".
    """

    paragraphs: Mapping[str, str]

    def tables(self) -> Sequence[Table]:
        """Return none: sentences are no table."""
        return ()

    def to_text(self) -> str:
        """Write the report as text, in lines of a page's width."""
        filled = (
            textwrap.fill(text, WIDTH, break_long_words=False, break_on_hyphens=False)
            for text in self.paragraphs.values()
        )
        return "\n\n".join(filled)

    def to_markdown(self) -> str:
        """Write the report as Markdown, a paragraph each."""
        return "\n\n".join(markdown_paragraph(text) for text in self.paragraphs.values())

    def to_html(self) -> str:
        """Write the report as HTML, a paragraph each."""
        return box("\n".join(f"<p>{escaped(text)}</p>" for text in self.paragraphs.values()))

    def to_latex(self) -> str:
        """Write the report as LaTeX, a paragraph each."""
        return "\n\n".join(minus_signs(latex_text(text)) for text in self.paragraphs.values())

    def __str__(self) -> str:
        return self.to_text()

    def _repr_html_(self) -> str:
        return self.to_html()

    def _repr_latex_(self) -> str:
        return self.to_latex()


def report_of(
    fit: Fit,
    exponentiate: bool = False,
    level: float = 0.95,
    ddf: str | None = "auto",
    digits: int = 3,
) -> Report:
    """Say a fit in sentences; see `report`."""
    rows = tidy(fit, (FIXED, RAN_PARS, FAMILY), True, level, "wald", exponentiate, ddf=ddf)
    estimates = [(row, estimate_text(row, digits)) for row in rows.to_dict("records")]
    statistics = fit_statistics(fit, _SAID)
    paragraphs = {
        "model": _model(fit),
        "data": _data(fit, statistics),
        "fixed effects": _fixed_effects(fit, estimates, exponentiate, level, ddf),
        "random effects": _random_effects(fit, estimates, level),
        "fit": _fit(fit, statistics),
        "methods": _methods(fit, exponentiate, ddf),
    }
    return Report({name: " ".join(said) for name, said in paragraphs.items() if said})


def _model(fit: Fit) -> list[str]:
    """Say what was fitted, and how the search ended."""
    response = fit.formula.response
    assert response is not None
    kind = "A linear mixed model"
    how = "restricted maximum likelihood (REML)" if fit.REML else "maximum likelihood"
    if not fit.is_linear:
        family, link = fit.family.name, fit.family.link.name
        kind = f"A generalized linear mixed model ({family} family, {link} link)"
        how = {
            0: "maximum likelihood with the fixed effects at the mode (nAGQ = 0)",
            1: "maximum likelihood (Laplace approximation)",
        }.get(
            fit.nAGQ, f"maximum likelihood (adaptive Gauss-Hermite quadrature, {fit.nAGQ} points)"
        )
    said = [f"{kind} of {response.text} was fitted by {how}: {fit.formula.text}."]
    if fit.outcome.modelled is not None:
        said.append(f"It is of the probability that {response.text} is {fit.outcome.modelled}.")
    for name, value in (("weights", fit.call.weights), ("offset", fit.call.offset)):
        if value is not None:
            named = f" {value}" if isinstance(value, str) else ""
            said.append(f"It has the {name}{named}." if named else f"It has {name}.")
    if fit.dropped_names:
        said.append(
            f"The data do not tell {', '.join(fit.dropped_names)} from the other fixed effects: "
            "dropped."
        )
    said += [f"Caution: {_sentence(problem)}" for problem in fit.convergence.problems]
    if fit.vanished:
        ends = "; ".join(str(v) for v in fit.vanished)
        said.append(f"Caution: boundary (singular) fit: {_sentence(ends)}")
    return said


def _sentence(text: str) -> str:
    """End a text with a full stop."""
    return text if text.endswith(".") else f"{text}."


def _data(fit: Fit, statistics: FitStatistics) -> list[str]:
    """Say how many rows and levels there are."""
    levels = [f"{fit.terms[members[0]].n_levels} of {g}" for g, members in fit.groups.items()]
    levels[0] = levels[0].replace(" of ", " levels of ", 1)
    said = [f"The data have {statistics.texts['Observations']} observations: {_listed(levels)}."]
    out = str(fit.frame.left_out)
    return [*said, _sentence(out[0].upper() + out[1:])] if out else said


def _fixed_effects(
    fit: Fit, estimates: Sequence[tuple[Mapping[str, Any], EstimateText]], exponentiate: bool,
    level: float, ddf: str | None,
) -> list[str]:  # fmt: skip
    """Say every coefficient with its interval and test."""
    statistic, said = "z" if has_z_tests(fit, ddf) else "t", []
    for row, text in estimates:
        if row["effect"] == FIXED:
            ratio = exponentiate and row["term"] != "(Intercept)"
            what = "estimate" if not exponentiate else _ratio(fit) if ratio else "exponential"
            known = _known(text, level, statistic)
            said.append(f"The {what} of {row['term']} is {text.estimate}{known}.")
    return said


def _ratio(fit: Fit) -> str:
    """Return what the exponential of a coefficient is called."""
    family, link = fit.family, fit.family.link.name
    if link == "logit" and family.has_trials:
        return "odds ratio"
    if link == "log":
        return "risk ratio" if family.has_trials else "rate ratio" if family.is_count else "ratio"
    return "exponential"


def _known(text: EstimateText, level: float, statistic: str = "") -> str:
    """Return what is known of an estimate, in parentheses."""
    parts = [f"SE = {text.std_error}"] if text.std_error else []
    if text.interval:
        parts.append(f"{100 * level:g}% CI {text.interval}")
    if text.statistic:
        parts.append(f"{statistic}({text.df})" if text.df else statistic)
        parts[-1] += f" = {text.statistic}"
    if text.p:
        parts.append(with_sign(text.p))
    return f" ({', '.join(parts)})" if parts else ""


_PARTS = {"sd": "standard deviation", "cor": "correlation"}
# What structures with one parameter for several columns call them.
_SHARED = {"all": "all random effects", "lag1": "neighbouring random effects"}


def _random_effects(
    fit: Fit, estimates: Sequence[tuple[Mapping[str, Any], EstimateText]], level: float
) -> list[str]:
    """Say every standard deviation and correlation, and a family's parameters."""
    said = []
    for row, text in estimates:
        number = f"{text.estimate}{_known(text, level)}"
        if row["effect"] == FAMILY:
            said.append(f"The {row['term']} of the {fit.family.name} family is {number}.")
        elif row["effect"] == RAN_PARS:
            kind, _, of = row["term"].partition("__")
            if row["group"] == RESIDUAL and of == "Observation":
                if fit.is_linear:  # else it is the root of the dispersion, which is said below
                    said.append(f"The residual standard deviation is {number}.")
                continue
            pairs = {f"{a}.{b}": f"{a} and {b}" for t in fit.terms for a in t.columns
                     for b in t.columns}  # fmt: skip
            of = pairs.get(of, of) if kind == "cor" else of
            of = _SHARED.get(of, of)
            said.append(f"The {_PARTS[kind]} of {of} by {row['group']} is {number}.")
    return said


def _fit(fit: Fit, statistics: FitStatistics) -> list[str]:
    """Say likelihood, criteria and shares of variance."""
    texts = statistics.texts
    restricted = "restricted log-likelihood" if fit.REML else "log-likelihood"
    said = [
        f"The {restricted} is {texts['Log-likelihood']} (AIC {texts['AIC']}, BIC {texts['BIC']})."
    ]
    if "R2 marginal" in texts:
        said.append(
            f"Of the variance, fixed effects explain {texts['R2 marginal']} (marginal R2), fixed "
            f"and random effects together {texts['R2 conditional']} (conditional R2); the "
            f"intraclass correlation is {texts['ICC']}."
        )
    return said + [_sentence(problem[0].upper() + problem[1:]) for problem in statistics.problems]


def _methods(fit: Fit, exponentiate: bool, ddf: str | None) -> list[str]:
    """Say how tests and intervals were made."""
    rule, said = method_name(fit, ddf), list[str]()
    if not len(fit.kept):
        return said
    shape = "t distributions" if check_ddf(fit, ddf) is not None else "the normal distribution"
    how = "" if rule is None else f", with {rule}"
    said.append(f"Tests and intervals of coefficients are by {shape}{how}.")
    if exponentiate:
        said.append("Coefficients are exponentiated; their tests are those of the coefficients.")
    said.append(
        "Intervals of standard deviations are normal on the log scale, those of correlations on "
        "Fisher's z."
    )
    return said


def _listed(parts: Sequence[str]) -> str:
    """Join parts as a sentence does: a, b and c."""
    return parts[0] if len(parts) == 1 else f"{', '.join(parts[:-1])} and {parts[-1]}"
