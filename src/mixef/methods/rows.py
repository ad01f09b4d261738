"""What a fitted model says of its rows and of new ones, and the matrices that it is made of."""

from __future__ import annotations

import sys
from collections.abc import Mapping
from functools import partial
from typing import Any

import pandas as pd
from scipy import sparse

from mixef.arguments import names_for
from mixef.hints import refuse_unknown
from mixef.inference import design, lazy_rows
from mixef.inference import factor_at as factors
from mixef.inference import residuals as rest
from mixef.inference.prediction import predict
from mixef.inference.prediction import predict as predictions
from mixef.methods import Methods


class PredictionMethods(Methods):
    """Predictions of a fitted model."""

    def predict(
        self,
        newdata: Any = None,
        re_form: str | bool | None = None,
        type: str = "response",
        new_levels: str = "error",
        se_fit: bool = False,
        interval: str | None = None,
        level: float = 0.95,
        population_averaged: bool = False,
        ddf: str | None = "auto",
        env: Mapping[str, Any] | None = None,
        **unknown: Any,
    ) -> pd.Series | pd.DataFrame:
        """Return predicted means for the fit's rows or for new data.

        Parameters
        ----------
        newdata : DataFrame, optional
            A missing predictor gives NaN. For a fit whose rows are in an engine it may be one of
            its tables, or the path of Parquet files.
        re_form : str or False, optional
            All random effects by default; "~0" or False for none, "~ (1 | g)" for some.
        type : {"response", "link"}
            The mean, or the linear predictor; the two are one in a linear model.
        new_levels : {"error", "population", "missing"}
            What an unseen level of a grouping factor gets: an error, random effects of zero, or
            NaN.
        se_fit : bool
            Add standard errors.
        interval : {None, "confidence", "prediction"}
            Add an interval for the mean, or for a new response.
        level : float
            Of the interval.
        population_averaged : bool
            The mean averaged over all random effects. In a linear model it is that of
            ``re_form="~0"``.
        ddf : {"auto", "satterthwaite", None}
            Degrees of freedom of the intervals of a linear model: "auto" is Satterthwaite's for
            the variance of each row, and None is normal quantiles, which those of a generalized
            model always are. Kenward and Roger's method has none for random effects.
        env : dict, optional
            As in `lmer`, for variables and functions of the formula that newdata lack.

        Returns
        -------
        Series (m,)
            Without ``se_fit`` and ``interval``.
        DataFrame (m, 2 or 4)
            Else, with columns fit, se_fit, lower, upper.
        lazy table
            Of rows in an engine: its columns, with ``.fitted``, ``.se_fit``, ``.lower`` and
            ``.upper``; see `fitted`.

        Raises
        ------
        DataError
            If new data lack a column, or have new levels that nothing is said about.
        FormulaError
            If ``re_form`` has what the fit has not.
        ValueError
            For an argument that is none of those above; for a new response on the scale of the
            link, or of a user's own family; for a population average that does not exist; for
            degrees of freedom that predictions, or a generalized model, do not have.

        Notes
        -----
        Variances are joint for fixed and random effects, and include that the covariance
        parameters are estimates (Kass and Steffey 1989), through the exact Hessian. lme4's
        ``se.fit`` takes these parameters as known and is smaller. A new level under
        ``new_levels="population"`` has its own variance, ``z'Sigma z``, where lme4 adds nothing.

        Intervals of a linear model have t quantiles. The variance v of a row, with all that is in
        it, is a function of the covariance parameters, and ``2 v^2 / Var(v)`` are its degrees of
        freedom, by the delta method (Satterthwaite 1946, Giesbrecht and Burns 1985). With
        ``re_form="~0"`` they are those of the row's t test in `contest`. The share of v that comes
        from estimating these parameters is of second order and left out of the ratio; with random
        effects in the row there is at least one degree of freedom. Among 15 groups a 90 % interval
        for the mean of a new level covers 90 %, where a normal one covers 85 %. Intervals of a
        generalized model are normal on the scale of the link.

        An interval for a new response takes what ``re_form`` leaves out as that of a new level,
        and adds the residual variance (over the weight, where new data have the column that
        ``weights=`` named). In a generalized model it gives quantiles of the family, mixed over
        the uncertain linear predictor: shares of successes for a binomial response, in the
        trials that new data have for it, else in one.

        References
        ----------
        F. E. Satterthwaite (1946), An approximate distribution of estimates of variance
        components, Biometrics Bulletin 2, 110-114. F. G. Giesbrecht and J. C. Burns (1985),
        Two-stage analysis based on a mixed model, Biometrics 41, 477-486. R. E. Kass and D. Steffey
        (1989), Approximate Bayesian inference in conditionally independent hierarchical models,
        Journal of the American Statistical Association 84, 717-726.

        Examples
        --------
        >>> from mixef import glmer, lmer, load_dataset
        >>> fit = lmer("Reaction ~ Days + (Days | Subject)", load_dataset("sleepstudy"))
        >>> new = {"Days": [0, 1], "Subject": ["308", "308"]}
        >>> fit.predict(new).round(1).tolist()
        [253.7, 273.3]
        >>> fit.predict(new, re_form="~0").round(1).tolist()
        [251.4, 261.9]
        >>> fit.predict(new, interval="prediction").round(1)
             fit  se_fit  lower  upper
        0  253.7    13.1  196.9  310.4
        1  273.3    11.2  218.2  328.5

        The probability for a herd with random effect zero, and the average over herds:

        >>> herds = glmer("cbind(incidence, size - incidence) ~ period + (1 | herd)",
        ...               load_dataset("cbpp"), family="binomial")
        >>> herds.predict({"period": ["1"]}, re_form="~0", se_fit=True).round(3)
             fit  se_fit
        0  0.198   0.037
        >>> herds.predict({"period": ["1"]}, population_averaged=True, se_fit=True).round(3)
             fit  se_fit
        0  0.216   0.036
        """
        refuse_unknown(unknown, self.predict)
        return predict.predictions_anywhere(
            self._fit,
            newdata,
            re_form=re_form,
            new_levels=new_levels,
            env=names_for(env, sys._getframe(1)),
            type=type,
            se_fit=se_fit,
            interval=interval,
            level=level,
            population_averaged=population_averaged,
            ddf=ddf,
        )


