"""Fitting a generalized linear mixed model: checks, search, Hessian, and the frozen fit."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, replace
from functools import cached_property, partial
from typing import Any

import numpy as np

from mixef.control import GlmerControl, act
from mixef.errors import ConvergenceWarning, DataError, DataWarning, FitError
from mixef.estimation.convergence import judge
from mixef.estimation.generalized import GeneralizedCriterion, GeneralizedEstimates
from mixef.estimation.generalized_end import (
    FALLBACK,
    edge_message,
    is_exact,
    laplace_message,
    observed_is_negative,
    remedy,
    with_separation,
)
from mixef.estimation.generalized_start import NO_SCALE
from mixef.estimation.hessian import inverse_hessian
from mixef.estimation.model import (
    NO_HESSIAN,
    Fit,
    ModelCall,
    checked_parameters,
    checked_start,
    independent,
    par_labels,
    refuse_extreme_columns,
    report,
    response_name,
    starting_covariances,
)
from mixef.estimation.optimize import FLAT, SearchResult, Step, derivatives_at
from mixef.estimation.quadrature import check_quadrature
from mixef.estimation.response import Response
from mixef.estimation.search import better, is_back, search, search_from, search_others
from mixef.estimation.singular import vanished_directions
from mixef.estimation.user_density import check_variance
from mixef.families.family import Family
from mixef.families.standard import FAMILIES
from mixef.linalg.threads import one_blas_thread
from mixef.terms.fixed import Design
from mixef.terms.formula import Formula
from mixef.terms.frame import ModelFrame
from mixef.terms.outcome import Outcome
from mixef.terms.random import RandomTerm, check_terms

# How much larger than at first the covariances are from which a second search starts.
LARGER = 3.0


@dataclass(frozen=True, eq=False, kw_only=True, repr=False)
class GLMMFit(Fit):
    """A fitted generalized linear mixed model.

    Attributes
    ----------
    family : Family
    outcome : Outcome
        The response as the family takes it.
    nAGQ : int
    point : ndarray (K,)
        Parameters of the scaled problem at the end of the search: covariance parameters,
        coefficients unless nAGQ is 0, log of the extra parameter where there is one.
    estimates : GeneralizedEstimates
    hessian : ndarray (K, K) or None
        Exact Hessian of -2 log L at ``point``; None where it is not that of a minimum.
    """

    control: GlmerControl
    family: Family
    outcome: Outcome
    nAGQ: int
    point: np.ndarray
    estimates: GeneralizedEstimates
    hessian: np.ndarray | None

    @property
    def npar(self) -> int:
        """Number of parameters: fixed effects, covariance parameters, dispersion or shape."""
        return len(self.kept) + len(self.estimates.par) + (self.family.extra is not None)

    @property
    def covariance_scale(self) -> float:
        """What ``lam lam'`` is relative to: nothing, it is on the scale of the link."""
        return 1.0

    @property
    def scaled_par(self) -> np.ndarray:
        """Covariance parameters of the scaled problem (k,)."""
        return self.point[: len(self.estimates.par)]

    @cached_property
    def vcov(self) -> np.ndarray:
        """Covariance of the fixed effects (p, p): of the Hessian, if there is one."""
        k, p = len(self.estimates.par), len(self.kept)
        if self.hessian is None or self.nAGQ == 0:
            return self.estimates.unscaled_vcov
        covariance = inverse_hessian(self.hessian)[0][k : k + p, k : k + p]
        criterion = self.criterion()
        half = criterion.user_beta(covariance)
        return criterion.user_beta(half.T).T

    @property
    def extra_label(self) -> str | None:
        """Name of the extra parameter's logarithm."""
        return None if self.family.extra is None else f"log({self.family.extra})"

    @property
    def labels(self) -> list[str]:
        """Names of all parameters of the search (K,)."""
        return search_labels(self.terms, self.fixed_names, self.family, self.nAGQ)

    def criterion(self) -> GeneralizedCriterion:
        """Return the criterion of this model on its data; built once, not pickled."""
        cached = self.__dict__.get("_criterion")
        if cached is None:
            cached = make_criterion(self.frame, self.X, self.terms, self.family, self.outcome,
                                    self.nAGQ, self.control.information)  # fmt: skip
            object.__setattr__(self, "_criterion", cached)
        return cached


def search_labels(terms, fixed_names, family: Family, nAGQ: int) -> list[str]:
    """Name the parameters of the search: par, coefficients, log of the extra parameter."""
    fixed = [] if nAGQ == 0 else list(fixed_names)
    extra = [] if family.extra is None else [f"log({family.extra})"]
    return [*par_labels(terms), *fixed, *extra]


