"""Linear mixed models by `lmer`."""

from __future__ import annotations

import sys
from collections.abc import Mapping
from typing import Any

from mixef.arguments import fit_of_call, model_call, names_for, with_optimizer
from mixef.control import LmerControl
from mixef.estimation.linear.kind import Gaussian
from mixef.hints import refuse_unknown
from mixef.mixedmodel import MixedModel


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
    data : DataFrame, path, or table of an engine
        pandas, polars, pyarrow, whatever has ``__arrow_c_stream__``, or a dict of arrays; only
        columns that the model names are read, and none is changed. The path of Parquet files, a
        relation of DuckDB, a lazy frame of polars, a table of ibis or a frame of Spark stays where
        it is: the engine sums up its rows, or yields them in batches.
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
    kind = Gaussian(REML)
    return LinearMixedModel(fit_of_call(formula, call, kind, control, start, verbose, names))


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

    _function = staticmethod(lmer)

    @property
    def REML(self) -> bool:
        """Whether the fit is by restricted maximum likelihood."""
        return self._fit.REML

    @property
    def nAGQ(self) -> int:
        """Quadrature points: one, since the integral of a linear model is exact."""
        return 1

    def refit_ml(self) -> LinearMixedModel:
        """Return the maximum-likelihood fit of the same model; itself if it is one.

        Examples
        --------
        >>> from mixef import lmer, load_dataset
        >>> fit = lmer("Reaction ~ Days + (Days | Subject)", load_dataset("sleepstudy"))
        >>> round(fit.refit_ml().objective, 4)
        1751.9393
        """
        return LinearMixedModel(self._fit.again(REML=False)) if self.REML else self
