"""``(f || g)`` is ``diag(f | g)``, one term without correlations, as in glmmTMB (double_bar.R)."""

import numpy as np
import pytest
from reference_data import frame, read_reference

from mixef import glmer, lmer, load_dataset

FROZEN = read_reference("double_bar.json")
TERMS = {
    "cake": "angle ~ temp + {}(recipe {} replicate)",
    "cake_ml": "angle ~ temp + {}(recipe {} replicate)",
    "machines": "score ~ Machine + {}(0 + Machine {} Worker)",
}


def fitted(name, tag, bar):
    data = frame("Machines" if name == "machines" else "cake")
    return lmer(TERMS[name].format(tag, bar), data, not name.endswith("_ml"))


@pytest.mark.parametrize("name", TERMS)
def test_the_fit_is_that_of_glmmtmb(name):
    expected = FROZEN[name]
    for fit in (fitted(name, "", "||"), fitted(name, "diag", "|")):
        assert fit.npar == expected["npar"]
        # glmmTMB's search stops within 1e-6 of the optimum here, and estimates within 1e-4.
        assert fit.loglik == pytest.approx(expected["logLik"], abs=1e-6)
        assert fit.loglik >= expected["logLik"] - 1e-9
        np.testing.assert_allclose(fit.beta, expected["beta"], rtol=1e-4)
        (sd,) = expected["sd"].values()
        components = fit.VarCorr().to_frame()
        assert components["var2"].isna().all()
        np.testing.assert_allclose(components["sdcor"], [*sd, expected["sigma"]], rtol=1e-4)


def test_both_ways_to_write_it_are_one():
    bars, tagged = fitted("cake", "", "||"), fitted("cake", "diag", "|")
    assert bars.objective == tagged.objective
    assert list(bars.getME("theta").index) == list(tagged.getME("theta").index)
    assert str(bars.VarCorr()) == str(tagged.VarCorr())
    nested = lmer("angle ~ temp + (temp || replicate/recipe)", frame("cake"))
    assert [term.label for term in nested._fit.terms] == [
        "temp | recipe:replicate",
        "temp | replicate",
    ]


def test_numbers_alone_give_the_same_criterion_as_the_split():
    data = frame("sleepstudy")
    whole = lmer("Reaction ~ Days + (Days || Subject)", data)
    split = lmer("Reaction ~ Days + (1 | Subject) + (0 + Days | Subject)", data)
    assert whole.objective == pytest.approx(split.objective, rel=1e-12)
    np.testing.assert_allclose(whole.theta, [split.theta[0], 0.0, split.theta[1]], rtol=1e-6)


def test_generalized_models_too():
    data = load_dataset("Contraception")
    bars = glmer("use ~ age + (urban || district)", data, "binomial")
    tagged = glmer("use ~ age + diag(urban | district)", data, "binomial")
    assert bars.loglik == tagged.loglik
    assert bars.npar == 4
