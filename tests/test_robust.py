"""Cluster-robust covariances: clubSandwich's numbers, the dense formulas, invariances, refusals."""

import pickle
from dataclasses import replace
from functools import cache

import numpy as np
import pandas as pd
import pytest
from dense_robust import Dense
from fit_at_theta import at_theta
from reference_data import cases, frame, read_reference

from mixef import (
    Beta,
    Gamma,
    anova,
    glmer,
    lmer,
    load_dataset,
    power,
)
from mixef.errors import ArgumentError, DataError, FitError
from mixef.inference.hypotheses.ddf import approximation
from mixef.inference.prediction.predict import predictions
from mixef.inference.robust import corrections, small_samples
from mixef.inference.robust.clusters import clusters_of

TYPES = corrections.TYPES
CASES = {c["id"]: c for c in cases("robust.json")}
# clubSandwich works with dense inverses: its own rounding is about 1e-10.
CLOSE = 1e-8


@cache
def fit_of(key):
    c = CASES[key]
    return at_theta(lmer(c["formula"], frame(c["data"]), REML=c["REML"]), c["theta"])


@pytest.mark.parametrize("key", CASES)
@pytest.mark.parametrize("type", TYPES)
def test_numbers_of_clubSandwich(key, type):
    compare(fit_of(key), CASES[key]["results"][type], type, CASES[key]["cluster"], CLOSE)


@pytest.mark.parametrize("type", TYPES)
def test_prior_weights_as_in_a_fit_of_nlme(type):
    """clubSandwich takes lme's weights; nlme's search ends 1e-6 from the optimum."""
    found = read_reference("robust.json")["weighted"]
    data = frame(found["data"])
    data["w"] = 1 + data["Days"] % 3
    fit = at_theta(lmer(found["formula"], data, weights="w"), found["theta"])
    compare(fit, found["results"][type], type, "Subject", 1e-5)


def compare(fit, expected, type, cluster, close):
    robust = fit.with_vcov(type, cluster=cluster)
    V = np.array(expected["vcov"])
    sd = np.sqrt(np.diag(V))
    assert np.abs((robust.vcov() - V) / np.outer(sd, sd)).to_numpy().max() < close
    assert np.allclose(robust.coef_table()["df"], expected["df"], rtol=close)
    limits = robust.confint("beta_", method="wald", level=0.9).to_numpy()
    assert np.allclose(limits.T, [expected["lower"], expected["upper"]], rtol=10 * close)
    for test in expected["htz"]:
        frame = robust.contest(np.array(test["L"])).frame.iloc[0]
        if np.isnan(test["p"] if test["p"] is not None else np.nan):
            assert np.isnan(frame["Pr(>F)"])
            continue
        assert frame["NumDF"] == test["num_df"]
        assert np.allclose(frame["DenDF"], test["den_df"], rtol=10 * close)
        assert np.allclose(frame["F value"], test["F"], rtol=10 * close)
        assert np.allclose(frame["Pr(>F)"], test["p"], rtol=1e3 * close)


def panel():
    """Rows in clusters a of other sizes, levels b nested in them, levels c across them."""
    rng = np.random.default_rng(20261127)
    n = 130
    d = pd.DataFrame({"a": rng.integers(0, 11, n), "c": rng.integers(0, 8, n)})
    d["b"] = 3 * d["a"] + rng.integers(0, 3, n)
    d["x"], d["f"] = rng.normal(size=n).round(3), rng.choice(list("pqr"), n)
    d["w"] = rng.uniform(0.3, 4.0, n).round(3)
    effects = [rng.normal(size=k) for k in (11, 33, 8)]
    slopes = rng.normal(size=11)
    d["eta"] = (0.4 + 0.9 * slopes[d["a"]]) * d["x"] + 0.7 * effects[0][d["a"]]
    d["eta"] += 0.6 * effects[1][d["b"]] + 0.6 * effects[2][d["c"]] * (1 + d["x"])
    d["y"] = d["eta"] + rng.normal(size=n)
    d["k"] = rng.poisson(np.exp(0.5 * d["eta"]))
    d["size"] = rng.integers(1, 9, n)
    p = 1 / (1 + np.exp(-d["eta"]))
    d["hits"] = rng.binomial(d["size"], p)
    d["share"] = rng.beta(4 * p, 4 - 4 * p).clip(0.01, 0.99)
    d["positive"] = rng.gamma(3.0, np.exp(0.5 * d["eta"]) / 3.0)
    return d


