"""Evaluate the expressions of a formula on columns, keeping what new data will need."""

from __future__ import annotations

import inspect
import pickle
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from difflib import get_close_matches
from typing import Any

import numpy as np

from mixef.errors import DataError, FormulaError, MixefError
from mixef.terms.columns import Columns
from mixef.terms.convert import read
from mixef.terms.exact import Exact
from mixef.terms.factor import Factor, factor_from_logical
from mixef.terms.functions import FUNCTIONS, Matrix, as_factor, as_number, text_of
from mixef.terms.nodes import Binary, Call, Name, Node, Number, Paren, String, Unary

Variable = np.ndarray | Factor | Matrix

_CONSTANTS: dict[str, Any] = {
    "TRUE": True, "FALSE": False, "True": True, "False": False, "T": True, "F": False,
    "NA": float("nan"), "NaN": float("nan"), "NULL": None, "None": None,
    "Inf": float("inf"), "pi": float(np.pi),
}  # fmt: skip
_ARITHMETIC: dict[str, Callable[[Any, Any], Any]] = {
    "+": np.add, "-": np.subtract, "*": np.multiply, "/": np.true_divide, "^": np.power,
    "%%": np.mod, "%/%": np.floor_divide,
}  # fmt: skip
_COMPARISONS: dict[str, Callable[[Any, Any], Any]] = {
    "==": np.equal, "!=": np.not_equal, "<": np.less, "<=": np.less_equal,
    ">": np.greater, ">=": np.greater_equal,
}  # fmt: skip
_MIRRORED = {"<": ">", ">": "<", "<=": ">=", ">=": "<="}


@dataclass
class State:
    """What evaluation learnt from the training data.

    Attributes
    ----------
    transforms : dict
        By the text of a call: means, knots, coefficients.
    outside : dict
        Functions and constants found among the caller's names. What cannot be pickled is left
        out of a pickle, and missed only when it is called again.
    """

    transforms: dict[str, dict[str, Any]] = field(default_factory=dict)
    outside: dict[str, Any] = field(default_factory=dict)

    def __getstate__(self) -> dict[str, Any]:
        kept = {name: value for name, value in self.outside.items() if _pickles(value)}
        return {"transforms": self.transforms, "outside": kept}


def _pickles(value: Any) -> bool:
    try:
        pickle.dumps(value)
    except Exception:
        return False
    return True


