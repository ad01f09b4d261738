"""Covariance structures of random-effects terms: one class each, found by the formula's tag."""

from __future__ import annotations

from mixef.terms.covariance.autoregressive import AutoRegressive
from mixef.terms.covariance.base import Changes, Covariance, Held, Part, roots_of_theta
from mixef.terms.covariance.compound_symmetry import CompoundSymmetry
from mixef.terms.covariance.diagonal import Diagonal
from mixef.terms.covariance.roots import lower_triangle, psd_cholesky, theta_of
from mixef.terms.covariance.unstructured import Unstructured

#: Every structure by its tag in formulas.
STRUCTURES: dict[str, type[Covariance]] = {
    kind.tag: kind for kind in (Unstructured, Diagonal, CompoundSymmetry, AutoRegressive)
}
#: The tags as one reads them: ``us(), diag(), cs() and ar1()``.
TAGS = ", ".join(f"{tag}()" for tag in [*STRUCTURES][:-1]) + f" and {[*STRUCTURES][-1]}()"


def make_covariance(tag: str, hom: bool, size: int) -> Covariance:
    """Return the structure that a formula's tag asks for; one column has a variance only."""
    return Unstructured(size) if size == 1 else STRUCTURES[tag](size, hom)


__all__ = [
    "STRUCTURES",
    "TAGS",
    "Changes",
    "Covariance",
    "Held",
    "Part",
    "lower_triangle",
    "make_covariance",
    "psd_cholesky",
    "roots_of_theta",
    "theta_of",
]
