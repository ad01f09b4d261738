"""Parametric bootstrap tests against pbkrtest, and against distributions that are known."""

import re
from types import SimpleNamespace

import numpy as np
import pandas as pd
import pytest
import scipy.stats as st
from reference_data import case, cases, frame

from mixef import GlmerControl, LmerControl, glmer, lmer, load_dataset, pb_test
from mixef.errors import DataError, FitError, FormulaError
from mixef.inference.resampling.parametric_bootstrap import reference_tests
from mixef.inference.resampling.regression import regression_of_formula, regression_of_result
from mixef.terms.formula import parse_formula

QUIET = LmerControl(check_conv_singular="ignore", check_conv_hess="ignore")
QUIET_GLMER = GlmerControl(check_conv_singular="ignore")
CBPP = "cbind(incidence, size - incidence) ~ period + (1 | herd)"
IDS = [c["id"] for c in cases("pbmodcomp.json")]
PAIRS = {
    "sleep_days": ("Reaction ~ Days + (Days | Subject)", "Reaction ~ 1 + (Days | Subject)"),
    "sleep_square": (
        "Reaction ~ Days + I(Days**2) + (Days | Subject)", "Reaction ~ Days + (Days | Subject)",
    ),
    "cake_recipe": (
        "angle ~ recipe + temp + (1 | recipe:replicate)", "angle ~ temp + (1 | recipe:replicate)",
    ),
    "sleep_slopes": ("Reaction ~ Days + (Days | Subject)", "Reaction ~ Days + (1 | Subject)"),
    "cbpp_period": (CBPP, CBPP.replace("period", "1")),
}  # fmt: skip


def fitted(key, formula):
    if key.startswith("cbpp"):
        return glmer(formula, load_dataset("cbpp"), "binomial")
    return lmer(formula, load_dataset(key.split("_")[0].replace("sleep", "sleepstudy")))


@pytest.fixture(scope="module")
def sleep():
    return lmer("Reaction ~ Days + (Days | Subject)", load_dataset("sleepstudy"))


@pytest.fixture(scope="module")
def cbpp():
    return glmer(CBPP, load_dataset("cbpp"), "binomial")


# ---------------------------------------------------------------------- against pbkrtest


@pytest.mark.parametrize("key", IDS)
def test_tests_from_a_given_reference_distribution(key):
    """PBsummary of pbkrtest 0.5.2 on its own simulated statistics (pbmodcomp.R).

    It leaves out statistics that are not positive, which is seldom a difference for fixed effects.
    Its F has the denominator degrees of freedom of F = LRT even where the statistic is LRT / df,
    so that row is compared for one degree of freedom.
    """
    R = case("pbmodcomp.json", key)
    ref = np.array(R["ref"])
    found = reference_tests(R["LRT"], R["df"], ref[ref > 0])
    expected = pd.DataFrame(R["summary"], index=R["rows"])
    rows = ["LRT", "PBtest", "Bartlett", "Gamma", *(["F"] if R["df"] == 1 else [])]
    # R prints p values below its precision as that.
    exact = [row for row in rows if expected.loc[row, "p.value"] > 1e-14]
    assert found.loc[exact, "p_value"].to_numpy() == pytest.approx(
        expected.loc[exact, "p.value"].to_numpy(float), rel=1e-8
    )
    assert found.loc[rows, "statistic"].to_numpy() == pytest.approx(
        expected.loc[rows, "stat"].to_numpy(float), rel=1e-10
    )
    assert found.loc[rows, "ddf"].to_numpy() == pytest.approx(
        expected.loc[rows, "ddf"].to_numpy(float), rel=1e-8, nan_ok=True
    )


@pytest.mark.parametrize("df", [1, 2, 3])
def test_F_has_the_mean_of_the_simulated_statistics(df):
    reference = np.random.default_rng(3).chisquare(df, 500) * 1.3
    ddf = reference_tests(2.0, df, reference).loc["F", "ddf"]
    assert st.f.mean(df, ddf) == pytest.approx(reference.mean() / df, rel=1e-12)


def test_where_no_F_has_the_mean():
    found = reference_tests(2.0, 2, np.array([0.0, 1.0, 2.0]))
    assert found.loc["F", "ddf"] == np.inf
    assert found.loc["F", "p_value"] == found.loc["LRT", "p_value"]
    degenerate = reference_tests(0.0, 1, np.zeros(9))
    assert degenerate.loc["PBtest", "p_value"] == 1.0
    assert degenerate.loc["Gamma", "p_value"] == 1.0


