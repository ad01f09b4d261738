"""Frames of the caller: eager, lazy, or streams of Arrow; and the part that a fit keeps."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from copy import copy
from os import PathLike
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd

from mixef.errors import DataError, MissingLibraryError
from mixef.late import LateModule

if TYPE_CHECKING:
    import narwhals as nw_main
    import narwhals.stable.v1 as nw
    import pyarrow as pa
else:  # which pandas and mappings do without
    nw_main, nw = LateModule("narwhals"), LateModule("narwhals.stable.v1")
    pa = LateModule("pyarrow")

__all__ = ["attributes", "frame_of", "is_lazy", "is_of_narwhals", "nw", "series_of"]


def is_of_narwhals(values: Any) -> bool:
    """Tell whether values are a frame or a column as narwhals has it, without loading it."""
    return type(values).__module__.startswith("narwhals.")


def series_of(values: Any) -> Any:
    """Return a column of polars or Arrow as narwhals has it, and anything else as it is.

    Masked values of NumPy become missing ones.
    """
    if isinstance(values, np.ma.MaskedArray):
        return _unmasked(values)
    library = type(values).__module__.partition(".")[0]
    if library == "pyarrow" and hasattr(values, "__arrow_c_array__"):
        values = pa.chunked_array([values])
    if library in ("polars", "pyarrow"):
        return nw.from_native(values, series_only=True, pass_through=True)
    return values


def _unmasked(values: np.ma.MaskedArray[Any, Any]) -> Any:
    data, mask = np.array(values.data), np.ma.getmaskarray(values)
    kind = data.dtype.kind
    if not mask.any():
        return data
    if kind in "iu" and data.ndim == 1:
        return pd.arrays.IntegerArray(data, mask)
    if kind == "b" and data.ndim == 1:
        return pd.arrays.BooleanArray(data, mask)
    if kind in "iub":
        data = data.astype(float)
    elif kind not in "fcmM":
        data = data.astype(object)
    data[mask] = {"m": "NaT", "M": "NaT", "O": None}.get(data.dtype.kind, np.nan)
    return data


def is_lazy(data: Any) -> bool:
    """Tell whether data are yet to be collected, or a stream that can be read once."""
    if isinstance(data, pd.DataFrame | pd.Series | Mapping | type) or data is None:
        return False
    native = nw_main.from_native(data, pass_through=True)
    return not isinstance(native, nw_main.DataFrame) and (
        isinstance(native, nw_main.LazyFrame) or hasattr(data, "__arrow_c_stream__")
    )


def attributes(data: Any) -> Mapping[Any, Any]:
    """Return the ``attrs`` of a pandas frame; of other data an attribute may be a column."""
    return data.attrs if isinstance(data, pd.DataFrame) else {}


def frame_of(data: Any, needed: Collection[str] | None) -> nw.DataFrame[Any]:
    """Return data that are neither pandas nor a mapping as an eager frame.

    Parameters
    ----------
    data : Any
        A frame that narwhals knows, lazy ones and relations of databases too, or what has
        ``__arrow_c_stream__``.
    needed : collection of str, or None
        Columns to read of what is lazy; None for all.

    Raises
    ------
    DataError
        For anything else.
    """
    is_frame = not isinstance(data, type | pd.Series)  # which have some of a frame's methods
    native = nw_main.from_native(data, pass_through=True) if is_frame else data
    if isinstance(native, nw_main.LazyFrame):
        return _eager(native.select(_chosen(native.collect_schema().names(), needed)).collect())
    if isinstance(native, nw_main.DataFrame):
        return _eager(native)
    if is_frame and hasattr(data, "__arrow_c_stream__"):
        return _from_stream(data, needed)
    remedy = ""
    if isinstance(data, str | PathLike):
        remedy = "; read a file before, as by pandas.read_csv() or polars.scan_parquet()"
    elif isinstance(data, list | tuple) and data and isinstance(data[0], Mapping):
        remedy = "; pandas.DataFrame() makes a frame of a list of rows"
    elif isinstance(data, list | tuple) and data and isinstance(data[0], str | PathLike):
        remedy = "; polars.scan_parquet() and duckdb.read_parquet() take a list of paths"
    elif getattr(getattr(data, "dtype", None), "names", None):
        remedy = "; pandas.DataFrame() makes a frame of a structured array"
    raise DataError(
        f"cannot read data of type {type(data).__name__}; expected a frame of pandas, polars, "
        "pyarrow or DuckDB, something else with __arrow_c_stream__, or a mapping from names to "
        f"arrays{remedy}"
    )


def _chosen(names: list[str], needed: Collection[str] | None) -> list[str]:
    # A frame without columns has no rows to count, so that one stays whatever is needed.
    return names if needed is None else [n for n in names if n in needed] or names[:1]


def _eager(frame: Any) -> nw.DataFrame[Any]:
    return nw.from_native(frame.to_native(), eager_only=True)


def _from_stream(data: Any, needed: Collection[str] | None) -> nw.DataFrame[Any]:
    """Read a stream of Arrow, by one of the libraries that can."""
    for backend in ("pyarrow", "polars"):
        try:
            frame = nw_main.from_arrow(data, backend=backend)
        except ImportError:
            continue
        except Exception as error:  # of any library that makes or reads the stream
            raise DataError(
                f"data of type {type(data).__name__} are a stream of Arrow that cannot be read as "
                f"a table ({error}); expected a table with named columns"
            ) from error
        return _eager(frame.select(_chosen(frame.columns, needed)))
    raise MissingLibraryError(
        f"data of type {type(data).__name__} are a stream of Arrow, which takes pyarrow or polars "
        "to read: pip install pyarrow"
    )


COPY_ON_WRITE = int(pd.__version__.split(".")[0]) >= 3  # always, since pandas 3


def guarded(data: Any, needed: Collection[str] | None) -> Any:
    """Return the data so that the caller's later changes do not reach the needed columns.

    Where pandas copies on write, a frame shares its columns until one is changed; else the needed
    columns are copied, and the others, which only an update could ask for, are the caller's.

    Parameters
    ----------
    needed : collection of str, or None
        None for all columns.
    """
    if isinstance(data, pd.DataFrame):
        if COPY_ON_WRITE or pd.get_option("mode.copy_on_write") is True:
            return data.copy(deep=False)
        if needed is None or not data.columns.is_unique:
            return data.copy(deep=True)
        own = data.copy(deep=False)
        for name in own.columns.intersection(list(needed)):
            own[name] = data[name].copy()
        return own
    if isinstance(data, Mapping):
        return {k: _copied(v) if needed is None or k in needed else v for k, v in data.items()}
    return data


def _copied(values: Any) -> Any:
    try:
        return copy(values)
    except Exception:  # a generator, a module: no column, which is told where it is read
        return values


def columns_alone(data: Any, needed: Collection[str] | None) -> Any:
    """Return the data with the needed columns alone; with all for None.

    What an engine holds goes with its process, save files, which are found again by their path.
    """
    if data is None or isinstance(data, str | PathLike):
        return data
    if is_lazy(data):
        return None
    if needed is None:
        return data
    if isinstance(data, pd.DataFrame):
        return data.loc[:, [name in needed for name in data.columns]]
    if isinstance(data, Mapping):
        return {name: values for name, values in data.items() if name in needed}
    frame = nw.from_native(data, eager_only=True)
    return frame.select([name for name in frame.columns if name in needed]).to_native()
