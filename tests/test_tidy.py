"""Frames after broom: numbers of broom.mixed (tables.json), and our routes against each other."""

from functools import cache

import numpy as np
import pandas as pd
import pytest
from fit_at_theta import at_parameters, at_theta
from reference_data import read_reference

import mixef
from mixef import glmer, lmer, load_dataset

REFERENCE = read_reference("tables.json")
FORMULAS = {
    "sleepstudy": "Reaction ~ Days + (Days | Subject)",
    "cake": "angle ~ recipe * temperature + (1 | recipe:replicate)",
    "cbpp": "cbind(incidence, size - incidence) ~ period + (1 | herd)",
    "grouseticks": "TICKS ~ YEAR + height + (1 | BROOD) + (1 | LOCATION)",
}
NAMES = {"std.error": "std_error", "p.value": "p_value", "conf.low": "conf_low",
         "conf.high": "conf_high", "df.residual": "df_residual"}  # fmt: skip
QUIET = mixef.LmerControl(check_conv_singular="ignore")
every_fit = pytest.mark.parametrize("name", FORMULAS)
# At the parameters where lme4's search ended: of a linear model all is algebra; lme4's modes are
# good to about 1e-6, and its standard errors of generalized models have a Hessian by differences.
RTOL = {"sleepstudy": 1e-9, "cake": 1e-9, "cbpp": 2e-6, "grouseticks": 2e-6}
ERRORS = {"sleepstudy": 1e-9, "cake": 1e-9, "cbpp": 1e-4, "grouseticks": 1e-4}


@cache
def fit_of(name):
    data, reference = load_dataset(name), REFERENCE["fits"][name]
    if name == "grouseticks":
        data["height"] = (data["HEIGHT"] - data["HEIGHT"].mean()) / 100
    if name in ("sleepstudy", "cake"):
        return at_theta(lmer(FORMULAS[name], data, REML=name == "sleepstudy"), reference["theta"])
    fit = glmer(FORMULAS[name], data, "binomial" if name == "cbpp" else "poisson")
    return at_parameters(fit, reference["theta"], reference["beta"])


def expected(name, part):
    return pd.DataFrame(REFERENCE["fits"][name][part]).rename(columns=NAMES)


def compare(ours, theirs, rtol, atol=0.0):
    """Compare the columns and rows that the other program has, whatever their order."""
    keys = [key for key in ("group", "level", "term") if key in theirs]
    ours = ours.astype(dict.fromkeys(keys, str)).set_index(keys)
    theirs = theirs.drop(columns="effect").astype(dict.fromkeys(keys, str)).set_index(keys)
    assert ours.index.is_unique
    ours = ours.loc[theirs.index, theirs.columns].astype(float)
    np.testing.assert_allclose(ours, theirs.astype(float), rtol=rtol, atol=atol)


@every_fit
def test_coefficients_with_normal_intervals(name):
    ours = fit_of(name).tidy("fixed", conf_int=True, conf_level=0.9, ddf=None)
    theirs = expected(name, "fixed")
    # a p value moves more than its statistic
    both = theirs.drop(columns=["p_value"], errors="ignore")
    compare(ours, both, ERRORS[name])
    if "p_value" in theirs:
        np.testing.assert_allclose(ours["p_value"], theirs["p_value"], rtol=2e-3)


@pytest.mark.parametrize("name", ["sleepstudy", "cake"])
def test_coefficients_with_degrees_of_freedom(name):
    # lmerTest differences its slopes and its Hessian: df has five digits, a tiny p value four
    compare(fit_of(name).tidy("fixed", conf_int=True), expected(name, "tested"), 5e-5)


@pytest.mark.parametrize("name", ["cbpp", "grouseticks"])
def test_ratios(name):
    ours = fit_of(name).tidy("fixed", conf_int=True, exponentiate=True)
    theirs = expected(name, "ratios").drop(columns=["statistic", "p_value"])
    compare(ours, theirs, ERRORS[name])
    plain = fit_of(name).tidy("fixed", conf_int=True)
    np.testing.assert_array_equal(ours["statistic"], plain["statistic"])
    np.testing.assert_array_equal(ours["p_value"], plain["p_value"])


