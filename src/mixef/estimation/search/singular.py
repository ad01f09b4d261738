"""Where a fit is singular: the combinations of random effects that have no variance."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from mixef.estimation.scaling import ScaledTerms
from mixef.linalg import small
from mixef.terms.random import RandomTerm

# lme4's tolerance: a relative standard deviation below this counts as zero. Here it is that of
# columns scaled to unit mean square, so that units do not matter.
SINGULAR_TOLERANCE = 1e-4


@dataclass(frozen=True)
class VanishedDirection:
    """A combination of one term's random effects whose variance is zero."""

    term: str  # the term's label
    #: The combination, by coefficient; the largest weight (of the scaled columns) is 1.
    weights: dict[str, float]
    sole: str | None  # the coefficient that vanished alone, if it did

    def __str__(self) -> str:
        if self.sole is not None:
            return f"the variance of {self.sole} in ({self.term}) is zero"
        parts = " + ".join(f"{w:.3g} * {name}" for name, w in self.weights.items())
        return f"in ({self.term}) the combination {parts} has no variance".replace("+ -", "- ")


@dataclass(frozen=True)
class AtBound:
    """A parameter of one term's structure that is at its bound."""

    term: str  # the term's label
    #: `name`, `value`: which, and what it is there.
    name: str
    value: str

    def __str__(self) -> str:
        return f"{self.name} in ({self.term}) is {self.value}"


def vanished_directions(
    scaled: ScaledTerms,
    par: np.ndarray,
    terms: Sequence[RandomTerm],
    tolerance: float = SINGULAR_TOLERANCE,
) -> tuple[VanishedDirection | AtBound, ...]:
    """Return the directions without variance at the scaled parameters ``par``.

    Of a structure with a correlation of its own, the parameters at their bounds.
    """
    out: list[VanishedDirection | AtBound] = []
    parts = scaled.parametrization.by_term(par)
    for term, (structure, x), columns in zip(terms, parts, scaled.bases, strict=True):
        at_bounds = structure.at_bounds(x, term.columns, tolerance)
        if at_bounds is not None:
            out += [AtBound(term.label, name, value) for name, value in at_bounds]
            continue
        lam = structure.lam(x)
        if small.singular_values(lam)[-1] >= tolerance:
            continue
        left, size, _ = np.linalg.svd(lam)
        gone = left[:, size < tolerance]
        if gone.shape[1] == lam.shape[0]:
            gone, user = np.eye(lam.shape[0]), np.eye(lam.shape[0])
        else:
            user = _reduced(columns.R.T @ gone)
        weight = np.abs(user) * np.sqrt((columns.R**2).sum(axis=0))[:, None] ** -1
        for k in range(user.shape[1]):
            out.append(_direction(term, user[:, k], weight[:, k]))
    return tuple(out)


def _reduced(V: np.ndarray) -> np.ndarray:
    """Return a sparse-looking basis of the space of V's columns, by elimination."""
    V = V / np.abs(V).max(axis=0)
    k = V.shape[1]
    for j in range(k):
        free = np.abs(V[:, j])
        pivot = int(np.argmax(free))
        V[:, j] /= V[pivot, j]
        for other in range(k):
            if other != j:
                V[:, other] -= V[pivot, other] * V[:, j]
    return V


def _direction(term: RandomTerm, v: np.ndarray, weight: np.ndarray) -> VanishedDirection:
    largest = int(np.argmax(weight))
    v = v / v[largest]
    weight = weight / weight[largest]
    keep = [j for j in range(len(v)) if weight[j] > 1e-3]
    sole = term.columns[largest] if len(keep) == 1 else None
    return VanishedDirection(term.label, {term.columns[j]: float(v[j]) for j in keep}, sole)
