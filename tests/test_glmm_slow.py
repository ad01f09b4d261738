"""Simulation: estimates and their intervals over 200 data sets for each family."""

import warnings

import numpy as np
import pandas as pd
import pytest

from mixef import glmer

N_SETS, N_GROUPS, N_ROWS = 200, 50, 12
BETA, SD = np.array([0.4, -0.6]), 0.5
DISPERSION, SHAPE = 0.4, 2.5


def binomial(mu, rng):
    mu = 1 / (1 + np.exp(-mu))
    return rng.binomial(6, mu) / 6


def poisson(eta, rng):
    return rng.poisson(np.exp(eta)).astype(float)


def gamma(eta, rng):
    return rng.gamma(1 / DISPERSION, DISPERSION * np.exp(eta))


def negative_binomial(eta, rng):
    return rng.poisson(rng.gamma(SHAPE, np.exp(eta) / SHAPE)).astype(float)


FAMILIES = {
    "binomial": (binomial, None),
    "poisson": (poisson, None),
    "Gamma(log)": (gamma, DISPERSION),
    "nbinom2": (negative_binomial, SHAPE),
}


def fits(family, draw):
    """Estimates (200, 3 or 4) of the coefficients, the SD and the log of the extra parameter.

    And their standard errors.
    """
    rng = np.random.default_rng(20)
    g = np.repeat(np.arange(N_GROUPS), N_ROWS)
    estimates, errors = [], []
    for _ in range(N_SETS):
        x = rng.normal(size=len(g))
        eta = BETA[0] + BETA[1] * x + SD * rng.normal(size=N_GROUPS)[g]
        data = pd.DataFrame({"y": draw(eta, rng), "x": x, "g": g, "trials": 6})
        weights = "trials" if family == "binomial" else None
        with warnings.catch_warnings():
            warnings.simplefilter("error")
            fit = glmer("y ~ x + (1 | g)", data, family, weights=weights)
        assert fit.converged
        extra = np.log(fit.auxiliary.to_numpy())
        estimates.append([*fit.beta, fit.theta[0], *extra])
        errors.append(np.sqrt(np.diag(fit.vcov(full=True))))
    return np.array(estimates), np.array(errors)


@pytest.mark.slow
@pytest.mark.parametrize("family", FAMILIES)
def test_estimates_and_coverage(family):
    draw, extra = FAMILIES[family]
    truth = np.array([*BETA, SD, *([] if extra is None else [np.log(extra)])])
    estimates, errors = fits(family, draw)
    error_of_mean = estimates.std(axis=0, ddof=1) / np.sqrt(N_SETS)
    bias = estimates.mean(axis=0) - truth
    # Four standard errors of the mean of 200; maximum likelihood makes the SD of 50 groups too
    # small by a share of about 1 / (2 * 50), and the log of the extra parameter by less.
    allowed = 4.0 * error_of_mean + np.array([0.0, 0.0, 0.015, 0.02])[: len(truth)]
    assert (np.abs(bias) < allowed).all(), bias / error_of_mean
    # The standard errors are those of the estimates: that of an SD from 200 is 5 percent of it.
    np.testing.assert_allclose(errors.mean(axis=0), estimates.std(axis=0, ddof=1), rtol=0.2)
    covered = (np.abs(estimates - truth) < 1.959964 * errors).mean(axis=0)
    # 95 percent less two for few groups; 0.93 -+ 3.3 times the root of 0.93 * 0.07 / 200.
    assert (covered > 0.87).all(), covered
    assert (covered < 0.995).all(), covered
