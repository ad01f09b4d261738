"""Likelihood profiles against lme4, against R's constrained minima, and against themselves."""

import warnings

import numpy as np
import pandas as pd
import pytest
import scipy
from reference_data import case, cases, frame

import mixef
from mixef import glmer, glmer_nb, lmer, load_dataset
from mixef.control import GlmerControl, LmerControl
from mixef.errors import ConvergenceWarning
from mixef.estimation.generalized.pirls import conditional_mode
from mixef.estimation.profile.constrained import HeldMinimum
from mixef.inference.intervals.curves import coordinate, parameter
from mixef.inference.intervals.named import named_parameters
from mixef.inference.intervals.profile import interval_curves

QUIET = {"check_conv_singular": "ignore", "check_conv_hess": "ignore", "check_conv_grad": "ignore"}
LMM = LmerControl(**QUIET)
GLMM = GlmerControl(**QUIET, check_separation="ignore")
CASES = [c["id"] for c in cases("profile.json")]
Z95 = 1.959963984540054


@pytest.fixture(autouse=True)
def _no_warning():
    """Profiles are quiet, also at bounds."""
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        yield


def fitted(entry):
    data = frame(entry["data"])
    if entry["family"]:
        return glmer(entry["formula"], data, entry["family"], control=GLMM)
    return lmer(entry["formula"], data, False, weights=entry["weights"], control=LMM)


@pytest.fixture(scope="module")
def fits():
    return {c["id"]: fitted(c) for c in cases("profile.json")}


def named(fit, name):
    return next(p for p in named_parameters(fit) if p.name == name)


def solved(fit, name, value):
    """The constrained minimum at one value, searched from the estimate."""
    which = named(fit, name)
    piece = HeldMinimum(fit, which.focus)
    return piece.solve(float(coordinate(which.kind, value)), piece.origin.free)


HELD = [(c["id"], h["name"], h["value"]) for c in cases("profile.json") for h in c["held"]]


@pytest.mark.parametrize(("key", "name", "value"), HELD)
def test_constrained_minimum_is_that_of_R(fits, key, name, value):
    entry = case("profile.json", key)
    held = next(h for h in entry["held"] if (h["name"], h["value"]) == (name, value))
    found = solved(fits[key]._fit, name, value).deviance
    # searches without gradients end at most some 1e-7 above the minimum; lme4's PIRLS stops up to
    # 4e-6 above the deviance at the same parameters (Contraception at age 0.02), even at its
    # tightest
    assert found == pytest.approx(held["deviance"], abs=5e-6 if entry["family"] else 1e-6)
    assert found < held["deviance"] + 2e-8


@pytest.mark.parametrize("key", [c["id"] for c in cases("profile.json") if c["limits"]])
def test_limits_are_those_of_lme4(fits, key):
    """lme4's are interpolated between points of a search that stops early.

    lme4 1.1-31 leaves weights out where it profiles a coefficient; the constrained minima above
    are checked with weights.
    """
    profile = fits[key].profile("theta_" if key == "sleep_weighted" else None)
    found = profile.confint()
    for row in case("profile.json", key)["limits"]:
        if row["name"] not in found.index:
            continue
        low, high = found.loc[row["name"]]
        width = high - low
        if row["lower"] is not None:
            assert low == pytest.approx(row["lower"], abs=3e-4 * width)
        assert high == pytest.approx(row["upper"], abs=3e-4 * width)


