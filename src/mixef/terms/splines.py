"""Spline and polynomial bases whose knots and coefficients are learnt once."""

from __future__ import annotations

from typing import Any

import numpy as np
import scipy
from formulaic.transforms.basis_spline import basis_spline
from formulaic.transforms.poly import poly as orthogonal_poly

from mixef.errors import DataError


def on_present(x: np.ndarray, width: int, basis: Any) -> np.ndarray:
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
    """
    if not raw and not state:
        distinct = len(np.unique(x[~np.isnan(x)]))
        if degree < 1 or degree >= distinct:
            raise DataError(
                f"poly(): the degree must be from 1 to one less than the number of distinct "
                f"values, but it is {degree} and there are {distinct}"
            )
    if "mean" not in state:
        state["mean"] = 0.0 if raw else float(np.nanmean(x))
    # Centred first: the recurrence loses digits when the mean is large against the spread.
    return np.asarray(orthogonal_poly(x - state["mean"], degree, raw=raw, _state=state))


def b_spline_basis(
    x: np.ndarray,
    df: int | None,
    knots: Any,
    degree: int,
    intercept: bool,
    bounds: Any,
    state: dict[str, Any],
) -> np.ndarray:
    """B-spline basis (n, k) as R's ``bs``."""
    _learn_knots(x, df, knots, bounds, df is not None and df - degree - intercept, state)
    lower, upper = state["bounds"]
    inner = state.setdefault("formulaic", {})

    def basis(values: np.ndarray) -> np.ndarray:
        columns: Any = basis_spline(
            values,
            knots=list(state["knots"]),
            degree=degree,
            include_intercept=intercept,
            lower_bound=lower,
            upper_bound=upper,
            extrapolation="extend",
            _state=inner,
        )
        columns = getattr(columns, "__wrapped__", columns)
        return np.column_stack([columns[key] for key in columns])

    return on_present(x, len(state["knots"]) + degree + intercept, basis)


def natural_basis(
    x: np.ndarray, df: int | None, knots: Any, intercept: bool, bounds: Any, state: dict[str, Any]
) -> np.ndarray:
    """Natural cubic spline basis (n, k) as R's ``ns``: linear beyond the boundary knots.

    Notes
    -----
    Cubic B-splines restricted to zero second derivatives at both boundary knots; the restriction
    is the orthogonal complement given by a QR decomposition (Hastie, in Chambers and Hastie 1992,
    section 7.2).
    """
    _learn_knots(x, df, knots, bounds, df is not None and df - 1 - intercept, state)
    ends = np.asarray(state["bounds"])
    t = np.sort(np.concatenate([np.repeat(ends, 4), state["knots"]]))
    spline = scipy.interpolate.BSpline(t, np.eye(len(t) - 4), 3, extrapolate=True)
    curvature = spline.derivative(2)(ends)
    keep = slice(None) if intercept else slice(1, None)
    null = np.linalg.qr(curvature[:, keep].T, mode="complete")[0][:, 2:]

    def basis(values: np.ndarray) -> np.ndarray:
        inside = np.clip(values, *ends)
        slope = spline.derivative(1)(inside)[:, keep] * (values - inside)[:, None]
        return (spline(inside)[:, keep] + slope) @ null

    return on_present(x, null.shape[1], basis)


def _learn_knots(
    x: np.ndarray, df: int | None, knots: Any, bounds: Any, n_inner: int, state: dict[str, Any]
) -> None:
    """Keep boundary and inner knots; with `df`, inner knots at equally spaced quantiles."""
    if "bounds" in state:
        return
    present = x[~np.isnan(x)]
    low, high = (present.min(), present.max()) if bounds is None else np.sort(bounds)
    if knots is None and df is not None:
        if n_inner < 0:
            raise DataError(f"a spline with df = {df} has too few columns; choose a larger df")
        inside = present[(present >= low) & (present <= high)]
        knots = np.quantile(inside, np.linspace(0, 1, n_inner + 2)[1:-1])
    state["bounds"] = (float(low), float(high))
    state["knots"] = np.atleast_1d(np.asarray([] if knots is None else knots, dtype=float))
