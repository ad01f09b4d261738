"""Links and families against scipy's distributions, differences and exact limits."""

import pickle
import warnings
from itertools import pairwise

import numpy as np
import pytest
from scipy import integrate, special, stats

from mixef.errors import DataError, DataWarning
from mixef.families import differences
from mixef.families.auxiliary import DISPERSION
from mixef.families.convert import make_family
from mixef.families.family import Family
from mixef.families.link import DERIVATIVES, Link, UserLink
from mixef.families.links import LINKS, Log, Logit, Probit, Sqrt, make_link
from mixef.families.negative_binomial import SHAPE as SHAPE_PARAMETER
from mixef.families.special import (
    digamma_error,
    log1pmx,
    log_rising,
    rising_derivative,
    stirling_error,
)
from mixef.families.standard import (
    FAMILIES,
    Beta,
    BetaBinomial,
    Binomial,
    Gamma,
    Gaussian,
    InverseGaussian,
    NegativeBinomial,
    Poisson,
)
from mixef.families.user import UserFamily

PROBABILITIES = ["logit", "probit", "cloglog", "cauchit"]
POSITIVE = ["inverse", "sqrt", "1/mu^2"]
#: Linear predictors in the domain of each link, with curved parts and both sides of zero.
ETA = {
    name: np.linspace(0.3, 6.0, 24) if name in POSITIVE else np.linspace(-6, 6, 25)
    for name in LINKS
}
ETA["cloglog"] = np.linspace(-6, 3, 25)


def slope(function, x, step=1e-3):
    """Central differences of fourth order: the error is some step^4 of the fifth derivative."""
    f = [function(x + k * step) for k in (-2, -1, 1, 2)]
    return (f[0] - 8 * f[1] + 8 * f[2] - f[3]) / (12 * step)


# ---------------------------------------------------------------------------- links


@pytest.mark.parametrize("name", LINKS)
def test_derivatives_of_a_link(name):
    link, eta = make_link(name), ETA[name]
    orders = [link.inverse, link.d_inverse, link.d2_inverse, link.d3_inverse, link.d4_inverse]
    # At 0.3, the fifth derivative of eta^(-5/2) and the like is 1e6 times the first.
    step = 1e-4 if name in POSITIVE else 1e-3
    for lower, upper in pairwise(orders):
        expected = slope(lower, eta, step)
        scale = np.maximum(np.abs(expected), 0.01 * np.abs(lower(eta)).max())
        assert (np.abs(upper(eta) - expected) <= 1e-7 * scale).all()


@pytest.mark.parametrize("name", LINKS)
def test_a_link_and_its_inverse_undo_each_other(name):
    link, eta = make_link(name), ETA[name]
    mu = link.inverse(eta)
    # A probability close to 1 is stored with absolute error 1e-16; its link has that over 1 - mu.
    atol = 1e-13 + (4e-16 / link.d_inverse(eta) if name in PROBABILITIES else 0.0)
    assert (np.abs(link.link(mu) - eta) <= atol).all()
    assert link.inverse(link.link(mu)) == pytest.approx(mu, rel=1e-13)
    assert link.complement(eta) == pytest.approx(1 - mu, abs=1e-15 * max(1, np.abs(mu).max()))
    assert np.shape(link.d3_inverse(eta.reshape(-1, 1))) == (len(eta), 1)


@pytest.mark.parametrize("name", LINKS)
def test_a_link_is_quiet_far_out(name):
    link = make_link(name)
    eta = np.array([-1e3, -700.0, -100.0, -40.0, 40.0, 100.0, 700.0, 1e3])
    eta = np.abs(eta) if name in ("sqrt", "1/mu^2") else eta
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        for function in ("inverse", "complement", *DERIVATIVES):
            values = getattr(link, function)(eta)
            assert not np.isnan(values).any(), function
            assert np.isfinite(values[1:-1]).all(), function


def test_the_logit_keeps_its_slope():
    eta = np.array([-700.0, 700.0])
    assert Logit().d_inverse(eta) == pytest.approx(np.exp(-700.0), rel=1e-12)
    assert Logit().d2_inverse(eta) == pytest.approx([np.exp(-700.0), -np.exp(-700.0)], rel=1e-12)


#: log mu and log(1 - mu) at eta = 40 and -40, by asymptotic forms that are exact there to 1e-15.
TAILS = {
    "logit": {40: (-np.exp(-40.0), -40.0), -40: (-40.0, -np.exp(-40.0))},
    # Mills' ratio, M = 1/40 (1 - 1/40^2 + 3/40^4 - 15/40^6 + 105/40^8 - 945/40^10).
    "probit": {
        -40: (
            -800
            - 0.5 * np.log(2 * np.pi)
            - np.log(40)
            + np.log1p(np.polyval([-945, 105, -15, 3, -1, 0], 1 / 1600)),
            0.0,
        )
    },
    "cloglog": {40: (0.0, -np.exp(40.0)), -40: (-40.0, -np.exp(-40.0))},
    "cauchit": {
        -40: (np.log(np.arctan(1 / 40) / np.pi), np.log1p(-np.arctan(1 / 40) / np.pi)),
        40: (np.log1p(-np.arctan(1 / 40) / np.pi), np.log(np.arctan(1 / 40) / np.pi)),
    },
    "log": {-40: (-40.0, -np.exp(-40.0))},
}
TAILS["probit"][40] = TAILS["probit"][-40][::-1]


@pytest.mark.parametrize(("name", "eta"), [(n, e) for n in TAILS for e in TAILS[n]])
def test_log_probabilities_in_the_tails(name, eta):
    link, (log_mu, log_rest) = make_link(name), TAILS[name][eta]
    assert float(link.log_inverse(eta)) == pytest.approx(log_mu, rel=1e-13, abs=1e-300)
    assert float(link.log_complement(eta)) == pytest.approx(log_rest, rel=1e-13, abs=1e-300)
    family = Binomial(name)
    y, n, at = np.array([0.0, 1.0, 0.25]), np.array([3.0, 3.0, 4.0]), np.full(3, float(eta))
    kernel = family.log_kernel(y, at, link.inverse(at), n)
    expected = [3 * log_rest, 3 * log_mu, log_mu + 3 * log_rest]
    assert kernel == pytest.approx(expected, rel=1e-13, abs=1e-300)
    assert np.isfinite(kernel).all()


def test_the_cloglog_lower_tail_is_smooth_where_its_series_starts():
    eta = np.array([-41.0, -40.0, -39.0, -20.0])
    expected = eta - 0.5 * np.exp(eta)  # log(1 - exp(-t)) = log t - t / 2 + t^2 / 24
    assert make_link("cloglog").log_inverse(eta) == pytest.approx(expected, rel=1e-15)


class Plain(Link):
    """A user's logit with the inverse only."""

    name = "plain"

    def link(self, mu):
        return np.log(mu / (1 - mu))

    def inverse(self, eta):
        return 1 / (1 + np.exp(-eta))


