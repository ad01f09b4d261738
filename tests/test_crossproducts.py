"""Cross-products by blocks, the layout of the random effects, and the scaling of columns."""

import itertools

import numpy as np
import pytest
from structures import (
    STRUCTURES,
    close,
    dense_Lambda,
    dense_Z,
    level_blocks,
    pair_blocks,
    rows_of,
    templates,
)

from mixef.linalg import crossproducts, level_sums, pairs, rows
from mixef.linalg.level_sums import LevelSums
from mixef.linalg.pairs import PairOrder, PairSums
from mixef.linalg.rows import GroupDesign, RowPieces
from mixef.linalg.standardize import (
    independent_columns,
    orthonormal_columns,
    scale_columns,
    triangular_basis,
)


@pytest.mark.parametrize("storage", ["blocks", "dense"])
@pytest.mark.parametrize("name", STRUCTURES)
def test_cross_products(name, storage, monkeypatch):
    """By sparse blocks, and by a dense Z as small models have it."""
    monkeypatch.setattr(crossproducts, "SMALL_Z", 0 if storage == "blocks" else 10**9)
    monkeypatch.setattr(crossproducts, "SMALL_Q", 130 if storage == "blocks" else 10**9)
    rows = rows_of(name)
    products = crossproducts.crossproducts(rows)
    Z, X, y, layout = dense_Z(rows), rows.X, rows.y, products.layout
    ZtZ = products.ZtZ if isinstance(products.ZtZ, np.ndarray) else products.ZtZ.toarray()
    close(ZtZ, Z.T @ Z)
    for i, blocks in enumerate(products.diagonal):
        close(blocks, level_blocks(layout, i, Z.T @ Z))
    if storage == "blocks":
        assert set(products.pairs) == set(itertools.combinations(range(len(layout)), 2))
    close(products.ZtX, Z.T @ X)
    close(products.Zty, Z.T @ y)
    close(products.XtX, X.T @ X)
    close(products.Xty, X.T @ y)
    assert products.yty == pytest.approx(y @ y, rel=1e-14)
    for (i, j), pair in products.pairs.items():
        assert (np.diff(pair.rows * layout.n_levels[j] + pair.cols) > 0).all()  # each pair once
        close(pair.blocks, pair_blocks(layout, i, j, pair, Z.T @ Z))


@pytest.mark.parametrize("name", STRUCTURES)
def test_rows(name):
    rows = rows_of(name)
    Z, rng = dense_Z(rows), np.random.default_rng(1)
    V, B = rng.normal(size=(200, 3)), rng.normal(size=(rows.layout.q, 3))
    close(rows.Zt_times(V), Z.T @ V)
    rest = np.column_stack([rows.X, rows.y]) - Z @ B
    for ours, expected in zip(rows.residual_products(B), (Z.T @ rest, rest.T @ rest), strict=True):
        close(ours, expected)


@pytest.mark.parametrize("name", STRUCTURES)
def test_the_layout_multiplies_by_lambda(name):
    layout = rows_of(name).layout
    lams = templates(layout.widths, "random")
    Lambda = dense_Lambda(layout, lams)
    rng = np.random.default_rng(2)
    for v in (rng.normal(size=layout.q), rng.normal(size=(layout.q, 3))):
        close(layout.multiply(lams, v), Lambda @ v)
        close(layout.multiply(lams, v, transpose=True), Lambda.T @ v)


# Scaling


def conditioned(n, k, condition, seed=0):
    """Random columns whose singular values fall from 1 to 1 / condition."""
    rng = np.random.default_rng(seed)
    left = np.linalg.qr(rng.normal(size=(n, k)))[0]
    right = np.linalg.qr(rng.normal(size=(k, k)))[0]
    return left * np.geomspace(1, 1 / condition, k) @ right


