"""Modules that are loaded where they are first used, so that an import stays short."""

from __future__ import annotations

import signal
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from importlib import import_module
from importlib.util import find_spec
from types import FrameType, ModuleType
from typing import Any


def load(name: str) -> ModuleType:
    """Import a module whole: Ctrl-C waits, as Python cannot mend one that is left half-way.

    Examples
    --------
    >>> load("mixef.late") is sys.modules["mixef.late"]
    True
    """
    if name in sys.modules:
        return import_module(name)
    with _interrupts_held():
        return import_module(name)


@contextmanager
def _interrupts_held() -> Iterator[None]:
    """Let SIGINT come at the end of a block; other threads than the main one never get it."""
    before = signal.getsignal(signal.SIGINT)
    if threading.current_thread() is not threading.main_thread() or before is None:
        yield
        return
    came: list[int] = []

    def note(number: int, frame: FrameType | None) -> None:
        came.append(number)

    signal.signal(signal.SIGINT, note)
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, before)
        if came:
            signal.raise_signal(signal.SIGINT)


class LateModule(ModuleType):
    """A module that is loaded when something of it is asked for."""

    @property
    def __dict__(self) -> dict[str, Any]:  # type: ignore[override]
        return vars(load(self.__name__))

    def __getattr__(self, name: str) -> Any:
        return getattr(load(self.__name__), name)

    def __setattr__(self, name: str, value: Any) -> None:
        setattr(load(self.__name__), name, value)

    def __delattr__(self, name: str) -> None:
        delattr(load(self.__name__), name)


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
    drawing: Callable[..., Any] = getattr(load(f"mixef.plots.{module}"), function)
    return drawing
