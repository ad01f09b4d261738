"""Generalized models with the iterative factor of rows in engines, beside the same in memory."""

import dataclasses
import pickle
import tracemalloc

import duckdb
import numpy as np
import pandas as pd
import polars as pl
import pytest
from simulated_glmm import lenient
from streamed_glmm import Pieces
from test_iterative_glmm import CROSSED, MODELS, reads

from mixef import Binomial, GlmerControl, anova, glmer
from mixef.errors import DataError, ExactFactorNeededError, MemoryNeededError
from mixef.estimation.generalized.criterion import GeneralizedCriterion
from mixef.estimation.generalized.estimated_criterion import (
    EstimatedCriterion,
    StreamedEstimatedCriterion,
)
from mixef.estimation.generalized.streamed_criterion import StreamedCriterion
from mixef.estimation.generalized.streamed_start import streamed_problem
from mixef.families.convert import make_family
from mixef.linalg import chunk_pairs, chunk_rows, factor
from mixef.linalg.chunk_pairs import PairPlaces
from mixef.linalg.chunks import Looped
from mixef.linalg.iterative.factor import IterativeFactor
from mixef.terms.relation import engines

ITERATIVE = GlmerControl(factor="iterative")
SHARES = "share ~ x + (1 | a) + (1 | b)"


@pytest.fixture(scope="module")
def data():
    """Every pair of levels comes twice."""
    data = reads(3000, (250, 200), repeats=2)
    data["w"] = 1.0 + data["c"] % 3
    data["o"] = 0.1 * np.sin(np.arange(len(data)))
    data.loc[[7, 1200], "x"] = np.nan
    return data


@pytest.fixture(scope="module")
def parquet(data, tmp_path_factory):
    path = str(tmp_path_factory.mktemp("reads") / "reads.parquet")
    data.to_parquet(path, row_group_size=700)
    return path


@pytest.fixture(scope="module")
def exact(data):
    return glmer(CROSSED, data, family="poisson")


@pytest.fixture(scope="module")
def fit(parquet):
    return glmer(CROSSED, parquet, family="poisson", control=ITERATIVE)


@pytest.mark.parametrize(
    ("formula", "engine", "options"),
    [
        (CROSSED, duckdb.read_parquet, {"family": "poisson", "weights": "w", "offset": "o"}),
        (SHARES, pl.scan_parquet, {"family": "binomial", "weights": "trials", "nAGQ": 0}),
        (SHARES, str, {"family": Binomial(link="probit"), "weights": "trials"}),
    ],
)
def test_rows_may_lie_in_an_engine(data, parquet, formula, engine, options, monkeypatch):
    """The random vectors are the same: what differs is the order of sums."""
    monkeypatch.setattr(engines, "BATCH", 900)
    here = glmer(formula, data, control=ITERATIVE, **options)
    there = glmer(formula, engine(parquet), control=ITERATIVE, **options)
    assert there.converged
    assert there.nobs == here.nobs == len(data) - 2
    assert there.objective_se > 0.0
    for name in ("objective", "objective_se", "theta", "beta"):
        ours, theirs = (getattr(own, name) for own in (there, here))
        np.testing.assert_allclose(ours, theirs, rtol=1e-8, atol=1e-8, err_msg=name)
    np.testing.assert_allclose(there.vcov(), here.vcov(), rtol=1e-6, atol=1e-10)
    for group in "ab":
        np.testing.assert_allclose(there.ranef()[group], here.ranef()[group], rtol=0, atol=1e-7)


def test_it_is_the_fit_with_an_exact_factor(fit, exact, parquet):
    np.testing.assert_allclose(fit.theta, exact.theta, rtol=1e-4)
    np.testing.assert_allclose(fit.beta, exact.beta, rtol=1e-4)
    assert 0.0 < fit.objective_se <= 0.005
    assert abs(fit.objective - exact.objective) < 4.0 * fit.objective_se
    there = glmer(CROSSED, parquet, family="poisson")
    assert there.objective_se == 0.0
    assert there.objective == pytest.approx(exact.objective, abs=1e-7)


CHUNKS = (700, 1, 290)


def streamed(problem_of, data, formula, family, options, chosen):
    """The criterion of rows in chunks, at the scales of one in memory."""
    pieces = Pieces(formula, data, family, options.get("weights"), sizes=CHUNKS)
    problem = streamed_problem(
        Looped(pieces), pieces.terms, make_family(family), options.get("nAGQ", 1), None, chosen
    )
    return problem_of(problem)


