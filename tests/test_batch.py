"""Criteria and searches of many responses at once, against those of one at a time."""

from functools import cache

import numpy as np
import pytest
from reference_data import frame
from simulated import crossed
from test_gradient import FORMULAS, QUIET, STATES, WEIGHTED, parameters
from test_search import spectra

from mixef import lmer
from mixef.estimation.many import fits as batch
from mixef.estimation.many import model as batch_model
from mixef.estimation.many.criterion import BatchCriterion, cholesky_factors, inverses
from mixef.estimation.many.fits import batch_fitter, scale_responses
from mixef.estimation.many.search import search_all
from mixef.estimation.search.trust_region import Quadratic, promises, steps_along
from mixef.inference.refits.many import refit_many

BALANCED = {
    "sleepstudy": ("Reaction ~ Days + (Days | Subject)", 1, 18),
    "cake": ("angle ~ recipe * temperature + (1 | recipe:replicate)", 3, 45),
    "Pastes": ("strength ~ 1 + (1 | batch/cask)", 1, 10),
    "Dyestuff2": ("Yield ~ 1 + (1 | Batch)", 1, 6),
}


@cache
def fitted(name, REML):
    """A fit to crossed data, one for all states."""
    weights = "w" if name in WEIGHTED else None
    return lmer(FORMULAS[name], crossed(), REML=REML, weights=weights, control=QUIET)._fit


def prepared(formula, data, REML=True, weights=None, count=1, seed=1):
    """A fit, its batch fitter, and the batch criterion of its response and simulated ones."""
    fit = lmer(formula, data, REML=REML, weights=weights, control=QUIET)._fit
    return beside(fit, count, seed)


def beside(fit, count, seed=1):
    """The same of a fit that is there."""
    fitter = batch_fitter(fit, fit.scaled_par)
    Y = fit.frame.y[:, None] + np.zeros(count)
    Y[:, 1:] += fit.estimates.sigma * np.random.default_rng(seed).normal(size=(len(Y), count - 1))
    scaled = scale_responses(batch.weighted_responses(fit, Y), fitter.model.Q)
    criterion = BatchCriterion(fitter.model, fitter.model.responses(scaled.Y), fit.REML)
    return fit, fitter, criterion


# The criterion


@pytest.mark.parametrize("state", STATES)
@pytest.mark.parametrize("REML", [True, False], ids=["REML", "ML"])
@pytest.mark.parametrize("name", FORMULAS)
def test_value_gradient_and_hessian(name, REML, state, monkeypatch):
    monkeypatch.setattr(batch_model, "MOST_OPERATIONS", 1e9)  # the largest, too
    fit, _, many = beside(fitted(name, REML), count=3)
    one = fit.criterion()
    par = parameters(one.parametrization, state)
    at = many.value(np.tile(par, (3, 1)))
    gradient, hessian = many.derivatives(np.tile(par, (3, 1)), at)
    expected = one.value(par)
    g, H = one.derivatives()
    # 1e-10: rounding of condition numbers up to 1e5, at values of 500.
    assert at.objective[0] + one.problem.shift == pytest.approx(expected, rel=1e-10)
    np.testing.assert_allclose(gradient[0], g, rtol=0, atol=1e-9 * max(np.abs(g).max(), 1))
    np.testing.assert_allclose(hessian[0], H, rtol=0, atol=1e-8 * np.abs(H).max())
    if state == "random":  # at theta = 0 scaled responses have one value
        assert np.diff(np.sort(at.objective)).min() > 0.01


@pytest.mark.parametrize("name", BALANCED)
def test_components_that_are_alike_share_a_matrix(name, monkeypatch):
    formula, n_kinds, n_components = BALANCED[name]
    _, fitter, merged = prepared(formula, frame(name), count=5)
    assert (len(fitter.model.count), len(fitter.model.kind)) == (n_kinds, n_components)
    assert fitter.model.count.sum() == n_components
    monkeypatch.setattr(batch_model, "MOST_KINDS", 0)
    _, apart_fitter, apart = prepared(formula, frame(name), count=5)
    assert len(apart_fitter.model.count) == n_components
    par = np.random.default_rng(2).uniform(0.1, 1, (5, len(fitter.start)))
    a, b = merged.value(par), apart.value(par)
    # An orthogonal rotation among levels that agree to 1e-12: only rounding differs.
    np.testing.assert_allclose(a.objective, b.objective, rtol=1e-11)
    np.testing.assert_allclose(a.beta, b.beta, rtol=0, atol=1e-11)
    for ours, expected in zip(merged.derivatives(par, a), apart.derivatives(par, b), strict=True):
        np.testing.assert_allclose(ours, expected, rtol=0, atol=1e-9 * np.abs(expected).max())


