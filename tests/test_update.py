"""Fits made from fits: update, refit and refit_ml, against lmer on the changed arguments.

A search that starts anew from the same data takes the same steps, so the numbers are equal; those
of lme4 come from lme4.json (make_reference.R).
"""

import re

import numpy as np
import pandas as pd
import pytest
from reference_data import case, frame

from mixef import LmerControl, lmer
from mixef.errors import DataError, DataWarning, FormulaError, MixefError

SLEEP = "Reaction ~ Days + (Days | Subject)"


@pytest.fixture
def fit():
    return lmer(SLEEP, frame("sleepstudy"))


def assert_same_fit(ours, expected):
    assert ours.formula == expected.formula
    assert ours.REML == expected.REML
    assert ours.objective == expected.objective
    np.testing.assert_array_equal(ours.theta, expected.theta)
    pd.testing.assert_series_equal(ours.fixef(), expected.fixef())
    pd.testing.assert_series_equal(ours.fitted(), expected.fitted())
    for name, modes in expected.ranef().items():
        pd.testing.assert_frame_equal(ours.ranef()[name], modes)
    assert str(ours.summary()) == str(expected.summary())


# update


@pytest.mark.parametrize(
    ("change", "formula"),
    [
        (". ~ . - Days", "Reaction ~ (Days | Subject)"),
        (". ~ . + I(Days^2)", "Reaction ~ Days + I(Days^2) + (Days | Subject)"),
        ("log(Reaction) ~ .", "log(Reaction) ~ Days + (Days | Subject)"),
        ("log(.) ~ .", "log(Reaction) ~ Days + (Days | Subject)"),
        (". ~ . - (Days | Subject) + (1 | Subject)", "Reaction ~ Days + (1 | Subject)"),
        ("Reaction ~ 1 + (1 | Subject)", "Reaction ~ 1 + (1 | Subject)"),
    ],
)
def test_a_changed_formula(fit, change, formula):
    ours, expected = fit.update(change), lmer(formula, frame("sleepstudy"))
    assert ours.objective == pytest.approx(expected.objective, rel=1e-14)
    np.testing.assert_allclose(ours.beta, expected.beta, rtol=1e-12)
    np.testing.assert_allclose(ours.theta, expected.theta, rtol=1e-10, atol=1e-14)
    assert list(ours.fixef().index) == list(expected.fixef().index)
    assert list(ours.getME("theta").index) == list(expected.getME("theta").index)
    assert fit.formula == SLEEP


def test_no_change_gives_the_same_fit(fit):
    assert_same_fit(fit.update(), fit)
    assert_same_fit(fit.update(". ~ ."), fit)


def test_the_other_criterion(fit):
    ml = fit.update(REML=False)
    assert_same_fit(ml, lmer(SLEEP, frame("sleepstudy"), REML=False))
    assert ml.objective == pytest.approx(case("lme4.json", "sleep_ml")["objective"], rel=1e-12)
    assert_same_fit(ml.update(REML=True), fit)


def test_other_data(fit):
    data = frame("sleepstudy").iloc[:120].reset_index(drop=True)
    assert_same_fit(fit.update(data=data), lmer(SLEEP, data))
    assert fit.update(data=data).nobs == 120


def test_weights_offset_and_subset():
    data = frame("sleepstudy_w")
    fit = lmer(SLEEP, data)
    weighted = fit.update(weights="w")
    assert_same_fit(weighted, lmer(SLEEP, data, weights="w"))
    expected = case("lme4.json", "sleep_weights")["objective"]
    assert weighted.objective == pytest.approx(expected, rel=1e-11)
    by_array = fit.update(weights=data["w"].to_numpy())
    np.testing.assert_array_equal(by_array.beta, weighted.beta)
    assert_same_fit(weighted.update(weights=None), fit)
    offset = fit.update(offset=2.0 * data["Days"].to_numpy())
    assert offset.beta[1] == pytest.approx(fit.beta[1] - 2.0, rel=1e-10)
    assert_same_fit(fit.update(subset="Days < 5"), lmer(SLEEP, data, subset="Days < 5"))
    assert fit.update(subset="Days < 5").nobs == 90


