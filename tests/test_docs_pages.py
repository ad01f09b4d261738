"""What can be told of the documentation without building it."""

import ast
import json
import re
import tomllib
from pathlib import Path

import pytest

from benchmarks import report
from benchmarks.cases import CASES

ROOT = Path(__file__).parents[1]
DOCS = ROOT / "docs"
PAGES = sorted(DOCS.rglob("*.md"))
CELL = re.compile(r"^```\{code-cell\}.*?\n(.*?)^```$", re.DOTALL | re.MULTILINE)
OPTIONS = re.compile(r"\A(---\n.*?^---\n|(?::[\w-]+:.*\n)+)", re.DOTALL | re.MULTILINE)


def cells():
    """Page, options and code of every cell."""
    for path in PAGES:
        for cell in CELL.findall(path.read_text(encoding="utf-8")):
            options = OPTIONS.match(cell)
            head = options.group() if options else ""
            yield path.relative_to(DOCS).as_posix(), head, cell[len(head) :]


def test_cells_are_python():
    for page, _, code in cells():
        if code.lstrip().startswith("%%"):
            continue  # a magic, for the whole cell
        lines = [line for line in code.splitlines() if not line.startswith("%")]
        try:
            ast.parse("\n".join(lines))
        except SyntaxError as error:
            pytest.fail(f"{page}: {error}\n{code}")


def test_pages_with_cells_name_their_kernel():
    for path in PAGES:
        text = path.read_text(encoding="utf-8")
        if "{code-cell}" in text:
            assert text.startswith("---\n"), path
            front = text.split("---\n")[1]
            assert "kernelspec" in front, path
            assert "format_name: myst" in front, path


def test_the_citation_has_the_version_of_the_package():
    version = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["version"]
    citation = (ROOT / "CITATION.cff").read_text()
    assert re.findall(r"^\s*version: (.*)$", citation, re.MULTILINE) == [version, version]
    assert f"version = {{{version}}}" in (DOCS / "citation.md").read_text()


def test_the_landing_page_starts_with_how_to_install():
    text = (DOCS / "index.md").read_text()
    assert re.search(r"^```\w+\n(.*)$", text, re.MULTILINE).group(1).startswith("pip install")


def test_the_table_of_a_run_of_the_benchmarks():
    run = json.loads((ROOT / "benchmarks" / "latest.json").read_text())
    assert set(run["fits"]) <= {case.name for case in CASES}
    lines = report.markdown(run).splitlines()
    assert len(lines) == 2 + sum(map(len, run["fits"].values()))
    width = lines[0].count("|")
    assert all(line.count("|") == width for line in lines)
    mixef, lme4 = run["fits"]["sleepstudy"][:2]
    cells = [cell.strip() for cell in lines[3].split("|")[1:-1]]
    assert cells[1:4] == [
        "lme4",
        f"{lme4['seconds']:.4g}",
        f"{mixef['seconds'] / lme4['seconds']:.3g}",
    ]
    assert any(name.startswith("lme4 ") for name in report.programs(run))