class WithSlope(Plain):
    def d_inverse(self, eta):
        mu = self.inverse(eta)
        return mu * (1 - mu)


class WithCurvature(WithSlope):
    def d2_inverse(self, eta):
        return self.d_inverse(eta) * (1 - 2 * self.inverse(eta))


def user_logit(n):
    link = WithCurvature()
    return UserLink("plain", link.link, link.inverse, (link.d_inverse, link.d2_inverse)[:n])


@pytest.mark.parametrize(
    "link", [Plain(), WithSlope(), WithCurvature(), user_logit(0), user_logit(1), user_logit(2)]
)
def test_differences_stand_in_for_derivatives(link):
    exact, eta = Logit(), np.linspace(-8, 8, 33)
    # Absolute, of slopes up to 1/4: rounding over the step 1/16 to the power of the order.
    orders = ["d_inverse", "d2_inverse", "d3_inverse", "d4_inverse"]
    for name, atol in zip(orders, [1e-13, 1e-12, 1e-10, 1e-8], strict=True):
        assert np.abs(getattr(link, name)(eta) - getattr(exact, name)(eta)).max() < atol


@pytest.mark.parametrize("name", [*POSITIVE, "log", "probit", "cauchit"])
def test_differences_find_their_step_near_a_pole(name):
    exact = make_link(name)
    link = UserLink("user", exact.link, exact.inverse)
    eta = np.array([0.004, 0.02, 0.1, 0.5, 2.0, 30.0])
    rtols = {"d_inverse": 1e-10, "d2_inverse": 1e-8, "d3_inverse": 1e-5, "d4_inverse": 1e-3}
    for order, rtol in rtols.items():
        expected, mu = getattr(exact, order)(eta), exact.inverse(eta)
        # Rounding of the values at the nodes, of which the furthest is 6/16 away.
        atol = 1e-10 * np.maximum(np.abs(mu), np.abs(exact.inverse(eta + 0.375)))
        assert (
            np.abs(getattr(link, order)(eta) - expected) <= rtol * np.abs(expected) + atol
        ).all()


@pytest.mark.parametrize("name", [*POSITIVE, "log"])
@pytest.mark.parametrize("unit", [1e-8, 1e-4, 1e4, 1e8])
def test_differences_in_any_unit(name, unit):
    """A link that says nothing of its scale, where the response has another unit."""
    exact = make_link(name)
    link = UserLink("user", lambda mu: unit * exact.link(mu), lambda eta: exact.inverse(eta / unit))
    eta = np.array([0.3, 0.7, 2.0, 5.0])
    for order, rtol in enumerate((1e-10, 1e-9, 1e-7, 1e-5), 1):
        method = f"d{order if order > 1 else ''}_inverse"
        ours = getattr(link, method)(unit * eta) * unit**order
        size = np.abs(exact.inverse(eta)).max()  # a parabola has no third derivative
        assert ours == pytest.approx(getattr(exact, method)(eta), rel=rtol, abs=rtol * size)


def test_stencils_are_exact_for_polynomials():
    for half in (4, 5, 6):
        nodes = np.arange(-half, half + 1.0)
        for order in (1, 2, 3, 4):
            weights = differences.stencil(half, order)
            for power in range(2 * half + 1):
                expected = float(np.prod(np.arange(1, order + 1))) if power == order else 0.0
                size = np.abs(weights) @ np.abs(nodes**power)
                assert abs(weights @ nodes**power - expected) <= 1e-14 * size


@pytest.mark.parametrize("name", LINKS)
def test_domains_of_links(name):
    link = make_link(name)
    assert link.valid(np.array([0.5, 1.0])) is True
    assert not link.valid(np.array([0.5, np.inf]))
    assert not link.valid(np.array([np.nan]))
    assert link.valid(np.array([-1.0])) is (name not in ("sqrt", "1/mu^2"))
    assert link.valid(np.array([0.0])) is (name not in POSITIVE)


class Methods:
    """An object with a link's methods, and no relation to ours."""

    name = "double"

    def link(self, mu):
        return 2 * mu

    def inverse(self, eta):
        return eta / 2

    def d_inverse(self, eta):
        return np.full(np.shape(eta), 0.5)


@pytest.mark.parametrize(
    "spec",
    [
        Methods(),
        (Methods().link, Methods().inverse),
        [Methods().link, Methods().inverse, Methods().d_inverse],
        {"link": Methods().link, "inverse": Methods().inverse},
        {name: getattr(Methods(), name) for name in ("name", "link", "inverse", "d_inverse")},
    ],
)  # fmt: skip
def test_links_of_foreign_functions(spec):
    link = make_link(spec)
    assert isinstance(link, UserLink)
    assert link.link(np.array([3.0])) == 6.0
    assert link.inverse(np.array([3.0])) == 1.5
    assert link.d_inverse(np.array([3.0])) == pytest.approx(0.5, rel=1e-13)
    assert link.d3_inverse(np.array([3.0])) == pytest.approx(0.0, abs=1e-9)


def test_names_classes_and_objects_give_one_link():
    for name, cls in LINKS.items():
        assert make_link(name) == make_link(name.upper()) == make_link(cls) == make_link(cls())
        assert hash(make_link(name)) == hash(cls())
    assert Logit() != Probit()
    assert repr(Logit()) == "<link 'logit'>"
    assert UserLink("l", np.log, np.exp) == UserLink("l", np.log, np.exp) != Log()


class NoLink:
    def __repr__(self):
        return "NoLink()"


@pytest.mark.parametrize(
    ("spec", "message"),
    [
        ("loglog", r"no link 'loglog'; expected one of 'logit', .*'1/mu\^2', or .*UserLink"),
        (NoLink(), r"link is NoLink\(\); expected one of"),
        (Methods, "link is the class Methods; expected one of"),
        (3, "link is 3; expected one of"),
        (None, "link is None; expected one of"),
        ({"link": np.log}, "expected one of"),
        ((np.log, 2), "inverse of the link 'user' is 2; expected a function"),
        ((np.log, *[np.exp] * 6), "5 derivatives; expected at most 4"),
        ({"link": np.log, "inverse": np.exp, "mu": 1}, "no part 'mu'; its parts are name, link"),
        ({"link": np.log, "inverse": np.exp, "d2_inverse": np.exp}, "but d_inverse is missing"),
    ],
)
def test_what_is_no_link(spec, message):
    with pytest.raises(ValueError, match=message):
        make_link(spec)


# ---------------------------------------------------------------------------- families

PHI = 0.4
SHAPE = 1.7
COUNTS = np.arange(12.0)
SIZES = np.array([0.05, 0.4, 1.0, 1.7, 2.5, 9.0])


def student(y, mu, phi):
    """Location-scale t with 5 degrees of freedom, of variance phi."""
    return stats.t(5, mu, np.sqrt(0.6 * phi)).logpdf(y)