@every_fit
def test_random_effects(name):
    fit, rtol = fit_of(name), RTOL[name]
    compare(fit.tidy("ran_pars"), expected(name, "ran_pars"), 1e-9)
    compare(fit.tidy("ran_pars", scales="vcov"), expected(name, "vcov"), 1e-9)
    # absolute for modes near zero
    compare(fit.tidy("ran_vals", conf_int=True), expected(name, "ran_vals"), rtol, 2 * rtol)
    compare(fit.tidy("ran_coefs"), expected(name, "ran_coefs"), rtol, 2 * rtol)


@every_fit
def test_glance(name):
    ours, theirs = fit_of(name).glance(), expected(name, "glance")
    assert list(ours)[:-1] == list(theirs)
    assert list(ours)[-1] == "left_out"
    np.testing.assert_allclose(ours.iloc[0, :-1].astype(float), theirs.iloc[0], rtol=RTOL[name])


@every_fit
def test_augment(name):
    ours, theirs = fit_of(name).augment().head(12), expected(name, "augment")
    rtol = RTOL[name]
    for column in theirs:
        np.testing.assert_allclose(ours[column], theirs[column], rtol=rtol, atol=2 * rtol)


def test_intervals_of_standard_deviations_by_profile():
    ours = fit_of("sleepstudy").tidy("ran_pars", conf_int=True, conf_method="profile")
    theirs = pd.DataFrame(REFERENCE["profile"]).rename(columns=NAMES)
    # lme4 interpolates its profiles by splines through few points
    compare(ours, theirs, 1e-3)


def test_standard_errors_of_standard_deviations():
    """The delta method by glmmTMB, whose Hessian is exact, where its search ended."""
    delta = REFERENCE["delta"]
    (s0, s1), r, sigma = delta["sds"], delta["cor"], delta["sigma"]
    theta = np.array([s0, r * s1, np.sqrt(1 - r**2) * s1]) / sigma
    fit = at_theta(lmer(FORMULAS["sleepstudy"], load_dataset("sleepstudy"), REML=False), theta)
    ours = fit.tidy("ran_pars")
    # sigma is the best for theta here
    np.testing.assert_allclose(ours["estimate"], [s0, s1, r, sigma], rtol=1e-6)
    errors = [*delta["sd_errors"], delta["cor_error"], delta["sigma_error"]]
    np.testing.assert_allclose(ours["std_error"], errors, rtol=1e-5)


def test_standard_errors_of_variances():
    """A variance has ``2 sd se(sd)``; a covariance by differences over the fit's parameters."""
    fit = lmer(FORMULAS["sleepstudy"], load_dataset("sleepstudy"))
    plain, squares = (fit.tidy("ran_pars", True, scales=s) for s in ("sdcor", "vcov"))
    assert squares["term"].tolist() == [
        "var__(Intercept)", "var__Days", "cov__(Intercept).Days", "var__Observation",
    ]  # fmt: skip
    se = 2 * plain["estimate"] * plain["std_error"]
    np.testing.assert_allclose(squares["std_error"].drop(2), se.drop(2), rtol=1e-10)
    for end in ("conf_low", "conf_high"):
        np.testing.assert_allclose(squares[end].drop(2), plain[end].drop(2) ** 2, rtol=1e-12)
    v, V = np.append(fit.par, np.log(fit.sigma)), fit.vcov(full=True).iloc[2:, 2:].to_numpy()
    step = 1e-5 * np.eye(4)

    def covariance(v):
        return np.exp(2 * v[3]) * v[0] * v[1]

    slope = np.array([(covariance(v + h) - covariance(v - h)) / 2e-5 for h in step])
    # differences have seven digits or more
    assert squares["std_error"][2] == pytest.approx(np.sqrt(slope @ V @ slope), rel=1e-7)
    half = 1.959963984540054 * squares["std_error"][2]
    assert squares["conf_low"][2] == pytest.approx(squares["estimate"][2] - half)


