"""Intervals of predictions, and population averages."""

import numpy as np
import pytest
from predicted import fit_of, generalized, linear, rows_of
from reference_data import case, cases, frame
from scipy import integrate, stats

from mixef import UserFamily, glmer, lmer
from mixef.errors import DataError, FormulaError
from mixef.families.convert import make_family
from mixef.families.negative_binomial import NegativeBinomial
from mixef.inference.prediction import new_responses
from mixef.inference.prediction.new_responses import averaged_mean

Z95 = 1.959963984540054  # the normal's 0.975 quantile

# Confidence


@pytest.mark.parametrize(("level", "z"), [(0.95, Z95), (0.5, 0.674489750196082)])
@pytest.mark.parametrize("arguments", [{}, {"re_form": "~0"}, {"type": "link"}])
def test_without_degrees_of_freedom_a_linear_models_interval_is_normal(arguments, level, z):
    fit = linear("crossed")
    out = fit.predict(interval="confidence", level=level, ddf=None, **arguments)
    np.testing.assert_allclose(out["upper"] - out["fit"], z * out["se_fit"], rtol=1e-12)
    np.testing.assert_allclose(out["fit"] - out["lower"], z * out["se_fit"], rtol=1e-12)


@pytest.mark.parametrize("name", ["scalar", "vector, dispersion", "shape", "three factors"])
def test_an_interval_of_means_is_normal_on_the_scale_of_the_link(name):
    fit = generalized(name)
    link, mean = (fit.predict(type=type, interval="confidence") for type in ("link", "response"))
    for column in ("fit", "lower", "upper"):
        inverse = fit._fit.family.link.inverse(link[column].to_numpy())
        np.testing.assert_allclose(mean[column], inverse, rtol=1e-13)
    slope = fit._fit.family.link.d_inverse(link["fit"].to_numpy())
    np.testing.assert_allclose(mean["se_fit"], slope * link["se_fit"], rtol=1e-13)
    np.testing.assert_allclose(link["upper"], link["fit"] + Z95 * link["se_fit"], rtol=1e-13)


def test_a_decreasing_link_turns_the_interval_around():
    data = frame("glmm_scale")
    fit = glmer("ginv ~ x + (1 | g)", data, family="Gamma(inverse)")
    link, mean = (fit.predict(type=type, interval="confidence") for type in ("link", "response"))
    np.testing.assert_allclose(mean["lower"], 1 / link["upper"], rtol=1e-13)
    np.testing.assert_allclose(mean["upper"], 1 / link["lower"], rtol=1e-13)
    assert (mean["lower"] < mean["fit"]).all()
    assert (mean["fit"] < mean["upper"]).all()


def test_an_interval_ends_where_means_do():
    # At a level this high the predictor passes zero, where no mean of these families lies.
    data = frame("glmm_scale")
    inverse = glmer("ginv ~ x + (1 | g)", data, family="Gamma(inverse)")
    assert (inverse.predict(interval="confidence", level=1 - 1e-15)["upper"] == np.inf).any()
    root = glmer("nbroot ~ x + (1 | g)", data, family="nbinom2(sqrt)")
    out = root.predict(interval="confidence", level=1 - 1e-15)
    assert (out["lower"] >= 0).all()
    assert (out["lower"] <= out["fit"]).all()
    # Over the pole of 1/mu a family with means of both signs has all of them.
    pole = glmer("ninv ~ x + (1 | g)", data, family="gaussian(inverse)")
    out = pole.predict({"x": [-5.0, 0.0]}, re_form="~0", interval="confidence")
    assert (out["lower"][0], out["upper"][0]) == (-np.inf, np.inf)
    assert 1.5 < out["lower"][1] < out["fit"][1] < out["upper"][1] < 3.0


# New responses of linear models


def test_a_new_response_has_the_residual_variance():
    fit = linear("crossed")
    data = frame("crossed")
    own = fit.predict(interval="prediction", ddf=None)
    expected = Z95 * np.sqrt(own["se_fit"] ** 2 + fit.sigma**2 / data["w"])
    np.testing.assert_allclose(own["upper"] - own["fit"], expected, rtol=1e-12)
    np.testing.assert_allclose(own["fit"] - own["lower"], expected, rtol=1e-12)
    # The weights are those of the new rows, and 1 where these have none.
    np.testing.assert_allclose(fit.predict(data, interval="prediction", ddf=None), own, rtol=1e-10)
    plain = fit.predict(data.drop(columns="w"), interval="prediction", ddf=None)
    expected = Z95 * np.sqrt(own["se_fit"] ** 2 + fit.sigma**2)
    np.testing.assert_allclose(plain["upper"] - plain["fit"], expected, rtol=1e-10)


