"""Separate regressions by group: `lm_list`."""

from __future__ import annotations

import sys
from collections.abc import Mapping
from typing import Any

import numpy as np
import pandas as pd

from mixef import checks
from mixef.arguments import frame_of, model_call, names_for, with_data_read
from mixef.display.lm_list import SeparateSummary, fits_table
from mixef.families.convert import make_family
from mixef.hints import refuse_unknown
from mixef.inference.refits import lm_list_results as results
from mixef.inference.refits.lm_list import SeparateFits, grouped_formula, separate_fits
from mixef.text.printed import PrintedFrames, PrintedTable
from mixef.text.tables import Table


def lm_list(
    formula: str,
    data: Any = None,
    family: Any = None,
    *,
    pool: bool = True,
    weights: Any = None,
    offset: Any = None,
    subset: Any = None,
    na_action: str = "omit",
    contrasts: dict[str, Any] | None = None,
    env: Mapping[str, Any] | None = None,
    **unknown: Any,
) -> SeparateRegressions:
    """Fit a regression of its own to each level of a grouping factor.

    All groups are fitted at once. Factors are coded, and bases such as ``poly(x, 2)`` are made,
    from all rows, so that a coefficient means the same in every group.

    Parameters
    ----------
    formula : str
        ``"y ~ x | g"``: one grouping factor right of the bar.
    data : DataFrame
        pandas, polars, pyarrow, or a dict of arrays.
    family : Family, type or str, optional
        A generalized linear model with this family; a linear model by default.
    pool : bool
        Whether the groups share one residual variance (or dispersion) in standard errors, tests
        and intervals. A family without a dispersion has none to share.
    weights, offset : str or array (n,), optional
        Prior weights, and a known part of the linear predictor.
    subset : str or array, optional
        Rows to use.
    na_action : {"omit", "exclude", "fail"}
        What is done with rows that have missing values.
    contrasts : dict, optional
        From factor to "treatment", "sum", "helmert", "poly" or a matrix.
    env : dict, optional
        As in `lmer`: the names that text may use; ``{}`` for none.

    Returns
    -------
    SeparateRegressions

    Raises
    ------
    FormulaError
        If the formula does not have the form ``y ~ x | g``.
    DataError
        If the rows of no group determine all coefficients.

    Warns
    -----
    DataWarning
        Naming the groups that lack a coefficient, did not converge, or are separated.

    References
    ----------
    J. C. Pinheiro and D. M. Bates (2000), Mixed-Effects Models in S and S-PLUS, section 4.1.

    Examples
    --------
    >>> from mixef import lm_list, load_dataset
    >>> fits = lm_list("Reaction ~ Days | Subject", load_dataset("sleepstudy"))
    >>> fits.coef().loc["308"].round(3).to_dict()
    {'(Intercept)': 244.193, 'Days': 21.765}
    >>> round(fits.sigma, 4), fits.df_residual
    (25.5918, 144)
    """
    refuse_unknown(unknown, lm_list)
    pool = checks.flag(pool, "pool")
    names = names_for(env, sys._getframe(1))
    call = model_call(data, names, weights=weights, offset=offset, subset=subset,
                      na_action=na_action, contrasts=contrasts)  # fmt: skip
    parsed = grouped_formula(formula)
    call = with_data_read(parsed, call)
    frame = frame_of(parsed, call, names)
    chosen = None if family is None else make_family(family)
    return SeparateRegressions(separate_fits(parsed, frame, chosen, pool, call))