def ones(mu):
    return np.ones(np.shape(mu))


def square(y, mu):
    return (y - mu) ** 2


USER = UserFamily("t", "identity", variance=ones, log_density=student, dispersion=True)
QUASI = UserFamily("quasi", "log", variance=np.abs, deviance=Poisson().unit_deviance)
EXTENDED = UserFamily("ql", "log", variance=ones, deviance=square, dispersion=True)

#: family, extra, responses, scipy's log density as a function of the mean.
DENSITIES = {
    "bernoulli": (Binomial(), None, COUNTS[:2], lambda y, m: stats.bernoulli.logpmf(y, m)),
    "poisson": (Poisson(), None, COUNTS, lambda y, m: stats.poisson.logpmf(y, m)),
    "nb": (
        NegativeBinomial(),
        SHAPE,
        COUNTS,
        lambda y, m: stats.nbinom.logpmf(y, SHAPE, SHAPE / (SHAPE + m)),
    ),
    "nb known": (
        NegativeBinomial(SHAPE),
        None,
        COUNTS,
        lambda y, m: stats.nbinom.logpmf(y, SHAPE, SHAPE / (SHAPE + m)),
    ),
    "gaussian": (Gaussian(), PHI, SIZES - 2, lambda y, m: stats.norm.logpdf(y, m, np.sqrt(PHI))),
    "gamma": (Gamma(), PHI, SIZES, lambda y, m: stats.gamma.logpdf(y, 1 / PHI, scale=m * PHI)),
    "ig": (
        InverseGaussian(),
        PHI,
        SIZES,
        lambda y, m: stats.invgauss.logpdf(y, m * PHI, scale=1 / PHI),
    ),
    "user": (USER, PHI, SIZES - 2, lambda y, m: student(y, m, PHI)),
    "user ql": (EXTENDED, PHI, SIZES - 2, lambda y, m: stats.norm.logpdf(y, m, np.sqrt(PHI))),
}
LINKED = [
    (key, link)
    for key, (family, *_) in DENSITIES.items()
    for link in (PROBABILITIES if key == "bernoulli" else ["log", "sqrt", family.link.name])
]


def with_link(key, link):
    family = DENSITIES[key][0]
    if isinstance(family, UserFamily):
        return family
    if isinstance(family, NegativeBinomial):
        return NegativeBinomial(family.shape, link)
    return type(family)(link)


def means(key, y):
    return (
        np.linspace(0.1, 0.9, len(y)) if key == "bernoulli" else np.linspace(0.4, 3.0, len(y))[::-1]
    )


@pytest.mark.parametrize(("key", "link"), LINKED)
def test_log_density_is_scipys(key, link):
    _, extra, y, reference = DENSITIES[key]
    family, mu = with_link(key, link), means(key, y)
    eta = family.link.link(mu)
    value = family.log_density(y, eta, mu, None, extra)
    assert value == pytest.approx(reference(y, mu), rel=1e-11, abs=1e-11)
    parts = family.log_kernel(y, eta, mu, None, extra) + family.log_normalizer(y, None, extra)
    assert value == pytest.approx(parts, rel=1e-14)


@pytest.mark.parametrize("y", [1e-9, 1e-18, 1e-200])
def test_densities_far_below_the_mean_keep_their_digits(y):
    mu = np.array([0.02, 0.4])
    gamma = Gamma("log").log_density(np.full(2, y), np.log(mu), mu, None, PHI)
    assert gamma == pytest.approx(stats.gamma.logpdf(y, 1 / PHI, scale=mu * PHI), rel=1e-13)
    beta = Beta().log_density(np.full(2, y), special.logit(mu), mu, None, 5.0)
    assert beta == pytest.approx(stats.beta.logpdf(y, mu * 5, (1 - mu) * 5), rel=1e-12)
    far = Poisson().unit_deviance(np.full(2, 7.0), mu * y)
    expected = 14 * (np.log(7) - np.log(mu) - np.log(y) - 1) + 2 * mu * y
    assert far == pytest.approx(expected, rel=1e-14)


@pytest.mark.parametrize("link", [*PROBABILITIES, "log"])
def test_binomial_weights_are_trials(link):
    n, k = np.array([1.0, 4, 10, 10, 10, 7]), np.array([1.0, 1, 0, 10, 4, 5])
    mu = np.linspace(0.1, 0.9, 6)
    family = Binomial(link)
    eta = family.link.link(mu)
    value = family.log_density(k / n, eta, mu, n)
    assert value == pytest.approx(stats.binom.logpmf(k, n, mu), rel=1e-12)
    # As n Bernoulli rows, but for the coefficient.
    zero, one = (family.log_density(np.full(6, v), eta, mu) for v in (0.0, 1.0))
    assert family.log_kernel(k / n, eta, mu, n) == pytest.approx(
        k * one + (n - k) * zero, rel=1e-12
    )
    assert family.log_normalizer(k / n, n) == pytest.approx(np.log(special.comb(n, k)), abs=1e-12)


@pytest.mark.parametrize("key", DENSITIES)
def test_a_weight_is_a_number_of_copies(key):
    family, extra, y, _ = DENSITIES[key]
    mu, w = means(key, y), np.arange(len(y)) % 4.0
    eta, copies = family.link.link(mu), w.astype(int)
    rows = np.repeat(np.arange(len(y)), copies)
    weighted = family.log_density(y, eta, mu, w, extra) - (
        family.log_normalizer(y, w, extra) if key == "bernoulli" else 0.0
    )
    copied = family.log_density(y[rows], eta[rows], mu[rows], None, extra)
    assert weighted.sum() == pytest.approx(copied.sum(), rel=1e-12)
    slopes = family.log_density_by_extra(y, mu, w, extra)
    assert slopes == pytest.approx(w * family.log_density_by_extra(y, mu, None, extra), rel=1e-12)
    assert (weighted[copies == 0] == 0).all()


def test_a_row_of_weight_zero_counts_nothing_even_where_it_is_impossible():
    family, y, mu = Poisson("identity"), np.array([2.0, 3.0]), np.array([0.0, 1.0])
    value = family.log_density(y, mu, mu, np.array([0.0, 1.0]))
    assert value == pytest.approx([0.0, stats.poisson.logpmf(3, 1)])


@pytest.mark.parametrize("key", ["bernoulli", "poisson", "nb", "nb known"])
def test_probabilities_sum_to_one(key):
    family, extra, _, _ = DENSITIES[key]
    y = np.arange(2.0 if key == "bernoulli" else 400.0)
    mu = np.full(len(y), 0.7)
    density = family.log_density(y, family.link.link(mu), mu, None, extra)
    assert np.exp(density).sum() == pytest.approx(1.0, rel=1e-12)


