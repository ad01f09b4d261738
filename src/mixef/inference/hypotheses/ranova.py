"""Likelihood-ratio tests of the random terms, each left out or reduced by one of its parts.

Where the smaller model has one variance less, the null puts that variance at zero, the end of its
range, and the statistic is not chi-square: with k parameters that go, of which k - 1 are
covariances of that variance with others, it is an even mixture of chi-squares with k - 1 and k
degrees of freedom (Self and Liang 1987, Stram and Lee 1994). Where several variances go at once the
weights of the mixture depend on the data, and no p value of that kind is given.

References
----------
S. G. Self and K.-Y. Liang (1987), Asymptotic properties of maximum likelihood estimators and
likelihood ratio tests under nonstandard conditions, Journal of the American Statistical Association
82, 605-610. D. O. Stram and J. W. Lee (1994), Variance components testing in the longitudinal mixed
effects model, Biometrics 50, 1171-1177.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
import pandas as pd
import scipy

from mixef import checks
from mixef.estimation.fit import Fit
from mixef.estimation.search.optimize import newton
from mixef.inference.hypotheses.anova import AnovaTable
from mixef.inference.hypotheses.criterion_error import (
    End,
    chi_square_tail,
    error_note,
    refuse_uncertain,
)
from mixef.inference.hypotheses.likelihood_ratio import EQUAL, NONE, unused_covariance
from mixef.inference.hypotheses.term_contrasts import INTERCEPT, uncontained
from mixef.inference.refits.refits import with_text
from mixef.inference.replicates import in_parallel
from mixef.linalg.standardize import orthonormal_columns
from mixef.terms.covariance import STRUCTURES, make_covariance
from mixef.terms.fixed import Design, design
from mixef.terms.formula import BarTerm, parse_formula
from mixef.text.layout import formula_lines

CHISQ, MIXTURE = "Pr(>Chisq)", "Pr(>Chibarsq)"
COLUMNS = ("npar", "logLik", "AIC", "LRT", "Df", MIXTURE, CHISQ)
WHICH = (
    f"{CHISQ}: chi-square with Df, as lmerTest's; too large, as variances are zero under the null\n"
    f"{MIXTURE}: even mixture of chi-squares with Df - 1 and Df, for one such variance"
)
# What is left of a column of ones beside the columns of a term that counts as nothing.
OUTSIDE = 1e-8


@dataclass(frozen=True)
class Reduction:
    """A model with smaller random effects than a fit's."""

    name: str  # What goes: ``(1 | g)``, ``x in (x | g)``
    bars: tuple[str, ...]  # The random terms that stay, as a formula has them
    #: Whether one variance goes, with its covariances with others that stay.
    is_one_variance: bool

    def fit(self, full: Fit) -> Fit:
        """Return the fit of the smaller model to the same rows."""
        formula = full.formula
        head = "" if formula.response is None else f"{formula.response.text} "
        text = f"{head}~ {' + '.join([formula.fixed.text, *self.bars])}"
        return with_text(full, text, control=full.control.quiet())


