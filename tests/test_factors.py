"""All factors against each other and against dense linear algebra, and their kernels.

1e-10 relative throughout: condition numbers of M up to 1e4 or so times rounding.
"""

import numpy as np
import pytest
import test_iterative
from scipy import sparse
from structures import (
    SPARSE,
    STRUCTURES,
    TEMPLATES,
    close,
    dense_Lambda,
    dense_Z,
    level_blocks,
    make,
    makers,
    pair_blocks,
    rows_of,
    sparse_factors,
    templates,
)

from mixef.linalg import cholmod, choose, crossproducts, kernels, small
from mixef.linalg.choose import make_factor, sparse_cholesky
from mixef.linalg.dense import DenseFactor
from mixef.linalg.factor import SINGULAR
from mixef.linalg.rows import GroupDesign, Rows
from mixef.linalg.schur import SchurFactor
from mixef.linalg.simplicial import SimplicialFactor


def blocks_of(name, monkeypatch):
    """Cross-products of a structure by sparse blocks, however small; and their rows."""
    monkeypatch.setattr(crossproducts, "SMALL_Z", 0)
    rows = rows_of(name)
    return crossproducts.crossproducts(rows), rows


@pytest.mark.parametrize("kind", TEMPLATES)
@pytest.mark.parametrize("name", STRUCTURES)
@pytest.mark.parametrize(("cls", "variant"), list(makers()))
def test_every_factor_is_dense_linear_algebra(cls, variant, name, kind, monkeypatch):
    products, rows = blocks_of(name, monkeypatch)
    layout, widths = products.layout, products.layout.widths
    lams = templates(widths, kind)
    Z, Lambda = dense_Z(rows), dense_Lambda(layout, lams)
    M = Lambda.T @ Z.T @ Z @ Lambda + np.eye(layout.q)
    C = np.linalg.inv(M)

    factor = make(cls, variant, products, monkeypatch)
    factor.update([np.eye(s) for s in widths])  # values are replaced, not added to
    factor.inverse_block(0)
    factor.update(lams)
    # log(1 + small) is known to rounding of 1, for each of q pivots.
    assert factor.ldL2 == pytest.approx(np.linalg.slogdet(M)[1], rel=1e-10, abs=1e-15 * layout.q)

    rng = np.random.default_rng(9)
    for rhs in (rng.normal(size=layout.q), rng.normal(size=(layout.q, 3))):
        half = factor.solve_L(rhs)
        close(half.T @ half, rhs.T @ C @ rhs)  # |L^-1 P rhs|^2, whatever the order inside
        close(factor.solve_Lt(half), C @ rhs)
    assert factor.solve_L(np.zeros((layout.q, 0))).shape == (layout.q, 0)

    ZVZ = Z.T @ Z - Z.T @ Z @ Lambda @ C @ Lambda.T @ Z.T @ Z

    def check_traces():
        for i, trace in enumerate(factor.trace_blocks()):
            expected = level_blocks(layout, i, ZVZ).sum(axis=0)
            # Beside 1e-10, what I - C loses where lam is inverted: eps / SINGULAR^2.
            scale = 1e-7 if kind == "above" else 1e-10
            np.testing.assert_allclose(trace, expected, rtol=0, atol=scale * np.abs(expected).max())

    def check_inverse():
        inverse = factor.inverse_pairs()
        for i, blocks in enumerate(inverse.diagonal):
            close(blocks, level_blocks(layout, i, C))
        assert list(inverse.pairs) == list(products.pairs)
        for (i, j), blocks in inverse.pairs.items():
            close(blocks, pair_blocks(layout, i, j, products.pairs[i, j], C))

    def check_solve():
        for rhs in (rng.normal(size=layout.q), rng.normal(size=(layout.q, 3))):
            close(factor.solve(rhs), C @ rhs)
        assert factor.solve(np.zeros((layout.q, 0))).shape == (layout.q, 0)

    check_solve()
    check_traces()
    check_solve()
    check_inverse()
    factor.update(lams)
    check_inverse()
    check_solve()
    check_traces()
    check_inverse()
    check_solve()

    for order in ([*range(len(layout))], [*range(len(layout))][::-1]):
        factor.update(lams)
        for i in order:
            close(factor.inverse_block(i), level_blocks(layout, i, C))
        check_solve()


