"""Every property and method of a fit, against lme4 1.1-31 and by second routes of our own.

tests/reference/fit_object.json is made by fit_object.R; its theta is where lme4's search ended, and
all is compared there, so that only rounding is left: 1e-10 of the largest number, as in
test_lmm_reference.py. Dense matrices are the second route: the formulas of the lme4 paper (Bates et
al. 2015) written out with n x q arrays.
"""

from functools import cache

import numpy as np
import pandas as pd
import pytest
from fit_at_theta import at_theta
from reference_data import case, cases, frame
from scipy import sparse

from mixef import LmerControl, lmer
from mixef.errors import ConvergenceWarning

ROUNDING = 1e-10
NAMES = [c["id"] for c in cases("fit_object.json")]
every_fit = pytest.mark.parametrize("name", NAMES)


def reference(name):
    return case("fit_object.json", name)


@cache
def own_fit(name):
    expected = reference(name)
    data, REML = frame(expected["data"]), expected["REML"]
    return lmer(expected["formula"], data, REML, weights=expected["weights"])


@cache
def fit_of(name):
    return at_theta(own_fit(name), reference(name)["theta"])


def assert_near(ours, expected, rtol=ROUNDING):
    ours, expected = np.asarray(ours, dtype=float), np.asarray(expected, dtype=float)
    assert ours.shape == expected.shape
    scale = np.nanmax(np.abs(expected), initial=0.0)
    np.testing.assert_allclose(ours, expected, rtol=0, atol=max(rtol * scale, 1e-13))


def assert_same_table(ours, expected):
    """Compare a frame with R's, column by column; R's NA stands for no name."""
    assert list(ours.columns) == list(expected)
    for column, values in expected.items():
        if any(isinstance(value, str) for value in values):
            texts = ours[column].astype(object).where(ours[column].notna(), None)
            assert list(texts) == values
        elif all(value is None for value in values):
            assert ours[column].isna().all()
        else:
            np.testing.assert_allclose(ours[column], values, rtol=1e-9, atol=1e-12)


# Labelled results


@every_fit
def test_stored_numbers(name):
    fit, expected = fit_of(name), reference(name)
    cmp = expected["cmp"]
    assert fit.objective == pytest.approx(cmp["REML" if fit.REML else "dev"], rel=1e-13)
    assert fit.loglik == pytest.approx(-fit.objective / 2, rel=1e-15)
    assert fit.deviance == pytest.approx(expected["deviance"], rel=1e-13)
    assert fit.sigma == pytest.approx(cmp["sigmaREML" if fit.REML else "sigmaML"], rel=1e-13)
    assert fit.aic == pytest.approx(fit.objective + 2 * fit.npar, rel=1e-15)
    assert fit.bic == pytest.approx(fit.objective + np.log(fit.nobs) * fit.npar, rel=1e-15)
    assert fit.REML is expected["REML"]
    assert fit.nAGQ == 1
    assert fit.npar == expected["m"] + expected["p"] + 1
    assert fit.df_residual == expected["n"] - fit.npar
    assert fit.ngrps().to_dict() == expected["ngrps"]
    assert fit.formula.replace(" ", "") == expected["formula"].replace(" ", "")
    assert fit.converged is True
    assert fit.convergence.converged


@every_fit
def test_random_effects_as_a_frame(name):
    ours = fit_of(name).ranef(condVar=True).to_frame()
    expected = dict(reference(name)["ranef"])
    assert_same_table(ours, expected)
    without = fit_of(name).ranef()
    assert without.condVar is None
    assert list(without.to_frame()) == ["grpvar", "term", "grp", "condval"]


@every_fit
def test_variances_as_a_frame(name):
    components = fit_of(name).VarCorr()
    assert_same_table(components.to_frame(), reference(name)["cov_last"])
    assert_same_table(components.to_frame(order="lower.tri"), reference(name)["lower_tri"])
    with pytest.raises(ValueError, match="order is 'upper'"):
        components.to_frame(order="upper")


