"""Rows, frames and arguments of predictions with standard errors."""

import re

import numpy as np
import pandas as pd
import polars as pl
import pytest
from fit_at_theta import at_theta
from predicted import FORMULAS, generalized, linear
from reference_data import case, frame

from mixef import lmer
from mixef.errors import DataError


@pytest.mark.parametrize("name", ["vector", "crossed", "nested"])
def test_rows_and_frames_do_not_matter(name):
    fit, data = linear(name), frame(FORMULAS[name][0])
    whole = fit.predict(interval="prediction")
    new = data.drop(columns=["w"], errors="ignore") if name != "crossed" else data
    np.testing.assert_allclose(fit.predict(new, interval="prediction"), whole, rtol=1e-10)
    shuffled = data.sample(frac=1, random_state=3)
    pd.testing.assert_frame_equal(
        fit.predict(shuffled, interval="prediction").sort_index(), whole, rtol=1e-10
    )
    as_polars = fit.predict(pl.from_pandas(data.head(5)), interval="prediction")
    np.testing.assert_allclose(as_polars, whole.head(5), rtol=1e-10)
    alone = pd.concat([fit.predict(data.iloc[[i]], interval="prediction") for i in range(3)])
    np.testing.assert_allclose(alone, whole.head(3), rtol=1e-10)


def test_columns_and_labels():
    fit, new = linear("vector"), frame("sleepstudy").head(3).set_axis(["p", "q", "r"])
    assert isinstance(fit.predict(new), pd.Series)
    assert list(fit.predict(new, se_fit=True)) == ["fit", "se_fit"]
    out = fit.predict(new, interval="confidence")
    assert list(out) == ["fit", "se_fit", "lower", "upper"]
    assert list(out.index) == ["p", "q", "r"]
    np.testing.assert_array_equal(out["fit"], fit.predict(new))
    empty = fit.predict(new.head(0), interval="prediction")
    assert empty.shape == (0, 4)


@pytest.mark.parametrize("interval", ["confidence", "prediction"])
def test_a_row_with_something_missing_is_missing(interval):
    new = pd.DataFrame({"Days": [0.0, np.nan, 2.0, 3.0], "Subject": ["308", "308", None, "unseen"]})
    fit = linear("vector")
    out = fit.predict(new, interval=interval, new_levels="missing")
    assert list(out.isna().all(axis=1)) == [False, True, True, True]
    assert list(out.isna().any(axis=1)) == [False, True, True, True]
    # A missing group is a new level: lme4 predicts 251.405 + 2 * 10.467 for the third row.
    out = fit.predict(new, interval=interval, new_levels="population")
    assert list(out.isna().all(axis=1)) == [False, True, False, False]
    assert out["fit"].iloc[2] == pytest.approx(fit.fixef() @ [1.0, 2.0])
    with pytest.raises(DataError, match="new levels detected in newdata: unseen, NA of Subject"):
        fit.predict(new, interval=interval)
    counts = generalized("scalar")
    new = pd.DataFrame({"period": ["1", None, "2"], "herd": ["1", "1", None]})
    with pytest.raises(DataError, match="new levels detected in newdata: NA of herd"):
        counts.predict(new, interval=interval)
    out = counts.predict(new, interval=interval, new_levels="missing")
    assert list(out.isna().all(axis=1)) == [False, True, True]
    assert not out.iloc[0].isna().any()


def test_a_missing_offset():
    new = frame("crossed").head(2).copy()
    new.loc[new.index[1], "v"] = np.nan
    out = linear("three factors").predict(new, se_fit=True)
    assert list(out.isna().all(axis=1)) == [False, True]


def test_rows_that_the_fit_left_out():
    data = frame("crossed_na")
    out = {
        action: lmer("y ~ x + (x | a)", data, na_action=action).predict(interval="confidence")
        for action in ("omit", "exclude")
    }
    assert list(out["exclude"].index) == list(data.index)
    pd.testing.assert_frame_equal(out["exclude"].dropna(), out["omit"])
    assert out["exclude"].isna().all(axis=1).sum() == len(data) - len(out["omit"]) > 0


def test_dropped_columns():
    reference = case("predict.json", "rank_deficient")
    with pytest.warns(UserWarning, match="rank deficient"):
        fit = lmer(reference["formula"], frame(reference["data"]))
    out = fit.predict(se_fit=True)
    plain = at_theta(lmer("y ~ x + z + (1 | g)", frame(reference["data"])), fit.theta)
    np.testing.assert_allclose(out["se_fit"], plain.predict(se_fit=True)["se_fit"], rtol=1e-8)


# Arguments


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (
            {"interval": "both"},
            "interval is 'both'; expected one of None, 'confidence' or",
        ),
        ({"se_fit": True, "level": 95}, "level is 95; expected a number between 0 and 1"),
        ({"se_fit": True, "level": "0.9"}, "level is '0.9'; expected a number"),
        ({"type": "mean"}, "type is 'mean'; expected 'response' or 'link'"),
    ],
)
def test_wrong_arguments_are_refused(arguments, message):
    with pytest.raises(ValueError, match=re.escape(message)):
        linear("vector").predict(**arguments)


def test_the_fit_is_as_it_was():
    # Standard errors move the criterion's factor; later methods may not notice.
    for fit in (lmer("y ~ x + (x | a) + (1 | b)", frame("crossed")), generalized("three factors")):
        before = (fit.ranef(condVar=True), fit._fit.criterion().value(fit._fit.point))
        first = fit.predict(interval="confidence")
        after = (fit.ranef(condVar=True), fit._fit.criterion().value(fit._fit.point))
        assert after[1] == pytest.approx(before[1], rel=1e-13)
        for group, condVar in before[0].condVar.items():
            np.testing.assert_allclose(after[0].condVar[group], condVar, rtol=1e-9)
        np.testing.assert_allclose(fit.predict(interval="confidence"), first, rtol=1e-9)


@pytest.mark.filterwarnings("error")
def test_no_rows_at_all_are_predicted_in_silence():
    data = frame("sleepstudy")
    fit = lmer("Reaction ~ poly(Days, 2) + (1 | Subject)", data)
    assert fit.predict(data.iloc[:0]).shape == (0,)
    assert fit.simulate(2, seed=1, newdata=data.iloc[:0]).shape == (0, 2)
