"""What a fitted model says of its rows, and the matrices that it is made of."""

from __future__ import annotations

import sys
from collections.abc import Mapping
from typing import Any

import pandas as pd
from scipy import sparse

from mixef.arguments import names_for
from mixef.inference import design
from mixef.inference import residuals as rest
from mixef.inference.prediction import predict as predictions
from mixef.methods.base import Methods


class RowMethods(Methods):
    """What a fitted model says of its rows, and the matrices that it is made of."""

    #: What residuals are if nothing is asked for.
    _residuals = "response"

    def fitted(self) -> pd.Series:
        """Return the fitted means, conditional on the random effects.

        Examples
        --------
        >>> from mixef import lmer, load_dataset
        >>> fit = lmer("Reaction ~ Days + (Days | Subject)", load_dataset("sleepstudy"))
        >>> fit.fitted().head(2).round(1).tolist()
        [253.7, 273.3]
        """
        return predictions.fitted_values(self._fit)

    def linear_predictor(self) -> pd.Series:
        """Return the linear predictor ``X beta + Z b`` with offset, one value a row.

        Examples
        --------
        >>> from mixef import glmer, load_dataset
        >>> fit = glmer("use ~ age + (1 | district)", load_dataset("Contraception"), "binomial")
        >>> fit.linear_predictor().head(2).round(2).tolist()
        [-0.83, -1.04]
        """
        return self._fit.frame.series(self._fit.eta, "linear_predictor")

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
        return rest.residuals(self._fit, self._residuals if type is None else type, scaled)

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
        return design.row_weights(self._fit, type)

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
