"""A linear model from chunks of rows: the same fit as from arrays, rows never all in memory."""

from dataclasses import replace
from types import SimpleNamespace

import numpy as np
import pandas as pd
import pytest

from mixef import LmerControl
from mixef.errors import DataError
from mixef.estimation.chunked import ModelRows
from mixef.estimation.linear.criterion import LinearCriterion
from mixef.estimation.linear.problem import LinearProblem
from mixef.estimation.search.certified import search
from mixef.linalg.sources import Chunk
from mixef.terms.fixed import design
from mixef.terms.formula import parse_formula
from mixef.terms.frame import model_frame
from mixef.terms.random import block_structure, random_terms

N, SIZE = 1000, 90


def data(level=1.0, seed=3):
    rng = np.random.default_rng(seed)
    d = pd.DataFrame({"x": rng.normal(3, 2, N), "g": rng.integers(0, 25, N)})
    d["h"], d["k"] = rng.integers(0, 12, N), d.g * 4 + rng.integers(0, 4, N)
    d["w"] = rng.uniform(0.2, 4, N)
    effects = rng.normal(size=25)[d.g] + 0.4 * rng.normal(size=25)[d.g] * d.x
    d["y"] = 7 + 0.5 * d.x + level * (effects + rng.normal(size=12)[d.h]) + rng.normal(size=N)
    d["v"] = 1e6 + 1e3 * d.x  # nearly the intercept, on another scale
    return d


class Chunks:
    """Chunks that are made when they are asked for; it knows how many rows there were at once."""

    def __init__(self, X, y, terms, weights, size=SIZE):
        self.parts, self.size, self.passes, self.most = (X.matrix, y, weights), size, 0, 0
        self.z = [term.z for term in terms]
        blocks, _ = block_structure(terms)
        self.codes = [terms[members[0]].grouping.codes for members in blocks]

    def __call__(self):
        self.passes += 1
        X, y, weights = self.parts
        for start in range(0, len(y), self.size):
            rows = slice(start, start + self.size)
            chunk = Chunk(
                X[rows].copy(),
                y[rows].copy(),
                tuple(z[rows].copy() for z in self.z),
                tuple(codes[rows].copy() for codes in self.codes),
                None if weights is None else weights[rows].copy(),
            )
            self.most = max(self.most, len(chunk.y))
            yield chunk


def model(formula, d, weights=None):
    parsed = parse_formula(formula)
    frame = model_frame(parsed, d, weights=weights)
    X = design(frame.fixed_terms, frame, None)
    return X, frame.y, random_terms(frame, None), frame.weights


def without_rows(terms):
    """The terms as a source has them: their structure and levels, and no rows."""
    return [
        replace(t, design=t.design.with_matrix(t.z[:0]),
                grouping=replace(t.grouping, codes=t.grouping.codes[:0]))
        for t in terms
    ]  # fmt: skip


def from_rows(X, y, terms, weights, REML):
    frame = SimpleNamespace(n=len(y), offset=None, weights=weights)
    spec = SimpleNamespace(design=X, frame=frame, terms=terms, outcome=SimpleNamespace(y=y))
    return LinearProblem.from_chunks(ModelRows(spec, None), terms, REML)


def fitted(problem):
    criterion = LinearCriterion(problem)
    result = search(criterion, problem.start(), LmerControl())
    return criterion.estimates(result.par)


CASES = {
    "slopes": ("y ~ x + (x | g)", None, 1.0),
    "crossed": ("y ~ x + (x | g) + (1 | h)", None, 1.0),
    "nested, weights": ("y ~ x + (1 | g) + (1 | k)", "w", 1.0),
    "two terms of a factor": ("y ~ x + (1 | g) + (0 + x | g) + (1 | h)", "w", 1.0),
    "badly scaled": ("y ~ v + (v | g)", None, 1.0),
    "no fixed effects": ("y ~ 0 + (1 | g)", None, 1.0),
    "groups tell nearly all": ("y ~ x + (1 | g) + (1 | h)", None, 1e6),
}


@pytest.mark.parametrize("REML", [True, False])
@pytest.mark.parametrize("name", CASES)
def test_a_fit_from_chunks_is_that_from_arrays(name, REML):
    formula, weights, level = CASES[name]
    X, y, terms, w = model(formula, data(level), weights)
    chunks = Chunks(X, y, terms, w)
    ours = fitted(LinearProblem.from_chunks(chunks, without_rows(terms), REML))
    theirs = fitted(from_rows(X, y, terms, w, REML))
    assert chunks.most == SIZE
    close = {"rtol": 1e-10, "atol": 0}
    np.testing.assert_allclose(ours.objective, theirs.objective, **close)
    np.testing.assert_allclose(ours.sigma, theirs.sigma, rtol=1e-9 if level > 1 else 1e-10)
    # A search ends where a step would gain 1e-12: estimates to its root, in standard errors.
    se = np.sqrt(np.diag(theirs.unscaled_vcov)) * theirs.sigma
    np.testing.assert_allclose(ours.beta / se, theirs.beta / se, rtol=1e-10, atol=1e-6)
    np.testing.assert_allclose(ours.par, theirs.par, rtol=1e-5, atol=1e-6)
    at = LinearProblem.from_chunks(chunks, without_rows(terms), REML)
    rows = from_rows(X, y, terms, w, REML)
    for par in (theirs.par, 1.5 * theirs.par):  # at the same parameters all digits agree
        one, two = (LinearCriterion(p).estimates(p.scaled_par(par)) for p in (at, rows))
        np.testing.assert_allclose(one.objective, two.objective, **close)
        np.testing.assert_allclose(one.beta / se, two.beta / se, rtol=1e-10, atol=1e-7)


def test_two_passes_are_enough():
    X, y, terms, w = model("y ~ x + (x | g)", data())
    chunks = Chunks(X, y, terms, w)
    problem = LinearProblem.from_chunks(chunks, without_rows(terms), True)
    fitted(problem)
    assert chunks.passes == 2


@pytest.mark.parametrize("size", [1, 7, N])
def test_the_size_of_chunks_changes_nothing(size):
    X, y, terms, w = model("y ~ x + (x | g) + (1 | h)", data(), "w")
    few = LinearProblem.from_chunks(Chunks(X, y, terms, w, size), without_rows(terms), True)
    many = from_rows(X, y, terms, w, True)
    par = np.array([0.7, 0.1, 0.4, 0.6])
    values = [LinearCriterion(p).value(p.scaled_par(par)) for p in (few, many)]
    np.testing.assert_allclose(*values, rtol=1e-12)


def test_a_response_without_variance_is_refused():
    X, _, terms, w = model("y ~ x + (1 | g)", data())
    with pytest.raises(DataError, match="the response y leaves nothing to explain"):
        LinearProblem.from_chunks(
            Chunks(X, X.matrix @ [1.0, 2.0], terms, w), without_rows(terms), True
        )


def test_no_rows_are_refused():
    _, _, terms, _ = model("y ~ x + (1 | g)", data())
    with pytest.raises(ValueError, match="no rows in the chunks"):
        LinearProblem.from_chunks(list, without_rows(terms), True)