def test_new_weights_have_to_be_weights():
    data = frame("crossed").head(3).assign(w=[1.0, -2.0, 1.0])
    with pytest.raises(DataError, match="weights of newdata have the value -2 in row 1"):
        linear("crossed").predict(data, interval="prediction")


def test_random_effects_left_out_are_those_of_a_new_level():
    fit = linear("vector")
    days = np.arange(10.0)
    Sigma = fit.sigma**2 * fit._fit.estimates.lams[0] @ fit._fit.estimates.lams[0].T
    z = np.column_stack([np.ones(10), days])
    expected = np.einsum("ns,st,nt->n", z, Sigma, z)
    population = fit.predict({"Days": days}, re_form="~0", interval="prediction", ddf=None)
    width = (population["upper"] - population["fit"]) / Z95
    np.testing.assert_allclose(
        width**2 - population["se_fit"] ** 2, expected + fit.sigma**2, rtol=1e-10
    )
    # It is the prediction for a level that is new, whose standard error has its variance.
    population = fit.predict({"Days": days}, re_form="~0", interval="prediction")
    new = {"Days": days, "Subject": ["new"] * 10}
    unseen = fit.predict(new, new_levels="population", interval="prediction")
    np.testing.assert_allclose(unseen["se_fit"] ** 2 - population["se_fit"] ** 2, expected)
    ends = ["fit", "lower", "upper"]
    np.testing.assert_allclose(unseen[ends], population[ends], rtol=1e-12)
    # Also with a part of it included: what is left out is correlated with that.
    for part in ("~ (1 | Subject)", "~ (0 + Days | Subject)"):
        some = fit.predict(new, re_form=part, new_levels="population", interval="prediction")
        np.testing.assert_allclose(some[ends], population[ends], rtol=1e-12)


def test_one_factor_known_and_another_left_out():
    fit = linear("crossed")
    data = frame("crossed").head(20)
    out = fit.predict(data, re_form="~ (1 | b)", interval="prediction", ddf=None)
    lam = fit._fit.estimates.lams[fit._fit.groups["a"][0]]
    z = np.column_stack([np.ones(20), data["x"]])
    own = fit.sigma**2 * (((z @ lam) ** 2).sum(axis=1) + 1 / data["w"])
    expected = Z95 * np.sqrt(out["se_fit"] ** 2 + own)
    np.testing.assert_allclose(out["upper"] - out["fit"], expected, rtol=1e-10)


def test_a_population_prediction_needs_the_columns_of_the_random_effects_only():
    fit = lmer("Reaction ~ 1 + (Days | Subject)", frame("sleepstudy"))
    assert len(fit.predict({"x": [1.0]}, re_form="~0", se_fit=True)) == 1
    with pytest.raises(FormulaError, match="'Days' is not a column"):
        fit.predict({"x": [1.0]}, re_form="~0", interval="prediction")


# New responses of generalized models

SCALE = {"dispersion": 0.4, "shape": 2.5}
DISTRIBUTIONS = {
    "binomial": lambda mu, w: stats.binom(w, mu),
    "poisson": lambda mu, w: stats.poisson(w * mu),
    "nbinom2": lambda mu, w: stats.nbinom(2.5 * w, 2.5 / (2.5 + mu)),
    "gaussian(log)": lambda mu, w: stats.norm(mu, np.sqrt(0.4 / w)),
    "Gamma(log)": lambda mu, w: stats.gamma(w / 0.4, scale=0.4 * mu / w),
    "inverse.gaussian(log)": lambda mu, w: stats.invgauss(0.4 * mu / w, scale=w / 0.4),
}
# The error of a probability: 1e-7 by nodes 1.5 standard deviations of the family apart, more where
# these are below a hundredth of the predictor's, and nodes are that far apart.
RULE = 1e-5
COUNTS = ("binomial", "poisson", "nbinom2")


class _Fit:
    """As much of a fit as the quantiles read."""

    def __init__(self, family):
        self.family = make_family(family)
        self.extra = self.family.extra_at(np.log([SCALE[a.name] for a in self.family.auxiliary]))


@pytest.mark.parametrize("sd", [0.0, 0.05, 0.6, 2.0])
@pytest.mark.parametrize("w", [1.0, 7.0])
@pytest.mark.parametrize("family", DISTRIBUTIONS)
def test_quantiles_are_those_of_the_mixed_distribution(family, w, sd):
    eta = np.array([-1.5, 0.4, 2.0])
    low, high = new_responses.predictive_quantiles(
        _Fit(family), eta, np.full(3, sd**2), np.full(3, w), (0.025, 0.975)
    )
    link = make_family(family).link
    scale = w if family in COUNTS else 1.0

    z = np.linspace(-9, 9, 20_001)

    def cdf(y, e):
        return integrate.simpson(
            DISTRIBUTIONS[family](link.inverse(e + sd * z), w).cdf(y) * stats.norm.pdf(z), x=z
        )

    for ends, probability in ((low, 0.025), (high, 0.975)):
        for y, e in zip(ends * scale, eta, strict=True):
            if family in COUNTS:
                assert y == pytest.approx(round(y), abs=1e-9)
                assert cdf(round(y), e) >= probability - RULE
                assert y == 0 or cdf(round(y) - 1, e) < probability + RULE
            else:
                assert cdf(y, e) == pytest.approx(probability, abs=RULE)


