"""Hypotheses of types I, II and III: invariance, hand-made cases, and definitions by projection."""

import warnings

import numpy as np
import pandas as pd
import pytest
from anova_cases import CASES, data_of, fit_of
from reference_data import frame

from mixef import lmer
from mixef.inference.hypotheses.ddf import f_test
from mixef.inference.hypotheses.term_contrasts import (
    check_type,
    droppable,
    term_after_others,
    term_columns,
    term_hypotheses,
)

TYPES = ("I", "II", "III")
CONTRASTS = ("sum", "helmert", "poly", "SAS", "sdif")


def table_of(fit, type, by_precision=False):
    """F and both degrees of freedom of every term, as an array."""
    found = term_hypotheses(fit, type, by_precision).values()
    tests = [f_test(fit, L, ddf=None if by_precision else "auto") for L in found]
    return np.array([(t.statistic, t.num_df, t.den_df) for t in tests])


def same_rows(A, B, tolerance=1e-9):
    """Whether two matrices have one row space."""
    A, B = (np.linalg.qr(M.T)[0] for M in (A, B))
    return A.shape == B.shape and np.abs(A @ A.T - B @ B.T).max() < tolerance


def quiet_lmer(*args, **kwargs):
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return lmer(*args, **kwargs)._fit


@pytest.mark.parametrize("type", TYPES)
@pytest.mark.parametrize(
    "key", [key for key in CASES if key not in ("sleepstudy", "sleepstudy_poly", "sleep_some")]
)
def test_the_table_is_one_whatever_the_contrasts(key, type):
    """F and its degrees of freedom, by type III the denominator's too, which otherwise are those
    of the rows that the contrasts make; the fits' own covariance parameters differ by 1e-7 or so.
    """
    columns = slice(None) if type == "III" else slice(2)
    expected = table_of(fit_of(key)._fit, type)[:, columns]
    for contrast in CONTRASTS[: 5 if key in ("three_way", "one_empty") else 1]:
        found = table_of(fit_of(key, contrast)._fit, type)[:, columns]
        np.testing.assert_allclose(found, expected, rtol=1e-5)


@pytest.mark.parametrize("by_precision", [False, True])
@pytest.mark.parametrize("type", TYPES)
def test_units_and_levels_order_change_no_statistic(type, by_precision):
    """Units change no denominator either; which level comes first does, as in lmerTest."""
    data = data_of("one_empty")
    formula = "y ~ A * B + A * x + (1 | g)"
    expected = table_of(quiet_lmer(formula, data), type, by_precision)
    scaled = data.assign(x=data["x"] * 1e6)
    found = table_of(quiet_lmer(formula, scaled), type, by_precision)
    np.testing.assert_allclose(found, expected, rtol=1e-5)
    turned = scaled.assign(
        A=data["A"].cat.reorder_categories(["a3", "a1", "a2"]),
        B=data["B"].cat.reorder_categories(["b2", "b3", "b1"]),
    )  # fmt: skip
    found = table_of(quiet_lmer(formula, turned), type, by_precision)
    np.testing.assert_allclose(found[:, :2], expected[:, :2], rtol=1e-5)


@pytest.mark.parametrize("key", ["two_way", "three_way", "three_way_covariate", "ordered",
                                 "splines", "weights", "covariates", "cake_covariate"])  # fmt: skip
def test_type_three_is_marginal_under_sum_contrasts(key):
    """Where no cell is empty; hypotheses in the coordinates of the sum-coded fit."""
    fit = fit_of(key, "sum")._fit
    assert len(fit.kept) == len(fit.design.names)
    for t, L in enumerate(term_hypotheses(fit, "III").values()):
        marginal = np.eye(len(fit.kept))[fit.design.assign == t + 1]
        assert same_rows(L, marginal)


def projection(X):
    U, S, _ = np.linalg.svd(X, full_matrices=False)
    U = U[:, 1e-9 * S[0] < S]
    return U @ U.T


@pytest.mark.parametrize(
    ("key", "term", "others"),
    [
        ("cake_covariate", "recipe", "temp"),
        ("cake_covariate", "temp", "recipe"),
        ("three_way", "A", "B * C"),
        ("three_way", "A:B", "A + B + C + A:C + B:C"),
        ("three_way_covariate", "A", "B * x + C"),
        ("three_way_covariate", "x", "A * B + C"),
        ("covariates", "x", "z + B"),
        ("nested", "A", "x"),
        ("one_empty_x", "B", "A + x"),
        ("no_intercept", "A", "B"),
    ],
)
def test_type_two_is_what_a_term_adds_to_those_that_do_not_contain_it(key, term, others):
    """By projections on the rows: (P_with - P_without) X, from design matrices of other fits."""
    case, fit = CASES[key], fit_of(key)._fit
    data = data_of(case["data"])
    response = case["formula"].split("~")[0]
    bar = case["formula"][case["formula"].rindex("(") :]
    small = quiet_lmer(f"{response} ~ {others} + {bar}", data)
    large = quiet_lmer(f"{response} ~ {others} + {term} + {bar}", data)
    added = projection(large.design.matrix) - projection(small.design.matrix)
    found = term_hypotheses(fit, "II")[term]
    expected = added @ fit.X
    _U, S, V = np.linalg.svd(expected, full_matrices=False)
    rank = int((1e-7 * S[0] < S).sum())
    assert len(found) == rank
    assert same_rows(found, V[:rank], 1e-7)


