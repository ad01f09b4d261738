"""The syntax tree of a formula; every node knows the text that R gives it.

Nothing here calls itself: a formula of a thousand terms is a tree a thousand nodes deep, and
Python's stack is not.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any, ClassVar, TypeVar

T = TypeVar("T")

_SYNTACTIC = re.compile(r"(?:[^\W\d_]|\.(?!\d))[\w.]*(?:::[\w.]+)?\Z|\.\Z")
_SPACED = {"+", "-", "*", "~", "==", "!=", "<", "<=", ">", ">=", "&", "&&", "|", "||", "%in%"}
_RESERVED = {"TRUE", "FALSE", "NULL", "NA", "Inf", "NaN", "if", "else", "for", "in", "function"}


def number_text(value: float) -> str:
    """Write a number as R does: 15 significant digits, fixed unless scientific is shorter.

    Examples
    --------
    >>> number_text(308.0), number_text(1.5), number_text(100000.0), number_text(0.1 + 0.2)
    ('308', '1.5', '1e+05', '0.3')
    """
    if value != value:
        return "NaN"
    if value in (float("inf"), float("-inf")):
        return "Inf" if value > 0 else "-Inf"
    mantissa, exponent = f"{value:.14e}".split("e")
    mantissa = mantissa.rstrip("0").rstrip(".")
    scientific = f"{mantissa}e{int(exponent):+03d}"
    digits = len(mantissa.lstrip("-").replace(".", ""))
    fixed = f"{value:.{max(0, digits - 1 - int(exponent))}f}"
    return fixed if len(fixed) <= len(scientific) else scientific


@dataclass(frozen=True, eq=False, repr=False)
class Node:
    """One node of a formula's syntax tree. Nodes never change, so that they can be shared."""

    def __post_init__(self) -> None:
        # Of the children's hashes, which are there already: so that no tree is too deep for it.
        object.__setattr__(self, "_hash", hash((type(self), *vars(self).values())))

    OWN: ClassVar[tuple[str, ...]] = ()  # fields that are not nodes
    BELOW: ClassVar[tuple[str, ...]] = ()  # fields that are

    def own(self) -> tuple[Any, ...]:
        """Return what the node holds besides its children."""
        return tuple([getattr(self, name) for name in self.OWN])

    def children(self) -> tuple[Node, ...]:
        """Nodes directly below this one."""
        return tuple([getattr(self, name) for name in self.BELOW])

    @classmethod
    def make(cls, own: tuple[Any, ...], children: Sequence[Node]) -> Node:
        """Return the node with given own values and children."""
        return cls(*own, *children)

    def pieces(self) -> tuple[str | Node, ...]:
        """Return the text that R gives the node, with the children in their places."""
        raise NotImplementedError

    @cached_property
    def text(self) -> str:
        """The node as R deparses it; names of coefficients and groups come from it."""
        out: list[str] = []
        stack: list[str | Node] = [self]
        while stack:
            piece = stack.pop()
            if isinstance(piece, str):
                out.append(piece)
            elif "text" in vars(piece):
                out.append(piece.text)
            else:
                stack.extend(reversed(piece.pieces()))
        return "".join(out)

    @cached_property
    def calls(self) -> tuple[Call, ...]:
        """The calls of functions in the node, parents first."""
        return tuple([node for node in self.walk() if isinstance(node, Call)])

    def walk(self) -> Iterator[Node]:
        """Yield the node and all below it, parents first."""
        stack = [self]
        while stack:
            node = stack.pop()
            yield node
            stack.extend(reversed(node.children()))

    def __hash__(self) -> int:
        return self._hash  # type: ignore[attr-defined, no-any-return]

    def __eq__(self, other: object) -> bool:
        if self is other:
            return True
        if not isinstance(other, Node) or self._hash != other._hash:  # type: ignore[attr-defined]
            return False
        if not self.children():
            return type(self) is type(other) and self.own() == other.own()
        return _flat(self) == _flat(other)

    def __reduce__(self) -> Any:
        return _unflat, (_flat(self),)

    def __deepcopy__(self, memo: Any) -> Node:
        return self

    def __repr__(self) -> str:
        return f"{type(self).__name__}({self.text!r})"

    def __str__(self) -> str:
        return self.text


@dataclass(frozen=True, eq=False, repr=False)
class Name(Node):
    """A variable, or a constant such as ``TRUE``."""

    OWN = ("name", "quoted")
    name: str
    quoted: bool = False

    def pieces(self) -> tuple[str | Node, ...]:
        """Return the name, in backticks where R needs them."""
        plain = _SYNTACTIC.match(self.name) and not (self.quoted and self.name in _RESERVED)
        return (self.name if plain else f"`{self.name}`",)


@dataclass(frozen=True, eq=False, repr=False)
class Number(Node):
    """A number; ``integer`` for R's ``2L``."""

    OWN = ("value", "integer")
    value: float
    integer: bool = False

    def pieces(self) -> tuple[str | Node, ...]:
        """Return the number as R writes it."""
        if self.integer:
            return (f"{int(self.value)}L",)
        whole = isinstance(self.value, int)  # an id, with all its digits
        return (str(self.value) if whole else number_text(self.value),)