@dataclass
class Scope:
    """Where an evaluation looks names up: columns first, then what lies outside the data."""

    columns: Columns
    state: State
    env: Mapping[str, Any] | None = None

    @property
    def n(self) -> int:
        """Number of rows."""
        return self.columns.n

    def variable(self, node: Node) -> Variable:
        """Evaluate a node to one value a row, as a model takes it.

        Returns
        -------
        ndarray (n,) of floats or booleans; Factor; or Matrix (n, k)

        Raises
        ------
        FormulaError
            For unknown names and functions, or arguments that a function cannot take.
        """
        value = self.value(node)
        return value.as_float() if isinstance(value, Exact) else value

    def group(self, node: Node) -> Factor:
        """Evaluate a node to a factor of the levels that occur, whole numbers with all digits.

        Raises
        ------
        DataError
            If it is a matrix.
        """
        value = self.value(node)
        if isinstance(value, Matrix):
            raise DataError(f"the grouping factor {node.text} is a matrix; expected one variable")
        factor = as_factor(value)
        return Factor(factor.codes, factor.level_set)

    def value(self, node: Node) -> Variable | Exact:
        """Evaluate a node to one value a row; whole numbers and times stay what they are."""
        if isinstance(node, Name) and node.name in self.columns:
            value: Any = self.columns[node.name]
        else:
            with np.errstate(all="ignore"):  # NaN and infinities are reported by the frame
                value = self.evaluate(node)
        return self._as_rows(value, node)

    def _as_rows(self, value: Any, node: Node) -> Variable | Exact:
        if isinstance(value, np.ndarray) and value.ndim == 2:
            value = Matrix(value, tuple(map(str, range(1, value.shape[1] + 1))))
        if isinstance(value, bool | int | float | np.number) or _is_scalar_array(value):
            value = np.full(1, float(value))
        if isinstance(value, list):
            value = np.asarray(value)
        if not isinstance(value, np.ndarray | Factor | Matrix | Exact):
            raise FormulaError(f"{node.text} is {value!r}, which is not a variable")
        rows = len(value.array) if isinstance(value, Matrix) else len(value)
        if rows != self.n:
            raise DataError(
                f"variable lengths differ: {node.text} has length {rows}, but the data have "
                f"{self.n} rows; expected one value a row"
            )
        return value

    def evaluate(self, node: Node) -> Any:
        """Evaluate a node to a variable or a constant."""
        if isinstance(node, Name):
            return self._name(node)
        if isinstance(node, Number):
            return node.value
        if isinstance(node, String):
            return node.value
        if isinstance(node, Paren):
            return self.evaluate(node.inner)
        if isinstance(node, Unary):
            return self._unary(node)
        if isinstance(node, Binary):
            return self._binary(node)
        assert isinstance(node, Call)
        return self._call(node)

    def _name(self, node: Name) -> Any:
        if node.name in self.columns:
            return self.columns[node.name]
        if not node.quoted and node.name in _CONSTANTS:
            return _CONSTANTS[node.name]
        value = self._outside(node.name)
        if value is None or callable(value):
            raise FormulaError(
                f"{node.name!r} is not a column of the data{self.columns.suggestion(node.name)}"
            )
        if np.ndim(value) == 0 and not isinstance(value, Factor):
            return value
        return self._outside_array(node.name, value)

    def _outside_array(self, name: str, value: Any) -> Any:
        if len(value) != self.n and isinstance(value, list | tuple):
            return list(value)
        # An array of the caller's belongs to the training rows: new data must bring their own.
        self.state.outside.pop(name, None)
        return read(value, name)

    def _outside(self, path: str) -> Any:
        """Find a name, dotted or not, among what was kept or what the caller has."""
        if path in self.state.outside:
            return self.state.outside[path]
        value = _attribute(self.env or {}, path)
        if value is None:
            value = _attribute({"np": np, "numpy": np}, path)
        if value is not None and not inspect.ismodule(value):
            self.state.outside[path] = value
        return value

    def _unary(self, node: Unary) -> Any:
        value = self.evaluate(node.operand)
        if node.op == "!":
            return _logical(1.0 - _truth(value, node.text))
        number = as_number(value, f"{node.op!r} in {node.text}")
        return -number if node.op == "-" else number

    def _binary(self, node: Binary) -> Any:
        left, right = self.evaluate(node.left), self.evaluate(node.right)
        if node.op in _COMPARISONS:
            return _compare(node, left, right)
        if node.op == "%in%":
            return _member(left, right)
        if node.op in ("&", "&&", "|", "||"):
            return _connect(node, left, right)
        if node.op == ":":
            return _sequence(node, left, right)
        if node.op not in _ARITHMETIC:
            raise FormulaError(f"cannot evaluate {node.text}: {node.op!r} has no value here")
        what = f"{node.op!r} in {node.text}"
        return _ARITHMETIC[node.op](as_number(left, what), as_number(right, what))

    def _call(self, node: Call) -> Any:
        name = node.function.rsplit("::", 1)[-1]
        function = FUNCTIONS.get(name)
        outside = self._callable(node, name) if function is None else None
        args = [self.evaluate(a) for a, k in zip(node.args, node.keywords, strict=True) if not k]
        keywords = {k: self.evaluate(a) for a, k in zip(node.args, node.keywords, strict=True) if k}
        if function is None:
            return _call_outside(node, outside, args, keywords)
        state = self.state.transforms.setdefault(node.text, {})
        if name == "cbind":
            state["names"] = _column_names(node)
        keywords = {_python_keyword(k): v for k, v in keywords.items()}
        try:
            return function(state, *args, **keywords)
        except TypeError as error:
            problem = str(error).replace("_" + name.replace(".", "_"), name)
            raise FormulaError(f"cannot evaluate {node.text}: {problem}") from error

    def _callable(self, node: Call, name: str) -> Any:
        """Return a function of the caller's by name."""
        function = self._outside(name)
        if callable(function):
            return function
        close = get_close_matches(name, FUNCTIONS, n=1)
        guess = f"did you mean {close[0]!r}? " if close else ""
        if any(isinstance(arg, Binary) and arg.op == "|" for arg in node.args):
            guess = "covariance structures are us(), diag(), cs() and ar1(); "
        raise FormulaError(
            f"unknown function {name!r} in {node.text}: {guess}it is neither a function of "
            "R that mixef knows nor callable where the model was asked for; compute the "
            "column before and use its name"
        )


def _call_outside(node: Call, function: Any, args: list, keywords: dict) -> Any:
    if isinstance(function, np.ufunc):  # of booleans they give numbers of 16 bits
        args = [as_number(v, node.text) if isinstance(v, np.ndarray) else v for v in args]
    args, keywords = [_plain(v) for v in args], {k: _plain(v) for k, v in keywords.items()}
    try:
        value = function(*args, **keywords)
    except MixefError:
        raise
    except Exception as error:
        raise FormulaError(f"{node.text} failed: {type(error).__name__}: {error}") from error
    return read(value, node.text) if np.ndim(value) else value


