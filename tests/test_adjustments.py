"""Adjusted p values: distributions of the largest statistic, and rules that go by steps.

tests/reference/emmeans.json has tails by mvtnorm 1.1-3 (emmeans.R).
"""

import numpy as np
import pytest
from reference_data import read_reference
from scipy import stats

from mixef.inference.marginal.adjustments import stepwise
from mixef.inference.marginal.families import (
    dunnett_tail,
    largest_of,
    tukey_tail,
    upper_quantile,
)

REFERENCE = read_reference("emmeans.json")


@pytest.mark.parametrize("k", [2, 3, 28])
@pytest.mark.parametrize("df", [2.5, 42.0, np.inf])
def test_the_studentized_range_is_scipys(k, df):
    q = np.array([0.5, 3.0, 6.0])
    expected = [stats.studentized_range.sf(x, k, df) for x in q]
    np.testing.assert_allclose(tukey_tail(q, k, df), expected, atol=1e-12)


@pytest.mark.parametrize("case", REFERENCE["tails"], ids=["pairs", "steps", "control", "plane"])
def test_the_largest_of_correlated_statistics_is_mvtnorms(case):
    R, df = np.array(case["correlations"]), case["df"] or np.inf
    for name, two_sided in (("two", True), ("one", False)):
        tail = largest_of(R, two_sided).tail(case["at"], df)
        # mvtnorm's own error is 1e-5.
        np.testing.assert_allclose(tail, case[name], atol=3e-5)


@pytest.mark.parametrize("k", [1, 2, 5, 10])
def test_the_largest_of_equal_correlations_is_dunnetts(k):
    R = np.full((k, k), 0.5) + 0.5 * np.eye(k)
    c = np.array([0.3, 1.0, 2.0, 3.0])
    law = largest_of(R, two_sided=True)
    np.testing.assert_allclose(law.tail(c, 20.5), dunnett_tail(c, k, 20.5), atol=1e-4)
    assert law.tail(law.quantile(0.05, [20.5]), 20.5) == pytest.approx(0.05, abs=1e-9)


@pytest.mark.parametrize("df", [1e-12, 0.01, 0.09])
def test_next_to_no_degrees_of_freedom(df):
    """As of means of groups that are random too: nothing is known, and nothing warns."""
    df = np.array([df])
    assert upper_quantile(lambda q, df: tukey_tail(q, 3, df), 0.05, df) == np.inf
    assert largest_of(np.eye(3), two_sided=True).quantile(0.05, df) == np.inf
    assert tukey_tail(np.array([3.0]), 3, df) == 1.0
    tails = tukey_tail(np.full(4, 3.0), 3, np.array([0.05, 0.1, 0.2, 0.5]))
    assert (np.diff(tails) < 0).all()


def test_one_sided_tails_below_zero():
    # P(max of two > c) for independent normals.
    law = largest_of(np.eye(2), two_sided=False)
    c = np.array([-1.0, 0.0, 1.0])
    np.testing.assert_allclose(law.tail(c, np.inf), 1 - stats.norm.cdf(c) ** 2, atol=1e-8)


def test_stepwise_adjustments_are_those_of_r():
    # R 4.2.2: p.adjust(c(.03, .001, .2, .022, .01, .5, .02), method)
    p = np.array([0.03, 0.001, 0.2, 0.022, 0.01, 0.5, 0.02])
    expected = {
        "holm": [0.1, 0.007, 0.4, 0.1, 0.06, 0.5, 0.1],
        "hochberg": [0.09, 0.007, 0.4, 0.088, 0.06, 0.5, 0.088],
        "hommel": [0.09, 0.007, 0.4, 0.066, 0.05, 0.5, 0.06],
        "fdr": [0.042, 0.007, 0.7 / 3, 0.0385, 0.035, 0.5, 0.0385],
        "BY": [0.1089, 0.01815, 0.605, 0.099825, 0.09075, 1.0, 0.099825],
    }
    for adjust, values in expected.items():
        np.testing.assert_allclose(stepwise(p, adjust), values, rtol=1e-12)
