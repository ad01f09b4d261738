"""An ordinary regression of statsmodels, read as a model without random effects."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import scipy

from mixef.errors import DataError, FitError
from mixef.estimation.generalized.response import Response
from mixef.families.convert import make_family
from mixef.families.family import Family
from mixef.families.standard import FAMILIES

# Families of statsmodels whose likelihood, as it reports it, holds a moment estimate of the
# dispersion instead of the one that maximizes it.
_MOMENTS = {"Gamma": "gamma", "InverseGaussian": "inverse.gaussian", "Gaussian": "gaussian"}
# Family and link of linear models, and of statsmodels' classes that are one model each.
LINEAR = ("gaussian", "identity")
_LAWS = {
    "Logit": ("binomial", "logit"),
    "Probit": ("binomial", "probit"),
    "Poisson": ("poisson", "log"),
    "NegativeBinomial": ("Negative Binomial", "log"),
}


@dataclass(frozen=True, eq=False)
class OrdinaryFit:
    """A regression by maximum likelihood."""

    formula: str
    loglik: float  # Of the full density
    npar: int  # Coefficients, and the dispersion or shape where one is estimated
    n_coefficients: int
    y: np.ndarray  # (n,): proportions for a binomial response
    weights: np.ndarray | None  # (n,): prior weights, numbers of trials among them
    law: tuple[str, str]  # R's names of the family and the link


def law_of(family: Family) -> tuple[str, str]:
    """Return the names of a family, without a shape that it may have, and of its link."""
    return family.name.split("(")[0], family.link.name


def is_ordinary(result: Any) -> bool:
    """Whether something looks like a fitted regression of statsmodels."""
    needed = ("llf", "nobs", "model", "df_model", "params")
    return all(hasattr(result, name) for name in needed) and hasattr(result.model, "endog")


def ordinary_fit(result: Any) -> OrdinaryFit:
    """Read a fitted OLS, WLS, GLS, GLM, Logit, ... of statsmodels, by maximum likelihood.

    The log-likelihood is at its maximum over the dispersion too, also where statsmodels puts a
    moment estimate into it.
    """
    model = result.model
    family = model.family if hasattr(model, "freq_weights") else None  # of a GLM
    coefficients = round(float(result.df_model)) + int(getattr(model, "k_constant", 0))
    loglik, npar = float(result.llf), coefficients
    if family is None and hasattr(model, "wendog"):  # OLS, WLS, GLS: sigma
        npar += 1
    elif family is None:  # Logit, Poisson, NegativeBinomial, ...: all parameters are in params
        npar = len(result.params)
    elif type(family).__name__ in _MOMENTS:
        loglik, npar = _with_best_dispersion(result), npar + 1
    elif float(result.scale) != 1.0:
        raise DataError(
            f"the {type(family).__name__} regression {_formula(model)} has a dispersion of "
            f"{float(result.scale):.4g}, a quasi-likelihood; fit it without scale="
        )
    if not np.isfinite(loglik):
        raise DataError(
            f"the {type(model).__name__} fit of {_formula(model)} has no log-likelihood (it is "
            f"{loglik}); fit it by maximum likelihood"
        )
    y = np.asarray(model.endog, dtype=float)
    weights, law = _weights(model), _law(model, family)
    return OrdinaryFit(_formula(model), loglik, npar, coefficients, y, weights, law)


def _law(model: Any, family: Any) -> tuple[str, str]:
    if family is None:
        unnamed = (type(model).__name__, "unknown")
        return LINEAR if hasattr(model, "wendog") else _LAWS.get(unnamed[0], unnamed)
    try:
        return law_of(make_family(family))
    except ValueError:  # a family or link that is not among ours
        return type(family).__name__, type(family.link).__name__


def _formula(model: Any) -> str:
    formula = getattr(model, "formula", None)
    if isinstance(formula, str):
        return formula
    names = [name for name in model.exog_names if name not in ("const", "Intercept")]
    return f"{model.endog_names} ~ {' + '.join(names) if names else '1'}"


def _weights(model: Any) -> np.ndarray | None:
    """Return the weights (n,) times numbers of trials; None for ones."""
    n = len(model.endog)
    weights = np.ones(n)
    generalized = hasattr(model, "freq_weights")  # whose `weights` are working weights
    for name in ("freq_weights", "var_weights", "n_trials") if generalized else ("weights",):
        value = getattr(model, name, None)
        if value is not None and np.shape(value) in ((), (n,)):
            weights = weights * np.asarray(value, dtype=float)
    return None if (weights == 1.0).all() else weights


def _with_best_dispersion(result: Any) -> float:
    """Return the log-likelihood at its maximum over the dispersion, the means as they are."""
    model = result.model
    if not np.all(np.asarray(model.freq_weights) == 1.0):
        raise DataError(
            f"the regression {_formula(model)} has freq_weights, which are copies of rows; weights "
            "of a mixed model with a dispersion divide the variance: fit it with var_weights"
        )
    family: Family = FAMILIES[_MOMENTS[type(model.family).__name__]]("identity")
    y, weights = np.asarray(model.endog, dtype=float), _weights(model)
    mu = np.asarray(result.mu, dtype=float)
    response = Response(family, y, weights)

    def minus_log_density(log_dispersion: float) -> float:
        state = response.at(mu, float(np.exp(log_dispersion)))
        return np.inf if state is None else -state.log_density

    guess = float(np.log(max(float(family.initial_extra(y, mu, weights)), 1e-300)))
    found = scipy.optimize.minimize_scalar(
        minus_log_density, bracket=(guess - 0.5, guess + 0.5), options={"xtol": 1e-10}
    )
    if not np.isfinite(found.fun):
        raise FitError(f"the regression of {_formula(model)} has no maximum over its dispersion")
    return -float(found.fun)