@pytest.mark.parametrize("key", ["gaussian", "gamma", "ig", "user", "user ql"])
def test_densities_integrate_to_one(key):
    family, extra, _, _ = DENSITIES[key]
    mu = np.array([1.3])
    low = 0.0 if key in ("gamma", "ig") else -np.inf

    def density(y):
        rows = family.log_density(np.array([y]), family.link.link(mu), mu, None, extra)
        return float(np.exp(rows[0]))

    assert integrate.quad(density, low, np.inf)[0] == pytest.approx(1.0, abs=1e-7)


@pytest.mark.parametrize("key", DENSITIES)
def test_rows_by_nodes(key):
    family, extra, y, _ = DENSITIES[key]
    mu = np.stack([means(key, y), 0.9 * means(key, y), np.full(len(y), 0.5)], axis=1)
    # As many nodes as rows must not be mistaken for rows.
    mu = mu[:, np.arange(len(y)) % 3]
    eta, w = family.link.link(mu), 1.0 + np.arange(len(y))
    together = family.log_density(y, eta, mu, w, extra)
    slopes = family.log_density_by_extra(y, mu, w, extra)
    deviance = family.unit_deviance(y, mu, extra)
    assert together.shape == slopes.shape == deviance.shape == mu.shape
    for j in range(mu.shape[1]):
        alone = family.log_density(y, eta[:, j], mu[:, j], w, extra)
        assert together[:, j] == pytest.approx(alone, rel=1e-14)
        one = family.log_density_by_extra(y, mu[:, j], w, extra)
        assert slopes[:, j] == pytest.approx(one, rel=1e-10)
        assert deviance[:, j] == pytest.approx(family.unit_deviance(y, mu[:, j], extra), rel=1e-14)


@pytest.mark.parametrize("extra", [0.02, 0.4, 3.0, 40.0])
@pytest.mark.parametrize("key", ["nb", "gaussian", "gamma", "ig", "user", "user ql"])
def test_slope_for_the_extra_parameter(key, extra):
    family, _, y, _ = DENSITIES[key]
    mu, w = means(key, y), 1.0 + np.arange(len(y))
    eta = family.link.link(mu)
    expected = slope(lambda e: family.log_density(y, eta, mu, w, e), extra, 1e-3 * extra)
    value = family.log_density_by_extra(y, mu, w, extra)
    size = np.abs(expected).max()
    assert value == pytest.approx(expected, rel=1e-7, abs=1e-8 * size)
    numerical = Family.unit_by_extra(family, y, mu, extra) * w
    assert value == pytest.approx(numerical, rel=1e-9, abs=1e-10 * size)


@pytest.mark.parametrize("key", [*DENSITIES, "quasi"])
def test_deviance_is_what_the_density_lacks_to_the_saturated_model(key):
    family, extra, y, _ = DENSITIES.get(key, (QUASI, None, COUNTS, None))
    mu, w = means(key, y), 1.0 + np.arange(len(y))
    density = family.log_density(y, family.link.link(mu), mu, w, extra)
    lost = family.saturated(y, w, extra) - density
    deviance = w * family.unit_deviance(y, mu, extra)
    assert deviance == pytest.approx(2 * lost * family.dispersion(extra), rel=1e-10, abs=1e-12)
    assert (deviance >= 0).all()


@pytest.mark.parametrize("link", [*PROBABILITIES, "log", "identity"])
def test_saturated_binomial(link):
    n, k = np.array([4.0, 4, 4, 9]), np.array([0.0, 1, 4, 5])
    expected = stats.binom.logpmf(k, n, k / n)
    assert Binomial(link).saturated(k / n, n) == pytest.approx(expected, rel=1e-12, abs=1e-12)


@pytest.mark.parametrize("key", ["bernoulli", "poisson", "nb", "gaussian", "gamma", "ig"])
def test_deviance_close_to_zero(key):
    """Near mu = y the deviance is (y - mu)^2 / V(y), up to its third order."""
    family, extra, _, _ = DENSITIES[key]
    y = np.array([0.25, 0.5, 0.75])
    assert (family.unit_deviance(y, y, extra) == 0).all()
    assert not np.signbit(family.unit_deviance(y, y, extra)).any()
    for gap in (2.0**-30, -(2.0**-30), 2.0**-40):  # exact in floating point
        value = family.unit_deviance(y, y + gap, extra)
        expected = gap**2 / family.variance(y, extra)
        assert value == pytest.approx(expected, rel=2e-8)


#: R's dev.resids at y, mu, from the formulas of McCullagh and Nelder (1989), table in section 2.3.
@pytest.mark.parametrize(
    ("family", "y", "mu", "expected"),
    [
        (Binomial(), 0.0, 0.3, -2 * np.log(0.7)),
        (Binomial(), 1.0, 0.3, -2 * np.log(0.3)),
        (Binomial(), 0.2, 0.3, 2 * (0.2 * np.log(2 / 3) + 0.8 * np.log(8 / 7))),
        (Poisson(), 0.0, 2.5, 5.0),
        (Poisson(), 4.0, 2.5, 2 * (4 * np.log(1.6) - 1.5)),
        (Gamma(), 4.0, 2.5, -2 * (np.log(1.6) - 0.6)),
        (InverseGaussian(), 4.0, 2.5, 1.5**2 / (4 * 2.5**2)),
        (Gaussian(), 4.0, 2.5, 2.25),
        (NegativeBinomial(2), 4.0, 2.5, 2 * (4 * np.log(1.6) - 6 * np.log(6 / 4.5))),
        (NegativeBinomial(2), 0.0, 2.5, 2 * 2 * np.log(4.5 / 2)),
    ],
)
def test_unit_deviance(family, y, mu, expected):
    assert float(family.unit_deviance(np.array([y]), np.array([mu]))[0]) == pytest.approx(
        expected, rel=1e-13
    )


@pytest.mark.parametrize("key", [*DENSITIES, "numerical"])
def test_variance_and_its_derivatives(key):
    family, extra, _, _ = DENSITIES.get(key, (Cubic("log"), None, None, None))
    mu = np.array([1e-3, 0.1, 0.5, 0.95])
    mu = mu if key == "bernoulli" else np.append(mu, [3.0, 400.0])
    step = 1e-3 * mu
    names = ("variance", "d_variance", "d2_variance", "d3_variance")
    v, d1, d2, d3 = (getattr(family, f)(mu, extra) for f in names)
    assert d1 == pytest.approx(
        slope(lambda m: family.variance(m, extra), mu, step), rel=1e-9, abs=1e-9
    )
    assert d2 == pytest.approx(
        slope(lambda m: family.d_variance(m, extra), mu, step), rel=1e-7, abs=1e-7
    )
    assert d3 == pytest.approx(
        slope(lambda m: family.d2_variance(m, extra), mu, step), rel=1e-5, abs=1e-5
    )
    assert v.shape == d1.shape == d2.shape == d3.shape == mu.shape
    eta = family.link.link(mu)
    assert family.variance_at(eta, mu, extra) == pytest.approx(v, rel=1e-12)
    by, d_by = family.variance_by_extra(mu, extra), family.d_variance_by_extra(mu, extra)
    if key == "nb":
        expected = slope(lambda e: family.variance(mu, e), extra)
        assert by == pytest.approx(expected, rel=1e-9, abs=1e-9)
        assert d_by == pytest.approx(slope(lambda e: family.d_variance(mu, e), extra), rel=1e-9)
    else:
        assert (by == 0).all()
        assert (d_by == 0).all()


