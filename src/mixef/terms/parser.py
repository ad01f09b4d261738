"""From the text of an R expression to its syntax tree: a tokenizer and a Pratt parser."""

from __future__ import annotations

import re
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

# Binding powers in R's order of precedence, (left, right); a smaller right power than the left
# one makes the operator group to the right.
_BINARY = {
    "~": (10, 11),
    "|": (20, 21),
    "||": (20, 21),
    "&": (30, 31),
    "&&": (30, 31),
    **dict.fromkeys(("==", "!=", "<", "<=", ">", ">="), (50, 51)),
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
_END = "end of formula"


class Token(NamedTuple):
    """A piece of the text, with the place where it starts."""

    kind: str
    text: str
    place: int


def syntax_error(text: str, place: int, message: str) -> FormulaError:
    """Build the error that shows a formula with a caret under one place."""
    line = text.replace("\n", " ").replace("\t", " ")
    return FormulaError(f"cannot read the formula: {message}\n    {line}\n    {' ' * place}^")


def _tokenize(text: str) -> list[Token]:
    tokens, place, end = [], 0, len(text.rstrip())
    while place < end:
        match = _TOKEN.match(text, place)
        if match is None:
            start = place + len(text[place:]) - len(text[place:].lstrip())
            raise syntax_error(text, start, _strange_character(text[start]))
        kind = str(match.lastgroup)
        piece = "^" if match.group(kind) == "**" else match.group(kind)
        tokens.append(Token(kind, piece, match.start(kind)))
        place = match.end()
    tokens.append(Token("end", _END, end))
    return tokens


def _strange_character(character: str) -> str:
    if character in "\"'`":
        return f"the {character} that opens here is never closed"
    return (
        f"unexpected character {character!r}; "
        "a column whose name holds such a character goes in backticks, as in `my column`"
    )


class _Parser:
    def __init__(self, text: str) -> None:
        self.text = text
        self.tokens = _tokenize(text)
        self.at = 0

    @property
    def token(self) -> Token:
        return self.tokens[self.at]

    def take(self) -> Token:
        token = self.tokens[self.at]
        self.at += token.kind != "end"
        return token

    def fail(self, expected: str) -> FormulaError:
        token = self.token
        found = token.text if token.kind == "end" else repr(token.text)
        return syntax_error(self.text, token.place, f"expected {expected}, found {found}")

    def is_op(self, op: str) -> bool:
        return self.token.kind == "op" and self.token.text == op

    def expect(self, op: str, expected: str) -> None:
        if not self.is_op(op):
            raise self.fail(expected)
        self.take()

    def whole(self) -> Node:
        node = self.expression(0)
        if self.token.kind != "end":
            raise self.fail("an operator such as '+'")
        return node

    def expression(self, least: int) -> Node:
        node = self.prefix()
        while self.token.kind == "op" and self.token.text in _BINARY:
            op = self.token.text
            left, right = _BINARY[op]
            if left < least:
                break
            self.take()
            node = Binary(op, node, self.expression(right))
        if self.token.kind == "op" and self.token.text.startswith("%") and least == 0:
            known = "%in%, %% and %/%"
            raise self.fail(f"one of the operators {known}")
        return node

    def prefix(self) -> Node:
        token = self.token
        if token.kind == "op" and token.text in _PREFIX:
            self.take()
            return Unary(token.text, self.expression(_PREFIX[token.text]))
        if token.kind == "op" and token.text == "(":
            self.take()
            inner = self.expression(0)
            self.expect(")", "')'")
            return Paren(inner)
        if token.kind == "op" and token.text == "[":
            self.take()
            return self.arguments("c", "]")
        return self.atom()

    def atom(self) -> Node:
        token = self.token
        if token.kind == "number":
            self.take()
            return _number(token.text)
        if token.kind == "string":
            self.take()
            return String(re.sub(r"\\(.)", r"\1", token.text[1:-1]))
        if token.kind == "quoted":
            self.take()
            return Name(token.text[1:-1], quoted=True)
        if token.kind == "name":
            self.take()
            if self.is_op("("):
                self.take()
                return self.arguments(token.text, ")")
            return Name(token.text)
        raise self.fail("a variable, a function call, a number or '('")

    def arguments(self, function: str, close: str) -> Call:
        args: list[Node] = []
        keywords: list[str | None] = []
        while not self.is_op(close):
            keywords.append(self.keyword())
            args.append(self.expression(0))
            if not self.is_op(close):
                self.expect(",", f"',' or '{close}'")
        self.take()
        return Call(function, tuple(args), tuple(keywords))

    def keyword(self) -> str | None:
        following = self.tokens[min(self.at + 1, len(self.tokens) - 1)]
        if self.token.kind != "name" or (following.kind, following.text) != ("op", "="):
            return None
        name = self.take().text
        self.take()
        return name


def _number(text: str) -> Number:
    integer = text.endswith("L")
    digits = text.rstrip("L")
    if digits.isdigit() and int(digits) > 2**53:  # an id, which needs all its digits
        return Number(int(digits), integer)
    value = int(digits, 16) if digits[:2] in ("0x", "0X") else float(digits)
    return Number(float(value), integer)


@lru_cache(maxsize=1024)
def parse_expression(text: str) -> Node:
    """Parse one R expression.

    Raises
    ------
    FormulaError
        With the text and a caret under the place where reading stopped.

    Examples
    --------
    >>> parse_expression("log( y+1 )").text
    'log(y + 1)'
    """
    return _Parser(text).whole()
