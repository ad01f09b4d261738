"""Factors that would not fit are refused before the work, with what they need and why."""

import re
import tracemalloc
import warnings

import numpy as np
import pandas as pd
import pytest

import mixef.errors
from mixef import GlmerControl, LmerControl, glmer, lmer
from mixef import memory as system
from mixef.estimation import chunked
from mixef.estimation.linear import marginal
from mixef.linalg import cholmod, choose, crossproducts, factor
from mixef.linalg.choose import make_cholesky
from mixef.linalg.rows import GroupDesign, Rows
from mixef.linalg.simplicial import SimplicialFactor
from mixef.terms import fixed, random


def crossed(levels, n, seed=0):
    rng = np.random.default_rng(seed)
    data = pd.DataFrame({name: rng.integers(0, k, n) for name, k in zip("ab", levels, strict=True)})
    return data.assign(x=rng.normal(size=n), y=rng.normal(size=n), c=rng.poisson(2.0, n))


@pytest.fixture
def little(monkeypatch):
    """A machine with 2 MB left."""
    monkeypatch.setattr(factor, "FEW_BYTES", 0.0)
    monkeypatch.setattr(factor, "available", lambda: 2e6)


@pytest.mark.parametrize(
    "fit",
    [
        lambda data: lmer("y ~ x + (1 | b) + (x | a)", data, control=LmerControl(factor="schur")),
        lambda data: glmer(
            "c ~ x + (1 | b) + (x | a)",
            data,
            family="poisson",
            control=GlmerControl(factor="schur"),
        ),
    ],
)
def test_the_terms_that_are_crossed_are_named(fit, little):
    data = crossed([900, 700], 8000)
    with pytest.raises(mixef.errors.MemoryNeededError) as error:
        fit(data)
    message = str(error.value)
    assert re.match(r"the factor needs about 0\.00782 GB, and 0\.002 GB are available", message)
    assert "terms (x | a) (1,800 effects) and (1 | b) (699 effects) are crossed" in message
    assert "rescale" not in message
    assert isinstance(error.value, MemoryError)


def products_of(levels, n):
    data = crossed(levels, n)
    groups = [
        GroupDesign(data[name].to_numpy(), k, np.ones((n, 1)))
        for name, k in zip("ab", levels, strict=True)
    ]
    return crossproducts.crossproducts(Rows(groups, np.ones((n, 1)), data["y"].to_numpy()))


@pytest.mark.parametrize("term", ["id", "x * id", "(0 + id | b)"])
def test_a_factor_of_too_many_levels_is_refused_before_it_is_coded(term, monkeypatch):
    monkeypatch.setattr(fixed, "available", lambda: 1e9)
    monkeypatch.setattr(fixed, "_code", lambda *_: pytest.fail("coded"))
    data = crossed([900, 700], 30_000).assign(id=lambda d: [f"i{i}" for i in range(len(d))])
    with pytest.raises(mixef.errors.MemoryNeededError, match=r"id \(30,000\) need about .* GB"):
        lmer(f"y ~ {term} + (1 | a)", data)


def test_covariances_of_too_many_columns_are_refused(monkeypatch):
    monkeypatch.setattr(random, "available", lambda: 5e8)
    data = crossed([120, 40], 30_000)
    with pytest.raises(mixef.errors.MemoryNeededError, match=r"120 columns .* 7,260 variances"):
        lmer("y ~ x + (0 + factor(a) | b)", data)


