"""Functions of the parameters: exact gradients, and standard errors beside car's."""

import warnings
from functools import cache

import numpy as np
import pandas as pd
import pytest
from reference_data import frame, read_reference
from scipy import stats

from mixef import delta_method, glmer, lmer, load_dataset
from mixef.errors import ArgumentError, FitError, FormulaError
from mixef.inference.hypotheses.ddf import t_tests
from mixef.inference.hypotheses.differentiated import FUNCTIONS, differentiated

CASES = {case["id"]: case for case in read_reference("measures.json")["delta"]}
SLOPES = "Reaction ~ Days + (Days | Subject)"
SD = "`sd_(Intercept)|Subject`"


@cache
def fit_of(formula, data="sleepstudy", family=None):
    if family is None:
        return lmer(formula, frame(data))
    return glmer(formula, frame(data), family)


def named_as_here(case, text):
    """An expression of the R script, whose coefficients may have other names there."""
    for short, own in zip(case["names"] or [], case["own"], strict=False):
        text = text.replace(short, own)
    return text


@pytest.mark.parametrize("key", CASES)
def test_standard_errors_are_cars(key):
    """car has symbolic derivatives; a generalized fit of lme4 stops 1e-4 or so from the optimum."""
    case = CASES[key]
    fit = fit_of(case["formula"], case["data"], case.get("family"))
    texts = [named_as_here(case, text) for text in case["expressions"]]
    found = delta_method(fit, texts, ddf=None).frame
    expected = np.array(case["values"])
    columns = ["estimate", "std_error", "conf_low", "conf_high"]
    rtol = 2e-2 if "family" in case else 1e-4
    np.testing.assert_allclose(found[columns], expected, rtol=rtol, atol=rtol * 1e-2)


@pytest.mark.parametrize("name", FUNCTIONS)
def test_derivatives_of_functions_are_their_differences(name):
    x, h = 0.37, 1e-4
    at = [differentiated(f"{name}(a)", {"a": x + k * h}).value for k in (-2, -1, 1, 2)]
    slope = (at[0] - 8.0 * at[1] + 8.0 * at[2] - at[3]) / (12.0 * h)
    found = differentiated(f"{name}(a)", {"a": x}).gradient[0]
    # rounding of the differences, 1e-16 / 1e-4
    np.testing.assert_allclose(found, slope, rtol=1e-9, atol=1e-10)


EXPRESSIONS = (
    "a + b * c", "(a - b) / c", "-a^2", "a^b^c", "a ** -b", "2^a", "exp(a * b) / (1 + exp(c))",
    "sqrt(a) * log(b + c) - pi", "+(a)", "1 / a / b", "abs(a - b) * 1e3",
)  # fmt: skip


@pytest.mark.parametrize("text", EXPRESSIONS)
def test_gradients_are_differences_and_values_pythons(text):
    values = {"a": 0.7, "b": 1.9, "c": 0.4}
    names = {"exp": np.exp, "sqrt": np.sqrt, "log": np.log, "pi": np.pi}

    def python(v):
        return eval(text.replace("^", "**"), names | v)

    found = differentiated(text, values)
    assert found.value == pytest.approx(python(values), rel=1e-14)
    for j, name in enumerate(values):
        ends = [python(values | {name: values[name] + s * 1e-5}) for s in (1, -1)]
        assert found.gradient[j] == pytest.approx((ends[0] - ends[1]) / 2e-5, rel=1e-6, abs=1e-8)


def test_flat_places_of_infinite_slopes():
    assert differentiated("sqrt(0) + a", {"a": 1.0}).gradient.tolist() == [1.0]
    assert differentiated("a^2", {"a": 0.0}).gradient.tolist() == [0.0]
    assert differentiated("(-2)^a + b", {"a": 2.0, "b": 1.0}).value == 5.0
    assert differentiated("b^3", {"b": -2.0}).gradient.tolist() == [12.0]


def test_linear_expressions_are_contests():
    """A linear function has itself for a tangent: estimate, standard error and df are contest's."""
    fit = fit_of("angle ~ recipe * temp + (1 | recipe:replicate)", "cake")
    for ddf in ("satterthwaite", "kenward-roger", None):
        found = delta_method(fit, "recipeB - 2 * recipeC:temp", ddf=ddf).frame.iloc[0]
        L = np.zeros(6)
        L[1], L[5] = 1.0, -2.0
        expected = t_tests(fit._fit, L[None], ddf=ddf)
        assert found["std_error"] == pytest.approx(expected.std_error[0], rel=1e-10)
        assert found["df"] == pytest.approx(expected.df[0], rel=1e-9)
        assert found["p_value"] == pytest.approx(expected.p_value[0], rel=1e-8)


