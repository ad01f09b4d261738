"""Variances of predicted linear predictors, with the joint uncertainty of beta, b and theta.

Given the parameters psi, the random effects are normal about their modes b~(psi) with covariance
``C = s Lambda M^-1 Lambda'``; the estimate of psi is normal with covariance Cov. So

    Var(x'beta + z'b) = z'C z + J Cov J',      J = d(x'beta + z'b~) / d psi

(R. E. Kass and D. Steffey, 1989, Journal of the American Statistical Association 84, 717-726; for
generalized models J. G. Booth and J. P. Hobert, 1998, same journal 93, 262-272). With theta known,
psi is beta and this is the variance from Henderson's mixed model equations.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from mixef.estimation.effects import slopes_by_beta
from mixef.estimation.fit import LMMFit
from mixef.estimation.generalized_fit import GLMMFit
from mixef.estimation.hessian import inverse_hessian
from mixef.estimation.linear import LinearCriterion
from mixef.inference.natural import covariance_slopes, n_search_parameters
from mixef.inference.observations import AnyFit, extra_value, response_of
from mixef.inference.prediction_rows import PredictionRows, TermRows
from mixef.linalg.factor import Factor
from mixef.linalg.forms import quadratic_forms


@dataclass(frozen=True)
class Movement:
    """How the estimates move with the parameters psi, and the covariance of these.

    psi is the parameters of the search, after beta where that is not among them.

    Attributes
    ----------
    covariance : ndarray (K, K)
    beta : ndarray (p, K)
        Derivatives of the user's beta.
    effects : list of ndarray (K, l_t, s_t)
        Derivatives of the user's conditional modes, one array a term.
    n_before : int
        How many of psi stand before the parameters of the search: p or 0.
    """

    covariance: np.ndarray
    beta: np.ndarray
    effects: list[np.ndarray]
    n_before: int

    def variance(self, J: np.ndarray) -> np.ndarray:
        """Return ``J Cov J'`` (m,), the diagonal."""
        return np.einsum("ma,ma->m", J @ self.covariance, J)

    def slopes(self, rows: PredictionRows) -> np.ndarray:
        """Return the derivatives (m, K) of ``x'beta + z'b~``."""
        J = rows.X @ self.beta
        for t, term in rows.terms.items():
            level, known = np.maximum(term.codes, 0), term.codes >= 0
            z = np.where(known[:, None], term.z, 0.0)
            for a, slope in enumerate(self.effects[t]):
                J[:, a] += np.einsum("ms,ms->m", z, slope[level])
        return J


def movement(fit: AnyFit, given_theta: bool = False) -> Movement:
    """Return how the estimates move.

    Parameters
    ----------
    given_theta : bool
        Take all parameters but beta as known, as lme4's ``se.fit`` does. So it is, too, where a
        generalized fit has no Hessian.
    """
    n_search = n_search_parameters(fit)
    if isinstance(fit, LMMFit):
        return _with_beta(fit, None if given_theta else _search_of_linear(fit))
    if given_theta or fit.hessian is None:
        return _with_beta(fit, None)
    beta, effects = fit.criterion().effects_slopes(fit.point)
    search = inverse_hessian(fit.hessian)[0], beta, effects
    if fit.nAGQ == 0:
        return _with_beta(fit, search)
    assert beta.shape[1] == n_search
    return Movement(*search, n_before=0)


def _search_of_linear(fit: LMMFit) -> tuple[np.ndarray, np.ndarray, list[np.ndarray]]:
    """Return covariance and slopes for par and log sigma, which moves no estimate."""
    criterion = fit.criterion()
    covariance = inverse_hessian(criterion.curvature(fit.scaled_par).hessian)[0]
    beta, effects = criterion.effects_slopes(fit.scaled_par)
    still = [np.concatenate([slope, np.zeros((1, *slope.shape[1:]))]) for slope in effects]
    return covariance, np.column_stack([beta, np.zeros(len(beta))]), still


def _with_beta(
    fit: AnyFit, search: tuple[np.ndarray, np.ndarray, list[np.ndarray]] | None
) -> Movement:
    """Return the movement for beta given the others, and for these, which are independent."""
    p, K, criterion = len(fit.kept), n_search_parameters(fit), fit.criterion()
    factor = _standing_factor(fit)
    backs = criterion.terms.back_to_user(fit.scaled_par)
    by_beta = slopes_by_beta(factor, backs, criterion.terms.blocks, fit.terms, _weighted_X(fit))
    covariance, beta = np.zeros((p + K, p + K)), np.zeros((p, p + K))
    covariance[:p, :p] = fit.covariance_scale * fit.estimates.unscaled_vcov
    beta[:, :p] = np.eye(p)
    effects = [np.concatenate([s, np.zeros((K, *s.shape[1:]))]) for s in by_beta]
    if search is not None:
        covariance[p:, p:], beta[:, p:] = search[0], search[1]
        for whole, part in zip(effects, search[2], strict=True):
            whole[p:] = part
    return Movement(covariance, beta, effects, n_before=p)


