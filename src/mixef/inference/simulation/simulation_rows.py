"""The rows that responses are simulated for: those of a fit, or new data."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd

from mixef.errors import DataError
from mixef.estimation.fit import Fit
from mixef.families.family import refuse
from mixef.inference.prediction.prediction_rows import trials_in
from mixef.inference.simulation.sampler import LevelEffects
from mixef.terms.columns import Columns
from mixef.terms.covariance import psd_cholesky
from mixef.terms.expressions import Scope
from mixef.terms.frame import new_offset
from mixef.terms.needed import needed_names
from mixef.terms.rows import per_row

NEW_LEVELS = ("draw", "error", "population", "missing")


@dataclass(frozen=True, eq=False)
class GroupRows:
    """The rows of one random-effects term."""

    z: np.ndarray  # (m, s)
    # (m,) of int: positions among the levels of the rows; -1 where a random effect is missing
    codes: np.ndarray
    # (l,) of int: for each level of the rows its position among those of the fit; -1 for a new one
    known: np.ndarray
    new: tuple[str, ...] = ()  # Labels of the new levels


@dataclass(frozen=True, eq=False)
class SimulationRows:
    """Rows to simulate responses for."""

    X: np.ndarray  # (m, p)
    offset: np.ndarray | None  # (m,)
    weights: np.ndarray | None  # (m,)
    trials: np.ndarray | None  # (m,): of responses that are counted as successes and failures
    groups: tuple[GroupRows, ...]  # One a term
    index: pd.Index  # Labels of the rows

    def fixed(self, beta: np.ndarray) -> np.ndarray:
        """Return ``X beta + offset`` (m,)."""
        fixed = self.X @ beta
        return fixed if self.offset is None else fixed + self.offset


def fitted_rows(fit: Fit, single: bool = False) -> SimulationRows:
    """Return the rows that a fit used; a caller who draws single copies gives their weights."""
    groups = tuple(
        GroupRows(term.z, term.grouping.codes, np.arange(term.n_levels)) for term in fit.terms
    )
    trials = None
    if fit.is_counted:
        assert fit.frame.y is not None
        trials = fit.frame.y.sum(axis=1)
    if not single:
        _refuse_copies(fit, fit.outcome.copies)
    return SimulationRows(fit.X, fit.frame.offset, fit.weights, trials, groups, fit.frame.index)


def new_rows(fit: Fit, newdata: Any, weights: Any, env: Mapping[str, Any] | None) -> SimulationRows:
    """Return rows of new data.

    Weights (m,), or numbers of trials, are by default what the fit's weights and response say of
    the new data.
    """
    needed = needed_names(fit.formula, fit.call.weights, fit.call.offset, weights)
    columns = Columns(newdata, needed)
    scope = Scope(columns, fit.frame.state, env)
    X = fit.design.spec.apply(columns, env)[:, fit.kept]
    offset = new_offset(fit.frame, fit.call.offset, columns, env)
    trials = None
    w: np.ndarray | None
    if weights is not None:
        w = per_row(weights, "weights", scope)
        trials = w if fit.is_counted else None
    else:
        w = _weights_again(fit.call.weights, scope)
        if fit.is_counted:
            trials = trials_in(fit.formula.response, columns, scope)
            if trials is None:
                assert fit.formula.response is not None
                raise DataError(
                    f"newdata do not have the columns of {fit.formula.response.text}, so that the "
                    "numbers of trials are not known; give them as weights="
                )
            _refuse_copies(fit, w)
            w = trials if w is None else w * trials
    check_weights(w, binomial=fit.family.has_trials)
    if w is not None and np.isnan(w).any():  # such rows have no response
        absent = np.where(np.isnan(w), np.nan, 0.0)
        offset = absent if offset is None else offset + absent
        w = np.where(np.isnan(w), 1.0, w)
    groups = tuple(_new_groups(term, columns, env) for term in fit.terms)
    index = newdata.index if isinstance(newdata, pd.DataFrame) else pd.RangeIndex(columns.n)
    return SimulationRows(X, offset, w, trials, groups, index)


def _refuse_copies(fit: Fit, copies: np.ndarray | None) -> None:
    """Refuse copies of rows whose trials have a probability in common, which copies do not."""
    if copies is not None and fit.family.auxiliary and np.any(copies != 1.0):
        raise DataError(
            f"the weights of the {fit.family.name} model stand for copies of rows, each with a "
            "probability of its own: no share of all their trials can be drawn; give every copy a "
            "row of its own"
        )


def check_weights(weights: np.ndarray | None, binomial: bool) -> None:
    """Refuse weights that no response can be drawn with; missing ones make missing responses."""
    if weights is None:
        return
    bad = np.isinf(weights) | (weights < 0) | ((weights == 0) & (not binomial))
    expected = "numbers of trials, 0 or more" if binomial else "positive numbers"
    refuse(bad, weights, "weights", expected, "correct them, or leave such rows out")


def _weights_again(argument: Any, scope: Scope) -> np.ndarray | None:
    if argument is None:
        return None
    if not isinstance(argument, str):
        raise DataError(
            "the model's weights= was an array, which has no values for newdata; give weights= "
            "for them"
        )
    return per_row(argument, "weights", scope)


def _new_groups(term, columns, env) -> GroupRows:
    found = term.grouping.spec.codes(columns, env)
    z = term.design.spec.apply(columns, env)
    codes = np.where(found.codes >= 0, found.codes, term.n_levels + found.new_codes)
    levels, places = np.unique(codes, return_inverse=True)
    known = np.where(levels < term.n_levels, levels, -1)
    return GroupRows(z, places, known, found.new_levels)


def level_effects(
    group: GroupRows,
    root: np.ndarray,
    modes: np.ndarray | None = None,
    held: np.ndarray | None = None,
    new_levels: str = "draw",
) -> LevelEffects:
    """Return the distribution of a term's random effects, whose covariance has a root (s, s).

    Columns that are ``held`` (s,) stay at their modes (l_fit, s), and the others are drawn given
    these. A level without modes gets by ``new_levels`` a draw, zero ("population"; "error" is the
    caller's to raise, who knows its name), or NaN ("missing").
    """
    size = len(root)
    shape = (len(group.known), size)
    if held is None or not held.any():
        return LevelEffects(
            group.z, group.codes, np.zeros(shape), np.broadcast_to(root, (*shape, size))
        )
    assert modes is not None
    slope, rest = conditional(root, held)
    mean, roots = np.zeros(shape), np.empty((*shape, size))
    known = group.known >= 0
    roots[:] = np.where(known[:, None, None], rest, root if new_levels == "draw" else 0.0)
    mean[known] = modes[group.known[known]] @ slope.T
    codes = group.codes
    if new_levels == "missing" and not known.all():
        codes = np.where((codes >= 0) & ~known[codes], -1, codes)
    return LevelEffects(group.z, codes, mean, roots)


def conditional(root: np.ndarray, held: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return mean and root of normal effects with a covariance root (s, s), of which some are held.

    The slope (s, s) leads from known effects b to the mean ``slope b``: themselves, and the
    regression of the others on them. The root (s, s) of the conditional covariance is zero for
    known effects.
    """
    cov = root @ root.T
    sds = np.sqrt(cov.diagonal())
    sds[sds == 0.0] = 1.0
    R = cov / np.outer(sds, sds)
    slope, rest = np.diag(held.astype(float)), np.zeros_like(cov)
    if not held.all():
        free = ~held
        within = np.linalg.pinv(R[np.ix_(held, held)], rcond=1e-10, hermitian=True)
        B = R[np.ix_(free, held)] @ within
        left = R[np.ix_(free, free)] - B @ R[np.ix_(held, free)]
        value, vector = np.linalg.eigh(0.5 * (left + left.T))
        half = psd_cholesky(vector * np.sqrt(np.maximum(value, 0.0)))
        slope[np.ix_(free, held)] = B * np.outer(sds[free], 1.0 / sds[held])
        rest[np.ix_(free, free)] = sds[free, None] * half
    return slope, rest
