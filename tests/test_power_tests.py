"""The tests that power knows: random effects, smaller models, bootstraps, a user's own."""

import numpy as np
import pandas as pd
import pytest
import scipy.stats as st
from reference_data import frame

from mixef import (
    LmerControl,
    exact_rlrt,
    glmer,
    lmer,
    load_dataset,
    pb_test,
    power,
    simulate_from,
)
from mixef.errors import ArgumentError, FormulaError
from mixef.inference.hypotheses.ddf import f_test
from mixef.inference.hypotheses.rlrt import regression_criteria, regression_criterion
from mixef.inference.refits.many import refitted
from mixef.inference.resampling.along import with_values
from mixef.inference.resampling.power_design import generating_values, scenario, size_grid
from mixef.inference.resampling.power_tests import METHODS, hypothesis_of, power_test

CBPP = "cbind(incidence, size - incidence) ~ period + (1 | herd)"
QUIET = LmerControl(check_conv_singular="ignore", check_conv_hess="ignore", check_rankX="ignore")
N = 8


@pytest.fixture(scope="module")
def sleep():
    data = frame("sleepstudy_w")
    return lmer("Reaction ~ Days + cond + (1 | Subject)", data, weights="w", control=QUIET)


@pytest.fixture(scope="module")
def cbpp():
    return glmer(CBPP, load_dataset("cbpp"), "binomial")


def replicates(fit, test, method=None, n_boot=30, sizes=None):
    """P values of some replicates, and the whole fits of the same responses."""
    state, tested = power_test(fit._fit, test, method, n_boot)
    place = size_grid(state, sizes, None)[0]
    rng = np.random.default_rng(3)
    at = scenario(state, place, generating_values(state, None), rng)
    Y = at.draw(N, rng)
    p, failed = tested.p_values(at, Y, rng, 1, False)
    assert not failed
    return p, [type(fit)(refitted(at.fit, y, at.start)) for y in Y.T]


# A search ends where the criterion is 1e-8 from its minimum, so p values are equal to six digits.
SAME = {"rel": 2e-5, "abs": 1e-9}


@pytest.mark.parametrize("sizes", [None, {"Subject": 5}])
@pytest.mark.parametrize("test", ["Days", ". ~ . - Days", "Days + condb"])
def test_kenward_rogers_p_values_are_those_of_whole_fits(sleep, test, sizes):
    p, fits = replicates(sleep, test, "kenward-roger", sizes=sizes)
    L = hypothesis_of(sleep._fit, "Days" if "~" in test else test)[0].L
    expected = [f_test(m._fit, L, ddf="kenward-roger").p_value for m in fits]
    assert p == pytest.approx(expected, **SAME)


def test_a_smaller_model_is_tested_by_its_likelihood_ratio(sleep, cbpp):
    p, fits = replicates(sleep, ". ~ . - cond - Days")
    for own, model in zip(p, fits, strict=True):
        statistic = pb_test(model, ". ~ . - cond - Days", n=1, seed=1).statistic
        assert own == pytest.approx(st.chi2.sf(statistic, 2), **SAME)
    for method in ("lrt", "z"):
        p, _ = replicates(cbpp, ". ~ . - period", method)
        of_term, _ = replicates(cbpp, "period", method)
        assert p == pytest.approx(of_term, **SAME)


def test_random_effects_are_compared_on_copied_levels():
    """More levels than the data have: the smaller model has the same copies."""
    data = load_dataset("sleepstudy")
    fit = lmer("Reaction ~ Days + (Days | Subject)", data)
    p, fits = replicates(fit, ". ~ . - (Days | Subject) + (1 | Subject)", sizes={"Subject": 25})
    for own, model in zip(p, fits, strict=True):
        rows = model._fit
        again = pd.DataFrame({"y": rows.y, "Days": rows.X[:, 1], "g": rows.terms[0].grouping.codes})
        large = lmer("y ~ Days + (Days | g)", again, REML=False, control=QUIET)
        small = lmer("y ~ Days + (1 | g)", again, REML=False, control=QUIET)
        statistic = small.objective - large.objective
        assert own == pytest.approx(st.chi2.sf(statistic, 2), **SAME)


