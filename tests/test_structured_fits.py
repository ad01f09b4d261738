"""Fits with a structure whose covariances are no linear space: numbers, and every inference."""

import warnings

import dense_gaussian
import numpy as np
import pandas as pd
import pytest
import scipy
from reference_data import cases, frame
from test_covariance import KINDS, slopes

from mixef import LmerControl, anova, glmer, lmer
from mixef.errors import ConvergenceWarning, DataError, SingularFitWarning
from mixef.estimation.search.certified import search

CASES = {case["id"]: case for case in cases("covariance.json")}


def data_of(name):
    data = frame(name)
    if name == "sleepstudy":
        data["occ"] = data["Days"].astype(int).astype(str)
    return data


def quietly(function, *args, **kwargs):
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", SingularFitWarning)
        warnings.simplefilter("ignore", ConvergenceWarning)
        return function(*args, **kwargs)


@pytest.mark.parametrize("name", CASES)
def test_glmmtmb_and_nlme(name):
    """covariance.R's programs; nlme stops at 1e-5 or so, others where the gradient vanishes."""
    case = CASES[name]
    data, rough = data_of(case["data"]), case["program"] == "nlme"
    if case["family"] == "gaussian":
        fit = quietly(lmer, case["formula"], data, REML=case["REML"])
        assert fit.sigma == pytest.approx(case["sigma"], rel=1e-5 if rough else 1e-6)
    else:
        fit = quietly(glmer, case["formula"], data, case["family"])
    assert fit.converged
    # One end is a correlation of 1, which glmmTMB comes near to.
    assert fit.loglik == pytest.approx(case["loglik"], abs=1e-7)
    np.testing.assert_allclose(fit.beta, case["beta"], rtol=2e-6)
    sds, rhos = case["sd"], case["rho"]
    if isinstance(sds, dict):
        sds, rhos = [*sds.values()], [*rhos.values()]
    vc = fit.VarCorr()
    for ours, sd, rho in zip(vc.values(), sds, rhos, strict=True):
        size = np.sqrt(np.diag(ours))
        np.testing.assert_allclose(size, sd, rtol=2e-5, atol=1e-5)
        if rho is not None:
            assert ours.iloc[1, 0] / (size[0] * size[1]) == pytest.approx(rho, abs=2e-5)
    if case["family"] != "gaussian" or rough:
        # For Gaussian models glmmTMB's have the uncertainty of the variances in them.
        np.testing.assert_allclose(np.sqrt(np.diag(fit.vcov())), case["se"], rtol=1e-5)


#: sleepstudy by lme4 2.0-1: formula, REML, log-likelihood, and the correlation where it is known.
LME4 = [
    ("Reaction ~ Days + cs(Days | Subject)", True, -871.814136043, 0.0656115),
    ("Reaction ~ Days + cs(Days | Subject, hom = TRUE)", True, -878.887153936, 0.59253579),
    ("Reaction ~ Days + cs(Days | Subject, hom = TRUE)", False, -882.738879228, None),
    ("Reaction ~ poly(Days, 9) + ar1(0 + occ | Subject)", False, -868.288080322, 0.88025675),
    ("Reaction ~ poly(Days, 9) + cs(0 + occ | Subject)", False, -872.950165787, None),
    ("Reaction ~ poly(Days, 9) + cs(0 + occ | Subject, hom = TRUE)", False, -895.167482985, None),
    ("Reaction ~ poly(Days, 9) + ar1(0 + occ | Subject, hom = FALSE)", False, -849.75995488, None),
]


@pytest.mark.parametrize(("formula", "REML", "loglik", "rho"), LME4)
def test_lme4(formula, REML, loglik, rho):
    """No lower than theirs; their search stops at 1e-4 in the correlation, and short of a bound."""
    fit = quietly(lmer, formula, data_of("sleepstudy"), REML=REML)
    assert fit.loglik > loglik - 1e-7
    if "hom = FALSE" not in formula:  # there sigma goes to zero, and they stop before
        assert fit.loglik == pytest.approx(loglik, abs=1e-6)
    if rho is not None:
        assert fit.getME("par").iloc[-1] == pytest.approx(rho, abs=1e-4)
    assert len(fit.getME("theta")) == 55 if "occ" in formula else 3


