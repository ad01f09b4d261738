"""The names ``.sig01``, ... of covariance parameters: numbered and ordered as lme4 does."""

import warnings

import numpy as np
import pytest
from reference_data import frame, read_reference

from mixef import lmer, load_dataset

CASES = read_reference("signames.json")["cases"]
SLEEP = "Reaction ~ Days + (Days | Subject)"


def fit_of(case):
    data = load_dataset(case["data"])
    if case["data"] == "cake":
        data["block"] = data["replicate"].astype(int) % 5
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # singular, as lme4's are
        return lmer(case["formula"], data, REML=False)


@pytest.mark.parametrize("key", CASES)
def test_numbers_of_parameters_are_lme4s(key):
    """Each number stands for the parameter that lme4 gives it, in lme4's order."""
    case = CASES[key]
    fit = fit_of(case)
    named, signed = fit.confint(method="wald"), fit.confint(method="wald", signames=True)
    assert list(signed.index) == case["signs"]
    assert set(named.index) == set(case["names"])
    np.testing.assert_array_equal(signed.to_numpy(), named.loc[case["names"]].to_numpy())


def test_profile_intervals_stand_under_lme4s_names():
    """To 5e-5 of their widths: lme4 interpolates profiles of an optimum that is good to 1e-5."""
    case = CASES["slope"]
    fit = fit_of(case)
    limits = fit.confint(signames=True)
    assert list(limits.index) == case["signs"]
    width = np.subtract(case["upper"], case["lower"])
    assert (np.abs(limits.iloc[:, 0] - case["lower"]) / width).max() < 5e-5
    assert (np.abs(limits.iloc[:, 1] - case["upper"]) / width).max() < 5e-5


def test_a_profile_with_these_names_is_the_other_in_another_order():
    fit = lmer(SLEEP, frame("sleepstudy"), REML=False)
    named = fit.profile(["sd_Days|Subject", "Days"], delta_cutoff=0.9)
    signed = fit.profile([".sig03", "Days"], delta_cutoff=0.9, signames=True)
    signs = [".sig01", ".sig02", ".sig03", ".sigma", "(Intercept)", "Days"]
    names = ["sd_(Intercept)|Subject", "cor_Days.(Intercept)|Subject", "sd_Days|Subject", "sigma",
             "(Intercept)", "Days"]  # fmt: skip
    assert list(signed.to_frame().columns[3:]) == signs
    assert list(signed.to_frame()["param"].unique()) == [".sig03", "Days"]
    np.testing.assert_array_equal(
        signed.to_frame()[signs].to_numpy(), named.to_frame()[names].to_numpy()
    )
    np.testing.assert_array_equal(signed.confint().to_numpy(), named.confint().to_numpy())
    assert list(signed.variance().to_frame().columns[3:6]) == ["(.sig01)^2", ".sig02", "(.sig03)^2"]


def test_bootstrap_intervals_have_them_too():
    fit = lmer(SLEEP, frame("sleepstudy"), REML=False)
    options = {"method": "boot", "n": 20, "seed": 1}
    named, signed = fit.confint(**options), fit.confint(signames=True, **options)
    assert list(signed.index[:4]) == [".sig01", ".sig02", ".sig03", ".sigma"]
    np.testing.assert_array_equal(
        signed.loc[".sig02"], named.loc["cor_Days.(Intercept)|Subject"]
    )  # fmt: skip


def test_structured_terms_have_a_name_for_each_parameter_shown():
    """Uncorrelated columns have no correlations between their standard deviations."""
    data = frame("sleepstudy").assign(f=lambda d: (d["Days"] // 4).astype(str))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        fit = lmer("Reaction ~ 1 + diag(0 + f | Subject) + (Days | Subject)", data)
    named, signed = fit.confint(method="wald"), fit.confint(method="wald", signames=True)
    assert list(signed.index[:7]) == [*(f".sig{i + 1:02d}" for i in range(6)), ".sigma"]
    order = [0, 1, 2, 3, 5, 4, 6, 7]
    np.testing.assert_array_equal(signed.to_numpy(), named.iloc[order].to_numpy())
