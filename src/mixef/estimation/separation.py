"""Separation: combinations of predictors along which the likelihood never falls.

A direction delta of the coefficients separates the responses when ``X delta`` never points away
from a response at the edge of its range (0 or 1 of a proportion, 0 of a count) and is zero where
the response is inside. Then no finite estimate exists, whatever the random effects. Such a
direction is found by linear programming (K. Konis, 2007, Linear programming algorithms for
detecting separated data in binary logistic regression models, thesis, University of Oxford).
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import scipy

# A direction whose rows add up to less than this does not separate anything.
TOLERANCE = 1e-7
# A share of the largest coefficient of the direction that makes a predictor part of it.
PART = 1e-4


def edges(y: np.ndarray, weights: np.ndarray | None, name: str) -> np.ndarray:
    """Return the side (n,) to which a mean may grow for ever: -1, 1, or 0 for none.

    Parameters
    ----------
    y : ndarray (n,)
    weights : ndarray (n,) or None
        Rows with weight zero say nothing (NaN).
    name : str
        Name of the family; families other than binomial and counts have no edges.
    """
    side = np.zeros(len(y))
    if name == "binomial":
        side[y == 0] = -1.0
        side[y == 1] = 1.0
    elif name == "poisson" or name.startswith("Negative Binomial"):
        side[y == 0] = -1.0
    if weights is not None:
        side[weights == 0] = np.nan
    return side


def separating_direction(X: np.ndarray, side: np.ndarray) -> np.ndarray | None:
    """Return a direction (p,) that separates the responses, of as few columns as it takes.

    Parameters
    ----------
    X : ndarray (n, p)
        Columns with a constant among them, if there is one, first.
    side : ndarray (n,)
        As of `edges`.
    """
    used = ~np.isnan(side)
    if not X.shape[1] or not (side[used] != 0).any():
        return None
    scale = np.abs(X).max(axis=0)
    unit = X[used] / np.where(scale > 0, scale, 1.0)
    edge = side[used] != 0
    outward = np.unique(unit[edge] * side[used][edge][:, None], axis=0)
    fixed = np.unique(unit[~edge], axis=0)
    columns = list(range(X.shape[1]))
    found = _recession(outward, fixed, columns)
    if found is None:
        return None
    for j in reversed(range(1, X.shape[1])):
        fewer = [c for c in columns if c != j]
        again = _recession(outward, fixed, fewer)
        if again is not None:
            columns, found = fewer, again
    return found / np.where(scale > 0, scale, 1.0)


def _recession(outward: np.ndarray, fixed: np.ndarray, columns: list[int]) -> np.ndarray | None:
    """Return delta (p,), zero but for some columns, with ``outward delta >= 0 = fixed delta``.

    The smallest of the products that are not zero is as large as can be, their sum is next.
    """
    k, p = len(columns), outward.shape[1]
    result = scipy.optimize.linprog(
        -outward[:, columns].sum(axis=0),
        A_ub=-outward[:, columns],
        b_ub=np.zeros(len(outward)),
        A_eq=fixed[:, columns] if len(fixed) else None,
        b_eq=np.zeros(len(fixed)) if len(fixed) else None,
        bounds=[(-1.0, 1.0)] * k,
        method="highs",
    )
    if result.status != 0 or -result.fun <= TOLERANCE * len(outward):
        return None
    delta = np.zeros(p)
    delta[columns] = result.x
    return delta


def is_complete(X: np.ndarray, side: np.ndarray, direction: np.ndarray) -> bool:
    """Tell whether every response can be predicted without error along such a direction."""
    used = ~np.isnan(side)
    if not (side[used] != 0).all():
        return False
    columns = np.flatnonzero(direction)
    scale = np.abs(X[:, columns]).max(axis=0)
    rows = np.unique(X[used][:, columns] / scale * side[used][:, None], axis=0)
    # the largest margin: maximize t with rows delta >= t
    k = len(columns)
    result = scipy.optimize.linprog(
        np.r_[np.zeros(k), -1.0],
        A_ub=np.column_stack([-rows, np.ones(len(rows))]),
        b_ub=np.zeros(len(rows)),
        bounds=[(-1.0, 1.0)] * k + [(None, None)],
        method="highs",
    )
    return result.status == 0 and -result.fun > TOLERANCE


def separation_message(
    direction: np.ndarray, X: np.ndarray, side: np.ndarray, names: Sequence[str]
) -> str:
    """Say which predictors separate the responses, and what to do."""
    size = np.abs(direction) * np.abs(X).max(axis=0)
    parts = [j for j in np.argsort(-size) if size[j] > PART * size.max()]
    shown = [names[j] for j in parts if names[j] != "(Intercept)"] or ["(Intercept)"]
    kind, share = "quasi-complete", "some responses"
    if is_complete(X, side, direction):
        kind, share = "perfect", "every response"
    listed = shown[0] if len(shown) == 1 else "a combination of " + ", ".join(shown)
    return (
        f"{kind} separation: {listed} predicts {share} without error, so the likelihood rises for "
        "ever as the coefficient grows, and its estimate and standard error mean nothing; drop or "
        "combine categories of the predictor, or collect more data"
    )
