"""Marginal means: letters, effect sizes, invariances, scales, data, printing and refusals.

tests/reference/emmeans.json is by emmeans 1.8.4.1 (emmeans.R).
"""

import pickle
import re

import numpy as np
import pandas as pd
import polars as pl
import pytest
from curved_data import curved_data
from reference_data import frame, read_reference
from test_emmeans import fitted

from mixef import GlmerControl, LmerControl, glmer, lmer
from mixef.errors import ArgumentError, DataError, FormulaError
from mixef.inference.marginal.printed_means import level_text

REFERENCE = read_reference("emmeans.json")
QUIET = LmerControl(check_conv_singular="ignore")


@pytest.fixture(scope="module")
def curved():
    return curved_data()


# Letters and effect sizes


@pytest.mark.parametrize("case", REFERENCE["displays"], ids=["cake", "one group", "chain"])
def test_letters_are_multcomps(case):
    display = fitted(case["id"]).emmeans(case["specs"]).cld(alpha=case["alpha"])
    expected = dict(zip(case["rows"]["level"], case["rows"]["group"], strict=True))
    ours = dict(zip(map(level_text, display[case["specs"]]), display[".group"], strict=True))
    assert {k: v.rstrip() for k, v in ours.items()} == expected


def test_letters_can_be_letters_and_go_down():
    display = fitted("cake").emmeans("temperature").cld(letters="abc", reverse=True)
    assert display["temperature"].tolist()[0] == "215"
    assert [s.strip() for s in display[".group"]] == ["a", "a", "b", "b", "bc", "c"]


def test_effect_sizes_are_emmeans():
    R = REFERENCE["effects"]
    d = fitted("cake").emmeans("recipe").eff_size(sigma=R["sigma"], edf=R["edf"])
    for ours, theirs in (("estimate", "estimate"), ("std_error", "se"), ("conf_low", "lower")):
        np.testing.assert_allclose(d[ours], R[theirs], rtol=1e-6, atol=1e-8)


def test_the_unit_of_effect_sizes_is_that_of_a_response():
    fit = fitted("sleep")
    # The variance of (1, Days) b averaged over the rows, and the residual's, by hand.
    V = fit.VarCorr().to_frame()["vcov"].to_numpy()
    days = frame("sleepstudy")["Days"].to_numpy(float)
    sd = np.sqrt((V[0] + 2 * days * V[2] + days**2 * V[1]).mean() + V[3])
    slopes = fit.emmeans("Days", at={"Days": [0, 1]}).eff_size(method="revpairwise")
    np.testing.assert_allclose(slopes["estimate"], fit.fixef()["Days"] / sd, rtol=1e-9)
    assert "degrees of freedom" in str(slopes)


# Invariance


def test_contrasts_of_the_formula_change_nothing():
    data = frame("cake")
    formula = "angle ~ recipe * temperature + (1 | recipe:replicate)"
    other = lmer(formula, data, contrasts={"recipe": "helmert", "temperature": "sum"})
    for ask in (
        lambda fit: fit.emmeans("recipe").summary(),
        lambda fit: fit.emmeans(["recipe", "temperature"]).contrast(interaction="pairwise"),
        lambda fit: fit.joint_tests(),
    ):
        ours, theirs = ask(fitted("cake")).to_frame(), ask(other).to_frame()
        numbers = ours.select_dtypes("number").columns
        # Two searches end as near as this.
        np.testing.assert_allclose(ours[numbers], theirs[numbers], rtol=1e-5, atol=1e-8)


def test_joint_tests_of_factors_are_those_of_type_three():
    fit = fitted("unbalanced")
    ours = fit.joint_tests().to_frame().set_index("model term")
    table = fit.anova(type="III").to_frame()
    np.testing.assert_allclose(ours.loc["f:h", "F.ratio"], table.loc["f:h", "F value"])
    np.testing.assert_allclose(ours.loc["f", "F.ratio"], table.loc["f", "F value"])


