"""Every property and method of a generalized fit, against lme4 1.1-31 and by our own second routes.

glmm_object.json (by glmm_object.R) holds lme4's methods at parameters that Newton steps brought to
the optimum; our fits are taken to the same parameters, so that the method is compared and not the
search: 1e-8 of the largest number, to which the modes of the two programs agree.
"""

import copy
import pickle
import warnings
from dataclasses import FrozenInstanceError, fields, replace
from functools import cache

import numpy as np
import pandas as pd
import polars
import pytest
from fit_at_theta import at_parameters
from reference_data import case, cases, frame, read_reference
from scipy import special, stats

import mixef
from mixef import GHrule, NegativeBinomial, glmer, glmer_nb, lmer, load_dataset
from mixef.errors import ArgumentError, DataError, MixefWarning
from mixef.glmm import GeneralizedLinearMixedModel
from mixef.inference.overdispersion import Overdispersion

CBPP = "cbind(incidence, size - incidence) ~ period + (1 | herd)"
MODES = 1e-8
NAMES = [c["id"] for c in cases("glmm_object.json")]
LME4 = [c["id"] for c in cases("lme4.json") if c["family"]]
EXTRA = ["gamma_log", "gamma_slope", "gaussian_log", "ig_log", "nb_offset", "nb_grouseticks"]
every_fit = pytest.mark.parametrize("name", NAMES)


@cache
def cbpp_fit(nAGQ=1):
    return glmer(CBPP, load_dataset("cbpp"), "binomial", nAGQ)


@cache
def gamma_fit():
    return glmer("y ~ x + (1 | g)", frame("gamma"), "Gamma('log')")


@cache
def ticks_fit():
    return glmer_nb("TICKS ~ YEAR + (1 | BROOD) + (1 | LOCATION)", load_dataset("grouseticks"))


def fitted_case(expected):
    """Our fit of a case, with its warnings ignored."""
    data = frame(expected["data"])
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", MixefWarning)
        return glmer(
            expected["formula"],
            data,
            family_of(expected),
            expected["nAGQ"],
            weights=expected.get("weights"),
            offset=expected.get("offset"),
        )


def family_of(expected):
    if expected["family"] == "nbinom2":
        return NegativeBinomial(expected.get("shape_known"), expected["link"])
    if "(" in expected["family"] or "link" not in expected:
        return expected["family"]
    return f"{expected['family']}('{expected['link']}')"


def reference(name):
    return case("glmm_object.json", name)


@cache
def fit_of(name):
    expected = reference(name)
    return at_parameters(fitted_case(expected), expected["theta"], expected["beta"])


def assert_near(ours, expected, rtol=MODES):
    ours, expected = np.asarray(ours, dtype=float), np.asarray(expected, dtype=float)
    assert ours.shape == expected.shape
    scale = np.nanmax(np.abs(expected), initial=0.0)
    np.testing.assert_allclose(ours, expected, rtol=0, atol=max(rtol * scale, 1e-13))


# lme4's numbers


@every_fit
def test_stored_numbers(name):
    fit, expected = fit_of(name), reference(name)
    assert fit.loglik == pytest.approx(expected["logLik"], rel=1e-11)
    assert fit.objective == pytest.approx(-2 * expected["logLik"], rel=1e-11)
    assert fit.aic == pytest.approx(expected["AIC"], rel=1e-11)
    assert fit.bic == pytest.approx(expected["BIC"], rel=1e-11)
    assert fit.deviance == pytest.approx(expected["deviance"], rel=MODES)
    assert fit.sigma == expected["sigma"] == 1.0
    assert fit.dispersion is None
    assert fit.shape is None
    assert fit.nAGQ == expected["nAGQ"]
    assert fit.family.name == expected["family"]
    assert fit.family.link.name == expected["link"]
    for ours, key in [(fit.npar, "npar"), (fit.nobs, "nobs"), (fit.df_residual, "df_residual")]:
        assert ours == expected[key]
    assert fit.ngrps().to_dict() == expected["ngrps"]
    assert list(fit.fixef().index) == expected["beta_names"]


