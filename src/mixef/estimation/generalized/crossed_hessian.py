"""The exact Hessian of the Laplace criterion for several grouping factors.

The terms are those of curvature.py, over the rows and the random effects. The costly one is

    tr(M^-1 M_a M^-1 M_b),

which takes the whole inverse: small models alone can afford it, near the end of a search.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterable, Iterator, Sequence

import numpy as np
from scipy import sparse

from mixef.estimation.generalized.pirls import Mode, WorkingModel
from mixef.families.auxiliary import Extra
from mixef.linalg.crossproducts import CrossProducts, Pairs, SymmetricBlocks, assemble
from mixef.terms.parametrization import Parametrization

# Columns that are transposed at a time.
TILE = 64


def crossed_hessian(
    model: WorkingModel,
    mode: Mode,
    parametrization: Parametrization,
    par: np.ndarray,
    extra: Extra,
    h: np.ndarray,
    adjoint: np.ndarray,
) -> np.ndarray:
    """Return the Hessian (K, K) for several grouping factors; the factor is left as it was.

    It takes one inverse and K products of sparse matrices with it.
    """
    groups, layout, response, state = model.groups, model.groups.layout, model.response, mode.state
    factor = model.factor.cholesky("the exact Hessian")
    X, observed, W = model.X, state.observed, response.weights_of(state)
    lams, k, p = parametrization.lams(par), len(par), model.X.shape[1]
    dlams = parametrization.template_slopes(par)
    slopes = response.slopes(state, extra, response.uses_observed)

    def by_template(v: np.ndarray, transpose: bool = False) -> np.ndarray:
        return np.column_stack([layout.multiply(D, v, transpose) for D in dlams])

    # how mode, linear predictor, scores and weights move (levels.py)
    extra_slopes, last = slopes.by_extra, slice(k + p, None)
    n_extra = 0 if extra_slopes is None else len(extra_slopes.score)
    direct = np.zeros((groups.n, k + p + n_extra))
    direct[:, :k] = groups.Z(by_template(mode.u))
    direct[:, k : k + p] = X
    score = -observed[:, None] * direct
    if extra_slopes is not None:
        score[:, last] += extra_slopes.score.T
    pull = by_template(groups.Zt(state.score), transpose=True)
    right = model.random_part_transposed(lams, score)
    right[:, :k] += pull
    model.refactor(observed, lams)
    u = factor.solve(right)
    moved = model.random_part(lams, u)
    eta, score = direct + moved, score - observed[:, None] * moved
    weights = slopes.by_eta[:, None] * eta
    if extra_slopes is not None:
        weights[:, last] += extra_slopes.weights.T

    H: np.ndarray = -2.0 * direct.T @ score
    H[:k] -= 2.0 * pull.T @ u
    if extra_slopes is not None:
        H[last] -= 2.0 * extra_slopes.score @ eta
    H = 0.5 * (H + H.T)

    if W is not observed:
        model.refactor(W, lams)
    C = factor.solve(np.eye(layout.q))
    inverse = factor.inverse_pairs()
    forms = np.stack([groups.row_forms(mixed(inverse, lams, D)) for D in dlams])
    t = groups.Zt(h * slopes.by_eta - observed * adjoint)
    half = np.zeros_like(H)
    half[:k] = 2.0 * forms @ weights + by_template(t, transpose=True).T @ u
    half[:k] += by_template(layout.multiply(lams, t, transpose=True)).T @ groups.Zt(score)
    H += half + half.T
    H[:k, :k] += template_pairs(groups.products, inverse, dlams)
    H -= _squares(model, lams, dlams, weights, C)
    model.refactor(observed, lams)
    second = response.second_slopes(state, extra, slopes)
    H += eta.T @ ((h * second.weights[0] + adjoint * second.score[0])[:, None] * eta)
    if extra_slopes is not None:
        cross = (h * second.weights[1] + adjoint * second.score[1]) @ eta
        H[last] += cross
        H[:, last] += cross.T
        H[last, last] += second.weights[2] @ h + second.score[2] @ adjoint
        H[last, last] -= 2.0 * second.log_density
    return H


def _squares(
    model: WorkingModel,
    lams: Sequence[np.ndarray],
    dlams: Sequence[Sequence[np.ndarray]],
    weights: np.ndarray,
    C: np.ndarray,
) -> np.ndarray:
    """Return ``tr(C M_a C M_b)`` (K, K) for ``C = M^-1``; overwrites the products."""
    groups, products = model.groups, model.groups.products
    own = by_templates(products, lams, dlams)
    backs = [lam.T for lam in lams]

    def moved() -> Iterator[SymmetricBlocks]:
        for a, change in enumerate(weights.T):
            groups.reweight(change)
            M = blocks_of(products).between(backs)
            yield total(M, own[a]) if a < len(own) else M

    return traces(products, moved(), weights.shape[1], C)


def by_templates(
    products: CrossProducts, lams: Sequence[np.ndarray], dlams: Sequence[Sequence[np.ndarray]]
) -> list[SymmetricBlocks]:
    """Return ``Lambda_a' Z'WZ Lambda + Lambda' Z'WZ Lambda_a``, one a covariance parameter."""
    backs, gram = [lam.T for lam in lams], blocks_of(products)
    return [mixed(gram, backs, [D.T for D in Ds], 2.0) for Ds in dlams]


def traces(
    products: CrossProducts, moved: Iterable[SymmetricBlocks], n_par: int, C: np.ndarray
) -> np.ndarray:
    """Return ``tr(C M_a C M_b)`` (K, K) of symmetric M_a on the pattern of ``products``.

    Parameters
    ----------
    C : ndarray (q, q)
    """
    place, found = _Places(products), np.empty((n_par, *C.shape))
    for a, M in enumerate(moved):
        found[a] = place(M) @ C
    out = np.zeros((len(found), len(found)))
    for first in range(0, len(C), TILE):  # transposed by tiles, which stay in cache
        tile = slice(first, first + TILE)
        columns = found[:, :, tile].transpose(0, 2, 1).reshape(len(found), -1)
        out += found[:, tile].reshape(len(found), -1) @ columns.T
    return out


class _Places:
    """Where the blocks of symmetric matrices on one pattern go among all rows and columns."""

    def __init__(self, products: CrossProducts):
        layout, blocks = products.layout, blocks_of(products)
        ends = np.cumsum([1, *(b.size for b in (*blocks.diagonal, *blocks.pairs.values()))])
        numbers = [np.arange(a, b, dtype=float) for a, b in itertools.pairwise(ends)]
        diagonal = [v.reshape(b.shape) for v, b in zip(numbers, blocks.diagonal, strict=False)]
        across = zip(numbers[len(diagonal) :], products.pairs.items(), strict=True)
        pairs = {
            key: Pairs(pair.rows, pair.cols, v.reshape(pair.blocks.shape))
            for v, (key, pair) in across
        }
        self._matrix = assemble(layout, diagonal, pairs)
        dense = isinstance(self._matrix, np.ndarray)
        values = self._matrix.reshape(-1) if dense else self._matrix.data
        self._values = np.asarray(values)
        self._order: np.ndarray = self._values.astype(np.intp)

    def __call__(self, M: SymmetricBlocks) -> np.ndarray | sparse.csr_array:
        """Return the matrix (q, q) of these blocks; the next call overwrites it."""
        blocks = (*M.diagonal, *M.pairs.values())
        flat = np.concatenate([np.zeros(1), *(block.ravel() for block in blocks)])
        self._values[...] = flat[self._order]
        return self._matrix


def blocks_of(products: CrossProducts) -> SymmetricBlocks:
    """Return the blocks of ``Z'WZ``, views of those of the products."""
    return SymmetricBlocks(
        list(products.diagonal), {key: pair.blocks for key, pair in products.pairs.items()}
    )


