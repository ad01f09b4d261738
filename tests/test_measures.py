"""Shares of variance, intraclass correlations and variance inflation."""

import warnings
from functools import cache

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from reference_data import frame, read_reference
from scipy import special

from mixef import (
    Beta,
    BetaBinomial,
    Gamma,
    LmerControl,
    NegativeBinomial,
    NegativeBinomial1,
    Poisson,
    StudentT,
    UserFamily,
    glmer,
    lmer,
    load_dataset,
    ranova,
)
from mixef.errors import ArgumentError, DataError, FitError
from mixef.inference.measures.variances import null_means, term_variances, variances

REFERENCE = read_reference("measures.json")
R2 = {case["id"]: case for case in REFERENCE["r2"]}
LOGS = {case["id"]: case for case in REFERENCE["logs"]}
VIF = {"vif " + case["id"]: case for case in REFERENCE["vif"]}
CASES = R2 | LOGS | VIF
QUIET = LmerControl(check_conv_singular="ignore")
CBPP = "cbind(incidence, size - incidence) ~ period + (1 | herd)"
# lme4's generalized fits stop within some 1e-3 of the optimum, relatively, in the variances.
FITTED = {False: 1e-5, True: 2e-3}


@cache
def fit_of(key):
    case = CASES[key]
    data, family = frame(case["data"]), case.get("family")
    if family is None:
        return lmer(case["formula"], data, REML=case.get("REML", True), weights=case.get("weights"))
    return glmer(case["formula"], data, family=family.replace("'", ""))


@cache
def counts():
    """Counts with 12 levels, and an exposure."""
    rng = np.random.default_rng(11)
    g, x = np.repeat(np.arange(12), 15), rng.normal(size=180)
    exposure = rng.uniform(0.5, 3.0, 180)
    mu = exposure * np.exp(0.6 + 0.4 * x + rng.normal(0, 0.5, 12)[g])
    y = rng.negative_binomial(2.0, 2.0 / (2.0 + mu))
    return pd.DataFrame({"y": y, "x": x, "g": g, "exposure": exposure, "row": np.arange(180)})


@pytest.mark.parametrize("key", R2)
def test_variances_are_those_by_lme4s_whole_matrices(key):
    """``var(X beta)`` and ``tr(Z S Z') / n`` with Z (n, q) and S written out in R."""
    found, case = variances(fit_of(key)._fit), R2[key]
    rtol = FITTED["family" in case]
    np.testing.assert_allclose(found.fixed, case["fixed"], rtol=rtol, atol=1e-12)
    np.testing.assert_allclose(found.random, case["random"], rtol=5 * rtol)


@pytest.mark.parametrize("key", [key for key in R2 if R2[key]["right"]])
def test_shares_are_those_of_performance(key):
    fit, case = fit_of(key), R2[key]
    r2, icc, rtol = fit.r2(), fit.icc(), 3 * FITTED["family" in case]
    np.testing.assert_allclose(r2.marginal, case["marginal"], rtol=rtol, atol=1e-12)
    np.testing.assert_allclose(r2.conditional, case["conditional"], rtol=rtol)
    np.testing.assert_allclose(icc.adjusted, case["adjusted"], rtol=rtol)
    np.testing.assert_allclose(icc.unadjusted, case["unadjusted"], rtol=rtol)


@pytest.mark.parametrize("key", [key for key in R2 if not R2[key]["right"]])
def test_factors_without_an_intercept_count_by_all_their_columns(key):
    """performance is wrong here: its share is not that of the variances."""
    fit, case = fit_of(key), R2[key]
    sigma2 = fit.sigma**2
    expected = case["random"] / (case["random"] + sigma2)
    np.testing.assert_allclose(fit.icc().adjusted, expected, rtol=1e-4)
    assert abs(fit.icc().adjusted - case["adjusted"]) > 1e-3


@pytest.mark.parametrize("method", ["delta", "lognormal", "trigamma"])
@pytest.mark.parametrize("key", LOGS)
def test_log_links_are_as_in_the_paper(key, method):
    """With ``exp(b0 + tau^2 / 2)`` by a null model of lme4; single rows' effects are residual."""
    fit, case = fit_of(key), LOGS[key]
    np.testing.assert_allclose(null_means(fit._fit), case["lambda"], rtol=2e-3)
    found = fit.r2(method)
    np.testing.assert_allclose(found.marginal, case["marginal"][method], rtol=2e-3)
    np.testing.assert_allclose(found.conditional, case["conditional"][method], rtol=2e-3)
    assert found.method == method


def test_rows_own_effects_are_told():
    found = fit_of("ticks_by_row").r2()
    assert found.for_each_row == ("INDEX",)
    assert "INDEX: a level for every row, residual variance too" in str(found)
    data = load_dataset("sleepstudy").rename(columns={"Subject": "residual"})
    found = lmer("Reaction ~ Days + (1 | residual)", data).r2()
    assert list(found.variances.index) == ["fixed", "residual", "residual.1"]
    assert found.for_each_row == ()


