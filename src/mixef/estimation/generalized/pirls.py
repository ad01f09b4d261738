"""Penalized iteratively reweighted least squares: the conditional mode of the random effects.

For given parameters the mode minimizes ``-2 log f(y | u) + |u|^2``. A step solves

    (Lambda'Z'WZ Lambda + I) delta_u = Lambda'Z's - u,

with scores s and weights W of the rows, jointly with ``X'W`` rows for beta where that is part of
the mode (nAGQ = 0). These are equations 15 and 16 of S. C. Walker and others, Fitting generalized
linear mixed-effects models using lme4; there s is ``MW(y - mu)``, and W is ``MWM`` (expected
information), or that with the bracket of equation 31 (observed information).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple, Protocol

import numpy as np

from mixef.errors import FitError
from mixef.estimation.generalized.passes import (
    ErrorSums,
    ExtraSums,
    Gram,
    error_sums_of,
    extra_sums_of,
    gram_of,
)
from mixef.estimation.generalized.response import Extremes, Response, RowState
from mixef.estimation.linear.pls import solve_upper
from mixef.families.auxiliary import Extra
from mixef.linalg import small
from mixef.linalg.factor import Factor
from mixef.linalg.patterned import PatternedProducts
from mixef.linalg.reweighted import ReweightedProducts
from mixef.linalg.rows import GroupDesign

# A Newton step that promises less than this leaves an error of its square: it is the last one.
LAST_STEP = 1e-9
# ... and one that promises less than this is not taken: it would change the mode by 1e-11.
HERE = 1e-22
# Scoring steps (expected information where the observed one is not positive) that promise less
# than this are at a saddle, which they leave slowly if at all: a few of them in a row are enough.
SADDLE, MOST_AT_SADDLE = 1e-4, 10
# Where a search starts, coefficients stay once a step with them promises less than this: the search
# corrects them by more, and is taken to gain that.
NEAR_START, START_GAIN = 1.0, 0.1
# A mode's last step may promise this share of what the search's step there promises: what it
# leaves, its square, moves the criterion in proportion to it, and by far less than that.
ROUGH = 0.01
# The rounding of the penalized deviance, beside its size.
NOISE = 1e-13
MAX_STEPS = 200
MAX_HALVINGS = 40
# Of coefficients that are not part of the mode.
NO_STEP = np.empty(0)


class RowModel(Protocol):
    """What is asked of the rows of a model, wherever they are.

    Scores and weights of rows, and their states, are its own affair: they come from `at`, and go
    back to it.
    """

    @property
    def response(self) -> Response:
        """The response, for its family."""

    @property
    def groups(self) -> PatternedProducts[Any]:
        """``Z'WZ``, re-formed in place."""

    @property
    def factor(self) -> Factor:
        """The factor of ``Lambda'Z'WZ Lambda + I``."""

    @property
    def p(self) -> int:
        """Number of columns of X."""

    def fixed_part(self, beta: np.ndarray) -> Any:
        """Return what `at` takes for coefficients."""

    def at(self, fixed: Any, lams: Sequence[np.ndarray], u: np.ndarray, extra: Extra) -> Any:
        """Return the state of the rows at modes u; None outside the domain."""

    def Zt(self, v: Any) -> np.ndarray:
        """Return ``Z'v`` (q,)."""

    def fixed_part_transposed(self, v: Any) -> np.ndarray:
        """Return ``X'v`` (p,)."""

    def gram(self, weights: Any) -> Gram:
        """Return ``Z'WX`` and ``X'WX``."""

    def extra_sums(self, state: Any, extra: Extra) -> ExtraSums | None:
        """Return what the auxiliary coordinates do to the rows; None where there are none."""

    def weight_changes(
        self, state: Any, extra: Extra, b: np.ndarray, beta: np.ndarray
    ) -> np.ndarray:
        """Return the values (K, v) of ``Z'dW Z`` for the weights in ``log|M|``.

        Parameters
        ----------
        b, beta : ndarray (q, K), (p, K)
            How random effects and coefficients move with K parameters, the auxiliary ones last.
        """

    def leverages(self, inverse: np.ndarray) -> np.ndarray:
        """Return what `error_sums` takes for h, from values (v,) of ``Lambda M^-1 Lambda'``."""

    def error_sums(self, state: Any, extra: Extra, h: np.ndarray) -> ErrorSums:
        """Return what the next terms of Laplace's expansion ask of the rows."""

    def refactor(self, weights: Any, lams: Sequence[np.ndarray]) -> None:
        """Factor ``Lambda'Z'WZ Lambda + I``."""

    def extent(self, state: Any) -> tuple[float, float]:
        """Return the largest linear predictor, and a change of one over which the mean curves."""


