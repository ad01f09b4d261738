"""The sparse factor at any theta, in any order, and what a user can make of it."""

import numpy as np
import pytest
from scipy import sparse

from mixef import glmer, lmer, load_dataset
from mixef.errors import ArgumentError, DataError
from mixef.linalg import cholmod

CBPP = "cbind(incidence, size - incidence) ~ period + (1 | herd)"
FITS = {
    "Penicillin": lambda: lmer("diameter ~ 1 + (1|plate) + (1|sample)", load_dataset("Penicillin")),
    "Pastes": lambda: lmer("strength ~ 1 + (1 | sample) + (1 | batch)", load_dataset("Pastes")),
    "slopes": lambda: lmer("Reaction ~ Days + (Days | Subject)", load_dataset("sleepstudy")),
    "weights": lambda: lmer(
        "Reaction ~ Days + (Days | Subject)", load_dataset("sleepstudy"),
        weights=np.tile([1.0, 2.0, 0.5], 60),
    ),
    "cs": lambda: lmer("angle ~ recipe + cs(0 + recipe | replicate)", load_dataset("cake")),
    "twice": lambda: lmer(
        "angle ~ recipe + (1 | replicate) + (0 + temp | replicate) + (1 | recipe:replicate)",
        load_dataset("cake"),
    ),
    "cbpp": lambda: glmer(CBPP, load_dataset("cbpp"), "binomial"),
}  # fmt: skip


@pytest.fixture(scope="module")
def fits():
    return {name: make() for name, make in FITS.items()}


@pytest.fixture(params=["installed", "own"])
def ordering(request, monkeypatch):
    """The order of elimination by CHOLMOD, where that is installed, and by our own."""
    if request.param == "own":
        monkeypatch.setattr(cholmod, "library", lambda: None)


# Non-zeros and the first entry: D. Bates (2010), Linear mixed models, slides of a course, the
# sections on Penicillin and on reversing the order of its factors.
@pytest.mark.parametrize(
    ("order", "permute", "nnz"),
    [
        (None, True, 189), (["plate", "sample"], False, 189), (["sample", "plate"], False, 450),
        (("sample", "plate"), True, 204),
    ],
)  # fmt: skip
def test_fill_by_the_order_of_the_factors(fits, ordering, order, permute, nnz):
    at = fits["Penicillin"].factor_at([1.2, 2.1], order, permute)
    assert at.nnz == at.L.nnz == nnz
    assert at.effects[0][0] == ("plate" if order is None else order[0])
    if order is None:
        assert at.L[0, 0] == pytest.approx(3.105, abs=5e-4)


def test_nested_factors_do_not_fill(fits, ordering):
    at = fits["Pastes"].factor_at([0.4, 0.5])
    assert at.nnz == sparse.tril(at.A).nnz == 70


def test_the_order_of_elimination_is_that_of_the_slides(fits):
    if cholmod.library() is None:
        return  # the order is CHOLMOD's
    at = fits["Pastes"].factor_at([0.4, 0.5])
    assert at.P[:10].tolist() == [2, 1, 0, 30, 5, 4, 3, 31, 8, 7]


@pytest.mark.parametrize("name", FITS)
@pytest.mark.parametrize("permute", [True, False])
def test_the_factor_is_that_of_the_dense_matrix(fits, ordering, name, permute):
    fit = fits[name]
    at = fit.factor_at(permute=permute)
    ZW = (
        fit.getME("Zt").toarray()
        * np.sqrt(fit.weights("working") if name == "cbpp" else fit.weights()).to_numpy()
    )
    Lambda = fit.getME("Lambda").toarray()
    A = Lambda.T @ ZW @ ZW.T @ Lambda + np.eye(len(Lambda))
    np.testing.assert_allclose(at.A.toarray(), A, rtol=1e-12, atol=1e-12 * A.max())
    L, P = at.L.toarray(), at.P
    np.testing.assert_allclose(L @ L.T, A[P][:, P], rtol=1e-12, atol=1e-12 * A.max())
    assert (np.triu(L, 1) == 0).all()
    assert at.logdet == pytest.approx(np.linalg.slogdet(A)[1], rel=1e-12)
    assert at.logdet == pytest.approx(fit._fit.estimates.ldL2, rel=1e-9)  # another route
    b = np.random.default_rng(1).normal(size=(len(P), 2))
    for rhs in (b, b[:, 0]):
        for system, left in (("A", A), ("L", L), ("Lt", L.T), ("P", np.eye(len(P))[P].T)):
            np.testing.assert_allclose(left @ at.solve(rhs, system), rhs, atol=1e-10 * A.max())
        np.testing.assert_array_equal(at.solve(at.solve(rhs, "P"), "pt"), rhs)


