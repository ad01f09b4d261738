"""What must not change a fit, and what must change it in a known way."""

import hypothesis.strategies as st
import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from simulated import crossed

from mixef import LmerControl, lmer

FORMULA = "y ~ x + f + (x | g) + (1 | h)"
QUIET = LmerControl(check_conv_singular="ignore")
few = settings(max_examples=8, deadline=None, derandomize=True)
seeds = st.integers(0, 10_000)
factors = st.floats(-9, 9).map(lambda k: 10.0**k)


def fit_of(data=None, formula=FORMULA, REML=True, **arguments):
    return lmer(formula, crossed() if data is None else data, REML, control=QUIET, **arguments)


PLAIN = {REML: fit_of(REML=REML) for REML in (True, False)}


def assert_same(fit, plain, parameters=True):
    """The same optimum: the criterion to its rounding, estimates to the root of the stop's gain."""
    assert fit.objective == pytest.approx(plain.objective, abs=1e-9)
    # A gain below 1e-12 leaves 1e-6 standard errors of the parameters, and less in beta.
    if parameters:
        np.testing.assert_allclose(fit.theta, plain.theta, atol=3e-6)
    np.testing.assert_allclose(fit.beta, plain.beta, atol=3e-6)
    assert fit.sigma == pytest.approx(plain.sigma, rel=1e-6)


@few
@given(seeds, st.booleans())
def test_the_order_of_rows(seed, REML):
    order = np.random.default_rng(seed).permutation(120)
    fit = fit_of(crossed().iloc[order], REML=REML)
    assert_same(fit, PLAIN[REML])
    fitted = fit.fitted().sort_index()
    np.testing.assert_allclose(fitted, PLAIN[REML].fitted(), atol=1e-5)
    assert list(fit.ranef()["g"].index) == list(PLAIN[REML].ranef()["g"].index)


@few
@given(seeds)
def test_the_index_is_only_a_label(seed):
    rng = np.random.default_rng(seed)
    index = pd.Index(rng.choice(["p", "q", "r"], 120))  # doubled labels, too
    fit = fit_of(crossed().set_index(index))
    assert_same(fit, PLAIN[True])
    assert fit.fitted().index.equals(index)


@few
@given(seeds)
def test_names_of_levels(seed):
    rng = np.random.default_rng(seed)
    names = np.array([f"level {k}" for k in rng.permutation(9)])
    data = crossed()
    fit = fit_of(data.assign(g=names[data["g"]]))
    assert_same(fit, PLAIN[True])
    ours, plain = fit.ranef()["g"], PLAIN[True].ranef()["g"]
    np.testing.assert_allclose(ours.loc[names], plain.loc[list(range(9))], atol=1e-5)


@few
@given(seeds)
def test_the_order_of_levels_and_levels_that_do_not_occur(seed):
    levels = [str(k) for k in np.random.default_rng(seed).permutation(14)]
    data = crossed()
    fit = fit_of(data.assign(g=pd.Categorical(data["g"].astype(str), levels)))
    assert_same(fit, PLAIN[True])
    assert list(fit.ranef()["g"].index) == [k for k in levels if int(k) < 9]


@few
@given(seeds)
def test_the_order_of_fixed_levels_turns_the_contrasts_only(seed):
    order = list(np.random.default_rng(seed).permutation(["a", "b", "c"]))
    data = crossed()
    # ML: the REML criterion holds log|X'X|, which contrasts of another kind would change.
    fit = fit_of(data.assign(f=pd.Categorical(data["f"], order)), REML=False)
    assert fit.objective == pytest.approx(PLAIN[False].objective, abs=1e-9)
    np.testing.assert_allclose(fit.theta, PLAIN[False].theta, atol=3e-6)
    np.testing.assert_allclose(fit.fitted(), PLAIN[False].fitted(), atol=1e-5)


@few
@given(factors, st.booleans())
def test_the_scale_of_a_predictor(factor, REML):
    data = crossed()
    fit, plain = fit_of(data.assign(x=data["x"] * factor), REML=REML), PLAIN[REML]
    shift = 2 * np.log(factor) if REML else 0.0
    assert fit.objective - shift == pytest.approx(plain.objective, abs=1e-9)
    np.testing.assert_allclose(fit.beta * [1, factor, 1, 1], plain.beta, atol=3e-6)
    np.testing.assert_allclose(fit.theta * [1, factor, factor, 1], plain.theta, atol=3e-6)
    np.testing.assert_allclose(fit.fitted(), plain.fitted(), atol=1e-5)
    assert fit.convergence.n_evaluations == plain.convergence.n_evaluations


@few
@given(st.floats(-1e6, 1e6), st.booleans())
def test_the_origin_of_a_predictor(shift, REML):
    data = crossed()
    fit, plain = fit_of(data.assign(x=data["x"] + shift), REML=REML), PLAIN[REML]
    # Differences of x keep 1e-16 * 1e6 of themselves: 1e-10 of a criterion's term a row.
    assert fit.objective == pytest.approx(plain.objective, abs=1e-6)
    np.testing.assert_allclose(fit.beta[1:], plain.beta[1:], atol=1e-5)
    np.testing.assert_allclose(fit.fitted(), plain.fitted(), atol=1e-4)
    assert fit.converged