def test_variances_of_one_term():
    components = fit_of("sleep").VarCorr()
    cov = components["Subject"].to_numpy()
    variance, slope, covariance, residual = reference("sleep")["cov_last"]["vcov"]
    assert_near(cov, [[variance, covariance], [covariance, slope]])
    assert_near(components.stddev("Subject"), np.sqrt([variance, slope]))
    corr = covariance / np.sqrt(variance * slope)
    assert_near(components.correlation("Subject"), [[1, corr], [corr, 1]])
    assert components.sigma**2 == pytest.approx(residual, rel=1e-13)


@every_fit
def test_covariance_of_the_fixed_effects(name):
    fit = fit_of(name)
    vcov = fit.vcov()
    assert list(vcov.index) == list(vcov.columns) == reference(name)["X_names"]
    assert_near(vcov, reference(name)["vcov"])
    table = fit.coef_table(ddf=None)
    assert list(table.columns) == ["Estimate", "Std. Error", "t value"]
    assert list(table.index) == list(fit.fixef().index) == reference(name)["X_names"]
    se = np.sqrt(np.diag(reference(name)["vcov"]))
    assert_near(table["Std. Error"], se)
    assert_near(table["t value"], fit.beta / se)
    with pytest.raises(ValueError, match="ddf is 'Nobody'"):
        fit.coef_table(ddf="Nobody")


@every_fit
def test_coefficients_by_group(name):
    ours = fit_of(name).coef()
    assert list(ours) == list(reference(name)["coef"])
    for group, expected in reference(name)["coef"].items():
        assert list(ours[group].index) == expected["levels"]
        for column, values in zip(expected["names"], expected["values"], strict=True):
            assert_near(ours[group][column], values)


@every_fit
def test_principal_components(name):
    ours = fit_of(name).rePCA()
    assert list(ours) == list(reference(name)["pca_sdev"])
    for group, expected in reference(name)["pca_sdev"].items():
        assert_near(ours[group].sdev, expected)
        assert_near(ours[group].importance, reference(name)["pca_importance"][group], 1e-5)
        # The rotation diagonalizes the relative covariance: a check free of signs.
        rotation = ours[group].rotation.to_numpy()
        np.testing.assert_allclose(rotation.T @ rotation, np.eye(len(expected)), atol=1e-14)
        members = [lam for g, lam in zip_terms(fit_of(name)) if g == group]
        lam = sparse.block_diag(members).toarray()
        assert_near(rotation * ours[group].sdev ** 2 @ rotation.T, lam @ lam.T)
        assert "Cumulative Proportion" in str(ours[group])


def zip_terms(fit):
    groups = [group for group, _ in fit.getME("cnms")]
    return zip(groups, fit.getME("Tlist"), strict=True)


@every_fit
def test_residuals_and_fitted_values(name):
    fit, expected = fit_of(name), reference(name)
    assert_near(fit.fitted().head(8), expected["fitted"])
    for kind in ("response", "pearson", "deviance", "working"):
        assert_near(fit.residuals(type=kind).head(8), expected["residuals"][kind])
        assert_near(fit.residuals(type=kind, scaled=True).head(8), expected["scaled"][kind])
    np.testing.assert_allclose(fit.fitted() + fit.residuals(), fit.getME("y"), rtol=1e-13)


def test_weights_enter_pearson_and_deviance_residuals_only():
    fit = fit_of("sleep_weights")
    root = np.sqrt(frame("sleepstudy_w12")["w"])
    for kind, factor in [("response", 1), ("working", 1), ("pearson", root), ("deviance", root)]:
        np.testing.assert_allclose(fit.residuals(type=kind), fit.residuals() * factor, rtol=1e-14)
    assert (fit.residuals(type="pearson") != fit.residuals()).any()


def test_an_unknown_type_of_residuals_is_refused():
    with pytest.raises(ValueError, match="type is 'partial'; expected one of"):
        fit_of("sleep").residuals(type="partial")


# The pieces, by dense matrices