class Cubic(Family):
    """A user's family with V = mu^(3/2), and nothing else given; singular at 0."""

    def variance(self, mu, extra=None):
        return mu**1.5

    def unit_deviance(self, y, mu, extra=None):
        return 4 * (np.sqrt(y) - np.sqrt(mu)) ** 2 / np.sqrt(mu)

    def unit_normalizer(self, y, extra=None):
        return np.zeros(np.shape(y))


@pytest.mark.parametrize("link", PROBABILITIES)
def test_binomial_variance_where_the_mean_rounds_to_one(link):
    family = Binomial(link)
    eta = np.array([-3.5, 3.5]) if link == "cloglog" else np.array([-30.0, 30.0])
    mu = family.link.inverse(eta)
    low = family.link.complement(eta)
    assert family.variance_at(eta, mu) == pytest.approx(mu * low, rel=1e-14)
    assert (family.variance_at(eta, mu) > 0).all()
    if link == "logit":
        d1 = family.link.d_inverse(eta)
        assert family.variance_at(eta, mu) == pytest.approx(d1, rel=1e-14)  # canonical


@pytest.mark.parametrize("key", ["bernoulli", "poisson", "gaussian", "gamma", "ig"])
def test_the_canonical_link(key):
    family, extra, y, _ = DENSITIES[key]
    assert family.is_canonical
    mu = means(key, y)
    eta = family.link.link(mu)
    ratio = family.link.d_inverse(eta) / family.variance(mu, extra)
    assert ratio == pytest.approx(np.full(len(y), ratio[0]), rel=1e-12)  # mu' / V is constant
    assert not with_link(key, "sqrt").is_canonical
    assert not NegativeBinomial(2).is_canonical
    assert not USER.is_canonical


def test_the_scores_of_the_density():
    """d log f / d eta = (y - mu) mu' / (phi V) in every family of exponential dispersion form."""
    for key, link in LINKED:
        if key == "user":
            continue
        family, (_, extra, y, _) = with_link(key, link), DENSITIES[key]
        mu = means(key, y)
        eta = family.link.link(mu)
        phi = family.dispersion(extra)
        score = (y - mu) * family.link.d_inverse(eta) / (phi * family.variance(mu, extra))
        expected = slope(
            lambda e, f=family, y=y, x=extra: f.log_kernel(y, e, f.link.inverse(e), None, x),
            eta,
            1e-4,
        )
        assert score == pytest.approx(expected, rel=1e-6, abs=1e-7), (key, link)


# ---------------------------------------------------------------------------- limits


@pytest.mark.parametrize("shape", [1e6, 1e8, 1e10])
def test_the_negative_binomial_tends_to_the_poisson(shape):
    y, mu = np.array([0.0, 1.0, 5.0, 40.0]), np.array([0.3, 2.0, 4.0, 50.0])
    nb, eta = NegativeBinomial(), np.log(mu)
    gap = nb.log_density(y, eta, mu, None, shape) - Poisson().log_density(y, eta, mu)
    first = ((y - mu) ** 2 - y) / (2 * shape)  # the expansion in 1 / shape
    assert gap == pytest.approx(first, abs=2e5 / shape**2 + 2e-13)
    slopes = nb.log_density_by_extra(y, mu, None, shape)
    assert slopes == pytest.approx(-first / shape, rel=300 / shape + 1e-12)


@pytest.mark.parametrize("shape", [1e-8, 0.3, 9.99, 10.01, 200.0])
@pytest.mark.parametrize("y", [0.0, 1.0, 37.0, 1e6])
def test_negative_binomial_normalizer(shape, y):
    expected = special.gammaln(y + shape) - special.gammaln(shape) - y * np.log(shape)
    # The plain formula rounds by 1e-16 of its largest part.
    size = max(special.gammaln(y + shape), abs(y * np.log(shape)), 1.0)
    assert float(log_rising(shape, y)) == pytest.approx(expected, abs=4e-15 * size)


@pytest.mark.parametrize("order", [2, 3, 4])
@pytest.mark.parametrize("n", [0, 1, 2, 6, 40])
@pytest.mark.parametrize("times", [1e-3, 0.5, 20, 63, 65, 1e4, 1e12])
def test_derivatives_of_a_rising_factorial_keep_their_digits(times, n, order):
    """For whole n it is the sum of log(1 + i / x) over i below n."""
    x, i = times * (n + 1.0), np.arange(n)
    terms = np.expm1(-order * np.log1p(i / x)) / x**order
    expected = (-1.0) ** (order - 1) * special.factorial(order - 1) * terms.sum()
    # Differences of polygammas, below 64 (n + 1), and the series beyond round by 1e-16 of their
    # largest parts.
    found = float(rising_derivative(x, np.array(float(n)), order))
    part = (x + n) / x**order if times < 64 else (n + 1.0) ** 2 / x ** (order + 1)
    assert found == pytest.approx(expected, rel=1e-14, abs=1e-15 * special.factorial(order) * part)


@pytest.mark.parametrize("phi", [1e-10, 1e-6, 1e-3, 0.0999, 0.1001, 1.0, 1e4])
def test_gamma_from_tiny_to_huge_dispersion(phi):
    family = Gamma("log")
    mu = np.array([0.7, 1.0, 3.0])
    y = mu * (1 + min(np.sqrt(phi), 0.5) * np.array([-1.0, 0.5, 1.0]))
    value = family.log_density(y, np.log(mu), mu, None, phi)
    slopes = family.log_density_by_extra(y, mu, None, phi)
    if phi < 1e-5:  # the normal limit, and the slope of it: errors of order sqrt(phi)
        z = (y - mu) / (mu * np.sqrt(phi))
        assert value == pytest.approx(stats.norm.logpdf(y, mu, mu * np.sqrt(phi)), abs=2 * phi**0.5)
        assert phi * slopes == pytest.approx((z**2 - 1) / 2, abs=2 * phi**0.5)
    else:
        expected = stats.gamma.logpdf(y, 1 / phi, scale=mu * phi)
        assert value == pytest.approx(expected, rel=1e-9, abs=1e-9)
    assert np.isfinite(value).all()
    assert np.isfinite(slopes).all()


