"""Rows that share covariates and groups, grouped by the engine that holds them: the same fit."""

import duckdb
import ibis
import numpy as np
import pandas as pd
import polars as pl
import pytest
from simulated_glmm import lenient

from mixef import glmer
from mixef.errors import DataError
from mixef.estimation.generalized import cells
from mixef.linalg.chunks import Looped
from mixef.linalg.spool import Spooled

N = 900
MODELS = {
    "counts": ("y ~ f + (1 | g)", {"family": "poisson", "offset": "o"}),
    "copies of counts": ("y ~ f + (1 | g)", {"family": "poisson", "weights": "w"}),
    "zero and one": ("b ~ f + (1 | g)", {"family": "binomial", "subset": "o > 0"}),
    "trials": ("cbind(s, 3 - s) ~ x + (x | g)", {"family": "binomial"}),
    "copies of trials": ("cbind(s, 3 - s) ~ f + (1 | g)", {"family": "binomial", "weights": "w"}),
    "shares": ("p ~ 1 + (1 | g)", {"family": "binomial(probit)", "weights": "n", "nAGQ": 0}),
    "labels": ("c ~ scale(x) + (1 | g / h)", {"family": "binomial(cloglog)"}),
    "a known shape": ("y ~ x + (1 | g)", {"family": "nbinom2(2)"}),
}
ENGINES = {
    "duckdb": duckdb.read_parquet,
    "polars": pl.scan_parquet,
    "ibis": ibis.read_parquet,
    "path": str,
}


@pytest.fixture(scope="module")
def rows():
    rng = np.random.default_rng(8)
    g, h, f = rng.integers(0, 9, N), rng.integers(0, 3, N), rng.integers(0, 3, N)
    eta = 0.3 + 0.2 * f + 0.5 * rng.normal(size=9)[g]
    d = pd.DataFrame({"g": g, "h": h, "f": np.array(["a", "b", "c"])[f], "x": f - 0.5})
    d["y"], d["o"] = rng.poisson(np.exp(eta)), 0.25 * rng.integers(-1, 2, N)
    d["b"] = rng.random(N) < 1 / (1 + np.exp(-eta))
    d["c"] = np.where(d.b, "yes", "no")
    d["s"], d["w"], d["n"] = rng.binomial(3, 0.3 + 0.1 * f), rng.integers(0, 3, N), 4
    d["p"] = rng.integers(0, 5, N) / 4
    d["x"] = d["x"].mask(rng.random(N) < 0.02)
    return d


@pytest.fixture(scope="module")
def parquet(rows, tmp_path_factory):
    path = str(tmp_path_factory.mktemp("cells") / "rows.parquet")
    rows.to_parquet(path, row_group_size=300)
    return path


@pytest.fixture
def grouping(monkeypatch):
    """Whatever shares rows is grouped; the sources that do are listed."""
    made, before = [], cells.CellRows.__init__
    monkeypatch.setattr(
        cells.CellRows, "__init__", lambda self, *args: made.append(self) or before(self, *args)
    )
    monkeypatch.setattr(cells, "FEW", 0)
    monkeypatch.setattr(cells, "SHARED", 0.1)
    return made


@pytest.mark.filterwarnings("ignore:.*rows have weight zero")
@pytest.mark.parametrize(
    ("model", "engine", "joined"),
    [
        *((model, "duckdb", True) for model in MODELS),
        *((model, "path", False) for model in ("copies of counts", "copies of trials")),
        ("counts", "polars", True),
        ("trials", "ibis", True),
    ],
)
def test_fits_of_cells_are_those_of_rows(
    rows, parquet, model, engine, joined, grouping, monkeypatch
):
    if not joined:
        monkeypatch.setattr(cells, "MOST_NUMBERS", 0)
    formula, options = MODELS[model]
    here = glmer(formula, rows, control=lenient(), **options)
    there = glmer(formula, ENGINES[engine](parquet), control=lenient(), **options)
    [source] = grouping
    assert sum(len(chunk.y) for chunk in source) < 0.7 * here.nobs
    assert there.converged
    assert there.nobs == here.nobs
    assert there.objective == pytest.approx(here.objective, rel=1e-10)
    assert there.bic == pytest.approx(here.bic, rel=1e-10)
    np.testing.assert_allclose(there.fixef(), here.fixef(), rtol=1e-6, atol=1e-7)
    np.testing.assert_allclose(there.vcov(), here.vcov(), rtol=1e-5, atol=1e-10)
    own, expected = there._fit.estimates, here._fit.estimates
    assert own.pwrss == pytest.approx(expected.pwrss, rel=1e-6)
    np.testing.assert_allclose(there.ranef()["g"], here.ranef()["g"], rtol=1e-5, atol=1e-6)


def test_the_engine_is_asked_what_there_is_to_save(parquet, grouping, monkeypatch):
    monkeypatch.setattr(cells, "SHARED", 4)
    glmer("y ~ o + (1 | g)", parquet, "poisson")  # 3 x 9 cells, each with some counts
    assert len(grouping) == 1
    glmer("y ~ o + f + (1 | g)", parquet, "nbinom2")  # whose shape needs every row
    monkeypatch.setattr(cells, "SHARED", 9)
    glmer("y ~ o + f + (1 | g)", parquet, "poisson")
    monkeypatch.setattr(cells, "SHARED", 0.1)
    monkeypatch.setattr(cells, "FEW", N + 1)
    glmer("y ~ o + (1 | g)", parquet, "poisson")
    assert len(grouping) == 1


def test_cells_of_one_mean_are_no_constant_response(grouping):
    table = "select i % 6 as g, {} as y from range(240) s(i)"
    with pytest.warns(UserWarning, match="singular"):
        fit = glmer("y ~ 1 + (1 | g)", duckdb.sql(table.format("i // 6 % 2")), "binomial")
    assert len(grouping) == 1
    assert fit.fixef().iloc[0] == pytest.approx(0.0, abs=1e-12)
    with pytest.raises(DataError, match="Response is constant: y is 1 in all 240 rows"):
        glmer("y ~ 1 + (1 | g)", duckdb.sql(table.format("1")), "binomial")


def test_a_table_that_changes_is_refused(grouping):
    con = duckdb.connect()
    con.sql("create table t as select i % 7 as g, (i * i) % 4 as y from range(400) s(i)")
    fit = glmer("y ~ 1 + (1 | g)", con.table("t"), "poisson", control=lenient())
    assert fit.nobs == 400
    con.sql("insert into t values (3, 1)")
    with pytest.raises(DataError, match="changes while it is read"):
        list(grouping[0])


def test_a_column_may_have_the_name_of_a_count(grouping):
    table = "select i % 3 as n0, i // 20 as N1, i % 3 + i // 20 % 2 as y from range(120) s(i)"
    fit = glmer("y ~ n0 + (1 | N1)", duckdb.sql(table), "poisson", control=lenient())
    assert fit.nobs == 120
    assert len(grouping) == 1


def test_a_chunk_in_pieces_is_the_chunk(parquet, grouping):
    glmer("y ~ o + f + (1 | g)", parquet, "poisson", offset="o", control=lenient())
    [whole] = list(grouping[0])
    parts = list(Spooled(Looped(lambda: cells.sliced(whole, 7))))
    assert [len(part.y) for part in parts[:2]] == [7, 7]
    assert sum(part.n_rows for part in parts) == whole.n_rows == N
    assert sum(part.surplus for part in parts) == whole.surplus
    np.testing.assert_array_equal(np.concatenate([p.offset for p in parts]), whole.offset)
    np.testing.assert_array_equal(np.concatenate([p.codes[0] for p in parts]), whole.codes[0])
