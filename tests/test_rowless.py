"""Everything that a fit can be asked, of one whose rows stay in an engine, beside one in memory."""

import inspect
import warnings
from functools import cache

import duckdb
import numpy as np
import pandas as pd
import polars as pl
import pytest

import mixef
from mixef import lmer
from mixef.errors import RowsElsewhereError
from mixef.terms.relation import engines as relations

N = 400
FORMULA = "y ~ x * f + o + (x | g) + (1 | h)"
# What takes a row after the other, and is computed when the result is read.
LAZY = {"fitted": ".fitted", "linear_predictor": ".linear_predictor", "residuals": ".resid",
        "weights": ".weights"}  # fmt: skip
# What needs all rows at once, or their order. Whoever adds to this list has thought about it.
REFUSED = {
    "augment", "bootstrap", "check", "cooks_distance", "dfbetas", "dffits", "factor_at",
    "hatvalues", "influence", "model_frame", "model_matrix", "predict", "predict_interval",
    "refit", "rstudent", "simulate", "simulated_residuals", "with_vcov",
}  # fmt: skip
REFUSED_PLOTS = {
    "__call__", "effects", "factor_images", "qq", "residuals", "scale_location", "shrinkage",
}  # fmt: skip
OF_ANOTHER = {"to_marginaleffects"}
ARGUMENTS = {
    "contest": (["x"], {}), "getME": ([["theta", "Lambda", "b", "RX", "devcomp", "q"]], {}),
    "bootstrap": ([5], {"seed": 1}), "drop1": ([None, "F"], {}), "emmeans": (["f"], {}),
    "emtrends": (["x", "f"], {}), "with_vcov": (["CR0"], {"cluster": "g"}),
    "refit": ([np.arange(N)], {}), "profile": ([], {"which": "x", "delta_cutoff": 0.9}),
    "ranef": ([], {"condVar": True}), "simulate": ([], {"n": 2, "seed": 1}),
    "confint": ([], {"method": "wald"}), "vcov": ([], {"full": True}),
    "r2": ([], {"partial": True}),
    "influence": ([], {"groups": "g", "refit": False}), "update": ([". ~ . - o"], {}),
    "re_sim": ([20], {"seed": 1}), "fe_sim": ([20], {"seed": 1}), "check": ([5], {"seed": 1}),
    "simulated_residuals": ([20], {"seed": 1}), "predict_interval": ([], {"n": 20, "seed": 1}),
}  # fmt: skip


@cache
def rows():
    rng = np.random.default_rng(5)
    g, h = rng.integers(0, 20, N), rng.integers(0, 7, N)
    f = np.array(["low", "high", "mid"])[rng.integers(0, 3, N)]
    x, o = rng.normal(3, 2, N), rng.integers(0, 2, N)
    y = (
        1
        + x * (0.4 + 0.3 * rng.normal(size=20)[g])
        + rng.normal(size=20)[g]
        + rng.normal(size=7)[h]
    )
    y += rng.normal(size=N) + (f == "high")
    frame = pd.DataFrame({"y": y, "x": x, "f": f, "g": g, "h": [f"h{k}" for k in h], "o": o})
    frame["day"] = pd.Timestamp("2024-01-01") + pd.to_timedelta(rng.integers(0, 90, N), "D")
    frame["w"], frame["unused"] = rng.integers(0, 4, N) + 0.5, rng.random(N) < 0.5
    frame.loc[[3, 50], "x"] = np.nan
    frame.loc[[7], "h"] = None
    return frame


@pytest.fixture(scope="module")
def parquet(tmp_path_factory):
    path = str(tmp_path_factory.mktemp("rows") / "rows.parquet")
    rows().to_parquet(path, row_group_size=150)
    return path


@pytest.fixture(scope="module", autouse=True)
def small_batches():
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(relations, "BATCH", 90)
        yield


@pytest.fixture(scope="module")
def both(parquet):
    """A fit in memory, and one whose rows are in a file."""
    data = rows()
    return lmer(FORMULA, data), lmer(FORMULA, parquet)


def asked(fit, name):
    """The result of a method or property."""
    value = getattr(fit, name)
    if inspect.ismethod(value):
        arguments, options = ARGUMENTS.get(name, ([], {}))
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            value = value(*arguments, **options)
    return value