def test_a_mean_is_an_average_of_predictions():
    fit = fitted("unbalanced")
    new = pd.DataFrame({"f": list("abc") * 2, "h": list("pppqqq"), "Days": 4.5, "Subject": "308"})
    eta = fit.predict(new, re_form="~0").to_numpy().reshape(2, 3)
    np.testing.assert_allclose(fit.emmeans("f")["estimate"], eta.mean(axis=0))
    weighted = fit.emmeans("f", weights=[0.25, 0.75])["estimate"]
    np.testing.assert_allclose(weighted, np.array([0.25, 0.75]) @ eta)


def test_a_pair_is_judged_as_by_contest():
    fit = fitted("unbalanced")
    pair = fit.emmeans("f").pairs("none").iloc[0]
    test = fit.contest("-fb - 0.5 * fb:hq", joint=False).frame.iloc[0]
    np.testing.assert_allclose(pair["estimate"], test["Estimate"])
    np.testing.assert_allclose(pair["df"], test["df"])
    np.testing.assert_allclose(pair["p_value"], test["Pr(>|t|)"])


def test_weights_are_those_of_their_definitions():
    fit = fitted("kinds")
    data = frame("marginal").astype({"two": str})
    X = fit.model_matrix(
        pd.DataFrame(
            [
                {"two": two, "lg": lg, "f": f, "Days": 4.5}
                for two in (1.0, 2.5) for lg in (False, True) for f in "abc"
            ]
        ).assign(Subject="308", Reaction=0.0)
    )  # fmt: skip
    eta = (X.to_numpy() @ fit.fixef().to_numpy()).reshape(4, 3)
    cells = pd.crosstab([data["two"], data["lg"]], data["f"]).to_numpy().astype(float)
    one = cells.reshape(2, 2, 3)
    rules = {
        "equal": np.ones((4, 3)),
        "proportional": np.repeat(cells.sum(axis=1)[:, None], 3, axis=1),
        "outer": np.outer(one.sum(axis=(1, 2)), one.sum(axis=(0, 2))).ravel()[:, None] * np.ones(3),
        "cells": cells,
        "flat": (cells > 0).astype(float),
    }
    for rule, w in rules.items():
        expected = (w * eta).sum(axis=0) / w.sum(axis=0)
        np.testing.assert_allclose(fit.emmeans("f", weights=rule)["estimate"], expected)


def test_nested_factors_are_averaged_inside():
    # emmeans 1.8.4-1 with lme4 1.1-31, for marginal.csv (emmeans.R) without t6 after day 2:
    # emmeans(n, ~ h, weights = ...)
    data = frame("marginal")
    fit = lmer(
        "Reaction ~ (g + t) * h + Days + (1 | Subject)",
        data[~((data["t"] == "t6") & (data["Days"] > 2))],
        control=QUIET,
    )
    expected = {
        "equal": [298.80891, 297.02361],
        "proportional": [296.36061, 299.19073],
        "outer": [296.36061, 299.19073],
        "cells": [297.26651, 299.55122],
    }
    for rule, values in expected.items():
        ours = fit.emmeans("h", weights=rule)["estimate"]
        np.testing.assert_allclose(ours, values, atol=2e-5)
    assert fit.emmeans("t").columns[:2].tolist() == ["t", "g"]
    tests = fit.joint_tests().to_frame().set_index("model term")
    np.testing.assert_allclose(tests.loc["g:t", "F.ratio"], 0.553, atol=5e-4)


def test_what_is_estimable_is_in_the_span_of_the_rows():
    fit = fitted("holes")
    means = fit.emmeans(["recipe", "temperature"])
    X = fit._fit.design.matrix
    rank = np.linalg.matrix_rank(X)
    spanned = [np.linalg.matrix_rank(np.vstack([X, row])) == rank for row in means.L]
    np.testing.assert_array_equal(means.is_estimable, spanned)
    assert not all(spanned)


