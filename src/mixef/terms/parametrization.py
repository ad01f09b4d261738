"""How the parameters of the terms make the templates of the blocks."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cached_property

import numpy as np

from mixef.terms.covariance import Covariance, Turned, Unstructured, lower_triangle, theta_of

# A template is askew where a diagonal entry is below this share of the singular value in its
# place, unless that is a relative standard deviation below VANISHED.
ASKEW, VANISHED = 0.9, 1e-3


@dataclass(frozen=True)
class Parametrization:
    """How the terms' parameters make the templates of the blocks.

    Terms on one grouping factor share a block, each with columns of its own.

    Attributes
    ----------
    structures : tuple of Covariance
        One a term, in lme4's internal order: the order of par and theta.
    block_of : tuple of int
        The block that each term belongs to.
    widths : tuple of int
        Columns of each block.
    """

    structures: tuple[Covariance, ...]
    block_of: tuple[int, ...]
    widths: tuple[int, ...]

    @cached_property
    def columns(self) -> tuple[slice, ...]:
        """Each term's columns inside its block."""
        filled = [0] * len(self.widths)
        out = []
        for structure, block in zip(self.structures, self.block_of, strict=True):
            out.append(slice(filled[block], filled[block] + structure.size))
            filled[block] += structure.size
        return tuple(out)

    @cached_property
    def par_slices(self) -> tuple[slice, ...]:
        """Each term's place in par."""
        ends = np.cumsum([s.n_par for s in self.structures]).tolist()
        return tuple(slice(e - s.n_par, e) for e, s in zip(ends, self.structures, strict=True))

    @property
    def n_par(self) -> int:
        """Number of covariance parameters."""
        return self.par_slices[-1].stop

    def start(self) -> np.ndarray:
        """Return the parameters at identity templates."""
        return np.concatenate([s.start() for s in self.structures])

    def term_lams(self, par: np.ndarray) -> list[np.ndarray]:
        """Return one template a term."""
        return [
            s.lam(par[where]) for s, where in zip(self.structures, self.par_slices, strict=True)
        ]

    def lams(self, par: np.ndarray) -> tuple[np.ndarray, ...]:
        """Return one template (s_i, s_i) a block."""
        out = [np.zeros((s, s)) for s in self.widths]
        for t, lam in enumerate(self.term_lams(par)):
            out[self.block_of[t]][self.columns[t], self.columns[t]] = lam
        return tuple(out)

    def par(self, term_lams: Sequence[np.ndarray]) -> np.ndarray:
        """Return the parameters of one template a term."""
        return np.concatenate(
            [s.par(lam) for s, lam in zip(self.structures, term_lams, strict=True)]
        )

    def theta(self, term_lams: Sequence[np.ndarray]) -> np.ndarray:
        """Return lme4's theta: each term's lower triangle, column by column."""
        return np.concatenate([theta_of(lam) for lam in term_lams])

    def par_of_theta(self, theta: np.ndarray) -> np.ndarray:
        """Return the parameters of lme4's theta, the inverse of `theta`."""
        lams, first = [], 0
        for structure in self.structures:
            lam = np.zeros((structure.size, structure.size))
            count = structure.size * (structure.size + 1) // 2
            lam[lower_triangle(structure.size)] = theta[first : first + count]
            lams.append(lam)
            first += count
        return self.par(lams)

    def canonical(self, par: np.ndarray, floor: float = 0.0) -> np.ndarray:
        """Return the parameters of the same covariances with non-negative diagonals.

        Diagonal entries up to ``floor`` are set to zero.
        """
        return self.canonical_par(self.term_lams(par), floor)

    def canonical_par(self, lams: Sequence[np.ndarray], floor: float = 0.0) -> np.ndarray:
        """Return the parameters of the covariances of any templates (s_t, s_t), one a term."""
        return self.par(
            [s.canonical(lam, floor) for s, lam in zip(self.structures, lams, strict=True)]
        )

    def turned(self, par: np.ndarray) -> tuple[Parametrization, np.ndarray] | None:
        """Return the terms on the principal axes of their covariances at ``par``, and par there.

        The templates are the same matrices. Only unstructured terms can be turned. None where
        all are on their axes, or nearly so.
        """
        if not self._is_askew(par):
            return None
        structures: list[Covariance] = []
        parts = []
        for structure, lam, where in zip(
            self.structures, self.term_lams(par), self.par_slices, strict=True
        ):
            if isinstance(structure, Unstructured) and structure.size > 1:
                left, size, right = np.linalg.svd(lam)
                structures.append(Turned(structure.size, left, right.T))
                parts.append(np.diag(size)[lower_triangle(structure.size)])
            else:
                structures.append(structure)
                parts.append(par[where])
        return replace(self, structures=tuple(structures)), np.concatenate(parts)

    def _is_askew(self, par: np.ndarray) -> bool:
        """Tell whether some template has turned away from its principal axes."""
        for structure, where in zip(self.structures, self.par_slices, strict=True):
            if isinstance(structure, Unstructured) and structure.size > 1:
                T = Unstructured(structure.size).lam(par[where])
                size = np.linalg.svd(T, compute_uv=False)
                if (np.abs(T.diagonal()) < ASKEW * size)[size > VANISHED].any():
                    return True
        return False

    def resized(self, par: np.ndarray, factor: float) -> np.ndarray:
        """Return the parameters of templates multiplied by a positive factor."""
        return self.par([factor * lam for lam in self.term_lams(par)])

    def scale(self, par: np.ndarray, floor: float) -> np.ndarray:
        """Return each parameter's natural unit: the relative standard deviation of its row."""
        return np.concatenate(
            [
                s.natural_units(par[where], floor)
                for s, where in zip(self.structures, self.par_slices, strict=True)
            ]
        )

    def derivatives(self, par: np.ndarray) -> tuple[list[np.ndarray], list[np.ndarray]]:
        """Return the derivatives of templates and of covariances.

        Returns
        -------
        dlams : list of ndarray (k_t, s_t, s_t)
            ``d lam / d par``, one array a term, for the term's own parameters.
        dsigmas : list of ndarray (k, s_i, s_i)
            ``d(lam lam') / d par``, one array a block, for all parameters.
        """
        dlams = []
        dsigmas = [np.zeros((self.n_par, s, s)) for s in self.widths]
        for t, structure in enumerate(self.structures):
            par_t = par[self.par_slices[t]]
            dlam = structure.d_lam(par_t)
            half = dlam @ structure.lam(par_t).T
            cols = self.columns[t]
            dsigmas[self.block_of[t]][self.par_slices[t], cols, cols] = half + half.transpose(
                0, 2, 1
            )
            dlams.append(dlam)
        return dlams, dsigmas

    def template_slopes(self, par: np.ndarray) -> list[list[np.ndarray]]:
        """Return the derivatives of all blocks' templates (s_i, s_i), a parameter at a time."""
        out = []
        for t, dlam in enumerate(self.derivatives(par)[0]):
            for D in dlam:
                templates = [np.zeros((s, s)) for s in self.widths]
                templates[self.block_of[t]][self.columns[t], self.columns[t]] = D
                out.append(templates)
        return out

    def chain(
        self, dlams: Sequence[np.ndarray], lams: Sequence[np.ndarray], K: Sequence[np.ndarray]
    ) -> tuple[np.ndarray, np.ndarray]:
        """Return the gradient (k,) and the curvature ``2 tr(K dlam_a dlam_b')`` (k, k).

        ``K`` is the criterion's derivative for ``lam lam'``, one (s_i, s_i) a block.
        """
        gradient = np.empty(self.n_par)
        curvature = np.zeros((self.n_par, self.n_par))
        for t, dlam in enumerate(dlams):
            i, cols, where = self.block_of[t], self.columns[t], self.par_slices[t]
            K_t = K[i][cols, cols]
            flat = dlam.reshape(len(dlam), -1)
            gradient[where] = 2.0 * flat @ (K_t @ lams[i][cols, cols]).ravel()
            curvature[where, where] = 2.0 * flat @ (K_t @ dlam).reshape(len(dlam), -1).T
        return gradient, curvature