@dataclass(frozen=True)
class WorkingModel:
    """What stays the same while the parameters of a generalized model change."""

    response: Response
    X: np.ndarray  # (n, p): scaled columns of the fixed effects
    offset: np.ndarray  # (n,)
    designs: tuple[GroupDesign, ...]  # Scaled columns of Z, one a grouping factor
    groups: ReweightedProducts  # ``Z'WZ``, re-formed in place
    factor: Factor  # Of ``Lambda'Z'WZ Lambda + I``, on the products of ``groups``

    @property
    def p(self) -> int:
        """Number of columns of X."""
        return len(self.X.T)

    def fixed_part(self, beta: np.ndarray) -> np.ndarray:
        """Return ``X beta + offset`` (n,)."""
        return self.offset + self.X @ beta if len(beta) else self.offset

    def random_part(self, lams: Sequence[np.ndarray], u: np.ndarray) -> np.ndarray:
        """Return ``Z Lambda u`` (n,) or (n, k)."""
        return self.groups.Z(self.groups.layout.multiply(lams, u))

    def at(
        self, fixed: np.ndarray, lams: Sequence[np.ndarray], u: np.ndarray, extra: Extra
    ) -> RowState | None:
        """Return the rows at modes u, given `fixed_part`; None outside the domain."""
        return self.response.at(fixed + self.random_part(lams, u), extra)

    def fixed_part_transposed(self, v: np.ndarray) -> np.ndarray:
        """Return ``X'v`` (p,)."""
        product: np.ndarray = self.X.T @ v
        return product

    def Zt(self, v: np.ndarray) -> np.ndarray:
        """Return ``Z'v`` (q,) or (q, k)."""
        return self.groups.Zt(v)

    def gram(self, weights: np.ndarray) -> Gram:
        """Return ``Z'WX`` and ``X'WX``."""
        return gram_of(self.groups.Zt, self.X, weights)

    def extra_sums(self, state: RowState, extra: Extra) -> ExtraSums | None:
        """Return what the auxiliary coordinates do to the rows; None where there are none."""
        response = self.response
        if not response.family.auxiliary:
            return None
        slopes = response.slopes(state, extra, response.uses_observed)
        return extra_sums_of(self.groups.Zt, self.X, response, state, extra, slopes)

    def weight_changes(
        self, state: RowState, extra: Extra, b: np.ndarray, beta: np.ndarray
    ) -> np.ndarray:
        """Return the values (K, v) of ``Z'dW Z``; see `RowModel`."""
        slopes = self.response.slopes(state, extra, self.response.uses_observed)
        return self.groups.values(slopes.along(self.groups.Z(b) + self.X @ beta))

    def leverages(self, inverse: np.ndarray) -> np.ndarray:
        """Return the leverages (n,) of the rows."""
        return self.groups.forms(inverse)

    def error_sums(self, state: RowState, extra: Extra, h: np.ndarray) -> ErrorSums:
        """Return what the next terms of Laplace's expansion ask of the rows."""
        return error_sums_of(self.groups.Zt, self.response, state, extra, h)

    def extent(self, state: RowState) -> tuple[float, float]:
        """Return the largest linear predictor, and a change of one over which the mean curves."""
        return float(np.abs(state.eta).max()), self.response.family.link.bend(state.eta)

    def extremes(self, state: RowState, extra: Extra) -> Extremes:
        """Return what the rows are like, for messages."""
        return self.response.extremes(state, extra)

    def pearson(self, state: RowState) -> float:
        """Return the sum of ``s^2 / W_e``."""
        weights = np.where(state.expected > 0, state.expected, 1.0)
        return float((state.score**2 / weights).sum())

    def random_part_transposed(self, lams: Sequence[np.ndarray], v: np.ndarray) -> np.ndarray:
        """Return ``Lambda'Z'v`` (q,) or (q, k)."""
        return self.groups.layout.multiply(lams, self.groups.Zt(v), transpose=True)

    def refactor(self, weights: np.ndarray, lams: Sequence[np.ndarray]) -> None:
        """Factor ``Lambda'Z'WZ Lambda + I``."""
        self.groups.reweight(weights)
        self.factor.reload()
        self.factor.update(lams)


