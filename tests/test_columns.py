"""What columns of any container become: numbers, exact whole numbers, times, levels."""

import datetime
import decimal
import pickle

import duckdb
import numpy as np
import pandas as pd
import polars as pl
import pyarrow as pa
import pyarrow.compute as pc
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from reference_data import read_reference

from mixef import delta_method, glmer, lm_list, lmer, load_dataset, simulate_from
from mixef.errors import DataError, DataWarning, FormulaError
from mixef.terms.columns import Columns
from mixef.terms.exact import Integers
from mixef.terms.fixed import design
from mixef.terms.formula import parse_formula
from mixef.terms.frame import model_frame
from mixef.terms.grouping import grouping

# Numbers


def doses(seed=91, n=200):
    rng = np.random.default_rng(seed)
    g = np.arange(n) % 20
    d = pd.DataFrame({"age": rng.integers(18, 90, n), "dose": rng.integers(1, 60, n), "g": g})
    noise = rng.normal(size=n) + rng.normal(size=20)[g]
    return d.assign(y=0.01 * d.age + 0.0005 * d.age * d.dose + noise, flag=d.dose > 30)


NARROW = ["int8", "uint8", "int16", "Int8", "UInt8", "float16", "float32", "Float32",
          "int8[pyarrow]", "uint8[pyarrow]", "decimal128(5, 0)[pyarrow]"]  # fmt: skip


def narrowed(d, dtype):
    if dtype.startswith("decimal"):
        dtype = pd.ArrowDtype(pa.decimal128(21, 0))
    return d.astype({"age": dtype, "dose": dtype})


@pytest.mark.parametrize("dtype", NARROW)
@pytest.mark.parametrize(
    "formula",
    ["y ~ age * dose", "y ~ age:dose + I(age^2)", "y ~ np.square(age) + np.log1p(dose)",
     "y ~ 1 + (age:dose | g)", "y ~ I(age * dose) + poly(dose, 2)", "y ~ exp(dose / 60) * age"],
)  # fmt: skip
def test_products_of_narrow_numbers_do_not_overflow(dtype, formula):
    d = doses()
    matrices = []
    for data in (d, narrowed(d, dtype)):
        frame = model_frame(parse_formula(formula), data, env={"np": np})
        parts = [frame.fixed_terms, *(frame.bar_terms(bar) for bar in frame.formula.bars)]
        made = [design(part, frame) for part in parts]
        matrices.append(np.column_stack([m.matrix for m in made]))
        again = np.column_stack([m.spec.apply(data, {"np": np}) for m in made])
        # A polynomial of new data goes by a recurrence, which rounds otherwise.
        np.testing.assert_allclose(again, matrices[-1], rtol=1e-11, atol=1e-14)
    np.testing.assert_array_equal(*matrices)


def as_in_R():
    """The data of values.R."""
    i = np.arange(200)
    d = pd.DataFrame({"age": 18 + (37 * i) % 72, "dose": 1 + (53 * i) % 59, "g": i % 20})
    d["y"] = 0.01 * d.age + 0.0005 * d.age * d.dose + np.sin(i) + np.cos(3 * d.g)
    return d.assign(date=pd.Timestamp("2024-01-01") + pd.to_timedelta(i % 10, unit="D"))


@pytest.mark.parametrize("dtype", ["int64", "int8", "UInt8", "float16"])
@pytest.mark.parametrize(
    ("key", "formula"),
    [
        ("products", "y ~ age * dose + (1 | g)"),
        ("slopes", "y ~ I(age^2 / 1000) + (0 + I(age * dose / 1000) | g)"),
        ("dates", "y ~ date + (1 | g)"),
    ],
)
@pytest.mark.filterwarnings("ignore:boundary", "ignore:Some predictor")
def test_fits_on_narrow_numbers_and_dates_are_those_of_R(key, formula, dtype):
    expected = read_reference("values.json")[key]
    fit = lmer(formula, narrowed(as_in_R(), dtype))
    # lme4 stops when theta is about 1e-5 from the optimum (and says that it has, for the slopes).
    assert fit.objective == pytest.approx(expected["objective"], rel=1e-7)
    for name, value in expected["fixef"].items():
        assert fit.fixef()[name] == pytest.approx(value, rel=2e-4)
    new = doses(1).assign(date=pd.Timestamp("2024-02-01"))
    wide = lmer(formula, as_in_R()).predict(new)
    np.testing.assert_array_equal(fit.predict(narrowed(new, dtype)), wide)


def test_functions_of_numpy_take_booleans_for_numbers():
    # np.exp of booleans is in 16 bits, which gives 2.719 for exp(1).
    frame = model_frame(parse_formula("y ~ np.exp(flag)"), doses(), env={"np": np})
    np.testing.assert_array_equal(frame.variable("np.exp(flag)"), np.exp(doses()["flag"] * 1.0))


def test_whole_numbers_that_lose_digits_as_numbers_are_told_of():
    d = doses().assign(big=lambda d: 2**60 + d.age, even=lambda d: d.age * 2**53)
    with pytest.warns(DataWarning, match=r"'big' holds whole numbers beyond 2\^53"):
        model_frame(parse_formula("y ~ big"), d)
    with pytest.warns(DataWarning, match="'big'"):
        model_frame(parse_formula("big ~ age"), d)


@pytest.mark.filterwarnings("error")
def test_whole_numbers_that_keep_their_digits_pass_in_silence():
    d = doses().assign(big=lambda d: 2**60 + d.age, even=lambda d: d.age * 2**53)
    model_frame(parse_formula("y ~ even + (1 | big)"), d)


# Whole numbers as labels

LONG = [1_200_000_000_000_000_000 + 37 * i for i in range(6)]
HOLES = [None if i == 3 else v for i, v in enumerate(np.repeat(LONG, 20).tolist())]
COMPLETE = np.repeat(LONG, 20).tolist()


