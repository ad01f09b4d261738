"""The iterative factor of two crossed factors against dense linear algebra."""

from dataclasses import replace

import numpy as np
import pytest
from structures import (
    STRUCTURES,
    TEMPLATES,
    dense_Lambda,
    dense_Z,
    level_blocks,
    rows_of,
    templates,
)

from benchmarks.crossed import errors, exact
from benchmarks.crossed_graphs import products_of
from mixef.errors import ExactFactorNeededError, FitError
from mixef.linalg import kernels
from mixef.linalg.crossproducts import Pairs, crossproducts
from mixef.linalg.iterative import graph, logdet, pcg
from mixef.linalg.iterative.factor import IterativeFactor
from mixef.linalg.iterative.two_scalars import TwoScalars
from mixef.linalg.rows import GroupDesign, Rows
from mixef.linalg.schur import SchurFactor

SIZE = (6_000, 300, 250)


def crossed(n=400, levels=(30, 20), seed=0, widths=(1, 1), assembles=False):
    rng = np.random.default_rng(seed)
    groups = [
        GroupDesign(rng.integers(0, size, n), size, rng.uniform(0.5, 1.5, (n, s)))
        for size, s in zip(levels, widths, strict=True)
    ]
    rows = Rows(groups, rng.normal(size=(n, 2)), rng.normal(size=n))
    return crossproducts(rows, assembles=assembles)


def scalars(*theta):
    return [np.array([[t]]) for t in theta]


def at(products, *theta, **options):
    factor = IterativeFactor(products, **options)
    factor.update(scalars(*theta))
    return factor


def dense(products, theta):
    ZtZ = products.ZtZ if isinstance(products.ZtZ, np.ndarray) else products.ZtZ.toarray()
    lam = np.repeat(theta, products.layout.n_levels)
    C = np.linalg.inv(lam[:, None] * ZtZ * lam + np.eye(len(lam)))
    return ZtZ, C, ZtZ - ZtZ @ (lam[:, None] * C * lam) @ ZtZ


@pytest.mark.parametrize("levels", [(30, 20), (20, 30), (45, 6)])
@pytest.mark.parametrize("theta", [(1.0, 0.7), (0.0, 0.7), (1.0, 0.0), (0.0, 0.0), (-0.5, 2.0)])
def test_a_small_model_is_dense_linear_algebra(theta, levels):
    """Every unit vector is taken there: only conjugate gradients and steps leave an error."""
    products = crossed(levels=levels)
    ZtZ, C, inner = dense(products, theta)
    factor = at(products, *theta)
    assert factor.ldL2 == pytest.approx(-np.linalg.slogdet(C)[1], abs=1e-3)
    assert factor.ldL2_se < 1e-3
    rng = np.random.default_rng(1)
    for rhs in (rng.normal(size=(len(C), 3)), rng.normal(size=(len(C), 11)), np.ones(len(C))):
        np.testing.assert_allclose(factor.solve(rhs), C @ rhs, atol=1e-8)
        np.testing.assert_allclose(factor.ZtZ_times(rhs), ZtZ @ rhs, atol=1e-10)
    assert factor.solve(np.zeros((len(C), 0))).shape == (len(C), 0)
    np.testing.assert_array_equal(factor.solve(np.zeros(len(C))), 0.0)
    for T, rows in zip(factor.trace_blocks(), products.layout.slices, strict=True):
        assert T[0, 0] == pytest.approx(inner.diagonal()[rows].sum(), rel=1e-5)


def test_cross_products_in_one_piece_are_those_by_pairs():
    one, two = at(crossed(assembles=True), 1.0, 0.7), at(crossed(), 1.0, 0.7)
    assert isinstance(one.products.ZtZ, np.ndarray)
    assert one.ldL2 == pytest.approx(two.ldL2, abs=1e-9)


@pytest.fixture(params=["compiled", "plain"])
def kernel(request):
    return kernels.compiled().__getitem__ if request.param == "compiled" else kernels.__dict__.get


