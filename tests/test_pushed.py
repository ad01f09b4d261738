"""Linear models as sums that an engine takes: the fits of rows in memory, and no row leaves."""

import pickle

import numpy as np
import pandas as pd
import pytest

from mixef import lmer
from mixef.errors import DataError
from mixef.estimation.linear import pushed
from mixef.estimation.linear.criterion import LinearCriterion
from mixef.terms.relation.reader import Reader
from mixef.terms.relation.sums import CompleteRows

N = 900


def rows():
    """Rows with factors, nested and crossed groups, missing values of all kinds, and weights."""
    rng = np.random.default_rng(8)
    g, h = rng.integers(0, 30, N), rng.integers(0, 9, N)
    f = np.array(["low", "high", "mid", "Other"])[rng.integers(0, 4, N)]
    x, z = rng.normal(50, 10, N), rng.gamma(2.0, size=N)
    y = 100 + 0.04 * x + rng.normal(size=30)[g] * (1 + 0.02 * x) + rng.normal(size=9)[h]
    d = pd.DataFrame({"y": y + rng.normal(size=N) + (f == "high"), "x": x, "z": z, "f": f})
    d["g"], d["h"], d["k"] = g * 7 + 3, [f"h{k}" for k in h], rng.integers(0, 5, N)
    d["b"], d["o"], d["w"] = rng.random(N) < 0.4, rng.normal(size=N), rng.integers(0, 4, N) / 2.0
    d.loc[[3, 50], "x"], d.loc[[4], "y"] = np.nan, np.nan
    d["f"] = d["f"].astype(object)
    d.loc[[7], "h"], d.loc[[8], "f"] = None, None
    return d


MODELS = {
    "slopes": ("y ~ x + f + (x | g)", {}),
    "crossed": ("y ~ x * f + (1 | g) + (1 | h)", {}),
    "nested": ("y ~ x + (1 | h / g)", {}),
    "crossed slopes": ("y ~ x + z + (x + z | g) + (0 + x | h) + (1 | k)", {}),
    "weights": ("y ~ x + b + (1 | g) + (1 | h)", {"weights": "w", "offset": "o"}),
    "offsets": ("y ~ x + offset(o) + (1 | g)", {"offset": ["o", "z"], "weights": "w + 1"}),
    "functions": ("log(y) ~ scale(x) + poly(z, 2) + log(z) + (1 | g)", {}),
    "powers": ("y ~ x + I(x^2) + x:z + (x | g)", {"REML": False}),
    "slopes of a factor": ("y ~ x + (0 + f | h) + (b || g)", {}),
    "contrasts": ("y ~ f + z:f + factor(k) + (1 | g)", {"contrasts": {"f": "sum"}}),
    "cells": ("y ~ f * factor(k) * b + x + (1 | g) + (x | h)", {"weights": "w"}),
    "subset": ("y ~ x + (1 | g:f)", {"subset": "z > 1 & f != 'mid'"}),
    "aliased": ("y ~ x + I(2 * x) + f + f:h + (z || g)", {}),
    "no intercept": ("y ~ 0 + f:x + (0 + x | g)", {}),
    "no fixed effects": ("y ~ 0 + (1 | g)", {}),
    "structures": ("y ~ x + cs(0 + f | g) + diag(x | h, hom = TRUE)", {}),
    "matrix": ("y ~ cbind(x, z) * f + (1 | g)", {}),
    "labels": ("y ~ relevel(f, 'mid') + interaction(b, k) + (1 | factor(g))", {}),
}


@pytest.fixture(scope="module")
def data():
    return rows()


@pytest.fixture(scope="module")
def path(data, tmp_path_factory):
    path = str(tmp_path_factory.mktemp("pushed") / "rows.parquet")
    data.to_parquet(path, row_group_size=200)
    return path


def table(engine, path):
    """The rows where an engine holds them."""
    module = pytest.importorskip(engine)
    if engine == "duckdb":
        return module.read_parquet(path)
    if engine == "polars":
        return module.scan_parquet(path)
    return module.duckdb.connect().read_parquet(path)


