"""From the text of an R expression to its syntax tree: tokens, then operators by precedence."""

from __future__ import annotations

import re
from collections.abc import Container
from dataclasses import dataclass, field
from functools import lru_cache
from typing import NamedTuple

from mixef.errors import FormulaError
from mixef.terms.nodes import Binary, Call, Name, Node, Number, Paren, String, Unary

_TOKEN = re.compile(
    r"""\s*(?:
      (?P<number>0[xX][0-9a-fA-F]+L?|(?:\d+\.?\d*|\.\d+)(?:[eE][+-]?\d+)?L?)
    | (?P<name>(?:[^\W\d_]|\.(?!\d))[\w.]*(?:::[\w.]+)?|_[\w.]*)
    | (?P<quoted>`[^`]*`)
    | (?P<string>"(?:\\.|[^"\\])*"|'(?:\\.|[^'\\])*')
    | (?P<op>%[^%\s]*%|\*\*|==|!=|<=|>=|&&|\|\||[-+*/^:~|<>!&(),=\[\]])
    )""",
    re.VERBOSE,
)
_BLANK = re.compile(r"\s*")
_ESCAPE = re.compile(r"\\(.)")

# Binding powers in R's order of precedence, (left, right); a smaller right power than the left
# one makes the operator group to the right.
_COMPARISONS = ("==", "!=", "<", "<=", ">", ">=")
_BINARY = {
    "~": (10, 11),
    "|": (20, 21),
    "||": (20, 21),
    "&": (30, 31),
    "&&": (30, 31),
    **dict.fromkeys(_COMPARISONS, (50, 51)),
    "+": (60, 61),
    "-": (60, 61),
    "*": (70, 71),
    "/": (70, 71),
    "%%": (80, 81),
    "%/%": (80, 81),
    "%in%": (80, 81),
    ":": (90, 91),
    "^": (111, 100),
}
_PREFIX = {"~": 11, "!": 40, "-": 100, "+": 100}
# Python's words, which have one meaning here: a name cannot stand where an operator does.
_WORDS = {"and": "&", "or": "|", "in": "%in%"}
_OPERANDS = {"name", "number", "string", "quoted"}
_END = "the end"
_SHOWN = 60


class Token(NamedTuple):
    """A piece of the text, with the place where it starts."""

    kind: str
    text: str
    place: int


def syntax_error(text: str, place: int, message: str, what: str) -> FormulaError:
    """Build the error that shows a text with a caret under one place, and says what it is."""
    line = text.replace("\n", " ").replace("\t", " ")
    start, end = max(0, place - _SHOWN), place + _SHOWN
    before, after = "..." if start else "", "..." if end < len(line) else ""
    shown, caret = before + line[start:end] + after, " " * (len(before) + place - start)
    return FormulaError(f"cannot read {what}: {message}\n    {shown}\n    {caret}^")


def _tokenize(text: str, what: str) -> list[Token]:
    tokens, place, end = [], 0, len(text.rstrip())
    while place < end:
        match = _TOKEN.match(text, place)
        if match is None:
            start = _BLANK.match(text, place).end()  # type: ignore[union-attr]
            raise syntax_error(text, start, _strange_character(text[start]), what)
        kind = str(match.lastgroup)
        piece = "^" if match.group(kind) == "**" else match.group(kind)
        tokens.append(Token(kind, piece, match.start(kind)))
        place = match.end()
    tokens.append(Token("end", _END, end))
    return tokens


def _strange_character(character: str) -> str:
    if character in "\"'`":
        return f"the {character} that opens here is never closed"
    hint = "variables of yours go by their names, without '@'; " if character == "@" else ""
    return (
        f"unexpected character {character!r}; {hint}"
        "a column whose name holds such a character goes in backticks, as in `my column`"
    )


@dataclass
class _Operator:
    """An operator that waits for its (right) operand; `power` is how strongly it binds that."""

    op: str
    power: int
    prefix: bool = False


