"""Degrees of freedom of predictions: against lmerTest and emmeans, closed forms, and differences.

tests/reference/predict_df.json is by emmeans 1.8.4.1 with lmerTest 3.1-3 (predict_df.R).
"""

from dataclasses import replace

import numpy as np
import pandas as pd
import pytest
from predicted import FORMULAS, dense_variance, generalized, linear, sparse_row
from reference_data import case, cases, frame
from scipy import stats

from mixef import LmerControl, lmer
from mixef.estimation.search.hessian import inverse_hessian
from mixef.inference.hypotheses.ddf import t_tests
from mixef.inference.prediction.predict import predictions
from mixef.inference.prediction.prediction_rows import prediction_rows
from mixef.inference.prediction.prediction_variance import prediction_df

QUIET = LmerControl(check_conv_singular="ignore")


def df_of(fit, new=None, re_form=None, response=False):
    """Degrees of freedom for the mean, or for a new response of weight 1."""
    rows = prediction_rows(fit._fit, new, re_form, "population", None)
    residual = np.full(len(rows.X), fit.sigma**2) if response else None
    return prediction_df(fit._fit, rows, residual)


def t95(df):
    return stats.t.ppf(0.975, df)


# Fixed effects alone

REFERENCE = [c["id"] for c in cases("predict_df.json")]


@pytest.mark.parametrize("name", REFERENCE)
def test_intervals_of_population_means_are_those_of_emmeans(name):
    c = case("predict_df.json", name)
    fit = lmer(c["formula"], frame(c["data"]), REML=c["REML"], weights=c.get("weights"))
    arguments = {"re_form": "~0", "interval": "confidence", "level": c["level"]}
    # emmeans, as lme4, takes theta as known in its standard errors.
    ours = predictions(fit._fit, c["new"], given_theta=True, **arguments)
    # Six digits of lmerTest's df are more of its t quantile.
    size = c["se"]
    for column in ("fit", "lower", "upper"):
        gap = (ours[column] - c[column]) / size
        np.testing.assert_allclose(gap, 0.0, atol=1e-6)
    np.testing.assert_allclose(df_of(fit, c["new"], "~0"), c["df"], rtol=2e-6)
    # In a balanced layout theta adds nothing to them.
    if c["data"] == "sleepstudy":
        own = fit.predict(c["new"], **arguments)
        np.testing.assert_allclose((own - ours) / ours, 0.0, atol=1e-9)


@pytest.mark.parametrize("REML", [True, False])
@pytest.mark.parametrize("name", FORMULAS)
def test_the_mean_of_fixed_effects_has_the_df_of_its_t_test(name, REML):
    fit = linear(name, REML)
    expected = t_tests(fit._fit, fit._fit.X).df
    np.testing.assert_allclose(df_of(fit, re_form="~0"), expected, rtol=1e-10)
    out = fit.predict(re_form="~0", interval="confidence")
    np.testing.assert_allclose(out["upper"] - out["fit"], t95(expected) * out["se_fit"], rtol=1e-9)


# With random effects: dense algebra and differences


def moved_fit(fit, phi):
    """The fit as if its covariance parameters and log sigma were phi."""
    lams = fit.problem.terms.user_lams(phi[:-1])
    return replace(fit, estimates=replace(fit.estimates, lams=lams, sigma=np.exp(phi[-1])))


def df_by_differences(fit, variance):
    """2 v^2 / g'Cg, with differences of fourth order of the variance (m,) of a fit."""
    phi = np.append(fit.scaled_par, np.log(fit.estimates.sigma))
    g = []
    for h in np.diag(np.append(1e-2 * fit.criterion().scale(fit.scaled_par), 1e-2)):
        f = [variance(moved_fit(fit, phi + j * h)) for j in (-2, -1, 1, 2)]
        g.append((8 * (f[2] - f[1]) - (f[3] - f[0])) / (12 * h.max()))
    covariance = inverse_hessian(fit.criterion().curvature(fit.scaled_par).hessian)[0]
    return 2 * variance(fit) ** 2 / np.einsum("an,ab,bn->n", g, covariance, g)


# Of fourth-order differences with steps of 0.01: 1e-8 of the fifth derivatives.
DIFFERENCES = 1e-6


def own_variance(fit, t, z):
    return fit.estimates.sigma**2 * ((z @ fit.estimates.lams[t]) ** 2).sum(axis=1)


