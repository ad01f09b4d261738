"""What a model is made of: its weights, its variables, its matrices, and its integrands.

Laplace's approximation takes the integrand ``f_l(y, u)`` of a level for a normal density with its
mode and curvature there: with ``u(z) = u~ + z / L_ll``,

    f_l(y, u(z)) / (f_l(y, u~) sqrt(2 pi))   is near   phi(z),

and quadrature needs their ratio t(z) to be near a polynomial of low order
(D. Bates, Computational methods for mixed models, lme4's vignette, sections on quadrature).
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import pandas as pd
from scipy import sparse

from mixef import checks
from mixef.errors import DataError
from mixef.estimation.fit import Fit
from mixef.estimation.generalized.levels import levels_at
from mixef.estimation.generalized.pirls import conditional_mode
from mixef.estimation.generalized.quadrature import values_at
from mixef.inference.prediction.prediction_rows import prediction_rows
from mixef.inference.residuals import working_weights
from mixef.linalg.threads import one_blas_thread
from mixef.terms.factor import Factor
from mixef.terms.values import Matrix


def row_weights(fit: Fit, type: str = "prior") -> pd.Series:
    """Return the weights of the rows; see the method ``weights`` of a model."""
    is_working = checks.option(type, "type", ("prior", "working")) == "working"
    weights = working_weights(fit) if is_working else fit.weights
    return fit.frame.series(np.ones(fit.frame.n) if weights is None else weights, "weights")


def model_frame(fit: Fit) -> pd.DataFrame:
    """Return the variables of the formula on the rows of the fit, the response first."""
    frame, response = fit.frame, fit.formula.response
    assert response is not None
    values = {response.text: frame.response, **frame.variables, response.text: frame.response}
    columns: dict[str, Any] = {}
    for text, value in values.items():
        if isinstance(value, Matrix):
            parts = zip(value.suffixes, value.array.T, strict=True)
            columns |= {f"{text}{suffix}": part.copy() for suffix, part in parts}
        else:
            columns[text] = value.own() if isinstance(value, Factor) else np.array(value)
    for group, members in fit.groups.items():
        grouping = fit.terms[members[0]].grouping
        columns.setdefault(group, Factor(grouping.codes, grouping.level_set).own())
    given = {"(weights)": frame.weights, "(offset)": frame.offset}
    columns |= {name: part.copy() for name, part in given.items() if part is not None}
    return pd.DataFrame(columns, index=frame.index)


def model_matrix(
    fit: Fit, newdata: Any, type: str, env: Mapping[str, Any] | None
) -> pd.DataFrame | sparse.csr_array:
    """Return X or Z of the fit's rows or of new ones; see the method of a model."""
    if checks.option(type, "type", ("fixed", "random")) == "fixed":
        rows = prediction_rows(fit, newdata, "~0", "error", env)
        return pd.DataFrame(rows.X.copy(), index=rows.index, columns=list(fit.fixed_names))
    rows = prediction_rows(fit, newdata, None, "error", env)
    blocks = []
    for t, term in enumerate(fit.terms):
        z, codes = rows.terms[t].z, rows.terms[t].codes
        known, width = np.flatnonzero(codes >= 0), z.shape[1]
        column = codes[known, None] * width + np.arange(width)
        entries = (z[known].ravel(), (np.repeat(known, width), column.ravel()))
        blocks.append(sparse.coo_array(entries, shape=(len(z), term.n_levels * width)))
    return sparse.csr_array(sparse.hstack(blocks, format="csr"))


def integrand(fit: Fit, z: Any) -> pd.DataFrame:
    """Return what the likelihood integrates, level by level; see the method ``integrand``."""
    if len(fit.terms) != 1 or len(fit.terms[0].columns) != 1:
        terms = ", ".join(f"{term.label}" for term in fit.terms)
        raise DataError(
            f"the fit has the random effects {terms}; the likelihood is a product of integrals "
            "in one variable only for a single term with one column, such as (1 | group)"
        )
    points = np.atleast_1d(checks.numbers(z, "z", "finite numbers (m,)"))
    if points.ndim != 1:
        raise checks.refusal("z", z, "finite numbers (m,)")
    with one_blas_thread():
        values = _log_ratios(fit, points)
    levels = fit.terms[0].grouping.index
    with np.errstate(over="ignore", under="ignore"):  # far out both are zero
        log_normal = -0.5 * points**2 - 0.5 * np.log(2.0 * np.pi)
        normal, t, density = np.exp(log_normal), np.exp(values), np.exp(values + log_normal)
    return pd.DataFrame(
        {
            "group": levels.repeat(len(points)),
            "z": np.tile(points, len(levels)),
            "density": density.ravel(),
            "normal": np.tile(normal, len(levels)),
            "t": t.ravel(),
        }
    )


def _log_ratios(fit: Fit, points: np.ndarray) -> np.ndarray:
    """Return ``log t(z)`` (l, m)."""
    np.asarray(fit.y)  # which are needed at once
    criterion = fit.criterion()
    par, beta, extra = criterion.split(fit.point)
    lams = criterion.parametrization.lams(par)
    if criterion.with_beta:
        beta = criterion.problem.scaled_beta(fit.estimates.beta)
    model = criterion.model
    u = np.zeros(model.groups.layout.q)
    mode = conditional_mode(model, lams, beta, extra, u, with_beta=False)
    levels = levels_at(model, mode, lams[0])
    # The scaled effect may run against the user's: its column of Z may have been reversed.
    towards = float(np.sign(criterion.terms.back_to_user(par)[0][0, 0])) or 1.0
    values = values_at(model, mode, levels, extra, towards * points[None, :]).log_ratio
    return values
