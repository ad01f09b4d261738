"""What a fit says of its rows where an engine holds them: the table, with new columns.

Nothing is computed before the result is read, and the rows are read anew whenever it is.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd

from mixef.estimation.fit import Fit
from mixef.late import LateModule
from mixef.terms.frame import ModelFrame
from mixef.terms.needed import needed_names
from mixef.terms.relation.derived import Derived, OfBatch
from mixef.terms.relation.relation import Relation
from mixef.terms.relation.text import TableColumns

if TYPE_CHECKING:
    import pyarrow as pa
else:
    pa = LateModule("pyarrow")

#: From a fit of some rows to a Series or frame of values of these.
ByRow = Callable[[Fit], "pd.Series | pd.DataFrame"]
#: What columns are called beside those of a table, after broom.
NAMES = {
    "fitted": ".fitted", "predicted": ".fitted", "fit": ".fitted", "residuals": ".resid",
    "hatvalues": ".hat", "cooks_distance": ".cooksd",
}  # fmt: skip


def by_row(fit: Fit, values: ByRow, names: Sequence[str], joint: bool = False) -> Any:
    """Return values of the rows: a Series or frame, or a lazy table where an engine has the rows.

    Parameters
    ----------
    values : callable
        It pickles.
    names : sequence of str
        Of the Series, or of the columns, that it returns: those that a lazy table has, with the
        names of broom.
    joint : bool
        Whether values go by cross-products of all rows, of which linear models have enough.

    Returns
    -------
    Series, DataFrame, or a lazy object of the engine
        The latter has all columns of the table too, which tell its rows. Rows that the fit left
        out are missing there, or have missing values for ``na_action="exclude"``.
    """
    if fit.frame.in_memory or (joint and not fit.is_linear):
        return values(fit)
    return table_with(fit, values, names, joint).native()


def in_order(fit: Fit, begin: Callable[[int | None], ByRow], names: Sequence[str]) -> Any:
    """Return the table of a fit, with new columns that go by the order of its rows.

    Parameters
    ----------
    begin : callable
        Returns the values of one reading of the rows, which it is asked for batch after batch; of
        a part of them, by its number, where workers share them. It pickles.
    """
    return _table(fit, partial(_InOrder, begin_values=begin), begin(None), names).native()


def table_with(fit: Fit, values: ByRow, names: Sequence[str], joint: bool = False) -> Derived:
    """Return the table that a fit is of, with new columns; see `by_row`."""
    if joint:
        fit.problem  # noqa: B018 (which takes scans of its own: not while the rows are read)
    return _table(fit, _WithValues, values, names)


def _table(fit: Fit, make: Callable[..., OfBatch], values: ByRow, names: Sequence[str]) -> Derived:
    found = {name: NAMES.get(name, f".{name.lstrip('.')}") for name in names}
    frame: Any = fit.frame  # which knows its table
    table = frame.table(fit.call.data)
    return Derived(table, tuple(found.values()), make(fit, values, found))


def predicted(
    fit: Fit, relation: Relation, values: Callable[..., Any], names: Sequence[str]
) -> Any:
    """Return a table of new data, with what is predicted for its rows.

    Parameters
    ----------
    values : callable
        From new data to a Series or frame.
    """
    fit.problem  # noqa: B018
    needed = needed_names(fit.formula, fit.call.weights, fit.call.offset)
    read = relation.names if needed is None else tuple(n for n in relation.names if n in needed)
    columns = TableColumns(relation.select(read), relation.names, {}, set())
    found = {name: NAMES.get(name, f".{name}") for name in names}
    made = _Predicted(columns, read, values, found)
    return Derived(relation, tuple(found.values()), made).native()


@dataclass(frozen=True, eq=False)
class _Predicted(OfBatch):
    """Adds predictions to rows of new data."""

    columns: TableColumns
    read: tuple[str, ...]
    values: Callable[..., Any]
    names: dict[str, str]

    def __call__(self, batch: pa.RecordBatch) -> pa.RecordBatch:
        made = self.values(newdata=self.columns.of(batch.select(self.read)))
        return _with_columns(batch, made, self.names)


@dataclass(frozen=True, eq=False)
class _WithValues(OfBatch):
    """Adds values to rows of a table; it pickles, without the table."""

    fit: Fit
    values: ByRow
    names: dict[str, str]  # what the values call a column, and what the table will

    def __call__(self, batch: pa.RecordBatch) -> pa.RecordBatch:
        whole: Any = self.fit.frame
        frame = whole.of_batch(batch)
        rows = _taken(batch, frame)
        if not frame.n:  # nothing is said of rows that are left out
            missing = pd.DataFrame(np.nan, range(rows.num_rows), list(self.names))
            return _with_columns(rows, missing, self.names)
        return _with_columns(rows, self.values(self.fit.on_batch(frame)), self.names)


@dataclass(frozen=True, eq=False)
class _InOrder(_WithValues):
    """Adds values that go by the order of the rows."""

    begin_values: Callable[[int | None], ByRow]

    def begin(self, part: int | None = None) -> OfBatch:
        """Return what adds the values of one reading."""
        return _WithValues(self.fit, self.begin_values(part), self.names)


def _with_columns(rows: pa.RecordBatch, made: Any, names: dict[str, str]) -> pa.RecordBatch:
    """Return rows with columns of a Series or frame, by the names that they get; NaN is missing."""
    columns = {made.name: made} if isinstance(made, pd.Series) else dict(made.items())
    kept = [name for name in rows.schema.names if name not in names.values()]
    arrays = [rows.column(name) for name in kept]
    for name in names:
        arrays.append(pa.array(np.asarray(columns[name], dtype=float), from_pandas=True))
    return pa.RecordBatch.from_arrays(arrays, names=[*kept, *names.values()])


def _taken(batch: pa.RecordBatch, frame: ModelFrame) -> pa.RecordBatch:
    """Return the rows that results have."""
    if len(frame.padded_rows) == batch.num_rows:
        return batch
    return batch.take(pa.array(frame.padded_rows))