def test_which_method_is_the_usual_one():
    usual = {key: fit_of(key).r2().method for key in ("slopes", "cbpp", "probit", "ticks")}
    assert usual == {
        "slopes": "delta", "cbpp": "theoretical", "probit": "theoretical", "ticks": "lognormal",
    }  # fmt: skip


def test_a_share_of_trials_varies_less_by_the_delta_method():
    fit = fit_of("cbpp")
    p, trials = null_means(fit._fit), load_dataset("cbpp")["size"]
    assert np.ptp(p) == 0.0
    expected = np.mean(1.0 / (trials * p[0] * (1.0 - p[0])))
    assert variances(fit._fit, "delta").distribution == pytest.approx(expected, rel=1e-10)


def test_the_mean_of_a_logit_is_over_its_random_effects():
    """The null mean is the integral of the inverse link, here by many draws."""
    fit = fit_of("cbpp")
    null = glmer(
        "cbind(incidence, size - incidence) ~ 1 + (1 | herd)", load_dataset("cbpp"), "binomial"
    )
    b0, sd = null.beta[0], float(np.sqrt(term_variances(null._fit)[0]))
    draws = special.expit(b0 + sd * special.ndtri((np.arange(100_000) + 0.5) / 100_000))
    assert null_means(fit._fit)[0] == pytest.approx(draws.mean(), rel=1e-6)


def test_the_mean_of_a_log_link_is_that_of_draws():
    """It is what responses of the null model are on average, and not insight's ``exp(b0)``."""
    null = glmer("y ~ 1 + (1 | g)", counts(), Poisson())
    draws = null.simulate(4000, seed=8).to_numpy()
    # 4000 draws of 12 levels; the variance of their mean is mostly that of the levels' effects
    error = draws.mean(axis=0).std() / np.sqrt(4000)
    assert abs(null_means(null._fit)[0] - draws.mean()) < 4.0 * error
    assert draws.mean() - np.exp(null.beta[0]) > 20.0 * error


FAMILIES = {
    "nbinom2": (NegativeBinomial(), lambda mu, e: mu + mu**2 / e),
    "nbinom1": (NegativeBinomial1(), lambda mu, e: mu * (1.0 + e)),
    "user": (
        UserFamily("count", "log", variance=np.abs,
                   log_density=lambda y, mu: y * np.log(mu) - mu - special.gammaln(y + 1.0)),
        lambda mu, e: mu,
    ),
}  # fmt: skip


@pytest.mark.parametrize("name", FAMILIES)
def test_the_variance_is_the_familys_own(name):
    family, law = FAMILIES[name]
    fit = glmer("y ~ x + (1 | g)", counts(), family)
    mu = null_means(fit._fit)[0]
    v = law(mu, fit._fit.extra)
    expected = {"delta": v / mu**2, "lognormal": np.log1p(v / mu**2),
                "trigamma": special.polygamma(1, mu**2 / v)}  # fmt: skip
    for method, value in expected.items():
        assert variances(fit._fit, method).distribution == pytest.approx(value, rel=1e-9)


@pytest.mark.parametrize("family", [Gamma("log"), Beta(), StudentT(), BetaBinomial()])
def test_other_families_against_draws_of_their_own(family):
    """The delta method's variance is that of drawn responses over the squared slope of the mean."""
    rng = np.random.default_rng(5)
    g, x, trials = np.repeat(np.arange(10), 20), rng.normal(size=200), np.full(200, 12.0)
    eta = 0.2 + 0.3 * x + rng.normal(0, 0.4, 10)[g]
    extra = {"Gamma": 0.3, "beta": 8.0, "t": (0.8, 7.0), "betabinomial": 6.0}[family.name]
    weights = trials if family.has_trials else None
    y = family.random(rng, family.link.inverse(eta), weights, extra)
    data = pd.DataFrame({"y": y, "x": x, "g": g, "trials": trials})
    fit = glmer("y ~ x + (1 | g)", data, family, weights="trials" if family.has_trials else None)
    mu = np.full(200_000, null_means(fit._fit)[0])
    size = np.full(len(mu), 12.0) if family.has_trials else None
    drawn = family.random(rng, mu, size, fit._fit.extra).var()
    slope = float(family.link.d_inverse(family.link.link(mu[:1]))[0])
    # 200,000 draws of heavy tails
    expected = pytest.approx(drawn / slope**2, rel=0.03)
    assert variances(fit._fit, "delta").distribution == expected


