"""Linear hypotheses: what is read from arrays, frames and text, and the tables of their tests."""

import warnings

import numpy as np
import pandas as pd
import pytest
from reference_data import cases, frame

from mixef import glmer, lmer, load_dataset
from mixef.errors import DataWarning, FormulaError, SingularFitWarning
from mixef.inference.hypotheses.ddf import f_test
from mixef.inference.hypotheses.hypothesis import linear_hypothesis

CASES = [c for c in cases("lmertest.json") if c["id"] != "insteval"]


@pytest.fixture(scope="module")
def cake():
    return lmer("angle ~ recipe + temp + (1 | recipe:replicate)", frame("cake"))


@pytest.fixture(scope="module")
def poly():
    data = frame("sleepstudy").assign(f=np.tile(["a", "b"], 90))
    return lmer("Reaction ~ poly(Days, 2) * f + I(Days^3) + (1 | Subject)", data)


@pytest.fixture(scope="module")
def cbpp():
    formula = "cbind(incidence, size - incidence) ~ period + (1 | herd)"
    return glmer(formula, load_dataset("cbpp"), "binomial")


# Against lmerTest: the test of every coefficient against 1, of fits as in test_ddf


@pytest.mark.parametrize("c", CASES, ids=lambda c: c["id"])
def test_hypotheses_one_by_one_are_tested_as_in_lmertest(c):
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", SingularFitWarning)
        fit = lmer(c["formula"], frame(c["data"]), c["REML"], weights=c.get("weights"))
    table = fit.contest(np.eye(len(fit.beta)), rhs=1, joint=False).to_frame()
    heads = ["Estimate", "Std. Error", "df", "t value", "lower", "upper", "Pr(>|t|)"]
    assert list(table) == heads
    assert list(table.index) == c["beta_names"]
    # lmerTest's df have six digits; lme4 ends 4e-5 from the singular optimum of cake_slopes.
    rtol = 1e-4 if c["id"] == "cake_slopes" else 2e-6
    for name, r in zip(["t value", "lower", "upper"], ["t", "lower", "upper"], strict=True):
        scale = np.abs(c["one_by_one"][r]).max()
        np.testing.assert_allclose(table[name], c["one_by_one"][r], rtol=rtol, atol=rtol * scale)
    log_p = np.log(c["one_by_one"]["p"])
    np.testing.assert_allclose(np.log(table["Pr(>|t|)"]), log_p, rtol=rtol, atol=rtol)


# What is read


@pytest.mark.parametrize(
    ("text", "row", "rhs"),
    [
        ("recipeB", [0, 1, 0, 0], 0),
        ("recipeB - recipeC", [0, 1, -1, 0], 0),
        ("recipeB = recipeC", [0, 1, -1, 0], 0),
        ("-recipeB+recipeC=0", [0, -1, 1, 0], 0),
        ("temp = 0.2", [0, 0, 0, 1], 0.2),
        ("0.2 = temp", [0, 0, 0, -1], -0.2),
        ("(Intercept) + 200 * temp = 30 + 2", [1, 0, 0, 200], 32),
        ("(recipeB + recipeC) / 2 - 1e-1", [0, 0.5, 0.5, 0], 0.1),
        ("2 * (recipeB - (3 - temp)) * 2", [0, 4, 0, 4], 12),
        ("- - recipeB + +temp", [0, 1, 0, 1], 0),
        ("`recipeB`*.5", [0, 0.5, 0, 0], 0),
        ("`(Intercept)` = temp*3", [1, 0, 0, -3], 0),
        ("3*recipeB/4", [0, 0.75, 0, 0], 0),
        ("recipeB + recipeB", [0, 2, 0, 0], 0),
    ],
)
def test_text_is_read_as_a_linear_combination(cake, text, row, rhs):
    for given in (text, [text], (text,)):
        hypothesis = linear_hypothesis(cake._fit, given)
        np.testing.assert_allclose(hypothesis.L, [row], rtol=1e-15)
        assert hypothesis.rhs == pytest.approx([rhs])