def test_units_of_a_covariate_change_nothing():
    data = frame("marginal")
    small = lmer("Reaction ~ f * Days + (1 | Subject)", data.assign(Days=data["Days"] * 1e-6))
    plain = lmer("Reaction ~ f * Days + (1 | Subject)", data)
    np.testing.assert_allclose(small.emmeans("f")["std_error"], plain.emmeans("f")["std_error"])
    slopes = [fit.emtrends("Days", "f").summary() for fit in (small, plain)]
    np.testing.assert_allclose(slopes[0]["estimate"], 1e6 * slopes[1]["estimate"], rtol=1e-6)
    np.testing.assert_allclose(slopes[0]["p_value"], slopes[1]["p_value"], rtol=1e-5)


def test_limits_hold_for_a_family_at_once():
    means = fitted("unbalanced").emmeans(["f", "h"])
    for adjust in ("tukey", "scheffe", "sidak", "bonferroni", "mvt", "dunnettx"):
        pairs = means.pairs(adjust).summary()
        # A limit is at zero where the p value is 0.05.
        level = 1.0 - pairs["p_value"][2]
        if level > 1e-6:
            other = pairs.confint(level=level)
            reach = np.abs(other["conf_high"] - other["estimate"])[2]
            assert reach == pytest.approx(abs(other["estimate"][2]), rel=1e-4)


def test_more_pairs_than_memory_holds_are_refused(monkeypatch):
    means = fitted("unbalanced").emmeans(["f", "h"])
    monkeypatch.setattr("mixef.checks.available", lambda: 100.0)
    with pytest.raises(ArgumentError, match="there are 15 pairs of means"):
        means.pairs()


# Scales


@pytest.mark.parametrize(
    ("response", "back"),
    [
        ("log(y, 2)", lambda e: 2.0**e),
        ("log1p(y)", np.expm1),
        ("1/y", lambda e: 1 / e),
        ("y^(1/3)", lambda e: e**3),
        ("3 - 2 * sqrt(y + 1)", lambda e: ((3 - e) / 2) ** 2 - 1),
        ("asin(sqrt(y/9))", lambda e: 9 * np.sin(e) ** 2),
        ("exp(y/3)", lambda e: 3 * np.log(e)),
        ("np.log10(y)", lambda e: 10.0**e),
    ],
)
def test_functions_of_the_response_are_undone(curved, response, back):
    data = curved.assign(y=np.exp(0.2 * curved["y"]).clip(0.1, 8.9))
    fit = lmer(f"{response} ~ f + (1 | g)", data, control=QUIET)
    eta, shown = fit.emmeans("f"), fit.emmeans("f", type="response")
    np.testing.assert_allclose(shown["estimate"], back(eta["estimate"]))
    ends = np.sort(back(eta.to_frame()[["conf_low", "conf_high"]].to_numpy()), axis=1)
    np.testing.assert_allclose(shown.to_frame()[["conf_low", "conf_high"]], ends)
    h = 1e-5
    slope = (back(eta["estimate"] + h) - back(eta["estimate"] - h)) / (2 * h)
    np.testing.assert_allclose(shown["std_error"], np.abs(slope) * eta["std_error"], rtol=1e-6)


def test_bias_is_adjusted_by_the_variance_of_the_population():
    fit = fitted("ticks")
    v = fit.VarCorr().to_frame()["vcov"][0]
    plain = fit.emmeans("YEAR", type="response")["estimate"]
    adjusted = fit.emmeans("YEAR", type="response", bias_adjust=True)
    np.testing.assert_allclose(adjusted["estimate"], plain * (1 + v / 2))
    assert f"sigma = {np.sqrt(v):.4g}" in str(adjusted)
    # A ratio of means has no such bias.
    ratios = [fit.emmeans("YEAR", type="response", bias_adjust=b).pairs() for b in (True, False)]
    np.testing.assert_allclose(ratios[0]["estimate"], ratios[1]["estimate"])
    log = fitted("sleep_log")
    v = log.VarCorr().to_frame()["vcov"].sum()
    days = {"Days": [1, 2]}
    shown = [log.emmeans("Days", at=days, type="response", bias_adjust=b) for b in (True, False)]
    np.testing.assert_allclose(shown[0]["estimate"], shown[1]["estimate"] * (1 + v / 2))


