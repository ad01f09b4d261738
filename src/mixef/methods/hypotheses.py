"""Hypothesis tests of a fitted model."""

from __future__ import annotations

from typing import Any

import pandas as pd

from mixef.hints import refuse_unknown
from mixef.inference import coef
from mixef.inference import summary as summaries
from mixef.inference.hypotheses import contest as tests
from mixef.methods.base import Methods


class HypothesisMethods(Methods):
    """Hypothesis tests of a fitted model."""

    def coef_table(self, ddf: str | None = "auto") -> pd.DataFrame:
        """Return estimates, standard errors and tests of the fixed effects (p, k).

        Parameters
        ----------
        ddf : {"auto", "satterthwaite", "kenward-roger", None}
            Denominator degrees of freedom of t tests in a linear model. "satterthwaite", which
            is "auto", and "kenward-roger", which adjusts the standard errors too, add the columns
            df and Pr(>|t|); None gives t values alone. Kenward and Roger's method is for REML: of
            an ML fit, the table shows the coefficients of its refit by REML, and says so. In a
            generalized model "auto" and None are z tests, and nothing else is known.

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