@every_fit
def test_the_relative_log_likelihood_is_lme4s_for_quadrature(name):
    """With one node lme4 gives the full density, so that the relative one is by the case's own."""
    fit, expected = fit_of(name), reference(name)
    if expected["nAGQ"] > 1:
        assert fit.relative_loglik == pytest.approx(expected["lme4_logLik"], rel=1e-11)
    y, w = fit.getME("y"), fit.weights().to_numpy()
    if fit.family.name == "binomial":
        saturated = stats.binom.logpmf(np.rint(w * y), w, y).sum()
    else:
        saturated = stats.poisson.logpmf(y, y).sum()
    assert fit.loglik - fit.relative_loglik == pytest.approx(saturated, abs=1e-8)


@every_fit
@pytest.mark.parametrize("type", ["response", "pearson", "deviance", "working"])
def test_residuals(name, type):
    fit, expected = fit_of(name), reference(name)
    values = expected["residuals"][type]
    assert_near(fit.residuals(type)[: len(values)], values)
    if type == "deviance":
        assert_near(fit.residuals()[: len(values)], expected["residuals_default"])
        assert (fit.residuals() ** 2).sum() == pytest.approx(fit.deviance, rel=1e-13)


@every_fit
def test_rows(name):
    fit, expected = fit_of(name), reference(name)
    n = len(expected["fitted"])
    assert_near(fit.fitted()[:n], expected["fitted"])
    assert_near(fit.linear_predictor()[:n], expected["eta"])
    assert_near(fit.predict(type="link")[:n], expected["eta"])
    assert_near(fit.predict()[:n], expected["fitted"])
    assert_near(fit.predict(type="link", re_form="~0")[:n], expected["fixed_eta"])
    assert_near(fit.weights()[:n], expected["prior_weights"])
    assert_near(fit.weights("working")[:n], expected["working_weights"])


@every_fit
def test_random_effects(name):
    fit, expected = fit_of(name), reference(name)
    modes = fit.ranef(condVar=True)
    assert list(modes) == [group["grp"] for group in expected["ranef"]]
    for group in expected["ranef"]:
        ours = modes[group["grp"]]
        assert list(ours.columns) == group["names"]
        count = len(group["levels"])
        assert list(ours.index[:count]) == group["levels"]
        assert_near(ours.to_numpy()[:count].T, group["values"])
        if "condVar" in group:
            expected_cov = np.array(group["condVar"], dtype=float)
            ours_cov = modes.condVar[group["grp"]][:count]
            assert_near(ours_cov, expected_cov.reshape(ours_cov.shape))
    for group, table in expected["coef"].items():
        ours = fit.coef()[group]
        assert set(ours.columns) == set(table["names"])
        assert_near(ours.loc[table["levels"], table["names"]].to_numpy().T, table["values"])


@every_fit
def test_covariances(name):
    """The Hessian of both is by differences: to 1e-6 of the largest entry."""
    fit, expected = fit_of(name), reference(name)
    assert_near(fit.vcov(use_hessian=False), expected["vcov_rx"])
    assert_near(fit.vcov(), expected["vcov_hessian"], rtol=1e-6)
    assert_near(fit.coef_table()["Std. Error"], expected["se"], rtol=1e-6)


@every_fit
def test_variance_components(name):
    fit, expected = fit_of(name), reference(name)
    rows = fit.VarCorr().to_frame()
    assert list(rows["grp"]) == [row["grp"] for row in expected["VarCorr"]]
    assert_near(rows["vcov"], [row["vcov"] for row in expected["VarCorr"]])
    assert_near(rows["sdcor"], [row["sdcor"] for row in expected["VarCorr"]])


@every_fit
def test_pieces_by_lme4s_names(name):
    fit, expected = fit_of(name), reference(name)
    devcomp = fit.getME("devcomp")
    for key in ("ldL2", "ldRX2", "wrss", "ussq", "pwrss", "drsum"):
        assert devcomp["cmp"][key] == pytest.approx(expected["cmp"][key], rel=1e-7), key
    assert devcomp["cmp"]["dev"] == fit.objective
    for key in set(devcomp["dims"]) & set(expected["dims"]):
        assert devcomp["dims"][key] == expected["dims"][key], key
    assert_near(fit.getME("u")[:60], expected["u"])
    for key in ("Gp", "l_i"):
        assert list(fit.getME(key)) == expected[key]
    for key in ("q", "n_rtrms"):
        assert fit.getME(key) == expected[key]
    lower = [-np.inf if bound is None else bound for bound in expected["lower"]]
    assert fit.getME("lower").tolist() == lower
    assert fit.getME("is_REML") is False
    assert fit.getME("REML") == 0


