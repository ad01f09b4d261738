"""Expressions of a formula as an engine computes them, with the values that they have in memory.

A missing number is NULL or NaN on an engine, and either stays missing in arithmetic. Comparisons
would take NaN for a number, so it is made NULL before one; then they are R's, which SQL's have
always been. What engines compute differently (``%%`` of fractions, ``round``), or do not know, is
not asked of them: the model is then read in batches of rows.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from mixef.errors import FormulaError
from mixef.late import LateModule
from mixef.terms.expressions import CONSTANTS, State
from mixef.terms.nodes import Binary, Call, Name, Node, Number, Paren, String, Unary, fold
from mixef.terms.operators import negate, operate
from mixef.terms.relation.polynomials import Polynomial
from mixef.terms.slopes import function_name

if TYPE_CHECKING:
    import narwhals as nw
else:
    nw = LateModule("narwhals")

INF = float("inf")
#: From here on every number is whole.
WHOLE = 2.0**53
#: The highest power that is multiplied out.
HIGHEST = 4


class NotOnEngineError(Exception):
    """An expression that engines are not asked for."""


@dataclass(frozen=True)
class Numeric:
    """A number a row."""

    expr: Any  # nw.Expr of Float64
    polynomial: Polynomial  # what it is of simpler expressions; of itself at least
    whole: bool = False  # whether all are whole numbers, of which none is NaN


@dataclass(frozen=True)
class Condition:
    """True, false or missing a row."""

    expr: Any  # nw.Expr of Boolean


@dataclass(frozen=True)
class Labels:
    """Text, or the category, a row."""

    expr: Any  # nw.Expr of String


def is_present(number: Any) -> Any:
    """Return where a number is neither NULL nor NaN, NULL or false elsewhere.

    No engine's own test of NaN: DuckDB's passes over row groups of Parquet whose statistics, which
    leave NaN out, say that there is none.
    """
    return ((number - number) == 0.0) | (number.abs() == INF)


def is_finite(number: Any) -> Any:
    """Return where a number is neither missing nor infinite, NULL or false elsewhere."""
    return (number - number) == 0.0


class Expressions:
    """What formulas mean on the columns of a table.

    Parameters
    ----------
    schema : mapping
        The columns, and their types as narwhals calls them.
    state : State
        What functions such as ``scale`` learnt from the rows before.
    """

    def __init__(self, schema: Mapping[str, Any], state: State) -> None:
        self.schema, self.state = schema, state
        #: By their text, the expressions that polynomials are of.
        self.numbers: dict[str, Numeric] = {}

    def polynomials(self, node: Node) -> list[Polynomial]:
        """Return the columns of a numeric variable as polynomials of `numbers`.

        Raises
        ------
        NotOnEngineError
            If the engine is not asked for it.
        """
        value = self.value(node)
        columns = value if isinstance(value, list) else [value]
        return [self._number(column, node.text).polynomial for column in columns]

    def number(self, node: Node) -> Numeric:
        """Return an expression that is one number a row, a condition as 0 and 1."""
        return self._number(self.value(node), node.text)

    def condition(self, node: Node) -> Any:
        """Return the nw.Expr of a condition."""
        value = self.value(node)
        if isinstance(value, Condition):
            return value.expr
        raise NotOnEngineError(node.text)

    def value(self, node: Node) -> Any:
        """Return what an expression is: a `Numeric`, a `Condition`, `Labels`, or a constant.

        Several columns are a list of `Numeric`, and several constants a tuple.
        """
        return fold(node, self._value)

    # ------------------------------------------------------------------ nodes

    def _value(self, node: Node, parts: list[Any]) -> Any:
        if isinstance(node, Name):
            return self._name(node)
        if isinstance(node, Number | String):
            return node.value
        if isinstance(node, Paren):
            return parts[0]
        if any(isinstance(part, list) for part in parts):
            raise NotOnEngineError(node.text)
        if isinstance(node, Call):
            return self._call(node, parts)
        assert isinstance(node, Unary | Binary)
        if all(map(_is_constant, parts)):
            return self._of_constants(node, parts)
        if isinstance(node, Unary):
            return self._prefix(node, parts[0])
        return self._operator(node, *parts)

    def _of_constants(self, node: Unary | Binary, parts: list[Any]) -> Any:
        parts = [[*part] if isinstance(part, tuple) else part for part in parts]
        try:
            with np.errstate(all="ignore"):
                made = operate(node, *parts) if isinstance(node, Binary) else negate(node, *parts)
        except FormulaError:
            raise NotOnEngineError(node.text) from None
        return tuple(made) if isinstance(made, list) else made

    def _name(self, node: Name) -> Any:
        if node.name in self.schema:
            return self._column(node)
        if not node.quoted and node.name in CONSTANTS:
            return CONSTANTS[node.name]
        outside = self.state.outside.get(node.name)
        if isinstance(outside, bool | int | float | np.number):
            return float(outside)
        raise NotOnEngineError(node.text)

    def _column(self, node: Name) -> Any:
        dtype, column = self.schema[node.name], nw.col(node.name)
        if dtype.is_numeric():
            number = column if dtype == nw.Float64 else column.cast(nw.Float64)
            return self._made(node.text, number, dtype.is_integer())
        if dtype == nw.Boolean:
            return Condition(column)
        if dtype == nw.String:
            return Labels(column)
        if dtype in (nw.Categorical, nw.Enum):
            return Labels(column.cast(nw.String))
        raise NotOnEngineError(node.text)

    def _made(
        self, text: str, expr: Any, whole: bool = False, polynomial: Polynomial | None = None
    ) -> Numeric:
        """Return a number, which is known by its text unless it is made of other ones."""
        number = Numeric(expr, Polynomial.of(text) if polynomial is None else polynomial, whole)
        if polynomial is None:
            self.numbers[text] = number
        return number

    def _number(self, value: Any, text: str) -> Numeric:
        if isinstance(value, Numeric):
            return value
        if isinstance(value, Condition):
            return self._made(f"as.numeric({text})", value.expr.cast(nw.Float64), whole=True)
        if _is_scalar(value):
            constant = float(value)
            return Numeric(
                nw.lit(constant), Polynomial.constant(constant), constant == np.floor(constant)
            )
        raise NotOnEngineError(text)

    def _truth(self, value: Any, text: str) -> Any:
        """Return a condition, or a number as one that is true unless it is zero."""
        if isinstance(value, Condition):
            return value.expr
        return _comparable(self._number(value, text)) != 0.0

    def _prefix(self, node: Unary, value: Any) -> Any:
        if node.op == "!":
            return Condition(~self._truth(value, node.operand.text))
        number = self._number(value, node.operand.text)
        if node.op == "+":
            return number
        if node.op != "-":
            raise NotOnEngineError(node.text)
        return self._made(
            node.text, -1.0 * number.expr, number.whole, number.polynomial.times(-1.0)
        )

    def _operator(self, node: Binary, left: Any, right: Any) -> Any:
        if node.op in _COMPARISONS:
            return self._comparison(node, left, right)
        if node.op in ("&", "&&", "|", "||"):
            a = self._truth(left, node.left.text)
            b = self._truth(right, node.right.text)
            return Condition(a & b if node.op[0] == "&" else a | b)
        if node.op == "%in%":
            return self._member(node, left, right)
        return self._arithmetic(
            node, self._number(left, node.left.text), self._number(right, node.right.text)
        )

    def _arithmetic(self, node: Binary, a: Numeric, b: Numeric) -> Numeric:
        whole, p, q = a.whole and b.whole, a.polynomial, b.polynomial
        if node.op in ("+", "-"):
            expr = a.expr + b.expr if node.op == "+" else a.expr - b.expr
            # A difference of two variables has digits that neither of them has: it stays itself.
            moved = p.value is not None or q.value is not None
            made = p.plus(q.times(1.0 if node.op == "+" else -1.0)) if moved else None
            return self._made(node.text, expr, whole, made)
        if node.op == "*":
            product = p.product(q)
            made = product if product.degree <= HIGHEST else None
            return self._made(node.text, a.expr * b.expr, whole, made)
        if node.op == "/":
            made = p.times(1.0 / q.value) if q.value else None
            return self._made(node.text, _ratio(a.expr, b.expr), polynomial=made)
        if node.op == "^":
            return self._power(node, a, q.value)
        if node.op in ("%%", "%/%") and whole and q.value:
            # Fractions have remainders that depend on the last digit of a quotient.
            quotient = _floor(a.expr / b.expr)
            expr = quotient if node.op == "%/%" else a.expr - quotient * b.expr
            return self._made(node.text, expr, whole=True)
        raise NotOnEngineError(node.text)

    def _power(self, node: Binary, base: Numeric, power: float | None) -> Numeric:
        if power is None or not np.isfinite(power) or power == 0.0:  # of NaN, that is 1
            raise NotOnEngineError(node.text)
        degree = int(power) if power == int(power) else 0
        if not 1 <= degree <= HIGHEST:
            expr = base.expr**power if degree else _where(base.expr >= 0.0, base.expr**power)
            return self._made(node.text, expr)
        expr, made = base.expr, base.polynomial
        for _ in range(degree - 1):
            expr, made = expr * base.expr, made.product(base.polynomial)
        return self._made(node.text, expr, base.whole, made if made.degree <= HIGHEST else None)

    def _comparison(self, node: Binary, left: Any, right: Any) -> Condition:
        compare = _COMPARISONS[node.op]
        labelled = [isinstance(side, Labels | str) for side in (left, right)]
        if any(labelled):
            if not all(labelled) or node.op not in ("==", "!="):
                raise NotOnEngineError(node.text)
            return Condition(compare(*(s if isinstance(s, str) else s.expr for s in (left, right))))
        sides = (left, node.left), (right, node.right)
        return Condition(compare(*(_comparable(self._number(v, n.text)) for v, n in sides)))

    def _member(self, node: Binary, left: Any, right: Any) -> Condition:
        """Return R's ``%in%``, which is FALSE for a missing left side."""
        table = list(right) if isinstance(right, tuple) else [right]
        if isinstance(left, Labels) and all(isinstance(item, str) for item in table):
            found = left.expr.is_in(table)
        elif isinstance(left, Numeric) and all(map(_is_scalar, table)):
            found = left.expr.is_in([float(item) for item in table])
        else:
            raise NotOnEngineError(node.text)
        return Condition(_known(found))

    def _call(self, node: Call, parts: list[Any]) -> Any:
        name = function_name(node)
        positional = [v for key, v in zip(node.keywords, parts, strict=True) if key is None]
        given = {key: v for key, v in zip(node.keywords, parts, strict=True) if key is not None}
        learnt = self.state.transforms.get(node.text, {})
        if name == "c" and not given and all(map(_is_scalar_or_text, positional)):
            return tuple(positional)
        if name in ("mean", "median", "min", "max", "sum", "sd", "var") and "value" in learnt:
            return float(learnt["value"])
        if name == "cbind":
            return [self._number(v, arg.text) for v, arg in zip(parts, node.args, strict=True)]
        if name in ("scale", "center") and positional and "scale" in learnt:
            return self._scaled(node, positional[0], learnt)
        if name == "poly" and positional and "hessenberg" in learnt:
            return self._orthogonal(node, positional[0], learnt)
        if given or not positional:
            raise NotOnEngineError(node.text)
        if name in ("I", "identity", "offset") and len(positional) == 1:
            return positional[0]
        return self._function(node, name, positional)

    def _function(self, node: Call, name: str, parts: list[Any]) -> Any:
        """Return a function of positional arguments alone."""
        texts = [arg.text for arg in node.args]
        if name == "is.na" and len(parts) == 1:
            value = parts[0]
            expr = is_present(value.expr) if isinstance(value, Numeric) else ~value.expr.is_null()
            return Condition(~_known(expr))
        if name == "as.logical" and len(parts) == 1:
            return Condition(self._truth(parts[0], texts[0]))
        if name in ("as.numeric", "as.double") and len(parts) == 1:
            return self._number(parts[0], texts[0])
        if name == "ifelse" and len(parts) == 3:
            test = self._truth(parts[0], texts[0])
            yes, no = (self._number(v, t) for v, t in zip(parts[1:], texts[1:], strict=True))
            chosen = nw.when(test).then(yes.expr).otherwise(no.expr)
            return self._made(node.text, _where(~test.is_null(), chosen))
        numbers = [self._number(v, t) for v, t in zip(parts, texts, strict=True)]
        if name in ("pmin", "pmax"):
            expr = _comparable(numbers[0])
            for number in numbers[1:]:
                other = _comparable(number)
                least = expr <= other if name == "pmin" else expr >= other
                both = ~(expr.is_null() | other.is_null())
                expr = _where(both, nw.when(least).then(expr).otherwise(other))
            return self._made(node.text, expr, all(n.whole for n in numbers))
        if name == "log" and len(numbers) == 2:
            base = numbers[1].polynomial.value
            if base is None or not base > 0.0 or base == 1.0:
                raise NotOnEngineError(node.text)
            return self._made(node.text, _log(numbers[0].expr) / float(np.log(base)))
        if name not in _FUNCTIONS or len(numbers) != 1 or numbers[0].polynomial.value is not None:
            raise NotOnEngineError(node.text)
        return self._made(node.text, _FUNCTIONS[name](numbers[0].expr))

    def _scaled(self, node: Call, value: Any, learnt: Mapping[str, Any]) -> Numeric:
        number = self._number(value, node.args[0].text)
        center, scale = np.asarray(learnt["center"]), np.asarray(learnt["scale"])
        if center.size != 1 or scale.size != 1:
            raise NotOnEngineError(node.text)
        shift, unit = float(center.item()), float(scale.item())
        moved = number.polynomial.plus(Polynomial.constant(-shift)).times(1.0 / unit)
        return self._made(node.text, (number.expr - shift) / unit, polynomial=moved)

    def _orthogonal(self, node: Call, value: Any, learnt: Mapping[str, Any]) -> list[Numeric]:
        """Return orthonormal polynomials by the recurrence that they have for new data."""
        H, x = learnt["hessenberg"], self._number(value, node.args[0].text).expr
        t = (x - float(learnt["mean"])) / float(learnt["unit"])
        made = [t * 0.0 + float(learnt["n"]) ** -0.5]
        for k in range(1, len(H)):
            known = t * made[k - 1]
            for before, h in zip(made, H[:k, k - 1].tolist(), strict=True):
                known = known - before * h
            made.append(known / float(H[k, k - 1]))
        return [self._made(f"{node.text}{k}", made[k]) for k in range(1, len(H))]


