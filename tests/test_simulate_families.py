"""Draws from the families, against their moments, densities and distribution functions."""

import numpy as np
import pytest
from scipy import stats

from mixef import (
    Binomial,
    Gamma,
    Gaussian,
    InverseGaussian,
    NegativeBinomial,
    Poisson,
    UserFamily,
)
from mixef.errors import DataError, DataWarning, FitError
from mixef.families.family import Family

DRAWS = 100_000
OWN = {
    "variance": np.square,
    "log_density": lambda y, mu, phi: stats.gamma.logpdf(y, 1 / phi, scale=phi * mu),
    "dispersion": True,
    "random": lambda rng, mu, phi: rng.gamma(1 / phi, phi * mu),
}
#: Family, extra parameter, and two possible means.
FAMILIES = {
    "binomial": (Binomial(), None, (0.3, 0.35)),
    "poisson": (Poisson(), None, (2.5, 2.8)),
    "small counts": (Poisson("sqrt"), None, (0.05, 0.06)),
    "nbinom": (NegativeBinomial(), 1.7, (4.0, 4.4)),
    "known shape": (NegativeBinomial(0.6), None, (2.0, 2.2)),
    "gaussian": (Gaussian("log"), 2.3, (1.5, 1.9)),
    "gamma": (Gamma("log"), 0.4, (3.0, 3.3)),
    "gamma, dispersed": (Gamma("log"), 1.5, (3.0, 3.2)),
    "inverse gaussian": (InverseGaussian("log"), 0.3, (2.0, 2.2)),
    "user": (UserFamily("own", "log", **OWN), 0.4, (3.0, 3.3)),
}