# Rows 5, 6, 15, 16, 35 and 53 of the reference numbers: what lme4's tests and help pages print, at
# lme4's precision (see above; row 16 is from a profile of 8 points)
PRINTED = [
    ("dyestuff", 1, "natural", [12.19854, 38.22998, 1486.451500], [84.06305, 67.6577, 1568.548494]),
    ("dyestuff", 0.3, "log", [None, 3.64362, None], [None, 4.21446, None]),
    (
        "sleep",
        0.3,
        "natural",
        [14.38138, 3.801164, -0.4815007, 22.898266, 237.680695, 7.358653],
        [37.71583, 8.753383, 0.6849863, 28.857997, 265.129515, 13.575919],
    ),
    (
        "sleep_diag",
        1,
        "natural",
        [15.25847, 3.964157, 22.88062, 237.5732, 7.33431],
        [37.78184, 8.768238, 28.78768, 265.2383, 13.60057],
    ),
    (
        "penicillin",
        0.3,
        "log",
        [np.log(0.633565787613112), np.log(1.09578224011285), -0.721864513060904, 21.2666273835452],
        [np.log(1.1821039843372), np.log(3.55631937954106), -0.462903300019305, 24.6778176174587],
    ),
    (
        "cbpp",
        0.3,
        "natural",
        [0.346070497, -1.901189, -1.616854, -1.801090, -2.500838],
        [1.099888741, -0.947768, -0.407710, -0.511486, -0.800687],
    ),
]


@pytest.mark.parametrize(("key", "loose", "scale", "low", "high"), PRINTED)
def test_limits_that_lme4_prints(fits, key, loose, scale, low, high):
    profile = fits[key].profile()
    found = (profile.log() if scale == "log" else profile).confint().to_numpy()
    width = found[:, 1] - found[:, 0]
    for place, printed in ((0, low), (1, high)):
        known = np.array([np.nan if x is None else x for x in printed])
        off = np.abs(found[:, place] - known) / width
        assert np.nanmax(off) < 1e-3 * loose


# Brute force: sleepstudy's likelihood written out, minimized over everything else


REACTION = load_dataset("sleepstudy")["Reaction"].to_numpy().reshape(18, 10)


@pytest.fixture(scope="module")
def sleep_limits(fits):
    return fits["sleep"].confint()


def sleep_deviance(v, beta):
    """-2 log L for SDs, arc sine of the correlation, log sigma, and beta."""
    days = np.arange(10.0)
    Z = np.column_stack([np.ones(10), days])
    s1, s2, phi, log_sigma = v
    c = s1 * s2 * np.sin(phi)
    V = Z @ np.array([[s1**2, c], [c, s2**2]]) @ Z.T + np.exp(2 * log_sigma) * np.eye(10)
    rest = REACTION - Z @ beta
    return 18 * np.linalg.slogdet(2 * np.pi * V)[1] + np.sum(rest * np.linalg.solve(V, rest.T).T)


@pytest.mark.parametrize("place", range(6))
@pytest.mark.parametrize("side", ["lower", "upper"])
def test_limits_solve_the_likelihood_ratio(fits, sleep_limits, place, side):
    fit = fits["sleep"]
    limit = sleep_limits.iloc[place, 0 if side == "lower" else 1]
    best = np.concatenate(
        [[24.7, 5.7, 0.08, np.log(fit.sigma)], fit.beta]
    )  # near the estimate; only a start
    value = np.arcsin(limit) if place == 2 else np.log(limit) if place == 3 else limit

    def held(free):
        x = np.insert(free, place, value)
        return sleep_deviance(x[:4], x[4:])

    start = np.delete(best, place)
    for _ in range(3):  # restarts make up for differences of finite precision
        start = scipy.optimize.minimize(held, start, method="BFGS", options={"gtol": 1e-7}).x
    # a deviance off by e puts zeta off by e / (2 zeta): 1e-7 here is 3e-8 of a standard error
    assert held(start) - fit.objective == pytest.approx(Z95**2, abs=1e-7)


# The path itself

FORMULAS = {
    "us": "Reaction ~ Days + (Days | Subject)",
    "diag": "Reaction ~ Days + (Days || Subject)",
    "hom": "Reaction ~ 0 + Days + diag(Days | Subject, hom=TRUE)",
    "three": "Reaction ~ Days + (Days + I(Days^2) | Subject)",
    "crossed": "Reaction ~ 1 + (1 | Subject) + (1 | Day)",
    "no_x": "Reaction ~ 0 + (1 | Subject)",
}


