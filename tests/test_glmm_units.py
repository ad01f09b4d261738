"""Generalized fits in any unit: of the response, of the predictors, of the offset, of a link."""

from functools import cache

import numpy as np
import pytest
from scipy import stats
from simulated_glmm import CELLS, lenient, simulated, trials_of

from mixef import Gamma, UserFamily, UserLink, glmer, lm_list
from mixef.errors import DataError, FitError

#: How the linear predictor changes with the response's unit; log links get an intercept.
POWERS = {"identity": 1, "inverse": -1, "1/mu^2": -2, "log": 0}
#: How the dispersion does: as the variance over the variance function.
DISPERSIONS = {"gaussian": 2, "Gamma": 0, "inverse.gaussian": -1}
WITH_UNIT = [cell for cell in CELLS if cell.split("(")[0] in DISPERSIONS]
UNITS = [1e-8, 1e8]
RECIPROCAL = ["gaussian(inverse)", "Gamma(inverse)", "inverse.gaussian(1/mu^2)"]
#: Searches of these run against the end of the domain, where rounding decides how.
STEADY = [cell for cell in WITH_UNIT if cell != "inverse.gaussian(identity)"]
FORMULAS = {"vector": "y ~ x + (x | g)", "crossed": "y ~ x + (1 | g) + (1 | h)"}


@cache
def fitted(cell, structure, nAGQ, unit=1.0):
    data = simulated(cell)
    return glmer(
        FORMULAS[structure], data.assign(y=unit * data["y"]), cell, nAGQ, control=lenient()
    )


def numbers(fit):
    """Coefficients, standard errors and covariance parameters."""
    return fit.beta, np.sqrt(np.diag(fit.vcov())), fit.theta


@pytest.mark.parametrize("unit", UNITS)
@pytest.mark.parametrize("structure", FORMULAS)
@pytest.mark.parametrize("cell", WITH_UNIT)
def test_the_unit_of_a_response(cell, structure, unit):
    family, link = cell[:-1].split("(")
    fit, expected = (fitted(cell, structure, 1, u) for u in (unit, 1.0))
    # The log density is divided by the unit; 1e-6: ends of a search that do not converge.
    shift = len(simulated(cell)) * np.log(unit)
    assert fit.loglik + shift == pytest.approx(expected.loglik, rel=0, abs=1e-6)
    assert fit.converged == expected.converged
    evaluations = fit.convergence.n_evaluations - expected.convergence.n_evaluations
    assert abs(evaluations) <= (2 if cell in STEADY else 40)
    factor = unit ** POWERS[link]
    origin = np.array([np.log(unit) if link == "log" else 0.0, 0.0])
    ours, theirs = numbers(fit), numbers(expected)
    np.testing.assert_allclose((ours[0] - origin) / factor, theirs[0], rtol=1e-6, atol=1e-8)
    # A tenth of the search's own accuracy, 1e-5 standard errors.
    np.testing.assert_allclose(ours[1] / factor, theirs[1], rtol=1e-6)
    np.testing.assert_allclose(ours[2] / factor, theirs[2], rtol=1e-6, atol=1e-7)
    dispersion = fit.dispersion / unit ** DISPERSIONS[family]
    assert dispersion == pytest.approx(expected.dispersion, rel=1e-6)


@pytest.mark.parametrize("nAGQ", [0, 5])
@pytest.mark.parametrize(
    "cell", ["gaussian(inverse)", "Gamma(inverse)", "inverse.gaussian(1/mu^2)"]
)
def test_the_unit_with_other_criteria(cell, nAGQ):
    fit, expected = (fitted(cell, "vector", nAGQ, u) for u in (1e6, 1.0))
    factor = 1e6 ** POWERS[cell[:-1].split("(")[1]]
    assert fit.converged
    assert abs(fit.convergence.n_evaluations - expected.convergence.n_evaluations) <= 2
    for ours, theirs in zip(numbers(fit), numbers(expected), strict=True):
        np.testing.assert_allclose(ours / factor, theirs, rtol=1e-6, atol=1e-7)


@pytest.mark.parametrize(
    "cell", ["gaussian(inverse)", "Gamma(inverse)", "inverse.gaussian(1/mu^2)"]
)
def test_intervals_in_any_unit(cell):
    """Profiles are equivariant, and near the estimate a profile is Wald's interval."""
    data, factor = simulated(cell), 1e6 ** POWERS[cell[:-1].split("(")[1]]
    fits = [
        glmer("y ~ x + (1 | g)", data.assign(y=u * data["y"]), cell, control=lenient())
        for u in (1e6, 1.0)
    ]
    ours, expected = (fit.confint("x", level=0.1) for fit in fits)
    np.testing.assert_allclose(ours / factor, expected, rtol=1e-5)
    wald = fits[0].confint("x", level=0.1, method="wald")
    # The profile's own curvature over an eighth of a standard error.
    width = wald.iloc[0, 1] - wald.iloc[0, 0]
    assert ours.iloc[0, 1] - ours.iloc[0, 0] == pytest.approx(width, rel=3e-3)


