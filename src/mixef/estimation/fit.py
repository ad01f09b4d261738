"""The frozen fit: data, formula, specs and estimates; and the search that makes it."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from mixef.control import LmerControl, act
from mixef.errors import ConvergenceWarning, DataError, DataWarning, FitError, SingularFitWarning
from mixef.estimation.convergence import Convergence, judge
from mixef.estimation.linear import Estimates, LinearCriterion
from mixef.estimation.magnitudes import LARGEST, refuse_extremes
from mixef.estimation.optimize import SearchResult, Step, newton, scipy_search
from mixef.estimation.singular import VanishedDirection, vanished_directions
from mixef.linalg.standardize import independent_columns, root_weighted
from mixef.linalg.threads import one_blas_thread
from mixef.terms.covariance import Unstructured
from mixef.terms.fixed import Design
from mixef.terms.formula import Formula
from mixef.terms.frame import ModelFrame, numeric_response
from mixef.terms.random import RandomTerm, check_terms

# A diagonal of a template (in units of the scaled columns) that may as well be zero ...
VANISHING = 1e-3
# ... where setting it to zero costs the criterion no more than this.
VANISHING_COST = 1e-8
# A residual standard deviation below this share of the response's (fixed effects taken out) is
# at the rounding of the sum of squares, about the root of the machine's precision.
EXACT = 1e-6


@dataclass(frozen=True)
class ModelCall:
    """The arguments that a model was asked for with, as ``update`` needs them.

    Attributes
    ----------
    data : Any
        The data frame; a pandas frame is held by a copy that shares its columns.
    data_name : str or None
        What the caller calls it.
    weights, offset, subset, contrasts, na_action
        As given.
    """

    data: Any = None
    data_name: str | None = None
    weights: Any = None
    offset: Any = None
    subset: Any = None
    na_action: str = "omit"
    contrasts: dict[str, Any] | None = None


@dataclass(frozen=True, eq=False)
class LMMFit:
    """A fitted linear mixed model: all that a method, a refit or a profile needs.

    Attributes
    ----------
    formula : Formula
    frame : ModelFrame
        Response, weights, offset and rows kept.
    design : Design
        Fixed-effects columns, aliased ones included.
    kept : ndarray of int (p,)
        Columns of the design that are estimated.
    terms : tuple of RandomTerm
        In lme4's internal order.
    REML : bool
    control : LmerControl
    call : ModelCall
    scaled_par : ndarray (k,)
        Parameters of the scaled problem at the end of the search.
    estimates : Estimates
    convergence : Convergence
    vanished : tuple of VanishedDirection
        Directions without variance; empty unless the fit is singular.
    """

    formula: Formula
    frame: ModelFrame
    design: Design
    kept: np.ndarray
    terms: tuple[RandomTerm, ...]
    REML: bool
    control: LmerControl
    call: ModelCall
    scaled_par: np.ndarray
    estimates: Estimates
    convergence: Convergence
    vanished: tuple[VanishedDirection, ...]

    @property
    def X(self) -> np.ndarray:
        """Fixed-effects columns that are estimated (n, p)."""
        return self.design.matrix[:, self.kept]

    @property
    def fixed_names(self) -> tuple[str, ...]:
        """Names of the estimated coefficients (p)."""
        return tuple(self.design.names[j] for j in self.kept)

    @property
    def dropped_names(self) -> tuple[str, ...]:
        """Names of the columns dropped as combinations of earlier ones."""
        kept = set(self.kept.tolist())
        return tuple(name for j, name in enumerate(self.design.names) if j not in kept)

    @property
    def par_labels(self) -> list[str]:
        """Names of the covariance parameters."""
        return par_labels(self.terms)

    @property
    def groups(self) -> dict[str, list[int]]:
        """The terms (their positions) of each grouping factor."""
        out: dict[str, list[int]] = {}
        for t, term in enumerate(self.terms):
            out.setdefault(term.group, []).append(t)
        return out

    @property
    def npar(self) -> int:
        """Number of parameters: fixed effects, covariance parameters and sigma."""
        return len(self.kept) + len(self.estimates.par) + 1

    def criterion(self) -> LinearCriterion:
        """Return the criterion of this model on its data; built once, not pickled."""
        cached = self.__dict__.get("_criterion")
        if cached is None:
            cached = make_criterion(self.frame, self.X, self.terms, self.REML, self.formula)
            object.__setattr__(self, "_criterion", cached)
        return cached

    def __getstate__(self) -> dict[str, Any]:
        return {k: v for k, v in self.__dict__.items() if k != "_criterion"}


def par_labels(terms: tuple[RandomTerm, ...]) -> list[str]:
    """Name the covariance parameters of all terms, as lme4 names theta."""
    return [label for term in terms for label in term.structure.labels(term.group, term.columns)]


def theta_labels(terms: tuple[RandomTerm, ...]) -> list[str]:
    """Name the entries of theta: each term's lower triangle, column by column."""
    return [
        label
        for term in terms
        for label in Unstructured(len(term.columns)).labels(term.group, term.columns)
    ]


