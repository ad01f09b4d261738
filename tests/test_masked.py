"""Masked arrays of NumPy: masked values are missing ones, wherever they stand."""

import numpy as np
import pandas as pd
import pytest

from mixef import glmer, lmer

N, GONE = 40, [3, 17]
MASK = np.isin(np.arange(N), GONE)
K = np.arange(N)
WHOLE = {"y": np.sin(K**1.5), "x": np.cos(3.0 * K), "g": np.repeat(list("abcdefgh"), 5)}
pytestmark = pytest.mark.filterwarnings("ignore")  # of small groups, and rows left out
IDS = 10**17 + np.repeat(np.arange(8), 5)  # which no float holds


def masked(values):
    return np.ma.array(values, mask=MASK)


@pytest.mark.parametrize(
    ("name", "values"),
    [
        ("y", WHOLE["y"]),
        ("x", WHOLE["x"]),
        ("g", WHOLE["g"]),
        ("g", WHOLE["g"].astype(object)),
        ("g", IDS),
        ("z", K % 2 == 0),
        ("z", K % 3),
        ("z", (K % 3).astype(np.float32)),
        ("z", np.datetime64("2020-01-01") + K),
        ("z", np.array(["p", "q", "r"])[K % 3]),
    ],
    ids=lambda value: value if isinstance(value, str) else value.dtype.str,
)
def test_masked_values_are_missing(name, values):
    data = WHOLE | {name: values}
    formula = "y ~ x + (1 | g)" if name in WHOLE else f"y ~ x + {name} + (1 | g)"
    fit = lmer(formula, data | {name: masked(values)})
    assert fit.nobs == N - len(GONE)
    without = lmer(formula, {key: column[~MASK] for key, column in data.items()})
    np.testing.assert_allclose(fit.fixef(), without.fixef(), rtol=1e-10)
    if values is IDS:
        assert fit.ranef()["g"].index.tolist() == np.unique(IDS).tolist()


def test_masked_rows_of_a_response_of_two_columns():
    counts = np.column_stack([K % 3, K % 4 + 1])
    data = WHOLE | {"counts": np.ma.array(counts, mask=np.column_stack([MASK, MASK]))}
    assert glmer("counts ~ x + (1 | g)", data, "binomial").nobs == N - len(GONE)


@pytest.mark.parametrize(
    "argument",
    [
        {"weights": masked(np.ones(N))},
        {"offset": masked(np.zeros(N, dtype=int))},
        {"subset": masked(np.ones(N, dtype=bool))},
    ],
    ids=lambda argument: next(iter(argument)),
)
def test_masked_values_of_arguments_leave_rows_out(argument):
    assert lmer("y ~ x + (1 | g)", WHOLE, **argument).nobs == N - len(GONE)


def test_without_masked_values_they_are_arrays_and_pandas_has_booleans_too():
    whole = lmer("y ~ x + (1 | g)", WHOLE).fixef()
    same, every = WHOLE | {"x": np.ma.array(WHOLE["x"])}, pd.array(np.ones(N, dtype=bool))
    for rows in (every, pd.array(np.arange(N))):
        found = lmer("y ~ x + (1 | g)", same, subset=rows).fixef()
        pd.testing.assert_series_equal(found, whole)


def test_masked_values_of_new_data_have_no_prediction():
    predicted = lmer("y ~ x + (1 | g)", WHOLE).predict(WHOLE | {"x": masked(WHOLE["x"])})
    assert np.flatnonzero(np.isnan(predicted)).tolist() == GONE
