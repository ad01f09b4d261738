"""Generalized models of data that stay in an engine, against the same rows in memory."""

import pickle
import warnings
from typing import ClassVar

import duckdb
import numpy as np
import pandas as pd
import polars as pl
import pytest
import test_glmm_degenerate as degenerate
import tqdm.auto
from simulated_glmm import lenient, simulated

from mixef import glmer
from mixef.errors import ArgumentError, DataError, RowsElsewhereError, SingularFitWarning
from mixef.estimation.generalized import streamed_separation
from mixef.terms.relation import engines

MODELS = {
    "slopes": ("y ~ x + f + (x | g)", {"family": "poisson"}),
    "weights": ("y ~ x + (1 | g) + (1 | h)", {"family": "poisson", "weights": "w", "offset": "o"}),
    "proportions": ("cbind(s, t) ~ x + (1 | g / k)", {"family": "binomial"}),
    "copies": ("cbind(s, t) ~ scale(x) + (1 | g)", {"family": "binomial", "weights": "w"}),
    "truth": ("b ~ x + (1 | g)", {"family": "binomial", "nAGQ": 0}),
    "levels": ("c ~ x + offset(o) + (x || g)", {"family": "binomial(cloglog)"}),
    "shape": ("y ~ x + I(2 * x) + (1 | g)", {"family": "nbinom2"}),
    "subset": ("y ~ x + (1 | g)", {"family": "poisson(sqrt)", "subset": "z > -0.5"}),
}


@pytest.fixture(scope="module")
def rows():
    rng = np.random.default_rng(2)
    data = simulated("poisson(log)", n=500)
    data["s"] = rng.binomial(data["size"], 0.4)
    data["t"], data["o"] = data["size"] - data.s, 0.1 * data.z
    data["f"] = np.where(data.z > 0, "up", "down")
    data["b"] = data.y > 2
    data["c"] = np.where(data.b, "yes", "no")
    data.loc[[5, 60], "x"] = np.nan
    return data


@pytest.fixture(scope="module")
def parquet(rows, tmp_path_factory):
    path = str(tmp_path_factory.mktemp("rows") / "rows.parquet")
    rows.to_parquet(path, row_group_size=150)
    return path


@pytest.mark.filterwarnings("ignore:fixed-effect model matrix is rank deficient")
@pytest.mark.parametrize(
    ("model", "engine"),
    [
        *((model, duckdb.read_parquet) for model in MODELS),
        ("slopes", pl.scan_parquet),
        ("proportions", str),
        ("levels", pl.scan_parquet),
    ],
)
def test_the_rows_may_lie_in_an_engine(rows, parquet, model, engine, monkeypatch):
    monkeypatch.setattr(engines, "BATCH", 130)
    formula, options = MODELS[model]
    here = glmer(formula, rows, control=lenient(), **options)
    there = glmer(formula, engine(parquet), control=lenient(), **options)
    assert there.converged
    assert there.nobs == here.nobs
    assert there.objective == pytest.approx(here.objective, rel=1e-10)
    assert list(there.fixef().index) == list(here.fixef().index)
    np.testing.assert_allclose(there.fixef(), here.fixef(), rtol=1e-6, atol=1e-7)
    np.testing.assert_allclose(there.vcov(), here.vcov(), rtol=1e-5, atol=1e-10)
    for name, modes in here.ranef().items():
        np.testing.assert_allclose(there.ranef()[name], modes, rtol=1e-5, atol=1e-6)
    assert there._fit.outcome.modelled == here._fit.outcome.modelled
    assert "Fixed effects" in str(there.summary())


