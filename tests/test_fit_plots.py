"""Pictures of a fit: what lies on the axes against numbers that have another source."""

import matplotlib
import matplotlib.dates
import numpy as np
import pandas as pd
import pytest
from scipy import stats
from scipy.integrate import trapezoid

from mixef import errors, glmer, lm_list, lmer, load_dataset
from mixef.inference.diagnostics.binned import binned_means, means_by_code
from mixef.inference.diagnostics.envelopes import envelope
from mixef.inference.diagnostics.held_draws import held_draws
from mixef.inference.diagnostics.mode_density import mode_density
from mixef.inference.diagnostics.quantiles import held_quantiles, kept_places
from mixef.inference.influence.linearized import linearized
from mixef.inference.refits.within_groups import within_groups
from mixef.plots.pairs import ellipse
from mixef.plots.points import MOST_POINTS

matplotlib.use("Agg")
import matplotlib.pyplot as plt

CBPP = "cbind(incidence, size - incidence) ~ period + (1 | herd)"


@pytest.fixture(autouse=True)
def no_figures_left():
    yield
    plt.close("all")


@pytest.fixture(scope="module")
def fit():
    return lmer("Reaction ~ Days + (Days | Subject)", load_dataset("sleepstudy"))


@pytest.fixture(scope="module")
def herds():
    return glmer(CBPP, load_dataset("cbpp"), "binomial")


@pytest.fixture(scope="module")
def pastes():
    return lmer("strength ~ 1 + (1 | batch/cask)", load_dataset("Pastes"))


def points_of(ax, label=None):
    """The x and y of the points on axes, or of those with a label."""
    lines = [line for line in ax.lines if line.get_linestyle() == "None" and len(line.get_xdata())]
    (line,) = [line for line in lines if label is None or line.get_label() == label]
    return line.get_xdata(), line.get_ydata()


def labelled(ax, label):
    (line,) = [line for line in ax.lines if line.get_label() == label]
    return line.get_xdata(), line.get_ydata()


# ---------------------------------------------------------------------- binned means, envelopes


def test_bins_hold_like_numbers_and_keep_ties_together():
    rng = np.random.default_rng(1)
    x, y = rng.normal(size=1000), rng.normal(size=1000)
    means = binned_means(x, y)
    assert means["n"].sum() == 1000
    assert len(means) == 20
    assert means["n"].between(49, 51).all()
    ties = binned_means(np.repeat(np.arange(30.0), [1] * 29 + [500]), rng.normal(size=529))
    assert ties["n"].max() >= 500
    assert ties["x"].is_monotonic_increasing


def test_intervals_of_means_are_students():
    rng = np.random.default_rng(2)
    codes, y = np.array([0] * 5 + [1] * 7 + [2]), rng.normal(size=13)
    means = means_by_code(codes, y, 0.9)
    for j, part in enumerate((y[:5], y[5:12])):
        low, high = stats.t.interval(0.9, len(part) - 1, part.mean(), stats.sem(part))
        assert np.allclose(means.loc[j, ["low", "high"]].to_numpy(float), [low, high])
    assert means["low"].isna().tolist() == [False, False, True]


def test_an_envelope_holds_its_share_of_whole_curves():
    drawn = np.random.default_rng(3).exponential(size=(40, 1500))
    found = envelope(drawn, 0.8)
    inside = (drawn >= found.all_low[:, None]) & (drawn <= found.all_high[:, None])
    assert abs(inside.all(axis=0).mean() - 0.8) < 0.01
    assert (found.all_low <= found.low).all()
    assert (found.high <= found.all_high).all()


