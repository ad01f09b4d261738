"""Simulated data for every family and link, and generalized criteria at chosen parameters.

Links that do not take every linear predictor get small effects around a centre inside the domain.
"""

from dataclasses import replace
from functools import cache

import numpy as np
import pandas as pd
from raw_coordinates import raw_coordinates

from mixef.control import GlmerControl
from mixef.estimation.generalized.criterion import GeneralizedCriterion
from mixef.estimation.generalized.problem import generalized_problem
from mixef.estimation.generalized.response import Response
from mixef.families.convert import make_family
from mixef.terms.fixed import design
from mixef.terms.formula import parse_formula
from mixef.terms.frame import model_frame
from mixef.terms.outcome import outcome
from mixef.terms.random import random_terms

# Centre and size of the linear predictor, by family and link.
CELLS = {
    "binomial(logit)": (0.3, 0.6),
    "binomial(probit)": (0.2, 0.4),
    "binomial(cloglog)": (-0.5, 0.4),
    "binomial(cauchit)": (0.2, 0.5),
    "binomial(log)": (-1.6, 0.1),
    "poisson(log)": (0.8, 0.4),
    "poisson(sqrt)": (2.5, 0.25),
    "poisson(identity)": (8.0, 0.7),
    "gaussian(identity)": (1.0, 0.8),
    "gaussian(log)": (1.0, 0.3),
    "gaussian(inverse)": (1.0, 0.08),
    "Gamma(inverse)": (2.0, 0.15),
    "Gamma(log)": (1.0, 0.5),
    "Gamma(identity)": (5.0, 0.4),
    "inverse.gaussian(1/mu^2)": (2.0, 0.15),
    "inverse.gaussian(log)": (0.5, 0.3),
    "inverse.gaussian(inverse)": (2.0, 0.15),
    "inverse.gaussian(identity)": (3.0, 0.25),
    "nbinom2(log)": (1.2, 0.4),
    "nbinom2(sqrt)": (2.5, 0.25),
    "nbinom2(identity)": (8.0, 0.7),
    "nbinom2(2, log)": (1.2, 0.4),
}
#: One link a family: the one that most users take.
USUAL = [
    "binomial(logit)",
    "poisson(log)",
    "gaussian(log)",
    "Gamma(log)",
    "inverse.gaussian(log)",
    "nbinom2(log)",
]
STRUCTURES = {
    "scalar": "(1 | g)",
    "vector": "(x | g)",
    "double bar": "(x || g)",
    "three columns": "(x + z | g)",
    "crossed": "(1 | g) + (1 | h)",
    "crossed vector": "(x | g) + (z | h)",
    "nested": "(1 | g/k)",
    "three factors": "(x | g) + (1 | h) + (1 | g:k)",
}
ONE_FACTOR = ["scalar", "vector", "double bar", "three columns"]
PHI, SHAPE = 0.3, 3.0
# By expected and by observed information, which are one for a canonical link.
INFORMATION = ["expected", "observed"]
INFORMED = [
    (cell, information)
    for cell in CELLS
    for information in INFORMATION
    if information == "expected" or not make_family(cell).is_canonical
]


def draw(family, mu, size, rng):
    """One response a mean, with dispersion PHI or shape SHAPE; ``size`` are binomial trials."""
    name = family.name.split("(")[0]
    if name == "binomial":
        return rng.binomial(size, mu) / size
    if name == "poisson":
        return rng.poisson(mu).astype(float)
    if name == "gaussian":
        return mu + np.sqrt(PHI) * rng.normal(size=len(mu))
    if name == "Gamma":
        return rng.gamma(1 / PHI, PHI * mu)
    if name == "inverse.gaussian":
        return rng.wald(mu, 1 / PHI)
    shape = family.shape or SHAPE
    return rng.poisson(mu * rng.gamma(shape, 1 / shape, len(mu))).astype(float)


@cache
def _simulated(cell, n, seed):
    rng = np.random.default_rng(seed)
    centre, size = CELLS[cell]
    g, h, k = rng.integers(0, 8, n), rng.integers(0, 6, n), rng.integers(0, 3, n)
    x, z = rng.uniform(-1, 1, n), rng.uniform(-1, 1, n)
    effect = 0.6 * x + 0.5 * rng.uniform(-1, 1, 8)[g] + 0.5 * rng.uniform(-1, 1, 8)[g] * x
    effect = effect + 0.5 * rng.uniform(-1, 1, 6)[h] + 0.4 * rng.uniform(-1, 1, (8, 3))[g, k]
    family = make_family(cell)
    size_ = rng.integers(1, 9, n)
    mu = family.link.inverse(centre + size * effect)
    data = {"y": draw(family, mu, size_, rng), "x": x, "z": z, "g": g, "h": h, "k": k}
    return pd.DataFrame(data | {"size": size_, "w": rng.integers(1, 4, n), "one": 1.0})