@every_fit
def test_predictions_for_new_data(name):
    fit, expected = fit_of(name), reference(name)["predict"]
    new = pd.DataFrame(expected["data"])
    given = {"newdata": new, "new_levels": "population"}
    assert_near(fit.predict(**given, type="link"), expected["link"])
    assert_near(fit.predict(**given), expected["response"])
    assert_near(fit.predict(**given, re_form=False, type="link"), expected["link_fixed"])
    assert_near(fit.predict(**given, re_form="~0"), expected["response_fixed"])
    if "link_brood" in expected:
        ours = fit.predict(**given, re_form="~ (1 | BROOD)", type="link")
        assert_near(ours, expected["link_brood"])


def test_residuals_of_a_family_with_a_dispersion_at_lme4s_means():
    """lme4's Gamma fit is not maximum likelihood: its residuals are compared at its means."""
    expected = read_reference("glmm_object.json")["gamma"]
    own, mu = gamma_fit()._fit, np.array(expected["fitted"])
    sigma = expected["sigma"]
    estimates = replace(own.estimates, mu=mu, eta=np.log(mu), sigma=sigma, extra=sigma**2)
    fit = GeneralizedLinearMixedModel(replace(own, estimates=estimates))
    for type, values in expected["residuals"].items():
        assert_near(fit.residuals(type)[:20], values)
        assert_near(fit.residuals(type, scaled=True)[:20], expected["scaled"][type])
    assert fit.deviance == pytest.approx(expected["deviance"], rel=MODES)
    assert_near(fit.weights("working")[:20], expected["working_weights"])


@pytest.mark.parametrize("name", LME4)
def test_fits_of_lme4(name):
    """lme4.json is where lme4's search ended: within 1e-5, and 6e-5 on the flat way of cm5."""
    expected = case("lme4.json", name)
    fit = fitted_case(expected)
    for type in ("pearson", "deviance", "response"):
        values = np.atleast_1d(expected[f"resid_{type}"])
        np.testing.assert_allclose(fit.residuals(type)[: len(values)], values, rtol=0, atol=2e-5)
    rows = fit.VarCorr().to_frame()
    assert list(rows["grp"]) == [row["grp"] for row in expected["VarCorr"]]
    np.testing.assert_allclose(
        rows["sdcor"], [row["sdcor"] for row in expected["VarCorr"]], rtol=0, atol=1e-4
    )
    assert fit.is_singular() == expected["singular"]


# Dispersion and shape, against glmmTMB


@pytest.mark.parametrize("name", EXTRA)
def test_covariance_of_all_parameters(name):
    """vcov_all is of theta, beta and log extra, from a Hessian by differences."""
    expected = case("glmm_glmmtmb.json", name)
    fit = fitted_case(expected)
    fit = at_parameters(fit, expected["theta"], expected["beta"], expected["extra"])
    k, p = len(expected["theta"]), len(expected["beta"])
    order = [*range(k, k + p), *range(k), k + p]
    vcov_all = np.array(expected["vcov_all"])[np.ix_(order, order)]
    ours = fit.vcov(full=True)
    extra_name = expected["extra_name"]
    assert list(ours.index) == [*fit.fixef().index, *fit.getME("par").index, f"log({extra_name})"]
    assert_near(ours, vcov_all, rtol=2e-5)
    assert_near(ours.iloc[:p, :p], fit.vcov(), rtol=1e-10)
    value = getattr(fit, extra_name)
    assert value == pytest.approx(expected["extra"], rel=1e-12)
    row = fit.tidy().iloc[-1]
    assert (row["effect"], row["term"]) == ("family", extra_name)
    assert row["estimate"] == value
    assert row["std_error"] == pytest.approx(value * expected["log_extra_se"], rel=2e-5)


