"""One column of any kind of data as numbers, booleans, a factor, or what is exact."""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd

from mixef.checks import shown
from mixef.errors import DataError
from mixef.terms.exact import Exact, Integers, Times, floats, times
from mixef.terms.factor import (
    Factor,
    factor_from_categories,
    factor_from_logical,
    factor_from_strings,
)
from mixef.terms.sources import is_of_narwhals, nw, series_of

READ = Factor | Exact
Column = np.ndarray | READ
_TIMES = ("datetime", "datetime64", "date", "timedelta", "timedelta64", "period")
_PERHAPS_WHOLE = ("mixed-integer-float", "decimal")
_NUMBERS = ("floating", *_PERHAPS_WHOLE)


def convert(values: Any, name: str) -> np.ndarray | Factor:
    """Turn one column into floating-point numbers, booleans, or a Factor.

    Parameters
    ----------
    values : Series, array or sequence, length n

    Returns
    -------
    ndarray (n,) or (n, k), or Factor
        Missing numbers are NaN, missing levels have code -1.

    Raises
    ------
    DataError
        For dates, complex numbers and other values that are neither numbers nor labels.
    """
    column = read(values, name)
    if isinstance(column, Times):
        raise DataError(
            f"{name} holds {column.held.dtype} values; expected numbers or labels: subtract a "
            "start and divide by a unit, such as (x - x.min()) / pandas.Timedelta('1D')"
        )
    return column.as_float() if isinstance(column, Exact) else column


def read(values: Any, name: str) -> Column:
    """Turn one column into numbers, booleans or a Factor, with whole numbers and times as such.

    Parameters
    ----------
    values : Series, array or sequence, length n

    Returns
    -------
    ndarray (n,) or (n, k) of float64 or bool, Factor, Integers or Times

    Raises
    ------
    DataError
        For complex numbers and other values that are neither numbers, labels nor times.
    """
    if isinstance(values, READ):
        return values
    if type(values) is np.ndarray:
        return _from_numpy(values, name)
    values = series_of(values)
    if is_of_narwhals(values):
        return _from_narwhals(values, name)
    if isinstance(values, pd.Series | pd.Index):
        values = values.to_numpy() if isinstance(values, pd.MultiIndex) else values.array
    if isinstance(values, pd.DataFrame):
        raise DataError(f"the data have more than one column named {name!r}; rename one")
    if isinstance(values, pd.arrays.NumpyExtensionArray):
        values = values.to_numpy()
    if isinstance(values, pd.api.extensions.ExtensionArray):
        return _from_extension(values, name)
    array = _array(values, name)
    if array.dtype.kind == "f" and isinstance(values, list | tuple):
        # Python's integers beside None or NaN, or beyond 64 bits, are exact in the list.
        array = np.asarray(values, dtype=object if array.ndim == 1 else array.dtype)
    return _from_numpy(array, name)


def _array(values: Any, name: str) -> np.ndarray:
    try:
        return np.asarray(values)
    except Exception as error:  # rows of several lengths, or anything of a user's own
        raise DataError(f"column {name!r} is {shown(values)}; expected one value a row") from error


def _from_numpy(x: np.ndarray, name: str) -> Column:
    kind = x.dtype.kind
    if x.ndim not in (1, 2) or (x.ndim == 2 and kind not in "fiub"):
        raise DataError(f"column {name!r} has shape {x.shape}; expected one value a row")
    if kind == "f" or (kind in "iu" and x.ndim > 1):
        return x if x.dtype == np.float64 else x.astype(np.float64)
    if kind == "b":
        return x
    if kind in "iu":
        return _whole_numbers(x, None, name)
    if kind in "UT":
        return factor_from_strings(x.astype(object))
    if kind == "O":
        return _from_objects(x, name)
    if kind in "mM":
        return times(x, name)
    raise _unusable(name, str(x.dtype))


def _whole_numbers(x: np.ndarray, missing: np.ndarray | None, name: str) -> Integers:
    """Widen whole numbers of NumPy."""
    wide = np.uint64 if x.dtype.kind == "u" else np.int64
    return Integers(x.astype(wide, copy=False), missing, name)


def _from_objects(x: np.ndarray, name: str) -> Column:
    inferred = pd.api.types.infer_dtype(x, skipna=True)
    if inferred == "empty":  # nothing says what the values would be
        return np.full(len(x), np.nan)
    if inferred == "string":
        return factor_from_strings(x)
    if inferred in _TIMES:
        return times(x, name)
    missing = pd.isna(x)
    if inferred == "boolean":
        return factor_from_logical(np.where(missing, False, x).astype(bool), missing)
    if inferred == "integer" or (inferred in _PERHAPS_WHOLE and _whole(x[~missing])):
        return _integers(x, missing, name)
    if inferred in _NUMBERS:
        return floats(np.where(missing, np.nan, x), name)
    raise _unusable(name, f"object ({inferred})")


def _whole(x: np.ndarray) -> bool:
    """Tell whether numbers are whole: ids of databases often are, and keep their digits so."""
    try:
        return all(value == int(value) for value in x)
    except (OverflowError, ValueError):  # infinite, or a signalling NaN
        return False


