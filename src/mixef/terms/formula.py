"""A mixed-model formula: response, fixed part and random-effects terms."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property, lru_cache

from mixef.errors import ArgumentError, DataWarning, FormulaError, warn
from mixef.terms.algebra import TermSet, expand_terms
from mixef.terms.covariance import STRUCTURES
from mixef.terms.nodes import (
    Binary,
    Call,
    Name,
    Node,
    Number,
    Paren,
    Unary,
    bare_name,
    fold,
    strip_parens,
)
from mixef.terms.parser import parse_expression

_ADDITIVE = ("+", "-")


@dataclass(frozen=True)
class BarTerm:
    """One random-effects term ``(lhs | group)``."""

    lhs: Node  # formula of the term's columns
    group: Node  # the grouping factor: a variable, a call, or an interaction such as ``b:a``
    structure: str = "us"  # tag of the covariance structure of one level's effects
    hom: bool = False  # whether the effects share one variance

    @cached_property
    def text(self) -> str:
        """The term without parentheses and tag, such as ``Days | Subject``."""
        return f"{self.lhs.text} | {self.group.text}"

    @property
    def written(self) -> str:
        """The term as a formula has it, such as ``(Days | Subject)`` or ``diag(f | g)``."""
        if self.structure == "us":
            return f"({self.text})"
        usual = self.hom == bool(STRUCTURES[self.structure].default_hom)
        hom = "" if usual else f", hom = {'TRUE' if self.hom else 'FALSE'}"
        return f"{self.structure}({self.text}{hom})"

    @cached_property
    def name(self) -> str:
        """Name of the grouping factor, as in ``b:a``."""
        return bare_name(self.group)

    @cached_property
    def terms(self) -> TermSet:
        """Expanded terms of the left side."""
        return expand_terms(self.lhs)


@dataclass(frozen=True)
class Formula:
    """A formula taken apart; `bars` hold the terms that ``/`` and ``*`` stand for."""

    text: str  # the formula as R deparses it
    response: Node | None  # left side; None in a one-sided formula
    fixed: Node  # right side without random-effects terms
    bars: tuple[BarTerm, ...]  # random-effects terms in lme4's order

    def __str__(self) -> str:
        return self.text

    def __hash__(self) -> int:
        return hash(self.text)

    @property
    def response_name(self) -> str:
        """The response's text, for messages."""
        return "the response" if self.response is None else self.response.text


def parse_formula(text: str) -> Formula:
    """Parse an lme4 formula.

    Parameters
    ----------
    text : str
        Such as ``"y ~ x + (1 + x | g)"``; the response may be missing.

    Raises
    ------
    FormulaError
        With the formula, a caret under the place, and what was expected there.

    Notes
    -----
    Random-effects terms follow Bates et al. (2015), section 2.2: ``(e | a/b)`` is
    ``(e | b:a) + (e | a)``. ``(x || g)`` is ``diag(x | g)``: all columns uncorrelated.

    Examples
    --------
    >>> formula = parse_formula("log(y) ~ x + (x | school/class)")
    >>> formula.fixed.text, [bar.text for bar in formula.bars]
    ('x', ['x | class:school', 'x | school'])
    """
    if not isinstance(text, str):
        raise FormulaError(
            "a formula must be a string such as 'y ~ x + (1 | g)', but it is of type "
            f"{type(text).__name__}; the order of arguments is formula, data"
        )
    return _parsed(text)


@lru_cache(maxsize=512)
def _parsed(text: str) -> Formula:
    response, right = _sides(text)
    fixed, bars = split_bars(right)
    expanded = tuple(term for bar in bars for term in _expand_bar(bar))
    head = f"{response.text} ~ " if response is not None else "~"
    return Formula(head + right.text, response, fixed, expanded)


def _sides(text: str) -> tuple[Node | None, Node]:
    node = parse_expression(text)
    if isinstance(node, Unary) and node.op == "~":
        return None, node.operand
    if not (isinstance(node, Binary) and node.op == "~"):
        raise FormulaError(
            f"{text!r} is no formula: expected '~' between response and predictors, "
            "as in 'y ~ x + (1 | g)'"
        )
    if any(isinstance(n, Binary) and n.op == "~" for n in node.left.walk()):
        raise FormulaError(f"{text!r} holds more than one '~'; a formula has one")
    return node.left, node.right


def is_bar(node: Node) -> bool:
    """Whether a node is a bare ``e | g`` or ``e || g``."""
    return isinstance(node, Binary) and node.op in ("|", "||")


def is_random(node: Node) -> bool:
    """Whether a summand of a formula is a random-effects term, plain or tagged."""
    if isinstance(node, Paren):
        return is_bar(node.inner)
    tagged = isinstance(node, Call) and node.function in STRUCTURES and bool(node.args)
    return tagged and is_bar(strip_parens(node.children()[0]))