def pairs(weighted, k=1):
    """A as a dense matrix (12, 9), by its rows and by its columns, and some vectors."""
    rng = np.random.default_rng(4)
    A = np.where(rng.random((12, 9)) < 0.4, rng.normal(size=(12, 9)) if weighted else 1.0, 0.0)
    sides = []
    for matrix in (A, A.T):
        rows, cols = np.nonzero(matrix)
        start = np.searchsorted(rows, np.arange(len(matrix) + 1))
        sides.append((start, cols.astype(np.int32), matrix[rows, cols][: None if weighted else 0]))
    return A, *sides, rng.normal(size=(9, k))


@pytest.mark.parametrize("weighted", [True, False])
def test_turn_pairs(kernel, weighted):
    _, by_row, by_col, _ = pairs(weighted)
    turned = np.zeros_like(by_col[0]), np.empty_like(by_col[1]), np.empty_like(by_col[2])
    kernel("turn_pairs")(*by_row, *turned)
    for ours, expected in zip(turned, by_col, strict=True):
        np.testing.assert_array_equal(ours, expected)


@pytest.mark.parametrize("weighted", [True, False])
def test_weighted_squares(kernel, weighted):
    A, by_row, _, V = pairs(weighted, 2)
    out = np.full((12, 2), np.nan)
    kernel("weighted_squares")(*by_row, V, out, 0, 7)
    kernel("weighted_squares")(*by_row, V, out, 7, 12)
    np.testing.assert_allclose(out, A**2 @ V, atol=1e-14)


def check_gather(kernel, name, weighted, k):
    A, by_row, _, V = pairs(weighted, k)
    out = np.full((12, k), np.nan)
    kernel(name)(*by_row, V, out, 0, 7)
    kernel(name)(*by_row, V, out, 7, 12)
    np.testing.assert_allclose(out, A @ V, atol=1e-14)


@pytest.mark.parametrize("weighted", [True, False])
def test_gather_one(kernel, weighted):
    check_gather(kernel, "gather_one", weighted, 1)


@pytest.mark.parametrize("weighted", [True, False])
def test_gather_eight(kernel, weighted):
    check_gather(kernel, "gather_eight", weighted, 8)


@pytest.mark.parametrize("widths", [(1, 1), (2, 3)])
def test_cell_forms(kernel, widths):
    """Forms in matrices that have their values on pairs of levels, and what multiplies these."""
    rng, (s, t), K = np.random.default_rng(6), widths, 3
    rows, cols = np.nonzero(rng.random((7, 5)) < 0.5)
    a, b = (index.ravel() for index in np.indices((s, t)))
    values = rng.normal(size=(K, len(rows) * s * t))
    x, y = rng.normal(size=(2, 7 * s + 5 * t, 8))
    P, cells = np.zeros((K, len(x), len(x))), (
        (rows[:, None] * s + a).ravel(), (7 * s + cols[:, None] * t + b).ravel()
    )  # fmt: skip
    P[:, cells[0], cells[1]] = P[:, cells[1], cells[0]] = values
    sides = [part[side] for side in (slice(7 * s), slice(7 * s, None)) for part in (x, y)]
    out, inverse = np.zeros((K, 8)), np.ones(values.shape[1])
    for first, last in [(0, 4), (4, len(rows))]:
        kernel("cell_forms")(
            rows, cols.astype(np.int32), a, b, np.ones(len(a)), *sides, values, inverse, 0.5,
            out, first, last,
        )  # fmt: skip
    np.testing.assert_allclose(out, np.einsum("ik,nij,jk->nk", x, P, y), atol=1e-13)
    np.testing.assert_allclose(values @ (inverse - 1.0), 0.5 * out.sum(axis=1), atol=1e-13)


@pytest.mark.parametrize("weighted", [True, False])
def test_gram_squares(kernel, weighted):
    A, by_row, by_col, _ = pairs(weighted)
    rng = np.random.default_rng(5)
    w, sd, dlog = rng.random((12, 2)), rng.random(9), rng.normal(size=(9, 2))
    scale = np.outer(sd, sd)
    N, by_w = (scale * (A.T @ np.diag(column) @ A) for column in w.T)
    halves = [0.5 * N * (column[:, None] + column) for column in dlog.T]
    below = np.tri(9, k=-1)
    expected = [np.sum(below * N * x) for x in (N, by_w - halves[0], -halves[1])]
    out = np.zeros(3)
    for levels in (np.arange(0, 9, 2), np.arange(1, 9, 2)):
        kernel("gram_squares")(*by_col, *by_row, w, sd, dlog, out, levels)
    np.testing.assert_allclose(out, expected, rtol=1e-12)


