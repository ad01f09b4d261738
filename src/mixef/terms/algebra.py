"""R's algebra of model terms: ``a * b - a:b`` to a sorted list of terms."""

from __future__ import annotations

from dataclasses import dataclass, field
from functools import cached_property, lru_cache
from math import comb
from typing import NamedTuple

from mixef.errors import FormulaError
from mixef.terms.nodes import (
    Binary,
    Call,
    Name,
    Node,
    Number,
    Paren,
    String,
    Unary,
    fold,
    strip_parens,
)

#: Products of terms end here, before the work of an expansion that nobody can mean.
MOST_TERMS = 10_000
_MOST_PAIRS = 300_000

Term = frozenset[int]
Terms = dict[Term, None]  # in order; the values mean nothing


@dataclass(frozen=True)
class TermSet:
    """Terms of one model formula, in R's order."""

    intercept: bool  # whether the constant is a column
    #: The variables of each term; terms by degree, variables by first appearance.
    terms: tuple[tuple[Node, ...], ...]
    offsets: tuple[Node, ...] = ()  # the ``offset(...)`` calls
    absent: tuple[str, ...] = ()  # labels of terms that the formula takes away, but does not have

    @cached_property
    def labels(self) -> tuple[str, ...]:
        """Term labels as R writes them, such as ``a:b``."""
        return tuple(":".join(node.text for node in term) for term in self.terms)

    @cached_property
    def variables(self) -> tuple[Node, ...]:
        """Variables of all terms, each once, in order of appearance in the terms."""
        return tuple({node.text: node for term in self.terms for node in term}.values())


@lru_cache(maxsize=512)
def expand_terms(node: Node, dot_columns: tuple[str, ...] | None = None) -> TermSet:
    """Expand the right side of a formula by R's rules for model terms.

    Parameters
    ----------
    node : Node
        The right side, without random-effects terms.
    dot_columns : tuple of str, optional
        The columns that ``.`` stands for.

    Raises
    ------
    FormulaError
        For a ``.`` without `dot_columns`, a number other than 0 and 1, a power that is
        not a positive whole number, or products of more than 10,000 terms.

    Notes
    -----
    The rules are those of Chambers and Hastie, Statistical Models in S (1992), chapter 2.

    Examples
    --------
    >>> from mixef.terms.parser import parse_expression
    >>> expand_terms(parse_expression("a * b * c - a:b:c")).labels
    ('a', 'b', 'c', 'a:b', 'a:c', 'b:c')
    """
    return _Expander(dot_columns).run(node)


class _Sum(NamedTuple):
    """What a part of a formula stands for: its terms, and what it says of the intercept."""

    terms: Terms
    intercept: bool | None = None


@dataclass
class _Expander:
    dot_columns: tuple[str, ...] | None
    variables: dict[str, int] = field(default_factory=dict)  # numbered by first appearance
    nodes: list[Node] = field(default_factory=list)
    absent: Terms = field(default_factory=dict)

    def run(self, node: Node) -> TermSet:
        try:
            terms, intercept = fold(node, self.combine, _operands)
        except _TooMany:
            raise FormulaError(_too_many(node, self.dot_columns)) from None
        offsets = frozenset(i for i, n in enumerate(self.nodes) if _is_offset(n))
        kept = [t for t in sorted(terms, key=len) if offsets.isdisjoint(t)]
        return TermSet(
            intercept is not False,
            tuple(tuple(self.nodes[i] for i in sorted(t)) for t in kept),
            tuple(self.nodes[i] for i in sorted(offsets)),
            tuple(self.label(t) for t in self.absent if offsets.isdisjoint(t)),
        )

    def label(self, term: Term) -> str:
        return ":".join(self.nodes[i].text for i in sorted(term))

    def variable(self, node: Node) -> Term:
        number = self.variables.setdefault(node.text, len(self.nodes))
        if number == len(self.nodes):
            self.nodes.append(node)
        return frozenset((number,))

    def combine(self, node: Node, parts: list[_Sum]) -> _Sum:
        if not parts:
            return self.leaf(node)
        if isinstance(node, Paren):
            return parts[0]
        if isinstance(node, Unary):
            return parts[0] if node.op == "+" else self.remove(_Sum({}), parts[0])
        assert isinstance(node, Binary)
        if node.op == "^":
            return _Sum(_power(parts[0].terms, _exponent(node)), parts[0].intercept)
        left, right = parts
        if node.op == "-":
            return self.remove(left, right)
        intercept = left.intercept if right.intercept is None else right.intercept
        if node.op != "+" and (_only_numbers(node.left) or _only_numbers(node.right)):
            raise FormulaError(
                f"in {node.text}: a bare number cannot take part in an interaction; "
                "leave it out, or write I(...) for arithmetic"
            )
        return _Sum(_RULES[node.op](left.terms, right.terms), intercept)

    def leaf(self, node: Node) -> _Sum:
        if isinstance(node, Number):
            return _Sum({}, _constant(node))
        if isinstance(node, String):
            raise FormulaError(f"the string {node.text} cannot be a term of a model")
        if isinstance(node, Name) and node.name == "." and not node.quoted:
            if self.dot_columns is None:
                raise FormulaError(
                    "'.' stands for columns of the data, but no data are at hand here"
                )
            return _Sum(dict.fromkeys(self.variable(Name(c)) for c in self.dot_columns))
        return _Sum({self.variable(node): None})

    def remove(self, left: _Sum, right: _Sum) -> _Sum:
        for term in right.terms:
            if term in left.terms:
                del left.terms[term]
            else:
                self.absent[term] = None
        return _Sum(left.terms, left.intercept if right.intercept is None else not right.intercept)


