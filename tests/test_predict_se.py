"""Standard errors of predictions: against glmmTMB, dense algebra, and differences.

tests/reference/predict_se.json is by glmmTMB 1.1.5 (predict_se.R), whose variances are joint over
all parameters and random effects.
"""

from dataclasses import replace

import numpy as np
import pytest
from predicted import (
    FORMULAS,
    GENERALIZED,
    dense_variance,
    fit_of,
    generalized,
    linear,
    rows_of,
    sparse_row,
)
from reference_data import case, cases, frame

from mixef import lmer
from mixef.estimation.search.hessian import inverse_hessian
from mixef.inference.prediction.predict import predictions

CASES = [c["id"] for c in cases("predict_se.json")]
# glmmTMB's searches end at gradients of up to 3e-3 (recorded there), and its Hessian is by
# differences of the gradient: standard errors agree to 8e-6 or better.
TMB = 2e-5


def assert_as_glmmtmb(ours, theirs):
    # Where its search ended: within 5e-4 standard errors.
    assert (np.abs(ours["fit"] - theirs["fit"]) < 5e-4 * np.array(theirs["se"])).all()
    np.testing.assert_allclose(ours["se_fit"], theirs["se"], rtol=TMB)


@pytest.mark.parametrize("type", ["link", "response"])
@pytest.mark.parametrize("name", CASES)
def test_joint_standard_errors_are_glmmtmbs(name, type):
    ours = fit_of(name).predict(rows_of(name), type=type, se_fit=True)
    assert_as_glmmtmb(ours, case("predict_se.json", name)[type])


@pytest.mark.parametrize("name", CASES)
def test_a_new_level_has_its_own_variance_as_in_glmmtmb(name):
    rows = rows_of(name, unseen=True)
    ours = fit_of(name).predict(rows, type="link", new_levels="population", se_fit=True)
    assert_as_glmmtmb(ours, case("predict_se.json", name)["unseen"])


@pytest.mark.parametrize("name", [n for n in CASES if not n.endswith("_REML")])
def test_population_standard_errors_are_glmmtmbs(name):
    ours = fit_of(name).predict(rows_of(name), type="link", re_form="~0", se_fit=True)
    assert_as_glmmtmb(ours, case("predict_se.json", name)["fixed"])


# Covariance parameters taken as known: dense algebra, and lme4's numbers


@pytest.mark.parametrize("name", FORMULAS)
def test_given_theta_the_variance_is_hendersons(name):
    fit = linear(name)._fit
    Z = [sparse_row(fit, i, t.z, t.grouping.codes) for i, t in enumerate(fit.terms)]
    ours = predictions(fit, se_fit=True, given_theta=True)["se_fit"]
    # Condition numbers of A up to 1e5 times rounding.
    np.testing.assert_allclose(ours**2, dense_variance(fit, fit.X, Z), rtol=1e-9)


@pytest.mark.parametrize("name", FORMULAS)
def test_levels_that_the_data_never_have_together(name):
    fit = linear(name)._fit
    data = frame(FORMULAS[name][0])
    rng = np.random.default_rng(2)
    mixed = data.copy()
    for column in {"a", "b", "c", "Subject"} & set(data.columns):
        mixed[column] = rng.permutation(data[column].to_numpy())
    mixed = mixed.head(40)
    codes = [t.grouping.spec.codes(mixed).codes for t in fit.terms]
    z = [t.design.spec.apply(mixed) for t in fit.terms]
    Z = [sparse_row(fit, t, z[t], codes[t]) for t in range(len(z))]
    X = fit.design.spec.apply(mixed)
    expected = dense_variance(fit, X, Z)
    for t, lam in enumerate(fit.estimates.lams):  # combinations of a/b that are new
        own = fit.estimates.sigma**2 * ((z[t] @ lam) ** 2).sum(axis=1)
        expected += np.where(codes[t] < 0, own, 0.0)
    ours = predictions(fit, mixed, se_fit=True, given_theta=True, new_levels="population")
    np.testing.assert_allclose(ours["se_fit"] ** 2, expected, rtol=1e-9)


