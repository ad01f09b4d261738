"""Variances of predicted linear predictors, with the joint uncertainty of beta, b and theta.

Given the parameters psi, the random effects are normal about their modes b~(psi) with covariance
``C = s Lambda M^-1 Lambda'``; the estimate of psi is normal with covariance Cov. So

    Var(x'beta + z'b) = z'C z + J Cov J',      J = d(x'beta + z'b~) / d psi

(R. E. Kass and D. Steffey, 1989, Journal of the American Statistical Association 84, 717-726; for
generalized models J. G. Booth and J. P. Hobert, 1998, same journal 93, 262-272). With theta known,
psi is beta and this is the variance from Henderson's mixed model equations (eq-beyond-joint and
eq-beyond-henderson in docs/theory).

Satterthwaite's degrees of freedom of a linear model's predictions are for the variance given the
covariance parameters phi,

    v(phi) = s2 [x; Lambda'z]' A^-1 [x; Lambda'z] + z_new' Sigma z_new + s2 / w,

with the matrix A of Henderson's mixed model equations, the columns z_new of what is new to the
fit, and the residual variance of a new response. As for a contrast of fixed effects
(`satterthwaite`), its estimate is taken as a scaled chi-square variable, with ``2 v^2 / g'Cg``
degrees of freedom: g are the slopes of v for phi, and C is the covariance of phi.

Standard errors have one more share, that of phi itself. It is of second order and left out of v and
of g: with it in v alone, intervals of known levels cover less.

Where a covariance was chosen for the coefficients (inference/robust), it stands for that of beta,
with its own degrees of freedom, and is taken as independent of the estimate of phi; beta does not
move with phi then.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from weakref import WeakKeyDictionary

import numpy as np

from mixef.estimation.fit import Fit
from mixef.estimation.generalized.effects import slopes_by_beta
from mixef.estimation.linear.criterion import LinearCriterion
from mixef.inference.components import covariance_slopes
from mixef.inference.hypotheses.ddf import (
    SATTERTHWAITE,
    Approximation,
    Satterthwaite,
    approximation,
    model_approximation,
)
from mixef.inference.prediction.prediction_rows import PredictionRows, TermRows
from mixef.linalg.factor import Factor
from mixef.linalg.forms import quadratic_forms


@dataclass(frozen=True)
class Movement:
    """How the estimates move with the parameters psi, and the covariance of these.

    psi is the parameters of the search, after beta where that is not among them.
    """

    covariance: np.ndarray  # (K, K)
    beta: np.ndarray  # (p, K): derivatives of the user's beta
    # list of ndarray (K, l_t, s_t): derivatives of the user's conditional modes, one array a term
    effects: list[np.ndarray]
    n_before: int  # How many of psi stand before the parameters of the search: p or 0

    def variance(self, J: np.ndarray) -> np.ndarray:
        """Return ``J Cov J'`` (m,), the diagonal."""
        return squares(J, self.covariance)

    def slopes(self, rows: PredictionRows) -> np.ndarray:
        """Return the derivatives (m, K) of ``x'beta + z'b~``."""
        return moved_predictor(rows, rows.X @ self.beta, self.effects)


def squares(J: np.ndarray, covariance: np.ndarray) -> np.ndarray:
    """Return ``J Cov J'`` (m,), the diagonal."""
    return np.einsum("ma,ma->m", J @ covariance, J)


def moved_predictor(rows: PredictionRows, J: np.ndarray, effects: list[np.ndarray]) -> np.ndarray:
    """Return J (m, K), the derivatives of ``x'beta``, with those of ``z'b~`` added.

    ``effects`` are derivatives (K, l_t, s_t) of the conditional modes, one array a term.
    """
    for t, term in rows.terms.items():
        level, known = np.maximum(term.codes, 0), term.codes >= 0
        z = np.where(known[:, None], term.z, 0.0)
        for a, slope in enumerate(effects[t]):
            J[:, a] += np.einsum("ms,ms->m", z, slope[level])
    return J


def movement(fit: Fit, given_theta: bool = False) -> Movement:
    """Return how the estimates move, with all parameters known but beta for ``given_theta``.

    So does lme4's ``se.fit`` take them, and so it is where a generalized fit has no Hessian.
    """
    if fit.whole is not None:
        held = _HELD.setdefault(fit.whole, {})
        if given_theta not in held:
            held[given_theta] = movement(fit.whole, given_theta)
        return held[given_theta]
    if given_theta or fit.hessian is None:
        return _with_beta(fit, None)
    search = fit.search_covariance()[0], *fit.kind.effects_slopes(fit)
    if fit.kind.searches_beta:
        return _with_chosen(fit, Movement(*search, n_before=0))
    return _with_beta(fit, search)