@pytest.mark.parametrize("key", IDS)
def test_against_pbkrtest(key):
    """The statistic, and the share of larger ones among those that R simulated."""
    R = case("pbmodcomp.json", key)
    large, small = (fitted(key, formula) for formula in PAIRS[key])
    n = 100 if key.startswith("cbpp") else 1000
    found = pb_test(large, small, n, seed=3)
    # lme4 stops some 1e-7 above its minima (1e-4 for the generalized model).
    assert found.statistic == pytest.approx(R["LRT"], rel=1e-5)
    assert found.frame.loc["LRT", "df"] == R["df"]
    assert found.n_failed == 0
    ref = np.array(R["ref"])
    theirs, ours = (ref >= R["LRT"]).mean(), found.extreme / n
    error = np.sqrt(max(theirs * (1 - theirs), 0.01) * (1 / len(ref) + 1 / n))
    assert ours == pytest.approx(theirs, abs=4 * error)
    assert found.p_value == (1 + found.extreme) / (1 + n)
    # Both distributions, by the two-sample test of Kolmogorov and Smirnov.
    positive = found.reference[found.reference > 1e-6]
    assert st.ks_2samp(positive, ref[ref > 1e-3 * (key == "sleep_slopes")]).pvalue > 1e-4
    assert (found.reference >= 0).all()


# ---------------------------------------------------------------------- exact distributions


def test_the_share_of_zeros_for_a_variance_component():
    """One-way, balanced: by ML the variance is zero where F <= l / (l - 1)."""
    fit = lmer("Yield ~ 1 + (1 | Batch)", load_dataset("Dyestuff"))
    n = 2000
    found = pb_test(fit, "Yield ~ 1", n, seed=4)
    zeros = (found.reference == 0).mean()
    expected = st.f.cdf(6 / 5, 5, 24)
    assert zeros == pytest.approx(expected, abs=4 * np.sqrt(expected * (1 - expected) / n))
    # And the statistic is a function of F: with h = (l - 1) F / (l (m - 1)) ...
    y = fit.getME("y").reshape(6, 5)
    between, inside = 5 * y.mean(axis=1).var() * 6, ((y.T - y.mean(axis=1)) ** 2).sum()
    LRT = 30 * np.log((between + inside) / 30) - 6 * np.log(between / 6) - 24 * np.log(inside / 24)
    assert found.statistic == pytest.approx(LRT, rel=1e-8)
    # ... so that its exact p value is that of F.
    p = st.f.sf((between / 5) / (inside / 24), 5, 24)
    assert found.p_value == pytest.approx(p, abs=4 * np.sqrt(p * (1 - p) / n) + 1 / n)
    assert found.frame.loc["LRT", "df"] == 1


def test_a_statistic_of_zero_has_p_one():
    fit = lmer("Yield ~ 1 + (1 | Batch)", load_dataset("Dyestuff2"), control=QUIET)
    found = pb_test(fit, "Yield ~ 1", 99, seed=1)
    assert found.statistic == 0.0
    assert found.extreme == 99
    assert found.p_value == 1.0


def test_between_groups_it_is_the_F_test():
    """Groups of equal size: the LRT of a group-level effect grows with F on the group means."""
    rng = np.random.default_rng(5)
    arm = np.repeat(["a", "b"], 6 * 4)
    g = np.repeat(np.arange(12), 4)
    y = rng.normal(size=12)[g] * 2 + rng.normal(size=48) + (arm == "b") * 1.8
    fit = lmer("y ~ arm + (1 | g)", {"y": y, "arm": arm, "g": g})
    means = y.reshape(12, 4).mean(axis=1)
    exact = st.ttest_ind(means[:6], means[6:]).pvalue
    n = 3000
    found = pb_test(fit, ". ~ . - arm", n, seed=2)
    assert 0.01 < exact < 0.3
    assert found.p_value == pytest.approx(exact, abs=4 * np.sqrt(exact * (1 - exact) / n) + 1 / n)
    # What makes the simulation worth while: the chi-square test is too small.
    assert found.frame.loc["LRT", "p_value"] < exact - 4 * np.sqrt(exact * (1 - exact) / n)


# ---------------------------------------------------------------------- regressions as nulls


def result_like(null, X, formula):
    """What is read of a result of statsmodels."""
    return SimpleNamespace(model=SimpleNamespace(exog=X, formula=formula), fittedvalues=null.means)


