"""Separate regressions, against lme4's lmList (reference/lmlist.json) and dense regressions."""

import warnings

import numpy as np
import pandas as pd
import polars as pl
import pytest
from reference_data import case, cases, frame

from mixef import Gamma, NegativeBinomial, lm_list
from mixef.errors import DataError, DataWarning, FormulaError
from mixef.estimation.generalized.response import edges
from mixef.estimation.generalized.separation import separating_direction
from mixef.families.convert import make_family
from mixef.text.printed import frame_table

# Orthogonalization and R's QR both end within rounding, times the condition of the columns.
ROUNDING = 1e-9
# Both searches stop where the deviance stands still at 1e-14, so coefficients hold half of that.
SEARCHED = 1e-6
FAMILIES = {"poisson": "poisson", "binomial": "binomial", "gamma": "Gamma(log)"}
NAMES = [c["id"] for c in cases("lmlist.json")]
# lme4 1.1-31 pools residuals without their weights, and degrees of freedom as if no coefficient of
# any group were missing; lmlist.R pools them by hand.
MISCOUNTED = {"weights", "unbalanced"}
LINEAR = [name for name in NAMES if name not in FAMILIES]


def unbalanced():
    """Sleepstudy with one day only for the first subject, and one row for the second."""
    data = frame("sleepstudy")
    data.loc[:9, "Days"] = 3
    rows = np.arange(180)
    return data[~((rows % 7 == 0) | ((rows >= 11) & (rows <= 19)))]


def missing():
    data = frame("sleepstudy").astype({"Days": float})
    data.loc[[2, 49, 76], "Reaction"] = np.nan
    data.loc[119, "Days"] = np.nan
    return data


MADE = {"unbalanced": unbalanced, "missing": missing}


def fits_of(name, **arguments):
    reference = case("lmlist.json", name)
    data = MADE[name]() if name in MADE else frame(reference["data"])
    if name == "weights":
        arguments["weights"] = "w"
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DataWarning)
        return lm_list(reference["formula"], data, FAMILIES.get(name), **arguments)


def numbers(values):
    return np.array(values, dtype=float)


def tolerance(name):
    return SEARCHED if name in FAMILIES else ROUNDING


@pytest.mark.parametrize("name", NAMES)
def test_coefficients_are_those_of_lme4(name):
    reference, fits = case("lmlist.json", name), fits_of(name)
    expected = reference["coef"]
    ours = fits.coef()
    assert list(ours.index) == expected["groups"]
    assert list(ours.columns) == expected["columns"]
    values = numbers(expected["values"])
    scale = np.nanmax(np.abs(values), axis=0)
    np.testing.assert_allclose(ours / scale, values / scale, rtol=0, atol=tolerance(name))
    means = numbers(list(reference["fixef"].values()))
    np.testing.assert_allclose(fits.fixef() / scale, means / scale, rtol=0, atol=tolerance(name))
    deviations = numbers(reference["ranef"]["values"])
    np.testing.assert_allclose(fits.ranef() / scale, deviations / scale, atol=tolerance(name))


# lme4 1.1-31 stops where dispersions are to be pooled.
@pytest.mark.parametrize("name", sorted(set(NAMES) - MISCOUNTED - {"gamma"}))
def test_pooled_standard_errors_and_tests_are_those_of_lme4(name):
    check_tests(name, True, case("lmlist.json", name)["errors"], "p_values")


@pytest.mark.parametrize("name", NAMES)
def test_standard_errors_and_tests_of_each_group_are_those_of_lme4(name):
    check_tests(name, False, case("lmlist.json", name)["own_errors"], "own_p_values")


def check_tests(name, pool, errors, p_values):
    fits = fits_of(name)
    errors = numbers(errors).reshape(fits.coef().shape)
    p_values = numbers(case("lmlist.json", name)[p_values]).reshape(errors.shape)
    known = np.isfinite(errors)
    ours = fits.std_errors(pool=pool).to_numpy()[known]
    # Two pairs of `means` are equal: their standard errors are rounding.
    np.testing.assert_allclose(ours, errors[known], rtol=tolerance(name), atol=1e-13)
    tables = fits.coef_tables(pool=pool)
    ours = np.column_stack([table.iloc[:, 3] for table in tables.values()])
    known &= np.isfinite(p_values) & (errors > 1e-13)
    # The relative error of a small tail is that of the statistic times its square, or its df.
    np.testing.assert_allclose(ours[known], p_values[known], rtol=1e2 * tolerance(name))


