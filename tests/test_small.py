"""Many small matrices at once, beside NumPy one by one."""

import numpy as np
import pytest

from mixef.linalg import small


def matrices(s, n=7):
    A = np.random.default_rng(s).normal(size=(n, s, s + 2))
    return A @ A.transpose(0, 2, 1) + np.eye(s)


@pytest.mark.parametrize("s", range(1, 7))
def test_factors_inverses_and_products(s):
    M = matrices(s)
    C = small.cholesky(M)
    np.testing.assert_allclose(C, np.linalg.cholesky(M), rtol=0, atol=1e-12 * M.max())
    X = small.inverse_lower(C)
    np.testing.assert_allclose(X @ C, np.broadcast_to(np.eye(s), M.shape), rtol=0, atol=1e-12)
    assert not np.triu(X, 1).any()
    assert not np.triu(C, 1).any()
    B = np.random.default_rng(1).normal(size=(len(M), s, 3))
    np.testing.assert_allclose(small.times(M, B), M @ B, rtol=0, atol=1e-12 * M.max())


@pytest.mark.parametrize("s", range(1, 7))
def test_a_matrix_that_is_not_positive_definite_is_refused(s):
    M = matrices(s)
    M[3, -1, -1] = -1.0
    with pytest.raises(np.linalg.LinAlgError):
        small.cholesky(M)
    M[3, -1, -1] = np.nan
    if s <= small.NARROW:  # LAPACK lets a NaN pass
        with pytest.raises(np.linalg.LinAlgError):
            small.cholesky(M)


def test_products_of_empty_matrices():
    assert (
        small.times(np.empty((2, 3, 0)), np.empty((2, 0, 4))).tolist()
        == np.zeros((2, 3, 4)).tolist()
    )


def test_one_matrix_goes_to_lapack_itself():
    """As NumPy's routines do; what they cannot do is told as they tell it."""
    rng = np.random.default_rng(0)
    A, b, B = rng.normal(size=(4, 4)), rng.normal(size=4), rng.normal(size=(4, 2))
    for rhs in (b, B):
        np.testing.assert_allclose(small.solve(A, rhs), np.linalg.solve(A, rhs), rtol=1e-12)
    values, vectors = small.eigh(A + A.T)
    np.testing.assert_allclose(values, np.linalg.eigvalsh(A + A.T), rtol=1e-12)
    np.testing.assert_allclose((vectors * values) @ vectors.T, A + A.T, atol=1e-13)
    with pytest.raises(np.linalg.LinAlgError):
        small.solve(np.zeros((2, 2)), np.ones(2))
    with pytest.raises(np.linalg.LinAlgError):
        small.eigh(np.full((2, 2), np.nan))
