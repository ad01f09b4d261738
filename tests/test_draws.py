"""Draws of fixed and random effects, and prediction intervals made of them.

tests/reference/mertools.json is by merTools (mertools.R), with 3000 draws: its standard errors are
sd / sqrt(3000) for means and 1.3 % for standard deviations.
"""

from functools import cache

import numpy as np
import pandas as pd
import pytest
from reference_data import cases, frame

from mixef import glmer, lmer, load_dataset
from mixef.errors import ArgumentError, DataError
from mixef.inference.prediction.prediction_variance import movement
from mixef.inference.simulation.joint_draws import joint_draws

CBPP = "cbind(incidence, size - incidence) ~ period + (1 | herd)"
N = 4000
# Four standard errors of a quantile at 5 or 95 % of n normal draws, in standard deviations:
# sqrt(0.05 * 0.95 / n) / 0.103.
QUANTILE = 4 * np.sqrt(0.05 * 0.95) / 0.103


@cache
def fit_of(name):
    if name == "sleepstudy":
        return lmer("Reaction ~ Days + (Days | Subject)", load_dataset("sleepstudy"))
    if name == "Penicillin":
        return lmer("diameter ~ 1 + (1 | plate) + (1 | sample)", load_dataset("Penicillin"))
    if name == "cbpp":
        return glmer(CBPP, load_dataset("cbpp"), "binomial")
    formula = "Reaction ~ Days + diag(cond + Days | Subject)"
    return lmer(formula, frame("sleepstudy_w"), weights="w")


@pytest.mark.parametrize("name", ["sleepstudy", "Penicillin", "cbpp", "diagonal"])
def test_simulated_effects_have_the_moments_of_their_distribution(name):
    """The variances of predictions have the same parts: given the parameters, and by these."""
    fit, moved = fit_of(name), movement(fit_of(name)._fit)
    found = fit.re_sim(N, seed=1)
    known = fit.ranef(condVar=True).to_frame()
    by_parameters = {}
    for t, term in enumerate(fit._fit.terms):
        slopes = moved.effects[t]
        variance = np.einsum("kls,km,mls->ls", slopes, moved.covariance, slopes, optimize=True)
        for j, column in enumerate(term.columns):
            by_parameters[term.group, column] = variance[:, j]
    both = known.merge(found, on=["grpvar", "term", "grp"], how="left")
    assert len(both) == len(found) == len(known)
    groups = both.groupby(["grpvar", "term"], sort=False)
    sd = np.concatenate([np.sqrt(part["condsd"] ** 2 + by_parameters[key]) for key, part in groups])
    both = pd.concat([part for _, part in groups])
    error = sd / np.sqrt(N)
    for centre, factor in (("mean", 4.5), ("median", 4.5 * np.sqrt(np.pi / 2))):
        assert (np.abs(both[centre] - both["condval"]) <= factor * error + 1e-12).all()
    # A standard deviation of N normal draws has a relative error of 1 / sqrt(2 N).
    assert (np.abs(both["sd"] / sd - 1.0) < 4.5 / np.sqrt(2 * N)).all()
    fixed, table = fit.fe_sim(N, seed=2), fit.vcov()
    sd = np.sqrt(np.diag(table))
    assert fixed["term"].tolist() == list(table.index)
    assert (np.abs(fixed["mean"] - fit.beta) < 4.5 * sd / np.sqrt(N)).all()
    np.testing.assert_allclose(fixed["sd"], sd, rtol=4.5 / np.sqrt(2 * N))


@pytest.mark.parametrize("name", ["sleepstudy", "Penicillin", "cbpp", "diagonal"])
@pytest.mark.parametrize("residual", [True, False])
def test_intervals_are_those_of_predict(name, residual):
    """Two routes to one distribution: quadratic forms there, solved draws here."""
    fit = fit_of(name)
    kind = "prediction" if residual else "confidence"
    ddf = None if name != "cbpp" else "auto"
    exact = fit.predict(interval=kind, ddf=ddf, level=0.9)
    found = fit.predict_interval(n=N, seed=3, level=0.9, include_residual=residual)
    assert list(found) == ["fit", "lower", "upper"]
    assert found.index.equals(exact.index)
    sd = (exact["upper"] - exact["lower"]) / (2 * 1.645)
    for end in ("lower", "upper"):
        gap = np.abs(found[end] - exact[end])
        # Shares of few trials are a grid, and quantiles of it are on one point or the next.
        step = 1.0 / fit.weights() if name == "cbpp" and residual else 0.0
        # 180 rows, two ends: the largest of so many errors is within five standard errors.
        assert (gap <= 1.3 * QUANTILE / np.sqrt(N) * sd + step + 1e-12).all()


