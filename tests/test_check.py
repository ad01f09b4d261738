"""The report on a fit's health: R's numbers, each finding on a model that has it, its remedies."""

import json
import re
import warnings
from functools import cache
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import scipy
from simulation_models import DATA, MODELS, model

from mixef import LmerControl, UserFamily, glmer, lmer, load_dataset
from mixef.errors import DataError
from mixef.inference.diagnostics.checks_of_rows import koenker, normal_test
from mixef.inference.diagnostics.finding import by_p_value
from mixef.terms.formula import parse_formula

R = json.loads((Path(__file__).parent / "reference" / "check.json").read_text())
COLUMNS = ["check", "status", "value", "message", "remedy"]
FORMULAS = {
    "sleep": ("Reaction ~ Days + (Days | Subject)", "sleepstudy"),
    "square": ("Reaction ~ Days + I(Days^2) + (1 | Subject)", "sleepstudy"),
    "cake": ("angle ~ recipe + temp + (1 | recipe:replicate)", "cake"),
}


@cache
def linear(name):
    formula, data = FORMULAS[name]
    return lmer(formula, load_dataset(data))


@cache
def health_of(name):
    fit = linear(name) if name in FORMULAS else model(name)
    return fit.check(99, seed=1)


def found(health, check):
    """The rows of one check."""
    frame = health.to_frame()
    return frame[frame["check"] == check]


# ------------------------------------------------------------------ numbers


@pytest.mark.parametrize("name", FORMULAS)
def test_numbers_of_linear_models_are_those_of_R(name):
    """lme4's fits are some 1e-5 from their optima; p values multiply that."""
    health, fit, expected = health_of(name), linear(name), R["linear"][name]
    squares = (fit.residuals("pearson") ** 2).to_numpy()
    value = found(health, "heteroscedasticity")["value"].item()
    assert value == pytest.approx(expected["koenker"], rel=1e-3)
    bp = value * np.mean((squares / squares.mean() - 1.0) ** 2) / 2.0
    assert bp == pytest.approx(expected["bp"], rel=1e-3)
    W = found(health, "normality of residuals")["value"].item()
    assert pytest.approx(expected["shapiro"], rel=1e-4) == W
    modes = [normal_test(b)[1] for b in fit.ranef()[fit.ngrps().index[0]].to_numpy().T]
    np.testing.assert_allclose(modes, expected["modes_p"], rtol=5e-3)
    if len(expected["vif"]):
        value = found(health, "collinearity")["value"].item()
        assert value == pytest.approx(max(expected["vif"]), rel=1e-3)


def test_performance_has_no_breusch_pagan_for_mixed_models():
    """Its p values are not those of the statistic: 1e-48 where that has 2e-7."""
    of_bp = scipy.stats.chi2.sf(R["linear"]["cake"]["bp"], 1)
    assert 1e-8 < of_bp < 1e-6
    assert R["linear"]["cake"]["performance_p"] < 1e-40


def test_counts_are_those_of_performance():
    """cbpp by lme4 is 2e-4 from its optimum."""
    for name in ("ticks", "cbpp"):
        row = found(health_of(name), "dispersion")
        assert row["value"].item() == pytest.approx(R["counts"][name]["ratio"], rel=5e-4)
    message = found(health_of("ticks"), "zeros")["message"].item()
    own, expected = map(float, re.findall(r"(\d+\.?\d*) zeros, and (\d+\.?\d*) in", message)[0])
    assert own == R["counts"]["ticks"]["zeros"]
    # the mean of 99 draws, each with a standard deviation of some 7
    assert expected == pytest.approx(R["counts"]["ticks"]["expected_zeros"], abs=3.0)


def test_modes_are_over_their_own_standard_deviations():
    """Of an unbalanced design, by dense algebra: Var(b~) = G Z'V^-1 Z G with known coefficients."""
    fit = lmer("y ~ x + (1 | single)", WRONG)
    state = fit._fit
    Z = state.terms[0].Zt().T.toarray()
    G = state.estimates.lams[0].item() ** 2
    V = G * Z @ Z.T + np.eye(fit.nobs)
    sd = fit.sigma * G * np.sqrt(np.einsum("nl,nl->l", Z, np.linalg.solve(V, Z)))
    W = scipy.stats.shapiro(state.estimates.effects[0][:, 0] / sd).statistic
    assert found(fit.check(19, seed=1), "normality of modes")["value"].item() == pytest.approx(W)


