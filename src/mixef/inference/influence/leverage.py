"""Leverage of the rows, and what the deletion of one row does, with covariance parameters held.

With the leverage ``h_i = d mu-hat_i / d y_i`` and the score s_i of a row, ``q_i = s_i / W_i^1/2``,
its deletion moves the coefficients by ``-RX^-1 j_i q_i / (1 - h_i)`` and takes
``q_i^2 / (1 - h_i)`` from the penalized residual sum of squares: exactly in a linear model, by one
scoring step in a generalized one.

References: R. D. Cook and S. Weisberg (1982), Residuals and Influence in Regression, chapters 3 and
5; E. Demidenko and T. A. Stukel (2005), Influence analysis for linear mixed-effects models,
Statistics in Medicine 24, 893-909; D. A. Williams (1987), Generalized linear model diagnostics
using the deviance and single case deletions, Applied Statistics 36, 181-191.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import pandas as pd

from mixef.errors import DataError
from mixef.estimation.fit import Fit
from mixef.inference.influence.linearized import Linearized, linearized
from mixef.inference.residuals import residual_values

# A row whose 1 - h is below this decides a coefficient alone: nothing is left of it to judge.
ALONE = 1e-10
# A coefficient that a direction moves by less than this share of the largest stays where it is.
STILL = 1e-7


@dataclass(frozen=True, eq=False)
class Leverages:
    """What the rows do to a fit, one by one; NaN for what a row decides alone."""

    at: Linearized
    h: np.ndarray  # (n,)

    @property
    def rest(self) -> np.ndarray:
        """``1 - h`` (n,)."""
        rest = 1.0 - self.h
        return np.where(rest < ALONE, np.nan, rest)

    @property
    def sigma_ratio(self) -> np.ndarray:
        """Residual standard deviations without each row (n,) over that with it.

        One for a family without a dispersion.
        """
        fit = self.at.fit
        if not fit.family.has_dispersion:
            return np.ones(len(self.h))
        pwrss = fit.estimates.pwrss / fit.covariance_scale
        n = fit.frame.n if fit.whole is None else fit.whole.frame.n
        m = n - len(fit.kept) if fit.REML else n
        left = np.maximum(pwrss - self.at.q**2 / self.rest, 0.0)
        with np.errstate(divide="ignore", invalid="ignore"):
            return np.sqrt(left / pwrss * (m / (m - 1.0) if m > 1 else np.nan))

    def cooks_distance(self) -> np.ndarray:
        """Return the distances (n,)."""
        return self.at.q**2 * self.h / (self.rest**2 * (self.at.p or np.nan))

    def rstudent(self) -> np.ndarray:
        """Return the externally studentized residuals (n,)."""
        fit, h, q = self.at.fit, self.h, self.at.q
        deviance = residual_values(fit, "deviance") / fit.estimates.sigma
        with np.errstate(divide="ignore"):
            size = np.sqrt(deviance**2 + h * q**2 / self.rest) / self.sigma_ratio
        return np.sign(fit.y - fit.mu) * size

    def dffits(self) -> np.ndarray:
        """Return the changes (n,) of the rows' own fitted values, in standard errors."""
        with np.errstate(divide="ignore"):
            return self.at.q * np.sqrt(self.h) / (self.rest * self.sigma_ratio)

    def dfbetas(self) -> np.ndarray:
        """Return the changes (n, p) of the coefficients, in standard errors.

        Where a row is alone in deciding a coefficient its residual is zero: the others stay.
        """
        at, rest = self.at, self.rest
        own = at.coefficients(at.j)
        with np.errstate(divide="ignore"):
            size = at.q / (rest * self.sigma_ratio)
        out = own * size[:, None] / at.standard_errors()
        alone = np.isnan(rest)
        if alone.any():
            share = np.abs(own[alone]) / at.standard_errors()
            moved = share > STILL * share.max(axis=1, keepdims=True)
            out[alone] = np.where(moved, np.nan, 0.0)
        return out


def leverages(fit: Fit) -> Leverages:
    """Return the leverages of the rows of a fit."""
    at = linearized(fit)
    return Leverages(at, at.leverages())


def hatvalues(fit: Fit) -> pd.Series:
    """Return the leverages of the rows; see the method ``hatvalues`` of a model."""
    return fit.frame.series(leverages(fit).h, "hatvalues")


def cooks_distance(fit: Fit) -> pd.Series:
    """Return Cook's distances of the rows; see the method of a model."""
    _refuse_no_coefficients(fit, "cooks_distance")
    return fit.frame.series(leverages(fit).cooks_distance(), "cooks_distance")


def rstudent(fit: Fit) -> pd.Series:
    """Return externally studentized residuals; see the method of a model."""
    return fit.frame.series(leverages(fit).rstudent(), "rstudent")


def dffits(fit: Fit) -> pd.Series:
    """Return the standardized changes of fitted values; see the method of a model."""
    return fit.frame.series(leverages(fit).dffits(), "dffits")


def dfbetas(fit: Fit) -> pd.DataFrame:
    """Return the standardized changes of coefficients; see the method of a model."""
    _refuse_no_coefficients(fit, "dfbetas")
    values = fit.frame.pad(leverages(fit).dfbetas())
    return pd.DataFrame(values, index=fit.frame.padded_index, columns=list(fit.fixed_names))


def _refuse_no_coefficients(fit: Fit, what: str) -> None:
    """Refuse to judge coefficients that are not there."""
    if not len(fit.kept):
        raise DataError(
            f"{what} is about the fixed effects, and {fit.formula.text} has none: add one, or "
            "look at hatvalues() and rstudent()"
        )
