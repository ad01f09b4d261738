"""Every kind of column, and every kind of function, from an engine and in memory: one frame.

A table of 61 rows is read in batches of some 20, sorted so that batches have different levels. The
frame in memory is that of the same rows as the engine gives them to pyarrow.
"""

import datetime
import decimal
import warnings
from functools import cache

import duckdb
import ibis
import numpy as np
import polars as pl
import pyarrow as pa
import pytest

from mixef.errors import DataError, MixefError
from mixef.terms.factor import Factor, factor_from_logical
from mixef.terms.fixed import design
from mixef.terms.formula import parse_formula
from mixef.terms.frame import model_frame
from mixef.terms.random import random_terms
from mixef.terms.relation import engines
from mixef.terms.relation.frame import relation_frame
from mixef.terms.relation.relation import relation_of
from mixef.terms.values import Matrix

N = 61
DAY = datetime.date(2024, 2, 27)


def table():
    """Columns of all types that Arrow and the engines know, most with something missing."""
    rng = np.random.default_rng(11)
    k = np.arange(N)

    def holed(values, *at):
        return [None if i in at else v for i, v in enumerate(values)]

    third = (k // 6).tolist()
    columns = {
        "y": rng.normal(size=N),
        "x": pa.array(holed(rng.normal(size=N).tolist(), 5)),
        "nan": pa.array([float("nan") if i in (7, 44) else v for i, v in enumerate(k / 7)]),
        "steps": (k % 3) * 0.1 + np.where(k % 2, 0.2, 0.1 + 1e-17) + np.where(k > 40, 5e-17, 0),
        "tiny": pa.array(holed((k % 5).tolist(), 3), pa.int8()),
        "late": pa.array(holed((k // 6).tolist(), 60), pa.int16()),
        "narrow": pa.array(k % 4, pa.uint8()),
        "big": pa.array([2**60 + v for v in third], pa.int64()),
        "wide": pa.array(holed([2**63 + v if v > 5 else v for v in third], 9), pa.uint64()),
        "ones": pa.array([1] * N),
        "flag": pa.array(holed([bool(v % 2) for v in k.tolist()], 50)),
        "full": pa.array([bool(v % 3) for v in k.tolist()]),
        "price": pa.array([decimal.Decimal(v) / 4 for v in third], pa.decimal128(12, 2)),
        "cents": pa.array([decimal.Decimal(v) for v in third], pa.decimal128(12, 2)),
        "id": pa.array([decimal.Decimal(10) ** 20 + v for v in third], pa.decimal128(38, 0)),
        "text": pa.array(holed([f"L{v % 11}" for v in third], 8)),
        "more": pa.array([f"{'a:b' if v % 2 else 'a'}{v}" for v in third]),
        "rest": pa.array([("b:" if v % 3 else 'q"') + str(v % 2) for v in k.tolist()]),
        "digits": pa.array([str(10 - v) for v in third]),
        "nulls": pa.array([None] * N, pa.string()),
        "void": pa.array([None] * N, pa.float64()),
        "day": pa.array(holed([DAY + datetime.timedelta(v) for v in third], 4)),
        "stamp": pa.array(
            [datetime.datetime(2024, 1, 1) + datetime.timedelta(hours=12 * v) for v in third],
            pa.timestamp("us"),
        ),
        "w": pa.array(holed((k % 4).astype(float).tolist(), 12)),
        "select": pa.array(rng.normal(size=N)),
        "a b": pa.array(rng.normal(size=N)),
        'q"u': pa.array(rng.normal(size=N)),
        "a.b": pa.array(rng.normal(size=N)),
        "Größe": pa.array(rng.normal(size=N)),
        "alone": pa.array(["x" if v == 60 else "y" for v in k.tolist()]),
        "lost": pa.array(["gone" if v == 5 else f"s{v % 2}" for v in k.tolist()]),
        "inf": pa.array([float("inf") if v == 33 else float(v) for v in k.tolist()]),
        "when": pa.array([datetime.time(v % 24) for v in k.tolist()]),
        "list": pa.array([[v] for v in k.tolist()]),
    }
    return pa.table(columns)


TABLE = table()


def of_polars(t):
    """A lazy frame, with what polars alone has: durations, categories, enumerations, zones."""
    frame = pl.from_arrow(t)
    more = [
        pl.duration(days=pl.col("late").cast(pl.Int64)).alias("long"),
        pl.col("text").cast(pl.Categorical).alias("category"),
        pl.col("text").cast(pl.Enum([f"L{v}" for v in range(12, -1, -1)])).alias("enum"),
        pl.col("big").cast(pl.Int128).alias("wider"),
        pl.col("stamp").dt.replace_time_zone("Europe/Berlin").alias("zoned"),
    ]
    return frame.with_columns(more).lazy()


def of_duckdb(t):
    """A relation of a connection of its own, with an enumeration and integers of 128 bits."""
    connection = duckdb.connect()
    connection.register("t", t)
    levels = ", ".join(f"'L{v}'" for v in range(12, -1, -1))
    connection.execute(f"create type l as enum ({levels})")
    return connection.sql("select *, text::l as enum, big::hugeint as wider from t")


def of_ibis(t):
    return ibis.memtable(t)


ENGINES = {"duckdb": of_duckdb, "polars": of_polars, "ibis": of_ibis}


@pytest.fixture(scope="module", params=ENGINES)
def relation(request):
    return relation_of(ENGINES[request.param](TABLE))


@pytest.fixture(scope="module", params=["duckdb", "polars"])
def either(request):
    return relation_of(ENGINES[request.param](TABLE))


@pytest.fixture(autouse=True)
def small_batches(monkeypatch):
    monkeypatch.setattr(engines, "BATCH", 20)


def outcome(make):
    """What a call gives, its error, and its warnings."""
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        try:
            made, error = make(), None
        except MixefError as failed:
            made, error = None, failed
    return made, error, sorted({str(w.message) for w in caught})


@cache
def collected(relation):
    source = relation.source
    return source.collect() if isinstance(source, pl.LazyFrame) else relation.collect()


def both(formula, relation, **arguments):
    """The frames of a formula, in an engine and in memory, or one error."""
    parsed = parse_formula(formula)
    whole = collected(relation)
    there, error, told = outcome(lambda: relation_frame(parsed, relation, **arguments))
    here, expected, tells = outcome(lambda: model_frame(parsed, whole, **arguments))
    assert (error is None) == (expected is None), (error, expected)
    if expected is not None:
        assert type(error) is type(expected)
        assert str(error) == str(expected)
        return None, None
    told = [text.replace(there.relation.engine, "memory") for text in told]
    assert told == tells
    return there, here


def values(variable):
    """A variable as plain values row by row."""
    if isinstance(variable, np.ndarray) and variable.dtype.kind == "b":
        variable = factor_from_logical(variable)
    if isinstance(variable, Factor):
        return variable.values()
    return variable.array if isinstance(variable, Matrix) else np.asarray(variable, dtype=float)


def assert_same(there, here):
    """Compare what two frames know, and their rows."""
    assert there.n == here.n
    assert there.n_input == here.n_input
    assert there.left_out == here.left_out
    assert there.dot_columns == here.dot_columns
    assert list(there.variables) == list(here.variables)
    for known, expected in ((there.variables, here.variables), (there.groups, here.groups)):
        for text, variable in expected.items():
            if isinstance(variable, Factor):
                assert known[text].levels == variable.levels, text
                assert known[text].ordered == variable.ordered
                assert known[text].kind == variable.kind
    batches = list(there.batches())
    assert len(batches) > 1 or there.n < 10
    for text in here.variables:
        rows = np.concatenate([values(b.variables[text]) for b in batches])
        expected = values(here.variables[text])
        if rows.dtype == object:
            assert rows.tolist() == expected.tolist(), text
        else:
            np.testing.assert_allclose(rows, expected, rtol=1e-13, atol=1e-13, err_msg=text)
    for name in ("weights", "offset"):
        if (expected := getattr(here, name)) is not None:
            rows = np.concatenate([getattr(b, name) for b in batches])
            np.testing.assert_allclose(rows, expected, rtol=1e-13)
    return batches


def assert_same_designs(there, here):
    batches = assert_same(there, here)
    mine, own = design(there.fixed_terms, there), design(here.fixed_terms, here)
    assert mine.names == own.names
    X = np.vstack([mine.spec.build(b.variables, b.n) for b in batches])
    np.testing.assert_allclose(X, own.matrix, rtol=1e-12, atol=1e-12)
    for mine, own in zip(random_terms(there, None), random_terms(here, None), strict=True):
        assert mine.grouping.level_set.labels == own.grouping.level_set.labels
        kinds = {t.grouping.level_set.index.dtype.kind for t in (mine, own)}
        assert len(kinds) == 1
        codes = np.concatenate([b.group(mine.grouping.nodes).codes for b in batches])
        np.testing.assert_array_equal(codes, own.grouping.codes)
        z = np.vstack([mine.design.spec.build(b.variables, b.n) for b in batches])
        np.testing.assert_allclose(z, own.z, rtol=1e-12, atol=1e-12)


GROUPS = (
    "tiny",
    "late",
    "narrow",
    "big",
    "wide",
    "flag",
    "full",
    "price",
    "cents",
    "id",
    "text",
    "more",
    "digits",
    "day",
    "stamp",
    "steps",
    "nan",
    "lost",
    "wider",
    "enum",
    "category",
    "zoned",
    "long",
    "text:tiny",
    "more:rest",
    "full / text",
    "late:tiny:rest",
    "factor(late)",
    "factor(late %% 4)",
    "factor(text):late",
    "as.character(late)",
    "interaction(text, late)",
    "cut(y, 4)",
    "y > 0",
    "relevel(factor(tiny), ref = '3')",
    "relevel(late, ref = 7)",
    "relevel(text, ref = 'L7')",
    "ifelse(late > 8, 'end', text)",
    "factor(text, levels = c('L3', 'L1'))",
    "wide:big",
    "steps:id",
    "factor(day)",
    "ordered(late)",
    "flag:full",
    "as.factor(enum)",
    "factor(enum)",
    "factor(steps)",
)


@pytest.mark.parametrize("group", GROUPS)
def test_groups(relation, group):
    there, here = both(f"y ~ 1 + (1 | {group})", relation)
    if here is not None:
        assert_same_designs(there, here)


FIXED = (
    "tiny + late",
    "big",
    "wide",
    "flag + full",
    "flag * text",
    "price",
    "id",
    "text",
    "digits",
    "as.numeric(digits)",
    "as.integer(text)",
    "day",
    "stamp",
    "I(day > '2024-03-01')",
    "I(late * tiny)",
    "late^2",
    "narrow * tiny",
    "narrow - 3",
    "nan",
    "x + nan",
    "log(y)",
    "sqrt(x)",
    "factor(late)",
    "factor(tiny):x",
    "relevel(factor(tiny), ref = '3') * x",
    "relevel(text, ref = 'L7')",
    "relevel(late, ref = 7)",
    "ordered(tiny)",
    "factor(tiny, ordered = TRUE)",
    "factor(tiny, labels = c('a', 'b', 'c', 'd', 'e'))",
    "interaction(tiny, full)",
    "interaction(text, flag, sep = '_')",
    "dummy(late)",
    "dummy(text, 'L7')",
    "ifelse(x > 0, late, tiny)",
    "ifelse(y > 0, 'up', text)",
    "ifelse(late > 9, 'up', 'down')",
    "cut(x, 3)",
    "cut(x, c(-1, 0, 1), labels = c('a', 'b'))",
    "scale(x)",
    "scale(late, scale = FALSE)",
    "center(y)",
    "I(x - mean(y))",
    "poly(late, 3)",
    "poly(y, 2, raw = TRUE)",
    "bs(y, df = 5)",
    "ns(y, df = 3)",
    "scale(log(late + 1)) * text",
    "poly(scale(y), 2)",
    "factor(late > 4)",
    "factor(flag)",
    "full:x",
    "as.character(late)",
    "as.numeric(factor(late))",
    "as.numeric(interaction(tiny, full))",
    "is.na(x)",
    "is.na(text)",
    "I(text == 'L3')",
    "I(text > 'L2')",
    "I(late %in% c(1, 4))",
    "I(text %in% c('L1', 'zz'))",
    "I(flag & x > 0)",
    "I(flag | full)",
    "I(!flag)",
    "pmin(x, y)",
    "round(x, 1)",
    "I(x %% 2)",
    "I(late %/% 2)",
    "enum",
    "category",
    "as.numeric(enum)",
    "relevel(enum, ref = 'L4')",
    "ordered(enum)",
    "factor(enum)",
    "wider",
    "long",
    "zoned",
    "`select` + `a b` + `a.b` + Größe",
    "np.log(late + 1)",
    "np.where(y > 0, 1, 0)",
    "np.where(y > 0, 'a', text)",
    "offset(x) + tiny",
    "offset(log(late + 1))",
    "alone",
    "lost",
    "steps",
    "factor(steps)",
    "ones",
    "cbind(x, y)",
    "factor(digits)",
    "factor(as.numeric(digits))",
    "relevel(as.factor(late), ref = '9')",
    "dummy(factor(late, levels = c(1, 2, 9)))",
    "x:text - 1",
    "0 + full + tiny",
    "nulls",
    "void",
    "X",
    "zz",
    "log(text)",
    "inf",
    "when",
    "list",
    "relevel(text, ref = 'zz')",
    "scale(ones)",
    "poly(ones, 2)",
    "as.numeric(text)",
    "I(text + 1)",
    "tiny - tiny",
    "I(late / 0)",
    "factor(nulls)",
    "scale(void)",
    "cut(void, 3)",
    "y",
    "nope(x)",
    "late:zz",
)


@pytest.mark.parametrize("fixed", FIXED)
def test_fixed_effects(either, fixed):
    there, here = both(f"y ~ {fixed} + (1 | narrow)", either)
    if here is None:
        return
    _, expected, _ = outcome(lambda: design(here.fixed_terms, here))
    if expected is not None:
        with pytest.raises(DataError) as refused:
            design(there.fixed_terms, there)
        assert str(refused.value) == str(expected)
        return
    assert_same_designs(there, here)


RESPONSES = (
    "late",
    "flag",
    "full",
    "text",
    "alone",
    "day",
    "price",
    "wide",
    "id",
    "big",
    "inf",
    "nulls",
    "void",
    "cbind(x, y)",
    "log(late)",
    "late > 4",
    "factor(full)",
    "nan",
)


@pytest.mark.parametrize("response", RESPONSES)
def test_responses(either, response):
    there, here = both(f"{response} ~ 1 + (1 | narrow)", either)
    if here is not None:
        assert_same(there, here)
        assert (here.y is None) == (there.y is None)
        if here.y is not None:
            y = np.concatenate([b.y for b in there.batches()])
            np.testing.assert_allclose(y, here.y, rtol=1e-14)


ARGUMENTS = (
    {"weights": "w"},
    {"weights": "w + 1", "offset": "x"},
    {"offset": ["x", "tiny"]},
    {"weights": 2},
    {"offset": 1.5},
    {"weights": "x"},
    {"weights": "I(0 * y)"},
    {"weights": "inf"},
    {"weights": "text"},
    {"weights": "zz"},
    {"offset": "text"},
    {"offset": "inf"},
    {"subset": "late > 3"},
    {"subset": "text == 'L3'"},
    {"subset": "text != 'L3' & flag"},
    {"subset": "late > 99"},
    {"subset": "late"},
    {"subset": "sqrt(x) > 0.5"},
    {"subset": "is.na(x)"},
    {"subset": "factor(late) == '4'"},
    {"subset": "relevel(late, ref = '9') == '4'"},
    {"subset": "y > mean(y)"},
    {"na_action": "fail"},
    {"na_action": "exclude"},
    {"subset": "late > 2", "na_action": "fail"},
    {"weights": "w", "subset": "tiny > 1"},
    {"weights": "scale(late)"},
    {"weights": "flag"},
)


@pytest.mark.parametrize("arguments", ARGUMENTS, ids=str)
def test_arguments(either, arguments):
    there, here = both("y ~ x + text + (1 | narrow)", either, **arguments)
    if here is not None:
        assert_same(there, here)


@pytest.mark.parametrize(
    "formula",
    ["y ~ . + (1 | late)", "y ~ . - x + (1 | text)", "y ~ (. | late)", "y ~ .^2 + (1|late)"],
)
def test_the_dot(relation, formula):
    columns = ["y", "x", "late", "text", "flag"]
    few = relation_of(relation.lazy.select(columns).to_native())
    there, here = both(formula, few)
    assert_same_designs(there, here)


def test_a_column_that_is_no_variable_is_refused_by_name(relation):
    assert both("y ~ . + (1 | late)", relation) == (None, None)
