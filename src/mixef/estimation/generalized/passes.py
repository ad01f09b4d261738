"""What one pass over the rows of a generalized model sums, in chunks that are never all in memory.

Every pass goes to all rows at one point: linear predictors ``X beta + offset + Z b``, with
``b = Lambda u``, and auxiliary parameters. What they sum are products with Z and X of what
response.py says of each row, with its symbols; the rest is algebra of what is as large as the
random effects (streamed.py).
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from mixef.estimation.generalized.density_response import make_response
from mixef.estimation.generalized.response import TOLD, Response, RowSlopes, RowState
from mixef.families.auxiliary import Extra
from mixef.families.family import Family
from mixef.linalg.chunk_rows import CellSums, ChunkRows, RowScale, weighted_gram
from mixef.linalg.chunks import Largest, Sums
from mixef.linalg.sources import Chunk


@dataclass(frozen=True)
class Meaning:
    """How the responses of a chunk are to be taken; it pickles."""

    family: Family
    information: str | None = None  # weights in ``log|M|``; None for the family's own
    by_deviance: bool = False  # whether log densities are by deviances, beside constants

    def of(self, chunk: Chunk, extra: Extra) -> Response:
        """Return a chunk's response, whose log density is left without its constants."""
        response = make_response(
            self.family, chunk.y, chunk.weights, self.information, chunk.copies
        )
        response.leave_constants(extra, self.by_deviance)
        return response


@dataclass(frozen=True)
class Point:
    """Where the rows are."""

    b: np.ndarray  # (q,): random effects ``Lambda u``
    beta: np.ndarray  # (p,)
    extra: Extra


@dataclass(frozen=True)
class Pass:
    """A step at a point; subclasses say what they sum."""

    rows: RowScale
    meaning: Meaning
    point: Point

    def _state(self, chunk: Chunk) -> tuple[ChunkRows, Response, RowState | None]:
        rows, extra = self.rows.rows(chunk), self.point.extra
        response = self.meaning.of(chunk, extra)
        return rows, response, response.at(rows.eta(self.point.b, self.point.beta), extra)

    def _inside(self, chunk: Chunk) -> tuple[ChunkRows, Response, RowState]:
        """Return rows that are inside the domain, as an earlier pass has found."""
        rows, response, state = self._state(chunk)
        assert state is not None
        return rows, response, state


@dataclass(frozen=True)
class Gram(Sums):
    """Cross-products at some weights."""

    ZtWX: np.ndarray  # (q, p)
    XtWX: np.ndarray  # (p, p)


Zt = Callable[[np.ndarray], np.ndarray]  # returns ``Z'v``, (q,) or (q, k), for (m,) or (m, k)


def gram_of(Zt: Zt, X: np.ndarray, weights: np.ndarray) -> Gram:
    """Return the cross-products with X of some rows."""
    WX = X * weights[:, None]
    return Gram(Zt(WX), WX.T @ X)


@dataclass(frozen=True)
class StateSums(Sums):
    """What PIRLS asks of the rows."""

    n_outside: float  # chunks outside the domain of link or family; the rest is None then
    log_density: float = 0.0
    constant: float | None = None  # the part of it that is free of the means, if asked for
    score_z: np.ndarray | None = None  # (q,): ``Z's``
    score_x: np.ndarray | None = None  # (p,): ``X's``
    observed: CellSums | None = None  # (v,): values of ``Z'W_oZ``
    expected: CellSums | None = None  # (v,): values of ``Z'W_eZ``; None where it is the same
    observed_gram: Gram | None = None  # with X, if asked for
    expected_gram: Gram | None = None


@dataclass(frozen=True)
class StatePass(Pass):
    """Log density, scores and weights."""

    with_constant: bool = False
    with_gram: bool = False

    def __call__(self, chunk: Chunk) -> StateSums:
        """Return the sums of a chunk."""
        rows, response, state = self._state(chunk)
        if state is None:
            return StateSums(1.0)
        extra, same = self.point.extra, state.expected is state.observed
        constant = None
        if self.with_constant:
            constant = chunk.surplus + response.constant(extra, self.meaning.by_deviance)
        return StateSums(
            0.0,
            state.log_density,
            constant,
            rows.Zt(state.score),
            rows.X.T @ state.score,
            rows.products(state.observed),
            None if same else rows.products(state.expected),
            gram_of(rows.Zt, rows.X, state.observed) if self.with_gram else None,
            gram_of(rows.Zt, rows.X, state.expected) if self.with_gram and not same else None,
        )