def test_held_draws_have_the_residuals_of_refits_at_the_same_theta(fit):
    at = linearized(fit._fit)
    (residuals, u) = next(iter(held_draws(at, 4000, np.random.default_rng(4))))
    # Var(y - mu-hat) = sigma^2 (V^-1 - V^-1 X (X'V^-1 X)^-1 X'V^-1), V over sigma^2
    Zt = fit.getME("Zt").toarray()
    Lambda = fit.getME("Lambda").toarray()
    V = np.eye(180) + Zt.T @ Lambda @ Lambda.T @ Zt
    X, W = fit.getME("X").to_numpy(), np.linalg.inv(V)
    P = W - W @ X @ np.linalg.solve(X.T @ W @ X, X.T @ W)
    assert np.allclose(residuals.var(axis=1), P.diagonal(), atol=0.12)
    assert np.allclose(residuals @ residuals.T / 4000, P, atol=0.1)
    b = fit._fit.problem.terms.back_to_user(fit._fit.scaled_par)[0] @ u.reshape(18, 2, -1)
    expected = Lambda @ Lambda.T @ Zt @ P @ Zt.T @ Lambda @ Lambda.T
    own = np.sqrt(expected.diagonal().reshape(18, 2))
    assert np.allclose(b.std(axis=2), own, rtol=0.1)


def test_thinned_quantiles_keep_both_ends():
    for scale in ("normal", "uniform"):
        places = kept_places(100_000, scale)
        assert len(places) < 800
        assert set(range(40)) | set(range(99_960, 100_000)) <= set(places.tolist())


# ---------------------------------------------------------------------- residuals


def test_residuals_by_a_variable_have_means_by_its_values(fit):
    data = load_dataset("sleepstudy")
    ax = fit.plot.residuals("Days", type="pearson")
    assert np.array_equal(points_of(ax)[0], data["Days"])
    assert ax.get_xlabel() == "Days (days)"
    x, y = next(line.get_xydata().T for line in ax.lines if line.get_marker() == "s")
    assert np.allclose(y, fit.residuals().groupby(data["Days"].to_numpy()).mean())
    assert np.array_equal(x, np.arange(10.0))


def test_residuals_by_a_factor_are_boxes(fit):
    ax = fit.plot.residuals("Subject")
    subjects = load_dataset("sleepstudy")["Subject"].to_numpy()
    medians = fit.residuals().groupby(subjects, observed=True).median()
    drawn = [float(line.get_ydata()[0]) for line in ax.lines if line.get_color() == "C1"]
    assert np.allclose(drawn, medians)
    assert [label.get_text() for label in ax.get_xticklabels()] == list(medians.index.astype(str))


def test_many_levels_are_means_in_order():
    rng = np.random.default_rng(5)
    data = pd.DataFrame({"g": np.repeat(np.arange(200), 4).astype(str), "y": rng.normal(size=800)})
    many = lmer("y ~ 1 + (1 | g)", data)
    ax = many.plot.residuals("g")
    _, y = points_of(ax)
    means = many.residuals().groupby(data["g"]).mean()
    assert np.allclose(y, np.sort(means))


