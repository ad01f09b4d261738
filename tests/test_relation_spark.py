"""Frames of Spark, in local mode: one session for all tests."""

import os
import shutil
import sys
import warnings

import numpy as np
import pandas as pd
import pytest

from mixef import GlmerControl, glmer, lmer
from mixef.arguments import spec_of_call
from mixef.errors import DataError
from mixef.estimation.chunked import BatchedRows
from mixef.estimation.generalized import cells
from mixef.estimation.generalized.kind import Generalized
from mixef.estimation.generalized.passes import Meaning
from mixef.estimation.generalized.spread import SpreadRows
from mixef.estimation.generalized.streamed_glm import Scan
from mixef.estimation.linear import pushed
from mixef.estimation.spec import ModelCall
from mixef.linalg.layout import Layout
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
    d["count"] = rng.poisson(np.exp(0.3 * d["x"] + 0.5 * rng.normal(size=8)[g]))
    d.loc[[3, 9], "x"] = np.nan
    return d


@pytest.fixture(scope="module")
def session():
    os.environ.setdefault("PYSPARK_PYTHON", sys.executable)  # what the workers run
    os.environ.setdefault("SPARK_LOCAL_IP", "127.0.0.1")  # where this machine's name has no address
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


def test_passes_are_summed_by_the_executors(frame, monkeypatch):
    monkeypatch.setattr(cells, "MANY", 0)
    names = {"half": lambda x: x / 2}  # goes to the executors, too
    formula, call = "count ~ half(x) + f + (1 | g)", ModelCall(frame)
    spec = spec_of_call(formula, call, Generalized("poisson"), GlmerControl(), names)
    spread = cells.rows_of(spec)
    assert isinstance(spread, SpreadRows)
    kept = [0, 2]
    step = Scan(Meaning(spec.kind.family), Layout((8,), (1,)))
    there, here = spread.of(kept).total(step), BatchedRows(spec, kept).total(step)
    assert there.n == here.n == N - 2
    np.testing.assert_allclose(there.X.R[0].T @ there.X.R[0], here.X.R[0].T @ here.X.R[0])
    assert there.normalizer == pytest.approx(here.normalizer, rel=1e-13)
    assert sum(len(chunk.y) for chunk in spread) == N - 2
    monkeypatch.setattr("mixef.__version__", "9.8")
    with pytest.raises(DataError, match=r"executors have mixef 0.*, and this is mixef 9.8: inst"):
        spread.total(step)


def test_spark_groups_rows_that_share_all(frame, monkeypatch):
    monkeypatch.setattr(cells, "FEW", 0)
    monkeypatch.setattr(cells, "SHARED", 1)
    monkeypatch.setattr(cells, "STEP", 3)
    quiet = GlmerControl(check_conv_singular="ignore")
    made, before = [], cells.collapse
    monkeypatch.setattr(cells, "collapse", lambda *args: made.append(args) or before(*args))
    there = glmer("flag ~ f + (1 | h)", frame, "binomial", nAGQ=0, control=quiet)
    here = glmer("flag ~ f + (1 | h)", rows(), "binomial", nAGQ=0, control=quiet)
    assert len(made) == 1
    assert there.objective == pytest.approx(here.objective, rel=1e-12)
    assert there.nobs == N


def test_what_spark_cannot_do_is_said(frame):
    odd = frame.withColumnRenamed("x", "a.b")
    with pytest.raises(DataError, match=r"withColumnRenamed\('a.b', 'a_b'\)"):
        lmer("y ~ a.b + (1 | g)", odd)
    failing = frame.selectExpr("y", "1 / (g - g) as x", "g")
    with pytest.raises(DataError, match=r"Spark failed to read the table: .*DIVIDE_BY_ZERO"):
        relation_of(failing).collect()


@pytest.mark.filterwarnings("ignore")
def test_workers_add_values_to_rows(frame):
    odd = frame.withColumnRenamed("w", "a.b")  # which the model does not use
    fit = lmer("y ~ x + (1 | g)", odd)
    made = fit.fitted().toPandas()
    assert list(made) == [*odd.columns, ".fitted"]
    here = lmer("y ~ x + (1 | g)", rows()).fitted()
    np.testing.assert_allclose(np.sort(made[".fitted"].dropna()), np.sort(here), rtol=1e-6)
    # the caller's names, which are the session's tables, stay here
    new = fit.predict(odd).toPandas()
    np.testing.assert_allclose(np.sort(new[".fitted"].dropna()), np.sort(here), rtol=1e-6)
    drawn = fit.simulate(1, seed=1)
    assert drawn.toPandas()[".sim_1"].equals(drawn.toPandas()[".sim_1"])