def dense(fit):
    """Z, Lambda, X, W^1/2, M = Lambda'Z'WZ Lambda + I as dense arrays."""
    Z, Lambda = fit.getME("Z").toarray(), fit.getME("Lambda").toarray()
    weights = fit._fit.frame.weights
    root = np.ones(fit.nobs) if weights is None else np.sqrt(weights)
    WU = root[:, None] * (Z @ Lambda)
    return Z, Lambda, fit.getME("X").to_numpy(), root, WU.T @ WU + np.eye(Z.shape[1])


@every_fit
def test_conditional_covariances_by_the_dense_formula(name):
    # Var(b | y) = sigma^2 Lambda M^-1 Lambda'; terms on one factor are in it together.
    fit = fit_of(name)
    _, Lambda, _, _, M = dense(fit)
    full = fit.sigma**2 * Lambda @ np.linalg.solve(M, Lambda.T)
    effects = fit.ranef(condVar=True)
    starts, cnms, terms = fit.getME("Gp"), fit.getME("cnms"), fit._fit.terms
    for group, modes in effects.items():
        columns = np.hstack(
            [
                start + np.arange(term.n_effects).reshape(term.n_levels, -1)
                for start, (g, _), term in zip(starts[:-1], cnms, terms, strict=True)
                if g == group
            ]
        )
        expected = np.array([full[np.ix_(at, at)] for at in columns])
        assert effects.condVar[group].shape == (len(modes), modes.shape[1], modes.shape[1])
        assert_near(effects.condVar[group], expected)


@every_fit
def test_henderson_by_dense_matrices(name):
    # The mixed-model equations: one route to u and beta that shares nothing with the factors.
    fit = fit_of(name)
    Z, Lambda, X, root, M = dense(fit)
    U, V, y = root[:, None] * (Z @ Lambda), root[:, None] * X, root * fit.getME("y")
    left = np.block([[M, U.T @ V], [V.T @ U, V.T @ V]])
    solution = np.linalg.solve(left, np.concatenate([U.T @ y, V.T @ y]))
    q = len(M)
    assert_near(fit.getME("u"), solution[:q])
    assert_near(fit.beta, solution[q:])
    assert_near(fit.getME("b"), Lambda @ solution[:q])
    assert_near(fit.vcov(), fit.sigma**2 * np.linalg.inv(left)[q:, q:])
    pwrss = ((y - U @ solution[:q] - V @ solution[q:]) ** 2).sum() + (solution[:q] ** 2).sum()
    cmp = fit.getME("devcomp")["cmp"]
    assert cmp["pwrss"] == pytest.approx(pwrss, rel=1e-12)
    assert cmp["ldL2"] == pytest.approx(np.linalg.slogdet(M)[1], rel=1e-12)


@every_fit
def test_the_factors_multiply_to_what_they_factor(name):
    # L L' = P (A W A' + I) P', L RZX = P A W X, RX'RX = X'WX - RZX'RZX.
    fit = fit_of(name)
    L, P = fit.getME("L").toarray(), fit.getME("P")
    RZX, RX, (_, _, X, root, M) = fit.getME("RZX"), fit.getME("RX"), dense(fit)
    A = fit.getME("A").toarray() * root
    np.testing.assert_array_equal(np.sort(P), np.arange(len(P)))
    np.testing.assert_array_equal(L, np.tril(L))
    assert_near(A @ A.T + np.eye(len(P)), M)
    assert_near(L @ L.T, M[np.ix_(P, P)])
    assert_near(L @ RZX, (A @ (root[:, None] * X))[P])
    np.testing.assert_array_equal(RX, np.triu(RX))
    assert (RX.diagonal() > 0).all()
    assert_near(RX.T @ RX, X.T @ (root[:, None] ** 2 * X) - RZX.T @ RZX, 1e-9)


