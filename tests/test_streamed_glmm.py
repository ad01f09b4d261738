"""A generalized model whose rows come in chunks is the one of the same rows in memory."""

import pickle

import numpy as np
import pytest
from simulated_glmm import (
    INFORMATION,
    INFORMED,
    STRUCTURES,
    criterion,
    lenient,
    point_of,
    simulated,
    trials_of,
    value,
    weights_of,
)
from streamed_glmm import Pieces, streamed

from mixef import glmer
from mixef.errors import ArgumentError, FitError
from mixef.estimation.generalized.streamed_criterion import StreamedCriterion
from mixef.estimation.generalized.streamed_start import streamed_problem
from mixef.estimation.search.certified import search
from mixef.estimation.search.hessian import difference_hessian, inverse_hessian
from mixef.families.convert import make_family
from mixef.linalg.chunks import ChunkSource, Looped

some_cells = pytest.mark.parametrize(
    "cell", ["poisson(log)", "binomial(probit)", "nbinom2(log)", "Gamma(log)"]
)
# Sums in another order, of values up to some hundreds.
CLOSE = {"rtol": 1e-10, "atol": 1e-10}


def pair(formula, cell, nAGQ=1, weights=None, information=None, state="random", seed=0):
    """The criterion in memory and the streamed one, each with its own point of the same model."""
    data = simulated(cell)
    ours = streamed(formula, data, cell, nAGQ, weights, information=information)
    theirs, _ = criterion(formula, data, cell, nAGQ, weights, information=information)
    par, beta, extra = theirs.split(point_of(theirs, cell, state, seed))
    user = theirs.terms.user_par(par), theirs.problem.user_beta(beta), extra
    return ours, ours.scaled_point(*user), theirs, theirs.scaled_point(*user)


def compare(ours, at, theirs, point):
    """Value and gradient for all parameters, and what is read off them."""
    expected = value(theirs, point)
    assert value(ours, at) == pytest.approx(expected, rel=1e-12, abs=1e-10)
    np.testing.assert_allclose(ours.user_gradient(), theirs.user_gradient(), **CLOSE)
    a, b = ours.estimates(at), theirs.estimates(point)
    for name in ("par", "beta", "unscaled_vcov", "pwrss", "ussq", "ldL2", "ldRX2", "sigma"):
        np.testing.assert_allclose(
            getattr(a, name), getattr(b, name), rtol=1e-8, atol=1e-9, err_msg=name
        )
    for one, two in zip(a.effects, b.effects, strict=True):
        np.testing.assert_allclose(one, two, rtol=1e-7, atol=1e-8)
    one, two = ours.laplace_error(at), theirs.laplace_error(point)
    np.testing.assert_allclose(one.shift, two.shift, rtol=1e-7, atol=1e-9)
    np.testing.assert_allclose(one.effective, two.effective, **CLOSE)


@pytest.mark.parametrize("nAGQ", [0, 1])
@pytest.mark.parametrize(("cell", "information"), INFORMED)
def test_criterion_and_gradient_by_family_and_link(cell, nAGQ, information):
    formula = f"y ~ x + offset(0.2 * z) + {STRUCTURES['crossed vector']}"
    compare(*pair(formula, cell, nAGQ, trials_of(cell), information))


@pytest.mark.parametrize("nAGQ", [0, 1])
@some_cells
@pytest.mark.parametrize("structure", STRUCTURES)
def test_criterion_and_gradient_by_structure(structure, cell, nAGQ):
    compare(*pair(f"y ~ x + {STRUCTURES[structure]}", cell, nAGQ, weights_of(cell), seed=3))


@pytest.mark.parametrize("state", ["negative", "singular", "rank one", "zero"])
@pytest.mark.parametrize("structure", ["vector", "three factors"])
@pytest.mark.parametrize("cell", ["poisson(log)", "binomial(probit)", "nbinom2(log)"])
def test_criterion_and_gradient_at_singular_templates(cell, structure, state):
    compare(*pair(f"y ~ x + {STRUCTURES[structure]}", cell, state=state, weights=trials_of(cell)))