TERMS = {
    "us-het": "us(0 + f | g)",
    "diag-het": "diag(0 + f | g)",
    "diag-hom": "diag(0 + f | g, hom = TRUE)",
}
TERMS |= {f"{tag}-{'hom' if hom else 'het'}": f"{tag}(0 + f | g, hom = {str(hom).upper()})"
          for tag, hom in KINDS if tag not in ("us", "diag")}  # fmt: skip


def repeated(seed=4, n=16, s=3):
    """Levels g with effects that fall with the distance, and turn their sign; weights and h."""
    rng = np.random.default_rng(seed)
    lag = np.abs(np.subtract.outer(np.arange(s), np.arange(s)))
    b = (
        rng.normal(size=(n, s))
        @ (np.array([1.0, 0.7, 1.3])[:, None] * np.linalg.cholesky((-0.3) ** lag)).T
    )
    g, f = (a.ravel() for a in np.meshgrid(np.repeat(np.arange(n), 3), np.arange(s)))
    keep = rng.random(len(g)) < 0.85
    g, f = g[keep], f[keep]
    m = len(g)
    data = pd.DataFrame({"g": g, "f": np.array(list("abc"))[f], "x": rng.normal(size=m)})
    data["h"], data["w"] = rng.integers(0, 5, m), rng.uniform(0.4, 2.5, m)
    data["y"] = 1 + 0.4 * data["x"] + b[g, f] + 0.4 * rng.normal(size=5)[data["h"]]
    data["y"] += 0.7 * rng.normal(size=m) / np.sqrt(data["w"])
    data["c"] = rng.poisson(np.exp(0.5 + 0.3 * data["x"] + 0.7 * b[g, f]))
    return data


@pytest.fixture(scope="module", params=TERMS)
def fit(request):
    """A fit by ML, crossed with another factor, with weights and an offset."""
    formula = f"y ~ x + offset(0.1 * x) + {TERMS[request.param]} + (1 | h)"
    return quietly(lmer, formula, repeated(), weights="w", REML=False)


def dense_deviance(fit, par, sigma, beta=None, REML=False):
    """-2 log L (or the REML criterion) at any parameters, by V formed in full."""
    state, k = fit._fit, 0
    lams = []
    for term in state.terms:
        own = term.structure.from_par(par[k : k + term.structure.n_par])
        lams.append(term.structure.template(term.structure.canonical(own)))
        k += term.structure.n_par
    terms = [(t.grouping.codes, t.n_levels, t.z) for t in state.terms]
    V = sigma**2 * dense_gaussian.covariance(terms, lams, state.frame.weights)
    X, y = state.X, state.frame.y - state.frame.offset
    root = np.linalg.cholesky(V)
    Xs, ys = np.linalg.solve(root, X), np.linalg.solve(root, y)
    if beta is None:
        beta = np.linalg.lstsq(Xs, ys, rcond=None)[0]
    value = 2 * np.log(root.diagonal()).sum() + ((ys - Xs @ beta) ** 2).sum()
    value += (len(y) - REML * X.shape[1]) * np.log(2 * np.pi)
    return value + REML * np.linalg.slogdet(Xs.T @ Xs)[1], V


def bounds_of(fit):
    structures = [t.structure for t in fit._fit.terms]
    low, high = (np.concatenate([getattr(s, e) for s in structures]) for e in ("lower", "upper"))
    return list(zip(low, high, strict=True))


