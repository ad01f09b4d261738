"""Single columns of any data frame, read when they are asked for."""

from __future__ import annotations

from collections.abc import Collection, Container, Mapping
from difflib import get_close_matches
from functools import cached_property
from typing import Any

import numpy as np
import pandas as pd

from mixef.checks import shown
from mixef.errors import DataError
from mixef.terms.convert import Column, read
from mixef.terms.factor import Factor
from mixef.terms.sources import frame_of, is_of_narwhals, series_of


def in_rows(value: Any, what: str, index: pd.Index | None, n: int) -> Any:
    """Return a Series or frame in the order of rows, by its labels; all else as it is.

    What has labels goes by them, and has to have one for each of the rows; what has none goes by
    position.

    Parameters
    ----------
    index : Index (n,) or None
        Labels of the rows; None for data without labels, whose rows are numbered from 0.

    Raises
    ------
    DataError
        If rows have no value, or labels occur more than once.
    """
    if not isinstance(value, pd.Series | pd.DataFrame):
        return value
    if index is None:
        if value.index.dtype.kind not in "iu" or len(value) != n:
            return value
        index = pd.RangeIndex(n)
    if value.index.equals(index):
        return value
    kind = "Series" if isinstance(value, pd.Series) else "frame"
    remedy = f"a {kind} goes by its labels; give {what} as an array, .to_numpy(), to go by position"
    if not (value.index.is_unique and index.is_unique):
        raise DataError(
            f"{what} cannot be put in the order of the rows, since labels of its index, or of the "
            f"rows, occur more than once: {remedy}"
        )
    places = value.index.get_indexer(index)
    if (places < 0).any():
        absent = index[places < 0]
        raise DataError(
            f"{what} has no value for {len(absent)} of {len(index)} rows, such as the one that is "
            f"labelled {absent[:1].tolist()[0]!r}: {remedy}"
        )
    return value.iloc[places]


def labels_in(columns: Mapping[str, Any]) -> pd.Index | None:
    """Return the labels of the first Series among some columns; None without any."""
    return next((v.index for v in columns.values() if isinstance(v, pd.Series)), None)


class Columns:
    """The columns of a data frame, converted one at a time when asked for.

    Parameters
    ----------
    data : DataFrame or mapping
        A pandas, polars, pyarrow or other frame that narwhals reads, lazy ones too; what has
        ``__arrow_c_stream__``; or a mapping from names to sequences of one length, or to one
        value for all rows. It is not modified.
    needed : collection of str, optional
        What will be asked for: a lazy frame is collected once, with these columns alone.

    Raises
    ------
    DataError
        For something else, or for a mapping of unequal lengths.

    Examples
    --------
    >>> columns = Columns({"x": [1.5, 2], "g": ["b", "a"]})
    >>> columns["x"], columns["g"].levels
    (array([1.5, 2. ]), ('a', 'b'))
    """

    #: What holds all rows, of which these are some; None for data in memory.
    engine: str | None = None

    def __init__(self, data: Any, needed: Collection[str] | None = None) -> None:
        self._cache: dict[str, Column] = {}
        self.index: pd.Index | None = None
        self.labels: pd.Index | None = None
        if isinstance(data, pd.DataFrame):
            self._source: Any = data
            # Of several levels of names a formula cannot choose.
            self._known: Container[str] = data.columns if data.columns.nlevels == 1 else ()
            self.index = self.labels = data.index
            self.n = len(data.index)
        elif isinstance(data, Mapping):
            self._source = self._known = data
            self.n, self.labels = _common_length(data), labels_in(data)
        else:
            self._source = frame_of(data, needed)
            self._known = self.names
            self.n = len(self._source)

    @classmethod
    def in_batches(
        cls, columns: Mapping[str, Column], n: int, names: tuple[str, ...], engine: str
    ) -> Columns:
        """Return some rows of a table that an engine holds, read already.

        Parameters
        ----------
        names : tuple of str
            The columns of the table: what was not read is among them.
        """
        made = cls.__new__(cls)
        made._cache, made.n = dict(columns), n
        made._source = made._known = columns
        made.index = made.labels = None
        made.names, made.engine = names, engine
        return made

    @cached_property
    def names(self) -> tuple[str, ...]:
        """Column names that a formula can use."""
        if isinstance(self._source, Mapping):
            return tuple(self._source)
        return tuple(c for c in self._source.columns if isinstance(c, str))

    @property
    def data(self) -> Any:
        """The data; of a lazy frame or a stream, what was read."""
        return self._source.to_native() if is_of_narwhals(self._source) else self._source

    def __contains__(self, name: object) -> bool:
        return name in self._cache or name in self._known

    def __getitem__(self, name: str) -> Column:
        """Return a column: numbers or booleans (n,), a Factor, Integers or Times."""
        column = self._cache.get(name)
        if column is None:
            column = self._cache[name] = read(self.raw(name), name)
        return column

    def raw(self, name: str) -> Any:
        """Return a column as the data hold it."""
        if name not in self:
            raise DataError(f"the data have no column {name!r}{self.suggestion(name)}")
        if self.index is not None:
            return _of_pandas(self._source, name)
        values = self._source[name]
        if isinstance(self._source, Mapping):
            values = _in_each_row(values, name, self.n)
        return in_rows(values, f"the column {name!r}", self.labels, self.n)

    def own(self, name: str, rows: np.ndarray) -> Any:
        """Return what the data hold in some rows of a column, as pandas keeps it."""
        values = series_of(self.raw(name))
        if is_of_narwhals(values) or not hasattr(values, "dtype"):
            column = self[name]
            values = column if isinstance(column, np.ndarray) else column.own()
        elif isinstance(values, pd.Series | pd.Index):
            values = values.array
        return values.take(rows)

    def suggestion(self, name: str) -> str:
        """End of a message on a name that is no column: what may have been meant."""
        source = self._source
        if not isinstance(source, pd.DataFrame):
            return suggestion(name, self.names)
        if source.columns.nlevels > 1:
            return (
                f"; the columns have {source.columns.nlevels} levels of names, such as "
                f"{source.columns[0]!r}, of which a formula cannot choose: join them before, with "
                "df.columns = ['_'.join(map(str, names)) for names in df.columns]"
            )
        if name in source.index.names:
            return (
                f"; {name!r} is in the index of the data, where a formula does not look: use "
                "data.reset_index()"
            )
        other = [c for c in source.columns if not isinstance(c, str)]
        if name in map(str, other):
            kind = type(other[0]).__name__
            return (
                f"; the data have columns whose names are not text but of type {kind}: rename "
                f"them with df.columns = df.columns.map(str), and write `{name}` in backticks"
            )
        return suggestion(name, self.names)