def split_bars(node: Node) -> tuple[Node, list[Node]]:
    """Part a right side into its fixed part and its random-effects terms, in order."""
    if is_bar(node):
        raise FormulaError(
            f"a random-effects term needs parentheses: write ({node.text}) where {node.text} stands"
        )
    fixed, bars = fold(node, _parted, _summands)
    for left in () if fixed is None else fixed.walk():
        _refuse_stray_bar(left)
    return (Number(1.0) if fixed is None else fixed), bars


def _summands(node: Node) -> tuple[Node, ...]:
    """Return the parts of a sum, of which each can be a random-effects term."""
    additive = isinstance(node, Unary | Binary) and node.op in _ADDITIVE
    whole = is_random(node) or not (additive or isinstance(node, Paren))
    return () if whole else node.children()


def _parted(
    node: Node, parts: list[tuple[Node | None, list[Node]]]
) -> tuple[Node | None, list[Node]]:
    """Return what is left of a sum, and its random-effects terms."""
    if not parts:
        return (None, [node]) if is_random(node) else (node, [])
    if isinstance(node, Unary | Binary) and node.op == "-" and parts[-1][1]:
        raise FormulaError(
            f"a random-effects term cannot be subtracted: remove '- {node.children()[-1].text}' "
            "(to drop a term from a fitted model, use update)"
        )
    bars = parts[0][1]
    for _, more in parts[1:]:
        bars += more
    left, right = parts[0][0], parts[-1][0]
    if isinstance(node, Binary) and bars:
        return _join(node.op, left, right), bars
    return (None if left is None else node if not bars else node.make(node.own(), [left])), bars


def _join(op: str, left: Node | None, right: Node | None) -> Node | None:
    if right is None:
        return left
    if left is None:
        return right if op == "+" else Unary("-", right)
    return Binary(op, left, right)


def _refuse_stray_bar(node: Node) -> None:
    if isinstance(node, Paren) and is_bar(node.inner):
        raise FormulaError(
            f"the random-effects term {node.text} can only be added with '+' to the rest of "
            "the formula; it stands inside another operator or a call"
        )
    if isinstance(node, Call) and is_random(node):
        raise FormulaError(f"the random-effects term {node.text} can only be added with '+'")


def _expand_bar(node: Node) -> Iterator[BarTerm]:
    """Yield the terms that one bar stands for, one for each grouping factor."""
    node = strip_parens(node)
    structure, hom, bar = _tag(node) if isinstance(node, Call) else ("us", False, node)
    assert isinstance(bar, Binary)
    if bar.op == "||":
        if isinstance(node, Call):
            raise FormulaError(
                f"in {node.text}: '||' and {structure}() both choose a structure; use '|' here"
            )
        structure = "diag"
    _refuse_nested_bars(bar)
    for group in expand_group(bar.right):
        yield BarTerm(bar.left, group, structure, hom)


def _refuse_nested_bars(bar: Binary) -> None:
    for side in (bar.left, bar.right):
        if is_bar(strip_parens(side)):
            raise FormulaError(f"in ({bar.text}): one term holds one '|', with one grouping factor")


def _tag(node: Call) -> tuple[str, bool, Binary]:
    """Read ``us() diag() cs() ar1()`` with its optional ``hom=``."""
    default = STRUCTURES[node.function].default_hom
    hom = bool(default)
    for position, (key, arg) in enumerate(zip(node.keywords, node.args, strict=True)):
        if position == 0:
            continue
        if key not in ("hom", None) or position > 1 or default is None:
            name = key if key is not None else arg.text
            allowed = "no second argument" if default is None else "only hom=TRUE or FALSE"
            raise FormulaError(
                f"in {node.text}: unknown argument {name!r}; {node.function}() takes {allowed}"
            )
        literal = arg.name if isinstance(arg, Name) else None
        if literal not in ("TRUE", "FALSE", "True", "False"):
            raise FormulaError(
                f"'hom' is not TRUE or FALSE in special call: {node.text} has hom = {arg.text}; "
                "write the literal TRUE or FALSE"
            )
        hom = literal in ("TRUE", "True")
    bar = strip_parens(node.args[0])
    assert isinstance(bar, Binary)
    return node.function, hom, bar


def expand_group(node: Node) -> list[Node]:
    """Return the grouping factors that ``a/b``, ``a*b`` and ``a + b`` stand for, in lme4's order.

    Examples
    --------
    >>> [g.text for g in expand_group(parse_expression("a/b/c"))]
    ['c:(b:a)', 'b:a', 'a']
    """
    return fold(node, _factors, _nested)[0]


