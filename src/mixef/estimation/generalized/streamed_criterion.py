"""The criterion of a generalized model with rows in chunks: some passes an evaluation."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from mixef.errors import ArgumentError
from mixef.estimation.estimates import Estimates
from mixef.estimation.generalized.criterion import MOST_CELLS, GeneralizedCriterion
from mixef.estimation.generalized.effects import Anchor, weighted
from mixef.estimation.generalized.laplace import LaplaceDerivatives
from mixef.estimation.generalized.pirls import Mode
from mixef.estimation.generalized.streamed_laplace import (
    StreamedDerivatives,
    differentiate_by_pass,
    hessian_by_pass,
    summed,
)
from mixef.estimation.generalized.streamed_model import StreamedModel
from mixef.estimation.generalized.streamed_separation import Sides
from mixef.estimation.generalized.streamed_start import StreamedProblem
from mixef.families.auxiliary import Extra
from mixef.terms.random import RandomTerm


class StreamedCriterion(GeneralizedCriterion):
    """-2 log L by Laplace, of rows in chunks that are never all in memory.

    A value takes two or three passes over the rows, derivatives one more, and the exact Hessian
    another.

    Parameters
    ----------
    problem : StreamedProblem
    u : ndarray (q,), optional
        Where the first search for the mode starts.
    """

    problem: StreamedProblem  # type: ignore[assignment]
    model: StreamedModel  # type: ignore[assignment]

    def __init__(self, problem: StreamedProblem, u: np.ndarray | None = None):
        if problem.nAGQ > 1:
            raise ArgumentError(
                f"nAGQ is {problem.nAGQ}, and quadrature needs the rows in memory; expected 0 or 1 "
                "(Laplace) where they are read in pieces: read them into a data frame for more"
            )
        super().__init__(problem, u)  # type: ignore[arg-type]
        self.model.with_gram = self.with_beta

    def start(self) -> np.ndarray:
        """Return where the search starts; see `GeneralizedCriterion`."""
        self.model.with_gram = True
        start = super().start()
        self.model.with_gram = self.with_beta
        return start

    @property
    def passes(self) -> int:
        """How often all rows were read so far."""
        return self.problem.n_passes

    @property
    def _by_levels(self) -> bool:
        """Whether derivatives come with the exact Hessian: that takes a pass of its own."""
        return False

    @property
    def _can_sharpen(self) -> bool:
        layout, values = self.model.groups.layout, self.problem.groups.cells[-1].stop
        cells = values if len(layout) == 1 else max(values, layout.q**2)
        return not self.with_beta and cells * self.n_par <= MOST_CELLS

    def _pull(
        self, anchor: Anchor, by_lam: list[np.ndarray], by_beta: np.ndarray, by_extra: np.ndarray
    ) -> np.ndarray:
        model, mode = self.model, anchor.mode
        layout, observed = model.groups.layout, summed(mode.state).observed
        pull = -weighted(model, observed, layout.multiply(by_lam, mode.u), by_beta)[0]
        slopes = model.extra_sums(summed(mode.state), anchor.extra)
        if slopes is not None:
            pull += slopes.score_z @ by_extra
        return layout.multiply(anchor.lams, pull, transpose=True)

    def _differentiate(
        self, mode: Mode, par: np.ndarray, lams: tuple[np.ndarray, ...], extra: Extra
    ) -> LaplaceDerivatives:
        P = self.parametrization
        return differentiate_by_pass(self.model, mode, P, par, lams, self.with_beta)

    def sharper(self) -> np.ndarray | None:
        """Return the Hessian at the last value, by one pass; None where it takes much memory."""
        if self._sharper is None and self._can_sharpen:
            d = self._differentiated()
            assert self._mode is not None
            assert isinstance(d, StreamedDerivatives)
            par = self.split(self._point)[0]
            self._sharper = hessian_by_pass(
                self.model, self._mode, self.parametrization, par, self._lams, d
            )
        return self._sharper

    def runs_away(self) -> bool:
        """Tell whether large random effects predict every response; see `GeneralizedCriterion`."""
        anchor = self._anchor
        if anchor is None or not anchor.is_large:
            return False
        found = self.model.extent_of(summed(anchor.mode.state))
        return not found.sides and found.gap.value < 0.5 and 2.0 * found.told > found.said

    def is_beyond(self) -> bool:
        """Tell whether effects of that size leave no mean in doubt; see `GeneralizedCriterion`."""
        anchor = self._anchor
        if anchor is None or not anchor.is_large:
            return False
        if self.model.extent_of(summed(anchor.mode.state)).sides:
            return False
        squares = zip(self.model.squares(summed(anchor.mode.state)), anchor.lams, strict=True)
        size = max(float(np.sqrt(np.einsum("ij,ik,jk->", S, lam, lam))) for S, lam in squares)
        return self.response.is_beyond(size)

    def sides(self, point: np.ndarray, estimates: Estimates, terms: Sequence[RandomTerm]) -> Sides:
        """Return the sides of the responses, which tell of separation."""
        state = summed(self._mode_at(point).state)
        return Sides(self.model, state, estimates, self.terms.blocks, terms)
