"""Pictures of what a model says: the data on the axes beside numbers of the model."""

import matplotlib
import numpy as np
import pandas as pd
import pytest
from scipy import special
from scipy.integrate import trapezoid

import mixef
from mixef import errors, glmer, lmer, load_dataset
from mixef.inference.intervals.curves import coordinate, coordinate_slope
from mixef.inference.intervals.pairs import pair_of, values_of
from mixef.inference.marginal import effects as of_effects
from mixef.plots.factor_images import image

matplotlib.use("Agg")
import matplotlib.pyplot as plt

CBPP = "cbind(incidence, size - incidence) ~ period + (1 | herd)"


@pytest.fixture(autouse=True)
def no_figures_left():
    yield
    plt.close("all")


@pytest.fixture(scope="module")
def sleep():
    return lmer("Reaction ~ Days + (Days | Subject)", load_dataset("sleepstudy"))


@pytest.fixture(scope="module")
def cbpp():
    return glmer(CBPP, load_dataset("cbpp"), "binomial")


@pytest.fixture(scope="module")
def contraception():
    data = load_dataset("Contraception")
    return glmer("use ~ age + I(age^2) + urban + (urban | district)", data, "binomial")


@pytest.fixture(scope="module")
def dyestuff():
    return lmer("Yield ~ 1 + (1 | Batch)", load_dataset("Dyestuff"), REML=False)


def lines(ax, style):
    return [line for line in ax.lines if line.get_linestyle() == style and len(line.get_xdata())]


# Effects


def test_effects_of_a_linear_model(sleep):
    ax = sleep.plot.effects("Days")
    (curve,), (points,) = lines(ax, "-"), lines(ax, "None")
    x = curve.get_xdata()
    by_predict = sleep.predict({"Days": x}, re_form="~0", interval="confidence")
    assert np.allclose(curve.get_ydata(), by_predict["fit"], rtol=1e-12)
    band = ax.collections[0].get_paths()[0].vertices
    assert np.isclose(band[:, 1].min(), by_predict["lower"].min(), rtol=1e-6)
    assert np.isclose(band[:, 1].max(), by_predict["upper"].max(), rtol=1e-6)
    data = load_dataset("sleepstudy")
    assert sorted(points.get_xdata()) == sorted(data["Days"])
    assert sorted(points.get_ydata()) == sorted(data["Reaction"])
    assert (ax.get_xlabel(), ax.get_ylabel()) == ("Days (days)", "Reaction (ms)")
    assert ax.get_legend() is None


def test_typical_and_averaged_means_are_those_of_predict(cbpp):
    found = of_effects.effects(cbpp._fit, "period").frame
    new = {"period": ["1", "2", "3", "4"]}
    typical = cbpp.predict(new, re_form="~0", interval="confidence")
    averaged = cbpp.predict(new, population_averaged=True, interval="confidence")
    for kind, expected in (("typical", typical), ("averaged", averaged)):
        own = found[found["kind"] == kind]
        for name, other in (("estimate", "fit"), ("conf_low", "lower"), ("conf_high", "upper")):
            assert np.allclose(own[name], expected[other], rtol=1e-10), (kind, name)
    ax = cbpp.plot.effects("period")
    assert [t.get_text() for t in ax.get_xticklabels()] == ["1", "2", "3", "4"]
    assert ax.get_ylabel() == "Probability of incidence"
    shown = [c.lines[0].get_ydata() for c in ax.containers]
    assert np.allclose(shown, [typical["fit"], averaged["fit"]], rtol=1e-10)


def test_averages_know_the_columns_of_random_effects(contraception):
    """The variance of random effects is another one in each place, with urban in a term."""
    at = {"age": [-5.0, 0.0, 10.0]}
    found = of_effects.effects(contraception._fit, "age", "urban", at).frame
    own = found[found["kind"] == "averaged"].sort_values(["series", "x"])
    new = pd.DataFrame({"age": at["age"] * 2, "urban": ["N"] * 3 + ["Y"] * 3})
    expected = contraception.predict(new, population_averaged=True, interval="confidence")
    assert np.allclose(own["estimate"], expected["fit"], rtol=1e-10)
    assert np.allclose(own["conf_low"], expected["lower"], rtol=1e-10)


