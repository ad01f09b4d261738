"""Random-effects terms on scaled columns, and the way back to the user's scale."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np

from mixef.linalg.layout import Layout
from mixef.linalg.rows import GroupDesign
from mixef.linalg.standardize import Basis, root_weighted, scale_columns
from mixef.terms.covariance import Covariance
from mixef.terms.parametrization import Parametrization
from mixef.terms.random import RandomTerm, block_structure

# Where a parameter of the user's moves less than this with its coordinate, it is at a bound.
TURNING = 1e-7


@dataclass(frozen=True)
class ScaledTerms:
    """The terms of a model on columns of unit mean square."""

    blocks: list[list[int]]  # the terms of each block, one block a grouping factor
    parametrization: Parametrization
    bases: tuple[Basis, ...]  # from each term's scaled columns back to its raw ones

    def turned(self, axes: Sequence[np.ndarray]) -> ScaledTerms:
        """Return the terms on columns ``z_i V_i``, with one orthogonal V_i a block."""
        if max(self.parametrization.widths) == 1:
            return self
        places = zip(self.parametrization.block_of, self.parametrization.columns, strict=True)
        return replace(
            self,
            bases=tuple(
                basis.turned(axes[i][cols, cols])
                for basis, (i, cols) in zip(self.bases, places, strict=True)
            ),
        )

    def scaled_par(self, user_par: np.ndarray) -> np.ndarray:
        """Turn lme4's parameters of the user's columns into those of the scaled columns."""
        P = self.parametrization
        return self.scaled_coordinates(P.of_user(np.asarray(user_par, dtype=float)))

    def scaled_coordinates(self, x: np.ndarray) -> np.ndarray:
        """Turn coordinates on the user's columns into those of the scaled columns."""
        pairs = zip(self.parametrization.by_term(x), self.bases, strict=True)
        return np.concatenate([s.transformed(own, basis.R.__matmul__) for (s, own), basis in pairs])

    def user_coordinates(self, par: np.ndarray) -> list[tuple[Covariance, np.ndarray]]:
        """Return each term's structure with its coordinates on the user's columns."""
        pairs = zip(self.parametrization.by_term(par), self.bases, strict=True)
        return [(s, s.transformed(x, basis.back)) for (s, x), basis in pairs]

    def user_par(self, par: np.ndarray) -> np.ndarray:
        """Return lme4's parameters of the user's columns."""
        return np.concatenate([s.par(x) for s, x in self.user_coordinates(par)])

    def user_lams(self, par: np.ndarray) -> tuple[np.ndarray, ...]:
        """Return the templates (s_t, s_t) of the user's columns, one a term."""
        return tuple(s.template(x) for s, x in self.user_coordinates(par))

    def par_jacobian(self, par: np.ndarray, unit: np.ndarray) -> np.ndarray:
        """Return ``d user / d scaled`` (k, k) of the covariance parameters, by differences.

        ``unit`` (k,) is a change of each parameter that counts as large.
        """
        steps = np.diag(1e-6 * unit)
        ends = [(self.user_par(par + h), self.user_par(par - h)) for h in steps]
        return np.column_stack([above - below for above, below in ends]) / (2e-6 * unit)

    def user_gradient(
        self, user: Sequence[tuple[Covariance, np.ndarray]], K: Sequence[np.ndarray]
    ) -> np.ndarray:
        """Return the gradient for lme4's parameters; 0 where one is at a bound.

        Parameters
        ----------
        user : sequence of (Covariance, ndarray)
            The `user_coordinates`.
        K : sequence of ndarray (s_i, s_i)
            Derivative of the criterion for ``lam_i lam_i'``, a block.
        """
        gradient = np.empty(self.parametrization.n_par)
        for t, (structure, x) in enumerate(user):
            cols = self.parametrization.columns[t]
            R = self.bases[t].R
            slope = 2.0 * R.T @ K[self.parametrization.block_of[t]][cols, cols] @ R
            by_x = structure.d_lam(x).reshape(len(x), -1) @ (slope @ structure.lam(x)).ravel()
            by_par = structure.par_slopes(x)
            turning = np.abs(by_par) < TURNING
            gradient[self.parametrization.par_slices[t]] = np.where(
                turning, 0.0, by_x / np.where(turning, 1.0, by_par)
            )
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
            np.concatenate([scaled[t] for t in members], axis=1),
            name,
        )
        for members, name in zip(blocks, block_names(terms, blocks), strict=True)
    ]
    return ScaledTerms(blocks, parametrization, bases), groups


def block_names(terms: Sequence[RandomTerm], blocks: Sequence[list[int]]) -> list[str]:
    """Name the terms of each block, for messages."""
    return [" and ".join(f"({terms[t].label})" for t in members) for members in blocks]


def turn(groups: Sequence[GroupDesign], axes: Sequence[np.ndarray]) -> list[GroupDesign]:
    """Return groups with the columns ``z_i V_i``, of which a column by itself is the same."""
    if max(map(len, axes)) == 1:
        return [*groups]
    return [g.with_columns(g.z @ V) for g, V in zip(groups, axes, strict=True)]


def _invariance(structure: Covariance, user_axes: bool) -> str:
    return (
        "diagonal" if user_axes and structure.invariance == "triangular" else structure.invariance
    )
