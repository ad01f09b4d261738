"""Lines of text as R lays them out: named vectors, long formulas, wrapped pieces."""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence

WIDTH = 80
# Names of levels that a message lists.
LISTED = 10
# R's deparse breaks a line only after an operator or a comma, once it is longer than this.
CUTOFF = 60
_BREAKABLE = re.compile(r"(?<= [-+*|~] )|(?<= \|\| )|(?<=, )")


def named_vector(names: Sequence[str], cells: Sequence[str], gap: int = 1) -> list[str]:
    r"""Lay out a named vector as R prints it: each name above its value, in equal columns.

    Parameters
    ----------
    names, cells : sequence of str
        The names, and the values as text.
    gap : int
        Spaces between columns.

    Returns
    -------
    list of str
        Lines in pairs, as many columns on each as fit into 80 characters.

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
