"""The generalized criterion's derivatives against differences, for all families and structures.

The points are random ones and singular ones, not only optima, where errors of the gradient's
smaller parts would hide.
"""

import tracemalloc

import numpy as np
import pandas as pd
import pytest
from simulated_glmm import (
    CELLS,
    INFORMED,
    ONE_FACTOR,
    STRUCTURES,
    USUAL,
    assert_slopes,
    criterion,
    lenient,
    point_of,
    simulated,
    slopes,
    trials_of,
    value,
    weights_of,
)
from structures import factors

from mixef.estimation.generalized.crossed_hessian import crossed_hessian
from mixef.families.convert import make_family
from mixef.families.density import DensityFamily
from mixef.families.link import Link
from mixef.families.standard import FAMILIES
from mixef.glmm import glmer

STATES = ["random", "negative", "singular", "rank one", "zero"]
informed_cell = pytest.mark.parametrize(("cell", "information"), INFORMED)
usual_cell = pytest.mark.parametrize("cell", USUAL)
every_state = pytest.mark.parametrize("state", STATES)
# Sixth-order differences with this step, in natural units of the parameters: (4e-3)^6 of a seventh
# derivative, and rounding of 1e-14 of a value of some 300 over the step, which is the limit.
STEP = 4e-3
RTOL, ATOL = 1e-7, 1e-8


def assert_near(ours, expected, rtol=RTOL, atol=ATOL):
    """Compare on the scale of the largest expected number."""
    ours, expected = np.asarray(ours), np.asarray(expected)
    assert ours.shape == expected.shape
    tolerance = rtol * np.abs(expected).max(initial=0.0) + atol
    np.testing.assert_allclose(ours, expected, rtol=0, atol=tolerance)


def check_gradient(c, cell, state, seed=0):
    point = point_of(c, cell, state, seed)
    assert np.isfinite(value(c, point))
    gradient = c.derivatives()[0].copy()
    assert state != "random" or np.abs(gradient).max() > 0.1
    assert_slopes(lambda p: value(c, p), gradient, point, c.scale(point), STEP, RTOL, ATOL)


def test_all_families_and_links_are_there():
    families = {type(make_family(cell)) for cell in CELLS}
    # Those of any density have their own tests.
    assert families == {c for c in FAMILIES.values() if not issubclass(c, DensityFamily)}

    def leaves(cls):
        below = cls.__subclasses__()
        return {n for sub in below for n in leaves(sub)} if below else {cls.name}

    ours = {name for name in leaves(Link) if name in NAMES_OF_LINKS}
    assert ours == NAMES_OF_LINKS
    assert {make_family(cell).link.name for cell in CELLS} == NAMES_OF_LINKS


NAMES_OF_LINKS = {
    "logit", "probit", "cloglog", "cauchit", "log", "identity", "inverse", "sqrt", "1/mu^2",
}  # fmt: skip


@informed_cell
@pytest.mark.parametrize("nAGQ", [0, 1])
@every_state
def test_gradient_by_family_and_link(cell, state, nAGQ, information):
    formula = f"y ~ x + {STRUCTURES['three factors']}"
    c, _ = criterion(formula, simulated(cell), cell, nAGQ, trials_of(cell), information=information)
    check_gradient(c, cell, state)


@pytest.mark.parametrize("nAGQ", [0, 1])
@pytest.mark.parametrize("state", ["random", "singular"])
@usual_cell
@pytest.mark.parametrize("structure", STRUCTURES)
def test_gradient_by_structure(structure, cell, state, nAGQ):
    formula = f"y ~ x + offset(0.2 * z) + {STRUCTURES[structure]}"
    c, _ = criterion(formula, simulated(cell), cell, nAGQ, weights_of(cell))
    check_gradient(c, cell, state, seed=3)


@informed_cell
@every_state
def test_gradient_with_quadrature(cell, state, information):
    formula = f"y ~ x + {STRUCTURES['vector']}"
    c, _ = criterion(formula, simulated(cell), cell, 5, weights_of(cell), information=information)
    check_gradient(c, cell, state)


@pytest.mark.parametrize("nAGQ", [2, 5, 11])
@usual_cell
@pytest.mark.parametrize("structure", ONE_FACTOR)
def test_gradient_with_quadrature_by_structure(structure, cell, nAGQ):
    if structure == "three columns" and nAGQ == 11:
        nAGQ = 4
    formula = f"y ~ x + {STRUCTURES[structure]}"
    c, _ = criterion(formula, simulated(cell), cell, nAGQ, trials_of(cell))
    check_gradient(c, cell, "random", seed=5)


@pytest.mark.parametrize("nAGQ", [0, 1, 5])
@pytest.mark.parametrize("cell", ["binomial(logit)", "Gamma(log)"])
def test_gradient_without_fixed_effects(cell, nAGQ):
    c, _ = criterion("y ~ 0 + (1 + x | g)", simulated(cell), cell, nAGQ, trials_of(cell))
    assert c.p == 0
    check_gradient(c, cell, "random")