@pytest.mark.parametrize("sparse", [False, True])
@pytest.mark.parametrize("name", MODELS)
def test_derivatives_by_passes(name, sparse, monkeypatch):
    """With an exact factor they are those of the adjoint method in memory, to rounding.

    Also where rows tell where they add to what, and pairs of levels are searched for.
    """
    if sparse:
        monkeypatch.setattr(chunk_rows, "FEW", 0)
        monkeypatch.setattr(chunk_pairs, "LARGEST_TABLE", 0)
    formula, family, options = MODELS[name]
    few = reads(600, (40, 30), seed=2)
    fit = glmer(formula, few, family=family, control=lenient(), **options)
    theirs = GeneralizedCriterion(fit._fit.problem)
    ours = streamed(StreamedEstimatedCriterion, few, formula, family, options, "auto")
    user = fit._fit.estimates.par + 0.02, fit.beta + 0.02, fit._fit.estimates.extra
    points = [criterion.scaled_point(*user) for criterion in (ours, theirs)]
    values = [c.value(point) for c, point in zip((ours, theirs), points, strict=True)]
    assert values[0] == pytest.approx(values[1], rel=1e-11)
    one, two = (criterion.user_gradient() for criterion in (ours, theirs))
    np.testing.assert_allclose(one, two, rtol=1e-6, atol=1e-6)
    errors = [c.laplace_error(point) for c, point in zip((ours, theirs), points, strict=True)]
    assert errors[0].shift == pytest.approx(errors[1].shift, rel=1e-5)


@pytest.mark.parametrize("name", ["vectors", "structured", "a scale"])
def test_the_same_vectors_see_the_same(name):
    """Of vector terms and three factors, where the graph is of blocks."""
    formula, family, options = MODELS[name]
    few = reads(1500, (120, 90), seed=2)
    memory = glmer(formula, few, family=family, control=lenient(), **options)._fit
    theirs = EstimatedCriterion(dataclasses.replace(memory.problem, chosen_factor="iterative"))
    ours = streamed(StreamedEstimatedCriterion, few, formula, family, options, "iterative")
    user = memory.estimates.par, memory.estimates.beta, memory.estimates.extra
    found = []
    for criterion in (ours, theirs):
        assert isinstance(criterion.model.factor, IterativeFactor)
        point = criterion.scaled_point(*user)
        found.append((criterion.value(point), criterion.user_gradient()))
    assert found[0][0] == pytest.approx(found[1][0], rel=1e-9)
    # scales differ by how far the model without random effects has converged
    np.testing.assert_allclose(found[0][1], found[1][1], rtol=1e-5, atol=1e-5)


def test_auto_takes_it_where_memory_is_short(monkeypatch, parquet, fit):
    monkeypatch.setattr(factor, "FEW_BYTES", 0.0)
    monkeypatch.setattr(factor, "available", lambda: 4e5)
    monkeypatch.setattr(chunk_pairs, "pair_bytes", lambda *sizes: 20.0)
    assert glmer(CROSSED, parquet, family="poisson").objective == fit.objective
    with pytest.raises(MemoryNeededError, match=r'GlmerControl\(factor="iterative"'):
        glmer(CROSSED, parquet, family="poisson", control=GlmerControl(factor="schur"))
    monkeypatch.setattr(chunk_pairs, "pair_bytes", lambda *sizes: 1000.0)
    text = r"terms \(1 \| a\) and \(1 \| b\) have [\d,]+ pairs .* need about .* Drop one of them"
    with pytest.raises(MemoryNeededError, match=text):
        glmer(CROSSED, parquet, family="poisson", control=ITERATIVE)


@pytest.mark.parametrize("formula", ["k ~ x + (1 | a) + (1 | b)", "k ~ x + (x | a) + (z | b)"])
def test_memory_grows_with_pairs_as_foreseen(formula):
    """What a criterion, its gradient and its Hessian take."""
    rng, L, peaks = np.random.default_rng(0), 100, []
    first, second = np.divmod(rng.permutation(L * L), L)
    x, z = rng.normal(size=(2, L * L))
    k = rng.poisson(np.exp(0.3 * rng.normal(size=L)[first] * (1 + x)))
    rows = pd.DataFrame({"a": first, "b": second, "x": x, "z": z, "k": k})
    for pairs in (500, 3000, 10_000):  # the first time, more is loaded
        made = Pieces(formula, rows[:pairs], "poisson", sizes=(1000,))
        tracemalloc.start()
        problem = streamed_problem(Looped(made), made.terms, make_family("poisson"), 1)
        criterion = StreamedCriterion(problem)
        point = criterion.start()
        criterion.value(point)
        criterion.user_gradient()
        criterion.hessian(point)
        peaks.append(tracemalloc.get_traced_memory()[1])
        tracemalloc.stop()
    measured = (peaks[2] - peaks[1]) / 7000
    foreseen = chunk_pairs.pair_bytes(*problem.rows.layout.widths, len(point))
    # Never too little; beyond twice the truth, and some, models that fit would be refused.
    assert measured < foreseen < 2.5 * measured


