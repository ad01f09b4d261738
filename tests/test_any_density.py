"""Families of any density: against glmmTMB, against brute force, and in every method of inference.

The families are those of the registry: one that is added is tested here without a word.
"""

import warnings
from functools import cache

import numpy as np
import pandas as pd
import pytest
from reference_data import cases, frame
from scipy import integrate, optimize, stats
from simulated_glmm import assert_slopes

from mixef import Beta, BetaBinomial, Binomial, NegativeBinomial1, Poisson, StudentT, anova, glmer
from mixef.control import GlmerControl
from mixef.errors import ArgumentError, ConvergenceWarning, DataError
from mixef.families.convert import make_family
from mixef.families.density import DensityFamily
from mixef.families.differences import derivative
from mixef.families.standard import FAMILIES
from mixef.functions.simulate_from import simulate_from

CLASSES = list(dict.fromkeys(FAMILIES.values()))
DENSITIES = [cls for cls in CLASSES if issubclass(cls, DensityFamily)]
EXTRA = {"beta": {"phi": 6.0}, "betabinomial": {"phi": 4.0}, "nbinom1": {"phi": 1.5},
         "t": {"scale": 0.5, "df": 4.0}, "Negative Binomial": {"shape": 2.0}}  # fmt: skip
LINKS = {
    "beta": ["logit", "probit", "cloglog", "cauchit"],
    "betabinomial": ["logit", "probit", "cloglog", "cauchit"],
    "nbinom1": ["log", "sqrt"],
    "t": ["identity", "log", "inverse"],
}
STRUCTURES = ["(1 | g)", "(x | g)", "(x | g) + (1 | h)"]
by_density = pytest.mark.parametrize("cls", DENSITIES, ids=lambda cls: cls.__name__)
by_family = pytest.mark.parametrize("cls", CLASSES, ids=lambda cls: cls.__name__)
TMB = {c["id"]: c for c in cases("any_density.json")}


def own_values(family):
    """Values of the family's auxiliary parameters."""
    values = {a.name: 0.3 for a in family.auxiliary}
    return values | EXTRA.get(family.name.split("(")[0], {})


def response_of(family):
    return "cbind(k, f)" if family.has_trials else "y"


@cache
def _rows(cls, link, n, seed):
    rng = np.random.default_rng(seed)
    data = pd.DataFrame({"x": rng.uniform(-1, 1, n), "g": rng.integers(0, 9, n)})
    data["h"], data["w"] = rng.integers(0, 6, n), rng.integers(1, 4, n)
    data["size"], data["e"] = rng.integers(2, 9, n), rng.uniform(-0.3, 0.3, n)
    family = cls() if link is None else cls(link=link)
    far = family.link.name in ("inverse", "1/mu^2", "sqrt")  # of which the domain has an end
    centre, size = (2.0, 0.2) if far and not family.has_trials and cls is not Beta else (0.3, 0.5)
    own = own_values(family)
    if family.name == "gaussian" and family.is_canonical:  # the parameters of a linear model
        own = {"sigma": 0.5}
    truth = {"beta": [centre, 0.5 * size], "sd": {"g": size, "h": 0.5 * size}, **own}
    weights = "size" if family.has_trials else None
    y = simulate_from("y ~ x + (1 | g) + (1 | h)", data, truth, family, seed=seed, weights=weights)
    data["y"] = y.iloc[:, 0]
    data["k"] = np.rint(data["y"] * data["size"])
    data["f"] = data["size"] - data["k"]
    return data


def rows(cls, link=None, n=120, seed=4):
    return _rows(cls, link, n, seed).copy()


def fitted(cls, structure="(1 | g)", link=None, n=120, seed=4, **options):
    family = cls() if link is None else cls(link=link)
    options.setdefault("control", GlmerControl(check_conv_singular="ignore",
                                               check_laplace="ignore"))  # fmt: skip
    data = rows(cls, link, n, seed)
    return glmer(f"{response_of(family)} ~ x + {structure}", data, family, **options)


# ---------------------------------------------------------------------------- the densities


def density(family, extra):
    """scipy's log density of a row."""
    if family.name == "beta":
        return lambda y, mu, n: stats.beta.logpdf(y, mu * extra, (1 - mu) * extra)
    if family.name == "betabinomial":
        return lambda y, mu, n: stats.betabinom.logpmf(
            np.rint(n * y), n.astype(int), mu * extra, (1 - mu) * extra
        )
    if family.name == "nbinom1":
        return lambda y, mu, n: stats.nbinom.logpmf(y, mu / extra, 1 / (1 + extra))
    return lambda y, mu, n: stats.t.logpdf(y, extra[1], mu, extra[0])


