"""The tests whose power is simulated: each gives the p values of simulated responses."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import partial
from typing import Any, Protocol

import numpy as np
import scipy

from mixef import checks
from mixef.errors import ArgumentError, FormulaError
from mixef.estimation.fit import Fit
from mixef.inference.hypotheses.ddf import KENWARD_ROGER, SATTERTHWAITE, f_test
from mixef.inference.hypotheses.hypothesis import Hypothesis, linear_hypothesis
from mixef.inference.hypotheses.likelihood_ratio import EQUAL
from mixef.inference.hypotheses.rlrt import (
    NOTHING,
    find_term,
    regression_criteria,
    simulate_rlrt,
    spectrum_of,
)
from mixef.inference.refits.many import frame_with, refit_many, refitted
from mixef.inference.refits.other_rows import grouping_factors
from mixef.inference.refits.refits import spec_with_formula
from mixef.inference.replicates import attempted
from mixef.inference.resampling.bootstrap import each
from mixef.inference.resampling.parametric_bootstrap import (
    count_extreme,
    null_objective,
    simulated_statistics,
)
from mixef.inference.resampling.power_design import Scenario
from mixef.inference.resampling.regression import (
    Regression,
    regression,
    regression_of_formula,
)
from mixef.terms.formula import parse_formula, update_formula

METHODS = {
    "t": "t or F test with Satterthwaite's method",
    KENWARD_ROGER: "t or F test with Kenward-Roger's method",
    "z": "z or chi-square test (Wald)",
    "lrt": "likelihood-ratio test",
    "pb": "parametric bootstrap of the likelihood ratio",
    "exact": "exact restricted likelihood-ratio test",
    "function": "user's test",
}
SPELLINGS = {SATTERTHWAITE: "t", "kr": KENWARD_ROGER, "wald": "z", "lr": "lrt", "rlrt": "exact"}
WALD = {"t": SATTERTHWAITE, KENWARD_ROGER: KENWARD_ROGER, "z": None}
# Draws of an exact test's null distribution.
EXACT_DRAWS = 20_000

PValues = tuple[np.ndarray, Counter[str]]  # (n,), NaN for failures, and the messages of those


class PowerTest(Protocol):
    """A test of a model's fits to simulated responses."""

    @property
    def text(self) -> str:
        """What is tested."""

    @property
    def method(self) -> str:
        """A key of `METHODS`."""

    def p_values(
        self, at: Scenario, Y: np.ndarray, rng: np.random.Generator, n_jobs: int, progress: Any
    ) -> PValues:
        """Return p values (n,) of responses (n_rows, n)."""


def power_test(fit: Fit, test: Any, method: Any, n_boot: Any) -> tuple[Fit, PowerTest]:
    """Return what a test names, and the fit by the criterion that it needs."""
    method = checks.option(method, "method", (*METHODS, None), SPELLINGS)
    if callable(test) and not isinstance(test, type):
        _refuse(method not in (None, "function"), method, "a function", "None")
        return fit, OfFunction(_name(test), test)
    _refuse(method == "function", method, "no function", "None")
    text = test.strip() if isinstance(test, str) else ""
    if text.startswith("(") and "|" in text:
        return _of_term(fit, text, method, n_boot)
    if "~" in text:
        return _of_comparison(fit, text, method, n_boot)
    _refuse(method == "exact", method, "fixed effects", "a term: test='(1 | g)'")
    hypothesis, shown = hypothesis_of(fit, test)
    if method in ("lrt", "pb"):
        fit = fit.by_ml()
        return fit, Comparison(shown, method, partial(_held, hypothesis), n_boot)
    return fit, OfCoefficients(shown, _wald(fit, method), hypothesis)


def _of_term(fit: Fit, text: str, method: str | None, n_boot: Any) -> tuple[Fit, PowerTest]:
    """Return the test of a random-effects term."""
    t = find_term(text, fit)
    label = f"({fit.terms[t].label})"
    scalar = fit.is_linear and len(fit.terms[t].columns) == 1
    method = ("exact" if scalar else "lrt") if method is None else method
    if method == "exact":
        if not scalar:
            raise ArgumentError(
                f"method is 'exact', which is for one variance of a linear model, but the test is "
                f"of {label}; expected 'lrt' or 'pb'"
            )
        return (fit if fit.REML else fit.again(REML=True)), ExactTest(label, t)
    _refuse(method in WALD, method, f"the random-effects term {label}", "'exact', 'lrt' or 'pb'")
    return fit.by_ml(), Comparison(label, method, partial(_without, t), n_boot)