def test_a_design_that_is_nearly_balanced(monkeypatch):
    """Levels that lost rows stand by themselves, those that lost the same rows together."""
    data = frame("sleepstudy").drop(index=[3, 17, 18, 40, 77, 120, 121, 122, 160])
    formula = "Reaction ~ Days + (Days | Subject)"
    _, fitter, merged = prepared(formula, data, count=3)
    assert sorted(fitter.model.count.tolist()) == [1, 1, 1, 1, 2, 12]
    monkeypatch.setattr(batch_model, "MOST_KINDS", 0)
    apart = prepared(formula, data, count=3)[2]
    par = np.array([[0.9, 0.1, 0.3], [0.2, -0.4, 0.0], [1.5, 0.0, 0.1]])
    ours, expected = merged.value(par).objective, apart.value(par).objective
    np.testing.assert_allclose(ours, expected, rtol=1e-11)


def test_an_unbalanced_design_keeps_its_components_apart():
    model = prepared("y ~ x + (x | g)", crossed())[1].model
    assert len(model.count) == len(model.kind) == 9


def test_nested_levels_make_components():
    data = crossed()
    nested = prepared("y ~ x + (1 | g/k)", data)[1].model
    assert len(nested.kind) == data["g"].nunique()
    assert len(prepared("y ~ x + (1 | g) + (1 | h)", data)[1].model.kind) == 1


def test_columns_that_repeat_are_a_null_direction():
    """A level with fewer rows than columns, and columns that are collinear in all levels."""
    data = crossed().assign(x2=lambda d: 2 * d["x"] + 1)
    fit, fitter, many = prepared("y ~ 1 + diag(1 + x + x2 | g)", data)
    assert fitter.model.maps.shape[-1] == 2  # of three columns
    par = np.array([0.5, 0.7, 0.3])
    expected = fit.criterion().value(par)
    got = many.value(par[None]).objective[0] + fit.problem.shift
    assert got == pytest.approx(expected, rel=1e-11)


def test_large_models_are_not_batched(monkeypatch):
    fit = prepared("y ~ x + (1 | g)", crossed())[0]
    for name in ("MOST_OPERATIONS", "MOST_NUMBERS", "MOST_CELLS"):
        with monkeypatch.context() as patch:
            patch.setattr(batch_model, name, 1)
            assert batch_fitter(fit, fit.scaled_par) is None


def test_responses_are_scaled_without_their_fixed_effects():
    fit, fitter, _ = prepared("y ~ x + f + (1 | g)", crossed())
    Q, y = fitter.model.Q, fit.frame.y
    beta = np.linalg.lstsq(Q, y, rcond=None)[0]
    rest = y - Q @ beta
    rms = np.sqrt((rest**2).mean())
    shift = np.linalg.lstsq(Q, np.ones(len(y)), rcond=None)[0]
    changes = ((1.0, 0.0), (1e-3, 1e6), (1e-30, 0.0), (1e60, 1e9))
    scaled = scale_responses(np.column_stack([b * y + a * max(b, 1.0) for b, a in changes]), Q)
    for j, (b, a) in enumerate(changes):
        lost = 1e-15 * max(a * max(b, 1.0) / b, 10.0)  # what rounding of the shift leaves of y
        np.testing.assert_allclose(scaled.Y[:, j], rest / rms, rtol=0, atol=lost)
        assert scaled.scale[j] == pytest.approx(b * rms, rel=lost)
        expected = b * beta + a * max(b, 1.0) * shift
        # Rounding of the largest coefficient, 1e-16 of it and a few times over.
        np.testing.assert_allclose(
            scaled.beta0[:, j], expected, rtol=0, atol=1e-14 * np.abs(expected).max()
        )
    assert not scaled.failures
    nothing = scale_responses(np.column_stack([0 * y, 0 * y + 7.0, Q @ beta, y * 1e200]), Q)
    assert sorted(nothing.failures) == [0, 1, 2, 3]


