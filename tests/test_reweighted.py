"""Cross-products at weights that change, and the factors that follow them.

Everything is compared with dense linear algebra to 1e-10 of the largest entry, as in
test_factors.
"""

import subprocess
import sys

import numpy as np
import pytest
from structures import (
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
    templates,
)

from mixef.errors import FitError
from mixef.linalg import crossproducts, reweighted
from mixef.linalg.crossproducts import SymmetricBlocks, assemble
from mixef.linalg.reweighted import ReweightedProducts
from mixef.linalg.rows import GroupDesign, Rows

every_structure = pytest.mark.parametrize("name", STRUCTURES)
every_factor = pytest.mark.parametrize(("cls", "variant"), list(makers()))


def weights(sign, seed=1):
    """200 weights: positive, or now and then negative but so that M is positive definite."""
    rng = np.random.default_rng(seed)
    w = rng.uniform(0.2, 3.0, size=200)
    if sign == "mixed":
        w[::9] *= -0.1
    return w


def check_blocks(products, ZtWZ):
    layout = products.layout
    for i, blocks in enumerate(products.diagonal):
        close(blocks, level_blocks(layout, i, ZtWZ))
    for (i, j), pair in products.pairs.items():
        close(pair.blocks, pair_blocks(layout, i, j, pair, ZtWZ))
    whole = assemble(layout, products.diagonal, products.pairs)
    close(whole if isinstance(whole, np.ndarray) else whole.toarray(), ZtWZ)
    if products.assembled is not None:
        close(products.assembled, ZtWZ)


def arrays_of(products):
    stored = [] if products.assembled is None else [products.assembled]
    return [*products.diagonal, *(pair.blocks for pair in products.pairs.values()), *stored]


@every_structure
def test_positive_weights_are_those_of_weighted_rows(name, monkeypatch):
    monkeypatch.setattr(crossproducts, "SMALL_Z", 0)
    rows, w = rows_of(name), weights("positive")
    root = np.sqrt(w)[:, None]
    weighted = [GroupDesign(g.codes, g.n_levels, g.z * root) for g in rows.groups]
    expected = crossproducts.crossproducts(Rows(weighted, rows.X, rows.y))
    ours = ReweightedProducts(rows.groups)
    ours.reweight(w)
    assert ours.n == ours.products.n == 200
    assert ours.layout == expected.layout
    assert ours.products.ZtX.shape == (ours.layout.q, 0)
    for A, B in zip(ours.products.diagonal, expected.diagonal, strict=True):
        close(A, B)
    assert list(ours.products.pairs) == list(expected.pairs)
    for key, pair in expected.pairs.items():
        np.testing.assert_array_equal(ours.products.pairs[key].rows, pair.rows)
        np.testing.assert_array_equal(ours.products.pairs[key].cols, pair.cols)
        close(ours.products.pairs[key].blocks, pair.blocks)


@pytest.mark.parametrize("small", [10**9, 0], ids=["dense A", "counted"])
@pytest.mark.parametrize("storage", ["dense", "sparse"])
@every_structure
def test_weights_change_in_place(name, storage, small, monkeypatch):
    monkeypatch.setattr(crossproducts, "SMALL_Q", 10**9 if storage == "dense" else 0)
    monkeypatch.setattr(reweighted, "SMALL", small)
    rows = rows_of(name)
    Z = dense_Z(rows)
    ours = ReweightedProducts(rows.groups)
    assert (ours._A is None) == (small == 0)
    check_blocks(ours.products, Z.T @ Z)
    before = arrays_of(ours.products)
    for w in (weights("mixed"), weights("positive", 2), np.zeros(200), weights("mixed", 3)):
        ours.reweight(w)
        check_blocks(ours.products, (Z.T * w) @ Z)
    assert all(a is b for a, b in zip(before, arrays_of(ours.products), strict=True))
    fresh = ReweightedProducts(rows.groups)
    fresh.reweight(weights("mixed", 3))
    for a, b in zip(before, arrays_of(fresh.products), strict=True):
        np.testing.assert_array_equal(a, b)