def test_an_identity_link_is_exact_and_weights_divide():
    data = frame("factorial")
    fit = lmer("y ~ A + x + (1 | g)", data, weights="w")
    expected = fit.sigma**2 * np.mean(1.0 / data["w"])
    assert variances(fit._fit).distribution == pytest.approx(expected, rel=1e-12)
    # in other units of the weights nothing changes, sigma included
    again = lmer("y ~ A + x + (1 | g)", data.assign(w=100.0 * data["w"]), weights="w")
    assert again.r2().conditional == pytest.approx(fit.r2().conditional, rel=1e-7)


def test_a_weight_of_two_is_a_row_twice():
    data = counts()
    twice = pd.concat([data, data.iloc[::3]])
    weighted = data.assign(w=np.where(np.arange(180) % 3 == 0, 2.0, 1.0))
    one = glmer("y ~ x + (1 | g)", weighted, Poisson(), weights="w").r2(partial=True)
    other = glmer("y ~ x + (1 | g)", twice, Poisson()).r2(partial=True)
    assert one.marginal == pytest.approx(other.marginal, rel=1e-6)
    assert one.conditional == pytest.approx(other.conditional, rel=1e-6)
    np.testing.assert_allclose(one.partial, other.partial, rtol=1e-5)


def test_an_offset_moves_the_means_of_its_rows():
    data = counts()
    fit = glmer("y ~ x + offset(log(exposure)) + (1 | g)", data, Poisson())
    null = glmer("y ~ 1 + offset(log(exposure)) + (1 | g)", data, Poisson())
    tau2 = float(null.VarCorr()["g"].iloc[0, 0])
    mu = data["exposure"] * np.exp(null.beta[0] + tau2 / 2.0)
    found = variances(fit._fit, "delta")
    assert found.distribution == pytest.approx(np.mean(1.0 / mu), rel=1e-6)
    assert found.fixed == pytest.approx(np.var(data["x"] * fit.beta[1], ddof=1), rel=1e-10)


def test_units_and_codings_change_nothing():
    data = frame("factorial")
    one = lmer("y ~ A * x + (x | g)", data, control=QUIET).r2(partial=True)
    data = data.assign(x=1000.0 * data["x"] - 7.0, y=data["y"] * 0.01)
    coded = lmer("y ~ A * x + (x | g)", data, contrasts={"A": "sum"}, control=QUIET)
    other = coded.r2(partial=True)
    assert one.marginal == pytest.approx(other.marginal, rel=1e-6)
    assert one.conditional == pytest.approx(other.conditional, rel=1e-6)
    np.testing.assert_allclose(one.partial["part"], other.partial["part"], atol=1e-7)


def test_parts_and_shares_of_single_terms():
    fit = fit_of("cake")
    found = fit.r2(partial=True)
    total = found.variances["variance"].sum()
    without = {
        "recipe": "temp", "temp": "recipe", "recipe:temp": "recipe + temp",
    }  # fmt: skip
    for term, rest in without.items():
        small = lmer(f"angle ~ {rest} + (1 | recipe:replicate)", load_dataset("cake"))
        lost = variances(fit._fit).fixed - variances(small._fit).fixed
        assert found.partial.loc[term, "part"] == pytest.approx(lost / total, abs=1e-7)
    assert found.partial["share"].sum() == pytest.approx(found.marginal, rel=1e-10)
    assert fit.r2().partial is None


def test_dropped_columns_and_missing_rows():
    data = frame("factorial")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        odd = lmer("y ~ A + x + I(2 * x) + (1 | g)", data)
        plain = lmer("y ~ A + x + (1 | g)", data)
    assert odd.r2().marginal == pytest.approx(plain.r2().marginal, rel=1e-8)
    np.testing.assert_allclose(odd.vif()["GVIF"], plain.vif()["GVIF"], rtol=1e-8)
    holes = data.assign(x=data["x"].where(data.index % 10 != 0))
    kept = lmer("y ~ A + x + (1 | g)", holes, na_action="exclude")
    whole = lmer("y ~ A + x + (1 | g)", holes.dropna())
    assert kept.r2().conditional == pytest.approx(whole.r2().conditional, rel=1e-10)


def test_groups_share_the_intraclass_correlation():
    fit = fit_of("pastes")
    found = fit.icc(by_group=True)
    assert list(found.by_group.index) == ["cask:batch", "batch"]
    assert found.by_group["adjusted"].sum() == pytest.approx(found.adjusted, rel=1e-12)
    assert list(found.to_frame().index) == ["cask:batch", "batch", "all"]
    assert list(fit.icc().to_frame().index) == ["all"]
    # performance's, by group and in all (its print of icc(by_group = TRUE))
    assert found.by_group["adjusted"].sum() == pytest.approx(R2["pastes"]["adjusted"], rel=1e-5)