def test_a_type_may_be_chosen_for_contrasts():
    fit = fitted("cbpp")
    ours = fit.emmeans("period").pairs(type="response").to_frame()
    theirs = fit.emmeans("period", type="response").pairs().to_frame()
    pd.testing.assert_frame_equal(ours, theirs)
    back = fit.emmeans("period", type="response").pairs(type="link")
    np.testing.assert_allclose(np.exp(back["estimate"]), ours["estimate"])
    root = fitted("sleep_sqrt").emmeans("Days", at={"Days": [1, 2]}).pairs(type="response")
    assert "contrasts are still on the sqrt scale" in str(root)


def test_offsets_stand_at_their_mean_or_where_they_are_put():
    fit = fitted("rates")
    link = fit.emmeans("f")["estimate"]
    mean = np.log(frame("marginal")["e"]).mean()
    np.testing.assert_allclose(link - fit.emmeans("f", offset=0.0)["estimate"], mean)
    at_two = fit.emmeans("f", at={"e": 2.0})["estimate"]
    np.testing.assert_allclose(at_two - fit.emmeans("f", offset=0.0)["estimate"], np.log(2.0))


def test_limits_of_a_falling_link_are_in_order():
    data = frame("gamma")
    fit = glmer("y ~ x + (1 | g)", data, family="gamma(inverse)", control=GlmerControl())
    shown = fit.emmeans("1", type="response").iloc[0]
    assert shown["conf_low"] < shown["estimate"] < shown["conf_high"]


# Data


def test_any_frame_gives_the_same(curved):
    formula = "y ~ f + x + (1 | g)"
    pandas = lmer(formula, curved)
    expected = pandas.emmeans("f").to_frame()
    named = {name: curved[name].tolist() for name in curved}
    for data in (pl.from_pandas(curved), named, curved.assign(f=curved["f"].astype("category"))):
        ours = lmer(formula, data).emmeans("f").to_frame()
        pd.testing.assert_frame_equal(ours, expected, check_dtype=False, rtol=1e-9)
    again = pickle.loads(pickle.dumps(pandas)).emmeans("f").to_frame()
    pd.testing.assert_frame_equal(again, expected)


def test_results_can_be_pickled():
    odds = fitted("cbpp").emmeans("period", type="response").pairs()
    again = pickle.loads(pickle.dumps(odds))
    pd.testing.assert_frame_equal(again.to_frame(), odds.to_frame())
    assert str(again.regrid()) == str(odds.regrid())


def test_a_chosen_covariance_is_used():
    fit = fitted("sleep").with_vcov("CR2", cluster="Subject")
    slope, test = fit.emtrends("Days").summary(), fit.coef_table().loc["Days"]
    np.testing.assert_allclose(slope["std_error"], test["Std. Error"])
    np.testing.assert_allclose(slope["df"], test["df"])
    assert "CR2" in str(slope)
    np.testing.assert_allclose(fit.joint_tests()["F.ratio"], test["t value"] ** 2)


def test_only_the_rows_of_the_fit_count(curved):
    data = curved.assign(x=curved["x"].where(curved.index > 9))
    fit = lmer("y ~ f + x + (1 | g)", data, na_action="exclude", subset="x < 4")
    used = data[(data.index > 9) & (data["x"] < 4)]
    b = fit.fixef()
    expected = b.iloc[0] + b["x"] * used["x"].mean() + np.array([0.0, b["fb"]])
    np.testing.assert_allclose(fit.emmeans("f")["estimate"], expected)
    n = used["f"].value_counts()
    overall = fit.emmeans("1", weights="proportional")["estimate"].item()
    assert overall == pytest.approx((expected * [n["a"], n["b"]]).sum() / n.sum())