def test_series_are_told_apart_by_marks_and_kinds_by_lines(contraception):
    ax = contraception.plot.effects("age", by="urban")
    curves = [line for line in ax.lines if len(line.get_xdata()) == of_effects.POINTS]
    assert [line.get_marker() for line in curves] == ["o", "s", "o", "s"]
    assert [line.get_linestyle() for line in curves] == ["-", "-", "--", "--"]
    assert [t.get_text() for t in ax.get_legend().get_texts()] == [
        "urban = N", "urban = Y", "typical: random effects at zero", "averaged over random effects",
    ]  # fmt: skip
    assert ax.get_ylabel() == "Probability of use = Y"


def test_many_rows_are_shown_by_means(contraception):
    data = load_dataset("Contraception")
    bins = pd.qcut(data["age"], of_effects.MEANS, labels=False, duplicates="drop")
    expected = (data["use"] == "Y").groupby(bins).mean()
    points, rug = lines(contraception.plot.effects("age"), "None")
    assert np.allclose(points.get_ydata(), expected)
    assert len(rug.get_xdata()) == 200
    assert len(lines(contraception.plot.effects("age", data=False), "None")) == 0
    (rug,) = lines(contraception.plot.effects("age", type="link"), "None")  # no place for 0 and 1
    assert rug.get_marker() == "|"


def test_scales_of_effects(contraception):
    on_link = of_effects.effects(contraception._fit, "age", type="link").frame
    on_mean = of_effects.effects(contraception._fit, "age").frame
    assert np.allclose(special.expit(on_link["estimate"]), on_mean["estimate"], rtol=1e-12)
    cake = lmer("log(angle) ~ recipe + temp + (1 | recipe:replicate)", load_dataset("cake"))
    ax, logs = cake.plot.effects("temp"), cake.plot.effects("temp", type="link")
    back = [np.exp(line.get_ydata()) for line in lines(logs, "-") + lines(logs, "None")]
    shown = [line.get_ydata() for line in lines(ax, "-") + lines(ax, "None")]
    assert all(np.allclose(*pair) for pair in zip(back, shown, strict=True))
    assert (ax.get_ylabel(), logs.get_ylabel()) == ("angle (degrees)", "log(angle)")


def test_rows_are_shown_at_the_offset_of_the_means():
    data = load_dataset("grouseticks").assign(hours=lambda d: 1.0 + np.arange(len(d)) % 3)
    data.loc[7, "TICKS"] = np.nan
    fit = glmer("TICKS ~ YEAR + offset(log(hours)) + (1 | BROOD)", data, "poisson")
    kept = data.dropna()
    mean_hours = np.exp(np.log(kept["hours"]).mean())
    rows = of_effects.effects(fit._fit, "YEAR").rows
    assert np.allclose(rows["y"], kept["TICKS"] / kept["hours"] * mean_hours)
    assert np.array_equal(rows["x"], kept["YEAR"].cat.codes)


def test_covariates_in_by_stand_about_their_means(sleep):
    data = load_dataset("sleepstudy").assign(w=lambda d: np.sin(np.arange(180.0)))
    fit = lmer("Reaction ~ Days * w + (1 | Subject)", data)
    found = of_effects.effects(fit._fit, "Days", "w")
    mean, sd = data["w"].mean(), data["w"].std()
    values = [round(mean + k * sd, 3) for k in (-1, 0, 1)]
    assert found.series == tuple(f"w = {value:g}" for value in values)
    nearest = np.abs(data["w"].to_numpy()[:, None] - values).argmin(axis=1)
    assert np.array_equal(found.rows["series"], nearest)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("Subject",), "x is 'Subject', which is no predictor of the fixed effects; they are Days"),
        (
            ("Days", "nothing"),
            "by is 'nothing', which is no predictor of the fixed effects; they are Days",
        ),
        (("Days", None, {"Days": []}), "at has no value of Days"),
        (("Days", None, None, "mode"), "type is 'mode'"),
    ],
)
def test_effects_refuse(sleep, arguments, message):
    with pytest.raises(errors.ArgumentError, match=message):
        sleep.plot.effects(*arguments)


