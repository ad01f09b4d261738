"""Linear models as a kind: their criterion, search and curvature."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from mixef import checks
from mixef.control import LmerControl
from mixef.errors import DataError, ExactFactorNeededError, FitError
from mixef.estimation.chunked import chunks_of
from mixef.estimation.columns import (
    column_names,
    inside,
    refuse_sizes,
    report_dropped,
    report_scale,
)
from mixef.estimation.estimates import Estimates
from mixef.estimation.fit import Fit
from mixef.estimation.linear.criterion import LinearCriterion
from mixef.estimation.linear.problem import LinearProblem
from mixef.estimation.linear.pushed import KnownRows, known_rows
from mixef.estimation.search.certified import search, search_from, search_others
from mixef.estimation.search.convergence import Convergence, judge
from mixef.estimation.search.optimize import SearchResult, Step
from mixef.estimation.search.singular import vanished_directions
from mixef.estimation.spec import (
    Kind,
    ModelSpec,
    Trace,
    checked_start,
    par_labels,
    starting_covariances,
)
from mixef.families import continuous
from mixef.terms.frame import ModelFrame, numeric_response
from mixef.terms.outcome import Outcome
from mixef.terms.random import RandomTerm, check_terms

# A residual standard deviation below this share of the response's (fixed effects taken out) is
# at the rounding of the sum of squares, about the root of the machine's precision.
EXACT = 1e-6
# With fewer effective rows a parameter than this the criterion can have several minima: of 870
# small designs of the search laboratory those with several had at most 1.3.
FEW = 2.0
FEW_ROWS = (
    "{rows:.3g} effective rows, counted by their weights, are few for {parameters} parameters: the "
    "criterion may have several minima, and estimates mean little; simplify the model, and compare "
    "ends of other starts (start=)"
)


@dataclass(frozen=True)
class Gaussian(Kind):
    """A linear mixed model."""

    REML: bool = True
    is_linear = True
    takes_batches = True
    searches_beta = False
    options = ("REML",)
    control_type = LmerControl
    nAGQ = 1

    def __post_init__(self) -> None:
        object.__setattr__(self, "REML", checks.flag(self.REML, "REML"))

    @property
    def family(self) -> continuous.Normal:  # type: ignore[override]
        """The normal distribution."""
        return continuous.Normal()

    def outcome(self, frame: ModelFrame) -> Outcome:
        """Return the response as numbers."""
        return Outcome(numeric_response(frame), frame.weights)

    def by_likelihood(self) -> Gaussian:
        """Return the kind that is fitted by maximum likelihood."""
        return Gaussian(REML=False)

    def start(self, par: np.ndarray, beta: np.ndarray, extra: Any) -> dict[str, Any]:
        """Return a start: the others follow from the covariance parameters."""
        return {"par": par}

    def labels(self, names: Sequence[str], terms: Sequence[RandomTerm]) -> list[str]:
        """Name covariance parameters and log sigma, which is profiled out of the search."""
        return [*par_labels(terms), "log(sigma)"]

    def hessian(self, fit: Fit) -> np.ndarray:
        """Return the Hessian over covariance parameters and log sigma."""
        hessian: np.ndarray = fit.curvature.hessian
        return hessian

    def vcov(self, fit: Fit) -> np.ndarray:
        """Return ``sigma^2 (RX'RX)^-1``."""
        return fit.estimates.sigma**2 * fit.estimates.unscaled_vcov

    def effects_slopes(self, fit: Fit) -> tuple[np.ndarray, list[np.ndarray]]:
        """Return the slopes of beta and the modes; log sigma moves none of them."""
        beta, effects = fit.criterion().effects_slopes(fit.scaled_par)
        still = [np.concatenate([slope, np.zeros((1, *slope.shape[1:]))]) for slope in effects]
        return np.column_stack([beta, np.zeros(len(beta))]), still

    def coupling(self, fit: Fit, par: np.ndarray) -> np.ndarray:
        """Return ``Lambda'Z'WX`` by the cross-products, with prior weights: sigma is outside."""
        problem: LinearProblem = fit.problem
        products, lams = problem.products, problem.parametrization.lams(par)
        scaled = products.layout.multiply(lams, products.ZtX, transpose=True)
        coupled: np.ndarray = scaled @ problem.x_basis.R
        return coupled

    def needs_exact(self, fit: Fit, what: str) -> None:
        """Refuse what takes an exact factor of the random effects, where the fit's is none."""
        fit.problem.factor().cholesky(what)

    def criterion(self, problem: LinearProblem, u: np.ndarray | None = None) -> LinearCriterion:
        """Return the profiled deviance or REML criterion."""
        return LinearCriterion(problem)

    def problem(
        self, spec: ModelSpec, kept: np.ndarray, known: KnownRows | None = None
    ) -> LinearProblem:
        """Return the problem with its cross-products.

        Parameters
        ----------
        known : KnownRows, optional
            What is known of the rows before.
        """
        name = "" if spec.formula.response is None else spec.formula.response.text
        known = known_rows(spec) if known is None else known
        return LinearProblem.from_chunks(
            chunks_of(spec, kept),
            spec.terms,
            self.REML,
            name,
            known.scan.of(kept),
            spec.control.factor,
            known.products(kept),
        )

    def fit(self, spec: ModelSpec, start: Any, trace: Trace | None) -> Fit:
        """Search over the covariance parameters, and judge the end."""
        frame, terms, control = spec.frame, spec.terms, spec.control
        assert isinstance(control, LmerControl)
        check_terms(terms, frame.n, control)
        kept, known = _checked(spec)
        if self.REML and len(kept) >= frame.n:
            raise DataError(
                f"{frame.n} observations cannot determine {len(kept)} fixed effects and a "
                "variance: drop fixed effects or add data"
            )
        problem = self.problem(spec, kept, known)
        n_effective = np.inf if frame.weights is None else known.scan.n_effective
        n_parameters = len(kept) + problem.parametrization.n_par + 1
        del known  # sums that are not needed again
        try:
            criterion, result = self._searched(problem, spec, start, trace)
        except ExactFactorNeededError:  # of a graph that no estimate of log|M| is good enough for
            if control.factor != "auto":
                raise
            problem = replace(problem, chosen_factor="exact")
            criterion, result = self._searched(problem, spec, start, trace)
        estimates = criterion.estimates(result.par, control.objective_se)
        convergence = judge(
            result,
            par_labels(terms),
            criterion.user_gradient(),
            control.optimizer,
            void=criterion.parametrization.void(result.par),
        )
        _refuse_exact(criterion, estimates, convergence)
        if n_effective < FEW * n_parameters:
            said = FEW_ROWS.format(rows=n_effective, parameters=n_parameters)
            convergence = replace(convergence, remarks=(said,))
        return Fit(
            spec=spec,
            kept=kept,
            point=result.par,
            estimates=estimates,
            convergence=convergence,
            vanished=vanished_directions(problem.terms, result.par, terms),
            held_problem=problem,
        )

    def _searched(
        self, problem: LinearProblem, spec: ModelSpec, start: Any, trace: Trace | None
    ) -> tuple[LinearCriterion, SearchResult]:
        """Return the criterion of a problem, and the end of its search."""
        criterion, control = self.criterion(problem), spec.control
        if control.optimizer != "newton":
            criterion.factor.cholesky(f"optimizer={control.optimizer!r}")
        begin, translated = problem.start(), _on_user_scale(criterion, trace)
        if start is None:
            result = search(criterion, begin, control, translated)
        else:
            chosen = _starting_point(start, criterion, spec.terms)
            result = search_from(criterion, chosen, begin, control, translated)
        return criterion, search_others(criterion, result, control, translated)


def _checked(spec: ModelSpec) -> tuple[np.ndarray, KnownRows]:
    """Check the columns; return those of X that are estimated, and what is known of the rows."""
    frame, design, terms, control = spec.frame, spec.design, spec.terms, spec.control
    known = known_rows(spec)
    seen = known.scan
    if not inside(seen.squares).all():
        name = spec.formula.response_name
        name = name if frame.offset is None else f"{name} - offset"
        names = column_names(name, frame.weights is not None, design, terms)
        refuse_sizes(names, seen.squares, seen.largest)
    kept = seen.independent
    report_dropped(design, kept, control)
    if control.check_scaleX != "ignore":
        report_scale(design, seen.spread, control)
    return kept, known


def _refuse_exact(criterion: LinearCriterion, estimates: Estimates, end: Convergence) -> None:
    """Refuse a response without residual variance, where the criterion has no minimum."""
    if not end.converged and estimates.sigma < EXACT * criterion.problem.y_scale.scale:
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


def _on_user_scale(criterion: LinearCriterion, trace: Trace | None) -> Trace | None:
    if trace is None:
        return None

    def translated(step: Step) -> None:
        trace(replace(step, par=criterion.terms.user_par(step.par)))

    return translated
