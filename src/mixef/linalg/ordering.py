"""The order in which the random effects are eliminated, so that the factor stays sparse."""

from __future__ import annotations

import numpy as np
from scipy import sparse

from mixef.linalg.crossproducts import CrossProducts
from mixef.linalg.kernels import compiled


def is_nested(products: CrossProducts) -> bool:
    """Tell whether several factors are nested: every level lies in one level of each larger one.

    Then nothing fills in, and the elimination tree is as deep as there are factors.
    """
    n_levels = products.layout.n_levels
    return bool(products.pairs) and all(
        np.bincount(pair.rows if n_levels[i] >= n_levels[j] else pair.cols).max() == 1
        for (i, j), pair in products.pairs.items()
    )


def elimination_order(products: CrossProducts) -> np.ndarray:
    """Return the random effects (q,), first to last.

    Nested factors go from the finest to the coarsest, column by column: nothing fills in, and
    what can be worked on together stands together. All others go level by level, in the order of
    approximate minimum degree.
    """
    layout = products.layout
    if is_nested(products):
        finest_first = sorted(range(len(layout)), key=lambda i: -layout.n_levels[i])
        effects = np.arange(layout.q)
        return np.concatenate([layout.by_level(i, effects).T.ravel() for i in finest_first])
    first = np.cumsum([0, *layout.n_levels])
    one = [first[i] + pair.rows for (i, _), pair in products.pairs.items()]
    two = [first[j] + pair.cols for (_, j), pair in products.pairs.items()]
    size = np.repeat(layout.widths, layout.n_levels)
    order = least_fill(np.concatenate([*one, []]), np.concatenate([*two, []]), size)
    start = np.cumsum(size) - size
    # The columns of each level, one after the other.
    step = np.arange(layout.q) - np.repeat(np.cumsum(size[order]) - size[order], size[order])
    places: np.ndarray = np.repeat(start[order], size[order]) + step
    return places


def least_fill(row: np.ndarray, col: np.ndarray, weight: np.ndarray) -> np.ndarray:
    """Order the nodes of a graph by approximate minimum degree.

    Parameters
    ----------
    row, col : ndarray of int (m,)
        The ends of the edges: each edge once, none from a node to itself.
    weight : ndarray of int (n,)
        How many columns of the matrix each node stands for.
    """
    n = len(weight)
    both = np.concatenate([row, col]).astype(np.int64), np.concatenate([col, row]).astype(np.int64)
    graph = sparse.csr_array((np.ones(len(both[0]), dtype=np.int8), both), shape=(n, n))
    start, adjacent = graph.indptr.astype(np.int64), graph.indices.astype(np.int64)
    order: np.ndarray = compiled()["minimum_degree"](start, adjacent, weight.astype(np.int64))
    return order
