"""Responses of rows in an engine, drawn as these are read: simulations, bootstraps and tests."""

import duckdb
import numpy as np
import polars as pl
import pytest
from test_rowless import ENGINES, FORMULA, rows

import mixef
from mixef import glmer, lmer
from mixef.errors import ArgumentError, DataError, FitError, RowsElsewhereError
from mixef.estimation.generalized import cells
from mixef.estimation.many import response_sums
from mixef.estimation.many.fits import OneByOne, interior
from mixef.inference.refits.many import refit_many
from mixef.inference.simulation import drawn
from mixef.inference.simulation.simulate import simulated_responses
from mixef.terms.relation import engines as relations


@pytest.fixture(scope="module")
def parquet(tmp_path_factory):
    path = str(tmp_path_factory.mktemp("drawn") / "rows.parquet")
    data = rows()
    rng = np.random.default_rng(1)
    data["trials"] = rng.integers(1, 6, len(data))
    data["hits"] = rng.binomial(data["trials"], 0.4)
    data["answer"] = np.where(data["o"] == 1, "yes", "no")
    data["count"] = rng.poisson(np.exp(0.3 * data["o"] + rng.normal(0, 0.5, 20)[data["g"]]))
    data["time"] = np.exp(rng.normal(size=len(data)) + rng.normal(size=20)[data["g"]])
    data.to_parquet(path, row_group_size=150)
    return path


@pytest.fixture(autouse=True)
def small_batches(monkeypatch):
    monkeypatch.setattr(relations, "BATCH", 90)
    monkeypatch.setattr(drawn, "CELLS", 600)


def read(path):
    return pl.read_parquet(path).to_pandas()


def in_rows(fit, responses):
    """Drawn responses (n, m) in memory."""
    reading = responses.begin()
    Y = np.concatenate([reading.all_of(piece) for piece in fit.pieces()])
    reading.finish()
    assert Y.shape == responses.shape
    return Y


LINEAR = {
    "plain": {},
    "weighted": {"weights": "w", "offset": "o", "subset": "o == 1 | x > 1"},
    "by ML": {"REML": False},
}


@pytest.mark.parametrize("options", LINEAR.values(), ids=LINEAR)
@pytest.mark.parametrize("engine", ENGINES)
def test_products_are_those_of_the_rows(parquet, engine, options, monkeypatch):
    """One pass serves several responses; refits to the same ones in memory are the same."""
    here = lmer(FORMULA, read(parquet), **options)._fit
    there = lmer(FORMULA, ENGINES[engine][0](parquet), **options)._fit
    responses = simulated_responses(there, 7, np.random.default_rng(3))
    monkeypatch.setattr(response_sums, "HELD", 300)
    assert 1 < response_sums.columns_at_once(there) < 7
    found = refit_many(there, responses)
    Y = in_rows(there, responses)
    start = interior(here, here.problem.scaled_par(there.estimates.par))
    wanted = OneByOne(here, here.problem, start).estimates(Y)
    for name in ("beta", "par", "sigma", "objective"):
        np.testing.assert_allclose(getattr(found, name), getattr(wanted, name), rtol=1e-10)
    together = refit_many(here, Y)  # by the search of all at once, to its tolerance
    np.testing.assert_allclose(found.to_frame(), together.to_frame(), rtol=1e-5, atol=1e-6)
    again = found.fit(-1)  # a whole fit, whose response is drawn in each pass
    np.testing.assert_allclose(again.estimates.objective, found.objective[-1], rtol=1e-12)
    values = np.concatenate([piece.y for piece in again.pieces()])
    np.testing.assert_allclose(values, Y[:, -1], rtol=1e-12)


GENERALIZED = [
    ("cbind(hits, trials - hits) ~ x + (1 | g)", "binomial", {}),
    ("answer ~ x + (1 | g) + (1 | h)", "binomial", {}),
    ("count ~ x + (1 | g)", "poisson", {"offset": "o"}),
    ("count ~ f + (1 | g)", "poisson", {}),
    ("time ~ f + (1 | g)", mixef.Gamma("log"), {"weights": "w"}),
]


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize(("formula", "family", "options"), GENERALIZED)
def test_generalized_models_draw_in_every_pass(parquet, formula, family, options, monkeypatch):
    monkeypatch.setattr(cells, "FEW", 10)  # the engine is asked for distinct rows of the table
    monkeypatch.setattr(cells, "SHARED", 1)
    here = glmer(formula, read(parquet), family, **options)._fit
    there = glmer(formula, parquet, family, **options)._fit
    responses = simulated_responses(there, 2, np.random.default_rng(1))
    found, wanted = refit_many(there, responses), refit_many(here, in_rows(there, responses))
    np.testing.assert_allclose(found.objective, wanted.objective, rtol=1e-10)
    np.testing.assert_allclose(found.beta, wanted.beta, atol=1e-5)


