"""Refits of many responses: against refits one by one, against lme4, and what users hold."""

import pickle
import warnings

import numpy as np
import pandas as pd
import pytest
from reference_data import cases, frame
from simulated import crossed
from test_gradient import FORMULAS, QUIET, WEIGHTED

from mixef import GlmerControl, LmerControl, glmer, lmer
from mixef.errors import DataError, FitError
from mixef.estimation.many import model as batch_model
from mixef.estimation.many.fits import BatchFitter, OneByOne
from mixef.inference.components import component_values, components
from mixef.inference.refits.many import RefitFitter, _fitter, refit_many
from mixef.inference.refits.refits import Refits

SLEEP = "Reaction ~ Days + (Days | Subject)"
HERD = "cbind(incidence, size - incidence) ~ period + (1 | herd)"
DATA = {
    "sleepstudy": SLEEP,
    "cake": "angle ~ recipe * temperature + (1 | recipe:replicate)",
    "Penicillin": "diameter ~ 1 + (1 | plate) + (1 | sample)",
    "Pastes": "strength ~ 1 + (1 | batch/cask)",
    "Dyestuff2": "Yield ~ 1 + (1 | Batch)",
}
ROUTES = {"batch": BatchFitter, "one by one": OneByOne, "whole refits": RefitFitter}


@pytest.fixture(scope="module")
def sleep():
    return lmer(SLEEP, frame("sleepstudy"))


def drawn(model, m, seed=1):
    """Responses of a fitted linear model (n, m), with weights and offset."""
    fit, e, rng = model._fit, model._fit.estimates, np.random.default_rng(seed)
    w = np.ones(fit.frame.n) if fit.frame.weights is None else fit.frame.weights
    Y = (fit.X @ e.beta)[:, None] + e.sigma * rng.normal(size=(len(w), m)) / np.sqrt(w)[:, None]
    if fit.frame.offset is not None:
        Y += fit.frame.offset[:, None]
    for term, lam in zip(fit.terms, e.lams, strict=True):
        b = e.sigma * rng.normal(size=(m, term.n_levels, len(lam))) @ lam.T
        Y += np.einsum("ns,mns->nm", term.z, b[:, term.grouping.codes])
    return Y


def take_route(route, monkeypatch):
    if route != "batch":
        monkeypatch.setattr(batch_model, "MOST_OPERATIONS", 0)
    if route == "whole refits":
        # What a linear model gets where its optimizer is one of SciPy's.
        monkeypatch.setattr(
            "mixef.inference.refits.many._fitter", lambda fit, start: RefitFitter(fit, start)
        )


def assert_same_fits(model, Y, many):
    """Every fit is as good as that of its response alone, and the same where they are equal."""
    for j, y in enumerate(Y.T):
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            one = model.refit(y)
        # 1e-9 relative, or a better optimum.
        assert many.objective[j] <= one.objective + 1e-9 * abs(one.objective)
        assert many.converged[j]
        if many.objective[j] < one.objective - 1e-7:
            continue
        scale = np.abs(np.concatenate([lam.ravel() for lam in one._fit.estimates.lams])).max()
        assert many.sigma[j] == pytest.approx(one.sigma, rel=1e-5)
        np.testing.assert_allclose(many.beta[j], one.beta, rtol=1e-5, atol=1e-5 * one.sigma)
        for lam, expected in zip(many.lams, one._fit.estimates.lams, strict=True):
            # The optimum is flat to 1e-6 in a variance, the square of a template.
            gap = lam[j] @ lam[j].T - expected @ expected.T
            assert np.abs(gap).max() <= 1e-5 * max(scale, 1.0) ** 2


@pytest.mark.parametrize("REML", [True, False], ids=["REML", "ML"])
@pytest.mark.parametrize("name", FORMULAS)
def test_every_structure(name, REML):
    weights = "w" if name in WEIGHTED else None
    model = lmer(FORMULAS[name], crossed(), REML=REML, weights=weights, control=QUIET)
    Y = drawn(model, 8)
    assert_same_fits(model, Y, refit_many(model._fit, Y))


