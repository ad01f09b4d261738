"""Equations that have the numbers of a publication, so that the two can be read side by side.

The label ``eq-glmm-13`` is number 13 on every page, ``eq-glmm-5-and-6`` is "5 and 6". Other labels
count up page by page.
"""

from __future__ import annotations

import re

from docutils import nodes
from sphinx.application import Sphinx

PUBLISHED = re.compile(r"eq-glmm-(.+)")


def number(app: Sphinx, document: nodes.document) -> None:
    """Give the equations of a page their published numbers."""
    known = app.env.domains.math_domain.equations
    for node in document.findall(nodes.math_block):
        found = PUBLISHED.fullmatch(node.get("label") or "")
        if found:
            node["number"] = found[1].replace("-", " ")
            known[node["label"]] = (app.env.docname, node["number"])


def setup(app: Sphinx) -> dict[str, bool]:
    """Register the numbering."""
    app.connect("doctree-read", number)
    return {"parallel_read_safe": True, "parallel_write_safe": True}
