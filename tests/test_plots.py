"""What all pictures share, and pictures of residuals: the data on the axes."""

import sys

import matplotlib
import numpy as np
import pytest

from mixef import errors, lmer, load_dataset
from mixef.plots.axes import axes_of

matplotlib.use("Agg")
import matplotlib.pyplot as plt


@pytest.fixture(autouse=True)
def no_figures_left():
    yield
    plt.close("all")


@pytest.fixture(scope="module")
def fit():
    return lmer("Reaction ~ Days + (Days | Subject)", load_dataset("sleepstudy"))


def test_residuals_against_fitted(fit):
    ax = fit.plot.residuals()
    (points,) = [line for line in ax.lines if line.get_linestyle() == "None"]
    assert np.array_equal(points.get_xdata(), fit.fitted())
    assert np.array_equal(points.get_ydata(), fit.residuals("response"))
    assert ax.get_xlabel() == "Fitted Reaction (ms)"


def test_a_picture_goes_on_given_axes(fit):
    own = plt.figure().subplots()
    assert fit.plot.residuals(ax=own) is own


def test_units_are_those_of_the_data(fit):
    data = load_dataset("sleepstudy")
    data.attrs.clear()
    assert fit.update(data=data).plot.residuals().get_ylabel() == "Residual of Reaction"


def test_without_matplotlib(fit, monkeypatch):
    monkeypatch.setitem(sys.modules, "matplotlib.pyplot", None)
    with pytest.raises(errors.MissingLibraryError, match=r"pip install 'mixef\[plot\]'"):
        fit.plot.residuals()


@pytest.mark.parametrize("ax", [1, "axes", [None]])
def test_ax_is_axes(ax):
    with pytest.raises(errors.ArgumentError, match="ax must be one matplotlib Axes or None"):
        axes_of(ax)
