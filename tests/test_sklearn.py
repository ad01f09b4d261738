"""Mixed models as estimators of scikit-learn."""

import pickle
import subprocess
import sys
from functools import cache

import numpy as np
import pandas as pd
import polars as pl
import pyarrow as pa
import pytest
from reference_data import frame
from sklearn.base import clone
from sklearn.compose import TransformedTargetRegressor, make_column_transformer
from sklearn.exceptions import NotFittedError
from sklearn.model_selection import GridSearchCV, GroupKFold, cross_val_score
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler
from sklearn.utils.estimator_checks import parametrize_with_checks

import mixef
from mixef import GlmerControl, LmerControl, Poisson, glmer, lmer
from mixef.errors import ArgumentError, DataError, FormulaError
from mixef.sklearn import MixedModelClassifier, MixedModelRegressor

SLEEP = "~ Days + (Days | Subject)"
WOMEN = "use ~ age + urban + (1 | district)"

# The checks make arrays of numbers without groups: a halved column stands for some, and may be all
# on one side.
NO_GROUPS = "~ . + (1 | I(x0 > 1))"
LOOSE = {"check_nlev_gtr_1": "ignore"}
EXACT = "its data are fitted exactly, where no variance can be estimated, and lmer says so"
SEPARATED = "its data separate the classes, where coefficients are infinite"
EXPECTED = {
    "MixedModelRegressor": dict.fromkeys(
        [
            "check_sample_weights_shape",
            "check_sample_weights_not_overwritten",
            "check_sample_weight_equivalence_on_dense_data",
            "check_regressors_no_decision_function",
        ],
        EXACT,
    ),
    "MixedModelClassifier": {"check_sample_weight_equivalence_on_dense_data": SEPARATED},
}


@parametrize_with_checks(
    [
        MixedModelRegressor(NO_GROUPS, control=LmerControl(**LOOSE).quiet()),
        MixedModelClassifier(NO_GROUPS, control=GlmerControl(**LOOSE).quiet()),
    ],
    expected_failed_checks=lambda estimator: EXPECTED[type(estimator).__name__],
)
def test_estimators_are_what_scikit_learn_expects(estimator, check):
    check(estimator)


@cache
def sleep():
    data = frame("sleepstudy")
    return data[["Days", "Subject"]], data["Reaction"]


@cache
def regressor():
    return MixedModelRegressor(SLEEP).fit(*sleep())


def test_a_regressor_is_the_fit_of_lmer_with_predictions_for_new_groups():
    X, y = sleep()
    fit = lmer("Reaction ~ Days + (Days | Subject)", frame("sleepstudy"))
    ours = regressor()
    np.testing.assert_array_equal(ours.predict(X), fit.predict(X))
    assert ours.formula_ == "y ~ Days + (Days | Subject)"
    assert ours.feature_names_in_.tolist() == ["Days", "Subject"]
    assert ours.n_features_in_ == 2
    new = pd.DataFrame({"Days": [0.0, 9.0], "Subject": ["new", "308"]})
    mixed = ours.predict(new)
    assert mixed[0] == pytest.approx(fit.fixef().iloc[0])
    assert mixed[1] == pytest.approx(fit.predict(new[1:]).iloc[0])
    fixed = clone(ours).set_params(re_form="~0").fit(X, y)
    np.testing.assert_allclose(fixed.predict(new), fit.predict(new, re_form="~0"))
    missing = clone(ours).set_params(new_levels="missing").fit(X, y)
    assert np.isnan(missing.predict(new)).tolist() == [True, False]
    strict = clone(ours).set_params(new_levels="error").fit(X, y)
    with pytest.raises(DataError, match="new levels detected"):
        strict.predict(new)
    ml = MixedModelRegressor(SLEEP, REML=False).fit(X, y)
    assert ml.model_.theta[0] < ours.model_.theta[0]
    assert ours.score(X, y) == pytest.approx(1 - np.var(y - fit.predict()) / np.var(y), abs=1e-6)


@pytest.mark.parametrize("kind", [pl.from_pandas, pa.Table.from_pandas, lambda X: X.to_numpy()])
def test_other_frames_and_arrays(kind):
    X, y = sleep()
    formula = "~ x0 + (x0 | x1)" if kind(X[:1]).__class__ is np.ndarray else SLEEP
    other = MixedModelRegressor(formula).fit(kind(X), y.to_numpy())
    np.testing.assert_allclose(other.predict(kind(X)), regressor().predict(X), rtol=1e-9)


