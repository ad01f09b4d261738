"""Simulated residuals: ranks by hand, distribution functions, R's tests, size and power."""

import json
from dataclasses import replace
from functools import cache
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import scipy
from hypothesis import given, settings
from hypothesis import strategies as st
from simulation_models import DATA, MODELS, dense_covariance, model

from mixef import UserFamily, glmer, lmer, load_dataset
from mixef.errors import DataError, FitError
from mixef.inference.diagnostics import residual_patterns as patterns
from mixef.inference.diagnostics import residual_tests
from mixef.inference.diagnostics.draws import Draws, rank_p_value

R = json.loads((Path(__file__).parent / "reference" / "residual_tests.json").read_text())
MORE = {
    "beta": lambda: glmer("p ~ x + (1 | g)", DATA.assign(p=proportions()), "beta"),
    "t": lambda: glmer("time ~ x + (1 | g)", DATA, "t"),
    "nbinom1": lambda: glmer("count ~ x + (1 | g)", DATA.assign(count=DATA["hits"]), "nbinom1"),
    "betabinomial": lambda: glmer(
        "cbind(hits, size - hits) ~ x + (1 | g)", overdispersed(), "betabinomial"
    ),
    "binary": lambda: glmer("label ~ x + (1 | g)", DATA, "binomial"),
    "offset": lambda: glmer("count ~ x + (1 | g) + offset(log(size))", DATA, "poisson"),
    "weighted counts": lambda: glmer("count ~ x + (1 | g)", DATA, "poisson", weights="w"),
    "means of counts": lambda: glmer("mean ~ x + (1 | g)", means(), "poisson", weights="w"),
    "weighted t": lambda: glmer("time ~ x + (1 | g)", DATA, "t", weights="w"),
    "weighted trials": lambda: glmer(
        "cbind(hits, size - hits) ~ x + (1 | g)", overdispersed(), "betabinomial", weights="w"
    ),
    "weighted gamma": lambda: glmer("time ~ x + (1 | g)", DATA, "Gamma(log)", weights="w"),
    "inverse gaussian": lambda: glmer("time ~ x + (1 | g)", DATA, "inverse.gaussian(log)"),
}


def proportions():
    return np.random.default_rng(3).beta(2.0, 3.0, len(DATA))


def means():
    """Counts over w, as rates of w copies are."""
    return DATA.assign(mean=DATA["count"] / DATA["w"])


def overdispersed():
    rng = np.random.default_rng(4)
    return DATA.assign(hits=rng.binomial(DATA["size"], rng.beta(2.0, 2.0, len(DATA))))


@cache
def fitted(name):
    return MORE[name]() if name in MORE else model(name)


def by_hand(y, drawn, u):
    """A residual, from its definition."""
    return (np.sum(drawn < y) + u * np.sum(drawn == y)) / len(drawn)


# ------------------------------------------------------------------ residuals


@given(st.integers(0, 2**32), st.integers(1, 4), st.integers(2, 9), st.sampled_from([2, 5, 10**6]))
@settings(max_examples=30, deadline=None)
def test_residuals_are_ranks_of_each_data_set_among_the_others(seed, n, m, values):
    rng = np.random.default_rng(seed)
    y, drawn = rng.integers(0, values, n), rng.integers(0, values, (n, m))
    draws = Draws(y.astype(float), drawn, np.zeros(n), rng.random(n), False, 1)
    for i in range(n):
        assert draws.scaled[i] == pytest.approx(by_hand(y[i], drawn[i], draws.uniform[i]))
    np.testing.assert_allclose(draws.all_scaled[:, 0], draws.scaled, rtol=1e-14)
    for j in range(m):
        others = np.column_stack([y, np.delete(drawn, j, axis=1)])
        low, high = (
            np.array([by_hand(drawn[i, j], others[i], u) for i in range(n)]) for u in (0.0, 1.0)
        )
        assert (draws.all_scaled[:, j + 1] >= low - 1e-14).all()
        assert (draws.all_scaled[:, j + 1] <= high + 1e-14).all()


