"""The reference: names of `public.py` on a page, with a table of them and their docstrings.

A page lists names, as a user writes them::

    ```{public}
    lmer
    fit.ranef
    Bootstrap
    ```
"""

from __future__ import annotations

import inspect
from importlib import import_module
from typing import Any

import pandas as pd
from docutils import nodes
from docutils.statemachine import StringList
from public_names import MODELS, Plots, Printed, members, path_of, public_names
from sphinx import addnodes
from sphinx.application import Sphinx
from sphinx.util.docutils import SphinxDirective, SphinxRole

from mixef.datasets.load import CATALOGUE, load_dataset

#: What a fit has is told with the class that both kinds have in common.
SHARED = MODELS[0]


class Public(SphinxDirective):
    """A table of public names, then the docstring of each."""

    has_content = True

    def run(self) -> list[nodes.Node]:
        """Write reStructuredText for autosummary and autodoc, and read it."""
        known = public_names()
        names = [name.strip() for name in self.content if name.strip()]
        unknown = [name for name in names if name not in known]
        if unknown:
            raise self.error(f"no public names of mixef: {', '.join(unknown)}")
        lines = ["```{eval-rst}", ".. autosummary::", "   :nosignatures:", ""]
        lines += [f"   ~{known[name]}" for name in names] + [""]
        for name in names:
            lines += documented(known[name])
        content = StringList([*lines, "```"], source=self.get_source_info()[0])
        holder = nodes.container(classes=["public"])
        self.state.nested_parse(content, self.content_offset, holder)
        return holder.children


def documented(path: str) -> list[str]:
    """Return the directives of autodoc for one name, and for the members of a class."""
    value, owner = imported(path)
    if not inspect.isclass(value):
        kind = "function" if inspect.ismodule(owner) else "method"
        kind = "property" if kind == "method" and not inspect.isroutine(value) else kind
        return [f".. auto{kind}:: {path}", ""]
    kind = "exception" if issubclass(value, BaseException) else "class"
    listed = members(value) if value not in MODELS else []
    listed += ["__call__"] if "__call__" in vars(value) else []
    options = [f"   :members: {', '.join(listed)}"] if listed else []
    options += ["   :show-inheritance:"] if any(map(is_shown, value.__bases__)) else []
    return [f".. auto{kind}:: {path}", *options, ""]


def is_shown(base: type) -> bool:
    """Tell whether a reader should know that a class is a subclass of this one."""
    return base is not object and (
        base.__module__ == "builtins" or base.__name__ in public_names() or is_error(base)
    )


def is_error(base: type) -> bool:
    return issubclass(base, BaseException)


def shown_bases(app: Sphinx, name: str, value: type, options: Any, bases: list[Any]) -> None:
    """Leave private bases out."""
    bases[:] = filter(is_shown, bases)


def imported(path: str) -> tuple[Any, Any]:
    """Return what stands at a path, unbound, and the module or class that it stands in."""
    parts = path.split(".")
    for end in range(len(parts) - 1, 0, -1):
        try:
            owner: Any = import_module(".".join(parts[:end]))
        except ModuleNotFoundError:
            continue
        for part in parts[end:-1]:
            owner = getattr(owner, part)
        if inspect.isclass(owner):
            return inspect.getattr_static(owner, parts[-1]), owner
        return getattr(owner, parts[-1]), owner
    raise ImportError(path)


class Name(SphinxRole):
    """What single backquotes in a docstring mean: a link to a public name, or code."""

    def run(self) -> tuple[list[nodes.Node], list[nodes.system_message]]:
        """Look in the class that the docstring is of, then among functions, then on fits."""
        literal = nodes.literal(self.text, self.text, classes=["py"])
        target = self.target()
        if target is None:
            return [literal], []
        link = addnodes.pending_xref(
            "",
            literal,
            refdomain="py",
            reftype="obj",
            reftarget=target,
            refexplicit=True,
            refwarn=True,
        )
        link["refdoc"] = self.env.docname
        return [link], []

    def target(self) -> str | None:
        """Return the path that the text is short for, None for a name that is not public."""
        known = public_names()
        here = f"{self.env.ref_context.get('py:module')}.{self.env.ref_context.get('py:class')}"
        short = next((key for key, path in known.items() if path == here), None)
        if here == path_of(SHARED):
            first = [f"fit.{self.text}"]
        else:
            value = imported(here)[0] if short else None
            if inspect.isclass(value) and self.text in members(value):
                return f"{here}.{self.text}"
            first = []
        text = self.text.removeprefix("mixef.")
        names = [*first, text, f"fit.{text}", f"errors.{text}"]
        return next((known[name] for name in names if name in known), None)


def short_signature(
    app: Sphinx, what: str, name: str, value: Any, options: Any, signature: Any, returns: Any
) -> tuple[str, str] | None:
    """Leave out how results are made, and where words of other packages are answered."""
    if signature is None:
        return None
    if what == "class" and issubclass(value, (Printed, Plots)):
        return "", ""
    return signature.replace(", **unknown", "").replace("**unknown", ""), returns or ""


class Datasets(SphinxDirective):
    """The packaged data sets: each with what it is, its size, its columns and its publication."""

    def run(self) -> list[nodes.Node]:
        """Write a section a data set, by the catalogue."""
        lines = []
        for name, entry in CATALOGUE.items():
            kinds = [f"``{key}`` ({kind_of(column)})" for key, column in load_dataset(name).items()]
            lines += [f"## {name}", "", entry.description, "", f"{entry.rows:,} rows. Columns:", ""]
            lines += [f"- {kind}".replace("``", "`") for kind in kinds]
            lines += ["", f"Source: {entry.source}.", ""]
        content = StringList(lines, source=self.get_source_info()[0])
        holder = nodes.section()
        self.state.nested_parse(content, self.content_offset, holder, match_titles=True)
        return holder.children


def kind_of(column: pd.Series) -> str:
    """Return what a column is, for readers."""
    if isinstance(column.dtype, pd.CategoricalDtype):
        levels = list(column.cat.categories)
        order = "ordered factor" if column.cat.ordered else "factor"
        shown = ", ".join(map(str, levels)) if len(levels) <= 8 else f"{levels[0]} to {levels[-1]}"
        return f"{order} with {len(levels):,} levels: {shown}"
    whole = "whole numbers" if column.dtype.kind == "i" else "numbers"
    lost = f", {column.isna().sum():,} missing" if column.isna().any() else ""
    return f"{whole}, {column.min():g} to {column.max():g}{lost}"


class _Shown:
    """``MixedModel.ranef`` is shown as ``fit.ranef``, which is what users write."""

    def __call__(self, app: Sphinx, document: nodes.document) -> None:
        for name in document.findall(addnodes.desc_addname):
            parent = name.parent
            if parent.get("class") == SHARED.__name__:
                name.children = [nodes.Text("fit.")]


def setup(app: Sphinx) -> dict[str, bool]:
    """Register the directive, the role and the changes."""
    app.add_directive("public", Public)
    app.add_directive("datasets", Datasets)
    app.add_role("name", Name())
    app.connect("autodoc-process-signature", short_signature)
    app.connect("autodoc-process-bases", shown_bases)
    app.connect("doctree-read", _Shown())
    return {"parallel_read_safe": True, "parallel_write_safe": True}
