"""Units, information and odd ends of generalized fits beside glmmTMB and lme4 (glmm_ends.R)."""

import json
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from mixef import glmer, load_dataset
from mixef.estimation.generalized.pirls import conditional_mode

R = json.loads((Path(__file__).parent / "reference" / "glmm_ends.json").read_text())
UNIT, BINARY = pd.DataFrame(R["unit"]), pd.DataFrame(R["binary"])
RESPONSES = {
    "Gamma(inverse)": "p",
    "gaussian(inverse)": "z",
    "Gamma(identity)": "q",
    "nbinom2(identity)": "n",
}


@pytest.mark.parametrize("unit", [1.0, 1e-6, 1e6])
@pytest.mark.parametrize("cell", RESPONSES)
def test_beside_glmmtmb_in_any_unit(cell, unit):
    if cell.startswith("nbinom2"):  # counts have no unit, predictors have one
        data, factor, shift = UNIT, 1.0, 0.0
        fit = glmer("n ~ I(x * 1e6) + (1 | g)", data, cell)
        by = np.array([1.0, 1e6])
    else:
        y = RESPONSES[cell]
        fit = glmer(f"{y} ~ x + (1 | g)", UNIT.assign(**{y: unit * UNIT[y]}), cell)
        factor = unit if "identity" in cell else 1 / unit
        shift, by = 240 * np.log(unit), np.ones(2)
    expected = R["fits"][cell]
    assert fit.converged
    # glmmTMB stops its search at 1e-8 of the value; its Hessian is by differences.
    assert fit.loglik + shift == pytest.approx(expected["loglik"], rel=0, abs=1e-5)
    np.testing.assert_allclose(fit.beta * by / factor, expected["beta"], rtol=1e-3)
    np.testing.assert_allclose(
        np.sqrt(np.diag(fit.vcov())) * by / factor, expected["se"], rtol=1e-3
    )
    assert fit.theta[0] / factor == pytest.approx(expected["sd"], rel=1e-3)


@pytest.mark.filterwarnings("ignore:non-integer #successes")
@pytest.mark.filterwarnings("ignore:boundary")
@pytest.mark.parametrize("weights", [None, np.ones(56)])
def test_shares_of_one_trial(weights):
    """glmmTMB's value, with weights of one and without; lme4 rounds shares to 0 and 1."""
    formula = "incidence / size ~ period + (1 | herd)"
    fit = glmer(formula, load_dataset("cbpp"), "binomial", weights=weights)
    assert fit.loglik == pytest.approx(R["shares"]["none"], rel=0, abs=1e-6)
    assert R["shares"]["none"] == R["shares"]["ones"]


@pytest.mark.filterwarnings("ignore:Laplace's approximation is poor")
def test_laplace_and_quadrature_of_few_binary_rows():
    formula = "y ~ x + (1 | g)"
    laplace, quadrature = (glmer(formula, BINARY, "binomial", nAGQ) for nAGQ in (1, 25))
    assert laplace.convergence.remarks
    assert not quadrature.convergence.remarks
    # lme4 stops bobyqa 1e-6 above the optimum.
    assert laplace.loglik == pytest.approx(R["laplace"]["loglik"], rel=0, abs=1e-4)
    assert quadrature.loglik == pytest.approx(R["quadrature"]["loglik"], rel=0, abs=1e-4)
    np.testing.assert_allclose(quadrature.beta, R["quadrature"]["beta"], rtol=0, atol=1e-3)
    assert quadrature.theta[0] == pytest.approx(R["quadrature"]["sd"], rel=1e-3)
    # The difference is what the next terms of the expansion foretell, roughly.
    error = laplace._fit.criterion().laplace_error(laplace._fit.point)
    lack = R["quadrature"]["loglik"] - R["laplace"]["loglik"]
    assert error.shift == pytest.approx(lack, rel=0.6)


@pytest.mark.filterwarnings("ignore:boundary")
def test_counts_that_are_not_overdispersed_are_poisson():
    with pytest.warns(match=r"shape of the negative binomial goes to infinity.*family='poisson'"):
        fit = glmer("few ~ x + (1 | g)", UNIT, "nbinom2")
    assert fit.loglik == pytest.approx(R["poisson"], rel=0, abs=1e-4)


def test_a_search_starts_at_the_coefficients_of_the_mode():
    """From those of the model without random effects it takes half as many evaluations again."""
    data = load_dataset("grouseticks")
    terms = "(1 | BROOD) + (1 | INDEX) + (1 | LOCATION)"
    fit = glmer(f"TICKS ~ YEAR + HEIGHT + {terms}", data, "poisson")
    assert fit.convergence.n_evaluations <= 9
    criterion = fit._fit.kind.criterion(fit._fit.problem)
    start = criterion.start()
    par, beta, extra = criterion.split(start)
    plain = criterion.join(par, criterion.problem.beta, extra)
    assert criterion.value(start) < criterion.value(plain) - 30.0
    at_mode = conditional_mode(
        criterion.model, criterion.parametrization.lams(par), beta, extra, criterion._u, True
    )
    # They are as near to it as the last step that was taken leaves them.
    assert criterion.value(criterion.join(par, at_mode.beta, extra)) == pytest.approx(
        criterion.value(start), rel=0, abs=0.2
    )


@pytest.mark.parametrize("size", [1e12, 1e14])
@pytest.mark.parametrize("family", ["poisson", "binomial"])
def test_counts_whose_means_are_rounded_by_more_than_they_move(family, size):
    """Groups' means are next to known there: what is estimated is their mean and their SD."""
    g, x = np.repeat(np.arange(20), 5), np.tile(np.arange(5.0), 20)
    b = np.sin(3.0 * np.arange(20))
    eta = 0.2 * x + b[g]
    if family == "poisson":
        data, formula = {"y": np.rint(size * np.exp(eta))}, "y ~ x + (1 | g)"
        middle = np.log(size) + b.mean()
    else:
        k = np.rint(size / (1.0 + np.exp(-eta)))
        data, formula, middle = {"k": k, "m": size - k}, "cbind(k, m) ~ x + (1 | g)", b.mean()
    fit = glmer(formula, data | {"g": g, "x": x}, family)
    assert fit.converged
    np.testing.assert_allclose(fit.fixef(), [middle, 0.2], rtol=1e-5)
    np.testing.assert_allclose(fit.VarCorr().to_frame()["sdcor"], b.std(), rtol=1e-5)
