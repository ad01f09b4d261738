"""What must not change a generalized fit, and what must change it in a known way."""

from functools import cache

import hypothesis.strategies as st
import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from scipy import optimize, special, stats
from simulated_glmm import (
    CELLS,
    STRUCTURES,
    USUAL,
    criterion,
    lenient,
    simulated,
    trials_of,
    value,
)

from mixef.errors import DataWarning
from mixef.families.convert import make_family
from mixef.glmm import glmer

FORMULA = "y ~ x + (x | g)"
few = settings(max_examples=5, deadline=None, derandomize=True)
seeds = st.integers(0, 10_000)
factors = st.floats(-6, 6).map(lambda k: 10.0**k)
usual_cell = pytest.mark.parametrize("cell", USUAL)
every_cell = pytest.mark.parametrize("cell", CELLS)


def fit_of(cell, data=None, formula=FORMULA, nAGQ=1, **arguments):
    arguments.setdefault("weights", trials_of(cell))
    data = simulated(cell) if data is None else data
    return glmer(formula, data, cell, nAGQ, control=lenient(), **arguments)


@cache
def plain(cell, formula=FORMULA, nAGQ=1):
    return fit_of(cell, formula=formula, nAGQ=nAGQ)


def standard_errors(fit):
    return np.sqrt(np.diag(fit.vcov()))


def assert_same(fit, expected, shift=0.0, beta=None, theta=None, se=None):
    """The same optimum, with what is known to differ: 1e-12 of gain is 1e-6 standard errors."""
    assert fit.objective + shift == pytest.approx(expected.objective, rel=0, abs=1e-9)
    errors = standard_errors(expected)
    beta, se = (fit.beta if beta is None else beta), (standard_errors(fit) if se is None else se)
    np.testing.assert_array_less(np.abs(beta - expected.beta) / errors, 1e-5)
    np.testing.assert_allclose(se, errors, rtol=1e-5)
    theta = fit.theta if theta is None else theta
    np.testing.assert_allclose(theta, expected.theta, rtol=1e-4, atol=3e-6)
    ours, extra = fit._fit.estimates.extra, expected._fit.estimates.extra
    assert extra is None or ours == pytest.approx(extra, rel=1e-5)


# Rows, levels and names


@usual_cell
@few
@given(seed=seeds)
def test_the_order_of_rows(cell, seed):
    order = np.random.default_rng(seed).permutation(90)
    fit = fit_of(cell, simulated(cell).iloc[order])
    assert_same(fit, plain(cell))
    fitted = fit.fitted().sort_index()
    np.testing.assert_allclose(fitted, plain(cell).fitted(), rtol=1e-5)


@usual_cell
@few
@given(seed=seeds)
def test_names_and_order_of_levels(cell, seed):
    rng = np.random.default_rng(seed)
    data = simulated(cell)
    names = np.array([f"level {k}" for k in rng.permutation(8)])
    levels = [*rng.permutation(names), "does not occur"]
    fit = fit_of(cell, data.assign(g=pd.Categorical(names[data["g"]], levels)))
    assert_same(fit, plain(cell))
    ours, expected = fit.ranef()["g"], plain(cell).ranef()["g"]
    assert list(ours.index) == levels[:-1]
    np.testing.assert_allclose(ours.loc[names], expected, atol=2e-5)


@pytest.mark.parametrize("cell", ["binomial(logit)", "nbinom2(log)"])
@pytest.mark.parametrize("nAGQ", [0, 1])
def test_the_order_of_terms(cell, nAGQ):
    one = fit_of(cell, formula="y ~ x + (1 | g) + (1 | h)", nAGQ=nAGQ)
    other = fit_of(cell, formula="y ~ (1 | h) + (1 | g) + x", nAGQ=nAGQ)
    assert_same(one, other)
    assert list(one.ranef()) == list(other.ranef())


# Scale and origin


