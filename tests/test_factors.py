"""All factors against each other and against dense linear algebra, and their kernels.

1e-10 relative throughout: condition numbers of M up to 1e4 or so times rounding.
"""

import itertools

import numpy as np
import pytest
from dense_gaussian import random_columns
from scipy import sparse

from mixef.linalg import choose, crossproducts, kernels
from mixef.linalg.cholmod import CholmodFactor, sparse_cholesky
from mixef.linalg.choose import make_factor
from mixef.linalg.crossproducts import GroupDesign, Rows
from mixef.linalg.dense import DenseFactor
from mixef.linalg.factor import SINGULAR, Factor, smallest_singular_value
from mixef.linalg.schur import SchurFactor, _DenseCoupling, _SparseCoupling

# Levels and columns of each factor; the first has the most random effects, as `block_structure`
# arranges; codes are crossed at random, or nested in the factor before.
STRUCTURES = {
    "one scalar": ([12], [1], "crossed"),
    "one vector": ([12], [3], "crossed"),
    "crossed": ([20, 7], [1, 1], "crossed"),
    "crossed vector": ([20, 7], [2, 3], "crossed"),
    "crossed sparsely": ([90, 60], [1, 2], "sparse"),
    "crossed sparsely, vector first": ([90, 60], [2, 1], "sparse"),
    "nested": ([40, 8], [1, 1], "nested"),
    "nested vector": ([40, 8], [2, 2], "nested"),
    "three crossed": ([15, 9, 5], [2, 1, 3], "crossed"),
    "three nested": ([48, 12, 4], [1, 2, 1], "nested"),
    "three sparse": ([80, 50, 40], [1, 1, 2], "sparse"),
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


def problem(name, seed=0):
    """Cross-products of a structure, and the rows that they are made of."""
    levels, widths, kind = STRUCTURES[name]
    rng = np.random.default_rng(seed)
    n = 200
    codes = codes_of(levels, kind, n, rng)
    zs = [np.column_stack([np.ones(n), rng.normal(size=(n, s - 1))]) for s in widths]
    groups = [
        GroupDesign(c, size, z / np.sqrt(2)) for c, size, z in zip(codes, levels, zs, strict=True)
    ]
    rows = Rows(groups, rng.normal(size=(n, 2)), rng.normal(size=n))
    return crossproducts.crossproducts(rows), rows


@pytest.fixture(params=["blocks", "dense"], autouse=True)
def storage(request, monkeypatch):
    """Cross-products by sparse blocks, and by a dense Z as small models have it."""
    if request.param == "blocks":
        monkeypatch.setattr(crossproducts, "SMALL_Z", 0)
    return request.param


def needs_blocks(storage, factor):
    if storage == "dense" and factor is not DenseFactor:
        pytest.skip("small models go to the dense factor only")


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


def makers():
    """Every factor, found by itself, with the variants that a structure's size would choose."""
    variants = {
        CholmodFactor: [("simplicial",), ("supernodal",)],
        SchurFactor: [("sparse",), ("dense",)],
    }
    for cls in Factor.__subclasses__():
        for variant in variants.get(cls, [()]):
            yield pytest.param(cls, variant, id="-".join([cls.__name__, *variant]))


def make(cls, variant, products, monkeypatch):
    if cls is SchurFactor:
        share = 2.0 if variant == ("sparse",) else 0.0
        monkeypatch.setattr("mixef.linalg.schur.DENSE_COUPLING", share)
        monkeypatch.setattr("mixef.linalg.schur.SMALL_COUPLING", 0)
        factor = cls(products)
        if len(products.layout) > 1:
            expected = _SparseCoupling if variant == ("sparse",) else _DenseCoupling
            assert isinstance(factor._coupling, expected)
        return factor
    return cls(products, *variant)


def close(ours, expected):
    scale = max(np.abs(expected).max(initial=0.0), 1e-300)
    np.testing.assert_allclose(ours, expected, rtol=0, atol=1e-10 * scale)


@pytest.mark.parametrize("kind", TEMPLATES)
@pytest.mark.parametrize("name", STRUCTURES)
@pytest.mark.parametrize(("cls", "variant"), list(makers()))
def test_every_factor_is_dense_linear_algebra(cls, variant, name, kind, storage, monkeypatch):
    needs_blocks(storage, cls)
    products, rows = problem(name)
    layout, widths = products.layout, products.layout.widths
    if cls is SchurFactor and len(layout) == 1 and variant == ("sparse",):
        pytest.skip("one factor has no coupling")
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
    for i, trace in enumerate(factor.trace_blocks()):
        expected = level_blocks(layout, i, ZVZ).sum(axis=0)
        # Beside 1e-10, what I - C loses where lam is inverted: eps / SINGULAR^2.
        scale = 1e-7 if kind == "above" else 1e-10
        np.testing.assert_allclose(trace, expected, rtol=0, atol=scale * np.abs(expected).max())

    for order in ([*range(len(layout))], [*range(len(layout))][::-1]):
        factor.update(lams)
        for i in order:
            close(factor.inverse_block(i), level_blocks(layout, i, C))


@pytest.mark.parametrize("name", STRUCTURES)
def test_cross_products(name, storage):
    products, rows = problem(name)
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


def test_the_templates_of_the_grid_lie_on_both_sides_of_the_threshold():
    for widths in ([1], [2], [3]):
        assert all(smallest_singular_value(t) < SINGULAR for t in templates(widths, "below"))
        assert not any(smallest_singular_value(t) < SINGULAR for t in templates(widths, "above"))


@pytest.mark.parametrize("name", STRUCTURES)
def test_the_layout_multiplies_by_lambda(name):
    products, _ = problem(name)
    layout = products.layout
    lams = templates(layout.widths, "random")
    Lambda = dense_Lambda(layout, lams)
    rng = np.random.default_rng(2)
    for v in (rng.normal(size=layout.q), rng.normal(size=(layout.q, 3))):
        close(layout.multiply(lams, v), Lambda @ v)
        close(layout.multiply(lams, v, transpose=True), Lambda.T @ v)


@pytest.mark.parametrize("name", ["crossed sparsely", "three sparse", "nested vector"])
@pytest.mark.parametrize("mode", ["simplicial", "supernodal"])
def test_column_counts_are_those_of_the_factor(name, mode, storage):
    needs_blocks(storage, CholmodFactor)
    products, _ = problem(name)
    factor = CholmodFactor(products, mode)
    factor.update(templates(products.layout.widths, "identity"))
    ZtZ = products.ZtZ if isinstance(products.ZtZ, np.ndarray) else products.ZtZ.toarray()
    # A level without rows has a diagonal block of zeros, which is stored all the same.
    blocks = dense_Lambda(products.layout, [np.ones((s, s)) for s in products.layout.widths])
    pattern = (np.abs(ZtZ) + blocks)[np.ix_(factor._perm, factor._perm)]
    np.testing.assert_array_equal(factor.column_counts(), filled(pattern).sum(axis=0))


def test_a_sparse_cholesky_is_that_of_the_permuted_matrix():
    rng = np.random.default_rng(3)
    A = sparse.random_array((30, 30), density=0.1, rng=rng)
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


def sparse_spd(n, rng):
    A = sparse.random_array((n, n), density=0.08, rng=rng).toarray()
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
    counts = np.zeros(40, dtype=np.int64)
    kernel("column_counts")(below.indptr, below.indices, counts)
    np.testing.assert_array_equal(counts, filled(M).sum(axis=0))


def test_every_kernel_is_tested():
    names = set(kernels.compiled())
    assert names == {"subtract_gram", "quadratic_forms", "selected_inverse", "column_counts"}
    assert all(f"test_{name}" in globals() for name in names)


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
    "nested, large second factor": ([30_000, 15_000], 60_000, "nested", CholmodFactor),
    "nested, beyond any dense remainder": ([50_000, 25_000], 60_000, "nested", CholmodFactor),
}


