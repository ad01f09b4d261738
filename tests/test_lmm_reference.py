"""Linear mixed models against lme4 1.1-31, on the shipped data sets and on simulated data.

The numbers are those of lme4.json (by make_reference.R), more_lmm.json (by more_lmm.R) and
lmm_acceptance.json (by lmm_acceptance.R). Each case is compared twice.

At lme4's theta, where its stopping rule does not matter, every number is the same function of
theta in both programs: only rounding is left, and ROUNDING is 4 times the worst that was seen
(conditional modes of InstEval, 4128 of them).

At our own optimum the criterion must be lme4's or lower. Newton steps brought the fits of
more_lmm.json to the optimum: 1e-6, because a criterion of 1e3 known to 1e-13 of itself leaves
theta uncertain to some 1e-7. The fits of lme4.json, and those on InstEval, ended where bobyqa
stopped: theta is about 1e-5 from the optimum, 3e-5 for Penicillin.
"""

import warnings
from functools import cache

import numpy as np
import pytest
from fit_at_theta import at_theta
from reference_data import cases, frame

from mixef import lmer
from mixef.errors import ConvergenceWarning, DataWarning, SingularFitWarning

ROUNDING = 1e-10
NEWTON, BOBYQA = 1e-6, 5e-5
# How far above the optimum lme4's search stopped: at most 8.9e-8 (InstEval, three terms).
LEFT = {NEWTON: 0.0, BOBYQA: 1e-7}


def reference_cases():
    """All cases by name, with how close lme4 came to the optimum."""
    out = {case["id"]: (case, NEWTON) for case in cases("more_lmm.json")}
    out |= {c["id"]: (c, BOBYQA) for c in cases("lme4.json") if not c.get("family")}
    for case in cases("lmm_acceptance.json"):
        arguments = {key: case.get(key) for key in ("formula", "weights", "offset")}
        rtol = BOBYQA if case["data"] == "InstEval" else NEWTON
        out[f"acceptance_{case['id']}"] = (case["fit"] | arguments, rtol)
    return out


CASES = reference_cases()
# lme4 1.1-31 knows no diag(): the frozen fit is that of (Days || Subject), two terms for our one.
TWO_TERMS_IN_LME4 = {"acceptance_sleep_diag", "acceptance_sleep_diag_ml"}
# lme4 1.1-31 splits the terms of `||`, which mixef reads as diag(); here the split is written out.
SPLIT = {
    "Reaction ~ Days + (Days||Subject)": "Reaction ~ Days + (1 | Subject) + (0 + Days | Subject)",
    "y ~ big + (big||g)": "y ~ big + (1 | g) + (0 + big | g)",
    "y ~ x + z + (x + z||g)": "y ~ x + z + (1 | g) + (0 + x | g) + (0 + z | g)",
}
# lme4 takes the raw theta for the size of a slope, whose column is 1e4 large here.
SINGULAR_BY_UNITS = {"scaled_slope"}

every_case = pytest.mark.parametrize("name", CASES)
same_terms = pytest.mark.parametrize("name", [n for n in CASES if n not in TWO_TERMS_IN_LME4])


def recorded(*keys):
    """Parametrize over the cases that record all of the keys."""
    return pytest.mark.parametrize(
        "name", [n for n, (case, _) in CASES.items() if all(key in case for key in keys)]
    )


def listed(x):
    return x if isinstance(x, list) else [x]


def numbers(values):
    """Frozen values with NaN where R has NA or NaN."""
    return [np.nan if value in (None, "NA", "NaN") else value for value in listed(values)]


@cache
def fit_and_warnings(name):
    case, _ = CASES[name]
    data = frame(case["data"])
    arguments = {"weights": case.get("weights")}
    if case.get("offset"):
        arguments["offset"] = data.eval(case["offset"])
    if case.get("na_action"):
        arguments["na_action"] = case["na_action"].removeprefix("na.")
    if case.get("contrasts"):
        named = case["contrasts"].items()
        arguments["contrasts"] = {key: value.removeprefix("contr.") for key, value in named}
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        formula = SPLIT.get(case["formula"], case["formula"])
        fit = lmer(formula, data, case["REML"], **arguments)
    return fit, {warning.category for warning in caught}