def as_decimals(values):
    return [None if v is None else decimal.Decimal(v) for v in values]


CONTAINERS = {
    "list": lambda v: v,
    "tuple": tuple,
    "objects": lambda v: np.array(v, dtype=object),
    "object series": lambda v: pd.Series(v, dtype=object),
    "object with NaN": lambda v: pd.Series([np.nan if x is None else x for x in v], dtype=object),
    "Int64": lambda v: pd.array(v, dtype="Int64"),
    "UInt64": lambda v: pd.array(v, dtype="UInt64"),
    "arrow int64": lambda v: pd.array(v, dtype=pd.ArrowDtype(pa.int64())),
    "arrow uint64": lambda v: pd.array(v, dtype=pd.ArrowDtype(pa.uint64())),
    "arrow decimal": lambda v: pd.array(as_decimals(v), dtype=pd.ArrowDtype(pa.decimal128(21, 0))),
    "decimals": as_decimals,
    "polars column": pl.Series,
    "polars column of Int128": lambda v: pl.Series(v, dtype=pl.Int128),
    "arrow column": pa.array,
    "arrow column in chunks": lambda v: pa.chunked_array([v[:7], v[7:]]),
    "arrow column in runs": lambda v: pc.run_end_encode(pa.array(v)),
    "arrow dictionary": lambda v: pa.array(v).dictionary_encode(),
    "categories": lambda v: pd.Categorical(pd.array(v, dtype="Int64")),
}
FRAMES = {
    "pyarrow": lambda d: pa.table({**d, "g": pa.array(d["g"])}),
    "pyarrow uint64": lambda d: pa.table({**d, "g": pa.array(d["g"], pa.uint64())}),
    "polars": pl.DataFrame,
    "polars Int128": lambda d: pl.DataFrame(d).with_columns(pl.col("g").cast(pl.Int128)),
    "polars UInt64": lambda d: pl.DataFrame(d).with_columns(pl.col("g").cast(pl.UInt64)),
    "polars Decimal": lambda d: pl.DataFrame(d).with_columns(pl.col("g").cast(pl.Decimal(20, 0))),
    "duckdb": lambda d: duckdb.from_arrow(pa.table({**d, "g": pa.array(d["g"])})),
    "duckdb hugeint": lambda d: duckdb.from_arrow(
        pa.table({**d, "g": pa.array(d["g"])})
    ).project("y, cast(g as hugeint) as g"),
}  # fmt: skip
SOURCES = {name: lambda d, f=f: {**d, "g": f(d["g"])} for name, f in CONTAINERS.items()} | FRAMES


@pytest.mark.parametrize("values", [COMPLETE, HOLES], ids=["complete", "with a hole"])
@pytest.mark.parametrize("source", SOURCES.values(), ids=SOURCES.keys())
def test_long_ids_are_exact_in_every_container(source, values):
    y = np.arange(120.0) ** 2
    data = {"y": y.tolist(), "g": values}
    frame = model_frame(parse_formula("y ~ 1 + (1 | g)"), source(data))
    made = grouping(frame.formula.bars[0].group, frame)
    assert made.levels.tolist() == list(map(str, LONG))
    assert list(map(int, made.index)) == LONG
    kept = [v for v in values if v is not None]
    assert [int(made.index[c]) for c in made.codes] == kept
    new = source({"y": [0.0] * 3, "g": [LONG[4], LONG[0], LONG[0] + 1]})
    found = made.spec.codes(new)
    assert found.codes.tolist() == [4, 0, -1]
    assert found.new_levels == (str(LONG[0] + 1),)


@settings(max_examples=30, deadline=None)
@given(st.lists(st.integers(-(2**70), 2**70), min_size=1, max_size=20), st.booleans())
def test_no_two_whole_numbers_share_a_level(values, hole):
    column = Columns({"g": [*values, None] if hole else values})["g"]
    factor = column.factor()
    assert factor.n_levels == len(set(values)) == len(set(factor.levels))
    assert [int(factor.levels[c]) for c in factor.codes[: len(values)]] == values
    assert list(column.as_float()[: len(values)]) == [float(v) for v in values]


@pytest.mark.parametrize(
    "whole", [[*LONG[:2], 3.0, None], [*LONG[:2], np.float32(3.0)], as_decimals(LONG[:2])]
)
def test_ids_beside_other_whole_numbers_keep_their_digits(whole):
    levels = Columns({"g": np.array(whole, dtype=object)})["g"].factor().levels
    assert levels == tuple(str(int(v)) for v in sorted(v for v in whole if v is not None))


def test_ids_that_lost_their_digits_before_are_told_of():
    fit = lmer("y ~ x + (1 | g)", scores(np.repeat(LONG, 20)))
    new = {"x": [0.0, 0.0], "g": [float(LONG[1]), np.nan]}
    with pytest.warns(DataWarning, match=r"beyond 2\^53, such as 1200000000000000000: as ids"):
        fit.predict(new, new_levels="population")


@pytest.mark.parametrize("values", [[10**400, 2], [10**400, 1.5]])
def test_numbers_too_large_to_compute_with_are_refused(values):
    with pytest.raises(DataError, match=r"'x' holds numbers beyond 1.8e308"):
        model_frame(parse_formula("y ~ x"), {"y": [1.0, 2], "x": np.array(values, dtype=object)})


