"""One model by every optimizer."""

import numpy as np
import pytest
from reference_data import case, frame

from mixef import GlmerControl, LmerControl, all_fit, glmer, lmer
from mixef.control import OPTIMIZERS
from mixef.errors import MixefWarning
from mixef.inference.refits.all_fit import TIED

AWAY = {"theta": [2.0, 0.5, 1.0]}


def sleep(**arguments):
    return lmer("Reaction ~ Days + (Days | Subject)", frame("sleepstudy"), **arguments)


def cbpp():
    formula = "cbind(incidence, size - incidence) ~ period + (1 | herd)"
    return glmer(formula, frame("cbpp"), "binomial")


@pytest.fixture(scope="module")
def of_sleep():
    return all_fit(sleep(), start=AWAY)


@pytest.fixture(scope="module")
def of_cbpp():
    return all_fit(cbpp())


def test_all_optimizers_reach_lme4s_optimum(of_sleep):
    summary = of_sleep.summary()
    assert list(of_sleep.models) == list(OPTIMIZERS)
    assert summary.which_OK.all()
    # Searches without derivatives stop at 1e-9 of the criterion, which is 1e-5 of theta.
    reference = case("lme4.json", "sleep_reml")
    np.testing.assert_allclose(summary.llik, reference["logLik"], rtol=0, atol=1e-6)
    np.testing.assert_allclose(summary.theta.loc["newton"], reference["theta"], rtol=1e-5)
    assert list(summary.sdcor) == [
        "sd_(Intercept)|Subject",
        "sd_Days|Subject",
        "cor_Days.(Intercept)|Subject",
        "sigma",
    ]
    fit = sleep()
    np.testing.assert_allclose(summary.fixef, np.tile(fit.beta, (5, 1)), rtol=1e-6)
    np.testing.assert_allclose(summary.theta, np.tile(fit.theta, (5, 1)), rtol=0, atol=1e-4)
    assert of_sleep.agree
    assert summary.verdict.startswith("All 5 optimizers agree: the criterion within ")


def test_frames_are_those_of_the_models(of_cbpp):
    summary = of_cbpp.summary()
    for name, model in of_cbpp.models.items():
        assert model.convergence.optimizer == name
        assert summary.llik[name] == model.loglik
        assert summary.feval[name] == model.convergence.n_evaluations
        np.testing.assert_array_equal(summary.fixef.loc[name], model.fixef())
        np.testing.assert_array_equal(summary.theta.loc[name], model.theta)
        assert summary.sdcor.loc[name, "sd_(Intercept)|herd"] == pytest.approx(model.theta[0])
    assert (summary.times > 0).all()
    assert len(of_cbpp) == 5
    assert of_cbpp["COBYLA"] is of_cbpp.models["COBYLA"]
    expected = case("lme4.json", "cbpp_laplace")["logLik"]
    # lme4 stops within 1e-6 of the optimum.
    np.testing.assert_allclose(summary.llik, expected, rtol=0, atol=2e-6)


def test_excess_and_distance_are_by_hand(of_cbpp):
    summary, best = of_cbpp.summary(), of_cbpp.models[of_cbpp.best]
    objectives = {name: model.objective for name, model in of_cbpp.models.items()}
    least = min(objectives.values())
    se = np.sqrt(np.diag(best.vcov()))
    for name, model in of_cbpp.models.items():
        excess = objectives[name] - least
        assert summary.excess[name] == (excess if excess > TIED else 0.0)
        apart = np.max(np.abs(model.beta - best.beta) / se)
        assert summary.distance[name] == pytest.approx(apart, rel=1e-12, abs=0)


def test_a_search_that_stops_early_is_found_out():
    fits = all_fit(sleep(), ["newton", "Nelder-Mead", "COBYLA"], start=AWAY, max_evaluations=12)
    summary = fits.summary()
    assert fits.best == "newton"
    assert not fits.agree
    assert summary.astray == ["Nelder-Mead", "COBYLA"]
    assert "Ends differ from newton, the lowest" in summary.verdict
    assert "Nelder-Mead by " in summary.verdict
    assert any("failed to converge" in m for m in summary.messages["Nelder-Mead"])
    assert summary.feval["Nelder-Mead"] == 12
    assert summary.to_frame().index[0] == "newton"