def fit_of(name):
    return fit_and_warnings(name)[0]


@cache
def at_theta_of_lme4(name):
    return at_theta(fit_of(name), listed(CASES[name][0]["theta"]))


def assert_near(ours, expected, rtol):
    """Compare arrays on the scale of the largest expected number; NaN only where NaN is."""
    ours, expected = np.asarray(ours, dtype=float), np.asarray(expected, dtype=float)
    assert ours.shape == expected.shape
    if expected.size:
        scale = np.nanmax(np.abs(expected), initial=0.0)
        np.testing.assert_allclose(ours, expected, rtol=0, atol=max(rtol * scale, 1e-13))


def rounding_of(criterion):
    """Rounding of the criterion in either program, and 1e-12 that our search leaves."""
    return 1e-11 + 2e-14 * abs(criterion)


# The optimum


@every_case
def test_the_criterion_is_that_of_lme4_or_lower(name):
    case, rtol = CASES[name]
    gap = fit_of(name).objective - case["objective"]
    rounding = rounding_of(case["objective"])
    assert -LEFT[rtol] - rounding <= gap <= rounding


@every_case
def test_the_search_converges_quickly_and_warns_of_nothing_but_what_there_is(name):
    fit, categories = fit_and_warnings(name)
    assert fit.converged
    assert ConvergenceWarning not in categories
    assert (SingularFitWarning in categories) == fit.is_singular()
    assert (DataWarning in categories) == bool(CASES[name][0].get("dropped"))
    assert categories <= {SingularFitWarning, DataWarning}
    assert len(fit.par) > 6 or fit.convergence.n_evaluations <= 12


@every_case
def test_singular_fits_are_those_of_lme4(name):
    expected = CASES[name][0]["singular"]
    assert fit_of(name).is_singular() == (expected and name not in SINGULAR_BY_UNITS)


@pytest.mark.parametrize("name", SINGULAR_BY_UNITS)
def test_a_small_slope_of_a_large_column_is_singular_for_lme4_alone(name):
    fit = fit_of(name)
    assert CASES[name][0]["singular"]
    assert fit.theta.min() < 1e-4  # lme4's tolerance
    assert not fit.is_singular()


@every_case
def test_estimates(name):
    fit, (case, rtol) = fit_of(name), CASES[name]
    assert_near(fit.par, listed(case["theta"]), rtol)
    assert_near(fit.beta, listed(case["beta"]), rtol)
    assert_near(np.sqrt(np.diag(fit.vcov())), listed(case["se"]), rtol)
    assert_near(fit.sigma, case["sigma"], rtol)


@pytest.mark.parametrize("name", sorted(TWO_TERMS_IN_LME4))
def test_theta_of_a_diagonal_term_is_a_lower_triangle(name):
    fit = fit_of(name)
    first, second = fit.par
    np.testing.assert_array_equal(fit.theta, [first, 0.0, second])
    assert list(fit.getME("theta").index) == [
        "Subject.(Intercept)",
        "Subject.Days.(Intercept)",
        "Subject.Days",
    ]


# Counts and names


@every_case
def test_counts_and_criteria(name):
    fit, (case, rtol) = fit_of(name), CASES[name]
    counts = (fit.npar, fit.nobs, fit.df_residual)
    assert counts == (case["npar"], case["nobs"], case["df_residual"])
    assert fit.ngrps().to_dict() == case["ngrps"]
    atol = LEFT[rtol] + rounding_of(case["objective"])
    for ours, expected in [(fit.aic, "AIC"), (fit.bic, "BIC"), (fit.loglik, "logLik")]:
        assert ours == pytest.approx(case[expected], rel=0, abs=atol)


@same_terms
def test_names(name):
    fit, (case, _) = fit_of(name), CASES[name]
    assert list(fit.fixef().index) == listed(case["beta_names"])
    assert list(fit.getME("theta").index) == listed(case["theta_names"])
    assert list(fit.ranef()) == list(case["ranef"])
    for group, expected in case["ranef"].items():
        modes, levels = fit.ranef()[group], listed(expected["levels"])
        assert list(modes.columns) == listed(expected["names"])
        assert list(map(str, modes.index[: len(levels)])) == levels


