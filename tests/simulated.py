"""Small simulated data sets with several grouping factors, and criteria at chosen parameters."""

from functools import cache
from types import SimpleNamespace

import numpy as np
import pandas as pd

from mixef.estimation.chunked import ModelRows
from mixef.estimation.linear.criterion import LinearCriterion
from mixef.estimation.linear.problem import LinearProblem
from mixef.terms.fixed import design
from mixef.terms.formula import parse_formula
from mixef.terms.frame import model_frame, numeric_response
from mixef.terms.random import random_terms


@cache
def _crossed(n, seed):
    rng = np.random.default_rng(seed)
    g, h = rng.integers(0, 9, n), rng.integers(0, 7, n)
    k = rng.integers(0, 3, n)  # nested in g by the formula g/k
    x, z = rng.normal(1, 2, n), rng.normal(size=n)
    f = rng.integers(0, 3, n)
    y = 3 + 0.5 * x + rng.normal(size=n)
    y += rng.normal(size=9)[g] + rng.normal(size=9)[g] * x + rng.normal(size=7)[h]
    y += 0.7 * rng.normal(size=(9, 3))[g, k] + f
    data = {"y": y, "x": x, "z": z, "w": rng.uniform(0.2, 4, n), "f": np.array(list("abc"))[f]}
    return pd.DataFrame(data | {"g": g, "h": h, "k": k})


def crossed(n=120, seed=1):
    """Factors g (9), h (7), k (3, to be nested in g), covariates x and z, a factor f, weights w."""
    return _crossed(n, seed).copy()


def criterion(formula, data, REML=True, weights=None, contrasts=None):
    """The criterion of a model, and its terms, frame and X."""
    parsed = parse_formula(formula)
    frame = model_frame(parsed, data, weights=weights)
    X = design(frame.fixed_terms, frame, contrasts)
    terms = random_terms(frame, contrasts)
    y = numeric_response(frame)
    spec = SimpleNamespace(design=X, frame=frame, terms=terms, outcome=SimpleNamespace(y=y))
    problem = LinearProblem.from_chunks(ModelRows(spec, None), terms, REML)
    return LinearCriterion(problem), terms, frame, X.matrix
