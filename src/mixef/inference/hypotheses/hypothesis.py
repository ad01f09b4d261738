"""Linear hypotheses about the fixed effects: from arrays, frames or text to ``L beta = rhs``."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Any, NamedTuple

import numpy as np
import pandas as pd

from mixef import checks
from mixef.errors import ArgumentError, FormulaError
from mixef.estimation.fit import Fit
from mixef.inference.hypotheses.ddf import checked_hypothesis
from mixef.terms.nodes import unquoted

_NUMBER = re.compile(r"(?:\d+\.?\d*|\.\d+)(?:[eE][+-]?\d+)?")
_WORD = re.compile(r"[^\s+*/()=`-]+")
# How strongly operators of a hypothesis bind; "sign" is a minus before its operand.
_POWERS = {"+": 1, "-": 1, "*": 2, "/": 2, "sign": 3}
# A combination of more coefficients is named by its place.
LONGEST = 4


@dataclass(frozen=True)
class Hypothesis:
    """A linear hypothesis ``L beta = rhs``."""

    L: np.ndarray  # (m, p): for the estimated coefficients
    rhs: np.ndarray  # (m,)
    labels: tuple[str, ...]  # What each row of L stands for

    @property
    def texts(self) -> list[str]:
        """The hypotheses as equations."""
        return [f"{label} = {value:g}" for label, value in zip(self.labels, self.rhs, strict=True)]


def linear_hypothesis(fit: Fit, L: Any, rhs: Any = None) -> Hypothesis:
    """Read a linear hypothesis, as the method ``contest`` of a model takes it."""
    sized = isinstance(L, str | pd.DataFrame | pd.Series | Mapping | Sequence)
    if not len(fit.kept) or (sized and not len(L)):
        raise _nothing(fit)
    if isinstance(L, str) or (
        isinstance(L, Sequence) and len(L) and all(isinstance(row, str) for row in L)
    ):
        texts = [L] if isinstance(L, str) else list(L)
        return _from_text(fit, texts, rhs)
    labels = None
    if isinstance(L, pd.DataFrame):
        labels = None if isinstance(L.index, pd.RangeIndex) else [str(name) for name in L.index]
        L = _by_name(fit, dict(zip(_distinct(L.columns), L.to_numpy().T, strict=True)))
    elif isinstance(L, pd.Series):
        L = _by_name(fit, dict(zip(_distinct(L.index), L, strict=True)))
    elif isinstance(L, Mapping):
        L = _by_name(fit, L)
    L, right = checked_hypothesis(fit, L, rhs)
    if not len(L):
        raise _nothing(fit)
    zero = np.flatnonzero(~L.any(axis=1))
    if len(zero):
        raise ArgumentError(
            f"row {zero[0] + 1} of L is zero: it says nothing of the coefficients "
            f"({', '.join(fit.fixed_names)}); expected a number that is not zero in every row"
        )
    made = labels or [_label(row, fit.fixed_names, i + 1) for i, row in enumerate(L)]
    return Hypothesis(L, right, tuple(made))


def _nothing(fit: Fit) -> ArgumentError:
    if not len(fit.kept):
        return ArgumentError(
            f"{fit.formula.text} has no fixed effects, so there is nothing to test"
        )
    return ArgumentError(
        "L has no rows; expected one hypothesis or more about the coefficients "
        f"{', '.join(fit.fixed_names)}, such as {list(fit.fixed_names)[-1:]}"
    )


def _distinct(names: pd.Index) -> list[str]:
    """Return names as text; two that are the same are refused."""
    texts = [str(name) for name in names]
    twice = [name for name in texts if texts.count(name) > 1]
    if twice:
        raise ArgumentError(f"L has {twice[0]!r} more than once; expected each name once")
    return texts


def _by_name(fit: Fit, values: Mapping[str, Any]) -> np.ndarray:
    """Return rows (m, p) of coefficients given by name."""
    each = "numbers, one for each hypothesis"
    columns = {
        str(name): np.atleast_1d(checks.numbers(value, f"L, at {checks.shown(name)},", each))
        for name, value in values.items()
    }
    lengths = {column.shape for column in columns.values()} - {(1,)}
    if len(lengths) > 1 or any(column.ndim > 1 for column in columns.values()) or not columns:
        raise ArgumentError(
            "L has not equally many coefficients under every name; expected a number, or one for "
            "each hypothesis"
        )
    block = np.stack(np.broadcast_arrays(*columns.values()), axis=-1)
    out = np.zeros((len(block), len(fit.kept)))
    for name, column in zip(columns, block.T, strict=True):
        if name in fit.dropped_names and not column.any():
            continue
        out[:, _place(fit, name)] = column
    return out


def _place(fit: Fit, name: str) -> int:
    """Return the position of an estimated coefficient."""
    by_bare_name, count = _known_names(fit.design.names)
    name = by_bare_name.get(unquoted(name), name)
    if count[unquoted(name)] > 1:
        terms = [fit.design.column_terms[j] for j in _named(fit, name)]
        raise ArgumentError(
            f"{len(terms)} coefficients are called {name!r}, of the terms {', '.join(terms)}, so "
            "the name does not say which one is meant; rename a variable, or give L as rows of "
            "numbers"
        )
    if name in fit.fixed_names:
        return fit.fixed_names.index(name)
    if name in fit.dropped_names:
        raise ArgumentError(
            f"the coefficient {name} was dropped from the rank-deficient model matrix, so the data "
            "say nothing of it apart from the others; test a hypothesis without it"
        )
    raise ArgumentError(
        f"{name!r} is no coefficient; the estimated coefficients are: " + ", ".join(fit.fixed_names)
    )


@lru_cache(maxsize=16)
def _known_names(names: tuple[str, ...]) -> tuple[dict[str, str], Counter[str]]:
    """Return the names of coefficients by those without backticks, and how often each is."""
    return {unquoted(name): name for name in names}, Counter(map(unquoted, names))


def _named(fit: Fit, name: str) -> np.ndarray:
    bare = np.array([unquoted(own) for own in fit.design.names])
    return np.flatnonzero(bare == unquoted(name))


def _label(row: np.ndarray, names: Sequence[str], number: int) -> str:
    used = np.flatnonzero(row)
    if not 0 < len(used) <= LONGEST:
        return f"row {number}"
    parts: list[str] = []
    for j in used.tolist():
        size = abs(row[j])
        sign = ("-" if row[j] < 0 else "") if not parts else (" - " if row[j] < 0 else " + ")
        parts.append(sign + (names[j] if size == 1.0 else f"{size:.4g} * {names[j]}"))
    return "".join(parts)


def _from_text(fit: Fit, texts: list[str], rhs: Any) -> Hypothesis:
    read = [_Reader(text, fit).equation() for text in texts]
    own = np.array([right for _, right, _ in read])
    if rhs is not None:
        if any(has_own for _, _, has_own in read):
            raise ArgumentError(
                f"rhs is {checks.shown(rhs)} beside text that has an '='; give one of the two"
            )
        own = own + checked_hypothesis(fit, np.zeros((len(own), len(fit.kept))), rhs)[1]
    L, right = checked_hypothesis(fit, np.array([row for row, _, _ in read]), own)
    return Hypothesis(L, right, tuple(text.split("=")[0].strip() for text in texts))


class _Affine(NamedTuple):
    """A linear combination of coefficients (p,), plus a constant."""

    row: np.ndarray
    constant: float

    def plus(self, other: _Affine, times: float) -> _Affine:
        return _Affine(self.row + times * other.row, self.constant + times * other.constant)

    def times(self, factor: float) -> _Affine:
        return _Affine(self.row * factor, self.constant * factor)


class _Reader:
    """A reader of linear combinations of coefficients, by the precedence of their operators.

    At every place the longest coefficient name is taken, so that names with operators, such as
    ``poly(Days, 2)1``, need no backquotes. What waits for its operands stands in a list, so that
    no nesting is too deep.
    """

    def __init__(self, text: str, fit: Fit):
        self._text, self._at, self._fit = text, 0, fit
        self._names = frozenset({*fit.design.names, *map(unquoted, fit.design.names)})
        self._lengths = sorted({len(name) for name in self._names}, reverse=True)
        self._zero = np.zeros(len(fit.kept))

    def equation(self) -> tuple[np.ndarray, float, bool]:
        """Return coefficients, right-hand side, and whether the text gives one."""
        left = self._side()
        has_own = self._take("=")
        right = self._side() if has_own else _Affine(self._zero, 0.0)
        if self._blank() < len(self._text):
            raise self._error("an operator")
        row = left.row - right.row
        if not row.any():
            raise FormulaError(f"the hypothesis {self._text!r} has no coefficient left in it")
        return row, right.constant - left.constant, has_own

    def _side(self) -> _Affine:
        values: list[_Affine] = []
        waiting: list[str] = []
        while True:
            self._operand(values, waiting)
            while "(" in waiting and self._take(")"):
                self._reduce(values, waiting, 0)
                waiting.pop()
            op = next((op for op in "+-*/" if self._take(op)), None)
            self._reduce(values, waiting, _POWERS[op] if op else 0)
            if op is None:
                if waiting:
                    raise self._error("')'")
                return values[0]
            waiting.append(op)

    def _operand(self, values: list[_Affine], waiting: list[str]) -> None:
        """Read signs and opening brackets, and the name or number after them."""
        while True:
            at = self._blank()
            name = self._name(at)
            if name is not None:
                row = self._zero.copy()
                row[_place(self._fit, name)] = 1.0
                return values.append(_Affine(row, 0.0))
            number = _NUMBER.match(self._text, at)
            if number:
                self._at = number.end()
                return values.append(_Affine(self._zero, float(number.group())))
            if self._take("-"):
                waiting.append("sign")
            elif self._take("("):
                waiting.append("(")
            elif not self._take("+"):
                word = _WORD.match(self._text, at)
                if word:
                    _place(self._fit, word.group())
                raise self._error("a coefficient or a number")

    def _reduce(self, values: list[_Affine], waiting: list[str], power: int) -> None:
        """Carry out the operators that bind at least so much, up to an opening bracket."""
        while waiting and waiting[-1] != "(" and _POWERS[waiting[-1]] >= power:
            op, last = waiting.pop(), values.pop()
            if op == "sign":
                values.append(last.times(-1.0))
            elif op in "+-":
                values.append(values.pop().plus(last, 1.0 if op == "+" else -1.0))
            else:
                values.append(self._scaled(values.pop(), last, op))

    def _scaled(self, left: _Affine, right: _Affine, op: str) -> _Affine:
        if op == "/":
            if right.row.any() or right.constant == 0.0:
                raise self._nonlinear("a division by zero or by a coefficient")
            return left.times(1.0 / right.constant)
        if right.row.any():
            left, right = right, left
        if right.row.any():
            raise self._nonlinear("a product of coefficients")
        return left.times(right.constant)

    def _name(self, at: int) -> str | None:
        """Take a coefficient's name, if one comes next."""
        for length in self._lengths:
            name, after = self._text[at : at + length], self._text[at + length : at + length + 1]
            if name in self._names and not _WORD.match(after) and after != "`":
                self._at = at + length
                return name
        if not self._text.startswith("`", at):
            return None
        end = self._text.find("`", at + 1)
        if end < 0:
            raise self._error("a second ` after the name")
        self._at = end + 1
        return self._text[at + 1 : end]

    def _blank(self) -> int:
        """Pass over blanks; return the place of the next piece."""
        while self._at < len(self._text) and self._text[self._at].isspace():
            self._at += 1
        return self._at

    def _take(self, operator: str) -> bool:
        found = self._text.startswith(operator, self._blank())
        self._at += found
        return found

    def _error(self, expected: str) -> FormulaError:
        rest = self._text[self._blank() :]
        found = repr(rest[:12]) if rest else "the end"
        return FormulaError(f"cannot read {self._text!r}: expected {expected}, found {found}")

    def _nonlinear(self, what: str) -> FormulaError:
        return FormulaError(
            f"the hypothesis {self._text!r} is not linear: it has {what}; expected sums of "
            "coefficients times numbers"
        )