def test_terms_that_are_alike_need_no_squares_of_their_columns(monkeypatch):
    """Which have s^4 cells: a search goes without, and what cannot is refused by name."""
    data = crossed([12, 5], 900)
    quiet = LmerControl(check_duplicate_terms="ignore", check_conv_singular="ignore")
    one, many = (lmer("y ~ x" + k * " + (1 | a)", data, control=quiet) for k in (1, 100))
    assert many.objective == pytest.approx(one.objective, rel=1e-10)
    assert many.vcov().to_numpy() == pytest.approx(one.vcov().to_numpy(), rel=1e-6)
    monkeypatch.setattr(marginal, "MANY", 1000)  # as if all squares were needed
    monkeypatch.setattr(factor, "available", lambda: 2e9)
    message = r"of \(1 \| a\) and others \(100 columns\) need about 4 GB, .*ddf=None"
    with pytest.raises(mixef.errors.MemoryNeededError, match=message):
        many.summary(ddf="satterthwaite")
    assert len(many.coef_table(ddf=None)) == 2
    printed = str(many.summary())
    assert "No degrees of freedom: the exact second derivatives" in printed
    assert "t value" in printed
    assert "Pr(>|t|)" not in printed
    monkeypatch.undo()
    assert many.coef_table()["df"].tolist() == pytest.approx([898.0] * 2)  # of no variance at all


@pytest.mark.parametrize("filling", [0.5, np.inf])
def test_a_remainder_that_is_never_dense_is_foreseen_too(filling, little, monkeypatch):
    """At once where it fills, else from the analysis."""
    monkeypatch.setattr(choose, "LARGEST_REMAINDER", 100)
    monkeypatch.setattr(choose, "FILLING", filling)
    if filling < 1:
        monkeypatch.setattr(choose, "sparse_factor", lambda _: pytest.fail("analysed"))
    with pytest.raises(mixef.errors.MemoryNeededError, match=r"terms number 1 .* and number 2"):
        make_cholesky(products_of([900, 700], 30_000))


def test_predictions_are_of_the_size_of_what_is_taken():
    products = products_of([900, 700], 8000)
    factor = choose.sparse_factor(products)
    factor.update([np.eye(1)] * 2)
    entries = factor.column_counts().sum()
    # CHOLMOD's dense blocks hold some zeros besides.
    assert entries <= factor.lower().nnz < 2 * entries


def test_memory_that_runs_out_is_called_so(monkeypatch):
    """Whatever was foreseen: in the dense remainder, in our own sparse factor and in CHOLMOD."""
    products = products_of([900, 700], 8000)

    def refuse(*_, **__):
        raise MemoryError

    monkeypatch.setattr(choose, "SchurFactor", refuse)
    with pytest.raises(mixef.errors.MemoryNeededError, match="needs about"):
        make_cholesky(products)
    factor = SimplicialFactor(products)
    monkeypatch.setattr(factor._cholesky, "factor", refuse)
    with pytest.raises(mixef.errors.MemoryNeededError, match="needs about"):
        factor.update([np.eye(1)] * 2)
    library = cholmod.library()
    if library is None:
        return
    factor = cholmod.CholmodFactor(products)

    class Failing:
        def cholesky_inplace(self, *_, **__):
            raise library.CholmodOutOfMemoryError("out of memory")

    factor._factor = Failing()
    with pytest.raises(mixef.errors.MemoryNeededError, match="needs about"):
        factor.update([np.eye(1)] * 2)


def test_what_is_available_is_what_the_system_says(monkeypatch, tmp_path):
    assert 1e6 < system.available() < 1e15
    monkeypatch.setattr(system, "_free", lambda: 5e9)
    monkeypatch.setattr(system, "_group_limit", lambda: 3e9)
    assert system.available() <= 3e9
    file = tmp_path / "limit"
    file.write_text("12 7\n")
    assert system._numbers(str(file)) == [12.0, 7.0]
    file.write_text("max\n")
    assert system._numbers(str(file)) == system._numbers(str(tmp_path / "none")) == []


# What a fit takes beside the data


