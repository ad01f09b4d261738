"""The theory pages: the equations of the paper on generalized models have its numbers."""

import re
from pathlib import Path

CHAPTER = sorted((Path(__file__).parents[1] / "docs" / "theory").glob("generalized_*.md"))
LABEL = re.compile(r"^\$\$ \((eq-glmm-[\w-]+)\)$", re.MULTILINE)
REFERENCE = re.compile(r"\{eq\}`(eq-glmm-[\w-]+)`")


def numbers(label):
    """The numbers of the paper that a label stands for: ``eq-glmm-20-to-22`` for three."""
    first, _, last = label.removeprefix("eq-glmm-").partition("-to-")
    if last:
        return list(range(int(first), int(last) + 1))
    return [int(number) for number in first.split("-and-") if number.isdigit()]


def test_each_equation_of_the_paper_has_one_place():
    labels = [label for page in CHAPTER for label in LABEL.findall(page.read_text("utf-8"))]
    found = [number for label in labels for number in numbers(label)]
    assert sorted(found) == list(range(1, 34))
    assert len(set(labels)) == len(labels)
    references = {label for page in CHAPTER for label in REFERENCE.findall(page.read_text("utf-8"))}
    assert references <= set(labels)