@pytest.mark.parametrize("small", [10**9, 0], ids=["dense Z", "counted"])
@every_structure
def test_products_with_Z(name, small, monkeypatch):
    monkeypatch.setattr(reweighted, "SMALL", small)
    rows = rows_of(name)
    Z, rng = dense_Z(rows), np.random.default_rng(2)
    ours = ReweightedProducts(rows.groups)
    for k in ((), (3,)):
        v, b = rng.normal(size=(200, *k)), rng.normal(size=(Z.shape[1], *k))
        close(ours.Zt(v), Z.T @ v)
        close(ours.Z(b), Z @ b)


@pytest.mark.parametrize("small", [10**9, 0], ids=["dense A", "counted"])
@every_structure
def test_row_forms(name, small, monkeypatch):
    """Of a full matrix B, all but its entries on the pattern meet zeros of Z."""
    monkeypatch.setattr(reweighted, "SMALL", small)
    rows = rows_of(name)
    ours = ReweightedProducts(rows.groups)
    layout, products, Z = ours.layout, ours.products, dense_Z(rows)
    B = np.random.default_rng(3).normal(size=(layout.q, layout.q))
    B = B + B.T
    blocks = blocks_on_pattern(products, B)
    close(ours.row_forms(blocks), ((Z @ B) * Z).sum(axis=1))

    lams = templates(layout.widths, "random")
    Lambda = dense_Lambda(layout, lams)
    between, expected = blocks.between(lams), blocks_on_pattern(products, Lambda @ B @ Lambda.T)
    for ours_, theirs in zip(between.diagonal, expected.diagonal, strict=True):
        close(ours_, theirs)
    assert between.pairs.keys() == expected.pairs.keys()
    for key in expected.pairs:
        close(between.pairs[key], expected.pairs[key])


@pytest.mark.parametrize("ordered", [True, False])
def test_blocks_of_many_columns_are_summed_block_by_block(ordered, monkeypatch):
    monkeypatch.setattr(reweighted, "SMALL", 0)
    monkeypatch.setattr(reweighted, "FEW", 10)
    monkeypatch.setattr(reweighted, "IN_CACHE", 100)  # 16 rows at a time
    rng = np.random.default_rng(1)
    codes = rng.integers(0, 3, 200), rng.integers(0, 4, 200)
    first = np.sort(codes[0]) if ordered else codes[0]
    first[first == 1] = 2  # a level without rows
    groups = [
        GroupDesign(codes, size, rng.normal(size=(200, s)))
        for codes, size, s in ((first, 3, 5), (codes[1], 4, 6), (rng.integers(0, 30, 200), 30, 2))
    ]
    rows, w = Rows(groups, np.empty((200, 0)), np.zeros(200)), weights("mixed")
    ours, Z = ReweightedProducts(groups), dense_Z(rows)
    assert [(c.i, c.j) for c in ours._by_block] == [(0, 0), (1, 1), (0, 1)]
    ours.reweight(w)
    check_blocks(ours.products, (Z.T * w) @ Z)
    B = rng.normal(size=(Z.shape[1], Z.shape[1]))
    B = B + B.T
    close(ours.row_forms(blocks_on_pattern(ours.products, B)), ((Z @ B) * Z).sum(axis=1))


def blocks_on_pattern(products, B):
    layout = products.layout
    return SymmetricBlocks(
        [level_blocks(layout, i, B) for i in range(len(layout))],
        {(i, j): pair_blocks(layout, i, j, p, B) for (i, j), p in products.pairs.items()},
    )