@pytest.fixture(scope="module", params=FORMULAS)
def linear(request):
    data = load_dataset("sleepstudy").assign(Day=lambda d: d.Days.astype(str))
    return lmer(FORMULAS[request.param], data, REML=False, control=LMM)


def test_zeta_rises_through_the_estimate(linear):
    profile = linear.profile()
    table = profile.to_frame()
    for curve in profile.curves:
        assert (np.diff(curve.zeta) > 0).all()
        rows = table[table["param"] == curve.name]
        assert (rows["value"].to_numpy() == rows[curve.name].to_numpy()).all()
        estimate = profile.estimates[profile.names.index(curve.name)]
        assert profile.zeta(curve.name, estimate) == pytest.approx(0.0, abs=1e-6)
        for end, zeta in zip(curve.ends, (-curve.zeta[0], curve.zeta[-1]), strict=True):
            assert end == "bound" or zeta >= profile.cutoff


def test_slopes_are_those_of_the_deviance(linear):
    """The slope is a partial derivative; differences along the constrained minima give it too."""
    for curve in linear.profile().curves:
        place = len(curve.at) - 3
        which = named(linear._fit, curve.name)
        piece, where = HeldMinimum(linear._fit, which.focus), curve.at
        step = 1e-3 / curve.slope[place]
        free = piece.solve(where[place], piece.origin.free).free
        ends = [piece.solve(where[place] + h, free).deviance for h in (-step, step)]
        numeric = (ends[1] - ends[0]) / (2 * step) / (2 * curve.zeta[place])
        # a difference of 1e-3 standard errors leaves 1e-6 of the third derivative
        assert curve.slope[place] == pytest.approx(numeric, rel=1e-5)


def test_interpolation_between_points(linear):
    """Zeta between the points is that of the constrained minimum there."""
    profile = linear.profile()
    d_min = linear.objective
    for curve in profile.curves:
        points = curve.at
        inner = np.flatnonzero(np.diff(points) > 0.5 * np.diff(points).max())
        at = 0.5 * (points[inner[::4]] + points[inner[::4] + 1])
        for middle, value in zip(at, parameter(curve.kind, at), strict=True):
            deviance = solved(linear._fit, curve.name, value).deviance
            zeta = np.sign(profile.zeta(curve.name, value)) * np.sqrt(max(deviance - d_min, 0.0))
            assert curve.zeta_at(middle) == pytest.approx(zeta, abs=5e-4)


def test_value_and_zeta_are_inverse(fits):
    profile = fits["sleep"].profile()
    zeta = np.linspace(-2.5, 2.5, 11)
    for name in profile.names:
        assert profile.zeta(name, profile.value(name, zeta)) == pytest.approx(zeta, abs=1e-10)
    assert np.isnan(profile.zeta("sigma", [-1.0, 0.0, 1e3])).all()
    assert np.isnan(profile.value("sigma", 9.0))


def test_beta_of_an_ordinary_model_in_closed_form():
    """Without random variance d = n log(rss): Dyestuff2's coefficient, while theta stays zero."""
    data = load_dataset("Dyestuff2")
    fit = lmer("Yield ~ 1 + (1 | Batch)", data, REML=False, control=LMM)
    y = data["Yield"].to_numpy()
    for value in (5.0, 6.5):
        rss = [((y - c) ** 2).sum() for c in (value, y.mean())]
        rise = len(y) * np.log(rss[0] / rss[1])
        assert solved(fit._fit, "(Intercept)", value).deviance - fit.objective == pytest.approx(
            rise, abs=1e-10
        )


# Scales, units, order