def assert_same(name, data, other):
    """The criterion and the coefficients agree at the same parameters, and where searches end."""
    formula, arguments = MODELS[name]
    ours, theirs = (lmer(formula, d, **arguments) for d in (other, data))
    spec, pushed_spec = theirs._fit.spec, ours._fit.spec
    np.testing.assert_array_equal(ours._fit.kept, theirs._fit.kept)
    par = theirs._fit.estimates.par
    problems = ours._fit.problem, theirs._fit.problem
    at = [LinearCriterion(p).estimates(p.scaled_par(par)) for p in problems]
    # Without an intercept, the squares of a response far from zero are mostly those of its mean.
    close = 1e-12 if name == "no fixed effects" else 1e-13
    np.testing.assert_allclose(at[0].objective, at[1].objective, rtol=close)
    np.testing.assert_allclose(at[0].beta, at[1].beta, rtol=1e-11, atol=1e-13)
    for one, two in zip(at[0].effects, at[1].effects, strict=True):
        np.testing.assert_allclose(one, two, rtol=1e-9, atol=1e-10)
    np.testing.assert_allclose(ours.objective, theirs.objective, rtol=close)
    assert [t.grouping.levels.tolist() for t in spec.terms] == [
        t.grouping.levels.tolist() for t in pushed_spec.terms
    ]


@pytest.fixture
def no_batches(monkeypatch):
    """Nobody reads the rows in batches, neither to count them nor to sum."""

    def refuse(*args):
        raise AssertionError("the rows are read in batches")

    chunks_of = pushed.chunks_of
    in_memory = lambda spec: chunks_of(spec) if spec.frame.in_memory else refuse  # noqa: E731
    monkeypatch.setattr(pushed, "chunks_of", in_memory)
    monkeypatch.setattr(Reader, "batches", refuse)


@pytest.mark.filterwarnings("ignore")
@pytest.mark.usefixtures("no_batches")
@pytest.mark.parametrize(
    ("engine", "name"),
    [("duckdb", name) for name in MODELS]
    + [(e, name) for e in ("polars", "ibis") for name in ("crossed", "weights", "cells", "labels")],
)
def test_the_fit_is_that_of_rows_in_memory(engine, name, path, data):
    assert_same(name, data, table(engine, path))


@pytest.fixture
def summed_here(monkeypatch):
    """Groups are summed here from rows of their keys and numbers alone, however few there are."""
    asked, numbered = [], CompleteRows.numbered
    monkeypatch.setattr(pushed, "MANY_GROUPS", 0)
    monkeypatch.setattr(
        CompleteRows, "numbered", lambda *args: asked.append(args[1]) or numbered(*args)
    )
    return asked


@pytest.mark.filterwarnings("ignore")
@pytest.mark.usefixtures("no_batches")
@pytest.mark.parametrize("name", ["crossed", "weights", "structures", "powers"])
def test_sums_of_very_many_groups_are_taken_here(name, path, data, summed_here):
    assert_same(name, data, table("duckdb", path))
    assert summed_here


@pytest.mark.filterwarnings("ignore:boundary")
@pytest.mark.usefixtures("no_batches")
def test_keys_that_are_equal_to_an_engine_alone_are_summed_there(data, tmp_path, summed_here):
    """Zero and minus zero are one group, of which the engine has shown one of them."""
    signed = data.assign(k=np.where(data.k == 0, np.where(data.b, 0.0, -0.0), data.k))
    signed.to_parquet(tmp_path / "signed.parquet")
    ours, theirs = (
        lmer("y ~ x + (1 | g) + (1 | k)", d) for d in (str(tmp_path / "signed.parquet"), signed)
    )
    assert summed_here
    assert ours.ngrps().equals(theirs.ngrps())
    np.testing.assert_allclose(ours.objective, theirs.objective, rtol=1e-13)