def test_times_and_values_that_a_function_fills_in(curved):
    when = pd.Timestamp("2020-03-01") + pd.to_timedelta(np.arange(120) % 40, unit="D")
    data = curved.assign(when=when, x=curved["x"].where(curved.index % 7 > 0))
    fit = lmer("y ~ f + poly(as.numeric(when), 2) + (1 | g)", data, control=QUIET)
    at = {"when": ["2020-03-01", pd.Timestamp("2020-03-02"), "2020-03-03"], "f": "a"}
    means = fit.emmeans("when", at=at)
    assert means["when"].tolist() == list(pd.to_datetime(at["when"]))
    slopes = fit.emtrends("when", "when", at=at)["estimate"].to_numpy()
    # The middle of a parabola has the slope of its chord.
    chord = (means["estimate"][2] - means["estimate"][0]) / 2
    np.testing.assert_allclose(slopes[1], chord, rtol=1e-8)
    for own in (when.date, pd.PeriodIndex(when, freq="D")):  # objects that have no mean
        other = lmer(fit.formula, data.assign(when=own), control=QUIET).emmeans("f")
        np.testing.assert_allclose(other["estimate"], fit.emmeans("f")["estimate"])
    with pytest.raises(ArgumentError, match="expected times, such as '2020-03-20'"):
        fit.emmeans("f", at={"when": "nonsense"})
    filled = lmer("y ~ f + ifelse(is.na(x), 0, x) + (1 | g)", data, control=QUIET)
    b, mean = filled.fixef(), data["x"].mean()
    expected = b.iloc[0] + b.iloc[2] * mean + np.array([0.0, b["fb"]])
    np.testing.assert_allclose(filled.emmeans("f")["estimate"], expected)


def test_arrays_of_the_callers(curved):
    y, x, g, f = (curved[name].to_numpy() for name in ("y", "x", "g", "f"))
    env = {"y": y, "x": x, "g": g, "f": f}
    assert len(lmer("y ~ f + x + (1 | g)", None, env=env).emmeans("f")) == 2
    fit = lmer("y ~ f + log(x) + (1 | g)", None, env=env)
    with pytest.raises(DataError, match=r"the values of x are not at hand.*data=\.\.\."):
        fit.emmeans("f")


# Printing


def test_notes_say_what_was_done():
    fit = fitted("unbalanced")
    lines = str(fit.emmeans("f").pairs("scheffe").summary()).splitlines()
    assert lines[0].split() == [
        "contrast", "estimate", "SE", "df", "lower.CL", "upper.CL", "t.ratio", "p.value"
    ]  # fmt: skip
    assert lines[5:] == [
        "NOTE: Results may be misleading due to involvement in interactions",
        "Results are averaged over the levels of: h",
        "Degrees-of-freedom method: satterthwaite",
        "Confidence level used: 0.95",
        "Conf-level adjustment: scheffe method with rank 2",
        "P value adjustment: scheffe method with rank 2",
    ]
    means = fit.emmeans("f", by="h")
    assert str(means).startswith("h = p:\nf emmean")
    assert means.to_html().count("<table") == 2
    assert "\\toprule" in means.to_latex()
    assert means.to_markdown().count("| f |") == 2
    assert "nonEst" in str(fitted("holes").emmeans("recipe"))
    assert "tukey was changed to sidak" in str(fit.emmeans("f").contrast("consec", "tukey"))
    assert "left-tailed" in str(fit.emmeans("f").pairs().test(delta=5))
    both = fit.emmeans("pairwise ~ f | h")
    assert list(both) == ["emmeans", "contrasts"]
    assert str(both).startswith("emmeans\nh = p:")
    several = fit.emmeans(["~ f", "~ h"])
    assert list(several) == ["emmeans of ~ f", "emmeans of ~ h"]
    assert "df1 reduced" in str(fitted("cake").emmeans("recipe").pairs().test(joint=True))


def test_small_numbers_beside_a_standard_error_are_zero():
    text = str(fitted("cake").emmeans("recipe", by="temperature").pairs())
    assert "e-" not in text


# Refusals

