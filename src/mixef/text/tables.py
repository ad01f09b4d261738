"""One table, written as text, HTML, Markdown or LaTeX."""

from __future__ import annotations

import html
import re
import textwrap
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import accumulate, groupby

from mixef.text.latex import latex_text

ALIGNMENTS = frozenset("lrn")
# Lines below a table in LaTeX are not broken into less than this.
LEAST_WIDTH = 60
# A minus sign: at the start, or after a bracket, a space, a sign of equality or a comma.
_NEGATIVE = re.compile(r"(?<![^\[\s(=,])-(?=[\d.])")
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
    above : sequence of str, optional
        A second heading for each column; neighbours that have the same one have it in common.
    sections : dict of int to str, optional
        By the rows before which they stand: headings of the rows that follow, below a rule.

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
    above: Sequence[str] | None = None
    sections: Mapping[int, str] | None = None

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
        if self.above is not None and len(self.above) != k:
            raise ValueError(
                f"above has {len(self.above)} headings for {k} columns; give one for each"
            )

    def to_text(self) -> str:
        """Lay the table out in columns of equal-width characters, without trailing spaces."""
        align = self.align or "r" * len(self.columns)
        index = [] if self.index is None else [_column("", self.index, "l")]
        body = [
            _column(name, [row[j] for row in self.rows], align[j])
            for j, name in enumerate(self.columns)
        ]
        top = self._widened(body, align)
        lines = [" ".join(cells) for cells in zip(*index, *body, strict=True)]
        rule = "-" * max(map(len, lines))
        for row, heading in sorted((self.sections or {}).items(), reverse=True):
            lines[row + 1 : row + 1] = [rule, *([heading] if heading else [])]
        if top is not None:
            lines.insert(0, " ".join([" " * len(cells[0]) for cells in index] + [top]))
        legend = [] if self.legend is None else ["---", self.legend]
        if self.sections and self.note and not legend:
            legend = ["---"]
        lines = [line.rstrip() for line in lines]
        return "\n".join([*_some(self.title), *lines, *legend, *_some(self.note)])

    def spans(self) -> list[tuple[str, int]]:
        """Return the headings above the columns, each with how many neighbours have it."""
        return [(text, len([*same])) for text, same in groupby(self.above or [])]

    def _widened(self, body: list[list[str]], align: str) -> str | None:
        """Return the line of headings above, for which columns are made wide enough, in place."""
        parts, first = [], 0
        for heading, n in self.spans():
            last = first + n - 1
            wide = sum(len(body[j][0]) for j in range(first, last + 1)) + n - 1
            if len(heading) > wide:
                width = len(body[last][0]) + len(heading) - wide
                pad = str.rjust if align[last] == "r" else str.ljust
                body[last] = [pad(cell, width) for cell in body[last]]
                wide = len(heading)
            parts.append(heading.center(wide))
            first = last + 1
        return " ".join(parts) if parts else None

    def head(self, longest: int) -> Table:
        """Return the first rows, with a line on how many there are more."""
        more = len(self.rows) - longest
        if more <= 0:
            return self
        index = None if self.index is None else self.index[:longest]
        note = "\n".join([f"... {more} more rows", *_some(self.note)])
        sections = {row: text for row, text in (self.sections or {}).items() if row < longest}
        return replace(
            self, rows=self.rows[:longest], index=index, note=note, sections=sections or None
        )

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
        above = None if self.above is None else self.above[:fit]
        columns = self.columns[:fit]
        return replace(self, columns=columns, rows=rows, align=align, note=note, above=above)

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
            for line in self.below()
        ]
        rows = [f"<tr>{row}</tr>" for row in body]
        for row, heading in sorted((self.sections or {}).items(), reverse=True):
            line = f"<tr><th colspan='{len(sides)}'{_HTML_SECTION}>{_html(heading)}</th></tr>"
            rows.insert(row, line)
        above = "".join(
            f"<th colspan='{n}' style='text-align: center'>{_html(text)}</th>"
            for text, n in self.spans()
        )
        corner = "" if self.index is None else "<th></th>"
        top = [f"<tr>{corner}{above}</tr>"] if above else []
        return "\n".join(
            [
                "<table class='mixef'>",
                *caption,
                f"<thead>{''.join(top)}<tr>{''.join(head)}</tr></thead>",
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
        rows = [[markdown_text(c) for c in row] for row in (self._head(), *self._body())]
        lines = [f"| {' | '.join(row)} |" for row in (rows[0], rule, *rows[1:])]
        empty = [""] * (len(rule) - 1)
        for row, heading in sorted((self.sections or {}).items(), reverse=True):
            if heading:
                bold = f"**{markdown_text(heading)}**"
                lines.insert(row + 2, f"| {' | '.join([bold, *empty])} |")
        if self.above is not None:  # a pipe table has one line of headings
            corner = [] if self.index is None else [""]
            above = [*corner, *(markdown_text(text) for text in self.above)]
            lines[:2] = [f"| {' | '.join(above)} |", lines[1], lines[0]]
        first, *more = self._above() or [""]
        title = [f"**{markdown_text(first)}**\n"] if first else []
        title += [f"{markdown_text(line)}\n" for line in more]
        note = [f"\n{markdown_text(line)}" for line in self.below()]
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
        lines = [f"{_guarded(' & '.join(row))} \\\\" for row in body]
        for row, heading in sorted((self.sections or {}).items(), reverse=True):
            text = f"\\multicolumn{{{len(sides)}}}{{l}}{{\\textit{{{_latex(heading)}}}}} \\\\"
            # The first rule is that below the headings.
            rule = ["\\midrule"] if row else []
            lines[row:row] = [*rule, *([text] if heading else [])]
        tabular = [
            f"\\begin{{tabular}}{{{sides}}}",
            "\\toprule",
            *self._latex_above(),
            f"{' & '.join(head)} \\\\",
            "\\midrule",
            *lines,
            "\\bottomrule",
            *self._latex_below(),
            "\\end{tabular}",
        ]
        if not self._above():
            return "\n".join(tabular)
        caption = f"\\caption{{{'; '.join(_latex(line) for line in self._above())}}}"
        return "\n".join(["\\begin{table}", "\\centering", caption, *tabular, "\\end{table}"])

    def _latex_above(self) -> list[str]:
        """Return the line of headings above the columns, with rules below it."""
        first, cells, rules = 1 + (self.index is not None), [], []
        for text, n in self.spans():
            cells.append(f"\\multicolumn{{{n}}}{{c}}{{{_latex(text)}}}")
            if text:
                rules.append(f"\\cmidrule(lr){{{first}-{first + n - 1}}}")
            first += n
        if not cells:
            return []
        corner = [] if self.index is None else [""]
        return [f"{' & '.join([*corner, *cells])} \\\\", " ".join(rules)]

    def _latex_below(self) -> list[str]:
        """Return the lines below, broken where they would make the columns wider."""
        columns = [[row[j] for row in (self._head(), *self._body())] for j in range(self._n)]
        width = max(LEAST_WIDTH, sum(max(map(len, column)) + 1 for column in columns))
        lines = [part for line in self.below() for part in textwrap.wrap(line, width)]
        return [f"\\multicolumn{{{self._n}}}{{l}}{{{_latex(line)}}} \\\\" for line in lines]

    @property
    def _n(self) -> int:
        """Number of columns, the index included."""
        return len(self.columns) + (self.index is not None)

    def __str__(self) -> str:
        return self.to_text()

    def __repr__(self) -> str:
        return self.to_text()

    def _repr_html_(self) -> str:
        return self.to_html()

    def _above(self) -> list[str]:
        """Lines of the title that say something."""
        return [line for line in (self.title or "").split("\n") if line.strip()]

    def below(self) -> list[str]:
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
_HTML_SECTION = " style='text-align: left; border-top: 1px solid'"


def _some(line: str | None) -> list[str]:
    return [] if line is None else [line]


def _column(name: str, cells: Sequence[str], align: str) -> list[str]:
    width = max(map(len, (name, *cells)))
    return [text.rjust(width) if align == "r" else text.ljust(width) for text in (name, *cells)]


def _html(text: str) -> str:
    return html.escape(text.strip())


def markdown_text(text: str) -> str:
    """Escape text for Markdown, on one line: a line break in a name would break a table."""
    return "".join(_MARKDOWN.get(char, char) for char in " ".join(text.split()))


def minus_signs(text: str) -> str:
    """Return LaTeX with minus signs before numbers: a hyphen in text mode is too short."""
    return _NEGATIVE.sub("$-$", text)


def _latex(text: str) -> str:
    return minus_signs(latex_text(text))


def _guarded(line: str) -> str:
    """Return a row that does not read as an option of the line break before it."""
    return f"{{}}{line}" if line.startswith(("[", "*")) else line
