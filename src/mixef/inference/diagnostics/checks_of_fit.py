"""Checks of how a fit ended, and of what it was given: search, random effects, predictors."""

from __future__ import annotations

import numpy as np

from mixef.estimation.columns import odd_scale, spread_of
from mixef.estimation.fit import Fit
from mixef.estimation.search.singular import SINGULAR_TOLERANCE, AtBound, VanishedDirection
from mixef.inference.diagnostics.finding import NOTE, OK, WARNING, Finding, counted, with_remedy
from mixef.inference.measures.collinearity import variance_inflation

# Variance inflation from which on collinearity is moderate, and high (as performance has it).
MODERATE, HIGH = 5.0, 10.0
# Levels below which a variance is hardly estimated, and from which on it is well (A. Gelman and
# J. Hill, 2007, Data Analysis Using Regression and Multilevel/Hierarchical Models, section 12.9).
FEW, ENOUGH = 5, 10
# A share of levels with a single row from which on it is worth a note.
SINGLE = 0.5


def convergence(fit: Fit) -> list[Finding]:
    """Judge the end of the search."""
    end = fit.convergence
    problems = [text for text in end.problems if text != end.separation]
    if not problems:
        message = f"the gradient vanishes after {counted(end.n_evaluations, 'evaluation')}"
        if end.converged:
            return [Finding("convergence", OK, end.expected_gain, message)]
        return []  # separation says why
    return [with_remedy("convergence", text, end.expected_gain) for text in problems]


def approximation(fit: Fit) -> list[Finding]:
    """Judge the integral over the random effects, or log|M|, where that is approximated."""
    if fit.is_linear:
        se = fit.estimates.objective_se
        said = f"log|M| is estimated: the criterion has a standard error of {se:.2g}"
        found = [Finding("approximation", OK, se, said)] if se > 0.0 else []
        return [*found, *(with_remedy("rows", text, np.nan) for text in fit.convergence.remarks)]
    remarks = fit.convergence.remarks
    if fit.nAGQ == 0:
        said = "nAGQ = 0 takes the fixed effects at the joint mode, not at the likelihood's maximum"
        return [Finding("approximation", NOTE, 0.0, said, "refit: fit.update(nAGQ=1)")]
    if not remarks:
        how = "Laplace's approximation" if fit.nAGQ < 2 else f"{fit.nAGQ} quadrature points"
        return [Finding("approximation", OK, np.nan, f"nothing is wrong with {how}")]
    return [with_remedy("approximation", text, np.nan) for text in remarks]


def separation(fit: Fit) -> list[Finding]:
    """Tell whether predictors, or groups, tell all responses of some kind."""
    if not fit.family.edges:
        return []
    if fit.convergence.separation:
        return [with_remedy("separation", fit.convergence.separation, np.nan)]
    said = "no predictor or group tells responses without error"
    return [Finding("separation", OK, np.nan, said)]


def singularity(fit: Fit) -> list[Finding]:
    """Name the directions without variance, and what to drop."""
    if fit.vanished:
        remedies = [_simpler(fit, found) for found in fit.vanished]
        return [
            Finding("singularity", WARNING, 0.0, str(found), "" if said in remedies[:i] else said)
            for i, (found, said) in enumerate(zip(fit.vanished, remedies, strict=True))
        ]
    lams = fit.problem.terms.parametrization.term_lams(fit.scaled_par)
    least = min(float(np.linalg.svd(lam, compute_uv=False).min()) for lam in lams)
    said = "variance in all directions: the smallest standard deviation, on the scale of "
    said += f"is_singular(), is {least:.2g} (zero is below {SINGULAR_TOLERANCE:g})"
    return [Finding("singularity", OK, least, said)]


