"""Cluster-robust covariances: clubSandwich's numbers, the dense formulas, invariances, refusals."""

import pickle
from functools import cache

import numpy as np
import pandas as pd
import pytest
from dense_robust import Dense
from fit_at_theta import at_theta
from reference_data import case, cases, frame, read_reference

from mixef import (
    Beta,
    Gamma,
    anova,
    glmer,
    lmer,
    load_dataset,
    power,
)
from mixef.errors import ArgumentError, DataError, FitError, SingularFitWarning
from mixef.inference.hypotheses.ddf import approximation, f_test, t_tests
from mixef.inference.robust import corrections, small_samples
from mixef.inference.robust.clusters import clusters_of

TYPES = tuple(corrections.CORRECTIONS)
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