def _standing_factor(fit: AnyFit) -> Factor:
    """Return the factor at the estimates, where it stays until the criterion is used again."""
    criterion = fit.criterion()
    criterion.conditional_covariances(fit.point)
    return criterion.factor if isinstance(criterion, LinearCriterion) else criterion.model.factor


def _weighted_X(fit: AnyFit) -> np.ndarray:
    """Return ``W X`` (n, p), with the weights that the factor has."""
    weights = fit.frame.weights
    if isinstance(fit, GLMMFit):
        response = fit.criterion().response
        state = response_of(fit).at(fit.estimates.eta, extra_value(fit))
        assert state is not None
        weights = response.weights_of(state)
    return fit.X if weights is None else weights[:, None] * fit.X


def predictor_variance(fit: AnyFit, rows: PredictionRows, moved: Movement) -> np.ndarray:
    """Return the variances (m,) of the linear predictors, NaN where something is missing.

    Random effects of a level that the fit does not know have their own covariance.
    """
    total = moved.variance(moved.slopes(rows))
    if rows.terms:
        total = total + _given_parameters(fit, rows)
    for t, term in rows.terms.items():
        unknown = term.codes < 0
        own = random_variance(fit, {t: np.where(unknown[:, None], term.z, 0.0)}, len(total))
        total = total + np.where(term.missing, np.nan, own)
    if rows.offset is not None:
        total = np.where(np.isnan(rows.offset), np.nan, total)
    return total


def left_out_variance(fit: AnyFit, rows: PredictionRows) -> np.ndarray:
    """Return the variances (m,) of the random effects that are not included, of new levels.

    At a new level they are correlated with what is included.
    """
    m = len(rows.X)
    total = np.zeros(m)
    for t, term in enumerate(fit.terms):
        rest = 1.0 - rows.included.get(t, np.zeros(len(term.columns)))
        if not rest.any():
            continue
        raw = rows.raw_columns(fit, t)
        own = random_variance(fit, {t: raw * rest}, m)
        if t in rows.terms:
            both = random_variance(fit, {t: raw}, m) - random_variance(
                fit, {t: raw - raw * rest}, m
            )
            own = np.where(rows.terms[t].codes < 0, both, own)
        total += own
    return total


def random_variance(fit: AnyFit, z: dict[int, np.ndarray], m: int) -> np.ndarray:
    """Return ``z'Sigma z`` (m,) summed over terms, for raw columns (m, s) by term."""
    total = np.zeros(m)
    for t, columns in z.items():
        half = columns @ fit.estimates.lams[t]
        total += fit.covariance_scale * np.einsum("ms,ms->m", half, half)
    return total


def random_variance_slopes(fit: AnyFit, z: dict[int, np.ndarray], moved: Movement) -> np.ndarray:
    """Return the derivatives (m, K) of `random_variance` for psi."""
    slopes = covariance_slopes(fit)
    J = [
        sum(np.einsum("ms,st,mt->m", columns, slopes[t][a], columns) for t, columns in z.items())
        for a in range(n_search_parameters(fit))
    ]
    m = len(next(iter(z.values())))
    return np.column_stack([np.zeros((m, moved.n_before)), *J])


def _given_parameters(fit: AnyFit, rows: PredictionRows) -> np.ndarray:
    """Return ``z'C z`` (m,) of the levels that the fit knows."""
    criterion, factor = fit.criterion(), _standing_factor(fit)
    codes, v = [], []
    for back, members in zip(
        criterion.terms.back_to_user(fit.scaled_par), criterion.terms.blocks, strict=True
    ):
        code, z = _block_rows(fit, rows.terms, members, len(rows.X))
        codes.append(code)
        v.append(z @ back)
    return fit.covariance_scale * quadratic_forms(factor, codes, v)


def _block_rows(
    fit: AnyFit, terms: dict[int, TermRows], members: list[int], m: int
) -> tuple[np.ndarray, np.ndarray]:
    """Return level (m,) and columns (m, s_i) of one grouping factor; -1 where it has no part."""
    codes, parts = np.full(m, -1), []
    for t in members:
        term = terms.get(t)
        if term is None:
            parts.append(np.zeros((m, len(fit.terms[t].columns))))
        else:
            codes = np.where(np.isfinite(term.z).all(axis=1), term.codes, -1)
            parts.append(term.z)
    z = np.column_stack(parts)
    return np.where(np.isfinite(z).all(axis=1), codes, -1), np.where(np.isfinite(z), z, 0.0)
