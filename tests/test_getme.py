"""Every piece that lme4's getME returns, of linear and generalized models."""

from functools import cache

import numpy as np
import pytest
from reference_data import cases, frame

from mixef import glmer, lmer

CASES = {case["id"]: case for case in cases("getme.json")}
# lme4 counts Lind from 1.
FROM_ONE = {"Lind"}
# The optimum is lme4's to this, relatively: restarted searches and Newton steps of linear models,
# one search with a tight inner loop of generalized ones.
LINEAR, GENERALIZED = 1e-7, 2e-4


def data_of(case):
    data = frame(case["data"])
    if case["data"] == "sleepstudy":
        data["w"], data["o"] = np.tile([1.0, 2.0], 90), data["Days"] / 2
        data["h"] = (np.arange(180) + 1) % 7
    if case["data"] == "grouseticks":
        data["o"] = np.log(1 + data["HEIGHT"].astype(int) % 3)
    return data


@cache
def fit_of(key):
    case = CASES[key]
    options = {name: case[name] for name in ("weights", "offset") if name in case}
    if "family" in case:
        return glmer(case["formula"], data_of(case), case["family"], **options)
    return lmer(case["formula"], data_of(case), REML=case["REML"], **options)


def tolerance(key):
    return GENERALIZED if "family" in CASES[key] else LINEAR


def dense(piece):
    return piece.toarray() if hasattr(piece, "toarray") else np.asarray(piece, dtype=float)


def assert_recorded(piece, recorded, rtol, **options):
    M = dense(piece)
    shape = recorded["shape"] if isinstance(recorded["shape"], list) else [recorded["shape"]]
    assert list(M.shape) == shape
    M = M[:, None] if M.ndim == 1 else M
    i, j = (np.arange(1, size + 1) for size in M.shape)
    size = np.sqrt(recorded["squares"] * M.size)
    for value, name in ((M.sum(), "sum"), ((M**2).sum(), "squares"),
                        (np.cos(i) @ M @ np.sin(j), "mixed")):  # fmt: skip
        scale = abs(recorded["squares"]) if name == "squares" else size
        assert abs(value - recorded[name]) <= rtol * scale + 1e-12, name


@pytest.mark.parametrize("name", ["X", "Z", "Zt", "y", "mu", "u", "b", "Lambda", "Lambdat", "A",
                                  "fixef", "beta", "theta", "offset"])  # fmt: skip
@pytest.mark.parametrize("key", CASES)
def test_arrays(key, name):
    recorded = CASES[key]["arrays"][name]
    if name == "b":  # a matrix of one column in lme4
        recorded = recorded | {"shape": recorded["shape"][:1]}
    assert_recorded(fit_of(key).getME(name), recorded, tolerance(key))


@pytest.mark.parametrize("key", CASES)
def test_factors(key):
    """L by its determinant and RZX by its square: CHOLMOD orders the levels as it likes."""
    fit, case, rtol = fit_of(key), CASES[key], tolerance(key)
    L = dense(fit.getME("L"))
    assert list(L.shape) == case["L"]["shape"]
    np.testing.assert_allclose(2 * np.log(L.diagonal()).sum(), case["L"]["logdet"], rtol=rtol)
    RZX, RX = fit.getME("RZX"), fit.getME("RX")
    assert_recorded(RZX.T @ RZX, case["RZX"], rtol)
    assert_recorded(RX.T @ RX, case["RX"], rtol)
    np.testing.assert_array_equal(RX, np.triu(RX))


@pytest.mark.parametrize("name", ["Ztlist", "mmList", "Tlist", "ST"])
@pytest.mark.parametrize("key", CASES)
def test_lists(key, name):
    fit, case = fit_of(key), CASES[key]
    pieces = fit.getME(name)
    if isinstance(pieces, dict):
        assert list(pieces) == case["names"][name]
        pieces = pieces.values()
    for piece, recorded in zip(pieces, case["lists"][name], strict=True):
        assert_recorded(piece, recorded, tolerance(key))


@pytest.mark.parametrize("key", CASES)
def test_names(key):
    fit, names = fit_of(key), CASES[key]["names"]
    assert list(fit.getME("theta").index) == names["theta"]
    assert list(fit.getME("fixef").index) == names["fixef"]
    assert list(fit.getME("flist").columns) == names["flist"]
    assert [group for group, _ in fit.getME("cnms")] == names["cnms"]
    assert [columns for _, columns in fit.getME("cnms")] == CASES[key]["cnms"]


def test_the_factor_of_columns_that_are_nearly_one():
    data = frame("sleepstudy")
    near, far = (lmer("Reaction ~ x + (1 | Subject)", data.assign(x=data["Days"] + move))
                 for move in (0.0, 1e9))  # fmt: skip
    RX = far.getME("RX")
    assert (np.triu(RX) == RX).all()
    # What the intercept leaves of the other column is the same.
    np.testing.assert_allclose(RX[1, 1], near.getME("RX")[1, 1], rtol=1e-3)


@pytest.mark.parametrize("name", ["Gp", "Tp", "Lind", "lower", "p_i", "l_i", "q_i", "m_i"])
@pytest.mark.parametrize("key", CASES)
def test_vectors(key, name):
    recorded = [-np.inf if x is None else x for x in CASES[key]["vectors"][name]]
    np.testing.assert_array_equal(
        np.asarray(fit_of(key).getME(name)) + (name in FROM_ONE), recorded
    )


@pytest.mark.parametrize("key", CASES)
def test_numbers(key):
    fit, case, rtol = fit_of(key), CASES[key], tolerance(key)
    for name, recorded in case["numbers"].items():
        np.testing.assert_allclose(fit.getME(name), recorded, rtol=rtol)
    found = fit.getME("devcomp")
    for part in ("cmp", "dims"):
        recorded = {k: v for k, v in case["devcomp"][part].items() if k not in
                    ("tolPwrss", "compDev", "spFe")}  # fmt: skip
        assert set(found[part]) >= set(recorded)
        for name, value in recorded.items():
            np.testing.assert_allclose(found[part][name], value, rtol=rtol, err_msg=name)


@pytest.mark.parametrize("key", CASES)
def test_all_of_lme4s_names_are_known(key):
    pieces = fit_of(key).getME("ALL")
    assert set(CASES[key]["all"]) - set(pieces) <= {"glmer.nb.theta"}
