"""Sphinx: python -m pip install -e .[docs] && python -m sphinx docs site."""

project = "mixef"
author = "the mixef developers"
extensions = ["myst_parser", "numpydoc", "sphinx.ext.autodoc"]
# Links such as glmm.md#standard-errors find headings down to the second level.
myst_heading_anchors = 2
source_suffix = {".md": "markdown", ".rst": "restructuredtext"}
exclude_patterns = ["_build"]
html_theme = "furo"
html_title = "mixef"
numpydoc_show_class_members = False
