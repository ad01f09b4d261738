"""Simulation from a fit: the distribution of the responses, and their form."""

import itertools

import numpy as np
import pandas as pd
import pytest
from reference_data import read_reference
from scipy import stats
from simulation_models import CBPP, DATA, MODELS, dense_covariance, linear_map, model

from mixef import UserFamily, glmer, lmer, load_dataset, simulate_from
from mixef.errors import DataWarning, FitError
from mixef.inference.refits.many import frame_with
from mixef.inference.simulation.simulate import simulated_responses

REFERENCE = "simulate.json"
LINEAR = ["slopes", "weights", "two terms", "nested", "homogeneous", "singular"]


@pytest.mark.filterwarnings("ignore::mixef.errors.SingularFitWarning")
@pytest.mark.parametrize("name", LINEAR)
def test_responses_have_the_marginal_distribution(name):
    fit = model(name)
    mean, V = linear_map(fit)
    np.testing.assert_allclose(mean, fit.predict(re_form="~0"), rtol=1e-12, atol=1e-12)
    expected = dense_covariance(fit)
    # The same sums in another order.
    np.testing.assert_allclose(V, expected, rtol=0, atol=1e-12 * expected.max())


@pytest.mark.parametrize("name", LINEAR[:4])
@pytest.mark.parametrize(
    "how", [{"use_u": True}, {"re_form": None}, {"use_u": True, "re_form": None}]
)
def test_held_random_effects_leave_the_residuals(name, how):
    fit = model(name)
    mean, V = linear_map(fit, **how)
    np.testing.assert_allclose(mean, fit.fitted(), rtol=1e-12, atol=1e-12)
    expected = dense_covariance(fit, terms=())
    np.testing.assert_allclose(V, expected, rtol=0, atol=1e-12 * expected.max())


def test_held_terms_beside_new_ones():
    """lme4 1.1-31 adds the variance of the held term here (1.02 in place of 4.03)."""
    fit = lmer("diameter ~ 1 + (1 | plate) + (1 | sample)", load_dataset("Penicillin"))
    for t, other in ((0, 1), (1, 0)):
        re_form = f"~ (1 | {fit._fit.terms[t].group})"
        mean, V = linear_map(fit, re_form=re_form)
        np.testing.assert_allclose(mean, fit.predict(re_form=re_form), rtol=1e-12)
        np.testing.assert_allclose(V, dense_covariance(fit, terms=(other,)), rtol=0, atol=1e-12)


@pytest.mark.parametrize("held", [0, 1])
def test_effects_of_a_held_terms_other_columns_are_drawn_given_these(held):
    fit = model("slopes")
    (term,), cov = fit._fit.terms, fit.VarCorr().to_frame()["vcov"].to_numpy()
    S = np.array([[cov[0], cov[2]], [cov[2], cov[1]]])
    free = 1 - held
    slope = S[free, held] / S[held, held]
    left = S[free, free] - slope * S[free, held]
    b = fit.ranef()["Subject"].to_numpy()[term.grouping.codes, held]
    part = term.z[:, held] * b + term.z[:, free] * slope * b
    mean, V = linear_map(fit, re_form="~ (1 | Subject)" if held == 0 else "~ (0 + Days | Subject)")
    np.testing.assert_allclose(mean, fit.predict(re_form="~0") + part, rtol=1e-10)
    same = term.grouping.codes[:, None] == term.grouping.codes
    expected = left * np.outer(term.z[:, free], term.z[:, free]) * same
    expected += fit.sigma**2 * np.eye(fit.nobs)
    np.testing.assert_allclose(V, expected, rtol=0, atol=1e-10 * expected.max())


def test_a_perfect_correlation_leaves_nothing_to_draw():
    fit = model("slopes")
    params = {"sd": {"Subject": [20.0, 5.0]}, "cor": {"Subject": 1.0}}
    mean, V = linear_map(fit, re_form="~ (1 | Subject)", new_params=params)
    np.testing.assert_allclose(V, fit.sigma**2 * np.eye(fit.nobs), atol=1e-9)
    (term,) = fit._fit.terms
    b = fit.ranef()["Subject"].to_numpy()[term.grouping.codes, 0]
    np.testing.assert_allclose(
        mean, fit.predict(re_form="~0") + b * (1 + 0.25 * term.z[:, 1]), rtol=1e-10
    )


