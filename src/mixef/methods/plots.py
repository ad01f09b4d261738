"""Pictures of a fitted model: ``fit.plot``."""

from __future__ import annotations

from textwrap import fill
from typing import Any

import numpy as np

from mixef.estimation.fit import Fit
from mixef.inference import coef
from mixef.methods.plots_of_model import ModelPlots
from mixef.plots import density, page, pairs, qq, shrinkage
from mixef.plots import residuals as of_residuals

Seed = int | np.random.Generator | None


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
        text = f"Pictures of a fit: plot() for a page of diagnostics, plot.{', plot.'.join(names)}"
        return fill(text, 100)

    def __call__(self, n: int = 250, level: float = 0.95, seed: Seed = None) -> Any:
        """Draw a page of diagnostics.

        Residuals against fitted values, their quantiles with envelopes, their spread, and quantiles
        of the conditional modes of up to three coefficients that eight levels or more have. Where
        the fitted values are all alike, boxes of residuals by group take their place. A generalized
        model has simulated residuals (`simulated_residuals`), since its raw ones make patterns even
        where the model is right.

        Parameters
        ----------
        n : int
            Draws for the envelopes.
        level : float
            Of envelopes and of the intervals of means.
        seed : int or numpy.random.Generator, optional
            The same seed gives the same picture.

        Returns
        -------
        matplotlib.figure.Figure

        Examples
        --------
        >>> from mixef import lmer, load_dataset
        >>> fit = lmer("Reaction ~ Days + (Days | Subject)", load_dataset("sleepstudy"))
        >>> [ax.get_ylabel().split()[0] for ax in fit.plot(seed=1).axes]
        ['Residual', 'Pearson', '√', 'Mode', 'Mode']
        """
        return page.page(self._fit, n, level, seed)

    def residuals(
        self,
        by: Any = None,
        type: str | None = None,
        level: float = 0.95,
        seed: Seed = None,
        ax: Any = None,
    ) -> Any:
        """Draw residuals against fitted values, a variable, or by group.

        Points have a line of their means in bins that hold like numbers of rows; of more than 3000
        points hexagons show how many there are. A factor gives a box for each level, and one of
        more than 30 levels the means in ascending order. Of rows in an engine a random sample is
        shown, about 10,000, and the title says so.

        Parameters
        ----------
        by : str or array (n,), optional
            A variable of the model or a column of its data, a grouping factor among them, or one
            value a row; by default the fitted values.
        type : {"response", "pearson", "deviance", "working", "simulated"}, optional
            As in `residuals`; "simulated" is where responses stand among draws from the model,
            between 0 and 1 (`simulated_residuals`), against means with random effects at zero.
            Random effects are drawn too, so that by a grouping factor of the model levels differ as
            random effects do. By default "response" in a linear model and "simulated" in a
            generalized one.
        level : float
            Of the intervals of the means, which take rows as independent.
        seed : int or numpy.random.Generator, optional
            Of the draws for "simulated", and of a sample of rows in an engine.
        ax : matplotlib.axes.Axes, optional
            Where to draw; by default a new figure.

        Returns
        -------
        matplotlib.axes.Axes

        Raises
        ------
        DataError
            For a variable that is not there, or missing in some rows.
        ValueError
            For a type that is none of these.

        Examples
        --------
        >>> from mixef import lmer, load_dataset
        >>> fit = lmer("Reaction ~ Days + (Days | Subject)", load_dataset("sleepstudy"))
        >>> fit.plot.residuals().get_xlabel(), fit.plot.residuals("Days").get_xlabel()
        ('Fitted Reaction (ms)', 'Days (days)')
        """
        return of_residuals.residuals(self._fit, by, type, level, seed, ax)

    def scale_location(
        self,
        by: Any = None,
        type: str | None = None,
        level: float = 0.95,
        seed: Seed = None,
        ax: Any = None,
    ) -> Any:
        """Draw the spread of residuals: the root of their absolute values.

        Residuals are standardized: Pearson's over sigma, and simulated ones as the normal quantiles
        of where they stand. A line of means that goes up or down says that the variance changes.

        Parameters
        ----------
        by, type, level, seed, ax
            As in `fit.plot.residuals`.

        Returns
        -------
        matplotlib.axes.Axes

        Examples
        --------
        >>> from mixef import lmer, load_dataset
        >>> fit = lmer("Reaction ~ Days + (Days | Subject)", load_dataset("sleepstudy"))
        >>> fit.plot.scale_location().get_ylabel()
        '√ |standardized residual|'
        """
        return of_residuals.scale_location(self._fit, by, type, level, seed, ax)

    def qq(
        self,
        of: str = "residuals",
        group: str | None = None,
        term: str | None = None,
        type: str | None = None,
        n: int = 250,
        level: float = 0.95,
        seed: Seed = None,
        ax: Any = None,
    ) -> Any:
        """Draw quantiles of residuals or of conditional modes, with envelopes by simulation.

        The band holds each point by itself with probability `level`; the broken lines hold all
        points at once. Draws are of data from the fitted model: their residuals and modes are
        computed at the estimated covariance parameters, so that what is correlated and shrunken in
        the picture is so in the draws.

        Parameters
        ----------
        of : {"residuals", "modes"}
        group, term : str, optional
            Of modes: those of one grouping factor, or of one coefficient; all by default.
        type : {"pearson", "simulated"}, optional
            Of residuals: Pearson's over sigma beside normal quantiles, which a linear model has by
            default; or simulated ones beside uniform quantiles.
        n : int
            Number of draws.
        level : float
            Of the envelopes.
        seed : int or numpy.random.Generator, optional
            Of the draws.
        ax : matplotlib.axes.Axes, optional
            Where to draw, for one panel; by default a new figure.

        Returns
        -------
        matplotlib.axes.Axes or matplotlib.figure.Figure
            A figure for the modes of several coefficients.

        Raises
        ------
        ValueError
            For a factor, coefficient or type that is not there; for one pair of axes and several
            panels.

        Notes
        -----
        In a generalized model the modes of draws are those of the model linearized at its modes.
        The envelope of all points at once is the directional quantile envelope (Myllymaki et al.
        2017).

        References
        ----------
        M. Myllymaki, T. Mrkvicka, P. Grabarnik, H. Seijo and U. Hahn (2017), Global envelope tests
        for spatial processes, Journal of the Royal Statistical Society B 79, 381-404.

        Examples
        --------
        >>> from mixef import lmer, load_dataset
        >>> fit = lmer("Reaction ~ Days + (Days | Subject)", load_dataset("sleepstudy"))
        >>> fit.plot.qq(seed=1).get_ylabel()
        'Pearson residual over sigma'
        >>> len(fit.plot.qq("modes", seed=1).axes)
        2
        """
        return qq.qq(self._fit, of, group, term, type, n, level, seed, ax)

    def caterpillar(
        self,
        group: str | None = None,
        term: str | None = None,
        order: str | None = None,
        level: float = 0.95,
        qq: bool = False,
        ax: Any = None,
    ) -> Any:
        """Draw conditional modes level by level, with their conditional intervals.

        Parameters
        ----------
        group, term : str, optional
            The modes of one grouping factor, or of one coefficient; all by default, a row of panels
            for each factor.
        order : str, optional
            The coefficient by which levels ascend, in all panels of a factor; by default the
            factor's first. ``"levels"`` is their own order, from the top.
        level : float
            Of the intervals, normal ones given the parameters (``ranef(condVar=True)``).
        qq : bool
            Put each mode at its normal quantile instead of its rank, as lme4's ``qqmath``.
        ax : matplotlib.axes.Axes, optional
            Where to draw, for one panel; by default a new figure.

        Returns
        -------
        matplotlib.axes.Axes or matplotlib.figure.Figure
            A figure for several panels.

        Raises
        ------
        ValueError
            For a factor or coefficient that is not there; for one pair of axes and several panels.

        Examples
        --------
        >>> from mixef import lmer, load_dataset
        >>> fit = lmer("Yield ~ 1 + (1 | Batch)", load_dataset("Dyestuff"))
        >>> ax = fit.plot.caterpillar()
        >>> [label.get_text() for label in ax.get_yticklabels()]
        ['F', 'D', 'A', 'B', 'C', 'E']
        """
        return coef.random_effects(self._fit, True).plot(group, term, order, level, qq, ax)

    def shrinkage(
        self,
        group: str | None = None,
        x: str | None = None,
        y: str | None = None,
        panels: bool = False,
        ax: Any = None,
    ) -> Any:
        """Draw arrows from estimates within groups to those of the mixed model.

        The coefficients of a level by itself are those of a regression of its rows, as in
        `lm_list`, on what varies over the levels; other fixed effects and the modes of other
        factors stay as the mixed model has them. The mixed model draws them towards the population.

        Parameters
        ----------
        group : str, optional
            The grouping factor; by default the one with the most coefficients.
        x, y : str, optional
            Two coefficients; by default the first two. One coefficient is drawn level by level.
        panels : bool
            Draw the data instead, a panel for each level (24 of more, in the order of their first
            coefficients) against the column of `y`, with the fits by the level alone, by the mixed
            model and of the population.
        ax : matplotlib.axes.Axes, optional
            Where to draw; by default a new figure.

        Returns
        -------
        matplotlib.axes.Axes
            A figure with ``panels=True``.

        Raises
        ------
        DataError
            If the rows of no level determine its coefficients, and for a family with a parameter
            besides the dispersion, which single levels do not tell.
        ValueError
            For a factor or coefficient that is not there; for panels of a constant column.

        Examples
        --------
        >>> from mixef import lmer, load_dataset
        >>> fit = lmer("Reaction ~ Days + (Days | Subject)", load_dataset("sleepstudy"))
        >>> fit.plot.shrinkage().get_xlabel()
        '(Intercept) (ms)'
        """
        return shrinkage.shrinkage(self._fit, group, x, y, panels, ax)

    def ranef_pairs(self, group: str | None = None, level: float = 0.95) -> Any:
        """Draw the conditional modes of each two coefficients against each other.

        Below the diagonal are modes with ellipses that hold a share `level` (solid) and one half
        (broken) of the random effects by their estimated covariance; the modes are shrunken, and
        scatter less. On the diagonal are the modes of each coefficient, as in
        `random_effects_density`.

        Parameters
        ----------
        group : str, optional
            A grouping factor with two coefficients or more; by default the first.
        level : float
            Of the ellipses.

        Returns
        -------
        matplotlib.figure.Figure

        Raises
        ------
        ValueError
            For a factor that is not there or has one coefficient.

        Examples
        --------
        >>> from mixef import lmer, load_dataset
        >>> fit = lmer("Reaction ~ Days + (Days | Subject)", load_dataset("sleepstudy"))
        >>> len(fit.plot.ranef_pairs().axes)
        3
        """
        return pairs.ranef_pairs(self._fit, group, level)

    def random_effects_density(
        self, group: str | None = None, term: str | None = None, ax: Any = None
    ) -> Any:
        """Draw the distribution of random effects, and that of their conditional modes.

        The solid curve is the normal density of the random effects by their estimated standard
        deviation. Modes are shrunken: under the model they have the broken curve, the mixture over
        the levels of normal densities with the variances ``Sigma - Var(b | y)``, which a histogram
        of the modes is to be compared with.

        Parameters
        ----------
        group, term : str, optional
            Those of one grouping factor, or of one coefficient; all by default.
        ax : matplotlib.axes.Axes, optional
            Where to draw, for one panel; by default a new figure.

        Returns
        -------
        matplotlib.axes.Axes or matplotlib.figure.Figure
            A figure for several panels.

        Examples
        --------
        >>> from mixef import lmer, load_dataset
        >>> fit = lmer("Yield ~ 1 + (1 | Batch)", load_dataset("Dyestuff"))
        >>> fit.plot.random_effects_density().get_xlabel()
        '(Intercept) (g)'
        """
        return density.random_effects_density(self._fit, group, term, ax)