@pytest.mark.parametrize("weights", [None, "w"])
def test_likelihood_of_a_linear_regression(weights):
    data = frame("sleepstudy_w")
    fit = lmer(
        "Reaction ~ Days * cond + (1 | Subject)", data, weights=weights, offset="3*Days"
    )._fit
    null = regression_of_formula(fit, parse_formula("Reaction ~ Days * cond"))
    w = np.ones(180) if weights is None else data["w"].to_numpy()
    y, root = (data["Reaction"] - 3 * data["Days"]).to_numpy(), np.sqrt(w)
    beta = np.linalg.lstsq(root[:, None] * fit.X, root * y, rcond=None)[0]
    mean = fit.X @ beta + 3 * data["Days"].to_numpy()
    variance = np.mean(w * (data["Reaction"] - mean) ** 2) / w
    expected = st.norm.logpdf(data["Reaction"], mean, np.sqrt(variance)).sum()
    assert null.objective == pytest.approx(-2 * expected, rel=1e-12)
    assert null.means == pytest.approx(mean, rel=1e-10)
    assert null.npar == 5
    same = regression_of_result(fit, result_like(null, fit.X, "Reaction ~ Days * cond"))
    assert same.objective == pytest.approx(null.objective, rel=1e-12)
    drawn = null.simulated(4000, np.random.default_rng(1))
    # The largest of 180 variances and means of 4000 draws.
    assert drawn.var(axis=1) / variance == pytest.approx(np.ones(180), abs=5 * np.sqrt(2 / 4000))
    assert (drawn.mean(axis=1) - mean) / np.sqrt(variance) == pytest.approx(
        np.zeros(180), abs=5 / np.sqrt(4000)
    )


def test_likelihood_of_a_binomial_regression(cbpp):
    data = load_dataset("cbpp")
    null = regression_of_formula(cbpp._fit, parse_formula("y ~ period"))
    size, cases = data["size"].to_numpy(), data["incidence"].to_numpy()
    expected = st.binom.logpmf(cases, size, null.means).sum()
    assert null.objective == pytest.approx(-2 * expected, rel=1e-10)
    # The score vanishes: in every period the expected cases are the observed ones.
    assert cbpp._fit.X.T @ (cases - size * null.means) == pytest.approx(np.zeros(4), abs=1e-5)
    assert null.npar == 4


def test_likelihood_of_a_poisson_regression_with_offset():
    ticks = load_dataset("grouseticks")
    fit = glmer("TICKS ~ YEAR + offset(HEIGHT / 1000) + (1 | BROOD)", ticks, "poisson")._fit
    null = regression_of_formula(fit, parse_formula("TICKS ~ YEAR + offset(HEIGHT / 1000)"))
    assert null.objective == pytest.approx(
        -2 * st.poisson.logpmf(ticks["TICKS"], null.means).sum(), rel=1e-10
    )
    assert fit.X.T @ (ticks["TICKS"] - null.means) == pytest.approx(np.zeros(3), abs=1e-3)
    shape = np.exp(ticks["HEIGHT"] / 1000) * null.means[0] / np.exp(ticks["HEIGHT"][0] / 1000)
    year = ticks["YEAR"] == ticks["YEAR"][0]
    assert null.means[year] == pytest.approx(shape[year], rel=1e-9)


def test_results_of_statsmodels():
    """statsmodels (0.15) has the same likelihoods; they are checked by densities above."""
    sm = pytest.importorskip("statsmodels.formula.api")
    family = pytest.importorskip("statsmodels.api").families.Poisson()
    data = load_dataset("sleepstudy")
    small = lmer("Reaction ~ Days + (1 | Subject)", data)
    result = sm.ols("Reaction ~ Days", data).fit()
    by_result, by_formula = (pb_test(small, m, 50, seed=5) for m in (result, "Reaction ~ Days"))
    assert by_result.reference == pytest.approx(by_formula.reference, rel=1e-6, abs=1e-6)
    assert by_result.small == "Reaction ~ Days"
    assert by_result.statistic == pytest.approx(-2 * (result.llf - small.refit_ml().loglik))
    ticks = load_dataset("grouseticks")
    fit = glmer("TICKS ~ YEAR + (1 | BROOD)", ticks, "poisson")
    counts = sm.glm("TICKS ~ YEAR", ticks, family=family).fit(tol=1e-12)
    found = pb_test(fit, counts, 10, seed=1)
    assert found.statistic == pytest.approx(-2 * (counts.llf - fit.loglik), rel=1e-8)
    assert found.extreme == 0