# ------------------------------------------------------------------ against lme4


@pytest.mark.parametrize(
    ("name", "key", "arguments"),
    [
        ("sleepstudy", "new", {}),
        ("sleepstudy", "held", {"re_form": None}),
        ("sleepstudy", "sigma", {"new_params": {"sigma": 50}}),
        ("cbpp", "new", {}),
        ("cbpp", "held", {"use_u": True}),
        ("grouseticks", "new", {}),
        ("grouseticks", "held", {"use_u": True}),
    ],
)
def test_moments_agree_with_lme4(name, key, arguments):
    """tests/reference/simulate.R: 20,000 draws of lme4 1.1-31, beside 20,000 of ours."""
    fit = model({"sleepstudy": "slopes", "cbpp": "cbpp", "grouseticks": "ticks"}[name])
    frozen = read_reference(REFERENCE)[name][key]
    n = read_reference(REFERENCE)["nsim"]
    y = fit.simulate(n, seed=4, **arguments)
    y = y.xs("successes", axis=1, level=1) if name == "cbpp" else y
    y = y.to_numpy(dtype=float)[:12]
    # Both have Monte Carlo error: five standard errors of a difference.
    error = np.sqrt(2 * y.var(axis=1) / n)
    assert (np.abs(y.mean(axis=1) - frozen["mean"]) < 5 * error).all()
    squares = np.square(y - y.mean(axis=1, keepdims=True))
    error = np.sqrt(2 * squares.var(axis=1) / n)
    assert (np.abs(y.var(axis=1) - frozen["var"]) < 5 * error).all()


# ------------------------------------------------------------------ generalized models


def test_marginal_moments_of_log_normal_poisson_counts():
    """E y = exp(eta + v/2), Cov = mu mu' (exp(c) - 1) + diag(mu): exact for the log link."""
    fit = model("ticks")
    v = np.square(fit.theta)
    for seed, params in enumerate([None, {"theta": 0.5 * fit.theta}]):
        n = 20_000
        c = v if params is None else v / 4
        # Rows of large random effects have no stable moments in so few draws.
        y = fit.simulate(n, seed=seed, new_params=params).to_numpy(dtype=float)
        mu = np.exp(fit.predict(re_form="~0", type="link") + c.sum() / 2).to_numpy()
        rows = np.arange(0, fit.nobs, 40)
        assert (np.abs(y[rows].mean(axis=1) - mu[rows]) < 5 * y[rows].std(axis=1) / n**0.5).all()
        codes = [term.grouping.codes for term in fit._fit.terms]
        i, j = next(
            (i, j)
            for i, j in itertools.combinations(range(fit.nobs), 2)
            if all(code[i] == code[j] for code in codes)
        )
        product = (y[i] - mu[i]) * (y[j] - mu[j])
        expected = mu[i] * mu[j] * np.expm1(c.sum())
        assert abs(product.mean() - expected) < 5 * product.std() / np.sqrt(n)


@pytest.mark.filterwarnings("ignore:the weights stand for")
def test_weights_divide_the_variance():
    fit = glmer("time ~ x + (1 | g)", DATA, "Gamma(log)", weights="w")
    y = fit.simulate(20_000, seed=1, use_u=True).to_numpy()
    expected = fit.dispersion * np.square(fit.fitted()) / DATA["w"]
    squares = np.square(y - fit.fitted().to_numpy()[:, None])
    error = squares.std(axis=1) / np.sqrt(20_000)
    assert (np.abs(squares.mean(axis=1) - expected) < 5 * error).all()


@pytest.mark.parametrize("family", ["Gamma(log)", "inverse.gaussian(log)", "nbinom2"])
def test_weights_that_change_a_dispersion_are_told(family):
    truth = {"beta": [1.0, 0.2], "sd": {"g": 0.3}}
    truth["shape" if family == "nbinom2" else "dispersion"] = 0.5
    with pytest.warns(DataWarning, match=r"stand for 2 copies .* and not the (shape|dispersion)"):
        simulate_from("~ x + (1 | g)", DATA, truth, family, weights=np.full(240, 2.0))
    simulate_from("~ x + (1 | g)", DATA, truth, family, weights=np.resize([0.5, 1.5], 240))