def test_standard_errors_of_coefficients_by_level_are_those_of_predictions():
    fit = fit_of("sleepstudy")
    levels = ["308", "372"]
    ours = fit.tidy("ran_coefs", conf_int=True).set_index("level").loc[levels]
    new = {"Days": [0.0, 0.0], "Subject": levels}
    se = fit.predict(new, se_fit=True)["se_fit"].to_numpy()
    intercepts, slopes = (ours[ours["term"] == name] for name in ("(Intercept)", "Days"))
    np.testing.assert_allclose(intercepts["std_error"], se, rtol=1e-12)
    assert (slopes["std_error"] < 3).all()
    half = 1.959963984540054 * intercepts["std_error"]
    np.testing.assert_allclose(intercepts["conf_high"] - intercepts["estimate"], half)
    ticks = fit_of("grouseticks")
    data = load_dataset("grouseticks").query("YEAR == '95'").head(1)
    data["height"] = 0.0
    se = ticks.predict(data, "~ (1 | BROOD)", type="link", se_fit=True)["se_fit"].item()
    brood = ticks.tidy("ran_coefs").query("group == 'BROOD' and term == '(Intercept)'")
    row = brood[brood["level"].astype(str) == str(data["BROOD"].item())]
    # a prediction without LOCATION has its uncertainty too
    assert row["std_error"].item() == pytest.approx(se, rel=1e-10)


def test_what_is_asked_for():
    fit = fit_of("sleepstudy")
    assert fit.tidy(["ran_vals", "fixed"])["effect"].unique().tolist() == ["fixed", "ran_vals"]
    pd.testing.assert_frame_equal(fit.tidy("Fixed"), fit.tidy(("fixed", "fixed")))
    assert list(fit.tidy("ran_pars")) == ["effect", "group", "term", "estimate", "std_error"]
    assert list(fit.tidy("ran_vals"))[1:4] == ["group", "level", "term"]
    assert "level" not in fit.tidy()
    assert fit.tidy("family").empty


def test_parameters_of_a_family():
    ticks = load_dataset("grouseticks")
    fit = mixef.glmer_nb("TICKS ~ YEAR + (1 | BROOD)", ticks)
    rows = fit.tidy("family", conf_int=True)
    limits = fit.confint("shape", method="wald").iloc[0]
    assert rows[["effect", "term"]].to_numpy().tolist() == [["family", "shape"]]
    assert rows[["conf_low", "conf_high"]].iloc[0].tolist() == limits.tolist()
    data = load_dataset("sleepstudy")
    gamma = glmer("Reaction ~ Days + (1 | Subject)", data, "Gamma(log)")
    rows = gamma.tidy(conf_int=True).set_index("term")
    np.testing.assert_allclose(
        rows.loc["dispersion", ["estimate", "conf_low", "conf_high"]].astype(float),
        rows.loc["sd__Observation", ["estimate", "conf_low", "conf_high"]].astype(float) ** 2,
    )
    sd = rows.loc["sd__Observation"]
    assert rows.loc["dispersion", "std_error"] == pytest.approx(2 * sd.estimate * sd.std_error)


@pytest.mark.parametrize("tag", ["cs", "ar1", "diag"])
def test_structures(tag):
    rng = np.random.default_rng(3)
    data = pd.DataFrame({"g": np.repeat(np.arange(30), 6), "f": np.tile(list("uvw"), 60)})
    b = rng.normal(size=(30, 1)) + 0.5 * rng.normal(size=(30, 3))
    data["y"] = b[data["g"], np.tile([0, 1, 2], 60)] + rng.normal(size=180)
    fit = lmer(f"y ~ 1 + {tag}(0 + f | g)", data)
    ours = fit.tidy("ran_pars", conf_int=True)
    limits = fit.confint("theta_", method="wald")
    np.testing.assert_array_equal(ours[["conf_low", "conf_high"]], limits)
    assert ours["std_error"].notna().all()
    kinds = ours["term"].str.split("__").str[0].tolist()
    assert kinds == [name.split("_")[0] for name in limits.index[:-1]] + ["sd"]
    squares = fit.tidy("ran_pars", scales="vcov", conf_int=True)
    cor = ours["term"].str.startswith("cor")
    assert squares["term"][cor].tolist() == ours["term"][cor].tolist()
    pd.testing.assert_frame_equal(squares[cor], ours[cor])


def test_a_standard_deviation_of_zero_has_no_standard_error():
    data = load_dataset("Dyestuff2")
    fit = lmer("Yield ~ 1 + (1 | Batch)", data, control=QUIET)
    ours = fit.tidy("ran_pars", conf_int=True)
    assert np.isnan(ours["std_error"][0])
    assert ours["conf_low"][0] == 0.0 < ours["conf_high"][0] < np.inf
    assert np.isnan(fit.tidy("ran_pars", scales="vcov")["std_error"][0])


