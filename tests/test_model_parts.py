"""Weights, model frames, matrices and covariances of parameters, against lme4.

The numbers are made by model_parts.R in tests/reference.
"""

import inspect
import json
import warnings

import numpy as np
import pandas as pd
import pytest
from reference_data import FOLDER

from mixef import glmer, lmer, load_dataset
from mixef.errors import ArgumentError, DataError

R = json.loads((FOLDER / "model_parts.json").read_text())
COUNTS = "cbind(incidence, size - incidence)"
# lme4 is brought to the optimum by Newton steps; its Hessian is by extrapolated differences.
BY_DIFFERENCES = 1e-6


@pytest.fixture(scope="module")
def weighted():
    sleep = load_dataset("sleepstudy")
    sleep["w"] = 1.0 + (np.arange(len(sleep)) + 1) % 3
    return lmer("log(Reaction) ~ poly(Days, 2) + (Days | Subject)", sleep, weights="w")


@pytest.fixture(scope="module")
def ml():
    return lmer("Reaction ~ Days + (Days | Subject)", load_dataset("sleepstudy"), REML=False)


@pytest.fixture(scope="module")
def cbpp():
    return glmer(f"{COUNTS} ~ period + (1 | herd)", load_dataset("cbpp"), "binomial")


def test_a_model_frame_has_the_variables_of_lme4s(weighted):
    frame = weighted.model_frame()
    names = [name for name in R["frame_names"] if name != "poly(Days, 2)"]
    assert list(frame) == [names[0], "poly(Days, 2)1", "poly(Days, 2)2", *names[1:]]
    assert frame["log(Reaction)"].head(5).tolist() == pytest.approx(R["response"], rel=1e-12)
    assert frame["(weights)"].head(5).tolist() == R["weights"]
    assert isinstance(frame["Subject"].dtype, pd.CategoricalDtype)
    frame["log(Reaction)"] = 0.0  # a copy
    assert weighted.getME("y")[0] == pytest.approx(R["response"][0], rel=1e-12)


def test_a_model_frame_is_of_the_rows_and_the_response_of_the_fit(cbpp):
    sleep = load_dataset("sleepstudy").set_index(np.arange(180) + 7)
    sleep.loc[9, "Reaction"] = np.nan
    fit = lmer("Reaction ~ 1 + (1 | Subject)", sleep, na_action="exclude", offset="Days",
               subset="Days > 0")  # fmt: skip
    frame = fit.model_frame()
    assert list(frame) == ["Reaction", "Subject", "(offset)"]
    assert list(frame.index) == list(sleep.index[(sleep.Days > 0) & sleep.Reaction.notna()])
    assert (fit.refit(2 * fit.getME("y")).model_frame()["Reaction"] == 2 * frame.Reaction).all()
    counts = cbpp.model_frame()
    assert list(counts.iloc[0, :2]) == [2, 12]
    assert list(counts.columns[2:]) == ["period", "herd"]


def test_model_matrices_are_lme4s(weighted, cbpp):
    new = {"Days": [0.5, 12.0], "Subject": ["308", "335"]}
    X = weighted.model_matrix(new)
    np.testing.assert_allclose(X, R["X_new"], rtol=1e-9)
    assert list(X) == list(weighted.fixef().index)
    pd.testing.assert_frame_equal(weighted.model_matrix(), weighted.getME("X"))
    Z = weighted.model_matrix(type="random")
    assert Z.shape == (180, R["Z_columns"])
    assert Z.sum() == pytest.approx(R["Z_sum"], rel=1e-12)
    for fit in (weighted, cbpp):
        own = fit.model_matrix(type="random")
        assert abs(own - fit.getME("Z")).max() == 0


@pytest.mark.parametrize("name", ["weighted", "cbpp"])
def test_matrices_of_new_rows_make_their_predictions(name, request):
    fit = request.getfixturevalue(name)
    new = fit.augment().iloc[[3, 40, 11]]
    eta = fit.model_matrix(new) @ fit.beta + fit.model_matrix(new, "random") @ fit.getME("b")
    np.testing.assert_allclose(eta, fit.predict(new, type="link"), rtol=1e-12)


def test_a_level_without_a_column_is_refused(weighted):
    new = {"Days": [1.0], "Subject": ["new"]}
    assert weighted.model_matrix(new).shape == (1, 3)
    with pytest.raises(DataError, match="new levels detected in newdata: new of Subject"):
        weighted.model_matrix(new, type="random")
    with pytest.raises(ArgumentError, match="type is 'both'; expected 'fixed' or 'random'"):
        weighted.model_matrix(type="both")


def test_weights_of_linear_models(weighted, ml):
    assert weighted.weights().head(5).tolist() == R["weights"]
    assert weighted.weights("working").equals(weighted.weights())
    assert (ml.weights() == 1.0).all()


def test_covariance_of_all_parameters_of_a_linear_model(ml):
    V = ml.vcov(full=True)
    assert list(V.index) == [
        "(Intercept)", "Days", "Subject.(Intercept)", "Subject.Days.(Intercept)", "Subject.Days",
        "log(sigma)",
    ]  # fmt: skip
    expected, own = np.array(R["par_vcov"]), V.iloc[2:, 2:].to_numpy()
    sd = np.sqrt(np.diag(expected))
    np.testing.assert_allclose(own / np.outer(sd, sd), expected / np.outer(sd, sd),
                               atol=BY_DIFFERENCES)  # fmt: skip
    pd.testing.assert_frame_equal(V.iloc[:2, :2], ml.vcov())
    assert (V.iloc[:2, 2:] == 0).all(axis=None)
    assert ml.vcov(full=True, use_hessian=False).iloc[2:, 2:].isna().all(axis=None)


def test_correlations_of_the_estimates(ml, cbpp):
    np.testing.assert_allclose(ml.vcov(correlation=True), R["correlation"], atol=1e-6)
    for fit in (ml, cbpp):
        V = fit.vcov(full=True)
        sd = np.sqrt(np.diag(V))
        np.testing.assert_allclose(fit.vcov(full=True, correlation=True), V / np.outer(sd, sd))


def test_what_a_linear_model_puts_at_zero_has_no_variance():
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        fit = lmer("Yield ~ 1 + (1 | Batch)", load_dataset("Dyestuff2"))
    V = fit.vcov(full=True)
    assert V.loc["Batch.(Intercept)"].iloc[1:].isna().all()
    assert V.loc["log(sigma)", "log(sigma)"] > 0


def test_one_signature_for_every_model(ml, cbpp):
    for name in ("vcov", "residuals", "weights", "model_frame", "model_matrix"):
        one, other = (inspect.signature(getattr(fit, name)) for fit in (ml, cbpp))
        assert one == other
    assert ml.residuals().equals(ml.residuals("response"))
    assert cbpp.residuals().equals(cbpp.residuals("deviance"))