@pytest.mark.parametrize("route", ROUTES)
@pytest.mark.parametrize("name", DATA)
def test_every_route(name, route, monkeypatch):
    model = lmer(DATA[name], frame(name), control=QUIET)
    Y = drawn(model, 12)
    take_route(route, monkeypatch)
    assert route == "whole refits" or isinstance(
        _fitter(model._fit, model._fit.warm_start()), ROUTES[route]
    )
    many = refit_many(model._fit, Y)
    monkeypatch.undo()
    assert_same_fits(model, Y, many)
    expected = [lmer(DATA[name], frame(name), control=QUIET).refit(y).is_singular() for y in Y.T]
    assert many.singular.tolist() == expected
    assert many.singular.any() or name not in ("Dyestuff2", "Pastes")  # these often are


@pytest.mark.parametrize("case", cases("refit_many.json"), ids=lambda case: case["id"])
def test_lme4(case):
    model = lmer(
        case["formula"], frame(case["data"]), REML=case["REML"], weights=case["weights"],
        control=QUIET,
    )  # fmt: skip
    fits = case["fits"]
    y = model._fit.frame.y
    many = refit_many(model._fit, np.column_stack([np.roll(y, f["shift"]) for f in fits]))
    for j, f in enumerate(fits):
        # lme4's optimum is polished to 1e-8 in theta; a variance at zero it may leave at 1e-4.
        assert many.objective[j] <= f["objective"] + 1e-8 * abs(f["objective"])
        assert many.objective[j] == pytest.approx(f["objective"], rel=1e-7)
        np.testing.assert_allclose(many.beta[j], f["beta"], rtol=1e-5, atol=1e-5 * f["sigma"])
        assert many.sigma[j] == pytest.approx(f["sigma"], rel=1e-5)
        sds = np.array([part.kind == "sd" for part in components(model._fit.terms)])
        np.testing.assert_allclose(
            many.components[j, sds], f["sd"], rtol=1e-4, atol=2e-4 * f["sigma"]
        )
        assert many.singular[j] == f["singular"]


def test_weights_and_offset():
    data = crossed().assign(o=lambda d: 3 * d["z"])
    model = lmer("y ~ x + (x | g)", data, weights="w", offset="o", control=QUIET)
    Y = drawn(model, 10)
    assert_same_fits(model, Y, refit_many(model._fit, Y))
    without = lmer("y ~ x + (x | g)", data, control=QUIET)
    assert (
        abs(refit_many(without._fit, Y).objective - refit_many(model._fit, Y).objective).min() > 1
    )


@pytest.mark.parametrize("route", ROUTES)
def test_a_response_that_fails_fails_alone(route, sleep, monkeypatch):
    Y = drawn(sleep, 7)
    fit, rng = sleep._fit, np.random.default_rng(1)
    good = [0, 6]
    Y[:, 1] = 3.0
    Y[:, 2] = fit.X @ [1.0, 2.0]
    Y[5, 3] = np.nan
    term = fit.terms[0]
    Y[:, 4] = np.einsum("ns,ns->n", term.z, rng.normal(size=(18, 2))[term.grouping.codes])
    Y[:, 5] *= 1e200
    take_route(route, monkeypatch)
    many = refit_many(fit, Y)
    assert sorted(many.failures) == [1, 2, 3, 4, 5]
    assert "constant" in many.failures[1]
    assert "fit it exactly" in many.failures[2]
    assert "response exactly" in many.failures[4]
    for array in (many.beta, many.par, many.sigma, many.objective, *many.lams, many.components):
        assert np.isnan(array[[1, 2, 3, 4, 5]]).all()
        assert np.isfinite(array[good]).all()
    assert not many.converged[[1, 2, 3, 4, 5]].any()
    assert many.converged[good].all()
    monkeypatch.undo()
    alone = refit_many(fit, Y[:, good])
    np.testing.assert_allclose(many.objective[good], alone.objective, rtol=1e-9)


@pytest.mark.parametrize("route", ["batch", "one by one"])
def test_processes_do_not_change_the_result(route, sleep, monkeypatch):
    model = sleep if route == "batch" else lmer(DATA["Penicillin"], frame("Penicillin"))
    if route == "one by one":
        fitter = OneByOne(model._fit, model._fit.problem, model._fit.scaled_par)
        monkeypatch.setattr("mixef.inference.refits.many.batch_fitter", lambda fit, start: None)
        assert pickle.loads(pickle.dumps(fitter)).start.tolist() == fitter.start.tolist()
    Y = drawn(model, 300 if route == "batch" else 6)
    one, two = refit_many(model._fit, Y), refit_many(model._fit, Y, n_jobs=2)
    for name in ("objective", "beta", "par", "sigma"):
        np.testing.assert_array_equal(getattr(one, name), getattr(two, name))