def test_arguments_of_the_fit_are_kept():
    data = frame("crossed_na")
    arguments = {"weights": "w", "na_action": "exclude", "contrasts": {"f": "sum"}}
    fit = lmer("y ~ x + f + (x | a)", data, False, subset="z > -0.9", **arguments)
    ours = fit.update(". ~ . - x")
    expected = lmer("y ~ f + (x | a)", data, False, subset="z > -0.9", **arguments)
    assert list(ours.fixef().index) == ["(Intercept)", "f1", "f2"]
    assert ours.objective == pytest.approx(expected.objective, rel=1e-14)
    pd.testing.assert_series_equal(ours.fitted(), expected.fitted())
    assert not ours.REML
    treatment = fit.update(contrasts=None)
    assert list(treatment.fixef().index) == ["(Intercept)", "x", "fmid", "fhi"]
    assert treatment.objective == pytest.approx(fit.objective, rel=1e-12)


def test_rows_that_a_dropped_variable_made_incomplete_come_back():
    data = frame("crossed_na")
    fit = lmer("y ~ x + (1 | b)", data)
    assert fit.update(". ~ . - x").nobs == data["y"].notna().sum() > fit.nobs


def test_control_optimizer_start_and_verbose(fit, capsys):
    control = LmerControl(optimizer="L-BFGS-B")
    assert fit.update(control=control).convergence.optimizer == "L-BFGS-B"
    assert fit.update(optimizer="Nelder-Mead").convergence.optimizer == "Nelder-Mead"
    assert fit.update(control=control).update().convergence.optimizer == "L-BFGS-B"
    far = fit.update(start=0.7 * fit.par)
    started = fit.update(start=fit.par)
    assert started.convergence.n_evaluations < far.convergence.n_evaluations
    assert started.objective == pytest.approx(fit.objective, rel=1e-14)
    assert not capsys.readouterr().out
    fit.update(verbose=1)
    assert capsys.readouterr().out.startswith("criterion ")


def test_functions_of_the_caller(fit):
    def half(x):
        return x / 2

    ours = fit.update(". ~ . - Days + half(Days)")
    assert ours.beta[1] == pytest.approx(2 * fit.beta[1], rel=1e-10)


@pytest.mark.parametrize(
    ("change", "error", "message"),
    [
        ({"formula": ". ~ . + nowhere"}, FormulaError, "nowhere"),
        ({"formula": ". ~ . - (Days | Subject)"}, MixefError, "random"),
        ({"formula": ". ~ (("}, FormulaError, r"\(\("),
        ({"famly": "gaussian"}, TypeError, "lmer has no famly"),
        ({"weights": "nowhere"}, MixefError, "nowhere"),
        ({"data": pd.DataFrame({"Days": [1.0]})}, MixefError, "Reaction"),
        ({"optimizer": "simplex"}, ValueError, "optimizer is 'simplex'"),
        ({"start": [1.0]}, DataError, "1 values; expected 3 finite.*Subject.Days"),
    ],
)
def test_bad_changes(fit, change, error, message):
    with pytest.raises(error, match=message):
        fit.update(**change)


# refit


def test_refit_is_a_fit_to_the_new_response(fit):
    y = np.random.default_rng(1).normal(fit.fitted(), fit.sigma)
    ours, expected = fit.refit(y), lmer(SLEEP, frame("sleepstudy").assign(Reaction=y))
    assert_same_fit(ours, expected)
    np.testing.assert_array_equal(ours.getME("y"), y)
    assert fit.objective != ours.objective
    assert_same_fit(fit.refit(fit.getME("y")), fit)
    with pytest.raises(DataError, match="no value for 180 of 180 rows"):
        fit.refit(pd.Series(y, index=range(1000, 1180)))
    assert_same_fit(fit.refit(pd.Series(y)[::-1]), expected)
    assert_same_fit(fit.refit(list(y)), expected)


