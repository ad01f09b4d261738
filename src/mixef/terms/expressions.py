"""Evaluate the expressions of a formula on columns, keeping what new data will need."""

from __future__ import annotations

import inspect
import pickle
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from difflib import get_close_matches
from functools import lru_cache
from typing import Any

import numpy as np
import pandas as pd

from mixef.errors import DataError, DataWarning, FormulaError, warn
from mixef.terms.columns import Columns, in_rows
from mixef.terms.convert import read
from mixef.terms.covariance import TAGS
from mixef.terms.exact import Exact
from mixef.terms.factor import Factor
from mixef.terms.functions import FUNCTIONS
from mixef.terms.nodes import Binary, Call, Name, Node, Number, Paren, String, Unary, fold
from mixef.terms.operators import negate, operate
from mixef.terms.outside import (
    call_function,
    caller_name,
    caller_variable,
    habit,
    numpy_constant,
    numpy_function,
    numpy_name,
)
from mixef.terms.values import (
    Matrix,
    as_factor,
    is_column,
    is_constant,
    is_number,
    missing_rows,
    numbered,
    shown,
)

Variable = np.ndarray | Factor | Matrix

CONSTANTS: dict[str, Any] = {
    "TRUE": True, "FALSE": False, "True": True, "False": False, "T": True, "F": False,
    "NA": float("nan"), "NaN": float("nan"), "NULL": None, "None": None,
    "Inf": float("inf"), "pi": float(np.pi),
}  # fmt: skip


