"""Criteria of several models of one response, side by side."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np
import pandas as pd

from mixef import checks
from mixef.errors import ArgumentError
from mixef.estimation.fit import Fit
from mixef.inference.hypotheses.criterion_error import error_note
from mixef.inference.hypotheses.likelihood_ratio import (
    REFITTED,
    approximation_note,
    refuse_other_criteria,
    refuse_other_rows,
    unused_covariance,
)
from mixef.inference.information import aic, aicc, bic, log_likelihood
from mixef.inference.measures.r2 import r_squared
from mixef.inference.replicates import attempted
from mixef.text.numbers import format_common, format_fixed
from mixef.text.printed import PrintedFrame
from mixef.text.tables import Table

CRITERIA = {"AIC": aic, "AICc": aicc, "BIC": bic}
SHARES = ("weight", "R2_marginal", "R2_conditional")


@dataclass(frozen=True, eq=False, repr=False)
class Comparison(PrintedFrame):
    """Criteria of several models, made by ``compare``.

    Attributes
    ----------
    frame : DataFrame
        One row a model: npar, logLik, AIC, AICc, BIC; delta, what the criterion is above the
        smallest, and weight, ``exp(-delta / 2)`` over its sum; R2_marginal, R2_conditional, sigma.
    formulas : tuple of str
        The models, in the order of the rows.
    by : str
        The criterion of delta and weight.
    notes : tuple of str
        What a reader should know.
    """

    frame: pd.DataFrame
    formulas: tuple[str, ...]
    by: str
    notes: tuple[str, ...] = ()

    def to_table(self) -> Table:
        """Return the table that is printed."""
        cells = [self._cells(str(name)) for name in self.frame]
        pairs = zip(self.frame.index, self.formulas, strict=True)
        title = "\n".join(["Models:", *(f"{name}: {text}" for name, text in pairs)])
        note = "\n".join([f"delta and weight by {self.by}", *self.notes])
        rows = list(zip(*cells, strict=True))
        return Table(list(self.frame), rows, list(self.frame.index), title=title, note=note)

    def _cells(self, name: str) -> list[str]:
        values = self.frame[name].to_numpy(dtype=float)
        there = np.flatnonzero(~np.isnan(values))
        shown = values[there]
        texts = format_fixed(shown, 3) if name in SHARES else format_common(shown, 5)
        cells = [""] * len(values)
        for i, text in zip(there.tolist(), texts, strict=True):
            cells[i] = text
        return cells


def compare_models(
    fits: Sequence[Fit],
    names: Sequence[str],
    by: Any = "AICc",
    sort: Any = True,
    refit: Any = True,
) -> Comparison:
    """Lay models side by side; see the function ``compare``."""
    by, sort = str(checks.option(by, "by", tuple(CRITERIA))), checks.flag(sort, "sort")
    refit = checks.flag(refit, "refit")
    for name, fit in zip(names[1:], fits[1:], strict=True):
        refuse_other_rows(names[0], fits[0], name, fit)
    restricted, notes = [fit.REML for fit in fits], []
    judged = list(fits)
    if any(restricted) and refit:
        judged = [fit.by_ml() for fit in fits]
        notes += [REFITTED, "logLik and criteria are by ML, R2 and sigma of the fits as given"]
    elif any(restricted):
        refuse_other_criteria(names, fits, restricted)
        notes.append("logLik and criteria are by REML (refit=False)")
    columns: dict[str, Any] = {
        "npar": [fit.npar for fit in judged],
        "logLik": [log_likelihood(fit) for fit in judged],
    }
    columns |= {name: [rule(fit) for fit in judged] for name, rule in CRITERIA.items()}
    delta, weight = _weights(np.array(columns[by]), by)
    shares = [attempted(partial(_r2, fit)) for fit in fits]
    columns |= {
        "delta": delta,
        "weight": weight,
        **{
            name: [np.nan if isinstance(share, str) else share[j] for share in shares]
            for j, name in enumerate(SHARES[1:])
        },
        "sigma": [np.nan if fit.sigma is None else fit.sigma for fit in fits],
    }
    for name, fit, share in zip(names, judged, shares, strict=True):
        if isinstance(share, str):
            notes.append(f"{name} has no R2: {share}")
        if not fit.convergence.converged:
            notes.append(f"{name} did not converge: its likelihood may be too small")
    notes += error_note(names, judged)
    notes += approximation_note({fit.nAGQ for fit in fits})
    chosen = [
        (n, fit) for n, fit in zip(names, fits, strict=True) if fit.beta_covariance is not None
    ]
    notes += [unused_covariance(name, fit) for name, fit in chosen]
    order = np.argsort(delta, kind="stable") if sort else np.arange(len(fits))
    frame = pd.DataFrame(columns, index=list(names)).iloc[order]
    formulas = tuple(fits[i].formula.text for i in order)
    return Comparison(frame, formulas, by, tuple(notes))


def _r2(fit: Fit) -> tuple[float, float]:
    found = r_squared(fit)
    return found.marginal, found.conditional


def _weights(values: np.ndarray, by: str) -> tuple[np.ndarray, np.ndarray]:
    """Return what a criterion is above its smallest value, and Akaike's weights."""
    if not np.isfinite(values).any():
        raise ArgumentError(
            f"by is {by!r}, which is infinite for all models: they have about as many parameters "
            "as there are rows; expected by='AIC', or smaller models"
        )
    delta = values - values.min()
    likely = np.exp(-0.5 * delta)
    return delta, likely / likely.sum()
