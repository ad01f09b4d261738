"""The public names of mixef, as the pages of the reference list them; it knows no Sphinx.

A name is listed as a user writes it: ``lmer``, ``fit.ranef`` for what a fit has,
``errors.DataError``, ``sklearn.MixedModelRegressor``, and ``Bootstrap`` for the class of a result,
which prints itself like all results.
"""

from __future__ import annotations

import importlib
import inspect
import pkgutil
from functools import cache
from typing import Any

import mixef
import mixef.errors
import mixef.sklearn
from mixef.methods.plots import Plots
from mixef.mixedmodel import MixedModel
from mixef.text.printed import Printed, PrintedFrame, PrintedFrames, PrintedTable

MODELS = (MixedModel, mixef.LinearMixedModel, mixef.GeneralizedLinearMixedModel)
#: What all results have is told once, with these.
BASES = (Printed, PrintedTable, PrintedFrame, PrintedFrames)


@cache
def public_names() -> dict[str, str]:
    """Return each public name with its path from ``mixef``, as Sphinx imports it."""
    out = {name: f"mixef.{name}" for name in mixef.__all__}
    for module in (mixef.errors, mixef.sklearn):
        room = module.__name__.removeprefix("mixef.")
        out |= {f"{room}.{value.__name__}": path_of(value) for value in classes_in(module)}
    for model in reversed(MODELS):
        out |= {f"fit.{name}": f"{path_of(model)}.{name}" for name in members(model)}
    return out | {value.__name__: path_of(value) for value in (MixedModel, Plots, *results())}


@cache
def results() -> tuple[type, ...]:
    """Return the classes of results: all that print themselves, but the fits."""
    found = [
        value
        for module in pkgutil.walk_packages(mixef.__path__, "mixef.")
        for value in classes_in(importlib.import_module(module.name))
    ]
    return tuple(v for v in found if issubclass(v, Printed) and v not in MODELS)


def members(of: type) -> list[str]:
    """Return the public methods and properties that are told with a class.

    Those that it has unchanged from another public class are told there, and what all results do
    alike with `BASES`; what a family or a link has to have is told once, too.
    """
    elsewhere = {mixef.Family, mixef.Link, *BASES, *results()} - {of}
    if elsewhere & {mixef.Family, mixef.Link} & set(of.__mro__):
        return []
    common = set() if of in BASES else {name for base in BASES[:2] for name in vars(base)}
    return [
        name
        for name in dir(of)
        if not name.startswith("_")
        and name not in common
        and (home := home_of(of, name)).__module__.startswith("mixef")
        and home not in elsewhere
        and is_member(inspect.getattr_static(of, name))
    ]


def home_of(of: type, name: str) -> type:
    """Return the class that an attribute comes from."""
    return next(base for base in of.__mro__ if name in vars(base))


def is_member(value: Any) -> bool:
    """Tell methods and properties from data, and from what another library adds to a class."""
    theirs = not getattr(value, "__module__", "mixef").startswith(
        ("mixef", "builtins", "functools")
    )
    is_property = type(value).__name__ in ("property", "cached_property")
    return not theirs and (is_property or inspect.isroutine(value))


def classes_in(module: Any) -> list[type]:
    """Return the classes that a module defines and does not hide, in its order."""
    return [
        value
        for name, value in vars(module).items()
        if inspect.isclass(value) and value.__module__ == module.__name__ and name[0] != "_"
    ]


def path_of(value: type) -> str:
    """Return the full path of a class."""
    return f"{value.__module__}.{value.__qualname__}"