@pytest.mark.parametrize("kind", TEMPLATES)
@every_structure
@every_factor
def test_every_factor_follows_the_weights(cls, variant, name, kind, monkeypatch):
    rows = rows_of(name)
    ours = ReweightedProducts(rows.groups)
    layout, Z = ours.layout, dense_Z(rows)
    lams = templates(layout.widths, kind)
    Lambda = dense_Lambda(layout, lams)
    factor = make(cls, variant, ours.products, monkeypatch)
    factor.update([np.eye(s) for s in layout.widths])
    for w in (weights("positive"), weights("mixed")):
        ours.reweight(w)
        factor.reload()
        factor.update(lams)
        G = (Z.T * w) @ Z
        M = Lambda.T @ G @ Lambda + np.eye(layout.q)
        C = np.linalg.inv(M)
        sign, expected = np.linalg.slogdet(M)
        assert sign == 1
        # log(1 + small) is known to rounding of 1, for each of q pivots.
        assert factor.ldL2 == pytest.approx(expected, rel=1e-10, abs=1e-15 * layout.q)
        rhs = np.random.default_rng(4).normal(size=layout.q)
        close(factor.solve_Lt(factor.solve_L(rhs)), C @ rhs)
        inverse = factor.inverse_pairs()
        for i, blocks in enumerate(inverse.diagonal):
            close(blocks, level_blocks(layout, i, C))
        for (i, j), blocks in inverse.pairs.items():
            close(blocks, pair_blocks(layout, i, j, ours.products.pairs[i, j], C))
        U = Z @ Lambda
        close(ours.row_forms(inverse.between(lams)), ((U @ C) * U).sum(axis=1))
    ZVZ = G - G @ Lambda @ C @ Lambda.T @ G  # at the last weights
    for i, trace in enumerate(factor.trace_blocks()):
        expected = level_blocks(layout, i, ZVZ).sum(axis=0)
        # Beside 1e-10, what I - C loses where lam is inverted: eps / SINGULAR^2.
        scale = 1e-7 if kind == "above" else 1e-10
        np.testing.assert_allclose(trace, expected, rtol=0, atol=scale * np.abs(expected).max())


# Where M stops being positive definite: in the first block, or behind it in a later one.
BEYOND = {"first": (3.0, 0.0), "later": (0.01, 30.0)}


@pytest.mark.parametrize("beyond", BEYOND)
@every_structure
@every_factor
def test_negative_weights_that_reach_too_far_are_refused(cls, variant, name, beyond, monkeypatch):
    rows = rows_of(name)
    ours = ReweightedProducts(rows.groups)
    layout, Z = ours.layout, dense_Z(rows)
    first, later = BEYOND[beyond]
    if len(layout) == 1 and beyond == "later":
        pytest.skip("there is no later block")
    lams = [(later if i else first) * np.eye(s) for i, s in enumerate(layout.widths)]
    factor = make(cls, variant, ours.products, monkeypatch)
    factor.update(lams)
    whole = factor.ldL2
    Lambda = dense_Lambda(layout, lams)
    M = -Lambda.T @ Z.T @ Z @ Lambda + np.eye(layout.q)
    assert np.linalg.eigvalsh(M)[0] < 0
    q1 = layout.offsets[1]
    assert (np.linalg.eigvalsh(M[:q1, :q1])[0] < 0) == (beyond == "first")

    bad = np.ones(200)
    bad[7] = np.nan
    for w in (-np.ones(200), bad):
        ours.reweight(w)
        factor.reload()
        with pytest.raises(FitError, match=r"not positive definite.*working weights"):
            factor.update(lams)
    ours.reweight(np.ones(200))
    factor.reload()
    factor.update(lams)
    assert factor.ldL2 == pytest.approx(whole, rel=1e-13)


SMALL = """
import sys
import numpy as np
from mixef.linalg.choose import make_factor
from mixef.linalg.rows import GroupDesign
from mixef.linalg.reweighted import ReweightedProducts
rng = np.random.default_rng(0)
groups = [GroupDesign(rng.integers(0, l, 900), l, np.ones((900, 1))) for l in {levels}]
ours = ReweightedProducts(groups)
factor = make_factor(ours.products)
ours.reweight(np.full(900, 0.25))
factor.reload()
factor.update([np.eye(1)] * len(groups))
factor.trace_blocks()
ours.row_forms(factor.inverse_pairs())
print(type(factor).__name__, "numba" in sys.modules)
"""


@pytest.mark.parametrize(
    ("levels", "factor"),
    [([40, 9], "DenseFactor"), ([400], "SchurFactor"), ([400, 90], "SchurFactor")],
)
def test_small_models_do_not_wait_for_numba(levels, factor):
    code = SMALL.replace("{levels}", str(levels))
    ended = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert ended.stdout.split() == [factor, "False"], ended.stderr
