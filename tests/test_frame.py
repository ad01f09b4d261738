import datetime
import pickle
from decimal import Decimal

import numpy as np
import pandas as pd
import polars as pl
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from model_matrix_reference import small_data

from mixef.errors import DataError, DataWarning, FormulaError
from mixef.terms.columns import Columns
from mixef.terms.factor import Factor, encode_numbers
from mixef.terms.fixed import design
from mixef.terms.formula import parse_formula
from mixef.terms.frame import model_frame, numeric_response
from mixef.terms.grouping import grouping

FORMULA = "y ~ x * a + o + ch + l + poly(z, 2) + (x | a:b) + (1 | k)"


def make(formula, data, **arguments):
    return model_frame(parse_formula(formula), data, **arguments)


def _arrays(data):
    frame = make(FORMULA, data)
    bars = frame.formula.bars
    groups = [grouping(bar.group, frame) for bar in bars]
    return (
        frame.y,
        design(frame.fixed_terms, frame).matrix,
        *(g.codes for g in groups),
        *(g.levels for g in groups),
    )


def _dict(frame):
    return {name: frame[name] for name in frame}


def _polars(frame):
    plain = pl.DataFrame({c: frame[c].astype(object).tolist() for c in frame}, strict=False)
    enums = {c: pl.Enum(frame[c].cat.categories.tolist()) for c in ("a", "b", "o")}
    return plain.with_columns([pl.col(c).cast(t) for c, t in enums.items()])


SOURCES = {
    "dict of series": _dict,
    "pyarrow": pa.Table.from_pandas,
    "pandas nullable": lambda f: f.convert_dtypes(),
    "pandas on pyarrow": lambda f: pa.Table.from_pandas(f).to_pandas(types_mapper=pd.ArrowDtype),
    "objects": lambda f: f.astype({"ch": object, "l": object, "x": object}),
    "float32": lambda f: f.astype({"x": np.float32, "k": np.int8}),
    "another index": lambda f: f.set_index(pd.Index(list("abcdefghijklmnopqrstuvwx"))),
}


@pytest.mark.parametrize("source", SOURCES.values(), ids=SOURCES.keys())
def test_every_source_gives_the_same_arrays(source):
    expected = _arrays(small_data())
    for here, there in zip(_arrays(source(small_data())), expected, strict=True):
        np.testing.assert_array_equal(here, there)


def test_polars_gives_the_same_arrays():
    # Polars has no ordered type: an Enum keeps the order of its levels, not the contrasts.
    data = small_data().assign(o=lambda d: d["o"].cat.as_unordered())
    for here, there in zip(_arrays(_polars(data)), _arrays(data), strict=True):
        np.testing.assert_array_equal(here, there)


def test_a_polars_categorical_is_sorted_whatever_the_row_order():
    data = pl.DataFrame({"g": ["b", "c", "a"]}, schema={"g": pl.Categorical})
    assert Columns(data)["g"].levels == Columns(data.reverse())["g"].levels == ("a", "b", "c")


def test_reading_leaves_the_data_alone_and_untouched_columns_unread():
    data = small_data().assign(when=pd.Timestamp("2020-01-01"))
    before = data.copy(deep=True)
    make(FORMULA, data, weights="my w", subset="x > 1")
    pd.testing.assert_frame_equal(data, before)


@pytest.mark.parametrize(
    ("values", "levels"),
    [
        ([308, 1, 20], ("1", "20", "308")),
        ([1.5, -2.0, 100000.0], ("-2", "1.5", "1e+05")),
        ([100000.0, np.nan, 7.0], ("7", "100000")),
        (["b", "B", "a"], ("B", "a", "b")),
        ([True, False, True], ("FALSE", "TRUE")),
        (pd.Categorical(["b", "a", "b"], ["c", "b", "a"]), ("b", "a")),
        (pd.Categorical([2.0, 10.0, 2.0]), ("2", "10")),
        (pd.array(["x", None, "w"], dtype="string"), ("w", "x")),
        (pd.array([3, None, 1], dtype="Int64"), ("1", "3")),
        ([Decimal("1.5"), None, Decimal(2)], ("1.5", "2")),
        (np.array(["q", "p", "q"]), ("p", "q")),
        ([0.1 + 0.2, 0.3, 0.5], ("0.3", "0.5")),
    ],
)
def test_levels_are_Rs(values, levels):
    frame = make("y ~ 1 + (1 | factor(g))", {"y": [1.0, 2, 3], "g": values})
    variable = frame.variable("factor(g)")
    assert variable.levels == levels
    assert set(variable.codes) == set(range(len(levels)))


