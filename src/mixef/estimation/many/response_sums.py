"""Cross-products of many responses with the scaled columns of a linear model.

Of rows that an engine holds, one reading serves as many responses as memory has room for. What is
summed is what they have beside the fixed effects of the fit, ``d = y - offset - X beta``, so that
no digits go to a mean: then ``y = X beta + Q b + r`` with ``Q'Q = n I``, ``b = Q'd / n`` and
``Z'r = Z'd - Z'Q b``.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Self

import numpy as np

from mixef.errors import RowsElsewhereError
from mixef.estimation.fit import Fit
from mixef.estimation.linear.problem import LinearProblem
from mixef.linalg.rows import GroupDesign, RowPieces, Rows
from mixef.linalg.standardize import ResponseScale, root_weighted
from mixef.linalg.threads import one_blas_thread

# Numbers of the sums that are held at a time.
HELD = 8_000_000
NO_NUMBERS = (
    "the response has values that are missing, infinite, or too large or small to be squared"
)
NOTHING_LEFT = (
    "the response leaves nothing to explain: it is constant, or the fixed effects fit it exactly, "
    "so no variance can be estimated"
)


class ResponseReading(ABC):
    """One reading of rows, which gives the next of them their responses."""

    @abstractmethod
    def of(self, piece: Fit) -> Iterator[tuple[slice, np.ndarray]]:
        """Yield some of the next rows, and their responses (k, m).

        Parameters
        ----------
        piece : Fit
            A fit of the next rows, of any model of the table.
        """

    @abstractmethod
    def finish(self) -> None:
        """Refuse rows that came in another order than in other readings."""

    def all_of(self, piece: Fit) -> np.ndarray:
        """Return the responses (k, m) of the next rows."""
        return np.concatenate([Y for _, Y in self.of(piece)])


class StreamedResponses(ABC):
    """Responses whose rows come in the order in which an engine yields them.

    They stand where those in memory are an array (n, m): as `shape`, ``Y[:, j]`` and `T`.
    """

    @property
    @abstractmethod
    def shape(self) -> tuple[int, int]:
        """Rows, and responses."""

    @abstractmethod
    def __getitem__(self, place: tuple[slice, int | slice]) -> Self:
        """Return some of the responses, or one of them."""

    @abstractmethod
    def begin(self) -> ResponseReading:
        """Return what gives the rows of one reading their responses."""

    @property
    def T(self) -> list[Self]:
        """The responses one by one."""
        return [self[:, j] for j in range(self.shape[1])]


@dataclass(frozen=True)
class ResponseSums:
    """Many scaled responses, by their cross-products; columns are responses."""

    Zty: np.ndarray  # (q, m)
    Xty: np.ndarray  # (p, m)
    yty: np.ndarray  # (m,)
    beta0: np.ndarray  # (p, m): what was taken off, in coefficients of the scaled columns
    scale: np.ndarray  # (m,)
    failures: dict[int, str]  # those that cannot be scaled
    Y: np.ndarray | None = None  # (n, m): the scaled responses, where rows are in memory

    def __len__(self) -> int:
        return len(self.yty)

    def parts(self, size: int) -> list[ResponseSums]:
        """Return so many responses at a time."""
        return [self._part(start, start + size) for start in range(0, len(self), size)]

    def _part(self, start: int, stop: int) -> ResponseSums:
        j = slice(start, stop)
        failures = {i - start: why for i, why in self.failures.items() if start <= i < stop}
        Y = None if self.Y is None else self.Y[:, j]
        return ResponseSums(
            self.Zty[:, j], self.Xty[:, j], self.yty[j], self.beta0[:, j], self.scale[j],
            failures, Y,
        )  # fmt: skip

    def problem(self, problem: LinearProblem, j: int) -> LinearProblem:
        """Return the problem of a model with response j."""
        Zty, Xty = (np.ascontiguousarray(products[:, j]) for products in (self.Zty, self.Xty))
        y = None if self.Y is None else np.ascontiguousarray(self.Y[:, j])
        scale = ResponseScale(self.beta0[:, j], float(self.scale[j]))
        return problem.with_response(Zty, Xty, float(self.yty[j]), scale, y)


def scaled_groups(fit: Fit) -> list[GroupDesign]:
    """Return the scaled columns of a fit's search, root-weighted, one design a block."""
    terms, weights = fit.problem.terms, fit.frame.weights
    scaled = [
        basis.scaled(root_weighted(term.z, weights))
        for basis, term in zip(terms.bases, fit.terms, strict=True)
    ]
    return [
        GroupDesign(
            fit.terms[members[0]].grouping.codes,
            fit.terms[members[0]].n_levels,
            np.column_stack([scaled[t] for t in members]),
        )
        for members in terms.blocks
    ]


