"""Fits of the model to several responses, and of smaller models to one."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import replace
from typing import Any

import numpy as np
import pandas as pd

from mixef import checks
from mixef.control import Control
from mixef.errors import FormulaError
from mixef.estimation.fit import Fit
from mixef.estimation.spec import ModelSpec
from mixef.inference.refits.many import ManyFits, refit_many
from mixef.inference.refits.new_response import response_matrix
from mixef.terms.fixed import design
from mixef.terms.formula import Formula, parse_formula, update_formula
from mixef.terms.needed import group_factors
from mixef.terms.random import random_terms
from mixef.text.numbers import format_common
from mixef.text.printed import PrintedTable
from mixef.text.tables import Table


class Refits(PrintedTable):
    """Fits of one model to several responses, made by ``refit``.

    ``len`` counts them, ``refits[i]`` is the whole model of response i, by its position, and
    iteration goes through all of them.

    Parameters
    ----------
    many : ManyFits
    make : callable
        Makes a model of a fit.
    names : Index (m,)
        Names of the responses.

    Examples
    --------
    >>> from mixef import lmer, load_dataset
    >>> fit = lmer("Yield ~ 1 + (1 | Batch)", load_dataset("Dyestuff"))
    >>> refits = fit.refit(fit.simulate(4, seed=1))
    >>> len(refits), int(refits.converged.sum()), refits[0].nobs
    (4, 4, 30)
    """

    def __init__(self, many: ManyFits, make: Callable[[Any], Any], names: pd.Index):
        self._many, self._make, self._names = many, make, names

    def __len__(self) -> int:
        return len(self._many)

    def __getitem__(self, i: int) -> Any:
        return self._make(self._many.fit(i))

    def __iter__(self) -> Iterator[Any]:
        return (self[i] for i in range(len(self)))

    @property
    def many(self) -> ManyFits:
        """The estimates as arrays."""
        return self._many

    @property
    def converged(self) -> pd.Series:
        """Whether each search ended at an optimum."""
        return pd.Series(self._many.converged, index=self._names, name="converged")

    @property
    def singular(self) -> pd.Series:
        """Whether a random-effects covariance of each fit is singular."""
        return pd.Series(self._many.singular, index=self._names, name="singular")

    @property
    def objective(self) -> pd.Series:
        """What was minimized: the REML criterion, or -2 log L."""
        return pd.Series(self._many.objective, index=self._names, name="objective")

    @property
    def failures(self) -> pd.Series:
        """The message of each response that could not be fitted."""
        failed = self._many.failures
        index = self._names.take(list(failed))
        return pd.Series(list(failed.values()), index=index, name="failure", dtype=object)

    def fixef(self) -> pd.DataFrame:
        """Return the fixed effects (m, p), a row a response."""
        names = list(self._many.model.fixed_names)
        return pd.DataFrame(self._many.beta.copy(), index=self._names, columns=names)

    def to_frame(self) -> pd.DataFrame:
        """Return one row a response: standard deviations, correlations, sigma, fixed effects."""
        return self._many.to_frame().set_axis(self._names, axis=0)

    def summary(self) -> pd.DataFrame:
        """Return the mean, standard deviation and quartiles of each estimate over the responses."""
        frame = self.to_frame()
        columns = {"Mean": frame.mean(), "Std.Dev.": frame.std()}
        quartiles = frame.quantile([0.0, 0.25, 0.5, 0.75, 1.0]).T
        quartiles.columns = ["Min", "1Q", "Median", "3Q", "Max"]
        return pd.concat([pd.DataFrame(columns), quartiles], axis=1)

    def to_table(self) -> Table:
        """Return the printed table: the summary of each estimate."""
        summary = self.summary()
        rows = [format_common(row, digits=4) for row in summary.to_numpy()]
        ends = [
            (int(self._many.singular.sum()), "singular"),
            (len(self) - int(self._many.converged.sum()) - len(self._many.failures),
             "not converged"),
            (len(self._many.failures), "failed"),
        ]  # fmt: skip
        title = f"{len(self)} refits of {self._many.model.formula.text}"
        said = ", ".join(f"{count} {what}" for count, what in ends if count)
        reasons = Counter(self._many.failures.values()).most_common()
        note = "\n".join(f"failed ({count}): {message}" for message, count in reasons) or None
        return Table(
            list(summary.columns), rows, index=list(summary.index),
            title=f"{title}: {said}" if said else title, note=note,
        )  # fmt: skip


def refits(
    fit: Fit, y: Any, make: Callable[[Any], Any], n_jobs: int, progress: bool | None
) -> Refits:
    """Fit the model to several responses."""
    n_jobs, progress = checks.work(n_jobs, progress)
    matrix, names = response_matrix(fit, y)
    many = refit_many(fit, np.asarray(matrix), n_jobs=n_jobs, progress=progress)
    return Refits(many, make, names)


def with_formula(fit: Fit, change: str, control: Control | None = None) -> Fit:
    """Fit a smaller model, such as ``". ~ . - x"``, to the same rows.

    Variables are those that the fit evaluated, so rows that a dropped variable had missing stay
    out, and likelihoods compare.
    """
    return with_text(fit, update_formula(fit.formula.text, change), control)


def with_text(fit: Fit, text: str, control: Control | None = None) -> Fit:
    """Fit the smaller model of a whole formula to the same rows; see `with_formula`."""
    formula = parse_formula(text)
    spec = spec_with_formula(fit, formula)
    return fit.again(
        formula=formula,
        frame=spec.frame,
        design=spec.design,
        terms=spec.terms,
        control=fit.control if control is None else control,
    )


def spec_with_formula(fit: Fit, formula: Formula) -> ModelSpec:
    """Return the model of another formula, whose variables the fit has evaluated."""
    frame = replace(fit.frame, formula=formula)
    parts = [frame.fixed_terms, *(frame.bar_terms(bar) for bar in formula.bars)]
    unknown = [v.text for part in parts for v in part.variables if v.text not in frame.variables]
    groups = [node for bar in formula.bars for node in group_factors(bar.group)]
    unknown += [node.text for node in groups if node.text not in frame.groups]
    if unknown:
        raise FormulaError(
            f"{formula.text} needs {unknown[0]}, which the fit has not evaluated; fit it as a "
            "model of its own"
        )
    contrasts = fit.call.contrasts
    return fit.spec.changed(
        formula=formula,
        frame=frame,
        design=design(frame.fixed_terms, frame, contrasts),
        terms=random_terms(frame, contrasts),
    )
