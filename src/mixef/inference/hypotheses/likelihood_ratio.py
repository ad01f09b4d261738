"""Likelihood-ratio tests: of models, each against the one before it, and without single terms."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd
import scipy

from mixef import checks
from mixef.errors import ArgumentError, DataError, FormulaError
from mixef.estimation.fit import Fit
from mixef.inference.hypotheses.anova import AnovaTable, f_table
from mixef.inference.hypotheses.criterion_error import (
    End,
    chi_square_tail,
    error_note,
    error_of,
    refuse_uncertain,
)
from mixef.inference.hypotheses.ddf import check_ddf, f_test, method_name
from mixef.inference.hypotheses.ordinary import OrdinaryFit, law_of
from mixef.inference.hypotheses.term_contrasts import droppable, term_after_others
from mixef.inference.information import log_likelihood
from mixef.inference.refits.refits import with_formula
from mixef.inference.replicates import in_parallel
from mixef.terms.algebra import TermSet, expand_terms
from mixef.terms.formula import parse_formula, update_formula
from mixef.terms.nodes import Name, unquoted
from mixef.text.layout import formula_lines

REFITTED = "refitting model(s) with ML (instead of REML)"
COLUMNS = ("npar", "AIC", "BIC", "logLik", "-2*log(L)", "Chisq", "Df", "Pr(>Chisq)")
# Searches end this close to the optimum; a statistic that is no further below zero is zero.
EQUAL = 1e-6
# Responses and weights that differ by no more than this, relatively, are the same.
SAME = 1e-12

AnyModel = Fit | OrdinaryFit


def anova_of_models(
    models: Sequence[AnyModel], names: Sequence[str], refit: bool = True
) -> AnovaTable:
    """Compare models, each with the one before it; see the function ``anova``."""
    for name, model in zip(names[1:], models[1:], strict=True):
        refuse_other_rows(names[0], models[0], name, model)
        refuse_other_laws(names[0], models[0], name, model)
    restricted = [not isinstance(m, OrdinaryFit) and m.REML for m in models]
    if any(restricted) and not refit:
        refuse_other_criteria(names, models, restricted)
    refitted = any(restricted) and refit
    unused = [
        unused_covariance(name, m) for name, m in zip(names, models, strict=True)
        if not isinstance(m, OrdinaryFit) and m.beta_covariance is not None
    ]  # fmt: skip
    if refitted:
        models = [m if isinstance(m, OrdinaryFit) else m.by_ml() for m in models]
    loglik = np.array([_loglik(m) for m in models])
    npar = np.array([m.npar for m in models])
    # Equal numbers of parameters go from the worse to the better fit.
    order = np.lexsort((loglik, npar))
    models, names = [models[i] for i in order], [names[i] for i in order]
    table = likelihood_table(npar[order], loglik[order], rows_of(models[0]), names)
    fits = [[m] if isinstance(m, Fit) else [] for m in models]
    for i in range(1, len(models)):
        df, se = float(table["Df"].iloc[i]), error_of(*fits[i - 1], *fits[i])
        if df > 0:
            chisq = float(table["Chisq"].iloc[i])
            refuse_uncertain(names[i - 1], names[i], chisq, se, chi_square_tail(df))
    first, heading = (REFITTED,) if refitted else (), ["Models:"]
    for name, model in zip(names, models, strict=True):
        heading += f"{name}: {_text(model)}".splitlines()
    data = {m.call.data_name for m in models if not isinstance(m, OrdinaryFit)}
    if len(data) == 1 and None not in data:
        heading.insert(0, f"Data: {data.pop()}")
    errors = [f"{note}." for name, own in zip(names, fits, strict=True)
              for note in error_note([name] * len(own), own)]  # fmt: skip
    notes = unused + errors + _notes(table, models, any(restricted) and not refit)
    return AnovaTable(table, (*first, *heading), (*first, *notes))


def unused_covariance(name: str, fit: Fit) -> str:
    """Say that likelihood ratios do not go by the covariance that was chosen for a fit."""
    return f"Likelihood ratios do not use {fit.beta_covariance.label}, which {name} has."


def likelihood_table(
    npar: np.ndarray, loglik: np.ndarray, n: int, names: Sequence[str]
) -> pd.DataFrame:
    """Return the table of models whose numbers of parameters ascend.

    A row has a p value if it has more parameters than the one before and no smaller likelihood.
    """
    chisq = np.append(np.nan, 2.0 * np.diff(loglik))
    chisq = np.where(np.abs(chisq) < EQUAL, 0.0, chisq)
    df = np.append(np.nan, np.diff(npar))
    tested = (df > 0) & (chisq >= 0)
    p = scipy.special.chdtrc(np.where(tested, df, 1.0), np.where(tested, chisq, 0.0))
    deviance = -2.0 * loglik
    values = (npar, deviance + 2.0 * npar, deviance + np.log(n) * npar, loglik, deviance, chisq,
              df, np.where(tested, p, np.nan))  # fmt: skip
    return pd.DataFrame(dict(zip(COLUMNS, values, strict=True)), index=list(names))


def rows_of(model: AnyModel) -> int:
    """Return the number of rows of a model."""
    return len(model.y) if isinstance(model, OrdinaryFit) else model.frame.n


def refuse_other_rows(first: str, a: AnyModel, second: str, b: AnyModel) -> None:
    """Refuse two models whose rows, responses or weights are not the same, naming what differs."""
    advice = "likelihoods compare only between fits of the same response on the same rows"
    n, m = rows_of(a), rows_of(b)
    if n != m:
        raise DataError(
            f"{first} was fitted to {n} rows but {second} to {m}"
            f"{_missing_rows(first, a, second, b)}; {advice}: drop rows "
            "with missing values in any variable, then fit both"
        )
    if not isinstance(a, OrdinaryFit) and not isinstance(b, OrdinaryFit):
        one, other = a.frame, b.frame
        if not (one.in_memory and other.in_memory):
            _refuse_other_tables(first, a, second, b, advice)
            return
        if one.n_input == other.n_input and not np.array_equal(one.rows, other.rows):
            raise DataError(
                f"{first} and {second} were fitted to {n} rows each, but not to the same ones"
                f"{_missing_rows(first, a, second, b)}; {advice}: drop rows with missing values "
                "in any variable, then fit both"
            )
    y, z = a.y, b.y
    if y.shape != z.shape or not _same(y, z):
        raise DataError(
            f"the responses of {first} ({_response_text(a)}) and {second} ({_response_text(b)}) "
            f"differ{_where(y, z)}; {advice}, in the same order and untransformed"
        )
    w, v = _weights(a), _weights(b)
    if not _same(w, v):
        raise DataError(
            f"the prior weights of {first} and {second} differ{_where(w, v)}; {advice}: give both "
            "the same weights"
        )


def _refuse_other_tables(first: str, a: Fit, second: str, b: Fit, advice: str) -> None:
    """Refuse two models of rows in an engine whose responses or weights have other moments."""
    one: Any = a.frame
    other: Any = b.frame
    what = None
    if one.in_memory != other.in_memory or one.n_input != other.n_input:
        what = "were fitted to other tables"
    elif not _same(one.moments(_response_text(a)), other.moments(_response_text(b))):
        what = f"have other responses ({_response_text(a)}; {_response_text(b)})"
    elif not _same(one.moments("weights"), other.moments("weights")):
        what = "have other prior weights"
    if what is not None:
        raise DataError(f"{first} and {second} {what}; {advice} of one table, untransformed")


def refuse_other_laws(first: str, a: AnyModel, second: str, b: AnyModel) -> None:
    """Refuse two models of other families or links, of which neither contains the other.

    A Poisson model is a negative binomial one whose shape is infinite.
    """
    one, other = _law(a), _law(b)
    counts = {one[0], other[0]} == {"poisson", "Negative Binomial"}
    if one == other or (counts and one[1] == other[1]):
        return
    raise DataError(
        f"{first} has the family {one[0]} with the link {one[1]}, but {second} {other[0]} with "
        f"{other[1]}: neither contains the other, so there is no likelihood-ratio test between "
        f"them; compare {first}.aic with {second}.aic, or fit both with one family and link"
    )


def _law(model: AnyModel) -> tuple[str, str]:
    if isinstance(model, OrdinaryFit):
        return model.law
    return law_of(model.family)


def _missing_rows(first: str, a: AnyModel, second: str, b: AnyModel) -> str:
    """Say which rows one model lacks, where both have labels of the same data."""
    if isinstance(a, OrdinaryFit) or isinstance(b, OrdinaryFit):
        return ""
    if not (a.frame.in_memory and b.frame.in_memory):
        return ""
    parts = []
    for name, own, other in ((second, b.frame, a.frame), (first, a.frame, b.frame)):
        gone = other.index[~other.index.isin(own.index)]
        if len(gone) and len(gone) < other.n:
            shown = ", ".join(map(str, gone[:5])) + (", ..." if len(gone) > 5 else "")
            parts.append(f"{name} lacks row{'s' if len(gone) > 1 else ''} {shown}")
    return f" ({'; '.join(parts)})" if parts else ""


def _weights(model: AnyModel) -> np.ndarray:
    return np.ones(rows_of(model)) if model.weights is None else model.weights


def _same(a: np.ndarray, b: np.ndarray) -> bool:
    return bool(np.allclose(a, b, rtol=SAME, atol=SAME * float(np.abs(a).max(initial=0.0))))


def _where(a: np.ndarray, b: np.ndarray) -> str:
    if a.shape != b.shape:
        return f" in shape: {a.shape} and {b.shape}"
    row = int(np.argmax(np.abs(a - b)))
    return f": {a[row]:.6g} and {b[row]:.6g} in row {row} (counted from 0)"


def _response_text(model: AnyModel) -> str:
    text = _text(model)
    return text.split("~")[0].strip() or "no name"


def _text(model: AnyModel) -> str:
    return model.formula if isinstance(model, OrdinaryFit) else model.formula.text


def _loglik(model: AnyModel) -> float:
    return model.loglik if isinstance(model, OrdinaryFit) else log_likelihood(model)


def refuse_other_criteria(names, models, restricted) -> None:
    """Refuse REML criteria beside likelihoods, or of other fixed effects."""
    remedy = "use refit=True, which compares fits by maximum likelihood"
    if not all(restricted):
        by_ml = names[restricted.index(False)]
        raise DataError(f"{by_ml} is no REML fit, but others are, with refit=False; {remedy}")
    first = models[0].X
    for name, model in zip(names[1:], models[1:], strict=True):
        X = model.X
        if not model.frame.in_memory and model.fixed_names == models[0].fixed_names:
            continue
        if X.shape != first.shape or not np.allclose(X, first, rtol=1e-9, atol=0.0):
            raise DataError(
                f"{name} and {names[0]} have different fixed effects "
                f"({', '.join(model.fixed_names)}; {', '.join(models[0].fixed_names)}), so that "
                f"their REML criteria do not compare; {remedy}"
            )


def _notes(table: pd.DataFrame, models: Sequence[AnyModel], by_REML: bool) -> list[str]:
    """Return what a reader of the p values should know."""
    notes = []
    if by_REML:
        notes.append("logLik, AIC and BIC are by REML (refit=False).")
    names = list(table.index)
    for name, model in zip(names, models, strict=True):
        if not isinstance(model, OrdinaryFit) and not model.convergence.converged:
            notes.append(f"{name} did not converge: its likelihood may be too small.")
    notes += approximation_note({m.nAGQ for m in models if not isinstance(m, OrdinaryFit)})
    for small, large, i in zip(models, models[1:], range(1, len(models)), strict=False):
        row = table.iloc[i]
        if row["Chisq"] < 0:
            notes.append(
                f"{names[i]} has more parameters than {names[i - 1]} but a smaller likelihood: it "
                "does not contain it."
            )
        elif row["Df"] > 0 and _variances(large) > _variances(small):
            notes.append(
                f"{names[i]} has variances that {names[i - 1]} sets to zero, the boundary: its p "
                "value is conservative (too large)."
            )
        elif row["Df"] > 0 and _frees_a_shape(small, large):
            notes.append(
                f"{names[i]} has a shape that is infinite in {names[i - 1]}, the boundary: its p "
                "value is conservative (too large)."
            )
    return notes


def approximation_note(orders: set[int]) -> list[str]:
    """Say where likelihoods are approximated in ways that do not compare."""
    if len(orders) > 1 or 0 in orders:
        how = "differently" if len(orders) > 1 else "roughly"
        shown = ", ".join(map(str, sorted(orders)))
        return [
            f"nAGQ is {shown}: likelihoods are approximated {how}; fit all models with one nAGQ "
            "above 0."
        ]
    return []


def _frees_a_shape(small: AnyModel, large: AnyModel) -> bool:
    """Whether a Poisson model is beside a negative binomial one, whose shape is infinite there."""
    return (
        not isinstance(small, OrdinaryFit)
        and not isinstance(large, OrdinaryFit)
        and small.family.name == "poisson"
        and "shape" in large.family.named(large.extra)
    )


def _variances(model: AnyModel) -> int:
    """Return the number of random effects a level that have a variance."""
    if isinstance(model, OrdinaryFit):
        return 0
    return sum(len(t.columns) for t in model.terms)


NONE = "<none>"
TESTS = ("Chisq", "F", None)
PENALTY = "a number, the penalty a parameter (2 for AIC)"


def single_deletions(
    fit: Fit,
    scope: Any = None,
    test: str | None = "Chisq",
    ddf: str | None = "auto",
    k: float = 2.0,
    n_jobs: int = 1,
    progress: bool | None = None,
) -> AnovaTable:
    """Test the model without each single term; see the method ``drop1`` of a model."""
    test, k = checks.option(test, "test", TESTS), checks.number(k, "k", what=PENALTY)
    n_jobs, progress = checks.work(n_jobs, progress)
    if test == "F" and not fit.is_linear and fit.beta_covariance is None:
        raise ArgumentError("test is 'F', but a generalized model has no F tests; expected 'Chisq'")
    labels, rule = _scope(fit, scope), check_ddf(fit, ddf)
    if test == "F":
        checks.refuse_unread(k, "k", 2.0, "AIC, which test='F' has not")
        tests = [f_test(fit, L, ddf=rule) for L in term_after_others(fit, labels).values()]
        return _titled(fit, f_table(fit, labels, tests, rule), method_name(fit, ddf, joint=True))
    if rule is not None:  # which would ask for a chi-square test
        checks.refuse_unread(rule, "ddf", check_ddf(fit, "auto"), "test='F'")
    notes = [unused_covariance("the fit", fit)] if test and fit.beta_covariance is not None else []
    full = fit.by_ml()
    ends = in_parallel(_Without(full), labels, n_jobs=n_jobs, progress=progress, label="drop1")
    return _table(full, labels, ends, test, k, notes)


@dataclass(frozen=True)
class _Without:
    """Fits a model without a term; a class, so that it pickles."""

    fit: Fit

    def __call__(self, label: str) -> End:
        """Return the end of the fit without a term."""
        return End.of(without_terms(self.fit, [label]))


def without_terms(fit: Fit, labels: Sequence[str]) -> Fit:
    """Return the fit of the model without terms of the fixed effects, to the same rows."""
    change = update_formula(written_out(fit), f". ~ . - {' - '.join(labels)}")
    return with_formula(fit, change, control=fit.control.quiet())


def written_out(fit: Fit) -> str:
    """Return the formula with the columns that a dot stands for."""
    names = fit.frame.dot_columns
    if not names or fit.formula.response is None:
        return fit.formula.text
    columns = " + ".join(Name(name).text for name in names)
    return update_formula(f"{fit.formula.response.text} ~ {columns}", fit.formula.text)


def _table(full, labels, ends, test, k, notes) -> AnovaTable:
    npar = np.array([full.npar, *(end.npar for end in ends)])
    deviance = np.array([full.estimates.objective, *(end.objective for end in ends)])
    dropped = npar[0] - npar
    columns = {
        "npar": np.where(np.arange(len(npar)) > 0, dropped, np.nan),
        "AIC": deviance + k * npar,
    }
    if test == "Chisq":
        LRT = deviance - deviance[0]
        LRT = np.where(np.abs(LRT) < EQUAL, 0.0, LRT)
        tested = (dropped > 0) & (LRT >= 0)
        p = scipy.special.chdtrc(np.where(tested, dropped, 1), np.where(tested, LRT, 0.0))
        for label, end, value, df in zip(labels, ends, LRT[1:], dropped[1:], strict=True):
            se = float(np.hypot(full.estimates.objective_se, end.objective_se))
            name = f"the model without {label}"
            refuse_uncertain(name, "the whole one", float(value), se, chi_square_tail(df))
        LRT[0] = np.nan
        columns |= {"LRT": LRT, "Pr(Chi)": np.where(tested, p, np.nan)}
    notes = [*notes, *(f"{note}." for note in error_note(["the whole model"], [full]))]
    stopped = [label for label, end in zip(labels, ends, strict=True) if not end.converged]
    notes = [*notes, *(f"The fit without {label} did not converge." for label in stopped)]
    if not full.convergence.converged:
        notes.append("The fit of the whole model did not converge.")
    return _titled(full, pd.DataFrame(columns, index=[NONE, *labels]), None, notes)


def _titled(
    fit: Fit, frame: pd.DataFrame, method: str | None, notes: Sequence[str] = ()
) -> AnovaTable:
    title = "Single term deletions" + ("" if method is None else f" using {method}:")
    return AnovaTable(frame, (title, "", "Model:", *formula_lines(fit.formula.text)), tuple(notes))


def _scope(fit: Fit, scope: Any) -> list[str]:
    """Return the labels of the terms to drop, in the model's order unless they were listed."""
    free = droppable(fit)
    if scope is None:
        return free
    by_variables = {
        frozenset(n.text for n in t): label for t, label in _pairs(fit.frame.fixed_terms)
    }
    asked = named_terms(fit, scope, "scope")
    for names in asked:
        if by_variables[names] not in free:
            above = [text for other, text in by_variables.items() if names < other]
            raise ArgumentError(
                f"{by_variables[names]} cannot be dropped while {', '.join(above)} stay(s) in the "
                f"model, by marginality; drop one of: {', '.join(free)}"
            )
    return [by_variables[names] for names in asked]


