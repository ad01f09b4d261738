"""Arguments that come a row go by their labels, one rule for all; and which rows are left out."""

import numpy as np
import pandas as pd
import pytest
from reference_data import frame

from mixef import GlmerControl, glmer, lm_list, lmer, load_dataset, simulate_from
from mixef.errors import ArgumentError, DataError, DataWarning

SLEEP = "Reaction ~ Days + (Days | Subject)"
CBPP = "cbind(incidence, size - incidence) ~ period + (1 | herd)"
SHUFFLED = np.random.default_rng(1).permutation(180)


def sleep():
    """The data with labels that are not positions."""
    data = frame("sleepstudy")
    return data.set_axis([f"row {i}" for i in range(180)], axis=0)


def weights_of(data):
    return pd.Series(np.linspace(0.5, 2.0, len(data)), index=data.index)


def by_weights(data, w):
    return lmer(SLEEP, data, weights=w).objective


def by_offset(data, w):
    return lmer(SLEEP, data, offset=w).objective


def by_subset(data, w):
    return lmer(SLEEP, data, subset=w > 0.6).objective


def by_subset_of_objects(data, w):
    return lmer(SLEEP, data, subset=(w > 0.6).astype(object)).objective


def by_refit(data, w):
    return lmer(SLEEP, data).refit(data["Reaction"].reindex(w.index) * w).objective


def by_refit_of_two(data, w):
    y = data["Reaction"].reindex(w.index)
    return lmer(SLEEP, data).refit(pd.DataFrame({"a": y, "b": y * w})).objective.sum()


def by_weights_of_lm_list(data, w):
    return lm_list("Reaction ~ Days | Subject", data, weights=w).loglik


def by_weights_of_draws(data, w):
    fit = lmer(SLEEP, data)
    return fit.simulate(newdata=data, weights=w, seed=1)["sim_1"].sum()


def by_weights_of_simulate_from(data, w):
    truth = {"beta": [1.0, 2.0], "sd": {"Subject": 1.5}, "sigma": 0.5}
    return simulate_from("~ Days + (1 | Subject)", data, truth, weights=w, seed=1)["sim_1"].sum()


WAYS = [
    by_weights,
    by_offset,
    by_subset,
    by_subset_of_objects,
    by_refit,
    by_refit_of_two,
    by_weights_of_lm_list,
    by_weights_of_draws,
    by_weights_of_simulate_from,
]


@pytest.mark.parametrize("way", WAYS)
def test_a_series_goes_by_its_labels(way):
    data = sleep()
    w = weights_of(data)
    expected = way(data, w)
    assert way(data, w.iloc[SHUFFLED]) == expected
    # Labels of other rows do not matter.
    assert way(data.iloc[:100], w) == way(data.iloc[:100], w.iloc[:100])


@pytest.mark.parametrize("way", WAYS)
def test_labels_that_do_not_match_are_refused(way):
    data = sleep()
    w = weights_of(data)
    with pytest.raises(DataError, match=r"no value for 1 of 180 rows, .* labelled 'row 179'"):
        way(data, w.iloc[:179])
    with pytest.raises(DataError, match=r"no value for 180 of 180 rows.*\.to_numpy\(\)"):
        way(data, w.set_axis(range(180)))
    twice = pd.concat([w, w.iloc[:1]])
    with pytest.raises(DataError, match=r"labels of its index, .* occur more than once"):
        way(data, twice) if "refit" not in way.__name__ else lmer(SLEEP, data).refit(twice)


def test_an_index_chooses_rows_by_their_labels():
    data = sleep().iloc[SHUFFLED].set_axis(range(180))[::-1]
    chosen = data.index[data["Days"] > 2]
    assert (
        lmer(SLEEP, data, subset=chosen[::-1]).objective
        == lmer(SLEEP, data, subset="Days > 2").objective
    )
    with pytest.raises(DataError, match="subset has the label 180, which no row has"):
        lmer(SLEEP, data, subset=pd.Index([0, 180]))
    with pytest.raises(DataError, match="some labels of the rows occur more than once"):
        lmer(SLEEP, data.set_axis([0] * 180), subset=chosen)
    with pytest.raises(ArgumentError, match="expected booleans: a Series goes by its labels"):
        lmer(SLEEP, data, subset=(data["Days"] > 2).astype(int))


def test_rows_without_labels_are_counted():
    data = frame("sleepstudy")
    arrays = {name: data[name].to_numpy() for name in ("Reaction", "Days")}
    arrays["Subject"] = data["Subject"].astype(str).to_numpy()
    w = pd.Series(np.linspace(0.5, 2.0, 180))
    expected = lmer(SLEEP, arrays, weights=w.to_numpy()).objective
    assert lmer(SLEEP, arrays, weights=w.iloc[SHUFFLED]).objective == expected
    named = w.set_axis([f"row {i}" for i in range(180)])  # no labels to match with
    assert lmer(SLEEP, arrays, weights=named).objective == expected


def test_series_in_a_dict_and_of_the_caller_go_by_their_labels():
    data = sleep()
    w = weights_of(data)
    expected = lmer(SLEEP, data, weights=w).objective
    mixed = {name: data[name] for name in data} | {"Days": data["Days"].iloc[SHUFFLED]}
    for columns in (mixed, dict(data), dict(data.iloc[SHUFFLED].items())):
        assert lmer(SLEEP, columns, weights=w).objective == pytest.approx(expected, rel=1e-12)
    fit = lmer(SLEEP, dict(data))
    assert fit.fitted().index.equals(data.index)
    assert fit.refit(data["Reaction"].iloc[SHUFFLED]).objective == fit.objective
    counted = frame("sleepstudy").iloc[SHUFFLED]  # labels that are numbers, in another order
    again = lmer(SLEEP, dict(counted.items()), weights=w.set_axis(range(180)))
    assert again.objective == pytest.approx(expected, rel=1e-12)
    days = data["Days"].iloc[SHUFFLED]
    mine = lmer("Reaction ~ days + (days | Subject)", data[["Reaction", "Subject"]], weights=w)
    assert mine.objective == pytest.approx(expected, rel=1e-12)
    with pytest.raises(DataError, match="the column 'Days' has no value for 180 of 180 rows"):
        lmer(SLEEP, mixed | {"Days": days.set_axis(range(180))})


