"""Predictions against lme4 1.1-31 (tests/reference/predict.json, by predict.R).

They are compared at lme4's theta, so that only rounding is left: 1e-11 of the largest value.
"""

from functools import cache

import numpy as np
import pandas as pd
import polars as pl
import pytest
from fit_at_theta import at_theta
from reference_data import case, cases, frame

from mixef import lmer
from mixef.errors import DataError, MixefError

ROUNDING = 1e-11
RE_FORMS = {"NULL": None, "NA": False}
# lme4 1.1-31 leaves offset= out of predictions for new data (lme4 issue 447).
FORGETS_OFFSET = {"offset_argument"}
PREDICTIONS = [
    pytest.param(case["id"], prediction, id=f"{case['id']}-{prediction['re_form']}")
    for case in cases("predict.json")
    for prediction in case["predictions"]
]


@cache
def fit_of(name):
    reference = case("predict.json", name)
    arguments = dict(reference["arguments"])
    if "contrasts" in arguments:
        named = arguments["contrasts"].items()
        arguments["contrasts"] = {key: value.removeprefix("contr.") for key, value in named}
    if name == "rank_deficient":
        with pytest.warns(UserWarning, match="rank deficient"):
            fit = lmer(reference["formula"], frame(reference["data"]), **arguments)
    else:
        fit = lmer(reference["formula"], frame(reference["data"]), **arguments)
    return at_theta(fit, reference["theta"])


def newdata_of(name):
    columns = case("predict.json", name)["newdata"]
    missing = {None: np.nan}
    return pd.DataFrame({key: [missing.get(v, v) for v in x] for key, x in columns.items()})


def assert_near(ours, expected):
    expected = np.array([np.nan if value is None else value for value in expected], dtype=float)
    scale = np.nanmax(np.abs(expected))
    np.testing.assert_allclose(ours, expected, rtol=0, atol=ROUNDING * scale)


@pytest.mark.parametrize(("name", "prediction"), PREDICTIONS)
def test_new_rows_are_predicted_as_in_lme4(name, prediction):
    new_levels = "population" if case("predict.json", name)["new_levels"] else "error"
    re_form = RE_FORMS.get(prediction["re_form"], prediction["re_form"])
    newdata = newdata_of(name)
    ours = fit_of(name).predict(newdata, re_form=re_form, new_levels=new_levels)
    expected = prediction["new"]
    if name in FORGETS_OFFSET:
        expected = np.array(expected) + newdata["v"]
    assert_near(ours, expected)


@pytest.mark.parametrize(("name", "prediction"), PREDICTIONS)
def test_own_rows_are_predicted_as_in_lme4(name, prediction):
    re_form = RE_FORMS.get(prediction["re_form"], prediction["re_form"])
    ours = fit_of(name).predict(re_form=re_form).head(20)
    assert_near(ours, prediction["own"])


@pytest.mark.parametrize("name", [c["id"] for c in cases("predict.json")])
def test_the_fits_own_data_as_new_data_give_its_fitted_values(name):
    fit, data = fit_of(name), frame(case("predict.json", name)["data"])
    fitted = fit.fitted()
    np.testing.assert_allclose(fit.predict(), fitted, rtol=1e-13)
    np.testing.assert_allclose(fit.predict(data), fitted, rtol=1e-11)
    np.testing.assert_allclose(
        fit.predict(data.sample(frac=1, random_state=1)).sort_index(), fitted
    )


@pytest.mark.parametrize("name", [c["id"] for c in cases("predict.json")])
def test_a_row_is_predicted_the_same_alone(name):
    # Nothing of the new data's other rows may enter: no centring, no knots, no levels.
    fit, newdata = fit_of(name), newdata_of(name)
    together = fit.predict(newdata, new_levels="population")
    alone = [
        fit.predict(newdata.iloc[[i]], new_levels="population").iloc[0] for i in range(len(newdata))
    ]
    np.testing.assert_allclose(alone, together, rtol=1e-13)