@usual_cell
@pytest.mark.parametrize("nAGQ", [0, 1, 5])
@few
@given(factor=factors)
def test_the_scale_of_a_predictor(cell, nAGQ, factor):
    data = simulated(cell)
    fit = fit_of(cell, data.assign(x=data["x"] * factor), nAGQ=nAGQ)
    unit = np.array([1, factor])
    assert_same(
        fit,
        plain(cell, nAGQ=nAGQ),
        beta=fit.beta * unit,
        theta=fit.theta * [1, factor, factor],
        se=standard_errors(fit) * unit,
    )
    assert fit.convergence.n_evaluations == plain(cell, nAGQ=nAGQ).convergence.n_evaluations


@usual_cell
@few
@given(shift=st.floats(-1e4, 1e4))
def test_the_origin_of_a_predictor(cell, shift):
    data = simulated(cell)
    fit, expected = fit_of(cell, data.assign(x=data["x"] + shift)), plain(cell)
    # Differences of x keep 1e-16 * 1e4 of themselves.
    assert fit.objective == pytest.approx(expected.objective, rel=0, abs=1e-8)
    assert fit.converged
    np.testing.assert_allclose(fit.beta[1], expected.beta[1], rtol=1e-4, atol=1e-6)
    np.testing.assert_allclose(standard_errors(fit)[1], standard_errors(expected)[1], rtol=1e-4)
    np.testing.assert_allclose(fit.fitted(), expected.fitted(), rtol=1e-4)


@pytest.mark.parametrize("cell", ["Gamma(log)", "inverse.gaussian(log)", "gaussian(log)"])
@few
@given(factor=factors)
def test_the_unit_of_a_response_with_the_log_link(cell, factor):
    data = simulated(cell)
    fit, expected = fit_of(cell, data.assign(y=data["y"] * factor)), plain(cell)
    # The density of factor * y; phi is free of the unit for Gamma, and has it for the others.
    shift = -2 * len(data) * np.log(factor)
    power = {"Gamma(log)": 0, "inverse.gaussian(log)": -1, "gaussian(log)": 2}[cell]
    assert fit.objective + shift == pytest.approx(expected.objective, rel=0, abs=1e-8)
    np.testing.assert_allclose(fit.beta - [np.log(factor), 0], expected.beta, atol=1e-5)
    np.testing.assert_allclose(fit.theta, expected.theta, atol=1e-5)
    np.testing.assert_allclose(standard_errors(fit), standard_errors(expected), rtol=1e-5)
    ours = fit._fit.estimates.extra / factor**power
    assert ours == pytest.approx(expected._fit.estimates.extra, rel=1e-5)


@usual_cell
@few
@given(shift=st.floats(-5, 5))
def test_an_offset_shifts_the_intercept(cell, shift):
    offset = np.full(90, shift)
    fit = fit_of(cell, offset=offset)
    assert_same(fit, plain(cell), beta=fit.beta + np.array([shift, 0]))
    np.testing.assert_allclose(fit.fitted(), plain(cell).fitted(), rtol=1e-5)


@usual_cell
def test_an_offset_of_a_predictor_shifts_its_coefficient(cell):
    data = simulated(cell)
    fits = [
        fit_of(cell, offset=0.7 * data["x"]),
        fit_of(cell, formula="y ~ x + offset(0.7 * x) + (x | g)"),
        fit_of(cell, formula="y ~ x + offset(0.5 * x) + (x | g)", offset=0.2 * data["x"]),
    ]
    for fit in fits:
        assert_same(fit, plain(cell), beta=fit.beta + np.array([0, 0.7]))


# Weights


@pytest.mark.parametrize("nAGQ", [0, 1, 5])
@pytest.mark.parametrize("cell", [cell for cell in USUAL if "binomial" not in cell])
def test_a_weight_of_k_is_k_copies(cell, nAGQ):
    data = simulated(cell)
    copies = data.loc[data.index.repeat(data["w"])]
    fit = fit_of(cell, data, nAGQ=nAGQ, weights="w")
    assert_same(fit, fit_of(cell, copies, nAGQ=nAGQ))
    assert fit.nobs == 90
    assert abs(fit.objective - plain(cell, nAGQ=nAGQ).objective) > 1