@pytest.mark.parametrize("name", sorted(MISCOUNTED))
def test_pooled_standard_errors_where_lme4_miscounts(name):
    reference, fits = case("lmlist.json", name), fits_of(name)
    own = numbers(reference["own_errors"])
    expected = own * reference["sigma_by_hand"] / fits.sigmas().to_numpy()[:, None]
    known = np.isfinite(expected)
    np.testing.assert_allclose(fits.std_errors().to_numpy()[known], expected[known], rtol=ROUNDING)
    assert reference["sigma"] != pytest.approx(reference["sigma_by_hand"], rel=1e-4)


@pytest.mark.parametrize("name", LINEAR)
def test_intervals_are_those_of_lme4(name):
    # lme4's intervals do not pool, whatever the fits do.
    reference, fits = case("lmlist.json", name), fits_of(name)
    ours = fits.confint(level=0.9, pool=False)
    for frame_, expected in zip(ours.values(), reference["limits"], strict=True):
        expected = numbers(expected)
        known = np.isfinite(expected)
        np.testing.assert_allclose(frame_.to_numpy()[known], expected[known], rtol=1e-8)
        assert list(frame_.columns) == ["5 %", "95 %"]


@pytest.mark.parametrize("name", NAMES)
def test_scale_rows_and_likelihood_are_those_of_lme4(name):
    reference, fits = case("lmlist.json", name), fits_of(name)
    if reference["sigma"] is not None:
        assert fits.sigma == pytest.approx(reference["sigma_by_hand"], rel=1e-11)
        assert fits.df_residual == reference["df"]
    if name != "gamma":
        assert fits.loglik == pytest.approx(reference["loglik"], rel=1e-10)
    if reference["fitted"] is not None:
        # R's rows run group by group; these data do too for the first of them.
        order = np.argsort(fits._grouping.codes, kind="stable")[:20]
        for ours, theirs in ((fits.fitted(), "fitted"), (fits.residuals(), "residuals")):
            expected = numbers(reference[theirs])
            size = np.abs(numbers(reference["fitted"])).max()
            np.testing.assert_allclose(
                ours.to_numpy()[order], expected, rtol=0, atol=tolerance(name) * size
            )


def test_a_pooled_dispersion_is_pearsons_over_all_degrees_of_freedom():
    fits = fits_of("gamma")
    r = fits.residuals("pearson")
    assert fits.sigma == pytest.approx(np.sqrt((r**2).sum() / 144), rel=1e-12)
    ratio = fits.std_errors().div(fits.std_errors(pool=False)).mul(fits.sigmas(), axis=0)
    np.testing.assert_allclose(ratio, fits.sigma, rtol=1e-12)
    with pytest.raises(DataError, match="dispersions of the Gamma family"):
        _ = fits.loglik


# Against a regression of each group by itself


def sizes_from_one_to_many(seed=3):
    rng = np.random.default_rng(seed)
    g = rng.choice(["u", "v", "w", "x", "y"], 400, p=[0.02, 0.08, 0.2, 0.3, 0.4])
    x, z = rng.normal(1e5, 1.0, 400), rng.normal(size=400)
    y = 2.0 + (x - 1e5) * (1 + (g == "w")) + 0.5 * z + rng.normal(size=400)
    return pd.DataFrame({"y": y, "x": x, "z": z, "g": g, "w": rng.uniform(0.5, 2, 400),
                         "o": rng.normal(size=400)})  # fmt: skip