@dataclass
class _Opening:
    """A parenthesis or bracket that waits to be closed; `function` is None for a plain one."""

    close: str
    function: str | None = None
    args: list[Node] = field(default_factory=list)
    keywords: list[str | None] = field(default_factory=list)


class _Parser:
    """An operator-precedence parser, whose stack is a list: no nesting is too deep for it."""

    def __init__(self, text: str, tokens: list[Token], what: str) -> None:
        self.text, self.tokens, self.what, self.at = text, tokens, what, 0
        self.operands: list[Node] = []
        self.waiting: list[_Operator | _Opening] = []

    def whole(self) -> Node:
        operand_next = True
        while not (self.token.kind == "end" and not operand_next):
            operand_next = self.operand() if operand_next else self.operator()
        self.reduce(0)
        if self.waiting:
            raise self.unfinished()
        return self.operands[0]

    @property
    def token(self) -> Token:
        return self.tokens[self.at]

    @property
    def following(self) -> Token:
        return self.tokens[min(self.at + 1, len(self.tokens) - 1)]

    def fail(self, expected: str) -> FormulaError:
        token = self.token
        found = token.text if token.kind == "end" else repr(token.text)
        return self.error(f"expected {expected}, found {found}")

    def error(self, message: str) -> FormulaError:
        return syntax_error(self.text, self.token.place, message, self.what)

    def operand(self) -> bool:
        """Read what begins an operand; return whether an operand still comes next."""
        token = self.token
        kind, text = token.kind, token.text
        negation = text == "not" and kind == "name" and self.starts_operand(self.following)
        if negation or (kind == "op" and text in _PREFIX):
            self.at += 1
            op = "!" if negation else text
            self.waiting.append(_Operator(op, _PREFIX[op], prefix=True))
            return True
        if kind == "op" and text in ("(", "["):
            self.at += 1
            self.waiting.append(_Opening(")") if text == "(" else _Opening("]", "c"))
            return text == "(" or self.argument()
        if kind == "name" and self.following[:2] == ("op", "("):
            self.at += 2
            self.waiting.append(_Opening(")", text))
            return self.argument()
        if kind not in _OPERANDS:
            raise self.fail("a variable, a function call, a number or '('")
        self.operands.append(self.leaf(token))
        self.at += 1
        return False

    def starts_operand(self, token: Token) -> bool:
        return token.kind in _OPERANDS - {"name"} or (
            token.text not in _WORDS if token.kind == "name" else token.text in ("(", "!", "[")
        )

    def leaf(self, token: Token) -> Node:
        if token.kind == "number":
            try:
                return _number(token.text)
            except OverflowError:
                raise self.error("this number is too large") from None
        if token.kind == "string":
            return String(_ESCAPE.sub(r"\1", token.text[1:-1]))
        return Name(token.text[1:-1], quoted=True) if token.kind == "quoted" else Name(token.text)

    def argument(self) -> bool:
        """Begin an argument, or end a call that has no more; return whether an operand follows."""
        opening = self.waiting[-1]
        assert isinstance(opening, _Opening)
        if self.token[:2] == ("op", opening.close):
            return self.closed(opening)
        keyword = None
        if self.token.kind == "name" and self.following[:2] == ("op", "="):
            keyword = self.token.text
            if keyword in opening.keywords:
                raise self.fail(f"each argument once ({keyword} is there already)")
            self.at += 2
        opening.keywords.append(keyword)
        return True

    def closed(self, opening: _Opening) -> bool:
        self.at += 1
        self.waiting.pop()
        if opening.function is None:
            self.operands.append(Paren(self.operands.pop()))
        else:
            call = Call(opening.function, tuple(opening.args), tuple(opening.keywords))
            self.operands.append(call)
        return False

    def operator(self) -> bool:
        """Read what follows an operand; return whether an operand comes next."""
        token = self.token
        op = _WORDS.get(token.text, "") if token.kind == "name" else token.text
        if token.kind == "name" and token.text == "not" and self.following[:2] == ("name", "in"):
            self.at += 1
            op = "not in"
        if (token.kind == "op" or op) and op in (*_BINARY, "not in"):
            self.binary(op)
            return True
        if token.kind == "op" and op.startswith("%"):
            raise self.fail("one of the operators %in%, %% and %/%")
        self.reduce(0)
        opening = self.waiting[-1] if self.waiting else None
        if isinstance(opening, _Opening) and token[:2] == ("op", opening.close):
            if opening.function is not None:
                opening.args.append(self.operands.pop())
            return self.closed(opening)
        if isinstance(opening, _Opening) and opening.function and token[:2] == ("op", ","):
            opening.args.append(self.operands.pop())
            self.at += 1
            return self.argument()
        raise self.unfinished()

    def binary(self, op: str) -> None:
        left, right = _BINARY["%in%" if op == "not in" else op]
        self.reduce(left)
        last = self.operands[-1]
        if op in _COMPARISONS and isinstance(last, Binary) and last.op in _COMPARISONS:
            raise self.fail("'&' between two comparisons, as in 'a < x & x < b'")
        self.at += 1
        self.waiting.append(_Operator(op, right))

    def reduce(self, left: int) -> None:
        """Give the waiting operators that bind more than ``left`` their operands."""
        while self.waiting:
            top = self.waiting[-1]
            if isinstance(top, _Opening) or top.power <= left:
                return
            self.waiting.pop()
            last = self.operands.pop()
            if top.prefix:
                self.operands.append(Unary(top.op, last))
            elif top.op == "not in":
                self.operands.append(Unary("!", Binary("%in%", self.operands.pop(), last)))
            else:
                self.operands.append(Binary(top.op, self.operands.pop(), last))

    def unfinished(self) -> FormulaError:
        """Build the error for a place where something was to be closed, or an operator to be."""
        if self.token[:2] == ("op", "="):
            return self.fail("'==', which compares")
        expected = "an operator such as '+'"
        if self.waiting:
            opening = self.waiting[-1]
            assert isinstance(opening, _Opening)
            expected = f"',' or '{opening.close}'" if opening.function else "')'"
        before = self.tokens[self.at - 1]
        if self.token.kind == "name" and before.kind in ("name", "number"):
            name = f"`{before.text} {self.token.text}`"
            expected += f" (a name that holds a blank goes in backticks, as in {name})"
        return self.fail(expected)