def test_impossible_means_are_missing_and_told():
    truth = {"beta": [1.0], "sd": {"g": 1.0}}
    with pytest.warns(DataWarning, match=r"of 480 simulated means are outside .* identity link"):
        y = simulate_from("~ 1 + (1 | g)", DATA, truth, "poisson(identity)", 2, seed=3)
    missing = y.isna().to_numpy()
    assert 0.05 < missing.mean() < 0.35  # P(b < -1) = 0.16 of 60 levels
    assert (y.to_numpy()[~missing] % 1 == 0).all()


def test_a_predictor_below_zero_is_outside_of_the_square_root():
    truth = {"beta": [-1.0], "sd": {"g": 0.0}}
    with pytest.warns(DataWarning, match="240 of 240"):
        assert simulate_from("~ 1 + (1 | g)", DATA, truth, "poisson(sqrt)").isna().all(axis=None)


# ------------------------------------------------------------------ the result


def test_columns_index_and_seed():
    fit = model("slopes")
    y = fit.simulate(3, seed=7)
    assert list(y) == ["sim_1", "sim_2", "sim_3"]
    assert y.index.equals(fit.fitted().index)
    pd.testing.assert_frame_equal(y, fit.simulate(3, seed=np.random.default_rng(7)))
    assert not np.allclose(y, fit.simulate(3, seed=8))
    assert not np.allclose(fit.simulate(), fit.simulate())
    assert y["sim_1"].std() > 0
    assert not np.allclose(y["sim_1"], y["sim_2"])


@pytest.mark.parametrize(
    ("formula", "kind", "weights"),
    [
        ("yes ~ x + (1 | g)", "bool", None),
        ("zero_one ~ x + (1 | g)", "int", None),
        ("number ~ x + (1 | g)", "float", None),
        ("label ~ x + (1 | g)", "category", None),
        ("share ~ x + (1 | g)", "share", "size"),
        ("cbind(hits, size - hits) ~ x + (1 | g)", "counts", None),
        ("number == 1 ~ x + (1 | g)", "bool", None),
    ],
)
def test_responses_come_back_as_they_were_and_can_be_refitted(formula, kind, weights):
    fit = glmer(formula, DATA, "binomial", weights=weights)
    y = fit.simulate(2, seed=1)["sim_2"]
    numbers = simulated_responses(fit._fit, 2, np.random.default_rng(1))[:, 1]
    if kind == "counts":
        assert list(y) == ["successes", "failures"]
        assert (y.dtypes == np.int64).all()
        assert (y.sum(axis=1) == DATA["size"]).all()
        np.testing.assert_array_equal(y["successes"], np.rint(numbers * DATA["size"]))
    elif kind == "category":
        assert y.cat.categories.tolist() == ["up", "down"]
        np.testing.assert_array_equal(y == "down", numbers == 1)
    else:
        assert y.dtype == {"bool": bool, "int": np.int64}.get(kind, float)
        np.testing.assert_array_equal(y.astype(float), numbers)
    by_hand = fit._fit.again(frame=frame_with(fit._fit, numbers)).estimates
    assert fit.refit(y).objective == by_hand.objective
    # A fit from scratch to the simulated column, where the response is a column.
    if kind not in ("counts", "share") and "==" not in formula:
        again = glmer(formula, DATA.assign(**{fit.formula.split()[0]: y}), "binomial")
        assert abs(again.objective - by_hand.objective) < 1e-6


@pytest.mark.parametrize("name", MODELS)
@pytest.mark.filterwarnings("ignore::mixef.errors.MixefWarning")
def test_every_model_takes_its_responses_back(name):
    fit = model(name)
    y = fit.simulate(2, seed=5)
    again = fit.refit(y["sim_1"])
    raw = simulated_responses(fit._fit, 2, np.random.default_rng(5))
    assert raw.shape == (fit.nobs, 2)
    assert raw.dtype == float
    np.testing.assert_allclose(again._fit.outcome.y if hasattr(again._fit, "outcome") else
                               again._fit.frame.y, raw[:, 0], rtol=1e-12)  # fmt: skip
    held = simulated_responses(fit._fit, 2, np.random.default_rng(5), use_u=True)
    expected = fit.simulate(2, seed=5, use_u=True)
    if expected.columns.nlevels == 1:
        np.testing.assert_allclose(held, expected, rtol=1e-12)


