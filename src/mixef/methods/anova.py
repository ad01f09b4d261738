"""Tables of tests of a fitted model's terms."""

from __future__ import annotations

from typing import Any

from mixef.hints import refuse_unknown
from mixef.inference.hypotheses import anova as tables
from mixef.inference.hypotheses import drop1 as deletions
from mixef.methods.base import Methods


class AnovaMethods(Methods):
    """Tables of tests of a fitted model's terms."""

    def anova(self, type: str | int = "III", ddf: str | None = "auto") -> tables.AnovaTable:
        """Test every term of the fixed effects; F is the same whatever the contrasts.

        Parameters
        ----------
        type : {"I", "II", "III"} or 1, 2, 3
            Type I tests a term after those before it. Type II tests it after all terms that do
            not contain it, where ``a:x`` contains both ``a`` and ``x``, and leaves those that do
            out. Type III averages it over the terms that contain it (SAS's rule, also with empty
            cells); a factor beside its product with a numeric variable is tested where that
            variable is zero.
        ddf : {"auto", "satterthwaite", "kenward-roger", None}
            Denominator degrees of freedom in a linear model. "auto" is Satterthwaite's; None
            gives lme4's table without p values, which in types I and II adjusts terms for each
            other by the estimated covariance matrix. A generalized model has Wald chi-square
            tests, by "auto" and None.

        Returns
        -------
        AnovaTable
            One row a term. A linear model has Sum Sq, Mean Sq (F times the residual variance),
            NumDF, DenDF, F value, Pr(>F), or npar, Sum Sq, Mean Sq, F value for None; a
            generalized one Chisq, Df, Pr(>Chisq).

        Raises
        ------
        ValueError
            For another type or ddf.

        Notes
        -----
        The intercept is tested only where there is nothing else. A term that is confounded with
        others has zero degrees of freedom. Satterthwaite's denominator of a test of several
        contrasts depends on the rows that its hypothesis is written in; they are lmerTest's.

        References
        ----------
        SAS/STAT User's Guide, The Four Types of Estimable Functions. A. Kuznetsova, P. B.
        Brockhoff and R. H. B. Christensen (2017), lmerTest package: tests in linear mixed effects
        models, Journal of Statistical Software 82(13). J. Fox (2016), Applied Regression Analysis
        and Generalized Linear Models, section 8.2.

        Examples
        --------
        >>> from mixef import lmer, load_dataset
        >>> fit = lmer("angle ~ recipe * temp + (1 | recipe:replicate)", load_dataset("cake"))
        >>> print(fit.anova(type="II"))
        Type II Analysis of Variance Table with Satterthwaite's method
                     Sum Sq Mean Sq NumDF DenDF F value Pr(>F)
        recipe        10.39    5.20     2    42  0.2488 0.7809
        temp        1966.71 1966.71     1   222 94.1632 <2e-16 ***
        recipe:temp    1.74    0.87     2   222  0.0417 0.9592
        ---
        Signif. codes:  0 '***' 0.001 '**' 0.01 '*' 0.05 '.' 0.1 ' ' 1
        """
        return tables.anova_of_terms(self._fit, type, ddf)

    def drop1(
        self,
        scope: Any = None,
        test: str | None = "Chisq",
        ddf: str | None = "auto",
        k: float = 2.0,
        n_jobs: int = 1,
        progress: bool | None = None,
        **unknown: Any,
    ) -> tables.AnovaTable:
        """Test the model without each single term of the fixed effects.

        Parameters
        ----------
        scope : str or sequence of str, optional
            The terms: a formula ``"~ a + b"`` or labels; by default all that no other term
            contains.
        test : {"Chisq", "F", None}
            "Chisq": a likelihood-ratio test, by ML fits with and without the term to the same
            rows; None: their AIC only; "F" (linear models): an F test from the fit as it is.
        ddf : {"auto", "satterthwaite", "kenward-roger", None}
            Denominator degrees of freedom of F tests, as in `anova`.
        k : float
            Penalty a parameter in AIC.
        n_jobs : int
            Processes to refit on; -1 for one a core.
        progress : bool, optional
            Show a progress bar; by default where it takes long.

        Returns
        -------
        AnovaTable
            Columns npar (parameters that go), AIC, LRT, Pr(Chi), with the whole model in the row
            ``<none>``; or the columns of `anova`.

        Raises
        ------
        FormulaError
            For a term that is not in the model.
        ValueError
            For a term that others contain, or an unknown test, k or ddf.

        Examples
        --------
        >>> from mixef import glmer, load_dataset
        >>> fit = glmer("cbind(incidence, size - incidence) ~ period + (1 | herd)",
        ...             load_dataset("cbpp"), family="binomial")
        >>> print(fit.drop1())
        Single term deletions
        <BLANKLINE>
        Model:
        cbind(incidence, size - incidence) ~ period + (1 | herd)
               npar    AIC   LRT   Pr(Chi)
        <none>      194.05
        period    3 213.66 25.61 1.151e-05 ***
        ---
        Signif. codes:  0 '***' 0.001 '**' 0.01 '*' 0.05 '.' 0.1 ' ' 1
        """
        refuse_unknown(unknown, self.drop1)
        return deletions.single_deletions(self._fit, scope, test, ddf, k, n_jobs, progress)
