"""The criterion, its gradient and its curvature against dense algebra and differences."""

import dense_gaussian
import numpy as np
import pytest
from raw_coordinates import raw_coordinates
from simulated import criterion, crossed

from mixef import LmerControl, lmer
from mixef.linalg.dense import DenseFactor
from mixef.linalg.schur import SchurFactor
from mixef.terms.covariance import psd_cholesky

FORMULAS = {
    "scalar": "y ~ x + (1 | g)",
    "vector": "y ~ x + f + (x + z | g)",
    "diagonal": "y ~ x + diag(x + z | g)",
    "one variance": "y ~ x + diag(f | g, hom = TRUE)",
    "two terms on a factor": "y ~ x + (x | g) + (0 + z | g)",
    "double bar": "y ~ x + (x + z || g)",
    "nested": "y ~ x + (x | g/k)",
    "crossed scalar": "y ~ x + (1 | g) + (1 | h)",
    "crossed vector": "y ~ x + (x | g) + (z | h)",
    "three factors": "y ~ x + (z | g) + (1 | h) + (1 | g:k)",
    "two structures": "y ~ 1 + diag(x | g) + (x + z | h) + (1 | g:h)",
    "no fixed effects": "y ~ 0 + (x | g) + (1 | h)",
    "factor slopes": "y ~ f + (0 + f | g) + (1 | h)",
}
WEIGHTED = {"crossed vector", "diagonal"}
QUIET = LmerControl(check_conv_singular="ignore")
STATES = ["random", "negative", "singular", "rank one", "zero", "nearly singular"]


def parameters(parametrization, state, seed=0):
    """Parameters whose templates are as the state says."""
    rng = np.random.default_rng(seed)
    lams = []
    for structure in parametrization.structures:
        s = structure.size
        lam = 0.6 * np.eye(s) + 0.3 * np.tril(rng.normal(size=(s, s)))
        if state == "negative":
            lam = lam * np.where(rng.random(s) < 0.5, -1, 1)
        elif state == "singular":  # a zero column whose free entries are not zero
            lam[-1, -1] = 0.0
        elif state == "rank one":
            lam[:, 1:] = 0.0
        elif state == "zero":
            lam = np.zeros((s, s))
        elif state == "nearly singular":
            lam[-1, -1] = 1e-5
        lams.append(lam)
    return raw_coordinates(parametrization, lams)


def slope(function, par, step=1e-3):
    """Central differences of fourth order: the error is some step^4 of the value."""
    out = []
    for e in np.eye(len(par)):
        f = [function(par + k * step * e) for k in (-2, -1, 1, 2)]
        out.append((f[0] - 8 * f[1] + 8 * f[2] - f[3]) / (12 * step))
    return np.array(out)


def model(name, REML):
    weights = "w" if name in WEIGHTED else None
    return criterion(FORMULAS[name], crossed(), REML, weights)


@pytest.mark.parametrize("state", STATES)
@pytest.mark.parametrize("REML", [True, False], ids=["REML", "ML"])
@pytest.mark.parametrize("name", FORMULAS)
def test_value_and_gradient(name, REML, state):
    c, terms, frame, X = model(name, REML)
    par = parameters(c.parametrization, state)
    value = c.value(par)
    gradient, _ = c.derivatives()

    triples = [(t.grouping.codes, t.n_levels, t.z) for t in terms]
    V = dense_gaussian.covariance(triples, c.terms.user_lams(par), frame.weights)
    expected, beta, sigma = dense_gaussian.criterion(frame.y, X, V, REML)
    # 1e-10: rounding of a dense V with condition numbers up to 1e5.
    assert value == pytest.approx(expected, rel=1e-10)
    estimates = c.estimates(par)
    assert estimates.objective == pytest.approx(expected, rel=1e-10)
    assert estimates.sigma == pytest.approx(sigma, rel=1e-9)
    np.testing.assert_allclose(estimates.beta, beta, rtol=0, atol=1e-8)

    differences = slope(c.value, par)
    # Differences: 1e-13 of a value of 500 over a step of 1e-3, and step^4 of fifth derivatives.
    assert np.abs(differences).max() > 0.1 or state != "random"
    np.testing.assert_allclose(gradient, differences, rtol=1e-6, atol=1e-6)