def test_whole_counts_are_integers_and_others_are_not():
    fit = glmer("count ~ x + (1 | g)", DATA, "poisson")
    assert (fit.simulate(2, seed=1).dtypes == np.int64).all()
    fit = lmer("count ~ x + (1 | g)", DATA)
    assert (fit.simulate(2, seed=1).dtypes == np.float64).all()


def test_poisson_weights_make_means_of_counts_that_refit_in_silence(recwarn):
    fit = glmer("count ~ x + (1 | g)", DATA, "poisson", weights="w")
    y = fit.simulate(2, seed=1)
    assert (y.mul(DATA["w"], axis=0).to_numpy() % 1 < 1e-9).mean() > 0.9
    assert (y % 1 > 0).any(axis=None)
    recwarn.clear()
    assert fit.refit(y["sim_1"]).converged
    assert not recwarn.list


def test_weights_beside_trials_make_more_trials():
    """A row with weight 2 is the mean of two: its successes come in halves."""
    data = load_dataset("cbpp").assign(w=2.0)
    fit = glmer(CBPP, data, "binomial", weights="w")
    y = fit.simulate(20_000, seed=1, use_u=True).xs("successes", axis=1, level=1).to_numpy()
    np.testing.assert_allclose(2 * y, np.rint(2 * y), rtol=0, atol=1e-12)
    assert (np.abs(y - np.rint(y)) > 0.4).any()
    mu, trials = fit.fitted().to_numpy(), data["size"].to_numpy()
    squares = np.square(y - (trials * mu)[:, None])
    error = squares.std(axis=1) / np.sqrt(20_000)
    assert (np.abs(squares.mean(axis=1) - trials * mu * (1 - mu) / 2) < 5 * error).all()
    with pytest.warns(DataWarning, match="non-integer #successes"):
        assert fit.refit(fit.simulate(seed=1)["sim_1"]).converged


def test_a_users_family_is_simulated_where_it_knows_how():
    own = {"variance": np.abs, "log_density": stats.poisson.logpmf}
    fit = glmer("count ~ x + (1 | g)", DATA, UserFamily("own", "log", **own))
    with pytest.raises(FitError, match="says nothing of how to draw"):
        fit.simulate()
    drawing = UserFamily("own", "log", **own, random=lambda rng, mu: rng.poisson(mu))
    fit = glmer("count ~ x + (1 | g)", DATA, drawing)
    y = fit.simulate(2, seed=1)
    same = glmer("count ~ x + (1 | g)", DATA, "poisson")
    pd.testing.assert_frame_equal(y, same.simulate(2, seed=1, new_params={
        "beta": fit.beta, "theta": fit.theta}))  # fmt: skip


@pytest.mark.filterwarnings("ignore::mixef.errors.SingularFitWarning")
def test_excluded_rows_are_padded():
    data = DATA.copy()
    data.loc[[3, 10], "x"] = np.nan
    for formula, family in (("yes", "binomial"), ("cbind(hits, size - hits)", "binomial"),
                            ("label", "binomial"), ("count", "poisson")):  # fmt: skip
        full = glmer(f"{formula} ~ x + (1 | g)", data, family, na_action="exclude")
        short = glmer(f"{formula} ~ x + (1 | g)", data, family)
        y, z = full.simulate(2, seed=1), short.simulate(2, seed=1)
        assert len(y) == 240
        assert len(z) == 238
        assert y["sim_1"].isna().to_numpy().reshape(240, -1).all(axis=1).nonzero()[0].tolist() == [
            3,
            10,
        ]
        left = y.dropna()
        assert left.index.equals(z.index)
        if formula == "label":
            assert (left == z.astype(left.dtypes)).all(axis=None)
        else:
            np.testing.assert_array_equal(left.to_numpy(float), z.to_numpy(float))
        assert full.refit(left["sim_1"]).objective == short.refit(z["sim_1"]).objective
