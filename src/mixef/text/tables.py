"""One table, written as text, HTML, Markdown or LaTeX."""

from __future__ import annotations

import re
import textwrap
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import accumulate, groupby

from mixef.text import html
from mixef.text.latex import LATEX_LINE, RULES, latex_cell, latex_columns, latex_text

ALIGNMENTS = frozenset("lrn")
# Lines below a table in LaTeX are not broken into less than this.
LEAST_WIDTH = 70
# A minus sign: at the start, or after a bracket, a space, a sign of equality or a comma.
_NEGATIVE = re.compile(r"(?<![^\[\s(=,])-(?=[\d.])")
_MARKDOWN = {char: "\\" + char for char in "\\|*_`<>[]~$^@"}
# Longer lines make pandoc share out the page among the columns.
MARKDOWN_LINE = 72
# What reads as one sign: entities, and dashes in a row.
_MORE_MARKDOWN = re.compile(r"&(?=#?\w+;)|(?<=-)-")
# What starts a list, a heading or a definition.
_START = re.compile(r"^(\(?(?:\d+|[A-Za-z]|#)(?=[.)](?:\s|$))|(?=[#+\-=:%](?:\s|$|[#=\-])))(.)")


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

    def head(self, longest: int, of: int | None = None) -> Table:
        """Return the first rows, with a line on how many there are more, `of` all if given."""
        more = (len(self.rows) if of is None else of) - longest
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
        # long labels leave half of the width
        index = min(max(map(len, self.index or [""])) + 1, widest // 2)
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
        """Write the table as HTML: a ``<table>`` in a box that scrolls where the page is narrow."""
        n, styles = self._n, html.styles(self._columns(), self._sides())
        labels = [] if self._labels is None else ["row"]
        scopes = [*labels, *[""] * (n - len(labels))]
        spans = html.spans(self.spans(), styles[len(labels) :])
        above = "".join([*(html.cell("", html.LEFT) for _ in labels), *spans])
        head = [f"<tr>{above}</tr>"] if spans else []
        head.append(html.row(self._head(), styles, ["col"] * n))
        rows = [html.row(cells, styles, scopes) for cells in self._body()]
        starts = sorted({0, *(self.sections or {})})
        parts = [f"<thead style='{html.RULE_BELOW}'>{''.join(head)}</thead>"]
        for start, end in zip(starts, [*starts[1:], len(rows)], strict=True):
            heading = html.escaped((self.sections or {}).get(start, ""))
            own = [f"<tr>{html.cell(heading, html.LEFT, 'rowgroup', n)}</tr>"] if heading else []
            rule = f" style='{html.RULE_ABOVE}'" if start else ""
            parts += [f"<tbody{rule}>", *own, *rows[start:end], "</tbody>"]
        if self._above():
            parts.insert(0, f"<caption style='{html.TITLE}'>{html.loose(self._above())}</caption>")
        if self.below():
            note = html.cell(html.loose(self.below()), html.LEFT, span=n)
            parts.append(f"<tfoot style='{html.RULE_ABOVE}'><tr>{note}</tr></tfoot>")
        inside = "\n".join(parts)
        return html.box(f"<table class='mixef' style='{html.TABLE}'>\n{inside}\n</table>")

    def to_markdown(self) -> str:
        """Write the table as a pipe table, the title in bold above and the notes below."""
        rows = [[markdown_text(c) for c in row] for row in (self._head(), *self._body())]
        lines = [f"| {' | '.join(row)} |" for row in rows]
        lines.insert(1, f"| {' | '.join(self._markdown_rule(max(map(len, lines))))} |")
        empty = [""] * (self._n - 1)
        for row, heading in sorted((self.sections or {}).items(), reverse=True):
            if heading:
                bold = f"**{markdown_text(heading)}**"
                lines.insert(row + 2, f"| {' | '.join([bold, *empty])} |")
        if self.above is not None:  # a pipe table has one line of headings
            corner = [] if self._labels is None else [""]
            above = [*corner, *(markdown_text(text) for text in self.above)]
            lines[:2] = [f"| {' | '.join(above)} |", lines[1], lines[0]]
        first, *more = self._above() or [""]
        title = [f"**{markdown_text(first)}**\n"] if first else []
        title += [f"{markdown_paragraph(line)}\n" for line in more]
        note = [f"\n{markdown_paragraph(line)}" for line in self.below()]
        return "\n".join([*title, *lines, *note])

    def _markdown_rule(self, longest: int) -> list[str]:
        """Return the line below the headings, which has the widths if a line is a long one.

        Pandoc then gives columns the shares that the dashes have.
        """
        dashes = [3] * self._n
        if longest > MARKDOWN_LINE:
            dashes = [max(3, *map(len, column)) for column in self._columns()]
        sides = zip(self._sides(), dashes, strict=True)
        return ["-" * n + ":" if side == "r" else ":" + "-" * n for side, n in sides]

    def to_latex(self) -> str:
        r"""Write the table as a LaTeX ``tabular`` with the rules of the booktabs package.

        Returns
        -------
        str
            A ``tabular``; inside a ``table`` with a ``\caption`` where there is a title.
        """
        tabular = self._tabular()
        if not self._above():
            return "\n".join(tabular)
        caption = f"\\caption{{{'; '.join(_latex(line) for line in self._above())}}}"
        return "\n".join(["\\begin{table}", "\\centering", caption, *tabular, "\\end{table}"])

    def to_latex_in_place(self) -> str:
        """Write the table as LaTeX that stays where it is put, its title above."""
        title = [f"{_latex(line)}\\\\" for line in self._above()]
        title[-1:] = [f"{line}[1ex]" for line in title[-1:]]
        return "\n".join(["\\begin{center}", *title, *self._tabular(), "\\end{center}"])

    def _tabular(self) -> list[str]:
        """Return the lines of the ``tabular``."""
        kinds = latex_columns(self._columns(), self._sides())
        head, *body = [
            [latex_cell(_latex(c), kind) for c, kind in zip(row, kinds, strict=True)]
            for row in (self._head(), *self._body())
        ]
        lines = [f"{_guarded(' & '.join(row))} \\\\" for row in body]
        for row, heading in sorted((self.sections or {}).items(), reverse=True):
            text = f"\\multicolumn{{{self._n}}}{{l}}{{\\textit{{{_latex(heading)}}}}} \\\\"
            # The first rule is that below the headings.
            rule = ["\\midrule"] if row else []
            lines[row:row] = [*rule, *([text] if heading else [])]
        return [
            f"\\begin{{tabular}}{{{''.join(kinds)}}}",
            "\\toprule",
            *self._latex_above(),
            f"{' & '.join(head)} \\\\",
            "\\midrule",
            *lines,
            "\\bottomrule",
            *self._latex_below(),
            "\\end{tabular}",
        ]

    def _latex_above(self) -> list[str]:
        """Return the line of headings above the columns, with rules below it."""
        first, cells, rules = 1 + (self._labels is not None), [], []
        for text, n in self.spans():
            cells.append(f"\\multicolumn{{{n}}}{{c}}{{{_latex(text)}}}")
            if text:
                rules.append(f"\\cmidrule(lr){{{first}-{first + n - 1}}}")
            first += n
        if not cells:
            return []
        corner = [] if self._labels is None else [""]
        return [f"{' & '.join([*corner, *cells])} \\\\", " ".join(rules)]

    def _latex_below(self) -> list[str]:
        """Return the lines below, broken where they would make the columns wider."""
        width = sum(max(map(len, column)) + 1 for column in self._columns())
        width = min(max(LEAST_WIDTH, width), LATEX_LINE)
        lines = [part for line in self.below() for part in textwrap.wrap(line, width)]
        return [f"\\multicolumn{{{self._n}}}{{l}}{{{_latex(line)}}} \\\\" for line in lines]

    @property
    def _labels(self) -> Sequence[str] | None:
        """The labels of the rows, None where there are none or all are blank."""
        return self.index if any(label.strip() for label in self.index or ()) else None

    @property
    def _n(self) -> int:
        """Number of columns, that of the labels included."""
        return len(self.columns) + (self._labels is not None)

    def _columns(self) -> list[list[str]]:
        """Cells by column, with the heading first and the labels as a column."""
        rows = (self._head(), *self._body())
        return [[row[j] for row in rows] for j in range(self._n)]

    def __str__(self) -> str:
        return self.to_text()

    def __repr__(self) -> str:
        return self.to_text()

    def _repr_html_(self) -> str:
        return self.to_html()

    def _repr_latex_(self) -> str:
        return in_place([self])

    def _above(self) -> list[str]:
        """Lines of the title that say something."""
        return [line for line in (self.title or "").split("\n") if line.strip()]

    def below(self) -> list[str]:
        """Lines below the cells that say something."""
        lines = "\n".join([*_some(self.legend), *_some(self.note)]).split("\n")
        return [line for line in lines if line.strip()]

    def _sides(self) -> list[str]:
        """Alignments of all columns, that of the labels included, with numbers to the right."""
        align = (self.align or "r" * len(self.columns)).replace("n", "r")
        return list(align if self._labels is None else "l" + align)

    def _head(self) -> list[str]:
        return [*self.columns] if self._labels is None else ["", *self.columns]

    def _body(self) -> list[list[str]]:
        if self._labels is None:
            return [[*row] for row in self.rows]
        return [[label, *row] for label, row in zip(self._labels, self.rows, strict=True)]


def in_place(tables: Sequence[Table]) -> str:
    """Write tables as LaTeX for the place where they stand in a notebook, without packages."""
    return "\n\n".join([RULES, *(table.to_latex_in_place() for table in tables)])


def _some(line: str | None) -> list[str]:
    return [] if line is None else [line]


def _column(name: str, cells: Sequence[str], align: str) -> list[str]:
    width = max(map(len, (name, *cells)))
    return [text.rjust(width) if align == "r" else text.ljust(width) for text in (name, *cells)]


def markdown_text(text: str) -> str:
    """Escape text for Markdown, on one line: a line break in a name would break a table."""
    text = "".join(_MARKDOWN.get(char, char) for char in " ".join(text.split()))
    return _MORE_MARKDOWN.sub(r"\\\g<0>", text)


def markdown_paragraph(text: str) -> str:
    r"""Escape text for Markdown that starts a paragraph, so that it starts no list or heading.

    Examples
    --------
    >>> print(markdown_paragraph("1. of 2"))
    1\. of 2
    """
    return _START.sub(r"\1\\\2", markdown_text(text))


def minus_signs(text: str) -> str:
    """Return LaTeX with minus signs before numbers: a hyphen in text mode is too short."""
    return _NEGATIVE.sub("$-$", text)


def _latex(text: str) -> str:
    return minus_signs(latex_text(text))


def _guarded(line: str) -> str:
    """Return a row that does not read as an option of the line break before it."""
    return f"{{}}{line}" if line.startswith(("[", "*")) else line