@pytest.mark.parametrize("weighted", [False, True])
def test_each_group_is_its_own_least_squares(weighted):
    data = sizes_from_one_to_many()
    arguments = {"weights": "w", "offset": "o"} if weighted else {}
    fits = lm_list("y ~ x + z | g", data, **arguments)
    for level, rows in data.groupby("g"):
        root = np.sqrt(rows["w"]) if weighted else np.ones(len(rows))
        X = np.column_stack([np.ones(len(rows)), rows["x"] - 1e5, rows["z"]])
        X = X * np.asarray(root)[:, None]
        y = (rows["y"] - (rows["o"] if weighted else 0.0)) * root
        beta, rss = np.linalg.lstsq(X, y, rcond=None)[:2]
        # A predictor at 100,000 with a spread of 1 costs five of sixteen digits.
        ours = fits.coef().loc[level]
        np.testing.assert_allclose(ours[["x", "z"]], beta[1:], rtol=1e-9)
        assert ours["(Intercept)"] + 1e5 * ours["x"] == pytest.approx(beta[0], rel=1e-9)
        assert fits.sigmas()[level] == pytest.approx(np.sqrt(rss[0] / (len(rows) - 3)), rel=1e-10)


def test_each_group_is_its_own_generalized_regression():
    # The score X'(y - mu) of a Poisson regression with the canonical link vanishes.
    rng = np.random.default_rng(1)
    g = np.repeat(np.arange(40), rng.integers(8, 40, 40))
    x = rng.normal(size=len(g))
    y = rng.poisson(np.exp(1.0 + 0.5 * x + 0.3 * rng.normal(size=40)[g]))
    fits = lm_list("y ~ x | g", {"y": y, "x": x, "g": g}, "poisson")
    rest = y - fits.fitted().to_numpy()
    score = pd.DataFrame({"1": rest, "x": rest * x}).groupby(g).sum()
    np.testing.assert_allclose(score, 0.0, atol=1e-4)
    size = np.bincount(g, fits.fitted())
    one = lm_list("y ~ 1 | g", {"y": y, "g": g}, "poisson")
    np.testing.assert_allclose(one.std_errors()["(Intercept)"], size**-0.5, rtol=1e-8)


def test_the_order_of_rows_and_the_kind_of_frame_change_nothing():
    data = frame("sleepstudy")
    expected = lm_list("Reaction ~ Days | Subject", data)
    shuffled = lm_list("Reaction ~ Days | Subject", data.sample(frac=1, random_state=1))
    polars = lm_list("Reaction ~ Days | Subject", pl.from_pandas(data))
    for other in (shuffled, polars):
        np.testing.assert_allclose(other.coef(), expected.coef(), rtol=1e-12)
    pd.testing.assert_series_equal(shuffled.fitted().sort_index(), expected.fitted())


def test_a_basis_is_common_to_all_groups():
    # Where poly() were made group by group, coefficients would not compare; fits would not change.
    data = unbalanced().iloc[20:]
    common = lm_list("Reaction ~ poly(Days, 2) | Subject", data)
    raw = lm_list("Reaction ~ Days + I(Days^2) | Subject", data)
    np.testing.assert_allclose(common.fitted(), raw.fitted(), rtol=1e-10)
    ratio = common.coef()["poly(Days, 2)2"] / raw.coef()["I(Days^2)"]
    np.testing.assert_allclose(ratio, ratio.iloc[0], rtol=1e-7)


def test_weights_of_two_are_two_copies_but_for_the_degrees_of_freedom():
    data = frame("sleepstudy")
    weighted = lm_list("Reaction ~ Days | Subject", data.assign(w=2.0), weights="w")
    plain = lm_list("Reaction ~ Days | Subject", pd.concat([data, data]))
    np.testing.assert_allclose(weighted.coef(), plain.coef(), rtol=1e-12)
    assert plain.sigma * np.sqrt(324 / 144) == pytest.approx(weighted.sigma, rel=1e-12)


# Groups that lack something


def test_groups_that_lack_a_coefficient_are_named_and_pool_their_own_degrees():
    with pytest.warns(DataWarning, match="the rows of 308, 309 of Subject do not determine Days:"):
        fits = lm_list("Reaction ~ Days | Subject", unbalanced())
    assert fits.coef()["Days"].isna().sum() == 2
    assert fits.df_residual == fits.nobs - 34
    assert np.isfinite(fits.std_errors().loc["309", "(Intercept)"])
    assert np.isnan(fits.std_errors(pool=False).loc["309", "(Intercept)"])
    assert np.isnan(fits.confint(pool=False)["(Intercept)"].loc["309"]).all()