def test_the_start_is_where_it_is_said_to_be():
    fit = sleep()
    starts = {
        "usual": all_fit(fit, "L-BFGS-B"),
        "estimates": all_fit(fit, "L-BFGS-B", start_from_mle=True),
        "away": all_fit(fit, "L-BFGS-B", start=AWAY),
    }
    first = {key: fits.models["L-BFGS-B"].convergence.log[0] for key, fits in starts.items()}
    # In balanced data the moment estimates are those of REML.
    assert first["usual"].objective == pytest.approx(fit.objective, abs=1e-8)
    assert first["estimates"].objective == pytest.approx(fit.objective, abs=1e-8)
    assert first["away"].objective > fit.objective + 1
    unbalanced = lmer("Reaction ~ Days + (Days | Subject)", frame("sleepstudy").iloc[7:])
    usual = all_fit(unbalanced, "L-BFGS-B").models["L-BFGS-B"].convergence.log[0]
    warm = all_fit(unbalanced, "L-BFGS-B", start_from_mle=True).models["L-BFGS-B"].convergence
    assert usual.objective > unbalanced.objective + 1e-6
    assert warm.log[0].objective == pytest.approx(unbalanced.objective, abs=1e-8)


def test_an_optimizer_that_fails_is_kept_with_its_error():
    strict = GlmerControl(check_conv_grad="raise", optimizer="newton")
    fit = glmer("use ~ age + urban + (1 | district)", frame("Contraception"), "binomial",
                control=strict)  # fmt: skip
    fits = all_fit(fit, ["newton", "Powell"], max_evaluations=6)
    summary = fits.summary()
    assert summary.which_OK.to_dict() == {"newton": True, "Powell": False}
    assert list(fits.models) == ["newton"]
    assert summary.messages["Powell"][0].startswith("FitError: Model failed to converge")
    assert np.isnan(summary.llik["Powell"])
    assert summary.fixef.loc["Powell"].isna().all()
    assert summary.verdict == "Only newton came to an end. Powell failed: see messages."
    assert "failed" in str(fits)
    none = all_fit(fit, "Powell", max_evaluations=6)
    assert none.best == ""
    assert none.summary().verdict == "No optimizer came to an end: see messages."
    assert "Powell" in str(none)


@pytest.mark.filterwarnings("error")
def test_singular_fits_are_quiet_and_said_so():
    with pytest.warns(MixefWarning, match="singular"):
        fit = lmer("Yield ~ 1 + (1 | Batch)", frame("Dyestuff2"))
    fits = all_fit(fit)
    assert fits.agree
    assert all("boundary (singular) fit" in m[0] for m in fits.summary().messages.values())


def test_several_processes_give_the_same():
    fit = sleep(control=LmerControl(check_nlev_gtreq_5="raise"))
    names = ["newton", "L-BFGS-B"]
    one, two = all_fit(fit, names, start=AWAY), all_fit(fit, names, start=AWAY, n_jobs=2)
    np.testing.assert_array_equal(one.summary().theta, two.summary().theta)
    assert two.models["newton"]._fit.control.check_nlev_gtreq_5 == "raise"


def test_families_with_a_scale_or_a_shape():
    gamma = glmer("Reaction ~ Days + (1 | Subject)", frame("sleepstudy"), "Gamma(link='log')")
    fits = all_fit(gamma, ["newton", "L-BFGS-B"])
    assert fits.agree
    np.testing.assert_allclose(fits.summary().sdcor["sigma"], gamma.sigma, rtol=1e-4)
    counts = glmer("TICKS ~ YEAR + (1 | LOCATION)", frame("grouseticks"), "nbinom2")
    fits = all_fit(counts, ["newton", "L-BFGS-B"])
    np.testing.assert_allclose(fits.summary().sdcor["shape"], counts.shape, rtol=1e-4)


@pytest.mark.parametrize(
    ("arguments", "error", "message"),
    [
        ({"optimizers": ["newton", "bobyqa"]}, ValueError, "expected one of"),
        ({"optimizers": []}, ValueError, "expected some of"),
        ({"start_from_mle": "yes"}, TypeError, "start_from_mle is 'yes'"),
        ({"start_from_mle": True, "start": AWAY}, ValueError, "both given"),
        ({"max_evaluations": 0}, ValueError, "max_evaluations is 0"),
        ({"n_jobs": 0}, ValueError, "n_jobs is 0"),
    ],
)
def test_wrong_arguments_are_refused(arguments, error, message):
    with pytest.raises(error, match=message):
        all_fit(sleep(), **arguments)


def test_what_is_no_model_is_refused():
    with pytest.raises(TypeError, match="fit is 3; expected a model"):
        all_fit(3)


def test_what_is_printed(of_sleep):
    text = str(of_sleep)
    assert text.startswith("Optimizers of Reaction ~ Days + (Days | Subject)")
    assert text.count("1743.6283") == 5
    assert repr(of_sleep) == text
    assert "<table" in of_sleep._repr_html_()
    assert str(of_sleep.summary()) == text
