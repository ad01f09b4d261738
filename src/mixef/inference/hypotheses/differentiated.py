"""Expressions of parameters with their exact gradients, by forward differentiation.

The text is read by the parser of formulas; only arithmetic and the functions below are carried
out, so that no text runs code.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from difflib import get_close_matches
from typing import NamedTuple

import numpy as np
from scipy import special

from mixef.errors import FormulaError
from mixef.terms.nodes import Binary, Call, Name, Node, Number, Paren, Unary, fold, unquoted
from mixef.terms.parser import parse_expression


class Dual(NamedTuple):
    """A number, and its gradient (K,) for the parameters."""

    value: float
    gradient: np.ndarray

    def through(self, value: float, slope: float) -> Dual:
        """Return a function of it, by the function's value and slope."""
        # a zero gradient stays zero where the slope is infinite: sqrt(0), 0^0.5
        return Dual(value, np.where(self.gradient == 0.0, 0.0, slope * self.gradient))


_ROOT = np.sqrt(2.0 * np.pi)
Function = Callable[[float], float]
#: Functions by R's name, each with its derivative.
FUNCTIONS: dict[str, tuple[Function, Function]] = {
    "exp": (np.exp, np.exp),
    "log": (np.log, lambda x: 1.0 / x),
    "log2": (np.log2, lambda x: 1.0 / (x * np.log(2.0))),
    "log10": (np.log10, lambda x: 1.0 / (x * np.log(10.0))),
    "log1p": (np.log1p, lambda x: 1.0 / (1.0 + x)),
    "expm1": (np.expm1, np.exp),
    "sqrt": (np.sqrt, lambda x: 0.5 / np.sqrt(x)),
    "abs": (np.abs, np.sign),
    "sin": (np.sin, np.cos),
    "cos": (np.cos, lambda x: -np.sin(x)),
    "tan": (np.tan, lambda x: 1.0 / np.cos(x) ** 2),
    "asin": (np.arcsin, lambda x: 1.0 / np.sqrt(1.0 - x * x)),
    "acos": (np.arccos, lambda x: -1.0 / np.sqrt(1.0 - x * x)),
    "atan": (np.arctan, lambda x: 1.0 / (1.0 + x * x)),
    "sinh": (np.sinh, np.cosh),
    "cosh": (np.cosh, np.sinh),
    "tanh": (np.tanh, lambda x: 1.0 / np.cosh(x) ** 2),
    "plogis": (special.expit, lambda x: special.expit(x) * special.expit(-x)),
    "qlogis": (special.logit, lambda p: 1.0 / (p * (1.0 - p))),
    "pnorm": (special.ndtr, lambda x: np.exp(-0.5 * x * x) / _ROOT),
    "dnorm": (
        lambda x: np.exp(-0.5 * x * x) / _ROOT,
        lambda x: -x * np.exp(-0.5 * x * x) / _ROOT,
    ),
    "qnorm": (special.ndtri, lambda p: _ROOT * np.exp(0.5 * special.ndtri(p) ** 2)),
}


class Differentiated(NamedTuple):
    """The value of an expression, its gradient (K,), and which parameters (K,) it names."""

    value: float
    gradient: np.ndarray
    named: np.ndarray


def differentiated(text: str, values: Mapping[str, float]) -> Differentiated:
    """Return the value of an expression of parameters, and its gradient (K,) for all of them.

    Parameters
    ----------
    values : mapping
        The parameters by name, K in order. A name stands in backquotes where it could be read in
        another way; a part of the expression that is written as one, ``a:b`` or ``I(x^2)``, is it.

    Raises
    ------
    FormulaError
        For names that are no parameters, and for what is neither arithmetic nor a known function.

    Examples
    --------
    >>> found = differentiated("exp(a) / b", {"a": 0.0, "b": 2.0})
    >>> found.value, found.gradient.tolist()
    (0.5, [0.5, -0.25])
    """
    place = {unquoted(name): i for i, name in enumerate(values)}
    try:
        root = Name(text) if unquoted(text) in place else parse_expression(text, "the expression")
    except FormulaError as error:
        odd = [name for name in values if name in text and not name.isidentifier()]
        hint = f"\nnames such as {odd[0]} go in backquotes: `{odd[0]}`" if odd else ""
        raise FormulaError(f"{error}{hint}") from None
    numbers, named = list(values.values()), np.zeros(len(values), dtype=bool)

    def found(node: Node) -> int | None:
        return None if isinstance(node, Number) else place.get(unquoted(node.text))

    def combine(node: Node, parts: list[Dual]) -> Dual:
        i = found(node)
        if i is not None:
            named[i] = True
            return Dual(numbers[i], np.eye(len(numbers))[i])
        return _combined(node, parts, place)

    def below(node: Node) -> tuple[Node, ...]:
        return () if found(node) is not None else node.children()

    with np.errstate(all="ignore"):
        return Differentiated(*fold(root, combine, below), named)