def test_refit_keeps_weights_offset_and_criterion():
    data = frame("crossed")
    y = data["yw"].to_numpy()[::-1].copy()
    arguments = {"REML": False, "weights": "w", "offset": "v"}
    fit = lmer("yw ~ x + offset(z) + (1 | a) + (1 | b)", data, **arguments)
    expected = lmer("yw ~ x + offset(z) + (1 | a) + (1 | b)", data.assign(yw=y), **arguments)
    assert_same_fit(fit.refit(y), expected)


def test_refit_counts_the_rows_that_the_fit_used():
    data = frame("crossed_na")
    fit = lmer("y ~ x + (1 | a)", data, na_action="exclude")
    y = np.arange(fit.nobs) % 7.0
    ours = fit.refit(y)
    assert ours.nobs == fit.nobs < len(data)
    complete = data[["y", "x", "a"]].notna().all(axis=1)
    data.loc[complete, "y"] = y
    assert_same_fit(ours, lmer("y ~ x + (1 | a)", data, na_action="exclude"))
    np.testing.assert_array_equal(ours.fitted().notna(), complete)


def test_refit_does_not_look_at_the_response_again(fit):
    y = np.linspace(1.0, 2.0, 180) ** 2
    ours = fit.refit(y)
    objective, residuals = ours.objective, ours.residuals()
    y[:] = 0.0
    assert ours.refit_ml().refit(ours.getME("y")).nobs == 180
    pd.testing.assert_series_equal(ours.residuals(), residuals)
    assert ours.objective == objective
    # As its docstring says, update reads the data again.
    assert ours.update().objective == fit.objective


@pytest.mark.parametrize(
    ("y", "message"),
    [
        (np.ones(179), re.escape("shape (179,); expected (180,)")),
        (np.ones((179, 2)), re.escape("shape (179, 2)")),
        (np.r_[np.nan, np.ones(179)], "NA/NaN/Inf in the new response"),
        (np.r_[np.inf, np.ones(179)], "NA/NaN/Inf in the new response"),
        (["a"] * 180, "must be numeric"),
    ],
)
def test_bad_responses(fit, y, message):
    with pytest.raises(DataError, match=message):
        fit.refit(y)


# refit_ml


@pytest.mark.parametrize(
    ("formula", "data", "arguments"),
    [
        (SLEEP, "sleepstudy", {}),
        ("diameter ~ 1 + (1 | plate) + (1 | sample)", "Penicillin", {}),
        ("yw ~ x + offset(v) + (1 | a)", "crossed", {"weights": "w", "offset": "z"}),
        ("y ~ x + (1 | a)", "crossed_na", {"na_action": "exclude"}),
    ],
)
def test_refit_ml_is_the_fit_by_maximum_likelihood(formula, data, arguments):
    fit = lmer(formula, frame(data), **arguments)
    expected = lmer(formula, frame(data), REML=False, **arguments)
    assert_same_fit(fit.refit_ml(), expected)
    assert fit.REML
    assert fit.refit_ml().deviance <= fit.deviance
    assert expected.refit_ml() is expected


def test_refit_ml_of_dyestuff():
    # lme4 2.1-0, tests: test-lmer.
    fit = lmer("Yield ~ 1 + (1 | Batch)", frame("Dyestuff")).refit_ml()
    assert fit.deviance == pytest.approx(327.327059881135, rel=1e-12)
    assert fit.sigma == pytest.approx(49.5100999308089, rel=1e-6)


def test_a_rank_deficient_fit_is_refitted_with_the_columns_it_kept():
    data = frame("vector")
    with pytest.warns(DataWarning, match="x2"):
        fit = lmer("y ~ x + x2 + z + (1 | g)", data)
    with pytest.warns(DataWarning, match="x2"):
        ml, other = fit.refit_ml(), fit.refit(data["yup"])
    for again in (ml, other):
        assert list(again.fixef().index) == ["(Intercept)", "x", "z"]
        assert list(again.fixef(add_dropped=True).index) == ["(Intercept)", "x", "x2", "z"]
