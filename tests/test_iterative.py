"""The iterative factor of two crossed factors against dense linear algebra."""

import numpy as np
import pytest

from mixef.errors import FitError
from mixef.linalg.crossproducts import crossproducts
from mixef.linalg.iterative.factor import IterativeFactor
from mixef.linalg.rows import GroupDesign, Rows


def crossed(n=400, levels=(30, 20), seed=0, widths=(1, 1)):
    rng = np.random.default_rng(seed)
    groups = [
        GroupDesign(rng.integers(0, size, n), size, rng.uniform(0.5, 1.5, (n, s)))
        for size, s in zip(levels, widths, strict=True)
    ]
    return crossproducts(Rows(groups, rng.normal(size=(n, 2)), rng.normal(size=n)), assembles=False)


def scalars(*theta):
    return [np.array([[t]]) for t in theta]


@pytest.mark.parametrize("theta", [(1.0, 0.7), (0.0, 0.7), (1.0, 0.0), (0.0, 0.0), (-0.5, 2.0)])
def test_solves_and_traces_are_those_of_dense_linear_algebra(theta):
    products = crossed()
    ZtZ = products.ZtZ if isinstance(products.ZtZ, np.ndarray) else products.ZtZ.toarray()
    lam = np.repeat(theta, products.layout.n_levels)
    M = lam[:, None] * ZtZ * lam + np.eye(50)
    C = np.linalg.inv(M)
    factor = IterativeFactor(products)
    factor.update(scalars(*theta))
    assert abs(factor.ldL2 - np.linalg.slogdet(M)[1]) <= 5.0 * factor.ldL2_se + 1e-9
    rhs = np.random.default_rng(1).normal(size=(50, 3))
    np.testing.assert_allclose(factor.solve(rhs), C @ rhs, atol=1e-8)
    np.testing.assert_allclose(factor.solve(rhs[:, 0]), C @ rhs[:, 0], atol=1e-8)
    np.testing.assert_allclose(factor.ZtZ_times(rhs), ZtZ @ rhs, atol=1e-10)
    inner = ZtZ - ZtZ @ (lam[:, None] * C * lam) @ ZtZ
    se = np.sqrt(np.diag(factor.trace_covariance()))
    for T, rows, e in zip(factor.trace_blocks(), products.layout.slices, se, strict=True):
        assert abs(T[0, 0] - inner.diagonal()[rows].sum()) <= 5.0 * e + 1e-8


def test_terms_of_several_columns_are_refused():
    with pytest.raises(FitError, match="one column each, and the terms have 2, 1 columns"):
        IterativeFactor(crossed(widths=(2, 1)))