@dataclass(frozen=True, eq=False)
class Reductions:
    """The ways in which the random effects of a fit can be made smaller by one step."""

    full: Fit
    reduce_terms: bool = True

    def __iter__(self) -> Iterator[Reduction]:
        for i, bar in enumerate(self._bars):
            smaller = self._smaller(i) if self.reduce_terms else {}
            size = len(self._columns(bar).names)
            text = bar_text(bar)
            for part, other in smaller.items():
                gone = size - len(self._columns(other).names)
                yield Reduction(f"{part} in {text}", self._with(i, bar_text(other)), gone == 1)
            if not smaller:
                whole = make_covariance(bar.structure, bar.hom, size)
                yield Reduction(text, self._with(i), whole.n_par == 1)

    @cached_property
    def _bars(self) -> tuple[BarTerm, ...]:
        return self.full.formula.bars

    def _with(self, i: int, *own: str) -> tuple[str, ...]:
        """Return the random terms with others in the place of one."""
        texts = [bar_text(bar) for bar in self._bars]
        return (*texts[:i], *own, *texts[i + 1 :])

    def _columns(self, bar: BarTerm) -> Design:
        return design(self.full.frame.bar_terms(bar), self.full.frame, self.full.call.contrasts)

    def _smaller(self, i: int) -> dict[str, BarTerm]:
        """Return the terms that one can be reduced to, by what goes; none where it goes whole.

        All of them are special cases of the term. Unstructured covariances hold those of any
        columns in the span of their own; of the others only uncorrelated ones with variances of
        their own hold those of some of their columns.
        """
        bar = self._bars[i]
        terms, structure = self.full.frame.bar_terms(bar), STRUCTURES[bar.structure]
        if not terms.labels or bar.hom or structure.correlations == "one":
            return {}
        by_name = structure.correlations == "none"
        lefts = {
            part: _left(terms.intercept, [label for label in terms.labels if label != part])
            for part in uncontained(terms)
        }
        if by_name and terms.intercept:
            lefts = {INTERCEPT: _left(False, list(terms.labels)), **lefts}
        if not terms.intercept and len(terms.labels) == 1:
            lefts = dict.fromkeys(terms.labels, "1") if self._holds_intercept(i) else {}
        own = set(self._columns(bar).names)
        out = {}
        for part, left in lefts.items():
            other = parse_formula(f"~ {bar_text(bar, left)}").bars[0]
            if not by_name or own.issuperset(self._columns(other).names):
                out[part] = other
        return out

    def _holds_intercept(self, i: int) -> bool:
        """Whether ones are in the span of a term's columns, and in no other term of its factor."""
        bar = self._bars[i]
        beside = [other for j, other in enumerate(self._bars) if j != i and other.name == bar.name]
        if any(self.full.frame.bar_terms(other).intercept for other in beside):
            return False
        Q, _ = orthonormal_columns(self._columns(bar).matrix)
        ones = np.ones(len(Q))
        rest = ones - Q @ (Q.T @ ones) / len(Q)
        return bool(np.abs(rest).max() < OUTSIDE)


def bar_text(bar: BarTerm, left: str | None = None) -> str:
    """Write a random term as a formula has it, with another left side if one is given."""
    text = f"{bar.lhs.text if left is None else left} | {bar.group.text}"
    default = STRUCTURES[bar.structure].default_hom
    if bar.structure == "us":
        return f"({text})"
    if bar.structure == "diag" and not bar.hom:
        return f"({text.replace(' | ', ' || ', 1)})"
    told = "" if bar.hom == bool(default) else f", hom = {str(bar.hom).upper()}"
    return f"{bar.structure}({text}{told})"


def _left(intercept: bool, labels: list[str]) -> str:
    """Write the left side of a random term."""
    return " + ".join(labels if intercept and labels else [str(int(intercept)), *labels])


@dataclass(frozen=True, eq=False)
class _Reduced:
    """Fits reductions; a class, so that it pickles."""

    full: Fit

    def __call__(self, reduction: Reduction) -> End:
        """Return the end of the fit of a reduction."""
        if not reduction.bars:
            return without_random_effects(self.full)
        return End.of(reduction.fit(self.full))


class _AtZero:
    """The criterion of a fit where all covariances are zero, for a search over the rest."""

    def __init__(self, fit: Fit):
        self._criterion, self._par = fit.criterion(), np.zeros(len(fit.estimates.par))

    def point(self, rest: np.ndarray) -> np.ndarray:
        """Return the point (K,) of the whole criterion."""
        return np.concatenate([self._par, rest])

    def value(self, rest: np.ndarray) -> float:
        """Return the criterion."""
        return float(self._criterion.value(self.point(rest)))

    def derivatives(self) -> tuple[np.ndarray, np.ndarray]:
        """Return gradient and information for the rest."""
        k = len(self._par)
        gradient, information = self._criterion.derivatives()
        return gradient[k:], information[k:, k:]

    def scale(self, rest: np.ndarray) -> np.ndarray:
        """Return the size of a large change of the rest."""
        size: np.ndarray = self._criterion.scale(self.point(rest))[len(self._par) :]
        return size

    def rounding(self) -> float:
        """Return the size of rounding errors in the last value."""
        return float(self._criterion.rounding())


