"""Confidence intervals by their three methods."""

import warnings

import numpy as np
import pytest
from reference_data import frame

import mixef
from mixef import glmer, lmer, load_dataset
from mixef.control import LmerControl

QUIET = LmerControl(check_conv_singular="ignore")
Z95 = 1.959963984540054
SLEEP = "Reaction ~ Days + (Days | Subject)"


@pytest.fixture(scope="module")
def sleep():
    return lmer(SLEEP, load_dataset("sleepstudy"), REML=False)


@pytest.fixture(scope="module")
def herds():
    formula = "cbind(incidence, size - incidence) ~ period + (1 | herd)"
    return glmer(formula, frame("cbpp"), "binomial")


@pytest.mark.parametrize("level", [0.5, 0.9, 0.99])
def test_profile_limits_are_those_of_the_profile(sleep, level):
    """The shortcut goes to the level alone; the profile interpolates on its way."""
    short, long = sleep.confint(level=level), sleep.profile(alphamax=0.005).confint(level)
    width = (short.iloc[:, 1] - short.iloc[:, 0]).to_numpy()[:, None]
    assert np.abs((short - long).to_numpy() / width).max() < 2e-5
    assert list(short.columns) == list(long.columns)
    for name, (low, high) in short.iterrows():
        zeta = sleep.profile(name, alphamax=0.005).zeta(name, [low, high])
        assert abs(zeta[0]) == pytest.approx(abs(zeta[1]), abs=1e-4)


def test_rows_and_columns(sleep):
    names = ["sd_(Intercept)|Subject", "sd_Days|Subject", "cor_Days.(Intercept)|Subject"]
    for method in ("profile", "wald"):
        limits = sleep.confint(method=method)
        assert list(limits.index) == [*names, "sigma", "(Intercept)", "Days"]
        assert list(limits.columns) == ["2.5 %", "97.5 %"]
        assert (limits["2.5 %"] < limits["97.5 %"]).all()
        signs = sleep.confint(method=method, signames=True, level=0.999)
        assert list(signs.index[:4]) == [".sig01", ".sig02", ".sig03", ".sigma"]
        assert list(signs.columns) == ["0.05 %", "99.95 %"]
    assert list(sleep.confint(["Days", "sd_*"], method="wald").index) == [*names[:2], "Days"]


def test_wald_limits_of_coefficients_are_those_of_lme4():
    """Rows 17 and 18 of the reference numbers: lme4's tests of confint, REML."""
    data = load_dataset("sleepstudy")
    days = lmer(SLEEP, data).confint("Days", method="wald").iloc[0]
    # printed to six decimals from a fit that is within 1e-5 standard errors of ours
    assert days.to_numpy() == pytest.approx([7.437592, 13.496980], abs=3e-5)
    fit = lmer("Reaction ~ Days + (1 | Subject)", data)
    limits = fit.confint("beta_", method="wald").to_numpy()
    expected = [[232.301892, 270.508318], [8.891041, 12.043531]]
    assert limits == pytest.approx(np.array(expected), abs=3e-5)


def check_curvature(fit, tolerance):
    """Wald widths are the inverse slopes of zeta at the estimate, for fits by ML."""
    limits, profile = fit.confint(method="wald"), fit.profile()
    for curve, (low, high) in zip(profile.curves, limits.to_numpy(), strict=True):
        origin = int(np.argmin(np.abs(curve.zeta)))
        at, se = curve.at[origin], 1.0 / curve.slope[origin]
        if curve.kind == "sd":  # the profile's coordinate is the SD, Wald's is its log
            half = Z95 * se / at
            expected = at * np.exp([-half, half])
        elif curve.kind in ("sigma", "shape"):
            expected = np.exp(at + np.array([-Z95, Z95]) * se)
        elif curve.kind == "cor":  # d arcsin r = dr / sqrt(1 - r^2), d atanh r = dr / (1 - r^2)
            expected = np.tanh(np.arctanh(np.sin(at)) + np.array([-Z95, Z95]) * se / np.cos(at))
        else:
            continue
        width = expected[1] - expected[0]
        assert [low, high] == pytest.approx(expected, abs=tolerance * width), curve.name


@pytest.mark.parametrize(
    "formula",
    [SLEEP, "Reaction ~ Days + (Days || Subject)", "Reaction ~ 1 + diag(Days | Subject, hom=TRUE)"],
)
def test_wald_of_covariances_is_the_curvature_of_the_profile(formula):
    # the slope at the estimate comes from neighbours a third of a standard error away
    check_curvature(lmer(formula, load_dataset("sleepstudy"), REML=False), 1e-4)


