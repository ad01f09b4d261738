"""Fits in the functions of marginaleffects: against lme4, derivatives by hand, and our predictions.

tests/reference/marginaleffects.json has averages that R's marginaleffects defines, computed from
lme4's fits by marginaleffects.R; marginaleffects for R is not what made them.
"""

import pickle
import sys
from functools import cache

import marginaleffects as me
import numpy as np
import pandas as pd
import polars as pl
import pytest
from reference_data import case, cases, frame

from mixef import glmer, lmer
from mixef.errors import ArgumentError, DataError, FormulaError, MissingLibraryError

# Coefficients move by 1e-8 |b| for standard errors, which have six digits then; those of slopes
# have three, where the predictor moves by this instead of 1e-4.
STEP = {"eps": 1e-2}


@cache
def fits():
    women = "use ~ age + I(age^2) + urban * livch + (1 | district)"
    herds = "cbind(incidence, size - incidence) ~ period + (1 | herd)"
    ticks = "TICKS ~ YEAR + cHEIGHT + (1 | BROOD) + (1 | LOCATION)"
    return {
        "cake": lmer("angle ~ recipe * temp + (1 | recipe:replicate)", frame("cake")),
        "cbpp": glmer(herds, frame("cbpp"), "binomial"),
        "women": glmer(women, frame("Contraception"), "binomial"),
        "ticks": glmer(ticks, frame("grouseticks"), "poisson"),
    }


def result_of(name):
    """What marginaleffects says in a case, with the covariance that lme4 had."""
    model, *what = name.split()
    fit = fits()[model]
    own = {"vcov": fit.vcov(use_hessian=False).to_numpy()}
    at = fit.to_marginaleffects()
    if what == ["mean"]:
        return me.avg_predictions(at, **own)
    if what[0] == "by":
        return me.avg_predictions(at, by=what[1], **own).sort(what[1])
    if what[0] in ("temp", "age", "cHEIGHT"):
        return me.avg_slopes(at, variables=what[0], **own, **STEP)
    return me.avg_comparisons(at, variables=what[0], **own).sort("contrast")


@pytest.mark.parametrize("name", [c["id"] for c in cases("marginaleffects.json")])
def test_averages_are_those_of_lme4s_fits(name):
    ours, theirs = result_of(name), case("marginaleffects.json", name)
    # lme4's searches of the generalized models end near: within a hundredth of a percent.
    gap = ours["estimate"].to_numpy() - theirs["estimate"]
    assert (np.abs(gap) < 1e-4 * np.array(theirs["std_error"])).all()
    np.testing.assert_allclose(ours["std_error"], theirs["std_error"], rtol=5e-4)


@cache
def busy():
    """A Poisson model with everything: an offset, a function, a factor of numbers, a boolean."""
    rng = np.random.default_rng(1)
    data = pl.DataFrame(
        {
            "y": rng.poisson(3, 200), "x": rng.normal(size=200), "t": rng.uniform(1, 3, 200),
            "id": np.repeat(np.arange(20), 10), "k": np.tile([1, 2, 3, 4, 5], 40),
            "b": rng.random(200) > 0.5, "a name": rng.normal(size=200),
            "o": pl.Series(["lo", "mid", "hi", "mid"] * 50, dtype=pl.Enum(["lo", "mid", "hi"])),
        }
    )  # fmt: skip
    formula = "y ~ poly(x, 2) * b + factor(k) + o + `a name` + offset(log(t)) + (b | id)"
    return data, glmer(formula, data, "poisson")


def by_hand(fit, high, low=None):
    """Mean prediction, or mean difference of predictions, and its standard error."""

    def parts(data):
        X = fit.model_matrix(data).to_numpy()
        mu = fit.predict(data, re_form="~0").to_numpy()
        return mu, X * mu[:, None]  # the derivative of exp is itself

    mu, J = parts(high)
    if low is not None:
        base, slope = parts(low)
        mu, J = mu - base, J - slope
    J = J.mean(axis=0)
    return mu.mean(), np.sqrt(J @ fit.vcov().to_numpy() @ J)


def assert_is(result, expected):
    np.testing.assert_allclose(result["estimate"][0], expected[0], rtol=1e-9)
    np.testing.assert_allclose(result["std_error"][0], expected[1], rtol=1e-5)


@pytest.mark.parametrize(
    ("variables", "high", "low"),
    [
        ({"x": 1}, {"x": pl.col("x") + 0.5}, {"x": pl.col("x") - 0.5}),
        ({"k": [2, 5]}, {"k": pl.lit(5)}, {"k": pl.lit(2)}),
        ("b", {"b": pl.lit(True)}, {"b": pl.lit(False)}),
        ({"a name": 1}, {"a name": pl.col("a name") + 0.5}, {"a name": pl.col("a name") - 0.5}),
        ({"o": ["lo", "hi"]}, {"o": pl.lit("hi")}, {"o": pl.lit("lo")}),
    ],
)
def test_comparisons_of_every_kind_of_variable_are_those_by_hand(variables, high, low):
    data, fit = busy()
    found = me.avg_comparisons(fit.to_marginaleffects(), variables=variables)
    high, low = ({k: v.alias(k) for k, v in at.items()} for at in (high, low))
    assert_is(found, by_hand(fit, data.with_columns(**high), data.with_columns(**low)))