def total(a: SymmetricBlocks, b: SymmetricBlocks, share: float = 1.0) -> SymmetricBlocks:
    """Return ``a + share b``."""
    return SymmetricBlocks(
        [x + share * y for x, y in zip(a.diagonal, b.diagonal, strict=True)],
        {key: x + share * b.pairs[key] for key, x in a.pairs.items()},
    )


def mixed(
    B: SymmetricBlocks, lams: Sequence[np.ndarray], dlams: Sequence[np.ndarray], share: float = 1.0
) -> SymmetricBlocks:
    """Return ``share / 2 (Lambda_a B Lambda' + Lambda B Lambda_a')`` on the pattern of ``Z'WZ``."""
    ends = [
        B.between([lam + sign * D for lam, D in zip(lams, dlams, strict=True)]) for sign in (1, -1)
    ]
    twice = total(ends[0], ends[1], -1.0)
    return SymmetricBlocks(
        [0.25 * share * x for x in twice.diagonal],
        {key: 0.25 * share * x for key, x in twice.pairs.items()},
    )


def template_pairs(
    products: CrossProducts, inverse: SymmetricBlocks, dlams: Sequence[Sequence[np.ndarray]]
) -> np.ndarray:
    """Return ``2 tr(M^-1 Lambda_a' Z'WZ Lambda_b)`` (k, k)."""
    by_block = [np.stack(blocks) for blocks in zip(*dlams, strict=True)]
    out = np.zeros((len(dlams), len(dlams)))
    for D, gram, C in zip(by_block, products.diagonal, inverse.diagonal, strict=True):
        out += _contracted(D, gram, C, D)
    for (i, j), pair in products.pairs.items():
        part = _contracted(by_block[i], pair.blocks, inverse.pairs[i, j], by_block[j])
        out += part + part.T
    return 2.0 * out


def _contracted(left: np.ndarray, gram: np.ndarray, C: np.ndarray, right: np.ndarray) -> np.ndarray:
    """Return ``sum_m tr(C_m' left_a' gram_m right_b)``."""
    m, s, t = gram.shape
    both = (gram.reshape(m, -1).T @ C.reshape(m, -1)).reshape(s, t, s, t)
    traces: np.ndarray = np.einsum("arp,rtpq,btq->ab", left, both, right, optimize=True)
    return traces