@pytest.mark.parametrize("name", ["crossed vector", "crossed sparsely"])
def test_a_factor_that_was_inverted_says_so(name, monkeypatch):
    products, _ = blocks_of(name, monkeypatch)
    factor = SchurFactor(products)
    lams, rhs = templates(products.layout.widths, "random"), np.ones(products.layout.q)
    factor.update(lams)
    half = factor.solve_L(rhs)
    factor.inverse_pairs()
    for solve in (factor.solve_L, factor.solve_Lt):
        with pytest.raises(RuntimeError, match="call update"):
            solve(half)
    factor.update(lams)
    np.testing.assert_array_equal(factor.solve_L(rhs), half)


@pytest.mark.parametrize("name", [n for n, (levels, _, _) in STRUCTURES.items() if levels[0] < 90])
def test_a_small_model_is_factored_from_its_dense_cross_products(name, monkeypatch):
    """As from blocks: small models have no pairs of levels, but Z'Z at once."""
    products = crossproducts.crossproducts(rows_of(name))
    assert isinstance(products.ZtZ, np.ndarray) or products.layout.q > crossproducts.SMALL_Q
    blocks, _ = blocks_of(name, monkeypatch)
    lams = templates(products.layout.widths, "singular")
    one, two = DenseFactor(products), DenseFactor(blocks)
    one.update(lams)
    two.update(lams)
    assert one.ldL2 == pytest.approx(two.ldL2, rel=1e-12)
    for a, b in zip(one.trace_blocks(), two.trace_blocks(), strict=True):
        close(a, b)


def test_the_templates_of_the_grid_lie_on_both_sides_of_the_threshold():
    for widths in ([1], [2], [3]):
        assert all(small.singular_values(t)[-1] < SINGULAR for t in templates(widths, "below"))
        assert not any(small.singular_values(t)[-1] < SINGULAR for t in templates(widths, "above"))


@pytest.mark.parametrize("name", ["crossed sparsely", "three sparse", "nested vector"])
@pytest.mark.parametrize(
    ("cls", "variant"), [maker for maker in makers() if maker.values[0] in sparse_factors()]
)
def test_column_counts_are_those_of_the_factor(cls, variant, name, monkeypatch):
    products, _ = blocks_of(name, monkeypatch)
    factor = make(cls, variant, products, monkeypatch)
    factor.update(templates(products.layout.widths, "identity"))
    ZtZ = products.ZtZ if isinstance(products.ZtZ, np.ndarray) else products.ZtZ.toarray()
    # A level without rows has a diagonal block of zeros, which is stored all the same.
    blocks = dense_Lambda(products.layout, [np.ones((s, s)) for s in products.layout.widths])
    pattern = (np.abs(ZtZ) + blocks)[np.ix_(factor.order, factor.order)]
    expected = filled(pattern).sum(axis=0)
    np.testing.assert_array_equal(factor.column_counts(), expected)
    if variant != ("supernodal",):  # whose columns are padded with zeros
        np.testing.assert_array_equal(np.diff(factor.lower().indptr), expected)


@pytest.mark.parametrize("ordering", ["installed", "own"])
def test_a_sparse_cholesky_is_that_of_the_permuted_matrix(ordering, monkeypatch):
    if ordering == "own":
        monkeypatch.setattr(cholmod, "library", lambda: None)
    rng = np.random.default_rng(3)
    A = sparse.random(30, 30, density=0.1, random_state=rng)
    A = A @ A.T
    L, p = sparse_cholesky(A)
    close((L @ L.T).toarray(), (A.toarray() + np.eye(30))[np.ix_(p, p)])


# Kernels