@every_cell
def test_weights_of_one_are_no_weights_and_of_zero_no_rows(cell):
    data = simulated(cell)
    formula = "y ~ x + (1 | g)"
    if cell.startswith("binomial"):  # the weights are trials; shares of one trial warn
        data["y"] = np.rint(data["y"])
    expected = fit_of(cell, data, formula, weights=None)
    assert_same(fit_of(cell, data, formula, weights=np.ones(90)), expected)
    more = pd.concat([data, data.iloc[:7]])
    weights = np.r_[np.ones(90), np.zeros(7)]
    with pytest.warns(DataWarning, match="7 of 97 rows have weight zero and are dropped"):
        fit = fit_of(cell, more, formula, weights=weights)
    assert_same(fit, expected)


@pytest.mark.filterwarnings("ignore:non-integer #successes")
@pytest.mark.parametrize("nAGQ", [0, 1, 5])
@pytest.mark.parametrize("link", ["logit", "cloglog"])
def test_shares_of_one_trial(link, nAGQ):
    """A share that is no count has one density, with weights of one and without them."""
    cell, formula = f"binomial({link})", "y ~ x + (1 | g)"
    data = simulated(cell)
    expected = fit_of(cell, data, formula, nAGQ, weights=None)
    for weights in (np.ones(90), np.ones(90, dtype=int), "one"):
        fit = fit_of(cell, data, formula, nAGQ, weights=weights)
        assert_same(fit, expected)
        assert fit.relative_loglik == pytest.approx(expected.relative_loglik, rel=0, abs=1e-9)
        np.testing.assert_allclose(fit.residuals("deviance"), expected.residuals("deviance"))


def expanded(data):
    """One row of 0 or 1 a trial."""
    successes = np.rint(data["y"] * data["size"]).astype(int)
    rows = data.loc[data.index.repeat(data["size"])]
    within = rows.groupby(level=0).cumcount()
    return rows.assign(y=(within < successes.loc[rows.index]).astype(float), size=1)


def log_coefficients(data):
    n, k = data["size"].to_numpy(), np.rint(data["y"] * data["size"]).to_numpy()
    return special.gammaln(n + 1) - special.gammaln(k + 1) - special.gammaln(n - k + 1)


@pytest.mark.parametrize("nAGQ", [0, 1, 5])
@pytest.mark.parametrize("cell", [cell for cell in CELLS if cell.startswith("binomial")])
def test_trials_as_counts_shares_and_rows(cell, nAGQ):
    data = simulated(cell)
    data = data.assign(k=np.rint(data["y"] * data["size"]))
    formula = "y ~ x + (1 | g)"
    shares = fit_of(cell, data, formula, nAGQ)
    counts = fit_of(cell, data, "cbind(k, size - k) ~ x + (1 | g)", nAGQ, weights=None)
    assert_same(counts, shares)
    rows = fit_of(cell, expanded(data), formula, nAGQ)
    # The binomial coefficients, which do not depend on the parameters.
    assert_same(rows, shares, shift=-2 * log_coefficients(data).sum())
    assert rows.nobs == data["size"].sum()


def test_shares_of_responses_as_words_and_truth_values():
    data = expanded(simulated("binomial(logit)"))
    expected = fit_of("binomial(logit)", data, weights=None)
    words = pd.Categorical(np.where(data["y"] == 1, "yes", "no"), ["no", "yes"])
    for response in (words, data["y"] == 1, data["y"].astype(int)):
        assert_same(fit_of("binomial(logit)", data.assign(y=response), weights=None), expected)
    swapped = pd.Categorical(words.astype(str), ["yes", "no"])
    fit = fit_of("binomial(logit)", data.assign(y=swapped), weights=None)
    assert_same(fit, expected, beta=-fit.beta)


@pytest.mark.parametrize("nAGQ", [0, 1, 5])
@pytest.mark.parametrize("link", ["logit", "probit", "cauchit"])
def test_success_and_failure_swapped(link, nAGQ):
    cell = f"binomial({link})"
    data = simulated(cell)
    fit = fit_of(cell, data.assign(y=1 - data["y"]), "y ~ x + (1 | g)", nAGQ)
    expected = plain(cell, "y ~ x + (1 | g)", nAGQ)
    assert_same(fit, expected, beta=-fit.beta)
    modes, before = fit.ranef()["g"], expected.ranef()["g"]
    np.testing.assert_allclose(modes, -before, atol=2e-5)


