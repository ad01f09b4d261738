"""Rows that were read once, packed into a file without a name for all later passes over them.

What reads rows (an engine, a formula's own code) costs as much as what a pass computes from them.
The file is gone with the process, whatever ends it: it has no name in any folder.
"""

from __future__ import annotations

import copy
import os
import shutil
import tempfile
import threading
import weakref
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from typing import Any, Self

import numpy as np

from mixef.linalg.chunks import ChunkSource
from mixef.linalg.sources import Chunk

# The share of the free room of its disk that a file may take.
SHARE = 0.5
# Types that take less room than double precision, and values of a column that are tried first.
SMALLER = tuple(map(np.dtype, ("i1", "i2", "i4", "f4")))
TRIED = 64
_VECTORS = ("weights", "offset", "copies", "within")


@dataclass(frozen=True)
class _Column:
    """Where a column of a chunk is."""

    place: int  # bytes from the start of the chunk
    dtype: np.dtype[Any]
    value: float | int | None = None  # that all rows have; they are not in the file then


@dataclass(frozen=True)
class _Packed:
    """Where a chunk is, without its numbers."""

    start: int  # in the file
    size: int  # bytes
    columns: tuple[_Column, ...]
    rest: Chunk  # what is not one number a row; arrays without rows stand for those that are