def ragged(rng, levels=11, width=13, rows=2):
    """U by the occupied columns of each level, and U in full."""
    cols = [np.sort(rng.choice(width, rng.integers(0, 6), replace=False)) for _ in range(levels)]
    start = np.r_[0, np.cumsum([len(c) for c in cols])].astype(np.int32)
    flat = np.concatenate(cols).astype(np.int32)
    U = rng.normal(size=(rows, len(flat)))
    full = np.zeros((levels, rows, width))
    for level in range(levels):
        part = slice(start[level], start[level + 1])
        full[level][:, flat[part]] = U[:, part]
    return start, flat, U, full


@pytest.fixture(params=["compiled", "plain"])
def kernel(request):
    """Kernels as numba compiles them, and as Python runs them."""
    return kernels.compiled().__getitem__ if request.param == "compiled" else kernels.__dict__.get


@pytest.mark.parametrize("rows", [1, 2, 3])
def test_subtract_gram(kernel, rows):
    rng = np.random.default_rng(rows)
    start, cols, U, full = ragged(rng, rows=rows)
    S = np.asfortranarray(rng.normal(size=(13, 13)))
    expected = S - np.einsum("lak,lam->km", full, full)
    upper = np.triu(S, 1)
    for first, last in [(0, 5), (5, 13)]:  # by tiles, as threads share them
        kernel("subtract_gram")(start, cols, U, S, first, last)
    close(np.tril(S), np.tril(expected))
    np.testing.assert_array_equal(np.triu(S, 1), upper)


@pytest.mark.parametrize("rows", [1, 2, 3])
def test_quadratic_forms(kernel, rows):
    rng = np.random.default_rng(rows)
    start, cols, U, full = ragged(rng, rows=rows)
    C = rng.normal(size=(13, 13))
    C = C + C.T
    lower = np.asfortranarray(np.tril(C) + np.triu(np.full((13, 13), np.nan), 1))
    out = np.full((11, rows, rows), np.nan)
    for first, last in [(0, 4), (4, 11)]:
        kernel("quadratic_forms")(start, cols, U, lower, out, first, last)
    close(out, np.einsum("lak,km,lbm->lab", full, C, full))


@pytest.mark.parametrize("rows", [1, 2, 3])
def test_products_and_forms(kernel, rows):
    rng = np.random.default_rng(rows)
    start, cols, U, full = ragged(rng, rows=rows)
    C = rng.normal(size=(13, 13))
    C = C + C.T
    lower = np.asfortranarray(np.tril(C) + np.triu(np.full((13, 13), np.nan), 1))
    P, out = np.zeros_like(U), np.full((11, rows, rows), np.nan)
    for first, last in [(0, 4), (4, 11)]:
        kernel("products_and_forms")(start, cols, U, lower, P, out, first, last)
    level = np.repeat(np.arange(11), np.diff(start))
    close(P, (full @ C)[level, :, cols].T)
    close(out, np.einsum("lak,km,lbm->lab", full, C, full))


def sparse_spd(n, rng):
    A = sparse.random(n, n, density=0.08, random_state=rng).toarray()
    return A @ A.T + np.eye(n)


def test_selected_inverse(kernel):
    M = sparse_spd(40, np.random.default_rng(5))
    L = sparse.csc_array(np.where(filled(M), np.linalg.cholesky(M), 0.0))
    values = np.full_like(L.data, np.nan)
    kernel("selected_inverse")(L.indptr, L.indices, L.data, values)
    rows, cols = L.indices, np.repeat(np.arange(40), np.diff(L.indptr))
    close(values, np.linalg.inv(M)[rows, cols])
    assert 40 < L.nnz < 40 * 41 / 2  # the pattern is neither diagonal nor full


def filled(M):
    """The pattern of the Cholesky factor of M."""
    pattern = M != 0
    for j in range(len(M)):
        below = np.flatnonzero(pattern[j + 1 :, j]) + j + 1
        pattern[np.ix_(below, below)] = True
    return np.tril(pattern)