class Mode(NamedTuple):
    """The conditional mode at one set of parameters; the factor stands there."""

    u: np.ndarray  # (q,)
    beta: np.ndarray  # (p,)
    state: RowState
    penalized: float  # ``-2 log f(y | u) + |u|^2``
    is_rough: bool  # whether its last step promised more than `LAST_STEP`


def conditional_mode(
    model: RowModel,
    lams: Sequence[np.ndarray],
    beta: np.ndarray,
    extra: Extra,
    u: np.ndarray,
    with_beta: bool,
    near: float = 0.0,
    gain: float = 0.0,
) -> Mode:
    """Find the mode of u, or of u and beta, from a start; leave the factor at it.

    The factor is left with the weights of the family's information, which ``log|M|`` takes. From
    a start that leads nowhere the search goes back to u = 0.

    Parameters
    ----------
    with_beta : bool
        Whether beta is part of the mode.
    near : float
        Beta stays where it is once a step with it promises less than this.
    gain : float
        What the search's step there promises: the mode is only as exact as that asks for.

    Raises
    ------
    FitError
        If no start is inside the domain, or no step lowers the penalized deviance.
    """
    try:
        return _mode_from(model, lams, beta, extra, u, with_beta, near, gain)
    except FitError:
        if not u.any():
            raise
    return _mode_from(model, lams, beta, extra, np.zeros_like(u), with_beta, near, gain)


def _mode_from(
    model: RowModel,
    lams: Sequence[np.ndarray],
    beta: np.ndarray,
    extra: float,
    u: np.ndarray,
    with_beta: bool,
    near: float,
    gain: float,
) -> Mode:
    """Find the mode from one start."""
    fixed, multiply = model.fixed_part(beta), model.groups.layout.multiply
    u, state = _first_state(model, lams, fixed, extra, u)
    penalized, at_saddle, factored, is_rough = _penalized(state, u), 0, None, False
    for _ in range(MAX_STEPS):
        gradient = multiply(lams, model.Zt(state.score), transpose=True) - u
        scoring, (step_u, step_beta, decrement) = _positive_step(
            model, state, lams, gradient, with_beta
        )
        if decrement < HERE and not scoring:
            factored = state.observed
            break
        at_saddle = at_saddle + 1 if scoring and decrement < SADDLE else 0
        if at_saddle > MOST_AT_SADDLE:
            raise FitError(_saddle(model))
        last = decrement < LAST_STEP and not scoring
        slack, share = NOISE * (1.0 + abs(penalized)), 1.0
        for _ in range(MAX_HALVINGS):
            new_u, new_beta = u + step_u, beta
            if with_beta:
                new_beta = beta + step_beta
                fixed = model.fixed_part(new_beta)
            new_state = model.at(fixed, lams, new_u, extra)
            if new_state is not None:
                value = _penalized(new_state, new_u)
                # The last step is too small to be seen in the value.
                if last or value <= penalized - 1e-4 * share * decrement + slack:
                    break
            share, step_u, step_beta = 0.5 * share, 0.5 * step_u, 0.5 * step_beta
        else:
            if not decrement <= slack:
                raise FitError(_cause(model, state, decrement))
            break
        u, beta, state, penalized = new_u, new_beta, new_state, value
        if (last and share == 1.0) or decrement < 1e-3 * slack:
            break
        if decrement < ROUGH * gain and share == 1.0 and not scoring:
            is_rough = True
            break
        with_beta = with_beta and not decrement < near
    else:
        raise FitError(
            f"PIRLS did not converge in {MAX_STEPS} steps: the conditional modes of the random "
            "effects still change; rescale the response, use another link, or start elsewhere "
            "(start=)"
        )
    if factored is not model.response.weights_of(state):
        model.refactor(model.response.weights_of(state), lams)
    return Mode(u, beta, state, penalized, is_rough)


