"""Power against the exact power of balanced designs, and the rows that sizes stand for."""

import numpy as np
import pandas as pd
import pytest
import scipy.stats as st
from reference_data import frame

from mixef import LmerControl, glmer, lmer, load_dataset, power, simulate_from
from mixef.errors import DataError, FitError
from mixef.inference.hypotheses.ddf import f_test
from mixef.inference.refits.many import refit_many
from mixef.inference.resampling.power import binomial_limits
from mixef.inference.resampling.power_design import (
    chosen_levels,
    generating_values,
    scenario,
    size_grid,
)
from mixef.inference.resampling.power_tests import constrained, fit_at, hypothesis_of
from mixef.inference.simulation.simulate import simulated_responses

QUIET = LmerControl(check_conv_singular="ignore", check_conv_hess="ignore")
CBPP = "cbind(incidence, size - incidence) ~ period + (1 | herd)"
NESTED = "strength ~ 1 + (1 | batch/cask)"
CROSSED = "diameter ~ 1 + (1 | plate) + (1 | sample)"
# Between-group variance, so large beside the error of a mean of 4 that it is never estimated as 0.
SD, SIGMA, ROWS = 2.0, 1.0, 4


def trial(arms=2, per_arm=4, alternating=False):
    """Groups in arms, with 4 rows each; x is 0, 1, 0, 1 within a group."""
    groups = arms * per_arm
    arm = np.arange(groups) % arms if alternating else np.repeat(np.arange(arms), per_arm)
    g = np.repeat(np.arange(groups), ROWS)
    data = pd.DataFrame({"g": [f"g{i:02d}" for i in g], "arm": [f"arm{i}" for i in arm[g]]})
    data["x"] = np.tile([0, 1], len(g) // 2)
    beta = [0.0] * (arms + 1)
    parameters = {"beta": beta, "sd": {"g": SD}, "sigma": SIGMA}
    data["y"] = simulate_from("y ~ arm + x + (1 | g)", data, parameters, seed=1)["sim_1"]
    return lmer("y ~ arm + x + (1 | g)", data, control=QUIET)


GENERATING = {"sd_(Intercept)|g": SD, "sigma": SIGMA}


@pytest.fixture(scope="module")
def sleep():
    return lmer("Reaction ~ Days + (Days | Subject)", load_dataset("sleepstudy"))


@pytest.fixture(scope="module")
def cbpp():
    return glmer(CBPP, load_dataset("cbpp"), "binomial")


def near(found, exact, n):
    """A share of n within four of its standard errors."""
    return found == pytest.approx(exact, abs=4 * np.sqrt(exact * (1 - exact) / n))


# ---------------------------------------------------------------------- exact power


@pytest.mark.parametrize("method", ["t", "z", "lrt"])
@pytest.mark.parametrize("groups", [8, 14])
def test_power_of_a_comparison_of_groups(method, groups):
    """The t statistic of group means is noncentral t, and the other two are functions of it."""
    n, delta = 800, 3.0
    params = GENERATING | {"armarm1": delta}
    found = power(
        trial(), "armarm1", sizes={"g": groups}, new_params=params, method=method, n=n, seed=1
    )
    df = groups - 2
    ncp = delta / np.sqrt((SD**2 + SIGMA**2 / ROWS) * 4 / groups)
    critical = {
        "t": st.t.ppf(0.975, df),
        "z": st.norm.ppf(0.975),
        # With the between-group deviance groups * log(SS), the rest being equal in both models.
        "lrt": np.sqrt(df * np.expm1(st.chi2.ppf(0.95, 1) / groups)),
    }[method]
    exact = st.nct.sf(critical, df, ncp) + st.nct.cdf(-critical, df, ncp)
    row = found.frame.iloc[0]
    assert 0.2 < exact < 0.97
    assert near(row["power"], exact, n)
    assert row["g"] == groups
    assert row["nobs"] == groups * ROWS
    assert row["conf_low"] < row["power"] < row["conf_high"]


def test_power_of_all_columns_of_a_term():
    n, beta = 600, {"armarm1": 2.0, "armarm2": 4.0}
    found = power(trial(3), "arm", new_params=GENERATING | beta, n=n, seed=2)
    variance = (SD**2 + SIGMA**2 / ROWS) / 4
    ncp = np.var([0.0, 2.0, 4.0]) * 3 / variance
    exact = st.ncf.sf(st.f.ppf(0.95, 2, 9), 2, 9, ncp)
    assert 0.3 < exact < 0.9
    assert near(found.frame["power"][0], exact, n)
    assert found.test == "arm"


@pytest.mark.parametrize("rows", [4, 12])
def test_power_of_an_effect_within_groups(rows):
    n, delta = 600, 0.7
    params = GENERATING | {"x": delta}
    found = power(trial(), "x", within={"g": rows}, new_params=params, n=n, seed=3).frame.iloc[0]
    df = 8 * rows - 8 - 1
    ncp = delta / (SIGMA * np.sqrt(4 / (8 * rows)))
    critical = st.t.ppf(0.975, df)
    exact = st.nct.sf(critical, df, ncp) + st.nct.cdf(-critical, df, ncp)
    assert near(found["power"], exact, n)
    assert found["rows per g"] == rows


@pytest.mark.parametrize("alpha", [0.05, 0.2])
@pytest.mark.parametrize("method", ["t", "lrt"])
def test_without_an_effect_power_is_the_level(alpha, method):
    """Within groups, with 95 degrees of freedom: the chi-square test has nearly its level, too."""
    n = 600
    params = GENERATING | {"x": 0.0}
    found = power(
        trial(per_arm=13), "x", alpha=alpha, method=method, new_params=params, n=n, seed=4
    )
    assert near(found.frame["power"][0], alpha, n)


# ---------------------------------------------------------------------- tests of replicates


@pytest.mark.parametrize("weights", [None, "w"])
def test_p_values_are_those_of_whole_fits(weights):
    fit = lmer("Reaction ~ Days + cond + (Days | Subject)", frame("sleepstudy_w"), weights=weights)
    Y = simulated_responses(fit._fit, 12, np.random.default_rng(3))
    fits = refit_many(fit._fit, Y)
    L = np.eye(3)[1:]
    for i in range(12):
        at = f_test(fit_at(fit._fit, Y[:, i], fits.par[i]), L)
        whole = f_test(fits.fit(i), L)
        assert at.statistic == pytest.approx(whole.statistic, rel=1e-6)
        # Degrees of freedom follow the curvature, which changes along the criterion's flat floor.
        assert at.den_df == pytest.approx(whole.den_df, rel=1e-3)


@pytest.mark.parametrize(
    ("test", "smaller"),
    [
        ("Days", "Reaction ~ cond + (1 | Subject)"),
        ("cond", "Reaction ~ Days + (1 | Subject)"),
        ("Days = 5", "Reaction ~ cond + offset(5 * Days) + (1 | Subject)"),
        ("Days - condb", "Reaction ~ I(Days + (cond == 'b')) + (1 | Subject)"),
        (["Days", "condb"], "Reaction ~ 1 + (1 | Subject)"),
        (["Days", "condb", "Days + condb"], "Reaction ~ 1 + (1 | Subject)"),
    ],
    ids=str,
)
def test_the_constrained_model_is_the_smaller_one(test, smaller):
    data = frame("sleepstudy_w")
    fit = lmer("Reaction ~ Days + cond + (1 | Subject)", data, REML=False)._fit
    null, shift, df = constrained(fit, hypothesis_of(fit, test)[0])
    expected = lmer(smaller, data, REML=False)
    assert null.estimates.objective == pytest.approx(expected.objective, abs=1e-8)
    assert fit.npar - df == expected.npar
    assert shift == pytest.approx(5.0 * data["Days"] if test == "Days = 5" else np.zeros(180))


def test_a_generalized_model(cbpp):
    """The replicates of the engine, one by one: whole fits and their coefficient tables."""
    fit = cbpp._fit
    for method in ("z", "lrt"):
        found = power(cbpp, "period2", n=15, seed=6, method=method)
        own = np.random.default_rng(np.random.default_rng(6).integers(2**63, size=1)[0])
        at = scenario(fit, (), generating_values(fit, None), own)
        Y = simulated_responses(fit, 15, own)
        p = []
        for y in Y.T:
            size = load_dataset("cbpp")["size"].to_numpy()
            model = cbpp.refit(np.column_stack([y * size, size - y * size]))
            if method == "z":
                p.append(model.coef_table().loc["period2", "Pr(>|z|)"])
            else:
                null, _, _ = constrained(model._fit, hypothesis_of(fit, "period2")[0])
                p.append(st.chi2.sf(null.estimates.objective - model.objective, 1))
        assert found.frame["power"][0] == pytest.approx(np.mean(np.array(p) <= 0.05))
        assert at.fit.frame.n == 56


# ---------------------------------------------------------------------- sizes


@pytest.mark.parametrize("alternating", [False, True], ids=["sorted", "alternating"])
@pytest.mark.parametrize("count", [2, 4, 6, 8, 10, 16, 22])
def test_arms_stay_in_balance(alternating, count):
    fit = trial(2, 4, alternating)._fit
    picks = chosen_levels(fit.spec, "g", count)
    assert len(picks) == count
    arm = fit.design.matrix[::ROWS, 1]
    assert arm[picks].sum() == count / 2
    assert np.bincount(picks, minlength=8).max() <= count // 8 + 1


@pytest.mark.parametrize(
    ("formula", "data", "sizes", "levels", "nobs"),
    [
        (NESTED, "Pastes", {"batch": 15}, {"batch": 15, "cask:batch": 45}, 90),
        (NESTED, "Pastes", {"batch": 7}, {"batch": 7, "cask:batch": 21}, 42),
        (CROSSED, "Penicillin", {"plate": 30, "sample": 9}, {"plate": 30, "sample": 9}, 270),
        (CROSSED, "Penicillin", {"sample": 3}, {"plate": 24, "sample": 3}, 72),
    ],
)
def test_nested_factors_are_copied_and_crossed_ones_shared(formula, data, sizes, levels, nobs):
    fit = lmer(formula, load_dataset(data), control=QUIET)._fit
    grid = size_grid(fit, sizes, None)
    at = scenario(fit, grid[0], generating_values(fit, None), np.random.default_rng(1))
    assert at.fit.frame.n == nobs
    assert {t.group: t.n_levels for t in at.fit.terms} == levels
    at.fit.terms[0].grouping.levels  # noqa: B018 (labels can be made)


def test_all_combinations_of_sizes(sleep):
    found = power(sleep, "Days", sizes={"Subject": [6, 9]}, within={"Subject": [4, 5]}, n=3, seed=1)
    assert found.frame["Subject"].tolist() == [6, 6, 9, 9]
    assert found.frame["rows per Subject"].tolist() == [4, 5, 4, 5]
    assert found.frame["nobs"].tolist() == [24, 30, 36, 45]
    same = power(sleep, "Days", n=3, seed=1).frame
    assert list(same) == ["nobs", "power", "conf_low", "conf_high", "n", "failures"]
    assert same["nobs"].tolist() == [180]


def test_generating_parameters(sleep):
    values = generating_values(sleep._fit, {"Days": 5.0, "sd_Days|Subject": 3.0, "sigma": 10.0})
    assert values.beta == pytest.approx([sleep.beta[0], 5.0])
    assert np.sqrt(np.diag(values.roots[0] @ values.roots[0].T))[1] == pytest.approx(3.0)
    at = scenario(sleep._fit, (), values, np.random.default_rng(1))
    Y = simulated_responses(sleep._fit, 2, np.random.default_rng(2))
    assert Y.shape == (180, 2)
    assert at.start["par"][2] ** 2 + at.start["par"][1] ** 2 == pytest.approx((3.0 / 10.0) ** 2)


def test_weights_and_offset_go_along():
    data = frame("sleepstudy_w")
    fit = lmer("Reaction ~ Days + (1 | Subject)", data, weights="w", offset="2*Days")._fit
    at = scenario(
        fit, size_grid(fit, {"Subject": 20}, None)[0], generating_values(fit, None),
        np.random.default_rng(1),
    )  # fmt: skip
    (sampler,) = at.draw.args
    assert at.fit.frame.weights is sampler.weights
    first = fit.terms[0].grouping.codes == 0
    assert sampler.weights[:10] == pytest.approx(data["w"][first])
    expected = fit.X[first] @ fit.estimates.beta + 2 * data["Days"][first]
    assert sampler.fixed[:10] == pytest.approx(expected)


# ---------------------------------------------------------------------- seeds, limits, printing


def test_seeds_and_processes(sleep):
    one = power(sleep, "Days", sizes={"Subject": [6, 9]}, n=25, seed=5)
    two = power(sleep, "Days", sizes={"Subject": [6, 9]}, n=25, seed=5, n_jobs=2)
    pd.testing.assert_frame_equal(one.frame, two.frame)


@pytest.mark.parametrize(("hits", "n"), [(0, 10), (10, 10), (3, 10), (950, 1000)])
def test_limits_are_exact(hits, n):
    expected = st.binomtest(hits, n).proportion_ci(0.95, "exact")
    assert binomial_limits(hits, n) == pytest.approx(tuple(expected), rel=1e-9)


def test_what_is_printed(sleep):
    found = power(sleep, "Days", sizes={"Subject": [6, 9]}, n=20, seed=5)
    lines = str(found).splitlines()
    assert lines[0] == (
        "Power of the t or F test with Satterthwaite's method for Days = 0, alpha = 0.05"
    )
    assert lines[1].split() == ["Subject", "nobs", "power", "lower", "upper", "n", "failures"]
    assert lines[2].split()[:2] == ["6", "60"]
    assert len(lines) == 4
    assert found._repr_html_().startswith("<div")
    assert repr(found) == str(found)
    assert found.to_frame().equals(found.frame)


# ---------------------------------------------------------------------- arguments


@pytest.mark.parametrize(
    ("arguments", "error", "message"),
    [
        ({"alpha": 5}, ValueError, "alpha is 5; expected a number between 0 and 1"),
        ({"n": 0}, ValueError, "n is 0"),
        ({"method": "F"}, ValueError, "method is 'F'; expected one of"),
        ({"sizes": [10]}, TypeError, r"sizes is \[10\]; expected a dict.*'Subject': \[20, 40\]"),
        ({"sizes": {"herd": 10}}, ValueError, "'herd', which is no grouping factor"),
        ({"sizes": {"Subject": []}}, ValueError, "sizes has no size for Subject"),
        ({"sizes": {"Subject": 0}}, ValueError, "the size of Subject is 0"),
        ({"within": {"Subject": 2.5}}, ValueError, "the size of Subject is 2.5"),
        ({"sizes": {"Subject": 1}}, DataError, "rows of the size Subject = 1: grouping factors"),
        ({"within": {"Subject": 1}}, DataError, "rows per Subject = 1: number of levels of each"),
        ({"new_params": 3}, TypeError, "new_params is 3; expected a dict"),
        ({"new_params": {"Nights": 3}}, DataError, "'Nights', which the model does not"),
        ({"new_params": {"Days": 3, "beta": [1, 2]}}, DataError, "'Days' and 'beta' both"),
        ({"new_params": {"sigma": 0}}, DataError, "sigma is 0 in new_params"),
        ({"test": "Nights"}, ValueError, "Nights"),
        ({"test": 3}, ValueError, "L has shape"),
    ],
)
def test_arguments_that_cannot_be(sleep, arguments, error, message):
    arguments = {"test": "Days", "n": 3, "seed": 1} | arguments
    with pytest.raises(error, match=message):
        power(sleep, arguments.pop("test"), **arguments)


def test_sizes_that_lose_a_coefficient():
    with pytest.raises(FitError, match="size g = 2 cannot tell apart the fixed effects armarm2"):
        power(trial(3), "x", sizes={"g": 2}, n=3, seed=1)


def test_more_arguments_that_cannot_be(cbpp):
    with pytest.raises(ValueError, match="method is 't', but tests of a generalized model"):
        power(cbpp, "period", method="t", n=3)
    with pytest.raises(ValueError, match="is of coefficients that are zero"):
        power(cbpp, "period2 = 1", method="lrt", n=3)
    with pytest.raises(TypeError, match=r"fit is .*Fit.*; expected a model fitted"):
        power(cbpp._fit, "period", n=3)


@pytest.mark.parametrize(
    ("test", "L", "text"),
    [
        ("arm", [[0, 1, 0, 0], [0, 0, 1, 0]], "arm"),
        ("x", [[0, 0, 0, 1]], "x = 0"),
        ("armarm1 - armarm2", [[0, 1, -1, 0]], "armarm1 - armarm2 = 0"),
        ([[0, 1, 0, 2]], [[0, 1, 0, 2]], "armarm1 + 2 * x = 0"),
    ],
    ids=str,
)
def test_what_is_tested(test, L, text):
    found, shown = hypothesis_of(trial(3)._fit, test)
    assert found.L.tolist() == L
    assert shown == text
