"""Rows that come in chunks as often as they are asked for, and sums over all of them.

A pass over the rows is one call: a step makes sums of every chunk, and the source adds them up. So
a source says where the work is done: here, one chunk after another; on several threads; or where
the rows are, since steps and sums pickle.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, fields
from typing import Any, Self, TypeVar

import numpy as np

from mixef.linalg.sources import Chunk
from mixef.linalg.standardize import stacked, triangle
from mixef.progress import LateBar


@dataclass(frozen=True)
class Sums:
    """What a step makes of a chunk; a subclass has fields that add up, or are None."""

    def __iadd__(self, other: Self) -> Self:
        """Return the sums over the chunks of both; it takes over the arrays of the first."""
        pairs = ((getattr(self, f.name), getattr(other, f.name)) for f in fields(self))
        return type(self)(*(None if a is None or b is None else _sum(a, b) for a, b in pairs))


def _sum(a: Any, b: Any) -> Any:
    """Return the sum, which takes over ``a`` where that is no number."""
    a += b
    return a


AnySums = TypeVar("AnySums", bound=Sums)


class ChunkSource(ABC):
    """Rows of a model, some at a time, as often as they are asked for.

    Attributes
    ----------
    passes : int
        How often all rows were read.
    """

    passes: int = 0
    bar: LateBar | None = None  # what shows how far a pass is
    _n: int | None = None  # rows of the last pass

    @abstractmethod
    def chunks(self) -> Iterator[Chunk]:
        """Yield the rows, from the first on."""

    def of(self, kept: Sequence[int]) -> Self:
        """Return the same rows with some columns of X alone."""
        raise NotImplementedError

    @contextmanager
    def shown(self) -> Iterator[Self]:
        """Show how far passes are, until the end of a ``with`` block."""
        with LateBar(unit=" rows", unit_scale=True) as self.bar:
            yield self

    def __iter__(self) -> Iterator[Chunk]:
        self.passes += 1
        return self.chunks() if self.bar is None else self._shown(self.bar)

    def _shown(self, bar: LateBar) -> Iterator[Chunk]:
        """Yield the rows, and show how far a pass is."""
        bar.restart(f"pass {self.passes}", self._n)
        n = 0
        for chunk in self.chunks():
            yield chunk
            n += len(chunk.y)
            bar.advance(len(chunk.y))
        self._n = n

    def __call__(self) -> Iterator[Chunk]:
        """Return the chunks, from the first on."""
        return iter(self)

    def total(self, step: Callable[[Chunk], AnySums]) -> AnySums:
        """Return the sums that a step makes of every chunk, added up: one pass over the rows.

        Parameters
        ----------
        step : callable
            It pickles, as do the sums that it returns.

        Raises
        ------
        ValueError
            If there are no chunks.
        """
        total = self.added(map(step, self))
        if total is None:
            raise ValueError("there are no rows in the chunks; expected some")
        return total

    @staticmethod
    def added(parts: Iterable[AnySums]) -> AnySums | None:
        """Return the sum of the sums of chunks; None of none."""
        total: AnySums | None = None
        for part in parts:
            total = part if total is None else _sum(total, part)
        return total


class Looped(ChunkSource):
    """Chunks from a function, one after another.

    Parameters
    ----------
    function : callable
        Returns the chunks from the first on.

    Examples
    --------
    >>> chunk = Chunk(np.ones((2, 1)), np.array([1.0, 2.0]), (), ())
    >>> source = Looped(lambda: [chunk, chunk])
    >>> sum(len(chunk.y) for chunk in source), source.passes
    (4, 1)
    """

    def __init__(self, function: Callable[[], Iterable[Chunk]]):
        self._function = function

    def chunks(self) -> Iterator[Chunk]:
        """Yield what the function returns."""
        return iter(self._function())


class Triangles:
    """The triangles R (min(m, k), k) of several sets of columns: ``V'V = R'R``; they add up.

    Parameters
    ----------
    R : sequence of ndarray (r, k)
    """

    def __init__(self, R: Sequence[np.ndarray]):
        self.R = R

    @classmethod
    def of(cls, *columns: np.ndarray) -> Triangles:
        """Return the triangles of columns V (m, k)."""
        return cls([triangle(V)[0] for V in columns])

    def __iadd__(self, other: Triangles) -> Triangles:
        """Return the triangles of the columns of both, one over the other."""
        return Triangles([stacked(a, b) for a, b in zip(self.R, other.R, strict=True)])


class Largest:
    """The largest of several numbers, or of each of arrays; it takes the place of a sum."""

    def __init__(self, value: Any):
        self.value = value

    def __iadd__(self, other: Largest) -> Largest:
        """Return the larger of both."""
        return Largest(np.maximum(self.value, other.value))