def test_type_one_is_sequential():
    fit = fit_of("three_way")._fit
    R = np.linalg.qr(fit.X)[1]
    for t, L in enumerate(term_hypotheses(fit, "I").values()):
        assert same_rows(L, R[fit.design.assign == t + 1], 1e-8)


def test_sequential_tests_by_precision_add_up():
    """With one metric the squares of all terms are that of the hypothesis of no effect at all."""
    fit = fit_of("three_way")._fit
    parts = [f_test(fit, L, ddf=None) for L in term_hypotheses(fit, "I", True).values()]
    whole = f_test(fit, np.eye(len(fit.kept))[1:], ddf=None)
    total = sum(part.statistic * part.num_df for part in parts)
    assert sum(part.num_df for part in parts) == whole.num_df == len(fit.kept) - 1
    np.testing.assert_allclose(total, whole.statistic * whole.num_df, rtol=1e-9)


def test_an_empty_cell_by_hand():
    """A 2 by 2 by the rule of SAS: without the cell (a2, b2) the interaction is not estimable,
    A is the difference at b1 and B the difference at a1 in all three types but I."""
    data = frame("factorial").query("A != 'a3' & B != 'b3' & ~(A == 'a2' & B == 'b2')")
    data = data.assign(A=data["A"].cat.remove_unused_categories(),
                       B=data["B"].cat.remove_unused_categories())  # fmt: skip
    fit = quiet_lmer("y ~ A * B + (1 | g)", data)
    assert fit.dropped_names == ("Aa2:Bb2",)
    found = term_hypotheses(fit, "III")
    assert same_rows(found["A"], np.array([[0.0, 1.0, 0.0]]))
    assert same_rows(found["B"], np.array([[0.0, 0.0, 1.0]]))
    assert found["A:B"].shape == (0, 3)
    test = f_test(fit, found["A:B"])
    assert test.num_df == 0
    assert np.isnan(test.p_value)


def test_a_term_without_freedom():
    data = frame("sleepstudy").assign(hours=lambda d: 24.0 * d["Days"] + 1.0)
    fit = quiet_lmer("Reaction ~ Days + hours + (1 | Subject)", data)
    for type in ("II", "III"):
        sizes = {term: len(L) for term, L in term_hypotheses(fit, type).items()}
        assert sizes == {"Days": 0, "hours": 0}
    assert {t: len(L) for t, L in term_hypotheses(fit, "I").items()} == {"Days": 1, "hours": 0}


def test_fewer_contrasts_than_levels():
    """One contrast of a three-level factor: its column is tested as it is."""
    data = frame("factorial")
    contrast = {"A": pd.DataFrame({"1v23": [2.0, -1.0, -1.0]}, index=["a1", "a2", "a3"])}
    fit = quiet_lmer("y ~ A + B + (1 | g)", data, contrasts=contrast)
    found = term_hypotheses(fit, "III")
    assert fit.fixed_names[:2] == ("(Intercept)", "A1v23")
    assert same_rows(found["A"], np.eye(4)[[1]])
    assert same_rows(found["B"], np.eye(4)[[2, 3]])


def test_columns_that_indicators_would_overstep():
    """A has one contrast but all its levels in A:B, whose indicators span more than the model:
    each term is its own columns then."""
    data = frame("factorial")
    contrast = {"A": pd.DataFrame({"1v23": [2.0, -1.0, -1.0]}, index=["a1", "a2", "a3"])}
    fit = quiet_lmer("y ~ A + A:B + (1 | g)", data, contrasts=contrast)
    assert len(fit.kept) == len(fit.design.names) == 8
    found = term_hypotheses(fit, "III")
    assert same_rows(found["A"], np.eye(8)[[1]])
    assert same_rows(found["A:B"], np.eye(8)[2:])


@pytest.mark.parametrize("formula", ["y ~ 1 + (1 | g)", "y ~ 0 + (1 | g)"])
def test_models_without_terms(formula):
    found = term_hypotheses(quiet_lmer(formula, frame("factorial")), "III")
    assert {k: L.tolist() for k, L in found.items()} == (
        {"(Intercept)": [[1.0]]} if "1 +" in formula else {}
    )


def test_containment():
    columns = term_columns(fit_of("three_way_covariate")._fit)
    assert columns.labels == ("A", "B", "x", "C", "A:B", "A:x", "B:x", "A:B:x")
    names = lambda found: [columns.labels[t] for t in found]  # noqa: E731
    assert names(columns.above(0)) == ["A:B", "A:x", "A:B:x"]
    assert names(columns.containing(0)) == ["A:B"]
    assert names(columns.containing(2)) == ["A:x", "B:x", "A:B:x"]
    assert names(columns.above(5)) == names(columns.containing(5)) == ["A:B:x"]


def test_terms_that_may_be_dropped():
    fit = fit_of("three_way_covariate")._fit
    assert droppable(fit) == ["C", "A:B:x"]
    for term, L in term_after_others(fit, ["C", "A:B:x"]).items():
        assert same_rows(L, term_hypotheses(fit, "II")[term])


@pytest.mark.parametrize("type", [1, "1", "i", "I"])
def test_spellings_of_types(type):
    assert check_type(type) == "I"


@pytest.mark.parametrize("type", [0, 4, "IV", None, True, ["I"], 1.5])
def test_other_types_are_refused(type):
    with pytest.raises(ValueError, match="expected one of 'I', 'II' or 'III'"):
        check_type(type)
