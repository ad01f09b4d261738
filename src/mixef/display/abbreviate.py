"""Short names for the columns of a correlation matrix, by R's rule."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Sequence

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
    for droppable in (_is_vowel, str.islower, _is_any):
        text = _drop_from_end(text, length, droppable, ends_only=True)
        text = _drop_from_end(text, length, droppable, ends_only=False)
    return text.replace(" ", "") if len(text) > length else text


def _is_vowel(char: str) -> bool:
    return char in VOWELS


def _is_any(char: str) -> bool:
    return char != " "


def _drop_from_end(
    text: str, length: int, droppable: Callable[[str], bool], ends_only: bool
) -> str:
    """Drop characters from the end until `length` are left, sparing the starts of words.

    With `ends_only` a character goes only where it ends its word by then.
    """
    for i in range(len(text) - 1, 0, -1):
        if len(text) - text.count(" ") <= length:
            break
        starts_word, ends_word = text[i - 1] == " ", text[i + 1 : i + 2] in ("", " ")
        if droppable(text[i]) and not starts_word and (ends_word or not ends_only):
            text = text[:i] + text[i + 1 :]
    return text
