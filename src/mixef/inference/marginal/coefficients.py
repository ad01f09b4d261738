"""Coefficients of contrasts between k means, by name."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from itertools import pairwise
from typing import Any

import numpy as np
import pandas as pd

from mixef import checks
from mixef.errors import ArgumentError
from mixef.terms.splines import orthonormal_polynomials

#: Names of contrasts, and their coefficients (c, k).
Made = tuple[list[str], np.ndarray]
_POWERS = ("linear", "quadratic", "cubic", "quartic")


def _pairwise(labels: Sequence[str], minus: str, ref: Any, reverse: bool = False) -> Made:
    """Return each mean less each one after it; in reverse, less each one before it."""
    k = len(labels)
    pairs = [(i, j) for i in range(k) for j in range(i + 1, k)]
    if reverse:
        pairs = [(j, i) for j in range(1, k) for i in range(j)]
    eye = np.eye(k)
    names = [f"{labels[i]} {minus} {labels[j]}" for i, j in pairs]
    return names, np.array([eye[i] - eye[j] for i, j in pairs]).reshape(-1, k)


def _revpairwise(labels: Sequence[str], minus: str, ref: Any) -> Made:
    return _pairwise(labels, minus, ref, reverse=True)


def _control(labels: Sequence[str], minus: str, ref: Any) -> Made:
    """Return each mean less that of a control, or less the mean of several."""
    places = _places(ref, labels)
    rest = [i for i in range(len(labels)) if i not in places]
    eye = np.eye(len(labels))
    control = labels[places[0]]
    if len(places) > 1:
        control = f"avg({','.join(labels[i] for i in places)})"
    names = [f"{labels[i]} {minus} {control}" for i in rest]
    rows = [eye[i] - eye[places].mean(axis=0) for i in rest]
    return names, np.array(rows).reshape(-1, len(labels))


def _last_control(labels: Sequence[str], minus: str, ref: Any) -> Made:
    return _control(labels, minus, len(labels) - 1 if ref is None else ref)


def _places(ref: Any, labels: Sequence[str]) -> list[int]:
    """Return the positions of the reference levels, given by label or position."""
    given = [0] if ref is None else list(ref) if isinstance(ref, list | tuple) else [ref]
    out = []
    for value in given:
        if str(value) in labels:
            out.append(list(labels).index(str(value)))
        else:
            out.append(
                checks.whole(value, f"ref (levels are {', '.join(labels)})", 0, len(labels) - 1)
            )
    if not 0 < len(set(out)) < len(labels):
        raise ArgumentError(
            f"ref is {checks.shown(ref)}; expected some of the levels {', '.join(labels)}, not all"
        )
    return list(dict.fromkeys(out))


def _consecutive(labels: Sequence[str], minus: str, ref: Any) -> Made:
    """Return each mean less the one before."""
    names = [f"{b} {minus} {a}" for a, b in pairwise(labels)]
    return names, np.diff(np.eye(len(labels)), axis=0)


def _mean_change(labels: Sequence[str], minus: str, ref: Any) -> Made:
    """Return the mean of all later means less that of the ones up to here."""
    k = len(labels)
    rows = [np.r_[np.full(i, -1.0 / i), np.full(k - i, 1.0 / (k - i))] for i in range(1, k)]
    names = [f"{a}|{b}" for a, b in pairwise(labels)]
    return names, np.array(rows).reshape(-1, k)


def _effects(labels: Sequence[str], minus: str, ref: Any) -> Made:
    """Return each mean less that of all."""
    k = len(labels)
    return [f"{label} effect" for label in labels], np.eye(k) - 1.0 / k


def _deleted_effects(labels: Sequence[str], minus: str, ref: Any) -> Made:
    """Return each mean less that of all others."""
    k = len(labels)
    others = (np.ones((k, k)) - np.eye(k)) / max(k - 1, 1)
    return [f"{label} effect" for label in labels], np.eye(k) - others


def _polynomials(labels: Sequence[str], minus: str, ref: Any) -> Made:
    """Return orthogonal polynomials over equal steps, with whole coefficients."""
    k = len(labels)
    degree = min(k - 1, 6)
    names = [_POWERS[d] if d < 4 else f"degree {d + 1}" for d in range(degree)]
    if not degree:
        return [], np.empty((0, k))
    rows = orthonormal_polynomials(np.linspace(-1.0, 1.0, k), degree)[0][:, 1:].T
    return names, np.array([_whole(row) for row in rows])


def _whole(row: np.ndarray) -> np.ndarray:
    """Return a polynomial over equal steps (k,) times what makes it the smallest whole numbers."""
    scaled = row / np.abs(row[np.abs(row) > 1e-8]).min()
    for factor in range(1, 1000):
        whole = np.round(factor * scaled)
        if np.abs(factor * scaled - whole).max() < 1e-6 * factor:
            return whole / np.gcd.reduce(np.abs(whole).astype(int))
    return scaled


def _helmert(labels: Sequence[str], minus: str, ref: Any) -> Made:
    """Return each mean less that of all before it."""
    k = len(labels)
    rows = np.zeros((k - 1, k))
    for i in range(1, k):
        rows[i - 1, :i], rows[i - 1, i] = -1.0 / i, 1.0
    befores = [labels[0], *(f"avg({','.join(labels[:i])})" for i in range(2, k))]
    return [f"{labels[i]} {minus} {befores[i - 1]}" for i in range(1, k)], rows


def _identity(labels: Sequence[str], minus: str, ref: Any) -> Made:
    return list(labels), np.eye(len(labels))


_MAKERS: dict[str, tuple[Callable[[Sequence[str], str, Any], Made], str]] = {
    "pairwise": (_pairwise, "tukey"),
    "revpairwise": (_revpairwise, "tukey"),
    "trt.vs.ctrl": (_control, "dunnettx"),
    "trt.vs.ctrl1": (_control, "dunnettx"),
    "trt.vs.ctrlk": (_last_control, "dunnettx"),
    "dunnett": (_control, "dunnettx"),
    "tukey": (_pairwise, "tukey"),
    "consec": (_consecutive, "mvt"),
    "mean_chg": (_mean_change, "mvt"),
    "eff": (_effects, "fdr"),
    "del.eff": (_deleted_effects, "fdr"),
    "poly": (_polynomials, "none"),
    "helmert": (_helmert, "none"),
    "identity": (_identity, "none"),
}
METHODS = tuple(_MAKERS)
_SPELLINGS = {name.replace(".", "-"): name for name in METHODS} | {"all-pairs": "pairwise"}


def is_pairwise(method: Any) -> bool:
    """Whether a method is that of all pairs of means."""
    return isinstance(method, str) and _MAKERS[method][0] in (_pairwise, _revpairwise)


def check_method(method: Any) -> Any:
    """Return a method of contrasts: its name, or coefficients by name."""
    if isinstance(method, str):
        return checks.option(method, "method", METHODS, _SPELLINGS)
    if isinstance(method, pd.DataFrame):
        return {str(name): method[name].to_numpy() for name in method.columns}
    if not isinstance(method, Mapping) or not method:
        expected = f"one of {checks.either(METHODS)}, or a dict from names to coefficients"
        raise checks.refusal("method", method, expected)
    return {str(name): row for name, row in method.items()}


def default_adjustment(method: Any) -> str:
    """Return the adjustment that goes with a method."""
    return _MAKERS[method][1] if isinstance(method, str) else "none"


def coefficients(method: Any, labels: Sequence[str], minus: str = "-", ref: Any = None) -> Made:
    """Return names and coefficients (c, k) of contrasts between means.

    Examples
    --------
    >>> names, rows = coefficients("consec", ["a", "b", "c"])
    >>> names, rows.tolist()
    (['b - a', 'c - b'], [[-1.0, 1.0, 0.0], [0.0, -1.0, 1.0]])
    """
    if isinstance(method, str):
        return _MAKERS[method][0](labels, minus, ref)
    rows = []
    for name, row in method.items():
        values = checks.numbers(row, f"the contrast {name!r}", "a number for each mean").ravel()
        if len(values) != len(labels):
            raise ArgumentError(
                f"the contrast {name!r} has {len(values)} coefficients; expected {len(labels)}, "
                f"one for each of {', '.join(labels[:20])}"
            )
        rows.append(values)
    return list(method), np.array(rows)