def test_series_that_nobody_tells_apart_are_refused():
    data = load_dataset("sleepstudy").assign(f=lambda d: "f" + (d.index % 9).astype(str))
    fit = lmer("Reaction ~ Days + f + (1 | Subject)", data)
    with pytest.raises(errors.ArgumentError, match="by has 9 combinations of values of f; exp"):
        fit.plot.effects("Days", by="f")


def test_an_average_that_does_not_exist():
    data = load_dataset("cake")
    fit = glmer("angle ~ temp + (1 | recipe:replicate)", data, "Gamma(inverse)")
    assert set(of_effects.effects(fit._fit, "temp").frame["kind"]) <= {"typical", "averaged"}
    data["angle"] *= np.exp(2.0 * np.sin(data["replicate"].astype(float)))
    fit = fit.update(data=data)
    assert set(of_effects.effects(fit._fit, "temp").frame["kind"]) == {"typical"}
    with pytest.raises(errors.ArgumentError, match="no population average with the inverse link"):
        fit.plot.effects("temp", average=True)


# Profiles


@pytest.mark.parametrize("scale", ["natural", "log", "variance"])
@pytest.mark.parametrize("kind", ["sd", "cor", "sigma", "shape", "beta"])
def test_slopes_of_coordinates(kind, scale):
    values, h = np.array([0.2, 0.5, 0.9]), 1e-6
    ends = [coordinate(kind, values + k * h, scale) for k in (-1, 1)]
    by_differences = (ends[1] - ends[0]) / (2 * h)
    assert np.allclose(coordinate_slope(kind, values, scale), by_differences, rtol=1e-8)


def test_zeta_and_density(dyestuff):
    profile = dyestuff.profile()
    figure = profile.plot()
    for ax, name in zip(figure.axes, ("sd_(Intercept)|Batch", "sigma", "(Intercept)"), strict=True):
        curve, points = ax.lines[0], ax.lines[1]
        assert ax.get_xlabel() == name
        assert np.allclose(curve.get_ydata(), profile.zeta(name, curve.get_xdata()), atol=1e-9)
        own = profile.to_frame().query("param == @name")
        assert np.allclose(points.get_xdata(), own["value"])
        ends = {round(line.get_xdata()[0], 6) for line in ax.lines if len(line.get_xdata()) == 2}
        limits = profile.confint(0.8).loc[name]
        assert all(any(abs(end - x) < 1e-3 * abs(x) for end in ends) for x in limits)
    for made in (profile, profile.log(), profile.variance()):
        for ax, curve in zip(made.plot("density").axes, made.curves, strict=True):
            x, y = ax.lines[0].get_data()
            mass = special.ndtr(curve.zeta[-1]) - special.ndtr(curve.zeta[0])
            assert ax.get_xlabel().replace("\n| ", "|") == made.label(curve.name)
            # from where a log is finite: the curve of the standard deviation starts at zero
            lost = special.ndtr(curve.zeta_at(coordinate(curve.kind, x[0], made.scale)))
            lost -= special.ndtr(curve.zeta[0])
            assert np.isclose(trapezoid(y, x), mass - lost, atol=2e-3)


def exact_deviance(sd, sigma):
    """-2 log L of Dyestuff at the best mean, by the covariance of the responses."""
    data = load_dataset("Dyestuff")
    y, Z = data["Yield"].to_numpy(), pd.get_dummies(data["Batch"]).to_numpy(dtype=float)
    V = sd**2 * Z @ Z.T + sigma**2 * np.eye(len(y))
    Vi = np.linalg.inv(V)
    r = y - (Vi @ y).sum() / Vi.sum()
    return np.linalg.slogdet(2 * np.pi * V)[1] + r @ Vi @ r


def test_contours_have_one_deviance(dyestuff):
    """Exact at four points, and between them as good as phi is smooth.

    For the standard deviations of Dyestuff, whose profiles are far from straight, the deviance on
    a contour is within 3 % (50 %) and 8 % (80 %) of its height above the minimum.
    """
    profile = dyestuff.profile(["sd_*", "sigma"], alphamax=0.002)
    pair, lowest = pair_of(profile, 0, 1), -2 * dyestuff.loglik
    for tau, most in ((1.1774, 0.03), (1.7941, 0.085)):
        z = pair.contour(tau)
        values = np.column_stack(
            [values_of(profile, c, p) for c, p in zip((pair.i, pair.j), z.T, strict=True)]
        )
        rise = np.array([exact_deviance(*v) for v in values[::6]]) - lowest
        assert np.abs(rise / tau**2 - 1.0).max() < most, tau
        assert np.isclose(rise[0], tau**2, rtol=1e-4)  # where sigma is as large as can be
    # beyond zero there is no standard deviation, and the region ends
    assert np.isnan(values_of(profile, pair.i, pair.contour(3.0)[:, 0])).any()


