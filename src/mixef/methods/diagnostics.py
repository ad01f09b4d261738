"""Whether a fitted model fits: simulated residuals, and a report of its health."""

from __future__ import annotations

from typing import Any

import numpy as np

from mixef.hints import refuse_unknown
from mixef.inference.diagnostics import check as checking
from mixef.inference.diagnostics import simulated_residuals as simulated
from mixef.methods import Methods


class DiagnosticMethods(Methods):
    """Whether a fitted model fits."""

    def simulated_residuals(
        self,
        n: int = 250,
        seed: int | np.random.Generator | None = None,
        re_form: str | bool | None = "~0",
        **unknown: Any,
    ) -> simulated.SimulatedResiduals:
        """Return residuals by simulation: where responses stand among draws from the model.

        With n draws of a row, of which a are below the response and t equal to it, its residual is
        ``(a + U t) / n`` for a random U between 0 and 1 [1]_, as in DHARMa. Under the model these
        residuals are uniform from 0 to 1, whatever the family; 0 and 1 are responses outside of all
        draws.

        Parameters
        ----------
        n : int
            Draws.
        seed : int or numpy.random.Generator, optional
        re_form : str, bool or None
            Random effects that stay at their conditional modes, as in `simulate`: by default none,
            so that they are drawn anew; all for None, which shows more of the rows and nothing of
            the random effects, to which the modes are fitted.

        Returns
        -------
        SimulatedResiduals
            With ``scaled`` (a Series, by rows of the data), ``simulated`` (rows, n), ``to_frame()``
            and tests: ``test_uniformity test_dispersion test_outliers test_zero_inflation
            test_quantiles test_groups test_temporal test_spatial``, some at once by ``tests()``;
            ``recalculate(group=)`` gives residuals of sums.

        Raises
        ------
        FitError
            For a family of the user's own that says nothing of draws.

        Notes
        -----
        Weights of a linear model, numbers of trials and offsets count. Weights that stand for
        copies of a row, which have its response in common, leave its residual as it is; only those
        of counts that are no whole numbers, as means are, and of families with a dispersion (to be
        that of a row with the mean weight, as its estimate is) change the draws.

        Rows with random effects in common are dependent, and so are their residuals. p values of
        the tests are by rank among the draws, which have the same dependence; DHARMa's take the
        rows as independent. Estimates are taken as known, so that tests are conservative, rather.

        References
        ----------
        .. [1] P. K. Dunn and G. K. Smyth (1996), Randomized quantile residuals, Journal of
           Computational and Graphical Statistics 5, 236-244.

        Examples
        --------
        >>> from mixef import glmer, load_dataset
        >>> fit = glmer("cbind(incidence, size - incidence) ~ period + (1 | herd)",
        ...             load_dataset("cbpp"), "binomial")
        >>> residuals = fit.simulated_residuals(seed=1)
        >>> print(residuals)
        Simulated residuals: 56 rows, 250 simulations, random effects drawn anew
            Min      1Q  Median      3Q     Max
        0.00325 0.21626 0.42346 0.67802 0.99597
        0 responses are below all simulations, 0 above
        Under the model residuals are uniform from 0 to 1: see .tests()
        >>> residuals.test_dispersion().p_value > 0.05
        True
        """
        refuse_unknown(unknown, self.simulated_residuals)
        return simulated.simulated_residuals(self._fit, n, seed, re_form)

    def check(
        self, n: int = 250, seed: int | np.random.Generator | None = None, **unknown: Any
    ) -> checking.Health:
        """Check the health of the fit: one report of what may be wrong, with remedies.

        Parameters
        ----------
        n : int
            Simulations for the checks that take some (see `simulated_residuals`).
        seed : int or numpy.random.Generator, optional
            The same seed gives the same report.

        Returns
        -------
        Health
            It prints; ``to_frame()`` has columns check, status ("ok", "note" or "warning"), value,
            message and remedy, and ``ok`` tells whether there is no warning.

        Notes
        -----
        Every model is checked for convergence, singularity, dependent and collinear columns, scale
        of the predictors, few or single-row levels, outliers, patterns of the residuals against
        the fitted means, autocorrelation within groups in the order of the rows and influential
        rows. Linear models are checked for heteroscedasticity, normal residuals and normal modes;
        others for separation, for the approximation of the integral, and for the distribution of
        the responses; counts and shares of several trials for their dispersion and zeros.

        Tests are noted from p = 0.05 on, and warned of from 0.001; with many rows, what they find
        may be too small to matter.

        Examples
        --------
        >>> from mixef import glmer, load_dataset
        >>> fit = glmer("cbind(incidence, size - incidence) ~ period + (1 | herd)",
        ...             load_dataset("cbpp"), "binomial")
        >>> health = fit.check(seed=1)
        >>> health.ok, health.to_frame()["check"].tolist()[:3]
        (True, ['convergence', 'approximation', 'separation'])
        """
        refuse_unknown(unknown, self.check)
        return checking.health(self._fit, n, seed)