def _nested(node: Node) -> tuple[Node, ...]:
    """Return the parts of a grouping expression that stand for factors of their own."""
    several = isinstance(node, Binary) and node.op in ("/", "*", "+")
    return node.children() if several or isinstance(node, Paren) else ()


def _factors(node: Node, parts: list[tuple[list[Node], Node]]) -> tuple[list[Node], Node]:
    """Return the factors of a grouping expression and the finest one, for a further ``/``."""
    if not parts:
        if isinstance(node, Binary) and node.op == "%in%":
            node = Binary(":", node.left, node.right)
        return [node], node
    if isinstance(node, Paren):
        return parts[0]
    assert isinstance(node, Binary)
    (left, left_finest), (right, right_finest) = parts
    if node.op == "/":
        crossed = [_interaction(factor, left_finest) for factor in right]
        return [*crossed, *left], crossed[0]
    finest = _interaction(left_finest, right_finest)
    left += [*right, finest] if node.op == "*" else right
    return left, finest


def _interaction(left: Node, right: Node) -> Node:
    parts = (Paren(n) if isinstance(n, Binary) and n.op == ":" else n for n in (left, right))
    return Binary(":", *parts)


def update_formula(old: str, new: str) -> str:
    """Update a formula: ``.`` in `new` stands for the same side of `old`.

    Parameters
    ----------
    old : str
        The formula to start from.
    new : str
        Such as ``". ~ . - x"``, ``"log(.) ~ ."`` or ``". ~ . - (1 | g)"``.

    Returns
    -------
    str
        The new formula, with the fixed part expanded to its terms as in R.

    Raises
    ------
    ArgumentError
        If `new` is not text.
    FormulaError
        If it is no formula.

    Warns
    -----
    DataWarning
        If `new` takes away a term that is not there.

    Examples
    --------
    >>> update_formula("y ~ x * z + (1 | g)", ". ~ . - x:z")
    'y ~ x + z + (1 | g)'
    """
    if not isinstance(new, str):
        raise ArgumentError(
            f"the change of the formula is {new!r}; expected text such as '. ~ . - x', where '.' "
            "stands for what was there"
        )
    if "~" not in new:
        raise FormulaError(
            f"the change of the formula is {new!r}, without '~'; expected text such as "
            "'. ~ . - x', where '.' stands for what was there"
        )
    old_left, old_right = _sides(old)
    new_left, new_right = _sides(new)
    left = old_left if new_left is None else _replace_dot(new_left, old_left)
    right = _replace_dot(new_right, Paren(old_right))
    head = "~" if left is None else f"{left.text} ~ "
    return head + _simplified(right)


def _replace_dot(root: Node, by: Node | None) -> Node:
    def replaced(node: Node, parts: list[Node]) -> Node:
        if isinstance(node, Name) and node.name == "." and not node.quoted and by is not None:
            return by
        return node.make(node.own(), parts) if parts else node

    return fold(root, replaced)


def _simplified(right: Node) -> str:
    """Sum of the terms of a right side, random-effects terms taken as single variables."""
    removed_offsets = {n.text for n in _subtracted(right) if isinstance(n, Call)}
    terms = expand_terms(right, (".",))
    labels = []
    for label, term in zip(terms.labels, terms.terms, strict=True):
        bars = [node for node in term if is_bar(node)]
        if bars and len(term) > 1:
            raise FormulaError(
                f"the update would cross the random-effects term ({bars[0].text}) with others; "
                "write the terms out"
            )
        labels.append(f"({label})" if bars else label)
    warn_of_absent(terms, labels)
    labels += [o.text for o in terms.offsets if o.text not in removed_offsets]
    if not labels:
        return "1" if terms.intercept else "0"
    return " + ".join(labels) + ("" if terms.intercept else " - 1")


def warn_of_absent(terms: TermSet, labels: Sequence[str] | None = None) -> None:
    """Warn of terms that a formula takes away, but does not have."""
    if terms.absent:
        there = terms.labels if labels is None else labels
        listed = ", ".join(there[:20]) + (", ..." if len(there) > 20 else "")
        warn(
            f"the formula takes away {', '.join(terms.absent[:10])}, which is not among its terms; "
            f"its terms are: {listed or 'none'}",
            DataWarning,
        )


def _subtracted(root: Node) -> Iterator[Node]:
    """Yield the nodes that stand anywhere right of a minus."""
    stack = [(root, False)]
    while stack:
        node, taken = stack.pop()
        if taken:
            yield node
        minus = isinstance(node, Binary) and node.op == "-"
        stack += [(child, taken or (minus and i == 1)) for i, child in enumerate(node.children())]