def test_contours_of_coefficients(sleep):
    """Between the four points the deviance of fits with both coefficients held is 8 % lower.

    Tails of the joint profile are longer than those of both; a region's size is 4 % off.
    """
    fit = sleep.refit_ml()
    profile, data = fit.profile(["(Intercept)", "Days"], alphamax=0.002), load_dataset("sleepstudy")
    pair, tau = pair_of(profile, 0, 1), 2.4477
    z = pair.contour(tau)[::40]
    for at in np.column_stack(
        [values_of(profile, c, p) for c, p in zip((pair.i, pair.j), z.T, strict=True)]
    ):
        held = lmer(
            "Reaction ~ 0 + (Days | Subject)", data, False, offset=at[0] + at[1] * data["Days"]
        )
        assert np.isclose(held.objective - fit.objective, tau**2, rtol=0.09)


def test_traces_are_the_best_values(sleep):
    profile = sleep.profile(["(Intercept)", "Days"], alphamax=0.002)
    pair = pair_of(profile, 0, 1)
    frame = profile.to_frame().query("param == '(Intercept)'")
    assert np.allclose(pair.trace_i[:, 0], frame["zeta"])
    assert np.allclose(pair.trace_i[:, 1], profile.zeta("Days", frame["Days"]), atol=1e-7)
    figure = profile.plot("pairs")
    upper, lower = figure.axes[1], figure.axes[2]
    x, y = lower.lines[-2].get_data()
    assert np.allclose(x, frame["value"], rtol=1e-5)
    assert np.allclose(y, frame["Days"], rtol=1e-5)
    assert np.allclose(upper.lines[-1].get_xdata(), pair.trace_i[:, 1])
    assert len(lower.lines) == 7
    assert "regions of 50, 80, 90, 95, 99 %" in figure.legends[0].get_title().get_text()


def test_an_ellipse_is_an_ellipse():
    """Straight traces of slope r make phi constant: the contour of a quadratic deviance."""
    curve, r = np.linspace(-3, 3, 13), 0.6
    straight = np.column_stack([curve, r * curve])
    z = pair_of.__globals__["Pair"](None, None, straight, straight[:, ::-1]).contour(2.0)
    q = (z[:, 0] ** 2 - 2 * r * z[:, 0] * z[:, 1] + z[:, 1] ** 2) / (1 - r**2)
    assert np.allclose(q, 4.0)


def test_pictures_of_profiles_refuse(dyestuff):
    profile = dyestuff.profile("sigma")
    with pytest.raises(errors.ArgumentError, match="kind is 'nothing'"):
        profile.plot("nothing")
    with pytest.raises(errors.ArgumentError, match="1 parameter; expected 2 to 10"):
        profile.plot("pairs")
    with pytest.raises(
        errors.ArgumentError, match=r"levels has 0.999.*profile with alphamax=0.001"
    ):
        profile.plot(levels=[0.999])
    with pytest.raises(errors.ArgumentError, match="a level is 95"):
        profile.plot(levels=[95])
    with pytest.raises(errors.ArgumentError, match="ax is for the profile of one parameter"):
        dyestuff.plot.profile_zeta(ax=plt.figure().subplots())
    own = plt.figure().subplots()
    assert profile.plot("density", ax=own) is own


# Factors