def scaled_of(kind, theta, **changes):
    products = products_of(kind, *SIZE)
    factor = IterativeFactor(replace(products, **changes))
    return TwoScalars(factor._graph, factor._diagonals, scalars(*theta))


@pytest.mark.parametrize("kind", ["Zipf", "weights", "repeated pairs", "a column of numbers"])
def test_E_has_a_zero_diagonal_and_exact_moments(kind):
    theta = np.array([0.7, 1.2])
    E = [
        (lambda s: s.E_times(np.eye(len(s.sd))))(scaled_of(kind, np.sqrt(theta**2 + shift)))
        for shift in ([0, 0], [1e-5, 0], [-1e-5, 0], [0, 1e-5], [0, -1e-5])
    ]
    assert np.abs(E[0].diagonal()).max() < 1e-13
    np.testing.assert_allclose(E[0], E[0].T, atol=1e-13)
    scaled = scaled_of(kind, theta)
    moment, slopes = scaled.second_moment()
    squares = [np.sum(e * e) for e in E]
    assert moment == pytest.approx(squares[0], rel=1e-12)
    differences = np.array([squares[1] - squares[2], squares[3] - squares[4]]) / 2e-5
    np.testing.assert_allclose(slopes, differences, rtol=1e-6)
    # The same for the forms x'dE v.
    rng = np.random.default_rng(3)
    V, X = rng.normal(size=(2, len(scaled.sd), 3))
    turned = scaled.turned(V, scaled.E_times(V), single=False)
    got = scaled.slopes(V, turned, X, scaled.E_times(X))
    for which, (up, down) in enumerate([(1, 2), (3, 4)]):
        by_difference = np.einsum("jk,jk->k", X, (E[up] - E[down]) @ V) / 2e-5
        np.testing.assert_allclose(got[:, which], by_difference, rtol=1e-5, atol=1e-5)


def test_pairs_that_come_twice_and_in_any_order_are_added_up():
    products = products_of("weights", *SIZE)
    pair = products.pairs[0, 1]
    order = np.random.default_rng(0).permutation(np.tile(np.arange(len(pair.rows)), 2))
    twice = Pairs(pair.rows[order], pair.cols[order], pair.blocks[order] / 2.0)
    one = at(products, 1.0, 1.0)
    two = at(replace(products, pairs={(0, 1): twice}), 1.0, 1.0)
    assert two.ldL2 == pytest.approx(one.ldL2, abs=1e-9)


KINDS = ("Zipf", "two components", "10 clusters", "taste of rank 5", "weights over decades")


def test_quoted_errors_are_the_errors():
    """10 seeds a graph: the root mean square of errors over quoted errors lies within 0.8 to 1.25.

    `python -m benchmarks.crossed --accuracy` has more graphs, templates and levels.
    """
    z = [errors(products_of(kind, *SIZE), (1.0, 0.5), range(10))[0] for kind in KINDS]
    rms = np.sqrt(np.mean(np.square(z), axis=(0, 1)))
    assert np.all((rms > 0.8) & (rms < 1.25)), rms


def test_few_ritz_vectors_and_one_moment_leave_a_larger_error(monkeypatch):
    """Each part of the method is there for something."""
    products = products_of("50 clusters", *SIZE)
    usual = at(products, 1.0, 1.0)
    value, _ = exact(products, (1.0, 1.0))
    assert abs(usual.ldL2 - value) < 4 * usual.ldL2_se < 0.05
    monkeypatch.setattr(logdet, "MOST_PROBES", 48)
    monkeypatch.setattr(logdet, "MOST_RITZ", 8)
    few = at(products, 1.0, 1.0)
    assert few.ldL2_se > 10 * usual.ldL2_se


