"""Random-effects terms on scaled columns, and the way back to the user's scale."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np

from mixef.linalg.crossproducts import GroupDesign
from mixef.linalg.layout import Layout
from mixef.linalg.standardize import Basis, root_weighted, scale_columns
from mixef.terms.covariance import Covariance
from mixef.terms.parametrization import Parametrization
from mixef.terms.random import RandomTerm, block_structure


@dataclass(frozen=True)
class ScaledTerms:
    """The terms of a model on columns of unit mean square.

    Attributes
    ----------
    blocks : list of list of int
        The terms of each block, one block a grouping factor.
    parametrization : Parametrization
    bases : tuple of Basis
        From each term's scaled columns back to its raw ones.
    """

    blocks: list[list[int]]
    parametrization: Parametrization
    bases: tuple[Basis, ...]

    def turned(self, axes: Sequence[np.ndarray]) -> ScaledTerms:
        """Return the terms on columns ``z_i V_i``, with one orthogonal V_i a block."""
        places = zip(self.parametrization.block_of, self.parametrization.columns, strict=True)
        return replace(
            self,
            bases=tuple(
                basis.turned(axes[i][cols, cols])
                for basis, (i, cols) in zip(self.bases, places, strict=True)
            ),
        )

    def scaled_par(self, user_par: np.ndarray) -> np.ndarray:
        """Turn parameters of the user's scale into those of the scaled columns."""
        lams = self.parametrization.term_lams(np.asarray(user_par, dtype=float))
        structures = self.parametrization.structures
        return self.parametrization.par(
            [
                s.canonical(basis.R @ lam)
                for s, basis, lam in zip(structures, self.bases, lams, strict=True)
            ]
        )

    def user_lams(self, par: np.ndarray) -> tuple[np.ndarray, ...]:
        """Return the templates (s_t, s_t) of the user's columns, one a term."""
        lams = self.parametrization.term_lams(par)
        structures = self.parametrization.structures
        return tuple(
            s.canonical(basis.back(lam)) + 0.0  # no negative zeros
            for s, basis, lam in zip(structures, self.bases, lams, strict=True)
        )

    def user_gradient(self, lams: Sequence[np.ndarray], K: Sequence[np.ndarray]) -> np.ndarray:
        """Return the gradient for the user's parameters.

        Parameters
        ----------
        lams : sequence of ndarray (s_t, s_t)
            The user's templates, as `user_lams` returns them.
        K : sequence of ndarray (s_i, s_i)
            Derivative of the criterion for ``lam_i lam_i'``, a block.
        """
        gradient = np.empty(self.parametrization.n_par)
        for t, structure in enumerate(self.parametrization.structures):
            cols = self.parametrization.columns[t]
            R = self.bases[t].R
            slope = 2.0 * (R.T @ K[self.parametrization.block_of[t]][cols, cols] @ R) @ lams[t]
            dlam = structure.d_lam(structure.par(lams[t]))
            gradient[self.parametrization.par_slices[t]] = (dlam * slope).sum(axis=(1, 2))
        return gradient

    def user_effects(self, layout: Layout, b: np.ndarray) -> tuple[np.ndarray, ...]:
        """Return the conditional modes (l_t, s_t) of the user's columns, one array a term."""
        return tuple(
            basis.back(layout.by_level(i, b)[:, cols].T).T
            for basis, i, cols in zip(
                self.bases, self.parametrization.block_of, self.parametrization.columns, strict=True
            )
        )

    def back_to_user(self, par: np.ndarray) -> list[np.ndarray]:
        """Return, for every block, the matrix from spherical effects to the user's b (s_i, s_i)."""
        out = []
        for lam, members in zip(self.parametrization.lams(par), self.blocks, strict=True):
            back = np.zeros_like(lam)
            for t in members:
                cols = self.parametrization.columns[t]
                back[cols, cols] = self.bases[t].back(lam[cols, cols])
            out.append(back)
        return out


def scale_terms(
    terms: Sequence[RandomTerm], weights: np.ndarray | None, user_axes: bool = False
) -> tuple[ScaledTerms, list[GroupDesign]]:
    """Scale the columns of every term to unit weighted mean square.

    Parameters
    ----------
    user_axes : bool
        Keep every column by itself, so that templates only change units.

    Returns
    -------
    ScaledTerms
    list of GroupDesign
        Scaled columns, multiplied by the square root of the weights, one a block.
    """
    blocks, parametrization = block_structure(terms)
    scaled, bases = zip(
        *(
            scale_columns(root_weighted(term.z, weights), _invariance(term.structure, user_axes))
            for term in terms
        ),
        strict=True,
    )
    groups = [
        GroupDesign(
            terms[members[0]].grouping.codes,
            terms[members[0]].n_levels,
            np.column_stack([scaled[t] for t in members]),
            " and ".join(f"({terms[t].label})" for t in members),
        )
        for members in blocks
    ]
    return ScaledTerms(blocks, parametrization, bases), groups


def turn(groups: Sequence[GroupDesign], axes: Sequence[np.ndarray]) -> list[GroupDesign]:
    """Return groups with the columns ``z_i V_i``."""
    return [replace(g, z=g.z @ V) for g, V in zip(groups, axes, strict=True)]


def _invariance(structure: Covariance, user_axes: bool) -> str:
    return (
        "diagonal" if user_axes and structure.invariance == "triangular" else structure.invariance
    )
