"""Generalized linear mixed models by `glmer` and `glmer_nb`."""

from __future__ import annotations

import sys
from collections.abc import Mapping
from typing import Any

import pandas as pd

from mixef.arguments import fit_of_call, model_call, names_for, with_optimizer
from mixef.control import GlmerControl
from mixef.estimation.generalized.kind import Generalized
from mixef.families.family import Family
from mixef.families.standard import NegativeBinomial
from mixef.hints import refuse_unknown
from mixef.inference import design, information
from mixef.inference import overdispersion as dispersions
from mixef.mixedmodel import MixedModel


def glmer(
    formula: str,
    data: Any = None,
    family: Any = None,
    nAGQ: int = 1,
    *,
    weights: Any = None,
    offset: Any = None,
    subset: Any = None,
    na_action: str = "omit",
    contrasts: dict[str, Any] | None = None,
    start: Any = None,
    control: GlmerControl | None = None,
    optimizer: str | None = None,
    verbose: int = 0,
    env: Mapping[str, Any] | None = None,
    **unknown: Any,
) -> GeneralizedLinearMixedModel:
    """Fit a generalized linear mixed model by maximum likelihood.

    Parameters
    ----------
    formula : str
        Response, fixed effects and random-effects terms, as in lme4. A binomial response is
        ``cbind(successes, failures)``, a proportion with the numbers of trials as weights, 0 and
        1, booleans, or a factor with two levels, of which the second is modelled.
    data : DataFrame, path, or table of an engine
        pandas, polars, pyarrow, whatever has ``__arrow_c_stream__``, or a dict of arrays; only
        columns that the model names are read, and none is changed. The path of Parquet files, a
        relation of DuckDB, a lazy frame of polars, a table of ibis or a frame of Spark stays where
        it is: its rows are read in batches, as often as it takes.
    family : Family, type or str
        Distribution of the response, with its link: ``"binomial"``, ``"poisson"``,
        ``"Gamma(link='log')"``, ``Binomial(link="probit")``, ``NegativeBinomial(shape=2)``, ...
        A dispersion, or a negative binomial's shape, is estimated with all else.
    nAGQ : int
        How the random effects are integrated out: 1 is Laplace's approximation, more the number
        of nodes of adaptive Gauss-Hermite quadrature in each variable (one grouping factor, up
        to three columns), 0 a faster approximation that takes the fixed effects at the mode.
    weights : str or array (n,), optional
        Prior weights, which multiply the log density of a row; for a proportion, the trials.
    offset : str or array (n,), optional
        Known part of the linear predictor.
    subset : str or array, optional
        Rows to use: an expression of columns, booleans or positions.
    na_action : {"omit", "exclude", "fail"}
        What is done with rows that have missing values; "exclude" pads fitted values and
        residuals with NaN.
    contrasts : dict, optional
        From factor to "treatment", "sum", "helmert", "poly" or a matrix.
    start : array (k,) or dict, optional
        Covariance parameters to start from, or a dict of some of "par" or "theta", "beta", and
        the family's "dispersion", "shape" ...; estimates of simpler models by default.
    control : GlmerControl, optional
        Options of the search and of the checks.
    optimizer : str, optional
        Short for ``control=GlmerControl(optimizer=...)``.
    verbose : int
        Print every evaluation of the criterion.
    env : dict, optional
        As in `lmer`: the names that text may use beside the columns, ``{}`` for none.

    Returns
    -------
    GeneralizedLinearMixedModel

    Raises
    ------
    FormulaError
        If the formula cannot be read or names something that is not there.
    DataError
        If no model of this form can be fitted to the data.
    TypeError
        If there is no family, or an argument that a generalized model does not have.

    Notes
    -----
    The log-likelihood is of the full density for every nAGQ, so that it compares across them;
    lme4 gives it relative to the saturated model where nAGQ is above 1: see `relative_loglik`.

    References
    ----------
    D. Bates, M. Maechler, B. Bolker and S. Walker (2015), Fitting linear mixed-effects models
    using lme4, Journal of Statistical Software 67(1). S. C. Walker, R. H. B. Christensen,
    D. Bates, B. Bolker and M. Maechler, Fitting generalized linear mixed-effects models using
    lme4, which the documentation follows equation by equation. J. C. Pinheiro and D. M. Bates
    (1995), Approximations to the log-likelihood function in the nonlinear mixed-effects model,
    Journal of Computational and Graphical Statistics 4, 12-35.

    Examples
    --------
    >>> from mixef import glmer, load_dataset
    >>> cbpp = load_dataset("cbpp")
    >>> fit = glmer("cbind(incidence, size - incidence) ~ period + (1 | herd)", cbpp, "binomial")
    >>> fit.fixef().round(2).to_dict()
    {'(Intercept)': -1.4, 'period2': -0.99, 'period3': -1.13, 'period4': -1.58}
    >>> print(fit.VarCorr())
     Groups Name        Std.Dev.
     herd   (Intercept) 0.64226
    """
    refuse_unknown(unknown, glmer)
    names = names_for(env, sys._getframe(1))
    call = model_call(data, names, weights=weights, offset=offset, subset=subset,
                      na_action=na_action, contrasts=contrasts)  # fmt: skip
    control = with_optimizer(control, GlmerControl, optimizer)
    kind = Generalized(family, nAGQ)
    fit = fit_of_call(formula, call, kind, control, start, verbose, names)
    return GeneralizedLinearMixedModel(fit)


