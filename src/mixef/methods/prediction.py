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
    ) -> pd.Series:
        """Return predicted means for the fit's rows or for new data.

        Parameters
        ----------
        newdata : DataFrame, optional
        re_form : str or False, optional
            All random effects by default; "~0" or False for none, "~ (1 | g)" for some.
        type : {"response", "link"}
            The mean, or the linear predictor; the two are one in a linear model.
        new_levels : {"error", "population", "missing"}
            What an unseen level of a grouping factor gets: an error, random effects of zero, or
            NaN.

        Examples
        --------
        >>> from mixef import lmer, load_dataset
        >>> fit = lmer("Reaction ~ Days + (Days | Subject)", load_dataset("sleepstudy"))
        >>> new = {"Days": [0, 1], "Subject": ["308", "308"]}
        >>> fit.predict(new).round(1).tolist()
        [253.7, 273.3]
        >>> fit.predict(new, re_form="~0").round(1).tolist()
        [251.4, 261.9]
        """
        env = names_in(sys._getframe(1))
        return predict.predictions(self._fit, newdata, re_form, new_levels, env, type)
