"""The levels of factors: what the data call them, and the labels that R gives those."""

from __future__ import annotations

import datetime
import re
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
import pandas as pd

from mixef.terms.nodes import number_text

# A time at midnight is written as its day, whatever its time zone.
_MIDNIGHT = re.compile(r"(\S+) 00:00:00(?:[+-]\d\d:\d\d(?::\d\d)?)?")


@dataclass(frozen=True, eq=False)
class LevelSet:
    """The levels of a factor, in order."""

    #: tuple of str, ndarray, Index or extension array, length l: what the data hold: strings, whole
    #: numbers, dates.
    values: Any
    given: tuple[str, ...] | None = None  # labels, where they are not the text of the values

    def __len__(self) -> int:
        return len(self.values)

    @cached_property
    def labels(self) -> tuple[str, ...]:
        """Labels as R writes them; made when first read, since they can be many."""
        return labels_of(self.values) if self.given is None else self.given

    @cached_property
    def index(self) -> pd.Index:
        """The values, as an index of results: what the data hold looks up their rows."""
        if isinstance(self.values, tuple):
            return pd.Index(list(self.values), dtype=None if self.values else object)
        return self.values if isinstance(self.values, pd.Index) else pd.Index(self.values)

    def take(self, places: np.ndarray) -> LevelSet:
        """Return some of the levels, by position."""
        given = None if self.given is None else _picked(self.given, places)
        if isinstance(self.values, tuple):
            return LevelSet(_picked(self.values, places), given)
        return LevelSet(self.values.take(places), given)

    def arranged(self, labels: tuple[str, ...]) -> LevelSet:
        """Return levels by label, in another order; a label that is not known is its own value."""
        if labels == self.labels:
            return self
        place = {label: i for i, label in enumerate(self.labels)}
        places = [place.get(label, -1) for label in labels]
        if min(places, default=0) >= 0:
            return self.take(np.array(places, dtype=np.intp))
        own = self.index
        values = [own[i] if i >= 0 else label for i, label in zip(places, labels, strict=True)]
        return LevelSet(pd.Index(values, dtype=object), labels)


@dataclass(frozen=True, eq=False)
class CrossedLevels(LevelSet):
    """Combinations of levels of several factors; `values` (l, factors) holds their positions."""

    parts: tuple[LevelSet, ...] = ()  # the levels of each factor

    @cached_property
    def labels(self) -> tuple[str, ...]:
        """Labels such as ``a1:b1``, made when first read."""
        return crossed_labels(self.values, [part.labels for part in self.parts])

    @cached_property
    def index(self) -> pd.Index:
        """The labels: a combination has no other name in the data."""
        return pd.Index(list(self.labels), dtype=None if len(self) else object)

    def take(self, places: np.ndarray) -> LevelSet:
        """Return some of the levels, by position."""
        return CrossedLevels(self.values[places], None, self.parts)


def _picked(texts: Sequence[str], places: np.ndarray) -> tuple[str, ...]:
    return tuple([texts[i] for i in places.tolist()])


def crossed_labels(combinations: np.ndarray, levels: Sequence[tuple[str, ...]]) -> tuple[str, ...]:
    """Labels such as ``a1:b1`` of combinations (l, number of factors).

    A label that holds a colon is quoted, so that other combinations have other labels: ``x:y``
    with ``z`` is ``"x:y":z``, and ``x`` with ``y:z`` is ``x:"y:z"``.
    """
    parts = [
        np.array(_quoted_where_needed(own), dtype=object)[combinations[:, j]]
        for j, own in enumerate(levels)
    ]
    return tuple(map(":".join, zip(*parts, strict=True)))


def _quoted_where_needed(labels: tuple[str, ...]) -> tuple[str, ...]:
    if ":" not in (joined := "\n".join(labels)) and '"' not in joined:
        return labels
    # What opens with a quotation mark would read as quoted, so it is quoted too.
    return tuple(
        '"' + label.replace('"', '""') + '"' if ":" in label or label[:1] == '"' else label
        for label in labels
    )


def labels_of(values: Any) -> tuple[str, ...]:
    """Labels of distinct values as R writes them."""
    if isinstance(values, tuple):
        return values
    kind = getattr(values.dtype, "kind", "O")
    if kind in "iuf":
        return number_labels(np.asarray(values))
    listed = np.asarray(values, dtype=object).tolist() if kind == "O" else list(values)
    if set(map(type, listed)) <= {str}:
        return tuple(listed)
    return tuple(map(text_of_value, listed))


def text_of_value(value: Any) -> str:
    """Return one value as text: a number as in R, a time at midnight as its day."""
    if isinstance(value, bool | np.bool_):
        return "TRUE" if value else "FALSE"
    if isinstance(value, float | np.floating):
        return number_text(float(value))
    text = str(value)
    if isinstance(value, pd.Timedelta):
        return text.removesuffix(" 00:00:00")
    if isinstance(value, datetime.datetime) and (match := _MIDNIGHT.fullmatch(text)):
        return match[1]
    return text


def number_labels(values: np.ndarray) -> tuple[str, ...]:
    """Labels of distinct numbers as R writes them; whole numbers keep all their digits."""
    if values.dtype.kind in "iuO":
        return tuple(map(str, values.tolist()))
    # A column of whole numbers is often float only because one of them is missing, and what
    # R would hold there is an integer: 100000, not 1e+05.
    if np.abs(values).max(initial=0.0) < 2.0**64 and bool((np.mod(values, 1) == 0).all()):
        return tuple(map(str, map(int, values.tolist())))
    return tuple(map(number_text, values.tolist()))