def _simpler(fit: Fit, found: VanishedDirection | AtBound) -> str:
    """Say what to do about a direction without variance."""
    term = next(term for term in fit.terms if term.label == found.term)
    label = term.label
    if isinstance(found, AtBound):
        return f"take independent columns, diag({label}), or an intercept alone, (1 | {term.group})"
    if len(term.columns) == 1:
        if len(fit.terms) > 1:
            return f"drop the term: {_updated(fit, label)}"
        return (
            "the fit is that of an ordinary regression, whatever the term: leave it if the design "
            "asks for it, or look for a factor whose levels differ"
        )
    if found.sole is None:
        return f"leave out the correlations: {_updated(fit, label, f'diag({label})')}"
    rest = [name for name in term.columns if name != found.sole]
    if rest == ["(Intercept)"]:
        return f"leave {found.sole} out: {_updated(fit, label, f'(1 | {term.group})')}"
    return f"leave {found.sole} out of ({label}), in which the others stay"


def _updated(fit: Fit, label: str, other: str | None = None) -> str:
    """Return the call that takes a term out, or puts another one in its place."""
    formula = fit.formula
    assert formula.response is not None
    bars = [other if bar.text == label else bar.written for bar in formula.bars]
    terms = " + ".join([formula.fixed.text, *(bar for bar in bars if bar)])
    return f'fit.update("{formula.response.text} ~ {terms}")'


def rank(fit: Fit) -> list[Finding]:
    """Name columns that are combinations of others."""
    dropped = fit.dropped_names
    if not dropped:
        return [Finding("rank", OK, 0.0, "all columns of the fixed effects are independent")]
    said = f"dropped, as combinations of the columns before: {', '.join(dropped)}"
    remedy = "take such columns out of the formula, or combine levels that never occur together"
    return [Finding("rank", NOTE, float(len(dropped)), said, remedy)]


def collinearity(fit: Fit) -> list[Finding]:
    """Judge the variance inflation of the terms."""
    assign = fit.design.assign[fit.kept]
    if len(np.unique(assign[assign != 0])) < 2:
        return []
    frame = variance_inflation(fit).frame
    values = frame.iloc[:, 2] ** 2  # of a coefficient, for terms with several
    worst = float(values.max()) if not values.isna().any() else np.inf
    name = values.index[int(np.argmax(values.fillna(np.inf)))]
    said = f"the largest variance inflation is {worst:.3g}, of {name}"
    if worst < MODERATE:
        return [Finding("collinearity", OK, worst, said)]
    remedy = (
        "centre numbers in interactions and powers (scale(x, scale = FALSE), poly(x, 2)), or drop "
        "or combine predictors that say the same; nothing is wrong with the fit or its predictions"
    )
    return [Finding("collinearity", NOTE if worst < HIGH else WARNING, worst, said, remedy)]


def scale(fit: Fit) -> list[Finding]:
    """Tell whether predictors are on very different scales."""
    found = odd_scale(fit.design.names, spread_of(fit.design))
    if found is None:
        return [Finding("scale of predictors", OK, np.nan, "predictors are on similar scales")]
    name, spread = found
    said = f"predictors are on very different scales: {name} has standard deviation {spread:.2g}"
    remedy = "the fit is the same on any scale; divided by a unit, coefficients are readable"
    return [Finding("scale of predictors", NOTE, spread, said, remedy)]


def levels(fit: Fit) -> list[Finding]:
    """Judge the levels of every grouping factor: how many, and with how many rows."""
    out = []
    for group, members in fit.groups.items():
        term = fit.terms[members[0]]
        n, counts = term.n_levels, np.bincount(term.grouping.codes, minlength=term.n_levels)
        name = f"levels of {group}"
        if n < ENOUGH:
            said = f"{group} has {n} levels, from which its variance is hardly estimated"
            remedy = (
                f"take {group} as a fixed effect, or read its variance with a profile interval, "
                "fit.confint()"
            )
            out.append(Finding(name, WARNING if n < FEW else NOTE, float(n), said, remedy))
        else:
            out.append(Finding(name, OK, float(n), f"{n} levels"))
        single = int((counts == 1).sum())
        if 0 < single < n and single >= SINGLE * n:
            said = f"{single} of the {n} levels have a single row, which tells no variance apart"
            remedy = f"a coarser factor than {group} has more rows a level"
            out.append(Finding(name, NOTE, single / n, said, remedy))
    return out


FINDERS = (
    convergence, approximation, separation, singularity, rank, collinearity, scale, levels,
)  # fmt: skip