def test_the_response_may_be_named_and_all_columns_are_the_default():
    X, y = sleep()
    data = frame("sleepstudy")
    named = MixedModelRegressor("Reaction ~ Days + (Days | Subject)").fit(data, y)
    np.testing.assert_array_equal(named.predict(data.assign(Reaction=0)), regressor().predict(X))
    whole = MixedModelRegressor(groups="Subject").fit(X, y)
    assert whole.formula_ == "y ~ Days + (1 | Subject)"
    by_place = MixedModelRegressor(groups=[1]).fit(X.to_numpy(), y)
    assert by_place.formula_ == "y ~ x0 + (1 | x1)"
    np.testing.assert_allclose(by_place.predict(X.to_numpy()), whole.predict(X), rtol=1e-9)
    odd = MixedModelRegressor(groups="a group").fit(X.rename(columns={"Subject": "a group"}), y)
    assert odd.formula_ == "y ~ Days + (1 | `a group`)"
    taken = MixedModelRegressor(groups="Subject").fit(X.rename(columns={"Days": "y"}), y)
    assert taken.formula_ == "y_ ~ y + (1 | Subject)"


def test_weights_families_and_missing_values():
    X, y = sleep()
    w = np.linspace(1.0, 2.0, len(y))
    fit = lmer("Reaction ~ Days + (Days | Subject)", frame("sleepstudy"), weights=w)
    weighted = MixedModelRegressor(SLEEP).fit(X, y, sample_weight=w)
    np.testing.assert_allclose(weighted.predict(X), fit.predict(), rtol=1e-9)
    ticks = frame("grouseticks")
    formula = "TICKS ~ YEAR + cHEIGHT + (1 | BROOD)"
    counts = MixedModelRegressor(formula, family=Poisson()).fit(ticks, ticks["TICKS"])
    expected = glmer(formula, ticks, "poisson").predict()
    np.testing.assert_allclose(counts.predict(ticks), expected, rtol=1e-9)
    holes = X.astype({"Days": float})
    holes.loc[[0, 5], "Days"] = np.nan
    partial = MixedModelRegressor(SLEEP).fit(holes, y)
    assert partial.model_.nobs == 178
    assert np.flatnonzero(np.isnan(partial.predict(holes))).tolist() == [0, 5]


@cache
def classifier():
    women = frame("Contraception")
    return MixedModelClassifier(WOMEN).fit(women, women["use"])


def test_a_classifier_gives_classes_and_probabilities():
    women, ours = frame("Contraception"), classifier()
    fit = glmer(WOMEN, women, "binomial")
    assert ours.classes_.tolist() == ["N", "Y"]
    proba = ours.predict_proba(women)
    np.testing.assert_allclose(proba[:, 1], fit.predict(), rtol=1e-9)
    np.testing.assert_allclose(proba.sum(axis=1), 1.0, rtol=1e-15)
    np.testing.assert_allclose(ours.decision_function(women), fit.predict(type="link"), rtol=1e-8)
    assert (ours.predict(women) == np.where(proba[:, 1] > 0.5, "Y", "N")).all()
    assert ours.score(women, women["use"]) == np.mean(ours.predict(women) == women["use"])
    probit = clone(ours).set_params(link="probit").fit(women, women["use"] == "Y")
    assert probit.classes_.tolist() == [False, True]
    assert 0.0 < np.abs(probit.predict_proba(women) - proba).max() < 0.02
    unknown = women.head(2).assign(age=[1.0, np.nan])
    assert np.isnan(ours.predict_proba(unknown)).tolist() == [[False] * 2, [True] * 2]
    with pytest.raises(DataError, match="1 of 2 rows have no prediction, such as row 1"):
        ours.predict(unknown)


def test_clones_parameters_and_pickles():
    X, ours = sleep()[0], regressor()
    assert clone(ours).get_params() == ours.get_params()
    assert set(ours.get_params()) == {
        "formula", "groups", "family", "REML", "nAGQ", "re_form", "new_levels", "control",
    }  # fmt: skip
    again = pickle.loads(pickle.dumps(ours))
    np.testing.assert_array_equal(again.predict(X), ours.predict(X))
    again = pickle.loads(pickle.dumps(classifier()))
    women = frame("Contraception").head()
    np.testing.assert_array_equal(again.predict(women), classifier().predict(women))
    assert "REML" in str(clone(ours).set_params(REML=False))


