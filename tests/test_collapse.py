"""Rows that share covariates and groups, collapsed to counts: the same model, to rounding."""

import numpy as np
import pytest
from simulated_glmm import lenient, simulated, value
from streamed_glmm import Pieces

from mixef.errors import ArgumentError
from mixef.estimation.generalized.collapse import collapse
from mixef.estimation.generalized.streamed_criterion import StreamedCriterion
from mixef.estimation.generalized.streamed_start import streamed_problem
from mixef.estimation.search.certified import search
from mixef.families.convert import make_family
from mixef.linalg.chunks import Looped

CASES = {
    "trials": ("binomial(logit)", "y ~ x + (1 | g) + (1 | h)", {"weights": "size"}),
    "zero and one": ("binomial(probit)", "one ~ x + (x | g)", {}),
    "copies": ("binomial(cloglog)", "cbind(s, t) ~ x + (1 | g)", {"weights": "w"}),
    "counts": ("poisson(log)", "y ~ x + (x | g)", {"offset": "o"}),
    "another link": ("poisson(sqrt)", "y ~ x + (1 | g / k)", {"weights": "w"}),
    "a known shape": ("nbinom2(2, log)", "y ~ x + (1 | g)", {}),
}


@pytest.mark.parametrize("name", CASES)
def test_collapsed_rows_are_the_same_model(name):
    cell, formula, options = CASES[name]
    data = simulated(cell, n=400)
    rng = np.random.default_rng(3)
    data["x"], data["o"] = np.round(data.x), 0.1 * data.k
    data["one"] = (rng.random(len(data)) < 0.4).astype(float)
    data["s"] = rng.binomial(data["size"], 0.4)
    data["t"] = data["size"] - data.s
    pieces = Pieces(formula, data, cell, sizes=(70, 130, 1, 44), **options)
    family = make_family(cell)
    one = collapse(pieces(), family)
    assert len(one.y) < len(data)
    assert one.n_rows == len(data)
    found = []
    for source in (Looped(pieces), Looped(lambda: [one])):
        c = StreamedCriterion(streamed_problem(source, pieces.terms, family))
        assert c.n == len(data)
        p = c.scaled_point(np.full(c.parametrization.n_par, 0.3), np.array([0.5, 0.2]), None)
        at = value(c, p), c.user_gradient(), c.estimates(p).pwrss, c.laplace_error(p).shift
        end = c.estimates(search(c, c.start(), lenient()).par)
        found.append([*at, end.objective, end.beta, end.par])
    for ours, theirs, tolerance in zip(*found, [1e-12] + [1e-8] * 3 + [1e-12, 1e-6, 1e-5]):  # noqa: B905
        np.testing.assert_allclose(ours, theirs, rtol=tolerance, atol=tolerance)


@pytest.mark.parametrize("cell", ["Gamma(log)", "nbinom2(log)", "gaussian(log)"])
def test_what_does_not_collapse_is_refused(cell):
    pieces = Pieces("y ~ x + (1 | g)", simulated(cell), cell)
    with pytest.raises(ArgumentError, match="do not collapse to counts"):
        collapse(pieces(), make_family(cell))


def test_no_rows_are_refused():
    with pytest.raises(ValueError, match="no rows in the chunks"):
        collapse([], make_family("poisson"))