def test_a_family_with_a_dispersion_has_a_residual_row():
    fit = gamma_fit()
    assert fit.sigma == pytest.approx(np.sqrt(fit.dispersion), rel=1e-12)
    assert fit.VarCorr().to_frame()["grp"].tolist() == ["g", "Residual"]
    assert fit.tidy()["term"].tolist()[-2:] == ["sd__Observation", "dispersion"]
    assert fit.residuals("pearson", scaled=True).to_numpy() == pytest.approx(
        fit.residuals("pearson").to_numpy() / fit.sigma
    )
    assert fit.getME("devcomp")["dims"]["useSc"] == 1


def test_shapes():
    fit = ticks_fit()
    assert fit.shape == fit.getME("glmer.nb.theta")
    assert fit.sigma == 1.0
    assert fit.dispersion is None
    known = fit.update(family=NegativeBinomial(2))
    assert known.shape == known.getME("glmer.nb.theta") == 2.0
    assert known.npar == fit.npar - 1
    with pytest.raises(ValueError, match=r"getME knows no 'glmer\.nb\.theta'"):
        cbpp_fit().getME("glmer.nb.theta")


# Second routes of our own


def test_without_random_variance_the_covariances_are_those_of_a_glm():
    """X'WX at the weights of the mean, by hand."""
    fit = glmer("bern ~ x + (1 | g)", frame("glmm"), "binomial")
    flat = at_parameters(fit, [0.0], fit.beta)
    X, mu = flat.getME("X").to_numpy(), flat.fitted().to_numpy()
    expected = np.linalg.inv(X.T @ ((mu * (1 - mu))[:, None] * X))
    assert_near(flat.vcov(use_hessian=False), expected, rtol=1e-10)
    assert_near(mu, special.expit(X @ flat.beta), rtol=1e-12)


@pytest.mark.parametrize("fit", [cbpp_fit, gamma_fit, ticks_fit])
def test_pieces_fit_together(fit):
    fit = fit()
    pieces = fit.getME("ALL")
    A, Lambda, Zt = pieces["A"].toarray(), pieces["Lambda"].toarray(), pieces["Zt"].toarray()
    root = np.sqrt(fit.weights("working").to_numpy()) / fit.sigma
    assert_near(A, Lambda.T @ Zt)
    A = A * root
    M = A @ A.T + np.eye(len(A))
    L, P = pieces["L"].toarray(), pieces["P"]
    assert_near(L @ L.T, M[np.ix_(P, P)])
    X = root[:, None] * pieces["X"].to_numpy()
    assert_near(pieces["RZX"], np.linalg.solve(L, (A @ X)[P]))
    RX = pieces["RX"]
    assert_near(RX.T @ RX, X.T @ X - pieces["RZX"].T @ pieces["RZX"])
    assert_near(np.linalg.inv(RX.T @ RX), fit.vcov(use_hessian=False))
    assert_near(pieces["b"], Lambda @ pieces["u"])
    eta = pieces["X"].to_numpy() @ pieces["beta"] + Zt.T @ pieces["b"] + pieces["offset"]
    assert_near(fit.linear_predictor(), eta)
    cmp = pieces["devcomp"]["cmp"]
    assert cmp["wrss"] * fit.sigma**2 == pytest.approx((fit.residuals("pearson") ** 2).sum())


@pytest.mark.parametrize("fit", [cbpp_fit, gamma_fit, ticks_fit, lambda: cbpp_fit(5)])
def test_the_deviance_function_is_least_at_the_estimates(fit):
    fit = fit()
    devfun = fit.getME("devfun")
    extra = fit._fit.estimates.extra
    best = np.concatenate([fit.par, fit.beta, [] if extra is None else [np.log(extra)]])
    assert devfun(best) == pytest.approx(fit.objective, abs=1e-9)
    for j in range(len(best)):
        for step in (-0.02, 0.02):
            assert devfun(best + step * np.eye(len(best))[j]) > fit.objective
    with pytest.raises(DataError, match=f"the parameters are 1 values; expected {len(best)}"):
        devfun([1.0])