@pytest.mark.parametrize("response", [False, True])
@pytest.mark.parametrize("REML", [True, False])
@pytest.mark.parametrize("name", FORMULAS)
def test_known_levels(name, REML, response):
    fit = linear(name, REML)
    Z = [sparse_row(fit._fit, i, t.z, t.grouping.codes) for i, t in enumerate(fit._fit.terms)]

    def variance(fit):
        own = fit.estimates.sigma**2 if response else 0.0
        return dense_variance(fit, fit.X, Z) + own

    expected = df_by_differences(fit._fit, variance)
    np.testing.assert_allclose(df_of(fit, response=response), expected, rtol=DIFFERENCES)


@pytest.mark.parametrize("name", ["crossed", "nested", "three factors"])
def test_levels_that_the_data_never_have_together(name):
    fit, rng = linear(name), np.random.default_rng(4)
    mixed = frame(FORMULAS[name][0])
    for column in {"a", "b", "c"} & set(mixed.columns):
        mixed[column] = rng.permutation(mixed[column].to_numpy())
    mixed = mixed.head(40)
    terms = fit._fit.terms
    codes = [t.grouping.spec.codes(mixed).codes for t in terms]
    z = [t.design.spec.apply(mixed) for t in terms]
    Z = [sparse_row(fit._fit, t, z[t], codes[t]) for t in range(len(z))]
    X = fit._fit.design.spec.apply(mixed)

    def variance(fit):
        total = dense_variance(fit, X, Z)
        for t in range(len(z)):  # combinations of a/b that are new
            total = total + np.where(codes[t] < 0, own_variance(fit, t, z[t]), 0.0)
        return total

    expected = df_by_differences(fit._fit, variance)
    np.testing.assert_allclose(df_of(fit, mixed), expected, rtol=DIFFERENCES)


@pytest.mark.parametrize(
    ("name", "re_form", "kept"),
    [
        ("vector", "~0", [[0, 0]]),
        ("vector", "~ (1 | Subject)", [[1, 0]]),
        ("crossed", "~0", [[0, 0], [0]]),
        ("crossed", "~ (1 | b)", [[0, 0], [1]]),
        ("crossed", "~ (0 + x | a)", [[0, 1], [0]]),
    ],
)
def test_a_new_response_has_what_is_left_out_of_new_levels(name, re_form, kept):
    fit = linear(name)
    terms = fit._fit.terms
    use = [np.array(k) for k in kept]
    Z = [sparse_row(fit._fit, t, b.z * use[t], b.grouping.codes) for t, b in enumerate(terms)]

    def variance(fit):
        rest = [own_variance(fit, t, b.z * (1 - use[t])) for t, b in enumerate(terms)]
        return dense_variance(fit, fit.X, Z) + sum(rest) + fit.estimates.sigma**2

    expected = df_by_differences(fit._fit, variance)
    ours = df_of(fit, re_form=re_form, response=True)
    np.testing.assert_allclose(ours, expected, rtol=DIFFERENCES)


def test_weights_of_new_responses():
    fit, data = linear("crossed"), frame("crossed")
    out = fit.predict(interval="prediction")
    own = fit.sigma**2 / data["w"]
    Z = [sparse_row(fit._fit, i, t.z, t.grouping.codes) for i, t in enumerate(fit._fit.terms)]

    def variance(fit):
        return dense_variance(fit, fit.X, Z) + fit.estimates.sigma**2 / data["w"].to_numpy()

    expected = t95(df_by_differences(fit._fit, variance)) * np.sqrt(out["se_fit"] ** 2 + own)
    np.testing.assert_allclose(out["upper"] - out["fit"], expected, rtol=DIFFERENCES)
    np.testing.assert_allclose(out["fit"] - out["lower"], expected, rtol=DIFFERENCES)


# Balanced one-way layouts, where mean squares have chi-square distributions of their own


def one_way(between, within, a=6, n=5):
    """Fit a layout of a groups with n rows each that has given mean squares."""
    effect = np.linspace(-1.0, 1.0, a)
    effect *= np.sqrt(between * (a - 1) / n / (effect**2).sum())
    rest = np.tile(np.linspace(-1.0, 1.0, n), (a, 1))
    rest *= np.sqrt(within * a * (n - 1) / (rest**2).sum())
    y = 3.0 + (effect[:, None] + rest).ravel()
    data = pd.DataFrame({"y": y, "g": np.repeat([f"g{i}" for i in range(a)], n)})
    return lmer("y ~ 1 + (1 | g)", data, control=QUIET)


def classic(parts):
    """Satterthwaite's df of a sum of (multiple of a mean square, its df)."""
    parts = np.array(parts)
    return parts[:, 0].sum() ** 2 / (parts[:, 0] ** 2 / parts[:, 1]).sum()