def _is_scalar_array(value: Any) -> bool:
    return isinstance(value, np.ndarray) and value.ndim == 0


def _attribute(names: Mapping[str, Any], path: str) -> Any:
    if path in names:
        return names[path]
    head, *rest = path.split(".")
    value = names.get(head)
    for attribute in rest:
        value = getattr(value, attribute, None)
    return value


def _column_names(node: Call) -> tuple[str, ...]:
    """Names of a cbind's columns: keywords and bare variables, else positions."""
    pairs = enumerate(zip(node.keywords, node.args, strict=True), start=1)
    return tuple(k or (a.name if isinstance(a, Name) else str(i)) for i, (k, a) in pairs)


def _python_keyword(name: str) -> str:
    special = {"levelsToKeep": "levels_to_keep", "levels.to.keep": "levels_to_keep"}
    return special.get(name, name.replace(".", "_"))


def _plain(value: Any) -> Any:
    """Return a value as a function from outside expects it: arrays, and times as the data's."""
    if isinstance(value, Factor):
        return value.values()
    if isinstance(value, Exact):
        return value.plain()
    return value.array if isinstance(value, Matrix) else value


def _logical(number: Any) -> Any:
    """Return 0/1/NaN as booleans, or as a logical factor when some are missing."""
    missing = np.isnan(number)
    if np.ndim(number) == 0:
        return float("nan") if missing else bool(number)
    if missing.any():
        return factor_from_logical(np.nan_to_num(number) != 0, missing)
    return number != 0


def _truth(value: Any, what: str) -> Any:
    number = as_number(value, what)
    return np.where(np.isnan(number), np.nan, number != 0)


def _connect(node: Binary, left: Any, right: Any) -> Any:
    """Three-valued and, or: a missing side matters only where the other does not decide."""
    a, b = _truth(left, node.text), _truth(right, node.text)
    combine, decisive = (np.minimum, 0.0) if node.op[0] == "&" else (np.maximum, 1.0)
    decided = (a == decisive) | (b == decisive)
    return _logical(np.where(decided, decisive, combine(a, b)))


def _compare(node: Binary, left: Any, right: Any) -> Any:
    left, right = _as_labels_beside(left, right), _as_labels_beside(right, left)
    if isinstance(left, str) or (isinstance(right, Factor | Exact) and not _is_column(left)):
        return _compare(Binary(_MIRRORED.get(node.op, node.op), node.right, node.left), right, left)
    if isinstance(left, Factor) and left.kind != "logical":
        return _compare_factor(node, left, right)
    if isinstance(left, Exact) and (truth := left.compare(node.op, right)) is not None:
        return _logical(truth)
    a, b = as_number(left, node.text), as_number(right, node.text)
    missing = np.isnan(a) | np.isnan(b)
    return _logical(np.where(missing, np.nan, _COMPARISONS[node.op](a, b)))


def _is_column(value: Any) -> bool:
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
    else:
        label = text_of(other)
        levels = factor.levels if label in factor.levels else (*factor.levels, label)
        levels = tuple(sorted(levels)) if factor.kind == "character" else levels
        codes = levels.index(label)
    mine = factor.recode(levels)
    truth = _COMPARISONS[node.op](mine, codes).astype(float)
    return _logical(np.where((mine < 0) | (np.asarray(codes) < 0), np.nan, truth))


def _member(left: Any, right: Any) -> Any:
    """Return R's ``%in%``, which is FALSE for a missing left side."""
    table = right if isinstance(right, list | tuple) else [right]
    if isinstance(left, Factor):
        texts = {text_of(v) for v in table}
        return np.array([*(level in texts for level in left.levels), False])[left.codes]
    if isinstance(left, Exact):
        found = [truth for v in table if (truth := left.compare("==", v)) is not None]
        if len(found) == len(table):
            return (np.array(found).reshape(-1, len(left)) == 1).any(axis=0)
    return np.isin(as_number(left, "%in%"), [as_number(v, "%in%") for v in table])


def _sequence(node: Binary, left: Any, right: Any) -> list[float]:
    if isinstance(left, float) and isinstance(right, float):
        step = 1 if left <= right else -1
        return [float(v) for v in range(int(left), int(right) + step, step)]
    raise FormulaError(f"cannot evaluate {node.text}: ':' makes a sequence of two numbers here")
