"""Slopes on a grid: against derivatives by hand, differences of predictions, and each other."""

import numpy as np
import pandas as pd
import pytest
from curved_data import curved_data

from mixef import LmerControl, lmer

QUIET = LmerControl(check_conv_singular="ignore")

FUNCTIONS = {
    "log(x)": lambda x: 1 / x,
    "sqrt(x + 3)": lambda x: 0.5 / np.sqrt(x + 3),
    "I(x^3 - 2/x)": lambda x: 3 * x**2 + 2 / x**2,
    "I(2^x)": lambda x: np.log(2) * 2**x,
    "I(x^x)": lambda x: x**x * (np.log(x) + 1),
    "exp(-x/2)": lambda x: -0.5 * np.exp(-x / 2),
    "scale(log10(x))": None,
    "I(abs(x - 3) * sin(x))": lambda x: np.sign(x - 3) * np.sin(x) + np.abs(x - 3) * np.cos(x),
    "log(x, 3)": lambda x: 1 / (x * np.log(3)),
    "atan(x)": lambda x: 1 / (1 + x**2),
    "ifelse(x > 2, x^2, 0)": lambda x: np.where(x > 2, 2 * x, 0),
    "own(x)": lambda x: 3 * np.cos(3 * x),
    "np.square(x)": lambda x: 2 * x,
}


def own(x):
    """A function of the caller's, which has no rule."""
    return np.sin(3 * x)


@pytest.fixture(scope="module")
def curved():
    return curved_data()


@pytest.mark.parametrize("text", FUNCTIONS)
def test_slopes_are_derivatives(curved, text):
    fit = lmer(f"y ~ f * {text} + (1 | g)", curved, control=QUIET)
    points = [1.5, 2.9, 4.4]
    slopes = fit.emtrends("x", ["f", "x"], at={"x": points})
    b = fit.fixef().to_numpy()
    by_level = np.array([b[2], b[2] + b[3]])
    if FUNCTIONS[text] is None:
        unit = np.log10(curved["x"]).std()
        d = 1 / (np.array(points) * np.log(10) * unit)
    else:
        d = FUNCTIONS[text](np.array(points))
    expected = np.outer(d, by_level).ravel()
    # The differences that own() takes are good to 1e-11.
    np.testing.assert_allclose(slopes["estimate"], expected, rtol=1e-9, atol=1e-11)


@pytest.mark.parametrize(
    "basis", ["poly(x, 3)", "poly(x, 2, raw = TRUE)", "bs(x, df = 5)", "ns(x, df = 4)"]
)
def test_slopes_of_bases_are_those_of_predictions(curved, basis):
    fit = lmer(f"y ~ f + {basis} + (1 | g)", curved, control=QUIET)
    points, h = np.array([0.5, 1.7, 3.3, 5.5]), 1e-3
    steps = np.array([-2, -1, 1, 2]) * h
    new = pd.DataFrame({"x": (points[:, None] + steps).ravel(), "f": "a", "g": 0})
    eta = fit.predict(new, re_form="~0").to_numpy().reshape(-1, 4)
    expected = eta @ np.array([1.0, -8.0, 8.0, -1.0]) / (12 * h)
    slopes = fit.emtrends("x", "x", at={"x": points, "f": "a"})
    np.testing.assert_allclose(slopes["estimate"], expected, rtol=1e-6, atol=1e-8)


def test_slopes_for_a_function_of_the_variable(curved):
    fit = lmer("y ~ f * log(x) + (1 | g)", curved, control=QUIET)
    slopes = fit.emtrends("log(x)", "f")
    b = fit.fixef()
    np.testing.assert_allclose(slopes["estimate"], [b["log(x)"], b["log(x)"] + b["fb:log(x)"]])
    assert "log(x).trend" in str(slopes)
