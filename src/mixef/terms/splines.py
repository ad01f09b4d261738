"""Spline and polynomial bases whose knots and coefficients are learnt once."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import scipy

from mixef.errors import DataError


def on_present(x: np.ndarray, width: int, basis: Callable[[np.ndarray], np.ndarray]) -> np.ndarray:
    """Apply a function of complete values; missing rows become NaN rows (n, width)."""
    present = ~np.isnan(x)
    if present.all():
        return basis(x)
    out = np.full((len(x), width), np.nan)
    out[present] = basis(x[present])
    return out


def poly_basis(x: np.ndarray, degree: int, raw: bool, state: dict[str, Any]) -> np.ndarray:
    """Polynomials of degree 1 to `degree` (n, degree), orthonormal over the training rows.

    Raises
    ------
    DataError
        If there are not more distinct values than `degree`.

    Notes
    -----
    The recurrence is Arnoldi's, with each polynomial made orthogonal to all earlier ones, and new
    values go through the same recurrence (Brubeck, Nakatsukasa and Trefethen 2021, SIAM Review
    63, 405-415): it loses no digits where the powers of x would.
    """
    if raw:
        powers: np.ndarray = x[:, None] ** np.arange(1.0, degree + 1)
        return powers
    if not state:
        present = x[~np.isnan(x)]
        distinct = len(np.unique(present))
        if degree >= distinct:
            raise DataError(
                f"poly(): the degree must be from 1 to one less than the number of distinct "
                f"values, but it is {degree} and there are {distinct}"
            )
        mean = present.mean()
        unit = np.abs(present - mean).max()
        state.update(mean=mean, unit=unit, n=len(present))
        Q, state["hessenberg"] = orthonormal_polynomials((present - mean) / unit, degree)
        return on_present(x, degree, lambda values: Q[:, 1:])
    t, H = (x - state["mean"]) / state["unit"], state["hessenberg"]
    W = np.empty((len(x), degree + 1), order="F")
    W[:, 0] = state["n"] ** -0.5
    for k in range(1, degree + 1):
        W[:, k] = (t * W[:, k - 1] - W[:, :k] @ H[:k, k - 1]) / H[k, k - 1]
    return W[:, 1:]


def poly_slopes(x: np.ndarray, degree: int, raw: bool, state: dict[str, Any]) -> np.ndarray:
    """Return the derivatives (n, degree) of `poly_basis`, by those of its recurrence."""
    if raw:
        powers = np.arange(1.0, degree + 1)
        slopes: np.ndarray = powers * x[:, None] ** (powers - 1.0)
        return slopes
    H = state["hessenberg"]
    t = (x - state["mean"]) / state["unit"]
    W: np.ndarray = np.empty((len(x), degree + 1))
    D: np.ndarray = np.zeros_like(W)
    W[:, 0] = state["n"] ** -0.5
    for k in range(1, degree + 1):
        h = H[:k, k - 1]
        W[:, k] = (t * W[:, k - 1] - W[:, :k] @ h) / H[k, k - 1]
        D[:, k] = (W[:, k - 1] + t * D[:, k - 1] - D[:, :k] @ h) / H[k, k - 1]
    slopes = D[:, 1:] / state["unit"]
    return slopes


def orthonormal_polynomials(t: np.ndarray, degree: int) -> tuple[np.ndarray, np.ndarray]:
    """Return polynomials of degree 0 to `degree` (n, degree + 1), orthonormal over points (n,).

    With them the coefficients (degree + 1, degree) of their recurrence.
    """
    Q = np.empty((len(t), degree + 1), order="F")
    H = np.zeros((degree + 1, degree))
    Q[:, 0] = len(t) ** -0.5
    for k in range(1, degree + 1):
        v = t * Q[:, k - 1]
        for _ in range(2):  # twice is enough (Kahan and Parlett)
            h = Q[:, :k].T @ v
            v -= Q[:, :k] @ h
            H[:k, k - 1] += h
        H[k, k - 1] = np.linalg.norm(v)
        Q[:, k] = v / H[k, k - 1]
    return Q, H


def b_spline_basis(
    x: np.ndarray,
    df: int | None,
    knots: np.ndarray | None,
    bounds: np.ndarray | None,
    degree: int,
    intercept: bool,
    state: dict[str, Any],
) -> np.ndarray:
    """B-spline basis (n, k) as R's ``bs``, whose outer pieces go on beyond the boundary knots."""
    n_inner = 0 if df is None else df - degree - intercept
    _learn_knots("bs", x, df, knots, bounds, n_inner, state)
    spline = _b_splines(state, degree)
    first = 0 if intercept else 1
    return on_present(x, spline.c.shape[1] - first, lambda values: spline(values)[:, first:])