@pytest.mark.parametrize("name", [*MODELS, *MORE])
def test_residuals_are_the_distribution_function(name):
    """Given the modes: of the family, with weights, trials, offsets; within Monte Carlo error."""
    fit, n = fitted(name), 2000
    state, found = fit._fit, fit.simulated_residuals(n, seed=1, re_form=None)
    w = np.ones(fit.nobs) if state.weights is None else state.weights
    if name == "weighted gamma":
        w = w / w.mean()
    elif name == "weighted trials":
        w = DATA["size"].to_numpy(float)
    elif name.startswith("weighted "):
        w = np.ones(fit.nobs)
    family, y = state.family, state.y
    step = 0.75 / w if family.support == "whole" else 0.0  # to the whole number before
    with np.errstate(all="ignore"):
        high = family.cdf(y, state.mu, w, state.extra)
        low = family.cdf(y - step, state.mu, w, state.extra) if np.any(step) else high
    low = np.where(np.isnan(low) | (y <= 0) & np.any(step), 0.0, low)
    error = 4.5 * np.sqrt(0.25 / n)  # of a share of n; 7e-6 for each of some thousand rows
    u = found.draws.scaled
    assert (u >= low - error).all()
    assert (u <= high + error).all()
    assert found.draws.independent
    assert found.test_uniformity().reference == "theory"


@pytest.mark.parametrize("name", ["slopes", "weights", "two terms"])
def test_residuals_with_new_random_effects_are_marginal(name):
    fit, n = model(name), 4000
    u = fit.simulated_residuals(n, seed=2).draws.scaled
    sd = np.sqrt(dense_covariance(fit).diagonal())
    expected = scipy.special.ndtr((fit._fit.y - fit._fit.fixed_predictor) / sd)
    assert np.abs(u - expected).max() < 4.5 * np.sqrt(0.25 / n)


def test_weights_that_all_are_alike_change_nothing():
    data = DATA.assign(ten=10.0)
    one, ten = (glmer("time ~ x + (1 | g)", data, "Gamma(log)", weights=w) for w in (None, "ten"))
    share = glmer("p ~ x + (1 | g)", data.assign(p=proportions()), "beta", weights="ten")
    for fit in (one, ten, share):
        assert fit.simulated_residuals(seed=1, re_form=None).test_uniformity().p_value > 0.01


def test_copies_have_the_residual_of_one():
    """Weights that count copies change the estimates, and neither counts nor their draws."""
    for name in ("weighted counts", "weighted trials"):
        found = fitted(name).simulated_residuals(100, seed=1)
        assert found.observed.equals(found.observed.round())
        assert found.simulated.max() <= (8 if name == "weighted trials" else 60)
        frame = fitted(name).check(49, seed=1).frame.set_index("check")
        assert "Pearson" not in frame.loc["dispersion", "message"]
    counts = fitted("weighted counts").simulated_residuals(199, seed=1, re_form=None)
    assert counts.test_dispersion().p_value > 0.05
    rates = fitted("means of counts").simulated_residuals(100, seed=1)
    assert rates.observed.tolist() == DATA["count"].tolist()


def test_some_random_effects_may_stay():
    fit = model("two terms")
    some = fit.simulated_residuals(20, seed=1, re_form="~ (1 | h)")
    assert not some.draws.independent
    assert some.held == "random effects at their modes by ~ (1 | h)"
    own = fit.predict(re_form="~ (1 | h)")
    np.testing.assert_allclose(some.fitted, own, rtol=1e-12)


def test_a_seed_gives_the_same_residuals_and_p_values():
    fit = model("cbpp")
    one, two, other = (fit.simulated_residuals(30, seed=s) for s in (1, 1, 2))
    pd.testing.assert_frame_equal(one.to_frame(), two.to_frame())
    pd.testing.assert_frame_equal(one.tests().frame, two.tests().frame)
    assert not one.scaled.equals(other.scaled)