@every_fit
def test_pieces_are_those_of_lme4(name):
    fit, expected = fit_of(name), reference(name)
    for piece in ("u", "b", "RX", "Gp", "p_i", "q_i", "m_i"):
        assert_near(fit.getME(piece), expected[piece])
    # JSON has no -Inf.
    lower = [-np.inf if bound is None else bound for bound in expected["lower"]]
    np.testing.assert_array_equal(fit.getME("lower"), lower)
    for piece in ("Zt", "Lambda"):
        assert_near(fit.getME(piece).toarray(), expected[piece], 1e-13)
    assert_near(fit.getME("Lambdat").toarray(), np.transpose(expected["Lambda"]), 1e-13)
    np.testing.assert_array_equal(fit.getME("Z").toarray(), fit.getME("Zt").toarray().T)
    rows = np.vstack([Zt.toarray() for Zt in fit.getME("Ztlist").values()])
    assert_near(np.sort(rows, axis=0), np.sort(fit.getME("Zt").toarray(), axis=0), 0.0)
    assert_near(fit.getME("X").head(8), expected["X"])
    assert_near(fit.getME("mu")[:8], expected["mu"])
    for piece in ("k", "m", "N", "n", "p", "q", "n_rtrms", "n_rfacs", "is_REML"):
        assert fit.getME(piece) == expected[piece]
    assert fit.getME("REML") == expected["dims"]["REML"]
    assert_near(fit.getME("RZX").T @ fit.getME("RZX"), expected["RZX_crossprod"])
    assert fit.getME("RZX").shape == (expected["q"], expected["p"])
    for ours, theirs in zip(fit.getME("Tlist"), expected["Tlist"], strict=True):
        assert_near(ours, theirs)
    cnms = [(c["group"], c["columns"]) for c in expected["cnms"]]
    assert fit.getME("cnms") == cnms
    flist = fit.getME("flist")
    assert list(flist) == expected["flist"]
    for group, head in expected["flist_head"].items():
        assert list(flist[group].head(8).astype(str)) == head
    # Levels are counted once a factor, unlike the other *_i.
    assert fit.getME("l_i") == [expected["ngrps"][group] for group in flist]
    mmList = fit.getME("mmList")
    assert [list(m.columns) for m in mmList.values()] == [columns for _, columns in cnms]
    devcomp = fit.getME("devcomp")
    for part in ("cmp", "dims"):
        for key, value in devcomp[part].items():
            assert value == pytest.approx(expected[part][key], rel=1e-11), key


@every_fit
def test_repeats_of_the_fits_own_numbers(name):
    fit = fit_of(name)
    np.testing.assert_array_equal(fit.getME("theta"), fit.theta)
    np.testing.assert_array_equal(fit.getME("par"), fit.par)
    np.testing.assert_array_equal(fit.getME("beta"), fit.beta)
    pd.testing.assert_series_equal(fit.getME("fixef"), fit.fixef())
    assert fit.getME("sigma") == fit.sigma
    np.testing.assert_array_equal(fit.getME("mu"), fit.fitted())
    np.testing.assert_array_equal(fit.getME("offset"), np.zeros(fit.nobs))
    everything = fit.getME("ALL")
    assert set(everything) >= {"X", "Zt", "theta", "L", "devcomp"}
    for key in everything:
        fit.getME(key)
    some = fit.getME(["theta", "n"])
    assert list(some) == ["theta", "n"]
    assert some["n"] == fit.nobs
    with pytest.raises(ValueError, match=r"getME knows no 'zt'; expected one of .*Zt"):
        fit.getME(["X", "zt"])


def test_devfun_at_given_theta():
    # lme4 2.1-0, tests: test-lmer (Dyestuff, REML).
    fit = lmer("Yield ~ 1 + (1 | Batch)", frame("Dyestuff"))
    devfun = fit.getME("devfun")
    assert devfun(1) == pytest.approx(319.792389042002, rel=1e-13)
    assert devfun([0]) == pytest.approx(326.023232155879, rel=1e-13)
    assert devfun(fit.theta) == pytest.approx(fit.objective, rel=1e-13)
    # A look elsewhere leaves the fit where it was.
    assert fit.objective == pytest.approx(319.654276842342, rel=1e-10)
    assert fit.ranef(condVar=True).condVar["Batch"][0, 0, 0] == pytest.approx(
        own_condvar_of_dyestuff(fit), rel=1e-12
    )