CASES = {
    "beta": ([0.02, 0.4, 0.97], [0.1, 0.5, 0.8], [0.3, 6.0, 400.0]),
    "betabinomial": ([0.0, 0.25, 1.0], [0.1, 0.5, 0.8], [0.3, 6.0, 400.0]),
    "nbinom1": ([0.0, 3.0, 40.0], [0.3, 4.0, 30.0], [0.01, 1.5, 30.0]),
    "t": ([-2.0, 0.3, 6.0], [0.1, -0.5, 2.0], [(0.4, 1.5), (2.0, 6.0), (1.0, 300.0)]),
}


@by_density
def test_densities_are_scipys_and_their_derivatives_follow(cls):
    family = cls()
    ys, mus, extras = CASES[family.name]
    y, mu = (np.ravel(v) for v in np.meshgrid(ys, mus))
    n = np.full(len(y), 8.0)
    for extra in extras:
        ours = family.derivatives(y, mu, n, extra, 4)
        np.testing.assert_allclose(ours[0], density(family, extra)(y, mu, n), rtol=1e-9, atol=1e-9)
        at = np.array(family.coordinates(extra))
        near = 0.5 * np.minimum(mu, 1 - mu) if family.mean_range[1] == 1 else 0.3 * np.abs(mu)
        for by in [(), *((a,) for a in range(len(at)))]:
            got = family.derivatives(y, mu, n, extra, 4 - len(by), *by)
            for k in range(1, len(got)):  # each from the one before it
                expected = derivative(
                    lambda m, k=k, by=by, x=extra: family.derivatives(y, m, n, x, k, *by)[k - 1],
                    mu, scale=near,
                )  # fmt: skip
                size = np.abs(expected).max()
                np.testing.assert_allclose(got[k], expected, rtol=1e-7, atol=1e-9 * size)
        for a in range(len(at)):
            for by in [(), *((b,) for b in range(a + 1))]:
                order = 3 - len(by)
                got = family.derivatives(y, mu, n, extra, order, *by, a)
                for k in range(order + 1):

                    def along(t, a=a, by=by, k=k, at=at, extra=extra):
                        moved = family.extra_at(np.where(np.arange(len(at)) == a, t, at))
                        rows = family.derivatives(y, mu, n, moved, k, *by)[k]
                        return np.broadcast_to(rows, y.shape)

                    step = 1e-3
                    ends = [along(at[a] + j * step) for j in (-2, -1, 1, 2)]
                    expected = (ends[0] - 8 * ends[1] + 8 * ends[2] - ends[3]) / (12 * step)
                    size = np.abs(expected).max() + np.abs(ends[0]).max()
                    # the rule's error is step^4 of a fifth derivative over 30, and rounding
                    np.testing.assert_allclose(got[k], expected, rtol=1e-6, atol=1e-9 * size)


@by_density
def test_variance_draws_and_distribution_go_together(cls):
    family = cls()
    extra = family.extra_at(np.log(list(own_values(family).values())))
    mu, n = 0.4, 6.0
    rng = np.random.default_rng(2)
    w = np.array(n if family.has_trials else 1.0)
    y = family.random(rng, np.full((2, 50_000), mu), np.full(2, w), extra)
    spread = float(family.spread(np.array(mu), w, extra))
    if family.name == "t":
        spread *= np.sqrt(extra[1] / (extra[1] - 2))
    # Five standard errors of the mean; the variance of a t with four degrees has no error.
    assert abs(y.mean() - mu) < 5 * spread / np.sqrt(y.size)
    if family.name != "t":
        assert y.std() == pytest.approx(spread, rel=0.03)
    for q in (0.2, 0.5, 0.9):
        at = np.quantile(y, q)
        share = (y <= at + 1e-12).mean()
        ours = family.cdf(np.array([[at]]), np.array([[mu]]), np.array([[float(w)]]), extra)
        assert float(np.ravel(ours)[0]) == pytest.approx(share, abs=0.01)


# ---------------------------------------------------------------------------- glmmTMB