def test_a_change_of_the_formula_and_a_model_are_one(sleep):
    model = lmer("Reaction ~ 1 + (Days | Subject)", load_dataset("sleepstudy"))
    by_model = pb_test(sleep, model, 40, seed=5)
    by_change = pb_test(sleep, ". ~ . - Days", 40, seed=5)
    assert by_change.statistic == pytest.approx(by_model.statistic, abs=1e-8)
    assert by_change.reference == pytest.approx(by_model.reference, rel=1e-5, abs=1e-5)
    ML = pb_test(sleep.refit_ml(), model.refit_ml(), 40, seed=5)
    assert ML.reference == pytest.approx(by_model.reference, rel=1e-5, abs=1e-5)
    assert ML.notes == ()
    assert by_model.notes == ("models were refitted by ML instead of REML",)


def test_weights_and_offset_are_respected():
    """With equal weights of 4 the residual variance is scaled, and nothing else."""
    data = load_dataset("sleepstudy").assign(w=4.0, shift=lambda d: 3.0 * d["Days"])
    plain = lmer("Reaction ~ Days + (1 | Subject)", data)
    other = lmer("Reaction ~ Days + (1 | Subject)", data, weights="w", offset="shift")
    one, two = (pb_test(m, "Reaction ~ Days", 30, seed=6) for m in (plain, other))
    assert two.statistic == pytest.approx(one.statistic, rel=1e-8)
    assert two.reference == pytest.approx(one.reference, rel=1e-6, abs=1e-6)


# ---------------------------------------------------------------------- failures, seeds, printing


def test_seeds_and_processes(sleep):
    one = pb_test(sleep, ". ~ . - Days", 30, seed=5)
    two = pb_test(sleep, ". ~ . - Days", 30, seed=5, n_jobs=2)
    assert two.reference == pytest.approx(one.reference, rel=1e-9, abs=1e-9)
    other = pb_test(sleep, ". ~ . - Days", 30, seed=6)
    assert (other.reference != one.reference).all()


def test_failures_are_counted(cbpp):
    """Small herds: some simulated data have no cases at all, and no regression either."""
    rare = load_dataset("cbpp").iloc[:12].assign(incidence=[1, 0, 0, 0, 1, 0, 0, 0, 0, 0, 0, 0])
    fit = glmer(CBPP.replace("period", "1"), rare, "binomial", control=QUIET_GLMER)
    found = pb_test(fit, ". ~ 1", 40, seed=1)
    # Two cases are expected, so a share exp(-2) of the responses is constant.
    assert 1 <= found.n_failed <= 16
    assert found.failures.sum() == found.n_failed
    assert found.p_value == (1 + found.extreme) / (1 + 40 - found.n_failed)
    assert f"{found.n_failed} of 40 replicates failed and are left out" in str(found)
    assert f"{40 - found.n_failed} replicates, " in str(found)


def test_what_is_printed(sleep):
    found = pb_test(sleep, ". ~ . - Days", 30, seed=5)
    lines = str(found).splitlines()
    assert lines[:3] == [
        "Parametric bootstrap likelihood-ratio test",
        "large: Reaction ~ Days + (Days | Subject)",
        "small: Reaction ~ (Days | Subject)",
    ]
    assert lines[3].split() == ["stat", "df", "ddf", "Pr(>stat)"]
    assert lines[4].split() == ["LRT", "23.537", "1", "1.23e-06", "***"]
    assert lines[5].split() == ["PBtest", "23.537", "0.0323", "*"]
    assert lines[9] == "30 replicates, 0 with a statistic as large or larger"
    assert lines[10] == "models were refitted by ML instead of REML"
    assert found._repr_html_().startswith("<div")
    assert repr(found) == str(found)
    assert found.to_frame().equals(found.frame)


# ---------------------------------------------------------------------- arguments


def test_models_that_do_not_compare(sleep, cbpp):
    data = load_dataset("sleepstudy")
    with pytest.raises(DataError, match="larger model has 5 parameters and the smaller one 6"):
        pb_test(lmer("Reaction ~ 1 + (Days | Subject)", data), sleep, 5)
    with pytest.raises(DataError, match="one model is linear and the other generalized"):
        pb_test(sleep, cbpp, 5)
    with pytest.raises(DataError, match="the models have 180 and 170 rows"):
        pb_test(sleep, lmer("Reaction ~ 1 + (1 | Subject)", data.iloc[10:]), 5)
    with pytest.raises(DataError, match="differ in their response"):
        pb_test(sleep, lmer("-Reaction ~ 1 + (1 | Subject)", data), 5)
    with pytest.raises(DataError, match="differ in their weights"):
        pb_test(sleep, lmer("Reaction ~ 1 + (1 | Subject)", data.assign(w=2.0), weights="w"), 5)
    with pytest.raises(DataError, match="differ in their offset"):
        pb_test(sleep, lmer("Reaction ~ 1 + (1 | Subject)", data, offset="Days"), 5)
    other = glmer(CBPP, load_dataset("cbpp"), "binomial(link='probit')")
    with pytest.raises(DataError, match="families differ"):
        pb_test(cbpp, other, 5)
    with pytest.raises(DataError, match="nAGQ is 1 in the larger model and 9"):
        pb_test(cbpp, glmer(CBPP.replace("period", "1"), load_dataset("cbpp"), "binomial", nAGQ=9))


