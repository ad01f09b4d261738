"""Factors that would not fit are refused before the work, with what they need and why."""

import re

import numpy as np
import pandas as pd
import pytest

import mixef.errors
from mixef import glmer, lmer
from mixef import memory as system
from mixef.linalg import cholmod, choose, crossproducts, factor
from mixef.linalg.choose import make_cholesky
from mixef.linalg.rows import GroupDesign, Rows
from mixef.linalg.simplicial import SimplicialFactor


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
        lambda data: lmer("y ~ x + (1 | b) + (x | a)", data),
        lambda data: glmer("c ~ x + (1 | b) + (x | a)", data, family="poisson"),
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