ASKS = {
    "'zz' is no predictor.* they are f, h, Days": lambda m: m.emmeans("zz"),
    "specs 'f/h' has f/h": lambda m: m.emmeans("f/h"),
    "specs is 3": lambda m: m.emmeans(3),
    "at names 'zz', which is no predictor": lambda m: m.emmeans("f", at={"zz": 1}),
    "at has 'q' for f, which is no level": lambda m: m.emmeans("f", at={"f": "q"}),
    "at has 'a' for Days, which is numeric": lambda m: m.emmeans("f", at={"Days": "a"}),
    "at has no value of Days": lambda m: m.emmeans("f", at={"Days": []}),
    "at is 3": lambda m: m.emmeans("f", at=3),
    "weights is 'x'; expected one of 'equal'": lambda m: m.emmeans("f", weights="x"),
    r"weights is \[1\]; expected 2 numbers": lambda m: m.emmeans("f", weights=[1]),
    "type is 'x'": lambda m: m.emmeans("f", type="x"),
    "ddf is 'x'": lambda m: m.emmeans("f", ddf="x"),
    "level is 2": lambda m: m.emmeans("f", level=2),
    "bias_adjust is 1": lambda m: m.emmeans("f", bias_adjust=1),
    "sigma is 1, which is": lambda m: m.emmeans("f", sigma=1),
    "offset is 'a'": lambda m: m.emmeans("f", offset="a"),
    "nesting names 'zz'": lambda m: m.emmeans("f", nesting={"f": "zz"}),
    "levels of f occur with several levels of h": lambda m: m.emmeans("f", nesting={"f": "h"}),
    "emmeans has no foo": lambda m: m.emmeans("f", foo=1),
    "method is 'x'; expected one of 'pairwise'": lambda m: m.emmeans("f").contrast("x"),
    "the contrast 'a' has 2 coefficients": lambda m: m.emmeans("f").contrast({"a": [1, -1]}),
    "adjust is 'x'": lambda m: m.emmeans("f").pairs("x"),
    "by has all of f, h": lambda m: m.emmeans(["f", "h"]).contrast("eff", by=["f", "h"]),
    "by is 'zz'; expected one of 'f'": lambda m: m.emmeans("f").pairs(by="zz"),
    "ref .* is 'z'": lambda m: m.emmeans("f").contrast("trt.vs.ctrl", ref="z"),
    "interaction has 3 methods": lambda m: m.emmeans("f").contrast(interaction=["eff"] * 3),
    "side is 'up'": lambda m: m.emmeans("f").test(side="up"),
    "delta is -1": lambda m: m.emmeans("f").test(delta=-1),
    "null is 'a'": lambda m: m.emmeans("f").test(null="a"),
    "there is one estimate of f": lambda m: m.emmeans("f", at={"f": "a"}).pairs(),
    "alpha is 3": lambda m: m.emmeans("f").cld(alpha=3),
    "letters is 'aa'": lambda m: m.emmeans("f").cld(letters="aa"),
    "sigma is -1": lambda m: m.emmeans("f").eff_size(sigma=-1),
    "var is 'f', which is a factor": lambda m: m.emtrends("f"),
    r"var is 'zz', which names no predictor": lambda m: m.emtrends("zz"),
    "var is 3": lambda m: m.emtrends(3),
}


@pytest.mark.parametrize("message", ASKS)
def test_what_cannot_be_is_refused(message):
    with pytest.raises((ArgumentError, FormulaError), match=message):
        ASKS[message](fitted("unbalanced"))


def test_models_without_means():
    data = frame("sleepstudy")
    none = lmer("Reaction ~ 0 + (Days | Subject)", data)
    with pytest.raises(ArgumentError, match="has no fixed effects"):
        none.emmeans("1")
    constant = lmer("Reaction ~ 1 + (1 | Subject)", data)
    assert len(constant.emmeans("1")) == 1
    with pytest.raises(ArgumentError, match="nothing to test"):
        constant.joint_tests()
    with pytest.raises(ArgumentError, match=re.escape("give sigma=")):
        fitted("cbpp").emmeans("period").eff_size()