@pytest.mark.parametrize(
    ("small", "message"),
    [
        ("Days ~ 1 + (Days | Subject)", "has the response Reaction, but the smaller one Days"),
        ("log(Reaction) ~ 1", "but the smaller one log(Reaction); expected one response"),
        (
            "Reaction ~ offset(10 * Days)",
            "the offset none, but the smaller one offset(10",
        ),
        (". ~ 1 + offset(Days) + (1 | Subject)", "the smaller one offset(Days)"),
    ],
)
def test_formulas_of_another_response_or_offset_are_refused(sleep, small, message):
    """They were taken for formulas of the larger model's response and offset."""
    with pytest.raises(DataError, match=re.escape(message)):
        pb_test(sleep, small, 5)


def test_a_formula_keeps_the_offset_of_the_larger_model():
    data = load_dataset("sleepstudy")
    large = lmer("Reaction ~ Days + offset(2 * Days) + (1 | Subject)", data)
    for small in (". ~ . - Days", "Reaction ~ offset(2 * Days) + (1 | Subject)"):
        null = lmer("Reaction ~ 1 + offset(2 * Days) + (1 | Subject)", data, REML=False)
        expected = 2.0 * (large.refit_ml().loglik - null.loglik)
        assert pb_test(large, small, 5, seed=1).statistic == pytest.approx(expected, rel=1e-6)


def test_regressions_that_do_not_compare(sleep):
    null = regression_of_formula(sleep._fit, parse_formula("Reaction ~ Days"))
    result = result_like(null, sleep._fit.X, None)
    assert pb_test(sleep, result, 5, seed=1).small == "SimpleNamespace regression"
    result.fittedvalues = null.means[10:]
    with pytest.raises(DataError, match="the regression has 170 rows, but the mixed model 180"):
        pb_test(sleep, result, 5)
    result.fittedvalues = null.means + 1.0
    with pytest.raises(DataError, match="fitted values of the regression are up to 1 away"):
        pb_test(sleep, result, 5)
    with pytest.raises(DataError, match="needs Age, which the larger model has not evaluated"):
        pb_test(sleep, "Reaction ~ Age", 5)
    with pytest.raises(FormulaError, match="needs Age"):
        pb_test(sleep, "Reaction ~ Age + (1 | Subject)", 5)
    with pytest.raises(TypeError, match="smaller model is 'int'; expected a fitted mixed model"):
        pb_test(sleep, 3, 5)
    with pytest.raises(TypeError, match="fit is 3; expected a model fitted"):
        pb_test(3, sleep, 5)
    gamma = glmer(
        "y ~ 1 + (1 | g)",
        {"y": np.random.default_rng(1).gamma(2, size=60), "g": np.repeat(np.arange(12), 5)},
        "Gamma(link='log')",
        control=QUIET_GLMER,
    )
    with pytest.raises(DataError, match="Gamma family has a dispersion of its own"):
        pb_test(gamma, ". ~ 1", 5)


def test_all_failing_is_an_error(sleep, monkeypatch):
    def nothing(*arguments):
        return np.full(7, np.nan), {"no luck": 7}, 0

    place = "mixef.inference.resampling.parametric_bootstrap.simulated_statistics"
    monkeypatch.setattr(place, nothing)
    with pytest.raises(FitError, match="all 7 replicates failed, most of them by: no luck"):
        pb_test(sleep, ". ~ . - Days", 7)


# ---------------------------------------------------------------------- size


@pytest.mark.slow
def test_p_values_are_uniform_under_the_null():
    rng = np.random.default_rng(30)
    g, arm = np.repeat(np.arange(8), 3), np.repeat(["a", "b"], 12)
    Y = rng.normal(size=(8, 200))[g] + rng.normal(size=(24, 200))
    p = [
        pb_test(
            lmer("y ~ arm + (1 | g)", {"y": y, "arm": arm, "g": g}, control=QUIET),
            ". ~ . - arm", 199, seed=i,
        ).p_value
        for i, y in enumerate(Y.T)
    ]  # fmt: skip
    assert st.kstest(p, "uniform").pvalue > 1e-3