def test_many_rows_are_counted_in_hexagons():
    rng = np.random.default_rng(6)
    n = 4 * MOST_POINTS
    data = pd.DataFrame({"g": np.repeat(np.arange(40), n // 40), "y": rng.normal(size=n)})
    ax = lmer("y ~ 1 + (1 | g)", data).plot.residuals(np.arange(n))
    (hexagons,) = [c for c in ax.collections if c.get_array() is not None]
    assert hexagons.get_array().sum() == n


def test_a_generalized_model_has_simulated_residuals(herds):
    ax = herds.plot.residuals(seed=1)
    x, y = points_of(ax)
    assert np.allclose(y, herds.simulated_residuals(seed=1).scaled)
    assert np.allclose(x, herds.predict(re_form="~0"))
    assert ax.get_ylabel() == "Simulated residual"
    assert ax.get_xlabel() == "Fitted share of incidence,\nrandom effects at zero"
    assert points_of(herds.plot.residuals(type="deviance"))[1] == pytest.approx(herds.residuals())


def test_rows_that_were_left_out_are_not_drawn():
    data = load_dataset("sleepstudy")
    data.loc[[3, 40], "Reaction"] = np.nan
    fit = lmer("Reaction ~ Days + (Days | Subject)", data, na_action="exclude")
    x, y = points_of(fit.plot.residuals(by=data["Days"].to_numpy()))
    assert np.allclose(y, fit.residuals().dropna())
    assert np.array_equal(x, data["Days"].drop([3, 40]))


def test_scale_location_is_the_root_of_scaled_residuals(fit):
    _, y = points_of(fit.plot.scale_location())
    assert np.allclose(y, np.sqrt(fit.residuals("pearson", scaled=True).abs()))


def test_unknown_variables_and_types_are_refused(fit):
    with pytest.raises(errors.DataError, match="Dais"):
        fit.plot.residuals("Dais")
    with pytest.raises(errors.ArgumentError, match="did you mean 'pearson'"):
        fit.plot.residuals(type="person")


# ---------------------------------------------------------------------- quantiles


def test_quantiles_of_residuals(fit):
    ax = fit.plot.qq(seed=1)
    x, y = points_of(ax, "data")
    assert np.allclose(y, np.sort(fit.residuals("pearson", scaled=True)))
    assert np.allclose(x, stats.norm.ppf((np.arange(180) + 0.5) / 180))
    again = labelled(fit.plot.qq(seed=1), "95 %, all points")[1]
    assert np.array_equal(labelled(ax, "95 %, all points")[1], again)
    middle = labelled(ax, "median of draws")[1]
    assert abs(middle[90]) < 0.05
    assert 2.0 < middle[-1] < 2.9  # below that of 180 independent ones, as residuals are


def test_quantiles_of_simulated_residuals(herds):
    x, y = points_of(herds.plot.qq(seed=1), "data")
    assert np.allclose(y, np.sort(herds.simulated_residuals(seed=1).scaled))
    assert np.allclose(x, (np.arange(len(y)) + 0.5) / len(y))


def test_quantiles_of_modes(fit, herds):
    figure = fit.plot.qq("modes", seed=1)
    for ax, name in zip(figure.axes, ("(Intercept)", "Days"), strict=True):
        assert np.allclose(points_of(ax, "data")[1], np.sort(fit.ranef()["Subject"][name]))
    ax = herds.plot.qq("modes", seed=1)
    assert np.allclose(points_of(ax, "data")[1], np.sort(herds.ranef()["herd"]["(Intercept)"]))
    # a mode's variance is Sigma - Var(b | y), by the model
    found = held_quantiles(fit._fit, 2000, 0.95, 1, ["modes"])[1]["Subject", "Days"]
    sd = np.sqrt(35.07 - fit.ranef(condVar=True).condVar["Subject"][0, 1, 1])
    assert found.envelope.middle[-1] == pytest.approx(sd * stats.norm.ppf(0.963), rel=0.1)


def test_refusals_of_quantiles(fit, herds):
    with pytest.raises(errors.ArgumentError, match="binomial family are not normal"):
        herds.plot.qq(type="pearson")
    with pytest.raises(errors.ArgumentError, match="give of='modes'"):
        fit.plot.qq(term="Days")
    with pytest.raises(errors.ArgumentError, match="the picture has 2 panels"):
        fit.plot.qq("modes", ax=plt.figure().subplots())
    with pytest.raises(errors.ArgumentError, match="did you mean 'Subject'"):
        fit.plot.qq("modes", group="Subjet")


# ---------------------------------------------------------------------- modes


def test_a_caterpillar_has_modes_and_their_intervals(fit):
    figure = fit.plot.caterpillar(level=0.9)
    modes = fit.ranef(condVar=True)
    frame = modes["Subject"]
    order = frame["(Intercept)"].to_numpy().argsort()
    for s, (ax, name) in enumerate(zip(figure.axes, frame, strict=True)):
        x, y = points_of(ax)
        assert np.allclose(x, frame[name].to_numpy()[order])
        assert np.array_equal(y, np.arange(18))
        half = stats.norm.ppf(0.95) * np.sqrt(modes.condVar["Subject"][order, s, s])
        ends = np.array([part[:, 0] for part in ax.collections[0].get_segments()])
        assert np.allclose(ends, np.column_stack([x - half, x + half]))
    labels = [label.get_text() for label in figure.axes[0].get_yticklabels()]
    assert labels == list(frame.index[order].astype(str))
    assert [ax.get_title() for ax in figure.axes] == ["(Intercept) (ms)", "Days (ms/days)"]


def test_caterpillars_of_several_factors_and_many_levels(pastes):
    assert [len(points_of(ax)[0]) for ax in pastes.plot.caterpillar().axes] == [30, 10]
    x, y = points_of(pastes.plot.caterpillar("batch", qq=True))
    assert np.allclose(x, np.sort(pastes.ranef()["batch"]["(Intercept)"]))
    assert np.allclose(y, stats.norm.ppf((np.arange(10) + 0.5) / 10))
    ax = pastes.plot.caterpillar("batch", order="levels")
    assert [label.get_text() for label in ax.get_yticklabels()] == list("JIHGFEDCBA")
    with pytest.raises(errors.ArgumentError, match="choose one by group= and term="):
        pastes.plot.caterpillar(ax=plt.figure().subplots())


def test_modes_without_covariances_are_points_alone(pastes):
    ax = pastes.ranef().plot("batch")
    assert not ax.collections
    assert ax.get_xlabel() == "Mode"


def test_shrinkage_starts_at_separate_regressions(fit):
    ax = fit.plot.shrinkage()
    apart = lm_list("Reaction ~ Days | Subject", load_dataset("sleepstudy")).coef()
    assert np.allclose(np.column_stack(points_of(ax, "within groups")), apart)
    assert np.allclose(np.column_stack(points_of(ax, "mixed model")), fit.coef()["Subject"])
    assert np.allclose(np.ravel(points_of(ax, "population")), fit.fixef())
    (arrows,) = [c for c in ax.collections if hasattr(c, "U")]
    assert np.allclose(arrows.U, (fit.coef()["Subject"] - apart)["(Intercept)"])
    swapped = fit.plot.shrinkage(x="Days")
    assert swapped.get_ylabel() == "(Intercept) (ms)"


def test_estimates_within_groups_hold_what_else_there_is(herds, pastes):
    # of a generalized model: one herd's regression on a constant, with the periods as an offset
    found = within_groups(herds._fit, "herd")
    data = load_dataset("cbpp")
    eta = herds.linear_predictor() - found.mixed["(Intercept)"].reindex(data["herd"]).to_numpy()
    herd = (data["herd"] == "1").to_numpy()
    p = 1 / (1 + np.exp(-(eta[herd] + found.within.loc["1", "(Intercept)"])))
    assert (data["size"][herd] * p).sum() == pytest.approx(data["incidence"][herd].sum())
    # of nested factors: means of what the outer one leaves
    found = within_groups(pastes._fit, "cask:batch")
    rest = load_dataset("Pastes")["strength"] - pastes.fitted()
    mean = rest.groupby(pastes._fit.terms[0].grouping.codes).mean().to_numpy()
    assert np.allclose(found.within["(Intercept)"], found.mixed["(Intercept)"] + mean)


def test_fixed_effects_that_are_combinations_of_what_varies_count():
    cake = lmer("angle ~ recipe + temp + diag(0 + recipe | replicate)", load_dataset("cake"))
    beta = cake.fixef()
    found = within_groups(cake._fit, "replicate").population
    assert found["recipeA"] == pytest.approx(beta["(Intercept)"])
    assert found["recipeC"] == pytest.approx(beta["(Intercept)"] + beta["recipeC"])


def test_levels_that_determine_nothing_have_no_arrow():
    data = load_dataset("sleepstudy").iloc[9:]  # the first subject keeps one day
    fit = lmer("Reaction ~ Days + (Days | Subject)", data)
    ax = fit.plot.shrinkage()
    assert len(points_of(ax, "within groups (1 undetermined)")[0]) == 17
    assert len(points_of(ax, "mixed model")[0]) == 18


def test_panels_show_data_with_three_fits(fit, pastes):
    figure = fit.plot.shrinkage(panels=True)
    data = load_dataset("sleepstudy")
    panels = {ax.get_title(): ax for ax in figure.axes}
    assert set(panels) == set(data["Subject"].astype(str))
    mine = (data["Subject"] == "308").to_numpy()
    ax = panels["308"]
    assert np.array_equal(labelled(ax, "data")[1], data["Reaction"][mine])
    assert np.allclose(labelled(ax, "mixed model")[1], fit.fitted()[mine])
    apart = lm_list("Reaction ~ Days | Subject", data).fitted()
    assert np.allclose(labelled(ax, "within groups")[1], apart[mine])
    assert np.allclose(labelled(ax, "population")[1], fit.predict(re_form="~0")[mine])
    with pytest.raises(errors.ArgumentError, match="is constant; leave panels out"):
        pastes.plot.shrinkage(panels=True)


def test_truth_values_are_boxes_and_dates_are_dates():
    data = load_dataset("sleepstudy")
    data["late"] = data["Days"] > 4
    data["day"] = pd.Timestamp("2024-01-01") + pd.to_timedelta(data["Days"], unit="D")
    dated = lmer("Reaction ~ Days + (1 | Subject)", data)
    assert len(dated.plot.residuals("late").get_xticklabels()) == 2
    ax = dated.plot.residuals("day")
    assert np.array_equal(points_of(ax)[0], 19723.0 + data["Days"])
    assert isinstance(ax.xaxis.get_major_locator(), matplotlib.dates.AutoDateLocator)


# ---------------------------------------------------------------------- the page


def test_the_page_has_panels_that_make_sense(fit, herds):
    assert len(fit.plot(seed=1).axes) == 5
    labels = [ax.get_ylabel() for ax in herds.plot(seed=1).axes]
    assert labels[:2] == ["Simulated residual", "Simulated residual"]
    dyes = lmer("Yield ~ 1 + (1 | Batch)", load_dataset("Dyestuff"))
    assert len(dyes.plot(seed=1).axes) == 3  # six batches are too few for quantiles


# ---------------------------------------------------------------------- distributions


def test_densities_are_of_random_effects_and_of_their_modes(fit):
    found = mode_density(fit._fit)["Subject", "Days"]
    x = found.index.to_numpy()
    assert trapezoid(found["modes"], x) == pytest.approx(1.0, abs=1e-3)
    sd = fit.VarCorr().stddev("Subject")["Days"]
    assert np.allclose(found["random_effects"], stats.norm.pdf(x, 0.0, sd))
    given = fit.ranef(condVar=True).condVar["Subject"][:, 1, 1].mean()
    assert trapezoid(found["modes"] * x**2, x) == pytest.approx(sd**2 - given, rel=0.01)
    figure = fit.plot.random_effects_density()
    (curve,) = [line for line in figure.axes[1].lines if line.get_label() == "random effects"]
    assert np.array_equal(curve.get_ydata(), found["random_effects"])
    one = fit.plot.random_effects_density(term="Days")
    heights = np.array([patch.get_height() for patch in one.patches if hasattr(patch, "get_x")])
    assert (heights >= 0.0).all()


def test_a_term_without_variance_has_modes_at_zero():
    data = load_dataset("Dyestuff2")
    with pytest.warns(errors.SingularFitWarning):
        singular = lmer("Yield ~ 1 + (1 | Batch)", data)
    ax = singular.plot.random_effects_density()
    assert not ax.lines
    assert np.array_equal(points_of(singular.plot.caterpillar())[0], np.zeros(6))
    assert len(singular.plot.shrinkage().lines) == 3


def test_ellipses_of_pairs_hold_their_share(fit):
    edge = ellipse(np.array([[4.0, 1.0], [1.0, 2.0]]), 0.95)
    inverse = np.linalg.inv([[4.0, 1.0], [1.0, 2.0]])
    distance = np.einsum("ik,ij,jk->k", edge, inverse, edge)
    assert np.allclose(distance, stats.chi2.ppf(0.95, 2))
    figure = fit.plot.ranef_pairs(level=0.9)
    (ax,) = [own for own in figure.axes if any(line.get_marker() == "o" for line in own.lines)]
    assert np.array_equal(np.column_stack(points_of(ax)), fit.ranef()["Subject"])
    cov = fit.VarCorr()["Subject"].to_numpy()
    curve = np.stack(labelled(ax, "90 % of random effects"))
    distance = np.einsum("ik,ij,jk->k", curve, np.linalg.inv(cov), curve)
    assert np.allclose(distance, stats.chi2.ppf(0.9, 2))


def test_pairs_need_two_coefficients(pastes):
    with pytest.raises(errors.ArgumentError, match="two coefficients or more"):
        pastes.plot.ranef_pairs()
    with pytest.raises(errors.ArgumentError, match="which has one coefficient"):
        pastes.plot.ranef_pairs("batch")


# ---------------------------------------------------------------------- results that draw


def test_simulated_residuals_draw_quantiles_and_quartiles(fit, herds):
    rows = fit.simulated_residuals(seed=1)
    x, y = labelled(rows.plot().axes[1], "quantile 0.25")
    days = load_dataset("sleepstudy")["Days"].to_numpy()  # the order of the fitted means
    assert np.allclose(y, rows.scaled.groupby(days).quantile(0.25))
    assert np.allclose(x, (np.arange(10) * 18 + 9.5) / 180)
    residuals = herds.simulated_residuals(seed=1)
    left, right = residuals.plot().axes
    assert np.allclose(points_of(left, "data")[1], np.sort(residuals.scaled))
    cloud = next(line for line in right.lines if line.get_linestyle() == "None")
    assert np.array_equal(cloud.get_ydata(), residuals.scaled)
    boxes = residuals.plot("period").axes[1]
    assert [label.get_text() for label in boxes.get_xticklabels()] == ["1", "2", "3", "4"]
    assert len(residuals.recalculate("herd").plot().axes) == 2
    with pytest.raises(errors.DataError, match="perod"):
        residuals.plot("perod")


def test_responses_outside_of_all_draws_are_crosses():
    data = load_dataset("sleepstudy")
    data.loc[7, "Reaction"] = 2000.0
    residuals = lmer("Reaction ~ Days + (1 | Subject)", data).simulated_residuals(seed=1)
    right = residuals.plot().axes[1]
    outside = residuals.to_frame().query("outlier != 0")["scaled"]
    assert np.array_equal(np.sort(labelled(right, "outside of all draws")[1]), np.sort(outside))


def test_influence_draws_and_labels_the_largest(fit):
    found = fit.influence("Subject")
    ax = found.plot(n=3)
    assert np.array_equal(points_of(ax)[1], found.cooks_distance())
    assert {label.get_text() for label in ax.texts} == set(found.most(3).index.astype(str))
    ax = found.plot("Days", n=0)
    assert np.array_equal(points_of(ax)[1], found.dfbetas()["Days"])
    assert not ax.texts
    heights = sorted(float(line.get_ydata()[0]) for line in ax.lines if len(line.get_ydata()) == 2)
    assert heights == pytest.approx([-2 / np.sqrt(18), 0.0, 2 / np.sqrt(18)])
    ax = found.plot("sigma")
    assert np.array_equal(points_of(ax)[1], found.sigma())
    assert fit.sigma in [line.get_ydata()[0] for line in ax.lines]
    with pytest.raises(errors.ArgumentError, match="by is 'zzz'"):
        found.plot("zzz")


def test_a_second_coefficient_has_to_be_there(herds):
    with pytest.raises(errors.ArgumentError, match="herd has one coefficient"):
        herds.plot.shrinkage(y="period2")