def without_random_effects(fit: Fit) -> End:
    """Return parameters and criterion of the regression, and whether it was found.

    It is the fit's own criterion where all covariances are zero: of a linear model that of least
    squares, by ML or REML, of a generalized one its maximum likelihood.
    """
    at_zero, k = _AtZero(fit), len(fit.estimates.par)
    npar, rest = fit.npar - k, fit.point[k:]
    if not len(rest):
        return End(npar, at_zero.value(rest), True)
    result = newton(at_zero, rest, fit.control.max_evaluations)
    return End(npar, result.objective, result.expected_gain < EQUAL)


def ranova(fit: Fit, reduce_terms: Any = True, n_jobs: Any = 1, progress: Any = None) -> AnovaTable:
    """Test the random terms; see the function of the package."""
    reduce_terms = checks.flag(reduce_terms, "reduce_terms")
    n_jobs, progress = checks.work(n_jobs, progress)
    return table_of(fit, list(Reductions(fit, reduce_terms)), n_jobs, progress)


def table_of(
    fit: Fit, reductions: list[Reduction], n_jobs: int = 1, progress: bool | None = None
) -> AnovaTable:
    """Return the table of some reductions of a fit."""
    ends = in_parallel(_Reduced(fit), reductions, n_jobs=n_jobs, progress=progress, label="ranova")
    npar = np.array([fit.npar, *(end.npar for end in ends)], dtype=float)
    deviance = np.array([fit.estimates.objective, *(end.objective for end in ends)])
    LRT, df = deviance - deviance[0], npar[0] - npar
    LRT = np.where(np.abs(LRT) < EQUAL, 0.0, LRT)
    one = np.array([False, *(step.is_one_variance for step in reductions)])
    tested = (df > 0) & (LRT >= 0)
    plain = _tail(np.where(tested, LRT, 0.0), np.where(tested, df, 1.0))
    mixed = 0.5 * (plain + _tail(np.where(tested, LRT, 0.0), np.where(tested, df, 1.0) - 1.0))
    for step, end, value, n in zip(reductions, ends, LRT[1:], df[1:], strict=True):
        se = float(np.hypot(fit.estimates.objective_se, end.objective_se))
        tail = mixture_tail(n) if step.is_one_variance else chi_square_tail(n)
        refuse_uncertain(f"the model without {step.name}", "the whole one", float(value), se, tail)
    LRT[0] = df[0] = np.nan
    values = (npar, -0.5 * deviance, deviance + 2.0 * npar, LRT, df,
              np.where(tested & one, mixed, np.nan), np.where(tested, plain, np.nan))  # fmt: skip
    names = [NONE, *(step.name for step in reductions)]
    frame = pd.DataFrame(dict(zip(COLUMNS, values, strict=True)), index=names)
    title = "ANOVA-like table for random-effects: Single term deletions"
    heading = (title, "", "Model:", *formula_lines(fit.formula.text))
    return AnovaTable(frame, heading, tuple(_notes(fit, frame, [end.converged for end in ends])))


def _tail(LRT: np.ndarray, df: np.ndarray) -> np.ndarray:
    """Return the probability of a larger chi-square; with no degrees of freedom it is zero."""
    some = df > 0
    return np.where(some, scipy.special.chdtrc(np.where(some, df, 1.0), LRT), LRT <= 0.0)


def mixture_tail(df: float) -> Callable[[float], float]:
    """Return the function from a statistic to its p value where one variance is at its bound."""

    def tail(statistic: float) -> float:
        at = np.full(2, max(statistic, 0.0))
        return 0.5 * float(_tail(at, np.array([df, df - 1.0])).sum())

    return tail


def _notes(fit: Fit, frame: pd.DataFrame, converged: list[bool]) -> Iterator[str]:
    """Say what a reader of the p values should know."""
    yield WHICH
    yield from error_note(["the whole model"], [fit])
    if fit.beta_covariance is not None:
        yield unused_covariance("the fit", fit)
    if frame[MIXTURE].iloc[1:].isna().any():
        yield (
            "Where several variances go at once there is no such mixture: use pb_test for their "
            "exact p value"
        )
    if not fit.convergence.converged:
        yield "The fit of the whole model did not converge."
    for name, ended in zip(frame.index[1:], converged, strict=True):
        if not ended:
            yield f"The fit without {name} did not converge."
    for name in frame.index[1:][frame["LRT"].iloc[1:] < 0]:
        yield f"The fit without {name} has the larger likelihood: one of the searches has failed."