def test_a_graph_like_a_chain_gets_an_exact_factor(monkeypatch, parquet, exact):
    monkeypatch.setattr("mixef.linalg.iterative.logdet.HOPELESS", 1e-9)
    with pytest.raises(ExactFactorNeededError, match="graph like a chain"):
        glmer(CROSSED, parquet, family="poisson", control=ITERATIVE)
    monkeypatch.setattr("mixef.linalg.choose.is_long", lambda _: True)
    fit = glmer(CROSSED, parquet, family="poisson")
    assert fit.objective == pytest.approx(exact.objective, abs=1e-7)
    assert fit.objective_se == 0.0


def test_what_is_read_off_a_fit(data, exact, fit):
    some = data.head(5)
    for kind in ("response", "link"):
        np.testing.assert_allclose(
            fit.predict(some, se_fit=True, type=kind),
            exact.predict(some, se_fit=True, type=kind),
            rtol=1e-4,
        )
    levels = {"a": [3, 17], "b": [5]}
    one, two = (m.ranef(condVar=True, levels=levels).condVar for m in (fit, exact))
    for group in "ab":
        np.testing.assert_allclose(one[group], two[group], rtol=1e-4)
    np.testing.assert_allclose(fit.vcov(full=True), exact.vcov(full=True), rtol=1e-3, atol=1e-7)
    for text in (str(fit), str(fit.summary())):
        assert f"log|M| is an estimate: standard error of -2*log(L) {fit.objective_se:.2g}" in text
    again = pickle.loads(pickle.dumps(fit))  # although rows were read since: they stay behind
    assert again.objective_se == fit.objective_se
    np.testing.assert_array_equal(again.predict(some), fit.predict(some))


def test_models_are_compared(parquet, fit):
    smaller = fit.update("~ . - x")
    with pytest.raises(DataError, match=r"fit was fitted to 2998 rows but smaller to 3000; likel"):
        anova(fit, smaller)
    seen = "x > -10"  # no row without x
    larger, smaller = (
        glmer(formula, parquet, "poisson", subset=seen, control=ITERATIVE)
        for formula in (CROSSED, "count ~ 1 + (1 | a) + (1 | b)")
    )
    assert "is an estimate with a standard error of" in str(anova(larger, smaller))


@pytest.mark.parametrize(
    ("ask", "what"),
    [
        (lambda fit, _: fit.profile(), "a profile of the deviance"),
        (lambda fit, _: fit.factor_at(), "factor_at"),
        (
            lambda _, path: glmer(
                CROSSED, path, "poisson", control=GlmerControl("Powell", factor="iterative")
            ),
            "optimizer='Powell'",
        ),
    ],
)
def test_what_is_not_to_be_had_is_refused_by_name(ask, what, fit, parquet):
    with pytest.raises(ExactFactorNeededError, match=what):
        ask(fit, parquet)


def test_places_of_pairs_by_search_are_those_of_the_table(monkeypatch):
    rng = np.random.default_rng(0)
    first, second = rng.integers(0, 40, 500), rng.integers(0, 70, 500)
    keys = np.unique(first * 70 + second)
    by_table = PairPlaces(keys, (40, 70))(first, second)
    monkeypatch.setattr(chunk_pairs, "LARGEST_TABLE", 0)
    places = pickle.loads(pickle.dumps(PairPlaces(keys, (40, 70))))
    np.testing.assert_array_equal(places(first, second), by_table)
    np.testing.assert_array_equal(keys[by_table], first * 70 + second)


@pytest.mark.parametrize("largest", [0, 100])
def test_pairs_that_come_later_are_refused(monkeypatch, largest):
    monkeypatch.setattr(chunk_pairs, "LARGEST_TABLE", largest)
    places, first = PairPlaces(np.array([0, 4, 5, 9]), (4, 4)), np.array([0, 1, 1, 2])
    np.testing.assert_array_equal(places(first, np.array([0, 0, 1, 1])), np.arange(4))
    with pytest.raises(DataError, match="two levels occur together that did not"):
        places(first, np.array([0, 0, 1, 2]))