def make_criterion(
    frame: ModelFrame, X: np.ndarray, terms: tuple[RandomTerm, ...], REML: bool, formula: Formula
) -> LinearCriterion:
    """Return the criterion of a model whose fixed-effects columns are independent."""
    y = numeric_response(frame)
    if frame.offset is not None:
        y = y - frame.offset
    name = "" if formula.response is None else formula.response.text
    return LinearCriterion(X, y, terms, frame.weights, REML, name)


def fit_lmm(
    formula: Formula,
    frame: ModelFrame,
    design: Design,
    terms: tuple[RandomTerm, ...],
    REML: bool,
    control: LmerControl,
    *,
    call: ModelCall,
    start: np.ndarray | None = None,
    trace: Callable[[Step], None] | None = None,
) -> LMMFit:
    """Check the model, search, and judge the end.

    Parameters
    ----------
    start : ndarray (k,), optional
        Covariance parameters on the user's scale; moment estimates by default.
    trace : callable, optional
        Called with every evaluation; its parameters are on the user's scale.
    """
    with one_blas_thread():
        fit = _fitted(formula, frame, design, terms, REML, control, call, start, trace)
    _report(fit)
    return fit


def _fitted(formula, frame, design, terms, REML, control, call, start, trace) -> LMMFit:
    check_terms(terms, frame.n, control)
    _refuse_extremes(formula, frame, design, terms)
    kept = _independent(design, frame, control)
    if REML and len(kept) >= frame.n:
        raise DataError(
            f"{frame.n} observations cannot determine {len(kept)} fixed effects and a variance: "
            "drop fixed effects or add data"
        )
    criterion = make_criterion(frame, design.matrix[:, kept], terms, REML, formula)
    labels = par_labels(terms)
    begin = criterion.start() if start is None else _starting_point(start, criterion, terms)
    result = search(criterion, begin, control, _on_user_scale(criterion, trace))
    estimates = criterion.estimates(result.par)
    convergence = judge(
        result, criterion.scale(result.par), labels, criterion.user_gradient(), control.optimizer
    )
    _refuse_exact(criterion, estimates, convergence)
    fit = LMMFit(
        formula,
        frame,
        design,
        kept,
        terms,
        REML,
        control,
        call,
        result.par,
        estimates,
        convergence,
        vanished_directions(criterion, result.par, terms),
    )
    criterion.release()
    object.__setattr__(fit, "_criterion", criterion)
    return fit


def search(
    criterion: LinearCriterion,
    start: np.ndarray,
    control: LmerControl,
    trace: Callable[[Step], None] | None = None,
) -> SearchResult:
    """Search with the optimizer of ``control``; Newton also certifies singular ends.

    Where a template's diagonal vanishes, the template is brought to the form with zero columns,
    whose free entries reach every direction that has no variance, and the search goes on: a
    saddle is left by the negative curvature that it has there.
    """
    if control.optimizer != "newton":
        return scipy_search(criterion, start, control.optimizer, control.max_evaluations, trace)
    result = newton(criterion, start, control.max_evaluations, trace)
    snapped = criterion.parametrization.canonical(result.par, VANISHING)
    plain = criterion.parametrization.canonical(result.par)
    left = control.max_evaluations - result.n_evaluations
    if np.array_equal(snapped, plain) or left < 1:
        return result
    if not criterion.value(snapped) <= result.objective + VANISHING_COST:
        criterion.value(result.par)
        return result
    again = newton(criterion, snapped, left, trace)
    return replace(
        again,
        n_evaluations=result.n_evaluations + again.n_evaluations,
        log=result.log + again.log,
    )


