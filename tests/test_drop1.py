"""Single deletions beside lme4's and lmerTest's."""

import warnings

import numpy as np
import pandas as pd
import pytest
from anova_cases import CASES, column, fit_of, plain
from reference_data import frame, read_reference

from mixef import GlmerControl, anova, glmer, lmer
from mixef.errors import FormulaError

REFERENCE = read_reference("anova.json")
CBPP = "cbind(incidence, size - incidence) ~ period + (1 | herd)"


@pytest.fixture(scope="module")
def cbpp():
    return glmer(CBPP, frame("cbpp"), family="binomial")


@pytest.mark.parametrize("key", [key for key in CASES if "drop1" in CASES[key]])
def test_likelihood_ratio_tests_are_lme4s(key):
    """By fits of lme4 to each smaller formula, all at tight optima: -2 log L to 1e-7."""
    expected = CASES[key]["drop1"]
    table = fit_of(key).drop1()
    assert list(table.columns) == ["npar", "AIC", "LRT", "Pr(Chi)"]
    assert list(table.index) == ["<none>", *expected["labels"]]
    npar, deviance = np.array(expected["npar"]), np.array(expected["deviance"])
    np.testing.assert_allclose(table["npar"].iloc[1:], expected["full_npar"] - npar)
    np.testing.assert_allclose(table["LRT"].iloc[1:], deviance - expected["full"], atol=2e-6)
    np.testing.assert_allclose(table["AIC"].iloc[1:], deviance + 2 * npar, rtol=1e-8)
    full = expected["full"] + 2 * expected["full_npar"]
    np.testing.assert_allclose(table.loc["<none>", "AIC"], full, rtol=1e-8)
    assert np.isnan(table.loc["<none>", ["npar", "LRT", "Pr(Chi)"]]).all()


def test_p_values_are_those_of_the_likelihood_ratio_table():
    fit = fit_of("two_way_ml")
    table = fit.drop1()
    for term in ("x", "A:B"):
        other = anova(fit, fit.update(f". ~ . - {term}")).iloc[1]
        np.testing.assert_allclose(table.loc[term, "LRT"], other["Chisq"], rtol=1e-6)
        np.testing.assert_allclose(table.loc[term, "Pr(Chi)"], other["Pr(>Chisq)"], rtol=1e-5)


@pytest.mark.parametrize("key", [key for key in CASES if key != "no_intercept"])
def test_f_tests_are_lmertests(key):
    """Without no_intercept, where lmerTest's test is of its coding (see test_anova)."""
    expected = CASES[key]["drop1_F"]
    table = fit_of(key).drop1(test="F")
    assert list(table.index) == expected["rows"]
    assert list(table.columns) == expected["columns"]
    rtol = {"NumDF": 0, "DenDF": 1e-3}
    for name in table.columns[:5]:
        recorded = [column(expected, name)[term] for term in table.index]
        np.testing.assert_allclose(table[name], recorded, rtol=rtol.get(name, 1e-5))


@pytest.mark.parametrize(
    ("name", "options"), [("drop1", {}), ("drop1_F", {"test": "F"}), ("drop1_none", {"test": None})]
)
def test_what_is_printed_is_rs(name, options):
    assert str(fit_of("cake_some").drop1(**options)).splitlines() == plain(
        REFERENCE["printed"][name]
    )


def test_generalized_models_print_as_rs(cbpp):
    assert str(cbpp.drop1()).splitlines() == plain(REFERENCE["printed"]["drop1_glmm"])


def test_f_tests_by_other_degrees_of_freedom():
    fit = fit_of("cake_some")
    for ddf in ("kenward-roger", None):
        mine = fit.drop1(test="F", ddf=ddf)
        # The interaction comes last, so it is adjusted for all others in every type.
        expected = fit.anova(type="III", ddf=ddf).frame.iloc[[2]]
        pd.testing.assert_frame_equal(mine.frame, expected, rtol=1e-7)
    assert fit.drop1(test="F", ddf="KR").heading[0].endswith("using Kenward-Roger's method:")
    assert fit.drop1(test="F", ddf=None).heading[0] == "Single term deletions"


def test_the_penalty():
    fit = fit_of("two_way_ml")
    table = fit.drop1(k=np.log(240))
    np.testing.assert_allclose(table.loc["<none>", "AIC"], fit.bic, rtol=1e-12)
    assert list(fit.drop1(k=3, test=None).columns) == ["npar", "AIC"]


@pytest.mark.parametrize("scope", ["x", "~ x", ["x"], ("x",), "~ x + x"])
def test_a_scope(scope):
    assert list(fit_of("two_way_ml").drop1(scope).index) == ["<none>", "x"]


@pytest.mark.parametrize("scope", ["~ B:A + x", ["A:B", "x"], "~ A:B + x"])
def test_a_scope_of_several(scope):
    assert set(fit_of("two_way_ml").drop1(scope).index) == {"<none>", "x", "A:B"}