def test_logs_and_squares(fits):
    profile = fits["sleep"].profile()
    plain = profile.confint()
    log, squared = profile.log().confint(), profile.variance().confint()
    assert list(log.index[:4]) == [
        "log(sd_(Intercept)|Subject)",
        "log(sd_Days|Subject)",
        "cor_Days.(Intercept)|Subject",
        "log(sigma)",
    ]
    assert squared.index[3] == "(sigma)^2"
    roots = plain.to_numpy()
    changed = [0, 1, 3]
    assert log.to_numpy()[changed] == pytest.approx(np.log(roots[changed]), rel=1e-13)
    assert squared.to_numpy()[changed] == pytest.approx(roots[changed] ** 2, rel=1e-13)
    same = [2, 4, 5]
    assert (log.to_numpy()[same] == roots[same]).all()
    assert profile.log().zeta("log(sigma)", np.log(24.0)) == pytest.approx(
        profile.zeta("sigma", 24.0), abs=1e-14
    )
    assert profile.variance().value("sigma", 1.0) == pytest.approx(
        profile.value("sigma", 1.0) ** 2, rel=1e-13
    )
    table = profile.log().to_frame()
    assert table["log(sigma)"].to_numpy() == pytest.approx(np.log(profile.to_frame()["sigma"]))


@pytest.mark.parametrize("unit", [1e-6, 1e3])
def test_units_of_the_response(unit):
    data = load_dataset("sleepstudy")
    limits = lmer("Reaction ~ Days + (Days | Subject)", data).confint()
    scaled = data.assign(Reaction=unit * data["Reaction"])
    other = lmer("Reaction ~ Days + (Days | Subject)", scaled).confint()
    factor = np.where(limits.index.str.startswith("cor"), 1.0, unit)
    assert other.to_numpy() == pytest.approx(limits.to_numpy() * factor[:, None], rel=1e-7)


@pytest.mark.parametrize("unit", [1e-6, 1e3])
def test_units_of_a_predictor_and_order_of_rows(unit):
    data = load_dataset("sleepstudy")
    limits = lmer("Reaction ~ Days + (Days | Subject)", data).confint()
    scaled = data.assign(Days=unit * data["Days"]).sample(frac=1, random_state=1)
    other = lmer("Reaction ~ Days + (Days | Subject)", scaled).confint()
    divisor = np.array([1.0, unit, 1.0, 1.0, 1.0, unit])
    assert other.to_numpy() * divisor[:, None] == pytest.approx(limits.to_numpy(), rel=1e-7)


def test_a_predictor_that_is_not_centred():
    """Days from a far origin: slopes and sigma have the same intervals."""
    data = load_dataset("sleepstudy")
    far = data.assign(Days=data["Days"] + 1e4)
    rows = ["sd_Days|Subject", "sigma", "Days"]
    limits = lmer("Reaction ~ Days + (Days | Subject)", data).confint(rows)
    other = lmer("Reaction ~ Days + (Days | Subject)", far).confint(rows)
    assert other.to_numpy() == pytest.approx(limits.to_numpy(), rel=1e-6)


def test_a_REML_fit_is_profiled_by_ML():
    data = load_dataset("Penicillin")
    formula = "diameter ~ 1 + (1 | plate) + (1 | sample)"
    by_ml, by_reml = lmer(formula, data, REML=False).profile(), lmer(formula, data).profile()
    # two searches for one minimum
    assert by_reml.confint().to_numpy() == pytest.approx(by_ml.confint().to_numpy(), rel=1e-6)
    assert "where the fit is by REML" in str(by_reml)
    assert str(by_ml).startswith("Likelihood profile\n")


def test_nAGQ_0_is_profiled_by_laplace(fits):
    formula = "cbind(incidence, size - incidence) ~ period + (1 | herd)"
    zero = glmer(formula, frame("cbpp"), "binomial", nAGQ=0).profile()
    one = fits["cbpp"].confint()
    assert zero.confint().to_numpy() == pytest.approx(one.to_numpy(), rel=1e-6)
    assert "nAGQ = 0" in zero.note


# Bounds