def test_names_with_operators_need_no_quotes(poly):
    names = list(poly.fixef().index)
    assert names[1:5] == ["poly(Days, 2)1", "poly(Days, 2)2", "fb", "I(Days^3)"]
    assert names[5:] == ["poly(Days, 2)1:fb", "poly(Days, 2)2:fb"]
    text = "poly(Days, 2)1 - 2*poly(Days, 2)1:fb + I(Days^3)/2 = fb"
    L = linear_hypothesis(poly._fit, text).L
    np.testing.assert_array_equal(L, [[0, 1, 0, -1, 0.5, -2, 0]])
    quoted = "`poly(Days, 2)1` - 2*`poly(Days, 2)1:fb` + `I(Days^3)`/2 = `fb`"
    np.testing.assert_array_equal(linear_hypothesis(poly._fit, quoted).L, L)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("recipeB *", "expected a coefficient or a number, found the end"),
        ("recipeB recipeC", "expected an operator, found 'recipeC'"),
        ("(recipeB", r"expected '\)', found the end"),
        ("`recipeB", "expected a second `"),
        ("recipeB * temp", "not linear: it has a product of coefficients"),
        ("1 / temp", "not linear: it has a division"),
        ("temp / 0", "not linear: it has a division by zero"),
        ("1 = 2", "no coefficient left"),
        ("recipeB - recipeB", "no coefficient left"),
        (" ", "expected a coefficient or a number, found the end"),
        ("temp = 1 = 2", "expected an operator, found '= 2'"),
    ],
)
def test_text_that_cannot_be_read_is_refused(cake, text, message):
    with pytest.raises(FormulaError, match=message):
        cake.contest(text)


@pytest.mark.parametrize(
    "L", ["recipeD", "recipeBC", "2 * temperature", {"recipeD": 1}, pd.DataFrame({"recipeD": [1]})]
)
def test_names_that_are_no_coefficients_are_refused(cake, L):
    with pytest.raises(ValueError, match=r"is no coefficient.*are: \(Intercept\), recipeB, recipe"):
        cake.contest(L)


def test_every_way_to_give_a_hypothesis_is_one(cake):
    L = np.array([[0.0, 1.0, -1.0, 0.0], [0.0, 0.0, 0.0, 1.0]])
    expected = cake.contest(L).to_frame()
    ways = [
        L.tolist(),
        pd.DataFrame(L, columns=list(cake.fixef().index)),
        pd.DataFrame({"temp": [0, 1], "recipeC": [-1, 0], "recipeB": [1, 0]}),
        {"temp": [0, 1], "recipeC": [-1, 0], "recipeB": [1, 0]},
        ["recipeB - recipeC", "temp"],
        ["recipeB = recipeC", "temp = 0"],
    ]
    for way in ways:
        pd.testing.assert_frame_equal(cake.contest(way).to_frame(), expected)
    one = cake.contest(L[:1]).to_frame()
    for way in [L[0], {"recipeB": 1, "recipeC": -1}, pd.Series({"recipeB": 1, "recipeC": -1})]:
        pd.testing.assert_frame_equal(cake.contest(way).to_frame(), one)


def test_labels_of_rows(cake):
    def labels(L):
        return list(cake.contest(L, joint=False).to_frame().index)

    assert labels([[0, 1, -1, 0], [0.5, 0, 0, -2], [0, 0, 0, 1]]) == [
        "recipeB - recipeC",
        "0.5 * (Intercept) - 2 * temp",
        "temp",
    ]
    assert labels(pd.DataFrame({"temp": [1, 2]}, index=["one", "two"])) == ["one", "two"]
    assert labels(["temp = 1", "2*temp"]) == ["temp", "2*temp"]
    long = lmer("y ~ A * B + (1 | g)", frame("factorial"))
    assert list(long.contest(np.ones((1, 9)), joint=False).to_frame().index) == ["row 1"]


def test_the_right_hand_side(cake):
    by_text = cake.contest(["temp = 0.1", "recipeB = -1"])
    by_array = cake.contest(["temp", "recipeB"], rhs=[0.1, -1])
    pd.testing.assert_frame_equal(by_text.to_frame(), by_array.to_frame())
    assert by_text["F value"].item() != pytest.approx(
        cake.contest(["temp", "recipeB"])["F value"].item()
    )
    with pytest.raises(ValueError, match="beside text that has an '='; give one"):
        cake.contest(["temp = 0.1"], rhs=1)
    with pytest.raises(ValueError, match=r"rhs has shape \(3,\); expected \(1,\)"):
        cake.contest("temp", rhs=[1, 2, 3])


