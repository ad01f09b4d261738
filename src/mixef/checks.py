"""The checks of arguments, one a kind: each returns the argument as its kind, or refuses it."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from copy import deepcopy
from decimal import Decimal
from difflib import get_close_matches
from numbers import Integral, Real
from typing import Any

import numpy as np
import pandas as pd

from mixef.errors import ArgumentError
from mixef.memory import available

# The smallest tail 1 - level that doubles still tell from none.
RESOLVED = 4.0 * float(np.finfo(float).eps)
# The share of the memory that one result may take.
SHARE = 0.8
MOST_JOBS = 1024

_LISTS = list | tuple | set | frozenset | range | np.ndarray | pd.Series | pd.Index


def shown(value: Any) -> str:
    """Describe a value in a few words, for messages."""
    if isinstance(value, type):
        return f"the class {value.__name__}"
    shape = getattr(value, "shape", None)
    if isinstance(shape, tuple) and shape:
        kind = "an array" if isinstance(value, np.ndarray) else f"a {type(value).__name__}"
        return f"{kind} of shape {shape}"
    try:
        text = repr(value)
    except Exception:  # a whole number of 5000 digits, or anything of a user's own
        return f"a value of type {type(value).__name__}"
    return text if len(text) <= 100 else f"{text[:80]}..., of type {type(value).__name__}"


def refusal(name: str, value: Any, expected: str) -> ArgumentError:
    """Return the error for an argument that is not what it has to be."""
    return ArgumentError(f"{name} is {shown(value)}; expected {expected}")


def refuse_unread(value: Any, name: str, default: Any, reader: str) -> None:
    """Refuse an argument that nothing reads, unless it was left alone."""
    if value != default:
        raise ArgumentError(f"{name} is {shown(value)}, which is for {reader}; leave it out")


def either(known: Iterable[Any]) -> str:
    """List what there is to choose from: ``'a', 'b' or None``."""
    texts = [repr(value) for value in known]
    return texts[0] if len(texts) == 1 else f"{', '.join(texts[:-1])} or {texts[-1]}"


def flag(value: Any, name: str) -> bool:
    """Return True or False."""
    if not isinstance(value, bool | np.bool_):
        raise refusal(name, value, "True or False")
    return bool(value)


def flag_or_none(value: Any, name: str) -> bool | None:
    """Return True, False or None."""
    if value is not None and not isinstance(value, bool | np.bool_):
        raise refusal(name, value, "True, False or None")
    return None if value is None else bool(value)


def option(
    value: Any, name: str, known: Iterable[Any], spellings: Mapping[str, Any] | None = None
) -> Any:
    """Return the known option that is given, in any case, or by another (lower-case) spelling."""
    known = tuple(known)
    if (value is None or type(value) is str) and value in known:
        return value
    choice = f"{'one of ' if len(known) > 2 else ''}{either(known)}"
    if not isinstance(value, str):
        raise refusal(name, value, choice)
    spelled = {_plain(text): text for text in known if text is not None} | dict(spellings or {})
    if _plain(value) not in spelled:
        close = get_close_matches(_plain(value), spelled, n=1, cutoff=0.7)
        hint = f"; did you mean {spelled[close[0]]!r}?" if close else ""
        raise refusal(name, value, choice + hint)
    return spelled[_plain(value)]


def _plain(text: str) -> str:
    return text.strip().lower().replace("_", "-")


def whole(value: Any, name: str, least: int = 1, most: int | None = None) -> int:
    """Return a whole number between bounds."""
    if not _is_whole(value) or value < least or (most is not None and value > most):
        span = f"{least} or more" if most is None else f"from {least} to {most}"
        raise refusal(name, value, f"a whole number, {span}")
    return int(value)


def _is_whole(value: Any) -> bool:
    return isinstance(value, Integral) and not isinstance(value, bool)


def count(value: Any, name: str = "n", each: int = 1) -> int:
    """Return a number of replicates, each of so many numbers, that memory can hold."""
    n = whole(value, name)
    refuse_beyond_memory(n * each, f"{name} is {shown(value)}", f"{each} numbers for each")
    return n


def refuse_beyond_memory(numbers: int, what: str, why: str) -> None:
    """Refuse work whose result takes more memory than there is, before it starts."""
    needed = 8.0 * float(min(numbers, 10**300))
    if needed > SHARE * available():
        raise ArgumentError(
            f"{what}, which needs about {needed / 1e9:,.3g} GB of memory ({why}), where "
            f"{available() / 1e9:,.3g} GB are available; expected less"
        )


def jobs(value: Any) -> int:
    """Return a number of processes."""
    if not _is_whole(value) or not (value == -1 or 1 <= value <= MOST_JOBS):
        raise refusal("n_jobs", value, f"a number from 1 to {MOST_JOBS}, or -1 for all cores")
    return int(value)


def work(n_jobs: Any, progress: Any) -> tuple[int, bool | None]:
    """Return what long work is asked with: a number of processes, and whether to show a bar."""
    return jobs(n_jobs), flag_or_none(progress, "progress")


def number(value: Any, name: str, least: float = -np.inf, what: str = "a finite number") -> float:
    """Return a finite number that is not below the least."""
    if not _is_number(value) or not least <= float(value) < np.inf or float(value) == -np.inf:
        raise refusal(name, value, what)
    return float(value)


def _is_number(value: Any) -> bool:
    """Tell whether a value is a real number that a double can hold."""
    if isinstance(value, bool | np.bool_) or not isinstance(value, Real | Decimal):
        return False
    try:
        float(value)
    except (OverflowError, ValueError):
        return False
    return True


def proportion(value: Any, name: str, least: float = 0.0) -> float:
    """Return a number between 0 and 1, or between the least and 1."""
    if not _is_number(value) or not max(least, np.nextafter(0.0, 1.0)) <= float(value) < 1.0:
        raise refusal(name, value, f"a number between {least:g} and 1")
    return float(value)


def level(value: Any, name: str = "level") -> float:
    """Return a level of confidence (or, as its complement, of a test) whose tails doubles hold."""
    if not _is_number(value) or not 0.0 < float(value) < 1.0:
        raise refusal(name, value, "a number between 0 and 1, such as 0.95")
    if not RESOLVED <= float(value) <= 1.0 - RESOLVED:
        raise refusal(name, value, "a number that doubles tell from 0 and from 1, such as 0.95")
    return float(value)


def generator(seed: Any) -> np.random.Generator:
    """Return a random generator: the given one, one of a seed, or a fresh one for None."""
    if isinstance(seed, np.random.Generator):
        return seed
    if seed is not None and not (_is_whole(seed) and seed >= 0):
        raise refusal("seed", seed, "a whole number, a numpy.random.Generator, or None")
    return np.random.default_rng(None if seed is None else int(seed))


def text(value: Any, name: str, what: str = "text") -> str:
    """Return text."""
    if not isinstance(value, str):
        raise refusal(name, value, what)
    return str(value)


def names(value: Any, name: str, what: str = "a name or a list of names") -> list[str]:
    """Return one name, or several, as a list of text."""
    if isinstance(value, str):
        return [value]
    found = listed(value) if isinstance(value, _LISTS) else [None]
    if not all(isinstance(part, str) for part in found):
        raise refusal(name, value, what)
    return [str(part) for part in found]


def listed(value: Any) -> list[Any]:
    """Return what a list or array of one dimension holds, or else the value as the one there is."""
    return list(value) if isinstance(value, _LISTS) and ndim(value) == 1 else [value]


def key(value: Any, name: str, known: Iterable[str]) -> str:
    """Return one of some names, spelled as it is."""
    known = list(known)
    if not isinstance(value, str) or value not in known:
        raise refusal(name, value, f"one of {either(known)}")
    return str(value)


def interval(value: Any, name: str) -> tuple[float, float]:
    """Return the ends of an open interval, which may be infinite."""
    if not isinstance(value, tuple | list) or len(value) != 2:
        raise refusal(name, value, "two numbers, the ends of an interval")
    for end in value:
        if not (_is_number(end) or (isinstance(end, float) and np.isinf(end))):
            raise refusal(f"an end of {name}", end, "a number, or infinity")
    if not value[0] < value[1]:
        raise refusal(name, value, "the lower end first")
    return float(value[0]), float(value[1])


def digits(value: Any) -> int:
    """Return a number of digits to print."""
    return whole(value, "digits", 1, 17)


def ndim(value: Any) -> int:
    """Return the number of dimensions; -1 for ragged lists, and what is no array at all."""
    try:
        return int(np.ndim(value))
    except Exception:  # an object of a user's own may do anything
        return -1


def copied(value: Any, name: str) -> Any:
    """Return a copy of an argument, which later changes do not reach."""
    if value is None or type(value) is str:
        return value
    try:
        return deepcopy(value)
    except Exception:
        raise refusal(name, value, "text, numbers, or a frame's column") from None


def function(value: Any, name: str, what: str) -> Callable[..., Any]:
    """Return something that can be called; a class is none here."""
    if not callable(value) or isinstance(value, type):
        raise refusal(name, value, what)
    return value


def mapping(value: Any, name: str, what: str) -> Mapping[Any, Any]:
    """Return a dict, or what a pandas Series says as one."""
    if isinstance(value, pd.Series):
        value = value.to_dict()
    if not isinstance(value, Mapping):
        raise refusal(name, value, what)
    return value


def numbers(value: Any, name: str, what: str = "finite numbers") -> np.ndarray:
    """Return numbers or arrays of them, of any shape, as finite floats; no text, no dates."""
    try:
        array = np.asarray(value)
        if array.dtype.kind == "O" and all(map(_is_number, array.flat)):
            array = array.astype(float)
    except Exception:  # ragged lists, or an object whose conversion fails
        raise refusal(name, value, what) from None
    if array.dtype.kind not in "iuf" or not np.isfinite(array).all():
        raise refusal(name, value, what)
    return array.astype(np.float64)