@pytest.mark.filterwarnings("ignore:boundary")
def test_long_ids_find_their_own_random_effects():
    rng = np.random.default_rng(3)
    g = np.repeat(np.arange(6), 20)
    u = np.array([-3, -2, -1, 1, 2, 3.0])
    d = pd.DataFrame(
        {"user": np.array(LONG)[g], "x": rng.normal(size=120), "s": np.tile([0, 1], 60)}
    )
    d["y"] = u[g] + 0.5 * d.x + rng.normal(size=120)
    fit, text = lmer("y ~ x + (1 | user)", d), d.assign(user=d.user.astype(str))
    as_text = lmer("y ~ x + (1 | user)", text)
    assert fit.ranef()["user"].index.tolist() == LONG
    new = pd.DataFrame({"user": LONG[:2], "x": 0.0})
    np.testing.assert_array_equal(
        fit.predict(new), as_text.predict(new.assign(user=new.user.astype(str)))
    )
    np.testing.assert_array_equal(
        fit.predict(new), fit.predict(new.assign(user=new.user.astype(str)))
    )
    with pytest.raises(DataError, match="1200000000000000999 of user"):
        fit.predict(pd.DataFrame({"user": [1_200_000_000_000_000_999], "x": 0.0}))
    assert lmer("y ~ x + (1 | user/s)", d).ngrps().to_dict() == {"s:user": 12, "user": 6}
    fixed = lmer("y ~ factor(user) + (1 | s)", d)
    assert f"factor(user){LONG[1]}" in fixed.fixef().index


@pytest.mark.parametrize(
    ("subset", "n"),
    [
        (f"user == {LONG[1]}", 20),
        (f"{LONG[1]} < user", 80),
        (f"user %in% c({LONG[1]}, {LONG[2]})", 40),
        (f"user != {LONG[1]}", 100),
        ("user == me", 20),
        ("user == copy", 120),
        ("user == text", 120),
        ("user > 0.5", 120),
        ("flag == 1", 60),
    ],
)
def test_whole_numbers_are_compared_exactly(subset, n):
    d = {"user": COMPLETE, "copy": np.array(COMPLETE, dtype=np.uint64), "y": np.arange(120.0)}
    d |= {"text": list(map(str, COMPLETE)), "flag": np.tile([0, 1], 60)}
    frame = model_frame(parse_formula("y ~ 1"), d, subset=subset, env={"me": LONG[1]})
    assert frame.n == n


def test_whole_numbers_beyond_64_bits_are_compared_exactly():
    g = np.array([10**25 + i for i in range(6)], dtype=object)
    frame = model_frame(
        parse_formula("y ~ 1"), {"y": np.arange(6.0), "g": g}, subset=f"g >= {10**25 + 2}"
    )
    assert frame.n == 4


def test_missing_whole_numbers_compare_as_missing():
    frame = model_frame(parse_formula("y ~ I(g < 2)"), {"y": [1.0, 2, 3], "g": [1, None, 3]})
    assert frame.rows.tolist() == [0, 2]


@pytest.mark.parametrize("dtype", ["float64", "Float64"])
def test_floats_that_are_ids_of_16_digits_keep_them(dtype):
    ids = [2**53 - 1.0, 2**53 - 2.0, 2**53 - 3.0]
    factor = model_frame(
        parse_formula("y ~ 1 + (1 | g)"), {"y": [1.0, 2, 3], "g": pd.array(ids, dtype=dtype)}
    ).groups["g"]
    assert factor.levels == ("9007199254740989", "9007199254740990", "9007199254740991")


# Levels as the data hold them


def scores(g, seed=1):
    g = pd.Series(g)
    rng = np.random.default_rng(seed)
    codes = pd.factorize(g)[0]
    noise = rng.normal(size=len(g)) + 3 * rng.normal(size=codes.max() + 1)[codes]
    return pd.DataFrame({"g": g, "x": rng.normal(size=len(g)), "y": noise})


DAYS = pd.date_range("2024-01-01", periods=12)
OWN = {
    "int64": np.arange(12),
    "int8": np.arange(12, dtype=np.int8),
    "Int64": pd.array(range(12), dtype="Int64"),
    "float": np.arange(12) / 4,
    "str": [f"s{i}" for i in range(12)],
    "object": np.array([f"s{i}" for i in range(12)], dtype=object),
    "category of int": pd.Categorical(range(12), categories=range(11, -1, -1)),
    "category of str": pd.Categorical(list("abcdefghijkl")),
    "category of dates": pd.Categorical(DAYS),
    "bool": np.arange(12) % 2 == 0,
    "datetime": DAYS,
    "datetime with zone": DAYS.tz_localize("Europe/Berlin") + pd.Timedelta("13h"),
    "date objects": pd.Series(DAYS.date, dtype=object),
    "arrow dates": pd.Series(DAYS.date).astype(pd.ArrowDtype(pa.date32())),
    "period": pd.period_range("2024-01", periods=12, freq="M"),
    "timedelta": DAYS - DAYS[0],
}


@pytest.mark.filterwarnings("ignore:boundary")
@pytest.mark.parametrize("own", OWN.values(), ids=OWN.keys())
def test_results_are_indexed_by_what_the_data_hold(own):
    d = scores(pd.Series(own).repeat(10).reset_index(drop=True))
    fit = lmer("y ~ x + (1 | g)", d)
    modes, levels = fit.ranef(condVar=True)["g"], d["g"].unique()
    assert set(modes.index) == set(levels)
    assert modes.index.name == "g"
    for table in (modes, fit.coef()["g"], lm_list("y ~ x | g", d).coef()):
        assert not d["g"].map(table["(Intercept)"]).isna().any()
        if not (d["g"].dtype == "category" and d["g"].cat.categories.dtype.kind == "M"):
            # pandas merges no categories of dates with dates
            assert len(d.merge(table, left_on="g", right_index=True)) == len(d)
    by_row = d["g"].map(modes["(Intercept)"]).to_numpy(dtype=float)
    np.testing.assert_allclose(fit.predict() - fit.predict(re_form="~0"), by_row, atol=1e-12)
    augmented = fit.augment()
    assert augmented["g"].dtype == d["g"].dtype
    assert (augmented["g"].to_numpy() == d["g"].to_numpy()).all()
    np.testing.assert_array_equal(fit.predict(d.head(30)), fit.predict().head(30))
    np.testing.assert_array_equal(pickle.loads(pickle.dumps(fit)).predict(d), fit.predict())
    frame = fit.ranef(condVar=True).to_frame()
    assert set(frame["grp"]) == set(levels)