def _is_offset(node: Node) -> bool:
    return isinstance(node, Call) and node.function == "offset"


def _operands(node: Node) -> tuple[Node, ...]:
    """Return the operands of a node that the algebra knows; any other is a variable as a whole."""
    if isinstance(node, Binary):
        if node.op == "^":
            return (node.left,)
        return node.children() if node.op in _RULES or node.op == "-" else ()
    plain = isinstance(node, Paren) or (isinstance(node, Unary) and node.op in "+-")
    return node.children() if plain else ()


def _constant(node: Number) -> bool:
    if node.value not in (0, 1):
        raise FormulaError(
            f"the number {node.text} cannot be a term of a model: only 0 and 1 can "
            f"(no intercept, intercept); for arithmetic write I({node.text} * x)"
        )
    return node.value == 1


def _exponent(node: Binary) -> int:
    exponent = strip_parens(node.right)
    if isinstance(exponent, Number) and exponent.value >= 1 and exponent.value % 1 == 0:
        return int(exponent.value)
    raise FormulaError(
        f"in {node.text}: the power of a term must be a whole number such as 2; "
        f"for arithmetic write I({node.text})"
    )


def _only_numbers(node: Node) -> bool:
    return isinstance(strip_parens(node), Number)


# The rules change their left side, which nobody else holds: a sum of thousands is made in one go.


def _add(left: Terms, right: Terms) -> Terms:
    left.update(right)
    return left


def _interact(left: Terms, right: Terms) -> Terms:
    if len(left) * len(right) > _MOST_PAIRS:
        raise _TooMany
    return _few({a | b: None for a in left for b in right})


def _cross(left: Terms, right: Terms) -> Terms:
    both = _interact(left, right)
    return _few(_add(_add(left, right), both))


def _nest(left: Terms, right: Terms) -> Terms:
    return _add(left, _interact({_union(left): None}, right))


def _within(left: Terms, right: Terms) -> Terms:
    return _interact(left, {_union(right): None})


def _union(terms: Terms) -> Term:
    return frozenset().union(*terms)


def _power(base: Terms, exponent: int) -> Terms:
    result = dict(base)
    for _ in range(min(exponent, len(base)) - 1):
        before = len(result)
        _few(_add(result, _interact(result, base)))
        if len(result) == before:
            break
    return result


_RULES = {"+": _add, "*": _cross, ":": _interact, "/": _nest, "%in%": _within}


class _TooMany(Exception):
    """Products make more terms than anyone can mean."""


def _few(terms: Terms) -> Terms:
    if len(terms) > MOST_TERMS:
        raise _TooMany
    return terms


def _too_many(node: Node, dot_columns: tuple[str, ...] | None) -> str:
    """Say how many terms a formula has, counted without making them."""
    enough = 10**12

    def count(node: Node, parts: list[int]) -> int:
        if not parts:
            is_dot = isinstance(node, Name) and node.name == "."
            return len(dot_columns or ()) if is_dot else int(not isinstance(node, Number))
        if not isinstance(node, Binary):
            return parts[0]
        left, right = parts[0], parts[-1]
        made = {"+": left + right, "/": left + right, "*": left + right + left * right,
                ":": left * right}.get(node.op, left)  # fmt: skip
        if node.op == "^":
            made, order = 0, 0
            while order < min(_exponent(node), left) and made < enough:
                order += 1
                made += comb(left, order)
        return min(made, enough)

    number = fold(node, count, _operands)
    shown = f"up to {number:,}" if number < enough else f"more than {enough:,}"
    text = node.text if len(node.text) <= 60 else f"{node.text[:57]}..."
    return (
        f"{text} stands for {shown} terms; expected at most {MOST_TERMS:,}: cross fewer "
        "variables, or limit the order of their interactions, as in (a + b + c)^2"
    )