@pytest.mark.parametrize("size", [1, 2, 3, 5])
def test_inverses(size):
    A = np.random.default_rng(size).normal(size=(4, 3, size, size))
    N = np.eye(size) + A @ A.swapaxes(-1, -2)
    V, logs, fine = inverses(N, np.array([1.0, 2.0, 1.0, 5.0]))
    np.testing.assert_allclose(V, np.linalg.inv(N), rtol=0, atol=1e-12)
    expected = np.array([1.0, 2.0, 1.0, 5.0]) @ np.linalg.slogdet(N)[1]
    np.testing.assert_allclose(logs, expected, rtol=1e-12)
    assert fine.all()
    N[2, 1] = np.nan
    with np.errstate(invalid="ignore"):
        assert inverses(N, np.ones(4))[2].tolist() == [True, False, True]


def test_cholesky_factors_leave_out_what_has_none():
    A = np.array([4 * np.eye(2), [[1.0, 2.0], [2.0, 1.0]], np.full((2, 2), np.inf)])
    L, fine = cholesky_factors(A)
    assert fine.tolist() == [True, False, False]
    np.testing.assert_array_equal(L, [2 * np.eye(2), np.eye(2), np.eye(2)])


# The search


@pytest.mark.parametrize("radius", [1e-3, 0.5, 40.0])
def test_steps_are_those_of_one(radius):
    for size in (1, 2, 3, 5, 9):
        cases = [(v, g) for v, g in spectra() if len(v) == size]
        value, slope = (np.array(a) for a in zip(*cases, strict=True))
        step, gain = steps_along(slope, value, np.full(len(cases), radius))
        for i, (v, g) in enumerate(cases):
            one, expected = Quadratic(g, np.diag(v), np.ones(len(v))).step(radius)
            # 1e-9: where the search for the multiplier ends.
            assert gain[i] == pytest.approx(expected, rel=1e-9, abs=1e-12)
            assert np.linalg.norm(step[i]) == pytest.approx(np.linalg.norm(one), rel=1e-8)
            assert np.linalg.norm(step[i]) <= radius * (1 + 1e-9)
        gains = promises(slope, value)
        one_by_one = [Quadratic(g, np.diag(v), np.ones(len(v))).promise for v, g in cases]
        np.testing.assert_allclose(gains, one_by_one, rtol=1e-8, atol=1e-12)


@pytest.mark.parametrize("floor", [0.0, 1e-3])
@pytest.mark.parametrize("name", FORMULAS)
def test_canonical_and_scale_are_those_of_one(name, floor, monkeypatch):
    monkeypatch.setattr(batch_model, "MOST_OPERATIONS", 1e9)
    fit, _, many = prepared(FORMULAS[name], crossed())
    P = fit.problem.terms.parametrization
    pars = np.array([parameters(P, state, seed) for state in STATES for seed in range(3)])
    ours = P.canonical(pars, floor)
    expected = np.array([P.canonical(par, floor) for par in pars])
    np.testing.assert_allclose(ours, expected, rtol=0, atol=1e-13)
    units = np.array([fit.criterion().scale(par) for par in pars])
    np.testing.assert_allclose(many.scale(pars), units, rtol=1e-14)


def test_saddles_are_left():
    """From templates of zero, where the gradient vanishes, every search reaches the optimum."""
    fit, fitter, many = prepared("Reaction ~ Days + (Days | Subject)", frame("sleepstudy"), count=9)
    at_zero = search_all(many, np.zeros((9, 3)), 200)
    inside = search_all(many, np.tile(fitter.start, (9, 1)), 200)
    np.testing.assert_allclose(at_zero.objective, inside.objective, rtol=1e-10)
    assert at_zero.objective[0] + fit.problem.shift == pytest.approx(fit.estimates.objective)


def test_max_evaluations_ends_the_searches():
    _, _, many = prepared("Reaction ~ Days + (Days | Subject)", frame("sleepstudy"), count=4)
    found = search_all(many, np.full((4, 3), 2.0), 3)
    assert (found.n_evaluations == 3).all()
    assert (found.gain > 1e-6).all()


def test_parts_do_not_change_the_result(monkeypatch):
    fit = prepared("y ~ x + (x | g)", crossed())[0]
    Y = fit.frame.y[:, None] + np.random.default_rng(3).normal(size=(fit.frame.n, 30))
    whole = refit_many(fit, Y)
    monkeypatch.setattr(batch, "MOST_AT_ONCE", 7)
    parts = refit_many(fit, Y)
    # Only the order of sums differs.
    np.testing.assert_allclose(parts.objective, whole.objective, rtol=1e-12)
    np.testing.assert_allclose(parts.beta, whole.beta, rtol=1e-6)