@pytest.mark.parametrize(
    "values",
    [
        np.array([1j, 2, 3]),
        [{"a": 1}, {"b": 2}, 3],
        pd.interval_range(0, 3),
        pl.Series([[1], [2], [3]]),
        pl.Series([datetime.time(1), datetime.time(2), None]),
    ],
    ids=lambda v: str(getattr(v, "dtype", "object")),
)
def test_types_that_cannot_be_used_are_named(values):
    data = {"y": [1.0, 2, 3], "x": values}
    data = pl.DataFrame(data) if isinstance(values, pl.Series) else data
    with pytest.raises(DataError, match=r"column 'x' has type .*convert it first"):
        make("y ~ x", data)


def _holey():
    data = small_data()
    data.loc[0, "y"] = np.nan
    data.loc[1, "x"] = np.nan
    data.loc[2, "a"] = None
    data.loc[3, "ch"] = None
    data.loc[4, "my w"] = np.nan
    data.loc[5, "z"] = -1.0  # log gives NaN
    data.loc[6, "b"] = None
    return data


HOLEY = "y ~ x + ch + log(z) + (1 | a/b)"


def test_rows_with_anything_missing_are_omitted():
    frame = make(HOLEY, _holey(), weights="my w")
    assert frame.rows.tolist() == list(range(7, 24))
    assert frame.index.tolist() == list(range(7, 24))
    assert len(frame.weights) == frame.n == len(frame.y) == 17
    assert frame.pad(frame.y) is frame.y


def test_unused_variables_may_be_missing():
    assert make("y ~ z", _holey()).n == 23


def test_exclude_pads_to_the_rows_asked_for():
    data = _holey().set_index(pd.Index([f"r{i}" for i in range(24)]))
    frame = make(HOLEY, data, weights="my w", na_action="exclude")
    padded = frame.pad(frame.y)
    assert np.isnan(padded[:7]).all()
    np.testing.assert_array_equal(padded[7:], data["y"].to_numpy()[7:])
    assert frame.padded_index.equals(data.index)
    chosen = make(HOLEY, data, na_action="exclude", subset=np.arange(24) > 2)
    assert chosen.padded_index.tolist() == [f"r{i}" for i in range(3, 24)]
    assert np.flatnonzero(np.isnan(chosen.pad(chosen.y))).tolist() == [0, 2, 3]


def test_fail_names_the_variables_and_counts_rows():
    with pytest.raises(DataError) as caught:
        make(HOLEY, _holey(), na_action="fail")
    for part in ("y (1 rows)", "x (1 rows)", "log(z) (1 rows)", "a (1 rows)"):
        assert part in str(caught.value)
    assert make("y ~ x", _holey(), na_action="fail", subset="!is.na(x) & !is.na(y)").n == 22


def test_transforms_see_all_values_as_in_R():
    data = small_data()
    data.loc[0, "y"] = np.nan
    frame = make("y ~ scale(x)", data)
    x = data["x"].to_numpy()
    np.testing.assert_allclose(
        frame.variable("scale(x)"), ((x - x.mean()) / x.std(ddof=1))[1:], rtol=1e-14
    )


def test_levels_that_only_dropped_rows_have_are_dropped():
    data = small_data()
    data.loc[data["ch"] == "p", "y"] = np.nan
    assert make("y ~ ch", data).variable("ch").levels == ("q", "r", "s")


@pytest.mark.parametrize(
    ("change", "arguments", "part"),
    [
        ({"x": np.nan}, {}, "0 (non-NA) cases: x is missing in every row"),
        ({}, {"subset": "x > 100"}, "0 (non-NA) cases: subset chooses no row"),
        ({"y": np.inf}, {}, "NA/NaN/Inf in 'y': the response y is infinite in 24 of 24"),
        ({"x": np.inf}, {}, "the variable x is infinite"),
        ({}, {"weights": -np.ones(24)}, "weights must not be negative, but 24 are"),
        ({}, {"weights": np.zeros(24)}, "all weights are zero"),
        ({}, {"weights": np.ones(3)}, "weights has 3 values, but the data have 24 rows"),
        ({}, {"weights": "ch"}, "weights = 'ch' must be numeric"),
        ({}, {"subset": [100]}, "outside of the 24 rows"),
    ],
)
def test_frames_that_cannot_be_are_refused(change, arguments, part):
    with pytest.raises(DataError) as caught:
        make("y ~ x", small_data().assign(**change), **arguments)
    assert part in str(caught.value)


