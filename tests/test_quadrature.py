"""Gauss-Hermite quadrature against moments, brute-force integrals and models in closed form."""

import itertools

import numpy as np
import pytest
from scipy import integrate, special, stats
from simulated_glmm import (
    CELLS,
    ONE_FACTOR,
    STRUCTURES,
    USUAL,
    criterion,
    lenient,
    point_of,
    simulated,
    trials_of,
    value,
    weights_of,
)

from mixef import GlmerControl, LmerControl, lmer
from mixef.errors import DataError
from mixef.estimation.generalized.quadrature import GHrule, Quadrature, product_rule
from mixef.families.convert import make_family
from mixef.glmm import glmer

every_cell = pytest.mark.parametrize("cell", CELLS)
usual_cell = pytest.mark.parametrize("cell", USUAL)


# The rule


@pytest.mark.parametrize("k", [1, 2, 3, 5, 10, 25, 50, 100])
def test_moments_of_the_rule(k):
    """E z^2m = (2m - 1)!! for a standard normal z, exact up to degree 2k - 1."""
    rule = GHrule(k)
    assert rule.z.shape == rule.w.shape == rule.ldnorm.shape == (k,)
    np.testing.assert_array_equal(rule.z, -rule.z[::-1])
    np.testing.assert_array_equal(rule.w, rule.w[::-1])
    assert (np.diff(rule.z) > 0).all()
    assert (rule.w > 0).all()
    for degree in range(min(2 * k, 40)):
        expected = special.factorial2(degree - 1) if degree % 2 == 0 and degree else 1 - degree % 2
        size = max(expected, float(rule.w @ np.abs(rule.z) ** degree))
        assert rule.w @ rule.z**degree == pytest.approx(expected, rel=0, abs=1e-12 * size)
    np.testing.assert_allclose(rule.ldnorm, stats.norm.logpdf(rule.z), rtol=0, atol=1e-12)


def test_degree_2k_is_not_exact():
    rule = GHrule(3)
    assert rule.w @ rule.z**6 == pytest.approx(9.0)  # 15 for the normal


@pytest.mark.parametrize("k", [0, -1, 101, 2.0, "5", True, None])
def test_orders_that_are_refused(k):
    with pytest.raises(ValueError, match=r"k is .*expected a whole number, from 1 to 100"):
        GHrule(k)


@pytest.mark.parametrize("s", [1, 2, 3])
def test_the_product_rule_is_the_product(s):
    nodes, log_weights = product_rule(4, s)
    assert nodes.shape == (s, 4**s)
    assert np.exp(log_weights).sum() == pytest.approx(1.0, rel=1e-14)
    np.testing.assert_allclose(nodes * np.exp(log_weights) @ nodes.T, np.eye(s), atol=1e-13)


# Integrals by brute force


def density_of(cell, y, eta, weights, extra):
    """Log densities (n, m) at eta (n, m), written down independently of the families, by SciPy."""
    family = make_family(cell)
    name, mu, y = cell.split("(")[0], family.link.inverse(eta), y[:, None]
    if name == "binomial":
        weights = weights[:, None]
        return stats.binom.logpmf(np.rint(weights * y), weights, mu)
    if name == "poisson":
        rows = stats.poisson.logpmf(y, mu)
    elif name == "gaussian":
        rows = stats.norm.logpdf(y, mu, np.sqrt(extra))
    elif name == "Gamma":
        rows = stats.gamma.logpdf(y, 1 / extra, scale=mu * extra)
    elif name == "inverse.gaussian":
        rows = stats.invgauss.logpdf(y, mu * extra, scale=1 / extra)
    else:
        shape = family.shape or extra
        rows = stats.nbinom.logpmf(y, shape, shape / (shape + mu))
    return rows if weights is None else weights[:, None] * rows


