"""Hypothesis tests of a fitted model."""

from __future__ import annotations

from typing import Any

import pandas as pd

from mixef.hints import refuse_unknown
from mixef.inference import coef
from mixef.inference import summary as summaries
from mixef.inference.hypotheses import anova as tables
from mixef.inference.hypotheses import contest as tests
from mixef.inference.hypotheses import likelihood_ratio as ratios
from mixef.methods import Methods


class HypothesisMethods(Methods):
    """Summary and hypothesis tests of a fitted model."""

    def coef_table(self, ddf: str | None = "auto") -> pd.DataFrame:
        """Return estimates, standard errors and tests of the fixed effects (p, k).

        Parameters
        ----------
        ddf : {"auto", "satterthwaite", "kenward-roger", None}
            Denominator degrees of freedom of t tests in a linear model. "satterthwaite", which
            is "auto", and "kenward-roger", which adjusts the standard errors too, add the columns
            df and Pr(>|t|); None gives t values alone. Kenward and Roger's method is for REML: of
            an ML fit, the table shows the coefficients of its refit by REML, and says so. In a
            generalized model "auto" and None are z tests, and nothing else is known. The
            covariance that `with_vcov` chose has t tests by "auto", and z tests by None.

        Returns
        -------
        DataFrame
            Estimate, Std. Error, df, t value, Pr(>|t|); or Estimate, Std. Error, z value,
            Pr(>|z|). p values are two-sided.

        Raises
        ------
        ValueError
            For another ddf.

        References
        ----------
        F. G. Giesbrecht and J. C. Burns (1985), Two-stage analysis based on a mixed model,
        Biometrics 41, 477-486. M. G. Kenward and J. H. Roger (1997), Small sample inference for
        fixed effects from restricted maximum likelihood, Biometrics 53, 983-997.

        Examples
        --------
        >>> from mixef import glmer, lmer, load_dataset
        >>> fit = lmer("Reaction ~ Days + (Days | Subject)", load_dataset("sleepstudy"))
        >>> fit.coef_table().loc["Days"].round(6).to_dict()["Pr(>|t|)"]
        3e-06
        >>> fit.coef_table().round(2)["df"].to_dict()
        {'(Intercept)': 17.0, 'Days': 17.0}
        >>> fit = glmer("use ~ urban + (1 | district)", load_dataset("Contraception"), "binomial")
        >>> fit.coef_table().round(2).loc["urbanY"].to_dict()
        {'Estimate': 0.65, 'Std. Error': 0.12, 'z value': 5.63, 'Pr(>|z|)': 0.0}
        """
        return coef.coefficient_table(self._fit, ddf)

    def summary(
        self, ddf: str | None = "auto", correlation: bool | None = None, digits: int = 4
    ) -> summaries.Summary:
        """Return the summary, which prints as lmerTest's and shows as tables in a notebook.

        Parameters
        ----------
        ddf : {"auto", "satterthwaite", "kenward-roger", None}
            As in `coef_table`; with None it prints as lme4's, without p values.
        correlation : bool, optional
            Whether to show the correlations of the fixed effects; by default for up to 12 of them.
        digits : int
            Significant digits of estimates.

        Examples
        --------
        >>> from mixef import lmer, load_dataset
        >>> fit = lmer("Reaction ~ Days + (Days | Subject)", load_dataset("sleepstudy"))
        >>> print(str(fit.summary()).splitlines()[0])
        Linear mixed model fit by REML. t-tests use Satterthwaite's method
        """
        return summaries.summarize(self._fit, ddf, correlation, digits)

    def contest(
        self,
        L: Any,
        rhs: Any = None,
        joint: bool = True,
        ddf: str | None = "auto",
        level: float = 0.95,
        **unknown: Any,
    ) -> tests.Contest:
        """Test linear hypotheses ``L beta = rhs`` about the fixed effects.

        Parameters
        ----------
        L : array (m, p), DataFrame, dict, str or sequence of str
            Rows of numbers, one for each estimated coefficient; a frame whose columns, or a dict
            whose keys, are names of coefficients; or text such as ``"recipeB - recipeC"`` or
            ``["Days = 10", "(Intercept) + 5 * Days = 300"]``. A name goes in backquotes where
            it could be read in another way.
        rhs : float or array (m,), optional
            Zeros by default; text with "=" gives its own.
        joint : bool
            One test of all hypotheses at once, whose rows may depend on each other, or a test
            of each.
        ddf : {"auto", "satterthwaite", "kenward-roger", None}
            As in `coef_table`; None, and a generalized model, have a chi-square test, or z tests.
        level : float
            Of the confidence limits with ``joint=False``.

        Returns
        -------
        Contest
            It prints as a table, and ``frame`` holds the numbers: NumDF, DenDF, F value, Pr(>F);
            or Estimate, Std. Error, df, t value, lower, upper, Pr(>|t|), one row a hypothesis.

        Raises
        ------
        FormulaError
            For text that is no linear combination.
        ValueError
            For coefficients that are not in the model or were dropped from a rank-deficient one,
            shapes that do not fit, or right-hand sides that contradict each other.

        References
        ----------
        A. H. Fai and P. L. Cornelius (1996), Approximate F-tests of multiple degree of freedom
        hypotheses in generalized least squares analyses of unbalanced split-plot experiments,
        Journal of Statistical Computation and Simulation 54, 363-378.

        Examples
        --------
        >>> from mixef import lmer, load_dataset
        >>> fit = lmer("angle ~ recipe + temp + (1 | recipe:replicate)", load_dataset("cake"))
        >>> print(fit.contest(["recipeB", "recipeC"]))
        Joint F test with Satterthwaite's method
          recipeB = 0
          recipeC = 0
        <BLANKLINE>
          NumDF DenDF F value Pr(>F)
        1     2    42  0.2488  0.781
        >>> fit.contest("10 * temp = 1", joint=False)["df"].round(2).to_dict()
        {'10 * temp': 224.0}
        """
        refuse_unknown(unknown, self.contest)
        return tests.contest(self._fit, L, rhs, joint, ddf, level)

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
        return ratios.single_deletions(self._fit, scope, test, ddf, k, n_jobs, progress)