@pytest.mark.parametrize("unit", UNITS)
@pytest.mark.parametrize("cell", ["gaussian(log)", "gaussian(inverse)", "inverse.gaussian(log)"])
def test_regressions_by_group_and_predictions_in_any_unit(cell, unit):
    data, link = simulated(cell, n=200), cell[:-1].split("(")[1]
    scaled = data.assign(y=unit * data["y"])
    ours, expected = (lm_list("y ~ x | g", d, family=cell).coef() for d in (scaled, data))
    origin = np.array([np.log(unit) if link == "log" else 0.0, 0.0])
    ours = (ours - origin) / unit ** POWERS[link]
    np.testing.assert_allclose(ours, expected, rtol=1e-5, atol=1e-6)
    ours, expected = (
        glmer("y ~ x + (1 | g)", d, cell, control=lenient()).predict(
            d.iloc[:4], interval="prediction"
        )
        for d in (scaled, data)
    )
    np.testing.assert_allclose(ours / unit, expected, rtol=1e-7)


@pytest.mark.parametrize("unit", [1e-8, 1.0, 1e8])
@pytest.mark.parametrize("cell", ["Gamma(log)", "gaussian(log)", "inverse.gaussian(log)"])
def test_an_exact_response_is_told_in_any_unit(cell, unit):
    data = simulated(cell)
    data["y"] = unit * np.exp(0.3 * data["x"])
    with pytest.raises(FitError, match=r"fit the response exactly.*the dispersion is zero"):
        glmer("y ~ x + (1 | g)", data, cell)


@pytest.mark.parametrize("cell", CELLS)
def test_the_unit_of_a_predictor(cell):
    data, factor = simulated(cell), 1e8
    control = lenient(check_scaleX="ignore")
    fit, expected = (
        glmer("y ~ x + (x | g)", d, cell, weights=trials_of(cell), control=control)
        for d in (data.assign(x=factor * data["x"]), data)
    )
    unit = np.array([1.0, factor])
    assert fit.loglik == pytest.approx(expected.loglik, rel=0, abs=1e-6)
    ours, theirs = numbers(fit), numbers(expected)
    np.testing.assert_allclose(ours[0] * unit, theirs[0], rtol=1e-5, atol=1e-7)
    np.testing.assert_allclose(ours[1] * unit, theirs[1], rtol=1e-5)
    np.testing.assert_allclose(ours[2] * [1.0, factor, factor], theirs[2], rtol=1e-4, atol=1e-6)


@pytest.mark.parametrize("factor", [1e-8, 1e8])
@pytest.mark.parametrize("cell", ["poisson(log)", "nbinom2(log)"])
def test_an_exposure_in_any_unit(cell, factor):
    data = simulated(cell)
    fit, expected = (
        glmer("y ~ x + (x | g)", data, cell, offset=np.full(90, np.log(f)), control=lenient())
        for f in (factor, 1.0)
    )
    assert fit.convergence.n_evaluations == expected.convergence.n_evaluations
    assert fit.loglik == pytest.approx(expected.loglik, rel=0, abs=1e-8)
    np.testing.assert_allclose(fit.beta + np.array([np.log(factor), 0.0]), expected.beta, rtol=1e-6)
    np.testing.assert_allclose(fit.vcov(), expected.vcov(), rtol=1e-6)


# Links and families of a user's own, of which nothing is known but their functions

INVERSE = UserLink("one over", np.reciprocal, np.reciprocal)


def log_gamma_density(y, mu, phi):
    return stats.gamma.logpdf(y, 1 / phi, scale=mu * phi)


OWN_GAMMA = UserFamily(
    "own gamma", "log", variance=np.square, log_density=log_gamma_density, dispersion=True
)


@pytest.mark.parametrize("unit", [1e-8, 1e8])
@pytest.mark.parametrize(
    ("own", "known"), [(Gamma(INVERSE), Gamma()), (OWN_GAMMA, Gamma("log"))], ids=["link", "family"]
)
def test_a_users_own_in_any_unit(own, known, unit):
    data = simulated("Gamma(inverse)")
    data["y"] *= unit
    fit, expected = (
        glmer("y ~ x + (1 | g)", data, family, control=lenient()) for family in (own, known)
    )
    assert fit.converged
    # Differences of the third and fourth order are good to 1e-8 of themselves.
    assert fit.loglik == pytest.approx(expected.loglik, rel=1e-9)
    for ours, theirs in zip(numbers(fit), numbers(expected), strict=True):
        np.testing.assert_allclose(ours, theirs, rtol=1e-4)


@pytest.mark.parametrize("unit", [1e-8, 1.0, 1e8])
def test_a_density_with_another_variance_is_found_in_any_unit(unit):
    family = UserFamily(
        "wrong", "log", variance=lambda mu: mu**3, log_density=log_gamma_density, dispersion=True
    )
    data = simulated("Gamma(log)")
    with pytest.raises(DataError, match="family wrong does not go with its variance function"):
        glmer("y ~ x + (1 | g)", data.assign(y=unit * data["y"]), family)