PANEL = panel()
MODELS = {
    "nested": (lambda: lmer("y ~ x + f + (x | a) + (1 | b)", PANEL), None),
    "weights": (lambda: lmer("y ~ x * f + (x | a)", PANEL, weights="w", REML=False), "a"),
    "offset": (lambda: lmer("y ~ f + offset(x) + (1 | a)", PANEL), None),
    "crossed": (lambda: lmer("y ~ x + f + (1 | a) + (x | c)", PANEL, weights="w"), "a"),
    "crossed by c": (lambda: lmer("y ~ x + f + (x | a) + (1 | c)", PANEL), "c"),
    "finer": (lambda: lmer("y ~ x + f + (1 | a)", PANEL), "a:c"),
    "rows": (lambda: lmer("y ~ x + f + (1 | a) + (1 | c)", PANEL), np.arange(len(PANEL))),
    "structured": (lambda: lmer("y ~ x + f + cs(0 + f | a)", PANEL), None),
    "poisson": (lambda: glmer("k ~ x + f + (1 | a)", PANEL, "poisson"), None),
    "counts": (lambda: glmer("cbind(hits, size - hits) ~ x + (x | a)", PANEL, "binomial"), None),
    "quadrature": (
        lambda: glmer("I(hits / size) ~ x + (1 | a)", PANEL, "binomial(probit)", 5, weights="size"),
        None,
    ),
    "crossed counts": (
        lambda: glmer("k ~ x + f + (1 | a) + (1 | c)", PANEL, "poisson", nAGQ=0),
        "c",
    ),
    "gamma": (lambda: glmer("positive ~ x + (1 | a)", PANEL, Gamma("log")), "a"),
    "beta": (lambda: glmer("share ~ x + (1 | a)", PANEL, Beta()), "a"),
    "nbinom1": (lambda: glmer("k ~ x + (1 | a)", PANEL, "nbinom1"), "a"),
}


@cache
def model(key):
    return MODELS[key][0]()


@pytest.mark.parametrize("key", MODELS)
def test_the_dense_formulas(key):
    """Rounding is about 1e-14; the square roots of ill-conditioned clusters lose a few digits."""
    fit, cluster = model(key), MODELS[key][1]
    p = len(fit.beta)
    L = np.vstack([np.eye(p), np.ones(p)])
    for type in TYPES:
        dense = Dense(fit, clusters_of(fit._fit, cluster).codes, type)
        robust = fit.with_vcov(type, cluster=cluster)
        sd = np.sqrt(np.diag(dense.vcov))
        assert np.abs((robust.vcov() - dense.vcov) / np.outer(sd, sd)).to_numpy().max() < 1e-10
        rule = approximation(robust._fit)
        assert np.allclose(rule.row_df(L), dense.df(L), rtol=1e-10)
        eta, df = dense.htz(L[1:3])
        assert np.allclose(rule.joint(L[1:3]), [df, df / eta], rtol=1e-10)


@pytest.mark.parametrize("key", ["weights", "crossed", "counts", "quadrature"])
def test_large_clusters_by_an_integral(key, monkeypatch):
    """Two routes to one geometric mean; 280 steps leave rounding."""
    fit, cluster = model(key), MODELS[key][1]
    by_roots = fit.with_vcov("CR2", cluster=cluster)
    monkeypatch.setattr(corrections, "MANY", 2)
    monkeypatch.setattr(corrections, "FEWER", 0.1)
    monkeypatch.setattr(corrections, "geometric_mean", None)
    by_integral = fit.with_vcov("CR2", cluster=cluster)
    assert np.allclose(by_integral.vcov(), by_roots.vcov(), rtol=1e-10)
    assert np.allclose(by_integral.coef_table()["df"], by_roots.coef_table()["df"], rtol=1e-10)


def test_an_integral_gives_up_where_a_cluster_determines_a_coefficient(monkeypatch):
    d = PANEL.assign(z=(PANEL["a"] == 3) * 1.0)
    fit = lmer("y ~ x + z + (1 | a)", d, weights="w")
    expected = fit.vcov(robust="CR2")
    monkeypatch.setattr(corrections, "MANY", 2)
    monkeypatch.setattr(corrections, "FEWER", 0.1)
    assert np.allclose(fit.vcov(robust="CR2"), expected, rtol=1e-9)


