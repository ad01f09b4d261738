"""The criterion of a generalized model whose ``log|M|`` is an estimate."""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from mixef.errors import FitError
from mixef.estimation.estimates import Estimates
from mixef.estimation.generalized.criterion import GeneralizedCriterion
from mixef.estimation.generalized.estimated_laplace import differentiate_estimated
from mixef.estimation.generalized.laplace import LaplaceDerivatives
from mixef.estimation.generalized.pirls import Mode
from mixef.estimation.generalized.streamed_criterion import StreamedCriterion
from mixef.estimation.linear.estimated import estimated_hessian, vanishes_within
from mixef.families.auxiliary import Extra


class EstimatedCriterion(GeneralizedCriterion):
    """-2 log L by Laplace, with an iterative factor.

    Modes and all that solves give are exact; ``log|M|`` and its derivatives are estimates, from
    random vectors that stay the same during a search.
    """

    _by_levels = False
    _can_sharpen = False

    def _forget(self) -> None:
        super()._forget()
        self._samples = np.empty((0, 0))
        self._ldL2_se = 0.0

    def _value(self, mode: Mode | None, gain: float) -> float:
        value = super()._value(mode, gain)
        self._ldL2_se = self.model.factor.ldL2_se
        return value

    def _differentiate(
        self, mode: Mode, par: np.ndarray, lams: tuple[np.ndarray, ...], extra: Extra
    ) -> LaplaceDerivatives:
        found = differentiate_estimated(
            self.model, mode, self.parametrization, par, lams, extra, self.with_beta
        )
        self._samples = found.samples
        return found.laplace

    def _gradient_samples(self, point: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Return the gradient (K,) and what each random vector says of it (m, K)."""
        if not np.isfinite(self.value(point)):
            raise self.failure
        self._differentiated()
        return self._gradient, self._samples

    def within_error(self) -> bool:
        """Tell whether a step promises less than the gradient's error makes steps promise."""
        if self._derivatives is None or len(self._samples) < 2:
            return False
        error = np.cov(self._samples.T).reshape(self.n_par, -1) / len(self._samples)
        unit = self.scale(self._point)
        return vanishes_within(self._gradient, self._derivatives.information, error, unit)

    def rounding(self) -> float:
        """Return the size of rounding errors in the last value, and the error of ``log|M|``."""
        return super().rounding() + self._ldL2_se

    def hessian(self, point: np.ndarray) -> np.ndarray | None:
        """Return the Hessian (K, K), by differences of the estimated gradient.

        None where too much of it is error, or a step leaves the domain.
        """
        self.value(point)
        information, unit = self._differentiated().information, self.scale(point)
        try:
            return estimated_hessian(self._gradient_samples, point, unit, information)[0]
        except FitError:
            return None

    def estimates(self, point: np.ndarray) -> Estimates:
        """Return the estimates at a point, with ``log|M|`` as well known as was asked for."""
        mode = self._mode_at(point)
        if not self._factor_at_mode:
            self.model.refactor(self.response.weights_of(mode.state), self._lams)
        factor, before = self.model.factor, self._ldL2
        factor.refresh(self.problem.objective_se)
        ldL2, se = factor.ldL2, factor.ldL2_se
        self._factor_at_mode, self._factor_at_anchor = True, False
        out = super().estimates(point)
        objective = out.objective + (ldL2 - before)
        return replace(out, objective=objective, objective_se=se, ldL2=ldL2)


class StreamedEstimatedCriterion(EstimatedCriterion, StreamedCriterion):
    """The same of rows in chunks: a value takes two or three passes, derivatives one or two."""
