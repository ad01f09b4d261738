import pickle

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from model_matrix_reference import REFERENCE, as_matrix, small_data

from mixef.errors import DataError
from mixef.terms.contrasts import contrast_matrix
from mixef.terms.fixed import design
from mixef.terms.formula import parse_formula
from mixef.terms.frame import model_frame
from mixef.terms.grouping import grouping

# The reference is stored to 15 significant digits, and bases of order 1 lose a few by rounding.
TOLERANCE = {"rtol": 1e-12, "atol": 1e-12}


def build(formula, data, contrasts=None, **arguments):
    frame = model_frame(parse_formula(formula), data, **arguments)
    return design(frame.fixed_terms, frame, contrasts)


def _contrasts(case):
    return {name: value[0] for name, value in (case["contrasts"] or {}).items()} or None


def _id(case):
    return f"{case['formula'][0]} {_contrasts(case) or ''}"


@pytest.mark.parametrize("case", REFERENCE["fixed"], ids=_id)
def test_model_matrix_is_that_of_R(case):
    made = build(case["formula"][0], small_data(), _contrasts(case))
    assert list(made.names) == (case["names"] or [])
    assert made.assign.tolist() == case["assign"]
    assert list(made.term_labels) == case["labels"]
    expected = as_matrix(case["matrix"], len(small_data()), len(made.names))
    np.testing.assert_allclose(made.matrix, expected, **TOLERANCE)
    assert made.matrix.flags.f_contiguous


@pytest.mark.parametrize(
    "case",
    # mean(x) stays the training mean here, where R takes the mean of the new rows;
    # cut(z, 3) and dummy() forget the training rows in R.
    [
        c
        for c in REFERENCE["fixed"]
        if c["new"] and not any(f in c["formula"][0] for f in ("mean(", "cut(z, 3)", "dummy("))
    ],
    ids=_id,
)
def test_new_data_are_coded_as_the_training_data_were(case):
    made = build(case["formula"][0], small_data(), _contrasts(case))
    spec = pickle.loads(pickle.dumps(made.spec))
    new = small_data("new")
    expected = as_matrix(case["new"], len(new), len(made.names))
    np.testing.assert_allclose(spec.apply(new), expected, **TOLERANCE)


@pytest.mark.parametrize("case", REFERENCE["fixed"], ids=_id)
def test_spec_rebuilds_each_training_row_by_itself(case):
    data = small_data()
    made = build(case["formula"][0], data, _contrasts(case))
    rows = [0, 7, 22]
    np.testing.assert_allclose(made.spec.apply(data.iloc[rows]), made.matrix[rows], **TOLERANCE)


@pytest.mark.parametrize("case", REFERENCE["groups"], ids=lambda c: c["formula"][0])
def test_grouping_factors_are_lme4s(case):
    frame = model_frame(parse_formula(case["formula"][0]), small_data())
    made = {g.name: g for g in (grouping(b.group, frame) for b in frame.formula.bars)}
    assert sorted(made) == sorted(case["names"])
    for name, levels, codes in zip(case["names"], case["levels"], case["codes"], strict=True):
        assert made[name].levels.tolist() == levels
        assert made[name].codes.tolist() == codes
        assert made[name].n_levels == len(levels)


def test_groups_of_new_data():
    data = pd.DataFrame({"y": [1.0, 2, 3], "a": [1, 2, 10], "b": ["u", "v", "u"]})
    frame = model_frame(parse_formula("y ~ 1 + (1 | a) + (1 | a:b)"), data)
    by_a, by_ab = (pickle.loads(pickle.dumps(grouping(b.group, frame))) for b in frame.formula.bars)
    new = pd.DataFrame({"a": [10.0, 3, np.nan, 1, 3], "b": ["u", "u", "u", "v", "u"]})
    groups = by_a.spec.codes(new)
    assert groups.codes.tolist() == [2, -1, -1, 0, -1]
    assert groups.new_codes.tolist() == [-1, 0, 1, -1, 0]
    assert groups.new_levels == ("3", "NA")
    groups = by_ab.spec.codes(new)
    assert groups.codes.tolist() == [2, -1, -1, -1, -1]
    assert groups.new_levels == ("1:v", "3:u", "NA")


def test_labels_with_colons_are_quoted_so_that_no_combinations_merge():
    # lme4 and glmmTMB join the first two into one level, "p:q:r".
    data = {"y": [1.0, 2, 3, 4], "a": ["p:q", "p", "p", '"p'], "b": ["r", "q:r", "s", "s"]}
    frame = model_frame(parse_formula("y ~ 1 + (1 | a:b)"), data)
    made = grouping(frame.formula.bars[0].group, frame)
    labels = ['"p:q":r', 'p:"q:r"', "p:s", '"""p":s']
    assert made.levels[made.codes].tolist() == labels
    assert made.spec.codes(data).codes.tolist() == made.codes.tolist()