@pytest.mark.parametrize("family", ["poisson", "binomial(cloglog)"])
def test_quantiles_where_the_family_is_narrow_beside_the_predictor(family):
    # Nodes have to be close enough to see the family's distribution, a fiftieth of eta's.
    eta, w = (
        np.array([8.0 if family == "poisson" else -1.0]),
        np.array([1.0 if family == "poisson" else 4000.0]),
    )
    low, high = new_responses.predictive_quantiles(_Fit(family), eta, np.ones(1), w, (0.025, 0.975))
    link = make_family(family).link
    for got, z in ((low, -Z95), (high, Z95)):
        # Then the quantile is that of the mean, but for the family's own variance.
        assert got[0] == pytest.approx(float(link.inverse(eta[0] + z)), rel=0.01)


def test_a_known_shape_is_used():
    known = _Fit("poisson")
    known.family, known.extra = NegativeBinomial(2.5), 1.0
    eta, variance = np.array([1.0, 2.0]), np.array([0.2, 0.3])
    ours = new_responses.predictive_quantiles(known, eta, variance, None, (0.1, 0.9))
    theirs = new_responses.predictive_quantiles(_Fit("nbinom2"), eta, variance, None, (0.1, 0.9))
    np.testing.assert_array_equal(ours, theirs)


def test_new_responses_have_the_trials_that_the_rows_have():
    fit, data = generalized("scalar"), frame("cbpp")
    own = fit.predict(interval="prediction")
    np.testing.assert_allclose(fit.predict(data, interval="prediction"), own, rtol=1e-9)
    for column in ("lower", "upper"):
        counts = own[column] * data["size"]
        np.testing.assert_allclose(counts, np.round(counts), atol=1e-9)
    assert (own["lower"] <= own["upper"]).all()
    assert (own["lower"] < own["fit"]).all()
    one = fit.predict(data[["period", "herd"]], interval="prediction")
    assert set(one["lower"]) | set(one["upper"]) == {0.0, 1.0}
    more = fit.predict(data.assign(incidence=0, size=10_000), interval="prediction")
    sure = fit.predict(data, interval="confidence")
    np.testing.assert_allclose(more[["lower", "upper"]], sure[["lower", "upper"]], atol=0.01)
    shares = data.assign(share=data["incidence"] / data["size"])
    weighted = glmer("share ~ period + (1 | herd)", shares, family="binomial", weights="size")
    np.testing.assert_allclose(weighted.predict(data, interval="prediction"), own, rtol=1e-6)


def test_a_population_prediction_has_all_variances_in_it():
    fit = generalized("three factors")
    data = frame("grouseticks").head(30)
    population = fit.predict(data, re_form="~0", interval="prediction")
    unseen = data.assign(BROOD="new", INDEX="new", LOCATION="new")
    all_new = fit.predict(unseen, new_levels="population", interval="prediction")
    ends = ["lower", "upper"]
    np.testing.assert_array_equal(population[ends], all_new[ends])
    average = fit.predict(data, population_averaged=True, interval="prediction")
    np.testing.assert_array_equal(average[ends], all_new[ends])
    assert (population["upper"] > fit.predict(data, interval="prediction")["upper"]).mean() > 0.8


def test_a_new_response_is_none_on_the_scale_of_the_link():
    with pytest.raises(ValueError, match="not on the scale of the link; use type='response'"):
        generalized("scalar").predict(type="link", interval="prediction")


def test_a_users_family_has_no_distribution_function():
    family = UserFamily("counts", "log", variance=np.abs, log_density=stats.poisson.logpmf)
    data = frame("grouseticks")
    fit = glmer("TICKS ~ YEAR + (1 | BROOD)", data, family=family)
    with pytest.raises(ValueError, match="distribution function, which is not known for counts"):
        fit.predict(interval="prediction")
    plain = glmer("TICKS ~ YEAR + (1 | BROOD)", data, family="poisson")
    ours, theirs = (m.predict(interval="confidence") for m in (fit, plain))
    np.testing.assert_allclose(ours, theirs, rtol=1e-5)


# Population averages

AVERAGED = [c["id"] for c in cases("predict_se.json") if "average" in c]


@pytest.mark.parametrize("name", AVERAGED)
def test_population_averages_are_rs_integrals(name):
    ours = fit_of(name).predict(rows_of(name), population_averaged=True)
    # At glmmTMB's estimates, 3e-5 from ours.
    np.testing.assert_allclose(ours, case("predict_se.json", name)["average"], rtol=5e-5)