def test_counts_are_kept_small_and_shares_as_counts():
    cbpp, shares = model("cbpp"), model("shares")
    found = cbpp.simulated_residuals(10, seed=1)
    assert found.simulated.dtype == np.uint8
    assert found.simulated.shape == (56, 10)
    assert found.observed.tolist() == load_dataset("cbpp")["incidence"].tolist()
    assert shares.simulated_residuals(10, seed=1).observed.tolist() == DATA["hits"].tolist()


def test_rows_of_the_data_keep_their_labels():
    data = DATA.assign(y=DATA["x"] + DATA["time"], when=np.arange(240.0)).set_index(
        pd.Index([f"r{i}" for i in range(240)])
    )
    data.loc[["r3", "r7"], "y"] = np.nan
    fit = lmer("y ~ x + (1 | g)", data, na_action="exclude")
    found = fit.simulated_residuals(50, seed=1)
    frame = found.to_frame()
    assert list(frame) == ["observed", "fitted", "scaled", "outlier"]
    assert frame.index.equals(data.index)
    assert frame.index[frame["scaled"].isna()].tolist() == ["r3", "r7"]
    times = [
        found.test_temporal(t).statistic
        for t in ("when", data["when"], data["when"].to_numpy(), data["when"].dropna().iloc[::-1])
    ]
    assert len(set(times)) == 1
    dates = pd.Timestamp("2020-01-01") + pd.to_timedelta(np.arange(240), "D")
    assert found.test_temporal(pd.Series(dates, data.index)).statistic == times[0]


def test_data_of_other_kinds():
    polars = pytest.importorskip("polars")
    pandas_fit = model("shares")
    other = glmer("share ~ x + (1 | g)", polars.from_pandas(DATA), "binomial", weights="size")
    a, b = (f.simulated_residuals(20, seed=1) for f in (pandas_fit, other))
    np.testing.assert_array_equal(a.scaled, b.scaled)
    assert a.test_groups("w").p_value == b.test_groups("w").p_value
    assert b.test_quantiles("size").p_value == a.test_quantiles(DATA["size"]).p_value


# ------------------------------------------------------------------ tests against R's


def given_residuals(u, m=99, independent=True):
    """Draws whose residuals are given, for tests by theory."""
    n = len(u)
    draws = Draws(u, np.random.default_rng(1).random((n, m)), np.zeros(n), u, independent, 1)
    vars(draws)["scaled"] = u
    return draws


GIVEN = given_residuals(np.array(R["u"]))


def test_uniformity_is_that_of_ks_test():
    found = residual_tests.uniformity(GIVEN, "theory")
    assert found.statistic == pytest.approx(R["ks"]["statistic"], rel=1e-12)
    # R's exact p value is by another algorithm, good to some ten digits.
    assert found.p_value == pytest.approx(R["ks"]["p_value"], rel=1e-9)


def test_autocorrelation_in_time_is_that_of_lmtest():
    found = patterns.temporal(GIVEN, np.array(R["time"], dtype=float), None, "time", "theory")
    assert found.statistic == pytest.approx(R["dw"]["statistic"], rel=1e-12)
    assert found.p_value == pytest.approx(R["dw"]["p_value"], rel=1e-10)


@pytest.mark.parametrize("alternative", ["two-sided", "greater", "less"])
def test_autocorrelation_in_space_is_that_of_ape(alternative):
    places = np.column_stack([R["x"], R["y"]])
    found = patterns.spatial(GIVEN, places, "places", alternative, "theory")
    assert found.statistic == pytest.approx(R["moran"]["statistic"], rel=1e-11)
    assert found["expected"].item() == pytest.approx(R["moran"]["expected"], rel=1e-12)
    assert found.p_value == pytest.approx(R["moran"]["p_value"][alternative], rel=1e-10)