@pytest.mark.parametrize("bar", ["(1 | l)", "(1 | l:a)"])
def test_a_logical_groups_by_the_values_that_occur(bar):
    data = {"y": [1.0, 2, 3], "l": [True, True, True], "a": ["p", "q", "p"]}
    frame = model_frame(parse_formula(f"y ~ 1 + {bar}"), data)
    made = grouping(frame.formula.bars[0].group, frame)
    assert all(level.startswith("TRUE") for level in made.levels)
    assert made.n_levels == len(made.levels) == len(set(made.codes))


def test_a_fixed_factor_refuses_unknown_levels_and_passes_missing_ones():
    made = build("y ~ a + x", small_data())
    new = small_data("new").astype({"a": object})
    new.loc[1, "a"] = None
    rows = made.spec.apply(new)
    assert np.isnan(rows[1, 1:3]).all()
    assert not np.isnan(rows[[0, 2]]).any()
    assert rows[1, 3] == new["x"][1]
    new.loc[1, "a"] = "zz"
    with pytest.raises(DataError, match=r"factor a has new level\(s\) 'zz'.*'u', 'v', 'w'"):
        made.spec.apply(new)


def test_a_variable_that_changes_type_is_named():
    made = build("y ~ x", small_data())
    with pytest.raises(DataError, match="x was numeric when the model was fitted, but is text now"):
        made.spec.apply({"x": ["p", "q"]})


def test_spline_and_polynomial_with_missing_values():
    data = small_data()
    data.loc[3, "z"] = np.nan
    complete = data.drop(index=3)
    for call in ("poly(z, 2)", "bs(z, df = 4)", "ns(z, 3)", "scale(z)"):
        made = build(f"y ~ {call}", data).matrix
        np.testing.assert_allclose(made, build(f"y ~ {call}", complete).matrix, **TOLERANCE)


@pytest.mark.parametrize(
    ("contrasts", "first_column"),
    [
        ({"a": ("treatment", "v")}, [1, 0, 0]),
        ({"a": [[1, 0], [0, 1], [5, 5]]}, [1, 0, 5]),
        ({"a": pd.DataFrame({"p": [7, 8, 9]}, index=["w", "v", "u"])}, [9, 8, 7]),
        ({"a": "sdif"}, [-2 / 3, 1 / 3, 1 / 3]),
    ],
)
def test_contrasts_given_by_hand(contrasts, first_column):
    made = build("y ~ a", small_data(), contrasts)
    np.testing.assert_allclose(made.matrix[:3, 1], first_column, rtol=1e-15)


def test_names_of_given_contrasts():
    named = pd.DataFrame({"lin": [-1, 0, 1], "quad": [1, -2, 1]}, index=["u", "v", "w"])
    assert build("y ~ a", small_data(), {"a": named}).names == ("(Intercept)", "alin", "aquad")
    assert build("y ~ a", small_data(), {"a": "sdif"}).names[1:] == ("av-u", "aw-v")


@pytest.mark.parametrize(
    ("formula", "contrasts", "part"),
    [
        ("y ~ x", {"x": "sum"}, "not a factor"),
        ("y ~ a", {"zz": "sum"}, "not in the model; the factors are: a"),
        ("y ~ a", {"a": "contr.what"}, "unknown contrast 'what'"),
        ("y ~ a", {"a": ("treatment", "zz")}, "'zz' is not a level of a"),
        ("y ~ a", {"a": np.eye(2)}, "expected 3 rows"),
        ("y ~ a", {"a": object()}, "expected a name"),
    ],
)
def test_contrasts_that_cannot_be_are_refused(formula, contrasts, part):
    with pytest.raises(DataError, match=part):
        build(formula, small_data(), contrasts)


def test_a_factor_with_one_level_is_named():
    data = small_data()
    data["one"] = "same"
    with pytest.raises(DataError, match="2 or more levels, but one has only the level 'same'"):
        build("y ~ one + x", data)


@pytest.mark.parametrize("k", [2, 3, 5, 12])
def test_polynomial_contrasts_are_orthonormal(k):
    matrix, names = contrast_matrix("poly", tuple(map(str, range(k))), "f")
    np.testing.assert_allclose(matrix.T @ matrix, np.eye(k - 1), atol=1e-9)
    np.testing.assert_allclose(matrix.sum(axis=0), 0, atol=1e-10)
    assert names[:4] == (".L", ".Q", ".C", "^4")[: k - 1]


FORMULA = "y ~ a * x + poly(z, 2) + ch + (1 | a:b)"


@settings(max_examples=25, deadline=None)
@given(st.permutations(range(24)))
def test_row_order_changes_no_row(order):
    data = small_data()
    here = build(FORMULA, data).matrix
    there = build(FORMULA, data.iloc[order]).matrix
    np.testing.assert_allclose(there, here[order], **TOLERANCE)


def test_unused_levels_and_the_index_change_nothing():
    data = small_data()
    other = data.set_index(pd.Index([f"row {i}" for i in range(24)]))
    other["a"] = other["a"].cat.set_categories(["zero", "u", "v", "nowhere", "w"])
    made, again = build(FORMULA, data), build(FORMULA, other)
    assert made.names == again.names
    np.testing.assert_array_equal(made.matrix, again.matrix)
