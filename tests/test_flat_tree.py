"""Flat elimination trees against the compiled loops and against dense algebra."""

import tracemalloc

import numpy as np
import pytest
from scipy import sparse
from structures import SPARSE, STRUCTURES, TEMPLATES, rows_of, sparse_factors, templates

from mixef.linalg import choose, crossproducts, flat_tree, ordering, simplicial, sparse_factor
from mixef.linalg.dense import DenseFactor
from mixef.linalg.kernels import compiled
from mixef.linalg.ordering import is_nested
from mixef.linalg.rows import GroupDesign, Rows
from mixef.linalg.simplicial import SimplicialFactor

by_factor = pytest.mark.parametrize("cls", sparse_factors())


def factor_of(cls, name, kind, monkeypatch):
    monkeypatch.setattr(crossproducts, "SMALL_Z", 0)
    products = crossproducts.crossproducts(rows_of(name))
    factor = cls(products)
    factor.update(templates(products.layout.widths, kind))
    return factor


@pytest.mark.parametrize("kind", TEMPLATES)
@pytest.mark.parametrize("name", STRUCTURES)
@by_factor
def test_both_ways_are_dense_algebra(cls, name, kind, monkeypatch):
    monkeypatch.setattr(flat_tree, "MOST_BATCHES", 10_000)
    L = factor_of(cls, name, kind, monkeypatch).lower()
    start, rows, q = L.indptr, L.indices, L.shape[0]
    M = (L @ L.T).toarray()
    dense = np.linalg.inv(M)
    cols = np.repeat(np.arange(q), np.diff(start))
    tree = flat_tree.flat_tree(start, rows)
    loop = np.empty_like(L.data)
    compiled()["selected_inverse"](start, rows, L.data, loop)
    for found in (tree.inverse(L.data), loop):
        # Condition numbers of 1e4 times rounding.
        expected = dense[rows, cols]
        np.testing.assert_allclose(found, expected, rtol=0, atol=1e-11 * np.abs(dense).max())
    values = M[rows, cols]
    assert tree.factor(values)
    np.testing.assert_allclose(values, L.data, rtol=0, atol=1e-12 * np.abs(L.data).max())
    b = np.random.default_rng(1).normal(size=(q, 3))
    for solve, kernel in [
        (tree.solve, "solve_columns"),
        (tree.solve_transposed, "solve_columns_transposed"),
    ]:
        x, expected = b.copy(), b.copy()
        solve(values, tree.below(values), x)
        compiled()[kernel](start, rows, L.data, expected)
        np.testing.assert_allclose(x, expected, rtol=0, atol=1e-11 * np.abs(expected).max())


@by_factor
def test_new_values_on_the_same_tree(cls, monkeypatch):
    factor = factor_of(cls, "three nested", "random", monkeypatch)
    L, q = factor.lower(), factor.layout.q
    tree = flat_tree.flat_tree(L.indptr, L.indices)
    tree.solve(L.data, tree.below(L.data), np.ones((q, 1)))
    factor.update(templates(factor.layout.widths, "identity"))
    L = factor.lower()
    fresh = flat_tree.flat_tree(L.indptr, L.indices)
    np.testing.assert_array_equal(tree.inverse(L.data), fresh.inverse(L.data))
    M, cols = (L @ L.T).toarray(), np.repeat(np.arange(q), np.diff(L.indptr))
    values, one, two = M[L.indices, cols], np.ones((q, 1)), np.ones((q, 1))
    tree.factor(values)
    tree.solve(values, tree.below(values), one)
    fresh.solve(values, fresh.below(values), two)
    np.testing.assert_array_equal(one, two)


def test_a_matrix_that_is_not_positive_definite_is_noticed(monkeypatch):
    L = factor_of(SimplicialFactor, "three nested", "random", monkeypatch).lower()
    tree = flat_tree.flat_tree(L.indptr, L.indices)
    for bad in (-1.0, np.nan):
        values = L.data.copy()
        values[L.indptr[5]] = bad
        assert not tree.factor(values)


@pytest.mark.parametrize("name", ["nested", "nested vector", "three nested"])
@by_factor
def test_nested_factors_have_flat_trees_and_need_no_compiled_loop(cls, name, monkeypatch):
    def refuse():
        raise AssertionError("the compiled loop was asked for")

    for module in (ordering, simplicial, sparse_factor):
        monkeypatch.setattr(module, "compiled", refuse)
    monkeypatch.setattr(choose, "SMALL_Q", 0)
    monkeypatch.setattr(crossproducts, "SMALL_Z", 0)
    products = crossproducts.crossproducts(rows_of(name))
    assert is_nested(products)
    assert type(choose.make_factor(products)) is SPARSE
    factor = cls(products)
    factor.update(templates(products.layout.widths, "random"))
    factor.solve(np.ones((products.layout.q, 2)))
    factor.trace_blocks()


