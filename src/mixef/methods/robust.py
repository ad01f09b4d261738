"""A fit with another covariance of its fixed effects."""

from __future__ import annotations

from typing import Any, Self

from mixef.hints import refuse_unknown
from mixef.inference.robust import covariance
from mixef.methods import Methods


class RobustMethods(Methods):
    """A fit with another covariance of its fixed effects."""

    def with_vcov(
        self, vcov: Any, cluster: Any = None, df: float | None = None, **unknown: Any
    ) -> Self:
        """Return the fit with another covariance of its fixed effects.

        The estimates stay. Standard errors and tests go by the covariance: `summary`,
        `coef_table`, `tidy`, `contest`, `anova`, ``drop1(test="F")``, ``confint(method="wald")``,
        `predict`, marginal means. Likelihood ratios do not; profiles, bootstrap intervals and
        Kenward and Roger's tests of coefficients are refused. A refit (`update`, `refit`) has the
        model's own covariance again.

        Parameters
        ----------
        vcov : {"CR0", "CR1", "CR1p", "CR1S", "CR2", "CR3"}, matrix (p, p), frame, or None
            A cluster-robust covariance, which holds whatever the variances and correlations inside
            clusters are, if clusters are independent; or one of your own, a frame by the names of
            the coefficients; None for the model's own.

            With J clusters of e.g. residuals ``e_j = y_j - X_j beta``, random effects included,
            and ``B = (X'V^-1 X)^-1`` at the estimated V, it is
            ``B sum_j X_j'V_j^-1 A_j e_j e_j'A_j'V_j^-1 X_j B``. CR0: A is one. CR1: times
            J / (J - 1). CR1p: times J / (J - p). CR1S (Stata's): times
            J (n - 1) / ((J - 1) (n - p)). CR2: unbiased where the model is right, the one to take
            by default. CR3: near to the jackknife of clusters.
        cluster : str, array (n,) or Series, optional
            A grouping factor, a column of the data, an interaction ``"a:b"``, or labels of the
            rows. By default the grouping factor that the others are nested in.
        df : float, optional
            Degrees of freedom for tests with a matrix of your own, which are z and chi-square
            tests otherwise.

        Returns
        -------
        model
            Of the same class.

        Raises
        ------
        ValueError
            For another name, crossed grouping factors without ``cluster``, a single cluster, a
            matrix that is no covariance; for CR3 where a cluster determines a coefficient alone.
        DataError
            For a cluster that is no column, or missing in some rows.
        MemoryError
            For CR2 with a cluster of thousands of rows in thousands of levels.

        Notes
        -----
        Numbers are those of R's clubSandwich, with Satterthwaite's degrees of freedom of
        each row (`coef_test`, `conf_int`) and its HTZ for joint tests (`Wald_test`); NaN where
        there are too few clusters for a joint test. clubSandwich refuses prior weights and
        clusters that random effects cross. Here V_j is ``sigma^2 (Z_j Lambda Lambda'Z_j' + 1/W_j)``
        with weights; and where V holds clusters together, columns of ``X'V^-1`` stand for
        ``X_j'V_j^-1``: what V says of pairs of clusters counts for the estimates, but their
        residuals are taken as independent all the same.

        A generalized fit is taken for the linear mixed model that it ends with [3]_: working
        weights W by expected information, the response ``eta + s / W`` with the scores s of the
        rows, ``V = W^-1 + Z Sigma Z'``. Then ``V^-1 e`` is s, so that CR0 sums the scores
        ``X_j's_j`` of clusters. clubSandwich has no such fits.

        References
        ----------
        .. [1] J. E. Pustejovsky and E. Tipton (2018), Small-sample methods for cluster-robust
           variance estimation and hypothesis testing in fixed effects models, Journal of Business
           and Economic Statistics 36, 672-683.
        .. [2] E. Tipton and J. E. Pustejovsky (2015), Small-sample adjustments for tests of
           moderators and model fit using robust variance estimation in meta-regression, Journal
           of Educational and Behavioral Statistics 40, 604-634.
        .. [3] N. E. Breslow and D. G. Clayton (1993), Approximate inference in generalized linear
           mixed models, Journal of the American Statistical Association 88, 9-25.

        Examples
        --------
        >>> from mixef import lmer, load_dataset
        >>> fit = lmer("Reaction ~ Days + (1 | Subject)", load_dataset("sleepstudy"))
        >>> fit.coef_table()["Std. Error"].round(3).to_dict()
        {'(Intercept)': 9.747, 'Days': 0.804}
        >>> robust = fit.with_vcov("CR2")
        >>> robust.coef_table()["Std. Error"].round(3).to_dict()
        {'(Intercept)': 6.825, 'Days': 1.546}
        >>> print(robust.contest("Days = 8"))
        F test with the CR2 covariance by Subject (18 clusters) and Satterthwaite degrees of freedom
          Days = 8
        <BLANKLINE>
          NumDF DenDF F value Pr(>F)
        1     1    17   2.548  0.129
        """
        refuse_unknown(unknown, self.with_vcov)
        return type(self)(covariance.with_covariance(self._fit, vcov, cluster, df))
