"""Which factor a structure gets: the one with the smallest predicted time."""

from __future__ import annotations

import numpy as np

from mixef.linalg.cholmod import CholmodFactor
from mixef.linalg.crossproducts import SMALL_Q, CrossProducts
from mixef.linalg.dense import DenseFactor
from mixef.linalg.factor import Factor
from mixef.linalg.schur import SchurFactor

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
    """Return the factor for a structure: dense, Schur or CHOLMOD.

    The layout's first block is the one that Schur eliminates.
    """
    layout = products.layout
    if layout.q <= SMALL_Q:
        return DenseFactor(products)
    if is_nested(products):
        return CholmodFactor(products)
    remainder = layout.q - layout.offsets[1]
    if remainder <= LARGEST_REMAINDER:
        dense_time = schur_time(products)
        if dense_time < CHEAP or scatter_products(products) > FILLING * remainder**2:
            return SchurFactor(products)
        sparse_factor = CholmodFactor(products)
        if cholmod_time(sparse_factor) > dense_time:
            return SchurFactor(products)
        return sparse_factor
    return CholmodFactor(products)


def is_nested(products: CrossProducts) -> bool:
    """Tell whether several factors are nested: every level lies in one level of each larger one.

    Then nothing fills in, and the elimination tree is as deep as there are factors.
    """
    n_levels = products.layout.n_levels
    return bool(products.pairs) and all(
        len(pair.rows) == max(n_levels[i], n_levels[j]) for (i, j), pair in products.pairs.items()
    )


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


def cholmod_time(factor: CholmodFactor) -> float:
    """Predict the seconds of one evaluation with gradient by CHOLMOD.

    The factorization runs on BLAS, the selected inverse is a scalar loop over as many products.
    """
    products = float((factor.column_counts().astype(float) ** 2).sum())
    return products / BLAS3_RATE + products / SCATTER_RATE