def test_wald_of_generalized_models(herds):
    check_curvature(herds, 1e-4)
    rng = np.random.default_rng(1)
    data = {"g": np.repeat(np.arange(20), 10).astype(str), "x": rng.standard_normal(200)}
    mu = np.exp(0.5 + 0.3 * data["x"] + 0.4 * np.repeat(rng.standard_normal(20), 10))
    data |= {"time": rng.gamma(3, mu / 3), "count": rng.negative_binomial(2, 2 / (2 + mu))}
    check_curvature(glmer("time ~ x + (1 | g)", data, mixef.Gamma("log")), 1e-4)
    check_curvature(mixef.glmer_nb("count ~ x + (1 | g)", data), 1e-4)
    table = herds.coef_table()
    limits = herds.confint("beta_", method="wald")
    half = Z95 * table["Std. Error"]
    assert limits["97.5 %"].to_numpy() == pytest.approx(table["Estimate"] + half, rel=1e-12)


def test_wald_at_a_variance_of_zero():
    data = load_dataset("Dyestuff2")
    fit = lmer("Yield ~ 1 + (1 | Batch)", data, REML=False, control=QUIET)
    low, high = fit.confint(method="wald").iloc[0]
    assert low == 0.0
    curve = fit.profile("sd_*").curves[0]
    # zeta of a boundary estimate bends: its slope there is known to a few digits
    assert high == pytest.approx(Z95 / curve.slope[0], rel=2e-3)


def test_wald_without_a_correlation():
    """Where standard deviations are zero or a correlation is one, everything is possible."""
    data = load_dataset("sleepstudy")
    days = np.column_stack([np.ones(10), np.arange(10.0)])
    noise = np.random.default_rng(0).standard_normal((18, 10))
    noise -= noise @ days @ np.linalg.inv(days.T @ days) @ days.T
    data = data.assign(Reaction=250 + 10 * data["Days"] + 20 * noise.ravel())
    fit = lmer(SLEEP, data, REML=False, control=QUIET)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        limits = fit.confint(method="wald")
    assert limits.iloc[2].tolist() == [-1.0, 1.0]
    assert (limits.iloc[:2, 0] == 0.0).all()
    assert np.isfinite(limits.to_numpy()).all()
    assert (limits.iloc[:2, 1] > 0.0).all()


def test_units_of_wald_limits():
    data = load_dataset("sleepstudy")
    limits = lmer(SLEEP, data).confint(method="wald").to_numpy()
    changed = data.assign(Days=1e3 * data["Days"], Reaction=1e-2 * data["Reaction"])
    other = lmer(SLEEP, changed).confint(method="wald").to_numpy()
    unit = np.array([1e-2, 1e-5, 1.0, 1e-2, 1e-2, 1e-5])
    assert other == pytest.approx(limits * unit[:, None], rel=1e-7)


def test_wald_of_nAGQ_0(herds):
    formula = "cbind(incidence, size - incidence) ~ period + (1 | herd)"
    fit = glmer(formula, frame("cbpp"), "binomial", nAGQ=0)
    limits = fit.confint(method="wald")
    assert np.isfinite(limits.to_numpy()).all()
    assert limits.to_numpy() == pytest.approx(
        herds.confint(method="wald").to_numpy(), abs=0.05
    )  # the approximations differ by less than the intervals' last digits that matter


@pytest.mark.parametrize("boot_type", ["perc", "basic", "norm"])
def test_bootstrap_limits(sleep, boot_type):
    one = sleep.confint(method="boot", n=60, seed=1, boot_type=boot_type)
    assert list(one.index) == list(sleep.confint(method="wald").index)
    again = sleep.confint("sigma", method="boot", n=60, seed=1, boot_type=boot_type)
    assert (again == one.loc[["sigma"]]).all(axis=None)
    wald = sleep.confint(method="wald")
    # 60 replicates know a quantile to about half a standard error
    width = (wald.iloc[:, 1] - wald.iloc[:, 0]).to_numpy()
    assert (np.abs((one - wald).to_numpy()) < 0.5 * width[:, None]).all()


def test_bootstrap_limits_of_a_dispersion_are_of_its_root():
    rng = np.random.default_rng(1)
    data = {"g": np.repeat(np.arange(20), 10).astype(str)}
    mu = np.exp(0.5 + 0.4 * np.repeat(rng.standard_normal(20), 10))
    data["time"] = rng.gamma(3, mu / 3)
    fit = glmer("time ~ 1 + (1 | g)", data, mixef.Gamma("log"))
    low, high = fit.confint("sigma", method="boot", n=40, seed=1).iloc[0]
    assert low < fit.sigma < high
    assert high - low < 0.3


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"method": "exact"}, "method is 'exact'; expected one of"),
        ({"level": 95}, "level is 95; expected a number between 0 and 1"),
        ({"level": True}, "level is True"),
        ({"parm": "days"}, "no parameter 'days'"),
        ({"method": "wald", "boot_type": "bca"}, "boot_type is 'bca'"),
        ({"method": "wald", "n": "many"}, "n is 'many'"),
        ({"method": "wald", "seed": "x"}, "seed is 'x'"),
    ],
)
def test_arguments_that_mean_nothing(sleep, arguments, message):
    with pytest.raises(ValueError, match=message):
        sleep.confint(**arguments)
