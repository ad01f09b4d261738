"""The exact restricted likelihood-ratio test, against RLRsim (rlrsim.json) and dense algebra."""

import numpy as np
import pytest
from reference_data import case, cases, frame

from mixef import LmerControl, exact_rlrt, glmer, lmer
from mixef.errors import DataError, FormulaError
from mixef.inference.hypotheses.rlrt import Spectrum, simulate_rlrt, spectrum_of, suprema

NAMES = [c["id"] for c in cases("rlrsim.json")]
QUIET = LmerControl(check_conv_singular="ignore")
N = 50_000
# Beyond so many standard errors, one of all comparisons of this file falls once in 10,000 runs
# (the seed is fixed anyway).
ERRORS = 4.5


def data_of(name):
    if case("rlrsim.json", name)["data"] != "unbalanced":
        return frame(case("rlrsim.json", name)["data"])
    rows = np.arange(180)
    return frame("sleepstudy")[~((rows % 7 == 0) | ((rows >= 30) & (rows < 60)))]


def fit_of(name, **arguments):
    reference = case("rlrsim.json", name)
    weights = reference["weights"]
    return lmer(reference["formula"], data_of(name), weights=weights, control=QUIET, **arguments)


@pytest.fixture(scope="module")
def tests():
    return {
        name: exact_rlrt(fit_of(name), case("rlrsim.json", name)["term"], n=N, seed=7)
        for name in NAMES
    }


@pytest.mark.parametrize("name", NAMES)
def test_the_statistic_is_that_of_lme4(name, tests):
    expected = case("rlrsim.json", name)["statistic"]
    # Criteria of some 1,000 hold 1e-9 at R's optimum of tolerance 1e-12 in theta.
    assert tests[name].statistic == pytest.approx(max(expected, 0.0), abs=1e-6)


@pytest.mark.parametrize("name", NAMES)
def test_the_distribution_is_that_of_rlrsim(name, tests):
    reference, draws = case("rlrsim.json", name), tests[name].draws
    scale = 1.0 / N + 1.0 / reference["nsim"]
    p_zero = reference["p_zero"]
    # RLRsim's grid starts at exp(-10): statistics that are positive by less count as zero there.
    assert abs(np.mean(draws < 1e-6) - p_zero) < ERRORS * np.sqrt(p_zero * (1 - p_zero) * scale)
    for level, quantile in zip(reference["levels"], reference["quantiles"], strict=True):
        below = np.mean(draws <= quantile)
        assert abs(below - level) < ERRORS * np.sqrt(level * (1 - level) * scale)


@pytest.mark.parametrize("name", [name for name in NAMES if name != "dyestuff2"])
def test_the_p_value_is_that_of_rlrsim(name, tests):
    expected, ours = case("rlrsim.json", name)["p_value"], tests[name].p_value
    error = np.sqrt(expected * (1 - expected) * (1 / N + 1 / case("rlrsim.json", name)["nsim"]))
    # (1 + k) / (1 + n) is 1 / n above the share.
    assert abs(ours - expected) <= ERRORS * error + 1.0 / N


def test_a_statistic_of_zero_has_p_value_one(tests):
    # RLRsim has 5.7e-14 for it, and so a p value of 0.44: that of a positive statistic.
    test = tests["dyestuff2"]
    assert test.statistic == 0.0
    assert test.p_value == 1.0
    assert test.error == 0.0


# The statistic and the spectrum by dense algebra


def dense(fit, term=0):
    X, w = fit.getME("X"), fit._fit.frame.weights
    Z = fit._fit.terms[term].Zt().toarray().T
    root = np.ones(len(X)) if w is None else np.sqrt(w)
    Q = np.linalg.qr(X * root[:, None])[0]
    Z = Z * root[:, None]
    PZ = Z - Q @ (Q.T @ Z)
    return X * root[:, None], Z, Q, PZ, root


@pytest.mark.parametrize("name", ["sleep", "sleep_weights", "unbalanced", "cake", "dyestuff"])
def test_the_spectrum_is_that_of_the_projected_columns(name):
    fit = fit_of(name)
    PZ = dense(fit)[3]
    spectrum = spectrum_of(fit._fit.X, fit._fit.terms[0], fit._fit.frame.weights)
    values = np.linalg.svd(PZ, compute_uv=False) ** 2
    values = np.sort(values[values > 1e-9 * values[0]])
    ours = np.repeat(spectrum.eigenvalues, spectrum.counts)
    # Eigenvalues are of a column scaled to unit mean square: only ratios matter.
    np.testing.assert_allclose(ours / ours[-1], values / values[-1], rtol=1e-8)
    n, p = fit.getME("X").shape
    assert spectrum.m == n - p
    assert spectrum.rest == n - p - len(values)


