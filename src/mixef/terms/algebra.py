"""R's algebra of model terms: ``a * b - a:b`` to a sorted list of terms."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field
from functools import cached_property, lru_cache

from mixef.errors import FormulaError
from mixef.terms.nodes import Binary, Call, Name, Node, Number, Paren, String, Unary, strip_parens

Term = frozenset[int]


@dataclass(frozen=True)
class TermSet:
    """Terms of one model formula, in R's order.

    Attributes
    ----------
    intercept : bool
        Whether the constant is a column.
    terms : tuple of tuple of Node
        The variables of each term; terms by degree, variables by first appearance.
    offsets : tuple of Node
        The ``offset(...)`` calls.
    """

    intercept: bool
    terms: tuple[tuple[Node, ...], ...]
    offsets: tuple[Node, ...] = ()

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
        For a ``.`` without `dot_columns`, a number other than 0 and 1, or a power that is
        not a positive whole number.

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


@dataclass
class _Expander:
    dot_columns: tuple[str, ...] | None
    variables: dict[str, Node] = field(default_factory=dict)
    intercept: bool = True
    removing: bool = False

    def run(self, node: Node) -> TermSet:
        self._declare(node)
        nodes = list(self.variables.values())
        terms = sorted(self.encode(node), key=len)
        is_offset = [isinstance(n, Call) and n.function == "offset" for n in nodes]
        kept = [t for t in terms if not any(is_offset[i] for i in t)]
        return TermSet(
            self.intercept,
            tuple(tuple(nodes[i] for i in sorted(t)) for t in kept),
            tuple(n for n, offset in zip(nodes, is_offset, strict=True) if offset),
        )

    def _declare(self, node: Node) -> None:
        """Give variables numbers by first appearance, which fixes their order within a term."""
        if isinstance(node, Paren):
            self._declare(node.inner)
        elif isinstance(node, Unary) and node.op in "+-":
            self._declare(node.operand)
        elif isinstance(node, Binary) and node.op in _RULES:
            self._declare(node.left)
            if node.op != "^":
                self._declare(node.right)
        elif isinstance(node, Name) and node.name == "." and self.dot_columns is not None:
            for column in self.dot_columns:
                self._index(Name(column))
        elif not isinstance(node, Number | String):
            self._index(node)

    def _index(self, node: Node) -> int:
        self.variables.setdefault(node.text, node)
        return list(self.variables).index(node.text)

    def encode(self, node: Node) -> list[Term]:
        if isinstance(node, Paren):
            return self.encode(node.inner)
        if isinstance(node, Number):
            return self._constant(node)
        if isinstance(node, String):
            raise FormulaError(f"the string {node.text} cannot be a term of a model")
        if isinstance(node, Unary) and node.op in "+-":
            return self.encode(node.operand) if node.op == "+" else self._remove([], node.operand)
        if isinstance(node, Binary) and node.op in _RULES:
            return self._operate(node)
        if isinstance(node, Name) and node.name == ".":
            return self._dot()
        return [frozenset([self._index(node)])]

    def _constant(self, node: Number) -> list[Term]:
        if node.value not in (0, 1):
            raise FormulaError(
                f"the number {node.text} cannot be a term of a model: only 0 and 1 can "
                f"(no intercept, intercept); for arithmetic write I({node.text} * x)"
            )
        self.intercept = (node.value == 1) is not self.removing
        return []

    def _dot(self) -> list[Term]:
        if self.dot_columns is None:
            raise FormulaError("'.' stands for columns of the data, but no data are at hand here")
        return [frozenset([self._index(Name(column))]) for column in self.dot_columns]

    def _operate(self, node: Binary) -> list[Term]:
        if node.op == "-":
            return self._remove(self.encode(node.left), node.right)
        if node.op == "^":
            return self._power(node)
        left, right = self.encode(node.left), self.encode(node.right)
        if node.op != "+" and (_only_numbers(node.left) or _only_numbers(node.right)):
            raise FormulaError(
                f"in {node.text}: a bare number cannot take part in an interaction; "
                "leave it out, or write I(...) for arithmetic"
            )
        return _RULES[node.op](left, right)

    def _remove(self, left: list[Term], right: Node) -> list[Term]:
        self.removing = not self.removing
        gone = set(self.encode(right))
        self.removing = not self.removing
        return [t for t in left if t not in gone]

    def _power(self, node: Binary) -> list[Term]:
        exponent = strip_parens(node.right)
        whole = isinstance(exponent, Number) and exponent.value >= 1 and exponent.value % 1 == 0
        if not whole:
            raise FormulaError(
                f"in {node.text}: the power of a term must be a whole number such as 2; "
                f"for arithmetic write I({node.text})"
            )
        assert isinstance(exponent, Number)
        base = result = self.encode(node.left)
        for _ in range(min(int(exponent.value), len(base)) - 1):
            result = _unique([*result, *_interact(result, base)])
        return result


def _only_numbers(node: Node) -> bool:
    return isinstance(strip_parens(node), Number)


def _unique(terms: Iterable[Term]) -> list[Term]:
    return list(dict.fromkeys(terms))


def _add(left: list[Term], right: list[Term]) -> list[Term]:
    return _unique([*left, *right])


def _interact(left: list[Term], right: list[Term]) -> list[Term]:
    return _unique(a | b for a in left for b in right)


def _cross(left: list[Term], right: list[Term]) -> list[Term]:
    return _unique([*left, *right, *_interact(left, right)])


def _nest(left: list[Term], right: list[Term]) -> list[Term]:
    return _unique([*left, *_interact([frozenset().union(*left)], right)])


def _within(left: list[Term], right: list[Term]) -> list[Term]:
    return _interact(left, [frozenset().union(*right)])


def _unused(left: list[Term], right: list[Term]) -> list[Term]:
    raise AssertionError("operators that need their nodes are handled before the table")


_RULES = {
    "+": _add,
    "*": _cross,
    ":": _interact,
    "/": _nest,
    "%in%": _within,
    "-": _unused,
    "^": _unused,
}