# What random effects are included


def test_parts_of_the_random_effects_add_up():
    fit, newdata = fit_of("sleep"), newdata_of("sleep")
    population = fit.predict(newdata, re_form="~0")
    intercepts = fit.predict(newdata, re_form="~ (1 | Subject)") - population
    slopes = fit.predict(newdata, re_form="~ (0 + Days | Subject)") - population
    modes = fit.ranef()["Subject"].loc[newdata["Subject"]]
    # Rounding of sums of numbers of some 300.
    np.testing.assert_allclose(intercepts, modes["(Intercept)"], rtol=0, atol=1e-11)
    np.testing.assert_allclose(
        slopes, modes["Days"].to_numpy() * newdata["Days"], rtol=0, atol=1e-11
    )
    np.testing.assert_allclose(population + intercepts + slopes, fit.predict(newdata), rtol=1e-14)


def test_part_of_a_factor_slope():
    # lme4 1.1-31 stops here: "contrasts can be applied only to factors with 2 or more levels".
    fit, newdata = fit_of("factor_slopes"), newdata_of("factor_slopes")
    ours = fit.predict(newdata, re_form="~ (1 + x | g)") - fit.predict(newdata, re_form="~0")
    modes = fit.ranef()["g"].loc[newdata["g"]]
    expected = modes["(Intercept)"].to_numpy() + modes["x"].to_numpy() * newdata["x"]
    np.testing.assert_allclose(ours, expected, rtol=1e-12)


@pytest.mark.parametrize("re_form", [False, "~0", "~ 0", np.nan])
def test_ways_to_leave_all_random_effects_out(re_form):
    fit, newdata = fit_of("sleep"), newdata_of("sleep")
    expected = fit.beta[0] + fit.beta[1] * newdata["Days"]
    np.testing.assert_allclose(fit.predict(newdata, re_form=re_form), expected, rtol=1e-14)


def test_new_data_need_no_column_of_what_is_left_out():
    fit = fit_of("sleep")
    ours = fit.predict(pd.DataFrame({"Days": [0, 1]}), re_form="~0")
    np.testing.assert_allclose(ours, [fit.beta[0], fit.beta.sum()], rtol=1e-14)
    penicillin = fit_of("penicillin").predict(pd.DataFrame({"plate": ["a"]}), re_form="~(1|plate)")
    assert penicillin.iloc[0] == pytest.approx(23.7767692633477, rel=1e-11)  # predict.json


@pytest.mark.parametrize(
    ("re_form", "message"),
    [
        ("~ (1 | Day)", "no grouping factor Day; it has Subject"),
        ("~ (1 + weird | Subject)", "weird"),
        ("~ Days", "no random-effects term"),
        (3, "re_form is 3"),
        ("y ~ (1 | Subject)", "has the response y"),
    ],
)
def test_a_wrong_re_form_is_refused(re_form, message):
    with pytest.raises(ValueError, match=message):
        fit_of("sleep").predict(newdata_of("sleep"), re_form=re_form)


# Levels and values that are missing or new


def test_new_levels_are_an_error_unless_something_is_said():
    fit, newdata = fit_of("sleep_new_levels"), newdata_of("sleep_new_levels")
    message = "new levels detected in newdata: new, other of Subject.*population.*missing"
    with pytest.raises(DataError, match=message):
        fit.predict(newdata)
    population = fit.predict(newdata, new_levels="population")
    missing = fit.predict(newdata, new_levels="missing")
    assert list(missing.isna()) == [False, True, True]
    assert missing[0] == population[0]
    np.testing.assert_allclose(population[1:], fit.predict(newdata, re_form="~0")[1:])


def test_a_new_level_of_one_factor_leaves_the_other_factor_in():
    fit = fit_of("penicillin")
    newdata = pd.DataFrame({"plate": ["new", "a"], "sample": ["F", "F"]})
    ours = fit.predict(newdata, new_levels="population")
    # predict.json: penicillin, sample F alone and both.
    np.testing.assert_allclose(ours, [19.9684780526662, 20.7730250937888], rtol=1e-11)