def _refuse_extremes(formula, frame, design, terms) -> None:
    """Refuse columns, response and weights that cannot be squared."""
    name = "the response" if formula.response is None else formula.response.text
    y = frame.y
    if frame.offset is not None:
        name, y = f"{name} - offset", frame.y - frame.offset
    parts = [((name,), y[:, None]), (design.names, design.matrix)]
    if frame.weights is not None:
        parts.append((("weights",), frame.weights[:, None]))
    refuse_extremes([*parts, *((term.columns, term.z) for term in terms)])


def _refuse_exact(criterion: LinearCriterion, estimates: Estimates, end: Convergence) -> None:
    """Refuse a response without residual variance, where the criterion has no minimum."""
    if not end.converged and estimates.sigma < EXACT * criterion.response_scale:
        raise FitError(
            "the fixed and random effects together fit the response exactly, up to rounding: "
            f"the residual standard deviation goes to zero (it is {estimates.sigma:.1e}), and the "
            "likelihood has no maximum; check whether the response is made of the predictors and "
            "groups, or use fewer random effects"
        )


def _independent(design: Design, frame: ModelFrame, control: LmerControl) -> np.ndarray:
    """Return the columns of X that are independent, after the checks of X."""
    X = root_weighted(design.matrix, frame.weights)
    kept = independent_columns(X)
    dropped = [name for j, name in enumerate(design.names) if j not in set(kept.tolist())]
    if dropped:
        columns = (
            "1 column / coefficient"
            if len(dropped) == 1
            else (f"{len(dropped)} columns / coefficients")
        )
        act(
            control.check_rankX,
            f"fixed-effect model matrix is rank deficient so dropping {columns}: "
            f"{', '.join(dropped)}; the data cannot tell them from the columns before",
            DataError,
            DataWarning,
        )
    if control.check_scaleX != "ignore":
        _check_scale(design, control)
    return kept


def _check_scale(design: Design, control: LmerControl) -> None:
    spread = design.matrix.std(axis=0)
    spread = np.where(spread > 0, spread, 1.0)
    logs = np.abs(np.log(spread))
    worst = int(np.argmax(logs))
    if max(logs[worst], np.ptp(np.log(spread))) > np.log(1e3):
        act(
            control.check_scaleX,
            "Some predictor variables are on very different scales "
            f"({design.names[worst]} has standard deviation {spread[worst]:.2g}); the fit "
            "is the same on any scale, but consider rescaling for readable coefficients",
            DataError,
            DataWarning,
        )


def _starting_point(
    start: Any, criterion: LinearCriterion, terms: tuple[RandomTerm, ...]
) -> np.ndarray:
    """Return the scaled parameters (k,) of the user's ``start``."""
    if not isinstance(start, Mapping):
        return criterion.scaled_par(checked_parameters(start, par_labels(terms)))
    if "par" in start:
        return criterion.scaled_par(checked_parameters(start["par"], par_labels(terms)))
    if "theta" not in start:
        raise DataError(f"start has the keys {list(start)}; expected 'par' or 'theta'")
    theta = checked_parameters(start["theta"], theta_labels(terms))
    return criterion.scaled_par(criterion.parametrization.par_of_theta(theta))


def checked_parameters(values: Any, labels: Sequence[str]) -> np.ndarray:
    """Return covariance parameters (k,) of the user's as floats, one a label."""
    expected = f"expected {len(labels)} finite numbers: {', '.join(labels)}"
    try:
        par = np.asarray(values, dtype=float).ravel()
    except (TypeError, ValueError):
        raise DataError(f"the covariance parameters are {values!r}; {expected}") from None
    if len(par) != len(labels):
        raise DataError(f"the covariance parameters are {len(par)} values; {expected}")
    if not (np.abs(par) < LARGEST).all():
        raise DataError(f"the covariance parameters are {par.tolist()}; {expected}")
    return par


def _on_user_scale(criterion: LinearCriterion, trace):
    if trace is None:
        return None

    def translated(step: Step) -> None:
        par = criterion.parametrization.par(criterion.user_lams(step.par))
        trace(replace(step, par=par))

    return translated


def _report(fit: LMMFit) -> None:
    """Issue the warnings that the end of the search asks for."""
    control, end = fit.control, fit.convergence
    for problem in end.problems:
        is_flat = bool(end.flat) and problem is end.problems[-1]
        action = control.check_conv_hess if is_flat else control.check_conv_grad
        act(action, problem, FitError, ConvergenceWarning)
    if fit.vanished:
        act(
            control.check_conv_singular,
            "boundary (singular) fit: " + "; ".join(str(v) for v in fit.vanished),
            FitError,
            SingularFitWarning,
        )