@pytest.mark.parametrize("key", VIF)
def test_variance_inflation_is_cars(key):
    found, case = fit_of(key).vif(), VIF[key]
    assert list(found.index) == case["rows"]
    rtol = 2e-3 if "family" in case else 1e-5
    for name, values in zip(found.columns, case["values"], strict=True):
        np.testing.assert_allclose(found[name], values, rtol=rtol)


def test_inflation_is_by_regressions_where_rows_are_independent():
    """Of a numeric predictor ``1 / (1 - R^2)`` of its regression on the others, as sd_g -> 0."""
    rng = np.random.default_rng(2)
    data = pd.DataFrame(rng.normal(size=(300, 2)), columns=["x", "z"])
    data["z"] += data["x"]
    data["g"] = np.arange(300) % 30
    data["y"] = rng.normal(size=300)
    data["y"] -= data.groupby("g")["y"].transform("mean")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        fit = lmer("y ~ x + z + (1 | g)", data)
    assert fit.is_singular()
    r = np.corrcoef(data["x"], data["z"])[0, 1]
    np.testing.assert_allclose(fit.vif()["GVIF"], 1.0 / (1.0 - r**2), rtol=1e-8)


def test_a_model_without_an_intercept_says_so():
    fit = lmer("y ~ 0 + x + z + (1 | g)", frame("factorial"))
    assert fit.vif().note.startswith("The model has no intercept")
    assert fit_of("vif numbers").vif().note is None


def test_corrected_aic():
    fit = fit_of("cake")
    n, k = 270, 8
    assert fit.aicc == pytest.approx(fit.aic + 2 * k * (k + 1) / (n - k - 1), rel=1e-12)
    few = load_dataset("sleepstudy").iloc[:3].assign(Subject=["a", "b", "a"])
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        small = lmer("Reaction ~ 1 + (1 | Subject)", few, REML=False)
    assert small.aicc == np.inf


def test_what_is_refused():
    with pytest.raises(ArgumentError, match="which the gaussian family with the link identity"):
        fit_of("slopes").r2("trigamma")
    with pytest.raises(ArgumentError, match="expected 'auto', 'delta', 'lognormal' or 'trigamma'"):
        fit_of("ticks").icc(method="theoretical")
    with pytest.raises(ArgumentError, match="method is 'nakagawa'; expected one of 'auto'"):
        fit_of("cbpp").r2("nakagawa")
    with pytest.raises(ArgumentError, match="partial is 'yes'"):
        fit_of("slopes").r2(partial="yes")
    with pytest.raises(DataError, match=r"fewer than two terms besides the intercept \(Days alone"):
        fit_of("slopes").vif()
    with pytest.raises(DataError, match=r"besides the intercept \(none\)"):
        fit_of("pastes").vif()


def test_an_infinite_variance_is_no_whole():
    rng = np.random.default_rng(3)
    data = pd.DataFrame({"g": np.repeat(np.arange(8), 15), "x": rng.normal(size=120)})
    data["y"] = data["x"] + rng.standard_cauchy(120)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        fit = glmer("y ~ x + (1 | g)", data, StudentT())
    with pytest.raises(FitError, match="variance of the response is inf by the t"):
        fit.r2()


def test_forms():
    found = fit_of("cake").r2(partial=True)
    assert "recipe:temp" in str(found)
    for result in (found, fit_of("pastes").icc(True), fit_of("cake").vif()):
        assert "<table" in result.to_html()
        assert r"\toprule" in result.to_latex()
        assert "| ---: |" in result.to_markdown()
        assert isinstance(result.to_frame(), pd.DataFrame)
    assert found.to_frame()["estimate"].to_dict() == {
        "marginal": found.marginal, "conditional": found.conditional,
    }  # fmt: skip


@settings(max_examples=5, deadline=None, derandomize=True)
@given(st.floats(-3.0, 3.0), st.floats(-3.0, 3.0), st.floats(-50.0, 50.0))
def test_measures_have_no_units(log_y, log_x, shift):
    """Units of response and predictors, and where they start, change no share and no test."""
    data = frame("factorial")
    moved = data.assign(y=10.0**log_y * data["y"] + shift, x=10.0**log_x * (data["x"] + shift))
    fits = [lmer("y ~ A + x + z + (x | g)", d, control=QUIET) for d in (data, moved)]
    shares = [(fit.r2().marginal, fit.r2().conditional, fit.icc().adjusted) for fit in fits]
    np.testing.assert_allclose(shares[0], shares[1], rtol=1e-6)
    np.testing.assert_allclose(fits[0].vif().frame, fits[1].vif().frame, rtol=1e-6)
    tables = [ranova(fit)[["LRT", "Df", "Pr(>Chisq)", "Pr(>Chibarsq)"]] for fit in fits]
    np.testing.assert_allclose(tables[0], tables[1], atol=1e-6)
