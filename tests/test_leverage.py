"""Leverages and what follows from them: against lme4, R's glm, dense algebra and deletions.

tests/reference/influence.json is by lme4 1.1.31 and R 4.2.2 (influence.R).
"""

from functools import cache

import dense_gaussian
import numpy as np
import pandas as pd
import pytest
from predicted import FORMULAS, GENERALIZED, generalized, linear
from reference_data import case, cases, frame, read_reference
from simulated_glmm import simulated
from test_any_density import fitted as any_density

from mixef import Beta, LmerControl, StudentT, glmer, lmer
from mixef.errors import DataError
from mixef.inference.influence.leverage import leverages

LINEAR = [c["id"] for c in cases("influence.json")]
# lme4's searches end within some 1e-7 of theta: its derivative-free steps are 1e-11 of what counts.
LME4 = 2e-6


@cache
def lme4_fit(name):
    c = case("influence.json", name)
    control = LmerControl(check_conv_singular="ignore")
    data = frame(c["data"])
    return lmer(c["formula"], data, weights=c["weights"], REML=c["REML"], control=control)


@pytest.mark.parametrize("name", LINEAR)
def test_linear_models_are_lme4s(name):
    fit, theirs = lme4_fit(name), case("influence.json", name)
    h = fit.hatvalues()
    np.testing.assert_allclose(h, theirs["hatvalues"], rtol=LME4)
    np.testing.assert_allclose(fit.cooks_distance(), theirs["cooks_distance"], rtol=1e-4, atol=1e-7)
    # What lme4 calls rstudent has the row in its sigma.
    standard = fit.residuals("pearson") / (fit.sigma * np.sqrt(1 - h))
    np.testing.assert_allclose(standard, theirs["rstudent"], rtol=1e-4, atol=1e-6)


def columns(fit):
    """``[Z Lambda, X]`` (n, q + p), q, and the working weights (n,)."""
    parts = [
        dense_gaussian.random_columns(t.grouping.codes, t.n_levels, t.z)
        @ np.kron(np.eye(t.n_levels), lam)
        for t, lam in zip(fit._fit.terms, fit._fit.estimates.lams, strict=True)
    ]
    q = sum(part.shape[1] for part in parts)
    W = fit.weights("working") if fit._fit.is_linear else fit.weights("working") / fit.sigma**2
    return np.column_stack([*parts, fit._fit.X]), q, W.to_numpy()


def hat_matrix(fit):
    """The matrix whose diagonal the leverages are (n, n), symmetric by the roots of weights."""
    V, q, W = columns(fit)
    root = np.sqrt(W)[:, None] * V
    A = root.T @ root
    A[:q, :q] += np.eye(q)
    return root @ np.linalg.solve(A, root.T)


STRUCTURED = {
    "cs": "y ~ x + cs(1 + x | g)",
    "ar1": "y ~ x + ar1(0 + f | g)",
    "diag": "y ~ x + diag(0 + f | g)",
}


@cache
def structured(name):
    rng = np.random.default_rng(3)
    g, f = np.repeat(np.arange(12), 8), np.tile(list("abcd"), 24)
    x = rng.normal(size=96)
    y = x + rng.normal(size=12)[g] + 0.5 * rng.normal(size=12)[g] * x + rng.normal(size=96)
    control = LmerControl(check_conv_singular="ignore")
    return lmer(STRUCTURED[name], {"y": y, "x": x, "g": g, "f": f}, control=control)


def fits():
    yield from ((f"linear {name}", lambda name=name: linear(name)) for name in FORMULAS)
    yield "ML", lambda: linear("vector", False)
    yield from ((name, lambda name=name: structured(name)) for name in STRUCTURED)
    yield from ((name, lambda name=name: generalized(name)) for name in GENERALIZED)
    yield "joint mode", lambda: generalized("scalar", 0)
    yield "Beta", lambda: any_density(Beta, "(x | g) + (1 | h)")
    yield "t", lambda: any_density(StudentT)


MODELS = dict(fits())


@pytest.mark.parametrize("name", MODELS)
def test_leverages_are_the_diagonal_of_the_hat_matrix(name):
    fit = MODELS[name]()
    H, h = hat_matrix(fit), fit.hatvalues()
    # Condition numbers of A up to 1e5 times rounding.
    np.testing.assert_allclose(h, H.diagonal(), rtol=1e-8, atol=1e-12)
    assert (h > 0).all()
    assert (h < 1).all()


@pytest.mark.parametrize("name", ["linear crossed", "three factors", "vector, dispersion"])
def test_their_sum_is_the_effective_number_of_parameters(name):
    fit = MODELS[name]()
    V, q, W = columns(fit)
    A = V.T @ (W[:, None] * V)
    A[:q, :q] += np.eye(q)
    assert fit.hatvalues().sum() == pytest.approx(
        V.shape[1] - np.linalg.inv(A)[:q, :q].trace(), rel=1e-9
    )