@recorded("dropped")
def test_dropped_columns_are_those_of_lme4(name):
    everything = fit_of(name).fixef(add_dropped=True)
    assert list(everything.index[everything.isna()]) == CASES[name][0]["dropped"]


@recorded("components")
def test_components_are_named_as_in_lme4(name):
    expected = CASES[name][0]["components"]
    ours = [group for group, columns in fit_of(name).getME("cnms")]
    assert ours == (expected[:1] if name in TWO_TERMS_IN_LME4 else expected)


# Every number, at lme4's theta


@every_case
def test_the_criterion_is_the_same_function_of_theta(name):
    fit, (case, _) = at_theta_of_lme4(name), CASES[name]
    e = fit._fit.estimates
    assert fit.objective == pytest.approx(case["objective"], rel=2e-14, abs=1e-11)
    assert e.ldL2 == pytest.approx(case["ldL2"], rel=1e-13, abs=1e-11)
    assert e.pwrss == pytest.approx(case["pwrss"], rel=1e-13)
    for ours, expected in [(fit.aic, "AIC"), (fit.bic, "BIC"), (fit.loglik, "logLik")]:
        assert ours == pytest.approx(case[expected], rel=2e-14, abs=1e-11)


@every_case
def test_estimates_at_that_theta(name):
    fit, (case, _) = at_theta_of_lme4(name), CASES[name]
    assert_near(fit.par, listed(case["theta"]), 1e-14)
    assert_near(fit.beta, listed(case["beta"]), ROUNDING)
    assert_near(np.sqrt(np.diag(fit.vcov())), listed(case["se"]), ROUNDING)
    assert_near(fit.sigma, case["sigma"], 1e-13)
    table = fit.coef_table()
    assert_near(table["Estimate"], listed(case["beta"]), ROUNDING)
    assert_near(table["Std. Error"], listed(case["se"]), ROUNDING)
    t = np.divide(listed(case["beta"]), listed(case["se"]))
    assert_near(table["t value"], t, ROUNDING)
    if "vcov" in case:
        assert_near(fit.vcov().to_numpy().ravel(), np.ravel(case["vcov"]), ROUNDING)


@same_terms
def test_components_at_that_theta(name):
    ours, expected = at_theta_of_lme4(name).VarCorr().to_frame(), CASES[name][0]["VarCorr"]
    for column in ("var1", "var2"):
        names = ours[column].astype(object).where(ours[column].notna(), None)
        assert list(names) == [row[column] for row in expected]
    assert list(ours["grp"]) == [row["grp"] for row in expected]
    for column in ("vcov", "sdcor"):
        # By row: a variance can be 1e-8 of the largest.
        values = numbers([row[column] for row in expected])
        np.testing.assert_allclose(ours[column], values, rtol=1e-12, atol=1e-14)


@every_case
def test_conditional_modes_at_that_theta(name):
    ours = at_theta_of_lme4(name).ranef()
    for group, expected in CASES[name][0]["ranef"].items():
        head = ours[group].head(len(listed(expected["levels"])))
        assert_near(head.to_numpy().T, expected["values"], ROUNDING)


@every_case
def test_conditional_covariances_at_that_theta(name):
    case, _ = CASES[name]
    effects = at_theta_of_lme4(name).ranef(condVar=True)
    for group, recorded_blocks in case["condVar"].items():
        first, at = np.asarray(effects.condVar[group])[0], 0
        for block in blocks_of(recorded_blocks):
            size = len(block)
            assert_near(first[at : at + size, at : at + size], block, ROUNDING)
            at += size
        assert at == len(first)


def blocks_of(recorded_blocks):
    """The first level's matrices, one a term.

    lme4.json has a matrix's entries in one list, a number for a 1 x 1 matrix, and several terms by
    their names.
    """
    if isinstance(recorded_blocks, dict):
        return [block for value in recorded_blocks.values() for block in blocks_of(value)]
    if not isinstance(recorded_blocks, list):
        return [np.array([[recorded_blocks]])]
    if isinstance(recorded_blocks[0], list):
        return [np.array(block) for block in recorded_blocks]
    size = int(np.sqrt(len(recorded_blocks)))
    return [np.reshape(recorded_blocks, (size, size))]


