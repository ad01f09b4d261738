"""Generalized models as a kind: their checks, search and Hessian."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from mixef.control import Control, GlmerControl, act
from mixef.errors import (
    ArgumentError,
    ConvergenceWarning,
    ExactFactorNeededError,
    FitError,
)
from mixef.estimation.fit import NO_HESSIAN, Fit
from mixef.estimation.generalized.cells import rows_of
from mixef.estimation.generalized.checked import checked_columns
from mixef.estimation.generalized.criterion import GeneralizedCriterion
from mixef.estimation.generalized.density_response import make_response
from mixef.estimation.generalized.effects import coupling
from mixef.estimation.generalized.ends import (
    BEYOND,
    ENDLESS,
    FALLBACK,
    RUNAWAY,
    edge_message,
    is_exact,
    laplace_message,
    largest,
    leaves_range,
    quadrature_message,
    remedy,
    with_separation,
)
from mixef.estimation.generalized.estimated_criterion import (
    EstimatedCriterion,
    StreamedEstimatedCriterion,
)
from mixef.estimation.generalized.problem import (
    NO_SCALE,
    GeneralizedProblem,
    generalized_problem,
)
from mixef.estimation.generalized.quadrature import check_quadrature
from mixef.estimation.generalized.searched import (
    first_inside,
    on_user_scale,
    searched,
    starting_point,
)
from mixef.estimation.generalized.streamed_criterion import StreamedCriterion
from mixef.estimation.generalized.streamed_start import StreamedProblem, streamed_problem
from mixef.estimation.generalized.user_density import check_variance
from mixef.estimation.search.convergence import judge
from mixef.estimation.search.hessian import inverse_hessian
from mixef.estimation.search.optimize import StopReason
from mixef.estimation.search.singular import vanished_directions
from mixef.estimation.search.trust_region import FLAT, Quadratic
from mixef.estimation.spec import (
    Kind,
    ModelSpec,
    Trace,
    par_labels,
)
from mixef.families.convert import make_family
from mixef.families.density import DensityFamily
from mixef.families.family import Family
from mixef.families.standard import FAMILIES
from mixef.linalg.chunks import ChunkSource
from mixef.linalg.factor import needs_cholesky
from mixef.terms.frame import ModelFrame
from mixef.terms.outcome import Outcome, outcome
from mixef.terms.random import RandomTerm, check_terms

#: By whether the rows are in memory, and whether the factor is exact.
CRITERIA: dict[tuple[bool, bool], type[GeneralizedCriterion]] = {
    (True, True): GeneralizedCriterion,
    (True, False): EstimatedCriterion,
    (False, True): StreamedCriterion,
    (False, False): StreamedEstimatedCriterion,
}


@dataclass(frozen=True)
class Generalized(Kind):
    """A generalized linear mixed model."""

    family: Family
    nAGQ: int = 1
    is_linear = False
    takes_batches = True
    options = ("family", "nAGQ")
    control_type = GlmerControl
    REML = False

    def __post_init__(self) -> None:
        if self.family is None:
            raise ArgumentError(
                "glmer needs a family: 'binomial', 'poisson', 'Gamma', 'inverse.gaussian' or "
                "'nbinom2', or an object such as Binomial(link='probit'); for a Gaussian response "
                "use lmer"
            )
        object.__setattr__(self, "family", make_family(self.family))

    @property
    def searches_beta(self) -> bool:  # type: ignore[override]
        """Whether the coefficients are parameters of the search, and not part of the mode."""
        return self.nAGQ > 0

    def outcome(self, frame: ModelFrame) -> Outcome:
        """Return the response as the family takes it."""
        return outcome(frame, self.family)

    def by_likelihood(self) -> Generalized:
        """Return the kind that searches for the coefficients, too."""
        return replace(self, nAGQ=max(self.nAGQ, 1))

    def start(self, par: np.ndarray, beta: np.ndarray, extra: Any) -> dict[str, Any]:
        """Return a start of all parameters."""
        start: dict[str, Any] = {"par": par, "beta": beta}
        return start | self.family.named(extra)

    def labels(self, names: Sequence[str], terms: Sequence[RandomTerm]) -> list[str]:
        """Name the parameters of the search: par, coefficients, auxiliary coordinates."""
        fixed = [] if self.nAGQ == 0 else list(names)
        return [*par_labels(terms), *fixed, *(a.label for a in self.family.auxiliary)]

    def hessian(self, fit: Fit) -> np.ndarray | None:
        """Return what the search ended with."""
        return fit.end_hessian

    def vcov(self, fit: Fit) -> np.ndarray:
        """Return the covariance by the Hessian, if there is one; else by the working weights."""
        k, p = len(fit.estimates.par), len(fit.kept)
        if fit.hessian is None or self.nAGQ == 0:
            return fit.estimates.unscaled_vcov
        covariance = inverse_hessian(fit.hessian)[0][k : k + p, k : k + p]
        problem: GeneralizedProblem = fit.problem
        return problem.user_beta(problem.user_beta(covariance).T).T

    def effects_slopes(self, fit: Fit) -> tuple[np.ndarray, list[np.ndarray]]:
        """Return the slopes of beta and the modes."""
        criterion: GeneralizedCriterion = fit.criterion()
        return criterion.effects_slopes(fit.point)

    def coupling(self, fit: Fit, par: np.ndarray) -> np.ndarray:
        """Return ``Lambda'Z'WX``, with the weights at the mode."""
        problem: GeneralizedProblem = fit.problem
        state = problem.response.at(fit.eta, fit.extra)
        assert state is not None
        WX = problem.response.weights_of(state)[:, None] * fit.X
        terms = problem.terms
        return coupling(terms.back_to_user(par), terms.blocks, fit.terms, WX)

    def criterion(self, problem: Any, u: np.ndarray | None = None) -> GeneralizedCriterion:
        """Return -2 log L by Laplace or by quadrature."""
        kind = CRITERIA[problem.in_memory, problem.is_exact]
        return kind(problem, u)

    def needs_exact(self, fit: Fit, what: str) -> None:
        """Refuse what takes an exact factor of the random effects, where the fit's is none."""
        if not fit.problem.is_exact:
            raise needs_cholesky(what)

    def problem(
        self, spec: ModelSpec, kept: np.ndarray, rows: ChunkSource | None = None
    ) -> GeneralizedProblem | StreamedProblem:
        """Return the problem on columns scaled by the model without random effects.

        Parameters
        ----------
        rows : ChunkSource, optional
            With all columns of the design, where they are not in memory; by default they are read.
        """
        assert isinstance(spec.control, GlmerControl)
        y, information = spec.outcome, spec.control.information
        if not spec.frame.in_memory:
            return streamed_problem(
                (rows or rows_of(spec)).of(kept.tolist()),
                spec.terms,
                self.family,
                self.nAGQ,
                information,
                spec.control.factor,
                spec.control.objective_se,
            )
        response = make_response(self.family, y.y, y.weights, information, y.copies)
        known = isinstance(self.family, DensityFamily) or type(self.family) in FAMILIES.values()
        if not known:
            check_variance(response)
        X = spec.design.columns(kept)
        control = spec.control
        return generalized_problem(
            X,
            response,
            spec.frame.offset,
            spec.terms,
            self.nAGQ,
            control.factor,
            control.objective_se,
        )

    def report(self, fit: Fit) -> None:
        """Warn of separation and of poor approximations."""
        control, end = fit.control, fit.convergence
        assert isinstance(control, GlmerControl)
        if end.separation:
            act(control.check_separation, end.separation, FitError, ConvergenceWarning)
        for remark in end.remarks:
            act(control.check_laplace, remark, FitError, ConvergenceWarning)

    def fit(self, spec: ModelSpec, start: Any, trace: Trace | None) -> Fit:
        """Search by the family's information; by the expected one where that leads nowhere."""
        if spec.frame.in_memory:
            return self._fit(spec, start, trace, None)
        with rows_of(spec).shown() as rows:
            return self._fit(spec, start, trace, rows)

    def _fit(
        self, spec: ModelSpec, start: Any, trace: Trace | None, rows: ChunkSource | None
    ) -> Fit:
        def fitted(control: Control) -> Fit:
            try:
                return self._fitted(spec.changed(control=control), start, trace, rows)
            except np.linalg.LinAlgError:
                raise FitError(
                    "the linear predictor reaches beyond what double precision computes with: "
                    "rescale the predictors, or check the offset and the weights"
                ) from None

        control, family = spec.control, self.family
        assert isinstance(control, GlmerControl)
        fit = failure = None
        try:
            fit = fitted(control)
        except FitError as error:
            failure = error
        chosen = control.information is not None or family.information == "expected"
        if (
            chosen
            or family.is_canonical
            or not family.knows_expected
            or control.optimizer != "newton"
        ):
            nowhere = False
        elif fit is None:
            nowhere = True
        else:
            ended = fit.convergence.converged
            by_observed = fit.problem.response.uses_observed
            nowhere = not ended and by_observed and self._is_negative(fit)
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

    def _poor(
        self, criterion: GeneralizedCriterion, point: np.ndarray, terms: Sequence[RandomTerm]
    ) -> str | None:
        """Say so where the integrals at a point are approximated badly."""
        if self.nAGQ < 2:
            error = criterion.laplace_error(point)
            return laplace_message(error, terms, criterion.response) if error.is_large else None
        criterion.value(point)
        rule = criterion.quadrature
        return None if rule is None else quadrature_message(rule, terms)

    def _is_negative(self, fit: Fit) -> bool:
        """Tell whether some rows have negative weights in ``log|M|``, which may not exist then."""
        criterion: GeneralizedCriterion = fit.criterion()
        try:
            return criterion.extremes(fit.point).is_negative
        except FitError:
            return True

    def _fitted(
        self, spec: ModelSpec, start: Any, trace: Trace | None, source: ChunkSource | None
    ) -> Fit:
        check_terms(spec.terms, spec.frame.n, spec.control, bool(self.family.auxiliary))
        check_quadrature(self.nAGQ, spec.terms)
        kept = checked_columns(spec, source)
        problem = self.problem(spec, kept, source)
        try:
            return self._ended(spec, kept, problem, start, trace)
        except ExactFactorNeededError:  # of a graph that no estimate of log|M| is good enough for
            if spec.control.factor != "auto" or problem.is_exact:
                raise
        exact = replace(problem, chosen_factor="exact")
        return self._ended(spec, kept, exact, start, trace)

    def _ended(
        self,
        spec: ModelSpec,
        kept: np.ndarray,
        problem: GeneralizedProblem | StreamedProblem,
        start: Any,
        trace: Trace | None,
    ) -> Fit:
        """Search, and judge the end."""
        family, nAGQ, outcome = self.family, self.nAGQ, spec.outcome
        frame, terms, control = spec.frame, spec.terms, spec.control
        assert isinstance(control, GlmerControl)
        names = [spec.design.names[j] for j in kept]
        criterion = self.criterion(problem)
        begin, chosen = first_inside(criterion), None
        if control.optimizer != "newton":
            criterion.model.factor.cholesky(f"optimizer={control.optimizer!r}")
            criterion.refine()
        if start is not None:
            chosen = starting_point(start, criterion, terms, names)
        if not np.isfinite(criterion.value(begin)):
            raise criterion.failure
        translated = on_user_scale(criterion, trace)
        result = searched(criterion, begin, chosen, control, translated, terms)
        hessian, exact = None, criterion.hessian(result.par)
        if exact is not None:
            if exact is not result.information:
                here = Quadratic(result.gradient, exact, criterion.scale(result.par))
                result = replace(result, information=exact, foretells=here)
            hessian = exact if result.foretells.values.min(initial=0.0) > -FLAT else None
        poor = self._poor(criterion, result.par, terms)
        estimates = criterion.estimates(result.par)
        end = judge(
            result,
            self.labels(names, terms),
            criterion.user_gradient(),
            control.optimizer,
            lambda flat: remedy(flat, family, names),
            criterion.parametrization.void(result.par[: len(estimates.par)]),
        )
        if not end.converged or leaves_range(family):
            rows = criterion.extremes(result.par)
            if not end.converged and is_exact(family, rows, estimates):
                raise FitError(NO_SCALE)
            if edge := edge_message(family, rows):  # where no gradient vanishes
                end = replace(end, converged=False, problems=(edge, *end.problems[1:]))
        if hessian is None and nAGQ > 0 and end.converged:
            end = replace(end, problems=(NO_HESSIAN, *end.problems))
        if poor:
            end = replace(end, remarks=(poor,))
        sides = None
        if isinstance(criterion, StreamedCriterion):
            sides = criterion.sides(result.par, estimates, terms)
        if control.check_separation != "ignore":
            if sides is not None:
                end = sides.with_separation(end, names)
            else:
                X = spec.design.columns(kept)
                eta = X @ estimates.beta + (0.0 if frame.offset is None else frame.offset)
                end = with_separation(end, X, outcome, family, eta, estimates, terms, names)
        if result.reason in ENDLESS and not end.separation:
            message = RUNAWAY
            if result.reason is not StopReason.RUNAWAY:
                own = largest(terms, estimates) if sides is None else sides.largest_term()
                message = BEYOND.format(term=own.label)
            end = replace(end, converged=False, problems=(message,), remarks=())
        if problem.n_passes:
            end = replace(end, n_passes=problem.n_passes)
        return Fit(
            spec=spec,
            kept=kept,
            point=result.par,
            estimates=estimates,
            convergence=end,
            vanished=vanished_directions(criterion.terms, result.par[: len(estimates.par)], terms),
            end_hessian=hessian,
            held_problem=problem,
        )
