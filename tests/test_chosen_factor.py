"""The option ``factor`` of the controls: which factor a fit gets, and that all agree."""

import numpy as np
import pandas as pd
import pytest

import mixef.errors
from mixef import GlmerControl, LmerControl, glmer, lmer, load_dataset
from mixef.linalg import cholmod, choose, factor
from mixef.linalg.cholmod import CholmodFactor
from mixef.linalg.choose import make_cholesky, make_factor
from mixef.linalg.dense import DenseFactor
from mixef.linalg.iterative.factor import IterativeFactor
from mixef.linalg.schur import SchurFactor
from mixef.linalg.simplicial import SimplicialFactor

EXACT = {
    "dense": DenseFactor,
    "schur": SchurFactor,
    "cholmod": CholmodFactor,
    "simplicial": SimplicialFactor,
}


def factor_of(fit):
    return type(fit._fit.criterion().factor)


@pytest.mark.parametrize("name", EXACT)
@pytest.mark.parametrize(
    ("formula", "data"),
    [
        ("Reaction ~ Days + (Days | Subject)", "sleepstudy"),
        ("diameter ~ 1 + (1 | plate) + (1 | sample)", "Penicillin"),
        ("strength ~ 1 + (1 | batch/cask)", "Pastes"),
    ],
)
def test_every_exact_factor_gives_the_same_fit(formula, data, name):
    if name == "cholmod" and not cholmod.library():
        pytest.skip("scikit-sparse is not installed")
    data = load_dataset(data)
    fit, other = lmer(formula, data), lmer(formula, data, control=LmerControl(factor=name))
    assert factor_of(other) is EXACT[name]
    # Both ends promise less than 1e-12 of the criterion: half its root, in standard errors.
    np.testing.assert_allclose(other.theta, fit.theta, rtol=1e-6, atol=1e-6)
    assert other.objective == pytest.approx(fit.objective, rel=1e-11)


@pytest.mark.parametrize("name", EXACT)
def test_generalized_models_take_every_exact_factor(name):
    if name == "cholmod" and not cholmod.library():
        pytest.skip("scikit-sparse is not installed")
    data, formula = load_dataset("cbpp"), "cbind(incidence, size - incidence) ~ period + (1 | herd)"
    fit = glmer(formula, data, family="binomial")
    other = glmer(formula, data, family="binomial", control=GlmerControl(factor=name))
    assert type(other._fit.problem.working_model().factor) is EXACT[name]
    assert other.objective == pytest.approx(fit.objective, rel=1e-10)


def test_what_is_no_factor():
    with pytest.raises(mixef.errors.ArgumentError, match="'simplicial' or 'iterative'"):
        LmerControl(factor="lu")
    with pytest.raises(mixef.errors.ArgumentError, match="objective_se is 0"):
        GlmerControl(objective_se=0)


def test_cholmod_without_its_library_says_what_to_install(monkeypatch):
    monkeypatch.setattr(cholmod, "library", lambda: None)
    with pytest.raises(mixef.errors.MissingLibraryError, match='factor="simplicial"'):
        lmer(
            "Yield ~ 1 + (1 | Batch)",
            load_dataset("Dyestuff"),
            control=LmerControl("newton", factor="cholmod"),
        )


def test_one_grouping_factor_by_itself_is_exact_anyway():
    control = LmerControl(factor="iterative")
    fit = lmer("Yield ~ 1 + (1 | Batch)", load_dataset("Dyestuff"), control=control)
    assert factor_of(fit) is SchurFactor
    assert fit.objective_se == 0.0


def crossed(n=6000, levels=(300, 250), seed=0):
    rng = np.random.default_rng(seed)
    data = pd.DataFrame({g: rng.integers(0, k, n) for g, k in zip("ab", levels, strict=True)})
    effects = 0.8 * rng.normal(size=levels[0])[data["a"]] + rng.normal(size=levels[1])[data["b"]]
    return data.assign(x=rng.normal(size=n), y=effects + rng.normal(size=n))


@pytest.fixture
def little(monkeypatch):
    """A machine with 0.2 MB left."""
    monkeypatch.setattr(factor, "FEW_BYTES", 0.0)
    monkeypatch.setattr(factor, "available", lambda: 2e5)


def test_two_crossed_factors_beyond_memory_get_an_iterative_factor(little):
    data, formula = crossed(), "y ~ x + (1 | a) + (1 | b)"
    assert factor_of(lmer(formula, data)) is IterativeFactor
    with pytest.raises(mixef.errors.MemoryNeededError, match='LmerControl\\(factor="iterative"\\)'):
        lmer(formula, data, control=LmerControl(factor="schur"))
    assert factor_of(lmer("y ~ x + (x | a) + (1 | b)", data)) is IterativeFactor
    binary = data.assign(y=data["y"] > 0)
    fit = glmer(formula, binary, family="binomial")
    assert type(fit._fit.problem.working_model().factor) is IterativeFactor
    with pytest.raises(mixef.errors.MemoryNeededError, match='GlmerControl\\(factor="iterative"'):
        glmer(formula, binary, family="binomial", control=GlmerControl(factor="schur"))


def test_two_crossed_factors_that_would_take_long_get_an_iterative_factor(monkeypatch):
    data, formula = crossed(), "y ~ x + (1 | a) + (1 | b)"
    products = lmer(formula, data)._fit.problem.products
    assert type(make_factor(products)) is SchurFactor
    monkeypatch.setattr(choose, "LONG", 1e-4)
    assert type(make_factor(products)) is IterativeFactor
    assert type(make_factor(products, "schur")) is SchurFactor
    assert isinstance(make_cholesky(products), SchurFactor)


def test_a_sparse_remainder_that_is_quick_stays_exact(monkeypatch):
    """Whatever it would take as a dense one."""
    rng = np.random.default_rng(0)
    a = np.arange(3000) % 1500
    data = pd.DataFrame({"a": a, "b": (a + rng.integers(0, 2, 3000)) % 1400})
    data = data.assign(
        y=rng.normal(size=3000)
        + rng.normal(size=1500)[data["a"]]
        + rng.normal(size=1400)[data["b"]]
    )
    monkeypatch.setattr(choose, "LONG", 1e-4)
    products = lmer("y ~ 1 + (1 | a) + (1 | b)", data)._fit.problem.products
    assert choose.schur_time(products) > 1e-4
    assert not isinstance(make_factor(products), IterativeFactor)
