"""Whole fits with the iterative factor beside the exact one, and what is refused by name."""

import re

import numpy as np
import pandas as pd
import pytest

import mixef
from mixef import LmerControl, anova, lmer, ranova
from mixef.errors import ExactFactorNeededError, FitError
from mixef.estimation.linear import estimated
from mixef.estimation.search.optimize import StopReason
from mixef.inference.hypotheses.criterion_error import chi_square_tail, refuse_uncertain
from mixef.linalg import factor as factors
from mixef.linalg.iterative.factor import IterativeFactor

FORMULA = "y ~ x + (1 | a) + (1 | b)"
ITERATIVE = LmerControl(factor="iterative")


def ratings(n=60_000, levels=(2000, 1500), seed=0):
    """Two skewed crossed factors."""
    rng = np.random.default_rng(seed)
    a = (levels[0] * rng.random(n) ** 1.5).astype(int)
    b = (levels[1] * rng.random(n) ** 2).astype(int)
    x, w = rng.normal(size=n), rng.uniform(0.5, 2.0, n)
    effects = 0.5 * rng.normal(size=levels[0])[a] + 0.6 * rng.normal(size=levels[1])[b]
    y = 3.5 + 0.2 * x + effects + rng.normal(size=n) / np.sqrt(w)
    return pd.DataFrame({"a": a, "b": b, "x": x, "w": w, "y": y})


@pytest.fixture(scope="module")
def data():
    return ratings()


@pytest.fixture(scope="module")
def exact(data):
    return lmer(FORMULA, data)


@pytest.fixture(scope="module")
def fit(data):
    return lmer(FORMULA, data, control=ITERATIVE)


@pytest.mark.parametrize(("REML", "weights"), [(True, None), (False, None), (True, "w")])
def test_a_fit_is_that_with_an_exact_factor(REML, weights, data):
    ours, theirs = (
        lmer(FORMULA, data, REML=REML, weights=weights, control=control)
        for control in (ITERATIVE, LmerControl(factor="schur"))
    )
    assert isinstance(ours._fit.criterion().factor, IterativeFactor)
    assert ours.converged
    assert ours.convergence.reason in (StopReason.ERROR, StopReason.OPTIMUM)
    # The gradient's error is some 1e-2 per log(theta), whose curvature is four a level.
    np.testing.assert_allclose(ours.theta, theirs.theta, rtol=1e-5)
    np.testing.assert_allclose(ours.beta, theirs.beta, rtol=1e-6)
    assert ours.sigma == pytest.approx(theirs.sigma, rel=1e-6)
    assert 0.0 < ours.objective_se <= 0.005
    assert theirs.objective_se == 0.0
    assert abs(ours.objective - theirs.objective) < 4.0 * ours.objective_se
    for group in "ab":
        one, two = (m.ranef()[group].to_numpy() for m in (ours, theirs))
        np.testing.assert_allclose(one, two, rtol=0, atol=1e-5 * np.abs(two).max())


@pytest.mark.parametrize(
    "formula", ["y ~ x + (x | a) + (1 | b)", "y ~ x + (1 | a) + (1 | b) + (1 | c)"]
)
def test_terms_of_several_columns_and_three_factors(formula):
    data, rng = ratings(12_000, (400, 300)), np.random.default_rng(2)
    data["c"] = rng.integers(0, 80, len(data))
    data["y"] += 0.3 * rng.normal(size=400)[data["a"]] * data["x"]
    data["y"] += 0.4 * rng.normal(size=80)[data["c"]]
    ours, theirs = (
        lmer(formula, data, control=LmerControl(factor=name)) for name in ("iterative", "schur")
    )
    assert ours.converged
    # Few levels: the error of the gradient counts for more.
    np.testing.assert_allclose(ours.theta, theirs.theta, rtol=1e-4, atol=1e-5)
    np.testing.assert_allclose(ours.beta, theirs.beta, rtol=1e-5)
    assert abs(ours.objective - theirs.objective) < 4.0 * ours.objective_se + 1e-6
    np.testing.assert_allclose(ours.coef_table(), theirs.coef_table(), rtol=1e-2, atol=1e-12)


def test_a_fit_follows_from_data_and_seed(data, fit):
    again = lmer(FORMULA, data, control=ITERATIVE)
    np.testing.assert_array_equal(again.theta, fit.theta)
    assert again.objective == fit.objective
    assert again.objective_se == fit.objective_se


def test_a_smaller_error_is_asked_for(data, exact, fit):
    control = LmerControl(factor="iterative", objective_se=0.002)
    sharper = lmer(FORMULA, data, control=control)
    assert sharper.objective_se <= 0.002 < fit.objective_se
    np.testing.assert_array_equal(sharper.theta, fit.theta)
    assert abs(sharper.objective - exact.objective) < 0.01


