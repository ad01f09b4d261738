"""A fit as marginaleffects takes models: by its `ModelAbstract`, which it wants subclassed.

Functions of marginaleffects vary predictors in rows of data, ask `get_exog` for what the model
makes of these rows, and `get_predict` for predictions at coefficients near the estimates; standard
errors come from the differences of those and from the covariance of the coefficients.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import polars as pl
from marginaleffects.classes.model import ModelAbstract, ModelVault

from mixef import checks
from mixef.errors import ArgumentError
from mixef.estimation.fit import Fit
from mixef.inference.hypotheses.ddf import approximation
from mixef.inference.prediction.fit_data import fit_data, names_in
from mixef.inference.prediction.predict import SCALES
from mixef.inference.prediction.prediction_rows import (
    included_columns,
    prediction_rows,
    predictor,
)
from mixef.terms.exact import Exact
from mixef.terms.factor import Factor


class EffectsModel(ModelAbstract):  # type: ignore[misc,unused-ignore]
    """A fit for the functions of marginaleffects.

    Parameters
    ----------
    model : MixedModel
        What attributes that are not here are looked for in.
    fit : Fit
    re_form, new_levels, env
        As in `predict`.
    type : {"response", "link"}
    df : float, optional
        Degrees of freedom of all t statistics and intervals; normal ones without.
    """

    def __init__(
        self,
        model: Any,
        fit: Fit,
        re_form: str | bool | None = "~0",
        type: str = "response",
        new_levels: str = "error",
        df: float | None = None,
        env: Mapping[str, Any] | None = None,
    ) -> None:
        self.mixef_fit, self._env = fit, env
        self._re_form, self._type, self._new_levels = re_form, type, new_levels
        included_columns(fit, re_form)  # refuses what is none
        self._df = np.inf if df is None else df
        if df is not None:
            self.df_resid = df
        data = fit_data(fit)
        assert fit.formula.response is not None
        self.response_name = fit.formula.response.text
        vault = ModelVault(
            coef=fit.estimates.beta,
            coefnames=np.array(fit.fixed_names),
            formula=None,
            formula_engine="mixef",
            modeldata=pl.DataFrame({name: _plain(values) for name, values in data.items()}),
            package="mixef",
            vcov=approximation(fit, None).vcov,
            variables_type={name: _kind(values) for name, values in data.items()},
            variable_names=list(data),
        )
        super().__init__(model, vault)

    def __reduce__(self) -> tuple[Any, ...]:
        own = (self._re_form, self._type, self._new_levels, getattr(self, "df_resid", None))
        return EffectsModel, (self.model, self.mixef_fit, *own)

    def validation(self) -> None:
        """Check nothing: the parts are those of a fit, and its formula is not formulaic's."""

    def get_vcov(self, vcov: Any = True) -> np.ndarray | None:
        """Return the covariance (p, p) of the coefficients: ours, a given one, or none."""
        if vcov is False or vcov is None:
            return None
        if isinstance(vcov, str):
            raise ArgumentError(
                f"vcov is {vcov!r}; expected True, False or a matrix: for robust standard errors "
                "take the marginaleffects model of fit.with_vcov(...)"
            )
        if vcov is True:
            return self.vault.vcov
        p = len(self.vault.coef)
        given = checks.numbers(vcov, "vcov", "True, False or a matrix (p, p)")
        if given.shape != (p, p):
            raise checks.refusal("vcov", vcov, f"a matrix of shape {(p, p)}")
        return given

    def get_df(self) -> float:
        """Return the degrees of freedom of a joint test's denominator."""
        return self._df

    def get_formula(self) -> str:
        """Return a formula of formulaic with the predictors, of which rows may miss none."""
        return " + ".join(["~ 1", *(f"`{name}`" for name in self.find_predictors())])

    def find_response(self) -> str:
        """Return the response as the formula has it."""
        return self.response_name

    def find_variables(self) -> list[str]:
        """Return the variables of the fixed effects and of their offsets."""
        return self.find_predictors()

    def find_predictors(self) -> list[str]:
        """Return the variables of the fixed effects, and of random ones that are not left out."""
        frame = self.mixef_fit.frame
        nodes = list(frame.fixed_terms.variables)
        for bar in frame.formula.bars if included_columns(self.mixef_fit, self._re_form) else ():
            nodes += frame.bar_terms(bar).variables
        return [name for name in names_in(nodes) if name in self.vault.modeldata.columns]

    def get_exog(self, newdata: pl.DataFrame) -> np.ndarray:
        """Return X and, as a last column, what does not depend on the coefficients (m, p + 1)."""
        fit = self.mixef_fit
        rows = prediction_rows(fit, newdata, self._re_form, self._new_levels, self._env)
        rest = predictor(fit, rows) - rows.X @ fit.estimates.beta
        return np.column_stack([rows.X, rest])

    def get_predict(self, params: np.ndarray, newdata: np.ndarray) -> pl.DataFrame:
        """Return predictions of rows of `get_exog` at other coefficients."""
        eta = newdata[:, :-1] @ np.asarray(params) + newdata[:, -1]
        link = self.mixef_fit.family.link
        estimate = link.inverse(eta) if self._type == "response" else eta
        return pl.DataFrame({"rowid": np.arange(len(eta), dtype=np.int32), "estimate": estimate})


def effects_model(
    model: Any,
    fit: Fit,
    re_form: str | bool | None,
    type: str,
    new_levels: str,
    df: float | None,
    env: Mapping[str, Any] | None,
) -> EffectsModel:
    """Return a fit for marginaleffects; see the method ``to_marginaleffects`` of a model."""
    type = checks.option(type, "type", SCALES)
    new_levels = checks.option(new_levels, "new_levels", ("error", "population"))
    if df is not None:
        df = checks.number(df, "df", np.nextafter(0.0, 1.0), "a positive number, or None")
    made = EffectsModel(model, fit, re_form, type, new_levels, df, env)
    if not made.find_predictors():
        raise ArgumentError(
            f"{fit.formula.text} has no predictors, without which marginaleffects makes no "
            "predictions; use predict, coef_table or contest"
        )
    return made


def _plain(values: Any) -> Any:
    """Return values of a variable as polars takes them: labels as such, in the order of levels."""
    if not isinstance(values, Factor):
        return np.asarray(values.own() if isinstance(values, Exact) else values)
    own = np.asarray(values.own())
    # Numbers stay numbers: polars takes those that are given for the places of categories.
    if own.dtype.kind in "iufb":
        return own
    return pl.Series(values.values().tolist(), dtype=pl.Enum(values.levels))


def _kind(values: Any) -> str:
    """Return what marginaleffects calls a variable of this kind."""
    array = np.asarray(values.own() if isinstance(values, Factor) else values)
    if array.dtype.kind == "b":
        return "boolean"
    if isinstance(values, Factor):
        return "character"
    if np.isin(array, (0.0, 1.0)).all():
        return "binary"
    return "integer" if isinstance(values, Exact) else "numeric"