@pytest.mark.parametrize("term", ["diag(x + z | g)", "diag(0 + f | g, hom = TRUE)"])
@pytest.mark.parametrize("cell", ["binomial(probit)", "nbinom2(log)"])
def test_gradient_of_structured_terms(cell, term):
    data = simulated(cell)
    data["f"] = data["k"].astype(str)
    c, _ = criterion(f"y ~ x + {term} + (1 | h)", data, cell, 1, weights_of(cell))
    check_gradient(c, cell, "random")


@pytest.mark.parametrize("nAGQ", [1, 5])
@pytest.mark.parametrize("cell", [*USUAL, "binomial(probit)"])
def test_one_call_of_the_value_is_exact_enough(cell, nAGQ):
    """PIRLS ends past its test, so that a new mode adds no noise that a search would feel."""
    c, _ = criterion("y ~ x + (x | g)", simulated(cell), cell, nAGQ, weights_of(cell))
    rng = np.random.default_rng(2)
    start = c.start()
    for _ in range(10):
        point = start + 0.1 * rng.normal(size=len(start)) * c.scale(start)
        once = c.value(point)
        # 1e-9: a thousandth of what an optimum is judged by.
        assert once == pytest.approx(value(c, point), rel=0, abs=1e-9)


@pytest.mark.parametrize("nAGQ", [0, 1, 5])
@pytest.mark.parametrize("cell", [*USUAL, "Gamma(inverse)", "binomial(cloglog)"])
@pytest.mark.parametrize("structure", ["vector", "double bar", "crossed vector"])
def test_the_users_gradient(structure, cell, nAGQ):
    if nAGQ > 1 and structure not in ONE_FACTOR:
        pytest.skip("quadrature is for one factor")
    data = simulated(cell)
    data["x"] *= 20.0  # so that the user's scale differs from the inner one
    c, _ = criterion(f"y ~ x + {STRUCTURES[structure]}", data, cell, nAGQ, weights_of(cell))
    point = point_of(c, cell, "random")
    par, beta, extra = c.split(point)
    par = c.terms.user_par(par)
    value(c, point)
    if nAGQ == 0:
        user, unpack = par, lambda v: (v, beta, extra)
    else:
        user = np.concatenate([par, c.problem.user_beta(beta)])
        unpack = lambda v: (v[: len(par)], v[len(par) :], extra)  # noqa: E731
    again = c.scaled_point(*unpack(user))
    value(c, again)
    gradient = c.user_gradient()
    assert len(gradient) == len(user) + c.n_extra
    # Steps in proportion to the parameters, whose units differ; the same differences otherwise.
    size = np.maximum(np.abs(user), 0.02)
    expected = slopes(
        lambda v: value(c, c.scaled_point(*unpack(user + v * size))),
        np.zeros(len(user)),
        np.full(len(user), STEP),
    )
    # AGQ: the change of scale is by differences of its own, with a step of 1e-6.
    assert_near(gradient[: len(user)] * size, expected, rtol=1e-7 if nAGQ <= 1 else 1e-6)


@pytest.mark.parametrize("nAGQ", [0, 1, 5])
@pytest.mark.parametrize("cell", [*USUAL, "binomial(probit)"])
@pytest.mark.parametrize("state", ["random", "rank one"])
def test_hessian(cell, nAGQ, state):
    c, _ = criterion("y ~ x + (x | g)", simulated(cell), cell, nAGQ, weights_of(cell))
    point = point_of(c, cell, state)
    H = c.hessian(point)

    def gradient(p):
        value(c, p)
        return c.derivatives()[0].copy()

    # By formula it is exact; by second-order differences with steps of 2e-3, 4e-6 of third
    # derivatives are left.
    rtol = 1e-7 if c.knows_hessian and nAGQ == 1 else 1e-4
    assert_slopes(gradient, H, point, c.scale(point), 0.01, rtol, ATOL)
    np.testing.assert_allclose(H, H.T, rtol=1e-12, atol=1e-13)


@pytest.mark.parametrize("cell", ["poisson(log)", "binomial(probit)", "nbinom2(log)", "Gamma(log)"])
@pytest.mark.parametrize("structure", ["crossed vector", "nested", "three factors"])
@pytest.mark.parametrize("state", ["random", "rank one"])
def test_hessian_of_several_factors(structure, state, cell):
    c, _ = criterion(f"y ~ x + {STRUCTURES[structure]}", simulated(cell), cell, 1, trials_of(cell))
    point = point_of(c, cell, state)
    H = c.hessian(point)

    def gradient(p):
        value(c, p)
        return c.derivatives()[0].copy()

    assert_slopes(gradient, H, point, c.scale(point), 0.01, RTOL, ATOL)
    np.testing.assert_allclose(H, H.T, rtol=1e-12, atol=1e-12)