def test_the_mode_holds_the_fixed_effects_with_nAGQ_0():
    fit = cbpp_fit(0)
    assert_near(fit.vcov(), fit.vcov(use_hessian=False))
    full = fit.vcov(full=True)
    assert full.shape == (5, 5)
    assert_near(full.iloc[:4, :4], fit.vcov())
    assert 0 < full.iloc[4, 4] < 1
    assert full.iloc[:4, 4].isna().all()
    assert fit.getME("devfun")(fit.par) == pytest.approx(fit.objective, abs=1e-9)
    shape = ticks_fit().update(nAGQ=0)
    assert 0 < shape.tidy()["std_error"].iloc[-1] < shape.shape


def test_parameters_that_the_data_leave_open_have_no_standard_error():
    """A flat direction of the Hessian, put there: only what is made of it is unknown."""
    own = gamma_fit()._fit
    hessian = own.hessian.copy()
    hessian[0, :], hessian[:, 0] = 0.0, 0.0
    fit = GeneralizedLinearMixedModel(replace(own, end_hessian=hessian))
    full = fit.vcov(full=True)
    assert list(full.index) == ["(Intercept)", "x", "g.(Intercept)", "log(dispersion)"]
    assert full.isna().any().tolist() == [True, True, True, True]
    known = full.drop(index="g.(Intercept)", columns="g.(Intercept)")
    assert np.isfinite(known).all(axis=None)
    assert full.loc["g.(Intercept)"].isna().all()


def test_without_a_hessian_the_fixed_effects_are_by_the_working_weights():
    own = gamma_fit()._fit
    fit = GeneralizedLinearMixedModel(replace(own, end_hessian=None))
    assert_near(fit.vcov(), fit.vcov(use_hessian=False))
    assert fit.vcov(full=True).iloc[2:].isna().all(axis=None)
    assert np.isnan(fit.tidy()["std_error"].iloc[-1])
    assert "Standard errors are by the working weights" in str(fit.summary())


@pytest.mark.parametrize(
    ("name", "known"),
    [
        ("singular_zero", [False]),
        ("singular_up", [True, True, False]),
        ("singular_zero_slope", [False, False, False]),
    ],
)
def test_a_parameter_at_zero_has_no_standard_error(name, known):
    fit = fitted_case(case("glmm_more.json", name))
    assert fit.is_singular()
    p = len(fit.beta)
    full = fit.vcov(full=True).to_numpy()
    assert np.isfinite(full.diagonal()).tolist() == [True] * p + known
    assert_near(full[:p, :p], fit.vcov(), rtol=1e-12)
    at = np.isfinite(full.diagonal())
    assert np.linalg.eigvalsh(full[np.ix_(at, at)]).min() > 0


def test_dropped_columns():
    data = frame("glmm").assign(twice=lambda d: 2 * d["x"])
    with pytest.warns(MixefWarning, match="rank deficient"):
        fit = glmer("bern ~ x + twice + (1 | g)", data, "binomial")
    assert np.isnan(fit.fixef(add_dropped=True)["twice"])
    assert fit.vcov().shape == (2, 2)
    assert fit.vcov(full=True).shape == (3, 3)
    assert fit.predict(data.head(3)).to_numpy() == pytest.approx(fit.fitted().head(3).to_numpy())


def test_principal_components():
    fit = glmer("bern ~ x + (x | g)", frame("glmm"), "binomial")
    lam = fit.getME("Tlist")[0]
    assert_near(fit.rePCA()["g"].sdev, np.linalg.svd(lam)[1])


# Frames after broom


def test_tidy_glance_and_augment():
    fit = cbpp_fit()
    tidy = fit.tidy()
    assert list(tidy.columns) == [
        "effect", "group", "term", "estimate", "std_error", "statistic", "p_value",
    ]  # fmt: skip
    table = fit.coef_table()
    assert list(table.columns) == ["Estimate", "Std. Error", "z value", "Pr(>|z|)"]
    assert_near(tidy["statistic"][:4], table["z value"])
    np.testing.assert_allclose(
        tidy["p_value"][:4], 2 * stats.norm.sf(np.abs(table["z value"])), rtol=1e-12
    )
    assert tidy["term"].iloc[-1] == "sd__(Intercept)"
    glance = fit.glance().iloc[0]
    assert glance["deviance"] == fit.deviance
    assert glance["logLik"] == fit.loglik
    augmented = fit.augment()
    assert_near(augmented[".fitted"], fit.linear_predictor())
    assert_near(augmented[".mu"], fit.fitted())
    assert_near(augmented[".resid"], fit.residuals())
    assert_near(augmented[".weights"], fit.weights())
    assert_near(augmented.iloc[:, 0], fit.getME("y"))
    use = glmer("use ~ age + (1 | district)", load_dataset("Contraception"), "binomial")
    assert use.augment()["use"].tolist() == load_dataset("Contraception")["use"].tolist()


