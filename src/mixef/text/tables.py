"""One table, written as text, HTML, Markdown or LaTeX."""

from __future__ import annotations

import html
import re
from collections.abc import Sequence
from dataclasses import dataclass, replace
from itertools import accumulate

ALIGNMENTS = frozenset("lrn")
_NEGATIVE = re.compile(r"^-(?=[\d.])")
_LATEX = {
    "\\": r"\textbackslash{}",
    "~": r"\textasciitilde{}",
    "^": r"\textasciicircum{}",
    "<": r"\textless{}",
    ">": r"\textgreater{}",
    "|": r"\textbar{}",
    **{char: "\\" + char for char in "&%$#_{}"},
}
_MARKDOWN = {char: "\\" + char for char in "\\|*_`<>[]~$"}


@dataclass(frozen=True, repr=False)
class Table:
    """A table of text: what every printed result of mixef is made of, see `Printed`.

    Parameters
    ----------
    columns : sequence of str
        Headings, which need not be distinct.
    rows : sequence of sequences of str
        Cells; each row as long as `columns`.
    index : sequence of str, optional
        A label for each row.
    align : str, optional
        A letter for each column: ``l`` left, ``r`` right, ``n`` a number that has been padded
        already (left in text, as R prints its matrices of text, and right elsewhere). Right for
        all by default.
    title, legend, note : str, optional
        Lines above, what the signs in the cells mean, and lines below.

    Raises
    ------
    ValueError
        A row, the index or `align` does not have the length that `columns` and `rows` ask for.

    Examples
    --------
    >>> print(Table(("Estimate", "t value"), [("251.405", "36.838")], index=("(Intercept)",)))
                Estimate t value
    (Intercept)  251.405  36.838
    """

    columns: Sequence[str]
    rows: Sequence[Sequence[str]]
    index: Sequence[str] | None = None
    align: str | None = None
    title: str | None = None
    note: str | None = None
    legend: str | None = None

    def __post_init__(self) -> None:
        k = len(self.columns)
        for i, row in enumerate(self.rows):
            if len(row) != k:
                raise ValueError(f"row {i} has {len(row)} cells; give it {k}, one for each column")
        if self.index is not None and len(self.index) != len(self.rows):
            raise ValueError(
                f"index has {len(self.index)} labels for {len(self.rows)} rows; give one for each"
            )
        if self.align is not None and (len(self.align) != k or set(self.align) - ALIGNMENTS):
            raise ValueError(
                f"align is {self.align!r}; give {k} letters, one for each column, "
                "of 'l', 'r' and 'n'"
            )

    def to_text(self) -> str:
        """Lay the table out in columns of equal-width characters, without trailing spaces."""
        align = self.align or "r" * len(self.columns)
        index = [] if self.index is None else [_column("", self.index, "l")]
        body = [
            _column(name, [row[j] for row in self.rows], align[j])
            for j, name in enumerate(self.columns)
        ]
        lines = [" ".join(cells).rstrip() for cells in zip(*index, *body, strict=True)]
        legend = [] if self.legend is None else ["---", self.legend]
        return "\n".join([*_some(self.title), *lines, *legend, *_some(self.note)])

    def head(self, longest: int) -> Table:
        """Return the first rows, with a line on how many there are more."""
        more = len(self.rows) - longest
        if more <= 0:
            return self
        index = None if self.index is None else self.index[:longest]
        note = "\n".join([f"... {more} more rows", *_some(self.note)])
        return replace(self, rows=self.rows[:longest], index=index, note=note)

    def narrow(self, widest: int) -> Table:
        """Return the first columns, at least one, with a line on how many there are more."""
        index = max(map(len, self.index or [""])) + 1
        widths = [
            max(map(len, (name, *(row[j] for row in self.rows)))) + 1
            for j, name in enumerate(self.columns)
        ]
        fit = max(1, sum(total <= widest for total in accumulate(widths, initial=index)) - 1)
        more = len(self.columns) - fit
        if more <= 0:
            return self
        note = "\n".join([*_some(self.note), f"... {more} more columns"])
        align = None if self.align is None else self.align[:fit]
        rows = [row[:fit] for row in self.rows]
        return replace(self, columns=self.columns[:fit], rows=rows, align=align, note=note)

    def to_html(self) -> str:
        """Write the table as one HTML element ``<table>``, with every cell escaped."""
        sides = [" style='text-align: right'" if a == "r" else _HTML_LEFT for a in self._sides()]
        head = [f"<th{s}>{_html(c)}</th>" for s, c in zip(sides, self._head(), strict=True)]
        tags = ["td"] * len(sides) if self.index is None else ["th", *["td"] * (len(sides) - 1)]
        body = [
            "".join(f"<{t}{s}>{_html(c)}</{t}>" for t, s, c in zip(tags, sides, row, strict=True))
            for row in self._body()
        ]
        title = "<br>".join(_html(line) for line in self._above())
        caption = [f"<caption>{title}</caption>"] if title else []
        foot = [
            f"<tfoot><tr><td colspan='{len(sides)}'>{_html(line)}</td></tr></tfoot>"
            for line in self._below()
        ]
        rows = [f"<tr>{row}</tr>" for row in body]
        return "\n".join(
            [
                "<table class='mixef'>",
                *caption,
                f"<thead><tr>{''.join(head)}</tr></thead>",
                "<tbody>",
                *rows,
                "</tbody>",
                *foot,
                "</table>",
            ]
        )

    def to_markdown(self) -> str:
        """Write the table as a pipe table, the title in bold above and the notes below."""
        rule = ["---:" if side == "r" else ":---" for side in self._sides()]
        rows = [[_escape(c, _MARKDOWN) for c in row] for row in (self._head(), *self._body())]
        lines = [f"| {' | '.join(row)} |" for row in (rows[0], rule, *rows[1:])]
        first, *more = self._above() or [""]
        title = [f"**{_escape(first, _MARKDOWN)}**\n"] if first else []
        title += [f"{_escape(line, _MARKDOWN)}\n" for line in more]
        note = [f"\n{_escape(line, _MARKDOWN)}" for line in self._below()]
        return "\n".join([*title, *lines, *note])

    def to_latex(self) -> str:
        r"""Write the table as a LaTeX ``tabular`` with the rules of the booktabs package.

        Returns
        -------
        str
            A ``tabular``; inside a ``table`` with a ``\caption`` where there is a title.
        """
        head, *body = [[_latex(c) for c in row] for row in (self._head(), *self._body())]
        sides = "".join(self._sides())
        lines = [f"{' & '.join(row)} \\\\" for row in body]
        tabular = [
            f"\\begin{{tabular}}{{{sides}}}",
            "\\toprule",
            f"{' & '.join(head)} \\\\",
            "\\midrule",
            *lines,
            "\\bottomrule",
            *(f"\\multicolumn{{{len(sides)}}}{{l}}{{{_latex(n)}}} \\\\" for n in self._below()),
            "\\end{tabular}",
        ]
        if not self._above():
            return "\n".join(tabular)
        caption = f"\\caption{{{'; '.join(_latex(line) for line in self._above())}}}"
        return "\n".join(["\\begin{table}", "\\centering", caption, *tabular, "\\end{table}"])

    def __str__(self) -> str:
        return self.to_text()

    def __repr__(self) -> str:
        return self.to_text()

    def _repr_html_(self) -> str:
        return self.to_html()

    def _above(self) -> list[str]:
        """Lines of the title that say something."""
        return [line for line in (self.title or "").split("\n") if line.strip()]

    def _below(self) -> list[str]:
        """Lines below the cells that say something."""
        lines = "\n".join([*_some(self.legend), *_some(self.note)]).split("\n")
        return [line for line in lines if line.strip()]

    def _sides(self) -> list[str]:
        """Alignments of all columns, the index included, with numbers to the right."""
        align = (self.align or "r" * len(self.columns)).replace("n", "r")
        return list(align if self.index is None else "l" + align)

    def _head(self) -> list[str]:
        return [*self.columns] if self.index is None else ["", *self.columns]

    def _body(self) -> list[list[str]]:
        if self.index is None:
            return [[*row] for row in self.rows]
        return [[label, *row] for label, row in zip(self.index, self.rows, strict=True)]


_HTML_LEFT = " style='text-align: left'"


def _some(line: str | None) -> list[str]:
    return [] if line is None else [line]


def _column(name: str, cells: Sequence[str], align: str) -> list[str]:
    width = max(map(len, (name, *cells)))
    return [text.rjust(width) if align == "r" else text.ljust(width) for text in (name, *cells)]


def _escape(text: str, escapes: dict[str, str]) -> str:
    return "".join(escapes.get(char, char) for char in text.strip())


def _html(text: str) -> str:
    return html.escape(text.strip())


def _latex(text: str) -> str:
    # A hyphen in text mode is too short for a minus sign.
    return _NEGATIVE.sub("$-$", _escape(text, _LATEX))