#: For fits that are asked some rows at a time.
_HELD: WeakKeyDictionary[Fit, dict[bool, Movement]] = WeakKeyDictionary()


def _with_chosen(fit: Fit, moved: Movement) -> Movement:
    """Return the movement with the chosen covariance of beta, as if independent of the others."""
    if fit.beta_covariance is None:
        return moved
    k, p = len(fit.estimates.par), len(fit.kept)
    own, covariance = slice(k, k + p), moved.covariance.copy()
    covariance[own], covariance[:, own] = 0.0, 0.0
    # the search's coefficients are of scaled columns
    back = np.linalg.inv(moved.beta[:, own])
    covariance[own, own] = back @ fit.vcov @ back.T
    return replace(moved, covariance=covariance)


def _chosen_rule(fit: Fit) -> Approximation | None:
    """Return the rule of the covariance that was chosen for the coefficients, if one was."""
    return None if fit.beta_covariance is None else approximation(fit)


def linear_rule(fit: Fit) -> Satterthwaite:
    """Return what Satterthwaite's approximation needs of the model, computed once a fit."""
    rule = model_approximation(fit, SATTERTHWAITE)
    assert isinstance(rule, Satterthwaite)
    return rule


def _with_beta(
    fit: Fit, search: tuple[np.ndarray, np.ndarray, list[np.ndarray]] | None
) -> Movement:
    """Return the movement for beta given the others, and for these, which are independent."""
    p, K = len(fit.kept), len(fit.labels)
    by_beta = modes_by_beta(fit, fit.criterion().factor_at(fit.point), fit.scaled_par)
    covariance, beta = np.zeros((p + K, p + K)), np.zeros((p, p + K))
    known = fit.covariance_scale * fit.estimates.unscaled_vcov
    covariance[:p, :p] = known if fit.beta_covariance is None else fit.vcov
    beta[:, :p] = np.eye(p)
    effects = [np.concatenate([s, np.zeros((K, *s.shape[1:]))]) for s in by_beta]
    if search is not None:
        covariance[p:, p:], by_search = search[0], search[1]
        for whole, part in zip(effects, search[2], strict=True):
            whole[p:] = part
        if fit.beta_covariance is None:
            beta[:, p:] = by_search
        else:  # all that beta varies is in its own covariance
            for whole, part in zip(effects, by_beta, strict=True):
                whole[p:] -= np.tensordot(by_search, part, axes=(0, 0))
    return Movement(covariance, beta, effects, n_before=p)


def modes_by_beta(fit: Fit, factor: Factor, par: np.ndarray) -> list[np.ndarray]:
    """Return the derivatives (p, l_t, s_t) of the modes for beta, where the factor stands: par."""
    terms = fit.problem.terms
    backs = terms.back_to_user(par)
    return slopes_by_beta(factor, backs, terms.blocks, fit.terms, fit.kind.coupling(fit, par))


def known_variance(fit: Fit, rows: PredictionRows, moved: Movement) -> np.ndarray:
    """Return the variances (m,) of fixed effects and known levels, NaN where a row is missing."""
    total = moved.variance(moved.slopes(rows))
    if rows.terms:
        factor = fit.criterion().factor_at(fit.point)
        total = total + effects_variance(fit, rows, factor, fit.scaled_par)
    for term in rows.terms.values():
        total = np.where(term.missing, np.nan, total)
    if rows.offset is not None:
        total = np.where(np.isnan(rows.offset), np.nan, total)
    return total


def new_columns(fit: Fit, rows: PredictionRows, left_out: bool) -> dict[int, np.ndarray]:
    """Return raw columns (m, s) by term of what has its own variance, zero elsewhere.

    That is a level that the fit does not know, and all that is left out if ``left_out``.
    """
    out = {}
    for t in range(len(fit.terms)) if left_out else rows.terms:
        term = rows.terms.get(t)
        if term is None:
            out[t] = rows.raw_columns(fit, t)
            continue
        new, use = (term.codes < 0)[:, None], rows.included[t]
        if left_out and not use.all():
            raw = rows.raw_columns(fit, t)
            # At a new level the two parts are correlated, and go together.
            out[t] = np.where(new, raw, raw * (1.0 - use))
        else:
            out[t] = np.where(new, term.z, 0.0)
    return out


def random_variance(fit: Fit, z: dict[int, np.ndarray], m: int) -> np.ndarray:
    """Return ``z'Sigma z`` (m,) summed over terms, for raw columns (m, s) by term."""
    total = np.zeros(m)
    for t, columns in z.items():
        half = columns @ fit.estimates.lams[t]
        total += fit.covariance_scale * np.einsum("ms,ms->m", half, half)
    return total


