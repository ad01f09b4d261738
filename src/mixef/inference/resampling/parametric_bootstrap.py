"""Likelihood-ratio tests whose null distribution is simulated.

U. Halekoh and S. Hojsgaard (2014), A Kenward-Roger approximation and parametric bootstrap methods
for tests in linear mixed models: the R package pbkrtest, Journal of Statistical Software 59(9).
"""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import pandas as pd
import scipy

from mixef import checks
from mixef.errors import DataError, FitError
from mixef.estimation.fit import Fit
from mixef.inference.hypotheses.criterion_error import error_of, refuse_uncertain
from mixef.inference.hypotheses.likelihood_ratio import EQUAL, refuse_other_rows
from mixef.inference.refits.many import refit_many
from mixef.inference.refits.refits import with_formula
from mixef.inference.resampling.bootstrap import pieces
from mixef.inference.resampling.bootstrap_result import counts_note
from mixef.inference.resampling.regression import (
    Regression,
    regression_of_formula,
    regression_of_result,
)
from mixef.inference.simulation.simulate import simulated_responses
from mixef.late import picture
from mixef.terms.algebra import expand_terms
from mixef.terms.formula import Formula, parse_formula, update_formula
from mixef.text.numbers import format_common, format_pvalue, significance_stars
from mixef.text.printed import PrintedFrame
from mixef.text.tables import Table

Null = Fit | Regression


@dataclass(frozen=True, eq=False, repr=False)
class PBTest(PrintedFrame):
    """A likelihood-ratio test with its simulated null distribution.

    Attributes
    ----------
    frame : DataFrame
        Rows LRT (the chi-square test), PBtest (the share of simulated statistics that are as
        large), and three tests that take mean or variance from the simulated statistics: Bartlett
        (a chi-square of the statistic rescaled), Gamma, and F. Columns statistic, df,
        ddf, p_value.
    reference : ndarray (n,)
        Simulated statistics; NaN for those that failed.
    failures : Series
        How many failed, by message.
    n_unconverged : int
        Replicates of which a search did not end at an optimum.
    large, small : str
        Formulas.
    notes : tuple of str
    """

    frame: pd.DataFrame
    reference: np.ndarray
    failures: pd.Series
    n_unconverged: int
    large: str
    small: str
    notes: tuple[str, ...]

    @property
    def n(self) -> int:
        """Replicates drawn."""
        return len(self.reference)

    @property
    def n_failed(self) -> int:
        """Replicates that failed."""
        return int(np.isnan(self.reference).sum())

    @property
    def statistic(self) -> float:
        """Twice the gain in log-likelihood."""
        return float(self.frame.loc["LRT", "statistic"])

    @property
    def p_value(self) -> float:
        """The p value of the parametric bootstrap."""
        return float(self.frame.loc["PBtest", "p_value"])

    @property
    def extreme(self) -> int:
        """Simulated statistics that are as large as the observed one, or larger."""
        return count_extreme(self.statistic, self.reference)

    def plot(self, ax: Any = None) -> Any:
        """Draw the simulated statistics, the chi-square density (dashed) and the observed one.

        Parameters
        ----------
        ax : matplotlib.axes.Axes, optional
            Where to draw; by default a new figure.

        Returns
        -------
        matplotlib.axes.Axes

        Examples
        --------
        >>> from mixef import lmer, load_dataset, pb_test
        >>> fit = lmer("Reaction ~ Days + (1 | Subject)", load_dataset("sleepstudy"))
        >>> pb_test(fit, ". ~ . - Days", n=20, seed=1).plot().get_xlabel()
        'Likelihood-ratio statistic'
        """
        return picture("resampling.null_distribution")(self, ax)

    def to_table(self, digits: int = 4) -> Table:
        """Return the tests as a table of text."""
        digits = checks.digits(digits)
        p = self.frame["p_value"].to_numpy()
        columns = [
            _some(self.frame[name].to_numpy(), digits) for name in ("statistic", "df", "ddf")
        ]
        cells = [*columns, format_pvalue(p, 3), significance_stars(p)]
        used = self.n - self.n_failed
        lines = [f"{used} replicates, {self.extreme} with a statistic as large or larger"]
        note = counts_note(self.n, 0, self.n_unconverged, self.failures)
        lines += [*([note] if note else []), *self.notes]
        return Table(
            ("stat", "df", "ddf", "Pr(>stat)", ""),
            list(zip(*cells, strict=True)),
            index=list(self.frame.index),
            align="rrrrl",
            title=(
                "Parametric bootstrap likelihood-ratio test\n"
                f"large: {self.large}\nsmall: {self.small}"
            ),
            note="\n".join(lines),
        )