@dataclass(frozen=True)
class ExtraSums(Sums):
    """What the auxiliary coordinates do to the rows while linear predictors stay."""

    score_z: np.ndarray  # (q, E): ``Z's_e``, with the derivatives of scores
    score_x: np.ndarray  # (p, E): ``X's_e``
    log_density: np.ndarray  # (E,)
    curvature: np.ndarray  # (E, E): of -2 log f


@dataclass(frozen=True)
class GramSums(Sums):
    """Cross-products with X by both weights, and what the auxiliary coordinates do."""

    observed: Gram
    expected: Gram | None  # None where it is the same
    extra: ExtraSums | None  # None where there are none


def extra_sums_of(
    Zt: Zt, X: np.ndarray, response: Response, state: RowState, extra: Extra, slopes: RowSlopes
) -> ExtraSums | None:
    """Return what the auxiliary coordinates do to some rows; None where there are none."""
    change = slopes.by_extra
    if change is None:
        return None
    score, curvature = change.score.T, response.curvature_of_extra(state, extra)
    return ExtraSums(Zt(score), X.T @ score, change.log_density, curvature)


def gram_sums_of(
    rows: ChunkRows, response: Response, state: RowState, extra: Extra, slopes: RowSlopes | None
) -> GramSums:
    """Return the cross-products of a chunk, and what the auxiliary coordinates do to it."""
    Zt, X, same = rows.Zt, rows.X, state.expected is state.observed
    return GramSums(
        gram_of(Zt, X, state.observed),
        None if same else gram_of(Zt, X, state.expected),
        None if slopes is None else extra_sums_of(Zt, X, response, state, extra, slopes),
    )


class GramPass(Pass):
    """Cross-products with X, and what the auxiliary coordinates do."""

    def __call__(self, chunk: Chunk) -> GramSums:
        """Return the sums of a chunk."""
        rows, response, state = self._inside(chunk)
        extra, slopes = self.point.extra, None
        if response.family.auxiliary:
            slopes = response.slopes(state, extra, response.uses_observed)
        return gram_sums_of(rows, response, state, extra, slopes)


@dataclass(frozen=True)
class SlopeSums(Sums):
    """What the gradient asks of the rows."""

    c_z: np.ndarray  # (q,): ``Z'c``, ``c = h dW/d eta``
    c_x: np.ndarray  # (p,): ``X'c``
    gram: GramSums
    weights: np.ndarray | None  # (E,): derivatives of weights in ``log|M|``, times h


@dataclass(frozen=True)
class SlopePass(Pass):
    """Derivatives of the weights, by h."""

    inverse: np.ndarray  # (v,): ``Lambda M^-1 Lambda'``, each value times how often it occurs

    def __call__(self, chunk: Chunk) -> SlopeSums:
        """Return the sums of a chunk."""
        rows, response, state = self._inside(chunk)
        extra, h = self.point.extra, rows.forms(self.inverse)
        slopes = response.slopes(state, extra, response.uses_observed)
        c, change = h * slopes.by_eta, slopes.by_extra
        weights = None if change is None else change.weights @ h
        grams = gram_sums_of(rows, response, state, extra, slopes)
        return SlopeSums(rows.Zt(c), rows.X.T @ c, grams, weights)


@dataclass(frozen=True)
class MovingPass(Pass):
    """A step as linear predictors move with the parameters."""

    #: `b`, `beta`: (q, K), (p, K); how random effects and coefficients move with K parameters, of
    #: which the auxiliary ones come last.
    b: np.ndarray
    beta: np.ndarray

    def _moves(self, rows: ChunkRows) -> np.ndarray:
        """Return how linear predictors move (m, K)."""
        moves: np.ndarray = rows.Z(self.b) + rows.X @ self.beta
        return moves


@dataclass(frozen=True)
class ChangeSums(Sums):
    """What happens to ``Z'WZ``."""

    weights: CellSums  # (K, v): values of ``Z' diag(dW/d a) Z`` as all moves with a parameter


@dataclass(frozen=True)
class ChangePass(MovingPass):
    """Changes of the weights in ``log|M|``."""

    def __call__(self, chunk: Chunk) -> ChangeSums:
        """Return the sums of a chunk."""
        rows, response, state = self._inside(chunk)
        slopes = response.slopes(state, self.point.extra, response.uses_observed)
        return ChangeSums(rows.products(slopes.along(self._moves(rows))))


@dataclass(frozen=True)
class CurvatureSums(Sums):
    """What the exact Hessian asks of the rows; see crossed_hessian.py."""

    weights: CellSums  # (K, v): values of ``Z' diag(dW/d a) Z`` as all moves with a parameter
    curved: np.ndarray  # (K, K): ``eta_a'(h W'' + (U x) s'')eta_b``
    cross: np.ndarray | None  # (E, K)
    extra: np.ndarray | None  # (E, E)