@pytest.mark.parametrize("condition", [1.0, 1e2, 1e5, 1e9])
@pytest.mark.parametrize("k", [1, 2, 6])
def test_a_triangular_basis_makes_columns_orthonormal(k, condition):
    V = conditioned(50, k, condition) * np.geomspace(1e-30, 1e30, k)
    R = triangular_basis(V)
    assert (R.diagonal() > 0).all()
    np.testing.assert_array_equal(R, np.triu(R))
    norms = np.linalg.norm(V, axis=0)
    Q = (V / norms) @ np.linalg.inv(R / norms)
    # Rounding of V / norms grows by the condition number at most.
    np.testing.assert_allclose(Q.T @ Q, np.eye(k), atol=1e-14 * max(condition, 100))


@pytest.mark.parametrize("k", [0, 1, 4])
def test_orthonormal_columns_and_the_way_back(k):
    X = conditioned(40, k, 100.0) if k else np.empty((40, 0))
    Q, basis = orthonormal_columns(X)
    close(Q.T @ Q, 40 * np.eye(k))
    beta = np.arange(1.0, k + 1)
    close(X @ basis.back(beta), Q @ beta)


X = np.column_stack([np.ones(30), np.arange(30.0), np.arange(30.0) ** 2])
DEPENDENT = {
    "independent": (X, [0, 1, 2]),
    "a constant": (np.column_stack([X[:, 0], 3 * X[:, 0], X[:, 1]]), [0, 2]),
    "zeros": (np.column_stack([np.zeros(30), X[:, 1]]), [1]),
    "a sum": (np.column_stack([X, X[:, 1] + X[:, 2]]), [0, 1, 2]),
    "the earlier stays": (np.column_stack([X[:, 1] + X[:, 2], X[:, 1], X[:, 2]]), [0, 1]),
    "far from zero": (np.column_stack([X[:, 0], X[:, 1] + 1e9]), [0, 1]),
    "nothing but rounding": (np.column_stack([X[:, 0], 1 + 1e-15 * X[:, 1]]), [0]),
    "units apart": (X * [1e-60, 1.0, 1e60], [0, 1, 2]),
    "wide": (np.random.default_rng(0).normal(size=(4, 7)), [0, 1, 2, 3]),
    "empty": (np.empty((5, 0)), []),
}


@pytest.mark.parametrize(("columns", "kept"), DEPENDENT.values(), ids=DEPENDENT)
def test_independent_columns_are_the_earliest(columns, kept):
    assert independent_columns(columns).tolist() == kept


@pytest.mark.parametrize("invariance", ["triangular", "diagonal", "scalar"])
def test_columns_are_scaled_as_far_as_a_structure_allows(invariance):
    V = conditioned(60, 3, 50.0) * [1.0, 1e6, 1e-6]
    scaled, basis = scale_columns(V, invariance)
    np.testing.assert_allclose(scaled @ basis.R, V, rtol=1e-12)
    square = np.einsum("ij,ij->j", scaled, scaled) / 60
    if invariance == "scalar":
        assert len(set(basis.R.diagonal())) == 1
        assert square.mean() == pytest.approx(1, rel=1e-14)
    else:
        np.testing.assert_allclose(square, 1, rtol=1e-10)
    is_diagonal = np.array_equal(basis.R, np.diag(basis.R.diagonal()))
    assert is_diagonal == (invariance != "triangular")


def test_dependent_random_columns_are_scaled_one_by_one():
    V = np.column_stack([X[:, 0], 5 * X[:, 0], np.zeros(30)])
    scaled, basis = scale_columns(V, "triangular")
    np.testing.assert_array_equal(basis.R, np.diag([1.0, 5.0, 1.0]))
    np.testing.assert_array_equal(scaled @ basis.R, V)


# Pieces of rows


@pytest.fixture
def small_pieces(monkeypatch):
    monkeypatch.setattr(rows, "FEW", 0)
    monkeypatch.setattr(rows, "LEAST", 20)
    monkeypatch.setattr(rows, "MOST", 20)


@pytest.mark.parametrize("weighted", [False, True])
@pytest.mark.parametrize("scaled", [False, True])
def test_pieces_are_the_whole(weighted, scaled, small_pieces):
    rng = np.random.default_rng(4)
    V = rng.normal(size=(57, 4))
    root = rng.uniform(0.5, 2.0, 57) if weighted else None
    R = np.triu(rng.normal(size=(4, 4))) + 4 * np.eye(4) if scaled else None
    pieces = RowPieces(V, root, R)
    assert len(list(pieces)) > 5
    whole = V * (root[:, None] if weighted else 1.0) @ (np.linalg.inv(R) if scaled else np.eye(4))
    close(pieces.whole(), whole)
    R = triangular_basis(pieces)
    close(R.T @ R, whole.T @ whole)