def test_a_variance_that_is_zero(data):
    rng = np.random.default_rng(1)
    flat = data.assign(
        y=data["x"] + 0.5 * rng.normal(size=2000)[data["a"]] + rng.normal(size=60000)
    )
    control = LmerControl(factor="iterative", check_conv_singular="ignore")
    ours = lmer(FORMULA, flat, control=control)
    theirs = lmer(FORMULA, flat, control=LmerControl(check_conv_singular="ignore"))
    assert ours.is_singular() == theirs.is_singular()
    np.testing.assert_allclose(ours.theta, theirs.theta, rtol=1e-5, atol=1e-5)


def test_what_is_read_off_a_fit(data, exact, fit):
    np.testing.assert_allclose(fit.vcov(), exact.vcov(), rtol=1e-5, atol=1e-12)
    # Second differences of the gradient at a twentieth of a standard error.
    np.testing.assert_allclose(fit.coef_table(), exact.coef_table(), rtol=1e-3)
    np.testing.assert_allclose(fit.confint(method="wald"), exact.confint(method="wald"), rtol=1e-4)
    some = data.head(5)
    for options in ({"se_fit": True}, {"interval": "prediction"}):
        np.testing.assert_allclose(
            fit.predict(some, **options), exact.predict(some, **options), rtol=1e-5
        )
    np.testing.assert_allclose(anova(fit).frame, anova(exact).frame, rtol=1e-3)


def test_bootstraps_refit_with_the_same_factor(data):
    few = ratings(4000, (150, 120))
    ours, theirs = (
        lmer(FORMULA, few, control=LmerControl(factor=name)).bootstrap(3, seed=1).replicates
        for name in ("iterative", "schur")
    )
    np.testing.assert_allclose(ours, theirs, rtol=1e-4)


def test_the_error_is_told(fit, exact, data):
    for text in (str(fit), str(fit.summary())):
        assert (
            f"log|M| is an estimate: standard error of the criterion {fit.objective_se:.2g}" in text
        )
    assert "standard error of" not in str(exact)
    note = re.search(r"\(df rest on second derivatives that are known to ([\d.e-]+) %\)", text)
    assert 0.0 < float(note[1]) < 1.0
    assert note[0] in fit.summary()._repr_html_()
    assert "second derivatives" not in str(fit.summary(ddf=None)) + str(exact.summary())
    assert "objective_se" in fit.glance()
    assert "objective_se" not in exact.glance()
    by_ml = str(fit.refit_ml().summary())
    assert "standard error of -2*log(L)" in by_ml
    assert "log|M| is an estimate" in fit.summary()._repr_html_()
    health = fit.check(n=20, seed=1)
    assert "log|M| is estimated" in str(health)
    assert health.frame["message"].str.contains("takes an exact factor").any()
    assert fit.augment()[".hat"].isna().all()


def test_likelihood_ratio_tests(fit, data):
    smaller = lmer("y ~ 1 + (1 | a) + (1 | b)", data, control=ITERATIVE)
    table = anova(fit, smaller)
    assert table.frame["Pr(>Chisq)"].iloc[1] < 1e-100
    assert "is an estimate with a standard error of" in str(table)
    assert ranova(fit).frame["Pr(>Chisq)"].iloc[1:].max() < 1e-100  # one factor by itself is exact
    nothing = np.random.default_rng([3, 5]).normal(size=len(data))  # a statistic near 0.004
    data = data.assign(z=nothing)
    larger = lmer("y ~ x + z + (1 | a) + (1 | b)", data, control=ITERATIVE)
    for test in (lambda: anova(fit, larger), lambda: larger.drop1()):
        with pytest.raises(
            FitError, match=r"test of .* is refused: the statistic is .*objective_se="
        ):
            test()
    comparison = mixef.compare(fit, smaller)
    assert "is an estimate with a standard error of" in str(comparison)


@pytest.mark.parametrize(
    ("statistic", "se", "why"),
    [
        (3.85, 0.01, r"p value is 0\.0497, and the error could move it across 0\.05"),
        (2.71, 0.01, "across 0.1"),
        (0.1, 0.003, "more than 5% of it"),
        (-0.01, 0.02, "more than 5% of it"),
    ],
)
def test_when_a_likelihood_ratio_test_is_refused(statistic, se, why):
    tail = chi_square_tail(1.0)
    with pytest.raises(FitError, match=f"m1 against m2 is refused.*{why}.*objective_se=0.0"):
        refuse_uncertain("m1", "m2", statistic, se, tail)
    refuse_uncertain("m1", "m2", statistic, 0.0, tail)
    refuse_uncertain("m1", "m2", 50.0, se, tail)