def test_numbers_follow_from_templates_seed_and_effort_alone(monkeypatch):
    products = products_of("Zipf", *SIZE)
    factor = at(products, 1.0, 0.5)
    first = factor.ldL2, *factor.trace_blocks()
    factor.update(scalars(0.4, 0.9))
    elsewhere = factor.ldL2
    factor.refresh(1e-3)
    assert factor.ldL2 != elsewhere
    assert factor.ldL2_se <= 1e-3
    factor.update(scalars(0.4, 0.9))
    assert factor.ldL2 == elsewhere
    monkeypatch.setattr(graph, "WORTH_THREADS", 1)
    monkeypatch.setattr(graph, "THREADS", 3)
    twin = factor.twin()
    twin.update(scalars(0.4, 0.9))
    assert twin.ldL2 == elsewhere
    np.testing.assert_array_equal(at(products, 1.0, 0.5).ldL2, first[0])
    assert at(products, 1.0, 0.5, seed=1).ldL2 != first[0]


def test_differences_between_templates_are_known_better_than_values():
    products = products_of("weights over decades", *SIZE)
    near, far = (0.5, 0.5), (0.52, 0.49)
    expected = exact(products, far)[0] - exact(products, near)[0]
    off, se = [], []
    for seed in range(5):
        factor = at(products, *near, seed=seed)
        value, one = factor.ldL2, factor.ldL2_se
        factor.update(scalars(*far))
        off.append(factor.ldL2 - value - expected)
        se.append(one)
    assert np.sqrt(np.mean(np.square(off))) < 0.1 * np.mean(se)


def test_a_chain_is_refused():
    products = products_of("chain", 60_000, 14_000, 12_000)
    with pytest.raises(
        ExactFactorNeededError, match=r"\(1 \| g\) and \(1 \| h\): its standard error would stay"
    ):
        at(products, 3.0, 3.0).ldL2  # noqa: B018  (estimated when it is asked for)


def test_conjugate_gradients_that_do_not_converge_say_so(monkeypatch):
    factor = at(products_of("sparse", *SIZE), 0.3, 0.3)
    monkeypatch.setattr(pcg, "MOST_ITERATIONS", 3)
    with pytest.raises(FitError, match="did not converge in 3 steps"):
        factor.solve(np.arange(factor.layout.q, dtype=float))


def test_levels_without_rows_and_levels_that_occur_once():
    rng = np.random.default_rng(0)
    g, h = rng.integers(0, 20, 200), rng.integers(0, 15, 200)
    g[:10], h[:10] = 30 + np.arange(10), 20 + np.arange(10)  # pairs by themselves
    groups = [GroupDesign(codes, size, np.ones((200, 1))) for codes, size in ((g, 42), (h, 31))]
    products = crossproducts(Rows(groups, np.ones((200, 1)), rng.normal(size=200)), assembles=False)
    _, C, inner = dense(products, (0.8, 1.1))
    factor = at(products, 0.8, 1.1)
    assert abs(factor.ldL2 + np.linalg.slogdet(C)[1]) < 4.0 * factor.ldL2_se
    np.testing.assert_allclose(factor.solve(np.eye(73)), C, atol=1e-8)
    assert factor.trace_blocks()[0][0, 0] == pytest.approx(inner.diagonal()[:42].sum(), rel=1e-6)


def test_one_grouping_factor_is_refused():
    with pytest.raises(FitError, match="for crossed terms, and there is one grouping factor"):
        IterativeFactor(crossproducts(rows_of("one vector"), assembles=False))


