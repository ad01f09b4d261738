"""A user's own families and links get the fit of the built-in ones that they repeat."""

import numpy as np
import pandas as pd
import pytest
from scipy import special, stats

from mixef import Binomial, Gamma, UserFamily, UserLink, glmer
from mixef.errors import DataError
from mixef.families.family import Family


def logit(mu):
    return np.log(mu / (1 - mu))


def expit(eta):
    return 1 / (1 + np.exp(-eta))


def log_gamma_density(y, mu, phi):
    return stats.gamma.logpdf(y, 1 / phi, scale=mu * phi)


class Counts(Family):
    """A Poisson family by its deviance and normalizer."""

    name = "counts"

    def __init__(self):
        super().__init__("log")

    def variance(self, mu, extra=None):
        return np.asarray(mu, dtype=float)

    def unit_deviance(self, y, mu, extra=None):
        return 2.0 * special.kl_div(y, mu)

    def unit_normalizer(self, y, extra=None):
        return stats.poisson.logpmf(y, np.maximum(y, 1e-300))


OWN_LINK = UserLink("own logit", logit, expit)
CASES = {
    "log density": (
        "c",
        UserFamily("count", "log", variance=np.abs, log_density=stats.poisson.logpmf),
        "poisson",
    ),
    "subclass": ("c", Counts(), "poisson"),
    "log density with a dispersion": (
        "p",
        UserFamily(
            "own gamma", "log", variance=np.square, log_density=log_gamma_density, dispersion=True
        ),
        Gamma("log"),
    ),
    "link without derivatives": ("y", Binomial(OWN_LINK), "binomial"),
    "link as functions": ("y", Binomial((logit, expit)), "binomial"),
}


@pytest.fixture(scope="module")
def data():
    rng = np.random.default_rng(1)
    x, g = rng.normal(size=400), np.arange(400) % 20
    eta = 0.3 * x + 0.5 * rng.normal(size=20)[g]
    return pd.DataFrame(
        {
            "x": x,
            "g": g,
            "c": rng.poisson(np.exp(eta)),
            "p": rng.gamma(2, np.exp(eta) / 2),
            "y": (rng.random(400) < expit(eta)).astype(int),
            "beta": rng.beta(5 * expit(eta), 5 * (1 - expit(eta))),
        }
    )


@pytest.mark.parametrize("nAGQ", [0, 1, 7])
@pytest.mark.parametrize("case", CASES)
def test_the_fit_is_that_of_the_built_in_family(case, nAGQ, data):
    response, own, known = CASES[case]
    fits = [glmer(f"{response} ~ x + (1 | g)", data, family, nAGQ) for family in (own, known)]
    ours, expected = fits
    assert ours.converged
    # Numerical derivatives of the third order are good to 1e-10; their use is second order here.
    assert ours.objective == pytest.approx(expected.objective, rel=0, abs=1e-8)
    np.testing.assert_allclose(ours.beta, expected.beta, rtol=0, atol=1e-6)
    np.testing.assert_allclose(ours.theta, expected.theta, rtol=0, atol=1e-6)
    np.testing.assert_allclose(ours.vcov(), expected.vcov(), rtol=1e-5)
    if expected.dispersion is not None:
        assert ours.dispersion == pytest.approx(expected.dispersion, rel=1e-6)
    np.testing.assert_allclose(ours.residuals(), expected.residuals(), rtol=0, atol=1e-6)


def test_quasi_likelihood_is_relative_to_the_saturated_model(data):
    quasi = UserFamily(
        "quasi", "log", variance=np.abs, deviance=lambda y, mu: 2 * special.kl_div(y, mu)
    )
    ours, full = (glmer("c ~ x + (1 | g)", data, family) for family in (quasi, "poisson"))
    assert ours.loglik == pytest.approx(full.relative_loglik, rel=0, abs=1e-8)
    np.testing.assert_allclose(ours.beta, full.beta, rtol=0, atol=1e-7)


def log_beta_density(y, mu, phi):
    return stats.beta.logpdf(y, mu / phi, (1 - mu) / phi)


@pytest.mark.parametrize(
    ("response", "family"),
    [
        (
            "beta",
            UserFamily(
                "beta",
                "logit",
                variance=lambda mu: mu * (1 - mu),
                log_density=log_beta_density,
                dispersion=True,
                mean_range=(0, 1),
            ),
        ),
        ("c", UserFamily("odd", "log", variance=np.square, log_density=stats.poisson.logpmf)),
    ],
)
def test_a_variance_that_is_not_that_of_the_density(response, family, data):
    with pytest.raises(
        DataError, match=f"density of the family {family.name} does not go with its variance"
    ):
        glmer(f"{response} ~ x + (1 | g)", data, family)


@pytest.mark.parametrize(
    ("parts", "message"),
    [
        ({"deviance": np.subtract}, "auxiliary parameters is told by its log_density="),
        ({"log_density": np.add, "dispersion": True}, "without deviance= and dispersion="),
        ({"log_density": "normal"}, "log_density of the family 'own' is 'normal'; expected"),
        ({"log_density": np.add, "random": 3}, "random of the family 'own' is 3; expected"),
    ],
)
def test_what_a_family_with_auxiliary_parameters_refuses(parts, message):
    with pytest.raises(ValueError, match=message):
        UserFamily("own", "log", variance=np.abs, auxiliary=["scale"], **parts)
