"""PIRLS: the conditional mode is stationary, whatever the start, and a search for it ends."""

import numpy as np
import pandas as pd
import pytest
from simulated_glmm import CELLS, STRUCTURES, criterion, point_of, simulated, trials_of

from mixef import glmer
from mixef.errors import FitError
from mixef.estimation.generalized import pirls as pirls
from mixef.estimation.generalized.pirls import conditional_mode

every_cell = pytest.mark.parametrize("cell", CELLS)


def model_at(cell, structure="crossed vector", state="random", nAGQ=1):
    """A working model with templates and parameters at a random point."""
    formula = f"y ~ x + {STRUCTURES[structure]}"
    c, _ = criterion(formula, simulated(cell), cell, nAGQ, trials_of(cell))
    par, beta, extra = c.split(point_of(c, cell, state))
    return c.model, c.parametrization.lams(par), beta, extra


def mode_from(model, lams, beta, extra, u, with_beta=False):
    return conditional_mode(model, lams, beta, extra, u, with_beta)


@every_cell
@pytest.mark.parametrize("state", ["random", "singular", "zero"])
def test_the_mode_is_stationary(cell, state):
    model, lams, beta, extra = model_at(cell, state=state)
    q = model.groups.layout.q
    mode = mode_from(model, lams, beta, extra, np.zeros(q))
    left = model.random_part_transposed(lams, mode.state.score) - mode.u
    # The last step promised less than LAST_STEP, and left the square of that.
    assert np.abs(left).max() < 1e-7
    eta = model.fixed_part(beta) + model.random_part(lams, mode.u)
    np.testing.assert_allclose(mode.state.eta, eta, rtol=1e-12)


@every_cell
def test_coefficients_in_the_mode_are_stationary_too(cell):
    model, lams, beta, extra = model_at(cell, nAGQ=0)
    q = model.groups.layout.q
    mode = mode_from(model, lams, beta, extra, np.zeros(q), with_beta=True)
    scale = np.abs(model.X).T @ np.abs(mode.state.score)
    assert (np.abs(model.X.T @ mode.state.score) < 1e-7 * scale + 1e-7).all()


@every_cell
def test_a_rough_mode_is_as_near_as_the_gain_of_a_search_asks_for(cell):
    """What it leaves is far below the gain; some steps lead on to the mode itself."""
    model, lams, beta, extra = model_at(cell)
    u, gain = np.zeros(model.groups.layout.q), 0.1
    exact = conditional_mode(model, lams, beta, extra, u, False)
    rough = conditional_mode(model, lams, beta, extra, u, False, gain=gain)
    assert not exact.is_rough
    # The last step promised at most ROUGH * gain = 1e-3, and left about the square of that.
    assert abs(rough.penalized - exact.penalized) < 1e-5 * gain


def test_a_rough_value_is_refined_on_demand():
    cell = "binomial(logit)"
    formula, trials = f"y ~ x + {STRUCTURES['vector']}", trials_of(cell)
    rough, exact = (criterion(formula, simulated(cell), cell, 1, trials)[0] for _ in range(2))
    point = 1.1 * rough.start()
    before = rough.value(point, 0.1)
    assert rough.is_rough
    assert before != exact.value(point)
    # log|M| is off by the mode's error, at most the promise of its last step.
    assert before == pytest.approx(exact.value(point), abs=1e-3)
    rough.refine()
    assert not rough.is_rough
    assert rough.value(point) == pytest.approx(exact.value(point), rel=1e-12)


@every_cell
def test_any_start_leads_to_one_mode(cell):
    model, lams, beta, extra = model_at(cell)
    q = model.groups.layout.q
    expected = mode_from(model, lams, beta, extra, np.zeros(q))
    for seed in range(3):
        start = 0.3 * np.random.default_rng(seed).normal(size=q)
        mode = mode_from(model, lams, beta, extra, start)
        np.testing.assert_allclose(mode.u, expected.u, rtol=0, atol=1e-7)
        assert mode.penalized == pytest.approx(expected.penalized, rel=1e-12)


@pytest.mark.parametrize("cell", ["poisson(log)", "binomial(logit)", "nbinom2(log)"])
@pytest.mark.parametrize("size", [30.0, 300.0])
def test_a_start_far_away_leads_back(cell, size):
    """Where exp(eta) overflows, the search begins without random effects."""
    model, lams, beta, extra = model_at(cell)
    q = model.groups.layout.q
    expected = mode_from(model, lams, beta, extra, np.zeros(q))
    start = size * np.random.default_rng(1).normal(size=q)
    mode = mode_from(model, lams, beta, extra, start)
    np.testing.assert_allclose(mode.u, expected.u, rtol=0, atol=1e-6)


def test_the_factor_is_left_at_the_mode():
    model, lams, beta, extra = model_at("binomial(probit)")
    mode = mode_from(model, lams, beta, extra, np.zeros(model.groups.layout.q))
    left = model.factor.ldL2
    model.refactor(mode.state.expected, lams)
    assert left == pytest.approx(model.factor.ldL2, rel=1e-14)
    model.refactor(mode.state.observed, lams)
    assert left != pytest.approx(model.factor.ldL2, rel=1e-6)


def test_a_search_that_does_not_end_says_so(monkeypatch):
    model, lams, beta, extra = model_at("poisson(log)")
    monkeypatch.setattr(pirls, "MAX_STEPS", 2)
    with pytest.raises(FitError, match=r"PIRLS did not converge in 2 steps: .*still change"):
        mode_from(model, lams, beta, extra, 5.0 * np.ones(model.groups.layout.q))


def test_halvings_that_do_not_help_say_so(monkeypatch):
    model, lams, beta, extra = model_at("poisson(log)")
    monkeypatch.setattr(pirls, "MAX_HALVINGS", 1)
    state = model.response.at
    calls = iter(range(100))

    def only_first(eta, extra):
        return state(eta, extra) if next(calls) == 0 else None

    monkeypatch.setattr(model.response, "at", only_first)
    with pytest.raises(FitError, match=r"PIRLS step-halvings failed.*poisson family, log link"):
        mode_from(model, lams, beta, extra, np.zeros(model.groups.layout.q))


def test_a_domain_that_no_start_is_in():
    model, lams, beta, extra = model_at("Gamma(inverse)")
    with pytest.raises(FitError, match=r"leaves the domain of the inverse link of the Gamma"):
        mode_from(model, lams, -50.0 * beta, extra, np.zeros(model.groups.layout.q))


@pytest.mark.parametrize(
    ("family", "message"),
    [
        ("Gamma(inverse)", r"no starting values are inside the domain of the inverse link"),
        ("poisson(identity)", r"no starting values are inside the domain of the identity link"),
    ],
)
def test_fixed_effects_that_force_impossible_means(family, message):
    """Without an intercept, a predictor of both signs gives means of both signs."""
    x = np.r_[-np.ones(20), np.ones(20)]
    data = pd.DataFrame({"y": np.tile([1.0, 2.0], 20), "x": x, "g": np.tile(np.arange(8), 5)})
    with pytest.raises(FitError, match=message):
        glmer("y ~ 0 + x + (1 | g)", data, family)
