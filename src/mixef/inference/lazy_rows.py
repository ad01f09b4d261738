"""What a fit says of its rows where an engine holds them: the table, with new columns.

Nothing is computed before the result is read, and the rows are read anew whenever it is.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd

from mixef.estimation.fit import Fit
from mixef.late import LateModule
from mixef.terms.frame import ModelFrame
from mixef.terms.relation.derived import Derived

if TYPE_CHECKING:
    import pyarrow as pa
else:
    pa = LateModule("pyarrow")

#: From a fit of some rows to a Series or frame of values of these.
ByRow = Callable[[Fit], "pd.Series | pd.DataFrame"]
#: What columns are called beside those of a table, after broom.
NAMES = {"fitted": ".fitted", "predicted": ".fitted", "fit": ".fitted", "residuals": ".resid"}


def by_row(fit: Fit, values: ByRow, names: Sequence[str]) -> Any:
    """Return values of the rows: a Series or frame, or a lazy table where an engine has the rows.

    Parameters
    ----------
    values : callable
        It pickles.
    names : sequence of str
        Of the Series, or of the columns, that it returns: those that a lazy table has, with the
        names of broom.

    Returns
    -------
    Series, DataFrame, or a lazy object of the engine
        The latter has all columns of the table too, which tell its rows. Rows that the fit left
        out are missing there, or have missing values for ``na_action="exclude"``.
    """
    if fit.frame.in_memory:
        return values(fit)
    return table_with(fit, values, names).native()


def table_with(fit: Fit, values: ByRow, names: Sequence[str]) -> Derived:
    """Return the table that a fit is of, with new columns."""
    found = {name: NAMES.get(name, f".{name.lstrip('.')}") for name in names}
    return Derived(
        fit.frame.table(fit.call.data), tuple(found.values()), _WithValues(fit, values, found)
    )


@dataclass(frozen=True, eq=False)
class _WithValues:
    """Adds values to rows of a table; it pickles, without the table."""

    fit: Fit
    values: ByRow
    names: dict[str, str]  # what the values call a column, and what the table will

    def __call__(self, batch: pa.RecordBatch) -> pa.RecordBatch:
        frame = self.fit.frame.of_batch(batch)
        made = self.values(self.fit.on_batch(frame))
        columns = {made.name: made} if isinstance(made, pd.Series) else dict(made.items())
        rows = _taken(batch, frame)
        kept = [name for name in rows.schema.names if name not in self.names.values()]
        arrays = [rows.column(name) for name in kept]
        for name in self.names:
            values = np.asarray(columns[name], dtype=float)
            arrays.append(pa.array(values, from_pandas=True))
        return pa.RecordBatch.from_arrays(arrays, names=[*kept, *self.names.values()])


def _taken(batch: pa.RecordBatch, frame: ModelFrame) -> pa.RecordBatch:
    """Return the rows that results have."""
    if len(frame.padded_rows) == batch.num_rows:
        return batch
    return batch.take(pa.array(frame.padded_rows))
