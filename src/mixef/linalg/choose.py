"""Which factor a structure gets: the one with the smallest predicted time."""

from __future__ import annotations

import numpy as np
from scipy import sparse

from mixef.errors import MemoryNeededError, MissingLibraryError
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
from mixef.linalg.iterative.factor import IterativeFactor
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


# Where one evaluation with an exact factor is foreseen to take more seconds than this, two crossed
# scalar terms get an iterative one.
LONG = 20.0


def make_factor(products: CrossProducts, chosen: str = "auto") -> Factor:
    """Return the factor for a structure: an iterative one where exact ones are too large.

    The layout's first block is the one that is eliminated first.

    Parameters
    ----------
    chosen : str
        `LmerControl.factor`.
    """
    if chosen == "iterative" and len(products.layout) > 1:
        return IterativeFactor(products)
    if chosen == "auto" and len(products.layout) > 1:
        return _exact_or_iterative(products)
    return make_cholesky(products, "auto" if chosen == "iterative" else chosen)


def _exact_or_iterative(products: CrossProducts) -> Factor:
    """Return an iterative factor of crossed terms where an exact one takes too much.

    Where an exact one only takes long, two terms of one column each get it: others are slower.
    """
    two_scalars = products.layout.widths == (1, 1)
    if two_scalars and is_long(products):
        return IterativeFactor(products)
    try:
        factor = make_cholesky(products)
    except MemoryNeededError:
        return IterativeFactor(products)
    if not (two_scalars and isinstance(factor, SparseFactor)) or is_nested(products):
        return factor
    return IterativeFactor(products) if sparse_time(factor) > LONG else factor


def make_cholesky(products: CrossProducts, chosen: str = "auto") -> CholeskyFactor:
    """Return the exact factor for a structure: dense, Schur or sparse; "exact" is "auto"."""
    if chosen not in ("auto", "exact"):
        return _chosen(products, chosen)
    layout = products.layout
    if len(layout) == 1:
        return SchurFactor(products)
    if layout.q <= SMALL_Q:
        return DenseFactor(products)
    if is_nested(products):
        return sparse_factor(products)
    remainder = layout.q - layout.offsets[1]
    if remainder <= LARGEST_REMAINDER:
        dense_time = schur_time(products)
        if dense_time < CHEAP or fills(products):
            return _schur(products)
        factor = sparse_factor(products)
        slower = sparse_time(factor) > dense_time
        return _schur(products) if slower and fits(_dense_bytes(remainder)) else factor
    if fills(products):  # half of the remainder is in L: no analysis is needed to say so
        require(products, SPARSE_ENTRY * float(remainder) ** 2 / 2)
    return _not_too_large(sparse_factor(products))


def is_long(products: CrossProducts) -> bool:
    """Tell whether an exact factor is foreseen to take long, and no sparse one to be quick."""
    remainder = products.layout.q - products.layout.offsets[1]
    most = remainder * sum(len(pair.rows) for pair in products.pairs.values())
    if remainder**3 / BLAS3_RATE + most / SCATTER_RATE < LONG:  # whatever its pattern is
        return False
    return schur_time(products) > LONG and fills(products) and not is_nested(products)


def fills(products: CrossProducts) -> bool:
    """Tell whether eliminating the first block fills the remainder entirely."""
    layout = products.layout
    return scatter_products(products) > FILLING * float(layout.q - layout.offsets[1]) ** 2


def _chosen(products: CrossProducts, chosen: str) -> CholeskyFactor:
    """Return the exact factor of a name, unless it is too large."""
    q = products.layout.q
    if chosen == "dense":
        require(products, _dense_bytes(q))
        return DenseFactor(products)
    if chosen == "schur":
        return _schur(products)
    if chosen == "cholmod" and not cholmod.library():
        raise MissingLibraryError(
            'factor="cholmod" is by scikit-sparse 0.4, which is not installed: '
            "pip install 'mixef[cholmod]', or factor=\"simplicial\", our own sparse factor"
        )
    sparse_class = CholmodFactor if chosen == "cholmod" else SimplicialFactor
    return _not_too_large(sparse_class(products))


def _dense_bytes(order: int) -> float:
    return DENSE_CELL * float(order) ** 2


def _not_too_large(factor: SparseFactor) -> SparseFactor:
    require(factor.products, SPARSE_ENTRY * float(factor.column_counts().sum()))
    return factor


def _schur(products: CrossProducts) -> SchurFactor:
    layout = products.layout
    needed = _dense_bytes(layout.q - layout.offsets[1])
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