def test_a_term_alone_is_tested_exactly(sleep):
    p, fits = replicates(sleep, "(1 | Subject)", sizes={"Subject": 6})
    for own, model in zip(p, fits, strict=True):
        test = exact_rlrt(model, n=20_000, seed=5)
        # Two times 20,000 draws of one distribution.
        assert own == pytest.approx(test.p_value, abs=6 * test.error + 1e-3)
    own = sleep._fit
    Y = np.column_stack([own.y, own.y[::-1]])
    found = regression_criteria(own, Y)
    assert found[0] == pytest.approx(regression_criterion(own), rel=1e-12)
    crossed = lmer("diameter ~ 1 + (1 | plate) + (1 | sample)", load_dataset("Penicillin"))
    p, fits = replicates(crossed, "(1 | sample)", sizes={"plate": 4})
    assert (p < 0.05).all()


@pytest.mark.parametrize("test", ["(1 | herd)", "(1 | Subject)"])
def test_a_term_may_be_tested_by_its_likelihood_ratio(sleep, cbpp, test):
    fit = cbpp if "herd" in test else sleep
    p, fits = replicates(fit, test, "lrt")
    for own, model in zip(p, fits, strict=True):
        model = model.refit_ml() if fit is sleep else model
        alone = pb_test(model, f". ~ . - {test}", n=1, seed=1)
        assert own == pytest.approx(st.chi2.sf(alone.statistic, 1), **SAME)


def test_a_parametric_bootstrap_for_each_replicate(sleep, cbpp):
    for fit, test, n in ((sleep, "Days", 5), (cbpp, ". ~ . - period", 2)):
        size = {next(iter(fit.ngrps().index)): 6}
        found = power(fit, test, method="pb", n=n, n_boot=9, sizes=size, seed=1)
        assert (found.method, found.frame["n"].tolist()) == ("pb", [n])
    p, _ = replicates(sleep, "(1 | Subject)", "pb", n_boot=19)
    # Ranks among 20 statistics.
    assert p * 20 == pytest.approx(np.round(p * 20))
    assert 1 / 20 <= p.min() <= p.max() <= 1.0


def test_under_the_null_the_exact_test_has_its_level():
    """Six groups of five, no variance between them: chi-square rejects far too seldom."""
    data = pd.DataFrame({"g": np.repeat(np.arange(6), 5), "x": np.tile(np.arange(5.0), 6)})
    truth = {"beta": [0.0, 1.0], "sd": {"g": 1.0}, "sigma": 1.0}
    data["y"] = simulate_from("y ~ x + (1 | g)", data, truth, seed=1)["sim_1"]
    fit = lmer("y ~ x + (1 | g)", data, control=QUIET)
    nothing, n = {"sd_(Intercept)|g": 0.0}, 600
    exact = power(fit, "(1 | g)", new_params=nothing, n=n, seed=2).frame.iloc[0]
    assert exact["power"] == pytest.approx(0.05, abs=4 * np.sqrt(0.05 * 0.95 / n))
    ratio = power(fit, "(1 | g)", method="lrt", new_params=nothing, n=n, seed=2).frame.iloc[0]
    assert ratio["power"] < 0.03


def test_a_users_own_test(sleep, cbpp):
    n = {"n": 25, "seed": 4}
    usual = power(sleep, "Days", new_params={"Days": 3.0}, **n).frame["power"][0]

    def own(model):
        return model.coef_table().loc["Days", "Pr(>|t|)"]

    found = power(sleep, own, new_params={"Days": 3.0}, **n)
    assert found.frame["power"][0] == usual
    assert str(found).startswith("Power of the user's test for own")
    truth = power(sleep, lambda model: model.coef_table().loc["Days", "Pr(>|t|)"] <= 0.05,
                  new_params={"Days": 3.0}, **n)  # fmt: skip
    assert truth.frame["power"][0] == usual
    sign = power(cbpp, lambda model: bool(model.beta[1] < 0.0), n=5, seed=1).frame["power"][0]
    assert 0.0 <= sign <= 1.0