@pytest.mark.parametrize("information", INFORMATION)
@pytest.mark.parametrize("structure", ["vector", "crossed vector"])
@some_cells
def test_the_exact_hessian_takes_one_pass(cell, structure, information):
    formula = f"y ~ x + {STRUCTURES[structure]}"
    ours, at, theirs, point = pair(formula, cell, 1, weights_of(cell), information)
    value(ours, at)
    ours.derivatives()
    before = ours.passes
    H = ours.sharper()
    assert ours.passes == before + 1
    expected = theirs.hessian(point)
    assert H.shape == expected.shape
    if structure == "vector":
        differences = difference_hessian(ours, at, ours.derivatives()[1])
        np.testing.assert_allclose(H, differences, rtol=1e-4, atol=2e-5 * np.abs(H).max())
    np.testing.assert_allclose(H, H.T, rtol=1e-12, atol=1e-12)
    k = ours.parametrization.n_par
    R, S = ours.problem.basis.R, theirs.problem.basis.R
    fixed = slice(k, k + ours.p)
    np.testing.assert_allclose(
        R.T @ H[fixed, fixed] @ R, S.T @ expected[fixed, fixed] @ S, rtol=1e-7, atol=1e-8
    )


@pytest.mark.parametrize("nAGQ", [0, 1])
@pytest.mark.parametrize("cell", ["poisson(log)", "binomial(probit)", "nbinom2(log)"])
def test_how_modes_move(cell, nAGQ):
    formula = f"y ~ x + {STRUCTURES['crossed vector']}"
    ours, at, theirs, point = pair(formula, cell, nAGQ, weights_of(cell))
    value(ours, at), value(theirs, point)
    k = ours.parametrization.n_par
    (beta, effects), (beta_2, effects_2) = ours.effects_slopes(at), theirs.effects_slopes(point)
    R, S = ours.problem.basis.R, theirs.problem.basis.R
    fixed = slice(k, k + (0 if nAGQ == 0 else ours.p))
    for one, two in zip([beta, *effects], [beta_2, *effects_2], strict=True):
        one, two = (
            np.moveaxis(one, -1 if one is beta else 0, 0),
            np.moveaxis(two, -1 if two is beta_2 else 0, 0),
        )
        np.testing.assert_allclose(
            np.tensordot(R.T, one[fixed], 1) if nAGQ else 0.0,
            np.tensordot(S.T, two[fixed], 1) if nAGQ else 0.0,
            **CLOSE,
        )
        # Of covariance parameters: the scalings are the same up to how far a start has converged.
        np.testing.assert_allclose(one[k + ours.p * nAGQ :], two[k + ours.p * nAGQ :], **CLOSE)


@pytest.mark.parametrize("structure", ["scalar", "vector", "crossed vector"])
@some_cells
def test_the_end_of_a_fit(cell, structure):
    formula, data = f"y ~ x + {STRUCTURES[structure]}", simulated(cell, n=400)
    theirs = glmer(formula, data, cell, weights=trials_of(cell), control=lenient())._fit
    ours = streamed(formula, data, cell, weights=trials_of(cell), sizes=(70, 130, 1, 44))
    # Some six steps for the model without random effects, and as much again for scales and moments.
    assert ours.passes <= 14
    begun = ours.passes
    result = search(ours, ours.start(), lenient())
    # Four an evaluation, and a sharper Hessian near the end.
    assert ours.passes - begun <= 5 * result.n_evaluations + 4
    assert result.n_evaluations <= 15
    found, expected = ours.estimates(result.par), theirs.estimates
    assert found.objective == pytest.approx(expected.objective, rel=0, abs=1e-8)
    # Both searches end where a step would gain 1e-12: estimates to some 1e-6 standard errors.
    se = np.sqrt(np.diag(theirs.vcov))
    np.testing.assert_allclose(found.beta / se, expected.beta / se, rtol=1e-8, atol=1e-5)
    np.testing.assert_allclose(found.par, expected.par, rtol=1e-5, atol=1e-6)
    H = ours.hessian(result.par)
    k = ours.parametrization.n_par
    fixed = slice(k, k + ours.p)
    vcov = inverse_hessian(H)[0][fixed, fixed]
    R = ours.problem.basis
    np.testing.assert_allclose(R.back(R.back(vcov).T), theirs.vcov, rtol=1e-5, atol=1e-12)


