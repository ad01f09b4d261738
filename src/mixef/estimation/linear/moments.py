"""Where the search starts: moment estimates of the covariances, from the cross-products alone.

These are the MINQUE(0) equations (C. R. Rao, 1971, Journal of Multivariate Analysis 1, 257-275):
with ``a_l = (Z_i'y)_l`` and the response's fixed effects taken out,

    E sum_l a_l a_l' = sigma^2 [ sum_l (Z'Z)_ll + sum_jlk (Z'Z)_lk S_j (Z'Z)_kl ],   E y'y likewise,

is linear in the relative covariances ``S_j = lam_j lam_j'`` times sigma^2, and in sigma^2.
For a balanced design the solution is the REML estimate.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from itertools import accumulate, combinations
from math import sqrt

import numpy as np

from mixef.linalg import small
from mixef.linalg.crossproducts import (
    CrossProducts,
    diagonal_pairs,
    squares_by_blocks,
    sum_of_squares,
)
from mixef.terms.parametrization import Parametrization

# Where a moment estimate is too small or negative, the search starts from this share of the
# effect's contribution that one level could just make visible.
FLOOR = 0.1
# ... and no direction starts below this share of its term's largest: a search that has to bring
# up a direction from near zero takes many short steps, one that has to shrink it does not.
LEAST_RATIO = 0.1
# The least share of the variance within levels that is taken for residual variance: moments can
# make it negative, and crossed factors take a part of that variance each.
LEAST_SHARE = 0.2
# Products of Z'Z with fixed effects beyond which the start leaves them out: they would take longer
# than the evaluation that they may save.
MOST_PRODUCTS = 4_000_000
# Covariances beyond which the start takes the columns as uncorrelated: equations are solved in time
# of the cube of their number, a tenth of a second for these.
MOST_UNKNOWNS = 700


@dataclass(frozen=True)
class Moments:
    """Moment estimates of the variances, for the scaled columns."""

    sigma2: float
    #: each (s_i, s_i): one a block; not always positive definite.
    covariances: tuple[np.ndarray, ...]
    #: The smallest variance within the levels of one block, a bound of sigma2; NaN where that is
    #: known.
    within: float

    def turned(self, axes: Sequence[np.ndarray]) -> Moments:
        """Return the estimates for columns ``z_i V_i``."""
        if max(map(len, axes)) == 1:
            return self
        pairs = zip(axes, self.covariances, strict=True)
        return replace(self, covariances=tuple(V.T @ cov @ V for V, cov in pairs))


def principal_axes(moments: Moments, parametrization: Parametrization) -> list[np.ndarray]:
    """Return an orthogonal V_i (s_i, s_i) a block: each term's principal axes, largest first.

    In these coordinates a template's columns are ordered as its pivots are, and a covariance that
    turns out singular loses its last columns: a search in other coordinates would have to turn
    the template along a curved valley. Only unstructured terms can be turned.
    """
    axes = [np.eye(width) for width in parametrization.widths]
    for structure, i, cols in zip(
        parametrization.structures, parametrization.block_of, parametrization.columns, strict=True
    ):
        if structure.invariance == "triangular" and structure.size > 1:
            cov = moments.covariances[i][cols, cols]
            axes[i][cols, cols] = small.eigh(0.5 * (cov + cov.T))[1][:, ::-1]
    return axes


def moment_start(
    moments: Moments, products: CrossProducts, parametrization: Parametrization
) -> np.ndarray:
    """Return starting parameters (k,) for the search, all templates nonsingular."""
    parts = []
    for structure, i, cols in zip(
        parametrization.structures, parametrization.block_of, parametrization.columns, strict=True
    ):
        sizes = products.diagonal[i].sum(axis=0).diagonal()[cols]
        visible = sizes.sum() / len(sizes) / products.layout.n_levels[i]
        share = FLOOR / sqrt(visible) if visible > 0.0 else 1.0
        cov = moments.covariances[i][cols, cols] / moments.sigma2
        sd = np.sqrt(np.maximum(cov.diagonal(), share**2))
        parts.append(structure.near(np.maximum(sd, LEAST_RATIO * sd.max()), cov))
    return np.concatenate(parts)


def moment_estimates(products: CrossProducts, sigma2: float | None = None) -> Moments:
    """Solve the MINQUE(0) equations for sigma^2 and each block's covariance.

    Parameters
    ----------
    sigma2 : float, optional
        The residual variance, where it is known.
    """
    widths = products.layout.widths
    is_wide = sum(s * s for s in widths) > MOST_UNKNOWNS
    left, right = _of_variances(products) if is_wide else _of_covariances(products)
    if sigma2 is not None:
        right = right[:-1] - sigma2 * left[:-1, -1]
        left = left[:-1, :-1]
    # Rows of one unknown may be on very different scales: equilibrate before the solve. Columns
    # that share no level say nothing about their covariance, which stays zero.
    size2 = left.diagonal()
    seen = size2 > 1e-12 * size2.max()
    scale = seen / np.sqrt(np.where(seen, size2, 1.0))
    solution = scale * small.least_squares(left * (scale[:, None] * scale), right * scale, 1e-10)
    within = np.nan
    if sigma2 is None:
        within = within_variance(products)
        sigma2 = float(np.clip(solution[-1], LEAST_SHARE * within, within))
    places = _places([s if is_wide else s * s for s in widths])
    parts = [solution[place] for place in places]
    covariances = [
        np.diag(part) if is_wide else part.reshape(s, s)
        for part, s in zip(parts, widths, strict=True)
    ]
    return Moments(sigma2, tuple(covariances), within)


def _places(sizes: Sequence[int]) -> list[slice]:
    """Return where each block's unknowns are."""
    return [slice(end - size, end) for end, size in zip(accumulate(sizes), sizes, strict=True)]