@pytest.mark.parametrize("key", TMB)
def test_fits_are_those_of_glmmtmb(key):
    case = TMB[key]
    fit = glmer(case["formula"], frame("any_density"), case["family"], weights=case.get("weights"))
    assert fit.converged
    # Both are at the optimum of the same criterion, of which a search leaves 1e-8 or less.
    assert -2 * fit.loglik == pytest.approx(case["m2ll"], abs=1e-6)
    np.testing.assert_allclose(fit.fixef(), case["beta"], rtol=1e-5, atol=1e-6)
    # glmmTMB's Hessian is by differences of its gradient.
    np.testing.assert_allclose(np.sqrt(np.diag(fit.vcov())), case["se"], rtol=2e-5)
    np.testing.assert_allclose(np.log(fit.auxiliary), case["logs"], atol=1e-5)
    own = fit.tidy().query("effect == 'family'")
    assert list(own["term"]) == list(fit.auxiliary.index)
    np.testing.assert_allclose(own["std_error"] / own["estimate"], case["se_logs"], rtol=2e-5)
    table = fit.VarCorr().to_frame()
    sds = table["sdcor"][table["var1"].map(lambda v: isinstance(v, str)) & table["var2"].isna()]
    np.testing.assert_allclose(sorted(sds), sorted(np.atleast_1d(case["sds"])), rtol=1e-4)


# ---------------------------------------------------------------------------- brute force


@by_density
def test_the_likelihood_is_that_of_brute_force(cls):
    family, data = cls(), rows(cls, n=60)
    fit = fitted(cls, n=60, nAGQ=25)
    extra, sd = fit._fit.extra, float(np.sqrt(fit.VarCorr()["g"].to_numpy()[0, 0]))
    eta = fit._fit.fixed_predictor
    row = density(family, extra)
    y = (data["k"] / data["size"] if family.has_trials else data["y"]).to_numpy()
    n, g = data["size"].to_numpy(), data["g"].to_numpy()
    total = 0.0
    for level in np.unique(g):
        here = g == level

        def joint(b, here=here):
            mu = family.link.inverse(eta[here] + b)
            return row(y[here], mu, n[here]).sum() + stats.norm.logpdf(b, 0, sd)

        top = optimize.minimize_scalar(lambda b: -joint(b)).x
        peak = joint(top)
        found = integrate.quad(
            lambda b, peak=peak, joint=joint: np.exp(joint(b) - peak),
            top - 8 * sd, top + 8 * sd, epsabs=1e-13, epsrel=1e-11, points=[top],
        )  # fmt: skip
        total += peak + np.log(found[0])
    # 25 nodes integrate a smooth integrand to 1e-8 or so.
    assert fit.loglik == pytest.approx(total, abs=1e-6)


LINKED = [(cls, link) for cls in DENSITIES for link in LINKS[cls.name]]


@pytest.mark.parametrize("structure", STRUCTURES)
@pytest.mark.parametrize(("cls", "link"), LINKED)
def test_gradient_and_hessian_under_every_link(cls, link, structure):
    fit = fitted(cls, structure, link)._fit
    criterion = fit.criterion()
    rng = np.random.default_rng(1)
    point = fit.point + 0.05 * rng.normal(size=len(fit.point)) * criterion.scale(fit.point)
    assert np.isfinite(criterion.value(point))
    gradient, information = criterion.derivatives()
    gradient = gradient.copy()
    exact = information if criterion.knows_hessian else criterion.sharper()
    exact = exact.copy()
    scale = criterion.scale(point)
    # Differences of values that round to 1e-13 of some hundreds.
    assert_slopes(criterion.value, gradient, point, scale, 1e-3, 1e-6)

    def gradient_at(x):
        criterion.value(x)
        return criterion.derivatives()[0].copy()

    # Differences of a gradient that rounds to 1e-9 of its largest part.
    assert_slopes(gradient_at, exact, point, scale, 1e-4, 1e-5)


@by_density
def test_gradient_with_quadrature(cls):
    fit = fitted(cls, "(x | g)", nAGQ=5)._fit
    criterion, rng = fit.criterion(), np.random.default_rng(1)
    point = fit.point + 0.05 * rng.normal(size=len(fit.point)) * criterion.scale(fit.point)
    criterion.value(point)
    gradient = criterion.derivatives()[0].copy()
    slopes = []
    for e in np.diag(1e-3 * criterion.scale(point)):
        f = [criterion.value(point + j * e) for j in (-3, -2, -1, 1, 2, 3)]
        slopes.append((f[5] - f[0] - 9 * (f[4] - f[1]) + 45 * (f[3] - f[2])) / (60 * e.max()))
    np.testing.assert_allclose(gradient, slopes, rtol=1e-6, atol=1e-6 * np.abs(gradient).max())


# ---------------------------------------------------------------------------- weights