def glmer_nb(
    formula: str,
    data: Any = None,
    nAGQ: int = 1,
    *,
    link: Any = "log",
    weights: Any = None,
    offset: Any = None,
    subset: Any = None,
    na_action: str = "omit",
    contrasts: dict[str, Any] | None = None,
    start: Any = None,
    control: GlmerControl | None = None,
    optimizer: str | None = None,
    verbose: int = 0,
    env: Mapping[str, Any] | None = None,
    **unknown: Any,
) -> GeneralizedLinearMixedModel:
    """Fit a negative binomial mixed model, with its shape estimated by maximum likelihood.

    It is ``glmer`` with the family ``NegativeBinomial(link=link)``, whose variance is
    ``mu + mu^2 / shape``; for a known shape, give ``glmer`` the family ``NegativeBinomial(shape)``.

    Parameters
    ----------
    formula, data, nAGQ, weights, offset, subset, na_action, contrasts, control, optimizer
        As in `glmer`, and so are verbose, env, and what is raised.
    link : str or Link
        "log", "identity", "sqrt" or any other.
    start : array (k,) or dict, optional
        As in `glmer`; a dict may hold "shape".

    Returns
    -------
    GeneralizedLinearMixedModel

    References
    ----------
    W. N. Venables and B. D. Ripley (2002), Modern Applied Statistics with S, section 7.4, for the
    family.

    Examples
    --------
    >>> from mixef import glmer_nb, load_dataset
    >>> ticks = load_dataset("grouseticks")
    >>> fit = glmer_nb("TICKS ~ YEAR + (1 | BROOD) + (1 | LOCATION)", ticks)
    >>> fit.family.name, round(fit.shape, 1)
    ('Negative Binomial', 3.3)
    """
    refuse_unknown(unknown, glmer_nb)
    return glmer(
        formula, data, NegativeBinomial(link=link), nAGQ, weights=weights, offset=offset,
        subset=subset, na_action=na_action, contrasts=contrasts, start=start, control=control,
        optimizer=optimizer, verbose=verbose, env=names_for(env, sys._getframe(1)),
    )  # fmt: skip


class GeneralizedLinearMixedModel(MixedModel):
    """A fitted generalized linear mixed model, made by `glmer` or `glmer_nb`.

    Stored numbers are properties, labelled results are methods that return pandas. The fit never
    changes, and needs neither the caller's data nor variables again.

    Examples
    --------
    >>> from mixef import glmer, load_dataset
    >>> cbpp = load_dataset("cbpp")
    >>> fit = glmer("cbind(incidence, size - incidence) ~ period + (1 | herd)", cbpp, "binomial")
    >>> round(fit.loglik, 4), round(fit.deviance, 2), fit.converged
    (-92.0263, 73.47, True)
    """

    _function = staticmethod(glmer)
    _residuals = "deviance"

    @property
    def family(self) -> Family:
        """The family, with its link."""
        return self._fit.family

    @property
    def nAGQ(self) -> int:
        """Quadrature points; 1 for Laplace, 0 for fixed effects at the mode."""
        return int(self._fit.nAGQ)

    @property
    def dispersion(self) -> float | None:
        """Estimate of the dispersion, None for a family without one."""
        return self._fit.estimates.extra if self.family.has_dispersion else None

    @property
    def shape(self) -> float | None:
        """The shape of a negative binomial, estimated or known; None for other families."""
        known = getattr(self.family, "shape", None)
        return self.family.named(self._fit.extra).get("shape", known)

    @property
    def auxiliary(self) -> pd.Series:
        """Estimates of the family's parameters besides the mean, by name; empty without any.

        Examples
        --------
        >>> from mixef import glmer, load_dataset
        >>> ticks = load_dataset("grouseticks")
        >>> glmer("TICKS ~ YEAR + (1 | BROOD)", ticks, "nbinom2").auxiliary.round(2).to_dict()
        {'shape': 3.31}
        """
        return pd.Series(self.family.named(self._fit.extra), dtype=float, name="auxiliary")

    @property
    def relative_loglik(self) -> float:
        """Log-likelihood less that of the saturated model, lme4's for nAGQ above 1."""
        return information.relative_log_likelihood(self._fit)

    def overdispersion(self) -> dispersions.Overdispersion:
        """Return Pearson's chi-square over the residual degrees of freedom, with a p value.

        Examples
        --------
        >>> from mixef import glmer, load_dataset
        >>> formula = "cbind(incidence, size - incidence) ~ period + (1 | herd)"
        >>> print(glmer(formula, load_dataset("cbpp"), "binomial").overdispersion())
        Pearson chi-square / df.resid: 63.08 / 51 = 1.24 (p = 0.119)
        """
        return dispersions.overdispersion(self._fit)

    def integrand(self, z: Any) -> pd.DataFrame:
        """Return what the likelihood integrates, level by level, beside the normal density.

        With one random effect a level the likelihood is a product of integrals in one variable;
        the closer ``density`` is to ``normal``, the better is Laplace's approximation, and the
        closer their ratio ``t`` is to a polynomial, the fewer nodes quadrature needs.

        Parameters
        ----------
        z : array (m,)
            Random effects as distances from the mode, in conditional standard deviations.

        Returns
        -------
        DataFrame (l m, 5)
            group, z, density, normal, t.

        References
        ----------
        S. C. Walker and others, Fitting generalized linear mixed-effects models using lme4:
        density is equation 20, scaled as in figure 1, and t is drawn in figure 2.

        Examples
        --------
        >>> from mixef import glmer, load_dataset
        >>> formula = "cbind(incidence, size - incidence) ~ period + (1 | herd)"
        >>> fit = glmer(formula, load_dataset("cbpp"), "binomial")
        >>> fit.integrand([0.0, 1.0])["t"].head(2).round(3).tolist()
        [1.0, 0.977]
        """
        return design.integrand(self._fit, z)
