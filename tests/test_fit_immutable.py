"""A fit never changes: not by its caller's later changes, and not by pickling or copying."""

import copy
import pickle
from dataclasses import FrozenInstanceError, fields

import numpy as np
import pandas as pd
import pytest
from reference_data import case, cases, frame

from mixef import LinearMixedModel, lmer, load_dataset

SLEEP = "Reaction ~ Days + (Days | Subject)"
every_fit = pytest.mark.parametrize("name", [c["id"] for c in cases("fit_object.json")])


def fit_of(name):
    """Our fit of a case of fit_object.json."""
    model = case("fit_object.json", name)
    return lmer(model["formula"], frame(model["data"]), model["REML"], weights=model["weights"])


def snapshot(fit):
    """Everything that a fit says, as text and numbers."""
    return {
        "text": str(fit.summary()),
        "objective": fit.objective,
        "fixef": fit.fixef().to_numpy().copy(),
        "par": fit.par.copy(),
        "theta": fit.theta.copy(),
        "fitted": fit.fitted().to_numpy().copy(),
        "residuals": fit.residuals(type="pearson").to_numpy().copy(),
        "vcov": fit.vcov().to_numpy().copy(),
        "ranef": fit.ranef(condVar=True).to_frame()[["condval", "condsd"]].to_numpy().copy(),
        "X": fit.getME("X").to_numpy().copy(),
        "Zt": fit.getME("Zt").toarray(),
        "y": fit.getME("y").copy(),
    }


def assert_unchanged(before, after):
    for key, value in before.items():
        np.testing.assert_array_equal(after[key], value, err_msg=key)


def test_the_state_is_frozen():
    fit = lmer(SLEEP, frame("sleepstudy"))
    for state in (fit._fit, fit._fit.estimates, fit.convergence):
        for field in fields(state):
            with pytest.raises(FrozenInstanceError):
                setattr(state, field.name, None)
    for name in ("theta", "beta", "sigma", "objective", "converged"):
        with pytest.raises(AttributeError):
            setattr(fit, name, None)


@pytest.mark.parametrize("name", ["beta", "theta", "par"])
def test_stored_arrays_cannot_be_written_to(name):
    fit = lmer(SLEEP, frame("sleepstudy"))
    for stored in (fit, pickle.loads(pickle.dumps(fit)), copy.deepcopy(fit)):
        with pytest.raises(ValueError, match="read-only"):
            getattr(stored, name)[0] = 1.0


def test_writing_to_results_changes_nothing():
    fit = lmer(SLEEP, load_dataset("sleepstudy"), weights=np.ones(180))
    before = snapshot(fit)
    results = [fit.fixef(), fit.fitted(), fit.residuals(), fit.predict(), fit.vcov()]
    results += [fit.coef_table(), fit.ranef()["Subject"], fit.coef()["Subject"]]
    results += [fit.getME(name) for name in ("X", "theta", "par", "fixef")]
    results += [fit.VarCorr()["Subject"], fit.augment()[[".fitted"]], *fit.getME("mmList").values()]
    for result in results:
        result.iloc[:] = -1.0
    arrays = [fit.ranef(condVar=True).condVar["Subject"], fit.getME("Zt").data]
    arrays += [fit.getME(name) for name in ("y", "u", "b", "mu", "offset", "beta", "RX", "RZX")]
    arrays += [
        fit.getME("Lambda").data,
        *fit.getME("Tlist"),
        *[Z.data for Z in fit.getME("Ztlist").values()],
    ]
    for array in arrays:
        if array.flags.writeable:
            array[...] = -1.0
    assert_unchanged(before, snapshot(fit))


MUTABLE = {
    "pandas": lambda data: data,
    "arrays": lambda data: {
        "Reaction": data["Reaction"].to_numpy(dtype=float, copy=True),
        "Days": data["Days"].to_numpy(dtype=float, copy=True),
        "Subject": data["Subject"].astype(str).to_numpy(dtype=object, copy=True),
    },
    "lists": lambda data: {name: list(data[name]) for name in ("Reaction", "Days", "Subject")},
}


@pytest.mark.parametrize("kind", MUTABLE)
def test_the_callers_data_are_neither_changed_nor_needed(kind):
    data = MUTABLE[kind](load_dataset("sleepstudy"))
    untouched = copy.deepcopy(data)
    weights, offset = np.tile([1.0, 2.0], 90), np.linspace(0, 1, 180)
    fit = lmer(SLEEP, data, weights=weights, offset=offset)
    for name in ("Reaction", "Days", "Subject"):
        assert list(data[name]) == list(untouched[name])
    before, again = snapshot(fit), snapshot(fit.update())
    if kind == "pandas":
        data["Reaction"] = 0.0
        data.loc[3, "Days"] = 1e6
        del data["Subject"]
    else:
        data["Reaction"][5], data["Days"][3], data["Subject"][0] = 1e6, 1e6, "999"
        del data["Subject"]
    weights[:3], offset[:] = 100.0, -5.0
    assert_unchanged(before, snapshot(fit))
    assert_unchanged(again, snapshot(fit.update()))
    intercepts = fit.update(". ~ . - Days")
    assert list(intercepts.fixef().index) == ["(Intercept)"]
    assert intercepts.nobs == 180


@every_fit
def test_a_fit_pickles(name):
    fit = fit_of(name)
    again = pickle.loads(pickle.dumps(fit))
    assert isinstance(again, LinearMixedModel)
    assert_unchanged(snapshot(fit), snapshot(again))
    data = frame(case("fit_object.json", name)["data"]).head(5)
    np.testing.assert_array_equal(again.predict(data), fit.predict(data))
    np.testing.assert_array_equal(again.refit_ml().beta, fit.refit_ml().beta)
    assert again.update(REML=not fit.REML).REML is not fit.REML
    pd.testing.assert_frame_equal(again.tidy(), fit.tidy())
    assert again.getME("devfun")(fit.par) == pytest.approx(fit.objective, rel=1e-13)


def test_a_pickle_holds_the_data_and_no_more():
    # InstEval has 73421 rows and q = 4100. Doubles and codes of the 4 variables, y and X, and the
    # caller's frame, come to some 6 MB; q x q alone would be 134 MB.
    data = frame("InstEval")
    fit = lmer("y ~ service + (1 | s) + (1 | d)", data)
    size = len(pickle.dumps(fit))
    assert size < 8e6
    fit.ranef(condVar=True)
    str(fit.summary())
    # Labels of levels are made when they are asked for, and kept: 4100 short texts.
    assert len(pickle.dumps(fit)) < size + 1e5
    again = pickle.loads(pickle.dumps(fit))
    ours, expected = again.ranef(condVar=True).condVar["d"], fit.ranef(condVar=True).condVar["d"]
    np.testing.assert_array_equal(ours, expected)


def test_deep_copies_are_fits_too():
    fit = fit_of("sleep")
    assert_unchanged(snapshot(fit), snapshot(copy.deepcopy(fit)))