def test_column_counts(kernel):
    M = sparse_spd(40, np.random.default_rng(6))
    below = sparse.csr_array(np.tril(M, -1))
    parent, counts = np.zeros(40, dtype=np.int64), np.zeros(40, dtype=np.int64)
    kernel("column_counts")(below.indptr, below.indices, parent, counts)
    full = filled(M)
    np.testing.assert_array_equal(counts, full.sum(axis=0))
    first = [np.flatnonzero(column[j + 1 :]) for j, column in enumerate(full.T)]
    expected = [j + 1 + rows[0] if len(rows) else -1 for j, rows in enumerate(first)]
    np.testing.assert_array_equal(parent, expected)


def pattern_of(M):
    """Where each column of the factor of M starts, and its rows."""
    full = sparse.csc_array(filled(M))
    return full.indptr, full.indices


def test_filled_rows(kernel):
    M = sparse_spd(40, np.random.default_rng(7))
    below = sparse.csr_array(np.tril(M, -1))
    start, rows = pattern_of(M)
    parent, counts = np.zeros(40, dtype=np.int64), np.zeros(40, dtype=np.int64)
    kernel("column_counts")(below.indptr, below.indices, parent, counts)
    found = np.full(len(rows), -1)
    kernel("filled_rows")(below.indptr, below.indices, parent, start, found)
    np.testing.assert_array_equal(found, rows)


def test_cholesky_columns(kernel):
    M = sparse_spd(40, np.random.default_rng(8))
    start, rows = pattern_of(M)
    cols = np.repeat(np.arange(40), np.diff(start))
    L = M[rows, cols]
    assert kernel("cholesky_columns")(start, rows, L)
    close(L, np.linalg.cholesky(M)[rows, cols])
    for bad in (-1.0, np.nan):
        M[20, 20] = bad
        assert not kernel("cholesky_columns")(start, rows, M[rows, cols])


@pytest.mark.parametrize("k", [0, 1, 3])
def test_solve_columns(kernel, k):
    rng = np.random.default_rng(9)
    L = np.linalg.cholesky(sparse_spd(40, rng))
    held, b = sparse.csc_array(L), rng.normal(size=(40, k))
    x = b.copy()
    kernel("solve_columns")(held.indptr, held.indices, held.data, x)
    close(x, np.linalg.solve(L, b))


@pytest.mark.parametrize("k", [0, 1, 3])
def test_solve_columns_transposed(kernel, k):
    rng = np.random.default_rng(9)
    L = np.linalg.cholesky(sparse_spd(40, rng))
    held, b = sparse.csc_array(L), rng.normal(size=(40, k))
    x = b.copy()
    kernel("solve_columns_transposed")(held.indptr, held.indices, held.data, x)
    close(x, np.linalg.solve(L.T, b))


def cells(pattern, order):
    """The non-zeros of the factor of a pattern in an order."""
    return filled(pattern[np.ix_(order, order)]).sum()


@pytest.mark.parametrize("seed", range(20))
def test_minimum_degree(kernel, seed):
    """Any order that is one; and one that keeps the factor sparse, as exact degrees do."""
    rng = np.random.default_rng(seed)
    n = int(rng.integers(1, 80))
    density = rng.choice([0.0, 0.03, 0.1, 0.5, 1.0])
    A = np.tril(rng.random((n, n)) < density, -1)
    weight = rng.integers(1, 4, n)
    graph = sparse.csr_array(A + A.T)
    start, adjacent = graph.indptr.astype(np.int64), graph.indices.astype(np.int64)
    order = kernel("minimum_degree")(start, adjacent, weight)
    np.testing.assert_array_equal(np.sort(order), np.arange(n))
    pattern = (A | A.T | np.eye(n, dtype=bool)).repeat(weight, 0).repeat(weight, 1)
    column = np.split(np.arange(weight.sum()), np.cumsum(weight)[:-1])
    exact = greedy(A | A.T, weight)
    ours, theirs = (np.concatenate([column[i] for i in each]) for each in (order, exact))
    # Ties fall otherwise, and the degrees are bounds.
    assert cells(pattern, ours) <= 1.15 * cells(pattern, theirs)


