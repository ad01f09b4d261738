"""Sums of squares of Z'V^-1 Z over all pairs of levels, against matrices in full."""

import tracemalloc
from collections import Counter

import numpy as np
import pytest
from structures import STRUCTURES, dense_Lambda, dense_Z, make, makers, rows_of, templates

from mixef import lmer
from mixef.estimation.linear import marginal as module
from mixef.estimation.linear.marginal import MarginalView, marginal_squares, parts
from mixef.linalg import crossproducts
from mixef.linalg.choose import make_factor
from mixef.linalg.rows import GroupDesign, Rows


def dense_squares(layout, S, i, j):
    shape = layout.n_levels[i], layout.widths[i], layout.n_levels[j], layout.widths[j]
    blocks = S[layout.slice(i), layout.slice(j)].reshape(shape)
    square = np.einsum("lakb,lckd->acbd", blocks, blocks)
    return square.reshape(shape[1] ** 2, shape[3] ** 2)


@pytest.mark.parametrize("kind", ["random", "zero", "singular"])
@pytest.mark.parametrize("name", STRUCTURES)
@pytest.mark.parametrize(("cls", "variant"), list(makers()))
def test_sums_of_squares_are_those_of_the_whole_matrix(cls, variant, name, kind, monkeypatch):
    monkeypatch.setattr(crossproducts, "SMALL_Z", 0)
    monkeypatch.setattr(module, "CHUNK", 7)  # in several groups of columns
    rows = rows_of(name)
    products = crossproducts.crossproducts(rows)
    layout, lams = products.layout, templates(products.layout.widths, kind)
    factor = make(cls, variant, products, monkeypatch)
    factor.update(lams)
    expected_traces = factor.trace_blocks()
    factor.update(lams)
    Z, Lambda = dense_Z(rows), dense_Lambda(layout, lams)
    V = np.eye(len(Z)) + Z @ Lambda @ Lambda.T @ Z.T
    B = Z.T @ np.linalg.solve(V, rows.X) / 10.0
    S = Z.T @ np.linalg.solve(V, Z) - B @ B.T
    squares = marginal_squares(factor, MarginalView(factor), B)
    blocks = range(len(layout))
    assert set(squares) == {(i, j) for i in blocks for j in blocks if i <= j}
    for (i, j), ours in squares.items():
        expected = dense_squares(layout, S, i, j)
        # Condition numbers of 1e4 times rounding, in sums of A^2, AB and B^2 of one size.
        np.testing.assert_allclose(ours, expected, rtol=0, atol=1e-10 * np.abs(expected).max())
    for ours, expected in zip(factor.trace_blocks(), expected_traces, strict=True):
        np.testing.assert_allclose(ours, expected, rtol=0, atol=1e-10 * np.abs(expected).max())


def simulated(codes, n_levels):
    n = len(codes[0])
    groups = [GroupDesign(c, k, np.ones((n, 1))) for c, k in zip(codes, n_levels, strict=True)]
    return crossproducts.crossproducts(Rows(groups, np.ones((n, 1)), np.ones(n)))


@pytest.mark.parametrize("kind", ["nested", "crossed"])
def test_no_matrix_of_the_larger_factor_is_formed(kind):
    """12,000 levels times themselves take 1.2 GB, and 500 solves at a time 50 MB."""
    rng = np.random.default_rng(5)
    first = rng.permutation(np.arange(24_000) % 12_000)
    second = first % 3000 if kind == "nested" else rng.integers(0, 100, len(first))
    products = simulated([first, second], [12_000, 3000 if kind == "nested" else 100])
    factor = make_factor(products)
    factor.update([np.array([[0.7]]), np.array([[0.4]])])
    if kind == "nested":
        assert max(Counter(np.concatenate(parts(products))).values()) == 5  # one and its four
    B = rng.normal(size=(products.layout.q, 2))
    marginal_squares(factor, MarginalView(factor), B)  # loads what is compiled
    factor.update([np.array([[0.7]]), np.array([[0.4]])])
    tracemalloc.start()
    marginal_squares(factor, MarginalView(factor), B)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 20e6


@pytest.mark.parametrize("kind", ["random", "singular"])
def test_many_columns_need_squares_of_changed_entries_alone(kind, monkeypatch):
    rng = np.random.default_rng(3)
    codes, z, X = rng.integers(0, 8, 200), rng.normal(size=(200, 14)), rng.normal(size=(200, 2))
    groups = [GroupDesign(codes, 8, z)]
    factor = make_factor(crossproducts.crossproducts(Rows(groups, X, np.ones(200))))
    lam = np.diag(rng.uniform(0.2, 2.0, 14) * (1 if kind == "random" else np.arange(14) != 3))
    dsigma = np.array([2 * np.diag(column) for column in lam])
    dsigma[0, :3, :3] += np.tril(np.ones((3, 3)))  # of a term with correlations

    B, found = rng.normal(size=(112, 2)), []
    for many in (14, 15):
        monkeypatch.setattr(module, "MANY", many)
        factor.update([lam])
        view = MarginalView(factor)
        found.append(module.exact_expected_information(factor, view, B, [dsigma]))
    ours, whole = found
    np.testing.assert_allclose(ours, whole, rtol=0, atol=1e-10 * np.abs(whole).max())


def test_degrees_of_freedom_of_hundreds_of_equal_terms_are_cheap(monkeypatch):
    monkeypatch.setattr(module, "fits", lambda needed: needed < 1e6)  # no s^4 cells
    g = np.arange(400) % 20
    y = np.sin(g) + np.cos(7.0 * np.arange(400))
    one, many = (lmer("y ~ 1 + " + "+".join(["(1 | g)"] * k), {"y": y, "g": g}) for k in (1, 40))
    assert many.coef_table()["df"].iloc[0] == pytest.approx(
        one.coef_table()["df"].iloc[0], rel=1e-6
    )
