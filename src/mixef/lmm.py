"""Linear mixed models: `lmer`, and what a user holds after it."""

from __future__ import annotations

import sys
from collections import ChainMap
from collections.abc import Mapping
from dataclasses import replace
from types import FrameType
from typing import Any

import numpy as np
import pandas as pd

from mixef.control import LmerControl
from mixef.errors import DataError, FormulaError
from mixef.estimation.convergence import Convergence
from mixef.estimation.fit import LMMFit, ModelCall, fit_lmm
from mixef.estimation.optimize import Step
from mixef.estimation.singular import SINGULAR_TOLERANCE, vanished_directions
from mixef.inference import coef, getme, information, pca, predict, ranef
from mixef.inference import tidy as broom
from mixef.inference.varcorr import VarCorr, variances
from mixef.display.fit_summary import summarize
from mixef.display.summary import Summary, short_text
from mixef.terms.fixed import design
from mixef.terms.formula import parse_formula, update_formula
from mixef.terms.frame import model_frame, numeric_response
from mixef.terms.random import random_terms


def lmer(
    formula: str,
    data: Any = None,
    REML: bool = True,
    *,
    weights: Any = None,
    offset: Any = None,
    subset: Any = None,
    na_action: str = "omit",
    contrasts: dict[str, Any] | None = None,
    start: Any = None,
    control: LmerControl | None = None,
    optimizer: str | None = None,
    verbose: int = 0,
) -> LinearMixedModel:
    """Fit a linear mixed model.

    Parameters
    ----------
    formula : str
        Response, fixed effects and random-effects terms, as in lme4:
        ``"Reaction ~ Days + (Days | Subject)"``.
    data : DataFrame
        pandas, polars, pyarrow, or a dict of arrays; only the columns that the formula names
        are read, and nothing is changed.
    REML : bool
        Restricted maximum likelihood, or maximum likelihood.
    weights : str or array (n,), optional
        Prior weights w: the residual variance of a row is ``sigma^2 / w``.
    offset : str or array (n,), optional
        Known part of the mean.
    subset : str or array, optional
        Rows to use: an expression of columns, booleans or positions.
    na_action : {"omit", "exclude", "fail"}
        What is done with rows that have missing values; "exclude" pads fitted values and
        residuals with NaN.
    contrasts : dict, optional
        From factor to "treatment", "sum", "helmert", "poly" or a matrix.
    start : array (k,) or dict with "par" or "theta", optional
        Covariance parameters to start from; moment estimates by default.
    control : LmerControl, optional
        Options of the search and of the checks.
    optimizer : str, optional
        Short for ``control=LmerControl(optimizer=...)``.
    verbose : int
        Print every evaluation of the criterion.

    Returns
    -------
    LinearMixedModel

    Raises
    ------
    FormulaError
        If the formula cannot be read or names something that is not there.
    DataError
        If no model of this form can be fitted to the data.

    References
    ----------
    D. Bates, M. Maechler, B. Bolker and S. Walker (2015), Fitting linear mixed-effects models
    using lme4, Journal of Statistical Software 67(1).

    Examples
    --------
    >>> from mixef import lmer, load_dataset
    >>> fit = lmer("Reaction ~ Days + (Days | Subject)", load_dataset("sleepstudy"))
    >>> fit.fixef().round(3).to_dict()
    {'(Intercept)': 251.405, 'Days': 10.467}
    >>> print(fit.VarCorr())
     Groups   Name        Std.Dev. Corr
     Subject  (Intercept) 24.7407
              Days         5.9221  0.066
     Residual             25.5918
    """
    control = control or LmerControl()
    if optimizer is not None:
        control = replace(control, optimizer=optimizer)
    caller = sys._getframe(1)
    call = ModelCall(
        _shared(data), _name_of(data, caller), weights, offset, subset, na_action, contrasts
    )
    return _fit(formula, call, REML, control, start, verbose, _names_in(caller))


def _fit(formula, call, REML, control, start, verbose, env) -> LinearMixedModel:
    parsed = parse_formula(formula)
    frame = model_frame(
        parsed,
        call.data,
        weights=call.weights,
        offset=call.offset,
        subset=call.subset,
        na_action=call.na_action,
        env=env,
    )
    numeric_response(frame)
    X = design(frame.fixed_terms, frame, call.contrasts)
    terms = random_terms(frame, call.contrasts)
    if isinstance(start, Mapping):
        start = start.get("par", start.get("theta"))
    fit = fit_lmm(
        parsed, frame, X, terms, REML, control,
        call=call, start=start, trace=_print_step if verbose else None,
    )
    return LinearMixedModel(fit)