def own_condvar_of_dyestuff(fit):
    """Five rows a batch: sigma^2 theta^2 / (5 theta^2 + 1)."""
    return fit.sigma**2 * fit.theta[0] ** 2 / (5 * fit.theta[0] ** 2 + 1)


# Frames after broom.mixed (tidy, glance and augment of its merMod methods)


@every_fit
def test_tidy(name):
    fit = fit_of(name)
    ours = fit.tidy(ddf=None)
    assert list(ours) == ["effect", "group", "term", "estimate", "std_error", "statistic"]
    fixed = ours[ours["effect"] == "fixed"]
    np.testing.assert_array_equal(fixed["estimate"], fit.beta)
    np.testing.assert_allclose(fixed["statistic"], fixed["estimate"] / fixed["std_error"])
    random, expected = ours[ours["effect"] == "ran_pars"], reference(name)["cov_last"]
    np.testing.assert_allclose(random["estimate"], expected["sdcor"], rtol=1e-10)
    assert (random["std_error"] > 0).all()
    assert len(fixed) + len(random) == len(ours)
    if name == "sleep":
        assert list(random["term"]) == [
            "sd__(Intercept)",
            "sd__Days",
            "cor__(Intercept).Days",
            "sd__Observation",
        ]
        assert list(random["group"]) == ["Subject", "Subject", "Subject", "Residual"]


LAST = ["df_residual", "left_out"]


@every_fit
def test_glance(name):
    fit = fit_of(name)
    ours = fit.glance()
    criterion = "REMLcrit" if fit.REML else "deviance"
    assert list(ours) == ["nobs", "sigma", "logLik", "AIC", "BIC", criterion, *LAST]
    expected = [fit.nobs, fit.sigma, fit.loglik, fit.aic, fit.bic, fit.objective]
    expected += [fit.df_residual, 0]
    assert list(ours.iloc[0]) == expected


@every_fit
def test_augment(name):
    fit = fit_of(name)
    ours = fit.augment()
    assert len(ours) == fit.nobs
    np.testing.assert_array_equal(ours[".fitted"], fit.fitted())
    np.testing.assert_array_equal(ours[".resid"], fit.residuals())
    np.testing.assert_array_equal(ours[".fixed"], fit.predict(re_form="~0"))
    data = frame(reference(name)["data"])
    response = reference(name)["formula"].split(" ~ ")[0]
    np.testing.assert_array_equal(ours[response], data[response])
    weights = reference(name)["weights"]
    np.testing.assert_array_equal(ours[".weights"], 1.0 if weights is None else data[weights])
    for group in fit.ngrps().index:
        assert group in ours


# Rows with missing values


@pytest.mark.parametrize("method", ["fitted", "residuals", "predict", "augment"])
def test_rows_with_missing_values(method):
    data = frame("crossed_na").set_axis([f"row{i}" for i in range(260)])
    complete = data[["y", "x", "a"]].notna().all(axis=1)
    omit = getattr(lmer("y ~ x + (1 | a)", data), method)()
    exclude = getattr(lmer("y ~ x + (1 | a)", data, na_action="exclude"), method)()
    assert list(omit.index) == list(data.index[complete])
    assert list(exclude.index) == list(data.index)
    column = exclude[".resid"] if method == "augment" else exclude
    np.testing.assert_array_equal(column.notna(), complete)
    np.testing.assert_array_equal(exclude[complete], omit)
    if method == "augment":  # what is known of a row that was left out is there
        np.testing.assert_array_equal(exclude["x"], data["x"])


def test_fail_refuses_missing_values():
    with pytest.raises(ValueError, match="missing"):
        lmer("y ~ x + (1 | a)", frame("crossed_na"), na_action="fail")


# Singular fits and options of methods


def test_is_singular_takes_a_tolerance():
    fit = own_fit("sleep")
    assert not fit.is_singular()
    assert fit.is_singular(tol=2.0)


