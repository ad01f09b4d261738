"""Regressions of the levels of one grouping factor, each by itself: what they say."""

from __future__ import annotations

import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any

import numpy as np
import pandas as pd

from mixef import checks
from mixef.arguments import names_for
from mixef.errors import DataError
from mixef.estimation.generalized.density_response import make_response
from mixef.estimation.many.by_group import Groups, GroupwiseFit
from mixef.estimation.spec import ModelCall
from mixef.families.family import Family
from mixef.inference.residuals import RESIDUALS, family_residuals
from mixef.inference.tails import limit_names, t_quantile, t_tail
from mixef.terms.columns import Columns
from mixef.terms.fixed import Design
from mixef.terms.formula import Formula
from mixef.terms.frame import ModelFrame, new_offset
from mixef.terms.grouping import Grouping
from mixef.terms.needed import needed_names
from mixef.text.coefficients import CoefficientTables
from mixef.text.layout import listed
from mixef.text.numbers import format_number
from mixef.text.printed import LONGEST, PrintedFrames, PrintedTable, frame_table
from mixef.text.tables import Table


@dataclass(frozen=True, eq=False, repr=False)
class SeparateRegressions(PrintedTable):
    """Regressions of the levels of one grouping factor, made by `lm_list`.

    Attributes
    ----------
    family : Family or None
        None for a linear model.
    pool : bool
        Whether all groups share one dispersion.

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

    family: Family | None
    pool: bool
    # The one bar term of the formula holds the grouping factor; codings and bases are common to
    # all groups.
    _formula: Formula
    _frame: ModelFrame
    _design: Design
    _grouping: Grouping
    _call: ModelCall
    # The response (n,), proportions for a binomial one; prior weights, trials included; and the
    # part of them that stands for copies of rows.
    _y: np.ndarray
    _weights: np.ndarray | None
    _copies: np.ndarray | None
    _groups: Groups
    _estimates: GroupwiseFit

    def __getstate__(self) -> dict[str, Any]:
        return self.__dict__ | {"_call": self._call.pruned(self._formula, self._frame)}

    @property
    def formula(self) -> str:
        """The formula."""
        return self._formula.text

    @property
    def title(self) -> str:
        """What the regressions are."""
        if self.family is None:
            return "Separate linear regressions"
        name, link = self.family.name, self.family.link.name
        return f"Separate generalized linear regressions: {name} ({link})"

    @property
    def has_dispersion(self) -> bool:
        """Whether there is a dispersion to estimate."""
        return self.family is None or self.family.has_dispersion

    @property
    def nobs(self) -> int:
        """Rows that were used."""
        return self._frame.n

    @cached_property
    def _df_by_group(self) -> np.ndarray:
        """Residual degrees of freedom of each group (G,)."""
        return self._groups.sizes - self._estimates.kept.sum(axis=1)

    @property
    def df_residual(self) -> int:
        """Residual degrees of freedom of all groups that have estimates."""
        return int(self._df_by_group[~self._estimates.failed].sum())

    @cached_property
    def sigma(self) -> float:
        """Pooled residual standard deviation; 1 without a dispersion, NaN without rows to spare."""
        if not self.has_dispersion:
            return 1.0
        good = ~self._estimates.failed
        df = self.df_residual
        return float(np.sqrt(self._estimates.squares[good].sum() / df)) if df else np.nan

    @property
    def npar(self) -> int:
        """Estimated coefficients, and dispersions."""
        n_dispersions = 1 if self.pool else len(self._groups.starts)
        return int(self._estimates.kept.sum()) + (n_dispersions if self.has_dispersion else 0)

    @property
    def loglik(self) -> float:
        """Log-likelihood, with one residual variance if pooled.

        Raises
        ------
        DataError
            For a generalized model with a dispersion, which is estimated by moments here.
        """
        if self.family is None:
            m, rss = self._groups.sizes.astype(float), self._estimates.squares
            if self.pool:
                m, rss = m.sum(keepdims=True), rss.sum(keepdims=True)
            log_w = 0.0 if self._weights is None else float(np.log(self._weights).sum())
            with np.errstate(divide="ignore"):
                return 0.5 * (log_w - float((m * (1.0 + np.log(2.0 * np.pi * rss / m))).sum()))
        if self.has_dispersion:
            raise DataError(
                f"the dispersions of the {self.family.name} family are estimated by moments here, "
                "so that there is no maximum of a likelihood to report"
            )
        response = make_response(self.family, self._y, self._weights, copies=self._copies)
        state = response.at(self._groups.back(self._estimates.eta), 1.0)
        return np.nan if state is None else state.log_density

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
        estimates = self._estimates
        known = estimates.kept & ~estimates.failed[:, None]
        values = np.where(known, estimates.coefficients, np.nan)
        return pd.DataFrame(values, index=self._grouping.index, columns=list(self._design.names))

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
        """Return each group's coefficients less their mean (G, p)."""
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
        variances = np.einsum("gpp->gp", self._estimates.unscaled)
        sigma = self.sigma if self._pooled(pool) else self.sigmas().to_numpy()[:, None]
        values = sigma * np.sqrt(variances)
        values[self._estimates.failed] = np.nan
        return pd.DataFrame(values, index=self._grouping.index, columns=list(self._design.names))

    def sigmas(self) -> pd.Series:
        """Return the residual standard deviation of each group by itself (G,).

        Examples
        --------
        >>> from mixef import lm_list, load_dataset
        >>> fits = lm_list("Reaction ~ Days | Subject", load_dataset("sleepstudy"))
        >>> fits.sigmas().round(1).head(2).to_dict()
        {'308': 47.8, '309': 8.9}
        """
        if not self.has_dispersion:
            values = np.ones(len(self._groups.starts))
        else:
            df = self._df_by_group.astype(float)
            spare = np.where(df > 0, df, np.nan)
            values = np.sqrt(self._estimates.squares / spare)
            values[self._estimates.failed] = np.nan
        return pd.Series(values, index=self._grouping.index, name="sigma")

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
        estimates, errors = self.coef(), self.std_errors(pool)
        df, letter = self._df(pool), "t" if self.has_dispersion else "z"
        out = PrintedFrames()
        for name in self._design.names:
            with np.errstate(divide="ignore", invalid="ignore"):
                ratio = estimates[name] / errors[name]
            p_value = t_tail(ratio.to_numpy(), df)
            columns = {"Estimate": estimates[name], "Std. Error": errors[name],
                       f"{letter} value": ratio, f"Pr(>|{letter}|)": p_value}  # fmt: skip
            out[name] = pd.DataFrame(columns, index=self._grouping.index)
        return out

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
        level = checks.level(level)
        quantile = t_quantile(0.5 + level / 2.0, self._df(pool))
        estimates, errors = self.coef(), self.std_errors(pool)
        out = PrintedFrames()
        for name in self._design.names:
            half, centre = quantile * errors[name].to_numpy(), estimates[name].to_numpy()
            limits = np.column_stack([centre - half, centre + half])
            out[name] = pd.DataFrame(limits, index=self._grouping.index, columns=limit_names(level))
        return out

    def fitted(self) -> pd.Series:
        """Return the fitted means (n,)."""
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
        usual = "response" if self.family is None else "deviance"
        type = checks.option(usual if type is None else type, "type", RESIDUALS)
        eta, mu = self._groups.back(self._estimates.eta), self._groups.back(self._estimates.mu)
        if self.family is not None:
            values = family_residuals(self.family, self._y, eta, mu, self._weights, type)
        else:
            weighted = self._weights if type in ("pearson", "deviance") else None
            values = (self._y - mu) * (1.0 if weighted is None else np.sqrt(weighted))
        return self._on_rows(values, "residuals")

    def predict(
        self, newdata: Any = None, type: str = "response", env: Mapping[str, Any] | None = None
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
        type = checks.option(type, "type", ("response", "link"))
        if newdata is None:
            rows = self._estimates.mu if type == "response" else self._estimates.eta
            return self._on_rows(self._groups.back(rows), "predicted")
        names = names_for(env, sys._getframe(1))
        columns = Columns(newdata, needed_names(self._formula, self._call.offset))
        X = self._design.spec.apply(columns, names)
        new = self._grouping.spec.codes(columns, names)
        if new.new_levels:
            shown = listed(dict.fromkeys(new.new_levels))
            raise DataError(
                f"newdata has {shown} of {self._grouping.name}, for which there is no regression; "
                f"drop those rows, or fit a mixed model, which predicts new levels"
            )
        eta = self._estimates.predicted(X, new.codes)
        offset = new_offset(self._frame, self._call.offset, columns, names)
        if offset is not None:
            eta = eta + offset
        link = None if self.family is None or type == "link" else self.family.link
        values = eta if link is None else link.inverse(eta)
        index = newdata.index if isinstance(newdata, pd.DataFrame) else pd.RangeIndex(columns.n)
        return pd.Series(values, index=index, name="predicted")

    def summary(self, pool: bool | None = None) -> CoefficientTables:
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
        data, notes = self._call.data_name, []
        heading = f"{self.title}\nFormula: {self.formula}"
        heading += "" if data is None else f"\n   Data: {data}"
        if self.has_dispersion and self._pooled(pool):
            sigma = format_number(self.sigma, 4)
            notes.append(
                f"Residual standard error: {sigma} on {self.df_residual} degrees of freedom"
            )
        if self._frame.left_out.total:
            notes.append(str(self._frame.left_out))
        note = "\n".join(["", *notes]) if notes else None
        return CoefficientTables(self.coef_tables(pool), heading, note)

    def to_table(self) -> Table:
        """Return the printed table: a row a group, with degrees of freedom and sigma below."""
        return self._laid_out(self.coef())

    def _shown(self) -> Sequence[Table]:
        """Return the first rows, laid out alone."""
        coef = self.coef()
        return [self._laid_out(coef.head(LONGEST)).head(LONGEST, len(coef))]

    def _laid_out(self, coef: pd.DataFrame) -> Table:
        notes = [f"Degrees of freedom: {self._frame.n} total; {self.df_residual} residual"]
        if self.has_dispersion:
            notes.append(f"Residual standard error: {format_number(self.sigma, 4)}")
        if self._frame.left_out.total:
            notes.append(str(self._frame.left_out))
        title = f"{self.title}\nFormula: {self.formula}\nCoefficients:"
        return replace(frame_table(coef, title, digits=4), note="\n".join(notes))

    def _pooled(self, pool: bool | None) -> bool:
        pool = checks.flag_or_none(pool, "pool")
        return self.pool if pool is None else pool

    def _df(self, pool: bool | None) -> np.ndarray:
        """Return the degrees of freedom of each group's tests (G,); infinite for a normal law."""
        if not self.has_dispersion:
            return np.full(len(self._groups.starts), np.inf)
        df = self._df_by_group.astype(float)
        return np.full(len(df), float(self.df_residual)) if self._pooled(pool) else df

    def _on_rows(self, values: np.ndarray, name: str) -> pd.Series:
        """Label values (n,) in the order of the data, NaN in groups without estimates."""
        values = np.where(self._estimates.failed[self._grouping.codes], np.nan, values)
        return pd.Series(self._frame.pad(values).copy(), index=self._frame.padded_index, name=name)
