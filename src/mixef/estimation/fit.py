"""Fitting a linear mixed model: checks, search, and the frozen fit."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any

import numpy as np

from mixef.control import LmerControl
from mixef.errors import DataError, FitError
from mixef.estimation.convergence import Convergence, judge
from mixef.estimation.linear import Curvature, Estimates, LinearCriterion
from mixef.estimation.model import (
    Fit,
    ModelCall,
    checked_start,
    independent,
    par_labels,
    refuse_extreme_columns,
    report,
    response_name,
    starting_covariances,
)
from mixef.estimation.optimize import Step
from mixef.estimation.search import search, search_from, search_others
from mixef.estimation.singular import vanished_directions
from mixef.linalg.row_pieces import RowPieces
from mixef.linalg.threads import one_blas_thread
from mixef.terms.fixed import Design
from mixef.terms.formula import Formula
from mixef.terms.frame import ModelFrame, numeric_response
from mixef.terms.random import RandomTerm, check_terms

# A residual standard deviation below this share of the response's (fixed effects taken out) is
# at the rounding of the sum of squares, about the root of the machine's precision.
EXACT = 1e-6


@dataclass(frozen=True, eq=False, kw_only=True, repr=False)
class LMMFit(Fit):
    """A fitted linear mixed model.

    Attributes
    ----------
    REML : bool
    scaled_par : ndarray (k,)
        Parameters of the scaled problem at the end of the search.
    estimates : Estimates
    """

    control: LmerControl
    REML: bool
    scaled_par: np.ndarray
    estimates: Estimates

    @property
    def npar(self) -> int:
        """Number of parameters: fixed effects, covariance parameters and sigma."""
        return len(self.kept) + len(self.estimates.par) + 1

    @property
    def covariance_scale(self) -> float:
        """What ``lam lam'`` is relative to: sigma squared."""
        return self.estimates.sigma**2

    @property
    def vcov(self) -> np.ndarray:
        """Covariance ``sigma^2 (RX'RX)^-1`` of the fixed effects (p, p)."""
        return self.estimates.sigma**2 * self.estimates.unscaled_vcov

    @property
    def point(self) -> np.ndarray:
        """Where the search ended."""
        return self.scaled_par

    @cached_property
    def curvature(self) -> Curvature:
        """The Hessian over all covariance parameters and log sigma, and slopes of `vcov`."""
        return self.criterion().curvature(self.scaled_par)

    def criterion(self) -> LinearCriterion:
        """Return the criterion of this model on its data; built once, not pickled."""
        cached = self.__dict__.get("_criterion")
        if cached is None:
            cached = make_criterion(
                self.frame,
                RowPieces(self.design.matrix, kept=self.kept),
                self.terms,
                self.REML,
                self.formula,
            )
            object.__setattr__(self, "_criterion", cached)
        return cached


def make_criterion(
    frame: ModelFrame,
    X: np.ndarray | RowPieces,
    terms: tuple[RandomTerm, ...],
    REML: bool,
    formula: Formula,
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
    report(fit)
    return fit


def _fitted(formula, frame, design, terms, REML, control, call, start, trace) -> LMMFit:
    check_terms(terms, frame.n, control)
    name, y = response_name(formula), numeric_response(frame)
    if frame.offset is not None:
        name, y = f"{name} - offset", y - frame.offset
    refuse_extreme_columns(y, name, frame, design, terms)
    kept = independent(design, frame.weights, control)
    if REML and len(kept) >= frame.n:
        raise DataError(
            f"{frame.n} observations cannot determine {len(kept)} fixed effects and a variance: "
            "drop fixed effects or add data"
        )
    criterion = make_criterion(frame, RowPieces(design.matrix, kept=kept), terms, REML, formula)
    labels = par_labels(terms)
    begin, translated = criterion.start(), _on_user_scale(criterion, trace)
    if start is None:
        result = search(criterion, begin, control, translated)
    else:
        chosen = _starting_point(start, criterion, terms)
        result = search_from(criterion, chosen, begin, control, translated)
    result = search_others(criterion, result, control, translated)
    estimates = criterion.estimates(result.par)
    convergence = judge(
        result,
        criterion.scale(result.par),
        labels,
        criterion.user_gradient(),
        control.optimizer,
        void=criterion.parametrization.void(result.par),
    )
    _refuse_exact(criterion, estimates, convergence)
    fit = LMMFit(
        formula=formula,
        frame=frame,
        design=design,
        kept=kept,
        terms=terms,
        REML=REML,
        control=control,
        call=call,
        scaled_par=result.par,
        estimates=estimates,
        convergence=convergence,
        vanished=vanished_directions(criterion.terms, result.par, terms),
    )
    criterion.release()
    object.__setattr__(fit, "_criterion", criterion)
    return fit


def _refuse_exact(criterion: LinearCriterion, estimates: Estimates, end: Convergence) -> None:
    """Refuse a response without residual variance, where the criterion has no minimum."""
    if not end.converged and estimates.sigma < EXACT * criterion.response_scale:
        raise FitError(
            "the fixed and random effects together fit the response exactly, up to rounding: "
            f"the residual standard deviation goes to zero (it is {estimates.sigma:.1e}), and the "
            "likelihood has no maximum; check whether the response is made of the predictors and "
            "groups, or use fewer random effects"
        )


def _starting_point(
    start: Any, criterion: LinearCriterion, terms: tuple[RandomTerm, ...]
) -> np.ndarray:
    """Return the scaled parameters (k,) of the user's ``start``."""
    x = starting_covariances(checked_start(start), terms, criterion.parametrization)
    assert x is not None
    return criterion.terms.scaled_coordinates(x)


def _on_user_scale(criterion: LinearCriterion, trace):
    if trace is None:
        return None

    def translated(step: Step) -> None:
        trace(replace(step, par=criterion.terms.user_par(step.par)))

    return translated