def _number(text: str) -> Number:
    integer = text.endswith("L")
    digits = text.rstrip("L")
    if digits.isdigit() and 2**53 < float(digits) < 1e30:  # an id, which needs all its digits
        return Number(int(digits), integer)
    value = float(int(digits, 16) if digits[:2] in ("0x", "0X") else float(digits))
    if integer:
        int(value)  # raises for what is larger than any number
    return Number(value, integer)


@lru_cache(maxsize=512)
def parse_expression(text: str, what: str = "the formula") -> Node:
    """Parse one R expression.

    Python's ``and``, ``or``, ``not`` and ``in`` stand for ``&``, ``|``, ``!`` and ``%in%``.

    Parameters
    ----------
    text : str
    what : str
        What the text is called where it cannot be read.

    Raises
    ------
    FormulaError
        With the text and a caret under the place where reading stopped.

    Examples
    --------
    >>> parse_expression("log( y+1 )").text
    'log(y + 1)'
    >>> parse_expression("x > 1 and g not in ['a', 'b']").text
    'x > 1 & !g %in% c("a", "b")'
    """
    return _Parser(text, _tokenize(text, what), what).whole()


def parse_argument(text: str, columns: Container[str], what: str = "an argument") -> Node:
    """Return what the text of an argument means: a column by its bare name, or an expression.

    Raises
    ------
    FormulaError
        For text that is neither; it names the argument, `what`.

    Examples
    --------
    >>> parse_argument("x - 1", ["x", "x - 1"]).text, parse_argument("x - 1", ["x"]).text
    ('`x - 1`', 'x - 1')
    """
    if text in columns:
        return Name(text)
    return parse_expression(text, f"{what} as an expression")