@pytest.mark.parametrize("x", [0.2, 5.0, 9.999999, 10.0, 10.000001, 60.0])
def test_series_meet_the_plain_formulas(x):
    stirling = special.gammaln(x) - (x - 0.5) * np.log(x) + x - 0.5 * np.log(2 * np.pi)
    assert float(stirling_error(x)) == pytest.approx(stirling, abs=2e-15 * max(x * np.log(x), 10))
    digamma = np.log(x) - special.psi(x) - 0.5 / x
    assert float(digamma_error(x)) == pytest.approx(digamma, abs=2e-15 * max(np.log(x), 5))


def test_log1pmx_at_both_sides_of_its_series():
    x = np.array([-0.9, -0.2500001, -0.2499999, -0.1, 0.1, 0.2499999, 0.2500001, 3.0])
    # x - log(1 + x) loses one or two digits there.
    assert log1pmx(x) == pytest.approx(np.log1p(x) - x, rel=1e-13)
    small = np.array([-1e-9, 1e-12])
    assert log1pmx(small) == pytest.approx(-(small**2) / 2 + small**3 / 3, rel=1e-15)
    assert (log1pmx(np.array([-1.0, np.inf])) == -np.inf).all()


# ---------------------------------------------------------------------------- the start


@pytest.mark.parametrize("link", LINKS)
@pytest.mark.parametrize(
    "cls", [Binomial, Poisson, Gamma, InverseGaussian, Gaussian, NegativeBinomial]
)
def test_initial_means_are_inside_the_domain(cls, link):
    family = cls(link=link)
    y = {
        Binomial: np.array([0.0, 1.0, 0.5, 1.0]),
        Gaussian: np.array([-2.0, 0.0, 1e3, 0.4]),
        Gamma: SIZES,
        InverseGaussian: SIZES,
    }.get(cls, COUNTS)
    for weights in (None, 1.0 + np.arange(len(y))):
        mu = family.initial_mean(y, weights)
        assert mu.shape == y.shape
        assert family.valid_mean(mu)
        assert np.isfinite(family.link.link(mu)).all()
        assert family.link.mean_range[0] <= mu.min()
        assert mu.max() <= family.link.mean_range[1]


def test_initial_means_are_rs():
    """The mustart of R's families (R 4.5, ?family and MASS's negative.binomial)."""
    y, n = np.array([0.0, 0.25, 1.0]), np.array([1.0, 4.0, 9.0])
    assert Binomial().initial_mean(y, n) == pytest.approx([0.25, 0.3, 0.95])
    assert Poisson().initial_mean(COUNTS, None) == pytest.approx(COUNTS + 0.1)
    assert NegativeBinomial().initial_mean(COUNTS, None)[:3] == pytest.approx([1 / 6, 1, 2])
    for family in (Gamma(), InverseGaussian(), Gaussian("log")):
        assert family.initial_mean(SIZES, None) == pytest.approx(SIZES)


def test_initial_extra():
    rng = np.random.default_rng(1)
    n, mu = 20000, np.full(20000, 3.0)
    draws = {
        Gaussian(): (rng.normal(3, np.sqrt(PHI), n), PHI),
        Gamma(): (rng.gamma(1 / PHI, 3 * PHI, n), PHI),
        InverseGaussian(): (rng.wald(3, 1 / PHI, n), PHI),
        NegativeBinomial(): (rng.poisson(rng.gamma(SHAPE, 3 / SHAPE, n)), SHAPE),
        EXTENDED: (rng.normal(3, np.sqrt(PHI), n), PHI),
    }
    for family, (y, truth) in draws.items():
        # Of 20000 draws the inverse Gaussian's has the widest error: the excess kurtosis is
        # 15 phi mu = 18, so the standard error is sqrt(20 / 20000) = 0.03, and this is twice that.
        assert family.initial_extra(y, mu, np.ones(n)) == pytest.approx(truth, rel=0.06)
    assert NegativeBinomial().initial_extra(mu, mu, None) == 1e3  # no overdispersion at all
    assert Gaussian().initial_extra(mu, mu, None) > 0
    assert Gaussian().initial_extra(0 * mu, 0 * mu, None) == 1.0


def test_means_inside_the_domain():
    assert Binomial("identity").valid_mean(np.array([0.2, 0.9]))
    assert not Binomial("identity").valid_mean(np.array([0.2, 1.0]))
    assert not Binomial("log").valid_mean(np.array([0.2, 1.0]))
    assert Binomial("logit").valid_mean(np.array([0.0, 1.0]))  # only by rounding
    assert Poisson("log").valid_mean(np.array([0.0]))
    assert not Poisson("identity").valid_mean(np.array([0.0]))
    assert not Poisson().valid_mean(np.array([np.inf]))
    assert not Gamma("log").valid_mean(np.array([0.0]))
    assert not Gamma().valid_mean(np.array([-1.0]))
    assert Gaussian().valid_mean(np.array([-1.0]))
    assert not Gaussian().valid_mean(np.array([np.nan]))
    assert not USER.valid_mean(np.array([np.inf]))


# ---------------------------------------------------------------------------- the response


@pytest.mark.parametrize(
    ("family", "y", "weights", "message"),
    [
        (Binomial(), [0, 1, 2, 3], None, r"use of a binomial model has the value 2 in row 2 .*cb"),
        (BetaBinomial(), [0, 1, 2], None, r"use of a betabinomial model has the value 2 in row 2"),
        (Binomial(), [0, -0.5], None, r"value -0.5 in row 1 .*expected 0, 1 or a share"),
        (Poisson(), [0, 1, -3], None, r"use of a poisson model has the value -3 in row 2"),
        (NegativeBinomial(), [-1], None, r"use of a negative binomial model has the value -1"),
        (NegativeBinomial(2), [-1], None, r"use of a negative binomial model has the value -1"),
        (Gamma(), [1, 0], None, r"use of a Gamma model has the value 0 in row 1 .*positive values"),
        (InverseGaussian(), [-2], None, r"inverse.gaussian model has the value -2"),
        (Gaussian(), [1, np.inf], None, r"response use has the value inf in row 1"),
        (Poisson(), [np.nan], None, r"response use has the value nan in row 0 .*drop"),
        (Poisson(), [1, 2], [1, -1], r"weights has the value -1 in row 1 .*0 or more"),
        (Gaussian(), [1, 2], [np.nan, 1], r"weights has the value nan in row 0"),
        (
            UserFamily("ql", "log", variance=np.abs, deviance=square, dispersion=True),
            [1, 0],
            None,
            r"value 0 in row 1 .*variance function of the family 'ql' is positive: .*log_density",
        ),
    ],
)  # fmt: skip
def test_responses_that_cannot_be(family, y, weights, message):
    weights = None if weights is None else np.array(weights, dtype=float)
    with pytest.raises(DataError, match=message):
        family.check_response(np.array(y, dtype=float), weights, "use")


