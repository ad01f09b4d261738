"""Parquet files as tables of an engine: by DuckDB, or by polars where that reads more of them."""

from __future__ import annotations

import os
from difflib import get_close_matches
from glob import escape, glob, has_magic
from os.path import expanduser
from pathlib import Path
from typing import TYPE_CHECKING, Any

from mixef import checks
from mixef.errors import DataError, MissingLibraryError, MixefError
from mixef.late import LateModule
from mixef.terms.relation.engines import check_duckdb, pass_interrupt

if TYPE_CHECKING:
    import duckdb
    import narwhals as nw
    import polars
    import pyarrow as pa
    import pyarrow.parquet as parquet
else:
    duckdb, nw, polars, pa, parquet = map(
        LateModule, ("duckdb", "narwhals", "polars", "pyarrow", "pyarrow.parquet")
    )

ENDINGS = (".parquet", ".pq", ".parq")
BROKEN = (
    "write the file anew if it is broken, and read one of another kind before, as by "
    "pandas.read_csv()"
)
ADDRESS = (
    "open the address with what it needs (the extension httpfs, a secret), and give the relation: "
    "con = duckdb.connect(); con.execute('INSTALL httpfs'); con.read_parquet"
)
# Files of a folder that a message names.
NAMED = 3


def full_path(path: str) -> str:
    """Return a path that leads there from any folder; addresses are left as they are."""
    there = expanduser(path.removeprefix("file://"))
    return there if "://" in there else os.path.join(os.getcwd(), there)


def scanned(path: str) -> nw.LazyFrame[Any]:
    """Return the table of Parquet files.

    Parameters
    ----------
    path : str
        Of a file, a pattern of paths, or a folder, whose subfolders may be named after values of
        columns, as in ``year=2024/``.

    Raises
    ------
    DataError
        For a path that leads to no Parquet file.
    MissingLibraryError
        Without DuckDB and polars.
    """
    there = full_path(path)
    is_address = "://" in there
    is_folder = bool(path) and Path(there).is_dir()
    if not (has_magic(path) or is_parquet(path) or is_folder):
        absent = "" if Path(there).exists() else "; there is no file or folder of this name"
        raise DataError(
            f"the data are {path!r}; a path leads to Parquet files (.parquet, or a pattern such as "
            f"'data/*.parquet'): read another file before, as by pandas.read_csv(){absent}"
        )
    # What is there by its very name is no pattern, whatever letters it has.
    named, root = (escape(there), there) if Path(there).exists() else (there, _fixed_part(there))
    pattern, first = named, _first(named)
    if is_folder:
        inside = [f"{named.rstrip('/')}/**/*{ending}" for ending in ENDINGS]
        pattern, first = next(
            ((each, found) for each in inside if (found := _first(each)) is not None),
            (inside[0], None),
        )
    if first is None and not is_address:
        raise DataError(f"cannot read Parquet files from {path!r}: {_absent(there, is_folder)}")
    changed = None if first is None else _changed_by_duckdb(first)
    # Folders below the given one, or that the pattern matches, may be values.
    varying = "" if first is None else first[len(root) :].lstrip("/")
    by_value = any("=" in part for part in Path(varying).parent.parts)
    engines = [_by_polars] if changed else [_by_duckdb, _by_polars]
    for scan in engines:
        try:
            lazy: nw.LazyFrame[Any] = nw.from_native(scan(pattern, by_value))
            return _with_booleans(lazy, pattern) if by_value else lazy
        except ImportError:
            continue
        except MixefError:
            raise
        except Exception as error:
            pass_interrupt(error)
            what = str(error).splitlines()[0].rstrip(" :")
            remedy = f"{ADDRESS}({path!r})" if is_address else BROKEN
            raise DataError(f"cannot read Parquet files from {path!r}: {what}; {remedy}") from None
    reason = f", whose {changed}," if changed else ""
    needed = "polars" if changed else "--upgrade duckdb"
    raise MissingLibraryError(
        f"reading Parquet files where they lie ({path!r}){reason} takes "
        f"{'polars' if changed else 'DuckDB 2 or polars'}: pip install {needed}"
    )