@pytest.mark.parametrize("between", [2.0, 9.0, 80.0])
def test_a_new_level_has_satterthwaites_formula(between):
    a, n, within = 6, 5, 1.5
    fit, new = one_way(between, within, a, n), {"g": ["new"]}
    # sigma_b^2 (1 + 1/a) + sigma^2 / an, with sigma_b^2 = (between - within) / n
    first, last = (1 + 1 / a) / n * between, (1 / (a * n) - (1 + 1 / a) / n) * within
    mean = classic([(first, a - 1), (last, a * (n - 1))])
    response = classic([(first, a - 1), (last + within, a * (n - 1))])
    # The search ends 1e-8 or so from these moments.
    np.testing.assert_allclose(df_of(fit, new), max(mean, 1.0), rtol=1e-6)
    np.testing.assert_allclose(df_of(fit, new, response=True), response, rtol=1e-6)
    np.testing.assert_allclose(df_of(fit, new, "~0", response=True), response, rtol=1e-6)
    np.testing.assert_allclose(df_of(fit, new, "~0"), a - 1, rtol=1e-6)


def test_a_known_level_has_the_df_of_both_mean_squares():
    a, n, between, within = 6, 5, 9.0, 1.5
    # sigma^2 / n (1 - B (1 - 1/a)) with B = within / between
    B = (1 - 1 / a) * within / between
    v, by_within, by_between = 1 - B, 1 - 2 * B, B  # over sigma^2 / n
    spread = 2 * by_within**2 / (a * (n - 1)) + 2 * by_between**2 / (a - 1)
    ours = df_of(one_way(between, within, a, n), {"g": ["g2"]})
    np.testing.assert_allclose(ours, 2 * v**2 / spread, rtol=1e-6)


def test_a_standard_deviation_near_zero_leaves_one_degree_of_freedom():
    # By the formula above 0.15: an interval 1e6 times as wide as a normal one.
    fit, new = one_way(1.05, 1.0), {"g": ["new"]}
    assert df_of(fit, new) == 1.0
    out = fit.predict(new, new_levels="population", interval="confidence").iloc[0]
    assert out["upper"] - out["fit"] == pytest.approx(t95(1.0) * out["se_fit"], rel=1e-12)


def test_without_random_variance_the_df_are_those_of_residuals():
    fit = lmer("Yield ~ 1 + (1 | Batch)", frame("Dyestuff2"), control=QUIET)
    for new in ({"Batch": ["A"]}, {"Batch": ["new"]}):
        for response in (False, True):
            np.testing.assert_allclose(df_of(fit, new, response=response), 29.0, rtol=1e-6)


# Arguments and rows


def test_auto_is_satterthwaite():
    fit = linear("crossed")
    for interval in ("confidence", "prediction"):
        auto, named, normal = (
            fit.predict(interval=interval, ddf=ddf) for ddf in ("auto", "Satterthwaite", None)
        )
        pd.testing.assert_frame_equal(auto, named)
        pd.testing.assert_frame_equal(auto[["fit", "se_fit"]], normal[["fit", "se_fit"]])
        assert (auto["upper"] > normal["upper"]).all()
        assert (auto["lower"] < normal["lower"]).all()


def test_a_generalized_models_intervals_are_normal():
    fit = generalized("scalar")
    auto, normal = (fit.predict(interval="confidence", ddf=ddf) for ddf in ("auto", None))
    pd.testing.assert_frame_equal(auto, normal)
    with pytest.raises(ValueError, match="ddf is 'satterthwaite', but a generalized model has z"):
        fit.predict(interval="confidence", ddf="satterthwaite")


@pytest.mark.parametrize("arguments", [{}, {"re_form": "~0"}, {"interval": "confidence"}])
def test_other_rules_are_refused(arguments):
    with pytest.raises(ValueError, match="ddf is 'KR', which is for combinations of the fixed"):
        linear("vector").predict(ddf="KR", **arguments)
    with pytest.raises(ValueError, match="ddf is 'exact'; expected"):
        linear("vector").predict(ddf="exact", **arguments)


@pytest.mark.parametrize("response", [False, True])
def test_units_change_nothing(response):
    data = frame("sleepstudy_unbalanced")
    formula = "Reaction ~ Days + (Days | Subject)"
    other = data.assign(Days=1e5 * data["Days"] + 7e5, Reaction=1e-3 * data["Reaction"])
    ours, theirs = (df_of(lmer(formula, d), response=response) for d in (data, other))
    # The searches end at different places, 1e-7 or so apart.
    np.testing.assert_allclose(theirs, ours, rtol=1e-5)