def test_fits_pickle_whatever_was_asked_of_them(rows):
    """A table of a connection does not pickle, nor do CHOLMOD and the file of later passes."""
    fit = glmer("y ~ x + (1 | g / k)", duckdb.from_df(rows), "poisson", control=lenient())
    drawn = fit.re_sim(2, seed=1)
    assert fit._fit.problem.source._held.spool is not None
    again = pickle.loads(pickle.dumps(fit))
    np.testing.assert_array_equal(again.coef_table(), fit.coef_table())
    for name, arguments in {"re_sim": (2,), "overdispersion": ()}.items():
        with pytest.raises(RowsElsewhereError, match="left behind: it comes from a pickle"):
            getattr(again, name)(*arguments)
    assert drawn.equals(fit.re_sim(2, seed=1))


def test_what_needs_rows_is_refused(parquet):
    fit = glmer("y ~ x + (1 | g)", parquet, "poisson")
    with pytest.raises(RowsElsewhereError, match="in memory, but its 498 rows"):
        fit.hatvalues()
    with pytest.raises(ArgumentError, match="nAGQ is 5, and quadrature needs the rows in memory"):
        glmer("y ~ x + (1 | g)", parquet, "poisson", nAGQ=5)


def test_what_the_family_does_not_know_is_refused(rows, tmp_path):
    path = str(tmp_path / "rows.parquet")
    rows.assign(y=rows.y - 1.0).to_parquet(path)
    with pytest.raises(DataError, match="the response y"):
        glmer("y ~ x + (1 | g)", path, "poisson")
    rows.assign(f=np.array(["a", "b", "c"])[rows.k]).to_parquet(path)
    with pytest.raises(DataError, match="a binomial response needs two levels, but f has 3"):
        glmer("f ~ x + (1 | g)", path, "binomial")
    rows.assign(y=3.0).to_parquet(path)
    with pytest.raises(DataError, match="Response is constant: y is 3"):
        glmer("y ~ x + (1 | g)", path, "poisson")


def test_parameters_are_read_off_as_in_memory(rows, parquet):
    formula = "y ~ x + f + (1 | g)"
    here, there = (glmer(formula, data, "poisson") for data in (rows, parquet))
    np.testing.assert_allclose(
        there.confint(method="wald"), here.confint(method="wald"), rtol=1e-5, atol=1e-8
    )
    assert there.bic == pytest.approx(here.bic, rel=1e-10)
    for own, expected in (
        (there.fitted(), here.fitted()),
        (there.residuals("pearson"), here.residuals("pearson")),
        (there.residuals("deviance"), here.residuals("deviance")),
    ):
        np.testing.assert_allclose(own.df().iloc[:, -1].dropna(), expected, rtol=1e-6, atol=1e-9)
    new = rows.head(7).dropna()
    np.testing.assert_allclose(there.predict(new), here.predict(new), rtol=1e-6)
    reduced = there.update("~ . - f")
    assert reduced.objective == pytest.approx(here.update("~ . - f").objective, rel=1e-10)


class Bar:
    """Takes tqdm's place, and keeps what it shows."""

    made: ClassVar = []

    def __init__(self, desc, total, initial, **options):
        self.options, self.labels, self.rows, self.closed = options, [desc], [initial], False
        self.totals = [total]
        Bar.made.append(self)

    def set_description(self, label):
        self.labels.append(label)

    def reset(self, total):
        self.totals.append(total)
        self.rows.append(0)

    def update(self, steps):
        self.rows[-1] += steps

    def close(self):
        self.closed = True


def test_passes_are_counted_and_shown(parquet, monkeypatch, capsys):
    monkeypatch.setattr(tqdm.auto, "tqdm", Bar)
    monkeypatch.setattr(engines, "BATCH", 130)
    monkeypatch.setattr(Bar, "made", [])
    glmer("y ~ x + (1 | g)", parquet, "poisson")
    assert not Bar.made  # nothing that took long
    monkeypatch.setattr("mixef.progress.DELAY", -1.0)
    fit = glmer("y ~ x + (1 | g)", parquet, "poisson", verbose=1)
    [bar] = Bar.made
    end = fit._fit.convergence
    assert bar.closed
    assert bar.options["disable"] is None  # shown on a terminal
    n = end.n_passes
    assert bar.labels == [f"pass {k + 1}" for k in range(n)]
    assert bar.totals == [None] + [498] * (n - 1)
    assert bar.rows == [498] * n
    assert f"{end.n_evaluations} evaluations and {n} passes over the rows; the exact" in str(end)
    printed = capsys.readouterr().out.splitlines()
    passes = [int(line.split("  pass ")[1].split()[0]) for line in printed]
    assert passes == sorted(passes)
    assert 10 < passes[0] <= passes[-1] <= n
    here = glmer("y ~ x + (1 | g)", pl.read_parquet(parquet), "poisson")
    assert "passes" not in str(here._fit.convergence)