def test_equal_labels_need_not_be_unique():
    data = sleep()
    data.index = ["a", "b"] * 90
    fit = lmer(SLEEP, data, weights=weights_of(data))
    assert fit.refit(data["Reaction"]).objective == pytest.approx(fit.objective, rel=1e-12)


@pytest.mark.parametrize("action", ["omit", "exclude"])
def test_a_fit_takes_its_own_draws(action):
    data = sleep()
    data.iloc[[0, 7], 0] = np.nan
    fit = lmer(SLEEP, data, na_action=action, subset="Days < 9")
    draws = fit.simulate(2, seed=1)
    both = fit.refit(draws)
    assert len(both) == 2
    assert not len(both.failures)
    one = fit.refit(draws["sim_1"])
    for same in (draws["sim_1"].to_numpy(), draws["sim_1"].sample(frac=1, random_state=1)):
        assert fit.refit(same).objective == one.objective
    # The whole column of the data: rows that the fit does not use may miss a value.
    assert fit.refit(data["Reaction"]).objective == pytest.approx(fit.objective, rel=1e-12)


def test_a_fit_with_counts_or_levels_takes_its_own_draws():
    data = load_dataset("cbpp").assign(hurt=lambda d: np.where(d["incidence"] > 1, "yes", "no"))
    data.loc[3, "period"] = None
    control = GlmerControl(check_conv_singular="ignore")
    for formula in (CBPP, "hurt ~ period + (1 | herd)"):
        fit = glmer(formula, data, "binomial", na_action="exclude", control=control)
        draws = fit.simulate(2, seed=2)
        one = draws["sim_1"]
        np.testing.assert_array_equal(
            fit.refit(one.sample(frac=1, random_state=1)).beta, fit.refit(one).beta
        )
        assert len(fit.refit(draws.iloc[::-1])) == 2


@pytest.mark.parametrize(
    "y",
    [
        pd.Series(pd.date_range("2020", periods=180)),
        pd.date_range("2020", periods=180).to_numpy(),
        ["1"] * 90 + ["2"] * 90,
        np.array([["1"], ["2"]] * 90),
        pd.DataFrame({"a": ["1", "2"] * 90}),
        np.ones(180) * 1j,
        pd.date_range("2020", periods=180).to_numpy()[:, None],
        pd.Series([None, "x"] * 90),
    ],
)
def test_a_new_response_is_made_of_numbers(y):
    with pytest.raises(DataError, match="the new response"):
        lmer(SLEEP, frame("sleepstudy")).refit(y)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"weights": np.ones((180, 1))}, r"weights is an array of shape \(180, 1\)"),
        ({"offset": pd.DataFrame({"a": np.ones(180)})}, "offset is a DataFrame of shape"),
        ({"subset": [-1, 3]}, "subset has the position -1"),
        ({"subset": [180]}, "subset has the position 180"),
        ({"subset": np.ones((180, 2), bool)}, r"subset is an array of shape \(180, 2\)"),
        ({"subset": np.ones(180)}, "expected a condition, 180 booleans, or row positions"),
        ({"subset": {1, 2}}, "expected a condition"),
        ({"weights": np.inf}, "weights is inf"),
    ],
)
def test_what_is_no_value_a_row(arguments, message):
    with pytest.raises(ValueError, match=message):
        lmer(SLEEP, frame("sleepstudy"), **arguments)


# ---------------------------------------------------------------------- rows left out

LINE = (
    "22 of 180 rows left out: 18 by subset, 3 with missing values (Reaction 2, Days\n"
    "  2), 1 of weight zero"
)


def with_gaps():
    data = frame("sleepstudy").assign(w=1.0)
    data.loc[[0, 1], "Reaction"] = np.nan
    data.loc[[1, 2], "Days"] = np.nan
    data.loc[5, "w"] = 0.0
    return data


def test_every_summary_says_which_rows_are_left_out():
    keep = np.arange(180) % 10 != 9
    with pytest.warns(DataWarning):
        fit = lmer(SLEEP, with_gaps(), weights="w", subset=keep)
    for text in (str(fit), str(fit.summary())):
        assert f"Number of obs: 158, groups:  Subject, 18\n{LINE}\n" in text
    assert "22 of 180 rows left out" in fit.summary().to_html()
    assert fit.glance()["left_out"].item() == 22
    with pytest.warns(DataWarning):
        many = lm_list("Reaction ~ Days | Subject", with_gaps(), weights="w", subset=keep)
    for text in (str(many), str(many.summary())):
        assert "22 of 180 rows left out: 18 by subset" in text
    with pytest.warns(DataWarning):
        count = glmer("round(Reaction) ~ Days + (1 | Subject)", with_gaps(), "poisson",
                      weights="w", subset=keep)  # fmt: skip
    assert "3 with missing values (round(Reaction) 2, Days 2)" in " ".join(str(count).split())


def test_nothing_is_said_where_no_row_is_left_out():
    fit = lmer(SLEEP, frame("sleepstudy"))
    assert "left out" not in str(fit) + str(fit.summary())
    assert fit.glance()["left_out"].item() == 0