def _of_comparison(fit: Fit, text: str, method: str | None, n_boot: Any) -> tuple[Fit, PowerTest]:
    """Return the test against a smaller model; one in fixed effects alone may be a Wald test."""
    small = _smaller(text, fit)
    df = fit.npar - small.npar
    if df < 1:
        raise ArgumentError(
            f"test is the model {text!r} with {small.npar} parameters, and the fit has {fit.npar}; "
            "expected a smaller model"
        )
    _refuse(method == "exact", method, "a model", "a term: test='(1 | g)'")
    if method in WALD:
        same = isinstance(small, Fit) and [t.label for t in small.terms] == [
            t.label for t in fit.terms
        ]
        _refuse(not same, method, "a model with other random effects", "'lrt' or 'pb'")
        N = np.linalg.lstsq(fit.X, small.X, rcond=None)[0]
        L = scipy.linalg.null_space(N.T).T
        hypothesis = Hypothesis(L, np.zeros(len(L)), tuple(f"row {i + 1}" for i in range(len(L))))
        return fit, OfCoefficients(text, _wald(fit, method), hypothesis)
    return fit.by_ml(), Comparison(text, method or "lrt", partial(_smaller, text), n_boot)


def _name(function: Any) -> str:
    """Return what a function is called, also inside of a partial one."""
    inner = function.args[0] if isinstance(function, partial) and function.args else function
    return getattr(inner, "__name__", "a function")


def _refuse(wrong: bool, method: Any, what: str, instead: str) -> None:
    if wrong:
        raise ArgumentError(f"method is {method!r}, but the test is of {what}; expected {instead}")


def _wald(fit: Fit, method: str | None) -> str:
    if method in ("t", KENWARD_ROGER) and not fit.is_linear:
        raise ArgumentError(
            f"method is {method!r}, but tests of a generalized model have no degrees of freedom; "
            "expected 'z', 'lrt' or 'pb'"
        )
    return method or ("t" if fit.is_linear else "z")


def hypothesis_of(fit: Fit, test: Any) -> tuple[Hypothesis, str]:
    """Return what a test names, all columns of a term or linear combinations, and its text."""
    design = fit.design
    if isinstance(test, str) and test in design.term_labels and test not in fit.fixed_names:
        of_term = design.assign[fit.kept] == design.term_labels.index(test) + 1
        L = np.eye(len(fit.kept))[of_term]
        if not len(L):
            raise ArgumentError(f"the term {test} has no coefficient that is estimated")
        names = tuple(np.array(fit.fixed_names, dtype=object)[of_term])
        return Hypothesis(L, np.zeros(len(L)), names), test
    found = linear_hypothesis(fit, test)
    return found, ", ".join(found.texts)


# ---------------------------------------------------------------------- tests of one fit


@dataclass(frozen=True)
class OfCoefficients:
    """A Wald test of linear hypotheses, by one of the rules for degrees of freedom."""

    text: str
    method: str
    hypothesis: Hypothesis

    def p_values(
        self, at: Scenario, Y: np.ndarray, rng: np.random.Generator, n_jobs: int, progress: Any
    ) -> PValues:
        """Return p values (n,) of responses (n_rows, n)."""
        make: Callable[..., Fit] = partial(refitted, at.fit, start=at.start)
        items: list[Any] = [(y,) for y in Y.T]
        if at.fit.is_linear:
            fits = refit_many(at.fit, Y, n_jobs=n_jobs, progress=progress, start=at.start["par"])
            make = partial(fit_at, at.fit)
            items = [fits.failures.get(i, (Y[:, i], fits.par[i])) for i in range(Y.shape[1])]
        task = partial(_wald_p_value, make, self.hypothesis, WALD[self.method])
        return collected(each(task, items, n_jobs, progress, "power"))


def _wald_p_value(
    make: Callable[..., Fit], test: Hypothesis, rule: str | None, item: Any
) -> float | str:
    """Return the p value of the fit to a response, or the message of one that failed."""
    if isinstance(item, str):
        return item
    return attempted(lambda: f_test(make(*item), test.L, test.rhs, ddf=rule).p_value)


def fit_at(fit: Fit, y: np.ndarray, par: np.ndarray) -> Fit:
    """Return the fit of a response (n,) at estimates (k,) that are known: without a search."""
    new = fit.with_spec(frame=frame_with(fit, y))
    criterion = new.criterion()
    scaled = new.problem.scaled_par(par)
    estimates = criterion.estimates(scaled)
    return replace(new, point=scaled, estimates=estimates, held_problem=new.problem)


