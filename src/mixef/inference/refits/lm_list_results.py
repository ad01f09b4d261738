"""What is read from separate regressions: coefficients, errors, intervals, rows."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import pandas as pd
import scipy

from mixef import checks
from mixef.errors import DataError
from mixef.inference.refits.lm_list import SeparateFits, listed
from mixef.terms.columns import Columns
from mixef.terms.frame import needed_names
from mixef.terms.offsets import new_offset
from mixef.text.printed import PrintedFrames

# What a row's distance from the space of a group's rows may be, beside its size.
OUTSIDE = 1e-7


def coefficients(fits: SeparateFits) -> pd.DataFrame:
    """Return coefficients, groups by names (G, p); NaN where the rows do not determine one."""
    estimates = fits.estimates
    known = estimates.kept & ~estimates.failed[:, None]
    values = np.where(known, estimates.coefficients, np.nan)
    return pd.DataFrame(values, index=fits.index, columns=list(fits.design.names))


def standard_errors(fits: SeparateFits, pool: bool) -> pd.DataFrame:
    """Return the standard errors of `coefficients`."""
    variances = np.einsum("gpp->gp", fits.estimates.unscaled)
    sigma = np.full(len(variances), fits.sigma) if pool else fits.sigma_by_group
    values = sigma[:, None] * np.sqrt(variances)
    values[fits.estimates.failed] = np.nan
    return pd.DataFrame(values, index=fits.index, columns=list(fits.design.names))


def degrees_of_freedom(fits: SeparateFits, pool: bool) -> np.ndarray:
    """Return the degrees of freedom of each group's tests (G,); infinite for a normal law."""
    if not fits.has_dispersion:
        return np.full(len(fits.groups.starts), np.inf)
    df = fits.df_by_group.astype(float)
    return np.full(len(df), df[~fits.estimates.failed].sum()) if pool else df


def coefficient_tables(fits: SeparateFits, pool: bool) -> PrintedFrames:
    """Return one table a coefficient: a row a group, with estimate, error and test."""
    estimates, errors = coefficients(fits), standard_errors(fits, pool)
    df, letter = degrees_of_freedom(fits, pool), "t" if fits.has_dispersion else "z"
    out = PrintedFrames()
    for name in fits.design.names:
        with np.errstate(divide="ignore", invalid="ignore"):
            ratio = estimates[name] / errors[name]
        p_value = 2.0 * _tail(np.abs(ratio.to_numpy()), df)
        columns = {"Estimate": estimates[name], "Std. Error": errors[name],
                   f"{letter} value": ratio, f"Pr(>|{letter}|)": p_value}  # fmt: skip
        out[name] = pd.DataFrame(columns, index=fits.index)
    return out


def _tail(statistic: np.ndarray, df: np.ndarray) -> np.ndarray:
    """Return the upper tail of a t distribution, normal for infinite df; NaN for no df."""
    normal = np.isinf(df)
    safe = np.where(normal | (df <= 0), 1.0, df)
    values = np.where(normal, scipy.special.ndtr(-statistic), scipy.special.stdtr(safe, -statistic))
    return np.where(df > 0, values, np.nan)


def intervals(fits: SeparateFits, level: float, pool: bool) -> PrintedFrames:
    """Return confidence limits, one frame (G, 2) a coefficient."""
    level = checks.level(level)
    tails = np.array([0.5 - level / 2.0, 0.5 + level / 2.0])
    df = degrees_of_freedom(fits, pool)
    safe = np.where(np.isinf(df) | (df <= 0), 1.0, df)
    quantile = np.where(
        np.isinf(df), scipy.special.ndtri(tails[1]), scipy.special.stdtrit(safe, tails[1])
    )
    quantile = np.where(df > 0, quantile, np.nan)
    estimates, errors = coefficients(fits), standard_errors(fits, pool)
    labels = [f"{100 * tail:.3g} %" for tail in tails]
    out = PrintedFrames()
    for name in fits.design.names:
        half, centre = quantile * errors[name].to_numpy(), estimates[name].to_numpy()
        limits = np.column_stack([centre - half, centre + half])
        out[name] = pd.DataFrame(limits, index=fits.index, columns=labels)
    return out


