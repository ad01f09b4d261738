"""Results that print themselves: in a terminal, in a notebook, in Markdown and in LaTeX."""

from __future__ import annotations

from collections.abc import Hashable, Iterator, Sequence
from typing import Any, NoReturn

import pandas as pd

from mixef.text.html import stack
from mixef.text.numbers import format_common
from mixef.text.tables import Table, in_place

# Rows of a table, and characters in a row of a frame, that a prompt or a notebook shows; the other
# forms have all.
LONGEST, WIDEST = 40, 100


class Printed:
    """A result that shows as tables, which is all that a subclass has to give."""

    def tables(self) -> Sequence[Table]:
        """Return the tables that are printed, the same for every form."""
        raise NotImplementedError

    def to_text(self) -> str:
        """Write the result as text."""
        return "\n\n".join(table.to_text() for table in self.tables())

    def to_html(self) -> str:
        """Write the result as HTML: a table, or several inside one ``<div>``."""
        return stack([table.to_html() for table in self.tables()])

    def to_markdown(self) -> str:
        """Write the result as Markdown, one pipe table after the other."""
        return "\n\n".join(table.to_markdown() for table in self.tables())

    def to_latex(self) -> str:
        """Write the result as LaTeX tables with the rules of the booktabs package."""
        return "\n\n".join(table.to_latex() for table in self.tables())

    def _shown(self) -> Sequence[Table]:
        """Return the tables as a prompt and a notebook show them: the first rows of long ones."""
        return [table.head(LONGEST) for table in self.tables()]

    def __str__(self) -> str:
        return "\n\n".join(table.to_text() for table in self._shown())

    def __repr__(self) -> str:
        return str(self)

    def _repr_html_(self) -> str:
        return stack([table.to_html() for table in self._shown()])

    def _repr_latex_(self) -> str:
        return in_place(self._shown())


class PrintedTable(Printed):
    """A result that shows as one table.

    Examples
    --------
    >>> class Answer(PrintedTable):
    ...     def to_table(self):
    ...         return Table(("x",), [("42",)], title="The answer")
    >>> Answer()
    The answer
     x
    42
    >>> print(Answer().to_markdown())
    **The answer**
    <BLANKLINE>
    | x |
    | ---: |
    | 42 |
    """

    def to_table(self) -> Table:
        """Return the table that is printed."""
        raise NotImplementedError

    def tables(self) -> Sequence[Table]:
        """Return the table that is printed, alone."""
        return [self.to_table()]


class PrintedFrame(PrintedTable):
    """A result whose numbers are one frame; it is read like that frame, ``result["Chisq"]``.

    Attributes
    ----------
    frame : DataFrame
        The numbers.
    """

    frame: pd.DataFrame

    def to_frame(self) -> pd.DataFrame:
        """Return a copy of the numbers."""
        return self.frame.copy()

    def __getitem__(self, column: Any) -> Any:
        return self.frame[column]

    def __iter__(self) -> Iterator[Any]:
        return iter(self.frame)

    def __len__(self) -> int:
        return len(self.frame)

    @property
    def loc(self) -> Any:
        """Rows and cells by label, as in a DataFrame."""
        return self.frame.loc

    @property
    def iloc(self) -> Any:
        """Rows and cells by position, as in a DataFrame."""
        return self.frame.iloc

    @property
    def index(self) -> pd.Index:
        """Names of the rows."""
        return self.frame.index

    @property
    def columns(self) -> pd.Index:
        """Names of the columns."""
        return self.frame.columns


class PrintedFrames(Printed, dict[str, pd.DataFrame]):
    """Frames by name, which print one below the other.

    Examples
    --------
    >>> PrintedFrames(g=pd.DataFrame({"x": [1.0]})).head()
    Traceback (most recent call last):
    ...
    AttributeError: PrintedFrames is a dict of frames: 'g'; take one before, as by ['g'].head
    """

    def __missing__(self, name: object) -> NoReturn:
        raise KeyError(f"{name!r}; there are {', '.join(map(repr, self))}")

    def __getattr__(self, name: str) -> NoReturn:
        kind = type(self).__name__
        if not self or name.startswith("_") or not hasattr(pd.DataFrame, name):
            raise AttributeError(f"{kind!r} object has no attribute {name!r}")
        raise AttributeError(
            f"{kind} is a dict of frames: {', '.join(map(repr, self))}; take one before, as by "
            f"[{next(iter(self))!r}].{name}"
        )

    def tables(self) -> Sequence[Table]:
        """Return one table a frame, with its name above."""
        return [frame_table(frame, name) for name, frame in self.items()]

    def _shown(self) -> Sequence[Table]:
        """Return the first rows and columns, as many as a prompt and a notebook show."""
        # Frames of a million levels are laid out as far as they are shown.
        tables = [
            frame_table(frame.head(LONGEST), name).head(LONGEST, len(frame))
            for name, frame in self.items()
        ]
        return [table.narrow(WIDEST) for table in tables]


def frame_table(frame: pd.DataFrame, title: str | None = None, digits: int = 5) -> Table:
    """Lay out a frame of numbers and text; the numbers of a column share their decimals.

    Examples
    --------
    >>> print(frame_table(pd.DataFrame({"x": [1.0, 2.25]}, index=["a", "b"]), "g:"))
    g:
         x
    a 1.00
    b 2.25
    """
    columns = [_cells(frame.iloc[:, j], digits) for j in range(frame.shape[1])]
    rows = list(zip(*columns, strict=True)) if columns else [() for _ in range(len(frame))]
    align = "".join("r" if is_number(frame.iloc[:, j]) else "l" for j in range(frame.shape[1]))
    return Table(
        [_name(name) for name in frame.columns], rows, [_name(level) for level in frame.index],
        align, title,
    )  # fmt: skip


def is_number(column: pd.Series) -> bool:
    """Tell whether a column holds numbers, and not flags."""
    return column.dtype.kind in "iuf"


def _cells(column: pd.Series, digits: int) -> list[str]:
    if not is_number(column):
        return ["" if missing else str(x) for x, missing in zip(column, column.isna(), strict=True)]
    return format_common(column.to_numpy(dtype=float), digits)


def _name(label: Hashable) -> str:
    return ", ".join(map(str, label)) if isinstance(label, tuple) else str(label)