@pytest.mark.parametrize("kind", TEMPLATES)
@pytest.mark.parametrize("name", [n for n, (levels, _, _) in STRUCTURES.items() if len(levels) > 1])
def test_terms_of_several_columns_and_three_terms(name, kind):
    """By dense linear algebra, at singular templates too."""
    products = crossproducts(rows_of(name), assembles=False)
    layout, lams = products.layout, templates(products.layout.widths, kind)
    Z, Lambda = dense_Z(rows_of(name)), dense_Lambda(layout, lams)
    ZtZ = Z.T @ Z
    M = Lambda.T @ ZtZ @ Lambda + np.eye(layout.q)
    C = np.linalg.inv(M)
    inner = ZtZ - ZtZ @ Lambda @ C @ Lambda.T @ ZtZ
    factor = IterativeFactor(products)
    factor.update(lams)
    off = abs(factor.ldL2 - np.linalg.slogdet(M)[1])
    assert off < 4.0 * factor.ldL2_se + 1e-4
    rhs = np.random.default_rng(1).normal(size=(layout.q, 3))
    np.testing.assert_allclose(factor.solve(rhs), C @ rhs, atol=1e-8)
    np.testing.assert_allclose(factor.solve(rhs[:, 0]), C @ rhs[:, 0], atol=1e-8)
    np.testing.assert_allclose(factor.ZtZ_times(rhs), ZtZ @ rhs, atol=1e-10)
    covariance = factor.trace_covariance()
    variance = np.zeros(sum(s * s for s in layout.widths))
    variance = iter(variance if covariance is None else covariance.diagonal())
    for i, T in enumerate(factor.trace_blocks()):
        expected = level_blocks(layout, i, inner).sum(axis=0)
        se = np.sqrt([next(variance) for _ in range(T.size)]).reshape(T.shape)
        assert np.all(np.abs(T - expected) < 4.0 * se + 1e-4 * np.abs(expected).max())


def test_a_factor_that_stands_nowhere_says_so():
    with pytest.raises(RuntimeError, match="call update"):
        IterativeFactor(crossed()).solve(np.ones(50))
    for products in (products_of("weights", *SIZE), three_crossed(0)):
        lams = [np.eye(s) for s in products.layout.widths]
        for wrong in (np.nan, -1.0):
            diagonal = tuple(d * wrong for d in products.diagonal)
            with (
                pytest.raises(FitError, match="not positive definite"),
                np.errstate(invalid="ignore"),
            ):
                IterativeFactor(replace(products, diagonal=diagonal)).update(lams)


@pytest.mark.parametrize("weighted", [True, False])
def test_block_squares(kernel, weighted):
    """Six levels of two effects by three of three, full blocks or none."""
    rng = np.random.default_rng(6)
    met = np.kron(rng.random((6, 3)) < 0.6, np.ones((2, 3)))
    A = met * (rng.normal(size=met.shape) if weighted else 1.0)
    rows, cols = np.nonzero(met)
    start = np.searchsorted(rows, np.arange(13))
    values = A[rows, cols][: None if weighted else 0]
    W = rng.normal(size=(3, 3, 3))
    W = W + W.transpose(0, 2, 1)
    out = np.empty((6, 2, 2))
    for first, last in ((0, 4), (4, 6)):
        kernel("block_squares")(start, cols.astype(np.int32), values, W, out, first, last)
    blocks = A.reshape(6, 2, 3, 3)
    np.testing.assert_allclose(out, np.einsum("laub,ubc,lduc->lad", blocks, W, blocks), atol=1e-12)


def three_crossed(seed, n=20_000, levels=(500, 400, 50), widths=(2, 1, 1)):
    rng = np.random.default_rng(seed)
    groups = [
        GroupDesign(rng.integers(0, size, n), size, np.c_[np.ones(n), rng.normal(size=(n, s - 1))])
        for size, s in zip(levels, widths, strict=True)
    ]
    return crossproducts(Rows(groups, np.ones((n, 1)), rng.normal(size=n)), assembles=False)


def test_quoted_errors_of_three_terms_are_the_errors():
    products = three_crossed(1)
    lams = [np.array([[0.9, 0.0], [0.3, 0.5]]), *scalars(0.7, 0.6)]
    exact_factor = SchurFactor(products)
    exact_factor.update(lams)
    value = exact_factor.ldL2
    traces = np.concatenate([T.ravel() for T in exact_factor.trace_blocks()])
    z = []
    for seed in range(12):
        factor = IterativeFactor(products, seed=seed, target=0.05)
        factor.update(lams)
        factor.refresh()
        T = np.concatenate([T.ravel() for T in factor.trace_blocks()])
        se = np.sqrt(factor.trace_covariance().diagonal())
        assert 1e-4 < factor.ldL2_se <= 0.05
        z.append([(factor.ldL2 - value) / factor.ldL2_se, *((T - traces) / se)])
    rms = np.sqrt(np.mean(np.square(z), axis=0))
    assert np.all((rms > 0.6) & (rms < 1.5)), rms