def _is_scalar(value: Any) -> bool:
    return isinstance(value, bool | int | float | np.number | np.bool_)


def _is_scalar_or_text(value: Any) -> bool:
    return _is_scalar(value) or isinstance(value, str)


def _is_constant(value: Any) -> bool:
    return _is_scalar_or_text(value) or value is None or isinstance(value, tuple)


def _where(condition: Any, value: Any) -> Any:
    """Return a value where a condition holds, NULL elsewhere."""
    return nw.when(condition).then(value)


def _known(condition: Any) -> Any:
    """Return a condition that is false where it is missing."""
    return nw.when(condition).then(nw.lit(True)).otherwise(nw.lit(False))


def _comparable(number: Numeric) -> Any:
    """Return a number as engines compare it as R does, with NULL for NaN."""
    if number.whole or number.polynomial.value is not None:
        return number.expr
    return _where(is_present(number.expr), number.expr)


def _ratio(a: Any, b: Any) -> Any:
    """Return a quotient; that by zero is infinite, or NaN, and not an engine's error."""
    return nw.when(b == 0.0).then(a * INF).otherwise(a / nw.when(b != 0.0).then(b))


def _log(x: Any) -> Any:
    """Return the logarithm; that of zero is minus infinity, that of less is missing."""
    return nw.when(x == 0.0).then(nw.lit(-INF)).otherwise(_where(x > 0.0, x).log())