@pytest.mark.parametrize("state", ["random", "singular", "rank one"])
@pytest.mark.parametrize("name", FORMULAS)
def test_information_is_what_dense_algebra_gives(name, state):
    """Average information ``f_a'P f_b / s2 - k_a k_b / (m s2^2)`` plus the curvature term.

    Where the factor has the blocks of Z'V^-1 Z, ``f_a'P f_b / s2 - tr(P dV_a P dV_b)`` is added:
    the exact Hessian.
    """
    for REML in (True, False):
        c, terms, frame, X = model(name, REML)
        par = parameters(c.parametrization, state)
        c.value(par)
        gradient, information = c.derivatives()
        columns = [
            dense_gaussian.random_columns(t.grouping.codes, t.n_levels, t.z @ np.linalg.inv(s.R))
            for t, s in zip(terms, c.terms.bases, strict=True)
        ]
        lams = c.parametrization.term_lams(par)
        V = np.diag(1 / root(frame)[:, 0] ** 2)
        for Z, t, lam in zip(columns, terms, lams, strict=True):
            V = V + Z @ np.kron(np.eye(t.n_levels), lam @ lam.T) @ Z.T
        W = np.linalg.inv(V)
        P = W - W @ X @ np.linalg.solve(X.T @ W @ X, X.T @ W) if X.shape[1] else W
        Py = P @ frame.y
        m = frame.n - X.shape[1] if REML else frame.n
        s2 = frame.y @ Py / m
        slopes, second, owner = [], [], []
        for t, (Z, term, lam) in enumerate(zip(columns, terms, lams, strict=True)):
            for d in term.structure.d_lam(par[c.parametrization.par_slices[t]]):
                half = Z @ np.kron(np.eye(term.n_levels), d @ lam.T) @ Z.T
                slopes.append(half + half.T)
                second.append(Z @ np.kron(np.eye(term.n_levels), d))
                owner.append(t)
        Q = P if REML else W
        f = np.column_stack([D @ Py for D in slopes])
        k = Py @ f
        observed = f.T @ P @ f / s2
        expected = observed - np.outer(k, k) / (m * s2**2)
        if c.factor.projected_squares(np.empty((c.factor.layout.q, 0))) is not None:
            halves = [Q @ D for D in slopes]
            expected += observed - [[np.vdot(a.T, b) for b in halves] for a in halves]
        for a in range(len(k)):
            for b in range(len(k)):
                if owner[a] == owner[b]:
                    trace = np.vdot(second[a], Q @ second[b])
                    expected[a, b] += 2 * (trace - Py @ second[a] @ second[b].T @ Py / s2)
        score = np.array([np.vdot(Q, D) for D in slopes]) - k / s2
        # 1e-9 of the largest entry: rounding of dense inverses.
        np.testing.assert_allclose(gradient, score, atol=1e-9 * np.abs(score).max() + 1e-9)
        np.testing.assert_allclose(information, expected, atol=1e-9 * np.abs(expected).max())


def root(frame):
    return np.ones((frame.n, 1)) if frame.weights is None else np.sqrt(frame.weights)[:, None]


@pytest.mark.parametrize("REML", [True, False], ids=["REML", "ML"])
@pytest.mark.parametrize("name", ["vector", "nested", "crossed vector", "three factors"])
def test_K_is_the_slope_along_new_directions(name, REML):
    """K is the criterion's derivative for ``lam lam'``, also where lam has no such direction."""
    c, *_ = model(name, REML)
    par = parameters(c.parametrization, "rank one")
    lams = c.parametrization.term_lams(par)
    for t, lam in enumerate(lams):
        if lam.shape[0] < 2:
            continue
        start = c.value(par)
        i, cols = c.parametrization.block_of[t], c.parametrization.columns[t]
        c.derivatives()
        K = c._differentiated().K[i][cols, cols]
        v = np.linalg.svd(lam)[0][:, -1]
        assert np.abs(v @ lam).max() < 1e-15

        def along(size, lam=lam, v=v, t=t):
            # The gradient cannot see this direction: lam enters the covariance by its square.
            moved = list(lams)
            value, vector = np.linalg.eigh(lam @ lam.T + size * np.outer(v, v))
            moved[t] = psd_cholesky(vector * np.sqrt(np.maximum(value, 0)))
            return c.value(raw_coordinates(c.parametrization, moved))

        # One-sided differences from 0, of third order; 1e-4: step^3, and rounding over the step.
        h = 3e-4
        f = [along(k * h) for k in (1, 2, 3)]
        difference = (-11 * start + 18 * f[0] - 9 * f[1] + 2 * f[2]) / (6 * h)
        assert v @ K @ v == pytest.approx(difference, rel=1e-4, abs=1e-4)


