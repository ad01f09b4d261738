"""Satterthwaite's denominators beside lmerTest's, where they depend on a hypothesis's rows."""

import warnings
from functools import cache

import numpy as np
import pytest
from reference_data import cases, frame

from mixef import lmer

CASES = {case["id"]: case for case in cases("ddf_basis.json")}
# Types that are not lmerTest's, by case and term (see docs/differences.md and test_anova.py).
OTHER = {
    ("slopes", "II", "treat"), ("slopes_items", "II", "dose"),
    ("nested", "II", "site"), ("nested", "III", "site"),
    ("no_intercept", "II", "treat"), ("no_intercept", "III", "treat"),
    ("no_intercept", "drop1", "treat"), ("interaction_alone", "drop1", "treat:site"),
}  # fmt: skip


@cache
def fit_of(key):
    case = CASES[key]
    data = frame("split")
    if case["data"] == "no_cell":
        data = data.query("~(treat == 'b' & dose == 'high')")
    contrasts = {
        name: kind.removeprefix("contr.") for name, kind in (case["contrasts"] or {}).items()
    }
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # singular fits, and the column of an empty cell
        return lmer(case["formula"], data, REML=case["REML"], contrasts=contrasts or None)


@pytest.mark.parametrize("type", ["I", "II", "III", "drop1"])
@pytest.mark.parametrize("key", CASES)
def test_tables_of_terms_are_lmertests(key, type):
    """Of lmerTest's degrees of freedom four to five digits count: they are by differences."""
    expected, fit = CASES[key][type], fit_of(key)
    table = fit.drop1(test="F") if type == "drop1" else fit.anova(type)
    assert list(table.index) == expected["rows"]
    for name, rtol in {"F value": 1e-5, "NumDF": 0, "DenDF": 1e-3}.items():
        for term, recorded in zip(expected["rows"], expected["values"][name], strict=True):
            if (key, type, term) not in OTHER:
                np.testing.assert_allclose(table.loc[term, name], recorded, rtol=rtol)


def test_where_lmertest_is_not_followed_the_tables_do_differ():
    for key, type, term in OTHER:
        fit, expected = fit_of(key), CASES[key][type]
        table = fit.drop1(test="F") if type == "drop1" else fit.anova(type)
        recorded = expected["values"]["DenDF"][expected["rows"].index(term)]
        assert abs(table.loc[term, "DenDF"] / recorded - 1.0) > 1e-2, (key, type, term)


def test_anova_and_contest_of_one_hypothesis_have_one_denominator():
    """Three contrasts of a factor that no other term contains, in a model of two terms."""
    fit = fit_of("crossover")
    contest = fit.contest(["period2", "period3", "period4"]).frame.iloc[0]
    for type in ("II", "III"):
        row = fit.anova(type).loc["period"]
        np.testing.assert_allclose(row["DenDF"], contest["DenDF"], rtol=1e-9)
        np.testing.assert_allclose(row["F value"], contest["F value"], rtol=1e-9)


@pytest.mark.parametrize("key", CASES)
def test_contests_are_lmertests(key):
    for test in CASES[key]["contests"]:
        found = fit_of(key).contest(test["L"]).frame.iloc[0]
        assert found["NumDF"] == test["num_df"]
        np.testing.assert_allclose(found["F value"], test["F"], rtol=1e-5)
        np.testing.assert_allclose(found["DenDF"], test["den_df"], rtol=1e-3)
