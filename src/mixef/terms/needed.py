"""What a formula reads: its variables, the parts of its grouping factors, its offsets."""

from __future__ import annotations

from functools import lru_cache
from typing import Any

from mixef.errors import FormulaError
from mixef.terms.algebra import TermSet, expand_terms
from mixef.terms.columns import Columns
from mixef.terms.formula import Formula
from mixef.terms.nodes import Binary, Name, Node, Number, strip_parens, variable_names
from mixef.terms.parser import parse_expression


def group_factors(node: Node) -> tuple[Node, ...]:
    """Return the variables that a grouping expression such as ``c:(b:a)`` crosses, in order."""
    out, stack = [], [node]
    while stack:
        top = strip_parens(stack.pop())
        if isinstance(top, Binary) and top.op in (":", "%in%"):
            stack += [top.right, top.left]
        else:
            out.append(top)
    return tuple(out)


def needed_names(formula: Formula, *arguments: Any) -> set[str] | None:
    """Return the names that a formula and arguments that may be text read; None for all.

    A function of the caller's may have one of the names: it is no column then, and no harm.
    """
    names = set(names_in(formula))
    for text in [text for a in arguments for text in (a if isinstance(a, list) else [a])]:
        if isinstance(text, str):
            names |= needed_by(text)
    return None if "." in names else names


@lru_cache(maxsize=512)
def needed_by(text: str) -> frozenset[str]:
    """Return the names that the text of an argument may read: a column's, or of an expression."""
    try:
        return frozenset([text, *variable_names(parse_expression(text))])
    except FormulaError:  # if no column has it for its name, it is refused where it is read
        return frozenset([text])


@lru_cache(maxsize=512)
def names_in(formula: Formula) -> tuple[str, ...]:
    """Return the names that a formula reads, each once."""
    nodes: list[Node] = [formula.fixed, *([formula.response] if formula.response else [])]
    nodes += [side for bar in formula.bars for side in (bar.lhs, bar.group)]
    return tuple(dict.fromkeys(name for node in nodes for name in variable_names(node)))


def _sides(formula: Formula) -> tuple[Node, ...]:
    """Return what a formula expands to terms: the fixed part, and the left side of each bar."""
    return (formula.fixed, *(bar.lhs for bar in formula.bars))


def dot_columns(formula: Formula, columns: Columns) -> tuple[str, ...] | None:
    """Return the columns that ``.`` stands for; None for a formula without it."""
    if not _has_dot(formula):
        return None
    used = set() if formula.response is None else set(variable_names(formula.response))
    return tuple(name for name in columns.names if name not in used)


@lru_cache(maxsize=512)
def _has_dot(formula: Formula) -> bool:
    nodes = (node for side in _sides(formula) for node in side.walk())
    return any(isinstance(n, Name) and n.name == "." and not n.quoted for n in nodes)


@lru_cache(maxsize=512)
def needed_variables(
    formula: Formula, dot: tuple[str, ...] | None
) -> tuple[tuple[Node, ...], tuple[Node, ...], tuple[Node, ...]]:
    """Return what a formula uses, each once: its variables, parts of groups, and offsets."""
    fixed = expand_terms(formula.fixed, dot)
    nodes: list[Node] = [] if formula.response is None else [formula.response]
    nodes += [*fixed.variables, *fixed.offsets]
    groups: list[Node] = []
    for bar in formula.bars:
        lhs = expand_terms(bar.lhs, dot)
        if lhs.offsets:
            raise FormulaError(f"an offset cannot stand inside a random-effects term: ({bar.text})")
        nodes += lhs.variables
        groups += group_factors(bar.group)
    if formula.response in fixed.variables:
        raise FormulaError(f"the response {nodes[0].text} is among its own predictors; drop it")
    for node in nodes + groups:
        if isinstance(node, Number):
            raise FormulaError(f"the number {node.text} cannot be a response or grouping factor")
    return _distinct(nodes), _distinct(groups), fixed.offsets


@lru_cache(maxsize=512)
def with_absent(formula: Formula, dot: tuple[str, ...] | None) -> tuple[TermSet, ...]:
    """Return the expansions of a formula that take away what is not there."""
    expanded = (expand_terms(side, dot) for side in _sides(formula))
    return tuple(terms for terms in expanded if terms.absent)


def _distinct(nodes: list[Node]) -> tuple[Node, ...]:
    return tuple({node.text: node for node in nodes}.values())