def test_groups_are_those_of_ks_test_and_car():
    levels, codes = np.unique(R["g"], return_inverse=True)
    found = patterns.groups(GIVEN, codes, levels.tolist(), "g", "theory")
    np.testing.assert_allclose(found.uniformity["statistic"], R["groups"]["statistic"], rtol=1e-11)
    np.testing.assert_allclose(found.uniformity["p_value"], R["groups"]["p_value"], rtol=1e-9)
    np.testing.assert_allclose(found.uniformity["p_adjusted"], R["groups"]["p_adjusted"])
    assert found.homogeneity.statistic == pytest.approx(R["levene"]["statistic"], rel=1e-11)
    assert found.homogeneity.p_value == pytest.approx(R["levene"]["p_value"], rel=1e-10)


def test_holm_is_that_of_p_adjust():
    # p.adjust(c(0.01, 0.04, 0.03, 0.005)) is 0.03 0.06 0.06 0.02
    np.testing.assert_allclose(patterns._holm(np.array([0.01, 0.04, 0.03, 0.005])),
                               [0.03, 0.06, 0.06, 0.02])  # fmt: skip


def test_outliers_by_theory_are_binomial():
    rng, (n, m) = np.random.default_rng(2), (R["binomial"]["n"], R["binomial"]["simulations"])
    y = rng.random(n)
    y[:2], y[2] = 2.0, -1.0
    draws = Draws(y, rng.random((n, m)), np.zeros(n), y, True, 1)
    found = residual_tests.outliers(draws, "two-sided", "both", "auto")
    inside = (y[3:, None] > draws.simulated[3:]).any(axis=1)
    assert found.reference == "theory"
    if inside.all() and (y[3:, None] < draws.simulated[3:]).any(axis=1).all():
        assert found.p_value == pytest.approx(R["binomial"]["p_value"], rel=1e-10)
    by_hand = ((y[:, None] > draws.simulated).all(axis=1)).sum()
    upper = residual_tests.outliers(draws, "greater", "upper", "simulation")
    assert upper.statistic == by_hand


def test_quantiles_are_the_score_test_by_hand():
    rng = np.random.default_rng(3)
    x, u = rng.normal(size=200), rng.random(200)
    found = patterns.quantiles(given_residuals(u), x, "x", np.array([0.3]), "theory")
    Q = patterns._rank_spline(x, "x")
    np.testing.assert_allclose(Q.T @ Q, np.eye(5), atol=1e-12)
    s = Q.T @ ((u < 0.3) - 0.3)
    assert found.statistic == pytest.approx(s @ s / 0.21)
    assert found.p_value == pytest.approx(scipy.stats.chi2.sf(found.statistic, 5))
    two = patterns.quantiles(given_residuals(u), (x > 0) * 1.0, "x", np.array([0.3]), "theory")
    assert two["df"].item() == 2
    # the constant and a binary predictor: two binomial counts
    z2 = sum(
        ((u[x_] < 0.3).sum() - 0.3 * x_.sum()) ** 2 / (0.21 * x_.sum()) for x_ in (x > 0, x <= 0)
    )
    assert two.statistic == pytest.approx(z2)


def test_predictors_with_ties_have_a_spline():
    x = np.r_[np.zeros(150), np.arange(7.0), np.ones(43)]
    Q = patterns._rank_spline(x, "x")
    np.testing.assert_allclose(Q.T @ Q, np.eye(5), atol=1e-12)
    assert patterns._rank_spline(np.arange(3.0)[np.arange(9) % 3], "x").shape == (9, 3)