def make_criterion(
    frame: ModelFrame,
    X: np.ndarray,
    terms: tuple[RandomTerm, ...],
    family: Family,
    outcome: Outcome,
    nAGQ: int,
    information: str | None,
) -> GeneralizedCriterion:
    """Return the criterion of a model whose fixed-effects columns are independent."""
    response = Response(family, outcome.y, outcome.weights, information, outcome.copies)
    if type(family) not in FAMILIES.values():
        check_variance(response)
    return GeneralizedCriterion(X, response, frame.offset, terms, nAGQ)


def fit_glmm(
    formula: Formula,
    frame: ModelFrame,
    design: Design,
    terms: tuple[RandomTerm, ...],
    family: Family,
    outcome: Outcome,
    nAGQ: int,
    control: GlmerControl,
    *,
    call: ModelCall,
    start: Any = None,
    trace: Callable[[Step], None] | None = None,
) -> GLMMFit:
    """Check the model, search, and judge the end.

    Parameters
    ----------
    start : array (k,) or dict, optional
        Covariance parameters on the user's scale, or a dict of "par" or "theta", "beta", and
        the name of the family's extra parameter; estimates of simpler models by default.
    trace : callable, optional
        Called with every evaluation; its parameters are on the user's scale.
    """

    def fitted(control: GlmerControl) -> GLMMFit:
        try:
            return _fitted(
                formula, frame, design, terms, family, outcome, nAGQ, control, call, start, trace
            )
        except np.linalg.LinAlgError:
            raise FitError(
                "the linear predictor reaches beyond what double precision computes with: rescale "
                "the predictors, or check the offset and the weights"
            ) from None

    with one_blas_thread():
        fit = _by_either_information(fitted, control, family)
    if fit.convergence.separation:
        message = fit.convergence.separation
        act(control.check_separation, message, FitError, ConvergenceWarning)
    for remark in fit.convergence.remarks:
        act(control.check_laplace, remark, FitError, ConvergenceWarning)
    report(fit)
    return fit


def _by_either_information(
    fitted: Callable[[GlmerControl], GLMMFit], control: GlmerControl, family: Family
) -> GLMMFit:
    """Fit by the family's information; by the expected one where the observed one leads nowhere."""
    fit = failure = None
    try:
        fit = fitted(control)
    except FitError as error:
        failure = error
    chosen = control.information is not None or family.information == "expected"
    if chosen or family.is_canonical or control.optimizer != "newton":
        nowhere = False
    elif fit is None:
        nowhere = True
    else:
        ended = fit.convergence.converged
        nowhere = not ended and observed_is_negative(fit.criterion().response, fit.estimates)
    if nowhere:
        with suppress(FitError):
            other = fitted(replace(control, information="expected"))
            if fit is None or other.convergence.converged:
                remarks = (FALLBACK, *other.convergence.remarks)
                return replace(other, convergence=replace(other.convergence, remarks=remarks))
    if fit is None:
        assert failure is not None
        raise failure
    return fit


def _fitted(formula, frame, design, terms, family, outcome, nAGQ, control, call, start, trace):
    check_terms(terms, frame.n, control, family.extra is not None)
    check_quadrature(nAGQ, terms)
    name = response_name(formula)
    refuse_extreme_columns(outcome.y, name, frame, design, terms)
    if np.ptp(outcome.y) == 0:
        act(
            control.check_response_not_const,
            f"Response is constant: {name} is {outcome.y[0]:g} in all {frame.n} rows, so there is "
            "nothing to explain; check the response, or set check_response_not_const in "
            "GlmerControl",
            DataError,
            DataWarning,
        )
    kept = independent(design, outcome.weights, control)
    X = design.columns(kept)
    names = [design.names[j] for j in kept]
    criterion = make_criterion(frame, X, terms, family, outcome, nAGQ, control.information)
    labels = search_labels(terms, names, family, nAGQ)
    begin, chosen = _first_inside(criterion), None
    if start is not None:
        chosen = _starting_point(start, criterion, terms, names)
    if not np.isfinite(criterion.value(begin)):
        raise criterion.failure
    result = _searched(criterion, begin, chosen, control, _on_user_scale(criterion, trace), terms)
    hessian, exact = None, criterion.hessian(result.par)
    if exact is not None:
        result = replace(result, information=exact)
        hessian = exact if np.linalg.eigvalsh(exact).min(initial=0.0) > -FLAT else None
    error = criterion.laplace_error(result.par) if nAGQ < 2 else None
    estimates = criterion.estimates(result.par)
    convergence = judge(
        result,
        criterion.scale(result.par),
        labels,
        criterion.user_gradient(),
        control.optimizer,
        lambda flat: remedy(flat, family, names),
        criterion.parametrization.void(result.par[: len(estimates.par)]),
    )
    if not convergence.converged and is_exact(family, outcome, estimates):
        raise FitError(NO_SCALE)
    if not convergence.converged and (edge := edge_message(family, estimates.mu)):
        convergence = replace(convergence, problems=(edge, *convergence.problems[1:]))
    if hessian is None and nAGQ > 0 and convergence.converged:
        convergence = replace(convergence, problems=(NO_HESSIAN, *convergence.problems))
    if error is not None and error.is_large:
        message = laplace_message(error, terms, criterion.response)
        convergence = replace(convergence, remarks=(message,))
    if control.check_separation != "ignore":
        eta = X @ estimates.beta + (0.0 if frame.offset is None else frame.offset)
        convergence = with_separation(convergence, X, outcome, family, eta, estimates, terms, names)
    fit = GLMMFit(
        formula=formula,
        frame=frame,
        design=design,
        kept=kept,
        terms=terms,
        family=family,
        outcome=outcome,
        nAGQ=nAGQ,
        control=control,
        call=call,
        point=result.par,
        estimates=estimates,
        hessian=hessian,
        convergence=convergence,
        vanished=vanished_directions(criterion.terms, result.par[: len(estimates.par)], terms),
    )
    criterion.release()
    object.__setattr__(fit, "_criterion", criterion)
    return fit


