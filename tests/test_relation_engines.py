"""Where tables lie, and what can go wrong while they are read."""

import datetime
import os
import pickle
import signal
import sqlite3
import subprocess
import sys
import threading
import time
import warnings
from contextlib import closing
from pathlib import Path

import duckdb
import ibis
import numpy as np
import pandas as pd
import polars as pl
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from mixef import lmer
from mixef.errors import DataError, MissingLibraryError
from mixef.late import LateModule
from mixef.terms.formula import parse_formula
from mixef.terms.relation import engines, files
from mixef.terms.relation.frame import relation_frame
from mixef.terms.relation.relation import relation_of

N = 300
FORMULA = "y ~ x + (1 | g)"
#: What an engine is not asked to sum up, so that batches are read.
STREAMED = "y ~ round(x, 1) + (1 | g)"


def rows(n=N):
    rng = np.random.default_rng(3)
    g, x = rng.integers(0, 12, n), rng.normal(size=n)
    y = x + rng.normal(size=12)[g] + rng.normal(size=n)
    return pd.DataFrame({"y": y, "x": x, "g": g, "part": np.arange(n) % 3})


@pytest.fixture
def folder(tmp_path):
    """A folder with three files."""
    for part, some in rows().groupby("part"):
        some.to_parquet(tmp_path / f"part{part}.parquet", index=False)
    return tmp_path


def same(fit):
    own = lmer(fit.formula, rows())
    assert fit.nobs == own.nobs
    assert fit.objective == pytest.approx(own.objective, rel=1e-12)


def test_paths_patterns_and_folders(folder):
    for data in (
        folder,
        str(folder),
        f"{folder}/",
        folder / "*.parquet",
        f"{folder}/part?.parquet",
    ):
        same(lmer(FORMULA, data))
    one = lmer(FORMULA, folder / "part1.parquet")
    assert one.nobs == 100
    assert pickle.loads(pickle.dumps(one)).nobs == 100


@pytest.mark.parametrize("engine", ["duckdb", "polars"])
def test_what_is_there_is_no_pattern(tmp_path, engine, monkeypatch):
    if engine == "polars":
        monkeypatch.setattr(files, "_by_duckdb", lambda *_: LateModule("nothing").there)
    folder = tmp_path / "k=1" / "d[a]"
    folder.mkdir(parents=True)
    rows().to_parquet(folder / "part[1].parquet")
    rows()[:90].to_parquet(tmp_path / "k=1" / "part1.parquet")
    rows()[:90].to_parquet(folder / "part1.PARQUET")
    same(lmer(FORMULA, folder / "part[1].parquet"))
    same(lmer(FORMULA, folder))
    assert lmer(FORMULA, folder / "part1.PARQUET").nobs == 90
    monkeypatch.setenv("HOME", str(tmp_path))
    assert lmer(FORMULA, "~/k=1/*1.parquet").nobs == 90
    with pytest.raises(DataError, match=r"duckdb\.read_parquet\(\) take a list of paths"):
        lmer(FORMULA, [folder])


@pytest.mark.parametrize("engine", ["duckdb", "polars"])
def test_folders_named_after_values(tmp_path, engine, monkeypatch):
    data = rows().assign(odd=lambda d: d["g"] % 4 == d["part"])
    pq.write_to_dataset(pa.Table.from_pandas(data), tmp_path, partition_cols=["part", "odd"])
    if engine == "polars":
        monkeypatch.setattr(files, "_by_duckdb", lambda *_: LateModule("nothing").there)
    same(lmer("y ~ x + factor(part) + (1 | g)", tmp_path))
    # Booleans are those of the data, not their names.
    ours, theirs = (lmer("y ~ x + odd + (1 | g)", d).fixef() for d in (tmp_path, data))
    pd.testing.assert_series_equal(ours, theirs)


def test_without_an_engine(folder, monkeypatch):
    for name in ("_by_duckdb", "_by_polars"):
        monkeypatch.setattr(files, name, lambda *_: LateModule("nothing").there)
    with pytest.raises(
        MissingLibraryError, match="takes DuckDB 2 or polars: pip install --upgrade duckdb"
    ):
        lmer(FORMULA, folder)