def greedy(A, weight):
    """Order by exact minimum degrees."""
    A, left, order = A.copy(), list(range(len(A))), []
    while left:
        degree = [weight[A[i]] @ np.ones(A[i].sum()) for i in left]
        i = left.pop(int(np.argmin(degree)))
        order.append(i)
        near = np.flatnonzero(A[i])
        A[np.ix_(near, near)] = True
        A[i] = A[:, i] = False
        np.fill_diagonal(A, False)
    return order


def test_a_node_that_meets_all_others_goes_last():
    n = 400
    A = np.zeros((n, n), dtype=bool)
    A[7] = A[:, 7] = True
    A[np.arange(n - 1), np.arange(1, n)] = A[np.arange(1, n), np.arange(n - 1)] = True
    np.fill_diagonal(A, False)
    graph = sparse.csr_array(A)
    start, adjacent = graph.indptr.astype(np.int64), graph.indices.astype(np.int64)
    order = kernels.minimum_degree(start, adjacent, np.ones(n, dtype=np.int64))
    assert order[-1] == 7
    assert cells(A | np.eye(n, dtype=bool), order) < 4 * n  # a band and a row


@pytest.mark.parametrize("s", [1, 2])
def test_boundary_forms(kernel, s):
    """Levels that M knows only times zero, by the entries of L and C = M^-1 on their pattern."""
    rng = np.random.default_rng(s)
    A = np.kron(sparse_spd(40, rng), np.eye(s) + 1.0)
    n, levels = 40 * s, np.arange(40 * s).reshape(40, s)[rng.choice(40, 9, replace=False)]
    pattern = filled(A)
    Lambda = np.diag(np.where(np.isin(np.arange(n), levels), 0.0, 0.7))
    M = Lambda @ A @ Lambda + np.eye(n)
    # The pattern is that of A, whatever the templates make of it.
    rows, cols = np.nonzero(pattern)
    L, C = np.linalg.cholesky(M), np.linalg.inv(M)
    assert not L[~pattern].any()
    order = np.lexsort((rows, cols))
    start = np.r_[0, np.cumsum(np.bincount(cols, minlength=n))]
    factor = start, rows[order], L[rows, cols][order]
    by_row = np.r_[0, np.cumsum(np.bincount(rows, minlength=n))], cols
    rhs = sparse.csc_array(np.where(A != 0, Lambda @ A, 0.0)[:, levels.ravel()])
    out = np.zeros((s, s))
    columns = rhs.indptr, rhs.indices, rhs.data
    kernel("boundary_forms")(factor, C[rows, cols][order], by_row, columns, levels[:, 0], out)
    whole = A @ Lambda @ C @ Lambda @ A
    close(out, sum(whole[np.ix_(level, level)] for level in levels))


def test_find_pairs(kernel):
    rows, cols = np.nonzero(np.random.default_rng(8).random((9, 7)) < 0.4)
    start, places = np.searchsorted(rows, np.arange(10)), np.full((9, 7), -1)
    places[rows, cols] = np.arange(len(rows))
    row, col = np.indices((9, 7)).reshape(2, -1)
    out = np.empty(len(row), dtype=np.intp)
    kernel("find_pairs")(start, cols.astype(np.int32), row, col, out)
    np.testing.assert_array_equal(out, places.ravel())


def test_add_to_cells(kernel):
    rng = np.random.default_rng(6)
    cells, values = rng.integers(0, 7, 100), rng.normal(size=(2, 100))
    table = np.zeros((7, 3))
    kernel("add_to_cells")(table, cells[:60], values[:, :60])
    kernel("add_to_cells")(table, cells[60:], values[:, 60:])
    wanted = [np.bincount(cells, v, 7) for v in (np.ones(100), *values)]
    np.testing.assert_allclose(table.T, wanted, rtol=1e-13)


def test_every_kernel_is_tested():
    names = set(kernels.compiled())
    assert len(names) == 20
    tests = {**globals(), **vars(test_iterative)}
    assert all(f"test_{name}" in tests for name in names)