def test_the_fit_is_left_as_it_was(sleep, monkeypatch):
    before = sleep._fit.criterion().estimates(sleep._fit.scaled_par)
    value = before.objective, before.beta.copy(), before.sigma
    for route in ROUTES:
        with monkeypatch.context() as patch:
            take_route(route, patch)
            refit_many(sleep._fit, drawn(sleep, 3))
    after = sleep._fit.criterion().estimates(sleep._fit.scaled_par)
    assert (after.objective, after.sigma) == (value[0], value[2])
    np.testing.assert_array_equal(after.beta, value[1])


def test_start(sleep):
    Y = drawn(sleep, 5)
    usual, elsewhere = refit_many(sleep._fit, Y), refit_many(sleep._fit, Y, start=[3.0, 0.0, 2.0])
    np.testing.assert_allclose(elsewhere.objective, usual.objective, rtol=1e-10)
    assert (elsewhere.par != usual.par).any()
    with pytest.raises(ValueError, match="start is 'zero'"):
        refit_many(sleep._fit, Y, start="zero")
    with pytest.raises(DataError, match="expected 3 finite numbers"):
        refit_many(sleep._fit, Y, start=[1.0])


def test_max_evaluations_reach_the_searches():
    control = LmerControl(max_evaluations=2, check_conv_grad="ignore")
    model = lmer(SLEEP, frame("sleepstudy"), control=control, start=[3.0, 0.0, 2.0])
    assert not refit_many(model._fit, drawn(model, 4), start=[3.0, 0.0, 2.0]).converged.any()


def test_the_frame_has_the_natural_parameters(sleep):
    many = refit_many(sleep._fit, drawn(sleep, 3))
    names = [part.name for part in components(sleep._fit.terms)]
    table = many.to_frame()
    assert list(table) == [*names, "sigma", "(Intercept)", "Days"]
    whole = many.fit(1)
    expected = component_values(
        components(whole.terms), whole.estimates.lams, whole.estimates.sigma**2
    )
    np.testing.assert_allclose(table.loc[1, names].to_numpy(dtype=float), expected, rtol=1e-5)
    assert whole.estimates.objective == pytest.approx(many.objective[1], rel=1e-10)
    with pytest.raises(IndexError, match="there are 3 responses"):
        many.fit(3)


def test_the_arrays_are_read_only(sleep):
    many = refit_many(sleep._fit, drawn(sleep, 2))
    for array in (many.beta, many.par, many.sigma, many.objective, many.responses, *many.lams):
        with pytest.raises(ValueError, match="read-only"):
            array[...] = 0


@pytest.mark.parametrize(
    "Y", [np.ones(180), np.ones((179, 2)), np.ones((180, 0)), [["a"]] * 180], ids=range(4)
)
def test_bad_matrices(sleep, Y):
    with pytest.raises(DataError, match=r"expected \(180, m\)|not numeric"):
        refit_many(sleep._fit, Y)


# Generalized models

GENERALIZED = {
    "counts": (HERD, "cbpp", "binomial"),
    "factor": ("use ~ age + (1 | district)", "Contraception", "binomial"),
    "Poisson": ("TICKS ~ YEAR + (1 | BROOD)", "grouseticks", "poisson"),
    "shape": ("TICKS ~ YEAR + (1 | BROOD)", "grouseticks", "nbinom2"),
}