def joint_mode(fit, y):
    """The mean where u and beta maximize the penalized likelihood, templates held: dense PIRLS."""
    V, q, _ = columns(fit)
    family, w = fit._fit.family, fit.weights().to_numpy()
    penalty = np.r_[np.ones(q), np.zeros(V.shape[1] - q)]
    offset = 0.0 if fit._fit.frame.offset is None else fit._fit.frame.offset
    effects = np.zeros(V.shape[1])
    for _ in range(30):
        mu = family.link.inverse(V @ effects + offset)
        W = w * family.variance(mu)
        gradient = V.T @ (w * (y - mu)) - penalty * effects
        effects = effects + np.linalg.solve(V.T @ (W[:, None] * V) + np.diag(penalty), gradient)
    return family.link.inverse(V @ effects + offset)


def test_a_leverage_is_a_derivative():
    fit = generalized("scalar", 0)
    y, h = fit._fit.y, fit.hatvalues().to_numpy()
    np.testing.assert_allclose(joint_mode(fit, y), fit.fitted(), rtol=1e-6)
    for i in (0, 7, 30):
        step = np.zeros(len(y))
        step[i] = 1e-4
        ends = [joint_mode(fit, y + s * step)[i] for s in (1, -1)]
        # Central differences: 1e-8 of third derivatives, and 1e-12 of rounding.
        assert (ends[0] - ends[1]) / 2e-4 == pytest.approx(h[i], rel=1e-5)


def without(fit, i):
    """Beta and sigma without row i, templates held, by dense least squares; and the row's mean."""
    state = fit._fit
    terms = [(t.grouping.codes, t.n_levels, t.z) for t in state.terms]
    w = state.frame.weights
    V = dense_gaussian.covariance(terms, state.estimates.lams, w)
    offset = np.zeros(len(V)) if state.frame.offset is None else state.frame.offset
    y, X, rest = state.y - offset, state.X, np.delete(np.arange(len(V)), i)
    inner = V[np.ix_(rest, rest)]
    _, beta, sigma = dense_gaussian.criterion(y[rest], X[rest], inner, state.REML)
    blup = V[i, rest] @ np.linalg.solve(inner, y[rest] - X[rest] @ beta)
    return beta, sigma, X[i] @ beta + blup + offset[i], V


@pytest.mark.parametrize("name", ["linear vector", "linear crossed", "linear three factors", "ML"])
def test_row_diagnostics_are_deletions_with_templates_held(name):
    fit = MODELS[name]()
    h, state = fit.hatvalues(), fit._fit
    w = np.ones(fit.nobs) if state.frame.weights is None else state.frame.weights
    found = {m: getattr(fit, m)() for m in ("cooks_distance", "rstudent", "dffits", "dfbetas")}
    for i in (0, 5, fit.nobs - 1):
        beta, sigma, mean, V = without(fit, i)
        X = state.X
        unit = np.sqrt(np.linalg.inv(X.T @ np.linalg.solve(V, X)).diagonal())
        e, mu = fit.residuals("response").iloc[i], fit.fitted().iloc[i]
        t = e * np.sqrt(w[i] / (1 - h.iloc[i])) / sigma
        # Condition numbers of V up to 1e5 times rounding.
        assert found["rstudent"].iloc[i] == pytest.approx(t, rel=1e-8)
        size = sigma * np.sqrt(h.iloc[i] / w[i])
        assert found["dffits"].iloc[i] == pytest.approx((mu - mean) / size, rel=1e-7)
        np.testing.assert_allclose(
            found["dfbetas"].iloc[i], (fit.beta - beta) / (sigma * unit), rtol=1e-6, atol=1e-10
        )
        D = e**2 * w[i] * h.iloc[i] / ((1 - h.iloc[i]) ** 2 * len(beta) * fit.sigma**2)
        assert found["cooks_distance"].iloc[i] == pytest.approx(D, rel=1e-8)


@pytest.mark.parametrize("theirs", read_reference("influence.json")["singular"],
                         ids=["poisson", "binomial"])  # fmt: skip
def test_without_random_variance_they_are_glms(theirs):
    data = {"y": theirs["y"], "x": theirs["x"], "g": np.repeat(list("abcd"), 10)}
    with pytest.warns(match="boundary"):
        fit = glmer("y ~ x + (1 | g)", data, theirs["id"])
    # Where glm's and our search end: 1e-8 of the coefficients and better.
    for name in ("hatvalues", "rstudent", "cooks_distance"):
        np.testing.assert_allclose(getattr(fit, name)(), theirs[name], rtol=1e-5, atol=1e-9)


