"""Cross-products of simulated grouping factors, and the same things as dense matrices."""

import inspect

import numpy as np
import pytest
from dense_gaussian import random_columns

from mixef.linalg import cholmod, flat_tree
from mixef.linalg.cholmod import CholmodFactor
from mixef.linalg.coupling import DenseCoupling, SparseCoupling
from mixef.linalg.factor import SINGULAR, CholeskyFactor
from mixef.linalg.rows import GroupDesign, Rows
from mixef.linalg.schur import SchurFactor
from mixef.linalg.simplicial import SimplicialFactor
from mixef.linalg.sparse_factor import SparseFactor

# Levels and columns of each factor; the first has the most random effects, as `block_structure`
# arranges; codes are crossed at random, or nested in the factor before.
STRUCTURES = {
    "one scalar": ([12], [1], "crossed"),
    "one vector": ([12], [3], "crossed"),
    "crossed": ([20, 7], [1, 1], "crossed"),
    "crossed vector": ([20, 7], [2, 3], "crossed"),
    "crossed sparsely": ([45, 30], [1, 2], "sparse"),
    "crossed sparsely, vector first": ([45, 30], [2, 1], "sparse"),
    "nested": ([24, 6], [1, 1], "nested"),
    "nested vector": ([24, 6], [2, 2], "nested"),
    "three crossed": ([15, 9, 5], [2, 1, 3], "crossed"),
    "three nested": ([24, 8, 4], [1, 2, 1], "nested"),
    "three sparse": ([40, 25, 20], [1, 1, 2], "sparse"),
}
TEMPLATES = ["identity", "random", "negative", "zero", "rank one", "singular", "above", "below"]


def codes_of(levels, kind, n, rng):
    if kind == "nested":
        first = np.r_[np.arange(levels[0]), rng.integers(0, levels[0], n - levels[0])]
        return [first % size for size in levels]
    if kind == "sparse":  # every level of one factor meets only one or two of another
        first = np.r_[np.arange(levels[0]), rng.integers(0, levels[0], n - levels[0])]
        return [first, *((first + rng.integers(0, 2, n)) % size for size in levels[1:])]
    return [rng.integers(0, size, n) for size in levels]


def rows_of(name, seed=0):
    """The rows of a structure: 200, with two columns of X."""
    levels, widths, kind = STRUCTURES[name]
    rng = np.random.default_rng(seed)
    n = 200
    codes = codes_of(levels, kind, n, rng)
    zs = [np.column_stack([np.ones(n), rng.normal(size=(n, s - 1))]) for s in widths]
    groups = [
        GroupDesign(c, size, z / np.sqrt(2)) for c, size, z in zip(codes, levels, zs, strict=True)
    ]
    return Rows(groups, rng.normal(size=(n, 2)), rng.normal(size=n))


def templates(widths, kind, seed=0):
    rng = np.random.default_rng(seed)
    out = []
    for s in widths:
        lam = 0.8 * np.eye(s) + 0.4 * np.tril(rng.normal(size=(s, s)))
        if kind == "identity":
            lam = np.eye(s)
        elif kind == "negative":
            lam[-1, -1] *= -1
        elif kind == "zero":
            lam[:] = 0
        elif kind == "rank one":
            lam[:, 1:] = 0
        elif kind == "singular":
            lam[-1, -1] = 0
        elif kind in ("above", "below"):
            left, size, right = np.linalg.svd(lam)
            size[-1] = SINGULAR * (1.01 if kind == "above" else 0.99)
            lam = np.linalg.qr((left * size @ right).T)[1].T
        out.append(lam)
    return out


def dense_Z(rows):
    return np.hstack([random_columns(g.codes, g.n_levels, g.z) for g in rows.groups])


def dense_Lambda(layout, lams):
    out = np.zeros((layout.q, layout.q))
    for i, lam in enumerate(lams):
        out[layout.slice(i), layout.slice(i)] = np.kron(np.eye(layout.n_levels[i]), lam)
    return out


def level_blocks(layout, i, M):
    n, s = layout.n_levels[i], layout.widths[i]
    block = M[layout.slice(i), layout.slice(i)].reshape(n, s, n, s)
    return block[np.arange(n), :, np.arange(n), :]


def pair_blocks(layout, i, j, pair, M):
    """The blocks (m, s_i, s_j) of M (q, q) that belong to pairs of levels."""
    si, sj = layout.widths[i], layout.widths[j]
    block = M[layout.slice(i), layout.slice(j)]
    block = block.reshape(layout.n_levels[i], si, layout.n_levels[j], sj).swapaxes(1, 2)
    return block[pair.rows, pair.cols]


def close(ours, expected):
    """1e-10 of the largest: condition numbers up to 1e4 or so, times rounding."""
    scale = max(np.abs(expected).max(initial=0.0), 1e-300)
    np.testing.assert_allclose(ours, expected, rtol=0, atol=1e-10 * scale)


def factors():
    """Every class of exact factor that can be made here, found by itself."""
    waiting, found = [CholeskyFactor], []
    while waiting:
        cls = waiting.pop(0)
        waiting += cls.__subclasses__()
        if not inspect.isabstract(cls):
            found.append(cls)
    return [cls for cls in found if cls is not CholmodFactor or cholmod.library()]


def sparse_factors():
    """Those that hold a sparse L."""
    return [cls for cls in factors() if issubclass(cls, SparseFactor)]


#: The sparse factor of choice.
SPARSE = CholmodFactor if cholmod.library() else SimplicialFactor


def makers():
    """Every factor, found by itself, with the variants that a structure's size would choose."""
    variants = {
        CholmodFactor: [("simplicial",), ("supernodal",)],
        SchurFactor: [("sparse",), ("dense",), ("pairwise",)],
        SimplicialFactor: [("flat",), ("compiled",)],
    }
    for cls in factors():
        for variant in variants.get(cls, [()]):
            yield pytest.param(cls, variant, id="-".join([cls.__name__, *variant]))


def make(cls, variant, products, monkeypatch):
    if cls is SchurFactor:
        share = 2.0 if variant == ("sparse",) and len(products.layout) > 1 else 0.0
        monkeypatch.setattr("mixef.linalg.schur.DENSE_COUPLING", share)
        monkeypatch.setattr("mixef.linalg.schur.FEW_CELLS", 0)
        if variant == ("pairwise",):  # dense, without a dense copy of the cross-products
            monkeypatch.setattr("mixef.linalg.coupling.FEW_CELLS", 3)
            monkeypatch.setattr("mixef.linalg.coupling.FULL", 2.0)
            monkeypatch.setattr("mixef.linalg.coupling.SOME", 7)
        factor = cls(products)
        if len(products.layout) > 1:
            expected = SparseCoupling if variant == ("sparse",) else DenseCoupling
            assert isinstance(factor._coupling, expected)
        return factor
    if cls is SimplicialFactor:
        if variant == ("compiled",):
            monkeypatch.setattr(flat_tree, "MOST_BATCHES", 0)
        return cls(products)
    return cls(products, *variant)
