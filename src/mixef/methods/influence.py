"""What single rows and groups do to a fitted model."""

from __future__ import annotations

from typing import Any

import pandas as pd

from mixef.hints import refuse_unknown
from mixef.inference import lazy_rows
from mixef.inference.influence import influence as deletions
from mixef.inference.influence import leverage
from mixef.methods import Methods


class InfluenceMethods(Methods):
    """What single rows and groups do to a fitted model."""

    def hatvalues(self) -> pd.Series:
        """Return the leverages ``d mu-hat / d y`` of the rows, covariance parameters held.

        They are the diagonal of the matrix that makes fitted means, conditional on the random
        effects, of responses; their sum is the effective number of parameters. A generalized
        model has the matrix of its last scoring step, with working weights throughout.

        Returns
        -------
        Series (n,)
            Between 0 and 1; 1 where a row decides a coefficient alone.

        Notes
        -----
        In linear models they are lme4's, weights included. lme4's for generalized models take
        weights in one place that its factor does not have, and can be larger than 1.

        References
        ----------
        E. Demidenko and T. A. Stukel (2005), Influence analysis for linear mixed-effects models,
        Statistics in Medicine 24, 893-909.

        Examples
        --------
        >>> from mixef import lmer, load_dataset
        >>> fit = lmer("Reaction ~ Days + (Days | Subject)", load_dataset("sleepstudy"))
        >>> fit.hatvalues().head(3).round(3).tolist()
        [0.229, 0.17, 0.127]
        >>> round(float(fit.hatvalues().sum()), 2)
        29.02
        """
        return lazy_rows.by_row(self._fit, leverage.hatvalues, ["hatvalues"], joint=True)

    def cooks_distance(self) -> pd.Series:
        """Return Cook's distance of every row, from what its deletion does to the fitted means.

        It is ``r^2 h / ((1 - h) p)``, with the leverage h, the internally studentized residual r
        and the number p of coefficients: fixed and random effects move, covariance parameters
        are held. For what deletion does to the fixed effects, with everything estimated again,
        see `influence`.

        Returns
        -------
        Series (n,)
            NaN where a row decides a coefficient alone.

        Raises
        ------
        DataError
            For a model without fixed effects.

        Notes
        -----
        lme4's in linear models. In a generalized model r is the residual of the working response
        (Pearson's, for an exponential family), and h is right, as lme4's is not.

        Examples
        --------
        >>> from mixef import lmer, load_dataset
        >>> fit = lmer("Reaction ~ Days + (Days | Subject)", load_dataset("sleepstudy"))
        >>> fit.cooks_distance().nlargest(2).round(2).to_dict()
        {59: 4.33, 56: 2.12}
        """
        values = leverage.cooks_distance
        return lazy_rows.by_row(self._fit, values, ["cooks_distance"], joint=True)

    def rstudent(self) -> pd.Series:
        """Return externally studentized residuals, over a sigma that is estimated without the row.

        With the leverage h they are ``e w^1/2 / (s (1 - h)^1/2)``: s is the residual standard
        deviation without the row, covariance parameters relative to it held. In a generalized
        model ``sign(y - mu) (d^2 + h r^2 / (1 - h))^1/2 / s`` takes the place, with deviance
        residuals d and residuals r of the working response (Williams 1987), as in R's for a
        generalized linear model; s is 1 for a family without a dispersion.

        Returns
        -------
        Series (n,)
            NaN where a row decides a coefficient alone.

        Notes
        -----
        What lme4 calls ``rstudent`` is internally studentized: its s has the row.

        References
        ----------
        D. A. Williams (1987), Generalized linear model diagnostics using the deviance and single
        case deletions, Applied Statistics 36, 181-191.

        Examples
        --------
        >>> from mixef import lmer, load_dataset
        >>> fit = lmer("Reaction ~ Days + (Days | Subject)", load_dataset("sleepstudy"))
        >>> fit.rstudent().nlargest(2).round(2).to_dict()
        {56: 6.06, 5: 2.62}
        """
        return lazy_rows.by_row(self._fit, leverage.rstudent, ["rstudent"], joint=True)

    def dffits(self) -> pd.Series:
        """Return what the deletion of each row does to its own fitted mean, in standard errors.

        With the leverage h and the studentized residual t of a linear model this is
        ``t (h / (1 - h))^1/2``. Covariance parameters are held.

        Returns
        -------
        Series (n,)
            NaN where a row decides a coefficient alone.

        References
        ----------
        D. A. Belsley, E. Kuh and R. E. Welsch (1980), Regression Diagnostics, Wiley.

        Examples
        --------
        >>> from mixef import lmer, load_dataset
        >>> fit = lmer("Reaction ~ Days + (Days | Subject)", load_dataset("sleepstudy"))
        >>> fit.dffits().nlargest(2).round(2).to_dict()
        {56: 2.26, 30: 1.14}
        """
        return lazy_rows.by_row(self._fit, leverage.dffits, ["dffits"], joint=True)

    def dfbetas(self) -> pd.DataFrame:
        """Return what each row does to the fixed effects, in standard errors without it.

        The coefficient minus that without the row, over its standard error with the residual
        standard deviation without the row. Covariance parameters are held: exact in a linear
        model, one scoring step in a generalized one. See `influence` for refits.

        Returns
        -------
        DataFrame (n, p)
            NaN for a coefficient that the other rows do not determine.

        Raises
        ------
        DataError
            For a model without fixed effects.

        References
        ----------
        D. A. Belsley, E. Kuh and R. E. Welsch (1980), Regression Diagnostics, Wiley.

        Examples
        --------
        >>> from mixef import lmer, load_dataset
        >>> fit = lmer("Reaction ~ Days + (Days | Subject)", load_dataset("sleepstudy"))
        >>> fit.dfbetas().head(2).round(3)
           (Intercept)   Days
        0       -0.015  0.010
        1       -0.042  0.027
        """
        return leverage.dfbetas(self._fit)

    def influence(
        self,
        groups: Any = None,
        *,
        refit: bool = True,
        n_jobs: int = 1,
        progress: bool | None = None,
        **unknown: Any,
    ) -> deletions.Influence:
        """Return what the estimates are without each level of a factor, or without each row.

        The model is fitted again without each set of rows, from where this fit ended; a linear
        model on the cross-products that the rows are taken off.

        Parameters
        ----------
        groups : str, array, list or dict, optional
            A grouping factor of the model, a column of the data, or an interaction such as
            ``"a:b"``, whose levels are left out one by one; labels of groups (n,), one a row; or
            sets of rows by their labels, a list or a dict of them. By default each row is left
            out.
        refit : bool
            Estimate all parameters again; otherwise hold the covariance parameters, relative to
            sigma in a linear model, which is exact linear algebra in a linear model, one scoring
            step in a generalized one, and fast for thousands of groups.
        n_jobs : int
            Processes; -1 for one a core. The result does not depend on it.
        progress : bool, optional
            Show a progress bar; by default on a terminal, for work over two seconds.

        Returns
        -------
        Influence
            With ``dfbetas()``, ``cooks_distance()``, ``mdffits()``, ``covratio()``, ``covtrace()``,
            ``sigma()``, ``varcorr()``, ``most()`` and ``to_frame()``. Coefficients that the other
            rows do not determine are NaN, and listed in ``left_open``; searches that failed, did
            not converge, or ended in separation are in ``problems``.

        Raises
        ------
        DataError, ArgumentError
            For groups or rows that are not there.

        References
        ----------
        R. Nieuwenhuis, M. te Grotenhuis and B. Pelzer (2012), influence.ME: tools for detecting
        influential data in mixed effects models, The R Journal 4(2), 38-47.
        A. Loy and H. Hofmann (2014), HLMdiag: a suite of diagnostics for hierarchical linear models
        in R, Journal of Statistical Software 56(5).

        Examples
        --------
        >>> from mixef import lmer, load_dataset
        >>> fit = lmer("Reaction ~ Days + (Days | Subject)", load_dataset("sleepstudy"))
        >>> fit.influence("Subject").most(2)[["cooks_distance", "covratio", "sigma"]].round(2)
                 cooks_distance  covratio  sigma
        Subject
        309                0.15      0.89  26.25
        335                0.13      0.94  26.19
        """
        refuse_unknown(unknown, self.influence)
        return deletions.influence(self._fit, groups, refit, n_jobs, progress)
