"""The syntax tree of a formula; every node knows the text that R gives it."""

from __future__ import annotations

import re
from abc import ABC, abstractmethod
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import Any

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


@dataclass(frozen=True)
class Node(ABC):
    """One node of a formula's syntax tree."""

    @cached_property
    def text(self) -> str:
        """The node as R deparses it; names of coefficients and groups come from it."""
        return self._deparse()

    @abstractmethod
    def _deparse(self) -> str:
        """Return the text that R gives the node."""

    def children(self) -> tuple[Node, ...]:
        """Nodes directly below this one."""
        return ()

    def walk(self) -> Iterator[Node]:
        """Yield the node and all below it, parents first."""
        yield self
        for child in self.children():
            yield from child.walk()

    def __str__(self) -> str:
        return self.text


@dataclass(frozen=True)
class Name(Node):
    """A variable, or a constant such as ``TRUE``."""

    name: str
    quoted: bool = False

    def _deparse(self) -> str:
        plain = _SYNTACTIC.match(self.name) and not (self.quoted and self.name in _RESERVED)
        return self.name if plain else f"`{self.name}`"


@dataclass(frozen=True)
class Number(Node):
    """A number; ``integer`` for R's ``2L``."""

    value: float
    integer: bool = False

    def _deparse(self) -> str:
        if self.integer:
            return f"{int(self.value)}L"
        return str(self.value) if isinstance(self.value, int) else number_text(self.value)


@dataclass(frozen=True)
class String(Node):
    """A quoted string."""

    value: str

    def _deparse(self) -> str:
        escaped = self.value.replace("\\", "\\\\").replace('"', '\\"')
        return f'"{escaped}"'


@dataclass(frozen=True)
class Paren(Node):
    """An expression in parentheses."""

    inner: Node

    def _deparse(self) -> str:
        return f"({self.inner.text})"

    def children(self) -> tuple[Node, ...]:
        """Nodes directly below this one."""
        return (self.inner,)


@dataclass(frozen=True)
class Unary(Node):
    """A prefix operator: ``-``, ``+``, ``!`` or a one-sided ``~``."""

    op: str
    operand: Node

    def _deparse(self) -> str:
        return f"{self.op}{self.operand.text}"

    def children(self) -> tuple[Node, ...]:
        """Nodes directly below this one."""
        return (self.operand,)


@dataclass(frozen=True)
class Binary(Node):
    """An operator between two expressions."""

    op: str
    left: Node
    right: Node

    def _deparse(self) -> str:
        op = f" {self.op} " if self.op in _SPACED else self.op
        return f"{self.left.text}{op}{self.right.text}"

    def children(self) -> tuple[Node, ...]:
        """Nodes directly below this one."""
        return (self.left, self.right)


@dataclass(frozen=True)
class Call(Node):
    """A function call; ``keywords`` runs parallel to ``args``, None for a positional one."""

    function: str
    args: tuple[Node, ...]
    keywords: tuple[str | None, ...]

    def _deparse(self) -> str:
        parts = (
            arg.text if key is None else f"{key} = {arg.text}"
            for key, arg in zip(self.keywords, self.args, strict=True)
        )
        return f"{self.function}({', '.join(parts)})"

    def children(self) -> tuple[Node, ...]:
        """Nodes directly below this one."""
        return self.args


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
