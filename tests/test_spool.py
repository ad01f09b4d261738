"""Rows that are read once and kept in a file without a name."""

import gc
import tempfile
import threading

import numpy as np
import pytest

from mixef.errors import DataError
from mixef.linalg import spool
from mixef.linalg.chunks import Looped
from mixef.linalg.sources import Chunk
from mixef.linalg.spool import Spooled

COLUMNS = {
    "constant": [2.5, 2.5, 2.5],
    "small": [1.0, 0.0, -128.0],
    "whole": [0.0, 32768.0, 1.0],
    "large": [2.0**40, 0.0, 1.0],
    "single": [0.5, 0.25, 2.0**100],
    "double": [0.1, 0.2, 0.3],
    "beyond": [1e300, -np.inf, 0.0],
    "missing": [np.nan, 1.0, 2.0],
}
FIELDS = ("y", "weights", "offset", "copies", "within")


def chunks():
    X = np.column_stack([*COLUMNS.values()])
    codes = (np.array([0, 2, 1], dtype=np.int32), np.array([70_000, 0, 1]))
    y = np.array([3.0, 0.0, 1.0])
    return [
        Chunk(X, y, (X[:, :2], X[:, [5]]), codes),
        Chunk(X[:1], y[:1], (X[:1, :2], X[:1, [5]]), tuple(c[:1] for c in codes), 2 * y[:1]),
        Chunk(X, y, (X[:, :2], X[:, [5]]), codes, y, y / 3, y + 1, 17, y * 0, 0.25),
    ]


def assert_same(own, expected):
    np.testing.assert_array_equal(own.X, expected.X)
    for name in ("z", "codes"):
        for a, b in zip(getattr(own, name), getattr(expected, name), strict=True):
            np.testing.assert_array_equal(a, b)
    for name in FIELDS:
        a, b = getattr(own, name), getattr(expected, name)
        assert (a is None) == (b is None)
        if b is not None:
            np.testing.assert_array_equal(a, b)
            assert a.dtype == float
    assert (own.n_rows, own.surplus) == (expected.n_rows, expected.surplus)


def test_rows_come_back_as_they_were():
    rows = Spooled(Looped(chunks))
    for _ in range(3):
        for own, expected in zip(rows, chunks(), strict=True):
            assert_same(own, expected)
    assert (rows.passes, rows.read) == (3, 1)
    for own, expected in zip(rows.of([5, 0]), chunks(), strict=True):
        np.testing.assert_array_equal(own.X, expected.X[:, [5, 0]])
    assert rows.read == 1
    with rows.shown():
        assert len(list(rows.of([1]))) == 3
        assert rows.read == 1
    assert [len(chunk.y) for chunk in rows] == [3, 1, 3]
    assert rows.read == 2


def test_columns_take_the_least_room():
    rows = Spooled(Looped(lambda: [chunks()[0]]))
    assert len(list(rows)) == 1
    # Bytes of each column, from the second on; then of y and of the codes. 2^40 is exact in single
    # precision. The columns of Z are columns of X. All start at whole words.
    bytes_a_row = (1, 4, 4, 4, 8, 8, 8, 1, 1, 4)
    assert rows._held.spool._end == sum(-(-3 * size // 8) * 8 for size in bytes_a_row)


def test_threads_read_one_file(monkeypatch):
    monkeypatch.delattr(spool.os, "pread", raising=False)
    rows, failures = Spooled(Looped(chunks)), []
    list(rows)

    def read():
        try:
            for _ in range(20):
                for own, expected in zip(rows.of(range(8)), chunks(), strict=True):
                    assert_same(own, expected)
        except AssertionError as error:
            failures.append(error)

    threads = [threading.Thread(target=read) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not failures
    assert rows.read == 1


def test_the_file_has_no_name_and_goes_with_its_rows(tmp_path, monkeypatch):
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    rows = Spooled(Looped(chunks))
    list(rows)
    assert not list(tmp_path.iterdir())
    file = rows._held.spool._file
    del rows
    gc.collect()
    assert file.closed


def test_without_room_the_rows_are_read_anew(monkeypatch):
    monkeypatch.setattr(spool, "SHARE", 0.0)
    rows = Spooled(Looped(chunks))
    for k in range(3):
        assert [len(chunk.y) for chunk in rows] == [3, 1, 3]
        assert rows.read == k + 1
    monkeypatch.setattr(tempfile, "tempdir", "/no/such/folder")
    rows = Spooled(Looped(chunks))
    assert len(list(rows)) == len(list(rows)) == 3


def test_rows_that_break_off_are_not_kept():
    calls = []

    def failing():
        calls.append(1)
        yield chunks()[0]
        if len(calls) == 1:
            raise DataError("the table is gone")
        yield chunks()[1]

    rows = Spooled(Looped(failing))
    with pytest.raises(DataError, match="the table is gone"):
        list(rows)
    assert len(list(rows)) == len(list(rows)) == 2
    assert len(calls) == 2