@pytest.mark.parametrize("name", GENERALIZED)
def test_generalized_models(name):
    formula, data, family = GENERALIZED[name]
    control = GlmerControl(check_conv_singular="ignore", check_conv_hess="ignore")
    model = glmer(formula, frame(data), family, control=control)
    simulated = model.simulate(2, seed=4)
    refits = model.refit(simulated)
    assert isinstance(refits, Refits)
    assert list(refits.to_frame().index) == ["sim_1", "sim_2"]
    for j, column in enumerate(["sim_1", "sim_2"]):
        one = model.refit(simulated[column])
        # Both stop within 1e-6 of the optimum, from different starts.
        assert refits.objective.iloc[j] == pytest.approx(one.objective, abs=1e-5)
        np.testing.assert_allclose(refits.fixef().iloc[j], one.beta, rtol=0, atol=1e-3)
        assert refits[j].objective == pytest.approx(one.objective, abs=1e-5)
    assert ("shape" in refits.to_frame()) == (name == "shape")


def test_counts_have_the_trials_of_the_fit():
    model = glmer(HERD, frame("cbpp"), "binomial")
    y = model._fit.frame.y
    stacked = np.stack([y, y], axis=1)
    assert len(model.refit(stacked)) == 2
    np.testing.assert_allclose(model.refit(stacked).fixef().iloc[1], model.beta, atol=1e-4)
    stacked[3, 1, 0] += 1
    with pytest.raises(DataError, match="response 1 has 6 trials in row 3"):
        model.refit(stacked)
    with pytest.raises(DataError, match=r"expected \(56, m, 2\)"):
        model.refit(np.ones((56, 2, 3)))


# What a user holds


def test_refit_of_a_matrix(sleep):
    Y = drawn(sleep, 4)
    refits = sleep.refit(Y)
    assert isinstance(refits, Refits)
    assert len(refits) == 4
    assert type(refits[2]) is type(sleep)
    assert [m.nobs for m in refits] == [180] * 4
    np.testing.assert_array_equal(refits[2].getME("y"), Y[:, 2])
    assert refits[2].objective == pytest.approx(refits.objective[2], rel=1e-10)
    assert refits[-1].objective == pytest.approx(refits.objective[3], rel=1e-10)
    named = sleep.refit(pd.DataFrame(Y, columns=list("abcd")))
    assert list(named.fixef().index) == list("abcd")
    np.testing.assert_array_equal(named.fixef().to_numpy(), refits.fixef().to_numpy())
    table = named.fixef()
    table.iloc[:, :] = 0.0
    assert named.fixef().to_numpy().all()


def test_refits_print_what_ended_how(sleep):
    Y = drawn(sleep, 5)
    Y[:, 1] = 2.0
    refits = sleep.refit(pd.DataFrame(Y, columns=list("abcde")))
    text = str(refits)
    assert text.splitlines()[0].startswith(f"5 refits of {SLEEP}: ")
    assert "1 failed" in text
    assert "failed (1): the response leaves nothing to explain" in text
    assert "sd_Days|Subject" in text
    assert repr(refits) == text
    assert "<table" in refits._repr_html_()
    assert "Median" in refits._repr_html_()
    assert refits.failures.index.tolist() == ["b"]
    assert refits.converged.tolist() == [True, False, True, True, True]
    frame_ = refits.to_frame()
    np.testing.assert_allclose(refits.summary()["Mean"], frame_.drop(index="b").mean())
    with pytest.raises((DataError, FitError)):
        refits[1]


def test_missing_values_in_a_matrix(sleep):
    Y = pd.DataFrame(drawn(sleep, 3), columns=list("abc"))
    Y.iloc[7, 1] = np.nan
    with pytest.raises(DataError, match="NA/NaN/Inf in the new response b"):
        sleep.refit(Y)
    with pytest.raises(DataError, match="not numeric"):
        sleep.refit([["a", "b"]] * 180)
    with pytest.raises(DataError, match=r"shape \(180, 0\)"):
        sleep.refit(np.ones((180, 0)))


@pytest.mark.slow
def test_estimates_of_simulated_responses_are_unbiased(sleep):
    """Fixed effects and sigma^2 by REML are unbiased in a balanced model: within 4 errors."""
    table = sleep.refit(sleep.simulate(4000, seed=11)).to_frame()
    for name, value in [*sleep.fixef().items()]:
        error = table[name].std() / np.sqrt(len(table))
        assert abs(table[name].mean() - value) < 4 * error
        # Their spread is the standard error of the fit.
        se = np.sqrt(sleep.vcov().loc[name, name])
        assert table[name].std() == pytest.approx(se, rel=4 / np.sqrt(2 * len(table)))