@pytest.mark.parametrize(
    ("ask", "what"),
    [
        (lambda fit, data: fit.ranef(condVar=True), "modes of all 2,000 levels of .1 . a."),
        (lambda fit, data: fit.predict(data, se_fit=True), "predictions for .* combinations"),
        (lambda fit, data: fit.profile(), "a profile of the deviance"),
        (lambda fit, data: fit.coef_table(ddf="kenward-roger"), "Kenward and Roger's"),
        (lambda fit, data: fit.hatvalues(), "what single rows do"),
        (lambda fit, data: fit.with_vcov("CR0", cluster="a"), "robust covariances"),
        (lambda fit, data: fit.getME("L"), "getME of the Cholesky factor"),
        (lambda fit, data: fit.factor_at(), "factor_at"),
        (lambda fit, data: fit.predict_interval(data.head(3), n=10, seed=1), "draws of random"),
        (
            lambda fit, data: lmer(
                FORMULA, data, control=LmerControl("Powell", factor="iterative")
            ),
            "optimizer='Powell'",
        ),
    ],
)
def test_what_takes_an_exact_factor_is_refused_by_name(ask, what, fit, data):
    with pytest.raises(ExactFactorNeededError, match=f"is needed for .*{what}.*LmerControl"):
        ask(fit, data)


def test_few_levels_are_solved_for_one_by_one(monkeypatch):
    data = ratings(4000, (150, 120))
    ours, theirs = (
        lmer(FORMULA, data, control=LmerControl(factor=f)) for f in ("iterative", "schur")
    )
    one, two = ours.ranef(condVar=True).condVar, theirs.ranef(condVar=True).condVar
    for group in "ab":
        np.testing.assert_allclose(one[group], two[group], rtol=1e-5)
    rows = data.head(300)
    np.testing.assert_allclose(
        ours.predict(rows, se_fit=True), theirs.predict(rows, se_fit=True), rtol=1e-5
    )
    monkeypatch.setattr(factors, "MOST_SOLVES", 100)
    with pytest.raises(
        ExactFactorNeededError, match=r"all 150 levels.*Ask for fewer.*levels=.*predict\(newdata"
    ):
        ours.ranef(condVar=True)


def test_second_derivatives_that_are_mostly_error_are_refused(monkeypatch, data):
    fit = lmer(FORMULA, data, control=ITERATIVE)
    monkeypatch.setattr(estimated, "LARGEST_ERROR", 1e-12)
    with pytest.raises(FitError, match="degrees of freedom and standard errors of covariance"):
        fit.coef_table()
    assert len(fit.coef_table(ddf=None)) == 2


def test_a_graph_without_a_good_estimate_gets_an_exact_factor(monkeypatch):
    """Whatever "auto" had foreseen; a factor that was asked for is not changed for another."""
    rng = np.random.default_rng(0)
    a = rng.integers(0, 6000, 24_000)
    b = (a * 5000 // 6000 + rng.integers(0, 3, 24_000)) % 5000
    y = 3.0 * rng.normal(size=6000)[a] + 3.0 * rng.normal(size=5000)[b] + rng.normal(size=24_000)
    chain = pd.DataFrame({"a": a, "b": b, "y": y})
    with pytest.raises(ExactFactorNeededError, match="graph like a chain"):
        lmer("y ~ 1 + (1 | a) + (1 | b)", chain, control=ITERATIVE)
    monkeypatch.setattr("mixef.linalg.choose.is_long", lambda _: True)
    fit = lmer("y ~ 1 + (1 | a) + (1 | b)", chain)
    assert fit.converged
    assert fit.objective_se == 0.0


def test_conditional_covariances_of_asked_levels(data, exact, fit):
    """By solves with the iterative factor; by the same numbers with an exact one."""
    asked = {"b": [7, "3", 1400], "a": 11}
    whole = exact.ranef(condVar=True)
    for model, rtol in ((fit, 1e-5), (exact, 1e-8)):
        some = model.ranef(condVar=True, levels=asked)
        assert list(some) == ["a", "b"]
        assert list(some["b"].index) == [7, 3, 1400]
        for group, labels in {"a": [11], "b": [7, 3, 1400]}.items():
            place = whole[group].index.get_indexer(labels)
            np.testing.assert_allclose(some[group], whole[group].iloc[place], rtol=1e-4, atol=1e-5)
            np.testing.assert_allclose(
                some.condVar[group], whole.condVar[group][place], rtol=rtol, atol=0
            )
    many = {"b": np.arange(40)}
    np.testing.assert_allclose(
        exact.ranef(condVar=True, levels=many).condVar["b"], whole.condVar["b"][:40], rtol=1e-8
    )
    assert len(fit.ranef(levels={"a": 11}).to_frame()) == 1
    with pytest.raises(
        ExactFactorNeededError, match=r"of 1,100 levels of .*1,000 at most, by ranef"
    ):
        fit.ranef(condVar=True, levels={"a": fit.ranef()["a"].index[:1100]})


def test_levels_that_are_not_there_are_named(fit):
    for asked, what in [
        ({"a": [5, "x"]}, r"levels\['a'\] is 'x'; expected levels of a, of which there are 2,000"),
        ({"c": 5}, "a grouping factor in levels is 'c'; expected one of 'a' or 'b'"),
        ({"a": []}, r"levels\['a'\] is \[\]"),
        ([5], "levels is .*; expected a dict from grouping factors to levels"),
    ]:
        with pytest.raises(mixef.errors.ArgumentError, match=what):
            fit.ranef(levels=asked)