def _some(values: np.ndarray, digits: int) -> list[str]:
    """Return numbers as text, and nothing for what is missing."""
    known = iter(format_common(values[~np.isnan(values)], digits + 1))
    return ["" if np.isnan(value) else next(known) for value in values]


def pb_test(
    large: Fit,
    small: Any,
    n: int = 1000,
    *,
    seed: int | np.random.Generator | None = None,
    n_jobs: int = 1,
    progress: bool | None = None,
) -> PBTest:
    """Test a smaller model against a larger one; see the function of the package."""
    n, rng = checks.count(n), checks.generator(seed)
    n_jobs, progress = checks.work(n_jobs, progress)
    notes: tuple[str, ...] = ()
    if large.REML or getattr(small, "REML", False):
        notes = ("models were refitted by ML instead of REML",)
    large = large.by_ml()
    null = _null(large, small)
    df = large.npar - null.npar
    if df < 1:
        raise DataError(
            f"the larger model has {large.npar} parameters and the smaller one {null.npar}; "
            "expected fewer in the smaller one, which comes second"
        )
    LRT = _at_least_zero(null_objective(null) - large.estimates.objective)
    reference, messages, n_unconverged = [], Counter[str](), 0
    for m in pieces(large, n):
        part, failed, unconverged = simulated_statistics(large, null, m, rng, n_jobs, progress)
        reference.append(part)
        messages += failed
        n_unconverged += unconverged
    failures = pd.Series(dict(messages.most_common()), dtype=int, name="failures")
    simulated = np.concatenate(reference)
    if np.isnan(simulated).all():
        raise FitError(f"all {n} replicates failed, most of them by: {failures.index[0]}")
    small_text = null.text if isinstance(null, Regression) else null.formula.text
    fits = [large] if isinstance(null, Regression) else [null, large]
    refuse_uncertain(
        small_text,
        large.formula.text,
        LRT,
        error_of(*fits),
        lambda value: float(np.nanmean(simulated >= value)),
    )
    return PBTest(reference_tests(LRT, df, simulated), simulated, failures, n_unconverged,
                        large.formula.text, small_text, notes)  # fmt: skip


def reference_tests(LRT: float, df: int, reference: np.ndarray) -> pd.DataFrame:
    """Return the tests of a statistic by a simulated null distribution (n,); NaN is left out.

    The larger model has ``df`` parameters more.
    """
    values = reference[~np.isnan(reference)]
    mean = float(values.mean())
    variance = float(values.var(ddof=1)) if len(values) > 1 else np.nan
    ratio = mean / df
    # The mean of an F distribution is ddf / (ddf - 2).
    ddf = 2.0 * ratio / (ratio - 1.0) if ratio > 1 else np.inf
    bartlett = LRT / ratio if ratio > 0 else np.nan
    positive = mean > 0 and variance > 0
    gamma = scipy.special.gammaincc(mean**2 / variance, LRT * mean / variance) if positive else 1.0
    F = scipy.special.fdtrc(df, ddf, LRT / df) if np.isfinite(ddf) else _chi2(LRT, df)
    rows = {
        "LRT": (LRT, df, np.nan, _chi2(LRT, df)),
        "PBtest": (LRT, np.nan, np.nan, (1 + count_extreme(LRT, values)) / (1 + len(values))),
        "Bartlett": (bartlett, df, np.nan, _chi2(bartlett, df)),
        "Gamma": (LRT, np.nan, np.nan, float(gamma)),
        "F": (LRT / df, df, ddf, float(F)),
    }
    return pd.DataFrame.from_dict(
        rows, orient="index", columns=["statistic", "df", "ddf", "p_value"]
    )


def count_extreme(LRT: float, reference: np.ndarray) -> int:
    """Return how many simulated statistics are as large as the observed one, up to rounding."""
    return int((reference >= LRT - EQUAL).sum())


def _chi2(statistic: float, df: int) -> float:
    return float(scipy.special.chdtrc(df, statistic))


def _at_least_zero(gain: Any) -> Any:
    """Return gains of nested models, which are not negative but for the searches' tolerance."""
    return np.where(np.abs(gain) < EQUAL, 0.0, gain)[()]


def _null(large: Fit, small: Any) -> Null:
    """Return the smaller model, by maximum likelihood, after checks."""
    if isinstance(small, str):
        formula = parse_formula(update_formula(large.formula.text, small))
        _same_response(large, formula)
        if not formula.bars:
            return regression_of_formula(large, formula)
        small = with_formula(large, small, large.control.quiet())
    if not isinstance(small, Fit):
        return regression_of_result(large, small)
    _check_comparable(large, small)
    small = small.by_ml()
    return small if large.frame.in_memory else _on_rows_of(large, small)


