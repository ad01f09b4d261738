"""Fixed effects, their covariance and their table; coefficients by group."""

from __future__ import annotations

import numpy as np
import pandas as pd

from mixef.estimation.fit import LMMFit
from mixef.inference.ranef import modes_by_group


def fixed_effects(fit: LMMFit, add_dropped: bool = False) -> pd.Series:
    """Return the fixed-effects coefficients (p,), with NaN for dropped columns if asked for."""
    beta = pd.Series(fit.estimates.beta.copy(), index=list(fit.fixed_names), name="fixef")
    return beta.reindex(list(fit.design.names)) if add_dropped else beta


def covariance_of_fixed(fit: LMMFit) -> pd.DataFrame:
    """Return ``sigma^2 (RX'RX)^-1`` (p, p)."""
    names = list(fit.fixed_names)
    return pd.DataFrame(fit.vcov, index=names, columns=names)


def standard_errors(fit: LMMFit) -> np.ndarray:
    """Return the standard errors of the fixed effects (p,)."""
    return np.sqrt(fit.vcov.diagonal())


def coefficient_table(fit: LMMFit) -> pd.DataFrame:
    """Return estimates, standard errors and t values of the fixed effects."""
    beta, se = fit.estimates.beta, standard_errors(fit)
    columns = {"Estimate": beta, "Std. Error": se, "t value": beta / se}
    return pd.DataFrame(columns, index=list(fit.fixed_names))


def coefficients_by_group(fit: LMMFit) -> dict[str, pd.DataFrame]:
    """Return fixed effect plus conditional mode, one frame (levels, coefficients) a factor."""
    fixed = fixed_effects(fit)
    out = {}
    for group, modes in modes_by_group(fit).items():
        names = list(dict.fromkeys([*fixed.index, *modes.columns]))
        base = fixed.reindex(names).fillna(0.0).to_numpy()
        extra = modes.reindex(columns=names, fill_value=0.0).to_numpy()
        out[group] = pd.DataFrame(base + extra, index=modes.index, columns=names)
    return out
