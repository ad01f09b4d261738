"""Models of data that stay in an engine, against the same rows in memory."""

import warnings

import duckdb
import numpy as np
import pandas as pd
import polars as pl
import pytest

from mixef import lmer
from mixef.errors import DataError, RowsElsewhereError
from mixef.terms.relation import engines as relations

N = 700


@pytest.fixture(scope="module")
def rows():
    """Rows with factors, a few missing values, weights and an offset."""
    rng = np.random.default_rng(5)
    g, h = rng.integers(0, 25, N), rng.integers(0, 9, N)
    f = np.array(["low", "high", "mid", "Other"])[rng.integers(0, 4, N)]
    x, z = rng.normal(3, 2, N), rng.gamma(2.0, size=N)
    y = 1 + 0.4 * x + rng.normal(size=25)[g] * (1 + 0.2 * x) + rng.normal(size=9)[h]
    y += rng.normal(size=N) + (f == "high")
    frame = pd.DataFrame(
        {"y": y, "x": x, "z": z, "f": f, "g": g * 7 + 3, "h": [f"h{k}" for k in h]}
    )
    frame["b"], frame["o"] = rng.random(N) < 0.4, rng.normal(size=N)
    frame["w"] = rng.integers(0, 4, N).astype(float)
    frame.loc[[3, 50], "x"] = np.nan
    frame.loc[[7], "h"] = None
    return frame


ENGINES = {
    "duckdb": lambda d, path: duckdb.read_parquet(path),
    "polars": lambda d, path: pl.scan_parquet(path),
    "path": lambda d, path: path,
    "pattern": lambda d, path: path.replace("rows.parquet", "*.parquet"),
}

MODELS = {
    "slopes": ("y ~ x + f + (x | g)", {}),
    "crossed": ("y ~ x * f + (1 | g) + (1 | h)", {}),
    "nested": ("y ~ x + (1 | h / g)", {}),
    "weights": ("y ~ x + b + (1 | g)", {"weights": "w", "offset": "o"}),
    "functions": ("y ~ scale(x) + poly(z, 2) + log(z) + offset(o) + (1 | g)", {}),
    "knots": ("y ~ ns(z, df = 3) + cut(x, 3) + (0 + f | h)", {}),
    "contrasts": ("y ~ f + z:f + (1 | g)", {"contrasts": {"f": "sum"}}),
    "subset": ("y ~ x + factor(g %% 5) + (1 | g:f)", {"subset": "z > 1 & f != 'mid'"}),
    "aliased": ("y ~ x + I(2 * x) + f + (z || g)", {"REML": False}),
}


@pytest.fixture(scope="module")
def parquet(rows, tmp_path_factory):
    path = str(tmp_path_factory.mktemp("rows") / "rows.parquet")
    rows.to_parquet(path, row_group_size=150)
    return path


@pytest.mark.parametrize("engine", ENGINES)
@pytest.mark.parametrize("model", MODELS)
def test_the_rows_may_lie_in_an_engine(rows, parquet, engine, model, monkeypatch):
    monkeypatch.setattr(relations, "BATCH", 130)
    formula, options = MODELS[model]
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        here = lmer(formula, rows, **options)
        there = lmer(formula, ENGINES[engine](rows, parquet), **options)
    assert there.nobs == here.nobs
    assert there.left_out == here.left_out
    assert there.objective == pytest.approx(here.objective, rel=1e-12)
    np.testing.assert_allclose(there.fixef(), here.fixef(), rtol=1e-7, atol=1e-9)
    assert list(there.fixef().index) == list(here.fixef().index)
    for name, modes in here.ranef().items():
        own = there.ranef()[name]
        assert list(map(str, own.index)) == list(map(str, modes.index))
        np.testing.assert_allclose(own, modes, atol=1e-6)


def test_what_is_missing_is_listed_in_one_order(rows, parquet, monkeypatch):
    """Whichever batch misses something first: h of the formula's groups does so last."""
    monkeypatch.setattr(relations, "BATCH", 20)
    data = rows.assign(h=rows["h"].fillna("h0").where(rows.index != 600, None))
    here, there = (
        lmer("y ~ round(x, 1) + (1 | h)", d) for d in (data, pl.from_pandas(data).lazy())
    )
    assert str(there.left_out) == str(here.left_out)
    assert "h 1, " in str(there.left_out)


def test_what_needs_rows_is_refused(parquet):
    fit = lmer("y ~ x + (1 | g)", duckdb.read_parquet(parquet))
    with pytest.raises(RowsElsewhereError, match="the model matrix in memory, but its 698 rows"):
        fit.model_matrix()


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"weights": np.ones(N)}, "weights is .* the name of a column or an expression"),
        ({"subset": [1, 2]}, "subset is"),
        ({"na_action": "fail"}, r"na_action is 'fail': x \(2 rows\)"),
    ],
)
def test_arguments_by_row_have_no_order_to_follow(parquet, options, message):
    with pytest.raises(DataError, match=message):
        lmer("y ~ x + (1 | g)", duckdb.read_parquet(parquet), **options)


def test_a_function_of_other_rows_is_refused(parquet):
    def centred(v):
        return v - v.mean()

    with pytest.raises(DataError, match=r"centred\(z\) calls a function whose values"):
        lmer("y ~ centred(z) + (1 | g)", duckdb.read_parquet(parquet), env={"centred": centred})
    fit = lmer("y ~ half(z) + (1 | g)", parquet, env={"half": lambda v: v / 2})
    assert fit.nobs == N


def test_paths_that_lead_nowhere(tmp_path):
    for path, message in [
        (tmp_path / "no.parquet", "cannot read Parquet files from"),
        ("rows.csv", "a path leads to Parquet files"),
    ]:
        with pytest.raises(DataError, match=message):
            lmer("y ~ 1 + (1 | g)", path)