def levels_of(c, point, data, cell, columns, weights):
    """For every level: the log of its likelihood (m,) given u (s, m), on the user's scale."""
    par, beta, extra = c.split(point)
    (lam,) = c.terms.user_lams(par)
    X = np.column_stack([np.ones(len(data)), data["x"]])
    fixed = X @ c.problem.user_beta(beta)
    Z = np.column_stack([np.ones(len(data)) if n == "1" else data[n] for n in columns])
    y, w = data["y"].to_numpy(), None if weights is None else data[weights].to_numpy()

    def of_level(rows):
        def log_likelihood(u):
            eta = fixed[rows, None] + Z[rows] @ lam @ u
            return density_of(cell, y[rows], eta, None if w is None else w[rows], extra).sum(axis=0)

        return log_likelihood

    return [of_level(data["g"].to_numpy() == g) for g in range(data["g"].max() + 1)]


def grid_integral(log_likelihood, s, k, radius=8.0):
    """Trapezoids over [-radius, radius]^s times the normal density: spectrally exact."""
    z, step = np.linspace(-radius, radius, k, retstep=True)
    u = np.array(list(itertools.product(z, repeat=s))).T
    values = log_likelihood(u) - 0.5 * (u**2).sum(axis=0)
    return special.logsumexp(values) + s * np.log(step) - 0.5 * s * np.log(2 * np.pi)


def whole_line(cell):
    """Whether every linear predictor is in the domain."""
    return make_family(cell).link.name in {"logit", "probit", "cloglog", "cauchit", "log"} and (
        cell != "binomial(log)"
    )


@pytest.mark.parametrize("cell", [cell for cell in CELLS if whole_line(cell)])
def test_scalar_terms_against_adaptive_integration(cell):
    data = simulated(cell, n=24)
    data["g"] %= 4
    weights = weights_of(cell)
    c, _ = criterion("y ~ x + (1 | g)", data, cell, 60, weights)
    point = point_of(c, cell, "random")
    total = 0.0
    for log_likelihood in levels_of(c, point, data, cell, "1", weights):
        z = np.linspace(-4, 4, 81)
        top = np.max(log_likelihood(z[None]) - 0.5 * z**2)

        def integrand(u, of=log_likelihood, top=top):
            return np.exp(of(np.array([[u]]))[0] - top) * stats.norm.pdf(u)

        part, _ = integrate.quad(integrand, -10, 10, epsabs=0, epsrel=1e-12, limit=400)
        total += np.log(part) + top
    # 1e-9: 60 nodes; cauchit has tails that are no polynomial's.
    rel = 1e-6 if "cauchit" in cell else 1e-9
    assert value(c, point) == pytest.approx(-2 * total, rel=rel)


@pytest.mark.parametrize(
    "name", ["Gamma(identity)", "Gamma(inverse)", "inverse.gaussian(identity)"]
)
def test_nodes_outside_the_domain_count_nothing(name):
    """At a mean below zero the formula of a density may give anything: e^1e10 of Gamma's."""
    family = make_family(name)
    rng = np.random.default_rng(3)
    g = np.repeat(np.arange(12), 4)
    eta = 2.0 + 0.7 * np.clip(rng.standard_normal(12), -1.2, 1.2)[g]
    y = family.random(rng, family.link.inverse(eta), None, 0.3)
    fit = glmer("y ~ 1 + (1 | g)", {"y": y, "g": g}, name, nAGQ=60)
    edge = -fit.beta[0] / fit.theta[0]  # of the domain, in units of u
    u = np.linspace(edge, edge + 12.0, 20_001)[1:]
    at = np.broadcast_to(fit.beta[0] + fit.theta[0] * u, (48, len(u)))
    rows = family.log_density(y, at, family.link.inverse(at), None, fit.dispersion)
    of_level = rows.reshape(12, 4, -1).sum(axis=1) + stats.norm.logpdf(u)
    loglik = np.log(integrate.trapezoid(np.exp(of_level), u, axis=1)).sum()
    assert fit.converged
    # 5e-4: an integrand that breaks off is no polynomial.
    assert fit.loglik == pytest.approx(loglik, abs=5e-4)


@usual_cell
def test_two_correlated_columns_against_a_grid(cell):
    data = simulated(cell, n=24)
    data["g"] %= 3
    weights = weights_of(cell)
    c, _ = criterion("y ~ x + (x | g)", data, cell, 25, weights)
    point = point_of(c, cell, "random")
    par = c.split(point)[0]
    assert abs(c.terms.user_lams(par)[0][1, 0]) > 1e-3  # correlated
    levels = levels_of(c, point, data, cell, ["1", "x"], weights)
    total = sum(grid_integral(of, 2, 161) for of in levels)
    # 25 nodes: errors of 1e-9; trapezoids with a step of a tenth: rounding.
    assert value(c, point) == pytest.approx(-2 * total, rel=1e-8)


