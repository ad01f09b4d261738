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
from scipy import sparse
from scipy.optimize import linprog

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
    """Return a direction (p,) that separates the responses, or None.

    Parameters
    ----------
    X : ndarray (n, p)
    side : ndarray (n,)
        As of `edges`.
    """
    free = np.isnan(side)
    if not X.shape[1] or not (side[~free] != 0).any():
        return None
    scale = np.abs(X).max(axis=0)
    unit = X / np.where(scale > 0, scale, 1.0)
    rows = unit[~free] * np.where(side[~free] == 0, 1.0, side[~free])[:, None]
    inside = side[~free] == 0
    edge, counts = np.unique(rows[~inside], axis=0, return_counts=True)
    fixed = np.unique(rows[inside], axis=0)
    found = linprog(
        -(counts @ edge),
        A_ub=sparse.csr_array(-edge),
        b_ub=np.zeros(len(edge)),
        A_eq=sparse.csr_array(fixed) if len(fixed) else None,
        b_eq=np.zeros(len(fixed)) if len(fixed) else None,
        bounds=[(-1.0, 1.0)] * X.shape[1],
        method="highs",
    )
    if found.status != 0 or -found.fun <= TOLERANCE * len(side):
        return None
    return found.x / np.where(scale > 0, scale, 1.0)


def separation_message(
    direction: np.ndarray, X: np.ndarray, side: np.ndarray, names: Sequence[str]
) -> str:
    """Say which predictors separate the responses, and what to do."""
    size = np.abs(direction) * np.abs(X).max(axis=0)
    parts = [j for j in np.argsort(-size) if size[j] > PART * size.max()]
    shown = [names[j] for j in parts if names[j] != "(Intercept)"] or ["(Intercept)"]
    moved = X @ direction
    used = ~np.isnan(side)
    complete = bool((np.abs(moved[used]) > TOLERANCE).all())
    listed = shown[0] if len(shown) == 1 else "a combination of " + ", ".join(shown)
    return (
        f"{'perfect' if complete else 'quasi-complete'} separation: {listed} predicts "
        f"{'every response' if complete else 'some responses'} without error, so the likelihood "
        "rises for ever as the coefficient grows and its estimate and standard error mean "
        "nothing; drop or combine categories of the predictor, or collect more data"
    )