def log_likelihood(fits: SeparateFits) -> float:
    """Return the log-likelihood; by one variance for all groups if pooled.

    Raises
    ------
    DataError
        For a generalized model with a dispersion, which is estimated by moments here.
    """
    y, weights, estimates = fits.y, fits.weights, fits.estimates
    if fits.family is None:
        m, rss = fits.groups.sizes.astype(float), estimates.squares
        if fits.pool:
            m, rss = m.sum(keepdims=True), rss.sum(keepdims=True)
        log_w = 0.0 if weights is None else float(np.log(weights).sum())
        with np.errstate(divide="ignore"):
            return 0.5 * (log_w - float((m * (1.0 + np.log(2.0 * np.pi * rss / m))).sum()))
    if fits.has_dispersion:
        raise DataError(
            f"the dispersions of the {fits.family.name} family are estimated by moments here, "
            "so that there is no maximum of a likelihood to report"
        )
    assert fits.outcome is not None
    eta, mu = fits.groups.back(estimates.eta), fits.groups.back(estimates.mu)
    kernel = fits.family.log_kernel(y, eta, mu, weights)
    normalizer = fits.family.log_normalizer(y, fits.outcome.trials)
    if fits.outcome.copies is not None:
        normalizer = fits.outcome.copies * normalizer
    return float(np.sum(kernel) + np.sum(normalizer))


def predictions(
    fits: SeparateFits, newdata: Any, type: str, env: Mapping[str, Any] | None
) -> pd.Series:
    """Return predicted means or linear predictors, for the own rows or for new ones.

    A row whose predictors the rows of its group say nothing about is NaN.
    """
    type = checks.option(type, "type", ("response", "link"))
    if newdata is None:
        rows = fits.estimates.mu if type == "response" else fits.estimates.eta
        return on_rows(fits, _known(fits, rows), "predicted")
    columns = Columns(newdata, needed_names(fits.formula, fits.call.offset))
    X = fits.design.spec.apply(columns, env)
    new = fits.grouping.spec.codes(columns, env)
    if new.new_levels:
        shown = listed(np.array(list(dict.fromkeys(new.new_levels))))
        raise DataError(
            f"newdata has {shown} of {fits.grouping.name}, for which there is no regression; "
            f"drop those rows, or fit a mixed model, which predicts new levels"
        )
    codes = np.where(new.codes < 0, 0, new.codes)
    eta = np.einsum("np,np->n", X, fits.estimates.coefficients[codes])
    offset = new_offset(fits.frame, fits.call.offset, columns, env)
    if offset is not None:
        eta = eta + offset
    null = fits.estimates.null[codes]
    apart = np.abs(np.einsum("np,npq->nq", X, null))
    size = np.einsum("np,npq->nq", np.abs(X), np.abs(null))
    unknown = (apart > OUTSIDE * size).any(axis=1) | (new.codes < 0) | fits.estimates.failed[codes]
    link = None if fits.family is None or type == "link" else fits.family.link
    values = np.where(unknown, np.nan, eta if link is None else link.inverse(eta))
    index = newdata.index if isinstance(newdata, pd.DataFrame) else pd.RangeIndex(columns.n)
    return pd.Series(values, index=index, name="predicted")


def residuals(fits: SeparateFits, type: str) -> pd.Series:
    """Return the residuals of the rows."""
    type = checks.option(type, "type", ("response", "pearson", "deviance", "working"))
    eta, mu = fits.groups.back(fits.estimates.eta), fits.groups.back(fits.estimates.mu)
    rest, family = fits.y - mu, fits.family
    root = 1.0 if fits.weights is None else np.sqrt(fits.weights)
    if family is None:
        values = rest * root if type in ("pearson", "deviance") else rest
    elif type == "pearson":
        values = root * rest / np.sqrt(family.variance(mu))
    elif type == "deviance":
        values = root * np.sign(rest) * np.sqrt(np.maximum(family.unit_deviance(fits.y, mu), 0.0))
    else:
        values = rest / family.link.d_inverse(eta) if type == "working" else rest
    return on_rows(fits, np.where(_failed_rows(fits), np.nan, values), "residuals")


def on_rows(fits: SeparateFits, values: np.ndarray, name: str) -> pd.Series:
    """Label values (n,) in the order of the data."""
    return pd.Series(fits.frame.pad(values).copy(), index=fits.frame.padded_index, name=name)


def _known(fits: SeparateFits, values: np.ndarray) -> np.ndarray:
    """Put sorted rows into the order of the data, NaN in groups without estimates."""
    return np.where(_failed_rows(fits), np.nan, fits.groups.back(values))


def _failed_rows(fits: SeparateFits) -> np.ndarray:
    return fits.estimates.failed[fits.grouping.codes]