def test_the_optimum_is_the_densely_searched_one(fit):
    start = np.append(fit.par, np.log(fit.sigma))
    near = start + 0.2 * np.random.default_rng(0).normal(size=len(start))
    inside = [(max(a, -50) + 1e-9, min(b, 50) - 1e-9) for a, b in bounds_of(fit)] + [(-5, 5)]
    near = np.clip(near, *np.array(inside).T)

    def f(v):
        return dense_deviance(fit, v[:-1], np.exp(v[-1]))[0]

    assert f(start) == pytest.approx(-2 * fit.loglik, rel=1e-11)
    found = scipy.optimize.minimize(f, near, method="L-BFGS-B", bounds=inside)
    assert found.fun > -2 * fit.loglik - 1e-7  # nothing is lower
    assert found.fun == pytest.approx(-2 * fit.loglik, abs=1e-3)  # by differences: 1e-4 or so


@pytest.mark.parametrize("name", TERMS)
def test_satterthwaite(name):
    """Degrees of freedom from a Hessian and slopes by differences of dense matrices."""
    formula = f"y ~ x + offset(0.1 * x) + {TERMS[name]} + (1 | h)"
    fit = quietly(lmer, formula, repeated(), weights="w")
    v = np.append(fit.par, np.log(fit.sigma))

    def deviance(v):
        return dense_deviance(fit, v[:-1], np.exp(v[-1]), REML=True)[0]

    def variances(v):
        V = dense_deviance(fit, v[:-1], np.exp(v[-1]))[1]
        return np.linalg.inv(fit._fit.X.T @ np.linalg.solve(V, fit._fit.X)).diagonal()

    H = slopes(lambda v: slopes(deviance, v), v)
    J = slopes(variances, v)
    expected = 2 * variances(v) ** 2 / np.einsum("ka,kl,la->a", J, 2 * np.linalg.inv(H), J)
    # 1e-5: second differences of the deviance
    np.testing.assert_allclose(fit.coef_table(ddf="satterthwaite")["df"], expected, rtol=1e-5)


@pytest.mark.parametrize("name", TERMS)
def test_kenward_roger(name):
    """Kenward and Roger (2009) with every matrix in full, V's derivatives by differences.

    The parameters here, logs of standard deviations, are others than the module's: with the
    estimates' bias taken in, the choice does not matter.
    """
    formula = f"y ~ x + offset(0.1 * x) + {TERMS[name]} + (1 | h)"
    fit = quietly(lmer, formula, repeated(), weights="w")
    X, par = fit._fit.X, fit.par
    is_sd = np.array(bounds_of(fit))[:, 0] == 0.0
    v = np.append(np.where(is_sd, np.log(np.where(is_sd, par, 1.0)), par), np.log(fit.sigma))

    def V_at(v):
        at = np.where(is_sd, np.exp(v[:-1]), v[:-1])
        return dense_deviance(fit, at, np.exp(v[-1]))[1]

    R = range(len(v))
    first, second = slopes(V_at, v), slopes(lambda v: slopes(V_at, v), v)
    inverse = np.linalg.inv(V_at(v))
    VX = inverse @ X
    Phi = np.linalg.inv(X.T @ VX)
    M = inverse - VX @ Phi @ VX.T  # the paper's G, the REML projection
    MG = M @ first
    W = np.linalg.inv(0.5 * np.array([[np.vdot(MG[r].T, MG[s]) for s in R] for r in R]))
    P = -np.array([VX.T @ G @ VX for G in first])
    bend = np.einsum("rs,rsij->ij", W, second)
    bias = -0.25 * W @ np.array([np.vdot(MG[r].T, M @ bend) for r in R])
    inner = sum(
        W[r, s] * (VX.T @ first[r] @ inverse @ first[s] @ VX - P[r] @ Phi @ P[s])
        for r in R
        for s in R
    ) - 0.25 * (VX.T @ bend @ VX)
    slope = [-Phi @ P[r] @ Phi for r in R]
    expected = Phi + 2 * Phi @ inner @ Phi - sum(b * D for b, D in zip(bias, slope, strict=True))
    table = fit.coef_table(ddf="kenward-roger")
    # 1e-6: second differences of V
    np.testing.assert_allclose(table["Std. Error"], np.sqrt(expected.diagonal()), rtol=1e-6)
    J = np.array([D.diagonal() for D in slope])
    df = 2 * Phi.diagonal() ** 2 / np.einsum("ra,rs,sa->a", J, W, J)
    np.testing.assert_allclose(table["df"], df, rtol=1e-6)


