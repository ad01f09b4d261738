"""What a model is made of: its weights, its variables, and its matrices."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import pandas as pd
from scipy import sparse

from mixef import checks
from mixef.estimation.fit import Fit
from mixef.inference.prediction.prediction_rows import prediction_rows
from mixef.inference.residuals import working_weights
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