def test_a_group_without_a_level_lacks_its_coefficient_alone():
    data = frame("cake")
    data = data[~((data["replicate"] == "1") & (data["recipe"] == "C"))]
    with pytest.warns(DataWarning, match="the rows of 1 of replicate do not determine recipeC"):
        fits = lm_list("angle ~ temp + recipe | replicate", data)
    own = data[data["replicate"] == "1"]
    by_recipe = own.groupby("recipe", observed=True)["angle"].mean()
    assert fits.coef().loc["1", "recipeB"] == pytest.approx(by_recipe["B"] - by_recipe["A"])
    new = {"temp": [175] * 2, "recipe": ["B", "C"], "replicate": ["1", "1"]}
    assert fits.predict(new).isna().tolist() == [False, True]


def test_a_row_that_its_group_says_nothing_about_is_not_predicted():
    # Subject 308 was seen at day 3 only.
    with pytest.warns(DataWarning):
        fits = lm_list("Reaction ~ Days | Subject", unbalanced())
    ours = fits.predict({"Days": [3, 4, 4], "Subject": ["308", "308", "310"]})
    assert ours.isna().tolist() == [False, True, False]
    mean = unbalanced().query("Subject == '308'")["Reaction"].mean()
    assert ours[0] == pytest.approx(mean, rel=1e-12)


def test_separated_groups_are_named():
    with (
        pytest.warns(DataWarning, match="do not determine"),
        pytest.warns(DataWarning, match=r"responses of 1, 3, 4.* of herd are separated"),
    ):
        fits = lm_list("cbind(incidence, size - incidence) ~ period | herd", frame("cbpp"),
                       "binomial")  # fmt: skip
    # Herd 14 has no case after period 1, where 11 of 19 animals had it.
    first = frame("cbpp").query("herd == '14' and period == '1'").iloc[0]
    odds = first["incidence"] / (first["size"] - first["incidence"])
    assert fits.coef().loc["14", "(Intercept)"] == pytest.approx(np.log(odds), rel=1e-6)
    assert fits.coef().loc["14", "period2"] < -15


@pytest.mark.parametrize("family", ["binomial", "binomial(probit)", "binomial(cloglog)", "poisson"])
def test_every_separated_group_is_called_so(family):
    """Rows of a group that are all at one edge, or parted by a predictor without error or but for
    a tie; the others overlap."""
    rows = {"ones": [1, 1, 1, 1, 1, 1], "zeros": [0, 0, 0, 0, 0, 0], "parted": [0, 0, 0, 1, 1, 1],
            "early": [0, 1, 1, 1, 1, 1], "falling": [1, 1, 1, 1, 0, 0], "tie": [0, 0, 0, 1, 1, 1],
            "mixed": [0, 1, 0, 1, 0, 1], "other": [1, 0, 0, 1, 1, 0]}  # fmt: skip
    data = pd.DataFrame(
        [(g, x, y) for g, ys in rows.items() for x, y in enumerate(ys)], columns=["g", "x", "y"]
    )
    data.loc[(data["g"] == "tie") & (data["x"] == 3), "x"] = 2
    expected = ["early", "falling", "ones", "parted", "tie", "zeros"]
    if family == "poisson":  # only zeros are at an edge, and counts at two places hold the slope
        expected = ["zeros"]
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        fits = lm_list("y ~ x | g", data, family)
    message = [str(w.message) for w in caught]
    assert len(message) == 1, message
    listed = message[0].removeprefix("the responses of ").split(" of g are separated")[0]
    assert sorted(listed.split(", ")) == expected
    regular = fits.coef().drop(expected)
    assert np.isfinite(regular.to_numpy()).all()


