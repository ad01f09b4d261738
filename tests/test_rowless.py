"""Everything that a fit can be asked, of one whose rows stay in an engine, beside one in memory."""

import copy
import inspect
import os
import pickle
import warnings
from functools import cache

import duckdb
import numpy as np
import pandas as pd
import polars as pl
import pytest

import mixef
from mixef import lmer
from mixef.errors import ArgumentError, DataError, MixefError, RowsElsewhereError
from mixef.inference import lazy_rows, residual_quantiles, sampled_rows
from mixef.terms.relation import engines as relations

N = 400
FORMULA = "y ~ x * f + o + (x | g) + (1 | h)"
# What takes a row after the other, and is computed when the result is read.
LAZY = {"fitted": ".fitted", "linear_predictor": ".linear_predictor", "residuals": ".resid",
        "weights": ".weights", "predict": ".fitted", "hatvalues": ".hat",
        "cooks_distance": ".cooksd", "rstudent": ".rstudent", "dffits": ".dffits"}  # fmt: skip
# What needs all rows at once, or their order. Whoever adds to this list has thought about it.
REFUSED = {
    "check", "dfbetas", "factor_at", "influence", "model_frame", "model_matrix",
    "predict_interval", "refit", "simulated_residuals",
}  # fmt: skip
REFUSED_PLOTS = {
    "__call__", "effects", "factor_images", "qq", "shrinkage",
}  # fmt: skip
# What draws responses as the rows are read: tests/test_drawn_rows.py.
DRAWN = {"bootstrap", "simulate"}
OF_ANOTHER = {"to_marginaleffects"}
ARGUMENTS = {
    "contest": (["x"], {}), "getME": ([["theta", "Lambda", "b", "RX", "devcomp", "q"]], {}),
    "drop1": ([None, "F"], {}), "emmeans": (["f"], {}),
    "emtrends": (["x", "f"], {}), "with_vcov": (["CR0"], {"cluster": "g"}),
    "refit": ([np.arange(N)], {}), "profile": ([], {"which": "x", "delta_cutoff": 0.9}),
    "ranef": ([], {"condVar": True}),
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


AS_EVER = {*NAMES} - REFUSED - LAZY.keys() - DRAWN - OF_ANOTHER - {"plot", "augment"}


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


@pytest.mark.parametrize(
    ("engine", "na_action"),
    [("duckdb", "omit"), ("duckdb", "exclude"), ("polars", "exclude"), ("path", "omit")],
)
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


@pytest.mark.parametrize("engine", ENGINES)
def test_predictions_and_augmented_rows(both, parquet, engine, tmp_path):
    opened, read = ENGINES[engine]
    here, there = both[0], lmer(FORMULA, opened(parquet))
    columns = [".fitted", ".se_fit", ".lower", ".upper"]
    for options in ({"interval": "prediction"}, {"re_form": "~(1 | h)", "interval": "confidence"}):
        found = read(there.predict(**options))[columns]
        np.testing.assert_allclose(found, here.predict(**options), rtol=1e-5)
    new = read(there.predict(newdata=opened(parquet), new_levels="population", se_fit=True))
    wanted = here.predict(rows(), new_levels="population", se_fit=True)
    np.testing.assert_allclose(new[columns[:2]], wanted, rtol=1e-5)
    wanted, path = here.augment(se_fit=True), tmp_path / "out.parquet"
    own = [name for name in wanted if name.startswith(".")]
    np.testing.assert_allclose(read(there.augment(se_fit=True))[own], wanted[own], rtol=1e-5)
    assert there.augment(path=path) == str(path)
    assert [p.name for p in tmp_path.iterdir()] == ["out.parquet"]
    written = pd.read_parquet(path)
    assert list(written.columns) == [*rows().columns, *(n for n in own if n != ".se_fit")]
    np.testing.assert_allclose(written[".resid"], wanted[".resid"], rtol=1e-5, atol=1e-9)


def test_a_file_is_whole_or_not_there(both, parquet, tmp_path, monkeypatch):
    here, there = both
    path = tmp_path / "out.parquet"
    assert here.augment(path=path) == str(path)
    np.testing.assert_allclose(pd.read_parquet(path)[".resid"], here.residuals())
    with pytest.raises(ArgumentError, match="there already: give another one, or overwrite=True"):
        there.augment(path=path)
    assert len(pd.read_parquet(there.augment(path=path, overwrite=True))) == there.nobs
    with pytest.raises(ArgumentError, match="there is no folder"):
        there.augment(path=tmp_path / "no" / "out.parquet")
    table = duckdb.sql(f"select *, interval 1 day as pause from '{parquet}'")
    with pytest.raises(DataError, match=r"column 'pause' has type .* Parquet files do not hold"):
        lmer(FORMULA, table).augment(path=tmp_path / "third.parquet")
    assert not (tmp_path / "third.parquet").exists()

    calls, own = [], lazy_rows._with_columns

    def stops(*arguments):
        calls.append(1)
        if len(calls) > 3:
            raise KeyboardInterrupt
        return own(*arguments)

    monkeypatch.setattr(lazy_rows, "_with_columns", stops)
    for unnamed in (True, False):
        if not unnamed:
            monkeypatch.delattr(os, "O_TMPFILE", raising=False)
        with pytest.raises(KeyboardInterrupt):
            there.augment(path=tmp_path / "other.parquet")
        assert [p.name for p in tmp_path.iterdir()] == ["out.parquet"]


def test_wrong_arguments_are_told_of_at_once(both):
    for call, message in [
        (lambda fit: fit.residuals("zzz"), "type is 'zzz'"),
        (lambda fit: fit.predict(type="zzz"), "type is 'zzz'"),
        (lambda fit: fit.predict(re_form="~(1 | q)"), "no grouping factor q"),
        (lambda fit: fit.predict(newdata="no.parquet"), "cannot read Parquet files"),
        (lambda fit: fit.augment(path=3), "path is 3"),
    ]:
        with pytest.raises(MixefError, match=message):
            call(both[1])


def test_refits_to_a_column(both):
    here, there = both
    same(here.refit("day - mean(day)").fixef(), there.refit("day - mean(day)").fixef())
    with pytest.raises(DataError, match=r"a fit to log\(x \+ 100\) has 398 rows, where"):
        lmer("y ~ f + (1 | g)", rows()).refit("log(x + 100)")


def test_models_of_one_table_are_compared(both, parquet):
    small = [lmer("y ~ x + (x | g) + (1 | h)", data) for data in (rows(), parquet)]
    same(mixef.anova(small[0], both[0]), mixef.anova(small[1], both[1]))
    same(mixef.ranova(both[0]), mixef.ranova(both[1]))
    for other, message in [
        (lmer("log(w) ~ x + (1 | g) + (1 | h)", parquet), "have other responses"),
        (lmer("y ~ x + (1 | g) + (1 | h)", parquet, weights="w"), "have other prior weights"),
        (small[0], "were fitted to other tables"),
    ]:
        with pytest.raises(DataError, match=message):
            mixef.anova(both[1], other)


def test_functions_of_names_that_need_rows(both, parquet):
    for name, call in {
        "pb_test": lambda: mixef.pb_test(both[1], "y ~ x * f + o", n=5, seed=1),
        "power": lambda: mixef.power(both[1], test="x", n=2, sizes={"g": 5}, seed=1),
        "bootstrap": lambda: both[1].bootstrap(5, type="cases", seed=1),
        "exact_rlrt": lambda: mixef.exact_rlrt(lmer("y ~ x + (1 | g)", parquet), n=20, seed=1),
        "plot": lambda: both[1].plot(),
    }.items():
        with pytest.raises(RowsElsewhereError, match=rf"^{name}\(\) needs"):
            call()


def test_marginal_means_of_every_kind_of_predictor(parquet):
    formula = "y ~ f * log(x + 9) + o + factor(w) + day + (1 | g)"
    here, there = lmer(formula, rows()), lmer(formula, parquet)
    for weights in ("equal", "proportional", "cells"):
        same(here.emmeans("f", weights=weights), there.emmeans("f", weights=weights))
    same(here.emmeans(["o", "w"]).pairs(), there.emmeans(["o", "w"]).pairs())
    same(here.emmeans("f").eff_size(), there.emmeans("f").eff_size())
    a, b = here.emmeans("day").to_frame(), there.emmeans("day").to_frame()
    assert abs(a["day"][0] - b["day"][0]) < pd.Timedelta("1ms")  # means of whole numbers of time
    same(a.drop(columns="day"), b.drop(columns="day"))


def test_a_generalized_model(parquet):
    formula = "o ~ x + f + (1 | g)"
    here, there = (mixef.glmer(formula, data, "poisson") for data in (rows(), parquet))
    for name in ("deviance", "relative_loglik", "glance", "overdispersion", "r2", "anova", "icc"):
        same(asked(here, name), asked(there, name))
    assert shown(here.summary()) == shown(there.summary())
    assert "Overdispersion" not in str(there)  # no row is read to print the short form
    made = there.residuals("pearson").df()
    np.testing.assert_allclose(made[".resid"], here.residuals("pearson"), rtol=1e-4, atol=1e-5)
    for name in ("integrand", "hatvalues", "check"):
        with pytest.raises(RowsElsewhereError, match=rf"^{name}\(\) needs"):
            getattr(there, name)(*([[0.0]] if name == "integrand" else []))


def test_pickles(both, parquet):
    again = pickle.loads(pickle.dumps(both[1]))
    same(again.anova(), both[0].anova())
    assert len(again.fitted().df()) == again.nobs
    assert again.update(". ~ . - o").nobs == 397
    lost = pickle.loads(pickle.dumps(lmer(FORMULA, duckdb.read_parquet(parquet))))
    same(lost.coef_table(), both[0].coef_table())
    assert "Scaled residuals" not in lost.summary().to_text()
    for call in (lambda: lost.fitted(), lambda: lost.update(". ~ . - o"), lambda: lost.r2()):
        with pytest.raises(RowsElsewhereError, match="left behind: it comes from a pickle"):
            call()
    assert lost.update(". ~ . - o", data=parquet).nobs == 397
    assert copy.deepcopy(both[1])._fit is both[1]._fit


def test_dates_are_at_their_mean_whatever_the_batches():
    """A mean of dates is no date, and one of batches is not made of rounded ones."""
    data = pl.from_pandas(rows()).with_columns(pl.col("day").cast(pl.Date))
    here, there = (lmer("y ~ f + day + (1 | g)", d).emmeans("f") for d in (data, data.lazy()))
    np.testing.assert_allclose(there["estimate"], here["estimate"], rtol=1e-10)


def test_quantiles_of_more_residuals_than_are_held(both, monkeypatch):
    exact, _ = residual_quantiles.scaled_quantiles(both[0]._fit)
    monkeypatch.setattr(residual_quantiles, "HELD", 10)
    near, is_exact = residual_quantiles.scaled_quantiles(both[1]._fit)
    assert not is_exact
    assert "Scaled residuals (quartiles approximate):" in both[1].summary().to_text()
    np.testing.assert_allclose(near, exact, atol=0.02)  # of 397 rows, between two of them
    many = residual_quantiles.Histogram()
    values = np.random.default_rng(1).normal(size=200_000)
    many.add(values[:50_000])
    many.add(values[50_000:])
    wanted = np.quantile(values, residual_quantiles.SHARES)
    np.testing.assert_allclose(many.quantiles(), wanted, atol=5e-4)


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


@pytest.mark.parametrize("name", ["residuals", "scale_location"])
def test_pictures_of_rows_are_of_a_sample(both, name, monkeypatch):
    plt = pytest.importorskip("matplotlib.pyplot")

    def points(fit):
        ax = getattr(fit.plot, name)(seed=1)
        shown = max((np.asarray(line.get_xydata()) for line in ax.lines), key=len)
        return ax.get_title(), shown

    (no_title, wanted), (none, found) = map(points, both)
    assert no_title == none == ""  # few rows are all shown
    np.testing.assert_allclose(found, wanted, rtol=1e-5, atol=1e-6)
    monkeypatch.setattr(sampled_rows, "ENOUGH", 100)
    title, fewer = points(both[1])
    n = sampled_rows.sampled(both[1]._fit, 1).frame.n
    assert title == f"a random sample of {n} of 397 rows"
    assert 60 < n < 140
    assert len(fewer) < len(found)
    plt.close("all")