def _combined(node: Node, parts: list[Dual], known: Mapping[str, int]) -> Dual:
    """Return the value of a node from those below it."""
    zero = np.zeros(len(known))
    if isinstance(node, Number):
        return Dual(float(node.value), zero)
    if isinstance(node, Name):
        if node.name == "pi" and not node.quoted:
            return Dual(np.pi, zero)
        raise FormulaError(_unknown(node.name, known))
    if isinstance(node, Paren):
        return parts[0]
    if isinstance(node, Unary) and node.op in ("-", "+"):
        sign = -1.0 if node.op == "-" else 1.0
        return parts[0].through(sign * parts[0].value, sign)
    if isinstance(node, Binary) and node.op in _OPERATORS:
        return _OPERATORS[node.op](*parts)
    if isinstance(node, Call):
        return _called(node, parts)
    what = f"the operator {node.op}" if isinstance(node, Unary | Binary) else node.text
    raise FormulaError(
        f"{what} is no part of an expression of numbers; expected + - * / ^ and functions such as "
        "exp(), log() and sqrt()"
    )


def _called(node: Call, parts: list[Dual]) -> Dual:
    if node.function not in FUNCTIONS:
        close = get_close_matches(node.function, FUNCTIONS, n=1)
        guess = f"did you mean {close[0]}()? " if close else ""
        raise FormulaError(
            f"{node.text} calls {node.function}(), which has no derivative here: {guess}the "
            f"functions are {', '.join(FUNCTIONS)}"
        )
    if len(parts) != 1 or node.keywords != (None,):
        raise FormulaError(
            f"{node.text} has {len(parts)} argument{'' if len(parts) == 1 else 's'}"
            f"{', by name' if any(node.keywords) else ''}; expected one, without a name"
        )
    function, slope = FUNCTIONS[node.function]
    x = np.float64(parts[0].value)  # which divides by zero
    return parts[0].through(float(function(x)), float(slope(x)))


def _unknown(name: str, known: Mapping[str, int]) -> str:
    close = get_close_matches(name, known, n=1)
    guess = f"did you mean {close[0]!r}? " if close else ""
    return f"{name!r} is no parameter: {guess}the parameters are {', '.join(known)}"


def _plus(a: Dual, b: Dual) -> Dual:
    return Dual(a.value + b.value, a.gradient + b.gradient)


def _minus(a: Dual, b: Dual) -> Dual:
    return Dual(a.value - b.value, a.gradient - b.gradient)


def _times(a: Dual, b: Dual) -> Dual:
    return Dual(a.value * b.value, b.value * a.gradient + a.value * b.gradient)


def _over(a: Dual, b: Dual) -> Dual:
    if b.value == 0.0:
        return Dual(np.nan, a.gradient)
    ratio = a.value / b.value
    return Dual(ratio, (a.gradient - ratio * b.gradient) / b.value)


def _to_the_power(a: Dual, b: Dual) -> Dual:
    value = float(np.power(a.value, b.value))
    by_base = a.through(value, b.value * float(np.power(a.value, b.value - 1.0)))
    by_exponent = b.through(value, value * float(np.log(a.value)))
    return Dual(value, by_base.gradient + by_exponent.gradient)


_OPERATORS = {"+": _plus, "-": _minus, "*": _times, "/": _over, "^": _to_the_power}