class LinearMixedModel:
    """A fitted linear mixed model.

    Made by `lmer`. Stored numbers are properties, labelled results are methods that return
    pandas. The fit never changes, and needs neither the caller's data nor variables again.

    Examples
    --------
    >>> from mixef import lmer, load_dataset
    >>> fit = lmer("Yield ~ 1 + (1 | Batch)", load_dataset("Dyestuff"))
    >>> round(fit.sigma, 4), fit.nobs, fit.converged
    (49.5101, 30, True)
    """

    def __init__(self, fit: LMMFit):
        self._fit = fit

    # Stored numbers

    @property
    def fit(self) -> LMMFit:
        """The frozen state that all methods read."""
        return self._fit

    @property
    def theta(self) -> np.ndarray:
        """Relative covariance factors: each term's lower triangle, column by column."""
        return self._fit.estimates.theta

    @property
    def par(self) -> np.ndarray:
        """Covariance parameters that were searched for."""
        return self._fit.estimates.par

    @property
    def beta(self) -> np.ndarray:
        """Fixed-effects coefficients (p,)."""
        return self._fit.estimates.beta

    @property
    def sigma(self) -> float:
        """Residual standard deviation."""
        return self._fit.estimates.sigma

    @property
    def objective(self) -> float:
        """What was minimized: the REML criterion, or -2 log L."""
        return self._fit.estimates.objective

    @property
    def loglik(self) -> float:
        """Log-likelihood; restricted for a REML fit."""
        return information.log_likelihood(self._fit)

    @property
    def deviance(self) -> float:
        """-2 log L, not restricted, at the estimates."""
        return information.deviance(self._fit)

    @property
    def aic(self) -> float:
        """Akaike's information criterion."""
        return information.aic(self._fit)

    @property
    def bic(self) -> float:
        """Schwarz's information criterion."""
        return information.bic(self._fit)

    @property
    def nobs(self) -> int:
        """Rows that the fit used."""
        return self._fit.frame.n

    @property
    def npar(self) -> int:
        """Parameters: fixed effects, covariance parameters and sigma."""
        return self._fit.npar

    @property
    def df_residual(self) -> int:
        """Residual degrees of freedom, nobs - npar."""
        return information.df_residual(self._fit)

    @property
    def REML(self) -> bool:
        """Whether the fit is by restricted maximum likelihood."""
        return self._fit.REML

    @property
    def nAGQ(self) -> int:
        """Quadrature points: one, since the integral of a linear model is exact."""
        return 1

    @property
    def formula(self) -> str:
        """The formula."""
        return self._fit.formula.text

    @property
    def converged(self) -> bool:
        """Whether the search ended at an optimum, judged by the exact gradient."""
        return self._fit.convergence.converged

    @property
    def convergence(self) -> Convergence:
        """How the search ended."""
        return self._fit.convergence

    # Labelled results

    def fixef(self, add_dropped: bool = False) -> pd.Series:
        """Return the fixed effects; ``add_dropped`` adds NaN for dropped columns."""
        return coef.fixed_effects(self._fit, add_dropped)

    def ranef(self, condVar: bool = False) -> ranef.RandomEffects:
        """Return the conditional modes, one frame (levels, coefficients) a grouping factor.

        With ``condVar``, the result's ``condVar`` holds their conditional covariances
        (l, s, s), jointly for all terms of a factor.
        """
        return ranef.random_effects(self._fit, condVar)

    def coef(self) -> dict[str, pd.DataFrame]:
        """Return fixed effects plus conditional modes, one frame a grouping factor."""
        return coef.coefficients_by_group(self._fit)

    def VarCorr(self) -> VarCorr:
        """Return variances and correlations of the random effects."""
        return variances(self._fit)

    def vcov(self) -> pd.DataFrame:
        """Return the covariance matrix of the fixed effects (p, p)."""
        return coef.covariance_of_fixed(self._fit)

    def coef_table(self, ddf: str | None = None) -> pd.DataFrame:
        """Return estimates, standard errors and t values of the fixed effects.

        Parameters
        ----------
        ddf : None
            Denominator degrees of freedom; none are computed, so there are no p values.
        """
        if ddf is not None:
            raise ValueError(f"ddf is {ddf!r}; only None (t values without p values) is known")
        return coef.coefficient_table(self._fit)

    def fitted(self) -> pd.Series:
        """Return the fitted values, conditional on the random effects."""
        return predict.fitted_values(self._fit)

    def residuals(self, type: str = "response", scaled: bool = False) -> pd.Series:
        """Return the residuals, conditional on the random effects.

        Parameters
        ----------
        type : {"response", "pearson", "deviance", "working"}
            "pearson" and "deviance" multiply by the square root of the weights.
        scaled : bool
            Divide by sigma.
        """
        return predict.residuals(self._fit, type, scaled)

    def ngrps(self) -> dict[str, int]:
        """Return the number of levels of each grouping factor."""
        fit = self._fit
        return {group: fit.terms[members[0]].n_levels for group, members in fit.groups.items()}

    def predict(
        self,
        newdata: Any = None,
        re_form: str | bool | None = None,
        new_levels: str = "error",
    ) -> pd.Series:
        """Return predicted means for the fit's rows or for new data.

        Parameters
        ----------
        newdata : DataFrame, optional
        re_form : str or False, optional
            All random effects by default; "~0" or False for none, "~ (1 | g)" for some.
        new_levels : {"error", "population", "missing"}
            What an unseen level of a grouping factor gets: an error, random effects of zero, or
            NaN.
        """
        env = _names_in(sys._getframe(1))
        return predict.predictions(self._fit, newdata, re_form, new_levels, env)

    def is_singular(self, tol: float = SINGULAR_TOLERANCE) -> bool:
        """Tell whether a random-effects covariance is singular.

        Parameters
        ----------
        tol : float
            A relative standard deviation below this, in any direction, counts as zero; columns
            are taken at unit mean square, so that units do not matter.
        """
        fit = self._fit
        return bool(vanished_directions(fit.criterion(), fit.scaled_par, fit.terms, tol))

    def rePCA(self) -> dict[str, pca.PrincipalComponents]:
        """Return principal components of the random-effects covariances."""
        return pca.principal_components(self._fit)

    def getME(self, name: str) -> Any:
        """Return a piece of the fit by lme4's name, or all in a dict for "ALL"."""
        return getme.get_me(self._fit, name)

    def tidy(self) -> pd.DataFrame:
        """Return one row a parameter, after broom."""
        return broom.tidy(self._fit)

    def glance(self) -> pd.DataFrame:
        """Return one row for the model, after broom."""
        return broom.glance(self._fit)

    def augment(self) -> pd.DataFrame:
        """Return one row an observation, with fitted values and residuals, after broom."""
        return broom.augment(self._fit)

    # Other fits

    def update(self, formula: str | None = None, **changes: Any) -> LinearMixedModel:
        """Fit a changed model.

        Parameters
        ----------
        formula : str, optional
            Change of the formula, as in ``". ~ . - Days"``.
        **changes
            Other arguments of `lmer` to replace: data, weights, REML, control, ...
        """
        old, call = self._fit, self._fit.call
        env = _names_in(sys._getframe(1))
        text = old.formula.text if formula is None else update_formula(old.formula.text, formula)
        REML = changes.pop("REML", old.REML)
        control = changes.pop("control", old.control)
        start, verbose = changes.pop("start", None), changes.pop("verbose", 0)
        if "optimizer" in changes:
            control = replace(control, optimizer=changes.pop("optimizer"))
        if "data" in changes:
            data = changes.pop("data")
            changes |= {
                "data": _shared(data), "data_name": _name_of(data, sys._getframe(1))
            }
        unknown = set(changes) - set(ModelCall.__dataclass_fields__)
        if unknown:
            raise TypeError(f"update got {', '.join(sorted(unknown))}; see lmer for arguments")
        return _fit(text, replace(call, **changes), REML, control, start, verbose, env)

    def refit(self, y: Any) -> LinearMixedModel:
        """Fit the same model to another response.

        Parameters
        ----------
        y : array (n,)
            One value for each row that the fit used.
        """
        old = self._fit
        values = np.asarray(y, dtype=float)
        if values.shape != (old.frame.n,):
            raise DataError(
                f"the new response has shape {values.shape}; expected ({old.frame.n},): one "
                "value for each row that the fit used"
            )
        if not np.isfinite(values).all():
            raise DataError("NA/NaN/Inf in the new response: refit needs a value for every row")
        frame = replace(old.frame, y=values, response=values)
        return self._again(frame, old.REML)

    def refit_ml(self) -> LinearMixedModel:
        """Return the maximum-likelihood fit of the same model; itself if it is one."""
        return self._again(self._fit.frame, REML=False) if self.REML else self

    def _again(self, frame, REML: bool) -> LinearMixedModel:
        old = self._fit
        fit = fit_lmm(
            old.formula, frame, old.design, old.terms, REML, old.control, call=old.call
        )
        return LinearMixedModel(fit)

    # Printing

    def summary(self, ddf: str | None = None) -> Summary:
        """Return the summary, which prints as lme4's and shows as tables in a notebook."""
        self.coef_table(ddf)
        return summarize(self._fit)

    def __str__(self) -> str:
        return short_text(summarize(self._fit))

    def __repr__(self) -> str:
        return str(self)

    def _repr_html_(self) -> str:
        return summarize(self._fit)._repr_html_()


def _print_step(step: Step) -> None:
    par = " ".join(f"{value:.6g}" for value in step.par)
    slope = "" if np.isnan(step.max_gradient) else f"  max|grad| {step.max_gradient:.2e}"
    print(f"criterion {step.objective:.8g}{slope}  par {par}")


def _shared(data: Any) -> Any:
    """Return a copy of a pandas frame that shares its columns until one of them is changed."""
    return data.copy(deep=False) if isinstance(data, pd.DataFrame) else data


def _names_in(caller: FrameType) -> Mapping[str, Any]:
    """Return the caller's names, for functions that a formula uses."""
    return ChainMap(caller.f_locals, caller.f_globals)


def _name_of(data: Any, caller: FrameType) -> str | None:
    """Return the name of the data: the data set's own, or the variable that holds it."""
    name = getattr(data, "attrs", {}).get("name")
    if isinstance(name, str):
        return name
    return next((k for k, v in caller.f_locals.items() if v is data and data is not None), None)