@pytest.mark.parametrize("condition", [1e2, 1e5, 1e9])
def test_a_basis_by_pieces_is_as_exact(condition, small_pieces):
    V = conditioned(90, 6, condition)
    assert len(list(RowPieces(V))) > 5
    Q, _ = orthonormal_columns(V)
    # Rounding of V grows by the condition number at most.
    np.testing.assert_allclose(Q.T @ Q / 90, np.eye(6), atol=1e-14 * max(condition, 100))


def test_dependent_columns_are_found_by_pieces(small_pieces):
    rng = np.random.default_rng(5)
    f, g = rng.integers(0, 4, 300), rng.integers(0, 3, 300)
    x = 1e6 + rng.normal(size=300)
    indicators = [f == k for k in range(4)] + [g == k for k in range(3)]
    V = np.column_stack([np.ones(300), *indicators, x, x + 1e3, np.zeros(300)]).astype(float)
    # An intercept and all levels of both; a shift of a column is known from it and the intercept.
    assert independent_columns(V).tolist() == [0, 1, 2, 3, 5, 6, 8]


# Sums over levels and pairs of levels


def two_factors(n=500, sizes=(40, 7)):
    rng = np.random.default_rng(2)
    codes = [rng.integers(0, k - 1, n).astype(np.int32) for k in sizes]  # the last has no row
    z = [rng.normal(size=(n, s)) for s in (2, 3)]
    table = np.zeros((*sizes, 2, 3))
    np.add.at(table, tuple(codes), z[0][:, :, None] * z[1][:, None, :])
    return codes, z, table


@pytest.mark.parametrize("size", [1, 33, 1000])
def test_rows_in_the_order_of_pairs(size, monkeypatch):
    monkeypatch.setattr(pairs, "ROWS", size)
    codes, z, table = two_factors()
    order = PairOrder.of(*codes, table.shape[:2])
    key = order.rows * table.shape[1] + order.cols
    assert (np.diff(key) > 0).all()
    assert set(key) == set(codes[0] * table.shape[1] + codes[1])
    assert sorted(order.order) == list(range(500))
    close(order.sums(lambda rows: (z[0][rows], z[1][rows])), table[order.rows, order.cols])


@pytest.mark.parametrize("most", [0.0, 1e9])  # a table of all pairs, or a list of those that occur
@pytest.mark.parametrize("size", [1, 33, 1000])
def test_pairs_of_rows_that_come_some_at_a_time(size, most, monkeypatch):
    monkeypatch.setattr(pairs, "TABLE", most)
    monkeypatch.setattr(pairs, "ROWS", 2)
    codes, z, table = two_factors()
    sums = PairSums(table.shape[:2], table.shape[2:], 500)
    for start in range(0, 500, size):
        some = slice(start, start + size)
        sums.add(codes[0][some], codes[1][some], z[0][some], z[1][some])
    rows, cols, blocks = sums.total()
    order = PairOrder.of(*codes, table.shape[:2])
    np.testing.assert_array_equal((rows, cols), (order.rows, order.cols))
    close(blocks, table[rows, cols])


@pytest.mark.parametrize("many", [0, 4, 10**6])
@pytest.mark.parametrize("size", [5, 100, 500])
def test_sums_over_levels_of_rows_that_come_some_at_a_time(size, many, monkeypatch):
    monkeypatch.setattr(level_sums, "MANY_ROWS", many)
    codes, z, _ = two_factors()
    both = np.column_stack([z[0], z[1]])
    expected = np.zeros((40, 2, 5))
    np.add.at(expected, codes[0], z[0][:, :, None] * both[:, None])
    sums = LevelSums(40, 2, 3)
    for start in range(0, 500, size):
        some = slice(start, start + size)
        sums.add(GroupDesign(codes[0][some], 40, z[0][some]), z[1][some])
    close(sums.total(), expected)
