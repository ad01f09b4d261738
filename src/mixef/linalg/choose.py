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
# A coupling with this share of its cells occupied fills the remainder entirely.
NEARLY_FULL = 0.25
# A dense remainder beyond this size (3 GB) is not formed.
LARGEST_REMAINDER = 20_000


def make_factor(products: CrossProducts) -> Factor:
    """Return the factor for a structure: dense, Schur or CHOLMOD.

    The layout's first block is the one that Schur eliminates.
    """
    layout = products.layout
    if layout.q <= SMALL_Q:
        return DenseFactor(products)
    remainder = layout.q - layout.offsets[1]
    if remainder <= LARGEST_REMAINDER:
        dense_time = schur_time(products)
        if dense_time < CHEAP or coupling_fill(products) > NEARLY_FULL:
            return SchurFactor(products)
        sparse_factor = CholmodFactor(products)
        if cholmod_time(sparse_factor) > dense_time:
            return SchurFactor(products)
        return sparse_factor
    return CholmodFactor(products)


def schur_time(products: CrossProducts) -> float:
    """Predict the seconds of one evaluation with gradient by a dense remainder."""
    layout = products.layout
    remainder = layout.q - layout.offsets[1]
    per_level = np.zeros(layout.n_levels[0])
    for (i, j), pair in products.pairs.items():
        if i == 0:
            per_level += layout.widths[j] * np.bincount(pair.rows, minlength=len(per_level))
    scatter = float((per_level**2).sum()) * layout.widths[0]
    return remainder**3 / BLAS3_RATE + scatter / SCATTER_RATE


def coupling_fill(products: CrossProducts) -> float:
    """Return the share of the first block's coupling that is occupied."""
    layout = products.layout
    cells = sum(pair.blocks.size for (i, _), pair in products.pairs.items() if i == 0)
    return cells / (layout.offsets[1] * (layout.q - layout.offsets[1]))


def cholmod_time(factor: CholmodFactor) -> float:
    """Predict the seconds of one evaluation with gradient by CHOLMOD.

    The factorization runs on BLAS, the selected inverse is a scalar loop over as many products.
    """
    products = float((factor.column_counts().astype(float) ** 2).sum())
    return products / BLAS3_RATE + products / SCATTER_RATE