def test_an_unseen_combination_of_known_levels_is_a_new_level():
    data = frame("crossed")
    fit = lmer("y ~ x + (1 | a/b)", data)
    seen = set(data["a"].astype(str) + ":" + data["b"].astype(str))
    a, b = next((a, b) for a in data["a"] for b in data["b"] if f"{a}:{b}" not in seen)
    newdata = pd.DataFrame({"x": [1.0], "a": [a], "b": [b]})
    with pytest.raises(DataError, match=f"{b}:{a} of b:a"):
        fit.predict(newdata)
    ours = fit.predict(newdata, new_levels="population")
    effect = fit.ranef()["a"].loc[a, "(Intercept)"]
    np.testing.assert_allclose(ours, fit.predict(newdata, re_form="~0") + effect, rtol=1e-13)


def test_an_unknown_way_with_new_levels_is_refused():
    with pytest.raises(ValueError, match="new_levels is 'zero'; expected one of"):
        fit_of("sleep").predict(newdata_of("sleep"), new_levels="zero")


@pytest.mark.parametrize("gone", [None, np.nan])
def test_a_missing_group_is_a_new_level(gone):
    newdata = pd.DataFrame({"Days": [0.0, 1.0], "Subject": [gone, "308"]})
    fit = fit_of("sleep")
    with pytest.raises(MixefError, match="new levels detected in newdata: NA of Subject"):
        fit.predict(newdata)
    ours = fit.predict(newdata, new_levels="population")
    assert ours[0] == fit.predict(newdata, re_form="~0")[0]
    assert ours[1] == fit.predict(newdata[1:])[1]
    assert list(fit.predict(newdata, new_levels="missing").isna()) == [True, False]


def test_a_new_level_of_a_fixed_factor_is_refused():
    newdata = newdata_of("interaction").assign(f=["C", "Z"])
    with pytest.raises(MixefError, match="Z"):
        fit_of("interaction").predict(newdata)


def test_a_column_that_is_not_there_is_named():
    with pytest.raises(MixefError, match="Days"):
        fit_of("sleep").predict(pd.DataFrame({"Subject": ["308"]}))


# Rows and kinds of frames


def test_predictions_keep_the_index():
    newdata = newdata_of("sleep").set_axis(["p", "q", "r", "s"])
    ours = fit_of("sleep").predict(newdata)
    assert list(ours.index) == ["p", "q", "r", "s"]
    own = lmer("Reaction ~ Days + (1 | Subject)", frame("sleepstudy").iloc[::-1])
    assert list(own.predict().index) == list(range(179, -1, -1))


def test_other_frames_give_the_same_numbers():
    fit, newdata = fit_of("sleep"), newdata_of("sleep")
    expected = fit.predict(newdata).to_numpy()
    for other in (newdata.to_dict("list"), pl.from_pandas(newdata)):
        np.testing.assert_array_equal(fit.predict(other), expected)
    categorical = newdata.assign(Subject=pd.Categorical(newdata["Subject"]))
    np.testing.assert_array_equal(fit.predict(categorical), expected)


def test_no_rows_give_no_predictions():
    ours = fit_of("sleep").predict(newdata_of("sleep").head(0))
    assert isinstance(ours, pd.Series)
    assert ours.shape == (0,)