@pytest.mark.parametrize("cell", ["binomial(logit)", "poisson(log)"])
def test_three_correlated_columns_against_a_grid(cell):
    data = simulated(cell, n=12)
    data["g"] = 0
    data.loc[6:, "g"] = 1
    c, _ = criterion("y ~ x + (x + z | g)", data, cell, 15, trials_of(cell))
    point = point_of(c, cell, "random")
    levels = levels_of(c, point, data, cell, ["1", "x", "z"], trials_of(cell))
    total = sum(grid_integral(of, 3, 33) for of in levels)
    # 15 nodes: errors of some 1e-7.
    assert value(c, point) == pytest.approx(-2 * total, rel=1e-6)


@usual_cell
@pytest.mark.parametrize("structure", ONE_FACTOR)
def test_more_nodes_converge(structure, cell):
    formula = f"y ~ x + {STRUCTURES[structure]}"
    values = []
    for k in (1, 4, 9, 16, 25) if structure != "three columns" else (1, 3, 6, 11, 17):
        c, _ = criterion(formula, simulated(cell), cell, k, trials_of(cell))
        values.append(value(c, point_of(c, cell, "random")))
    errors = np.abs(np.array(values[:-1]) - values[-1])
    # Skew integrands (gaussian with the log link) converge slowest.
    assert (errors[2:] < 0.2 * errors[1:-1] + 1e-10).all()
    assert errors[-1] < 1e-2 * errors[0] + 1e-10


# One node, no variance, and Gaussian models


@every_cell
@pytest.mark.parametrize("structure", ["scalar", "vector"])
def test_one_node_is_laplace(structure, cell):
    """nAGQ = 1 does not go through quadrature: run it there, with one node at the mode."""
    c, _ = criterion(f"y ~ x + {STRUCTURES[structure]}", simulated(cell), cell, 1, trials_of(cell))
    point = point_of(c, cell, "random")
    value(c, point)
    par, _, extra = c.split(point)
    quadrature = Quadrature(c.model, c._mode, c._levels, extra, 1)
    # The one node is the mode, where the integrand is its own approximation.
    assert quadrature.correction == 0.0
    expected = c.derivatives()[0]
    gradient = quadrature.gradient(c._derivatives.moved, c.parametrization.lams(par)[0])
    np.testing.assert_allclose(gradient, expected, rtol=0, atol=1e-9 * np.abs(expected).max())


@usual_cell
def test_quadrature_without_variance_is_laplace(cell):
    values = []
    for k in (1, 7):
        c, _ = criterion("y ~ x + (1 | g)", simulated(cell), cell, k, trials_of(cell))
        values.append(value(c, point_of(c, cell, "zero")))
    assert values[0] == pytest.approx(values[1], rel=1e-13)


QUIET = LmerControl(check_conv_singular="ignore")


@pytest.mark.parametrize("structure", STRUCTURES)
def test_gaussian_laplace_is_the_linear_model(structure):
    """With the identity link the integrand is normal, and the integral exact."""
    data = simulated("gaussian(identity)")
    formula = f"y ~ x + {STRUCTURES[structure]}"
    linear = lmer(formula, data, REML=False, control=QUIET)
    fits = [glmer(formula, data, "gaussian", control=lenient())]
    if structure in ONE_FACTOR:
        k = 3 if structure == "three columns" else 7
        fits.append(glmer(formula, data, "gaussian", k, control=lenient()))
    for fit in fits:
        assert fit.objective == pytest.approx(linear.objective, rel=0, abs=1e-9)
        assert fit.npar == linear.npar
        # 1e-12 of gain left by the search: 1e-6 standard errors.
        assert fit.sigma == pytest.approx(linear.sigma, rel=1e-6)
        np.testing.assert_allclose(fit.beta, linear.beta, atol=1e-6)
        np.testing.assert_allclose(fit.theta, linear.sigma * linear.theta, atol=1e-5)
        for name, modes in linear.ranef().items():
            np.testing.assert_allclose(fit.ranef()[name], modes, atol=1e-5)


