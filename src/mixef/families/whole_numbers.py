"""Whole numbers among responses and weights: checks and draws."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from mixef.errors import DataWarning, warn
from mixef.families.family import by_row, refuse

# A count further than this from a whole number is none: successes, and R's tolerance for others.
SUCCESSES = 1e-3
_COUNT = 1e-7
# A mean from which on a Poisson count is normal to all digits of a float.
_LARGE = 1e16


def check_counts(y: np.ndarray, name: str, family: str, weights: np.ndarray | None = None) -> None:
    """Raise for negative counts; warn where they are not whole numbers, as R does.

    The mean of w counts is none, but w times it is.
    """
    refuse(
        np.less(y, 0.0),
        y,
        f"the response {name} of a {family} model",
        "counts, 0 or more",
        "correct them, or fit a linear model with lmer",
    )
    off = _broken(y) if weights is None else _broken(y) & _broken(np.multiply(weights, y))
    if np.any(off):
        warn(
            f"the response {name} of a {family} model is not everywhere a whole number "
            f"(first {np.asarray(y)[int(np.argmax(off))]:.10g}); a rate needs the counts as "
            "response, with offset(log(exposure))",
            DataWarning,
        )


def check_shares(y: np.ndarray, name: str, family: str, weights: np.ndarray | None = None) -> None:
    """Raise unless shares of successes are in [0, 1]; warn where successes are no whole numbers."""
    refuse(
        np.less(y, 0.0) | np.greater(y, 1.0),
        y,
        f"the response {name} of a {family} model",
        "0, 1 or a share of successes in between",
        "give counts as cbind(successes, failures), or shares with weights= for the trials",
    )
    k = y if weights is None else np.multiply(weights, y)
    if np.any(np.abs(k - np.rint(k)) > SUCCESSES):
        warn(
            f"non-integer #successes in a {family} model: {name} times the weights is not "
            "everywhere a whole number; weights= are the numbers of trials"
            + ("; shares that are not of trials have the family 'beta'" if weights is None else ""),
            DataWarning,
        )


def _broken(y: np.ndarray) -> np.ndarray:
    return np.abs(y - np.rint(y)) > _COUNT * np.maximum(1.0, y)


def poisson(rng: np.random.Generator, mean: np.ndarray) -> np.ndarray:
    """Draw Poisson counts as floats, by the normal limit where they pass 64-bit integers."""
    small = np.minimum(mean, _LARGE)
    counts = rng.poisson(small).astype(float)
    if np.all(small == mean):
        return counts
    return np.where(mean > _LARGE, mean + np.sqrt(mean) * rng.standard_normal(mean.shape), counts)


def whole_trials(weights: np.ndarray) -> np.ndarray:
    """Return numbers of trials as whole floats (n,).

    Raises
    ------
    DataError
        For others, of which no share of successes can be drawn.
    """
    trials = np.rint(weights)
    refuse(
        np.abs(weights - trials) > SUCCESSES,
        weights,
        "weights",
        "whole numbers of trials, since shares of successes are drawn",
        "round them, or simulate without them",
    )
    return trials


def mean_of_copies(
    draw: Callable[[np.ndarray], np.ndarray], mu: np.ndarray, weights: np.ndarray | None
) -> np.ndarray:
    """Return one draw for each mean, or the mean of as many as its whole weight says."""
    if weights is None or (weights == 1.0).all():
        return draw(mu)
    copies = whole_copies(weights)
    counts = copies.astype(np.int64)
    each = draw(mu[np.repeat(np.arange(len(copies)), counts)])
    first = np.cumsum(counts) - counts
    return np.add.reduceat(each, first, axis=0) / by_row(copies, mu)


def whole_copies(weights: np.ndarray) -> np.ndarray:
    """Return numbers of copies as whole floats (n,), all 1 or more."""
    copies = np.rint(weights)
    refuse(
        (np.abs(weights - copies) > SUCCESSES) | (copies < 1),
        weights,
        "weights",
        "whole numbers of copies, since the mean of as many draws is taken",
        "round them, or simulate without them",
    )
    return copies