@pytest.mark.parametrize(
    ("family", "y", "weights", "message"),
    [
        (Binomial(), [0.5, 0.25], None, "non-integer #successes in a binomial model: use"),
        (Binomial(), [0.5, 0.25], [2, 2], "non-integer #successes"),
        (BetaBinomial(), [0.5, 0.25], [2, 2], "#successes in a betabinomial model: use"),
        (Poisson(), [0, 1.5], None, r"use of a poisson model is not .*\(first 1.5\).*offset"),
        (NegativeBinomial(), [0.25], None, "use of a negative binomial model"),
    ],
)
def test_responses_that_are_odd(family, y, weights, message):
    weights = None if weights is None else np.array(weights, dtype=float)
    with pytest.warns(DataWarning, match=message):
        family.check_response(np.array(y), weights, "use")


@pytest.mark.parametrize(
    ("family", "y", "weights"),
    [
        (Binomial(), [0, 1, 1 / 3, 0.7], [1, 0, 3, 10]),
        (Binomial(), [0, 1], None),
        (Poisson(), [0, 1, 1e9], [0.5, 1, 2]),
        (NegativeBinomial(2), [0, 1], None),
        (Gamma(), [1e-9, 1], None),
        (Gaussian(), [-1, 0], None),
        (USER, [-1, 0], None),
        (QUASI, [0.5, 0], None),
    ],
)
def test_good_responses_pass_in_silence(family, y, weights):
    weights = None if weights is None else np.array(weights, dtype=float)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        family.check_response(np.array(y, dtype=float), weights)


# ---------------------------------------------------------------------------- objects


@pytest.mark.parametrize("key", DENSITIES)
def test_families_compare_and_pickle(key):
    family = DENSITIES[key][0]
    again = pickle.loads(pickle.dumps(family))
    assert again == family
    assert hash(again) == hash(family)
    assert repr(again) == repr(family)
    assert all(family != other for k, (other, *_) in DENSITIES.items() if k != key)
    with pytest.raises(AttributeError):
        family.link = Log()


def test_names_and_kinds():
    families = [Binomial("probit"), Poisson(), Gamma(), InverseGaussian(), Gaussian()]
    assert [f.name for f in families] == [
        "binomial", "poisson", "Gamma", "inverse.gaussian", "gaussian",
    ]  # fmt: skip
    assert [f.auxiliary for f in families] == [(), (), *[(DISPERSION,)] * 3]
    assert [f.information for f in families] == ["expected"] * 2 + ["observed"] * 3
    known, unknown = NegativeBinomial(2, "sqrt"), NegativeBinomial()
    assert (known.name, unknown.name) == ("Negative Binomial(2)", "Negative Binomial")
    assert NegativeBinomial(1.29812345).name == "Negative Binomial(1.2981)"
    assert (known.auxiliary, unknown.auxiliary) == ((), (SHAPE_PARAMETER,))
    assert known.information == unknown.information == "observed"
    assert (USER.auxiliary, USER.information) == ((DISPERSION,), "observed")
    assert (QUASI.auxiliary, QUASI.information) == ((), "expected")
    assert [f.link.name for f in families] == ["probit", "log", "inverse", "1/mu^2", "identity"]
    assert repr(known) == "NegativeBinomial(shape=2.0, link='sqrt')"
    assert repr(Binomial("probit")) == "Binomial(link='probit')"
    assert NegativeBinomial(2) != NegativeBinomial(3)
    assert Poisson("log") != Poisson("sqrt")
    assert Poisson() != Binomial("log")


def test_dispersion():
    assert Gamma().dispersion(0.3) == 0.3
    assert Poisson().dispersion(0.3) == NegativeBinomial().dispersion(0.3) == 1.0
    with pytest.raises(ValueError, match="the Gamma family needs its dispersion: pass extra"):
        Gamma().log_normalizer(SIZES)
    with pytest.raises(ValueError, match="negative binomial family needs its shape: pass extra"):
        NegativeBinomial().variance(SIZES)


@pytest.mark.parametrize("shape", [0, -1.0, np.nan, np.inf, "2", True])
def test_what_is_no_shape(shape):
    with pytest.raises(ValueError, match=r"shape of a negative binomial family is .*positive"):
        NegativeBinomial(shape)


def test_user_families():
    poisson = UserFamily("count", "log", variance=np.abs, log_density=stats.poisson.logpmf)
    mu = means("poisson", COUNTS)
    exact = Poisson()
    assert poisson.unit_deviance(COUNTS, mu) == pytest.approx(
        exact.unit_deviance(COUNTS, mu), rel=1e-10, abs=1e-13
    )
    eta, w = np.log(mu), 1.0 + COUNTS
    for method in ("log_density", "log_kernel"):
        value = getattr(poisson, method)(COUNTS, eta, mu, w)
        assert value == pytest.approx(exact.log_density(COUNTS, eta, mu, w), rel=1e-12)
    quasi = QUASI.log_density(COUNTS, eta, mu, w)
    relative = exact.log_density(COUNTS, eta, mu, w) - exact.saturated(COUNTS, w)
    assert quasi == pytest.approx(relative, rel=1e-10, abs=1e-12)
    start = UserFamily(
        "s", "log", variance=np.abs, deviance=square, initial_mean=lambda y, w: y + 0.5
    )
    assert start.initial_mean(COUNTS, None) == pytest.approx(COUNTS + 0.5)
    assert poisson.initial_mean(COUNTS, None) == pytest.approx((COUNTS + 5.5) / 2)
    bounded = UserFamily("b", "log", variance=np.abs, deviance=square, mean_range=(0, 5))
    assert not bounded.valid_mean(np.array([6.0]))
    constant = UserFamily("c", "log", variance=lambda mu: 2.0, deviance=square)
    assert (constant.variance(mu) == 2.0).all()
    assert constant.d_variance(mu) == pytest.approx(np.zeros(12), abs=1e-11)


@pytest.mark.parametrize(
    ("functions", "message"),
    [
        ({"variance": ones}, "'f' has neither a log_density nor a deviance; give one"),
        ({"variance": 1.0, "deviance": square}, r"variance of the family 'f' is 1.0; expected a"),
        ({"variance": ones, "deviance": "d"}, "deviance of the family 'f' is 'd'"),
        ({"variance": ones, "deviance": square, "initial_mean": 2}, "initial_mean of the family"),
    ],
)
def test_user_families_that_lack_something(functions, message):
    with pytest.raises(ValueError, match=message):
        UserFamily("f", "log", **functions)


def test_a_link_that_is_none():
    with pytest.raises(ValueError, match=r"no link 'lgit'; expected one of 'logit'"):
        Binomial("lgit")


# ---------------------------------------------------------------------------- conversions