def test_levels_keep_their_order_and_all_variables_are_compared():
    _, fit = busy()
    found = me.avg_comparisons(fit.to_marginaleffects())
    terms = found["term"].to_list()
    assert set(terms) == {"x", "b", "k", "o", "a name"}
    of_o = [c for t, c in zip(terms, found["contrast"].to_list(), strict=True) if t == "o"]
    assert of_o == ["mid - lo", "hi - lo"]


def test_predictions_are_ours_with_and_without_random_effects():
    data, fit = busy()
    for re_form in ("~0", None, "~ (1 | id)"):
        for type in ("response", "link"):
            ours = fit.predict(re_form=re_form, type=type)
            theirs = me.predictions(fit.to_marginaleffects(re_form=re_form, type=type))
            np.testing.assert_allclose(theirs["estimate"], ours, rtol=1e-12)
    assert_is(me.avg_predictions(fit.to_marginaleffects()), by_hand(fit, data))
    new = data.head(2).with_columns(id=pl.lit(77))
    with pytest.raises(DataError, match="new levels detected"):
        me.predictions(fit.to_marginaleffects(re_form=None), newdata=new)
    at = fit.to_marginaleffects(re_form=None, new_levels="population")
    expected = fit.predict(new, new_levels="population")
    np.testing.assert_allclose(me.predictions(at, newdata=new)["estimate"], expected, rtol=1e-12)


def test_grids_hypotheses_and_pictures():
    fit = fits()["cake"]
    at = fit.to_marginaleffects()
    grid = me.predictions(at, newdata=me.datagrid(at, recipe=["C", "A"], temp=[180, 200]))
    own = fit.predict({"recipe": list("CCAA"), "temp": [180, 200] * 2}, re_form="~0")
    assert grid.sort("recipe", "temp", descending=[True, False])["estimate"].to_list() == (
        pytest.approx(own.tolist(), rel=1e-12)
    )
    test = me.hypotheses(at, "recipeB - recipeC = 0")
    ours = fit.contest("recipeB - recipeC", joint=False).to_frame()
    assert test["estimate"][0] == pytest.approx(ours["Estimate"].iloc[0], rel=1e-9)
    assert test["std_error"][0] == pytest.approx(ours["Std. Error"].iloc[0], rel=1e-6)
    pairs = me.avg_predictions(at, by="recipe", hypothesis="difference ~ pairwise")
    assert len(pairs) == 3
    for picture in (
        me.plot_predictions(at, condition=["temp", "recipe"]),
        me.plot_comparisons(at, variables="recipe", condition="temp"),
        me.plot_slopes(at, variables="temp", condition="recipe"),
    ):
        assert type(picture).__name__ == "ggplot"
    table = me.predictions(at, by="recipe")
    exact = fit.contest(table.jacobian, joint=False).to_frame()
    # The Jacobian is one of differences, and 200 degrees times 1e-8.
    np.testing.assert_allclose(exact["Estimate"], table["estimate"], rtol=1e-6)
    assert exact["df"].round(6).tolist() == [42.0] * 3


def test_marginal_means_and_ratios_are_those_of_emmeans():
    """Two routes of our own: linear functions there, differences of predictions here."""
    fit = fits()["cake"]
    at = fit.to_marginaleffects()
    means = fit.emmeans("recipe", ddf=None).to_frame()
    grid = me.datagrid(at, recipe=["A", "B", "C"])
    ours = me.predictions(at, newdata=grid)
    np.testing.assert_allclose(ours["estimate"], means["estimate"], rtol=1e-9)
    np.testing.assert_allclose(ours["std_error"], means["std_error"], rtol=1e-5)
    slopes = fit.emtrends("temp", "recipe", ddf=None).to_frame()
    ours = me.slopes(at, variables="temp", newdata=grid, **STEP)
    np.testing.assert_allclose(ours["estimate"], slopes["estimate"], rtol=1e-8)
    np.testing.assert_allclose(ours["std_error"], slopes["std_error"], rtol=5e-3)
    herds = fits()["cbpp"]
    odds = herds.emmeans("period", type="response").to_frame()
    ours = me.predictions(herds.to_marginaleffects(), by="period", newdata="balanced")
    np.testing.assert_allclose(ours.sort("period")["estimate"], odds["estimate"], rtol=1e-9)
    np.testing.assert_allclose(ours.sort("period")["std_error"], odds["std_error"], rtol=1e-5)


def test_a_robust_covariance_goes_along():
    robust = fits()["cbpp"].with_vcov("CR2", cluster="herd")
    ours = me.hypotheses(robust.to_marginaleffects(), "period2 = 0")
    expected = robust.coef_table()["Std. Error"]["period2"]
    assert ours["std_error"][0] == pytest.approx(expected, rel=1e-6)
    usual = me.hypotheses(fits()["cbpp"].to_marginaleffects(), "period2 = 0")["std_error"][0]
    assert expected > 1.3 * usual