def test_replicates_go_by_the_seed_alone(parquet, monkeypatch):
    fit = lmer(FORMULA, parquet)
    one = fit.bootstrap(12, seed=4)
    monkeypatch.setattr(response_sums, "HELD", 300)
    monkeypatch.setattr(relations, "BATCH", 37)
    monkeypatch.setattr(drawn, "CELLS", 17)
    np.testing.assert_allclose(one.replicates, fit.bootstrap(12, seed=4).replicates, rtol=1e-9)
    fewer = fit.bootstrap(3, seed=4, n_jobs=2).replicates
    np.testing.assert_allclose(one.replicates[:3], fewer, rtol=1e-9)
    assert not np.allclose(one.replicates[:3], fit.bootstrap(3, seed=5).replicates)
    own = fit.bootstrap(3, fn=lambda model: model.sigma, seed=4).replicates["t1"]
    np.testing.assert_allclose(own, one.replicates["sigma"][:3], rtol=1e-6)
    rng = np.random.default_rng(4)  # goes on
    first, second = (fit.bootstrap(2, seed=rng).replicates for _ in range(2))
    np.testing.assert_allclose(first, one.replicates[:2], rtol=1e-9)
    assert not np.allclose(first, second)


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("family", ["nbinom2", "inverse.gaussian(log)"])
def test_mixtures_are_drawn_alike_in_any_batches(parquet, family, monkeypatch):
    """Counts of random means, and roots that are chosen among, take several draws a row."""
    response = "count" if family == "nbinom2" else "time"
    fit = glmer(f"{response} ~ o + (1 | g)", parquet, family)

    def found(n):
        return fit.simulate(n, seed=4).df().sort_values(["g", "x"])[".sim_1"].to_numpy()

    one = found(1)
    monkeypatch.setattr(relations, "BATCH", 37)
    monkeypatch.setattr(drawn, "CELLS", 17)
    np.testing.assert_array_equal(one, found(3))


def test_the_distribution_of_replicates_is_that_in_memory(parquet):
    """Means and standard errors over 150 replicates of both, each within its own error."""
    formula = "y ~ x + (1 | g)"
    here, there = lmer(formula, read(parquet)), lmer(formula, parquet)
    a, b = (fit.bootstrap(150, seed=7).replicates for fit in (here, there))
    error = np.sqrt((a.var() + b.var()) / 150)
    assert (np.abs(a.mean() - b.mean()) < 4 * error).all()
    # The log of a standard deviation has the error sqrt(1 / (2 n)), of a difference sqrt(1 / n).
    assert (np.abs(np.log(b.std() / a.std())) < 4 / np.sqrt(150)).all()
    limits = there.confint(method="boot", n=40, seed=7)
    assert (limits["2.5 %"] < limits["97.5 %"]).all()
    held = there.bootstrap(40, use_u=True, seed=7).replicates["(Intercept)"]
    assert held.std() < 0.7 * b["(Intercept)"].std()  # groups do not vary


@pytest.mark.parametrize("na_action", ["omit", "exclude"])
@pytest.mark.parametrize("engine", ENGINES)
def test_simulated_responses_come_with_the_table(parquet, engine, na_action):
    opened, collected = ENGINES[engine]
    fit = lmer(FORMULA, opened(parquet), na_action=na_action, weights="w")
    made = fit.simulate(2, seed=4)
    assert type(made).__module__.startswith("polars" if engine == "polars" else "duckdb")
    found = collected(made)
    assert list(found.columns) == [*read(parquet).columns, ".sim_1", ".sim_2"]
    drawn_again = collected(made)
    np.testing.assert_array_equal(found[".sim_2"], drawn_again[".sim_2"])
    in_table = found.dropna(subset=".sim_1")
    assert len(in_table) == fit.nobs
    seeds = simulated_responses(fit._fit, 2, np.random.default_rng(4))
    np.testing.assert_allclose(in_table[[".sim_1", ".sim_2"]], in_rows(fit._fit, seeds))


