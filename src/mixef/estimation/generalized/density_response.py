"""The response of a family of any density: scores and weights by its derivatives.

With subscripts for derivatives of a row's log density l for eta, the score is ``l_1`` and the
weight by observed information ``-l_2``; both go through the link by the chain rule.
"""

from __future__ import annotations

import numpy as np

from mixef.errors import ArgumentError
from mixef.estimation.generalized.response import (
    AuxiliarySlopes,
    Response,
    RowSlopes,
    RowState,
    SecondSlopes,
)
from mixef.estimation.generalized.row_derivatives import MEANS
from mixef.families.auxiliary import Extra
from mixef.families.density import DensityFamily, through_link
from mixef.families.family import Family, by_row


def make_response(
    family: Family,
    y: np.ndarray,
    weights: np.ndarray | None,
    information: str | None = None,
    copies: np.ndarray | None = None,
) -> Response:
    """Return the response of a family; parameters are those of `Response`."""
    if isinstance(family, DensityFamily):
        return DensityResponse(family, y, weights, information, copies)
    return Response(family, y, weights, information, copies)


class DensityResponse(Response):
    """A response of a family of any density."""

    family: DensityFamily

    def __init__(
        self,
        family: DensityFamily,
        y: np.ndarray,
        weights: np.ndarray | None,
        information: str | None = None,
        copies: np.ndarray | None = None,
    ):
        if information == "expected":
            raise ArgumentError(
                f"information='expected' is not there for the {family.name} family, whose weights "
                "are by observed information; leave it out"
            )
        super().__init__(family, y, weights, information, copies)
        found, self._size = family.copies_and_size(y, weights, copies)
        self._copies = 1.0 if found is None else found

    def _rows(
        self, eta: np.ndarray, mu: np.ndarray, extra: Extra, order: int, *by: int
    ) -> list[np.ndarray]:
        """Return derivatives of the rows' log densities for eta, after those for parameters."""
        size, link = by_row(self._size, mu), self.family.link
        outer = self.family.derivatives(by_row(self.y, mu), mu, size, extra, order, *by)
        rows = through_link(outer, [getattr(link, name)(eta) for name in MEANS[:order]])
        copies = self._copies
        if isinstance(copies, np.ndarray):
            copies = by_row(copies, mu)
        if self._absent is None:
            return [copies * row for row in rows]
        absent = by_row(self._absent, mu) > 0
        return [np.where(absent, 0.0, copies * row) for row in rows]

    def at(self, eta: np.ndarray, extra: Extra) -> RowState | None:
        """Return the rows' state at eta (n,), None outside the domain of link or family."""
        family = self.family
        with np.errstate(all="ignore"):
            mu = family.link.inverse(eta)
            if not (family.link.valid(eta) and family.valid_mean(mu)):
                return None
            value, score, slope = self._rows(eta, mu, extra, 2)
            total = float(value.sum())
            slopes = family.link.d_inverse(eta)
            weight = family.working_weight(mu, self._size, extra) * slopes**2 * self._copies
        finite = np.isfinite(score).all() and np.isfinite(slope).all()
        if not (np.isfinite(total) and finite and np.isfinite(weight).all()):
            return None
        return RowState(eta, mu, total, score, weight, -slope)

    def kernel(self, eta: np.ndarray, mu: np.ndarray, extra: Extra) -> np.ndarray:
        """Return the log density, a row."""
        return self._rows(eta, mu, extra, 0)[0]

    def score(self, eta: np.ndarray, extra: Extra, mu: np.ndarray) -> np.ndarray:
        """Return the scores at eta and its mean, (n,) or (n, k)."""
        with np.errstate(all="ignore"):
            return self._rows(eta, mu, extra, 1)[1]

    def saturated(self, extra: Extra) -> float:
        """Return the log density of the response where every mean is the best one."""
        with np.errstate(all="ignore"):
            mean = self.family.best_mean(self.y, self._size, extra)
            rows = self.family.derivatives(self.y, mean, self._size, extra, 0)[0]
        return float(np.sum(self._copies * rows))

    def slopes(self, state: RowState, extra: Extra, observed: bool) -> RowSlopes:
        """Return the derivatives of scores and of weights by observed information."""
        with np.errstate(all="ignore"):
            by_eta = -self._rows(state.eta, state.mu, extra, 3)[3]
            own = [self._rows(state.eta, state.mu, extra, 2, a) for a in self._parameters]
        if not own:
            return RowSlopes(by_eta)
        value, score, slope = (np.array(part) for part in zip(*own, strict=True))
        return RowSlopes(by_eta, AuxiliarySlopes(score, -slope, value.sum(axis=1)))

    @property
    def _parameters(self) -> range:
        return range(len(self.family.auxiliary))

    def second_slopes(self, state: RowState, extra: Extra, first: RowSlopes) -> SecondSlopes:
        """Return the second derivatives of the weights in ``log|M|`` and of the scores."""
        eta, mu = state.eta, state.mu
        with np.errstate(all="ignore"):
            rows = self._rows(eta, mu, extra, 4)
            if not self.has_auxiliary:
                return SecondSlopes((-rows[4],), (rows[3],))
            own = [self._rows(eta, mu, extra, 3, a) for a in self._parameters]
            pairs = self._pairs(state, extra, 2)
        score, slope = (np.array([row[j] for row in own]) for j in (2, 3))
        return SecondSlopes(
            (-rows[4], -slope, -pairs[2]), (rows[3], score, pairs[1]), pairs[0].sum(axis=2)
        )

    def _pairs(self, state: RowState, extra: Extra, order: int) -> np.ndarray:
        """Return derivatives (order + 1, E, E, n) after those for pairs of parameters."""
        K = self._parameters
        out = np.empty((order + 1, len(K), len(K), len(self.y)))
        for a in K:
            for b in K[: a + 1]:
                out[:, a, b] = out[:, b, a] = self._rows(state.eta, state.mu, extra, order, b, a)
        return out

    def observed_slopes(self, state: RowState, extra: Extra) -> tuple[np.ndarray, np.ndarray]:
        """Return the first two derivatives for eta of the weights by observed information."""
        with np.errstate(all="ignore"):
            rows = self._rows(state.eta, state.mu, extra, 4)
        return -rows[3], -rows[4]

    def slope_by_extra(self, mu: np.ndarray, extra: Extra, share: np.ndarray) -> np.ndarray:
        """Return the derivatives (E,) of the log density for the auxiliary coordinates."""
        with np.errstate(all="ignore"):
            rows = [self._rows(mu, mu, extra, 0, a)[0] for a in self._parameters]
            return np.array([np.sum(np.where(share > 0, share * row, 0.0)) for row in rows])

    def curvature_of_extra(self, state: RowState, extra: Extra) -> np.ndarray:
        """Return the second derivatives (E, E) of -2 log f for the auxiliary coordinates."""
        with np.errstate(all="ignore"):
            second: np.ndarray = self._pairs(state, extra, 0)[0].sum(axis=2)
        return -2.0 * second