def test_rows_left_out_of_the_fit():
    data = frame("crossed_na")
    kept = ~data[["y", "x", "a", "w"]].isna().any(axis=1).to_numpy()
    fits = {
        action: lmer("y ~ x + (x | a)", data, weights="w", na_action=action)
        for action in ("omit", "exclude")
    }
    padded, omitted = fits["exclude"].predict(), fits["omit"].predict()
    assert list(omitted.index) == list(data.index[kept])
    assert list(padded.index) == list(data.index)
    np.testing.assert_array_equal(padded.isna(), ~kept)
    np.testing.assert_array_equal(padded[kept], omitted)
    # As new data all rows that have their predictors get a value; the response is not asked for.
    everything = fits["omit"].predict(data.drop(columns=["y", "w"]), new_levels="missing")
    known = ~data[["x", "a"]].isna().any(axis=1)
    np.testing.assert_array_equal(everything.notna(), known)
    assert everything.notna().sum() > kept.sum()
    np.testing.assert_allclose(everything[kept], omitted, rtol=1e-12)


# Offsets


def test_an_offset_by_name_is_that_of_the_formula():
    newdata = newdata_of("offset_argument")
    named = fit_of("offset_argument").predict(newdata)
    assert_near(named, fit_of("offset_in_formula").predict(newdata))


def test_an_offset_given_as_an_array_says_nothing_about_new_rows():
    data = frame("crossed")
    fit = lmer("y ~ x + (1 | a)", data, offset=data["v"].to_numpy())
    np.testing.assert_allclose(fit.predict(), fit.fitted(), rtol=1e-14)
    with pytest.raises(DataError, match=r"offset= was an array.*column name"):
        fit.predict(data)


def test_a_missing_offset_gives_nan():
    newdata = newdata_of("offset_in_formula")
    newdata.loc[1, "v"] = np.nan
    ours = fit_of("offset_in_formula").predict(newdata)
    assert list(ours.isna()) == [False, True, False]


# Numbers printed by lme4's tests (2.1-0, test-predict)


def test_numbers_of_lme4s_own_tests():
    sleep = fit_of("sleep").predict().iloc[[0, 9, 10, 19, 20, 29]]
    printed = "253.663652396798 430.66001930835 211.006415533628 227.634788908917 "
    printed += "212.444742696829 257.61053840953"
    # They come from a fit that stopped early: theta is about 1e-5 from the optimum.
    np.testing.assert_allclose(sleep, np.array(printed.split(), dtype=float), rtol=2e-6)
    penicillin = fit_of("penicillin")
    head = [25.9638, 22.7663, 25.7147, 23.6799, 23.7629, 20.773]
    # Half a unit of the last digit printed.
    np.testing.assert_allclose(penicillin.predict().head(6), head, rtol=0, atol=5e-5)
    mean = penicillin.predict(re_form=False)
    np.testing.assert_allclose(mean, 22.9722222222251, rtol=1e-12)


# A function of the caller's in the formula


def test_functions_of_the_caller_are_found_again():
    def half(x):
        return x / 2

    fit = lmer("Reaction ~ half(Days) + (1 | Subject)", frame("sleepstudy"))
    plain = lmer("Reaction ~ Days + (1 | Subject)", frame("sleepstudy"))
    newdata = newdata_of("sleep")
    np.testing.assert_allclose(fit.predict(newdata), plain.predict(newdata), rtol=1e-10)


@pytest.mark.parametrize(
    ("re_form", "message"),
    [
        ("y ~ (1 | Subject)", "has the response y"),
        ("~ Days + (1 | Subject)", "has Days, which is no random-effects term"),
        ("Subject", "re_form is no formula; expected None, False or text such as"),
        ("~ (1 | ", "re_form is no formula.*found the end"),
        ("~ (1 | Batch)", "no grouping factor Batch; it has Subject"),
        ("~ 1", "has no random-effects term; use '~0' for none"),
        (3, "re_form is 3; expected None, False or text"),
    ],
)
def test_what_re_form_cannot_be(re_form, message):
    fit = lmer("Reaction ~ Days + (Days | Subject)", frame("sleepstudy"))
    for ask in (fit.predict, fit.simulate):
        with pytest.raises(ValueError, match=f"(?s){message}"):
            ask(re_form=re_form)
    np.testing.assert_array_equal(
        fit.predict(re_form="~ 0 + (1 | Subject)"), fit.predict(re_form="~ (1 | Subject)")
    )