def _first_state(
    model: RowModel,
    lams: Sequence[np.ndarray],
    fixed: np.ndarray,
    extra: float,
    u: np.ndarray,
) -> tuple[np.ndarray, RowState]:
    """Return a start inside the domain: the one given, or the mean without random effects."""
    state = model.at(fixed, lams, u, extra)
    if state is None and u.any():
        u = np.zeros_like(u)
        state = model.at(fixed, lams, u, extra)
    if state is not None:
        return u, state
    family = model.response.family
    raise FitError(
        f"the linear predictor leaves the domain of the {family.link.name} link of the "
        f"{family.name} family (a mean that is not possible, or infinite); use another link, or "
        "start elsewhere (start=)"
    )


def _penalized(state: RowState, u: np.ndarray) -> float:
    return -2.0 * state.log_density + float(u @ u)


def _positive_step(
    model: RowModel,
    state: RowState,
    lams: Sequence[np.ndarray],
    gradient: np.ndarray,
    with_beta: bool,
) -> tuple[bool, tuple[np.ndarray, np.ndarray, float]]:
    """Return `_newton_step` by observed information, where the factor is left.

    Where only the expected one is positive it is by that, and True comes first.
    """

    def step(weights: Any) -> tuple[np.ndarray, np.ndarray, float]:
        model.refactor(weights, lams)
        return _newton_step(model, lams, weights, gradient, state.score, with_beta)

    if state.observed is not state.expected:
        try:
            return False, step(state.observed)
        except FitError:
            return True, step(state.expected)
    return False, step(state.observed)


def _newton_step(
    model: RowModel,
    lams: Sequence[np.ndarray],
    weights: Any,
    gradient: np.ndarray,
    score: Any,
    with_beta: bool,
) -> tuple[np.ndarray, np.ndarray, float]:
    """Return steps of u, and of beta if in the mode, and what the deviance falls by them."""
    factor = model.factor
    if not with_beta or not model.p:
        half = factor.solve_half(gradient)
        return factor.solve_rest(half), NO_STEP, float(factor.form(half, gradient))
    UtWX, XtWX = fixed_products(model, lams, weights)
    right = np.concatenate([UtWX, gradient[:, None]], axis=1)
    solved = factor.solve_half(right)
    gram = factor.form(solved, right)  # of a Cholesky factor: [RZX cu]'[RZX cu]
    rhs = model.fixed_part_transposed(score) - gram[:-1, -1]
    try:
        RX = small.root(XtWX - gram[:-1, :-1])
    except np.linalg.LinAlgError as error:
        raise FitError(
            "the fixed effects cannot be told from the random effects, or from each other, at "
            "the weights of this fit (X'V^-1 X is singular); drop a term"
        ) from error
    cbeta = solve_upper(RX, rhs, transpose=True)
    step_beta = solve_upper(RX, cbeta)
    step_u = factor.solve_rest(solved[:, -1] - solved[:, :-1] @ step_beta)
    return step_u, step_beta, float(gram[-1, -1] + cbeta @ cbeta)


def fixed_products(
    model: RowModel, lams: Sequence[np.ndarray], weights: Any
) -> tuple[np.ndarray, np.ndarray]:
    """Return ``Lambda'Z'WX`` (q, p) and ``X'WX`` (p, p)."""
    gram = model.gram(weights)
    return model.groups.layout.multiply(lams, gram.ZtWX, transpose=True), gram.XtWX


def _saddle(model: RowModel) -> str:
    family = model.response.family
    return (
        f"PIRLS has come to a saddle: where the random effects' score vanishes, their observed "
        f"information is not positive definite ({family.name} family, {family.link.name} link), "
        "so there is no conditional mode to expand at; use a link that keeps means inside their "
        "range, such as the log, or start elsewhere (start=)"
    )


def _cause(model: RowModel, state: RowState, decrement: float) -> str:
    family = model.response.family
    extreme, curved = model.extent(state)
    hint = (
        f"the linear predictor reaches {extreme:.3g}: rescale predictors or offset"
        if extreme > 50.0 * curved
        else "start elsewhere (start=), or use the canonical link"
    )
    return (
        f"PIRLS step-halvings failed to lower the penalized deviance ({family.name} family, "
        f"{family.link.name} link; a full step promised {decrement:.2g}): {hint}"
    )
