"""Tests of random terms, and backward elimination, beside lmerTest's."""

import pickle
import warnings
from functools import cache

import numpy as np
import pytest
from reference_data import frame, read_reference
from scipy import stats

from mixef import NegativeBinomial, anova, compare, glmer, lmer, load_dataset, ranova, step
from mixef.errors import ArgumentError, FormulaError
from mixef.inference.hypotheses.ranova import Reductions, _Reduced
from mixef.terms.formula import update_formula

REFERENCE = read_reference("measures.json")
RANOVA = {case["id"]: case for case in REFERENCE["ranova"]}
STEP = {case["id"]: case for case in REFERENCE["step"]}
SLOPES = "Reaction ~ Days + (Days | Subject)"
CHISQ, MIXTURE = "Pr(>Chisq)", "Pr(>Chibarsq)"


@cache
def data_of(name):
    return frame(name)


@cache
def fit_of(formula, data="sleepstudy", REML=True, weights=None):
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # singular fits are among the cases
        return lmer(formula, data_of(data), REML=REML, weights=weights)


def case_fit(case):
    return fit_of(case["formula"], case["data"], case.get("REML", True), case.get("weights"))


def recorded(table, name):
    """One column of a recorded table, by row."""
    values = [np.nan if value == "NA" else value for value in table["values"][name]]
    return dict(zip(table["rows"], values, strict=True))


@pytest.mark.parametrize("key", [key for key in RANOVA if key != "apart"])
def test_random_terms_are_tested_as_by_lmertest(key):
    """At tight optima of lme4: criteria to 1e-6, p values to the digits that follow from that."""
    case = RANOVA[key]
    table = ranova(case_fit(case), reduce_terms=case["reduce_terms"])
    assert sorted(table.index) == sorted(case["table"]["rows"])
    assert list(table.columns) == ["npar", "logLik", "AIC", "LRT", "Df", MIXTURE, CHISQ]
    for name in ("npar", "logLik", "AIC", "LRT", "Df", CHISQ):
        expected = recorded(case["table"], name)
        for row, value in expected.items():
            np.testing.assert_allclose(table.loc[row, name], value, rtol=1e-5, atol=2e-6)


def test_uncorrelated_terms_are_those_of_two_terms():
    """lmerTest's two terms are one here, ``(Days || Subject)``; both are tested either way."""
    expected = RANOVA["apart"]["table"]
    LRT = [recorded(expected, "LRT")[row] for row in expected["rows"][1:]]
    one = ranova(fit_of("Reaction ~ Days + (Days || Subject)"))
    assert list(one.index[1:]) == ["(Intercept) in (Days || Subject)", "Days in (Days || Subject)"]
    two = ranova(fit_of("Reaction ~ Days + (1 | Subject) + (0 + Days | Subject)"))
    assert list(two.index[1:]) == ["(1 | Subject)", "(0 + Days | Subject)"]
    for table in (one, two):
        np.testing.assert_allclose(table["LRT"].iloc[1:], LRT, rtol=1e-6)


def test_mixtures_where_one_variance_goes():
    slopes = ranova(fit_of(SLOPES)).iloc[1]
    x = slopes["LRT"]
    expected = 0.5 * (stats.chi2.sf(x, 1) + stats.chi2.sf(x, 2))
    assert slopes[MIXTURE] == pytest.approx(expected, rel=1e-12)
    assert slopes[CHISQ] == pytest.approx(stats.chi2.sf(x, 2), rel=1e-12)
    level = ranova(fit_of("angle ~ temp + (1 | recipe)", "cake")).iloc[1]
    assert level[MIXTURE] == pytest.approx(0.5 * stats.chi2.sf(level["LRT"], 1), rel=1e-12)
    # a variance of zero: all of the mixture is at zero or above
    zero = ranova(fit_of("Yield ~ 1 + (1 | Batch)", "Dyestuff2")).iloc[1]
    assert zero["LRT"] == 0.0
    assert zero[MIXTURE] == zero[CHISQ] == 1.0
    several = ranova(fit_of("score ~ Machine + (Machine | Worker)", "Machines"))
    assert np.isnan(several[MIXTURE].iloc[1])
    assert any("pb_test" in note for note in several.notes)
    assert not any("pb_test" in note for note in ranova(fit_of(SLOPES)).notes)


def test_one_variance_of_several_columns_is_one():
    row = ranova(fit_of("y ~ x + A + diag(0 + A | g, hom = TRUE)", "factorial")).iloc[1]
    assert row["Df"] == 1
    assert row[MIXTURE] == pytest.approx(0.5 * stats.chi2.sf(row["LRT"], 1), rel=1e-12)
    assert np.isnan(ranova(fit_of("y ~ x + A + cs(0 + A | g)", "factorial")).iloc[1][MIXTURE])


