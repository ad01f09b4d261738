"""Modules that are loaded where they are first used, so that an import stays short."""

from __future__ import annotations

from collections.abc import Callable
from importlib import import_module
from importlib.util import find_spec
from types import ModuleType
from typing import Any


class LateModule(ModuleType):
    """A module that is loaded when something of it is asked for."""

    @property
    def __dict__(self) -> dict[str, Any]:  # type: ignore[override]
        return vars(import_module(self.__name__))

    def __getattr__(self, name: str) -> Any:
        return getattr(import_module(self.__name__), name)

    def __setattr__(self, name: str, value: Any) -> None:
        setattr(import_module(self.__name__), name, value)

    def __delattr__(self, name: str) -> None:
        delattr(import_module(self.__name__), name)


def modules_of(package: str) -> Callable[[str], ModuleType]:
    """Return a package's ``__getattr__``, by which ``from package import module`` loads late.

    ``from package.module import name`` loads at once, as ever. What a user holds imports the
    modules that its methods need in the first way, and keeps signatures and docstrings.

    Examples
    --------
    >>> from mixef.inference import getme
    >>> getme.get_me.__name__  # here it is loaded
    'get_me'
    """

    def __getattr__(name: str) -> ModuleType:
        full = f"{package}.{name}"
        if find_spec(full) is None:
            raise AttributeError(f"module {package!r} has no attribute {name!r}")
        return LateModule(full)

    return __getattr__


def picture(name: str) -> Callable[..., Any]:
    """Return a function of `mixef.plots` by its name; results, which are below it, draw so.

    Examples
    --------
    >>> picture("axes.grid_of")(5)
    (2, 3)
    """
    module, function = name.rsplit(".", 1)
    drawing: Callable[..., Any] = getattr(import_module(f"mixef.plots.{module}"), function)
    return drawing