def test_both_forms_of_the_hessian_agree():
    """Of one grouping factor, by level and by the matrices of several."""
    cell = "nbinom2(log)"
    c, _ = criterion("y ~ x + (x | g)", simulated(cell), cell, 1)
    point = point_of(c, cell, "random")
    by_level = c.hessian(point)
    par, _, extra = c.split(point)
    d = c._differentiated()
    matrices = crossed_hessian(c.model, c._mode, c.parametrization, par, extra, d.h, d.adjoint)
    np.testing.assert_allclose(matrices, by_level, rtol=1e-10, atol=1e-10)


@every_state
@pytest.mark.parametrize(
    ("cell", "information"),
    [pair for pair in INFORMED if pair[0] in ("poisson(log)", "binomial(probit)", "nbinom2(log)")],
)
@pytest.mark.parametrize("structure", ["vector", "crossed vector", "nested", "three factors"])
def test_all_factors_agree(structure, cell, information, state):
    formula = f"y ~ x + {STRUCTURES[structure]}"
    found = []
    for factor in factors():
        options = {"information": information, "factor": factor}
        c, _ = criterion(formula, simulated(cell), cell, 1, trials_of(cell), **options)
        assert type(c.model.factor) is factor
        point = point_of(c, cell, state)
        found.append((value(c, point), *c.derivatives()))
    for other in found[1:]:
        # Rounding of factors with condition numbers up to 1e3.
        assert other[0] == pytest.approx(found[0][0], rel=1e-13)
        assert_near(other[1], found[0][1], rtol=1e-10, atol=1e-9)
        assert_near(other[2], found[0][2], rtol=1e-10, atol=1e-9)


@pytest.mark.parametrize("nAGQ", [0, 1, 5])
@usual_cell
def test_the_end_of_a_search_is_a_minimum(cell, nAGQ):
    options = {"weights": trials_of(cell), "control": lenient()}
    fit = glmer("y ~ x + (x | g)", simulated(cell), cell, nAGQ, **options)
    assert fit.converged
    c, point = fit._fit.criterion(), fit._fit.point
    best = value(c, point)
    # nAGQ = 0 has coefficients of its own at every point, which start where the last ended.
    assert best == pytest.approx(fit.objective, rel=0, abs=1e-9)
    rng = np.random.default_rng(4)
    for _ in range(20):
        step = rng.normal(size=len(point)) * 10 ** rng.uniform(-4, -0.5) * c.scale(point)
        assert value(c, point + step) >= best - 1e-9


@usual_cell
@pytest.mark.parametrize("formula", ["y ~ x + (x | g)", "y ~ x + diag(x + I(x^2) | g)"])
def test_wide_blocks_are_multiplied_as_narrow_ones(cell, formula, monkeypatch):
    c, _ = criterion(formula, simulated(cell), cell, 1, trials_of(cell))
    point = point_of(c, cell, "regular")
    found = []
    for narrow in (7, 0):
        monkeypatch.setattr("mixef.estimation.generalized.levels.NARROW", narrow)
        c.value(point + 1.0)  # so that nothing is kept
        found.append((value(c, point), *c.derivatives()))
    assert found[1][0] == pytest.approx(found[0][0], rel=1e-13)
    for wide, narrow in zip(found[1][1:], found[0][1:], strict=True):
        assert_near(wide, narrow, rtol=1e-10, atol=1e-9)


def test_the_exact_hessian_is_left_out_where_its_blocks_are_wide():
    """The products of two blocks of s columns have ``s^4`` cells."""
    rng = np.random.default_rng(5)
    data = pd.DataFrame({"x": rng.normal(size=60), "g": np.arange(60) % 6})
    data["y"] = rng.poisson(1.0, 60).astype(float)
    known = []
    for terms in (60, 70):
        equal = " + ".join(["(1 | g)"] * terms)
        known.append(criterion(f"y ~ x + {equal}", data, "poisson(log)", 1, None)[0].knows_hessian)
    assert known == [True, False]


def test_derivatives_of_many_coefficients_hold_no_rows_by_parameters():
    """One grouping factor: the exact Hessian is made of sums over levels, a column at a time."""
    rng = np.random.default_rng(3)
    n, p, levels = 30_000, 60, 300
    data = pd.DataFrame({"f": rng.integers(0, p, n).astype(str), "g": rng.integers(0, levels, n)})
    y = rng.binomial(1, 0.5, n).astype(float)
    c, _ = criterion("y ~ f + (1 | g)", data.assign(y=y), "binomial(logit)", 1, None)
    assert c.knows_hessian
    assert np.isfinite(c.value(c.start()))
    tracemalloc.start()
    c.derivatives()
    peak = tracemalloc.get_traced_memory()[1] / 8
    tracemalloc.stop()
    assert peak < 0.8 * n * p  # seven times that, were every derivative held row by row