def _searched(
    criterion: GeneralizedCriterion, begin, chosen, control, trace, terms
) -> SearchResult:
    """Search; where the end is singular, once more from large covariances.

    Laplace's approximation can have several minima, and the one with a vanished variance need not
    be the lowest.
    """
    if chosen is None:
        result = search(criterion, begin, control, trace)
    else:
        result = search_from(criterion, chosen, begin, control, trace)
    result = search_others(criterion, result, control, trace)
    k = criterion.parametrization.n_par
    left = control.max_evaluations - result.n_evaluations
    if control.optimizer != "newton" or left < 1:
        return result
    if not vanished_directions(criterion.terms, result.par[:k], terms):
        return result
    P = criterion.parametrization
    size = LARGER * max(float(np.abs(lam).max()) for lam in P.term_lams(begin[:k]))
    large = P.resized(P.start(), size)
    _, beta, extra = criterion.split(result.par)
    start = criterion.join(large, beta, extra)
    if not np.isfinite(criterion.value(start)) or derivatives_at(criterion) is None:
        return result
    other = search(
        criterion,
        start,
        replace(control, max_evaluations=left),
        trace,
        until=partial(is_back, criterion, result),
    )
    return better(criterion, result, other)


def _first_inside(criterion: GeneralizedCriterion) -> np.ndarray:
    """Return starting values with a finite criterion and derivatives, if there are any.

    Smaller random effects and coefficients further inside the domain are tried one by one.
    """
    par, beta, extra = criterion.split(criterion.start())
    for share, inward in ((1.0, 0.0), (0.1, 0.0), (0.01, 0.0), (0.1, 0.1), (0.01, 0.5)):
        smaller = criterion.parametrization.resized(par, share)
        moved = beta + inward * (criterion.problem.inside - beta)
        point = criterion.join(smaller, moved, extra)
        if np.isfinite(criterion.value(point)) and derivatives_at(criterion) is not None:
            return point
    return criterion.start()


def _starting_point(start: Any, criterion: GeneralizedCriterion, terms, names) -> np.ndarray:
    """Return the point of the search that the user's ``start`` means."""
    extra_name = criterion.family.extra
    start = checked_start(start, ["beta", "fixef", *([str(extra_name)] if extra_name else [])])
    point = criterion.start()
    par, beta, extra = criterion.split(point)
    given = starting_covariances(start, terms, criterion.parametrization)
    if given is not None:
        par = criterion.terms.scaled_coordinates(given)
    for key in ("beta", "fixef"):
        if key in start:
            values = checked_parameters(start[key], names, "coefficients")
            beta = criterion.scaled_beta(values)
    if extra_name is not None and extra_name in start:
        extra = float(checked_parameters(start[extra_name], [extra_name], extra_name)[0])
        if not extra > 0.0:
            raise DataError(f"start has {extra_name} = {extra:g}; expected a positive number")
    return criterion.join(par, beta, extra)


def _on_user_scale(criterion: GeneralizedCriterion, trace):
    if trace is None:
        return None

    def translated(step: Step) -> None:
        par, beta, extra = criterion.split(step.par)
        user = [criterion.terms.user_par(par)]
        if not criterion.with_beta:
            user.append(criterion.user_beta(beta))
        if criterion.has_extra:
            user.append(np.array([np.log(extra)]))
        trace(replace(step, par=np.concatenate(user)))

    return translated