@pytest.mark.parametrize(
    ("name", "re_form", "kept"),
    [
        ("vector", "~ (1 | Subject)", [[1, 0]]),
        ("vector", "~ (0 + Days | Subject)", [[0, 1]]),
        ("vector", "~0", [[0, 0]]),
        ("crossed", "~ (1 | b)", [[0, 0], [1]]),
        ("crossed", "~ (0 + x | a)", [[0, 1], [0]]),
    ],
)
def test_given_theta_with_part_of_the_random_effects(name, re_form, kept):
    fit = linear(name)._fit
    Z = [
        sparse_row(fit, t, term.z * use, term.grouping.codes)
        for t, (term, use) in enumerate(zip(fit.terms, kept, strict=True))
    ]
    ours = predictions(fit, re_form=re_form, se_fit=True, given_theta=True)["se_fit"]
    np.testing.assert_allclose(ours**2, dense_variance(fit, fit.X, Z), rtol=1e-9)


def test_given_theta_they_are_lme4s():
    # Printed by lme4 2.1-0's predict(se.fit = TRUE), from theta 1e-5 off the optimum.
    sleep = predictions(linear("vector")._fit, se_fit=True, given_theta=True)["se_fit"].head(3)
    np.testing.assert_allclose(sleep, [12.25481083, 10.54338482, 9.11383152], rtol=1e-5)


def test_given_theta_the_population_has_the_standard_errors_of_beta():
    for fit in (linear("crossed"), fit_of("cbpp")):
        X, vcov = fit._fit.X, fit._fit.covariance_scale * fit._fit.estimates.unscaled_vcov
        ours = predictions(fit._fit, re_form="~0", type="link", se_fit=True, given_theta=True)
        np.testing.assert_allclose(
            ours["se_fit"] ** 2, np.einsum("np,pq,nq->n", X, vcov, X), rtol=1e-11
        )


def test_in_a_balanced_model_theta_adds_nothing_to_the_population():
    # There beta is that of ordinary least squares, whatever theta.
    fit = linear("vector")
    se = fit.predict(re_form="~0", se_fit=True)["se_fit"]
    X = fit._fit.X
    np.testing.assert_allclose(se**2, np.einsum("np,pq,nq->n", X, fit.vcov(), X), rtol=1e-9)


# The share of the covariance parameters


def eta_at(fit, point):
    """The linear predictor (n,) of a linear fit at parameters of the scaled problem."""
    e = fit.criterion().estimates(point)
    eta = fit.X @ e.beta
    for term, b in zip(fit.terms, e.effects, strict=True):
        eta = eta + np.einsum("ns,ns->n", term.z, b[term.grouping.codes])
    return eta


def differences(function, point, steps):
    """Central differences of fourth order (K, n)."""
    out = []
    for h in np.diag(steps):
        f = [function(point + j * h) for j in (-2, -1, 1, 2)]
        out.append((8 * (f[2] - f[1]) - (f[3] - f[0])) / (12 * h.max()))
    return np.array(out)


@pytest.mark.parametrize("REML", [True, False])
@pytest.mark.parametrize("name", FORMULAS)
def test_theta_adds_the_delta_methods_variance(name, REML):
    fit = linear(name, REML)._fit
    criterion = fit.criterion()
    steps = 1e-3 * criterion.scale(fit.scaled_par)
    J = differences(lambda par: eta_at(fit, par), fit.scaled_par, steps)
    k = len(fit.scaled_par)
    covariance = inverse_hessian(criterion.curvature(fit.scaled_par).hessian)[0][:k, :k]
    known = predictions(fit, se_fit=True, given_theta=True)["se_fit"] ** 2
    both = predictions(fit, se_fit=True)["se_fit"] ** 2
    added = np.einsum("an,ab,bn->n", J, covariance, J)
    # Differences: 1e-12 of fourth derivatives, and rounding over steps of 1e-3.
    np.testing.assert_allclose(both - known, added, rtol=1e-6, atol=1e-9 * both.max())
    assert (added > 1e-4 * known).any()


@pytest.mark.parametrize("name", GENERALIZED)
def test_modes_move_as_differences_say(name):
    fit = generalized(name)._fit
    criterion = fit.criterion()
    steps = 1e-3 * criterion.scale(fit.point)

    def beta_and_modes(point):
        e = criterion.estimates(point)
        return np.concatenate([e.beta, *(b.ravel() for b in e.effects)])

    expected = differences(beta_and_modes, fit.point, steps)
    beta, effects = criterion.effects_slopes(fit.point)
    ours = np.column_stack([beta.T, *(e.reshape(len(e), -1) for e in effects)])
    scale = np.abs(expected).max(axis=1, keepdims=True) + 1e-6
    np.testing.assert_allclose(ours / scale, expected / scale, rtol=0, atol=1e-7)


