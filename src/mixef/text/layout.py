"""Text as R lays it out: named vectors, long formulas, wrapped pieces, shortened names."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence

WIDTH = 80
VOWELS = frozenset("aeiou")
# Names that a message lists.
LISTED = 10
# R's deparse breaks a line only after an operator or a comma, once it is longer than this.
CUTOFF = 60
_BREAKABLE = re.compile(r"(?<= [-+*|~] )|(?<= \|\| )|(?<=, )")


def named_vector(names: Sequence[str], cells: Sequence[str], gap: int = 1) -> list[str]:
    r"""Lay out a named vector as R prints it: each name above its value, in equal columns.

    Lines come in pairs, with as many columns on each as fit into 80 characters.

    Examples
    --------
    >>> print("\n".join(named_vector(["(Intercept)", "Days"], ["251.41", "10.47"], gap=2)))
    (Intercept)         Days
         251.41        10.47
    """
    width = max(map(len, (*names, *cells)), default=0)
    step = max(1, WIDTH // (width + gap))
    lines = []
    for start in range(0, len(names), step):
        for part in (names[start : start + step], cells[start : start + step]):
            lines.append((" " * gap).join(text.rjust(width) for text in part).rstrip())
    return lines


def formula_lines(formula: str) -> list[str]:
    """Break a long formula after its operators, as R's ``deparse`` does.

    Examples
    --------
    >>> formula_lines("y ~ x + (1 | g)")
    ['y ~ x + (1 | g)']
    """
    lines, line = [], ""
    for piece in _BREAKABLE.split(formula):
        if len(line) > CUTOFF:
            lines.append(line.rstrip())
            line = "    "
        line += piece
    return [*lines, line]


def fill(pieces: Sequence[str]) -> list[str]:
    """Join pieces by a space; a piece that would make 80 characters starts a new line.

    This is the ``fill`` of R's ``cat``. A piece may itself have several lines.

    Examples
    --------
    >>> fill(["Number of obs: 180, groups: ", "Subject, 18"])
    ['Number of obs: 180, groups:  Subject, 18']
    """
    lines: list[str] = []
    for piece in pieces:
        if lines and len(lines[-1]) + 1 + len(piece) < WIDTH:
            lines[-1] += " " + piece
        else:
            lines.append(piece)
    return [line.rstrip() for line in lines]


def listed(names: Iterable[object]) -> str:
    """Join the first of some levels into text, and count the others."""
    texts = [str(name) for name in names]
    more = len(texts) - LISTED
    return ", ".join(texts[:LISTED]) + (f" and {more} more levels" if more > 0 else "")


def abbreviate(names: Sequence[str], minlength: int = 4) -> list[str]:
    """Abbreviate names to about `minlength` characters and keep them distinct.

    Follows R's ``?abbreviate``: characters go from the end of the name, first lower-case vowels,
    then lower-case letters, then the rest, and the first character of each word stays. Of each
    kind, those that end a word go first, which that page does not say but R does. Abbreviations
    that coincide, of names that differ, are made anew with one character more until they differ.

    Examples
    --------
    >>> abbreviate(["(Intercept)", "period2", "Days"], 6)
    ['(Intr)', 'perid2', 'Days']
    """
    distinct = list(dict.fromkeys(names))
    short = {name: _shorten(name, minlength) for name in distinct}
    length, clashing = minlength, _clashing(short)
    longest = max(map(len, distinct), default=0)
    # Names that differ only by spaces around them never come apart.
    while clashing and length < longest:
        length += 1
        short |= {name: _shorten(name, length) for name in clashing}
        clashing = _clashing(short)
    return [short[name] for name in names]


def _clashing(short: dict[str, str]) -> list[str]:
    """Names that share their abbreviation with another name."""
    count = Counter(short.values())
    return [name for name, text in short.items() if count[text] > 1]


def _shorten(name: str, length: int) -> str:
    text = name.strip(" ")
    surplus = len(text) - text.count(" ") - length
    gone = {place for *_, place in sorted(_droppable(text))[: max(0, surplus)]}
    short = "".join(char for i, char in enumerate(text) if i not in gone)
    return short.replace(" ", "") if len(short) > length else short


def _droppable(text: str) -> Iterator[tuple[int, bool, int, int]]:
    """Yield a key for each character that may go; the least key goes first.

    The key is the kind of the character, whether a character of a later kind follows in its
    word, and the distance from the end; the place in `text` is the last entry.
    """
    for word in re.finditer("[^ ]+", text):
        latest = 0
        for place in range(word.end() - 1, word.start(), -1):
            kind = _kind(text[place])
            yield kind, latest > kind, -place, place
            latest = max(latest, kind)


def _kind(char: str) -> int:
    """Order in which characters go: lower-case vowels, other lower case, the rest."""
    return 0 if char in VOWELS else 1 if char.islower() else 2