def test_simrs_published_example():
    """The vignette "Power analysis from scratch" of simr 1.0: 6 of 20 replicates reject.

    Its limits of power are 11.89 % and 54.28 %; the model is y ~ x + (1 | g) for x = 1, ..., 10 in
    three groups, with coefficients 2 and -0.1, variance 0.5 and residual variance 1.
    """
    data = pd.DataFrame({"x": np.tile(np.arange(1.0, 11.0), 3), "g": np.repeat(list("abc"), 10)})
    truth = {"beta": [2.0, -0.1], "sd": {"g": np.sqrt(0.5)}, "sigma": 1.0}
    data["y"] = simulate_from("y ~ x + (1 | g)", data, truth, seed=1)["sim_1"]
    fit = lmer("y ~ x + (1 | g)", data, control=QUIET)
    params = {"beta": [2.0, -0.1], "sd_(Intercept)|g": np.sqrt(0.5), "sigma": 1.0}
    n = 200
    found = power(fit, "x", new_params=params, method="kenward-roger", n=n, seed=1).frame.iloc[0]
    assert 0.1189 < found["power"] < 0.5428
    # x is the same in each group, so its t statistic has 30 - 3 - 1 degrees of freedom.
    ncp = 0.1 * np.sqrt(3 * 82.5)
    critical = st.t.ppf(0.975, 26)
    exact = st.nct.sf(critical, 26, ncp) + st.nct.cdf(-critical, 26, ncp)
    assert found["power"] == pytest.approx(exact, abs=4 * np.sqrt(exact * (1 - exact) / n))


@pytest.mark.parametrize(
    ("test", "more", "message"),
    [
        ("(1 | herd)", {}, r"term is '\(1 \| herd\)'; expected one of the model's terms"),
        ("(1 | Subject)", {"method": "t"}, "the random-effects term .*expected 'exact', 'lrt'"),
        ("Days", {"method": "exact"}, "the test is of fixed effects; expected a term"),
        (". ~ . - Days", {"method": "exact"}, "the test is of a model; expected a term"),
        (". ~ . + cond:Days", {}, "expected a smaller model"),
        ("log(Reaction) ~ 1 + (1 | Subject)", {}, "whose response is not Reaction"),
        (". ~ . - (1 | Subject) + (1 | Days)", {}, "needs Days, which the fit has not evaluated"),
        (". ~ . - (1 | Subject)", {"method": "t"}, "a model with other random effects"),
        ("Days = 5", {"method": "pb"}, "coefficients that are zero"),
        (lambda model: 0.5, {"method": "z"}, "the test is of a function; expected None"),
        ("Days", {"method": "function"}, "the test is of no function"),
        (lambda model: 7, {}, "what test returned is 7; expected a p value"),
        (lambda model: "no", {}, "what test returned is 'no'; expected a p value"),
        ("Days", {"method": "pb", "n_boot": 0}, "n_boot is 0"),
    ],
    ids=lambda part: part.__name__ if callable(part) else str(part),
)
def test_tests_that_cannot_be(sleep, test, more, message):
    with pytest.raises((ArgumentError, FormulaError), match=message):
        power(sleep, test, **({"n": 3, "seed": 1} | more))


def test_methods_that_a_generalized_model_has_not(cbpp):
    with pytest.raises(ArgumentError, match="'exact', which is for one variance of a linear"):
        power(cbpp, "(1 | herd)", method="exact", n=3)
    with pytest.raises(ArgumentError, match="no degrees of freedom"):
        power(cbpp, ". ~ . - period", method="kenward-roger", n=3)
    assert set(METHODS) == {"t", "kenward-roger", "z", "lrt", "pb", "exact", "function"}