# Overdispersion


@pytest.mark.parametrize("family", ["poisson", "nbinom1"])
def test_overdispersion_counts_copies_of_rows(family):
    """A weight of 2 is two rows, and so are rows written twice."""
    data = frame("grouseticks").head(150)
    formula = "TICKS ~ YEAR + (1 | BROOD)"
    weighted = glmer(formula, data, family, weights=np.full(150, 2.0)).overdispersion()
    twice = glmer(formula, pd.concat([data, data], ignore_index=True), family).overdispersion()
    assert weighted.df == twice.df
    assert (weighted.chisq, weighted.p_value) == pytest.approx(
        (twice.chisq, twice.p_value), rel=1e-4
    )


def test_overdispersion():
    fit = cbpp_fit()
    result = fit.overdispersion()
    chisq = float((fit.residuals("pearson") ** 2).sum())
    assert result == Overdispersion(chisq, 51, chisq / 51, result.p_value)
    assert result.p_value == pytest.approx(stats.chi2.sf(chisq, 51), rel=1e-12)
    assert not result.found
    with pytest.raises(FrozenInstanceError):
        result.df = 1
    ticks = load_dataset("grouseticks")
    over = glmer("TICKS ~ YEAR + (1 | LOCATION)", ticks, "poisson")
    assert over.overdispersion().found
    text = str(over.summary())
    assert "more variance than the poisson family has; add a random effect for each" in text
    assert "fit glmer_nb" in text
    assert not ticks_fit().overdispersion().found
    assert "Overdispersion" not in str(ticks_fit().summary())


def test_overdispersion_where_there_is_none():
    with pytest.raises(DataError, match=r"single trials \(0 and 1\) cannot be overdispersed"):
        glmer("bern ~ x + (1 | g)", frame("glmm"), "binomial").overdispersion()
    with pytest.raises(DataError, match="Gamma family has a dispersion, which is estimated"):
        gamma_fit().overdispersion()


# The integrand


@pytest.mark.parametrize("name", ["contra_cm2", "cbpp"])
def test_the_integrand_is_that_of_the_paper(name):
    expected = case("glmm_integrand.json", name)
    fit = at_parameters(fitted_case(expected | {"nAGQ": 1}), expected["theta"], expected["beta"])
    ours = fit.integrand(expected["z"])
    assert list(ours.columns) == ["group", "z", "density", "normal", "t"]
    count = len(expected["z"])
    assert ours["group"][::count].tolist() == expected["levels"]
    density = ours["density"].to_numpy().reshape(-1, count)
    np.testing.assert_allclose(
        density, np.array(expected["ratio"]) / np.sqrt(2 * np.pi), rtol=1e-6, atol=1e-12
    )
    t = ours["t"].to_numpy().reshape(-1, count)
    np.testing.assert_allclose(t, expected["t"], rtol=1e-6)


@pytest.mark.parametrize("k", [2, 9])
def test_the_integrand_gives_the_likelihood_by_quadrature(k):
    """At one set of parameters, the rule on t is what k nodes add to Laplace."""
    laplace, rule = cbpp_fit(), GHrule(k)
    t = laplace.integrand(rule.z)["t"].to_numpy().reshape(-1, k)
    nodes = at_parameters(cbpp_fit(k), laplace.theta, laplace.beta)
    added = float(np.log(t @ rule.w).sum())
    assert nodes.loglik - laplace.loglik == pytest.approx(added, abs=1e-9)


