"""What a fit keeps of the data, and what a pickle of it holds."""

import copy
import pickle

import numpy as np
import pandas as pd
import pytest
from reference_data import frame

from mixef import glmer, lm_list, lmer
from mixef.errors import FormulaError
from mixef.terms.columns import Columns

N = 2000
FORMULA = "y ~ x + log(z) + (1 | g)"
polars = pytest.importorskip("polars")
pyarrow = pytest.importorskip("pyarrow")


def wide():
    """A frame with four columns that a model uses, one that weighs and 40 others."""
    rng = np.random.default_rng(1)
    data = {"x": rng.normal(size=N), "z": rng.uniform(1, 2, N), "g": np.arange(N) % 50}
    data |= {"y": data["x"] + rng.normal(size=50)[data["g"]] + rng.normal(size=N)}
    data |= {"w": rng.uniform(1, 2, N)} | {f"v{i}": rng.normal(size=N) for i in range(40)}
    return pd.DataFrame(data)


SOURCES = {
    "pandas": lambda data: data,
    "labelled": lambda data: data.set_axis([f"row {i}" for i in range(N)], axis=0),
    "arrays": lambda data: {name: data[name].to_numpy() for name in data},
    "polars": polars.from_pandas,
    "arrow": pyarrow.Table.from_pandas,
}
each_source = pytest.mark.parametrize("source", SOURCES)


@each_source
def test_a_pickle_holds_the_columns_that_were_used(source):
    data = SOURCES[source](wide())
    fit = lmer(FORMULA, data, weights="w")
    again = pickle.loads(pickle.dumps(fit))
    assert set(Columns(again._fit.call.data).names) == {"x", "z", "g", "y", "w"}
    assert str(again.summary()) == str(fit.summary())
    assert again.update(". ~ . - x").objective == fit.update(". ~ . - x").objective
    np.testing.assert_array_equal(again.predict(data).to_numpy(), fit.predict(data).to_numpy())


@each_source
def test_other_columns_are_asked_for_after_a_pickle(source):
    data = SOURCES[source](wide())
    fit = lmer(FORMULA, data)
    again = pickle.loads(pickle.dumps(fit))
    with pytest.raises(FormulaError, match=r"'v3' is not a column.*pickle.*update\(\.\.\., data="):
        again.update(". ~ . + v3")
    with pytest.raises(FormulaError, match=r"holds only the columns that it used"):
        again.update(weights="w")
    expected = lmer(FORMULA + " + v3", data).objective
    assert again.update(". ~ . + v3", data=data).objective == pytest.approx(expected, rel=1e-12)
    assert fit.update(". ~ . + v3").objective == pytest.approx(expected, rel=1e-12)


def test_a_small_pickle_of_wide_data():
    data = wide()
    fit = lmer(FORMULA, data)
    unused = 41 * 8 * N
    assert (
        len(pickle.dumps(fit)) < len(pickle.dumps(lmer(FORMULA, data[["x", "z", "g", "y"]]))) + 500
    )
    assert len(pickle.dumps(data)) > unused
    groups = lm_list("y ~ x | g", data)
    again = pickle.loads(pickle.dumps(groups))
    assert len(pickle.dumps(groups)) < unused
    pd.testing.assert_frame_equal(again.coef(), groups.coef())


def test_a_dot_stands_for_all_that_was_there():
    data = frame("sleepstudy")
    fit = lmer("Reaction ~ . - Subject + (1 | Subject)", data)
    again = pickle.loads(pickle.dumps(fit))
    assert again.update(REML=False).objective == fit.update(REML=False).objective


@each_source
def test_copies_are_fits_of_their_own(source):
    fit = lmer(FORMULA, SOURCES[source](wide()), weights="w")
    for twin in (copy.deepcopy(fit), copy.copy(fit)):
        assert twin.objective == fit.objective
        assert str(twin.summary()) == str(fit.summary())
        np.testing.assert_array_equal(twin.fitted(), fit.fitted())
        assert twin.update(". ~ . + v1").nobs == N
    assert copy.deepcopy(fit)._fit.criterion() is not fit._fit.criterion()


def test_arrays_that_are_not_used_are_not_copied():
    data = {name: column.to_numpy(copy=True) for name, column in wide().items()}
    fit = lmer(FORMULA, data)
    held = fit._fit.call.data
    assert held["v1"] is data["v1"]
    assert all(held[name] is not data[name] for name in ("x", "z", "g", "y"))


def test_generalized_fits_pickle_so_too():
    data = frame("cbpp").assign(more=1.0)
    fit = glmer("cbind(incidence, size - incidence) ~ period + (1 | herd)", data, "binomial")
    again = pickle.loads(pickle.dumps(fit))
    assert "more" not in again._fit.call.data
    assert again.update(nAGQ=3).objective == fit.update(nAGQ=3).objective