def natural_basis(
    x: np.ndarray,
    df: int | None,
    knots: np.ndarray | None,
    bounds: np.ndarray | None,
    intercept: bool,
    state: dict[str, Any],
) -> np.ndarray:
    """Natural cubic spline basis (n, k) as R's ``ns``: linear beyond the boundary knots.

    Notes
    -----
    Cubic B-splines restricted to zero second derivatives at both boundary knots; the restriction
    is the orthogonal complement given by a QR decomposition (Hastie, in Chambers and Hastie 1992,
    section 7.2).
    """
    _learn_knots("ns", x, df, knots, bounds, 0 if df is None else df - 1 - intercept, state)
    ends = np.asarray(state["bounds"])
    null, keep, spline = _natural(state, intercept)

    def basis(values: np.ndarray) -> np.ndarray:
        inside = np.clip(values, *ends)
        slope = spline.derivative(1)(inside)[:, keep] * (values - inside)[:, None]
        columns: np.ndarray = (spline(inside)[:, keep] + slope) @ null
        return columns

    return on_present(x, null.shape[1], basis)


def b_spline_slopes(
    x: np.ndarray, degree: int, intercept: bool, state: dict[str, Any]
) -> np.ndarray:
    """Return the derivatives (n, k) of `b_spline_basis`."""
    slopes: np.ndarray = _b_splines(state, degree).derivative(1)(x)[:, 0 if intercept else 1 :]
    return slopes


def natural_slopes(x: np.ndarray, intercept: bool, state: dict[str, Any]) -> np.ndarray:
    """Return the derivatives (n, k) of `natural_basis`, constant beyond the boundary knots."""
    null, keep, spline = _natural(state, intercept)
    slopes: np.ndarray = spline.derivative(1)(np.clip(x, *state["bounds"]))[:, keep] @ null
    return slopes


def _natural(state: dict[str, Any], intercept: bool) -> tuple[np.ndarray, slice, Any]:
    """Return what makes B-splines natural (k, k - 2), which of them are used, and all of them."""
    spline = _b_splines(state, 3)
    curvature = spline.derivative(2)(np.asarray(state["bounds"]))
    keep = slice(None) if intercept else slice(1, None)
    return np.linalg.qr(curvature[:, keep].T, mode="complete")[0][:, 2:], keep, spline


def _b_splines(state: dict[str, Any], degree: int) -> Any:
    """Return all B-splines of the knots, as one function from (n,) to (n, k)."""
    low, high = state["bounds"]
    t = np.r_[[low] * (degree + 1), np.sort(state["knots"]), [high] * (degree + 1)]
    return scipy.interpolate.BSpline(t, np.eye(len(t) - degree - 1), degree, extrapolate=True)


def _learn_knots(
    name: str,
    x: np.ndarray,
    df: int | None,
    knots: np.ndarray | None,
    bounds: np.ndarray | None,
    n_inner: int,
    state: dict[str, Any],
) -> None:
    """Keep boundary and inner knots; with `df`, inner knots at equally spaced quantiles."""
    if "bounds" in state:
        return
    present = x[~np.isnan(x)]
    if not len(present):
        raise DataError(f"{name}(): x has no value that is not missing")
    low, high = (present.min(), present.max()) if bounds is None else bounds
    if low == high:
        raise DataError(f"{name}(): x has one value only, {low:g}; a spline needs a range")
    if knots is None:
        if n_inner < 0:
            raise DataError(
                f"{name}(): a spline with df = {df} has too few columns; choose a larger df"
            )
        inside = present[(present >= low) & (present <= high)]
        if not len(inside):
            raise DataError(f"{name}(): x has no value between the boundary knots")
        knots = np.quantile(inside, np.linspace(0, 1, n_inner + 2)[1:-1])
    elif len(knots) and (knots.min() <= low or knots.max() >= high):
        raise DataError(
            f"{name}(): knots has values outside of x, which is between {low:g} and {high:g}"
        )
    state["bounds"], state["knots"] = (float(low), float(high)), knots
