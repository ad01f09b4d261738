"""Parquet files that are there whole or not at all."""

from __future__ import annotations

import os
from collections.abc import Iterable
from os import PathLike
from pathlib import Path
from tempfile import mkstemp
from typing import TYPE_CHECKING, Any

from mixef import checks
from mixef.errors import ArgumentError, DataError
from mixef.late import LateModule
from mixef.terms.relation.files import is_parquet

if TYPE_CHECKING:
    import pyarrow as pa
    from pyarrow import parquet
else:
    pa, parquet = LateModule("pyarrow"), LateModule("pyarrow.parquet")


def target_of(path: Any, overwrite: Any) -> Path:
    """Return where a file is to be written.

    Raises
    ------
    ArgumentError
        For something that is no path of a Parquet file, a folder that is not there, or a file that
        is, unless it may be overwritten.
    """
    overwrite = checks.flag(overwrite, "overwrite")
    named = isinstance(path, str | PathLike) and is_parquet(os.fspath(path))
    if not named:  # a fit would not take it for a Parquet file
        raise checks.refusal("path", path, "the path of a file to write, such as 'rows.parquet'")
    target = Path(path)
    if not target.parent.is_dir():
        raise ArgumentError(
            f"path is {str(path)!r}, but there is no folder {str(target.parent)!r}: make it before"
        )
    if target.is_dir() or (target.exists() and not overwrite):
        raise ArgumentError(
            f"path is {str(path)!r}, which is there already: give another one, or overwrite=True "
            "for a file that is to be replaced"
        )
    return target


def write_parquet(target: Path, schema: pa.Schema, batches: Iterable[pa.RecordBatch]) -> None:
    """Write batches to a file that takes its name when it is whole, and is gone if it never is.

    Raises
    ------
    DataError
        For columns of a type that Parquet has not.
    """
    _check_types(schema)
    handle, name = _unnamed(target.parent)
    try:
        with os.fdopen(handle, "wb") as file:
            with parquet.ParquetWriter(file, schema) as writer:
                for batch in batches:
                    writer.write_batch(batch)
            file.flush()
            if name is None:
                name = _named(file.fileno(), target)
        os.replace(name, target)
    except BaseException:
        if name is not None:
            Path(name).unlink(missing_ok=True)
        raise


def _check_types(schema: pa.Schema) -> None:
    for field in schema:
        try:
            parquet.ParquetWriter(pa.BufferOutputStream(), pa.schema([field])).close()
        except pa.ArrowException as error:
            raise DataError(
                f"column {field.name!r} has type {field.type}, which Parquet files do not hold: "
                f"convert it, or leave it out of the table that the model is fitted to ({error})"
            ) from None


def _unnamed(folder: Path) -> tuple[int, str | None]:
    """Open a file without a name, which not even a kill leaves behind, or with a name for now."""
    if hasattr(os, "O_TMPFILE") and Path("/proc/self/fd").is_dir():
        try:
            return os.open(folder, os.O_TMPFILE | os.O_RDWR, 0o666), None
        except OSError:  # the file system has none
            pass
    handle, name = mkstemp(suffix=".part", dir=folder)
    return handle, name


def _named(handle: int, target: Path) -> str:
    """Give a file without a name one beside its target."""
    name = str(target.with_name(f".{target.name}.{os.getpid()}.part"))
    Path(name).unlink(missing_ok=True)
    folder = os.open(target.parent, os.O_RDONLY)
    try:
        # Through the folder, so that the link of /proc is followed to the file.
        os.link(f"/proc/self/fd/{handle}", Path(name).name, dst_dir_fd=folder, follow_symlinks=True)
    finally:
        os.close(folder)
    return name
