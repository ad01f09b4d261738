"""Expressions of formulas on engines: the values that they have in memory."""

import numpy as np
import pandas as pd
import pytest

from mixef.terms.columns import Columns
from mixef.terms.expressions import Scope, State
from mixef.terms.factor import Factor
from mixef.terms.parser import parse_expression
from mixef.terms.relation.expressions import Condition, Expressions, NotOnEngineError
from mixef.terms.values import Matrix

nw = pytest.importorskip("narwhals")
pa = pytest.importorskip("pyarrow")

ENGINES = ("duckdb", "polars", "ibis")

X = [1.5, -2.0, 0.0, float("nan"), None, float("inf"), float("-inf"), 3.0, 1e-300, 7.25]
Z = [2.0, 0.5, 0.0, 1.0, 2.0, 3.0, 1.0, None, float("nan"), -1.5]
I = [3, -7, 0, None, 12, 5, -1, 2, 9, -4]
J = [2, 3, -4, 5, 7, 2, None, 3, -2, 10]
S = ["a", "b", None, "a", "c", "", "b", "a", "c", "b"]
B = [True, False, None, True, True, False, False, None, True, False]


def table():
    return pa.table(
        {
            "x": pa.array(X, pa.float64()),
            "z": pa.array(Z, pa.float64()),
            "i": pa.array(I, pa.int32()),
            "j": pa.array(J, pa.int8()),
            "s": pa.array(S, pa.string()),
            "b": pa.array(B, pa.bool_()),
        }
    )


def lazy_frame(engine, path):
    """The rows of a Parquet file on an engine."""
    module = pytest.importorskip(engine)
    if engine == "duckdb":
        return nw.from_native(module.read_parquet(path))
    if engine == "polars":
        return nw.from_native(module.scan_parquet(path))
    return nw.from_native(module.duckdb.connect().read_parquet(path))


@pytest.fixture(scope="module")
def path(tmp_path_factory):
    """A Parquet file of the rows, with their numbers in a column."""
    path = str(tmp_path_factory.mktemp("expressions") / "rows.parquet")
    rows = table().append_column("row", pa.array(range(len(X)), pa.int64()))
    pytest.importorskip("pyarrow.parquet").write_table(rows, path)
    return path


EXPRESSIONS = (
    # numbers
    "x", "i", "x + z", "x - z", "x * z", "x / z", "i / j", "-x", "+x", "2 * x - 1", "(x - 1)^2",
    "x^2", "x^3", "x^-1", "pmax(x, -9)^0.5", "2 * i^2", "1e3 * x", "i * j", "i %% 3", "i %/% 4",
    "i %% -3", "i * 100000000L * 100000000L", "I(x * z^2)", "x / 4", "x / 0", "0 / x",
    # functions
    "log(x)", "log(x, 10)", "log2(x)", "log10(x)", "exp(x)", "sqrt(x)", "abs(x)", "floor(x)",
    "ceiling(x)", "trunc(x)", "sin(i)", "cos(i)", "as.integer(x)", "as.numeric(b)",
    "as.numeric(x > 1)", "ifelse(x > 1, x, z)", "ifelse(b, 1, i)", "ifelse(x, 1, 2)",
    "pmin(x, z)", "pmax(x, z, i)", "pmax(x, 0)", "identity(x)", "np.log(x)", "log(x + 3) * z",
    # conditions
    "b", "x > 1", "x >= z", "x == z", "x != z", "x < 0", "i <= j", "!b", "!(x > 1)", "b & x > 1",
    "b | x > 1", "s == 'a'", "s != 'a'", "'b' == s", "s %in% c('a', 'c')", "i %in% c(3, 5)",
    "i %in% 3", "x %in% c(1.5, 3)", "is.na(x)", "is.na(i)", "is.na(s)", "is.na(b)", "b == TRUE",
    "log(x) > 0", "x / z > 1", "as.logical(x)", "x > 1 & s == 'a'", "b == (x > 0)",
)  # fmt: skip
LEARNT = (
    "scale(x)", "scale(i)", "center(x)", "scale(x, FALSE)", "scale(x, scale = 2)",
    "scale(x) * i", "I(scale(x)^2)", "x - mean(i, na.rm = TRUE)", "i / sd(j, na.rm = TRUE)",
    "cbind(x, i)", "cbind(x, u = x * i)", "poly(x, 3)",
)  # fmt: skip
ELSEWHERE = (
    "i %% j", "round(x)", "x %% 2", "x %/% z", "x^z", "x^0", "bs(x, 4)", "f(x)", "as.numeric(s)",
    "s > 'a'", "tan(x)", "cut(x, 3)", "factor(i)", "log(x, z)", "log(x, -1)",
)  # fmt: skip