def draws(family, mu, weight, extra, seed=5):
    rng = np.random.default_rng(seed)
    weights = None if weight is None else np.full(2, float(weight))
    return family.random(rng, np.full((2, DRAWS // 2), mu), weights, extra).ravel()


@pytest.mark.parametrize("weight", [None, 3, 12])
@pytest.mark.parametrize("case", FAMILIES)
def test_moments_are_those_of_the_mean_of_w_copies(case, weight):
    family, extra, (mu, _) = FAMILIES[case]
    y = draws(family, mu, weight, extra)
    variance = family.dispersion(extra) * family.variance(np.array(mu), extra) / (weight or 1)
    # Five standard errors, estimated from the draws.
    assert abs(y.mean() - mu) < 5 * y.std() / np.sqrt(DRAWS)
    squares = (y - mu) ** 2
    assert abs(squares.mean() - variance) < 5 * squares.std() / np.sqrt(DRAWS)


@pytest.mark.parametrize("weight", [None, 3])
@pytest.mark.parametrize("case", FAMILIES)
def test_the_density_ratio_of_two_means_averages_to_one(case, weight):
    """E f(y; mu2)^w / f(y; mu1)^w = 1: the weighted density is that of the draws."""
    family, extra, (mu1, mu2) = FAMILIES[case]
    y = draws(family, mu1, weight, extra)
    weights = np.full(len(y), float(weight or 1))
    rows = [
        family.log_kernel(y, np.full(len(y), family.link.link(mu)), np.full(len(y), mu), weights,
                          extra)
        for mu in (mu1, mu2)
    ]  # fmt: skip
    ratio = np.exp(rows[1] - rows[0])
    assert abs(ratio.mean() - 1) < 5 * ratio.std() / np.sqrt(DRAWS)


@pytest.mark.parametrize(
    ("family", "extra", "weight", "law"),
    [
        (Gaussian(), 2.3, 4, lambda mu: stats.norm(mu, np.sqrt(2.3 / 4))),
        (Gamma("log"), 0.4, 2, lambda mu: stats.gamma(2 / 0.4, scale=0.4 * mu / 2)),
        (Gamma("log"), 3.0, None, lambda mu: stats.gamma(1 / 3, scale=3 * mu)),
        (InverseGaussian("log"), 0.3, None, lambda mu: stats.invgauss(0.3 * mu, scale=1 / 0.3)),
        (InverseGaussian("log"), 5.0, 2, lambda mu: stats.invgauss(2.5 * mu, scale=2 / 5)),
        (InverseGaussian("log"), 1e-4, None, lambda mu: stats.invgauss(1e-4 * mu, scale=1e4)),
    ],
)
def test_continuous_draws_have_the_distribution(family, extra, weight, law):
    y = draws(family, 1.7, weight, extra)
    assert stats.kstest(y, law(1.7).cdf).pvalue > 1e-3


@pytest.mark.parametrize(
    ("family", "extra", "weight", "law"),
    [
        (Binomial(), None, 9, stats.binom(9, 0.3)),
        (Poisson(), None, None, stats.poisson(0.3)),
        (Poisson(), None, 2.5, stats.poisson(0.75)),
        (NegativeBinomial(), 1.7, None, stats.nbinom(1.7, 1.7 / 2.0)),
        (NegativeBinomial(1.7), None, 2.5, stats.nbinom(4.25, 1.7 / 2.0)),
    ],
)
def test_counts_have_the_distribution(family, extra, weight, law):
    counts = draws(family, 0.3, weight, extra) * (weight or 1)
    whole = np.rint(counts).astype(int)
    assert np.abs(counts - whole).max() < 1e-12  # a product and a quotient
    cells = np.arange(8)
    expected = DRAWS * np.append(law.pmf(cells), law.sf(7))
    seen = np.append([np.count_nonzero(whole == k) for k in cells], np.count_nonzero(whole > 7))
    use = expected > 5
    chisq = ((seen - expected)[use] ** 2 / expected[use]).sum()
    assert stats.chi2.sf(chisq, use.sum() - 1) > 1e-3


@pytest.mark.parametrize("case", FAMILIES)
def test_each_row_has_its_own_weight_and_mean(case):
    family, extra, (mu, _) = FAMILIES[case]
    means = mu * np.array([1.0, 1.1])
    y = family.random(np.random.default_rng(2), np.tile(means, (1, 1)).T.repeat(40_000, axis=1),
                      np.array([1.0, 8.0]), extra)  # fmt: skip
    variance = family.dispersion(extra) * family.variance(means, extra) / [1.0, 8.0]
    assert y.shape == (2, 40_000)
    np.testing.assert_allclose(y.mean(axis=1), means, atol=5 * y.std(axis=1).max() / 200)
    np.testing.assert_allclose(y.var(axis=1), variance, rtol=0.15)  # heavy tails, 40,000 draws


def test_one_row_a_mean():
    mu = np.array([1.0, 2.0, 3.0])
    for family, extra, _ in FAMILIES.values():
        if family.name != "binomial":
            assert family.random(np.random.default_rng(1), mu, None, extra).shape == (3,)
    assert Binomial().random(np.random.default_rng(1), mu / 4).shape == (3,)


def test_without_trials_there_are_no_successes():
    y = Binomial().random(np.random.default_rng(1), np.full(2, 0.5), np.array([0.0, 1e6]))
    assert y[0] == 0
    assert abs(y[1] - 0.5) < 0.005


def test_extreme_means_stay_in_the_domain():
    rng = np.random.default_rng(1)
    huge = Poisson().random(rng, np.full(4, 1e22))
    assert np.abs(huge / 1e22 - 1).max() < 1e-10
    assert (Poisson().random(rng, np.zeros(3)) == 0).all()
    assert (Binomial().random(rng, np.array([0.0, 1.0])) == [0, 1]).all()
    tiny = Gamma("log").random(rng, np.full(1000, 1e-3), None, 400.0)
    assert (tiny > 0).all()
    assert np.isfinite(np.log(tiny)).all()
    assert (InverseGaussian("log").random(rng, np.full(1000, 1e5), None, 1e3) > 0).all()


@pytest.mark.parametrize("weights", [[1.5, 2.0], [0.4, 1.0]])
def test_trials_have_to_be_whole(weights):
    with pytest.raises(
        DataError, match=r"weights has the value .* in row 0 .*whole numbers of tri"
    ):
        Binomial().random(np.random.default_rng(1), np.full(2, 0.5), np.array(weights))


def test_a_family_that_cannot_be_drawn_from_says_so():
    own = UserFamily("mine", "log", variance=np.abs, log_density=stats.poisson.logpmf)
    with pytest.raises(FitError, match=r"'mine' says nothing of how to draw.*random="):
        own.random(np.random.default_rng(1), np.ones(2))

    class Bare(Family):
        variance = unit_deviance = unit_normalizer = None

    Bare.__abstractmethods__ = frozenset()
    with pytest.raises(FitError, match=r"Bare says nothing of how to draw from it; give it a meth"):
        Bare("log").random(np.random.default_rng(1), np.ones(2))


def test_a_users_draws_are_checked():
    family = UserFamily("mine", "log", variance=np.abs, log_density=stats.poisson.logpmf,
                        random=lambda rng, mu: rng.poisson(3.0))  # fmt: skip
    with pytest.raises(DataError, match=r"gave an array of shape \(\) for means of shape \(2,\)"):
        family.random(np.random.default_rng(1), np.ones(2))
    with pytest.raises(DataError, match=r"weights has the value 0.5 in row 1 .*whole numbers of c"):
        family.random(np.random.default_rng(1), np.ones(2), np.array([1.0, 0.5]))
    with pytest.raises(ValueError, match=r"random of the family 'mine' is 3"):
        UserFamily("mine", "log", variance=np.abs, log_density=np.log, random=3)


def test_means_of_counts_pass_in_silence(recwarn):
    """Counts over whole weights are what `random` draws, so a refit says nothing about them."""
    w = np.array([2.0, 2.5])
    for family in (Poisson(), NegativeBinomial(2)):
        family.check_response(np.array([1.5, 0.8]), w)
    assert not recwarn.list
    with pytest.warns(DataWarning, match="not everywhere a whole number"):
        Poisson().check_response(np.array([1.5, 0.7]), w)


@pytest.mark.parametrize("family", [Binomial("log"), Poisson("identity"), Gamma(), Gaussian("log")])
def test_possible_means_element_by_element(family):
    mu = np.array([-1.0, 0.0, 0.5, 1.0, 2.0, np.inf, np.nan])
    with np.errstate(invalid="ignore"):
        alone = [family.valid_mean(np.array([m])) for m in mu]
    assert family.possible(mu).tolist() == alone
