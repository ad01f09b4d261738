"""The inverse on the pattern of a factor: flat trees, the compiled loop, and dense algebra."""

import numpy as np
import pytest
from scipy import sparse
from structures import STRUCTURES, TEMPLATES, rows_of, templates

from mixef.linalg import cholmod, choose, crossproducts, takahashi
from mixef.linalg.cholmod import CholmodFactor
from mixef.linalg.kernels import compiled
from mixef.linalg.takahashi import flat_tree


def factor_of(name, kind, monkeypatch):
    monkeypatch.setattr(crossproducts, "SMALL_Z", 0)
    products = crossproducts.crossproducts(rows_of(name))
    factor = CholmodFactor(products)
    factor.update(templates(products.layout.widths, kind))
    return factor


def lower_factor(factor):
    L = factor._factor.L()
    L.sort_indices()
    return L


@pytest.mark.parametrize("kind", TEMPLATES)
@pytest.mark.parametrize("name", STRUCTURES)
def test_both_ways_are_the_dense_inverse(name, kind, monkeypatch):
    monkeypatch.setattr(takahashi, "MOST_BATCHES", 10_000)
    L = lower_factor(factor_of(name, kind, monkeypatch))
    dense = np.linalg.inv((L @ L.T).toarray())
    rows, cols = L.indices, np.repeat(np.arange(L.shape[0]), np.diff(L.indptr))
    expected = dense[rows, cols]
    tree = flat_tree(L)
    loop = np.empty_like(L.data)
    compiled()["selected_inverse"](L.indptr, L.indices, L.data, loop)
    for found in (tree.inverse(L.data), loop):
        # Condition numbers of 1e4 times rounding.
        np.testing.assert_allclose(found, expected, rtol=0, atol=1e-11 * np.abs(dense).max())


def test_new_values_on_the_same_tree(monkeypatch):
    factor = factor_of("three nested", "random", monkeypatch)
    tree = flat_tree(lower_factor(factor))
    factor.update(templates(factor.layout.widths, "identity"))
    L = lower_factor(factor)
    expected = flat_tree(L).inverse(L.data)
    np.testing.assert_array_equal(tree.inverse(L.data), expected)


@pytest.mark.parametrize("name", ["nested", "nested vector", "three nested"])
def test_nested_factors_have_flat_trees_and_need_no_compiled_loop(name, monkeypatch):
    def refuse():
        raise AssertionError("the compiled loop was asked for")

    monkeypatch.setattr(cholmod, "compiled", refuse)
    monkeypatch.setattr(choose, "SMALL_Q", 0)
    monkeypatch.setattr(crossproducts, "SMALL_Z", 0)
    products = crossproducts.crossproducts(rows_of(name))
    assert choose.is_nested(products)
    factor = choose.make_factor(products)
    assert type(factor) is CholmodFactor
    factor.update(templates(products.layout.widths, "random"))
    factor.trace_blocks()


@pytest.mark.parametrize("name", ["one scalar", "one vector", "crossed", "three sparse"])
def test_other_structures_are_not_nested(name, monkeypatch):
    monkeypatch.setattr(crossproducts, "SMALL_Z", 0)
    assert not choose.is_nested(crossproducts.crossproducts(rows_of(name)))


def test_deep_and_dense_trees_have_no_plan(monkeypatch):
    chain = sparse.csc_matrix(sparse.diags([np.ones(100), np.ones(99)], [0, -1]))
    assert flat_tree(chain) is None  # a hundred levels, one column each
    star = sparse.csc_matrix(np.tril(np.eye(30) + np.eye(30)[[-1]].T @ np.ones((1, 30))))
    assert flat_tree(star) is not None
    monkeypatch.setattr(takahashi, "MOST_CELLS", 10)
    assert flat_tree(star) is None