def scaled_X(fit: Fit) -> np.ndarray:
    """Return the scaled columns (n, p) of X, root-weighted."""
    X = root_weighted(fit.X, fit.frame.weights)
    return RowPieces(X, R=fit.problem.x_basis.R).whole() if X.shape[1] else X


def columns_at_once(fit: Fit) -> int:
    """Return of how many responses the sums are taken in one reading."""
    problem: LinearProblem = fit.problem
    return max(1, HELD // (problem.products.layout.q + problem.p + 1))


def summed_responses(fit: Fit, responses: StreamedResponses) -> ResponseSums:
    """Return the sums of responses of rows in an engine, by one reading of these.

    Raises
    ------
    RowsElsewhereError
        Where sums lose digits, and searches look at the rows.
    """
    problem: LinearProblem = fit.problem
    if problem.rows is not None:
        engine = fit.frame.relation.engine  # type: ignore[attr-defined]
        raise RowsElsewhereError(
            "the groups leave almost nothing of the response's variance, so that sums lose digits, "
            f"and each replicate needs its {fit.frame.n:,} rows, which are in {engine}: collect "
            "the table, or a sample of its rows, and fit the model to that"
        )
    with one_blas_thread(), np.errstate(all="ignore"):
        return _scaled(fit, *_summed(fit, responses))


def _summed(fit: Fit, responses: StreamedResponses) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Return ``Z'd`` (q, m), ``Q'd`` (p, m) and ``d'd`` (m,), in units of the fit's response."""
    problem: LinearProblem = fit.problem
    m, unit = responses.shape[1], problem.y_scale.scale
    Ztd, Qtd = np.zeros((problem.products.layout.q, m)), np.zeros((problem.p, m))
    dtd = np.zeros(m)
    reading = responses.begin()
    for piece in fit.pieces():
        groups, Q = scaled_groups(piece), scaled_X(piece)
        fixed, weights = piece.fixed_predictor, piece.frame.weights
        for rows, Y in reading.of(piece):
            d = Y - fixed[rows, None]
            d = root_weighted(d, None if weights is None else weights[rows])
            d /= unit
            some = [GroupDesign(g.codes[rows], g.n_levels, g.z[rows]) for g in groups]
            Ztd += Rows(some, Q[rows], d[:, 0]).Zt_times(d)
            Qtd += Q[rows].T @ d
            dtd += np.einsum("nm,nm->m", d, d)
    reading.finish()
    return Ztd, Qtd, dtd


def _scaled(fit: Fit, Ztd: np.ndarray, Qtd: np.ndarray, dtd: np.ndarray) -> ResponseSums:
    problem: LinearProblem = fit.problem
    n, unit = fit.frame.n, problem.y_scale.scale
    b = Qtd / n
    left = dtd / n - np.einsum("pm,pm->m", b, b)
    usable = np.isfinite(dtd) & np.isfinite(Ztd).all(axis=0)
    exact = usable & ~(left > 1e-26 * dtd / n)
    failures = dict.fromkeys(np.flatnonzero(~usable).tolist(), NO_NUMBERS)
    failures |= dict.fromkeys(np.flatnonzero(exact).tolist(), NOTHING_LEFT)
    rms = np.sqrt(np.where(usable & ~exact, left, 1.0))
    start = problem.x_basis.R @ fit.estimates.beta
    return ResponseSums(
        (Ztd - problem.products.ZtX @ b) / rms,
        np.zeros_like(Qtd),
        np.full(len(rms), float(n)),
        start[:, None] + unit * b,
        unit * rms,
        failures,
    )
