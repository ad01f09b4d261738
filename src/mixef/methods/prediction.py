"""Predictions of a fitted model."""

from __future__ import annotations

import sys
from typing import Any

import pandas as pd

from mixef.arguments import names_in
from mixef.inference import predict
from mixef.methods.base import Methods


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
    ) -> pd.Series | pd.DataFrame:
        """Return predicted means for the fit's rows or for new data.

        Parameters
        ----------
        newdata : DataFrame, optional
            A missing predictor gives NaN.
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

        Returns
        -------
        Series (m,)
            Without ``se_fit`` and ``interval``.
        DataFrame (m, 2 or 4)
            Else, with columns fit, se_fit, lower, upper.

        Raises
        ------
        DataError
            If new data lack a column, or have new levels that nothing is said about.
        FormulaError
            If ``re_form`` has what the fit has not.
        ValueError
            For an argument that is none of those above; for a new response on the scale of the
            link, or of a user's own family; for a population average that does not exist.

        Notes
        -----
        Variances are joint for fixed and random effects, and include that the covariance
        parameters are estimates (Kass and Steffey 1989), through the exact Hessian. lme4's
        ``se.fit`` takes these parameters as known and is smaller. A new level under
        ``new_levels="population"`` has its own variance, ``z'Sigma z``, where lme4 adds nothing.
        Intervals are normal on the scale of the link; with few groups (15, say) those of new levels
        cover some per cent less than their level.

        An interval for a new response takes what ``re_form`` leaves out as that of a new level,
        and adds the residual variance (over the weight, where new data have the column that
        ``weights=`` named). In a generalized model it gives quantiles of the family, mixed over
        the uncertain linear predictor: shares of successes for a binomial response, in the
        trials that new data have for it, else in one.

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
        0  253.7    13.1  197.3  310.0
        1  273.3    11.2  218.6  328.1

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
        env = names_in(sys._getframe(1))
        return predict.predictions(
            self._fit,
            newdata,
            re_form,
            new_levels,
            env,
            type,
            se_fit=se_fit,
            interval=interval,
            level=level,
            population_averaged=population_averaged,
            ddf=ddf,
        )