@by_density
def test_weights_are_copies(cls):
    family, data = cls(), rows(cls, n=80)
    formula = f"{response_of(family)} ~ x + offset(e) + (x | g)"
    weighted = glmer(formula, data, family, weights="w")
    copied = glmer(formula, data.loc[data.index.repeat(data["w"])], family)
    assert weighted.loglik == pytest.approx(copied.loglik, abs=1e-7)
    np.testing.assert_allclose(weighted.fixef(), copied.fixef(), rtol=1e-5, atol=1e-6)
    np.testing.assert_allclose(weighted.auxiliary, copied.auxiliary, rtol=1e-4)
    np.testing.assert_allclose(weighted.vcov(), copied.vcov(), rtol=1e-4, atol=1e-8)


def test_trials_as_weights_are_those_of_counts():
    data = rows(BetaBinomial).assign(share=lambda d: d["k"] / d["size"])
    counts = glmer("cbind(k, f) ~ x + (1 | g)", data, "betabinomial")
    shares = glmer("share ~ x + (1 | g)", data, "betabinomial", weights="size")
    assert counts.loglik == pytest.approx(shares.loglik, abs=1e-9)


# ---------------------------------------------------------------------------- every method


@by_family
def test_every_method_takes_every_family(cls):
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        fit = fitted(cls, "(1 | g)", **({"link": "log"} if cls().link.name in
                                        ("inverse", "1/mu^2") else {}))  # fmt: skip
    family, names = fit.family, [a.name for a in fit.family.auxiliary]
    assert fit.converged
    assert list(fit.auxiliary.index) == names
    shown = ["sigma"] if family.has_dispersion else names
    parameters = ["sd_(Intercept)|g", *shown, "(Intercept)", "x"]
    for name in ("summary", "tidy", "glance", "augment", "ranef", "VarCorr"):
        assert str(getattr(fit, name)())
    for kind in ("response", "pearson", "deviance", "working"):
        values = fit.residuals(kind)
        assert np.isfinite(values).all(), kind
    assert fit.deviance == pytest.approx(float((fit.residuals("deviance") ** 2).sum()))
    assert list(fit.vcov(full=True).index)[-len(names) or None :][: len(names)] == [
        a.label for a in family.auxiliary
    ]
    wald = fit.confint(method="wald")
    profile = fit.confint(["theta_", "x"], method="profile")
    assert list(wald.index) == parameters
    assert list(profile.index) == [*parameters[:-2], "x"]
    estimates = pd.concat([pd.Series(fit.auxiliary.to_numpy(), shown, dtype=float)])
    for name in shown:
        value = float(estimates[name]) ** (0.5 if family.has_dispersion else 1.0)
        assert wald.loc[name].iloc[0] < value < wald.loc[name].iloc[1]
        low, high = profile.loc[name]
        assert low < value
        assert not high < value
    draws = fit.bootstrap(2, seed=1)
    assert list(draws.t0.index) == parameters
    new = fit.simulate(2, seed=1, new_params=own_values(family) if names else None)
    assert new.notna().all().all()
    data = rows(cls, "log" if cls().link.name in ("inverse", "1/mu^2") else None)
    bands = fit.predict(data.head(5), interval="prediction")
    assert (bands["lower"] <= bands["fit"]).all()
    assert (bands["fit"] <= bands["upper"]).all()
    again = fit.update(start={"par": fit.par, "beta": fit.beta, **fit.auxiliary.to_dict()})
    assert again.loglik == pytest.approx(fit.loglik, abs=1e-6)
    smaller = fit.update(". ~ . - x")
    table = anova(fit, smaller)
    assert len(table.to_frame()) == 2


@by_density
def test_the_profile_of_a_parameter_is_that_of_refits(cls):
    fit = fitted(cls)
    name = fit.family.auxiliary[0].name
    low = float(fit.confint(name).iloc[0, 0])
    held = fit._fit.criterion()
    place = len(fit._fit.point) - len(fit.family.auxiliary)

    def others(values):
        return held.value(np.insert(values, place, np.log(low)))

    start = np.delete(fit._fit.point, place)
    found = optimize.minimize(others, start, method="Nelder-Mead",
                              options={"xatol": 1e-7, "fatol": 1e-10, "maxiter": 4000})  # fmt: skip
    assert found.fun - fit.objective == pytest.approx(stats.chi2.ppf(0.95, 1), abs=1e-3)


def test_deviances_are_from_the_best_mean():
    fit = fitted(Beta)
    family, extra = fit.family, fit._fit.extra
    y = rows(Beta)["y"].to_numpy()[:5]
    best = family.best_mean(y, np.ones(5), extra)
    for value, mean in zip(y, best, strict=True):
        found = optimize.minimize_scalar(
            lambda m, v=value: -stats.beta.logpdf(v, m * extra, (1 - m) * extra),
            bounds=(1e-9, 1 - 1e-9), method="bounded", options={"xatol": 1e-10},
        )  # fmt: skip
        assert mean == pytest.approx(found.x, abs=1e-6)
    assert (fit.residuals("deviance") ** 2).sum() == pytest.approx(fit.deviance)