@pytest.mark.parametrize("fit", [cbpp_fit, lambda: cbpp_fit(9), lambda: cbpp_fit(0), gamma_fit])
def test_the_integrand_at_the_mode_is_the_normal_density(fit):
    fit = fit()
    before = fit.getME("devfun")(fit.getME("par") if fit.nAGQ == 0 else point_of(fit))
    at_mode = fit.integrand(0.0)
    assert_near(at_mode["density"], at_mode["normal"], rtol=1e-14)
    near = fit.integrand([-1e-3, 1e-3])["t"].to_numpy().reshape(-1, 2)
    assert np.abs(near - 1).max() < 1e-8  # no slope at the mode, and the normal's curvature
    after = fit.getME("devfun")(fit.getME("par") if fit.nAGQ == 0 else point_of(fit))
    assert after == pytest.approx(before, abs=1e-9)


def test_the_integrand_far_out_is_zero():
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        far = cbpp_fit().integrand([1e300, -1e154])
    assert not far[["density", "normal"]].to_numpy().any()


def point_of(fit):
    extra = fit._fit.estimates.extra
    return np.concatenate([fit.par, fit.beta, [] if extra is None else [np.log(extra)]])


def test_the_integrand_turns_with_the_column():
    """The effect of -x is minus that of x, and so is its distance from the mode."""
    data = frame("glmm").assign(minus=lambda d: -d["x"])
    z = np.array([-2.0, -0.5, 1.0, 2.5])
    t = [
        glmer(f"bern ~ x + (0 + {column} | g)", data, "binomial").integrand(sign * z)["t"]
        for column, sign in [("x", 1), ("minus", -1)]
    ]
    assert np.abs(t[0] - 1).max() > 1e-3
    assert_near(t[0], t[1], rtol=1e-6)


def test_the_integrand_needs_one_variable():
    with pytest.raises(DataError, match=r"only for a single term with one column"):
        ticks_fit().integrand([0.0])
    slope = glmer("bern ~ x + (x | g)", frame("glmm"), "binomial")
    with pytest.raises(DataError, match=r"only for a single term with one column"):
        slope.integrand([0.0])
    for z in ([np.nan], "a", [[0.0, 1.0]]):
        with pytest.raises(ArgumentError, match="expected finite numbers"):
            cbpp_fit().integrand(z)


# Rows: missing values, polars, factors


def test_weights_of_counts_are_copies():
    """Weights of 2 beside cbind() are every row twice; glmer of the doubled data is the same."""
    data = load_dataset("cbpp")
    twice = glmer(CBPP, data, "binomial", weights=np.full(56, 2.0))
    doubled = glmer(CBPP, pd.concat([data, data], ignore_index=True), "binomial")
    assert twice.loglik == pytest.approx(doubled.loglik, abs=1e-8)
    assert twice.relative_loglik == pytest.approx(doubled.relative_loglik, abs=1e-8)
    assert twice.deviance == pytest.approx(doubled.deviance, rel=1e-6)
    np.testing.assert_allclose(twice.vcov(full=True), doubled.vcov(full=True), rtol=1e-4)


def test_missing_rows_are_padded():
    data = load_dataset("cbpp")
    data["period"] = data["period"].where(np.arange(len(data)) != 3)
    fit = glmer(CBPP, data, "binomial", na_action="exclude")
    short = glmer(CBPP, data, "binomial")
    assert (fit.nobs, short.nobs) == (55, 55)
    for method in (
        "fitted", "residuals", "linear_predictor", "weights", "predict", "augment",
    ):  # fmt: skip
        ours, omitted = getattr(fit, method)(), getattr(short, method)()
        assert len(ours) == 56
        assert len(omitted) == 55
        if method != "augment":
            assert np.isnan(ours.iloc[3])
            assert_near(ours.drop(index=ours.index[3]), omitted, rtol=1e-12)


def test_polars():
    data = load_dataset("cbpp")
    ours = glmer(CBPP, polars.from_pandas(data), "binomial")
    assert_near(ours.beta, cbpp_fit().beta, rtol=1e-10)
    assert_near(ours.fitted(), cbpp_fit().fitted(), rtol=1e-10)


