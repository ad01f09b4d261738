"""Second-order behaviour of the linear criterion against differences of estimates."""

import numpy as np
import pytest
from simulated import crossed
from test_gradient import FORMULAS, QUIET

from mixef import lmer


@pytest.fixture(scope="module", params=FORMULAS)
def fit(request):
    return lmer(
        FORMULAS[request.param], crossed(), REML=len(request.param) % 2 == 0, control=QUIET
    )._fit


def joint_objective(criterion, par, log_sigma):
    """The criterion where sigma is a parameter: from the profiled one and pwrss."""
    e = criterion.estimates(par)
    m = criterion.problem.m
    s2 = e.pwrss / m
    return e.objective + m * (2 * log_sigma - np.log(s2)) + e.pwrss / np.exp(2 * log_sigma) - m


def central(function, x, step=1e-4):
    return [(function(x + h) - function(x - h)) / (2 * step) for h in step * np.eye(len(x))]


def test_hessian_with_sigma(fit):
    criterion, par = fit.criterion(), fit.scaled_par
    x = np.append(par, np.log(fit.estimates.sigma))
    k = len(x)
    H = criterion.curvature(par).hessian
    step = 2e-3

    def f(x):
        return joint_objective(criterion, x[:-1], x[-1])

    E = step * np.eye(k)
    numeric = [
        [(f(x + a + b) - f(x + a - b) - f(x - a + b) + f(x - a - b)) / (4 * step**2) for a in E]
        for b in E
    ]
    # Second differences of the value: some step^2 of the fourth derivatives is lost.
    largest = np.abs(H.diagonal()).max()
    np.testing.assert_allclose(H, numeric, rtol=0, atol=2e-4 * largest)


def test_slopes_of_the_covariance_of_beta(fit):
    criterion, par = fit.criterion(), fit.scaled_par
    sigma = fit.estimates.sigma

    def vcov(x):
        return np.exp(2 * x[-1]) * criterion.estimates(x[:-1]).unscaled_vcov

    numeric = np.array(central(vcov, np.append(par, np.log(sigma))))
    exact = criterion.curvature(par).vcov_slopes
    least = 1e-7 * np.abs(numeric).max(initial=0.0)  # there may be no fixed effects
    np.testing.assert_allclose(exact, numeric, rtol=1e-6, atol=least)


def test_slopes_of_the_effects(fit):
    criterion, par = fit.criterion(), fit.scaled_par
    d_beta, d_effects = criterion.effects_slopes(par)
    beta = np.array(central(lambda x: criterion.estimates(x).beta, par)).T
    assert d_beta == pytest.approx(beta, abs=1e-6 * max(np.abs(beta).max(initial=0.0), 1e-3))
    for t, exact in enumerate(d_effects):
        numeric = np.array(central(lambda x, t=t: criterion.estimates(x).effects[t], par))
        assert exact == pytest.approx(numeric, abs=1e-6 * max(np.abs(numeric).max(), 1e-3))
