"""The theory's equations have one label each, and what the code cites is there."""

import re
from collections import Counter
from pathlib import Path

import mixef

THEORY = Path(__file__).parents[1] / "docs" / "theory"
PAGES = {page.name: page.read_text() for page in sorted(THEORY.glob("*.md"))}
LABELS = Counter(re.findall(r"^\$\$ \((eq-[a-z0-9-]+)\)$", "\n".join(PAGES.values()), re.MULTILINE))


def test_labels_are_one_equations():
    assert LABELS, "no equation has a label"
    assert [label for label, times in LABELS.items() if times > 1] == []


def test_equations_that_the_code_cites_are_there():
    sources = Path(mixef.__file__).parent.rglob("*.py")
    cited = {e for path in sources for e in re.findall(r"\beq-[a-z0-9-]+", path.read_text())}
    assert cited
    assert cited - LABELS.keys() == set()