class RowMethods(Methods):
    """What a fitted model says of its rows, and the matrices that it is made of."""

    #: What residuals are if nothing is asked for.
    _residuals = "response"

    def fitted(self) -> pd.Series:
        """Return the fitted means, conditional on the random effects.

        Where the rows of the fit are in files or an engine, this and other values of single rows
        are a lazy table of the engine (DuckDB's for files, if it is there): the columns of the
        table with one more, ``.fitted``, which is computed whenever the table is read. Rows that
        the fit left out are missing there, or have no value for ``na_action="exclude"``.

        Returns
        -------
        Series (n,), or lazy table

        Examples
        --------
        >>> from mixef import lmer, load_dataset
        >>> fit = lmer("Reaction ~ Days + (Days | Subject)", load_dataset("sleepstudy"))
        >>> fit.fitted().head(2).round(1).tolist()
        [253.7, 273.3]
        """
        return lazy_rows.by_row(self._fit, predictions.fitted_values, ["fitted"])

    def linear_predictor(self) -> pd.Series:
        """Return the linear predictor ``X beta + Z b`` with offset, one value a row.

        Examples
        --------
        >>> from mixef import glmer, load_dataset
        >>> fit = glmer("use ~ age + (1 | district)", load_dataset("Contraception"), "binomial")
        >>> fit.linear_predictor().head(2).round(2).tolist()
        [-0.83, -1.04]
        """
        return lazy_rows.by_row(self._fit, predictions.linear_predictors, ["linear_predictor"])

    def residuals(self, type: str | None = None, scaled: bool = False) -> pd.Series:
        """Return the residuals, conditional on the random effects.

        Parameters
        ----------
        type : {"response", "pearson", "deviance", "working"}, optional
            ``y - mu``; ``sqrt(w / V) (y - mu)``; the signed root of the row's deviance; and
            ``(y - mu) / mu'(eta)``. In a linear model V and mu' are 1, and the deviance residuals
            are Pearson's. By default "response" in a linear model and "deviance" in a generalized
            one.
        scaled : bool
            Divide by sigma, which is 1 for a family without a dispersion.

        Examples
        --------
        >>> from mixef import glmer, lmer, load_dataset
        >>> fit = lmer("Reaction ~ Days + (Days | Subject)", load_dataset("sleepstudy"))
        >>> fit.residuals(scaled=True).head(2).round(2).tolist()
        [-0.16, -0.57]
        >>> formula = "cbind(incidence, size - incidence) ~ period + (1 | herd)"
        >>> fit = glmer(formula, load_dataset("cbpp"), "binomial")
        >>> fit.residuals().head(2).round(3).tolist()
        [-1.438, 0.989]
        """
        chosen = self._residuals if type is None else type
        values = partial(rest.residuals, type=chosen, scaled=scaled)
        return lazy_rows.by_row(self._fit, values, ["residuals"])

    def weights(self, type: str = "prior") -> pd.Series:
        """Return the weights of the rows.

        Parameters
        ----------
        type : {"prior", "working"}
            What was given, with the numbers of trials of a binomial response; or
            ``w mu'^2 / V`` at the estimates, w being the prior weights.

        Examples
        --------
        >>> from mixef import glmer, load_dataset
        >>> formula = "cbind(incidence, size - incidence) ~ period + (1 | herd)"
        >>> fit = glmer(formula, load_dataset("cbpp"), "binomial")
        >>> fit.weights().head(3).tolist()
        [14.0, 12.0, 9.0]
        """
        return lazy_rows.by_row(self._fit, partial(design.row_weights, type=type), ["weights"])

    def model_frame(self) -> pd.DataFrame:
        """Return the variables of the model on the rows that the fit used, the response first.

        Variables are as the formula makes them (``log(x)``; ``poly(x, 2)`` in two columns), and
        followed by the grouping factors, ``(weights)`` and ``(offset)``. See `augment` for what
        the data hold.

        Examples
        --------
        >>> from mixef import lmer, load_dataset
        >>> fit = lmer("log(Reaction) ~ Days + (1 | Subject)", load_dataset("sleepstudy"))
        >>> fit.model_frame().head(2).round(2)
           log(Reaction)  Days Subject
        0           5.52   0.0     308
        1           5.56   1.0     308
        """
        return design.model_frame(self._fit)

    def model_matrix(
        self, newdata: Any = None, type: str = "fixed", env: Mapping[str, Any] | None = None
    ) -> pd.DataFrame | sparse.csr_array:
        """Return the matrix of the fixed effects or of the random ones.

        Parameters
        ----------
        newdata : DataFrame, optional
            Rows of other data, by the codings and bases of the fit; its own rows by default.
        type : {"fixed", "random"}
            X (m, p), a frame with the names of the coefficients; or Z (m, q), a sparse array
            whose columns go term by term, level by level, and column by column inside a level.
        env : dict, optional
            As in `predict`.

        Raises
        ------
        DataError
            For levels in newdata that the fit has not seen.

        Examples
        --------
        >>> from mixef import lmer, load_dataset
        >>> fit = lmer("Reaction ~ poly(Days, 2) + (1 | Subject)", load_dataset("sleepstudy"))
        >>> fit.model_matrix({"Days": [0, 9], "Subject": ["308", "309"]}).round(3)
           (Intercept)  poly(Days, 2)1  poly(Days, 2)2
        0          1.0          -0.117           0.123
        1          1.0           0.117           0.123
        >>> fit.model_matrix(type="random").shape
        (180, 18)
        """
        return design.model_matrix(self._fit, newdata, type, names_for(env, sys._getframe(1)))

    def factor_at(
        self,
        theta: Any = None,
        order: Any = None,
        permute: bool = True,
        weights: Any = None,
    ) -> factors.FactorAt:
        """Return the sparse Cholesky factor of ``Lambda'Z'WZ Lambda + I`` at any theta.

        The effects go term by term, level by level, and column by column inside a level.

        Parameters
        ----------
        theta : array (m,), optional
            Covariance parameters, in the fit's own order; its estimates by default.
        order : list of str, optional
            The grouping factors in the order in which their effects come; the fit's by default.
        permute : bool
            Eliminate the effects in an order that keeps the factor sparse; else as they come.
        weights : array (n,), optional
            The diagonal of W, none of them negative. By default the prior weights, or for a
            generalized model the working weights at the mode, by expected information.

        Returns
        -------
        FactorAt
            ``L``, ``P``, ``A``, ``nnz``, ``logdet``, ``weights``, ``update(theta, weights)`` and
            ``solve(rhs, system)``.

        Raises
        ------
        DataError, ValueError
            For theta or weights of another length, or names that are not the grouping factors.

        References
        ----------
        D. Bates, M. Maechler, B. Bolker and S. Walker (2015), Fitting linear mixed-effects models
        using lme4, Journal of Statistical Software 67(1), section 3; of a generalized model
        S. Walker and others, Fitting generalized linear mixed-effects models using lme4,
        equation 16.

        Examples
        --------
        >>> from mixef import lmer, load_dataset
        >>> fit = lmer("diameter ~ 1 + (1 | plate) + (1 | sample)", load_dataset("Penicillin"))
        >>> at = fit.factor_at([1.2, 2.1])
        >>> at.nnz, round(float(at.L[0, 0]), 3)
        (189, 3.105)
        >>> fit.factor_at([1.2, 2.1], order=["sample", "plate"], permute=False).nnz
        450
        """
        return factors.factor_at(self._fit, theta, order, permute, weights)