@pytest.mark.parametrize("name", ["sleep", "sleep_weights", "unbalanced", "dyestuff", "cake"])
def test_the_statistic_is_the_supremum_for_the_data(name):
    # The same formula that draws the null, at the squares of the data instead of chi-squares.
    fit = fit_of(name)
    _, _, Q, PZ, root = dense(fit)
    y = fit.getME("y") * root
    rest = y - Q @ (Q.T @ y)
    U, d, _ = np.linalg.svd(PZ, full_matrices=False)
    kept = d**2 > 1e-9 * d[0] ** 2
    squares = (U.T @ rest)[kept] ** 2
    residual = rest @ rest - squares.sum()
    order = np.argsort(d[kept])
    n_rest = len(y) - Q.shape[1] - kept.sum()
    spectrum = Spectrum(d[kept][order] ** 2, np.ones(kept.sum(), dtype=int), int(n_rest))
    ours = suprema(spectrum, squares[order][None, :], np.array([residual]))[0]
    assert exact_rlrt(fit, n=1, seed=0).statistic == pytest.approx(ours, rel=1e-9)


def test_suprema_are_not_limited_by_the_grid():
    rng = np.random.default_rng(5)
    spectrum = Spectrum(np.array([0.03, 0.7, 2.0, 40.0]), np.array([3, 1, 2, 1]), 4)
    chisq, rest = rng.chisquare(spectrum.counts, size=(300, 4)), rng.chisquare(4, size=300)
    ours = suprema(spectrum, chisq, rest)
    lam = np.exp(np.linspace(-25, 25, 40_001))
    shrink = 1.0 / (1.0 + np.outer(spectrum.eigenvalues, lam))
    m = spectrum.m
    f = m * (np.log(chisq.sum(1) + rest)[:, None] - np.log(chisq @ shrink + rest[:, None]))
    fine = np.maximum((f + spectrum.counts @ np.log(shrink)).max(axis=1), 0.0)
    # A grid of spacing 0.00125 misses at most its square times the curvature (about m / 8).
    np.testing.assert_allclose(ours, fine, rtol=0, atol=2e-5)
    assert (ours >= fine - 1e-9).all()


def test_one_eigenvalue_has_a_closed_form():
    # f = m log(A/D) - k log(1 + a): its maximum is at 1 + a = F, the ratio of mean squares.
    spectrum, rng = Spectrum(np.array([10.0]), np.array([17]), 161), np.random.default_rng(3)
    c, r = rng.chisquare(17, 20_000), rng.chisquare(161, 20_000)
    F = (c / 17) / (r / 161)
    A = c + r
    expected = np.where(
        F > 1, 178 * np.log(A / (c / np.maximum(F, 1) + r)) - 17 * np.log(np.maximum(F, 1)), 0.0
    )
    # Where F is above 1 by less than the grid can see, a parabola stands for the function.
    np.testing.assert_allclose(suprema(spectrum, c[:, None], r), expected, rtol=1e-9, atol=1e-12)
    assert np.array_equal(suprema(spectrum, c[:, None], r) > 0, F > 1)


# How it is asked for


def test_the_p_value_falls_where_draws_of_the_model_itself_put_it():
    # A simulation that knows no spectral form: refits to responses without the random effect.
    fit, rng = fit_of("dyestuff"), np.random.default_rng(11)
    own = [exact_rlrt(fit.refit(rng.normal(size=30)), n=1, seed=0).statistic for _ in range(400)]
    draws = exact_rlrt(fit, n=N, seed=1).draws
    for level in (0.7, 0.9):
        share = np.mean(own <= np.quantile(draws, level))
        assert abs(share - level) < ERRORS * np.sqrt(level * (1 - level) / 400)


def test_seeds_and_counts():
    fit = fit_of("dyestuff")
    first, second = exact_rlrt(fit, seed=3), exact_rlrt(fit, seed=np.random.default_rng(3))
    np.testing.assert_array_equal(first.draws, second.draws)
    assert not np.array_equal(first.draws, exact_rlrt(fit, seed=4).draws)
    assert len(exact_rlrt(fit, n=17, seed=1).draws) == 17
    # Draws of many batches are those of one.
    spectrum = Spectrum(np.array([1.0, 2.0]), np.array([1, 1]), 5)
    many = simulate_rlrt(spectrum, 30_000, np.random.default_rng(1))
    assert len(many) == 30_000
    p = first.p_value
    assert first.error == pytest.approx(np.sqrt(p * (1 - p) / 10_000))


def test_a_fit_by_maximum_likelihood_and_other_units_give_the_same_statistic():
    reml = exact_rlrt(fit_of("unbalanced"), n=100, seed=1)
    ml = exact_rlrt(fit_of("unbalanced", REML=False), n=100, seed=1)
    assert ml.statistic == pytest.approx(reml.statistic, rel=1e-9)
    data = data_of("unbalanced")
    data["Reaction"] *= 1e6
    data["Days"] = 1e4 + data["Days"] / 1e3
    other = exact_rlrt(lmer("Reaction ~ Days + (1 | Subject)", data), n=100, seed=1)
    assert other.statistic == pytest.approx(reml.statistic, rel=1e-7)
    np.testing.assert_allclose(other.draws, reml.draws, rtol=1e-5, atol=1e-9)