def test_parts_of_the_predictor():
    fit = fit_of("Penicillin")
    rows = load_dataset("Penicillin").head(8)
    everything = fit.predict_interval(rows, "all", n=N, seed=4, include_residual=False)
    assert everything["effect"].unique().tolist() == ["full", "fixed", "plate", "sample"]
    part = {name: everything[everything["effect"] == name] for name in ("full", "plate", "sample")}
    fixed = fit.predict_interval(rows, "fixed", n=N, seed=5, stat="mean")
    random = fit.predict_interval(rows, "random", n=N, seed=6, stat="mean")
    modes = fit.predict(rows) - fit.predict(rows, re_form="~0")
    sd = (random["upper"] - random["lower"]) / 3.92
    assert (np.abs(random["fit"] - modes) < 4.5 * sd / np.sqrt(N)).all()
    assert np.ptp(fixed["fit"]) == 0.0
    plates = fit.ranef()["plate"].loc[rows["plate"]].iloc[:, 0].to_numpy()
    assert np.abs(part["plate"]["fit"].to_numpy() - plates).max() < 0.05
    # The mean and the plates depend on each other: the whole is known better than its parts.
    width = {name: (p["upper"] - p["lower"]).mean() for name, p in part.items()}
    assert width["full"] < width["sample"]


def test_draws_of_one_model_are_joint():
    """Sums of effects and intercept are known better than either, by the covariance of both."""
    fit = fit_of("Penicillin")
    draws = joint_draws(fit._fit, N, np.random.default_rng(1))
    t = next(t for t, term in enumerate(fit._fit.terms) if term.group == "sample")
    total = draws.beta[0] + draws.effects[t][:, 0].mean(axis=0)
    assert total.std() < 0.3 * draws.beta[0].std()


def test_new_levels_new_rows_and_missing_values():
    fit = fit_of("sleepstudy")
    new = pd.DataFrame({"Days": [1.0, 1.0, np.nan], "Subject": ["308", "new", "308"]}, [7, 8, 9])
    with pytest.raises(DataError, match="new levels detected"):
        fit.predict_interval(new, n=10)
    found = fit.predict_interval(new, n=N, seed=1, new_levels="population", level=0.9)
    exact = fit.predict(new, new_levels="population", interval="prediction", ddf=None, level=0.9)
    assert found.index.tolist() == [7, 8, 9]
    assert np.isnan(found.loc[9]).all()
    sd = (exact["upper"] - exact["lower"]) / 3.29
    gap = np.abs(found - exact[["fit", "lower", "upper"]])
    assert (gap.loc[[7, 8]].max(axis=1) < QUANTILE / np.sqrt(N) * sd.loc[[7, 8]]).all()
    missing = fit.predict_interval(new, n=50, seed=1, new_levels="missing")
    assert missing["fit"].isna().tolist() == [False, True, True]


def test_weights_trials_offsets_and_links():
    data = frame("sleepstudy_w")
    fit = lmer("Reaction ~ Days + (1 | Subject)", data, weights="w", offset="2 * Days")
    found = fit.predict_interval(data.head(3), n=N, seed=1, level=0.9)
    exact = fit.predict(data.head(3), interval="prediction", ddf=None, level=0.9)
    sd = (exact["upper"] - exact["lower"]) / 3.29
    assert (np.abs(found["upper"] - exact["upper"]) < QUANTILE / np.sqrt(N) * sd).all()
    herds = fit_of("cbpp")
    rows = load_dataset("cbpp").head(4)
    shares = herds.predict_interval(rows, n=500, seed=1)
    counts = shares.mul(rows["size"], axis=0)
    assert counts["upper"].to_numpy() == pytest.approx(np.round(counts["upper"]), abs=1e-9)
    eta = herds.predict_interval(rows, n=N, seed=1, type="link", include_residual=False)
    exact = herds.predict(rows, type="link", interval="confidence")
    assert np.abs(eta["lower"] - exact["lower"]).max() < 0.15
    padded = data.assign(Days=data["Days"].astype(float))
    padded.loc[4, "Days"] = np.nan
    whole = lmer("Reaction ~ Days + (1 | Subject)", padded, na_action="exclude")
    assert np.flatnonzero(whole.predict_interval(n=20, seed=1)["fit"].isna()).tolist() == [4]


