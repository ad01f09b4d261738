"""Every linear reference case of lme4's through every source of rows, against the fit in memory.

The cases are those that test_lmm_reference.py compares with lme4. Sums from an engine differ from
those in memory in their order alone: 1e-12 of the criterion, whose optimum leaves 1e-6 to theta.
Engines know no ordered factors, whose contrasts are named here; ibis knows no order of levels, so
that its levels are sorted in memory too.
"""

import re
import warnings
from functools import cache

import duckdb
import ibis
import numpy as np
import pandas as pd
import polars as pl
import pyarrow as pa
import pytest
from reference_data import frame
from test_lmm_reference import CASES, SPLIT

from mixef import lmer
from mixef.estimation.linear import pushed
from mixef.terms.relation import engines
from mixef.terms.relation.expressions import NotOnEngineError


def distinct():
    """The cases, each model on each data once, by name."""
    out = {}
    for name, (case, _) in CASES.items():
        formula = SPLIT.get(case["formula"], case["formula"])
        arguments = {"weights": case.get("weights"), "offset": case.get("offset")}
        contrasts = {k: v.removeprefix("contr.") for k, v in (case.get("contrasts") or {}).items()}
        fixed = set(re.findall(r"[.\w]+", re.sub(r"\([^()]*\|[^()]*\)|\w+\([^()]*\)", "", formula)))
        ordered = [c for c, dtype in frame(case["data"]).dtypes.items() if is_ordered(dtype)]
        contrasts = {c: "poly" for c in ordered if c in fixed} | contrasts
        arguments |= {"contrasts": contrasts or None, "REML": case["REML"]}
        key = (formula.replace(" ", ""), case["data"], str(arguments))
        out.setdefault(key, (name, case["data"], formula, arguments))
    return {name: rest for name, *rest in out.values()}


def is_ordered(dtype):
    return isinstance(dtype, pd.CategoricalDtype) and dtype.ordered


MODELS = distinct()


def alike(name):
    """What models have in common that differ in REML alone."""
    data, formula, arguments = MODELS[name]
    return data, formula, str({k: v for k, v in arguments.items() if k != "REML"})


FIRST = {}
for each in MODELS:
    FIRST.setdefault(alike(each), each)


@cache
def table(data, sorts):
    """A frame with its categories in order, or as text, which is sorted."""
    rows = frame(data)
    for name, dtype in rows.dtypes.items():
        if isinstance(dtype, pd.CategoricalDtype):
            text = rows[name].astype(object).where(rows[name].notna(), None)
            rows[name] = text if sorts else pd.Categorical(rows[name], dtype.categories)
    return rows


def quoted(name):
    return '"' + name.replace('"', '""') + '"'


def by_duckdb(data, folder):
    """Parquet by DuckDB, with categories as enumerations."""
    rows, connection = table(data, False), duckdb.connect()
    path = folder / f"{data}.parquet"
    if not path.exists():
        table(data, True).to_parquet(path)
    casts = []
    for i, (name, dtype) in enumerate(rows.dtypes.items()):
        if isinstance(dtype, pd.CategoricalDtype):
            levels = ", ".join("'" + str(v).replace("'", "''") + "'" for v in dtype.categories)
            connection.execute(f"create type e{i} as enum ({levels})")
            casts.append(f"{quoted(name)}::e{i} as {quoted(name)}")
    columns = f"* replace ({', '.join(casts)})" if casts else "*"
    return connection.sql(f"select {columns} from '{path}'")


def by_polars(data, folder):
    rows = table(data, False)
    enums = {
        name: pl.Enum(list(map(str, dtype.categories)))
        for name, dtype in rows.dtypes.items()
        if isinstance(dtype, pd.CategoricalDtype)
    }
    return pl.from_pandas(table(data, True), schema_overrides=enums).lazy()


def by_ibis(data, folder):
    return ibis.memtable(pa.Table.from_pandas(table(data, True), preserve_index=False))


SOURCES = {"duckdb": by_duckdb, "batches": by_duckdb, "polars": by_polars, "ibis": by_ibis}


@cache
def in_memory(name, sorts):
    data, formula, arguments = MODELS[name]
    rows = table(data, sorts)
    if (offset := arguments["offset"]) is not None:
        arguments = arguments | {"offset": rows.eval(offset)}
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return lmer(formula, rows, **arguments)


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return tmp_path_factory.mktemp("reference")


def asked(name, data, source):
    """Whether a source is asked for a case: costly, or repeated, ones are left to DuckDB.

    Of models that differ in REML alone, whose sums are the same, the others take the first.
    """
    if source != "duckdb" and name != FIRST[alike(name)]:
        return False
    if data == "InstEval":
        return source == "duckdb" or (name, source) == ("insteval_ml", "batches")
    if source == "ibis":  # whose queries are DuckDB's
        return data in ("crossed", "crossed_na", "nested", "vector", "cake")
    return source == "duckdb" or not name.startswith("acceptance")


PAIRS = [
    (name, source) for name in MODELS for source in SOURCES if asked(name, MODELS[name][0], source)
]


@pytest.mark.parametrize(("name", "source"), PAIRS)
def test_every_case_from_every_source(name, source, folder, monkeypatch):
    data, formula, arguments = MODELS[name]
    if source == "batches":
        monkeypatch.setattr(engines, "BATCH", 9_000 if data == "InstEval" else 100)
        monkeypatch.setattr(pushed.PushedModel, "sums", nothing_on_the_engine)
    here = in_memory(name, source == "ibis")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        there = lmer(formula, SOURCES[source](data, folder), **arguments)
    assert there.nobs == here.nobs
    assert there.objective == pytest.approx(here.objective, rel=1e-12)
    assert list(there.fixef().index) == list(here.fixef().index)
    scale = np.abs(here.beta).max(initial=0.0)
    np.testing.assert_allclose(there.beta, here.beta, rtol=1e-6, atol=1e-6 * scale)
    assert there.sigma == pytest.approx(here.sigma, rel=1e-6)
    for group, modes in here.ranef().items():
        own = there.ranef()[group]
        assert list(map(str, own.index)) == list(map(str, modes.index))
        assert list(own.columns) == list(modes.columns)
        np.testing.assert_allclose(own, modes, atol=2e-5 * max(1e-3, np.abs(modes).max(axis=None)))


def nothing_on_the_engine(self):
    raise NotOnEngineError("anything")
