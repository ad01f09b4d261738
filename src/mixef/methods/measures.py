"""Measures of a fitted model as a whole."""

from __future__ import annotations

from typing import Any

from mixef.hints import refuse_unknown
from mixef.inference import information
from mixef.inference.measures import collinearity, icc, r2
from mixef.methods import Methods


class MeasureMethods(Methods):
    """Measures of a fitted model as a whole."""

    @property
    def aicc(self) -> float:
        """Akaike's criterion corrected for few rows; infinite where parameters are too many.

        ``aic + 2 k (k + 1) / (n - k - 1)`` for k parameters and n rows (C. M. Hurvich and C.-L.
        Tsai 1989, Biometrika 76, 297-307).
        """
        return information.aicc(self._fit)

    def r2(self, method: str = "auto", partial: bool = False, **unknown: Any) -> r2.RSquared:
        """Return the shares of the variance that the model explains, after Nakagawa and others.

        The variances are on the scale of the linear predictor: of ``X beta`` over the rows, of the
        random effects on average over the rows, ``tr(Z S Z') / n``, also for random slopes and for
        terms without an intercept, and of the response given its mean.

        Parameters
        ----------
        method : {"auto", "delta", "lognormal", "trigamma", "theoretical"}
            How the variance v of the response at its mean mu comes to the scale of the linear
            predictor: ``v / (dmu/deta)^2``; with a log link ``log(1 + v / mu^2)`` or
            ``trigamma(mu^2 / v)``; for single trials by the distribution that the link belongs to,
            pi^2 / 3 for a logit, 1 for a probit, pi^2 / 6 for cloglog. "auto" is "theoretical" for
            binomial models with such a link, "lognormal" for log links, and "delta" for the rest,
            which is exact for an identity link. All but "theoretical" fit the model with an
            intercept as its only fixed effect, for the mean mu over the random effects.
        partial : bool
            Whether to tell what single terms of the fixed effects explain, as ``part``, what is
            lost without the term and those that contain it (by refits), and as ``share``, the
            covariance of the term's part with all of ``X beta``. Both are over the total variance;
            shares sum to the marginal R2, parts need not.

        Returns
        -------
        RSquared
            ``marginal``, ``conditional``, ``variances`` and ``partial``; it prints as tables.

        Raises
        ------
        ValueError
            For a method that the family does not have.
        FitError
            Where the variance is infinite, or the model of the mean cannot be fitted.

        Notes
        -----
        A random effect with a level for every row, which stands for overdispersion, is residual
        variance. Offsets are known, and no part of what is explained; they move the mean mu of
        their rows. A binomial response of many trials is taken as single trials by
        "theoretical", and as shares of its numbers of trials by "delta". Weights of a linear model
        divide its residual variance, on average over the rows; in all other models a weight of k
        is k copies of a row.

        References
        ----------
        S. Nakagawa, P. C. D. Johnson and H. Schielzeth (2017), The coefficient of determination R2
        and intra-class correlation coefficient from generalized linear mixed-effects models
        revisited and expanded, Journal of the Royal Society Interface 14, 20170213. P. C. D.
        Johnson (2014), Extension of Nakagawa and Schielzeth's R2 GLMM to random slopes models,
        Methods in Ecology and Evolution 5, 944-946.

        Examples
        --------
        >>> from mixef import lmer, load_dataset
        >>> fit = lmer("Reaction ~ Days + (Days | Subject)", load_dataset("sleepstudy"))
        >>> found = fit.r2()
        >>> round(found.marginal, 4), round(found.conditional, 4)
        (0.2787, 0.7992)
        """
        refuse_unknown(unknown, self.r2)
        return r2.r_squared(self._fit, method, partial)

    def icc(
        self, by_group: bool = False, method: str = "auto", **unknown: Any
    ) -> icc.IntraclassCorrelation:
        """Return the share of the variance that random effects make.

        Parameters
        ----------
        by_group : bool
            Whether to tell the share of each grouping factor, too.
        method : {"auto", "delta", "lognormal", "trigamma", "theoretical"}
            As in `r2`.

        Returns
        -------
        IntraclassCorrelation
            ``adjusted`` leaves the variance of the fixed effects out of the whole, ``unadjusted``
            has it in; ``by_group`` has both by grouping factor.

        Raises
        ------
        ValueError
            For a method that the family does not have.

        Examples
        --------
        >>> from mixef import lmer, load_dataset
        >>> fit = lmer("strength ~ 1 + (1 | batch/cask)", load_dataset("Pastes"))
        >>> print(fit.icc(by_group=True))
        Intraclass correlation
                   adjusted unadjusted
        cask:batch   0.7831     0.7831
        batch        0.1539     0.1539
        all          0.9370     0.9370
        residual variance by the delta method
        """
        refuse_unknown(unknown, self.icc)
        return icc.intraclass_correlation(self._fit, by_group, method)

    def vif(self) -> collinearity.VarianceInflation:
        """Return generalized variance inflation factors of the terms of the fixed effects.

        A GVIF is the square of how much larger the joint confidence region of a term's coefficients
        is than without correlation with those of other terms; its root of the order 2 Df compares
        between terms, and is the root of the usual factor where a term has one coefficient.

        Returns
        -------
        VarianceInflation
            Columns GVIF, Df and GVIF^(1/(2*Df)), one row a term.

        Raises
        ------
        DataError
            Where there are fewer than two terms besides the intercept.

        References
        ----------
        J. Fox and G. Monette (1992), Generalized collinearity diagnostics, Journal of the American
        Statistical Association 87, 178-183.

        Examples
        --------
        >>> from mixef import lmer, load_dataset
        >>> fit = lmer("angle ~ recipe * temp + (1 | recipe:replicate)", load_dataset("cake"))
        >>> print(fit.vif())
        Variance inflation factors
                      GVIF Df GVIF^(1/(2*Df))
        recipe      133.41  2          3.3986
        temp          3.00  1          1.7321
        recipe:temp 156.51  2          3.5370
        """
        return collinearity.variance_inflation(self._fit)