def test_a_correlation_at_a_bound_has_no_standard_error():
    data = pd.DataFrame({"g": np.repeat(np.arange(20), 6), "x": np.tile(np.arange(6.0), 20)})
    rng = np.random.default_rng(2)
    b = np.repeat(rng.normal(size=20), 6)
    data["y"] = b + 0.4 * b * data["x"] + rng.normal(size=120)
    fit = lmer("y ~ x + (x | g)", data, control=QUIET)
    row = fit.tidy("ran_pars", conf_int=True).set_index("term").loc["cor__(Intercept).x"]
    assert row["estimate"] == pytest.approx(1.0, abs=1e-6)
    assert np.isnan(row["std_error"])
    assert (row["conf_low"], row["conf_high"]) == (-1.0, 1.0)


def test_another_covariance_of_the_coefficients():
    """Rows are those of the table of coefficients, which goes by it."""
    for name in ("sleepstudy", "cbpp"):
        fit = fit_of(name).with_vcov("CR2")
        ours, table = fit.tidy("fixed", conf_int=True), fit.coef_table()
        theirs = table.rename(columns={"Estimate": "estimate", "Std. Error": "std_error",
                                       "t value": "statistic", "Pr(>|t|)": "p_value"})  # fmt: skip
        np.testing.assert_array_equal(ours[list(theirs)], theirs)
        limits = fit.confint("beta_", method="wald")
        np.testing.assert_allclose(ours[["conf_low", "conf_high"]], limits, rtol=1e-12)
        assert ours.columns.name == table.columns.name
        said = mixef.report(fit).paragraphs
        assert f"t({ours['df'][1]:.1f}) = " in said["fixed effects"]
        assert "CR2 covariance by" in said["methods"]
        assert "CR2 covariance by" in mixef.etable(fit, stats=[]).table.note


def test_a_refit_by_reml_has_all_rows():
    by_ml, by_reml = (lmer("angle ~ recipe + (1 | recipe:replicate)", load_dataset("cake"), REML=r)
                      for r in (False, True))  # fmt: skip
    effects = ["fixed", "ran_pars", "ran_vals", "ran_coefs"]
    ours, theirs = (fit.tidy(effects, True, ddf="kr") for fit in (by_ml, by_reml))
    assert ours.columns.name == "on a refit by REML"
    pd.testing.assert_frame_equal(ours, theirs, rtol=1e-5, check_names=False)


def test_bootstrap_intervals():
    fit = lmer("Yield ~ 1 + (1 | Batch)", load_dataset("Dyestuff"))
    ours = fit.tidy(conf_int=True, conf_method="boot", n=20, seed=1, conf_level=0.8)
    limits = fit.confint(method="boot", n=20, seed=1, level=0.8)
    rows = ours.set_index("term").loc[["sd__(Intercept)", "sd__Observation", "(Intercept)"]]
    np.testing.assert_array_equal(rows[["conf_low", "conf_high"]], limits)


# Rows


def test_augment_of_other_rows():
    data = load_dataset("sleepstudy")
    fit = fit_of("sleepstudy")
    new = data.iloc[[3, 40, 11]].assign(note=list("abc"))
    ours = fit.augment(new, se_fit=True)
    assert list(ours) == [*new, ".fitted", ".se_fit", ".resid", ".fixed", ".mu", ".offset"]
    pd.testing.assert_frame_equal(ours[list(new)], new)
    whole = fit.augment(se_fit=True).iloc[[3, 40, 11]]
    pd.testing.assert_frame_equal(
        ours.iloc[:, 4:], whole[list(ours.iloc[:, 4:])], check_exact=False, rtol=1e-12
    )
    alone = fit.augment(new.drop(columns="Reaction"))
    assert ".resid" not in alone
    unseen = fit.augment({"Days": [1.0], "Subject": ["x"]}, new_levels="population")
    assert unseen[".fitted"].item() == unseen[".fixed"].item()
    with pytest.raises(mixef.errors.DataError, match="new levels detected"):
        fit.augment({"Days": [1.0], "Subject": ["x"]})