@pytest.mark.parametrize("key", ["nested", "weights", "poisson"])
def test_many_rows_by_moments_are_rows_one_by_one(key):
    fit, cluster = model(key), MODELS[key][1]
    rule = approximation(fit.with_vcov("CR2", cluster=cluster)._fit)
    L = np.random.default_rng(1).normal(size=(400, len(fit.beta)))
    one_by_one = [rule._eta(row[None]) for row in L[:20]]
    assert np.allclose(rule.row_df(L)[:20], one_by_one, rtol=1e-10)


def test_pairs_of_levels_and_pairs_of_clusters_give_one_number(monkeypatch):
    """The sums of squares over both, with few and with many products at a time."""
    rule = approximation(model("crossed").with_vcov("CR2", "a")._fit)
    D = np.eye(len(model("crossed").beta))[1:]
    expected = rule.joint(D)
    shares = rule.corrected.shares
    assert not shares.is_nested
    A, B = (
        small_samples.sparse.csr_array((v, (shares.place, shares.cluster)), shape=shares.shape)
        for v in np.random.default_rng(2).normal(size=(2, len(shares.place)))
    )
    by_clusters = ((A.T @ A).multiply(B.T @ B) + (A.T @ B).multiply(B.T @ A)).sum()
    assert np.isclose(shares._products(A, B), by_clusters)
    monkeypatch.setattr(small_samples, "PIECE", 50)
    assert np.allclose(rule.joint(D), expected)
    assert np.isclose(shares._products(A, B), by_clusters)


def test_clusters_some_at_a_time(monkeypatch):
    whole = model("nested").vcov(robust="CR2")
    monkeypatch.setattr(corrections, "CELLS", 1)
    assert np.allclose(model("nested").vcov(robust="CR2"), whole, rtol=1e-12)


def test_the_score_of_a_cluster_is_what_CR0_sums():
    """With ``V^-1 e = s`` at the modes, ``B (sum_j X_j's_j s_j'X_j) B``."""
    fit = model("poisson")
    B = fit.vcov(use_hessian=False).to_numpy()
    scores = fit.getME("X").to_numpy() * (fit.getME("y") - fit.getME("mu"))[:, None]
    by_cluster = pd.DataFrame(scores).groupby(PANEL["a"].to_numpy()).sum().to_numpy()
    expected = B @ by_cluster.T @ by_cluster @ B
    assert np.allclose(fit.vcov(robust="CR0"), expected, rtol=1e-6)


def test_CR2_is_unbiased_and_CR3_is_larger():
    """Means over responses of the model: CR2's is the model's own covariance at the true V."""
    fit = model("nested")
    rows, all_ = approximation(fit.with_vcov("CR2")._fit).corrected, np.eye(len(fit.beta))
    U, R = rows.fixed(all_), rows.shares.by_cluster(rows.random(all_))
    expected = (rows.spread(all_) + R).sum(axis=0) - np.einsum("jsp,jtp->st", U, U)
    assert np.allclose(expected, np.eye(len(fit.beta)), atol=1e-12)
    se = {t: fit.with_vcov(t).coef_table()["Std. Error"] for t in ("CR0", "CR2", "CR3")}
    assert (se["CR0"] < se["CR2"]).all()
    assert (se["CR2"] < se["CR3"]).all()


def test_units_and_contrasts_do_not_matter():
    sum_coded = lmer("y ~ I(1e6 * x) + f + (x | a) + (1 | b)", PANEL, contrasts={"f": "sum"})
    one, other = model("nested").with_vcov("CR2"), sum_coded.with_vcov("CR2")
    columns = ["DenDF", "F value", "Pr(>F)"]
    assert np.allclose(one.anova().frame[columns], other.anova().frame[columns], rtol=1e-5)
    far = lmer("I(1e5 * y) ~ x + f + (x | a) + (1 | b)", PANEL).with_vcov("CR2")
    for name in ("df", "t value"):
        assert np.allclose(far.coef_table()[name], one.coef_table()[name], rtol=1e-5)