def test_a_variance_of_zero(fits):
    profile = fits["dyestuff2"].profile()
    curve = profile.curves[0]
    assert profile.to_frame()["value"][0] == 0.0
    assert curve.zeta[0] == 0.0
    assert (curve.zeta[1:] > 0).all()
    low, high = profile.confint().iloc[0]
    assert low == 0.0
    found = solved(fits["dyestuff2"]._fit, curve.name, high).deviance
    assert found - fits["dyestuff2"].objective == pytest.approx(Z95**2, abs=1e-8)
    assert profile.log().confint().iloc[0, 0] == -np.inf


def test_an_interval_that_comes_to_zero(fits):
    """Pastes' batches: the deviance at zero is lower than the interval asks for."""
    profile = fits["pastes"].profile()
    name = "sd_(Intercept)|batch"
    assert 0 < -profile.zeta(name, 0.0) < Z95
    assert profile.confint().loc[name, "2.5 %"] == 0.0
    assert fits["pastes"].confint(name).iloc[0, 0] == 0.0


def subjects(slope=0.0, shift=20.0, seed=3):
    """Subjects whose slopes are their intercepts times a number."""
    data = load_dataset("sleepstudy")
    rng = np.random.default_rng(seed)
    by_subject = np.repeat(shift * rng.standard_normal(18), 10)
    y = 250 + 10 * data["Days"] + by_subject * (1 + slope * data["Days"])
    return data.assign(Reaction=y + 25 * rng.standard_normal(180))


@pytest.mark.parametrize("sign", [1, -1])
def test_a_correlation_of_one(sign):
    data = subjects(sign * 0.25, seed=1)
    fit = lmer("Reaction ~ Days + (Days | Subject)", data, REML=False, control=LMM)
    name = "cor_Days.(Intercept)|Subject"
    assert fit.is_singular()
    values = fit.profile(name).to_frame()["value"]
    assert (values.max() if sign > 0 else values.min()) == sign
    limits = fit.confint(name).iloc[0]
    assert limits.iloc[1 if sign > 0 else 0] == sign
    assert abs(limits.iloc[0 if sign > 0 else 1]) < 1


def test_no_variance_at_all():
    """Residuals free of subjects' lines: both SDs are zero, and there is no correlation."""
    data = load_dataset("sleepstudy")
    days = np.column_stack([np.ones(10), np.arange(10.0)])
    noise = np.random.default_rng(0).standard_normal((18, 10))
    noise -= noise @ days @ np.linalg.inv(days.T @ days) @ days.T
    data = data.assign(Reaction=250 + 10 * data["Days"] + 20 * noise.ravel())
    fit = lmer("Reaction ~ Days + (Days | Subject)", data, REML=False, control=LMM)
    profile = fit.profile()
    limits = profile.confint()
    assert (limits.iloc[:2, 0] == 0.0).all()
    assert (limits.iloc[:2, 1] > 0.0).all()
    assert limits.iloc[2].tolist() == [-1.0, 1.0]
    assert np.isnan(profile.estimates[2])
    assert not len(profile.curves[2].at)
    assert fit.confint("cor_*").iloc[0].tolist() == [-1.0, 1.0]
    assert "nan" in str(profile).lower()
    assert np.isfinite(limits.iloc[3:].to_numpy()).all()


