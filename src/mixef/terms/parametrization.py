"""How the parameters of the terms make the roots of the blocks' covariances."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from itertools import accumulate

import numpy as np

from mixef.terms.covariance import Covariance, roots_of_theta

# A step to first order takes no variance below this share of what it was: zero could not be left
# again. A twentieth takes 3 % fewer evaluations in the search laboratory, and more at worst.
LEAST_VARIANCE = 0.25


@dataclass(frozen=True)
class Parametrization:
    """How the terms' parameters make the roots of the blocks' covariances.

    Parameters are the coordinates of the structures. Terms on one grouping factor share a block,
    each with columns of its own.
    """

    #: One a term, in lme4's internal order: the order of par and theta.
    structures: tuple[Covariance, ...]
    block_of: tuple[int, ...]  # the block that each term belongs to
    widths: tuple[int, ...]  # columns of each block

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
        ends = (0, *accumulate(s.n_par for s in self.structures))
        return tuple(map(slice, ends, ends[1:]))

    @cached_property
    def n_par(self) -> int:
        """Number of covariance parameters."""
        end: int = self.par_slices[-1].stop
        return end

    def start(self) -> np.ndarray:
        """Return the parameters at identity templates."""
        return np.concatenate([s.start() for s in self.structures])

    def by_term(self, par: np.ndarray) -> list[tuple[Covariance, np.ndarray]]:
        """Return each term's structure with its own parameters, of one par (k,) or many (m, k)."""
        return [
            (s, par[..., where]) for s, where in zip(self.structures, self.par_slices, strict=True)
        ]

    def term_lams(self, par: np.ndarray) -> list[np.ndarray]:
        """Return one root (s_t, s_t) a term."""
        return [s.lam(x) for s, x in self.by_term(par)]

    def lams(self, par: np.ndarray) -> tuple[np.ndarray, ...]:
        """Return one root (s_i, s_i) a block."""
        own = self.term_lams(par)
        if len(own) == len(self.widths):  # a term has its block for itself
            return tuple(own[self.block_of.index(i)] for i in range(len(own)))
        out = [np.zeros((s, s)) for s in self.widths]
        for t, lam in enumerate(own):
            out[self.block_of[t]][self.columns[t], self.columns[t]] = lam
        return tuple(out)

    def coordinates(self, term_lams: Sequence[np.ndarray]) -> np.ndarray:
        """Return the parameters of any roots (s_t, s_t), one a term."""
        pairs = zip(self.structures, term_lams, strict=True)
        return np.concatenate([s.coordinates(lam) for s, lam in pairs])

    def par_of(self, term_lams: Sequence[np.ndarray]) -> np.ndarray:
        """Return lme4's par of any roots (s_t, s_t), one a term."""
        pairs = zip(self.structures, term_lams, strict=True)
        return np.concatenate([s.par(s.coordinates(lam)) for s, lam in pairs])

    def of_theta(self, theta: np.ndarray) -> np.ndarray:
        """Return the parameters of lme4's theta: each term's lower triangle, column by column."""
        return self.coordinates(roots_of_theta(self.structures, theta))

    def of_user(self, par: np.ndarray) -> np.ndarray:
        """Return the parameters of lme4's par: standard deviations and a correlation, or theta."""
        return np.concatenate([s.from_par(own) for s, own in self.by_term(par)])

    def canonical(self, par: np.ndarray, floor: float = 0.0) -> np.ndarray:
        """Return the parameters of the same covariances with non-negative diagonals.

        Diagonal entries up to ``floor`` are set to zero.
        """
        return np.concatenate([s.canonical(x, floor) for s, x in self.by_term(par)], axis=-1)

    def taken_from(self, other: Parametrization, par: np.ndarray) -> np.ndarray:
        """Return the parameters of the covariances of another parametrization of the terms."""
        pairs = zip(self.structures, other.by_term(par), strict=True)
        return np.concatenate(
            [
                own.canonical(x) if own is theirs else own.coordinates(theirs.lam(x))
                for own, (theirs, x) in pairs
            ]
        )

    def turned(self, par: np.ndarray) -> tuple[Parametrization, np.ndarray] | None:
        """Return the terms on the principal axes of their covariances at ``par``, and par there.

        The roots are the same matrices. None where all are on their axes, or nearly so, or have
        no others.
        """
        turned = [s.turned(x) for s, x in self.by_term(par)]
        if not any(turned):
            return None
        new = [t or own for t, own in zip(turned, self.by_term(par), strict=True)]
        structures, parts = zip(*new, strict=True)
        return replace(self, structures=structures), np.concatenate(parts)

    def resized(self, par: np.ndarray, factor: float) -> np.ndarray:
        """Return the parameters of roots multiplied by a positive factor."""
        return np.concatenate([s.resized(x, factor) for s, x in self.by_term(par)])

    def along_covariances(self, par: np.ndarray, step: np.ndarray) -> np.ndarray:
        """Return the parameters where covariances change by what ``step`` does to first order.

        No standard deviation falls to less than half. All roots at ``par`` are invertible.
        """
        out = []
        for (structure, x), where in zip(self.by_term(par), self.par_slices, strict=True):
            lam = structure.lam(x)
            inner = np.linalg.solve(lam, np.tensordot(step[where], structure.d_lam(x), axes=1))
            value, vector = np.linalg.eigh(np.eye(len(lam)) + inner + inner.T)
            half = lam @ (vector * np.sqrt(np.maximum(value, LEAST_VARIANCE)))
            out.append(structure.coordinates(half))
        return np.concatenate(out)

    def others(self, par: np.ndarray) -> list[np.ndarray]:
        """Return other places to search from: one term moved to where another optimum may be."""
        out = []
        for (structure, x), where in zip(self.by_term(par), self.par_slices, strict=True):
            for other in structure.others(x):
                out.append(par.copy())
                out[-1][where] = other
        return out

    def scale(self, par: np.ndarray, floor: float) -> np.ndarray:
        """Return each parameter's natural unit: the relative standard deviation of its row."""
        return np.concatenate([s.natural_units(x, floor) for s, x in self.by_term(par)], axis=-1)

    def void(self, par: np.ndarray) -> np.ndarray:
        """Tell which parameters (k,) have no meaning at ``par``."""
        return np.concatenate([s.void(x) for s, x in self.by_term(par)])

    def derivatives(self, par: np.ndarray) -> tuple[list[np.ndarray], list[np.ndarray]]:
        """Return the derivatives of roots and of covariances.

        Returns
        -------
        dlams : list of ndarray (k_t, s_t, s_t)
            ``d lam / d par``, one array a term, for the term's own parameters.
        dsigmas : list of ndarray (k, s_i, s_i)
            ``d(lam lam') / d par``, one array a block, for all parameters.
        """
        dlams = self.slopes(par)
        dsigmas = [np.zeros((self.n_par, s, s)) for s in self.widths]
        for t, ((structure, x), dlam) in enumerate(zip(self.by_term(par), dlams, strict=True)):
            half = dlam @ structure.lam(x).T
            cols = self.columns[t]
            dsigmas[self.block_of[t]][self.par_slices[t], cols, cols] = half + half.transpose(
                0, 2, 1
            )
        return dlams, dsigmas

    def slopes(self, par: np.ndarray) -> list[np.ndarray]:
        """Return the derivatives ``d lam / d par`` (k_t, s_t, s_t) of the terms' roots."""
        return [s.d_lam(x) for s, x in self.by_term(par)]

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
        self,
        par: np.ndarray,
        dlams: Sequence[np.ndarray],
        lams: Sequence[np.ndarray],
        K: Sequence[np.ndarray],
    ) -> tuple[np.ndarray, np.ndarray]:
        """Return the gradient (k,) and the curvature of ``lam lam'`` in the parameters (k, k).

        ``K`` is the criterion's derivative for ``lam lam'``, one (s_i, s_i) a block. The curvature
        is ``2 tr(K dlam_a dlam_b')``, and `bend`.
        """
        curvature = self.bend(par, lams, K)
        for t, dlam in enumerate(dlams):
            cols, where = self.columns[t], self.par_slices[t]
            flat, K_t = dlam.reshape(len(dlam), -1), K[self.block_of[t]][cols, cols]
            curvature[where, where] += 2.0 * flat @ (K_t @ dlam).reshape(len(dlam), -1).T
        return self.gradient(dlams, lams, K), curvature

    def gradient(
        self, dlams: Sequence[np.ndarray], lams: Sequence[np.ndarray], K: Sequence[np.ndarray]
    ) -> np.ndarray:
        """Return the gradient (k,) of `chain`, ``2 tr(K lam dlam_a')``."""
        gradient = np.empty(self.n_par)
        for t, dlam in enumerate(dlams):
            i, cols = self.block_of[t], self.columns[t]
            slope = (K[i][cols, cols] @ lams[i][cols, cols]).ravel()
            gradient[self.par_slices[t]] = 2.0 * (dlam.reshape(len(dlam), -1) @ slope)
        return gradient

    def bend(
        self, par: np.ndarray, lams: Sequence[np.ndarray], K: Sequence[np.ndarray]
    ) -> np.ndarray:
        """Return ``2 tr(K lam d2lam_ab')`` (k, k): what roots that are not linear add."""
        out = np.zeros((self.n_par, self.n_par))
        for t, (structure, x) in enumerate(self.by_term(par)):
            second = structure.d2_lam(x)
            if second is not None:
                i, cols, where = self.block_of[t], self.columns[t], self.par_slices[t]
                slope = 2.0 * K[i][cols, cols] @ lams[i][cols, cols]
                out[where, where] = np.tensordot(second, slope, axes=2)
        return out