def test_degrees_of_freedom_and_covariances_that_are_given():
    fit = fits()["cake"]
    table = fit.coef_table()
    ours = me.hypotheses(fit.to_marginaleffects(df=42), "recipeB = 0")
    assert ours["p_value"][0] == pytest.approx(table["Pr(>|t|)"]["recipeB"], abs=0.05)
    normal = me.hypotheses(fit.to_marginaleffects(), "recipeB = 0")
    assert normal["p_value"][0] < ours["p_value"][0]
    at = fit.to_marginaleffects()
    double = me.hypotheses(at, "recipeB = 0", vcov=4.0 * fit.vcov().to_numpy())
    assert double["std_error"][0] == pytest.approx(2.0 * normal["std_error"][0], rel=1e-6)
    assert "std_error" not in me.avg_predictions(at, vcov=False).columns
    with pytest.raises(ArgumentError, match=r"vcov is 'HC3'.*with_vcov"):
        me.avg_predictions(at, vcov="HC3")


def test_rows_that_are_left_out_arrays_of_the_callers_and_dropped_columns():
    data = frame("cake")
    data["w"] = np.linspace(1.0, 2.0, len(data))
    data.loc[[3, 7], "temp"] = np.nan
    k = 10
    fit = lmer("angle ~ I(temp / k) + I(2 * temp) + recipe + (1 | recipe:replicate)", data,
               weights="w", na_action="exclude")  # fmt: skip
    at = fit.to_marginaleffects()
    assert len(me.predictions(at)) == 268
    found = me.avg_comparisons(at, variables="temp")
    assert found["estimate"][0] == pytest.approx(fit.fixef()["I(temp/k)"] / k, rel=1e-9)
    rows = data.dropna()
    weighted = me.avg_predictions(at, by="recipe", wts="w").sort("recipe")["estimate"]
    expected = (fit.predict(rows, re_form="~0") * rows["w"]).groupby(rows["recipe"]).sum()
    np.testing.assert_allclose(weighted, expected / rows.groupby("recipe")["w"].sum(), rtol=1e-12)
    angle, temp, g = rows["angle"].to_numpy(), rows["temp"].to_numpy(), rows["replicate"]
    alone = lmer("angle ~ temp + (1 | g)", env={"angle": angle, "temp": temp, "g": g.to_numpy()})
    found = me.avg_slopes(alone.to_marginaleffects(env={}), **STEP)
    assert found["estimate"][0] == pytest.approx(alone.beta[1], rel=1e-9)
    assert found["std_error"][0] == pytest.approx(alone.vcov().loc["temp", "temp"] ** 0.5, rel=1e-4)


def test_pandas_frames_and_pickled_fits_and_models():
    data = pd.DataFrame(frame("cake"))
    fit = pickle.loads(pickle.dumps(fits()["cake"]))
    expected = me.avg_comparisons(fits()["cake"].to_marginaleffects())["std_error"].to_list()
    copied = pickle.loads(pickle.dumps(fit.to_marginaleffects(env={})))
    for at in (fit.to_marginaleffects(), copied):
        assert me.avg_comparisons(at)["std_error"].to_list() == pytest.approx(expected, rel=1e-9)
        found = me.predictions(at, newdata=data.head(3))["estimate"]
        np.testing.assert_allclose(found, fit.predict(data.head(3), re_form="~0"), rtol=1e-12)


def test_wrong_arguments_are_refused():
    fit = fits()["cake"]
    with pytest.raises(ArgumentError, match="type is 'probability'"):
        fit.to_marginaleffects(type="probability")
    with pytest.raises(ArgumentError, match="df is 0"):
        fit.to_marginaleffects(df=0)
    with pytest.raises(ArgumentError, match="new_levels is 'missing'"):
        fit.to_marginaleffects(new_levels="missing")
    with pytest.raises(FormulaError, match="no grouping factor herd"):
        fit.to_marginaleffects(re_form="~ (1 | herd)")
    alone = lmer("Yield ~ 1 + (1 | Batch)", frame("Dyestuff"))
    with pytest.raises(ArgumentError, match="has no predictors"):
        alone.to_marginaleffects()
    with pytest.raises(ArgumentError, match="has no newdata"):
        fit.to_marginaleffects(newdata=1)


def test_libraries_that_cannot_do_it_are_named(monkeypatch):
    fit = fits()["cake"]
    with monkeypatch.context() as patched:
        patched.setattr(pl, "__version__", "2.1.0")
        with pytest.raises(MissingLibraryError, match="pip install 'polars<2'"):
            fit.to_marginaleffects()
    monkeypatch.setitem(sys.modules, "marginaleffects", None)
    with pytest.raises(ImportError, match=r"pip install 'mixef\[marginaleffects\]'"):
        fit.to_marginaleffects()