def test_several_threads_or_machines_may_do_a_pass():
    """Steps and sums pickle, and the order of the chunks is of no matter."""

    class Elsewhere(ChunkSource):
        def __init__(self, function):
            self.parts = list(function())

        def chunks(self):
            return iter(self.parts)

        def total(self, step):
            self.passes += 1
            sent = pickle.dumps(step)
            done = [pickle.dumps(pickle.loads(sent)(chunk)) for chunk in reversed(self.parts)]
            return self.added(map(pickle.loads, done))

    cell, formula = "nbinom2(log)", f"y ~ x + {STRUCTURES['three factors']}"
    pieces = Pieces(formula, simulated(cell), cell)
    values = []
    for source in (Looped(pieces), Elsewhere(pieces)):
        problem = streamed_problem(source, pieces.terms, make_family(cell))
        c = StreamedCriterion(problem)
        point = c.scaled_point(np.full(c.parametrization.n_par, 0.3), np.ones(2), 2.0)
        values.append((value(c, point), *c.user_gradient(), *c.sharper().ravel()))
    np.testing.assert_allclose(*values, rtol=1e-9, atol=1e-9)


@pytest.mark.parametrize("sizes", [(1,), (9, 1), (90,)])
def test_the_size_of_chunks_changes_nothing(sizes):
    cell, formula = "binomial(cloglog)", f"y ~ x + {STRUCTURES['crossed vector']}"
    c = streamed(formula, simulated(cell), cell, weights="size", sizes=sizes)
    reference = streamed(formula, simulated(cell), cell, weights="size")
    points = [
        d.scaled_point(np.full(d.parametrization.n_par, 0.3), np.ones(2), None)
        for d in (c, reference)
    ]
    assert value(c, points[0]) == pytest.approx(value(reference, points[1]), rel=1e-13)


def test_counts_in_the_thousands_keep_their_digits():
    data = simulated("poisson(log)")
    data["y"] = np.round(data.y * 4000.0 + 7.0)
    formula = "y ~ x + (1 | g) + (1 | h)"
    ours, theirs = streamed(formula, data, "poisson"), criterion(formula, data, "poisson")[0]
    assert ours.problem.meaning.by_deviance
    user = np.full(2, 0.4), np.array([8.0, 0.5]), None
    assert value(ours, ours.scaled_point(*user)) == pytest.approx(
        value(theirs, theirs.scaled_point(*user)), rel=1e-12
    )


def test_quadrature_is_refused_by_name():
    with pytest.raises(ArgumentError, match="nAGQ is 5, and quadrature needs the rows in memory"):
        streamed("y ~ x + (1 | g)", simulated("poisson(log)"), "poisson", nAGQ=5)


def test_no_rows_are_refused():
    pieces = Pieces("y ~ x + (1 | g)", simulated("poisson(log)"), "poisson")
    with pytest.raises(ValueError, match="no rows in the chunks"):
        streamed_problem(Looped(list), pieces.terms, make_family("poisson"))


def test_a_response_without_dispersion_is_refused():
    data = simulated("Gamma(log)")
    data["y"] = np.exp(1.0 + 0.5 * data.x)
    with pytest.raises(FitError, match="fit the response exactly"):
        streamed("y ~ x + (1 | g)", data, "Gamma(log)")


def test_an_offset_that_leaves_the_domain_is_told():
    data = simulated("poisson(log)")
    data["o"] = 800.0
    data.loc[0, "o"] = -800.0
    with pytest.raises(FitError, match="no starting values are inside the domain"):
        streamed("y ~ 0 + x + (1 | g)", data, "poisson", offset="o")