@pytest.mark.parametrize("family", ["binomial", "binomial(probit)", "binomial(cloglog)", "poisson"])
def test_groups_are_called_separated_where_linear_programming_finds_them_so(family):
    """Small groups of every kind: separated ones, overlapping ones, and close calls."""
    rng = np.random.default_rng(0)
    G, m = 80, 6
    data = pd.DataFrame({"g": np.repeat(np.arange(G), m), "x": rng.normal(size=G * m).round(1),
                         "z": rng.integers(0, 2, G * m)})  # fmt: skip
    counts = family == "poisson"
    data["y"] = rng.poisson(0.5, G * m) if counts else (rng.random(G * m) < 0.5) * 1
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        found = lm_list("y ~ x + z | g", data, family)._estimates
    expected = []
    for g, rows in data.groupby("g"):
        X = np.column_stack([np.ones(m), rows["x"], rows["z"]])[:, found.kept[g]]
        side = edges(rows["y"].to_numpy(float), None, make_family(family))
        expected.append(separating_direction(X, side) is not None)
    assert 0.2 * G < sum(expected) < 0.9 * G
    np.testing.assert_array_equal(found.edge, expected)
    assert not (found.failed & ~found.edge).any()


def test_a_close_call_is_no_separation():
    """Two responses in the wrong order, 0.004 and 0.01 apart: the estimates of R's glm are large,
    and finite."""
    data = pd.DataFrame({
        "g": [0] * 5 + [1] * 5, "y": [0, 1, 0, 1, 1, 1, 1, 0, 1, 0],
        "x": [-0.726071, -0.641732, -0.637737, -0.216394, 0.554693, -2.112392, -0.203740, 0.581044,
              0.588652, 0.598032],
    })  # fmt: skip
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        fits = lm_list("y ~ x | g", data, "binomial")
    # R 4.2.2: glm(y ~ x, binomial, control = list(epsilon = 1e-14, maxit = 100))
    expected = [[27.0143975606, 42.3030460156], [10.1860094417, -18.4676264890]]
    np.testing.assert_allclose(fits.coef(), expected, rtol=1e-6)


def test_missing_values_are_left_out_or_padded():
    omitted = lm_list("Reaction ~ Days | Subject", missing())
    padded = lm_list("Reaction ~ Days | Subject", missing(), na_action="exclude")
    assert len(omitted.fitted()) == 176
    assert padded.fitted().isna().to_numpy().nonzero()[0].tolist() == [2, 49, 76, 119]
    np.testing.assert_allclose(padded.residuals().dropna(), omitted.residuals(), rtol=1e-14)


# Predictions


def test_own_rows_as_new_data_give_fitted_values():
    for fits, data in (
        (lm_list("Reaction ~ Days | Subject", frame("sleepstudy"), offset="Days"), "sleepstudy"),
        (fits_of("poisson"), "grouseticks"),
    ):
        new = fits.predict(frame(data))
        np.testing.assert_allclose(new, fits.fitted(), rtol=1e-10)
    link = fits.predict(frame(data), type="link")
    np.testing.assert_allclose(np.exp(link), new, rtol=1e-12)


def test_functions_of_the_caller_are_known():
    def halved(x):
        return x / 2

    data = frame("sleepstudy")
    fits = lm_list("Reaction ~ halved(Days) | Subject", data)
    plain = lm_list("Reaction ~ Days | Subject", data)
    np.testing.assert_allclose(fits.coef()["halved(Days)"], 2 * plain.coef()["Days"], rtol=1e-12)
    np.testing.assert_allclose(fits.predict(data.head(5)), plain.fitted().head(5), rtol=1e-12)


def test_crossed_groups_and_dots():
    data = frame("cake")
    fits = lm_list("angle ~ temp | recipe:replicate", data)
    assert fits.coef().shape == (45, 2)
    assert fits.coef().index[0] == "A:1"
    dots = lm_list("Reaction ~ . | Subject", frame("sleepstudy"))
    assert list(dots.coef()) == ["(Intercept)", "Days"]


# What is refused