def test_names_need_no_backquotes_where_they_are_read_as_one():
    data = load_dataset("sleepstudy").rename(columns={"Days": "test day"})
    data["x"] = np.log1p(data["test day"])
    fit = lmer("Reaction ~ `test day` * x + I(x^2) + (1 | Subject)", data)
    beta = dict(zip(fit.fixef().index, fit.beta, strict=True))
    same = {
        "(Intercept)": "(Intercept)",
        "`(Intercept)`": "(Intercept)",
        "I(x^2)": "I(x^2)",
        "`test day`:x": "`test day`:x",
        "`test day`": "`test day`",
        "x": "x",
    }
    found = delta_method(fit, list(same))
    np.testing.assert_allclose(found.frame["estimate"], [beta[name] for name in same.values()])
    np.testing.assert_allclose(
        found.frame["std_error"].iloc[2], np.sqrt(fit.vcov().loc["I(x^2)", "I(x^2)"])
    )


def test_covariance_parameters_have_those_of_the_wald_intervals():
    fit = fit_of(SLOPES)
    found = delta_method(fit, [f"log({SD})", "log(sigma)", "sigma"]).frame
    wald = np.log(fit.confint(method="wald").loc[["sd_(Intercept)|Subject", "sigma"]])
    np.testing.assert_allclose(found[["conf_low", "conf_high"]].iloc[:2], wald, rtol=1e-8)
    assert np.isinf(found["df"]).all()
    # coefficients of a linear model are independent of the others: variances of a product add
    both = delta_method(fit, "Days * sigma").frame.loc["Days * sigma", "std_error"]
    days, sigma = fit.beta[1], fit.sigma
    expected = np.hypot(sigma * np.sqrt(fit.vcov().iloc[1, 1]), days * found["std_error"].iloc[2])
    assert both == pytest.approx(expected, rel=1e-9)


def test_joint_covariances_of_generalized_models():
    """By the matrix of all parameters, where sd is the covariance parameter itself."""
    fit = glmer(
        "cbind(incidence, size - incidence) ~ period + (1 | herd)", frame("cbpp"), "binomial"
    )
    V = fit.vcov(full=True)
    names = ["(Intercept)", "herd.(Intercept)"]
    sd, b0 = fit.par[0], fit.beta[0]
    gradient = np.array([sd, b0])
    expected = np.sqrt(gradient @ V.loc[names, names].to_numpy() @ gradient)
    text = "(Intercept) * `sd_(Intercept)|herd`"
    assert delta_method(fit, text).frame["std_error"].iloc[0] == pytest.approx(expected, rel=1e-6)


def test_an_intraclass_correlation_has_the_spread_of_its_bootstrap():
    fit = fit_of("strength ~ 1 + (1 | sample)", "Pastes")
    sd = "`sd_(Intercept)|sample`"
    found = delta_method(fit, f"{sd}^2 / ({sd}^2 + sigma^2)").frame.iloc[0]
    assert found["estimate"] == pytest.approx(fit.icc().adjusted, rel=1e-9)
    refits = fit.refit(fit.simulate(200, seed=3)).to_frame()
    shares = refits["sd_(Intercept)|sample"] ** 2
    shares = shares / (shares + refits["sigma"] ** 2)
    # a standard deviation of 200 draws of a skewed share
    assert found["std_error"] == pytest.approx(shares.std(), rel=0.25)


def test_names_nulls_and_levels():
    fit = fit_of(SLOPES)
    found = delta_method(
        fit, {"ratio": "Days / (Intercept)", "slope": "Days"}, null=[0, 10], level=0.9
    )
    assert list(found.frame.index) == ["ratio", "slope"]
    assert list(found.frame.columns) == [
        "estimate", "std_error", "statistic", "df", "p_value", "conf_low", "conf_high",
    ]  # fmt: skip
    slope = found.frame.loc["slope"]
    assert slope["statistic"] == pytest.approx((slope["estimate"] - 10) / slope["std_error"])
    half = stats.t.ppf(0.95, slope["df"]) * slope["std_error"]
    assert slope["conf_high"] == pytest.approx(slope["estimate"] + half)
    assert found.vcov.loc["slope", "slope"] == pytest.approx(slope["std_error"] ** 2)
    assert found.gradient.loc["slope", "Days"] == 1.0
    assert found.expressions == ("Days / (Intercept)", "Days")
    again = delta_method(fit, ["Days / (Intercept)"], ["ratio"]).to_frame()
    pd.testing.assert_series_equal(again["estimate"], found.frame["estimate"].iloc[:1])
    for form in (found.to_html(), found.to_latex(), found.to_markdown(), str(found)):
        assert "ratio" in form


