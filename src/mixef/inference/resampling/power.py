"""Power of a test of fixed effects, by simulation, over sizes of the sample."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from functools import partial
from typing import Any

import numpy as np
import pandas as pd
import scipy

from mixef import checks
from mixef.errors import ArgumentError, FitError
from mixef.estimation.fit import Fit
from mixef.inference.hypotheses.ddf import f_test, refuse_chosen
from mixef.inference.hypotheses.hypothesis import Hypothesis, linear_hypothesis
from mixef.inference.hypotheses.likelihood_ratio import EQUAL
from mixef.inference.refits.many import frame_with, refit_many, refitted
from mixef.inference.replicates import attempted
from mixef.inference.resampling.bootstrap import each
from mixef.inference.resampling.bootstrap_result import counts_note
from mixef.inference.resampling.power_design import (
    Scenario,
    Size,
    generating_values,
    refuse_too_large,
    scenario,
    size_grid,
)
from mixef.inference.simulation.sampler import draw_responses
from mixef.text.numbers import format_fixed
from mixef.text.printed import PrintedFrame
from mixef.text.tables import Table

METHODS = {
    "t": "t or F test with Satterthwaite's method",
    "z": "z or chi-square test (Wald)",
    "lrt": "likelihood-ratio test",
}


@dataclass(frozen=True, eq=False, repr=False)
class Power(PrintedFrame):
    """Power over sizes of the sample.

    Attributes
    ----------
    frame : DataFrame
        One row a size: levels of grouping factors and rows within them as asked for, nobs,
        power, conf_low and conf_high (exact binomial, 95 %), n (replicates that count), failures.
    test : str
        The hypothesis.
    method : {"t", "z", "lrt"}
    alpha : float
    failures : Series
        How many replicates of all sizes failed, by message.
    """

    frame: pd.DataFrame
    test: str
    method: str
    alpha: float
    failures: pd.Series

    def to_table(self) -> Table:
        """Return power and sizes as a table of text."""
        names = [str(name) for name in self.frame.columns]
        cells = [
            format_fixed(column, 3) if name in ("power", "conf_low", "conf_high") else
            [str(int(value)) for value in column]
            for name, column in ((name, self.frame[name].to_numpy()) for name in names)
        ]  # fmt: skip
        drawn = int(self.frame[["n", "failures"]].to_numpy().sum())
        heads = {"conf_low": "lower", "conf_high": "upper"}
        return Table(
            [heads.get(name, name) for name in names],
            list(zip(*cells, strict=True)),
            title=(f"Power of the {METHODS[self.method]} for {self.test}, alpha = {self.alpha:g}"),
            note=counts_note(drawn, 0, 0, self.failures) or None,
        )


def power(
    fit: Fit,
    test: Any,
    *,
    sizes: Mapping[str, Any] | None = None,
    within: Mapping[str, Any] | None = None,
    n: int = 1000,
    alpha: float = 0.05,
    method: str | None = None,
    new_params: Mapping[str, Any] | None = None,
    seed: int | np.random.Generator | None = None,
    n_jobs: int = 1,
    progress: bool | None = None,
) -> Power:
    """Simulate the power of a test of fixed effects; see the function of the package."""
    refuse_chosen(fit, "power simulates tests that are")
    n, rng, alpha = checks.count(n), checks.generator(seed), checks.proportion(alpha, "alpha")
    n_jobs, progress = checks.work(n_jobs, progress)
    method = _checked_method(fit, method)
    hypothesis, text = hypothesis_of(fit, test)
    values = generating_values(fit, new_params)
    grid = size_grid(fit, sizes, within)
    for place in grid:
        refuse_too_large(fit, place, n)
    if method == "lrt":
        fit = fit.by_ml()
    records, messages = [], Counter[str]()
    for seeded, place in zip(rng.integers(2**63, size=len(grid)), grid, strict=True):
        own = np.random.default_rng(seeded)
        at = scenario(fit, place, values, own)
        p_values, failed = _p_values(at, hypothesis, method, n, own, n_jobs, progress)
        messages += failed
        records.append(_record(place, at, p_values <= alpha, ~np.isnan(p_values)))
    failures = pd.Series(dict(messages.most_common()), dtype=int, name="failures")
    table = pd.DataFrame(records)
    if not table["n"].all():
        raise FitError(f"all {n} replicates of a size failed, most by: {failures.index[0]}")
    return Power(table, text, method, alpha, failures)


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


def binomial_limits(hits: int, n: int) -> tuple[float, float]:
    """Return the exact 95 % limits of a proportion.

    C. J. Clopper and E. S. Pearson (1934), The use of confidence or fiducial limits illustrated
    in the case of the binomial, Biometrika 26, 404-413.
    """
    tail = 0.025
    inverse = scipy.special.betaincinv
    lower = float(inverse(hits, n - hits + 1, tail)) if hits else 0.0
    upper = float(inverse(hits + 1, n - hits, 1.0 - tail)) if hits < n else 1.0
    return lower, upper


def _checked_method(fit: Fit, method: str | None) -> str:
    linear = fit.is_linear
    method = checks.option(method, "method", (*METHODS, None))
    if method is None:
        return "t" if linear else "z"
    if method == "t" and not linear:
        raise ArgumentError(
            "method is 't', but tests of a generalized model have no degrees of freedom; expected "
            "'z' or 'lrt'"
        )
    return method


def _record(place: tuple[Size, ...], at: Scenario, hit: np.ndarray, counted: np.ndarray) -> dict:
    hits, n = int(hit.sum()), int(counted.sum())
    lower, upper = binomial_limits(hits, n) if n else (np.nan, np.nan)
    sizes = {size.label: size.count for size in place}
    return sizes | {
        "nobs": at.fit.frame.n,
        "power": hits / n if n else np.nan,
        "conf_low": lower,
        "conf_high": upper,
        "n": n,
        "failures": len(hit) - n,
    }


def _p_values(
    at: Scenario, test: Hypothesis, method: str, n: int, rng: np.random.Generator, n_jobs: int,
    progress: Any,
) -> tuple[np.ndarray, Counter[str]]:  # fmt: skip
    """Return p values (n,), NaN for failures, and the messages of those."""
    Y = draw_responses(at.sampler, n, rng)
    if method == "lrt":
        return _lrt(at, test, Y, n_jobs, progress)
    rule = "satterthwaite" if method == "t" else None
    make: Callable[..., Fit] = partial(refitted, at.fit, start=at.start)
    items: list[Any] = [(y,) for y in Y.T]
    if at.fit.is_linear:
        fits = refit_many(at.fit, Y, n_jobs=n_jobs, progress=progress, start=at.start["par"])
        make = partial(fit_at, at.fit)
        items = [fits.failures.get(i, (Y[:, i], fits.par[i])) for i in range(n)]
    results = each(partial(_p_value, make, test, rule), items, n_jobs, progress, "power")
    messages = Counter(r for r in results if isinstance(r, str))
    return np.array([np.nan if isinstance(r, str) else r for r in results]), messages


def _p_value(
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


def _lrt(
    at: Scenario, test: Hypothesis, Y: np.ndarray, n_jobs: int, progress: Any
) -> tuple[np.ndarray, Counter[str]]:
    """Return p values (n,) of likelihood-ratio tests against the constrained model."""
    null, shift, df = constrained(at.fit, test)
    large = refit_many(at.fit, Y, n_jobs=n_jobs, progress=progress, start=at.start["par"])
    small = refit_many(null, Y - shift[:, None], n_jobs=n_jobs, progress=progress)
    statistic = small.objective - large.objective
    statistic = np.where(np.abs(statistic) < EQUAL, 0.0, statistic)
    messages = Counter(large.failures.values())
    messages += Counter(m for i, m in small.failures.items() if i not in large.failures)
    return np.where(np.isnan(statistic), np.nan, scipy.special.chdtrc(df, statistic)), messages


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
    design = replace(
        fit.design,
        matrix=np.asfortranarray(fit.X @ N),
        names=tuple(f"x{j + 1}" for j in range(N.shape[1])),
        assign=np.arange(N.shape[1]),
    )
    frame = frame_with(fit, fit.y - shift) if shift.any() else fit.frame
    return fit.again(frame=frame, design=design, control=fit.control.quiet()), shift, rank
