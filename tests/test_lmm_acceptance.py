"""Linear mixed models against numbers from lme4's tests and runs, and tightly converged fits.

tests/reference/lmm_acceptance.json holds for each number its source, its tolerance and the reason
for it; lmm_acceptance.R made it with lme4 1.1-31.
"""

import warnings

import numpy as np
import pytest
from reference_data import cases, frame

from mixef import lmer
from mixef.errors import SingularFitWarning

CASES = cases("lmm_acceptance.json")
CHECKS = [(case, check) for case in CASES for check in case["checks"]]
FITS = {}


def fit_of(case):
    """The fit of a case, made once."""
    if case["id"] not in FITS:
        data = frame(case["data"])
        offset = case["offset"] and data.eval(case["offset"])
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", SingularFitWarning)
            FITS[case["id"]] = lmer(
                case["formula"], data, case["REML"], weights=case["weights"], offset=offset
            )
    return FITS[case["id"]]


def components(fit):
    """Variances and covariances, each term's lower triangle by columns, the residual last."""
    out = []
    for lam in fit.VarCorr().values():
        matrix = np.atleast_2d(np.asarray(lam))
        rows, columns = np.triu_indices(len(matrix))
        out += list(matrix[columns, rows])
    return [*out, fit.sigma**2]


def conditional_covariance(fit, group, level, term=None):
    """The covariance matrix of one level's conditional modes; of one term's if several share it."""
    effects = fit.ranef(condVar=True)
    position = list(effects[group].index).index(level)
    matrix = np.asarray(effects.condVar[group])[position]
    return matrix if term is None else matrix[term, term]


def random_effects(fit, group, level):
    return fit.ranef()[group].loc[level].to_numpy()


def correlation(fit):
    size = np.sqrt(np.diag(fit.vcov()))
    return fit.vcov().to_numpy() / np.outer(size, size)


def criterion_at(fit, theta):
    criterion = fit._fit.criterion()
    return criterion.value(criterion.terms.scaled_par(np.array(theta, dtype=float)))


def extremes(x):
    return [x.min(), x.max()]


QUANTITIES = {
    "aic": lambda fit: fit.aic,
    "beta": lambda fit: fit.beta,
    "bic": lambda fit: fit.bic,
    "condsd": lambda fit, **at: np.sqrt(np.diag(conditional_covariance(fit, **at))),
    "condvar": lambda fit, **at: conditional_covariance(fit, **at),
    "devfun": criterion_at,
    "df_residual": lambda fit: fit.df_residual,
    "fitted": lambda fit: fit.fitted(),
    "loglik": lambda fit: fit.loglik,
    "npar": lambda fit: fit.npar,
    "objective": lambda fit: fit.objective,
    "par": lambda fit: fit.par,
    "ranef": lambda fit, **at: random_effects(fit, **at),
    "residual_range": lambda fit: extremes(fit.residuals()),
    "residual_scaled_range": lambda fit: extremes(fit.residuals(scaled=True)),
    "se": lambda fit: np.sqrt(np.diag(fit.vcov())),
    "sigma": lambda fit: fit.sigma,
    "sigma2": lambda fit: fit.sigma**2,
    "theta": lambda fit: fit.theta,
    "tvalue": lambda fit: fit.coef_table()["t value"],
    "vcov": lambda fit: fit.vcov(),
    "vcov_cholesky": lambda fit: np.linalg.cholesky(fit.vcov())[np.tril_indices(len(fit.beta))],
    "vcov_components": components,
    "vcov_correlation": correlation,
    "vcov_diagonal": lambda fit: np.diag(fit.vcov()),
}


def ours(case, check):
    """Our value of the quantity that a check names."""
    select = dict(check.get("select") or {})
    index = select.pop("index", None)
    value = np.asarray(QUANTITIES[check["quantity"]](fit_of(case), **select))
    if check["quantity"] == "vcov_correlation":
        return value[tuple(index)]
    value = value.ravel()
    return value if index is None else value[np.atleast_1d(index)]


def name_of(pair):
    case, check = pair
    return f"{case['id']}-{check['quantity']}"


@pytest.mark.parametrize("pair", CHECKS, ids=name_of)
def test_the_printed_number_is_met(pair):
    case, check = pair
    expected = np.atleast_1d(check["value"])
    bound = np.asarray(check["atol"]) + check["rtol"] * np.abs(expected).max()
    off = np.abs(np.atleast_1d(ours(case, check)) - expected)
    assert (off <= bound).all(), f"off by {off}, allowed {bound}; source: {check['source']}"


@pytest.mark.parametrize("pair", CHECKS, ids=name_of)
def test_the_converged_lme4_fit_is_met(pair):
    case, check = pair
    expected = np.atleast_1d(check["r_value"])
    bound = check["r_rtol"] * np.abs(expected).max()
    np.testing.assert_allclose(np.atleast_1d(ours(case, check)), expected, rtol=0, atol=bound)


@pytest.mark.parametrize("case", CASES, ids=lambda case: case["id"])
def test_the_criterion_is_at_or_below_that_of_lme4(case):
    # 1e-8: rounding of a criterion of about 1e5 (InstEval) in either program.
    fit = fit_of(case)
    assert fit.converged
    assert fit.objective <= case["fit"]["objective"] + 1e-8