def is_parquet(path: str) -> bool:
    """Tell whether a path ends as those of Parquet files do."""
    return path.lower().endswith(ENDINGS)


def _first(pattern: str) -> str | None:
    """Return the first file that a pattern matches; None without any."""
    files = (path for path in glob(pattern, recursive=True) if Path(path).is_file())
    return min(files, default=None)


def _with_booleans(lazy: nw.LazyFrame[Any], pattern: str) -> nw.LazyFrame[Any]:
    """Return a table with the booleans that its folders are named after, text to DuckDB."""
    folders = {folder for path in glob(pattern, recursive=True) for folder in Path(path).parts[:-1]}
    values: dict[str, set[str]] = {}
    for name, is_value, value in (folder.partition("=") for folder in folders):
        if is_value and value != "__HIVE_DEFAULT_PARTITION__":
            values.setdefault(name, set()).add(value.lower())
    schema = lazy.collect_schema()
    text = [name for name, found in values.items() if found <= {"true", "false"}]
    text = [name for name in text if schema.get(name) == nw.String]
    return lazy.with_columns(nw.col(*text).str.to_lowercase() == "true") if text else lazy


def _absent(path: str, is_folder: bool) -> str:
    """Say that no file is there, and what is."""
    if is_folder:
        return (
            f"no file in this folder, or below it, ends in {checks.either(ENDINGS)}; "
            f"{_content(Path(path))}; a pattern such as 'folder/*' finds files of other names"
        )
    target = Path(_fixed_part(path) if has_magic(path) else path).absolute()
    if target.is_dir():
        return f"no file matches this pattern; {_content(target)}"
    while not target.parent.exists():
        target = target.parent
    folder = target.parent
    near = get_close_matches(target.name, os.listdir(folder) if folder.is_dir() else [], 1)
    meant = f"did you mean {near[0]!r}?" if near else _content(folder)
    return f"there is no {target.name!r} in the folder {str(folder)!r}; {meant}"


def _content(folder: Path) -> str:
    """Say what is in a folder."""
    try:
        held = sorted(os.listdir(folder))
    except OSError as error:  # it is none, or others may not look into it
        return f"{str(folder)!r} cannot be looked into ({error.strerror})"
    more = ", ..." if len(held) > NAMED else ""
    return f"{str(folder)!r} holds {', '.join(map(repr, held[:NAMED])) or 'nothing'}{more}"


def _fixed_part(pattern: str) -> str:
    """Return the folders of a pattern before the first that varies."""
    at = next((i for i, letter in enumerate(pattern) if letter in "*?["), len(pattern))
    return pattern[: pattern.rfind("/", 0, at) + 1]


def _by_duckdb(pattern: str, by_value: bool) -> Any:
    check_duckdb()
    # A connection of its own, since one serves one thread at a time. What a query leaves of memory
    # goes back to the system while the model is fitted, and not when the connection ends.
    connection = duckdb.connect(config={"allocator_background_threads": True})
    return connection.read_parquet(pattern, hive_partitioning=by_value)


def _by_polars(pattern: str, by_value: bool) -> Any:
    return polars.scan_parquet(pattern, hive_partitioning=by_value)


def _changed_by_duckdb(path: str) -> str | None:
    """Say which column of a file DuckDB would read as something else; None for none."""
    try:
        schema = parquet.read_schema(path)
    except Exception:  # what reads the rows will say it better
        return None
    names = [name.lower() for name in schema.names]
    twice = [name for name in schema.names if names.count(name.lower()) > 1]
    if twice:
        return f"columns {' and '.join(map(repr, twice))} are one name to DuckDB"
    for field in schema:
        if pa.types.is_duration(field.type):
            return f"column {field.name!r} holds durations, which are whole numbers to DuckDB"
        zone = getattr(field.type, "tz", None)
        if zone not in (None, "UTC", "Etc/UTC"):
            return f"column {field.name!r} holds times of {zone}, which have no zone to DuckDB"
    return None