def test_empty_data():
    with pytest.raises(DataError, match="the data have no rows"):
        make("y ~ x", small_data().iloc[:0])


def test_rows_of_weight_zero_are_dropped_aloud():
    weights = np.r_[0, 0, np.ones(22)]
    with pytest.warns(DataWarning, match="2 of 24 rows have weight zero"):
        frame = make("y ~ x", small_data(), weights=weights)
    assert frame.rows[0] == 2
    assert (frame.weights == 1).all()


@pytest.mark.parametrize(
    "weights",
    ["x + 1", lambda d: d["x"] + 1, lambda d: (d["x"] + 1).to_numpy(), lambda d: list(d["x"] + 1)],
)
def test_weights_may_be_text_or_values(weights):
    data = small_data()
    frame = make("y ~ z", data, weights=weights if isinstance(weights, str) else weights(data))
    np.testing.assert_array_equal(frame.weights, data["x"] + 1)


def test_a_series_in_another_order_is_put_in_order():
    data = small_data()
    frame = make("y ~ z", data, weights=data["x"].sample(frac=1, random_state=1))
    np.testing.assert_array_equal(frame.weights, data["x"])


def test_offsets_add_up():
    data = small_data()
    frame = make("y ~ x + offset(log(z)) + offset(k)", data, offset=["x", "my w"])
    expected = data["x"] + data["my w"] + np.log(data["z"]) + data["k"]
    np.testing.assert_allclose(frame.offset, expected, rtol=1e-15)
    assert [o.text for o in frame.offset_nodes] == ["offset(log(z))", "offset(k)"]
    assert make("y ~ x", data).offset is None
    np.testing.assert_array_equal(make("y ~ x", data, offset=2).offset, np.full(24, 2.0))


@pytest.mark.parametrize(
    ("subset", "rows"),
    [
        ("x > 4", [5, 12, 14]),
        ("x > 4 & l", [5, 14]),
        ([3, 1, 3, 23], [1, 3, 23]),
        (np.arange(24) < 2, [0, 1]),
        (pd.Series(np.arange(24) < 2)[::-1], [0, 1]),
    ],
)
def test_subset(subset, rows):
    assert make("y ~ x", small_data(), subset=subset).rows.tolist() == rows


def test_the_dot_is_every_column_but_the_response():
    data = small_data()[["y", "x", "a", "z"]]
    frame = make("log(y + 9) ~ . + (1 | a)", data)
    assert frame.fixed_terms.labels == ("x", "a", "z")  # a too: so does lme4 1.1-31
    assert make("y ~ . - z", data).fixed_terms.labels == ("x", "a")


@pytest.mark.parametrize(
    ("formula", "part"),
    [
        ("y ~ X1", "'X1' is not a column of the data; the columns are 'y', 'x'"),
        ("y ~ coun", "did you mean 'count'"),
        ("y ~ lag(x)", "unknown function 'lag'"),
        ("y ~ scal(x)", "did you mean 'scale'"),
        ("y ~ I(g + 1)", "'+' in g + 1 is not meaningful for a factor"),
        ("y ~ poly(x, 2, 3, 4, 5)", "cannot evaluate poly(x, 2, 3, 4, 5)"),
        ("y ~ (x + offset(x) | g)", "offset cannot stand inside"),
        ("y ~ x * y", "the response y is among its own predictors"),
        ("y ~ (1 | 1)", "cannot be a response or grouping factor"),
    ],
)
def test_names_and_functions_that_are_not_there(formula, part):
    data = {"y": [1.0, 2, 3], "x": [1.0, 2, 3], "g": ["p", "q", "p"], "count": [1, 2, 3]}
    with pytest.raises(FormulaError) as caught:
        make(formula, data)
    assert part in str(caught.value)


def test_a_single_value_is_no_variable():
    with pytest.raises(DataError, match="limit has length 1, but the data have 24 rows"):
        make("y ~ limit", small_data(), env={"limit": 2})


def double(x):
    """Found by name when a pickled state is used again."""
    return 2 * x


def test_the_callers_functions_and_values_are_found_and_kept():
    data = small_data()
    env = {"np": np, "double": double, "limit": 2.0, "extra": np.arange(24.0), "rows": len}
    frame = make("y ~ np.log(z) + double(x) + I(x > limit) + extra", data, env=env)
    made = design(frame.fixed_terms, frame)
    assert made.names == (
        "(Intercept)", "np.log(z)", "double(x)", "I(x > limit)TRUE", "extra",
    )  # fmt: skip
    np.testing.assert_array_equal(made.matrix[:, 2], 2 * data["x"])
    spec = pickle.loads(pickle.dumps(made.spec))
    again = spec.apply(data.assign(extra=np.arange(24.0)))
    np.testing.assert_array_equal(again, made.matrix)
    with pytest.raises(FormulaError, match="'extra' is not a column"):
        spec.apply(data)


