"""The response given the linear predictor: log density, scores and weights, row by row.

For an exponential dispersion family with variance ``phi V(mu) / w`` and link g, with
``r = mu' / V`` (primes are derivatives for eta),

    s   = d log f / d eta       = w (y - mu) r / phi
    W_e = E[-d^2 log f/d eta^2] = w mu' r / phi                       (expected information)
    W_o = -d^2 log f / d eta^2  = w [mu' r - (y - mu) r'] / phi       (observed information)

With the canonical link r is constant and the two weights are one
(P. McCullagh and J. A. Nelder, 1989, Generalized Linear Models, section 2.5).
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from math import isfinite
from typing import NamedTuple

import numpy as np

from mixef.estimation.generalized.row_derivatives import RowDerivatives, row_derivatives
from mixef.families.auxiliary import Extra
from mixef.families.family import Family, by_row
from mixef.terms.outcome import trials_of_one

# The mean size of a row's log normalizer from which on sums lose digits that matter.
LARGE = 300.0
# Step of the differences for the log of a dispersion or shape, which is free of units.
LOG_STEP = 1e-4
# A mean next to a response: a log odds of 28, which finite estimates do not give to most rows.
TOLD = 1e-12


class RowState(NamedTuple):
    """What the rows are at one linear predictor."""

    eta: np.ndarray  # (n,)
    mu: np.ndarray  # (n,)
    log_density: float  # Sum of the log densities, fully normalised
    score: np.ndarray  # (n,)
    # (n,): weights by expected and by observed information; one array for a canonical link
    expected: np.ndarray
    observed: np.ndarray  # (n,)


class AuxiliarySlopes(NamedTuple):
    """Derivatives for the coordinates of the auxiliary parameters at fixed linear predictors."""

    score: np.ndarray  # (E, n): of the scores
    weights: np.ndarray  # (E, n): of the weights in ``log|M|``
    log_density: np.ndarray  # (E,)


class RowSlopes(NamedTuple):
    """Derivatives of scores and weights."""

    by_eta: np.ndarray  # (n,): derivative for eta of the weights in ``log|M|``
    by_extra: AuxiliarySlopes | None = None  # None where the family has no auxiliary parameters

    def along(self, eta: np.ndarray) -> np.ndarray:
        """Return the changes (K, n) of those weights as eta moves by (n, K) with K parameters.

        The auxiliary ones come last.
        """
        changes: np.ndarray = self.by_eta * eta.T
        if self.by_extra is not None:
            changes[len(changes) - len(self.by_extra.weights) :] += self.by_extra.weights
        return changes


class SecondSlopes(NamedTuple):
    """Second derivatives of the weights in M and of the score, a row."""

    # tuple of ndarray (n,), (E, n), (E, E, n): for (eta, eta) and, with auxiliary parameters, for
    # (eta, extra), (extra, extra)
    weights: tuple[np.ndarray, ...]
    score: tuple[np.ndarray, ...]  # Likewise
    # (E, E): of the log density for the auxiliary parameters, summed
    log_density: np.ndarray = np.zeros((0, 0))


@dataclass(frozen=True)
class Extremes:
    """What the rows are like at an end, for messages."""

    #: `lowest`, `mean`, `highest`: of the means.
    lowest: float
    mean: float
    highest: float
    size: float  # the mean of ``y^2 / V``
    is_negative: bool  # whether some weights by observed information are


class Response:
    """A response with its family and prior weights.

    Parameters
    ----------
    family : Family
    y : ndarray (n,)
        Proportions for a binomial response.
    weights : ndarray (n,) or None
        Prior weights; numbers of trials for a binomial response.
    information : {"expected", "observed"}, optional
        Weights in ``log|M|``; the family's by default.
    copies : ndarray (n,), optional
        The part of the weights that stands for copies of a row, where the rest are trials.
    """

    def __init__(
        self,
        family: Family,
        y: np.ndarray,
        weights: np.ndarray | None,
        information: str | None = None,
        copies: np.ndarray | None = None,
    ):
        self.family = family
        self.y = y
        self.weights = weights
        self.is_canonical = family.is_canonical
        self.uses_observed = (information or family.information) == "observed"
        self.copies = copies
        # A row of weight zero counts nothing, even where its density is zero.
        self._absent = None if weights is None or np.all(weights) else weights == 0.0
        self._share_of_one = 1.0 if weights is None else weights
        self.has_auxiliary = bool(family.auxiliary)
        self._has_dispersion = family.has_dispersion
        self._held: tuple[Extra, tuple[float, float | None]] | None = None
        if self.is_canonical:
            self._ratio = family.canonical_ratio
            self._of_score = self._share_of_one * self._ratio
            self._of_weight = self._of_score * self._ratio

    def _log_normalizer(self, extra: Extra) -> np.ndarray:
        """Return the part of each row's log density (n,) that is free of the mean."""
        trials = trials_of_one(self.weights, self.copies)
        rows = self.family.log_normalizer(self.y, trials, extra)
        return rows if self.copies is None else self.copies * rows

    def is_told(self, mu: np.ndarray) -> bool:
        """Tell whether every response is at an edge, and the means (n,) next to most of them."""
        gap, free = self.gaps(mu)
        return bool(not free and gap.max(initial=0.0) < 0.5 and np.median(gap) < TOLD)

    def is_beyond(self, size: float) -> bool:
        """Tell whether every response is at an edge, and so are means at linear predictors +-size.

        Where that is their standard deviation, the likelihood hardly changes as it grows.
        """
        if (self._sides == 0.0).any():
            return False
        mu = self.family.link.inverse(np.array([[-size], [size]]))
        return bool(np.abs(mu - self.family.edges).min(axis=1).max() < TOLD)

    def gaps(self, mu: np.ndarray) -> tuple[np.ndarray, int]:
        """Return how far means are from responses with a weight, and how many are at no edge."""
        sides = self._sides
        return np.abs(self.y - mu)[~np.isnan(sides)], int((sides == 0.0).sum())

    @cached_property
    def _sides(self) -> np.ndarray:
        return edges(self.y, self.weights, self.family)

    def extremes(self, state: RowState, extra: Extra) -> Extremes:
        """Return what the rows are like at a state."""
        mu = state.mu
        with np.errstate(all="ignore"):
            size = float(np.mean(self.y**2 / self.family.variance(mu, extra)))
        ends = float(mu.min()), float(mu.mean()), float(mu.max())
        return Extremes(*ends, size, bool((state.observed < 0.0).any()))

    def weights_of(self, state: RowState) -> np.ndarray:
        """Return the weights (n,) in ``log|M|``: by observed or by expected information."""
        return state.observed if self.uses_observed else state.expected

    def saturated(self, extra: Extra) -> float:
        """Return the log density of the response where every mean is the response itself."""
        family, y, weights = self.family, self.y, self.weights
        with np.errstate(all="ignore"):
            rows = family.saturated(y, weights, extra)
            if self.copies is not None:
                rows = rows - family.log_normalizer(y, weights, extra) + self._log_normalizer(extra)
            return float(np.sum(rows))

    def _constants(self, extra: Extra) -> tuple[float, float | None]:
        """Return the sum of the normalizers, and of the saturated log densities if that is needed.

        It is where the normalizers are so large that only differences from the saturated log
        density keep the digits of the sum, as for counts in the thousands.
        """
        if self._held is None or self._held[0] != extra:
            normalizer = self._log_normalizer(extra)
            large = float(np.abs(normalizer).mean()) > LARGE
            saturated = self.saturated(extra) if large else None
            self._held = extra, (float(np.sum(normalizer)), saturated)
        return self._held[1]

    def leave_constants(self, extra: Extra, by_deviance: bool) -> None:
        """Leave what is free of the means out of log densities at ``extra``: `constant` has it."""
        self._held = extra, (0.0, 0.0 if by_deviance else None)

    def constant(self, extra: Extra, by_deviance: bool) -> float:
        """Return the part of the log density that is free of the means.

        Parameters
        ----------
        by_deviance : bool
            Whether the other part is by deviances, as keeps the digits of large counts.
        """
        return self.saturated(extra) if by_deviance else float(np.sum(self.normalizers(extra)))

    def normalizers(self, extra: Extra) -> np.ndarray:
        """Return the part of each row's log density (n,) that is free of the mean."""
        return self._log_normalizer(extra)

    def _log_density(self, mu: np.ndarray, kernel: np.ndarray, extra: Extra) -> float:
        """Return the sum of the log densities, by the form that keeps its digits."""
        normalizer, saturated = self._constants(extra)
        if saturated is None:
            if self._absent is not None:
                kernel = np.where(self._absent, 0.0, kernel)
            total = np.add.reduce(kernel) if self.weights is None else self.weights.dot(kernel)
            return float(total) + normalizer
        deviance = self.family.unit_deviance(self.y, mu, extra)
        return float(np.sum(self._share(extra) * deviance)) / -2.0 + saturated

    def kernel(self, eta: np.ndarray, mu: np.ndarray, extra: Extra) -> np.ndarray:
        """Return the part of the log density that depends on the mean, a row."""
        return self.family.log_kernel(self.y, eta, mu, self.weights, extra)

    def at(self, eta: np.ndarray, extra: Extra) -> RowState | None:
        """Return the rows' state at eta (n,), None outside the domain of link or family."""
        family = self.family
        with np.errstate(all="ignore"):
            found = family.mean_and_kernel(self.y, eta, extra)
            if found is None:
                return None
            mu, kernel = found
            value = self._log_density(mu, kernel, extra)
            if not isfinite(value):
                return None
            residual = self.y - mu
            if self.is_canonical:
                score = self._of_score * residual
                weights = self._of_weight * family.variance(mu, extra)
                if self._has_dispersion:
                    score, weights = score / extra, weights / extra
                return RowState(eta, mu, value, score, weights, weights)
            share = self._share(extra)
            V = family.variance_at(eta, mu, extra)
            at_end = V == 0.0
            d = row_derivatives(family, eta, mu, np.where(at_end, 1.0, V), extra, 1)
            if (residual[at_end & (d.mu[1] == 0.0)] != 0.0).any():
                return None
            score = share * d.score(self.y, 0)
            expected, observed = share * d.expected(0), -share * d.score(self.y, 1)
        if not (np.isfinite(score).all() and np.isfinite(observed).all()):
            return None
        return RowState(eta, mu, value, score, expected, observed)

    def score(self, eta: np.ndarray, extra: Extra, mu: np.ndarray) -> np.ndarray:
        """Return the scores at eta and its mean, (n,) or (n, k)."""
        link = self.family.link
        with np.errstate(all="ignore"):
            share = by_row(np.asarray(self._share(extra)), eta)
            residual = by_row(self.y, eta) - mu
            score: np.ndarray = share * residual
            if self.is_canonical:
                score *= self._ratio
            else:
                score = score * link.d_inverse(eta) / self._variance(eta, mu, extra)
            return score

    def slopes(self, state: RowState, extra: Extra, observed: bool) -> RowSlopes:
        """Return the derivatives of scores and weights.

        Parameters
        ----------
        observed : bool
            Whether the weights in ``log|M|`` are those by observed information.
        """
        family, share = self.family, self._share(extra)
        with np.errstate(all="ignore"):
            if self.is_canonical:
                by_eta = self._ratio * family.d_variance(state.mu, extra) * state.expected
                return self._with_extra(state, extra, observed, by_eta, None)
            d = self._derivatives(state, extra, 2 if observed else 1)
            by_eta = share * (-d.score(self.y, 2) if observed else d.expected(1))
            return self._with_extra(state, extra, observed, by_eta, d)

    def second_slopes(self, state: RowState, extra: Extra, first: RowSlopes) -> SecondSlopes:
        """Return the second derivatives of the weights in ``log|M|`` and of the scores.

        By formula, save those for a shape: they are differences of exact first derivatives, over
        a small share of the shape.
        """
        observed, share = self.uses_observed, self._share(extra)
        with np.errstate(all="ignore"):
            if self.is_canonical:
                by_score = -first.by_eta
                by_eta = self._second_slope(state, extra)
            else:
                d = self._derivatives(state, extra, 3 if observed else 2)
                by_score = share * d.score(self.y, 2)
                by_eta = share * (-d.score(self.y, 3) if observed else d.expected(2))
            if not self.has_auxiliary:
                return SecondSlopes((by_eta,), (by_score,))
            if not self._has_dispersion:
                return self._with_shape(state, extra, by_eta, by_score)
            # scores and weights are in proportion to exp(-log phi)
            return SecondSlopes(
                (by_eta, -first.by_eta[None], self.weights_of(state)[None, None]),
                (by_score, state.observed[None], state.score[None, None]),
                -0.5 * self.curvature_of_extra(state, extra),
            )

    def observed_slopes(self, state: RowState, extra: Extra) -> tuple[np.ndarray, np.ndarray]:
        """Return the first two derivatives for eta of the weights by observed information."""
        if self.is_canonical:
            return self.slopes(state, extra, True).by_eta, self._second_slope(state, extra)
        with np.errstate(all="ignore"):
            d = self._derivatives(state, extra, 3)
            share = self._share(extra)
            return -share * d.score(self.y, 2), -share * d.score(self.y, 3)

    def _with_shape(
        self, state: RowState, shape: float, by_eta: np.ndarray, by_score: np.ndarray
    ) -> SecondSlopes:
        first = self.slopes(state, shape, observed=True).by_extra
        assert first is not None
        ends = []
        for sign in (1.0, -1.0):
            value = shape * float(np.exp(sign * LOG_STEP))
            slopes = self.slopes(self.at(state.eta, value) or state, value, self.uses_observed)
            assert slopes.by_extra is not None
            ends.append((slopes.by_eta, slopes.by_extra))
        (up_eta, up), (down_eta, down) = ends
        width = 2.0 * LOG_STEP
        return SecondSlopes(
            (by_eta, (up_eta - down_eta)[None] / width, (up.weights - down.weights)[None] / width),
            (by_score, -first.weights, (up.score - down.score)[None] / width),
            (up.log_density - down.log_density)[None] / width,
        )

    def _derivatives(self, state: RowState, extra: Extra, order: int) -> RowDerivatives:
        V = self._variance(state.eta, state.mu, extra)
        return row_derivatives(self.family, state.eta, state.mu, V, extra, order)

    def _second_slope(self, state: RowState, extra: Extra) -> np.ndarray:
        """Return the second derivative of the weights for eta, for a canonical link."""
        family, mu = self.family, state.mu
        V, V1 = family.variance(mu, extra), family.d_variance(mu, extra)
        slope: np.ndarray = (
            self._ratio**2 * state.expected * (V1**2 + V * family.d2_variance(mu, extra))
        )
        return slope

    def _with_extra(
        self,
        state: RowState,
        extra: float,
        observed: bool,
        by_eta: np.ndarray,
        d: RowDerivatives | None,
    ) -> RowSlopes:
        family = self.family
        if not self.has_auxiliary:
            return RowSlopes(by_eta)
        weights = state.observed if observed else state.expected
        slope = extra * np.sum(
            family.log_density_by_extra(self.y, state.mu, self.weights, extra), keepdims=True
        )
        if self._has_dispersion:
            return RowSlopes(by_eta, AuxiliarySlopes(-state.score[None], -weights[None], slope))
        assert d is not None  # no canonical link depends on a shape
        mu1, (r, r1) = d.mu[1], d.r[:2]
        share, residual = self._share(extra), self.y - state.mu
        V, V1 = self._variance(state.eta, state.mu, extra), family.d_variance(state.mu, extra)
        V_t = family.variance_by_extra(state.mu, extra)
        r_t = -r * V_t / V
        score_t = share * residual * r_t
        weights_t = share * mu1 * r_t
        if observed:
            V1_t = family.d_variance_by_extra(state.mu, extra)
            r1_t = -(r_t * mu1 * V1 + r * mu1 * V1_t + r1 * V_t) / V
            weights_t = weights_t - share * residual * r1_t
        slopes = AuxiliarySlopes(extra * score_t[None], extra * weights_t[None], slope)
        return RowSlopes(by_eta, slopes)

    def slope_by_extra(self, mu: np.ndarray, extra: Extra, share: np.ndarray) -> np.ndarray:
        """Return the derivatives (E,) of the log density for the auxiliary coordinates.

        Summed over means (n, k), of which each counts by its share (n, k).
        """
        with np.errstate(all="ignore"):
            rows = self.family.log_density_by_extra(self.y, mu, self.weights, extra)
            return np.array([extra * np.sum(np.where(share > 0, share * rows, 0.0))])

    def curvature_of_extra(self, state: RowState, extra: Extra) -> np.ndarray:
        """Return the second derivatives (E, E) of -2 log f for the auxiliary coordinates."""
        with np.errstate(all="ignore"):
            slopes = [
                e * np.sum(self.family.log_density_by_extra(self.y, state.mu, self.weights, e))
                for e in (extra * np.exp(LOG_STEP), extra * np.exp(-LOG_STEP))
            ]
        return np.array([[-(slopes[0] - slopes[1]) / LOG_STEP]])

    def _variance(self, eta: np.ndarray, mu: np.ndarray, extra: Extra) -> np.ndarray:
        """Return the variance function; 1 where a mean is at the end of its range, up to rounding.

        There the mean does not move any more, and all that is divided by the variance is zero.
        """
        V = self.family.variance_at(eta, mu, extra)
        return np.where(V == 0.0, 1.0, V)

    def _share(self, extra: Extra) -> np.ndarray | float:
        """Prior weights over the dispersion: an array (n,), or a number without weights."""
        return self._share_of_one / extra if self._has_dispersion else self._share_of_one


def edges(y: np.ndarray, weights: np.ndarray | None, family: Family) -> np.ndarray:
    """Return the side (n,) to which a linear predictor may grow for ever: -1, 1, or 0 for none.

    Parameters
    ----------
    y : ndarray (n,)
    weights : ndarray (n,) or None
        Rows with weight zero say nothing (NaN).
    family : Family
        Its `edges`; a link has none where it reaches the end of the means at a finite linear
        predictor, as the square root does.
    """
    side = np.zeros(len(y))
    for end in family.edges:
        with np.errstate(all="ignore"):
            eta = family.link.link(np.array([end]))[0]
        if np.isinf(eta):
            side[y == end] = np.sign(eta)
    if weights is not None:
        side[weights == 0] = np.nan
    return side