# Special cases that are simpler models


def log_density(cell, y, eta, weights, extra):
    """Log densities by SciPy, without the families."""
    family, name = make_family(cell), cell.split("(")[0]
    mu = family.link.inverse(eta)
    if name == "binomial":
        return stats.binom.logpmf(np.rint(weights * y), weights, mu)
    if name == "poisson":
        return stats.poisson.logpmf(y, mu)
    if name == "gaussian":
        return stats.norm.logpdf(y, mu, np.sqrt(extra))
    if name == "Gamma":
        return stats.gamma.logpdf(y, 1 / extra, scale=mu * extra)
    if name == "inverse.gaussian":
        return stats.invgauss.logpdf(y, mu * extra, scale=1 / extra)
    shape = family.shape or extra
    return stats.nbinom.logpmf(y, shape, shape / (shape + mu))


@every_cell
@pytest.mark.parametrize("structure", ["vector", "crossed"])
def test_without_variance_it_is_the_generalized_linear_model(cell, structure):
    """The criterion at theta = 0 is -2 log L of the plain model, and has its minimum there too."""
    data = simulated(cell)
    c, response = criterion(f"y ~ x + {STRUCTURES[structure]}", data, cell, 1, trials_of(cell))
    X = np.column_stack([np.ones(90), data["x"]])
    zero = np.zeros(c.parametrization.n_par)

    def independent(v):
        with np.errstate(all="ignore"):
            rows = log_density(cell, response.y, X @ v[:2], response.weights, np.exp(v[-1]))
        total = -2 * rows.sum()
        return total if np.isfinite(total) else 1e9

    start = np.r_[c.problem.user_beta(c.split(c.start())[1]), np.log(c.problem.glm.extra)]
    for step in (0.0, 0.02):
        v = start + step
        ours = value(c, c.scaled_point(zero, v[:2], np.exp(v[2])))
        assert ours == pytest.approx(independent(v), rel=1e-12)
    found = optimize.minimize(independent, start, method="BFGS", options={"gtol": 1e-7})
    v = found.x
    value(c, c.scaled_point(zero, v[:2], np.exp(v[2])))
    gradient = c.derivatives()[0][c.parametrization.n_par :]
    # BFGS on differences: the gradient is zero to the differences' error.
    assert np.abs(gradient).max() < 2e-3


@usual_cell
def test_two_names_of_one_factor(cell):
    """Two factors that name the same groups share one variance, the sum of both."""
    data = simulated(cell)
    c, _ = criterion("y ~ x + (1 | g)", data, cell, 1, trials_of(cell))
    data["g2"] = data["g"]
    both, _ = criterion("y ~ x + (1 | g) + (1 | g2)", data, cell, 1, trials_of(cell))
    beta, extra = c.problem.user_beta(c.split(c.start())[1]), c.problem.glm.extra
    one = value(c, c.scaled_point(np.array([0.5]), beta, extra))
    two = value(both, both.scaled_point(np.array([0.3, 0.4]), beta, extra))
    assert one == pytest.approx(two, rel=1e-12)


@pytest.mark.parametrize("shape", [0.7, 2.0, 30.0])
def test_a_known_shape_is_the_estimated_one_held_there(shape):
    data = simulated("nbinom2(log)")
    known, _ = criterion(FORMULA, data, f"nbinom2({shape})")
    free, _ = criterion(FORMULA, data, "nbinom2")
    par = np.array([0.4, 0.1, 0.3])
    values = [value(c, c.scaled_point(par, np.array([1.0, 0.2]), shape)) for c in (known, free)]
    assert values[0] == pytest.approx(values[1], rel=1e-13)


def test_a_large_shape_is_poisson():
    data = simulated("poisson(log)")
    nb, _ = criterion(FORMULA, data, "nbinom2(1e9, log)")
    poisson, _ = criterion(FORMULA, data, "poisson")
    par, beta = np.array([0.4, 0.1, 0.3]), np.array([1.0, 0.2])
    ours, limit = (value(c, c.scaled_point(par, beta, None)) for c in (nb, poisson))
    # The variance is mu + mu^2 / shape.
    assert ours == pytest.approx(limit, rel=1e-7)
