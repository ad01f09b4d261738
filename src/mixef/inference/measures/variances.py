"""The variances that a fit is made of, on the scale of its linear predictor.

With S the covariance of the effects of one random term, its share of the variance of a row is
``z'S z``, and on average over the rows ``tr(Z S Z') / n`` (Johnson 2014), whether the term has an
intercept or not. What the distribution of the response adds is, for a mean mu and a variance v of
the response, by one of (Nakagawa, Johnson and Schielzeth 2017, sections 2 to 4)

    delta         v / (dmu/deta)^2
    lognormal     log(1 + v / mu^2)           with a log link
    trigamma      psi'(mu^2 / v)              with a log link
    theoretical   pi^2 / 3, 1, pi^2 / 6       for logit, probit, cloglog and single trials

References
----------
P. C. D. Johnson (2014), Extension of Nakagawa and Schielzeth's R2 GLMM to random slopes models,
Methods in Ecology and Evolution 5, 944-946. S. Nakagawa, P. C. D. Johnson and H. Schielzeth (2017),
The coefficient of determination R2 and intra-class correlation coefficient from generalized linear
mixed-effects models revisited and expanded, Journal of the Royal Society Interface 14, 20170213.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import scipy

from mixef import checks
from mixef.errors import ArgumentError, FitError, MixefError
from mixef.estimation.fit import Fit
from mixef.families.links import Log
from mixef.inference.over_rows import row_mean, row_moments
from mixef.terms.algebra import TermSet
from mixef.terms.fixed import design

AUTO, DELTA, LOGNORMAL, TRIGAMMA, THEORETICAL = METHODS = (
    "auto", "delta", "lognormal", "trigamma", "theoretical",
)  # fmt: skip
# Nodes of the mean over a normal linear predictor: exact to rounding for standard deviations that
# leave a mean in floats.
NODES = 100


@dataclass(frozen=True, eq=False)
class Variances:
    """The variances of a fit, on the scale of its linear predictor.

    Attributes
    ----------
    fixed : float
        Of ``X beta`` over the rows, without the offset.
    terms : ndarray (T,)
        Of every random term, on average over the rows.
    for_each_row : ndarray of bool (T,)
        Terms with a level of its own for every row: they are residual variance.
    distribution : float
        Of the response given its mean.
    method : str
        How `distribution` was found.
    """

    fixed: float
    terms: np.ndarray
    for_each_row: np.ndarray
    distribution: float
    method: str

    @property
    def random(self) -> float:
        """Of the random effects that rows have in common."""
        return float(self.terms[~self.for_each_row].sum())

    @property
    def residual(self) -> float:
        """Of the distribution, and of random effects of single rows."""
        return self.distribution + float(self.terms[self.for_each_row].sum())

    @property
    def total(self) -> float:
        """Of fixed effects, random effects and the rest."""
        return self.fixed + self.random + self.residual


def variances(fit: Fit, method: Any = AUTO) -> Variances:
    """Return the variances of a fit; see the method ``r2`` of a model."""
    chosen = check_method(fit, method)
    distribution = distribution_variance(fit, chosen)
    if not np.isfinite(distribution):
        raise FitError(
            f"the variance of the response is {distribution:g} by the "
            f"{fit.family.name_at(fit.extra)} family, so that there is no share of it; expected a "
            "finite variance: use another family, or method='theoretical' for single trials"
        )
    return Variances(
        fixed=fixed_variance(fit),
        terms=term_variances(fit),
        for_each_row=np.array([term.n_levels >= fit.frame.n for term in fit.terms]),
        distribution=distribution,
        method=chosen,
    )


def check_method(fit: Fit, method: Any) -> str:
    """Return which approximation of the distribution's variance to take, for "auto" the usual."""
    method, family = str(checks.option(method, "method", METHODS)), fit.family
    is_log = isinstance(family.link, Log)
    latent = family.has_trials and not family.auxiliary and family.link.latent_variance is not None
    if method == AUTO:
        return THEORETICAL if latent else LOGNORMAL if is_log else DELTA
    known = [DELTA, *([LOGNORMAL, TRIGAMMA] if is_log else []), *([THEORETICAL] if latent else [])]
    if method not in known:
        raise ArgumentError(
            f"method is {method!r}, which the {family.name} family with the link "
            f"{family.link.name} has not; expected {checks.either([AUTO, *known])}"
        )
    return method


def copies_of(fit: Fit) -> np.ndarray | None:
    """Return how many rows each row (n,) stands for; None for one each."""
    if not fit.family.counts_copies:
        return None
    return fit.outcome.copies if fit.family.has_trials else fit.weights