@recorded("fitted")
def test_fitted_values_and_residuals_at_that_theta(name):
    fit, (case, _) = at_theta_of_lme4(name), CASES[name]
    fitted = numbers(case["fitted"])
    assert_near(fit.fitted().head(len(fitted)), fitted, ROUNDING)
    ours = {
        "resid_response": fit.residuals(),
        "resid_pearson": fit.residuals(type="pearson"),
        "resid_deviance": fit.residuals(type="deviance"),
        "resid_scaled": fit.residuals(type="pearson", scaled=True),
    }
    for key in ours.keys() & case.keys():
        expected = numbers(case[key])
        assert_near(ours[key].head(len(expected)), expected, ROUNDING)


@recorded("coef")
def test_coefficients_by_group_at_that_theta(name):
    ours = at_theta_of_lme4(name).coef()
    for group, expected in CASES[name][0]["coef"].items():
        assert list(map(str, ours[group].index)) == expected["levels"]
        assert set(ours[group].columns) == set(expected["names"])
        for column, values in zip(expected["names"], expected["values"], strict=True):
            assert_near(ours[group][column], values, ROUNDING)


# Units


SLEEP = "Reaction ~ x + (z | Subject)"
FACTORS = [1e-8, 1e-6, 1e-4, 1e-2, 1e2, 1e4, 1e6, 1e8]


def scaled_sleepstudy(x=1.0, z=1.0, y=1.0):
    data = frame("sleepstudy")
    days = data["Days"]
    return data.assign(Reaction=y * data["Reaction"], x=x * days, z=z * days)


@cache
def unscaled(REML):
    return lmer(SLEEP, scaled_sleepstudy(), REML)


@pytest.mark.parametrize("REML", [True, False])
@pytest.mark.parametrize("factor", FACTORS)
@pytest.mark.parametrize("what", ["x", "z", "y", "xz", "xzy"])
def test_units_shift_the_criterion_and_nothing_else(what, factor, REML):
    fit = lmer(SLEEP, scaled_sleepstudy(**dict.fromkeys(what, factor)), REML)
    plain = unscaled(REML)
    # y scaled by c: density of n (REML: n - p) values over c each. X scaled by c: |X'V^-1X| by c^2.
    shift = 2 * np.log(factor) * (("x" in what) * REML + ("y" in what) * (178 if REML else 180))
    assert fit.objective == pytest.approx(plain.objective + shift, rel=1e-12)
    t = plain.coef_table()["t value"]
    # The search ends with theta at some 1e-8 of itself.
    np.testing.assert_allclose(fit.coef_table()["t value"], t, rtol=1e-8)
    assert fit.converged
    assert not fit.is_singular()
    unit = factor if "y" in what else 1.0
    assert fit.sigma == pytest.approx(unit * plain.sigma, rel=1e-8)
    slope = unit / (factor if "z" in what else 1.0)
    scale = [unit, slope]
    sd = [fit.VarCorr().stddev("Subject"), plain.VarCorr().stddev("Subject") * scale]
    np.testing.assert_allclose(*sd, rtol=1e-7)


@pytest.mark.parametrize("factor", FACTORS)
@pytest.mark.parametrize("what", [["x"], ["yup"], ["x", "yup"]])
def test_units_do_not_decide_what_is_singular(what, factor):
    # A correlation of one: more_lmm.json, singular_plus_one.
    data = frame("vector")
    data[what] *= factor
    with pytest.warns(SingularFitWarning, match="has no variance"):
        fit = lmer("yup ~ x + (x | g)", data)
    plain = fit_of("singular_plus_one")
    assert fit.is_singular()
    assert fit.converged
    t = plain.coef_table()["t value"]
    np.testing.assert_allclose(fit.coef_table()["t value"], t, rtol=1e-7)


@pytest.mark.parametrize(("factor", "criterion"), [(1e6, 1771.259), (1e-6, 1715.997)])
def test_criterion_of_sleepstudy_with_days_on_an_extreme_scale(factor, criterion):
    # REML 1743.62827 plus 2 log(factor); lme4 1.1-31 stops at 1812.2 and 1733.9.
    fit = lmer(SLEEP, scaled_sleepstudy(x=factor, z=factor))
    assert fit.objective == pytest.approx(criterion, abs=1e-3)