def test_augment_of_other_rows_on_the_scale_of_the_mean():
    fit, data = fit_of("cbpp"), load_dataset("cbpp")
    for type_residuals in ("deviance", "pearson", "working", "response"):
        own = fit.augment(type_predict="response", type_residuals=type_residuals, se_fit=True)
        ours = fit.augment(data, "response", type_residuals, se_fit=True)
        names = [".fitted", ".se_fit", ".resid", ".fixed", ".mu"]
        # modes at the end of the search, and a prediction's own
        np.testing.assert_allclose(ours[names], own[names], rtol=1e-7, atol=1e-9)
        np.testing.assert_array_equal(own[".resid"], fit.residuals(type_residuals))
    np.testing.assert_array_equal(own[".fitted"], fit.fitted())


def test_residuals_of_other_rows():
    rng = np.random.default_rng(8)
    data = pd.DataFrame({"g": np.repeat(list("abcdefgh"), 12), "x": rng.normal(size=96)})
    data["w"] = np.tile([1.0, 2.0], 48)
    data["size"] = 9
    mu = 1 / (1 + np.exp(-data["x"] - np.repeat(rng.normal(size=8), 12)))
    data["k"] = rng.binomial(9, mu)
    data["yes"] = np.where(rng.random(96) < mu, "yes", "no")
    data["z"] = rng.normal(size=96) + data["x"]
    counts = "cbind(k, size - k) ~ x + (1 | g)"
    for fit in (
        glmer(counts, data, "betabinomial", weights="w"),
        glmer(counts, data, "binomial", weights="w"),
        glmer("yes ~ x + (1 | g)", data, "binomial"),
        lmer("z ~ x + (1 | g)", data, weights="w"),
        lmer("exp(z / 9) ~ x + offset(w) + (x | g)", data, control=QUIET),
    ):
        for kind in ("deviance", "pearson", "response"):
            ours = fit.augment(data, type_residuals=kind)[".resid"]
            np.testing.assert_allclose(ours, fit.residuals(kind), rtol=1e-6, atol=1e-8)
    labels = glmer("yes ~ x + (1 | g)", data, "binomial")
    with pytest.raises(mixef.errors.DataError, match="yes of newdata has the level maybe"):
        labels.augment(data.assign(yes="maybe"))
    with pytest.raises(mixef.errors.DataError, match="expected labels"):
        labels.augment(data.assign(yes=1.5))
    holes = data.assign(
        yes=data["yes"].where(data.index > 2, None), x=data["x"].where(data.index != 5)
    )
    ours = labels.augment(holes)
    assert ours[".resid"].isna().to_numpy().nonzero()[0].tolist() == [0, 1, 2, 5]
    assert ours[".fitted"].isna().sum() == 1


# Refusals


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"effects": "random"}, "effects is 'random'; expected one of 'fixed', 'ran_pars'"),
        ({"effects": []}, "effects is .*; expected one or more of 'fixed'"),
        ({"effects": ["fixed", 1]}, "effects is"),
        ({"conf_int": 1}, "conf_int is 1; expected True or False"),
        ({"conf_int": True, "conf_level": 95}, "conf_level is 95; expected a number between"),
        ({"conf_method": "bayes"}, "conf_method is 'bayes'; expected one of"),
        ({"scales": "log"}, "scales is 'log'; expected 'sdcor' or 'vcov'"),
        ({"level": 0.9}, "tidy has no level: use conf_level="),
        ({"conf_int": True, "scales": "vcov", "conf_method": "profile"},
         r"not of covariances such as cov__\(Intercept\).Days"),
    ],
)  # fmt: skip
def test_tidy_refuses(arguments, message):
    with pytest.raises(mixef.errors.ArgumentError, match=message):
        fit_of("sleepstudy").tidy(**arguments)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"type_predict": "terms"}, "type_predict is 'terms'; expected 'response' or 'link'"),
        ({"type_residuals": "raw"}, "type_residuals is 'raw'"),
        ({"se_fit": "yes"}, "se_fit is 'yes'; expected True or False"),
        ({"data": None}, "augment has no data: use newdata="),
    ],
)
def test_augment_refuses(arguments, message):
    with pytest.raises(mixef.errors.ArgumentError, match=message):
        fit_of("sleepstudy").augment(**arguments)