def _floor(x: Any) -> Any:
    return _rounded(x, lambda fraction: fraction.floor())


def _ceiling(x: Any) -> Any:
    return _rounded(x, lambda fraction: fraction.ceil())


def _truncated(x: Any) -> Any:
    return nw.when(x < 0.0).then(_ceiling(x)).otherwise(_floor(x))


def _rounded(x: Any, rounding: Callable[[Any], Any]) -> Any:
    """Round where there is a fraction: some engines go by integers, which hold no infinity."""
    small = x.abs() < WHOLE
    return nw.when(small).then(rounding(_where(small, x)).cast(nw.Float64)).otherwise(x)


_COMPARISONS: dict[str, Callable[[Any, Any], Any]] = {
    "==": lambda a, b: a == b, "!=": lambda a, b: a != b, "<": lambda a, b: a < b,
    "<=": lambda a, b: a <= b, ">": lambda a, b: a > b, ">=": lambda a, b: a >= b,
}  # fmt: skip
_FUNCTIONS: dict[str, Callable[[Any], Any]] = {
    "log": _log,
    "log2": lambda x: _log(x) / float(np.log(2.0)),
    "log10": lambda x: _log(x) / float(np.log(10.0)),
    "exp": lambda x: x.exp(),
    "sqrt": lambda x: _where(x >= 0.0, x).sqrt(),
    "abs": lambda x: x.abs(),
    "floor": _floor,
    "ceiling": _ceiling,
    "trunc": _truncated,
    "as.integer": _truncated,
    "sin": lambda x: x.sin(),
    "cos": lambda x: x.cos(),
}