@pytest.mark.parametrize(
    ("L", "message"),
    [
        ({"temp": "a"}, "L, at 'temp', is 'a'; expected numbers, one for each hypothesis"),
        ({"temp": [1, 2], "recipeB": [1, 2, 3]}, "not equally many"),
        ({"temp": [[1]]}, "not equally many"),
        (np.ones((1, 3)), "expected 4 columns"),
        (None, "L is None; expected finite numbers, names or equations"),
        ([[0, 1, 0, 0], [0, 0, 0, 0]], "row 2 of L is zero"),
        (np.zeros((0, 4)), "L has no rows"),
        ([{"temp": 1}], "expected finite numbers"),
    ],
)
def test_other_hypotheses_are_refused(cake, L, message):
    with pytest.raises(ValueError, match=message):
        cake.contest(L)


@pytest.mark.parametrize(
    "L", [[], (), "", {}, {"temp": []}, np.empty((0, 4)), pd.Series(dtype=float), pd.DataFrame(),
          pd.DataFrame({"temp": []})],
)  # fmt: skip
def test_an_empty_hypothesis_is_refused(cake, L):
    with pytest.raises(ValueError, match=r"L has no rows; expected one hypothesis or more about"):
        cake.contest(L)


@pytest.mark.parametrize(
    ("L", "row"), [([0, 0, 0, 0], 1), ([[0, 0, 0, 1], [0, 0, 0, 0]], 2), ({"temp": 0}, 1),
                   ({"temp": [1, 0]}, 2)],
)  # fmt: skip
@pytest.mark.parametrize("joint", [True, False])
def test_a_row_of_zeros_is_refused(cake, L, row, joint):
    with pytest.raises(ValueError, match=f"row {row} of L is zero"):
        cake.contest(L, joint=joint)


def test_a_name_that_comes_twice_in_the_hypothesis_is_refused(cake):
    with pytest.raises(ValueError, match="L has 'temp' more than once"):
        cake.contest(pd.Series([1.0, 2.0], index=["temp", "temp"]))
    with pytest.raises(ValueError, match="L has 'temp' more than once"):
        cake.contest(pd.DataFrame([[1.0, 2.0]], columns=["temp", "temp"]))


def test_a_name_of_two_coefficients_is_refused():
    """The level b1 of a, and the variable ab1."""
    data = frame("sleepstudy").assign(a=lambda d: np.where(d["Days"] % 2 == 0, "a0", "b1"),
                                      ab1=lambda d: d["Days"] / 2.0)  # fmt: skip
    with pytest.warns(DataWarning, match="the terms a and ab1 both have a coefficient called ab1"):
        fit = lmer("Reaction ~ a + ab1 + (1 | Subject)", data)
    assert list(fit.fixef().index) == ["(Intercept)", "ab1", "ab1"]
    for L in ("ab1", "2 * `ab1` = 3", {"ab1": 1.0}, pd.Series([1.0], index=["ab1"])):
        with pytest.raises(ValueError, match="2 coefficients are called 'ab1', of the terms a,"):
            fit.contest(L)
    assert fit.contest([0, 0, 1]).frame["NumDF"].tolist() == [1]


def test_a_model_without_fixed_effects_has_nothing_to_test():
    fit = lmer("Reaction ~ 0 + (1 | Subject)", frame("sleepstudy"))
    for L in ([], "x", [[]]):
        with pytest.raises(ValueError, match="has no fixed effects, so there is nothing to test"):
            fit.contest(L)


def test_dropped_coefficients_cannot_be_tested():
    data = frame("sleepstudy").assign(twice=lambda d: 2 * d["Days"])
    with pytest.warns(DataWarning):
        fit = lmer("Reaction ~ Days + twice + (1 | Subject)", data)
    for L in ("twice", "Days - twice = 0", {"twice": 1}, pd.DataFrame({"Days": [1], "twice": [1]})):
        with pytest.raises(ValueError, match="twice was dropped from the rank-deficient"):
            fit.contest(L)
    assert fit.contest({"Days": 1, "twice": 0})["NumDF"].item() == 1


# The tables


def test_a_joint_test_is_that_of_f_test(cake):
    table = cake.contest(["recipeB", "recipeC"], ddf="KR").to_frame()
    assert list(table) == ["NumDF", "DenDF", "F value", "Pr(>F)"]
    test = f_test(cake._fit, np.eye(4)[1:3], ddf="KR")
    assert table.iloc[0].tolist() == [test.num_df, test.den_df, test.statistic, test.p_value]