def shown(value):
    """A result as text, without the name of its data."""
    text = value.to_text() if isinstance(value, mixef.text.printed.Printed) else str(value)
    return [line for line in text.splitlines() if "Data" not in line]


def same(a, b):
    """Assert that two results are the same, up to rounding."""
    if isinstance(a, dict):
        assert list(a) == list(b)
        for key in a:
            same(a[key], b[key])
    elif isinstance(a, pd.DataFrame):
        pd.testing.assert_frame_equal(a, b, rtol=2e-5, atol=1e-7)
    elif isinstance(a, pd.Series):
        pd.testing.assert_series_equal(a, b, rtol=2e-5, atol=1e-7)
    elif isinstance(a, np.ndarray | float):
        np.testing.assert_allclose(b, a, rtol=1e-7, atol=1e-9)
    elif hasattr(a, "to_frame") and not isinstance(a, mixef.LinearMixedModel):
        same(a.to_frame(), b.to_frame())
        assert shown(a) == shown(b)
    elif hasattr(a, "toarray"):
        same(a.toarray(), b.toarray())
    else:
        assert shown(a) == shown(b)


NAMES = [n for n in dir(mixef.LinearMixedModel) if not n.startswith("_")]
PLOTS = [n for n in dir(mixef.methods.plots.Plots) if not n.startswith("_")]


AS_EVER = {*NAMES} - REFUSED - LAZY.keys() - OF_ANOTHER - {"plot", "augment"}


@pytest.mark.parametrize("name", sorted(AS_EVER))
def test_what_needs_no_rows_is_as_ever(both, name):
    here, there = both
    result = asked(here, name)
    if name.startswith("to_") or name in ("tables", "convergence"):  # digits of rounding
        assert len(str(asked(there, name))) > 0
        return
    same(result, asked(there, name))


@pytest.mark.parametrize("name", sorted(REFUSED))
def test_what_needs_all_rows_is_refused_by_name(both, name):
    here, there = both
    asked(here, name) if name not in ("refit", "predict_interval") else None
    with pytest.raises(RowsElsewhereError, match=rf"^{name}\(\) needs .* 397 rows are in DuckDB"):
        asked(there, name)


ENGINES = {
    "duckdb": (duckdb.read_parquet, lambda made: made.df()),
    "path": (str, lambda made: made.df()),
    "polars": (pl.scan_parquet, lambda made: made.collect().to_pandas()),
}


@pytest.mark.parametrize("na_action", ["omit", "exclude"])
@pytest.mark.parametrize("engine", ENGINES)
def test_values_of_rows_come_with_the_table(parquet, engine, na_action):
    opened, read = ENGINES[engine]
    options = {"na_action": na_action, "weights": "w", "subset": "o == 1 | x > 1"}
    here, there = lmer(FORMULA, rows(), **options), lmer(FORMULA, opened(parquet), **options)
    for name, column in LAZY.items():
        made, wanted = getattr(there, name)(), getattr(here, name)()
        assert type(made).__module__.startswith("polars" if engine == "polars" else "duckdb")
        for _ in range(2):  # it may be read as often as one likes
            found = read(made)
            assert list(found.columns) == [*rows().columns, column]
            np.testing.assert_allclose(found[column], wanted, rtol=1e-6, atol=1e-9)
            kept = rows().loc[wanted.index]
            np.testing.assert_array_equal(found["y"], kept["y"])
            assert found["unused"].tolist() == kept["unused"].tolist()


@pytest.mark.parametrize("name", sorted({*PLOTS, "__call__"} - {"integrand", "t_z"}))
def test_pictures(both, name):
    plt = pytest.importorskip("matplotlib.pyplot")
    arguments = {"effects": ["x"], "profile_zeta": ["x"],
                 "profile_pairs": [["x", "o"]], "profile_density": ["x"]}.get(name, [])  # fmt: skip
    if name in REFUSED_PLOTS:
        with pytest.raises(RowsElsewhereError, match="rows are in DuckDB"):
            getattr(both[1].plot, name)(*arguments)
    else:
        getattr(both[1].plot, name)(*arguments)
    plt.close("all")