def test_verbose_prints_every_evaluation(capsys):
    fit = lmer("Yield ~ 1 + (1 | Batch)", frame("Dyestuff"), verbose=1)
    lines = capsys.readouterr().out.splitlines()
    assert len(lines) == fit.convergence.n_evaluations
    assert all(line.startswith("criterion ") for line in lines)
    assert float(lines[-1].split("par")[-1]) == pytest.approx(fit.par[0], rel=1e-5)


@pytest.mark.parametrize("optimizer", ["L-BFGS-B", "Nelder-Mead", "Powell", "COBYLA"])
def test_other_optimizers_end_at_the_same_place(optimizer):
    fit = lmer("Reaction ~ Days + (Days | Subject)", frame("sleepstudy"), optimizer=optimizer)
    assert fit.convergence.optimizer == optimizer
    # Searches without derivatives stop 1e-6 above the optimum, in units of the criterion.
    assert fit.objective == pytest.approx(own_fit("sleep").objective, abs=2e-6)
    by_control = lmer(
        "Reaction ~ Days + (Days | Subject)",
        frame("sleepstudy"),
        control=LmerControl(optimizer=optimizer),
    )
    assert by_control.objective == fit.objective


@pytest.mark.parametrize("start", [[2.0, 0.5, 0.1], {"theta": [2.0, 0.5, 0.1]}, {"par": [1, 0, 1]}])
def test_the_start_does_not_change_the_end(start):
    fit = lmer("Reaction ~ Days + (Days | Subject)", frame("sleepstudy"), start=start)
    np.testing.assert_allclose(fit.theta, own_fit("sleep").theta, rtol=0, atol=1e-6)
    first = fit.convergence.log[0].objective
    assert first != own_fit("sleep").convergence.log[0].objective


# What is printed


def test_every_result_shows_in_a_notebook():
    fit = own_fit("sleep")
    for result in (fit, fit.summary(), fit.VarCorr(), fit.rePCA()["Subject"]):
        html = result._repr_html_()
        assert "<table" in html
        assert html.count("<table") == html.count("</table>")
        assert html.count("<td") == html.count("</td>")
        assert "(Intercept)" in html or "PC1" in html
    assert repr(fit) == str(fit)
    assert repr(fit.VarCorr()) == str(fit.VarCorr())


def test_the_convergence_prints_what_happened():
    assert "newton: converged after" in str(own_fit("sleep").convergence)


def test_a_covariance_that_no_level_shows_is_called_unidentified():
    # Each level of recipe:replicate has one recipe, so nothing tells how two of them go together.
    with pytest.warns(ConvergenceWarning, match="nearly unidentifiable.*recipe"):
        fit = lmer("angle ~ temp + (0 + recipe | recipe:replicate)", frame("cake"))
    assert fit.convergence.flat


@pytest.mark.parametrize("formula", ["y ~ x + (x | a) + (1 | b)", "y ~ x + (x + z || a)"])
def test_pieces_that_say_where_theta_goes(formula):
    fit = lmer(formula, frame("crossed"))
    Lambdat = fit.getME("Lambdat")
    np.testing.assert_array_equal(Lambdat.data, fit.theta[fit.getME("Lind")])
    starts = fit.getME("Tp")
    assert starts[0] == 0
    assert starts[-1] == len(fit.theta)
    for ST, lam in zip(fit.getME("ST"), fit.getME("Tlist"), strict=True):
        scale = np.diag(ST.diagonal())
        unit = np.tril(ST, -1) + np.eye(len(ST))
        np.testing.assert_allclose(unit @ scale, lam, atol=1e-15)
    assert fit.getME("npar") == fit.npar


@pytest.mark.parametrize("tol", ["x", -1.0, None])
def test_a_tolerance_that_is_no_number_is_refused(tol):
    with pytest.raises(ValueError, match=r"tol is .*; expected a number that is not negative"):
        lmer("Yield ~ 1 + (1 | Batch)", frame("Dyestuff")).is_singular(tol)