def test_without_degrees_of_freedom_it_is_a_chi_square_test(cake, cbpp):
    for fit, L in [(cake, ["recipeB", "recipeC"]), (cbpp, np.eye(4)[1:])]:
        joint = fit.contest(L, ddf=None)
        assert list(joint.to_frame()) == ["Chisq", "Df", "Pr(>Chisq)"]
        test = f_test(fit._fit, linear_hypothesis(fit._fit, L).L, ddf=None)
        assert joint["Chisq"].item() == pytest.approx(test.num_df * test.statistic)
        assert str(joint).startswith("Joint chi-square test\n")
        each = fit.contest(L, joint=False, ddf=None)
        heads = ["Estimate", "Std. Error", "z value", "lower", "upper", "Pr(>|z|)"]
        assert list(each.to_frame()) == heads
        assert str(each).startswith("z tests\n")
    pd.testing.assert_frame_equal(
        cbpp.contest(np.eye(4)).frame, cbpp.contest(np.eye(4), ddf=None).frame
    )
    with pytest.raises(ValueError, match="a generalized model has z tests"):
        cbpp.contest("period2", ddf="satterthwaite")


def test_limits_have_the_level_asked_for(cake):
    import scipy.stats

    for level in (0.5, 0.95, 0.999):
        row = cake.contest("temp", joint=False, level=level).frame.iloc[0]
        half = scipy.stats.t.ppf(0.5 + level / 2, row["df"]) * row["Std. Error"]
        limits = [row["lower"], row["upper"]]
        assert limits == pytest.approx([row["Estimate"] - half, row["Estimate"] + half], rel=1e-10)
    for level in (0, 1, 95, "95%", np.nan):
        with pytest.raises(ValueError, match="expected a number between 0 and 1"):
            cake.contest("temp", joint=False, level=level)


def test_what_is_printed(cake):
    joint = cake.contest(["recipeB - recipeC", "temp = 0.1"])
    assert str(joint) == repr(joint)
    lines = str(joint).splitlines()
    assert lines[:4] == [
        "Joint F test with Satterthwaite's method",
        "  recipeB - recipeC = 0",
        "  temp = 0.1",
        "",
    ]
    assert lines[4].split() == ["NumDF", "DenDF", "F", "value", "Pr(>F)"]
    assert lines[5].endswith("*")
    assert lines[6:] == ["---", "Signif. codes:  0 '***' 0.001 '**' 0.01 '*' 0.05 '.' 0.1 ' ' 1"]
    assert str(cake.contest("temp")).startswith("F test with Satterthwaite's method\n  temp = 0\n")
    html = joint._repr_html_()
    assert ">Joint F test with Satterthwaite&#x27;s method<br>recipeB - recipeC = 0" in html
    each = str(cake.contest("temp = 0.1", joint=False, ddf="KR")).splitlines()
    assert each[0] == "t tests with Kenward-Roger's method"
    heads = ["Estimate", "Std. Error", "df", "t value", "lower", "upper", "Pr(>|t|)"]
    assert each[3].split() == " ".join(heads).split()


def test_the_result_is_a_copy(cake):
    test = cake.contest("temp")
    copy = test.to_frame()
    copy["F value"] = 0.0
    assert test["F value"].item() > 1


def test_names_that_are_quoted_in_the_formula():
    data = frame("sleepstudy").rename(columns={"Days": "my days"})
    fit = lmer("Reaction ~ `my days` + (1 | Subject)", data)
    plain = lmer("Reaction ~ Days + (1 | Subject)", frame("sleepstudy"))
    assert list(fit.fixef().index) == ["(Intercept)", "`my days`"]
    expected = plain.contest("2 * Days = 10").frame
    for text in ("2 * `my days` = 10", "10 = `my days` * 2"):
        np.testing.assert_allclose(fit.contest(text).frame, expected)


def test_text_may_be_deep_and_long(cake):
    plain = linear_hypothesis(cake._fit, "recipeB").L
    for text in ("(" * 3000 + "recipeB" + ")" * 3000, "-" * 3000 + "recipeB",
                 "1 - " + "(1 - " * 1999 + "recipeB" + ")" * 1999 + " = 0"):  # fmt: skip
        np.testing.assert_array_equal(linear_hypothesis(cake._fit, text).L, plain)
    long = linear_hypothesis(cake._fit, " + ".join(["recipeB", "2 * temp"] * 1500)).L
    np.testing.assert_array_equal(long, [[0, 1500, 0, 3000]])
    with pytest.raises(FormulaError, match=r"expected '\)', found the end"):
        cake.contest("(" * 3000 + "recipeB")