@pytest.mark.parametrize("variance", [0.0, 0.3, 4.0, 60.0])
@pytest.mark.parametrize(
    "family",
    ["binomial", "binomial(probit)", "binomial(cloglog)", "binomial(cauchit)", "poisson",
     "poisson(sqrt)", "gaussian(identity)", "gaussian(log)"],
)  # fmt: skip
def test_averages_and_their_derivatives_are_integrals(family, variance):
    family = make_family(family)
    link, eta, sd = family.link, np.array([-2.0, 0.3, 2.5]), np.sqrt(variance)

    def integral(function, e):
        def at(z):
            return float(function(np.array(e + sd * z))) * np.exp(-z * z / 2) / np.sqrt(2 * np.pi)

        # The integrand of exp has its middle at sd; tails are below rounding.
        ends = (-9.0, 9.0 + (sd if link.name == "log" else 0.0))
        breaks = [x for x in ((-e / sd if sd else 0.0), sd) if ends[0] < x < ends[1]]
        return integrate.quad(at, *ends, points=breaks, limit=1000, epsabs=1e-14, epsrel=1e-12)[0]

    ours = averaged_mean(family, eta, np.full(3, variance))
    parts = [(ours.mean, link.inverse), (ours.by_eta, link.d_inverse)]
    for got, function in [*parts, (2.0 * ours.by_variance, link.d2_inverse)]:
        expected = [integral(function, e) for e in eta]
        # cauchit has its poles at +-i: its rule is the one that is not at rounding.
        size = np.abs(expected).max() + 1e-3
        np.testing.assert_allclose(got / size, expected / size, rtol=0, atol=1e-6)


@pytest.mark.parametrize("name", ["scalar", "expected information", "vector, dispersion", "shape"])
def test_standard_errors_of_averages_are_the_delta_methods(name):
    # By differences of the averages over all parameters of the search.
    fit = generalized(name)
    frozen, criterion = fit._fit, fit._fit.criterion()
    Z = [t.z[:25] for t in frozen.terms]
    offset = 0.0 if frozen.frame.offset is None else frozen.frame.offset[:25]

    def average(point):
        e = criterion.estimates(point)
        v = sum(((z @ lam) ** 2).sum(axis=1) for z, lam in zip(Z, e.lams, strict=True))
        return averaged_mean(frozen.family, frozen.X[:25] @ e.beta + offset, v).mean

    steps = 1e-4 * criterion.scale(frozen.point)
    J = np.array(
        [(average(frozen.point + h) - average(frozen.point - h)) / (2 * h.max())
         for h in np.diag(steps)]
    )  # fmt: skip
    expected = np.sqrt(np.einsum("an,ab,bn->n", J, 2 * np.linalg.inv(frozen.hessian), J))
    ours = fit.predict(population_averaged=True, se_fit=True).head(25)
    np.testing.assert_allclose(ours["fit"], average(frozen.point), rtol=1e-12)
    np.testing.assert_allclose(ours["se_fit"], expected, rtol=1e-5)


def test_an_average_on_the_scale_of_the_link():
    fit = generalized("scalar")
    link, mean = (
        fit.predict(population_averaged=True, type=type, interval="confidence")
        for type in ("link", "response")
    )
    family = fit._fit.family
    for column in ("fit", "lower", "upper"):
        np.testing.assert_allclose(family.link.inverse(link[column].to_numpy()), mean[column])
    only = fit.predict(population_averaged=True, type="link")
    np.testing.assert_allclose(only, link["fit"], rtol=1e-13)
    # Averages are closer to one half than the mean of an average herd.
    assert (mean["fit"] > fit.predict(re_form="~0")).all()


def test_in_a_linear_model_the_average_is_the_population():
    fit = linear("crossed")
    for arguments in ({}, {"interval": "confidence"}, {"interval": "prediction"}):
        ours = fit.predict(population_averaged=True, **arguments)
        np.testing.assert_array_equal(ours, fit.predict(re_form="~0", **arguments))


def test_an_average_needs_no_groups():
    out = generalized("scalar").predict({"period": ["1", "4"]}, population_averaged=True)
    assert out.shape == (2,)


def test_an_average_over_some_random_effects_is_refused():
    with pytest.raises(FormulaError, match=r"re_form is '~ \(1 \| herd\)' beside"):
        generalized("scalar").predict(re_form="~ (1 | herd)", population_averaged=True)


def test_no_average_where_the_predictor_leaves_the_links_domain():
    data = frame("glmm_scale")
    fit = glmer("ginv ~ x + (1 | g)", data, family="Gamma(inverse)")
    with pytest.raises(ValueError, match="no population average with the inverse link"):
        fit.predict({"x": [-2.5]}, population_averaged=True)