def test_koenker_by_hand():
    rng = np.random.default_rng(1)
    r, x = rng.normal(size=(2, 50))
    corr = np.corrcoef(r**2, x)[0, 1]
    assert koenker(r, x) == pytest.approx(50 * corr**2)
    assert koenker(np.zeros(5), np.arange(5.0)) == 0.0


def test_normality_of_many_values():
    x = np.random.default_rng(2).normal(size=6000)
    assert normal_test(x)[2] == "Jarque-Bera"
    assert normal_test(x)[1] > 0.01
    assert normal_test(np.exp(x))[1] < 1e-10


def test_p_values_have_a_status():
    assert [by_p_value(p) for p in (0.5, 0.05, 0.001, np.nan)] == ["ok", "note", "warning", "ok"]


# ------------------------------------------------------------------ which checks there are

ALWAYS = {"convergence", "singularity", "rank", "scale of predictors", "outliers", "influence"}
OF_LINEAR = {"heteroscedasticity", "normality of residuals"}
OF_OTHERS = {"approximation", "distribution"}


@pytest.mark.parametrize("name", MODELS)
def test_a_family_has_its_checks(name):
    health, fit = health_of(name), model(name)
    checks, family = set(health["check"]), fit._fit.family
    assert list(health.to_frame()) == COLUMNS
    assert checks >= ALWAYS
    if fit._fit.is_linear:
        assert not checks & (OF_OTHERS | {"separation", "dispersion", "zeros"})
    else:
        assert checks >= OF_OTHERS
        assert not checks & OF_LINEAR
        assert ("separation" in checks) == bool(family.edges)
        assert ("dispersion" in checks) == (family.is_count or family.has_trials)
    for row in health.to_frame().itertuples():
        assert row.status in ("ok", "note", "warning")
        assert row.message
        assert bool(row.remedy) == (row.status != "ok"), row


def test_a_seed_gives_the_same_report():
    one, two = (model("cbpp").check(49, seed=3).to_frame() for _ in range(2))
    pd.testing.assert_frame_equal(one, two)


def test_zero_or_one_has_no_dispersion():
    fit = glmer("yes ~ x + (1 | g)", DATA, "binomial")
    assert not {"dispersion", "zeros"} & set(fit.check(49, seed=1)["check"])


def test_sound_models_have_no_warnings():
    rng = np.random.default_rng(8)
    g, x = np.repeat(np.arange(25), 12), rng.normal(size=300)
    b = rng.normal(size=25)[g]
    data = pd.DataFrame({"g": g, "x": x, "y": x + b + rng.normal(size=300)})
    data["count"] = rng.poisson(np.exp(0.5 + 0.4 * x + 0.5 * b))
    assert lmer("y ~ x + (1 | g)", data).check(99, seed=1).ok
    assert glmer("count ~ x + (1 | g)", data, "poisson").check(99, seed=1).ok


# ------------------------------------------------------------------ findings


def quiet(fit, *arguments, **more):
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return fit(*arguments, **more)


def wrong_data():
    rng = np.random.default_rng(12)
    g = np.repeat(np.arange(40), 10)
    x, b = rng.uniform(-1, 1, 400), rng.normal(size=40)[g]
    data = pd.DataFrame({"g": g, "x": x, "z": x + 0.01 * rng.normal(size=400), "few": g % 3})
    data["far"], data["twice"] = 1e6 * x, 2.0 * x
    data["single"] = np.r_[np.arange(300), 300 + np.arange(100) % 20]
    e = rng.normal(size=(40, 10))
    data["y"] = x + b + e.ravel()
    for j in range(1, 10):
        e[:, j] += 0.8 * e[:, j - 1]
    data["series"] = x + b + e.ravel()
    data["curved"] = 3.0 * x**2 + 0.2 * b + 0.3 * e.ravel()
    data["wide"] = x + 0.2 * b + rng.normal(size=400) * np.exp(1.5 * x)
    data["heavy"] = x + b + rng.standard_t(2, size=400)
    data["zeros"] = np.where(rng.random(400) < 0.4, 0, rng.poisson(np.exp(1.0 + x + 0.3 * b)))
    data["over"] = rng.poisson(np.exp(1.0 + x + 0.3 * b) * rng.gamma(0.7, 1 / 0.7, 400))
    data["under"] = rng.binomial(10, 0.5 + 0.1 * x)
    data["told"] = (x > 0.0).astype(int)
    data["outlier"] = data["y"].where(np.arange(400) != 7, 200.0)
    far = np.where(np.arange(400) % 20 == 0, 8.0, 0.0) * rng.choice([-1, 1], 400)
    data["contaminated"] = data["y"] + far
    modes = np.where(np.arange(40) < 3, 30.0, 0.0)[g]
    data["modes"] = x + modes + 3.0 * b + rng.normal(size=400)
    return data