def test_any_family_has_intervals():
    ticks = frame("grouseticks").head(120)
    for family in ("poisson", "nbinom1"):
        fit = glmer("TICKS ~ YEAR + (1 | BROOD)", ticks, family)
        found = fit.predict_interval(n=200, seed=1)
        assert (found["lower"] >= 0.0).all()
        assert (found[["lower", "upper"]] % 1.0 == 0.0).all(axis=None)


def test_seeds_and_sizes():
    fit = fit_of("sleepstudy")
    one, two = (fit.predict_interval(n=50, seed=9) for _ in range(2))
    pd.testing.assert_frame_equal(one, two)
    pd.testing.assert_frame_equal(fit.re_sim(20, seed=1), fit.re_sim(20, seed=1))
    assert np.isnan(fit.re_sim(1, seed=1)["sd"]).all()


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"which": "both"}, "which is 'both'; expected one of 'full', 'fixed'"),
        ({"stat": "mode"}, "stat is 'mode'; expected 'median' or 'mean'"),
        ({"n": 0}, "n is 0"),
        ({"level": 2}, "level is 2"),
        ({"include_residual": 3}, "include_residual is 3"),
        ({"new_levels": "draw"}, "new_levels is 'draw'"),
        ({"n_sims": 3}, "predict_interval has no n_sims"),
    ],
)
def test_wrong_arguments_are_refused(arguments, message):
    with pytest.raises(ArgumentError, match=message):
        fit_of("sleepstudy").predict_interval(**arguments)


def test_a_new_response_is_not_on_the_link():
    with pytest.raises(ArgumentError, match="not on the scale of the link"):
        fit_of("cbpp").predict_interval(type="link")
    for method in ("re_sim", "fe_sim"):
        with pytest.raises(ArgumentError, match="n is 0"):
            getattr(fit_of("cbpp"), method)(0)


@pytest.mark.parametrize("case", cases("mertools.json"), ids=lambda c: c["id"])
def test_effects_are_mertools(case):
    """It draws fixed and random effects jointly here, with the covariance parameters known."""
    fit, n = fit_of(case["id"]), 3000
    both = np.sqrt(1.0 / n + 1.0 / N)
    draws = joint_draws(fit._fit, N, np.random.default_rng(7), given_theta=True)
    theirs = pd.DataFrame(case["re"])
    for t, term in enumerate(fit._fit.terms):
        for j, column in enumerate(term.columns):
            chosen = theirs[(theirs["group"] == term.group) & (theirs["term"] == column)]
            assert chosen["level"].tolist() == term.grouping.levels.tolist()
            ours = draws.effects[t][:, j]
            sd = ours.std(axis=1)
            assert (np.abs(ours.mean(axis=1) - chosen["mean"]) < 4.5 * both * sd).all()
            # It draws sigma first, from its scaled inverse chi-square: 1 % more.
            gap = np.abs(sd / chosen["sd"] - 1.0)
            assert (gap < 4.5 * both / np.sqrt(2) + 0.015).all()
    fixed, known = fit.fe_sim(N, seed=8), case["fe"]
    assert fixed["term"].tolist() == np.atleast_1d(known["term"]).tolist()
    assert (np.abs(fixed["mean"] - known["mean"]) < 4.5 * both * fixed["sd"]).all()
    assert (np.abs(fixed["sd"] / known["sd"] - 1.0) < 4.5 * both / np.sqrt(2) + 0.015).all()


@pytest.mark.parametrize("case", cases("mertools.json"), ids=lambda c: c["id"])
def test_intervals_beside_mertools(case):
    """Its random part is given all parameters, and its whole the sum of independent parts."""
    name, n = case["id"], 3000
    data = load_dataset(name)
    rows = data.iloc[[0, 9, 10, 19]] if name == "sleepstudy" else data.head(6)
    fixed = fit_of(name).predict_interval(rows, "fixed", 0.9, N, seed=9)
    sd = (fixed["upper"] - fixed["lower"]) / 3.29
    for end in ("lower", "upper"):
        error = 1.3 * QUANTILE * np.sqrt(1.0 / n + 1.0 / N) * sd
        assert (np.abs(fixed[end] - case["fixed"][end]) < error + 0.02 * sd).all()
    full = fit_of(name).predict_interval(rows, level=0.9, n=N, include_residual=False, seed=9)
    width = np.array(case["full"]["upper"]) - case["full"]["lower"]
    assert (width > 1.02 * (full["upper"] - full["lower"])).all()