def test_gaussian_weights_are_copies_not_precisions():
    data = simulated("gaussian(identity)")
    copies = data.loc[data.index.repeat(data["w"])]
    linear = lmer("y ~ x + (x | g)", copies, REML=False, control=QUIET)
    fit = glmer("y ~ x + (x | g)", data, "gaussian", 5, weights="w", control=lenient())
    assert fit.objective == pytest.approx(linear.objective, rel=0, abs=1e-9)


# What cannot be done


@pytest.mark.parametrize("k", [-1, 101, 2.5, "9", True, None])
def test_numbers_of_nodes_that_are_refused(k):
    with pytest.raises(ValueError, match="nAGQ is "):
        glmer("y ~ x + (1 | g)", simulated("poisson(log)"), "poisson", k)


@pytest.mark.parametrize("structure", ["crossed", "nested", "three factors"])
def test_quadrature_needs_one_factor(structure):
    with pytest.raises(DataError, match=r"nAGQ = 5 needs a single grouping factor.*nAGQ=1"):
        glmer(f"y ~ x + {STRUCTURES[structure]}", simulated("poisson(log)"), "poisson", 5)


def test_quadrature_with_four_columns():
    data = simulated("poisson(log)")
    with pytest.raises(DataError, match=r"4 random effects a level of g would take 5\^4 nodes"):
        glmer("y ~ x + (x * z | g)", data, "poisson", 5)


@pytest.mark.parametrize(
    ("nAGQ", "formula", "message"),
    [
        (100, "y ~ x + (x + z | g)", r"each of 8 levels of g takes 100\^3 nodes .*8e\+06 in all.*"
                                     r"at most 1,000,000: use nAGQ=50 at most, or nAGQ=1"),
        (51, "y ~ x + (x + z | g)", r"51\^3 nodes a level, 1.1e\+06 in all"),
        (100, "y ~ 1 + (1 | g) + (0 + x | g) + (0 + z | g)", r"100\^3 nodes a level"),
    ],
)  # fmt: skip
def test_nodes_past_a_million_are_refused_before_the_work(nAGQ, formula, message, monkeypatch):
    monkeypatch.setattr("mixef.estimation.generalized.kind.Generalized.criterion", None)
    with pytest.raises(DataError, match=message):
        glmer(formula, simulated("poisson(log)"), "poisson", nAGQ)


@pytest.mark.parametrize(("most", "remedy"), [(75, "use nAGQ=3 at most"), (20, "use nAGQ=1 ")])
def test_the_remedy_is_what_is_possible(most, remedy, monkeypatch):
    monkeypatch.setattr("mixef.estimation.generalized.quadrature.MOST_NODES", most)
    with pytest.raises(DataError, match=remedy):
        glmer("y ~ x + (x | g)", simulated("poisson(log)"), "poisson", 4)
    # Scalar effects never have more than a hundred nodes a level.
    assert glmer("y ~ x + (1 | g)", simulated("poisson(log)"), "poisson", 11).converged


@pytest.mark.parametrize("link", ["logit", "probit"])
def test_effects_of_single_rows_end_where_the_gradient_vanishes(link):
    """The information foresees a saddle there that no step finds: it is no failure to converge."""
    rng = np.random.default_rng(58)
    x = rng.standard_normal(44)
    eta = 0.3 + 0.8 * x + x * rng.standard_normal(44)
    data = {"y": (rng.random(44) < special.expit(eta)) * 1.0, "x": x, "g": np.arange(44)}
    control = GlmerControl(check_nobs_vs_nlev="ignore", check_nobs_vs_nRE="ignore")
    fit = glmer("y ~ x + (0 + x | g)", data, f"binomial({link})", nAGQ=9, control=control)
    assert fit.converged
    # 1e-6: a step that promises less than 1e-12 is not taken
    assert np.abs(fit.convergence.gradient).max() < 1e-6
    # -2 log L is lower than at the same model with the variance held elsewhere: a minimum
    devfun, here = fit.getME("devfun"), fit.theta[0]
    around = [devfun(np.r_[here * by, fit.beta]) for by in (0.9, 0.99, 1.01, 1.1)]
    assert min(around) > fit.objective
