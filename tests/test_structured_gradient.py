"""The criteria of models with each covariance structure: value, gradient and Hessian."""

import dense_gaussian
import numpy as np
import pytest
import simulated_glmm
from simulated import criterion, crossed
from test_covariance import KINDS, slopes

TERMS = {
    "alone": "{0}(0 + f | g{1})",
    "crossed": "{0}(0 + f | g{1}) + (1 | h)",
    "beside another on its factor": "{0}(0 + f | g{1}) + {0}(x + z | h{1}) + (0 + x | g)",
}


def term(kind, where):
    tag, hom = kind
    text = TERMS[where].format(tag, "##")
    ending = "" if tag == "us" else f", hom = {str(hom).upper()}"
    return text.replace("##)", f"{ending})")


@pytest.fixture(params=KINDS, ids=lambda kind: f"{kind[0]}-{'hom' if kind[1] else 'het'}")
def kind(request):
    return request.param


def moved(c, start, seed=0, size=0.3):
    rng = np.random.default_rng(seed)
    return start + size * rng.normal(size=len(start)) * c.scale(start)


@pytest.mark.parametrize("REML", [True, False], ids=["REML", "ML"])
@pytest.mark.parametrize("where", TERMS)
def test_linear(kind, where, REML):
    """By V formed in full, and by differences; points beyond the bounds are mirror images."""
    weights = "w" if where == "crossed" else None
    c, terms, frame, X = criterion(f"y ~ x + {term(kind, where)}", crossed(), REML, weights)
    triples = [(t.grouping.codes, t.n_levels, t.z) for t in terms]
    for seed, size in ((0, 0.3), (1, 2.0)):
        par = moved(c, c.parametrization.start(), seed, size)
        value = c.value(par)
        gradient, _ = c.derivatives()
        V = dense_gaussian.covariance(triples, c.terms.user_lams(par), frame.weights)
        assert value == pytest.approx(dense_gaussian.criterion(frame.y, X, V, REML)[0], rel=1e-11)
        # 1e-7: rounding of the criterion over the steps
        np.testing.assert_allclose(gradient, slopes(c.value, par), atol=2e-7 * abs(value))
        H = c.hessian(par)

        def by_x(x):
            c.value(x)
            return c.derivatives()[0]

        np.testing.assert_allclose(H, slopes(by_x, par), atol=1e-7 * np.abs(H).max())


@pytest.mark.parametrize("where", ["alone", "crossed"])
def test_linear_gradient_of_the_users_parameters(kind, where):
    c, *_ = criterion(f"y ~ x + {term(kind, where)}", crossed())
    par = c.canonical(moved(c, c.parametrization.start(), 4, 0.2))
    c.value(par)
    ours = c.user_gradient()
    numeric = slopes(lambda user: c.value(c.terms.scaled_par(user)), c.terms.user_par(par), 1e-4)
    np.testing.assert_allclose(ours, numeric, rtol=1e-5, atol=1e-5)


FAMILIES = {"poisson": "log", "gamma": "log", "binomial": "probit"}


def generalized(formula, family, nAGQ):
    rng = np.random.default_rng(5)
    data = crossed(240)
    eta = 0.4 + 0.1 * data["x"] + 0.4 * rng.normal(size=9)[data["g"]]
    data["c"] = {
        "poisson": rng.poisson(np.exp(eta)),
        "gamma": rng.gamma(2.0, np.exp(eta) / 2.0),
        "binomial": rng.random(240) < 1 / (1 + np.exp(-eta)),
    }[family]
    if family == "binomial":
        data["c"] = data["c"].astype(int)
    return simulated_glmm.criterion(formula, data, f"{family}({FAMILIES[family]})", nAGQ)[0]


@pytest.mark.parametrize(
    ("family", "where", "nAGQ"),
    [(family, where, 1) for family in FAMILIES for where in ("alone", "crossed")]
    # Quadrature is for one factor.
    + [("poisson", "alone", 0), ("poisson", "crossed", 0), ("poisson", "alone", 3)],
)
def test_generalized(kind, family, where, nAGQ):
    term_ = term(kind, where).replace("0 + f", "0 + x + z") if nAGQ == 3 else term(kind, where)
    c = generalized(f"c ~ x + {term_}", family, nAGQ)
    point = moved(c, c.start(), 2, 0.2)

    def gradient(x):
        c.value(x)
        return c.derivatives()[0]

    g = gradient(point)
    # 1e-6: the criterion's rounding (of the mode) over the steps
    np.testing.assert_allclose(g, slopes(c.value, point), atol=1e-6 * max(np.abs(g).max(), 10.0))
    if nAGQ == 1:
        H = c.hessian(point)
        np.testing.assert_allclose(H, slopes(gradient, point), atol=1e-6 * np.abs(H).max())
