"""Which factor a structure gets: the one with the smallest predicted time."""

from __future__ import annotations

import numpy as np
from scipy import sparse

from mixef.linalg import cholmod
from mixef.linalg.cholmod import CholmodFactor
from mixef.linalg.crossproducts import SMALL_Q, CrossProducts
from mixef.linalg.dense import DenseFactor
from mixef.linalg.factor import (
    DENSE_CELL,
    SPARSE_ENTRY,
    CholeskyFactor,
    Factor,
    fits,
    require,
    too_large,
)
from mixef.linalg.ordering import is_nested, least_fill
from mixef.linalg.schur import SchurFactor
from mixef.linalg.simplicial import Pattern, SimplicialFactor, SparseCholesky
from mixef.linalg.sparse_factor import SparseFactor, filled_counts

# Floating-point operations a second, in orders of magnitude that hold on most machines.
BLAS3_RATE = 3e10
SCATTER_RATE = 1e9
# A prediction below this many seconds is not worth the analysis of an alternative.
CHEAP = 0.1
# Where elimination makes this many products a cell of the remainder, it fills entirely.
FILLING = 0.5
# A dense remainder beyond this size (3 GB) is not formed.
LARGEST_REMAINDER = 20_000


def make_factor(products: CrossProducts) -> Factor:
    """Return the factor for a structure.

    The layout's first block is the one that Schur eliminates.
    """
    return make_cholesky(products)


def make_cholesky(products: CrossProducts) -> CholeskyFactor:
    """Return the exact factor for a structure: dense, Schur or sparse.

    The layout's first block is the one that Schur eliminates.
    """
    layout = products.layout
    if len(layout) == 1:
        return SchurFactor(products)
    if layout.q <= SMALL_Q:
        return DenseFactor(products)
    if is_nested(products):
        return sparse_factor(products)
    remainder = layout.q - layout.offsets[1]
    dense_bytes = DENSE_CELL * float(remainder) ** 2
    fills = scatter_products(products) > FILLING * remainder**2
    if remainder <= LARGEST_REMAINDER:
        dense_time = schur_time(products)
        if dense_time < CHEAP or fills:
            return _schur(products, dense_bytes)
        factor = sparse_factor(products)
        slower = sparse_time(factor) > dense_time
        return _schur(products, dense_bytes) if slower and fits(dense_bytes) else factor
    if fills:  # half of the remainder is in L: no analysis is needed to say so
        require(products, SPARSE_ENTRY * float(remainder) ** 2 / 2)
    factor = sparse_factor(products)
    require(products, SPARSE_ENTRY * float(factor.column_counts().sum()))
    return factor


def _schur(products: CrossProducts, needed: float) -> SchurFactor:
    require(products, needed)
    try:
        return SchurFactor(products)
    except MemoryError as error:
        raise too_large(products, needed) from error


def sparse_factor(products: CrossProducts) -> SparseFactor:
    """Return CHOLMOD's factor where it is installed, else our own."""
    return CholmodFactor(products) if cholmod.library() else SimplicialFactor(products)


def sparse_cholesky(A: sparse.spmatrix) -> tuple[sparse.csc_array, np.ndarray]:
    """Return L and the permutation p of ``(A + I)[p][:, p] = L L'``."""
    lower = sparse.csc_matrix(sparse.tril(A + sparse.identity(A.shape[0])))
    lower.sort_indices()
    order = fill_reducing_order(lower)
    cholesky = SparseCholesky(Pattern(lower, order))
    cholesky.factor(lower.data)
    return sparse.csc_array(cholesky.lower()), order


def fill_reducing_order(lower: sparse.csc_matrix) -> np.ndarray:
    """Order the columns of a symmetric matrix, given its lower triangle (n, n), against fill.

    Where none is better than the order that they have, that one stays, up to postordering.
    """
    if cholmod.library():
        return cholmod.fill_reducing_order(lower)
    below = sparse.coo_matrix(sparse.tril(lower, -1))
    order = least_fill(below.row, below.col, np.ones(lower.shape[0]))
    given = np.arange(lower.shape[0])
    return min(given, order, key=lambda order: filled_counts(lower, order)[2].sum())


def schur_time(products: CrossProducts) -> float:
    """Predict the seconds of one evaluation with gradient by a dense remainder."""
    remainder = products.layout.q - products.layout.offsets[1]
    return remainder**3 / BLAS3_RATE + scatter_products(products) / SCATTER_RATE


def scatter_products(products: CrossProducts) -> float:
    """Count the products that eliminating the first block adds to the remainder."""
    layout = products.layout
    per_level = np.zeros(layout.n_levels[0])
    for (i, j), pair in products.pairs.items():
        if i == 0:
            per_level += layout.widths[j] * np.bincount(pair.rows, minlength=len(per_level))
    return float((per_level**2).sum()) * layout.widths[0]


def sparse_time(factor: SparseFactor) -> float:
    """Predict the seconds of one evaluation with gradient by a sparse factor.

    CHOLMOD's factorization runs on BLAS, ours and the selected inverse are scalar loops over as
    many products.
    """
    products = float((factor.column_counts().astype(float) ** 2).sum())
    rate = BLAS3_RATE if isinstance(factor, CholmodFactor) else SCATTER_RATE
    return products / rate + products / SCATTER_RATE