def test_ways_to_name_the_term_agree():
    data = frame("Penicillin")
    fit = lmer("diameter ~ 1 + (1 | plate) + (1 | sample)", data)
    alone = lmer("diameter ~ 1 + (1 | plate)", data, control=QUIET)
    null = lmer("diameter ~ 1 + (1 | sample)", data)
    tests = [
        exact_rlrt(fit, "(1 | plate)", n=50, seed=1),
        exact_rlrt(fit, "(1|plate)", n=50, seed=1),
        exact_rlrt(fit, "plate", n=50, seed=1),
        exact_rlrt(fit, fit_alone=alone, null=null, n=50, seed=1),
    ]
    for test in tests:
        assert test.statistic == pytest.approx(tests[0].statistic, rel=1e-9)
        np.testing.assert_array_equal(test.draws, tests[0].draws)
        assert test.nuisance == ("1 | sample",)
    assert exact_rlrt(fit, "sample", n=50, seed=1).nuisance == ("1 | plate",)


def test_an_offset_is_taken_off():
    data = frame("sleepstudy")
    plain = exact_rlrt(lmer("Reaction ~ Days + (1 | Subject)", data), n=10, seed=1)
    data["known"] = 3.0 * data["Days"] - 100
    offset = lmer("Reaction ~ Days + offset(known) + (1 | Subject)", data)
    assert exact_rlrt(offset, n=10, seed=1).statistic == pytest.approx(plain.statistic, rel=1e-9)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({}, r"2 terms; say which to test: term='\(1 \| plate\)', '\(1 \| sample\)'"),
        ({"term": "batch"}, r"term is 'batch'; expected one of the model's terms: \(1 \| plate\)"),
        ({"term": 3}, "term is 3"),
    ],
)
def test_a_term_that_is_not_clear_is_refused(arguments, message):
    fit = lmer("diameter ~ 1 + (1 | plate) + (1 | sample)", frame("Penicillin"))
    with pytest.raises(ValueError, match=message):
        exact_rlrt(fit, **arguments)


def test_models_that_do_not_belong_together_are_refused():
    data = frame("Penicillin")
    fit = lmer("diameter ~ 1 + (1 | plate) + (1 | sample)", data)
    null = lmer("diameter ~ 1 + (1 | sample)", data)
    with pytest.raises(FormulaError, match=r"null has not the terms.*\(1 \| plate\)"):
        exact_rlrt(fit, "sample", null=null)
    with pytest.raises(FormulaError, match="fit_alone has the terms"):
        exact_rlrt(fit, fit_alone=fit)
    with pytest.raises(FormulaError, match="give one of the two"):
        exact_rlrt(fit, "plate", fit_alone=null)
    with pytest.raises(DataError, match="null has other rows"):
        exact_rlrt(fit, "plate", null=lmer("diameter ~ 1 + (1 | sample)", data.iloc[:-1]))
    with pytest.raises(DataError, match="null has other response"):
        exact_rlrt(fit, "plate", null=null.refit(null.getME("y") + 1))
    weighted = lmer("diameter ~ 1 + (1 | sample)", data.assign(w=2.0), weights="w")
    with pytest.raises(DataError, match="null has other weights"):
        exact_rlrt(fit, "plate", null=weighted)


def test_models_without_an_exact_test_are_refused():
    data = frame("sleepstudy")
    with pytest.raises(DataError, match=r"\(Days \| Subject\) has the 2 columns"):
        exact_rlrt(lmer("Reaction ~ Days + (Days | Subject)", data))
    control = LmerControl(check_conv_hess="ignore")
    aliased = lmer("Reaction ~ Days + Subject + (1 | Subject)", data, control=control)
    with pytest.raises(DataError, match=r"\(1 \| Subject\) cannot be tested: it is a combination"):
        exact_rlrt(aliased)
    glmm = glmer("use ~ age + (1 | district)", frame("Contraception"), "binomial")
    with pytest.raises(DataError, match="generalized linear mixed model"):
        exact_rlrt(glmm)
    with pytest.raises(TypeError, match="fit is 'fit'; expected a model"):
        exact_rlrt("fit")
    with pytest.raises(ValueError, match="n is 0"):
        exact_rlrt(fit_of("dyestuff"), n=0)
    with pytest.raises(TypeError, match="seed is 'a'"):
        exact_rlrt(fit_of("dyestuff"), seed="a")


def test_what_is_printed(tests):
    text = str(tests["dyestuff"])
    assert text.startswith("Exact restricted likelihood-ratio test: the variance of (1 | Batch)")
    assert "6.369" in text
    assert f"p value by {N} draws" in text
    approximate = str(tests["pastes_batch"])
    assert not approximate.startswith("Exact")
    assert "approximate: the null has (1 | sample)" in approximate
    assert "<table" in tests["dyestuff"]._repr_html_()
    row = tests["dyestuff"].to_frame().loc["(1 | Batch)"]
    assert row["p_value"] == tests["dyestuff"].p_value
