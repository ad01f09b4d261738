"""Tables of tests of a fit's terms: beside lmerTest and car, and as they print."""

import warnings

import numpy as np
import pandas as pd
import pytest
from anova_cases import CASES, column, fit_of, plain
from reference_data import frame, read_reference

from mixef import anova, glmer, lmer
from mixef.errors import FitError
from mixef.inference.hypotheses.anova import AnovaTable

REFERENCE = read_reference("anova.json")
GLMMS = {case["id"]: case for case in REFERENCE["glmm"]}
PRINTED = REFERENCE["printed"]
F_COLUMNS = ["Sum Sq", "Mean Sq", "NumDF", "DenDF", "F value", "Pr(>F)"]

# Where lmerTest 3.1-3 is not followed. Type II: it takes a:x for a term that does not contain a,
# and does not adjust b:c for an a beside it (the two cases "apart"), where types I and III of that
# last term, and car, agree with what is found here.
# Nested terms and those without an intercept: its table changes with the contrasts (A is tested
# at the first level of C or B), which those of SAS and of mixef do not.
OTHER = {
    ("cake_covariate", "II"), ("three_way_covariate", "II"), ("covariates", "II"),
    ("nested", "II"), ("nested", "III"), ("no_margin", "II"), ("no_margin", "III"),
    ("no_intercept", "II"), ("no_intercept", "III"), ("no_intercept_x", "II"),
    ("apart", "II"), ("apart_slope", "II"),
}  # fmt: skip


@pytest.mark.parametrize("type", ["I", "II", "III"])
@pytest.mark.parametrize("key", CASES)
def test_satterthwaite_tables_are_lmertests(key, type):
    """F to 1e-6: lmerTest's comes from theta within 1e-8 of the optimum, squares from sigma alike.
    Its df are by numerical differences with an error of about 1e-4."""
    expected, fit = CASES[key][type], fit_of(key)
    table = fit.anova(type=type)
    assert list(table.columns) == F_COLUMNS
    assert table.heading == (expected["heading"][0],)
    assert list(table.index) == expected["rows"]
    for name, rtol in {"F value": 1e-5, "Sum Sq": 1e-5, "Mean Sq": 1e-5, "DenDF": 1e-3}.items():
        recorded = column(expected, name)
        for term in table.index:
            if (key, type) in OTHER and term in ("A", "B", "A:B", "x", "z", "recipe", "B:C", "B:x"):
                continue
            np.testing.assert_allclose(table.loc[term, name], recorded[term], rtol=rtol)
            assert table.loc[term, "NumDF"] == column(expected, "NumDF")[term]


def test_where_lmertest_is_not_followed_the_tables_do_differ():
    """So that the exceptions above are no longer than they need to be."""
    for key, type in OTHER:
        found = fit_of(key).anova(type=type)["F value"]
        recorded = pd.Series(column(CASES[key][type], "F value"))
        assert (found / recorded - 1.0).abs().max() > 1e-3, (key, type)


@pytest.mark.parametrize(("key", "last"), [("apart", "B:C"), ("apart_slope", "B:x")])
def test_the_last_term_is_adjusted_for_all_others_by_every_type(key, last):
    """lmerTest's own type I of it, to which no term is left to be added."""
    recorded = column(CASES[key]["I"], "F value")[last]
    for type in ("I", "II", "III"):
        found = fit_of(key).anova(type=type).loc[last, "F value"]
        np.testing.assert_allclose(found, recorded, rtol=1e-5)


@pytest.mark.parametrize("key", ["nested", "no_margin"])
def test_type_three_of_nested_terms_is_cars_under_sum_contrasts(key):
    recorded = column(CASES[key]["car_III"], "Chisq")
    for term, F, df in fit_of(key).anova()[["F value", "NumDF"]].itertuples():
        np.testing.assert_allclose(F * df, recorded[term], rtol=1e-5)