def test_offsets_of_new_data():
    data = frame("glmm_scale")
    fit = glmer("events ~ x + offset(log(e)) + (1 | g)", data, "poisson")
    assert fit.predict(data.head(5)).to_numpy() == pytest.approx(fit.fitted().head(5).to_numpy())
    double = data.head(5).assign(e=lambda d: 2 * d["e"])
    assert_near(fit.predict(double), 2 * fit.fitted().head(5), rtol=1e-12)


# State


def snapshot(fit):
    return {
        "text": str(fit.summary()),
        "objective": fit.objective,
        "beta": fit.beta.copy(),
        "vcov": fit.vcov(full=True).to_numpy().copy(),
        "residuals": fit.residuals().to_numpy().copy(),
        "fitted": fit.fitted().to_numpy().copy(),
        "ranef": fit.ranef(condVar=True).to_frame()[["condval", "condsd"]].to_numpy().copy(),
        "relative": fit.relative_loglik,
        "working": fit.weights("working").to_numpy().copy(),
    }


def assert_unchanged(before, after, rtol=0.0):
    for key, value in before.items():
        if key == "text":
            assert after[key] == value
        else:
            np.testing.assert_allclose(after[key], value, rtol=rtol, err_msg=key)


@pytest.mark.parametrize("fit", [cbpp_fit, gamma_fit, ticks_fit, lambda: cbpp_fit(9)])
def test_pickling_and_copying(fit):
    """The covariances come from a criterion that is built again: to rounding."""
    fit = fit()
    before = snapshot(fit)
    for again in (pickle.loads(pickle.dumps(fit)), copy.deepcopy(fit)):
        assert type(again) is GeneralizedLinearMixedModel
        assert_unchanged(before, snapshot(again), rtol=1e-7)
        assert_near(again.update().beta, fit.beta, rtol=1e-10)
    assert len(pickle.dumps(fit)) < 10 * len(pickle.dumps(fit._fit.call.data)) + 50_000


def test_the_state_is_frozen():
    fit = cbpp_fit()
    for state in (fit._fit, fit._fit.estimates, fit.convergence):
        for field in fields(state):
            with pytest.raises(FrozenInstanceError):
                setattr(state, field.name, None)
    for name in ("theta", "beta", "family", "shape", "dispersion", "relative_loglik", "nAGQ"):
        with pytest.raises(AttributeError):
            setattr(fit, name, None)
    for array in (fit.beta, fit.theta, fit.par, fit._fit.estimates.mu):
        with pytest.raises(ValueError, match="read-only"):
            array[0] = 1.0


def test_writing_to_results_changes_nothing():
    fit = glmer(CBPP, load_dataset("cbpp"), "binomial")
    before = snapshot(fit)
    results = [fit.fixef(), fit.fitted(), fit.residuals(), fit.predict(), fit.linear_predictor()]
    results += [fit.weights(), fit.weights("working"), fit.vcov(), fit.vcov(use_hessian=False)]
    results += [fit.vcov(full=True), fit.coef_table(), fit.augment()[[".mu", ".fitted"]]]
    for result in results:
        result.iloc[:] = -1.0
    for name in ("y", "mu", "u", "b", "offset", "beta", "RX", "RZX"):
        array = fit.getME(name)
        if array.flags.writeable:
            array[...] = -1.0
    # conditional variances start from the last mode: to rounding
    assert_unchanged(before, snapshot(fit), rtol=1e-13)


# The linear model beside it


def test_a_gaussian_family_is_the_linear_model():
    """With the identity link Laplace is exact, and maximum likelihood that of lmer."""
    data = load_dataset("Dyestuff")
    linear = lmer("Yield ~ 1 + (1 | Batch)", data, REML=False)
    fit = glmer("Yield ~ 1 + (1 | Batch)", data, mixef.Gaussian())
    assert fit.loglik == pytest.approx(linear.loglik, abs=1e-7)
    assert fit.sigma == pytest.approx(linear.sigma, rel=1e-4)
    ours, theirs = fit.VarCorr().to_frame(), linear.VarCorr().to_frame()
    np.testing.assert_allclose(ours["sdcor"], theirs["sdcor"], rtol=1e-4)
    assert_near(fit.residuals("response"), linear.residuals(), rtol=1e-4)
