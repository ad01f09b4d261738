"""Cluster-robust covariances of rows that an engine has, beside those of rows in memory."""

import pickle

import duckdb
import numpy as np
import pandas as pd
import polars as pl
import pytest
from test_rowless import small_batches  # noqa: F401

from mixef import glmer, lmer
from mixef.errors import ArgumentError, DataError, MemoryNeededError, RowsElsewhereError
from mixef.inference.hypotheses.ddf import approximation
from mixef.inference.robust import summed

# Sums over the rows of a cluster in another order: rounding.
CLOSE = 1e-10


@pytest.fixture(scope="module")
def rows():
    rng, n = np.random.default_rng(1), 500
    a, h = rng.integers(0, 12, n), rng.integers(0, 7, n)
    b = 10 * a + rng.integers(0, 4, n)
    frame = pd.DataFrame({"a": a, "b": [f"b{k}" for k in b], "h": h})
    frame["f"] = np.array(["low", "mid", "high"])[rng.integers(0, 3, n)]
    frame["site"] = [f"s{k % 8}" for k in a]
    frame["day"] = pd.Timestamp("2024-01-01") + pd.to_timedelta(a // 2, "D")
    frame["x"], frame["w"] = 3 + 2 * rng.normal(size=n), rng.integers(1, 4, n) + 0.5
    frame["y"] = rng.normal(size=n) * (1 + frame["x"] ** 2 / 9) + rng.normal(size=12)[a]
    frame["y"] += frame["x"] * rng.normal(size=120)[b] + rng.normal(size=7)[h]
    frame["k"] = rng.poisson(np.exp(0.2 * np.clip(frame["y"], -5, 5)))
    frame.loc[[3, 50], "x"] = np.nan
    frame["hole"] = frame["h"].where(frame["h"] > 0)
    return frame


@pytest.fixture(scope="module")
def parquet(rows, tmp_path_factory):
    path = str(tmp_path_factory.mktemp("robust") / "rows.parquet")
    rows.to_parquet(path, row_group_size=90)
    return path


def same(here, there, type, cluster, close=CLOSE):
    """Assert that a covariance, and degrees of freedom by it, are the same."""
    here, there = (fit.with_vcov(type, cluster) for fit in (here, there))
    V, sd = here.vcov(), np.sqrt(np.diag(here.vcov()))
    assert np.abs((there.vcov() - V) / np.outer(sd, sd)).to_numpy().max() < close
    pd.testing.assert_frame_equal(there.coef_table(), here.coef_table(), rtol=close, atol=close)
    p = len(sd)
    joint = [approximation(fit._fit).joint(np.eye(p)[1:]) for fit in (there, here)]
    np.testing.assert_allclose(*joint, rtol=close)


LINEAR = {  # formula, arguments, and for which clusters CR2 is to be had, or not
    "nested": ("y ~ x * f + (x | a / b)", {}, [None, "day"], ["b"]),
    "one": ("y ~ x + f + (1 + x | a)", {}, ["a", "site"], ["h", "f:site"]),
    "crossed": ("y ~ x + offset(x) + (1 | a) + (1 | h)", {}, [], ["a", "site"]),
    "weights": ("y ~ log(x + 9) * x + (1 | a)", {"weights": "w"}, [], ["a"]),
}


@pytest.mark.parametrize("key", LINEAR)
def test_linear_models(rows, parquet, key):
    formula, options, whole, without_CR2 = LINEAR[key]
    table = pl.scan_parquet(parquet) if key == "one" else duckdb.read_parquet(parquet)
    here, there = (lmer(formula, data, **options) for data in (rows, table))
    for cluster in whole:
        for type in ("CR1S", "CR2", "CR3"):
            same(here, there, type, cluster)
    for cluster in without_CR2:
        same(here, there, "CR3", cluster)
        message = r"CR2 by .* needs the rows .* 498 rows are in .*: use 'CR3', .* or 'CR1'"
        with pytest.raises(RowsElsewhereError, match=message):
            there.with_vcov("CR2", cluster)


def test_all_that_goes_by_a_covariance(rows, parquet):
    here, there = (lmer("y ~ x + f + (1 | a)", data) for data in (rows, parquet))
    for type in ("CR0", "CR1", "CR1p"):
        same(here, there, type, "a")
    here, there = (fit.with_vcov("CR2") for fit in (here, there))
    assert there.contest("x").method == here.contest("x").method
    assert str(there.anova()) == str(here.anova())
    wald = [fit.confint(method="wald").loc[["x"]] for fit in (there, here)]
    # Where the two searches end, 1e-8 of the standard deviations or so, and limits near zero.
    np.testing.assert_allclose(*wald, rtol=1e-6)


def test_generalized_models(rows, parquet):
    """The fits themselves agree to 1e-8."""
    here, there = (glmer("k ~ x + (1 | a) + (1 | h)", d, "poisson") for d in (rows, parquet))
    for cluster in ("h", "site"):
        same(here, there, "CR3", cluster, 1e-6)
    with pytest.raises(RowsElsewhereError, match=r"several variances.* in DuckDB: use 'CR3'"):
        there.with_vcov("CR2", "a")


def test_a_cluster_that_determines_a_coefficient(rows, parquet):
    """The adjustment leaves out the direction, and CR3 names the cluster."""
    formula = "y ~ x + I((a == 3) * 1.0) + (1 | a)"
    here, there = (lmer(formula, data) for data in (rows, parquet))
    # Here by QR, there by eigenvectors of the cross-products, which have half of the digits.
    np.testing.assert_allclose(there.vcov(robust="CR2"), here.vcov(robust="CR2"), rtol=1e-6)
    with pytest.raises(ArgumentError, match="cluster 3 determines a coefficient by itself"):
        there.vcov(robust="CR3")


def test_what_is_refused(parquet, monkeypatch):
    there, crossed = (lmer(f"y ~ x + (1 | a){more}", parquet) for more in ("", " + (1 | h)"))
    for fit, cluster, error, message in (
        (crossed, None, ArgumentError, "a, h are crossed: none .* say with cluster= which one"),
        (there, [1, 2], ArgumentError, r"rows are in DuckDB and have no order .* a column"),
        (there, "nope", DataError, "cluster names 'nope', .*; there are a, b?.*h"),
        (there, "hole", DataError, r"cluster hole is missing in \d+ of the 498 rows"),
        (there, "factor(x > -99)", ArgumentError, "puts all rows into one cluster"),
    ):
        with pytest.raises(error, match=message):
            fit.with_vcov("CR1", cluster)
    monkeypatch.setattr(summed, "fits", lambda needed: False)
    with pytest.raises(MemoryNeededError, match=r"over the 12 clusters of a need .* take larger"):
        there.with_vcov("CR1")


def test_pickles_keep_what_tests_need(parquet):
    robust = lmer("y ~ x + (1 | a)", duckdb.read_parquet(parquet)).with_vcov("CR2")
    lost = pickle.loads(pickle.dumps(robust))
    pd.testing.assert_frame_equal(lost.coef_table(), robust.coef_table())
    with pytest.raises(RowsElsewhereError, match="left behind: it comes from a pickle"):
        lost.with_vcov("CR1")
    again = pickle.loads(pickle.dumps(lmer("y ~ x + (1 | a)", parquet)))
    same(again, robust, "CR1", "site")