@dataclass(frozen=True)
class OfFunction:
    """A function from a fit to a p value, or to whether it rejects."""

    text: str
    function: Callable[[Fit], Any]
    method: str = "function"

    def p_values(
        self, at: Scenario, Y: np.ndarray, rng: np.random.Generator, n_jobs: int, progress: Any
    ) -> PValues:
        """Return p values (n,) of responses (n_rows, n)."""
        task = partial(_p_value_by_function, at, self.function)
        return collected(each(task, list(Y.T), n_jobs, progress, "power"))


def _p_value_by_function(at: Scenario, function: Callable[[Fit], Any], y: np.ndarray) -> Any:
    found = attempted(lambda: (function(refitted(at.fit, y, at.start)),))
    return found if isinstance(found, str) else _checked_p(found[0])


def _checked_p(value: Any) -> float:
    """Return a p value; 0 and 1 stand for a test that rejects, and for one that does not."""
    if isinstance(value, bool | np.bool_):
        return 0.0 if value else 1.0
    p = checks.number(value, "what test returned", 0.0, "a p value, or True or False")
    if p > 1.0:
        raise checks.refusal("what test returned", value, "a p value, or True or False")
    return p


def collected(results: list[Any]) -> PValues:
    """Return p values (n,) of results, of which text says why there is none."""
    messages = Counter(r for r in results if isinstance(r, str))
    return np.array([np.nan if isinstance(r, str) else r for r in results], dtype=float), messages


# ---------------------------------------------------------------------- tests of two fits


@dataclass(frozen=True)
class Null:
    """The model under a hypothesis, on the rows of a size."""

    model: Fit | Regression
    shift: np.ndarray | float = 0.0  # (n,): what it takes off the response


@dataclass(frozen=True)
class Comparison:
    """A likelihood-ratio test, by chi-square or by a parametric bootstrap of each replicate."""

    text: str
    method: str
    null: Callable[[Fit], Any]  # from the model on the rows of a size
    n_boot: int  # replicates of a bootstrap

    def p_values(
        self, at: Scenario, Y: np.ndarray, rng: np.random.Generator, n_jobs: int, progress: Any
    ) -> PValues:
        """Return p values (n,) of responses (n_rows, n)."""
        null = self.null(at.fit)
        null = null if isinstance(null, Null) else Null(null)
        if self.method == "pb":
            if np.any(null.shift):
                raise ArgumentError(
                    "a parametric bootstrap is of coefficients that are zero; use method='lrt'"
                )
            seeds = rng.integers(2**63, size=(Y.shape[1],))
            task = partial(_bootstrap_p_value, at, null.model, self.n_boot)
            items: list[Any] = list(zip(Y.T, seeds, strict=True))
            return collected(each(task, items, n_jobs, progress, "power"))
        large = refit_many(at.fit, Y, n_jobs=n_jobs, progress=progress, start=at.start["par"])
        under = Y - np.reshape(null.shift, (-1, 1)) if np.any(null.shift) else Y
        objective, failed = null_objectives(null.model, under, n_jobs, progress)
        messages = Counter(large.failures.values())
        messages += Counter(m for i, m in failed.items() if i not in large.failures)
        statistic = objective - large.objective
        statistic = np.where(np.abs(statistic) < EQUAL, 0.0, statistic)
        df = at.fit.npar - null.model.npar
        lost = np.isnan(statistic)
        return np.where(lost, np.nan, scipy.special.chdtrc(df, statistic)), messages


def null_objectives(
    model: Fit | Regression, Y: np.ndarray, n_jobs: int = 1, progress: Any = False
) -> tuple[np.ndarray, dict[int, str]]:
    """Return -2 log L (n,) of responses (n_rows, n), and messages of those without a maximum."""
    if isinstance(model, Regression):
        found = model.objectives(Y)
        lost = np.flatnonzero(np.isnan(found)).tolist()
        return found, dict.fromkeys(lost, "the regression has no maximum-likelihood estimate")
    fits = refit_many(model, Y, n_jobs=n_jobs, progress=progress)
    return fits.objective, fits.failures


def _bootstrap_p_value(
    at: Scenario, null: Fit | Regression, n: int, item: tuple[np.ndarray, int]
) -> float | str:
    """Return the p value of a response by a parametric bootstrap of its own, or a message."""
    y, seed = item

    def p_value() -> float:
        large = refitted(at.fit, y, at.start)
        small = replace(null, mixed=large) if isinstance(null, Regression) else refitted(null, y)
        LRT = max(float(null_objective(small)) - large.estimates.objective, 0.0)
        found = simulated_statistics(large, small, n, np.random.default_rng(seed), 1, False)[0]
        known = found[~np.isnan(found)]
        return (1.0 + count_extreme(LRT, known)) / (1.0 + len(known))

    return attempted(p_value)