@pytest.mark.parametrize("name", FORMULAS)
def test_the_users_gradient_is_that_of_devfun(name):
    data = crossed()
    data["x"] *= 100.0  # so that the user's scale differs from the inner one
    fit = lmer(FORMULAS[name], data, weights="w" if name in WEIGHTED else None, control=QUIET)
    devfun = fit.getME("devfun")
    c = fit._fit.criterion()
    par = fit.par * np.linspace(0.7, 1.4, len(fit.par)) + 0.01
    value = devfun(par)
    assert value == pytest.approx(
        dense_gaussian.of_fit(fit, c.parametrization.term_lams(par))[0], rel=1e-10
    )
    assert c.value(c.terms.scaled_par(par)) == pytest.approx(value, rel=1e-12)
    gradient = c.user_gradient()
    steps = slope(lambda t: devfun(par * (1 + t)), np.zeros(len(par)), 1e-4)
    # Steps relative to each parameter: 1e-13 of a value of 500 over a step of 1e-4.
    np.testing.assert_allclose(gradient * par, steps, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("name", FORMULAS)
@pytest.mark.parametrize("REML", [True, False], ids=["REML", "ML"])
def test_the_end_of_a_search_is_a_minimum_of_devfun(name, REML):
    fit = lmer(
        FORMULAS[name],
        crossed(),
        REML,
        weights="w" if name in WEIGHTED else None,
        control=QUIET,
    )
    assert fit.converged
    devfun = fit.getME("devfun")
    best = devfun(fit.par)
    assert best == pytest.approx(fit.objective, rel=1e-13)
    rng = np.random.default_rng(4)
    for _ in range(30):
        step = rng.normal(size=len(fit.par)) * 10 ** rng.uniform(-4, 0)
        assert devfun(fit.par + step) >= best - 1e-9


BALANCED = {
    "one way": "y ~ 1 + (1 | g)",
    "two way": "y ~ 1 + (1 | g) + (1 | h)",
    "interaction": "y ~ 1 + (1 | g) + (1 | h) + (1 | g:h)",
    "lines": "y ~ x + (x | g)",
}


def balanced():
    """Levels 6 x 5, four rows each, with one line of x in every cell."""
    rng = np.random.default_rng(8)
    g, h, r = (a.ravel() for a in np.indices((6, 5, 4)))
    y = rng.normal(size=len(g)) + 2 * rng.normal(size=6)[g] + rng.normal(size=5)[h]
    y += rng.normal(size=(6, 5))[g, h] + rng.normal(size=6)[g] * r
    return {"y": y, "g": g, "h": h, "x": r.astype(float)}


def assert_information_is_hessian(c, par):
    """Compare with differences of the gradient: step^4 of fifth derivatives, and rounding."""

    def gradient(at):
        c.value(at)
        return c.derivatives()[0]

    hessian = slope(gradient, par)
    c.value(par)
    information = c.derivatives()[1]
    np.testing.assert_allclose(information, hessian, rtol=0, atol=1e-6 * np.abs(hessian).max())


@pytest.mark.parametrize("REML", [True, False], ids=["REML", "ML"])
@pytest.mark.parametrize("state", ["random", "singular", "rank one"])
@pytest.mark.parametrize("name", ["vector", "nested", "crossed vector", "three factors"])
def test_the_information_of_a_small_model_is_its_hessian(name, state, REML):
    c, *_ = model(name, REML)
    assert isinstance(c.factor, DenseFactor if len(c.factor.layout) > 1 else SchurFactor)
    assert_information_is_hessian(c, parameters(c.parametrization, state))


@pytest.mark.parametrize("name", BALANCED)
def test_in_a_balanced_design_the_information_is_the_hessian(name):
    """There REML estimates are those of the analysis of variance, and observed = expected."""
    fit = lmer(BALANCED[name], balanced())
    assert not fit.is_singular()
    c = fit._fit.criterion()
    assert_information_is_hessian(c, fit._fit.scaled_par)