WRONG = wrong_data()
FINDINGS = {
    "rank": lambda: lmer("y ~ x + twice + (1 | g)", WRONG),
    "collinearity": lambda: lmer("y ~ x + z + (1 | g)", WRONG),
    "scale of predictors": lambda: lmer("y ~ far + (1 | g)", WRONG),
    "levels of few": lambda: lmer("y ~ x + (1 | few)", WRONG),
    "levels of single": lambda: lmer("y ~ x + (1 | single)", WRONG),
    "singularity": lambda: lmer("y ~ x + (x | g)", WRONG),
    "autocorrelation": lambda: lmer("series ~ x + (1 | g)", WRONG),
    "pattern": lambda: lmer("curved ~ x + (1 | g)", WRONG),
    "heteroscedasticity": lambda: lmer("wide ~ x + (1 | g)", WRONG),
    "normality of residuals": lambda: lmer("heavy ~ x + (1 | g)", WRONG),
    "normality of modes": lambda: lmer("modes ~ x + (1 | g)", WRONG),
    "influence": lambda: lmer("outlier ~ x + (1 | g)", WRONG),
    "zeros": lambda: glmer("zeros ~ x + (1 | g)", WRONG, "poisson"),
    "dispersion": lambda: glmer("over ~ x + (1 | g)", WRONG, "poisson"),
    "outliers": lambda: lmer("contaminated ~ x + (1 | g)", WRONG),
    "separation": lambda: glmer("told ~ x + (1 | g)", WRONG, "binomial"),
    "approximation": lambda: glmer("under ~ x + (1 | g)", WRONG, "poisson", nAGQ=0),
}


@cache
def finding(check):
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        fit = FINDINGS[check]()
        return fit, fit.check(99, seed=1)


@pytest.mark.parametrize("check", FINDINGS)
def test_what_is_wrong_is_found(check):
    rows = found(finding(check)[1], check)
    assert (rows["status"] != "ok").any(), rows


def test_too_little_variance_is_found():
    row = found(finding("approximation")[1], "dispersion")
    assert row["message"].item().startswith("too little variance")


def test_a_search_that_ended_early_is_found():
    fit = quiet(
        lmer, "Reaction ~ Days + (Days | Subject)", load_dataset("sleepstudy"),
        control=LmerControl(max_evaluations=1), start=[3.0, 0.0, 3.0],
    )  # fmt: skip
    health = fit.check(49, seed=1)
    row = found(health, "convergence").iloc[0]
    assert row["status"] == "warning"
    assert row["remedy"].startswith("raise max_evaluations")
    assert not health.ok


SINGULAR = {
    "y ~ x + (x | g)": "y ~ x + (1 | g)",
    "y ~ x + (1 | g) + (0 + x | g)": "y ~ x + (1 | g)",
    "y ~ x + offset(z) + (x || g)": "y ~ x + (1 | g) + offset(z)",
    "y ~ x + cs(0 + one | few) + (1 | g)": "y ~ x + (1 | g)",
}


@pytest.mark.parametrize("formula", SINGULAR)
def test_remedies_of_singular_fits_work(formula):
    """What remedies say to call is called, until nothing is singular: twice at most."""
    fit = quiet(lmer, formula, WRONG.assign(one=1.0))
    assert fit.is_singular()
    for _ in range(2):
        if fit.is_singular():
            remedy = found(quiet(fit.check, 49, seed=1), "singularity")["remedy"].iloc[0]
            fit = quiet(fit.update, re.search(r'fit\.update\("(.*)"\)', remedy)[1])
    assert not fit.is_singular()
    assert fit.formula == SINGULAR[formula]


@pytest.mark.parametrize(
    "term",
    ["(x | g)", "(x || g)", "diag(0 + f | g)", "cs(0 + f | g)", "ar1(0 + f | g)", "(1 | g/h)",
     "diag(0 + f | g, hom = TRUE)", "ar1(0 + f | g, hom = FALSE)"],
)  # fmt: skip
def test_terms_are_written_as_formulas_have_them(term):
    bars = parse_formula(f"y ~ {term}").bars
    again = parse_formula(f"y ~ {' + '.join(bar.written for bar in bars)}")
    assert again.bars == bars