@pytest.mark.usefixtures("no_batches")
@pytest.mark.parametrize("kind", ["Enum", "Categorical"])
def test_categories_of_polars(kind, data):
    """An enumeration has its order; categories that no row has are no levels."""
    pl = pytest.importorskip("polars")
    order = ["mid", "unused", "low", "Other", "high"]
    dtype = pl.Enum(order) if kind == "Enum" else pl.Categorical
    complete = data.dropna()
    lazy = pl.from_pandas(complete).lazy().with_columns(pl.col("f").cast(dtype))
    levels = order if kind == "Enum" else sorted(order)
    frame = complete.assign(f=pd.Categorical(complete.f, levels))
    ours, theirs = (lmer("y ~ f + (1 | g) + (1 | f:h)", d) for d in (lazy, frame))
    pd.testing.assert_series_equal(ours.fixef(), theirs.fixef(), rtol=1e-10)
    assert ours.ranef()["f:h"].index.tolist() == theirs.ranef()["f:h"].index.tolist()


def test_a_pickle_reads_the_rows_again(path):
    ours = lmer("y ~ x + f + (1 | g)", path)
    again = pickle.loads(pickle.dumps(ours))
    assert again._fit.problem is not ours._fit.problem
    np.testing.assert_allclose(again.vcov(), ours.vcov(), rtol=1e-12)
    np.testing.assert_allclose(again.refit_ml().objective, ours.refit_ml().objective, rtol=1e-12)


@pytest.mark.usefixtures("no_batches")
def test_what_is_left_out_is_counted(path, data):
    with pytest.warns(match="weight zero"):
        ours = lmer("y ~ x + f + (1 | g)", path, weights="w", subset="z < 3")
    with pytest.warns(match="weight zero"):
        theirs = lmer("y ~ x + f + (1 | g)", data, weights="w", subset="z < 3")
    assert str(ours._fit.frame.left_out) == str(theirs._fit.frame.left_out)
    assert ours.nobs == theirs.nobs


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize(
    "formula",
    [
        "y ~ ns(x, df = 3) + (1 | g)",  # no engine has splines
        "y ~ x + I(x + 1e-7 * z) + (1 | g)",  # sums of squares cannot tell them from each other
        "y ~ cut(z, 3) + (1 | g)",  # as many groups as numbers
    ],
)
def test_what_sums_cannot_do_is_read_in_batches(formula, path, data, monkeypatch):
    passes, scan = [], pushed.scan
    monkeypatch.setattr(pushed, "scan", lambda chunks: passes.append(1) or scan(chunks))
    ours = lmer(formula, table("duckdb", path))
    assert passes == [1]
    theirs = lmer(formula, data)
    np.testing.assert_allclose(ours.objective, theirs.objective, rtol=1e-11)


def test_groups_that_tell_nearly_all_take_rows_besides(data, tmp_path):
    """Sums of squares lose what the groups leave; the rows are read for it."""
    told = data.assign(y=1e4 * data.g + data.y)
    told.to_parquet(tmp_path / "told.parquet")
    ours = lmer("y ~ 1 + (1 | g)", str(tmp_path / "told.parquet"))
    theirs = lmer("y ~ 1 + (1 | g)", told)
    assert ours._fit.problem.rows is not None
    np.testing.assert_allclose(ours.sigma, theirs.sigma, rtol=1e-9)
    np.testing.assert_allclose(ours.objective, theirs.objective, rtol=1e-10)


@pytest.mark.parametrize("many", [pushed.MANY_GROUPS, 0])
@pytest.mark.parametrize("change", ["more rows", "a new level", "a missing value"])
def test_a_table_that_changes_meanwhile_is_refused(change, many, data, monkeypatch):
    duckdb = pytest.importorskip("duckdb")
    connection = duckdb.connect()
    complete = data.dropna()
    connection.execute("create table t as select * from complete")
    known = pushed.PushedModel.sums

    def changed_first(self):
        if change == "more rows":
            connection.execute("insert into t select * from t limit 3")
        elif change == "a new level":
            connection.execute("update t set g = -5 where g = 3")
        else:
            connection.execute("update t set x = null where g = 3")
        return known(self)

    monkeypatch.setattr(pushed.PushedModel, "sums", changed_first)
    monkeypatch.setattr(pushed, "MANY_GROUPS", many)
    assert len(complete) < len(data)
    with pytest.raises(DataError, match="changes while it is read"):
        lmer("y ~ x + (1 | g)", connection.table("t"))