def test_a_function_that_cannot_be_pickled_is_missed_only_when_called():
    frame = make("y ~ f(x)", small_data(), env={"f": lambda x: x + 1})
    spec = design(frame.fixed_terms, frame).spec
    assert spec.apply(small_data()).shape == (24, 2)
    with pytest.raises(FormulaError, match="unknown function 'f'"):
        pickle.loads(pickle.dumps(spec)).apply(small_data())


def test_without_data_the_callers_arrays_are_the_data():
    env = {"y": np.arange(3.0), "g": ["a", "b", "a"], "other": np.arange(7)}
    frame = model_frame(parse_formula("y ~ 1 + (1 | g)"), None, env=env)
    assert frame.n == 3
    with pytest.raises(DataError, match="no data were given"):
        model_frame(parse_formula("y ~ x"), None)


@pytest.mark.parametrize("data", [42, [1, 2], {"x": 1}, "file.csv"])
def test_data_that_are_no_frame(data):
    with pytest.raises(DataError):
        make("y ~ x", data)


def test_unequal_columns_and_doubled_names():
    with pytest.raises(DataError, match="differ in length"):
        make("y ~ x", {"y": [1.0], "x": [1.0, 2.0]})
    with pytest.raises(DataError, match="more than one column named 'x'"):
        make("y ~ x", pd.DataFrame([[1, 2, 3]], columns=["y", "x", "x"]))


def test_responses():
    data = small_data()
    assert numeric_response(make("l ~ x", data)).tolist() == data["l"].astype(float).tolist()
    two = make("b ~ x", data)
    assert isinstance(two.response, Factor)
    np.testing.assert_array_equal(two.y, data["b"] == "n")
    assert make("cbind(k, x) ~ z", data).y.shape == (24, 2)
    for response, part in [
        ("b", "response must be numeric, but b is a factor with levels m, n"),
        ("ch", "ch is a character"),
        ("cbind(k, x)", "is a matrix with 2 columns"),
    ]:
        with pytest.raises(DataError, match=part.replace("(", r"\(").replace(")", r"\)")):
            numeric_response(make(f"{response} ~ z", data))
    with pytest.raises(DataError, match="has no response"):
        numeric_response(make("~ x", data))


def test_a_frame_pickles_and_forgets_the_rest_of_the_data():
    data = small_data().assign(ballast="x" * 100_000)
    frame = make(FORMULA, data)
    stored = pickle.dumps(frame)
    assert len(stored) < 100_000
    np.testing.assert_array_equal(pickle.loads(stored).y, frame.y)


@pytest.mark.parametrize(
    ("expression", "expected"),
    # Three-valued logic of R: what decides wins over what is missing.
    [
        ("I(x > 1 & z > 1)", [None, 0, None, 1, 0]),
        ("I(x > 1 | z > 1)", [1, None, None, 1, 1]),
        ("I(!(x > 1))", [None, None, None, 0, 1]),
        ("I(x %in% c(2, 5))", [0, 0, 0, 1, 0]),
        ("ifelse(is.na(x), 9, x)", [9, 9, 9, 2, 1]),
    ],
)
def test_missing_values_in_logic(expression, expected):
    nan = float("nan")
    data = {"y": np.arange(5.0), "x": [nan, nan, nan, 2, 1], "z": [2, 1, nan, 2, 2]}
    frame = make(f"y ~ {expression}", data)
    assert frame.rows.tolist() == [i for i, e in enumerate(expected) if e is not None]
    value = frame.variable(expression)
    number = value.as_float() if isinstance(value, Factor) else value
    assert list(number) == [e for e in expected if e is not None]


@settings(max_examples=40, deadline=None)
@given(st.lists(st.integers(-(2**40), 2**40), min_size=1, max_size=30), st.booleans())
def test_whole_numbers_are_coded_alike_by_table_and_by_sorting(values, wide):
    x = np.array(values) if wide else np.array(values) % 50
    codes, levels = encode_numbers(x)
    expected_levels, expected = np.unique(x, return_inverse=True)
    np.testing.assert_array_equal(codes, expected)
    np.testing.assert_array_equal(levels, expected_levels)