def _integers(x: np.ndarray, missing: np.ndarray, name: str) -> Integers:
    """Return whole numbers in the smallest type of 64 bits or more that holds them."""
    whole = [0 if absent else int(value) for value, absent in zip(x, missing, strict=True)]
    low, high = min(whole, default=0), max(whole, default=0)
    dtype: Any = object
    if low >= -(2**63) and high < 2**63:
        dtype = np.int64
    elif low >= 0 and high < 2**64:
        dtype = np.uint64
    return Integers(np.array(whole, dtype=dtype), missing if missing.any() else None, name)


def _from_extension(values: Any, name: str) -> Column:
    if isinstance(values, pd.Categorical):
        categories = values.categories
        factor = factor_from_categories(values.codes, categories, bool(values.ordered))
        if factor.n_levels < len(categories) and categories.dtype == object:
            raise DataError(
                f"column {name!r} has categories of several types with one label, such as 1 and "
                "'1'; rename one of them"
            )
        return factor
    dtype = values.dtype
    kind = getattr(dtype, "kind", "O")
    if isinstance(dtype, pd.StringDtype):
        return factor_from_strings(values)
    if isinstance(dtype, pd.SparseDtype):
        return _from_numpy(np.asarray(values), name)
    if isinstance(dtype, pd.ArrowDtype) and "dictionary" in str(dtype):
        return read(values.__arrow_array__().to_pandas(), name)  # keeps the order
    if kind in "mM" or isinstance(dtype, pd.PeriodDtype) or _is_arrow_date(dtype):
        return times(values, name)
    if kind == "c" or isinstance(dtype, pd.IntervalDtype):
        raise _unusable(name, str(dtype))
    missing = np.asarray(values.isna())
    if kind == "b":
        x = values.to_numpy(dtype=bool, na_value=False)
        return factor_from_logical(x, missing) if missing.any() else x
    if kind in "iu":
        x = values.to_numpy(dtype=np.uint64 if kind == "u" else np.int64, na_value=0)
        return _whole_numbers(x, missing if missing.any() else None, name)
    if kind == "f":
        floats: np.ndarray = values.to_numpy(dtype=np.float64, na_value=np.nan)
        return floats
    return _from_numpy(np.asarray(values.to_numpy(dtype=object, na_value=None)), name)


def _is_arrow_date(dtype: Any) -> bool:
    return isinstance(dtype, pd.ArrowDtype) and str(dtype).startswith("date")


def _from_narwhals(series: nw.Series[Any], name: str) -> Column:
    dtype = series.dtype
    if dtype.is_float():
        if series.null_count():
            series = series.cast(nw.Float64).fill_null(float("nan"))
        return _from_numpy(series.to_numpy(), name)
    if dtype.is_integer() and "128" not in str(dtype):
        missing = series.is_null().to_numpy().astype(bool) if series.null_count() else None
        x = (series if missing is None else series.fill_null(0)).to_numpy()
        return _whole_numbers(x, missing, name)
    if dtype == nw.Boolean:
        missing = series.is_null().to_numpy().astype(bool)
        x = series.fill_null(False).to_numpy().astype(bool)
        return factor_from_logical(x, missing) if missing.any() else x
    if dtype.is_numeric():  # decimals, and whole numbers of 128 bits: through Python's own
        return _from_objects(np.array(series.to_list(), dtype=object), name)
    if dtype in (nw.String, nw.Object):
        return _from_objects(np.asarray(series.to_numpy(), dtype=object), name)
    if dtype in (nw.Date, nw.Duration):
        return times(series.to_numpy(), name)
    if dtype == nw.Datetime:
        zone = getattr(dtype, "time_zone", None)
        stamps = pd.DatetimeIndex(series.to_numpy())
        return times(stamps.tz_localize("UTC").tz_convert(zone) if zone else stamps, name)
    if series.null_count() == len(series):
        return np.full(len(series), np.nan)
    if dtype in (nw.Categorical, nw.Enum):
        return _categorical_from_narwhals(series, name)
    if dtype == nw.Unknown and series.implementation.is_pyarrow():  # such as run-end encoded
        return _from_objects(np.array(series.to_native().to_pylist(), dtype=object), name)
    raise _unusable(name, str(dtype))


def _categorical_from_narwhals(series: nw.Series[Any], name: str) -> Column:
    """Keep the order of an Enum or a dictionary; a polars Categorical has none, so it is sorted."""
    if series.implementation.is_pyarrow():
        return read(series.to_native().to_pandas(), name)  # keeps whether it is ordered
    if not series.implementation.is_polars():
        return read(series.to_pandas(), name)
    text = factor_from_strings(np.asarray(series.cast(nw.String).to_numpy(), dtype=object))
    is_enum = series.dtype == nw.Enum
    levels = tuple(map(str, series.to_native().dtype.categories)) if is_enum else text.levels
    return Factor(text.recode(levels), levels)


def _unusable(name: str, dtype: str) -> DataError:
    return DataError(
        f"column {name!r} has type {dtype}, which is neither numbers, booleans, labels nor "
        "dates; convert it first: to a number, or to a string or category"
    )