def test_labels_are_Rs_where_text_is_asked_for():
    fit = lmer(
        "y ~ factor(g) + (1 | h)", scores(np.repeat([1, 2, 10], 40)).assign(h=np.arange(120) % 8)
    )
    assert list(fit.fixef().index) == ["(Intercept)", "factor(g)2", "factor(g)10"]


@pytest.mark.parametrize(
    "group",
    ["factor(g)", "as.factor(g)", 'relevel(factor(g), "3")', "ordered(g, levels = c(3, 1, 2))"],
)
def test_functions_that_arrange_levels_keep_what_the_data_hold(group):
    d = scores(np.repeat([1, 2, 3], 40))
    index = lmer(f"y ~ x + (1 | {group})", d).ranef()[group].index
    assert sorted(index) == [1, 2, 3]
    assert not d["g"].map(pd.Series(1.0, index)).isna().any()


def test_new_names_of_levels_are_their_own():
    d = scores(np.repeat([1, 2], 60))
    fit = lmer("y ~ x + (1 | factor(g, labels = c('low', 'high')))", d)
    assert next(iter(fit.ranef().values())).index.tolist() == ["low", "high"]


def test_levels_with_colons_do_not_merge():
    grid = pd.MultiIndex.from_product(
        [["x:y", "x"], ["z", "y:z"], range(20)], names=["a", "c", "r"]
    )
    d = grid.to_frame(index=False)
    d["id"] = d.groupby(["a", "c"]).ngroup().astype(str)
    rng = np.random.default_rng(1)
    d["y"] = np.array([-3.0, -1, 1, 3])[d["id"].astype(int)] + rng.normal(size=80)
    fit, right = lmer("y ~ 1 + (1 | a:c)", d), lmer("y ~ 1 + (1 | id)", d)
    assert fit.ngrps().to_dict() == {"a:c": 4}
    assert fit.objective == pytest.approx(right.objective, rel=1e-12)
    np.testing.assert_allclose(fit.predict(d), right.predict(d), rtol=1e-9)
    labels = fit.ranef()["a:c"].index
    assert labels.is_unique
    assert set(labels) == {'x:"y:z"', "x:z", '"x:y":"y:z"', '"x:y":z'}
    np.testing.assert_array_equal(d.assign(y=0)["a"].eq("x").sum(), 40)
    assert fit.coef()["a:c"].loc['"x:y":z', "(Intercept)"] == pytest.approx(
        right.coef()["id"].iloc[3, 0], rel=1e-6
    )


# Times


def test_labels_and_numbers_of_dates_are_those_of_R():
    expected = read_reference("values.json")
    frame = model_frame(parse_formula("y ~ date + (1 | date)"), as_in_R())
    assert list(frame.groups["date"].levels) == expected["date_levels"]
    assert sorted(set(frame.variable("date"))) == expected["date_numbers"]