def test_recalculated_residuals_are_those_of_sums():
    fit = model("cbpp")
    found, herds = (
        fit.simulated_residuals(40, seed=1),
        load_dataset("cbpp")["herd"].reset_index(drop=True),
    )
    grouped = found.recalculate("herd")
    sums = pd.Series(found.observed.to_numpy()).groupby(herds, observed=True).sum()
    np.testing.assert_array_equal(grouped.observed, sums)
    drawn = pd.DataFrame(found.simulated.astype(int)).groupby(herds, observed=True).sum()
    np.testing.assert_array_equal(grouped.simulated, drawn)
    expected = [
        by_hand(*row) for row in zip(sums, drawn.to_numpy(), grouped.draws.uniform, strict=True)
    ]
    np.testing.assert_allclose(grouped.scaled, expected)
    assert list(grouped.scaled.index) == list(herds.cat.categories)
    means = found.recalculate(herds, by="mean")
    np.testing.assert_allclose(means.observed * herds.value_counts(sort=False).to_numpy(), sums)
    assert grouped.tests().frame.loc["uniformity", "p_value"] > 0.01
    with pytest.raises(DataError, match="of groups of rows, which have no variables"):
        grouped.test_quantiles("period")
    with pytest.raises(ValueError, match="of rows, and these are of groups"):
        grouped.test_dispersion(type="pearson")


# ------------------------------------------------------------------ size and power


def dependent_rows():
    """Counts of 8 groups that are drawn from their model, and their times and predictor."""
    rng = np.random.default_rng(5)
    g, x = np.repeat(np.arange(8), 6), rng.normal(size=48)
    while True:
        b = rng.normal(size=(8, 60))[g] * 0.7
        y = rng.poisson(np.exp(0.3 + 0.3 * x[:, None] + b)).astype(float)
        draws = Draws(y[:, 0], y[:, 1:], np.exp(0.3 + 0.3 * x), rng.random(48), False, 7)
        yield draws, g, x, np.arange(48.0)


def by_group(draws, g, reference):
    return patterns.groups(draws, g, list(map(str, range(8))), "g", reference)


def test_p_values_by_rank_keep_their_level_for_dependent_rows():
    """Of 200 true models: Binomial(200, 0.05) is above 0.105 with probability 1e-3."""
    rows = []
    for _, (draws, g, x, time) in zip(range(200), dependent_rows(), strict=False):
        groups, how = by_group(draws, g, "simulation"), "simulation"
        tests = {
            "uniformity": residual_tests.uniformity(draws, how),
            "outliers": residual_tests.outliers(draws, "greater", "both", how),
            "dispersion": residual_tests.dispersion(draws, "two-sided"),
            "zeros": residual_tests.zero_inflation(draws, "two-sided"),
            "quantiles": patterns.quantiles(draws, x, "x", np.array([0.5]), how),
            "groups": groups.uniformity,
            "homogeneity": groups.homogeneity,
            "time": patterns.temporal(draws, time, g, "time", how),
        }
        rows.append({name: test.p_value <= 0.05 for name, test in tests.items()})
    shares = pd.DataFrame(rows).mean()
    assert (shares <= 0.105).all(), shares
    without_ties = shares.drop(["outliers", "zeros"])
    assert (without_ties >= 0.01).all(), shares  # below it with probability 2e-3


def test_p_values_by_theory_do_not():
    """So that the test above can fail: these take the rows as independent."""
    found = [
        (residual_tests.uniformity(draws, "theory").p_value,
         by_group(draws, g, "theory").uniformity.p_value)
        for _, (draws, g, _, _) in zip(range(50), dependent_rows(), strict=False)
    ]  # fmt: skip
    assert (np.array(found) <= 0.05).mean(axis=0).min() > 0.15


def test_few_draws_of_many_rows_are_judged_by_rank():
    """The steps of residuals, 1 / m, are seen by a test of many rows for itself."""
    rng = np.random.default_rng(6)
    u = rng.random((20_000, 31))
    draws = Draws(u[:, 0], u[:, 1:], np.zeros(20_000), u[:, 0], True, 1)
    assert residual_tests.uniformity(draws, "theory").p_value < 1e-6
    found = residual_tests.uniformity(draws, "auto")
    assert found.reference == "simulation"
    assert found.p_value > 0.05