@pytest.mark.filterwarnings("ignore")
def test_simulations_with_other_parameters_and_of_counts(parquet):
    fit = lmer(FORMULA, parquet)
    still = fit.simulate(1, seed=1, use_u=True, new_params={"sigma": 1e-9}).df()
    np.testing.assert_allclose(still[".sim_1"], fit.fitted().df()[".fitted"], rtol=1e-6)
    fixed = fit.simulate(1, seed=1, new_params={"sigma": 1e-9, "theta": np.zeros(4)}).df()
    wanted = fit.predict(re_form="~0").df()[".fitted"]
    np.testing.assert_allclose(fixed[".sim_1"], wanted, rtol=1e-6)
    counted = glmer("cbind(hits, trials - hits) ~ x + (1 | g)", parquet, "binomial")
    table = counted.simulate(1, seed=1).df()
    both = table[".sim_1_successes"] + table[".sim_1_failures"]
    np.testing.assert_array_equal(both, table["trials"])


def test_tests_by_simulation(parquet):
    """The statistics are those of fits to the drawn rows; the smaller model reads the same ones."""
    large = lmer(FORMULA, parquet, REML=False)
    text = "y ~ x * f + o + (1 | g) + (1 | h)"
    found = [
        mixef.pb_test(large, small, n=6, seed=2)
        for small in (text, lmer(text, parquet, REML=False))
    ]
    np.testing.assert_allclose(found[0].reference, found[1].reference, atol=1e-7)
    small = large.update(text)._fit
    Y = in_rows(small, simulated_responses(small, 6, np.random.default_rng(2)))
    here = [lmer(formula, read(parquet), REML=False)._fit for formula in (text, FORMULA)]
    criteria = [refit_many(fit, Y).objective for fit in here]
    gain = np.maximum(criteria[0] - criteria[1], 0.0)
    np.testing.assert_allclose(found[0].reference, gain, atol=1e-6)
    for test, method in (("o", "t"), (". ~ . - o", "lrt"), ("(1 | h)", "lrt")):
        power = mixef.power(large, test, n=3, method=method, seed=1)
        assert power.frame["n"].tolist() == [3]


def test_what_cannot_be_drawn_is_refused(parquet, tmp_path):
    fit = lmer(FORMULA, parquet)
    for type in ("residual", "semiparametric", "cases"):
        with pytest.raises(RowsElsewhereError, match="take type='parametric'"):
            fit.bootstrap(3, type=type)
    with pytest.raises(DataError, match="has g:f, which the larger one"):
        mixef.pb_test(fit, lmer("y ~ x + (1 | g:f) + (1 | h)", parquet), n=3)
    with pytest.raises(DataError, match="expected one response"):
        mixef.pb_test(fit, "log(y + 30) ~ x + (1 | g)", n=3)
    exact = pl.read_parquet(parquet).with_columns(y=pl.col("g") * 1e4 + pl.col("y"))
    exact.write_parquet(tmp_path / "exact.parquet")
    lost = lmer("y ~ 1 + (1 | g)", tmp_path / "exact.parquet")
    with pytest.raises(RowsElsewhereError, match="sums lose digits"):
        lost.bootstrap(3)
    shuffled = lmer(FORMULA, duckdb.sql(f"select * from '{parquet}' order by random()"))
    assert shuffled.bootstrap(3, seed=1).failures.sum() == 0  # one reading is enough
    with pytest.raises(DataError, match="in another order than before"):
        mixef.pb_test(shuffled, ". ~ . - o", n=3)
    with pytest.raises(FitError, match="in another order than before"):
        shuffled.bootstrap(2, fn=lambda model: model.sigma)
    for call in (
        lambda: shuffled.bootstrap(2, fn=lambda model: model.sigma, n_jobs=2),
        lambda: mixef.power(shuffled, "x", n=2, n_jobs=2),
    ):
        with pytest.raises(ArgumentError, match=r"n_jobs is 2, but .* this one holds in Duck"):
            call()
    with pytest.raises(FitError, match="values of the rows of a replicate"):
        fit.bootstrap(1, fn=lambda model: model.fitted().df()[".fitted"].mean())