def test_a_correlation_that_turns_its_sign():
    """Held far from what the data say, the minimum leaves one of the two effects at zero.

    It is compared with the likelihood over a grid of the two standard deviations.
    """
    fit = lmer("Reaction ~ Days + (Days | Subject)", subjects(0.25, 30.0, 1), False, control=LMM)
    name = "cor_Days.(Intercept)|Subject"
    found = solved(fit._fit, name, -0.95)
    y = fit.getME("y").to_numpy() if hasattr(fit.getME("y"), "to_numpy") else fit.getME("y")
    days = np.arange(10.0)
    Z = np.column_stack([np.ones(10), days])

    def deviance(v):
        s1, s2, sigma = np.abs(v)
        c = -0.95 * s1 * s2
        V = Z @ np.array([[s1**2, c], [c, s2**2]]) @ Z.T + sigma**2 * np.eye(10)
        W = np.linalg.inv(V)
        rows = y.reshape(18, 10)
        beta = np.linalg.solve(Z.T @ W @ Z, Z.T @ W @ rows.mean(axis=0))
        rest = rows - Z @ beta
        return 18 * np.linalg.slogdet(2 * np.pi * V)[1] + np.sum(rest * (rest @ W))

    starts = [(a, b, 25.0) for a in (1e-3, 10.0, 40.0) for b in (1e-3, 3.0, 10.0)]
    options = {"xatol": 1e-9, "fatol": 1e-11, "maxiter": 5000, "maxfev": 5000}
    best = min(
        scipy.optimize.minimize(deviance, s, method="Nelder-Mead", options=options).fun
        for s in starts
    )
    assert found.deviance == pytest.approx(best, abs=1e-6)


# Generalized models: the criterion as a function of all parameters, minimized by SciPy


def counted(seed=1):
    rng = np.random.default_rng(seed)
    g = np.repeat(np.arange(20), 10)
    x = rng.standard_normal(200)
    mu = np.exp(0.5 + 0.3 * x + 0.4 * rng.standard_normal(20)[g])
    return pd.DataFrame(
        {"g": g.astype(str), "x": x, "gamma": rng.gamma(3, mu / 3), "count": rng.poisson(mu),
         "wide": rng.negative_binomial(2, 2 / (2 + mu)), "event": rng.random(200) < mu / (1 + mu)}
    )  # fmt: skip


GENERALIZED = {
    "gamma": lambda d: glmer("gamma ~ x + (1 | g)", d, mixef.Gamma("log")),
    "poisson": lambda d: glmer("count ~ x + (1 | g)", d, "poisson"),
    "nb": lambda d: glmer_nb("wide ~ x + (1 | g)", d),
    "agq": lambda d: glmer("event ~ x + (1 | g)", d, "binomial", nAGQ=7),
    "crossed": lambda d: glmer(
        "count ~ x + (1 | g) + (1 | h)", d.assign(h=np.tile(list("abcde"), 40)), "poisson",
        control=GLMM,
    ),
}  # fmt: skip


@pytest.mark.parametrize("key", GENERALIZED)
def test_generalized_limits_solve_the_likelihood_ratio(key):
    fit = GENERALIZED[key](counted())
    devfun = fit.getME("devfun")
    limits = fit.confint()
    extra = fit._fit.family.auxiliary
    best = np.concatenate([fit.par, fit.beta, [np.log(fit._fit.estimates.extra)] if extra else []])
    k, p = len(fit.par), len(fit.beta)
    # confint has the dispersion's root, or the shape, after the standard deviations
    order = [*range(k), *([k + p] if extra else []), *range(k, k + p)]
    for row, place in enumerate(order):
        for limit in limits.iloc[row]:
            if limit in (0.0, np.inf):
                continue
            value = limit
            if place == k + p:
                value = np.log(limit) * (2.0 if fit.family.has_dispersion else 1.0)

            def held(free, place=place, value=value):
                return devfun(np.insert(free, place, value))

            start = np.delete(best, place)
            for _ in range(2):
                start = scipy.optimize.minimize(held, start, method="BFGS").x
            # differences of a deviance that PIRLS knows to 1e-9 leave BFGS some 1e-7 above
            rise = held(start) - fit.objective
            assert rise == pytest.approx(Z95**2, abs=2e-6), limits.index[row]


