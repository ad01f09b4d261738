"""What derivatives foretell by covariances, and the steps along bent valleys that it leads to."""

import numpy as np
import pandas as pd
import pytest

from benchmarks.search import runs
from benchmarks.search_designs import draw
from mixef import GlmerControl, LmerControl, glmer, lmer
from mixef.estimation.search.bends import CovarianceQuadratic
from mixef.estimation.search.certified import LONGER, MovingAxes
from mixef.estimation.search.optimize import newton
from mixef.estimation.search.trust_region import Quadratic

TERMS = ("(1 + x | g)", "(1 + x | g) + (1 | h)", "(1 | g) + (0 + x | g)", "diag(1 + x | g)",
         "cs(1 + x | g)", "ar1(0 + f | g)")  # fmt: skip


@pytest.fixture(scope="module")
def data():
    rng = np.random.default_rng(3)
    n = 240
    d = pd.DataFrame({"x": rng.normal(size=n), "g": np.arange(n) % 12, "h": np.arange(n) // 30})
    d["f"] = rng.choice(["a", "b", "c"], n)
    effects = rng.normal(size=(12, 2)) @ np.array([[1.0, 0.6], [0.0, 0.5]])
    d["y"] = effects[d.g, 0] + d.x * effects[d.g, 1] + rng.normal(size=n)
    d["count"] = rng.poisson(np.exp(0.3 * d.y))
    return d


def criterion_of(formula, data, **options):
    """The criterion of a model, linear or Poisson's, and the end of its search."""
    quiet = {"check_conv_singular": "ignore"}
    if formula.startswith("y"):
        fit = lmer(formula, data, control=LmerControl(**quiet))
    else:
        fit = glmer(formula, data, family="poisson", control=GlmerControl(**quiet), **options)
    return fit._fit.criterion(), fit._fit.point


def model_at(criterion, point):
    """The criterion as a quadratic function of covariances at a point, and derivatives there."""
    criterion.value(point)
    return (criterion.in_covariances(), *criterion.derivatives())


@pytest.mark.parametrize("terms", TERMS)
@pytest.mark.parametrize("response", ["y", "count"])
def test_the_model_by_covariances_has_the_derivatives_of_the_criterion(data, response, terms):
    of, end = criterion_of(f"{response} ~ x + {terms}", data)
    point = end + 0.2 * np.cos(np.arange(len(end)))
    model, g, H = model_at(of, point)
    assert model.value(point) == pytest.approx(0.0, abs=1e-12)
    at_point = model.derivatives()
    unit = of.scale(point)
    np.testing.assert_allclose(at_point[0] * unit, g * unit, atol=1e-9 * np.abs(g * unit).max())
    units = np.outer(unit, unit)
    np.testing.assert_allclose(at_point[1] * units, H * units, atol=1e-8 * np.abs(H * units).max())


@pytest.mark.parametrize("terms", TERMS)
def test_elsewhere_its_derivatives_are_those_of_its_values(data, terms):
    of, end = criterion_of(f"count ~ x + {terms}", data)
    model, _, _ = model_at(of, end)
    point = end + 0.4 * np.sin(np.arange(1.0, len(end) + 1))
    model.value(point)
    g, H = model.derivatives()
    step = 1e-5
    for a in range(len(point)):
        ends = []
        for sign in (1, -1):
            moved = point.copy()
            moved[a] += sign * step
            ends.append((model.value(moved), model.derivatives()[0]))
        slope = (ends[0][0] - ends[1][0]) / (2 * step)
        assert slope == pytest.approx(g[a], rel=1e-6, abs=1e-6 * np.abs(g).max())
        row = (ends[0][1] - ends[1][1]) / (2 * step)
        np.testing.assert_allclose(row, H[a], rtol=1e-5, atol=1e-6 * np.abs(H).max())


class QuadraticInCovariances:
    """``b'v + v'A v / 2`` of the entries v of one term's covariance, with its derivatives."""

    def __init__(self, parametrization, seed):
        self.P, (s,) = parametrization, parametrization.widths
        rng = np.random.default_rng(seed)
        root = rng.normal(size=(s * s, s * s))
        self.b, self.A = rng.normal(size=s * s), root @ root.T
        self.s = s

    def value(self, par):
        (lam,) = self.P.lams(par)
        v = (lam @ lam.T).ravel()
        return float(self.b @ v + 0.5 * v @ self.A @ v)

    def derivatives(self, par):
        """K, gradient and Hessian."""
        (lam,), (dlams, (dsigma,)) = self.P.lams(par), self.P.derivatives(par)
        slope = (self.b + self.A @ (lam @ lam.T).ravel()).reshape(self.s, self.s)
        K = (0.5 * (slope + slope.T),)
        D = dsigma.reshape(len(par), -1)
        g, curvature = self.P.chain(par, dlams, (lam,), K)
        return K, g, D @ self.A @ D.T + curvature


@pytest.mark.parametrize("seed", range(4))
@pytest.mark.parametrize("terms", ["(1 | g)", "(1 + x | g)", "(1 + x + z | g)"])
def test_a_function_that_is_quadratic_in_covariances_is_known_everywhere(data, terms, seed):
    d = data.assign(z=data.x**2)
    P = criterion_of(f"y ~ x + {terms}", d)[0].problem.terms.parametrization
    rng = np.random.default_rng(seed)
    here = P.start() + 0.3 * rng.normal(size=P.n_par)
    function = QuadraticInCovariances(P, seed)
    model = CovarianceQuadratic(P, here, *function.derivatives(here), np.ones(P.n_par))
    for _ in range(5):
        point = here + rng.normal(size=P.n_par)
        assert model.value(point) == pytest.approx(
            function.value(point) - function.value(here), rel=1e-8
        )
        found, (_, g, H) = model.derivatives(), function.derivatives(point)
        np.testing.assert_allclose(found[0], g, rtol=1e-7, atol=1e-7 * np.abs(g).max())
        np.testing.assert_allclose(found[1], H, rtol=1e-7, atol=1e-7 * np.abs(H).max())


def test_entries_without_variance_change_no_covariance_to_first_order(data):
    of = criterion_of("y ~ x + (1 + x | g)", data)[0]
    of = type(of)(of.problem)
    point = np.array([0.8, 0.0, 0.0])
    model, g, H = model_at(of, point)
    model.value(point)
    at_point = model.derivatives()
    np.testing.assert_allclose(at_point[0], g, atol=1e-9 * np.abs(g).max())
    np.testing.assert_allclose(at_point[1], H, atol=1e-8 * np.abs(H).max())


def test_nodes_of_quadrature_know_no_covariances(data):
    of, end = criterion_of("count ~ x + (1 | g)", data, nAGQ=5)
    of.value(end)
    assert of.in_covariances() is None


# Steps


class Valley(QuadraticInCovariances):
    """A criterion with a narrow valley, in which a covariance keeps its trace."""

    knows_hessian, is_rough = True, False

    def __init__(self, parametrization, steep, lowest):
        super().__init__(parametrization, 0)
        trace = np.eye(2).ravel()
        self.A = steep * np.outer(trace, trace) + np.eye(4)
        self.b = -self.A @ np.ravel(lowest)

    def value(self, par, gain=0.0):
        self.at = np.array(par)
        return super().value(par)

    def derivatives(self, par=None):
        K, g, H = super().derivatives(self.at if par is None else par)
        return (g, H) if par is None else (K, g, H)

    def in_covariances(self):
        return CovarianceQuadratic(self.P, self.at, *self.derivatives(self.at), self.scale(self.at))

    def scale(self, par):
        return np.ones(3)

    def rounding(self):
        return 1e-12

    def turned(self, par):
        return None

    def sharper(self):
        return None


@pytest.fixture
def valley(data):
    P = criterion_of("y ~ x + (1 + x | g)", data)[0].problem.terms.parametrization
    return Valley(P, 1e3, [[0.4, 0.2], [0.2, 1.6]])


class Straight(MovingAxes):
    """Axes along which no step bends."""

    def bent(self, par, here, radius):
        return None


FAR = np.array([1.3, 0.1, 0.5])


def test_a_bent_valley_is_followed_in_few_steps(valley):
    straight, bent = (newton(valley, FAR, 1000, axes=of(valley)) for of in (Straight, MovingAxes))
    for end in (straight, bent):
        (lam,) = valley.P.lams(end.par)
        np.testing.assert_allclose(lam @ lam.T, [[0.4, 0.2], [0.2, 1.6]], atol=1e-5)
    assert bent.n_evaluations <= 0.5 * straight.n_evaluations


@pytest.mark.parametrize("radius", [0.05, 0.1, 0.3, 0.5, 1.0, 2.0, 5.0])
def test_a_bent_step_keeps_its_promise_and_near_the_radius(valley, radius):
    f = valley.value(FAR)
    here = Quadratic(*valley.derivatives(), np.ones(3))
    bent = MovingAxes(valley).bent(FAR, here, radius)
    step, gain = here.step(radius)
    if bent is None:  # the straight step hardly loses by the bend, or the radius is too short
        assert radius <= 0.3
        return
    assert radius >= 0.5
    assert np.linalg.norm(bent[0]) <= LONGER * radius
    assert 0.0 < bent[1] <= gain
    assert f - valley.value(FAR + bent[0]) == pytest.approx(bent[1], rel=1e-6)
    assert f - valley.value(FAR + step) < -gain  # what the straight one would have come to


def test_a_shorter_step_after_a_rejected_one_goes_by_the_same_derivatives(valley):
    valley.value(FAR)
    here = Quadratic(*valley.derivatives(), np.ones(3))
    axes, fresh = MovingAxes(valley), MovingAxes(valley)
    (rejected, _), (expected, gain) = axes.bent(FAR, here, 2.0), fresh.bent(FAR, here, 0.5)
    valley.value(FAR + rejected)
    step, again = axes.bent(FAR, here, 0.5)
    assert again == gain
    np.testing.assert_array_equal(step, expected)


@pytest.mark.parametrize("point", [[0.6324, 0.3162, 1.2247], [0.63, 0.317, 1.226]])
def test_short_steps_ask_nothing_of_covariances(valley, point, monkeypatch):
    point = np.array(point)
    valley.value(point)
    here = Quadratic(*valley.derivatives(), np.ones(3))
    monkeypatch.setattr(CovarianceQuadratic, "value", None)
    assert MovingAxes(valley).bent(point, here, 1.0) is None


def test_with_many_parameters_all_steps_are_straight(valley, monkeypatch):
    valley.value(FAR)
    here = Quadratic(*valley.derivatives(), np.ones(3))
    assert MovingAxes(valley).bent(FAR, here, 1.0) is not None
    monkeypatch.setattr("mixef.estimation.search.certified.MOST_BENT", 2)
    assert MovingAxes(valley).bent(FAR, here, 1.0) is None


#: Designs of the laboratory, and the most evaluations from three starts; straight steps took 134,
#: 34 and 27.
BENT = [(1900160, 130, 50), (464, 30_000, 27), (298, 30_000, 22)]


@pytest.mark.parametrize(("seed", "rows", "most"), BENT)
def test_a_design_with_a_bent_valley_ends_soon(seed, rows, most):
    ends = runs(draw(seed, rows))
    assert max(end.n_evaluations for end in ends) <= most
    assert all(end.converged for end in ends)
    assert np.ptp([end.objective for end in ends]) < 1e-5