def test_the_mixture_is_the_distribution_under_the_null():
    """Of 400 responses without slopes, so many have a p value below 0.1 as there should be."""
    null = fit_of("Reaction ~ Days + (1 | Subject)", REML=False)
    full = fit_of("Reaction ~ Days + (Days || Subject)", REML=False)
    draws = null.simulate(400, seed=4)
    LRT = null.refit(draws).objective - full.refit(draws).objective
    share = np.mean(np.maximum(LRT, 0.0) > stats.chi2.isf(0.2, 1))  # half of that: 0.1
    assert abs(share - 0.1) < 3.0 * np.sqrt(0.1 * 0.9 / 400)


NESTED = {
    "(x + o | g)": ["x in (x + o | g)", "o in (x + o | g)"],
    "(0 + x | g)": ["(0 + x | g)"],
    "(0 + A | g)": ["A in (0 + A | g)"],
    "(1 | g) + (0 + A | g)": ["(1 | g)", "(0 + A | g)"],
    "(0 + A || g)": ["(0 + A || g)"],
    "(x || g)": ["(Intercept) in (x || g)", "x in (x || g)"],
    "(A * x | g)": ["A:x in (A * x | g)"],
    "cs(0 + A | g)": ["cs(0 + A | g)"],
    "diag(0 + A | g, hom = TRUE)": ["diag(0 + A | g, hom = TRUE)"],
    "(1 | A:g)": ["(1 | A:g)"],
    "(1 | A/g)": ["(1 | g:A)", "(1 | A)"],
}


@pytest.mark.parametrize("terms", NESTED)
def test_what_is_tested_is_a_special_case(terms):
    fit = fit_of(f"y ~ x + A + {terms}", "factorial")
    table = ranova(fit)
    assert list(table.index[1:]) == NESTED[terms]
    assert (table["Df"].iloc[1:] > 0).all()
    assert (table["LRT"].iloc[1:] >= 0).all()
    whole = list(dict.fromkeys(name.split(" in ")[-1] for name in NESTED[terms]))
    assert list(ranova(fit, reduce_terms=False).index[1:]) == whole


def test_regressions_are_those_of_statsmodels():
    """A generalized model's null without random effects is an ordinary regression."""
    sm = pytest.importorskip("statsmodels.api")
    ticks = load_dataset("grouseticks")
    poisson = ranova(glmer("TICKS ~ YEAR + cHEIGHT + (1 | BROOD)", ticks, "poisson"))
    expected = sm.GLM.from_formula("TICKS ~ YEAR + cHEIGHT", ticks, family=sm.families.Poisson())
    assert poisson["logLik"].iloc[1] == pytest.approx(expected.fit().llf, rel=1e-9)
    counts = ranova(glmer("TICKS ~ YEAR + cHEIGHT + (1 | BROOD)", ticks, NegativeBinomial()))
    expected = sm.NegativeBinomial.from_formula("TICKS ~ YEAR + cHEIGHT", ticks).fit(disp=0)
    assert counts["logLik"].iloc[1] == pytest.approx(expected.llf, rel=1e-7)
    assert counts["Df"].iloc[1] == 1


def test_generalized_terms_are_tested_by_refits():
    data = load_dataset("cbpp").assign(row=range(56))
    formula = "cbind(incidence, size - incidence) ~ period + (1 | herd) + (1 | row)"
    fit = glmer(formula, data, "binomial")
    small = fit.update(". ~ . - (1 | row)")
    expected = anova(small, fit).iloc[1]
    table = ranova(fit)
    assert table.loc["(1 | row)", "LRT"] == pytest.approx(expected["Chisq"], rel=1e-6)
    assert table.loc["(1 | row)", CHISQ] == pytest.approx(expected["Pr(>Chisq)"], rel=1e-5)
    # with the coefficients in the mode it is the same regression
    rough = ranova(glmer(formula.replace(" + (1 | row)", ""), data, "binomial", nAGQ=0))
    exact = ranova(glmer(formula.replace(" + (1 | row)", ""), data, "binomial", nAGQ=5))
    assert rough["logLik"].iloc[1] == pytest.approx(exact["logLik"].iloc[1], rel=1e-9)


def test_missing_rows_offsets_and_names_in_backquotes():
    data = load_dataset("sleepstudy").rename(columns={"Days": "test day"})
    data["off"] = np.sin(np.arange(180.0))
    data.loc[[3, 50], "test day"] = np.nan
    formula = "Reaction ~ `test day` + offset(off) + (`test day` | Subject)"
    fit = lmer(formula, data, na_action="exclude")
    table = ranova(fit)
    assert table.index[1] == "`test day` in (`test day` | Subject)"
    whole = data.dropna().assign(Reaction=lambda d: d["Reaction"] - d["off"], t=data["test day"])
    plain = ranova(lmer("Reaction ~ t + (t | Subject)", whole))
    np.testing.assert_allclose(table["LRT"].iloc[1], plain["LRT"].iloc[1], rtol=1e-6)


def test_dots_stand_for_columns():
    data = load_dataset("sleepstudy")[["Reaction", "Days", "Subject"]]
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        fit = lmer("Reaction ~ . - Subject + (Days | Subject)", data)
    expected = ranova(fit_of(SLOPES))
    np.testing.assert_allclose(ranova(fit)["LRT"], expected["LRT"], rtol=1e-6)


