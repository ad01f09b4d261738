"""Pictures of a fitted model: ``fit.plot``."""

from __future__ import annotations

from typing import Any

from mixef.estimation.fit import Fit
from mixef.methods.plots_of_model import ModelPlots
from mixef.plots import residuals as of_residuals


class Plots(ModelPlots):
    """Pictures of a fitted model, drawn with matplotlib (``pip install 'mixef[plot]'``).

    A picture on one pair of axes takes ``ax=`` and returns it; one of several panels returns its
    figure. Labels have units where the data say them, in ``data.attrs["units"]``, a dict from
    columns to units.
    """

    def __init__(self, fit: Fit):
        self._fit = fit

    def __repr__(self) -> str:
        names = [name for name in dir(self) if not name.startswith("_")]
        return f"Pictures of a fit: plot() for a page of diagnostics, plot.{', plot.'.join(names)}"

    def residuals(self, type: str = "response", ax: Any = None) -> Any:
        """Draw residuals against fitted values.

        Parameters
        ----------
        type : {"response", "pearson", "deviance", "working"}
            As in `residuals`.
        ax : matplotlib.axes.Axes, optional
            Where to draw; by default a new figure.

        Returns
        -------
        matplotlib.axes.Axes

        Examples
        --------
        >>> from mixef import lmer, load_dataset
        >>> fit = lmer("Reaction ~ Days + (Days | Subject)", load_dataset("sleepstudy"))
        >>> fit.plot.residuals().get_xlabel()
        'Fitted Reaction (ms)'
        """
        return of_residuals.residuals(self._fit, type, ax)
