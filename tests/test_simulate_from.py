"""Simulation before any fit, and what fits to it recover."""

import numpy as np
import pandas as pd
import pytest
from scipy import stats
from simulated import crossed
from simulation_models import DATA, model

from mixef import glmer, lmer, simulate_from
from mixef.errors import DataError, FormulaError


@pytest.mark.parametrize(
    "name", ["slopes", "weights", "nested", "cbpp", "ticks", "shares", "gamma", "nbinom"]
)
def test_drawn_before_a_fit_as_from_it(name):
    fit = model(name)
    call, family = fit._fit.call, getattr(fit, "family", "gaussian")
    params = {"beta": fit.fixef(), "theta": fit.theta}
    if name in ("gamma", "nbinom"):
        params |= {"dispersion": fit.dispersion} if name == "gamma" else {"shape": fit.shape}
    elif family == "gaussian":
        params["sigma"] = fit.sigma
    y = simulate_from(fit.formula, call.data, params, family, 3, 6, weights=call.weights)
    np.testing.assert_allclose(
        y.to_numpy(float), fit.simulate(3, seed=6).to_numpy(float), rtol=1e-10
    )
    assert list(y) == list(fit.simulate(3))
    if name != "cbpp":
        sided = "~" + fit.formula.split("~", 1)[1]
        data = call.data.drop(columns=fit.formula.split()[0])
        again = simulate_from(sided, data, params, family, 3, 6, weights=call.weights)
        pd.testing.assert_frame_equal(again, y)


def test_offsets_contrasts_missing_rows_and_labels():
    data = crossed().rename(index=lambda i: f"r{i}")
    data.loc["r5", "x"] = np.nan
    truth = {"beta": [1, 2, 3, 4], "sd": {"g": 0}, "sigma": 0}
    y = simulate_from("~ x + f + (1 | g)", data, truth, offset="z", contrasts={"f": "sum"})
    sums = pd.DataFrame({"a": [1, 0], "b": [0, 1], "c": [-1, -1]})
    expected = 1 + 2 * data["x"] + data["f"].map(lambda f: sums[f] @ [3, 4]) + data["z"]
    assert y.index.equals(data.index)
    assert np.isnan(y.loc["r5", "sim_1"])
    np.testing.assert_allclose(y["sim_1"], expected, rtol=1e-12)


def test_trials_before_a_fit():
    truth = {"beta": [0.0], "sd": {"g": 1.0}}
    data = DATA[["g", "size"]]
    shares = simulate_from("~ 1 + (1 | g)", data, truth, "binomial", 2, 1, weights="size")
    counts = simulate_from(
        "cbind(a, b) ~ 1 + (1 | g)", data, truth, "binomial", 2, 1, weights="size"
    )
    np.testing.assert_allclose(
        counts["sim_2"]["successes"], shares["sim_2"] * data["size"], rtol=1e-12
    )
    assert (counts["sim_2"].sum(axis=1) == data["size"]).all()
    with pytest.raises(DataError, match=r"columns of cbind\(a, b\).*give them as weights="):
        simulate_from("cbind(a, b) ~ 1 + (1 | g)", data, truth, "binomial")
    zero_one = simulate_from("~ 1 + (1 | g)", data, truth, "binomial", 2, 1)
    assert (zero_one.dtypes == np.int64).all()
    assert set(np.unique(zero_one)) == {0, 1}


LACKING = [
    ({}, r"lack 'beta'; expected 'beta' \(\(Intercept\), x\); 'theta' \(g.\(Intercept\), g.x."),
    ({"beta": {"x": 1}}, r"lack the coefficients \(Intercept\) in 'beta'"),
    ({"beta": [1, 2]}, r"lack 'sigma'"),
    ({"beta": [1, 2], "sigma": 1}, r"lack covariances; .*sd_\(Intercept\)\|g, sd_x\|g, cor_x"),
    ({"beta": [1, 2], "sigma": 1, "sd_x|g": 1}, r"lack sd_\(Intercept\)\|g; expected"),
    ({"beta": [1, 2], "sigma": 1, "sd": {"g": [1, 1]}}, r"lack the covariance of \(1 \| h\)"),
    ({"beta": [1, 2], "sigma": 1, "cor": {"g": 0.1}}, r"lack sd_\(Intercept\)\|g, sd_x\|g"),
]


@pytest.mark.parametrize(("params", "message"), LACKING)
def test_all_parameters_are_needed_before_a_fit(params, message):
    with pytest.raises(DataError, match=message):
        simulate_from("y ~ x + (x | g) + (1 | h)", crossed(), params)


