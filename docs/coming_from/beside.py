"""A magic for tables of calls side by side: it runs what stands in their column ``mixef``.

``%load_ext beside``, then ``%%beside`` over a Markdown table. Every piece of code in a column
whose heading starts with ``mixef`` is run in the page's namespace, row by row, so that no line
can go stale; what a call draws or prints is not shown. A cell without code says what is missing.
"""

from __future__ import annotations

import ast
import io
import re
import sys
import warnings
from contextlib import redirect_stdout
from typing import Any

CELL = re.compile(r"(?<!\\)\|")
CODE = re.compile(r"(?<!`)(`+)(?!`)(.+?)(?<!`)\1(?!`)")


def beside(table: str, scope: dict[str, Any]) -> int:
    """Run the code in the columns of mixef; return how many pieces there are."""
    header, _, *rows = [row for row in table.splitlines() if row.strip()]
    columns = [i for i, name in enumerate(cells(header)) if name.startswith("mixef")]
    if not columns:
        raise ValueError(f"no column of the table is headed mixef: {header}")
    width, n = len(cells(header)), 0
    for row in rows:
        found = cells(row)
        if len(found) != width:
            raise ValueError(f"{len(found)} cells in place of {width}: {row}")
        for code in [code for i in columns for _, code in CODE.findall(found[i])]:
            run(code.replace(r"\|", "|"), scope)
            n += 1
    return n


def cells(row: str) -> list[str]:
    """Return the cells of a row, without the bars at its ends."""
    return [cell.strip() for cell in CELL.split(row.strip())[1:-1]]


def run(code: str, scope: dict[str, Any]) -> None:
    """Run a piece of code; its errors name it."""
    with warnings.catch_warnings(), redirect_stdout(io.StringIO()):
        warnings.simplefilter("ignore")
        try:
            exec(compile(ast.parse(code), "<table>", "exec"), scope)
        except Exception as error:
            error.add_note(f"in the table's {code}")
            raise
    if "matplotlib.pyplot" in sys.modules:
        sys.modules["matplotlib.pyplot"].close("all")


def load_ipython_extension(shell: Any) -> None:
    """Register the magic."""
    from IPython.display import Markdown, display  # not there where the tests read this file

    def magic(line: str, cell: str) -> None:
        beside(cell, shell.user_ns)
        display(Markdown(cell))

    shell.register_magic_function(magic, "cell", "beside")
