"""Separation: combinations of predictors along which the likelihood never falls.

A direction delta of the coefficients separates the responses when ``X delta`` never points away
from a response at the edge of its range (0 or 1 of a proportion, 0 of a count) and is zero where
the response is inside. Then no finite estimate exists, whatever the random effects. Such a
direction is found by linear programming (K. Konis, 2007, Linear programming algorithms for
detecting separated data in binary logistic regression models, thesis, University of Oxford).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import scipy

from mixef.terms.random import RandomTerm

# A direction whose rows add up to less than this does not separate anything.
TOLERANCE = 1e-7
# A share of the largest coefficient of the direction that makes a predictor part of it.
PART = 1e-4


def separating_direction(
    X: np.ndarray, side: np.ndarray, toward: np.ndarray | None = None
) -> np.ndarray | None:
    """Return a direction (p,) that separates the responses, of as few columns as it takes.

    Parameters
    ----------
    X : ndarray (n, p)
        Columns with a constant among them, if there is one, first.
    side : ndarray (n,)
        As of `edges`.
    toward : ndarray (p,), optional
        The mean of ``side X`` over the rows at an edge, where these here are not all of them: no
        other rows are held to the direction.
    """
    used = ~np.isnan(side)
    if not X.shape[1] or (toward is None and not (side[used] != 0).any()):
        return None
    scale = np.abs(X).max(axis=0, initial=0.0)
    unit = X[used] / np.where(scale > 0, scale, 1.0)
    edge = side[used] != 0
    outward = np.unique(unit[edge] * side[used][edge][:, None], axis=0)
    fixed = np.unique(unit[~edge], axis=0)
    columns = list(range(X.shape[1]))
    gain = outward.mean(axis=0) if toward is None else toward / np.where(scale > 0, scale, 1.0)
    found = _recession(outward, fixed, gain, columns)
    if found is None:
        return None
    for j in reversed(range(1, X.shape[1])):
        fewer = [c for c in columns if c != j]
        again = _recession(outward, fixed, gain, fewer)
        if again is not None:
            columns, found = fewer, again
    return found / np.where(scale > 0, scale, 1.0)


def _recession(
    outward: np.ndarray, fixed: np.ndarray, gain: np.ndarray, columns: list[int]
) -> np.ndarray | None:
    """Return delta (p,), zero but for some columns, with ``outward delta >= 0 = fixed delta``.

    ``gain delta``, the mean over rows of ``outward delta``, is as large as can be.
    """
    k = len(columns)
    size = float(np.abs(gain[columns]).max(initial=0.0))
    if size == 0.0:
        return None
    result = scipy.optimize.linprog(
        -gain[columns] / size,
        A_ub=-outward[:, columns],
        b_ub=np.zeros(len(outward)),
        A_eq=fixed[:, columns] if len(fixed) else None,
        b_eq=np.zeros(len(fixed)) if len(fixed) else None,
        bounds=[(-1.0, 1.0)] * k,
        method="highs",
    )
    if result.status != 0 or -result.fun * size <= TOLERANCE:
        return None
    delta = np.zeros(len(gain))
    delta[columns] = result.x
    return delta


def is_complete(X: np.ndarray, side: np.ndarray, direction: np.ndarray) -> bool:
    """Tell whether every response can be predicted without error along such a direction."""
    used = ~np.isnan(side)
    if not (side[used] != 0).all():
        return False
    columns = np.flatnonzero(direction)
    scale = np.abs(X[:, columns]).max(axis=0)
    return _separated(X[used][:, columns] / scale * side[used][:, None])


def _separated(outward: np.ndarray) -> bool:
    """Tell whether there is a direction with ``outward delta > 0``."""
    return margin_direction(outward) is not None


def margin_direction(outward: np.ndarray) -> np.ndarray | None:
    """Return a direction (k,) with ``outward delta > 0``, if there is one."""
    rows, k = np.unique(outward, axis=0), outward.shape[1]
    # the largest margin: maximize t with rows delta >= t
    result = scipy.optimize.linprog(
        np.r_[np.zeros(k), -1.0],
        A_ub=np.column_stack([-rows, np.ones(len(rows))]),
        b_ub=np.zeros(len(rows)),
        bounds=[(-1.0, 1.0)] * k + [(None, None)],
        method="highs",
    )
    separates = result.status == 0 and -result.fun > TOLERANCE
    return np.asarray(result.x[:k]) if separates else None


def separation_message(direction: np.ndarray, names: Sequence[str], complete: bool) -> str:
    """Say which predictors separate the responses, and what to do.

    Parameters
    ----------
    direction : ndarray (p,)
        Of columns whose largest values are one.
    complete : bool
        As of `is_complete`.
    """
    size = np.abs(direction)
    parts = [j for j in np.argsort(-size) if size[j] > PART * size.max()]
    shown = [names[j] for j in parts if names[j] != "(Intercept)"] or ["(Intercept)"]
    kind, share = "quasi-complete", "some responses"
    if complete:
        kind, share = "perfect", "every response"
    listed = shown[0] if len(shown) == 1 else "a combination of " + ", ".join(shown)
    return (
        f"{kind} separation: {listed} predicts {share} without error, so the likelihood rises for "
        "ever as the coefficient grows, and its estimate and standard error mean nothing; drop or "
        "combine categories of the predictor, or collect more data"
    )


@dataclass(frozen=True)
class PureLevels:
    """A grouping factor in which every level has responses at one edge only."""

    term: RandomTerm
    #: `low`, `high`: levels whose responses are all at the lower edge, and all at the upper one.
    low: int
    high: int

    def __str__(self) -> str:
        group = self.term.group
        return (
            f"separation by group: no level of {group} has responses of both kinds ({self.low} "
            f"have only 0, {self.high} only 1), so the likelihood rises for ever as the standard "
            f"deviation of ({self.term.label}) grows, and the estimates mean nothing; leave the "
            f"term out and model one row for each level of {group}, or collect more data"
        )


def pure_levels(
    terms: Sequence[RandomTerm], side: np.ndarray, trials: np.ndarray | None
) -> PureLevels | None:
    """Return the first term with an intercept whose levels tell all responses, if there is one.

    As the variance of the intercepts grows, such responses become as likely as responses of whole
    levels can be; with any finite variance some of that goes to levels with both kinds. A factor
    with a single trial in every level tells nothing.

    Parameters
    ----------
    side : ndarray (n,)
        As of `edges`.
    trials : ndarray (n,) or None
    """
    used = ~np.isnan(side)
    if (side[used] == 0).any():
        return None
    size = np.ones(len(side)) if trials is None else trials
    for term in terms:
        codes, n_levels = term.grouping.codes[used], term.n_levels
        counts = [
            np.bincount(codes[side[used] == s], size[used][side[used] == s], n_levels)
            for s in (-1.0, 1.0)
        ]
        mixed = (counts[0] > 0) & (counts[1] > 0)
        low, high = (int((count > 0).sum()) for count in counts)
        several = (counts[0] + counts[1]).max(initial=0.0) > 1.0
        if not mixed.any() and low and high and several and _has_intercept(term.z[used]):
            return PureLevels(term, low, high)
    return None


def tells_by_level(term: RandomTerm, side: np.ndarray) -> bool:
    """Tell whether the term's columns separate the responses within every level."""
    used = ~np.isnan(side)
    outward, codes = (term.z * side[:, None])[used], term.grouping.codes[used]
    outward = outward / np.maximum(np.abs(outward).max(axis=0), np.finfo(float).tiny)
    order = np.argsort(codes, kind="stable")
    ends = np.flatnonzero(np.diff(codes[order])) + 1
    return all(_separated(outward[rows]) for rows in np.split(order, ends))


def _has_intercept(z: np.ndarray) -> bool:
    """Tell whether a constant is a combination of the columns (n, s)."""
    one = np.ones(len(z))
    return bool(np.allclose(z @ np.linalg.lstsq(z, one, rcond=None)[0], one, rtol=0, atol=1e-8))
