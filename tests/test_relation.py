"""Models of data that stay in an engine, against the same rows in memory."""

import re
import warnings

import duckdb
import numpy as np
import pandas as pd
import polars as pl
import pytest

from mixef import lmer
from mixef.errors import DataError, RowsElsewhereError
from mixef.terms.relation import engines as relations
from mixef.terms.relation import files

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
    """Every message says what is there instead, or what to do."""
    for name in ("texts", "none", "other"):
        (tmp_path / name).mkdir()
    (tmp_path / "texts" / "a.csv").write_text("y,g\n1,a\n")
    (tmp_path / "sales.parquet").write_text("short")
    pd.DataFrame({"y": [1.0, 2.0], "g": ["a", "b"]}).iloc[:0].to_parquet(tmp_path / "zero.parquet")
    folder = re.escape(str(tmp_path))
    for path, message in [
        ("sale.parquet", rf"sale.parquet': there is no 'sale.parquet' in .*{folder}'; did you mean "
                         "'sales.parquet'"),
        ("deep/er/a.parquet", rf"there is no 'deep' in the folder '{folder}'; .* holds 'none', 'o"),
        ("texts/*.parquet", rf"no file matches this pattern; '{folder}/texts' holds 'a.csv'"),
        ("gone/*.parquet", rf"there is no 'gone' in the folder '{folder}'"),
        ("texts", r"no file in this folder, .* ends in '.parquet', '.pq' or '.parq'; .* 'a.csv'"),
        ("none", r"holds nothing; a pattern such as 'folder/\*' finds files of other names"),
        ("texts/a.csv", r"read another file before, as by pandas.read_csv\(\)$"),
        ("texts/b.csv", r"read_csv\(\); there is no file or folder of this name"),
        ("texts/*.csv", "cannot read Parquet .*; write the file anew .*, and read one of another"),
        ("sales.parquet", "cannot read Parquet .*; write the file anew if it is broken"),
        ("zero.parquet", "the data have no rows"),
    ]:  # fmt: skip
        with pytest.raises(DataError, match=message):
            lmer("y ~ 1 + (1 | g)", tmp_path / path)
    with pytest.raises(
        DataError, match=r"'file:///no.parquet': there is no 'no.parquet' in .* '/'"
    ):
        lmer("y ~ 1 + (1 | g)", "file:///no.parquet")


def test_addresses_that_duckdb_cannot_open(monkeypatch):
    def fails(pattern, by_value):
        raise OSError("the required extension 'httpfs:\nmore")

    monkeypatch.setattr(files, "_by_duckdb", fails)
    message = r"the .* 'httpfs; open .*INSTALL httpfs.*read_parquet\('s3://bucket/a.parquet'\)"
    with pytest.raises(DataError, match=message):
        lmer("y ~ 1 + (1 | g)", "s3://bucket/a.parquet")


def test_files_that_vanish_and_differ(tmp_path):
    data = pd.DataFrame({"y": np.arange(9.0) ** 2, "g": list("abc" * 3), "x": np.ones(9)})
    path = tmp_path / "a.parq"  # an ending that a folder may have
    data.to_parquet(path)
    fit = lmer("y ~ 1 + (1 | g)", tmp_path)
    data.drop(columns="x").to_parquet(tmp_path / "b.parq")
    with pytest.raises(DataError, match=r"schema mismatch .*read_parquet\(files, union_by_name=Tr"):
        lmer("y ~ x + (1 | g)", tmp_path)
    for opened in (duckdb.read_parquet, pl.scan_parquet):
        table = opened(str(path))
        data.to_parquet(path)
        path.unlink()
        with pytest.raises(DataError, match=r"not there, or no longer: put it back.*update\(data"):
            lmer("y ~ 1 + (1 | g)", table)
        data.to_parquet(path)
    for each in tmp_path.iterdir():
        each.unlink()
    with pytest.raises(DataError, match="no file in this folder, or below it"):
        fit.fitted()
