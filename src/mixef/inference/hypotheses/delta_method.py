"""Functions of the parameters, with standard errors by the delta method.

A function g of estimates with covariance V has, to first order, the variance ``g' V g`` with its
gradient in the place of g (G. W. Oehlert 1992, A note on the delta method, The American
Statistician 46, 27-29).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd

from mixef import checks
from mixef.errors import ArgumentError, FitError
from mixef.estimation.fit import Fit
from mixef.inference.components import (
    component_jacobian,
    component_values,
    components,
    scale_jacobian,
    scale_parameters,
)
from mixef.inference.hypotheses.ddf import approximation, check_ddf, method_name
from mixef.inference.hypotheses.differentiated import Differentiated, differentiated
from mixef.inference.parameters import distinct_names
from mixef.inference.tails import limit_names, t_quantile, t_tail
from mixef.text.coefficients import coef_to_table
from mixef.text.printed import PrintedTable
from mixef.text.tables import Table

TEXTS = "an expression of parameters such as 'b1 / b2', or a list of them"


@dataclass(frozen=True, eq=False, repr=False)
class DeltaMethod(PrintedTable):
    """Functions of the parameters with their standard errors, made by ``delta_method``.

    Attributes
    ----------
    frame : DataFrame
        One row an expression: estimate, std_error, statistic, df, p_value, conf_low, conf_high.
    vcov : DataFrame
        Covariance of the estimates (m, m).
    gradient : DataFrame
        Derivatives (m, K) for the parameters.
    expressions : tuple of str
    level : float
    method : str or None
        Rule for the degrees of freedom; None for normal quantiles.
    """

    frame: pd.DataFrame
    vcov: pd.DataFrame
    gradient: pd.DataFrame
    expressions: tuple[str, ...]
    level: float
    method: str | None

    def to_frame(self) -> pd.DataFrame:
        """Return a copy of the numbers."""
        return self.frame.copy()

    def to_table(self) -> Table:
        """Return the table that is printed."""
        low, high = limit_names(self.level)
        letter = "z" if not np.isfinite(self.frame["df"]).any() else "t"
        heads = {"estimate": "Estimate", "std_error": "Std. Error", "df": "df",
                 "conf_low": low, "conf_high": high, "statistic": f"{letter} value",
                 "p_value": f"Pr(>|{letter}|)"}  # fmt: skip
        shown = self.frame[[*heads]].rename(columns=heads)
        if letter == "z":
            shown = shown.drop(columns="df")
        method = self.method if letter == "t" else None
        title = "Delta method" + ("" if method is None else f", t tests with {method}")
        return coef_to_table(shown, title=title)


def delta_method(
    fit: Fit,
    expressions: Any,
    names: Any = None,
    null: Any = 0.0,
    ddf: Any = "auto",
    level: Any = 0.95,
) -> DeltaMethod:
    """Return functions of the parameters with standard errors; see the function of the package."""
    texts, labels = _texts(expressions, names)
    rule, level = check_ddf(fit, ddf), checks.level(level)
    right = checks.numbers(null, "null")
    if right.shape not in ((), (len(texts),)):
        raise ArgumentError(
            f"null has shape {right.shape}; expected one number, or one for each of the "
            f"{len(texts)} expressions"
        )
    tested = approximation(fit, rule)
    coefficients = dict(zip(distinct_names(fit), tested.beta.tolist(), strict=True))
    p = len(coefficients)
    parameters = coefficients | {
        name: value for name, value in _random_parameters(fit).items() if name not in coefficients
    }
    found = [_finite(text, differentiated(text, parameters)) for text in texts]
    G = np.array([one.gradient for one in found])
    estimate = np.array([one.value for one in found])
    named: np.ndarray = np.array([one.named for one in found])
    own = named[:, p:].any(axis=1)
    V = np.zeros((len(parameters), len(parameters)))
    V[:p, :p] = tested.vcov
    if own.any():
        V = _joint_covariance(fit, V, p, len(parameters))
    vcov = _propagated(G, V, named, list(parameters))
    with np.errstate(divide="ignore", invalid="ignore"):
        se = np.sqrt(np.maximum(vcov.diagonal(), 0.0))
        statistic = (estimate - right) / se
        # the degrees of freedom of the tangent, which is linear in the coefficients
        df = np.where(own, np.inf, tested.row_df(G[:, :p]))
    half = t_quantile(0.5 + 0.5 * level, df) * se
    columns = {"estimate": estimate, "std_error": se, "statistic": statistic, "df": df,
               "p_value": t_tail(statistic, df), "conf_low": estimate - half,
               "conf_high": estimate + half}  # fmt: skip
    return DeltaMethod(
        frame=pd.DataFrame(columns, index=labels),
        vcov=pd.DataFrame(vcov, index=labels, columns=labels),
        gradient=pd.DataFrame(G, index=labels, columns=list(parameters)),
        expressions=tuple(texts),
        level=level,
        method=method_name(fit, rule),
    )


def _texts(expressions: Any, names: Any) -> tuple[list[str], list[str]]:
    """Return the expressions, and what each is called."""
    if isinstance(expressions, Mapping):
        if names is not None:
            raise ArgumentError("expressions are named by their keys; expected no names= besides")
        names, expressions = list(expressions), list(expressions.values())
    texts = checks.names(expressions, "expressions", TEXTS)
    if not texts:
        raise checks.refusal("expressions", expressions, TEXTS)
    if names is None:
        return texts, texts
    labels = checks.names(names, "names", "a name for each expression")
    if len(labels) != len(texts):
        raise ArgumentError(
            f"names has {len(labels)} names for {len(texts)} expressions; expected one for each"
        )
    return texts, labels


def _finite(text: str, found: Differentiated) -> Differentiated:
    if not (np.isfinite(found.value) and np.isfinite(found.gradient).all()):
        what = "value" if not np.isfinite(found.value) else "derivative"
        raise ArgumentError(
            f"{text!r} has no finite {what} at the estimates; expected a function that is smooth "
            "there"
        )
    return found


def _propagated(G: np.ndarray, V: np.ndarray, named: np.ndarray, names: list[str]) -> np.ndarray:
    """Return ``G V G'`` (m, m), NaN for two expressions whose covariance is not known.

    Raises
    ------
    FitError
        Where the variance of one is not known.
    """
    missing = ~np.isfinite(V)
    lost = np.einsum("mi,ij,kj->mk", named, missing, named, optimize=True) > 0
    for row, is_lost in zip(named, lost.diagonal(), strict=True):
        if is_lost:
            gone = row & missing[:, row].any(axis=1)
            raise FitError(
                f"the covariance of {' and '.join(np.array(names)[gone])} is not known: the data "
                "leave parameters open or put them at a bound, coefficients were in the mode "
                "(nAGQ = 0), or another covariance was chosen for them; use confint() or "
                "bootstrap()"
            )
    return np.where(lost, np.nan, G @ np.where(missing, 0.0, V) @ G.T)


def _random_parameters(fit: Fit) -> dict[str, float]:
    """Return standard deviations, correlations, and sigma or the like, by name."""
    parts = components(fit.terms)
    values = component_values(parts, fit.estimates.lams, fit.covariance_scale)
    return dict(zip([part.name for part in parts], values.tolist(), strict=True)) | (
        scale_parameters(fit)
    )


def _joint_covariance(fit: Fit, V: np.ndarray, p: int, size: int) -> np.ndarray:
    """Return the covariance of coefficients and all others; NaN where it is not known.

    Those of a linear model are independent, to first order. Beside a covariance that was chosen for
    the coefficients the model's own says nothing.
    """
    C, is_open = fit.search_covariance()
    J = np.vstack([component_jacobian(fit, components(fit.terms)), scale_jacobian(fit)])
    J = J[: size - p]
    V = V.copy()
    V[p:, p:] = J @ C @ J.T
    bad = ~np.isfinite(J).all(axis=1) | (J[:, is_open] != 0.0).any(axis=1)
    if not fit.is_linear:
        V[:p, p:] = np.nan
        if fit.kind.searches_beta and fit.beta_covariance is None:
            k = len(fit.estimates.par)
            V[:p, p:] = fit.problem.user_beta(C[k : k + p] @ J.T)
        V[p:, :p] = V[:p, p:].T
    V[p:][bad], V[:, p:][:, bad] = np.nan, np.nan
    return V