def peak_of(formula, data, **arguments):
    """Bytes that NumPy holds at most while a model is fitted, and the fit."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        lmer(formula, data[:4000].assign(g=data.g[:4000] % 50), **arguments)  # loads what is late
        tracemalloc.start()
        fit = lmer(formula, data, **arguments)
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    return peak, fit


ROWS = 300_000


@pytest.fixture(scope="module")
def many_rows():
    rng, n = np.random.default_rng(6), ROWS
    data = pd.DataFrame({"x": rng.normal(size=n), "z": rng.normal(size=n)})
    data["f"] = pd.Categorical.from_codes(rng.integers(0, 5, n), list("abcde"))
    data["g"] = rng.integers(0, 3000, n)
    data["h"] = pd.Categorical.from_codes(rng.integers(0, 40, n), range(40))
    data["w"], data["offset"] = rng.uniform(0.5, 2, n), rng.normal(size=n)
    data["y"] = rng.normal(size=n) + rng.normal(size=3000)[data.g] * (1 + 0.5 * data.x)
    return data


@pytest.mark.parametrize(
    ("formula", "arguments", "most"),
    [
        ("y ~ x + z + f + (1 + x | g) + (1 | h)", {}, 150),
        ("y ~ x * f + z * f + (1 + x | g) + (1 | h)", {"weights": "w", "offset": "offset"}, 180),
        ("y ~ x + z + f + (1 | h / f)", {}, 90),
        ("y ~ x + z + f + (1 + x + z | g)", {}, 60),
        ("y ~ x + (1 | g)", {}, 60),
    ],
)
def test_bytes_a_row_of_a_linear_model(formula, arguments, most, many_rows):
    """Beside the data; X and the columns of Z alone are 64 to 152 bytes a row."""
    peak, fit = peak_of(formula, many_rows, **arguments)
    assert peak < most * fit.nobs
    assert fit.residuals().std() < fit.sigma
    assert "matrix" not in vars(fit._fit.design)  # which linear predictors do not need


@pytest.mark.parametrize("formula", ["y ~ f + (1 | g)", "y ~ f * x + copy + (1 | g)"])
@pytest.mark.parametrize("weights", [None, "w"])
def test_columns_of_a_fit_are_made_in_pieces(formula, weights):
    rng, n, levels = np.random.default_rng(6), 40_000, 80
    data = pd.DataFrame(
        {
            "f": pd.Categorical.from_codes(rng.integers(0, levels, n), range(levels)),
            "g": rng.integers(0, 50, n),
            "x": rng.normal(size=n),
            "w": rng.uniform(0.5, 2.0, n),
        }
    )
    data["y"] = rng.normal(size=n) + rng.normal(size=50)[data["g"]]
    data["copy"] = 2.0 * data["x"]  # one column is dropped, which takes no copy
    peak, fit = peak_of(formula, data, weights=weights)
    assert peak < 0.7 * fit.nobs * len(fit.fixef()) * 8
    if "copy" not in formula:
        assert fit._fit.X is fit._fit.design.matrix


def test_columns_in_pieces_are_those_of_the_whole(many_rows, monkeypatch):
    """Whatever the pieces are: of few rows, where levels and indicators are absent, too."""
    data = many_rows[:3000].assign(g=many_rows.g[:3000] % 300)
    formula = "y ~ x + z + f + (1 + x | g) + (0 + z | g) + (1 | h)"
    for weights in (None, "w"):
        fits = []
        for cells in (10**9, 10_000, 300):
            monkeypatch.setattr(chunked, "CELLS", cells)
            fits.append(lmer(formula, data, weights=weights)._fit)
        whole = fits[0]
        assert all(fit.held_problem.products.pairs.keys() == {(0, 1)} for fit in fits)
        for fit in fits[1:]:
            assert fit.estimates.objective == pytest.approx(whole.estimates.objective, rel=1e-13)
            unit = np.sqrt(np.diag(whole.vcov))
            near = {"rtol": 1e-9, "atol": 1e-7}  # a search ends where a step would gain 1e-12
            np.testing.assert_allclose(
                fit.estimates.beta / unit, whole.estimates.beta / unit, **near
            )