def test_images_of_a_factor():
    fit = lmer("diameter ~ 1 + (1 | plate) + (1 | sample)", load_dataset("Penicillin"))
    figure = fit.plot.factor_images([1.2, 2.1], order=["sample", "plate"], permute=False)
    at = fit.factor_at([1.2, 2.1], order=["sample", "plate"], permute=False)
    Z, A, L = (np.asarray(ax.images[0].get_array())[..., 3] > 0 for ax in figure.axes)
    assert np.array_equal(A, at.A.toarray() != 0)
    assert np.array_equal(L, at.L.toarray() != 0)
    assert Z.shape == (144, 30)
    assert np.array_equal((Z.astype(float).T @ Z) != 0, A)
    assert [ax.get_title().split(", ")[1].split()[0] for ax in figure.axes] == ["288", "174", "450"]
    permuted = fit.plot.factor_images(order=["sample", "plate"], transpose=True)
    assert [ax.get_title().split()[0] for ax in permuted.axes] == ["Z'", "Λ'Z'ZΛ", "L"]
    assert permuted.axes[2].get_title().endswith("204 non-zeros")


def test_large_matrices_are_binned():
    rng = np.random.default_rng(1)
    rows, columns = rng.integers(700, size=500), rng.integers(90, size=500)
    M = np.zeros((700, 90))
    M[rows, columns] = 1.0
    dark = image(M, cells=70)
    assert dark.shape == (70, 70)
    place = np.arange(90) * 70 // 90
    blocks = M.reshape(70, 10, 90).sum(axis=1)
    expected = np.array([blocks[:, place == c].sum(axis=1) for c in range(70)]).T > 0
    assert np.array_equal(dark > 0, expected)
    assert dark[dark > 0].min() > 0.3


# Integrands


def brute_force(fit, herd, z):
    """The density of the incidences of a herd and its effect, at distances z from the mode."""
    data = load_dataset("cbpp").query("herd == @herd")
    new = pd.DataFrame({"period": data["period"], "herd": herd})
    eta = fit.predict(new, re_form="~0", type="link").to_numpy()
    y, n = data["incidence"].to_numpy(), data["size"].to_numpy()
    sd = fit.VarCorr().to_frame()["sdcor"].iloc[0]

    def log_density(u):
        mu = special.expit(eta + sd * np.asarray(u)[..., None])
        return (y * np.log(mu) + (n - y) * np.log1p(-mu)).sum(axis=-1) - 0.5 * np.asarray(u) ** 2

    u, h = 0.0, 1e-4
    for _ in range(60):  # Newton's steps, by differences
        below, here, above = (float(log_density(u + k * h)) for k in (-1, 0, 1))
        curvature = (above - 2 * here + below) / h**2
        u -= (above - below) / (2 * h) / curvature
    mu = special.expit(eta + sd * u)
    spread = 1.0 / np.sqrt(1.0 + sd**2 * (n * mu * (1 - mu)).sum())
    return np.exp(log_density(u + spread * z) - log_density(u)) / np.sqrt(2 * np.pi)


def test_integrands_are_those_of_brute_force(cbpp):
    figure = cbpp.plot.integrand()
    assert [ax.get_title() for ax in figure.axes] == list(cbpp.ranef()["herd"].index)
    for ax in figure.axes[::5]:
        density, normal = ax.lines
        z = density.get_xdata()
        expected = brute_force(cbpp, ax.get_title(), z)
        assert np.allclose(density.get_ydata(), expected, atol=1e-6)
        assert np.allclose(normal.get_ydata(), np.exp(-0.5 * z**2) / np.sqrt(2 * np.pi))
    figure = cbpp.plot.t_z(["8", "1"], nodes=5)
    for ax, herd in zip(figure.axes, ("8", "1"), strict=True):
        curve, nodes = ax.lines[0], ax.lines[-1]
        z = curve.get_xdata()
        ratio = brute_force(cbpp, herd, z) * np.sqrt(2 * np.pi) * np.exp(0.5 * z**2)
        assert np.allclose(curve.get_ydata(), ratio, rtol=1e-3)
        assert np.allclose(nodes.get_xdata(), [-2.857, -1.356, 0, 1.356, 2.857], atol=1e-3)


def test_integrands_of_many_levels_and_on_one_axes(contraception):
    fit = contraception.update(". ~ . - (urban | district) + (1 | district)")
    assert len(fit.plot.t_z().axes) == 24
    own = plt.figure().subplots()
    assert fit.plot.integrand(["1", "35"], ax=own) is own
    assert [t.get_text() for t in own.get_legend().get_texts()] == ["integrand", "normal density"]


