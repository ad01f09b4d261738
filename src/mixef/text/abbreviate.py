"""Short names for the columns of a correlation matrix, by R's rule."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterator, Sequence

VOWELS = frozenset("aeiou")


def abbreviate(names: Sequence[str], minlength: int = 4) -> list[str]:
    """Abbreviate names to about `minlength` characters and keep them distinct.

    Follows R's ``?abbreviate``: characters go from the end of the name, first lower-case vowels,
    then lower-case letters, then the rest, and the first character of each word stays. Of each
    kind, those that end a word go first, which that page does not say but R does. Abbreviations
    that coincide, of names that differ, are made anew with one character more until they differ.

    Parameters
    ----------
    names : sequence of str
        The names.
    minlength : int
        Length to shorten to; names that are no longer stay as they are.

    Returns
    -------
    list of str
        One abbreviation for each name.

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