def _of_covariances(products: CrossProducts) -> tuple[np.ndarray, np.ndarray]:
    """Return the equations' two sides, for the covariances (s_i^2 a block) and sigma^2."""
    layout, widths = products.layout, products.layout.widths
    where = _places([s * s for s in widths])
    size = where[-1].stop + 1
    left, right = np.zeros((size, size)), np.zeros(size)
    left[-1, -1], right[-1] = products.n - products.XtX.shape[0], products.yty
    fixed = _fixed_part(products)
    for i, blocks in enumerate(products.diagonal):
        a, B = layout.by_level(i, products.Zty), layout.by_level(i, fixed)
        right[where[i]] = (a.T @ a).ravel()
        flat = B.transpose(1, 0, 2).reshape(widths[i], -1)
        left[where[i], -1] = left[-1, where[i]] = (blocks.sum(axis=0) - flat @ flat.T).ravel()
    for (i, j), square in _squares(products, fixed).items():
        left[where[i], where[j]] = square
        left[where[j], where[i]] = square.T
    return left, right


def _of_variances(products: CrossProducts) -> tuple[np.ndarray, np.ndarray]:
    """Return the equations' two sides for variances alone (s_i a block), and sigma^2.

    Covariances of many columns are too many for a start; the fixed effects are left out of Z'Z.
    """
    layout, widths = products.layout, products.layout.widths
    where = _places(widths)
    size = where[-1].stop + 1
    left, right = np.zeros((size, size)), np.zeros(size)
    left[-1, -1], right[-1] = products.n - products.XtX.shape[0], products.yty
    for i, blocks in enumerate(products.diagonal):
        right[where[i]] = np.square(layout.by_level(i, products.Zty)).sum(axis=0)
        left[where[i], -1] = left[-1, where[i]] = blocks.sum(axis=0).diagonal()
        left[where[i], where[i]] = np.square(blocks).sum(axis=0)
    for i, j in combinations(range(len(layout)), 2):
        if (i, j) in products.pairs:
            square = np.square(products.pairs[i, j].blocks).sum(axis=0)
        else:  # a small model, held as a dense matrix
            assert isinstance(products.ZtZ, np.ndarray)
            cells = np.square(products.ZtZ[layout.slice(i), layout.slice(j)])
            square = cells.reshape(-1, widths[i], cells.shape[1]).sum(axis=0)
            square = square.reshape(widths[i], -1, widths[j]).sum(axis=1)
        left[where[i], where[j]] = square
        left[where[j], where[i]] = square.T
    return left, right


def _fixed_part(products: CrossProducts) -> np.ndarray:
    """Return B (q, p) with ``Z'MZ = Z'Z - BB'``, where M takes the fixed effects out.

    Without columns where there are too many for a start: the estimates are a little off then.
    """
    p = products.XtX.shape[0]
    n_pairs = max([*products.layout.n_levels, *(len(p.rows) for p in products.pairs.values())])
    if p == 0 or p * n_pairs > MOST_PRODUCTS:
        return np.zeros((products.layout.q, 0))
    return small.solve(small.root(products.XtX).T, products.ZtX.T).T


def within_variance(products: CrossProducts) -> float:
    """Bound sigma^2 from above: the smallest variance within the levels of one block."""
    layout = products.layout
    best = products.yty / products.n
    for i, gram in enumerate(products.diagonal):
        a = layout.by_level(i, products.Zty)
        value, part = gram[:, 0], a**2
        if a.shape[1] > 1:
            value, vector = np.linalg.eigh(gram)
            part = (vector * a[:, :, None]).sum(axis=1) ** 2
        seen = value > 1e-8 * value[:, -1:]
        between = float((part[seen] / value[seen]).sum())
        free = products.n - int(seen.sum()) - products.XtX.shape[0]
        if free > 0:
            best = min(best, max(products.yty - between, 1e-12 * products.yty) / free)
    return best


def _squares(products: CrossProducts, fixed: np.ndarray) -> dict[tuple[int, int], np.ndarray]:
    """Return the sums of ``P (x) P`` over the blocks P of ``Z'Z - BB'``, B = ``fixed``, i <= j."""
    layout = products.layout
    if len(layout) > 1 and not products.pairs:  # a small model, held as a dense matrix
        assert isinstance(products.ZtZ, np.ndarray)
        return squares_by_blocks(products.ZtZ - fixed @ fixed.T, layout)
    pairs = {(i, i): diagonal_pairs(products, i) for i in range(len(layout))} | products.pairs
    by_level = [layout.by_level(i, fixed) for i in range(len(layout))]
    return {
        (i, j): sum_of_squares(pair, by_level[i], by_level[j]) for (i, j), pair in pairs.items()
    }