def in_memory(text, data, state):
    value = Scope(Columns(data), state, {"f": np.cbrt}).variable(parse_expression(text))
    if isinstance(value, Factor):
        return value.as_float()[:, None]
    if isinstance(value, Matrix):
        return value.array
    return np.asarray(value, dtype=float).reshape(len(value), -1)


def on_engine(text, lazy, state):
    expressions = Expressions(dict(lazy.collect_schema()), state)
    value = expressions.value(parse_expression(text))
    columns = value if isinstance(value, list) else [value]
    exprs = {
        f"v{k}": c.expr.cast(nw.Float64) if isinstance(c, Condition) else c.expr
        for k, c in enumerate(columns)
    }
    made = lazy.select(nw.col("row"), **exprs).collect("pyarrow").to_native()
    made = made.sort_by("row").drop_columns("row").to_pandas()
    return made.to_numpy(dtype=float)


@pytest.mark.parametrize("engine", ENGINES)
def test_the_values_are_those_in_memory(engine, path):
    lazy, data = lazy_frame(engine, path), table().to_pandas(types_mapper=pd.ArrowDtype)
    for text in EXPRESSIONS:
        ours, theirs = on_engine(text, lazy, State()), in_memory(text, data, State())
        np.testing.assert_allclose(ours, theirs, rtol=2e-15, err_msg=f"{text} on {engine}")


@pytest.mark.parametrize("engine", ENGINES)
def test_what_was_learnt_from_the_rows_is_used(engine, path):
    lazy = lazy_frame(engine, path).filter(nw.col("x").abs() < np.inf)
    finite = [x is not None and np.isfinite(x) for x in X]
    data = table().to_pandas(types_mapper=pd.ArrowDtype)[finite]
    for text in LEARNT:
        state = State()
        theirs = in_memory(text, data, state)
        ours = on_engine(text, lazy, state)
        np.testing.assert_allclose(ours, theirs, rtol=1e-13, atol=1e-14, err_msg=text)


@pytest.mark.parametrize("text", ELSEWHERE)
def test_what_engines_are_not_asked_for(text):
    expressions = Expressions({"x": nw.Float64(), "z": nw.Float64(), "i": nw.Int32(),
                               "j": nw.Int8(), "s": nw.String()}, State())  # fmt: skip
    with pytest.raises(NotOnEngineError):
        expressions.value(parse_expression(text))


@pytest.mark.parametrize("text", [*EXPRESSIONS[:26], *LEARNT[:9]])
def test_polynomials_are_the_expressions(text):
    """What an expression is of simpler ones, evaluated in memory, is the expression."""
    data, state = pd.DataFrame({"x": [1.5, -2.0, 3.0], "z": [2.0, 0.5, -1.0]}), State()
    data = data.assign(i=[3, -7, 2], j=[2, 3, -4])
    theirs = in_memory(text, data, state)
    schema = {"x": nw.Float64(), "z": nw.Float64(), "i": nw.Int64(), "j": nw.Int64()}
    (polynomial,) = Expressions(schema, state).polynomials(parse_expression(text))
    total = 0.0
    for monomial, value in polynomial.terms.items():
        total = total + value * np.prod([in_memory(part, data, state) for part in monomial], axis=0)
    np.testing.assert_allclose(total * np.ones(theirs.shape), theirs, rtol=1e-14)