def random_variance_slopes(fit: Fit, z: dict[int, np.ndarray], m: int) -> np.ndarray:
    """Return the derivatives (m, K) of `random_variance` for the parameters of the search."""
    slopes, J = covariance_slopes(fit), np.zeros((m, len(fit.labels)))
    for t, columns in z.items():
        for a, slope in enumerate(slopes[t]):
            J[:, a] += np.einsum("ms,ms->m", columns @ slope, columns)
    return J


def effects_variance(fit: Fit, rows: PredictionRows, factor: Factor, par: np.ndarray) -> np.ndarray:
    """Return ``z'C z`` (m,) of the levels that the fit knows, where the factor stands: par.

    The residual variance is that of the estimates.
    """
    terms = fit.problem.terms
    codes, v = [], []
    for back, members in zip(terms.back_to_user(par), terms.blocks, strict=True):
        code, z = _block_rows(fit, rows.terms, members, len(rows.X))
        codes.append(code)
        v.append(z @ back)
    return fit.covariance_scale * quadratic_forms(factor, codes, v)


def _block_rows(
    fit: Fit, terms: dict[int, TermRows], members: list[int], m: int
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


# Steps of central differences, in the natural units of the parameters: errors are 1e-8 of v.
STEP = 1e-4
# A variance that is known from less than one squared deviation is a sign of a standard deviation
# near zero, where slopes say little: a new level's df would go to zero, and its interval to
# infinity.
FEWEST = 1.0


def prediction_df(fit: Fit, rows: PredictionRows, residual: np.ndarray | None = None) -> np.ndarray:
    """Return the degrees of freedom (m,), of no meaning where a row is missing.

    With ``residual`` variances (m,) of new responses, what the rows leave out is new as well.
    """
    own = _chosen_rule(fit)
    rule, m = linear_rule(fit), len(rows.X)
    vcov = rule.vcov if own is None else own.vcov
    new = new_columns(fit, rows, left_out=residual is not None)
    slope = random_variance_slopes(fit, new, m)
    criterion = fit.criterion()
    J, known = _given_parameters(fit, rows, vcov, criterion, fit.scaled_par)
    if rows.terms:
        slope[:, :-1] += _differences(fit, rows, vcov, criterion)
    spread = np.zeros(m)
    if own is None:
        for a, of_vcov in enumerate(rule.slopes[:-1]):
            slope[:, a] += squares(J, of_vcov)
        # All of v is in proportion to the residual variance.
        slope[:, -1] += 2.0 * known
    else:  # a variance with degrees of freedom of its own, independent of the others
        fixed = squares(J, vcov)
        slope[:, -1] += 2.0 * (known - fixed)
        spread += 2.0 * fixed**2 / own.row_df(J)
    total = known + random_variance(fit, new, m)
    if residual is not None:
        slope[:, -1] += 2.0 * residual
        total = total + residual
    with np.errstate(divide="ignore", invalid="ignore"):
        df = 2.0 * total**2 / (spread + squares(slope, rule.covariance))
    fixed_only = not rows.terms and residual is None
    return df if fixed_only else np.maximum(df, FEWEST)


def _differences(
    fit: Fit, rows: PredictionRows, vcov: np.ndarray, criterion: LinearCriterion
) -> np.ndarray:
    """Return the derivatives (m, k) of the variance for par, with Var(beta) held."""
    par, out = fit.scaled_par, np.empty((len(rows.X), len(fit.scaled_par)))
    for a, step in enumerate(STEP * criterion.scale(par)):
        ends = []
        for sign in (1.0, -1.0):
            moved = par.copy()
            moved[a] += sign * step
            ends.append(_given_parameters(fit, rows, vcov, criterion, moved)[1])
        out[:, a] = (ends[0] - ends[1]) / (2.0 * step)
    return out


def _given_parameters(
    fit: Fit,
    rows: PredictionRows,
    vcov: np.ndarray,
    criterion: LinearCriterion,
    par: np.ndarray,
) -> tuple[np.ndarray, np.ndarray]:
    """Return the derivatives (m, p) of ``x'beta + z'b~`` for beta, and its variance (m,)."""
    if not rows.terms:
        return rows.X, squares(rows.X, vcov)
    factor = criterion.factor_at(par)
    J = moved_predictor(rows, rows.X.copy(), modes_by_beta(fit, factor, par))
    return J, squares(J, vcov) + effects_variance(fit, rows, factor, par)
