"""Fixed effects, their covariance and their table; coefficients by group."""

from __future__ import annotations

import numpy as np
import pandas as pd

from mixef.estimation.fit import Fit
from mixef.inference.hypotheses.ddf import REFITTED, check_ddf, is_refitted, t_tests
from mixef.inference.ranef import modes_by_group
from mixef.text.printed import PrintedFrames


def fixed_effects(fit: Fit, add_dropped: bool = False) -> pd.Series:
    """Return the fixed-effects coefficients (p,), with NaN for dropped columns if asked for."""
    beta = pd.Series(fit.estimates.beta.copy(), index=list(fit.fixed_names), name="fixef")
    return beta.reindex(list(fit.design.names)) if add_dropped else beta


def covariance_of_fixed(fit: Fit) -> pd.DataFrame:
    """Return the covariance matrix (p, p) of the fixed effects."""
    names = list(fit.fixed_names)
    return pd.DataFrame(fit.vcov.copy(), index=names, columns=names)


def standard_errors(fit: Fit) -> np.ndarray:
    """Return the standard errors of the fixed effects (p,)."""
    return np.sqrt(fit.vcov.diagonal())


def coefficient_table(fit: Fit, ddf: str | None = "auto") -> pd.DataFrame:
    """Return estimates, standard errors and tests of the fixed effects.

    A linear model has t values, with df and p values unless ``ddf`` is None; a generalized one
    has z and p values. Kenward and Roger's tests of an ML fit are those of its refit by REML, and
    the columns' name says so.
    """
    tests = t_tests(fit, np.eye(len(fit.kept)), ddf=ddf)
    columns = {"Estimate": tests.estimate, "Std. Error": tests.std_error}
    if not fit.is_linear:
        columns |= {"z value": tests.statistic, "Pr(>|z|)": tests.p_value}
    elif check_ddf(fit, ddf) is None:
        columns |= {"t value": tests.statistic}
    else:
        columns |= {"df": tests.df, "t value": tests.statistic, "Pr(>|t|)": tests.p_value}
    table = pd.DataFrame(columns, index=list(fit.fixed_names))
    return table.rename_axis(columns=REFITTED) if is_refitted(fit, ddf) else table


def coefficients_by_group(fit: Fit) -> PrintedFrames:
    """Return fixed effect plus conditional mode, one frame (levels, coefficients) a factor."""
    fixed, out = fixed_effects(fit), PrintedFrames()
    for group, modes in modes_by_group(fit).items():
        names = list(dict.fromkeys([*fixed.index, *modes.columns]))
        base = fixed.reindex(names).fillna(0.0).to_numpy()
        extra = modes.reindex(columns=names, fill_value=0.0).to_numpy()
        out[group] = pd.DataFrame(base + extra, index=modes.index, columns=names)
    return out