def test_the_rows_stay():
    """A variable with missing values is dropped, its rows do not come back."""
    data = frame("factorial")
    data = data.assign(x=data["x"].where(np.arange(len(data)) % 7 > 0))
    fit = lmer("y ~ A + x + (1 | g)", data, REML=False)
    small = lmer("y ~ A + (1 | g)", data[data["x"].notna()], REML=False)
    expected = small.objective - fit.objective
    np.testing.assert_allclose(fit.drop1("x").loc["x", "LRT"], expected, rtol=1e-7)


def test_a_dot_stands_for_its_columns():
    data = frame("factorial")[["y", "A", "x", "g"]]
    dotted = lmer("y ~ . - g + (1 | g)", data).drop1()
    written = lmer("y ~ A + x + (1 | g)", data).drop1()
    pd.testing.assert_frame_equal(dotted.frame, written.frame, rtol=1e-6)


def test_offsets_weights_and_odd_names_go_along():
    data = frame("factorial").rename(columns={"x": "x 1"})
    formula = "y ~ A + `x 1` + I(z^2) + offset(0.1 * z) + (1 | g)"
    fit = lmer(formula, data, weights="w", REML=False)
    table = fit.drop1(["`x 1`", "I(z^2)"])
    for term, small in {
        "`x 1`": "y ~ A + I(z^2) + offset(0.1 * z) + (1 | g)",
        "I(z^2)": "y ~ A + `x 1` + offset(0.1 * z) + (1 | g)",
    }.items():
        other = lmer(small, data, weights="w", REML=False)
        np.testing.assert_allclose(table.loc[term, "LRT"], other.objective - fit.objective,
                                   rtol=1e-6)  # fmt: skip


@pytest.mark.filterwarnings("ignore::mixef.errors.SingularFitWarning")
@pytest.mark.parametrize("bar", ["diag(0 + C | g)", "(x || g)", "(1 | g/C)"])
def test_random_effects_stay_as_they_are(bar):
    data = frame("factorial")
    fit, small = (lmer(f"y ~ {fixed} + {bar}", data, REML=False) for fixed in ("z + B", "B"))
    table = fit.drop1()
    np.testing.assert_allclose(table.loc["z", "LRT"], small.objective - fit.objective, rtol=1e-6)
    assert table.loc["z", "npar"] == 1


def test_two_processes_give_what_one_gives():
    fit = fit_of("two_way_ml")
    pd.testing.assert_frame_equal(fit.drop1(n_jobs=2).frame, fit.drop1().frame, rtol=1e-9)


def test_nothing_to_drop():
    table = lmer("y ~ 1 + (1 | g)", frame("factorial")).drop1()
    assert list(table.index) == ["<none>"]


def test_a_confounded_term_has_no_test():
    data = frame("sleepstudy").assign(hours=lambda d: 24.0 * d["Days"] + 1.0)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        fit = lmer("Reaction ~ Days + hours + (1 | Subject)", data)
    with warnings.catch_warnings():
        warnings.simplefilter("error")  # refits are quiet
        table = fit.drop1()
    assert table["npar"].iloc[1:].tolist() == [0, 0]
    assert table["LRT"].iloc[1:].tolist() == [0.0, 0.0]
    assert table["Pr(Chi)"].isna().all()


def test_searches_that_did_not_end_are_noted():
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        fit = glmer(CBPP, frame("cbpp"), family="binomial", control=GlmerControl(max_evaluations=1))
        assert not fit.converged
        notes = fit.drop1().notes
    assert "The fit without period did not converge." in notes
    assert "The fit of the whole model did not converge." in notes


@pytest.mark.parametrize(
    ("options", "error", "message"),
    [
        ({"scope": "foo"}, FormulaError, "scope has foo, which is not a fixed-effects term"),
        ({"scope": "A"}, ValueError, "A cannot be dropped while A:B stay"),
        ({"scope": "~ (1 | g)"}, FormulaError, "compare fits with and without it by anova"),
        ({"scope": 3}, ValueError, "scope is 3; expected labels of terms"),
        ({"test": "LRT"}, ValueError, "test is 'LRT'; expected one of 'Chisq', 'F' or None"),
        ({"k": "two"}, ValueError, "k is 'two'; expected a number"),
        ({"test": "F", "ddf": "wald"}, ValueError, "ddf is 'wald'"),
        ({"n_jobs": 0}, ValueError, "n_jobs is 0"),
    ],
)
def test_refusals(options, error, message):
    with pytest.raises(error, match=message):
        fit_of("two_way_ml").drop1(**options)


def test_generalized_models_have_no_f_tests(cbpp):
    with pytest.raises(ValueError, match="test is 'F', but a generalized model has no F tests"):
        cbpp.drop1(test="F")
