"""Quantiles of residuals and of conditional modes, with envelopes by draws."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass

import numpy as np
import scipy

from mixef import checks
from mixef.estimation.fit import Fit
from mixef.inference.diagnostics.envelopes import Envelope, envelope
from mixef.inference.diagnostics.held_draws import held_draws
from mixef.inference.diagnostics.simulated_residuals import (
    SimulatedResiduals,
    simulated_residuals,
)
from mixef.inference.influence.linearized import linearized
from mixef.inference.residuals import residual_values

# Order statistics beyond which those in the middle are thinned.
MOST = 600
OF = ("residuals", "modes")


@dataclass(frozen=True, eq=False)
class Quantiles:
    """Sorted values beside quantiles of a distribution.

    Attributes
    ----------
    theoretical : ndarray (k,)
        Quantiles of the standard normal or uniform distribution.
    values : ndarray (k,)
        The sorted values; of many, all at the ends and some in the middle.
    order : ndarray of int (k,)
        Their positions among the values as they were.
    envelope : Envelope
        Where they are under the model.
    n : int
        Number of values.
    """

    theoretical: np.ndarray
    values: np.ndarray
    order: np.ndarray
    envelope: Envelope
    n: int

    def __repr__(self) -> str:
        return f"<Quantiles of {self.n} values>"

    @property
    def outside(self) -> int:
        """How many of the values that are kept are outside of the envelope of all at once."""
        e = self.envelope
        return int(((self.values < e.all_low) | (self.values > e.all_high)).sum())


def uniform_residuals(residuals: SimulatedResiduals, level: float) -> Quantiles:
    """Return quantiles of simulated residuals beside uniform ones."""
    draws = residuals.draws
    u = draws.all_scaled
    places = kept_places(len(u), "uniform")
    drawn = np.stack([np.sort(u[:, j])[places] for j in range(1, u.shape[1])], axis=1)
    return _quantiles(u[:, 0], places, drawn, level, "uniform")


def simulated_quantiles(
    fit: Fit, n: int, level: float, seed: int | np.random.Generator | None
) -> Quantiles:
    """Return quantiles of a fit's simulated residuals beside uniform ones."""
    return uniform_residuals(simulated_residuals(fit, n, seed), level)


def held_quantiles(
    fit: Fit, n: int, level: float, seed: int | np.random.Generator | None, of: Collection[str] = OF
) -> tuple[Quantiles | None, dict[tuple[str, str], Quantiles]]:
    """Return quantiles of residuals and of modes beside normal ones, from the same draws.

    Residuals are Pearson's over sigma, of a linear model; modes go by grouping factor and
    coefficient. What is not asked for is None, or empty.
    """
    at, terms = linearized(fit), fit.problem.terms
    layout, back = at.factor.layout, terms.back_to_user(fit.scaled_par)
    of_rows = kept_places(fit.frame.n, "normal")
    places = [kept_places(levels, "normal") for levels in layout.n_levels]
    of_residuals: list[np.ndarray] = []
    of_modes: list[list[np.ndarray]] = [[] for _ in places]
    for residuals, u in held_draws(at, n, checks.generator(seed)):
        if "residuals" in of:
            of_residuals.append(np.sort(residuals, axis=0)[of_rows])
        for i, matrix in enumerate(back if "modes" in of else ()):
            b = at.unit * np.einsum("ts,lsk->ltk", matrix, layout.by_level(i, u))
            of_modes[i].append(np.sort(b, axis=0)[places[i]])
    own, out = None, {}
    if of_residuals:
        values = residual_values(fit, "pearson") / fit.estimates.sigma
        drawn = np.concatenate(of_residuals, axis=1)
        own = _quantiles(values, of_rows, drawn, level, "normal")
    for i, members in enumerate(terms.blocks if "modes" in of else ()):
        together = np.concatenate(of_modes[i], axis=2)
        modes = np.column_stack([fit.estimates.effects[t] for t in members])
        names = [name for t in members for name in fit.terms[t].columns]
        for s, name in enumerate(names):
            found = _quantiles(modes[:, s], places[i], together[:, s], level, "normal")
            out[fit.terms[members[0]].group, name] = found
    return own, out


def kept_places(n: int, scale: str) -> np.ndarray:
    """Return which of n order statistics to keep: all, or as many as a picture shows apart."""
    if n <= MOST:
        return np.arange(n)
    p = theoretical(n, scale)
    wanted = np.linspace(p[0], p[-1], MOST)
    at = np.searchsorted(p, wanted)
    ends = np.arange(MOST // 12)
    return np.unique(np.concatenate([ends, np.minimum(at, n - 1), n - 1 - ends]))


def theoretical(n: int, scale: str) -> np.ndarray:
    """Return the quantiles at ``(i - 1/2) / n`` of the standard normal or uniform distribution."""
    p = (np.arange(n) + 0.5) / n
    return p if scale == "uniform" else scipy.special.ndtri(p)


def _quantiles(
    values: np.ndarray, places: np.ndarray, drawn: np.ndarray, level: float, scale: str
) -> Quantiles:
    order = np.argsort(values, kind="stable")[places]
    x = theoretical(len(values), scale)[places]
    return Quantiles(x, values[order], order, envelope(drawn, level), len(values))