def test_profiles_are_minima(fit):
    """At each end of an interval: the deviance by V in full, and no lower one beside it."""
    structure = fit._fit.terms[0].structure
    if structure.correlations == "all":
        return  # see test_profile
    names = [p for p in fit.confint(method="wald").index if p.endswith("|g")]
    profile = quietly(fit.profile, names)
    found = profile.to_frame()
    cut = scipy.stats.chi2.ppf(0.95, 1)
    limits = profile.confint()
    n_sd = sum(name.startswith("sd") for name in names)
    assert list(limits.index) == names
    for name in names:
        own = found[found["param"] == name]
        at = own.iloc[(own["zeta"].abs() - np.sqrt(cut)).abs().argsort()[:2]]
        for _, row in at.iterrows():
            sds, cors = row[names[:n_sd]].to_numpy(float), row[names[n_sd:]].to_numpy(float)
            sigma, sd_h = row["sigma"], row["sd_(Intercept)|h"]

            def deviance(change, sds=sds, cors=cors, sigma=sigma, sd_h=sd_h, held=name):
                values = np.concatenate([sds, cors]) * np.where(
                    np.array(names) == held, 1.0, np.exp(change[: len(names)])
                )
                scale = sigma * np.exp(change[-1])
                try:
                    root = structure.root_of(values[:n_sd], values[n_sd:])
                except ValueError:
                    return np.inf
                own = structure.par(structure.coordinates(root / scale))
                return dense_deviance(
                    fit, np.append(own, sd_h * np.exp(change[-2]) / scale), scale
                )[0]

            zero = np.zeros(len(names) + 2)
            value = deviance(zero)
            assert value == pytest.approx(-2 * fit.loglik + row["zeta"] ** 2, abs=1e-5)
            for step in 1e-3 * np.vstack([np.eye(len(zero)), -np.eye(len(zero))]):
                assert deviance(step) > value - 1e-6


def test_intervals_hold_the_estimates(fit):
    for method in ("wald", "profile", "boot"):
        options = {"n": 12, "seed": 1} if method == "boot" else {}
        limits = quietly(fit.confint, "*|g", method=method, **options)
        bound = next((i for i in limits.index if i.startswith("cor")), None)
        if bound is not None:
            low, high = fit._fit.terms[0].structure.correlation_bounds
            assert limits.loc[bound].between(low, high).all()
        assert (limits.iloc[:, 0] <= limits.iloc[:, 1]).all()


def test_replicates_keep_the_structure(fit):
    """Simulated from the fit's own covariance, and fitted with it."""
    sims = fit.simulate(3, seed=3)
    for y in np.asarray(sims).T:
        again = quietly(fit.refit, y)
        fresh = quietly(lmer, fit.formula, repeated().assign(y=y), weights="w", REML=False)
        # Both searches end where a step would gain less than 1e-6.
        assert again.objective == pytest.approx(fresh.objective, abs=1e-6)
        assert again._fit.terms[0].structure == fit._fit.terms[0].structure


def test_draws_have_the_covariance(fit):
    """20,000 draws: standard errors of a covariance are 1 % of the variances or so."""
    draws = np.asarray(fit.simulate(20_000, seed=1, re_form="~0"))
    V = dense_deviance(fit, fit.par, fit.sigma)[1]
    scale = np.sqrt(np.outer(V.diagonal(), V.diagonal()))
    assert (np.abs(np.cov(draws) - V) / scale).max() < 0.04


# Bounds, messages and prints


