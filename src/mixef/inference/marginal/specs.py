"""What means are asked for: names, or a formula such as ``pairwise ~ a * b | c``."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

from mixef import checks
from mixef.errors import ArgumentError, FormulaError
from mixef.terms.nodes import Binary, Call, Name, Node, Number, String, Unary, strip_parens
from mixef.terms.parser import parse_expression

EXPECTED = (
    "names of predictors, such as 'a' or ['a', 'b'], or a formula such as '~ a * b | c', 'a + b' "
    "or '1' for the mean of all"
)


@dataclass(frozen=True)
class Specs:
    """The predictors that means are asked for, by groups of others."""

    names: tuple[str, ...]
    by: tuple[str, ...]
    contrasts: str | None = None  # the method on the left of a formula


def read_specs(specs: Any, by: Any, known: Iterable[str]) -> Specs:
    """Read what means are asked for.

    Raises
    ------
    ArgumentError
        For a name that is no predictor.
    FormulaError
        For text that is neither a name nor such a formula.
    """
    known = list(known)
    if isinstance(specs, str) and specs not in known:
        made = _from_formula(specs)
    else:
        made = Specs(tuple(dict.fromkeys(checks.names(specs, "specs", EXPECTED))), ())
    if by is not None:
        made = Specs(made.names, tuple(dict.fromkeys(checks.names(by, "by"))), made.contrasts)
    for name in (*made.names, *made.by):
        if name not in known:
            raise ArgumentError(
                f"{name!r} is no predictor of the fixed effects; they are "
                f"{', '.join(known) or 'none'}; expected {EXPECTED}"
            )
    names = tuple(name for name in made.names if name not in made.by)
    return Specs(names, made.by, made.contrasts)


def _from_formula(text: str) -> Specs:
    node, contrasts = parse_expression(text, "specs"), None
    if isinstance(node, Unary) and node.op == "~":
        node = node.operand
    elif isinstance(node, Binary) and node.op == "~":
        if not isinstance(node.left, Name):
            raise FormulaError(
                f"specs {text!r} has {node.left.text} before '~'; expected the name of a set of "
                "contrasts, as in 'pairwise ~ a'"
            )
        contrasts, node = node.left.name, node.right
    node = strip_parens(node)
    by: tuple[str, ...] = ()
    if isinstance(node, Binary) and node.op == "|":
        by, node = _names(node.right, text), node.left
    return Specs(_names(node, text), by, contrasts)


def _names(node: Node, text: str) -> tuple[str, ...]:
    """Return the names of an expression, in order."""
    for part in node.walk():
        bad = isinstance(part, Call | String) or (isinstance(part, Number) and part.value != 1)
        bad = bad or (isinstance(part, Binary) and part.op not in ("+", "*", ":"))
        if bad:
            raise FormulaError(f"specs {text!r} has {part.text}; expected {EXPECTED}")
    return tuple(dict.fromkeys(part.name for part in node.walk() if isinstance(part, Name)))