def test_rank_p_values():
    assert rank_p_value(np.array([5.0, 1.0, 2.0, 5.0])) == 0.5
    assert rank_p_value(np.array([5.0, 1.0, 2.0, 6.0]), "less") == 0.75
    assert rank_p_value(np.array([5.0, 1.0, 2.0, 3.0]), "two-sided") == 0.5
    assert rank_p_value(np.array([0.0, 0.0, 0.0, 0.0]), "two-sided") == 1.0


@cache
def wrong(kind):
    """A fit whose model is wrong in one way."""
    rng = np.random.default_rng(11)
    n, g = 400, np.repeat(np.arange(20), 20)
    x = rng.uniform(-1, 1, n)
    b = 0.3 * rng.normal(size=20)[g]
    mu = np.exp(1.0 + 0.5 * x + b)
    data = pd.DataFrame({"g": g, "x": x, "t": np.tile(np.arange(20), 20), "f": g % 2})
    data["u"], data["v"] = rng.normal(size=(2, n))
    if kind == "overdispersed":
        data["y"] = rng.poisson(mu * rng.gamma(1.0, 1.0, n))
    elif kind == "zeros":
        data["y"] = np.where(rng.random(n) < 0.35, 0, rng.poisson(mu))
    elif kind == "underdispersed":
        data["y"] = rng.binomial(12, mu / 12.0)
    elif kind == "curved":
        data["y"] = rng.poisson(np.exp(0.5 + 2.0 * x**2 + b))
    else:
        e = rng.normal(size=(20, 20))
        if kind == "in time":
            for j in range(1, 20):
                e[:, j] += 0.7 * e[:, j - 1]
        e = e.ravel()
        if kind == "variances":
            e = e * (1.0 + 2.0 * data["f"])
        if kind == "in space":
            centres = rng.normal(size=(30, 2))
            size = rng.normal(size=30) * 2.0
            far = (data["u"].to_numpy()[:, None] - centres[:, 0]) ** 2
            far = far + (data["v"].to_numpy()[:, None] - centres[:, 1]) ** 2
            e = e + np.exp(-far / 0.3) @ size
        data["z"] = x + b + e
        return lmer("z ~ x + (1 | g)", data).simulated_residuals(199, seed=1)
    return glmer("y ~ x + (1 | g)", data, "poisson").simulated_residuals(199, seed=1)


POWER = {
    "overdispersed": lambda r: [r.test_dispersion(), r.test_uniformity(), r.test_outliers()],
    "zeros": lambda r: [r.test_zero_inflation("greater")],
    "underdispersed": lambda r: [r.test_dispersion("less")],
    "curved": lambda r: [r.test_quantiles("x")],
    "variances": lambda r: [r.test_groups("f").homogeneity],
    "in time": lambda r: [r.test_temporal("t", group="g")],
    "in space": lambda r: [r.test_spatial("u", "v", "greater")],
}


@pytest.mark.parametrize("kind", POWER)
def test_a_wrong_model_is_found(kind):
    for test in POWER[kind](wrong(kind)):
        assert test.p_value <= 0.04, test


# ------------------------------------------------------------------ results and refusals


def test_results_print_and_have_frames():
    found = model("cbpp").simulated_residuals(30, seed=1)
    results = [
        found, found.tests(), found.test_uniformity(), found.test_dispersion(),
        found.test_outliers(), found.test_zero_inflation(), found.test_quantiles(),
        found.test_groups("herd"), found.test_dispersion(type="pearson"),
    ]  # fmt: skip
    for result in results:
        assert isinstance(result.to_frame(), pd.DataFrame)
        for text in (str(result), result.to_html(), result.to_markdown(), result.to_latex()):
            assert text
            assert "nan" not in text.lower()
    assert found.test_dispersion(type="pearson").statistic == model("cbpp").overdispersion().ratio


def test_dispersion_is_the_ratio_of_variances():
    found = model("ticks").simulated_residuals(60, seed=3)
    e, drawn = found.observed - found.fitted, found.simulated - found.fitted.to_numpy()[:, None]
    expected = e.var(ddof=1) / drawn.var(axis=0, ddof=1).mean()
    assert found.test_dispersion().statistic == pytest.approx(expected, rel=1e-12)