@pytest.mark.parametrize(
    ("spec", "expected"),
    [
        (Binomial, Binomial()),
        (NegativeBinomial, NegativeBinomial()),
        (Gamma("log"), Gamma("log")),
        ("binomial", Binomial()),
        (" Poisson ", Poisson()),
        ("gamma", Gamma()),
        ("Gamma", Gamma()),
        ("inverse.gaussian", InverseGaussian()),
        ("InverseGaussian", InverseGaussian()),
        ("gaussian", Gaussian()),
        ("nbinom2", NegativeBinomial()),
        ("negative.binomial", NegativeBinomial()),
        ("NegativeBinomial", NegativeBinomial()),
        ("negbin", NegativeBinomial()),
        ("inverse_gaussian(log)", InverseGaussian("log")),
        ("binomial(probit)", Binomial("probit")),
        ("binomial('probit')", Binomial("probit")),
        ('Gamma(link="log")', Gamma("log")),
        ("Gamma( link = log )", Gamma("log")),
        ("poisson()", Poisson()),
        ("inverse.gaussian(1/mu^2)", InverseGaussian()),
        ("nbinom2(sqrt)", NegativeBinomial(link="sqrt")),
        ("negative.binomial(2)", NegativeBinomial(2)),
        ("negative.binomial(theta = 2, link = 'identity')", NegativeBinomial(2, "identity")),
        ("negative.binomial(2.5, sqrt)", NegativeBinomial(2.5, "sqrt")),
        ("Negative Binomial(1.25)", NegativeBinomial(1.25)),
    ],
)
def test_families_by_name(spec, expected):
    assert make_family(spec) == expected


@pytest.mark.parametrize("name", FAMILIES)
def test_every_family_has_its_name(name):
    assert make_family(name) == FAMILIES[name]()


def test_a_printed_name_is_read_again():
    for family, *_ in DENSITIES.values():
        if not isinstance(family, UserFamily):
            assert make_family(family.name) == family


@pytest.mark.parametrize(
    ("spec", "message"),
    [
        ("quasibinomial", r'"quasi" families cannot be used in glmer .*\(1 \| obs\)'),
        ("quasipoisson(log)", '"quasi" families cannot be used in glmer'),
        ("quasi", '"quasi" families cannot be used in glmer'),
        (
            "binomal",
            r"no family 'binomal'; the families are 'binomial', .*'nbinom2'.*'beta'.* and 't' \(w",
        ),
        ("nbinom9", "no family 'nbinom9'"),
        ("", "no family ''"),
        ("binomial(probit", r"no family 'binomial\(probit'"),
        ("binomial(lgit)", "no link 'lgit'"),
        ("binomial(probit, logit)", "cannot read 'logit' in the family"),
        ("Gamma(shape = 2)", "cannot read 'shape = 2' in the family .*expected link, each once"),
        ("nbinom2(theta = two)", "shape of a negative binomial family is 'two'"),
        (None, "family is None; expected one of 'binomial'"),
        (3, "family is 3; expected one of"),
        (dict, "family is the class dict"),
        (UserFamily, "needs arguments; expected an object made of it"),
        (Family, "needs arguments; expected an object"),
    ],
)
def test_what_is_no_family(spec, message):
    with pytest.raises(ValueError, match=message):
        make_family(spec)


def fake(name, module="statsmodels.genmod.families", **attributes):
    """An object whose class has the name and the module of statsmodels' one, and nothing else."""
    return type(name, (), {"__module__": module, **attributes})()


FAKE_LINKS = {
    "Logit": "logit",
    "Probit": "probit",
    "CLogLog": "cloglog",
    "Cauchy": "cauchit",
    "Log": "log",
    "Identity": "identity",
    "InversePower": "inverse",
    "Sqrt": "sqrt",
    "InverseSquared": "1/mu^2",
    "inverse_power": "inverse",
}


@pytest.mark.parametrize(("name", "expected"), FAKE_LINKS.items())
def test_statsmodels_links_without_statsmodels(name, expected):
    link = fake(name)
    assert make_link(link) == make_link(expected)
    assert make_link(type(link)) == make_link(expected)
    assert make_family(fake("Poisson", link=link)) == Poisson(expected)


@pytest.mark.parametrize(("power", "expected"), [(1, "identity"), (-1, "inverse"), (0.5, "sqrt")])
def test_statsmodels_powers_without_statsmodels(power, expected):
    assert make_link(fake("Power", power=power)) == make_link(expected)


def test_statsmodels_refusals_without_statsmodels():
    with pytest.raises(ValueError, match="statsmodels' link NegativeBinomial is not one that"):
        make_link(fake("NegativeBinomial", inverse_deriv=np.exp))
    with pytest.raises(ValueError, match=r"family Tweedie is not one .*UserFamily\(name, link"):
        make_family(fake("Tweedie"))


def test_real_statsmodels():
    families = pytest.importorskip("statsmodels.genmod.families")
    links = families.links
    log = links.Log()
    assert make_family(families.Binomial()) == make_family(families.Binomial) == Binomial()
    assert make_family(families.Binomial(links.Probit())) == Binomial("probit")
    assert make_family(families.Poisson()) == Poisson()
    assert make_family(families.Gamma()) == Gamma()
    assert make_family(families.Gamma(log)) == Gamma("log")
    assert make_family(families.InverseGaussian()) == InverseGaussian()
    assert make_family(families.Gaussian(links.InversePower())) == Gaussian("inverse")
    assert make_family(families.NegativeBinomial(log, alpha=0.5)) == NegativeBinomial(2)
    assert make_family(families.NegativeBinomial) == NegativeBinomial()
    with pytest.raises(ValueError, match="statsmodels' family Tweedie"):
        make_family(families.Tweedie())
    for name, expected in FAKE_LINKS.items():
        if hasattr(links, name) and name[0].isupper():
            assert make_link(getattr(links, name)()) == make_link(expected)
            assert make_link(getattr(links, name)) == make_link(expected)
    with pytest.raises(ValueError, match="link NegativeBinomial"):
        make_link(links.NegativeBinomial())


def test_other_links_of_statsmodels_are_used_as_they_are():
    links = pytest.importorskip("statsmodels.genmod.families").links
    eta = np.linspace(-2, 3, 11)
    link = make_link(links.LogLog())
    assert (link.name, link.mean_range) == ("loglog", (0.0, 1.0))
    assert link.inverse(eta) == pytest.approx(np.exp(-np.exp(-eta)), rel=1e-12)
    d2 = np.exp(-eta - np.exp(-eta)) * (np.exp(-eta) - 1)
    assert link.d2_inverse(eta) == pytest.approx(d2, abs=1e-11)
    assert pickle.loads(pickle.dumps(link)).inverse(1.0) == link.inverse(1.0)
    power = make_link(links.Power(power=0.25))
    assert power.name == "mu^0.25"
    assert power.d_inverse(np.array([2.0])) == pytest.approx(32.0, rel=1e-12)


def test_equal_links_need_equal_classes():
    assert Sqrt() == make_link("sqrt")
    assert UserLink("sqrt", np.sqrt, np.square) != Sqrt()
    assert Poisson(UserLink("log", np.log, np.exp)).is_canonical is False
