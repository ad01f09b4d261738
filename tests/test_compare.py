"""Models of one response side by side."""

import warnings
from functools import cache

import numpy as np
import pytest

from mixef import Gamma, StudentT, anova, compare, glmer, lmer, load_dataset
from mixef.errors import ArgumentError, DataError


@cache
def fit_of(formula, REML=True):
    return lmer(formula, load_dataset("sleepstudy"), REML=REML)


SLOPES, LEVELS = "Reaction ~ Days + (Days | Subject)", "Reaction ~ Days + (1 | Subject)"
MEAN = "Reaction ~ 1 + (1 | Subject)"


def test_criteria_are_those_of_fits_by_ml():
    slopes, levels, mean = (fit_of(text) for text in (SLOPES, LEVELS, MEAN))
    found = compare(levels, slopes, mean)
    assert list(found.index) == ["slopes", "levels", "mean"]
    assert list(found.columns) == [
        "npar", "logLik", "AIC", "AICc", "BIC", "delta", "weight", "R2_marginal",
        "R2_conditional", "sigma",
    ]  # fmt: skip
    for name, text in (("slopes", SLOPES), ("levels", LEVELS), ("mean", MEAN)):
        by_ml = fit_of(text, REML=False)
        row = found.loc[name]
        assert row["logLik"] == pytest.approx(by_ml.loglik, rel=1e-9)
        assert row["AIC"] == pytest.approx(by_ml.aic, rel=1e-9)
        assert row["AICc"] == pytest.approx(by_ml.aicc, rel=1e-9)
        assert row["BIC"] == pytest.approx(by_ml.bic, rel=1e-9)
        assert row["sigma"] == fit_of(text).sigma
        assert row["R2_marginal"] == fit_of(text).r2().marginal
    table = anova(levels, slopes, mean)
    np.testing.assert_allclose(found["AIC"][table.index], table["AIC"], rtol=1e-9)
    assert found.notes[0] == "refitting model(s) with ML (instead of REML)"
    assert found.formulas == (SLOPES, LEVELS, MEAN)


def test_weights_are_akaikes():
    slopes, levels = fit_of(SLOPES), fit_of(LEVELS)
    for by in ("AICc", "aic", "BIC"):
        found = compare(levels, slopes, by=by)
        values = found[found.by]
        delta = values - values.min()
        np.testing.assert_allclose(found["delta"], delta)
        expected = np.exp(-delta / 2) / np.exp(-delta / 2).sum()
        np.testing.assert_allclose(found["weight"], expected)
        assert f"delta and weight by {found.by}" in str(found)


def test_order_and_names():
    slopes, levels = fit_of(SLOPES), fit_of(LEVELS)
    assert list(compare(levels, slopes, sort=False).index) == ["levels", "slopes"]
    named = compare(levels, slopes, model_names=["a", "b"])
    assert list(named.index) == ["b", "a"]
    assert list(compare(fit_of(LEVELS), fit_of(SLOPES), env={}).index) == ["model 2", "model 1"]


def test_criteria_by_reml_where_fixed_effects_are_the_same():
    slopes, levels = fit_of(SLOPES), fit_of(LEVELS)
    found = compare(slopes, levels, refit=False)
    assert found.loc["levels", "AIC"] == levels.aic
    assert found.notes == ("logLik and criteria are by REML (refit=False)",)
    mean = fit_of(MEAN)
    with pytest.raises(DataError, match="mean and levels have different fixed effects"):
        compare(levels, mean, refit=False)


def test_families_compare():
    levels = fit_of(LEVELS, REML=False)
    gamma = glmer(LEVELS, load_dataset("sleepstudy"), Gamma("log"))
    found = compare(levels, gamma)
    assert found.loc["gamma", "logLik"] == pytest.approx(gamma.loglik)
    assert found.notes == ()
    cbpp = load_dataset("cbpp")
    formula = "cbind(incidence, size - incidence) ~ period + (1 | herd)"
    one, rough = (glmer(formula, cbpp, "binomial", nAGQ=k) for k in (1, 0))
    found = compare(one, rough)
    assert np.isnan(found["sigma"]).all()
    assert found.notes[0].startswith("nAGQ is 0, 1: likelihoods are approximated differently")


def test_a_model_without_r2_says_why():
    rng = np.random.default_rng(3)
    data = load_dataset("sleepstudy").assign(y=rng.standard_cauchy(180))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        heavy = glmer("y ~ Days + (1 | Subject)", data, StudentT())
        normal = lmer("y ~ Days + (1 | Subject)", data)
    found = compare(normal, heavy)
    assert list(found.index) == ["heavy", "normal"]
    assert np.isnan(found.loc["heavy", "R2_marginal"])
    assert any(
        note.startswith("heavy has no R2: the variance of the response") for note in found.notes
    )


def test_forms():
    found = compare(fit_of(SLOPES), fit_of(LEVELS), model_names=["slopes", "levels"])
    assert "<table" in found.to_html()
    assert r"\toprule" in found.to_latex()
    assert "-: |" in found.to_markdown()
    assert found.to_frame().equals(found.frame)


def test_what_is_refused():
    slopes, levels = fit_of(SLOPES), fit_of(LEVELS)
    data = load_dataset("sleepstudy")
    logs = lmer("log(Reaction) ~ Days + (1 | Subject)", data)
    fewer = lmer(LEVELS, data.iloc[2:])
    with pytest.raises(DataError, match="the responses of slopes"):
        compare(slopes, logs)
    with pytest.raises(DataError, match="fitted to 180 rows but fewer to 178"):
        compare(slopes, fewer)
    with pytest.raises(ArgumentError, match="compare got one model"):
        compare(slopes)
    with pytest.raises(ArgumentError, match="compare got no model"):
        compare()
    with pytest.raises(ArgumentError, match="model 2 is 3; expected a model fitted by"):
        compare(slopes, 3)
    with pytest.raises(ArgumentError, match="by is 'DIC'; expected one of 'AIC', 'AICc' or 'BIC'"):
        compare(slopes, levels, by="DIC")
    with pytest.raises(ArgumentError, match="model_names is"):
        compare(slopes, levels, model_names=["a"])
    with pytest.raises(ArgumentError, match="compare has no rank: "):
        compare(slopes, levels, rank="AIC")
    few = data.iloc[:4].assign(Subject=["a", "b", "a", "b"])
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        small, smaller = (lmer(text, few, REML=False) for text in (LEVELS, MEAN))
    with pytest.raises(ArgumentError, match="infinite for all models"):
        compare(small, smaller)
    assert np.isfinite(compare(small, smaller, by="AIC")["weight"]).all()