# Our own sparse factor beside the one of choice


def movers(n=20_000):
    """Students by classes, a fifth of whose rows are in a class nearby, by years."""
    rng = np.random.default_rng(4)
    row = np.arange(n)
    near = row * 400 // n + np.where(rng.random(n) < 0.2, rng.integers(-5, 6, n), 0)
    codes = [row // 4, near % 400, rng.integers(0, 6, n)]
    groups = [GroupDesign(c, int(c.max()) + 1, np.ones((n, 1))) for c in codes]
    return crossproducts.crossproducts(Rows(groups, np.ones((n, 1)), np.ones(n)))


@pytest.mark.parametrize(
    "products",
    [lambda: movers(), lambda: simulated([3000, 2000], 5000, "crossed")],
    ids=["moving", "sparse"],
)
def test_our_order_fills_no_more_than_that_of_the_factor_of_choice(products):
    products = products()
    ours, theirs = (cls(products).column_counts().sum() for cls in (SimplicialFactor, SPARSE))
    assert ours <= 1.1 * theirs  # ties fall otherwise


# The choice of a factor


def simulated(levels, n, kind, seed=0):
    rng = np.random.default_rng(seed)
    if kind == "nested":
        first = rng.integers(0, levels[0], n)
        codes = [first, first * levels[1] // levels[0]]
    else:
        codes = [rng.integers(0, size, n) for size in levels]
    groups = [GroupDesign(c, size, np.ones((n, 1))) for c, size in zip(codes, levels, strict=True)]
    return crossproducts.crossproducts(Rows(groups, np.ones((n, 1)), rng.normal(size=n)))


CHOICES = {
    "few effects": ([50, 20], 1000, "crossed", DenseFactor),
    "one large factor": ([20_000], 40_000, "crossed", SchurFactor),
    "crossed, small remainder": ([3000, 1000], 30_000, "crossed", SchurFactor),
    "crossed, nearly full": ([1000, 900], 600_000, "crossed", SchurFactor),
    "nested, large second factor": ([30_000, 15_000], 60_000, "nested", SPARSE),
    "nested, beyond any dense remainder": ([50_000, 25_000], 60_000, "nested", SPARSE),
}


@pytest.mark.parametrize(("levels", "n", "kind", "expected"), CHOICES.values(), ids=CHOICES)
def test_each_structure_gets_its_factor(levels, n, kind, expected):
    assert type(make_factor(simulated(levels, n, kind))) is expected


def test_the_choice_follows_the_predicted_times(monkeypatch):
    products = simulated([3000, 1500], 6_000, "crossed")
    monkeypatch.setattr(choose, "CHEAP", 0.0)
    for factor_time, expected in [(2.0, SchurFactor), (0.5, SPARSE)]:
        monkeypatch.setattr(choose, "schur_time", lambda _: 1.0)
        monkeypatch.setattr(choose, "sparse_time", lambda _, t=factor_time: t)
        assert type(make_factor(products)) is expected


@pytest.mark.parametrize("cls", sparse_factors())
def test_predicted_times_order_structures_as_their_work_does(cls):
    nested, crossed = (simulated([2000, 700], 8000, kind) for kind in ("nested", "crossed"))
    assert choose.scatter_products(nested) < choose.scatter_products(crossed)
    assert choose.sparse_time(cls(nested)) < choose.schur_time(nested)
    assert choose.schur_time(crossed) < choose.sparse_time(cls(crossed))


def test_threads_give_what_one_thread_gives(monkeypatch):
    products, _ = blocks_of("crossed sparsely", monkeypatch)
    lams = templates(products.layout.widths, "random")
    results = []
    for cores in (1, 8):
        monkeypatch.setattr("mixef.linalg.coupling.CORES", cores)
        factor = make(SchurFactor, ("sparse",), products, monkeypatch)
        factor.update(lams)
        results.append((factor.ldL2, *factor.trace_blocks()))
    for one, many in zip(*results, strict=True):
        np.testing.assert_allclose(many, one, rtol=1e-13)
