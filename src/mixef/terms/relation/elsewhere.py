"""What stands where a model in memory has one value a row, and its rows are elsewhere."""

from __future__ import annotations

import sys
from typing import Any, NoReturn

import numpy as np

from mixef.errors import RowsElsewhereError


class Elsewhere:
    """Values of rows that an engine holds: their shape is known, and nothing else.

    Parameters
    ----------
    what : str
        What the values are, as a message calls them.
    shape : tuple of int
    engine : str
        What holds the rows.
    lost : bool
        Whether they stayed behind in another process.

    Examples
    --------
    >>> y = Elsewhere("the response", (1_000_000,), "DuckDB")
    >>> len(y), y.shape
    (1000000, (1000000,))
    >>> y + 1
    Traceback (most recent call last):
    ...
    mixef.errors.RowsElsewhereError: this needs the response in memory, but its 1,000,000 rows \
are in DuckDB: collect the table, or a sample of its rows, and fit the model to that
    """

    dtype = np.dtype(np.float64)

    def __init__(self, what: str, shape: tuple[int, ...], engine: str, lost: bool = False) -> None:
        self.what, self.shape, self.engine, self.lost = what, shape, engine, lost

    @property
    def ndim(self) -> int:
        """The number of axes."""
        return len(self.shape)

    def __len__(self) -> int:
        return self.shape[0]

    def __repr__(self) -> str:
        return f"<{self.what}: {self.shape[0]:,} rows in {self.engine}>"

    def __getattr__(self, name: str) -> NoReturn:
        if name.startswith("__"):  # asked by copying, pickling and others, which go on without
            raise AttributeError(name)
        self._refuse()

    def _refuse(self, *args: Any, **kwargs: Any) -> NoReturn:
        if self.lost:
            raise RowsElsewhereError(
                f"{_called()} needs the rows of the table in {self.engine}, which the fit left "
                "behind: it comes from a pickle, and only files that are where they were are found "
                "again; fit the model to the table again, as by update(data=...)"
            )
        raise RowsElsewhereError(
            f"{_called()} needs {self.what} in memory, but its {self.shape[0]:,} rows are in "
            f"{self.engine}: collect the table, or a sample of its rows, and fit the model to that"
        )

    __array__ = __array_ufunc__ = __array_function__ = __getitem__ = __iter__ = _refuse
    __add__ = __radd__ = __sub__ = __rsub__ = __mul__ = __rmul__ = _refuse
    __truediv__ = __rtruediv__ = __matmul__ = __rmatmul__ = __pow__ = __rpow__ = _refuse
    __eq__ = __ne__ = _refuse
    __hash__ = object.__hash__
    __lt__ = __le__ = __gt__ = __ge__ = __neg__ = __abs__ = __float__ = _refuse


#: Of a picture by the name of no function.
_NAMED = {"__call__": "plot"}


def _called() -> str:
    """Return the function of the package that was called from outside of it, as code has it.

    Whatever a user calls comes to its rows through many others: it is the outermost one.
    """
    package, name = __name__.split(".")[0], "this"
    frame = sys._getframe(1)
    while frame is not None:
        code = frame.f_code
        inside = frame.f_globals.get("__name__", "").split(".")[0] == package
        if inside and (code.co_name in _NAMED or not code.co_name.startswith(("<", "_"))):
            name = f"{_NAMED.get(code.co_name, code.co_name)}()"
        frame = frame.f_back  # type: ignore[assignment]
    return name
