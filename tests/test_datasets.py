"""The shipped data sets against the exports that R made of them."""

import hashlib

import numpy as np
import pandas as pd
import pytest
from reference_data import FOLDER, cases, frame, read_reference

from mixef.datasets import datasets, load_dataset
from mixef.errors import DataError

# Made by tests/reference/datasets.R from lme4 1.1-31, mlmRev 1.0-8 and data/: shape, types, levels,
# and a digest of each column's text (codes of factors, numbers with 17 digits).
IN_R = read_reference("datasets.json")["datasets"]
COLUMNS = [(name, column) for name, columns in IN_R.items() for column in columns]


def text_of(column):
    """A column as datasets.R writes it: 0-based codes, or numbers with 17 digits."""
    if isinstance(column.dtype, pd.CategoricalDtype):
        return [f"{code:d}" for code in column.cat.codes]
    if column.dtype == np.int64:
        return [f"{value:d}" for value in column]
    return ["NA" if np.isnan(value) else f"{value:.17g}" for value in column]


def test_the_list_names_every_data_set_of_the_reference():
    assert list(datasets()["name"]) == list(IN_R)


@pytest.mark.parametrize("name", IN_R)
def test_columns_and_rows_are_those_of_r(name):
    data = load_dataset(name)
    assert list(data.columns) == list(IN_R[name])
    assert {len(data)} == {column["rows"] for column in IN_R[name].values()}


@pytest.mark.parametrize(("name", "column"), COLUMNS)
def test_values_and_types_are_those_of_r(name, column):
    values, expected = load_dataset(name)[column], IN_R[name][column]
    digest = hashlib.md5("".join(f"{cell}\n" for cell in text_of(values)).encode()).hexdigest()
    assert digest == expected["md5"]
    if expected["kind"] == "factor":
        assert list(values.cat.categories) == expected["levels"]
        assert values.cat.ordered == expected["ordered"]
    else:
        assert values.dtype == {"integer": np.int64, "double": np.float64}[expected["kind"]]


@pytest.mark.parametrize("name", IN_R)
def test_the_catalogue_describes_the_frame(name):
    entry = datasets().set_index("name").loc[name]
    data = load_dataset(name)
    assert entry["rows"] == len(data)
    assert entry["columns"] == ", ".join(data.columns)
    assert entry["description"]
    assert entry["source"]


def test_a_frame_is_fresh_and_knows_its_name():
    first = load_dataset("sleepstudy")
    first.loc[0, "Reaction"] = 0.0
    assert load_dataset("sleepstudy").loc[0, "Reaction"] == 249.56
    assert load_dataset("sleepstudy").attrs["name"] == "sleepstudy"


@pytest.mark.parametrize(
    ("name", "part"),
    [("insteval", "did you mean 'InstEval'"), ("sleep_study", "did you mean 'sleepstudy'")],
)
def test_a_near_name_is_suggested(name, part):
    with pytest.raises(DataError, match=part):
        load_dataset(name)


@pytest.mark.parametrize("name", ["", "qqq", None, 3])
def test_an_unknown_name_lists_the_data_sets(name):
    with pytest.raises(DataError, match=r"sleepstudy, Dyestuff, .*Contraception, classroom, cbpp2"):
        load_dataset(name)


@pytest.mark.parametrize("file", ["lme4.json", "more_lmm.json", "lmm_acceptance.json"])
def test_every_reference_case_has_its_data(file):
    for name in {case["data"] for case in cases(file)}:
        assert len(frame(name)) > 0


@pytest.mark.parametrize("path", sorted((FOLDER / "data").glob("*.csv")), ids=lambda p: p.stem)
def test_a_reference_frame_has_only_declared_missing_values(path):
    missing = frame(path.stem).isna().to_numpy().any()
    # of teachers who were not tested
    assert missing == (path.stem.endswith("_na") or path.stem == "classroom")
