"""Fits to the data without some rows, with the covariance parameters held.

For a set of rows with columns V_g, residuals q_g and hat matrix ``H_g = V_g A^-1 V_g'`` (the
symbols are those of `linearized`), the matrix without them is ``A - V_g'V_g``. By Woodbury's
identity the effects move by ``-A^-1 V_g' t``, with ``(I - H_g) t = q_g``, and without the rows

    (X'V^-1 X)^-1 = RX^-1 (I + J_g' (I - H_g)^-1 J_g) RX^-T,      pwrss is less by q_g't,

exactly for a linear model, by one scoring step for a generalized one. Sets are taken together, so
that some hundred columns are solved for at a time. Large ones, and those that leave coefficients
open, are taken off the cross-products instead.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property, partial

import numpy as np

from mixef.errors import FitError
from mixef.estimation.fit import Fit
from mixef.estimation.linear.pls import solve_upper
from mixef.inference.components import components, scale_names
from mixef.inference.influence.deletion import Deleted, FixedColumns, parameters
from mixef.inference.influence.linearized import Linearized, linearized
from mixef.inference.replicates import attempted
from mixef.linalg.downdate import Downdate
from mixef.linalg.factor import CHUNK
from mixef.linalg.threads import one_blas_thread

# Numbers held at a time, which bounds the columns that are solved for at a time (256 MB).
HELD = 32_000_000


def at_once(fit: Fit) -> int:
    """Return how many rows are best taken together."""
    q = sum(term.n_effects for term in fit.terms)
    return min(max(HELD // q, 1), CHUNK)


def chunks(sets: Sequence[np.ndarray], most: int) -> list[list[np.ndarray]]:
    """Put sets of rows together, in order, that have so many rows in all, or little more."""
    ends = np.cumsum([len(rows) for rows in sets])
    part = ends // most
    cuts = np.flatnonzero(np.diff(part)) + 1
    return [list(sets[a:b]) for a, b in zip([0, *cuts], [*cuts, len(sets)], strict=True)]


@dataclass(frozen=True, eq=False)
class Held:
    """Deletions with covariance parameters held; it pickles, and is called with sets of rows."""

    fit: Fit

    @cached_property
    def _at(self) -> Linearized:
        return linearized(self.fit)

    @cached_property
    def _h(self) -> np.ndarray:
        return self._at.leverages()

    @cached_property
    def _columns(self) -> FixedColumns:
        return FixedColumns.of(self.fit)

    @cached_property
    def _down(self) -> Downdate:
        at = self._at
        return Downdate(at.groups, np.column_stack([at.Q, at.q]), at.products)

    def __getstate__(self) -> dict[str, Fit]:
        return {"fit": self.fit}

    @property
    def vcov(self) -> np.ndarray:
        """Covariance (p, p) of the coefficients of all rows."""
        steps = self._at.coefficients(np.eye(self._at.p))
        vcov: np.ndarray = steps.T @ steps
        return vcov

    def __call__(self, sets: Sequence[np.ndarray]) -> list[Deleted]:
        """Return the estimates without each set of rows (m,)."""
        single = [g for g, rows in enumerate(sets) if self._is_small(rows)]
        with one_blas_thread():
            found = dict(zip(single, self._woodbury([sets[g] for g in single]), strict=True))
            for g, rows in enumerate(sets):
                if g not in found:
                    one = attempted(partial(self._downdated, rows))
                    found[g] = Deleted.failed(self.fit, one) if isinstance(one, str) else one
        return [found[g] for g in range(len(sets))]

    def _is_small(self, rows: np.ndarray) -> bool:
        return len(rows) <= at_once(self.fit) and not self._columns.is_thin(rows)

    def _woodbury(self, sets: Sequence[np.ndarray]) -> list[Deleted]:
        """Return the estimates without sets that leave all coefficients determined."""
        if not sets:
            return []
        at, rows = self._at, np.concatenate(sets)
        sizes = np.array([len(part) for part in sets])
        starts, owner = np.cumsum(sizes) - sizes, np.repeat(np.arange(len(sets)), sizes)
        j, q = at.j[rows], at.q[rows]
        right = np.column_stack([q, j])
        if (sizes == 1).all():
            solved = right / (1.0 - self._h[rows])[:, None]
        else:
            rest = np.eye(len(rows)) - self._hat(rows) * (owner[:, None] == owner)
            solved = np.linalg.solve(rest, right)
        t, S = solved[:, 0], solved[:, 1:]
        moved = np.add.reduceat(j * t[:, None], starts)
        inside = np.eye(at.p) + np.add.reduceat(j[:, :, None] * S[:, None, :], starts)
        lost = np.add.reduceat(q * t, starts)
        T = at.coefficients(np.eye(at.p)).T
        beta = self.fit.estimates.beta - at.coefficients(moved)
        return [
            self._deleted(beta[g], T @ inside[g] @ T.T, float(lost[g]), int(sizes[g]), at.p)
            for g in range(len(sets))
        ]

    def _hat(self, rows: np.ndarray) -> np.ndarray:
        """Return ``V A^-1 V'`` of some rows (m, m)."""
        at = self._at
        layout, column = at.factor.layout, np.arange(len(rows))
        v = [g.z[rows] @ lam for g, lam in zip(at.groups, at.lams, strict=True)]
        codes = [g.codes[rows] for g in at.groups]
        Vt = np.zeros((layout.q, len(rows)))
        for i, (code, part) in enumerate(zip(codes, v, strict=True)):
            place = layout.offsets[i] + code[:, None] * layout.widths[i]
            Vt[place + np.arange(layout.widths[i]), column[:, None]] = part
        solved, H = at.factor.solve(Vt), at.j[rows] @ at.j[rows].T
        for i, (code, part) in enumerate(zip(codes, v, strict=True)):
            H += np.einsum("ms,msk->mk", part, layout.by_level(i, solved)[code])
        return H

    def _downdated(self, rows: np.ndarray) -> Deleted:
        """Return the estimates by a factor of what is left of the cross-products."""
        at, fit = self._at, self.fit
        if len(rows) == fit.frame.n:
            raise FitError("no rows are left")
        products, layout, p = self._down.without(rows), at.factor.layout, at.p
        open_ = self._columns.left_open(rows)
        # The scaled columns; the user's, if some are combinations of others now.
        kept = self._columns.independent(rows)
        S = np.eye(p) if len(kept) == p else at.basis.R[:, kept]
        own = np.column_stack([products.ZtX @ S, at.products.Zty - products.Zty])
        factor = at.factor.twin(products)
        factor.update(at.lams)
        half = factor.solve_L(layout.multiply(at.lams, own, transpose=True))
        RZX, cu = half[:, :-1], half[:, -1]
        RX = np.linalg.cholesky(S.T @ products.XtX @ S - RZX.T @ RZX).T
        pull = S.T @ (at.products.Xty - products.Xty) - RZX.T @ cu
        cbeta = solve_upper(RX, pull, transpose=True)
        lost = at.products.yty - products.yty + float(cu @ cu) + float(cbeta @ cbeta)
        back = at.basis.back(S @ solve_upper(RX, np.eye(len(kept)))) * at.unit
        beta, vcov = fit.estimates.beta - back @ cbeta, back @ back.T
        beta[open_] = vcov[open_] = vcov[:, open_] = np.nan
        return self._deleted(beta, vcov, lost, len(rows), len(kept))

    def _deleted(
        self, beta: np.ndarray, vcov: np.ndarray, lost: float, size: int, p: int
    ) -> Deleted:
        """Return the estimates with the residual variance that is left."""
        fit = self.fit
        ratio, values = 1.0, self._parameters
        if fit.family.has_dispersion:
            whole = fit.estimates.pwrss / fit.covariance_scale
            m = fit.frame.n - (len(fit.kept) if fit.REML else 0)
            left = fit.frame.n - size - (p if fit.REML else 0)
            if left <= 0 or not whole > lost:
                return Deleted.failed(
                    fit, "no rows are left to estimate the residual variance from"
                )
            ratio = float(np.sqrt((1.0 - lost / whole) * m / left))
            values = np.where(self._in_sigmas, ratio * values, values)
        return Deleted(beta, ratio**2 * vcov, values)

    @cached_property
    def _parameters(self) -> np.ndarray:
        return parameters(self.fit)

    @cached_property
    def _in_sigmas(self) -> np.ndarray:
        """Which parameters are in proportion to the residual standard deviation."""
        fit = self.fit
        random = [fit.is_linear and part.kind == "sd" for part in components(fit.terms)]
        return np.array([*random, *(True for _ in scale_names(fit))])