def suggestion(name: str, known: tuple[str, ...]) -> str:
    """End of a message: a close match and the known names."""
    close = get_close_matches(name, known, n=1)
    guess = f"; did you mean {close[0]!r}?" if close else ""
    listed = ", ".join(map(repr, known[:30])) + (", ..." if len(known) > 30 else "")
    return f"{guess}; the columns are {listed}" if known else f"{guess}; there are no columns"


def _of_pandas(frame: pd.DataFrame, name: str) -> Any:
    """Return a column's array; making a Series of it takes pandas a hundred times as long."""
    place = frame.columns.get_loc(name)
    direct = getattr(frame, "_get_column_array", None)
    return direct(place) if direct is not None and isinstance(place, int) else frame[name]


def _common_length(data: Mapping[str, Any]) -> int:
    lengths = {name: n for name, values in data.items() if (n := _rows_of(values)) is not None}
    if not lengths:
        remedy = "; for one row, give lists of one" if data else ""
        raise DataError(
            f"the data are a mapping without a single array; expected named columns{remedy}"
        )
    if len(set(lengths.values())) > 1:
        raise DataError(f"the columns of the data differ in length: {lengths}")
    length: int = next(iter(lengths.values()))
    return length


def _rows_of(values: Any) -> int | None:
    """Return the number of rows that values of a mapping have; None for what has no rows."""
    if isinstance(values, str | bytes | type):
        return None
    if isinstance(values, Factor):
        return len(values)
    try:
        shape = np.shape(values)
    except Exception:  # rows of several lengths, or anything of a user's own
        return None
    return shape[0] if isinstance(shape, tuple) and shape else None


def _in_each_row(values: Any, name: str, n: int) -> Any:
    """Return values of a mapping with n rows: one number, text or time stands for all of them."""
    if _rows_of(values) is not None:
        return values
    value = values[()] if isinstance(values, np.ndarray) else values
    if not pd.api.types.is_scalar(value):
        raise DataError(
            f"the column {name!r} is {shown(values)}; expected one value a row ({n}), or one for "
            "all rows"
        )
    return pd.Series([value]).array.repeat(n)
