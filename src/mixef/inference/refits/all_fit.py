"""One model by every optimizer."""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import partial
from typing import Any

import numpy as np
import pandas as pd

from mixef import checks
from mixef.control import OPTIMIZERS
from mixef.errors import ArgumentError, FitError, MixefError
from mixef.estimation.fit import Fit
from mixef.estimation.spec import theta_labels
from mixef.inference.components import parameter_values
from mixef.inference.parameters import distinct_names
from mixef.inference.replicates import in_parallel
from mixef.text.numbers import format_common, format_number
from mixef.text.printed import PrintedTable
from mixef.text.tables import Table

# Searches without derivatives need many evaluations where parameters are many.
MAX_EVALUATIONS = 10_000
# Criteria that differ by less differ by rounding, and count as one; the first is the best.
TIED = 1e-8
# Ends this close in the criterion agree: a change of estimates by some 0.03 standard errors ...
SAME_CRITERION = 1e-3
# ... and these in fixed effects, in standard errors.
SAME_EFFECTS = 0.05


@dataclass(frozen=True, eq=False)
class Attempt:
    """What one optimizer made of a model."""

    optimizer: str
    fit: Fit | None  # None where it failed
    error: str  # What it said then
    seconds: float

    @property
    def messages(self) -> list[str]:
        """What is to be said of the end."""
        if self.fit is None:
            return [self.error]
        boundary = [f"boundary (singular) fit: {v}" for v in self.fit.vanished]
        return [*self.fit.convergence.problems, *boundary]


@dataclass(frozen=True, eq=False, repr=False)
class AllFitSummary(PrintedTable):
    """Ends of several optimizers, side by side; parts go by lme4's names.

    Attributes
    ----------
    formula : str
    which_OK : Series of bool
        Whether an optimizer ended at all.
    messages : dict of list of str
        Problems by optimizer.
    llik : Series
        Log-likelihoods, restricted for a REML fit; NaN for a failure, as in the frames.
    fixef, sdcor, theta : DataFrame (optimizers, parameters)
        Coefficients; standard deviations and correlations; relative covariance factors.
    times, feval : Series
        Seconds, and evaluations of the criterion.
    excess : Series
        What each criterion is above the lowest.
    distance : Series
        Largest difference of a coefficient from the best fit's, in standard errors of that.
    best : str
        The optimizer with the lowest criterion; empty if all failed.

    Examples
    --------
    >>> from mixef import all_fit, lmer, load_dataset
    >>> fit = lmer("Yield ~ 1 + (1 | Batch)", load_dataset("Dyestuff"))
    >>> all_fit(fit, ["newton", "Powell"]).summary().which_OK.tolist()
    [True, True]
    """

    formula: str
    which_OK: pd.Series
    messages: dict[str, list[str]]
    llik: pd.Series
    fixef: pd.DataFrame
    sdcor: pd.DataFrame
    theta: pd.DataFrame
    times: pd.Series
    feval: pd.Series
    excess: pd.Series
    distance: pd.Series
    best: str

    @property
    def agree(self) -> bool:
        """Whether all that ended are at one optimum."""
        return not self.astray

    @property
    def astray(self) -> list[str]:
        """Optimizers that ended elsewhere than the best one."""
        there = (self.excess <= SAME_CRITERION) & (self.distance <= SAME_EFFECTS)
        return [str(name) for name in self.which_OK.index[self.which_OK & ~there]]

    @property
    def verdict(self) -> str:
        """Whether the optimizers agree, in a sentence."""
        ended, failed = self.which_OK.sum(), self.which_OK.index[~self.which_OK]
        said = [f"{', '.join(map(str, failed))} failed: see messages."] if len(failed) else []
        if not ended:
            return "No optimizer came to an end: see messages."
        if ended == 1:
            return " ".join([f"Only {self.best} came to an end.", *said])
        if self.agree:
            said.insert(
                0,
                f"{'All ' if not len(failed) else ''}{ended} optimizers agree: the criterion "
                f"within {format_number(max(self.excess.max(), TIED), 2)}, fixed effects within "
                f"{format_number(self.distance.max(), 2)} standard errors of {self.best}.",
            )
        else:
            ends = "; ".join(
                f"{name} by {format_number(self.excess[name], 2)} in the criterion and "
                f"{format_number(self.distance[name], 2)} standard errors"
                for name in self.astray
            )
            said.insert(
                0,
                f"Ends differ from {self.best}, the lowest, by more than {SAME_CRITERION:g} in "
                f"the criterion or {SAME_EFFECTS:g} standard errors: {ends}.",
            )
        return " ".join(said)

    def to_frame(self) -> pd.DataFrame:
        """Return one row an optimizer, in order of the criterion.

        Examples
        --------
        >>> from mixef import all_fit, lmer, load_dataset
        >>> fit = lmer("Yield ~ 1 + (1 | Batch)", load_dataset("Dyestuff"))
        >>> list(all_fit(fit, ["newton"]).summary().to_frame())
        ['OK', 'criterion', 'excess', 'max|d beta|/SE', 'evaluations', 'seconds']
        """
        frame = pd.DataFrame(
            {
                "OK": self.which_OK,
                "criterion": -2.0 * self.llik,
                "excess": self.excess,
                "max|d beta|/SE": self.distance,
                "evaluations": self.feval,
                "seconds": self.times,
            }
        )
        return frame.sort_values("excess", kind="stable")

    def to_table(self) -> Table:
        """Return the printed table: one row an optimizer."""
        frame = self.to_frame()
        objective = format_common(frame["criterion"].round(4), 9)
        columns = [
            [text if ok else "failed" for text, ok in zip(objective, frame["OK"], strict=True)],
            *(
                [format_number(x, 2) if x == x else "" for x in frame[name]]
                for name in ("excess", "max|d beta|/SE")
            ),
            [f"{x:.0f}" if x == x else "" for x in frame["evaluations"]],
            [f"{x:.2f}" for x in frame["seconds"]],
        ]
        messages = [f"{name}: {m}" for name, ms in self.messages.items() for m in ms]
        return Table(
            columns=list(frame.columns[1:]),
            rows=list(zip(*columns, strict=True)),
            index=[str(name) for name in frame.index],
            title=f"Optimizers of {self.formula}",
            note="\n".join([self.verdict, *messages]),
        )


