"""One model by every optimizer: `all_fit`."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import pandas as pd

from mixef.hints import refuse_unknown
from mixef.inference.refits.all_fit import (
    MAX_EVALUATIONS,
    SAME_CRITERION,
    SAME_EFFECTS,
    TIED,
    Attempt,
    Comparison,
    attempts,
    compare,
)
from mixef.mixedmodel import MixedModel, fit_of
from mixef.text.numbers import format_common, format_number
from mixef.text.printed import PrintedTable
from mixef.text.tables import Table


def all_fit(
    fit: MixedModel,
    optimizers: Sequence[str] | None = None,
    *,
    start_from_mle: bool = False,
    start: Any = None,
    max_evaluations: int = MAX_EVALUATIONS,
    n_jobs: int = 1,
    progress: bool | None = None,
    **unknown: Any,
) -> AllFit:
    """Fit a model again with every optimizer, to see whether they agree.

    Parameters
    ----------
    fit : LinearMixedModel or GeneralizedLinearMixedModel
        Its data are used again, not read again.
    optimizers : sequence of str, optional
        Some of "newton", "L-BFGS-B", "Nelder-Mead", "Powell" and "COBYLA"; all by default.
    start_from_mle : bool
        Start at the estimates of ``fit``, or where a fit starts by itself: at moment estimates,
        which in balanced data are the optimum.
    start : array (k,) or dict, optional
        Start elsewhere; as in `lmer` and `glmer`.
    max_evaluations : int
        Evaluations of the criterion after which a search stops.
    n_jobs : int
        Processes; -1 for one a core.
    progress : bool, optional
        Show a progress bar; by default where it takes long.

    Returns
    -------
    AllFit
        An optimizer that fails is kept with its error.

    Raises
    ------
    ValueError
        For an optimizer that is not known.

    Examples
    --------
    >>> from mixef import all_fit, lmer, load_dataset
    >>> fit = lmer("Reaction ~ Days + (Days | Subject)", load_dataset("sleepstudy"))
    >>> fits = all_fit(fit, ["newton", "L-BFGS-B", "Powell"])
    >>> fits.agree
    True
    >>> fits.summary().llik.round(4).tolist()
    [-871.8141, -871.8141, -871.8141]
    """
    refuse_unknown(unknown, all_fit)
    tried = attempts(
        fit_of(fit, "fit"), optimizers, start_from_mle, start, max_evaluations, n_jobs, progress
    )
    return AllFit(fit, tried)


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

    def __init__(self, original: MixedModel, tried: Sequence[Attempt]):
        kind = type(original)
        self.models = {a.optimizer: kind(a.fit) for a in tried if a.fit is not None}
        self._summary = AllFitSummary(original.formula, compare(tried))

    @property
    def agree(self) -> bool:
        """Whether all optimizers that ended are at one optimum."""
        return self._summary.comparison.agree

    @property
    def best(self) -> str:
        """The optimizer with the lowest criterion; empty if all failed."""
        return self._summary.comparison.best

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

    def __getitem__(self, optimizer: str) -> MixedModel:
        return self.models[optimizer]

    def __len__(self) -> int:
        return len(self.models)

    def to_table(self) -> Table:
        """Return the printed table: one row an optimizer."""
        return self._summary.to_table()


class AllFitSummary(PrintedTable):
    """Ends of several optimizers, side by side; parts go by lme4's names.

    Attributes
    ----------
    comparison : Comparison
        The frames.

    Examples
    --------
    >>> from mixef import all_fit, lmer, load_dataset
    >>> fit = lmer("Yield ~ 1 + (1 | Batch)", load_dataset("Dyestuff"))
    >>> all_fit(fit, ["newton", "Powell"]).summary().which_OK.tolist()
    [True, True]
    """

    def __init__(self, formula: str, comparison: Comparison):
        self.formula = formula
        self.comparison = comparison

    @property
    def which_OK(self) -> pd.Series:
        """Whether each optimizer ended at all, without an error."""
        return self.comparison.which_OK

    @property
    def messages(self) -> dict[str, list[str]]:
        """What is to be said of each end; for a failure, the error."""
        return self.comparison.messages

    @property
    def llik(self) -> pd.Series:
        """Log-likelihood by optimizer, restricted for a REML fit."""
        return self.comparison.llik

    @property
    def fixef(self) -> pd.DataFrame:
        """Coefficients (optimizers, p)."""
        return self.comparison.fixef

    @property
    def sdcor(self) -> pd.DataFrame:
        """Standard deviations and correlations of random effects, and sigma."""
        return self.comparison.sdcor

    @property
    def theta(self) -> pd.DataFrame:
        """Relative covariance factors (optimizers, k)."""
        return self.comparison.theta

    @property
    def times(self) -> pd.Series:
        """Seconds that each optimizer took."""
        return self.comparison.times

    @property
    def feval(self) -> pd.Series:
        """Evaluations of the criterion."""
        return self.comparison.feval

    @property
    def verdict(self) -> str:
        """Whether the optimizers agree, in a sentence."""
        c = self.comparison
        ended, failed = c.which_OK.sum(), c.which_OK.index[~c.which_OK]
        said = [f"{', '.join(map(str, failed))} failed: see messages."] if len(failed) else []
        if not ended:
            return "No optimizer came to an end: see messages."
        if ended == 1:
            return " ".join([f"Only {c.best} came to an end.", *said])
        if c.agree:
            said.insert(
                0,
                f"{'All ' if not len(failed) else ''}{ended} optimizers agree: the criterion "
                f"within {format_number(max(c.excess.max(), TIED), 2)}, fixed effects within "
                f"{format_number(c.distance.max(), 2)} standard errors of {c.best}.",
            )
        else:
            ends = "; ".join(
                f"{name} by {format_number(c.excess[name], 2)} in the criterion and "
                f"{format_number(c.distance[name], 2)} standard errors"
                for name in c.astray
            )
            said.insert(
                0,
                f"Ends differ from {c.best}, the lowest, by more than {SAME_CRITERION:g} in "
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
        c = self.comparison
        frame = pd.DataFrame(
            {
                "OK": c.which_OK,
                "criterion": -2.0 * c.llik,
                "excess": c.excess,
                "max|d beta|/SE": c.distance,
                "evaluations": c.feval,
                "seconds": c.times,
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