def sizes_of(fit: Fit) -> np.ndarray | None:
    """Return by what the variance of each row (n,) is smaller: trials, weights of linear models."""
    if not fit.family.counts_copies:
        return fit.weights
    if not fit.family.has_trials:
        return None
    return fit.family.effective_weights(fit.outcome.trials, fit.extra)


def fixed_variance(fit: Fit) -> float:
    """Return the variance of ``X beta`` over the rows, without the offset."""
    beta = fit.estimates.beta[:, None]
    return float(row_moments(fit, lambda rows: rows.X @ beta, copies_of).covariance[0, 0])


def term_variances(fit: Fit) -> np.ndarray:
    """Return the variance (T,) that each random term gives the linear predictor of a mean row."""

    def of_rows(rows: Fit) -> np.ndarray:
        halves = [term.z @ lam for term, lam in zip(rows.terms, fit.estimates.lams, strict=True)]
        return np.column_stack([np.einsum("ns,ns->n", half, half) for half in halves])

    return fit.covariance_scale * row_mean(fit, of_rows, copies_of)


def distribution_variance(fit: Fit, method: str) -> float:
    """Return what the distribution of the response adds to the variance of a linear predictor."""
    family = fit.family
    if method == THEORETICAL:
        latent = family.link.latent_variance
        assert latent is not None
        return latent
    null = fit if fit.is_linear else null_fit(fit)
    spread = 0.0 if fit.is_linear else float(term_variances(null).sum())

    def of_rows(rows: Fit) -> np.ndarray:
        mu = _means(null.on_batch(rows.frame), spread)
        sizes = sizes_of(rows)
        with np.errstate(all="ignore"):
            variance = fit.estimates.sigma**2 * family.variance(mu, fit.extra)
            if sizes is not None:
                variance = np.divide(variance, sizes)
            if method == DELTA:
                values = variance / np.square(family.link.d_inverse(family.link.link(mu)))
            elif method == LOGNORMAL:
                values = np.log1p(variance / np.square(mu))
            else:
                values = scipy.special.polygamma(1, np.square(mu) / variance)
        return (values if sizes is None else np.where(sizes > 0.0, values, 0.0))[:, None]

    def counted(rows: Fit) -> np.ndarray | None:
        sizes, copies = sizes_of(rows), copies_of(rows)
        if sizes is None or (sizes > 0.0).all():
            return copies
        there = (sizes > 0.0).astype(float)  # no trials, no response
        return there if copies is None else there * copies

    return float(row_mean(fit, of_rows, counted)[0])


def null_means(fit: Fit) -> np.ndarray:
    """Return the mean (n,) of each row by the model with an intercept as its only fixed effect.

    For an intercept b0 and random effects of variance tau^2 it is the mean of the inverse link over
    a normal distribution, with a log link ``exp(b0 + tau^2 / 2)``; an offset is added to b0.
    """
    null = null_fit(fit)
    return _means(null, float(term_variances(null).sum()))


def _means(null: Fit, spread: float) -> np.ndarray:
    """Return the means (n,) of rows by a null model; those of a linear one do not matter."""
    if null.is_linear:
        return np.zeros(null.frame.n)
    return mean_over_normal(null, null.fixed_predictor, spread)


def null_fit(fit: Fit) -> Fit:
    """Return the fit with an intercept as its only fixed effect, and the same random effects."""
    if fit.fixed_names == ("(Intercept)",):
        return fit
    intercept = design(TermSet(True, ()), fit.frame)
    try:
        return fit.again(design=intercept, control=fit.control.quiet())
    except MixefError as error:
        raise FitError(
            "the mean at which the variance of the distribution is taken is that of the model with "
            f"an intercept as its only fixed effect, which could not be fitted: {error}"
        ) from error


def mean_over_normal(fit: Fit, eta: np.ndarray, variance: float) -> np.ndarray:
    """Return the mean (n,) of the inverse link over normal linear predictors around eta.

    By Gauss-Hermite quadrature; where the link does not take the whole line, the mean at eta.
    """
    link, (lower, upper) = fit.family.link, fit.family.mean_range
    centres, rows = np.unique(eta, return_inverse=True)
    nodes, weights = np.polynomial.hermite_e.hermegauss(NODES)
    spread = centres[:, None] + np.sqrt(variance) * nodes
    with np.errstate(all="ignore"):
        mu = link.inverse(spread)
        inside = np.isfinite(mu) & (mu >= lower) & (mu <= upper)
        means = link.inverse(centres)
        if inside.all() and link.valid(spread):
            means = mu @ weights / weights.sum()
    return np.asarray(means[rows.reshape(-1)])