def test_nodes_in_two_dimensions():
    """A correlated term's nodes are on axes of the parameter held; enough nodes tell no axes."""
    data = frame("Contraception").query("district in @keep", local_dict={"keep": KEPT})
    data = data.assign(district=data["district"].astype(str))
    fits = [
        glmer("use ~ urban + (urban | district)", data, "binomial", nAGQ=n, control=GLMM)
        for n in (1, 5, 9)
    ]
    laplace, few, more = (fit.confint("sd_*").to_numpy() for fit in fits)
    assert few == pytest.approx(more, abs=3e-3)
    assert np.abs(laplace - more).max() > np.abs(few - more).max()
    profile = fits[1].profile("sd_urbanY|district")
    assert (np.diff(profile.curves[0].zeta) > 0).all()


KEPT = [str(i) for i in range(1, 31)]


def test_a_likelihood_that_levels_off(monkeypatch):
    """A separated coefficient has no upper limit, a shape of Poisson counts neither."""
    modes = []
    find = conditional_mode

    def counted_mode(*arguments, **options):
        modes.append(None)
        return find(*arguments, **options)

    monkeypatch.setattr("mixef.estimation.generalized.criterion.conditional_mode", counted_mode)
    rng = np.random.default_rng(1)
    data = counted().assign(z=lambda d: (d["x"] > 0).astype(int))
    data["b"] = np.where(data["z"] == 1, 1, (rng.random(200) < 0.5).astype(int))
    fit = glmer("b ~ z + (1 | g)", data, "binomial", control=GLMM)
    modes.clear()
    low, high = fit.confint("z").iloc[0]
    assert 0 < low < 10
    assert high == np.inf
    assert len(modes) < 200  # 111, and 477 where a polynomial foresees points far out
    shape = glmer_nb("count ~ x + (1 | g)", counted(), control=GLMM).confint("shape").iloc[0]
    assert shape.iloc[0] > 0
    assert shape.iloc[1] == np.inf


# What is wrong


def test_a_fit_that_is_not_at_its_minimum():
    data = load_dataset("sleepstudy")
    formula = "Reaction ~ Days + (Days | Subject)"
    early = LmerControl(max_evaluations=1, check_conv_grad="ignore")
    fit = lmer(formula, data, REML=False, control=early)
    good = lmer(formula, data, REML=False)
    assert fit.objective > good.objective + 1e-3
    with pytest.warns(ConvergenceWarning, match="found a better fit: -2 log L is 1751.93"):
        limits = fit.confint()
    assert limits.to_numpy() == pytest.approx(good.confint().to_numpy(), rel=1e-6)


def test_a_search_without_gradient_raises_no_alarm():
    data = load_dataset("sleepstudy")
    slow = LmerControl(optimizer="Nelder-Mead")
    fit = lmer("Reaction ~ Days + (1 | Subject)", data, REML=False, control=slow)
    good = lmer("Reaction ~ Days + (1 | Subject)", data, REML=False)
    assert fit.confint().to_numpy() == pytest.approx(good.confint().to_numpy(), rel=1e-6)


@pytest.mark.parametrize(
    ("which", "expected"),
    [
        (None, [0, 1, 2, 3, 4, 5]),
        ("theta_", [0, 1, 2, 3]),
        ("beta_", [4, 5]),
        ("sd_*", [0, 1]),
        (["Days", "sigma"], [3, 5]),
        ([".sig02", "Days"], [2, 5]),
        (["sd_*", "theta_"], [0, 1, 2, 3]),
    ],
)
def test_which(fits, which, expected):
    names = [p.name for p in named_parameters(fits["sleep"]._fit)]
    profile = fits["sleep"].profile(which, delta_cutoff=0.9)
    assert [c.name for c in profile.curves] == [names[a] for a in expected]
    assert list(profile.to_frame().columns) == ["param", "value", "zeta", *names]


def test_names_of_lme4(fits):
    profile = fits["sleep"].profile(["theta_", "Days"], delta_cutoff=0.9, signames=True)
    assert [c.name for c in profile.curves] == [".sig01", ".sig02", ".sig03", ".sigma", "Days"]
    assert list(profile.to_frame()["param"].unique()) == [c.name for c in profile.curves]