def test_a_cluster_that_determines_a_coefficient():
    """clubSandwich 0.5.8: standard errors and df of sleepstudy with a dummy of subject 308."""
    d = load_dataset("sleepstudy")
    d["z"] = (d["Subject"].astype(str) == "308") * 1.0
    fit = lmer("Reaction ~ Days + z + (1 | Subject)", d)
    table = fit.with_vcov("CR2").coef_table()
    assert table["Std. Error"].round(2).tolist() == [7.78, 1.55, 9.2]
    assert table["df"].round(1).tolist() == [16.2, 17.0, 16.0]
    with pytest.raises(ArgumentError, match="cluster 308 determines a coefficient by itself"):
        fit.with_vcov("CR3")


# What names clusters


def test_clusters_by_name_by_label_and_by_position():
    d = PANEL.sample(frac=1, random_state=1)
    d.loc[d.index[:4], "x"] = np.nan
    expected = lmer("y ~ x + f + (1 | a)", d).vcov(robust="CR2")
    for na_action in ("omit", "exclude"):
        fit = lmer("y ~ x + f + (1 | a)", d, na_action=na_action)
        texts = ("k" + d["a"].astype(str)).to_numpy()
        for cluster in (
            None, "a", "`a`", d["a"], PANEL["a"], d["a"].to_numpy(), list(d["a"]), texts,
            d["a"].astype("category"), d["a"][4:].to_numpy(), "a:a", "factor(a)",
        ):  # fmt: skip
            assert np.allclose(fit.vcov(robust="CR2", cluster=cluster), expected, rtol=1e-10)
    other = lmer("y ~ x + f + (1 | a)", d, subset="x < 1")
    by_name = other.vcov(robust="CR1", cluster="c")
    assert np.allclose(other.vcov(robust="CR1", cluster=d["c"]), by_name)


def test_the_outermost_factor_is_the_default():
    assert model("nested").with_vcov("CR1")._fit.beta_covariance.label == "CR1 by a"
    with pytest.raises(ArgumentError, match=r"a, c are crossed: .*cluster= which one.*cluster='a'"):
        model("rows").with_vcov("CR2")


def test_what_is_no_cluster():
    fit = model("nested")
    for cluster, error, message in (
        (
            "zzz",
            DataError,
            r"cluster names 'zzz', which is no .* no column of the data; there are b, a",
        ),
        ("a:zzz", DataError, "names 'zzz'"),
        ("3", DataError, "names '3'"),
        ([1, 2], ArgumentError, "cluster has 2 labels; expected 130"),
        (np.ones(130), ArgumentError, "puts all rows into one cluster"),
        (np.where(PANEL["a"] < 2, np.nan, PANEL["a"]), DataError, "cluster is missing in"),
        (PANEL[["a"]], ArgumentError, "cluster is a DataFrame"),
        (PANEL["a"][:5], DataError, "cluster has no value for 125 of 130 rows"),
    ):
        with pytest.raises(error, match=message):
            fit.with_vcov("CR2", cluster=cluster)
    kept = pickle.loads(pickle.dumps(fit))
    with pytest.raises(DataError, match="a pickle keeps only columns that the fit used"):
        kept.with_vcov("CR2", cluster="c")


# What is refused


def test_what_is_no_covariance():
    fit = model("finer")
    p = len(fit.beta)
    own = fit.vcov()
    for arguments, message in (
        (("CR4",), "vcov is 'CR4'; expected one of 'CR0'"),
        ((np.eye(p + 1),), "vcov has shape"),
        ((own.to_numpy() + np.eye(p, k=1),), r"not symmetric: .* for \(Intercept\) and x"),
        ((np.ones((p, p)) - 2 * np.eye(p),), "not positive semidefinite"),
        ((pd.DataFrame(np.eye(p)),), "expected the coefficients"),
        ((own, "a"), "cluster is given with"),
        (("CR2", None, 3), "df is for a matrix of your own"),
        ((own, None, 0), "df is 0; expected a number above zero"),
    ):
        with pytest.raises(ArgumentError, match=message):
            fit.with_vcov(*arguments)
    with pytest.raises(ArgumentError, match="with_vcov has no type"):
        fit.with_vcov("CR2", type="CR1")
    with pytest.raises(AttributeError, match="vcov\\(robust='CR2', cluster"):
        fit.vcovCR()
    with pytest.raises(ArgumentError, match="give robust='CR2' too"):
        fit.vcov(cluster="a")
    with pytest.raises(ArgumentError, match="robust is 'HC1'"):
        fit.vcov(robust="HC1")
    few = lmer("y ~ x * f + (1 | a)", PANEL)
    with pytest.raises(ArgumentError, match="there are 3 clusters for 6 coefficients"):
        few.with_vcov("CR1p", cluster="f")