def test_searches_pipelines_and_cross_validation_over_groups():
    X, y = sleep()
    folds = GroupKFold(6)
    scores = cross_val_score(MixedModelRegressor(SLEEP), X, y, groups=X["Subject"], cv=folds)
    by_hand = []
    for train, test in folds.split(X, y, X["Subject"]):
        fit = lmer("y ~ Days + (Days | Subject)", X.iloc[train].assign(y=y.iloc[train]))
        gap = y.iloc[test] - fit.predict(X.iloc[test], re_form="~0")
        by_hand.append(1.0 - (gap**2).sum() / ((y.iloc[test] - y.iloc[test].mean()) ** 2).sum())
    np.testing.assert_allclose(scores, by_hand, rtol=1e-6)
    grid = {"formula": [SLEEP, "~ Days + (1 | Subject)"], "REML": [True, False]}
    search = GridSearchCV(MixedModelRegressor(), grid, cv=3, error_score="raise").fit(X, y)
    assert search.best_params_["formula"] == SLEEP
    scaled = make_column_transformer(
        (StandardScaler(), ["Days"]), remainder="passthrough", verbose_feature_names_out=False
    ).set_output(transform="pandas")
    pipe = make_pipeline(scaled, MixedModelRegressor(SLEEP)).fit(X, y)
    np.testing.assert_allclose(pipe.predict(X), regressor().predict(X), rtol=1e-6)
    logs = TransformedTargetRegressor(MixedModelRegressor(SLEEP), func=np.log, inverse_func=np.exp)
    data = X.assign(y=y)
    expected = np.exp(lmer("log(y) ~ Days + (Days | Subject)", data).predict())
    np.testing.assert_allclose(logs.fit(X, y).predict(X), expected, rtol=1e-6)


@pytest.mark.parametrize(
    ("parameters", "error", "message"),
    [
        ({}, ArgumentError, "neither formula nor groups"),
        ({"formula": SLEEP, "groups": "Subject"}, ArgumentError, "formula and groups are both"),
        ({"formula": 3}, ArgumentError, "formula is 3; expected text"),
        ({"formula": "log(y) ~ Days + (1 | Subject)"}, FormulaError, "response log\\(y\\)"),
        ({"groups": "Subjekt"}, DataError, "groups has 'Subjekt', which is no column of X"),
        ({"groups": 7}, DataError, "groups has 7, which is no column of X"),
        ({"formula": "~ Tage + (1 | Subject)"}, FormulaError, "Tage"),
        ({"formula": "~ Days"}, FormulaError, "random"),
        ({"formula": SLEEP, "REML": "yes"}, ArgumentError, "REML is 'yes'"),
    ],
)
def test_what_cannot_be_is_refused_by_name(parameters, error, message):
    X, y = sleep()
    with pytest.raises(error, match=message):
        MixedModelRegressor(**parameters).fit(X, y)


def test_data_that_cannot_be_are_refused():
    X, y = sleep()
    with pytest.raises(NotFittedError):
        MixedModelRegressor(SLEEP).predict(X)
    with pytest.raises(ValueError, match="feature names should match"):
        regressor().predict(X.rename(columns={"Days": "Tage"}))
    with pytest.raises(ValueError, match="inconsistent numbers of samples"):
        MixedModelRegressor(SLEEP).fit(X, y[:10])
    with pytest.raises(ValueError, match="Negative values"):
        MixedModelRegressor(SLEEP).fit(X, y, sample_weight=-np.ones(len(y)))
    women = frame("Contraception")
    with pytest.raises(ValueError, match="Only binary classification is supported"):
        MixedModelClassifier(WOMEN).fit(women, women["livch"])
    with pytest.raises(ValueError, match="only one class"):
        MixedModelClassifier(WOMEN).fit(women, np.zeros(len(women)))


def test_columns_whose_names_are_no_text_go_by_their_places():
    X, y = sleep()
    numbered = X.set_axis([10, 20], axis=1)
    ours = MixedModelRegressor("~ x0 + (x0 | x1)").fit(numbered, y)
    np.testing.assert_allclose(ours.predict(numbered), regressor().predict(X), rtol=1e-9)


def test_without_scikit_learn_the_install_line_is_given():
    code = "import sys; sys.modules['sklearn'] = None; import mixef.sklearn"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60)
    assert "pip install 'mixef[sklearn]'" in done.stderr
    assert mixef.sklearn.MixedModelRegressor is MixedModelRegressor