@dataclass(frozen=True, eq=False, repr=False)
class AllFit(PrintedTable):
    """One model by several optimizers, made by `all_fit`.

    Attributes
    ----------
    models : dict of str to model
        Fits by optimizer, without those that failed.

    Examples
    --------
    >>> from mixef import all_fit, lmer, load_dataset
    >>> fit = lmer("Yield ~ 1 + (1 | Batch)", load_dataset("Dyestuff"))
    >>> fits = all_fit(fit, ["newton", "COBYLA"])
    >>> list(fits.models), fits.best in fits.models
    (['newton', 'COBYLA'], True)
    """

    models: dict[str, Any]
    _summary: AllFitSummary

    @property
    def agree(self) -> bool:
        """Whether all optimizers that ended are at one optimum."""
        return self._summary.agree

    @property
    def best(self) -> str:
        """The optimizer with the lowest criterion; empty if all failed."""
        return self._summary.best

    def summary(self) -> AllFitSummary:
        """Return the ends side by side, in frames.

        Examples
        --------
        >>> from mixef import all_fit, lmer, load_dataset
        >>> fit = lmer("Yield ~ 1 + (1 | Batch)", load_dataset("Dyestuff"))
        >>> all_fit(fit, ["newton", "Nelder-Mead"]).summary().sdcor.round(3).values.tolist()
        [[42.001, 49.51], [42.001, 49.51]]
        """
        return self._summary

    def __getitem__(self, optimizer: str) -> Any:
        return self.models[optimizer]

    def __len__(self) -> int:
        return len(self.models)

    def to_table(self) -> Table:
        """Return the printed table: one row an optimizer."""
        return self._summary.to_table()


