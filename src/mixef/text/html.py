"""Rows and boxes of HTML that read well on a light page, on a dark one and on a phone.

No colour is named: text and lines take the page's own. What is too wide scrolls inside its own
box. Mathematics is not looked for, as a name may hold dollar signs.
"""

from __future__ import annotations

import html
from collections.abc import Sequence
from itertools import accumulate

# Columns of text longer than this are broken into lines.
LONG = 40
TABLE = "border-collapse: collapse; font-variant-numeric: tabular-nums; margin: 0; width: auto"
RULE_BELOW = "border-bottom: 1px solid"
RULE_ABOVE = "border-top: 1px solid"
_PAD = "padding: 0.2em 0.6em"
_RIGHT = f"text-align: right; white-space: nowrap; {_PAD}"
_SHORT = f"text-align: left; white-space: nowrap; {_PAD}"
_LONG = f"text-align: left; min-width: 14em; overflow-wrap: anywhere; {_PAD}"
MIDDLE = f"text-align: center; white-space: nowrap; {_PAD}"
LEFT = f"text-align: left; {_PAD}"
TITLE = f"caption-side: top; color: inherit; {LEFT}"
# As wide as its text, beyond its table where need be: by the margin it does not widen the columns.
_LOOSE = "width: max-content; max-width: min(48em, 85vw); margin-right: -48em; font-weight: normal"


def styles(columns: Sequence[Sequence[str]], sides: Sequence[str]) -> list[str]:
    """Return the style of the cells of each column: numbers on one line, long text on several."""
    widths = [max((len(text.strip()) for text in column), default=0) for column in columns]
    long = any(side != "r" and width > LONG for side, width in zip(sides, widths, strict=True))
    top = "; vertical-align: top" if long else ""
    return [
        (_RIGHT if side == "r" else _LONG if width > LONG else _SHORT) + top
        for side, width in zip(sides, widths, strict=True)
    ]


def cell(inside: str, style: str, scope: str = "", span: int = 1) -> str:
    """Return a cell with some HTML inside: a heading of `scope` where it is of any, else data.

    Examples
    --------
    >>> cell("a&lt;b", "text-align: left", "row")
    "<th scope='row' style='text-align: left'>a&lt;b</th>"
    >>> cell("", "text-align: left", "col")  # an empty heading would be read out as one
    "<td style='text-align: left'></td>"
    """
    tag = "th" if scope and inside else "td"
    of = f" scope='{scope}'" if tag == "th" else ""
    width = f" colspan='{span}'" if span > 1 else ""
    return f"<{tag}{of}{width} style='{style}'>{inside}</{tag}>"


def row(texts: Sequence[str], style: Sequence[str], scopes: Sequence[str]) -> str:
    """Return a row of cells with some text in each."""
    parts = zip(map(escaped, texts), style, scopes, strict=True)
    return f"<tr>{''.join(cell(*part) for part in parts)}</tr>"


def spans(groups: Sequence[tuple[str, int]], style: Sequence[str]) -> list[str]:
    """Return headings over several columns each, in the middle; over one column, as it is."""
    ends = accumulate((n for _, n in groups), initial=0)
    return [
        cell(escaped(text), style[first] if n == 1 else MIDDLE, "colgroup", n)
        for (text, n), first in zip(groups, ends, strict=False)
    ]


def loose(lines: Sequence[str]) -> str:
    """Return lines that may be wider than the table they belong to."""
    return f"<div style='{_LOOSE}'>{'<br>'.join(escaped(line) for line in lines)}</div>"


def box(inside: str) -> str:
    """Return a box that scrolls where what is inside is wider than the page."""
    kind = "mixef tex2jax_ignore mathjax_ignore"
    return f"<div class='{kind}' style='overflow-x: auto; margin: 0.5em 0'>\n{inside}\n</div>"


def stack(boxes: Sequence[str]) -> str:
    """Return boxes below each other, as one element."""
    inside = "\n".join(boxes)
    return inside if len(boxes) == 1 else f"<div class='mixef'>\n{inside}\n</div>"


def escaped(text: str) -> str:
    """Return text as HTML has it."""
    return html.escape(text.strip())