def named_terms(fit: Fit, asked: Any, name: str) -> list[frozenset[str]]:
    """Return the variables of the terms that labels or a formula name, each once."""
    terms = fit.frame.fixed_terms
    known = {frozenset(n.text for n in t) for t in terms.terms}
    found: dict[frozenset[str], None] = {}
    for part in checks.names(asked, name, "labels of terms, or a formula '~ a + b'"):
        for names, written in _terms_of(fit, part, name):
            if names not in known:
                raise FormulaError(
                    f"{name} has {written}, which is not a fixed-effects term of "
                    f"{fit.formula.text}; its terms are: {', '.join(terms.labels) or 'none'}"
                )
            found[names] = None
    return list(found)


def _pairs(terms: TermSet) -> zip:
    return zip(terms.terms, terms.labels, strict=True)


def _terms_of(fit: Fit, text: str, name: str) -> list[tuple[frozenset[str], str]]:
    """Return the variables and the text of each term that a label or a formula names."""
    for names, label in _pairs(fit.frame.fixed_terms):
        if unquoted(text) == unquoted(label):
            return [(frozenset(n.text for n in names), label)]
    formula = parse_formula(text if "~" in text else f"~ {text}")
    if formula.bars:
        raise FormulaError(
            f"{name} has the random-effects term ({formula.bars[0].text}); it is of fixed "
            "effects: compare fits with and without it by anova()"
        )
    terms = expand_terms(formula.fixed, fit.frame.dot_columns)
    return [(frozenset(n.text for n in t), label) for t, label in _pairs(terms)]
