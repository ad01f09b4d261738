"""The factor for one large block-diagonal term and a dense remainder.

The first block of the layout has a block-diagonal ``M_11``, eliminated level by level; what
remains, ``S = M_22 - M_21 M_11^-1 M_12``, is formed straight into a dense lower triangle.
"""

from __future__ import annotations

import itertools

import numpy as np
from scipy.linalg.blas import dsymm

from mixef.linalg import small
from mixef.linalg.coupling import FEW_CELLS, DenseCoupling, SparseCoupling
from mixef.linalg.crossproducts import (
    CrossProducts,
    Pairs,
    SymmetricBlocks,
    block_squares,
    sum_of_squares,
    two_sided,
)
from mixef.linalg.dense import mirror, potrf, potri, solve_lower
from mixef.linalg.factor import CHUNK, INVERTIBLE, SINGULAR, CholeskyFactor, not_positive_definite
from mixef.linalg.layout import Layout
from mixef.linalg.remainder import Remainder, lower_blocks

# The share of a dense M_12 that has to be occupied before BLAS beats the scatter.
DENSE_COUPLING = 0.15


class SchurFactor(CholeskyFactor):
    """The factor that eliminates the first block and keeps a dense remainder.

    In the notation of the linear model: ``C_l C_l' = lam_1' (Z'Z)_ll lam_1 + I`` for level l,
    ``U = C^-1 lam_1' (Z'Z)_12 Lambda_2``, ``S = Lambda_2'(Z'Z)_22 Lambda_2 + I - U'U``.
    """

    has_squares = True

    def __init__(self, products: CrossProducts):
        super().__init__(products)
        layout = self.layout
        self.q1 = layout.offsets[1]
        self.q2 = layout.q - self.q1
        pairs = [products.pairs[0, j] for j in range(1, len(layout))]
        cells = sum(pair.blocks.size for pair in pairs)
        full = self.q1 * self.q2
        dense = full <= FEW_CELLS or cells >= DENSE_COUPLING * full
        coupling = DenseCoupling if dense else SparseCoupling
        self._coupling = coupling(layout, pairs)
        self._remainder = Remainder(products)
        self._S = np.empty((self.q2, self.q2), order="F")

    def _take_room(self) -> None:
        pairs = [self.products.pairs[0, j] for j in range(1, len(self.layout))]
        self._coupling = self._coupling.twin(pairs)
        self._remainder = self._remainder.twin(self.products)
        self._S = np.empty((self.q2, self.q2), order="F")

    def reload(self) -> None:
        """Read the coupling of the first block again, where it is held as a dense copy."""
        if self.q2:
            self._coupling.reload()

    def _refactor(self) -> None:
        lams, lam = self.lams, self.lams[0]
        s = lam.shape[0]
        M11 = two_sided(lam.T, self.products.diagonal[0], lam.T) + small.identity(s)
        try:
            self._C = small.cholesky(M11)
        except np.linalg.LinAlgError as error:
            raise not_positive_definite() from error
        self._Cinv = small.inverse_lower(self._C)
        self._M11inv: np.ndarray | None = None
        self._E: np.ndarray | None = None
        self._left: np.ndarray | None = None
        self._forms: np.ndarray | None = None
        self._A: np.ndarray | None = None
        logs = np.log(self._C.reshape(-1, s * s)[:, :: s + 1])
        self.ldL2 = 2.0 * float(np.add.reduce(logs, axis=None))
        self._L22, self._inverted = self._S, False
        if self.q2:
            self._couple(self._Cinv @ lam.T)
            self._remainder.write(lams, self._S)
            self._coupling.subtract_gram(self._S)
            self._L22 = potrf(self._S)
            self.ldL2 += 2.0 * float(np.log(self._L22.diagonal()).sum())

    @property
    def level_roots(self) -> np.ndarray:
        """``C^-1`` (l, s, s), with ``M_11 = C C'`` level by level, of the first block."""
        return self._Cinv

    @property
    def level_inverses(self) -> np.ndarray:
        """``M_11^-1`` (l, s, s), level by level, of the first block alone."""
        if self._M11inv is None:
            self._M11inv = super().level_inverses
        return self._M11inv

    def solve_L(self, rhs: np.ndarray) -> np.ndarray:
        """Solve ``L x = rhs``, the first block first."""
        self._require_L()
        if not self.q2:
            return self._on_levels(self._Cinv, rhs)
        out = np.empty(rhs.shape)
        out[: self.q1] = self._on_levels(self._Cinv, rhs)
        tail = rhs[self.q1 :] - self._coupling.transposed_times(out[: self.q1])
        out[self.q1 :] = solve_lower(self._L22, tail)
        return out

    def solve_Lt(self, rhs: np.ndarray) -> np.ndarray:
        """Solve ``L' x = rhs``."""
        self._require_L()
        if not self.q2:
            return self._on_levels(self._Cinv.transpose(0, 2, 1), rhs)
        out = np.empty(rhs.shape)
        out[self.q1 :] = solve_lower(self._L22, rhs[self.q1 :], transpose=True)
        head = rhs[: self.q1] - self._coupling.times(out[self.q1 :])
        out[: self.q1] = self._on_levels(self._Cinv.transpose(0, 2, 1), head)
        return out

    def solve(self, rhs: np.ndarray) -> np.ndarray:
        """Return ``M^-1 rhs``; by the inverse of the remainder where that is what is held.

        ``x_2 = S^-1 (r_2 - N' lam_1 r_1)``, ``x_1 = M_11^-1 r_1 - lam_1' N x_2``, with N as in
        `_trace_from_inverse`.
        """
        if not self._inverted:
            return super().solve(rhs)
        self._couple(self._level_E())
        lam, q1 = self.lams[0], self.q1
        columns = rhs.reshape(len(rhs), -1)
        blocks = np.broadcast_to(lam, (self.layout.n_levels[0], *lam.shape))
        tail = columns[q1:] - self._coupling.transposed_times(self._on_levels(blocks, columns))
        out = np.empty(columns.shape)
        out[q1:] = dsymm(1.0, self._L22, tail, lower=1) if self.q2 else tail
        coupled = self._coupling.times(out[q1:])
        out[:q1] = self._on_levels(self.level_inverses, columns)
        out[:q1] -= self._on_levels(blocks.transpose(0, 2, 1), coupled)
        return out.reshape(rhs.shape)

    def inverse_block(self, i: int) -> np.ndarray:
        """Return the diagonal blocks of ``M^-1``; the remainder is inverted in place.

        ``C_ll = M_ll^-1 + C_l^-T U_l S^-1 U_l' C_l^-1`` for the first block.
        """
        inverse = self._invert_remainder()
        if i > 0:
            return lower_blocks(inverse, self.layout, i, self.q1)
        if not self.q2:
            return self.level_inverses
        self._couple(self._Cinv @ self.lams[0].T)
        middle = np.eye(self.layout.widths[0]) + self._coupling.forms(inverse)
        trace: np.ndarray = self._Cinv.transpose(0, 2, 1) @ middle @ self._Cinv
        return trace

    def inverse_pairs(self) -> SymmetricBlocks:
        """Return the blocks of ``M^-1`` on the pattern of ``Z'WZ``.

        With E and N as in `_trace_from_inverse`, ``M_11^-1 M_12 = lam_1' N``, so that
        ``C_12 = -lam_1' N C_22`` and ``C_ll = M_ll^-1 + lam_1' N_l C_22 N_l' lam_1``.
        """
        layout, lam = self.layout, self.lams[0]
        if not self.q2:
            return SymmetricBlocks([self.inverse_block(0)], {})
        if not self._inverted:
            self._solved_traces()  # trace_blocks may follow, and cannot solve any more
        inverse = self._invert_remainder()
        self._couple(self._level_E())
        products, self._forms = self._coupling.products_and_forms(inverse)
        own = self.level_inverses + two_sided(lam.T, self._forms, lam.T)
        across = {}
        for j, P in enumerate(products, start=1):
            across[0, j] = two_sided(-lam.T, P, np.eye(P.shape[2]))
        others = [lower_blocks(inverse, layout, i, self.q1) for i in range(1, len(layout))]
        return SymmetricBlocks([own, *others], across | self._remainder.read_pairs(inverse))

    def projected_squares(self, B: np.ndarray) -> dict[tuple[int, int], np.ndarray] | None:
        """Return ``sum P (x) P`` for a single factor, whose ``Z'V^-1 Z`` is block-diagonal."""
        if self.q2:
            return None
        level, by_level = np.arange(self.layout.n_levels[0]), self.layout.by_level(0, B)
        pairs = Pairs(level, level, small.times(self._level_E(), self.products.diagonal[0]))
        return {(0, 0): sum_of_squares(pairs, by_level, by_level)}

    def marginal_squares(self) -> dict[tuple[int, int], np.ndarray] | None:
        """Return ``sum A_lk (x) A_lk`` (s_i^2, s_j^2) over all levels l, k of factors i <= j.

        For the blocks of ``A = Z'V^-1 Z``. With N, E and ``A_0 = (Z'Z)_22 - ...`` as in
        `_boundary_trace` (N without Lambda_2), ``K = Lambda_2 S^-1 Lambda_2'`` and
        ``F = (I + Lambda_2 Lambda_2' A_0)^-1``,

            A_11 = E (Z'Z)_11 - N K N',      A_12 = N F,      A_22 = A_0 F,

        so that sums over pairs of levels are products of the Gram matrices ``N_a'N_c`` of columns
        a, c of the first factor. Gives up L, as `inverse_block` does.
        """
        if not self.q2:
            return None
        layout, (s, *widths) = self.layout, self.layout.widths
        others = Layout(layout.n_levels[1:], layout.widths[1:])
        self._solved_traces()  # trace_blocks may follow, and cannot solve any more
        A, inverse, lams = self._remainder_before(), mirror(self._invert_remainder()), self.lams[1:]
        K = others.multiply(lams, others.multiply(lams, inverse).T)
        if min(self.least[1:]) > SINGULAR:
            back = [np.linalg.inv(lam) for lam in lams]
            F = others.multiply(lams, others.multiply(back, inverse, transpose=True).T)
        else:
            F = np.eye(self.q2) - K @ A
        self._coupling.set(self._level_E(), [np.eye(w) for w in widths])
        self._left = None
        grams = [[self._coupling.gram(a, c) for c in range(s)] for a in range(s)]
        own, forms = self._level_E() @ self.products.diagonal[0], self._coupling.forms(K)
        squares = np.einsum("lab,lcd->acbd", own, own)
        cross = np.einsum("lab,lcd->acbd", own, forms)
        squares -= cross + cross.transpose(1, 0, 3, 2)
        halves = [[K @ gram for gram in row] for row in grams]
        for a, b, c, d in itertools.product(range(s), repeat=4):
            squares[a, c, b, d] += np.vdot(halves[b][d], halves[c][a].T)
        out = {(0, 0): squares.reshape(s * s, s * s)}
        for j, w in enumerate(widths, start=1):
            columns = F[:, others.slice(j - 1)]
            flat = columns.reshape(-1, w)
            parts = [
                flat.T @ (grams[a][c] @ columns).reshape(-1, w)
                for a, c in itertools.product(range(s), repeat=2)
            ]
            out[0, j] = np.array(parts).reshape(s * s, w * w)
            whole = A @ columns
            for i in range(1, j + 1):
                out[i, j] = block_squares(others.by_level(i - 1, whole), w)
        return out

    def _singular(self, i: int) -> bool:
        return i > 0 and super()._singular(i)

    def _trace_from_inverse(self, i: int) -> np.ndarray:
        """Return ``T_i``; the first block's by a formula that needs no inverse of lam_1.

        With ``E_l = (I + (Z'Z)_ll lam_1 lam_1')^-1`` and ``N_l = E_l (Z'Z)_l2 Lambda_2``,
        ``T_1 = sum_l [E_l (Z'Z)_ll - N_l S^-1 N_l']``.
        """
        if i > 0:
            return super()._trace_from_inverse(i)
        E = self._level_E()
        s = E.shape[1]
        alone: np.ndarray = E.transpose(1, 0, 2).reshape(s, -1) @ self.products.diagonal[0].reshape(
            -1, s
        )
        if not self.q2:
            return alone
        inverse = self._invert_remainder()
        if self._forms is None:
            self._couple(E)
            self._forms = self._coupling.forms(inverse)
        alone -= self._forms.sum(axis=0)
        return alone

    def _boundary_trace(self, i: int) -> np.ndarray:
        """Return ``T_i`` for i > 0, from the remainder without its templates.

        With ``A = (Z'Z)_22 - (Z'Z)_21 G_1 (Z'Z)_12``, where the first block alone is in V, S is
        ``Lambda_2'A Lambda_2 + I``, and ``T_i = sum_l [A_ll - |L_22^-1 Lambda_2'A_.l|^2]``.
        """
        layout, s = self.layout, self.layout.widths[i]
        A, others = (
            self._remainder_before(),
            Layout(self.layout.n_levels[1:], self.layout.widths[1:]),
        )
        total: np.ndarray = lower_blocks(A, layout, i, self.q1).sum(axis=0)
        step = max(CHUNK // s, 1) * s
        end = layout.offsets[i + 1] - self.q1
        for start in range(layout.offsets[i] - self.q1, end, step):
            columns = A[:, start : min(start + step, end)]
            half = others.multiply(self.lams[1:], columns, transpose=True)
            by_column = solve_lower(self._L22, half).reshape(-1, s)
            total -= by_column.T @ by_column
        return total

    def _remainder_before(self) -> np.ndarray:
        """Return ``(Z'Z)_22 - (Z'Z)_21 G_1 (Z'Z)_12`` (q2, q2), once an update."""
        if self._A is None:
            alone = [np.eye(s) for s in self.layout.widths]
            self._coupling.set(self._Cinv @ self.lams[0].T, alone[1:])
            self._left = None
            self._A = np.empty_like(self._S)
            self._remainder.write(alone, self._A, penalty=0.0)
            self._coupling.subtract_gram(self._A)
            mirror(self._A)
        return self._A

    def _level_E(self) -> np.ndarray:
        """Return E of `_trace_from_inverse` (l, s, s), by the form that keeps digits.

        It is ``lam^-T M_ll^-1 lam'``, exact where lam is large, and
        ``I - (Z'Z)_ll lam M_ll^-1 lam'``, exact where lam vanishes.
        """
        if self._E is None:
            lam, inverse = self.lams[0], self.level_inverses
            if len(lam) == 1:
                self._E = inverse
            elif self.least[0] > INVERTIBLE:
                self._E = two_sided(small.inverse(lam).T, inverse, lam)
            else:
                moved = small.times(self.products.diagonal[0], two_sided(lam, inverse, lam))
                self._E = small.identity(len(lam)) - moved
        return self._E

    def _invert_remainder(self) -> np.ndarray:
        if not self._inverted and self.q2:
            self._L22, self._inverted = potri(self._L22), True
        return self._L22

    def _couple(self, left: np.ndarray) -> None:
        """Set the coupling to ``left_l (Z'Z)_l2 Lambda_2``, unless it stands there."""
        if self._left is not left:
            self._coupling.set(left, self.lams[1:])
            self._left = left

    def _require_L(self) -> None:
        if self._inverted and self.q2:
            raise RuntimeError("L was overwritten by the inverse: call update, or use solve")

    def _on_levels(self, blocks: np.ndarray, v: np.ndarray) -> np.ndarray:
        """Multiply the first block's rows of v, level by level."""
        n, s = self.layout.n_levels[0], self.layout.widths[0]
        if s == 1:
            scale = blocks[:, 0, 0]
            product: np.ndarray = v[: self.q1] * (scale if v.ndim == 1 else scale[:, None])
            return product
        product = small.times(blocks, v[: self.q1].reshape(n, s, -1))
        return product.reshape(self.q1, *v.shape[1:])