def effects(R, sd=1.0, n=24, reps=2, seed=3):
    """Rows of levels whose effects have these correlations exactly."""
    rng = np.random.default_rng(seed)
    s = len(R)
    value, vector = np.linalg.eigh(R)
    b = sd * rng.normal(size=(n, s)) @ (vector * np.sqrt(np.maximum(value, 0.0))).T
    g, f = (a.ravel() for a in np.meshgrid(np.repeat(np.arange(n), reps), np.arange(s)))
    data = pd.DataFrame({"g": g, "f": np.array(list("abcd"))[f], "x": rng.normal(size=len(g))})
    return data.assign(y=1 + 0.3 * data["x"] + b[g, f] + 0.7 * rng.normal(size=len(g)))


ALTERNATING = np.outer([1, -1, 1, -1], [1, -1, 1, -1]) * 1.0
BOUNDS = {
    "cs, lowest": ("cs(0 + f | g, hom = TRUE)", 4 / 3 * np.eye(4) - 1 / 3, -1 / 3, "-0.3333"),
    "cs, several sds": ("cs(0 + f | g)", ALTERNATING, -1 / 3, "-0.3333"),
    "cs, one": ("cs(0 + f | g)", np.ones((4, 4)), 1.0, "1"),
    "ar1, minus one": ("ar1(0 + f | g)", ALTERNATING, -1.0, "-1"),
    "ar1, one": ("ar1(0 + f | g, hom = FALSE)", np.ones((4, 4)), 1.0, "1"),
}


def at_its_bound(name):
    """The first of some data sets whose fit ends there."""
    term, R, *_ = BOUNDS[name]
    for seed in range(8):
        data = effects(R, seed=seed)
        fit = quietly(lmer, f"y ~ x + {term}", data)
        if fit.is_singular():
            return fit, data
    raise AssertionError(name)


@pytest.mark.parametrize("name", BOUNDS)
def test_correlations_at_their_bounds(name):
    term, _, bound, text = BOUNDS[name]
    fit, data = at_its_bound(name)
    assert fit.converged
    with pytest.warns(SingularFitWarning, match=f"correlation in .* is at its bound, {text}$"):
        lmer(f"y ~ x + {term}", data)
    rho = fit.getME("par").filter(like="rho").iloc[0]
    assert rho == pytest.approx(bound, abs=1e-6)
    # Inside, the likelihood is lower, and all else is there.
    inside = fit.par.copy()
    inside[-1] += 0.01 if bound < 0 else -0.01
    assert fit.getME("devfun")(inside) > fit.objective
    (low, high), wald = fit._fit.terms[0].structure.correlation_bounds, fit.confint(method="wald")
    assert wald.filter(like="cor", axis=0).to_numpy().ravel() == pytest.approx([low, high])
    profile = quietly(fit.confint, "cor*").to_numpy().ravel()
    assert profile[0 if bound < 0 else 1] == pytest.approx(bound, abs=1e-9)
    assert low < profile[1 if bound < 0 else 0] < high
    assert np.isfinite(fit.coef_table(ddf="kenward-roger").to_numpy()).all()
    assert np.isfinite(fit.coef_table(ddf="satterthwaite").to_numpy()).all()
    assert quietly(fit.refit, data["y"]).objective == pytest.approx(fit.objective, abs=1e-7)


def test_a_variance_that_vanishes_beside_others():
    """The correlation stays that of the others; the bound is an end with a slope."""
    R = np.outer([0, 1, 1, 1], [0, 1, 1, 1]) * np.where(np.eye(4) > 0, 1.0, -0.3)
    for seed in range(8):
        data = effects(R, seed=seed)
        fit = quietly(lmer, "y ~ x + cs(0 + f | g)", data)
        if fit.is_singular():
            break
    with pytest.warns(SingularFitWarning, match=r"the variance of fa in \(0 \+ f \| g\) is zero"):
        lmer("y ~ x + cs(0 + f | g)", data)
    par = fit.getME("par")
    assert par["g.fa"] == 0.0
    assert -1 / 3 < par["g.rho"] < 0.2
    assert "NaN" not in str(fit.VarCorr())
    moved = fit.par.copy()
    moved[0] = 0.02
    assert fit.getME("devfun")(moved) > fit.objective
    wald, profile = fit.confint(method="wald"), quietly(fit.confint, "*|g")
    for limits in (wald, profile):
        assert limits.loc["sd_fa|g"].iloc[0] == 0.0
        assert 0.0 < limits.loc["sd_fa|g"].iloc[1] < 10.0
        assert limits.loc["cor_all|g"].between(-1 / 3, 1.0).all()