def test_integrands_refuse(sleep, cbpp, contraception):
    with pytest.raises(errors.ArgumentError, match="every integrand is a normal density"):
        sleep.plot.integrand()
    with pytest.raises(errors.DataError, match="single term with one column"):
        contraception.plot.t_z()
    with pytest.raises(errors.ArgumentError, match="levels has '99'; expected levels of herd"):
        cbpp.plot.integrand("99")
    with pytest.raises(errors.ArgumentError, match="k is 0"):
        cbpp.plot.t_z(nodes=0)


# Estimates with intervals


def segments(ax):
    return np.array([[x for x, _ in path.vertices] for path in ax.collections[0].get_paths()])


def test_marginal_means_contrasts_and_slopes():
    fit = lmer("angle ~ recipe * temp + (1 | recipe:replicate)", load_dataset("cake"))
    means = fit.emmeans("recipe")
    for made, line in ((means, None), (means.pairs(), 0.0), (fit.emtrends("temp", "recipe"), 0.0)):
        ax, frame = made.plot(), made.to_frame()
        assert np.allclose(ax.lines[-1].get_xdata(), frame["estimate"])
        assert np.allclose(segments(ax), frame[["conf_low", "conf_high"]])
        assert [line_.get_xdata()[0] for line_ in ax.lines[:-1]] == ([] if line is None else [line])
    assert ax.get_xlabel() == "Slope of angle (degrees) on temp"
    figure = fit.emmeans("recipe", by="temp", at={"temp": [180, 200]}).plot()
    assert [ax.get_title() for ax in figure.axes] == ["temp = 180", "temp = 200"]
    assert [ax.get_xlabel() for ax in figure.axes] == ["", "angle (degrees)"]
    one_sided = means.confint(side="<").plot()
    assert np.isfinite(segments(one_sided)).all()


def test_ratios_stand_beside_one(cbpp):
    odds = cbpp.emmeans("period", type="response")
    ax = odds.pairs().plot()
    assert ax.get_xscale() == "log"
    assert ax.lines[0].get_xdata()[0] == 1.0
    assert ax.get_xlabel() == "Odds ratio"
    assert odds.plot().get_xlabel() == "Probability of incidence"
    assert odds.regrid().pairs().plot().get_xlabel() == "Difference: Probability of incidence"
    assert cbpp.emmeans("period").plot().get_xlabel() == "Linear predictor (logit)"
    with pytest.raises(errors.ArgumentError, match="ax must be one matplotlib Axes"):
        odds.plot(ax=3)
    with pytest.raises(errors.ArgumentError, match="there are 4, by period"):
        cbpp.emmeans("1", by="period").plot(ax=plt.figure().subplots())


def test_coefficients_of_several_fits(sleep, cbpp):
    other = sleep.refit_ml()
    ax = sleep.plot.coefficients(other, names=["REML", "ML"], terms="*")
    assert [t.get_text() for t in ax.get_yticklabels()] == ["(Intercept)", "Days"]
    assert [t.get_text() for t in ax.get_legend().get_texts()] == ["REML", "ML"]
    for i, fit in enumerate((sleep, other)):
        limits = fit.tidy("fixed", conf_int=True)[["conf_low", "conf_high"]]
        drawn = [[x for x, _ in path.vertices] for path in ax.collections[i].get_paths()]
        assert np.allclose(drawn, limits)
        assert np.allclose(ax.lines[1 + i].get_xdata(), fit.fixef())
    assert [line.get_marker() for line in ax.lines[1:]] == ["o", "s"]
    ax = mixef.etable(cbpp, exponentiate=True, stats=[]).plot(["period2"])
    assert np.allclose(ax.lines[-1].get_xdata(), np.exp(cbpp.fixef()["period2"]))
    assert ax.get_xlabel() == "Ratio"
    mixed = mixef.etable(sleep, cbpp, exponentiate=[False, True], stats=[])
    with pytest.raises(errors.ArgumentError, match="some models of the table have ratios"):
        mixed.plot()
    with pytest.raises(errors.ArgumentError, match="fit 2 is 3; expected a model fitted by lmer"):
        sleep.plot.coefficients(3)
    with pytest.raises(errors.ArgumentError, match=r"names is .* expected 2 names that differ"):
        sleep.plot.coefficients(other, names=["a", "a"])
    with pytest.raises(errors.ArgumentError, match=r"terms is 'x'; expected some of .*, Days"):
        sleep.plot.coefficients(terms="x")
    none = lmer("Reaction ~ 0 + (1 | Subject)", load_dataset("sleepstudy"))
    with pytest.raises(errors.ArgumentError, match="no fixed effects"):
        none.plot.coefficients()
    with pytest.raises(errors.ArgumentError, match="they are none"):
        none.plot.effects("Days")