@pytest.mark.parametrize("name", ["scalar", "expected information", "vector, dispersion", "shape"])
def test_modes_move_jointly_with_the_coefficients_when_nAGQ_is_0(name):
    fit = generalized(name, 0)._fit
    criterion = fit.criterion()
    steps = 1e-3 * criterion.scale(fit.point)

    def beta_and_modes(point):
        e = criterion.estimates(point)
        return np.concatenate([e.beta, *(b.ravel() for b in e.effects)])

    expected = differences(beta_and_modes, fit.point, steps)
    beta, effects = criterion.effects_slopes(fit.point)
    ours = np.column_stack([beta.T, *(e.reshape(len(e), -1) for e in effects)])
    np.testing.assert_allclose(ours, expected, rtol=0, atol=1e-7 * np.abs(expected).max())


@pytest.mark.parametrize("name", ["scalar", "shape"])
def test_nAGQ_0_is_close_to_laplace(name):
    # Another approximation, but to the same thing: 5 %.
    fast, full = (generalized(name, k).predict(se_fit=True, type="link") for k in (0, 1))
    np.testing.assert_allclose(fast["se_fit"], full["se_fit"], rtol=0.05)
    known = predictions(generalized(name, 0)._fit, type="link", se_fit=True, given_theta=True)
    assert (known["se_fit"] < fast["se_fit"]).all()


@pytest.mark.parametrize("name", ["scalar", "three factors"])
def test_generalized_given_theta_is_hendersons_at_the_working_weights(name):
    fit = generalized(name)._fit
    lams = fit.estimates.lams
    big = [np.kron(np.eye(t.n_levels), lam) for t, lam in zip(fit.terms, lams, strict=True)]
    U = [sparse_row(fit, i, t.z, t.grouping.codes) @ big[i] for i, t in enumerate(fit.terms)]
    V, mu = np.column_stack([*U, fit.X]), fit.estimates.mu
    W = mu if fit.family.name == "poisson" else fit.outcome.weights * mu * (1 - mu)
    A = V.T @ (W[:, None] * V)
    q = V.shape[1] - fit.X.shape[1]
    A[:q, :q] += np.eye(q)
    expected = np.einsum("na,ab,nb->n", V, np.linalg.inv(A), V)
    ours = predictions(fit, type="link", se_fit=True, given_theta=True)["se_fit"]
    np.testing.assert_allclose(ours**2, expected, rtol=1e-9)


def test_a_fit_without_a_hessian_takes_theta_as_known():
    fit = replace(generalized("scalar")._fit, end_hessian=None)
    ours = predictions(fit, type="link", se_fit=True)
    known = predictions(generalized("scalar")._fit, type="link", se_fit=True, given_theta=True)
    np.testing.assert_allclose(ours["se_fit"], known["se_fit"], rtol=1e-12)


def test_a_singular_fit():
    # Dyestuff2 has no variance between batches: all that is left is the mean's.
    with pytest.warns(UserWarning, match="singular"):
        fit = lmer("Yield ~ 1 + (1 | Batch)", frame("Dyestuff2"))
    out = fit.predict(se_fit=True)
    np.testing.assert_allclose(out["se_fit"], fit.sigma / np.sqrt(30), rtol=1e-7)
    new = fit.predict({"Batch": ["new"]}, new_levels="population", interval="prediction")
    assert new["se_fit"][0] == pytest.approx(fit.sigma / np.sqrt(30), rel=1e-7)


def test_units_change_nothing():
    data = frame("sleepstudy_unbalanced")
    fit = lmer("Reaction ~ Days + (Days | Subject)", data)
    other = data.assign(Days=1e5 * data["Days"] + 7e5, Reaction=1e-3 * data["Reaction"])
    moved = lmer("Reaction ~ Days + (Days | Subject)", other)
    for re_form in (None, "~0"):
        ours = fit.predict(re_form=re_form, se_fit=True)["se_fit"]
        theirs = moved.predict(re_form=re_form, se_fit=True)["se_fit"]
        # The searches end at different places, 1e-7 or so apart.
        np.testing.assert_allclose(1e3 * theirs, ours, rtol=1e-6)