@pytest.mark.parametrize("term", ["cs(0 + f | g, hom = TRUE)", "ar1(0 + f | g)"])
def test_no_variance_at_all(term):
    """The correlation of nothing is no parameter that the data leave open."""
    data = effects(np.eye(4), 0.0)
    data["y"] -= data.groupby(["g", "f"])["y"].transform("mean")
    with warnings.catch_warnings():
        warnings.simplefilter("error", ConvergenceWarning)
        with pytest.warns(SingularFitWarning, match=r"the variance in .* is zero"):
            fit = lmer(f"y ~ x + {term}", data)
    assert fit.converged
    assert "NaN" in str(fit.VarCorr())
    wald = fit.confint("*|g", method="wald")
    assert wald.iloc[0, 0] == 0.0 < wald.iloc[0, 1] < 1.0
    assert wald.iloc[1].tolist() == list(fit._fit.terms[0].structure.correlation_bounds)


def test_starts():
    data = effects(np.eye(4))
    fit = lmer("y ~ x + cs(0 + f | g, hom = TRUE)", data)
    for start in ({"par": [1.0, 0.9]}, {"theta": fit.getME("theta")}, [0.5, -0.2]):
        again = lmer("y ~ x + cs(0 + f | g, hom = TRUE)", data, start=start)
        assert again.objective == pytest.approx(fit.objective, abs=1e-8)
    with pytest.raises(
        DataError, match=r"g\.rho = -0\.5; expected a correlation from -0\.3333 to 1"
    ):
        lmer("y ~ x + cs(0 + f | g, hom = TRUE)", data, start=[1.0, -0.5])
    with pytest.raises(DataError, match=r"start has g = -1; expected 0 or more"):
        lmer("y ~ x + cs(0 + f | g, hom = TRUE)", data, start=[-1.0, 0.2])
    with pytest.raises(DataError, match=r"covariance of .* has the correlation -0\.5, which cs"):
        fit.simulate(1, seed=1, new_params={"sd": {"g": 1.0}, "cor": {"g": -0.5}})


def test_prints():
    """A term with one variance has one row, and the correlation stands in the first."""
    fit = lmer(
        "y ~ x + ar1(0 + f | g)", effects((-0.5) ** np.abs(np.subtract.outer(range(4), range(4))))
    )
    lines = str(fit.VarCorr()).splitlines()
    assert len(lines) == 3
    assert "(ar1)" in lines[1]
    assert fit.VarCorr().to_frame().shape == (4 + 6 + 1, 5)
    several = lmer("y ~ x + cs(0 + f | g)", effects(np.eye(4)))
    lines = str(several.summary()).splitlines()
    assert sum("(cs)" in line for line in lines) == 1
    assert list(several.confint(method="wald", signames=True).index[:5]) == [
        f".sig0{i}" for i in range(1, 6)
    ]


def test_both_signs_are_searched():
    """A search of one sign can end where there is no variance, 150 above the best."""
    data, formula = data_of("sleepstudy"), "Reaction ~ Days + ar1(0 + occ | Subject)"
    fit = lmer(formula, data, REML=False)
    c, structure = fit._fit.criterion(), fit._fit.terms[0].structure
    low = search(c, structure.from_par(np.array([1.0, -0.9])), LmerControl())
    assert low.objective > fit.objective + 100.0
    again = lmer(formula, data, REML=False, start=[1.0, -0.9])
    assert again.objective == pytest.approx(fit.objective, abs=1e-6)


