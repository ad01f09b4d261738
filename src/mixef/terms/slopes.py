"""Derivatives of a model matrix for one variable, by the rules of the calculus.

Arithmetic and the functions of the formula language are differentiated exactly: ``poly`` by its
recurrence, splines as piecewise polynomials, what takes steps (``round``, comparisons, factors) as
flat. Functions of the caller's, and numpy's that have no rule here, take central differences of
eighth order, whose error is that of rounding, about 1e-13 of the function.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np

from mixef.terms.columns import Columns
from mixef.terms.expressions import Scope, Variable, as_variable
from mixef.terms.fixed import DesignSpec
from mixef.terms.nodes import Binary, Call, Name, Node, Paren, Unary, fold
from mixef.terms.splines import b_spline_slopes, natural_slopes, poly_slopes
from mixef.terms.values import Matrix, as_number

# Coefficients of central differences of eighth order, for 1 to 4 steps.
_CENTRAL = (4.0 / 5.0, -1.0 / 5.0, 4.0 / 105.0, -1.0 / 280.0)
# The step beside the size of the variable.
STEP = 5e-3


def matrix_slopes(spec: DesignSpec, data: Mapping[str, Any], name: str) -> np.ndarray:
    """Return the derivatives (m, P) of a model matrix for a numeric column of the data."""
    columns = Columns(data)
    scope = Scope(columns, spec.state, {})
    variables = {text: scope.variable(node) for text, node in spec.nodes.items()}
    out = np.zeros((columns.n, len(spec.names)))
    for text, node in spec.nodes.items():
        slope = node_slopes(node, scope, name)
        if not np.any(slope):
            continue
        moved = spec.build(variables | {text: _like(variables[text], slope)}, columns.n)
        holds = [t + 1 for t, term in enumerate(spec.terms) if any(c.node == node for c in term)]
        own = np.isin(spec.assign, holds)
        out[:, own] += moved[:, own]
    return out


def _like(variable: Variable, slope: np.ndarray) -> Variable:
    """Return slopes in the shape of their variable."""
    if isinstance(variable, Matrix):
        return Matrix(np.broadcast_to(slope, variable.array.shape), variable.suffixes)
    return np.broadcast_to(slope, len(variable)).astype(float)


def node_slopes(node: Node, scope: Scope, name: str) -> np.ndarray:
    """Return the derivatives of an expression, (m,), (m, k), or one number for all rows."""
    with np.errstate(all="ignore"):
        return np.asarray(fold(node, partial(_slope, _Point(scope, name))))


@dataclass
class _Point:
    """Where derivatives are taken, and for which variable."""

    scope: Scope
    name: str

    def value(self, node: Node) -> Any:
        """Return the numbers of an expression, (m,), (m, k) or one."""
        value = self.scope.evaluate(node)
        return as_number(as_variable(value), node.text)

    def differences(self, node: Node) -> np.ndarray:
        """Return central differences of an expression."""
        columns = self.scope.columns
        x = np.asarray(as_number(columns[self.name], self.name), dtype=float)
        h = STEP * max(float(np.abs(x).max(initial=0.0)), 1.0)
        total: Any = 0.0
        for k, weight in enumerate(_CENTRAL, start=1):
            for sign in (1.0, -1.0):
                moved = {n: columns.raw(n) for n in columns.names} | {self.name: x + sign * k * h}
                scope = Scope(Columns(moved), self.scope.state, self.scope.env)
                total = total + sign * weight * _Point(scope, self.name).value(node)
        return np.asarray(total / h)


def _slope(point: _Point, node: Node, parts: list[Any]) -> Any:
    """Return the derivative of a node, of those below it."""
    if isinstance(node, Name):
        return 1.0 if node.name == point.name else 0.0
    if not any(np.any(part) for part in parts):
        return 0.0
    if isinstance(node, Paren):
        return parts[0]
    if isinstance(node, Unary):
        return {"-": -1.0, "+": 1.0}.get(node.op, 0.0) * parts[0]
    if isinstance(node, Binary):
        return _of_operator(point, node, *parts)
    assert isinstance(node, Call)
    return _of_call(point, node, parts)


def _of_operator(point: _Point, node: Binary, du: Any, dv: Any) -> Any:
    """Return the derivative of an operator between two expressions."""
    if node.op not in ("+", "-", "*", "/", "^", "%%"):
        return 0.0
    u, v = point.value(node.left), point.value(node.right)
    u, v, du, dv = _paired(u, v, du, dv)
    if node.op in ("+", "-"):
        return du + dv if node.op == "+" else du - dv
    if node.op == "*":
        return du * v + u * dv
    if node.op == "/":
        return (du - u / v * dv) / v
    if node.op == "%%":
        return du - np.floor(u / v) * dv
    power = v * u ** (v - 1.0) * du
    return power + u**v * np.log(u) * dv if np.any(dv) else power


def _paired(*values: Any) -> list[Any]:
    """Return values for arithmetic by rows: vectors beside matrices as columns."""
    wide = any(np.ndim(v) == 2 for v in values)
    return [v[:, None] if wide and np.ndim(v) == 1 else v for v in values]


def _of_call(point: _Point, node: Call, parts: list[Any]) -> Any:
    """Return the derivative of a function of something, by its name."""
    name = function_name(node)
    if name in _FLAT:
        return 0.0
    if name in ("I", "identity", "offset", "as.numeric", "as.double"):
        return parts[0]
    if name in _ELEMENTWISE and len(parts) == 1:
        return _ELEMENTWISE[name](point.value(node.args[0])) * parts[0]
    if name == "log" and not np.any(parts[1]):
        return parts[0] / (point.value(node.args[0]) * np.log(point.value(node.args[1])))
    if name in ("scale", "center"):
        return parts[0] / point.scope.state.transforms[node.text]["scale"]
    if name in _BASES and not any(np.any(part) for part in parts[1:]):
        return _of_basis(point, node, name, parts[0])
    if name == "cbind":
        return np.column_stack([np.broadcast_to(part, point.scope.n) for part in parts])
    if name == "ifelse" and len(parts) == 3:
        chosen = point.value(node.args[0])
        return np.where(np.asarray(chosen) != 0, parts[1], parts[2])
    return point.differences(node)


def function_name(node: Call) -> str:
    """Return the name of a function, without that of its package.

    Examples
    --------
    >>> from mixef.terms.parser import parse_expression
    >>> function_name(parse_expression("np.log(x)"))
    'log'
    """
    return node.function.rsplit("::", 1)[-1].removeprefix("np.").removeprefix("numpy.")


def _of_basis(point: _Point, node: Call, name: str, du: Any) -> Any:
    """Return the derivative of ``poly``, ``bs`` or ``ns``, which know what they learnt."""
    values = [point.scope.evaluate(argument) for argument in node.args]
    given = {k: v for k, v in zip(node.keywords, values, strict=True) if k is not None}
    order = {"poly": ("x", "degree", "raw"), "bs": ("x", "df", "knots", "degree", "intercept"),
             "ns": ("x", "df", "knots", "intercept")}[name]  # fmt: skip
    positional = [v for k, v in zip(node.keywords, values, strict=True) if k is None]
    given |= dict(zip([k for k in order if k not in given], positional, strict=False))
    x = np.asarray(as_number(as_variable(given["x"]), node.text), dtype=float)
    state = point.scope.state.transforms[node.text]
    du = np.broadcast_to(du, x.shape)[:, None]
    if name == "poly":
        made = poly_slopes(x, int(given.get("degree", 1)), bool(given.get("raw", False)), state)
    elif name == "bs":
        degree, whole = int(given.get("degree", 3)), bool(given.get("intercept", False))
        made = b_spline_slopes(x, degree, whole, state)
    else:
        made = natural_slopes(x, bool(given.get("intercept", False)), state)
    return made * du


_BASES = ("poly", "bs", "ns")
#: Functions that are flat almost everywhere, or do not depend on single rows.
_FLAT = frozenset(
    ("floor", "ceiling", "trunc", "round", "factor", "as.factor", "ordered", "as.ordered",
     "as.character", "as.logical", "as.integer", "cut", "dummy", "is.na", "relevel", "interaction",
     "mean", "median", "min", "max", "sum", "sd", "var")
)  # fmt: skip
#: Derivatives of functions of one number.
_ELEMENTWISE: dict[str, Callable[[Any], Any]] = {
    "log": lambda u: 1.0 / u,
    "log2": lambda u: 1.0 / (u * np.log(2.0)),
    "log10": lambda u: 1.0 / (u * np.log(10.0)),
    "log1p": lambda u: 1.0 / (1.0 + u),
    "exp": np.exp,
    "expm1": np.exp,
    "sqrt": lambda u: 0.5 / np.sqrt(u),
    "abs": np.sign,
    "sin": np.cos,
    "cos": lambda u: -np.sin(u),
    "tan": lambda u: 1.0 + np.tan(u) ** 2,
    "sinh": np.cosh,
    "cosh": np.sinh,
    "tanh": lambda u: 1.0 - np.tanh(u) ** 2,
    "atan": lambda u: 1.0 / (1.0 + u**2),
    "asin": lambda u: 1.0 / np.sqrt(1.0 - u**2),
    "acos": lambda u: -1.0 / np.sqrt(1.0 - u**2),
}