@pytest.mark.parametrize(
    ("arguments", "error", "message"),
    [
        ({"which": "Day"}, ValueError, "no parameter 'Day'; expected some of sd_"),
        ({"which": 3}, TypeError, "is 3; expected names"),
        ({"which": [1]}, TypeError, "expected names, patterns, or a list"),
        ({"alphamax": 0}, ValueError, "alphamax is 0; expected a number between 0 and 1"),
        ({"delta_cutoff": 2.0}, ValueError, "delta_cutoff is 2.0"),
        ({"n_jobs": 0}, ValueError, "n_jobs is 0"),
    ],
)
def test_arguments_that_mean_nothing(fits, arguments, error, message):
    with pytest.raises(error, match=message):
        fits["sleep"].profile(**arguments)


def test_a_level_beyond_the_profile(fits):
    profile = fits["dyestuff"].profile("sigma", alphamax=0.05)
    assert profile.confint(0.95).shape == (1, 2)
    with pytest.raises(ValueError, match=r"level 0.95 only; profile with alphamax=0.01"):
        profile.confint(0.99)
    with pytest.raises(ValueError, match="no parameter 'beta'; expected one of sigma"):
        profile.zeta("beta", 1.0)


def test_several_processes_give_the_same(fits):
    one = interval_curves(fits["sleep"]._fit, "sd_*", 0.9)
    two = interval_curves(fits["sleep"]._fit, "sd_*", 0.9, n_jobs=2)
    assert (one.to_frame() == two.to_frame()).all(axis=None)


def test_it_prints(fits):
    profile = fits["cbpp"].profile("period*")
    text = str(profile)
    assert text.splitlines()[1].split() == ["Estimate", "2.5", "%", "97.5", "%"]
    assert text.splitlines()[2].split()[0] == "period2"
    assert repr(profile) == text
    assert "<table" in profile._repr_html_()


def test_the_fit_is_as_it_was(fits):
    fit = fits["sleep_weighted"]
    before = fit.ranef(condVar=True)
    fit.profile()
    after = fit.ranef(condVar=True)
    assert (before["Subject"] == after["Subject"]).all(axis=None)
    assert (before.condVar["Subject"] == after.condVar["Subject"]).all()
    assert fit.getME("devfun")(fit.par) == pytest.approx(fit.objective, abs=1e-9)


@pytest.mark.parametrize("seed", [2, 3, 6, 19, 23])
def test_a_correlation_is_no_farther_off_than_a_model_without_one_of_its_effects(seed):
    # With an effect of no variance every correlation is as good: zeta never exceeds that model's.
    rng = np.random.default_rng(seed)
    g, x = np.repeat(np.arange(15), 6), np.tile(np.arange(6.0), 15)
    b = rng.normal(size=(15, 2)) * [1.0, 0.12]
    y = 1 + 0.5 * x + b[g, 0] + b[g, 1] * x + rng.normal(size=90)
    fit = lmer("y ~ x + (x | g)", {"y": y, "x": x, "g": g.astype(str)})
    profile = fit.profile("theta_")
    ceiling = abs(profile.zeta("sd_x|g", 0.0))
    assert ceiling < 2.5758  # the slope's variance may be zero at the level of the profile
    frame = profile.to_frame().query("param == 'cor_x.(Intercept)|g'")
    assert frame["zeta"].abs().max() <= ceiling + 1e-7
    for level in (0.8, 0.95):
        z = scipy.special.ndtri(0.5 + level / 2)
        limits = fit.confint("cor*", level).to_numpy()[0]
        if z > ceiling:
            assert limits.tolist() == [-1.0, 1.0]
        else:
            found = profile.confint(level).loc["cor_x.(Intercept)|g"].to_numpy()
            assert limits == pytest.approx(found, abs=0.01)  # interpolated near a kink