class SeparateRegressions(PrintedTable):
    """Regressions of the levels of one grouping factor, made by `lm_list`.

    Examples
    --------
    >>> from mixef import lm_list, load_dataset
    >>> fits = lm_list("Yield ~ 1 | Batch", load_dataset("Dyestuff"))
    >>> print(fits)
    Separate linear regressions
    Formula: Yield ~ 1 | Batch
    Coefficients:
      (Intercept)
    A        1505
    B        1528
    C        1564
    D        1498
    E        1600
    F        1470
    Degrees of freedom: 30 total; 24 residual
    Residual standard error: 49.51
    """

    def __init__(self, fits: SeparateFits):
        self._fits = fits

    @property
    def formula(self) -> str:
        """The formula."""
        return self._fits.formula.text

    @property
    def pool(self) -> bool:
        """Whether all groups share one dispersion."""
        return self._fits.pool

    @property
    def sigma(self) -> float:
        """Residual standard deviation of all groups; 1 for a family without a dispersion."""
        return self._fits.sigma

    @property
    def nobs(self) -> int:
        """Rows that were used."""
        return self._fits.frame.n

    @property
    def df_residual(self) -> int:
        """Residual degrees of freedom of all groups together."""
        return self._fits.df_residual

    @property
    def npar(self) -> int:
        """Estimated coefficients, and dispersions."""
        fits = self._fits
        n_dispersions = 1 if fits.pool else len(fits.groups.starts)
        return int(fits.estimates.kept.sum()) + (n_dispersions if fits.has_dispersion else 0)

    @property
    def loglik(self) -> float:
        """Log-likelihood, with one residual variance if pooled."""
        return results.log_likelihood(self._fits)

    @property
    def aic(self) -> float:
        """Akaike's information criterion."""
        return 2.0 * self.npar - 2.0 * self.loglik

    @property
    def bic(self) -> float:
        """Schwarz's information criterion."""
        return float(np.log(self.nobs)) * self.npar - 2.0 * self.loglik

    def coef(self) -> pd.DataFrame:
        """Return the coefficients, a row a group (G, p).

        A coefficient that a group's rows do not determine beside the earlier ones is NaN.

        Examples
        --------
        >>> from mixef import lm_list, load_dataset
        >>> fits = lm_list("Reaction ~ Days | Subject", load_dataset("sleepstudy"))
        >>> fits.coef().shape
        (18, 2)
        """
        return results.coefficients(self._fits)

    def fixef(self) -> pd.Series:
        """Return the mean over the groups of each coefficient, NaN left out.

        Examples
        --------
        >>> from mixef import lm_list, load_dataset
        >>> fits = lm_list("Reaction ~ Days | Subject", load_dataset("sleepstudy"))
        >>> fits.fixef().round(3).to_dict()
        {'(Intercept)': 251.405, 'Days': 10.467}
        """
        return self.coef().mean()

    def ranef(self) -> pd.DataFrame:
        """Return each group's coefficients less their mean (G, p).

        Examples
        --------
        >>> from mixef import lm_list, load_dataset
        >>> fits = lm_list("Reaction ~ Days | Subject", load_dataset("sleepstudy"))
        >>> fits.ranef().loc["308"].round(3).to_dict()
        {'(Intercept)': -7.212, 'Days': 11.297}
        """
        return self.coef() - self.fixef()

    def std_errors(self, pool: bool | None = None) -> pd.DataFrame:
        """Return the standard errors of the coefficients (G, p).

        Parameters
        ----------
        pool : bool, optional
            By the residual variance of all groups, or of each one; as the fits by default.

        Examples
        --------
        >>> from mixef import lm_list, load_dataset
        >>> fits = lm_list("Reaction ~ Days | Subject", load_dataset("sleepstudy"))
        >>> fits.std_errors().loc["308"].round(3).to_dict()
        {'(Intercept)': 15.042, 'Days': 2.818}
        """
        return results.standard_errors(self._fits, self._pooled(pool))

    def sigmas(self) -> pd.Series:
        """Return the residual standard deviation of each group by itself (G,).

        Examples
        --------
        >>> from mixef import lm_list, load_dataset
        >>> fits = lm_list("Reaction ~ Days | Subject", load_dataset("sleepstudy"))
        >>> fits.sigmas().round(1).head(2).to_dict()
        {'308': 47.8, '309': 8.9}
        """
        return pd.Series(self._fits.sigma_by_group.copy(), index=self._fits.index, name="sigma")

    def coef_tables(self, pool: bool | None = None) -> PrintedFrames:
        """Return estimates, standard errors and tests: one frame (G, 4) a coefficient.

        Parameters
        ----------
        pool : bool, optional
            As in `std_errors`.

        Examples
        --------
        >>> from mixef import lm_list, load_dataset
        >>> fits = lm_list("Reaction ~ Days | Subject", load_dataset("sleepstudy"))
        >>> fits.coef_tables()["Days"].loc["309"].round(3).to_dict()
        {'Estimate': 2.262, 'Std. Error': 2.818, 't value': 0.803, 'Pr(>|t|)': 0.423}
        """
        return results.coefficient_tables(self._fits, self._pooled(pool))

    def confint(self, level: float = 0.95, pool: bool | None = None) -> PrintedFrames:
        """Return confidence intervals: one frame (G, 2) a coefficient.

        They are by Student's t, or by the normal law where there is no dispersion.

        Parameters
        ----------
        level : float
            Coverage.
        pool : bool, optional
            As in `std_errors`; R's intervals are those of ``pool=False``.

        Examples
        --------
        >>> from mixef import lm_list, load_dataset
        >>> fits = lm_list("Reaction ~ Days | Subject", load_dataset("sleepstudy"))
        >>> fits.confint()["Days"].loc["308"].round(2).to_dict()
        {'2.5 %': 16.2, '97.5 %': 27.33}
        """
        return results.intervals(self._fits, level, self._pooled(pool))

    def fitted(self) -> pd.Series:
        """Return the fitted means (n,).

        Examples
        --------
        >>> from mixef import lm_list, load_dataset
        >>> fits = lm_list("Reaction ~ Days | Subject", load_dataset("sleepstudy"))
        >>> fits.fitted().head(2).round(1).tolist()
        [244.2, 266.0]
        """
        return self.predict().rename("fitted")

    def residuals(self, type: str | None = None) -> pd.Series:
        """Return the residuals (n,).

        Parameters
        ----------
        type : {"response", "deviance", "pearson", "working"}
            "pearson" and "deviance" multiply by the square root of the weights. By default
            "response" for a linear model, and "deviance" for a generalized one.

        Examples
        --------
        >>> from mixef import lm_list, load_dataset
        >>> fits = lm_list("Reaction ~ Days | Subject", load_dataset("sleepstudy"))
        >>> fits.residuals().head(2).round(2).tolist()
        [5.37, -7.25]
        """
        usual = "response" if self._fits.family is None else "deviance"
        return results.residuals(self._fits, usual if type is None else type)

    def predict(
        self,
        newdata: Any = None,
        type: str = "response",
        env: Mapping[str, Any] | None = None,
    ) -> pd.Series:
        """Return predictions by each row's own group.

        A row that the rows of its group say nothing about is NaN.

        Parameters
        ----------
        newdata : DataFrame, optional
            The own rows by default.
        type : {"response", "link"}
            The mean, or the linear predictor.
        env : dict, optional
            As in `lm_list`, for variables and functions of the formula that newdata lack.

        Examples
        --------
        >>> from mixef import lm_list, load_dataset
        >>> fits = lm_list("Reaction ~ Days | Subject", load_dataset("sleepstudy"))
        >>> fits.predict({"Days": [0, 12], "Subject": ["308", "309"]}).round(1).tolist()
        [244.2, 232.2]
        """
        names = names_for(env, sys._getframe(1))
        return results.predictions(self._fits, newdata, type, names)

    def summary(self, pool: bool | None = None) -> SeparateSummary:
        """Return a table of tests for each coefficient, which prints as in R.

        Parameters
        ----------
        pool : bool, optional
            As in `std_errors`.

        Examples
        --------
        >>> from mixef import lm_list, load_dataset
        >>> fits = lm_list("Yield ~ 1 | Batch", load_dataset("Dyestuff"))
        >>> print(fits.summary())
        Separate linear regressions
        Formula: Yield ~ 1 | Batch
           Data: Dyestuff
        <BLANKLINE>
        (Intercept):
          Estimate Std. Error t value Pr(>|t|)
        A  1505.00      22.14   67.97   <2e-16
        B  1528.00      22.14   69.01   <2e-16
        C  1564.00      22.14   70.64   <2e-16
        D  1498.00      22.14   67.66   <2e-16
        E  1600.00      22.14   72.26   <2e-16
        F  1470.00      22.14   66.39   <2e-16
        <BLANKLINE>
        Residual standard error: 49.51 on 24 degrees of freedom
        """
        return SeparateSummary(self._fits, self._pooled(pool))

    def _pooled(self, pool: bool | None) -> bool:
        pool = checks.flag_or_none(pool, "pool")
        return self.pool if pool is None else pool

    def to_table(self) -> Table:
        """Return the printed table: the coefficients of each group."""
        return fits_table(self._fits)
