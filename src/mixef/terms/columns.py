"""Read single columns of any data frame as numbers or factors, without touching the rest."""

from __future__ import annotations

from collections.abc import Mapping
from difflib import get_close_matches
from functools import cached_property
from typing import Any

import narwhals.stable.v1 as nw
import numpy as np
import pandas as pd

from mixef.errors import DataError
from mixef.terms.factor import (
    Factor,
    factor_from_categories,
    factor_from_logical,
    factor_from_strings,
)

Column = np.ndarray | Factor


class Columns:
    """The columns of a data frame, converted one at a time when asked for.

    Parameters
    ----------
    data : DataFrame or mapping
        A pandas, polars, pyarrow or other frame that narwhals reads, or a mapping from names
        to sequences of one length. It is not modified.

    Raises
    ------
    DataError
        For something else, or for a mapping of unequal lengths.

    Examples
    --------
    >>> columns = Columns({"x": [1, 2], "g": ["b", "a"]})
    >>> columns["x"], columns["g"].levels
    (array([1, 2]), ('a', 'b'))
    """

    def __init__(self, data: Any) -> None:
        self._cache: dict[str, Column] = {}
        self.index: pd.Index | None = None
        if isinstance(data, pd.DataFrame):
            self._source: Any = data
            self.index = data.index
            self.n = len(data.index)
        elif isinstance(data, Mapping):
            self._source = data
            self.n = _common_length(data)
        else:
            self._source = _narwhals_frame(data)
            self.n = len(self._source)

    @cached_property
    def names(self) -> tuple[str, ...]:
        """Column names that a formula can use."""
        if isinstance(self._source, Mapping):
            return tuple(self._source)
        return tuple(c for c in self._source.columns if isinstance(c, str))

    def __contains__(self, name: str) -> bool:
        if name in self._cache:
            return True
        if isinstance(self._source, nw.DataFrame):
            return name in self.names
        return name in self._source

    def __getitem__(self, name: str) -> Column:
        """Return a column as an array (n,) of numbers or booleans, or as a Factor."""
        column = self._cache.get(name)
        if column is None:
            column = self._cache[name] = self._read(name)
        return column

    def _read(self, name: str) -> Column:
        if name not in self:
            raise DataError(f"the data have no column {name!r}{suggestion(name, self.names)}")
        values = self._source[name]
        if isinstance(values, nw.Series):
            return _from_narwhals(values, name)
        return convert(values, name)


def suggestion(name: str, known: tuple[str, ...]) -> str:
    """End of a message: a close match and the known names."""
    close = get_close_matches(name, known, n=1)
    guess = f"; did you mean {close[0]!r}?" if close else ""
    listed = ", ".join(map(repr, known[:30])) + (", ..." if len(known) > 30 else "")
    return f"{guess}; the columns are {listed}" if known else f"{guess}; there are no columns"


def _common_length(data: Mapping[str, Any]) -> int:
    lengths = {name: np.shape(values)[0] for name, values in data.items() if np.ndim(values) > 0}
    if not lengths:
        raise DataError("the data are a mapping without a single array; expected named columns")
    if len(set(lengths.values())) > 1:
        raise DataError(f"the columns of the data differ in length: {lengths}")
    return next(iter(lengths.values()))


def _narwhals_frame(data: Any) -> nw.DataFrame[Any]:
    try:
        return nw.from_native(data, eager_only=True)
    except TypeError:
        raise DataError(
            f"cannot read data of type {type(data).__name__}; expected a pandas, polars or "
            "pyarrow frame, or a mapping from names to arrays (collect a lazy frame first)"
        ) from None


def convert(values: Any, name: str) -> Column:
    """Turn one column into an array of numbers or booleans, or a Factor.

    Parameters
    ----------
    values : Series, array or sequence, length n
    name : str
        For messages.

    Returns
    -------
    ndarray (n,) or (n, k), or Factor
        Missing numbers are NaN, missing levels have code -1.

    Raises
    ------
    DataError
        For dates, complex numbers and other values that are neither numbers nor labels.
    """
    if isinstance(values, Factor):
        return values
    if isinstance(values, pd.Series | pd.Index):
        values = values.array
    if isinstance(values, pd.DataFrame):
        raise DataError(f"the data have more than one column named {name!r}; rename one")
    if isinstance(values, pd.arrays.NumpyExtensionArray):
        values = values.to_numpy()
    if isinstance(values, pd.api.extensions.ExtensionArray):
        return _from_extension(values, name)
    return _from_numpy(np.asarray(values), name)