def test_work_in_pieces_is_the_same(monkeypatch):
    found = model("ticks").simulated_residuals(60, seed=3)
    whole = [t.p_value for t in (found.test_uniformity(), found.test_dispersion("less"))]
    monkeypatch.setattr("mixef.inference.diagnostics.draws.CELLS", 1000)
    monkeypatch.setattr("mixef.inference.diagnostics.residual_patterns.CELLS", 1000)
    again = replace(found, draws=replace(found.draws))
    assert again.scaled.equals(found.scaled)
    assert again.test_dispersion("less").p_value == whole[1]
    np.testing.assert_allclose(again.test_uniformity().p_value, whole[0], atol=0.04)
    x, y = np.random.default_rng(1).normal(size=(2, 403))
    one, two = again.test_spatial(x, y), found.test_spatial(x, y)
    assert one.statistic == pytest.approx(two.statistic, rel=1e-10)


WRONG = {
    "n is 0": lambda r: model("cbpp").simulated_residuals(0),
    "re_form .* has no grouping factor": lambda r: model("cbpp").simulated_residuals(
        re_form="~ (1 | farm)"
    ),
    "several rows at the same time in one group": lambda r: r.test_temporal(
        np.zeros(56), group="herd"
    ),
    "several rows at the same time;": lambda r: r.test_temporal("period"),
    "which has no order in time": lambda r: r.test_temporal(["a", "b"] * 28),
    "several rows at the same place": lambda r: r.test_spatial(np.zeros(56), np.zeros(56)),
    "has 3 values; expected one value for each of the 56": lambda r: r.test_groups([1, 2, 3]),
    "no column 'farm'": lambda r: r.test_groups("farm"),
    "has one level in all rows": lambda r: r.test_groups(["a"] * 56),
    "as many levels as rows": lambda r: r.test_groups(np.arange(56)),
    "has one value in all rows": lambda r: r.test_quantiles(np.ones(56)),
    "for groups there is test_groups": lambda r: r.test_quantiles("herd"),
    "missing in 1 of 56 rows": lambda r: r.test_quantiles([np.nan, *range(55)]),
    "infinite in some rows": lambda r: r.test_quantiles([np.inf, *range(55)]),
    "numbers between 0 and 1": lambda r: r.test_quantiles(quantiles=[0.5, 2.0]),
    "alternative is 'more'": lambda r: r.test_dispersion("more"),
    "type is 'refit'": lambda r: r.test_dispersion(type="refit"),
    "margin is 'left'": lambda r: r.test_outliers(margin="left"),
    "reference is 'exact'": lambda r: r.test_uniformity("exact"),
    "by is 'median'": lambda r: r.recalculate("herd", by="median"),
}


@pytest.mark.parametrize("message", WRONG)
def test_refusals(message):
    found = model("cbpp").simulated_residuals(20, seed=1)
    with pytest.raises((DataError, ValueError), match=message):
        WRONG[message](found)


def own_deviance(y, m):
    return 2.0 * (scipy.special.xlogy(y, y / m) - y + m)


def test_a_family_without_draws_is_refused():
    family = UserFamily("own", "log", variance=lambda m: m, deviance=own_deviance)
    fit = glmer("count ~ x + (1 | g)", DATA, family)
    with pytest.raises(FitError, match="how to draw"):
        fit.simulated_residuals()


def test_means_that_do_not_exist_leave_their_rows_out():
    drawn = np.array([[0.1, 0.2], [0.3, np.nan], [np.nan, np.nan]])
    draws = Draws(np.array([0.15, 0.1, 0.5]), drawn, np.zeros(3), np.zeros(3), False, 1)
    np.testing.assert_array_equal(draws.scaled, [0.5, 0.0, np.nan])
    np.testing.assert_array_equal(draws.complete, [0])
    with pytest.raises(DataError, match="1 of 3 rows have all of their simulations"):
        residual_tests.dispersion(draws, "greater")
