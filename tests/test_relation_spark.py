"""Frames of Spark, in local mode: one session for all tests."""

import os
import shutil
import sys
import warnings

import numpy as np
import pandas as pd
import pytest

from mixef import lmer
from mixef.errors import DataError
from mixef.estimation.linear import pushed
from mixef.terms.relation.expressions import NotOnEngineError
from mixef.terms.relation.relation import relation_of

pyspark = pytest.importorskip("pyspark", reason="pyspark is not installed")
if shutil.which("java") is None:
    pytest.skip("Spark needs Java", allow_module_level=True)

from pyspark.sql import SparkSession  # noqa: E402

N = 240


def rows():
    rng = np.random.default_rng(4)
    g, h = rng.integers(0, 8, N), rng.integers(0, 5, N)
    d = pd.DataFrame({"x": rng.normal(size=N), "g": g, "h": [f"h{k}" for k in h], "k": h + 2**60})
    d["y"] = d["x"] + rng.normal(size=8)[g] + rng.normal(size=5)[h] + rng.normal(size=N)
    d["f"] = np.where(rng.random(N) < 0.4, "b", "A")
    d["flag"], d["w"] = rng.random(N) < 0.5, rng.integers(0, 3, N) / 2.0
    d["day"] = [pd.Timestamp("2024-02-27").date() + pd.Timedelta(days=k) for k in h.tolist()]
    d.loc[[3, 9], "x"] = np.nan
    return d


@pytest.fixture(scope="module")
def session():
    os.environ.setdefault("PYSPARK_PYTHON", sys.executable)  # what the workers run
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # pyspark's, of releases of pandas
        made = (
            SparkSession.builder.master("local[2]")
            .config("spark.ui.enabled", "false")
            .config("spark.sql.shuffle.partitions", "1")
            .config("spark.sql.ansi.enabled", "true")
            .config("spark.driver.memory", "1g")
            .config("spark.driver.bindAddress", "127.0.0.1")
            .config("spark.driver.host", "127.0.0.1")
            .config("spark.ui.showConsoleProgress", "false")
            .getOrCreate()
        )
        made.sparkContext.setLogLevel("OFF")
        yield made
        made.stop()


@pytest.fixture(scope="module")
def frame(session, tmp_path_factory):
    path = str(tmp_path_factory.mktemp("spark") / "rows.parquet")
    rows().to_parquet(path, index=False)
    return session.read.parquet(path)


def assert_same(formula, frame, **arguments):
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        there, here = lmer(formula, frame, **arguments), lmer(formula, rows(), **arguments)
    assert there.nobs == here.nobs
    assert there.objective == pytest.approx(here.objective, rel=1e-12)
    np.testing.assert_allclose(there.fixef(), here.fixef(), rtol=1e-6)
    assert list(there.fixef().index) == list(here.fixef().index)
    for group, modes in here.ranef().items():
        own = there.ranef()[group]
        assert list(map(str, own.index)) == list(map(str, modes.index))
        np.testing.assert_allclose(own, modes, atol=1e-5)


def test_sums_are_taken_by_spark(frame):
    assert_same("y ~ x + f + (1 + x | g) + (1 | h)", frame, weights="w")


def test_rows_are_read_in_batches(frame, monkeypatch):
    def nothing_on_the_engine(self):
        raise NotOnEngineError("anything")

    monkeypatch.setattr(pushed.PushedModel, "sums", nothing_on_the_engine)
    assert_same("y ~ x + flag + factor(day) + (1 | k) + (1 | f)", frame)


def test_what_spark_cannot_do_is_said(frame):
    odd = frame.withColumnRenamed("x", "a.b")
    with pytest.raises(DataError, match=r"withColumnRenamed\('a.b', 'a_b'\)"):
        lmer("y ~ a.b + (1 | g)", odd)
    failing = frame.selectExpr("y", "1 / (g - g) as x", "g")
    with pytest.raises(DataError, match=r"Spark failed to read the table: .*DIVIDE_BY_ZERO"):
        relation_of(failing).collect()