def _held(test: Hypothesis, fit: Fit) -> Null:
    null, shift, _ = constrained(fit, test)
    return Null(null, shift)


def constrained(fit: Fit, test: Hypothesis) -> tuple[Fit, np.ndarray, int]:
    """Return the model under ``L beta = rhs``, what it takes off the response, and the rank of L.

    Coefficients that satisfy the hypothesis are ``beta1 + N gamma``, with a particular solution
    and a basis N of the null space of L; so the columns are ``X N``, and ``X beta1`` is known.
    """
    L, rhs = test.L, test.rhs
    _, size, Vt = np.linalg.svd(L)
    rank = int((size > 1e-10 * size.max(initial=0.0)).sum())
    first = np.linalg.lstsq(L, rhs, rcond=None)[0]
    free = ~L.any(axis=0)
    N = np.eye(L.shape[1])[:, free] if free.sum() == L.shape[1] - rank else Vt[rank:].T
    shift = fit.X @ first
    if not fit.is_linear and shift.any():
        raise ArgumentError(
            "a likelihood-ratio test of a generalized model is of coefficients that are zero; "
            "use method='z' for other values"
        )
    design = fit.design.with_matrix(
        np.asfortranarray(fit.X @ N),
        names=tuple(f"x{j + 1}" for j in range(N.shape[1])),
        assign=np.arange(N.shape[1]),
    )
    frame = frame_with(fit, fit.y - shift) if shift.any() else fit.frame
    return fit.again(frame=frame, design=design, control=fit.control.quiet()), shift, rank


def _smaller(change: str, fit: Fit) -> Fit | Regression:
    """Return a smaller model on the rows of a fit, with the levels that these have."""
    formula = parse_formula(update_formula(fit.formula.text, change))
    if formula.response is None or formula.response.text != _response(fit):
        raise FormulaError(
            f"test is the model {change!r}, whose response is not {_response(fit)}; write "
            "'. ~ ...' to keep the response"
        )
    if not formula.bars:
        return regression_of_formula(fit, formula)
    spec, known = spec_with_formula(fit, formula), grouping_factors(fit.terms)
    for term in spec.terms:
        if term.group not in known:
            raise FormulaError(
                f"test is the model {change!r} with the grouping factor {term.group}, which the "
                f"fit has not; it has {', '.join(known)}"
            )
    terms = tuple(replace(term, grouping=known[term.group]) for term in spec.terms)
    return fit.again(
        formula=formula, frame=spec.frame, design=spec.design, terms=terms,
        control=fit.control.quiet(),
    )  # fmt: skip


def _response(fit: Fit) -> str:
    return "" if fit.formula.response is None else fit.formula.response.text


def _without(t: int, fit: Fit) -> Fit | Regression:
    """Return the model without random-effects term t."""
    others = tuple(term for i, term in enumerate(fit.terms) if i != t)
    if others:
        return fit.again(terms=others, control=fit.control.quiet())
    return regression(fit, fit.X, "no random effects")


@dataclass(frozen=True)
class ExactTest:
    """The exact restricted likelihood-ratio test of one variance, whose null is drawn once."""

    text: str
    t: int  # position of the term
    method: str = "exact"

    def p_values(
        self, at: Scenario, Y: np.ndarray, rng: np.random.Generator, n_jobs: int, progress: Any
    ) -> PValues:
        """Return p values (n,) of responses (n_rows, n)."""
        fit, term = at.fit, at.fit.terms[self.t]
        spectrum = spectrum_of(fit.X, term, fit.frame.weights)
        draws = np.sort(simulate_rlrt(spectrum, EXACT_DRAWS, rng))
        large = refit_many(fit, Y, n_jobs=n_jobs, progress=progress, start=at.start["par"])
        others = tuple(other for i, other in enumerate(fit.terms) if i != self.t)
        if others:
            null = fit.again(terms=others, control=fit.control.quiet())
            objective, failed = null_objectives(null, Y, n_jobs, progress)
        else:
            objective, failed = regression_criteria(fit, Y), {}
        messages = Counter(large.failures.values())
        messages += Counter(m for i, m in failed.items() if i not in large.failures)
        statistic = objective - large.objective
        known = ~np.isnan(statistic)
        statistic = np.where(statistic > NOTHING, statistic, 0.0)
        extreme = len(draws) - np.searchsorted(draws, statistic, side="left")
        return np.where(known, (1.0 + extreme) / (1.0 + len(draws)), np.nan), messages