@few
@given(factors, st.floats(-1e3, 1e3), st.booleans())
def test_the_scale_and_origin_of_the_response(factor, shift, REML):
    data = crossed()
    fit, plain = fit_of(data.assign(y=factor * (data["y"] + shift)), REML=REML), PLAIN[REML]
    m = 120 - 4 * REML
    assert fit.objective - 2 * m * np.log(factor) == pytest.approx(plain.objective, abs=1e-8)
    np.testing.assert_allclose(fit.beta / factor - [shift, 0, 0, 0], plain.beta, atol=1e-5)
    np.testing.assert_allclose(fit.theta, plain.theta, atol=3e-6)
    assert fit.sigma / factor == pytest.approx(plain.sigma, rel=1e-6)


@few
@given(factors, st.booleans())
def test_a_common_factor_of_the_weights(factor, REML):
    """It scales sigma^2, and the relative covariances inversely; the model is the same."""
    data = crossed()
    plain = fit_of(weights=data["w"], REML=REML)
    fit = fit_of(weights=factor * data["w"], REML=REML)
    assert fit.objective == pytest.approx(plain.objective, abs=1e-8)
    assert fit.sigma**2 / factor == pytest.approx(plain.sigma**2, rel=1e-6)
    np.testing.assert_allclose(fit.theta * np.sqrt(factor), plain.theta, atol=3e-6)
    np.testing.assert_allclose(fit.beta, plain.beta, atol=3e-6)
    assert plain.objective != pytest.approx(PLAIN[REML].objective, abs=1)


def test_weights_of_one_are_no_weights():
    assert_same(fit_of(weights=np.ones(120)), PLAIN[True])


@few
@given(st.floats(-1e3, 1e3))
def test_an_offset_is_taken_off_the_response(factor):
    data = crossed()
    offset = factor * data["z"]
    fit = fit_of(data.assign(y=data["y"] + offset), offset=offset)
    assert_same(fit, PLAIN[True])


@pytest.mark.parametrize(
    "formula",
    [
        "y ~ f + x + (x | g) + (1 | h)",
        "y ~ (1 | h) + x + (x | g) + f",
        "y ~ 1 + f + x + (1 + x | g) + (1 | h)",
        "y ~ x + f + (x + x | g) + (1 | h)",
        "y ~ x + x + f + f + (x | g) + (1 | h)",
    ],
)
def test_the_order_of_terms_and_terms_written_twice(formula):
    fit = fit_of(formula=formula)
    assert fit.objective == pytest.approx(PLAIN[True].objective, abs=1e-9)
    ours, plain = fit.fixef(), PLAIN[True].fixef()
    np.testing.assert_allclose(ours[plain.index], plain, atol=3e-6)
    np.testing.assert_allclose(fit.ranef()["g"], PLAIN[True].ranef()["g"], atol=1e-5)


def test_the_order_of_random_columns():
    """The covariance is the same matrix, with its rows in another order."""
    one = fit_of(formula="y ~ x + (x + z | g) + (1 | h)")
    two = fit_of(formula="y ~ x + (0 + z + x + 1 | g) + (1 | h)")
    assert one.objective == pytest.approx(two.objective, abs=1e-9)
    ours = two.ranef()["g"][one.ranef()["g"].columns]
    np.testing.assert_allclose(ours, one.ranef()["g"], atol=1e-5)


CONTRASTS = ["treatment", "sum", "helmert", "poly", ("treatment", "c")]


@pytest.mark.parametrize("contrast", CONTRASTS, ids=str)
@pytest.mark.parametrize("term", ["(f | g)", "(0 + f | g)", "(f * x | g)"])
def test_unstructured_terms_do_not_depend_on_the_coding(term, contrast):
    formula = f"y ~ x + {term}"
    plain, fit = fit_of(formula=formula), fit_of(formula=formula, contrasts={"f": contrast})
    assert fit.converged
    # 1e-7: singular optima are flat to fourth order in some directions.
    assert fit.objective == pytest.approx(plain.objective, abs=1e-7)
    np.testing.assert_allclose(fit.fitted(), plain.fitted(), atol=1e-3)


@pytest.mark.parametrize("term", ["diag(f | g)", "(f || g)"])
def test_diagonal_terms_do_depend_on_the_coding(term):
    """So that the test above can fail."""
    fits = [fit_of(formula=f"y ~ x + {term}", contrasts={"f": c}) for c in ("treatment", "sum")]
    assert abs(fits[0].objective - fits[1].objective) > 0.01


@few
@given(seeds)
def test_columns_of_other_names_and_unused_ones_do_not_matter(seed):
    rng = np.random.default_rng(seed)
    data = crossed().assign(noise=rng.normal(size=120), missing=np.nan)
    assert_same(fit_of(data[rng.permutation(data.columns)]), PLAIN[True])


@few
@given(seeds)
def test_rows_that_are_missing_are_rows_left_out(seed):
    gone = np.random.default_rng(seed).choice(120, 15, replace=False)
    data = crossed()
    holes = data.assign(x=data["x"].mask(data.index.isin(gone[:8])))
    holes["y"] = holes["y"].mask(data.index.isin(gone[8:]))
    assert_same(fit_of(holes), fit_of(data.drop(index=gone)))


@few
@given(seeds)
def test_any_generator_of_data_ends_at_an_optimum_below_any_other_point(seed):
    rng = np.random.default_rng(seed)
    fit = fit_of(crossed(n=60, seed=seed))
    assert fit.converged
    devfun = fit.getME("devfun")
    for size in (1e-3, 0.1, 1.0):
        assert devfun(fit.par + size * rng.normal(size=len(fit.par))) > fit.objective - 1e-9