def test_tasks_of_processes_pickle():
    fit = fit_of(SLOPES)._fit
    task, (reduction,) = pickle.loads(pickle.dumps((_Reduced(fit), list(Reductions(fit)))))
    end = task(reduction)
    assert (end.npar, end.converged) == (4, True)
    expected = fit_of("Reaction ~ Days + (1 | Subject)").objective
    assert end.objective == pytest.approx(expected, rel=1e-9)


@pytest.mark.parametrize("key", STEP)
def test_elimination_is_lmertests(key):
    case = STEP[key]
    found = step(
        case_fit(case), ddf=case["ddf"], alpha_random=case["alpha"][0],
        alpha_fixed=case["alpha"][1], reduce_random=case["reduce_random"],
        reduce_fixed=case["reduce_fixed"], keep=case.get("keep") or None,
    )  # fmt: skip
    for table, expected in ((found.random, case["random"]), (found.fixed, case["fixed"])):
        assert set(table.index) == set(expected["rows"])
        for name in ("Eliminated", *table.columns.intersection(expected["columns"])):
            for row, value in recorded(expected, name).items():
                rtol = 2e-3 if name == "DenDF" else 1e-4
                np.testing.assert_allclose(table.loc[row, name], value, rtol=rtol, atol=1e-5)
    terms, mine = (
        set(update_formula(text, ". ~ .").split("~")[1].replace(" ", "").split("+"))
        for text in (case["model"], found.model.formula)
    )
    assert mine == {term.replace("(1+x|g)", "(x|g)") for term in terms} or mine == terms
    assert list(found.fixed["Eliminated"]) == case["fixed"]["values"]["Eliminated"]


def test_the_model_that_is_left_is_a_whole_one():
    case = STEP["cake"]
    found = step(case_fit(case))
    direct = fit_of(case["model"], "cake")
    assert found.model.loglik == pytest.approx(direct.loglik, rel=1e-9)
    assert found.model.summary().tables()
    assert found.model.update(". ~ . + recipe").npar == 7
    assert pickle.loads(pickle.dumps(found.model)).formula == found.model.formula
    frame = found.to_frame()
    assert list(frame["part"]) == ["random", "random", "fixed", "fixed", "fixed"]
    assert list(frame.columns) == [
        "part", "term", "eliminated", "statistic", "df", "den_df", "p_value",
    ]  # fmt: skip
    assert frame["p_value"].notna().all()


def test_one_random_term_stays():
    data = load_dataset("Dyestuff2").assign(x=np.tile(np.arange(5.0), 6))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        fit = lmer("Yield ~ x + (1 | Batch)", data)
    found = step(fit)
    assert found.model.formula == "Yield ~ (1 | Batch)"
    assert found.notes[0].startswith("(1 | Batch) could go too, but a mixed model")
    assert any("singular" in note for note in found.notes)
    assert "fit an ordinary regression" in str(found)


def test_generalized_models_are_reduced_by_likelihood_ratios():
    data = load_dataset("cbpp").assign(x=np.cos(np.arange(56.0)))
    fit = glmer("cbind(incidence, size - incidence) ~ period + x + (1 | herd)", data, "binomial")
    found = step(fit)
    assert found.model.formula == "cbind(incidence, size - incidence) ~ period + (1 | herd)"
    assert list(found.fixed["Eliminated"]) == [1, 0]
    assert found.fixed.loc["x", "Pr(Chi)"] == pytest.approx(fit.drop1().loc["x", "Pr(Chi)"])
    assert found.method is None


def test_forms():
    found = step(case_fit(STEP["cake"]))
    for result in (found, ranova(case_fit(STEP["cake"]))):
        assert "<table" in result.to_html()
        assert r"\toprule" in result.to_latex()
        assert "| ---: |" in result.to_markdown()


def test_what_is_refused():
    fit = case_fit(STEP["cake"])
    with pytest.raises(ArgumentError, match="fit is 3; expected a model fitted by"):
        ranova(3)
    with pytest.raises(ArgumentError, match="reduce_terms is 'no'"):
        ranova(fit, reduce_terms="no")
    with pytest.raises(ArgumentError, match="ranova has no reduce: "):
        ranova(fit, reduce=True)
    with pytest.raises(ArgumentError, match="alpha_fixed is 2; expected a number from 0 to 1"):
        step(fit, alpha_fixed=2)
    with pytest.raises(ArgumentError, match="ddf is None, by which F tests have no p values"):
        step(fit, ddf=None)
    with pytest.raises(FormulaError, match="keep has flour, which is not a fixed-effects term"):
        step(fit, keep="flour")
    with pytest.raises(ArgumentError, match="reduce_fixed is 1"):
        step(fit, reduce_fixed=1)


def test_a_covariance_that_was_chosen_is_no_part_of_it():
    fit = case_fit(STEP["cake"]).with_vcov("CR1", cluster="replicate")
    assert any("CR1" in note for note in ranova(fit).notes)
    with pytest.raises(ArgumentError, match="step fits smaller models and tests them by the model"):
        step(fit)
    assert any("CR1" in note for note in compare(fit, case_fit(STEP["cake"])).notes)
