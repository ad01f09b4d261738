"""Errors and warnings of mixef, all below two roots that a caller can catch."""

from __future__ import annotations

import sys
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from pathlib import Path

_PACKAGE = str(Path(__file__).parent)
_LONGEST = 2000
# What was warned of before, and what a warning now is about; None where all warnings count.
_once: ContextVar[tuple[set[str], str] | None] = ContextVar("once", default=None)


class MixefError(Exception):
    """Root of all errors that mixef raises on purpose; a formula of pages is cut in its message."""

    def __init__(self, message: str = "", *args: object) -> None:
        if len(message) > _LONGEST:
            message = f"{message[: _LONGEST // 2]} ... {message[-_LONGEST // 3 :]}"
        super().__init__(message, *args)


class ArgumentError(MixefError, TypeError, ValueError):
    """An argument that is not of its kind, or none of the values that it may have."""


class FormulaError(MixefError, ValueError):
    """A formula that cannot be read, or that names something which is not there."""


class DataError(MixefError, ValueError):
    """Data that no model of the requested form can be fitted to."""


class FitError(MixefError, RuntimeError):
    """A search or factorization that could not be carried through."""


class MemoryNeededError(MixefError, MemoryError):
    """A model that takes more memory than there is; the message says how much, and why."""


class ExactFactorNeededError(MixefError, RuntimeError):
    """A result that only an exact factor of the random effects gives; the fit's is iterative."""


class RowsElsewhereError(MixefError, RuntimeError):
    """What was asked needs the rows of the data in memory, and an engine holds them."""


class MissingLibraryError(MixefError, ImportError):
    """A library that mixef needs is not installed; the message gives the install line."""


class MixefWarning(UserWarning):
    """Root of all warnings that mixef issues."""


class ConvergenceWarning(MixefWarning):
    """The search ended at a point that is not an optimum."""


class SingularFitWarning(MixefWarning):
    """A random-effects covariance matrix is singular at the optimum."""


class DataWarning(MixefWarning):
    """Something about the data that the user should look at."""


def table_changed(found: str) -> DataError:
    """Return the error for a table of which something else was found than before."""
    return DataError(f"{found}: the table changes while it is read; fit the model to a copy of it")


def warn(message: str, category: type[MixefWarning]) -> None:
    """Issue a warning that points at the line outside of mixef that led to it."""
    if (once := _once.get()) is not None:
        told, about = once
        if about in told:
            return
        told.add(about)
    level, frame = 2, sys._getframe(1)
    while frame.f_back is not None and frame.f_code.co_filename.startswith(_PACKAGE):
        level, frame = level + 1, frame.f_back
    warnings.warn(message, category, stacklevel=level)


@contextmanager
def warning_once(told: set[str] | None, about: str) -> Iterator[None]:
    """Warn of something but once, of all the times that it is looked at.

    Parameters
    ----------
    told : set of str or None
        What was warned of before; None to warn every time.
    """
    token = _once.set(None if told is None else (told, about))
    try:
        yield
    finally:
        _once.reset(token)