@dataclass
class State:
    """What evaluation learnt from the training data."""

    #: By the text of a call: means, knots, coefficients.
    transforms: dict[str, dict[str, Any]] = field(default_factory=dict)
    #: Functions and constants found among the caller's names. What cannot be pickled is left out of
    #: a pickle, and missed only when it is called again.
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
    env: Mapping[str, Any] | None = None  # the caller's names
    #: By the text of an expression, the rows (n,) that are missing in its value though in nothing
    #: that it was made of.
    made_missing: dict[str, np.ndarray] = field(default_factory=dict)

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
        return as_variable(self.value(node))

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
        return Factor(factor.codes, factor.level_set, full=factor.full)

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
            value = numbered(value)
        if is_number(value):
            value = np.full(1, float(value))
        if isinstance(value, list):
            if self.columns.engine is not None:
                raise self._other_length(node, len(value))
            value = read(value, node.text)
        if not is_column(value):
            raise FormulaError(f"{node.text} is {shown(value)}, which is not a variable")
        if len(value) != self.n:
            raise self._other_length(node, len(value))
        return value

    def _other_length(self, node: Node, length: int) -> DataError:
        engine = self.columns.engine
        if engine is None:
            return DataError(
                f"variable lengths differ: {node.text} has length {length}, but the data have "
                f"{self.n} rows; expected one value a row"
            )
        return DataError(
            f"variable lengths differ: {node.text} has length {length}, but the rows are in "
            f"{engine}, in no order that values of yours could follow; expected what is computed "
            "from columns of the table"
        )

    def warn_of_missing(self, rows: np.ndarray | None = None, end: str = "") -> None:
        """Warn of values that functions made missing, among some rows or all."""
        for text, missing in self.made_missing.items():
            asked = missing if rows is None else missing[rows]
            if count := int(asked.sum()):
                warn(
                    f"{text} is missing (NaNs produced) in {count} of {len(asked)} rows where "
                    f"nothing that it is made of is missing{end}",
                    DataWarning,
                )

    def evaluate(self, node: Node) -> Any:
        """Evaluate a node to a variable or a constant."""
        for call in node.calls:
            self._function(call)  # refused before anything is computed
        return fold(node, self._value)

    def _value(self, node: Node, parts: list[Any]) -> Any:
        if isinstance(node, Name):
            return self._name(node)
        if isinstance(node, Number | String):
            return node.value
        if isinstance(node, Paren):
            return parts[0]
        if isinstance(node, Unary):
            return negate(node, parts[0])
        if isinstance(node, Binary):
            if self.columns.engine is not None and node.op not in ("%in%", ":"):
                self._refuse_lists(node, parts)
            value = operate(node, *parts)
        else:
            assert isinstance(node, Call)
            value = self._call(node, parts)
        self._watch(node, value, parts)
        return value

    def _refuse_lists(self, node: Binary, parts: list[Any]) -> None:
        """Refuse several values beside a column: they would be those of some rows by chance."""
        if any(map(is_column, parts)):
            for part, side in zip(parts, (node.left, node.right), strict=True):
                if isinstance(part, list) and len(part) > 1:
                    raise self._other_length(side, len(part))

    def _watch(self, node: Node, value: Any, parts: list[Any]) -> None:
        """Keep which rows became missing here."""
        if not is_column(value):
            return
        missing = missing_rows(value)
        if missing is None or any(isinstance(part, float) and np.isnan(part) for part in parts):
            return
        for part in parts:
            if is_column(part):
                before = missing_rows(part)
                missing = missing if before is None else missing & ~before
        if missing.any():
            self.made_missing[node.text] = missing

    def _name(self, node: Name) -> Any:
        name = node.name
        if name in self.columns:
            return self.columns[name]
        if not node.quoted and name in CONSTANTS:
            return CONSTANTS[name]
        if name in self.state.outside and not callable(self.state.outside[name]):
            return self.state.outside[name]
        indexed = self.columns.index is not None and name in self.columns.index.names
        found = None if indexed else caller_name(self.env, name)
        if found is None and numpy_name(name) is not None and not node.quoted:
            return numpy_constant(name)
        if found is None or callable(found) or inspect.ismodule(found):
            raise FormulaError(
                f"{shown(name)} is not a column of the data{self.columns.suggestion(name)}"
            )
        if isinstance(found, pd.Series) and len(found) == self.n:
            found = in_rows(found, name, self.columns.labels, self.n)
        # No array has a value for each row of a table that comes in batches.
        value = caller_variable(found, name, self.n if self.columns.engine is None else -1)
        if isinstance(value, list) or is_constant(value):
            # An array of one value a row belongs to the training rows: new data must bring theirs.
            self.state.outside[name] = value
        return value

    def _call(self, node: Call, parts: list[Any]) -> Any:
        for part, argument in zip(parts, node.args, strict=True):
            if is_column(part) and len(part) != self.n:
                raise self._other_length(argument, len(part))
        function, is_ours = self._function(node)
        pairs = list(zip(node.keywords, parts, strict=True))
        args = [value for key, value in pairs if key is None]
        keywords = {key: value for key, value in pairs if key is not None}
        if not is_ours:
            return call_function(function, node, args, keywords, self.n)
        state = self.state.transforms.setdefault(node.text, {})
        if function is FUNCTIONS["cbind"]:
            state["names"] = _column_names(node)
        keywords = {_python_keyword(key): value for key, value in keywords.items()}
        try:
            return function(state, *args, **keywords)
        except TypeError:
            try:
                _signature(function).bind(state, *args, **keywords)
            except TypeError as error:
                raise FormulaError(
                    f"cannot evaluate {node.text}: {error}; {_takes(node.function, function)}"
                ) from None
            raise

    def _function(self, node: Call) -> tuple[Callable[..., Any], bool]:
        """Return the function that a call means, and whether it is one of the formula's own."""
        name = node.function.rsplit("::", 1)[-1]
        if name in FUNCTIONS:
            return FUNCTIONS[name], True
        if name not in self.state.outside and numpy_name(name) is not None:
            return numpy_function(name, node.text), True
        found = self.state.outside.get(name)
        found = caller_name(self.env, name) if found is None else found
        if callable(found):
            self.state.outside[name] = found
            return found, False
        raise FormulaError(f"unknown function {name!r} in {node.text}: {self._instead(node, name)}")

    def _instead(self, node: Call, name: str) -> str:
        """Say what to write instead of a function that is not there."""
        known = habit(node)
        if known is not None:
            return known
        if any(isinstance(arg, Binary) and arg.op in ("|", "||") for arg in node.args):
            return f"covariance structures are {TAGS}"
        if "." in name and name.split(".")[0] in (self.env or {}):
            return (
                "a formula calls functions of yours by simple names: write "
                f"f = {name} before, and f(...) in the formula"
            )
        close = get_close_matches(name, FUNCTIONS, n=1)
        guess = f"did you mean {close[0]!r}? " if close else ""
        return (
            f"{guess}it is neither a function of R that mixef knows nor one of the caller's that "
            "the formula may use; compute the column before and use its name"
        )


def as_variable(value: Variable | Exact) -> Variable:
    """Return a value of `Scope.value` as a model takes it: whole numbers and times as floats."""
    return value.as_float() if isinstance(value, Exact) else value


@lru_cache(maxsize=512)
def _signature(function: Callable[..., Any]) -> inspect.Signature:
    return inspect.signature(function)


def _takes(name: str, function: Callable[..., Any]) -> str:
    names = [*_signature(function).parameters][1:]
    return f"{name}() takes {', '.join(names)}" if names else f"{name}() takes no argument"


def _column_names(node: Call) -> tuple[str, ...]:
    """Names of a cbind's columns: keywords and bare variables, else positions."""
    pairs = enumerate(zip(node.keywords, node.args, strict=True), start=1)
    return tuple(k or (a.name if isinstance(a, Name) else str(i)) for i, (k, a) in pairs)


def _python_keyword(name: str) -> str:
    special = {"levelsToKeep": "levels_to_keep", "levels.to.keep": "levels_to_keep"}
    return special.get(name, name.replace(".", "_"))