def test_other_thetas_share_the_structure(fits):
    at = fits["slopes"].factor_at()
    zero = at.update([0.0, 0.0, 0.0])
    np.testing.assert_array_equal(zero.L.toarray(), np.eye(36))
    assert zero.nnz == at.nnz
    assert zero.logdet == 0.0
    assert at.logdet == zero.update(at.theta).logdet  # the first is as it was
    assert list(at.theta.index) == ["Subject.(Intercept)", "Subject.Days.(Intercept)",
                                    "Subject.Days"]  # fmt: skip


def test_the_profiled_deviance_in_a_few_lines_of_a_user(fits):
    fit = fits["Penicillin"].refit_ml()
    Z, X, y = fit.getME("Z"), fit.getME("X").to_numpy(), fit.getME("y")
    at, n = fit.factor_at(), len(y)

    def deviance(theta):
        now = at.update(theta)
        Ut = sparse.diags(np.repeat(theta, [24, 6])) @ Z.T
        RZX = now.solve(now.solve(Ut @ X, "P"), "L")
        cu = now.solve(now.solve(Ut @ y, "P"), "L")
        RX = np.linalg.cholesky(X.T @ X - RZX.T @ RZX).T
        beta = np.linalg.solve(RX, np.linalg.solve(RX.T, X.T @ y - RZX.T @ cu))
        u = now.solve(Ut @ (y - X @ beta))
        pwrss = ((y - X @ beta - Ut.T @ u) ** 2).sum() + u @ u
        return now.logdet + n * (1 + np.log(2 * np.pi * pwrss / n))

    assert deviance(fit.theta) == pytest.approx(fit.objective, rel=1e-10)
    assert deviance([1.2, 2.1]) == pytest.approx(fit.getME("devfun")([1.2, 2.1]), rel=1e-10)


@pytest.mark.parametrize(
    ("arguments", "error", "message"),
    [
        ({"theta": [1.0]}, DataError, "entries of theta are 1 values; expected 2 .*plate"),
        ({"theta": ["a", 1]}, DataError, r"entries of theta are \['a', 1\]"),
        ({"order": ["plate"]}, ArgumentError, "each of the grouping factors plate, sample once"),
        ({"order": ["plate", "plate"]}, ArgumentError, "order is .*once"),
        ({"order": 3}, ArgumentError, "order is 3; expected the grouping factors plate, sample"),
        ({"permute": 1}, ArgumentError, "permute is 1; expected True or False"),
    ],
)
def test_what_is_no_argument(fits, arguments, error, message):
    with pytest.raises(error, match=message):
        fits["Penicillin"].factor_at(**arguments)


@pytest.mark.parametrize(
    ("rhs", "system", "message"),
    [
        (np.ones(3), "A", r"rhs is an array of shape \(3,\); expected finite numbers \(30,\)"),
        (np.full(30, np.nan), "A", "rhs"),
        (np.ones((30, 1, 1)), "A", "rhs"),
        (np.ones(30), "LDLt", "system is 'LDLt'; expected one of 'A', 'L', 'Lt', 'P' or 'Pt'"),
    ],
)
def test_what_is_no_system(fits, rhs, system, message):
    with pytest.raises(ArgumentError, match=message):
        fits["Penicillin"].factor_at().solve(rhs, system)


def test_other_weights_share_the_structure(fits):
    """The steps of PIRLS, the glmer paper's equation 15, at weights that are not the mode's."""
    fit = fits["cbpp"]
    Zt, Lambda = fit.getME("Zt").toarray(), fit.getME("Lambda").toarray()
    W = np.random.default_rng(1).uniform(0.1, 2.0, fit.nobs)
    W[:4] = 0.0
    at = fit.factor_at(weights=W)
    A = Lambda.T @ (Zt * W) @ Zt.T @ Lambda + np.eye(len(Zt))
    np.testing.assert_allclose(at.A.toarray(), A, rtol=1e-12, atol=1e-12 * A.max())
    np.testing.assert_allclose(A @ at.solve(Zt[:, 0]), Zt[:, 0], atol=1e-12 * A.max())
    again = fit.factor_at().update(weights=W)
    assert (again.logdet, again.nnz) == (at.logdet, fit.factor_at().nnz)
    np.testing.assert_array_equal(again.update([0.5]).weights, W)  # W stays for another theta
    np.testing.assert_allclose(fit.factor_at().weights, fit.weights("working"), rtol=1e-12)


@pytest.mark.parametrize("weights", [np.ones(3), -np.ones(56), np.full(56, np.nan), "a", 2.0])
def test_what_are_no_weights(fits, weights):
    with pytest.raises(ArgumentError, match=r"weights is .*; expected finite numbers \(56,\), 0"):
        fits["cbpp"].factor_at(weights=weights)