def simulated(cell, n=90, seed=1):
    """Rows with factors g (8), h (6), k (3, to be nested in g), covariates, trials, weights w."""
    return _simulated(cell, n, seed).copy()


def weights_of(cell):
    """The column that goes to weights=: trials of a binomial response, else 1, 2 or 3."""
    return "size" if cell.startswith("binomial") else "w"


def trials_of(cell):
    """The column that goes to weights= where there are no other weights."""
    return "size" if cell.startswith("binomial") else None


def criterion(
    formula, data, family, nAGQ=1, weights=None, offset=None, information=None, factor=None
):
    """The criterion of a model, and the response that it has."""
    family = make_family(family)
    frame = model_frame(parse_formula(formula), data, weights=weights, offset=offset)
    got = outcome(frame, family)
    response = Response(family, got.y, got.weights, information)
    X, terms = design(frame.fixed_terms, frame, None).matrix, random_terms(frame, None)
    problem = generalized_problem(X, response, frame.offset, terms, nAGQ)
    out = GeneralizedCriterion(problem)
    if factor is not None:
        out.model = replace(out.model, factor=factor(out.model.groups.products))
    return out, response


def value(c, point):
    """The criterion to rounding: once more, from the mode that the first call has found."""
    c.value(point)
    c._anchor = c._mode = None
    return c.value(point)


def point_of(c, cell, state, seed=0):
    """A point of the search around the truth whose templates are as the state says."""
    rng = np.random.default_rng(seed)
    size = CELLS[cell][1]
    lams = []
    for structure in c.parametrization.structures:
        s = structure.size
        lam = 0.6 * np.eye(s) + 0.3 * np.tril(rng.normal(size=(s, s)))
        if state == "negative":
            lam = lam * np.where(np.arange(s) % 2, 1, -1)
        elif state == "singular":  # a zero on the diagonal, below a row that is not zero
            lam[-1, -1] = 0.0
        elif state == "rank one":
            lam[:, 1:] = 0.0
        elif state == "zero":
            lam = np.zeros((s, s))
        lams.append(lam)
    start = c.start()
    k = c.parametrization.n_par
    # Scaled columns are of unit weighted size: what is small on the link's scale is so by root W.
    level = np.sqrt(c.problem.glm.state.expected.mean())
    par = c.parametrization.resized(raw_coordinates(c.parametrization, lams), level * size)
    rest = start[k:] + 0.05 * rng.normal(size=len(start) - k) * c.scale(start)[k:] * size
    return np.concatenate([par, rest])


def slopes(function, point, steps):
    """Central differences of sixth order: the error is some step^6 of a seventh derivative."""
    by_step = [slope_along(function, point, e) for e in np.diag(steps)]
    return np.array([s / step for s, step in zip(by_step, steps, strict=True)])


def slope_along(function, point, e):
    """The derivative of ``function(point + t e)`` at t = 0, by the same differences."""
    f = [function(point + j * e) for j in (-3, -2, -1, 1, 2, 3)]
    return (f[5] - f[0] - 9 * (f[4] - f[1]) + 45 * (f[3] - f[2])) / 60


def assert_slopes(function, derivative, point, scale, step, rtol, atol=0.0):
    """Compare a gradient, or a Hessian beside a function's gradient, with differences.

    Along two directions at random, of length 1 in natural units: the error of one slope is at
    least `least` times as large there, and those of several do not cancel in both.
    """
    rng, p = np.random.default_rng(len(point)), len(point)
    directions = rng.choice([-1, 1], (2, p)) * rng.uniform(0.5, 1.0, (2, p))
    directions *= scale / np.linalg.norm(directions, axis=1)[:, None]
    least = np.abs(directions).min()
    tolerance = least * (rtol * np.abs(derivative).max() + atol)
    for e in directions:
        expected = slope_along(function, point, step * e) / step
        np.testing.assert_allclose(e @ derivative, expected, rtol=0, atol=tolerance)


def lenient(**options):
    """Control that lets singular fits pass in silence."""
    return GlmerControl(check_conv_singular="ignore", **options)