@pytest.mark.parametrize("name", ["scalar", "three factors", "vector, dispersion"])
def test_generalized_deletions_are_one_scoring_step(name):
    fit = MODELS[name]()
    V, q, W = columns(fit)
    A = V.T @ (W[:, None] * V)
    A[:q, :q] += np.eye(q)
    score, found, at = W * fit.residuals("working"), fit.dfbetas(), leverages(fit._fit)
    unit = np.sqrt(np.linalg.inv(A)[q:, q:].diagonal())
    for i in (0, 11, fit.nobs - 1):
        step = np.linalg.solve(A - W[i] * np.outer(V[i], V[i]), V[i] * score.iloc[i])
        expected = step[q:] / (unit * at.sigma_ratio[i])
        # Condition numbers of A up to 1e5 times rounding.
        np.testing.assert_allclose(found.iloc[i], expected, rtol=1e-7, atol=1e-10)
        fitted = np.sqrt(W[i] / at.h[i]) * (V[i] @ step) / at.sigma_ratio[i]
        assert fit.dffits().iloc[i] == pytest.approx(fitted, rel=1e-7)


@pytest.mark.parametrize("name", ["hatvalues", "cooks_distance", "rstudent", "dffits", "dfbetas"])
def test_units_and_the_order_of_rows_change_nothing(name):
    data = frame("crossed")
    formula = "yw ~ x + f + (x | a) + (1 | b)"
    first = getattr(lmer(formula, data, weights="w"), name)()
    other = data.sample(frac=1.0, random_state=1)
    other = other.assign(x=1e5 * (other["x"] + 3), yw=1e-3 * other["yw"], w=7 * other["w"])
    second = getattr(lmer(formula, other, weights="w"), name)().loc[first.index]
    if name == "dfbetas":  # the intercept is at another x
        first, second = (d.drop(columns="(Intercept)") for d in (first, second))
    # Both searches end within 1e-7 or so of the optimum.
    np.testing.assert_allclose(second, first, rtol=2e-5, atol=1e-6)


def test_a_weight_of_two_is_two_rows():
    data = simulated("poisson(log)", 60).assign(k=lambda d: d["w"])
    one = glmer("y ~ x + (1 | g)", data, "poisson", weights="w")
    rows = data.loc[data.index.repeat(data["w"])].reset_index()
    many = glmer("y ~ x + (1 | g)", rows, "poisson")
    h = many.hatvalues().groupby(rows["index"].to_numpy()).sum()
    np.testing.assert_allclose(one.hatvalues(), h, rtol=1e-6)


def test_a_row_that_decides_a_coefficient_alone():
    data = frame("sleepstudy").assign(alone=np.arange(180) == 17, other=np.arange(180) % 3)
    fit = lmer("Reaction ~ Days + alone + (1 | Subject)", data)
    assert fit.hatvalues().iloc[17] == pytest.approx(1.0, abs=1e-12)
    for name in ("rstudent", "cooks_distance", "dffits"):
        values = getattr(fit, name)()
        assert values.isna().to_numpy().nonzero()[0].tolist() == [17]
    row = fit.dfbetas().iloc[17]
    assert row.isna().tolist() == [False, False, True]
    assert (row[:2] == 0).all()


def test_rows_that_were_left_out_are_padded_as_residuals_are():
    data = frame("sleepstudy").astype({"Reaction": float})
    data.loc[[3, 90], "Reaction"] = np.nan
    fit = lmer("Reaction ~ Days + (1 | Subject)", data, na_action="exclude")
    for name in ("hatvalues", "cooks_distance", "rstudent", "dffits", "dfbetas"):
        values = getattr(fit, name)()
        assert values.index.equals(fit.residuals().index)
        missing = pd.DataFrame(values).isna().any(axis=1)
        assert np.flatnonzero(missing).tolist() == [3, 90]


def test_a_model_without_fixed_effects():
    fit = lmer("Reaction ~ 0 + (1 | Subject)", frame("sleepstudy"))
    assert 0 < fit.hatvalues().sum() < 18
    assert np.isfinite(fit.rstudent()).all()
    assert fit.augment()[".cooksd"].isna().all()
    for name in ("cooks_distance", "dfbetas"):
        with pytest.raises(DataError, match=f"{name} is about the fixed effects, and Reaction ~ 0"):
            getattr(fit, name)()


def test_augment_has_them():
    fit = generalized("scalar")
    rows = fit.augment()
    np.testing.assert_array_equal(rows[".hat"], fit.hatvalues())
    np.testing.assert_array_equal(rows[".cooksd"], fit.cooks_distance())


def test_a_dispersion_without_the_row():
    fit = generalized("vector, dispersion")
    at = leverages(fit._fit)
    n, q = fit.nobs, at.at.q
    # One scoring step on the working least-squares problem.
    left = (fit._fit.estimates.pwrss - q**2 / (1 - at.h)) / fit._fit.estimates.pwrss
    np.testing.assert_allclose(at.sigma_ratio, np.sqrt(left * n / (n - 1)))