def _from_numpy(x: np.ndarray, name: str) -> Column:
    kind = x.dtype.kind
    if kind == "f":
        return x if x.dtype == np.float64 else x.astype(np.float64)
    if kind in "iub":
        return x
    if kind in "UT":
        return factor_from_strings(x.astype(object))
    if kind == "O":
        return _from_objects(x, name)
    raise _unusable(name, str(x.dtype))


def _from_objects(x: np.ndarray, name: str) -> Column:
    inferred = pd.api.types.infer_dtype(x, skipna=True)
    if inferred in ("string", "empty"):
        return factor_from_strings(x)
    if inferred == "boolean":
        missing = pd.isna(x)
        return factor_from_logical(np.where(missing, False, x).astype(bool), missing)
    if inferred in ("integer", "floating", "mixed-integer-float", "decimal"):
        return np.where(pd.isna(x), np.nan, x).astype(np.float64)
    raise _unusable(name, f"object ({inferred})")


def _from_extension(values: Any, name: str) -> Column:
    if isinstance(values, pd.Categorical):
        return factor_from_categories(values.codes, values.categories, bool(values.ordered))
    dtype = values.dtype
    kind = getattr(dtype, "kind", "O")
    if isinstance(dtype, pd.ArrowDtype) and "dictionary" in str(dtype):
        return convert(values.__arrow_array__().to_pandas(), name)  # keeps the order
    if kind in "mMc" or isinstance(dtype, pd.DatetimeTZDtype | pd.PeriodDtype | pd.IntervalDtype):
        raise _unusable(name, str(dtype))
    if kind == "b":
        missing = np.asarray(values.isna())
        x = values.to_numpy(dtype=bool, na_value=False)
        return factor_from_logical(x, missing) if missing.any() else x
    if kind in "iu" and not np.asarray(values.isna()).any():
        return values.to_numpy(dtype=np.int64)
    if kind in "iuf":
        return values.to_numpy(dtype=np.float64, na_value=np.nan)
    if isinstance(dtype, pd.StringDtype):
        return factor_from_strings(values)
    return _from_numpy(np.asarray(values.to_numpy(dtype=object, na_value=None)), name)


def _from_narwhals(series: nw.Series[Any], name: str) -> Column:
    dtype = series.dtype
    if dtype.is_numeric() and series.null_count() == 0:
        return _from_numpy(series.to_numpy(), name)
    if dtype.is_numeric():
        return series.cast(nw.Float64).fill_null(float("nan")).to_numpy().astype(np.float64)
    if dtype == nw.Boolean:
        missing = series.is_null().to_numpy().astype(bool)
        x = series.fill_null(False).to_numpy().astype(bool)
        return factor_from_logical(x, missing) if missing.any() else x
    if dtype in (nw.String, nw.Object):
        return _from_objects(np.asarray(series.to_numpy(), dtype=object), name)
    if dtype in (nw.Categorical, nw.Enum):
        return _categorical_from_narwhals(series, name)
    raise _unusable(name, str(dtype))


def _categorical_from_narwhals(series: nw.Series[Any], name: str) -> Column:
    """Keep the order of an Enum or a dictionary; a polars Categorical has none, so it is sorted."""
    if series.implementation.is_pyarrow():
        return convert(series.to_native().to_pandas(), name)  # keeps whether it is ordered
    if not series.implementation.is_polars():
        return convert(series.to_pandas(), name)
    text = factor_from_strings(np.asarray(series.cast(nw.String).to_numpy(), dtype=object))
    is_enum = series.dtype == nw.Enum
    levels = tuple(map(str, series.to_native().dtype.categories)) if is_enum else text.levels
    return Factor(text.recode(levels), levels)


def _unusable(name: str, dtype: str) -> DataError:
    return DataError(
        f"column {name!r} has type {dtype}, which is neither numbers, booleans nor labels; "
        "convert it first: to a number (days since a start, say) or to a string or category"
    )
