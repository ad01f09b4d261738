"""Pictures of what a fitted model says: effects, profiles, factors."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from mixef import checks
from mixef.estimation.fit import Fit
from mixef.plots import effects as of_effects
from mixef.plots import factor_images as of_factors
from mixef.plots import integrands
from mixef.plots import intervals as of_intervals
from mixef.plots import profiles as of_profiles


class ModelPlots:
    """Pictures of what a fitted model says."""

    _fit: Fit

    def effects(
        self,
        x: str,
        by: str | list[str] | None = None,
        at: Any = None,
        type: str = "response",
        average: bool | None = None,
        level: float = 0.95,
        data: bool = True,
        ax: Any = None,
    ) -> Any:
        """Draw predicted means along a predictor, with limits, over the data.

        Solid: the typical mean, with random effects at zero. Dashed, for a generalized model: the
        mean averaged over random effects, which is another one where the link is curved. Other
        predictors stand as in `emmeans`: covariates at their means, and factors are averaged
        over with equal weights, both on the scale of the link.

        Parameters
        ----------
        x : str
            A predictor of the fixed effects; a numeric one has a curve, a factor its levels.
        by : str or list of str, optional
            Predictors whose values have a series each; by default a covariate stands at its mean
            and one standard deviation from it.
        at : dict, optional
            Values of predictors, as in `emmeans`.
        type : {"response", "link"}
            The mean, or the linear predictor. In a linear model the first undoes a function of
            the response, such as log.
        average : bool, optional
            Draw averaged means; by default where there are any.
        level : float
            Of the limits, for one mean at a time.
        data : bool
            Draw the data: the rows, on the offset of the means; of more than 500, or of zeros and
            ones, means at each x or at 20 quantiles of it, above a rug.
        ax : matplotlib.axes.Axes, optional
            Where to draw; by default a new figure.

        Returns
        -------
        matplotlib.axes.Axes

        Raises
        ------
        ArgumentError
            For a name that is no predictor, more than 8 series, or an average that does not exist.

        References
        ----------
        S. L. Zeger, K.-Y. Liang and P. S. Albert (1988), Models for longitudinal data: a
        generalized estimating equation approach, Biometrics 44, 1049-1060.

        Examples
        --------
        >>> from mixef import glmer, load_dataset
        >>> fit = glmer("use ~ age + I(age^2) + urban + (1 | district)",
        ...             load_dataset("Contraception"), "binomial")
        >>> ax = fit.plot.effects("age", by="urban")
        >>> ax.get_xlabel(), ax.get_ylabel()
        ('age (years from the mean)', 'Probability of use = Y')
        """
        return of_effects.effects(self._fit, x, by, at, type, average, level, data, ax)

    def profile_zeta(
        self, which: str | list[str] | None = None, levels: Any = None, ax: Any = None
    ) -> Any:
        """Draw zeta, the signed root of the deviance above its minimum, against each parameter.

        A straight line (dotted: the tangent at the estimate) says that Wald's interval is right;
        the steps from zero show where intervals end.

        Parameters
        ----------
        which : str or list of str, optional
            Parameters as in `confint`; all by default.
        levels : list of float, optional
            Of the intervals; 0.5, 0.8, 0.9, 0.95 and 0.99 by default.
        ax : matplotlib.axes.Axes, optional
            Where to draw one parameter; by default a new figure.

        Returns
        -------
        matplotlib.figure.Figure
            With a panel a parameter; the Axes for ``ax``.

        Examples
        --------
        >>> from mixef import lmer, load_dataset
        >>> fit = lmer("Yield ~ 1 + (1 | Batch)", load_dataset("Dyestuff"))
        >>> len(fit.plot.profile_zeta().axes)
        3
        """
        return of_profiles.of_fit(self._fit, "zeta", which, levels, ax)

    def profile_density(
        self, which: str | list[str] | None = None, levels: Any = None, ax: Any = None
    ) -> Any:
        """Draw the density of each parameter that makes zeta standard normal.

        Parameters
        ----------
        which, levels, ax
            As in `profile_zeta`. A dashed line marks the estimate.

        Returns
        -------
        matplotlib.figure.Figure
            With a panel a parameter; the Axes for ``ax``.

        Examples
        --------
        >>> from mixef import lmer, load_dataset
        >>> fit = lmer("Yield ~ 1 + (1 | Batch)", load_dataset("Dyestuff"))
        >>> fit.plot.profile_density("sigma").axes[0].get_xlabel()
        'sigma'
        """
        return of_profiles.of_fit(self._fit, "density", which, levels, ax)

    def profile_pairs(self, which: str | list[str] | None = None, levels: Any = None) -> Any:
        """Draw profile traces and contours of all pairs of parameters.

        Below the diagonal are the parameters themselves, above it zeta, on which a quadratic
        likelihood has ellipses and straight traces. A trace is the best value of one parameter
        where the other is held; contours bound regions for both at once. They are exact where
        they meet a trace and interpolated between: there the deviance may be some percent off,
        and a fifth of it for regions of 99 % where a parameter is far from quadratic.

        Parameters
        ----------
        which : str or list of str, optional
            2 to 10 parameters as in `confint`; all by default.
        levels : list of float, optional
            Of the regions; 0.5, 0.8, 0.9, 0.95 and 0.99 by default.

        Returns
        -------
        matplotlib.figure.Figure

        References
        ----------
        D. M. Bates and D. G. Watts (1988), Nonlinear Regression Analysis and Its Applications,
        Wiley, section 6.1 and appendix A6.

        Examples
        --------
        >>> from mixef import lmer, load_dataset
        >>> fit = lmer("Yield ~ 1 + (1 | Batch)", load_dataset("Dyestuff"))
        >>> len(fit.plot.profile_pairs(["sd_*", "sigma"]).axes)
        4
        """
        return of_profiles.of_fit(self._fit, "pairs", which, levels)

    def coefficients(
        self,
        *others: Any,
        names: Sequence[str] | None = None,
        terms: str | Sequence[str] | None = None,
        exponentiate: bool = False,
        level: float = 0.95,
        ax: Any = None,
    ) -> Any:
        """Draw the coefficients with Wald's intervals, those of other fits beside them.

        `etable` makes such a picture of several fits too, with the names of the caller's
        variables.

        Parameters
        ----------
        *others : fitted models
        names : list of str, optional
            Of this fit and the others; their formulas by default.
        terms : str or list of str, optional
            Coefficients by name, or by patterns such as ``"recipe*"``; all but the intercept by
            default.
        exponentiate : bool
            Draw ratios, on a scale of logarithms.
        level : float
            Of the intervals, with the degrees of freedom that tests have.
        ax : matplotlib.axes.Axes, optional
            Where to draw; by default a new figure.

        Returns
        -------
        matplotlib.axes.Axes

        Examples
        --------
        >>> from mixef import lmer, load_dataset
        >>> data = load_dataset("sleepstudy")
        >>> fit = lmer("Reaction ~ Days + (Days | Subject)", data)
        >>> ax = fit.plot.coefficients(fit.update(". ~ . - (Days | Subject) + (1 | Subject)"))
        >>> [text.get_text() for text in ax.get_yticklabels()]
        ['Days']
        """
        fits = [self._fit]
        for i, other in enumerate(others):
            fit = getattr(other, "_fit", None)
            if not isinstance(fit, Fit):
                raise checks.refusal(f"fit {i + 2}", other, "a model fitted by lmer or glmer")
            fits.append(fit)
        exponentiate, level = checks.flag(exponentiate, "exponentiate"), checks.level(level)
        return of_intervals.coefficients(fits, names, terms, exponentiate, level, ax)

    def integrand(self, levels: Any = None, ax: Any = None) -> Any:
        """Draw what the likelihood integrates, level by level, over the normal density (dashed).

        Laplace's approximation takes one for the other. For generalized models with one random
        effect a level, see `integrand`.

        Parameters
        ----------
        levels : str or list, optional
            Levels of the grouping factor; all by default, or the 24 that are least normal.
        ax : matplotlib.axes.Axes, optional
            Where to draw all of them; by default each has a panel of a new figure.

        Returns
        -------
        matplotlib.figure.Figure
            The Axes for ``ax``.

        Raises
        ------
        ArgumentError, DataError
            For a linear model, another structure of random effects, or unknown levels.

        Examples
        --------
        >>> from mixef import glmer, load_dataset
        >>> fit = glmer("cbind(incidence, size - incidence) ~ period + (1 | herd)",
        ...             load_dataset("cbpp"), "binomial")
        >>> len(fit.plot.integrand().axes)
        15
        """
        return integrands.integrand(self._fit, levels, ax)

    def t_z(self, levels: Any = None, nodes: int | None = None, ax: Any = None) -> Any:
        """Draw t(z), the ratio of the integrand to the normal density, level by level.

        Quadrature with k nodes is exact where t is a polynomial of degree 2k - 1; Laplace's
        approximation takes it for 1.

        Parameters
        ----------
        levels, ax
            As in `integrand`.
        nodes : int, optional
            Mark t at the nodes of a rule of so many; by default the fit's ``nAGQ``.

        Returns
        -------
        matplotlib.figure.Figure
            The Axes for ``ax``.

        Examples
        --------
        >>> from mixef import glmer, load_dataset
        >>> fit = glmer("cbind(incidence, size - incidence) ~ period + (1 | herd)",
        ...             load_dataset("cbpp"), "binomial", nAGQ=9)
        >>> ax = fit.plot.t_z(levels="1").axes[0]
        >>> len(ax.lines[-1].get_xdata())  # of 9 nodes two are beyond 4
        7
        """
        return integrands.t_z(self._fit, levels, nodes, ax)

    def factor_images(
        self,
        theta: Any = None,
        order: Any = None,
        permute: bool = True,
        transpose: bool = False,
    ) -> Any:
        """Draw where Z, ``Lambda'Z'WZ Lambda + I`` and its Cholesky factor L are not zero.

        Each title has the size of a matrix and its number of non-zeros, as stored: that of L, and
        of the lower triangle of what it is the factor of, is a property of the structure, and L
        has as many more as the elimination fills in. A matrix with more rows than an image has
        is summarized: a cell is the darker the more of its entries are not zero.

        Parameters
        ----------
        theta, order, permute
            As in `factor_at`. With ``permute`` the last two images have the order of elimination.
        transpose : bool
            Draw Z' in the place of Z.

        Returns
        -------
        matplotlib.figure.Figure

        Examples
        --------
        >>> from mixef import lmer, load_dataset
        >>> fit = lmer("diameter ~ 1 + (1 | plate) + (1 | sample)", load_dataset("Penicillin"))
        >>> figure = fit.plot.factor_images()
        >>> for ax in figure.axes:
        ...     print(ax.get_title().splitlines()[1])
        144 × 30, 288 non-zeros
        30 × 30, 174 non-zeros in the lower triangle
        30 × 30, 189 non-zeros
        """
        return of_factors.factor_images(self._fit, theta, order, permute, transpose)