@pytest.mark.parametrize("name", ["one scalar", "one vector", "crossed", "three sparse"])
def test_other_structures_are_not_nested(name, monkeypatch):
    monkeypatch.setattr(crossproducts, "SMALL_Z", 0)
    assert not is_nested(crossproducts.crossproducts(rows_of(name)))


def test_deep_and_dense_trees_have_no_plan(monkeypatch):
    def plan(L):
        return flat_tree.flat_tree(L.indptr, L.indices)

    chain = sparse.csc_matrix(sparse.diags([np.ones(100), np.ones(99)], [0, -1]))
    assert plan(chain) is None  # a hundred levels, one column each
    star = sparse.csc_matrix(np.tril(np.eye(30) + np.eye(30)[[-1]].T @ np.ones((1, 30))))
    assert plan(star) is not None
    monkeypatch.setattr(flat_tree, "MOST_CELLS", 10)
    assert plan(star) is None


def test_a_level_without_rows_leaves_factors_nested(monkeypatch):
    """And a level of the finer factor in two of the coarser one does not."""
    monkeypatch.setattr(crossproducts, "SMALL_Z", 0)
    fine = np.array([0, 0, 1, 2, 4, 4])
    coarse = np.array([0, 0, 0, 1, 1, 1])

    def products(fine, coarse):
        groups = [GroupDesign(fine, 5, np.ones((6, 1))), GroupDesign(coarse, 2, np.ones((6, 1)))]
        return crossproducts.crossproducts(Rows(groups, np.ones((6, 1)), np.ones(6)))

    nested = products(fine, coarse)
    assert is_nested(nested)
    factor = SimplicialFactor(nested)
    factor.update([np.eye(1), np.eye(1)])
    M = nested.ZtZ + np.eye(7)
    np.testing.assert_allclose(factor.solve(np.eye(7)), np.linalg.inv(M), atol=1e-14)
    # Five pairs, as there are levels: but the last level lies in both, and one is empty.
    assert not is_nested(products(np.array([0, 1, 2, 2, 4, 4]), np.array([0, 0, 0, 1, 0, 1])))


@by_factor
@pytest.mark.parametrize("kind", ["zero", "rank one", "singular", "below"])
@pytest.mark.parametrize("name", STRUCTURES)
def test_traces_of_singular_templates_on_flat_and_on_deep_trees(cls, name, kind, monkeypatch):
    monkeypatch.setattr(crossproducts, "SMALL_Z", 0)
    products = crossproducts.crossproducts(rows_of(name))
    lams, dense = templates(products.layout.widths, kind), DenseFactor(products)
    dense.update(lams)
    expected = dense.trace_blocks()
    for batches in (0, 10_000):
        monkeypatch.setattr(flat_tree, "MOST_BATCHES", batches)
        factor = cls(products)
        factor.update(lams)
        for ours, theirs in zip(factor.trace_blocks(), expected, strict=True):
            # Condition numbers of 1e4 times rounding.
            np.testing.assert_allclose(ours, theirs, rtol=0, atol=1e-11 * np.abs(theirs).max())


@pytest.mark.parametrize("lam", [(0.0, 0.5), (1.0, 0.0), (0.0, 0.0)])
@pytest.mark.parametrize("n_levels", [(12_000, 600), (1500, 1500)])
@by_factor
def test_traces_of_vanished_terms_hold_no_dense_columns(cls, n_levels, lam):
    """Nested and crossed sparsely: a block of dense columns would be (q, 512)."""
    rng = np.random.default_rng(4)
    n = 24_000
    first = rng.permutation(np.arange(n) % n_levels[0])
    crossed = (first + rng.integers(0, 3, n)) % n_levels[1]
    second = first % n_levels[1] if n_levels[0] > n_levels[1] else crossed
    groups = [
        GroupDesign(codes, size, np.ones((n, 1)))
        for codes, size in zip((first, second), n_levels, strict=True)
    ]
    factor = cls(crossproducts.crossproducts(Rows(groups, np.ones((n, 1)), np.ones(n))))
    lams = [np.array([[value]]) for value in lam]
    factor.update(lams)
    traces = factor.trace_blocks()
    tracemalloc.start()
    factor.update(lams)
    factor.trace_blocks()
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    # A few arrays like L (one takes 16 bytes an entry), all the same: it fills in where crossed.
    assert peak < 12 * 16 * factor.lower().nnz
    for i, trace in enumerate(traces):
        ends = []
        for step in (0.0, 1e-8):
            squares = [value**2 + step * (j == i) for j, value in enumerate(lam)]
            factor.update([np.sqrt([[square]]) for square in squares])
            ends.append(factor.ldL2)
        # d log|M| / d lam^2 by a one-sided difference, which curves by 1e-8 times some 20 rows.
        assert trace[0, 0] == pytest.approx((ends[1] - ends[0]) / 1e-8, rel=1e-5)
