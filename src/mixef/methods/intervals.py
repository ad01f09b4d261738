"""Confidence intervals and profiles of a fitted model."""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd

from mixef.hints import refuse_unknown
from mixef.inference.intervals import confint as intervals
from mixef.inference.intervals import curves
from mixef.inference.intervals import profile as profiles
from mixef.methods import Methods


class IntervalMethods(Methods):
    """Confidence intervals and profiles of a fitted model."""

    def confint(
        self,
        parm: str | list[str] | None = None,
        level: float = 0.95,
        method: str = "profile",
        *,
        n: int = 500,
        seed: int | np.random.Generator | None = None,
        boot_type: str = "perc",
        signames: bool = False,
        n_jobs: int = 1,
        progress: bool | None = None,
        **unknown: Any,
    ) -> pd.DataFrame:
        """Return confidence intervals: of standard deviations, correlations, sigma, coefficients.

        Parameters
        ----------
        parm : str or list of str, optional
            Parameters by name, by patterns such as ``"sd_*"``, or ``"theta_"`` (all but the
            coefficients) and ``"beta_"``; all by default.
        level : float
        method : {"profile", "wald", "boot"}
            "profile" solves ``|zeta| = z`` on the likelihood profile, see `profile`. "wald" uses
            standard errors: of coefficients as they are, of standard deviations, sigma and a
            shape on the log scale, of correlations by Fisher's z. "boot" takes quantiles of
            refits to simulated responses.
        n, seed
            Replicates of the bootstrap, and what its random numbers start from.
        boot_type : {"perc", "basic", "norm"}
            Percentile, basic, or normal intervals of the bootstrap.
        signames : bool
            Name covariance parameters as lme4 1.1 does, in the order of theta: ``.sig01``, ...,
            ``.sigma``.
        n_jobs : int
            Processes to work on; -1 for one a core.
        progress : bool, optional
            Show a progress bar; by default where it takes more than two seconds.

        Returns
        -------
        DataFrame (k, 2)
            Columns such as ``2.5 %`` and ``97.5 %``. Where a profile comes to a bound (a standard
            deviation of zero, a correlation of one) the bound is the limit; a correlation beside
            a standard deviation of zero is not defined and has [-1, 1].

        Raises
        ------
        ValueError
            For a parameter, level or method that there is not.

        Examples
        --------
        >>> from mixef import lmer, load_dataset
        >>> fit = lmer("Reaction ~ Days + (Days | Subject)", load_dataset("sleepstudy"))
        >>> fit.confint().round(3)
                                        2.5 %   97.5 %
        sd_(Intercept)|Subject         14.381   37.716
        sd_Days|Subject                 3.801    8.753
        cor_Days.(Intercept)|Subject   -0.481    0.685
        sigma                          22.898   28.858
        (Intercept)                   237.681  265.130
        Days                            7.359   13.576
        >>> fit.confint("sd_*", method="wald").round(2).to_numpy().tolist()
        [[15.58, 39.28], [3.92, 8.95]]
        """
        refuse_unknown(unknown, self.confint)
        return intervals.confidence_intervals(
            self._fit,
            parm,
            level,
            method,
            n=n,
            seed=seed,
            boot_type=boot_type,
            signames=signames,
            n_jobs=n_jobs,
            progress=progress,
        )

    def profile(
        self,
        which: str | list[str] | None = None,
        alphamax: float = 0.01,
        delta_cutoff: float = 0.125,
        *,
        signames: bool = False,
        n_jobs: int = 1,
        progress: bool | None = None,
        **unknown: Any,
    ) -> curves.Profile:
        """Return the likelihood profiles of standard deviations, correlations, sigma and beta.

        A parameter is held at values around its estimate, and -2 log L is minimized over all
        others; zeta is the signed root of its rise. A linear model is profiled by maximum
        likelihood, also where the fit is by REML; a generalized one with nAGQ = 0 by Laplace's
        approximation.

        Parameters
        ----------
        which : str or list of str, optional
            Parameters as in `confint`; all by default.
        alphamax : float
            Profiles go as far as intervals of the level 1 - alphamax, for one parameter at a
            time, or to the parameter's bound.
        delta_cutoff : float
            The step of zeta from point to point, as a share of the zeta that is gone to.
        signames, n_jobs, progress
            As in `confint`.

        Returns
        -------
        Profile
            With ``confint(level)``, ``to_frame()``, ``zeta(name, values)``, ``value(name, zeta)``,
            and the same on other scales by ``log()`` and ``variance()``.

        References
        ----------
        D. M. Bates and D. G. Watts (1988), Nonlinear Regression Analysis and Its Applications,
        Wiley, section 6.1. D. Bates, M. Maechler, B. Bolker and S. Walker (2015), Fitting linear
        mixed-effects models using lme4, Journal of Statistical Software 67(1), section 5.1.

        Examples
        --------
        >>> from mixef import lmer, load_dataset
        >>> fit = lmer("Yield ~ 1 + (1 | Batch)", load_dataset("Dyestuff"), REML=False)
        >>> profile = fit.profile()
        >>> print(profile)
        Likelihood profile
                             Estimate  2.5 % 97.5 %
        sd_(Intercept)|Batch   37.260 12.197 84.063
        sigma                  49.510 38.230 67.658
        (Intercept)            1527.5 1486.5 1568.5
        >>> profile.log().confint(0.9).loc["log(sigma)"].round(4).tolist()
        [3.6822, 4.16]
        >>> profile.zeta("sigma", [40, 50]).round(3).tolist()
        [-1.591, 0.068]
        """
        refuse_unknown(unknown, self.profile)
        return profiles.profile_curves(
            self._fit, which, alphamax, delta_cutoff, n_jobs, progress, signames
        )
