"""Linear mixed models by `lmer`."""

from __future__ import annotations

import sys
from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from mixef import checks
from mixef.arguments import (
    check_control,
    frame_of,
    model_call,
    names_for,
    trace_of,
    updated_call,
    with_data_read,
    with_optimizer,
)
from mixef.control import LmerControl
from mixef.estimation.fit import LMMFit, fit_lmm
from mixef.hints import refuse_unknown
from mixef.inference.refits import new_response, refits, response_matrix
from mixef.mixedmodel import MixedModel
from mixef.terms.fixed import design
from mixef.terms.formula import parse_formula
from mixef.terms.frame import ModelFrame, numeric_response
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
    env: Mapping[str, Any] | None = None,
    **unknown: Any,
) -> LinearMixedModel:
    """Fit a linear mixed model.

    Parameters
    ----------
    formula : str
        Response, fixed effects and random-effects terms, as in lme4:
        ``"Reaction ~ Days + (Days | Subject)"``.
    data : DataFrame
        pandas, polars (lazy too), pyarrow, a DuckDB relation, whatever has ``__arrow_c_stream__``,
        or a dict of arrays; only columns that the model names are read, and none is changed.
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
    env : dict, optional
        The names that formulas and other text may use beside the columns, such as
        ``{"f": my_function}``; ``{}`` for none, as for text from strangers. By default the
        caller's variables.

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
     Subject  (Intercept) 24.7405
              Days         5.9221  0.066
     Residual             25.5918
    """
    refuse_unknown(unknown, lmer)
    control = with_optimizer(control, LmerControl, optimizer)
    names = names_for(env, sys._getframe(1))
    call = model_call(
        data,
        names,
        weights=weights,
        offset=offset,
        subset=subset,
        na_action=na_action,
        contrasts=contrasts,
    )
    return _fit(formula, call, REML, control, start, verbose, names)


def _fit(formula, call, REML, control, start, verbose, env) -> LinearMixedModel:
    REML = checks.flag(REML, "REML")
    check_control(control, LmerControl)
    parsed = parse_formula(formula)
    call = with_data_read(parsed, call)
    frame = frame_of(parsed, call, env)
    numeric_response(frame)
    X = design(frame.fixed_terms, frame, call.contrasts)
    terms = random_terms(frame, call.contrasts)
    fit = fit_lmm(
        parsed,
        frame,
        X,
        terms,
        REML,
        control,
        call=call,
        start=start,
        trace=trace_of(verbose),
    )
    return LinearMixedModel(fit)


class LinearMixedModel(MixedModel):
    """A fitted linear mixed model, made by `lmer`.

    Stored numbers are properties, labelled results are methods that return pandas. The fit never
    changes, and needs neither the caller's data nor variables again.

    Examples
    --------
    >>> from mixef import lmer, load_dataset
    >>> fit = lmer("Yield ~ 1 + (1 | Batch)", load_dataset("Dyestuff"))
    >>> round(fit.sigma, 4), fit.nobs, fit.converged
    (49.5101, 30, True)
    """

    _fit: LMMFit

    @property
    def REML(self) -> bool:
        """Whether the fit is by restricted maximum likelihood."""
        return self._fit.REML

    @property
    def nAGQ(self) -> int:
        """Quadrature points: one, since the integral of a linear model is exact."""
        return 1

    def update(
        self, formula: str | None = None, *, env: Mapping[str, Any] | None = None, **changes: Any
    ) -> LinearMixedModel:
        """Fit a changed model.

        Parameters
        ----------
        formula : str, optional
            Change of the formula, as in ``". ~ . - Days"``.
        env : dict, optional
            As in `lmer`.
        **changes
            Other arguments of `lmer` to replace: data, weights, REML, control, ...

        Examples
        --------
        >>> from mixef import lmer, load_dataset
        >>> fit = lmer("Reaction ~ Days + (Days | Subject)", load_dataset("sleepstudy"))
        >>> fit.update(". ~ . - Days").formula
        'Reaction ~ (Days | Subject)'
        """
        names = names_for(env, sys._getframe(1), self._fit.frame.state.outside)
        text, call, control, rest = updated_call(self._fit, formula, changes, names)
        REML = rest.pop("REML", self._fit.REML)
        start, verbose = rest.pop("start", None), rest.pop("verbose", 0)
        refuse_unknown(rest, lmer)
        return _fit(text, call, REML, control, start, verbose, names)

    def refit(
        self, y: Any, *, n_jobs: int = 1, progress: bool | None = None
    ) -> LinearMixedModel | refits.Refits:
        """Fit the same model to another response, or to many at once.

        `update` of the result reads the data again, and with them the old response.

        Parameters
        ----------
        y : Series or array (n,), or DataFrame or array (n, m)
            One value for each row that the fit used; a matrix has a column a response. A Series
            or frame goes by its labels, which may be more than those of the fit's rows; an array
            goes by position.
        n_jobs : int
            Processes for a matrix; -1 for one a core.
        progress : bool, optional
            Show a progress bar for a matrix; by default on a terminal, for work over two seconds.

        Returns
        -------
        LinearMixedModel or Refits
            Refits for a matrix. They share the cross-products and start at the estimates of this
            fit; a response that cannot be fitted is one of its ``failures``, and singular fits
            are counted, not warned of.

        Raises
        ------
        DataError
            If there is not a number for every row, or a single response is constant.

        Examples
        --------
        >>> from mixef import lmer, load_dataset
        >>> fit = lmer("Reaction ~ Days + (Days | Subject)", load_dataset("sleepstudy"))
        >>> twice = fit.refit(2 * fit.getME("y"))
        >>> (twice.beta / fit.beta).round(6).tolist()
        [2.0, 2.0]
        >>> many = fit.refit(fit.simulate(100, seed=1))
        >>> many.fixef().shape, many[0].nobs
        ((100, 2), 180)
        """
        old = self._fit
        if response_matrix.is_several(old, y):
            return refits.refits(old, y, LinearMixedModel, n_jobs, progress)
        values = new_response.response_numbers(old.frame, y)
        frame = replace(old.frame, y=values, response=values)
        return self._again(frame, old.REML)

    def refit_ml(self) -> LinearMixedModel:
        """Return the maximum-likelihood fit of the same model; itself if it is one.

        Examples
        --------
        >>> from mixef import lmer, load_dataset
        >>> fit = lmer("Reaction ~ Days + (Days | Subject)", load_dataset("sleepstudy"))
        >>> round(fit.refit_ml().objective, 4)
        1751.9393
        """
        return self._again(self._fit.frame, REML=False) if self.REML else self

    def _again(self, frame: ModelFrame, REML: bool) -> LinearMixedModel:
        old, control = self._fit, self._fit.control
        assert isinstance(control, LmerControl)
        fit = fit_lmm(old.formula, frame, old.design, old.terms, REML, control, call=old.call)
        return LinearMixedModel(fit)
