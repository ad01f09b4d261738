"""Generalized models with the iterative factor beside exact ones, and what is refused by name."""

import numpy as np
import pandas as pd
import pytest

import mixef
from mixef import Binomial, Gamma, GlmerControl, Poisson, anova, glmer
from mixef.errors import ExactFactorNeededError, FitError
from mixef.estimation.generalized.criterion import GeneralizedCriterion
from mixef.estimation.generalized.estimated_criterion import EstimatedCriterion
from mixef.estimation.search.optimize import StopReason
from mixef.linalg.choose import make_cholesky
from mixef.linalg.iterative.factor import IterativeFactor
from mixef.linalg.reweighted import ReweightedProducts
from mixef.linalg.rows import GroupDesign

ITERATIVE = GlmerControl(factor="iterative")
CROSSED = "count ~ x + (1 | a) + (1 | b)"


def reads(n=8000, levels=(400, 300), seed=0, repeats=1):
    """Two skewed crossed factors and a third; counts, shares of some trials, and sizes."""
    rng = np.random.default_rng(seed)
    a = (levels[0] * rng.random(n) ** 1.5).astype(int)
    b = (levels[1] * rng.random(n) ** 2).astype(int)
    a, b = (np.repeat(codes[: n // repeats], repeats)[:n] for codes in (a, b))
    c, x, trials = rng.integers(0, 40, len(a)), rng.normal(size=len(a)), rng.integers(1, 6, len(a))
    eta = 0.3 + 0.2 * x + 0.5 * rng.normal(size=levels[0])[a] + 0.6 * rng.normal(size=levels[1])[b]
    slope = 0.3 * rng.normal(size=levels[0])[a] * x + 0.3 * rng.normal(size=40)[c]
    count = rng.poisson(np.exp(eta + slope))
    share = rng.binomial(trials, 1.0 / (1.0 + np.exp(-eta))) / trials
    size = rng.gamma(3.0, np.exp(eta) / 3.0)
    columns = {"a": a, "b": b, "c": c, "x": x, "trials": trials}
    return pd.DataFrame(columns | {"count": count, "share": share, "size": size})


@pytest.fixture(scope="module")
def data():
    return reads()


@pytest.fixture(scope="module")
def exact(data):
    return glmer(CROSSED, data, family="poisson")


@pytest.fixture(scope="module")
def fit(data):
    return glmer(CROSSED, data, family="poisson", control=ITERATIVE)


# log|M| by weights

LAYOUTS = {
    "two scalars": ((200, 150), (1, 1)),
    "the second is larger": ((150, 200), (1, 1)),
    "vectors": ((150, 200), (2, 2)),
    "three factors": ((100, 150, 80), (1, 2, 1)),
}


def at_weights(name, n=3000):
    """Rows of some layout, their weights, templates, and directions of weights."""
    levels, widths = LAYOUTS[name]
    rng = np.random.default_rng(len(name))
    groups = []
    for k, s in zip(levels, widths, strict=True):
        codes = np.r_[np.arange(k), (k * rng.random(n - k) ** 1.5).astype(int)]
        columns = [np.ones(n), *rng.normal(size=(s - 1, n))]
        groups.append(GroupDesign(rng.permutation(codes), k, np.column_stack(columns)))
    lams = [np.tril(0.4 * rng.normal(size=(s, s))) + 0.5 * np.eye(s) for s in widths]
    W = rng.uniform(0.2, 2.0, n)
    groups = ReweightedProducts(groups)
    return groups, W, lams, groups.values(np.vstack([W, rng.normal(size=(2, n))]))


@pytest.mark.parametrize("name", LAYOUTS)
def test_slopes_by_weights_and_their_error(name):
    """The mean over seeds is that of an exact factor, and errors are as large as they say."""
    groups, W, lams, changes = at_weights(name)
    analysed = IterativeFactor(groups.products)
    own = groups.twin()
    own.reweight(W)
    exact = make_cholesky(own.products)
    exact.update(lams)
    expected = exact.weight_slopes(own, changes)
    errors, se = [], []
    for seed in range(10):
        factor = analysed.twin(own.products)
        factor.seed, factor.target = seed, 0.02
        factor.reload()
        factor.update(lams)
        found = factor.weight_slopes(own, changes)
        errors.append(found.total - expected.total)
        se.append(found.samples.std(axis=0, ddof=1) / np.sqrt(len(found.samples)))
    ratio = np.sqrt(np.square(errors).mean(axis=0) / np.square(se).mean(axis=0))
    assert 0.7 < np.sqrt(np.mean(ratio**2)) < 1.3
    ours, theirs = (own.forms(slopes.inverse) for slopes in (found, expected))
    assert np.corrcoef(ours, theirs)[0, 1] > 0.99
    np.testing.assert_allclose(ours @ W, expected.total[0], rtol=1e-3)


def test_slopes_by_weights_of_an_exact_factor_are_differences():
    groups, W, lams, _ = at_weights("vectors", 600)
    directions = np.vstack([W, np.random.default_rng(1).normal(size=(2, 600))])
    factor = make_cholesky(groups.products)

    def value(w):
        groups.reweight(w)
        factor.reload()
        factor.update(lams)
        return factor.ldL2

    step = 1e-5
    differences = [(value(W + step * d) - value(W - step * d)) / (2 * step) for d in directions]
    value(W)
    found = factor.weight_slopes(groups, groups.values(directions)).total
    np.testing.assert_allclose(found, differences, rtol=1e-6)


@pytest.mark.parametrize("name", LAYOUTS)
def test_reloaded_products_are_those_of_a_new_factor(name):
    groups, W, lams, _ = at_weights(name, 1000)
    factor = IterativeFactor(groups.products)
    groups.reweight(W)
    factor.reload()
    other = IterativeFactor(groups.products)
    for one in (factor, other):
        one.update(lams)
    v = np.random.default_rng(0).normal(size=(groups.layout.q, 2))
    np.testing.assert_allclose(factor.solve(v), other.solve(v), rtol=1e-9, atol=1e-12)
    np.testing.assert_allclose(factor.ZtZ_times(v), groups.times(v), rtol=1e-12, atol=1e-12)
    assert factor.ldL2 == pytest.approx(other.ldL2, abs=1e-3)


@pytest.mark.parametrize("name", ["two scalars", "vectors"])
def test_negative_weights_are_seen(name):
    """Those of a sum above zero for each level, so that no diagonal tells."""
    groups, W, lams, _ = at_weights(name)
    W[::3] *= -3.0
    groups.reweight(W)
    factor = IterativeFactor(groups.products)
    large = [10.0 * lam for lam in lams]

    def solved():
        factor.update(large)
        factor.solve(np.ones(groups.layout.q))

    def valued():
        factor.update(large)
        return factor.ldL2

    for asked in (solved, valued):
        with pytest.raises(FitError, match="not positive definite"):
            asked()


# The criterion

MODELS = {
    "poisson": (CROSSED, Poisson(), {}),
    "vectors": ("count ~ x + (x | a) + (1 | b)", Poisson(), {}),
    "structured": ("count ~ x + cs(x | a) + (1 | b) + (1 | c)", Poisson(), {}),
    "binomial": ("share ~ x + (1 | a) + (1 | b)", Binomial(), {"weights": "trials"}),
    # observed weights are others than those in log|M|
    "expected": ("share ~ x + (1 | a) + (1 | b)", Binomial(link="probit"), {"weights": "trials"}),
    "a scale": ("size ~ x + (1 | a) + (1 | b)", Gamma(link="log"), {}),
    "a shape": (CROSSED, "nbinom2", {}),
    "beta in the mode": (CROSSED, Poisson(), {"nAGQ": 0}),
}


@pytest.mark.parametrize("name", MODELS)
def test_derivatives_in_the_other_order(name):
    """With an exact factor they are those of the adjoint method, to rounding."""
    formula, family, options = MODELS[name]
    few = reads(600, (40, 30), seed=2)
    fit = glmer(formula, few, family=family, **options)
    one, two = (kind(fit._fit.problem) for kind in (GeneralizedCriterion, EstimatedCriterion))
    point = fit._fit.point + 0.02
    assert one.value(point) == two.value(point)
    for a, b in zip(one.derivatives(), two.derivatives(), strict=True):
        np.testing.assert_allclose(b, a, rtol=1e-6, atol=1e-7 * np.abs(a).max())
    np.testing.assert_allclose(two.user_gradient(), one.user_gradient(), rtol=1e-6, atol=1e-6)
    errors = (criterion.laplace_error(point) for criterion in (one, two))
    assert next(errors).shift == pytest.approx(next(errors).shift, rel=1e-5)


@pytest.mark.parametrize("repeats", [1, 3])
def test_errors_of_the_criterion_are_as_large_as_they_say(repeats):
    """Over twenty seeds, in units of the standard errors: value, and gradient."""
    data = reads(3000 * repeats, (300, 250), repeats=repeats)
    fit = glmer(CROSSED, data, family="poisson", control=ITERATIVE)
    point, exact = fit._fit.point, glmer(CROSSED, data, family="poisson")._fit.criterion()
    value, (gradient, _) = exact.value(point), exact.derivatives()
    z, of_gradient, se = [], [], []
    for seed in range(20):
        criterion = fit._fit.criterion()
        factor = criterion.model.factor
        factor.seed, factor._effort = 100 + seed, None
        g, samples = criterion._gradient_samples(point)
        of_gradient.append(g - gradient)
        se.append(samples.std(axis=0, ddof=1) / np.sqrt(len(samples)))
        ended = criterion.estimates(point)
        z.append((ended.objective - value) / ended.objective_se)
    assert 0.8 < np.sqrt(np.mean(np.square(z))) < 1.25
    ratio = np.sqrt(np.square(of_gradient).mean(axis=0) / np.square(se).mean(axis=0))
    assert 0.7 < np.sqrt(np.mean(ratio**2)) < 1.3


# Whole fits


@pytest.mark.parametrize("name", ["vectors", "binomial", "expected", "a scale", "beta in the mode"])
def test_a_fit_is_that_with_an_exact_factor(name, data):
    formula, family, options = MODELS[name]
    ours, theirs = (
        glmer(formula, data, family=family, control=GlmerControl(factor=factor), **options)
        for factor in ("iterative", "schur")
    )
    assert isinstance(ours._fit.criterion().model.factor, IterativeFactor)
    assert ours.converged
    assert ours.convergence.reason in (StopReason.ERROR, StopReason.OPTIMUM)
    # A few hundred levels: the gradient's error is some 1e-2 beside a curvature of as many.
    np.testing.assert_allclose(ours.theta, theirs.theta, rtol=1e-4, atol=1e-5)
    np.testing.assert_allclose(ours.beta, theirs.beta, rtol=1e-4)
    assert 0.0 < ours.objective_se <= 0.005
    assert abs(ours.objective - theirs.objective) < 4.0 * ours.objective_se
    np.testing.assert_allclose(ours.coef_table(), theirs.coef_table(), rtol=1e-3, atol=1e-12)
    for group in "ab":
        one, two = (m.ranef()[group].to_numpy() for m in (ours, theirs))
        np.testing.assert_allclose(one, two, rtol=0, atol=1e-4 * np.abs(two).max())


def test_a_variance_that_is_zero(data):
    rng = np.random.default_rng(1)
    flat = data.assign(count=rng.poisson(np.exp(0.5 * rng.normal(size=400)[data["a"]])))
    ours, theirs = (
        glmer(
            CROSSED,
            flat,
            family="poisson",
            control=GlmerControl(factor=factor, check_conv_singular="ignore"),
        )
        for factor in ("iterative", "schur")
    )
    assert ours.is_singular() == theirs.is_singular()
    np.testing.assert_allclose(ours.theta, theirs.theta, rtol=1e-4, atol=1e-4)


def test_what_is_read_off_a_fit(data, exact, fit):
    np.testing.assert_allclose(fit.vcov(), exact.vcov(), rtol=1e-3, atol=1e-9)
    np.testing.assert_allclose(fit.vcov(full=True), exact.vcov(full=True), rtol=1e-3, atol=1e-7)
    np.testing.assert_allclose(fit.confint(method="wald"), exact.confint(method="wald"), rtol=1e-3)
    some = data.head(5)
    for kind in ("response", "link"):
        np.testing.assert_allclose(
            fit.predict(some, se_fit=True, type=kind),
            exact.predict(some, se_fit=True, type=kind),
            rtol=1e-4,
        )
    one, two = (m.ranef(condVar=True).condVar for m in (fit, exact))
    for group in "ab":
        np.testing.assert_allclose(one[group], two[group], rtol=1e-4)
    np.testing.assert_array_equal(fit.simulate(1, seed=1).shape, exact.simulate(1, seed=1).shape)


def test_the_error_is_told(fit, exact):
    for text in (str(fit), str(fit.summary())):
        assert f"log|M| is an estimate: standard error of -2*log(L) {fit.objective_se:.2g}" in text
    assert "log|M|" not in str(exact)
    assert "objective_se" in fit.glance()


def test_likelihood_ratio_tests(fit, data):
    smaller = glmer("count ~ 1 + (1 | a) + (1 | b)", data, family="poisson", control=ITERATIVE)
    table = anova(fit, smaller)
    assert table.frame["Pr(>Chisq)"].iloc[1] < 1e-10
    assert "is an estimate with a standard error of" in str(table)
    noise = data.assign(z=np.random.default_rng([3, 5]).normal(size=len(data)))
    larger = glmer("count ~ x + z + (1 | a) + (1 | b)", noise, family="poisson", control=ITERATIVE)
    statistic = 2.0 * float(larger.loglik - fit.loglik)
    if statistic < 20.0 * fit.objective_se:
        with pytest.raises(FitError, match=r"is refused: the statistic is .*objective_se="):
            anova(fit, larger)


def test_a_smaller_error_is_asked_for(data, exact, fit):
    asked = 0.5 * fit.objective_se
    control = GlmerControl(factor="iterative", objective_se=asked)
    sharper = glmer(CROSSED, data, family="poisson", control=control)
    assert sharper.objective_se <= asked
    np.testing.assert_array_equal(sharper.theta, fit.theta)
    assert abs(sharper.objective - exact.objective) < 4.0 * asked + 1e-6


def test_a_hessian_that_is_mostly_error_is_told(monkeypatch, data):
    monkeypatch.setattr("mixef.estimation.linear.estimated.LARGEST_ERROR", 1e-12)
    with pytest.warns(mixef.errors.ConvergenceWarning, match="use an exact factor where it is"):
        glmer(CROSSED, data, family="poisson", control=ITERATIVE)


@pytest.mark.parametrize(
    ("ask", "what"),
    [
        (lambda fit, data: fit.profile(), "a profile of the deviance"),
        (lambda fit, data: fit.hatvalues(), "what single rows do"),
        (lambda fit, data: fit.with_vcov("CR0", cluster="a"), "robust covariances"),
        (lambda fit, data: fit.getME("L"), "getME of the Cholesky factor"),
        (lambda fit, data: fit.factor_at(), "factor_at"),
        (lambda fit, data: fit.predict_interval(data.head(3), n=10, seed=1), "draws of random"),
        (
            lambda fit, data: glmer(
                CROSSED,
                data,
                family="poisson",
                control=GlmerControl("Powell", factor="iterative"),
            ),
            "optimizer='Powell'",
        ),
    ],
)
def test_what_takes_an_exact_factor_is_refused_by_name(ask, what, fit, data):
    with pytest.raises(ExactFactorNeededError, match=f"is needed for .*{what}"):
        ask(fit, data)


def test_a_graph_without_a_good_estimate_gets_an_exact_factor(monkeypatch, data, exact):
    """As of a chain, which any graph is here."""
    monkeypatch.setattr("mixef.linalg.iterative.logdet.HOPELESS", 1e-9)
    with pytest.raises(ExactFactorNeededError, match="graph like a chain"):
        glmer(CROSSED, data, family="poisson", control=ITERATIVE)
    monkeypatch.setattr("mixef.linalg.choose.is_long", lambda _: True)
    fit = glmer(CROSSED, data, family="poisson")
    assert fit.objective == exact.objective
    assert fit.objective_se == 0.0


def test_auto_takes_it_where_an_exact_factor_takes_long(monkeypatch, data, fit):
    monkeypatch.setattr("mixef.linalg.choose.is_long", lambda _: True)
    by_itself = glmer(CROSSED, data, family="poisson")
    assert by_itself.objective == fit.objective
    assert mixef.glmer_nb(CROSSED, data).objective_se > 0.0