def test_what_does_not_go_by_a_chosen_covariance():
    fit = model("finer").with_vcov("CR2")
    for call, message in (
        (lambda: fit.coef_table(ddf="kenward-roger"), "go by CR2 by a; expected 'auto', 'satt"),
        (lambda: fit.confint(), "method='profile' are by the model.*use method='wald'"),
        (lambda: fit.confint("x", method="boot", n=2), "method='boot' are by the model"),
        (lambda: fit.vcov(full=True), r"all parameters \(full=True\) is by the model"),
        (lambda: power(fit, "x", n=2), "power simulates tests that are by the model"),
        (
            lambda: fit.tidy(conf_int=True, conf_method="profile"),
            "method='profile' are by the model",
        ),
    ):
        with pytest.raises(ArgumentError, match=message):
            call()
    assert fit.confint("theta_").shape == (2, 2)
    small = lmer("y ~ x + (1 | a)", PANEL)
    note = "Likelihood ratios do not use CR2 by a, which fit has."
    assert note in str(anova(fit, small, env={"fit": fit, "small": small}))
    assert "do not use CR2 by a" in str(fit.drop1())
    assert fit.update(". ~ . - x")._fit.beta_covariance is None


def test_memory_that_roots_need(monkeypatch):
    monkeypatch.setattr(corrections, "fits", lambda needed: False)
    for key in ("nested", "weights"):
        with pytest.raises(MemoryError, match=r"CR2 needs about .* use 'CR1' or 'CR3'"):
            model(key).with_vcov("CR2", cluster="a")


def test_rows_without_information():
    d = PANEL.assign(hits=(PANEL["x"] > 0).astype(int), x=1e4 * PANEL["x"])
    fit = glmer("hits ~ 1 + (1 | a)", d, "binomial")
    far = at_far_end(fit)
    with pytest.raises(FitError, match=r"130 of 130 rows have working weights of zero"):
        far.with_vcov("CR2")


def at_far_end(fit):
    """The fit with linear predictors where probabilities round to one."""
    e = fit._fit.estimates
    eta = np.full(len(e.eta), 800.0)
    return type(fit)(replace(fit._fit, estimates=replace(e, eta=eta, mu=np.ones(len(eta)))))


# What goes by it


def test_everything_goes_by_one_covariance():
    fit = model("crossed").with_vcov("CR2", cluster="a")
    V, rule = fit.vcov().to_numpy(), approximation(fit._fit)
    se, df = np.sqrt(np.diag(V)), rule.row_df(np.eye(len(V)))
    assert np.allclose(fit.coef_table()["Std. Error"], se)
    assert np.allclose(fit.tidy(effects="fixed")[["std_error", "df"]], np.column_stack([se, df]))
    rows = fit.contest(np.eye(len(V)), joint=False).frame
    assert np.allclose(rows[["Std. Error", "df"]], np.column_stack([se, df]))
    limits = fit.confint("beta_", method="wald").to_numpy()
    assert np.allclose(limits, rows[["lower", "upper"]])
    joint = fit.contest(["fq", "fr"]).frame
    for table in (fit.anova(), fit.drop1(test="F")):
        assert np.allclose(table.frame.loc["f"], joint.iloc[0])
    new = pd.DataFrame({"x": [0.0], "f": ["p"]})
    at = fit.predict(new, re_form=False, interval="confidence").iloc[0]
    assert np.allclose(at[["se_fit", "lower", "upper"]], [se[0], *limits[0]])
    means = fit.emmeans("f", at={"x": 0}).to_frame()
    assert np.allclose(means[["std_error", "df"]].iloc[0], [se[0], df[0]])