class Spool:
    """Chunks in a file without a name, in the least exact type of each column.

    Raises
    ------
    OSError
        Where there is no room for them.
    """

    def __init__(self) -> None:
        self._file = tempfile.TemporaryFile(prefix="mixef-", buffering=0)  # noqa: SIM115
        weakref.finalize(self, self._file.close)
        self._chunks: list[_Packed] = []
        self._end, self._lock = 0, threading.Lock()
        self._room = SHARE * shutil.disk_usage(tempfile.gettempdir()).free

    def add(self, chunk: Chunk) -> None:
        """Take in a chunk."""
        m, columns, written = len(chunk.y), [], []
        seen: dict[tuple[float, float], list[tuple[np.ndarray, _Column]]] = {}
        place = 0
        for values in _columns_of(chunk):
            ends = values.min(), values.max()
            alike = seen.setdefault(ends, [])
            # Most columns of Z are columns of X too.
            known = next((own for other, own in alike if np.array_equal(values, other)), None)
            if known is None and ends[0] == ends[1]:
                known = _Column(0, values.dtype, values[0].item())
            if known is None:
                small = _smallest(values, *ends)
                known = _Column(place, small.dtype)
                written.append(small)
                place += -(-small.nbytes // 8) * 8
            alike.append((values, known))
            columns.append(known)
        if self._end + place > self._room:
            raise OSError("the rows take too much of the free room on disk")
        packed = bytearray(place)
        begin = 0
        for small in written:
            np.frombuffer(packed, small.dtype, m, begin)[:] = small
            begin += -(-small.nbytes // 8) * 8
        self._file.seek(self._end)
        if place and self._file.write(packed) != place:
            raise OSError("the disk is full")
        self._chunks.append(_Packed(self._end, place, tuple(columns), _without_rows(chunk)))
        self._end += place

    def __iter__(self) -> Iterator[Chunk]:
        """Yield the chunks as they came."""
        return map(self._unpacked, self._chunks)

    def _unpacked(self, packed: _Packed) -> Chunk:
        data = self._read(packed.start, packed.size)
        rest = packed.rest
        m = int(rest.y.shape[1])
        ready: dict[_Column, np.ndarray] = {}

        def column(own: _Column) -> np.ndarray:
            if own not in ready:
                ready[own] = (
                    np.frombuffer(data, own.dtype, m, own.place)
                    if own.value is None
                    else np.full(m, own.value, own.dtype)
                )
            return ready[own]

        left = iter(packed.columns)

        def vector(_: object) -> np.ndarray:
            return column(next(left)).astype(float, copy=False)

        def matrix(like: np.ndarray) -> np.ndarray:
            out = np.empty((like.shape[1], m))
            for row in out:
                row[:] = column(next(left))
            return out.T

        return replace(
            rest,
            X=matrix(rest.X),
            y=vector(rest.y),
            z=tuple(map(matrix, rest.z)),
            codes=tuple(column(next(left)) for _ in rest.codes),
            **{name: _of_there(getattr(rest, name), vector) for name in _VECTORS},
        )

    def _read(self, start: int, size: int) -> bytes:
        if hasattr(os, "pread"):
            return os.pread(self._file.fileno(), size, start)
        with self._lock:  # threads share the file's position
            self._file.seek(start)
            return self._file.read(size)


def _columns_of(chunk: Chunk) -> Iterator[np.ndarray]:
    """Yield all that is one number a row."""
    yield from chunk.X.T
    yield chunk.y
    for z in chunk.z:
        yield from z.T
    yield from chunk.codes
    for name in _VECTORS:
        if (values := getattr(chunk, name)) is not None:
            yield values


def _without_rows(chunk: Chunk) -> Chunk:
    """Return what stands for a chunk: its arrays have no rows, but for how many there were."""
    none = np.empty((0, len(chunk.y)))
    there: dict[str, Any] = {
        name: _of_there(getattr(chunk, name), lambda _: none) for name in _VECTORS
    }
    return replace(
        chunk,
        X=chunk.X[:0],
        y=none,
        z=tuple(z[:0] for z in chunk.z),
        codes=tuple(codes[:0] for codes in chunk.codes),
        **there,
    )


def _of_there(values: Any, function: Callable[[Any], Any]) -> Any:
    """Return what a function makes of a vector; None of none."""
    return None if values is None else function(values)


def _smallest(values: np.ndarray, low: Any, high: Any) -> np.ndarray:
    """Return a column in the smallest type that holds all of its values."""
    for dtype in SMALLER:
        if dtype.itemsize >= values.dtype.itemsize:
            continue
        if dtype.kind == "i":
            bounds = np.iinfo(dtype)
            if not (bounds.min <= low and high <= bounds.max):
                continue
        elif values.dtype.kind != "f":
            continue
        with np.errstate(all="ignore"):
            if (values[:TRIED].astype(dtype) == values[:TRIED]).all():
                small = values.astype(dtype)
                if (small == values).all():
                    return small
    return values


class _Held:
    """What the same rows have in common, whichever of their columns are asked for."""

    spool: Spool | None = None
    has_room = True

    def __getstate__(self) -> dict[str, Any]:
        """Leave the file behind: another process reads the rows anew, and has a disk of its own."""
        return {}


class Spooled(ChunkSource):
    """The rows of another source, which is read once; later passes are over a file.

    Where there is no room for the file every pass reads the source.

    Parameters
    ----------
    source : ChunkSource
    kept : sequence of int (p,), optional
        Columns of X; all of them by default.

    Examples
    --------
    >>> from mixef.linalg.chunks import Looped
    >>> chunk = Chunk(np.ones((2, 1)), np.array([1.0, 2.0]), (), ())
    >>> rows = Spooled(Looped(lambda: [chunk]))
    >>> [next(iter(rows)).y.tolist() for _ in range(3)], rows.read
    ([[1.0, 2.0], [1.0, 2.0], [1.0, 2.0]], 3)
    >>> [sum(len(chunk.y) for chunk in rows) for _ in range(3)], rows.read
    ([2, 2, 2], 4)
    """

    def __init__(self, source: ChunkSource, kept: Sequence[int] | None = None):
        self._source, self._kept, self._held = source, kept, _Held()

    @property
    def read(self) -> int:
        """How often the rows were read from the source."""
        return self._source.passes

    def of(self, kept: Sequence[int]) -> Self:
        """Return the same rows, in the same file, with some columns of X alone."""
        own = copy.copy(self)
        own._kept = kept
        return own

    @contextmanager
    def shown(self) -> Iterator[Self]:
        """Show how far passes are, and give up the file at the end.

        A later pass reads the source, and writes a file for those after it, which goes with the
        rows.
        """
        with super().shown():
            try:
                yield self
            finally:
                self._held.spool = None

    def chunks(self) -> Iterator[Chunk]:
        """Yield the rows."""
        kept, spool = self._kept, self._held.spool
        for chunk in self._first() if spool is None else spool:
            yield chunk if kept is None else replace(chunk, X=chunk.X[:, kept])

    def _first(self) -> Iterator[Chunk]:
        """Yield the rows of the source, and keep them once all of them were asked for."""
        spool, held = None, self._held
        if held.has_room:
            try:
                spool = Spool()
            except OSError:
                held.has_room = False
        for chunk in self._source:
            if spool is not None:
                try:
                    spool.add(chunk)
                except OSError:
                    spool, held.has_room = None, False
            yield chunk
        held.spool = spool