def attempts(
    fit: Fit,
    optimizers: Sequence[str] | None = None,
    start_from_mle: bool = False,
    start: Any = None,
    max_evaluations: int = MAX_EVALUATIONS,
    n_jobs: int = 1,
    progress: bool | None = None,
) -> list[Attempt]:
    """Fit the model with each optimizer, and keep the error of one that fails."""
    names = checked_optimizers(optimizers)
    if checks.flag(start_from_mle, "start_from_mle") and start is not None:
        raise ArgumentError("start_from_mle and start are both given; expected one of them")
    control = replace(fit.control.quiet(), max_evaluations=max_evaluations)
    start = fit.warm_start() if start_from_mle else start
    task = partial(_attempt, fit, control, start)
    tried = in_parallel(task, names, n_jobs=n_jobs, progress=progress, label="all_fit")
    if start is not None and all(attempt.fit is None for attempt in tried):
        raise FitError(f"no optimizer can start there: {tried[0].error}")
    return tried


def checked_optimizers(optimizers: Sequence[str] | None) -> list[str]:
    """Return the names of optimizers, each once; all for None."""
    if optimizers is None:
        return list(OPTIMIZERS)
    expected = f"some of {checks.either(OPTIMIZERS)}"
    names = checks.names(optimizers, "optimizers", expected)
    if not names:
        raise checks.refusal("optimizers", optimizers, expected)
    return list(dict.fromkeys(checks.option(name, "optimizers", OPTIMIZERS) for name in names))


def _attempt(fit: Fit, control: Any, start: Any, optimizer: str) -> Attempt:
    begin = time.perf_counter()
    found, error = None, ""
    try:
        control = replace(control, optimizer=optimizer)
        found = fit.again(start=start, control=control)
    except (MixefError, ArithmeticError, ValueError, np.linalg.LinAlgError) as failure:
        error = f"{type(failure).__name__}: {failure}"
    return Attempt(optimizer, found, error, time.perf_counter() - begin)


def compare(formula: str, tried: Sequence[Attempt]) -> AllFitSummary:
    """Put the ends of several optimizers side by side."""
    index = pd.Index([attempt.optimizer for attempt in tried], name="optimizer")
    objective = _series(tried, index, "objective", lambda fit: fit.estimates.objective)
    ended = objective.notna()
    excess = (objective - objective.min()).rename("excess")
    excess = excess.mask(excess <= TIED, 0.0)
    best = str(index[np.argmax(excess == 0.0)]) if ended.any() else ""
    fixef = _frame(tried, index, _fixef)
    distance = pd.Series(np.nan, index=index, name="distance")
    if best:
        fit = next(attempt.fit for attempt in tried if attempt.optimizer == best)
        assert fit is not None
        errors = np.sqrt(fit.vcov.diagonal())
        apart = (fixef - fixef.loc[best]).abs() / errors
        distance = apart.max(axis=1).fillna(0.0).where(ended).rename("distance")
    return AllFitSummary(
        formula=formula,
        which_OK=ended.rename("which_OK"),
        messages={attempt.optimizer: attempt.messages for attempt in tried},
        llik=(-0.5 * objective).rename("llik"),
        fixef=fixef,
        sdcor=_frame(tried, index, _sdcor),
        theta=_frame(tried, index, _theta),
        times=pd.Series([attempt.seconds for attempt in tried], index=index, name="seconds"),
        feval=_series(tried, index, "evaluations", lambda fit: fit.convergence.n_evaluations),
        excess=excess,
        distance=distance,
        best=best,
    )


def _series(tried, index, name, value) -> pd.Series:
    values = [np.nan if a.fit is None else float(value(a.fit)) for a in tried]
    return pd.Series(values, index=index, name=name)


def _frame(tried: Sequence[Attempt], index: pd.Index, row: Any) -> pd.DataFrame:
    rows = [{} if attempt.fit is None else row(attempt.fit) for attempt in tried]
    columns = list(dict.fromkeys(key for values in rows for key in values))
    table = [[values.get(key, np.nan) for key in columns] for values in rows]
    return pd.DataFrame(np.array(table, dtype=float).reshape(len(rows), -1),
                        index=index, columns=columns)  # fmt: skip


def _fixef(fit: Fit) -> dict[str, float]:
    return dict(zip(distinct_names(fit), fit.estimates.beta.tolist(), strict=True))


def _sdcor(fit: Fit) -> dict[str, float]:
    values = parameter_values(fit)
    return values.iloc[: len(values) - len(fit.fixed_names)].to_dict()


def _theta(fit: Fit) -> dict[str, float]:
    names = theta_labels(fit.terms)
    return dict(zip(names, fit.estimates.theta.tolist(), strict=True))