@pytest.mark.parametrize("seed", range(5))
@pytest.mark.parametrize("term", ["cs(0 + f | g)", "ar1(0 + f | g)"])
def test_no_start_ends_lower(term, seed):
    """Weak effects on few levels, where there are several optima."""
    rng = np.random.default_rng(seed)
    R = rng.uniform(-0.9, 0.9) ** np.abs(np.subtract.outer(range(4), range(4)))
    data = effects(R, sd=0.5, n=10, seed=seed)
    fit = quietly(lmer, f"y ~ x + {term}", data)
    c, structure = fit._fit.criterion(), fit._fit.terms[0].structure
    low, high = structure.angles
    for share in (0.2, 0.5, 0.8):
        for sd in (0.3, 1.0):
            phi = np.array([low + share * (high - low)])
            x = structure.from_sds(np.full(structure.n_sds, sd), phi)
            assert search(c, x, LmerControl()).objective > fit.objective - 1e-5


GENERALIZED = {
    "cs(0 + f | g)": "poisson", "cs(0 + f | g, hom = TRUE)": "poisson",
    "ar1(0 + f | g)": "poisson", "ar1(0 + f | g, hom = FALSE)": "poisson",
}  # fmt: skip


@pytest.mark.parametrize("term", GENERALIZED)
def test_inference_of_generalized_models(term):
    data = repeated(n=24)
    fit = quietly(glmer, f"c ~ x + {term}", data, GENERALIZED[term])
    assert fit.converged
    # The covariance of all parameters is twice the inverse Hessian of -2 log L on their own scale.
    devfun, at = fit.getME("devfun"), np.concatenate([fit.par, fit.beta])
    if not fit.is_singular():
        H = slopes(lambda v: slopes(devfun, v), at)
        k = len(fit.par)
        order = np.r_[k : len(at), :k]
        ours = fit.vcov(full=True).to_numpy()
        np.testing.assert_allclose(
            ours, (2 * np.linalg.inv(H))[np.ix_(order, order)], rtol=1e-4, atol=1e-8
        )
    limits = quietly(fit.confint, "sd_*")
    wald = fit.confint("sd_*", method="wald")
    for ends in (limits, wald):
        values = [*np.sqrt(np.diag(fit.VarCorr()["g"]))][
            : sum(i.startswith("sd") for i in ends.index)
        ]
        assert (ends.iloc[: len(values), 0].to_numpy() <= values).all()
        assert (ends.iloc[: len(values), 1].to_numpy() >= values).all()
    assert quietly(fit.bootstrap, 3, seed=1).to_frame().shape[0] >= 3
    assert quietly(fit.refit, data["c"]).objective == pytest.approx(fit.objective, abs=1e-6)


def test_boundaries_between_structures():
    """Of structures on the same columns none sets a variance to zero; of fewer columns one does."""
    data = effects((-0.5) ** np.abs(np.subtract.outer(range(4), range(4))))
    one, cs = lmer("y ~ x + (1 | g)", data), lmer("y ~ x + cs(0 + f | g, hom = TRUE)", data)
    free = quietly(lmer, "y ~ x + (0 + f | g)", data)
    assert "boundary" not in str(quietly(anova, cs, free))
    assert "boundary" in str(quietly(anova, one, cs))


def test_a_correlation_between_columns_that_are_no_neighbours():
    """Two variances of four are zero: those between the others show the correlation of cs."""
    fit = lmer("y ~ x + cs(0 + f | g)", effects(np.eye(4)))
    sds = {"sd_fa|g": 1.0, "sd_fb|g": 0.0, "sd_fc|g": 2.0, "sd_fd|g": 0.0, "cor_all|g": -0.25}
    draws = np.asarray(fit.simulate(4000, seed=1, re_form="~0", new_params=sds | {"sigma": 0.01}))
    first, third = (np.flatnonzero(fit._fit.terms[0].z[:, j] == 1)[0] for j in (0, 2))
    # 4000 draws: a standard error of 0.015
    assert np.corrcoef(draws[first], draws[third])[0, 1] == pytest.approx(-0.25, abs=0.06)