def dated(convert=lambda dates: dates):
    rng = np.random.default_rng(1)
    dates = DAYS[:10].take(np.tile(np.arange(10), 12))
    y = (
        rng.normal(size=120)
        + np.tile(np.linspace(0, 4, 10), 12)
        + np.repeat(rng.normal(size=12), 10)
    )
    return pd.DataFrame(
        {"y": y, "u": np.arange(120) // 10, "day": np.tile(np.arange(10), 12)}
    ).assign(date=convert(dates))


def polars_dates(**zone):
    def make(d):
        stamps = pl.Series("date", d["date"].to_numpy().astype("M8[us]"))
        if zone:
            stamps = stamps.dt.replace_time_zone(zone["zone"])
        return pl.DataFrame({"y": d["y"].to_numpy(), "u": d["u"].to_numpy(), "date": stamps})

    return make


TIMES = {
    "datetime64[ns]": lambda: dated(lambda t: t.as_unit("ns")),
    "datetime64[s]": lambda: dated(lambda t: t.as_unit("s")),
    "numpy days": lambda: {**dated().to_dict("series"), "date": dated()["date"].to_numpy("M8[D]")},
    "with zone": lambda: dated(lambda t: t.tz_localize("UTC")),
    "date objects": lambda: dated(lambda t: pd.Series(t.date, dtype=object)),
    "datetime objects": lambda: dated(lambda t: pd.Series(t.to_pydatetime(), dtype=object)),
    "list of dates": lambda: {**dated().to_dict("list"), "date": [*dated()["date"].dt.date]},
    "arrow in pandas": lambda: dated(lambda t: t.astype("timestamp[us][pyarrow]")),
    "arrow dates in pandas": lambda: dated(
        lambda t: pd.Series(t.date).astype(pd.ArrowDtype(pa.date32()))
    ),
    "period": lambda: dated(lambda t: t.to_period("D")),
    "pyarrow": lambda: pa.Table.from_pandas(dated()),
    "pyarrow date": lambda: pa.Table.from_pandas(dated(lambda t: pd.Series(t.date))),
    "polars": lambda: polars_dates()(dated()),
    "polars with zone": lambda: polars_dates(zone="UTC")(dated()),
    "polars date": lambda: polars_dates()(dated()).with_columns(pl.col("date").cast(pl.Date)),
    "duckdb": lambda: duckdb.from_arrow(pa.Table.from_pandas(dated())),
}  # fmt: skip


@pytest.mark.parametrize("data", TIMES.values(), ids=TIMES.keys())
def test_dates_are_groups_factors_and_numbers(data):
    def values(formula, **arguments):
        frame = model_frame(parse_formula(formula), data(), **arguments)
        return frame, design(frame.fixed_terms, frame)

    frame, _ = values("y ~ 1 + (1 | date)")
    made = grouping(frame.formula.bars[0].group, frame)
    # as.character(as.Date("2024-01-01") + 0:9) in R
    assert made.levels.tolist() == [f"2024-01-{i:02d}" for i in range(1, 11)]
    np.testing.assert_array_equal(made.codes, dated()["day"])
    assert values("y ~ factor(date)")[1].names[1] == "factor(date)2024-01-02"
    # as.numeric(as.Date("2024-01-01")) is 19723
    for formula in ("y ~ date", "y ~ as.numeric(date)", "y ~ I(date)"):
        np.testing.assert_array_equal(values(formula)[1].matrix[:, 1], 19723.0 + dated()["day"])
    for subset in ("date > '2024-01-05'", "'2024-01-05' < date", "date >= cut", "date > end"):
        env = {"cut": pd.Timestamp("2024-01-06"), "end": datetime.date(2024, 1, 5)}
        assert values("y ~ 1", subset=subset, env=env)[0].n == 60
    assert values("y ~ 1", subset="date %in% c('2024-01-05', '2024-01-07')")[0].n == 24
    assert values("y ~ 1", subset="date == '2024-01-05'")[0].n == 12
    found = made.spec.codes({"date": ["2024-01-03", "2030-01-01"]})
    assert (found.codes.tolist(), found.new_levels) == ([2, -1], ("2030-01-01",))


def test_a_fit_by_date_is_that_by_day():
    d = dated()
    by_day, by_date = (lmer(f"y ~ {v} + (1 | {v}) + (1 | u)", d) for v in ("day", "date"))
    assert by_date.objective == pytest.approx(by_day.objective, rel=1e-10)
    assert by_date.fixef()["date"] == pytest.approx(by_day.fixef()["day"], rel=1e-8)
    new = d.head(12)
    np.testing.assert_allclose(by_date.predict(new), by_day.predict(new), rtol=1e-8)
    assert by_date.predict(pd.DataFrame({"date": [pd.NaT], "u": [1]}), re_form="~0").isna().all()


def test_durations_are_days():
    d = dated().assign(wait=lambda d: pd.to_timedelta(d["day"] * 12, unit="h"))
    frame = model_frame(parse_formula("y ~ wait + (1 | wait)"), d)
    np.testing.assert_array_equal(frame.variable("wait"), d["day"] / 2)
    assert frame.groups["wait"].levels[:3] == ("0 days", "0 days 12:00:00", "1 days")
    assert model_frame(parse_formula("y ~ 1"), d, subset="wait > '2 days'").n == 60
    assert model_frame(parse_formula("y ~ 1"), d, subset="wait > 2").n == 60


def test_times_of_day_and_missing_ones():
    hours = pd.Series(pd.date_range("2024-01-01", periods=4, freq="6h")).where(np.arange(4) != 2)
    frame = model_frame(parse_formula("y ~ t + (1 | t)"), {"y": np.arange(4.0), "t": hours})
    assert frame.rows.tolist() == [0, 1, 3]
    np.testing.assert_allclose(frame.variable("t"), 19723.0 + np.array([0, 0.25, 0.75]))
    levels = frame.groups["t"].levels
    assert levels == ("2024-01-01", "2024-01-01 06:00:00", "2024-01-01 18:00:00")
    assert (
        model_frame(
            parse_formula("y ~ 1"), {"y": np.arange(4.0), "t": hours}, subset="t != '2024-01-01'"
        ).n
        == 2
    )


def test_a_function_of_the_caller_gets_times_as_the_data_hold_them():
    frame = model_frame(
        parse_formula("y ~ weekday(date)"), dated(), env={"weekday": lambda t: t.day_of_week}
    )
    np.testing.assert_array_equal(frame.variable("weekday(date)"), dated()["day"] % 7)


@pytest.mark.parametrize(
    ("formula", "subset", "error", "part"),
    [
        ("date ~ u", None, DataError, "response must be numeric, but date holds datetime64"),
        (
            "y ~ u",
            "date > 'soon'",
            FormulaError,
            "'soon' is compared with date, but cannot be read",
        ),
        ("y ~ u", "date > aware", DataError, "a time without a time zone, cannot be compared with"),
        ("y ~ u", "date > wait", DataError, "cannot be compared with a duration"),
        ("y ~ u", "wait > 'x'", FormulaError, "expected a duration such as '2 days'"),
    ],
)
def test_times_that_cannot_be_used_are_named(formula, subset, error, part):
    d = dated().assign(
        wait=lambda d: d["date"] - d["date"].min(), aware=lambda d: d["date"].dt.tz_localize("UTC")
    )
    with pytest.raises(error) as caught:
        model_frame(parse_formula(formula), d, subset=subset)
    assert part in str(caught.value)


@pytest.mark.parametrize("argument", ["weights", "offset"])
def test_dates_are_no_weights(argument):
    with pytest.raises(DataError, match="datetime64"):
        model_frame(parse_formula("y ~ u"), dated(), **{argument: dated()["date"]})


# Frames that are read when they are asked for


class Stream:
    """Something with nothing but ``__arrow_c_stream__``."""

    def __init__(self, table):
        self.table = table

    def __arrow_c_stream__(self, requested_schema=None):
        return self.table.__arrow_c_stream__(requested_schema)


def sleep():
    return load_dataset("sleepstudy").astype({"Subject": str}).assign(ballast=1.0)


LAZY = {
    "polars": lambda d: pl.from_pandas(d).lazy(),
    "duckdb": duckdb.from_df,
    "stream": lambda d: Stream(pa.Table.from_pandas(d)),
    "reader": lambda d: pa.Table.from_pandas(d).to_reader(),
}


@pytest.mark.filterwarnings("ignore:fixed-effect model matrix is rank deficient")
@pytest.mark.parametrize("make", ["stream", "reader"])
def test_streams_are_read_once_the_needed_columns_alone(make):
    make = LAZY[make]
    formula, plain = "Reaction ~ Days + (Days | Subject)", sleep()
    expected = lmer(formula, plain, weights="Days + 1", subset="Days < 8")
    fit = lmer(formula, make(plain), weights="Days + 1", subset="Days < 8")
    assert fit.objective == expected.objective
    assert list(Columns(fit._fit.call.data).names) == ["Reaction", "Days", "Subject"]
    again = pickle.loads(pickle.dumps(fit))
    assert again.update(". ~ . - Days").nobs == expected.nobs
    with pytest.raises(FormulaError, match=r"'ballast'.*its data were collected for it"):
        fit.update(". ~ . + ballast")
    assert fit.update(". ~ . + ballast", data=plain).nobs == expected.nobs
    np.testing.assert_array_equal(fit.predict(make(plain)), expected.predict(plain))
    assert fit.augment()["Subject"].tolist() == expected.augment()["Subject"].tolist()


def test_the_dot_of_a_lazy_frame_is_every_column():
    frame = pl.DataFrame({"y": np.arange(8.0) ** 2, "x": np.arange(8.0), "z": [1.0, 2] * 4}).lazy()
    assert model_frame(parse_formula("y ~ ."), frame).fixed_terms.labels == ("x", "z")


# Names that are no columns


@pytest.mark.parametrize(
    ("change", "formula", "part"),
    [
        (
            lambda d: d.set_axis(pd.MultiIndex.from_product([["A"], d.columns]), axis=1),
            "y ~ u",
            "the columns have 2 levels of names, such as ('A', 'y')",
        ),
        (lambda d: d.set_axis(range(4), axis=1), "`3` ~ `1`", "df.columns.map(str)"),
        (lambda d: d.set_index("u"), "y ~ u", "'u' is in the index of the data"),
        (lambda d: d.set_index("u"), "y ~ day + (1 | u)", "data.reset_index()"),
        (lambda d: d, "y ~ dya", "did you mean 'day'?"),
    ],
)
def test_names_that_are_no_columns_say_what_to_do(change, formula, part):
    with pytest.raises(FormulaError) as caught:
        model_frame(parse_formula(formula), change(dated()))
    assert part in str(caught.value)


# Names in backticks


@pytest.fixture(scope="module")
def spaced():
    s = load_dataset("sleepstudy").rename(columns={"Days": "test day", "Subject": "the subject"})
    s["a f"] = np.arange(180) % 3
    formula = "Reaction ~ `test day` + factor(`a f`) + (`test day` | `the subject`)"
    return lmer(formula, s), s


def test_groups_have_bare_names_and_coefficients_those_of_R(spaced):
    fit, _ = spaced
    names = read_reference("values.json")["names"]
    assert list(fit.ranef()) == list(fit.coef()) == names["ranef"]
    assert list(fit.ngrps().index) == names["ngrps"]
    assert list(fit.ranef()["the subject"]) == names["columns"]
    assert list(fit.fixef().index)[:2] == names["fixef"]
    assert fit.VarCorr().to_frame()["grp"].tolist() == names["grp"]
    columns = list(fit.augment())
    assert columns[:5] == ["Reaction", "test day", "factor(`a f`)", "a f", "the subject"]


def test_names_are_found_with_backticks_and_without(spaced):
    fit, data = spaced
    for name in ("test day", "`test day`"):
        for hypothesis in (f"{name} = 0", f"2 * {name}", {name: 1.0}):
            p = fit.contest(hypothesis).to_frame().to_numpy()
            np.testing.assert_allclose(p, fit.contest("`test day`").to_frame().to_numpy())
        assert fit.confint(name, method="wald").shape == (1, 2)
        assert delta_method(fit, name).frame["estimate"].tolist() == [fit.fixef()["`test day`"]]
        assert list(fit.drop1(name).index)[-1] == "`test day`"
    for name in ("the subject", "`the subject`"):
        y = fit.simulate(seed=1, new_params={"sd": {name: [1.0, 2.0]}, "beta": {"test day": 3.0}})
        assert len(y) == 180
        sd = fit.simulate(
            seed=1, new_params={f"sd_(Intercept)|{name}": 3.0, f"sd_test day|{name}": 1.0}
        )
        assert len(sd) == 180
    mode = fit.predict(data.head(2), re_form="~ (1 | `the subject`)")
    assert len(mode) == 2
    s = data.astype({"a f": str})
    by_sum = [lmer("Reaction ~ `a f` + (1 | `the subject`)", s, contrasts={name: "sum"}).fixef()
              for name in ("a f", "`a f`")]  # fmt: skip
    pd.testing.assert_series_equal(*by_sum)
    assert list(by_sum[0].index) == ["(Intercept)", "`a f`1", "`a f`2"]


@pytest.mark.parametrize("names", [("my w", "my o"), ("a:b", "Days - 1"), ("if", "2o")])
def test_weights_and_offsets_by_bare_names_of_columns(names):
    s = load_dataset("sleepstudy")
    s["w"], s["o"] = 1 + np.arange(180) % 3, np.sqrt(np.arange(180))
    plain = lmer("Reaction ~ Days + (1 | Subject)", s, weights="w", offset="o")
    data = s.rename(columns=dict(zip("wo", names, strict=True)))
    data["a"] = data["b"] = 1.0
    fit = lmer("Reaction ~ Days + (1 | Subject)", data, weights=names[0], offset=names[1])
    assert fit.objective == plain.objective
    pd.testing.assert_series_equal(fit.predict(data.tail(3)), plain.predict(s.tail(3)))
    pd.testing.assert_series_equal(fit.augment()[".offset"], plain.augment()[".offset"])
    drawn = fit.simulate(1, seed=1, newdata=data)
    pd.testing.assert_frame_equal(drawn, plain.simulate(1, seed=1, newdata=s))
    assert fit.update(". ~ . - Days").objective == plain.update(". ~ . - Days").objective
    lazy = lmer("Reaction ~ Days + (1 | Subject)", duckdb.from_df(data), weights=names[0])
    assert lazy.nobs == 180


@pytest.mark.parametrize("rows", [pd.DataFrame, duckdb.from_df])
def test_text_that_cannot_be_read_is_called_by_its_argument(rows):
    s = load_dataset("sleepstudy").assign(**{"my day": lambda d: d["Days"] > 1})
    formula, data = "Reaction ~ Days + (1 | Subject)", rows(s)
    assert lmer(formula, data, subset="my day").nobs == 144
    for name, text in {
        "weights": "2 my w",
        "subset": "my day > 0",
        "offset": ["Days", "a b"],
    }.items():
        with pytest.raises(FormulaError, match=f"cannot read {name} as.* in backticks, as in `"):
            lmer(formula, data, **{name: text})
    with pytest.raises(
        FormulaError, match=r"cannot read the formula.*in backticks, as in `my day`"
    ):
        lmer("Reaction ~ log(my day) + (1 | Subject)", data)


def test_methods_call_text_that_cannot_be_read_by_its_argument():
    fit = lmer("Reaction ~ Days + (1 | Subject)", load_dataset("sleepstudy"))
    with pytest.raises(FormulaError, match="cannot read specs"):
        fit.emmeans("Days |")
    with pytest.raises(FormulaError, match="cannot read var as an expression"):
        fit.emtrends("Days +", "1")
    with pytest.raises(FormulaError, match="cannot read groups as an expression"):
        fit.influence(groups="a b")


# Everything that a fit is made of


def test_augment_holds_every_variable():
    cake = load_dataset("cake").assign(flag=lambda d: d["temp"] > 200, e=1.0, n=np.arange(270))
    formula = "log(angle) ~ recipe + flag + poly(temp, 2) + offset(e) + (n | recipe:replicate)"
    made = lmer(formula, cake, weights=np.full(270, 2.0)).augment()
    for name in ("angle", "recipe", "flag", "temp", "e", "n", "replicate"):
        pd.testing.assert_series_equal(made[name], cake[name])
    assert made["recipe:replicate"].tolist()[:2] == ["A:1", "A:1"]
    assert made["log(angle)"].tolist() == np.log(cake["angle"]).tolist()
    assert set(made[".weights"]) == {2.0}
    assert set(made[".offset"]) == {1.0}
    counts = glmer(
        "cbind(incidence, size - incidence) ~ period + (1 | herd)", load_dataset("cbpp"), "binomial"
    )
    cbpp = counts.augment()
    for name in ("incidence", "size", "period", "herd"):
        pd.testing.assert_series_equal(cbpp[name], load_dataset("cbpp")[name], check_dtype=False)
    refitted = lmer(formula, cake).refit(np.arange(270.0) % 7).augment()
    assert "angle" not in refitted  # the new response was not made of it
    assert set(refitted[".weights"]) == {1.0}
    assert set(lmer("angle ~ 1 + (1 | recipe:replicate)", cake).augment()[".offset"]) == {0.0}


@pytest.mark.parametrize("make", [pl.from_pandas, pa.Table.from_pandas], ids=["polars", "pyarrow"])
def test_augment_of_other_frames(make):
    d = dated().assign(
        c=lambda d: pd.Categorical(d["u"].astype(str)), k=lambda d: d["day"].astype("Int64")
    )
    d.loc[3, "k"] = pd.NA
    made = lmer("y ~ date + k + (1 | c)", make(d), na_action="exclude").augment()
    assert made["c"].astype(str).tolist() == d["c"].astype(str).tolist()
    assert made["k"].equals(d["k"])
    assert (made["date"] == d["date"]).all()


def test_declared_levels_have_coefficients_in_simulations_alone():
    d = pd.DataFrame(
        {"cat": pd.Categorical(np.tile(["a", "b"], 15), list("abc")), "g": np.arange(30) % 6}
    )
    truth = {"beta": {"(Intercept)": 0, "catb": 1.2, "catc": 1.1}, "sd": {"g": [1]}, "sigma": 1}
    whole = simulate_from("~ cat + (1|g)", d, truth, seed=1)
    assert len(whole) == 30
    assert len(simulate_from("~ cat + (1|g)", d[d["cat"] == "a"], truth, seed=1)) == 15
    text = "~ factor(cat, levels = c('a', 'b', 'c')) + (1|g)"
    named = {"beta": [0, 1.2, 1.1], "sd": {"g": [1]}, "sigma": 1}
    again = simulate_from(text, d.astype({"cat": str}), named, seed=1)
    np.testing.assert_array_equal(whole, again)
    fit = lmer("y ~ cat + (1|g)", d.assign(y=whole.to_numpy()))
    assert list(fit.fixef().index) == ["(Intercept)", "catb"]  # as R's model.frame has it


def test_a_missing_group_is_a_new_level():
    fit = lmer("Reaction ~ Days + (Days | Subject)", load_dataset("sleepstudy"))
    new = pd.DataFrame({"Days": [1.0, 1.0, np.nan], "Subject": ["308", None, None]})
    with pytest.raises(DataError, match="new levels detected in newdata: NA of Subject"):
        fit.predict(new)
    population = fit.predict(new, new_levels="population")
    expected = read_reference("values.json")["missing_group"]
    # lme4's theta is about 1e-5 from the optimum.
    np.testing.assert_allclose(population[:2], expected, rtol=1e-6)
    assert np.isnan(population[2])
    assert fit.predict(new, new_levels="missing").isna().tolist() == [False, True, True]
    out = fit.predict(new, new_levels="population", interval="prediction")
    unseen = fit.predict(
        new.assign(Subject=["308", "x", "x"]), new_levels="population", interval="prediction"
    )
    pd.testing.assert_frame_equal(out, unseen)


def test_exact_whole_numbers_act_as_numbers_in_arrays():
    column = Columns({"k": np.array([1, 2, 3], dtype=np.int8)})["k"]
    assert isinstance(column, Integers)
    np.testing.assert_array_equal(np.asarray(column, dtype=float) * 100, [100.0, 200, 300])
    np.testing.assert_array_equal(np.exp(column), np.exp([1.0, 2, 3]))


@pytest.mark.parametrize("levels", [[1, 2], ["no", "yes"], [False, True], [0.5, 1.5]])
def test_a_response_of_two_levels_is_simulated_and_refitted_as_such(levels):
    d = scores(np.repeat(np.arange(8), 15)).assign(h=np.arange(120) % 8)
    d["r"] = pd.Categorical(np.array(levels)[(d["y"] > 0).astype(int)], levels)
    fit = glmer("r ~ x + (1 | h)", d, "binomial", control=None)
    drawn = fit.simulate(2, seed=1)
    assert drawn["sim_1"].dtype == d["r"].dtype
    one, many = fit.refit(drawn["sim_1"]), fit.refit(drawn)
    assert one.loglik == pytest.approx(many[0].loglik, rel=1e-8)


@pytest.mark.parametrize(
    "missing",
    [
        pd.DataFrame({"x": [None, None]}),
        {"x": [None, None]},
        {"x": np.array([None, None])},
        {"x": pd.array([None, None], dtype="Int64")},
        pl.DataFrame({"x": [None, None]}),
        pa.table({"x": pa.nulls(2)}),
        pd.DataFrame({"x": pd.array([None, None], dtype=pd.ArrowDtype(pa.null()))}),
    ],
    ids=lambda v: type(v).__module__.split(".")[0],
)
def test_a_column_without_a_value_is_missing_whatever_it_would_be(missing):
    d = scores(np.repeat(list("abcdef"), 20)).assign(f=np.tile(["u", "v"], 60))
    fit = lmer("y ~ x + f + (1 | g)", d)
    columns = Columns(missing)
    both = {"x": columns["x"], "f": ["u", "v"], "g": ["a", "b"]}
    assert fit.predict(both).isna().all()
    both = {"x": [1.0, 2.0], "f": columns["x"], "g": columns["x"]}
    assert fit.predict(both, new_levels="population").isna().all()
    both["f"] = ["u", "v"]
    population = fit.predict(both, re_form="~0")
    np.testing.assert_array_equal(fit.predict(both, new_levels="population"), population)


def test_new_data_may_be_lazy_too():
    plain = sleep()
    fit = lmer("Reaction ~ Days + (Days | Subject)", plain)
    for make in LAZY.values():
        drawn = fit.simulate(seed=1, newdata=make(plain))
        np.testing.assert_array_equal(drawn, fit.simulate(seed=1, newdata=plain))
        assert (
            len(simulate_from("~ Days + (1 | Subject)", make(plain), truth_of(fit), seed=1)) == 180
        )
    separate = lm_list("Reaction ~ Days | Subject", pl.from_pandas(plain).lazy())
    np.testing.assert_array_equal(
        separate.predict(pl.from_pandas(plain).lazy()), separate.predict(plain)
    )


def truth_of(fit):
    return {"beta": fit.beta, "sd": {"Subject": 1.0}, "sigma": fit.sigma}


def test_categories_with_one_label_are_refused():
    mixed = pd.Categorical([1, "1"] * 6)
    with pytest.raises(DataError, match="column 'g' has categories of several types with one"):
        model_frame(parse_formula("y ~ 1 + (1 | g)"), {"y": np.arange(12.0), "g": mixed})


# Columns of other libraries in a dict

WITHOUT_FIRST = [None, *(datetime.date(2024, 1, 1 + i // 2) for i in range(1, 24))]
RESPONSE = np.sin(np.arange(24.0) ** 2) + np.arange(24) % 2 + np.repeat([0.0, 2, 4], 8)
ALONE = {
    "polars dates": (pl.Series(WITHOUT_FIRST), WITHOUT_FIRST),
    "arrow dates of 64 bits": (pa.array(WITHOUT_FIRST, pa.date64()), WITHOUT_FIRST),
    "polars Enum": (pl.Series([None, *"babababaab" * 2, *"baa"], dtype=pl.Enum(["b", "a"])), "ba"),
}


@pytest.mark.parametrize("container", ALONE)
def test_columns_of_other_libraries_in_a_dict(container):
    column, values = ALONE[container]
    fit = lmer("y ~ 1 + (1 | g)", {"y": RESPONSE, "g": column}, REML=False)
    assert fit.nobs == 23
    found = fit.ranef()["g"].index.tolist()
    days = [v.date() if isinstance(v, datetime.datetime) else v for v in found]
    assert days == [v for v in dict.fromkeys(values) if v is not None]
    assert fit.augment()["g"].isin(found).all()


@pytest.mark.parametrize("made", [pl.Series, pa.array])
def test_a_subset_of_another_library(made):
    data, wanted = {"y": RESPONSE, "g": np.arange(24) % 4}, np.arange(24) > 5
    by_hand = lmer("y ~ 1 + (1 | g)", data, subset=wanted).objective
    with_missing = [None, *wanted[1:].tolist()]
    for values in (wanted, np.flatnonzero(wanted), with_missing):
        assert lmer("y ~ 1 + (1 | g)", data, subset=made(values)).objective == by_hand