@pytest.mark.parametrize(("levels", "n", "kind", "expected"), CHOICES.values(), ids=CHOICES)
def test_each_structure_gets_its_factor(levels, n, kind, expected, storage):
    if storage == "dense":
        pytest.skip("large models have no dense Z")
    assert type(make_factor(simulated(levels, n, kind))) is expected


def test_the_choice_follows_the_predicted_times(storage, monkeypatch):
    if storage == "dense":
        pytest.skip("large models have no dense Z")
    products = simulated([3000, 1500], 12_000, "nested")
    monkeypatch.setattr(choose, "CHEAP", 0.0)
    for factor_time, expected in [(2.0, SchurFactor), (0.5, CholmodFactor)]:
        monkeypatch.setattr(choose, "schur_time", lambda _: 1.0)
        monkeypatch.setattr(choose, "cholmod_time", lambda _, t=factor_time: t)
        assert type(make_factor(products)) is expected


def test_predicted_times_order_structures_as_their_work_does(storage):
    if storage == "dense":
        pytest.skip("large models have no dense Z")
    nested, crossed = (simulated([2000, 700], 8000, kind) for kind in ("nested", "crossed"))
    assert choose.coupling_fill(nested) < choose.coupling_fill(crossed) < 1
    assert choose.cholmod_time(CholmodFactor(nested)) < choose.schur_time(nested)
    assert choose.schur_time(crossed) < choose.cholmod_time(CholmodFactor(crossed))