@pytest.mark.parametrize("key", ["finer", "counts"])
def test_predictions_take_its_variance_of_the_coefficients(key):
    """A covariance of the model's own size changes nothing where theta is taken as known."""
    fit = model(key)
    own = fit.vcov(use_hessian=False)
    same, plain = (
        predictions(each._fit, se_fit=True, given_theta=True) for each in (fit.with_vcov(own), fit)
    )
    assert np.allclose(same, plain, rtol=1e-8)
    wide = fit.with_vcov(4 * own).predict(se_fit=True)
    assert (wide["se_fit"] > fit.predict(se_fit=True)["se_fit"]).all()
    bounds = fit.with_vcov("CR2").predict(interval="confidence", type="link")
    assert (bounds["lower"] < bounds["fit"]).all()
    assert (bounds["fit"] < bounds["upper"]).all()


def test_a_matrix_of_ones_own():
    fit = model("finer")
    V = 4 * fit.vcov()
    shuffled = V.iloc[::-1, ::-1]
    z = fit.with_vcov(shuffled).coef_table()
    assert list(z.columns) == ["Estimate", "Std. Error", "z value", "Pr(>|z|)"]
    assert np.allclose(z["Std. Error"], 2 * fit.coef_table()["Std. Error"])
    t = fit.with_vcov(V.to_numpy(), df=7)
    assert (t.coef_table()["df"] == 7).all()
    assert t.anova().frame["DenDF"].tolist() == [7, 7]
    assert np.allclose(4 * t.anova()["F value"], fit.anova()["F value"], rtol=1e-6)
    zero = fit.with_vcov(np.zeros(V.shape))
    assert zero.anova().frame["Pr(>Chisq)"].isna().all()
    assert "z-tests" in str(zero.summary())
    chisq = fit.with_vcov(V, df=np.inf).anova()
    assert np.allclose(chisq["Chisq"] / chisq["Df"], t.anova()["F value"])
    assert fit.with_vcov(V).with_vcov(None).coef_table().equals(fit.coef_table())


def test_too_few_clusters_for_a_joint_test():
    fit = lmer("y ~ x * f + (1 | a)", PANEL).with_vcov("CR2", cluster="f")
    assert fit.contest(["x", "fq", "fr", "x:fq"]).frame["Pr(>F)"].isna().all()
    fit = lmer("y ~ x + factor(c) + (1 | a)", PANEL).with_vcov("CR2", cluster="f")
    assert "Too few clusters for a test of factor(c)" in str(fit.anova())


def test_tables_say_what_they_go_by():
    fit = model("crossed").with_vcov("CR1", cluster="a")
    named = "the CR1 covariance by a (11 clusters, crossed by c)"
    assert named in " ".join(str(fit.summary()).split())
    assert named in str(fit.anova())
    assert named in str(fit.contest("x"))
    assert named in str(fit.contest("x", ddf=None))
    assert named in fit.anova()._repr_html_()
    assert named in fit.anova().to_latex()
    assert fit.coef_table().columns.name == fit.tidy().columns.name == "CR1 by a"
    assert "HTZ degrees" in str(fit.contest(["fq", "fr"]))
    assert "Satterthwaite degrees" in str(fit.contest("x"))
    counts = model("poisson").with_vcov("CR2")
    assert "t-tests use the CR2 covariance by a (11 clusters)" in " ".join(
        str(counts.summary()).split()
    )
    z = counts.anova(ddf=None)
    assert "Wald chisquare tests) with the CR2" in str(z)
    assert list(counts.coef_table(ddf=None).columns)[-1] == "Pr(>|z|)"


def test_pickles_are_small_and_whole():
    fit = model("nested").with_vcov("CR2")
    again = pickle.loads(pickle.dumps(fit))
    assert again.coef_table().equals(fit.coef_table())
    assert len(pickle.dumps(fit)) < len(pickle.dumps(model("nested"))) + 10_000


def test_models_without_fixed_effects_and_with_dropped_columns():
    none = lmer("y ~ 0 + (1 | a)", PANEL)
    for type in TYPES:
        assert none.vcov(robust=type).shape == (0, 0)
    none = none.with_vcov("CR2")
    assert len(none.coef_table()) == 0
    d = PANEL.assign(x2=2 * PANEL["x"])
    fit = lmer("y ~ x + x2 + f + (1 | a)", d)
    assert np.allclose(fit.vcov(robust="CR2"), model("finer").vcov(robust="CR2"), rtol=1e-6)
