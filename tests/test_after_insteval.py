"""What comes after a large fit, against R: InstEval, 73,421 rows in 2,972 x 1,128 crossed levels.

lme4's search ended some 1e-7 of theta from the optimum, which is what the tolerances allow for.
"""

import numpy as np
import pytest
from reference_data import frame, read_reference

from mixef import lmer

# Made by tests/reference/after_insteval.R: see "program" there for the versions.
IN_R = read_reference("after_insteval.json")


@pytest.fixture(scope="module")
def fit():
    return lmer(
        "y ~ service * lectage + studage + (1 | s) + (1 | d)", frame("InstEval"), REML=False
    )


def test_the_fit_is_that_of_lme4(fit):
    np.testing.assert_allclose(fit.theta, IN_R["theta"], rtol=2e-6)


@pytest.mark.parametrize(("name", "mean"), [("means", "emmean"), ("pairs", "estimate")])
def test_marginal_means(fit, name, mean):
    made = fit.emmeans("service", ddf=None) if name == "means" else fit.emmeans(
        "studage", ddf=None).pairs()  # fmt: skip
    ours, theirs = made.to_frame(), IN_R[name]
    np.testing.assert_allclose(ours["estimate"], theirs[mean], rtol=1e-6)
    np.testing.assert_allclose(ours["std_error"], theirs["SE"], rtol=1e-6)
    if name == "means":
        np.testing.assert_allclose(ours["conf_low"], theirs["asymp.LCL"], rtol=1e-6)
        np.testing.assert_allclose(ours["conf_high"], theirs["asymp.UCL"], rtol=1e-6)
    else:
        np.testing.assert_allclose(ours["p_value"], theirs["p.value"], rtol=1e-5)


def test_collinearity(fit):
    np.testing.assert_allclose(fit.vif().frame["GVIF"], IN_R["vif"]["GVIF"], rtol=1e-6)


def test_shares_of_the_variance(fit):
    r2, icc = fit.r2(), fit.icc()
    conditional, marginal = IN_R["r2"]
    assert (r2.conditional, r2.marginal) == pytest.approx((conditional, marginal), rel=1e-5)
    theirs = IN_R["icc"]
    assert icc.adjusted == pytest.approx(theirs["ICC_adjusted"], rel=1e-5)
    assert icc.unadjusted == pytest.approx(theirs["ICC_unadjusted"], rel=1e-5)


def test_leverages(fit):
    h = fit.hatvalues()
    np.testing.assert_allclose(h.iloc[IN_R["rows"]], IN_R["hat"], rtol=1e-5)
    # The trace of the hat matrix: columns that are independent, at least, and at most all of them.
    assert 4 < h.sum() < 4 + 2972 + 1128


def test_robust_errors_by_student_are_near_to_the_models(fit):
    """Ratings of one student are what the model says they are, nearly."""
    ratio = fit.with_vcov("CR2", cluster="s").vcov().to_numpy().diagonal()
    ratio = np.sqrt(ratio / fit.vcov().to_numpy().diagonal())
    assert (np.abs(np.log(ratio)) < 0.5).all()