@pytest.mark.parametrize("type", ["I", "III"])
@pytest.mark.parametrize("key", ["cake_some", "three_way", "splines", "one_empty", "deep_empty"])
def test_kenward_roger_tables_are_lmertests(key, type):
    """Which come from pbkrtest 0.5.2. lmerTest's Sum Sq and Mean Sq are of the Wald statistic
    before pbkrtest's scaling, up to 1 % away; those of mixef are of the F value beside them."""
    expected = CASES[key][f"{type}_KR"]
    table = fit_of(key).anova(type=type, ddf="Kenward-Roger")
    assert table.heading == (f"Type {type} Analysis of Variance Table with Kenward-Roger's method",)
    for name in ("F value", "DenDF", "NumDF", "Pr(>F)"):
        recorded = [column(expected, name)[term] for term in table.index]
        np.testing.assert_allclose(table[name], recorded, rtol=1e-5)
    np.testing.assert_allclose(table["Mean Sq"], table["F value"] * fit_of(key).sigma ** 2)


@pytest.mark.parametrize("key", [key for key in CASES if "no_intercept" not in key])
def test_without_degrees_of_freedom_the_table_is_lme4s(key):
    expected = CASES[key]["lme4"]
    table = fit_of(key).anova(type="I", ddf=None)
    assert table.heading == ("Analysis of Variance Table",)
    assert list(table.columns) == expected["columns"] == ["npar", "Sum Sq", "Mean Sq", "F value"]
    for name in table.columns:
        recorded = [column(expected, name)[term] for term in table.index]
        np.testing.assert_allclose(table[name], recorded, rtol=1e-5)


@pytest.mark.parametrize("key", [key for key in CASES if "no_intercept" not in key])
def test_type_two_by_the_precision_is_cars(key):
    """car adjusts terms by the inverse of vcov(fit)."""
    expected = CASES[key]["car_II"]
    table = fit_of(key).anova(type=2, ddf=None)
    assert table.heading == ("Type II Analysis of Variance Table",)
    for term, F, df in table[["F value", "npar"]].itertuples():
        np.testing.assert_allclose(F * df, column(expected, "Chisq")[term], rtol=1e-5)
        assert df == column(expected, "Df")[term]


@pytest.mark.parametrize("key", [key for key in CASES if "empty" not in key and "no_" not in key])
def test_type_three_is_cars_under_sum_contrasts(key):
    expected = CASES[key]["car_III"]
    for term, F, df in fit_of(key).anova(ddf=None)[["F value", "npar"]].itertuples():
        np.testing.assert_allclose(F * df, column(expected, "Chisq")[term], rtol=1e-5)


@pytest.mark.parametrize("type", ["I", "II", "III"])
@pytest.mark.parametrize("key", ["cbpp", "contra", "contra_livch",
                                 pytest.param("verbagg", marks=pytest.mark.slow)])  # fmt: skip
def test_wald_tables_of_generalized_models(key, type):
    """By car at R's optimum, whose Hessian is by extrapolated differences, good to 1e-6."""
    case = GLMMS[key]
    fit = glmer(case["formula"], frame(case["data"]), family="binomial")
    table = anova(fit, type=type)
    expected = case["II"]["values"]["Chisq"] if type == "II" else case[type]
    assert list(table.columns) == ["Chisq", "Df", "Pr(>Chisq)"]
    assert list(table.index) == case["labels"]
    assert table["Df"].tolist() == case["Df"]
    np.testing.assert_allclose(table["Chisq"], expected, rtol=2e-5)
    if type == "II":
        np.testing.assert_allclose(
            table["Pr(>Chisq)"], case["II"]["values"]["Pr(>Chisq)"], rtol=1e-3
        )
        assert table.heading[0] == "Analysis of Deviance Table (Type II Wald chisquare tests)"


def test_generalized_tables_are_one_whatever_the_contrasts():
    case = GLMMS["contra_livch"]
    tables = [
        glmer(case["formula"], frame("Contraception"), family="binomial", contrasts=contrasts)
        for contrasts in (None, {"livch": "sum", "urban": "helmert"})
    ]
    for type in ("I", "II", "III"):
        one, other = (fit.anova(type)["Chisq"] for fit in tables)
        np.testing.assert_allclose(one, other, rtol=1e-5)


@pytest.mark.parametrize(
    ("name", "arguments"),
    [
        ("I", {"type": 1}),
        ("KR", {"ddf": "Kenward-Roger"}),
        ("lme4", {"type": 1, "ddf": None}),
    ],
)
def test_what_is_printed_is_rs(name, arguments):
    """But for the last digits of lmerTest's numerical df, which are left out."""
    table = fit_of("cake_some").anova(**arguments)
    mine, theirs = str(table).splitlines(), plain(PRINTED[name])
    if name == "I":
        mine, theirs = ([line.replace("195.539", "195.540").replace("195.529", "195.534")
                         for line in lines] for lines in (mine, theirs))  # fmt: skip
    assert mine == theirs