@dataclass(frozen=True, eq=False, repr=False)
class String(Node):
    """A quoted string."""

    OWN = ("value",)
    value: str

    def pieces(self) -> tuple[str | Node, ...]:
        """Return the string in double quotes."""
        escaped = self.value.replace("\\", "\\\\").replace('"', '\\"')
        return (f'"{escaped}"',)


@dataclass(frozen=True, eq=False, repr=False)
class Paren(Node):
    """An expression in parentheses."""

    BELOW = ("inner",)
    inner: Node

    def pieces(self) -> tuple[str | Node, ...]:
        """Return what is inside, in parentheses."""
        return "(", self.inner, ")"


@dataclass(frozen=True, eq=False, repr=False)
class Unary(Node):
    """A prefix operator: ``-``, ``+``, ``!`` or a one-sided ``~``."""

    OWN = ("op",)
    BELOW = ("operand",)
    op: str
    operand: Node

    def pieces(self) -> tuple[str | Node, ...]:
        """Return the operator before its operand."""
        return self.op, self.operand


@dataclass(frozen=True, eq=False, repr=False)
class Binary(Node):
    """An operator between two expressions."""

    OWN = ("op",)
    BELOW = ("left", "right")
    op: str
    left: Node
    right: Node

    def pieces(self) -> tuple[str | Node, ...]:
        """Return the operator between its operands."""
        return self.left, f" {self.op} " if self.op in _SPACED else self.op, self.right


@dataclass(frozen=True, eq=False, repr=False)
class Call(Node):
    """A function call; ``keywords`` runs parallel to ``args``, None for a positional one."""

    OWN = ("function", "keywords")
    function: str
    args: tuple[Node, ...]
    keywords: tuple[str | None, ...]

    def children(self) -> tuple[Node, ...]:
        """Nodes directly below this one."""
        return self.args

    @classmethod
    def make(cls, own: tuple[Any, ...], children: Sequence[Node]) -> Node:
        """Return the call with given function, keywords and arguments."""
        function, keywords = own
        return cls(function, tuple(children), keywords)

    def pieces(self) -> tuple[str | Node, ...]:
        """Return the function with its arguments."""
        out: list[str | Node] = [f"{self.function}("]
        for i, (key, arg) in enumerate(zip(self.keywords, self.args, strict=True)):
            out += [(", " if i else "") + ("" if key is None else f"{key} = "), arg]
        return (*out, ")")


def fold(
    root: Node,
    combine: Callable[[Node, list[T]], T],
    below: Callable[[Node], tuple[Node, ...]] = lambda node: node.children(),
) -> T:
    """Compute a value of a tree from the leaves up.

    Parameters
    ----------
    combine : callable
        From a node and the values of what is below it, left to right, to its own value.
    below : callable, optional
        The nodes below one, by default its children; a node with none is a leaf.
    """
    values: list[T] = []
    stack: list[tuple[Node, int]] = [(root, -1)]  # with the number of children done, -1 for none
    while stack:
        node, done = stack.pop()
        children = below(node) if done < 0 else ()
        if children:
            stack.append((node, len(children)))
            stack.extend((child, -1) for child in reversed(children))
        else:
            first = len(values) - max(done, 0)
            own = values[first:]
            del values[first:]
            values.append(combine(node, own))
    return values[0]


def _flat(root: Node) -> list[tuple[type[Node], tuple[Any, ...], int]]:
    """Return type, own values and number of children of each node, parents first."""
    return [(type(node), node.own(), len(node.children())) for node in root.walk()]


def _unflat(flat: list[tuple[type[Node], tuple[Any, ...], int]]) -> Node:
    stack: list[Node] = []
    for kind, own, count in reversed(flat):
        children = [stack.pop() for _ in range(count)]
        stack.append(kind.make(own, children))
    return stack[0]


def strip_parens(node: Node) -> Node:
    """Return what is inside any parentheses around a node."""
    while isinstance(node, Paren):
        node = node.inner
    return node


def bare_name(node: Node) -> str:
    """Return the name of a grouping factor as lme4 gives it: a variable's without backticks."""
    return node.name if isinstance(node, Name) else node.text


def unquoted(name: str) -> str:
    """Return a name without backticks, under which the name in backticks is found too."""
    return name.replace("`", "")


def by_known_names(given: Mapping[Any, Any], known: Iterable[str]) -> dict[Any, Any]:
    """Return a mapping by the names that a model has, given with backticks or without.

    Examples
    --------
    >>> by_known_names({"test day": 1.5, "x": 2}, ["(Intercept)", "`test day`"])
    {'`test day`': 1.5, 'x': 2}
    """
    full = {unquoted(name): name for name in known}
    return {full.get(unquoted(k), k) if isinstance(k, str) else k: v for k, v in given.items()}


def variable_names(node: Node) -> tuple[str, ...]:
    """Names that a node reads, each once, in order (function names are not among them)."""
    return tuple(dict.fromkeys(n.name for n in node.walk() if isinstance(n, Name)))
