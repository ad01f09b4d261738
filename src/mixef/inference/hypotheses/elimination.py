"""Backward elimination: random terms first, then terms of the fixed effects, one at a time."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd

from mixef import checks
from mixef.errors import ArgumentError
from mixef.estimation.fit import Fit
from mixef.inference.hypotheses.anova import AnovaTable
from mixef.inference.hypotheses.ddf import check_ddf, method_name, refuse_chosen
from mixef.inference.hypotheses.likelihood_ratio import (
    NONE,
    named_terms,
    single_deletions,
    without_terms,
)
from mixef.inference.hypotheses.ranova import Reductions, table_of
from mixef.inference.hypotheses.term_contrasts import droppable
from mixef.text.printed import Printed
from mixef.text.tables import Table

ELIMINATED = "Eliminated"
ALPHAS = "a number from 0 to 1"


@dataclass(frozen=True, eq=False, repr=False)
class Elimination(Printed):
    """The steps of a backward elimination, made by ``step``.

    Attributes
    ----------
    random : DataFrame
        One row a reduction of the random effects: Eliminated, the step at which it went (0 where it
        stays), and the columns of ``ranova`` at that step or at the end.
    fixed : DataFrame
        The same for terms of the fixed effects, with the columns of ``drop1``.
    model : LinearMixedModel or GeneralizedLinearMixedModel
        The model that is left.
    method : str or None
        Degrees of freedom of the F tests.
    notes : tuple of str
        What a reader should know.
    """

    random: pd.DataFrame
    fixed: pd.DataFrame
    model: Any
    method: str | None
    notes: tuple[str, ...] = ()

    def to_frame(self) -> pd.DataFrame:
        """Return all steps: part, term, eliminated, statistic, df, den_df, p_value."""
        parts = []
        for part, table in (("random", self.random), ("fixed", self.fixed)):
            rows = table[table.index != NONE]
            columns = {
                "part": part,
                "term": rows.index,
                "eliminated": rows[ELIMINATED].to_numpy(int),
            }
            for name, heads in _TIDY.items():
                found = [head for head in heads if head in rows]
                columns[name] = rows[found[0]].to_numpy(float) if found else np.nan
            parts.append(pd.DataFrame(columns, index=range(len(rows))))
        return pd.concat(parts, ignore_index=True)

    def tables(self) -> list[Table]:
        """Return the two tables, the model that was found below the last."""
        title = "Backward reduced fixed-effect table\n"
        if self.method is not None:
            title += f"Degrees of freedom by {self.method}\n"
        below = ("", "Model found:", self.model.formula, *self.notes)
        return [
            AnovaTable(self.random, ("Backward reduced random-effect table\n",)).to_table(),
            AnovaTable(self.fixed, (title,), below).to_table(),
        ]


_TIDY = {
    "statistic": ("LRT", "F value"),
    "df": ("Df", "NumDF", "npar"),
    "den_df": ("DenDF",),
    "p_value": ("Pr(>Chisq)", "Pr(>F)", "Pr(Chi)"),
}


def eliminate(
    fit: Fit,
    make: Callable[[Fit], Any],
    ddf: Any = "auto",
    alpha_random: Any = 0.1,
    alpha_fixed: Any = 0.05,
    reduce_random: Any = True,
    reduce_fixed: Any = True,
    keep: Any = None,
) -> Elimination:
    """Reduce a model backward; see the function ``step``."""
    alphas = [
        _alpha(alpha, name)
        for alpha, name in ((alpha_random, "alpha_random"), (alpha_fixed, "alpha_fixed"))
    ]
    refuse_chosen(fit, "step fits smaller models and tests them")
    rule = check_ddf(fit, ddf)
    if fit.is_linear and rule is None:
        raise ArgumentError(
            f"ddf is {ddf!r}, by which F tests have no p values; expected 'auto', 'satterthwaite' "
            "or 'kenward-roger'"
        )
    reduce_random = checks.flag(reduce_random, "reduce_random")
    reduce_fixed = checks.flag(reduce_fixed, "reduce_fixed")
    kept = [] if keep is None else named_terms(fit, keep, "keep")
    end, random, notes = _random_steps(fit, alphas[0], reduce_random)
    end, fixed = _fixed_steps(end, alphas[1], reduce_fixed, rule, kept)
    if end.vanished:
        notes.append(f"The model found is singular: {'; '.join(map(str, end.vanished))}.")
    if not end.convergence.converged:
        notes.append("The model found did not converge.")
    # fits on the way were made without warnings; the last one is held as the first was asked for
    last = end.with_spec(control=fit.control, held_problem=end.held_problem)
    return Elimination(random, fixed, make(last), method_name(fit, ddf), tuple(notes))


def _alpha(value: Any, name: str) -> float:
    alpha = checks.number(value, name, 0.0, ALPHAS)
    if alpha > 1.0:
        raise checks.refusal(name, value, ALPHAS)
    return alpha


def _random_steps(fit: Fit, alpha: float, reduce: bool) -> tuple[Fit, pd.DataFrame, list[str]]:
    """Take random terms away while the largest p value is above alpha."""
    rows: list[pd.DataFrame] = []
    notes: list[str] = []
    while True:
        reductions = list(Reductions(fit))
        table = table_of(fit, reductions).frame
        if not rows:
            rows.append(_marked(table.iloc[:1], np.nan))
        p = table["Pr(>Chisq)"].to_numpy()[1:]
        last = int(np.nanargmax(p)) if not np.isnan(p).all() else -1
        if not reduce or last < 0 or not p[last] > alpha:
            break
        if not reductions[last].bars:
            notes.append(
                f"{reductions[last].name} could go too, but a mixed model has a random term: fit "
                "an ordinary regression."
            )
            break
        rows.append(_marked(table.iloc[[last + 1]], len(rows)))
        fit = reductions[last].fit(fit)
    return fit, pd.concat([*rows, _marked(table.iloc[1:], 0)]), notes


def _fixed_steps(
    fit: Fit, alpha: float, reduce: bool, rule: str | None, kept: list[frozenset[str]]
) -> tuple[Fit, pd.DataFrame]:
    """Take terms of the fixed effects away while the largest p value is above alpha."""
    rows: list[pd.DataFrame] = []
    test = "F" if fit.is_linear else "Chisq"
    while True:
        terms = fit.frame.fixed_terms
        held = {
            label
            for label, term in zip(terms.labels, terms.terms, strict=True)
            if any({node.text for node in term} <= names for names in kept)
        }
        table = single_deletions(fit, droppable(fit), test, rule).frame
        table = table[table.index != NONE]
        p = np.where(table.index.isin(held), np.nan, table.iloc[:, -1].to_numpy(dtype=float))
        last = int(np.nanargmax(p)) if not np.isnan(p).all() else -1
        if not reduce or last < 0 or not p[last] > alpha:
            return fit, pd.concat([*rows, _marked(table, 0)])
        rows.append(_marked(table.iloc[[last]], len(rows) + 1))
        fit = without_terms(fit, [str(table.index[last])])


def _marked(rows: pd.DataFrame, step: float) -> pd.DataFrame:
    """Return rows of a table with the step at which they went."""
    out = rows.copy()
    out.insert(0, ELIMINATED, step)
    return out
