"""Frames of a fitted model after the R packages broom and broom.mixed."""

from __future__ import annotations

import sys
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import pandas as pd

from mixef.arguments import names_for
from mixef.hints import refuse_unknown
from mixef.inference.tables import augment as rows
from mixef.inference.tables import glance as models
from mixef.inference.tables import tidy as parameters
from mixef.methods import Methods


class TableMethods(Methods):
    """Frames of a fitted model after the R packages broom and broom.mixed."""

    def tidy(
        self,
        effects: str | Sequence[str] = ("fixed", "ran_pars", "family"),
        conf_int: bool = False,
        conf_level: float = 0.95,
        conf_method: str = "wald",
        exponentiate: bool = False,
        scales: str = "sdcor",
        ddf: str | None = "auto",
        *,
        n: int = 500,
        seed: int | np.random.Generator | None = None,
        n_jobs: int = 1,
        progress: bool | None = None,
        **unknown: Any,
    ) -> pd.DataFrame:
        """Return one row a parameter, or a random effect, after broom.mixed.

        Parameters
        ----------
        effects : str or list of str
            One or more of "fixed" (coefficients), "ran_pars" (standard deviations and correlations
            of random effects, and the residual one), "family" (what else a family estimates),
            "ran_vals" (conditional modes, one row a level), and "ran_coefs" (coefficients by
            level: fixed effect plus mode).
        conf_int : bool
            Add columns conf_low and conf_high.
        conf_level : float
        conf_method : {"wald", "profile", "boot"}
            "wald" takes the tests' own distribution for coefficients, and logs and Fisher's z for
            standard deviations and correlations; the others are those of `confint`. Modes and
            coefficients by level have normal intervals.
        exponentiate : bool
            Coefficients as odds ratios, rate ratios and the like: estimates and limits by the
            exponential function, standard errors by the delta method. Tests stay what they are.
        scales : {"sdcor", "vcov"}
            Standard deviations and correlations, or variances and covariances. The one correlation
            of ``cs()`` and ``ar1()`` stays what it is.
        ddf : {"auto", "satterthwaite", "kenward-roger", None}
            As in `coef_table`; a linear model has no columns df and p_value with None.
        n, seed, n_jobs, progress
            Of the bootstrap and of profiles, as in `confint`.

        Returns
        -------
        DataFrame
            Columns effect, group, level (of modes and coefficients by level), term, estimate,
            std_error, statistic, df, p_value, conf_low, conf_high, as far as the rows have them.
            Standard errors of standard deviations, correlations and a family's parameters are by
            the delta method from the exact Hessian; NaN for a standard deviation of zero and a
            correlation at a bound. Those of modes are given the parameters; those of coefficients
            by level are joint with fixed effects and covariance parameters, as in
            ``predict(se_fit=True)``.

        Raises
        ------
        ValueError
            For an option that is not known, and for intervals of covariances by profile or
            bootstrap.

        Examples
        --------
        >>> from mixef import lmer, load_dataset
        >>> fit = lmer("Reaction ~ Days + (Days | Subject)", load_dataset("sleepstudy"))
        >>> print(fit.tidy("ran_pars", conf_int=True).round(2).drop(columns="effect"))
              group                   term  estimate  std_error  conf_low  conf_high
        0   Subject        sd__(Intercept)     24.74       5.84     15.58      39.28
        1   Subject               sd__Days      5.92       1.25      3.92       8.95
        2   Subject  cor__(Intercept).Days      0.07       0.33     -0.52       0.61
        3  Residual        sd__Observation     25.59       1.51     22.80      28.72
        """
        refuse_unknown(unknown, self.tidy)
        return parameters.tidy(
            self._fit, effects, conf_int, conf_level, conf_method, exponentiate, scales, ddf,
            n=n, seed=seed, n_jobs=n_jobs, progress=progress,
        )  # fmt: skip

    def glance(self) -> pd.DataFrame:
        """Return one row for the model, after broom: nobs, sigma, logLik, AIC, BIC, ...

        Examples
        --------
        >>> from mixef import lmer, load_dataset
        >>> fit = lmer("Reaction ~ Days + (Days | Subject)", load_dataset("sleepstudy"))
        >>> fit.glance()["AIC"].round(2).item()
        1755.63
        """
        return models.glance(self._fit)

    def augment(
        self,
        newdata: Any = None,
        type_predict: str = "link",
        type_residuals: str | None = None,
        se_fit: bool = False,
        new_levels: str = "error",
        env: Mapping[str, Any] | None = None,
        path: Any = None,
        overwrite: bool = False,
        **unknown: Any,
    ) -> Any:
        """Return one row an observation, after broom: the data, with what the fit says of them.

        Parameters
        ----------
        newdata : DataFrame, optional
            Other rows, in the place of the fit's own.
        type_predict : {"link", "response"}
            What ``.fitted``, ``.se_fit`` and ``.fixed`` are of: the linear predictor or the mean.
        type_residuals : {"response", "pearson", "deviance", "working"}, optional
            What ``.resid`` has; as in `residuals`.
        se_fit : bool
            Add ``.se_fit``, the standard errors of ``.fitted`` as in `predict`.
        new_levels, env
            As in `predict`.
        path : str or path, optional
            A Parquet file to write to, in the place of a frame: it is there when it is whole.
        overwrite : bool
            Whether a file of that name may be replaced.

        Returns
        -------
        str
            With ``path``.
        lazy table
            Of a fit whose rows are in an engine: all columns of the table, and those with a dot;
            they are computed when it is read. With ``path`` they are written in batches.
        DataFrame
            Of the fit's own rows: the response and all variables of the formula as the data hold
            them, what functions make of them, crossed grouping factors, and ``.fitted``,
            ``.resid``, ``.hat`` and ``.cooksd`` (see `hatvalues`, `cooks_distance`), ``.fixed``
            (without random effects), ``.mu`` (the mean), ``.weights``, ``.offset`` and ``.wtres``
            (Pearson residuals). Of other rows: all their columns, ``.fitted``, ``.fixed``,
            ``.mu``, ``.offset``, and ``.resid`` if the response is among them.

        Examples
        --------
        >>> from mixef import lmer, load_dataset
        >>> fit = lmer("Reaction ~ Days + (Days | Subject)", load_dataset("sleepstudy"))
        >>> fit.augment()[".resid"].head(2).round(2).tolist()
        [-4.1, -14.63]
        >>> new = {"Days": [10], "Subject": ["308"], "Reaction": [460.0]}
        >>> fit.augment(new)[[".fitted", ".resid", ".fixed"]].round(1)
           .fitted  .resid  .fixed
        0    450.3     9.7   356.1
        """
        refuse_unknown(unknown, self.augment)
        names = names_for(env, sys._getframe(1))
        return rows.augment(
            self._fit,
            newdata,
            type_predict,
            type_residuals,
            se_fit,
            new_levels,
            names,
            path,
            overwrite,
        )