@dataclass(frozen=True)
class CurvaturePass(MovingPass):
    """Second derivatives."""

    inverse: np.ndarray  # (v,): as `SlopePass` has it
    adjoint: Point  # ``Lambda x``, and x of the coefficients

    def __call__(self, chunk: Chunk) -> CurvatureSums:
        """Return the sums of a chunk."""
        rows, response, state = self._inside(chunk)
        extra, h = self.point.extra, rows.forms(self.inverse)
        adjoint = rows.Z(self.adjoint.b) + rows.X @ self.adjoint.beta
        slopes = response.slopes(state, extra, response.uses_observed)
        second = response.second_slopes(state, extra, slopes)
        eta = self._moves(rows)
        curved = weighted_gram(eta, h * second.weights[0] + adjoint * second.score[0])
        cross = own = None
        if slopes.by_extra is not None:
            cross = (h * second.weights[1] + adjoint * second.score[1]) @ eta
            own = second.weights[2] @ h + second.score[2] @ adjoint - 2.0 * second.log_density
        return CurvatureSums(rows.products(slopes.along(eta)), curved, cross, own)


@dataclass(frozen=True)
class ErrorSums(Sums):
    """What the next terms of Laplace's expansion ask of the rows; see laplace_error.py."""

    c_z: np.ndarray  # (q,): ``Z'(h dW_o/d eta)``
    second: float  # ``sum h^2 d^2W_o/d eta^2``
    effective: float  # ``h'W_o``


def error_sums_of(
    Zt: Zt, response: Response, state: RowState, extra: Extra, h: np.ndarray
) -> ErrorSums:
    """Return what the next terms ask of some rows, given h."""
    first, second = response.observed_slopes(state, extra)
    return ErrorSums(Zt(h * first), float(h**2 @ second), float(h @ state.observed))


@dataclass(frozen=True)
class ErrorPass(Pass):
    """The next terms of Laplace's expansion."""

    inverse: np.ndarray  # (v,): as `SlopePass` has it

    def __call__(self, chunk: Chunk) -> ErrorSums:
        """Return the sums of a chunk."""
        rows, response, state = self._inside(chunk)
        h = rows.forms(self.inverse)
        return error_sums_of(rows.Zt, response, state, self.point.extra, h)


@dataclass(frozen=True)
class SquaresSums(Sums):
    """The sizes of the columns of Z."""

    n: float
    squares: np.ndarray  # (sum of s_i^2,): ``sum z_r z_r'``, one grouping factor after another


class SquaresPass(Pass):
    """Sizes of the columns of Z."""

    def __call__(self, chunk: Chunk) -> SquaresSums:
        """Return the sums of a chunk."""
        rows = self.rows.rows(chunk)
        return SquaresSums(rows.m, np.concatenate([(z @ z.T).ravel() for z in rows.z]))


@dataclass(frozen=True)
class ExtentSums(Sums):
    """How the rows are spread."""

    n: float
    largest: Largest  # linear predictor, in size
    bend: float  # rows times the change of a linear predictor over which the mean curves
    pearson: float  # weighted squared residuals ``s^2 / W_e``
    sides: float  # rows whose response is at no edge of its range
    gap: Largest  # between responses and means
    told: float  # rows whose mean is next to the response
    said: float  # rows with a weight
    not_positive: float  # rows with negative weights by observed information
    lowest: Largest  # minus the smallest mean
    highest: Largest
    mean: float  # sum of the means
    size: float  # sum of ``y^2 / V``


class ExtentPass(Pass):
    """Extremes and counts for messages."""

    def __call__(self, chunk: Chunk) -> ExtentSums:
        """Return the sums of a chunk."""
        _, response, state = self._inside(chunk)
        gap, free = response.gaps(state.mu)
        found = response.extremes(state, self.point.extra)
        weights = np.where(state.expected > 0, state.expected, 1.0)
        pearson = float((state.score**2 / weights).sum())
        if chunk.within is not None:
            family, extra = response.family, self.point.extra
            V = family.dispersion(extra) * family.variance_at(state.eta, state.mu, extra)
            pearson += float((chunk.within / np.where(V > 0, V, 1.0)).sum())
        m = float(len(chunk.y))
        return ExtentSums(
            m,
            Largest(float(np.abs(state.eta).max())),
            m * response.family.link.bend(state.eta),
            pearson,
            float(free),
            Largest(gap.max(initial=0.0)),
            float((gap < TOLD).sum()),
            float(len(gap)),
            float((state.observed < 0.0).sum()),
            Largest(-found.lowest),
            Largest(found.highest),
            m * found.mean,
            m * found.size,
        )
