"""What the operators of an expression compute, by R's rules for missing values and factors."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from mixef.errors import FormulaError
from mixef.terms.exact import Exact, Times
from mixef.terms.factor import Factor, factor_from_logical
from mixef.terms.nodes import Binary, Node, Unary
from mixef.terms.values import (
    LONGEST,
    Matrix,
    as_factor,
    as_number,
    constants,
    paired,
    text_of,
)

_ARITHMETIC: dict[str, Callable[[Any, Any], Any]] = {
    "+": np.add, "-": np.subtract, "*": np.multiply, "/": np.true_divide, "^": np.power,
    "%%": np.mod, "%/%": np.floor_divide,
}  # fmt: skip
_COMPARISONS: dict[str, Callable[[Any, Any], Any]] = {
    "==": np.equal, "!=": np.not_equal, "<": np.less, "<=": np.less_equal,
    ">": np.greater, ">=": np.greater_equal,
}  # fmt: skip
_MIRRORED = {"<": ">", ">": "<", "<=": ">=", ">=": "<="}


class _In:
    """The name of an operator's place for messages, written out only when one is needed.

    A sum of thousands would be written out once for each of its plus signs.
    """

    def __init__(self, node: Unary | Binary) -> None:
        self.node = node

    def __str__(self) -> str:
        return f"{self.node.op!r} in {self.node.text}"


def negate(node: Unary, value: Any) -> Any:
    """Return the value of a prefix operator."""
    if node.op == "!":
        return _logical(1.0 - _truth(value, node))
    if node.op == "~":
        raise FormulaError(f"cannot evaluate {node.text}: '!' (or 'not') negates a condition")
    number = as_number(value, _In(node))
    return -number if node.op == "-" else number


def operate(node: Binary, left: Any, right: Any) -> Any:
    """Return the value of an operator between two values.

    Raises
    ------
    FormulaError
        For an operator that has no value, and values that it cannot take.
    """
    if node.op in _COMPARISONS:
        return _compare(node, left, right)
    if node.op == "%in%":
        return _member(node, left, right)
    if node.op in ("&", "&&", "|", "||"):
        return _connect(node, left, right)
    if node.op == ":":
        return _sequence(node, left, right)
    if node.op not in _ARITHMETIC:
        raise FormulaError(f"cannot evaluate {node.text}: {node.op!r} has no value here")
    return _ARITHMETIC[node.op](*paired((left, right), _In(node), node))


def _logical(number: Any) -> Any:
    """Return 0/1/NaN as booleans, or as a logical factor when some are missing."""
    missing = np.isnan(number)
    if np.ndim(number) == 0:
        return float("nan") if missing else bool(number)
    if missing.any():
        return factor_from_logical(np.nan_to_num(number) != 0, missing)
    return number != 0


def _truth(value: Any, what: Node) -> Any:
    if isinstance(value, Matrix):
        raise FormulaError(f"{what} is not meaningful for a matrix; expected one variable")
    number = as_number(value, what)
    return np.where(np.isnan(number), np.nan, number != 0)[()]  # a constant stays a number


def _connect(node: Binary, left: Any, right: Any) -> Any:
    """Three-valued and, or: a missing side matters only where the other does not decide."""
    a, b = paired((_truth(left, node), _truth(right, node)), node, node)
    combine, decisive = (np.minimum, 0.0) if node.op[0] == "&" else (np.maximum, 1.0)
    decided = (a == decisive) | (b == decisive)
    return _logical(np.where(decided, decisive, combine(a, b)))


def _compare(node: Binary, left: Any, right: Any) -> Any:
    if isinstance(left, Matrix) or isinstance(right, Matrix):
        raise FormulaError(f"{node.text} is not meaningful for a matrix; expected one variable")
    if isinstance(left, str) and isinstance(right, str):
        return bool(_COMPARISONS[node.op](left, right))
    left, right = _as_labels_beside(left, right), _as_labels_beside(right, left)
    if isinstance(left, str) or (_is_labelled(right) and not _is_labelled(left)):
        return _compare(Binary(_MIRRORED.get(node.op, node.op), node.right, node.left), right, left)
    if isinstance(left, Factor) and (left.kind != "logical" or isinstance(right, str)):
        return _compare_factor(node, left, right)
    right = right[0] if isinstance(right, list) and len(right) == 1 else right
    if isinstance(left, Exact) and (truth := left.compare(node.op, right)) is not None:
        return _logical(truth)
    a, b = paired((left, right), node, node)
    missing = np.isnan(a) | np.isnan(b)
    return _logical(np.where(missing, np.nan, _COMPARISONS[node.op](a, b)))


def _is_labelled(value: Any) -> bool:
    return isinstance(value, Factor | Exact)


def _as_labels_beside(value: Any, other: Any) -> Any:
    """Return whole numbers or times beside a factor as a factor: labels are compared."""
    labels = isinstance(other, Factor) and other.kind != "logical"
    return value.factor() if labels and isinstance(value, Exact) else value


def _compare_factor(node: Binary, factor: Factor, other: Any) -> Any:
    if node.op not in ("==", "!=") and not factor.ordered and factor.kind != "character":
        raise FormulaError(f"in {node.text}: {node.op!r} is not meaningful for an unordered factor")
    if isinstance(other, Factor):
        levels = tuple(dict.fromkeys(factor.levels + other.levels))
        codes: Any = other.recode(levels)
    elif isinstance(other, float) and np.isnan(other):  # NA: nothing can be said
        levels, codes = factor.levels, -1
    else:
        found = constants(other, node)
        if len(found) != 1:
            raise FormulaError(f"in {node.text}: expected one label; write %in% for several")
        label = text_of(found[0])
        levels = factor.levels if label in factor.levels else (*factor.levels, label)
        levels = tuple(sorted(levels)) if factor.kind == "character" else levels
        codes = levels.index(label)
    mine = factor.recode(levels)
    truth = _COMPARISONS[node.op](mine, codes).astype(float)
    return _logical(np.where((mine < 0) | (np.asarray(codes) < 0), np.nan, truth))


def _member(node: Binary, left: Any, right: Any) -> Any:
    """Return R's ``%in%``, which is FALSE for a missing left side."""
    if isinstance(right, Factor | Exact):
        table: list[Any] = list(as_factor(right).used_levels().levels)
        left = as_factor(left) if isinstance(left, np.ndarray) else left
    else:
        table = right.tolist() if isinstance(right, np.ndarray) else constants(right, node)
    if isinstance(left, Times) and not isinstance(right, Times):
        found = np.zeros(len(left), dtype=bool)
        for value in table:
            found |= left.compare("==", value) == 1
        return found
    if isinstance(left, Factor | Exact):
        factor, texts = as_factor(left), set(map(_label, table))
        return np.array([*(level in texts for level in factor.levels), False])[factor.codes]
    if isinstance(left, str):
        return left in set(map(_label, table))
    return np.isin(as_number(left, node), as_number(table, node))


def _label(value: Any) -> str:
    """Return the label that a constant has as a level: whole numbers with all their digits."""
    whole = isinstance(value, float) and np.isfinite(value) and value == int(value)
    return str(int(value)) if whole else text_of(value)


def _sequence(node: Binary, left: Any, right: Any) -> list[float]:
    ends = (left, right)
    if not all(isinstance(e, int | float) and np.isfinite(e) for e in ends):
        raise FormulaError(f"cannot evaluate {node.text}: ':' makes a sequence of two numbers here")
    count = int(abs(right - left)) + 1
    if count > LONGEST:
        raise FormulaError(
            f"{node.text} has {count:,} numbers; expected at most {LONGEST:,}: compare instead, as "
            "in x >= 1 & x <= 1e9"
        )
    step = 1.0 if left <= right else -1.0
    return [left + step * i for i in range(count)]