def test_one_model_in_the_function_is_the_method():
    fit = fit_of("two_way")
    for options in ({}, {"type": "II"}, {"type": 1, "ddf": None}):
        pd.testing.assert_frame_equal(anova(fit, **options).frame, fit.anova(**options).frame)


@pytest.mark.parametrize("REML", [True, False])
def test_reml_and_ml_differ(REML):
    """Squares are relative to sigma squared of the fit as it is; the fit is not refitted."""
    fit = fit_of("two_way", REML=REML)
    table = fit.anova()
    np.testing.assert_allclose(table["Mean Sq"], table["F value"] * fit.sigma**2, rtol=1e-12)
    other = fit_of("two_way", REML=not REML).anova()
    assert abs(table["F value"] / other["F value"] - 1.0).min() > 1e-3


def test_models_of_an_intercept_and_of_nothing():
    data = frame("factorial")
    table = lmer("y ~ 1 + (1 | g)", data).anova()
    fit = lmer("y ~ 1 + (1 | g)", data)
    assert list(table.index) == ["(Intercept)"]
    t = fit.coef_table()["t value"].iloc[0]
    np.testing.assert_allclose(table["F value"], t**2, rtol=1e-9)
    empty = lmer("y ~ 0 + (1 | g)", data).anova()
    assert len(empty) == 0
    assert str(empty).startswith("Type III")


def test_a_confounded_term_has_no_test():
    data = frame("sleepstudy").assign(hours=lambda d: 24.0 * d["Days"] + 1.0)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        table = lmer("Reaction ~ Days + hours + (1 | Subject)", data).anova(type="I")
    assert table["NumDF"].tolist() == [1, 0]
    assert np.isnan(table.loc["hours", "Pr(>F)"])
    assert "NaN" not in str(table)
    assert "nan" not in str(table)


@pytest.mark.parametrize("singular", ["Dyestuff2", "slopes"])
def test_singular_fits_have_tables(singular):
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        if singular == "Dyestuff2":
            fit = lmer("Yield ~ 1 + (1 | Batch)", frame("Dyestuff2"))
        else:
            fit = lmer("angle ~ recipe + temp + (temp | recipe:replicate)", frame("cake"))
        assert fit.is_singular()
        table = fit.anova()
    assert np.isfinite(table.frame.to_numpy(dtype=float)).all()


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"type": "IV"}, "type is 'IV'; expected one of 'I', 'II' or 'III'"),
        ({"ddf": "wald"}, "ddf is 'wald'; expected"),
    ],
)
def test_refusals(options, message):
    with pytest.raises(ValueError, match=message):
        fit_of("two_way").anova(**options)


def test_generalized_models_have_no_denominator():
    fit = glmer(GLMMS["cbpp"]["formula"], frame("cbpp"), family="binomial")
    with pytest.raises(ValueError, match="ddf is 'kenward-roger', but a generalized model"):
        fit.anova(ddf="kenward-roger")


def test_a_covariance_that_is_none():
    fit = glmer(GLMMS["cbpp"]["formula"], frame("cbpp"), family="binomial")
    fit._fit.__dict__["model_vcov"] = np.full((4, 4), np.nan)
    with pytest.raises(FitError, match="not positive definite"):
        fit.anova("II")


def test_a_table_is_a_frame_to_its_reader():
    table = fit_of("two_way").anova()
    assert isinstance(table, AnovaTable)
    assert len(table) == 3
    assert table["NumDF"].tolist() == [2, 2, 4]
    assert list(table) == F_COLUMNS
    assert table.loc["A:B", "NumDF"] == table.iloc[2]["NumDF"] == 4
    copy = table.to_frame()
    copy.loc["A", "F value"] = 0.0
    assert table.loc["A", "F value"] > 1.0
    assert "<table class='mixef'" in table._repr_html_()
    assert "&#x27;s method" in table.to_html()
    assert table.to_markdown().count("|") > 20
    assert "\\toprule" in table.to_latex()
    assert repr(table) == str(table)
