"""The generalized linear model without random effects, where a mixed model's search starts."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from mixef.errors import FitError
from mixef.estimation.generalized.response import Response, RowState
from mixef.families.auxiliary import Extra, joined, separate
from mixef.families.family import Family
from mixef.linalg import small

MAX_STEPS = 50
# The search goes on from here: a start that is good to this much of the log density, a row, is
# enough.
ENOUGH = 1e-3
# Linear predictors that have gone so far, in changes over which the mean curves at the start, do
# not come back: the data are separated.
FAR = 30.0
# Scaled columns with less of the largest's weight may have none left.
WEIGHTLESS = 1e-6
# The longest step of a linear predictor, in changes over which the mean curves.
LONGEST = 6.0


@dataclass(frozen=True)
class GLMFit:
    """Maximum-likelihood estimates of a generalized linear model."""

    beta: np.ndarray  # (p,)
    # (p,): coefficients well inside the domain of link and family: where the search started
    inside: np.ndarray
    extra: Extra  # Moment estimates of the auxiliary parameters, 1.0 where there are none
    state: RowState
    converged: bool


def fit_glm(
    response: Response, X: np.ndarray, offset: np.ndarray, tolerance: float = ENOUGH
) -> GLMFit:
    """Fit by iteratively reweighted least squares.

    Parameters
    ----------
    X : ndarray (n, p)
        Columns with ``X'X = n I``.
    offset : ndarray (n,)
    tolerance : float
        Change of the log density, a row, at which to stop.
    """
    extra, family = response.family.first_extra, response.family
    inside, state = _start(response, X, offset, extra)
    if family.starts_at_moments:
        extra, state = _with_moment(response, state)
    beta, first, curved = inside, state.eta, family.link.bend(state.eta)
    converged, enough = not X.shape[1], tolerance * len(response.y)
    for _ in range(MAX_STEPS if X.shape[1] else 0):
        step, promise = scoring_step(X.T @ (state.expected[:, None] * X), X.T @ state.score)
        # A dispersion may be nothing in the end, which the last step shows.
        if promise <= enough and not family.has_dispersion:
            converged = True
            break
        moved, share, new = X @ step, 1.0, None
        far = float(np.abs(moved).max())
        if far > curved:
            share = min(1.0, LONGEST * family.link.bend(state.eta) / far)
        for _ in range(30):
            new = response.at(state.eta + share * moved, extra)
            if new is not None and new.log_density >= state.log_density:
                break
            share *= 0.5
        else:
            break
        gain = new.log_density - state.log_density
        beta, state = beta + share * step, new
        if family.has_dispersion:  # beside what is left now: it may be nothing
            gain *= extra / _moment(response, new)
        if gain <= enough:
            converged = True
            break
        gone = float(np.abs(state.eta - first).max())
        if gone > FAR * curved and family.information == "expected":
            break
    if family.auxiliary:
        extra, state = _with_moment(response, state)
    return GLMFit(beta, inside, extra, state, converged)


def _with_moment(response: Response, state: RowState) -> tuple[Extra, RowState]:
    """Return moment estimates of the auxiliary parameters, and the state with them."""
    extra = _moment(response, state)
    return extra, response.at(state.eta, extra) or state


def _moment(response: Response, state: RowState) -> Extra:
    family = response.family
    with np.errstate(all="ignore"):
        moments = separate(family.initial_extra(response.y, state.mu, response.weights))
    pairs = zip(family.auxiliary, moments, strict=True)
    return joined([m if parameter.is_possible(m) else 1.0 for parameter, m in pairs])


def scoring_step(XtWX: np.ndarray, slope: np.ndarray) -> tuple[np.ndarray, float]:
    """Return a step of Fisher's scoring, and what it promises to add to the log density.

    Parameters
    ----------
    XtWX, slope : ndarray (p, p), (p,)
        Expected information and gradient.
    """
    size = XtWX.diagonal().tolist()
    try:
        if not min(size) > WEIGHTLESS * max(size):
            raise np.linalg.LinAlgError("a column has no weight")
        step = small.solve(XtWX, slope)
    except np.linalg.LinAlgError:
        step = np.linalg.lstsq(XtWX, slope, rcond=1e-12)[0]
    return step, 0.5 * float(step.dot(slope))


def _start(
    response: Response, X: np.ndarray, offset: np.ndarray, extra: float
) -> tuple[np.ndarray, RowState]:
    """Return coefficients inside the domain: of a constant mean, or of the response itself."""
    family, y = response.family, response.y
    weights = response.weights
    means = family.initial_mean(y, weights)
    centre = means.mean() if weights is None else means @ weights / weights.sum()
    constant = np.full(len(y), centre)
    with np.errstate(all="ignore"):
        for mean in (constant, means):
            eta = family.link.link(mean) - offset
            if not np.isfinite(eta).all():
                continue
            beta = X.T @ eta / len(y)
            for start in (beta, 0.0 * beta):
                state = response.at(offset + X @ start, extra)
                if state is not None:
                    return start, state
    raise no_start(family)


def no_start(family: Family) -> FitError:
    """Return the error for a model whose mean starts outside the domain, whatever is tried."""
    return FitError(
        f"no starting values are inside the domain of the {family.link.name} link of the "
        f"{family.name} family: the offset or the fixed effects force means that are not possible; "
        "add an intercept, or use another link"
    )