# ---------------------------------------------------------------------- along a predictor


@pytest.mark.parametrize("count", [2, 5, 10, 14])
def test_a_predictor_has_fewer_or_further_values(count):
    """The design is that of the fit at the values, polynomials in its own basis."""
    data = frame("sleepstudy_w")
    formula = "Reaction ~ poly(Days, 2) + cond + (Days | Subject)"
    fit = lmer(formula, data, weights="w", control=QUIET)
    spec = with_values(fit._fit, "Days", count)
    days = spec.frame.variables["Days"]
    assert np.unique(days).tolist() == list(range(count))
    assert spec.frame.n == 18 * count
    last = data[data["Days"] == 9]
    rows = [data[data["Days"] < count]]
    rows += [last.assign(Days=float(day)) for day in range(10, count)]
    expected = pd.concat(rows)
    np.testing.assert_allclose(
        spec.design.matrix, fit.model_matrix(expected), rtol=1e-9, atol=1e-12
    )
    np.testing.assert_array_equal(spec.terms[0].z[:, 1], expected["Days"])
    np.testing.assert_array_equal(spec.frame.weights, expected["w"])
    known = {text: value for text, value in spec.frame.variables.items() if text == "poly(Days, 2)"}
    assert all(len(value.array) == 18 * count for value in known.values())


def test_power_along_a_predictor_is_that_of_its_rows(cbpp):
    """Within groups a t statistic is noncentral t with the sum of squares of the values."""
    data = pd.DataFrame({"g": np.repeat(np.arange(6), 4), "x": np.tile(np.arange(4.0), 6)})
    truth = {"beta": [0.0, 0.2], "sd": {"g": 2.0}, "sigma": 1.0}
    data["y"] = simulate_from("y ~ x + (1 | g)", data, truth, seed=1)["sim_1"]
    fit = lmer("y ~ x + (1 | g)", data, control=QUIET)
    params, n = {"beta": [0.0, 0.2], "sd_(Intercept)|g": 2.0, "sigma": 1.0}, 400
    found = power(fit, "x", along={"x": [3, 6]}, new_params=params, n=n, seed=2).frame
    assert list(found)[:2] == ["x", "nobs"]
    assert found["nobs"].tolist() == [18, 36]
    for row, k in zip(found.itertuples(), (3, 6), strict=True):
        ncp = 0.2 * np.sqrt(6 * ((np.arange(k) - (k - 1) / 2) ** 2).sum())
        df = 6 * k - 6 - 1
        critical = st.t.ppf(0.975, df)
        exact = st.nct.sf(critical, df, ncp) + st.nct.cdf(-critical, df, ncp)
        assert row.power == pytest.approx(exact, abs=4 * np.sqrt(exact * (1 - exact) / n))
    both = power(fit, ". ~ . - x", along={"x": 6}, sizes={"g": [4]}, n=3, seed=1).frame
    assert both[["x", "g", "nobs"]].to_numpy().tolist() == [[6, 4, 24]]
    with pytest.raises(ArgumentError, match="along names 'period', which is no numeric predictor"):
        power(cbpp, "period", along={"period": 5}, n=3)


@pytest.mark.parametrize(
    ("along", "message"),
    [
        (3, "along is 3; expected a dict from predictor"),
        ({"Days": 1}, "the size of Days is 1; expected a whole number, 2 or more"),
        ({"Days": []}, "along has no size for Days"),
        ({"Subject": 5}, "'Subject', which is no numeric predictor of the fit; it has Days"),
        ({"Days": 10**12}, "has about"),
    ],
    ids=str,
)
def test_values_that_cannot_be(sleep, along, message):
    with pytest.raises(ArgumentError, match=message):
        power(sleep, "Days", along=along, n=3)
