"""What is averaged, or factored, over the rows of a fit, some of them at a time."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from scipy.linalg import qr

from mixef.estimation.fit import Fit

#: From a fit of some rows to values of these (m, k).
OfRows = Callable[[Fit], np.ndarray]


@dataclass(frozen=True)
class RowMoments:
    """Means of values over rows, and of the products of their deviations from these."""

    n: float  # rows, each as often as it has copies
    mean: np.ndarray  # (k,)
    products: np.ndarray  # (k, k)

    @property
    def covariance(self) -> np.ndarray:
        """The covariance (k, k), by n - 1 as R's."""
        return self.products * self.n / (self.n - 1.0) if self.n > 1.0 else self.products

    def with_more(self, other: RowMoments) -> RowMoments:
        """Return the moments of the rows of both."""
        n, step = self.n + other.n, other.mean - self.mean
        share = other.n / n
        products = self.products + share * (other.products - self.products)
        products = products + share * (1.0 - share) * np.outer(step, step)
        return RowMoments(n, self.mean + share * step, products)


def row_moments(
    fit: Fit, values: OfRows, copies: Callable[[Fit], np.ndarray | None] | None = None
) -> RowMoments:
    """Return the moments of values (n, k) of the rows of a fit.

    Parameters
    ----------
    copies : callable, optional
        From a fit of some rows to how often each of them counts; None for once.
    """
    total: RowMoments | None = None
    for piece in fit.pieces():
        weights = None if copies is None else copies(piece)
        own = moments_of(values(piece), weights)
        total = own if total is None else total.with_more(own)
    assert total is not None
    return total


def moments_of(values: np.ndarray, copies: np.ndarray | None = None) -> RowMoments:
    """Return the moments of values (n, k), each row as often as it has copies (n,)."""
    n = float(len(values) if copies is None else copies.sum())
    mean = np.average(values, axis=0, weights=copies)
    centred = values - mean
    weighted = centred if copies is None else centred * copies[:, None]
    return RowMoments(n, mean, weighted.T @ centred / n)


def row_mean(
    fit: Fit, values: OfRows, copies: Callable[[Fit], np.ndarray | None] | None = None
) -> np.ndarray:
    """Return the means (k,) of values (n, k) of the rows of a fit; see `row_moments`."""
    return row_moments(fit, values, copies).mean


def row_total(fit: Fit, values: Callable[[Fit], float]) -> float:
    """Return the sum of what is a sum over the rows of a fit."""
    return float(sum(values(piece) for piece in fit.pieces()))


def row_triangle(fit: Fit, columns: OfRows) -> np.ndarray:
    """Return the triangular factor R (min(n, k), k), ``R'R = C'C``, of columns C (n, k)."""
    R: np.ndarray | None = None
    for piece in fit.pieces():
        own = columns(piece)
        stacked = own if R is None else np.vstack([R, own])
        R = np.atleast_2d(qr(stacked, mode="r", check_finite=False)[0])[: own.shape[1]]
    assert R is not None
    return R