@pytest.mark.parametrize(
    ("formula", "message"),
    [
        ("Reaction ~ Days", r"does not part its rows into groups by '\|'.*y ~ x \| g"),
        ("Reaction ~ Days + (1 | Subject)", r"does not part its rows"),
        ("Days | Subject", "has no response and '~'"),
        ("~ Days | Subject", "has no response and '~'"),
        ("Reaction ~ Days | Subject | Days", r"more than one '\|'"),
        ("Reaction ~ Days | Subject/Days", "several grouping factors"),
        ("Reaction ~ 0 | Subject", "no coefficients"),
        ("Reaction ~ Days | Subjekt", "Subjekt"),
        (3, "must be a string"),
    ],
)
def test_a_wrong_formula_is_refused(formula, message):
    with pytest.raises(FormulaError, match=message):
        lm_list(formula, frame("sleepstudy"))


def test_wrong_arguments_are_refused():
    data = frame("sleepstudy")
    fits = lm_list("Reaction ~ Days | Subject", data)
    with pytest.raises(DataError, match=r"no level of Subject determine all 2 coefficients.*1 row"):
        lm_list("Reaction ~ Days | Subject", data[data["Days"] == 3])
    with pytest.raises(DataError, match="known one, such as NegativeBinomial"):
        lm_list("Days ~ 1 | Subject", data, NegativeBinomial())
    with pytest.raises(DataError, match=r"response Subject|Subject is a factor"):
        lm_list("Subject ~ 1 | Days", data)
    with pytest.raises(TypeError, match="pool is 'yes'"):
        lm_list("Reaction ~ Days | Subject", data, pool="yes")
    with pytest.raises(TypeError, match="pool is 1"):
        fits.confint(pool=1)
    with pytest.raises(ValueError, match="level is 95"):
        fits.confint(level=95)
    with pytest.raises(ValueError, match="type is 'z'"):
        fits.residuals("z")
    with pytest.raises(ValueError, match="type is 'z'"):
        fits.predict(type="z")
    with pytest.raises(DataError, match="newdata has 999 of Subject"):
        fits.predict({"Days": [1], "Subject": ["999"]})


# Printing


def test_what_is_printed():
    fits = lm_list("Reaction ~ Days | Subject", frame("sleepstudy"))
    text = str(fits.summary())
    # R prints the table of Days with these numbers (reference/lmlist.R).
    assert "308   21.765      2.818   7.725 1.74e-12" in text
    assert "Residual standard error: 25.59 on 144 degrees of freedom" in text
    assert "<table" in fits._repr_html_()
    assert fits.summary()._repr_html_().count("<table") == 2
    gamma = lm_list("Reaction ~ Days | Subject", frame("sleepstudy"), Gamma("log"))
    assert "Gamma (log)" in repr(gamma)
    many = lm_list("y ~ 1 | s", frame("InstEval"))
    assert "... 2932 more rows" in str(many)
    assert many.coef().shape == (2972, 1)
    own = many.summary(pool=False)
    assert "Residual standard error" not in str(own)


def test_a_model_with_known_shape_or_identity_link():
    data = frame("grouseticks")
    known = lm_list("TICKS ~ cHEIGHT | YEAR", data, NegativeBinomial(shape=2))
    assert np.isfinite(known.loglik)
    gaussian = lm_list("TICKS ~ cHEIGHT | YEAR", data, "gaussian")
    plain = lm_list("TICKS ~ cHEIGHT | YEAR", data)
    pd.testing.assert_frame_equal(gaussian.coef(), plain.coef())
    # Means of an identity link have to stay positive, group by group.
    identity = lm_list("TICKS ~ cHEIGHT | YEAR", data, "poisson(identity)")
    assert (identity.fitted().dropna() >= 0).all()


def test_what_is_printed_is_laid_out_alone(monkeypatch):
    data = {"y": np.arange(150.0) ** 2, "x": np.arange(150.0), "g": np.repeat(np.arange(50), 3)}
    fits, seen = lm_list("y ~ x | g", data), []

    def recorded(frame, *args, **options):
        seen.append(len(frame))
        return frame_table(frame, *args, **options)

    monkeypatch.setattr("mixef.inference.refits.separate.frame_table", recorded)
    assert "... 10 more rows\nDegrees of freedom: 150 total" in str(fits)
    assert len(fits.to_table().rows) == 50
    assert seen == [40, 50]