# ---------------------------------------------------------------------------- messages


@pytest.mark.parametrize("value", [0.0, 1.0, 1.5, -0.1])
def test_a_beta_response_is_strictly_inside(value):
    data = rows(Beta)
    data.loc[3, "y"] = value
    with pytest.raises(DataError, match=r"y of a beta model has the value .* in row 3 .*strictly"):
        glmer("y ~ x + (1 | g)", data, "beta")


def test_a_betabinomial_response_needs_trials():
    data = rows(BetaBinomial).assign(hit=lambda d: (d["k"] > 1).astype(float))
    with pytest.raises(DataError, match=r"single trials alone.*family='binomial'"):
        glmer("hit ~ x + (1 | g)", data, "betabinomial")


def test_expected_information_is_refused():
    control = GlmerControl(information="expected")
    with pytest.raises(ArgumentError, match="not there for the t family"):
        glmer("y ~ x + (1 | g)", rows(StudentT), "t", control=control)


@pytest.mark.parametrize(
    ("cls", "plain", "message"),
    [
        (NegativeBinomial1, "poisson", "family='poisson'"),
        (BetaBinomial, "binomial", "family='binomial'"),
        (StudentT, "gaussian", "normal"),
    ],
)
def test_parameters_that_go_to_their_limit_are_told_of(cls, plain, message):
    family = make_family(plain)
    data = rows(cls)
    truth = {"beta": [0.3, 0.3], "sd": {"g": 0.5}} | ({"sigma": 0.3} if plain == "gaussian" else {})
    trials = "size" if family.has_trials else None
    for seed in range(20):
        y = simulate_from("y ~ x + (1 | g)", data, truth, family, seed=seed, weights=trials)
        data["y"] = y.iloc[:, 0]
        data["k"] = np.rint(data["y"] * data["size"])
        data["f"] = data["size"] - data["k"]
        with warnings.catch_warnings(record=True) as caught:
            warnings.simplefilter("always")
            fit = glmer(f"{response_of(family)} ~ x + (1 | g)", data, cls)
        if any(message in str(w.message) for w in caught):
            break
    else:
        pytest.fail("no response is less dispersed than its family")
    limit = glmer(f"{response_of(family)} ~ x + (1 | g)", data, plain)
    # There the one likelihood is the other.
    assert fit.loglik == pytest.approx(limit.loglik, abs=0.02)
    assert issubclass(caught[0].category, ConvergenceWarning)


def test_copies_of_trials_are_not_drawn():
    fit = glmer("cbind(k, f) ~ x + (1 | g)", rows(BetaBinomial), "betabinomial", weights="w")
    with pytest.raises(DataError, match="a row of its own"):
        fit.simulate(1, seed=1)


def test_starts_and_new_parameters_have_names():
    data = rows(StudentT)
    fit = glmer("y ~ x + (1 | g)", data, "t", start={"scale": 2.0, "df": 30.0})
    assert fit.loglik == pytest.approx(fitted(StudentT).loglik, abs=1e-6)
    with pytest.raises(DataError, match="start has df = -1; expected a positive number"):
        glmer("y ~ x + (1 | g)", data, "t", start={"df": -1.0})
    with pytest.raises(DataError, match="phi"):
        fit.simulate(1, new_params={"phi": 2.0})


def test_the_usual_families_are_the_limits():
    assert isinstance(make_family("nbinom1(sqrt)"), NegativeBinomial1)
    assert isinstance(make_family("beta(probit)"), Beta)
    y, mu, n = np.array([0.0, 2.0]), np.array([0.5, 1.5]), np.array([1.0, 1.0])
    near = NegativeBinomial1().derivatives(y, mu, n, 1e-8, 0)[0]
    # The first order of the gap is phi.
    np.testing.assert_allclose(near, Poisson().log_density(y, np.log(mu), mu), atol=1e-7)
    share, p, trials = np.array([0.25, 1.0]), np.array([0.3, 0.8]), np.array([8.0, 4.0])
    near = BetaBinomial().derivatives(share, p, trials, 1e9, 0)[0]
    logit = np.log(p / (1 - p))
    np.testing.assert_allclose(near, Binomial().log_density(share, logit, p, trials), atol=1e-7)