def test_what_is_refused():
    fit = fit_of(SLOPES)
    wrong = {
        "Dayz": "'Dayz' is no parameter: did you mean 'Days'",
        "sin(Days, 3)": "has 2 arguments; expected one",
        "exp(x = Days)": "has 1 argument, by name; expected one",
        "sqr(Days)": r"calls sqr\(\), which has no derivative here: did you mean sqrt",
        "Days > 3": "the operator > is no part of an expression",
        "Days %% 2": "the operator %% is no part",
        "'a'": '"a" is no part of an expression',
        "Days +": "cannot read the expression",
    }
    for text, message in wrong.items():
        with pytest.raises(FormulaError, match=message):
            delta_method(fit, text)
    poly = fit_of("Reaction ~ poly(Days, 2) + (1 | Subject)")
    with pytest.raises(FormulaError, match=r"go in backquotes: `poly\(Days, 2\)1`"):
        delta_method(poly, "poly(Days, 2)1 / 2")
    for text in ("Days / 0", "log(-Days)", "log(0 * Days)", "1 / (Days - Days)"):
        with pytest.raises(ArgumentError, match="has no finite"):
            delta_method(fit, text)
    with pytest.raises(ArgumentError, match="expressions is 3; expected an expression"):
        delta_method(fit, 3)
    with pytest.raises(ArgumentError, match="names has 2 names for 1 expressions"):
        delta_method(fit, "Days", ["a", "b"])
    with pytest.raises(ArgumentError, match="named by their keys"):
        delta_method(fit, {"a": "Days"}, ["b"])
    with pytest.raises(ArgumentError, match=r"null has shape \(2,\); expected one number"):
        delta_method(fit, "Days", null=[1, 2])
    with pytest.raises(ArgumentError, match="level is 95"):
        delta_method(fit, "Days", level=95)
    with pytest.raises(ArgumentError, match="delta_method has no g: "):
        delta_method(fit, "Days", g=1)


def test_parameters_that_are_not_known_are_refused_by_name():
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        flat = lmer("Yield ~ 1 + (1 | Batch)", load_dataset("Dyestuff2"))
        rough = glmer(
            "use ~ age + (1 | district)", load_dataset("Contraception"), "binomial", nAGQ=0
        )
    with pytest.raises(FitError, match=r"covariance of sd_\(Intercept\)\|Batch is"):
        delta_method(flat, "`sd_(Intercept)|Batch`^2")
    with pytest.raises(FitError, match="nAGQ = 0"):
        delta_method(rough, "age * `sd_(Intercept)|district`")
    apart = delta_method(rough, ["exp(10 * age)", "`sd_(Intercept)|district`"])
    assert (apart.frame["std_error"] > 0.0).all()
    assert np.isnan(apart.vcov.iloc[0, 1])


def test_coefficients_of_one_name_are_told_apart_by_their_terms():
    data = load_dataset("sleepstudy").assign(f=["1", "2"] * 90, f2=np.arange(180.0) % 7)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        fit = lmer("Reaction ~ f + f2 + (1 | Subject)", data)
    assert list(fit.fixef().index) == ["(Intercept)", "f2", "f2"]
    found = delta_method(fit, ["`f2 of f`", "`f2 of f2`"]).frame
    np.testing.assert_allclose(found["estimate"], fit.beta[1:])
    with pytest.raises(FormulaError, match=r"'f2' is no parameter: .*f2 of f, f2 of f2"):
        delta_method(fit, "f2")


def test_a_covariance_that_was_chosen_is_used():
    fit = fit_of(SLOPES).with_vcov("CR2", cluster="Subject")
    found = delta_method(fit, "100 * Days / (Intercept)").frame.iloc[0]
    b0, b1 = fit.beta
    gradient = np.array([-100.0 * b1 / b0**2, 100.0 / b0])
    expected = np.sqrt(gradient @ fit.vcov().to_numpy() @ gradient)
    assert found["std_error"] == pytest.approx(expected, rel=1e-9)
    tangent = t_tests(fit._fit, gradient[None])
    assert found["df"] == pytest.approx(tangent.df[0], rel=1e-6)
    cbpp = "cbind(incidence, size - incidence) ~ period + (1 | herd)"
    other = glmer(cbpp, frame("cbpp"), "binomial").with_vcov("CR1", cluster="herd")
    with pytest.raises(FitError, match="another covariance was chosen"):
        delta_method(other, "(Intercept) * `sd_(Intercept)|herd`")