# Simulations


def test_bootstrap_replicates(dyestuff):
    boot = dyestuff.bootstrap(30, seed=1)
    figure = boot.plot(level=0.8, type="basic")
    for ax, name in zip(figure.axes, boot.t0.index, strict=True):
        counted = sum(patch.get_height() for patch in ax.patches)
        assert counted == boot.replicates[name].notna().sum()
        estimate, *limits = (line.get_xdata()[0] for line in ax.lines)
        assert estimate == boot.t0[name]
        assert np.allclose(limits, boot.confint(0.8, "basic").loc[name])
    with pytest.raises(errors.ArgumentError, match="which is 'x'"):
        boot.plot("x")
    with pytest.raises(errors.ArgumentError, match="ax is for one statistic, and there are 3"):
        boot.plot(ax=plt.figure().subplots())


def test_null_distributions(sleep):
    test = mixef.pb_test(sleep, ". ~ . - Days", n=10, seed=1)
    ax = test.plot()
    widths = [patch.get_width() * patch.get_height() for patch in ax.patches]
    assert np.isclose(sum(widths), 1.0)
    curve, observed = ax.lines
    x, y = curve.get_data()
    assert np.allclose(y, np.exp(-0.5 * x) / np.sqrt(2 * np.pi * x))  # of one degree of freedom
    assert observed.get_xdata()[0] == test.frame.loc["LRT", "statistic"]


def test_power_against_sizes(sleep):
    fit = sleep.update(". ~ . - (Days | Subject) + (1 | Subject)")
    sizes = {"sizes": {"Subject": [4, 8]}, "within": {"Subject": [3, 5]}}
    made = mixef.power(fit, "Days", **sizes, n=5, seed=1)
    ax = made.plot()
    assert [t.get_text() for t in ax.get_legend().get_texts()] == [
        "rows per Subject = 3", "rows per Subject = 5",
    ]  # fmt: skip
    for bars, rows in zip(ax.containers, (3, 5), strict=True):
        own = made.frame[made.frame["rows per Subject"] == rows]
        assert np.allclose(bars.lines[0].get_xydata(), own[["Subject", "power"]])
        ends = np.array(bars.lines[2][0].get_segments())[:, :, 1]
        assert np.allclose(ends, own[["conf_low", "conf_high"]])


def test_long_names_and_dates():
    data = load_dataset("sleepstudy")
    data["long"] = "a name of thirty letters and more, of day " + data["Days"].astype(int).astype(
        str
    )
    data["when"] = pd.Timestamp("2024-01-01") + pd.to_timedelta(data["Days"], unit="D")
    ax = lmer("Reaction ~ long + (1 | Subject)", data).plot.effects("long")
    assert [t.get_text() for t in ax.get_xticklabels()][:2] == [
        "a name of thir… more, of day 0", "a name of thir… more, of day 1",
    ]  # fmt: skip
    ax = lmer("Reaction ~ when + (1 | Subject)", data).plot.effects("when")
    (curve,) = lines(ax, "-")
    first = (pd.Timestamp("2024-01-01") - pd.Timestamp("1970-01-01")).days
    assert np.allclose(curve.get_xdata()[[0, -1]], [first, first + 9])
    ax.figure.canvas.draw()
    assert "2024" in ax.xaxis.get_offset_text().get_text()


def test_the_density_of_a_correlation_at_its_bound():
    """It rises beyond all bounds there; the picture stops short of it."""
    fit = lmer("angle ~ recipe + cs(0 + recipe | replicate)", load_dataset("cake"))
    (ax,) = fit.plot.profile_density("cor_*").axes
    assert ax.lines[0].get_xdata().max() < 0.999
    assert ax.get_ylim()[1] < 1e3