def _on_rows_of(large: Fit, small: Fit) -> Fit:
    """Return a fit that reads the rows of a larger one's, in an engine, and in their order."""
    frame: Any = large.frame
    groups = {tuple(node.text for node in term.grouping.nodes) for term in small.terms}
    known = {(text,) for text in frame.groups} | set(frame.crossings)
    others = [text for text in small.frame.variables if text not in frame.variables]
    others += [":".join(texts) for texts in groups - known]
    if others:
        raise DataError(
            f"the smaller model ({small.formula.text}) has {others[0]}, which the larger one "
            f"({large.formula.text}) has not: rows in {frame.relation.engine} are read for both "
            "models at once; write the smaller one in terms of the larger one's variables"
        )
    return small.with_spec(frame=replace(frame, formula=small.formula), held_problem=small.problem)


def _same_response(large: Fit, small: Formula) -> None:
    """Refuse a formula of another response, or with other offsets."""
    offsets = expand_terms(small.fixed, large.frame.dot_columns).offsets
    pairs = {
        "response": ([large.formula.response], [small.response]),
        "offset": (large.frame.offset_nodes, offsets),
    }
    for what, nodes in pairs.items():
        one, other = (sorted(node.text for node in part if node is not None) for part in nodes)
        if one != other:
            raise DataError(
                f"the larger model has the {what} {', '.join(one) or 'none'}, but the smaller one "
                f"{', '.join(other) or 'none'}; expected one {what}: write '. ~ ...' to keep the "
                "larger model's"
            )


def _check_comparable(large: Fit, small: Fit) -> None:
    if large.is_linear != small.is_linear:
        raise DataError(
            "one model is linear and the other generalized; expected two of one kind, fitted "
            "by one function"
        )
    if large.frame.n != small.frame.n:
        raise DataError(
            f"the models have {large.frame.n} and {small.frame.n} rows; fit both to the same "
            "complete rows"
        )
    if large.frame.in_memory and small.frame.in_memory:
        _check_rows(large, small)
    else:
        refuse_other_rows("the larger model", large, "the smaller one", small)
        _same_response(large, small.formula)
    if large.family != small.family:
        raise DataError(f"the families differ: {large.family!r} and {small.family!r}; expected one")
    if large.nAGQ != small.nAGQ:
        raise DataError(
            f"nAGQ is {large.nAGQ} in the larger model and {small.nAGQ} in the smaller one, so "
            "likelihoods do not compare; fit both with the same"
        )


def _check_rows(large: Fit, small: Fit) -> None:
    """Refuse models that differ in what their rows have."""
    pairs = {
        "response": (large.y, small.y),
        "weights": (_or(large.weights, 1.0), _or(small.weights, 1.0)),
        "offset": (_or(large.frame.offset, 0.0), _or(small.frame.offset, 0.0)),
    }
    for what, (a, b) in pairs.items():
        if (a != b).any():
            raise DataError(
                f"the models ({large.formula.text}; {small.formula.text}) differ in their {what}; "
                "fit both to the same rows, in the same order"
            )


def _or(values: np.ndarray | None, default: float) -> np.ndarray:
    return np.array(default) if values is None else values


def null_objective(null: Null) -> float:
    """Return -2 log L of the smaller model."""
    return null.objective if isinstance(null, Regression) else null.estimates.objective


def simulated_statistics(
    large: Fit, null: Null, n: int, rng: np.random.Generator, n_jobs: int, progress: Any
) -> tuple[np.ndarray, Counter[str], int]:
    """Return simulated statistics (n,), messages of failures, and a count of doubtful ends."""
    messages: Counter[str] = Counter()
    doubtful = np.zeros(n, dtype=bool)
    if isinstance(null, Regression):
        Y: Any = null.simulated(n, rng)
        objective = null.objectives(Y)
        lost = int(np.isnan(objective).sum())
        messages += Counter({"the regression has no maximum-likelihood estimate": lost})
    else:
        Y = simulated_responses(null, n, rng)
        fits = refit_many(null, Y, n_jobs=n_jobs, progress=progress)
        objective = fits.objective
        messages += Counter(fits.failures.values())
        doubtful |= ~fits.converged
    failed = np.isnan(objective)
    fits = refit_many(large, Y, n_jobs=n_jobs, progress=progress)
    messages += Counter(m for i, m in fits.failures.items() if not failed[i])
    statistics = _at_least_zero(objective - fits.objective)
    doubtful = (doubtful | ~fits.converged) & np.isfinite(statistics)
    return statistics, messages, int(doubtful.sum())