@pytest.mark.parametrize(
    ("columns", "formula"),
    [
        ({"X": np.arange(N) % 7.0}, "y ~ x + X + (1 | g)"),
        (
            {"long": pa.array([datetime.timedelta(days=i % 7) for i in range(N)])},
            "y ~ long + (1|g)",
        ),
        (
            {"at": pa.array(np.arange(N) // 60 * 10**11, pa.timestamp("us", "Europe/Berlin"))},
            "y ~ factor(at) + (1 | g)",
        ),
    ],
    ids=["case", "durations", "zones"],
)
def test_what_duckdb_would_change_is_read_by_polars(tmp_path, columns, formula, monkeypatch):
    table = pa.Table.from_pandas(rows())
    for name, values in columns.items():
        table = table.append_column(name, pa.array(values))
    pq.write_table(table, tmp_path / "a.parquet")
    there, here = lmer(formula, tmp_path / "a.parquet"), lmer(formula, table)
    assert there._fit.frame.relation.engine == "polars"
    assert there.objective == pytest.approx(here.objective, rel=1e-12)
    assert list(there.fixef().index) == list(here.fixef().index)
    monkeypatch.setattr(files, "_by_polars", lambda *_: LateModule("nothing").there)
    with pytest.raises(MissingLibraryError, match="to DuckDB, takes polars: pip install polars"):
        lmer(formula, tmp_path / "a.parquet")


def test_lazy_frames_of_several_files_and_computed_columns(folder):
    paths = [folder / f"part{k}.parquet" for k in range(3)]
    lazy = pl.concat([pl.scan_parquet(path) for path in paths])
    same(lmer(FORMULA, lazy))
    same(lmer(FORMULA, lazy.with_columns(x=pl.col("x") * 2).with_columns(pl.col("x") / 2)))
    same(lmer(FORMULA, duckdb.read_parquet(list(map(str, paths)))))
    same(lmer(FORMULA, lazy.rename({"x": "z"}).with_columns(x=pl.col("z"))))


def test_a_database_that_serves_one_thread(tmp_path):
    path = tmp_path / "rows.db"
    with closing(sqlite3.connect(path)) as made:
        rows().to_sql("rows", made, index=False)
    table, here = ibis.sqlite.connect(path).table("rows"), lmer(FORMULA, rows())
    fit = lmer(FORMULA, table)
    assert fit.objective == pytest.approx(here.objective, rel=1e-12)
    for _ in range(5):  # any thread of an engine may be the one that reads
        np.testing.assert_allclose(fit.fitted().to_pandas()[".fitted"], here.fitted(), rtol=1e-9)


def test_another_engine_is_refused_by_name(monkeypatch):
    monkeypatch.delitem(engines.BATCHES, "polars")
    with pytest.raises(DataError, match=r"data of polars cannot be read in batches; expected one"):
        lmer(FORMULA, pl.from_pandas(rows()).lazy())


def test_small_batches_are_joined_and_large_ones_cut():
    table = pa.table({"x": range(100), "f": pa.array(list("abcde") * 20).dictionary_encode()})
    for rows_read, sizes in ((4, [8] * 12 + [4]), (40, [21, 21, 21, 21, 16])):
        read = iter(table.to_batches(max_chunksize=100 if rows_read == 4 else 3))
        found = list(engines.gathered(read, rows_read, "polars"))
        assert [b.num_rows for b in found] == sizes
        assert pa.Table.from_batches(found).column("x").to_pylist() == list(range(100))


# What changes or fails


@pytest.mark.parametrize("formula", [FORMULA, STREAMED])
def test_a_table_that_changes_is_refused(formula):
    connection = duckdb.connect()
    connection.register("t", rows(20_000))
    moving = connection.sql("select * from t where random() < 0.9")
    with pytest.raises(
        DataError, match=r"complete rows when they were counted, and 1\d,\d{3} when"
    ):
        lmer(formula, moving)


@pytest.mark.parametrize(
    ("kind", "message"), [(int, "levels that it had not had"), (str, "'g' has labels that it had")]
)
def test_levels_that_come_later_are_refused(kind, message):
    data = rows().astype({"g": kind})
    frame = relation_frame(parse_formula(FORMULA), relation_of(pl.from_pandas(data).lazy()))
    later = data.replace({"g": {kind(3): kind(99)}})
    object.__setattr__(frame.relation, "lazy", relation_of(pl.from_pandas(later).lazy()).lazy)
    with pytest.raises(DataError, match=message):
        list(frame.batches())


@pytest.mark.filterwarnings("ignore:boundary")
@pytest.mark.parametrize("collation", ["nocase", "noaccent"])
def test_levels_that_a_collation_joins(collation):
    """To the engine 'a' and 'A', or 'e' and 'é', are one label then; in memory they are two."""
    data = rows().assign(h=np.array(["a", "A", "e", "é"])[np.arange(len(rows())) % 4])
    connection = duckdb.connect()
    connection.register("d", data)
    connection.execute(f"create table t as select * replace (h collate {collation} as h) from d")
    for formula in ("y ~ x + (1 | h)", "y ~ h + (1 | g)", "y ~ I(h == 'a') + (1 | g)"):
        here, there = (lmer(formula, source) for source in (data, connection.table("t")))
        assert there.objective == pytest.approx(here.objective, rel=1e-12)
        assert there.fixef().index.tolist() == here.fixef().index.tolist()
        assert there.ngrps().equals(here.ngrps())


def test_a_connection_that_is_closed():
    connection = duckdb.connect()
    connection.register("t", rows())
    relation = connection.table("t")
    connection.close()
    with pytest.raises(DataError, match=r"DuckDB failed to .*closed; .* keep the connection open"):
        lmer(FORMULA, relation)


def test_a_table_that_is_dropped():
    connection = duckdb.connect()
    connection.register("rows", rows())
    connection.execute("create table t as select *, x as attrs from rows")
    relation = connection.table("t")
    fit = lmer(FORMULA, relation)
    connection.execute("drop table t")
    for call in (
        lambda: lmer(FORMULA, relation),
        fit.fitted,
        lambda: fit.predict(relation),
        lambda: fit.update(". ~ . - x"),
        lambda: fit.drop1(),
    ):
        with pytest.raises(DataError, match=r"DuckDB failed to read the table: .*does not exist"):
            call()


@pytest.mark.parametrize(
    "scan", [str, duckdb.read_parquet, pl.scan_parquet], ids=["path", "duckdb", "polars"]
)
def test_a_file_that_is_damaged(tmp_path, scan):
    path = str(tmp_path / "a.parquet")
    rows(5000).to_parquet(path)
    data = scan(path)
    whole = Path(path).read_bytes()
    Path(path).write_bytes(whole[:4] + b"?" * 40 + whole[44:])
    with pytest.raises(DataError, match="failed to read the table: "):
        lmer(FORMULA, data)
    Path(path).write_bytes(whole[:900])
    with pytest.raises(DataError, match=r"failed to read the table: |cannot read Parquet files"):
        lmer(FORMULA, data)


def test_a_lazy_frame_of_a_column_that_is_not_there():
    lazy = pl.from_pandas(rows()).lazy().with_columns(z=pl.col("nope") + 1)
    with pytest.raises(DataError, match=r"polars failed to read the table: .*nope"):
        lmer(FORMULA, lazy)


# Threads, and ends before the end


def test_threads_may_read_one_path(folder):
    found = []
    threads = [
        threading.Thread(target=lambda: found.append(lmer(STREAMED, folder).objective))
        for _ in range(3)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
    assert len(found) == 3
    assert np.ptp(found) < 1e-9


def test_a_connection_that_is_in_use():
    connection = duckdb.connect()
    connection.register("t", rows(200_000))
    relation = relation_of(connection.table("t"))
    batches = relation.batches(1000)
    next(batches)
    with pytest.raises(DataError, match=r"a cursor of its own, as by con.cursor\(\).table"):
        relation.collect()
    batches.close()
    assert relation.collect().num_rows == 200_000
    own = relation_of(connection.cursor().sql("select 1 as x"))
    assert own.collect().num_rows == 1


def test_an_older_duckdb_is_refused_by_its_version(folder, monkeypatch):
    relation = duckdb.connect().read_parquet(f"{folder}/*.parquet")
    monkeypatch.setattr(duckdb, "__version__", "1.4.4")
    with pytest.raises(MissingLibraryError, match=r"DuckDB 1\.4\.4 .*--upgrade duckdb"):
        relation_of(relation)
    assert relation_of(folder).engine == "polars"


SCAN = """
import sys, time
from mixef import lmer

def slow(x):
    print("reading", flush=True)
    time.sleep(0.2)
    return x

lmer("y ~ slow(x) + (1 | g)", sys.argv[1], env={"slow": slow})
"""


@pytest.mark.skipif(os.name == "nt", reason="signals of POSIX")
@pytest.mark.parametrize("sent", [signal.SIGKILL, signal.SIGINT], ids=["killed", "interrupted"])
def test_a_scan_that_ends_early_leaves_nothing(tmp_path, sent):
    rows(400_000).to_parquet(tmp_path / "a.parquet", row_group_size=20_000)
    home = tmp_path / "home"
    home.mkdir()
    started = subprocess.Popen(
        [sys.executable, "-c", SCAN, str(tmp_path / "a.parquet")],
        stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, cwd=home,
        env=os.environ | {"TMPDIR": str(home), "PYTHONPATH": os.pathsep.join(sys.path)},
    )  # fmt: skip
    for _ in range(4):
        assert started.stdout.readline() == "reading\n"
    begun = time.monotonic()
    started.send_signal(sent)
    _, said = started.communicate(timeout=30)
    assert time.monotonic() - begun < 20
    assert started.returncode != 0
    assert sent == signal.SIGKILL or "KeyboardInterrupt" in said
    assert list(home.iterdir()) == []
    assert [path.name for path in tmp_path.iterdir() if path != home] == ["a.parquet"]
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        assert relation_of(tmp_path / "a.parquet").first().num_rows > 0