def told(formula, data, arguments):
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        fit = glmer(formula, data, **({"family": "binomial"} | arguments))
    return fit, [(w.category, str(w.message)) for w in caught]


# Quadrature and weights a row are refused; the last one is a long search for what it has no end.
ENDS = [
    *(
        name
        for name, (*_, arguments, _) in degenerate.WARNINGS.items()
        if arguments.get("nAGQ", 1) < 2 and "weights" not in arguments
    ),
    *list(degenerate.NOT_SEPARATED)[:-1],
]


@pytest.mark.parametrize("name", ENDS)
def test_ends_are_named_as_in_memory(name, tmp_path, monkeypatch):
    # A search of thousands of passes has the rows in one batch.
    monkeypatch.setattr(engines, "BATCH", 1000 if name == "means at the end of their range" else 67)
    monkeypatch.setattr(streamed_separation, "MOST", 9)
    cases = degenerate.WARNINGS | degenerate.NOT_SEPARATED
    formula, changes, arguments, *_ = cases[name]
    arguments = {"family": arguments} if isinstance(arguments, str) else arguments
    data = degenerate.D.assign(**changes)
    path = str(tmp_path / "rows.parquet")
    data.to_parquet(path)
    here, expected = told(formula, data, arguments)
    there, warned = told(formula, path, arguments)
    if here.convergence.separation:  # whether a variance is left depends on the way to no end
        expected, warned = (
            [w for w in found if w[0] is not SingularFitWarning] for found in (expected, warned)
        )
    assert [category for category, _ in warned] == [category for category, _ in expected]
    assert there.converged == here.converged
    assert there.convergence.separation == here.convergence.separation
    if here.convergence.separation or "without" in name or "fractions" in name:
        assert warned == expected


COMBINED = {
    "perfect separation: a combination of x, z": lambda told, d: told,
    "quasi-complete separation: a combination of x, z": lambda told, d: np.where(
        (d.x == 0) & (d.z == 0), d.k % 2, told
    ),
    "": lambda told, d: np.where(np.arange(len(d)) == 700, ~told, told),  # but for one row
}


@pytest.mark.parametrize("message", COMBINED)
def test_combinations_of_predictors_separate(message, tmp_path, monkeypatch):
    rng = np.random.default_rng(5)
    d = pd.DataFrame({"x": rng.normal(size=900), "z": rng.normal(size=900)})
    d.loc[::9, ["x", "z"]] *= 0.0 if message.startswith("quasi") else 0.9
    d["g"], d["k"] = rng.integers(0, 12, 900), rng.integers(0, 50, 900)
    d["y"] = COMBINED[message](d.x + d.z > 0, d).astype(int)
    d.loc[700, ["x", "z"]] = 0.3, 0.4
    path = str(tmp_path / "rows.parquet")
    d.to_parquet(path)
    monkeypatch.setattr(engines, "BATCH", 250)
    monkeypatch.setattr(streamed_separation, "MOST", 11)
    here, _ = told("y ~ x + z + (1 | g)", d, {})
    there, _ = told("y ~ x + z + (1 | g)", path, {})
    assert there.convergence.separation.startswith(message)
    assert there.convergence.separation == here.convergence.separation
    assert bool(message) == bool(there.convergence.separation)
