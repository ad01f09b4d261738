"""Sphinx. bash scripts/site.sh builds and checks; python -m sphinx -W docs site builds."""

import hashlib
import os
import sys
import tomllib
from importlib.util import find_spec
from pathlib import Path

DOCS = Path(__file__).parent
ROOT = DOCS.parent
sys.path.insert(0, str(DOCS / "_ext"))
from numpydoc.xref import DEFAULT_LINKS  # noqa: E402
from public_names import public_names  # noqa: E402

PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]

# Kernels inherit these: pictures come inline, in the same size everywhere, and a thread does.
os.environ.pop("MPLBACKEND", None)
os.environ["MATPLOTLIBRC"] = str(DOCS / "matplotlibrc")
for library in ("OPENBLAS", "OMP", "NUMBA"):
    os.environ.setdefault(f"{library}_NUM_THREADS", "1")


def fingerprint() -> str:
    """Return a short name of the state of the package: outputs of another state are not reused."""
    digest = hashlib.sha256()
    for path in sorted((ROOT / "src").rglob("*")):
        if path.suffix in (".py", ".npz"):
            digest.update(path.read_bytes())
    return digest.hexdigest()[:16]


project = PROJECT["name"]
author = project_copyright = "the mixef developers"
version = release = PROJECT["version"]
repository = PROJECT.get("urls", {}).get("Repository")

extensions = [
    "myst_nb",
    "numpydoc",
    "sphinx.ext.autodoc",
    "sphinx.ext.autosummary",
    "sphinx.ext.mathjax",
    "sphinx_copybutton",
    "equations",
    "pages",
    "reference",
]
exclude_patterns = ["_ext"]
smartquotes = False
nitpicky = True
# Other packages' names are not links: their inventories would have to be fetched.
nitpick_ignore_regex = [("py:.*", r"(?!mixef\.).*")]

# Links such as glmm.md#standard-errors find headings down to the third level.
myst_heading_anchors = 3
myst_enable_extensions = ["amsmath", "attrs_inline", "deflist", "dollarmath"]

nb_execution_mode = "cache"
nb_execution_cache_path = str(ROOT / "build" / "notebooks" / fingerprint())
nb_execution_raise_on_error = True
nb_execution_timeout = 120
nb_merge_streams = True
nb_render_markdown_format = "myst"

autosummary_generate = False
autodoc_typehints = "none"
autodoc_member_order = "bysource"
add_module_names = False
# Single backquotes in docstrings: reference.py.
default_role = "name"
numpydoc_show_class_members = False
numpydoc_xref_param_type = True
DEFAULT_LINKS.clear()  # into the manual of Python, as other packages
numpydoc_xref_ignore = "all"  # what is not among these is words
numpydoc_xref_aliases = {
    name.split(".")[-1]: path
    for name, path in public_names().items()
    if not name.startswith("fit.")
}

copybutton_exclude = ".linenos, .gp, .go"
copybutton_prompt_text = r">>> |\.\.\. |\$ |> "
copybutton_prompt_is_regexp = True

html_theme = "furo"
html_favicon = "_static/mixef.svg"
html_title = f"mixef {release}"
# MathJax comes with the site. Its package would be an extension too, but one that reads in series.
mathjax_path = "mathjax/tex-chtml.js"
html_static_path = [
    "_static",
    str(Path(find_spec("sphinx-mathjax-offline").origin).parent / "static"),
]
html_css_files = ["site.css"]
html_copy_source = False
html_theme_options = {"navigation_with_keys": True}
if repository:
    html_theme_options |= {
        "source_repository": repository,
        "source_branch": "main",
        "source_directory": "docs/",
    }