def test_robust_standard_errors_are_a_remedy():
    fit, health = finding("heteroscedasticity")
    remedy = found(health, "heteroscedasticity")["remedy"].item()
    assert "log(y)" not in remedy  # of a response below zero
    call = re.search(r"fit\.with_vcov\('(\w+)', cluster='(\w+)'\)", remedy)
    assert (fit.with_vcov(call[1], cluster=call[2]).vcov() != fit.vcov()).all(axis=None)


def test_calls_are_printed_on_one_line():
    long = "y ~ x + I(x^2) + I(x^3) + few + f2 + (x | g)"
    fit = quiet(lmer, long, WRONG.assign(f2=np.arange(400) % 4))
    call = 'fit.update("y ~ x + I(x^2) + I(x^3) + few + f2 + '
    assert any(call in line and line.endswith('")') for line in str(fit.check(49)).splitlines())


def test_correlations_of_one_have_a_remedy_that_works():
    fit = quiet(lmer, "angle ~ recipe + temp + (temp | recipe:replicate)", load_dataset("cake"))
    remedy = found(fit.check(49, seed=1), "singularity")["remedy"].item()
    after = quiet(fit.update, re.search(r'fit\.update\("(.*)"\)', remedy)[1])
    assert "diag(temp | recipe:replicate)" in after.formula
    at_bound = quiet(
        lmer, "angle ~ recipe + temp + cs(temp | recipe:replicate)", load_dataset("cake")
    )
    said = found(quiet(at_bound.check, 49, seed=1), "singularity")["remedy"].item()
    assert said.startswith("take independent columns, diag(temp | recipe:replicate)")
    alone = found(quiet(model("singular").check, 49, seed=1), "singularity")["remedy"].item()
    assert alone.startswith("the fit is that of an ordinary regression")


def test_a_family_without_draws_is_checked_for_the_rest():
    family = UserFamily(
        "own", "log", variance=lambda m: m,
        deviance=lambda y, m: 2.0 * (scipy.special.xlogy(y, y / m) - y + m),
    )  # fmt: skip
    health = glmer("count ~ x + (1 | g)", DATA, family).check(seed=1)
    row = found(health, "simulation")
    assert row["status"].item() == "note"
    assert "give its UserFamily random=" in row["remedy"].item()
    assert "influence" in set(health["check"])


def test_means_that_do_not_exist_leave_simulations_out():
    """With the inverse link large random effects reach beyond zero, in every row sometimes."""
    rng = np.random.default_rng(1)
    g = np.repeat(np.arange(20), 10)
    data = pd.DataFrame({"g": g, "x": rng.normal(size=200)})
    data["y"] = rng.gamma(2.0, 0.5, 200) * np.exp(rng.normal(size=20)[g])
    fit = glmer("y ~ x + (1 | g)", data, "Gamma")
    health = quiet(fit.check, 99, seed=1)
    row = found(health, "simulation")
    assert "means that the family and the link cannot have" in row["remedy"].item()
    assert {"convergence", "influence"} <= set(health["check"])
    residuals = quiet(fit.simulated_residuals, 99, seed=1)
    assert residuals.to_frame()["scaled"].between(0.0, 1.0).all()
    with pytest.raises(DataError, match="take a link such as 'log'"):
        residuals.tests()


# ------------------------------------------------------------------ printing and refusals


def test_a_report_prints():
    health = finding("collinearity")[1]
    lines = str(health).splitlines()
    assert max(map(len, lines)) < 80
    assert re.match(r"Health of y ~ x \+ z \+ \(1 \| g\): 1 warning, \d notes?, \d+ ok", lines[0])
    assert any(line.startswith("warning collinearity: the largest") for line in lines)
    assert any(line.startswith("        -> centre numbers") for line in lines)
    for text in (health.to_html(), health.to_markdown(), health.to_latex(), health._repr_html_()):
        assert "collinearity" in text
        assert "nan" not in text.lower()


@pytest.mark.parametrize(
    ("arguments", "message"),
    [({"n": 0}, "n is 0"), ({"seed": "a"}, "seed is 'a'"), ({"nsim": 5}, "nsim")],
)
def test_wrong_arguments(arguments, message):
    with pytest.raises((ValueError, TypeError), match=message):
        model("cbpp").check(**arguments)