@pytest.mark.parametrize(
    ("formula", "error", "message"),
    [
        ("y ~ x", FormulaError, "No random effects terms"),
        ("~ . + (1 | g)", FormulaError, r"what '\.' stands for .*write the terms out"),
        ("~ q + (1 | g)", FormulaError, "'q' is not a column"),
    ],
)
def test_formulas_that_cannot_be_simulated(formula, error, message):
    with pytest.raises(error, match=message):
        simulate_from(formula, crossed(), {"beta": [0, 0], "sd": {"g": 1}, "sigma": 1})


def test_families_before_a_fit():
    data = DATA[["x", "g"]]
    truth = {"beta": [0.5, 0.1], "sd": {"g": 0.2}}
    with pytest.raises(DataError, match=r"lack 'dispersion'.*'dispersion' or 'sigma'"):
        simulate_from("~ x + (1 | g)", data, truth, "Gamma(log)")
    with pytest.raises(DataError, match=r"lack 'shape'"):
        simulate_from("~ x + (1 | g)", data, truth, "nbinom2")
    with pytest.raises(DataError, match=r"dispersion is 0; expected a positive number"):
        simulate_from("~ x + (1 | g)", data, truth | {"dispersion": 0}, "Gamma(log)")
    with pytest.raises(DataError, match=r"both 'dispersion' and 'sigma'"):
        simulate_from("~ x + (1 | g)", data, truth | {"dispersion": 1, "sigma": 1}, "Gamma(log)")
    # With a log link theta is on the scale of the link, and the residual variance its own.
    y = simulate_from("~ x + (1 | g)", data, truth | {"sigma": 1e-9}, "gaussian(log)", seed=1)
    eta = np.log(y["sim_1"]) - 0.5 - 0.1 * data["x"]
    assert np.ptp(eta.groupby(data["g"]).transform("std")) < 1e-6
    assert 0.1 < eta.std() < 0.3
    counts = simulate_from("~ x + (1 | g)", data, truth, "negative.binomial(2)", 2, seed=1)
    assert (counts.dtypes == np.int64).all()


# ------------------------------------------------------------------ what comes back


def coverage(formula, data, truth, family, names, replicates, fit):
    """Share of Wald intervals of 95 % that hold the true coefficients, and the mean estimates."""
    y = simulate_from(formula, data, truth, family, replicates, seed=11)
    inside, thetas = [], []
    for column in y:
        again = fit(formula, data.assign(y=y[column]))
        table = again.vcov()
        z = (again.fixef()[names] - pd.Series(truth["beta"])[names]) / np.sqrt(np.diag(table))
        inside.append(np.abs(z) < stats.norm.ppf(0.975))
        thetas.append(again.VarCorr().to_frame()["sdcor"].iloc[0])
    return np.mean(inside, axis=0), np.array(thetas)


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore::mixef.errors.SingularFitWarning")
def test_refits_recover_the_parameters_of_a_linear_model():
    rng = np.random.default_rng(2)
    data = pd.DataFrame({"g": np.repeat(np.arange(60), 6), "x": rng.normal(size=360), "y": 0.0})
    truth = {"beta": {"(Intercept)": 2.0, "x": -1.0}, "sd": {"g": [1.0, 0.6]},
             "cor": {"g": -0.4}, "sigma": 1.5}  # fmt: skip
    share, sds = coverage(
        "y ~ x + (x | g)", data, truth, "gaussian", ["(Intercept)", "x"], 400, lmer
    )
    # Binomial error of 400 intervals is 0.011; normal quantiles lose up to 0.01 with 60 groups.
    assert (np.abs(share - 0.95) < 0.035).all()
    assert abs(sds.mean() - 1.0) < 4 * sds.std() / 20 + 0.02  # REML's bias is of order 1/60


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore::mixef.errors.SingularFitWarning")
def test_refits_recover_the_parameters_of_a_generalized_model():
    rng = np.random.default_rng(3)
    data = pd.DataFrame({"g": np.repeat(np.arange(80), 5), "x": rng.normal(size=400), "y": 0})
    truth = {"beta": {"(Intercept)": 1.0, "x": 0.3}, "sd": {"g": 0.5}}
    fit = lambda formula, data: glmer(formula, data, "poisson")  # noqa: E731
    share, sds = coverage("y ~ x + (1 | g)", data, truth, "poisson", ["(Intercept)", "x"], 200, fit)
    assert (np.abs(share - 0.95) < 0.05).all()  # binomial error 0.015
    assert abs(sds.mean() - 0.5) < 4 * sds.std() / np.sqrt(200) + 0.02
